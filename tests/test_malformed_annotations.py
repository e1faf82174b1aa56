"""What can't be used of annotations ends in one line that names it, and writes nothing."""

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
    ({"shapes": []}, "None for imagePath"),
    (labelme("gone.jpg", BOX), "no image 'gone.jpg'"),
    (labelme("a\0.jpg", BOX), "no image"),
    (labelme("a.jpg", BOX, size=(41, 60)), "found 60x40 pixels, expected 60x41"),
    (labelme("a.jpg", BOX, shapes=[7]), "shape 1: found None for label"),
    (one_shape("polygon", TRIANGLE[:2]), "shape 1: found [[1, 1], [9, 1]], expected at least 3 points"),
    (one_shape("polygon", [*TRIANGLE, (10**400, 2)]), "pairs of numbers"),
    (one_shape("polygon", [*TRIANGLE, (float("nan"), 2)]), "found the point (nan, 2)"),
    (one_shape("polygon", [*TRIANGLE, (500, 2)]), "shape 1: found the point (500, 2), expected it within 60x40"),
    (one_shape("circle", [[20, 20], [20, 20]]), "radius of 0"),
    (one_shape("circle", [[20, 20], [900, 20]]), "found the point"),
    (one_shape("star", TRIANGLE), "shape_type star"),
    (one_shape("mask", [[1, 1], [2, 2]], mask="AAAA"), "shape 1: could not be decoded"),
    (one_shape("mask", [[1, 1], [2, 2]], mask="A"), "shape 1: found Invalid base64"),
    (one_shape("polygon", TRIANGLE, group_id=[1]), "[1] for group_id"),
    (labelme("a.jpg"), "without an instance"),
    (one_shape("polygon", [(-9, -9), (-2, -9), (-2, -2)]), "without an instance"),
]
RUNS, RUNS_SIZE = (("annotations", 1, "segmentation", key) for key in ("counts", "size"))
POINTS = ("annotations", 0, "segmentation")
COCO = [  # where, the value there, what the line must say
    (("categories",), None, "None for categories"),
    (("categories", 0, "name"), 3, "categories: found 3 for name"),
    (("images", 0, "id"), True, "images: found True for id"),
    (("images", 1, "id"), IMAGE_ID, "images: found an id twice"),
    (("images", 1, "file_name"), "a.jpg", "differ in more than the suffix"),
    (("images", 1, "file_name"), "cam2/a.jpg", "a.jpg for the image cam2/a.jpg"),
    (("images", 0, "width"), 0, "0x40"),
    (("annotations", 0, "image_id"), 99, "annotation 1: found image_id 99"),
    (("annotations", 0, "category_id"), 99, "annotation 1: found no 99"),
    (POINTS, [1, 1, 9, 1, 5, 9], "found 1, expected"),
    (RUNS, [1, 2398], "run lengths [1, 2398], expected whole numbers that add up to 2400"),
    (RUNS, [-1, 2401], "run lengths [-1, 2401]"),
    (RUNS, [1.5, 2398.5], "run lengths [1.5, 2398.5]"),
    (RUNS, [10**30], "run lengths [1000"),
    (RUNS, "61X12 N", "add up to 2400"),
    (RUNS, "ooooooooooooooo", "add up to 2400"),
    (RUNS_SIZE, [60, 40], "the size [60, 40], expected [40, 60]"),
]
XML = [  # what is replaced in the file, by what, what the line must say
    ("<annotations>", "<annotation>", "no XML"),
    (CVAT, '<annotations><track label="a"/></annotations>', "found 0 images (cvat)"),
    ('encoding="utf-8"', 'encoding="klingon"', "no XML"),
    (' name="empty.jpg"', "", "image 2: found no 'name'"),
    ('width="60" height="40"/>', 'width="sixty" height="40"/>', "'sixty'"),
    ("30.20,5.10;", "30.20,5.10,1;", "<polygon> 1: found [['30.20', '5.10', '1']"),
    ('points="5,5;5,30"', "", "found [['']], expected at least 2 points"),
    ('xtl="28.00"', "", "found no 'xtl'"),
    ('xtl="28.00"', 'xtl="inf"', "found the point (inf, 3)"),
    ('rle="1, 3, 2"', 'rle="1, x"', "<mask> 5: found invalid literal"),
    ('left="50"', 'left="58"', "pixels at (58, 30)"),
    ('width="3" height="2"', 'width="99999" height="99999"', "add up to 9999800001"),
    ('z_order="1"', 'z_order="top"', "'top'"),
    ('<box label="cell" xtl="0"', '<box xtl="0"', "found no 'label'"),
    ('<points label="tip" points="1,1;2,2"></points>', '<blob label="x"/>', "a shape of another kind"),
]
YOLO = [
    ("0 0.1 0.1 0.2 0.2", "a.txt:1: found 0 and 4 words"),
    ("0 0.1 0.1 0.2 0.2 0.3 0.3 0.4", "found 0 and 7 words"),
    ("\n\nleaf 0.1 0.1 0.2 0.2 0.3 0.3", "a.txt:3: found leaf"),
    ("0 10 10 20 20 30 15", "found the point (600, 400), expected it within 60x40"),
    ("0 0.1 0.1 0.2 0,2 0.3 0.3", "'0,2'"),
    ("0 0.1 0.1 0.1 0.1 0.1 0.1", "without an instance"),
    (b"\xff\xfe0 1", "no UTF-8 text"),
]
PAGES = pillow(Image.fromarray(FLAT), "tiff", save_all=True, append_images=[Image.fromarray(FLAT)])
JPG, MANY = to_bytes(FLAT, ".jpg"), np.arange(70000, dtype=np.int32).reshape(250, 280)
LABELS = [
    (JPG, "found a jpg, whose compression changes values"),
    (pillow(Image.fromarray(FLAT), "webp", quality=80), "found a lossy webp"),
    (pillow(Image.fromarray(FLAT), "tiff", compression="jpeg"), "found a tiff of jpg tiles"),
    (b"text", "could not be decoded"),
    (b"", "could not be decoded"),
    (palette()[:100], "cut off or damaged"),
    (palette()[:-20], "cut off or damaged"),
    (FLAT[1:], "found 60x40 pixels, expected 60x39"),
    (to_bytes(FLAT.astype(np.int32) - 1, ".tiff"), "found values from -1 to -1"),
    (to_bytes(FLAT + np.float32(0.5), ".tiff"), "found values from 0.5 to 0.5"),
    (to_bytes(FLAT + np.float32(np.nan), ".tiff"), "found values from nan to nan"),
    (to_bytes(MANY, ".tiff"), "found 69999 instances"),
]


