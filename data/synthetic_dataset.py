"""Render highway scenes with lane labels in TuSimple's folder form, so that everything runs with no download.

    python data/synthetic_dataset.py synthetic_set --count 500 --seed 1
    python data/synthetic_dataset.py OUTDIR --count 500 --geometry label_data_0313.json label_data_0531.json
    python data/synthetic_dataset.py OUTDIR --count 500 --traffic-on train_set

Writes OUTDIR/clips/synthetic/NNNNNN/20.jpg (1280x720) and OUTDIR/label_data_synthetic.json, one TuSimple line per
image: `lanes` has x in pixels at the rows `h_samples`, -2 where a lane has no point. With --geometry each scene has
the lane lines of one line of the given TuSimple label files, in an order drawn from the seed. Scene number i depends on
the seed and on i alone, not on the number of workers. With --images-only OUTDIR gets plain 0000.jpg, 0001.jpg, ...
and no label. With --empty-fraction some images have no lane line: unmarked roads and town streets, noise, gradients.
With --traffic-on the scenes are the labeled images of TuSimple folders, turn by turn, with cars painted into their
lanes and the labels unchanged: TuSimple's labels follow a lane behind the cars that hide it.
Nothing appears in OUTDIR before every image is done.
"""

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
from road.empty import draw_empty_kind, paint_nothing, street_layout, unmarked_layout
from road.geometry import HEIGHT, WIDTH, random_road, road_from_label
from road.objects import paint_objects, roadside
from road.scene import develop, draw_layout, draw_light
from road.street import street_side
from road.surface import paint_background
from road.vehicles import draw_lane_traffic, paint_vehicle
from tqdm import tqdm
from tusimple_dataset_processing import LabelError, check_label, find_clips, read_clip

H_SAMPLES = list(range(160, 720, 10))


def label_of(road, first_row):
    """Label of a road's lines.

    Args:
        road: road.geometry.Road.
        first_row: int, row above which no point is labeled.

    Returns:
        dict with `lanes` and `h_samples` of a TuSimple line.
    """
    lanes = []
    for x in road.lines.T:
        points = [int(round(x[y])) if y >= first_row and -0.5 < x[y] < WIDTH - 0.5 else -2 for y in H_SAMPLES]
        if sum(point >= 0 for point in points) > 1:
            lanes.append(points)
    return {"lanes": lanes, "h_samples": H_SAMPLES}


def render_scene(rng, geometry=None, empty=False):
    """Render one scene.

    Args:
        rng: numpy Generator; the scene is a function of its state, of `geometry` and of `empty`.
        geometry: TuSimple dict whose lane lines to use, at least one of two points; None for a random road.
        empty: no lane line; the image is of a kind of `road.empty.KINDS`.

    Returns:
        (720, 1280, 3) uint8 RGB image, and its label {"lanes": ..., "h_samples": ...}.
    """
    kind = draw_empty_kind(rng) if empty else "road"
    if kind not in ("road", "street"):
        return paint_nothing(rng, kind), {"lanes": [], "h_samples": H_SAMPLES}
    if geometry is None:
        road, first_row = random_road(rng)
        label = label_of(road, first_row)
    else:
        road, label = road_from_label(geometry), {key: geometry[key] for key in ("lanes", "h_samples")}
    light = draw_light(rng)
    beside = roadside
    if kind == "street":
        layout, beside = street_layout(rng, road), street_side
    else:
        layout = unmarked_layout(rng, road) if empty else draw_layout(rng, road)
    if empty:
        label = {**label, "lanes": []}
    canvas, shade = paint_background(rng, road, layout, light)
    paint_objects(rng, canvas, road, layout, light, shade, beside)
    return develop(rng, canvas, road, light), label


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


def fail(message):
    """End the command with one line on stderr."""
    print(f"synthetic_dataset.py: error: {message}", file=sys.stderr)
    raise SystemExit(2)


def read_geometry(paths):
    """Labels in TuSimple files that have at least one lane of two points; a file that can't be used ends the command.

    Args:
        paths: label files, one JSON object per line.

    Returns:
        list of TuSimple dicts, in the order of the files and lines.
    """
    labels = []
    for path in paths:
        try:
            lines = Path(path).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "binary data"
            fail(f"{path}: found {reason}, expected a TuSimple label file; name another with --geometry")
        for number, text in enumerate(lines, start=1):
            if not text.strip():
                continue
            try:
                label = check_label(text)
                rows = np.array([-1, *label["h_samples"], HEIGHT])
                if (np.diff(rows) <= 0).any():
                    raise ValueError(f"found h_samples out of order or range, expected rising rows in 0..{HEIGHT - 1}")
            except json.JSONDecodeError as error:
                fail(f"{path}:{number}: found broken JSON ({error}), expected one object per line; fix the line")
            except ValueError as error:
                fail(f"{path}:{number}: {error}; fix the line")
            if any(sum(x >= 0 for x in lane) > 1 for lane in label["lanes"]):
                labels.append(label)
    if not labels:
        fail(f"{paths[0]}: found no lane of two points, expected TuSimple labels; name another file with --geometry")
    return labels


