"""Random layouts of roads: line styles, shoulders, walls, bridges; cross-sections of other roads than TuSimple's.

`rng` is a numpy Generator.
"""

from typing import NamedTuple

import numpy as np

from .canvas import random_color
from .geometry import LANE_WIDTH, ROAD_ROWS

ROAD_KINDS = {"motorway": 0.22, "outermost": 0.22, "country": 0.28, "town": 0.28}  # fraction of each
ROLES = {"left": -1, "inner": 0, "right": 1, "center": 0}  # as `random_style` has them
YELLOW = (0.62, 0.4, 0.1), (0.95, 0.72, 0.2)
ALIKE = ("kind", "color", "width", "period", "dash")  # what a road's inner lines have in common


def random_style(rng, edge):
    """Random look of one lane line: left edge (-1), between lanes (0), right edge (1)."""
    kinds = ["solid", "dashed", "dots", "dots_dashed", "double", "mixed"]
    left, right = [0.72, 0.06, 0.06, 0, 0.16, 0], [0.86, 0.08, 0.05, 0, 0.01, 0]
    inner = [0.08, 0.5, 0.2, 0.17, 0.03, 0.02]
    yellow = rng.random() < {-1: 0.75, 0: 0.03, 1: 0.01}[edge]
    period, dash = (12.2, 3.05) if rng.random() < 0.8 else (rng.uniform(5, 14.6), rng.uniform(1, 4.5))  # m, 40, 10 ft
    return {
        "kind": str(rng.choice(kinds, p={-1: left, 0: inner, 1: right}[edge])),
        "width": rng.uniform(0.09, 0.16) if rng.random() < 0.85 else rng.uniform(0.15, 0.22),  # m
        "color": random_color(rng, *(YELLOW if yellow else ((0.66, 0.67, 0.66), (1, 1, 0.98)))),
        "opacity": rng.uniform(0.85, 1) if rng.random() < 0.75 else rng.uniform(0.25, 0.85),
        "wear": rng.uniform(0, 0.3) if rng.random() < 0.7 else rng.uniform(0.3, 0.8),
        "period": period,
        "dash": min(dash, 0.6 * period),
        "phase": rng.uniform(0, period),
        "joint": (1 if rng.random() < 0.5 else -1) * rng.uniform(0.12, 0.45),  # m from the paint to the seam beside it
        "gap": 0.06,  # m between the stripes of a double line
    }


def random_layout(rng, road, beyond=0.35):
    """Random line styles, surface, shoulders, walls and bridges along a road: a dict that the drawing reads.

    `offsets` (m), `positions` ((ROAD_ROWS,) x in px) and `styles` have one entry per painted line: the labeled ones
    and, with chance `beyond`, where two or more are labeled on a side of the car, one more that TuSimple leaves out.
    """
    left = [road.offsets[0] - LANE_WIDTH] if (road.offsets < 0).sum() > 1 and rng.random() < beyond else []
    right = [road.offsets[-1] + LANE_WIDTH] if (road.offsets > 0).sum() > 1 and rng.random() < beyond else []
    ramps = []
    for side, sign in ((left, 1), (right, -1)):  # some of these lines are those of a ramp that joins or leaves the road
        toward = (1 if rng.random() < 0.5 else -1) * rng.uniform(0.03, 0.12) * (road.distance - rng.uniform(10, 60))
        aside = np.clip(toward, 0, LANE_WIDTH - 0.5) * sign if rng.random() < 0.4 else 0
        ramps.append([road.x_at(np.arange(ROAD_ROWS), u + aside) for u in side])
    count = len(left) + len(road.offsets) + len(right)
    styles = [random_style(rng, (i == count - 1) - (i == 0)) for i in range(count)]
    inner = random_style(rng, 0)
    for style in styles[1:-1]:
        if rng.random() < 0.75:  # a freeway's inner lines mostly look alike
            style.update({key: inner[key] for key in ALIKE})
    bridges = rng.uniform(5, 250, rng.choice([0, 1, 2], p=[0.7, 0.22, 0.08]))  # m ahead
    walls = ([0.4, 0.38, 0.17, 0.05], [0.6, 0.23, 0.1, 0.07])
    return {
        "offsets": np.concatenate([left, road.offsets, right]).astype(np.float32),
        "positions": [*ramps[0], *road.lines.T, *ramps[1]],
        "styles": styles,
        "concrete": rng.random() < 0.5,
        # m from the outer line; as wide as a lane too, so that a wall's foot a lane away isn't taken for one more line
        "shoulders": [rng.uniform(0.3, 4.5), rng.uniform(0.5, 4.5)],
        "walls": [rng.choice([0, 0.85, 1.1, 4], p=p) for p in walls],  # m high
        "bridges": [{"distance": d, "deep": rng.uniform(8, 30), "shadow": d + rng.uniform(-8, 8)} for d in bridges],
        # chances: of each kind of ground.MARKS and of "trunks" (shadows), of arrows and letters, of a rumble strip,
        # of a curb of two colors, of a row of posts or poles
        "marks": {},
        "decals": 0.12,
        "rumble": 0.4,
        "curbs": 0.0,
        "posts": 0.0,
        "dark": 1.0,  # how much a shoulder differs from a lane, 0 to 1
        "center": None,  # m, of the line to oncoming traffic
        "opposite": None,  # of add_opposite
        "far": [0.0, 0.0],  # m on each side from the road's edge to where trees and houses may stand
    }


