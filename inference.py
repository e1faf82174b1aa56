"""Find the lanes (or other instances) of images or of a video and paint them.

    python inference.py
    python inference.py --indir my_images --outdir my_results --save overlay,labels,lanes --json my_lanes.json
    python inference.py --indir "drives/**/20.jpg" --outdir my_results --keep-names
    python inference.py --video drive.mp4 --outdir my_results

Reads the images of `--indir` (folders, files, glob patterns; jpg, png, bmp, webp of any size, turned as their EXIF
data say) in the order of their names and writes to `--outdir` what `--save` lists, at the size of the image:

    overlay    cluster_0000.png    the image with each instance in its own color
    labels     labels_0000.png     16-bit instance ids, 0 = background
    semantic   semantic_0000.png   lane probability, 0..255
    embedding  embedding_0000.png  the first three channels as color
    lanes      lanes_0000.png      the image with the fitted curves

With the semantic head, mean shift runs on the lane pixels; without it on all pixels, the largest cluster being the
background. Decoding, network, clustering, painting and writing overlap in threads; memory doesn't grow with the number
of images. Exit code 3: some files could not be read and were skipped; 2: nothing done; 130: Ctrl-C, what is done is
kept.
"""

import argparse
import contextlib
import math
import os
import sys
import time
from itertools import count
from pathlib import Path

import cv2
import numpy as np
import tensorflow as tf

import utils
import visualization
from datagenerator import DataError, prepare_image, read_image
from export.folding import fold_batch_norm
from lanes.curves import fit_lanes
from lanes.tusimple import h_samples, tusimple_line
from pipeline.segmentation import BANDWIDTH, THRESHOLD, compile_network, find_instances, predict
from pipeline.stages import (
    CORES,
    Frame,
    find_images,
    json_lines,
    name_outputs,
    output_folder,
    require_readable,
    run_stages,
)

INDIR = ["inference_test/images"]
KINDS = ("overlay", "labels", "semantic", "embedding", "lanes")
VIDEO_KINDS = ("overlay", "lanes")
# With a GPU. On CPU cores with an image each XLA is slower: 76 ms an image where TensorFlow's kernels take 59.
JIT_IMAGES = 500
MAX_CURVES = 5  # TuSimple's labels have no more
SIZES = "height and width, multiples of 8 from 64 to 4096"


def images_at_once():
    """How many images the network should work on at a time, each in a thread of its own.

    ENet's operations are so small that sharing one among two cores makes it only 1.4 times faster: without a GPU
    TensorFlow is told to run every operation in one thread, and every core gets an image.
    """
    if tf.config.list_physical_devices("GPU"):
        return 1
    try:
        tf.config.threading.set_intra_op_parallelism_threads(1)
    except RuntimeError:  # TensorFlow has started already
        return 1
    return CORES


def make_stages(args, model, decode, write, track=None):
    """The stages of `pipeline.run_stages`; `track` gives a frame's instances their ids, its lanes their colors."""

    def network(frame):
        frame.prediction = predict(model, prepare_image(frame.image, model.input_shape[1:3]))

    def cluster(frame):
        start = time.perf_counter()
        label_map = find_instances(frame.prediction, args.bandwidth, args.threshold, args.cluster, args.confidence)
        if args.max_lanes:
            label_map[label_map > args.max_lanes] = 0  # the largest come first
        frame.label_map = label_map
        if args.json or "lanes" in args.save:
            size = frame.image.shape[:2]
            curves = fit_lanes(label_map, size, args.max_lanes or MAX_CURVES)
            run_time = 1000 * (sum(frame.seconds.values()) + time.perf_counter() - start)
            frame.line = tusimple_line(frame.raw_file, curves, h_samples(size[0]), run_time, size)

    def paint(frame):
        colors = track(frame) if track else None
        for kind in args.save:
            frame.painted[kind] = paint_kind(kind, frame, colors)

    return {"decode": decode, "network": network, "cluster": cluster, "paint": paint, "write": write}


def paint_kind(kind, frame, lane_colors=None):
    """The image of a kind of `--save`, at the size of the frame's image."""
    image = frame.image
    shape = image.shape[1::-1]
    if kind == "overlay":
        return visualization.paint_instances(image, frame.label_map)
    if kind == "labels":
        return cv2.resize(frame.label_map.astype(np.uint16), shape, interpolation=cv2.INTER_NEAREST_EXACT)
    if kind == "lanes":
        return visualization.draw_lanes(image, frame.line["lanes"], frame.line["h_samples"], lane_colors)
    if kind == "semantic":
        small = np.rint(127.5 + 127.5 * np.tanh(frame.prediction["semantic"][:, :, 0] / 2)).astype(np.uint8)
    else:
        small = visualization.embedding_to_color(frame.prediction["embedding"])
    return cv2.resize(small, shape, interpolation=cv2.INTER_LINEAR)


