"""A model on labeled images: TuSimple lines that it finds, and the images with prediction and label drawn over them."""

import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

from clustering import instance_classes
from data.files import fit_name
from datagenerator import ClassMap, prepare_label, read_image, read_pair
from evaluation.classes import ClassScore, true_classes
from lanes.culane import SIZE
from lanes.curves import fit_lanes
from lanes.tusimple import h_samples, tusimple_line, worst_first
from pipeline.classes import find_classes
from pipeline.outputs import output_folder
from pipeline.segmentation import segment, segment_outputs
from visualization import draw_lanes, label_image, save_image

ORANGE, BLUE = (255, 120, 0), (0, 160, 255)


def predict_lanes(network, srcdir, labels, settings):
    """Run a model on the images of TuSimple labels.

    Args:
        network: `pipeline.segmentation.Network`.
        srcdir: folder that the labels' raw_file is relative to.
        labels: TuSimple dicts.
        settings: `pipeline.segmentation.Settings`.

    Returns:
        TuSimple dicts; run_time is that from the decoded image to the lanes, in ms.

    Raises:
        UserError: an image that is missing or can't be decoded.
    """
    result = []
    for label in tqdm(labels, unit="image", dynamic_ncols=True):
        image = read_image(Path(srcdir) / label["raw_file"])
        if not result:
            segment(network, image, settings)  # tracing is no part of the times
        size, start = image.shape[:2], time.perf_counter()
        lanes = fit_lanes(segment(network, image, settings), size)
        run_time = 1000 * (time.perf_counter() - start)
        result.append(tusimple_line(label["raw_file"], lanes, label["h_samples"], run_time, size))
    return result


def predict_culane(network, srcdir, names, settings):
    """Run a model on images of CULane, 1640x590.

    Args:
        network, srcdir, settings: see `predict_lanes`.
        names: of the images, relative to srcdir.

    Returns:
        for each image a list of lanes, each (N, 2) int x and y, a point every 10 rows, N >= 1.

    Raises:
        UserError: an image that is missing or can't be decoded.
    """
    rows = h_samples(SIZE[0])
    lines = predict_lanes(network, srcdir, [{"raw_file": name, "h_samples": rows} for name in names], settings)
    lanes = [[[(x, y) for x, y in zip(xs, rows, strict=True) if x >= 0] for xs in line["lanes"]] for line in lines]
    return [[np.array(points) for points in image_lanes if points] for image_lanes in lanes]


def predict_instances(network, pairs, ignore, settings):
    """Run a model on image and label pairs.

    Args:
        network, settings: see `predict_lanes`.
        pairs: list of (image path, label path).
        ignore: id of the pixels that don't count, or None.

    Yields:
        (found, true) label maps of the size of the image, (h, w) uint8 or uint16; shows its progress.

    Raises:
        UserError: an image or a label that can't be used.
    """
    for pair in tqdm(pairs, unit="image", dynamic_ncols=True):
        image, truth = read_pair(pair, ignore)
        label_map = segment(network, image, settings)
        yield label_image(label_map, image.shape), truth


def score_classes(network, samples, table, ignore, settings):
    """Run a model with classes on a data folder's images.

    Args:
        network, settings: see `predict_lanes`.
        samples: of `data.files.find_samples`, with class maps; where there are labels, instances are scored too.
        table: of `data.files.class_table`.
        ignore: id of labels that is no instance, or None.

    Returns:
        dict of `ClassScore.result`.

    Raises:
        UserError: a file that can't be used.
    """
    score, stuff = ClassScore(network.classes), list(network.classes.values())
    for image_path, label_path, class_path in tqdm(samples, unit="image", dynamic_ncols=True):
        image, truth = read_pair((image_path, label_path, ClassMap(class_path, table)), ignore)
        label, classes = np.moveaxis(truth, -1, 0)
        if label_path and not all(stuff):
            outputs, label_map = segment_outputs(network, image, settings)
            predicted_classes, _ = instance_classes(outputs["classes"], label_map, stuff)
            classes_of = true_classes(label, classes)
            classes_of.pop(ignore, None)
            ids = np.unique(np.append(0, label))
            small = np.searchsorted(ids, prepare_label(label, label_map.shape))
            of_true, _ = instance_classes(outputs["classes"], small, stuff)
            of_true = {int(ids[number]): int(value) for number, value in enumerate(of_true, start=1) if value}
            score.add_instances(label_image(label_map, image.shape), predicted_classes, label, classes_of, of_true)
        elif network.needs_tiles(image.shape):
            outputs, _ = segment_outputs(network, image, settings)
        else:
            outputs = network.predict(image)
        score.add_map(find_classes(network, outputs, image.shape, settings.threshold), classes)
    return score.result()


def write_images(folder, srcdir, predictions, ground_truth, scores):
    """Draw labels (blue, wide) and predictions (orange, narrow) over the images: RANK_ACCURACY_NAME.jpg, worst first.

    Args:
        folder: to write to; made if absent. If an image can't be drawn, none is left in it.
        srcdir: folder that raw_file is relative to.
        predictions: TuSimple dicts.
        ground_truth: TuSimple dicts of the same images.
        scores: (N, 3) of `tusimple.score_images`.
    """
    truth, written = {entry["raw_file"]: entry for entry in ground_truth}, []
    with output_folder(folder, "--images"):
        try:
            for rank, index in enumerate(tqdm(worst_first(scores), unit="overlay", dynamic_ncols=True)):
                name = predictions[index]["raw_file"]
                rows = truth[name]["h_samples"]
                image = draw_lanes(read_image(Path(srcdir) / name), truth[name]["lanes"], rows, BLUE, 9)
                predicted_rows = predictions[index].get("h_samples", rows)
                image = draw_lanes(image, predictions[index]["lanes"], predicted_rows, ORANGE, 3)
                flat = Path(name).with_suffix("").as_posix().replace("/", "-")
                name = fit_name(f"{rank:04d}_{scores[index, 0]:.3f}_{flat}", folder)
                written.append(Path(folder, f"{name}.jpg"))
                save_image(written[-1], image)
        except BaseException:  # all of them or none
            for path in written:
                path.unlink(missing_ok=True)
            raise
