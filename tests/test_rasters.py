"""Label images and mask files to labels, and the view of an image on which they were made."""

import io
import os

import cv2
import numpy as np
import pytest
from annotation_files import GRAY, LABEL, SIZE, convert, labelme, write
from PIL import Image


def pillow(image, form="png", **options):
    """Bytes of an image as Pillow writes them."""
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def labeled(label=LABEL, name="a", suffix="png"):
    """An image and its label."""
    return {f"images/{name}.jpg": None, f"labels/{name}.{suffix}": label}


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
    # colors are numbered by red, then green, then blue: (0, 7, 255), (5, 5, 5), (10, 0, 0)
    order = [0, 3, 1, 2] if name in ("rgb", "rgba") else [0, 1, 2, 3]
    np.testing.assert_array_equal(label, np.array(order)[LABEL] * factor)
    assert (tmp_path / "out/images/a.jpg").read_bytes() == (tmp_path / "in/images/a.jpg").read_bytes()


def test_ignored_pixels_of_label_images_stay(tmp_path, capsys):
    label = np.zeros(SIZE, np.uint16)
    label[:5], label[5:10] = 65535, 65534
    labels = convert(write(tmp_path / "in", labeled(label)), tmp_path / "out")
    np.testing.assert_array_equal(labels["a"], label)
    out = capsys.readouterr().out
    assert "1 instances" in out and "300 pixels are ignored" in out and "touch" not in out


def test_one_mask_per_instance(tmp_path, capsys):
    first, second = np.zeros((2, *SIZE, 4), np.uint8)
    first[:12, 5:9] = second[10:22, 5:9] = 255
    second[:, :, 3] = 255
    first = first[:, :, 0]  # gray and colored, both occur
    masks = {"aa/masks/0.png": first, "aa/masks/1.png": second, "aa/masks/._0.png": "x", "bb/masks/0.png": first}
    write(tmp_path / "in", {"aa/images/aa.png": None, "bb/images/bb.png": None, **masks})
    labels = convert(tmp_path / "in", tmp_path / "out")
    np.testing.assert_array_equal(labels["bb"], first > 0)
    np.testing.assert_array_equal(labels["aa"], np.where(second[:, :, 0] > 0, 2, first > 0))
    out = capsys.readouterr().out
    assert "2 touch another one" in out and "smallest 40 pixels" in out


VOC_COLORS = np.zeros((256, 3), np.uint8)
VOC_COLORS[1:4], VOC_COLORS[255] = [[128, 0, 0], [0, 128, 0], [128, 128, 0]], [224, 224, 192]


def voc_image(ids, kind):
    image = Image.fromarray(ids.astype(np.uint8) if kind == "palette" else VOC_COLORS[ids])
    if kind == "palette":
        image.putpalette(VOC_COLORS.ravel().tolist())
    return pillow(image)


@pytest.mark.parametrize(("kind", "suffix"), [("palette", ""), ("colors", "PNG")])
def test_voc(tmp_path, capsys, kind, suffix):
    ids = np.zeros(SIZE, int)
    ids[5:15, 5:15], ids[20:30, 5:15], ids[30:35, 30:35], ids[5:15, 15:17] = 1, 2, 3, 255
    classes = np.where(np.isin(ids, (1, 2)), 1, ids)
    classes[30:35, 30:35] = 0  # labelme's _background_
    classes[:3, :3] = 255  # and its __ignore__
    images = {"JPEGImages/a.jpg": None, "JPEGImages/b.jpg": None}
    write(tmp_path / "in", {**images, f"SegmentationObject{suffix}/a.png": voc_image(ids, kind)})
    expected = np.where(ids == 255, 65535, ids)
    if kind == "colors":  # numbered by their values: (0, 128, 0), (128, 0, 0), (128, 128, 0)
        expected = np.where(np.isin(ids, (1, 2)), 3 - ids, expected)
    np.testing.assert_array_equal(convert(tmp_path / "in", tmp_path / "out")["a"], expected)
    out = capsys.readouterr().out
    assert "1 images (voc)" in out and "20 pixels are ignored" in out and "1 left out: images" in out
    write(tmp_path / "in", {f"SegmentationClass{suffix}/a.png": voc_image(classes, kind)})
    expected = np.where(classes == 255, 65535, np.where(classes == 0, 0, expected))
    np.testing.assert_array_equal(convert(tmp_path / "in", tmp_path / "class")["a"], expected)


