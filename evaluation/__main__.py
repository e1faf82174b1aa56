"""How good are lanes, by the TuSimple benchmark's own rules, and how good are instances?

    python -m evaluation --pred pred.json --gt test_label.json
    python -m evaluation --modeldir trained_model --srcdir tusimple/train_set --labels label_data_0313.json
    python -m evaluation --modeldir trained_model --srcdir culane --labels list/test.txt
    python -m evaluation --culane predicted_lines culane --list list/test.txt
    python -m evaluation --instances predicted_labels true_labels
    python -m evaluation --modeldir my_run --srcdir my_data --instances
    python -m evaluation --modeldir my_run --srcdir my_data --classes

The first scores a submission file, the second what a model finds on labeled images; two lines more tell how well the
scores of its lanes, those of `inference.py --json`, order right lanes before wrong ones, and how far from their labels
right ones end. The third, by a list that ends in .txt, and the fourth give CULane's F1: lanes 30 px wide on 1640x590,
one to one, found above an IoU of 0.5. The fifth compares label maps (equal values = one instance, 0 = background) of
the same names, the sixth those that a model finds with `labels/`. The last scores a model's classes by `classes/`: IoU
of the class maps; where there are labels AP of each class, and how many instances have the right class, of pairs that
match at an IoU above 0.5 and of all true instances by the class of their pixels.

Accuracy, FP and FN are those of TuSimple's evaluate/lane.py, quirks included: FP can be negative, and a label without a
point counts as a lane, which only a prediction without a point finds (`label_data_0313.json` has many). An image that
took over 200 ms scores 0 there; with `--modeldir` only by `--strict-time`. Repeated images, which the benchmark adds
up, are errors here, and images without a lane, whose Accuracy is 0 whatever is drawn, are counted apart as well. A
submission with h_samples of its own is compared at the rows of the labels, which it must have.
"""

if __name__ == "__main__":
    from run.command import start

    start()

import argparse
import json
import math
import sys
from functools import partial
from pathlib import Path

import numpy as np

import utils
from data.files import class_table, find_file, find_pairs, find_samples
from evaluation import instances, model
from lanes import culane, tusimple
from lanes.tusimple import PREDICTION_KEYS, format_lines, read_labels, require_own_lines
from pipeline.segmentation import load_network, read_settings, require_head
from run.command import UserError, bounded, command


def load(args):
    """(`Network`, `Settings`) of `--modeldir`."""
    settings = read_settings(args.modeldir, args.bandwidth, args.threshold, args.cluster, args.confidence)
    network = load_network(args.modeldir, int8=args.int8)
    require_head(network, args.modeldir, threshold=args.threshold, confidence=args.confidence)
    if (folder := utils.model_folder(args.modeldir)) != Path(args.modeldir):
        print(f"model {folder}", file=sys.stderr)
    return network, settings


def run_model(args):
    """Predictions and labels of `--modeldir`, and what errors call them; writes `--out`."""
    path = find_file(args.srcdir, args.labels)
    ground_truth = read_labels(path)
    tusimple.check_once(ground_truth, path)
    if args.out and Path(args.out).resolve() == Path(path).resolve():
        raise UserError(f"--out {args.out}: found the labels themselves, expected another file to write; name one")
    require_own_lines(args.out, "--out")
    network, settings = load(args)
    predictions = model.predict_lanes(network, args.srcdir, ground_truth, settings)
    if args.out:
        utils.write_text(args.out, format_lines(predictions))
    return predictions, ground_truth, (args.out or "prediction", path)


