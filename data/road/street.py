"""Draws town streets: house fronts, sidewalks with curbs or snow banks, rows of parked cars, trees.

Their long straight edges run like lane lines and are none. Colors are RGB in 0..1, float32; lengths are meters.
"""

import numpy as np

from .objects import paint_bank, paint_lamp, paint_tree, paint_wall
from .scene import color, fill, fogged
from .vehicles import VEHICLES, paint_vehicle

FLOOR = 3.2  # m from floor to floor


def paint_house(rng, canvas, road, light, offset, side, near, far, height, rgb):
    """A house front along the street with rows of windows, and the wall that faces the camera."""
    tone = rgb * light["objects"]

    def area(offsets, heights, distances, rgb):
        fill(canvas, road.project(offsets, np.array(heights), np.array(distances)), fogged(rgb, near, light))

    area(offset + side * np.array([0, 0, 12, 12]), [0, height, height, 0], [near] * 4, tone * 0.75)
    area(offset, [0, height, height, 0], [near, near, far, far], tone)
    glass = color(rng, (0.05, 0.06, 0.08), (0.35, 0.4, 0.45)) * light["objects"]
    lamps = 0.25 if light.get("night") else 0.0  # fraction of the windows with light behind them
    width, low, high = rng.uniform(0.8, 1.6), 0.9, rng.uniform(2.0, 2.7)
    for floor in np.arange(0, height - FLOOR, FLOOR):
        for start in np.arange(near + 0.8, far - width, width + rng.uniform(0.7, 1.8)):
            heights = floor + np.array([low, high, high, low])
            distances = [start, start, start + width, start + width]
            area(offset, heights, distances, glass * rng.uniform(0.6, 1.4))
            if lamps and rng.random() < lamps:
                warm = 255 * rng.uniform(0.3, 0.9) * np.array([1, 0.85, 0.55])
                fill(canvas, road.project(offset, heights, np.array(distances)), tuple(int(v) for v in warm))


def street_side(rng, road, layout, light, side, green):
    """Random things on one side of a street (-1 left, 1 right), as (distance, painter, its arguments)."""
    number = 0 if side < 0 else 1
    edge = float(layout["offsets"][-number]) + side * layout["shoulders"][number]
    beyond = layout.get("far", [0, 0])[number]  # beyond the opposite carriageway
    things = []
    room = not beyond and ("marks" not in layout or layout["shoulders"][number] > 1.8)
    if rng.random() < (0.8 if room else 0):  # parked cars, their outer wheels at the curb
        gap, fraction, kinds = rng.uniform(5.6, 8), rng.uniform(0.4, 1), list(VEHICLES)
        for distance in np.arange(rng.uniform(1, 8), 110, gap):
            if rng.random() < fraction:
                kind = str(rng.choice(kinds, p=[0.42, 0.34, 0.1, 0.12, 0.02, 0]))
                offset = edge - side * rng.normal(1.0, 0.1)
                things.append((distance, paint_vehicle, (offset, distance, kind, rng.random() < 0.3)))
    if rng.random() < 0.35:
        snow = color(rng, (0.72, 0.73, 0.75), (0.97, 0.97, 0.98)) / max(light["objects"], 0.6)
        foot = edge + side * rng.uniform(-0.3, 0.3)
        rough = 0.07 if "marks" in layout else 0.2
        things.append((np.inf, paint_bank, (foot, side, rng.uniform(0.3, 1.3), snow, rough)))
    elif rng.random() < 0.8:
        curb, foot = color(rng, (0.35, 0.34, 0.33), (0.75, 0.74, 0.7)), rng.uniform(0.5, 1)
        for near in np.arange(road.distance[-1], 120, 6):
            things.append((near + 6, paint_wall, (edge, 0, rng.uniform(0.1, 0.18), near, near + 6, curb, foot)))
    if rng.random() < 0.75:
        front, near = edge + side * (beyond + rng.uniform(2.5, 9)), rng.uniform(-4, 15)
        while near < 160:
            far = near + rng.uniform(6, 28)
            rgb = color(rng, (0.3, 0.16, 0.12), (0.62, 0.45, 0.38)) if rng.random() < 0.4 else rng.uniform(0.25, 0.9, 3)
            rgb = 0.3 * rgb + 0.7 * rgb.mean()
            height = FLOOR * rng.integers(2, 7) + 0.6
            start = max(near, float(road.distance[-1]) + 0.1)
            if far > start + 1:
                things.append((far, paint_house, (front, side, start, far, height, rgb)))
            near = far + (rng.uniform(1, 12) if rng.random() < 0.4 else 0)
    if rng.random() < 0.6:
        for distance in np.arange(rng.uniform(4, 15), 120, rng.uniform(7, 20)):
            size = rng.uniform(5, 13)
            offset = edge + side * (beyond + rng.uniform(0.8, 1.6))
            things.append((distance, paint_tree, (offset, distance, size, green * rng.uniform(0.7, 1.3))))
    if rng.random() < 0.4:
        for distance in np.arange(rng.uniform(10, 40), 150, rng.uniform(25, 45)):
            things.append((distance, paint_lamp, (edge + side * (beyond + 0.8), distance)))
    return things
