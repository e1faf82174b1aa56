"""Find the lanes (or other instances) of images or of a video and paint them.

    python inference.py
    python inference.py --indir my_images --outdir my_results --save overlay,labels,lanes --json my_lanes.json
    python inference.py --indir "drives/**/20.jpg" --outdir my_results --keep-names
    python inference.py --video drive.mp4 --outdir my_results
    python inference.py --video rtsp://192.168.0.8/stream --outdir my_results

Reads the images of `--indir` (folders, files, glob patterns; whatever OpenCV reads, of any size, turned as their
EXIF data say) in the order of their names and writes to `--outdir` what `--save` lists, at the size of the image:

    overlay    cluster_0000.png    the image with each instance in its own color
    labels     labels_0000.png     16-bit instance ids, 0 = background
    semantic   semantic_0000.png   lane probability, 0..255
    embedding  embedding_0000.png  the first three channels as color
    lanes      lanes_0000.png      the image with the fitted curves

The lines of `--json` are TuSimple's, with "scores", the mean lane probability along each lane, and "instance_scores",
that of the pixels of instances 1, 2, ...

With the semantic head, mean shift runs on the lane pixels; without it on all pixels, the largest cluster being the
background. Every core works on an image of its own; memory doesn't grow with the number of images. Exit code 3: some
files could not be read and were skipped; 2: nothing done; 130: Ctrl-C, what is done is kept.
"""

if __name__ == "__main__":
    from run.command import start

    start()

import argparse
import contextlib
import os
import sys
from collections import Counter
from itertools import count
from pathlib import Path

import numpy as np

import utils
import visualization
from clustering import find_instances, lane_probability, mean_probabilities
from data.files import count_images
from datagenerator import normalize, read_image, require_readable
from lanes.curves import fit_lanes
from lanes.tusimple import h_samples, lane_scores, tusimple_line
from pipeline import segmentation, video
from pipeline.instance_files import FILES, describe_instances, instance_files, require_own
from pipeline.outputs import find_images, json_lines, name_outputs, output_folder, require_own_lines
from pipeline.stages import Frame, run_frames
from run.command import UserError, bounded, command

INDIR = ["inference_test/images"]
KINDS = ("overlay", "labels", "semantic", "embedding", "lanes")
VIDEO_KINDS = ("overlay", "lanes")
IMAGE_KINDS = (*KINDS, *FILES)
# With a GPU. On CPU cores with an image each XLA is slower: 76 ms an image where TensorFlow's kernels take 59.
JIT_IMAGES = 500
MAX_CURVES = 5  # TuSimple's labels have no more


def make_find(args, network):
    """Function that finds the instances of a Frame's image, and its curves if a flag wants them, and times itself."""
    confidence = utils.read_confidence(args.modeldir) if args.confidence is None else args.confidence
    threshold = utils.read_threshold(args.modeldir) if args.threshold is None else args.threshold
    bandwidth = utils.read_bandwidth(args.modeldir) if args.bandwidth is None else args.bandwidth
    settings = bandwidth, threshold, args.cluster, confidence

    def find(frame):
        if network.view.normalize:  # painted on as well: a microscope's image can be nearly black
            frame.image = normalize(frame.image)
        size = frame.image.shape[:2]
        if network.needs_tiles(size):
            with frame.timed("tiles"):
                frame.prediction, label_map = segmentation.segment_tiles(network, frame.image, *settings)
        else:
            with frame.timed("network"):
                frame.prediction = network.predict(frame.image)
            with frame.timed("cluster"):
                label_map = find_instances(frame.prediction, *settings, network.min_pixels)
        if args.max_lanes:
            label_map[label_map > args.max_lanes] = 0  # the largest come first
        frame.label_map = label_map
        if args.json or "lanes" in args.save:
            with frame.timed("curves"):
                curves = fit_lanes(label_map, size, args.max_lanes or MAX_CURVES)
            run_time = 1000 * sum(frame.seconds.get(stage, 0) for stage in ("network", "cluster", "tiles", "curves"))
            frame.line = tusimple_line(frame.raw_file, curves, h_samples(size[0]), run_time, size)
            if "semantic" in frame.prediction:
                scores = lane_scores(frame.line, lane_probability(frame.prediction["semantic"][:, :, 0]), size)
                frame.line["scores"] = np.round(scores, 4).tolist()
                scores = mean_probabilities(frame.prediction, label_map)
                frame.line["instance_scores"] = np.round(scores, 4).tolist()

    return find


def paint(frame, kinds, lane_colors=None):
    """Paint a Frame's image in each of the kinds of `--save`."""
    with frame.timed("paint"):
        for kind in kinds:
            frame.painted[kind] = visualization.paint_kind(
                kind, frame.image, frame.label_map, frame.prediction, frame.line, lane_colors
            )


def describe_frame(frame):
    """`describe_instances` of a Frame, at the size of its image."""
    scores = mean_probabilities(frame.prediction, frame.label_map) if "semantic" in frame.prediction else None
    return describe_instances(visualization.paint_kind("labels", frame.image, frame.label_map, None), scores)


