"""How good are lanes, by the TuSimple benchmark's own rules, and how good are instances?

    python evaluation.py --pred pred.json --gt test_label.json
    python evaluation.py --modeldir trained_model --srcdir tusimple/train_set --labels label_data_0313.json
    python evaluation.py --instances predicted_labels true_labels

The first scores a submission file. The second runs a model on the labeled pictures of a TuSimple folder and scores
that; `--out` writes the submission file. `--pictures` (both ways; needs `--srcdir`) writes the pictures with prediction
(orange) and label (blue) drawn over them, worst first. The third compares label maps (png; equal values = one instance,
0 = background) of the same name in two folders.

Accuracy, FP and FN are those of TuSimple's evaluate/lane.py, quirks included: FP can be negative, and a label without a
point counts as a lane, which only a prediction without a point finds (`--skip-empty-lanes` leaves such labels out;
`label_data_0313.json` has many). The benchmark also scores a picture 0 that took over 200 ms; with `--modeldir` only
`--strict-time` does so. Repeated pictures, which the benchmark adds up, are errors here.
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

import lanes
import metrics

PIXELS = 20.0  # a point is right if it is closer to the label than this, measured across the lane
FOUND = 0.85  # a lane is found if this share of its rows is right
TIME_LIMIT = 200.0  # milliseconds
NAMES = ("Accuracy", "FP", "FN")
LABEL_KEYS = ("raw_file", "lanes", "h_samples")
PREDICTION_KEYS = ("raw_file", "lanes", "run_time")
ORANGE, BLUE = (255, 120, 0), (0, 160, 255)


class EvaluationError(ValueError):
    """Input that can't be scored; the message names the file and, for TuSimple files, the line."""


def read_tusimple(path, keys=LABEL_KEYS):
    """Read TuSimple labels or predictions, one JSON object per line.

    Args:
        path: the file.
        keys: what every line must hold, `LABEL_KEYS` or `PREDICTION_KEYS`.

    Returns:
        list of dicts; line number = index + 1.

    Raises:
        EvaluationError: no such file, or a line that can't be used; names the file and the line.
    """
    try:
        texts = Path(path).read_text(encoding="utf-8").rstrip().split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "found bytes that are no text"
        raise EvaluationError(f"{path}: {reason}, expected one JSON object per line; name another file") from None
    entries = []
    for number, text in enumerate(texts, start=1):
        where = f"{path}:{number}"
        try:
            entries.append(json.loads(text))
        except (ValueError, RecursionError):
            raise EvaluationError(f"{where}: found no JSON, expected one object per line; mend it") from None
        _check(entries[-1], keys, where)
    return entries


def _numbers(value):
    return isinstance(value, list) and all(type(x) in (int, float) and math.isfinite(x) for x in value)


def _check(entry, keys, where):
    """Raise EvaluationError unless a TuSimple dict has the keys, each of the right type."""
    missing = [key for key in keys if not isinstance(entry, dict) or key not in entry]
    if missing:
        raise EvaluationError(
            f"{where}: found no {missing[0]}, expected an object with {', '.join(keys)}; mend the line"
        )
    rows, run_time = entry.get("h_samples", []), entry.get("run_time", 0)
    for right, expected in (
        (isinstance(entry["raw_file"], str), "raw_file to be a string"),
        (isinstance(entry["lanes"], list) and all(map(_numbers, entry["lanes"])), "lanes to be lists of numbers"),
        (_numbers(rows), "h_samples to be a list of numbers"),
        (type(run_time) in (int, float), "run_time to be a number of milliseconds"),
    ):
        if not right:
            raise EvaluationError(f"{where}: found something else, expected {expected}; mend the line")
    if "h_samples" in keys:
        _check_lengths(entry, rows, where)


def _check_lengths(entry, rows, where):
    wrong = [len(lane) for lane in entry["lanes"] if len(lane) != len(rows)]
    if wrong or not rows:
        found = f"a lane of {wrong[0]} points" if wrong else "no h_samples"
        raise EvaluationError(
            f"{where}: found {found}, expected one x per row of h_samples ({len(rows)}); mend the line"
        )


