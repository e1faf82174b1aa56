"""A model on labeled images: the lanes that it finds, and the images with prediction and label drawn over them."""

import time
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from clustering import instance_classes, lane_probability
from datagenerator import ClassMap, prepare_label, read_image, read_pair
from evaluation.classes import ClassScore, true_classes
from lanes.culane import SIZE
from lanes.curves import fit_lanes
from lanes.tusimple import FOUND, h_samples, lane_scores, right_fractions, tusimple_line, worst_first
from pipeline.classes import find_classes
from pipeline.outputs import output_folder
from pipeline.segmentation import segment_outputs
from visualization import draw_lanes, label_image, save_image

ORANGE, BLUE = (255, 120, 0), (0, 160, 255)
END_LIMIT = 20  # pixels: a lane that ends this far from its label ends too early or too late


def predict_lanes(network, srcdir, labels, settings):
    """Run a model on the images of TuSimple labels.

    Args:
        network, settings: `pipeline.segmentation.Network` and `Settings`.
        srcdir: folder that the labels' raw_file is relative to.
        labels: TuSimple dicts.

    Returns:
        TuSimple dicts; run_time is that from the decoded image to the lanes, in ms; with a semantic head also "scores"
        as `inference.py --json` has them.

    Raises:
        UserError: an image that is missing or can't be decoded.
    """
    lines = []
    for label in tqdm(labels, unit="image", dynamic_ncols=True):
        image = read_image(Path(srcdir) / label["raw_file"])
        if not lines:
            segment_outputs(network, image, settings)  # tracing is no part of the times
        size, start = image.shape[:2], time.perf_counter()
        outputs, label_map = segment_outputs(network, image, settings)
        lanes = fit_lanes(label_map, size)
        run_time = 1000 * (time.perf_counter() - start)
        line = tusimple_line(label["raw_file"], lanes, label["h_samples"], run_time, size)
        if "semantic" in outputs:
            probability = lane_probability(outputs["semantic"][:, :, 0])
            line["scores"] = np.round(lane_scores(line, probability, size), 4).tolist()
        lines.append(line)
    return lines


def match_lanes(predictions, ground_truth):
    """Which lanes of TuSimple dicts, with the rows of their labels, are right by the benchmark.

    Returns:
        list of bool, for each predicted lane of each image; (N, 2, 2), for each labeled lane that is found the rows
        [[first, last], [first, last]] of the points of the lane that matches it best, and of its own.
    """
    truth, right, ends = {entry["raw_file"]: entry for entry in ground_truth}, [], []
    for entry in predictions:
        label = truth[entry["raw_file"]]
        rows = np.array(label["h_samples"])
        found, true = (np.array(lanes).reshape(-1, len(rows)) for lanes in (entry["lanes"], label["lanes"]))
        fractions = right_fractions(found, true, rows)
        right += (fractions >= FOUND).any(axis=0).tolist()
        for lane, fraction in zip(true, fractions, strict=True):
            if max(fraction, default=0) >= FOUND and max(lane) >= 0:
                seen = [rows[x >= 0] for x in (found[np.argmax(fraction)], lane)]
                ends.append([(r.min(), r.max()) for r in seen])
    return right, np.array(ends).reshape(-1, 2, 2)


def describe_scores(scores, right):
    """A line on how well scores tell right lanes from wrong ones, bools: the area under the ROC curve."""
    auc = f"{roc_auc_score(right, scores):.2f}" if len({*right}) == 2 else "-"
    return f"score AUC {auc} ({sum(right)} right, {len(right) - sum(right)} wrong lanes)"


def describe_ends(ends):
    """A line on how far from their labels lanes end, of the rows of `match_lanes`."""
    parts = []
    # short: rows that the lane lacks at that end, below 0 those that it has too many
    for name, short in (("tops", ends[:, 0, 0] - ends[:, 1, 0]), ("bottoms", ends[:, 1, 1] - ends[:, 0, 1])):
        if len(short):
            middle, high = np.percentile(np.abs(short), [50, 90])
            early, late = 100 * np.mean(short > END_LIMIT), 100 * np.mean(short < -END_LIMIT)
            parts.append(f"{name} {middle:.1f}, {high:.1f}, {early:.0f} %, {late:.0f} %")
    what = f"px off (median, 90 % below), over {END_LIMIT} too early, too late"
    return f"ends of {len(ends)} found lanes, {what}: {'; '.join(parts) or '-'}"


