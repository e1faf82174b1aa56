"""Image files as users bring them: which of a folder's files are images, and what is wrong with their bytes."""

import sys
import zlib
from collections import Counter

# what OpenCV reads into 8 bits
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".bmp", ".dib", ".webp", ".avif", ".gif", ".tif")
IMAGE_SUFFIXES += (".tiff", ".jp2", ".pbm", ".pgm", ".ppm", ".pnm", ".ras", ".sr", ".hdr", ".pic")
LABEL_SUFFIXES = (".png", ".bmp", ".gif", ".tif", ".tiff")  # without loss
IMAGES = "image that OpenCV reads (jpg, png, tif, webp, avif, gif, bmp, ...)"


def select_files(paths, suffixes, folder=None, say=True):
    """Files with one of the suffixes, in the order of their names.

    Args:
        paths: iterable of Path; folders among them are passed over.
        suffixes: lower-case, with their dots.
        folder: what is hidden in it, as a Mac's `._0.png`, is left out; None: nothing is.
        say: whether to tell on stderr how many files were left out and why, if some were taken.
    """
    taken, left = [], Counter()
    for path in sorted(paths):
        right = path.suffix.lower() in suffixes
        if folder and any(part.startswith(".") for part in path.relative_to(folder).parts):
            left["hidden"] += right
        elif right and not path.is_dir():
            taken.append(path)
        elif path.is_file():
            left[path.suffix.lower() or "no suffix"] += 1
    left = +left
    if say and taken and left:
        reasons = ", ".join(f"{number} {reason}" for reason, number in left.most_common(5))
        where = folder or taken[0].parent
        print(f"{where}: {left.total()} files left out, which are no {suffixes[0]}, ...: {reasons}", file=sys.stderr)
    return taken


def is_whole_png(data):
    """Whether all chunks of a png are there and right; what isn't, libpng would tell in a line of its own."""
    start = 8
    while (kind := data[start + 4 : start + 8]) != b"IEND":
        end = start + 8 + int.from_bytes(data[start : start + 4])
        if not kind or zlib.crc32(data[start + 4 : end]) != int.from_bytes(data[end : end + 4]):
            return False
        start = end + 4
    return True


def damage_of(data):
    """What OpenCV wouldn't say of an image's bytes: "damaged, no end of the jpg", "cut off or damaged", or ""."""
    # it fills a jpg whose rest is zeros with gray
    if data.startswith(b"\xff\xd8") and b"\xff\xd9" not in data[len(data) // 2 :]:
        return "damaged, no end of the jpg"
    return "cut off or damaged" if data.startswith(b"\x89PNG") and not is_whole_png(data) else ""


def lossy_kind(data):
    """What a file's content says of lossy compression: "a jpg", "a lossy webp", "a tiff of jpg tiles", or ""."""
    if data.startswith(b"\xff\xd8"):
        return "a jpg"
    if data.startswith((b"\0\0\0\x0cjP", b"\xff\x4f\xff\x51")) or data[4:12] in (b"ftypavif", b"ftypheic"):
        return "a lossy image (JPEG 2000, AVIF or HEIC)"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        place = 12
        while place < len(data):
            if data[place : place + 4] == b"VP8 ":
                return "a lossy webp"
            place += 8 + (int.from_bytes(data[place + 4 : place + 8], "little") + 1) // 2 * 2
    if data.startswith((b"II*\0", b"MM\0*")):
        order = "little" if data.startswith(b"II") else "big"
        start = int.from_bytes(data[4:8], order)
        for entry in range(int.from_bytes(data[start : start + 2], order)):
            tag = data[start + 2 + 12 * entry : start + 14 + 12 * entry]
            if int.from_bytes(tag[:2], order) == 259 and int.from_bytes(tag[8:10], order) in (6, 7):  # compression
                return "a tiff of jpg tiles"
    return ""
