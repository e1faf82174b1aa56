"""Annotations to label images: every form against ids that are painted by other means."""

import base64
import json
import os
import unicodedata

import cv2
import numpy as np
import pytest
from test_shapes import SIZE, even_odd

from data import instance_dataset_processing as processing
from data.annotations import coco, yolo


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
    labels = {path.stem: cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in (out / "labels").iterdir()}
    assert stems == labels.keys() and all(label.dtype == np.uint16 for label in labels.values())
    return labels


# labelme


def labelme(image, *objects, size=SIZE, **more):
    known = {"imagePath": image, "imageHeight": size[0], "imageWidth": size[1], "imageData": None}
    return (
        known
        | {
            "shapes": [
                dict(zip(("shape_type", "label", "points"), one[:3], strict=True)) | (one[3] if one[3:] else {})
                for one in objects
            ]
        }
        | more
    )


def test_labelme_shapes(tmp_path, capsys):
    mask = np.array([[0, 1, 1], [1, 0, 1]], np.uint8)
    mask = base64.b64encode(cv2.imencode(".png", 255 * mask)[1].tobytes()).decode()
    triangle = [[30.2, 5.1], [50.7, 8.3], [35.5, 20.9]]
    data = write_image(tmp_path / "in/Pic [1] é.PNG")
    write_json(
        tmp_path / "in/a.json",
        labelme(
            "Pic [1] é.PNG",
            ("rectangle", "leaf", [[20, 12], [7, 5]]),
            ("polygon", "leaf", triangle),
            ("circle", "stem", [[10, 30], [10, 36]]),
            ("linestrip", "lane", [[30, 25], [30, 35.5], [50, 35]]),
            ("mask", "leaf", [[55, 1], [57, 2]], {"mask": mask}),
            ("point", "tip", [[3, 3]]),
            ("polygon", "leaf", [[0, 0], [3, 0], [3, 2], [0, 2]], {"group_id": 4}),
            ("polygon", "leaf", [[0, 38], [3, 38], [3, 40], [0, 40]], {"group_id": 4}),
            ("polygon", "stem", [[4, 38], [6, 38], [6, 40], [4, 40]], {"group_id": 4}),
        ),
        bom=True,
    )
    label = convert(tmp_path / "in", tmp_path / "out", "--line-width", 3)["Pic [1] é"]
    expected = np.zeros(SIZE, np.uint16)
    expected[5:12, 7:20] = 1
    expected[even_odd(np.array(triangle))] = 2
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    expected[(x - 10) ** 2 + (y - 30) ** 2 < 36] = 3
    np.testing.assert_array_equal(np.where(label == 4, 0, label)[:, 20:55], expected[:, 20:55])
    np.testing.assert_array_equal(label[:, :20][expected[:, :20] > 0], expected[:, :20][expected[:, :20] > 0])
    # the line goes through the pixels (30, 25), (30, 35), (50, 35); OpenCV adds up to a pixel on each side
    away = np.minimum(
        np.hypot(x - 30.5, y - 0.5 - np.clip(y - 0.5, 25, 35)), np.hypot(x - 0.5 - np.clip(x - 0.5, 30, 50), y - 35.5)
    )
    assert (label[away <= 1.5] == 4).all() and not (label[away > 3] == 4).any()
    np.testing.assert_array_equal(label[1:3, 55:58], [[0, 5, 5], [5, 0, 5]])
    assert (label[:2, :3] == 6).all() and (label[38:, :3] == 6).all() and (label[38:, 4:6] == 7).all()
    assert label.max() == 7
    # the image is as it was, its suffix in lower case
    assert (tmp_path / "out/images/Pic [1] é.png").read_bytes() == data
    out = capsys.readouterr().out
    assert "1 images (labelme)" in out and "7 instances" in out and "1 left out: point" in out
    labels = convert(tmp_path / "in", tmp_path / "some", "--classes", "stem")
    assert sorted(np.unique(labels["Pic [1] é"])) == [0, 1, 2]
    assert "left out: of other classes" in capsys.readouterr().out


