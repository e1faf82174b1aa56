"""Label images and mask files, and the view of an image on which they were made."""

import io
import os

import cv2
import numpy as np
import pytest
from annotation_files import GRAY, LABEL, SIZE, convert, labelme, write
from numpy.testing import assert_array_equal
from PIL import Image


def pillow(image, form="png", **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def labeled(label=LABEL, name="a"):
    return {f"images/{name}.jpg": None, f"labels/{name}.png": label}


def palette():
    image = Image.fromarray(LABEL).point(lambda number: number or 9)  # all of it clear
    image.putpalette([0, 0, 0] + [9, 7, 5] * 9)  # the numbers tell them apart, not the colors
    return pillow(image, transparency=9)


COLORS = np.array([[0, 0, 0], [0, 0, 10], [255, 7, 0], [5, 5, 5]], np.uint8)[LABEL]  # BGR
LABELS = {
    "8.png": LABEL,
    "16.png": LABEL * np.uint16(300),
    "rgb.png": COLORS,
    "rgba.png": np.dstack([np.where(LABEL[..., None] > 0, COLORS, np.uint8(99)), np.uint8(255) * (LABEL > 0)]),
    "16.tif": LABEL * np.uint16(300),
    "32.TIFF": LABEL * np.int32(30000),
    "float.tif": np.float32(LABEL),
    "rgb.bmp": COLORS,
    "palette.png": palette(),
}


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("path", ["labels/a", "masks/a_mask"])
def test_label_images(tmp_path, kind, path):
    name, suffix = kind.split(".")
    write(tmp_path / "in", {"images/a.jpg": None, f"{path}.{suffix}": LABELS[kind]})
    label = convert(tmp_path / "in", tmp_path / "out")["a"]
    factor = 300 if name == "16" else 1  # ids that 16 bits hold stay as they are
    # colors are numbered by red, then green, then blue
    order = [0, 3, 1, 2] if name in ("rgb", "rgba") else [0, 1, 2, 3]
    assert_array_equal(label, np.array(order)[LABEL] * factor)
    assert (tmp_path / "out/images/a.jpg").read_bytes() == (tmp_path / "in/images/a.jpg").read_bytes()


def test_one_mask_per_instance(tmp_path):
    first, second = np.zeros((2, *SIZE, 4), np.uint8)
    first[:12, 5:9] = second[10:22, 5:9] = 255
    second[:, :, 3] = 255
    first = first[:, :, 0]  # the other is colored
    masks = {"aa/masks/0.png": first, "aa/masks/1.png": second, "aa/masks/._0.png": "x", "bb/masks/0.png": first}
    write(tmp_path / "in", {"aa/images/aa.png": None, "bb/images/bb.png": None, **masks})
    labels = convert(tmp_path / "in", tmp_path / "out")
    assert_array_equal(labels["bb"], first > 0)
    assert_array_equal(labels["aa"], np.where(second[:, :, 0] > 0, 2, first > 0))


def voc_image(ids, is_palette):
    colors = np.zeros((256, 3), np.uint8)
    colors[1:4], colors[255] = [[128, 0, 0], [0, 128, 0], [128, 128, 0]], [224, 224, 192]
    image = Image.fromarray(ids if is_palette else colors[ids])
    if is_palette:
        image.putpalette(colors.ravel().tolist())
    return pillow(image)


@pytest.mark.parametrize(("is_palette", "order"), [(True, [0, 1, 2, 3]), (False, [0, 2, 1, 3])])
def test_voc(tmp_path, capsys, is_palette, order):
    """255, or its color, is ignored; labelme's holes stand in the classes alone."""
    ids, classes = LABEL.copy(), np.minimum(LABEL, 1)
    ids[:2], classes[LABEL == 3], classes[2:4, 3:5] = 255, 0, 255
    write(tmp_path / "in", {"JPEGImages/a.jpg": None, "SegmentationObject/a.png": voc_image(ids, is_palette)})
    expected = np.where(ids == 255, 65535, np.array(order)[LABEL])
    assert_array_equal(convert(tmp_path / "in", tmp_path / "out")["a"], expected)
    out = capsys.readouterr().out
    assert "1 images (voc)" in out and "120 pixels are ignored" in out and "2 touch another one" in out
    classes[:2] = 255
    write(tmp_path / "in", {"SegmentationClass/a.png": voc_image(classes, is_palette)})
    expected = np.where(classes == 255, 65535, expected * (LABEL < 3))
    assert_array_equal(convert(tmp_path / "in", tmp_path / "class")["a"], expected)


CITY = {f"leftImg8bit/train/bern/{stem}_leftImg8bit.png": None for stem in "ab"}
CITY |= {"gtFine/train/bern/a_gtFine_labelIds.png": None}
# road, two cars, a group of people
CITY |= {"gtFine/train/bern/a_gtFine_instanceIds.png": np.array([7, 26000, 26001, 24], np.uint16)[LABEL]}
PLANT = {f"plant001_{name}.png": None for name in ("rgb", "fg", "centers")}
ARCHIVES = [  # the source in it, its files, the stem of the image with a label, what becomes of `LABEL`'s numbers
    ("", PLANT | {"plant001_label.png": LABEL}, "plant001_rgb", [0, 1, 2, 3]),
    ("", PLANT | {"plant001_label.png": COLORS}, "plant001_rgb", [0, 3, 1, 2]),
    ("", CITY, "a_leftImg8bit", [0, 26000, 26001, 65535]),
    ("gtFine/train", CITY, "a_leftImg8bit", [0, 26000, 26001, 65535]),
]


@pytest.mark.parametrize(("source", "files", "stem", "numbers"), ARCHIVES)
def test_leaves_and_cityscapes_as_their_archives_have_them(tmp_path, source, files, stem, numbers):
    labels = convert(write(tmp_path / "in", files) / source, tmp_path / "out")
    assert list(labels) == [stem]
    assert_array_equal(labels[stem], np.array(numbers)[LABEL])


@pytest.mark.parametrize(("orientation", "x", "y"), [(1, 0, 0), (3, 50, 30), (6, 30, 0), (8, 0, 50)])
@pytest.mark.parametrize("view", ["shown", "stored", "unknown"])
def test_image_and_label_agree_when_the_image_says_it_is_turned(tmp_path, orientation, x, y, view):
    """Half a turn shows in no size, and none may be stated."""
    size = SIZE[::-1] if orientation > 4 else SIZE
    if view == "stored" and orientation > 4:
        x, y, size = 0, 0, SIZE
    array, exif = np.full_like(GRAY, 40), Image.Exif()
    array[:10, :10], exif[274] = 250, orientation  # stored so, with a bright corner
    image = pillow(Image.fromarray(array), "jpeg", exif=exif, quality=95)
    box = ("rectangle", "corner", [[x, y], [x + 10, y + 10]])
    file = labelme("a.jpg", box, size=(None, None) if view == "unknown" else size)
    label = convert(write(tmp_path / "in", {"a.jpg": image, "a.json": file}), tmp_path / "out")["a"]
    (path,) = (tmp_path / "out/images").iterdir()
    assert path.read_bytes() == image
    is_stored = view == "stored" and orientation > 4
    pixels = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION * is_stored)
    assert pixels.shape[:2] == label.shape == size
    assert pixels[label == 1].min() > 200 and pixels[label == 0].mean() < 60