def load_network(args, images):
    """The model of `--modeldir` for this many images (None: not known), ready to run."""
    try:
        model = utils.load_model(args.modeldir, args.size)
        if args.confidence is None:
            args.confidence = utils.read_confidence(args.modeldir)
        if "semantic" in args.save and "semantic" not in model.output:
            raise utils.ModelError(f"--save semantic: {args.modeldir} has no semantic head; leave semantic out")
        if utils.read_network(utils.model_folder(args.modeldir)).get("image_statistics"):
            print("batch norm uses the statistics of each image, as this model's config says")
        else:
            model = fold_batch_norm(model)
        pays = (images or 0) >= JIT_IMAGES and tf.config.list_physical_devices("GPU")
        compile_network(model, args.jit == "on" or args.jit == "auto" and bool(pays))
        predict(model, np.zeros((*model.input_shape[1:3], 3), np.float32))  # tracing is no part of the times
    except (utils.ModelError, OSError):
        raise
    except (ValueError, TypeError, RecursionError, tf.errors.OpError) as error:  # a config that makes no sense
        reason = " ".join(str(error).split())[:200]
        raise utils.ModelError(
            f"--modeldir {args.modeldir}: its network can't be built or run ({reason}); restore it or name another"
        ) from None
    return model


def run_images(args):
    """Segment and paint the images of `args.indir`; returns the exit code."""
    found = find_images(args.indir, args.recursive)
    outputs = name_outputs([name for _, name in found], args.outdir, args.save, args.keep_names)
    inputs = {os.path.realpath(path) for path, _ in found}
    for path in (*(path for files in outputs for path in files.values()), *([Path(args.json)] if args.json else ())):
        if os.path.realpath(path) in inputs:
            raise DataError(f"{path}: found one of the images there, expected to write to it; name another --outdir")
    require_readable([path for path, _ in found])

    def decode(frame):
        try:
            frame.image = read_image(frame.source)
        except DataError as error:
            frame.problem = error

    def write(frame):
        for kind, path in frame.outputs.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            visualization.save_image(path, frame.painted[kind])

    frames = (Frame(name.as_posix(), path, files) for (path, name), files in zip(found, outputs, strict=True))
    with output_folder(args.outdir), json_lines(args.json) as write_line:
        stages = make_stages(args, load_network(args, len(found)), decode, write)
        done, bad, interrupted = run_stages(
            frames, stages, {"network": args.at_once}, len(found), finish=lambda frame: write_line(frame.line)
        )
    print(f"{done} images in {args.outdir}")
    return end(interrupted, bad and f"{bad} of {len(found)} images could not be read and were skipped")


def run_video(args):
    """Segment and paint the frames of `args.video`; returns the exit code."""
    from pipeline import video

    clip = video.open_video(args.video)
    paths = {
        kind: Path(args.outdir, clip.stem + ("" if kind == "overlay" else f"_{kind}") + ".mp4") for kind in args.save
    }
    for path in (*paths.values(), *([args.json] if args.json else ())):
        if os.path.realpath(path) == os.path.realpath(args.video):
            raise DataError(f"{path}: found the video itself there, expected to write to it; name another --outdir")

    def decode(frame):
        frame.image = video.read_frame(clip)

    with contextlib.ExitStack() as stack:
        stack.enter_context(output_folder(args.outdir))
        model = load_network(args, clip.frames)
        write_line = stack.enter_context(json_lines(args.json))
        writers = {kind: stack.enter_context(video.writing(path, clip)) for kind, path in paths.items()}

        def write(frame):
            for kind, write_frame in writers.items():
                write_frame(frame.painted[kind])
            write_line(frame.line)

        frames = (Frame(f"{clip.name}/{number:06d}") for number in count())
        stages = make_stages(args, model, decode, write, video.tracking())
        threads = {"decode": 1, "network": args.at_once, "cluster": 1, "paint": 1, "write": 1}
        done, _, interrupted = run_stages(frames, stages, threads, clip.frames, "frame")
        if not done:
            raise DataError(f"--video {args.video}: found no frame that can be decoded; name another video")
    print(f"{done} frames in {', '.join(map(str, paths.values()))}")
    lost = not interrupted and clip.frames and done < video.COMPLETE * clip.frames
    return end(interrupted, lost and f"{args.video}: only {done} of {clip.frames} frames could be decoded")


