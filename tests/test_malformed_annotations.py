"""What can't be used of annotations ends in one line that names it, and writes nothing."""

import copy
import json
import os

import cv2
import numpy as np
import pytest
from annotation_files import CVAT, SIZE, annotation, coco_file, fails, labelme, write_image, write_json
from PIL import Image

from data import instance_dataset_processing as processing

BOX = ("rectangle", "a", [[1, 1], [9, 9]])
TRIANGLE = ((1, 1), (9, 1), (5, 9))


def one_shape(kind, points, label="a", **more):
    return labelme("a.jpg", (kind, label, points, more))


def polygon(point, **more):
    return one_shape("polygon", [*TRIANGLE, point], **more)


# what the labelme file holds, what the line must say
LABELME = [
    ("", "no JSON"),
    ("[1, 2]", "found no annotated image"),
    ({"shapes": []}, "None for imagePath"),
    (labelme("gone.jpg", BOX), "no image 'gone.jpg'"),
    (labelme("a\0.jpg", BOX), "no image"),
    (labelme("x" * 5000, BOX), "no image"),
    (labelme("a.jpg", BOX, size=(41, 60)), "found 60x40 pixels, expected 60x41"),
    (labelme("a.jpg", BOX, size=(-40, 60)), "an image of 60x-40"),
    (labelme("a.jpg", BOX, size=(None, 60)), "None for imageHeight"),
    (labelme("a.jpg", BOX, shapes=[7]), "shape 1: found None for label"),
    (one_shape("polygon", TRIANGLE[:2]), "shape 1: found [[1, 1], [9, 1]], expected at least 3 points"),
    (one_shape("polygon", []), "found [], expected at least 3 points"),
    (one_shape("polygon", {"x": 1}), "found {'x': 1}, expected"),
    (polygon((1, 2, 3)), "pairs of finite numbers"),
    (polygon(("one", 2)), "['one', 2]"),
    (polygon((float("nan"), 2)), "[nan, 2]"),
    (polygon((10**400, 2)), "pairs of finite numbers"),
    (polygon((500, 2)), "shape 1: found the point (500, 2), expected it within 60x40"),
    (one_shape("circle", [[20, 20], [20, 20]]), "radius of 0"),
    (one_shape("circle", [[20, 20], [900, 20]]), "found the point"),
    (one_shape("star", [[20, 20], [20, 20]]), "shape_type star"),
    (one_shape("mask", [[1, 1], [2, 2]], mask="AAAA"), "shape 1: found a mask that could not be decoded"),
    (one_shape("mask", [[1, 1], [2, 2]], mask="A"), "shape 1: found Invalid base64"),
    (polygon((5, 5), group_id=[1]), "[1] for group_id"),
    (labelme("a.jpg"), "without an instance"),
    (one_shape("polygon", [(-9, -9), (-2, -9), (-2, -2)]), "without an instance"),
]


@pytest.mark.parametrize(("content", "words"), LABELME, ids=lambda value: value[:30] if isinstance(value, str) else "")
def test_malformed_labelme(tmp_path, capsys, content, words):
    write_image(tmp_path / "in/a.jpg")
    (tmp_path / "in/a.json").write_text(content if isinstance(content, str) else json.dumps(content))
    line = fails(capsys, tmp_path / "in", tmp_path / "out", "--format", "labelme")
    assert words in line and ("a.json" in line or "in: found" in line or "a.jpg: found" in line), line


