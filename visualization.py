"""Pictures of what the network does: painted instances, lanes, embeddings as scatter plot and as color."""

from pathlib import Path

import cv2
import matplotlib.image
import numpy as np
from matplotlib.figure import Figure

from clustering import instance_colors

ALPHA = 0.3


def paint_instances(picture, label_map, alpha=ALPHA):
    """Blend the color of each instance over a picture, as the original does; the background stays as it is.

    Args:
        picture: (h, w, 3) uint8 RGB.
        label_map: (H, W) integers of any size, 0 = background; scaled to the picture by nearest neighbor.
        alpha: weight of the color.

    Returns:
        (h, w, 3) uint8 RGB.
    """
    colors = np.vstack([np.zeros((1, 3), np.uint8), instance_colors(int(label_map.max(initial=0)))])
    mask = cv2.resize(colors[label_map], picture.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    painted = cv2.addWeighted(picture, 1.0, mask, alpha, 0.0)
    return np.where(mask.any(axis=2, keepdims=True), painted, picture)


def draw_lanes(picture, lanes, h_samples, color=None, thickness=5):
    """Draw TuSimple lanes as open polylines.

    Args:
        picture: (h, w, 3) uint8 RGB.
        lanes: lists of x in pixels, one per row of `h_samples`, negative where the lane has no point.
        h_samples: rows y in pixels.
        color: RGB of all lanes; default each lane its own.
        thickness: pixels.

    Returns:
        (h, w, 3) uint8 RGB, a copy.
    """
    picture = picture.copy()
    for lane, own in zip(lanes, instance_colors(len(lanes)), strict=True):
        points = [(x, y) for x, y in zip(lane, h_samples, strict=True) if x >= 0]
        line_color = [int(c) for c in (own if color is None else color)]
        cv2.polylines(
            picture, [np.array(points, np.int32).reshape(-1, 1, 2)], False, line_color, thickness, cv2.LINE_AA
        )
    return picture


def embedding_to_color(embedding):
    """The first three channels of (H, W, D) embeddings as (H, W, 3) uint8, each from its 1st to its 99th percentile."""
    channels = np.zeros((*embedding.shape[:2], 3), np.float32)
    channels[:, :, : min(3, embedding.shape[2])] = embedding[:, :, :3]
    low, high = np.percentile(channels, (1, 99), axis=(0, 1))
    return (255 * np.clip((channels - low) / np.maximum(high - low, 1e-6), 0, 1)).astype(np.uint8)


def scatter_plot(embedding, label, path, title="", max_points=6000):
    """Save a scatter plot of a picture's embeddings colored by the true instance (3-D if D >= 3, else 2-D).

    Args:
        embedding: (H, W, D) float.
        label: (H, W) integer ids; id 0, the background, is drawn gray.
        path: png file to write.
        title: shown above.
        max_points: pixels drawn, the same number of each instance as far as it has so many.
    """
    points, ids = embedding.reshape(-1, embedding.shape[-1]), label.reshape(-1)
    rng = np.random.default_rng(0)
    present = np.unique(ids)
    figure = Figure(figsize=(6, 6), layout="constrained")
    dims = min(points.shape[1], 3)
    axes = figure.add_subplot(projection="3d" if dims == 3 else None)
    if dims == 1:
        points, dims = np.column_stack([points, np.zeros(len(points))]), 2
    lane_colors = iter(instance_colors(len(present)) / 255.0)
    for instance in present:
        where = np.flatnonzero(ids == instance)
        where = rng.permutation(where)[: max(1, max_points // len(present))]
        color = (0.7, 0.7, 0.7) if instance == 0 else next(lane_colors)
        axes.scatter(*points[where, :dims].T, s=3, color=color, label="background" if instance == 0 else str(instance))
    axes.set_title(title)
    axes.legend(loc="upper right", markerscale=4)
    figure.savefig(path, dpi=100)


def feature_space_figure(plots, titles, path):
    """Save scatter plots of several training steps side by side (`plots`: png files of `scatter_plot`)."""
    figure = Figure(figsize=(4 * len(plots), 4.3), layout="constrained")
    for axes, plot, title in zip(figure.subplots(1, len(plots), squeeze=False)[0], plots, titles, strict=True):
        axes.imshow(matplotlib.image.imread(plot))
        axes.set_title(title)
        axes.axis("off")
    figure.savefig(path, dpi=100)


def save_picture(path, picture):
    """Write (h, w, 3) uint8 RGB or (h, w) uint8/uint16 to a file under a temporary name and rename."""
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        if not cv2.imwrite(str(temporary), picture[:, :, ::-1] if picture.ndim == 3 else picture):
            raise OSError(f"{path}: the picture could not be written")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
