"""Overlays by hand, and figures that exist and are not blank."""

import cv2
import numpy as np
import pytest

import visualization
from clustering import instance_colors


def test_overlay_by_hand():
    image = np.full((4, 6, 3), 100, np.uint8)
    label_map = np.array([[0, 1, 2]])
    painted = visualization.paint_instances(image, label_map)
    assert (painted[:, :2] == 100).all()
    assert (painted[:, 2:4] == [100 + round(0.3 * 255), 100, 100]).all()  # red, as in the original
    assert (painted[:, 4:] == [100, 100 + round(0.3 * 255), 100]).all()
    assert (image == 100).all() and (visualization.paint_instances(image, 0 * label_map) == 100).all()


def test_lanes_are_drawn_where_they_are():
    image = np.zeros((100, 100, 3), np.uint8)
    drawn = visualization.draw_lanes(image, [[-2, 30, 30], [-2, -2, -2]], [10, 50, 90], color=(0, 0, 255), thickness=1)
    ys, xs = np.nonzero(drawn[:, :, 2])
    assert set(xs) <= {29, 30, 31} and (drawn[52:89, 30, 2] > 200).all() and not drawn[:, :, :2].any()
    assert abs(ys.min() - 50) <= 1 and abs(ys.max() - 90) <= 1 and not image.any()


def test_lanes_have_the_color_of_their_instance():
    """Of an image twice the size columns up to 29, 59 and 95 are instances 3, 1 and 2."""
    label_map = np.repeat([3, 1, 2, 0], [15, 15, 18, 2])[None].repeat(20, axis=0)
    lanes = [[-2, 20, 29], [70, 61, 58], [40, 30, 20], [97, 98, 99], [55, 45, 35], [-2, -2, -2]]
    colors = visualization.lane_colors(lanes, [5, 20, 39], label_map, (40, 100, 3))
    np.testing.assert_array_equal(colors, instance_colors(6)[[2, 1, 0, 3, 4, 5]])
    assert visualization.lane_colors([], [5], label_map, (40, 100)).shape == (0, 3)


def test_embedding_as_color_spreads_each_channel():
    embedding = np.random.default_rng(1).normal(50, 3, (30, 40, 2)).astype(np.float32)
    color = visualization.embedding_to_color(embedding)
    assert color.shape == (30, 40, 3) and color.dtype == np.uint8
    assert (color[:, :, :2].min((0, 1)) == 0).all() and (color[:, :, :2].max((0, 1)) == 255).all()
    assert not color[:, :, 2].any()
    assert not visualization.embedding_to_color(np.ones((3, 3, 4), np.float32)).any()


@pytest.mark.parametrize("dimensions", [1, 2, 3, 5])
def test_scatter_plot(tmp_path, dimensions):
    rng, path = np.random.default_rng(2), tmp_path / "a.png"
    visualization.scatter_plot(rng.normal(size=(20, 20, dimensions)), rng.choice([0, 20, 70], (20, 20)), path)
    assert cv2.imread(str(path)).std() > 5


def test_scatter_plot_of_hundreds_is_one_drawing(tmp_path, monkeypatch):
    """Each of 960 instances has its color and as many points as it may have; no legend."""
    from matplotlib.figure import Figure

    seen = {}
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **_: seen.update(axes=figure.axes[0]))
    label = np.arange(961).reshape(31, 31).repeat(4, axis=0).repeat(4, axis=1)
    embedding = np.dstack([label, label % 7]).astype(np.float32)
    visualization.scatter_plot(embedding, label, tmp_path / "a.png", "step 3")
    (points,) = seen["axes"].collections
    assert seen["axes"].get_legend() is None and seen["axes"].get_title() == "step 3"
    ids = points.get_offsets()[:, 0].astype(int)
    assert (np.bincount(ids) == 6).all()  # of 16 pixels each
    colors = points.get_facecolors()
    assert len({(i, *color) for i, color in zip(ids, colors.tolist(), strict=True)}) == 961
    assert len(np.unique(colors, axis=0)) > 900 and np.allclose(colors[ids == 0, :3], 0.7)
    visualization.scatter_plot(embedding, np.minimum(label, 3), tmp_path / "a.png")
    names = [text.get_text() for text in seen["axes"].get_legend().get_texts()]
    assert names == ["background", "1", "2", "3"]