RUNS = ("annotations", 1, "segmentation", "counts")
POINTS = ("annotations", 0, "segmentation")
COCO = [  # where, the value there, what the line must say
    (("categories",), None, "None for categories"),
    (("images", 0, "id"), None, "image 1: found None for id"),
    (("images", 0, "id"), True, "True for id"),
    (("images", 1, "id"), 7, "image 2: found the id 7 again"),
    (("images", 0, "file_name"), "../gone.jpg", "image 1: found no image '../gone.jpg'"),
    (("images", 1, "file_name"), "a.jpg", "differ in more than the suffix"),
    (("images", 0, "width"), 0, "0x40"),
    (("images", 0, "width"), 61, "found 60x40 pixels, expected 61x40"),
    (("annotations", 0, "image_id"), 99, "annotation 1: found image_id 99"),
    (("annotations", 0, "category_id"), 99, "annotation 1: found category_id 99"),
    (("annotations", 0, "iscrowd"), "no", "'no' for iscrowd"),
    (("categories", 0, "name"), 3, "categories: found 3 for name"),
    (POINTS, [[1, 1, 9, 1]], "found [1, 1, 9, 1], expected at least 3 points"),
    (POINTS, [[1, 1, 9, 1, 5]], "found [1, 1, 9, 1, 5]"),
    (POINTS, [1, 1, 9, 1, 5, 9], "found 1, expected"),
    (POINTS, [[1, 1, 9, 1, 5, 1900]], "found the point (5, 1900)"),
    (RUNS, [1, 2398], "run lengths [1, 2398], expected whole numbers that add up to 2400"),
    (RUNS, [-1, 2401], "run lengths [-1, 2401]"),
    (RUNS, [1.5, 2398.5], "run lengths [1.5, 2398.5]"),
    (RUNS, [10**30], "run lengths [1000"),
    (RUNS, "61X12 N", "' ' in counts"),
    (RUNS, "ooooooooooooooo", "in counts"),
    (RUNS, "61X", "end within a number"),
    (("annotations", 1, "segmentation", "size"), [40], "the size [40], expected [40, 60]"),
    (("annotations", 1, "segmentation", "size"), [60, 40], "the size [60, 40], expected [40, 60]"),
]


@pytest.mark.parametrize(("path", "value", "words"), COCO, ids=lambda value: str(value)[:40])
def test_malformed_coco(tmp_path, capsys, path, value, words):
    for name in ("a.jpg", "b.png"):
        write_image(tmp_path / "in" / name)
    file = coco_file([annotation([[1, 1, 9, 1, 5, 9]]), annotation({"size": list(SIZE), "counts": [1, 2399]})])
    place = file
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = copy.deepcopy(value)
    write_json(tmp_path / "in/coco.json", file)
    line = fails(capsys, tmp_path / "in/coco.json", tmp_path / "out", "--format", "coco")
    assert words in line and ("coco.json" in line or "a.jpg" in line), line


XML = [
    ("<annotations>", "<annotation>", "no XML"),
    ("</annotations>", '<track label="a"/></annotations>', "found tracks, as in CVAT for video"),
    (CVAT, "", "no XML"),
    ("<annotations>", '<!DOCTYPE a [<!ENTITY b "c">]><annotations>', "no XML"),
    (CVAT, "<annotation><object/></annotation>", "<annotation>"),
    ('encoding="utf-8"', 'encoding="klingon"', "no XML"),
    (' name="empty.jpg"', "", "image 2: found no 'name'"),
    ("empty.jpg", "gone.jpg", "image 2: found no image 'gone.jpg'"),
    ('width="60" height="40"/>', 'width="sixty" height="40"/>', "found 'sixty' for width"),
    ('width="60" height="40"/>', 'width="60.5" height="40"/>', "found '60.5' for width"),
    ('width="60" height="40"/>', "/>", "found None for height"),
    ('width="60" height="40"/>', 'width="40" height="41"/>', "found 60x40 pixels, expected 40x41"),
    ("30.20,5.10;", "30.20,5.10,1;", "<polygon> 1: found [['30.20', '5.10', '1']"),
    ("30.20,5.10;50.70,8.30;", "", "expected at least 3 points"),
    ("30.20,5.10;", "1e999,5.10;", "'1e999'"),
    ("30.20,5.10;", "3020,5.10;", "found the point (3020, 5.1)"),
    ('points="5,5;5,30"', "", "found [['']], expected at least 2 points"),
    ('xtl="28.00"', "", "found None for xtl"),
    ('xtl="28.00"', 'xtl="48.00"', "a right side left of"),
    ('rle="1, 3, 2"', 'rle="1, 3, 3"', "run lengths [1, 3, 3], expected whole numbers that add up to 6"),
    ('rle="1, 3, 2"', "", "<mask> 5: found invalid literal"),
    ('left="50"', 'left="58"', "pixels at (58, 30)"),
    ('width="3" height="2"', 'width="99999" height="99999"', "99999x99999"),
    ('z_order="1"', 'z_order="top"', "found 'top' for z_order"),
    ('<box label="cell" xtl="0"', '<box xtl="0"', "found no 'label'"),
    ('<points label="tip" points="1,1;2,2"></points>', '<blob label="x"/>', "a shape of another kind"),
]