def run_tusimple(args, report):
    """Score lanes, of `--pred` or of `--modeldir`; returns {"Accuracy", "FP", "FN"}."""
    if args.modeldir:
        predictions, ground_truth, names = run_model(args)
    else:
        names = (args.pred, args.gt)
        predictions, ground_truth = read_labels(args.pred, PREDICTION_KEYS), read_labels(args.gt)
    is_strict = args.strict_time or not args.modeldir
    empty = sum(max(lane, default=-1) < 0 for entry in ground_truth for lane in entry["lanes"])
    if args.skip_empty_lanes:
        ground_truth = [{**one, "lanes": [lane for lane in one["lanes"] if max(lane) >= 0]} for one in ground_truth]
    scores = tusimple.score_images(predictions, ground_truth, tusimple.TIME_LIMIT if is_strict else math.inf, names)
    if args.images:
        model.write_images(args.images, args.srcdir, predictions, ground_truth, scores)

    if args.verbose:
        report("accuracy      FP      FN  time/ms  image")
        for index in tusimple.worst_first(scores):
            accuracy, fp, fn = scores[index]
            entry = predictions[index]
            report(f"{accuracy:8.4f} {fp:7.4f} {fn:7.4f} {entry['run_time']:8.1f}  {entry['raw_file']}")
    report_scores(scores, report)
    without_lane = {entry["raw_file"] for entry in ground_truth if not entry["lanes"]}
    if without_lane:
        # the benchmark gives an image without a lane an Accuracy of 0, whatever is drawn
        is_empty = np.array([entry["raw_file"] in without_lane for entry in predictions])
        has_line = np.array([any(max(lane, default=-1) >= 0 for lane in entry["lanes"]) for entry in predictions])
        drawn = np.count_nonzero(is_empty & has_line)
        report(f"a line on {drawn} of {len(without_lane)} images without a lane; the others alone:")
        report_scores(scores[~is_empty], report)
    if args.modeldir:
        right, ends = model.match_lanes(predictions, ground_truth)
        lane_scores = [score for entry in predictions for score in entry.get("scores", [])]
        if lane_scores:
            report(model.describe_scores(lane_scores, right))
        report(model.describe_ends(ends))
    slow = sum(entry["run_time"] > tusimple.TIME_LIMIT for entry in predictions)
    if slow:
        rule = "scored 0, 0, 1" if is_strict else "scored like the others, 0, 0, 1 with --strict-time"
        report(f"{slow} of {len(scores)} images took over {tusimple.TIME_LIMIT:.0f} ms: {rule}")
    if empty:
        state = "left out" if args.skip_empty_lanes else "count as lanes, see --skip-empty-lanes"
        report(f"{empty} labeled lanes have no point: {state}")
    return dict(zip(tusimple.METRICS, scores.mean(axis=0).tolist(), strict=True))


def report_scores(scores, report):
    """Print the means of (N, 3) scores of images and their intervals."""
    report(f"{len(scores)} images         95 % interval ({instances.RESAMPLES} bootstrap samples of the images)")
    if len(scores):
        intervals = instances.bootstrap_intervals(scores)
        for name, mean, (low, high) in zip(tusimple.METRICS, scores.mean(axis=0), intervals, strict=True):
            report(f"{name:9} {mean:7.4f}   {low:7.4f} .. {high:7.4f}")


def report_numbers(score, report):
    """Print {metric: number}; returns it."""
    width = max(map(len, score), default=0)
    for name, value in score.items():
        report(f"{name:{width}} {value:7.4f}" if isinstance(value, float) else f"{name:{width}} {value:7}")
    return score


def run_culane(args, report):
    """Score CULane's lanes, of `--culane` or of `--modeldir`, whose `--out` it writes; returns {metric: value}."""
    if args.culane:
        files = culane.list_files(*args.culane, args.list)
        counts = culane.count_files(files)
    else:
        files = culane.list_files(args.srcdir, args.srcdir, args.labels)
        labels = [culane.read_lines(truth) for _, _, truth in files]
        network, settings = load(args)
        lanes = model.predict_culane(network, args.srcdir, [image for image, _, _ in files], settings)
        if args.out:
            for (image, _, _), found in zip(files, lanes, strict=True):
                path = culane.lines_path(Path(args.out) / image)
                path.parent.mkdir(parents=True, exist_ok=True)
                utils.write_text(path, culane.format_lines(found))
        counts = culane.count_lanes(lanes, labels)
    if args.verbose:
        report("  TP   FP   FN  image")
        for index in np.argsort(-counts[:, 1] - counts[:, 2], kind="stable"):
            tp, fp, fn = counts[index]
            report(f"{tp:4} {fp:4} {fn:4}  {files[index][0]}")
    report(f"{len(counts)} images")
    return report_numbers(culane.culane_score(counts), report)


def run_instances(args, report):
    """Score the label maps of `--instances`, or those that `--modeldir` finds; returns {metric: value}."""
    if args.modeldir:
        pairs = find_pairs(args.srcdir)
        network, settings = load(args)
        label_maps = model.predict_instances(network, pairs, args.ignore, settings)
    else:
        label_maps = instances.read_pairs(*args.instances, args.ignore)
    return report_numbers(instances.instance_score(label_maps, args.ignore), report)


