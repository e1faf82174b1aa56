"""What can't be used of annotations ends in one line and writes nothing."""

import copy

import numpy as np
import pytest
from annotation_files import BOX, CVAT, IMAGE_ID, SIZE, annotation, coco_file, fails, labelme, to_bytes, write
from PIL import Image
from test_rasters import palette, pillow

from data import instance_dataset_processing as processing
from data.annotations.sources import read_points
from data.files import ClassName, write_class_names
from run.command import UserError

TRIANGLE = [[1, 1], [9, 1], [5, 9]]
FLAT = np.zeros(SIZE, np.uint8)


def one_shape(kind, points, **more):
    return labelme("a.jpg", (kind, "a", points, more))


# what the file holds, what the line must say
LABELME = [
    ("", "no JSON"),
    ("[1, 2]", "found 0 images (labelme)"),
    (labelme("gone.jpg", BOX), "no image 'gone.jpg'"),
    (labelme("a.jpg", BOX, size=(41, 60)), "found 60x40 pixels, expected 60x41"),
    (labelme("a.jpg", BOX, shapes=[7]), "shape 1: found None for label"),
    (one_shape("polygon", TRIANGLE[:2]), "shape 1: found [[1, 1], [9, 1]], expected at least 3"),
    (one_shape("polygon", [*TRIANGLE, (float("nan"), 2)]), "found the point (nan, 2)"),
    (one_shape("polygon", [*TRIANGLE, (500, 2)]), "shape 1: found the point (500, 2)"),
    (one_shape("circle", [[20, 20], [20, 20]]), "radius of 0"),
    (one_shape("star", TRIANGLE), "shape_type star"),
    (one_shape("mask", [[1, 1], [2, 2]], mask="AAAA"), "shape 1: could not be decoded"),
]
RUNS, RUNS_SIZE = (("annotations", 1, "segmentation", key) for key in ("counts", "size"))
COCO = [  # where, the value there, what the line must say
    (("categories",), None, "None for categories"),
    (("images", 1, "id"), IMAGE_ID, "found an id of images twice"),
    (("images", 1, "file_name"), "a.jpg", "differ in more than the suffix"),
    (("images", 1, "file_name"), "cam2/a.jpg", "a.jpg for the image cam2/a.jpg"),
    (("annotations", 0, "image_id"), 99, "annotation 1: found image_id 99"),
    (("annotations", 0, "category_id"), 99, "annotation 1: found no 99"),
    (RUNS, [1, 2398], "run lengths [1, 2398]"),
    (RUNS, [10**30, -1, 0.5], "run lengths [1000"),
    (RUNS, "61X12 N", "add up to 2400"),
    (RUNS_SIZE, [60, 40], "the size [60, 40], expected [40, 60]"),
]
XML = [  # what is replaced in the file, by what, what the line must say
    (CVAT, '<annotations><track label="a"/></annotations>', "found 0 images (cvat)"),
    (' name="empty.jpg"', "", "image 2: found no 'name'"),
    ("30.20,5.10;", "30.20,5.10,1;", "<polygon> 1: found [['30.20', '5.10', '1']"),
    ('xtl="28.00"', 'xtl="inf"', "found the point (inf, 3)"),
    ('left="50"', 'left="58"', "pixels at (58, 30)"),
    ('width="3" height="2"', 'width="99999" height="99999"', "add up to 9999800001"),
    ('<points label="tip" points="1,1;2,2"></points>', '<blob label="x"/>', "a shape of another kind"),
]
YOLO = [
    ("0 0.1 0.1 0.2 0.2", "a.txt:1: found 0 and 4 words"),
    ("\n\nleaf 0.1 0.1 0.2 0.2 0.3 0.3", "a.txt:3: found leaf"),
    ("0 10 10 20 20 30 15", "found 10 to 30, expected fractions"),
    (b"\xff\xfe0 1", "no UTF-8 text"),
]
PAGES = pillow(Image.fromarray(FLAT), "tiff", save_all=True, append_images=[Image.fromarray(FLAT)])
JPG, MANY = to_bytes(FLAT, ".jpg"), np.arange(70000, dtype=np.int32).reshape(250, 280)
LABELS = [
    (JPG, "found a jpg"),
    (pillow(Image.fromarray(FLAT), "tiff", compression="jpeg"), "found a tiff of jpg tiles"),
    (b"", "could not be decoded"),
    (palette()[:-20], "cut off or damaged"),
    (FLAT[1:], "found 60x40 pixels, expected 60x39"),
    (to_bytes(FLAT + np.float32(0.5), ".tiff"), "found values from 0.5 to 0.5"),
    (to_bytes(MANY, ".tiff"), "found 69999 instances"),
]


