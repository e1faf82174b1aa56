"""Scores of lanes, instances and classes.

    python -m evaluation --pred pred.json --gt test_label.json
    python -m evaluation --modeldir trained_model --srcdir tusimple/train_set --labels label_data_0313.json
    python -m evaluation --modeldir trained_model --srcdir culane --labels list/test.txt
    python -m evaluation --culane predicted_lines culane --list list/test.txt
    python -m evaluation --instances predicted_labels true_labels
    python -m evaluation --modeldir my_run --srcdir my_data --instances
    python -m evaluation --modeldir my_run --srcdir my_data --classes

Lanes are scored by TuSimple's rules, with a list that ends in .txt by CULane's. In label maps equal values are one
instance, 0 is background. Classes: IoU of the class maps; with `labels/` AP of each class, and how many of the true
instances have the right class by that of their pixels.

With `--modeldir` two more lines tell how well the scores of `inference.py --json` order right lanes before wrong ones,
and how far from their labels right ones end.

TuSimple's rules with their quirks: FP can be negative, and a label without a point counts as a lane. An image that took
over 200 ms scores 0; with `--modeldir` only by `--strict-time`.
"""

if __name__ == "__main__":
    from run.command import start

    start()

import contextlib
import json
import math
import sys
from pathlib import Path

import numpy as np

import utils
from data.files import class_table, find_file, find_pairs, find_samples
from evaluation import instances, model
from lanes import culane, tusimple
from lanes.tusimple import PREDICTION_KEYS, format_lines, read_labels, require_own_lines
from pipeline.segmentation import add_flags, load_network, read_settings, require_head
from run.command import UserError, bounded, command, make_parser


def load(args):
    settings = read_settings(args)
    network = load_network(args.modeldir, int8=args.int8)
    require_head(network, args)
    return network, settings


def find_lanes(args):
    """TuSimple dicts of what `--modeldir` finds, written to `--out`, and of labels; what errors call them."""
    path = find_file(args.srcdir, args.labels)
    labels = read_labels(path)
    tusimple.by_name(labels, path)
    if args.out and Path(args.out).resolve() == path.resolve():
        raise UserError(f"--out {args.out}: found the labels, expected another file; name one")
    require_own_lines(args.out, "--out")
    lines = model.predict_lanes(*load(args), args.srcdir, labels)
    if args.out:
        utils.write_text(args.out, format_lines(lines))
    return lines, labels, (args.out or "prediction", path)


def run_tusimple(args):
    """Score lanes, of `--pred` or of `--modeldir`, by TuSimple's rules."""
    if args.modeldir:
        lines, labels, names = find_lanes(args)
    else:
        lines, labels, names = read_labels(args.pred, PREDICTION_KEYS), read_labels(args.gt), (args.pred, args.gt)
    if args.skip_empty_lanes:
        labels = [{**label, "lanes": [lane for lane in label["lanes"] if max(lane) >= 0]} for label in labels]
    limit = tusimple.TIME_LIMIT if args.strict_time or args.pred else math.inf
    scores = tusimple.score_images(lines, labels, limit, names)
    truth = tusimple.by_name(labels, names[1])
    order = np.lexsort((-scores[:, 1] - scores[:, 2], scores[:, 0]))  # worst first
    ranking = [(scores[index], lines[index], truth[lines[index]["raw_file"]]) for index in order]
    if args.images:
        model.write_images(args.images, args.srcdir, ranking)

    if args.verbose:
        print("accuracy      FP      FN  time/ms  image")
        for numbers, line, _ in ranking:
            print("{:8.4f} {:7.4f} {:7.4f} {:8.1f}  {}".format(*numbers, line["run_time"], line["raw_file"]))
    print_scores(scores)
    has_lane = np.array([truth[line["raw_file"]]["lanes"] != [] for line in lines])
    if not has_lane.all():
        drawn = sum(any(max(lane) >= 0 for lane in lines[index]["lanes"]) for index in np.flatnonzero(~has_lane))
        print(f"a line on {drawn} of {sum(~has_lane)} images without a lane, whose Accuracy is 0; the others alone:")
        print_scores(scores[has_lane])
    if args.modeldir:
        right, ends = model.match_lanes(lines, truth)
        if lane_scores := [score for line in lines for score in line.get("scores", [])]:
            print(model.describe_scores(lane_scores, right))
        print(model.describe_ends(ends))
    if slow := sum(line["run_time"] > tusimple.TIME_LIMIT for line in lines):
        print(f"{slow} of {len(lines)} images took over 200 ms: the benchmark scores them 0, 0, 1, see --strict-time")
    if pointless := sum(max(lane) < 0 for label in labels for lane in label["lanes"]):
        print(f"{pointless} labeled lanes have no point and count as lanes, see --skip-empty-lanes")
    return dict(zip(tusimple.METRICS, scores.mean(axis=0).tolist(), strict=True))


def print_scores(scores):
    """Print the means of (N, 3) scores and their intervals."""
    print(f"{len(scores)} images         95 % interval ({instances.RESAMPLES} bootstrap samples of the images)")
    if len(scores):
        intervals = instances.bootstrap_intervals(scores)
        for name, mean, (low, high) in zip(tusimple.METRICS, scores.mean(axis=0), intervals, strict=True):
            print(f"{name:9} {mean:7.4f}   {low:7.4f} .. {high:7.4f}")


def run_culane(args):
    """Score CULane's lanes, of `--culane` or of `--modeldir`."""
    folder = args.culane[1] if args.culane else args.srcdir
    names = culane.read_list(find_file(folder, args.list or args.labels))
    labels = culane.read_lanes(folder, names)
    if args.culane:
        lanes = culane.read_lanes(args.culane[0], names)
    else:
        lanes = model.predict_culane(*load(args), folder, names)
        if args.out:
            culane.write_lanes(args.out, names, lanes)
    print(f"{len(names)} images")
    return culane.culane_score(culane.count_lanes(lanes, labels))


