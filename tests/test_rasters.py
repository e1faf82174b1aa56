"""Label images and mask files to labels, and the view of an image on which they were made."""

import json
import os

import cv2
import numpy as np
import pytest
from annotation_files import LABEL, SIZE, convert, fails, photo, write_boxes, write_image, write_json, write_labeled
from PIL import Image


def colors_of(ids):
    return np.array([[0, 0, 0], [10, 0, 0], [0, 7, 255], [5, 5, 5]], np.uint8)[ids]


def palette(path):
    image = Image.fromarray(np.uint8(LABEL))
    image = image.point(lambda number: number or 9)  # all of it clear
    image.putpalette([0, 0, 0] + [9, 7, 5] * 9)  # the numbers tell them apart, not the colors
    image.save(path, transparency=9)


LABELS = {
    "8.png": np.uint8(LABEL),
    "16.png": LABEL * np.uint16(300),
    "rgb.png": colors_of(LABEL)[:, :, ::-1],
    "rgba.png": np.dstack([np.where(LABEL[..., None] > 0, colors_of(LABEL), 99)[:, :, ::-1], 255 * (LABEL > 0)]).astype(
        np.uint8
    ),
    "16.tif": LABEL * np.uint16(300),
    "32.TIFF": LABEL * np.int32(30000),
    "float.tif": np.float32(LABEL),
    "rgb.bmp": colors_of(LABEL)[:, :, ::-1],
    "palette.png": palette,
}


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("folder", ["labels", "masks"])
def test_label_images(tmp_path, kind, folder):
    image = write_image(tmp_path / "in/images/a.jpg")
    name, suffix = kind.split(".")
    path = tmp_path / "in" / folder / f"a{'_mask' * (folder == 'masks')}.{suffix}"
    path.parent.mkdir()
    LABELS[kind](path) if callable(LABELS[kind]) else cv2.imwrite(str(path), LABELS[kind])
    label = convert(tmp_path / "in", tmp_path / "out")["a"]
    factor = 300 if name == "16" else 1  # ids that 16 bits hold stay as they are
    # colors are numbered by red, then green, then blue: (0, 7, 255), (5, 5, 5), (10, 0, 0)
    order = [0, 3, 1, 2] if name in ("rgb", "rgba") else [0, 1, 2, 3]
    np.testing.assert_array_equal(label, np.array(order)[LABEL] * factor)
    assert (tmp_path / "out/images/a.jpg").read_bytes() == image


def test_ignored_pixels_of_label_images_stay(tmp_path, capsys):
    label = np.zeros(SIZE, np.uint16)
    label[:5], label[5:10] = 65535, 65534
    write_labeled(tmp_path / "in", label=label)
    np.testing.assert_array_equal(convert(tmp_path / "in", tmp_path / "out")["a"], label)
    out = capsys.readouterr().out
    assert "1 instances" in out and "300 pixels are ignored" in out and "touch" not in out


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


VOC_COLORS = np.zeros((256, 3), np.uint8)
VOC_COLORS[1:4], VOC_COLORS[255] = [[128, 0, 0], [0, 128, 0], [128, 128, 0]], [224, 224, 192]


def write_voc(path, ids, kind):
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "palette":
        image = Image.fromarray(ids.astype(np.uint8))
        image.putpalette(VOC_COLORS.ravel().tolist())
    else:
        image = Image.fromarray(VOC_COLORS[ids])
    image.save(path)


@pytest.mark.parametrize("kind", ["palette", "colors"])
@pytest.mark.parametrize("suffix", ["", "PNG"])
def test_voc(tmp_path, capsys, kind, suffix):
    ids = np.zeros(SIZE, int)
    ids[5:15, 5:15], ids[20:30, 5:15], ids[30:35, 30:35], ids[5:15, 15:17] = 1, 2, 3, 255
    classes = np.where(np.isin(ids, (1, 2)), 1, ids)
    classes[30:35, 30:35] = 0  # labelme's _background_
    classes[:3, :3] = 255  # and its __ignore__
    for name in "ab":
        write_image(tmp_path / f"in/JPEGImages/{name}.jpg")
    write_voc(tmp_path / f"in/SegmentationObject{suffix}/a.png", ids, kind)
    expected = np.where(ids == 255, 65535, ids)
    if kind == "colors":  # numbered by their values: (0, 128, 0), (128, 0, 0), (128, 128, 0)
        expected = np.where(np.isin(ids, (1, 2)), 3 - ids, expected)
    np.testing.assert_array_equal(convert(tmp_path / "in", tmp_path / "out")["a"], expected)
    out = capsys.readouterr().out
    assert "1 images (voc)" in out and "20 pixels are ignored" in out and "1 left out: images" in out
    write_voc(tmp_path / f"in/SegmentationClass{suffix}/a.png", classes, kind)
    expected = np.where(classes == 255, 65535, np.where(classes == 0, 0, expected))
    np.testing.assert_array_equal(convert(tmp_path / "in", tmp_path / "class")["a"], expected)


