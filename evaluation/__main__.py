"""How good are lanes, by the TuSimple benchmark's own rules, and how good are instances?

    python -m evaluation --pred pred.json --gt test_label.json
    python -m evaluation --modeldir trained_model --srcdir tusimple/train_set --labels label_data_0313.json
    python -m evaluation --modeldir trained_model --srcdir culane --labels list/test.txt
    python -m evaluation --culane predicted_lines culane --list list/test.txt
    python -m evaluation --instances predicted_labels true_labels
    python -m evaluation --modeldir my_run --srcdir my_data --instances
    python -m evaluation --modeldir my_run --srcdir my_data --classes

The first scores a submission file. The second runs a model on the labeled images of a TuSimple folder and scores that;
`--out` writes the submission file. `--images` (both ways; needs `--srcdir`) writes the images with prediction (orange)
and label (blue) drawn over them, worst first. The third runs it on CULane's images, recognized by a list that ends in
.txt; `--out` is then a folder. The fourth scores CULane's `*.lines.txt` of the same names in two folders, by the list
or all of the second folder. The fifth compares label maps (png; equal values = one instance, 0 = background) of the
same name in two folders, the sixth those that a model finds in a data folder's `images/` with its `labels/`; pixels
whose label is `--ignore` count nowhere. The last scores a model's classes by the folder's `classes/`: IoU of the class
maps; where there are labels AP of each class, over all images, and how many instances have the right class, of pairs
that match at an IoU above 0.5 and of all true instances by the class of their pixels.

Accuracy, FP and FN are those of TuSimple's evaluate/lane.py, quirks included: FP can be negative, and a label without a
point counts as a lane, which only a prediction without a point finds (`--skip-empty-lanes` leaves such labels out;
`label_data_0313.json` has many). The benchmark also scores an image 0 that took over 200 ms; with `--modeldir` only
`--strict-time` does so. Repeated images, which the benchmark adds up, are errors here. Images without a lane, which the
benchmark gives an Accuracy of 0 whatever is drawn, are counted apart as well. A submission with h_samples of its own is
compared at the rows of the labels, which it must have.

CULane's F1 is that of its own tool: lanes 30 px wide on 1640x590, one to one, found above an IoU of 0.5.
"""

if __name__ == "__main__":
    from run.command import start

    start()

import argparse
import functools
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

import utils
from data.files import class_table, find_file, find_pairs, find_samples
from evaluation import instances
from evaluation.model import predict_culane, predict_instances, predict_lanes, score_classes, write_images
from lanes import culane, tusimple
from lanes.tusimple import PREDICTION_KEYS, format_lines, read_labels, require_own_lines
from pipeline.segmentation import load_network, read_settings, require_head
from run.command import UserError, bounded, command

LANES = {"images", "srcdir", "json", "verbose", "skip_empty_lanes"}
MODEL = {"modeldir", "srcdir", "bandwidth", "threshold", "confidence", "cluster", "int8", "json"}


def load(args):
    """(`Network`, `Settings`) of `--modeldir`."""
    settings = read_settings(args.modeldir, args.bandwidth, args.threshold, args.cluster, args.confidence)
    network = load_network(args.modeldir, int8=args.int8)
    require_head(network, args.modeldir, threshold=args.threshold, confidence=args.confidence)
    if (folder := utils.model_folder(args.modeldir)) != Path(args.modeldir):
        print(f"model {folder}", file=sys.stderr)
    return network, settings


def run_model(args):
    """Predictions and labels of `--modeldir`; writes `--out`."""
    path = find_file(args.srcdir, args.labels)
    ground_truth = read_labels(path)
    tusimple.check_once(ground_truth, path)
    if args.out and Path(args.out).resolve() == Path(path).resolve():
        raise UserError(f"--out {args.out}: found the labels themselves, expected another file to write; name one")
    require_own_lines(args.out, "--out")
    network, settings = load(args)
    predictions = predict_lanes(network, args.srcdir, ground_truth, settings)
    if args.out:
        with utils.replacing(args.out) as temporary:
            Path(temporary).write_text(format_lines(predictions), encoding="utf-8")
    return predictions, ground_truth, (args.out or "prediction", path)


