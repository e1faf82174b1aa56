"""How good are lanes, by the TuSimple benchmark's own rules, and how good are instances?

    python -m evaluation --pred pred.json --gt test_label.json
    python -m evaluation --modeldir trained_model --srcdir tusimple/train_set --labels label_data_0313.json
    python -m evaluation --instances predicted_labels true_labels

The first scores a submission file. The second runs a model on the labeled images of a TuSimple folder and scores
that; `--out` writes the submission file. `--images` (both ways; needs `--srcdir`) writes the images with prediction
(orange) and label (blue) drawn over them, worst first. The third compares label maps (png; equal values = one instance,
0 = background) of the same name in two folders.

Accuracy, FP and FN are those of TuSimple's evaluate/lane.py, quirks included: FP can be negative, and a label without a
point counts as a lane, which only a prediction without a point finds (`--skip-empty-lanes` leaves such labels out;
`label_data_0313.json` has many). The benchmark also scores an image 0 that took over 200 ms; with `--modeldir` only
`--strict-time` does so. Repeated images, which the benchmark adds up, are errors here.
"""

import argparse
import contextlib
import functools
import json
import math
import sys
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

from evaluation import instances
from evaluation.tusimple import (
    NAMES,
    PREDICTION_KEYS,
    TIME_LIMIT,
    EvaluationError,
    read_tusimple,
    score_images,
)
from lanes.curves import fit_lanes
from lanes.tusimple import tusimple_line

ORANGE, BLUE = (255, 120, 0), (0, 160, 255)


def predict(model, srcdir, labels, **settings):
    """Run a model on the images of TuSimple labels.

    Args:
        model: keras.Model of `utils.load_model`.
        srcdir: folder that the labels' raw_file is relative to.
        labels: TuSimple dicts.
        settings: bandwidth, threshold, method and confidence of `segmentation.segment`.

    Returns:
        TuSimple dicts; run_time is that from the decoded image to the lanes, in ms.

    Raises:
        DataError: an image that is missing or can't be decoded.
    """
    from datagenerator import read_image
    from pipeline.segmentation import segment

    result = []
    for label in tqdm(labels, unit="image", dynamic_ncols=True):
        image = read_image(Path(srcdir) / label["raw_file"])
        if not result:
            segment(model, image, **settings)  # tracing is no part of the times
        size, start = image.shape[:2], time.perf_counter()
        found = fit_lanes(segment(model, image, **settings)[0], size)
        run_time = 1000 * (time.perf_counter() - start)
        result.append(tusimple_line(label["raw_file"], found, label["h_samples"], run_time, size))
    return result


def write_images(folder, srcdir, predictions, ground_truth, scores):
    """Draw labels (blue, wide) and predictions (orange, narrow) over the images: RANK_ACCURACY_NAME.jpg, worst first.

    Args:
        folder: to write to; made if absent.
        srcdir: folder that raw_file is relative to.
        predictions: TuSimple dicts.
        ground_truth: TuSimple dicts of the same images.
        scores: (N, 3) of `score_images`.
    """
    from datagenerator import read_image
    from visualization import draw_lanes, save_image

    Path(folder).mkdir(parents=True, exist_ok=True)
    truth = {entry["raw_file"]: entry for entry in ground_truth}
    for rank, index in enumerate(tqdm(worst_first(scores), unit="overlay", dynamic_ncols=True)):
        name = predictions[index]["raw_file"]
        rows = truth[name]["h_samples"]
        image = draw_lanes(read_image(Path(srcdir) / name), truth[name]["lanes"], rows, BLUE, 9)
        image = draw_lanes(image, predictions[index]["lanes"], rows, ORANGE, 3)
        flat = Path(name).with_suffix("").as_posix().replace("/", "-")
        save_image(Path(folder) / f"{rank:04d}_{scores[index, 0]:.3f}_{flat}.jpg", image)


def worst_first(scores):
    """Order of (N, 3) scores by accuracy, then by FP + FN, worst first: (N,) indices."""
    return np.lexsort((-(scores[:, 1] + scores[:, 2]), scores[:, 0]))


@contextlib.contextmanager
def _input_errors():
    """Errors of the modules that are imported only where needed become EvaluationError."""
    import utils
    from datagenerator import DataError  # first: says what cv2 needs

    try:
        yield
    except (DataError, utils.ModelError) as error:
        raise EvaluationError(str(error)) from None


def run_model(args):
    """Predictions and labels of `--modeldir`; writes `--out`."""
    import utils

    path = Path(args.labels) if Path(args.labels).is_file() else Path(args.srcdir) / args.labels
    ground_truth = read_tusimple(path)
    flags = {"bandwidth": args.bandwidth, "threshold": args.threshold, "method": args.cluster}
    settings = {name: value for name, value in flags.items() if value is not None}
    model = utils.load_model(args.modeldir)
    settings["confidence"] = utils.read_confidence(args.modeldir) if args.confidence is None else args.confidence
    predictions = predict(model, args.srcdir, ground_truth, **settings)
    if args.out:
        with utils.replacing(args.out) as temporary:
            Path(temporary).write_text("".join(json.dumps(entry) + "\n" for entry in predictions), encoding="utf-8")
    return predictions, ground_truth, (args.out or "prediction", path)


