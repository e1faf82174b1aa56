"""Mean shift against scikit-learn and arrays worked out by hand; its work is bounded; label maps and colors."""

import tracemalloc
import warnings

import numpy as np
import pytest
from conftest import ROOT
from sklearn.cluster import MeanShift

import clustering
import utils
from datagenerator import prepare_image, read_image

# scikit-learn's words for: every point has its own bin
own_bins = pytest.mark.filterwarnings("ignore:Binning data failed")


def simulate_embedding(size, dimensions=3, trained=True, seed=0):
    """Embeddings of a road of four lanes, (H, W, D) float32: means at least 3 apart, spread 0.25, or 1 and 0.9."""
    rng = np.random.default_rng(seed)
    means = separated(5, lambda: rng.normal(0, 3, dimensions)) * (1 if trained else 0.3)
    y, x = np.mgrid[: size[0], : size[1]] / np.reshape(size, (2, 1, 1))
    depth = np.clip(y - 0.3, 0, None)
    offsets = [np.abs(x - 0.5 - slope * depth) for slope in np.linspace(-1, 1, 4)]
    half = 0.01 * (0.3 + depth)  # half the width of a lane; over a tenth of it lane and background mix
    fraction = np.stack([np.clip(5 * (half - offset) / half + 0.5, 0, 1) * (depth > 0) for offset in offsets])
    fraction /= np.maximum(1, fraction.sum(axis=0))
    embedding = means[0] + np.einsum("lhw,ld->hwd", fraction, means[1:] - means[0])
    for axis in range(dimensions):
        phases = [rng.uniform(1, 4, 2) @ [y.ravel(), x.ravel()] + rng.random() for _ in range(4)]
        waves = sum(np.sin(2 * np.pi * phase) for phase in phases)
        embedding[..., axis] += (0.1 if trained else 0.4) * waves.reshape(size)
    embedding += rng.normal(0, 0.12 if trained else 0.3, embedding.shape)
    return embedding.astype(np.float32)


def separated(number, draw):
    """So many drawn points at least 3 apart."""
    means = [draw()]
    while len(means) < number:
        mean = draw()
        means += [mean] * all(np.linalg.norm(mean - other) >= 3 for other in means)
    return np.array(means)


def blobs(seed, number, dimensions, count, spread=0.2):
    """(count, D) float32 points of normal blobs with means at least 3 apart."""
    rng = np.random.default_rng(seed)
    side = 3 * number ** (1 / dimensions) + 2
    means = separated(number, lambda: rng.uniform(-1, 1, dimensions) * side)
    points = means[rng.integers(number, size=count)] + rng.normal(0, spread, (count, dimensions))
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
@pytest.mark.parametrize("number", [1, 5, 20])
def test_blobs_like_sklearn(number, dimensions):
    points = blobs(100 * dimensions + number, number, dimensions, 1500, 0.3 if dimensions < 8 else 0.15)
    for bandwidth in (0.7, 1.5) if dimensions < 4 else (1.0,):
        assert_like_sklearn(points, bandwidth)


@pytest.mark.parametrize(("seed", "dimensions", "size"), [(0, 2, (96, 128)), (1, 4, (96, 128)), (2, 3, (192, 256))])
def test_trained_embeddings_like_sklearn(seed, dimensions, size):
    """In the last, cells count."""
    points = simulate_embedding(size, dimensions, seed=seed).reshape(-1, dimensions)
    for bandwidth in (0.7, 1.0, 1.5):
        assert_like_sklearn(points, bandwidth)


@pytest.mark.parametrize(("size", "bandwidth"), [((64, 96), 1.0), ((64, 96), 1.5), ((144, 192), 1.5)])
def test_early_embeddings_like_sklearn(size, bandwidth):
    """With few pixels a plateau of density is so rough that centers may stop 0.1 apart on it."""
    points = simulate_embedding(size, trained=False, seed=4).reshape(-1, 3)
    assert_like_sklearn(points, bandwidth, off=0.1, alike=0.99)


def test_trained_network_like_sklearn():
    """On all pixels of an image, and on those of the lanes alone, where nothing is approximate."""
    network = utils.load_model(ROOT / "trained_model", (192, 320))  # smaller, for scikit-learn's sake
    image = prepare_image(read_image(ROOT / "inference_test/images/0003.jpg"), (192, 320))
    outputs = {name: value[0].numpy() for name, value in network(image[None], training=False).items()}
    points = outputs["embedding"].reshape(-1, outputs["embedding"].shape[-1])
    assert_like_sklearn(points, clustering.BANDWIDTH)
    for bandwidth in (0.7, 1.0, 1.5):
        assert_like_sklearn(points[clustering.lane_mask(outputs).ravel()], bandwidth, 0.005, 0.9999)