def load_network(args, images=None):
    """The network of `--modeldir`, ready to run on so many images (None: not known)."""
    jit = args.jit == "on" or args.jit == "auto" and segmentation.has_gpu() and (images or 0) >= JIT_IMAGES
    network = segmentation.load_network(args.modeldir, args.size, jit)
    needs = {"save semantic": "semantic" in args.save or None}
    segmentation.require_head(network, args.modeldir, threshold=args.threshold, confidence=args.confidence, **needs)
    folder = utils.model_folder(args.modeldir)
    if folder != Path(args.modeldir):
        print(f"model {folder}")
    if utils.read_network(folder).get("image_statistics"):
        print("batch norm uses the statistics of each image, as this model's config says")
    return network


def run_images(args, threads):
    """Segment and paint the images of `args.indir`; returns the exit code."""
    found = find_images(args.indir, args.recursive)
    kinds, tables = ([kind for kind in args.save if kind in known] for known in (KINDS, FILES))
    outputs = name_outputs([name for _, name in found], args.outdir, kinds, args.keep_names)
    inputs = {os.path.realpath(path) for path, _ in found}
    written = [path for files in outputs for path in files.values()]
    _check_json(args.json, [*written, *(Path(args.outdir, name) for name in tables)])
    for path in (*written, *([Path(args.json)] if args.json else ())):
        if os.path.realpath(path) in inputs:
            raise UserError(f"{path}: found one of the images there, expected to write to it; name another --outdir")
    require_own(args.outdir, tables)
    require_readable([path for path, _ in found])
    counts = Counter(name for _, name in found)  # of two folders, images may have one name
    names = [(path if counts[name] > 1 else name).as_posix() for path, name in found]
    frames = (Frame(name, path, files) for name, (path, _), files in zip(names, found, outputs, strict=True))

    with (
        output_folder(args.outdir),
        json_lines(args.json) as write_line,
        instance_files(args.outdir, tables) as tabulate,
    ):
        find = make_find(args, load_network(args, len(found)))

        def process(frame):
            try:
                with frame.timed("decode"):
                    frame.image = read_image(frame.source)
            except UserError as error:
                frame.problem = error
                return frame
            notes = []
            if (number := count_images(frame.source.read_bytes())) > 1:
                notes.append(f"holds {number} images, of which the first is taken")
            find(frame)
            parts = "embedding" not in frame.prediction
            painted = [kind for kind in kinds if kind != "embedding" or not parts]
            if painted != kinds:
                notes.append("taken in tiles, which have no common embedding: none is written; see --size")
            if notes:
                frame.note = f"{frame.source}: {'; '.join(notes)}"
            if not painted and not tables and not args.json:
                frame.problem = UserError(frame.note)
                return frame
            paint(frame, painted)
            if tables:
                frame.instances = describe_frame(frame)
            with frame.timed("write"):
                for kind, image in frame.painted.items():
                    frame.outputs[kind].parent.mkdir(parents=True, exist_ok=True)
                    visualization.save_image(frame.outputs[kind], image)
            return frame

        def finish(frame):
            write_line(frame.line)
            tabulate(frame.raw_file, frame.image.shape[:2], frame.instances)

        done, bad, interrupted = run_frames(frames, process, finish, threads, len(found))
    print(f"{done} images in {args.outdir}")
    return end(interrupted, bad and f"{bad} of {len(found)} images could not be read and were skipped")


