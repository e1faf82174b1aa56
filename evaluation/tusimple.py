"""TuSimple's files and the rules of its benchmark: read labels and predictions, score them.

    tusimple_score(read_tusimple("pred.json", PREDICTION_KEYS), read_tusimple("test_label.json"))

Accuracy, FP and FN are those of evaluate/lane.py in github.com/TuSimple/tusimple-benchmark, quirks included: FP can be
negative, and a label without a point counts as a lane, which only a prediction without a point finds. Repeated
images, which the benchmark adds up, are errors here.
"""

import json
import math
from pathlib import Path

import numpy as np

PIXELS = 20.0  # a point is right if it is closer to the label than this, measured across the lane
FOUND = 0.85  # a lane is found if this fraction of its rows is right
TIME_LIMIT = 200.0  # milliseconds
NAMES = ("Accuracy", "FP", "FN")
LABEL_KEYS = ("raw_file", "lanes", "h_samples")
PREDICTION_KEYS = ("raw_file", "lanes", "run_time")


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
            raise EvaluationError(f"{where}: found no JSON, expected one object per line; fix it") from None
        _check(entries[-1], keys, where)
    return entries


def _numbers(value):
    return isinstance(value, list) and all(type(x) in (int, float) and math.isfinite(x) for x in value)


def _check(entry, keys, where):
    """Raise EvaluationError unless a TuSimple dict has the keys, each of the right type."""
    missing = [key for key in keys if not isinstance(entry, dict) or key not in entry]
    if missing:
        raise EvaluationError(
            f"{where}: found no {missing[0]}, expected an object with {', '.join(keys)}; fix the line"
        )
    rows, run_time = entry.get("h_samples", []), entry.get("run_time", 0)
    for right, expected in (
        (isinstance(entry["raw_file"], str), "raw_file to be a string"),
        (isinstance(entry["lanes"], list) and all(map(_numbers, entry["lanes"])), "lanes to be lists of numbers"),
        (_numbers(rows), "h_samples to be a list of numbers"),
        (type(run_time) in (int, float), "run_time to be a number of milliseconds"),
    ):
        if not right:
            raise EvaluationError(f"{where}: found something else, expected {expected}; fix the line")
    if "h_samples" in keys:
        _check_lengths(entry, rows, where)


def _check_lengths(entry, rows, where):
    wrong = [len(lane) for lane in entry["lanes"] if len(lane) != len(rows)]
    if wrong or not rows:
        found = f"a lane of {wrong[0]} points" if wrong else "no h_samples"
        raise EvaluationError(
            f"{where}: found {found}, expected one x per row of h_samples ({len(rows)}); fix the line"
        )


def _score_image(predicted, labeled, rows, run_time, time_limit):
    """Accuracy, FP and FN of one image: predicted (P, R) and labeled (G, R) x, rows (R,)."""
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
    fractions = (right.sum(axis=2) / len(rows)).max(axis=1, initial=0)  # (G,)
    found = np.count_nonzero(fractions >= FOUND)
    missed, total = true_count - found, fractions.sum()
    if true_count > 4:
        missed, total = max(missed - 1, 0), total - fractions.min()
    counted = max(min(true_count, 4), 1)
    return total / counted, (count - found) / count if count else 0.0, missed / counted


def score_images(predictions, ground_truth, time_limit=TIME_LIMIT, names=("predictions", "ground truth")):
    """Accuracy, FP and FN of every image by the rules of TuSimple's evaluate/lane.py.

    Args:
        predictions: TuSimple dicts with raw_file, lanes and run_time (ms).
        ground_truth: TuSimple dicts with raw_file, lanes and h_samples, which are the rows of the prediction too.
        time_limit: ms; an image that took longer scores 0, 0, 1. math.inf for no limit.
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
            raise EvaluationError(f"{where}: found {name} {state}, expected each labeled image once; remove the line")
        rows = truth[name]["h_samples"]
        _check_lengths(entry, rows, where)
        predicted, labeled = (np.array(part["lanes"], float).reshape(-1, len(rows)) for part in (entry, truth[name]))
        scores[name] = _score_image(predicted, labeled, np.array(rows, float), entry["run_time"], time_limit)
    missing = [number for number, entry in enumerate(ground_truth, start=1) if entry["raw_file"] not in scores]
    if missing or not scores:
        first = f", first {names[1]}:{missing[0]}" if missing else ""
        raise EvaluationError(
            f"{names[0]}: found {len(scores)} images, expected the {len(truth)} of {names[1]}; "
            f"predict all of them ({len(missing)} missing{first})"
        )
    return np.array(list(scores.values()))


def tusimple_score(predictions, ground_truth, time_limit=TIME_LIMIT):
    """The TuSimple benchmark's result: means of `score_images`, which see, over the images.

    Returns:
        {"Accuracy": ..., "FP": ..., "FN": ...}, floats.
    """
    means = score_images(predictions, ground_truth, time_limit).mean(axis=0)
    return dict(zip(NAMES, means.tolist(), strict=True))