def test_labelme_finds_its_images(tmp_path):
    """Windows' paths, names in another Unicode form or case, equal names in two folders, Mac's twins, embedded ones."""
    box = ("rectangle", "a", [[1, 1], [3, 3]])
    source = tmp_path / "in"
    write_image(source / "one/a.jpg", value=10)
    write_image(source / "two/a.jpg", value=20)
    write_json(source / "one/a.json", labelme("a.jpg", box))
    write_json(source / "two/a.json", labelme("C:\\Users\\me\\a.jpg", box))
    write_image(source / "images" / unicodedata.normalize("NFD", "Grün.JPG".lower()), value=30)
    write_json(source / "x/u.json", labelme("..\\images\\Grün.JPG", box))
    (source / "one/._a.json").write_bytes(b"\0\5\26\7")
    write_json(source / "notes.json", {"what": "no annotation"})
    data = cv2.imencode(".jpg", np.full((*SIZE, 3), 40, np.uint8))[1].tobytes()
    write_json(source / "x/e.json", labelme("gone.jpg", box, imageData=base64.b64encode(data).decode()))
    labels = convert(source, tmp_path / "out")
    assert set(labels) == {"one-a", "two-a", "Grün", "gone"}
    for label in labels.values():
        assert label.sum() == 4 and (label[1:3, 1:3] == 1).all()
    grays = {path.stem: cv2.imread(str(path))[0, 0, 0] for path in (tmp_path / "out/images").iterdir()}
    assert grays == {"one-a": 10, "two-a": 20, "Grün": 30, "gone": 40}
    assert (tmp_path / "out/images/gone.jpg").read_bytes() == data


# COCO


def compress(counts):
    """COCO's rleToString."""
    text = ""
    for number, count in enumerate(counts):
        value = count - counts[number - 2] if number > 2 else count
        more = True
        while more:
            bits = value & 31
            value >>= 5
            more = value != -1 if bits & 16 else value != 0
            text += chr(bits + 32 * more + 48)
    return text


def runs_of(mask):
    """Run lengths down the columns, background first."""
    flat = mask.T.ravel().astype(int)
    ends = np.flatnonzero(np.diff(flat)) + 1
    lengths = np.diff([0, *ends, flat.size]).tolist()
    return lengths if flat[0] == 0 else [0, *lengths]


def test_compressed_run_lengths():
    assert coco.decode_counts("61X12N", "here") == [6, 1, 40, 3, 38]  # by hand
    rng = np.random.default_rng(2)
    for _ in range(100):
        counts = np.int64(rng.exponential(rng.choice([3, 300, 1e5]), rng.integers(1, 60))).tolist()
        assert coco.decode_counts(compress(counts), "here") == counts


def coco_file(annotations, images=("a.jpg", "b.png"), size=SIZE):
    return {
        "images": [
            {"id": 7 + number, "file_name": name, "height": size[0], "width": size[1]}
            for number, name in enumerate(images)
        ],
        "categories": [{"id": 3, "name": "cell"}, {"id": 5, "name": "dirt"}],
        "annotations": annotations,
    }


def annotation(segmentation, category=3, image=7, **more):
    return {"image_id": image, "category_id": category, "segmentation": segmentation, **more}


def test_coco(tmp_path, capsys):
    rng = np.random.default_rng(3)
    first, second = rng.random((2, *SIZE)) < 0.2
    second[0, 0] = True  # its first run of background is empty
    triangle = np.array([[10.3, 10.2], [30.1, 12.7], [15.4, 30.6]])
    file = coco_file(
        [
            annotation({"size": list(SIZE), "counts": runs_of(first)}),
            annotation({"size": list(SIZE), "counts": compress(runs_of(second))}, category=5),
            annotation([triangle.ravel().tolist(), [40, 20, 50, 20, 50, 30, 40, 30], [45, 25, 55, 25, 55, 35, 45, 35]]),
            annotation({"size": list(SIZE), "counts": [SIZE[0] * SIZE[1]]}, iscrowd=1),
            annotation([], bbox=[1, 2, 3, 4]),
        ]
    )
    write_json(tmp_path / "in/annotations/instances_val.json", file)
    for name in ("a.jpg", "b.png"):
        write_image(tmp_path / "in/val" / name)
    expected = np.zeros(SIZE, np.uint16)
    expected[first], expected[second], expected[even_odd(triangle)] = 1, 2, 3
    expected[20:30, 40:50] = expected[25:35, 45:55] = 3
    for number, source in enumerate(("in", "in/annotations", "in/annotations/instances_val.json")):
        labels = convert(tmp_path / source, tmp_path / f"out{number}")
        np.testing.assert_array_equal(labels["a"], expected)
        assert not labels["b"].any()  # an image without an annotation is one without an instance
    out = capsys.readouterr().out
    assert "3 instances, 0 to 3 per image" in out
    assert "1 left out: iscrowd" in out and "1 left out: box without a mask" in out and "2 lie in part under" in out
    for classes in (["dirt"], ["5"]):
        label = convert(tmp_path / "in", tmp_path / f"only_{classes[0]}", "--classes", *classes)["a"]
        np.testing.assert_array_equal(label, second)


