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
    classes    the image with its pixels' classes, of a model that has some

and of all images together instances.json (COCO's form) and instances.csv. --json writes TuSimple's lines, with scores.
Exit code 3: some files could not be read; 2: nothing done; 130: Ctrl-C, what is done is kept. More in doc/own_data.md.
"""

if __name__ == "__main__":
    from run.command import start

    start()

import contextlib
import math
import os
import sys
import time
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

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
from pipeline.tracking import Tracker, instance_profiles
from run.command import UserError, bounded, command, make_parser, one_line

INDIR = "inference_test/images"
KINDS = ("overlay", "labels", "semantic", "embedding", "lanes", "classes")
VIDEO_KINDS = ("overlay", "lanes", "classes")
IMAGE_KINDS = (*KINDS, *FILES)


@dataclass
class Finder:
    """Finds the instances of a Frame's image and what else is wanted of it."""

    network: segmentation.Network
    settings: segmentation.Settings
    save: list
    json: bool  # whether a line is wanted

    def __call__(self, frame):
        start, network = time.perf_counter(), self.network
        if network.view.normalize:  # painted on as well: it can be nearly black
            frame.image = normalize(frame.image)
        size = frame.image.shape[:2]
        settings = self.settings if self.json or {*self.save} - {"semantic", "embedding", "classes"} else None
        frame.prediction, frame.label_map = segmentation.segment_outputs(network, frame.image, settings)
        if self.json or "lanes" in self.save:
            curves = fit_lanes(frame.label_map, size, logits=frame.prediction.get("semantic"))
            run_time = 1000 * (time.perf_counter() - start)
            frame.line = tusimple_line(frame.raw_file, curves, h_samples(size[0]), run_time, size)
        if network.classes:
            frame.classes = classes_of_instances(network, frame.prediction, frame.label_map)
        if "classes" in self.save:
            frame.class_map = find_classes(network, frame.prediction, size, self.settings.threshold)
        if "semantic" in frame.prediction and (self.json or {*FILES} & {*self.save}):
            frame.scores = mean_probabilities(frame.prediction, frame.label_map)
        if self.json:
            if not all(network.classes.values()):
                frame.line |= name_classes(network, frame)
            if "semantic" in frame.prediction:
                probability = lane_probability(frame.prediction["semantic"][:, :, 0])
                frame.line["scores"] = np.round(lane_scores(frame.line, probability, size), 4).tolist()
                frame.line["instance_scores"] = np.round(frame.scores, 4).tolist()
        return frame


def make_finder(args):
    settings = segmentation.read_settings(args)
    # as many images at a time as there are cores, one thread each
    network = segmentation.load_network(args.modeldir, args.size, args.jit, threads=1, int8=args.int8)
    segmentation.require_head(network, args, **{"save semantic": "semantic" in args.save or None})
    if "classes" in args.save and not network.classes:
        raise UserError(f"--save classes: found a model without classes in {args.modeldir}; leave it out")
    return Finder(network, settings, args.save, bool(args.json))


def paint(frame, kind, class_names):
    """What one of `KINDS` shows of a Frame: (h, w, 3) uint8 RGB or (h, w)."""
    shape, prediction = frame.image.shape, frame.prediction
    if kind == "overlay":
        painted = visualization.paint_instances(frame.image, frame.label_map)
        names = {identity: class_names[number - 1] for identity, (number, _) in frame.classes.items()}
        visualization.write_names(painted, frame.label_map, names)
        return painted
    if kind == "classes":
        return visualization.paint_classes(frame.image, frame.class_map, class_names)
    if kind == "labels":
        return visualization.label_image(frame.label_map, shape)
    if kind == "semantic":
        return visualization.probability_image(prediction["semantic"][:, :, 0], shape)
    if kind == "embedding":
        return visualization.embedding_image(prediction["embedding"], shape)
    lanes, rows = frame.line["lanes"], frame.line["h_samples"]
    colors = visualization.lane_colors(lanes, rows, frame.label_map, shape)
    return visualization.draw_lanes(frame.image, lanes, rows, colors)


def check_outputs(args, written, inputs):
    """Raise UserError if a file to write is an input, another output or the user's own."""
    taken = set(map(os.path.realpath, inputs))
    for path in (*written, *([args.json] if args.json else ())):
        place = os.path.realpath(path)
        if place in taken:
            raise UserError(f"{path}: found what is to be read or written, expected neither; name another")
        taken.add(place)
    require_own_lines(args.json, "--json")


def run_images(args, threads):
    """Segment and paint `--indir`; returns the exit code."""
    images = find_images(args.indir, args.recursive)
    kinds, tables = ([kind for kind in args.save if kind in known] for known in (KINDS, FILES))
    outputs = name_outputs([name for _, name in images], args.outdir, kinds, args.keep_names)
    written = [path for files in outputs for path in files.values()]
    check_outputs(args, [*written, *(Path(args.outdir, name) for name in tables)], [path for path, _ in images])
    require_own(args.outdir, tables)
    require_readable([path for path, _ in images])
    counts = Counter(name for _, name in images)  # of two folders, images may have one name
    names = ((path if counts[name] > 1 else name).as_posix() for path, name in images)
    with (
        output_folder(args.outdir),
        json_lines(args.json) as write_line,
        instance_files(args.outdir, tables, utils.read_classes(args.modeldir)) as add_instances,
    ):
        process = partial(process_image, find=make_finder(args))

        def finish(frame):
            write_line(frame.line)
            add_instances(frame.raw_file, frame.image.shape[:2], frame.instances)

        frames = (Frame(name, path, files) for name, (path, _), files in zip(names, images, outputs, strict=True))
        done, skipped, interrupted = run_frames(frames, process, finish, threads, len(images))
    print(f"{done} images in {args.outdir if args.save else args.json}")
    problem = f"{skipped} of {len(images)} images could not be read" if skipped else None
    return exit_code(interrupted, problem)


def process_image(frame, find):
    """Read the image of a Frame, let a Finder work on it and write its outputs; returns it."""
    try:
        frame.image = read_image(frame.source)
    except UserError as error:
        frame.problem = error
        return frame
    if (number := count_images(frame.source.read_bytes())) > 1:
        say(frame, f"holds {number} images, of which the first is taken")
    find(frame)
    if "embedding" in frame.outputs and "embedding" not in frame.prediction:
        say(frame, "taken in tiles, which have no common embedding: none is written; see --size")
        del frame.outputs["embedding"]
    if {*FILES} & {*find.save}:
        label_map = visualization.label_image(frame.label_map, frame.image.shape)
        frame.instances = describe_instances(label_map, frame.scores, frame.classes)
    for kind, path in frame.outputs.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        visualization.save_image(path, paint(frame, kind, list(find.network.classes)))
    return frame


def say(frame, text):
    tqdm.write(one_line(f"{frame.source}: {text}"), file=sys.stderr)


def run_video(args, threads):
    """Segment and paint `--video`; returns the exit code."""
    clip = video.open_video(args.video, args.every, args.begin, args.end)
    paths = name_videos(args, clip)
    with contextlib.ExitStack() as stack:
        stack.enter_context(output_folder(args.outdir))
        find, tracker, fps = make_finder(args), Tracker(), clip.result_fps
        write_line = stack.enter_context(json_lines(args.json))
        writers = {kind: stack.enter_context(video.writing(path, clip.size, fps)) for kind, path in paths.items()}

        def finish(frame):
            finish_frame(frame, tracker, writers, write_line, list(find.network.classes))

        read = video.read_frames(clip)
        frames = (Frame(f"{clip.name}/{number:06d}", image=image, time=seconds) for number, seconds, image in read)
        done, _, interrupted = run_frames(frames, find, finish, threads, clip.total, "frame")
        if not done:
            raise UserError(f"--video {args.video}: found no frame from --from to --to; name other seconds")
    print(f"{done} frames in {', '.join(map(str, paths.values())) or args.json}")
    return exit_code(interrupted, video.missing(clip))


def name_videos(args, clip):
    """Files to write for a Video: {kind: Path}; UserError if one is the video or may be the user's."""
    source, stem = Path(args.video), Path(clip.name).stem
    paths = {kind: Path(args.outdir, stem + ("" if kind == "overlay" else f"_{kind}") + ".mp4") for kind in args.save}
    check_outputs(args, paths.values(), [source])
    for path in paths.values():  # of drive.avi it would be drive.mp4, another video
        if path.exists() and source.is_file() and os.path.samefile(source.parent, args.outdir):
            raise UserError(f"{path}: found beside the video, expected no such file there; name another --outdir")
    return paths


def finish_frame(frame, tracker, writers, write_line, class_names):
    """Paint and write a video's Frame, in their order; `writers` are {kind: function of `video.writing`}."""
    if writers:
        ids = np.append(0, tracker.update(instance_profiles(frame.label_map)))
        frame.label_map = np.take(ids, frame.label_map)
        frame.classes = {int(ids[identity]): values for identity, values in frame.classes.items()}
    for kind, write_frame in writers.items():
        write_frame(paint(frame, kind, class_names), frame.time)
    if frame.line:
        write_line({**frame.line, "time": round(frame.time, 3)})


def exit_code(interrupted, problem):
    """Exit code of a run that has done something; says on stderr why it isn't 0."""
    if interrupted:
        problem = "interrupted, what is done is kept"
    if problem:
        print(f"inference.py: {problem}", file=sys.stderr)
    return 130 if interrupted else 3 if problem else 0


def parse_args(argv=None):
    parser = make_parser("inference.py", __doc__)
    group = parser.add_argument_group("what to read and write")
    add, source = group.add_argument, group.add_mutually_exclusive_group()
    model = "model folder, or run folder: its best/, else its last/; default %(default)s"
    add("-m", "--modeldir", default="trained_model", help=model)
    source.add_argument("-i", "--indir", nargs="+", help=f"folders or files; default {INDIR}")
    source.add_argument("--video", metavar="SOURCE", help="video file, camera's number or stream's URL; writes an mp4")
    add("-r", "--recursive", action="store_true", help="search subfolders, too")
    add("-o", "--outdir", default="inference_test/results", help="folder to write; default %(default)s")
    kinds = ",".join(IMAGE_KINDS)
    add("--save", default="overlay", help=f"what to write, of {kinds}, or none; default %(default)s")
    add("--json", metavar="FILE", help="file of TuSimple lines to write, one per image or frame, with scores")
    add("--keep-names", action="store_true", help="write SUBFOLDER/NAME_cluster.png instead of cluster_0000.png")
    add = parser.add_argument_group("which frames of a video").add_argument
    add("--every", type=bounded(int, least=1), default=1, metavar="N", help="use one frame of N; default %(default)s")
    seconds = bounded(float, least=0)
    add("--from", type=seconds, default=0.0, dest="begin", metavar="SECONDS", help="first second; default 0")
    add("--to", type=seconds, default=math.inf, dest="end", metavar="SECONDS", help="last second; default the end")
    group = parser.add_argument_group("how to find instances")
    add, fast = group.add_argument, group.add_mutually_exclusive_group()
    side = bounded(int, least=64, most=4096, step=8)
    add("--size", nargs=2, type=side, metavar=("H", "W"), help="network input; default the training's")
    segmentation.add_flags(add)
    fast.add_argument("--int8", action="store_true", help="the 8-bit network of python -m export --int8, twice as fast")
    fast.add_argument("--jit", action="store_true", help="compile the network with XLA, some 15 s; pays with a GPU")
    args = parser.parse_args(argv)
    args.indir = args.indir or [utils.shipped(INDIR)]
    args.save = list(dict.fromkeys(args.save.split(",")))
    if args.save == ["none"]:
        args.save = []
        if not args.json:
            parser.error("--save none: found no --json, expected something to write; name a file")
    kinds = VIDEO_KINDS if args.video else IMAGE_KINDS
    if not set(args.save) <= set(kinds):
        parser.error(f"--save: found {','.join(args.save)}, expected some of {','.join(kinds)}, or none alone")
    if not args.video and (args.every > 1 or args.begin > 0 or args.end < math.inf):
        parser.error("--every, --from, --to: found without --video, expected a video; leave them out")
    if args.end <= args.begin:
        parser.error(f"--to: found {args.end:g}, expected more than --from has, {args.begin:g}")
    return args


@command("inference.py", "nothing written")
def main(argv=None):
    args = parse_args(argv)
    run = run_video if args.video else run_images
    return run(args, segmentation.use_cores())


if __name__ == "__main__":
    main()
