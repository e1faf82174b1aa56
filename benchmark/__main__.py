"""Time stages of inference, and a training step, beside their references in one run on this machine.

    python -m benchmark
    python -m benchmark network end-to-end --repeat 15

Prints a line as each variant is done: median and range of the wall time and median of the processors' time, in ms an
image, and how many times faster than the stage's first row it is, the median of the rounds. Variants take turns in
every round, so that a busy machine slows all of them alike: read the ratios rather than the times.

network     TensorFlow's graph and XNNPACK with an image a core, then XNNPACK with all cores on one image
cluster     mean shift of scikit-learn and of clustering.py, on lane pixels as inference does it
all pixels  the same on every pixel of one image at half the size
decode, curves, paint, write    the other stages of inference.py, without a reference
end-to-end  from file to painted file with each network, an image a core
training    a step of both heads on one 512x512 image, plain and compiled by XLA
"""

if __name__ == "__main__":
    from run.command import start

    start()

import argparse
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import tensorflow as tf
from joblib import cpu_count
from tqdm import trange

import utils
import visualization
from clustering import cluster, instance_label_map, lane_mask
from data.files import list_images
from datagenerator import prepare_image, read_image
from export.folding import fold_batch_norm
from lanes.curves import fit_lanes
from pipeline import segmentation
from run import train_step
from run.command import UserError, bounded, command

BANDWIDTH = 1.0
MEAN_SHIFTS = (("scikit-learn", "sklearn"), ("clustering.py", "fast"))


def on_every_core(function, items):
    """`function` of every item, as many at a time as there are cores."""
    with ThreadPoolExecutor(cpu_count()) as pool:
        return list(pool.map(function, items))


def network_stage(inputs):
    for name, network in inputs.networks.items():
        yield f"{name}, image a core", partial(on_every_core, network.predict, inputs.images), len(inputs.images)
    shared = segmentation.load_network(inputs.modeldir)
    yield "XNNPACK, cores share", lambda: [shared.predict(image) for image in inputs.images], len(inputs.images)


def cluster_stage(inputs):
    masked = [(outputs["embedding"], lane_mask(outputs)) for outputs in inputs.outputs]
    if masked[0][1] is None:
        place = f"--modeldir {inputs.modeldir}"
        raise UserError(f"{place}: found a model without semantic head, expected one; name another")
    for name, method in MEAN_SHIFTS:
        run = partial(instance_label_map, bandwidth=BANDWIDTH, method=method)
        yield name, lambda run=run: [run(embedding, mask=mask) for embedding, mask in masked], len(masked)


def pixels_stage(inputs):
    embedding = inputs.outputs[0]["embedding"][::2, ::2]
    pixels = embedding.reshape(-1, embedding.shape[-1])
    for name, method in MEAN_SHIFTS:
        yield name, partial(cluster, pixels, BANDWIDTH, method=method), 1


def single_stage(inputs, stage):
    """A stage without a reference."""
    run = {
        "decode": lambda path, image, label_map: read_image(path),
        "curves": lambda path, image, label_map: fit_lanes(label_map, image.shape[:2]),
        "paint": lambda path, image, label_map: visualization.paint_instances(image, label_map),
        "write": lambda path, image, label_map: visualization.save_image(inputs.folder / "image.png", image),
    }[stage]
    label_maps = [segmentation.segment_outputs(inputs.networks["XNNPACK"], image)[1] for image in inputs.images]
    items = list(zip(inputs.paths, inputs.images, label_maps, strict=True))
    yield "", lambda: [run(*item) for item in items], len(items)


def end_to_end_stage(inputs):
    def process(network, job):
        number, path = job
        image = read_image(path)
        painted = visualization.paint_instances(image, segmentation.segment_outputs(network, image)[1])
        visualization.save_image(inputs.folder / f"{number}.png", painted)

    jobs = list(enumerate(inputs.paths * 4))
    for name, network in inputs.networks.items():
        yield name, partial(on_every_core, partial(process, network), jobs), len(jobs)


