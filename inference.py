"""Find the lanes (or other instances) of images or of a video and paint them.

    python inference.py
    python inference.py --indir "drives/**/20.jpg" --outdir my_results --keep-names --save overlay,labels,lanes
    python inference.py --video drive.mp4 --from 60 --to 90 --every 5 --save none --json my_lanes.json

--save lists what to write of each image, at its size:

    overlay    the image with each instance in its own color
    labels     16-bit instance ids, 0 = background
    semantic   lane probability, 0..255
    embedding  its first three channels as color
    lanes      the image with the fitted curves
    classes    the image with the classes of its pixels, of a model that has classes

and of all images together instances.json (COCO's form) and instances.csv. --json writes TuSimple's lines, with scores.
What isn't written isn't computed. Exit code 3: some files could not be read and were skipped; 2: nothing done;
130: Ctrl-C, what is done is kept. More in doc/own_data.md.
"""

if __name__ == "__main__":
    from run.command import start

    start()

import argparse
import contextlib
import os
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import utils
import visualization
from clustering import lane_probability, mean_probabilities
from data.files import count_images
from datagenerator import normalize, read_image, require_readable
from lanes.curves import fit_lanes
from lanes.tusimple import h_samples, lane_scores, require_own_lines, tusimple_line
from pipeline import segmentation, video
from pipeline.classes import classes_of_instances, find_classes, name_classes
from pipeline.instance_files import FILES, describe_instances, instance_files, require_own
from pipeline.outputs import find_images, json_lines, name_outputs, output_folder
from pipeline.stages import Frame, run_frames
from pipeline.tracking import Tracker
from run.command import UserError, bounded, command

INDIR = "inference_test/images"
KINDS = ("overlay", "labels", "semantic", "embedding", "lanes", "classes")
VIDEO_KINDS = ("overlay", "lanes", "classes")
IMAGE_KINDS = (*KINDS, *FILES)
# With a GPU. On CPU cores with an image each XLA is slower: 76 ms an image where TensorFlow's kernels take 59.
JIT_IMAGES = 500
MAX_CURVES = 5  # TuSimple's labels have no more


@dataclass
class Finder:
    """Finds the instances of a Frame's image with their classes and what else is wanted of it; times itself."""

    network: segmentation.Network
    settings: segmentation.Settings
    max_lanes: int | None
    save: list
    json: bool  # whether a line is wanted, with scores

    def __call__(self, frame):
        if self.network.view.normalize:  # painted on as well: a microscope's image can be nearly black
            frame.image = normalize(frame.image)
        self._find_instances(frame)
        if self.max_lanes:
            frame.label_map[frame.label_map > self.max_lanes] = 0  # the largest come first
        if self.network.classes:
            with frame.timed("classes"):
                frame.classes = classes_of_instances(self.network, frame.prediction, frame.label_map)
                if "classes" in self.save:
                    threshold = self.settings.threshold
                    frame.class_map = find_classes(self.network, frame.prediction, frame.image.shape, threshold)
        if self.json or "lanes" in self.save:
            self._find_curves(frame)
        return frame

    def _find_instances(self, frame):
        if self.network.needs_tiles(frame.image.shape):
            with frame.timed("tiles"):
                frame.prediction, frame.label_map = segmentation.segment_tiles(self.network, frame.image, self.settings)
            return
        with frame.timed("network"):
            frame.prediction = self.network.predict(frame.image)
        if self.json or {*self.save} - {"semantic", "embedding", "classes"}:
            with frame.timed("cluster"):
                frame.label_map = self.network.find_instances(frame.prediction, self.settings)
        else:
            frame.label_map = np.zeros(next(iter(frame.prediction.values())).shape[:2], np.int32)

    def _find_curves(self, frame):
        size = frame.image.shape[:2]
        with frame.timed("curves"):
            curves = fit_lanes(frame.label_map, size, self.max_lanes or MAX_CURVES)
        run_time = 1000 * sum(frame.seconds.get(stage, 0) for stage in ("network", "cluster", "tiles", "curves"))
        frame.line = tusimple_line(frame.raw_file, curves, h_samples(size[0]), run_time, size)
        if self.json and not all(self.network.classes.values()):
            frame.line |= name_classes(self.network, frame)
        if self.json and "semantic" in frame.prediction:
            probability = lane_probability(frame.prediction["semantic"][:, :, 0])
            frame.line["scores"] = np.round(lane_scores(frame.line, probability, size), 4).tolist()
            means = mean_probabilities(frame.prediction, frame.label_map)
            frame.line["instance_scores"] = np.round(means, 4).tolist()


