"""TuSimple's lanes: the files (one JSON object per image, x at given rows), label images and the benchmark's rules.

Accuracy, FP and FN are those of evaluate/lane.py in github.com/TuSimple/tusimple-benchmark, but repeated images, which
it adds up, are errors.
"""

import contextlib
import json
from pathlib import Path

import cv2
import numpy as np

from data.files import read_text
from lanes.curves import IMAGE_SIZE, lane_x
from run.command import UserError

ABSENT = -2  # TuSimple's x where a lane has no point
END_SLACK = 4.0  # rows: an end this close to a sample reaches it
THICKNESS = 7  # pixels of a drawn lane
LABEL_KEYS = ("raw_file", "lanes", "h_samples")
PREDICTION_KEYS = ("raw_file", "lanes", "run_time")
# The original's values for five lanes, then what lies between them, then the rest of 8 bits.
GRAY_VALUES = tuple(dict.fromkeys([*range(20, 256, 50), *range(45, 256, 50), *range(1, 256)]))
PIXELS = 20.0  # a point is right if it is closer to the label than this, measured across the lane
FOUND = 0.85  # a lane is found if this fraction of its rows is right
TIME_LIMIT = 200.0  # milliseconds
METRICS = ("Accuracy", "FP", "FN")


def read_labels(path, keys=LABEL_KEYS):
    """Read a TuSimple file, labels or, with `PREDICTION_KEYS`, predictions: list of dicts; raises UserError."""
    entries = [entry for _, entry in read_lines(path, keys)]
    for entry in entries:
        if isinstance(entry, UserError):
            raise entry
    return entries


