"""The stages of `python -m benchmark`: each is timed beside its reference and gives a table.

A stage is a function of its flags that returns (title, header, rows); the columns `TIMES` are in the header. The
references are plain code on purpose: loops over images, one thread, scikit-learn, NumPy's parabolas.
"""

import contextlib
import io
import itertools
import json
import shutil
import statistics
import tempfile
import warnings
from functools import partial
from pathlib import Path

import cv2
import keras
import numpy as np
import tensorflow as tf

import utils
import visualization
from benchmark.timing import TIMES, measure, time_rows
from data.files import find_pairs, list_images
from data.tusimple_dataset_processing import process
from datagenerator import batches, make_dataset, prepare_image, read_image
from export.folding import fold_batch_norm
from export.formats import export
from lanes.curves import fit_lanes
from pipeline import segmentation, stages
from run import train_step
from run.command import UserError

SAMPLES = Path(__file__).resolve().parents[1] / "inference_test" / "images"


def largest_difference(outputs, reference):
    """Of arrays to those of the reference, relative to the reference's largest value."""
    pairs = zip(outputs, reference, strict=True)
    return f"{max(np.abs(a - b).max() / np.abs(b).max() for a, b in pairs):.1e}"


def simulate_embedding(size, dimensions=3, count=4, trained=True, seed=0):
    """Embeddings such as a network might give for a road image.

    Args:
        size: (H, W) in pixels.
        dimensions: D.
        count: number of lanes.
        trained: means at least 3 apart and a spread of about 0.25, or means about 1 apart and a spread of about 0.9.
        seed: of the random numbers.

    Returns:
        (embedding, label_map): (H, W, D) float32 and (H, W) int, 0 = background, 1 to `count` = lanes.
    """
    rng = np.random.default_rng(seed)
    means = []
    while len(means) <= count:
        mean = rng.normal(0, 3, dimensions)
        if all(np.linalg.norm(mean - other) >= 3 for other in means):
            means.append(mean)
    means = np.array(means) * (1 if trained else 0.3)
    y, x = np.mgrid[: size[0], : size[1]] / np.reshape(size, (2, 1, 1))
    depth = np.clip(y - 0.3, 0, None)
    offsets = [np.abs(x - 0.5 - slope * depth) for slope in np.linspace(-1, 1, count)]
    half = 0.01 * (0.3 + depth)  # half the width of a lane; over a tenth of it lane and background mix
    fraction = np.stack([np.clip(5 * (half - offset) / half + 0.5, 0, 1) * (depth > 0) for offset in offsets])
    label_map = np.where(fraction.max(axis=0) > 0.5, fraction.argmax(axis=0) + 1, 0)
    fraction /= np.maximum(1, fraction.sum(axis=0))
    embedding = means[0] + np.einsum("lhw,ld->hwd", fraction, means[1:] - means[0])
    for axis in range(dimensions):
        phases = [rng.uniform(1, 4, 2) @ [y.ravel(), x.ravel()] + rng.random() for _ in range(4)]
        waves = sum(np.sin(2 * np.pi * phase) for phase in phases)
        embedding[..., axis] += (0.1 if trained else 0.4) * waves.reshape(size)
    embedding += rng.normal(0, 0.12 if trained else 0.3, embedding.shape)
    return embedding.astype(np.float32), label_map


def sample_folder(folder, count):
    """A TuSimple folder of `count` clips: the sample images in turn, each with the same five straight lanes."""
    samples, rows = list_images(SAMPLES), list(range(260, 720, 10))
    lines = [[640 + slope * (y - 240) for y in rows] for slope in (-2, -1, 0, 1, 2)]
    lines = [[x if 0 <= x < 1280 else -2 for x in line] for line in lines]
    with open(folder / "label_data_samples.json", "w", encoding="utf-8") as file:
        for number in range(count):
            clip = folder / f"clips/{number}/20.jpg"
            clip.parent.mkdir(parents=True)
            shutil.copy(samples[number % len(samples)], clip)
            label = {"raw_file": f"clips/{number}/20.jpg", "lanes": lines, "h_samples": rows}
            file.write(json.dumps(label) + "\n")
    return folder


def process_in_a_loop(source, outdir):
    """The reference of `process`: one thread, one image after the other."""
    (outdir / "images").mkdir(parents=True)
    (outdir / "labels").mkdir()
    for number, line in enumerate((source / "label_data_samples.json").read_text().splitlines()):
        label = json.loads(line)
        cv2.imwrite(str(outdir / f"images/{number:04d}.png"), cv2.imread(str(source / label["raw_file"])))
        image = np.zeros((720, 1280), np.uint8)
        for i, lane in enumerate(label["lanes"]):
            points = [(x, y) for x, y in zip(lane, label["h_samples"], strict=True) if x >= 0]
            cv2.polylines(image, [np.array(points, np.int32)], False, 50 * i + 20, 7)
        cv2.imwrite(str(outdir / f"labels/{number:04d}.png"), image)