def run_tusimple(args, report):
    """Score lanes, of `--pred` or of `--modeldir`; returns {"Accuracy", "FP", "FN"}."""
    if args.modeldir:
        predictions, ground_truth, names = run_model(args)
    else:
        names = (args.pred, args.gt)
        predictions, ground_truth = read_labels(args.pred, PREDICTION_KEYS), read_labels(args.gt)
    time_limit = math.inf if args.modeldir and not args.strict_time else tusimple.TIME_LIMIT
    empty = sum(max(lane, default=-1) < 0 for entry in ground_truth for lane in entry["lanes"])
    if args.skip_empty_lanes:
        ground_truth = [
            {**entry, "lanes": [lane for lane in entry["lanes"] if max(lane) >= 0]} for entry in ground_truth
        ]
    scores = tusimple.score_images(predictions, ground_truth, time_limit, names)
    if args.images:
        write_images(args.images, args.srcdir, predictions, ground_truth, scores)

    if args.verbose:
        report("accuracy      FP      FN  time/ms  image")
        for index in tusimple.worst_first(scores):
            accuracy, fp, fn = scores[index]
            entry = predictions[index]
            report(f"{accuracy:8.4f} {fp:7.4f} {fn:7.4f} {entry['run_time']:8.1f}  {entry['raw_file']}")
    report_scores(scores, report)
    labeled = {entry["raw_file"]: bool(entry["lanes"]) for entry in ground_truth}
    has_lane = np.array([labeled[entry["raw_file"]] for entry in predictions])
    if not has_lane.all():
        # the benchmark gives an image without a lane an Accuracy of 0, whatever is drawn
        empty_images = [entry for entry in predictions if not labeled[entry["raw_file"]]]
        drawn = sum(any(max(lane, default=-1) >= 0 for lane in entry["lanes"]) for entry in empty_images)
        report(f"a line on {drawn} of {len(empty_images)} images without a lane; the others alone:")
        report_scores(scores[has_lane], report)
    slow = sum(entry["run_time"] > tusimple.TIME_LIMIT for entry in predictions)
    if slow:
        strict = time_limit == tusimple.TIME_LIMIT
        rule = "scored 0, 0, 1" if strict else "scored like the others, 0, 0, 1 with --strict-time"
        report(f"{slow} of {len(scores)} images took over {tusimple.TIME_LIMIT:.0f} ms: {rule}")
    if empty:
        state = "left out" if args.skip_empty_lanes else "count as lanes, see --skip-empty-lanes"
        report(f"{empty} labeled lanes have no point: {state}")
    return dict(zip(tusimple.METRICS, scores.mean(axis=0).tolist(), strict=True))


def report_scores(scores, report):
    """Print the means of (N, 3) scores of images and their intervals."""
    report(f"{len(scores)} images         95 % interval ({instances.RESAMPLES} bootstrap samples of the images)")
    if len(scores):
        for name, mean, (low, high) in zip(
            tusimple.METRICS, scores.mean(axis=0), instances.bootstrap_intervals(scores), strict=True
        ):
            report(f"{name:9} {mean:7.4f}   {low:7.4f} .. {high:7.4f}")


def run_culane(args, report):
    """Score CULane's lanes, of `--culane` or of `--modeldir`, whose `--out` it writes; returns {metric: value}."""
    if args.culane:
        files = culane.list_files(*args.culane, args.list)
        counts = culane.count_files(files)
    else:
        files = culane.list_files(args.srcdir, args.srcdir, args.labels)
        labels = [culane.read_lines(truth) for _, _, truth in files]
        network, settings = load(args)
        lanes = predict_culane(network, args.srcdir, [image for image, _, _ in files], settings)
        if args.out:
            for (image, _, _), found in zip(files, lanes, strict=True):
                path = culane.lines_path(Path(args.out) / image)
                path.parent.mkdir(parents=True, exist_ok=True)
                utils.write_text(path, culane.format_lines(found))
        counts = culane.count_lanes(lanes, labels)
    if args.verbose:
        report("  TP   FP   FN  image")
        for tp, fp, fn, image in sorted(
            ((*row, image) for row, (image, _, _) in zip(counts.tolist(), files, strict=True)),
            key=lambda row: -row[1] - row[2],
        ):
            report(f"{tp:4} {fp:4} {fn:4}  {image}")
    score = culane.culane_score(counts)
    report(f"{len(counts)} images")
    for name, value in score.items():
        report(f"{name:9} {value:7.4f}" if isinstance(value, float) else f"{name:9} {value:7}")
    return score


