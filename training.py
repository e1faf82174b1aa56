"""Train ENet with the discriminative loss.

    python training.py --srcdir data --modeldir none --outdir saved_model
    python training.py --resume saved_model
    python training.py @doc/runs/sixth.args

The run folder `--outdir` gets `config.json` (flags, versions, git commit), `log.jsonl` (a line per epoch),
`checkpoint.npz` (to go on from), the models `best/` and `last/`, plots of one validation image's embeddings in a folder
named after the loss weights, and TensorBoard events in `log/`. Best is the TuSimple score, where the validation folder
has a `labels.json`, else the average precision. @FILE: flags in a file, `#` begins a comment there.
"""

if __name__ == "__main__":
    from run.command import start

    start()

import contextlib

import numpy as np
from tqdm import tqdm

import utils
from datagenerator import Share, batches, make_dataset, view_of
from loss import LANE_WEIGHT
from run import devices
from run.checkpoint import start_from
from run.command import UserError, command, deferred_signals
from run.config import input_size, make_config, settle_flags
from run.folder import Run, take_folder
from run.pairs import collect_data, describe_pairs, find_copies
from run.train_step import LossSettings, WeightAverages, make_losses, make_optimizer, make_train_step
from run.validation import SummaryLog, Validation


@command("training.py", "a run folder with a checkpoint goes on by --resume RUN_FOLDER")
def main(argv=None):
    flags, saved = settle_flags(argv)
    devices.keep_memory()
    strategy = devices.make_strategy(flags.strategy, flags.batch_size)
    chief = strategy.extended.should_checkpoint
    with take_folder(flags.outdir, new=saved is None) if chief else contextlib.nullcontext():
        data = collect_data(flags)
        config = make_config(flags, data, saved)
        devices.set_numerics(flags.seed, flags.mixed_precision, flags.deterministic)
        epoch = max(1, len(data.pairs) // flags.batch_size)  # in steps
        steps = flags.steps or flags.epochs * epoch
        view = view_of(config, flags.outdir)
        shown = next(batches(make_dataset(data.val_pairs[:1], input_size(flags), 1, view=view, ignore=flags.ignore)))
        run = make_run(flags, config, data, strategy, steps)
        validation, log = None, None
        if chief:
            validation = Validation(run.model, make_losses(loss_settings(flags, config, data)), data, flags, config)
            log = SummaryLog(run.model, shown, flags, validation.settings, steps)
            utils.write_json(run.outdir / utils.CONFIG_FILE, config)
        both = len(find_copies(data.pairs, data.val_pairs))  # with --valdir alone
        images = f"{len(data.val_pairs)} validation images ({both} trained on, too)"
        print(f"{len(data.pairs)} training and {images}, {steps} steps, run folder {run.outdir}")
        print("compiling the first step takes up to a minute, with --jit two")
        return train(flags, run, make_steps(flags, config, data, strategy, run), validation, log, steps, epoch)


def make_run(flags, config, data, strategy, steps):
    """The `Run` of `steps` steps, weights of --modeldir or of the checkpoint."""
    network = config["network"]
    if config.get("view", "stretch") != "stretch":  # validation images have their own size
        network = {**network, "input_shape": [None, None, 3]}
    with strategy.scope():
        model = utils.build_model(network, strategy.num_replicas_in_sync > 1, flags.resume or flags.modeldir)
        if not flags.resume and flags.modeldir.lower() != "none":
            fresh = start_from(model, flags.modeldir, data.classes)
            print(f"weights from {utils.model_folder(flags.modeldir)}, fresh heads: {', '.join(fresh) or 'none'}")
        optimizer = make_optimizer(flags.optimizer, steps, flags.lr, flags.schedule, flags.warmup)
        optimizer.build(model.trainable_variables)
        averages = WeightAverages(model, flags.ema) if flags.ema else None
    digests = {"training": describe_pairs(data.pairs), "validation": describe_pairs(data.val_pairs)}
    run = Run(flags.outdir, config, digests, model, optimizer, averages, strategy.extended.should_checkpoint)
    if flags.resume:
        run.load()
        if steps < run.step:
            raise UserError(f"--resume {flags.outdir}: found --steps {steps}, expected more than the {run.step} made")
        longer = f", the last one; --steps {2 * steps} trains longer" if run.step == steps else ""
        print(f"{flags.outdir}: going on from step {run.step}{longer}")
    return run


def train(flags, run, made, validation, log, steps, epoch):
    """Make steps until there are `steps`, `epoch` of them a round; returns the exit code."""
    bar = tqdm(total=steps, initial=run.step, unit="step", dynamic_ncols=True, disable=not run.chief)
    try:
        with bar, deferred_signals("finishing the step; once more ends at once") as stop:
            if log and run.step == 0:
                log.images(0)
            while run.step < steps and not stop.requested:
                terms, files = next(made)
                if not np.isfinite(list(terms.values())).all():
                    run.save()
                    values = ", ".join(f"{name} {value:g}" for name, value in terms.items())
                    raise UserError(
                        f"step {run.step + 1}: loss or gradient is not finite ({values}) on {', '.join(files)}; the "
                        f"model before is in {run.outdir / 'last'}; check these files or lower --lr"
                    )
                step = run.count(list(terms.values()))
                bar.update()
                bar.set_postfix({name: f"{value:.3f}" for name, value in terms.items()}, refresh=False)
                if log:
                    log.follow(step, {**run.means(), "learning_rate": float(run.optimizer.learning_rate)})
                if step % (epoch * flags.val_every) == 0 or step == steps:
                    run.finish_epoch(step / epoch, validation, log)
                elif step % flags.save_every == 0:
                    run.save()
            if run.step < steps:
                run.save()
    except devices.LOST_WORKER as error:
        if flags.strategy != "multiworker":
            raise
        devices.rejoin(error, run.step)
    if run.step < steps:
        print(f"interrupted at step {run.step}, saved; go on by: python training.py --resume {run.outdir}")
        return 130
    if run.chief:
        scores = {name: x for name, x in run.state["validation"].items() if name[:2] != "l_" and name != "folders"}
        words = ", ".join(f"{name} {value:.4g}" for name, value in scores.items())
        print(f"step {run.step}: validation {words}; models in {run.outdir / 'best'} and last")
    return 0


def make_steps(flags, config, data, strategy, run):
    """Make steps of a `Run` without end: yields {loss or gradient norm: value}, names of the images."""
    losses = make_losses(loss_settings(flags, config, data), not flags.jit)
    train_step = make_train_step(run.model, run.optimizer, losses, strategy, run.averages, flags.jit)
    view, first = view_of(config, flags.outdir), run.step * flags.batch_size

    def make_stream(context):
        """A worker's part of every batch."""
        count = flags.batch_size // context.num_input_pipelines
        share = Share(first, context.input_pipeline_id * count, count, flags.batch_size)
        batch_size, augmented = flags.batch_size // strategy.num_replicas_in_sync, not flags.no_augment
        return make_dataset(data.pairs, input_size(flags), batch_size, flags.seed, augmented, share, view, flags.ignore)

    for image, label, index in batches(strategy.distribute_datasets_from_function(make_stream)):
        terms = train_step(image, label).numpy()
        indices = np.concatenate([part.numpy() for part in strategy.experimental_local_results(index)])
        yield dict(zip(run.names, terms, strict=True)), [data.pairs[i][0] for i in indices]


def loss_settings(flags, config, data):
    settings = {name: getattr(flags, name) for name in ("var", "dist", "reg", "dvar", "ddist", "sem", "ignore", "cls")}
    if not data.has_labels:
        settings |= dict.fromkeys(("var", "dist", "reg", "sem"), 0.0)
    settings["foreground"] = config.get("foreground_weight", LANE_WEIGHT)
    settings["class_weights"] = tuple(config.get("class_weights", ()))
    return LossSettings(**settings, background=not config["network"].get("coordinate_scale"))


if __name__ == "__main__":
    main()
