"""CULane's lanes: the files (`*.lines.txt`, the lanes of one image, and lists of images) and the benchmark's rules.

    culane_score(count_files(list_files("predictions", "culane", "list/test.txt")))

TP, FP and FN are those of tools/lane_evaluation in github.com/XingangPan/SCNN: a lane is a spline through its points,
drawn 30 pixels wide on 1640x590, and found if its IoU with the predicted one that it is matched to is above 0.5. The
matching is one to one and has the largest sum of IoU. A lane of one point or none, as of an empty line, counts as a
lane and is never found. Where the tool takes a file that is missing for one without lanes, it is an error here.
"""

import posixpath
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from joblib import cpu_count
from scipy.interpolate import CubicSpline
from scipy.optimize import linear_sum_assignment
from tqdm import tqdm

from data.files import find_file, read_text, select_files, walk_files
from run.command import UserError

SUFFIX = ".lines.txt"
# a name may hold blanks; what follows it on a line does so after its suffix
NAME = re.compile(r"(.*?\.(?:jpe?g|png|bmp|webp|tiff?|txt))(?:\s|$)", re.IGNORECASE)
SIZE = (590, 1640)  # (h, w) of the benchmark's images
WIDTH = 30  # pixels
STEPS = 50  # points per piece of the spline
IOU_THRESHOLD = 0.5  # of IoU; a lane is found above it
METRICS = ("F1", "Precision", "Recall", "TP", "FP", "FN")


def lines_path(image):
    """Path of the lanes of an image: beside it, its suffix replaced; a path of lanes stays."""
    return Path(image) if str(image).endswith(SUFFIX) else Path(image).with_suffix(SUFFIX)


def read_lines(path):
    """Read the lanes of one image, a line "x y x y ..." in pixels each: list of (N, 2) float64.

    An empty line is a lane of no point, as in CULane's own tool. Raises UserError: the file can't be read, a line with
    an odd number of words or with one that is no finite number.
    """
    lanes = []
    for number, line in enumerate(read_text(path, "CULane's lanes").splitlines(), start=1):
        words = line.split()
        try:
            values = np.array([float(word) for word in words])
        except ValueError:
            values = np.array([np.nan])
        if len(values) % 2 or not (np.abs(values) < 1e6).all():
            raise UserError(f"{path}:{number}: found something else, expected x y x y ... in pixels; fix the line")
        lanes.append(values.reshape(-1, 2))
    return lanes


def format_lines(lanes):
    """Text of a `*.lines.txt` of lanes, each (N, 2) x and y."""
    return "".join(" ".join(f"{x:g} {y:g}" for x, y in lane) + " \n" for lane in lanes)


def read_list(path):
    """Names of the images of a list, relative to CULane's folder; of lines with more words the first one.

    Raises:
        UserError: the file can't be read, names none, one twice (however written) or one outside the folder.
    """
    lines = [line.strip() for line in read_text(path, "CULane's image names").splitlines() if line.strip()]
    matches = [(NAME.match(line), line) for line in lines]
    names = [match.group(1) if match else line.split()[0] for match, line in matches]
    names = [posixpath.normpath(name.replace("\\", "/").lstrip("/")) for name in names]
    for name in names:
        if name in (".", "..") or name.startswith("../"):
            raise UserError(f"{path}: found {name}, expected names within the folder of the images; fix the list")
    if not names:
        raise UserError(f"{path}: found no line, expected one image name per line; name another list")
    known = {}
    for number, name in enumerate(names):
        other, first = known.setdefault(lines_path(name), (name, number))
        if first != number:
            again = "again" if name == other else f"and {other}, whose lanes are one file"
            raise UserError(f"{path}: found {name} {again}, expected each image once; remove one")
    return names


def interpolate(points):
    """Natural cubic spline through (N, 2) x and y, N >= 1, as CULane's tool draws it: (M, 2) float64.

    Repeated points, which the tool divides by zero at, are passed over; of two others it is the straight line. Of more
    there are `STEPS` points per piece and the last point; the parameter is the length of the polygon through them.
    """
    points = _without_repeats(np.asarray(points, float))
    if len(points) < 3:
        return points
    lengths = np.append(0, np.cumsum(np.hypot(*np.diff(points, axis=0).T)))
    fractions = np.arange((len(points) - 1) * STEPS + 1) / STEPS  # 1.5 is in the middle of the second piece
    places = np.interp(fractions, np.arange(len(points)), lengths)
    return CubicSpline(lengths, points, bc_type="natural")(places)


