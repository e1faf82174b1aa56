"""Time each stage beside its reference, in one run on this machine.

    python benchmark.py processing
    python benchmark.py clustering
    python benchmark.py clustering --modeldir trained_model --indir inference_test/images
    python benchmark.py clustering --stress --markdown

Prints one table per stage, without a stage's name all of them: median time and its range, the ratio to the reference in
the row above, and how far the answers agree. Methods take turns in every round, so that a busy machine slows all of
them alike: read the ratios rather than the times.

processing: `data/tusimple_dataset_processing.py` beside a one-thread loop of cv2's imread, imwrite and polylines.

data: a training step on a batch at hand and on batches from files, decoded and augmented beside it.

loss: the discriminative loss and its gradient beside a loop over pictures with `tf.unique_with_counts`; "off by" is the
largest relative difference.

clustering: mean shift of `clustering.py` beside scikit-learn's, on all pixels and, as inference does it, on the lane
pixels alone. The embeddings are the network's with `--modeldir`, otherwise simulated: four lanes and background with
means at least 3 apart, as after training with the discriminative loss, and with means drawn together and a wide spread,
as early in training. The last columns: clusters found, largest distance between a center and scikit-learn's in
bandwidths (- if their numbers differ), pixels labeled alike. `--stress` adds 1280x720 pixels in 8 dimensions, where
scikit-learn would take hours: well separated, which the ratio refers to, and diffuse, with the memory used.
"""

import argparse
import itertools
import json
import shutil
import statistics
import sys
import tempfile
import time
import tracemalloc
from functools import partial
from pathlib import Path

import numpy as np

import clustering

ROOT = Path(__file__).resolve().parent
BANDWIDTHS = (0.7, 1.0, 1.5)
MASKED_SIZE = (256, 512)
STRESS_PIXELS = 720 * 1280


def measure(functions, repeat):
    """Time functions in turn, `repeat` rounds.

    Args:
        functions: dict of functions without arguments.
        repeat: number of rounds.

    Returns:
        (seconds, results): dicts of each function's list of times in s and of its last result.
    """
    seconds, results = {name: [] for name in functions}, {}
    for _ in range(repeat):
        for name, function in functions.items():
            start = time.perf_counter()
            results[name] = function()
            seconds[name].append(time.perf_counter() - start)
    return seconds, results


def time_cells(seconds, reference=None):
    """Table cells of a list of times: median in ms, range in ms, ratio of the reference's median to it."""
    median = statistics.median(seconds)
    ratio = "1" if reference is None else f"{statistics.median(reference) / median:.3g}"
    return [f"{1000 * median:.1f}", f"{1000 * min(seconds):.1f}-{1000 * max(seconds):.1f}", ratio]


def print_table(title, header, rows, markdown):
    rows = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
    edge = "|" if markdown else ""
    lines = [
        f"{edge} {f' {edge} '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))} {edge}"
        for row in rows
    ]
    if markdown:
        lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    print(f"\n{title}\n", *(line.rstrip() for line in lines), sep="\n", flush=True)


def simulate_embedding(size, dimensions=3, lanes=4, trained=True, seed=0):
    """Embeddings such as a network might give for a road picture.

    Args:
        size: (H, W) in pixels.
        dimensions: D.
        lanes: number of lanes.
        trained: means at least 3 apart and a spread of about 0.25, or means about 1 apart and a spread of about 0.9.
        seed: of the random numbers.

    Returns:
        (embedding, label_map): (H, W, D) float32 and (H, W) int, 0 = background, 1 to `lanes` = lanes.
    """
    rng = np.random.default_rng(seed)
    means = []
    while len(means) <= lanes:
        mean = rng.normal(0, 3, dimensions)
        if all(np.linalg.norm(mean - other) >= 3 for other in means):
            means.append(mean)
    means = np.array(means) * (1 if trained else 0.3)
    y, x = np.mgrid[: size[0], : size[1]] / np.reshape(size, (2, 1, 1))
    depth = np.clip(y - 0.3, 0, None)
    offsets = [np.abs(x - 0.5 - slope * depth) for slope in np.linspace(-1, 1, lanes)]
    half = 0.01 * (0.3 + depth)  # half the width of a lane; over a tenth of it lane and background mix
    share = np.stack([np.clip(5 * (half - offset) / half + 0.5, 0, 1) * (depth > 0) for offset in offsets])
    label_map = np.where(share.max(axis=0) > 0.5, share.argmax(axis=0) + 1, 0)
    share /= np.maximum(1, share.sum(axis=0))
    embedding = means[0] + np.einsum("lhw,ld->hwd", share, means[1:] - means[0])
    for axis in range(dimensions):
        waves = sum(
            np.sin(2 * np.pi * (rng.uniform(1, 4, 2) @ [y.ravel(), x.ravel()] + rng.random())) for _ in range(4)
        )
        embedding[..., axis] += (0.1 if trained else 0.4) * waves.reshape(size)
    embedding += rng.normal(0, 0.12 if trained else 0.3, embedding.shape)
    return embedding.astype(np.float32), label_map


