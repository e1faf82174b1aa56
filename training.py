"""Train ENet with the discriminative loss.

    python training.py --srcdir data --modeldir none --outdir saved_model
    python training.py --srcdir data --modeldir none --outdir semantic_model --var 0 --dist 0 --reg 0
    python training.py --resume saved_model
    python training.py @doc/runs/sixth.args
    TF_CONFIG=... python training.py --strategy multiworker

Reads `images/`, `labels/` and, where there are any, `classes/` of the data folder(s). Writes to the run folder
`--outdir`: `config.json` (every flag, package versions, git commit), `log.jsonl` (one line per epoch), `checkpoint.npz`
(to go on from), the model folders `best/` and `last/`, and a folder named after the loss weights with plots of one
validation image's embeddings. TensorBoard events go to its `log/`. Ctrl-C saves and ends; `--resume` goes on, after a
crash too, as if nothing had been (`--deterministic`: bit for bit). If the validation folder has the `labels.json` of
the data scripts, the best model is the one of the best TuSimple score, else that of the highest average precision of
instances. @FILE stands for the flags in a file, `#` begins a comment there.
"""

if __name__ == "__main__":
    from run.command import start

    start()

import contextlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

import utils
from clustering import BANDWIDTH
from datagenerator import Share, batches, make_dataset
from run import devices
from run.checkpoint import start_from
from run.command import UserError, command, deferred_signals
from run.config import Config, new_config, resumed_config, settle_flags
from run.flags import parse_args
from run.folder import Run, check_writable, take_folder
from run.pairs import collect_data, find_copies
from run.split import warn_of_near_equal
from run.train_step import LossSettings, WeightAverages, loss_terms, make_losses, make_optimizer, make_train_step
from run.validation import InstanceSettings, SummaryLog, Validation


@command("training.py", "a run folder with a checkpoint goes on by --resume RUN_FOLDER")
def main(argv=None):
    flags, saved = settle_flags(parse_args(argv))
    strategy = devices.make_strategy(flags.strategy, flags.batch_size)
    chief = devices.is_chief(strategy)
    with take_folder(flags.outdir, new=saved is None) if chief else contextlib.nullcontext():
        if chief:
            check_writable("--logdir", flags.logdir)
        data = collect_data(flags)
        config = resumed_config(flags, data, saved) if saved else new_config(flags, data)
        if chief and not saved:
            warn_of_near_equal(data.pairs, data.val_pairs)
        job = make_job(config, data, strategy)
        return train(job) if job else 0


@dataclass
class Job:
    """What the training loop works with."""

    config: Config
    run: Run
    batches: object  # iterator of (image, label, index)
    train_step: object  # function (image, label) -> the losses and the gradient's norm
    validation: Validation | None  # the chief's, as the log
    log: SummaryLog | None
    steps: int
    steps_per_epoch: int
    files_of: object  # function from a batch's index to the names of its images


def train(job):
    """Make the steps of a `Job`; returns the exit code."""
    flags, run, log, names = job.config.flags, job.run, job.log, loss_terms(job.run.model.output)
    bar = tqdm(total=job.steps, initial=run.step, unit="step", dynamic_ncols=True, disable=not run.chief)
    try:
        with bar, deferred_signals("finishing the step; once more ends at once") as stop:
            if log and run.step == 0:
                log.images(0)
            while run.step < job.steps and not stop.requested:
                image, label, index = next(job.batches)
                terms = job.train_step(image, label).numpy()
                if not np.isfinite(terms).all():
                    run.save()
                    stop_on_non_finite(run, terms, job.files_of(index))
                step = run.count(terms)
                bar.update()
                bar.set_postfix({n: f"{term:.3f}" for n, term in zip(names, terms, strict=False)}, refresh=False)
                if log:
                    log.follow(step, {**run.means(), "learning_rate": float(run.optimizer.learning_rate)})
                if step % (job.steps_per_epoch * flags.val_every) == 0 or step == job.steps:
                    run.finish_epoch(step / job.steps_per_epoch, job.validation, log)
                elif step % flags.save_every == 0:
                    run.save()
            if run.step < job.steps:
                run.save()
    except devices.LOST_WORKER as error:
        if flags.strategy != "multiworker":
            raise
        devices.rejoin(error, run.step)
    if run.step < job.steps:
        print(f"interrupted at step {run.step}, saved; go on with: python training.py --resume {run.outdir}")
        return 130
    if run.chief:
        print(f"step {run.step}: {describe_scores(run)}; models in {run.outdir / 'best'} and last")
    return 0


