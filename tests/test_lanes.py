"""Lanes of label maps drawn from known curves: exact, damaged, and real."""

import cv2
import numpy as np
import pytest

from lanes.curves import fit_lanes, lane_x
from lanes.tusimple import draw_label, lane_scores, read_labels, tusimple_line, tusimple_score

ROWS = list(range(160, 720, 10))
HORIZON = 200.0
sizes = pytest.mark.parametrize("size", [(256, 512), (512, 512)])


def road_lane(position, bend=0.0):
    """x(y) of a line on a flat road: `position` is dx/dy where it is straight, `bend` its curvature."""
    return lambda y: 640 + position * (y - HORIZON) + bend * 25 / np.maximum(y - HORIZON, 1)


def draw(curves, size=(256, 512), top=240, bottom=719):
    """Label map of lines, id 20, 70, ..., as the data script draws and the pipeline shrinks them."""
    canvas = np.zeros((720, 1280), np.uint8)
    for index, curve in enumerate(curves):
        y = np.arange(top, bottom + 1, 5)
        points = np.stack([curve(y), y], axis=1)
        points = points[(points[:, 0] >= 0) & (points[:, 0] < 1280)]
        cv2.polylines(canvas, [np.rint(points).astype(np.int32)], False, 50 * index + 20, 7)
    return cv2.resize(canvas, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT).astype(np.int32)


def found_x(label_map):
    """(lanes, `ROWS`) x."""
    return np.array(tusimple_line("", fit_lanes(label_map), ROWS, 0)["lanes"], float).reshape(-1, len(ROWS))


def matches(found, curves, top=240, pixels=6.0, least=0.97, beyond=1):
    """Whether each curve has a lane near it on `least` of the rows from top on, and at most `beyond` rows more."""
    rows = np.array(ROWS)[: found.shape[1]]
    left = list(found)
    for curve in curves:
        x = curve(rows.astype(float))
        seen = (rows >= top) & (x >= 0) & (x <= 1279)
        slope = np.abs(np.gradient(x, rows))
        fractions = [np.mean(((lane >= 0) & (np.abs(lane - x) < pixels * np.hypot(1, slope)))[seen]) for lane in left]
        if max(fractions, default=0) < least or ((left.pop(np.argmax(fractions)) >= 0) & ~seen).sum() > beyond:
            return False
    return not left


FOUR = [road_lane(position, 150) for position in (-3.0, -1.1, 0.7, 2.4)]


@sizes
@pytest.mark.parametrize("bend", [0, 300, -300])
def test_clean_lanes_of_every_shape(size, bend):
    curves = [road_lane(position, bend) for position in (-3.0, -1.1, 0.0, 0.7, 2.4)]
    assert matches(found_x(draw(curves, size)), curves, pixels=4)


@sizes
def test_no_shift_between_network_and_image(size):
    curves = [road_lane(position) for position in (-0.8, 0.1, 0.9)]
    for lane in fit_lanes(draw(curves, size)):
        y = np.arange(260.0, 700.0)
        difference = min((lane_x(lane, y) - curve(y) for curve in curves), key=lambda d: np.abs(d).mean())
        assert np.abs(difference).mean() < 0.5 and np.abs(difference).max() < 1.5


def test_image_size_scales_the_result():
    small, large = fit_lanes(draw(FOUR), image_size=(360, 640)), fit_lanes(draw(FOUR), image_size=(720, 1280))
    assert len(small) == len(large) == 4
    y = np.arange(260.0, 700.0)
    for a, b in zip(small, large, strict=True):
        np.testing.assert_allclose(2 * lane_x(a, (y + 0.5) / 2 - 0.5) + 0.5, lane_x(b, y), atol=0.05)
    line = tusimple_line("a.jpg", small, range(0, 450, 5), 12.3456, (360, 640))
    x = np.array(line.pop("lanes"))
    assert x.max() <= 639 and x.min() == -2 and (x[:, :22] == -2).all() and (x[:, 73:] == -2).all()
    assert line == {"raw_file": "a.jpg", "h_samples": list(range(0, 450, 5)), "run_time": 12.346}


def ends(found):
    """First and last rows of lanes, (lanes,) each, in rising order."""
    rows = [np.array(ROWS)[lane >= 0] for lane in found]
    return np.sort([row[0] for row in rows]), np.sort([row[-1] for row in rows])


