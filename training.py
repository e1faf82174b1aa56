"""Train ENet with the discriminative loss.

    python training.py --srcdir data --modeldir none --outdir saved_model
    python training.py --srcdir data --modeldir none --outdir pretrained_semantic_model --var 0 --dist 0 --reg 0
    python training.py --resume saved_model

Reads `images/` and `labels/` of the data folder(s). Writes to the run folder `--outdir`: `config.json` (every flag,
package versions, git commit), `log.jsonl` (one line per epoch), `checkpoint.npz` (to go on from), the model folders
`best/` and `last/`, and a folder named after the loss weights with pictures of one validation picture's embeddings.
TensorBoard events go to `--logdir`. Ctrl-C saves and ends; `--resume` goes on.
"""

import argparse
import json
import math
import os
import shlex
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import numpy as np

from datagenerator import DataError, batches, find_pairs, make_dataset, split_pairs  # before cv2: says what it needs

import keras  # isort: skip
import tensorflow as tf  # isort: skip
from tqdm import tqdm  # isort: skip

import utils
import visualization
from clustering import instance_label_map
from loss import discriminative_loss, semantic_loss

PARTS = ("loss", "l_var", "l_dist", "l_reg", "l_sem")
DECAY, DECAY_STEPS = 0.96, 5000


