"""Annotations that are images: label images of any kind, and one mask file per instance."""

from collections import Counter
from functools import partial

import numpy as np

from data.files import IMAGE_SUFFIXES, count_images, lossy_kind, pair_up, palette_ids
from run.command import UserError

from .shapes import MOST, AnnotatedImage, AnnotatedShape, Painted, PlacedMask, paint
from .sources import MORE_PAGES, attempt, decode_raw, index_by_stem, list_files, read_bytes

LABEL_FOLDERS = ("labels", "masks")
ENDINGS = ("", "_mask", "_masks", "_label", "_labels")  # of a label's stem, after its image's


def read_label_images(source):
    """Images of `images/` and their label images of `labels/` or `masks/`, in the same subfolders."""
    folder = source.images or source.path / "images"
    folders = [source.path / name for name in LABEL_FOLDERS]
    label_folder = next((path for path in folders if path.is_dir()), folders[0])
    labels, label_errors = index_by_stem(list_files(label_folder, IMAGE_SUFFIXES, say=True), label_folder)
    images, image_errors = index_by_stem(list_files(folder, IMAGE_SUFFIXES, say=True), folder)
    pairs, unpaired = pair_up(images, labels, ENDINGS)
    missing = f"found no label of that name in {label_folder}, expected one per image; add it"
    alone = f"found no image of that name in {folder}, expected one; remove it"
    results = [
        _labeled_image(path, folder, label) if label else UserError(f"{path}: {missing}") for path, label in pairs
    ]
    return results + label_errors + image_errors + [UserError(f"{path}: {alone}") for path in unpaired]


def _labeled_image(path, folder, label):
    name = path.relative_to(folder).as_posix()
    return AnnotatedImage(name, partial(read_bytes, path), str(label), path, label=partial(_read_label, label))


def _read_label(path):
    return Painted(read_ids(path), Counter({MORE_PAGES: count_images(read_bytes(path)) - 1}))


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
    distinct, ids = np.unique(values, return_inverse=True)
    first = int(distinct[0] != 0)
    if len(distinct) - 1 + first > MOST:
        raise UserError(f"{path}: found {len(distinct) - 1 + first} instances in one image, expected at most {MOST}")
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
    return decode_raw(data, path)


def is_mask_folders(path):
    """Whether a folder holds folders with `masks/`."""
    return any((folder / "masks").is_dir() for folder in path.iterdir())


def read_mask_folders(source):
    """Images of a folder of folders, `ID/images/*.png` (one) and `ID/masks/*.png` (one per instance)."""
    if source.images:
        raise UserError(f"--images {source.images}: found with masks, whose images lie beside them; leave it out")
    if not source.path.is_dir():
        raise UserError(f"{source.path}: found a file, expected a folder of ID/images/ and ID/masks/; name another one")
    folders = [path for path in sorted(source.path.iterdir()) if path.is_dir()]
    return [attempt(_read_folder, path) for path in folders if not path.name.startswith((".", "__MACOSX"))]


def _read_folder(folder):
    files = list_files(folder / "images", IMAGE_SUFFIXES)
    if len(files) != 1:
        raise UserError(
            f"{folder / 'images'}: found {len(files)} images, expected one, whose instances are the files of "
            f"masks/; where each of these is the label of an image, name {folder} itself"
        )
    masks = list_files(folder / "masks", IMAGE_SUFFIXES, say=True)
    image = AnnotatedImage(f"{folder.name}/{files[0].name}", partial(read_bytes, files[0]), str(folder), files[0])
    if masks:
        image.label = partial(_paint_masks, masks)
    return image


def _paint_masks(paths):
    # of the size of the first, so that an image that is shown turned is taken as they have it
    size = _read_mask(paths[0]).shape
    return paint([AnnotatedShape(path, (), partial(_place_mask, path), str(path)) for path in paths], size)


def _place_mask(path, size):
    mask = _read_mask(path)
    if mask.shape != size:
        raise ValueError(
            f"found {mask.shape[1]}x{mask.shape[0]} pixels, expected {size[1]}x{size[0]} as in the other masks; "
            "make it again"
        )
    return PlacedMask(mask, 0, 0)


def _read_mask(path):
    values = _read_lossless(path)
    if values.ndim == 3 and values.shape[2] > 2:
        values = _pack_colors(values)
    return values > 0 if values.ndim == 2 else values[:, :, 0] > 0