def benchmark_processing(args):
    with tempfile.TemporaryDirectory() as folder:
        source = sample_folder(Path(folder), args.images)
        outdirs = (source / f"out-{number}" for number in itertools.count())
        functions = {
            "one-thread loop": lambda: process_in_a_loop(source, next(outdirs)),
            "processing": lambda: process([source], next(outdirs)),
        }
        seconds, _ = measure(functions, args.repeat)
    return f"processing, {args.images} images", ["method", *TIMES], time_rows(seconds)


def loss_in_a_loop(prediction, label):
    """The reference of `discriminative_loss`: one image after the other, instances by `tf.unique_with_counts`."""
    losses = []
    for x, ids in zip(tf.unstack(prediction), tf.unstack(label), strict=True):
        x = tf.reshape(x, (-1, x.shape[-1]))
        _, index, count = tf.unique_with_counts(tf.reshape(ids, (-1,)))
        number, count = tf.size(count), tf.cast(count, tf.float32)
        mean = tf.math.unsorted_segment_sum(x, index, number) / count[:, None]
        hinge = tf.maximum(tf.norm(x - tf.gather(mean, index), axis=1) - 0.5, 0) ** 2
        l_var = tf.reduce_mean(tf.math.unsorted_segment_sum(hinge, index, number) / count)
        between = tf.boolean_mask(mean[:, None] - mean[None], ~tf.eye(number, dtype=tf.bool))
        l_dist = tf.reduce_mean(tf.maximum(3 - tf.norm(between, axis=1), 0) ** 2)
        losses.append(l_var + l_dist + 0.001 * tf.reduce_mean(tf.norm(mean, axis=1)))
    return tf.add_n(losses) / len(losses)


