"""Write a network for other programs, or give an original checkpoint true batch norm averages.

python -m export MODELDIR OUT --format savedmodel|tflite|onnx [--size H W]
python -m export MODELDIR OUT --format tflite --int8 IMAGES
python -m export calibrate MODELDIR IMAGES OUT
"""

if __name__ == "__main__":
    from run.command import start

    start()

import argparse
import sys
from pathlib import Path

import numpy as np
from tqdm import tqdm

import utils
from data.files import list_images
from datagenerator import center_crop, enlarge, network_size, normalize, prepare_image, read_image, view_of
from export.calibration import calibrate
from export.formats import export
from pipeline import lite
from run.command import UserError, bounded, command, one_line

CALIBRATION = 100  # images at most, evenly from among those there are
FORMATS = ("savedmodel", "tflite", "onnx")


def parse_args(argv=None):
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(
        prog="export", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    calibrating = argv[:1] == ["calibrate"]
    if calibrating:
        parser.add_argument("command", choices=["calibrate"], help="true moving averages over a folder of images")
    parser.add_argument("modeldir", metavar="MODELDIR", help="model folder, run folder or TensorFlow 1 checkpoint")
    if calibrating:
        parser.add_argument("images", metavar="IMAGES", help="folder of images like those the model is for")
    parser.add_argument("out", metavar="OUT", help="model folder, file, or with savedmodel folder, to write")
    parser.add_argument("--overwrite", action="store_true", help="replace the model or export that OUT holds")
    if calibrating:
        return parser.parse_args(argv)
    parser.add_argument("--format", choices=FORMATS, required=True, help="format to write")
    int8 = "with tflite: 8 bits, calibrated on a folder of images; what --int8 of inference uses"
    parser.add_argument("--int8", metavar="IMAGES", help=int8)
    side = bounded(int, least=8, step=8)
    parser.add_argument("--size", type=side, nargs=2, metavar=("H", "W"), help="of the images; default: as in training")
    args = parser.parse_args(argv)
    if args.int8 and args.format != "tflite":
        parser.error(f"--int8: found --format {args.format}, expected tflite")
    return args


def read_inputs(paths, bad, folder):
    """Network inputs (H, W, 3) float32 of images for the model in a folder; the bad are said and added to `bad`."""
    size, view = utils.read_network(folder)["input_shape"][:2], view_of(utils.read_saved_config(folder), folder)
    for path in tqdm(paths, unit="image", dynamic_ncols=True):
        try:
            image = read_image(path)
        except UserError as error:
            bad.append(path)
            tqdm.write(f"skipped: {one_line(error)}", file=sys.stderr)
            continue
        image = enlarge(normalize(image) if view.normalize else image, view.zoom)
        image = center_crop(image, size) if view.kind == "crop" else image
        yield prepare_image(image, network_size(image.shape, size, view.kind), view.kind)
    if len(bad) == len(paths):
        raise UserError(f"{paths[0].parent}: found no image that can be read, expected some 50; name another folder")


def run_int8(args):
    """Export with 8 bits and keep that for `--int8` of inference."""
    folder = utils.model_folder(args.modeldir)
    network = utils.read_network(folder)
    for unfit, what in (
        (network.get("coordinate_scale"), "adds coordinates, which need more than 8 bits"),
        (network.get("image_statistics"), "normalizes with the statistics of each image"),
        (None in network["input_shape"], "has no fixed size"),
    ):
        if unfit:
            raise UserError(f"{folder}: found a model that {what}, expected another; leave --int8 out")
    height, width = args.size or network["input_shape"][:2]
    paths, bad, inputs = list_images(args.int8), [], []
    for image in read_inputs(paths[:: -(-len(paths) // CALIBRATION)], bad, folder):
        image = image[:height, :width]
        inputs.append(np.pad(image, ((0, height - len(image)), (0, width - image.shape[1]), (0, 0)), "edge"))
    difference = export(args.modeldir, args.out, args.format, (height, width), args.overwrite, inputs)
    print(f"{args.out}: int8, calibrated on {len(inputs)} images, within {difference:.2f} of the Keras model's outputs")
    lite.keep(lite.cache_file(folder, network, int8=True), Path(args.out).read_bytes())
    return 3 if bad else 0


def run_calibration(args):
    """Save a model whose moving averages are those over the images."""
    out = Path(args.out)
    empty = out.is_dir() and not any(out.iterdir())
    if out.exists() and not empty and not ((out / utils.MODEL_FILE).is_file() and args.overwrite):
        raise UserError(f"{out}: found something of that name, expected none; --overwrite replaces a model")
    folder = utils.model_folder(args.modeldir)
    config, size = utils.read_saved_config(folder), utils.read_network(folder)["input_shape"][:2]
    paths, bad = list_images(args.images), []
    images = read_inputs(paths, bad, folder)
    view = view_of(config, folder)
    model, network = calibrate(args.modeldir, images, None if view.kind == "stretch" else (None, None))
    network["input_shape"] = [*size, 3]
    # how the model sees images and what counts as an instance stay as they are
    config |= {"network": network, "calibrated": vars(args), **utils.code_version()}
    utils.save_model(args.out, model, config)
    print(f"{len(paths) - len(bad)} of {len(paths)} images, calibrated model in {args.out}")
    return 3 if bad else 0


@command("export")
def main(argv=None):
    args = parse_args(argv)
    if "images" in args:
        return run_calibration(args)
    if args.int8:
        return run_int8(args)
    difference = export(args.modeldir, args.out, args.format, args.size, args.overwrite)
    model = utils.model_folder(args.modeldir)
    print(f"{args.out}: within {difference:.1e} of the outputs of the Keras model in {model}")


if __name__ == "__main__":
    main()
