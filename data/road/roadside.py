"""What stands on the road and beside it: reflective dots, walls, trees."""

import cv2
import numpy as np

from .canvas import HEIGHT, WIDTH, random_color, random_noise
from .scene import Thing


def draw_dots(rng, scene, travelled):
    for offset, line in zip(scene.road.offsets, scene.layout.lines, strict=True):
        gap, sparse, radius = rng.uniform(0.9, 1.3), rng.random() < 0.6, rng.uniform(0.045, 0.065)
        white, missing = 255 * line.color * rng.uniform(0.85, 1.1), rng.random(97) < 0.3 * line.wear
        along = {
            "dots": np.arange(4) * gap,
            "dots_dashed": np.linspace(0, line.dash, 4),
            "dashed": [0.5 * (line.period + line.dash)] if sparse else [],
        }.get(line.kind, [])
        first = int(travelled / line.period)
        for number in range(first - 1, first + 14):
            for spot in number * line.period - line.phase + np.asarray(along) - travelled:
                if scene.road.distance[HEIGHT - 1] < spot < 140 and not missing[number % 97]:
                    draw_dot(scene, offset, spot, radius, white)


def draw_dot(scene, offset, distance, radius, white):
    canvas, road, (x, row) = scene.canvas, scene.road, scene.road.project(offset, 0, distance)
    if not (1 <= x < WIDTH - 1 and row < HEIGHT - 1):
        return
    scale = road.scale[int(row)]
    length = 0.5 * float(road.row_at(distance - radius) - road.row_at(distance + radius)) + 0.007 * scale
    axes = (int(16 * max(radius * scale, 0.7)), int(16 * max(length, 0.45)))
    tone = np.clip(white * scene.shade[int(row) - road.top, int(x)], 0, 255).astype(int).tolist()
    cv2.ellipse(canvas, (int(16 * x), int(16 * row)), axes, 0, 0, 360, tone, -1, cv2.LINE_AA, 4)


def draw_foliage(rng, scene, base, size, rgb, distance):
    """Leaves of a size (width, height) px over a base point: noise cut off by an ellipse, lit from above."""
    left, upper = int(base[0] - size[0] / 2), int(base[1] - size[1])
    cols, rows = max(2, int(size[0])), max(2, int(size[1]))
    x = np.arange(max(left, 0), min(left + cols, WIDTH)) - left
    y = np.arange(max(upper, 0), min(upper + rows, HEIGHT))[:, None] - upper
    if not (x.size and y.size):
        return
    detail = 160 / max(cols, rows)
    coarse, fine = random_noise(rng, 1.1, x * detail, y * detail), random_noise(rng, 0.6, x, y)
    up, aside = 1 - 2 * y / rows, 2 * x / cols - 1
    inside = 0.62 - aside**2 - up**2 + 0.3 * coarse * (1 - up**4) * (1 - aside**4)
    alpha = np.clip(inside * 0.12 * min(cols, rows) + 0.5, 0, 1)[..., None]
    light = np.clip(1 + 0.25 * coarse + 0.3 * fine + 0.35 * up, 0.15, 2)[..., None]
    region = scene.canvas[upper + y[0, 0] : upper + y[-1, 0] + 1, left + x[0] : left + x[-1] + 1]
    region[:] = region * (1 - alpha) + alpha * np.clip(light * np.array(scene.tone(rgb, distance)), 0, 255)


def draw_tree(rng, scene, distance, offset, size, rgb):
    """A bush, or a tree with a trunk, `size` m high."""
    x, y = scene.road.project(offset, 0, distance)
    tall = size * scene.road.scale_at(distance)
    rgb = rgb * (0.3 + 0.7 * scene.light.objects)
    if size < 4:
        draw_foliage(rng, scene, (x, y + 0.15 * tall), tall * np.array([rng.uniform(1, 2.5), 1.2]), rgb, distance)
        return
    trunk = np.array([(x, y), (x + rng.normal(0, 0.03) * tall, y - 0.6 * tall)])
    scene.stroke(trunk, np.array([0.12, 0.1, 0.08]) * scene.light.objects, distance, 0.03 * tall)
    for _ in range(rng.integers(1, 4)):
        high = rng.uniform(0.5, 0.9)
        base = x + rng.normal(0, 0.15) * tall, y - rng.uniform(0.1, 1.1 - high) * tall
        draw_foliage(rng, scene, base, tall * np.array([rng.uniform(0.5, 1.1), high]), rgb, distance)


def draw_barrier(rng, scene, distance, offset, side):
    """A panel of a Side's barrier; a guard rail's has a post."""
    road, low, high = scene.road, side.low, side.high
    steps = np.linspace(max(distance, road.distance[-1]), distance + side.panel, 5)
    tone = side.color * scene.light.objects * rng.uniform(0.96, 1.04)
    if low > 0:
        post = road.project(offset, np.array([0, high]), steps[0])
        scene.stroke(post, tone * 0.6, steps[0], 0.15 * (post[0, 1] - post[1, 1]))
    foot = [(0, 0.12 * high, side.foot)] if low == 0 else []
    for bottom, top, brightness in [(low, high, 1), (low + 0.9 * (high - low), high, 1.25), *foot]:
        lower, upper = (road.project(offset, height, steps) for height in (bottom, top))
        scene.fill(np.concatenate([lower, upper[::-1]]), tone * brightness, steps[0])


def random_roadside(rng, road, layout, number):
    """List of Things on a road's left (0) or right (1)."""
    out, side = 2 * number - 1, layout.sides[number]
    edge = float(road.offsets[-number]) + out * (side.shoulder + 0.3)
    far = edge - layout.opposite[0] if layout.opposite and number == 0 else 0.0
    green = random_color(rng, (0.05, 0.06, 0.03), (0.18, 0.2, 0.1))
    things = []
    if rng.random() < 0.85:
        size, gap = rng.choice([rng.uniform(0.5, 2.5), rng.uniform(4, 18)]), rng.uniform(1, 14)
        for distance in rng.uniform(10, 500, rng.integers(4, 75)):
            offset = edge + out * (far + gap + rng.exponential(8) + 0.4 * size)
            tree = offset, size * rng.uniform(0.5, 1.4), green * rng.uniform(0.7, 1.3)
            things.append(Thing(distance, draw_tree, tree))
    if side.high > 0:
        for distance in np.arange(0, rng.uniform(60, 600), side.panel):
            things.append(Thing(distance, draw_barrier, (edge, side), side.panel))
    return things
