"""Train ENet with the discriminative loss.

    python training.py --srcdir data --modeldir none --outdir saved_model
    python training.py --srcdir data --modeldir none --outdir pretrained_semantic_model --var 0 --dist 0 --reg 0
    python training.py --resume saved_model
    TF_CONFIG=... python training.py --strategy multiworker

Reads `images/` and `labels/` of the data folder(s). Writes to the run folder `--outdir`: `config.json` (every flag,
package versions, git commit), `log.jsonl` (one line per epoch), `checkpoint.npz` (to go on from), the model folders
`best/` and `last/`, and a folder named after the loss weights with images of one validation image's embeddings.
TensorBoard events go to `--logdir`. Ctrl-C saves and ends; `--resume` goes on, after a crash too. If the validation
folder has the `labels.json` of the data scripts, the best model is the one of the best TuSimple score, else that of the
least loss.
"""

import argparse
import math
import os
import shlex
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

import utils
from datagenerator import DataError, balance_pairs, batches, find_pairs, make_dataset, split_pairs
from run.folder import Run
from run.train_step import PARTS, WeightAverages, is_chief, make_losses, make_optimizer, make_strategy, make_train_step
from run.validation import SummaryLog, Validation

# What TensorFlow raises on the workers that are left when one is gone
LOST_WORKER = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.InternalError, tf.errors.CancelledError)