def make_finder(args, images=None):
    """The Finder that the flags ask for, of so many images (None: not known); what they leave open is the model's."""
    settings = segmentation.read_settings(args.modeldir, args.bandwidth, args.threshold, args.cluster, args.confidence)
    return Finder(load_network(args, images), settings, args.max_lanes, args.save, bool(args.json))


def load_network(args, images=None):
    """The network of `--modeldir`, ready to run on so many images (None: not known)."""
    jit = args.jit == "on" or args.jit == "auto" and segmentation.has_gpu() and (images or 0) >= JIT_IMAGES
    # as many images at a time as there are cores, one thread each
    network = segmentation.load_network(args.modeldir, args.size, jit, threads=1, int8=args.int8)
    needs = {"save semantic": "semantic" in args.save or None}
    segmentation.require_head(network, args.modeldir, threshold=args.threshold, confidence=args.confidence, **needs)
    if "classes" in args.save and not network.classes:
        raise UserError(f"--save classes: found a model without classes in {args.modeldir}; leave it out")
    folder = utils.model_folder(args.modeldir)
    if folder != Path(args.modeldir):
        print(f"model {folder}")
    if utils.read_network(folder).get("image_statistics"):
        print("batch norm uses the statistics of each image, as this model's config says")
    return network


def paint(frame, kinds, class_names):
    """Paint a Frame's image in each of the kinds of `--save`; `class_names` are those of the network's classes."""
    shape, prediction = frame.image.shape, frame.prediction
    for kind in kinds:
        if kind == "overlay":
            painted = visualization.paint_instances(frame.image, frame.label_map)
            names = {identity: class_names[number - 1] for identity, (number, _) in frame.classes.items()}
            visualization.write_names(painted, frame.label_map, names)
        elif kind == "classes":
            painted = visualization.paint_classes(frame.image, frame.class_map, class_names)
        elif kind == "labels":
            painted = visualization.label_image(frame.label_map, shape)
        elif kind == "semantic":
            painted = visualization.probability_image(prediction["semantic"][:, :, 0], shape)
        elif kind == "embedding":
            painted = visualization.embedding_image(prediction["embedding"], shape)
        else:
            lanes, rows = frame.line["lanes"], frame.line["h_samples"]
            colors = visualization.lane_colors(lanes, rows, frame.label_map, shape)
            painted = visualization.draw_lanes(frame.image, lanes, rows, colors)
        frame.painted[kind] = painted


def check_outputs(args, written, inputs):
    """Raise UserError if a file to write, `written` or `--json`, is an input, another output or the user's own."""
    if args.json and os.path.realpath(args.json) in map(os.path.realpath, written):
        raise UserError(f"--json {args.json}: found a file of --save there, expected another; name another file")
    inputs = {os.path.realpath(path) for path in inputs}
    for path in (*written, *([args.json] if args.json else ())):
        if os.path.realpath(path) in inputs:
            raise UserError(f"{path}: found what is to be read there, expected to write to it; name another --outdir")
    require_own_lines(args.json, "--json")


def run_images(args, threads):
    """Segment and paint the images of `args.indir`; returns the exit code."""
    images = find_images(args.indir, args.recursive)
    kinds, tables = ([kind for kind in args.save if kind in known] for known in (KINDS, FILES))
    outputs = name_outputs([name for _, name in images], args.outdir, kinds, args.keep_names)
    written = [path for files in outputs for path in files.values()]
    check_outputs(args, [*written, *(Path(args.outdir, name) for name in tables)], [path for path, _ in images])
    require_own(args.outdir, tables)
    require_readable([path for path, _ in images])
    with (
        output_folder(args.outdir),
        json_lines(args.json) as write_line,
        instance_files(args.outdir, tables, utils.read_classes(args.modeldir)) as write_instances,
    ):
        find = make_finder(args, len(images))

        def process(frame):
            return process_image(frame, find, kinds, bool(tables))

        def finish(frame):
            write_line(frame.line)
            write_instances(frame.raw_file, frame.image.shape[:2], frame.instances)

        result = run_frames(image_frames(images, outputs), process, finish, threads, len(images))
    print(f"{result.done} images in {args.outdir if args.save else args.json}")
    skipped = f"{result.skipped} of {len(images)} images could not be read and were skipped"
    return exit_code(result.interrupted, skipped if result.skipped else None)


def image_frames(images, outputs):
    """Yield a Frame for each image of `find_images`, with its files of `name_outputs`."""
    counts = Counter(name for _, name in images)  # of two folders, images may have one name
    for (path, name), files in zip(images, outputs, strict=True):
        yield Frame((path if counts[name] > 1 else name).as_posix(), path, files)


