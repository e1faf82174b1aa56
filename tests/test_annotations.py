"""Annotations of tools: every form against ids that are painted by other means."""

import base64
import os

import annotation_files as tools
import cv2
import numpy as np
import pytest
from annotation_files import BOX, CVAT, FORMS, GRAY, SIZE, coco_file, convert, labelme, write, write_boxes
from numpy.testing import assert_array_equal
from test_shapes import even_odd

from data.annotations import coco, yolo
from run.command import UserError

TURNED = np.array([[25.2, 1.1], [29.3, 5.2], [27.3, 7.4], [23.2, 3.3]])
TRIANGLE = np.array([[30.2, 5.1], [50.7, 8.3], [35.5, 20.9]])


def test_labelme_shapes(tmp_path, capsys):
    mask = np.array([[0, 1, 1], [1, 0, 1]], np.uint8)
    objects = [
        ("rectangle", "leaf", [[20, 12], [7, 5]]),
        ("polygon", "leaf", TRIANGLE.tolist()),
        ("circle", "stem", [[10, 30], [10, 36]]),
        ("linestrip", "lane", [[30, 25], [30, 35.5], [50, 35]]),
        ("mask", "leaf", [[55, 1], [57, 2]], {"mask": base64.b64encode(tools.to_bytes(255 * mask, ".png")).decode()}),
        ("point", "tip", [[3, 3]]),
        ("polygon", "leaf", tools.corners(0, 0, 3, 2), {"group_id": 4}),
        ("polygon", "leaf", tools.corners(0, 38, 3, 40), {"group_id": 4}),
        ("oriented_rectangle", "stem", TURNED.tolist(), {"group_id": 4, "direction": 0.46}),
        ("rotation", "stem", (TURNED + [14, 0]).tolist()),
        ("quadrilateral", "stem", (TURNED + [28, 0]).tolist()),
    ]
    file = b"\xef\xbb\xbf" + tools.to_bytes(labelme("Pic [1] é.PNG", *objects))  # a byte order mark
    write(tmp_path / "in", {"Pic [1] é.PNG": None, "a.json": file})
    label = convert(tmp_path / "in", tmp_path / "out", "--line-width", 3)["Pic [1] é"]
    expected = np.zeros(SIZE, np.uint16)
    expected[5:12, 7:20] = 1
    expected[even_odd(TRIANGLE)] = 2
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    expected[(x - 10) ** 2 + (y - 30) ** 2 < 36] = 3
    cv2.polylines(expected, [np.array([[30, 25], [30, 35], [50, 35]])], False, 4, 3)
    expected[1:3, 55:58] = 5 * mask
    expected[:2, :3] = expected[38:, :3] = 6
    for number in range(3):
        expected[even_odd(TURNED + [14 * number, 0])] = 7 + number
    assert_array_equal(label, expected)
    assert (tmp_path / "out/images/Pic [1] é.png").read_bytes() == (tmp_path / "in/Pic [1] é.PNG").read_bytes()
    out = capsys.readouterr().out
    assert "1 images (labelme)" in out and "9 instances" in out and "1 left out: point" in out


def test_labelme_finds_its_images(tmp_path):
    """Windows' paths, equal names in two folders, Mac's twins, other files."""
    files = {
        "one/a.json": labelme("a.jpg", BOX),
        "two/a.json": labelme("C:\\Users\\me\\a.jpg", BOX),
        "x/u.json": labelme("..\\images\\grün.jpg", BOX),
        "one/._a.json": b"\0\5\26\7",
        "notes.json": {"what": "no annotation"},
        "classes.json": ["x"],
        "a.xml": "<other/>",
    }
    images = {"one/a.jpg": GRAY, "two/a.jpg": GRAY + 10, "images/grün.jpg": GRAY + 20}
    write(write(tmp_path / "beside", files), images)
    write(write(tmp_path / "apart", files).parent / "images", images | {"grün.jpg": GRAY + 20})
    for source, flags in (("beside", []), ("apart", ["--images", tmp_path / "images"])):
        labels = convert(tmp_path / source, tmp_path / f"{source}_out", *flags)
        assert all(label.sum() == 64 and (label[1:9, 1:9] == 1).all() for label in labels.values())
        grays = {path.stem: cv2.imread(str(path))[0, 0, 0] for path in tmp_path.glob(f"{source}_out/images/*")}
        assert grays == {"one-a": 90, "two-a": 100, "x-grün": 110}