def run_instances(args, report):
    """Score the label maps of `--instances`, or those that `--modeldir` finds; returns {metric: value}."""
    if args.modeldir:
        pairs = find_pairs(args.srcdir)
        network, settings = load(args)
        label_maps = predict_instances(network, pairs, args.ignore, settings)
    else:
        label_maps = instances.read_pairs(*args.instances, args.ignore)
    score = instances.instance_score(label_maps, args.ignore)
    for name, value in score.items():
        report(f"{name:9} {value:7.4f}")
    return score


def run_classes(args, report):
    """Score the classes that `--modeldir` finds; returns {metric: value}."""
    parts = ["labels"] if Path(args.srcdir, "labels").exists() else []
    samples = find_samples(args.srcdir, [*parts, "classes"])
    network, settings = load(args)
    if not network.classes:
        raise UserError(f"--classes: found a model without classes in {args.modeldir}, expected one with; name another")
    score = score_classes(network, samples, class_table(args.srcdir, network.classes), args.ignore, settings)
    width = max(map(len, score), default=0)
    for name, value in score.items():
        report(f"{name:{width}} {value:7.4f}")
    return score


def make_parser():
    parser = argparse.ArgumentParser(
        prog="evaluation", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument_group("score a submission file").add_argument
    add("--pred", help="TuSimple submission: one JSON object per line with raw_file, lanes, run_time")
    add("--gt", help="TuSimple labels of the same images")
    add = parser.add_argument_group("run a model and score it").add_argument
    add("--modeldir", help="model folder, or run folder: its best/, else its last/")
    add("--srcdir", help="folder that the labels' raw_file is relative to; with --instances a data folder")
    add("--labels", help="TuSimple label file or CULane list (.txt), in --srcdir or by itself")
    add("--out", help="submission file to write; new or empty folder for CULane's *.lines.txt")
    add("--bandwidth", type=bounded(float, above=0), help="of the mean shift; default the model's")
    add(
        "--threshold",
        type=bounded(float, above=0, below=1),
        help="lane probability of a lane pixel; default the model's",
    )
    add(
        "--confidence",
        type=bounded(float, least=0, below=1),
        metavar="P",
        help="mean lane probability of an instance; default the model's",
    )
    add("--cluster", choices=("fast", "sklearn"), help="mean shift; default that of inference.py")
    add("--int8", action="store_true", help="the network of 8 bits that python -m export --int8 has made")
    add("--strict-time", action="store_true", help="score images over 200 ms 0, 0, 1 as the benchmark does")
    add = parser.add_argument_group("score CULane's lanes").add_argument
    add("--culane", nargs=2, metavar=("PRED_DIR", "GT_DIR"), help="folders of *.lines.txt of the same names")
    add("--list", metavar="FILE", help="images to score, in GT_DIR or by itself; default: all of GT_DIR")
    add = parser.add_argument_group("score label maps").add_argument
    add("--instances", nargs="*", metavar="DIR", help="PRED_DIR GT_DIR, of label maps; none: --modeldir's")
    add("--ignore", type=bounded(int, least=1, most=65535), metavar="ID", help="label value to ignore")
    add = parser.add_argument_group("score classes").add_argument
    add("--classes", action="store_true", help="score the classes that --modeldir finds, by --srcdir's classes/")
    add = parser.add_argument_group("output").add_argument
    add("--json", action="store_true", help="print the benchmark's JSON list; all else goes to stderr")
    add("--verbose", action="store_true", help="print every image's score, worst first")
    add("--images", metavar="DIR", help="new or empty folder for images with prediction and label")
    add("--skip-empty-lanes", action="store_true", help="leave out labeled lanes without a point")
    return parser


def parse_args(argv=None):
    """Flags and `mode`, one of `MODES`; a flag that the mode needs and lacks, or has no use for, is an error."""
    parser = make_parser()
    args = parser.parse_args(argv)
    args.mode = choose_mode(args, parser.error)
    mode = MODES[args.mode]
    for name, value in vars(args).items():
        if value not in (None, False) and name not in {*mode.needs, *mode.uses, "mode"}:
            parser.error(f"--{name.replace('_', '-')}: found with {mode.title}, which has no use for it; leave it out")
    needs = [*mode.needs, *(["srcdir"] if args.images else [])]
    for name in needs:
        if getattr(args, name) is None:
            parser.error(f"--{name}: found nothing, expected {' and '.join(f'--{need}' for need in needs)}")
    if args.mode == "model" and args.out:
        if Path(args.out).is_dir() or not Path(args.out).absolute().parent.is_dir():
            parser.error(f"--out: found no folder for {args.out}, or a folder of that name, expected a file to write")
    for flag, folder in (("--images", args.images), ("--out", args.out if args.mode == "model on CULane" else None)):
        if folder and Path(folder).exists() and (not Path(folder).is_dir() or any(Path(folder).iterdir())):
            content = "files in" if Path(folder).is_dir() else "a file,"
            parser.error(f"{flag}: found {content} {folder}, expected a new or empty folder")
    return args


def choose_mode(args, fail):
    """Name of the mode, of `MODES`, that flags ask for; `fail` is called with what is wrong with them."""
    given = [name for name in ("pred", "modeldir", "culane", "instances") if getattr(args, name) is not None]
    if given == ["modeldir", "instances"] and not args.instances:
        return "model's instances"
    if given == ["modeldir"] and args.classes:
        return "model's classes"
    if len(given) != 1:
        fail(f"found {len(given)} of --pred, --modeldir, --culane and --instances, expected one")
    if given == ["instances"] and len(args.instances) != 2:
        fail(f"--instances: found {len(args.instances)} folders, expected two, or none with --modeldir")
    on_culane = given == ["modeldir"] and str(args.labels).endswith(".txt")
    return "model on CULane" if on_culane else "model" if given == ["modeldir"] else given[0]


class Mode(NamedTuple):
    """One of the ways to use the command."""

    run: Callable  # function (args, report) -> {metric: value}
    title: str  # how errors call it
    needs: tuple  # names of flags
    uses: set  # names of flags that may be given beside


MODES = {
    "pred": Mode(run_tusimple, "--pred", ("pred", "gt"), LANES),
    "model": Mode(run_tusimple, "--modeldir", ("modeldir", "srcdir", "labels"), {"out", "strict_time"} | MODEL | LANES),
    "model on CULane": Mode(
        run_culane, "a list of CULane", ("modeldir", "srcdir", "labels"), {"out", "verbose"} | MODEL
    ),
    "model's instances": Mode(run_instances, "--instances", ("modeldir", "srcdir", "instances"), {"ignore"} | MODEL),
    "model's classes": Mode(run_classes, "--classes", ("modeldir", "srcdir", "classes"), {"ignore"} | MODEL),
    "culane": Mode(run_culane, "--culane", ("culane",), {"list", "json", "verbose"}),
    "instances": Mode(run_instances, "--instances", ("instances",), {"ignore", "json"}),
}


@command("evaluation")
def main(argv=None):
    args = parse_args(argv)
    score = MODES[args.mode].run(args, functools.partial(print, file=sys.stderr if args.json else sys.stdout))
    if args.json:
        orders = {name: "asc" if name in ("FP", "FN", "|DiC|") else "desc" for name in score}
        print(json.dumps([{"name": name, "value": score[name], "order": order} for name, order in orders.items()]))


if __name__ == "__main__":
    main()
