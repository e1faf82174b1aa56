"""Draws what stands on the road and beside it: dots, cars and trucks, walls, guard rails, trees, bridges, signs, poles.

Everything is placed in meters (lateral offset, height, distance) and projected by the `road_scene.Road`, so that cars
keep to their lanes on any road. Things are painted from far to near on an 8-bit RGB canvas, in place.
"""

import cv2
import numpy as np
from road_scene import HEIGHT, LANE_WIDTH, TILE, WIDTH, color, noise_tile

CAR_COLORS = np.array(
    [(0.85, 0.86, 0.86), (0.9, 0.9, 0.89), (0.6, 0.62, 0.64), (0.35, 0.36, 0.38), (0.08, 0.08, 0.09), (0.12, 0.12, 0.13),
     (0.45, 0.07, 0.07), (0.12, 0.18, 0.35), (0.5, 0.45, 0.35), (0.2, 0.24, 0.22)]
)  # fmt: skip

# Rear view in shares of width (0 = middle) and height: (body, cabin, window), right halves, and width, height, length (m),
# and where along the length the cabin begins and ends.
SEDAN = ([(0.5, 0.17), (0.5, 0.5), (0.47, 0.64)], [(0.46, 0.62), (0.37, 0.95), (0.3, 1)], [(0.4, 0.66), (0.33, 0.92)])
WAGON = ([(0.5, 0.17), (0.5, 0.5), (0.49, 0.6)], [(0.49, 0.58), (0.42, 0.96), (0.36, 1)], [(0.42, 0.62), (0.37, 0.9)])
BOX = ([(0.5, 0.28), (0.5, 0.99)], [(0.5, 0.3), (0.5, 1)], [])
VEHICLES = {
    "sedan": (SEDAN, (1.8, 1.45, 4.6), (0.12, 0.75)),
    "suv": (WAGON, (1.9, 1.75, 4.7), (0.01, 0.75)),
    "van": (WAGON, (1.95, 1.95, 5.0), (0.01, 0.9)),
    "pickup": (SEDAN, (1.95, 1.85, 5.5), (0.35, 0.7)),
    "truck": (BOX, (2.5, 3.8, 14.0), (0, 1)),
    "box": (BOX, (2.3, 3.1, 6.5), (0, 1)),
}


def fogged(rgb, distance, light):
    """RGB in 0..1 of a thing at a distance in the scene's light -> 8-bit tuple."""
    clear = np.exp(-distance / light["fog"])
    return tuple(int(v) for v in np.clip(255 * (np.asarray(rgb) * clear + light["horizon"] * (1 - clear)), 0, 255))


def fill(canvas, points, tone):
    """Fill an anti-aliased polygon given by float pixel points."""
    cv2.fillPoly(canvas, [np.int32(np.clip(points, -3000, 5000) * 16)], tone, cv2.LINE_AA, 4)


def darken(canvas, points, strength, soft):
    """Multiply a polygon of the canvas by 1 - strength, with its border blurred over `soft` pixels."""
    low = np.maximum(np.floor(points.min(0) - 2 * soft), 0).astype(int)
    high = np.minimum(np.ceil(points.max(0) + 2 * soft), (WIDTH, HEIGHT)).astype(int)
    if (high - low).min() < 1:
        return
    mask = np.zeros((high - low)[::-1], np.uint8)
    fill(mask, points - low, 255)
    share = cv2.GaussianBlur(mask, (0, 0), max(0.3, soft / 2)).astype(np.float32)[..., None] * (strength / 255)
    region = canvas[low[1] : high[1], low[0] : high[0]]
    region[:] = region * (1 - share)


def paint_foliage(rng, canvas, middle, base, width, height, rgb, distance, light):
    """A tree or bush: noise cut off by an ellipse, lit from above."""
    left, upper = int(middle - width / 2), int(base - height)
    cols, rows = max(2, int(width)), max(2, int(height))
    x0, x1, y0, y1 = max(left, 0), min(left + cols, WIDTH), max(upper, 0), min(upper + rows, HEIGHT)
    if x1 <= x0 or y1 <= y0:
        return
    x, y = np.arange(x0, x1), np.arange(y0, y1)[:, None]
    shift = rng.integers(0, TILE, 2)
    detail = 160 / max(cols, rows)
    leaves = noise_tile(1.1)[((y - upper) * detail + shift[0]).astype(int) % TILE, ((x - left) * detail + shift[1]).astype(int) % TILE]
    fine = noise_tile(0.6)[(y + shift[1]) % TILE, (x + shift[0]) % TILE]
    up = (upper + rows / 2 - y) / (rows / 2)
    inside = 1 - ((x - left - cols / 2) / (cols / 2)) ** 2 - up**2 + 0.35 * leaves
    alpha = np.clip(inside * 0.12 * min(cols, rows) + 0.5, 0, 1)[..., None]
    tone = np.clip(1 + 0.25 * leaves + 0.3 * fine + 0.35 * up, 0.15, 2)[..., None]
    region = canvas[y0:y1, x0:x1]
    region[:] = region * (1 - alpha) + alpha * np.clip(tone * np.array(fogged(rgb, distance, light)), 0, 255)


