"""Cars and trucks as a dash-cam sees them, and their places on a road."""

from dataclasses import dataclass

import cv2
import numpy as np

from .canvas import random_color
from .geometry import LANE_WIDTH
from .scene import Scene, Thing

CAR_COLORS = [(0.85, 0.86, 0.86)] * 3 + [(0.5, 0.51, 0.53), (0.62, 0.63, 0.65), (0.3, 0.31, 0.33)] + [(0.08,) * 3] * 3
CAR_COLORS += [(0.33, 0.06, 0.06), (0.12, 0.18, 0.35), (0.5, 0.45, 0.35), (0.2, 0.24, 0.22)]
TIRE, HUB, DARK, PLATE, HEADLIGHT = (0.03,) * 3, (0.35,) * 3, (0.07,) * 3, (0.7,) * 3, (0.95, 0.93, 0.85)


@dataclass(frozen=True)
class VehicleKind:
    """Form of a vehicle; lists: its rear's right half, fractions of width (0 = middle) and height."""

    size: tuple  # width, height, length
    cabin_ends: tuple  # fractions of the length
    body: list
    cabin: list  # empty: a box
    window: list


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
BOX = [(0.5, 0.28), (0.5, 1)], [], []
VEHICLES = {
    "sedan": VehicleKind((1.8, 1.45, 4.6), (0.12, 0.75), *SEDAN),
    "suv": VehicleKind((1.9, 1.75, 4.7), (0.01, 0.75), *WAGON),
    "van": VehicleKind((1.95, 1.95, 5.0), (0.01, 0.9), *WAGON),
    "box": VehicleKind((2.3, 3.1, 6.5), (0, 1), *BOX),
    "truck": VehicleKind((2.5, 3.9, 14.0), (0, 1), *BOX),
}
FREQUENCY = [0.45, 0.32, 0.1, 0.05, 0.08]  # of each of VEHICLES


@dataclass
class Vehicle:
    """A vehicle while it is drawn. Its points are (across, up, along), fractions of its size."""

    scene: Scene
    kind: VehicleKind
    offset: float
    distance: float  # of its rear
    size: np.ndarray  # width, height, length

    def project(self, points):
        """Image points (N, 2) of its points."""
        across, up, along = np.array(points, float).T
        width, height, length = self.size
        return self.scene.road.project(self.offset + across * width, up * height, self.distance + along * length)

    def fill(self, points, rgb):
        """Fill a polygon with its corners cut off."""
        start, end = np.array(points, float), np.roll(points, -1, axis=0)
        cut = (end - start) * np.minimum(0.15, 0.04 / np.linalg.norm(end - start, axis=1, keepdims=True))
        corners = np.stack([start + cut, end - cut], axis=1).reshape(-1, 3)
        self.scene.fill(self.project(corners), np.asarray(rgb) * self.scene.light.objects, self.distance)

    def fill_both(self, half, along, rgb):
        """Fill an area of which `half`, points (across, up), is the right half."""
        self.fill([(a, z, along) for a, z in half] + [(-a, z, along) for a, z in half[::-1]], rgb)


def draw_shadow(vehicle):
    scene, light, (width, height, length) = vehicle.scene, vehicle.scene.light, vehicle.size
    soft = 0.08 * scene.road.scale_at(vehicle.distance)
    base = np.array([(a, 0, d) for a in (-0.5, 0.5) for d in (0, 1)])
    shift = np.array([light.sun_side * height / width, 0, -light.sun_ahead * height / length])
    hull = cv2.convexHull(np.float32(vehicle.project(np.concatenate([base, base + shift]))))[:, 0]
    scene.darken(hull, 0.9 * light.sun, soft)
    under = [(-0.53, 0, -0.02), (0.53, 0, -0.02), (0.5, 0, 0.9), (-0.5, 0, 0.9)]
    scene.darken(vehicle.project(under), 0.75, 1.5 * soft)


def draw_side(vehicle, radius, paint, glass):
    """The side that the camera sees; the wheels' `radius` is a fraction of the height."""
    kind, (near, far) = vehicle.kind, vehicle.kind.cabin_ends
    side = -0.5 * np.sign(vehicle.offset)
    top, low, belt = 0.8 * side, kind.body[0][1], 0.99 * kind.body[-1][1]
    vehicle.fill([(side, low, 0), (side, belt, 0), (side, 0.92 * belt, 0.97), (side, low, 1)], paint)
    if kind.window:
        cabin = [(side, belt, near), (top, 0.97, near + 0.06), (top, 0.97, far - 0.14), (side, belt, far)]
        vehicle.fill(cabin, paint)
        for start, end in ((near + 0.07, 0.46), (0.48, far - 0.07)):
            upper = [(top, 0.91, start + 0.03), (top, 0.91, min(end, far - 0.17))]
            vehicle.fill([(side, belt, start), *upper, (side, belt, end)], glass)
    turn = np.linspace(0, 2 * np.pi, 14)
    for middle in (0.18, 0.82) if kind.window else (0.08, 0.17, 0.7, 0.92):
        for reach, rgb in ((radius, TIRE), (0.55 * radius, HUB)):
            along = middle + reach * vehicle.size[1] / vehicle.size[2] * np.cos(turn)
            vehicle.fill(np.stack([np.full(14, side), radius + reach * np.sin(turn), along], axis=1), rgb)


