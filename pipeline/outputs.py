"""Images, the names of what is made of them, and outputs that appear whole or not at all."""

import contextlib
import os
from pathlib import Path

import utils
from data.files import list_images
from lanes.tusimple import format_lines

LONGEST_STEM = 200  # bytes of a name, to which endings are added; file systems take 255


def find_images(sources, recursive=False):
    """Images of folders and files, each once: a list of (path, relative path)."""
    images = {}
    for source in sources:
        base = Path(source) if Path(source).is_dir() else Path(source).parent
        for path in list_images(source, recursive):
            images.setdefault(os.path.abspath(path), (path, path.relative_to(base)))
    return list(images.values())


def name_outputs(names, outdir, kinds, keep_names):
    """Files to write for images of these relative paths: a list of {kind of `--save`: Path}.

    With `keep_names` they are named after the images: the second image a becomes a-2, what is too long is cut.
    """
    prefixes = {kind: "cluster" if kind == "overlay" else kind for kind in kinds}
    taken, result = set(), []
    for number, name in enumerate(names):
        files = {kind: f"{prefix}_{number:04d}.png" for kind, prefix in prefixes.items()}
        if keep_names:
            base = stem = (name.parent / os.fsdecode(os.fsencode(name.stem)[:LONGEST_STEM])).as_posix()
            again = 1
            while stem.lower() in taken:  # some file systems don't tell upper from lower case
                again += 1
                stem = f"{base}-{again}"
            taken.add(stem.lower())
            files = {kind: f"{stem}_{prefix}.png" for kind, prefix in prefixes.items()}
        result.append({kind: Path(outdir, file) for kind, file in files.items()})
    return result


@contextlib.contextmanager
def output_folder(folder):
    """Make a folder, with its parents, for the block; what is empty of it afterwards is removed again."""
    folder = Path(folder)
    missing = [part for part in (folder, *folder.parents) if not part.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        for part in missing:
            with contextlib.suppress(OSError):
                part.rmdir()


@contextlib.contextmanager
def json_lines(path):
    """Yield a function that adds a TuSimple dict to the file `path`, if any, which appears if the block ends well."""
    if not path:
        yield lambda value: None
        return
    with utils.replacing(path) as temporary:
        with room_for(path):
            file = open(temporary, "w", buffering=1, encoding="utf-8")

        def write(value):
            with room_for(path):
                file.write(format_lines([value]))

        with file:
            yield write


@contextlib.contextmanager
def room_for(path):
    """Let an OSError of the block, which writes `path`, say so."""
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise OSError(f"{path}: could not be written ({reason}); make room or name another folder") from None
