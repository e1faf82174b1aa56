"""Tiles: they cover the image, and what lies across them is one instance."""

import cv2
import keras
import numpy as np
import pytest
from keras import layers
from scipy import ndimage

from datagenerator import View
from pipeline.segmentation import Network, segment_outputs, segment_tiles
from pipeline.tiles import join_tiles, tile_starts


@pytest.mark.parametrize(
    ("length", "tile", "overlap"), [(100, 40, 10), (101, 40, 10), (64, 64, 16), (50, 64, 16), (65, 64, 16)]
)
def test_tiles_cover_the_side_with_their_overlap(length, tile, overlap):
    starts = tile_starts(length, tile, overlap)
    seen = np.zeros(length, bool)
    for start in starts:
        seen[start : start + tile] = True
    assert seen.all() and starts[0] == 0 and starts[-1] == max(length - tile, 0)
    assert all(b - a <= tile - overlap for a, b in zip(starts, starts[1:], strict=False))
    assert len(starts) == 1 or (len(starts) - 1) * (tile - overlap) + overlap < length  # one fewer would not do


def cut(truth, tile, overlap, rng):
    """Tiles of a label map, each with ids of its own."""
    for top in tile_starts(truth.shape[0], tile, overlap):
        for left in tile_starts(truth.shape[1], tile, overlap):
            part = truth[top : top + tile, left : left + tile]
            ids = np.unique(part[part > 0])
            table = np.zeros(truth.max() + 1, int)
            table[ids] = rng.permutation(len(ids)) + 1
            yield top, left, table[part]


def same_partition(a, b):
    pairs = np.unique(np.stack([a.ravel(), b.ravel()]), axis=1)
    return len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1] and ((a > 0) == (b > 0)).all()


def test_an_object_across_four_tiles_is_one():
    truth = np.zeros((100, 100), np.int32)
    cv2.circle(truth, (50, 50), 30, 1, -1)  # larger than the overlap, in all four tiles
    cv2.circle(truth, (12, 12), 8, 2, -1)
    found = join_tiles(cut(truth, 56, 12, np.random.default_rng(0)), truth.shape)
    assert found.dtype == np.int32 and found.max() == 2
    np.testing.assert_array_equal(found, truth)  # the larger comes first


@pytest.mark.parametrize("seed", range(5))
def test_touching_cells_over_many_tiles(seed):
    """A Voronoi diagram: all pixels belong to some cell, all neighbors touch."""
    rng = np.random.default_rng(seed)
    seeds = np.zeros((150, 190), int)
    places = rng.choice(seeds.size, 60, replace=False)
    seeds.ravel()[places] = np.arange(1, 61)
    nearest = ndimage.distance_transform_edt(seeds == 0, return_distances=False, return_indices=True)
    truth = seeds[tuple(nearest)]
    truth[:, 100:104] = 0
    found = join_tiles(cut(truth, 64, 20, rng), truth.shape)
    assert same_partition(found, truth) and found.max() == len(np.unique(truth)) - 1
    sizes = np.bincount(found.ravel())[1:]
    assert (np.diff(sizes) <= 0).all()


def test_neighbors_that_only_touch_in_the_overlap_stay_apart():
    left, right = np.zeros((40, 60), int), np.zeros((40, 60), int)
    left[:, 30:50] = 1  # up to the middle of the overlap, columns 40 to 59
    right[:, 10:40] = 1  # from there on
    found = join_tiles([(0, 0, left), (0, 40, right)], (40, 100))
    expected = np.zeros((40, 100), int)
    expected[:, 30:50], expected[:, 50:80] = 2, 1
    np.testing.assert_array_equal(found, expected)


def gray_network(side, view):
    """Gray values are the embeddings and tell the class, and 0 is background."""
    image = keras.Input(shape=(None, None, 3))
    gray = layers.Rescaling(0.1)(image[..., :1])
    classes = layers.Concatenate()([gray, 13 - gray])
    outputs = {"embedding": gray, "semantic": 100 * gray - 50, "classes": classes}
    network = Network(keras.Model(image, outputs), (side, side), view)
    network.classes = {"bright": False, "dark": False}
    return network


def test_a_network_of_crops_takes_large_images_in_tiles():
    network = gray_network(32, View("crop"))
    truth = np.zeros((150, 130), np.uint8)
    for number, center in enumerate([(20, 20), (64, 75), (100, 30), (110, 120), (8, 140)]):
        cv2.circle(truth, center, 5 + 3 * number, 50 + 40 * number, -1)
    painted = cv2.merge([truth] * 3)
    for height, width in ((60, 64), (150, 130)):
        _, found = segment_outputs(network, painted[:height, :width])
        assert found.shape == (height, width) and same_partition(found, truth[:height, :width].astype(int))
    outputs, found = segment_tiles(network, painted)
    np.testing.assert_allclose(outputs["semantic"][:, :, 0], 10.0 * truth - 50, rtol=1e-2)
    np.testing.assert_allclose(outputs["classes"], np.dstack([truth / 10, 13 - truth / 10]), atol=0.02)
    assert not network.needs_tiles((64, 64)) and network.needs_tiles((65, 64))


def test_tiles_of_a_network_that_sees_images_normalized_are_as_bright_as_the_image():
    """Its brightest and its darkest part lie in different tiles."""
    network = gray_network(32, View("crop", normalize=True))
    truth = 10 + np.arange(150, dtype=np.uint8)[:, None].repeat(130, axis=1) // 3
    outputs, _ = segment_tiles(network, cv2.merge([truth] * 3))
    low, high = np.percentile(truth, (1, 99.8))
    expected = 10 * np.clip((truth - low) * (255 / (high - low)), 0, 255) - 50
    np.testing.assert_allclose(outputs["semantic"][:, :, 0], expected, atol=10)
    np.testing.assert_allclose(network.predict(cv2.merge([truth] * 3))["semantic"][:, :, 0], expected, atol=10)


@pytest.mark.parametrize("zoom", [2.0, 1.5, 0.5])
def test_a_network_of_enlarged_crops_sees_images_and_tiles_enlarged(zoom):
    network = gray_network(64, View("crop", zoom))
    truth = np.zeros((300, 260), np.uint8)
    for number, center in enumerate([(40, 40), (128, 150), (200, 60), (220, 240), (16, 250)]):
        cv2.rectangle(truth, np.array(center) - 16 - 2 * number, np.array(center) + 15, 50 + 40 * number, -1)
    painted = cv2.merge([truth] * 3)
    side = int(128 / zoom)
    assert not network.needs_tiles((side, side)) and network.needs_tiles((side + 2, side))
    part = painted[: side // 2 * 2, : side // 2 * 2]
    assert network.predict(part)["embedding"].shape[:2] == tuple(round(zoom * length) for length in part.shape[:2])
    outputs, found = segment_tiles(network, painted)
    assert found.shape == truth.shape == outputs["semantic"].shape[:2]
    inside = [found[cv2.erode(np.uint8(truth == value), np.ones((5, 5))) > 0] for value in np.unique(truth)[1:]]
    assert all(ids.min() == ids.max() > 0 for ids in inside) and len({ids[0] for ids in inside}) == 5
    assert (found[cv2.dilate(truth, np.ones((5, 5))) == 0] == 0).all()