def draw_rear(vehicle, paint, glass):
    kind, (near, far) = vehicle.kind, vehicle.kind.cabin_ends
    if kind.window:
        roof = [(0.3, 1, near), (0.4, 0.97, near + 0.06), (0.4, 0.97, far - 0.14)]
        vehicle.fill(roof + [(-a, z, d) for a, z, d in roof[::-1]], paint)
        vehicle.fill_both(kind.cabin, near, paint * 0.9)
        vehicle.fill_both(kind.window, near, glass)
        a, z = kind.body[-1]
        vehicle.fill([(-a, z, 0), (-a, z, near), (a, z, near), (a, z, 0)], paint * 1.15)
    vehicle.fill_both(kind.body, 0, paint)
    vehicle.fill_both([kind.body[0], (0.47, kind.body[0][1] + 0.1)], 0, DARK)  # bumper


def draw_vehicle(rng, scene, distance, offset, kind, oncoming):
    """A VehicleKind from behind, or `oncoming`."""
    size = np.array(kind.size) * rng.uniform(0.92, 1.08, 3)
    if kind.window:
        paint, radius = rng.choice(CAR_COLORS) * rng.uniform(0.8, 1.1), 0.33 / size[1]
        high = kind.body[-1][1] - 0.03
        low, inner = high - rng.uniform(0.08, 0.2), rng.uniform(0.26, 0.38)
    else:
        paint, radius = random_color(rng, (0.35, 0.3, 0.25), (0.9, 0.9, 0.88)), 0.5 / size[1]
        low, high, inner = 0.3, 0.33, 0.35
    glass = random_color(rng, (0.04, 0.05, 0.06), (0.22, 0.25, 0.27))
    vehicle = Vehicle(scene, kind, offset, distance, size)
    draw_shadow(vehicle)
    for middle in (-0.41, 0.41):
        vehicle.fill([(middle + a, z * radius, 0) for a, z in ((-0.07, 0), (-0.07, 1.5), (0.07, 1.5), (0.07, 0))], TIRE)
    if abs(offset) > 0.35 * size[0]:
        draw_side(vehicle, radius, paint * rng.uniform(0.5, 0.85), glass)
    draw_rear(vehicle, paint, glass)
    lamp = (0.9, 0.12, 0.1) if rng.random() < 0.25 else (0.45, 0.05, 0.05)  # braking or not
    for sign in (-1, 1):
        corners = [(0.49, low), (0.49, high), (inner, high - 0.02), (inner + 0.02, low)]
        vehicle.fill([(sign * a, z, 0) for a, z in corners], HEADLIGHT if oncoming else lamp)
    low = rng.uniform(0.3, 0.46)
    if not oncoming:  # license plate
        vehicle.fill_both([(0.09, low), (0.09, low + 0.12 / size[1])], 0, PLATE)


def random_traffic(rng, road, layout):
    """List of Things on both carriageways."""
    places = []
    density = rng.choice([0.0, 0.3, 0.6, 1.0], p=[0.1, 0.35, 0.35, 0.2])
    for left, right in zip(road.offsets, road.offsets[1:], strict=False):
        middle = (left + right) / 2
        distance = rng.uniform(12, 40) if abs(middle) < LANE_WIDTH / 2 else rng.uniform(0.5, 40)
        while distance < 160 and 2.6 < right - left < 6:
            if rng.random() < density:
                places.append((distance, middle + rng.normal(0, 0.25), False))
            distance += VEHICLES["truck"].size[2] + rng.uniform(6, 60)
    if layout.opposite:
        lanes = np.arange(layout.opposite[0] + 2, layout.opposite[1] - 1.5, LANE_WIDTH)
        distances = rng.uniform(15, 350, rng.integers(0, 14))
        places += [(distance, rng.choice(lanes), True) for distance in distances]
    vehicles = []
    for distance, offset, oncoming in places:
        kind = VEHICLES[str(rng.choice(list(VEHICLES), p=FREQUENCY))]
        approach = 2.0 if oncoming else rng.uniform(-0.1, 0.0)
        vehicles.append(Thing(distance, draw_vehicle, (offset, kind, oncoming), kind.size[2], approach))
    return vehicles
