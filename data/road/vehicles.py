"""Draws cars and trucks as a dash-cam sees them, and places them in the lanes of a road."""

import cv2
import numpy as np

from .geometry import LANE_WIDTH
from .light import glow
from .scene import color, darken, fill, fogged

CAR_COLORS = np.array(  # a third white and silver, a third gray, a quarter black
    [
        [0.85, 0.86, 0.86],
        [0.9, 0.9, 0.89],
        [0.78, 0.78, 0.76],
        [0.5, 0.51, 0.53],
        [0.28, 0.29, 0.3],
        [0.6, 0.62, 0.64],
        [0.35, 0.36, 0.38],
        [0.08, 0.08, 0.09],
        [0.12, 0.12, 0.13],
        [0.05, 0.05, 0.06],
        [0.33, 0.06, 0.06],
        [0.12, 0.18, 0.35],
        [0.5, 0.45, 0.35],
        [0.2, 0.24, 0.22],
    ]
)

# Rear views, right halves, as fractions of width (0 = middle) and height: body, cabin, window; then width, height and
# length in m; then where along the length the cabin begins and ends.
SEDAN = (
    [(0.46, 0.16), (0.5, 0.24), (0.5, 0.5), (0.47, 0.63)],
    [(0.46, 0.61), (0.38, 0.92), (0.3, 1)],
    [(0.4, 0.66), (0.33, 0.91)],
)
WAGON = (
    [(0.46, 0.16), (0.5, 0.22), (0.5, 0.5), (0.49, 0.6)],
    [(0.49, 0.58), (0.43, 0.94), (0.35, 1)],
    [(0.42, 0.62), (0.37, 0.9)],
)
PICKUP = [(0.48, 0.24), (0.5, 0.28), (0.5, 0.6)], [(0.47, 0.58), (0.42, 0.95), (0.36, 1)], [(0.4, 0.64), (0.36, 0.92)]
TRUCK = [(0.5, 0.28), (0.5, 1)], [(0.5, 0.3), (0.5, 1)], []
VEHICLES = {
    "sedan": (SEDAN, (1.8, 1.45, 4.6), (0.12, 0.75)),
    "suv": (WAGON, (1.9, 1.75, 4.7), (0.01, 0.75)),
    "van": (WAGON, (1.95, 1.95, 5.0), (0.01, 0.9)),
    "pickup": (PICKUP, (1.95, 1.85, 5.5), (0.35, 0.7)),
    "box": (TRUCK, (2.3, 3.1, 6.5), (0, 1)),
    "truck": (TRUCK, (2.5, 3.9, 14.0), (0, 1)),
}


