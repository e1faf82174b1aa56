"""Find the lanes (or other instances) of pictures and paint them.

    python inference.py
    python inference.py --modeldir trained_model --indir my_pictures --outdir my_results
    python inference.py --indir my_pictures --outdir my_results --draw lanes --json my_lanes.json

Reads every picture of `--indir` (jpg, png, bmp, webp; any size) in the order of their names and writes
`cluster_0000.png`, `cluster_0001.png`, ... to `--outdir`: the picture at its own size with each instance in its own
color. With the semantic head, mean shift runs on the lane pixels; without it on all pixels, the largest cluster being
the background.
"""

import argparse
import json
import math
import os
import sys
import time
import weakref
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import numpy as np

from datagenerator import DataError, list_pictures, prepare_picture, read_picture  # first: says what cv2 needs

import tensorflow as tf  # isort: skip
from tqdm import tqdm  # isort: skip

import lanes
import utils
import visualization
from clustering import instance_label_map

BANDWIDTH = 1.0
THRESHOLD = 0.5

_compiled = weakref.WeakKeyDictionary()


def predict(model, picture):
    """Run the network on one prepared picture.

    Args:
        model: keras.Model of `utils.load_model`.
        picture: (H, W, 3) float32 of `datagenerator.prepare_picture`.

    Returns:
        {"embedding": (H, W, D) float32, "semantic": (H, W, 1) float32 logits if the model has that head}.
    """
    if model not in _compiled:
        reference = weakref.ref(model)
        _compiled[model] = tf.function(lambda batch: reference()(batch, training=False))
    return {name: value[0].numpy() for name, value in _compiled[model](tf.constant(picture[None])).items()}


def segment(model, picture, bandwidth=BANDWIDTH, threshold=THRESHOLD, method="fast"):
    """Instances of one picture.

    Args:
        model: keras.Model of `utils.load_model`.
        picture: (h, w, 3) uint8 RGB of any size.
        bandwidth: of the mean shift, in units of the embedding.
        threshold: lane probability from which a pixel counts as lane (models with a semantic head).
        method: "fast" or "sklearn", see `clustering.instance_label_map`.

    Returns:
        (H, W) int32 label map at network size, 0 = background, and {"network": s, "cluster": s} in seconds.

    Raises:
        utils.ModelError: embeddings that are not finite.
    """
    start = time.perf_counter()
    outputs = predict(model, prepare_picture(picture, model.input_shape[1:3]))
    middle = time.perf_counter()
    mask = outputs["semantic"][:, :, 0] > math.log(threshold / (1 - threshold)) if "semantic" in outputs else None
    try:
        label_map = instance_label_map(outputs["embedding"], bandwidth, mask, method=method)
    except ValueError as error:  # an untrained or diverged network
        raise utils.ModelError(f"the model's output can't be clustered: {error}; retrain it or name another") from None
    return label_map.astype(np.int32), {"network": middle - start, "cluster": time.perf_counter() - middle}


def h_samples(height):
    """TuSimple's rows, 160, 170, ..., 710, for a picture `height` pixels high instead of 720."""
    return list(range(height * 2 // 9 // 10 * 10, height, 10))


def run(args):
    """Segment and paint the pictures of `args.indir`."""
    paths = list_pictures(args.indir)
    model = utils.load_model(args.modeldir)
    if utils.read_network(utils.model_folder(args.modeldir)).get("picture_statistics"):
        print("batch norm uses the statistics of each picture, as this model's config says")
    height, width = model.input_shape[1:3]
    predict(model, np.zeros((height, width, 3), np.float32))  # tracing is no part of the times below
    outdir = Path(args.outdir)
    outdir.mkdir(parents=True, exist_ok=True)

    times, lines = [], []
    for number, path in enumerate(tqdm(paths, unit="picture", dynamic_ncols=True)):
        start = time.perf_counter()
        picture = read_picture(path)
        size, rows = picture.shape[:2], h_samples(picture.shape[0])
        label_map, seconds = segment(model, picture, args.bandwidth, args.threshold, args.cluster)
        if args.draw == "lanes" or args.json:
            curves = lanes.fit_lanes(label_map, size)
            run_time = 1000 * (time.perf_counter() - start)
            lines.append(lanes.tusimple_line(path.name, curves, rows, run_time, size))
        if args.draw == "lanes":
            painted = visualization.draw_lanes(picture, lines[-1]["lanes"], rows)
        else:
            painted = visualization.paint_instances(picture, label_map)
        visualization.save_picture(outdir / f"cluster_{number:04d}.png", painted)
        times.append((seconds["network"], seconds["cluster"], time.perf_counter() - start))
    if args.json:
        with utils.replacing(args.json) as temporary:
            Path(temporary).write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    for name, mean in zip(("network", "cluster", "total"), np.mean(times, axis=0), strict=True):
        print(f"mean {name} time: {mean:.4f} s, fps: {1 / mean:.1f}")
    print(f"{len(paths)} pictures in {outdir}")


def parse_args(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n", 1)[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--modeldir", default="trained_model", help="model folder or run folder")
    add("--indir", default="inference_test/images", help="folder of pictures")
    add("--outdir", default="inference_test/results", help="folder to write")
    add("--bandwidth", type=float, default=BANDWIDTH, help="of the mean shift")
    add("--threshold", type=float, default=THRESHOLD, help="lane probability that counts as lane")
    add("--cluster", choices=("fast", "sklearn"), default="fast", help="mean shift of clustering.py or of scikit-learn")
    add("--draw", choices=("instances", "lanes"), default="instances", help="paint pixels or fitted curves")
    add("--json", metavar="FILE", help="TuSimple lines to write, one per picture")
    args = parser.parse_args(argv)
    if args.json and not Path(args.json).absolute().parent.is_dir():
        parser.error(f"--json: found no folder for {args.json}, expected an existing one")
    if not 0 < args.bandwidth < math.inf:
        parser.error(f"--bandwidth: found {args.bandwidth}, expected a number above 0")
    if not 0 < args.threshold < 1:
        parser.error(f"--threshold: found {args.threshold}, expected a probability between 0 and 1")
    return args


def main(argv=None):
    args = parse_args(argv)
    try:
        run(args)
    except (DataError, utils.ModelError, OSError) as error:
        print(f"inference.py: error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("inference.py: interrupted, finished pictures are kept", file=sys.stderr)
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