def test_leaves_as_their_archive_has_them(tmp_path):
    files = {f"plant001_{name}.png": None for name in ("rgb", "fg", "centers")}
    labels = convert(write(tmp_path / "A1", {**files, "plant001_label.png": LABEL}), tmp_path / "out")
    assert list(labels) == ["plant001_rgb"]
    np.testing.assert_array_equal(labels["plant001_rgb"], LABEL)


@pytest.mark.parametrize("source", ["in", "in/gtFine/train", "in/gtFine"])
def test_cityscapes(tmp_path, capsys, source):
    ids = np.full(SIZE, 7, np.uint16)  # road
    ids[5:10, 5:10], ids[5:10, 20:30], ids[20:25, 5:10], ids[30:, :] = 26000, 26001, 24, 1
    expected = np.zeros(SIZE, int)
    expected[5:10, 5:10], expected[5:10, 20:30], expected[20:25, 5:10] = 26000, 26001, 65535  # a group of people
    for name in ("bern_000000_000019", "bern_000001_000019"):
        write(tmp_path / "in/leftImg8bit/train/bern", {f"{name}_leftImg8bit.png": None})
    truth = {"instanceIds.png": ids, "labelIds.png": np.uint8(ids % 256), "polygons.json": {"objects": []}}
    folder = tmp_path / "in/gtFine/train/bern"
    write(folder, {f"bern_000000_000019_gtFine_{name}": content for name, content in truth.items()})
    labels = convert(tmp_path / source, tmp_path / "out")
    assert list(labels) == ["bern_000000_000019_leftImg8bit"]
    np.testing.assert_array_equal(labels["bern_000000_000019_leftImg8bit"], expected)
    assert "1 left out: images without an annotation" in capsys.readouterr().out


TURNED = [  # EXIF's orientation, the view that was annotated and whether its size is stated, whether it is assumed
    *((orientation, "shown", True, orientation == 3) for orientation in (1, 3, 6, 8)),
    *((orientation, "stored", True, False) for orientation in (6, 8)),
    *((orientation, "shown", False, orientation == 6) for orientation in (1, 6)),
]


@pytest.mark.parametrize(("orientation", "view", "stated", "assumed"), TURNED)
def test_image_and_label_agree_when_the_image_says_it_is_turned(tmp_path, capsys, orientation, view, stated, assumed):
    """Half a turn shows in no size, and none may be stated: it is taken as shown, and said."""
    height, width = SIZE
    x, y = {1: (0, 0), 3: (width - 10, height - 10), 6: (height - 10, 0), 8: (0, width - 10)}[orientation]
    size = SIZE[::-1] if orientation > 4 else SIZE
    if view == "stored":
        (x, y), size = (0, 0), SIZE
    array, exif = np.full_like(GRAY, 40), Image.Exif()
    array[:10, :10], exif[274] = 250, orientation  # stored so, with a bright corner
    image = pillow(Image.fromarray(array), "jpeg", exif=exif, quality=95)
    box = ("rectangle", "corner", [[x, y], [x + 10, y + 10]])
    file = labelme("a.jpg", box, size=size if stated else (None, None))
    label = convert(write(tmp_path / "in", {"a.jpg": image, "a.json": file}), tmp_path / "out")["a"]
    assert ("1 images say that they are shown turned" in capsys.readouterr().out) == assumed
    (path,) = (tmp_path / "out/images").iterdir()
    assert path.suffix == ".png" if view == "stored" else path.read_bytes() == image
    pixels = cv2.imread(str(path))  # turned as training turns it
    assert pixels.shape[:2] == label.shape == size
    assert pixels[label == 1].min() > 200 and pixels[label == 0].mean() < 60