def test_balls_that_come_upon_each_others_path(monkeypatch):
    """Each goes to where the other was: only the first one, from the fuller bin, goes on."""
    moves = iter([[[1.0], [0.0]], [[0.0], [1.0]], [[0.0]]])
    sum_balls = lambda centers: np.pad(next(moves), ((0, 0), (0, 1)), constant_values=1)  # noqa: E731
    monkeypatch.setattr(clustering, "_make_sums", lambda *atoms: sum_balls)
    assert clustering._climb(np.array([[0.0], [1.0]]), np.zeros((1, 1)), np.ones(1), 1).tolist() == [[0.0]]


@own_bins
@pytest.mark.parametrize("seed", range(12))
def test_few_points_exactly_like_sklearn(seed, monkeypatch):
    """Without cells and shared paths nothing is approximate."""
    monkeypatch.setattr(clustering, "PATH", 1e-9)
    rng = np.random.default_rng(seed)
    points = rng.normal(0, rng.uniform(0.5, 3), (rng.integers(2, 400), rng.integers(1, 5)))
    bandwidth = rng.uniform(0.3, 2)
    expected = MeanShift(bandwidth=bandwidth, bin_seeding=True).fit(points)
    number, labels, centers = clustering.cluster(points, bandwidth)
    assert number == len(expected.cluster_centers_)
    np.testing.assert_allclose(centers, expected.cluster_centers_, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(labels, expected.labels_)


def test_by_hand():
    """Two squares; the fuller one is label 0. (20, 0) and (22, 0) are on the spheres around each other: inside."""
    points = [[0, 0], [0, 1], [1, 0], [1, 1], [10, 10], [10, 11], [11, 10], [11, 11], [10.5, 10.5], [20, 0], [22, 0]]
    number, labels, centers = clustering.cluster(np.array(points, np.float64), 2.0)
    assert number == 3
    assert labels.tolist() == [1, 1, 1, 1, 0, 0, 0, 0, 0, 2, 2]
    np.testing.assert_allclose(centers, [[10.5, 10.5], [0.5, 0.5], [21, 0]], rtol=0, atol=1e-6)


def test_cells_only_choose_where_to_settle():
    """Centers are exact means of their balls, and labels nearest centers."""
    points = simulate_embedding((256, 320), trained=False, seed=7).reshape(-1, 3).astype(np.float64)
    before = points.copy()
    _, labels, centers = clustering.cluster(points, 0.8)
    np.testing.assert_array_equal(points, before)
    np.testing.assert_array_equal(clustering.cluster(points, 0.8)[1], labels)
    distances = np.linalg.norm(points[:, None] - centers, axis=2)
    counts = np.count_nonzero(distances <= 0.8, axis=0)
    for k, center in enumerate(centers):
        assert np.linalg.norm(points[distances[:, k] <= 0.8].mean(axis=0) - center) <= 1.5e-3 * 0.8
    assert np.all(np.diff(counts) <= 0.005 * counts[:-1])  # by descending density, but for the last move
    np.testing.assert_allclose(distances[np.arange(len(points)), labels], distances.min(axis=1), atol=1e-5)
    apart = np.linalg.norm(centers[:, None] - centers, axis=2) + 9 * np.eye(len(centers))
    assert apart.min() > 0.8


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_offset_and_far_pixel(dtype):
    """They cost no clusters nor, in float64, precision."""
    points = blobs(3, 4, 3, 5000).astype(np.float64)
    number, labels, centers = clustering.cluster(points, 1.0)
    assert number == 4
    for offset, far in ((1000, 1e5), (-5000, 1e12), (3, -1e30)):
        moved = clustering.cluster(np.vstack([points + offset, [[far, 0, 0]]]).astype(dtype), 1.0)
        assert moved[0] == 5
        np.testing.assert_array_equal(moved[1][:-1], labels)
        np.testing.assert_allclose(moved[2][:4] - offset, centers, atol=2e-3 if dtype == np.float32 else 1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("dimensions", [1, 3, 16])
def test_any_finite_input(dimensions, dtype):
    """No warning and no error, and what is alike has one label."""
    rng, largest = np.random.default_rng(dimensions), np.finfo(dtype).max
    spread = np.exp(rng.normal(0, 12, (300, dimensions))) * rng.choice([-1, 1], (300, dimensions))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for distinct in (spread, np.outer([-largest, 0, largest], np.ones(dimensions))):
            points = np.repeat(distinct, 5, axis=0).astype(dtype)
            for bandwidth in (1e-300, 1e-3, 1.0, 1e12, 1e300):
                number, labels, centers = clustering.cluster(points, bandwidth)
                assert centers.shape == (number, dimensions) and centers.dtype == dtype
                assert np.isfinite(centers).all() and 0 < number <= len(distinct)
                assert labels.min() == 0 and labels.max() < number
                assert (labels.reshape(-1, 5) == labels[::5, None]).all()
                assert len(distinct) > 3 or bandwidth > 1 or number == 3


@own_bins
@pytest.mark.parametrize("method", ["fast", "sklearn"])
def test_no_point_one_point_equal_points(method):
    number, labels, centers = clustering.cluster(np.zeros((0, 3), np.float32), 1.0, method)
    assert (number, labels.shape, centers.shape) == (0, (0,), (0, 3))
    for count in (1, 2, 5000):
        number, labels, centers = clustering.cluster(np.full((count, 3), 2.5, np.float32), 1.0, method)
        assert number == 1 and not labels.any() and labels.shape == (count,)
        np.testing.assert_allclose(centers, [[2.5, 2.5, 2.5]], atol=2e-3)


@pytest.mark.parametrize("method", ["fast", "sklearn"])
@pytest.mark.parametrize("value", [0, -1.0, np.nan, np.inf])
def test_unusable_input(value, method):
    with pytest.raises(ValueError, match=f"bandwidth: found {value}"):
        clustering.cluster(np.ones((4, 3)), value, method)
    if not np.isfinite(value):
        with pytest.raises(ValueError, match="NaN or infinite"):
            clustering.cluster(np.array([[0.0, value]]), 1.0, method)


def test_seeds_out_of_reach_in_many_dimensions():
    """In 8 dimensions a bin's corners lie 1.41 bandwidths from its middle."""
    corner = np.full(8, 0.4, np.float32)
    points = np.repeat([corner, corner + 20], [3000, 2000], axis=0)
    with pytest.raises(ValueError, match="No point was within"):
        clustering.cluster(points, 1.0, "sklearn")
    number, labels, centers = clustering.cluster(points, 1.0)
    assert number == 2 and labels.tolist() == [0] * 3000 + [1] * 2000
    np.testing.assert_allclose(centers, [corner, corner + 20], rtol=1e-6)


@pytest.fixture
def work(monkeypatch):
    """Numbers of pairs of a ball and a cell or pixel that moves look at."""
    pairs, make_sums, squares = [], clustering._make_sums, clustering._squares

    def make_counting_sums(means, counts, side):
        sum_balls = make_sums(means, counts, side)
        return lambda centers: pairs.append(len(centers) * len(counts)) or sum_balls(centers)

    monkeypatch.setattr(clustering, "_make_sums", make_counting_sums)
    monkeypatch.setattr(clustering, "_squares", lambda *args: pairs.append(len(args[0].T)) or squares(*args))
    return pairs


@pytest.mark.parametrize(("dimensions", "spread"), [(1, 1000), (2, 10), (3, 5), (4, 2), (8, 1), (16, 1)])
def test_work_is_bounded_for_any_input(work, monkeypatch, dimensions, spread):
    """Noise, which uses up what is allowed: then every ball makes at most one move to climb and one to settle."""
    monkeypatch.setattr(clustering, "MAX_PAIRS", 2**24)
    points = np.random.default_rng(0).normal(0, spread, (2**16, dimensions)).astype(np.float32)
    tracemalloc.start()
    number, labels, centers = clustering.cluster(points, 1.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**28
    assert centers.shape == (number, dimensions) and labels.max() < number <= clustering.MAX_SEEDS
    assert sum(work) <= 2 * 2**24 + 3 * clustering.MAX_SEEDS * len(points)


def test_work_on_separated_embeddings(work):
    """512x512 pixels: a trained network's take 2 % of the limit."""
    clustering.cluster(simulate_embedding((512, 512)).reshape(-1, 3), 1.0)
    assert 0 < sum(work) < 0.02 * clustering.MAX_PAIRS


def test_the_fullest_bins_are_seeds(monkeypatch):
    monkeypatch.setattr(clustering, "MAX_SEEDS", 2)
    points = np.repeat([[0.0], [10.0], [20.0]], [20, 100, 60], axis=0)
    assert clustering.cluster(points, 1.0)[2].tolist() == [[10.0], [20.0]]


def test_label_map_with_mask():
    """Only masked pixels are clustered; ids by size; what is below the fraction is noise."""
    embedding = np.zeros((20, 50, 2), np.float32)
    truth = np.zeros((20, 50), int)
    truth[:, 5:8], truth[:, 20:25], truth[:10, 40:42], truth[0, 48] = 2, 1, 3, 4
    embedding[..., 0] = 4 * truth
    for mask, fraction, expected in (
        (truth > 0, 0.01, np.where(truth == 4, 0, truth)),
        (truth > 0, 0.0, truth),
        (truth < 0, 0.01, 0 * truth),
        (truth >= 0, 0.0, truth + 1),  # a mask says that there is no background in it
    ):
        for method in ("fast", "sklearn"):
            ids = clustering.instance_label_map(embedding, 1.0, mask, fraction, method)
            assert ids.dtype == np.int32
            np.testing.assert_array_equal(ids, expected)


def test_instances_of_outputs():
    """Four lines, the last half 0.72, half 0.95: thresholds for pixels and for instances."""
    probability, embedding = np.full((40, 60, 1), 0.01), np.zeros((40, 60, 2), np.float32)
    for column, width, p in ((5, 4, 0.6), (25, 8, 0.8), (45, 6, 0.9), (55, 5, np.repeat([0.72, 0.95], 20)[:, None])):
        probability[:, column : column + width, 0], embedding[:, column : column + width] = p, column
    outputs = {"embedding": embedding, "semantic": np.log(probability / (1 - probability))}
    assert clustering.lane_mask(outputs)[0].nonzero()[0].tolist() == [*range(25, 33), *range(45, 51), *range(55, 60)]
    assert clustering.lane_mask(outputs, 0.85)[0].nonzero()[0].tolist() == [*range(45, 51)]
    for method in ("fast", "sklearn"):
        find = lambda *more: clustering.find_instances(outputs, 1.0, *more)[7, [0, 5, 25, 45, 55]].tolist()  # noqa: E731
        assert find() == [0, 0, 1, 2, 3] and find(0.5, method) == [0, 4, 1, 2, 3]
        # the largest goes and the others are numbered anew; the last one's mean is 0.835
        assert find(0.5, method, 0.82) == [0, 0, 0, 1, 2] and find(0.5, method, 0.95) == [0, 0, 0, 0, 0]
        assert find(0.5, method, 0.82, None, 0.89) == [0, 0, 0, 1, 2]  # all or none of the image
        assert find(0.5, method, 0.82, None, 0.91) == find(0.5, method, 0.0, None, 0.91) == [0, 0, 0, 0, 0]
    assert clustering.lane_mask({"embedding": embedding}) is None
    without = clustering.find_instances({"embedding": embedding}, 1.0, confidence=0.95)  # nothing to go by
    assert without[7, [0, 5, 25, 45, 55]].tolist() == [0, 4, 1, 2, 3]


def test_instance_masks():
    """The original's eight colors on black, by size, then others."""
    truth = np.repeat(np.arange(12), np.arange(60, 0, -5))[None]
    embedding = np.stack([3.0 * truth, np.zeros_like(truth)], axis=-1)
    masks = clustering.get_instance_masks(np.stack([embedding, embedding[:, ::-1]]), 1.0)
    assert len(masks) == 2 and masks[0].shape == (*truth.shape, 3) and masks[0].dtype == np.uint8
    np.testing.assert_array_equal(masks[1], masks[0][:, ::-1])
    colors = [tuple(masks[0][truth == i][0].tolist()) for i in range(12)]
    assert colors[:4] == [(0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255)]
    assert colors[4:9] == [(125, 125, 0), (0, 125, 125), (125, 0, 125), (50, 100, 50), (100, 50, 100)]
    for count in (0, 1000):
        colors = clustering.instance_colors(count)
        assert colors.shape == (count, 3) and len(np.unique(colors, axis=0)) == count and colors.any(axis=1).all()


def test_mean_probabilities_by_hand():
    logits = np.log(np.array([[0.9, 0.8], [0.7, 0.2]]) / np.array([[0.1, 0.2], [0.3, 0.8]]))[..., None]
    outputs = {"semantic": logits}
    found = clustering.mean_probabilities(outputs, np.array([[3, 1], [1, 0]]))
    np.testing.assert_allclose(found, [0.75, 0, 0.9])
    assert clustering.mean_probabilities(outputs, np.zeros((2, 2), int)).shape == (0,)
