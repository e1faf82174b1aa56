"""The config of a run: complete before anything is built, of a new run or as the run to go on with has it."""

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

import utils
from clustering import THRESHOLD
from datagenerator import View, view_of
from loss import LANE_WEIGHT
from run.checkpoint import CHECKPOINT_FILE, read_state
from run.command import UserError
from run.flags import check_flags, parse_args
from run.label_statistics import measure_class_weights, measure_labels
from run.pairs import parse_source

# flags that may change when a run goes on
RESUMABLE = {"steps", "epochs", "logdir", "save_every", "plot_every", "cluster_every", "srcdir", "valdir"}
LOG_FOLDER = "log"  # of the run folder, unless --logdir names another
NOT_SAVED = {"resume", "given", "command"}  # of the flags, in config.json


@dataclass
class Config:
    """What a run is made from; `to_json` is its `config.json`."""

    flags: argparse.Namespace  # every flag; `resume` is the run folder if the run goes on, else None
    network: dict  # arguments of `enet.build_enet`
    view: View  # how the network sees images
    foreground_weight: float  # of a pixel in the semantic loss, background 1
    threshold: float  # lane probability from which a pixel belongs to an instance
    min_pixels: float | None  # of an instance
    classes: dict  # {name: whether it is stuff}
    class_weights: list  # of the classes, in the class loss
    origin: dict  # versions, commit and command; of a run to go on with its config.json

    @property
    def size(self):
        """(H, W) of the network, in pixels."""
        return input_size(self.flags)

    def to_json(self):
        """Content of `config.json`."""
        config = {
            **self.origin,
            "network": self.network,
            "flags": {name: value for name, value in vars(self.flags).items() if name not in NOT_SAVED},
            "view": self.view.kind,
            "zoom": self.view.zoom,
            "normalize": self.view.normalize,
            "foreground_weight": self.foreground_weight,
            "threshold": self.threshold,
            "min_pixels": self.min_pixels,
        }
        if self.classes:
            config["classes"] = list(self.classes)
            config["stuff"] = [name for name, stuff in self.classes.items() if stuff]
            config["class_weights"] = self.class_weights
        return config


def input_size(flags):
    """(H, W) of the network, in pixels."""
    return tuple(flags.crop or flags.image_size)


def settle_flags(args):
    """The flags of a run: those of the command line, or with --resume those of the run to go on with.

    A worker of several machines that is started again goes on with its run by itself.

    Args:
        args: of `flags.parse_args`.

    Returns:
        (flags, saved): argparse.Namespace, and the complete `config.json` of the run to go on with, else None.

    Raises:
        UserError: a run to go on with that can't be read, or flags that contradict its own.
    """
    if args.strategy == "multiworker" and not args.resume and (Path(args.outdir) / CHECKPOINT_FILE).exists():
        args.resume = args.outdir
    if not args.resume:
        args.logdir = args.logdir or str(Path(args.outdir, LOG_FOLDER))
        return args, None
    saved = read_run(args.resume)
    flags = {**saved["flags"], "outdir": args.resume, "resume": args.resume, "command": args.command}
    find_folders(flags, saved["flags"]["outdir"], args.given)
    if "epochs" in args.given:
        flags["steps"] = None
    for name in sorted(args.given):
        value = getattr(args, name)
        if name in RESUMABLE:
            flags[name] = value
        elif flags[name] != value:
            raise UserError(
                f"--{name.replace('_', '-')}: found {value}, expected {flags[name]} as the run in {args.resume} has; "
                "leave it out or name another --outdir"
            )
    check_flags(flags, Path(args.resume) / utils.CONFIG_FILE)
    return argparse.Namespace(**flags), saved


def find_folders(flags, outdir, given):
    """Make the folders of the flags of a run to go on with those that are meant.

    Relative ones were meant from the working directory that the run had; its own log folder goes with the run folder.

    Args:
        flags: {name: value}; `srcdir`, `valdir` and `logdir` are changed.
        outdir: what the run folder was called.
        given: names of the flags of the command line, which are left as they are.

    Raises:
        UserError: a data folder isn't there any more.
    """
    before = read_state(flags["resume"]).get("folder", os.getcwd())

    def find(folder):
        there = os.path.join(before, folder)
        return folder if before == os.getcwd() or not Path(parse_source(there)[0]).exists() else there

    for name in {"srcdir", "valdir"} - given:
        flags[name] = flags[name] and [find(folder) for folder in flags[name]]
        for folder in flags[name] or ():
            if not Path(parse_source(folder)[0]).exists():
                raise UserError(
                    f"--resume {flags['resume']}: found no folder {folder}, expected the run's data; "
                    f"--{name} names where they are now"
                )
    is_own = flags["logdir"] in (None, str(Path(outdir, LOG_FOLDER)))
    flags["logdir"] = str(Path(flags["resume"], LOG_FOLDER)) if is_own else find(flags["logdir"])


