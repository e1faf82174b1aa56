"""Train ENet with the discriminative loss.

    python training.py --srcdir data --modeldir none --outdir saved_model
    python training.py --srcdir data --modeldir none --outdir semantic_model --var 0 --dist 0 --reg 0
    python training.py --resume saved_model
    python training.py @doc/runs/sixth.args
    TF_CONFIG=... python training.py --strategy multiworker

Reads `images/` and `labels/` of the data folder(s). Writes to the run folder `--outdir`: `config.json` (every flag,
package versions, git commit), `log.jsonl` (one line per epoch), `checkpoint.npz` (to go on from), the model folders
`best/` and `last/`, and a folder named after the loss weights with plots of one validation image's embeddings.
TensorBoard events go to `--logdir`. Ctrl-C saves and ends; `--resume` goes on, after a crash too, as if nothing had
been (`--deterministic`: bit for bit). If the validation folder has the `labels.json` of the data scripts, the best
model is the one of the best TuSimple score, else that of the highest average precision of instances. @FILE stands for
the flags in a file, `#` begins a comment there.
"""

if __name__ == "__main__":
    from data.ending import end_in_one_line

    end_in_one_line()

import argparse
import contextlib
import os
import shlex
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

import utils
from clustering import BANDWIDTH, THRESHOLD
from data.ending import deferred_signals, one_line
from data.flags import bounded
from data.tusimple_dataset_processing import LabelError
from datagenerator import MAX_ZOOM, DataError, View, batches, make_dataset, view_of
from loss import LANE_WEIGHT
from run import devices
from run.folder import Run, take_folder
from run.labels import look_at_labels
from run.pairs import collect_pairs, describe_pairs, find_copies
from run.train_step import LOSS_TERMS, LossWeights, WeightAverages, make_losses, make_optimizer, make_train_step
from run.validation import SummaryLog, Validation

# flags that may change when a run goes on
RESUMABLE = {"resume", "steps", "epochs", "logdir", "save_every", "plot_every", "cluster_every"}
SEMANTIC_WEIGHT = 1.0
CROWD_WEIGHT = 10.0  # with --coordinates: a hundred instances' losses are that much larger than those of lanes


