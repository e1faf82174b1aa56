"""The rules of the CULane benchmark.

    culane_score(count_files(list_files("predictions", "culane", "list/test.txt")))

TP, FP and FN are those of tools/lane_evaluation in github.com/XingangPan/SCNN, with lanes 30 pixels wide on 1640x590: a
lane is found if its IoU with the predicted one that it is matched to is above 0.5. The matching is one to one and has
the largest sum of IoU. A lane of one point counts as a lane and is never found. Where the tool takes a file that is
missing for one without lanes, it is an error here, and empty lines are passed over.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from joblib import cpu_count
from scipy.optimize import linear_sum_assignment
from tqdm import tqdm

from data.culane_lines import SUFFIX, LinesError, lines_path, read_lines, read_list
from data.files import select_files, walk_files
from data.tusimple_dataset_processing import find_file
from lanes.culane import lane_iou

THRESHOLD = 0.5  # of IoU; a lane is found above it
NAMES = ("F1", "Precision", "Recall", "TP", "FP", "FN")


def count_matches(iou, threshold=THRESHOLD):
    """TP, FP and FN of one image: (3,) int64.

    Args:
        iou: (P, G) of predicted and labeled lanes.
        threshold: a match counts above it.
    """
    pairs = linear_sum_assignment(iou, maximize=True)
    found = np.count_nonzero(iou[pairs] > threshold)
    return np.array([found, iou.shape[0] - found, iou.shape[1] - found])


def list_files(prediction_dir, truth_dir, list_file=None):
    """Files of the images to score.

    Args:
        prediction_dir, truth_dir: folders with `*.lines.txt`, in the same subfolders.
        list_file: of the images, in `truth_dir` or by itself; None: all that `truth_dir` has lanes of.

    Returns:
        list of (name as in the list, path of the predicted lanes, path of the labeled lanes).

    Raises:
        LinesError: no image, or, without a list, a prediction of another one.
    """
    folders = Path(prediction_dir), Path(truth_dir)
    for folder in folders:
        if not folder.is_dir():
            raise LinesError(f"{folder}: no such folder, expected CULane's *{SUFFIX} in it; name another one")
    if list_file:
        path = find_file(folders[1], list_file)
        names = read_list(path)
    else:
        found, names = (
            [path.relative_to(folder).as_posix() for path in select_files(walk_files(folder), (".txt",), folder, False)]
            for folder in folders
        )
        found, names = ([name for name in some if name.endswith(SUFFIX)] for some in (found, names))
        if not names:
            raise LinesError(f"{folders[1]}: found no *{SUFFIX}, expected CULane's labels; name another folder")
        if more := sorted(set(found) - set(names)):
            raise LinesError(f"{folders[0] / more[0]}: found no such file in {folders[1]}, expected one; see --list")
    return [(name, *(folder / lines_path(name) for folder in folders)) for name in names]


def count_files(files):
    """TP, FP and FN of the images of `list_files`: (N, 3) int64; LinesError for a file that can't be used."""
    predicted, labeled = zip(*(map(read_lines, paths) for _, *paths in files), strict=True)
    return count_lanes(predicted, labeled)


def count_lanes(predicted, labeled):
    """TP, FP and FN of N images, each a list of lanes, (points, 2) x and y: (N, 3) int64; shows its progress."""
    with ThreadPoolExecutor(cpu_count()) as pool:
        tasks = pool.map(lambda lanes, others: count_matches(lane_iou(lanes, others)), predicted, labeled)
        return np.array(list(tqdm(tasks, total=len(labeled), unit="image", dynamic_ncols=True)))


def culane_score(counts):
    """Scores of (N, 3) TP, FP and FN, added up over the images.

    Returns:
        {"F1", "Precision", "Recall", "TP", "FP", "FN"}; a fraction of nothing is 0, but F1 where there is neither a
        predicted nor a labeled lane is 1, as are the two others.
    """
    tp, fp, fn = (int(value) for value in np.sum(counts, axis=0))
    if not tp + fp + fn:
        return dict(zip(NAMES, (1.0, 1.0, 1.0, 0, 0, 0), strict=True))
    precision, recall = tp / max(tp + fp, 1), tp / max(tp + fn, 1)
    return dict(zip(NAMES, (2 * tp / (2 * tp + fp + fn), precision, recall, tp, fp, fn), strict=True))
