"""What stands on the road and beside it: reflective dots, walls, banks, trees, bridges, signs, lamps, houses.

Everything is placed in meters (lateral offset, height, distance), projected by the scene's road and drawn from far to
near; the vehicles among it are in `vehicles.py`. Colors are RGB in 0..1, `rng` is a numpy Generator.
"""

from typing import NamedTuple

import cv2
import numpy as np

from .canvas import NOISE_SIDE, Thing, draw_glow, fill, noise_tile, random_color
from .geometry import HEIGHT, WIDTH
from .vehicles import VEHICLES, draw_vehicle, random_traffic
from .weather import draw_streaks

FLOOR = 3.2  # m from floor to floor


def draw_dots(rng, scene):
    """Reflective dots of the lane lines, each with the dark rim that its height makes."""
    canvas, road = scene.canvas, scene.road
    for position, style in zip(scene.layout["positions"], scene.layout["styles"], strict=True):
        gap, sparse = rng.uniform(0.9, 1.3), rng.random() < 0.6
        along = {
            "dots": np.arange(4) * gap,
            "dots_dashed": np.linspace(0, style["dash"], 4),
            "dashed": [0.5 * (style["period"] + style["dash"])] if sparse else [],
        }.get(style["kind"], [])
        radius, white = rng.uniform(0.045, 0.065), 255 * style["color"] * rng.uniform(0.85, 1.1)
        spots = np.add.outer(np.arange(-1, 14) * style["period"] - style["phase"], along).ravel()
        for spot in spots[(spots > road.distance[HEIGHT - 1]) & (spots < 140)]:
            row = float(road.row_at(spot))
            x, scale = np.interp(row, np.arange(len(position)), position), road.scale[int(row)]
            if rng.random() < 0.3 * style["wear"] or not (1 <= x < WIDTH - 1 and row < HEIGHT - 1):
                continue
            length = 0.5 * float(road.row_at(spot - radius) - road.row_at(spot + radius)) + 0.007 * scale
            axes = (int(16 * max(radius * scale, 0.7)), int(16 * max(length, 0.45)))
            if scale > 60:
                rim = (canvas[int(row), int(x)] * 0.45).astype(int).tolist()
                below = (int(16 * x), int(16 * row + axes[1] / 2))
                cv2.ellipse(canvas, below, axes, 0, 0, 360, rim, -1, cv2.LINE_AA, 4)
            tone = np.clip(white * scene.shade[int(row) - road.top, int(x)], 0, 255).astype(int).tolist()
            cv2.ellipse(canvas, (int(16 * x), int(16 * row)), axes, 0, 0, 360, tone, -1, cv2.LINE_AA, 4)


def draw_foliage(rng, scene, base, width, height, rgb, distance):
    """A mass of leaves `width` x `height` px over its base point: noise cut off by an ellipse, lit from above."""
    left, upper = int(base[0] - width / 2), int(base[1] - height)
    cols, rows = max(2, int(width)), max(2, int(height))
    x0, x1, y0, y1 = max(left, 0), min(left + cols, WIDTH), max(upper, 0), min(upper + rows, HEIGHT)
    if x1 <= x0 or y1 <= y0:
        return
    x, y = np.arange(x0, x1), np.arange(y0, y1)[:, None]
    shift, detail = rng.integers(0, NOISE_SIDE, 2), 160 / max(cols, rows)
    down, right = ((y - upper) * detail + shift[0]).astype(int), ((x - left) * detail + shift[1]).astype(int)
    coarse = noise_tile(1.1)[down % NOISE_SIDE, right % NOISE_SIDE]
    fine = noise_tile(0.6)[(y + shift[1]) % NOISE_SIDE, (x + shift[0]) % NOISE_SIDE]
    up, aside = (upper + rows / 2 - y) / (rows / 2), (x - left - cols / 2) / (cols / 2)
    inside = 0.62 - aside**2 - up**2 + 0.3 * coarse * (1 - up**4) * (1 - aside**4)  # nothing at the box's border
    alpha = np.clip(inside * 0.12 * min(cols, rows) + 0.5, 0, 1)[..., None]
    light = np.clip(1 + 0.25 * coarse + 0.3 * fine + 0.35 * up, 0.15, 2)[..., None]
    region = scene.canvas[y0:y1, x0:x1]
    region[:] = region * (1 - alpha) + alpha * np.clip(light * np.array(scene.tone(rgb, distance)), 0, 255)


