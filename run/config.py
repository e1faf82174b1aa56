"""The config of a run, complete before anything is built: a new one or that of the run to go on with."""

from pathlib import Path

import utils
from clustering import THRESHOLD
from datagenerator import View, view_of
from run.checkpoint import CHECKPOINT_FILE
from run.command import UserError
from run.flags import flag_words, parse_args
from run.label_statistics import measure_class_weights, measure_labels

# flags that may change when a run goes on
RESUMABLE = {"steps", "epochs", "logdir", "save_every", "plot_every", "srcdir", "valdir"}
NOT_SAVED = {"resume", "command"}  # of the flags, in config.json


def settle_flags(argv=None):
    """(flags, saved) of a command line: a new run's and None, or with --resume the run's and its `config.json`.

    A worker of several machines that is started again goes on by itself.
    """
    args = parse_args(argv)
    if args.strategy == "multiworker" and not args.resume and (Path(args.outdir) / CHECKPOINT_FILE).exists():
        args.resume = args.outdir
    if not args.resume:
        return args, None
    saved, path = utils.read_config(args.resume), Path(args.resume) / utils.CONFIG_FILE
    if not isinstance(saved.get("flags"), dict) or not saved["flags"]:
        raise UserError(f"{path}: flags: found none, expected the run's; restore the file")
    words = flag_words({**saved["flags"], "outdir": args.resume})
    before, flags = parse_args([], words, path), parse_args(argv, words, path)
    for name in sorted(vars(flags).keys() - RESUMABLE - NOT_SAVED):
        found, expected = getattr(flags, name), getattr(before, name)
        if found != expected:
            raise UserError(
                f"--{name.replace('_', '-')}: found {found}, expected {expected} as in {args.resume}; leave it out or "
                "name another --outdir"
            )
    flags.resume = args.resume
    return flags, saved


def make_config(flags, data, saved=None):
    """Content of `config.json` of a run with `pairs.Data`: a new one, or `saved` with the present flags."""
    flags_saved = {name: value for name, value in vars(flags).items() if name not in NOT_SAVED}
    if saved:
        return saved | {"flags": flags_saved}
    view, size = new_view(flags), input_size(flags)
    statistics = measure_labels(data.pairs, size, view, flags.ignore)
    network, weight = new_network(flags, data, statistics), flags.foreground_weight or statistics.foreground_weight()
    config = {
        "command": flags.command,
        **utils.code_version(),
        "network": network,
        "foreground_weight": weight,  # of a pixel in the semantic loss, background 1
        # so weighted, a network says w / (w + 1) where foreground is as likely as not
        "threshold": THRESHOLD if any(data.lanes.values()) else round(weight / (weight + 1), 3),
        # not for lanes, which are thin and all of about one size
        "min_pixels": (statistics.small_area or None) if network["coordinate_scale"] else None,
        "min_width": statistics.small_width if network["coordinate_scale"] else 1,
        "flags": flags_saved,
        "view": view.kind,
        "zoom": view.zoom,
        "normalize": view.normalize,
    }
    if data.classes:
        config["classes"], config["stuff"] = list(data.classes), [name for name in data.classes if data.classes[name]]
        config["class_weights"] = measure_class_weights(data, size, view)
    return config


def input_size(flags):
    """(H, W) of the network, in pixels."""
    return tuple(flags.crop or flags.image_size)


def new_view(flags):
    """The `View` of a new run; a model to start from that normalizes images goes on so."""
    kind, normalize = "crop" if flags.crop else "aspect" if flags.keep_aspect else "stretch", flags.normalize
    if flags.modeldir.lower() != "none":
        folder = utils.model_folder(flags.modeldir)
        normalize |= view_of(utils.read_saved_config(folder), folder).normalize
    return View(kind, flags.zoom, normalize)


def new_network(flags, data, statistics):
    """Arguments of `enet.build_enet` for a new run; what belongs to the weights of --modeldir is as there.

    With --coordinates an instance of median diameter becomes 2 ddist wide, as far as two means are to lie apart.
    """
    network = {} if flags.modeldir.lower() == "none" else utils.read_network(utils.model_folder(flags.modeldir))
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
