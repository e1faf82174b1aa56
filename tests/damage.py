"""Ways to damage a file: functions that change the file of a path, or make such a function."""

import json

import cv2
import numpy as np

import utils

NETWORK = {"input_shape": [64, 96, 3], "stage_two_repeat": 1}  # the smaller, the sooner built


def empty(path):
    path.write_bytes(b"")


def text(path):
    path.write_text("no image, no model\n")


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def without_end(path):
    path.write_bytes(path.read_bytes()[:-2])


def zero_filled(path):
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))


def one_byte(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


def missing(path):
    path.unlink()


def folder(path):
    path.unlink()
    path.mkdir()


def zeros(count):
    def change(path):
        path.write_bytes(bytes(count))

    return change


def replaced(old, new):
    def change(path):
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new, 1))

    return change


def nested(path):
    path.write_text("[" * 100_000)


def network(**values):
    def change(path):
        config = json.loads(path.read_text())
        config["network"] |= values
        path.write_text(json.dumps(config))

    return change


def colored(path):
    cv2.imwrite(str(path), np.full((96, 160, 3), (0, 0, 255), np.uint8))


def as_jpg(path):
    path.write_bytes(cv2.imencode(".jpg", cv2.imread(str(path), cv2.IMREAD_UNCHANGED))[1].tobytes())


def smaller(path):
    cv2.imwrite(str(path), np.zeros((50, 160), np.uint8))


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
    network = NETWORK | {"embedding_dim": 7}
    utils.build_model(network).save(path)


def two_videos(path):
    """Beside clip.avi a clip.mp4, another one."""
    one_frame(path)
    path.with_suffix(".mp4").write_bytes(b"mine")


def flags(**changes):
    """Flags of a run in its config that no command line gives."""

    def change(path):
        config = json.loads(path.read_text())
        path.write_text(json.dumps({**config, "flags": {"srcdir": ["data"], **changes}}))

    return change


def written(content):
    def change(path):
        path.write_bytes(content)

    return change