def run_tusimple(args, report):
    time_limit = TIME_LIMIT
    if args.modeldir:
        with _input_errors():
            predictions, ground_truth, names = run_model(args)
        if not args.strict_time:
            time_limit = math.inf
    else:
        names = (args.pred, args.gt)
        predictions, ground_truth = read_tusimple(args.pred, PREDICTION_KEYS), read_tusimple(args.gt)
    empty = sum(max(lane, default=-1) < 0 for entry in ground_truth for lane in entry["lanes"])
    if args.skip_empty_lanes:
        for entry in ground_truth:
            entry["lanes"] = [lane for lane in entry["lanes"] if max(lane) >= 0]
    scores = score_images(predictions, ground_truth, time_limit, names)
    if args.images:
        with _input_errors():
            write_images(args.images, args.srcdir, predictions, ground_truth, scores)

    if args.verbose:
        report("accuracy      FP      FN  time/ms  image")
        for index in worst_first(scores):
            accuracy, fp, fn = scores[index]
            entry = predictions[index]
            report(f"{accuracy:8.4f} {fp:7.4f} {fn:7.4f} {entry['run_time']:8.1f}  {entry['raw_file']}")
    means, intervals = scores.mean(axis=0), instances.bootstrap_intervals(scores)
    report(f"{len(scores)} images         95 % interval ({instances.RESAMPLES} bootstrap samples of the images)")
    for name, mean, (low, high) in zip(NAMES, means, intervals, strict=True):
        report(f"{name:9} {mean:7.4f}   {low:7.4f} .. {high:7.4f}")
    slow = sum(entry["run_time"] > TIME_LIMIT for entry in predictions)
    if slow:
        rule = "scored 0, 0, 1" if time_limit == TIME_LIMIT else "scored like the others, 0, 0, 1 with --strict-time"
        report(f"{slow} of {len(scores)} images took over {TIME_LIMIT:.0f} ms: {rule}")
    if empty:
        state = "left out" if args.skip_empty_lanes else "count as lanes, see --skip-empty-lanes"
        report(f"{empty} labeled lanes have no point: {state}")
    return dict(zip(NAMES, means.tolist(), strict=True))


def run_instances(args, report):
    with _input_errors():
        score = instances.instance_score(instances.read_pairs(*args.instances))
    for name, value in score.items():
        report(f"{name:9} {value:7.4f}")
    return score


def parse_args(argv=None):
    parser = argparse.ArgumentParser(
        prog="evaluation", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument_group("score a submission file").add_argument
    add("--pred", help="TuSimple submission: one JSON object per line with raw_file, lanes, run_time")
    add("--gt", help="TuSimple labels of the same images")
    add = parser.add_argument_group("run a model and score it").add_argument
    add("--modeldir", help="model folder or run folder")
    add("--srcdir", help="folder that the labels' raw_file is relative to")
    add("--labels", help="TuSimple label file, by itself or in --srcdir")
    add("--out", help="submission file to write")
    add("--bandwidth", type=float, help="of the mean shift; default that of inference.py")
    add("--threshold", type=float, help="lane probability that counts as lane; default that of inference.py")
    add("--confidence", type=float, metavar="P", help="mean lane probability an instance needs; default the model's")
    add("--cluster", choices=("fast", "sklearn"), help="mean shift; default that of inference.py")
    add("--strict-time", action="store_true", help="score images over 200 ms 0, 0, 1 as the benchmark does")
    add = parser.add_argument_group("score label maps").add_argument
    add("--instances", nargs=2, metavar=("PRED_DIR", "GT_DIR"), help="folders of png label maps of the same names")
    add = parser.add_argument_group("output").add_argument
    add("--json", action="store_true", help="print the benchmark's JSON list; all else goes to stderr")
    add("--verbose", action="store_true", help="print every image's score, worst first")
    add("--images", metavar="DIR", help="new or empty folder for images with prediction and label, worst first")
    add("--skip-empty-lanes", action="store_true", help="leave out labeled lanes without a point")
    args = parser.parse_args(argv)
    modes = {("pred", "gt"): args.pred, ("modeldir", "srcdir", "labels"): args.modeldir, ("instances",): args.instances}
    chosen = [flags for flags, value in modes.items() if value is not None]
    if len(chosen) != 1:
        parser.error(f"found {len(chosen)} of --pred, --modeldir and --instances, expected one")
    needed = {*chosen[0], *(("srcdir",) if args.images else ())}
    for flag in needed:
        if getattr(args, flag) is None:
            parser.error(f"--{flag}: found nothing, expected {' and '.join(f'--{name}' for name in sorted(needed))}")
    if args.bandwidth is not None and not 0 < args.bandwidth < math.inf:
        parser.error(f"--bandwidth: found {args.bandwidth}, expected a number above 0")
    if args.threshold is not None and not 0 < args.threshold < 1:
        parser.error(f"--threshold: found {args.threshold}, expected a probability between 0 and 1")
    if args.confidence is not None and not 0 <= args.confidence < 1:
        parser.error(f"--confidence: found {args.confidence}, expected a number from 0, all count, to below 1")
    if args.out and (Path(args.out).is_dir() or not Path(args.out).absolute().parent.is_dir()):
        parser.error(
            f"--out: found no folder for {args.out}, or a folder of that name, expected a file in an existing one"
        )
    folder = Path(args.images) if args.images else None
    if folder and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        found = "files in" if folder.is_dir() else "a file,"
        parser.error(f"--images: found {found} {folder}, expected a new or empty folder")
    return args


def main(argv=None):
    args = parse_args(argv)
    stream = sys.stderr if args.json else sys.stdout

    run = run_instances if args.instances else run_tusimple
    try:
        score = run(args, functools.partial(print, file=stream))
    except (EvaluationError, OSError) as error:
        print(f"evaluation: error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("evaluation: interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    if args.json:
        orders = {name: "asc" if name in ("FP", "FN", "|DiC|") else "desc" for name in score}
        print(json.dumps([{"name": name, "value": score[name], "order": order} for name, order in orders.items()]))


if __name__ == "__main__":
    main()