def _score_picture(predicted, labeled, rows, run_time, time_limit):
    """Accuracy, FP and FN of one picture: predicted (P, R) and labeled (G, R) x, rows (R,)."""
    count, true_count = len(predicted), len(labeled)
    if run_time > time_limit or count > true_count + 2:
        return 0.0, 0.0, 1.0
    valid = labeled >= 0
    points = np.maximum(valid.sum(axis=1, keepdims=True), 1)
    y = np.where(valid, rows - (valid * rows).sum(axis=1, keepdims=True) / points, 0)
    x = np.where(valid, labeled - np.where(valid, labeled, 0).sum(axis=1, keepdims=True) / points, 0)
    spread = (y * y).sum(axis=1)
    slope = np.divide((x * y).sum(axis=1), spread, out=np.zeros(true_count), where=spread > 0)
    reach = PIXELS / np.cos(np.arctan(slope))
    predicted, labeled = np.where(predicted >= 0, predicted, -100), np.where(valid, labeled, -100)
    right = np.abs(predicted - labeled[:, None]) < reach[:, None, None]  # (G, P, R)
    shares = (right.sum(axis=2) / len(rows)).max(axis=1, initial=0)  # (G,)
    found = np.count_nonzero(shares >= FOUND)
    missed, total = true_count - found, shares.sum()
    if true_count > 4:
        missed, total = max(missed - 1, 0), total - shares.min()
    counted = max(min(true_count, 4), 1)
    return total / counted, (count - found) / count if count else 0.0, missed / counted


def score_pictures(predictions, ground_truth, time_limit=TIME_LIMIT, names=("predictions", "ground truth")):
    """Accuracy, FP and FN of every picture by the rules of TuSimple's evaluate/lane.py.

    Args:
        predictions: TuSimple dicts with raw_file, lanes and run_time (ms).
        ground_truth: TuSimple dicts with raw_file, lanes and h_samples, which are the rows of the prediction too.
        time_limit: ms; a picture that took longer scores 0, 0, 1. math.inf for no limit.
        names: what errors call the two, for example their files.

    Returns:
        (N, 3) float64 in the order of the predictions.

    Raises:
        EvaluationError: the two don't fit together; names the line (index + 1).
    """
    truth, scores = {}, {}
    for number, entry in enumerate(ground_truth, start=1):
        _check(entry, LABEL_KEYS, f"{names[1]}:{number}")
        if truth.setdefault(entry["raw_file"], entry) is not entry:
            raise EvaluationError(f"{names[1]}:{number}: found {entry['raw_file']} again, expected it once; remove one")
    for number, entry in enumerate(predictions, start=1):
        where = f"{names[0]}:{number}"
        _check(entry, PREDICTION_KEYS, where)
        name = entry["raw_file"]
        if name not in truth or name in scores:
            state = "again" if name in scores else f"which is not in {names[1]}"
            raise EvaluationError(f"{where}: found {name} {state}, expected each labeled picture once; remove the line")
        rows = truth[name]["h_samples"]
        _check_lengths(entry, rows, where)
        predicted, labeled = (np.array(part["lanes"], float).reshape(-1, len(rows)) for part in (entry, truth[name]))
        scores[name] = _score_picture(predicted, labeled, np.array(rows, float), entry["run_time"], time_limit)
    missing = [number for number, entry in enumerate(ground_truth, start=1) if entry["raw_file"] not in scores]
    if missing or not scores:
        first = f", first {names[1]}:{missing[0]}" if missing else ""
        raise EvaluationError(
            f"{names[0]}: found {len(scores)} pictures, expected the {len(truth)} of {names[1]}; "
            f"predict all of them ({len(missing)} missing{first})"
        )
    return np.array(list(scores.values()))


def tusimple_score(predictions, ground_truth, time_limit=TIME_LIMIT):
    """The TuSimple benchmark's result: means of `score_pictures`, which see, over the pictures.

    Returns:
        {"Accuracy": ..., "FP": ..., "FN": ...}, floats.
    """
    means = score_pictures(predictions, ground_truth, time_limit).mean(axis=0)
    return dict(zip(NAMES, means.tolist(), strict=True))


