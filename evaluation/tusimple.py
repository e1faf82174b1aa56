"""The rules of the TuSimple benchmark.

    tusimple_score(read_labels("pred.json", PREDICTION_KEYS), read_labels("test_label.json"))

Accuracy, FP and FN are those of evaluate/lane.py in github.com/TuSimple/tusimple-benchmark, quirks included: FP can be
negative, and a label without a point counts as a lane, which only a prediction without a point finds. Repeated
images, which the benchmark adds up, are errors here.
"""

import posixpath

import numpy as np

from data.tusimple_dataset_processing import LABEL_KEYS, PREDICTION_KEYS, LabelError, check_lengths, check_line

PIXELS = 20.0  # a point is right if it is closer to the label than this, measured across the lane
FOUND = 0.85  # a lane is found if this fraction of its rows is right
TIME_LIMIT = 200.0  # milliseconds
NAMES = ("Accuracy", "FP", "FN")


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


def check_once(ground_truth, name):
    """{raw_file: TuSimple dict}; raises LabelError, which names the line of the file `name`, if one comes twice."""
    known = {}
    for number, entry in enumerate(ground_truth, start=1):
        if known.setdefault(posixpath.normpath(entry["raw_file"]), entry) is not entry:
            raise LabelError(f"{name}:{number}: found {entry['raw_file']} again, expected it once; remove one")
    return {entry["raw_file"]: entry for entry in ground_truth}


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
        LabelError: the two don't fit together; names the line (index + 1).
    """
    for number, entry in enumerate(ground_truth, start=1):
        check_line(entry, LABEL_KEYS, f"{names[1]}:{number}")
    truth, scores = check_once(ground_truth, names[1]), {}
    for number, entry in enumerate(predictions, start=1):
        where = f"{names[0]}:{number}"
        check_line(entry, PREDICTION_KEYS, where)
        name = entry["raw_file"]
        if name not in truth or name in scores:
            state = "again" if name in scores else f"which is not in {names[1]}"
            raise LabelError(f"{where}: found {name} {state}, expected each labeled image once; remove the line")
        rows = truth[name]["h_samples"]
        check_lengths(entry["lanes"], rows, where)
        predicted, labeled = (np.array(part["lanes"], float).reshape(-1, len(rows)) for part in (entry, truth[name]))
        scores[name] = _score_image(predicted, labeled, np.array(rows, float), entry["run_time"], time_limit)
    missing = [number for number, entry in enumerate(ground_truth, start=1) if entry["raw_file"] not in scores]
    if missing or not scores:
        first = f", first {names[1]}:{missing[0]}" if missing else ""
        raise LabelError(
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


def worst_first(scores):
    """Order of (N, 3) scores by accuracy, then by FP + FN, worst first: (N,) indices."""
    return np.lexsort((-(scores[:, 1] + scores[:, 2]), scores[:, 0]))