def parse_args(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n", 1)[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    # data
    add("--srcdir", nargs="+", default=["data"], help="data folder(s); FOLDER:N takes its images N times as often")
    add("--valdir", help="validation data folder; default 10 %% of srcdir, split with random state 42")
    add("--image-size", nargs=2, type=int, default=[512, 512], metavar=("H", "W"), help="network input, multiples of 8")
    add("--batch-size", type=int, default=1, help="images per step")
    add("--balance", action="store_true", help="take images with a rare number of instances more often")
    add("--no-augment", action="store_true", help="train on the images as they are")
    # model
    add("--modeldir", default="pretrained_semantic_model", help="model to start from, or none")
    add("--feature-dim", type=int, default=3, help="channels of the embedding")
    add("--skip-connections", action="store_true", help="add encoder outputs in the decoder")
    # run
    add("--outdir", default="saved_model", help="run folder to write")
    add("--resume", metavar="RUN_FOLDER", help="go on with an interrupted run, with its own flags")
    add("--logdir", default="log", help="folder of the TensorBoard events")
    add("--epochs", type=int, default=50, help="rounds over the training images")
    add("--steps", type=int, help="optimizer steps, instead of --epochs")
    add("--seed", type=int, default=42, help="of weights, data order, augmentation and dropout")
    add("--jit", action="store_true", help="compile the whole step with XLA: slower start, faster steps")
    add("--mixed-precision", action="store_true", help="network in bfloat16; weights, embedding and losses in float32")
    add("--deterministic", action="store_true", help="equal flags give equal weights, bit for bit")
    add(
        "--strategy",
        choices=("none", "mirrored", "multiworker"),
        default="none",
        help="mirrored: all GPUs of this machine; multiworker: the machines that TF_CONFIG names",
    )
    # loss
    add("--var", type=float, default=1.0, help="weight of the variance term")
    add("--dist", type=float, default=1.0, help="weight of the distance term")
    add("--reg", type=float, default=1.0, help="weight of the regularization term (the paper: 0.001)")
    add("--dvar", type=float, default=0.5, help="hinge margin of the variance term")
    add("--ddist", type=float, default=1.5, help="half the hinge margin of the distance term")
    add("--sem", type=float, default=1.0, help="weight of the semantic loss; 0 = the original's embedding-only network")
    # optimizer
    add("--lr", type=float, default=1e-4, help="highest learning rate")
    add("--optimizer", choices=("adam", "adamw"), default="adam")
    add("--weight-decay", type=float, default=1e-4, help="of adamw")
    add("--schedule", choices=("original", "cosine"), default="original", help="x0.96 every 5000 steps, or cosine to 0")
    add("--warmup", type=int, default=0, help="steps of linear warm-up, cosine schedule only")
    add("--clip-norm", type=float, default=0.0, help="scale gradients down to this global norm; 0 = don't")
    add("--ema", type=float, default=0.0, help="decay of averaged weights, which are validated and kept; 0 = none")
    # cycles
    add("--save-every", type=int, default=500, help="steps between checkpoints")
    add("--plot-every", type=int, default=1000, help="steps between TensorBoard summaries and scatter plots")
    add("--cluster-every", type=int, default=5000, help="steps between mean-shift images")
    add("--val-every", type=int, default=1, help="epochs between validations")
    add("--bandwidth", type=float, default=0.7, help="mean-shift bandwidth of those images")
    args = parser.parse_args(argv)

    for name in (
        "epochs",
        "steps",
        "batch_size",
        "feature_dim",
        "save_every",
        "plot_every",
        "cluster_every",
        "val_every",
    ):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            parser.error(f"--{name.replace('_', '-')}: found {getattr(args, name)}, expected at least 1")
    for name in ("var", "dist", "reg", "dvar", "ddist", "sem", "lr", "weight_decay", "warmup", "clip_norm"):
        if not 0 <= getattr(args, name) < math.inf:
            parser.error(f"--{name.replace('_', '-')}: found {getattr(args, name)}, expected a number of at least 0")
    if not 0 < args.bandwidth < math.inf:
        parser.error(f"--bandwidth: found {args.bandwidth}, expected a number above 0")
    if not 0 <= args.seed < 2**32:
        parser.error(f"--seed: found {args.seed}, expected 0 to {2**32 - 1}")
    for name in ("outdir", "logdir"):
        if Path(getattr(args, name)).exists() and not Path(getattr(args, name)).is_dir():
            parser.error(f"--{name}: found a file, {getattr(args, name)}, expected a folder to write; name another")
    if not 0 <= args.ema < 1:
        parser.error(f"--ema: found {args.ema}, expected a decay of at least 0 and below 1, such as 0.999")
    if args.jit and args.strategy != "none":
        parser.error(f"--jit: found with --strategy {args.strategy}, expected one of the two; leave one out")
    if any(side < 8 or side % 8 for side in args.image_size):
        parser.error(f"--image-size: found {args.image_size}, expected multiples of 8")
    if not any((args.var, args.dist, args.reg, args.sem)):
        parser.error("--sem: found all loss weights 0, expected at least one above 0")
    args.command = "python training.py " + shlex.join(sys.argv[1:] if argv is None else argv)
    return args


def main(argv=None):
    args = parse_args(argv)
    try:
        return train(args)
    except (DataError, utils.ModelError, OSError) as error:
        print(f"training.py: error: {error}", file=sys.stderr)
    raise SystemExit(2)


def train(args):
    """Run training as the flags say; returns the exit code."""
    resume = args.resume
    if not resume and args.strategy == "multiworker" and (Path(args.outdir) / utils.CHECKPOINT_FILE).exists():
        resume = args.outdir  # a worker that is started again gets the same command
    outdir = Path(resume or args.outdir)
    if resume:
        config = utils.read_config(outdir)
        # flags that the run's version of this script did not have stand at their defaults
        args = argparse.Namespace(**{**vars(parse_args([])), **config["flags"], "command": args.command})
    elif (outdir / utils.CHECKPOINT_FILE).exists():
        raise DataError(f"--outdir {outdir}: holds a run already; go on with --resume {outdir} or name another folder")
    strategy = make_strategy(args.strategy)
    replicas, chief = strategy.num_replicas_in_sync, is_chief(strategy)
    if args.batch_size % replicas:
        raise DataError(f"--batch-size: found {args.batch_size}, expected a multiple of the {replicas} replicas")
    keras.utils.set_random_seed(args.seed)
    keras.config.set_dtype_policy("mixed_bfloat16" if args.mixed_precision else "float32")
    if args.deterministic:
        tf.config.experimental.enable_op_determinism()
    size = tuple(args.image_size)
    pairs, val_pairs = collect_pairs(args)
    found = {"training": len(pairs), "validation": len(val_pairs)}
    if resume and config.get("images", found) != found:
        raise DataError(f"--resume {outdir}: found {found} images, expected {config['images']} as when it started")
    steps_per_epoch = max(1, len(pairs) // args.batch_size)
    steps = args.steps or args.epochs * steps_per_epoch

    # read before anything is written, so that a bad file leaves no run folder behind
    shown = next(batches(make_dataset(val_pairs[:1], size, 1)))

    scratch = args.modeldir.lower() == "none"
    if resume:
        network = config["network"]
    else:
        # input range, embedding activation and normalization belong to the weights that training starts from
        network = {} if scratch else utils.read_network(utils.model_folder(args.modeldir))
        network |= {
            "input_shape": [*size, 3],
            "embedding_dim": args.feature_dim,
            "semantic": args.sem > 0,
            "skip_connections": args.skip_connections,
        }
    with strategy.scope():
        model = utils.build_model(network, replicas > 1, outdir if resume else args.modeldir)
        if not scratch and not resume:
            fresh = utils.start_from(model, args.modeldir)
            print(f"weights from {args.modeldir}" + (f", fresh head: {', '.join(fresh)}" if fresh else ""))
        optimizer = make_optimizer(args, steps)
        optimizer.build(model.trainable_variables)
        averages = WeightAverages(model, args.ema) if args.ema else None

    run = Run(outdir, model, optimizer, averages)
    if resume:
        run.load()
        print(f"{outdir}: going on from step {run.state['step']}")
    else:
        flags = {k: v for k, v in vars(args).items() if k not in ("resume", "command")}
        config = {**utils.run_config(flags, network, command=args.command), "images": found}
    run.config = config
    plots = outdir / f"var{args.var:g}_dist{args.dist:g}_reg{args.reg:g}_dvar{args.dvar:g}_ddist{args.ddist:g}"
    log = validation = None
    if chief:
        validation = Validation(model, make_losses(args, gradient=False), val_pairs, size, args.batch_size)
        plots.mkdir(parents=True, exist_ok=True)
        utils.write_json(outdir / utils.CONFIG_FILE, config)
        log = SummaryLog(args.logdir, model, shown, plots, args.bandwidth)
    print(f"{len(pairs)} training and {len(val_pairs)} validation images, {steps} steps, run folder {outdir}")

    def input_function(context):
        workers = context.num_input_pipelines
        part = args.batch_size // workers
        return make_dataset(
            pairs,
            size,
            args.batch_size // replicas,
            args.seed,
            not args.no_augment,
            first_sample=run.state["step"] * args.batch_size,
            fraction=(context.input_pipeline_id * part, part, args.batch_size),
        )

    train_step = make_train_step(model, optimizer, args, strategy, averages)
    data = batches(strategy.distribute_datasets_from_function(input_function))
    bar = tqdm(total=steps, initial=run.state["step"], unit="step", dynamic_ncols=True, disable=not chief)
    try:
        if log and run.state["step"] == 0:
            log.images(0, args.cluster_every)
        while run.state["step"] < steps:
            image, label, index = next(data)
            parts = train_step(image, label).numpy()
            if not np.isfinite(parts).all():
                run.save(chief)
                indices = np.concatenate([i.numpy() for i in strategy.experimental_local_results(index)])
                stop_on_non_finite(run, parts, [pairs[i][0] for i in indices])
            step = run.count(parts)
            bar.update()
            bar.set_postfix({name: f"{value:.3f}" for name, value in zip(PARTS, parts, strict=False)}, refresh=False)
            validating = step % (steps_per_epoch * args.val_every) == 0 or step == steps
            if log and step % args.plot_every == 0:
                log.scalars("train", step, {**run.means(), "learning_rate": float(optimizer.learning_rate)})
                log.weights(step)
            if log and (step % args.plot_every == 0 or step % args.cluster_every == 0):
                log.images(step, args.cluster_every)
            if validating:
                run.finish_epoch(validation, log, step / steps_per_epoch)
            elif step % args.save_every == 0:
                run.save(chief)
    except KeyboardInterrupt:
        bar.close()
        run.save(chief)
        print(f"interrupted at step {run.state['step']}, saved; go on with: python training.py --resume {outdir}")
        return 130
    except LOST_WORKER as error:
        if args.strategy != "multiworker":
            raise
        bar.close()
        rejoin(error)
    finally:
        bar.close()
    if chief:
        print(f"step {run.state['step']}: validation {run.state['validation']}; models in {outdir / 'best'} and last")
    return 0


def collect_pairs(args):
    """(training pairs, validation pairs) of --srcdir and --valdir; a folder given as FOLDER:N counts N times."""
    pairs, val_pairs = [], []
    for source in args.srcdir:
        folder, _, times = source.rpartition(":")
        folder, times = (folder, int(times)) if folder and times.isdigit() and int(times) else (source, 1)
        found = find_pairs(folder)
        if args.valdir is None:
            found, held_out = split_pairs(found)
            val_pairs += held_out
        pairs += (balance_pairs(found) if args.balance else found) * times
    return pairs, val_pairs if args.valdir is None else find_pairs(args.valdir)


def stop_on_non_finite(run, parts, files):
    values = ", ".join(f"{name} {value:g}" for name, value in zip((*PARTS, "gradient norm"), parts, strict=True))
    raise DataError(
        f"step {run.state['step'] + 1}: loss or gradient is not finite ({values}) on {', '.join(files)}; the model "
        f"before that step is in {run.outdir / 'last'}; check these files, lower --lr or set --clip-norm"
    )


def rejoin(error):
    """Start this worker again; it waits for the lost one and goes on from the last checkpoint."""
    print(f"a worker is gone ({type(error).__name__}); waiting for it to come back", file=sys.stderr, flush=True)
    os.execv(sys.executable, [sys.executable, *sys.argv])


if __name__ == "__main__":
    sys.exit(main())