@pytest.mark.parametrize("label", [np.uint8(LABEL), colors_of(LABEL)[:, :, ::-1]], ids=["ids", "colors"])
def test_leaves_as_their_archive_has_them(tmp_path, label):
    for name in ("rgb", "fg", "centers"):
        write_image(tmp_path / f"A1/plant001_{name}.png")
    cv2.imwrite(str(tmp_path / "A1/plant001_label.png"), label)
    labels = convert(tmp_path / "A1", tmp_path / "out")
    assert list(labels) == ["plant001_rgb"]
    for number in range(1, LABEL.max() + 1):  # colors get numbers of their own
        assert len(np.unique(labels["plant001_rgb"][LABEL == number])) == 1
    np.testing.assert_array_equal(labels["plant001_rgb"] > 0, LABEL > 0)
    assert len(np.unique(labels["plant001_rgb"])) == LABEL.max() + 1


@pytest.mark.parametrize("source", ["in", "in/gtFine/train", "in/gtFine"])
def test_cityscapes(tmp_path, capsys, source):
    ids = np.full(SIZE, 7, np.uint16)  # road
    ids[5:10, 5:10], ids[5:10, 20:30], ids[20:25, 5:10], ids[30:, :] = 26000, 26001, 24, 1
    expected = np.zeros(SIZE, int)
    expected[5:10, 5:10], expected[5:10, 20:30], expected[20:25, 5:10] = 26000, 26001, 65535  # a group of people
    for name in ("bern_000000_000019", "bern_000001_000019"):
        write_image(tmp_path / f"in/leftImg8bit/train/bern/{name}_leftImg8bit.png")
    folder = tmp_path / "in/gtFine/train/bern"
    folder.mkdir(parents=True)
    cv2.imwrite(str(folder / "bern_000000_000019_gtFine_instanceIds.png"), ids)
    cv2.imwrite(str(folder / "bern_000000_000019_gtFine_labelIds.png"), np.uint8(ids % 256))
    write_json(folder / "bern_000000_000019_gtFine_polygons.json", {"objects": []})
    labels = convert(tmp_path / source, tmp_path / "out")
    assert list(labels) == ["bern_000000_000019_leftImg8bit"]
    np.testing.assert_array_equal(labels["bern_000000_000019_leftImg8bit"], expected)
    assert "1 left out: images without an annotation" in capsys.readouterr().out
    cv2.imwrite(str(folder / "bern_000001_000019_gtFine_instanceIds.png"), np.ones(SIZE, np.uint8))  # of the test set
    assert "000001_000019_gtFine_instanceIds.png: found no class" in fails(capsys, tmp_path / source, tmp_path / "no")


TURNED = [  # EXIF's orientation, the view that was annotated, whether that is assumed
    *(("labelme", orientation, "shown", orientation == 3) for orientation in (1, 3, 6, 8)),
    *(("labelme", orientation, "stored", False) for orientation in (6, 8)),
    *(("yolo", orientation, "shown", orientation == 6) for orientation in (1, 6)),
]


@pytest.mark.parametrize(("form", "orientation", "view", "assumed"), TURNED)
def test_image_and_label_agree_when_the_image_says_it_is_turned(tmp_path, capsys, form, orientation, view, assumed):
    """Half a turn shows in no size, and YOLO has no sizes: it is taken as shown, and said."""
    height, width = SIZE
    x, y = {1: (0, 0), 3: (width - 10, height - 10), 6: (height - 10, 0), 8: (0, width - 10)}[orientation]
    size = SIZE[::-1] if orientation > 4 else SIZE
    if view == "stored":
        (x, y), size = (0, 0), SIZE
    box = ("corner", x, y, x + 10, y + 10)
    if form == "yolo":  # in fractions of a view of `SIZE`
        box = ("corner", *np.array(box[1:]) * np.tile(np.array(SIZE[::-1]) / size[::-1], 2))
    source = write_boxes(form, tmp_path / "in", [box])
    image = source / ("images/a.jpg" if form == "yolo" else "a.jpg")
    photo(image, orientation)
    if form == "labelme":
        file = json.loads((source / "a.jpg.json").read_text())
        write_json(source / "a.jpg.json", file | {"imageHeight": size[0], "imageWidth": size[1]})
    label = convert(source, tmp_path / "out")["a"]
    assert ("1 images say that they are shown turned" in capsys.readouterr().out) == assumed
    (path,) = (tmp_path / "out/images").iterdir()
    assert path.suffix == ".png" if view == "stored" else path.read_bytes() == image.read_bytes()
    pixels = cv2.imread(str(path))  # turned as training turns it
    assert pixels.shape[:2] == label.shape == size
    assert pixels[label == 1].min() > 200 and pixels[label == 0].mean() < 60