def make_job(config, data, strategy):
    """The `Job` of a config: network, optimizer, run folder and data; prints what it is about to do.

    None for a run to go on with that is finished, which is said.

    Args:
        config: `config.Config`.
        data: `pairs.Data`.
        strategy: tf.distribute.Strategy.

    Raises:
        UserError: an image or a model that can't be used, or other data than the run to go on with had.
    """
    flags, chief = config.flags, devices.is_chief(strategy)
    devices.set_numerics(flags.seed, flags.mixed_precision, flags.deterministic)
    steps_per_epoch = max(1, len(data.pairs) // flags.batch_size)
    steps = flags.steps or flags.epochs * steps_per_epoch
    # read before anything is written, so that a bad file leaves no run folder behind
    shown = next(batches(make_dataset(data.val_pairs[:1], config.size, 1, view=config.view, ignore=flags.ignore)))
    model, optimizer, averages = build(config, strategy, steps)
    run = Run(flags.outdir, config.to_json(), data.describe(), model, optimizer, averages, chief)
    if flags.resume:
        run.load()
        if steps < run.step:
            raise UserError(
                f"--resume {flags.outdir}: found --steps {steps}, expected more than the {run.step} it has made"
            )
        if steps == run.step:
            longer = f"python training.py --resume {flags.outdir} --steps {2 * steps}"
            print(f"{flags.outdir}: finished at step {steps}, {describe_scores(run)}; to train longer: {longer}")
            return None
        print(f"{flags.outdir}: going on from step {run.step}")
    settings = loss_settings(config, data)
    validation = log = None
    if chief:
        validation = make_validation(config, data, model, make_losses(settings))
        log = make_log(config, model, shown, steps)
        utils.write_json(run.outdir / utils.CONFIG_FILE, run.config)
    print(f"{len(data.pairs)} training and {describe_validation(flags, data)}, {steps} steps, run folder {run.outdir}")
    print("the first step is compiled, which takes up to a minute, with --jit two; later the bar pauses to validate")

    def files_of(index):
        indices = np.concatenate([i.numpy() for i in strategy.experimental_local_results(index)])
        return [data.pairs[i][0] for i in indices]

    losses = make_losses(settings, not flags.jit)
    train_step = make_train_step(model, optimizer, losses, strategy, averages, flags.clip_norm, flags.jit)
    stream = make_stream(config, data.pairs, strategy, run.step)
    return Job(config, run, stream, train_step, validation, log, steps, steps_per_epoch, files_of)


def describe_scores(run):
    """Loss and scores of a run's last validation, in words."""
    scores = {name: value for name, value in (run.state.get("validation") or {}).items() if name != "folders"}
    return "validation " + ", ".join(f"{n} {value:.4g}" for n, value in scores.items() if not n.startswith("l_"))


def build(config, strategy, steps):
    """(model, optimizer, averages or None) of a run of `steps` steps; a new one's weights are those of --modeldir."""
    flags, network = config.flags, config.network
    if config.view.kind != "stretch":  # sizes stay open where validation images have their own
        network = {**network, "input_shape": [None, None, 3]}
    starts_from = None if flags.resume or flags.modeldir.lower() == "none" else flags.modeldir
    with strategy.scope():
        model = utils.build_model(network, strategy.num_replicas_in_sync > 1, flags.resume or flags.modeldir)
        if starts_from:
            fresh = start_from(model, starts_from, config.classes)
            heads = f", fresh head: {', '.join(fresh)}" if fresh else ""
            print(f"weights from {utils.model_folder(starts_from)}{heads}")
        optimizer = make_optimizer(flags.optimizer, steps, flags.lr, flags.schedule, flags.warmup, flags.weight_decay)
        optimizer.build(model.trainable_variables)
        return model, optimizer, WeightAverages(model, flags.ema) if flags.ema else None


def loss_settings(config, data):
    """The `LossSettings` of a run."""
    flags = config.flags
    settings = {name: getattr(flags, name) for name in ("var", "dist", "reg", "dvar", "ddist", "sem", "ignore", "cls")}
    if not data.has_labels:
        settings |= dict.fromkeys(("var", "dist", "reg", "sem"), 0.0)
    settings |= {"foreground": config.foreground_weight, "class_weights": tuple(config.class_weights)}
    return LossSettings(**settings, background=not config.network.get("coordinate_scale"))


def make_validation(config, data, model, losses):
    """The `Validation` of a run."""
    flags = config.flags
    settings = InstanceSettings(
        bandwidth=2 * flags.dvar or BANDWIDTH,
        threshold=config.threshold,
        min_pixels=config.min_pixels,
        ignore=flags.ignore,
        scored=bool(flags.var or flags.dist) and data.has_labels,
        stuff=tuple(config.classes.values()),
    )
    return Validation(model, losses, data, config.size, flags.batch_size, config.view, settings)


def make_log(config, model, shown, steps):
    """The `SummaryLog` of a run of `steps` steps, with which a short one ends."""
    flags = config.flags
    plots = f"var{flags.var:g}_dist{flags.dist:g}_reg{flags.reg:g}_dvar{flags.dvar:g}_ddist{flags.ddist:g}"
    settings = InstanceSettings(flags.bandwidth, config.threshold, ignore=flags.ignore)
    every = min(flags.plot_every, steps), min(flags.cluster_every, steps)
    return SummaryLog(flags.logdir, model, shown, Path(flags.outdir) / plots, settings, *every)


def make_stream(config, pairs, strategy, first_step):
    """Iterator of a run's batches (image, label, index) from a step on, each worker's share of every global batch."""
    flags = config.flags

    def input_function(context):
        count = flags.batch_size // context.num_input_pipelines
        share = Share(first_step * flags.batch_size, context.input_pipeline_id * count, count, flags.batch_size)
        batch_size, augmented = flags.batch_size // strategy.num_replicas_in_sync, not flags.no_augment
        return make_dataset(pairs, config.size, batch_size, flags.seed, augmented, share, config.view, flags.ignore)

    return batches(strategy.distribute_datasets_from_function(input_function))


def describe_validation(flags, data):
    """Number of validation images, and of those that are trained on, which there are with --valdir alone."""
    trained_on = {*find_copies(data.pairs, data.val_pairs), *data.pairs} if flags.valdir else set()
    count = sum(pair in trained_on for pair in data.val_pairs)
    return f"{len(data.val_pairs)} validation images" + (f" ({count} of them trained on, too)" if count else "")


def stop_on_non_finite(run, terms, files):
    """Raise the UserError that tells of a loss that is not finite, on which files, and where the model is."""
    names = loss_terms(run.model.output)
    values = ", ".join(f"{name} {value:g}" for name, value in zip((*names, "gradient norm"), terms, strict=True))
    raise UserError(
        f"step {run.step + 1}: loss or gradient is not finite ({values}) on {', '.join(files)}; the model "
        f"before that step is in {run.outdir / 'last'}; check these files, lower --lr or set --clip-norm"
    )


if __name__ == "__main__":
    main()
