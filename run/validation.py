"""What a training run shows of its model: validation losses, TuSimple score, TensorBoard events and images."""

import math
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

import visualization
from clustering import BANDWIDTH, THRESHOLD, find_instances, instance_label_map, lane_mask
from datagenerator import STRETCH, batches, make_dataset, read_image, read_label, read_pair, zoomed_size
from evaluation.instances import instance_score
from lanes.curves import fit_lanes
from lanes.tusimple import read_labels, read_lines, tusimple_line, tusimple_score
from pipeline.segmentation import Network, segment_tiles
from run.command import UserError
from run.train_step import LOSS_TERMS


def tusimple_labels(pairs):
    """TuSimple lines of image and label pairs, from the `labels.json` that the data scripts write beside `images/`.

    A `labels.json` without any such line is another program's: no pair has a line then, and it is said.

    Args:
        pairs: list of (image path, label path); image 0012.png belongs to line 13.

    Returns:
        list of (TuSimple dict without empty lanes, (h, w) of the image), or None if a pair has no line.

    Raises:
        UserError: a `labels.json` that can't be read.
        UserError: a label image that can't be decoded, or lanes that don't lie on it.
    """
    lines, found = {}, []
    for image, label in pairs:
        path = Path(image).parent.parent / "labels.json"
        if path not in lines:
            lines[path] = _read_lines(path) if path.is_file() else []
        number = int(Path(image).stem) if Path(image).stem.isdecimal() else len(lines[path])
        if number >= len(lines[path]):
            return None
        # nobody can find a lane without a point, see --skip-empty-lanes of the evaluation
        line = lines[path][number]
        kept = [lane for lane in line["lanes"] if max(lane, default=-1) >= 0]
        ids = read_label(label)
        _check_lanes(kept, line["h_samples"], ids, f"{path}:{number + 1}", label)
        found.append(({**line, "raw_file": image, "lanes": kept}, ids.shape))
    return found


def _read_lines(path):
    try:
        entries = [entry for _, entry in read_lines(path)]
    except UserError:
        entries = []
    if all(isinstance(entry, UserError) for entry in entries):
        print(f"{path}: found no TuSimple line; validation goes without TuSimple's score", file=sys.stderr)
        return []
    return read_labels(path)


def _check_lanes(lanes, rows, ids, where, label):
    """Raise UserError if the lanes of a TuSimple line don't lie on the instances of a label image (h, w)."""
    points = np.array([(y, x) for lane in lanes for x, y in zip(lane, rows, strict=True) if x >= 0], int).reshape(-1, 2)
    inside = points[((points >= 0) & (points < ids.shape)).all(axis=1)]
    right = np.count_nonzero(ids[tuple(inside.T)])
    if 2 * right < len(points):
        raise UserError(
            f"{where}: found {len(points) - right} of {len(points)} points beside the instances of {label} "
            f"({ids.shape[1]}x{ids.shape[0]}), expected lanes and labels of one size; make both again or remove "
            "labels.json, which only the score needs"
        )