def process_image(frame, find, kinds, describe):
    """Read the image of a Frame of `image_frames`, find what is in it and write its `kinds` of `--save`; returns it.

    `find` is a Finder; `describe` tells whether `Frame.instances` are wanted.
    """
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
    if "embedding" in kinds and "embedding" not in frame.prediction:
        kinds = [kind for kind in kinds if kind != "embedding"]
        notes.append("taken in tiles, which have no common embedding: none is written; see --size")
    if notes:
        frame.note = f"{frame.source}: {'; '.join(notes)}"
    if not (kinds or describe or find.json):
        frame.problem = UserError(frame.note)
        return frame
    if describe:
        with frame.timed("describe"):
            frame.instances = describe_frame(frame)
    if kinds:
        with frame.timed("paint"):
            paint(frame, kinds, list(find.network.classes))
        with frame.timed("write"):
            for kind, image in frame.painted.items():
                frame.outputs[kind].parent.mkdir(parents=True, exist_ok=True)
                visualization.save_image(frame.outputs[kind], image)
    return frame


def describe_frame(frame):
    """`describe_instances` of a Frame, at the size of its image."""
    scores = mean_probabilities(frame.prediction, frame.label_map) if "semantic" in frame.prediction else None
    instances = describe_instances(visualization.label_image(frame.label_map, frame.image.shape), scores)
    for one in instances:
        one["class"], score = frame.classes.get(one["id"], (0, 0.0))
        one["class_score"] = round(score, 4)
    return instances


def run_video(args, threads):
    """Segment and paint the frames of `args.video`; returns the exit code."""
    clip = video.open_video(args.video, args.every, args.begin, args.end)
    paths = name_videos(args, clip)
    if paths and not clip.even:
        print(
            f"inference.py: {clip.name}: its frames come unevenly; the result has {clip.result_fps:g} a second, "
            "repeated or left out so that it takes as long",
            file=sys.stderr,
        )
    with contextlib.ExitStack() as stack:
        stack.enter_context(output_folder(args.outdir))
        find = make_finder(args, clip.frames)
        write_line = stack.enter_context(json_lines(args.json))
        codec = video.choose_codec(clip.size, clip.result_fps) if paths else None
        writers = {
            kind: stack.enter_context(video.writing(path, clip.size, clip.result_fps, codec))
            for kind, path in paths.items()
        }
        tracker, last = Tracker(), None

        def finish(frame):
            nonlocal last
            finish_frame(frame, tracker, writers, write_line, list(find.network.classes))
            last = frame.number, frame.time

        result = run_frames(video_frames(clip), find, finish, threads, clip.frames, "frame")
        if not result.done:
            raise UserError(f"--video {args.video}: found no frame that can be decoded; name another video")
    print(f"{result.done} frames in {', '.join(map(str, paths.values())) or args.json}")
    if codec == "mp4v":
        print(
            "browsers don't play its MPEG-4: this OpenCV can't write H.264; where that is needed, "
            "ffmpeg -i RESULT.mp4 -c:v libx264 -pix_fmt yuv420p FOR_BROWSERS.mp4"
        )
    return exit_code(result.interrupted, video.missing(clip, result.done, *last))


def name_videos(args, clip):
    """Files to write for a Video: {kind: Path}; raises UserError if one is the video, or another file of the user's."""
    source = video.local_path(args.video)
    stem = Path(clip.name).stem
    paths = {kind: Path(args.outdir, stem + ("" if kind == "overlay" else f"_{kind}") + ".mp4") for kind in args.save}
    check_outputs(args, paths.values(), [source])
    for path in paths.values():  # of drive.avi it would be drive.mp4, which may be another one of the user's
        if path.exists() and source.is_file() and os.path.samefile(source.parent, args.outdir):
            raise UserError(f"{path}: found beside the video, expected no such file there; name another --outdir")
        video.require_utf8(path, "--outdir")
    return paths


def video_frames(clip):
    """Yield a Frame for each of the frames wanted of a Video."""
    images = video.read_frames(clip)
    while True:
        frame = Frame("")
        with frame.timed("decode"):
            frame.number, frame.time, frame.image = next(images, (0, 0.0, None))
        if frame.image is None:
            return
        frame.raw_file = f"{clip.name}/{frame.number:06d}"
        yield frame


def finish_frame(frame, tracker, writers, write_line, class_names=()):
    """Paint and write a video's Frame; to be called in their order.

    With a Tracker, {kind of `--save`: function of `video.writing`}, and the function of `json_lines`.
    """
    with frame.timed("track"):
        if "overlay" in writers or "lanes" in writers:
            ids, first = np.unique(frame.label_map, return_index=True)
            frame.label_map = tracker.renumber(frame.label_map)
            ids = dict(zip(ids.tolist(), frame.label_map.ravel()[first].tolist(), strict=True))
            frame.classes = {ids[i]: values for i, values in frame.classes.items() if i in ids}
    with frame.timed("paint"):
        paint(frame, writers, class_names)
    with frame.timed("write"):
        for kind, write_frame in writers.items():
            write_frame(frame.painted[kind], frame.time)
        if frame.line:
            write_line({**frame.line, "time": round(frame.time, 3)})


