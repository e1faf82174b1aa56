"""Ways to damage a file: functions that change the file of a path, or make such a function."""

import json
from functools import partial
from pathlib import Path

import cv2
import numpy as np

import utils

NETWORK = {"input_shape": [64, 96, 3], "stage_two_repeat": 1}  # the smaller, the sooner built


def written(content):
    return changed(lambda data: content)


def changed(edit):
    """The file's bytes become `edit` of them; there need be none yet."""

    def change(path):
        path.write_bytes(edit(path.read_bytes() if path.exists() else b""))

    return change


def replaced(old, new):
    def edit(data):
        assert old.encode() in data
        return data.replace(old.encode(), new.encode(), 1)

    return changed(edit)


def in_config(key, **values):
    def edit(data):
        config = json.loads(data)
        return json.dumps({**config, key: {**config.get(key, {}), **values}}).encode()

    return changed(edit)


network = partial(in_config, "network")
flags = partial(in_config, "flags", srcdir=["data"])  # of a run, that no command line gives
missing, empty, text = Path.unlink, written(b""), written(b"no image, no model\n")
cut = changed(lambda data: data[: len(data) * 2 // 3])
without_end = changed(lambda data: data[:-2])
zero_filled = changed(lambda data: data[: len(data) // 2] + bytes(len(data) - len(data) // 2))
one_byte = changed(lambda data: data[:-99] + bytes([data[-99] ^ 0xFF]) + data[-98:])


def folder(path):
    path.unlink()
    path.mkdir()


def encoded(image):
    return cv2.imencode(".png", image)[1].tobytes()


colored = written(encoded(np.full((96, 160, 3), (0, 0, 255), np.uint8)))
smaller = written(encoded(np.zeros((50, 160), np.uint8)))


def write_frames(path, frames, codec="mp4v"):
    """A video of 20 frames a second, all (h, w, 3) uint8 BGR."""
    frames = list(frames)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), 20, frames[0].shape[1::-1])
    for frame in frames:
        writer.write(frame)
    writer.release()


def one_frame(path):
    write_frames(path, [np.zeros((96, 160, 3), np.uint8)])


def other_weights(path):
    utils.build_model(NETWORK | {"embedding_dim": 7}).save(path)


def two_videos(path):
    """Beside clip.avi a clip.mp4, another one."""
    one_frame(path)
    path.with_suffix(".mp4").write_bytes(b"mine")