def make_parser(defaults=True):
    """Parser of the flags; without `defaults` it tells only those that were given."""
    parser = argparse.ArgumentParser(
        prog="training.py",
        description=__doc__.split("\n", 1)[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        fromfile_prefix_chars="@",
    )
    # a file may begin with a byte order mark
    parser.convert_arg_line_to_args = lambda line: shlex.split(line.removeprefix("\ufeff"), comments=True)

    def group(title):
        place = parser.add_argument_group(title)

        def add(*names, default=None, **more):
            if more.get("action") == "store_true":
                default = False
            place.add_argument(*names, default=default if defaults else argparse.SUPPRESS, **more)

        return add

    count, least_zero = bounded(int, least=1), bounded(float, least=0)
    add = group("data")
    add("-s", "--srcdir", nargs="+", default=["data"], help="data folders; FOLDER:N takes its images N times as often")
    add(
        "--valdir",
        nargs="+",
        help="validation data folders, each counts alike and is reported; default 10 %% of srcdir, random state 42",
    )
    add(
        "--image-size",
        nargs=2,
        type=bounded(int, least=8, step=8),
        default=[512, 512],
        metavar=("H", "W"),
        help="network input, multiples of 8",
    )
    add("--keep-aspect", action="store_true", help="images keep their proportions: width W, the height follows")
    add("--crop", nargs=2, type=bounded(int, least=8, step=8), metavar=("H", "W"), help="train on parts of this size")
    add(
        "--normalize",
        action="store_true",
        help="stretch each image from black to white first, as microscopes' need; as --modeldir has it",
    )
    add(
        "--zoom",
        type=bounded(float, above=0, most=MAX_ZOOM),
        default=1.0,
        help="enlarge images so many times before --crop",
    )
    add("--batch-size", type=count, default=1, help="images per step")
    add("--balance", action="store_true", help="take images with a rare number of instances more often")
    add("--ignore", type=bounded(int, least=1, most=65535), metavar="ID", help="label value that counts as nothing")
    add("--no-augment", action="store_true", help="train on the images as they are")
    add = group("model")
    add("-m", "--modeldir", default="pretrained_semantic_model", help="model to start from, or none")
    add("--feature-dim", type=count, default=3, help="channels of the embedding")
    add("--skip-connections", action="store_true", help="add encoder outputs in the decoder; as --modeldir has it")
    add(
        "--coordinates",
        action="store_true",
        help="add each pixel's place to its embedding, for objects that look alike; as --modeldir has it",
    )
    add = group("run")
    add("-o", "--outdir", default="saved_model", help="run folder to write, a new or empty one")
    add("--resume", metavar="RUN_FOLDER", help="go on with a run and its own flags; --steps or --epochs: longer")
    add("-l", "--logdir", default="log", help="folder of the TensorBoard events")
    add("--epochs", type=count, default=50, help="rounds over the training images")
    add("--steps", type=count, help="optimizer steps, instead of --epochs")
    add("--seed", type=bounded(int, least=0, below=2**32), default=42, help="of weights, data order and augmentation")
    add("--jit", action="store_true", help="compile the whole step with XLA: slower start, faster steps")
    add("--mixed-precision", action="store_true", help="network in bfloat16; weights, embedding and losses in float32")
    add("--deterministic", action="store_true", help="equal flags give equal weights, bit for bit")
    add(
        "--strategy",
        choices=devices.STRATEGIES,
        default="none",
        help="mirrored: all GPUs of this machine; multiworker: the machines that TF_CONFIG names",
    )
    add = group("loss")
    add("--var", type=least_zero, default=1.0, help="weight of the variance term")
    add("--dist", type=least_zero, default=1.0, help="weight of the distance term")
    add("--reg", type=least_zero, default=1.0, help="weight of the regularization term (the paper: 0.001)")
    add("--dvar", type=least_zero, default=0.5, help="hinge margin of the variance term")
    add("--ddist", type=least_zero, default=1.5, help="half the hinge margin of the distance term")
    add(
        "--sem",
        type=least_zero,
        help="weight of the semantic loss, 0: no semantic head, as the original; "
        f"default {SEMANTIC_WEIGHT:g}, with --coordinates {CROWD_WEIGHT:g}",
    )
    add(
        "--foreground-weight",
        type=bounded(float, above=0),
        metavar="W",
        help="of an instance's pixel in the semantic loss, background 1; default by their fraction in the labels",
    )
    add = group("optimizer")
    add("--lr", type=least_zero, default=1e-4, help="highest learning rate")
    add("--optimizer", choices=("adam", "adamw"), default="adam", help="adamw: with weight decay")
    add("--weight-decay", type=least_zero, default=1e-4, help="of adamw")
    add("--schedule", choices=("original", "cosine"), default="original", help="x0.96 every 5000 steps, or cosine to 0")
    add("--warmup", type=bounded(int, least=0), default=0, help="steps of linear warm-up, cosine schedule only")
    add("--clip-norm", type=least_zero, default=0.0, help="scale gradients down to this global norm; 0 = don't")
    decay = bounded(float, least=0, below=1)
    add("--ema", type=decay, default=0.0, help="decay of averaged weights, which are validated and kept; 0 = none")
    add = group("cycles")
    add("--save-every", type=count, default=500, help="steps between checkpoints")
    add("--plot-every", type=count, default=1000, help="steps between TensorBoard summaries and scatter plots")
    add("--cluster-every", type=count, default=5000, help="steps between mean-shift images")
    add("--val-every", type=count, default=1, help="epochs between validations")
    add("--bandwidth", type=bounded(float, above=0), default=0.7, help="mean-shift bandwidth of those images")
    return parser


def parse_args(argv=None):
    parser = make_parser()
    for word in sys.argv[1:] if argv is None else argv:
        if word.startswith("@") and not Path(word[1:]).is_file():
            parser.error(f"{word}: found no file {word[1:]}, expected one of flags; a folder of that name is ./{word}")
    try:
        args = parser.parse_args(argv)
        args.given = vars(make_parser(defaults=False).parse_args(argv))
    except (ValueError, RecursionError) as error:  # of text that is no UTF-8, an open quotation, a file in itself
        parser.error(f"@FILE: found {type(error).__name__}: {error}, expected flags as UTF-8 text; fix the file")
    if args.sem is None:
        args.sem = CROWD_WEIGHT if args.coordinates else SEMANTIC_WEIGHT
    for name in ("outdir", "logdir"):
        if Path(getattr(args, name)).exists() and not Path(getattr(args, name)).is_dir():
            parser.error(f"--{name}: found a file, {getattr(args, name)}, expected a folder to write; name another")
    if args.resume:
        for name in args.given.keys() - RESUMABLE:
            flag = name.replace("_", "-")
            parser.error(f"--{flag}: found with --resume, expected the run's own flags; leave it out")
    for wrong, flag, found in (
        (args.crop and "image_size" in args.given, "image-size", "--crop"),
        (args.crop and args.keep_aspect, "keep-aspect", "--crop"),
        (args.jit and args.strategy != "none", "jit", f"--strategy {args.strategy}"),
        ({"steps", "epochs"} <= args.given.keys(), "epochs", "--steps"),
        (args.warmup and args.schedule != "cosine" and not args.resume, "warmup", "--schedule original"),
        ("weight_decay" in args.given and args.optimizer == "adam", "weight-decay", "--optimizer adam"),
    ):
        if wrong:
            parser.error(f"--{flag}: found with {found}, expected one of the two; change or leave out one")
    if args.zoom != 1 and not args.crop:
        parser.error(f"--zoom: found {args.zoom:g} without --crop, expected both; add --crop H W or leave it out")
    if not any((args.var, args.dist, args.reg, args.sem)):
        parser.error("--sem: found all loss weights 0, expected at least one above 0")
    args.command = "python training.py " + shlex.join(sys.argv[1:] if argv is None else argv)
    return args


def main(argv=None):
    args = parse_args(argv)
    try:
        args, config = resolve(args)
        strategy = devices.make_strategy(args.strategy)
        chief = devices.is_chief(strategy)
        with take_folder(args.outdir, new=config is None) if chief else contextlib.nullcontext():
            return train(args, set_up(args, config, strategy))
    except (DataError, LabelError, utils.ModelError, OSError) as error:
        print(f"training.py: error: {one_line(error)}", file=sys.stderr)
    except KeyboardInterrupt:
        print(f"training.py: interrupted; what checkpoint there is goes on by --resume {args.outdir}", file=sys.stderr)
        raise SystemExit(130) from None
    raise SystemExit(2)


def train(args, job):
    """Make the steps of a `Job`; returns the exit code."""
    run, log = job.run, job.log
    bar = tqdm(total=job.steps, initial=run.step, unit="step", dynamic_ncols=True, disable=not run.chief)
    try:
        with bar, deferred_signals("finishing the step; once more ends at once") as stop:
            if log and run.step == 0:
                log.images(0)
            while run.step < job.steps and not stop.requested:
                image, label, index = next(job.data)
                terms = job.train_step(image, label).numpy()
                if not np.isfinite(terms).all():
                    run.save()
                    stop_on_non_finite(run, terms, job.files_of(index))
                step = run.count(terms)
                bar.update()
                bar.set_postfix({n: f"{term:.3f}" for n, term in zip(LOSS_TERMS, terms, strict=False)}, refresh=False)
                if log:
                    log.follow(step, {**run.means(), "learning_rate": float(run.optimizer.learning_rate)})
                if step % (job.steps_per_epoch * args.val_every) == 0 or step == job.steps:
                    run.finish_epoch(step / job.steps_per_epoch, job.validation, log)
                elif step % args.save_every == 0:
                    run.save()
            if run.step < job.steps:
                run.save()
    except devices.LOST_WORKER as error:
        if args.strategy != "multiworker":
            raise
        devices.rejoin(error, run.step)
    if run.step < job.steps:
        print(f"interrupted at step {run.step}, saved; go on with: python training.py --resume {run.outdir}")
        return 130
    if run.chief:
        print(f"step {run.step}: validation {run.state.get('validation')}; models in {run.outdir / 'best'} and last")
    return 0


def resolve(args):
    """(flags, config) of a run: of a new one (config None), or of the one to go on with, whose flags are its own.

    Raises:
        DataError: flags that contradict those of the run to go on with.
        ModelError: a run to go on with that can't be read.
    """
    outdir = args.resume or args.outdir
    restarted = args.strategy == "multiworker" and (Path(outdir) / utils.CHECKPOINT_FILE).exists()
    if not args.resume and not restarted:
        return args, None
    config = utils.read_config(outdir)
    # flags that the run's version of this script did not have stand at their defaults
    defaults, saved = vars(make_parser().parse_args([])), config.get("flags")
    flags = {**defaults, **saved} if isinstance(saved, dict) else {}
    if isinstance(flags.get("valdir"), str):  # there could be one alone
        flags["valdir"] = [flags["valdir"]]
    check_flags(flags, defaults, Path(outdir) / utils.CONFIG_FILE)
    for name, value in args.given.items():
        if name not in RESUMABLE and name != "outdir" and flags[name] != value:
            raise DataError(
                f"--{name.replace('_', '-')}: found {value}, expected {flags[name]} as the run in {outdir} has; "
                "leave it out or name another --outdir"
            )
    longer = {name: args.given.get(name) for name in ("steps", "epochs") if args.given.keys() & {"steps", "epochs"}}
    flags |= {**{name: args.given[name] for name in args.given.keys() & RESUMABLE}, **longer}
    return argparse.Namespace(**{**flags, "outdir": outdir, "given": args.given, "command": args.command}), config


def check_flags(flags, defaults, path):
    """Raise ModelError, which names the file, unless flags as JSON has them are those that a command line can give."""
    if not flags:
        raise utils.ModelError(f"{path}: flags: found none, expected the run's flags; restore the file")

    def refuse(message):
        raise ValueError(message)

    for name, value in flags.items():
        words, flag = [], f"--{name.replace('_', '-')}"
        if (
            name not in defaults
            or value is None
            and (defaults[name] is None or name == "epochs" and flags.get("steps"))
        ):
            continue  # steps in place of epochs
        if name in ("srcdir", "valdir") and isinstance(value, list) and value and {*map(type, value)} == {str}:
            continue
        if type(value) is not bool:
            words = [flag, *map(str, value)] if isinstance(value, list) else [f"{flag}={value}"]
        elif value:
            words = [flag]
        parser = make_parser()
        parser.fromfile_prefix_chars, parser.error = None, refuse
        try:
            right = vars(parser.parse_args(words))[name] == value
        except ValueError:
            right = False
        if not right:
            raise utils.ModelError(f"{path}: flags: found {value!r} for {flag}, expected what it takes; fix the file")


class Job(NamedTuple):
    """What the training loop works with."""

    run: Run
    data: object  # iterator of (image, label, index) batches
    train_step: object  # function (image, label) -> the losses and the gradient's norm
    validation: Validation | None  # the chief's, as the log
    log: SummaryLog | None
    steps: int
    steps_per_epoch: int
    files_of: object  # function from a batch's index to the names of its images


def set_up(args, config, strategy):
    """Data, network, optimizer and run folder of a run, as a `Job`; prints what it is about to do.

    Args:
        args: flags.
        config: of the run to go on with, None for a new one.
        strategy: tf.distribute.Strategy.

    Raises:
        DataError, LabelError, ModelError: data, a label file or a model that can't be used, or other data than the
            run to go on with had.
    """
    replicas, chief = strategy.num_replicas_in_sync, devices.is_chief(strategy)
    if args.batch_size % replicas:
        raise DataError(f"--batch-size: found {args.batch_size}, expected a multiple of the {replicas} replicas")
    logdir = Path(args.logdir).absolute()
    there = next(part for part in (logdir, *logdir.parents) if part.exists())
    if not (there.is_dir() and os.access(there, os.W_OK)):
        raise DataError(f"--logdir: found that {there} is no folder to write to, expected one; name another")
    devices.set_numerics(args.seed, args.mixed_precision, args.deterministic)
    size, outdir = tuple(args.crop or args.image_size), Path(args.outdir)
    view = view_of(config, outdir) if config else describe_view(args)
    pairs, val_folders = collect_pairs(args.srcdir, args.valdir, args.balance, args.ignore)
    val_pairs = [pair for found in val_folders.values() for pair in found]
    data = {"training": describe_pairs(pairs), "validation": describe_pairs(val_pairs)}
    steps_per_epoch = max(1, len(pairs) // args.batch_size)
    steps = args.steps or args.epochs * steps_per_epoch

    labels = None if config else look_at_labels(pairs, size, view, args.ignore)
    # read before anything is written, so that a bad file leaves no run folder behind
    shown = next(batches(make_dataset(val_pairs[:1], size, 1, view=view)))

    network = config["network"] if config else describe_network(args, size, labels)
    scratch = args.modeldir.lower() == "none"
    with strategy.scope():
        # Sizes stay open where validation images have their own
        built = {**network, "input_shape": [None, None, 3]} if view.kind != "stretch" else network
        model = utils.build_model(built, replicas > 1, outdir if config else args.modeldir)
        if not config and not scratch:
            fresh = utils.start_from(model, args.modeldir)
            print(
                f"weights from {utils.model_folder(args.modeldir)}"
                + (f", fresh head: {', '.join(fresh)}" if fresh else "")
            )
        optimizer = make_optimizer(args.optimizer, steps, args.lr, args.schedule, args.warmup, args.weight_decay)
        optimizer.build(model.trainable_variables)
        averages = WeightAverages(model, args.ema) if args.ema else None

    flags = {name: value for name, value in vars(args).items() if name not in ("resume", "command", "given")}
    foreground = None if config else args.foreground_weight or labels.foreground_weight()
    # lanes need no such limit: they are all of about one size
    few = labels.small if labels and network.get("coordinate_scale") and labels.small else None
    seen = {"view": view.kind, "zoom": view.zoom, "normalize": view.normalize}
    started = config or utils.run_config(
        flags, network, **seen, min_pixels=few, foreground_weight=foreground, command=args.command
    )
    started["flags"] = flags
    run = Run(outdir, started, data, model, optimizer, averages, chief)
    if config:
        run.load()
        print(f"{outdir}: going on from step {run.step}")
        if steps < run.step:
            raise DataError(f"--resume {outdir}: found --steps {steps}, expected more than the {run.step} it has made")
    foreground = started.get("foreground_weight", LANE_WEIGHT)
    threshold = started.get("threshold", THRESHOLD) if config else round(foreground / (foreground + 1), 3)
    weights = LossWeights(args.var, args.dist, args.reg, args.dvar, args.ddist, args.sem, foreground)
    kind = {"ignore": args.ignore, "background": not network.get("coordinate_scale")}
    log = validation = None
    if chief:
        validation = Validation(
            model,
            make_losses(weights, **kind),
            val_folders,
            size,
            args.batch_size,
            view,
            args.ignore,
            bandwidth=2 * args.dvar or BANDWIDTH,
            threshold=threshold,
            min_pixels=started.get("min_pixels"),
            instances=bool(args.var or args.dist),
        )
        if not config:
            started["threshold"] = validation.threshold
        plots = outdir / f"var{args.var:g}_dist{args.dist:g}_reg{args.reg:g}_dvar{args.dvar:g}_ddist{args.ddist:g}"
        every = min(args.plot_every, steps), min(args.cluster_every, steps)  # a short run ends with them
        log = SummaryLog(args.logdir, model, shown, plots, args.bandwidth, validation.threshold, *every, args.ignore)
        utils.write_json(outdir / utils.CONFIG_FILE, started)
    both = {*find_copies(pairs, val_pairs), *pairs} if args.valdir else set()  # else there is none
    both = sum(pair in both for pair in val_pairs)
    said = f"{len(val_pairs)} validation images" + (f" ({both} of them trained on, too)" if both else "")
    print(f"{len(pairs)} training and {said}, {steps} steps, run folder {outdir}")

    def input_function(context):
        part = args.batch_size // context.num_input_pipelines  # of every global batch, this worker's images
        return make_dataset(
            pairs,
            size,
            args.batch_size // replicas,
            args.seed,
            not args.no_augment,
            first_sample=run.step * args.batch_size,
            part=(context.input_pipeline_id * part, part, args.batch_size),
            view=view,
        )

    def files_of(index):
        indices = np.concatenate([i.numpy() for i in strategy.experimental_local_results(index)])
        return [pairs[i][0] for i in indices]

    losses = make_losses(weights, not args.jit, **kind)
    train_step = make_train_step(model, optimizer, losses, strategy, averages, args.clip_norm, args.jit)
    stream = batches(strategy.distribute_datasets_from_function(input_function))
    return Job(run, stream, train_step, validation, log, steps, steps_per_epoch, files_of)


def describe_view(args):
    """The `View` of a new run; a model to start from that sees images normalized goes on seeing them so."""
    kind, normalize = "crop" if args.crop else "aspect" if args.keep_aspect else "stretch", args.normalize
    if args.modeldir.lower() != "none":
        folder = utils.model_folder(args.modeldir)
        normalize |= view_of(utils.read_saved_config(folder), folder).normalize
    return View(kind, args.zoom, normalize)


def describe_network(args, size, labels):
    """Arguments of `enet.build_enet` for a new run; what belongs to the weights it starts from is as they have it.

    Args:
        args: flags.
        size: (H, W) of the network.
        labels: `labels.Labels`. With --coordinates a typical instance becomes as wide as the distance that the loss
            asks of two means, 2 ddist; without it a model that has them keeps its scale.
    """
    network = {} if args.modeldir.lower() == "none" else utils.read_network(utils.model_folder(args.modeldir))
    if network and args.skip_connections and not network.get("skip_connections"):
        raise DataError(
            f"--skip-connections: found a model without them in --modeldir {args.modeldir}, expected one with them; "
            "leave the flag out or start from another model or none"
        )
    if args.coordinates and args.feature_dim < 2:
        raise DataError(f"--feature-dim: found {args.feature_dim}, expected at least 2 with --coordinates; raise it")
    if args.coordinates and network and not network.get("coordinate_scale"):
        raise DataError(
            f"--coordinates: found a model without them in --modeldir {args.modeldir}, expected one with them; "
            "leave the flag out or start from another model or none"
        )
    scale = round(max(labels.diameter, 1.0) / (2 * args.ddist or 3.0), 3)
    return network | {
        "input_shape": [*size, 3],
        "embedding_dim": args.feature_dim,
        "semantic": args.sem > 0,
        "skip_connections": bool(args.skip_connections or network.get("skip_connections")),
        "coordinate_scale": scale if args.coordinates else network.get("coordinate_scale"),
    }


def stop_on_non_finite(run, terms, files):
    """Raise the DataError that tells of a loss that is not finite, on which files, and where the model is."""
    values = ", ".join(f"{name} {value:g}" for name, value in zip((*LOSS_TERMS, "gradient norm"), terms, strict=True))
    raise DataError(
        f"step {run.step + 1}: loss or gradient is not finite ({values}) on {', '.join(files)}; the model "
        f"before that step is in {run.outdir / 'last'}; check these files, lower --lr or set --clip-norm"
    )


if __name__ == "__main__":
    sys.exit(main())
