"""Render highway scenes with lane labels in TuSimple's folder form, so that everything runs with no download.

    python data/synthetic_dataset.py data/synthetic_set --count 500 --seed 1
    python data/synthetic_dataset.py OUTDIR --count 500 --geometry label_data_0313.json label_data_0531.json

Writes OUTDIR/clips/synthetic/NNNNNN/20.jpg (1280x720) and OUTDIR/label_data_synthetic.json, one TuSimple line per
picture: `lanes` has x in pixels at the rows `h_samples`, -2 where a lane has no point. With --geometry the lane lines of
each scene are those of a line of the given TuSimple label files, in an order drawn from the seed. Scene number i depends
on the seed and i alone, not on the number of workers. With --pictures-only OUTDIR gets plain 0000.jpg, 0001.jpg, ...
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

import numpy as np

try:
    import cv2
except ImportError as error:
    sys.stderr.write(f"synthetic_dataset.py: error: import cv2: {error}; run: apt-get install -y libgl1 libglib2.0-0\n")
    raise SystemExit(2) from None

import road_objects
import road_scene
from road_scene import HEIGHT, LANE_WIDTH, ROWS, WIDTH, Road
from tqdm import tqdm

H_SAMPLES = list(range(160, 720, 10))


def random_road(rng):
    """Random road of the pinhole model: flat or hilly ground, straight, bent or of changing curvature.

    Returns:
        Road, and the first image row at which its lines are labeled.
    """
    focal, camera, horizon = rng.uniform(1000, 1650), rng.uniform(1.3, 1.9), rng.uniform(240, 290)  # px, m, px
    ahead = np.geomspace(1.5, 450, 3000)  # m
    rise = rng.normal(0, 2.5e-5) * ahead**2
    row = horizon + focal * (camera - rise) / ahead
    visible = slice(0, int(np.argmin(row)) + 1)  # the rest lies behind a crest
    bend = rng.normal(0, 1e-4) if rng.random() < 0.5 else rng.choice([-1, 1]) / rng.uniform(300, 1500)  # 1/m
    side = 0.5 * bend * ahead**2 + rng.normal(0, 2e-6) / 6 * ahead**3 + rng.normal(0, 0.01) * ahead
    side *= min(1, 0.3 * 150 / abs(np.interp(150, ahead, side)))  # keeps the far end in the picture
    ahead, row, side = ahead[visible], row[visible], side[visible]
    top = int(np.ceil(row[-1]))
    rows = np.arange(ROWS)
    distance = np.interp(rows, row[::-1], ahead[::-1])
    distance[:top] = ahead[-1]
    left, right = rng.choice([(1, 1), (1, 2), (2, 1), (2, 2), (2, 3), (3, 2)], p=[0.08, 0.13, 0.13, 0.44, 0.11, 0.11])
    width = rng.uniform(3.3, 3.9) * rng.normal(1, 0.015, left + right)
    middle = rng.normal(0, 0.25) if rng.random() < 0.85 else rng.uniform(-1.7, 1.7)  # the car in its lane or changing it
    offsets = np.cumsum(width)
    offsets += middle - (offsets[left - 1] + offsets[left]) / 2
    scale = focal / distance
    lines = WIDTH / 2 + rng.normal(0, 40) + scale[:, None] * (np.interp(distance, ahead, side)[:, None] + offsets)
    return Road(lines, offsets, scale, distance, top), int(max(top, horizon) + rng.uniform(6, 40))


def extend(rows, points, values, slope_points=6):
    """Values at all rows from those at rising `points`: linear between, and beyond with the slope at the ends."""
    result = np.interp(rows, points, values)
    for end, outside in ((slice(None, slope_points), rows < points[0]), (slice(-slope_points, None), rows > points[-1])):
        anchor = 0 if end.start is None else -1
        slope = np.polyfit(points[end], values[end], 1)[0]
        result[outside] = values[anchor] + slope * (rows[outside] - points[anchor])
    return result


def smooth(values, sigma=4):
    """Gaussian smoothing along the first axis that keeps straight lines straight; takes the label's rounding out."""
    kernel = np.exp(-0.5 * (np.arange(-3 * sigma, 3 * sigma + 1) / sigma) ** 2)
    padded = np.pad(values, 3 * sigma, mode="reflect", reflect_type="odd")
    return np.convolve(padded, kernel / kernel.sum(), mode="valid")


