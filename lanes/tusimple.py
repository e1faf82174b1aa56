"""TuSimple's lanes: the files (one JSON object per image, x at given rows), the label images and the benchmark's rules.

    tusimple_score(read_labels("pred.json", PREDICTION_KEYS), read_labels("test_label.json"))

Accuracy, FP and FN are those of evaluate/lane.py in github.com/TuSimple/tusimple-benchmark, quirks included: FP can be
negative, and a label without a point counts as a lane, which only a prediction without a point finds. Repeated
images, which the benchmark adds up, are errors here.
"""

import json
import posixpath
from pathlib import Path

import cv2
import numpy as np

from lanes.curves import IMAGE_SIZE, lane_x
from run.command import UserError

ABSENT = -2  # TuSimple's x where a lane has no point
END_SLACK = 4.0  # rows: an end this close to a sample reaches it
THICKNESS = 7  # pixels of a drawn lane
LABEL_KEYS = ("raw_file", "lanes", "h_samples")
PREDICTION_KEYS = ("raw_file", "lanes", "run_time")
# The original's values for five lanes; further lanes get what lies between them, then the rest of 8 bits.
_FIRST = [*range(20, 256, 50), *range(45, 256, 50)]
GRAY_VALUES = (*_FIRST, *(value for value in range(1, 256) if value not in _FIRST))
PIXELS = 20.0  # a point is right if it is closer to the label than this, measured across the lane
FOUND = 0.85  # a lane is found if this fraction of its rows is right
TIME_LIMIT = 200.0  # milliseconds
METRICS = ("Accuracy", "FP", "FN")


def read_labels(path, keys=LABEL_KEYS):
    """Read a TuSimple file, labels or, with `PREDICTION_KEYS`, predictions: list of dicts in the order of the lines.

    Raises:
        UserError: the file can't be read, or its first line that can't be used.
    """
    entries = [entry for _, entry in read_lines(path, keys)]
    for entry in entries:
        if isinstance(entry, UserError):
            raise entry
    return entries


def read_lines(path, keys=LABEL_KEYS):
    """As `read_labels`, with the bad lines: list of (line number from 1, dict or UserError); without empty lines."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "found bytes that are no text"
        raise UserError(f"{path}: {reason}, expected one JSON object per line; name another file") from None
    lines = []
    for number, line in enumerate(text.split("\n"), start=1):
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
    """Read the classes of lanes: in the first line their names, in each other those of an image's lanes in their order.

        {"classes": {"1": "dashed", "2": "double dashed"}}
        {"raw_file": "clips/0313-1/6040/20.jpg", "classes": [1, 1, 2]}

    Returns:
        ({id: name}, {raw_file: list of ids}).

    Raises:
        UserError: the file can't be read, or a line says something else or an image again.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
        names, *entries = [json.loads(line) for line in lines if line.strip()] or [None]
        names, classes = {int(key): str(name) for key, name in names["classes"].items()}, {}
    except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path}: {type(error).__name__}: {error}, expected one JSON object per line, the first "
            '{"classes": {"1": "dashed", ...}}; name another file'
        ) from None
    for entry in entries:
        file, ids = (entry.get(key) if isinstance(entry, dict) else None for key in ("raw_file", "classes"))
        if type(file) is not str or file in classes or not are_classes(ids, names):
            raise UserError(
                f"{path}: found {json.dumps(entry)[:200]}, expected raw_file, each once, and classes, of "
                f"{', '.join(map(str, names))}; fix the line"
            )
        classes[file] = ids
    return names, classes


def are_classes(ids, names):
    """Whether what JSON gave is a list of ids of `read_lane_classes`."""
    return isinstance(ids, list) and all(type(identity) is int and identity in names for identity in ids)


def format_lines(entries):
    """Text of a TuSimple file of dicts: a line of JSON each."""
    return "".join(json.dumps(entry) + "\n" for entry in entries)


def require_own_lines(path, flag):
    """Raise UserError if there is a file to write lanes to that doesn't begin with such a line, as labels don't."""
    if not path or not Path(path).exists():
        return
    replaceable = Path(path).is_file()  # a pipe would be waited for, a device replaced
    try:
        if replaceable:
            with open(path, encoding="utf-8") as file:
                first = file.readline(2**20)
                replaceable = not first or "run_time" in json.loads(first)
    except (OSError, ValueError, RecursionError, TypeError):
        replaceable = False
    if not replaceable:
        raise UserError(f"{flag} {path}: found something else, expected no file or an earlier result; name another")


