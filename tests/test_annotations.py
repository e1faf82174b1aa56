"""Annotations of tools to label images: every form against ids that are painted by other means."""

import base64
import os
import unicodedata

import cv2
import numpy as np
import pytest
from annotation_files import (
    BOXES,
    CVAT,
    FORMS,
    SIZE,
    annotation,
    class_map,
    coco_file,
    convert,
    fails,
    labelme,
    runs_of,
    write_boxes,
    write_image,
    write_json,
)
from test_shapes import even_odd

from data.annotations import coco, yolo
from data.files import ClassName, read_class_names


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


def test_rotated_rectangles(tmp_path):
    points = np.array([[10.2, 5.1], [20.3, 15.2], [15.3, 25.4], [5.2, 15.3]])
    kinds = [("oriented_rectangle", 0), ("rotation", 16), ("quadrilateral", 32)]
    write_image(tmp_path / "in/a.jpg")
    shapes = [(kind, "x", (points + [x, 0]).tolist(), {"direction": 0.46}) for kind, x in kinds]
    write_json(tmp_path / "in/a.json", labelme("a.jpg", *shapes))
    expected = sum(number * even_odd(points + [x, 0]) for number, (_, x) in enumerate(kinds, start=1))
    np.testing.assert_array_equal(convert(tmp_path / "in", tmp_path / "out")["a"], expected)


def test_labelme_finds_its_images(tmp_path):
    """Windows' paths, names in another Unicode form or case, equal names in two folders, Mac's twins."""
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
    labels = convert(source, tmp_path / "out")
    assert set(labels) == {"one-a", "two-a", "x-Grün"}
    for label in labels.values():
        assert label.sum() == 4 and (label[1:3, 1:3] == 1).all()
    grays = {path.stem: cv2.imread(str(path))[0, 0, 0] for path in (tmp_path / "out/images").iterdir()}
    assert grays == {"one-a": 10, "two-a": 20, "x-Grün": 30}


def test_names_of_videos_in_folders_of_their_own(tmp_path):
    """Where one comes twice, the folders come before all names; what gets too long is cut; images elsewhere."""
    box, long = ("rectangle", "x", [[0, 0], [9, 9]]), 120 * "v"
    for name in ("a/1", "a/2", "b/1", f"{long}/{long}/{long}", f"{long}/d/{long}"):
        write_image(tmp_path / f"images/{name}.jpg", value=200 * (name == "b/1"))
        write_json(tmp_path / f"in/{name}.json", labelme(f"{name.rpartition('/')[2]}.jpg", box))
    stems = set(convert(tmp_path / "in", tmp_path / "out", "--images", tmp_path / "images"))
    assert {"a-1", "a-2", "b-1"} < stems and len(stems) == 5
    assert all(len(stem) < 240 and stem.startswith(long) for stem in stems - {"a-1", "a-2", "b-1"})
    assert [cv2.imread(str(tmp_path / f"out/images/{name}.jpg")).max() > 190 for name in ("a-1", "b-1")] == [
        False,
        True,
    ]


def test_what_lies_beside_labelme_files(tmp_path, capsys):
    """Another program's list and XML are passed over, an image that nobody annotated is counted, not a skipped one."""
    for name in ("a", "unlabeled"):
        write_image(tmp_path / f"in/{name}.jpg")
    write_json(tmp_path / "in/z.json", labelme("a.jpg", ("rectangle", "x", [[0, 0], [9, 9]])))
    write_json(tmp_path / "in/classes.json", ["x"])
    (tmp_path / "in/a.xml").write_text("<other/>")
    assert list(convert(tmp_path / "in", tmp_path / "out")) == ["a"]
    assert "1 left out: images without an annotation" in capsys.readouterr().out


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


def test_compressed_run_lengths():
    assert coco.decode_counts("61X12N") == [6, 1, 40, 3, 38]  # by hand
    rng = np.random.default_rng(2)
    for _ in range(100):
        counts = np.int64(rng.exponential(rng.choice([3, 300, 1e5]), rng.integers(1, 60))).tolist()
        assert coco.decode_counts(compress(counts)) == counts


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
    assert "1 left out: box without a mask" in out and "2 lie in part under" in out
    np.testing.assert_array_equal(convert(tmp_path / "in", tmp_path / "5", "--classes", "5")["a"], second)
    assert (tmp_path / "5/classes.txt").read_text() == "1 dirt\n"


def test_crowds_are_ignored_but_not_their_members(tmp_path):
    """In a file whose ids are long."""
    crowd = np.zeros(SIZE, bool)
    crowd[10:30, 10:40] = True
    runs, long = {"size": list(SIZE), "counts": runs_of(crowd)}, 2008000008123
    members = [annotation([[20, 15, 30, 15, 30, 35, 20, 35]], image=long), annotation(runs, image=long, iscrowd=1)]
    file = coco_file(members, images=("a.jpg",))
    file["images"][0]["id"] = long
    write_image(tmp_path / "in/a.jpg")
    write_json(tmp_path / "in/coco.json", file)
    expected = np.where(crowd, 65535, 0)
    expected[15:35, 20:30] = 1
    np.testing.assert_array_equal(convert(tmp_path / "in", tmp_path / "out")["a"], expected)


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


def test_cvat_attributes_that_ignore(tmp_path):
    write_image(tmp_path / "in/a.jpg")
    text = '<box label="x" xtl="{0}" ytl="0" xbr="{1}" ybr="9"><attribute name="is_crowd">{2}</attribute></box>'
    shapes = text.format(0, 5, "true") + text.format(5, 9, "false")
    image = f'<image id="0" name="a.jpg" width="60" height="40">{shapes}</image>'
    (tmp_path / "in/a.xml").write_text(f"<annotations>{image}</annotations>")
    label = convert(tmp_path / "in", tmp_path / "out")["a"]
    assert (label[:9, :5] == 65535).all() and (label[:9, 5:9] == 1).all() and not label[9:].any()


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
    assert (tmp_path / "out/classes.txt").read_text() == "1 leaf\n2 stem\n"
    os.replace(tmp_path / "in/data.yaml", tmp_path / "data.yaml")  # beside one split of several
    only = convert(tmp_path / "in", tmp_path / "split", "--classes", "leaf")["a"]
    np.testing.assert_array_equal(only, expected == 1)


