"""What is between the road and the camera: dirt, drops and reflections on the windshield, hood, dashboard, wipers.

What is on the windshield is faint or small, so that the lines behind it stay labeled; everything below the border of
the own car is hidden. Images are (HEIGHT, WIDTH, 3) uint8, RGB, and are changed in place; `rng` is a numpy Generator.
"""

import cv2
import numpy as np

from .canvas import fill, random_color, random_noise, stroke
from .geometry import HEIGHT, WIDTH
from .vehicles import CAR_COLORS

X = np.arange(WIDTH, dtype=np.float32)
ACROSS = 2 * X / WIDTH - 1  # -1 at the left border, 1 at the right


def random_dark_tone(rng):
    """Random 8-bit color, nearly black."""
    return tuple(int(v) for v in 255 * random_color(rng, (0.01, 0.01, 0.01), (0.15, 0.15, 0.16)))


def draw_veil(image, alpha, rgb):
    """Lay a color (RGB in 0..1) over an image with alpha (rows, WIDTH) from row HEIGHT - rows on."""
    region = image[HEIGHT - len(alpha) :]
    region[:] = np.clip(region + alpha[..., None] * (255 * np.float32(rgb) - region), 0, 255)


def draw_dirt(rng, image):
    """Dust and streaks: spots of all sizes, or arcs that a wiper left around its joint below the image."""
    x, y = np.meshgrid(np.arange(0, WIDTH, 2, dtype=np.float32), np.arange(0, HEIGHT, 2, dtype=np.float32))
    exponent = 0.8
    if rng.random() < 0.5:
        joint = np.float32([rng.uniform(0.1, 0.9) * WIDTH, HEIGHT * rng.uniform(1.05, 1.5)])
        radius, angle = np.hypot(x - joint[0], y - joint[1]), np.arctan2(x - joint[0], joint[1] - y)
        x, y = radius * np.float32(rng.uniform(0.3, 1.2)), angle * np.float32(rng.uniform(10, 40))
    else:
        exponent = rng.uniform(0.4, 1.3)
    spots = random_noise(rng, exponent, x, y)
    alpha = np.clip(spots - rng.uniform(-0.5, 1.2), 0, 1.5) * np.float32(rng.uniform(0.03, 0.11))
    alpha = cv2.resize(alpha, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)
    draw_veil(image, alpha, random_color(rng, (0.45, 0.42, 0.38), (0.9, 0.9, 0.9)) * image.mean() / 110)


def draw_drops(rng, image):
    """Rain drops on the glass: each shows the scene upside down and out of focus."""
    upside_down = cv2.GaussianBlur(cv2.resize(image, (160, 90), interpolation=cv2.INTER_AREA), (0, 0), 3)[::-1]
    for _ in range(rng.integers(10, 120)):
        x, y, radius = rng.uniform(0, WIDTH), rng.uniform(0, HEIGHT), rng.uniform(1.5, 9)
        rgb = np.clip(upside_down[int(y / 8), int(x / 8)] * rng.uniform(0.6, 1.3), 0, 255)
        axes = (int(16 * radius), int(16 * radius * rng.uniform(0.8, 1.6)))
        tone = tuple(int(v) for v in rgb)
        cv2.ellipse(image, (int(16 * x), int(16 * y)), axes, 0, 0, 360, tone, -1, cv2.LINE_AA, 4)


