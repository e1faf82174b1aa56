"""Videos in and out: which frames of a file, camera or stream are read, and when each is shown."""

import contextlib
import math
import os
import re
import struct
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import cv2
import numpy as np

import utils
from run.command import UserError

FPS = 25.0  # where nothing says
MAX_FPS = 250.0  # more is a unit of time
COMPLETE = 0.9  # a video is cut off if less is there of what its head promises, maybe as an estimate
MAX_PAUSE = 3600.0  # seconds; a larger step between two frames is a jump of the clock
TICK = 0.0005  # seconds; files tell milliseconds


@dataclass
class Video:
    """An open video, camera or stream, its frames wanted, and how far it is read."""

    capture: cv2.VideoCapture
    name: str
    size: tuple  # (height, width)
    fps: float
    live: bool = False  # a camera: a frame's time is that of its reading
    promised: int = 0  # frames by the file's head, 0 if unknown
    begin: float = 0.0  # seconds of the first frame wanted
    end: float = math.inf  # and of the first one after them
    every: int = 1  # of so many frames between, the first is wanted
    number: int = 0  # frames read
    seconds: float = 0.0  # of the last of them, since the first

    @property
    def result_fps(self):
        """Frames per second of the frames wanted, as MPEG-4 can tell it, in a numerator of 16 bits."""
        fps = self.fps / self.every
        return max(round(fps, 3 if fps < 65 else 2), 0.1)

    @property
    def promised_seconds(self):
        """Seconds until the last frame wanted, as far as `promised`."""
        return min(self.promised / self.fps, self.end)

    @property
    def total(self):
        """Number of the frames wanted; None if unknown."""
        return max(0, round((self.promised_seconds - self.begin) * self.result_fps)) or None


def opencv_path(path):
    """Absolute path, as FFmpeg takes a word and a colon for a protocol; UserError for no UTF-8, which ends OpenCV."""
    path = str(Path(path).absolute())
    try:
        os.fsencode(path).decode("utf-8")
    except UnicodeDecodeError:
        raise UserError(f"{path}: found a name that is no UTF-8, expected it; rename it") from None
    return path


def open_video(source, every=1, begin=0.0, end=math.inf):
    """The `Video` of a file, a camera's number or a stream's URL; UserError if it can't be opened."""
    path, shown = Path(source), re.sub(r"//[^/]*@", "//", source)  # a URL may hold a password
    name, live = path.name, False
    if path.is_file():
        opened = opencv_path(path)
    elif re.fullmatch("[0-9]{1,4}", source):
        name, opened, live = f"camera{source}", int(source), True
    elif re.match("(?!file:)[a-z0-9]+://", source, re.IGNORECASE):
        url = urlsplit(source)
        name, opened = Path(url.path).name or url.hostname or "stream", source
    else:
        raise UserError(f"--video {source}: found no such file, expected a video, a camera's number or a stream's URL")
    capture = cv2.VideoCapture(opened)
    size = tuple(int(capture.get(key)) for key in (cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_WIDTH))
    if not capture.isOpened() or min(size) <= 0:
        raise UserError(f"--video {shown}: could not be opened, expected what OpenCV can read; name another")
    fps, promised = capture.get(cv2.CAP_PROP_FPS), int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    if not 0 < fps <= MAX_FPS:
        fps, promised = FPS, 0
    promised = min(promised, edited_seconds(path) * fps) if path.is_file() and 0 < promised < 1e9 else 0
    return Video(capture, name, size, fps, live, round(promised), begin, end, every)


def edited_seconds(path):
    """Seconds that an mp4 shows by its edit list, as after trimming without encoding; infinity without one."""
    data, moov, shown = np.memmap(path, np.uint8, "r"), b"", []
    while len(data) >= 16 and not moov:
        size, kind, large = struct.unpack(">I4sQ", data[:16].tobytes())
        size = {0: len(data), 1: large}.get(size, size)
        moov = data[:size].tobytes() if kind == b"moov" else b""
        data = data[max(size, 8) :]
    with contextlib.suppress(IndexError, struct.error, ZeroDivisionError):  # damaged: told where frames are read
        head = moov.find(b"mvhd") + 4
        (unit,) = struct.unpack_from(">I", moov, head + (20 if moov[head] else 12))  # ticks per second
        for found in re.finditer(b"elst", moov):
            version, count = struct.unpack_from(">B3xI", moov, found.end())
            form = ">Qq4x" if version else ">Ii4x"
            edits = moov[found.end() + 8 :][: count * struct.calcsize(form)]
            shown.append(sum(ticks for ticks, start in struct.iter_unpack(form, edits) if start >= 0) / unit)
    return max(shown, default=0) or math.inf


def read_frames(video):
    """Yield (number in the source, seconds since its first frame, (h, w, 3) uint8 RGB) of the frames wanted."""
    first = before = None
    while video.capture.grab():
        now = time.monotonic() if video.live else video.capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        if before is not None:  # a clock may jump or stand still
            video.seconds += now - before if 0 < now - before < MAX_PAUSE else 1 / video.fps
        before, number = now, video.number
        if video.seconds >= video.end - TICK:
            return
        if video.seconds >= video.begin - TICK:
            first = number if first is None else first
            if (number - first) % video.every == 0:
                good, image = video.capture.retrieve()
                if not good:
                    return
                if image.shape[:2] != video.size:  # streams may change
                    image = cv2.resize(image, video.size[::-1], interpolation=cv2.INTER_AREA)
                yield number, video.seconds, cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        video.number += 1


def missing(video):
    """What is missing of a video read to its end, or None."""
    shown = video.seconds + 1 / video.fps
    if video.number < COMPLETE * video.promised and shown < COMPLETE * video.promised_seconds:
        return f"{video.name}: cut off, {video.number} frames, {shown:.1f} of {video.promised_seconds:.1f} s"
    return None


def choose_codec(size, fps):
    """Codec to write: H.264, which browsers play, if OpenCV can encode it, else MPEG-4."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "a.mp4"))
        writer = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*"avc1"), fps, size[::-1])
        for _ in range(3):
            writer.write(np.zeros((*size, 3), np.uint8))
        writer.release()
        good, image = cv2.VideoCapture(path).read()  # an encoder of hardware may open and write nothing
        return "avc1" if good and image.shape[:2] == size else "mp4v"


@contextlib.contextmanager
def writing(path, size, fps):
    """Yield a function that adds (h, w, 3) uint8 RGB, due at so many seconds, to an mp4, from the first on.

    It appears if the block ends well. A frame is repeated until the next one is due; of two due at the same time it has
    the first. `size` is (height, width). Raises OSError.
    """
    failed = OSError(f"{path}: the video could not be written; make room or name another --outdir")
    written, last, begin = 0, None, None
    with utils.replacing(opencv_path(path)) as temporary:
        codec = cv2.VideoWriter_fourcc(*choose_codec(size, fps))
        writer = cv2.VideoWriter(temporary, codec, fps, size[::-1])
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
