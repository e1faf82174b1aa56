"""The TuSimple rules one by one by hand."""

import json
import math

import pytest

from lanes import tusimple
from run.command import UserError

ROWS = list(range(160, 360, 10))  # 20 rows: 17 of them are exactly the 85 % of a found lane


def label(*xs, name="clips/a/20.jpg", rows=ROWS):
    return {"raw_file": name, "lanes": [list(x) for x in xs], "h_samples": list(rows)}


def prediction(*xs, name="clips/a/20.jpg", run_time=10):
    return {"raw_file": name, "lanes": [list(x) for x in xs], "run_time": run_time}


def vertical(x, absent=0):
    """A lane straight down at x, with its first `absent` rows missing."""
    return [-2] * absent + [x] * (len(ROWS) - absent)


def score(predicted, labeled, **options):
    return tuple(tusimple.tusimple_score([predicted], [labeled], **options).values())


SLANTED = [-2] * 4 + [300 + (y - 160) for y in ROWS[4:]]  # 45 degrees: a tolerance of 20 / cos = 28.28
FLAT = [1 + 6 * (y - 160) for y in ROWS]  # tolerance 20 * sqrt(37) = 121.7 reaches from -100 to x = 1
EMPTY, SINGLE, LANE = [-2] * 20, [-2] * 19 + [600], vertical(600)
SIX = [vertical(x) for x in (100, 300, 500, 700, 900, 1100)]


@pytest.mark.parametrize(
    ("predicted", "labeled", "expected"),
    [
        # a point is right below 20 pixels, not at 20; more where the valid points slant
        ([vertical(619)], [LANE], (1, 0, 0)),
        ([vertical(620)], [LANE], (0, 1, 1)),
        ([[x + 28 if x >= 0 else x for x in SLANTED]], [SLANTED], (1, 0, 0)),
        ([[x + 29 if x >= 0 else x for x in SLANTED]], [SLANTED], (4 / 20, 1, 1)),
        # absences agree, and an absence, any x below 0, is at -100
        ([vertical(600, absent=2)], [LANE], (18 / 20, 0, 0)),
        ([[-2, *FLAT[1:]]], [FLAT], (1, 0, 0)),
        ([[-7.5, *FLAT[1:]]], [FLAT], (1, 0, 0)),
        # fewer than two points have angle 0
        ([[-2] * 19 + [619]], [SINGLE], (1, 0, 0)),
        ([[-2] * 19 + [621]], [SINGLE], (19 / 20, 0, 0)),
        # a label without points counts as a lane
        ([LANE], [LANE, EMPTY], (0.5, 0, 0.5)),
        # a lane is found at 85 percent
        ([vertical(600, absent=3)], [LANE], (0.85, 0, 0)),
        ([vertical(600, absent=4)], [LANE], (0.80, 1, 1)),
        # the best prediction counts for each lane, so FP can be negative
        ([vertical(605)], [LANE, vertical(610)], (1, -1, 0)),
        # no prediction and no lane
        ([], [LANE], (0, 0, 1)),
        ([], [], (0, 0, 0)),
        ([LANE], [], (0, 1, 0)),
        # of five lanes the worst and one miss are forgiven; of six, too, and the rest is divided by 4
        (SIX[:4], SIX[:5], (1, 0, 0)),
        (SIX[:3], SIX[:5], (0.75, 0, 0.25)),
        (SIX, SIX, (1.25, 0, 0)),
        # three lanes too many score nothing
        ([LANE] * 4, [LANE], (0, 0, 1)),
    ],
)
def test_rules_by_hand(predicted, labeled, expected):
    assert score(prediction(*predicted), label(*labeled)) == pytest.approx(expected)


def test_too_slow_scores_nothing():
    assert score(prediction(LANE, run_time=200), label(LANE)) == (1, 0, 0)
    assert score(prediction(LANE, run_time=200.5), label(LANE)) == (0, 0, 1)
    assert score(prediction(LANE, run_time=999), label(LANE), time_limit=math.inf) == (1, 0, 0)


def test_means_over_images_in_any_order():
    truth = [label(LANE, name="a"), label(LANE, name="b", rows=range(500, 700, 10))]
    predictions = [prediction(vertical(600, absent=5), name="b"), prediction(LANE, name="a")]
    assert tusimple.tusimple_score(predictions, truth) == {"Accuracy": 0.875, "FP": 0.5, "FN": 0.5}


A, B = label(LANE, name="a"), label(LANE, name="b")


@pytest.mark.parametrize(
    ("predictions", "truth", "words"),
    [
        ("a", [A, B], "predictions: found 1 images, 2 in ground truth, b in one"),
        ("aa", [A, B], "predictions:2: found a again"),
        ("a", [A, A], "ground truth:2: found a again"),
        ("", [], "found 0 images"),
        ([prediction([5] * 19, name="a")], [A], "predictions: a: found other points"),
        ("a", [label(LANE[1:], name="a")], "ground truth: a: found other points"),
        ([{**prediction(LANE, name="a"), "h_samples": [y + 100 for y in ROWS]}], [A], "a: found other points"),
    ],
)
def test_what_does_not_fit_together_is_named(predictions, truth, words):
    if isinstance(predictions, str):
        predictions = [prediction(LANE, name=name) for name in predictions]
    with pytest.raises(UserError, match=words):
        tusimple.tusimple_score(predictions, truth)


def test_a_prediction_with_rows_of_its_own_is_compared_by_row():
    """Twice as many rows, the labeled ones among them: the values at the labeled rows count, not their order."""
    rows = sorted({*ROWS, *(y + 5 for y in ROWS)})
    slanted = {**prediction(rows), "h_samples": rows}
    assert score(slanted, label(ROWS)) == (1, 0, 0)
    assert score(slanted, label(rows[: len(ROWS)])) != (1, 0, 0)  # equal by order alone


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"raw_file": 7, "run_time": 1}, "no raw_file"),
        ({"run_time": None}, "no run_time"),
        ({"lanes": [["x"] * 20]}, "no lanes"),
        ({"h_samples": []}, "no h_samples"),
        ({"h_samples": [20, 10]}, "no h_samples"),
        ({"h_samples": ROWS[1:]}, "other points"),
    ],
)
def test_lines_that_are_not_as_the_format_says(tmp_path, change, words):
    (tmp_path / "a.json").write_text("\n" + json.dumps({**A, **change}) + "\n")
    with pytest.raises(UserError, match=rf"a\.json:2: found {words}"):
        tusimple.read_labels(tmp_path / "a.json")
