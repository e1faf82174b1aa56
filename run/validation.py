"""What a run shows of its model: validation losses, scores, TensorBoard events, plots."""

import math
from pathlib import Path

import numpy as np
import tensorflow as tf

import visualization
from clustering import BANDWIDTH, THRESHOLD, class_map, instance_label_map, lane_mask
from data.files import IGNORED_CLASS
from datagenerator import NO_LABEL, batches, make_dataset, read_image, read_pair, view_of, zoomed_size
from evaluation.classes import class_confusion, class_iou
from evaluation.instances import instance_score
from export.formats import require_finite
from lanes.curves import fit_lanes
from lanes.tusimple import tusimple_line, tusimple_score
from pipeline.segmentation import Network, Settings, segment_tiles
from run.config import input_size
from run.train_step import CLASS_TERM, loss_terms


class Validation:
    """Losses of a model on validation images, and its score: TuSimple's where there are its labels, or instances'.

    Batches with the view "stretch" alone. Of an image that inference takes in tiles the losses are its middle's.
    """

    def __init__(self, model, losses, data, flags, config):
        """Take a keras.Model, a function of `make_losses`, `pairs.Data`, and a run's flags and config."""
        view, size = view_of(config, flags.outdir), input_size(flags)
        self.data, self.ignore = data, flags.ignore
        # lanes have their own
        self.settings = Settings(2 * flags.dvar or BANDWIDTH, config.get("threshold", THRESHOLD))
        self.scored = bool(flags.var or flags.dist) and data.has_labels  # else no embeddings are trained
        self.network = Network(model, size, view, False, config.get("min_pixels"), config.get("min_width", 1))
        count = flags.batch_size if view.kind == "stretch" else 1
        self.datasets = {
            name: make_dataset(pairs, size, count, view=view, ignore=flags.ignore)
            for name, pairs in data.folders.items()
        }

        @tf.function(reduce_retracing=True)
        def step(image, label):
            outputs = model(image, training=False)
            return tf.stack(losses(outputs, label)), outputs

        self.step = step

    def run(self):
        """Validate the model: {name: number}.

        Mean losses over the images that they are about; TuSimple's Accuracy, FP and FN, or `instance_score`; "mIoU" of
        classes at the network's size. Of several folders means of what all have, and under "folders" {name: its own}.
        """
        folders = {name: self._validate(name) for name in self.datasets}
        first = next(iter(folders.values()))
        if len(folders) == 1:
            return first
        common = [key for key in first if all(key in values for values in folders.values())]
        means = {key: round(float(np.mean([values[key] for values in folders.values()])), 5) for key in common}
        return {**means, "folders": folders}

    def _validate(self, name):
        pairs, lanes, names = self.data.folders[name], self.data.lanes[name], loss_terms(self.network.outputs)
        sums, counts, confusion = np.zeros(len(names)), np.zeros(len(names)), 0
        stuff = tuple(self.data.classes.values())

        def outputs_of_images():
            nonlocal sums, counts, confusion
            for image, label, index in batches(self.datasets[name]):
                terms, outputs = self.step(image, label)
                count = _count_images(names, label.numpy())
                sums, counts = sums + count * terms.numpy(), counts + count
                parts = (index, label, *outputs.values())
                for number, truth, *values in zip(*(part.numpy() for part in parts), strict=True):
                    image_outputs = dict(zip(outputs, values, strict=True))
                    require_finite(image_outputs)
                    if stuff:
                        classes = class_map(image_outputs, stuff, lane_mask(image_outputs, self.settings.threshold))
                        confusion = confusion + class_confusion(classes, truth[:, :, 1], len(stuff))
                    yield number, image_outputs

        score = {}
        if lanes:
            lines = [self._find_lanes(lanes[number], outputs) for number, outputs in outputs_of_images()]
            score = tusimple_score(lines, lanes, math.inf)
        elif self.scored and all(pair[1] for pair in pairs):
            label_maps = (self._find_instances(pairs[number], outputs) for number, outputs in outputs_of_images())
            score = instance_score(label_maps, self.ignore)
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

    def _find_instances(self, pair, outputs):
        """Label maps (h, w), found and true, of the image's size, as in `python -m evaluation`."""
        image, truth = read_pair(pair[:2], self.ignore)
        _, label_map = self._find(image, truth.shape, outputs, self.settings)
        return visualization.label_image(label_map, truth.shape), truth

    def _find_lanes(self, labeled, outputs):
        """TuSimple line that inference.py by default writes for an image of `read_lanes`."""
        path, size = labeled["raw_file"], labeled["size"]
        image = read_image(path) if self.network.needs_tiles(size) else None
        outputs, label_map = self._find(image, size, outputs, Settings())
        lanes = fit_lanes(label_map, size, logits=outputs["semantic"])
        return tusimple_line(path, lanes, labeled["h_samples"], 0.0, size)

    def _find(self, image, size, outputs, settings):
        """As `segment_outputs`."""
        if self.network.needs_tiles(size):
            return segment_tiles(self.network, image, settings)
        if self.network.view.kind == "crop":
            height, width = zoomed_size(size, self.network.view.zoom)
            outputs = {name: values[:height, :width] for name, values in outputs.items()}
        return outputs, self.network.find_instances(outputs, settings)