# CVAT

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


def test_cvat(tmp_path, capsys):
    write_image(tmp_path / "in/images/sub/frame 1.jpg")
    write_image(tmp_path / "in/images/empty.jpg")
    (tmp_path / "in/annotations.xml").write_text(CVAT, encoding="utf-8-sig")
    labels = convert(tmp_path / "in", tmp_path / "out", "--line-width", 1)
    triangle = even_odd(np.array([[30.2, 5.1], [50.7, 8.3], [35.5, 20.9]]))
    expected = np.zeros(SIZE, np.uint16)
    expected[3:12, 28:40] = 1
    expected[27:37, 23:27] = 2
    expected[5:31, 5] = 3
    expected[30, 51:53] = expected[31, 50] = 4
    expected[31, 51] = 0
    expected[38:, :2] = expected[38:, 10:12] = 5
    expected[triangle] = 6  # the highest z_order
    np.testing.assert_array_equal(labels["frame 1"], expected)
    assert not labels["empty"].any()
    assert "1 left out: points" in capsys.readouterr().out


# YOLO


@pytest.mark.parametrize(
    "names",
    [
        "names: [leaf, 'stem']",
        "names:\n  0: leaf\n  1: stem # s\nnc: 2",
        "names:\n- leaf\n- stem",
        "names: # of two\n  - leaf\n  # not a class\n\n  - 'stem' # s\nnc: 2",
        'names: {1: stem, 0: "leaf"}',
    ],
)
def test_yolo(tmp_path, names):
    for name in ("train/a.jpg", "train/b.jpg", "val/c.jpg"):
        write_image(tmp_path / "in/images" / name)
    polygon = np.array([[0.1, 0.2], [0.55, 0.25], [0.6, 0.9], [0.2, 0.7]])
    (tmp_path / "in/labels/train").mkdir(parents=True)
    text = "0 " + " ".join(map(str, polygon.ravel())) + "\r\n\r\n1 0 0 0.1 0 0.1 1.0 0 1\r\n"
    (tmp_path / "in/labels/train/a.txt").write_text(text, encoding="utf-8-sig")
    (tmp_path / "in/labels/train/b.txt").write_text("")
    (tmp_path / "in/data.yaml").write_text(names + "\n")
    labels = convert(tmp_path / "in", tmp_path / "out")
    expected = even_odd(polygon * (60, 40)).astype(np.uint16)
    expected[:, :6] = 2
    np.testing.assert_array_equal(labels["a"], expected)
    assert not labels["b"].any() and not labels["c"].any()
    only = convert(tmp_path / "in", tmp_path / "only", "--classes", "stem")["a"]
    np.testing.assert_array_equal(only, expected == 2)
    os.replace(tmp_path / "in/data.yaml", tmp_path / "data.yaml")
    only = convert(tmp_path / "in", tmp_path / "split", "--classes", "leaf")["a"]
    np.testing.assert_array_equal(only, expected == 1)


# masks and label images


def test_one_mask_per_instance(tmp_path, capsys):
    for name, count in (("aa", 2), ("bb", 1)):
        write_image(tmp_path / f"in/{name}/images/{name}.png")
        (tmp_path / f"in/{name}/masks").mkdir()
        for number in range(count):
            mask = np.zeros((*SIZE, 4), np.uint8)
            mask[10 * number : 10 * number + 12, 5:9] = 255
            mask[:, :, 3] = 255
            mask = mask if number else mask[:, :, 0]  # gray and colored, both occur
            cv2.imwrite(str(tmp_path / f"in/{name}/masks/{number}.png"), mask)
    (tmp_path / "in/aa/masks/._0.png").write_bytes(b"mac")
    labels = convert(tmp_path / "in", tmp_path / "out")
    expected = np.zeros(SIZE, np.uint16)
    expected[:12, 5:9] = 1
    np.testing.assert_array_equal(labels["bb"], expected)
    expected[10:22, 5:9] = 2
    np.testing.assert_array_equal(labels["aa"], expected)
    out = capsys.readouterr().out
    assert "1 lie in part under a later one" in out and "2 touch another one" in out and "smallest 40 pixels" in out