class Validation:
    """Losses of a model on validation images, and its score: TuSimple's where there are its labels, or instances'.

    Of several folders each is validated by itself and counts alike, however many images it has.
    """

    def __init__(
        self,
        model,
        losses,
        folders,
        size,
        batch_size,
        view=STRETCH,
        ignore=None,
        bandwidth=BANDWIDTH,
        threshold=THRESHOLD,
        min_pixels=None,
        instances=True,
    ):
        """Check the validation images and labels; nothing is computed yet.

        Args:
            model: keras.Model.
            losses: function (outputs, label) -> the losses `LOSS_TERMS`.
            folders: {name: list of (image path, label path)}.
            size: (H, W) of the network.
            batch_size: images per batch.
            view: `datagenerator.View`; but with "stretch" images go through the network one by one. Of one so large
                that inference takes it in tiles, instances are found so, too, and the losses are those of its middle.
            ignore: id of the pixels that don't count, or None.
            bandwidth, threshold: with which instances are found; lanes have their own.
            min_pixels: of an instance, see `segmentation.Network`.
            instances: whether to score instances, which a network without trained embeddings doesn't find.
        """
        self.ignore, self.instances = ignore, instances
        self.network = Network(model, size, view, min_pixels=min_pixels)
        self.bandwidth = bandwidth
        self.folders = {}
        for name, pairs in folders.items():
            labels = tusimple_labels(pairs) if model.output.get("semantic") is not None else None
            data = make_dataset(pairs, size, batch_size if view.kind == "stretch" else 1, view=view)
            self.folders[name] = (data, labels, pairs)

        self.threshold = THRESHOLD if any(labels for _, labels, _ in self.folders.values()) else threshold

        @tf.function(reduce_retracing=True)
        def step(image, label):
            outputs = model(image, training=False)
            return tf.stack(losses(outputs, label)), outputs

        self.step = step

    def run(self):
        """Validate the model.

        Returns:
            Mean losses `LOSS_TERMS` over the images, and Accuracy, FP and FN of TuSimple if there are labels, else
            those of `instances.instance_score`; a dict. Of several folders the means of these, of what all of them
            have, and under "folders" {name: its own}.
        """
        found = {name: self._run(*folder) for name, folder in self.folders.items()}
        if len(found) == 1:
            return next(iter(found.values()))
        common = [key for key in next(iter(found.values())) if all(key in values for values in found.values())]
        means = {key: round(float(np.mean([values[key] for values in found.values()])), 5) for key in common}
        return {**means, "folders": found}

    def _run(self, data, labels, pairs):
        total, count = np.zeros(len(LOSS_TERMS)), 0

        def outputs_of_images():
            nonlocal total, count
            for image, label, index in batches(data):
                terms, outputs = self.step(image, label)
                total += len(label) * terms.numpy()
                count += len(label)
                for number, *values in zip(index.numpy(), *(part.numpy() for part in outputs.values()), strict=True):
                    yield number, dict(zip(outputs, values, strict=True))

        if labels:
            lines = [self._find_lanes(*labels[number], outputs) for number, outputs in outputs_of_images()]
            score = tusimple_score(lines, [line for line, _ in labels], math.inf)
        elif self.instances:
            found = (self._find_instances(pairs[number], outputs) for number, outputs in outputs_of_images())
            score = instance_score(found, self.ignore)
        else:
            score = {}
            for _ in outputs_of_images():
                pass
        result = dict(zip(LOSS_TERMS, (total / count).round(5).tolist(), strict=True))
        return result | {name: round(value, 5) for name, value in score.items()}

    def _find_instances(self, pair, outputs):
        """Label maps (h, w), found and true, of the image's size, as `python -m evaluation --instances` has them."""
        image, truth = read_pair(pair)
        label_map = self._find(pair[0], truth.shape, outputs, self.bandwidth, self.threshold)
        return visualization.paint_kind("labels", image, label_map, None), truth

    def _find_lanes(self, line, size, outputs):
        """TuSimple line, of an image of `size` (h, w), that inference.py with its defaults would write."""
        label_map = self._find(line["raw_file"], size, outputs, BANDWIDTH, THRESHOLD)
        return tusimple_line(line["raw_file"], fit_lanes(label_map, size), line["h_samples"], 0.0, size)

    def _find(self, path, size, outputs, *settings):
        """Label map of an image of `size` (h, w), as `segmentation.segment`; of outputs that aren't finite, empty."""
        try:
            if self.network.needs_tiles(size):
                return segment_tiles(self.network, read_image(path), *settings, "fast", 0.0)[1]
        except UserError:
            return np.zeros(size, np.int32)
        if self.network.view.kind == "crop":
            height, width = zoomed_size(size, self.network.view.zoom)
            outputs = {name: values[:height, :width] for name, values in outputs.items()}
        if not all(np.isfinite(values).all() for values in outputs.values()):
            return np.zeros(outputs["embedding"].shape[:2], np.int32)
        return find_instances(outputs, *settings, min_pixels=self.network.min_pixels)


