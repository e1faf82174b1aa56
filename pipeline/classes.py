"""Classes of an image: of its pixels, of its instances and of its lanes."""

import cv2
import numpy as np
from scipy.special import softmax

from clustering import THRESHOLD, class_map, instance_classes, lane_mask
from lanes.tusimple import lane_scores


def find_classes(network, outputs, shape, threshold=THRESHOLD):
    """`clustering.class_map` of an image of `shape` (h, w, ...) from a network's outputs of it."""
    resized = {}
    for name in outputs.keys() & {"semantic", "classes"}:
        values = cv2.resize(np.float32(outputs[name]), shape[1::-1], interpolation=cv2.INTER_LINEAR)
        resized[name] = values.reshape(*shape[:2], -1)
    return class_map(resized, list(network.classes.values()), lane_mask(resized, threshold))


def classes_of_instances(network, outputs, label_map):
    """{id of an instance: (number of its class, mean probability)} by `clustering.instance_classes`."""
    classes, scores = instance_classes(outputs["classes"], label_map, list(network.classes.values()))
    numbered = enumerate(zip(classes.tolist(), scores.tolist(), strict=True), start=1)
    return {identity: values for identity, values in numbered if values[0]}


def name_classes(network, frame):
    """What the line of a `stages.Frame` says of classes: those of instances 1, 2, ... and of its lanes."""
    names, stuff = list(network.classes), list(network.classes.values())
    count = int(frame.label_map.max(initial=0))
    numbered = [frame.classes.get(identity, (0, 0.0)) for identity in range(1, count + 1)]
    probabilities = np.where(stuff, 0, softmax(np.float32(frame.prediction["classes"]), axis=-1))  # (H, W, C)
    scores = [lane_scores(frame.line, channel, frame.image.shape) for channel in np.moveaxis(probabilities, -1, 0)]
    return {
        "classes": [names[number - 1] if number else None for number, _ in numbered],
        "class_scores": [round(score, 4) for _, score in numbered],
        "lane_classes": [names[number] for number in np.argmax(scores, axis=0)],
    }
