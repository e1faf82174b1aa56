"""Draws what stands on the road and beside it: reflective dots, walls, banks, trees, bridges, signs and lamps.

Everything is placed in meters (lateral offset, height, distance) and projected by the `geometry.Road`. Things are
painted from far to near on an 8-bit RGB canvas, in place; the vehicles among them are in `vehicles.py`.
"""

import cv2
import numpy as np

from .geometry import HEIGHT, WIDTH
from .light import glow, paint_streaks
from .scene import TILE, color, fill, fogged, noise_tile, stroke
from .vehicles import draw_traffic, paint_vehicle


def paint_dots(rng, canvas, road, layout, shade):
    """Reflective dots of the lane lines, each with the dark rim that its height makes."""
    for position, style in zip(layout["positions"], layout["styles"], strict=True):
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
                cv2.ellipse(
                    canvas, (int(16 * x), int(16 * row + axes[1] / 2)), axes, 0, 0, 360, rim, -1, cv2.LINE_AA, 4
                )
            tone = np.clip(white * shade[int(row) - road.top, int(x)], 0, 255).astype(int).tolist()
            cv2.ellipse(canvas, (int(16 * x), int(16 * row)), axes, 0, 0, 360, tone, -1, cv2.LINE_AA, 4)


def paint_foliage(rng, canvas, middle, base, width, height, rgb, distance, light):
    """A mass of leaves `width` x `height` pixels over its base point: noise cut off by an ellipse, lit from above."""
    left, upper = int(middle - width / 2), int(base - height)
    cols, rows = max(2, int(width)), max(2, int(height))
    x0, x1, y0, y1 = max(left, 0), min(left + cols, WIDTH), max(upper, 0), min(upper + rows, HEIGHT)
    if x1 <= x0 or y1 <= y0:
        return
    x, y = np.arange(x0, x1), np.arange(y0, y1)[:, None]
    shift, detail = rng.integers(0, TILE, 2), 160 / max(cols, rows)
    coarse = noise_tile(1.1)[
        ((y - upper) * detail + shift[0]).astype(int) % TILE, ((x - left) * detail + shift[1]).astype(int) % TILE
    ]
    fine = noise_tile(0.6)[(y + shift[1]) % TILE, (x + shift[0]) % TILE]
    up, aside = (upper + rows / 2 - y) / (rows / 2), (x - left - cols / 2) / (cols / 2)
    inside = 0.62 - aside**2 - up**2 + 0.3 * coarse * (1 - up**4) * (1 - aside**4)  # nothing at the box's border
    alpha = np.clip(inside * 0.12 * min(cols, rows) + 0.5, 0, 1)[..., None]
    tone = np.clip(1 + 0.25 * coarse + 0.3 * fine + 0.35 * up, 0.15, 2)[..., None]
    region = canvas[y0:y1, x0:x1]
    region[:] = region * (1 - alpha) + alpha * np.clip(tone * np.array(fogged(rgb, distance, light)), 0, 255)


def paint_tree(rng, canvas, road, light, offset, distance, size, rgb):
    """A bush, or a tree of a trunk and one to three masses of leaves, `size` m high."""
    x, y = road.project(offset, 0, distance)
    tall = size * road.scale_at(distance)
    rgb = rgb * (0.3 + 0.7 * light["objects"])
    if size < 4:
        return paint_foliage(
            rng, canvas, x, y + 0.15 * tall, tall * rng.uniform(1, 2.5), 1.2 * tall, rgb, distance, light
        )
    wood = fogged(np.array([0.12, 0.1, 0.08]) * light["objects"], distance, light)
    stroke(canvas, np.array([(x, y), (x + rng.normal(0, 0.03) * tall, y - 0.6 * tall)]), wood, 0.03 * tall)
    for _ in range(rng.integers(1, 4)):
        fraction = rng.uniform(0.5, 0.9)
        base = y - rng.uniform(0.1, 1.1 - fraction) * tall
        paint_foliage(
            rng,
            canvas,
            x + rng.normal(0, 0.15) * tall,
            base,
            tall * rng.uniform(0.5, 1.1),
            fraction * tall,
            rgb,
            distance,
            light,
        )


