"""Mean shift against scikit-learn and arrays worked out by hand; label maps and colors; bounded cost."""

import json
import tracemalloc

import numpy as np
import pytest
from conftest import ROOT
from sklearn.cluster import MeanShift

import clustering
import utils
from benchmark import __main__ as benchmark
from benchmark import stages as benchmark_stages
from datagenerator import prepare_image, read_image
from pipeline import segmentation


def blobs(seed, number, dimensions, count, spread=0.2):
    """(count, D) float32 points of normal blobs with means at least 3 apart."""
    rng = np.random.default_rng(seed)
    means = []
    while len(means) < number:
        mean = rng.uniform(-1, 1, dimensions) * (3 * number ** (1 / dimensions) + 2)
        if all(np.linalg.norm(mean - other) >= 3 for other in means):
            means.append(mean)
    points = np.array(means)[rng.integers(number, size=count)] + rng.normal(0, spread, (count, dimensions))
    return points.astype(np.float32)


def assert_like_sklearn(points, bandwidth, off=0.02, alike=0.999):
    """Same number, centers within `off` bandwidths, labels alike; only clusters within 1 % in count may swap places."""
    number, labels, centers = clustering.cluster(points, bandwidth)
    expected = MeanShift(bandwidth=bandwidth, bin_seeding=True).fit(points)
    assert number == len(centers) == len(expected.cluster_centers_)
    distances = np.linalg.norm(centers[:, None] - expected.cluster_centers_, axis=2)
    place = distances.argmin(axis=1)
    assert sorted(place) == list(range(number))
    assert distances.min(axis=1).max() <= off * bandwidth
    assert np.mean(place[labels] == expected.labels_) >= alike
    counts = [np.count_nonzero(((points - center) ** 2).sum(axis=1) <= bandwidth**2) for center in centers]
    assert all(abs(counts[i] - counts[k]) <= 0.01 * counts[k] for i, k in enumerate(place))


@pytest.mark.parametrize("dimensions", [2, 3, 4, 8])
@pytest.mark.parametrize("number", [1, 2, 5, 12, 20])
def test_blobs_like_sklearn(number, dimensions):
    count = 4000 if dimensions < 8 else 1500
    spread = 0.3 if dimensions < 8 else 0.15
    for bandwidth in (0.7, 1.0, 1.5) if dimensions < 4 else (1.0, 1.5):
        assert_like_sklearn(blobs(100 * dimensions + number, number, dimensions, count, spread), bandwidth)


@pytest.mark.parametrize("dimensions", [2, 3, 4])
@pytest.mark.parametrize("seed", range(4))
def test_trained_embeddings_like_sklearn(seed, dimensions):
    """A road image as a trained network sees it: lanes, soft edges, slow drift."""
    embedding, _ = benchmark_stages.simulate_embedding((96, 128), dimensions, seed=seed)
    for bandwidth in (0.7, 1.0, 1.5):
        assert_like_sklearn(embedding.reshape(-1, dimensions), bandwidth)


@pytest.mark.parametrize("seed", range(4))
def test_early_embeddings_like_sklearn(seed):
    """Diffuse: at 1/40 of an image's pixels a plateau of density is so rough that centers may stop 0.1 apart on it."""
    embedding, _ = benchmark_stages.simulate_embedding((64, 96), trained=False, seed=seed)
    for bandwidth in (1.0, 1.5):
        assert_like_sklearn(embedding.reshape(-1, 3), bandwidth, off=0.1, alike=0.99)


@pytest.fixture(scope="module")
def network():
    return utils.load_model(ROOT / "trained_model")


def assert_network_like_sklearn(network, path):
    outputs = segmentation.predict(network, prepare_image(read_image(path), network.input_shape[1:3]))
    points = outputs["embedding"].reshape(-1, outputs["embedding"].shape[-1])
    for bandwidth in (0.7, 1.0, 1.5):
        assert_like_sklearn(points, bandwidth)
    assert_like_sklearn(points[clustering.lane_mask(outputs).ravel()], clustering.BANDWIDTH)