def test_tiffs_are_copied_if_training_reads_them(tmp_path, capsys):
    write_labeled(tmp_path / "in")
    (tmp_path / "in/images/a.jpg").unlink()
    cv2.imwrite(str(tmp_path / "in/images/a.TIF"), LABEL * np.uint16(9))
    np.testing.assert_array_equal(convert(tmp_path / "in", tmp_path / "out")["a"], LABEL)
    assert (tmp_path / "out/images/a.tif").read_bytes() == (tmp_path / "in/images/a.TIF").read_bytes()
    cv2.imwrite(str(tmp_path / "in/images/a.TIF"), LABEL * np.float32(0.1))
    assert "a.TIF: found pixels of float32" in fails(capsys, tmp_path / "in", tmp_path / "no")


def test_labels_named_with_an_ending_of_images_that_have_it_too(tmp_path):
    for name in ("a", "a_mask"):
        write_image(tmp_path / f"in/images/{name}.jpg")
    (tmp_path / "in/labels").mkdir()
    for value, name in ((1, "a_mask"), (2, "a_mask_mask")):
        cv2.imwrite(str(tmp_path / f"in/labels/{name}.png"), np.full(SIZE, value, np.uint8))
    labels = convert(tmp_path / "in", tmp_path / "out")
    assert {name: label.max() for name, label in labels.items()} == {"a": 1, "a_mask": 2}


def test_further_pages_of_a_label_are_counted(tmp_path, capsys):
    write_labeled(tmp_path / "in", suffix=".tif")
    cv2.imwritemulti(str(tmp_path / "in/labels/a.tif"), [LABEL] * 3)
    convert(tmp_path / "in", tmp_path / "out")
    assert "2 left out: pages or frames after a file's first" in capsys.readouterr().out


def test_folders_behind_links_count(tmp_path):
    for folder in ("images", "labels"):
        (tmp_path / "in" / folder).mkdir(parents=True)
        (tmp_path / "in" / folder / "more").symlink_to(tmp_path / folder, target_is_directory=True)
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "round").symlink_to(tmp_path / "in" / folder, target_is_directory=True)
    for folder in (tmp_path, tmp_path / "in"):
        write_labeled(folder)
        (folder / "images/.latest").symlink_to(folder / "images", target_is_directory=True)  # hidden
    assert sorted(convert(tmp_path / "in", tmp_path / "out")) == ["a", "more-a"]


def test_hidden_files_are_counted_and_linked_twins_have_the_name_inside_the_folder(tmp_path, capsys):
    write_labeled(tmp_path / "in", "b/0")
    for name in ("b/.c", ".h/b"):
        write_image(tmp_path / f"in/images/{name}.jpg")
    for name in ("a", ".latest"):
        (tmp_path / "in/images" / name).symlink_to("b", target_is_directory=True)
    assert list(convert(tmp_path / "in", tmp_path / "out")) == ["0"]
    assert "1 hidden" in capsys.readouterr().err


def test_names_that_are_no_utf_8(tmp_path):
    """Of an old zip; OpenCV dies of such a path."""
    name, out = os.fsdecode(b"stra\xdfe"), tmp_path / os.fsdecode(b"o\xfct")
    write_labeled(tmp_path / "in", name)
    np.testing.assert_array_equal(convert(tmp_path / "in", out)[name], LABEL)


def test_components_are_parted_and_named_where_they_look_like_instances(tmp_path, capsys):
    """What shares a corner is one piece; 65535 stays; ids that touch stay apart."""
    label = np.zeros(SIZE, np.uint16)
    label[2:5, 2:5] = label[5:7, 5:7] = label[2:5, 20:24] = 1
    label[20:, :5] = 65535
    for name, image in (("a", label), ("b", label), ("c", label // 65535)):
        write_labeled(tmp_path / "in", name, image)
    np.testing.assert_array_equal(convert(tmp_path / "in", tmp_path / "out")["a"], label)
    assert capsys.readouterr().out.count("--components") == 1
    label[2:5, 24:26] = 7
    write_labeled(tmp_path / "in", "a", label)
    convert(tmp_path / "in", tmp_path / "two")
    expected = np.where(label == 7, 3, label)
    expected[2:5, 20:24] = 2
    np.testing.assert_array_equal(convert(tmp_path / "in", tmp_path / "parted", "--components")["a"], expected)
    assert "--components" not in capsys.readouterr().out