def network_embeddings(modeldir, indir, size):
    """The network's embedding (H, W, D) and lane mask (H, W), None without semantic head, of the first picture."""
    import utils
    from datagenerator import list_pictures, prepare_picture, read_picture
    from inference import predict

    model = utils.load_model(modeldir, image_size=size)
    outputs = predict(model, prepare_picture(read_picture(list_pictures(indir)[0]), size))
    return outputs["embedding"], outputs["semantic"][:, :, 0] > 0 if "semantic" in outputs else None


def compare_clusterings(title, pixels, bandwidth, repeat):
    """Rows of the table for scikit-learn and ours on the same (N, D) pixels."""
    functions = {name: partial(clustering.cluster, pixels, bandwidth, name) for name in ("sklearn", "fast")}
    seconds, results = measure(functions, repeat)
    rows = []
    number, labels, centers = results["sklearn"]
    for name, result in results.items():
        same = result[0] == number
        away = np.linalg.norm(result[2] - centers, axis=1).max() / bandwidth if same else None
        reference = None if name == "sklearn" else seconds["sklearn"]
        rows.append([title, len(pixels), bandwidth, name, *time_cells(seconds[name], reference), result[0]])
        rows[-1] += [f"{away:.4f}" if same else "-", f"{100 * np.mean(result[1] == labels):.3f} %"]
    return rows


def compare_label_maps(title, embedding, mask, bandwidth, repeat):
    """Rows of the table for the whole step from embedding and mask to label map."""
    functions = {
        name: partial(clustering.instance_label_map, embedding, bandwidth, mask, method=name)
        for name in ("sklearn", "fast")
    }
    seconds, maps = measure(functions, repeat)
    rows = []
    for name, ids in maps.items():
        reference = None if name == "sklearn" else seconds["sklearn"]
        rows.append([title, mask.sum(), bandwidth, name, *time_cells(seconds[name], reference), ids.max(), "-"])
        rows[-1] += [f"{100 * np.mean(ids == maps['sklearn']):.3f} %"]
    return rows


def stress_clustering(repeat):
    """Rows of the table for 1280x720 pixels in 8 dimensions: well separated and diffuse."""
    rng = np.random.default_rng(0)
    means = rng.normal(0, 4, (6, 8))
    inputs = {"separated": means[rng.integers(6, size=STRESS_PIXELS)] + rng.normal(0, 0.2, (STRESS_PIXELS, 8))}
    inputs |= {f"diffuse, {spread}": rng.normal(0, spread, (STRESS_PIXELS, 8)) for spread in (0.5, 1.0, 2.0, 5.0)}
    inputs = {name: pixels.astype(np.float32) for name, pixels in inputs.items()}
    seconds, results = measure({n: partial(clustering.cluster, x, 1.0) for n, x in inputs.items()}, repeat)
    rows = []
    for name, pixels in inputs.items():
        tracemalloc.start()
        clustering.cluster(pixels, 1.0)
        peak = tracemalloc.get_traced_memory()[1] / 2**20
        tracemalloc.stop()
        reference = None if name == "separated" else seconds["separated"]
        cells = time_cells(seconds[name], reference)
        rows.append([f"8-D {name}", len(pixels), 1.0, "fast", *cells, results[name][0], f"{peak:.0f} MiB", "-"])
    return rows


def benchmark_clustering(args):
    size = tuple(args.size)
    if args.modeldir:
        pictures = {"network": network_embeddings(args.modeldir, args.indir, size)}
        masked = {"network, lanes": network_embeddings(args.modeldir, args.indir, MASKED_SIZE)}
    else:
        pictures = {name: simulate_embedding(size, trained=name == "trained") for name in ("trained", "early")}
        embedding, label_map = simulate_embedding(MASKED_SIZE)
        masked = {"trained, lanes": (embedding, label_map > 0)}
    rows = []
    for bandwidth in args.bandwidth:
        for name, (embedding, _) in pictures.items():
            pixels = embedding.reshape(-1, embedding.shape[-1])
            rows += compare_clusterings(name, pixels, bandwidth, args.repeat)
        for name, (embedding, mask) in masked.items():
            if mask is not None:
                rows += compare_label_maps(name, embedding, mask, bandwidth, args.repeat)
    if args.stress:
        rows += stress_clustering(args.repeat)
    header = ["embeddings", "pixels", "bandwidth", "method", "ms", "range", "ratio", "clusters", "centers off", "alike"]
    print_table("clustering", header, rows, args.markdown)