def paint_dots(rng, canvas, road, layout, shade):
    """Reflective dots of the lane lines, with the shadow that their height casts."""
    for position, style in zip(layout["positions"], layout["styles"], strict=True):
        along = {"dots": np.arange(4) * rng.uniform(0.9, 1.3), "dots_dashed": np.linspace(0, style["dash"], 4)}.get(style["kind"])
        if along is None:
            along = [style["period"] / 2 + style["dash"] / 2] if style["kind"] == "dashed" and rng.random() < 0.6 else []
        radius, white = rng.uniform(0.04, 0.065), style["color"] * rng.uniform(0.85, 1.1)
        spots = np.add.outer(np.arange(-1, 14) * style["period"] - style["phase"], along).ravel()
        for spot in spots[(spots > road.distance[HEIGHT]) & (spots < 130)]:
            if rng.random() < 0.35 * style["wear"]:
                continue
            row = float(road.row_at(spot))
            scale, x = road.scale[int(row)], np.interp(row, np.arange(len(position)), position)
            if not (0 <= x < WIDTH and row < HEIGHT):
                continue
            length = 0.5 * (float(road.row_at(spot - radius)) - float(road.row_at(spot + radius))) + 0.012 * scale
            axes = (int(16 * max(radius * scale, 0.7)), int(16 * max(length, 0.5)))
            lit = shade[int(row) - road.top, int(x)]
            gray = canvas[int(row), int(x)] * 0.45
            center = (int(16 * x), int(16 * (row + 0.5 * length)))
            if scale > 60:
                cv2.ellipse(canvas, center, axes, 0, 0, 360, tuple(int(v) for v in gray), -1, cv2.LINE_AA, 4)
            tone = tuple(int(v) for v in np.clip(255 * white * lit, 0, 255))
            cv2.ellipse(canvas, (int(16 * x), int(16 * row)), axes, 0, 0, 360, tone, -1, cv2.LINE_AA, 4)


