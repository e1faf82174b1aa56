"""Time stages of inference beside their references in one run on this machine.

    python -m benchmark
    python -m benchmark network end-to-end --repeat 15

Prints the median and range of the wall time and the median of the processors' time, in ms an image, and how many times
faster than the stage's first row a variant is, the median of the rounds. Variants take turns in every round, so that a
busy machine slows all of them alike: read the ratios rather than the times.

network     TensorFlow's graph and XNNPACK with an image a core, then XNNPACK with all cores on one image
cluster     mean shift of scikit-learn and of clustering.py, as inference does it
end-to-end  from file to painted file with each network, an image a core
"""

if __name__ == "__main__":
    from run.command import start

    start()

import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from joblib import cpu_count
from tqdm import trange

import utils
import visualization
from clustering import find_instances
from data.files import list_images
from datagenerator import read_image
from export.folding import fold_batch_norm
from pipeline import segmentation
from run.command import bounded, command, make_parser

ROW = "| {:10} | {:21} | {:>7} | {:>15} | {:>7} | {:>5} |"


def on_every_core(function, items):
    """`function` of every item, one a core at a time."""
    with ThreadPoolExecutor(cpu_count()) as pool:
        return list(pool.map(function, items))


def network_stage(inputs):
    for name, network in inputs.networks.items():
        yield f"{name}, image a core", partial(on_every_core, network.predict, inputs.images), len(inputs.images)
    shared = segmentation.load_network(inputs.modeldir)
    yield "XNNPACK, cores share", lambda: [shared.predict(image) for image in inputs.images], len(inputs.images)


def cluster_stage(inputs):
    def run(method):
        for outputs in inputs.outputs:
            find_instances(outputs, method=method)

    for name, method in (("scikit-learn", "sklearn"), ("clustering.py", "fast")):
        yield name, partial(run, method), len(inputs.outputs)


def end_to_end_stage(inputs):
    def process(network, job):
        number, path = job
        image = read_image(path)
        painted = visualization.paint_instances(image, segmentation.segment_outputs(network, image)[1])
        visualization.save_image(Path(inputs.folder, f"{number}.png"), painted)

    jobs = list(enumerate(inputs.paths * 4))
    for name, network in inputs.networks.items():
        yield name, partial(on_every_core, partial(process, network), jobs), len(jobs)


STAGES = {"network": network_stage, "cluster": cluster_stage, "end-to-end": end_to_end_stage}


def measure(variants, repeat):
    """Table rows [name, ms, range, CPU ms, ratio] of (name, function, number of images), after a call for tracing."""
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
    """What the stages work on."""
    segmentation.use_cores()
    inputs = SimpleNamespace(modeldir=modeldir, folder=folder, paths=list_images(indir))
    inputs.images = [read_image(path) for path in inputs.paths]
    lite = segmentation.load_network(modeldir, threads=1)
    folded = fold_batch_norm(utils.load_model(modeldir, (None, None)))
    graph = segmentation.Network(folded, lite.size, lite.view, False, lite.min_pixels, lite.min_width)
    inputs.networks = {"graph": graph, "XNNPACK": lite}
    if int8:
        inputs.networks["int8"] = segmentation.load_network(modeldir, threads=1, int8=True)
    inputs.outputs = [lite.predict(image) for image in inputs.images]
    return inputs


@command("benchmark", "what is done is printed")
def main(argv=None):
    parser = make_parser("benchmark", __doc__)
    add = parser.add_argument
    add("stages", nargs="*", metavar="STAGE", help=f"what to time: {', '.join(STAGES)}; default all")
    add("--modeldir", default="trained_model", help="model folder; default %(default)s")
    add("--indir", default="inference_test/images", help="images; default %(default)s")
    add("--repeat", type=bounded(int, least=1), default=5, help="rounds; default %(default)s")
    add("--int8", action="store_true", help="time the network of python -m export --int8, too")
    args = parser.parse_args(argv)
    for name in args.stages:
        if name not in STAGES:
            parser.error(f"found the stage {name}, expected {', '.join(STAGES)}")
    with tempfile.TemporaryDirectory() as folder:
        inputs = prepare(args.modeldir, args.indir, folder, args.int8)
        print(ROW.format("stage", "variant", "ms", "range", "CPU ms", "ratio"))
        print(ROW.format(*6 * ["---"]))
        for name in args.stages or STAGES:
            for cells in measure(STAGES[name](inputs), args.repeat):
                print(ROW.format(name, *cells), flush=True)


if __name__ == "__main__":
    main()