def predict_culane(network, srcdir, names, settings):
    """As `predict_lanes`, of images of CULane, 1640x590: for each a list of lanes, (N, 2) int x and y every 10 rows."""
    rows = h_samples(SIZE[0])
    lines = predict_lanes(network, srcdir, [{"raw_file": name, "h_samples": rows} for name in names], settings)
    lanes = [[[(x, y) for x, y in zip(xs, rows, strict=True) if x >= 0] for xs in line["lanes"]] for line in lines]
    return [[np.array(points) for points in image_lanes if points] for image_lanes in lanes]


def predict_instances(network, pairs, ignore, settings):
    """Run a model on (image path, label path) pairs; yields (found, true) label maps, (h, w) uint8 or uint16.

    `ignore` is the id of the pixels that don't count, or None; raises UserError for a file that can't be used.
    """
    for pair in tqdm(pairs, unit="image", dynamic_ncols=True):
        image, truth = read_pair(pair, ignore)
        yield label_image(segment_outputs(network, image, settings)[1], image.shape), truth


def score_classes(network, samples, table, ignore, settings):
    """Run a model with classes on `find_samples` with class maps, of a `class_table`: `ClassScore.result`.

    Where there are labels, instances are scored too, but those of the id `ignore`; raises UserError for a bad file.
    """
    score, stuff = ClassScore(network.classes), list(network.classes.values())
    for image_path, label_path, class_path in tqdm(samples, unit="image", dynamic_ncols=True):
        image, truth = read_pair((image_path, label_path, ClassMap(class_path, table)), ignore)
        label, classes = np.moveaxis(truth, -1, 0)
        has_instances = label_path and not all(stuff)
        if has_instances or network.needs_tiles(image.shape):
            outputs, label_map = segment_outputs(network, image, settings)
        else:
            outputs = network.predict(image)
        if has_instances:
            predicted_classes, _ = instance_classes(outputs["classes"], label_map, stuff)
            classes_of = true_classes(label, classes)
            classes_of.pop(ignore, None)
            ids = np.unique(np.append(0, label))
            small = np.searchsorted(ids, prepare_label(label, label_map.shape))
            of_true, _ = instance_classes(outputs["classes"], small, stuff)
            of_true = {int(ids[number]): int(value) for number, value in enumerate(of_true, start=1) if value}
            score.add_instances(label_image(label_map, image.shape), predicted_classes, label, classes_of, of_true)
        score.add_map(find_classes(network, outputs, image.shape, settings.threshold), classes)
    return score.result()


def write_images(folder, srcdir, predictions, ground_truth, scores):
    """Draw labels (blue, wide) and predictions (orange, narrow) over the images: RANK_ACCURACY_NAME.jpg, worst first.

    `folder` is new or empty; if an image can't be drawn, none is left in it. `scores` are those of `score_images`.
    """
    truth = {entry["raw_file"]: entry for entry in ground_truth}
    with output_folder(folder, "--images"):
        try:
            for rank, index in enumerate(tqdm(worst_first(scores), unit="overlay", dynamic_ncols=True)):
                found = predictions[index]
                name, label = found["raw_file"], truth[found["raw_file"]]
                image = draw_lanes(read_image(Path(srcdir) / name), label["lanes"], label["h_samples"], BLUE, 9)
                image = draw_lanes(image, found["lanes"], found.get("h_samples", label["h_samples"]), ORANGE, 3)
                flat = Path(name).with_suffix("").as_posix().replace("/", "-")
                save_image(Path(folder, f"{rank:04d}_{scores[index, 0]:.3f}_{flat}.jpg"), image)
        except BaseException:  # all of them or none
            for path in Path(folder).iterdir():
                path.unlink()
            raise
