"""Annotations that are images: label images of any kind, of VOC, Cityscapes and CVPPP, one mask file per instance."""

from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np

from data import files
from data.files import IGNORED, IMAGE_SUFFIXES, list_by_stem
from run.command import UserError

from .shapes import MOST, AnnotatedShape, Painted, paint
from .sources import MORE_PAGES, AnnotatedImage, attempt, list_files, pair_files

LABEL_FOLDERS = ("labels", "masks")
ENDINGS = ("", "_mask", "_masks", "_label", "_labels")  # of a label's stem, after its image's
OBJECT_FOLDERS = {"SegmentationObject": "SegmentationClass", "SegmentationObjectPNG": "SegmentationClassPNG"}
# VOC's 255, and what `_pack_colors` makes of its color; where ids have more bits, 255 is one of them
VOID = {np.dtype(np.uint8): 255, np.dtype(np.uint64): (1 << 48) | (224 << 32) | (224 << 16) | 192}
GT_FOLDERS = ("gtFine", "gtCoarse")
COUNTED = range(24, 34)  # Cityscapes' classes of instances, person to bicycle; these ids themselves are groups


def read_label_images(source):
    """Images of `images/` and their label images of `labels/` or `masks/`, in the same subfolders."""
    folders = [source.path / name for name in LABEL_FOLDERS]
    labels = list_by_stem(next((path for path in folders if path.is_dir()), folders[0]), IMAGE_SUFFIXES, True)
    return _label_images(source.images or source.path / "images", labels, read_ids, ENDINGS)


def read_voc(source):
    """Images of `JPEGImages/` with the ids of `SegmentationObject/`, where 255 is ignored."""
    folders = [name for name in OBJECT_FOLDERS if (source.path / name).is_dir()] or list(OBJECT_FOLDERS)
    labels = list_by_stem(source.path / folders[-1], IMAGE_SUFFIXES, True)
    read_label = partial(_read_voc_ids, source.path / OBJECT_FOLDERS[folders[-1]])
    return _label_images(source.images or source.path / "JPEGImages", labels, read_label)


def read_cityscapes(source):
    """Images of `leftImg8bit/` with the ids of `gtFine/` or `gtCoarse/`; these folders or the one that has them."""
    label_folder = next((path for name in GT_FOLDERS if (path := source.path / name).is_dir()), source.path)
    endings = [f"_{name}_instanceIds" for name in GT_FOLDERS]
    labels = list_by_stem(label_folder, IMAGE_SUFFIXES, True, endings, say=False)
    names = ["leftImg8bit" if name in GT_FOLDERS else name for name in label_folder.absolute().parts]
    return _label_images(source.images or Path(*names), labels, _read_cityscapes_ids, image_endings=["_leftImg8bit"])


def read_cvppp(source):
    """Images `plantNNN_rgb.png` with the ids of `plantNNN_label.png` beside them, without `_fg` and `_centers`."""
    labels = list_by_stem(source.path, IMAGE_SUFFIXES, True, ["_label"], say=False)
    return _label_images(source.images or source.path, labels, read_ids, image_endings=["_rgb"])


def _label_images(folder, labels, read_label, *endings, **image_endings):
    """Images of a folder with the ids that `read_label` gives for their labels' paths; arguments as of `pair_files`."""
    pairs, results = pair_files(folder, labels, *endings, **image_endings)
    for path, label in pairs:
        image = AnnotatedImage(path.relative_to(folder).as_posix(), str(label or path), path, is_annotated=bool(label))
        image.label = partial(_paint_label, read_label, label) if label else None
        results.append(image)
    return results


def _paint_label(read_label, path):
    return Painted(read_label(path), [], Counter({MORE_PAGES: files.count_images(files.read_bytes(path)) - 1}))


def _read_voc_ids(class_folder, path):
    """Ids without those of background and ignored classes: labelme parts these only in SegmentationClass."""
    ids, class_path = read_ids(path, has_void=True), class_folder / path.name
    if not class_path.is_file():
        return ids
    classes = read_ids(class_path, has_void=True)
    if classes.shape != ids.shape:
        raise UserError(f"{class_path}: found {classes.shape}, expected {ids.shape} as in {path}; export both")
    return np.where(np.isin(classes, (0, IGNORED)), classes, ids)


