"""The import command: what it skips, keeps, says and replaces."""

import os
from unittest.mock import Mock

import annotation_files as tools
import pytest
from annotation_files import BOX, BOXES, FORMS, LABEL, annotation, convert, fails, labelme, write, write_boxes

from data.files import walk_files

LINE = [[1, 1, 9, 1]]
COCO = [annotation([[1, 1, 9, 1, 5, 9]], image=tools.IMAGE_ID + 1), *[annotation(LINE)] * 2]
BAD_SHAPES = {
    "coco": {"a.jpg": None, "b.png": None, "coco.json": tools.coco_file(COCO), "results.json": [{"image_id": 7}]},
    "labelme": {"a.jpg": None, "a.json": labelme("a.jpg", BOX, ("polygon", "leaf", [[1, 1], [5, 5]]))},
    "yolo": {"images/a.jpg": None, "labels/a.txt": "0 0.1 0.1 0.2 0.2\n0 0 0 1 0 1 1"},
    # a.jpg's text may be c.txt
    "yolo ": {"images/a.jpg": None, "labels/c.txt": "0 0 0 1 0 1 1"},
    "masks": {f"{name}/images/{name}.jpg": None for name in "ab"}
    | {"b/masks/0.png": LABEL, "a/masks/0.png": LABEL, "a/masks/1.png": b"no image"},
}


@pytest.mark.parametrize("kind", BAD_SHAPES)
def test_an_image_with_a_bad_shape_is_left_out(tmp_path, capsys, kind):
    """Its shape would be background else."""
    source, form = write(tmp_path / "in", BAD_SHAPES[kind]), kind.strip()
    if form in ("labelme", "yolo"):
        write_boxes(form, source, [("leaf", 2, 2, 22, 12)], "b")
    assert "; or use --skip-bad" in fails(capsys, source, tmp_path / "out", "--format", form)
    assert list(convert(source, tmp_path / "out", "--skip-bad", "--format", form)) == ["b"]
    captured = capsys.readouterr()
    assert "1 skipped" in captured.out and "skipped: " in captured.err


@pytest.mark.parametrize("form", [*FORMS, "labels", "masks"])
def test_images_without_an_annotation(tmp_path, capsys, form):
    """Left out, or kept as empty, as YOLO's are; never where they may be of what can't be read."""
    source, out = tmp_path / "in", tmp_path / "out"
    if form == "labels":
        write(source, {"images/a.jpg": None, "images/b.jpg": None, "labels/a.png": LABEL})
    elif form == "masks":
        write(source, {"a/images/a.png": None, "b/images/b.png": None, "a/masks/0.png": LABEL})
    else:
        write(write_boxes(form, source, BOXES[:1]), {"images/b.jpg" if form == "yolo" else "b.jpg": None})
    flags = ["--empty-images"] * (form != "yolo")
    if flags:
        assert list(convert(source, out)) == ["a"]
        assert "1 left out: images without an annotation (--empty" in capsys.readouterr().out
    labels = convert(source, out, *flags, "--overwrite")
    assert sorted(labels) == ["a", "b"] and labels["a"].any() and not labels["b"].any()
    assert "1 images without an annotation, kept" in capsys.readouterr().out
    bad = {"labelme": "c.json", "labels": "labels/c.png", "yolo": "labels/c.txt", "masks": "c/masks/0.png"}.get(form)
    if bad:
        write(source, {bad: None if form in ("labels", "masks") else "{"})
        assert list(convert(source, out, *flags, "--overwrite", "--skip-bad")) == ["a"]
        assert "1 left out: images without an annotation (they may be" in capsys.readouterr().out


def test_a_folder_that_can_not_be_read_is_no_empty_one(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "scandir", Mock(side_effect=PermissionError))
    with pytest.raises(PermissionError):
        walk_files(tmp_path)


def test_a_data_set_to_replace_is_never_the_source(tmp_path, capsys):
    """Its own images and labels would be lost; what else the folder holds stays."""
    out, source = tmp_path / "out", write_boxes("labelme", tmp_path / "in", BOXES[:1] + BOXES[3:])
    assert convert(source, out)["a"].max() == 2
    write(out, {"notes.txt": "mine"})
    assert "--overwrite" in fails(capsys, source, out)
    assert "found in the data set to replace" in fails(capsys, out, out, "--overwrite", "--format", "labels")
    write(out, {"labels/a.json": labelme("../../in/a.jpg", BOX)})
    assert "found in the data set to replace" in fails(capsys, out / "labels", out, "--overwrite")
    write_boxes("labelme", tmp_path / "other", [("", 2, 2, 22, 12)])
    assert convert(tmp_path / "other", out, "--overwrite")["a"].max() == 1
    assert sorted(path.name for path in out.rglob("*")) == ["a.jpg", "a.png", "images", "labels", "notes.txt"]


def test_summary(tmp_path, capsys):
    shapes = {"a": [BOX, ("rectangle", "b", [[9, 1], [12, 3]])], "b": [], "c": [BOX, BOX]}
    for name, some in shapes.items():
        write(tmp_path / "in", {f"{name}.jpg": None, f"{name}.json": labelme(f"{name}.jpg", *some)})
    convert(tmp_path / "in", tmp_path / "out")
    assert capsys.readouterr().out.splitlines() == [
        f"3 images (labelme) in {tmp_path / 'out'}",
        "3 instances, 0 to 2 per image, of 6 to 64 pixels",
        "classes: 2 a, 1 b",
        "2 touch another one",
        "1 left out: hidden by later ones or without a pixel in the image",
    ]