def _flatten(values, prefix=""):
    """(name, number) of a dict of numbers and dicts, whose names come before those in them."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}/")
        else:
            yield prefix + key, value


def choose_measure(validation):
    """What measures the best model: "score" where there is TuSimple's, else "AP" of instances, else "loss"."""
    return "score" if "Accuracy" in validation else "AP" if "AP" in validation else "loss"


def figure_of_merit(validation, measure):
    """The number that the best model has the least of: FP + FN - Accuracy for "score", - AP for "AP", or the loss.

    Raises:
        UserError: there is no such score any more.
    """
    if measure == "loss":
        return validation["loss"]
    if choose_measure(validation) != measure:
        raise UserError("--valdir: found another labels.json than when the run began, or none; restore it")
    if measure == "AP":
        return 1e-6 * validation["loss"] - validation["AP"]  # the loss parts models that find nothing
    return validation["FP"] + validation["FN"] - validation["Accuracy"]


class SummaryLog:
    """TensorBoard events of a run, and plots of one validation image's embeddings."""

    def __init__(self, logdir, model, shown, plots, bandwidth, threshold, plot_every, cluster_every, ignore=None):
        """Open the event files.

        Args:
            logdir: folder of the events.
            model: keras.Model.
            shown: (image, label, index), a batch of one validation image.
            plots: folder of the plots, made if absent.
            bandwidth, threshold: of the instances.
            plot_every: steps between summaries and scatter plots.
            cluster_every: steps between mean-shift images.
            ignore: id that is shown as background, or None.
        """
        self.writers = {
            name: tf.summary.create_file_writer(str(Path(logdir) / name)) for name in ("train", "validation")
        }
        self.model, self.plots, self.bandwidth, self.threshold = model, plots, bandwidth, threshold
        self.plot_every, self.cluster_every = plot_every, cluster_every
        self.image, self.label = shown[0], shown[1][0].numpy()
        if ignore is not None:
            self.label = np.where(self.label == ignore, 0, self.label)
        self.predict = tf.function(lambda image: model(image, training=False))
        plots.mkdir(parents=True, exist_ok=True)

    def follow(self, step, values):
        """After each step: whatever is due, of scalars `values` (a dict), weight histograms and images."""
        if step % self.plot_every == 0:
            self.scalars("train", step, values)
            self.weights(step)
        if step % self.plot_every == 0 or step % self.cluster_every == 0:
            self.images(step)

    def scalars(self, name, step, values):
        """Write a dict of numbers, and of dicts of numbers, to the events "train" or "validation"."""
        with self.writers[name].as_default(step):
            for key, value in _flatten(values):
                tf.summary.scalar(key, value)
        self.writers[name].flush()

    def weights(self, step):
        """Write a histogram of every weight."""
        with self.writers["train"].as_default(step):
            for variable in self.model.trainable_variables:
                tf.summary.histogram(variable.path, variable.value)

    def images(self, step):
        """Write a scatter plot, `cluster_STEP.png`, every `cluster_every` steps `instances_STEP.png`, and events."""
        outputs = {name: value[0].numpy() for name, value in self.predict(self.image).items()}
        embedding, image = outputs["embedding"], self.image[0].numpy().astype(np.uint8)
        sequential = visualization.sequential_ids(self.label)
        shown = {
            "input": image,
            "label": visualization.paint_instances(np.zeros_like(image), sequential, alpha=1.0),
            "prediction": visualization.embedding_to_color(embedding[:, :, :1].repeat(3, axis=2)),
            "embedding": visualization.embedding_to_color(embedding),
        }
        visualization.scatter_plot(embedding, self.label, self.plots / f"cluster_{step:06d}.png", f"step {step}")
        if step and step % self.cluster_every == 0:
            label_map = instance_label_map(embedding, self.bandwidth, lane_mask(outputs, self.threshold))
            shown["instances"] = visualization.paint_instances(image, label_map)
            visualization.save_image(self.plots / f"instances_{step:06d}.png", shown["instances"])
        with self.writers["validation"].as_default(step):
            for name, value in shown.items():
                tf.summary.image(name, value[None])
        self.writers["validation"].flush()