def test_compressed_run_lengths():
    """The first by hand, the second as COCO's rleToString writes it."""
    assert coco.decode_counts("61X12N") == [6, 1, 40, 3, 38]
    assert coco.decode_counts("0o0Pb`n0@`^_QO`b`n0T?") == [0, 31, 1_000_000, 15, 16, 1_000_031, 500]


def test_coco(tmp_path, capsys):
    """Crowds are ignored, but not what lies in them."""
    crowd = np.zeros(SIZE, bool)
    crowd[10:30, 10:40] = True
    first, second = np.random.default_rng(3).random(SIZE) < 0.2, np.zeros(SIZE, bool)
    second[:4, :2] = second[30:, 50:52] = True  # its first run of background is empty
    parts = [TRIANGLE.ravel().tolist(), [40, 20, 50, 20, 50, 30, 40, 30], [45, 25, 55, 25, 55, 35, 45, 35]]
    file = coco_file(
        [
            tools.annotation({"size": list(SIZE), "counts": tools.runs_of(first)}),
            tools.annotation({"size": list(SIZE), "counts": "04T10nl16lRN0R9"}, category=5),
            tools.annotation(parts),
            tools.annotation([], bbox=[1, 2, 3, 4]),
            tools.annotation({"size": list(SIZE), "counts": tools.runs_of(crowd)}, iscrowd=1),
        ]
    )
    write(tmp_path / "in", {"annotations/instances_val.json": file, "val/a.jpg": None, "val/b.png": None})
    expected = np.where(crowd, 65535, 0)
    expected[first], expected[second], expected[even_odd(TRIANGLE)] = 1, 2, 3
    expected[20:30, 40:50] = expected[25:35, 45:55] = 3
    for number, source in enumerate(("in", "in/annotations/instances_val.json")):
        labels = convert(tmp_path / source, tmp_path / f"out{number}")
        assert_array_equal(labels["a"], expected)
        assert not labels["b"].any()  # an image without an annotation is one without an instance
    out = capsys.readouterr().out
    assert "3 instances, 0 to 3 per image" in out and "1 left out: box without a mask" in out
    assert_array_equal(convert(tmp_path / "in", tmp_path / "5", "--classes", "dirt")["a"], second)
    assert (tmp_path / "5/classes.txt").read_text() == "1 dirt\n"


def test_cvat(tmp_path, capsys):
    images = {"images/sub/frame 1.jpg": None, "images/empty.jpg": None}
    write(tmp_path / "in", {**images, "annotations.xml": CVAT.encode("utf-8-sig")})
    labels = convert(tmp_path / "in", tmp_path / "out", "--line-width", 1)
    expected = np.zeros(SIZE, np.uint16)
    expected[3:12, 28:40] = 1
    expected[27:37, 23:27] = 2
    expected[5:31, 5] = 3
    expected[30, 51:53] = expected[31, 50] = 4
    expected[38:, :2] = expected[38:, 10:12] = 5
    expected[36:, 40:45], expected[36:, 45:49] = 65535, 6
    expected[even_odd(TRIANGLE)] = 7  # the highest z_order
    assert_array_equal(labels["frame 1"], expected)
    assert not labels["empty"].any()
    assert "1 left out: points" in capsys.readouterr().out