def road_from_label(line):
    """Road under the lane lines of a TuSimple label; horizon and scale come from how the gaps between lines shrink.

    Args:
        line: TuSimple dict; at least one lane with two points.

    Returns:
        Road whose lines pass through the label's points.
    """
    rows, curves = np.arange(ROWS, dtype=float), []
    samples = np.asarray(line["h_samples"], float)
    for lane in line["lanes"]:
        x = np.asarray(lane, float)
        valid = x >= 0
        if valid.sum() > 1:
            curves.append((samples[valid], x[valid]))
    full = [extend(rows, y, x) for y, x in curves]
    order = np.argsort([x[450] for x in full])
    curves, full = [curves[i] for i in order], [full[i] for i in order]

    horizons, slopes = [], []
    for (y_a, _), (y_b, _), a, b in zip(curves, curves[1:], full, full[1:], strict=False):
        common = slice(int(max(y_a[0], y_b[0])), int(min(y_a[-1], y_b[-1])) + 1)
        if common.stop - common.start > 50:
            slope, constant = np.polyfit(rows[common], (b - a)[common], 1)
            if slope > 0.5:
                slopes.append(slope)
                horizons.append(-constant / slope)
    top = int(min(y[0] for y, _ in curves))
    horizon = min(float(np.median(horizons)) if horizons else top - 10.0, top - 3.0)
    near = [slope for slope in slopes if 1.6 < slope < 3.2] or [2.2]
    scale = np.maximum(np.median(near) / LANE_WIDTH * (rows - horizon), 1.0)

    reach = full[int(np.argmin([y[0] for y, _ in curves]))]  # the line seen farthest leads the others there
    lines = []
    for (y, _), x in zip(curves, full, strict=True):
        first = int(y[0])
        far = rows < first
        x[far] = reach[far] + (x[first] - reach[first]) * scale[far] / scale[first]
        lines.append(smooth(x))
    lines = np.stack(lines, axis=1)
    at = 600
    offsets = (lines[at] - WIDTH / 2) / scale[at]
    for i in range(1, len(offsets)):
        offsets[i] = max(offsets[i], offsets[i - 1] + 0.3)
    return Road(lines, offsets, scale, 1450 / scale, max(top - 2, int(np.ceil(horizon)) + 2))


def label_of(road, first_row):
    """TuSimple dict of a road's lines from `first_row` down, without raw_file."""
    lanes = []
    for x in road.lines.T:
        points = [int(round(x[y])) if y >= first_row and -0.5 <= x[y] < WIDTH - 0.5 else -2 for y in H_SAMPLES]
        if sum(point >= 0 for point in points) > 1:
            lanes.append(points)
    return {"lanes": lanes, "h_samples": H_SAMPLES}


def render_scene(rng, geometry=None):
    """Render one scene.

    Args:
        rng: numpy Generator; the scene is a function of its state and of `geometry`.
        geometry: TuSimple dict whose lane lines to use, or None for a random road.

    Returns:
        (720, 1280, 3) uint8 RGB picture, and its label {"lanes": ..., "h_samples": ...}.
    """
    if geometry is None:
        road, first_row = random_road(rng)
        label = label_of(road, first_row)
    else:
        road, label = road_from_label(geometry), {key: geometry[key] for key in ("lanes", "h_samples")}
    light = road_scene.draw_light(rng)
    layout = road_scene.draw_layout(rng, road)
    canvas, shade = road_scene.paint_background(rng, road, layout, light)
    road_objects.paint_objects(rng, canvas, road, layout, light, shade)
    return road_scene.develop(rng, canvas, road, light), label


def fail(where, found, expected, advice):
    """End the command with one line on stderr."""
    sys.stderr.write(f"synthetic_dataset.py: error: {where}: found {found}, expected {expected}, {advice}\n")
    raise SystemExit(2)


def read_geometry(paths):
    """Lines of TuSimple label files that have at least one lane with two points; ends the command on a broken file."""
    lines = []
    for path in paths:
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            fail(path, getattr(error, "strerror", None) or "no text", "a TuSimple label file", "check --geometry")
        for number, content in enumerate(text.splitlines(), 1):
            where = f"{path}:{number}"
            if not content.strip():
                continue
            try:
                line = json.loads(content)
                lanes = np.array(line["lanes"], float).reshape(len(line["lanes"]), -1)
                rows = np.array(line["h_samples"], float)
            except (ValueError, KeyError, TypeError):
                fail(where, "a broken line", '{"lanes": [[x, ...], ...], "h_samples": [y, ...]}', "repair or remove it")
            if lanes.size and lanes.shape[1] != len(rows):
                fail(where, f"{lanes.shape[1]} x for {len(rows)} h_samples", "as many x as h_samples", "repair or remove it")
            if len(rows) and (np.diff(rows).min(initial=1) <= 0 or rows[0] < 0 or rows[-1] >= HEIGHT):
                fail(where, "h_samples out of order or outside the picture", "rising rows in 0..719", "repair or remove it")
            if lanes.size and ((lanes >= 0).sum(1) > 1).any():
                lines.append(line)
    if not lines:
        fail(" ".join(map(str, paths)), "no lane with two points", "TuSimple label lines", "check --geometry")
    return lines


