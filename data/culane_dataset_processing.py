"""Turn CULane into the training data of this project.

    python data/culane_dataset_processing.py culane -o my_culane
    python data/culane_dataset_processing.py culane -o my_culane --list list/train.txt

Reads the images of the list, or every one with a `*.lines.txt` beside it, and writes `images/0000.png`, ... and
`labels/0000.png`, ... in that order, lanes as the TuSimple command draws them, 7 px wide at 1280 pixels and wider with
the image (9 px at CULane's 1640).
"""

if __name__ == "__main__":
    import sys

    sys.path[0] += "/.."  # the repo's root
    from run.command import start

    start()

import argparse
from pathlib import Path

from data.files import IMAGE_SUFFIXES, find_file, read_bgr, select_files, walk_files
from data.writing import add_flags, check_free, replacing_data, require_good, say_written, write_numbered
from lanes.culane import SUFFIX, lines_path, read_lines, read_list
from lanes.tusimple import THICKNESS, draw_lanes
from run.command import UserError, command


def find_images(folder, list_file=None):
    """(paths of the images of a CULane folder, each with its lanes beside it, UserErrors of what lacks one of them).

    Those of a list, in the folder or by itself, else all that have lanes, in the order of their names.
    """
    folder = Path(folder)
    if list_file:
        where = find_file(folder, list_file)
        paths = [folder / name for name in read_list(where)]
    else:
        files, where = walk_files(folder), folder
        paths = select_files(files, IMAGE_SUFFIXES, folder, say=False)
        paths = [path for path in paths if lines_path(path).is_file()]
        lanes = select_files([path for path in files if path.name.endswith(SUFFIX)], (".txt",), folder, say=False)
        alone = set(lanes) - {lines_path(path) for path in paths}
        paths += [path.with_name(path.name.removesuffix(SUFFIX) + ".jpg") for path in sorted(alone)]
    if not paths:
        raise UserError(f"{folder}: found no image with *{SUFFIX} beside it, expected CULane; name another folder")
    good, bad = [], []
    for path in paths:
        missing = [file for file in (path, lines_path(path)) if not file.is_file()]
        if missing:
            bad.append(UserError(f"{where}: no file {missing[0]}, expected image and lanes of each"))
        else:
            good.append(path)
    return good, bad


def process(folder, outdir, list_file=None, overwrite=False, skip_bad=False):
    """Write the data set of a CULane `folder` to `outdir`; returns (number of images, list of the errors skipped)."""
    check_free(outdir, overwrite)
    paths, bad = find_images(folder, list_file)
    require_good(bad, skip_bad)
    with replacing_data(outdir) as work:
        done = write_numbered(work, _draw, paths, bad, skip_bad)
    return len(done), bad


def _draw(path):
    lanes = [lane for lane in read_lines(lines_path(path)) if len(lane)]
    image = read_bgr(path)
    width = max(round(THICKNESS * image.shape[1] / 1280), 1)
    label = draw_lanes(lanes, image.shape[:2], width, lines_path(path))
    return {"images": image, "labels": label}


@command("culane_dataset_processing.py")
def main(argv=None):
    parser = argparse.ArgumentParser(prog="culane_dataset_processing.py", description=__doc__.split("\n", 1)[0])
    parser.add_argument("source", metavar="SOURCE", help="CULane's folder, with driver_*_frame/ and list/")
    parser.add_argument("--list", metavar="FILE", help="images to take, as list/train.txt; default: all with lanes")
    add_flags(parser)
    args = parser.parse_args(argv)
    count, bad = process(args.source, args.outdir, args.list, args.overwrite, args.skip_bad)
    say_written([f"{count} images in {args.outdir}"], bad)


if __name__ == "__main__":
    main()
