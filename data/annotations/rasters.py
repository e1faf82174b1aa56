"""Annotations that are images: of ids or colors, or one mask per instance."""

from functools import partial
from pathlib import Path

import numpy as np

from data import files
from data.files import IGNORED, IMAGE_SUFFIXES
from run.command import UserError

from .shapes import MOST, AnnotatedShape
from .sources import AnnotatedImage, list_files, pair_files, require

LABEL_FOLDERS = ("labels", "masks")
ENDINGS = ("", "_mask", "_masks", "_label", "_labels")  # of a label, after its image's stem
# VOC's 255, and what `_read_values` makes of its color; in 16 bits 255 is an id
VOID = {np.dtype(np.uint8): 255, np.dtype(np.uint64): (1 << 48) | (224 << 32) | (224 << 16) | 192}
COUNTED = range(24, 34)  # Cityscapes' classes of instances, person to bicycle; as ids, groups


def read_label_images(source):
    """Images of `images/` and labels of `labels/` or `masks/`, in the same subfolders."""
    folders = [source.path / name for name in LABEL_FOLDERS]
    labels = files.list_by_stem(next((path for path in folders if path.is_dir()), folders[0]), IMAGE_SUFFIXES, True)
    folder = source.images or source.path / "images"
    return [partial(_read_pair, read_ids, folder, *pair) for pair in pair_files(folder, labels, ENDINGS)]


def read_layout(form, source):
    """Images and labels of one of `LAYOUTS`; the source may also be the labels' folder or one in it."""
    _, image_folder, image_ending, label_folder, label_ending, read = LAYOUTS[form]
    folder = source.path / label_folder if (source.path / label_folder).is_dir() else source.path
    labels = files.list_by_stem(folder, IMAGE_SUFFIXES, True)
    parts = [image_folder if part == label_folder else part for part in folder.absolute().parts]
    folder = source.images or Path(*parts)
    pairs = pair_files(folder, labels, (label_ending,), image_ending)
    return [partial(_read_pair, read, folder, *pair) for pair in pairs]


def _read_pair(read, folder, image, label):
    if not image:
        raise UserError(f"{label}: found no image of that name in {folder}, expected one; add it or remove this")
    read = partial(require, label, read, label) if label else None
    name = image.relative_to(folder).as_posix()
    return AnnotatedImage(name, str(label or image), image, label=read, is_annotated=bool(label))


def _read_voc(path):
    """Ids; labelme parts background and what is ignored only in SegmentationClass."""
    ids, class_path = read_ids(path, VOID), path.parent.with_name("SegmentationClass") / path.name
    if not class_path.is_file():
        return ids
    classes = read_ids(class_path, VOID)
    return np.where(np.isin(classes, (0, IGNORED)), classes, ids)


def _read_scene(path):
    """Ids of Cityscapes' instances; other classes are background."""
    ids = read_ids(path)
    if ids.max() < 4:  # as the image's border
        raise ValueError("found no class, as in test images, expected some; name gtFine/train, or so")
    return np.where(np.isin(ids, COUNTED), IGNORED, np.where(ids < 1000, 0, ids)).astype(np.uint16)


def read_ids(path, void=None):
    """Instance ids of a label image, (h, w) uint16; UserError for no image, a lossy one, or what can't be ids.

    Ids, gray or of a palette that begins with black, stay if 16 bits hold them. Of colors, each but black and
    transparent is one instance. `void`, {dtype: value}, becomes `IGNORED`.
    """
    values = _read_values(path)
    is_void = values == (void or {}).get(values.dtype)
    values = np.where(is_void, 0, values)
    if not (np.isfinite(values) & (values == np.rint(values)) & (values >= 0)).all():
        found = f"found values from {values.min():g} to {values.max():g}"
        raise UserError(f"{path}: {found}, expected instance ids, whole numbers from 0 on; convert it")
    if values.max() > IGNORED:
        distinct, ids = np.unique(np.append(0, values.ravel()), return_inverse=True)
        if len(distinct) - 1 > MOST:
            raise UserError(f"{path}: found {len(distinct) - 1} instances in one image, expected at most {MOST}")
        values = ids[1:].reshape(values.shape)
    return np.where(is_void, IGNORED, values.astype(np.uint16))


def _read_values(path):
    """(h, w) values of a label image; of colors uint64, 0 where black or transparent, else above `IGNORED`."""
    data = files.read_bytes(path)
    if kind := files.lossy_kind(data):
        found = f"found {kind}, whose compression changes values"
        raise UserError(f"{path}: {found}, expected a lossless label, as png; export it anew, don't convert it")
    if (count := files.count_images(data)) > 1:
        raise UserError(f"{path}: found {count} images, expected one; write a file for each")
    values, numbers = files.decode_image(data, path), files.palette_ids(data)
    channels = np.moveaxis(np.atleast_3d(values if numbers is None else numbers), 2, 0)
    if len(channels) < 3:
        return channels[0]
    blue, green, red = channels[:3].astype(np.uint64)
    packed = (red << 32) | (green << 16) | blue
    return np.where((packed > 0) & (channels[3:] > 0).all(axis=0), packed + (1 << 48), 0)


LAYOUTS = {  # form: what tells it, images' folder and ending, labels', what reads a label
    "voc": ("SegmentationObject/*", "JPEGImages", "", "SegmentationObject", "", _read_voc),
    "cityscapes": ("**/*_instanceIds.png", "leftImg8bit", "_leftImg8bit", "gtFine", "_gtFine_instanceIds", _read_scene),
    "cvppp": ("**/*_rgb.png", "", "_rgb", "", "_label", read_ids),
}


def read_mask_folders(source):
    """Images of a folder of folders, one `ID/images/*.png` and `ID/masks/*.png`, one per instance."""
    folders = [path for path in sorted(source.path.iterdir()) if path.is_dir()]
    folders = [path for path in folders if not path.name.startswith((".", "__MACOSX"))]
    return [partial(require, path, _read_folder, path) for path in folders]


def _read_folder(folder):
    images, is_annotated = list_files(folder / "images", IMAGE_SUFFIXES), (folder / "masks").is_dir()
    masks = list_files(folder / "masks", IMAGE_SUFFIXES) if is_annotated else []
    if len(images) != 1:
        expected = f"one; where each has a label in masks/, name {folder} itself"
        raise UserError(f"{folder / 'images'}: found {len(images)} images, expected {expected}")
    shapes = [AnnotatedShape(path, None, partial(_place_file, path), where=str(path)) for path in masks]
    name = f"{folder.name}/{images[0].name}"
    return AnnotatedImage(name, str(folder), images[0], shapes=shapes, is_annotated=is_annotated)


def _place_file(path, size):
    mask = _read_values(path) > 0
    if mask.shape != size:
        found, expected = (f"{width}x{height}" for height, width in (mask.shape, size))
        raise ValueError(f"found {found} pixels, expected {expected} as the image has; fix it")
    return mask, 0, 0
