"""CULane's lanes: the files (`*.lines.txt`, the lanes of one image, and lists of images) and the benchmark's rules.

TP, FP and FN are those of tools/lane_evaluation in github.com/XingangPan/SCNN: lanes are drawn and matched by their
IoU; one of a point or none is never found. A missing file, to the tool one without lanes, is an error here.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from scipy.interpolate import CubicSpline
from scipy.optimize import linear_sum_assignment
from tqdm import tqdm

from data.files import read_text
from run.command import UserError

SUFFIX = ".lines.txt"
SIZE = (590, 1640)  # (h, w) of the benchmark's images
WIDTH = 30  # pixels
STEPS = 50  # points per piece of the spline
IOU_THRESHOLD = 0.5  # a lane is found above it
METRICS = ("F1", "Precision", "Recall", "TP", "FP", "FN")


def lines_path(image):
    """Path of the lanes of an image."""
    return Path(image).with_suffix(SUFFIX)


def read_lines(path):
    """Read lanes, a line "x y x y ..." in pixels each: list of (N, 2) float64; raises UserError."""
    lanes = []
    for number, line in enumerate(read_text(path, "CULane's lanes").splitlines(), start=1):
        try:
            lanes.append(np.array(line.split(), float).reshape(-1, 2))
            if not (np.abs(lanes[-1]) < 1e6).all():  # NaN is not
                raise ValueError
        except ValueError:
            raise UserError(f"{path}:{number}: found something else, expected x y x y ... in pixels; fix it") from None
    return lanes


def read_list(path):
    """Image names, relative to CULane's folder, the first words of the lines of a list; raises UserError."""
    lines = read_text(path, "CULane's image names").splitlines()
    names = [line.split()[0].lstrip("/") for line in lines if line.strip()]
    if not names:
        raise UserError(f"{path}: found no line, expected image names; name another")
    known = set()
    for name in names:
        if not Path(name).name or ".." in Path(name).parts or lines_path(name) in known:
            raise UserError(f"{path}: found {name!r}, expected images within the folder, each once; fix the list")
        known.add(lines_path(name))
    return names


def read_lanes(folder, names):
    """`read_lines` of the images of a list, in a folder."""
    return [read_lines(lines_path(Path(folder, name))) for name in names]


def write_lanes(folder, names, lanes):
    """Write the lanes of the images of a list to a folder, made with its subfolders."""
    for name, found in zip(names, lanes, strict=True):
        path = lines_path(Path(folder, name))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(" ".join(f"{x:g} {y:g}" for x, y in lane) + " \n" for lane in found))


def interpolate(points):
    """Natural cubic spline, by the polygon's length, through (N, 2) x and y, N >= 1: (M, 2) float64.

    Repeated points, where CULane's tool divides by zero, are passed over.
    """
    points = _without_repeats(np.asarray(points, float))
    if len(points) < 3:
        return points
    lengths = np.append(0, np.cumsum(np.hypot(*np.diff(points, axis=0).T)))
    fractions = np.arange((len(points) - 1) * STEPS + 1) / STEPS  # 1.5 is in the middle of the second piece
    places = np.interp(fractions, np.arange(len(points)), lengths)
    return CubicSpline(lengths, points, bc_type="natural")(places)


def draw_lane(points):
    """Draw a lane, (N, 2) x and y, as uint8 of `SIZE`, 1 where it is; one of a point is nowhere."""
    mask = np.zeros(SIZE, np.uint8)
    if len(points) > 1:
        # equal pixels once, for speed; the last one again, for a lane in one pixel
        curve = _without_repeats(np.rint(interpolate(points)).astype(np.int32))
        cv2.polylines(mask, [np.concatenate([curve, curve[-1:]])], isClosed=False, color=1, thickness=WIDTH)
    return mask


def _without_repeats(points):
    return points[np.append(True, (np.diff(points, axis=0) != 0).any(axis=1))]


def lane_iou(predicted, labeled):
    """Intersection over union of all pairs of P and G drawn lanes: (P, G)."""
    one, other = ([draw_lane(points).astype(bool) for points in lanes] for lanes in (predicted, labeled))
    iou = [np.count_nonzero(a & b) / max(np.count_nonzero(a | b), 1) for a in one for b in other]
    return np.reshape(iou, (len(one), len(other)))


def count_matches(iou):
    """TP, FP and FN, (3,) int64, from the IoU of predicted and labeled lanes, (P, G)."""
    pairs = linear_sum_assignment(iou, maximize=True)
    matched = np.count_nonzero(iou[pairs] > IOU_THRESHOLD)
    return np.array([matched, iou.shape[0] - matched, iou.shape[1] - matched])


def count_lanes(predicted, labeled):
    """TP, FP and FN of N images, lists of (points, 2) x and y: (N, 3) int64; shows its progress."""
    with ThreadPoolExecutor() as pool:
        tasks = pool.map(lambda lanes, others: count_matches(lane_iou(lanes, others)), predicted, labeled)
        return np.array(list(tqdm(tasks, total=len(labeled), unit="image", dynamic_ncols=True)))


def culane_score(counts):
    """{metric: number} of (N, 3) TP, FP and FN, added up over the images; without any lane fractions are 1."""
    tp, fp, fn = np.sum(counts, axis=0).tolist()
    fractions = 1.0, 1.0, 1.0
    if tp + fp + fn:
        fractions = 2 * tp / (2 * tp + fp + fn), tp / max(tp + fp, 1), tp / max(tp + fn, 1)
    return dict(zip(METRICS, (*fractions, tp, fp, fn), strict=True))