IDS = np.zeros(SIZE, np.int64)
IDS[2:8, 3:9], IDS[2:8, 9:20], IDS[20:30, 40:44] = 1, 2, 3


def colors_of(ids):
    return np.array([[0, 0, 0], [10, 0, 0], [0, 7, 255], [5, 5, 5]], np.uint8)[ids]


def palette(path):
    from PIL import Image

    image = Image.fromarray(IDS.astype(np.uint8))
    image = image.point(lambda number: number or 9)  # all of it clear
    image.putpalette([0, 0, 0] + [9, 7, 5] * 9)  # the numbers tell them apart, not the colors
    image.save(path, transparency=9)


LABELS = {
    "8.png": IDS.astype(np.uint8),
    "16.png": (IDS * 300).astype(np.uint16),
    "rgb.png": colors_of(IDS)[:, :, ::-1],
    "rgba.png": np.dstack([np.where(IDS[..., None] > 0, colors_of(IDS), 99)[:, :, ::-1], 255 * (IDS > 0)]).astype(
        np.uint8
    ),
    "16.tif": (IDS * 300).astype(np.uint16),
    "32.TIFF": (IDS * 30000).astype(np.int32),
    "float.tif": IDS.astype(np.float32),
    "rgb.bmp": colors_of(IDS)[:, :, ::-1],
    "palette.png": palette,
}


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("folder", ["labels", "masks"])
def test_label_images(tmp_path, kind, folder):
    image = write_image(tmp_path / "in/images/a.jpg")
    name, suffix = kind.split(".")
    path = tmp_path / "in" / folder / f"a{'_mask' if folder == 'masks' else ''}.{suffix}"
    path.parent.mkdir()
    LABELS[kind](path) if callable(LABELS[kind]) else cv2.imwrite(str(path), LABELS[kind])
    label = convert(tmp_path / "in", tmp_path / "out")["a"]
    factor = 300 if name == "16" else 1  # ids that 16 bits hold stay as they are
    # colors are numbered by red, then green, then blue: (0, 7, 255), (5, 5, 5), (10, 0, 0)
    order = [0, 3, 1, 2] if name in ("rgb", "rgba") else [0, 1, 2, 3]
    np.testing.assert_array_equal(label, np.array(order)[IDS] * factor)
    assert (tmp_path / "out/images/a.jpg").read_bytes() == image


def photo(path, orientation, size=SIZE):
    """An image stored as `size`, its upper left corner bright, that says it is to be shown turned."""
    from PIL import Image

    array = np.full((*size, 3), 40, np.uint8)
    array[:10, :10] = 250
    exif = Image.Exif()
    exif[274] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, exif=exif, quality=95)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("view", ["shown", "stored"])
def test_image_and_label_agree_when_the_image_says_it_is_turned(tmp_path, orientation, view):
    """Whichever view was annotated; half a turn shows in no size and is taken as shown."""
    photo(tmp_path / "in/a.jpg", orientation)
    height, width = SIZE
    x, y = {1: (0, 0), 3: (width - 10, height - 10), 6: (height - 10, 0), 8: (0, width - 10)}[orientation]
    size = SIZE[::-1] if orientation > 4 else SIZE
    if view == "stored":
        if orientation == 3:
            return
        (x, y), size = (0, 0), SIZE
    corner = ("rectangle", "corner", [[x, y], [x + 10, y + 10]])
    write_json(tmp_path / "in/a.json", labelme("a.jpg", corner, size=size))
    label = convert(tmp_path / "in", tmp_path / "out")["a"]
    (path,) = (tmp_path / "out/images").iterdir()
    image = cv2.imread(str(path))  # turned as training turns it
    assert image.shape[:2] == label.shape == size
    assert image[label == 1].min() > 200 and image[label == 0].mean() < 60


