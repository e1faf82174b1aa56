"""Images of what the network does: painted instances, lanes, embeddings as scatter plot and as color.

    python visualization.py instances my_test my_results instances.png
    python visualization.py images figure.png "input=a.jpg" "instances found=b.png"

The first shows images of a data folder, their true instances and what `inference.py --save labels,embedding
--keep-names` found, the second any images, each with a title.

Images are (h, w, 3) uint8 RGB; label maps are (H, W) integers of any size, 0 = background. matplotlib, slow to import,
is imported where it is used.
"""

if __name__ == "__main__":
    from run.command import start

    start()

import argparse
import itertools
from pathlib import Path

import cv2
import numpy as np
from scipy.optimize import linear_sum_assignment

import utils
from clustering import instance_colors
from data.files import find_pairs
from datagenerator import read_image, read_label
from run.command import UserError, command

ALPHA = 0.3
CLASS_ALPHA = 0.5
FONT = cv2.FONT_HERSHEY_SIMPLEX
MAX_LEGEND = 20  # instances named in a scatter plot
MAX_POINTS = 6000  # pixels in it


def paint_instances(image, label_map, alpha=ALPHA):
    """Add the color of each instance, times `alpha`, to an image, as the original does."""
    colors = np.vstack([np.zeros((1, 3), np.uint8), instance_colors(int(label_map.max(initial=0)))])
    painted = np.take(colors, label_map, axis=0)
    painted = cv2.resize(painted, image.shape[1::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    return cv2.addWeighted(image, 1.0, painted, alpha, 0.0, painted)  # fresh memory costs as much as the blending


def write_names(image, label_map, names):
    """Write names of instances, {id: str}, on an image, in place, each in the middle of its middle row."""
    for identity, name in names.items():
        rows, columns = np.nonzero(label_map == identity)
        if len(rows):
            row = rows[len(rows) // 2]
            place = (np.array([columns[rows == row].mean(), row]) + 0.5) * image.shape[1::-1] / label_map.shape[::-1]
            (width, height), _ = cv2.getTextSize(name, FONT, _text_size(image), 1)
            x, y = np.clip(place + (-width / 2, height / 2), (0, height), image.shape[1::-1]).astype(int).tolist()
            _write(image, name, (max(0, min(x, image.shape[1] - width)), y))


def _text_size(image):
    return max(0.35, image.shape[0] / 1400)


def _write(image, text, place):
    """Write white text with a dark rim, its lower left corner at `place` (x, y)."""
    size = _text_size(image)
    width = max(1, round(2 * size))
    # thicker letters would lie further apart
    for x, y, gray in ((-width, 0, 0), (width, 0, 0), (0, -width, 0), (0, width, 0), (0, 0, 255)):
        cv2.putText(image, text, (place[0] + x, place[1] + y), FONT, size, (gray, gray, gray), width, cv2.LINE_AA)


def paint_classes(image, class_map, names):
    """Blend the color of each class, (h, w) uint8 numbers of `names` from 1 on, over an image, with a legend."""
    colors = instance_colors(len(names)).tolist()
    painted = np.take(np.array([(0, 0, 0), *colors], np.uint8), class_map, axis=0)
    painted = cv2.addWeighted(image, 1 - CLASS_ALPHA, painted, CLASS_ALPHA, 0.0, painted)
    painted[class_map == 0] = image[class_map == 0]
    (_, height), _ = cv2.getTextSize("X", FONT, _text_size(image), 1)
    side = max(4, min(max(image.shape[0] // 30, height + 3), image.shape[0] // (len(names) + 1)))
    for number, (name, color) in enumerate(zip(names, colors, strict=True)):
        cv2.rectangle(painted, (side // 2, number * side + side // 2), (3 * side // 2, (number + 1) * side), color, -1)
        _write(painted, name, (2 * side, (number + 1) * side))
    return painted


def sequential_ids(label):
    """The ids of an integer array as 1, 2, 3, ... in their order; 0 stays."""
    return np.searchsorted(np.unique(np.append(0, label)), label)


def label_image(label_map, shape):
    """A label map as uint16, at an image's shape (h, w, ...)."""
    return cv2.resize(label_map.astype(np.uint16), shape[1::-1], interpolation=cv2.INTER_NEAREST_EXACT)


def probability_image(logits, shape):
    """Lane probability of (H, W) logits as uint8, 0..255, at an image's shape (h, w, ...)."""
    probability = np.rint(127.5 + 127.5 * np.tanh(logits / 2)).astype(np.uint8)
    return cv2.resize(probability, shape[1::-1], interpolation=cv2.INTER_LINEAR)


def embedding_image(embedding, shape):
    """`embedding_to_color` at an image's shape (h, w, ...)."""
    return cv2.resize(embedding_to_color(embedding), shape[1::-1], interpolation=cv2.INTER_LINEAR)


def draw_lanes(image, lanes, h_samples, color, thickness=5):
    """Draw TuSimple lanes, x at rows `h_samples`, negative without point, on a copy of an image.

    `color` is the RGB of all lanes or, (N, 3), of each.
    """
    image = image.copy()
    for lane, line_color in zip(lanes, np.broadcast_to(color, (len(lanes), 3)).tolist(), strict=True):
        points = [(x, y) for x, y in zip(lane, h_samples, strict=True) if x >= 0]
        cv2.polylines(image, [np.array(points, np.int32).reshape(-1, 1, 2)], False, line_color, thickness, cv2.LINE_AA)
    return image


def lane_colors(lanes, h_samples, label_map, shape):
    """(N, 3) uint8 RGB of TuSimple lanes on an image of `shape`: that of the instance below most of their points.

    A lane on none, or on that of an earlier lane, gets another color.
    """
    scale = np.divide(label_map.shape, shape[:2])
    rows, ids = ((np.array(h_samples) + 0.5) * scale[0]).astype(int), []
    free = itertools.count(int(label_map.max(initial=0)) + 1)
    for x in map(np.array, lanes):
        columns = ((x + 0.5) * scale[1]).astype(int)
        counts = np.bincount(label_map[rows[x >= 0], columns[x >= 0]], minlength=2)
        counts[[0, *(i for i in ids if i < len(counts))]] = 0
        ids.append(int(counts.argmax()) if counts.any() else next(free))
    return instance_colors(max(ids, default=0))[np.array(ids, int) - 1]


def embedding_to_color(embedding):
    """First three channels of (H, W, D) embeddings as (H, W, 3) uint8, each from its 1st to its 99th percentile."""
    color = np.zeros((*embedding.shape[:2], 3), np.uint8)
    for index in range(min(3, embedding.shape[2])):
        channel = embedding[:, :, index].astype(np.float32)  # a copy whose values lie side by side
        low, high = np.percentile(channel, (1, 99))
        color[:, :, index] = 255 * np.clip((channel - low) / np.maximum(high - low, 1e-6), 0, 1)
    return color


def scatter_plot(embedding, label, path, title=""):
    """Save a scatter plot, 3-D or 2-D, of (H, W, D) embeddings colored by (H, W) ids, 0 gray, evenly of all of them."""
    from matplotlib.figure import Figure

    points, ids = embedding.reshape(-1, embedding.shape[-1]), label.reshape(-1)
    if points.shape[1] == 1:
        points = np.column_stack([points, np.zeros(len(points))])
    dims = min(points.shape[1], 3)
    figure = Figure(figsize=(4.5, 4.5), layout="constrained")  # two of them fit into a page
    axes = figure.add_subplot(projection="3d" if dims == 3 else None)
    axes.set(**{f"{axis}label": f"dimension {number}" for number, axis in enumerate("xyz"[:dims], start=1)})
    if dims == 3:
        axes.set_box_aspect(None, zoom=0.85)  # or the third axis' name is cut off
    numbers, present = sequential_ids(ids), np.unique(np.append(0, ids))
    colors = np.vstack([np.full((1, 3), 0.7), instance_colors(len(present) - 1) / 255])
    order = np.random.default_rng(0).permutation(len(ids))
    groups = [order[numbers[order] == number] for number in range(len(present))]
    drawn = np.concatenate([group[: max(1, MAX_POINTS // len(present))] for group in groups])
    axes.scatter(*points[drawn, :dims].T, s=3, c=colors[numbers[drawn]])
    if len(present) <= MAX_LEGEND:
        for i, color in zip(present, colors, strict=True):
            axes.scatter(*[[]] * dims, s=3, color=color, label=str(i) if i else "background")
        axes.legend(loc="upper left", markerscale=4, title="label value")
    axes.set_title(title)
    figure.savefig(path, dpi=100)


def images_figure(path, images, titles, columns, width):
    """Save images in rows of `columns`, each `width` pixels wide, below its title."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = -(-len(images) // columns)
    height = rows * width * max(image.shape[0] / image.shape[1] for image in images)
    height += 30 * sum(map(any, (titles[start : start + columns] for start in range(0, len(titles), columns))))
    figure = Figure(figsize=(columns * width / 100, height / 100), dpi=100, layout="compressed")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
    for axes, image, title in zip(grid, images, titles, strict=False):
        axes.imshow(image)
        axes.set_title(title)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    save_image(path, np.array(canvas.buffer_rgba())[:, :, :3])


def ids_of_truth(found, truth):
    """Instances of a label map with the ids of those of a true one that they overlap most, one to one.

    Both (H, W) as `sequential_ids`; instances without a true one have the ids after these.
    """
    counts = np.zeros((found.max() + 1, truth.max() + 1), int)
    np.add.at(counts, (found, truth), 1)
    ids = np.append(0, truth.max() + np.arange(1, len(counts)))
    for one, other in zip(*linear_sum_assignment(-counts[1:, 1:]), strict=True):
        if counts[one + 1, other + 1]:
            ids[one + 1] = other + 1
    return ids[found]


def instances_figure(path, data_folder, results, photos):
    """Save four rows of image (if `photos`), true and found instances and embedding, from few instances to many.

    Of images of a data folder with NAME_labels.png and NAME_embedding.png in `results`; raises UserError.
    """
    chosen = []
    for image, label in find_pairs(data_folder):
        found, embedding = (Path(results, f"{Path(image).stem}_{kind}.png") for kind in ("labels", "embedding"))
        if found.is_file() and embedding.is_file():
            chosen.append((len(np.unique(read_label(label))), image, label, found, embedding))
    if not chosen:
        expected = "expected those of inference.py --save labels,embedding --keep-names; run it first"
        raise UserError(f"{results}: found no results of the images in {data_folder}, {expected}")
    chosen.sort()
    count = min(4, len(chosen))
    titles = ["image", "truth", "found", "embedding as color"][not photos :]
    tiles = []
    for place in (np.arange(count) + 0.5) * len(chosen) / count:
        _, image, label, found, embedding = chosen[int(place)]
        truth, found = (sequential_ids(read_label(file)) for file in (label, found))
        image, embedding = embedding_to_color(read_image(image)), read_image(embedding)
        if found.any():  # the background's would take most of the colors
            embedding[found > 0] = embedding_to_color(embedding[None, found > 0])[0]
        embedding[found == 0] = 0
        black = np.zeros_like(embedding)
        painted = [paint_instances(black, ids, 1.0) for ids in (truth, ids_of_truth(found, truth))]
        tiles += [image, *painted, embedding][not photos :]
    images_figure(path, tiles, titles + [""] * (len(tiles) - len(titles)), len(titles), 256)


def save_image(path, image):
    """Write (h, w, 3) uint8 RGB or (h, w) uint8/uint16 to a file, whole or not at all; raises OSError."""
    _, data = cv2.imencode(Path(path).suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.ndim == 3 else image)
    try:
        with utils.replacing(path) as temporary:
            Path(temporary).write_bytes(data)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise OSError(f"{path}: could not be written ({reason}); make room or name another folder") from None


@command("visualization.py")
def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    commands = parser.add_subparsers(dest="command", required=True)
    instances = commands.add_parser("instances", help="true and found instances side by side")
    instances.add_argument("data_folder", metavar="DATA", help="folder with images/ and labels/")
    instances.add_argument("results", metavar="RESULTS", help="folder of inference.py")
    instances.add_argument("path", metavar="PNG", help="to write")
    instances.add_argument("--no-images", action="store_true", help="leave out the images")
    images = commands.add_parser("images", help="images with titles side by side, in rows of two")
    images.add_argument("path", metavar="PNG", help="to write")
    images.add_argument("images", metavar="TITLE=IMAGE", nargs="+", help="IMAGE alone has no title")
    args = parser.parse_args(argv)
    if Path(args.path).suffix.lower() != ".png":
        parser.error(f"{args.path}: found another name, expected one in .png; change it")
    if args.command == "instances":
        return instances_figure(args.path, args.data_folder, args.results, not args.no_images)
    titles, _, names = zip(*(word.rpartition("=") for word in args.images), strict=True)
    images_figure(args.path, [read_image(name) for name in names], titles, columns=2, width=400)


if __name__ == "__main__":
    main()