def draw_tree(rng, scene, offset, distance, size, rgb):
    """A bush, or a tree of a trunk and one to three masses of leaves, `size` m high."""
    x, y = scene.road.project(offset, 0, distance)
    tall = size * scene.road.scale_at(distance)
    rgb = rgb * (0.3 + 0.7 * scene.light["objects"])
    if size < 4:
        draw_foliage(rng, scene, (x, y + 0.15 * tall), tall * rng.uniform(1, 2.5), 1.2 * tall, rgb, distance)
        return
    trunk = np.array([(x, y), (x + rng.normal(0, 0.03) * tall, y - 0.6 * tall)])
    scene.stroke(trunk, np.array([0.12, 0.1, 0.08]) * scene.light["objects"], distance, 0.03 * tall)
    for _ in range(rng.integers(1, 4)):
        fraction = rng.uniform(0.5, 0.9)
        base_y = y - rng.uniform(0.1, 1.1 - fraction) * tall
        base = (x + rng.normal(0, 0.15) * tall, base_y)
        draw_foliage(rng, scene, base, tall * rng.uniform(0.5, 1.1), fraction * tall, rgb, distance)


def draw_bank(rng, scene, foot, side, height, rgb, rough=0.2):
    """A slope rising from lateral position `foot` outward, `height` m high in the mean, its light and dark `rough`."""
    canvas, road = scene.canvas, scene.road
    steps = np.geomspace(road.distance[-1], 250, 120)
    swell = 1 + 0.25 * np.sin(steps / rng.uniform(20, 80) + rng.uniform(0, 6)) + 0.02 * rng.standard_normal(120)
    lower = road.project(foot, 0, steps)
    upper = road.project(foot + side * 1.5 * height, height * swell, steps)
    mask = np.zeros(canvas.shape[:2], np.uint8)
    fill(mask, np.concatenate([lower, upper[::-1]]), 255)
    box = cv2.boundingRect(mask)
    if not box[2]:
        return
    region = np.s_[box[1] : box[1] + box[3], box[0] : box[0] + box[2]]
    shift = rng.integers(0, NOISE_SIDE, 2)
    coarse, fine = (np.tile(np.roll(noise_tile(exponent), shift, (0, 1)), (1, 2))[region] for exponent in (1.1, 0.5))
    light = np.clip(1 + rough * coarse + rough * fine, 0.2, 2)[..., None]
    tone = light * np.array(scene.tone(rgb * scene.light["objects"], 60))
    alpha = mask[region][..., None] / np.float32(255)
    canvas[region] = canvas[region] * (1 - alpha) + alpha * np.clip(tone, 0, 255)


class Wall(NamedTuple):
    """A barrier, a sound wall or a curb, or, where `low` is above the ground, a guard rail."""

    offset: float  # m
    low: float  # m
    high: float  # m
    rgb: np.ndarray
    foot: float  # brightness of the lowest part, where dirt and water leave a line


def draw_wall(rng, scene, wall, near, far):
    """One panel of a Wall between two distances; a guard rail's has a post."""
    road, (offset, low, high, rgb, foot) = scene.road, wall
    steps = np.linspace(near, far, 5)
    tone = rgb * scene.light["objects"] * rng.uniform(0.93, 1.05)
    lower, ridge, upper = (road.project(offset, z, steps) for z in (low, low + 0.9 * (high - low), high))
    if low > 0:
        post = road.project(offset, np.array([0, high]), near)
        scene.stroke(post, tone * 0.6, near, 0.15 * (post[0, 1] - post[1, 1]))
    scene.fill(np.concatenate([lower, upper[::-1]]), tone, near)
    scene.fill(np.concatenate([ridge, upper[::-1]]), tone * 1.25, near)
    if low == 0:
        stain = road.project(offset, 0.12 * high, steps)
        scene.fill(np.concatenate([lower, stain[::-1]]), tone * foot, near)