@sizes
def test_nothing_above_the_farthest_evidence(size):
    for top in (240, 300, 431):
        first, _ = ends(found_x(draw(FOUR[1:3], size, top=top)))
        assert (first >= top - 6).all() and (first <= top + 10).all()


@pytest.mark.parametrize("end", [480, 600, 700])
def test_ends_where_its_pixels_end(end):
    """Below may be the own car's hood, or no paint."""
    curves = [road_lane(-1.0), road_lane(0.6), road_lane(2.0)]
    x = found_x(draw(curves, bottom=end))
    low, *lowest = ends(x)[1]
    assert lowest == [end, end] and min(end, 520) - low in (0, 10)  # 2.0 leaves at the right border, row 520
    assert matches(x[:, np.array(ROWS) <= end], curves)


@sizes
def test_goes_on_downwards_where_the_network_finds_lane_likelier_than_not(size):
    """To row 620, and not beyond rows that it doubts."""
    curves, likely = [road_lane(-1.0), road_lane(0.6)], np.full((*size, 1), -0.1)
    likely[draw(curves, size, bottom=620) > 0] = 0.1
    label_map = draw(curves, size, bottom=480)
    for logits, lowest in ((None, 480), (likely, 620), (-abs(likely), 480)):
        lanes = fit_lanes(label_map, logits=logits)
        assert [abs(lane.bottom - lowest) < 5 for lane in lanes] == [True, True], lowest
        np.testing.assert_array_equal(lanes[0].coefficients, fit_lanes(label_map)[0].coefficients)
    likely[int(550 / 720 * size[0])] = -0.1
    assert all(abs(lane.bottom - 550) < 5 for lane in fit_lanes(label_map, logits=likely))


def test_best_lanes_first_and_no_more_than_asked():
    label_map = draw([*FOUR, road_lane(0.0, 150)])
    support = [lane.support for lane in fit_lanes(label_map)]
    assert len(support) == 5 and support == sorted(support, reverse=True)
    assert [lane.support for lane in fit_lanes(label_map, max_lanes=3)] == support[:3]


short = draw([road_lane(2.0)], bottom=300)  # 60 rows seen of 280 down to the border
NOTHING = [np.zeros((256, 512), int), np.ones((256, 512), int), np.eye(3, dtype=np.uint8), short]


@pytest.mark.parametrize("label_map", NOTHING)
def test_maps_without_a_lane(label_map):
    assert fit_lanes(label_map) == []


def test_ids_and_types_do_not_matter():
    base = draw(FOUR)
    expected = found_x(base)
    for other in (base.astype(np.uint8), base * 1000003, np.where(base > 0, base - 300, 0)):
        np.testing.assert_array_equal(found_x(other), expected)


def test_what_is_no_lane_is_dropped():
    label_map = draw(FOUR[1:3])
    expected = found_x(label_map)
    cv2.ellipse(label_map, (60, 200), (30, 22), 0, 0, 360, 201, -1)  # blob
    cv2.ellipse(label_map, (480, 200), (10, 40), 0, 0, 360, 202, -1)  # tall blob
    cv2.line(label_map, (100, 238), (400, 252), 203, 3)  # bonnet edge
    cv2.rectangle(label_map, (400, 100), (403, 110), 204, -1)  # dash of a few pixels
    rng = np.random.default_rng(0)
    label_map[rng.integers(90, 256, 80), rng.integers(0, 512, 80)] = 205  # scattered pixels
    np.testing.assert_allclose(found_x(label_map), expected, atol=2)