@pytest.mark.parametrize(("old", "new", "words"), XML, ids=lambda value: value[:30])
def test_malformed_cvat(tmp_path, capsys, old, new, words):
    for name in ("images/sub/frame 1.jpg", "images/empty.jpg"):
        write_image(tmp_path / "in" / name)
    assert old in CVAT
    (tmp_path / "in/a.xml").write_text(CVAT.replace(old, new), encoding="utf-8")
    line = fails(capsys, tmp_path / "in", tmp_path / "out", "--format", "cvat")
    assert words in line and ("a.xml" in line or "empty.jpg" in line), line


YOLO = [
    ("0 0.1 0.1 0.2 0.2", "a.txt:1: found a box"),
    ("0 0.1 0.1 0.2 0.2 0.3 0.3 0.4", "found 8 words"),
    ("\n\nleaf 0.1 0.1 0.2 0.2 0.3 0.3", "a.txt:3: found the class leaf"),
    ("-1 0.1 0.1 0.2 0.2 0.3 0.3", "the class -1"),
    ("0 0.1 0.1 0.2 nan 0.3 0.3", "'nan'"),
    ("0 10 10 20 20 30 15", "found 10 to 30, expected fractions"),
    ("0 0.1 0.1 0.2 0,2 0.3 0.3", "'0,2'"),
    ("", "without an instance"),
    ("0 0.1 0.1 0.1 0.1 0.1 0.1", "without an instance"),
    (b"\xff\xfe0 1", "no UTF-8 text"),
]