def draw_bridge(rng, scene, bridge):
    """An overpass with its railing, dark underside and pillars."""
    road, layout, distance = scene.road, scene.layout, bridge["distance"]
    clearance, deck, tilt = rng.uniform(4.9, 6.5), rng.uniform(1.2, 2.2), rng.uniform(-0.03, 0.03)
    side = np.array([-120.0, 120.0])
    rgb = random_color(rng, (0.3, 0.3, 0.29), (0.6, 0.58, 0.54)) * scene.light["objects"]

    def beam(low, high, rgb, ahead=0.0):
        near = road.project(side[::-1], high + tilt * side[::-1], distance)
        far = road.project(side, low + tilt * side, distance + ahead)
        scene.fill(np.concatenate([far, near]), rgb, distance)

    beam(clearance, clearance, rgb * 0.25, min(bridge["deep"], 20.0))
    edges = layout["offsets"][0] - layout["shoulders"][0] - 1, layout["offsets"][-1] + layout["shoulders"][1] + 2
    for u in edges:
        corners = road.project(u + np.array([0, 1.2, 1.2, 0]), clearance * np.array([0, 0, 1, 1]), distance + 2)
        scene.fill(corners, rgb * 0.5, distance)
    beam(clearance, clearance + deck, rgb * rng.uniform(0.5, 1))
    beam(clearance + deck, clearance + deck + 0.9, rgb * rng.uniform(0.7, 1.2))


def draw_sign(rng, scene, offset, distance):
    """A road sign on one post, or a green one on a gantry over the lanes."""
    road, light = scene.road, scene.light["objects"]
    gantry = rng.random() < 0.5 and distance > 40
    low, middle, board = 2, offset, 0
    if gantry:
        low, high, half = 5.6, rng.uniform(7.5, 9), rng.uniform(1.5, 4)
        middle = offset * rng.uniform(0, 0.8)
    else:
        high, half = rng.uniform(2.7, 4), rng.uniform(0.3, 1.3)
        board = rng.integers(4)
    rgb = [(0.03, 0.25, 0.15), (0.85, 0.85, 0.85), (0.8, 0.6, 0.05), (0.05, 0.15, 0.4)][board]
    ink = np.full(3, 0.8 if sum(rgb) < 1 else 0.1) * light
    width = 0.12 * road.scale_at(distance)
    frame = road.project(np.array([offset, offset, middle]), np.array([0, low + 0.5, low + 0.5]), distance)
    scene.stroke(frame, np.array([0.35, 0.36, 0.37]) * light, distance, width)
    corners = road.project(middle + half * np.array([-1, 1, 1, -1]), np.array([low, low, high, high]), distance)
    scene.fill(corners, np.array(rgb) * light, distance)
    for z in np.linspace(low, high, 5)[1:-1]:
        ends = middle + np.array([-0.75, rng.uniform(0, 0.8)]) * half
        scene.stroke(road.project(ends, z, distance), ink, distance, width)


def draw_lamp(rng, scene, offset, distance):
    """A lamp post that leans its arm over the road."""
    tall, arm = rng.uniform(9, 13), rng.uniform(1.5, 4) * -np.sign(offset)
    reach, height = offset + arm * np.array([0, 0, 0.5, 1]), tall + np.array([-tall, 0, 0.5, 0.6])
    points, scale = scene.road.project(reach, height, distance), scene.road.scale_at(distance)
    scene.stroke(points, np.array([0.3, 0.31, 0.32]) * scene.light["objects"], distance, 0.14 * scale)
    night = scene.light["night"]
    if night and night["lit"]:
        draw_glow(scene.canvas, points[-1], np.clip(0.3 * scale, 1.5, 25), night["lamp"])


def draw_post(rng, scene, offset, distance, height, rgb):
    """A post or pole: of a delineator, of wires, of a fence."""
    points = scene.road.project(offset, height * np.array([0, 0.8, 1]), distance)
    width = max(0.12, 0.03 * height) * scene.road.scale_at(distance)
    scene.stroke(points[:2], rgb * scene.light["objects"], distance, width)
    scene.stroke(points[1:], rgb * scene.light["objects"] * 0.5, distance, width)


def draw_house(rng, scene, offset, side, near, far, height, rgb):
    """A house front along the street with rows of windows, and the wall that faces the camera."""
    light = scene.light
    tone = rgb * light["objects"]

    def project(offsets, heights, distances):
        return scene.road.project(offsets, np.array(heights), np.array(distances))

    end = project(offset + side * np.array([0, 0, 12, 12]), [0, height, height, 0], [near] * 4)
    scene.fill(end, tone * 0.75, near)
    scene.fill(project(offset, [0, height, height, 0], [near, near, far, far]), tone, near)
    glass = random_color(rng, (0.05, 0.06, 0.08), (0.35, 0.4, 0.45)) * light["objects"]
    width, low, high = rng.uniform(0.8, 1.6), 0.9, rng.uniform(2.0, 2.7)
    for floor in np.arange(0, height - FLOOR, FLOOR):
        for start in np.arange(near + 0.8, far - width, width + rng.uniform(0.7, 1.8)):
            heights = floor + np.array([low, high, high, low])
            window = project(offset, heights, [start, start, start + width, start + width])
            scene.fill(window, glass * rng.uniform(0.6, 1.4), near)
            if light["night"] and rng.random() < 0.25:  # light behind it
                warm = 255 * rng.uniform(0.3, 0.9) * np.array([1, 0.85, 0.55])
                fill(scene.canvas, window, tuple(int(v) for v in warm))