def changed_coco(path, value):
    file = coco_file([annotation([[1, 1, 9, 1, 5, 9]]), annotation({"size": list(SIZE), "counts": [1, 2399]})])
    place = file
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = copy.deepcopy(value)
    return file


CASES = [("labelme", {"a.jpg": None, "a.json": file}, words) for file, words in LABELME]
CASES += [("coco", {"a.jpg": None, "b.png": None, "a.json": changed_coco(*change)}, words) for *change, words in COCO]
IMAGES = {"images/sub/frame 1.jpg": None, "images/empty.jpg": None}
CASES += [("cvat", {**IMAGES, "a.xml": CVAT.replace(*change)}, words) for *change, words in XML]
CASES += [("yolo", {"images/a.jpg": None, "labels/a.txt": text}, words) for text, words in YOLO]
CASES += [("labels", {"images/a.jpg": None, "labels/a.png": label}, words) for label, words in LABELS]
CASES += [
    ("cityscapes", {"leftImg8bit/a_leftImg8bit.png": None, "gtFine/a_gtFine_instanceIds.png": FLAT}, "found no class"),
    ("labels", {"images/a.jpg": None, "labels/a.png": FLAT, "labels/b.png": None}, "b.png: found no image"),
    ("labels", {"images/a.jpg": None, "labels/a.tif": PAGES}, "a.tif: found 2 images"),
    ("labels", {"images/a.tif": FLAT + np.float32(0.5), "labels/a.png": FLAT}, "a.tif: could not be decoded"),
    ("labels", {"images/a.jpg": None, "labels/a.png": None, "labels/a.tif": None}, "a.tif: a.png has the same stem"),
    ("masks", {"a/images/a.png": None, "a/masks/0.png": FLAT, "a/masks/1.png": FLAT[1:]}, "1.png: found 60x39 pixels"),
]


@pytest.mark.parametrize(("form", "files", "words"), CASES, ids=lambda value: value[:40] if type(value) is str else "")
def test_malformed_annotations(tmp_path, capfd, form, files, words):
    line = fails(capfd, write(tmp_path / "in", files), tmp_path / "out", "--format", form)  # capfd: libpng's words
    assert words in line and str(tmp_path / "in") in line, line


def test_what_is_no_points_and_no_class(tmp_path):
    none = [None, {"x": 1}, 1, [], [1, 1, 9, 1], [1, 1, 9, 1, 5]]
    for value in none + [3 * [point] for point in ([1, 2, 3], ["one", 2], ["10", "1,5"], [10**400, 2])]:
        with pytest.raises(ValueError, match="expected at least 3 points, pairs of numbers"):
            read_points(value, 3)
    for name in (ClassName(251, "car"), ClassName(1, "other stuff")):
        with pytest.raises(UserError, match=f"classes.txt: found class {name.id}, {name.name}"):
            write_class_names(tmp_path, [name])


def test_unusable_sources_and_flags(tmp_path, capsys):
    write(tmp_path, {"text.txt": "x", "in/a.jpg": None, "masks/a/images/a.png": None, "masks/a/masks/0.png": FLAT + 1})
    write(tmp_path, {"in/a.json": labelme("a.jpg", BOX, ("rectangle", "b", BOX[2]))})
    (tmp_path / "empty").mkdir()
    cases = [("empty", "empty", "--format", form) for form in processing.READERS]
    cases += [
        ("nowhere", "nowhere: No such file"),
        ("empty", "empty: found none of"),
        ("in", "--classes c: found a, b, expected", "--classes", "a", "c"),
        ("in", "--images", "--images", tmp_path / "nowhere"),
        ("in", "no image 'a.jpg' in", "--images", tmp_path / "empty"),
        ("in", "found 0 such .json files", "--format", "coco"),
        ("masks", "--classes cell: found no classes", "--classes", "cell"),
    ]
    for source, words, *flags in cases:
        assert words in fails(capsys, tmp_path / source, tmp_path / "out", *flags)
    assert "text.txt: found a file, expected a folder" in fails(capsys, tmp_path / "in", tmp_path / "text.txt")
    write(tmp_path / "in", {"a.jpg": JPG[:300]})
    assert "a.jpg: could not be decoded" in fails(capsys, tmp_path / "in", tmp_path / "out")