def end(interrupted, problem):
    """Exit code; says on stderr what there is to say."""
    if interrupted:
        print("inference.py: interrupted, what is done is kept", file=sys.stderr)
        return 130
    if problem:
        print(f"inference.py: {problem}", file=sys.stderr)
    return 3 if problem else 0


def parse_args(argv=None):
    parser = argparse.ArgumentParser(
        prog="inference.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument_group("what to read and write").add_argument
    add("--modeldir", default="trained_model", help="model folder or run folder; default %(default)s")
    add("--indir", nargs="+", default=INDIR, help=f"folders, files or glob patterns; default {INDIR[0]}")
    add("-r", "--recursive", action="store_true", help="the folders' subfolders too")
    add("--video", metavar="FILE_OR_CAMERA", help="video, or number of a camera, instead of images: writes an mp4")
    add("--outdir", default="inference_test/results", help="folder to write; default %(default)s")
    add("--save", default="overlay", help="what to write, of " + ",".join(KINDS) + "; default %(default)s")
    add("--json", metavar="FILE", help="TuSimple lines to write, one per image or frame")
    add("--keep-names", action="store_true", help="SUBFOLDER/NAME_cluster.png instead of cluster_0000.png")
    add = parser.add_argument_group("how to find instances").add_argument
    add("--size", nargs=2, type=int, metavar=("H", "W"), help="size the network works at; default that of its training")
    add("--bandwidth", type=float, default=BANDWIDTH, help="of the mean shift; default %(default)s")
    add("--threshold", type=float, default=THRESHOLD, help="lane probability that counts as lane; default %(default)s")
    add("--confidence", type=float, metavar="P", help="mean lane probability an instance needs; default the model's")
    add("--max-lanes", type=int, metavar="N", help="keep the N largest instances")
    add("--cluster", choices=("fast", "sklearn"), default="fast", help="mean shift of clustering.py or of scikit-learn")
    add(
        "--jit",
        choices=("auto", "on", "off"),
        default="auto",
        help=f"compile the network with XLA, some 15 s; auto: with a GPU from {JIT_IMAGES} images on",
    )
    args = parser.parse_args(argv)
    args.save = list(dict.fromkeys(args.save.split(",")))
    kinds = VIDEO_KINDS if args.video else KINDS
    for right, flag, found, expected in (
        (not args.video or args.indir is INDIR, "--indir", "--video too", "one of them"),
        (set(args.save) <= set(kinds), "--save", ",".join(args.save), "some of " + ",".join(kinds)),
        (not args.size or all(64 <= n <= 4096 and n % 8 == 0 for n in args.size), "--size", args.size, SIZES),
        (0 < args.bandwidth < math.inf, "--bandwidth", args.bandwidth, "a number above 0"),
        (0 < args.threshold < 1, "--threshold", args.threshold, "a probability between 0 and 1"),
        (0 <= (args.confidence or 0) < 1, "--confidence", args.confidence, "a number from 0, all count, to below 1"),
        (args.max_lanes is None or args.max_lanes > 0, "--max-lanes", args.max_lanes, "a number from 1 on"),
    ):
        if not right:
            parser.error(f"{flag}: found {found}, expected {expected}")
    if args.json and not Path(args.json).absolute().parent.is_dir():
        if Path(args.json).absolute().parent != Path(args.outdir).absolute():
            parser.error(f"--json: found no folder for {args.json}, expected an existing one")
    if args.json and Path(args.json).is_dir():
        parser.error(f"--json: found a folder, {args.json}, expected a file's name")
    return args


def main(argv=None):
    args = parse_args(argv)
    cv2.utils.logging.setLogLevel(
        cv2.utils.logging.LOG_LEVEL_SILENT
    )  # what OpenCV says of a file, our one line says too
    # settings of TensorFlow are for the command alone; a program that calls this function has its own
    args.at_once = images_at_once() if argv is None else 1
    try:
        code = run_video(args) if args.video else run_images(args)
    except (DataError, utils.ModelError, OSError) as error:
        print(f"inference.py: error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(end(True, None)) from None
    if code:
        raise SystemExit(code)


if __name__ == "__main__":
    main()
