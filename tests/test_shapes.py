"""Shapes as pixels, against points in polygons and formulas."""

import numpy as np
import pytest
from annotation_files import SIZE
from numpy.testing import assert_array_equal

from data.annotations import shapes
from run.command import UserError


def even_odd(points, size=SIZE):
    """Pixel centers from which a ray upwards crosses the outline at odd times."""
    x, y = np.meshgrid(np.arange(size[1]) + 0.5, np.arange(size[0]) + 0.5)
    inside = np.zeros(size, bool)
    for (ax, ay), (bx, by) in zip(points, np.roll(points, -1, axis=0), strict=True):
        if ax != bx:
            inside ^= (np.minimum(ax, bx) <= x) & (x < np.maximum(ax, bx)) & (ay + (x - ax) / (bx - ax) * (by - ay) < y)
    return inside


def whole(region, *points):
    mask, top, left = region(*points, SIZE)
    image = np.zeros(SIZE, bool)
    image[top : top + mask.shape[0], left : left + mask.shape[1]] = mask
    return image


def test_polygon_is_the_centers_inside():
    rng = np.random.default_rng(0)
    for number in range(200):
        points = rng.uniform((-20, -15), (80, 55), (rng.integers(3, 12), 2))  # crossing itself, partly outside
        if number % 3 == 0:
            points = np.round(points * 4) / 4 + (0.1, 0.0372)  # level and upright edges, repeated rows
        assert_array_equal(whole(shapes.fill_polygon, points), even_odd(points))


def test_polygons_with_common_edges_neither_overlap_nor_leave_a_gap():
    """Corners on pixel centers, too."""
    rng = np.random.default_rng(1)
    corners = np.array([[0, 0], [60, 0], [60, 40], [0, 40]])
    for _ in range(50):
        middle = np.round(rng.uniform((10, 10), (50, 30)) * 2) / 2
        triangles = [np.array([*pair, middle]) for pair in zip(corners, np.roll(corners, -1, axis=0), strict=True)]
        assert (sum(whole(shapes.fill_polygon, points).astype(int) for points in triangles) == 1).all()


def test_box_ellipse_and_turned_box():
    expected, turned = np.zeros((2, *SIZE), bool)
    expected[5:12, 7:20] = turned[3:23, 27:33] = True
    for corners in ((7, 5, 20, 12), (20, 12, 7, 5), (6.6, 4.6, 19.6, 12.4)):
        assert_array_equal(whole(shapes.box(*corners)), expected)
    assert_array_equal(whole(shapes.box(20, 10, 40, 16, 90)), turned)  # around (30, 13)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    u, v = (x - 50) * np.cos(0.5) + (y - 20) * np.sin(0.5), (y - 20) * np.cos(0.5) - (x - 50) * np.sin(0.5)
    expected = u**2 / 15**2 + v**2 / 6**2 < 1  # cut off by the image's right side
    ellipse = whole(shapes.fill_ellipse, np.array([50.0, 20.0]), (15, 6), np.rad2deg(0.5))
    assert_array_equal(ellipse, expected)


def test_what_is_outside_has_no_pixel_and_what_is_far_outside_is_an_error():
    for points in ([[-9, -9], [-1, -9], [-1, -1]], [[3.1, 3.1], [3.3, 3.1], [3.3, 3.3]]):
        assert not whole(shapes.fill_polygon, np.array(points)).any()
    assert not whole(shapes.draw_line, np.array([[-30, 5], [-30, 30]]), 3).any()
    assert whole(shapes.draw_line, np.array([[-30, 5], [30, 5]]), 3)[4:7, :30].all()
    for region, more in ((shapes.fill_polygon, ()), (shapes.draw_line, (3,))):
        with pytest.raises(ValueError, match=r"\(500, 3\)"):
            whole(region, np.array([[3, 3], [500, 3], [3, 20]]), *more)


def test_later_shapes_lie_on_top_and_16_bits_hold_the_instances():
    boxes = [
        ("under", 0, 0, 10, 10),
        ("hidden", 20, 20, 24, 24),
        ("top", 5, 0, 15, 10),
        ("over hidden", 18, 18, 26, 26),
        ("outside", 70, 0, 80, 10),
        ("top", 15, 0, 16, 1),  # the same instance as before
        ("apart", 30, 30, 33, 33),
    ]
    label, names = shapes.paint([shapes.AnnotatedShape(name, "a", shapes.box(*box)) for name, *box in boxes], SIZE)
    expected = np.zeros(SIZE, np.uint16)
    expected[:10, :5], expected[:10, 5:15], expected[:1, 15:16] = 1, 2, 2
    expected[18:26, 18:26], expected[30:33, 30:33] = 3, 4
    assert_array_equal(label, expected)
    assert names == ["a"] * 4
    many = [shapes.AnnotatedShape(number, None, shapes.box(0, 0, 1, 1), where="here") for number in range(65535)]
    with pytest.raises(UserError, match="here: found 65535 instances"):
        shapes.paint(many, SIZE)