def check_line(entry, keys, where):
    """Raise UserError, with `where`, unless what JSON gave has the `keys`, of their types, and one x per rising row."""
    missing = [key for key in keys if not isinstance(entry, dict) or key not in entry]
    if missing:
        raise UserError(f"{where}: found no {missing[0]}, expected an object with {', '.join(keys)}; fix the line")
    rows, run_time = entry.get("h_samples", []), entry.get("run_time", 0)
    for right, expected in (
        (isinstance(entry["raw_file"], str), "raw_file to be a string"),
        (isinstance(entry["lanes"], list) and all(map(_is_row, entry["lanes"])), "lanes to be lists of numbers"),
        (_is_row(rows) and all(a < b for a, b in zip(rows, rows[1:], strict=False)), "h_samples to be rising numbers"),
        (type(run_time) in (int, float), "run_time to be a number of milliseconds"),
    ):
        if not right:
            raise UserError(f"{where}: found something else, expected {expected}; fix the line")
    if "h_samples" in keys:
        check_lengths(entry["lanes"], rows, where)


def check_lengths(lanes, rows, where):
    """Raise UserError unless every lane has one x per row."""
    wrong = [len(lane) for lane in lanes if len(lane) != len(rows)]
    if wrong or not rows:
        found = f"a lane of {wrong[0]} points" if wrong else "no h_samples"
        raise UserError(f"{where}: found {found}, expected one x per row of h_samples ({len(rows)}); fix the line")


def _is_row(value):
    return isinstance(value, list) and all(type(x) in (int, float) and abs(x) < 1e6 for x in value)  # NaN is not


def draw_label(label, shape=(720, 1280)):
    """`draw_lanes` of a TuSimple label, `THICKNESS` pixels wide."""
    rows = label["h_samples"]
    lanes = [[(x, y) for x, y in zip(lane, rows, strict=True) if x >= 0] for lane in label["lanes"]]
    return draw_lanes(lanes, shape, THICKNESS, label["raw_file"])


def draw_lanes(lanes, shape, thickness, where):
    """Draw lanes, each a list of points (x, y), as (h, w) uint8, lane i with value `GRAY_VALUES[i]`, background 0.

    Raises:
        UserError: more lanes than gray values; begins with `where`.
    """
    if len(lanes) > len(GRAY_VALUES):
        raise UserError(f"{where}: found {len(lanes)} lanes, expected at most {len(GRAY_VALUES)} gray values")
    image = np.zeros(shape, np.uint8)
    for points, gray in zip(lanes, GRAY_VALUES, strict=False):
        if len(points):
            cv2.polylines(image, [np.array(points, np.int32)], isClosed=False, color=gray, thickness=thickness)
    return image