@pytest.mark.parametrize(("text", "words"), YOLO)
def test_malformed_yolo(tmp_path, capsys, text, words):
    write_image(tmp_path / "in/images/a.jpg")
    (tmp_path / "in/labels").mkdir()
    (tmp_path / "in/labels/a.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert words in fails(capsys, tmp_path / "in", tmp_path / "out")


def test_label_studio_is_told_its_export(tmp_path, capsys):
    result = {"original_width": 60, "original_height": 40, "type": "polygonlabels", "value": {"points": [[1, 2]]}}
    write_json(tmp_path / "in/tasks.json", [{"id": 1, "annotations": [{"result": [result]}], "data": {"image": "a"}}])
    assert "Label Studio's JSON, expected COCO" in fails(capsys, tmp_path / "in", tmp_path / "out")


def jpg_tiff(path):
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(path, "tiff", compression="jpeg")


def lossy_webp(path):
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(path, "webp", quality=80)


def encoded(suffix, array):
    return lambda path: path.write_bytes(cv2.imencode(suffix, array)[1].tobytes())


GRAY = np.zeros(SIZE, np.uint8)
RASTERS = [
    (encoded(".jpg", GRAY), "found a jpg, whose compression changes values"),
    (lossy_webp, "found a lossy webp"),
    (jpg_tiff, "found a tiff of jpg tiles"),
    (lambda path: path.write_bytes(b"text"), "could not be decoded"),
    (lambda path: path.write_bytes(b""), "could not be decoded"),
    (lambda path: path.write_bytes(cv2.imencode(".png", GRAY)[1].tobytes()[:60]), "cut off or damaged"),
    (encoded(".png", GRAY[:-1]), "found 60x40 pixels, expected 60x39"),
    (encoded(".png", GRAY), "without an instance"),
    (encoded(".tiff", GRAY.astype(np.int32) - 1), "found values from -1 to -1"),
    (encoded(".tiff", GRAY + np.float32(0.5)), "found values from 0.5 to 0.5"),
    (encoded(".tiff", GRAY + np.float32(np.nan)), "found values from nan to nan"),
    (encoded(".tiff", np.arange(70000, dtype=np.int32).reshape(250, 280)), "found 69999 instances"),
    (os.mkdir, "labels: found no file"),
]


@pytest.mark.parametrize(("write", "words"), RASTERS, ids=lambda value: value[:20] if isinstance(value, str) else "")
def test_unusable_label_images(tmp_path, capfd, write, words):
    # libpng would say more, and not by sys.stderr
    write_image(tmp_path / "in/images/a.jpg")
    (tmp_path / "in/labels").mkdir()
    write(tmp_path / "in/labels/a.png")
    assert words in fails(capfd, tmp_path / "in", tmp_path / "out", "--format", "labels")


def test_unusable_masks_and_pairs(tmp_path, capsys):
    source, out = tmp_path / "in", tmp_path / "out"
    write_image(source / "aa/images/aa.png")
    (source / "aa/masks").mkdir()
    cv2.imwrite(str(source / "aa/masks/0.png"), GRAY + 255)
    (source / "aa/masks/1.png").write_bytes(cv2.imencode(".jpg", GRAY)[1].tobytes())
    assert "1.png: found a jpg" in fails(capsys, source, out)
    cv2.imwrite(str(source / "aa/masks/1.png"), GRAY[1:])
    assert "1.png: found 60x39 pixels, expected 60x40" in fails(capsys, source, out)
    assert "--images" in fails(capsys, source, out, "--images", source)
    assert "--classes cell: found no classes" in fails(capsys, source, out, "--classes", "cell")
    write_image(source / "aa/images/bb.png")
    assert "aa/images: found 2 images" in fails(capsys, source, out)
    (source / "bb").mkdir()
    (source / "aa/images/bb.png").unlink()
    assert "bb/images" in fails(capsys, source, out)
    write_image(tmp_path / "pairs/images/a.jpg")
    write_image(tmp_path / "pairs/labels/b.png")
    assert "b.png: found no image" in fails(capsys, tmp_path / "pairs", out)


def test_unusable_sources_and_flags(tmp_path, capsys):
    out = tmp_path / "out"
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("x")
    for source in ("nowhere", "empty", "text.txt"):
        expected = "nowhere: No such file" if source == "nowhere" else "expected one of them"
        assert expected in fails(capsys, tmp_path / source, out)
        for form in processing.READERS:
            assert source in fails(capsys, tmp_path / source, out, "--format", form)
    write_image(tmp_path / "in/a.jpg")
    write_json(tmp_path / "in/a.json", labelme("a.jpg", BOX, ("rectangle", "b", BOX[2])))
    for words, *flags in (
        ("--classes c: found a, b, expected", "--classes", "a", "c"),
        ("--images", "--images", tmp_path / "nowhere"),
        ("no image 'a.jpg' in", "--images", tmp_path / "empty"),
        ("found 0 COCO files", "--format", "coco"),
    ):
        assert words in fails(capsys, tmp_path / "in", out, *flags)
    assert "text.txt: found a file, expected a folder" in fails(capsys, tmp_path / "in", tmp_path / "text.txt")
    for damage in (b"", b"no image", cv2.imencode(".jpg", GRAY)[1].tobytes()[:300]):
        (tmp_path / "in/a.jpg").write_bytes(damage)
        assert "a.jpg: " in fails(capsys, tmp_path / "in", out)
