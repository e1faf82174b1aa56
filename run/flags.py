"""The flags of training.py."""

import argparse
import shlex
import sys

from datagenerator import MAX_ZOOM
from run.command import bounded
from run.devices import STRATEGIES


def make_parser():
    parser = argparse.ArgumentParser(
        prog="training.py",
        description="Train ENet with the discriminative loss.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        fromfile_prefix_chars="@",
    )
    # a byte order mark may come first
    parser.convert_arg_line_to_args = lambda line: shlex.split(line.removeprefix("\ufeff"), comments=True)

    count, least_zero = bounded(int, least=1), bounded(float, least=0)
    size = {"nargs": 2, "type": bounded(int, least=8, step=8), "metavar": ("H", "W")}
    data = parser.add_argument_group("data")
    add = data.add_argument
    add("-s", "--srcdir", nargs="+", default=["data"], help="data folders; FOLDER:N takes its images N times as often")
    add("--valdir", nargs="+", help="validation data folders, which count alike; default 10 %% of srcdir")
    add("--split-by", choices=("image", "clip"), default="image", help="of these 10 %%: single images or whole clips")
    add("--keep-aspect", action="store_true", help="keep proportions: width W, the height follows")
    add("--normalize", action="store_true", help="stretch images from black to white; as --modeldir has it")
    add("--zoom", type=bounded(float, above=0, most=MAX_ZOOM), default=1.0, help="enlarge images before --crop")
    add("--batch-size", type=count, default=1, help="images per step")
    add("--balance", action="store_true", help="take images with a rare number of instances more often")
    add("--ignore", type=bounded(int, least=1, most=65535), metavar="ID", help="label value that is ignored")
    add("--no-augment", action="store_true", help="train on the images as they are")
    add = data.add_mutually_exclusive_group().add_argument
    add("--image-size", **size, default=[512, 512], help="network input, multiples of 8")
    add("--crop", **size, help="train on parts of this size")
    add = parser.add_argument_group("model").add_argument
    add("-m", "--modeldir", default="pretrained_semantic_model", help="model to start from, or none")
    add("--feature-dim", type=count, default=3, help="channels of the embedding")
    add("--no-dropout", action="store_true", help="train without dropout; as --modeldir has it")
    add("--skip-connections", action="store_true", help="add encoder outputs in the decoder; as --modeldir has it")
    add("--coordinates", action="store_true", help="add each pixel's place to its embedding; as --modeldir has it")
    add = parser.add_argument_group("run").add_argument
    add("-o", "--outdir", default="saved_model", help="run folder to write, a new or empty one")
    add("--resume", metavar="RUN_FOLDER", help="go on; --steps: longer; --srcdir, --valdir: its data moved")
    add("-l", "--logdir", help="folder of the TensorBoard events; default OUTDIR/log")
    add("--seed", type=bounded(int, least=0, below=2**32), default=42, help="of weights, data order, augmentation")
    add("--jit", action="store_true", help="compile the step with XLA: slower start, faster steps")
    add("--mixed-precision", action="store_true", help="bfloat16 but for weights, embedding and losses")
    add("--deterministic", action="store_true", help="equal flags give equal weights, bit for bit")
    add("--strategy", choices=STRATEGIES, default="none", help="mirrored: all GPUs; multiworker: TF_CONFIG")
    add("--save-every", type=count, default=500, help="steps between checkpoints")
    add("--plot-every", type=count, default=1000, help="steps between TensorBoard summaries and plots")
    add("--val-every", type=count, default=1, help="epochs between validations")
    add("--epochs", type=count, default=50, help="passes over the training images")
    add("--steps", type=count, help="optimizer steps, instead of --epochs")
    add = parser.add_argument_group("loss").add_argument
    add("--var", type=least_zero, default=1.0, help="weight of the variance term")
    add("--dist", type=least_zero, default=1.0, help="weight of the distance term")
    add("--reg", type=least_zero, default=1.0, help="weight of the regularization term (the paper: 0.001)")
    add("--dvar", type=least_zero, default=0.5, help="hinge margin of the variance term")
    add("--ddist", type=least_zero, default=1.5, help="half the hinge margin of the distance term")
    add("--sem", type=least_zero, help="of the semantic loss, 0: no such head; default 1, with --coordinates 10")
    add("--foreground-weight", type=bounded(float, above=0), metavar="W", help="of foreground; default by its fraction")
    add("--cls", type=least_zero, default=1.0, help="weight of the class loss, 0: as if there were no classes/")
    add = parser.add_argument_group("optimizer").add_argument
    add("--lr", type=least_zero, default=1e-4, help="highest learning rate")
    add("--optimizer", choices=("adam", "adamw"), default="adam", help="adamw: with weight decay")
    add("--schedule", choices=("original", "cosine"), default="original", help="x0.96 every 5000 steps, or cosine to 0")
    add("--warmup", type=bounded(int, least=0), default=0, help="steps of linear warm-up, cosine schedule only")
    add("--ema", type=bounded(float, least=0, below=1), default=0.0, help="decay of averaged weights; 0 = none")
    return parser


def parse_args(argv=None, saved=(), where=""):
    """Flags of the command line; they override `saved`, the `flag_words` of a run from the file `where`."""
    argv = sys.argv[1:] if argv is None else argv
    parser = make_parser()
    try:
        args = parser.parse_args(argv)
        if saved:
            parser.prog = f"training.py: {where}: flags"
            args = parser.parse_args([*saved, *argv])
    except ValueError as error:  # no UTF-8, an open quotation
        parser.error(f"@FILE: found {type(error).__name__}: {error}, expected flags as UTF-8 text; fix it")
    if args.sem is None:
        args.sem = 10.0 if args.coordinates else 1.0  # a hundred instances' losses are so much larger than lanes'
    for is_wrong, found in (
        (args.crop and args.keep_aspect, "--keep-aspect: found with --crop"),
        (args.zoom != 1 and not args.crop, "--zoom: found without --crop"),
        (args.jit and args.strategy != "none", f"--jit: found with --strategy {args.strategy}"),
        (args.warmup and args.schedule != "cosine", "--warmup: found with --schedule original"),
    ):
        if is_wrong:
            parser.error(f"{found}, expected flags that fit each other; change one")
    args.command = "python training.py " + shlex.join(argv)
    return args


def flag_words(flags):
    """Command line of flags {name: value}; those of other versions are left out."""
    words = []
    for name, default in vars(make_parser().parse_args([])).items():
        value, flag = flags.get(name, default), f"--{name.replace('_', '-')}"
        if type(value) is list and value != default:
            words += [flag, *map(str, value)]
        elif value != default:
            words.append(flag if value is True else f"{flag}={value}")
    return words