def exit_code(interrupted, problem):
    """Exit code of a run that has done something; says on stderr what there is to say."""
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
    group = parser.add_argument_group("what to read and write")
    add, source = group.add_argument, group.add_mutually_exclusive_group()
    model = "model folder, or run folder: its best/, else its last/; default %(default)s"
    add("-m", "--modeldir", default="trained_model", help=model)
    source.add_argument("-i", "--indir", nargs="+", help=f"folders or files; default {INDIR}")
    video_help = "video file, number of a camera or URL of a stream, in place of images; writes an mp4"
    source.add_argument("--video", metavar="SOURCE", help=video_help)
    add("-r", "--recursive", action="store_true", help="search subfolders, too")
    add("-o", "--outdir", default="inference_test/results", help="folder to write; default %(default)s")
    kinds = ",".join(IMAGE_KINDS)
    add("--save", default="overlay", help=f"what to write, of {kinds}, or none; default %(default)s")
    add("--json", metavar="FILE", help="file of TuSimple lines to write, one per image or frame, with scores")
    add("--keep-names", action="store_true", help="write SUBFOLDER/NAME_cluster.png instead of cluster_0000.png")
    add = parser.add_argument_group("which frames of a video").add_argument
    add("--every", type=bounded(int, least=1), default=1, metavar="N", help="use one frame of N; default %(default)s")
    add("--from", type=bounded(float, least=0), dest="begin", metavar="SECONDS", help="first second; default 0")
    add("--to", type=bounded(float, above=0), dest="end", metavar="SECONDS", help="last second; default the end")
    group = parser.add_argument_group("how to find instances")
    add, fast = group.add_argument, group.add_mutually_exclusive_group()
    side = bounded(int, least=64, most=4096, step=8)
    add("--size", nargs=2, type=side, metavar=("H", "W"), help="network input; default the training's")
    add("--bandwidth", type=bounded(float, above=0), help="of the mean shift; default the model's")
    probability = bounded(float, above=0, below=1)
    add("--threshold", type=probability, help="lane probability of a lane pixel; default the model's")
    probability = bounded(float, least=0, below=1)
    add("--confidence", type=probability, metavar="P", help="mean lane probability of an instance; default the model's")
    add("--max-lanes", type=bounded(int, least=1), metavar="N", help="keep the N largest instances")
    add("--cluster", choices=("fast", "sklearn"), default="fast", help="mean shift of clustering.py or scikit-learn")
    int8 = "use the 8-bit network that python -m export --int8 made, twice as fast"
    fast.add_argument("--int8", action="store_true", help=int8)
    jit = f"compile the network with XLA, some 15 s; auto, the default: with a GPU from {JIT_IMAGES} images on"
    fast.add_argument("--jit", choices=("auto", "on", "off"), default="auto", help=jit)
    args = parser.parse_args(argv)
    check_flags(args, parser.error)
    return args


def check_flags(args, error):
    """Settle what flags mean together; `error` ends the command with a message."""
    args.indir = args.indir or [utils.shipped(INDIR)]
    args.save = list(dict.fromkeys(args.save.split(",")))
    if args.save == ["none"]:
        args.save = []
        if not args.json:
            error("--save none: found no --json either, expected something to write; name a file")
    kinds = VIDEO_KINDS if args.video else IMAGE_KINDS
    if not set(args.save) <= set(kinds):
        error(f"--save: found {','.join(args.save)}, expected some of {','.join(kinds)}, or none alone")
    of_images = {"--recursive": args.recursive, "--keep-names": args.keep_names}
    of_videos = {"--every": args.every > 1, "--from": args.begin is not None, "--to": args.end is not None}
    for flag, given in (of_images if args.video else of_videos).items():
        if given:
            error(f"{flag}: found with{'' if args.video else 'out'} --video, expected the other; leave it out")
    if args.end is not None and args.end <= (args.begin or 0):
        error(f"--to: found {args.end:g}, expected more seconds than --from has, {args.begin or 0:g}")
    if args.json:
        folder = Path(args.json).absolute().parent
        if not folder.is_dir() and folder != Path(args.outdir).absolute():
            error(f"--json: found no folder for {args.json}, expected an existing one")


@command("inference.py", "nothing written")
def main(argv=None):
    args = parse_args(argv)
    run = run_video if args.video else run_images
    return run(args, segmentation.use_cores())


if __name__ == "__main__":
    main()
