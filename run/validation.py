"""What a training run shows of its model: validation losses, TuSimple score, TensorBoard events and images."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

import visualization
from clustering import BANDWIDTH, THRESHOLD, class_map, instance_label_map, lane_mask
from data.files import IGNORED_CLASS
from datagenerator import NO_LABEL, STRETCH, batches, make_dataset, read_image, read_pair, zoomed_size
from evaluation.classes import class_confusion, class_iou
from evaluation.instances import instance_score
from lanes.curves import fit_lanes
from lanes.tusimple import tusimple_line, tusimple_score
from pipeline.segmentation import Network, Settings, segment_tiles
from run.command import UserError
from run.train_step import CLASS_TERM, loss_terms

KINDS = ("train", "validation")  # of events


@dataclass(frozen=True)
class InstanceSettings:
    """With what the instances of images are found and compared; lanes have their own bandwidth and threshold."""

    bandwidth: float = BANDWIDTH  # of the mean shift
    threshold: float = THRESHOLD  # lane probability from which a pixel belongs to an instance
    min_pixels: float | None = None  # of an instance, see `segmentation.Network`
    ignore: int | None = None  # id of the pixels that don't count
    scored: bool = True  # a network without trained embeddings finds none
    stuff: tuple = ()  # of each class, whether it has no instances


class Validation:
    """Losses of a model on validation images, and its score: TuSimple's where there are its labels, or instances'.

    Of several folders each is validated by itself and counts alike, however many images it has.
    """

    def __init__(self, model, losses, data, size, batch_size, view=STRETCH, settings=InstanceSettings()):
        """Take up what is to be validated; nothing is computed yet.

        Args:
            model, size, view: keras.Model, (H, W) and `datagenerator.View` of the network; but with "stretch" images
                go through it one by one. Of one so large that inference takes it in tiles, instances are found so,
                too, and the losses are those of its middle.
            losses: function of `train_step.make_losses`.
            data: `pairs.Data`.
            batch_size: images per batch.
            settings: `InstanceSettings`.
        """
        self.settings, self.data = settings, data
        self.network = Network(model, size, view, min_pixels=settings.min_pixels)
        args = size, batch_size if view.kind == "stretch" else 1
        kinds = {"view": view, "ignore": settings.ignore}
        self.datasets = {name: make_dataset(pairs, *args, **kinds) for name, pairs in data.folders.items()}

        @tf.function(reduce_retracing=True)
        def step(image, label):
            outputs = model(image, training=False)
            return tf.stack(losses(outputs, label)), outputs

        self.step = step

    def run(self):
        """Validate the model: {name: number}.

        Mean losses of `loss_terms` over the images that have what these compare with, and Accuracy, FP and FN of
        TuSimple if there are labels, else the numbers of `instance_score`; where there are classes their mean IoU,
        "mIoU", at the size that the network sees. Of several folders the means of what all of them have, and under
        "folders" {name: its own}.
        """
        folders = {name: self._validate(name) for name in self.datasets}
        first = next(iter(folders.values()))
        if len(folders) == 1:
            return first
        common = [key for key in first if all(key in values for values in folders.values())]
        means = {key: round(float(np.mean([values[key] for values in folders.values()])), 5) for key in common}
        return {**means, "folders": folders}

    def _validate(self, name):
        """As `run`, of one folder."""
        pairs, lanes, names = self.data.folders[name], self.data.lanes[name], loss_terms(self.network.outputs)
        sums, counts, confusion = np.zeros(len(names)), np.zeros(len(names)), 0

        def outputs_of_images():
            nonlocal sums, counts, confusion
            for image, label, index in batches(self.datasets[name]):
                terms, outputs = self.step(image, label)
                count = _count_images(names, label.numpy())
                sums, counts = sums + count * terms.numpy(), counts + count
                parts = (index, label, *outputs.values())
                for number, truth, *values in zip(*(part.numpy() for part in parts), strict=True):
                    image_outputs = dict(zip(outputs, values, strict=True))
                    if "classes" in outputs:
                        confusion = confusion + self._count_classes(image_outputs, truth[:, :, 1])
                    yield number, image_outputs

        score = {}
        if lanes:
            lines = [self._find_lanes(lanes[number], outputs) for number, outputs in outputs_of_images()]
            score = tusimple_score(lines, lanes, math.inf)
        elif self.settings.scored and all(pair[1] for pair in pairs):
            label_maps = (self._find_instances(pairs[number], outputs) for number, outputs in outputs_of_images())
            score = instance_score(label_maps, self.settings.ignore)
        else:
            for _ in outputs_of_images():
                pass
        if np.any(confusion):
            score["mIoU"] = float(np.nanmean(class_iou(confusion)))
        means = sums / np.maximum(counts, 1)
        if CLASS_TERM in names:
            means[0] = means[1:].sum()  # the loss
        means = dict(zip(names, means.tolist(), strict=True))
        return {name: round(value, 5) for name, value in (means | score).items()}

    def _count_classes(self, outputs, truth):
        """`class_confusion` of an image, all zeros if outputs aren't finite."""
        stuff = self.settings.stuff
        if not all(np.isfinite(values).all() for values in outputs.values()):
            return np.zeros(2 * [len(stuff) + 1], int)
        mask = lane_mask(outputs, self.settings.threshold)
        return class_confusion(class_map(outputs, stuff, mask), truth, len(stuff))

    def _find_instances(self, pair, outputs):
        """Label maps (h, w), found and true, of the image's size, as `python -m evaluation --instances` has them."""
        image, truth = read_pair(pair[:2], self.settings.ignore)
        settings = Settings(self.settings.bandwidth, self.settings.threshold)
        label_map = self._find(lambda: image, truth.shape, outputs, settings)
        return visualization.label_image(label_map, truth.shape), truth

    def _find_lanes(self, labeled, outputs):
        """TuSimple line of an image, of `read_lanes`, that inference.py with its defaults would write."""
        path, size = labeled["raw_file"], labeled["size"]
        label_map = self._find(lambda: read_image(path), size, outputs, Settings())
        return tusimple_line(path, fit_lanes(label_map, size), labeled["h_samples"], 0.0, size)

    def _find(self, read, size, outputs, settings):
        """Label map of the image that `read` gives, of `size` (h, w); of outputs that aren't finite, empty."""
        if self.network.needs_tiles(size):
            image = read()
            try:
                return segment_tiles(self.network, image, settings)[1]
            except UserError:
                return np.zeros(size, np.int32)
        if self.network.view.kind == "crop":
            height, width = zoomed_size(size, self.network.view.zoom)
            outputs = {name: values[:height, :width] for name, values in outputs.items()}
        if not all(np.isfinite(values).all() for values in outputs.values()):
            return np.zeros(outputs["embedding"].shape[:2], np.int32)
        return self.network.find_instances(outputs, settings)