def paint_bank(rng, canvas, road, light, foot, side, height, rgb, rough=0.2):
    """A slope rising from lateral position `foot` outward, `height` m high in the mean, its light and dark `rough`."""
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
    shift = rng.integers(0, TILE, 2)
    coarse = np.tile(np.roll(noise_tile(1.1), shift, (0, 1)), (1, 2))[region]
    fine = np.tile(np.roll(noise_tile(0.5), shift, (0, 1)), (1, 2))[region]
    tone = np.clip(1 + rough * coarse + rough * fine, 0.2, 2)[..., None] * np.array(
        fogged(rgb * light["objects"], 60, light)
    )
    alpha = mask[region][..., None] / np.float32(255)
    canvas[region] = canvas[region] * (1 - alpha) + alpha * np.clip(tone, 0, 255)


def paint_wall(rng, canvas, road, light, offset, low, high, near, far, rgb, foot):
    """One panel of a barrier or sound wall, or, where `low` m is above the ground, of a guard rail with its post.

    foot: brightness of a wall's lowest part, where dirt and water leave a line.
    """
    steps = np.linspace(near, far, 5)
    tone = rgb * light["objects"] * rng.uniform(0.93, 1.05)
    lower, ridge, upper = (road.project(offset, z, steps) for z in (low, low + 0.9 * (high - low), high))
    if low > 0:
        post = road.project(offset, np.array([0, high]), near)
        stroke(canvas, post, fogged(tone * 0.6, near, light), 0.15 * (post[0, 1] - post[1, 1]))
    fill(canvas, np.concatenate([lower, upper[::-1]]), fogged(tone, near, light))
    fill(canvas, np.concatenate([ridge, upper[::-1]]), fogged(tone * 1.25, near, light))
    if low == 0:
        stain = road.project(offset, 0.12 * high, steps)
        fill(canvas, np.concatenate([lower, stain[::-1]]), fogged(tone * foot, near, light))


def paint_bridge(rng, canvas, road, light, bridge, layout):
    """An overpass with its railing, dark underside and pillars."""
    distance = bridge["distance"]
    clearance, deck, tilt = rng.uniform(4.9, 6.5), rng.uniform(1.2, 2.2), rng.uniform(-0.03, 0.03)
    side = np.array([-120.0, 120.0])
    rgb = color(rng, (0.3, 0.3, 0.29), (0.6, 0.58, 0.54)) * light["objects"]

    def beam(low, high, tone, ahead=0.0):
        near = road.project(side[::-1], high + tilt * side[::-1], distance)
        fill(
            canvas,
            np.concatenate([road.project(side, low + tilt * side, distance + ahead), near]),
            fogged(tone, distance, light),
        )

    beam(clearance, clearance, rgb * 0.25, min(bridge["deep"], 20.0))
    edges = layout["offsets"][0] - layout["shoulders"][0] - 1, layout["offsets"][-1] + layout["shoulders"][1] + 2
    for u in edges:
        corners = road.project(u + np.array([0, 1.2, 1.2, 0]), clearance * np.array([0, 0, 1, 1]), distance + 2)
        fill(canvas, corners, fogged(rgb * 0.5, distance, light))
    beam(clearance, clearance + deck, rgb * rng.uniform(0.5, 1))
    beam(clearance + deck, clearance + deck + 0.9, rgb * rng.uniform(0.7, 1.2))


