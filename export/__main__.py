"""Write a network for other programs, or give an original checkpoint true batch norm averages.

python -m export MODELDIR OUT --format savedmodel|tflite|onnx [--size H W]
python -m export MODELDIR OUT --format tflite --int8 IMAGES
python -m export calibrate MODELDIR IMAGES OUT
"""

if __name__ == "__main__":
    from run.command import start

    start()

import sys
from pathlib import Path

import numpy as np
from keras.layers import SpatialDropout2D
from tqdm import tqdm

import utils
from data.files import list_images
from datagenerator import center_crop, enlarge, network_size, normalize, prepare_image, read_image, view_of
from enet import BatchNormalization
from export.formats import export
from pipeline import lite
from run.command import UserError, bounded, command, make_parser

CALIBRATION = 100  # images at most, evenly of all


def parse_args(argv=None):
    argv = sys.argv[1:] if argv is None else argv
    parser = make_parser("export", __doc__)
    add, calibrating = parser.add_argument, argv[:1] == ["calibrate"]
    if calibrating:
        add("command", choices=["calibrate"], help="true moving averages over a folder of images")
    add("modeldir", metavar="MODELDIR", help="model folder, run folder or TensorFlow 1 checkpoint")
    if calibrating:
        add("images", metavar="IMAGES", help="folder of images like those the model is for")
    add("out", metavar="OUT", help="model folder, file, or with savedmodel folder, to write")
    add("--overwrite", action="store_true", help="replace the model or export that OUT holds")
    if calibrating:
        return parser.parse_args(argv)
    add("--format", choices=("savedmodel", "tflite", "onnx"), required=True, help="format to write")
    add("--int8", metavar="IMAGES", help="with tflite: 8 bits, calibrated on a folder of images; for --int8 elsewhere")
    side = bounded(int, least=8, step=8)
    add("--size", type=side, nargs=2, metavar=("H", "W"), help="of the images; default: as in training")
    args = parser.parse_args(argv)
    if args.int8 and args.format != "tflite":
        parser.error(f"--int8: found --format {args.format}, expected tflite")
    return args


def read_inputs(paths, folder):
    """Yield network inputs, (H, W, 3) float32, of images for the model in a folder."""
    size, view = utils.read_network(folder)["input_shape"][:2], view_of(utils.read_saved_config(folder), folder)
    for image in map(read_image, tqdm(paths, unit="image", dynamic_ncols=True)):
        image = enlarge(normalize(image) if view.normalize else image, view.zoom)
        image = center_crop(image, size) if view.kind == "crop" else image
        yield prepare_image(image, network_size(image.shape, size, view.kind), view.kind)


def calibrate(modeldir, images):
    """(keras.Model, network config) with moving averages that are the means over `read_inputs`, at least one."""
    source = utils.load_model(modeldir, (None, None))
    network = {**utils.read_network(utils.model_folder(modeldir)), "image_statistics": False}
    model, calibrated = utils.build_model({**network, "input_shape": (None, None, 3)}), utils.build_model(network)
    model.set_weights(source.get_weights())
    for layer in model.layers:
        if isinstance(layer, SpatialDropout2D):
            layer.rate = 0  # training mode is for batch norm only
    norms = [layer for layer in model.layers if isinstance(layer, BatchNormalization)]
    for count, image in enumerate(images):
        for layer in norms:
            layer.momentum = count / (count + 1)  # the mean of all so far
        model(image[None], training=True)
    calibrated.set_weights(model.get_weights())
    return calibrated, network


def run_int8(args):
    """Export with 8 bits and keep that for `--int8`."""
    folder = utils.model_folder(args.modeldir)
    network = utils.read_network(folder)
    unfit = [name for name in ("coordinate_scale", "image_statistics") if network.get(name)]
    if unfit or None in network["input_shape"]:
        found = f"found a model that has {unfit[0] if unfit else 'no fixed size'}"
        raise UserError(f"{folder}: {found}, expected one without; leave --int8 out")
    height, width = args.size or network["input_shape"][:2]
    paths, inputs = list_images(args.int8), []
    for image in read_inputs(paths[:: -(-len(paths) // CALIBRATION)], folder):
        image = image[:height, :width]
        inputs.append(np.pad(image, ((0, height - len(image)), (0, width - image.shape[1]), (0, 0)), "edge"))
    difference = export(args.modeldir, args.out, args.format, (height, width), args.overwrite, inputs)
    print(f"{args.out}: int8, calibrated on {len(inputs)} images, within {difference:.2f} of the Keras model's outputs")
    lite.keep(lite.cache_file(folder, network, int8=True), Path(args.out).read_bytes())


def run_calibration(args):
    out = Path(args.out)
    is_free = not out.exists() or out.is_dir() and not any(out.iterdir())
    if not is_free and not (args.overwrite and (out / utils.MODEL_FILE).is_file()):
        raise UserError(f"{out}: found something of that name, expected none; --overwrite replaces a model")
    folder = utils.model_folder(args.modeldir)
    paths = list_images(args.images)
    model, network = calibrate(folder, read_inputs(paths, folder))
    config = {**utils.read_saved_config(folder), "network": network, "calibrated": vars(args), **utils.code_version()}
    utils.save_model(out, model, config)
    print(f"{len(paths)} images, calibrated model in {args.out}")


@command("export")
def main(argv=None):
    args = parse_args(argv)
    if "images" in args:
        return run_calibration(args)
    if args.int8:
        return run_int8(args)
    difference = export(args.modeldir, args.out, args.format, args.size, args.overwrite)
    print(f"{args.out}: within {difference:.1e} of the Keras model's outputs")


if __name__ == "__main__":
    main()