def without_lines(layout):
    """A layout whose lines have no paint and no dots; joints, shoulders, walls stay."""
    for style in layout["styles"] + (layout["opposite"]["styles"] if layout["opposite"] else []):
        style.update({"kind": "solid", "opacity": 0.0})
    return layout


class Plan(NamedTuple):
    """Cross-section of a road with N lines, from left to right."""

    kind: str  # of ROAD_KINDS
    offsets: np.ndarray  # (N,) m, 0 = the camera
    roles: list  # of ROLES
    painted: np.ndarray  # (N,) bool, the others are edges without paint
    shoulders: list  # beyond the outer lines, m
    own_lane: int  # its number

    @property
    def labeled(self):
        """(N,) bool, the lines with a label: as TuSimple has it, at most five painted ones, the own lane's first."""
        away = np.abs(np.arange(len(self.painted)) - self.own_lane - 0.5) + 100 * ~self.painted
        labeled = np.zeros(len(self.painted), bool)
        labeled[np.argsort(away, kind="stable")[:5]] = True
        return labeled & self.painted

    @property
    def center(self):
        """Offset (m) of the line to oncoming traffic, or None."""
        return self.offsets[self.roles.index("center")] if "center" in self.roles else None


def random_cross_section(rng, kind, widths, own_lane, roles, painted, shoulders):
    """Plan with lanes of `widths` m from left to right; the camera is about in the middle of lane `own_lane`."""
    edges = np.concatenate([[0], np.cumsum(widths)])
    aside = rng.normal(0, 0.3) if rng.random() < 0.85 else rng.uniform(-1.3, 1.3)
    offsets = edges - (edges[own_lane] + edges[own_lane + 1]) / 2 + aside
    return Plan(kind, offsets, roles, np.array(painted, bool), shoulders, own_lane)


def random_motorway(rng, kind):
    """Carriageway of two to five lanes; of four or five, seen from an outermost one, if `kind` is "outermost"."""
    outermost = kind == "outermost"
    lanes = int(rng.integers(4, 6)) if outermost else int(rng.integers(2, 5))
    own_lane = int(rng.choice([0, lanes - 1], p=[0.6, 0.4]) if outermost else rng.integers(lanes))
    roles = ["left", *["inner"] * (lanes - 1), "right"]
    shoulders = [rng.uniform(0.3, 3.5), rng.uniform(0.5, 5)]
    widths = rng.normal(rng.uniform(3.3, 3.9), 0.1, lanes)
    return random_cross_section(rng, kind, widths, own_lane, roles, [True] * (lanes + 1), shoulders)


def random_country(rng):
    """Two lanes with any of their three lines, or a narrow road with its edges only."""
    shoulders = rng.uniform(0.05, 0.6, 2) if rng.random() < 0.7 else rng.uniform(0.3, 2.8, 2)
    if rng.random() < 0.12:
        return random_cross_section(
            rng, "country", [rng.uniform(2.7, 4.6)], 0, ["right", "right"], [True, True], shoulders
        )
    painted = [(1, 1, 1), (0, 1, 0), (1, 0, 1), (0, 1, 1), (1, 1, 0)][rng.choice(5, p=[0.42, 0.33, 0.1, 0.1, 0.05])]
    widths = np.full(2, rng.uniform(2.5, 3.8)) + rng.normal(0, 0.1, 2)
    return random_cross_section(rng, "country", widths, 1, ["right", "center", "right"], painted, shoulders)


