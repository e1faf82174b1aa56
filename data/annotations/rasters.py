"""Annotations that are images: label images of any kind, and one mask file per instance."""

from collections import Counter
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from data.files import IMAGE_SUFFIXES, count_images, lossy_kind, pair_up, palette_ids
from run.command import UserError

from .files import MORE_PAGES, attempt, by_key, decode, list_files, read_bytes
from .shapes import MOST, Entry, Shape, paint

LABEL_FOLDERS = ("labels", "masks")
ENDINGS = ("", "_mask", "_masks", "_label", "_labels")  # of a label's stem, after its image's


def read_label_images(source, images, line_width):
    """Entries of a folder with `images/` and `labels/` or `masks/`, one label image each, in the same subfolders.

    Args:
        source: the folder.
        images: folder in place of `images/`, or None.
        line_width: not used.

    Raises:
        UserError: a folder is missing.
    """
    source = Path(source)
    folder = Path(images) if images else source / "images"
    label_folder = next((source / name for name in LABEL_FOLDERS if (source / name).is_dir()), source / "labels")
    labels, twice = by_key(list_files(label_folder, IMAGE_SUFFIXES, say=True), label_folder)
    images, again = by_key(list_files(folder, IMAGE_SUFFIXES, say=True), folder)
    pairs, more = pair_up(images, labels, ENDINGS)
    missing = f"found no label of that name in {label_folder}, expected one per image; add it"
    alone = f"found no image of that name in {folder}, expected one; remove it"
    entries = [_label_entry(path, folder, label) if label else UserError(f"{path}: {missing}") for path, label in pairs]
    return entries + twice + again + [UserError(f"{path}: {alone}") for path in more]


def _label_entry(path, folder, label):
    name = path.relative_to(folder).as_posix()
    return Entry(name, partial(read_bytes, path), str(label), path, label=lambda: _read_label(label))


def _read_label(path):
    return read_ids(path), Counter({MORE_PAGES: count_images(read_bytes(path)) - 1})


def read_ids(path):
    """Instance ids of a label image.

    One gray channel, or a palette that begins with black, holds the ids, as they are if 16 bits hold them. Of colors,
    each is one instance, numbered in the order of their values; black and transparent is background.

    Returns:
        (h, w) uint16.

    Raises:
        UserError: no image, one that was compressed with loss, or values that can't be ids.
    """
    values = _read_lossless(path)
    numbers = palette_ids(read_bytes(path))
    values = values if numbers is None else numbers
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[:, :, 0]
    if values.ndim == 3:
        values = _pack_colors(values)
    if values.dtype.kind == "f" and not (np.isfinite(values) & (values == np.rint(values))).all():
        raise UserError(f"{path}: found fractions, expected whole numbers as instance ids; convert the label")
    if values.min() < 0:
        raise UserError(f"{path}: found the id {values.min():g}, expected ids from 0 on; convert the label")
    if values.max() <= MOST:
        return values.astype(np.uint16)
    found, ids = np.unique(values, return_inverse=True)
    first = int(found[0] != 0)
    if len(found) - 1 + first > MOST:
        raise UserError(f"{path}: found {len(found) - 1 + first} instances in one image, expected at most {MOST}")
    return (ids.reshape(values.shape) + first).astype(np.uint16)


def _pack_colors(values):
    """One uint64 per pixel of (h, w, 3 or 4) BGR(A), 0 where it is black or transparent, above `MOST` elsewhere."""
    red, green, blue = (values[:, :, channel].astype(np.uint64) for channel in (2, 1, 0))
    packed = (red << 32) | (green << 16) | blue
    if values.shape[2] == 4:
        packed[values[:, :, 3] == 0] = 0
    return np.where(packed > 0, packed + (1 << 48), 0)


def _read_lossless(path):
    data = read_bytes(path)
    kind = lossy_kind(data)
    if kind:
        raise UserError(
            f"{path}: found {kind}, whose compression changes values and so invents instances, expected a png or "
            "another lossless label; export it anew, don't convert this file"
        )
    return decode(data, cv2.IMREAD_UNCHANGED, path)


def is_mask_folders(source):
    """Whether a folder holds folders with `images/` and `masks/`."""
    return any((folder / "masks").is_dir() for folder in Path(source).iterdir())


def read_mask_folders(source, images, line_width):
    """Entries of a folder of folders, `ID/images/*.png` (one) and `ID/masks/*.png` (one per instance).

    Args:
        source: the folder.
        images: must be None, each folder has its own.
        line_width: not used.

    Raises:
        UserError: a folder without its image or masks, or with several images.
    """
    if images:
        raise UserError(f"--images {images}: found with masks, whose images lie beside them; leave it out")
    if not Path(source).is_dir():
        raise UserError(f"{source}: found a file, expected a folder of ID/images/ and ID/masks/; name another one")
    entries = []
    for folder in sorted(Path(source).iterdir()):
        if folder.is_dir() and not folder.name.startswith((".", "__MACOSX")):
            entries.append(attempt(_read_folder, folder))
    return entries


def _read_folder(folder):
    found = list_files(folder / "images", IMAGE_SUFFIXES)
    if len(found) != 1:
        raise UserError(
            f"{folder / 'images'}: found {len(found)} images, expected one, whose instances are the files of "
            f"masks/; where each of these is the label of an image, name {folder} itself"
        )
    masks = list_files(folder / "masks", IMAGE_SUFFIXES, say=True)
    entry = Entry(f"{folder.name}/{found[0].name}", partial(read_bytes, found[0]), str(folder), found[0])
    if masks:
        entry.label = partial(_paint_masks, masks)
    return entry


def _paint_masks(paths):
    # of the size of the first, so that an image that is shown turned is taken as they have it
    size = _read_mask(paths[0]).shape
    return paint([Shape(path, (), partial(_place_mask, path), str(path)) for path in paths], size)


def _place_mask(path, size):
    mask = _read_mask(path)
    if mask.shape != size:
        raise ValueError(
            f"found {mask.shape[1]}x{mask.shape[0]} pixels, expected {size[1]}x{size[0]} as in the other masks; "
            "make it again"
        )
    return mask, 0, 0


def _read_mask(path):
    values = _read_lossless(path)
    if values.ndim == 3 and values.shape[2] > 2:
        values = _pack_colors(values)
    return values > 0 if values.ndim == 2 else values[:, :, 0] > 0