def training_stage(inputs):
    size = (512, 512)
    image = prepare_image(inputs.images[0], size)[None]
    label_map = segmentation.segment_outputs(inputs.networks["XNNPACK"], inputs.images[0])[1]
    label = cv2.resize(label_map, size, interpolation=cv2.INTER_NEAREST)[None]
    for name, jit in (("plain", False), ("--jit", True)):
        model = utils.build_model({"input_shape": (*size, 3)})
        optimizer = train_step.make_optimizer("adam", 1, 1e-4)
        optimizer.build(model.trainable_variables)
        losses = train_step.make_losses(train_step.LossSettings(reg=0.001), not jit)
        step = train_step.make_train_step(model, optimizer, losses, jit=jit)
        yield name, lambda step=step: step(tf.constant(image), tf.constant(label)).numpy(), 1


STAGES = {
    "network": network_stage,
    "cluster": cluster_stage,
    "all pixels": pixels_stage,
    **{name: partial(single_stage, stage=name) for name in ("decode", "curves", "paint", "write")},
    "end-to-end": end_to_end_stage,
    "training": training_stage,
}


def measure(variants, repeat):
    """Table rows [name, ms, range, CPU ms, ratio] of (name, function, number of images) that take turns.

    Each is called once before, for tracing and compiling.
    """
    variants = list(variants)
    times = np.zeros((repeat + 1, len(variants), 2))
    for turn in trange(repeat + 1, leave=False, dynamic_ncols=True):
        for index, (_, function, count) in enumerate(variants):
            start = np.array([time.perf_counter(), time.process_time()])
            function()
            times[turn, index] = 1000 * (np.array([time.perf_counter(), time.process_time()]) - start) / count
    for index, (name, *_) in enumerate(variants):
        wall, cpu = times[1:, index].T
        ratio = np.median(times[1:, 0, 0] / wall)
        median, span = f"{np.median(wall):.1f}", f"{wall.min():.1f}-{wall.max():.1f}"
        yield name, median, span, f"{np.median(cpu):.1f}", f"{ratio:.2f}"


def prepare(modeldir, indir, folder, int8):
    """What the stages work on: images, networks, and their outputs."""
    segmentation.use_cores()
    inputs = SimpleNamespace(modeldir=modeldir, folder=Path(folder), paths=list_images(indir))
    inputs.images = [read_image(path) for path in inputs.paths]
    lite = segmentation.load_network(modeldir, threads=1)
    folded = fold_batch_norm(utils.load_model(modeldir, (None, None)))
    graph = segmentation.Network(folded, lite.size, lite.view, min_pixels=lite.min_pixels)
    inputs.networks = {"graph": graph, "XNNPACK": lite}
    if int8:
        inputs.networks["int8"] = segmentation.load_network(modeldir, threads=1, int8=True)
    inputs.outputs = [lite.predict(image) for image in inputs.images]
    return inputs


@command("benchmark", "what is done is printed")
def main(argv=None):
    parser = argparse.ArgumentParser(
        prog="benchmark", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("stages", nargs="*", metavar="STAGE", help=f"what to time: {', '.join(STAGES)}; default all")
    add("--modeldir", default="trained_model", help="model with semantic head; default %(default)s")
    add("--indir", default="inference_test/images", help="images; default %(default)s")
    add("--repeat", type=bounded(int, least=1), default=5, help="rounds; default %(default)s")
    add("--int8", action="store_true", help="time the 8-bit network of python -m export --int8, too")
    args = parser.parse_args(argv)
    for name in args.stages:
        if name not in STAGES:
            parser.error(f"found the stage {name}, expected some of {', '.join(STAGES)}")
    with tempfile.TemporaryDirectory() as folder:
        inputs = prepare(args.modeldir, args.indir, folder, args.int8)
        row = "| {:10} | {:21} | {:>7} | {:>15} | {:>7} | {:>5} |".format
        print(row("stage", "variant", "ms", "range", "CPU ms", "ratio"))
        print(row("---", "---", "---", "---", "---", "---"))
        for name in args.stages or STAGES:
            for cells in measure(STAGES[name](inputs), args.repeat):
                print(row(name, *cells), flush=True)


if __name__ == "__main__":
    main()