def parse_args(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n", 1)[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    # data
    add("--srcdir", nargs="+", default=["data"], help="data folder(s); FOLDER:N takes its pictures N times as often")
    add("--valdir", help="validation data folder; default 10 %% of srcdir, split with random state 42")
    add("--image-size", nargs=2, type=int, default=[512, 512], metavar=("H", "W"), help="network input, multiples of 8")
    add("--batch-size", type=int, default=1, help="pictures per step")
    add("--no-augment", action="store_true", help="train on the pictures as they are")
    # model
    add("--modeldir", default="pretrained_semantic_model", help="model to start from, or none")
    add("--feature-dim", type=int, default=3, help="channels of the embedding")
    add("--skip-connections", action="store_true", help="add encoder outputs in the decoder")
    # run
    add("--outdir", default="saved_model", help="run folder to write")
    add("--resume", metavar="RUN_FOLDER", help="go on with an interrupted run, with its own flags")
    add("--logdir", default="log", help="folder of the TensorBoard events")
    add("--epochs", type=int, default=50, help="rounds over the training pictures")
    add("--steps", type=int, help="optimizer steps, instead of --epochs")
    add("--seed", type=int, default=42, help="of weights, data order, augmentation and dropout")
    add("--jit", action="store_true", help="compile the whole step with XLA: slower start, faster steps")
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
    # cycles
    add("--save-every", type=int, default=500, help="steps between checkpoints")
    add("--plot-every", type=int, default=1000, help="steps between TensorBoard summaries and scatter plots")
    add("--cluster-every", type=int, default=5000, help="steps between mean-shift pictures")
    add("--val-every", type=int, default=1, help="epochs between validations")
    add("--bandwidth", type=float, default=0.7, help="mean-shift bandwidth of those pictures")
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
    for name in ("var", "dist", "reg", "dvar", "ddist", "sem", "lr", "weight_decay", "warmup"):
        if not 0 <= getattr(args, name) < math.inf:
            parser.error(f"--{name.replace('_', '-')}: found {getattr(args, name)}, expected a number of at least 0")
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
    outdir = Path(args.resume or args.outdir)
    if args.resume:
        config = utils.read_config(outdir)
        args = argparse.Namespace(**{**config["flags"], "resume": args.resume, "command": args.command})
    elif (outdir / utils.CHECKPOINT_FILE).exists():
        raise DataError(f"--outdir {outdir}: holds a run already; go on with --resume {outdir} or name another folder")
    keras.utils.set_random_seed(args.seed)
    size = tuple(args.image_size)
    pairs, val_pairs = collect_pairs(args)
    steps_per_epoch = max(1, len(pairs) // args.batch_size)
    steps = args.steps or args.epochs * steps_per_epoch

    # read before anything is written, so that a bad file leaves no run folder behind
    val_data = make_dataset(val_pairs, size, args.batch_size)
    shown = next(batches(make_dataset(val_pairs[:1], size, 1)))

    scratch = args.modeldir.lower() == "none"
    if args.resume:
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
    model = utils.build_model(network)
    if not scratch and not args.resume:
        fresh = utils.start_from(model, args.modeldir)
        print(f"weights from {args.modeldir}" + (f", fresh head: {', '.join(fresh)}" if fresh else ""))
    optimizer = make_optimizer(args, steps)
    optimizer.build(model.trainable_variables)

    state = {"step": 0, "best": math.inf, "seconds": 0.0}
    if args.resume:
        state = utils.load_checkpoint(outdir, model, optimizer)
        print(f"{outdir}: going on from step {state['step']}")
    else:
        outdir.mkdir(parents=True, exist_ok=True)
        flags = {k: v for k, v in vars(args).items() if k not in ("resume", "command")}
        config = utils.run_config(flags, network, command=args.command)
        config["pictures"] = {"training": len(pairs), "validation": len(val_pairs)}
        utils.write_json(outdir / utils.CONFIG_FILE, config)
    print(f"{len(pairs)} training and {len(val_pairs)} validation pictures, {steps} steps, run folder {outdir}")

    train_step, losses = make_train_step(model, optimizer, args), make_losses(args)
    val_step = tf.function(lambda picture, label: losses(model(picture, training=False), label))
    plots = outdir / f"var{args.var:g}_dist{args.dist:g}_reg{args.reg:g}_dvar{args.dvar:g}_ddist{args.ddist:g}"
    plots.mkdir(exist_ok=True)
    log = SummaryLog(args.logdir, model, shown, plots, args.bandwidth)
    data = make_dataset(
        pairs, size, args.batch_size, args.seed, not args.no_augment, first_sample=state["step"] * args.batch_size
    )

    def save(best=False):
        here = {
            **config,
            "step": state["step"],
            "seconds": round(state["seconds"]),
            "validation": state.get("validation"),
        }
        if best:
            utils.save_model(outdir / "best", model, here)
        utils.save_model(outdir / "last", model, here)
        utils.save_checkpoint(outdir, model, optimizer, state)

    bar = tqdm(total=steps, initial=state["step"], unit="step", dynamic_ncols=True)
    epoch_parts, epoch_start = [], time.time()
    try:
        if state["step"] == 0:
            log.pictures(0, args.cluster_every)
        for picture, label, index in batches(data):
            if state["step"] >= steps:
                break
            parts = [float(part) for part in train_step(picture, label)]
            if not np.isfinite(parts[0]):
                stop_on_non_finite(state["step"] + 1, parts, [pairs[i][0] for i in index.numpy()])
            state["step"] += 1
            step = state["step"]
            epoch_parts.append(parts)
            bar.update()
            bar.set_postfix({name: f"{value:.3f}" for name, value in zip(PARTS, parts, strict=True)}, refresh=False)
            if step % args.plot_every == 0:
                log.scalars("train", step, dict(zip(PARTS, np.mean(epoch_parts, axis=0), strict=True)))
                log.weights(step)
            if step % args.plot_every == 0 or step % args.cluster_every == 0:
                log.pictures(step, args.cluster_every)
            if step % (steps_per_epoch * args.val_every) == 0 or step == steps:
                state["seconds"] += time.time() - epoch_start
                val = validate(val_data, val_step)
                row = {"step": step, "epoch": round(step / steps_per_epoch, 3), "seconds": round(state["seconds"], 1)}
                row["lr"] = float(optimizer.learning_rate)
                row["train"] = dict(zip(PARTS, np.mean(epoch_parts, axis=0).round(5).tolist(), strict=True))
                row["val"] = state["validation"] = val
                with open(outdir / "log.jsonl", "a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
                log.scalars("train", step, {**row["train"], "learning_rate": row["lr"]})
                log.scalars("validation", step, val)
                best = val["loss"] < state["best"]
                state["best"] = min(val["loss"], state["best"])
                save(best)
                epoch_parts, epoch_start = [], time.time()
            elif step % args.save_every == 0:
                save()
    except KeyboardInterrupt:
        bar.close()
        save()
        print(f"interrupted at step {state['step']}, saved; go on with: python training.py --resume {outdir}")
        return 130
    finally:
        bar.close()
    print(
        f"step {state['step']}: validation loss {state['validation']['loss']:.4f}; "
        f"models in {outdir / 'best'} and {outdir / 'last'}"
    )
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
        pairs += found * times
    return pairs, val_pairs if args.valdir is None else find_pairs(args.valdir)


def make_optimizer(args, steps):
    """Adam or AdamW with the original's schedule, lr * 0.96^floor(step / 5000), or warm-up and cosine to 0."""
    if args.schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(
            0.0 if args.warmup else args.lr,
            max(1, steps - args.warmup),
            warmup_target=args.lr if args.warmup else None,
            warmup_steps=args.warmup,
        )
    else:
        rate = keras.optimizers.schedules.ExponentialDecay(args.lr, DECAY_STEPS, DECAY, staircase=True)
    if args.optimizer == "adamw":
        optimizer = keras.optimizers.AdamW(rate, weight_decay=args.weight_decay)
        # per-channel vectors are no weights to shrink: biases, batch-norm betas, PReLU slopes
        optimizer.exclude_from_weight_decay(var_names=["bias", "beta", "alpha"])
        return optimizer
    return keras.optimizers.Adam(rate)


def make_losses(args):
    """Function (outputs, label) -> (loss, l_var, l_dist, l_reg, l_sem) with the weights of the flags."""

    def embedding_loss(embedding, label):
        return discriminative_loss(embedding, label, args.dvar, args.ddist, args.var, args.dist, args.reg)

    # Compiled, segment sums and gathers take a third of the time of TensorFlow's own kernels; loss and gradient in one
    # piece, nothing but the gradient is kept for the backward pass.
    @tf.function(jit_compile=True)
    def piece(embedding, label):
        with tf.GradientTape() as tape:
            tape.watch(embedding)
            parts = embedding_loss(embedding, label)
        return parts, tape.gradient(parts[0], embedding)

    def with_gradient(embedding, label):
        # XLA scatters on one core: two halves of the batch keep two busy
        count = 2 if embedding.shape[0] and embedding.shape[0] % 2 == 0 else 1
        pieces = [piece(*half) for half in zip(tf.split(embedding, count), tf.split(label, count), strict=True)]
        parts = [tf.add_n(part) / count for part in zip(*(parts for parts, _ in pieces), strict=True)]
        return parts, tf.concat([gradient for _, gradient in pieces], axis=0) / count

    def losses(outputs, label):
        loss = l_var = l_dist = l_reg = l_sem = tf.constant(0.0)
        if args.var or args.dist or args.reg:

            @tf.custom_gradient
            def differentiable(embedding):
                parts, gradient = with_gradient(embedding, label)
                return parts, lambda upstream, *_: upstream * gradient

            loss, l_var, l_dist, l_reg = differentiable(outputs["embedding"])
        if args.sem:
            l_sem = args.sem * semantic_loss(outputs["semantic"], label)
        return loss + l_sem, l_var, l_dist, l_reg, l_sem

    return losses


def make_train_step(model, optimizer, args):
    """Compiled function (picture (B, H, W, 3), label (B, H, W)) -> the five losses, after one optimizer step."""
    losses = make_losses(args)

    @tf.function(jit_compile=args.jit)
    def train_step(picture, label):
        with tf.GradientTape() as tape:
            parts = losses(model(picture, training=True), label)
        gradients = tape.gradient(parts[0], model.trainable_variables)
        # semantic pre-training leaves the embedding head without gradient
        optimizer.apply(
            [tf.zeros_like(v) if g is None else g for g, v in zip(gradients, model.trainable_variables, strict=True)],
            model.trainable_variables,
        )
        return parts

    return train_step


def validate(data, val_step):
    """Mean losses over the validation pictures, in inference mode."""
    total, count = np.zeros(len(PARTS)), 0
    for picture, label, _ in batches(data):
        total += len(label) * np.array([float(part) for part in val_step(picture, label)])
        count += len(label)
    return dict(zip(PARTS, (total / count).round(5).tolist(), strict=True))


def stop_on_non_finite(step, parts, files):
    values = ", ".join(f"{name} {value:g}" for name, value in zip(PARTS, parts, strict=True))
    raise DataError(
        f"step {step}: the loss is not finite ({values}) on {', '.join(files)}; check these files or lower --lr"
    )


class SummaryLog:
    """TensorBoard events and the pictures of one validation picture, `shown` = (picture, label, index) batch."""

    def __init__(self, logdir, model, shown, plots, bandwidth):
        self.writers = {
            name: tf.summary.create_file_writer(str(Path(logdir) / name)) for name in ("train", "validation")
        }
        self.model, self.plots, self.bandwidth = model, plots, bandwidth
        self.picture, self.label = shown[0], shown[1][0].numpy()
        self.predict = tf.function(lambda picture: model(picture, training=False))

    def scalars(self, name, step, values):
        with self.writers[name].as_default(step):
            for key, value in values.items():
                tf.summary.scalar(key, value)
        self.writers[name].flush()

    def weights(self, step):
        with self.writers["train"].as_default(step):
            for variable in self.model.trainable_variables:
                tf.summary.histogram(variable.path, variable.value)

    def pictures(self, step, cluster_every):
        """Scatter plot `cluster_STEP.png`, every `cluster_every` steps also `instances_STEP.png`, and TensorBoard's."""
        outputs = {name: value[0].numpy() for name, value in self.predict(self.picture).items()}
        embedding, picture = outputs["embedding"], self.picture[0].numpy().astype(np.uint8)
        shown = {
            "input": picture,
            "label": visualization.paint_instances(np.zeros_like(picture), _ranks(self.label), alpha=1.0),
            "prediction": visualization.embedding_to_color(embedding[:, :, :1].repeat(3, axis=2)),
            "embedding": visualization.embedding_to_color(embedding),
        }
        visualization.scatter_plot(embedding, self.label, self.plots / f"cluster_{step:06d}.png", f"step {step}")
        if step and step % cluster_every == 0:
            mask = outputs["semantic"][:, :, 0] > 0 if "semantic" in outputs else None
            shown["instances"] = visualization.paint_instances(
                picture, instance_label_map(embedding, self.bandwidth, mask)
            )
            visualization.save_picture(self.plots / f"instances_{step:06d}.png", shown["instances"])
        with self.writers["validation"].as_default(step):
            for name, value in shown.items():
                tf.summary.image(name, value[None])
        self.writers["validation"].flush()


def _ranks(label):
    return np.unique(label, return_inverse=True)[1].reshape(label.shape)


if __name__ == "__main__":
    sys.exit(main())