def _count_images(names, label):
    """How many images of a batch have what each loss of `names` compares with, label (B, H, W) or (B, H, W, 2)."""
    if CLASS_TERM not in names:
        return np.full(len(names), float(len(label)))
    labeled, classed = (
        float((label[..., i] != absent).any(axis=(1, 2)).sum()) for i, absent in enumerate((NO_LABEL, IGNORED_CLASS))
    )
    return np.array([classed if name == CLASS_TERM else labeled for name in names])


def figure_of_merit(validation):
    """(what measures the best model, the number that it has the least of).

    FP + FN - Accuracy where there is TuSimple's score, else - AP of instances, - mIoU, or the loss.
    """
    if "Accuracy" in validation:
        return "score", validation["FP"] + validation["FN"] - validation["Accuracy"]
    for measure in ("AP", "mIoU"):
        if measure in validation:
            return measure, 1e-6 * validation["loss"] - validation[measure]  # the loss parts models that find nothing
    return "loss", validation["loss"]


class SummaryLog:
    """TensorBoard events of a run, and plots of one validation image's embeddings."""

    def __init__(self, logdir, model, shown, plots, settings, every):
        """Open the event files in `logdir` and make the folder `plots`.

        `shown` is a batch (image, label, index) of one validation image, whose pixels to ignore, of the
        `InstanceSettings`, are shown as background; summaries and plots come `every` so many steps.
        """
        self.writers = {kind: tf.summary.create_file_writer(str(Path(logdir) / kind)) for kind in KINDS}
        self.model, self.plots, self.settings, self.every = model, plots, settings, every
        self.image, self.label = shown[0], shown[1][0].numpy()
        if self.label.ndim == 3:
            self.label = np.where(self.label[..., 0] == NO_LABEL, 0, self.label[..., 0])
        if settings.ignore is not None:
            self.label = np.where(self.label == settings.ignore, 0, self.label)
        self.predict = tf.function(lambda image: model(image, training=False))
        plots.mkdir(parents=True, exist_ok=True)

    def follow(self, step, values):
        """After each step: whatever is due, of scalars `values` (a dict) and images."""
        if step % self.every == 0:
            self.scalars("train", step, values)
            self.images(step)

    def scalars(self, kind, step, values, prefix=""):
        """Write a dict of numbers, and of dicts of numbers, to the events "train" or "validation"."""
        with self.writers[kind].as_default(step):
            for key, value in values.items():
                if isinstance(value, dict):
                    self.scalars(kind, step, value, f"{prefix}{key}/")
                else:
                    tf.summary.scalar(prefix + key, value)
        self.writers[kind].flush()

    def images(self, step):
        """Write a scatter plot, `cluster_STEP.png`, but for step 0 `instances_STEP.png`, and events."""
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
        if step:
            mask = lane_mask(outputs, self.settings.threshold)
            label_map = instance_label_map(embedding, self.settings.bandwidth, mask)
            shown["instances"] = visualization.paint_instances(image, label_map)
            visualization.save_image(self.plots / f"instances_{step:06d}.png", shown["instances"])
        with self.writers["validation"].as_default(step):
            for name, value in shown.items():
                tf.summary.image(name, value[None])
        self.writers["validation"].flush()
