"""A model on labeled images: what it finds in them, and the images with prediction and label drawn over them.

`network` and `settings` are those of `pipeline.segmentation`; an image that can't be read is a UserError.
"""

import time
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from clustering import instance_classes, lane_probability
from datagenerator import ClassMap, prepare_label, read_image, read_pair
from evaluation.classes import ClassScore, class_confusion, true_classes
from lanes.culane import SIZE
from lanes.curves import fit_lanes
from lanes.tusimple import FOUND, h_samples, lane_scores, right_fractions, tusimple_line
from pipeline.classes import find_classes
from pipeline.outputs import output_folder
from pipeline.segmentation import segment_outputs
from visualization import draw_lanes, label_image, save_image

ORANGE, BLUE = (255, 120, 0), (0, 160, 255)
END_LIMIT = 20  # pixels: a lane ending this far from its label ends too early or too late


def predict_lanes(network, settings, srcdir, labels):
    """TuSimple dicts of the images of labels in `srcdir`: run_time in ms from image to lanes, "scores" if there are."""
    lines = []
    for label in tqdm(labels, unit="image", dynamic_ncols=True):
        image = read_image(Path(srcdir) / label["raw_file"])
        if not lines:
            segment_outputs(network, image, settings)  # tracing is no part of the times
        size, start = image.shape[:2], time.perf_counter()
        outputs, label_map = segment_outputs(network, image, settings)
        lanes = fit_lanes(label_map, size, logits=outputs.get("semantic"))
        run_time = 1000 * (time.perf_counter() - start)
        line = tusimple_line(label["raw_file"], lanes, label["h_samples"], run_time, size)
        if "semantic" in outputs:
            probability = lane_probability(outputs["semantic"][:, :, 0])
            line["scores"] = np.round(lane_scores(line, probability, size), 4).tolist()
        lines.append(line)
    return lines


def match_lanes(lines, truth):
    """Which lanes of TuSimple dicts are right by {raw_file: label}, and where these end.

    Returns: list of bool, a lane each; for each label found the first and last row of the best lane and its own, if
    both have a point.
    """
    right, ends = [], []
    for line in lines:
        label = truth[line["raw_file"]]
        rows = np.array(label["h_samples"])
        found, true = (np.array(lanes).reshape(-1, len(rows)) for lanes in (line["lanes"], label["lanes"]))
        fractions = right_fractions(found, true, rows)
        right += (fractions >= FOUND).any(axis=0).tolist()
        for lane, fraction in zip(true, fractions, strict=True):
            if max(fraction, default=0) >= FOUND:
                pair = found[fraction.argmax()], lane
                if all(max(x) >= 0 for x in pair):
                    ends.append([rows[x >= 0][[0, -1]].tolist() for x in pair])
    return right, ends


def describe_scores(scores, right):
    """A line with the area under the ROC curve of scores of right and wrong lanes, bools."""
    auc = f"{roc_auc_score(right, scores):.2f}" if len({*right}) == 2 else "-"
    return f"score AUC {auc} ({sum(right)} right, {len(right) - sum(right)} wrong lanes)"


def describe_ends(ends):
    """A line on how far from their labels lanes end, by rows of `match_lanes`."""
    found, true = np.moveaxis(np.reshape(ends, (-1, 2, 2)), 1, 0)
    parts = []
    for name, short in zip(("tops", "bottoms"), ((found - true) * [1, -1]).T, strict=True):
        if len(short):  # rows that a lane lacks there, below 0 those too many
            middle, high = np.percentile(np.abs(short), [50, 90])
            early, late = 100 * np.mean(short > END_LIMIT), 100 * np.mean(short < -END_LIMIT)
            parts.append(f"{name} {middle:.1f}, {high:.1f}, {early:.0f} %, {late:.0f} %")
    what = f"px off (median, 90 % below), over {END_LIMIT} too early, too late"
    return f"ends of {len(ends)} found lanes, {what}: {'; '.join(parts) or '-'}"


def predict_culane(network, settings, srcdir, names):
    """Lanes of images of CULane, for each a list of lanes, points (x, y) every 10 rows."""
    rows = h_samples(SIZE[0])
    lines = predict_lanes(network, settings, srcdir, [{"raw_file": name, "h_samples": rows} for name in names])
    return [
        [[(x, y) for x, y in zip(xs, rows, strict=True) if x >= 0] for xs in line["lanes"] if max(xs) >= 0]
        for line in lines
    ]


def predict_instances(network, settings, pairs, ignore):
    """Yield (found, true) label maps, (h, w) uint8 or uint16, of (image path, label path) pairs."""
    for pair in tqdm(pairs, unit="image", dynamic_ncols=True):
        image, truth = read_pair(pair, ignore)
        yield label_image(segment_outputs(network, image, settings)[1], image.shape), truth


def score_classes(network, settings, samples, table, ignore):
    """`ClassScore.result` on `find_samples` with class maps, of a `class_table`.

    Where there are labels, instances are scored too, but those of `ignore`.
    """
    score, stuff = ClassScore(network.classes), list(network.classes.values())
    for image_path, label_path, class_path in tqdm(samples, unit="image", dynamic_ncols=True):
        image, truth = read_pair((image_path, label_path, ClassMap(class_path, table)), ignore)
        label, classes = np.moveaxis(truth, -1, 0)
        has_instances = label_path and not all(stuff)
        outputs, label_map = segment_outputs(network, image, settings if has_instances else None)
        if has_instances:
            found, _ = instance_classes(outputs["classes"], label_map, stuff)
            true = true_classes(label, classes)
            true.pop(ignore, None)
            ids = np.unique(np.append(0, label))
            small = np.searchsorted(ids, prepare_label(label, label_map.shape))
            seen, _ = instance_classes(outputs["classes"], small, stuff)
            seen = {int(ids[number]): int(value) for number, value in enumerate(seen, start=1) if value}
            score.add_instances(label_image(label_map, image.shape), found, label, true, seen)
        found = find_classes(network, outputs, image.shape, settings.threshold)
        score.confusion += class_confusion(found, classes, len(stuff))
    return score.result()


def write_images(folder, srcdir, ranking):
    """Draw labels (blue, wide) and predictions (orange, narrow) over images: RANK_ACCURACY_NAME.jpg, all or none.

    `ranking` is a list of (scores, TuSimple dict, its label).
    """
    with output_folder(folder):
        try:
            for rank, (scores, line, label) in enumerate(tqdm(ranking, unit="overlay", dynamic_ncols=True)):
                image = read_image(Path(srcdir, line["raw_file"]))
                image = draw_lanes(image, label["lanes"], label["h_samples"], BLUE, 9)
                image = draw_lanes(image, line["lanes"], line.get("h_samples", label["h_samples"]), ORANGE, 3)
                name = Path(line["raw_file"]).with_suffix("").as_posix().replace("/", "-")[-50:]
                save_image(Path(folder, f"{rank:04d}_{scores[0]:.3f}_{name}.jpg"), image)
        except BaseException:
            for path in Path(folder).iterdir():
                path.unlink()
            raise
