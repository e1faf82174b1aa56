"""Instances as data for other programs: COCO's JSON and a table."""

import contextlib
import csv
import json
import re
from pathlib import Path

import numpy as np
from scipy.ndimage import find_objects

import utils
from pipeline.outputs import room_for
from run.command import UserError

FILES = ("instances.json", "instances.csv")
COCO_HEAD = '{"categories": %s,\n"annotations": ['
CLASS_COLUMNS = ("class", "class_score")
COLUMNS = ("image", "id", "area", "center_x", "center_y", "left", "top", "width", "height", "confidence")


def describe_instances(label_map, confidences=None):
    """What there is to say of each instance of an image.

    Args:
        label_map: (h, w) integers of the image's size, 0 = background.
        confidences: of instances 1..N the mean probability of their pixels, None without a semantic head.

    Returns:
        list of dicts: "id"; "area" in pixels; "center" (x, y) and "box" (left, top, width, height) in pixels, where
        the image's upper left corner is (0, 0) and its first pixel's center (0.5, 0.5); "confidence" or None; "counts",
        the run lengths of its mask as COCO has them, down the columns, background first.
    """
    height = len(label_map)
    instances = []
    for identity, box in enumerate(find_objects(label_map), start=1):
        if box is None:
            continue
        top, left = box[0].start, box[1].start
        x, y = np.nonzero(label_map[box].T == identity)  # down the columns
        places = (left + x) * height + top + y
        starts = np.flatnonzero(np.diff(places, prepend=-2) > 1)  # of the runs, among the places
        ends = np.append(starts[1:], len(places)) - 1
        runs = np.column_stack([places[starts], places[ends] + 1]).ravel()
        counts = np.diff([0, *runs, label_map.size])
        instances.append(
            {
                "id": identity,
                "area": len(x),
                "center": [left + float(x.mean()) + 0.5, top + float(y.mean()) + 0.5],
                "box": [left, top, box[1].stop - left, box[0].stop - top],
                "confidence": None if confidences is None else round(float(confidences[identity - 1]), 4),
                "counts": counts[: len(counts) - (not counts[-1])].tolist(),
            }
        )
    return instances


def require_own(outdir, names):
    """Raise UserError if a file of `names` in a folder is none that `instance_files` wrote, which may replace its own.

    Annotations of the user's have the same usual names.
    """
    for name in names:
        path = Path(outdir, name)
        head = COCO_HEAD.replace("[", r"\[") % ".*" if name == "instances.json" else ",".join(COLUMNS)
        replaceable = not path.exists()
        if path.is_file():
            with open(path, encoding="utf-8", errors="replace") as file:
                replaceable = bool(re.match(head, file.readline(2**20) + file.readline(len(COCO_HEAD))))
        if not replaceable:
            raise UserError(
                f"{path}: found a file that inference.py didn't write, expected none or its own; name another --outdir"
            )


@contextlib.contextmanager
def instance_files(outdir, names, classes=None):
    """Yield a function (image name, (h, w), instances of `describe_instances`) that writes them.

    The files, some of `FILES`, appear in the folder if the block ends well. With the network's classes, {name: whether
    it is stuff}, instances have "class", its number or 0 for none, and "class_score".
    """
    classes = {} if not classes or all(classes.values()) else classes
    with contextlib.ExitStack() as stack:
        files = []
        for name in names:
            path = Path(outdir, name)
            temporary = stack.enter_context(utils.replacing(path))
            file = open(temporary, "w", newline="", encoding="utf-8", errors="backslashreplace")
            stack.callback(_close, file)
            files.append((path, file, (_Coco if name == "instances.json" else _Table)(file, classes)))

        def write(*image):
            for path, file, form in files:
                with room_for(path):
                    form.write(*image)
                    file.flush()

        yield write
        for path, file, form in files:
            with room_for(path):
                form.end()
                file.flush()


def _close(file):
    # what a full disk left in its buffer would raise once more, without the file's name
    with contextlib.suppress(OSError):
        file.close()


class _Table:
    """A row for each instance."""

    def __init__(self, file, classes):
        self.table, self.names = csv.writer(file), ["", *classes]
        self.table.writerow([*COLUMNS, *(CLASS_COLUMNS if classes else ())])

    def write(self, image, size, instances):
        for one in instances:
            center = [round(value, 2) for value in one["center"]]
            row = [image, one["id"], one["area"], *center, *one["box"], one["confidence"]]
            if self.names[1:]:
                row += [self.names[one["class"]], one["class_score"]]
            self.table.writerow(row)

    def end(self):
        pass


class _Coco:
    """Annotations are written as they come: an image can have thousands of them."""

    def __init__(self, file, classes):
        self.file, self.images, self.count, self.classes = file, [], 0, classes
        things = [{"id": i, "name": name} for i, (name, stuff) in enumerate(classes.items(), start=1) if not stuff]
        file.write(COCO_HEAD % json.dumps(things or [{"id": 1, "name": "instance"}]))

    def write(self, image, size, instances):
        height, width = size
        self.images.append({"id": len(self.images) + 1, "file_name": image, "height": height, "width": width})
        for one in instances:
            self.count += 1
            annotation = {
                "id": self.count,
                "image_id": len(self.images),
                "category_id": one["class"] if self.classes else 1,
                "iscrowd": 0,
                "area": one["area"],
                "bbox": one["box"],
                "segmentation": {"size": [height, width], "counts": one["counts"]},
            }
            if one["confidence"] is not None:
                annotation["score"] = one["confidence"]
            self.file.write(("," if self.count > 1 else "") + "\n" + json.dumps(annotation))

    def end(self):
        self.file.write('],\n"images": ' + json.dumps(self.images) + "}\n")