def random_roadside(rng, scene, side, green):
    """Random Things beside the road on one side (-1 left, 1 right)."""
    road, layout, night = scene.road, scene.layout, scene.light["night"]
    number = 0 if side < 0 else 1
    edge = float(layout["offsets"][-number]) + side * (layout["shoulders"][number] + 0.3)
    far = layout["far"][number]  # beyond the opposite carriageway
    things = []
    if rng.random() < 0.85:
        size, gap = rng.choice([rng.uniform(0.5, 2.5), rng.uniform(4, 18)]), rng.uniform(1, 14)
        for distance in rng.uniform(10, 330, rng.integers(3, 50)):
            offset = edge + side * (far + gap + rng.exponential(8) + 0.4 * size)
            tree = (offset, distance, size * rng.uniform(0.5, 1.4), green * rng.uniform(0.7, 1.3))
            things.append(Thing(distance, draw_tree, tree))
    high = layout["walls"][number]
    if high or rng.random() < 0.4:
        low, high = (0, high) if high else (0.45, 0.75)
        rgb, panel = random_color(rng, (0.35, 0.34, 0.32), (0.72, 0.66, 0.56)), rng.uniform(3, 7)
        wall = Wall(edge, low, high, rgb, rng.uniform(0.4, 1.3))
        last = min(rng.uniform(60, 300), road.distance[road.top] - panel)
        things += [Thing(d, draw_wall, (wall, d, d + panel)) for d in np.arange(road.distance[-1], last, panel)]
    elif layout["curbs"] and rng.random() < layout["curbs"]:
        tones = np.float32([(0.06, 0.06, 0.06), (0.85, 0.85, 0.83), (0.8, 0.6, 0.08)])[[0, 1 + rng.integers(2)]]
        high, length, foot = rng.uniform(0.12, 0.35), rng.uniform(0.5, 1.6), rng.uniform(0.5, 1)
        for step, near in enumerate(np.arange(road.distance[-1], 70, length)):
            curb = Wall(edge, 0, high, tones[step % 2] * rng.uniform(0.8, 1), foot)
            things.append(Thing(near, draw_wall, (curb, near, near + length)))
    if layout["posts"] and rng.random() < layout["posts"]:
        height, gap = [(1.0, 25), (1.2, 3), (8.0, 40)][rng.choice(3, p=[0.4, 0.2, 0.4])]
        rgb = random_color(rng, (0.15, 0.12, 0.1), (0.4, 0.36, 0.3)) if height > 1 else np.float32([0.85, 0.85, 0.83])
        offset = edge + side * (far + rng.uniform(0.4, 3 if height < 2 else 8))
        distances = np.arange(rng.uniform(3, gap), 160, gap * rng.uniform(0.8, 1.3))
        things += [Thing(d, draw_post, (offset, d, height, rgb)) for d in distances]
    for d in rng.uniform(20, 200, rng.integers(0, 3)):
        things.append(Thing(d, draw_sign, (edge + side * (far + rng.uniform(0.5, 4)), d)))
    if rng.random() < (0.8 if night and night["lit"] else 0.3):
        distances = np.arange(rng.uniform(10, 50), 250, rng.uniform(35, 60))
        things += [Thing(d, draw_lamp, (edge + side * 1.5, d)) for d in distances]
    if rng.random() < 0.35:
        dry = random_color(rng, (0.3, 0.25, 0.15), (0.6, 0.5, 0.36))
        foot, high = edge + side * (far + rng.uniform(1, 15)), rng.uniform(1, 9)
        things.append(Thing(np.inf, draw_bank, (foot, side, high, dry if rng.random() < 0.6 else green)))
    return things


