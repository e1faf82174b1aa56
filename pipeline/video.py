"""Videos in and out: which frames of a file, camera or stream are read, and when each of them is shown."""

import contextlib
import math
import os
import re
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import cv2
import numpy as np

import utils
from run.command import UserError

FPS = 25.0  # where a camera doesn't say
MAX_FPS = 120.0  # of a result, unless the frames come faster on average
COMPLETE = 0.9  # a video is cut off if less of it is there; what its head promises may be an estimate
MAX_PAUSE = 3600.0  # seconds between two frames; a larger step is a jump of the clock
TICK = 0.0005  # seconds; files tell times in milliseconds


@dataclass
class Video:
    """An open video, camera or stream, and which of its frames are wanted."""

    capture: cv2.VideoCapture
    name: str
    size: tuple  # (height, width)
    fps: float
    even: bool = True  # each frame is shown as long as the others, as far as known
    live: bool = False  # a camera: a frame's time is that of its reading
    path: Path | None = None  # of a file
    frames: int | None = None  # that are wanted, as far as known
    promised_frames: int = 0  # by the file's head
    promised_seconds: float = 0.0
    begin: float = 0.0  # seconds of the first frame that is wanted
    end: float = math.inf  # and of the first one after them that isn't
    every: int = 1  # of so many frames between, the first is wanted

    @property
    def result_fps(self):
        """Frames per second of what is made of the frames wanted; it takes as long as they do."""
        return _writable(self.fps / self.every)


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


def open_video(source, every=1, begin=None, end=None):
    """Open a video file, a camera by its number or a stream by its URL.

    Args:
        source: `--video`.
        every: one frame of so many is wanted.
        begin, end: seconds of a file between which frames are wanted; default all.

    Raises:
        UserError: there is none, it has no image, or none between these seconds.
    """
    path, shown = local_path(source), re.sub(r"//[^/]*@", "//", source)  # a URL may hold a password
    name, kind, opened = path.name, "video file", str(path.absolute())  # FFmpeg takes a word and a colon for a protocol
    if re.fullmatch("[0-9]{1,4}", source) and not path.exists():
        name, kind, opened = f"camera{source}", "camera", int(source)
    elif "://" in source and not source.lower().startswith("file://") and not path.exists():
        url = urlsplit(source)
        name, kind, opened = Path(url.path).name or url.hostname or "stream", "stream", source
    elif not path.is_file():
        state = "found no file" if path.exists() else "no such file"
        raise UserError(f"--video {source}: {state}, expected a video, the number of a camera or a URL; name another")
    for flag, seconds in (("--from", begin), ("--to", end)):
        if seconds is not None and kind != "video file":
            raise UserError(f"{flag} {seconds:g}: found a {kind}, {shown}, expected a video file; leave {flag} out")
    require_utf8(path, "--video")
    capture = cv2.VideoCapture(opened)
    size = tuple(int(capture.get(key)) for key in (cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_WIDTH))
    if not capture.isOpened() or min(size) <= 0:
        raise UserError(f"--video {shown}: could not be opened, expected a {kind} that OpenCV can read; name another")
    fps = capture.get(cv2.CAP_PROP_FPS)
    video = Video(capture, name, size, fps if 0 < fps <= 1000 else FPS, live=kind == "camera", every=every)
    if kind == "video file":
        video.path, video.begin, video.end = path, begin or 0.0, math.inf if end is None else end
        _measure_file(video)
    return video


def _measure_file(video):
    """Note how many frames a file holds, how many of them are wanted, and how fast they come."""
    count = int(video.capture.get(cv2.CAP_PROP_FRAME_COUNT))
    video.promised_frames = count if 0 < count < 1e9 else 0
    video.promised_seconds = video.promised_frames / video.fps
    times = packet_times(video.path)
    steps = np.diff(times, prepend=times[:1])
    times = np.cumsum(np.where(steps < MAX_PAUSE, steps, 1 / video.fps))  # as `read_frames` has them
    video.fps, video.even = frame_rate(times, video.fps)
    wanted = np.count_nonzero((times >= video.begin - TICK) & (times < video.end - TICK))
    if len(times) > 1 and not wanted:
        between = f"--from {video.begin:g}" + (f" --to {video.end:g}" if video.end < math.inf else "")
        raise UserError(f"{between}: found {times[-1]:.1f} s in {video.path} and no frame there; name other seconds")
    if len(times) > 1 or (video.begin, video.end) == (0, math.inf):
        video.frames = math.ceil((wanted if len(times) > 1 else video.promised_frames) / video.every) or None


def packet_times(path):
    """When the frames of a video file are shown: (N,) float64 seconds, rising. Nothing is decoded for it."""
    # the frame rate and the number of frames in a file's head may be those of an index, an estimate or a unit of time
    capture, times = cv2.VideoCapture(str(path.absolute()), cv2.CAP_FFMPEG, [cv2.CAP_PROP_FORMAT, -1]), set()
    while capture.grab():
        times.add(capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)
    return np.array(sorted(times))


