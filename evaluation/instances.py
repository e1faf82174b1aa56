"""Instance metrics for label maps (Dice, difference in count, average precision, panoptic quality) and intervals.

A label map is an (H, W) array of integers, 0 = background, every other value one instance; ids need not agree between
prediction and ground truth. Where neither has an instance, the prediction is perfect.
"""

from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment
from tqdm import tqdm

from data.files import LABEL_SUFFIXES, list_by_stem
from datagenerator import read_label, require_ignored
from run.command import UserError

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RESAMPLES = 1000


def overlaps(prediction, truth):
    """Instances of two label maps of one size: (P, G) areas of the intersections, (P,) and (G,) areas, int64 pixels."""
    ids, index = np.unique(prediction, return_inverse=True)
    true_ids, true_index = np.unique(truth, return_inverse=True)
    table = np.bincount(index.ravel() * len(true_ids) + true_index.ravel(), minlength=len(ids) * len(true_ids))
    table = table.reshape(len(ids), len(true_ids))
    areas, true_areas = table.sum(axis=1), table.sum(axis=0)
    predicted, true = ids != 0, true_ids != 0
    return table[predicted][:, true], areas[predicted], true_areas[true]


def iou_matrix(prediction, truth):
    """Intersection over union of every pair of instances: (P, G) float64."""
    common, areas, true_areas = overlaps(prediction, truth)
    return common / (areas[:, None] + true_areas - common)


def symmetric_best_dice(prediction, truth):
    """Symmetric best Dice of the CVPPP leaf challenge (Scharr et al. 2016): 0..1.

    The smaller of two means: over the predicted instances of their best Dice with a true one, and the other way round.
    """
    common, areas, true_areas = overlaps(prediction, truth)
    if not common.size:
        return float(len(areas) == len(true_areas))
    dice = 2 * common / (areas[:, None] + true_areas)
    return float(min(dice.max(axis=1).mean(), dice.max(axis=0).mean()))


def foreground_dice(prediction, truth):
    """Dice of the foregrounds, of whatever instances: 2 |A and B| / (|A| + |B|), 0..1."""
    total = np.count_nonzero(prediction) + np.count_nonzero(truth)
    return 2 * np.count_nonzero((prediction > 0) & (truth > 0)) / total if total else 1.0


def count_difference(prediction, truth):
    """Absolute difference in count, |DiC| of the CVPPP leaf challenge: int."""
    _, areas, true_areas = overlaps(prediction, truth)
    return abs(len(areas) - len(true_areas))


def average_precision(prediction, truth, thresholds=IOU_THRESHOLDS):
    """TP / (TP + FP + FN) at IoU thresholds, instances matched one to one: (len(thresholds),) float64, each 0..1.

    Label maps carry no confidence to rank instances by, so this is the average precision of the 2018 Data Science Bowl.
    """
    iou = iou_matrix(prediction, truth)
    if not sum(iou.shape):
        return np.ones(len(thresholds))
    matches = count_matches(iou, thresholds)
    return matches / (sum(iou.shape) - matches)


def count_matches(iou, thresholds=IOU_THRESHOLDS):
    """Number of pairs of a (P, G) `iou_matrix` at IoU thresholds, matched one to one: (len(thresholds),) int."""
    matches = []
    for threshold in thresholds:
        hit = iou >= threshold - 1e-9  # linspace's 0.6 lies above the fraction 3 / 5
        rows, columns = linear_sum_assignment(hit * (1 + iou / 1000), maximize=True)  # most matches, then best ones
        matches.append(int(hit[rows, columns].sum()))
    return np.array(matches)


def panoptic_parts(prediction, truth):
    """What panoptic quality is made of (Kirillov et al. 2019): sum of matched IoU, TP, FP, FN.

    A pair matches if its IoU is above 0.5, which leaves one partner at most. Over a data set the parts are added up
    before `panoptic_quality` divides.
    """
    iou = iou_matrix(prediction, truth)
    matched = iou[iou > 0.5]
    return np.array([matched.sum(), matched.size, iou.shape[0] - matched.size, iou.shape[1] - matched.size])


def panoptic_quality(parts):
    """Panoptic quality of (4,) parts: 0..1, 1 where there is no instance at all."""
    total = parts[1] + (parts[2] + parts[3]) / 2
    return float(parts[0] / total) if total else 1.0


def bootstrap_intervals(values):
    """95 % percentile intervals of the mean over images drawn with replacement (Efron 1979).

    `values` are (N, K), a row per image; the result is (K, 2) float64, lower and upper ends.
    """
    rng = np.random.default_rng(0)
    means = [values[rng.integers(0, len(values), len(values))].mean(axis=0) for _ in range(RESAMPLES)]
    return np.percentile(means, [2.5, 97.5], axis=0).T


def read_pairs(prediction_dir, truth_dir, ignore=None):
    """Yield (prediction, truth), (H, W) uint8 or uint16, of label images of the same stems in two folders.

    Of results of inference.py with --keep-names the NAME_labels.png are taken; `ignore` is the id of pixels that don't
    count, or None.

    Raises:
        UserError: the names or the sizes differ, there is no label, or one can't be decoded.
    """
    folders = Path(prediction_dir), Path(truth_dir)
    files, other = (list_by_stem(folder, LABEL_SUFFIXES) for folder in folders)
    results = {stem.removesuffix("_labels"): path for stem, path in files.items() if stem.endswith("_labels")}
    if results.keys() & other.keys():
        files = results
    if alone := sorted(files.keys() ^ other.keys()):
        problem = f"{files.get(alone[0], other.get(alone[0])).name} in one folder only"
        raise UserError(f"--instances {folders[0]} {folders[1]}: found {problem}, expected the same names in both")
    for stem in tqdm(sorted(files), unit="image", dynamic_ncols=True):
        prediction, truth = read_label(files[stem]), read_label(other[stem])
        require_ignored(truth, other[stem], ignore)
        if prediction.shape != truth.shape:
            raise UserError(f"{files[stem]}: found {prediction.shape}, expected {truth.shape} as in {folders[1]}")
        yield prediction, truth


def leave_out(prediction, truth, ignore):
    """The two label maps, background wherever the truth has the value to ignore (None: nowhere)."""
    if ignore is None:
        return prediction, truth
    return np.where(truth == ignore, 0, prediction), np.where(truth == ignore, 0, truth)


def instance_score(pairs, ignore=None):
    """All instance metrics over a data set: means over the images, PQ over all instances.

    `pairs` are (prediction, truth) label maps, at least one; for `ignore` see `leave_out`.
    """
    rows, parts = [], np.zeros(4)
    for pair in pairs:
        pair = leave_out(*pair, ignore)
        precision, metrics = average_precision(*pair), (symmetric_best_dice, count_difference, foreground_dice)
        rows.append([metric(*pair) for metric in metrics] + [precision[0], precision.mean()])
        parts += panoptic_parts(*pair)
    names = ("SBD", "|DiC|", "foreground Dice", "AP50", "AP")
    return {**dict(zip(names, np.mean(rows, axis=0).tolist(), strict=True)), "PQ": panoptic_quality(parts)}