def read_lines(path, keys=LABEL_KEYS):
    """As `read_labels`, with the bad lines: list of (line number from 1, dict or UserError)."""
    lines = []
    for number, line in enumerate(read_text(path, "one JSON object per line").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            check_line(entry, keys, f"{path}:{number}")
        except UserError as error:
            entry = error
        except (ValueError, RecursionError):
            entry = UserError(f"{path}:{number}: found no JSON, expected one object per line; fix it")
        lines.append((number, entry))
    return lines


def read_lane_classes(path):
    """Read the classes of lanes: ({id: name}, {raw_file: list of ids}), the latter unchecked; raises UserError.

    {"classes": {"1": "dashed", "2": "double dashed"}}
    {"raw_file": "clips/20.jpg", "classes": [1, 1, 2]}
    """
    lines = read_text(path).splitlines()
    try:
        names, *entries = [json.loads(line) for line in lines if line.strip()]
        names = {int(key): str(name) for key, name in names["classes"].items()}
        classes = {entry["raw_file"]: entry["classes"] for entry in entries}
        if len(classes) != len(entries):
            raise ValueError("an image twice")
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
        expected = 'a line {"classes": {"1": NAME, ...}}, then of each image {"raw_file": NAME, "classes": [1, ...]}'
        raise UserError(f"{path}: {type(error).__name__}: {error}, expected {expected}; fix it") from None
    return names, classes


def are_classes(ids, names):
    """Whether what JSON gave is a list of `names`, ints."""
    return isinstance(ids, list) and all(type(identity) is int and identity in names for identity in ids)


def format_lines(entries):
    """Text of a TuSimple file of dicts."""
    return "".join(json.dumps(entry) + "\n" for entry in entries)


def require_own_lines(path, flag):
    """Raise UserError if there is a file other than of lanes to write lanes to."""
    if not path or not Path(path).exists():
        return
    with contextlib.suppress(ValueError, RecursionError, TypeError):
        first = read_text(path).partition("\n")[0]
        if not first or "run_time" in json.loads(first):
            return
    raise UserError(f"{flag} {path}: found something else, expected no file or a result; name another")


def _is_row(value):
    return isinstance(value, list) and all(type(x) in (int, float) and abs(x) < 1e6 for x in value)  # NaN is not


FORMAT = {  # of a line: whether a value is right, what it is
    "raw_file": (lambda value: isinstance(value, str), "a string"),
    "lanes": (lambda value: isinstance(value, list) and all(map(_is_row, value)), "lists of numbers"),
    "h_samples": (lambda value: _is_row(value) and value and sorted({*value}) == value, "rising numbers"),
    "run_time": (lambda value: type(value) in (int, float), "a number of milliseconds"),
}


def check_line(entry, keys, where):
    """Raise UserError unless what JSON gave has the `keys` of `FORMAT`, and one x per row."""
    entry = entry if isinstance(entry, dict) else {}
    for key, (is_right, expected) in FORMAT.items():
        if (key in keys or key in entry) and not is_right(entry.get(key)):
            raise UserError(f"{where}: found no {key} ({expected}), expected {', '.join(keys)}; fix the line")
    if "h_samples" in keys:
        lanes_at_rows(entry, entry["h_samples"], where)


def draw_label(label, shape=IMAGE_SIZE):
    """`draw_lanes` of a TuSimple label."""
    rows = label["h_samples"]
    lanes = [[(x, y) for x, y in zip(lane, rows, strict=True) if x >= 0] for lane in label["lanes"]]
    return draw_lanes(lanes, shape, THICKNESS, label["raw_file"])


def draw_lanes(lanes, shape, thickness, where):
    """Draw lanes, lists of points (x, y), as (h, w) uint8, lane i with `GRAY_VALUES[i]`; raises UserError."""
    if len(lanes) > len(GRAY_VALUES):
        raise UserError(f"{where}: found {len(lanes)} lanes, expected at most {len(GRAY_VALUES)}")
    image = np.zeros(shape, np.uint8)
    for points, gray in zip(lanes, GRAY_VALUES, strict=False):
        if len(points):
            cv2.polylines(image, [np.array(points, np.int32)], isClosed=False, color=gray, thickness=thickness)
    return image


def h_samples(height):
    """Rows for an image of this height, of 720 TuSimple's: 160, 170, ..., 710."""
    return list(range(height * 2 // 9 // 10 * 10, height, 10))


def tusimple_line(raw_file, lanes, h_samples, run_time, image_size=IMAGE_SIZE):
    """TuSimple dict of the `Lane`s of an image of (height, width) pixels; `run_time` in ms."""
    rows, xs = np.asarray(h_samples, float), []
    for lane in lanes:
        x = np.rint(lane_x(lane, rows))
        reached = (rows >= lane.top - END_SLACK) & (rows <= lane.bottom + END_SLACK)
        inside = (x >= 0) & (x <= image_size[1] - 1)
        xs.append(np.where(reached & inside, x, ABSENT).astype(int).tolist())
    return {"raw_file": raw_file, "lanes": xs, "h_samples": list(h_samples), "run_time": round(float(run_time), 3)}


def lane_scores(line, probability, image_size):
    """Means of a probability (H, W) of a whole image along the lanes of a TuSimple dict, 0 without a point."""
    rows = ((np.array(line["h_samples"]) + 0.5) * len(probability) / image_size[0]).astype(int)
    scores = []
    for x in map(np.array, line["lanes"]):
        columns = ((x + 0.5) * probability.shape[1] / image_size[1]).astype(int)
        values = probability[rows[x >= 0], columns[x >= 0]]
        scores.append(float(values.mean()) if len(values) else 0.0)
    return scores


def right_fractions(predicted, labeled, rows):
    """Fraction of the rows (R,) where predicted lanes, x (P, R), lie on labeled ones (G, R): (G, P)."""
    valid = labeled >= 0
    points = np.maximum(valid.sum(axis=1, keepdims=True), 1)
    y = np.where(valid, rows - (valid * rows).sum(axis=1, keepdims=True) / points, 0)
    x = np.where(valid, labeled - np.where(valid, labeled, 0).sum(axis=1, keepdims=True) / points, 0)
    spread = (y * y).sum(axis=1)
    slope = np.divide((x * y).sum(axis=1), spread, out=np.zeros(len(labeled)), where=spread > 0)
    reach = PIXELS / np.cos(np.arctan(slope))
    predicted, labeled = np.where(predicted >= 0, predicted, -100), np.where(valid, labeled, -100)
    right = np.abs(predicted - labeled[:, None]) < reach[:, None, None]  # (G, P, R)
    return right.sum(axis=2) / len(rows)


def _score_image(predicted, labeled, rows, run_time, time_limit):
    """Accuracy, FP and FN of one image: predicted (P, R) and labeled (G, R) x, rows (R,)."""
    count, true_count = len(predicted), len(labeled)
    if run_time > time_limit or count > true_count + 2:
        return 0.0, 0.0, 1.0
    fractions = right_fractions(predicted, labeled, rows).max(axis=1, initial=0)  # (G,)
    matched = np.count_nonzero(fractions >= FOUND)
    missed, total = true_count - matched, fractions.sum()
    if true_count > 4:
        missed, total = max(missed - 1, 0), total - fractions.min()
    counted = max(min(true_count, 4), 1)
    return total / counted, (count - matched) / count if count else 0.0, missed / counted


def by_name(entries, where):
    """{raw_file: TuSimple dict}; raises UserError if the file `where` has an image twice."""
    known = {}
    for number, entry in enumerate(entries, start=1):
        if entry["raw_file"] in known:
            raise UserError(f"{where}:{number}: found {entry['raw_file']} again, expected it once; remove one")
        known[entry["raw_file"]] = entry
    return known


def score_images(predictions, ground_truth, time_limit=TIME_LIMIT, names=("predictions", "ground truth")):
    """Accuracy, FP and FN of every image, (N, 3) float64 in the order of the predictions; both are TuSimple dicts.

    Raises UserError if the two, called `names`, don't fit together.
    """
    found, truth = (by_name(*part) for part in zip((predictions, ground_truth), names, strict=True))
    if found.keys() != truth.keys() or not truth:
        alone = sorted(found.keys() ^ truth.keys())[:1]
        state = f"{len(found)} images, {len(truth)} in {names[1]}, {' '.join(alone)} in one only"
        raise UserError(f"{names[0]}: found {state}, expected the same images; predict all of them, no others")
    scores = []
    for name, entry in found.items():
        rows = truth[name]["h_samples"]
        parts = zip((entry, truth[name]), names, strict=True)
        lanes = [lanes_at_rows(part, rows, f"{file}: {name}") for part, file in parts]
        predicted, labeled = (np.array(part, float).reshape(-1, len(rows)) for part in lanes)
        scores.append(_score_image(predicted, labeled, np.array(rows, float), entry["run_time"], time_limit))
    return np.array(scores)


def lanes_at_rows(entry, rows, where):
    """The lanes of a TuSimple dict at the rows of a label, lists of one x per row.

    A lane must have an x for each, or for each of the dict's h_samples, the rows among them; else UserError.
    """
    given = entry.get("h_samples", rows)
    if not {*rows} <= {*given} or any(len(lane) != len(given) for lane in entry["lanes"]):
        raise UserError(f"{where}: found other points, expected an x for each of h_samples, the label's among them")
    chosen = [given.index(y) for y in rows]
    return [[lane[index] for index in chosen] for lane in entry["lanes"]]


def tusimple_score(predictions, ground_truth, time_limit=TIME_LIMIT):
    """Means of `score_images`, {"Accuracy": ..., "FP": ..., "FN": ...}."""
    means = score_images(predictions, ground_truth, time_limit).mean(axis=0)
    return dict(zip(METRICS, means.tolist(), strict=True))