def test_names_of_classes_may_hold_commas_and_marks():
    text = "\n- \"car, small\"\n- it's # one\n\n- '# 3'"
    assert yolo._parse_names(text) == {"0": "car, small", "1": "it's", "2": "# 3"}
    assert yolo._parse_names("['car, small', b]") == {"0": "car, small", "1": "b"}
    assert yolo._parse_names("[driver's, kid's]") == {"0": "driver's", "1": "kid's"}
    assert yolo._parse_names("['driver''s side', 'car']") == {"0": "driver's side", "1": "car"}
    assert yolo._parse_names('{"0": "person", 1: car, 2: \'a, b\'}') == {"0": "person", "1": "car", "2": "a, b"}
    assert yolo._parse_names("\n  0: pallet#1\n  1: C#") == {"0": "pallet#1", "1": "C#"}


@pytest.mark.parametrize("form", FORMS)
def test_names_that_tools_reserve(tmp_path, capsys, form):
    """A hole is background, what is to be ignored 65535, whatever classes are kept."""
    write_boxes(form, tmp_path / "in")
    expected = np.zeros(SIZE, np.uint16)
    expected[2:12, 2:22] = 1
    expected[4:8, 6:10] = 0
    expected[:6, 18:30] = 65535
    expected[5:7, 7:9] = 2
    np.testing.assert_array_equal(convert(tmp_path / "in", tmp_path / "out")["a"], expected)
    out = capsys.readouterr().out
    assert "2 instances" in out and "72 pixels are ignored" in out
    assert "largest 168" in out and "--ignore 65535" in out and "classes: 1 leaf, 1 stem" in out
    classes = np.choose(np.minimum(expected, 3), [0, 1, 2, 255])
    np.testing.assert_array_equal(class_map(tmp_path / "out"), classes)
    assert read_class_names(tmp_path / "out") == [ClassName(1, "leaf"), ClassName(2, "stem")]
    expected[expected == 1] = 0
    expected[expected == 2] = 1
    label = convert(tmp_path / "in", tmp_path / "stems", "--classes", "stem=the stalk")["a"]
    np.testing.assert_array_equal(label, expected)
    np.testing.assert_array_equal(class_map(tmp_path / "stems"), np.where(expected == 65535, 255, expected))
    assert (tmp_path / "stems/classes.txt").read_text() == "1 the stalk\n"
    line = fails(capsys, tmp_path / "in", tmp_path / "no", "--classes", "__ignore__")
    assert "--classes __ignore__: found" in line and "leaf" in line and "_background_" not in line


@pytest.mark.parametrize("form", FORMS)
def test_kinds_become_one_class(tmp_path, capsys, form):
    """By name or, where there is one, by id; of two words or the same; others are left out; ids go by the name."""
    boxes = [("truck", 0, 0, 4, 4), ("car", 10, 0, 14, 4), ("bus", 20, 0, 24, 4), ("bike", 30, 0, 34, 4)]
    flags = ["truck=car", "car", "0=cycle" if form in ("coco", "yolo") else "bike=cycle"]
    label = convert(write_boxes(form, tmp_path / "in", boxes), tmp_path / "out", "--classes", *flags)["a"]
    assert label[0, ::10][:4].tolist() == [1, 2, 0, 3]
    assert class_map(tmp_path / "out")[0, ::10][:4].tolist() == [1, 1, 0, 2]
    assert (tmp_path / "out/classes.txt").read_text() == "1 car\n2 cycle\n"
    assert "1 left out: of other classes" in capsys.readouterr().out


def test_sets_without_classes(tmp_path, capsys):
    """YOLO without names: one kind is none, two are their numbers; labelme's empty label is none."""
    write_boxes("yolo", tmp_path / "one", BOXES[:1])
    write_boxes("yolo", tmp_path / "two", [BOXES[0], BOXES[3]])
    for name in ("one", "two"):
        (tmp_path / name / "classes.txt").unlink()
        convert(tmp_path / name, tmp_path / f"{name}_out")
    assert sorted(path.name for path in (tmp_path / "one_out").iterdir()) == ["images", "labels"]
    assert (tmp_path / "two_out/classes.txt").read_text() == "1 0\n2 1\n"
    write_boxes("labelme", tmp_path / "some", [("", 0, 0, 4, 4), ("x  y", 10, 0, 14, 4)])
    assert convert(tmp_path / "some", tmp_path / "some_out")["a"].max() == 2
    assert class_map(tmp_path / "some_out")[0, [0, 10]].tolist() == [0, 1]
    assert (tmp_path / "some_out/classes.txt").read_text() == "1 x y\n"
    convert(tmp_path / "one", tmp_path / "some_out", "--overwrite")
    assert sorted(path.name for path in (tmp_path / "some_out").iterdir()) == ["images", "labels"]
    write_boxes("labelme", tmp_path / "stuff", [("other stuff", 0, 0, 4, 4)])
    assert "--classes 'other stuff=NEW'" in fails(capsys, tmp_path / "stuff", tmp_path / "no")
    boxes = [(f"kind {number}", 0, 0, 4, 4) for number in range(251)]
    assert "found 251 classes" in fails(capsys, write_boxes("labelme", tmp_path / "many", boxes), tmp_path / "no")