def test_tiffs_are_copied(tmp_path):
    write(tmp_path / "in", {"labels/a.png": LABEL, "images/a.TIF": LABEL * np.uint16(9)})
    np.testing.assert_array_equal(convert(tmp_path / "in", tmp_path / "out")["a"], LABEL)
    assert (tmp_path / "out/images/a.tif").read_bytes() == (tmp_path / "in/images/a.TIF").read_bytes()


def test_labels_named_with_an_ending_of_images_that_have_it_too(tmp_path):
    labels = {"labels/a_mask.png": LABEL, "labels/a_mask_mask.png": 2 * LABEL}
    write(tmp_path / "in", {"images/a.jpg": None, "images/a_mask.jpg": None, **labels})
    labels = convert(tmp_path / "in", tmp_path / "out")
    assert {name: label.max() for name, label in labels.items()} == {"a": 3, "a_mask": 6}


def test_further_pages_of_a_label_are_counted(tmp_path, capsys):
    pages = [Image.fromarray(LABEL)] * 2
    convert(
        write(tmp_path / "in", labeled(pillow(pages[0], "tiff", save_all=True, append_images=pages), "a", "tif")),
        tmp_path / "out",
    )
    assert "2 left out: pages or frames after a file's first" in capsys.readouterr().out


def test_folders_behind_links_count_once(tmp_path, capsys):
    """Each by its name inside the folder if it has one there; hidden files and links are passed over, and said."""
    for folder in ("images", "labels"):
        (tmp_path / "in" / folder).mkdir(parents=True)
        (tmp_path / "in" / folder / "more").symlink_to(tmp_path / folder, target_is_directory=True)
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "round").symlink_to(tmp_path / "in" / folder, target_is_directory=True)
    write(tmp_path, labeled())
    write(tmp_path / "in", {**labeled(), **labeled(name="b/0"), "images/b/.c.jpg": None, "images/.h/b.jpg": None})
    for name in ("a", ".latest"):
        (tmp_path / "in/images" / name).symlink_to("b", target_is_directory=True)
    assert sorted(convert(tmp_path / "in", tmp_path / "out")) == ["a", "b-0", "more-a"]
    assert "1 hidden" in capsys.readouterr().err


def test_names_that_are_no_utf_8(tmp_path):
    """Of an old zip; OpenCV dies of such a path."""
    name, out = os.fsdecode(b"stra\xdfe"), tmp_path / os.fsdecode(b"o\xfct")
    np.testing.assert_array_equal(convert(write(tmp_path / "in", labeled(name=name)), out)[name], LABEL)


def test_components_are_parted_and_named_where_they_look_like_instances(tmp_path, capsys):
    """What shares a corner is one piece; 65535 stays; ids that touch stay apart."""
    label = np.zeros(SIZE, np.uint16)
    label[2:5, 2:5] = label[5:7, 5:7] = label[2:5, 20:24] = 1
    label[20:, :5] = 65535
    for name, image in (("a", label), ("b", label), ("c", label // 65535)):
        write(tmp_path / "in", labeled(image, name))
    np.testing.assert_array_equal(convert(tmp_path / "in", tmp_path / "out")["a"], label)
    assert capsys.readouterr().out.count("--components") == 1
    label[2:5, 24:26] = 7
    convert(write(tmp_path / "in", labeled(label)), tmp_path / "two")
    expected = np.where(label == 7, 3, label)
    expected[2:5, 20:24] = 2
    np.testing.assert_array_equal(convert(tmp_path / "in", tmp_path / "parted", "--components")["a"], expected)
    assert "--components" not in capsys.readouterr().out
