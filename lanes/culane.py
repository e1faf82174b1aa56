"""Lanes by the rules of the CULane benchmark: a spline through the points, drawn 30 px wide, compared by overlap."""

import cv2
import numpy as np
from scipy.interpolate import CubicSpline

SIZE = (590, 1640)  # (h, w) of the benchmark's images
WIDTH = 30  # pixels
STEPS = 50  # points per piece of the spline


def interpolate(points, steps=STEPS):
    """Natural cubic spline through points, as CULane's tool draws it.

    Args:
        points: (N, 2) x and y, N >= 1; repeated ones, which the tool divides by zero at, are passed over.
        steps: points per piece.

    Returns:
        (M, 2) float64: of two points a straight line of these two, of more `steps` per piece and the last point. The
        spline's parameter is the length of the polygon through the points.
    """
    points = _without_repeats(np.asarray(points, float))
    if len(points) < 3:
        return points
    lengths = np.append(0, np.cumsum(np.hypot(*np.diff(points, axis=0).T)))
    fractions = np.arange((len(points) - 1) * steps + 1) / steps  # 1.5 is in the middle of the second piece
    places = np.interp(fractions, np.arange(len(points)), lengths)
    return CubicSpline(lengths, points, bc_type="natural")(places)


def draw_lane(points, size=SIZE, width=WIDTH):
    """Draw a lane as (h, w) uint8, 1 where it is; one of fewer than two points is nowhere."""
    mask = np.zeros(size, np.uint8)
    if len(points) > 1:
        # equal pixels in a row would be drawn again and again; the last one again, for a lane in one pixel
        curve = _without_repeats(np.rint(interpolate(points)).astype(np.int32))
        cv2.polylines(mask, [np.concatenate([curve, curve[-1:]])], isClosed=False, color=1, thickness=width)
    return mask


def _without_repeats(points):
    return points[np.append(True, (np.diff(points, axis=0) != 0).any(axis=1))]


def lane_iou(predicted, labeled, size=SIZE, width=WIDTH):
    """Intersection over union of every pair of drawn lanes.

    Args:
        predicted, labeled: lists of P and G lanes, each (N, 2) x and y.
        size: (h, w) to draw on.
        width: pixels.

    Returns:
        (P, G) float64; 0 where neither has a pixel.
    """
    one, other = ([draw_lane(points, size, width) for points in lanes] for lanes in (predicted, labeled))
    areas, other_areas = ([cv2.countNonZero(mask) for mask in masks] for masks in (one, other))
    iou = np.zeros((len(one), len(other)))
    for i, mask in enumerate(one):
        for j, other_mask in enumerate(other):
            common = cv2.countNonZero(cv2.bitwise_and(mask, other_mask))
            iou[i, j] = common / max(areas[i] + other_areas[j] - common, 1)
    return iou
