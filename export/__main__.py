"""Write a network for other programs, or give an original checkpoint true batch norm averages.

python -m export MODELDIR OUT --format savedmodel|tflite|onnx [--size H W]
python -m export calibrate MODELDIR IMAGES OUT
"""

if __name__ == "__main__":
    from run.command import start

    start()

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

import utils
from data.files import list_images
from datagenerator import (
    center_crop,
    enlarge,
    network_size,
    normalize,
    prepare_image,
    read_image,
    require_readable,
    view_of,
)
from export.calibration import calibrate
from export.formats import export
from run.command import UserError, bounded, command, one_line

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
        parser.add_argument("out", metavar="OUT", help="model folder to write")
        parser.add_argument("--overwrite", action="store_true", help="replace the model that OUT holds")
        return parser.parse_args(argv)
    side = bounded(int, least=8, step=8)
    parser.add_argument("out", metavar="OUT", help="file, or with savedmodel folder, to write")
    parser.add_argument("--overwrite", action="store_true", help="replace OUT if it exists")
    parser.add_argument("--format", choices=FORMATS, required=True, help="of the file")
    parser.add_argument("--size", type=side, nargs=2, metavar=("H", "W"), help="default: that of the training")
    return parser.parse_args(argv)


def run_calibration(args):
    out = Path(args.out)
    empty = out.is_dir() and not any(out.iterdir())
    if out.exists() and not empty and not ((out / utils.MODEL_FILE).is_file() and args.overwrite):
        raise UserError(f"{out}: found something of that name, expected none; --overwrite replaces a model")
    folder = utils.model_folder(args.modeldir)
    config, size = utils.read_saved_config(folder), utils.read_network(folder)["input_shape"][:2]
    view = view_of(config, folder)
    paths, bad = list_images(args.images), []
    require_readable(paths)

    def images():
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

    model, network = calibrate(args.modeldir, images(), None if view.kind == "stretch" else (None, None))
    network["input_shape"] = [*size, 3]
    # how the model sees images and what counts as an instance stay as they are
    config |= {"network": network, "calibrated": vars(args), **utils.code_version()}
    utils.save_model(args.out, model, config)
    print(f"{len(paths) - len(bad)} images, calibrated model in {args.out}")
    if bad:
        print(f"export: {len(bad)} of {len(paths)} images could not be read and were skipped", file=sys.stderr)
        return 3
    return 0


@command("export")
def main(argv=None):
    args = parse_args(argv)
    if "images" in args:
        return run_calibration(args)
    difference = export(args.modeldir, args.out, args.format, args.size, args.overwrite)
    model = utils.model_folder(args.modeldir)
    print(f"{args.out}: within {difference:.1e} of the outputs of the Keras model in {model}")


if __name__ == "__main__":
    main()
