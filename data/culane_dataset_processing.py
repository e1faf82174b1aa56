"""Turn CULane into the training data of this project.

    python data/culane_dataset_processing.py culane -o my_culane --list list/train.txt

Reads the images of the list, or each jpg with a `*.lines.txt` beside it, and writes `images/0000.png`, ... and
`labels/0000.png`, ..., lanes as the TuSimple command draws them, 7 px wide at 1280 pixels, 9 px at CULane's 1640.
"""

if __name__ == "__main__":
    import sys

    sys.path[0] += "/.."  # the repo's root
    from run.command import start

    start()

import argparse
from pathlib import Path

from data.files import find_file, read_bgr, select_files, walk_files
from data.writing import add_flags, check_free, replacing_data, say_written, write_numbered
from lanes.culane import SUFFIX, lines_path, read_lines, read_list
from lanes.tusimple import THICKNESS, draw_lanes
from run.command import UserError, command


def find_images(folder, list_file=None):
    """Paths of the images of a list, else of each `*.lines.txt`."""
    if list_file:
        return [folder / name for name in read_list(find_file(folder, list_file))]
    lanes = [path for path in select_files(walk_files(folder), (".txt",)) if path.name.endswith(SUFFIX)]
    if not lanes:
        raise UserError(f"{folder}: found no *{SUFFIX}, expected CULane; name another")
    return [path.with_name(path.name.removesuffix(SUFFIX) + ".jpg") for path in lanes]


def process(folder, outdir, list_file=None, overwrite=False, skip_bad=False):
    """Write the data set of a CULane folder; returns (number of images, errors skipped)."""
    check_free(outdir, overwrite)
    paths = find_images(folder, list_file)
    with replacing_data(outdir) as work:
        done, bad = write_numbered(work, _draw, paths, skip_bad)
    return len(done), bad


def _draw(path):
    lanes = [lane for lane in read_lines(lines_path(path)) if len(lane)]
    image = read_bgr(path)
    width = max(round(THICKNESS * image.shape[1] / 1280), 1)
    label = draw_lanes(lanes, image.shape[:2], width, lines_path(path))
    return {"images": image, "labels": label}


@command("culane_dataset_processing.py")
def main(argv=None):
    parser = argparse.ArgumentParser("culane_dataset_processing.py", description=__doc__.split("\n", 1)[0])
    parser.add_argument("source", metavar="SOURCE", type=Path, help="CULane's folder, with driver_*_frame/ and list/")
    parser.add_argument("--list", metavar="FILE", help="images to take, as list/train.txt; default: all with lanes")
    add_flags(parser)
    args = parser.parse_args(argv)
    count, bad = process(args.source, args.outdir, args.list, args.overwrite, args.skip_bad)
    say_written([f"{count} images in {args.outdir}"], bad)


if __name__ == "__main__":
    main()