def _read_cityscapes_ids(path):
    ids = read_ids(path)
    if ids.max() < 4:  # what isn't in a scene, as the image's border
        raise UserError(f"{path}: found no class, as in test images, expected labels; name gtFine/train, or so")
    return np.where(np.isin(ids, COUNTED), IGNORED, np.where(ids < 1000, 0, ids)).astype(np.uint16)


def read_ids(path, has_void=False):
    """Instance ids of a label image, (h, w) uint16; UserError for no image, a lossy one, or what can't be ids.

    A gray channel, or a palette that begins with black, holds the ids, which stay if 16 bits hold them. Of colors, each
    but black and transparent is one instance. With `has_void`, VOC's 255 or its color is `IGNORED`.
    """
    values = _read_values(path)
    is_void = (values == VOID.get(values.dtype)) & has_void
    values = np.where(is_void, 0, values)
    if not (np.isfinite(values) & (values == np.rint(values)) & (values >= 0)).all():
        found = f"found values from {values.min():g} to {values.max():g}"
        raise UserError(f"{path}: {found}, expected whole numbers from 0 on as instance ids; convert the label")
    if values.max() > IGNORED:
        distinct, ids = np.unique(np.append(0, values.ravel()), return_inverse=True)
        if len(distinct) - 1 > MOST:
            raise UserError(f"{path}: found {len(distinct) - 1} instances in one image, expected at most {MOST}")
        values = ids[1:].reshape(values.shape)
    return np.where(is_void, IGNORED, values.astype(np.uint16))


def _read_values(path):
    """(h, w) of a label image's values, uint64 if they stand for colors."""
    data = files.read_bytes(path)
    if kind := files.lossy_kind(data):
        found = f"found {kind}, whose compression changes values and so invents instances"
        raise UserError(f"{path}: {found}, expected a lossless label, as png; export it anew, don't convert this file")
    values, numbers = files.decode_image(data, path), files.palette_ids(data)
    values = np.atleast_3d(values if numbers is None else numbers)
    return values[:, :, 0] if values.shape[2] < 3 else _pack_colors(values)


def _pack_colors(values):
    """One uint64 per pixel of (h, w, 3 or 4) BGR(A), 0 where it is black or transparent, above `IGNORED` elsewhere."""
    blue, green, red = np.moveaxis(values[:, :, :3].astype(np.uint64), 2, 0)
    packed = (red << 32) | (green << 16) | blue
    if values.shape[2] == 4:
        packed[values[:, :, 3] == 0] = 0
    return np.where(packed > 0, packed + (1 << 48), 0)


def read_mask_folders(source):
    """Images of a folder of folders, `ID/images/*.png` (one) and `ID/masks/*.png` (one per instance)."""
    if source.images:
        raise UserError(f"--images {source.images}: found with masks, whose images lie beside them; leave it out")
    folders = [path for path in sorted(source.path.iterdir()) if path.is_dir()]
    return [attempt(path, _read_folder, path) for path in folders if not path.name.startswith((".", "__MACOSX"))]


def _read_folder(folder):
    images = list_files(folder / "images", IMAGE_SUFFIXES)
    if len(images) != 1:
        expected = f"one, with a file of masks/ for each instance; where each is an image's label, name {folder} itself"
        raise UserError(f"{folder / 'images'}: found {len(images)} images, expected {expected}")
    image = AnnotatedImage(f"{folder.name}/{images[0].name}", str(folder), images[0])
    image.is_annotated = (folder / "masks").is_dir()
    masks = list_files(folder / "masks", IMAGE_SUFFIXES, say=True) if image.is_annotated else []
    image.label = partial(_paint_masks, masks) if masks else None
    return image


def _paint_masks(paths):
    size = _read_values(paths[0]).shape  # so that an image that is shown turned is taken as they have it
    return paint([AnnotatedShape(path, (), partial(_place_file, path), where=str(path)) for path in paths], size)


def _place_file(path, size):
    mask = _read_values(path) > 0
    if mask.shape != size:
        found, expected = (f"{width}x{height}" for height, width in (mask.shape, size))
        raise ValueError(f"found {found} pixels, expected {expected} as in the other masks; make it again")
    return mask, 0, 0
