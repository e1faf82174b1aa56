"""Videos in and out, and instances that keep their color from frame to frame.

Instances and lanes are matched to those of the frames before by their lateral distance, all at once (Hungarian method:
Kuhn 1955). One that isn't seen for some frames is remembered.
"""

import contextlib
import math
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from scipy.optimize import linear_sum_assignment

import utils
from clustering import instance_colors
from datagenerator import DataError

FPS = 25.0  # where a camera doesn't say
COMPLETE = 0.9  # a video is cut off if fewer of its frames can be decoded; the number it tells may be an estimate
REACH = 0.06  # of the image's width: a lane moves less from one frame to the next
MEMORY = 25  # frames


class Video(NamedTuple):
    """An open video or camera."""

    capture: cv2.VideoCapture
    name: str
    stem: str  # of the file to write
    frames: int | None  # as far as known
    fps: float
    size: tuple  # (height, width)


def open_video(source):
    """Open a video file, or a camera by its number; raises DataError if there is none or it has no image."""
    camera = source.isdigit() and not Path(source).exists()
    if not camera and not Path(source).is_file():
        state = "found no file" if Path(source).exists() else "no such file"
        raise DataError(f"--video {source}: {state}, expected a video or the number of a camera; name another")
    capture = cv2.VideoCapture(int(source) if camera else str(source))
    size = tuple(int(capture.get(key)) for key in (cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_WIDTH))
    if not capture.isOpened() or min(size) <= 0:
        expected = "a camera that is connected and free" if camera else "a video that FFmpeg can decode, such as mp4"
        raise DataError(f"--video {source}: could not be opened, expected {expected}; name another")
    fps = capture.get(cv2.CAP_PROP_FPS)
    frames = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    name = f"camera{source}" if camera else Path(source).name
    return Video(
        capture,
        name,
        Path(name).stem,
        frames if 0 < frames < 1e9 else None,
        fps if 1 <= fps <= 1000 else FPS,
        size,
    )


def read_frame(video):
    """The next frame as (h, w, 3) uint8 RGB, None at the end."""
    good, image = video.capture.read()
    if not good:
        return None
    if image.shape[:2] != video.size:  # streams may change
        image = cv2.resize(image, video.size[::-1], interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


@contextlib.contextmanager
def writing(path, video):
    """Yield a function that appends (h, w, 3) uint8 RGB to an mp4, which appears if the block ends well.

    Args:
        path: file to write.
        video: `Video` whose size and frame rate it has.

    Raises:
        OSError: it could not be written.
    """
    failed = OSError(f"{path}: the video could not be written; make room or name another folder with --outdir")
    written = 0
    with utils.replacing(path) as temporary:
        writer = cv2.VideoWriter(temporary, cv2.VideoWriter_fourcc(*"mp4v"), video.fps, video.size[::-1])
        if not writer.isOpened():
            raise failed

        def write(image):
            nonlocal written
            writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
            written += 1

        try:
            yield write
        finally:
            writer.release()
        # the writer says nothing when the disk is full
        if cv2.VideoCapture(temporary).get(cv2.CAP_PROP_FRAME_COUNT) < written:
            raise failed


class Tracker:
    """Ids for things that have one lateral position per row and move little from frame to frame."""

    def __init__(self):
        self.known = {}  # id: (profile, frames since it was seen)

    def update(self, profiles):
        """Ids of what one frame shows.

        Args:
            profiles: (N, R) lateral positions in R rows, in widths of the image, NaN where there is none.

        Returns:
            (N,) int: the id that each had before, else the smallest free one from 1 on.
        """
        ids = np.zeros(len(profiles), int)
        known = list(self.known)
        if known and len(profiles):
            cost = np.array([[_distance(new, self.known[old][0]) for old in known] for new in profiles])
            # what is out of reach costs as much as no partner
            for new, old in zip(*linear_sum_assignment(np.minimum(cost, REACH)), strict=True):
                if cost[new, old] < REACH:
                    ids[new] = known[old]
        self.known = {
            old: (profile, age + 1) for old, (profile, age) in self.known.items() if old in ids or age < MEMORY
        }
        for new in range(len(profiles)):
            if not ids[new]:
                ids[new] = next(free for free in range(1, len(self.known) + 2) if free not in self.known)
            self.known[ids[new]] = (profiles[new], 0)
        return ids


def _distance(profile, other):
    """Mean lateral distance over the rows of both; inf if one of them has no row."""
    rows = np.isfinite(profile) | np.isfinite(other)
    if np.isnan(profile).all() or np.isnan(other).all():
        return math.inf
    return np.abs(_extended(profile) - _extended(other))[rows].mean()


def _extended(profile):
    """A profile without NaN: interpolated, and beyond its ends on the straight line through all of it."""
    rows, seen = np.arange(len(profile)), np.isfinite(profile)
    if seen.sum() < 3:
        return np.full(len(profile), np.nanmean(profile))
    line = np.polyval(np.polyfit(rows[seen], profile[seen], 1), rows)
    inside = (rows >= rows[seen][0]) & (rows <= rows[seen][-1])
    return np.where(inside, np.interp(rows, rows[seen], profile[seen]), line)


def instance_profiles(label_map):
    """Mean position of instances 1..N in the rows of a (H, W) label map: (N, H), in widths, NaN where there is none."""
    height, width = label_map.shape
    count = int(label_map.max(initial=0))
    rows, columns = np.nonzero(label_map)
    cells = (label_map[rows, columns] - 1) * height + rows
    pixels = np.bincount(cells, minlength=count * height)
    sums = np.bincount(cells, columns + 0.5, minlength=count * height)
    with np.errstate(invalid="ignore"):
        return (sums / pixels / width).reshape(count, height)


def tracking():
    """A function that gives a frame's instances the ids they had in the frames before it, and returns lane colors.

    To be called with one frame after the other. Instances and curves are tracked apart: a curve may join instances.
    """
    instances, curves = Tracker(), Tracker()

    def track(frame):
        ids = instances.update(instance_profiles(frame.label_map))
        frame.label_map = np.concatenate([[0], ids])[frame.label_map]
        if frame.line is None:
            return None
        x = np.array(frame.line["lanes"], float).reshape(-1, len(frame.line["h_samples"]))
        ids = curves.update(np.where(x < 0, np.nan, x / frame.image.shape[1]))
        return instance_colors(ids.max(initial=0))[ids - 1]

    return track
