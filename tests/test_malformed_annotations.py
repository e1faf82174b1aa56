"""What can't be used of annotations ends in one line that names it, and writes nothing."""

import copy
import json
import os

import cv2
import numpy as np
import pytest
from annotation_files import (
    CAR,
    CVAT,
    SIZE,
    annotation,
    coco_file,
    convert,
    fails,
    labelme,
    track,
    write_image,
    write_json,
    write_video,
)
from PIL import Image

from data import instance_dataset_processing as processing

BOX = ("rectangle", "a", [[1, 1], [9, 9]])


def polygon(*points, **more):
    return ("polygon", "a", list(map(list, points)), more)


TRIANGLE = ((1, 1), (9, 1), (5, 9))
# what the labelme file holds, what the line must say
LABELME = [
    ("", "no JSON"),
    ("[1, 2]", "a JSON list"),
    ("[" * 100000, "no JSON"),
    ('{"shapes": [', "no JSON"),
    ({"shapes": []}, "nothing for imagePath"),
    ({"shapes": 3, "imagePath": "a.jpg"}, "3 for shapes"),
    ({"shapes": [], "imagePath": 7}, "7 for imagePath"),
    (labelme("gone.jpg", BOX), "no image 'gone.jpg'"),
    (labelme("a\0.jpg", BOX), "no image"),
    (labelme("x" * 5000, BOX), "no image"),
    (labelme("gone.jpg", BOX, imageData="no base64!"), "a.json"),
    (labelme("gone.jpg", BOX, imageData=5), "5 for imageData"),
    (labelme("a.jpg", BOX, size=(41, 60)), "found 60x40 pixels, expected 60x41"),
    (labelme("a.jpg", BOX, size=(-40, 60)), "an image of 60x-40"),
    (labelme("a.jpg", BOX, size=("40", 60)), "'40' for imageHeight"),
    (labelme("a.jpg", BOX, size=(40.5, 60)), "60x40.5"),
    (labelme("a.jpg", BOX, size=(None, 60)), "nothing for imageHeight"),
    (labelme("a.jpg", BOX, shapes=[7]), "shape 1: found nothing for label"),
    (labelme("a.jpg", polygon(*TRIANGLE), ("polygon", None, [[1, 2]])), "shape 2: found nothing for label"),
    (labelme("a.jpg", polygon(*TRIANGLE[:2])), "shape 1: found 2 points, expected at least 3"),
    (labelme("a.jpg", polygon()), "found 0 points"),
    (labelme("a.jpg", ("polygon", "a", None)), "pairs of finite numbers"),
    (labelme("a.jpg", ("polygon", "a", {"x": 1})), "pairs of finite numbers"),
    (labelme("a.jpg", polygon(*TRIANGLE, (1, 2, 3))), "pairs of finite numbers"),
    (labelme("a.jpg", polygon(*TRIANGLE, ("1", 2))), "pairs of finite numbers"),
    (labelme("a.jpg", polygon(*TRIANGLE, (True, 2))), "pairs of finite numbers"),
    (labelme("a.jpg", polygon(*TRIANGLE, (float("nan"), 2))), "pairs of finite numbers"),
    (labelme("a.jpg", polygon(*TRIANGLE, (1, float("-inf")))), "pairs of finite numbers"),
    (labelme("a.jpg", polygon(*TRIANGLE, (10**400, 2))), "pairs of finite numbers"),
    (labelme("a.jpg", polygon(*TRIANGLE, (500, 2))), "shape 1: found the point (500, 2), expected it within 60x40"),
    (labelme("a.jpg", ("circle", "a", [[20, 20], [20, 20]])), "radius 0"),
    (labelme("a.jpg", ("circle", "a", [[20, 20], [900, 20]])), "found the point"),
    (labelme("a.jpg", ("star", "a", [[20, 20], [20, 20]])), "shape_type star"),
    (labelme("a.jpg", (5, "a", [[20, 20], [20, 20]])), "5 for shape_type"),
    (labelme("a.jpg", ("mask", "a", [[1, 1], [2, 2]])), "nothing for mask"),
    (labelme("a.jpg", ("mask", "a", [[1, 1], [2, 2]], {"mask": "AAAA"})), "shape 1: mask"),
    (labelme("a.jpg", ("mask", "a", [[1, 1], [2, 2]], {"mask": "A"})), "no base64"),
    (labelme("a.jpg", polygon(*TRIANGLE, group_id=[1])), "list for group_id"),
    (labelme("a.jpg"), "without an instance"),
    (labelme("a.jpg", polygon((-9, -9), (-2, -9), (-2, -2))), "without an instance"),
]


