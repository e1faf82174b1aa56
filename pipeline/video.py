"""Videos in and out, and instances that keep their color from frame to frame.

Instances and lanes are matched to those of the frames before by their lateral distance, all at once (Hungarian method:
Kuhn 1955). One that isn't seen for some frames is remembered.
"""

import contextlib
import math
import os
import re
import tempfile
import time
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import cv2
import numpy as np
from scipy.optimize import linear_sum_assignment

import utils
from clustering import instance_colors
from run.command import UserError

FPS = 25.0  # where a camera doesn't say
MAX_FPS = 120.0  # of a result, unless the frames come faster on average
COMPLETE = 0.9  # a video is cut off if less of it is there; what its head promises may be an estimate
MAX_PAUSE = 3600.0  # seconds between two frames; a larger step is a jump of the clock
REACH = 0.06  # of the image's width: a lane moves less from one frame to the next
MEMORY = 25  # frames


class Video(NamedTuple):
    """An open video, camera or stream."""

    capture: cv2.VideoCapture
    name: str
    stem: str  # of the file to write
    frames: int | None  # as far as known
    fps: float  # of the result
    size: tuple  # (height, width)
    live: bool = False  # a camera: a frame's time is that of its reading
    even: bool = True  # each frame is shown as long as the others, as far as known
    promised: tuple = (0, 0.0)  # what the file's head says: frames, seconds


def local_path(source):
    """Path that `--video` means, that of file:///drive.mp4 too; what is no file has one at which nothing is."""
    is_url = source.lower().startswith("file://") and not Path(source).exists()
    return Path(unquote(re.sub("^file://[^/]*", "", source, flags=re.IGNORECASE))) if is_url else Path(source)


def require_utf8(path, flag):
    """Raise UserError for a path whose name is no UTF-8, as of old zips: OpenCV's videos end the process."""
    try:
        os.fsencode(Path(path).absolute()).decode("utf-8")
    except UnicodeDecodeError:
        raise UserError(f"{flag} {path}: found a name that is no UTF-8, expected it; rename it") from None


def open_video(source):
    """Open a video file, a camera by its number or a stream by its URL.

    Raises:
        UserError: there is none, or it has no image.
    """
    path, shown = local_path(source), re.sub(r"//[^/]*@", "//", source)  # a URL may hold a password
    stream = "://" in source and not source.lower().startswith("file://") and not path.exists()
    camera = re.fullmatch("[0-9]{1,4}", source) and not path.exists()
    if not camera and not stream and not path.is_file():
        state = "found no file" if path.exists() else "no such file"
        raise UserError(f"--video {source}: {state}, expected a video, the number of a camera or a URL; name another")
    require_utf8(path, "--video")
    # absolute, because FFmpeg takes what stands before a colon for a protocol
    capture = cv2.VideoCapture(int(source) if camera else source if stream else str(path.absolute()))
    size = tuple(int(capture.get(key)) for key in (cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_WIDTH))
    if not capture.isOpened() or min(size) <= 0:
        expected = "a video that FFmpeg can decode, such as mp4"
        expected = "a camera that is connected and free" if camera else "a stream" if stream else expected
        raise UserError(f"--video {shown}: could not be opened, expected {expected}; name another")
    fps = capture.get(cv2.CAP_PROP_FPS)
    fps = fps if 0 < fps <= 1000 else FPS
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    count = count if 0 < count < 1e9 else 0
    name = f"camera{source}" if camera else path.name
    if stream:
        name = Path(urlsplit(source).path).name or urlsplit(source).hostname or "stream"
    times = np.empty(0) if camera or stream else packet_times(path)
    rate, even = frame_rate(times, fps)
    frames = len(times) if len(times) > 1 else None if stream else count or None
    return Video(capture, name, Path(name).stem, frames, rate, size, camera, even, (count, count / fps))