def run_classes(args, report):
    """Score the classes that `--modeldir` finds; returns {metric: value}."""
    parts = ["labels"] if Path(args.srcdir, "labels").exists() else []
    samples = find_samples(args.srcdir, [*parts, "classes"])
    network, settings = load(args)
    if not network.classes:
        raise UserError(f"--classes: found a model without classes in {args.modeldir}, expected one with; name another")
    table = class_table(args.srcdir, network.classes)
    return report_numbers(model.score_classes(network, samples, table, args.ignore, settings), report)


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
    add("--threshold", type=bounded(float, above=0, below=1), help="probability of a lane pixel; default the model's")
    mean = "mean probability of an instance; default the model's"
    add("--confidence", type=bounded(float, least=0, below=1), metavar="P", help=mean)
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
    mode = choose_mode(args, parser.error)
    args.run, needs, uses = MODES[mode]
    for name, value in vars(args).items():
        if value not in (None, False) and name not in {*needs, *uses, "run"}:
            parser.error(f"--{name.replace('_', '-')}: found with {mode}, which has no use for it; leave it out")
    needs = [*needs, *(["srcdir"] if args.images else [])]
    for name in needs:
        if getattr(args, name) is None:
            parser.error(f"--{name}: found nothing, expected {' and '.join(f'--{need}' for need in needs)}")
    is_file = mode == "--modeldir"
    if is_file and args.out and (Path(args.out).is_dir() or not Path(args.out).absolute().parent.is_dir()):
        parser.error(f"--out: found no folder for {args.out}, or a folder of that name, expected a file to write")
    for flag, folder in (("--images", args.images), ("--out", None if is_file else args.out)):
        if folder and Path(folder).exists() and (not Path(folder).is_dir() or any(Path(folder).iterdir())):
            content = "files in" if Path(folder).is_dir() else "a file,"
            parser.error(f"{flag}: found {content} {folder}, expected a new or empty folder")
    return args


def choose_mode(args, fail):
    """Name of the mode, of `MODES`, that flags ask for; `fail` is called with what is wrong with them."""
    given = [name for name in ("pred", "modeldir", "culane", "instances") if getattr(args, name) is not None]
    if given == ["modeldir", "instances"] and not args.instances:
        return "--modeldir --instances"
    if len(given) != 1:
        fail(f"found {len(given)} of --pred, --modeldir, --culane and --instances, expected one")
    if given == ["instances"] and len(args.instances) != 2:
        fail(f"--instances: found {len(args.instances)} folders, expected two, or none with --modeldir")
    if given != ["modeldir"]:
        return f"--{given[0]}"
    if args.classes:
        return "--modeldir --classes"
    return "--modeldir on CULane" if str(args.labels).endswith(".txt") else "--modeldir"


LANES = {"images", "srcdir", "json", "verbose", "skip_empty_lanes"}
MODEL = {"modeldir", "srcdir", "bandwidth", "threshold", "confidence", "cluster", "int8", "json"}
ON_LANES = ("modeldir", "srcdir", "labels")
# {mode, as errors call it: (function (args, report) -> {metric: value}, flags it needs, flags it has a use for)}
MODES = {
    "--pred": (run_tusimple, ("pred", "gt"), LANES),
    "--modeldir": (run_tusimple, ON_LANES, {"out", "strict_time"} | MODEL | LANES),
    "--modeldir on CULane": (run_culane, ON_LANES, {"out", "verbose"} | MODEL),
    "--modeldir --instances": (run_instances, ("modeldir", "srcdir", "instances"), {"ignore"} | MODEL),
    "--modeldir --classes": (run_classes, ("modeldir", "srcdir", "classes"), {"ignore"} | MODEL),
    "--culane": (run_culane, ("culane",), {"list", "json", "verbose"}),
    "--instances": (run_instances, ("instances",), {"ignore", "json"}),
}


@command("evaluation")
def main(argv=None):
    args = parse_args(argv)
    score = args.run(args, partial(print, file=sys.stderr if args.json else sys.stdout))
    if args.json:
        orders = {name: "asc" if name in ("FP", "FN", "|DiC|") else "desc" for name in score}
        print(json.dumps([{"name": name, "value": score[name], "order": order} for name, order in orders.items()]))


if __name__ == "__main__":
    main()
