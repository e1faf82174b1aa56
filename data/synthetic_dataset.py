"""Render highway scenes with lane labels in TuSimple's folder form, so that everything runs with no download.

    python data/synthetic_dataset.py synthetic_set --count 500 --seed 1
    python data/synthetic_dataset.py OUTDIR --count 500 --geometry label_data_0313.json label_data_0531.json
    python data/synthetic_dataset.py OUTDIR --count 500 --traffic-on train_set

Writes OUTDIR/clips/synthetic/NNNNNN/20.jpg (1280x720) and OUTDIR/label_data_synthetic.json, one TuSimple line per
image: `lanes` has x in pixels at the rows `h_samples`, -2 where a lane has no point. With --geometry each scene has
the lane lines of one line of the given TuSimple label files, in an order drawn from the seed. Scene number i depends on
the seed and on i alone, not on the number of workers. With --images-only OUTDIR gets plain 0000.jpg, 0001.jpg, ...
and no label. With --empty-fraction some images have no lane line: unmarked roads and town streets, noise, gradients.
The fraction --other-cameras of the scenes is unlike TuSimple's: other cameras and hours, through a windshield, with the
own car in view, whose hood ends the labels (-2 below it); without --geometry on other roads too, some mirrored for
left-hand traffic. Their lines are labeled as far as the paint can be seen, the own lane's first, at most five.
With --traffic-on the scenes are the labeled images of TuSimple folders, turn by turn, with cars painted into their
lanes and the labels unchanged: TuSimple's labels follow a lane behind the cars that hide it.
Nothing appears in OUTDIR before every image is done.
"""

if __name__ == "__main__":
    import sys

    sys.path[0] += "/.."  # the repo's root
    from run.command import start

    start()

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from joblib import cpu_count
from tqdm import tqdm

from data.files import read_bgr
from data.road.geometry import HEIGHT, WIDTH, road_from_label
from data.road.rendering import render_scene
from data.road.scene import draw_light
from data.road.vehicles import draw_lane_traffic, paint_vehicle
from data.tusimple_dataset_processing import find_clips
from lanes.tusimple import read_lines
from run.command import UserError, bounded, command

SKY = 10  # rows at the top that no road reaches
OTHER_CAMERAS = 0.6  # default fraction of the scenes that are of other cameras and roads than TuSimple's


def add_traffic(rng, image, label):
    """Paint cars into the lanes of a labeled image, in place.

    How far the image's own cars are is not known, so a painted car can lie over a nearer one.

    Args:
        rng: numpy Generator.
        image: (720, 1280, 3) uint8, RGB.
        label: its TuSimple dict with at least one lane of two points.
    """
    road, light = road_from_label(label), draw_light(rng)
    for distance, offset, kind, oncoming in sorted(draw_lane_traffic(rng, road.offsets), key=lambda car: -car[0]):
        paint_vehicle(rng, image, road, light, offset, distance, kind, oncoming)


def read_geometry(paths):
    """Labels in TuSimple files that have at least one lane of two points.

    Args:
        paths: label files, one JSON object per line.

    Returns:
        list of TuSimple dicts, in the order of the files and lines.

    Raises:
        UserError: a file that can't be used, rows outside the rendered image, or no lane at all.
    """
    labels = [(path, number, label) for path in paths for number, label in read_lines(path)]
    for path, number, label in labels:
        if isinstance(label, UserError):
            raise label
        rows = label["h_samples"]
        points = [y for lane in label["lanes"] for x, y in zip(lane, rows, strict=True) if x >= 0]
        if rows[0] < 0 or rows[-1] >= HEIGHT or has_lane(label) and not (min(points) >= SKY and rows[-1] > HEIGHT / 2):
            expected = f"rows in 0..{HEIGHT - 1} that reach the road, lanes from row {SKY} on"
            raise UserError(f"{path}:{number}: found rows {rows[0]:g} to {rows[-1]:g}, expected {expected}")
    labels = [label for _, _, label in labels if has_lane(label)]
    if not labels:
        raise UserError(f"{paths[0]}: found no lane of two points, expected TuSimple labels; name another file")
    return labels


def read_clips(folders):
    """Labeled images of TuSimple folders with at least one lane of two points.

    Returns:
        list of (path of the jpg, TuSimple dict), in the order of the folders, files and lines.

    Raises:
        UserError: a label that can't be used, or no lane at all.
    """
    clips, bad = find_clips(folders)
    if bad:
        raise bad[0]
    clips = [clip for clip in clips if has_lane(clip[1])]
    if not clips:
        raise UserError(f"{folders[0]}: found no lane of two points, expected labeled images; name another folder")
    return clips


def has_lane(label):
    """Whether a TuSimple dict has a lane of two points or more."""
    return any(sum(x >= 0 for x in lane) > 1 for lane in label["lanes"])