def test_tiff_becomes_png(tmp_path):
    image = np.random.default_rng(4).integers(0, 255, (*SIZE, 3), np.uint8)
    (tmp_path / "in/images").mkdir(parents=True)
    (tmp_path / "in/labels").mkdir()
    cv2.imwrite(str(tmp_path / "in/images/a.TIF"), image)
    cv2.imwrite(str(tmp_path / "in/labels/a.png"), IDS.astype(np.uint8))
    np.testing.assert_array_equal(convert(tmp_path / "in", tmp_path / "out")["a"], IDS)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "out/images/a.png")), image)


def test_names_of_classes_may_hold_commas_and_marks():
    text = "\n- \"car, small\"\n- it's # one\n\n- '# 3'"
    assert yolo._parse_names(text) == {"0": "car, small", "1": "it's", "2": "# 3"}
    assert yolo._parse_names("['car, small', b]") == {"0": "car, small", "1": "b"}
    assert yolo._parse_names("[driver's, kid's]") == {"0": "driver's", "1": "kid's"}
    assert yolo._parse_names("['driver''s side', 'car']") == {"0": "driver's side", "1": "car"}
    assert yolo._parse_names('{"0": "person", 1: car, 2: \'a, b\'}') == {"0": "person", "1": "car", "2": "a, b"}
    assert yolo._parse_names("\n  0: pallet#1\n  1: C#") == {"0": "pallet#1", "1": "C#"}


def test_images_of_12_bits_are_no_darker_than_they_were(tmp_path):
    image = np.zeros((*SIZE, 3), np.uint16)
    image[:20], image[20:, :9] = 4095, 2048
    (tmp_path / "in/images").mkdir(parents=True)
    (tmp_path / "in/labels").mkdir()
    cv2.imwrite(str(tmp_path / "in/images/a.tif"), image)
    cv2.imwrite(str(tmp_path / "in/labels/a.png"), IDS.astype(np.uint8))
    convert(tmp_path / "in", tmp_path / "out")
    written = cv2.imread(str(tmp_path / "out/images/a.png"), cv2.IMREAD_UNCHANGED)
    assert written[0, 0, 0] == 255 and abs(int(written[30, 0, 0]) - 127.5) <= 1 and written[30, 30, 0] == 0


def test_coco_ids_may_be_long(tmp_path):
    write_image(tmp_path / "in/a.jpg")
    file = coco_file([annotation([[1, 1, 9, 1, 5, 9]], image=2008000008123)], images=("a.jpg",))
    file["images"][0]["id"] = 2008000008123
    write_json(tmp_path / "in/coco.json", file)
    assert convert(tmp_path / "in", tmp_path / "out")["a"].max() == 1


@pytest.mark.parametrize("form", ["labels", "yolo"])
def test_names_that_a_file_system_wrote_otherwise_belong_together(tmp_path, form):
    """A Mac takes the letters of ü apart; IMG_1.JPG and img_1.png."""
    for name in (unicodedata.normalize("NFD", "ü") + ".jpg", "IMG_1.JPG", "x.jpg"):
        write_image(tmp_path / "in/images" / name)
    (tmp_path / "in/labels").mkdir()
    for value, name in enumerate((unicodedata.normalize("NFC", "ü"), "img_1", "x"), start=1):
        if form == "labels":
            cv2.imwrite(str(tmp_path / f"in/labels/{name}.png"), np.full(SIZE, value, np.uint8))
        else:
            lines = [f"0 0 0 {1 / k} 0 {1 / k} 1 0 1\n" for k in range(1, value + 1)]
            (tmp_path / f"in/labels/{name}.txt").write_text("".join(lines))
    labels = convert(tmp_path / "in", tmp_path / "out")
    assert {unicodedata.normalize("NFC", stem): label.max() for stem, label in labels.items()} == {
        "ü": 1,
        "IMG_1": 2,
        "x": 3,
    }


def test_labelme_images_of_equal_names_in_a_folder_of_their_own(tmp_path, capsys):
    for number, folder in enumerate("ab"):
        write_image(tmp_path / "images" / folder / "1.jpg", value=50 + number)
        write_json(tmp_path / "in" / folder / "1.json", labelme("1.jpg", ("rectangle", "x", [[0, 0], [9, 9 + number]])))
    labels = convert(tmp_path / "in", tmp_path / "out", "--images", tmp_path / "images")
    assert {stem: int((label > 0).sum()) for stem, label in labels.items()} == {"a-1": 81, "b-1": 90}
    values = [cv2.imread(str(tmp_path / f"out/images/{folder}-1.jpg"))[0, 0, 0] for folder in "ab"]
    assert abs(values[0] - 50.0) <= 1 and abs(values[1] - 51.0) <= 1


