"""Annotations that are images: label images of ids or colors, or one mask file per instance."""

from functools import partial

import numpy as np

from data import files
from data.files import IGNORED, IMAGE_SUFFIXES
from run.command import UserError

from .shapes import MOST, AnnotatedShape
from .sources import AnnotatedImage, list_files, pair_files, require

LABEL_FOLDERS = ("labels", "masks")
ENDINGS = ("", "_mask", "_masks", "_label", "_labels")  # of a label's stem, after its image's


def read_label_images(source):
    """Images of `images/` and their label images of `labels/` or `masks/`, in the same subfolders."""
    folders = [source.path / name for name in LABEL_FOLDERS]
    labels = files.list_by_stem(next((path for path in folders if path.is_dir()), folders[0]), IMAGE_SUFFIXES, True)
    folder = source.images or source.path / "images"
    return [partial(_read_pair, folder, *pair) for pair in pair_files(folder, labels, ENDINGS)]


def _read_pair(folder, image, label):
    if not image or not label:
        lacking = "image" if label else "label"
        raise UserError(f"{image or label}: found no {lacking} of that name, expected one; add it or remove this file")
    return AnnotatedImage(image.relative_to(folder).as_posix(), str(label), image, label=label)


def read_ids(path):
    """Instance ids of a label image, (h, w) uint16; UserError for no image, a lossy one, or what can't be ids.

    A gray channel, or a palette that begins with black, holds the ids, which stay if 16 bits hold them. Of colors, each
    but black and transparent is one instance.
    """
    values = _read_values(path)
    if not (np.isfinite(values) & (values == np.rint(values)) & (values >= 0)).all():
        found = f"found values from {values.min():g} to {values.max():g}"
        raise UserError(f"{path}: {found}, expected whole numbers from 0 on as instance ids; convert the label")
    if values.max() > IGNORED:
        distinct, ids = np.unique(np.append(0, values.ravel()), return_inverse=True)
        if len(distinct) - 1 > MOST:
            raise UserError(f"{path}: found {len(distinct) - 1} instances in one image, expected at most {MOST}")
        values = ids[1:].reshape(values.shape)
    return values.astype(np.uint16)


def _read_values(path):
    """(h, w) of a label image's values; of colors uint64, 0 where black or transparent, above `IGNORED` elsewhere."""
    data = files.read_bytes(path)
    if kind := files.lossy_kind(data):
        found = f"found {kind}, whose compression changes values and so invents instances"
        raise UserError(f"{path}: {found}, expected a lossless label, as png; export it anew, don't convert this file")
    if (count := files.count_images(data)) > 1:
        raise UserError(f"{path}: found {count} images in it, expected one; write a file for each")
    values, numbers = files.decode_image(data, path), files.palette_ids(data)
    channels = np.moveaxis(np.atleast_3d(values if numbers is None else numbers), 2, 0)
    if len(channels) < 3:
        return channels[0]
    blue, green, red = channels[:3].astype(np.uint64)
    packed = (red << 32) | (green << 16) | blue
    return np.where((packed > 0) & (channels[3:] > 0).all(axis=0), packed + (1 << 48), 0)


def read_mask_folders(source):
    """Images of a folder of folders, `ID/images/*.png` (one) and `ID/masks/*.png` (one per instance)."""
    folders = [path for path in sorted(source.path.iterdir()) if path.is_dir()]
    folders = [path for path in folders if not path.name.startswith((".", "__MACOSX"))]
    return [partial(require, path, _read_folder, path) for path in folders]


def _read_folder(folder):
    images, masks = (list_files(folder / name, IMAGE_SUFFIXES) for name in ("images", "masks"))
    if len(images) != 1:
        expected = f"one, of masks/; where each file of it is a label, name {folder} itself"
        raise UserError(f"{folder / 'images'}: found {len(images)} images, expected {expected}")
    shapes = [AnnotatedShape(path, None, partial(_place_file, path), where=str(path)) for path in masks]
    return AnnotatedImage(f"{folder.name}/{images[0].name}", str(folder), images[0], shapes=shapes)


def _place_file(path, size):
    mask = _read_values(path) > 0
    if mask.shape != size:
        found, expected = (f"{width}x{height}" for height, width in (mask.shape, size))
        raise ValueError(f"found {found} pixels, expected {expected} as in the image; make it again")
    return mask, 0, 0
