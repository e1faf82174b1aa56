"""The network on a CPU: a TensorFlow Lite file in the user's cache, which XNNPACK runs.

It is made once of a model, for images of every size, named by a digest of weights, arguments and TensorFlow's version,
and begins with a digest of its content: a broken one can end the process.
"""

import hashlib
import json
import os
import sys
from collections import deque
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import utils
from export.folding import fold_batch_norm
from export.formats import TOLERANCE, convert_to_tflite, make_interpreter, noise, output_difference
from run.command import UserError

KEPT = 8  # files of 1.6 MB
FORMAT = 1  # to be raised when the same weights are to be converted anew
CONVERTED, CHECKED = (64, 96), (72, 104)  # sizes; it has to take any


class LiteModel:
    """A network by XNNPACK, for images of any size; each of several at a time takes a free interpreter."""

    def __init__(self, content, coordinate_scale=None, threads=1):
        """Take bytes of `convert`, the scale of `enet.AddCoordinates`, and how many threads share an image."""
        self.content, self.coordinate_scale, self.threads = content, coordinate_scale, threads
        self.idle = deque([make_interpreter(content, threads)])
        self.output = tuple(self(np.zeros((1, 8, 8, 3), np.float32)))

    def __call__(self, batch):
        """{output: (1, H, W, C) float32} of a batch of one image, (1, H, W, 3) float32, H and W multiples of 8."""
        try:
            run = self.idle.pop()
        except IndexError:
            run = make_interpreter(self.content, self.threads)
        outputs = run(batch)
        self.idle.append(run)
        if self.coordinate_scale:  # they depend on the size, so they aren't in the file
            height, width = batch.shape[1:3]
            columns, rows = (np.arange(side, dtype=np.float32) / self.coordinate_scale for side in (width, height))
            outputs["embedding"][..., 0] += columns
            outputs["embedding"][..., 1] += rows[:, None]
        return outputs


def load_lite_model(folder, threads=1, int8=False):
    """The `LiteModel` of a model folder, from the cache, or made and kept there.

    None, with a line on stderr, if it can't be converted; UserError without an int8 one, which the export makes.
    """
    network = utils.read_network(folder)
    path = cache_file(folder, network, int8)
    content = read(path)
    if not content and int8:
        command = f"python -m export {folder} int8.tflite --format tflite --int8 IMAGES"
        raise UserError(f"--int8: found none of {folder} in {path.parent}, expected an export; run {command}")
    if not content:
        print("converting the network for this CPU, once, some ten seconds", file=sys.stderr)
        try:
            content = convert(utils.load_model(folder, (None, None)))
        except (UserError, OSError):
            raise
        except Exception as error:  # whatever the converter raises: there is TensorFlow's graph
            print(f"TensorFlow Lite can't take it ({' '.join(str(error).split())[:200]})", file=sys.stderr)
            return None
        keep(path, content)
    return LiteModel(content, network.get("coordinate_scale"), threads)


def convert(model):
    """TFLite file, as bytes, of a keras.Model of open size, without coordinates that it adds.

    ValueError if outputs differ from Keras', UserError if they are not finite.
    """
    outputs = {**model.output, "embedding": model.get_layer("embedding").output}
    model = keras.Model(model.input, outputs)
    content = convert_to_tflite(fold_batch_norm(model, "lite"), CONVERTED)
    difference = output_difference(model, make_interpreter(content), noise(CHECKED))
    if not difference <= TOLERANCE:
        raise ValueError(f"its outputs are off by {difference:.1e} of the largest value")
    return content


def cache_file(folder, network, int8=False):
    """Path in the user's cache for a model folder."""
    key = hashlib.sha256((folder / utils.MODEL_FILE).read_bytes())
    key.update(json.dumps([network, tf.__version__, FORMAT, int8], sort_keys=True).encode())
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(cache, "discriminative-loss", f"{key.hexdigest()}.tflite")


def read(path):
    """Content of a file of `keep`, None if there is none or it is broken."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    return data[32:] if data[:32] == hashlib.sha256(data[32:]).digest() else None


def keep(path, content):
    """Keep a file, and of all the `KEPT` newest; says on stderr if that can't be."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with utils.replacing(path) as temporary:
            Path(temporary).write_bytes(hashlib.sha256(content).digest() + content)
        for file in sorted(path.parent.glob(64 * "?" + ".tflite"), key=os.path.getmtime)[:-KEPT]:
            file.unlink(missing_ok=True)
    except OSError as error:
        print(f"the converted network is not kept in {path}: {error.strerror}", file=sys.stderr)