def predict(model, srcdir, labels, **settings):
    """Run a model on the pictures of TuSimple labels.

    Args:
        model: keras.Model of `utils.load_model`.
        srcdir: folder that the labels' raw_file is relative to.
        labels: TuSimple dicts.
        settings: bandwidth, threshold and method of `inference.segment`.

    Returns:
        TuSimple dicts; run_time is that from the decoded picture to the lanes, in ms.

    Raises:
        DataError: a picture that is missing or can't be decoded.
    """
    from datagenerator import read_picture
    from inference import segment

    result = []
    for label in tqdm(labels, unit="picture", dynamic_ncols=True):
        picture = read_picture(Path(srcdir) / label["raw_file"])
        if not result:
            segment(model, picture, **settings)  # tracing is no part of the times
        size, start = picture.shape[:2], time.perf_counter()
        found = lanes.fit_lanes(segment(model, picture, **settings)[0], size)
        run_time = 1000 * (time.perf_counter() - start)
        result.append(lanes.tusimple_line(label["raw_file"], found, label["h_samples"], run_time, size))
    return result


def write_pictures(folder, srcdir, predictions, ground_truth, scores):
    """Draw labels (blue, wide) and predictions (orange, narrow) over the pictures: RANK_ACCURACY_NAME.jpg, worst first.

    Args:
        folder: to write to; made if absent.
        srcdir: folder that raw_file is relative to.
        predictions: TuSimple dicts.
        ground_truth: TuSimple dicts of the same pictures.
        scores: (N, 3) of `score_pictures`.
    """
    from datagenerator import read_picture
    from visualization import draw_lanes, save_picture

    Path(folder).mkdir(parents=True, exist_ok=True)
    truth = {entry["raw_file"]: entry for entry in ground_truth}
    for rank, index in enumerate(tqdm(worst_first(scores), unit="overlay", dynamic_ncols=True)):
        name = predictions[index]["raw_file"]
        rows = truth[name]["h_samples"]
        picture = draw_lanes(read_picture(Path(srcdir) / name), truth[name]["lanes"], rows, BLUE, 9)
        picture = draw_lanes(picture, predictions[index]["lanes"], rows, ORANGE, 3)
        flat = Path(name).with_suffix("").as_posix().replace("/", "-")
        save_picture(Path(folder) / f"{rank:04d}_{scores[index, 0]:.3f}_{flat}.jpg", picture)


def worst_first(scores):
    """Order of (N, 3) scores by accuracy, then by FP + FN, worst first: (N,) indices."""
    return np.lexsort((-(scores[:, 1] + scores[:, 2]), scores[:, 0]))


@contextlib.contextmanager
def _input_errors():
    """Errors of the modules that are imported only where needed become EvaluationError."""
    from inference import DataError, utils  # the first import of TensorFlow must be inference's, which sets it up

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
    scores = score_pictures(predictions, ground_truth, time_limit, names)
    if args.pictures:
        with _input_errors():
            write_pictures(args.pictures, args.srcdir, predictions, ground_truth, scores)

    if args.verbose:
        report("accuracy      FP      FN  time/ms  picture")
        for index in worst_first(scores):
            accuracy, fp, fn = scores[index]
            entry = predictions[index]
            report(f"{accuracy:8.4f} {fp:7.4f} {fn:7.4f} {entry['run_time']:8.1f}  {entry['raw_file']}")
    means, intervals = scores.mean(axis=0), metrics.bootstrap_intervals(scores)
    report(f"{len(scores)} pictures         95 % interval ({metrics.RESAMPLES} bootstrap samples of the pictures)")
    for name, mean, (low, high) in zip(NAMES, means, intervals, strict=True):
        report(f"{name:9} {mean:7.4f}   {low:7.4f} .. {high:7.4f}")
    slow = sum(entry["run_time"] > TIME_LIMIT for entry in predictions)
    if slow:
        rule = "scored 0, 0, 1" if time_limit == TIME_LIMIT else "scored like the others, 0, 0, 1 with --strict-time"
        report(f"{slow} of {len(scores)} pictures took over {TIME_LIMIT:.0f} ms: {rule}")
    if empty:
        state = "left out" if args.skip_empty_lanes else "count as lanes, see --skip-empty-lanes"
        report(f"{empty} labeled lanes have no point: {state}")
    return dict(zip(NAMES, means.tolist(), strict=True))


