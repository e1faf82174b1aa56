"""Shapes of annotations painted as pixels, against points in polygons and formulas of their own."""

import numpy as np
import pytest
from annotation_files import SIZE

from data.annotations import shapes
from run.command import UserError


def even_odd(points, size=SIZE):
    """Pixel centers from which a ray upwards crosses the outline an odd number of times."""
    x, y = np.meshgrid(np.arange(size[1]) + 0.5, np.arange(size[0]) + 0.5)
    inside = np.zeros(size, bool)
    for (ax, ay), (bx, by) in zip(points, np.roll(points, -1, axis=0), strict=True):
        if ax != bx:
            inside ^= (np.minimum(ax, bx) <= x) & (x < np.maximum(ax, bx)) & (ay + (x - ax) / (bx - ax) * (by - ay) < y)
    return inside


def whole(region, size=SIZE):
    mask, top, left = region
    image = np.zeros(size, bool)
    image[top : top + mask.shape[0], left : left + mask.shape[1]] = mask
    return image


def test_polygon_is_the_centers_inside():
    rng = np.random.default_rng(0)
    for number in range(200):
        points = rng.uniform((-20, -15), (80, 55), (rng.integers(3, 12), 2))  # crossing itself, partly outside
        if number % 3 == 0:
            points = np.round(points * 4) / 4 + (0.1, 0.0372)  # level and upright edges, repeated rows
        np.testing.assert_array_equal(whole(shapes.fill_polygon(points, SIZE)), even_odd(points))


def test_polygons_with_common_edges_neither_overlap_nor_leave_a_gap():
    """Corners on pixel centers too, where the rule has to decide."""
    rng = np.random.default_rng(1)
    for _ in range(50):
        middle = np.round(rng.uniform((10, 10), (50, 30)) * 2) / 2
        corners = np.array([[0, 0], [60, 0], [60, 40], [0, 40]])
        parts = [
            whole(shapes.fill_polygon(np.array([a, b, middle]), SIZE))
            for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True)
        ]
        assert (np.sum(parts, axis=0) == 1).all()


def test_box_ellipse_and_turned_box():
    expected = np.zeros(SIZE, bool)
    expected[5:12, 7:20] = True
    for corners in ((7, 5, 20, 12), (20, 12, 7, 5), (6.6, 4.6, 19.6, 12.4)):
        np.testing.assert_array_equal(whole(shapes.box(*corners)(SIZE)), expected)
    turned = shapes.box(20, 10, 40, 16, 90)(SIZE)  # around (30, 13)
    expected = np.zeros(SIZE, bool)
    expected[3:23, 27:33] = True
    np.testing.assert_array_equal(whole(turned), expected)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    u, v = (x - 50) * np.cos(0.5) + (y - 20) * np.sin(0.5), (y - 20) * np.cos(0.5) - (x - 50) * np.sin(0.5)
    expected = u**2 / 15**2 + v**2 / 6**2 < 1  # cut off by the image's right side
    ellipse = shapes.fill_ellipse(np.array([50.0, 20.0]), (15, 6), np.rad2deg(0.5), SIZE)
    np.testing.assert_array_equal(whole(ellipse), expected)
    # along the turned long axis it lies further down on the right, as x right and y down have it
    assert expected[26, 59] and not expected[14, 59]


def test_what_is_outside_has_no_pixel_and_what_is_far_outside_is_an_error():
    assert not whole(shapes.fill_polygon(np.array([[-9, -9], [-1, -9], [-1, -1.0]]), SIZE)).any()
    assert not whole(shapes.fill_polygon(np.array([[3.1, 3.1], [3.3, 3.1], [3.3, 3.3]]), SIZE)).any()
    assert not whole(shapes.draw_line(np.array([[-30.0, 5], [-30, 30]]), 3, SIZE)).any()
    assert whole(shapes.draw_line(np.array([[-30.0, 5], [30, 5]]), 3, SIZE))[4:7, :30].all()
    for region in (shapes.fill_polygon, lambda points, size: shapes.draw_line(points, 3, size)):
        with pytest.raises(ValueError, match=r"\(500, 3\)"):
            region(np.array([[3, 3], [500, 3], [3, 20.0]]), SIZE)


def test_later_shapes_lie_on_top_and_are_counted():
    def shape(instance, *corners):
        return shapes.AnnotatedShape(instance, ("a",), shapes.box(*corners))

    painted = shapes.paint(
        [
            shape("under", 0, 0, 10, 10),
            shape("hidden", 20, 20, 24, 24),
            shape("top", 5, 0, 15, 10),
            shape("over hidden", 18, 18, 26, 26),
            shape("outside", 70, 0, 80, 10),
            shape("top", 15, 0, 16, 1),  # the same instance as before
            shape("apart", 30, 30, 33, 33),
        ],
        SIZE,
    )
    expected = np.zeros(SIZE, np.uint16)
    expected[:10, :5], expected[:10, 5:15], expected[:1, 15:16] = 1, 2, 2
    expected[18:26, 18:26], expected[30:33, 30:33] = 3, 4
    np.testing.assert_array_equal(painted.label, expected)
    assert [*painted.counts.values()] == [1, 2] and painted.names == ["a"] * 4  # in part, wholly or outside
    assert shapes.count_touching(painted.label) == 2
    assert shapes.count_touching(np.array([[1, 0, 5], [0, 2, 0], [0, 0, 0], [9, 9, 0]])) == 3  # by corners


def test_16_bits_of_instances():
    many = [shapes.AnnotatedShape(number, (), shapes.box(0, 0, 1, 1), where="here") for number in range(65535)]
    with pytest.raises(UserError, match="here: found 65535 instances"):
        shapes.paint(many, SIZE)