def h_samples(height):
    """TuSimple's rows, 160, 170, ..., 710, for an image `height` pixels high instead of 720."""
    return list(range(height * 2 // 9 // 10 * 10, height, 10))


def lanes_to_tusimple(lanes, h_samples, image_size=IMAGE_SIZE):
    """x of `Lane`s at rows of an image of (height, width) pixels as TuSimple writes them.

    Returns:
        list of lists of int, one x per row: whole pixels, -2 where the lane is absent or outside the image.
    """
    rows = np.asarray(h_samples, float)
    result = []
    for lane in lanes:
        x = np.rint(lane_x(lane, rows))
        reached = (rows >= lane.top - END_SLACK) & (rows <= lane.bottom + END_SLACK)
        inside = (x >= 0) & (x <= image_size[1] - 1)
        result.append(np.where(reached & inside, x, ABSENT).astype(int).tolist())
    return result


def tusimple_line(raw_file, lanes, h_samples, run_time, image_size=IMAGE_SIZE):
    """One line of a TuSimple submission as a dict: `lanes_to_tusimple` of an image, found in `run_time` ms."""
    xs = lanes_to_tusimple(lanes, h_samples, image_size)
    return {"raw_file": raw_file, "lanes": xs, "h_samples": list(h_samples), "run_time": round(float(run_time), 3)}


def lane_scores(line, probability, image_size):
    """Mean lane probability at the points of each lane of a TuSimple line: list of float, 0 for one without a point.

    The probability, (H, W) of any size, shows the whole image, which is of (height, width) pixels.
    """
    rows = ((np.array(line["h_samples"]) + 0.5) * len(probability) / image_size[0]).astype(int)
    scores = []
    for lane in line["lanes"]:
        x = np.array(lane)
        columns = ((x + 0.5) * probability.shape[1] / image_size[1]).astype(int)
        values = probability[rows[x >= 0], columns[x >= 0]]
        scores.append(float(values.mean()) if len(values) else 0.0)
    return scores


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
    matched = np.count_nonzero(fractions >= FOUND)
    missed, total = true_count - matched, fractions.sum()
    if true_count > 4:
        missed, total = max(missed - 1, 0), total - fractions.min()
    counted = max(min(true_count, 4), 1)
    return total / counted, (count - matched) / count if count else 0.0, missed / counted


def check_once(ground_truth, name):
    """{raw_file: TuSimple dict}; raises UserError, which names the line of the file `name`, if one comes twice."""
    known = {}
    for number, entry in enumerate(ground_truth, start=1):
        if known.setdefault(posixpath.normpath(entry["raw_file"]), entry) is not entry:
            raise UserError(f"{name}:{number}: found {entry['raw_file']} again, expected it once; remove one")
    return {entry["raw_file"]: entry for entry in ground_truth}


def score_images(predictions, ground_truth, time_limit=TIME_LIMIT, names=("predictions", "ground truth")):
    """Accuracy, FP and FN of every image by the rules of TuSimple's evaluate/lane.py.

    Args:
        predictions: TuSimple dicts with raw_file, lanes and run_time (ms); see `lanes_at_rows`.
        ground_truth: TuSimple dicts with raw_file, lanes and h_samples.
        time_limit: ms; an image that took longer scores 0, 0, 1. math.inf for no limit.
        names: what errors call the two, for example their files.

    Returns:
        (N, 3) float64 in the order of the predictions.

    Raises:
        UserError: the two don't fit together; names the line (index + 1).
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
            raise UserError(f"{where}: found {name} {state}, expected each labeled image once; remove the line")
        rows = truth[name]["h_samples"]
        lanes = lanes_at_rows(entry, rows, where)
        predicted, labeled = (np.array(part, float).reshape(-1, len(rows)) for part in (lanes, truth[name]["lanes"]))
        scores[name] = _score_image(predicted, labeled, np.array(rows, float), entry["run_time"], time_limit)
    missing = [number for number, entry in enumerate(ground_truth, start=1) if entry["raw_file"] not in scores]
    if missing or not scores:
        first = f", first {names[1]}:{missing[0]}" if missing else ""
        raise UserError(
            f"{names[0]}: found {len(scores)} images, expected the {len(truth)} of {names[1]}; "
            f"predict all of them ({len(missing)} missing{first})"
        )
    return np.array(list(scores.values()))


def lanes_at_rows(entry, rows, where):
    """The lanes of a prediction at the rows of a label, lists of one x per row.

    As the benchmark has it, a lane has one x per row of the label; of a prediction with h_samples of its own, one x per
    row of these. Raises UserError for a lane of another length, or a row of the label that these h_samples lack.
    """
    given = entry.get("h_samples", rows)
    check_lengths(entry["lanes"], given, where)
    place = {y: index for index, y in enumerate(given)}
    if lacking := [y for y in rows if y not in place]:
        raise UserError(
            f"{where}: found h_samples without {lacking[0]}, expected the rows of the label, {rows[0]} to {rows[-1]}; "
            "predict at these rows"
        )
    return [[lane[place[y]] for y in rows] for lane in entry["lanes"]]


def tusimple_score(predictions, ground_truth, time_limit=TIME_LIMIT):
    """The TuSimple benchmark's result, {"Accuracy": ..., "FP": ..., "FN": ...}: means of `score_images`."""
    means = score_images(predictions, ground_truth, time_limit).mean(axis=0)
    return dict(zip(METRICS, means.tolist(), strict=True))


def worst_first(scores):
    """Order of (N, 3) scores by accuracy, then by FP + FN, worst first: (N,) indices."""
    return np.lexsort((-(scores[:, 1] + scores[:, 2]), scores[:, 0]))
