"""Files as annotation tools write them, for the tests of the importer."""

import json

import cv2
import numpy as np
import pytest

from data import instance_dataset_processing as processing

SIZE = (40, 60)
LABEL = np.zeros(SIZE, np.uint8)  # three instances, of which two touch
LABEL[2:8, 3:9], LABEL[2:8, 9:20], LABEL[20:30, 40:44] = 1, 2, 3


def write_image(path, size=SIZE, value=90):
    path.parent.mkdir(parents=True, exist_ok=True)
    data = cv2.imencode(path.suffix, np.full((*size, 3), value, np.uint8))[1].tobytes()
    path.write_bytes(data)
    return data


def write_json(path, value, bom=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8-sig" if bom else "utf-8")
    return path


def convert(source, out, *flags):
    """Run the command; {stem: label} of what it wrote."""
    processing.main([str(source), "-o", str(out), *map(str, flags)])
    stems = {path.stem for path in (out / "images").iterdir()}
    labels = {path.stem: cv2.imdecode(np.fromfile(path, np.uint8), -1) for path in (out / "labels").iterdir()}
    assert stems == labels.keys() and all(label.dtype == np.uint16 for label in labels.values())
    return labels


def class_map(out, name="a"):
    """`classes/NAME.png` of a data folder, checked to be 8 bits of one channel."""
    classes = cv2.imread(str(out / f"classes/{name}.png"), cv2.IMREAD_UNCHANGED)
    assert classes.dtype == np.uint8 and classes.ndim == 2
    return classes


def fails(capsys, source, out, *flags):
    """The one line of a command that fails, which writes nothing."""
    before = sorted(out.parent.rglob("*"))
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit_:
        processing.main([str(source), "-o", str(out), *map(str, flags)])
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if line.strip() and "e/s]" not in line]
    assert exit_.value.code == 2 and len(lines) == 1 and not captured.out, captured.err
    assert lines[0].startswith("instance_dataset_processing.py: error: ")
    assert ": found " in lines[0] or "no such" in lines[0] or ", expected " in lines[0]
    assert sorted(out.parent.rglob("*")) == before
    return lines[0]


def labelme(image, *objects, size=SIZE, **more):
    """A file of objects, (shape_type, label, points) and perhaps a dict of more keys each."""
    keys = "shape_type", "label", "points"
    shapes = [dict(zip(keys, one[:3], strict=True)) | dict(*one[3:]) for one in objects]
    return {"imagePath": image, "imageHeight": size[0], "imageWidth": size[1], "shapes": shapes} | more


def coco_file(annotations, images=("a.jpg", "b.png")):
    known = {"height": SIZE[0], "width": SIZE[1]}
    images = [{"id": 7 + number, "file_name": name} | known for number, name in enumerate(images)]
    categories = [{"id": 3, "name": "cell"}, {"id": 5, "name": "dirt"}]
    return {"images": images, "categories": categories, "annotations": annotations}


def annotation(segmentation, category=3, image=7, **more):
    return {"image_id": image, "category_id": category, "segmentation": segmentation, **more}


def runs_of(mask):
    """Run lengths down the columns, background first."""
    flat = mask.T.ravel().astype(int)
    ends = np.flatnonzero(np.diff(flat)) + 1
    lengths = np.diff([0, *ends, flat.size]).tolist()
    return lengths if flat[0] == 0 else [0, *lengths]


CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><task><name>t</name></task></meta>
<image id="0" name="sub/frame 1.jpg" width="60" height="40">
  <polygon label="cell" source="manual" occluded="0" points="30.20,5.10;50.70,8.30;35.50,20.90" z_order="1">
    <attribute name="x">1</attribute></polygon>
  <box label="cell" occluded="0" xtl="28.00" ytl="3.00" xbr="40.00" ybr="12.00" z_order="0"></box>
  <box label="cell" xtl="20" ytl="30" xbr="30" ybr="34" rotation="90" z_order="0"></box>
  <polyline label="lane" points="5,5;5,30" z_order="0"></polyline>
  <mask label="cell" rle="1, 3, 2" left="50" top="30" width="3" height="2" z_order="0"></mask>
  <box label="cell" xtl="0" ytl="38" xbr="2" ybr="40" group_id="2"></box>
  <box label="cell" xtl="10" ytl="38" xbr="12" ybr="40" group_id="2"></box>
  <points label="tip" points="1,1;2,2"></points>
</image>
<image id="1" name="empty.jpg" width="60" height="40"/>
</annotations>"""
BOXES = [("leaf", 2, 2, 22, 12), ("_background_", 6, 4, 10, 8), ("__ignore__", 18, 0, 30, 6), ("stem", 7, 5, 9, 7)]
FORMS = ["labelme", "coco", "cvat", "yolo"]


def corners(left, top, right, bottom):
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def write_boxes(form, folder, boxes=BOXES, image="a.jpg", bad=False):
    """Annotations of one image, boxes in their order; `bad`: labelme's or YOLO's with no shape in front of them."""
    names = sorted({name for name, *_ in boxes})
    polygons = [corners(*box) for _, *box in boxes]
    write_image(folder / ("images" if form == "yolo" else "") / image)
    if form == "labelme":
        objects = [("polygon", name, points) for (name, *_), points in zip(boxes, polygons, strict=True)]
        objects = [("polygon", "leaf", [[1, 1], [5, 5]])] * bad + objects
        write_json(folder / f"{image}.json", labelme(image, *objects))
    elif form == "coco":
        file = coco_file([], images=(image,))
        file["categories"] = [{"id": number, "name": name} for number, name in enumerate(names)]
        for (name, *_), points in zip(boxes, polygons, strict=True):
            file["annotations"].append(annotation([np.ravel(points).tolist()], category=names.index(name)))
        write_json(folder / "coco.json", file)
    elif form == "cvat":
        shapes, known = [], {"_background_": "background", "__ignore__": "ignored"}
        for name, left, top, right, bottom in boxes:
            sides = f'xtl="{left}" ytl="{top}" xbr="{right}" ybr="{bottom}"'
            shapes.append(f'<box label="{known.get(name, name)}" {sides}></box>')
        image = f'<image id="0" name="{image}" width="60" height="40">{"".join(shapes)}</image>'
        (folder / "a.xml").write_text(f"<annotations>{image}</annotations>")
    else:
        lines = ["0 0.1 0.1 0.2 0.2"] * bad
        for (name, *_), points in zip(boxes, polygons, strict=True):
            numbers = (np.array(points) / SIZE[::-1]).ravel()
            lines.append(f"{names.index(name)} {' '.join(map(str, numbers))}")
        (folder / "labels").mkdir(exist_ok=True)
        (folder / f"labels/{image}".replace(".jpg", ".txt")).write_text("\n".join(lines))
        (folder / "classes.txt").write_text("\n".join(names))
    return folder


def photo(path, orientation, size=SIZE):
    """An image stored as `size`, its upper left corner bright, that says it is to be shown turned."""
    from PIL import Image

    array = np.full((*size, 3), 40, np.uint8)
    array[:10, :10] = 250
    exif = Image.Exif()
    exif[274] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, exif=exif, quality=95)


def write_labeled(folder, name="a", label=LABEL, suffix=".png"):
    """An image and its label image in `images/` and `labels/` of a folder."""
    write_image(folder / f"images/{name}.jpg")
    path = folder / f"labels/{name}{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(suffix, label)[1].tobytes())
