"""Turn CULane into the training data of this project.

    python data/culane_dataset_processing.py culane -o my_culane
    python data/culane_dataset_processing.py culane -o my_culane --list list/train.txt

Reads the images of the list, or every one with a `*.lines.txt` beside it, and writes `images/0000.png`, ... and
`labels/0000.png`, ... in that order: 8 bits, lane i with its own gray value, 50 * i + 20 for the first four, background
0, as the TuSimple command draws them, 7 px wide at 1280 pixels and wider with the image (9 px at CULane's 1640).
Nothing appears in the output folder before every image is done, and a data set that is there is replaced only with
`--overwrite`.
"""

if __name__ == "__main__":
    import sys

    sys.path[0] += "/.."  # the repo's root
    from run.command import start

    start()

import argparse
import sys
from functools import partial
from pathlib import Path

from data.files import IMAGE_SUFFIXES, find_file, read_bgr, select_files, walk_files
from data.writing import check_free, close_up, replacing_data, require_good, run_all, write_png
from lanes.culane import SUFFIX, lines_path, read_lines, read_list
from lanes.tusimple import THICKNESS, draw_lanes
from run.command import UserError, command, one_line


def find_images(folder, list_file=None):
    """(paths of the images of a CULane folder, each with its lanes beside it, UserErrors of what lacks one of them).

    Args:
        folder: CULane's root.
        list_file: of the images, in `folder` or by itself; None: all that have lanes, in the order of their names.

    Raises:
        UserError: none there.
        UserError: a list that can't be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder, expected CULane with driver_*_frame/ in it; name another one")
    if list_file:
        list_path = find_file(folder, list_file)
        paths, expected = [folder / name for name in read_list(list_path)], "image and lanes of each line"
    else:
        files, list_path, expected = walk_files(folder), folder, "an image for all lanes"
        paths = select_files(files, IMAGE_SUFFIXES, folder, say=False)
        paths = [path for path in paths if lines_path(path).is_file()]
        lanes = select_files([path for path in files if path.name.endswith(SUFFIX)], (".txt",), folder, say=False)
        alone = set(lanes) - {lines_path(path) for path in paths}
        paths += [path.with_name(path.name.removesuffix(SUFFIX) + ".jpg") for path in sorted(alone)]
    missing = [next((file for file in (path, lines_path(path)) if not file.is_file()), None) for path in paths]
    good = [path for path, gone in zip(paths, missing, strict=True) if not gone]
    bad = [UserError(f"{list_path}: no file {gone}, expected {expected}") for gone in missing if gone]
    if not good and not bad:
        raise UserError(f"{folder}: found no image with *.lines.txt beside it, expected CULane; name another folder")
    return good, bad


def line_width(size):
    """Width of drawn lanes on an image of (h, w): `THICKNESS` at TuSimple's 1280 pixels, at least 1."""
    return max(round(THICKNESS * size[1] / 1280), 1)


def process(folder, outdir, list_file=None, overwrite=False, skip_bad=False):
    """Write the data set of a CULane `folder` to `outdir`; returns (number of images, list of the errors skipped).

    Args:
        folder: CULane's root.
        outdir: folder to write `images/` and `labels/` in, made if absent.
        list_file: see `find_images`.
        overwrite: replace the data set that `outdir` holds.
        skip_bad: leave out images that can't be used.

    Raises:
        UserError: bad input, or a data set in `outdir` and not `overwrite`.
    """
    check_free(outdir, overwrite)
    paths, bad = find_images(folder, list_file)
    require_good(bad, skip_bad)
    with replacing_data(outdir) as work:
        calls = [partial(_process_image, work, number, path) for number, path in enumerate(paths)]
        done, damaged = run_all(calls, skip_bad)
        bad += damaged
        if not done:
            raise UserError(f"{folder}: found no usable image, expected at least one; fix the data ({bad[0]})")
        close_up(work, done)
    return len(done), bad


def _process_image(work, number, path):
    lanes = [lane for lane in read_lines(lines_path(path)) if len(lane)]
    image = read_bgr(path)
    label = draw_lanes(lanes, image.shape[:2], line_width(image.shape), lines_path(path))
    write_png(work / "images" / f"{number:04d}.png", image)
    write_png(work / "labels" / f"{number:04d}.png", label)
    return number


@command("culane_dataset_processing.py")
def main(argv=None):
    parser = argparse.ArgumentParser(prog="culane_dataset_processing.py", description=__doc__.split("\n", 1)[0])
    add = parser.add_argument
    add("source", metavar="SOURCE", help="CULane's folder, with driver_*_frame/ and list/")
    add("-o", "--outdir", metavar="OUT", required=True, help="folder to write")
    add(
        "--list",
        metavar="FILE",
        help="text file of the images to take, such as list/train.txt; default: all with lanes",
    )
    add("--skip-bad", action="store_true", help="leave out bad images, and list them")
    add("--overwrite", action="store_true", help="replace the data set that the folder holds")
    args = parser.parse_args(argv)
    count, bad = process(args.source, args.outdir, args.list, args.overwrite, args.skip_bad)
    for error in bad:
        print(f"skipped: {one_line(error)}", file=sys.stderr)
    print(f"{count} images in {args.outdir}" + (f", {len(bad)} skipped" if bad else ""))


if __name__ == "__main__":
    main()
