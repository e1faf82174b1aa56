"""The config of a run: complete before anything is built, of a new run or as the run to go on with has it."""

import argparse
from dataclasses import dataclass
from pathlib import Path

import utils
from clustering import THRESHOLD
from datagenerator import View, view_of
from loss import LANE_WEIGHT
from run.checkpoint import CHECKPOINT_FILE
from run.command import UserError
from run.flags import restore_flags
from run.label_statistics import measure_class_weights, measure_labels

# flags that may change when a run goes on
RESUMABLE = {"steps", "epochs", "logdir", "save_every", "plot_every", "srcdir", "valdir"}
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
        names = ("network", "foreground_weight", "threshold", "min_pixels")
        config = self.origin | {name: getattr(self, name) for name in names}
        config["flags"] = {name: value for name, value in vars(self.flags).items() if name not in NOT_SAVED}
        config |= {"view": self.view.kind, "zoom": self.view.zoom, "normalize": self.view.normalize}
        if self.classes:
            stuff = [name for name, is_stuff in self.classes.items() if is_stuff]
            config |= {"classes": list(self.classes), "stuff": stuff, "class_weights": self.class_weights}
        return config


def input_size(flags):
    """(H, W) of the network, in pixels."""
    return tuple(flags.crop or flags.image_size)


def settle_flags(args):
    """(flags, saved) of a run: of `parse_args` and None, or with --resume those of the run and its `config.json`.

    A worker of several machines that is started again goes on with its run by itself. Raises UserError for a run to go
    on with that can't be read, or flags that contradict its own.
    """
    if args.strategy == "multiworker" and not args.resume and (Path(args.outdir) / CHECKPOINT_FILE).exists():
        args.resume = args.outdir
    if not args.resume:
        args.logdir = args.logdir or str(Path(args.outdir, LOG_FOLDER))
        return args, None
    saved, path = utils.read_config(args.resume), Path(args.resume) / utils.CONFIG_FILE
    if not isinstance(saved.get("flags"), dict) or not saved["flags"]:
        raise UserError(f"{path}: flags: found none, expected the run's flags; restore the file")
    flags = restore_flags(saved["flags"], path)
    if flags["logdir"] == str(Path(flags["outdir"], LOG_FOLDER)):  # its own goes with the run folder
        flags["logdir"] = str(Path(args.resume, LOG_FOLDER))
    flags |= {"outdir": args.resume, "resume": args.resume, "command": args.command}
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
    return argparse.Namespace(**flags), saved


def resumed_config(flags, data, saved):
    """The `Config` of a run to go on with, of its flags, data and `config.json`; raises UserError as `view_of`."""
    numbers = {"foreground_weight": LANE_WEIGHT, "threshold": THRESHOLD, "min_pixels": None, "class_weights": []}
    numbers = {name: saved.get(name, default) for name, default in numbers.items()}
    return Config(flags, saved["network"], view_of(saved, flags.outdir), **numbers, classes=data.classes, origin=saved)


def new_config(flags, data):
    """The `Config` of a new run with `pairs.Data`; what depends on the labels is as these are.

    Raises UserError for a label or a model to start from that can't be used, or flags that contradict that model.
    """
    view, size = new_view(flags), input_size(flags)
    statistics = measure_labels(data.pairs, size, view, flags.ignore)
    network = new_network(flags, data, statistics)
    foreground_weight = flags.foreground_weight or statistics.foreground_weight()
    return Config(
        flags,
        network,
        view,
        foreground_weight,
        # a network trained so says w / (w + 1) where foreground is as likely as not
        THRESHOLD if any(data.lanes.values()) else round(foreground_weight / (foreground_weight + 1), 3),
        # lanes need no such limit: they are all of about one size
        (statistics.small_area or None) if network["coordinate_scale"] else None,
        data.classes,
        measure_class_weights(data, size, view),
        {"command": flags.command, **utils.code_version()},
    )


def new_view(flags):
    """The `View` of a new run; a model to start from that sees images normalized goes on seeing them so."""
    kind, normalize = "crop" if flags.crop else "aspect" if flags.keep_aspect else "stretch", flags.normalize
    if flags.modeldir.lower() != "none":
        folder = utils.model_folder(flags.modeldir)
        normalize |= view_of(utils.read_saved_config(folder), folder).normalize
    return View(kind, flags.zoom, normalize)


def new_network(flags, data, statistics):
    """Arguments of `enet.build_enet` for a new run; what belongs to the weights it starts from is as they have it.

    With --coordinates a typical instance, of `LabelStatistics`, becomes as wide as the distance that the loss asks of
    two means, 2 ddist; without it a model that has them keeps its scale.
    """
    network = {} if flags.modeldir.lower() == "none" else utils.read_network(utils.model_folder(flags.modeldir))
    for name, argument in (("skip_connections", "skip_connections"), ("coordinates", "coordinate_scale")):
        if network and getattr(flags, name) and not network.get(argument):
            raise UserError(
                f"--{name.replace('_', '-')}: found a model without them in --modeldir {flags.modeldir}, expected one "
                "with them; leave the flag out or start from another model or none"
            )
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