@pytest.mark.parametrize(("content", "words"), LABELME, ids=lambda value: value[:30] if isinstance(value, str) else "")
def test_malformed_labelme(tmp_path, capsys, content, words):
    write_image(tmp_path / "in/a.jpg")
    (tmp_path / "in/a.json").write_text(content if isinstance(content, str) else json.dumps(content))
    line = fails(capsys, tmp_path / "in", tmp_path / "out", "--format", "labelme")
    assert words in line and "a.json" in line or "in: found" in line or "a.jpg: found" in line, line


def changed(path, value):
    """The COCO file with one value replaced."""
    file = coco_file([annotation([[1, 1, 9, 1, 5, 9]]), annotation({"size": list(SIZE), "counts": [1, 2399]})])
    place = file
    for key in path[:-1]:
        place = place[key]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = copy.deepcopy(value)
    return file


RUNS = ("annotations", 1, "segmentation", "counts")
POINTS = ("annotations", 0, "segmentation")
COCO = [
    (("categories",), None, "nothing for categories"),
    (("images",), {}, "dict for images"),
    (("images", 0, "id"), None, "image 1: found nothing for id"),
    (("images", 0, "id"), True, "True for id"),
    (("images", 1, "id"), 7, "image 2: found the id 7 again"),
    (("images", 0, "file_name"), "../gone.jpg", "image 1: found no image '../gone.jpg'"),
    (("images", 0, "file_name"), ["a.jpg"], "list for file_name"),
    (("images", 1, "file_name"), "a.jpg", "differ in more than the suffix"),
    (("images", 0, "width"), 0, "0x40"),
    (("images", 0, "width"), 61, "found 60x40 pixels, expected 61x40"),
    (("images", 0), 5, "image 1: found nothing for id"),
    (("annotations", 0), "x", "annotation 1: found nothing for image_id"),
    (("annotations", 0, "image_id"), 99, "annotation 1: found image_id 99"),
    (("annotations", 0, "image_id"), [7], "list for image_id"),
    (("annotations", 0, "category_id"), 99, "annotation 1: found category_id 99"),
    (("annotations", 0, "iscrowd"), "no", "'no' for iscrowd"),
    (("categories", 0, "name"), 3, "category 1: found 3 for name"),
    (POINTS, [[1, 1, 9, 1]], "found 2 points"),
    (POINTS, [[1, 1, 9, 1, 5]], "found 5 coordinates"),
    (POINTS, [1, 1, 9, 1, 5, 9], "another segmentation"),
    (POINTS, "polygon", "another segmentation"),
    (POINTS, [[1, 1, 9, 1, 5, float("nan")]], "pairs of finite numbers"),
    (POINTS, [[1, 1, 9, 1, 5, "9"]], "pairs of finite numbers"),
    (POINTS, [[1, 1, 9, 1, 5, 1900]], "found the point (5, 1900)"),
    (RUNS, None, "nothing for counts"),
    (RUNS, [1, 2398], "run lengths of 2399 pixels, expected 2400"),
    (RUNS, [-1, 2401], "run lengths of 2400"),
    (RUNS, [1.5, 2398.5], "no whole numbers"),
    (RUNS, [[1], 2399], "no whole numbers"),
    (RUNS, [10**30], "run lengths of"),
    (RUNS, "61X12 N", "' ' in counts"),
    (RUNS, "ooooooooooooooo", "in counts"),
    (RUNS, "61X", "end within a number"),
    (RUNS, "é", "in counts"),
    (("annotations", 1, "segmentation", "size"), [40], "another size"),
    (("annotations", 1, "segmentation", "size"), [40, -60], "another size"),
    (("annotations", 1, "segmentation", "size"), ["40", 60], "another size"),
    (("annotations", 1, "segmentation", "size"), [60, 40], "40x60 pixels, expected 60x40"),
]


@pytest.mark.parametrize(("path", "value", "words"), COCO, ids=lambda value: str(value)[:40])
def test_malformed_coco(tmp_path, capsys, path, value, words):
    for name in ("a.jpg", "b.png"):
        write_image(tmp_path / "in" / name)
    write_json(tmp_path / "in/coco.json", changed(path, value))
    line = fails(capsys, tmp_path / "in/coco.json", tmp_path / "out", "--format", "coco")
    assert words in line and ("coco.json" in line or "a.jpg" in line), line