def draw_reflection(rng, image):
    """The dashboard mirrored in the windshield: pale sheets, slats and long edges over the lower part of the image."""
    layer = np.zeros((HEIGHT // 2, WIDTH), np.uint8)
    for _ in range(rng.integers(1, 6)):
        middle, size = rng.uniform(0, 1, 2) * (WIDTH, HEIGHT / 2), rng.uniform(30, 350)
        tone = int(rng.integers(40, 255))
        kind = rng.choice(3)
        if kind == 0:
            fill(layer, middle + size * np.array([(-1, -0.2), (0.9, -0.25), (1.1, 0.2), (-1.2, 0.3)]), tone)
        elif kind == 1:
            for step in np.linspace(-1, 1, int(rng.integers(4, 20))):
                slat = middle + size * np.array([(step, -0.1), (1.15 * step, 0.15)])
                stroke(layer, slat, tone, size * rng.uniform(0.01, 0.05))
        else:
            ends = middle + size * np.array([(-2, rng.uniform(-0.6, 0.6)), (2, rng.uniform(-0.6, 0.6))])
            stroke(layer, ends, tone, rng.uniform(2, 14))
    layer = cv2.GaussianBlur(layer, (0, 0), rng.uniform(1.5, 8))
    alpha = layer * np.float32(rng.uniform(0.05, 0.25) / 255)
    draw_veil(image, alpha, random_color(rng, (0.5, 0.5, 0.5), (1, 0.97, 0.9)))


def draw_mirror(rng, image):
    """A rear-view mirror, a camera's holder or a sticker at the upper border, dark."""
    width, height = rng.uniform(40, 400), rng.uniform(15, 90)
    middle = np.array([rng.uniform(0, WIDTH), rng.uniform(-20, 20)])
    turn = np.linspace(0, 2 * np.pi, 24)
    circle = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    outline = middle + np.sign(circle) * np.abs(circle) ** 0.5 * (width / 2, height)  # nearly a rectangle
    fill(image, outline, random_dark_tone(rng))


def draw_text(rng, image):
    """A faint watermark somewhere, or a camera's bright date at a border."""
    clock = rng.random() < 0.5
    letters = list("0123456789:/-" if clock else "abcdefghilmnoprstuvwy.ABCDEFGHKLMNOPRSTW")
    text = "".join(rng.choice(letters, rng.integers(6, 22)))
    size = rng.uniform(0.6, 1.2) if clock else rng.uniform(0.8, 2.5)
    low, high = ((0.9, 0.98) if rng.random() < 0.7 else (0.04, 0.08)) if clock else (0.1, 0.95)
    place = int(rng.uniform(0, 0.6) * WIDTH), int(rng.uniform(low, high) * HEIGHT)
    layer = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.putText(layer, text, place, int(rng.integers(0, 5)), size, 255, int(rng.integers(1, 4)), cv2.LINE_AA)
    strength = rng.uniform(0.6, 1) if clock else rng.uniform(0.12, 0.5)
    draw_veil(image, layer * np.float32(strength / 255), (1, 1, 1) if rng.random() < 0.8 else (1, 0.85, 0.1))


def draw_windshield(rng, image, light):
    """Dirt, drops, reflections and a mirror, each with its own chance."""
    for draw, chance in (
        (draw_drops, 0.3 if light["wet"] else 0.01),
        (draw_dirt, 0.25),
        (draw_reflection, 0.1 if light["night"] else 0.25),
        (draw_mirror, 0.12),
    ):
        if rng.random() < chance:
            draw(rng, image)


def random_border(rng, base, bend):
    """Upper border of a hood or a dashboard, (WIDTH,) float32 rows: an arc, often askew, with a bump or two.

    Its middle is at row `base`, its sides are `bend` rows lower.
    """
    power, middle = rng.uniform(1.7, 4), rng.normal(0, 0.15)
    border = base + bend * np.abs(ACROSS - middle) ** power + rng.normal(0, 8) * ACROSS
    for _ in range(rng.choice([0, 1, 2], p=[0.5, 0.3, 0.2])):
        middle, half = rng.uniform(-0.9, 0.9), rng.uniform(0.03, 0.35)
        border -= rng.uniform(3, 22) * np.clip(1.5 - np.abs(ACROSS - middle) / half, 0, 1)
    return border.astype(np.float32)


def covered_rows(border, soft):
    """Rows of the image that a part of the own car with that border covers, (rows, 1) float32."""
    first = int(np.clip(border.min() - soft - 1, 0, HEIGHT - 1))
    return np.arange(first, HEIGHT, dtype=np.float32)[:, None]


def cover(image, border, soft, rgb):
    """Lay `rgb`, (rows, WIDTH, 3) float32, over the last rows of an image, below a border that is `soft` rows wide."""
    alpha = np.clip((covered_rows(border, soft) - border) / soft + 0.5, 0, 1)[..., None]
    region = image[HEIGHT - len(rgb) :]
    region[:] = region + alpha * (255 * np.clip(rgb, 0, 1) - region)


def draw_hood(rng, image, border, light):
    """A car's hood below a border: paint, creases, and the sky, trees and lamps that it mirrors."""
    shine = rng.uniform(0.1, 0.7)
    color = np.float32(rng.choice(CAR_COLORS))
    color *= np.float32(rng.uniform(0.5, 1.1) * (0.15 if light["night"] else 0.3 + 0.7 * light["objects"]))
    gradient, rim = rng.uniform(-0.5, 0.5), rng.uniform(-0.5, 1.2)
    creases = [(rng.uniform(-1.2, 1.2), rng.uniform(-0.5, 0.5), rng.uniform(-0.5, 0.6)) for _ in range(rng.integers(5))]
    soft = rng.uniform(1, 5)
    below = covered_rows(border, soft) - border
    depth = below / max(float((HEIGHT - border).max()), 20.0)
    source_y = np.clip(0.5 * HEIGHT - rng.uniform(1.5, 6) * below, 0, HEIGHT - 1)
    source_x = np.broadcast_to(WIDTH / 2 + (X - WIDTH / 2) * rng.uniform(0.6, 1.2), below.shape)
    blurred = cv2.GaussianBlur(cv2.resize(image, (320, 180), interpolation=cv2.INTER_AREA), (0, 0), 1.5)
    mirror = cv2.remap(blurred, source_x.astype(np.float32) / 4, source_y / 4, cv2.INTER_LINEAR)
    rgb = color * (1 + gradient * depth + rim * np.exp(-np.abs(below) / 5))[..., None]
    for where, slant, strength in creases:
        crease = np.exp(-(((ACROSS - where - slant * depth) / 0.02) ** 2))
        rgb *= 1 + np.float32(strength) * crease[..., None]
    cover(image, border, soft, rgb + np.float32(shine) * (mirror / np.float32(255) - 0.4 * rgb))


def draw_dashboard(rng, image, border, light):
    """A dashboard below a border: dark, grained, with vents, often blurred."""
    color = random_color(rng, (0.01, 0.01, 0.012), (0.2, 0.19, 0.18)) * np.float32(0.25 if light["night"] else 1)
    grain, rim, slats = rng.uniform(0, 0.3), rng.uniform(-0.4, 1.5), rng.random() < 0.4
    middle, half, pitch = rng.uniform(-0.8, 0.8), rng.uniform(0.1, 0.5), rng.uniform(8, 25)
    soft = rng.uniform(1, 7)
    rows = covered_rows(border, soft)
    below = rows - border
    texture = random_noise(rng, 0.7, np.broadcast_to(X, below.shape).copy(), np.broadcast_to(rows, below.shape) * 2)
    tone = 1 + grain * texture + rim * np.exp(-np.abs(below) / 4) - 0.3 * np.clip(below / 150, 0, 1)
    if slats:
        vent = (np.abs(ACROSS - middle) < half) & (below > 8) & (below < 40) & (X % pitch < pitch / 2)
        tone -= 0.7 * vent
    cover(image, border, soft, color * tone[..., None])


def draw_wipers(rng, image, border):
    """Wiper blades that rest above a border: dark and nearly level."""
    for _ in range(rng.integers(1, 3)):
        start, length, rise = rng.uniform(-0.1, 0.8) * WIDTH, rng.uniform(200, 600), rng.uniform(0, 0.12)
        x = np.linspace(start, start + length, 8)
        y = np.interp(x, X, border) + rng.uniform(-8, 12) - rise * (x - start) * rng.choice([-1, 1])
        stroke(image, np.stack([x, y], axis=1), random_dark_tone(rng), rng.uniform(2, 8))


def draw_own_car(rng, image, light):
    """Hood, dashboard, both or nothing of the own car at the lower border, and black bars of a video.

    Returns:
        (WIDTH,) float, row per column at and below which the road is hidden; HEIGHT where nothing hides it.
    """
    kind = str(rng.choice(["none", "hood", "dashboard", "both"], p=[0.4, 0.3, 0.15, 0.15]))
    lowest = np.full(WIDTH, float(HEIGHT), np.float32)
    if kind in ("hood", "both"):
        border = random_border(rng, rng.uniform(0.8, 0.97) * HEIGHT, rng.uniform(0, 70))
        draw_hood(rng, image, border, light)
        lowest = np.minimum(lowest, border)
    if kind in ("dashboard", "both"):
        base = rng.uniform(0.93, 0.99) if kind == "both" else rng.uniform(0.82, 0.98)
        border = random_border(rng, base * HEIGHT, rng.uniform(-25, 25))
        draw_dashboard(rng, image, border, light)
        lowest = np.minimum(lowest, border)
    if rng.random() < 0.3:
        draw_wipers(rng, image, lowest)
    if rng.random() < 0.05:
        bar = int(rng.uniform(8, 60))
        image[HEIGHT - bar :] = 0
        image[: int(bar * rng.choice([0, 1]))] = 0
        lowest = np.minimum(lowest, HEIGHT - bar)
    return np.minimum(lowest, HEIGHT)