@pytest.mark.parametrize(
    ("damage", "options"),
    [
        ("strays of the lanes' own ids", {}),
        ("dashes", {"top": 270, "least": 0.85}),
        ("bumps", {"pixels": 8, "top": 250}),
        ("two ids and a gap", {}),
        ("two ids side by side", {}),
        ("touching near the horizon", {"top": 270, "beyond": 5}),
        ("two lanes of one id", {}),
    ],
)
def test_damaged_lanes_are_found(damage, options):
    label_map, rng = draw(FOUR), np.random.default_rng(5)
    if damage == "strays of the lanes' own ids":
        for _ in range(60):
            y, x = rng.integers(60, 250), rng.integers(0, 508)
            label_map[y : y + 3, x : x + 3] = rng.choice([20, 70, 120, 170])
        cv2.circle(label_map, (256, 220), 20, 70, -1)
    elif damage == "dashes":
        for start in range(88, 256, 14):
            label_map[start : start + 8] = 0
    elif damage == "bumps":
        noise = [cv2.GaussianBlur(rng.normal(size=(256, 512)), (0, 0), 4) * 12 for _ in range(2)]
        y, x = np.mgrid[:256, :512]
        places = np.float32(x + noise[0]), np.float32(y + noise[1] / 3)
        label_map = cv2.remap(label_map.astype(np.uint8), *places, cv2.INTER_NEAREST)
    elif damage == "two ids side by side":
        for value in (20, 70, 120, 170):
            for row in np.flatnonzero((label_map == value).any(axis=1)):
                columns = np.flatnonzero(label_map[row] == value)
                label_map[row, columns[len(columns) // 2 :]] += 5
    elif damage == "touching near the horizon":
        label_map = draw(FOUR, top=225)
        label_map[:92] = 70 * (cv2.dilate(np.uint8(label_map[:92] > 0), np.ones((3, 5))) > 0)
    elif damage == "two lanes of one id":
        label_map[label_map == 20] = 170
    else:  # two ids and a gap
        label_map[130:] += 5 * (label_map[130:] > 0)
        label_map[130:142] = 0
    assert matches(found_x(label_map), FOUR, **options)


def test_pieces_of_different_lines_are_not_joined():
    upper, lower = road_lane(0.5), road_lane(1.3)
    label_map = draw([upper], top=240, bottom=400) + draw([lower], top=440, bottom=719) * 2
    assert len(fit_lanes(label_map)) == 2


def test_lanes_never_cross():
    crossing = draw([lambda y: 740 - 0.9 * (y - 400)], top=320, bottom=480)
    assert len(fit_lanes(crossing)) == 1
    found = fit_lanes(np.where(crossing > 0, 99, draw([road_lane(0.5)], top=300)))
    assert len(found) == 1
    np.testing.assert_allclose(lane_x(found[0], [400.0, 600.0]), [740, 840], atol=4)


@sizes
@pytest.mark.parametrize(("pattern", "step"), [("tusimple/*/label_data_*.json", 1), ("tusimple_labels/*.json", 20)])
def test_true_label_maps_score_almost_one(shared_data, size, pattern, step):
    entries = [entry for path in sorted(shared_data.glob(pattern)) for entry in read_labels(path)]
    truth, predictions = [], []
    for number, entry in enumerate(entries[::step]):
        lanes = [lane for lane in entry["lanes"] if max(lane) >= 0]
        truth.append({**entry, "raw_file": str(number), "lanes": lanes})
        label_map = cv2.resize(draw_label(truth[-1]), size[::-1], interpolation=cv2.INTER_NEAREST)
        predictions.append(tusimple_line(str(number), fit_lanes(label_map), entry["h_samples"], 1.0))
    score = tusimple_score(predictions, truth)
    assert score["Accuracy"] >= 0.985 and score["FP"] <= 0.02 and score["FN"] <= 0.02, score


def test_no_lane_is_continued_across_another():
    label_map = draw([road_lane(0.2)])
    label_map[draw([lambda y: 480 + 0.9 * (y - HORIZON)], bottom=380) > 0] = 120  # continued, it meets the other
    bottoms = sorted(lane.bottom for lane in fit_lanes(label_map, logits=np.ones((256, 512, 1))))
    assert len(bottoms) == 2 and bottoms[0] < 390 and bottoms[1] > 700


def test_scores_are_the_probability_along_the_lanes():
    """Of a map of 2x4 pixels each is 10x10 of the image."""
    probability = np.array([[0.1, 0.2, 0.3, 0.4], [0.5, 0.6, 0.7, 0.8]])
    line = {"lanes": [[0, 9, 10, 39], [-2, 25, -2, 25], [-2] * 4], "h_samples": [0, 9, 10, 19]}
    scores = lane_scores(line, probability, (20, 40))
    np.testing.assert_allclose(scores, [(0.1 + 0.1 + 0.6 + 0.8) / 4, (0.3 + 0.7) / 2, 0])