def paint_sign(rng, canvas, road, light, offset, distance):
    """A road sign on one post, or a green one on a gantry over the lanes."""
    gantry = rng.random() < 0.5 and distance > 40
    low, high, half = (
        (5.6, rng.uniform(7.5, 9), rng.uniform(1.5, 4)) if gantry else (2, rng.uniform(2.7, 4), rng.uniform(0.3, 1.3))
    )
    middle = offset * rng.uniform(0, 0.8) if gantry else offset
    thick = 0.12 * road.scale_at(distance)
    steel = fogged(np.array([0.35, 0.36, 0.37]) * light["objects"], distance, light)
    frame = road.project(np.array([offset, offset, middle]), np.array([0, low + 0.5, low + 0.5]), distance)
    stroke(canvas, frame, steel, thick)
    board = [(0.03, 0.25, 0.15), (0.85, 0.85, 0.85), (0.8, 0.6, 0.05), (0.05, 0.15, 0.4)][
        0 if gantry else rng.integers(4)
    ]
    corners = road.project(middle + half * np.array([-1, 1, 1, -1]), np.array([low, low, high, high]), distance)
    fill(canvas, corners, fogged(np.array(board) * light["objects"], distance, light))
    ink = fogged(np.full(3, 0.8 if sum(board) < 1 else 0.1) * light["objects"], distance, light)
    for z in np.linspace(low, high, 5)[1:-1]:
        stroke(canvas, road.project(middle + np.array([-0.75, rng.uniform(0, 0.8)]) * half, z, distance), ink, thick)


def paint_lamp(rng, canvas, road, light, offset, distance):
    """A lamp post that leans its arm over the road."""
    tall, arm = rng.uniform(9, 13), rng.uniform(1.5, 4) * -np.sign(offset)
    points = road.project(offset + arm * np.array([0, 0, 0.5, 1]), tall + np.array([-tall, 0, 0.5, 0.6]), distance)
    steel = fogged(np.array([0.3, 0.31, 0.32]) * light["objects"], distance, light)
    stroke(canvas, points, steel, 0.14 * road.scale_at(distance))
    if light["night"] and light["night"]["lit"]:
        glow(canvas, points[-1], np.clip(0.3 * road.scale_at(distance), 1.5, 25), light["night"]["lamp"])


def paint_post(rng, canvas, road, light, offset, distance, height, rgb):
    """A post or pole: of a delineator, of wires, of a fence."""
    points = road.project(offset, height * np.array([0, 0.8, 1]), distance)
    width = max(0.12, 0.03 * height) * road.scale_at(distance)
    stroke(canvas, points[:2], fogged(rgb * light["objects"], distance, light), width)
    stroke(canvas, points[1:], fogged(rgb * light["objects"] * 0.5, distance, light), width)


