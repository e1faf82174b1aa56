"""Time each stage beside its reference, in one run on this machine.

    python -m benchmark
    python -m benchmark --markdown
    python -m benchmark network --modeldir trained_model --size 512 512
    python -m benchmark clustering --stress

Without a stage's name it runs all of them, with shorter settings than a stage alone, and prints one table: median time
and its range, and how many times faster than the reference, which is the stage's first row (in clustering the
scikit-learn row above). Variants take turns in every round, so that a busy machine slows all of them alike: read the
ratios rather than the times.

processing: `data/tusimple_dataset_processing.py` beside a one-thread loop of cv2's imread, imwrite and polylines.
data: a training step on a batch at hand and on batches from files, decoded and augmented beside it.
loss: the discriminative loss and its gradient beside a loop over images with `tf.unique_with_counts`.
training: a step of both heads, plain, `--jit` and `--mixed-precision`; the last step's loss, all start alike.
network: one image through the network as it was trained, with XLA, with batch norm folded, both, and as TensorFlow
    Lite in two threads. Folding changes a few pixels visibly (see `export.fold_batch_norm`), the others by rounding.
clustering: mean shift of `clustering.py` beside scikit-learn's, on all pixels and, as inference does it, on the lane
    pixels alone. The embeddings are the network's with `--modeldir`, otherwise simulated: four lanes and background
    with means at least 3 apart, as after training with the discriminative loss, and with means drawn together and a
    wide spread, as early in training. The last columns: clusters found, largest distance between a center and
    scikit-learn's in bandwidths (- if their numbers differ), pixels labeled alike. `--stress` adds 1280x720 pixels in 8
    dimensions, where scikit-learn would take hours: well separated, which the ratio refers to, and diffuse, with the
    memory used.
curves: `lanes.fit_lanes` beside one parabola per instance, which says what the least costs; time per image.
end-to-end: inference.py's pipeline, from file to painted lanes in a file, beside the same steps one after the other;
    time per image.

"off by" is the largest difference from the reference in units of the reference's largest value.
"""

if __name__ == "__main__":
    from run.command import start

    start()

import argparse
from functools import partial

from benchmark.clustering import benchmark_clustering
from benchmark.stages import (
    TIMES,
    benchmark_curves,
    benchmark_data,
    benchmark_end_to_end,
    benchmark_loss,
    benchmark_network,
    benchmark_processing,
    benchmark_training,
)
from run.command import bounded, command


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


FLAGS = {
    "size": {
        "nargs": 2,
        "type": bounded(int, least=8, step=8),
        "metavar": ("H", "W"),
        "help": "multiples of 8; None: the model's own",
    },
    "batch_size": {"type": bounded(int, least=1), "help": "images per step"},
    "steps": {"type": bounded(int, least=1), "help": "training steps per round"},
    "images": {"type": bounded(int, least=1), "help": "per round; the samples over and over"},
    "bandwidth": {"type": bounded(float, above=0), "nargs": "+", "help": "of the mean shift"},
    "modeldir": {"help": "model folder or run folder; None: simulated embeddings"},
    "indir": {"help": "folder of the images that the model sees"},
    "stress": {"action": "store_true", "help": "add 1280x720 pixels in 8 dimensions"},
}
OLD_NAMES = {"size": ("--image-size",), "images": ("--pictures",)}
MODEL = {"size": None, "modeldir": "trained_model", "indir": "inference_test/images"}
# function and flags of each stage, and the flags that differ when all stages run
STAGES = {
    "processing": (benchmark_processing, {"images": 48}, {"images": 12}),
    "data": (benchmark_data, {"size": [256, 512], "batch_size": 4, "steps": 8}, {"steps": 4}),
    "loss": (benchmark_loss, {"size": [512, 512], "batch_size": 4}, {}),
    "training": (benchmark_training, {"size": [512, 512], "batch_size": 1}, {}),
    "network": (benchmark_network, MODEL, {}),
    "clustering": (
        benchmark_clustering,
        {**MODEL, "size": [512, 512], "modeldir": None, "bandwidth": [0.7, 1.0, 1.5], "stress": False},
        {"size": [256, 512], "bandwidth": [1.0]},
    ),
    "curves": (benchmark_curves, MODEL, {}),
    "end-to-end": (benchmark_end_to_end, {**MODEL, "images": 48}, {"images": 24}),
}


def parse_args(argv=None):
    """One namespace per stage to run."""
    parser = argparse.ArgumentParser(prog="benchmark", description=__doc__.split("\n", 1)[0])
    stages = parser.add_subparsers(dest="stage", metavar="STAGE", help=", ".join(STAGES) + "; default all of them")
    parsers = [stages.add_parser(name, formatter_class=argparse.ArgumentDefaultsHelpFormatter) for name in STAGES]
    for one in (parser, *parsers):
        # a stage's own default would hide what stands before its name
        add = partial(one.add_argument, default=argparse.SUPPRESS)
        add("--repeat", type=bounded(int, least=1), help="rounds, of which the median counts; default 5")
        add("--markdown", action="store_true", help="print a table for a README")
    parser.set_defaults(repeat=5, markdown=False)
    for one, (_, flags, _) in zip(parsers, STAGES.values(), strict=True):
        for flag, default in flags.items():
            names = (f"--{flag.replace('_', '-')}", *OLD_NAMES.get(flag, ()))
            one.add_argument(*names, default=default, **FLAGS[flag])
    args = parser.parse_args(argv)
    if args.stage:
        return [args]
    jobs = ({**flags, **short, "stage": name} for name, (_, flags, short) in STAGES.items())
    return [argparse.Namespace(**{**vars(args), **job}) for job in jobs]


@command("benchmark")
def main(argv=None):
    jobs = parse_args(argv)
    summary = []
    try:
        for args in jobs:
            title, header, rows = STAGES[args.stage][0](args)
            if len(jobs) == 1:
                print_table(title, header, rows, args.markdown)
            ms = header.index("ms")
            summary += [[title, ", ".join(map(str, row[:ms])), *row[ms : ms + 3]] for row in rows]
    finally:
        if len(jobs) > 1 and summary:
            print_table("all stages", ["stage", "variant", *TIMES], summary, jobs[0].markdown)


if __name__ == "__main__":
    main()