def paint_vehicle(rng, canvas, road, light, offset, distance, kind, oncoming=False):
    """A car or truck seen from behind, with its near side where the camera sees it, wheels, lights and shadow."""
    (body, cabin, window), size, (cab_near, cab_far) = VEHICLES[kind]
    width, height, length = np.array(size) * rng.uniform(0.92, 1.08, 3)
    paint = CAR_COLORS[rng.integers(len(CAR_COLORS))] * rng.uniform(0.8, 1.1)
    if kind in ("truck", "box"):
        paint = color(rng, (0.35, 0.3, 0.25), (0.9, 0.9, 0.88))
    bright = light["objects"]

    def at(points):
        a, z, d = np.array(points, float).T
        return road.project(offset + a * width, z * height, distance + d * length)

    def area(points, rgb, depth=0.0):
        fill(canvas, at([(a, z, depth) for a, z in points]), fogged(np.asarray(rgb) * bright, distance, light))

    def both(half, depth, rgb):
        area(half + [(-a, z) for a, z in half[::-1]], rgb, depth)

    soft = 0.08 * np.interp(road.row_at(distance), np.arange(len(road.scale)), road.scale)
    base = [(a, 0, d) for a in (-0.5, 0.5) for d in (0, 1)]
    shift = np.array([light["sun_side"] * height / width, 0, -light["sun_ahead"] * height / length])
    hull = cv2.convexHull(np.float32(at(base + [tuple(np.array(p) + shift) for p in base])))[:, 0]
    darken(canvas, hull, 0.9 * light["sun"], soft)
    darken(canvas, at([(-0.53, 0, -0.02), (0.53, 0, -0.02), (0.5, 0, 0.9), (-0.5, 0, 0.9)]), 0.75, 1.5 * soft)
    radius = 0.5 if kind in ("truck", "box") else 0.34
    for a in (-0.42, 0.42):
        area([(a - 0.075, 0), (a - 0.075, 0.7 * 2 * radius / height), (a + 0.075, 0.7 * 2 * radius / height), (a + 0.075, 0)], (0.03, 0.03, 0.03))
    turn = np.linspace(0, 2 * np.pi, 14)
    if abs(offset) > 0.3 * width:
        a = -0.5 * np.sign(offset)
        dim = rng.uniform(0.5, 0.85)
        low, belt = body[0][1], body[-1][1]
        tone = fogged(paint * bright * dim, distance, light)
        fill(canvas, at([(a, low, 0), (a, belt, 0), (a, belt, 0.97), (a, low, 1)]), tone)
        if kind not in ("truck", "box"):
            slope = 0.1 if kind != "suv" else 0.03
            top = a * 0.8
            fill(canvas, at([(a, belt, cab_near), (top, 1, cab_near + slope), (top, 1, cab_far - 0.12), (a, belt, cab_far)]), tone)
            glass = fogged(np.array([0.1, 0.11, 0.12]) * bright, distance, light)
            fill(canvas, at([(a, belt, cab_near + 0.06), (top, 0.93, cab_near + slope + 0.03), (top, 0.93, cab_far - 0.14), (a, belt, cab_far - 0.05)]), glass)
        for d in (0.18, 0.82):
            for share, rgb in ((1, (0.03, 0.03, 0.03)), (0.55, (0.4, 0.4, 0.42))):
                ring = [(a, (radius + share * radius * np.sin(t)) / height, d + share * radius * np.cos(t) / length) for t in turn]
                fill(canvas, at(ring), fogged(np.array(rgb) * bright, distance, light))
    both(cabin, cab_near, paint * 0.95)
    if window:
        both(window, cab_near, color(rng, (0.05, 0.06, 0.07), (0.25, 0.28, 0.3)))
    both(body, 0, paint)
    both([(0.5, body[0][1]), (0.5, 0.3), (0.49, 0.33)], 0, paint * 0.75 if rng.random() < 0.6 else (0.1, 0.1, 0.1))
    both([(0.48, body[0][1]), (0.47, 0.24)], 0, (0.05, 0.05, 0.05))
    lamp = (0.95, 0.93, 0.85) if oncoming else (0.9, 0.12, 0.1) if rng.random() < 0.25 else (0.5, 0.05, 0.05)
    high = 0.6 if window else 0.34
    for sign in (-1, 1):
        area([(sign * 0.49, high - 0.14), (sign * 0.49, high - 0.02), (sign * 0.36, high - 0.03), (sign * 0.38, high - 0.12)], lamp)
    if not oncoming:
        area([(-0.09, 0.4), (-0.09, 0.48), (0.09, 0.48), (0.09, 0.4)], (0.75, 0.76, 0.75))
    if not window:
        area([(-0.005, 0.32), (-0.005, 0.98), (0.005, 0.98), (0.005, 0.32)], paint * 0.6)


def paint_wall(rng, canvas, road, light, offset, height, near, far, rgb):
    """One panel of a barrier, sound wall or (negative height) guard rail along the road."""
    low, high = (0, height) if height > 0 else (0.45, 0.75)
    steps = np.linspace(near, far, 5)
    lower, upper = road.project(offset, low, steps), road.project(offset, high, steps)
    tone = rgb * light["objects"] * rng.uniform(0.93, 1.05)
    fill(canvas, np.concatenate([lower, upper[::-1]]), fogged(tone, near, light))
    ridge = road.project(offset, 0.94 * high, steps)
    fill(canvas, np.concatenate([ridge, upper[::-1]]), fogged(tone * 1.25, near, light))
    if height < 0:
        foot, head = road.project(offset, 0, near), road.project(offset, 0.75, near)
        thick = max(1, int(0.15 * (foot[1] - head[1])))
        cv2.line(canvas, tuple(int(16 * v) for v in np.clip(foot, -2000, 4000)), tuple(int(16 * v) for v in np.clip(head, -2000, 4000)), fogged(tone * 0.6, near, light), thick, cv2.LINE_AA, 4)