def roadside(rng, road, layout, light, side, green):
    """Random things beside the road on one side (-1 left, 1 right), as (distance, painter, its arguments)."""
    number = 0 if side < 0 else 1
    edge = float(layout["offsets"][-number]) + side * (layout["shoulders"][number] + 0.3)
    far = layout.get("far", [0, 0])[number]  # beyond the opposite carriageway
    things = []
    if rng.random() < 0.85:
        size, gap = rng.choice([rng.uniform(0.5, 2.5), rng.uniform(4, 18)]), rng.uniform(1, 14)
        for distance in rng.uniform(10, 330, rng.integers(3, 50)):
            offset = edge + side * (far + gap + rng.exponential(8) + 0.4 * size)
            things.append(
                (distance, paint_tree, (offset, distance, size * rng.uniform(0.5, 1.4), green * rng.uniform(0.7, 1.3)))
            )
    wall = layout["walls"][number]
    if wall or rng.random() < 0.4:
        low, high = (0, wall) if wall else (0.45, 0.75)
        rgb, panel = color(rng, (0.35, 0.34, 0.32), (0.72, 0.66, 0.56)), rng.uniform(3, 7)
        foot = rng.uniform(0.4, 1.3)
        for near in np.arange(road.distance[-1], min(rng.uniform(60, 300), road.distance[road.top] - panel), panel):
            things.append((near, paint_wall, (edge, low, high, near, near + panel, rgb, foot)))
    elif layout.get("curbs") and rng.random() < layout["curbs"]:
        tones = np.float32([(0.06, 0.06, 0.06), (0.85, 0.85, 0.83), (0.8, 0.6, 0.08)])[[0, 1 + rng.integers(2)]]
        high, length, foot = rng.uniform(0.12, 0.35), rng.uniform(0.5, 1.6), rng.uniform(0.5, 1)
        for step, near in enumerate(np.arange(road.distance[-1], 70, length)):
            rgb = tones[step % 2] * rng.uniform(0.8, 1)
            things.append((near, paint_wall, (edge, 0, high, near, near + length, rgb, foot)))
    if layout.get("posts") and rng.random() < layout["posts"]:
        height, gap = [(1.0, 25), (1.2, 3), (8.0, 40)][rng.choice(3, p=[0.4, 0.2, 0.4])]
        rgb = color(rng, (0.15, 0.12, 0.1), (0.4, 0.36, 0.3)) if height > 1 else np.float32([0.85, 0.85, 0.83])
        aside = side * (far + rng.uniform(0.4, 3 if height < 2 else 8))
        for distance in np.arange(rng.uniform(3, gap), 160, gap * rng.uniform(0.8, 1.3)):
            things.append((distance, paint_post, (edge + aside, distance, height, rgb)))
    for distance in rng.uniform(20, 200, rng.integers(0, 3)):
        things.append((distance, paint_sign, (edge + side * (far + rng.uniform(0.5, 4)), distance)))
    if rng.random() < (0.8 if light["night"] and light["night"]["lit"] else 0.3):
        for distance in np.arange(rng.uniform(10, 50), 250, rng.uniform(35, 60)):
            things.append((distance, paint_lamp, (edge + side * 1.5, distance)))
    if rng.random() < 0.35:
        dry = color(rng, (0.3, 0.25, 0.15), (0.6, 0.5, 0.36))
        things.append(
            (
                np.inf,
                paint_bank,
                (
                    edge + side * (far + rng.uniform(1, 15)),
                    side,
                    rng.uniform(1, 9),
                    dry if rng.random() < 0.6 else green,
                ),
            )
        )
    return things


def paint_objects(rng, canvas, road, layout, light, shade, beside=roadside, watched=None):
    """Paint everything that stands on the ground, in place.

    Args:
        rng: numpy Generator.
        canvas: (HEIGHT, WIDTH, 3) uint8, RGB: sky and ground.
        road: geometry.Road.
        layout: dict of `scene.draw_layout`.
        light: dict of `scene.draw_light`.
        shade: (HEIGHT - road.top, WIDTH) float, fraction of light on the ground.
        beside: function that draws what stands on one side, `roadside` or another of its form.
        watched: (..., 2) int pixels of points on the ground, or None.

    Returns:
        bool of the form (...), True where a thing other than a vehicle hides a watched point; None without them.
    """
    paint_dots(rng, canvas, road, layout, shade)
    green = color(rng, (0.05, 0.06, 0.03), (0.18, 0.2, 0.1))
    things = [thing for side in (-1, 1) for thing in beside(rng, road, layout, light, side, green)]
    things += [(b["distance"], paint_bridge, (b, layout)) for b in layout["bridges"] if b["distance"] > 15]
    things += [(car[0], paint_vehicle, (car[1], car[0], *car[2:])) for car in draw_traffic(rng, layout)]
    if watched is not None:
        x, y = np.clip(watched, 0, (WIDTH - 1, HEIGHT - 1)).reshape(-1, 2).T
        hidden = np.zeros(x.shape, bool)
    for _, paint, arguments in sorted(things, key=lambda thing: -thing[0]):
        if watched is None or paint is paint_vehicle:
            paint(rng, canvas, road, light, *arguments)
            continue
        before = canvas[y, x]
        paint(rng, canvas, road, light, *arguments)
        hidden |= (canvas[y, x] != before).any(1)
    if light["wet"]:
        paint_streaks(rng, canvas, road.top)
    return None if watched is None else hidden.reshape(watched.shape[:-1])
