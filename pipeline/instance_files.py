"""Instances as data for other programs: COCO's JSON and a table."""

import contextlib
import csv
import io
import json
import re
from pathlib import Path

import numpy as np
from scipy.ndimage import find_objects

import utils
from pipeline.outputs import room_for
from run.command import UserError

CLASS_COLUMNS = ("class", "class_score")
COLUMNS = ("image", "id", "area", "center_x", "center_y", "left", "top", "width", "height", "confidence")
# how they begin
FILES = {"instances.json": r'{"categories": .*,\n"annotations": \[', "instances.csv": ",".join(COLUMNS)}


def describe_instances(label_map, confidences=None, classes=()):
    """Dicts of the instances of a label map of the image's size.

    "id"; "area" in pixels; "center" (x, y) and "box" (left, top, width, height), where the center of the first pixel is
    (0.5, 0.5); "confidence", of those of instances 1..N, or None; "class" and "class_score", of {id: (number of its
    class, score)}, or 0; "counts", COCO's run lengths of its mask, down the columns, background first.
    """
    height, classes, instances = len(label_map), dict(classes), []
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
        number, score = classes.get(identity, (0, 0.0))
        instances.append(
            {
                "id": identity,
                "area": len(x),
                "center": [left + float(x.mean()) + 0.5, top + float(y.mean()) + 0.5],
                "box": [left, top, box[1].stop - left, box[0].stop - top],
                "confidence": None if confidences is None else round(float(confidences[identity - 1]), 4),
                "class": number,
                "class_score": round(score, 4),
                "counts": counts[: len(counts) - (not counts[-1])].tolist(),
            }
        )
    return instances


def require_own(outdir, names):
    """Raise UserError if a file of these names isn't of `instance_files`, but the user's annotations."""
    for name in names:
        path = Path(outdir, name)
        if path.exists() and not (path.is_file() and re.match(FILES[name].encode(), path.read_bytes())):
            raise UserError(f"{path}: found a file of other origin, expected none or our own; name another --outdir")


@contextlib.contextmanager
def instance_files(outdir, names, classes=None):
    """Yield a function (image name, (h, w), `describe_instances`) that adds to the files, of `FILES`.

    They are written if the block ends well. `classes` are the network's, {name: whether stuff}.
    """
    classes = {} if not classes or all(classes.values()) else classes
    things = [{"id": i, "name": name} for i, (name, stuff) in enumerate(classes.items(), start=1) if not stuff]
    images, annotations, table = [], [], io.StringIO()
    rows, class_names = csv.writer(table), ["", *classes]
    rows.writerow([*COLUMNS, *(CLASS_COLUMNS if classes else ())])

    def add(image, size, instances):
        images.append({"id": len(images) + 1, "file_name": image, "height": size[0], "width": size[1]})
        for one in instances:
            annotation = {
                "id": len(annotations) + 1,
                "image_id": len(images),
                "category_id": one["class"] if classes else 1,
                "iscrowd": 0,
                "area": one["area"],
                "bbox": one["box"],
                "segmentation": {"size": list(size), "counts": one["counts"]},
            }
            if one["confidence"] is not None:
                annotation["score"] = one["confidence"]
            annotations.append("\n" + json.dumps(annotation))
            center = [round(value, 2) for value in one["center"]]
            row = [image, one["id"], one["area"], *center, *one["box"], one["confidence"]]
            rows.writerow(row + ([class_names[one["class"]], one["class_score"]] if classes else []))

    yield add
    head = '{"categories": ' + json.dumps(things or [{"id": 1, "name": "instance"}]) + ',\n"annotations": ['
    coco = head + ",".join(annotations) + '],\n"images": ' + json.dumps(images) + "}\n"
    for name in names:
        path = Path(outdir, name)
        with room_for(path), utils.replacing(path) as temporary:
            text = coco if name == "instances.json" else table.getvalue()
            Path(temporary).write_text(text, encoding="utf-8", errors="backslashreplace", newline="")