def packet_times(path):
    """When the frames of a video file are shown: (N,) float64 seconds, rising. Nothing is decoded for it.

    The frame rate and the number of frames in a file's head may be those of an index, an estimate or a unit of time.
    """
    capture, times = cv2.VideoCapture(str(path.absolute()), cv2.CAP_FFMPEG, [cv2.CAP_PROP_FORMAT, -1]), set()
    while capture.grab():
        times.add(capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)
    return np.array(sorted(times))


def frame_rate(times, nominal):
    """Frames per second of a video of constant rate that shows frames when they are due.

    Args:
        times: (N,) seconds, rising.
        nominal: what the file says.

    Returns:
        (rate, whether the frames come evenly): `nominal` if the times agree with it or there are none.
    """
    nominal = _writable(nominal)
    if len(times) < 2:
        return nominal, True
    steps, mean = np.diff(times), (len(times) - 1) / (times[-1] - times[0])
    for rate in (nominal, _writable(mean)):
        if (np.abs((times - times[0]) * rate - np.arange(len(times))) < 0.5).all():
            return rate, True
    rate = max(mean, min(1 / np.quantile(steps, 0.1), MAX_FPS))  # nine of ten frames are shown
    return nominal if abs(rate / nominal - 1) < 0.1 else _writable(rate), False


def _writable(rate):
    """The nearest frame rate that MPEG-4 can tell, whose numerator has 16 bits; at least one frame in ten seconds."""
    return max(round(rate, 3 if rate < 65 else 2 if rate < 655 else 1), 0.1)


def read_frame(video):
    """The next frame as (h, w, 3) uint8 RGB, None at the end."""
    good, image = video.capture.read()
    if not good:
        return None
    if image.shape[:2] != video.size:  # streams may change
        image = cv2.resize(image, video.size[::-1], interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def read_frames(video):
    """Yield (image of `read_frame`, seconds since the first one), to the video's end."""
    seconds, before = 0.0, None
    while (image := read_frame(video)) is not None:
        now = time.monotonic() if video.live else video.capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        if before is not None:  # a clock may jump, as where recordings are joined, or stand still
            seconds += now - before if 0 < now - before < MAX_PAUSE else 1 / video.fps
        before = now
        yield image, seconds


def is_cut_off(video, done, seconds):
    """Whether a file's head promises more frames and more time than `done` frames that end at `seconds`."""
    frames, promised = video.promised
    return done < COMPLETE * frames and seconds + 1 / video.fps < COMPLETE * promised


def choose_codec(video):
    """Four letters of the codec to write: H.264, which browsers play, if OpenCV can encode it, else MPEG-4."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "a.mp4"))
        writer = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*"avc1"), video.fps, video.size[::-1])
        for _ in range(3):
            writer.write(np.zeros((*video.size, 3), np.uint8))
        writer.release()
        trial = cv2.VideoCapture(path)  # an encoder of hardware may open and write nothing
        shape = (int(trial.get(cv2.CAP_PROP_FRAME_HEIGHT)), int(trial.get(cv2.CAP_PROP_FRAME_WIDTH)))
        return "avc1" if trial.read()[0] and shape == video.size else "mp4v"


@contextlib.contextmanager
def writing(path, video, codec="mp4v"):
    """Yield a function that adds (h, w, 3) uint8 RGB, due at so many seconds, to an mp4.

    The mp4 appears if the block ends well. A frame is repeated until the next one is due; of two that are due at the
    same of its frames it has the first.

    Args:
        path: file to write.
        video: `Video` whose size and frame rate it has.
        codec: of `choose_codec`.

    Raises:
        OSError: it could not be written.
    """
    failed = OSError(f"{path}: the video could not be written; make room or name another folder with --outdir")
    written, last = 0, None
    with utils.replacing(Path(path).absolute()) as temporary:  # see `open_video`
        writer = cv2.VideoWriter(temporary, cv2.VideoWriter_fourcc(*codec), video.fps, video.size[::-1])
        if not writer.isOpened():
            raise failed

        def write(image, seconds):
            nonlocal written, last
            image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
            due = round(seconds * video.fps)
            for frame in [last] * (due - written) + [image] * (due >= written):
                writer.write(frame)
                written += 1
            last = image

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
