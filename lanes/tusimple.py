"""Lane curves as TuSimple's benchmark writes them: one JSON object per image, x at given rows."""

import numpy as np

from lanes.curves import IMAGE_SIZE, lane_x

ABSENT = -2  # TuSimple's x where a lane has no point
END_SLACK = 4.0  # rows: an end this close to a sample reaches it


def h_samples(height):
    """TuSimple's rows, 160, 170, ..., 710, for an image `height` pixels high instead of 720."""
    return list(range(height * 2 // 9 // 10 * 10, height, 10))


def lanes_to_tusimple(lanes, h_samples, image_size=IMAGE_SIZE):
    """x of lanes at given rows as TuSimple writes them.

    Args:
        lanes: list of `Lane`.
        h_samples: R image rows.
        image_size: (height, width) of the image in pixels.

    Returns:
        list of lists of R int: whole pixels, -2 where the lane is absent or outside the image.
    """
    rows = np.asarray(h_samples, float)
    result = []
    for lane in lanes:
        x = np.rint(lane_x(lane, rows))
        reached = (rows >= lane.top - END_SLACK) & (rows <= lane.bottom + END_SLACK)
        inside = (x >= 0) & (x <= image_size[1] - 1)
        result.append(np.where(reached & inside, x, ABSENT).astype(int).tolist())
    return result


def lane_scores(line, probability, image_size):
    """Mean lane probability at the points of each lane of a TuSimple line.

    Args:
        line: dict of `tusimple_line`.
        probability: (H, W) of an image of any size that shows the whole image, 0..1.
        image_size: (height, width) of the image that the line is of, in pixels.

    Returns:
        list of float, 0 for a lane without a point.
    """
    rows = ((np.array(line["h_samples"]) + 0.5) * len(probability) / image_size[0]).astype(int)
    scores = []
    for lane in line["lanes"]:
        x = np.array(lane)
        columns = ((x + 0.5) * probability.shape[1] / image_size[1]).astype(int)
        values = probability[rows[x >= 0], columns[x >= 0]]
        scores.append(float(values.mean()) if len(values) else 0.0)
    return scores


def tusimple_line(raw_file, lanes, h_samples, run_time, image_size=IMAGE_SIZE):
    """One line of a TuSimple submission as a dict, for `json.dumps`.

    Args:
        raw_file: name of the image, relative to the data set's folder.
        lanes: list of `Lane`.
        h_samples: image rows.
        run_time: milliseconds the prediction took.
        image_size: (height, width) of the image in pixels.
    """
    xs = lanes_to_tusimple(lanes, h_samples, image_size)
    return {"raw_file": raw_file, "lanes": xs, "h_samples": list(h_samples), "run_time": round(float(run_time), 3)}