def run_instances(args):
    """Score the label maps of `--instances` or of `--modeldir`."""
    if args.modeldir:
        label_maps = model.predict_instances(*load(args), find_pairs(args.srcdir), args.ignore)
    else:
        label_maps = instances.read_pairs(*args.instances, args.ignore)
    return instances.instance_score(label_maps, args.ignore)


def run_classes(args):
    parts = ["labels"] if Path(args.srcdir, "labels").exists() else []
    samples = find_samples(args.srcdir, [*parts, "classes"])
    network, settings = load(args)
    if not network.classes:
        raise UserError(f"--classes: found no classes in {args.modeldir}, expected a model with classes; name one")
    table = class_table(args.srcdir, network.classes)
    return model.score_classes(network, settings, samples, table, args.ignore)


LANES = {"images", "srcdir", "json", "verbose", "skip_empty_lanes"}
MODEL = {"modeldir", "srcdir", "bandwidth", "threshold", "confidence", "cluster", "int8", "json"}
ON_LANES = ("modeldir", "srcdir", "labels")
# {mode in errors: (function args -> {metric: value}, flags it needs, flags it has a use for)}
MODES = {
    "--pred": (run_tusimple, ("pred", "gt"), LANES),
    "--modeldir": (run_tusimple, ON_LANES, {"out", "strict_time"} | MODEL | LANES),
    "--modeldir on CULane": (run_culane, ON_LANES, {"out"} | MODEL),
    "--modeldir --instances": (run_instances, ("modeldir", "srcdir", "instances"), {"ignore"} | MODEL),
    "--modeldir --classes": (run_classes, ("modeldir", "srcdir", "classes"), {"ignore"} | MODEL),
    "--culane": (run_culane, ("culane", "list"), {"json"}),
    "--instances": (run_instances, ("instances",), {"ignore", "json"}),
}


def parse_args(argv=None):
    """(Function of the mode, flags)."""
    parser = make_parser("evaluation", __doc__)
    add = parser.add_argument
    add("--pred", help="TuSimple submission: JSON lines with raw_file, lanes, run_time")
    add("--gt", help="TuSimple labels of the same images")
    add("--modeldir", help="model folder, or run folder: its best/, else its last/")
    add("--srcdir", help="folder that the labels' raw_file is relative to; with --instances a data folder")
    add("--labels", help="TuSimple label file or CULane list (.txt), in --srcdir or by itself")
    add("--out", help="submission file to write; new or empty folder for CULane's *.lines.txt")
    add_flags(add)
    add("--int8", action="store_true", help="the 8-bit network of python -m export --int8")
    add("--strict-time", action="store_true", help="score images over 200 ms 0, 0, 1 as the benchmark does")
    add("--culane", nargs=2, metavar=("PRED_DIR", "GT_DIR"), help="folders of *.lines.txt of the same names")
    add("--list", metavar="FILE", help="images to score, in GT_DIR or by itself")
    add("--instances", nargs="*", metavar="DIR", help="PRED_DIR GT_DIR, of label maps; none: --modeldir's")
    add("--ignore", type=bounded(int, least=1, most=65535), metavar="ID", help="label value to ignore")
    add("--classes", action="store_true", help="score the classes that --modeldir finds, by --srcdir's classes/")
    add("--json", action="store_true", help="print the benchmark's JSON list; all else goes to stderr")
    add("--verbose", action="store_true", help="print every image's score, worst first")
    add("--images", metavar="DIR", help="new or empty folder for images with prediction and label")
    add("--skip-empty-lanes", action="store_true", help="leave out labeled lanes without a point")
    args = parser.parse_args(argv)

    if args.modeldir is None:
        mode = "--culane" if args.culane else "--pred" if args.instances is None else "--instances"
    elif args.instances == []:
        mode = "--modeldir --instances"
    elif args.classes:
        mode = "--modeldir --classes"
    else:
        mode = "--modeldir on CULane" if str(args.labels).endswith(".txt") else "--modeldir"
    run, needs, uses = MODES[mode]
    for name, value in vars(args).items():
        if value not in (None, False) and name not in {*needs, *uses}:
            parser.error(f"--{name.replace('_', '-')}: found with {mode}, which has no use for it; leave it out")
    for name in (*needs, "srcdir") if args.images else needs:
        if getattr(args, name) is None:
            parser.error(f"--{name}: found nothing, expected {' and '.join(f'--{need}' for need in needs)}; see --help")
    if mode == "--instances" and len(args.instances) != 2:
        parser.error(f"--instances: found {len(args.instances)} folders, expected two, or none with --modeldir")
    if args.out and not Path(args.out).absolute().parent.is_dir():
        parser.error(f"--out: found no folder for {args.out}, expected an existing one")
    for flag, folder in (("--images", args.images), ("--out", args.out if run == run_culane else None)):
        if folder and Path(folder).exists() and (not Path(folder).is_dir() or any(Path(folder).iterdir())):
            parser.error(f"{flag}: found something in {folder}, expected a new or empty folder")
    return run, args


@command("evaluation")
def main(argv=None):
    run, args = parse_args(argv)
    with contextlib.redirect_stdout(sys.stderr if args.json else sys.stdout):
        score = run(args)
        if run != run_tusimple:
            for name, value in score.items():
                print(f"{name:30} {round(value, 4)}")
    if args.json:
        orders = {name: "asc" if name in ("FP", "FN", "|DiC|") else "desc" for name in score}
        print(json.dumps([{"name": name, "value": score[name], "order": order} for name, order in orders.items()]))


if __name__ == "__main__":
    main()