def test_labels_named_with_an_ending_of_images_that_have_it_too(tmp_path):
    labels = {"labels/a_mask.png": LABEL, "labels/a_mask_mask.png": 2 * LABEL}
    write(tmp_path / "in", {"images/a.jpg": None, "images/a_mask.jpg": None, **labels})
    labels = convert(tmp_path / "in", tmp_path / "out")
    assert {name: label.max() for name, label in labels.items()} == {"a": 3, "a_mask": 6}


def test_folders_behind_links_count_once(tmp_path):
    """Hidden ones are passed over; a name may be no UTF-8, of which OpenCV dies."""
    name, out = os.fsdecode(b"stra\xdfe"), tmp_path / os.fsdecode(b"o\xfct")
    write(tmp_path, labeled())
    hidden = {"images/b/.c.jpg": None, "images/.h/b.jpg": None}
    write(tmp_path / "in", {**labeled(), **labeled(name=f"b/{name}"), **labeled(name="b/a"), **hidden})
    for folder in ("images", "labels"):
        (tmp_path / "in" / folder / "more").symlink_to(tmp_path / folder, target_is_directory=True)
        (tmp_path / folder / "round").symlink_to(tmp_path / "in" / folder, target_is_directory=True)
    assert sorted(convert(tmp_path / "in", out)) == ["a", "b-a", f"b-{name}", "more-a"]


def test_components_are_parted(tmp_path, capsys):
    """A corner connects; 65535 stays; ids that touch stay apart; it is said where it looks so."""
    label = np.zeros(SIZE, np.uint16)
    label[2:5, 2:5] = label[5:7, 5:7] = label[2:5, 20:24] = 1
    label[20:, :5] = 65535
    write(tmp_path / "one", labeled(label) | labeled(label, "b") | labeled(label // 65535, "c"))
    convert(tmp_path / "one", tmp_path / "said")
    assert capsys.readouterr().out.count("--components") == 1
    label[2:5, 24:26] = 7
    write(tmp_path / "in", labeled(label))
    assert_array_equal(convert(tmp_path / "in", tmp_path / "whole")["a"], label)
    out = capsys.readouterr().out
    assert "2 instances" in out and "100 pixels are ignored" in out and "--components" not in out
    expected = np.where(label == 7, 3, label)
    expected[2:5, 20:24] = 2
    assert_array_equal(convert(tmp_path / "in", tmp_path / "parted", "--components")["a"], expected)