def read_clips(folders):
    """Labeled images of TuSimple folders with at least one lane of two points; a bad label ends the command.

    Returns:
        list of (path of the jpg, TuSimple dict), in the order of the folders, files and lines.
    """
    try:
        clips, bad = find_clips(folders)
        if bad:
            raise bad[0]
    except LabelError as error:
        fail(f"{error}; fix it or name another folder with --traffic-on")
    clips = [clip for clip in clips if any(sum(x >= 0 for x in lane) > 1 for lane in clip[1]["lanes"])]
    if not clips:
        fail(f"{folders[0]}: found no lane of two points, expected labeled images; name another with --traffic-on")
    return clips


def paint_clip(rng, path, label):
    """Image of a clip with traffic: (720, 1280, 3) uint8 RGB.

    Raises:
        LabelError: no image there, or one of another size.
    """
    image = cv2.cvtColor(read_clip(path), cv2.COLOR_BGR2RGB)
    if image.shape != (HEIGHT, WIDTH, 3):
        raise LabelError(f"{path}: found {image.shape[1]}x{image.shape[0]} pixels, expected {WIDTH}x{HEIGHT}")
    add_traffic(rng, image, label)
    return image


def write_scene(index, folder, seed, geometry, images_only, empty_fraction, clips=None):
    """Render scene number `index` into a folder; returns its TuSimple line."""
    rng = np.random.default_rng([seed, index])
    source = clips or geometry
    if source:
        source = source[np.random.default_rng(seed).permutation(len(source))[index % len(source)]]
    if clips:
        path, label = source
        image, label = paint_clip(rng, path, label), {key: label[key] for key in ("lanes", "h_samples")}
    else:
        # a generator of its own, so that the other scenes are the same with every fraction
        empty = np.random.default_rng([seed, index, 1]).random() < empty_fraction
        image, label = render_scene(rng, source, empty)
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


def write_dataset(outdir, count, seed, geometry=None, workers=1, images_only=False, empty_fraction=0.0, clips=None):
    """Render a data set, complete or not at all.

    Args:
        outdir: folder to make; may exist if it is empty or with `images_only`.
        count: number of scenes.
        seed: int >= 0.
        geometry: list of TuSimple dicts to take the lane lines from, or None.
        workers: number of processes.
        images_only: write 0000.jpg, ... without labels.
        empty_fraction: fraction of the scenes that get no lane line.
        clips: list of (path, TuSimple dict) to paint cars on instead of rendering whole scenes, or None.

    Raises:
        OSError: `outdir` can't be written.
        LabelError: an image of `clips` can't be used.
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


def main(argv=None):
    """Command line; see the module docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n", 1)[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("outdir", metavar="OUTDIR", help="folder to make")
    parser.add_argument("--count", type=int, default=100, help="number of scenes")
    parser.add_argument("--seed", type=int, default=0, help="equal seeds give equal images")
    parser.add_argument(
        "--geometry", nargs="+", metavar="JSON", help="TuSimple label files to take the lane lines from"
    )
    parser.add_argument(
        "--traffic-on", nargs="+", metavar="DIR", help="TuSimple folders on whose labeled images to paint cars"
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes")
    parser.add_argument(
        "--empty-fraction", type=float, default=0.0, help="fraction of images without a lane line, 0 to 1"
    )
    parser.add_argument("--images-only", action="store_true", help="write OUTDIR/0000.jpg, ... and no label")
    args = parser.parse_args(argv)
    for flag, least in (("count", 1), ("seed", 0), ("workers", 1)):
        if getattr(args, flag) < least:
            fail(f"--{flag}: found {getattr(args, flag)}, expected at least {least}; choose a larger number")
    if not 0 <= args.empty_fraction <= 1:
        fail(f"--empty-fraction: found {args.empty_fraction}, expected a fraction from 0 to 1; choose one")
    if args.traffic_on and (args.geometry or args.empty_fraction):
        other = "--geometry" if args.geometry else "--empty-fraction"
        fail(f"--traffic-on: found {other} too, expected it alone, whose images have their lanes; leave one out")
    outdir = Path(args.outdir)
    if outdir.is_dir() and any(outdir.iterdir()) and not args.images_only:
        fail(f"{outdir}: found a folder with files, expected a new or empty one; remove it or name another")
    geometry = read_geometry(args.geometry) if args.geometry else None
    clips = read_clips(args.traffic_on) if args.traffic_on else None
    try:
        write_dataset(
            outdir, args.count, args.seed, geometry, args.workers, args.images_only, args.empty_fraction, clips
        )
    except LabelError as error:
        fail(f"{error}; fix it or name another folder with --traffic-on")
    except OSError as error:
        fail(f"{error.filename or outdir}: found {error.strerror}, expected a folder to write in; name another OUTDIR")
    except KeyboardInterrupt:
        print("synthetic_dataset.py: interrupted, nothing written", file=sys.stderr)
        raise SystemExit(130) from None
    print(f"{args.count} scenes in {outdir}")


if __name__ == "__main__":
    main()