def run_instances(args, report):
    with _input_errors():
        score = metrics.instance_score(metrics.read_pairs(*args.instances))
    for name, value in score.items():
        report(f"{name:9} {value:7.4f}")
    return score


def parse_args(argv=None):
    parser = argparse.ArgumentParser(
        prog="evaluation.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument_group("score a submission file").add_argument
    add("--pred", help="TuSimple submission: one JSON object per line with raw_file, lanes, run_time")
    add("--gt", help="TuSimple labels of the same pictures")
    add = parser.add_argument_group("run a model and score it").add_argument
    add("--modeldir", help="model folder or run folder")
    add("--srcdir", help="folder that the labels' raw_file is relative to")
    add("--labels", help="TuSimple label file, by itself or in --srcdir")
    add("--out", help="submission file to write")
    add("--bandwidth", type=float, help="of the mean shift; default that of inference.py")
    add("--threshold", type=float, help="lane probability that counts as lane; default that of inference.py")
    add("--cluster", choices=("fast", "sklearn"), help="mean shift; default that of inference.py")
    add("--strict-time", action="store_true", help="score pictures over 200 ms 0, 0, 1 as the benchmark does")
    add = parser.add_argument_group("score label maps").add_argument
    add("--instances", nargs=2, metavar=("PRED_DIR", "GT_DIR"), help="folders of png label maps of the same names")
    add = parser.add_argument_group("output").add_argument
    add("--json", action="store_true", help="print the benchmark's JSON list; all else goes to stderr")
    add("--verbose", action="store_true", help="print every picture's score, worst first")
    add("--pictures", metavar="DIR", help="new or empty folder for pictures with prediction and label, worst first")
    add("--skip-empty-lanes", action="store_true", help="leave out labeled lanes without a point")
    args = parser.parse_args(argv)
    modes = {("pred", "gt"): args.pred, ("modeldir", "srcdir", "labels"): args.modeldir, ("instances",): args.instances}
    chosen = [flags for flags, value in modes.items() if value is not None]
    if len(chosen) != 1:
        parser.error(f"found {len(chosen)} of --pred, --modeldir and --instances, expected one")
    needed = {*chosen[0], *(("srcdir",) if args.pictures else ())}
    for flag in needed:
        if getattr(args, flag) is None:
            parser.error(f"--{flag}: found nothing, expected {' and '.join(f'--{name}' for name in sorted(needed))}")
    if args.bandwidth is not None and not 0 < args.bandwidth < math.inf:
        parser.error(f"--bandwidth: found {args.bandwidth}, expected a number above 0")
    if args.threshold is not None and not 0 < args.threshold < 1:
        parser.error(f"--threshold: found {args.threshold}, expected a probability between 0 and 1")
    if args.out and (Path(args.out).is_dir() or not Path(args.out).absolute().parent.is_dir()):
        parser.error(
            f"--out: found no folder for {args.out}, or a folder of that name, expected a file in an existing one"
        )
    folder = Path(args.pictures) if args.pictures else None
    if folder and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        found = "files in" if folder.is_dir() else "a file,"
        parser.error(f"--pictures: found {found} {folder}, expected a new or empty folder")
    return args


def main(argv=None):
    args = parse_args(argv)
    stream = sys.stderr if args.json else sys.stdout

    run = run_instances if args.instances else run_tusimple
    try:
        score = run(args, functools.partial(print, file=stream))
    except (EvaluationError, OSError) as error:
        print(f"evaluation.py: error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("evaluation.py: interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    if args.json:
        orders = {name: "asc" if name in ("FP", "FN", "|DiC|") else "desc" for name in score}
        print(json.dumps([{"name": name, "value": score[name], "order": order} for name, order in orders.items()]))


if __name__ == "__main__":
    main()