def random_street_side(rng, scene, side, green):
    """Random Things beside a town street on one side: parked cars, curbs or snow, houses, trees, lamps.

    Their long straight edges run like lane lines and are none.
    """
    road, layout = scene.road, scene.layout
    number = 0 if side < 0 else 1
    edge = float(layout["offsets"][-number]) + side * layout["shoulders"][number]
    far = layout["far"][number]  # beyond the opposite carriageway
    things = []
    room = not far and (not layout["marks"] or layout["shoulders"][number] > 1.8)
    if rng.random() < (0.8 if room else 0):  # parked cars, their outer wheels at the curb
        gap, fraction = rng.uniform(5.6, 8), rng.uniform(0.4, 1)
        for distance in np.arange(rng.uniform(1, 8), 110, gap):
            if rng.random() < fraction:
                kind = str(rng.choice(list(VEHICLES), p=[0.42, 0.34, 0.1, 0.12, 0.02, 0]))
                car = (edge - side * rng.normal(1.0, 0.1), distance, kind, rng.random() < 0.3)
                things.append(Thing(distance, draw_vehicle, car))
    if rng.random() < 0.35:
        snow = random_color(rng, (0.72, 0.73, 0.75), (0.97, 0.97, 0.98)) / max(scene.light["objects"], 0.6)
        foot, rough = edge + side * rng.uniform(-0.3, 0.3), 0.07 if layout["marks"] else 0.2
        things.append(Thing(np.inf, draw_bank, (foot, side, rng.uniform(0.3, 1.3), snow, rough)))
    elif rng.random() < 0.8:
        rgb, foot = random_color(rng, (0.35, 0.34, 0.33), (0.75, 0.74, 0.7)), rng.uniform(0.5, 1)
        for near in np.arange(road.distance[-1], 120, 6):
            curb = Wall(edge, 0, rng.uniform(0.1, 0.18), rgb, foot)
            things.append(Thing(near + 6, draw_wall, (curb, near, near + 6)))
    if rng.random() < 0.75:
        front, near = edge + side * (far + rng.uniform(2.5, 9)), rng.uniform(-4, 15)
        while near < 160:
            end, brick = near + rng.uniform(6, 28), rng.random() < 0.4
            rgb = random_color(rng, (0.3, 0.16, 0.12), (0.62, 0.45, 0.38)) if brick else rng.uniform(0.25, 0.9, 3)
            rgb = 0.3 * rgb + 0.7 * rgb.mean()
            height = FLOOR * rng.integers(2, 7) + 0.6
            start = max(near, float(road.distance[-1]) + 0.1)
            if end > start + 1:
                things.append(Thing(end, draw_house, (front, side, start, end, height, rgb)))
            near = end + (rng.uniform(1, 12) if rng.random() < 0.4 else 0)
    if rng.random() < 0.6:
        for distance in np.arange(rng.uniform(4, 15), 120, rng.uniform(7, 20)):
            size = rng.uniform(5, 13)
            offset = edge + side * (far + rng.uniform(0.8, 1.6))
            things.append(Thing(distance, draw_tree, (offset, distance, size, green * rng.uniform(0.7, 1.3))))
    if rng.random() < 0.4:
        distances = np.arange(rng.uniform(10, 40), 150, rng.uniform(25, 45))
        things += [Thing(d, draw_lamp, (edge + side * (far + 0.8), d)) for d in distances]
    return things


def draw_objects(rng, scene, random_side=random_roadside, points=None):
    """Draw everything that stands on the ground, beside it what `random_side` gives.

    Args:
        random_side: `random_roadside` or `random_street_side`.
        points: (..., 2) int pixels of points on the ground, or None.

    Returns:
        bool of the form (...), True where a thing other than a vehicle hides a point; None without them.
    """
    canvas, layout = scene.canvas, scene.layout
    draw_dots(rng, scene)
    green = random_color(rng, (0.05, 0.06, 0.03), (0.18, 0.2, 0.1))
    things = [thing for side in (-1, 1) for thing in random_side(rng, scene, side, green)]
    things += [Thing(b["distance"], draw_bridge, (b,)) for b in layout["bridges"] if b["distance"] > 15]
    things += random_traffic(rng, layout)
    if points is not None:
        x, y = np.clip(points, 0, (WIDTH - 1, HEIGHT - 1)).reshape(-1, 2).T
        hidden = np.zeros(x.shape, bool)
    for thing in sorted(things, key=lambda thing: -thing.distance):
        before = canvas[y, x] if points is not None else None
        thing.draw(rng, scene, *thing.arguments)
        if points is not None and thing.draw is not draw_vehicle:
            hidden |= (canvas[y, x] != before).any(1)
    if scene.light["wet"]:
        draw_streaks(rng, canvas, scene.road.top)
    return None if points is None else hidden.reshape(points.shape[:-1])