def frame_rate(times, nominal):
    """Frames per second of a video that shows frames at (N,) seconds when they are due, and if they come evenly.

    `nominal`, what the file says, if the times agree with it or there are none.
    """
    nominal = _writable(nominal)
    if len(times) < 2:
        return nominal, True
    mean = (len(times) - 1) / (times[-1] - times[0])
    for rate in (nominal, _writable(mean)):
        if (np.abs((times - times[0]) * rate - np.arange(len(times))) < 0.5).all():
            return rate, True
    rate = max(mean, min(1 / np.quantile(np.diff(times), 0.1), MAX_FPS))  # nine of ten frames are shown
    return nominal if abs(rate / nominal - 1) < 0.1 else _writable(rate), False


def _writable(rate):
    """The nearest frame rate that MPEG-4 can tell, whose numerator has 16 bits; at least one frame in ten seconds."""
    return max(round(rate, 3 if rate < 65 else 2 if rate < 655 else 1), 0.1)


def read_frames(video):
    """Yield (number in the source, seconds since its first frame, (h, w, 3) uint8 RGB) of the frames wanted."""
    number, seconds, before = _seek(video)
    first = None
    while video.capture.grab():
        now = time.monotonic() if video.live else video.capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        if before is not None:  # a clock may jump, as where recordings are joined, or stand still
            seconds += now - before if 0 < now - before < MAX_PAUSE else 1 / video.fps
        before = now
        if seconds >= video.end - TICK:
            return
        if seconds >= video.begin - TICK:
            first = number if first is None else first
            if (number - first) % video.every == 0:
                good, image = video.capture.retrieve()
                if not good:
                    return
                if image.shape[:2] != video.size:  # streams may change
                    image = cv2.resize(image, video.size[::-1], interpolation=cv2.INTER_AREA)
                yield number, seconds, cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        number += 1


def _seek(video):
    """Skip what comes before the frames wanted, if the file lets find them: (number, seconds, time) as they begin.

    The number is that of the next frame, seconds and time are those of the one before it, 0 and None at the start.
    """
    before = math.ceil((video.begin - TICK) * video.fps) - 1
    if before < 1 or not video.even:
        return 0, 0.0, None
    video.capture.set(cv2.CAP_PROP_POS_FRAMES, before)
    seconds = video.capture.get(cv2.CAP_PROP_POS_MSEC) / 1000 if video.capture.grab() else math.inf
    if abs(seconds * video.fps - before) < 0.5:
        return before + 1, seconds, seconds
    video.capture.open(str(video.path.absolute()))
    return 0, 0.0, None


def missing(video, done, number, seconds):
    """What is missing of a video of which so many frames were done, the last one with this number and time; or None."""
    promised_seconds = min(video.promised_seconds, video.end)
    shown = seconds + video.every / video.fps  # until the next frame wanted
    if number + video.every < COMPLETE * video.promised_frames and shown < COMPLETE * promised_seconds:
        return f"{video.name}: cut off or trimmed, {number + 1} frames, {shown:.1f} of {promised_seconds:.1f} s"
    if video.frames and done < COMPLETE * video.frames:
        return f"{video.name}: only {done} of {video.frames} frames could be decoded"
    return None


def choose_codec(size, fps):
    """Four letters of the codec to write: H.264, which browsers play, if OpenCV can encode it, else MPEG-4."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "a.mp4"))
        writer = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*"avc1"), fps, size[::-1])
        for _ in range(3):
            writer.write(np.zeros((*size, 3), np.uint8))
        writer.release()
        good, image = cv2.VideoCapture(path).read()  # an encoder of hardware may open and write nothing
        return "avc1" if good and image.shape[:2] == size else "mp4v"


@contextlib.contextmanager
def writing(path, size, fps, codec="mp4v"):
    """Yield a function that adds (h, w, 3) uint8 RGB, due at so many seconds, to an mp4, which begins with the first.

    The mp4 appears if the block ends well. A frame is repeated until the next one is due; of two that are due at the
    same of its frames it has the first. `size` is (height, width), `codec` one of `choose_codec`. Raises OSError.
    """
    failed = OSError(f"{path}: the video could not be written; make room or name another folder with --outdir")
    written, last, begin = 0, None, None
    with utils.replacing(Path(path).absolute()) as temporary:  # see `open_video`
        writer = cv2.VideoWriter(temporary, cv2.VideoWriter_fourcc(*codec), fps, size[::-1])
        if not writer.isOpened():
            raise failed

        def write(image, seconds):
            nonlocal written, last, begin
            image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
            begin = seconds if begin is None else begin
            due = round((seconds - begin) * fps)
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
