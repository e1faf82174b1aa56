"""The clustering stage of the benchmark: our mean shift beside scikit-learn's, on real or simulated embeddings."""

import itertools
import tracemalloc
from functools import partial

import numpy as np

import clustering
from benchmark.stages import simulate_embedding
from benchmark.timing import TIMES, measure, time_rows
from data.files import list_images
from datagenerator import read_image
from pipeline import segmentation

MASKED_SIZE = (256, 512)
STRESS_PIXELS = 720 * 1280


def network_embeddings(modeldir, indir, size):
    """The network's embedding (H, W, D) and lane mask (H, W), None without semantic head, of the first image."""
    outputs = segmentation.load_network(modeldir, size).predict(read_image(list_images(indir)[0]))
    return outputs["embedding"], clustering.lane_mask(outputs)


def compare_clusterings(title, embedding, mask, bandwidth, repeat):
    """Rows of the table for scikit-learn and ours, on all pixels or, with a mask, from embedding to label map."""
    if mask is None:
        pixels = embedding.reshape(-1, embedding.shape[-1])
        cluster = partial(clustering.cluster, pixels, bandwidth)
    else:
        pixels = embedding[mask]
        cluster = partial(clustering.instance_label_map, embedding, bandwidth, mask)
    seconds, results = measure({name: partial(cluster, method=name) for name in ("sklearn", "fast")}, repeat)
    if mask is not None:
        results = {name: (ids.max(), ids, None) for name, ids in results.items()}
    number, labels, centers = results["sklearn"]
    rows = []
    for row, (found, ids, means) in zip(time_rows(seconds), results.values(), strict=True):
        away = "-"
        if mask is None and found == number:
            away = f"{np.linalg.norm(means - centers, axis=1).max() / bandwidth:.4f}"
        rows.append([title, len(pixels), bandwidth, *row, found, away, f"{100 * np.mean(ids == labels):.3f} %"])
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
    for name, *times in time_rows(seconds):
        tracemalloc.start()
        clustering.cluster(inputs[name], 1.0)
        peak = tracemalloc.get_traced_memory()[1] / 2**20
        tracemalloc.stop()
        rows.append([f"8-D {name}", STRESS_PIXELS, 1.0, "fast", *times, results[name][0], f"{peak:.0f} MiB", "-"])
    return rows


def benchmark_clustering(args):
    if args.modeldir:
        inputs = {"network": (network_embeddings(args.modeldir, args.indir, args.size)[0], None)}
        masked = network_embeddings(args.modeldir, args.indir, MASKED_SIZE)
        inputs |= {"network, lanes": masked} if masked[1] is not None else {}
    else:
        inputs = {n: (simulate_embedding(args.size, trained=n == "trained")[0], None) for n in ("trained", "early")}
        embedding, label_map = simulate_embedding(MASKED_SIZE)
        inputs["trained, lanes"] = embedding, label_map > 0
    rows = []
    for bandwidth, (name, pair) in itertools.product(args.bandwidth, inputs.items()):
        rows += compare_clusterings(name, *pair, bandwidth, args.repeat)
    if args.stress:
        rows += stress_clustering(args.repeat)
    header = ["embeddings", "pixels", "bandwidth", "method", *TIMES, "clusters", "centers off", "alike"]
    return "clustering", header, rows