def paint_bridge(rng, canvas, road, light, bridge, layout):
    """An overpass with its railing, dark underside and pillars."""
    distance = bridge["distance"]
    clearance, deck, tilt = rng.uniform(4.9, 6.5), rng.uniform(1.2, 2.2), rng.uniform(-0.03, 0.03)
    side = np.array([-90.0, 90.0])
    rgb = color(rng, (0.3, 0.3, 0.29), (0.6, 0.58, 0.54)) * light["objects"]

    def beam(low, high, tone, ahead=0.0):
        points = np.concatenate([road.project(side, low + tilt * side, distance + ahead), road.project(side[::-1], high + tilt * side[::-1], distance)])
        fill(canvas, points, fogged(tone, distance, light))

    beam(clearance, clearance, rgb * 0.25, min(bridge["deep"], 20.0))
    pillars = [layout["offsets"][0] - layout["shoulders"][0] - 1, layout["offsets"][-1] + layout["shoulders"][1] + 2]
    for u in pillars:
        fill(canvas, road.project(np.array([u, u + 1.2, u + 1.2, u]), np.array([0, 0, clearance, clearance]), distance + 2), fogged(rgb * 0.5, distance, light))
    beam(clearance, clearance + deck, rgb * rng.uniform(0.5, 1))
    beam(clearance + deck, clearance + deck + 0.9, rgb * rng.uniform(0.7, 1.2))


def paint_sign(rng, canvas, road, light, offset, distance):
    """A road sign on one post, or a green one on a gantry over the lanes."""
    gantry = bool(rng.random() < 0.5 and distance > 40)
    low, high, half = (5.6, rng.uniform(7.5, 9), rng.uniform(1.5, 4)) if gantry else (2.0, rng.uniform(2.7, 4), rng.uniform(0.3, 1.3))
    steel = fogged(np.array([0.35, 0.36, 0.37]) * light["objects"], distance, light)
    middle = offset * rng.uniform(0, 0.8) if gantry else offset
    bars = [(offset, 0, offset, high)] + [(offset, low + 0.5, middle, low + 0.5)] * gantry
    scale = float(np.interp(road.row_at(distance), np.arange(len(road.scale)), road.scale))
    for u0, z0, u1, z1 in bars:
        a, b = road.project(np.array([u0, u1]), np.array([z0, z1]), distance)
        cv2.line(canvas, tuple(int(v) for v in a), tuple(int(v) for v in b), steel, max(1, int(0.15 * scale)), cv2.LINE_AA)
    board = [(0.03, 0.25, 0.15), (0.85, 0.85, 0.85), (0.8, 0.6, 0.05), (0.05, 0.15, 0.4)][0 if gantry else rng.integers(4)]
    corners = np.array([(-half, low), (half, low), (half, high), (-half, high)])
    fill(canvas, road.project(middle + corners[:, 0], corners[:, 1], distance), fogged(np.array(board) * light["objects"], distance, light))
    ink = fogged((0.8, 0.8, 0.8) if sum(board) < 1 else (0.1, 0.1, 0.1), distance, light)
    for z in np.linspace(low, high, 5)[1:-1]:
        a, b = road.project(middle + np.array([-0.75, rng.uniform(0, 0.8)]) * half, z, distance)
        cv2.line(canvas, tuple(int(v) for v in a), tuple(int(v) for v in b), ink, max(1, int(0.12 * scale)), cv2.LINE_AA)


def paint_lamp(rng, canvas, road, light, offset, distance):
    """A lamp post that leans its arm over the road."""
    tall, arm = rng.uniform(9, 13), rng.uniform(1.5, 4) * -np.sign(offset)
    points = road.project(offset + np.array([0, 0, 0.5 * arm, arm]), np.array([0, tall, tall + 0.5, tall + 0.6]), distance)
    thick = max(1, int(0.14 * np.interp(road.row_at(distance), np.arange(len(road.scale)), road.scale)))
    cv2.polylines(canvas, [np.int32(points * 16)], False, fogged(np.array([0.3, 0.31, 0.32]) * light["objects"], distance, light), thick, cv2.LINE_AA, 4)


