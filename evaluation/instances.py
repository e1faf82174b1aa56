"""Instance metrics of label maps (Dice, difference in count, average precision, panoptic quality) and intervals.

A label map is (H, W) integers, 0 = background. Where there is no instance, found or true, the prediction is perfect.
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
    """Intersection over union and Dice of every pair of instances: (P, G) float64 each."""
    ids, index = np.unique(prediction, return_inverse=True)
    true_ids, true_index = np.unique(truth, return_inverse=True)
    table = np.bincount(index.ravel() * len(true_ids) + true_index.ravel(), minlength=len(ids) * len(true_ids))
    table = table.reshape(len(ids), len(true_ids))
    predicted, true = ids != 0, true_ids != 0
    areas = table.sum(axis=1)[predicted, None] + table.sum(axis=0)[true]  # of both
    common = table[predicted][:, true]
    return common / (areas - common), 2 * common / areas


def symmetric_best_dice(dice):
    """Symmetric best Dice of the CVPPP leaf challenge (Scharr et al. 2016) of a (P, G) Dice."""
    if not dice.size:
        return float(dice.shape == (0, 0))
    return float(min(dice.max(axis=1).mean(), dice.max(axis=0).mean()))


def average_precision(iou):
    """TP / (TP + FP + FN) at `IOU_THRESHOLDS` of a (P, G) IoU, as the 2018 Data Science Bowl: (10,) float64."""
    if not sum(iou.shape):
        return np.ones(len(IOU_THRESHOLDS))
    matches = count_matches(iou)
    return matches / (sum(iou.shape) - matches)


def count_matches(iou):
    """Number of pairs of a (P, G) IoU at `IOU_THRESHOLDS`, matched one to one: (10,) int."""
    matches = []
    for threshold in IOU_THRESHOLDS:
        hit = iou >= threshold - 1e-9  # linspace's 0.6 lies above the fraction 3 / 5
        pairs = linear_sum_assignment(hit * (1 + iou / 1000), maximize=True)  # most matches, then best ones
        matches.append(hit[pairs].sum())
    return np.array(matches)


def panoptic_parts(iou):
    """What panoptic quality (Kirillov et al. 2019) adds up: sum of matched IoU, TP, FP, FN."""
    matched = iou[iou > 0.5]  # which leaves one partner at most
    return np.array([matched.sum(), matched.size, iou.shape[0] - matched.size, iou.shape[1] - matched.size])


def bootstrap_intervals(values):
    """95 % percentile intervals (Efron 1979) of the means of (N, K) values, a row per image: (K, 2) float64."""
    rng = np.random.default_rng(0)
    means = [values[rng.integers(0, len(values), len(values))].mean(axis=0) for _ in range(RESAMPLES)]
    return np.percentile(means, [2.5, 97.5], axis=0).T


def read_pairs(prediction_dir, truth_dir, ignore=None):
    """Yield (prediction, truth), (H, W) uint8 or uint16, of label images of two folders by their names.

    Of results of inference.py --keep-names the NAME_labels.png are taken. Raises UserError.
    """
    files, other = (list_by_stem(Path(folder), LABEL_SUFFIXES) for folder in (prediction_dir, truth_dir))
    results = {stem.removesuffix("_labels"): path for stem, path in files.items() if stem.endswith("_labels")}
    if results.keys() & other.keys():
        files = results
    if alone := sorted(files.keys() ^ other.keys()):
        path = files.get(alone[0], other.get(alone[0]))
        raise UserError(f"--instances: found {path} in one folder only, expected it in both; add or remove one")
    for stem in tqdm(sorted(files), unit="image", dynamic_ncols=True):
        prediction, truth = read_label(files[stem]), read_label(other[stem])
        require_ignored(truth, other[stem], ignore)
        if prediction.shape != truth.shape:
            raise UserError(f"{files[stem]}: found {prediction.shape}, expected {truth.shape} as {other[stem]}")
        yield prediction, truth


def instance_score(pairs, ignore=None):
    """Metrics of (prediction, truth) label maps: means over the images, PQ over all instances.

    Where the truth is `ignore`, an id or None, both are background.
    """
    rows, parts = [], np.zeros(4)
    for prediction, truth in pairs:
        counted = truth != ignore  # everywhere, if that is None
        prediction, truth = np.where(counted, prediction, 0), np.where(counted, truth, 0)
        iou, dice = overlaps(prediction, truth)
        _, foreground = overlaps(prediction > 0, truth > 0)  # one instance each at most
        precision = average_precision(iou)
        values = symmetric_best_dice(dice), abs(np.subtract(*iou.shape)), symmetric_best_dice(foreground)
        rows.append([*values, precision[0], precision.mean()])
        parts += panoptic_parts(iou)
    names = ("SBD", "|DiC|", "foreground Dice", "AP50", "AP")
    score = dict(zip(names, np.mean(rows, axis=0).tolist(), strict=True))
    total = parts[1] + (parts[2] + parts[3]) / 2
    return {**score, "PQ": float(parts[0] / total) if total else 1.0}