def _count_images(names, label):
    """How many images each loss of `names` is about, label (B, H, W) or (B, H, W, 2)."""
    if CLASS_TERM not in names:
        return np.full(len(names), float(len(label)))
    labeled, classed = (label != (NO_LABEL, IGNORED_CLASS)).any(axis=(1, 2)).sum(axis=0).astype(float)
    return np.array([classed if name == CLASS_TERM else labeled for name in names])


def figure_of_merit(validation):
    """(measure of the best model, number that is the least there)."""
    if "Accuracy" in validation:
        return "score", validation["FP"] + validation["FN"] - validation["Accuracy"]
    for measure in ("AP", "mIoU"):
        if measure in validation:
            return measure, 1e-6 * validation["loss"] - validation[measure]  # equal where models find nothing
    return "loss", validation["loss"]


class SummaryLog:
    """TensorBoard events and plots of one validation image's embeddings."""

    def __init__(self, model, shown, flags, settings, steps):
        """Take a batch (image, label, index) of one image, the `Validation`'s settings, and the run's steps."""
        terms = ("var", "dist", "reg", "dvar", "ddist")
        self.plots = Path(flags.outdir, "_".join(f"{name}{getattr(flags, name):g}" for name in terms))
        self.plots.mkdir(parents=True, exist_ok=True)
        self.writers = {}
        for kind in ("train", "validation"):
            folder = Path(flags.logdir or Path(flags.outdir, "log"), kind)
            folder.mkdir(parents=True, exist_ok=True)
            self.writers[kind] = tf.summary.create_file_writer(str(folder))
        self.model, self.settings, self.every = model, settings, min(flags.plot_every, steps)
        self.image, label = shown[0], shown[1][0].numpy()
        label = label[..., 0] if label.ndim == 3 else label
        self.label = np.where((label == NO_LABEL) | (label == flags.ignore), 0, label)
        self.predict = tf.function(lambda image: model(image, training=False))

    def follow(self, step, values):
        """After each step: what is due, of scalars {name: value} and images."""
        if step % self.every == 0:
            self.scalars("train", step, values)
            self.images(step)

    def scalars(self, kind, step, values, above=""):
        """Write {name: number, or again such a dict} to the events "train" or "validation"."""
        with self.writers[kind].as_default(step):
            for key, value in values.items():
                if isinstance(value, dict):
                    self.scalars(kind, step, value, f"{above}{key}/")
                else:
                    tf.summary.scalar(above + key, value)
        self.writers[kind].flush()

    def images(self, step):
        """Write `cluster_STEP.png`, but for step 0 `instances_STEP.png`, and events."""
        outputs = {name: value[0].numpy() for name, value in self.predict(self.image).items()}
        embedding, image = outputs["embedding"], self.image[0].numpy().astype(np.uint8)
        sequential = visualization.sequential_ids(self.label)
        shown = {
            "input": image,
            "label": visualization.paint_instances(np.zeros_like(image), sequential, alpha=1.0),
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
