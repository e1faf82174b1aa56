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
    from run.command import start

    start()

import contextlib
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

import utils
from clustering import BANDWIDTH, THRESHOLD
from datagenerator import View, batches, make_dataset, view_of
from loss import LANE_WEIGHT
from run import devices
from run.checkpoint import start_from
from run.command import UserError, command, deferred_signals
from run.flags import parse_args, resolve
from run.folder import Run, take_folder
from run.label_statistics import measure_labels
from run.pairs import collect_pairs, describe_pairs, find_copies
from run.train_step import LOSS_TERMS, LossWeights, WeightAverages, make_losses, make_optimizer, make_train_step
from run.validation import SummaryLog, Validation


@command("training.py", "a run folder with a checkpoint goes on by --resume RUN_FOLDER")
def main(argv=None):
    args, config = resolve(parse_args(argv))
    strategy = devices.make_strategy(args.strategy)
    chief = devices.is_chief(strategy)
    with take_folder(args.outdir, new=config is None) if chief else contextlib.nullcontext():
        return train(args, set_up(args, config, strategy))


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
        UserError: data, a label file or a model that can't be used, or other data than the
            run to go on with had.
    """
    replicas, chief = strategy.num_replicas_in_sync, devices.is_chief(strategy)
    if args.batch_size % replicas:
        raise UserError(f"--batch-size: found {args.batch_size}, expected a multiple of the {replicas} replicas")
    logdir = Path(args.logdir).absolute()
    there = next(part for part in (logdir, *logdir.parents) if part.exists())
    if not (there.is_dir() and os.access(there, os.W_OK)):
        raise UserError(f"--logdir: found that {there} is no folder to write to, expected one; name another")
    devices.set_numerics(args.seed, args.mixed_precision, args.deterministic)
    size, outdir = tuple(args.crop or args.image_size), Path(args.outdir)
    view = view_of(config, outdir) if config else describe_view(args)
    pairs, val_folders = collect_pairs(args.srcdir, args.valdir, args.balance, args.ignore)
    val_pairs = [pair for found in val_folders.values() for pair in found]
    data = {"training": describe_pairs(pairs), "validation": describe_pairs(val_pairs)}
    steps_per_epoch = max(1, len(pairs) // args.batch_size)
    steps = args.steps or args.epochs * steps_per_epoch

    labels = None if config else measure_labels(pairs, size, view, args.ignore)
    # read before anything is written, so that a bad file leaves no run folder behind
    shown = next(batches(make_dataset(val_pairs[:1], size, 1, view=view)))

    network = config["network"] if config else describe_network(args, size, labels)
    scratch = args.modeldir.lower() == "none"
    with strategy.scope():
        # Sizes stay open where validation images have their own
        built = {**network, "input_shape": [None, None, 3]} if view.kind != "stretch" else network
        model = utils.build_model(built, replicas > 1, outdir if config else args.modeldir)
        if not config and not scratch:
            fresh = start_from(model, args.modeldir)
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
    few = labels.small_area if labels and network.get("coordinate_scale") and labels.small_area else None
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
            raise UserError(f"--resume {outdir}: found --steps {steps}, expected more than the {run.step} it has made")
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
            ignore=args.ignore,
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
        labels: `LabelStatistics`. With --coordinates a typical instance becomes as wide as the distance that the loss
            asks of two means, 2 ddist; without it a model that has them keeps its scale.
    """
    network = {} if args.modeldir.lower() == "none" else utils.read_network(utils.model_folder(args.modeldir))
    if network and args.skip_connections and not network.get("skip_connections"):
        raise UserError(
            f"--skip-connections: found a model without them in --modeldir {args.modeldir}, expected one with them; "
            "leave the flag out or start from another model or none"
        )
    if args.coordinates and args.feature_dim < 2:
        raise UserError(f"--feature-dim: found {args.feature_dim}, expected at least 2 with --coordinates; raise it")
    if args.coordinates and network and not network.get("coordinate_scale"):
        raise UserError(
            f"--coordinates: found a model without them in --modeldir {args.modeldir}, expected one with them; "
            "leave the flag out or start from another model or none"
        )
    scale = round(max(labels.diameter, 1.0) / (2 * args.ddist or 3.0), 3)
    return network | {
        "input_shape": [*size, 3],
        "embedding_dim": args.feature_dim,
        "semantic": args.sem > 0,
        "dropout": not args.no_dropout and network.get("dropout", True),
        "skip_connections": bool(args.skip_connections or network.get("skip_connections")),
        "coordinate_scale": scale if args.coordinates else network.get("coordinate_scale"),
    }


def stop_on_non_finite(run, terms, files):
    """Raise the UserError that tells of a loss that is not finite, on which files, and where the model is."""
    values = ", ".join(f"{name} {value:g}" for name, value in zip((*LOSS_TERMS, "gradient norm"), terms, strict=True))
    raise UserError(
        f"step {run.step + 1}: loss or gradient is not finite ({values}) on {', '.join(files)}; the model "
        f"before that step is in {run.outdir / 'last'}; check these files, lower --lr or set --clip-norm"
    )


if __name__ == "__main__":
    main()
