"""The import command: what it skips, keeps and says, and that nothing of the user's is replaced."""

import os

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
    assert "1 left out: images without an annotation (they may be" in captured.out


def test_two_annotations_in_one_image_file(tmp_path, capsys):
    write_image(tmp_path / "images/0001.jpg")
    names = ("cam1/0001.jpg", "cam2/0001.jpg")
    write_json(tmp_path / "in/coco.json", coco_file([annotation([[1, 1, 9, 1, 5, 9]])], images=names))
    line = fails(capsys, tmp_path / "in/coco.json", tmp_path / "out", "--images", tmp_path / "images")
    assert "0001.jpg for the image cam2/0001.jpg" in line and "coco.json: image 1" in line


@pytest.mark.parametrize("length", [10, 60, 500])
def test_a_damaged_palette_is_skipped_as_others_are(tmp_path, capsys, length):
    (tmp_path / "in/labels").mkdir(parents=True)
    for name in "ab":
        write_image(tmp_path / f"in/images/{name}.jpg")
        image = Image.fromarray(np.random.default_rng(0).integers(4, size=SIZE, dtype=np.uint8))
        image.putpalette([0, 0, 0, 9, 9, 9, 7, 7, 7, 5, 5, 5])
        image.save(tmp_path / f"in/labels/{name}.png")
    data = (tmp_path / "in/labels/a.png").read_bytes()
    assert len(data) > length
    (tmp_path / "in/labels/a.png").write_bytes(data[:length])
    assert list(convert(tmp_path / "in", tmp_path / "out", "--skip-bad")) == ["b"]
    assert "labels/a.png: cut off or damaged" in capsys.readouterr().err


def test_two_labels_of_one_image(tmp_path, capsys):
    for suffix in (".png", ".tif"):
        write_labeled(tmp_path / "in", suffix=suffix)
    assert "a.tif: a.png has the same stem" in fails(capsys, tmp_path / "in", tmp_path / "out")


def test_skip_bad_leaves_out_records_of_coco(tmp_path, capsys):
    """Those that belong to nothing, and an image, told once, with annotations that can't be used."""
    write_image(tmp_path / "in/a.jpg")
    write_image(tmp_path / "in/b.png")
    polygon, line = [[1, 1, 9, 1, 5, 9]], [[1, 1, 9, 1]]
    file = coco_file([annotation(polygon), annotation(polygon, image=99), None])
    file["annotations"] += [annotation(line, image=8), annotation(line, image=8), annotation(polygon, image=8)]
    file["images"].append(None)
    write_json(tmp_path / "in/coco.json", file)
    write_json(tmp_path / "in/results.json", [{"image_id": 7}])  # of another program, no COCO file
    assert list(convert(tmp_path / "in", tmp_path / "out", "--skip-bad")) == ["a"]
    captured = capsys.readouterr()
    assert "4 skipped" in captured.out and "annotation 2: found image_id 99" in captured.err


@pytest.mark.parametrize("form", ["labelme", "yolo", "masks"])
def test_an_image_with_a_bad_shape_is_left_out(tmp_path, capsys, form):
    """What the shape shows would be background else."""
    source = tmp_path / "in"
    if form == "masks":
        for name in ("a", "b"):
            write_image(source / f"{name}/images/{name}.jpg")
            (source / f"{name}/masks").mkdir()
            for number in range(2):
                cv2.imwrite(str(source / f"{name}/masks/{number}.png"), np.ones(SIZE, np.uint8))
        (source / "a/masks/1.png").write_bytes(b"no image")
    else:
        write_boxes(form, source, [("leaf", 2, 2, 22, 12)], "b.jpg")
        write_boxes(form, source, [("leaf", 2, 2, 22, 12)], bad=True)
    assert "; or use --skip-bad" in fails(capsys, source, tmp_path / "out", "--format", form)
    assert list(convert(source, tmp_path / "out", "--skip-bad", "--format", form)) == ["b"]
    captured = capsys.readouterr()
    assert "1 skipped" in captured.out and "skipped: " in captured.err


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
    for name in "bd":
        write_image(tmp_path / f"in/{name}.jpg")
    (tmp_path / "in/c.json").write_text("{")
    (tmp_path / "in/d.jpg").write_bytes((tmp_path / "in/d.jpg").read_bytes()[:200])
    write_json(tmp_path / "in/d.json", labelme("d.jpg", BOX))
    assert "c.json: found no JSON" in fails(capsys, tmp_path / "in", tmp_path / "out")
    assert list(convert(tmp_path / "in", tmp_path / "out", "--empty-images", "--skip-bad")) == ["a"]
    captured = capsys.readouterr()
    skipped = [line for line in captured.err.splitlines() if line.startswith("skipped: ")]
    assert [name in line for name, line in zip(("c.json", "d.jpg"), skipped, strict=True)] == [True] * 2
    assert "1 left out: images without an annotation" in captured.out and "2 skipped" in captured.out


def test_a_folder_that_can_not_be_read_is_no_empty_one(tmp_path, capsys, monkeypatch):
    write_image(tmp_path / "in/images/a.jpg")
    write_image(tmp_path / "in/images/b/b.jpg")
    (tmp_path / "in/labels").mkdir()
    (tmp_path / "in/labels/a.txt").touch()
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("/b"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(SystemExit):
        processing.main([str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--format", "yolo"])
    assert "images/b: Permission denied, expected" in capsys.readouterr().err


def test_same_names_are_an_error(tmp_path, capsys):
    for name in ("a.jpg", "A.png"):
        write_image(tmp_path / "in" / name)
        write_json(tmp_path / "in" / f"{name}.json", labelme(name, BOX))
    assert "differ in more than the suffix" in fails(capsys, tmp_path / "in", tmp_path / "out")


def test_a_data_set_to_replace_is_never_the_source(tmp_path, capsys):
    write_boxes("labelme", tmp_path / "in", BOXES[:1])
    out = tmp_path / "out"
    convert(tmp_path / "in", out)
    (out / "notes.txt").write_text("mine")
    assert "--overwrite" in fails(capsys, tmp_path / "in", out)
    # its own images and labels as a source would be lost
    assert "found in the data set to replace" in fails(capsys, out, out, "--overwrite", "--format", "labels")
    write_json(out / "labels/a.json", labelme("../../in/a.jpg", BOX))
    assert "found in the data set to replace" in fails(capsys, out / "labels", out, "--overwrite")
    write_boxes("labelme", tmp_path / "in", BOXES[:1] + BOXES[3:])
    assert convert(tmp_path / "in", out, "--overwrite")["a"].max() == 2
    assert sorted(path.name for path in out.iterdir()) == ["classes", "classes.txt", "images", "labels", "notes.txt"]


def test_summary(tmp_path, capsys):
    for name, objects in (("a", [BOX, ("rectangle", "b", [[9, 1], [12, 3]])]), ("b", []), ("c", [BOX])):
        write_image(tmp_path / f"in/{name}.jpg")
        write_json(tmp_path / f"in/{name}.json", labelme(f"{name}.jpg", *objects))
    convert(tmp_path / "in", tmp_path / "out")
    assert capsys.readouterr().out.splitlines() == [
        f"3 images (labelme) in {tmp_path / 'out'}",
        "3 instances, 0 to 2 per image, 1.0 on average",
        "smallest 6 pixels, largest 64, median 64",
        "classes: 2 a, 1 b",
        "2 touch another one",
    ]
