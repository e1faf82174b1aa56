"""Images of what the network does: painted instances, lanes, embeddings as scatter plot and as color.

    python visualization.py instances my_test my_results doc/instances.png

puts images of a data folder, their true instances, and the instances and embeddings that `inference.py --save
labels,embedding --keep-names` found side by side. Images are (h, w, 3) uint8 RGB; label maps are (H, W) integers of any
size, 0 = background. matplotlib, which takes a second to import, is imported where it is used: inference doesn't.
"""

if __name__ == "__main__":
    from run.command import start

    start()

import argparse
from pathlib import Path

import cv2
import numpy as np

import utils
from clustering import instance_colors
from data.files import find_pairs
from datagenerator import read_image, read_label
from run.command import UserError, command

ALPHA = 0.3
CLASS_ALPHA = 0.5
FONT = cv2.FONT_HERSHEY_SIMPLEX
MAX_LEGEND = 20  # instances that a scatter plot names
MAX_POINTS = 6000  # pixels that it draws


def paint_instances(image, label_map, alpha=ALPHA):
    """Blend the color of each instance over an image, as the original does; the background stays as it is."""
    colors = np.vstack([np.zeros((1, 3), np.uint8), instance_colors(int(label_map.max(initial=0)))])
    painted = resize_nearest(np.take(colors, label_map, axis=0), image.shape)
    # into the same array: fresh memory costs as much as the blending
    return cv2.addWeighted(image, 1.0, painted, alpha, 0.0, painted)  # no color is black, so black leaves the image


