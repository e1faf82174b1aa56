"""Files of annotations: finding, reading and checking them, and the images that they are of."""

import io
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

import cv2
import numpy as np

from data.files import (
    IMAGE_SUFFIXES,
    decode,
    is_turn_unknown,
    normalize_name,
    pair_up,
    read_color,
    select_files,
    walk_files,
)
from run.command import UserError

FAR = 1e6  # no coordinate is larger
MORE_PAGES = "pages or frames after a file's first"


@dataclass
class Source:
    """What the importer reads."""

    path: Path  # the annotations, file or folder
    images: Path | None = None  # folder of the images, or None: where the annotations say, or near them
    line_width: int = 7  # pixels of drawn lines

    def one_file(self, kind, suffix, fits=lambda path: True):
        """`path` if it is a file, else its only file of a suffix for which `fits` holds; raises UserError."""
        if self.path.is_file():
            return self.path
        files = [path for path in list_files(self.path, (suffix,)) if fits(path)]
        if len(files) != 1:
            names = f": {', '.join(path.name for path in files[:3])}" if files else ""
            raise UserError(f"{self.path}: found {len(files)} {kind} files{names}, expected one; name the file")
        return files[0]


def attempt(function, *args):
    """What a function returns, or the UserError that it raises: one bad image is no reason to leave the others."""
    try:
        return function(*args)
    except UserError as error:
        return error


def list_files(folder, suffixes, recursive=True, say=False):
    """`files.select_files` of a folder and its subfolders; raises UserError if there is none."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder, expected {' '.join(suffixes)} in it; name another one")
    return select_files(walk_files(folder) if recursive else folder.iterdir(), suffixes, folder, say)


def index_by_stem(paths, folder, endings=("",)):
    """({path relative to the folder, without suffix: path}, UserErrors of files that differ in the suffix only).

    Only of stems with one of the endings, which aren't part of the key.
    """
    files, errors = {}, []
    for path in paths:
        ending = next((ending for ending in endings if path.stem.endswith(ending)), None)
        if ending is None:
            continue
        key = (path.relative_to(folder).parent / path.stem.removesuffix(ending)).as_posix()
        if files.setdefault(key, path) is not path:
            same = f"{files[key].name} has the same name but for the suffix, expected one file of it; remove one"
            errors.append(UserError(f"{path}: {same}"))
    return files, errors


def pair_files(folder, label_folder, labels, endings=("",), label_endings=("",), image_endings=("",)):
    """Images of a folder, and which of the labels is of their name, in the same subfolders.

    Args:
        folder: of the images.
        label_folder, labels: of the labels, and their paths.
        endings: what may follow an image's name in its label's.
        label_endings, image_endings: files without one of them are passed over, and it is no part of the name.

    Returns:
        (list of (image, label or None), list of UserErrors).
    """
    labels, label_errors = index_by_stem(labels, label_folder, label_endings)
    images, image_errors = index_by_stem(list_files(folder, IMAGE_SUFFIXES, say=True), folder, image_endings)
    pairs, unpaired = pair_up(images, labels, endings)
    alone = f"found no image of that name in {folder}, expected one; remove it"
    return pairs, label_errors + image_errors + [UserError(f"{path}: {alone}") for path in unpaired]


def read_bytes(path):
    """Content of a file; raises UserError."""
    if not Path(path).is_file():  # opening a named pipe would wait for its writer
        raise UserError(f"{path}: found no regular file of that name, expected one; name another")
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}, expected a file that can be read; make it so") from None


def read_text(path):
    """Text of a file, with or without a byte order mark; raises UserError."""
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{path}: found bytes that are no UTF-8 text, expected it; save it as UTF-8") from None


def read_json(path, lenient=False):
    """The object of a JSON file as a dict.

    Args:
        path: of the file.
        lenient: {} for JSON that is no object: among annotations other programs leave lists of their own.

    Raises:
        UserError: no JSON, or no object.
    """
    text = read_text(path)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise UserError(f"{path}: found no JSON, or a part of it, expected one object; export it again") from None
    if not isinstance(value, dict):
        if lenient:
            return {}
        if '"original_width"' in text:
            raise UserError(
                f"{path}: found Label Studio's JSON, expected COCO; export 'COCO with Images' there, of brushed masks "
                "'Brush labels to COCO'"
            )
        raise UserError(f"{path}: found a JSON {type(value).__name__}, expected an object; export it again")
    return value


def get_value(entry, key, kinds, where, default=None, most=FAR):
    """`entry[key]`, checked.

    Args:
        entry: what JSON gave, expected to be a dict.
        key: str.
        kinds: type or tuple of types; a bool is no number, and a number is finite and below `most`.
        where: file and place in it, for the message.
        default: what stands for a value that is missing or null; None: it must be there.
        most: limit of a number; that of ids, which may be times, is infinite.

    Raises:
        UserError: missing, or of another type.
    """
    kinds = kinds if isinstance(kinds, tuple) else (kinds,)
    value = entry.get(key) if isinstance(entry, dict) else None
    if value is None and default is not None:
        return default
    if type(value) not in kinds or type(value) in (int, float) and not abs(value) < most:
        names = " or ".join(kind.__name__ for kind in kinds)
        raise UserError(f"{where}: found {_shorten(value)} for {key}, expected {names}; fix it")
    return value


def _shorten(value):
    text = "nothing" if value is None else repr(value) if isinstance(value, (int, float, str)) else type(value).__name__
    return " ".join(text.split())[:60]


def read_number(text, where, least=-FAR, most=FAR):
    """A finite number from text; raises UserError."""
    try:
        value = float(text)
    except (TypeError, ValueError):
        value = np.nan
    if not least <= value <= most:
        raise UserError(f"{where}: found {_shorten(text)}, expected a number from {least:g} to {most:g}; fix it")
    return value


def read_points(value, least, where):
    """Points of JSON, [[x, y], ...], as (N, 2) float64; raises UserError if they are none or fewer than `least`."""
    if not isinstance(value, list) or not all(map(_is_point, value)):
        raise UserError(f"{where}: found something else, expected points as pairs of finite numbers; fix it")
    if len(value) < least:
        raise UserError(f"{where}: found {len(value)} points, expected at least {least}; fix or remove it")
    return np.array(value, float).reshape(-1, 2)


def _is_point(value):
    is_pair = isinstance(value, list) and len(value) == 2
    return is_pair and all(type(number) in (int, float) and abs(number) < FAR for number in value)


def read_size(entry, height, width, where):
    """(h, w) of a JSON object, or None if it states neither; raises UserError unless positive whole numbers."""
    if entry.get(height) is None and entry.get(width) is None:
        return None
    size = tuple(get_value(entry, key, (int, float), where) for key in (height, width))
    if min(size) < 1 or any(value % 1 for value in size):
        raise UserError(f"{where}: found an image of {size[1]}x{size[0]} pixels, expected whole numbers; fix it")
    return int(size[0]), int(size[1])


@lru_cache(maxsize=64)
def _files_by_name(folder):
    return (
        {normalize_name(path.name): path for path in sorted(folder.iterdir(), reverse=True)} if folder.is_dir() else {}
    )


def find_image(name, folders, where):
    """Path of the image that an annotation names.

    Args:
        name: as annotated, perhaps with Windows' backslashes, an absolute path of another machine, or Unicode and
            upper case written in another way than the file system does.
        folders: to look in, by the whole name, then by its last part.
        where: annotation, for the message.

    Raises:
        UserError: not there.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    for candidate in (folder / part for folder in folders for part in (path, path.name)):
        try:
            if not candidate.is_file():
                candidate = _files_by_name(candidate.parent).get(normalize_name(candidate.name))
            if candidate and candidate.is_file():
                return candidate
        except (OSError, ValueError):  # a name too long for the file system, or with a null character
            continue
    places = ", ".join(dict.fromkeys(map(str, folders)))
    raise UserError(
        f"{where}: found no image {_shorten(name)} in {places}, expected it there; --images names its folder"
    )