def paint_clip(rng, path, label):
    """Image of a clip with traffic: (720, 1280, 3) uint8 RGB.

    Raises:
        UserError: no image there, or one of another size.
    """
    image = cv2.cvtColor(read_bgr(path), cv2.COLOR_BGR2RGB)
    if image.shape != (HEIGHT, WIDTH, 3):
        raise UserError(f"{path}: found {image.shape[1]}x{image.shape[0]} pixels, expected {WIDTH}x{HEIGHT}")
    add_traffic(rng, image, label)
    return image


def write_scene(index, folder, seed, geometry, images_only, empty_fraction, clips=None, other_cameras=0.0):
    """Render scene number `index` into a folder; returns its TuSimple line."""
    rng = np.random.default_rng([seed, index])
    source = clips or geometry
    if source:
        source = source[np.random.default_rng(seed).permutation(len(source))[index % len(source)]]
    if clips:
        path, label = source
        image, label = paint_clip(rng, path, label), {key: label[key] for key in ("lanes", "h_samples")}
    else:
        # generators of their own, so that the other scenes are the same with every fraction
        empty = np.random.default_rng([seed, index, 1]).random() < empty_fraction
        other = np.random.default_rng([seed, index, 2]).random() < other_cameras
        image, label = render_scene(rng, source, empty, other)
    name = f"{index:04d}.jpg" if images_only else f"clips/synthetic/{index:06d}/20.jpg"
    quality = 90 if images_only else int(rng.integers(70, 97))
    path = Path(folder, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes())
    return {"raw_file": name, **label}


def start_worker():
    """Leave Ctrl-C to the parent and the other cores to the other workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)


def write_dataset(
    outdir,
    count,
    seed,
    geometry=None,
    workers=1,
    images_only=False,
    empty_fraction=0.0,
    clips=None,
    other_cameras=OTHER_CAMERAS,
):
    """Render a data set, complete or not at all.

    Args:
        outdir: folder to make; may exist if it is empty.
        count: number of scenes.
        seed: int >= 0.
        geometry: list of TuSimple dicts to take the lane lines from, or None.
        workers: number of processes.
        images_only: write 0000.jpg, ... without labels.
        empty_fraction: fraction of the scenes that get no lane line.
        clips: list of (path, TuSimple dict) to paint cars on instead of rendering whole scenes, or None.
        other_cameras: fraction of the scenes that are of other cameras and roads than TuSimple's.

    Raises:
        OSError: `outdir` can't be written.
        UserError: an image of `clips` can't be used.
    """
    outdir = Path(outdir).absolute()
    fresh = not outdir.exists()
    outdir.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".rendering-", dir=outdir))  # inside, so that renaming stays in one file system
    try:
        job = partial(
            write_scene,
            folder=work,
            seed=seed,
            geometry=geometry,
            images_only=images_only,
            empty_fraction=empty_fraction,
            clips=clips,
            other_cameras=other_cameras,
        )
        bar = partial(tqdm, total=count, desc="rendering", unit="scene", dynamic_ncols=True)
        if workers == 1:
            lines = list(bar(map(job, range(count))))
        else:
            with get_context("spawn").Pool(min(workers, count), start_worker) as pool:
                lines = list(bar(pool.imap(job, range(count))))
        if not images_only:
            text = "".join(json.dumps(line) + "\n" for line in lines)
            (work / "label_data_synthetic.json").write_text(text, encoding="utf-8")
        for path in sorted(work.iterdir()):  # clips/ goes before the label file that names its images
            os.replace(path, outdir / path.name)
    finally:
        shutil.rmtree(work, ignore_errors=True)
        if fresh and not any(outdir.iterdir()):
            outdir.rmdir()


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
    add("--traffic-on", nargs="+", metavar="DIR", help="TuSimple folders on whose labeled images to paint cars")
    add("--workers", type=bounded(int, least=1), default=cpu_count(), help="processes")
    fraction = bounded(float, least=0, most=1)
    add("--empty-fraction", "--empty-share", type=fraction, default=0.0, help="of images without a lane line, 0 to 1")
    add("--other-cameras", type=fraction, default=OTHER_CAMERAS, help="of scenes unlike TuSimple's, 0 to 1; see above")
    add("--images-only", "--pictures-only", action="store_true", help="write OUTDIR/0000.jpg, ... and no label")
    args = parser.parse_args(argv)
    if args.traffic_on and (args.geometry or args.empty_fraction):
        other = "--geometry" if args.geometry else "--empty-fraction"
        parser.error(f"--traffic-on: found {other} too, expected it alone, whose images have their lanes")
    outdir = Path(args.outdir)
    if outdir.is_dir() and any(outdir.iterdir()):
        parser.error(f"{outdir}: found a folder with files, expected a new or empty one; remove it or name another")
    return args


@command("synthetic_dataset.py")
def main(argv=None):
    """Command line; see the module docstring."""
    args = parse_args(argv)
    write_dataset(
        args.outdir,
        args.count,
        args.seed,
        read_geometry(args.geometry) if args.geometry else None,
        args.workers,
        args.images_only,
        args.empty_fraction,
        read_clips(args.traffic_on) if args.traffic_on else None,
        args.other_cameras,
    )
    print(f"{args.count} scenes in {args.outdir}")


if __name__ == "__main__":
    main()
