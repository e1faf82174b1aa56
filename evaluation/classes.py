"""Class scores: IoU of class maps, AP of the instances of each class, true ones of the right class.

Classes are numbers from 1 on; in class maps 0 is none and `IGNORED_CLASS` is ignored.
"""

import numpy as np

from data.files import IGNORED_CLASS
from evaluation.instances import IOU_THRESHOLDS, count_matches, overlaps


def class_confusion(prediction, truth, count):
    """Pixels of class maps by true and found class, 0 to `count`: (count + 1, count + 1) int64."""
    counted, side = truth != IGNORED_CLASS, count + 1
    both = truth[counted].astype(int) * side + prediction[counted]
    return np.bincount(both, minlength=side * side).reshape(side, side)


def class_iou(confusion):
    """Intersection over union of each class of a `class_confusion`: (count,), NaN for one in neither map."""
    hits = np.diag(confusion)[1:]
    union = confusion.sum(axis=0)[1:] + confusion.sum(axis=1)[1:] - hits
    return np.divide(hits, union, out=np.full(len(hits), np.nan), where=union > 0)


def true_classes(label, classes):
    """{id: class of most of its pixels} of a label (H, W) and a class map, of instances that have any."""
    counted = (label > 0) & (classes > 0) & (classes != IGNORED_CLASS)
    pairs, pixels = np.unique(np.stack([label[counted], classes[counted]]), axis=1, return_counts=True)
    order = np.argsort(pixels, kind="stable")
    return dict(pairs[:, order].T.tolist())  # the last one of an id stays


class ClassScore:
    """Scores over a data set, of classes with these names in the order of their numbers."""

    def __init__(self, classes):
        self.classes, side = classes, len(classes) + 1
        self.confusion = np.zeros((side, side), np.int64)  # sum of `class_confusion`
        self.matches = np.zeros((side, len(IOU_THRESHOLDS)))
        self.total = np.zeros(side)  # instances, found and true
        self.right = []  # bools, of the true instances

    def add_instances(self, prediction, found_classes, truth, classes_of, classes_seen):
        """Take up an image's instances: found and true label maps, (H, W), and their classes.

        `found_classes` are (N,), of instances 1 to N; `classes_of` and `classes_seen`, {id: class} of the true ones,
        right and by what the model sees. True instances that `classes_of` lacks are ignored.
        """
        known = np.isin(truth, list(classes_of))
        prediction, truth = np.where(known | (truth == 0), prediction, 0), np.where(known, truth, 0)
        iou, _ = overlaps(prediction, truth)
        predicted = np.array([found_classes[i - 1] for i in np.unique(prediction) if i], int)
        true = np.array([classes_of[i] for i in np.unique(truth) if i], int)
        for number in {*predicted, *true}:
            self.matches[number] += count_matches(iou[predicted == number][:, true == number])
        self.total += np.bincount([*predicted, *true], minlength=len(self.total))
        self.right += [classes_seen[i] == classes_of[i] for i in classes_of.keys() & classes_seen.keys()]

    def result(self):
        """{metric: value}, without classes that are in no image, found or true."""
        scores, iou = {}, class_iou(self.confusion)
        if self.confusion.any():
            scores["mIoU"] = float(np.nanmean(iou))
        named = zip(self.classes, iou.tolist(), strict=True)
        scores |= {f"IoU {name}": value for name, value in named if np.isfinite(value)}
        precision = {
            f"AP {name}": float((self.matches[number] / (self.total[number] - self.matches[number])).mean())
            for number, name in enumerate(self.classes, start=1)
            if self.total[number]
        }
        if precision:
            scores |= {"class AP": float(np.mean(list(precision.values()))), **precision}
        if self.right:
            scores["right class of true instances"] = float(np.mean(self.right))
        return scores