def run_video(args, threads):
    """Segment and paint the frames of `args.video`; returns the exit code."""
    clip = video.open_video(args.video)
    source = video.local_path(args.video)
    paths = {
        kind: Path(args.outdir, clip.stem + ("" if kind == "overlay" else f"_{kind}") + ".mp4") for kind in args.save
    }
    for path in (*paths.values(), *([args.json] if args.json else ())):
        if os.path.realpath(path) == os.path.realpath(source):
            raise UserError(f"{path}: found the video itself there, expected to write to it; name another --outdir")
    for path in paths.values():  # of drive.avi it would be drive.mp4, which may be another one of the user's
        if path.exists() and source.is_file() and os.path.samefile(source.parent, args.outdir):
            raise UserError(f"{path}: found beside the video, expected no such file there; name another --outdir")
        video.require_utf8(path, "--outdir")
    _check_json(args.json, paths.values())

    if not clip.even:
        print(
            f"inference.py: {clip.name}: its frames come unevenly; the result has {clip.fps:g} a second, repeated or "
            "left out so that it takes as long",
            file=sys.stderr,
        )

    def frames():
        images = video.read_frames(clip)
        for number in count():
            frame = Frame(f"{clip.name}/{number:06d}")
            with frame.timed("decode"):
                frame.image, frame.time = next(images, (None, 0.0))
            if frame.image is None:
                return
            yield frame

    with contextlib.ExitStack() as stack:
        stack.enter_context(output_folder(args.outdir))
        find = make_find(args, load_network(args, clip.frames))
        write_line = stack.enter_context(json_lines(args.json))
        codec, last = video.choose_codec(clip), 0.0
        writers = {kind: stack.enter_context(video.writing(path, clip, codec)) for kind, path in paths.items()}
        track = video.tracking()

        def process(frame):
            find(frame)
            return frame

        def finish(frame):
            nonlocal last
            paint(frame, args.save, track(frame))
            with frame.timed("write"):
                for kind, write_frame in writers.items():
                    write_frame(frame.painted[kind], frame.time)
                write_line(frame.line)
            last = frame.time

        done, _, interrupted = run_frames(frames(), process, finish, threads, clip.frames, "frame")
        if not done:
            raise UserError(f"--video {args.video}: found no frame that can be decoded; name another video")
    print(f"{done} frames in {', '.join(map(str, paths.values()))}")
    if codec != "avc1":
        print(
            "browsers don't play its MPEG-4: this OpenCV can't write H.264; where that is needed, "
            "ffmpeg -i RESULT.mp4 -c:v libx264 -pix_fmt yuv420p FOR_BROWSERS.mp4"
        )
    problem = None
    if video.is_cut_off(clip, done, last):
        problem = f"{clip.name}: cut off, {done} frames, {last + 1 / clip.fps:.1f} of {clip.promised[1]:.1f} s"
    elif clip.frames and done < video.COMPLETE * clip.frames:
        problem = f"{clip.name}: only {done} of {clip.frames} frames could be decoded"
    return end(interrupted, problem)


def _check_json(path, others):
    """Raise UserError if `--json` is one of the other outputs, or a file of the user's."""
    if path and os.path.realpath(path) in map(os.path.realpath, others):
        raise UserError(f"--json {path}: found a file of --save there, expected another; name another file")
    require_own_lines(path, "--json")


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
    add(
        "-m",
        "--modeldir",
        default="trained_model",
        help="model folder, or run folder: its best/, else its last/; default %(default)s",
    )
    add("-i", "--indir", nargs="+", default=INDIR, help=f"folders, files or glob patterns; default {INDIR[0]}")
    add("-r", "--recursive", action="store_true", help="the folders' subfolders too")
    add("--video", metavar="SOURCE", help="video, number of a camera or URL of a stream, not images: writes an mp4")
    add("-o", "--outdir", default="inference_test/results", help="folder to write; default %(default)s")
    add("--save", default="overlay", help="what to write, of " + ",".join(IMAGE_KINDS) + "; default %(default)s")
    add("--json", metavar="FILE", help="TuSimple lines to write, one per image or frame, with scores")
    add("--keep-names", action="store_true", help="SUBFOLDER/NAME_cluster.png instead of cluster_0000.png")
    add = parser.add_argument_group("how to find instances").add_argument
    side = bounded(int, least=64, most=4096, step=8)
    add("--size", nargs=2, type=side, metavar=("H", "W"), help="the network's; default that of its training")
    add("--bandwidth", type=bounded(float, above=0), help="of the mean shift; default the model's")
    probability = bounded(float, above=0, below=1)
    add("--threshold", type=probability, help="lane probability that counts; default the model's")
    probability = bounded(float, least=0, below=1)
    add("--confidence", type=probability, metavar="P", help="mean of its pixels that counts; default the model's")
    add("--max-lanes", type=bounded(int, least=1), metavar="N", help="keep the N largest instances")
    add("--cluster", choices=("fast", "sklearn"), default="fast", help="mean shift of clustering.py or of scikit-learn")
    add(
        "--jit",
        choices=("auto", "on", "off"),
        default="auto",
        help=f"compile the network with XLA, some 15 s; auto: with a GPU from {JIT_IMAGES} images on",
    )
    args = parser.parse_args(argv)
    if args.indir is INDIR:
        args.indir = [utils.shipped(INDIR[0])]
    elif args.video:
        parser.error("--indir: found --video too, expected one of them")
    args.save = list(dict.fromkeys(args.save.split(",")))
    kinds = VIDEO_KINDS if args.video else IMAGE_KINDS
    for flag, given in (("--recursive", args.recursive), ("--keep-names", args.keep_names)):
        if args.video and given:
            parser.error(f"{flag}: found with --video, which has no use for it; leave it out")
    if not set(args.save) <= set(kinds):
        parser.error(f"--save: found {','.join(args.save)}, expected some of {','.join(kinds)}")
    if args.json and not Path(args.json).absolute().parent.is_dir():
        if Path(args.json).absolute().parent != Path(args.outdir).absolute():
            parser.error(f"--json: found no folder for {args.json}, expected an existing one")
    if args.json and Path(args.json).is_dir():
        parser.error(f"--json: found a folder, {args.json}, expected a file's name")
    return args


@command("inference.py", "nothing written")
def main(argv=None):
    args = parse_args(argv)
    run = run_video if args.video else run_images
    return run(args, segmentation.use_cores())


if __name__ == "__main__":
    main()