def write_scene(index, folder, seed, geometry, pictures_only):
    """Render scene number `index` into a folder; returns its label line."""
    rng = np.random.default_rng([seed, index])
    name = f"{index:04d}.jpg" if pictures_only else f"clips/synthetic/{index:06d}/20.jpg"
    if geometry is not None:
        order = np.random.default_rng(seed).permutation(len(geometry))
        geometry = geometry[order[index % len(order)]]
    picture, label = render_scene(rng, geometry)
    path = Path(folder, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    quality = [cv2.IMWRITE_JPEG_QUALITY, 92 if pictures_only else int(rng.integers(70, 97))]
    path.write_bytes(cv2.imencode(".jpg", picture[..., ::-1], quality)[1].tobytes())
    return {"raw_file": name, **label}


def start_worker():
    """Leave Ctrl-C to the parent, and cores to the other workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)


def write_dataset(outdir, count, seed, geometry=None, workers=1, pictures_only=False):
    """Render `count` scenes into `outdir`, complete or not at all; arguments as the flags of the command."""
    outdir = Path(outdir).absolute()
    outdir.parent.mkdir(parents=True, exist_ok=True)
    partial_dir = Path(tempfile.mkdtemp(prefix=f".{outdir.name}.", dir=outdir.parent))
    try:
        job = partial(write_scene, folder=partial_dir, seed=seed, geometry=geometry, pictures_only=pictures_only)
        if workers == 1:
            lines = list(tqdm(map(job, range(count)), total=count, unit="scene"))
        else:
            with get_context("spawn").Pool(workers, start_worker) as pool:
                lines = list(tqdm(pool.imap(job, range(count), chunksize=4), total=count, unit="scene"))
        if pictures_only:
            outdir.mkdir(exist_ok=True)
            for line in lines:
                os.replace(partial_dir / line["raw_file"], outdir / line["raw_file"])
        else:
            text = "".join(json.dumps(line) + "\n" for line in lines)
            (partial_dir / "label_data_synthetic.json").write_text(text, encoding="utf-8")
            partial_dir.chmod(0o755)  # mkdtemp makes it private
            if outdir.exists():
                outdir.rmdir()
            os.replace(partial_dir, outdir)
    finally:
        shutil.rmtree(partial_dir, ignore_errors=True)


def main(argv=None):
    """Command line; see the module docstring."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("outdir", metavar="OUTDIR", help="folder to make")
    parser.add_argument("--count", type=int, default=100, help="number of scenes")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same pictures")
    parser.add_argument("--geometry", nargs="+", metavar="JSON", help="TuSimple label files whose lane lines to use")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes")
    parser.add_argument("--pictures-only", action="store_true", help="plain 0000.jpg, ... in OUTDIR, no labels")
    flags = parser.parse_args(argv)
    for flag, least in (("count", 1), ("seed", 0), ("workers", 1)):
        if getattr(flags, flag) < least:
            fail(f"--{flag}", getattr(flags, flag), f"at least {least}", "choose a larger number")
    outdir = Path(flags.outdir)
    if outdir.exists() and not outdir.is_dir():
        fail(outdir, "a file", "a folder", "choose another OUTDIR")
    if not flags.pictures_only and outdir.exists() and any(outdir.iterdir()):
        fail(outdir, "a folder with files", "a new or empty folder", "choose another OUTDIR or remove it")
    geometry = read_geometry(flags.geometry) if flags.geometry else None
    try:
        write_dataset(outdir, flags.count, flags.seed, geometry, flags.workers, flags.pictures_only)
    except OSError as error:
        fail(error.filename or outdir, error.strerror, "a folder that can be written", "choose another OUTDIR")
    except KeyboardInterrupt:
        sys.stderr.write("synthetic_dataset.py: interrupted, nothing written\n")
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