def test_image_that_can_not_be_written_leaves_nothing(tmp_path):
    with pytest.raises(OSError):
        visualization.save_image(tmp_path / "no_folder" / "a.png", np.zeros((3, 3, 3), np.uint8))
    visualization.save_image(tmp_path / "a.png", np.full((3, 3, 3), (250, 0, 0), np.uint8))
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
    assert cv2.imread(str(tmp_path / "a.png"))[0, 0].tolist() == [0, 0, 250]


@pytest.fixture
def drawn(monkeypatch):
    """Axes of the figures that are saved, in a list."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    axes, draw = [], FigureCanvasAgg.draw
    monkeypatch.setattr(FigureCanvasAgg, "draw", lambda canvas: (axes.extend(canvas.figure.axes), draw(canvas)))
    return axes


def test_figure_of_instances(tmp_path, drawn, capsys):
    halves = np.repeat(np.uint8([[[40, 40, 40], [90, 90, 90]]]), 32, axis=1)
    for number in range(8):
        label = np.zeros((64, 64), np.uint8)
        for k in range(number + 1):
            label[8 * k : 8 * k + 6] = 10 + k
        for name, array in (
            (f"data/images/{number}.png", 3 * label),
            (f"data/labels/{number}.png", label),
            (f"results/{number}_labels.png", label // 10 * 7),  # one instance for all of them
            (f"results/{number}_embedding.png", np.where(label[..., None], halves, 250)),
        ):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(tmp_path / name), array)
    command = ["instances", *(str(tmp_path / name) for name in ("data", "results", "a.png"))]
    visualization.main(command)
    assert [axes.get_title() for axes in drawn[:5]] == ["image", "truth", "found", "embedding as color", ""]
    for row, number in enumerate((1, 3, 5, 7)):
        image, *painted, embedding = [np.array(axes.images[0].get_array()) for axes in drawn[4 * row : 4 * row + 4]]
        truth, found = ({*map(tuple, tile.reshape(-1, 3).tolist())} for tile in painted)
        assert len(truth) == number + 2 and len(found) == 2 and found < truth  # its color is that of a true one
        assert image.max() == 255
        inside = painted[1].any(axis=-1)  # from black to white in the instances, whatever is beside them
        assert (embedding[:, :32] == 0).all() and (embedding[:, 32:] == 255 * inside[:, 32:, None]).all()
    assert cv2.imread(str(tmp_path / "a.png")).shape[1] == 4 * 256
    drawn.clear()
    visualization.main([*command, "--no-images"])
    assert len(drawn) == 12 and drawn[0].get_title() == "truth"
    for found in (tmp_path / "results").glob("*_embedding.png"):
        found.unlink()
    with pytest.raises(SystemExit):
        visualization.main(command)
    assert f"{tmp_path}/results: found no results" in capsys.readouterr().err


def test_instances_found_get_the_ids_of_true_ones():
    truth = np.array([[1, 1, 1, 0, 2, 2, 3, 3]])
    found = np.array([[4, 4, 1, 2, 0, 3, 3, 3]])
    np.testing.assert_array_equal(visualization.ids_of_truth(found, truth), [[1, 1, 4, 5, 0, 3, 3, 3]])
    assert not visualization.ids_of_truth(0 * found, truth).any()
    np.testing.assert_array_equal(visualization.ids_of_truth(found, 0 * truth), found)


def test_images_side_by_side(tmp_path, drawn):
    for number, height in enumerate((60, 40, 60)):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((height, 80, 3), 50 * number, np.uint8))
    words = f"a={tmp_path}/0.png b=c={tmp_path}/1.png {tmp_path}/2.png".split()
    visualization.main(["images", str(tmp_path / "figure.png"), *words])
    assert [axes.get_title() for axes in drawn] == ["a", "b=c", "", ""]
    assert [int(image.get_array().max()) for axes in drawn for image in axes.images] == [0, 50, 100]
    assert cv2.imread(str(tmp_path / "figure.png")).shape[1] == 800