def test_what_lies_beside_labelme_files(tmp_path, capsys):
    """Another program's list and XML are passed over, an image that nobody annotated is counted, not a skipped one."""
    for name in ("a", "unlabeled"):
        write_image(tmp_path / f"in/{name}.jpg")
    write_json(tmp_path / "in/z.json", labelme("a.jpg", ("rectangle", "x", [[0, 0], [9, 9]])))
    write_json(tmp_path / "in/classes.json", ["x"])
    (tmp_path / "in/a.xml").write_text("<other/>")
    assert list(convert(tmp_path / "in", tmp_path / "out")) == ["a"]
    assert "1 left out: images without a JSON file" in capsys.readouterr().out
    write_image(tmp_path / "in/bad.jpg")
    write_json(tmp_path / "in/bad.json", labelme("bad.jpg", ("polygon", "x", [[0, 0]])))
    assert list(convert(tmp_path / "in", tmp_path / "skipped", "--skip-bad")) == ["a"]
    assert "1 left out: images without a JSON file" in capsys.readouterr().out


def test_folders_behind_links_count(tmp_path):
    for folder in ("images", "labels"):
        (tmp_path / "in" / folder).mkdir(parents=True)
        (tmp_path / "in" / folder / "more").symlink_to(tmp_path / folder, target_is_directory=True)
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "round").symlink_to(tmp_path / "in" / folder, target_is_directory=True)
    for folder in (tmp_path, tmp_path / "in"):
        write_image(folder / "images/a.jpg")
        cv2.imwrite(str(folder / "labels/a.png"), IDS.astype(np.uint8))
        (folder / "images/.latest").symlink_to(folder / "images", target_is_directory=True)  # hidden
    assert sorted(convert(tmp_path / "in", tmp_path / "out")) == ["a", "more-a"]


def test_hidden_folders_are_counted(tmp_path, capsys):
    for name in ("a", ".h/b"):
        write_image(tmp_path / f"in/images/{name}.jpg")
    (tmp_path / "in/labels").mkdir()
    cv2.imwrite(str(tmp_path / "in/labels/a.png"), IDS.astype(np.uint8))
    assert list(convert(tmp_path / "in", tmp_path / "out")) == ["a"]
    assert "1 hidden" in capsys.readouterr().err


def test_linked_twins_have_the_name_inside_the_folder(tmp_path):
    for folder in ("images", "labels"):
        (tmp_path / "in" / folder / "b").mkdir(parents=True)
    write_image(tmp_path / "in/images/b/0.jpg")
    cv2.imwrite(str(tmp_path / "in/labels/b/0.png"), IDS.astype(np.uint8))
    for name in ("a", ".latest"):
        (tmp_path / "in/images" / name).symlink_to("b", target_is_directory=True)
    assert list(convert(tmp_path / "in", tmp_path / "out")) == ["0"]


def test_labels_named_with_an_ending_of_images_that_have_it_too(tmp_path):
    for name in ("a", "a_mask"):
        write_image(tmp_path / f"in/images/{name}.jpg")
    (tmp_path / "in/labels").mkdir()
    for value, name in ((1, "a_mask"), (2, "a_mask_mask")):
        cv2.imwrite(str(tmp_path / f"in/labels/{name}.png"), np.full(SIZE, value, np.uint8))
    assert {stem: label.max() for stem, label in convert(tmp_path / "in", tmp_path / "out").items()} == {
        "a": 1,
        "a_mask": 2,
    }


def test_further_pages_of_a_label_are_counted(tmp_path, capsys):
    write_image(tmp_path / "in/images/a.jpg")
    (tmp_path / "in/labels").mkdir()
    cv2.imwritemulti(str(tmp_path / "in/labels/a.tif"), [IDS.astype(np.uint8)] * 3)
    convert(tmp_path / "in", tmp_path / "out")
    assert "2 left out: pages or frames after a file's first" in capsys.readouterr().out
