"""Cross-sections of other roads than TuSimple's: motorways from an outermost lane, country roads, streets with lines.

A plan is a dict: `kind` of KINDS; `offsets` (N,) m, rising, 0 = the camera; `roles`, one of ROLES per line; `painted`,
(N,) bool, the others are edges without paint; `labeled`, (N,) bool: TuSimple's rule, at most five painted lines, those
of the own lane first; `shoulders` beyond the outer lines, m; `center`, offset of the line to oncoming traffic, or None.
"""

import numpy as np

from .scene import color, draw_layout, draw_style

KINDS = {"motorway": 0.22, "outermost": 0.22, "country": 0.28, "town": 0.28}  # fraction of each
ROLES = {"left": -1, "inner": 0, "right": 1, "center": 0}  # as `scene.draw_style` has them
MOST_LINES = 5


def nearest(painted, own):
    """Which painted lines are labeled, (N,) bool: at most MOST_LINES, from lane `own` outward."""
    order = np.argsort(np.abs(np.arange(len(painted)) - own - 0.5) + 100 * ~painted, kind="stable")[:MOST_LINES]
    labeled = np.zeros(len(painted), bool)
    labeled[order] = True
    return labeled & painted


def section(rng, kind, widths, own, roles, painted, shoulders):
    """Plan with lanes of `widths` m from left to right; the camera is about in the middle of lane `own`."""
    edges = np.concatenate([[0], np.cumsum(widths)])
    aside = rng.normal(0, 0.3) if rng.random() < 0.85 else rng.uniform(-1.3, 1.3)
    painted = np.array(painted)
    return {
        "kind": kind,
        "offsets": edges - (edges[own] + edges[own + 1]) / 2 + aside,
        "roles": roles,
        "painted": painted,
        "labeled": nearest(painted, own),
        "shoulders": shoulders,
        "own": own,
    }


def motorway(rng, kind):
    """Carriageway of two to five lanes; of four or five, seen from an outermost one, if `kind` is "outermost"."""
    lanes = int(rng.integers(4, 6)) if kind == "outermost" else int(rng.integers(2, 5))
    own = int(rng.choice([0, lanes - 1], p=[0.6, 0.4]) if kind == "outermost" else rng.integers(lanes))
    roles = ["left", *["inner"] * (lanes - 1), "right"]
    shoulders = [rng.uniform(0.3, 3.5), rng.uniform(0.5, 5)]
    return section(
        rng, kind, rng.normal(rng.uniform(3.3, 3.9), 0.1, lanes), own, roles, [True] * (lanes + 1), shoulders
    )


def country(rng):
    """Two lanes with any of their three lines, or a narrow road with its edges only."""
    shoulders = rng.uniform(0.05, 0.6, 2) if rng.random() < 0.7 else rng.uniform(0.3, 2.8, 2)
    if rng.random() < 0.12:
        return section(rng, "country", [rng.uniform(2.7, 4.6)], 0, ["right", "right"], [True, True], shoulders)
    painted = [(1, 1, 1), (0, 1, 0), (1, 0, 1), (0, 1, 1), (1, 1, 0)][rng.choice(5, p=[0.42, 0.33, 0.1, 0.1, 0.05])]
    widths = np.full(2, rng.uniform(2.5, 3.8)) + rng.normal(0, 0.1, 2)
    return section(rng, "country", widths, 1, ["right", "center", "right"], np.array(painted, bool), shoulders)


def town(rng):
    """Street with a center line or none, one or two lanes each way, edges mostly without paint."""
    left, right = rng.choice(
        [(1, 1), (1, 2), (2, 2), (2, 1), (0, 1), (0, 2), (0, 3)], p=[0.4, 0.08, 0.2, 0.05, 0.05, 0.12, 0.1]
    )
    count = left + right
    roles = ["inner"] * (count + 1)
    roles[0] = roles[-1] = "right"
    painted = np.ones(count + 1, bool)
    painted[0], painted[-1] = rng.random(2) < 0.35
    if left:
        roles[left] = "center"
        painted[left] = rng.random() < 0.92
    if not painted.any():
        painted[-1] = True
    widths = rng.normal(rng.uniform(2.7, 3.7), 0.12, count)
    parking = np.where(rng.random(2) < 0.55, rng.uniform(2.0, 2.9, 2), rng.uniform(0.1, 0.7, 2))
    return section(rng, "town", widths, int(rng.integers(left, count)), roles, painted, parking)


def draw_plan(rng, kind=None):
    """Random plan, of a given kind of KINDS or of any."""
    kind = kind or str(rng.choice(list(KINDS), p=list(KINDS.values())))
    plan = {"country": country, "town": town}.get(kind, lambda rng: motorway(rng, kind))(rng)
    centers = [offset for offset, role in zip(plan["offsets"], plan["roles"], strict=True) if role == "center"]
    return {**plan, "center": centers[0] if centers else None}