def draw_lane(points, size=SIZE, width=WIDTH):
    """Draw a lane as (h, w) uint8, 1 where it is; one of fewer than two points is nowhere."""
    mask = np.zeros(size, np.uint8)
    if len(points) > 1:
        # equal pixels in a row would be drawn again and again; the last one again, for a lane in one pixel
        curve = _without_repeats(np.rint(interpolate(points)).astype(np.int32))
        cv2.polylines(mask, [np.concatenate([curve, curve[-1:]])], isClosed=False, color=1, thickness=width)
    return mask


def _without_repeats(points):
    return points[np.append(True, (np.diff(points, axis=0) != 0).any(axis=1))]


def lane_iou(predicted, labeled, size=SIZE, width=WIDTH):
    """Intersection over union of all pairs of P and G drawn lanes, (N, 2) x and y each: (P, G), 0 where there is none.

    They are drawn on `size` (h, w), `width` pixels wide.
    """
    one, other = ([draw_lane(points, size, width) for points in lanes] for lanes in (predicted, labeled))
    areas, other_areas = ([cv2.countNonZero(mask) for mask in masks] for masks in (one, other))
    iou = np.zeros((len(one), len(other)))
    for i, mask in enumerate(one):
        for j, other_mask in enumerate(other):
            common = cv2.countNonZero(cv2.bitwise_and(mask, other_mask))
            iou[i, j] = common / max(areas[i] + other_areas[j] - common, 1)
    return iou


def count_matches(iou):
    """TP, FP and FN of one image, (3,) int64, from the IoU of predicted and labeled lanes, (P, G)."""
    pairs = linear_sum_assignment(iou, maximize=True)
    matched = np.count_nonzero(iou[pairs] > IOU_THRESHOLD)
    return np.array([matched, iou.shape[0] - matched, iou.shape[1] - matched])


def list_files(prediction_dir, truth_dir, list_file=None):
    """Files of the images to score: list of (name as in the list, path of the predicted lanes, of the labeled lanes).

    Args:
        prediction_dir, truth_dir: folders with `*.lines.txt`, in the same subfolders.
        list_file: of the images, in `truth_dir` or by itself; None: all that `truth_dir` has lanes of.

    Raises:
        UserError: no image, or, without a list, a prediction of another one.
    """
    folders = Path(prediction_dir), Path(truth_dir)
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder, expected CULane's *{SUFFIX} in it; name another one")
    if list_file:
        names = read_list(find_file(folders[1], list_file))
    else:
        predicted, names = (
            [path.relative_to(folder).as_posix() for path in select_files(walk_files(folder), (".txt",))]
            for folder in folders
        )
        predicted, names = ([name for name in some if name.endswith(SUFFIX)] for some in (predicted, names))
        if not names:
            raise UserError(f"{folders[1]}: found no *{SUFFIX}, expected CULane's labels; name another folder")
        if unknown := sorted(set(predicted) - set(names)):
            raise UserError(f"{folders[0] / unknown[0]}: found no such file in {folders[1]}, expected one; see --list")
    return [(name, *(folder / lines_path(name) for folder in folders)) for name in names]


def count_files(files):
    """TP, FP and FN of the images of `list_files`: (N, 3) int64; UserError for a file that can't be used."""
    predicted, labeled = zip(*(map(read_lines, paths) for _, *paths in files), strict=True)
    return count_lanes(predicted, labeled)


def count_lanes(predicted, labeled):
    """TP, FP and FN of N images, each a list of lanes, (points, 2) x and y: (N, 3) int64; shows its progress."""
    with ThreadPoolExecutor(cpu_count()) as pool:
        tasks = pool.map(lambda lanes, others: count_matches(lane_iou(lanes, others)), predicted, labeled)
        return np.array(list(tqdm(tasks, total=len(labeled), unit="image", dynamic_ncols=True)))


def culane_score(counts):
    """Scores {"F1", "Precision", "Recall", "TP", "FP", "FN"} of (N, 3) TP, FP and FN, added up over the images.

    A fraction of nothing is 0, but where there is neither a predicted nor a labeled lane all three are 1.
    """
    tp, fp, fn = (int(value) for value in np.sum(counts, axis=0))
    if not tp + fp + fn:
        return dict(zip(METRICS, (1.0, 1.0, 1.0, 0, 0, 0), strict=True))
    precision, recall = tp / max(tp + fp, 1), tp / max(tp + fn, 1)
    return dict(zip(METRICS, (2 * tp / (2 * tp + fp + fn), precision, recall, tp, fp, fn), strict=True))