def traffic(rng, road, layout):
    """Random vehicles, as (offset, distance, kind, oncoming), in the lanes and on the opposite carriageway."""
    density = rng.choice([0.0, 0.3, 0.6, 1.0], p=[0.1, 0.35, 0.35, 0.2])
    middles = layout["offsets"][:-1] + np.diff(layout["offsets"]) / 2
    placed = []
    for middle, width in zip(middles, np.diff(layout["offsets"]), strict=True):
        if width < 2.6 or width > 6:
            continue
        distance = rng.uniform(12, 40) if abs(middle) < LANE_WIDTH / 2 else rng.uniform(1, 40)
        while distance < 160:
            if rng.random() < density:
                kind = str(rng.choice(list(VEHICLES), p=[0.4, 0.26, 0.08, 0.14, 0.07, 0.05]))
                placed.append((middle + rng.normal(0, 0.25), distance, kind, False))
            distance += VEHICLES["truck"][1][2] + rng.uniform(6, 60)
    if rng.random() < 0.5:
        beyond = layout["offsets"][0] - layout["shoulders"][0] - rng.uniform(4, 12)
        for distance in rng.uniform(25, 250, rng.integers(0, 12)):
            placed.append((beyond - LANE_WIDTH * rng.integers(0, 3), distance, str(rng.choice(["sedan", "suv", "van", "truck"], p=[0.5, 0.3, 0.15, 0.05])), True))
    return placed


def paint_objects(rng, canvas, road, layout, light, shade):
    """Paint everything that stands on the ground, in place.

    Args:
        rng: numpy Generator.
        canvas: (HEIGHT, WIDTH, 3) uint8, RGB: sky and ground.
        road: road_scene.Road.
        layout: dict of `road_scene.draw_layout`.
        light: dict of `road_scene.draw_light`.
        shade: (HEIGHT - road.top, WIDTH) float, share of light on the ground.
    """
    paint_dots(rng, canvas, road, layout, shade)
    edges = (layout["offsets"][0] - layout["shoulders"][0] - 0.3, layout["offsets"][-1] + layout["shoulders"][1] + 0.3)
    things = []
    green = color(rng, (0.05, 0.07, 0.03), (0.2, 0.24, 0.1))
    for side, edge in zip((-1, 1), edges, strict=True):
        if rng.random() < 0.8:
            tall, gap = rng.choice([rng.uniform(0.5, 2.5), rng.uniform(4, 16)]), rng.uniform(1, 14)
            for distance in rng.uniform(10, 330, rng.integers(3, 45)):
                offset = edge + side * (gap + rng.exponential(8) + 0.4 * tall)
                size = tall * rng.uniform(0.6, 1.3)
                things.append((distance, paint_tree, (road, offset, distance, size, green * rng.uniform(0.7, 1.3), light)))
        wall = layout["walls"][0 if side < 0 else 1]
        rail = wall == 0 and rng.random() < 0.5
        if wall or rail:
            rgb, panel = color(rng, (0.35, 0.34, 0.32), (0.72, 0.66, 0.56)), rng.uniform(3, 7)
            stops = np.arange(road.distance[-1], rng.uniform(60, 300), panel)
            for near in stops:
                far = min(near + panel, road.distance[road.top])
                if far > near:
                    things.append((near, paint_wall, (road, light, edge, -1.0 if rail else wall, near, far, rgb)))
        for distance in rng.uniform(20, 200, rng.integers(0, 3)):
            things.append((distance, paint_sign, (road, light, edge + side * rng.uniform(0.5, 4), distance)))
        if rng.random() < 0.3:
            for distance in np.arange(rng.uniform(10, 50), 250, rng.uniform(35, 60)):
                things.append((distance, paint_lamp, (road, light, edge + side * 1.5, distance)))
    things += [(bridge["distance"], paint_bridge, (road, light, bridge, layout)) for bridge in layout["bridges"] if bridge["distance"] > 15]
    things += [(d, paint_vehicle, (road, light, u, d, kind, oncoming)) for u, d, kind, oncoming in traffic(rng, road, layout)]
    for _, paint, arguments in sorted(things, key=lambda thing: -thing[0]):
        paint(rng, canvas, *arguments)


def paint_tree(rng, canvas, road, offset, distance, size, rgb, light):
    """A tree with a trunk, or a bush, `size` m high."""
    (x, y), (_, top) = road.project(offset, 0, distance), road.project(offset, size, distance)
    tall = y - top
    if size > 4:
        trunk = fogged(np.array([0.12, 0.1, 0.08]) * light["objects"], distance, light)
        cv2.line(canvas, (int(x), int(y)), (int(x), int(y - 0.5 * tall)), trunk, max(1, int(0.04 * tall)), cv2.LINE_AA)
        y -= 0.2 * tall
    paint_foliage(rng, canvas, x, y, tall * rng.uniform(0.6, 1.4), tall * 0.9, rgb * (0.3 + 0.7 * light["objects"]), distance, light)