def changed_coco(path, value):
    file = coco_file([annotation([[1, 1, 9, 1, 5, 9]]), annotation({"size": list(SIZE), "counts": [1, 2399]})])
    place = file
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = copy.deepcopy(value)
    return file


def changed_cvat(old, new):
    assert old in CVAT
    return CVAT.replace(old, new)


CASES = [("labelme", {"a.jpg": None, "a.json": file}, words) for file, words in LABELME]
CASES += [("coco", {"a.jpg": None, "b.png": None, "a.json": changed_coco(*change)}, words) for *change, words in COCO]
IMAGES = {"images/sub/frame 1.jpg": None, "images/empty.jpg": None}
CASES += [("cvat", {**IMAGES, "a.xml": changed_cvat(*change)}, words) for *change, words in XML]
CASES += [("yolo", {"images/a.jpg": None, "labels/a.txt": text}, words) for text, words in YOLO]
CASES += [("labels", {"images/a.jpg": None, "labels/a.png": label}, words) for label, words in LABELS]
CASES += [
    ("labels", {"images/a.jpg": None, "labels/a.png/b": ""}, "labels: found no file"),
    ("labels", {"images/a.jpg": None, "labels/a.png": FLAT, "labels/b.png": None}, "b.png: found no image"),
    ("labels", {"images/a.jpg": None, "images/b.jpg": None, "labels/a.png": FLAT}, "b.jpg: found no label"),
    ("labels", {"images/a.jpg": None, "labels/a.tif": PAGES}, "a.tif: found 2 images"),
    ("labels", {"images/a.tif": FLAT + np.float32(0.5), "labels/a.png": FLAT}, "a.tif: could not be decoded"),
    ("labels", {"images/a.jpg": None, "labels/a.png": None, "labels/a.tif": None}, "a.tif: a.png has the same stem"),
    ("masks", {"a/images/a.png": None, "a/masks/0.png": FLAT, "a/masks/1.png": JPG}, "1.png: found a jpg"),
    ("masks", {"a/images/a.png": None, "a/masks/0.png": FLAT, "a/masks/1.png": FLAT[1:]}, "1.png: found 60x39 pixels"),
    ("masks", {"a/images/a.png": None, "a/images/b.png": None, "a/masks/0.png": FLAT}, "a/images: found 2 images"),
    ("masks", {"a/images/a.png": None, "a/masks/0.png": FLAT, "b/images/a.png": None}, "b/masks"),
]