def random_town(rng):
    """Street with a center line or none, one or two lanes each way, edges mostly without paint."""
    lanes = [(1, 1), (1, 2), (2, 2), (2, 1), (0, 1), (0, 2), (0, 3)]
    left, right = rng.choice(lanes, p=[0.4, 0.08, 0.2, 0.05, 0.05, 0.12, 0.1])
    count = left + right
    roles = ["right", *["inner"] * (count - 1), "right"]
    painted = np.ones(count + 1, bool)
    painted[0], painted[-1] = rng.random(2) < 0.35
    if left:
        roles[left] = "center"
        painted[left] = rng.random() < 0.92
    if not painted.any():
        painted[-1] = True
    widths = rng.normal(rng.uniform(2.7, 3.7), 0.12, count)
    parking = np.where(rng.random(2) < 0.55, rng.uniform(2.0, 2.9, 2), rng.uniform(0.1, 0.7, 2))
    return random_cross_section(rng, "town", widths, int(rng.integers(left, count)), roles, painted, parking)


def random_plan(rng, kind=None):
    """Random plan, of a given kind of ROAD_KINDS or of any."""
    kind = kind or str(rng.choice(list(ROAD_KINDS), p=list(ROAD_KINDS.values())))
    if kind == "country":
        return random_country(rng)
    return random_town(rng) if kind == "town" else random_motorway(rng, kind)


def random_planned_style(rng, role):
    """Random look of a line of one of ROLES, never so faint that its label would be a guess."""
    style = random_style(rng, ROLES[role])
    if role == "center":
        yellow = rng.random() < 0.6
        style["kind"] = str(rng.choice(["double", "dashed", "solid", "mixed"], p=[0.35, 0.4, 0.15, 0.1]))
        style["color"] = random_color(rng, *(YELLOW if yellow else ((0.66, 0.67, 0.66), (1, 1, 1))))
        style["gap"] = rng.uniform(0.05, 0.16)
    if role in ("right", "center") and style["kind"].startswith("dots"):
        style["kind"] = "solid"
    return {**style, "opacity": max(style["opacity"], 0.5), "wear": min(style["wear"], 0.6)}


def add_opposite(rng, layout):
    """Add the carriageway beyond a median on the left to a layout, in place: painted and not labeled.

    `opposite` becomes a dict of its lines, their styles and its near and far edge (m).
    """
    lanes, width = int(rng.integers(1, 5)), rng.uniform(3.2, 3.8)
    edge = float(layout["offsets"][0]) - layout["shoulders"][0]
    near = edge - rng.choice([rng.uniform(0.6, 3), rng.uniform(3, 14)])
    lines = near - rng.uniform(0.3, 1.5) - width * np.arange(lanes + 1)
    styles = [random_planned_style(rng, role) for role in ["left", *["inner"] * (lanes - 1), "right"]]
    far = float(lines[-1]) - rng.uniform(0.3, 3)
    layout["opposite"] = {"near": near, "far": far, "lines": lines, "styles": styles}
    layout["far"] = [edge - far, 0.0]
    if rng.random() < 0.4:  # no wall between, only grass
        layout["walls"][0] = 0


def random_planned_layout(rng, road, plan):
    """Layout of a planned road: as of `random_layout`, with what other roads have besides."""
    layout, kind = random_layout(rng, road, beyond=0), plan.kind
    styles, inner = [random_planned_style(rng, role) for role in plan.roles], random_planned_style(rng, "inner")
    for style, role, painted in zip(styles, plan.roles, plan.painted, strict=True):
        if role == "inner" and rng.random() < 0.8:
            style.update({key: inner[key] for key in ALIKE})
        if not painted:
            style.update({"kind": "solid", "opacity": 0.0})
    marks = {"bars": 0.04, "gutter": 0.06, "colored": 0.04}
    if kind == "town":
        marks = {"crosswalk": 0.25, "stop line": 0.15, "bars": 0.12, "tram": 0.15, "gutter": 0.5}
        marks |= {"manholes": 0.4, "colored": 0.15}
    layout.update({"styles": styles, "shoulders": [float(v) for v in plan.shoulders], "center": plan.center})
    layout.update({"marks": {**marks, "tar": 0.35, "trunks": 0.25}, "curbs": 0.2, "posts": 0.35})
    layout["rumble"] = {"country": 0.2, "town": 0.02}.get(kind, 0.4)
    layout["dark"] = {"country": 0.4, "town": rng.choice([0, 0.3])}.get(kind, 1)
    layout["decals"] = 0.3 if kind == "town" else 0.12
    layout["concrete"] = rng.random() < (0.4 if kind in ("motorway", "outermost") else 0.08)
    if kind in ("country", "town"):
        layout["bridges"] = layout["bridges"][:1] if rng.random() < 0.2 else []
        layout["walls"] = [float(rng.choice([0, 0.85, 2], p=[0.9, 0.06, 0.04])) for _ in range(2)]
    divided = 0.5 if kind in ("motorway", "outermost") or kind == "town" and plan.center is None else 0
    if rng.random() < divided:
        add_opposite(rng, layout)
    return layout