def write_names(image, label_map, names):
    """Write the names of instances, {id: str}, on an image, in place, each in the middle of its middle row."""
    pixels = np.flatnonzero(label_map)
    ids = label_map.ravel()[pixels]
    pixels, ids = (values[np.argsort(ids, kind="stable")] for values in (pixels, ids))
    for identity, name in names.items():
        start, end = np.searchsorted(ids, (identity, identity + 1))
        if start < end:
            rows, columns = np.unravel_index(pixels[start:end], label_map.shape)
            row = rows[len(rows) // 2]
            place = (np.array([columns[rows == row].mean(), row]) + 0.5) * image.shape[1::-1] / label_map.shape[::-1]
            (width, height), _ = cv2.getTextSize(name, FONT, _text_size(image), 1)
            x, y = np.clip(place + (-width / 2, height / 2), (0, height), image.shape[1::-1]).astype(int).tolist()
            _write(image, name, (max(0, min(x, image.shape[1] - width)), y))


def _text_size(image):
    return max(0.35, image.shape[0] / 1400)


def _write(image, text, place):
    """White text with a dark rim, its lower left corner at `place` (x, y), in place."""
    size = _text_size(image)
    for color, width in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(image, text, place, FONT, size, color, max(1, round(2 * size * width)), cv2.LINE_AA)


def paint_classes(image, class_map, names):
    """Blend the color of each class over an image, with a legend; (h, w) uint8 numbers of `names` from 1 on."""
    colors = instance_colors(len(names)).tolist()
    painted = np.take(np.array([(0, 0, 0), *colors], np.uint8), class_map, axis=0)
    painted = cv2.addWeighted(image, 1 - CLASS_ALPHA, painted, CLASS_ALPHA, 0.0, painted)
    painted[class_map == 0] = image[class_map == 0]
    side = max(4, min(image.shape[0] // 30, image.shape[0] // (len(names) + 1)))
    for number, (name, color) in enumerate(zip(names, colors, strict=True)):
        cv2.rectangle(painted, (side // 2, number * side + side // 2), (3 * side // 2, (number + 1) * side), color, -1)
        _write(painted, name, (2 * side, (number + 1) * side))
    return painted


def resize_nearest(array, shape):
    """Resize (H, W, ...) colors or uint16 ids to an image's shape (h, w, ...) by nearest neighbor."""
    return cv2.resize(array, shape[1::-1], interpolation=cv2.INTER_NEAREST_EXACT)


def sequential_ids(label):
    """The ids of an integer array as 1, 2, 3, ... in their order; 0, the background, stays."""
    return np.searchsorted(np.unique(np.append(0, label)), label)


def label_image(label_map, shape):
    """Ids of a label map as (h, w) uint16, at an image's shape (h, w, ...)."""
    return resize_nearest(label_map.astype(np.uint16), shape)


def probability_image(logits, shape):
    """Lane probability of (H, W) logits as (h, w) uint8, 0..255, at an image's shape (h, w, ...)."""
    probability = np.rint(127.5 + 127.5 * np.tanh(logits / 2)).astype(np.uint8)
    return cv2.resize(probability, shape[1::-1], interpolation=cv2.INTER_LINEAR)


def embedding_image(embedding, shape):
    """`embedding_to_color` of (H, W, D) embeddings as (h, w, 3) uint8, at an image's shape (h, w, ...)."""
    return cv2.resize(embedding_to_color(embedding), shape[1::-1], interpolation=cv2.INTER_LINEAR)


def draw_lanes(image, lanes, h_samples, color=None, thickness=5):
    """Draw TuSimple lanes, x at rows `h_samples`, negative where there is no point, as lines on a copy of an image.

    `color` is the RGB of all lanes, or (N, 3), that of each; default each lane its own. `thickness` is in pixels.
    """
    image = image.copy()
    colors = instance_colors(len(lanes)) if color is None else np.broadcast_to(color, (len(lanes), 3))
    for lane, line_color in zip(lanes, colors.tolist(), strict=True):
        points = [(x, y) for x, y in zip(lane, h_samples, strict=True) if x >= 0]
        cv2.polylines(image, [np.array(points, np.int32).reshape(-1, 1, 2)], False, line_color, thickness, cv2.LINE_AA)
    return image


def embedding_to_color(embedding):
    """The first three channels of (H, W, D) embeddings as (H, W, 3) uint8, each from its 1st to its 99th percentile."""
    color = np.zeros((*embedding.shape[:2], 3), np.uint8)
    for index in range(min(3, embedding.shape[2])):
        channel = embedding[:, :, index].astype(np.float32)  # a copy whose values lie side by side
        low, high = np.percentile(channel, (1, 99))
        color[:, :, index] = 255 * np.clip((channel - low) / np.maximum(high - low, 1e-6), 0, 1)
    return color


def scatter_plot(embedding, label, path, title=""):
    """Save a scatter plot, 3-D or 2-D, of an image's (H, W, D) embeddings, colored by (H, W) ids, background gray.

    Of the pixels it has `MAX_POINTS`, the same number of each instance as far as it has so many.
    """
    from matplotlib.figure import Figure

    points, ids = embedding.reshape(-1, embedding.shape[-1]), label.reshape(-1)
    if points.shape[1] == 1:
        points = np.column_stack([points, np.zeros(len(points))])
    dims = min(points.shape[1], 3)
    figure = Figure(figsize=(6, 6), layout="constrained")
    axes = figure.add_subplot(projection="3d" if dims == 3 else None)
    present = np.unique(ids)
    instances = present[present != 0]
    colors = dict(zip(instances, instance_colors(len(instances)) / 255.0, strict=True)) | {0: np.full(3, 0.7)}
    # pixels in random order, then by instance, which keeps it within each
    order = np.random.default_rng(0).permutation(len(ids))
    order = order[np.argsort(ids[order], kind="stable")]
    groups = np.split(order, np.searchsorted(ids[order], present)[1:])
    drawn = np.concatenate([group[: max(1, MAX_POINTS // len(present))] for group in groups])
    axes.scatter(*points[drawn, :dims].T, s=3, c=[colors[i] for i in ids[drawn]])
    if len(present) <= MAX_LEGEND:
        for i in present:
            axes.scatter(*[[]] * dims, s=3, color=colors[i], label=str(i) if i else "background")
        axes.legend(loc="upper right", markerscale=4)
    else:
        title = f"{title}, {len(instances)} instances".lstrip(", ")
    axes.set_title(title)
    figure.savefig(path, dpi=100)


def instances_figure(data_folder, results, path, count=4, side=256):
    """Save `count` images of a data folder, a row for each: image, true instances, instances found, embedding.

    Args:
        data_folder: with `images/` and `labels/`; images are shown from their darkest to their brightest percent.
        results: folder with NAME_labels.png and NAME_embedding.png of each image NAME; UserError if it has none.
        path: png file to write.
        count: images shown, of those that have results; as many whose count of instances is the middle one of a part.
        side: pixels of the longer side of each.
    """
    chosen = []
    for image, label in find_pairs(data_folder):
        label_file, embedding = (Path(results, f"{Path(image).stem}_{kind}.png") for kind in ("labels", "embedding"))
        if label_file.is_file() and embedding.is_file():
            chosen.append((len(np.unique(read_label(label))), image, label, label_file, embedding))
    if not chosen:
        raise UserError(
            f"{results}: found no results of the images in {data_folder}, expected those of inference.py "
            "--save labels,embedding --keep-names; run it first"
        )
    chosen.sort()
    count = min(count, len(chosen))
    rows = []
    for place in (np.arange(count) + 0.5) * len(chosen) / count:
        _, image, label, label_file, embedding = chosen[int(place)]
        image = embedding_to_color(read_image(image))
        black = np.zeros_like(image)
        shown = [paint_instances(black, sequential_ids(read_label(name)), alpha=1.0) for name in (label, label_file)]
        size = np.maximum(np.array(image.shape[1::-1]) * side // max(image.shape[:2]), 1)
        tiles = [
            cv2.resize(tile, size, interpolation=cv2.INTER_AREA) for tile in (image, *shown, read_image(embedding))
        ]
        rows.append(np.hstack([np.pad(tile, ((2, 2), (2, 2), (0, 0)), constant_values=255) for tile in tiles]))
    width = max(row.shape[1] for row in rows)
    rows = [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0)), constant_values=255) for row in rows]
    save_image(path, np.vstack(rows))


def save_image(path, image):
    """Write (h, w, 3) uint8 RGB or (h, w) uint8/uint16 to a file, whole or not at all; raises OSError."""
    # a view of reversed channels would be copied, slowly
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
    instances.add_argument("data_folder", metavar="DATA")
    instances.add_argument("results", metavar="RESULTS")
    instances.add_argument("path", metavar="PNG")
    args = parser.parse_args(argv)
    if Path(args.path).suffix.lower() != ".png":
        parser.error(f"{args.path}: found another name, expected one that ends in .png to write; change it")
    instances_figure(args.data_folder, args.results, args.path)


if __name__ == "__main__":
    main()
