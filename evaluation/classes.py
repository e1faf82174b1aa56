"""Class scores: IoU of class maps, average precision of the instances of each class, instances of the right class.

Classes are numbers from 1 on; in class maps 0 is none of them and `IGNORED_CLASS` is ignored.
"""

import numpy as np

from data.files import IGNORED_CLASS
from evaluation.instances import IOU_THRESHOLDS, count_matches, iou_matrix


def class_confusion(prediction, truth, count):
    """Pixels by true and found class of two class maps, 0 = no class, 1 to `count`; (count + 1, count + 1) int64.

    Pixels whose true class is `IGNORED_CLASS` are left out.
    """
    counted, side = truth != IGNORED_CLASS, count + 1
    both = truth[counted].astype(int) * side + prediction[counted]
    return np.bincount(both, minlength=side * side).reshape(side, side)


def class_iou(confusion):
    """Intersection over union of each class of a `class_confusion`: (count,), NaN where a class is in neither map."""
    hits = np.diag(confusion)[1:]
    union = confusion.sum(axis=0)[1:] + confusion.sum(axis=1)[1:] - hits
    return np.divide(hits, union, out=np.full(len(hits), np.nan), where=union > 0)


def true_classes(label, classes):
    """Class of most of the pixels of each instance of a label, (H, W) ids, by a class map: {id: class}.

    Instances that have no pixel of a class are left out.
    """
    counted = (label > 0) & (classes > 0) & (classes != IGNORED_CLASS)
    pairs, pixels = np.unique(np.stack([label[counted], classes[counted]]), axis=1, return_counts=True)
    order = np.argsort(pixels, kind="stable")
    return dict(pairs[:, order].T.tolist())  # the last one of an id stays


class ClassScore:
    """Scores over a data set, of what a model finds in images with class maps."""

    def __init__(self, classes):
        """Begin; `classes` is {name: whether it is stuff} in the order of their numbers."""
        self.classes, count = classes, len(classes)
        self.confusion = np.zeros((count + 1, count + 1), np.int64)
        self.matches = np.zeros((count + 1, len(IOU_THRESHOLDS)))
        self.found, self.true = np.zeros(count + 1), np.zeros(count + 1)
        self.right = {"right class": [], "right class of true instances": []}

    def add_map(self, prediction, truth):
        """Take up the class maps of an image, (H, W) each."""
        self.confusion += class_confusion(prediction, truth, len(self.classes))

    def add_instances(self, prediction, found_classes, truth, classes_of, classes_seen):
        """Take up the instances of an image, label maps (H, W).

        Args:
            prediction, found_classes: label map and (N,) classes of its instances 1 to N.
            truth, classes_of: label and its `true_classes`; instances that aren't there are ignored.
            classes_seen: {id: class that the model gives to the pixels of a true instance}.
        """
        known = np.isin(truth, list(classes_of))
        prediction, truth = np.where(known | (truth == 0), prediction, 0), np.where(known, truth, 0)
        iou = iou_matrix(prediction, truth)
        predicted = np.array([found_classes[i - 1] for i in np.unique(prediction) if i], int)
        true = np.array([classes_of[i] for i in np.unique(truth) if i], int)
        for number in {*predicted, *true}:
            self.matches[number] += count_matches(iou[predicted == number][:, true == number])
        self.found += np.bincount(predicted, minlength=len(self.found))
        self.true += np.bincount(true, minlength=len(self.true))
        rows, columns = np.nonzero(iou > 0.5)
        self.right["right class"] += (predicted[rows] == true[columns]).tolist()
        seen = classes_of.keys() & classes_seen.keys()
        self.right["right class of true instances"] += [classes_seen[i] == classes_of[i] for i in seen]

    def result(self):
        """{metric: value}: "mIoU" and "IoU NAME"; with instances "class AP", "AP NAME", the fractions of right classes.

        Classes that are in no image, found or true, are left out.
        """
        iou = dict(zip(self.classes, class_iou(self.confusion), strict=True))
        scores = {"mIoU": float(np.nanmean(list(iou.values())))} if self.confusion.any() else {}
        scores |= {f"IoU {name}": float(value) for name, value in iou.items() if np.isfinite(value)}
        total = self.found + self.true
        precision = {
            name: float((self.matches[number] / (total[number] - self.matches[number])).mean())
            for number, name in enumerate(self.classes, start=1)
            if total[number]
        }
        if precision:
            scores["class AP"] = float(np.mean(list(precision.values())))
            scores |= {f"AP {name}": value for name, value in precision.items()}
        return scores | {name: float(np.mean(right)) for name, right in self.right.items() if right}