@pytest.mark.parametrize("name", ["0000.jpg", "0003.jpg"])
def test_trained_network_like_sklearn(network, name):
    """Every pixel's embedding of the network that ships, and those of the lanes alone."""
    assert_network_like_sklearn(network, ROOT / "inference_test" / "images" / name)


@pytest.mark.parametrize("drive", ["0313", "0601"])
def test_trained_network_on_real_images_like_sklearn(network, shared_data, drive):
    folder = shared_data / "tusimple" / "val_set"
    first = json.loads((folder / f"label_data_{drive}.json").read_text().splitlines()[0])
    assert_network_like_sklearn(network, folder / first["raw_file"])


def test_paths_that_cross_both_ways():
    """Seeds that enter each other's paths: one of them must go on, or a cluster of 769 points would be lost."""
    assert_like_sklearn(blobs(405, 5, 4, 4000, 0.3), 1.0)


@pytest.mark.parametrize("seed", range(12))
def test_few_points_exactly_like_sklearn(seed):
    """Up to EXACT_PIXELS nothing is approximate, however diffuse the points, so that any difference is an error."""
    rng = np.random.default_rng(seed)
    points = rng.normal(0, rng.uniform(0.5, 3), (rng.integers(2, 400), rng.integers(1, 5)))
    bandwidth = rng.uniform(0.3, 2)
    expected = MeanShift(bandwidth=bandwidth, bin_seeding=True).fit(points)
    number, labels, centers = clustering.cluster(points, bandwidth)
    assert number == len(expected.cluster_centers_)
    np.testing.assert_allclose(centers, expected.cluster_centers_, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(labels, expected.labels_)


def test_by_hand():
    """Two squares; the fuller one is label 0, and the lone point on the bandwidth itself belongs to its ball."""
    points = [[0, 0], [0, 1], [1, 0], [1, 1], [10, 10], [10, 11], [11, 10], [11, 11], [10.5, 10.5], [30, 0]]
    number, labels, centers = clustering.cluster(np.array(points, np.float64), 2.0)
    assert number == 3
    assert labels.tolist() == [1, 1, 1, 1, 0, 0, 0, 0, 0, 2]
    assert centers.tolist() == [[10.5, 10.5], [0.5, 0.5], [30, 0]]


def test_settled_centers_are_means_of_their_balls():
    """The climb may be approximate, what is reported is not: centers are ball means, labels nearest centers."""
    embedding, _ = benchmark_stages.simulate_embedding((256, 320), trained=False, seed=7)
    points = embedding.reshape(-1, 3).astype(np.float64)
    _, labels, centers = clustering.cluster(points, 0.8)
    distances = np.linalg.norm(points[:, None] - centers, axis=2)
    counts = np.count_nonzero(distances <= 0.8, axis=0)
    assert len(centers) > 1
    for k, center in enumerate(centers):
        assert np.linalg.norm(points[distances[:, k] <= 0.8].mean(axis=0) - center) <= 1.5e-3 * 0.8
    assert np.all(np.diff(counts) <= 0.005 * counts[:-1])  # by descending density, but for the last move
    np.testing.assert_allclose(distances[np.arange(len(points)), labels], distances.min(axis=1), atol=1e-5)
    apart = np.linalg.norm(centers[:, None] - centers, axis=2) + 9 * np.eye(len(centers))
    assert apart.min() > 0.8


def test_far_outlier_and_offset():
    """A pixel 100,000 bandwidths away and an offset of 1,000 cost neither the clusters nor their precision."""
    points = blobs(3, 4, 3, 5000).astype(np.float64)
    number, labels, centers = clustering.cluster(points, 1.0)
    moved = clustering.cluster(np.vstack([points + 1000, [[1e5, 0, 0]]]), 1.0)
    assert (number, moved[0]) == (4, 5)
    np.testing.assert_array_equal(moved[1][:-1], labels)
    np.testing.assert_allclose(moved[2][:4] - 1000, centers, atol=2e-3)


def test_deterministic_and_input_untouched():
    points = blobs(5, 6, 3, 30000, 0.5)
    before = points.copy()
    first, second = clustering.cluster(points, 1.0), clustering.cluster(points, 1.0)
    np.testing.assert_array_equal(points, before)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("method", ["fast", "sklearn"])
def test_no_point_one_point_equal_points(method):
    number, labels, centers = clustering.cluster(np.zeros((0, 3), np.float32), 1.0, method)
    assert (number, labels.shape, centers.shape) == (0, (0,), (0, 3))
    for count in (1, 2, 5000):
        number, labels, centers = clustering.cluster(np.full((count, 3), 2.5, np.float32), 1.0, method)
        assert number == 1 and not labels.any() and labels.shape == (count,)
        np.testing.assert_allclose(centers, [[2.5, 2.5, 2.5]], atol=2e-3)


@pytest.mark.parametrize(
    ("points", "bandwidth", "named"),
    [
        (np.full((4, 3), np.nan), 1.0, "embeddings: found 12 of 12 numbers NaN"),
        (np.array([[0.0, np.inf]]), 1.0, "embeddings: found 1 of 2 numbers"),
        (np.ones((4, 3)), 0, "bandwidth: found 0"),
        (np.ones((4, 3)), -1.0, "bandwidth: found -1.0"),
        (np.ones((4, 3)), np.nan, "bandwidth: found nan"),
        (np.ones((4, 3)), np.inf, "bandwidth: found inf"),
        (np.ones(4), 1.0, r"embeddings: found shape \(4,\)"),
        (np.ones((4, 0)), 1.0, r"embeddings: found shape \(4, 0\)"),
        (np.array([[0.0], [1e30]]), 1.0, "spread of 1e.30 bandwidths"),
        (np.array([[-3e38], [3e38]], np.float32), 1.0, "spread of 6e.38 bandwidths"),
    ],
)
def test_unusable_input(points, bandwidth, named):
    for method in ("fast", "sklearn"):
        with pytest.raises(ValueError, match=named):
            clustering.cluster(points, bandwidth, method)


def test_unusable_map_input():
    with pytest.raises(ValueError, match="method: found 'kmeans'"):
        clustering.cluster(np.ones((4, 3)), 1.0, "kmeans")
    with pytest.raises(ValueError, match=r"embedding: found shape \(4, 3\)"):
        clustering.instance_label_map(np.ones((4, 3)), 1.0)
    with pytest.raises(ValueError, match=r"mask: found shape \(3, 4\)"):
        clustering.instance_label_map(np.ones((4, 3, 2)), 1.0, np.ones((3, 4), bool))


def test_seeds_out_of_reach_in_many_dimensions():
    """In 8 dimensions a bin's corners lie 1.41 bandwidths from its middle: scikit-learn finds no cluster there."""
    corner = np.full(8, 0.4, np.float32)
    points = np.repeat([corner, corner + 20], [300, 200], axis=0)
    with pytest.raises(ValueError, match="No point was within"):
        clustering.cluster(points, 1.0, "sklearn")
    number, labels, centers = clustering.cluster(points, 1.0)
    assert number == 2 and labels.tolist() == [0] * 300 + [1] * 200
    np.testing.assert_allclose(centers, [corner, corner + 20], rtol=1e-6)


def test_label_map_with_mask():
    """Only masked pixels are clustered; ids by size; what is below the share is noise."""
    embedding = np.zeros((20, 50, 2), np.float32)
    truth = np.zeros((20, 50), int)
    truth[:, 5:8], truth[:, 20:25], truth[:10, 40:42], truth[0, 48] = 2, 1, 3, 4
    embedding[..., 0] = 4 * truth
    expected = np.where(truth == 4, 0, truth)
    for method in ("fast", "sklearn"):
        ids = clustering.instance_label_map(embedding, 1.0, truth > 0, min_fraction=0.01, method=method)
        assert ids.dtype == np.int32
        np.testing.assert_array_equal(ids, expected)
    kept = clustering.instance_label_map(embedding, 1.0, truth > 0, min_fraction=0.0)
    np.testing.assert_array_equal(kept, truth)
    np.testing.assert_array_equal(clustering.instance_label_map(embedding, 1.0, truth < 0), np.zeros_like(truth))
    whole = clustering.instance_label_map(embedding, 1.0, truth >= 0, min_fraction=0.0)
    np.testing.assert_array_equal(whole, truth + 1)  # a mask says that there is no background in it


def test_label_map_without_mask():
    """All pixels are clustered and the largest cluster is the background, whatever its embedding."""
    embedding, truth = benchmark_stages.simulate_embedding((128, 160), seed=1)
    ids = clustering.instance_label_map(embedding, 1.0)
    assert ids[truth == 0].mean() < 0.1
    for lane in range(1, 5):
        found = np.bincount(ids[truth == lane])
        assert found.argmax() > 0 and found.max() > 0.8 * found.sum()
    assert np.all(np.diff(np.bincount(ids.ravel())) <= 0)


def test_instance_masks():
    """The original's eight colors on black, by size, and more than eight clusters stay apart."""
    truth = np.repeat(np.arange(12), np.arange(60, 0, -5))[None]
    embedding = np.stack([3.0 * truth, np.zeros_like(truth)], axis=-1)
    masks = clustering.get_instance_masks(np.stack([embedding, embedding[:, ::-1]]), 1.0)
    assert len(masks) == 2 and masks[0].shape == (*truth.shape, 3) and masks[0].dtype == np.uint8
    np.testing.assert_array_equal(masks[1], masks[0][:, ::-1])
    colors = [tuple(masks[0][truth == i][0].tolist()) for i in range(12)]
    assert colors[:4] == [(0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255)]
    assert colors[4:9] == [(125, 125, 0), (0, 125, 125), (125, 0, 125), (50, 100, 50), (100, 50, 100)]
    assert len(set(colors)) == 12
    assert all(len(np.unique(masks[0][truth == i], axis=0)) == 1 for i in range(12))


@pytest.mark.parametrize("count", [0, 1, 8, 9, 1000])
def test_instance_colors(count):
    colors = clustering.instance_colors(count)
    assert colors.shape == (count, 3) and colors.dtype == np.uint8
    assert len(np.unique(colors, axis=0)) == count and colors.any(axis=1).all()


@pytest.mark.parametrize(("dimensions", "spread"), [(2, 10), (3, 5), (4, 2), (8, 1)])
def test_bounded_for_any_input(dimensions, spread, monkeypatch):
    """1280x720 diffuse pixels, whose work is cut off: under 1 GiB, and no more balls, atoms and rounds than allowed."""
    climbs, climb = [], clustering._climb

    def counted(seeds, positions, weights, *more):
        climbs.append((len(seeds), len(weights)))
        return climb(seeds, positions, weights, *more)

    monkeypatch.setattr(clustering, "_climb", counted)
    count = 720 * 1280
    points = np.random.default_rng(0).normal(0, spread, (count, dimensions)).astype(np.float32)
    tracemalloc.start()
    number, labels, centers = clustering.cluster(points, 1.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**30
    assert labels.shape == (count,) and labels.max() == number - 1 and centers.shape == (number, dimensions)
    assert len(climbs) <= 2 * clustering.MAX_ROUNDS
    assert all(seeds <= clustering.MAX_SEEDS and atoms <= clustering.MAX_ATOMS for seeds, atoms in climbs)


def test_benchmark_command(capsys):
    benchmark.main(["clustering", "--size", "64", "64", "--repeat", "1", "--bandwidth", "1.0", "--markdown"])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert [row[3] for row in cells[2:]] == ["sklearn", "fast"] * 3
    assert all(float(row[9].rstrip(" %")) > 99.9 for row in cells[2:])
    for flags in (["--repeat", "0"], ["--size", "60", "64"], ["--bandwidth", "0"], ["--modeldir", "absent"]):
        with pytest.raises(SystemExit) as stopped:
            benchmark.main(["clustering", *flags])
        assert stopped.value.code == 2
        error = capsys.readouterr().err.strip()
        assert "benchmark" in error and flags[0] in error.splitlines()[-1] or "absent" in error