def sample_folder(folder, count):
    """A TuSimple folder of `count` clips: the sample pictures in turn, each with the same five straight lanes."""
    from datagenerator import list_pictures

    samples, rows = list_pictures(ROOT / "inference_test" / "images"), list(range(260, 720, 10))
    lanes = [[640 + slope * (y - 240) for y in rows] for slope in (-2, -1, 0, 1, 2)]
    lanes = [[x if 0 <= x < 1280 else -2 for x in lane] for lane in lanes]
    with open(folder / "label_data_samples.json", "w", encoding="utf-8") as file:
        for number in range(count):
            clip = folder / f"clips/{number}/20.jpg"
            clip.parent.mkdir(parents=True)
            shutil.copy(samples[number % len(samples)], clip)
            label = {"raw_file": f"clips/{number}/20.jpg", "lanes": lanes, "h_samples": rows}
            file.write(json.dumps(label) + "\n")
    return folder


def process_in_a_loop(source, outdir):
    """The reference of `process`: one thread, one picture after the other."""
    import cv2

    (outdir / "images").mkdir(parents=True)
    (outdir / "labels").mkdir()
    for number, line in enumerate((source / "label_data_samples.json").read_text().splitlines()):
        label = json.loads(line)
        cv2.imwrite(str(outdir / f"images/{number:04d}.png"), cv2.imread(str(source / label["raw_file"])))
        picture = np.zeros((720, 1280), np.uint8)
        for i, lane in enumerate(label["lanes"]):
            points = [(x, y) for x, y in zip(lane, label["h_samples"], strict=True) if x >= 0]
            cv2.polylines(picture, [np.array(points, np.int32)], False, 50 * i + 20, 7)
        cv2.imwrite(str(outdir / f"labels/{number:04d}.png"), picture)


def benchmark_processing(args):
    sys.path.append(str(ROOT / "data"))
    from tusimple_dataset_processing import process

    with tempfile.TemporaryDirectory() as folder:
        outdirs = (Path(folder) / f"out-{number}" for number in itertools.count())
        source = Path(folder) / "source"
        source.mkdir()
        sample_folder(source, args.pictures)
        functions = {
            "one-thread loop": lambda: process_in_a_loop(source, next(outdirs)),
            "processing": lambda: process([source], next(outdirs)),
        }
        seconds, _ = measure(functions, args.repeat)
    rows = []
    for name, times in seconds.items():
        reference = None if name == "one-thread loop" else seconds["one-thread loop"]
        rows.append([name, args.pictures, *time_cells(times, reference)])
    print_table("processing", ["method", "pictures", "ms", "range", "ratio"], rows, args.markdown)