def read_run(folder):
    """`config.json` of a run folder, complete also if an earlier version wrote it.

    Raises:
        UserError: it is missing or broken.
    """
    config = {"foreground_weight": LANE_WEIGHT, "threshold": THRESHOLD, "min_pixels": None, "class_weights": []}
    config |= utils.read_config(folder)
    flags = config.get("flags")
    if not isinstance(flags, dict) or not flags:
        path = Path(folder) / utils.CONFIG_FILE
        raise UserError(f"{path}: flags: found none, expected the run's flags; restore the file")
    defaults = {name: value for name, value in vars(parse_args([])).items() if name not in NOT_SAVED}
    flags = {**defaults, **flags}
    if isinstance(flags["valdir"], str):  # there could be one alone
        flags["valdir"] = [flags["valdir"]]
    if flags["steps"] and flags["epochs"] is None:  # was taken out where steps were given
        flags["epochs"] = defaults["epochs"]
    flags.pop("refinement", None)  # the network's says whether there is one
    return {**config, "flags": flags}


def resumed_config(flags, data, saved):
    """The `Config` of a run to go on with, of its flags, data and `config.json`; raises UserError as `view_of`."""
    numbers = {name: saved[name] for name in ("foreground_weight", "threshold", "min_pixels", "class_weights")}
    return Config(flags, saved["network"], view_of(saved, flags.outdir), **numbers, classes=data.classes, origin=saved)


def new_config(flags, data):
    """The `Config` of a new run; what depends on the labels is as these are.

    Args:
        flags: of `settle_flags`.
        data: `pairs.Data`.

    Raises:
        UserError: a label or a model to start from that can't be used, or flags that contradict that model.
    """
    view = new_view(flags)
    statistics = measure_labels(data.pairs, input_size(flags), view, flags.ignore)
    network = new_network(flags, data, statistics)
    foreground_weight = flags.foreground_weight or statistics.foreground_weight()
    # a network trained so says w / (w + 1) where foreground is as likely as not
    threshold = THRESHOLD if any(data.lanes.values()) else round(foreground_weight / (foreground_weight + 1), 3)
    # lanes need no such limit: they are all of about one size
    min_pixels = statistics.small_area or None if network["coordinate_scale"] else None
    class_weights = measure_class_weights(data, input_size(flags), view)
    origin = {"command": flags.command, **utils.code_version()}
    return Config(flags, network, view, foreground_weight, threshold, min_pixels, data.classes, class_weights, origin)


def new_view(flags):
    """The `View` of a new run; a model to start from that sees images normalized goes on seeing them so."""
    kind, normalize = "crop" if flags.crop else "aspect" if flags.keep_aspect else "stretch", flags.normalize
    if flags.modeldir.lower() != "none":
        folder = utils.model_folder(flags.modeldir)
        normalize |= view_of(utils.read_saved_config(folder), folder).normalize
    return View(kind, flags.zoom, normalize)


def new_network(flags, data, statistics):
    """Arguments of `enet.build_enet` for a new run; what belongs to the weights it starts from is as they have it.

    Args:
        flags: of `settle_flags`.
        data: `pairs.Data`.
        statistics: `LabelStatistics`. With --coordinates a typical instance becomes as wide as the distance that the
            loss asks of two means, 2 ddist; without it a model that has them keeps its scale.
    """
    network = {} if flags.modeldir.lower() == "none" else utils.read_network(utils.model_folder(flags.modeldir))
    for flag, is_given, argument in (
        ("--skip-connections", flags.skip_connections, "skip_connections"),
        ("--coordinates", flags.coordinates, "coordinate_scale"),
    ):
        if network and is_given and not network.get(argument):
            raise UserError(
                f"{flag}: found a model without them in --modeldir {flags.modeldir}, expected one with them; "
                "leave the flag out or start from another model or none"
            )
    if flags.coordinates and flags.feature_dim < 2:
        raise UserError(f"--feature-dim: found {flags.feature_dim}, expected at least 2 with --coordinates; raise it")
    scale = round(max(statistics.diameter, 1.0) / (2 * flags.ddist or 3.0), 3)
    network.pop("classes", None)
    return network | {
        "input_shape": [*input_size(flags), 3],
        "embedding_dim": flags.feature_dim,
        "semantic": flags.sem > 0 and data.has_labels,
        "dropout": not flags.no_dropout and network.get("dropout", True),
        "skip_connections": bool(flags.skip_connections or network.get("skip_connections")),
        "coordinate_scale": scale if flags.coordinates else network.get("coordinate_scale"),
        **({"classes": len(data.classes)} if data.classes else {}),
    }