@pytest.mark.parametrize(("form", "files", "words"), CASES, ids=lambda value: value[:40] if type(value) is str else "")
def test_malformed_annotations(tmp_path, capfd, form, files, words):
    # libpng would say more, and not by sys.stderr
    line = fails(capfd, write(tmp_path / "in", files), tmp_path / "out", "--format", form)
    assert words in line and str(tmp_path / "in") in line, line


@pytest.mark.parametrize(
    "value",
    [None, {"x": 1}, 1, [], [[1, 2, 3]] * 3, [["one", 2]] * 3, [1, 1, 9, 1], [1, 1, 9, 1, 5], [["10", "1,5"]] * 3],
)
def test_what_is_no_points(value):
    with pytest.raises(ValueError, match="expected at least 3 points, pairs of numbers"):
        read_points(value, 3)


@pytest.mark.parametrize("name", [ClassName(251, "car"), ClassName(1, "other stuff")])
def test_what_a_list_of_classes_can_not_hold(tmp_path, name):
    with pytest.raises(UserError, match=f"classes.txt: found class {name.id}, {name.name}"):
        write_class_names(tmp_path, [name])


def test_unusable_sources_and_flags(tmp_path, capsys):
    write(tmp_path, {"text.txt": "x", "in/a.jpg": None, "masks/a/images/a.png": None, "masks/a/masks/0.png": FLAT + 1})
    write(tmp_path, {"in/a.json": labelme("a.jpg", BOX, ("rectangle", "b", BOX[2]))})
    (tmp_path / "empty").mkdir()
    cases = [(source, source, "--format", form) for source in ("nowhere", "empty") for form in processing.READERS]
    cases += [
        ("nowhere", "nowhere: No such file"),
        ("empty", "empty: found none of"),
        ("text.txt", "text.txt: found no JSON"),
        ("in", "--classes c: found a, b, expected", "--classes", "a", "c"),
        ("in", "--images", "--images", tmp_path / "nowhere"),
        ("in", "no image 'a.jpg' in", "--images", tmp_path / "empty"),
        ("in", "found 0 such .json files", "--format", "coco"),
        ("masks", "--classes cell: found no classes", "--classes", "cell"),
    ]
    for source, words, *flags in cases:
        assert words in fails(capsys, tmp_path / source, tmp_path / "out", *flags)
    assert "text.txt: found a file, expected a folder" in fails(capsys, tmp_path / "in", tmp_path / "text.txt")
    for damage in (b"", b"no image", JPG[:300]):
        write(tmp_path / "in", {"a.jpg": damage})
        assert "a.jpg: " in fails(capsys, tmp_path / "in", tmp_path / "out")