XML = [
    ("<annotations>", "<annotation>", "no XML"),
    (CVAT, "", "no XML"),
    ("<annotations>", '<!DOCTYPE a [<!ENTITY b "c">]><annotations>', "no XML"),
    (CVAT, "<annotation><object/></annotation>", "<annotation>"),
    ('encoding="utf-8"', 'encoding="klingon"', "no XML"),
    (' name="empty.jpg"', "", "image 2: found no name"),
    ("empty.jpg", "gone.jpg", "image 2: found no image 'gone.jpg'"),
    ('width="60" height="40"/>', 'width="sixty" height="40"/>', "width: found 'sixty'"),
    ('width="60" height="40"/>', 'width="60.5" height="40"/>', "60.5 for width"),
    ('width="60" height="40"/>', 'width="-60" height="40"/>', "found '-60'"),
    ('width="60" height="40"/>', "/>", "found nothing"),
    ('width="60" height="40"/>', 'width="40" height="41"/>', "found 60x40 pixels, expected 40x41"),
    ("30.20,5.10;", "30.20,5.10,1;", "other points"),
    ("30.20,5.10;50.70,8.30;", "", "other points"),
    ("30.20,5.10;", "nan,5.10;", "found 'nan'"),
    ("30.20,5.10;", "1e999,5.10;", "found '1e999'"),
    ("30.20,5.10;", "3020,5.10;", "found the point (3020, 5.1)"),
    ('points="5,5;5,30"', "", "other points"),
    ('xtl="28.00"', "", "xtl: found nothing"),
    ('xtl="28.00"', 'xtl="48.00"', "a right side left of"),
    ('rotation="90"', 'rotation="up"', "rotation: found 'up'"),
    ('rle="1, 3, 2"', 'rle="1, 3, 3"', "run lengths of 7 pixels, expected 6"),
    ('rle="1, 3, 2"', 'rle="1, -3, 8"', "found ' -3'"),
    ('rle="1, 3, 2"', "", "found ''"),
    ('left="50"', 'left="58"', "pixels at (58, 30)"),
    ('width="3" height="2"', 'width="99999" height="99999"', "99999x99999"),
    ('z_order="1"', 'z_order="top"', "z_order: found 'top'"),
    ('<box label="cell" xtl="0"', '<box xtl="0"', "found no label"),
    ('<box label="cell" xtl="0"', '<blob label="cell" xtl="0"', "no XML"),
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


def test_cvat_for_video_that_does_not_fit_its_images(tmp_path, capsys):
    for number, (names, meta, tracks, words) in enumerate(
        [
            (("x1", "x2"), "<size>3</size>", (CAR,), "found 2 images"),
            (("x1", "x2", "x10"), "<size>3</size>", (CAR,), "in their order"),
            (("x1", "x2"), "<size>2</size><start_frame>5</start_frame>", (CAR,), "found 2 images"),
            (("frame_0", "frame_2"), "", (CAR,), "no image of frame 1"),
            (("frame_0", "frame_1", "frame_2"), "", (track("a", (0, 0, 1, 1, 5, 5), (2, 0, 1, 1, 5, 5)),), "frame 1"),
            (("frame_0",), "", (track("a", (0, 0, 1, 1, 5, 5), task_id=1), track("b", task_id=2)), "several tasks"),
            (("frame_0",), "", ('<track label="a"><box xtl="1"/></track>',), "frame: found nothing"),
        ]
    ):
        write_video(tmp_path / f"in{number}", *tracks, names=names, meta=meta)
        assert words in fails(capsys, tmp_path / f"in{number}", tmp_path / "out")
    # a frame outside of the task isn't annotated
    names = ("frame_0", "frame_1", "frame_2", "frame_3")
    write_video(tmp_path / "in", CAR, names=names, meta="<start_frame>0</start_frame><stop_frame>2</stop_frame>")
    assert sorted(convert(tmp_path / "in", tmp_path / "out")) == list(names[:3])


YOLO = [
    ("0 0.1 0.1 0.2 0.2", "a.txt:1: found a box"),
    ("0 0.1 0.1 0.2 0.2 0.3", "a.txt:1: found 6 words"),
    ("0 0.1 0.1 0.2 0.2 0.3 0.3 0.4", "found 8 words"),
    ("\n\nleaf 0.1 0.1 0.2 0.2 0.3 0.3", "a.txt:3: found the class leaf"),
    ("-1 0.1 0.1 0.2 0.2 0.3 0.3", "the class -1"),
    ("0 0.1 0.1 0.2 nan 0.3 0.3", "found 'nan', expected a number from"),
    ("0 10 10 20 20 30 15", "found '10', expected a number from -0.01 to 1.01"),
    ("0 0.1 0.1 0.2 0,2 0.3 0.3", "found '0,2'"),
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
    for source in ("in", "in/tasks.json"):
        assert "Label Studio's JSON, expected COCO" in fails(capsys, tmp_path / source, tmp_path / "out")


def jpg_tiff(path):
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(path, "tiff", compression="jpeg")


def lossy_webp(path):
    cv2.imwrite(str(path) + ".webp", np.zeros((*SIZE, 3), np.uint8), [cv2.IMWRITE_WEBP_QUALITY, 80])
    os.replace(str(path) + ".webp", path)


def encoded(suffix, array):
    return lambda path: path.write_bytes(cv2.imencode(suffix, array)[1].tobytes())


GRAY = np.zeros(SIZE, np.uint8)
MANY = np.arange(70000, dtype=np.int32).reshape(250, 280)
RASTERS = [
    (encoded(".jpg", GRAY), "found a jpg, whose compression changes values"),
    (lossy_webp, "found a lossy webp"),
    (jpg_tiff, "found a tiff of jpg tiles"),
    (lambda path: path.write_bytes(b"text"), "could not be decoded"),
    (lambda path: path.write_bytes(b""), "could not be decoded"),
    (lambda path: path.write_bytes(cv2.imencode(".png", GRAY)[1].tobytes()[:60]), "cut off or damaged"),
    (encoded(".png", GRAY[:-1]), "found 60x40 pixels, expected 60x39"),
    (encoded(".png", GRAY), "without an instance"),
    (encoded(".tiff", GRAY.astype(np.int32) - 1), "found the id -1"),
    (encoded(".tiff", GRAY + np.float32(0.5)), "found fractions"),
    (encoded(".tiff", GRAY + np.float32(np.nan)), "found fractions"),
    (encoded(".tiff", MANY), "found 69999 instances"),
    (os.mkdir, "found no annotated image"),
]


@pytest.mark.parametrize(("write", "words"), RASTERS, ids=lambda value: value[:20] if isinstance(value, str) else "")
def test_unusable_label_images(tmp_path, capfd, write, words):
    # libpng would say more, and not by sys.stderr
    write_image(tmp_path / "in/images/a.jpg")
    (tmp_path / "in/labels").mkdir()
    write(tmp_path / "in/labels/a.png")
    line = fails(capfd, tmp_path / "in", tmp_path / "out", "--format", "labels")
    assert words in line, line


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
    assert "bb/images: no such folder" in fails(capsys, source, out)

    write_image(tmp_path / "pairs/images/a.jpg")
    write_image(tmp_path / "pairs/labels/b.png")
    assert "b.png: found no image" in fails(capsys, tmp_path / "pairs", out)


def test_unusable_sources_and_flags(tmp_path, capsys):
    out = tmp_path / "out"
    assert "nowhere: no such file" in fails(capsys, tmp_path / "nowhere", out)
    assert "nowhere: no such file" in fails(capsys, tmp_path / "nowhere", out, "--format", "coco")
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("x")
    for source in ("empty", "text.txt"):
        assert "expected one of them" in fails(capsys, tmp_path / source, out)
        for form in processing.READERS:
            fails(capsys, tmp_path / source, out, "--format", form)
    write_image(tmp_path / "in/a.jpg")
    write_json(tmp_path / "in/a.json", labelme("a.jpg", BOX, ("rectangle", "b", BOX[2])))
    assert "--classes c: found a, b, expected" in fails(capsys, tmp_path / "in", out, "--classes", "a", "c")
    assert "--images" in fails(capsys, tmp_path / "in", out, "--images", tmp_path / "nowhere")
    assert "no image 'a.jpg' in" in fails(capsys, tmp_path / "in", out, "--images", tmp_path / "empty")
    assert "found 0 COCO files" in fails(capsys, tmp_path / "in", out, "--format", "coco")
    (tmp_path / "file").write_text("mine")
    assert "file: found a file, expected a folder" in fails(capsys, tmp_path / "in", tmp_path / "file")
    with pytest.raises(SystemExit):
        processing.main(["in", "-o", "out", "--line-width", "0"])
    assert "--line-width: found 0, expected a whole number of at least 1" in capsys.readouterr().err
    for damage in (b"", b"no image", cv2.imencode(".jpg", GRAY)[1].tobytes()[:300]):
        (tmp_path / "in/a.jpg").write_bytes(damage)
        assert "a.jpg: " in fails(capsys, tmp_path / "in", out)