def benchmark_loss(args):
    pairs = [simulate_embedding(args.size, seed=seed) for seed in range(args.batch_size)]
    prediction = tf.constant(np.stack([embedding for embedding, _ in pairs]))
    label = tf.constant(np.stack([ids for _, ids in pairs]).astype(np.int32))
    losses = train_step.make_losses(train_step.LossSettings(reg=0.001, sem=0.0))

    def with_gradient(loss):
        @tf.function
        def run(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                value = loss(x)
            return value, tape.gradient(value, x)

        return lambda: [part.numpy() for part in run(prediction)]

    functions = {
        "loop over images": with_gradient(lambda x: loss_in_a_loop(x, label)),
        "loss.py": with_gradient(lambda x: losses({"embedding": x}, label)[0]),
    }
    seconds, results = measure(functions, args.repeat, warm=True)
    more = [largest_difference(found, results["loop over images"]) for found in results.values()]
    return (
        f"loss, {args.batch_size} x {args.size[0]}x{args.size[1]}",
        ["loss and gradient", *TIMES, "off by"],
        time_rows(seconds, more=more),
    )


def make_step(args, jit=False, mixed_precision=False):
    """Training step of both heads for `args.size` and `args.batch_size`."""
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy("mixed_bfloat16" if mixed_precision else "float32")
    try:
        model = utils.build_model({"input_shape": (*args.size, 3)})
    finally:
        keras.config.set_dtype_policy("float32")
    optimizer = train_step.make_optimizer("adam", 1, 1e-4)
    optimizer.build(model.trainable_variables)
    losses = train_step.make_losses(train_step.LossSettings(reg=0.001), not jit)
    return train_step.make_train_step(model, optimizer, losses, jit=jit)


def benchmark_data(args):
    step = make_step(args)
    with tempfile.TemporaryDirectory() as folder:
        process([sample_folder(Path(folder), 24)], Path(folder) / "data")
        pairs = find_pairs(Path(folder) / "data")
        stream = batches(make_dataset(pairs, tuple(args.size), args.batch_size, seed=0, augmented=True))
        image, label, _ = next(stream)
        step(image, label)  # tracing

        def steps(fetch):
            for _ in range(args.steps):
                float(step(*(next(stream)[:2] if fetch else (image, label)))[0])

        seconds, _ = measure({"cached": partial(steps, False), "from files": partial(steps, True)}, args.repeat)
        stream.close()
    return (
        f"data, {args.batch_size} x {args.size[0]}x{args.size[1]}",
        ["training step", *TIMES],
        time_rows(seconds, args.steps),
    )


def benchmark_training(args):
    samples = itertools.islice(itertools.cycle(list_images(SAMPLES)), args.batch_size)
    images = [prepare_image(read_image(path), tuple(args.size)) for path in samples]
    labels = [simulate_embedding(args.size, seed=seed)[1] for seed in range(args.batch_size)]
    batch = tf.constant(np.stack(images)), tf.constant(np.stack(labels).astype(np.int32))
    steps = {
        "plain": make_step(args),
        "--jit": make_step(args, jit=True),
        "--mixed-precision": make_step(args, mixed_precision=True),
    }
    functions = {name: lambda step=step: step(*batch).numpy() for name, step in steps.items()}
    seconds, results = measure(functions, args.repeat, warm=True)
    rows = time_rows(seconds, more=[f"{parts[0]:.3f}" for parts in results.values()])
    return f"training, {args.batch_size} x {args.size[0]}x{args.size[1]}", ["training step", *TIMES, "loss"], rows


def benchmark_network(args):
    image = read_image(list_images(args.indir)[0])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.tflite"
        export(args.modeldir, path, "tflite", args.size)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of a package to come in its place
            lite = tf.lite.Interpreter(str(path), num_threads=2).get_signature_runner()
        model = utils.load_model(args.modeldir, args.size)
        try:
            folded = fold_batch_norm(model)
        except UserError as error:
            raise UserError(f"--modeldir {args.modeldir}: {error}") from None
        size = model.input_shape[1:3]
        batch = prepare_image(image, size)[None]

        def variant(network, jit):
            run = tf.function(lambda x: network(x, training=False), jit_compile=jit)
            return lambda: {name: value.numpy() for name, value in run(tf.constant(batch)).items()}

        functions = {
            "graph": variant(model, False),
            "XLA": variant(model, True),
            "folded": variant(folded, False),
            "folded, XLA": variant(folded, True),
            "TFLite": lambda: lite(image=batch),
        }
        seconds, results = measure(functions, args.repeat, warm=True)
    expected = list(results["graph"].values())
    more = [largest_difference([found[name] for name in results["graph"]], expected) for found in results.values()]
    return f"network, {size[0]}x{size[1]}", ["network", *TIMES, "off by"], time_rows(seconds, more=more)


def fit_parabolas(label_map):
    """The reference of `fit_lanes`: one least-squares parabola per instance of three rows and more."""
    points = [np.nonzero(label_map == label) for label in range(1, label_map.max() + 1)]
    return [np.polyfit(y, x, 2) for y, x in points if len(np.unique(y)) > 2]


def benchmark_curves(args):
    images = [read_image(path) for path in list_images(args.indir)]
    network = segmentation.load_network(args.modeldir, args.size)
    maps = [(segmentation.segment(network, image), image.shape[:2]) for image in images]
    functions = {
        "parabolas": lambda: [fit_parabolas(label_map) for label_map, _ in maps],
        "fit_lanes": lambda: [fit_lanes(label_map, size) for label_map, size in maps],
    }
    seconds, results = measure(functions, args.repeat, warm=True)
    rows = time_rows(seconds, len(maps), [sum(map(len, curves)) for curves in results.values()])
    return f"curves, {len(maps)} images", ["curve fit", *TIMES, "curves"], rows


def benchmark_end_to_end(args):
    samples = list_images(args.indir)
    threads = segmentation.use_cores()
    network = segmentation.load_network(args.modeldir, args.size)
    with tempfile.TemporaryDirectory() as folder:

        def frames():
            for number, path in zip(range(args.images), itertools.cycle(samples), strict=False):
                yield stages.Frame(path.name, path, {"overlay": Path(folder, f"{number}.png")})

        def process(frame):
            frame.image = read_image(frame.source)
            label_map = segmentation.segment(network, frame.image)
            visualization.save_image(frame.outputs["overlay"], visualization.paint_instances(frame.image, label_map))
            return frame

        def overlapped():
            with contextlib.redirect_stdout(io.StringIO()):  # the run's own table of times
                stages.run_frames(frames(), process, lambda frame: None, threads, args.images)

        seconds, _ = measure({"one by one": lambda: list(map(process, frames())), "threads": overlapped}, args.repeat)
    rates = [f"{args.images / statistics.median(times):.1f}" for times in seconds.values()]
    header = ["inference", *TIMES, "images/s"]
    return f"end-to-end, {args.images} images", header, time_rows(seconds, args.images, rates)
