"""Files as annotation tools write them, for the tests of the importer."""

import json

import cv2
import numpy as np
import pytest

from data import instance_dataset_processing as processing

SIZE = (40, 60)
GRAY = np.full((*SIZE, 3), 90, np.uint8)
LABEL = np.zeros(SIZE, np.uint8)  # three instances, of which two touch
LABEL[2:8, 3:9], LABEL[2:8, 9:20], LABEL[20:30, 40:44] = 1, 2, 3
BOX = ("rectangle", "a", [[1, 1], [9, 9]])


def write(folder, files):
    """Write {name: content}: bytes, text, an image's array, None for a gray one, or what becomes JSON."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(to_bytes(content, path.suffix))
    return folder


def to_bytes(content, suffix=".json"):
    if content is None or isinstance(content, np.ndarray):
        return cv2.imencode(suffix, GRAY if content is None else content)[1].tobytes()
    text = content if isinstance(content, str | bytes) else json.dumps(content)
    return text if isinstance(text, bytes) else text.encode()


def convert(source, out, *flags):
    """Run the command; {stem: label} of what it wrote."""
    processing.main([str(source), "-o", str(out), *map(str, flags)])
    stems = {path.stem for path in (out / "images").iterdir()}
    labels = {path.stem: cv2.imdecode(np.fromfile(path, np.uint8), -1) for path in (out / "labels").iterdir()}
    assert stems == labels.keys() and all(label.dtype == np.uint16 for label in labels.values())
    return labels


def fails(capsys, source, out, *flags):
    """The one line of a command that fails, which writes nothing."""
    before = sorted(out.parent.rglob("*"))
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit_:
        processing.main([str(source), "-o", str(out), *map(str, flags)])
    captured = capsys.readouterr()
    (line,) = [line for line in captured.err.splitlines() if line.strip() and "e/s]" not in line]
    assert exit_.value.code == 2 and not captured.out and sorted(out.parent.rglob("*")) == before
    assert line.startswith("instance_dataset_processing.py: error: ") and ", expected " in line
    return line


def corners(left, top, right, bottom):
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def labelme(image, *objects, size=SIZE, **more):
    """A file of objects, (shape_type, label, points) and perhaps a dict of more."""
    keys = "shape_type", "label", "points"
    shapes = [dict(zip(keys, one[:3], strict=True)) | dict(*one[3:]) for one in objects]
    return {"imagePath": image, "imageHeight": size[0], "imageWidth": size[1], "shapes": shapes} | more


IMAGE_ID = 2008000008123  # longer than 32 bits


def coco_file(annotations, images=("a.jpg", "b.png"), categories=((3, "cell"), (5, "dirt"))):
    known = {"height": SIZE[0], "width": SIZE[1]}
    images = [{"id": number, "file_name": name} | known for number, name in enumerate(images, start=IMAGE_ID)]
    categories = [{"id": number, "name": name} for number, name in categories]
    return {"images": images, "categories": categories, "annotations": annotations}


def annotation(segmentation, category=3, image=IMAGE_ID, **more):
    return {"image_id": image, "category_id": category, "segmentation": segmentation, **more}


def runs_of(mask):
    """Run lengths down the columns, background first."""
    ends = np.flatnonzero(np.diff(mask.T.ravel().astype(int), prepend=0))
    return np.diff([0, *ends, mask.size]).tolist()


CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta/>
<image id="0" name="sub/frame 1.jpg" width="60" height="40">
  <polygon label="cell" source="manual" points="30.20,5.10;50.70,8.30;35.50,20.90" z_order="1">
    <attribute name="x">1</attribute></polygon>
  <box label="cell" xtl="28.00" ytl="3.00" xbr="40.00" ybr="12.00" z_order="0"></box>
  <box label="cell" xtl="20" ytl="30" xbr="30" ybr="34" rotation="90"/>
  <polyline label="lane" points="5,5;5,30"/>
  <mask label="cell" rle="1, 3, 2" left="50" top="30" width="3" height="2"/>
  <box label="cell" xtl="0" ytl="38" xbr="2" ybr="40" group_id="2"/>
  <box label="cell" xtl="10" ytl="38" xbr="12" ybr="40" group_id="2"/>
  <points label="tip" points="1,1;2,2"></points>
  <box label="cell" xtl="40" ytl="36" xbr="45" ybr="40"><attribute name="is_crowd">true</attribute></box>
  <box label="cell" xtl="45" ytl="36" xbr="49" ybr="40"><attribute name="is_crowd">false</attribute></box>
</image>
<image id="1" name="empty.jpg" width="60" height="40"/>
</annotations>"""
BOXES = [("leaf", 2, 2, 22, 12), ("_background_", 6, 4, 10, 8), ("__ignore__", 18, 0, 30, 6), ("stem", 7, 5, 9, 7)]
FORMS = ["labelme", "coco", "cvat", "yolo"]


def write_boxes(form, folder, boxes=BOXES, stem="a"):
    names, image = sorted({name for name, *_ in boxes}), f"{stem}.jpg"
    polygons = [(name, corners(*box)) for name, *box in boxes]
    if form == "labelme":
        files = {f"{stem}.json": labelme(image, *(("polygon", *polygon) for polygon in polygons))}
    elif form == "coco":
        annotations = [annotation([np.ravel(points).tolist()], names.index(name)) for name, points in polygons]
        files = {"coco.json": coco_file(annotations, [image], enumerate(names))}
    elif form == "cvat":
        known = {"_background_": "background", "__ignore__": "ignored"}
        text = '<box label="{}" xtl="{}" ytl="{}" xbr="{}" ybr="{}"/>'
        text = "".join(text.format(known.get(name, name), *box) for name, *box in boxes)
        files = {"a.xml": f'<a><image id="0" name="{image}" width="60" height="40">{text}</image></a>'}
    else:
        image, lines = f"images/{image}", []
        for name, points in polygons:
            lines.append(" ".join(map(str, [names.index(name), *np.ravel(points / np.array(SIZE[::-1]))])))
        files = {f"labels/{stem}.txt": "\n".join(lines), "classes.txt": "\n".join(names)}
    return write(folder, {image: None, **files})
