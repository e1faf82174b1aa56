"""Files of annotations: finding, reading and checking them, and names for what is made of them."""

import json
from collections import Counter
from functools import lru_cache
from pathlib import Path, PurePosixPath

import cv2
import numpy as np

from data.files import decode as decode_bytes
from data.files import fold, read_color, select_files, walk_files
from run.command import UserError

FAR = 1e6  # no coordinate is larger
MORE_PAGES = "pages or frames after a file's first"


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


def by_key(paths, folder):
    """({path relative to the folder, without suffix: path}, UserErrors of files that differ in the suffix only)."""
    files, errors = {}, []
    for path in paths:
        key = (path.relative_to(folder).parent / path.stem).as_posix()
        if files.setdefault(key, path) is not path:
            same = f"{files[key].name} has the same name but for the suffix, expected one file of it; remove one"
            errors.append(UserError(f"{path}: {same}"))
    return files, errors


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


def read_json(path):
    """The object of a JSON file as a dict; raises UserError."""
    value = _parse_json(path)
    if not isinstance(value, dict):
        raise UserError(f"{path}: found a JSON {type(value).__name__}, expected an object; export it again")
    return value


def read_any_json(path):
    """As `read_json`, but {} for JSON that is no object: among annotations other programs leave lists of their own."""
    value = _parse_json(path)
    return value if isinstance(value, dict) else {}


def _parse_json(path):
    text = read_text(path)
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise UserError(f"{path}: found no JSON, or a part of it, expected one object; export it again") from None


def get(entry, key, kind, where, default=None, most=FAR):
    """`entry[key]`, checked.

    Args:
        entry: what JSON gave, expected to be a dict.
        key: str.
        kind: type or tuple of types; a bool is no number, and a number is finite and below `most`.
        where: file and place in it, for the message.
        default: what stands for a value that is missing or null; None: it must be there.
        most: limit of a number; that of ids, which may be times, is infinite.

    Raises:
        UserError: missing, or of another type.
    """
    kinds = kind if isinstance(kind, tuple) else (kind,)
    value = entry.get(key) if isinstance(entry, dict) else None
    if value is None and default is not None:
        return default
    right = type(value) in kinds and (type(value) not in (int, float) or abs(value) < most)
    if not right:
        names = " or ".join(one.__name__ for one in kinds)
        raise UserError(f"{where}: found {_short(value)} for {key}, expected {names}; fix it")
    return value


def _short(value):
    text = "nothing" if value is None else repr(value) if isinstance(value, (int, float, str)) else type(value).__name__
    return " ".join(text.split())[:60]


def read_number(text, where, least=-FAR, most=FAR):
    """A finite number from text; raises UserError."""
    try:
        value = float(text)
    except (TypeError, ValueError):
        value = np.nan
    if not least <= value <= most:
        raise UserError(f"{where}: found {_short(text)}, expected a number from {least:g} to {most:g}; fix it")
    return value


def read_points(value, least, where):
    """Points of JSON, [[x, y], ...], as (N, 2) float64; raises UserError if they are none or fewer than `least`."""
    right = isinstance(value, list) and all(
        isinstance(point, list) and len(point) == 2 and all(type(x) in (int, float) and abs(x) < FAR for x in point)
        for point in value
    )
    if not right:
        raise UserError(f"{where}: found something else, expected points as pairs of finite numbers; fix it")
    if len(value) < least:
        raise UserError(f"{where}: found {len(value)} points, expected at least {least}; fix or remove it")
    return np.array(value, float).reshape(-1, 2)


def read_size(entry, height, width, where):
    """(h, w) of a JSON object, or None if it states neither; raises UserError unless positive whole numbers."""
    if entry.get(height) is None and entry.get(width) is None:
        return None
    size = tuple(get(entry, key, (int, float), where) for key in (height, width))
    if min(size) < 1 or any(value % 1 for value in size):
        raise UserError(f"{where}: found an image of {size[1]}x{size[0]} pixels, expected whole numbers; fix it")
    return int(size[0]), int(size[1])


