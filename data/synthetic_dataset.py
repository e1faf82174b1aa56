"""Render highway scenes with lane labels in TuSimple's folder form, so that everything runs with no download.

    python data/synthetic_dataset.py synthetic_set --count 500 --seed 1
    python data/synthetic_dataset.py OUTDIR --count 500 --geometry label_data_0313.json label_data_0531.json
    python data/synthetic_dataset.py OUTDIR --count 1 --frames 200

Writes OUTDIR/clips/synthetic/NNNNNN/20.jpg (1280x720) and OUTDIR/label_data_synthetic.json, one TuSimple line per
image: `lanes` has x in pixels at the rows `h_samples`, -2 where a lane has no point. With --geometry each scene has
the lane lines of one line of the given TuSimple label files, in an order drawn from the seed. With --frames a scene is
a drive along its road. With --empty-fraction some have no lane line: unmarked roads, gradients, noise. Scene number i
depends only on the seed and on i. Nothing appears in OUTDIR before every image is done.
"""

if __name__ == "__main__":
    import sys

    sys.path[0] += "/.."  # the repo's root
    from run.command import start

    start()

import argparse
import signal
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from joblib import cpu_count
from tqdm import tqdm

from data.road.canvas import HEIGHT
from data.road.rendering import render_scene
from data.writing import replacing_data
from lanes.tusimple import format_lines, read_lines
from run.command import UserError, bounded, command

SKY = 10  # rows at the top that no road reaches


def read_geometry(paths):
    """TuSimple dicts with at least one lane of two points, in the order of the label files and their lines.

    Raises:
        UserError: a file that can't be used, rows outside the rendered image, or no lane at all.
    """
    labels, lines = [], [(path, *line) for path in paths for line in read_lines(path)]
    for path, number, label in lines:
        if isinstance(label, UserError):
            raise label
        rows = label["h_samples"]
        lanes = [[y for x, y in zip(lane, rows, strict=True) if x >= 0] for lane in label["lanes"]]
        lanes = [lane for lane in lanes if len(lane) > 1]
        reaches_road = not lanes or min(map(min, lanes)) >= SKY and rows[-1] > HEIGHT / 2
        if rows[0] < 0 or rows[-1] >= HEIGHT or not reaches_road:
            expected = f"rows in 0..{HEIGHT - 1} that reach the road, lanes from row {SKY} on"
            raise UserError(f"{path}:{number}: found rows {rows[0]:g} to {rows[-1]:g}, expected {expected}")
        if lanes:
            labels.append(label)
    if not labels:
        raise UserError(f"{paths[0]}: found no lane of two points, expected TuSimple labels; name another file")
    return labels


@dataclass(frozen=True)
class Settings:
    """What to render; but for `geometry` the flags."""

    count: int
    seed: int
    frames: int = 1
    empty_fraction: float = 0.0
    geometry: list | None = None  # TuSimple dicts to take the lane lines from


def write_image(number, folder, settings):
    """Render image number `number` of all scenes into a folder; returns its TuSimple line."""
    index, frame = divmod(number, settings.frames)
    rng, geometry = np.random.default_rng([settings.seed, index]), settings.geometry
    if geometry:
        geometry = geometry[np.random.default_rng(settings.seed).permutation(len(geometry))[index % len(geometry)]]
    # a generator of its own, so that the other scenes are the same with every fraction
    empty = np.random.default_rng([settings.seed, index, 1]).random() < settings.empty_fraction
    image, label = render_scene(rng, geometry, empty, frame)
    digits = len(str(19 + settings.frames))
    name = f"clips/synthetic/{index:06d}/{20 + frame:0{digits}d}.jpg"  # TuSimple labels the twentieth image of a clip
    path = Path(folder, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(70, 97))]
    path.write_bytes(cv2.imencode(".jpg", image[..., ::-1], quality)[1].tobytes())
    return {"raw_file": name, **label}


def start_worker():
    """Leave Ctrl-C to the parent and the other cores to the other workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)


def write_dataset(outdir, settings, workers=1):
    """Render a data set into a new or empty folder, complete or not at all."""
    total = settings.count * settings.frames
    bar = partial(tqdm, total=total, desc="rendering", unit="image", dynamic_ncols=True)
    with replacing_data(outdir, ("clips", "label_data_synthetic.json")) as work:
        job = partial(write_image, folder=work, settings=settings)
        if workers == 1:
            lines = list(bar(map(job, range(total))))
        else:
            with get_context("spawn").Pool(min(workers, total), start_worker) as pool:
                lines = list(bar(pool.imap(job, range(total))))
        (work / "label_data_synthetic.json").write_text(format_lines(lines), encoding="utf-8")


def parse_args(argv=None):
    parser = argparse.ArgumentParser(
        prog="synthetic_dataset.py",
        description=__doc__.split("\n", 1)[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("outdir", metavar="OUTDIR", help="folder to make")
    add("--count", type=bounded(int, least=1), default=100, help="number of scenes")
    add("--seed", type=bounded(int, least=0), default=0, help="equal seeds give equal images")
    add("--geometry", nargs="+", metavar="JSON", help="TuSimple label files to take the lane lines from")
    add("--frames", type=bounded(int, least=1), default=1, help="images of each scene: a drive, one image per meter")
    add("--workers", type=bounded(int, least=1), default=cpu_count(), help="number of processes")
    fraction = bounded(float, least=0, most=1)
    add("--empty-fraction", type=fraction, default=0.0, help="fraction of scenes without a lane line")
    args = parser.parse_args(argv)
    outdir = Path(args.outdir)
    if outdir.is_dir() and any(outdir.iterdir()):
        parser.error(f"{outdir}: found a folder with files, expected a new or empty one; remove it or name another")
    if args.geometry and args.frames > 1:
        parser.error(f"--frames {args.frames}: found --geometry too, which has no way ahead; leave one of them out")
    return args


@command("synthetic_dataset.py")
def main(argv=None):
    """Command line; see the module docstring."""
    args = parse_args(argv)
    geometry = read_geometry(args.geometry) if args.geometry else None
    settings = Settings(args.count, args.seed, args.frames, args.empty_fraction, geometry)
    write_dataset(args.outdir, settings, args.workers)
    print(f"{args.count} scenes in {args.outdir}")


if __name__ == "__main__":
    main()