def draw_line(rng, role):
    """Look of a line, as of `scene.draw_style`, never so faint that its label would be a guess."""
    style = draw_style(rng, ROLES[role])
    if role == "center":
        yellow = rng.random() < 0.6
        style["kind"] = str(rng.choice(["double", "dashed", "solid", "mixed"], p=[0.35, 0.4, 0.15, 0.1]))
        style["color"] = color(
            rng, *(((0.62, 0.4, 0.1), (0.95, 0.72, 0.2)) if yellow else ((0.66, 0.67, 0.66), (1, 1, 1)))
        )
        style["gap"] = rng.uniform(0.05, 0.16)
    if role in ("right", "center") and style["kind"].startswith("dots"):
        style["kind"] = "solid"
    return {**style, "opacity": max(style["opacity"], 0.5), "wear": min(style["wear"], 0.6)}


def add_opposite(rng, layout):
    """Add the carriageway beyond a median on the left to a layout, in place: painted and not labeled.

    `opposite` becomes a dict of its lines, their styles and its near and far edge (m), and `far` what lies between the
    road's left edge and that far edge, so that trees and houses stand beyond.
    """
    lanes, width = int(rng.integers(1, 5)), rng.uniform(3.2, 3.8)
    edge = float(layout["offsets"][0]) - layout["shoulders"][0]
    near = edge - rng.choice([rng.uniform(0.6, 3), rng.uniform(3, 14)])
    lines = near - rng.uniform(0.3, 1.5) - width * np.arange(lanes + 1)
    styles = [draw_line(rng, "left" if i == 0 else "right" if i == lanes else "inner") for i in range(lanes + 1)]
    far = float(lines[-1]) - rng.uniform(0.3, 3)
    layout["opposite"] = {"near": near, "far": far, "lines": lines, "styles": styles}
    layout["far"] = [edge - far, 0.0]
    if rng.random() < 0.4:  # no wall between, only grass
        layout["walls"][0] = 0


def plan_layout(rng, road, plan):
    """Layout of a planned road: a dict as of `scene.draw_layout` with what other roads have besides.

    Further entries are `center` of the plan; `opposite` and `far` of `add_opposite`; `marks`, the chance of each kind
    of `marks.PAINTERS` and of "trunks" (shadows) on this road; `decals`, that of arrows and letters; `curbs`, that of a
    curb of two colors; `posts`, that of a row of posts or poles; `rumble`, that of a rumble strip; `dark`,
    how much a shoulder differs from a lane, 0 to 1.
    """
    layout, kind = draw_layout(rng, road, beyond=0), plan["kind"]
    styles, inner = [draw_line(rng, role) for role in plan["roles"]], draw_line(rng, "inner")
    for style, role, painted in zip(styles, plan["roles"], plan["painted"], strict=True):
        if role == "inner" and rng.random() < 0.8:
            style.update({key: inner[key] for key in ("kind", "color", "width", "period", "dash")})
        if not painted:
            style.update({"kind": "solid", "opacity": 0.0})
    layout.update({"styles": styles, "shoulders": [float(v) for v in plan["shoulders"]], "center": plan["center"]})
    often = {
        "crosswalk": 0.25,
        "stop line": 0.15,
        "bars": 0.12,
        "tram": 0.15,
        "gutter": 0.5,
        "manholes": 0.4,
        "colored": 0.15,
    }
    rare = {"bars": 0.04, "gutter": 0.06, "colored": 0.04}
    layout["marks"] = often if kind == "town" else rare
    layout["marks"].update({"tar": 0.35, "trunks": 0.25})
    layout["curbs"], layout["posts"] = 0.2, 0.35
    layout["rumble"] = {"country": 0.2, "town": 0.02}.get(kind, 0.4)
    layout["dark"] = {"country": 0.4, "town": rng.choice([0, 0.3])}.get(kind, 1)
    layout["decals"] = 0.3 if kind == "town" else 0.12
    layout["concrete"] = rng.random() < (0.4 if kind in ("motorway", "outermost") else 0.08)
    if kind in ("country", "town"):
        layout["bridges"] = layout["bridges"][:1] if rng.random() < 0.2 else []
        layout["walls"] = [float(rng.choice([0, 0.85, 2], p=[0.9, 0.06, 0.04])) for _ in range(2)]
    divided = 0.5 if kind in ("motorway", "outermost") or kind == "town" and plan["center"] is None else 0
    if rng.random() < divided:
        add_opposite(rng, layout)
    return layout
