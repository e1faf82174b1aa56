"""Labels of a rendered scene's lines: what of them is in the image and not hidden for good."""

import numpy as np

from .camera import moved, origin
from .geometry import ROWS, WIDTH

H_SAMPLES = list(range(160, 720, 10))


def label_of(road, first_row):
    """Label of all of a road's lines.

    Args:
        road: road.geometry.Road.
        first_row: int, row above which no point is labeled.

    Returns:
        dict with `lanes` and `h_samples` of a TuSimple line.
    """
    return as_label(road.lines[H_SAMPLES].T, np.array(H_SAMPLES) >= first_row)


def as_label(x, seen):
    """TuSimple dict of lines at H_SAMPLES, left to right.

    Args:
        x: (N, len(H_SAMPLES)) float, pixels.
        seen: bool, broadcasts with x; a line of less than two points seen inside the image is left out.
    """
    seen = seen & (x > -0.5) & (x < WIDTH - 0.5)
    points = np.where(seen, np.rint(np.where(seen, x, 0)), -2).astype(int)
    return {"lanes": points[seen.sum(1) > 1].tolist(), "h_samples": H_SAMPLES}


def lines_in_frame(road, first_row, frame):
    """Lines of a road in a frame of its image.

    Args:
        road: road.geometry.Road.
        first_row: int, row of the image above which no point is labeled.
        frame: camera.Frame.

    Returns:
        (N, len(H_SAMPLES)) float, x in pixels of the frame from left to right, NaN above a line's far end.
    """
    rows = np.arange(first_row, ROWS)
    lines = []
    for x in road.lines.T:
        across, down = moved(frame, x[rows], rows)
        lines.append(np.interp(H_SAMPLES, np.maximum.accumulate(down), across, left=np.nan, right=np.nan))
    return np.array(lines[::-1] if frame.mirrored else lines)


def places(x, frame):
    """Pixels of the image, (N, len(H_SAMPLES), 2) int, that points `x` of `lines_in_frame` show; NaN gives (-1, -1)."""
    points = np.stack(origin(frame, np.nan_to_num(x), np.float64(H_SAMPLES)), axis=2)
    return np.where(np.isnan(x)[..., None], -1, np.rint(points)).astype(int)


def seen_from_here(x, hidden):
    """Which points of lines are seen: each line's, from the first inside the image on until it leaves it for good.

    Args:
        x: (N, len(H_SAMPLES)) float, pixels, NaN where the line has no point.
        hidden: bool of that form, True where something that stays there hides the point. A line goes on behind it, as
            behind a post, but does not end behind it.

    Returns:
        bool of that form.
    """
    inside = (x > -0.5) & (x < WIDTH - 0.5)  # False at NaN
    seen = np.zeros_like(inside)
    for line, (within, free) in enumerate(zip(inside, inside & ~hidden, strict=True)):
        if free.any():
            last = len(within) - np.argmax(within[::-1])  # nearest row inside
            gaps = np.flatnonzero(~within[:last])
            first = gaps[-1] + 1 if len(gaps) else 0
            first += np.argmax(free[first:last])
            seen[line, first:last] = free[first:last].any()
    return seen


def hide_below(label, border):
    """A TuSimple dict without the points at or below a border.

    Args:
        label: TuSimple dict.
        border: (WIDTH,) float, row at which something before the windshield's view begins, per column.
    """
    lanes = [
        [
            x if x < 0 or y < border[min(int(x), WIDTH - 1)] else -2
            for x, y in zip(lane, label["h_samples"], strict=True)
        ]
        for lane in label["lanes"]
    ]
    return {"lanes": lanes, "h_samples": label["h_samples"]}