def test_yolo(tmp_path, capsys):
    polygon = np.array([[0.1, 0.2], [0.55, 0.25], [0.6, 0.9], [0.2, 0.7]])
    text = "\ufeff0 " + " ".join(map(str, polygon.ravel())) + "\r\n\r\n1 0 0 0.1 0 0.1 1.0 0 1\r\n"
    write(tmp_path / "in", {"labels/train/a.txt": text, "labels/train/b.txt": "", "data.yaml": "names: [leaf, 'stem']"})
    write(tmp_path / "in/images", {"train/a.jpg": None, "train/b.jpg": None, "val/c.jpg": None})
    labels = convert(tmp_path / "in", tmp_path / "out")
    expected = even_odd(polygon * (60, 40)).astype(np.uint16)
    expected[:, :6] = 2
    assert_array_equal(labels["a"], expected)
    assert not labels["b"].any() and not labels["c"].any()
    assert "1 images without an annotation, kept as empty" in capsys.readouterr().out
    assert (tmp_path / "out/classes.txt").read_text() == "1 leaf\n2 stem\n"
    os.replace(tmp_path / "in/data.yaml", tmp_path / "data.yaml")  # beside one split of several
    only = convert(tmp_path / "in", tmp_path / "split", "--classes", "leaf")["a"]
    assert_array_equal(only, expected == 1)
    (tmp_path / "data.yaml").unlink()
    convert(tmp_path / "in", tmp_path / "unnamed")
    assert (tmp_path / "unnamed/classes.txt").read_text() == "1 0\n2 1\n"


def test_names_in_yaml(tmp_path):
    for text in (
        "path: x\r\nnames:\r\n  0: leaf\r\n\r\n  1: tall stem # s\r\nnc: 2",
        "names: # of two\n- leaf\n  # not a class\n\n- 'tall stem' # s\nnc: 2",
        'names: {1: tall stem, "0": "leaf"}',
        "nc: 2\nnames: ['leaf',\n  tall stem]",
    ):
        assert yolo.read_names(write(tmp_path, {"data.yaml": text})) == {"0": "leaf", "1": "tall stem"}
    for text in ("names:\n- car, small\n- b", "names: ['a, b', c]"):
        with pytest.raises(UserError, match=r"data\.yaml: found .* classes\.txt"):
            yolo.read_names(write(tmp_path, {"data.yaml": text}))


def class_map(out):
    classes = cv2.imread(str(out / "classes/a.png"), cv2.IMREAD_UNCHANGED)
    assert classes.dtype == np.uint8 and classes.ndim == 2
    return classes


@pytest.mark.parametrize("form", FORMS)
def test_names_that_tools_reserve(tmp_path, capsys, form):
    """A hole is background, the ignored 65535, whatever classes are kept; two may become one."""
    kinds = np.zeros(SIZE, int)
    kinds[2:12, 2:22] = 1
    kinds[4:8, 6:10] = 0
    kinds[:6, 18:30] = 3
    kinds[5:7, 7:9] = 2
    write_boxes(form, tmp_path / "in")
    cases = [
        ([], [0, 1, 2], [0, 1, 2], "1 leaf\n2 stem\n"),
        (["stem=plant", "leaf=plant"], [0, 1, 2], [0, 1, 1], "1 plant\n"),
        (["stem=the stalk"], [0, 0, 1], [0, 0, 1], "1 the stalk\n"),
    ]
    for number, (names, ids, classes, text) in enumerate(cases):
        out = tmp_path / str(number)
        label = convert(tmp_path / "in", out, *["--classes", *names] if names else [])["a"]
        assert_array_equal(label, np.array([*ids, 65535])[kinds])
        assert_array_equal(class_map(out), np.array([*classes, 255])[kinds])
        assert (out / "classes.txt").read_text() == text
    said = capsys.readouterr().out
    assert "2 instances" in said and "classes: 1 leaf, 1 stem" in said and "72 pixels are ignored" in said
    assert "1 left out: of other classes" in said


def test_an_empty_label_is_no_class(tmp_path):
    write_boxes("labelme", tmp_path / "in", [("", 0, 0, 4, 4), ("x  y", 10, 0, 14, 4)])
    assert convert(tmp_path / "in", tmp_path / "out")["a"].max() == 2
    assert class_map(tmp_path / "out")[0, [0, 10]].tolist() == [0, 1]
    assert (tmp_path / "out/classes.txt").read_text() == "1 x y\n"