def paint_vehicle(rng, canvas, road, light, offset, distance, kind, oncoming):
    """A car or truck from behind, with the side that the camera sees, wheels, lights and shadow."""
    (body, cabin, window), size, (cab_near, cab_far) = VEHICLES[kind]
    width, height, length = np.array(size) * rng.uniform(0.92, 1.08, 3)
    heavy = not window
    paint = color(rng, (0.35, 0.3, 0.25), (0.9, 0.9, 0.88)) if heavy else rng.choice(CAR_COLORS) * rng.uniform(0.8, 1.1)
    glass = color(rng, (0.04, 0.05, 0.06), (0.22, 0.25, 0.27))

    def at(points):
        a, z, d = np.array(points, float).T
        return road.project(offset + a * width, z * height, distance + d * length)

    def area(points, rgb):
        fill(canvas, at(points), fogged(np.asarray(rgb) * light["objects"], distance, light))

    def both(half, depth, rgb):
        area([(a, z, depth) for a, z in half] + [(-a, z, depth) for a, z in half[::-1]], rgb)

    def box(left, right, low, high, rgb):
        area([(left, low, 0), (left, high, 0), (right, high, 0), (right, low, 0)], rgb)

    soft = 0.08 * road.scale_at(distance)
    base = np.array([(a, 0, d) for a in (-0.5, 0.5) for d in (0, 1)])
    shift = np.array([light["sun_side"] * height / width, 0, -light["sun_ahead"] * height / length])
    hull = cv2.convexHull(np.float32(at(np.concatenate([base, base + shift]))))[:, 0]
    darken(canvas, hull, 0.9 * light["sun"], soft)
    darken(canvas, at([(-0.53, 0, -0.02), (0.53, 0, -0.02), (0.5, 0, 0.9), (-0.5, 0, 0.9)]), 0.75, 1.5 * soft)
    radius = (0.5 if heavy else 0.33) / height
    for middle in (-0.41, 0.41):
        box(middle - 0.07, middle + 0.07, 0, 1.5 * radius, (0.03, 0.03, 0.03))
    if abs(offset) > 0.35 * width:
        a, top, low, belt = -0.5 * np.sign(offset), -0.4 * np.sign(offset), body[0][1], 0.99 * body[-1][1]
        dim = paint * rng.uniform(0.5, 0.85)
        area([(a, low, 0), (a, belt, 0), (a, 0.92 * belt, 0.97), (a, low, 1)], dim)
        if not heavy:
            slope, split = rng.uniform(0.03, 0.1), rng.uniform(0.4, 0.55)
            pillar = [(a, belt, cab_near), (0.92 * top, 0.95, cab_near), (top, 0.97, cab_near + slope)]
            area([*pillar, (top, 0.97, cab_far - 0.14), (a, belt, cab_far)], dim)
            for near, far in ((cab_near + 0.07, split - 0.01), (split + 0.01, cab_far - 0.07)):
                upper = [(top, 0.91, near + slope / 2), (top, 0.91, min(far, cab_far - 0.17))]
                area([(a, belt, near), *upper, (a, belt, far)], glass)
        turn = np.linspace(0, 2 * np.pi, 14)
        for middle in (0.08, 0.17, 0.7, 0.92) if heavy else (0.18, 0.82):
            for fraction, rgb in ((1, (0.03, 0.03, 0.03)), (0.55, (0.35, 0.35, 0.36))):
                reach = fraction * radius * height / length
                area([(a, radius * (1 + fraction * np.sin(t)), middle + reach * np.cos(t)) for t in turn], rgb)
    if not heavy:
        roof = [(0.3, 1, cab_near), (0.4, 0.97, cab_near + 0.06), (0.4, 0.97, cab_far - 0.14)]
        area(roof + [(-a, z, d) for a, z, d in roof[::-1]], paint)
    both(cabin, cab_near, paint * 0.9)
    if heavy:
        both(body, 0, paint)
        for seam in (-0.47, -0.005, 0.46):
            box(seam, seam + 0.01, 0.3, 0.99, paint * 0.65)
        box(-0.46, 0.46, 0.16, 0.18, (0.25, 0.25, 0.25))
        lamps = (0.3, 0.33, 0.35, 0.47)
    else:
        both(window, cab_near, glass)
        both([(a, z) if z < 0.75 else (0.98 * a, 0.78) for a, z in window], cab_near, 0.6 * glass)
        if cab_near > 0.05:
            a, z = body[-1]
            area([(-a, z, 0), (-a, z, cab_near), (a, z, cab_near), (a, z, 0)], paint * 1.15)
        both(body, 0, paint)
        both([(0.49, 0.5), body[-1]], 0, np.minimum(paint * 1.12 + 0.02, 1))
        both(
            [body[0], body[1], (0.5, 0.32), (0.49, 0.34)], 0, paint * 0.8 if rng.random() < 0.6 else (0.09, 0.09, 0.09)
        )
        both([body[0], (0.44, 0.24)], 0, (0.05, 0.05, 0.05))
        high = body[-1][1] - 0.03
        lamps = (high - rng.uniform(0.08, 0.2), high, rng.uniform(0.26, 0.38), 0.49)
    lamp = (0.95, 0.93, 0.85) if oncoming else (0.9, 0.12, 0.1) if rng.random() < 0.25 else (0.45, 0.05, 0.05)
    low, high, inner, outer = lamps
    for sign in (-1, 1):
        area(
            [
                (sign * outer, low, 0),
                (sign * outer, high, 0),
                (sign * inner, high - 0.02, 0),
                (sign * (inner + 0.02), low, 0),
            ],
            lamp,
        )
    if light.get("lamps"):
        size = np.clip(0.16 * road.scale_at(distance), 1.2, 30) * (1.5 if oncoming else 0.7)
        lamp, strength = ((1, 0.95, 0.8), 1.0) if oncoming else ((1, 0.08, 0.05), rng.uniform(0.4, 1))
        for sign in (-1, 1):
            point = at([(sign * (inner + outer) / 2, (low + high) / 2, 0)])[0]
            glow(canvas, point, size, lamp, strength)
    if not oncoming:
        middle = rng.uniform(0.3, 0.46)
        box(-0.09, 0.09, middle, middle + 0.12 / height, (0.7, 0.71, 0.7))


def draw_lane_traffic(rng, offsets):
    """Random vehicles, as (distance, offset, kind, oncoming), in the lanes between lines at rising offsets (m)."""
    density, kinds, placed = rng.choice([0.0, 0.3, 0.6, 1.0], p=[0.1, 0.35, 0.35, 0.2]), list(VEHICLES), []
    for left, right in zip(offsets, offsets[1:], strict=False):
        if not 2.6 < right - left < 6:
            continue
        middle = (left + right) / 2
        distance = rng.uniform(12, 40) if abs(middle) < LANE_WIDTH / 2 else rng.uniform(0.5, 40)
        while distance < 160:
            if rng.random() < density:
                kind = str(rng.choice(kinds, p=[0.4, 0.26, 0.08, 0.14, 0.05, 0.07]))
                placed.append((distance, middle + rng.normal(0, 0.25), kind, False))
            distance += VEHICLES["truck"][1][2] + rng.uniform(6, 60)
    return placed


def draw_traffic(rng, layout):
    """Vehicles of `draw_lane_traffic` and, in half of the scenes, others on the opposite carriageway."""
    placed, kinds = draw_lane_traffic(rng, layout["offsets"]), list(VEHICLES)
    if layout.get("center") is not None:
        placed = [(distance, offset, kind, offset < layout["center"]) for distance, offset, kind, _ in placed]
    opposite = layout.get("opposite")
    if opposite:
        for distance in rng.uniform(15, 250, rng.integers(0, 14)):
            kind = str(rng.choice(kinds, p=[0.45, 0.27, 0.1, 0.1, 0.04, 0.04]))
            placed.append((distance, rng.choice(opposite["lines"][1:]) + LANE_WIDTH / 2, kind, True))
    elif layout.get("center") is None and rng.random() < 0.5:
        beyond = layout["offsets"][0] - layout["shoulders"][0] - rng.uniform(4, 12)
        for distance in rng.uniform(25, 250, rng.integers(0, 12)):
            kind = str(rng.choice(kinds, p=[0.45, 0.27, 0.1, 0.1, 0.04, 0.04]))
            placed.append((distance, beyond - LANE_WIDTH * rng.integers(0, 3), kind, True))
    return placed