def decode_image(data, read, where):
    """Decode bytes by `read`, as `cv2.imdecode` does; raises UserError for what is no image or was cut off."""
    image, damage = decode(data, read)
    if image is None:
        raise UserError(f"{where}: {damage}, expected an image; replace it")
    return image


def decode_raw(data, where):
    """As `decode_image`, channels and bits as they are."""
    return decode_image(data, lambda array: cv2.imdecode(array, cv2.IMREAD_UNCHANGED), where)


@dataclass
class AnnotatedView:
    """The pixels of an image as they were annotated."""

    pixels: np.ndarray  # (h, w, 3) uint8 BGR, 16 bits cut to 8 as in training
    suffix: str  # under which training reads the file so, or "" if it doesn't
    is_assumed: bool  # nothing tells whether it was annotated as shown or as stored


def read_view(data, size, where):
    """The view of an image on which its annotation was made.

    A photo may state that it is to be shown turned (EXIF), and tools annotate it so; training, too, sees it so. Where
    the annotation's size fits only the pixels as they are stored, these are the view.

    Args:
        data: bytes of the image file.
        size: (h, w) that the annotation states, or None.
        where: image, for messages.

    Returns:
        `AnnotatedView`.

    Raises:
        UserError: no image, or one of another size.
    """
    if data.startswith((b"II*\0", b"MM\0*")):
        kind = decode_raw(data, where).dtype
        if kind not in (np.uint8, np.uint16):
            raise UserError(f"{where}: found pixels of {kind}, expected 8 or 16 bits; convert the image")
    shown = decode_image(data, read_color, where)
    if not size or shown.shape[:2] == size:
        return AnnotatedView(shown, _suffix_of(data), is_turn_unknown(io.BytesIO(data), size))
    stored = decode_image(data, lambda array: read_color(array, cv2.IMREAD_IGNORE_ORIENTATION), where)
    if stored.shape[:2] != size:
        raise UserError(
            f"{where}: found {shown.shape[1]}x{shown.shape[0]} pixels, expected {size[1]}x{size[0]} as its "
            "annotation says; name the images that were annotated"
        )
    return AnnotatedView(stored, "", is_assumed=False)


def _suffix_of(data):
    """Suffix of what training reads, by the content; "" for anything else."""
    kinds = {b"\xff\xd8": ".jpg", b"\x89PNG": ".png", b"BM": ".bmp"}
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return ".webp"
    return next((suffix for start, suffix in kinds.items() if data.startswith(start)), "")