@lru_cache(maxsize=64)
def _names_in(folder):
    return {fold(path.name): path for path in sorted(folder.iterdir(), reverse=True)} if folder.is_dir() else {}


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
    for folder in folders:
        for wanted in (folder / path, folder / path.name):
            try:
                found = wanted if wanted.is_file() else _names_in(wanted.parent).get(fold(wanted.name))
            except (OSError, ValueError):  # a name too long for the file system, or with a null character
                found = None
            if found and found.is_file():
                return found
    looked = ", ".join(dict.fromkeys(map(str, folders)))
    raise UserError(f"{where}: found no image {_short(name)} in {looked}, expected it there; --images names its folder")


def decode(data, flags, where):
    """`cv2.imdecode` of bytes; raises UserError for what is no image or was cut off."""
    return _decode(data, lambda array: cv2.imdecode(array, flags), where)


def _decode(data, read, where):
    image, state = decode_bytes(data, read)
    if image is None:
        raise UserError(f"{where}: {state}, expected an image; replace it")
    return image


def read_view(data, size, where):
    """The view of an image on which its annotation was made.

    A photo may state that it is to be shown turned (EXIF), and tools annotate it so; training, too, sees it so. Where
    the annotation's size fits only the pixels as they are stored, these are the view.

    Args:
        data: bytes of the image file.
        size: (h, w) that the annotation states, or None.
        where: image, for messages.

    Returns:
        (h, w) of the view; the suffix under which `data` gives it as they are, or "" if they don't; the view as
        (h, w, 3) uint8 BGR, 16 bits cut to 8 as in training.

    Raises:
        UserError: no image, or one of another size.
    """
    if data.startswith((b"II*\0", b"MM\0*")):
        kind = decode(data, cv2.IMREAD_UNCHANGED, where).dtype
        if kind not in (np.uint8, np.uint16):
            raise UserError(f"{where}: found pixels of {kind}, expected 8 or 16 bits; convert the image")
    image = _decode(data, read_color, where)
    suffix = _suffix_of(data)
    if size and image.shape[:2] != size:
        stored = _decode(data, lambda array: read_color(array, cv2.IMREAD_IGNORE_ORIENTATION), where)
        if stored.shape[:2] != size:
            raise UserError(
                f"{where}: found {image.shape[1]}x{image.shape[0]} pixels, expected {size[1]}x{size[0]} as its "
                "annotation says; name the images that were annotated"
            )
        image, suffix = stored, ""
    return image.shape[:2], suffix, image


def _suffix_of(data):
    """Suffix of what training reads, by the content; "" for anything else."""
    kinds = {b"\xff\xd8": ".jpg", b"\x89PNG": ".png", b"BM": ".bmp"}
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return ".webp"
    return next((suffix for start, suffix in kinds.items() if data.startswith(start)), "")


def name_outputs(entries):
    """Stems of the files to write, in the order of the entries.

    The stem of the image; where several have the same one (however written), its folders come before it.

    Raises:
        UserError: two images have the same name but for the suffix.
    """
    paths = [PurePosixPath(entry.name.replace("\\", "/")) for entry in entries]
    counts = Counter(fold(path.stem) for path in paths)
    stems = {}
    for path, entry in zip(paths, entries, strict=True):
        parts = [part for part in path.parts[:-1] if part not in ("..", "/")] if counts[fold(path.stem)] > 1 else []
        stem = "-".join([*parts, path.stem]).lstrip(".") or "image"  # what is hidden, training would pass over
        if (other := stems.setdefault(fold(stem), (stem, entry))[1]) is not entry:
            raise UserError(
                f"{entry.where}: found the image {entry.name} and, in {other.where}, {other.name}, expected names that "
                "differ in more than the suffix; rename one"
            )
    return [stem for stem, _ in stems.values()]
