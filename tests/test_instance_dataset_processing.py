"""The import command: what it skips, keeps and says, and that nothing of the user's is replaced."""

import json
import os
import signal

import cv2
import numpy as np
import pytest
from annotation_files import (
    BOXES,
    FORMS,
    SIZE,
    annotation,
    coco_file,
    convert,
    fails,
    labelme,
    write_boxes,
    write_image,
    write_json,
    write_labeled,
)
from PIL import Image

from data import instance_dataset_processing as processing

BOX = ("rectangle", "a", [[1, 1], [9, 9]])


def test_an_image_without_text_is_no_background_where_a_text_has_no_image(tmp_path, capsys):
    for name in "ab":
        write_image(tmp_path / f"in/images/{name}.jpg")
    (tmp_path / "in/labels").mkdir()
    for name in "bc":
        (tmp_path / f"in/labels/{name}.txt").write_text("0 0 0 1 0 1 1\n")
    assert "c.txt: found no image of that name" in fails(capsys, tmp_path / "in", tmp_path / "out")
    assert list(convert(tmp_path / "in", tmp_path / "out", "--skip-bad")) == ["b"]
    captured = capsys.readouterr()
    assert "1 skipped" in captured.out and "c.txt" in captured.err
    assert "1 left out: images without an annotation" in captured.out


def test_two_annotations_in_one_image_file(tmp_path, capsys):
    write_image(tmp_path / "images/0001.jpg")
    names = ("cam1/0001.jpg", "cam2/0001.jpg")
    write_json(tmp_path / "in/coco.json", coco_file([annotation([[1, 1, 9, 1, 5, 9]])], images=names))
    line = fails(capsys, tmp_path / "in/coco.json", tmp_path / "out", "--images", tmp_path / "images")
    assert "0001.jpg for the image cam1/0001.jpg" in line and "coco.json: image 2" in line


