"""Render highway scenes with lane labels in TuSimple's folder form.

    python data/synthetic_dataset.py synthetic_set --count 500 --seed 1
    python data/synthetic_dataset.py OUTDIR --count 1 --frames 200

Writes OUTDIR/clips/synthetic/NNNNNN/20.jpg (1280x720) and OUTDIR/label_data_synthetic.json, one TuSimple line per
image, when all are done. Scene number i depends only on the seed and on i.
"""

if __name__ == "__main__":
    import sys

    sys.path[0] += "/.."  # the repo's root
    from run.command import start

    start()

import argparse
import contextlib
import signal
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from joblib import cpu_count
from tqdm import tqdm

from data.road.rendering import render_scene
from data.writing import replacing_data
from lanes.tusimple import format_lines
from run.command import bounded, command


def write_image(number, folder, args):
    """Render image `number` of all scenes into a folder; returns its TuSimple line."""
    index, frame = divmod(number, args.frames)
    rng = np.random.default_rng([args.seed, index])
    # its own: the other scenes stay as they are
    empty = np.random.default_rng([args.seed, index, 1]).random() < args.empty_fraction
    image, label = render_scene(rng, empty, frame)
    digits = len(str(19 + args.frames))
    name = f"clips/synthetic/{index:06d}/{20 + frame:0{digits}d}.jpg"  # a clip's image that TuSimple labels
    path = Path(folder, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(70, 97))]
    path.write_bytes(cv2.imencode(".jpg", image[..., ::-1], quality)[1].tobytes())
    return {"raw_file": name, **label}


def start_worker():
    """Leave Ctrl-C to the parent and the other cores to the other workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)


def write_dataset(args):
    total = args.count * args.frames
    with replacing_data(args.outdir, ("clips", "label_data_synthetic.json")) as work, contextlib.ExitStack() as stack:
        render = map
        if args.workers > 1:
            pool = get_context("spawn").Pool(min(args.workers, total), start_worker)
            render = stack.enter_context(pool).imap
        lines = render(partial(write_image, folder=work, args=args), range(total))
        lines = list(tqdm(lines, total=total, desc="rendering", unit="image", dynamic_ncols=True))
        (work / "label_data_synthetic.json").write_text(format_lines(lines), encoding="utf-8")


@command("synthetic_dataset.py")
def main(argv=None):
    parser = argparse.ArgumentParser(
        "synthetic_dataset.py",
        description=__doc__.split("\n", 1)[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add, positive, fraction = parser.add_argument, bounded(int, least=1), bounded(float, least=0, most=1)
    add("outdir", metavar="OUTDIR", type=Path, help="folder to make")
    add("--count", type=positive, default=100, help="number of scenes")
    add("--seed", type=bounded(int, least=0), default=0, help="equal seeds give equal images")
    add("--frames", type=positive, default=1, help="images of each scene: a drive, one per meter")
    add("--workers", type=positive, default=cpu_count(), help="number of processes")
    add("--empty-fraction", type=fraction, default=0.0, help="fraction of scenes without a lane line")
    args = parser.parse_args(argv)
    if args.outdir.is_dir() and any(args.outdir.iterdir()):
        parser.error(f"{args.outdir}: found files, expected a new or empty folder; remove it or name another")
    write_dataset(args)
    print(f"{args.count} scenes in {args.outdir}")


if __name__ == "__main__":
    main()