def loss_in_a_loop(prediction, label):
    """The reference of `discriminative_loss`: one picture after the other, instances by `tf.unique_with_counts`."""
    import tensorflow as tf

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
    import tensorflow as tf

    import training

    pairs = [simulate_embedding(args.size, seed=seed) for seed in range(args.batch_size)]
    prediction = tf.constant(np.stack([embedding for embedding, _ in pairs]))
    label = tf.constant(np.stack([ids for _, ids in pairs]).astype(np.int32))
    losses = training.make_losses(training.parse_args(["--reg", "0.001", "--sem", "0"]))

    def with_gradient(loss):
        @tf.function
        def run(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                value = loss(x)
            return value, tape.gradient(value, x)

        return lambda: [part.numpy() for part in run(prediction)]

    functions = {
        "loop over pictures": with_gradient(lambda x: loss_in_a_loop(x, label)),
        "loss.py": with_gradient(lambda x: losses({"embedding": x}, label)[0]),
    }
    for function in functions.values():
        function()  # tracing and compiling
    seconds, results = measure(functions, args.repeat)
    (value, gradient), rows = results["loop over pictures"], []
    for name, times in seconds.items():
        reference = None if name == "loop over pictures" else seconds["loop over pictures"]
        off = max(abs(results[name][0] / value - 1), np.abs(results[name][1] - gradient).max() / np.abs(gradient).max())
        rows.append([name, args.batch_size, *time_cells(times, reference), f"{off:.1e}"])
    header = ["loss and gradient", "pictures", "ms", "range", "ratio", "off by"]
    print_table("loss", header, rows, args.markdown)


def benchmark_data(args):
    import training
    import utils
    from datagenerator import batches, find_pairs, make_dataset

    sys.path.append(str(ROOT / "data"))
    from tusimple_dataset_processing import process

    size = tuple(args.size)
    model = utils.build_model({"input_shape": (*size, 3), "embedding_dim": 4})
    flags = training.parse_args(["--reg", "0.001"])
    step = training.make_train_step(model, training.make_optimizer(flags, 1), flags)
    with tempfile.TemporaryDirectory() as folder:
        process([sample_folder(Path(folder), 24)], Path(folder) / "data")
        stream = batches(make_dataset(find_pairs(Path(folder) / "data"), size, args.batch_size, seed=0, augmented=True))
        picture, label, _ = next(stream)
        step(picture, label)  # tracing

        def steps(fetch):
            for _ in range(args.steps):
                float(step(*(next(stream)[:2] if fetch else (picture, label)))[0])

        seconds, _ = measure({"cached": partial(steps, False), "from files": partial(steps, True)}, args.repeat)
        stream.close()
    seconds, rows = {name: [t / args.steps for t in times] for name, times in seconds.items()}, []
    for name, times in seconds.items():
        rows.append([name, args.batch_size, *time_cells(times, None if name == "cached" else seconds["cached"])])
    print_table("data", ["training step", "pictures", "ms", "range", "ratio"], rows, args.markdown)


def add_clustering_flags(add):
    add("--size", type=int, nargs=2, default=[512, 512], metavar=("H", "W"), help="pixels; multiples of 8")
    add("--bandwidth", type=float, nargs="+", default=list(BANDWIDTHS), help="of the mean shift")
    add("--modeldir", help="take the embeddings of this model instead of simulated ones")
    add("--indir", default="inference_test/images", help="folder whose first picture the model sees")
    add("--stress", action="store_true", help="add 1280x720 pixels in 8 dimensions")


def add_processing_flags(add):
    add("--pictures", type=int, default=48, help="clips to process")


def add_loss_flags(add):
    add("--size", type=int, nargs=2, default=[512, 512], metavar=("H", "W"), help="pixels")
    add("--batch-size", type=int, default=4, help="pictures")


def add_data_flags(add):
    add("--size", type=int, nargs=2, default=[256, 512], metavar=("H", "W"), help="pixels; multiples of 8")
    add("--batch-size", type=int, default=4, help="pictures per step")
    add("--steps", type=int, default=8, help="training steps per round")


STAGES = {
    "processing": (benchmark_processing, add_processing_flags),
    "data": (benchmark_data, add_data_flags),
    "loss": (benchmark_loss, add_loss_flags),
    "clustering": (benchmark_clustering, add_clustering_flags),
}


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    stages = parser.add_subparsers(dest="stage", metavar="STAGE")
    for name, (_, add_flags) in STAGES.items():
        stage = stages.add_parser(name, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
        stage.add_argument("--repeat", type=int, default=5, help="rounds, of which the median counts")
        stage.add_argument("--markdown", action="store_true", help="print tables for a README")
        add_flags(stage.add_argument)
    args = parser.parse_args(argv)
    return [args] if args.stage else [parser.parse_args([name]) for name in STAGES]


def check(args):
    """Raise ValueError, naming the flag, if a value can't be used."""
    for name in ("repeat", "pictures", "batch_size", "steps"):
        if getattr(args, name, 1) < 1:
            raise ValueError(f"--{name.replace('_', '-')}: found {getattr(args, name)}, expected at least 1")
    if any(length < 8 or length % 8 for length in getattr(args, "size", ())):
        raise ValueError(f"--size: found {args.size[0]} {args.size[1]}, expected multiples of 8")
    if not all(0 < bandwidth < np.inf for bandwidth in getattr(args, "bandwidth", ())):
        raise ValueError(f"--bandwidth: found {args.bandwidth}, expected numbers above 0")
    if getattr(args, "modeldir", None) and not Path(args.modeldir).is_dir():
        raise ValueError(f"--modeldir: found no folder {args.modeldir}, expected a model folder")


def main(argv=None):
    jobs = parse_args(argv)
    try:
        for args in jobs:
            check(args)
        for args in jobs:
            STAGES[args.stage][0](args)
    except (ValueError, OSError) as error:
        print(f"benchmark.py: error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("benchmark.py: interrupted", file=sys.stderr)
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