@pytest.mark.parametrize(
    "damage", [lambda data: data[:60], lambda data: data[: len(data) * 2 // 3], lambda data: data[:10]]
)
def test_a_damaged_palette_is_skipped_as_others_are(tmp_path, capsys, damage):
    (tmp_path / "in/labels").mkdir(parents=True)
    for name in "ab":
        write_image(tmp_path / f"in/images/{name}.jpg")
        image = Image.fromarray(np.random.default_rng(0).integers(4, size=SIZE, dtype=np.uint8))
        image.putpalette([0, 0, 0, 9, 9, 9, 7, 7, 7, 5, 5, 5])
        image.save(tmp_path / f"in/labels/{name}.png")
    (tmp_path / "in/labels/a.png").write_bytes(damage((tmp_path / "in/labels/a.png").read_bytes()))
    assert list(convert(tmp_path / "in", tmp_path / "out", "--skip-bad")) == ["b"]
    assert "labels/a.png: cut off or damaged" in capsys.readouterr().err


def test_two_labels_of_one_image(tmp_path, capsys):
    for suffix in (".png", ".tif"):
        write_labeled(tmp_path / "in", suffix=suffix)
    assert "a.tif: a.png has the same name" in fails(capsys, tmp_path / "in", tmp_path / "out")


def test_two_images_of_one_id_are_both_said(tmp_path, capsys):
    for name in ("a.jpg", "b.png", "c.png"):
        write_image(tmp_path / "in" / name)
    file = coco_file([annotation([[1, 1, 9, 1, 5, 9]], image=9)], images=("a.jpg", "b.png", "c.png"))
    file["images"][1]["id"] = 7
    write_json(tmp_path / "in/coco.json", file)
    assert list(convert(tmp_path / "in", tmp_path / "out", "--skip-bad")) == ["c"]
    said = capsys.readouterr()
    assert "2 skipped" in said.out
    assert "image 1: found its id 7 again" in said.err and "image 2: found the id 7" in said.err


def test_skip_bad_leaves_out_records_of_coco_that_belong_to_nothing(tmp_path, capsys):
    write_image(tmp_path / "in/a.jpg")
    polygon = [[1, 1, 9, 1, 5, 9]]
    file = coco_file([annotation(polygon), annotation(polygon, image=99), None], images=("a.jpg",))
    file["images"].append(None)
    write_json(tmp_path / "in/coco.json", file)
    write_json(tmp_path / "in/results.json", [{"image_id": 7}])  # of another program, no COCO file
    assert convert(tmp_path / "in", tmp_path / "out", "--skip-bad")["a"].max() == 1
    captured = capsys.readouterr()
    assert "3 skipped" in captured.out and "annotation 2: found image_id 99" in captured.err
    file["images"] = [None]
    write_json(tmp_path / "in/coco.json", file)
    assert "image 1: found nothing for id" in fails(capsys, tmp_path / "in", tmp_path / "more", "--skip-bad")


@pytest.mark.parametrize("form", FORMS)
def test_one_bad_shape_leaves_the_others(tmp_path, capsys, form):
    source = write_boxes(form, tmp_path / "in", [("leaf", 2, 2, 22, 12)], bad=True)
    line = fails(capsys, source, tmp_path / "out")
    assert "--skip-bad" in line and ("found 2 points" in line or "other points" in line or "found a box" in line)
    label = convert(source, tmp_path / "out", "--skip-bad")["a"]
    expected = np.zeros(SIZE, int)
    expected[2:12, 2:22] = 1
    np.testing.assert_array_equal(label, expected)
    captured = capsys.readouterr()
    assert "1 skipped" in captured.out and "skipped: " in captured.err
    # an image whose shapes are all bad shows something, it is none without an instance
    write_boxes(form, tmp_path / "bad", [], bad=True)
    assert "no annotated image" in fails(capsys, tmp_path / "bad", tmp_path / "no", "--skip-bad", "--format", form)


def test_one_bad_mask_leaves_the_others(tmp_path, capsys):
    write_image(tmp_path / "in/a/images/a.png")
    (tmp_path / "in/a/masks").mkdir()
    for number, mask in enumerate([np.zeros(SIZE), np.eye(*SIZE) * 255, np.ones((9, 9))]):
        cv2.imwrite(str(tmp_path / f"in/a/masks/{number}.png"), mask.astype(np.uint8))
    (tmp_path / "in/a/masks/0.png").write_bytes(b"no image")
    label = convert(tmp_path / "in", tmp_path / "out", "--skip-bad")["a"]
    np.testing.assert_array_equal(label, np.eye(*SIZE))
    captured = capsys.readouterr()
    assert "2 skipped" in captured.out and "0.png" in captured.err and "2.png" in captured.err


def test_a_shape_outside_an_image_of_unknown_size_condemns_the_image(tmp_path, capsys):
    """It may be another image, with all shapes in the wrong place; where the size agrees, it is that shape alone."""
    shapes = ("rectangle", "a", [[1, 1], [5, 5]]), ("rectangle", "a", [[500, 1], [505, 5]])
    write_image(tmp_path / "in/a.jpg")
    write_json(tmp_path / "in/a.json", labelme("a.jpg", *shapes))
    assert convert(tmp_path / "in", tmp_path / "out", "--skip-bad")["a"].sum() == 16
    write_json(tmp_path / "in/a.json", labelme("a.jpg", *shapes, imageHeight=None, imageWidth=None))
    fails(capsys, tmp_path / "in", tmp_path / "no", "--skip-bad")


def test_one_bad_image_leaves_the_others(tmp_path, capsys):
    """A broken file, one that names no image and a damaged image are told; the good one is done."""
    source, out = tmp_path / "in", tmp_path / "out"
    for name in ("a", "d"):
        write_image(source / f"{name}.jpg")
    (source / "d.jpg").write_bytes((source / "d.jpg").read_bytes()[:200])
    for name, content in (("b", "{"), ("c", labelme("gone.jpg", BOX)), ("d", labelme("d.jpg", BOX))):
        (source / f"{name}.json").write_text(content if isinstance(content, str) else json.dumps(content))
    (source / "e.json").write_text(json.dumps(labelme("a.jpg", BOX)))
    assert "b.json: found no JSON" in fails(capsys, source, out)
    processing.main([str(source), "-o", str(out), "--skip-bad"])
    captured = capsys.readouterr()
    skipped = [line for line in captured.err.splitlines() if line.startswith("skipped: ")]
    assert [name in line for name, line in zip("bcd", skipped, strict=True)] == [True] * 3
    assert "1 images (labelme)" in captured.out and "3 skipped" in captured.out
    assert [path.name for path in (out / "labels").iterdir()] == ["a.png"]


@pytest.mark.parametrize("form", [*FORMS, "labels", "masks"])
def test_images_without_an_annotation(tmp_path, capsys, form):
    """Left out and counted, or kept as empty; YOLO's always."""
    source = tmp_path / "in"
    if form == "labels":
        write_labeled(source)
        write_image(source / "images/b.jpg")
    elif form == "masks":
        for name in "ab":
            write_image(source / f"{name}/images/{name}.png")
        (source / "a/masks").mkdir()
        cv2.imwrite(str(source / "a/masks/0.png"), np.ones(SIZE, np.uint8))
    else:
        write_boxes(form, source, BOXES[:1])
        write_image(source / ("images/b.jpg" if form == "yolo" else "b.jpg"))
    labels = convert(source, tmp_path / "out")
    assert sorted(labels) == (["a", "b"] if form == "yolo" else ["a"])
    out = capsys.readouterr().out
    assert ("1 images without an annotation kept" if form == "yolo" else "1 left out: images without an ann") in out
    labels = convert(source, tmp_path / "all", "--empty-images")
    assert sorted(labels) == ["a", "b"] and labels["a"].any() and not labels["b"].any()
    assert "1 images without an annotation kept" in capsys.readouterr().out


def test_images_are_not_empty_where_an_annotation_can_not_be_read(tmp_path, capsys):
    write_boxes("labelme", tmp_path / "in", BOXES[:1])
    write_image(tmp_path / "in/b.jpg")
    (tmp_path / "in/c.json").write_text("{")
    assert list(convert(tmp_path / "in", tmp_path / "out", "--empty-images", "--skip-bad")) == ["a"]
    assert "1 left out: images without an annotation" in capsys.readouterr().out


def test_a_folder_that_can_not_be_read_is_no_empty_one(tmp_path, capsys, monkeypatch):
    write_image(tmp_path / "in/images/a.jpg")
    write_image(tmp_path / "in/images/b/b.jpg")
    (tmp_path / "in/labels").mkdir()
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("/b"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(SystemExit):
        processing.main([str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--format", "yolo"])
    assert "images/b: Permission denied, expected a folder that can be read" in capsys.readouterr().err


def test_same_names_are_an_error(tmp_path, capsys):
    for name in ("a.jpg", "A.png"):
        write_image(tmp_path / "in" / name)
        write_json(tmp_path / "in" / f"{name}.json", labelme(name, BOX))
    assert "differ in more than the suffix" in fails(capsys, tmp_path / "in", tmp_path / "out")


def test_a_data_set_is_replaced_only_when_told_so_and_never_the_source(tmp_path, capsys):
    write_image(tmp_path / "in/a.jpg")
    write_json(tmp_path / "in/a.json", labelme("a.jpg", BOX))
    out = tmp_path / "out"
    convert(tmp_path / "in", out)
    capsys.readouterr()
    (out / "notes.txt").write_text("mine")
    (out / "labels.json").write_text("of TuSimple images that are replaced")
    os.replace(tmp_path / "in/a.json", tmp_path / "in/b.json")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert "--overwrite" in fails(capsys, tmp_path / "in", out)
    # its own images and labels as a source would be lost
    assert "found in the data set to replace" in fails(capsys, out, out, "--overwrite")
    write_json(out / "labels/a.json", labelme("../../in/a.jpg", BOX))
    assert "found in the data set to replace" in fails(capsys, out / "labels", out, "--overwrite")
    (out / "labels/a.json").unlink()
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    write_json(tmp_path / "in/b.json", labelme("a.jpg", BOX, ("rectangle", "b", [[20, 20], [22, 30]])))
    label = convert(tmp_path / "in", out, "--overwrite")["a"]
    assert (label == 2).sum() == 20
    assert sorted(path.name for path in out.iterdir()) == ["images", "labels", "notes.txt"]


def test_ctrl_c_writes_nothing(tmp_path, capsys, monkeypatch):
    for number in range(20):
        write_image(tmp_path / f"in/{number}.jpg")
        write_json(tmp_path / f"in/{number}.json", labelme(f"{number}.jpg", BOX))
    count, paint = [], processing.paint

    def interrupted(*args):
        count.append(1)
        if len(count) == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return paint(*args)

    monkeypatch.setattr(processing, "paint", interrupted)
    with pytest.raises(SystemExit) as exit_:
        processing.main([str(tmp_path / "in"), "-o", str(tmp_path / "out")])
    assert exit_.value.code == 130 and "interrupted, nothing written" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_summary(tmp_path, capsys):
    for name, objects in (("a", [BOX, ("rectangle", "b", [[9, 1], [12, 3]])]), ("b", []), ("c", [BOX])):
        write_image(tmp_path / f"in/{name}.jpg")
        write_json(tmp_path / f"in/{name}.json", labelme(f"{name}.jpg", *objects))
    convert(tmp_path / "in", tmp_path / "out")
    assert capsys.readouterr().out.splitlines() == [
        f"3 images (labelme) in {tmp_path / 'out'}",
        "3 instances, 0 to 2 per image, 1.0 on average",
        "smallest 6 pixels, largest 64, median 64",
        "2 touch another one",
    ]
