"""Random layouts of roads: the look of lines, pavement, shoulders and barriers."""

from dataclasses import dataclass, replace

import numpy as np

from .canvas import random_color

LINE_KINDS = ("solid", "dashed", "dots", "dots_dashed", "double")
LEFT, INNER, RIGHT = [0.72, 0.06, 0.06, 0, 0.16], [0.08, 0.52, 0.2, 0.17, 0.03], [0.86, 0.08, 0.05, 0, 0.01]
WHITE = (0.66, 0.67, 0.66), (1, 1, 0.98)
YELLOW = (0.62, 0.4, 0.1), (0.95, 0.72, 0.2)


@dataclass(frozen=True)
class Line:
    kind: str  # of LINE_KINDS
    color: np.ndarray
    width: float
    period: float  # from dash to dash
    dash: float
    phase: float  # of the dashes
    opacity: float  # of the paint
    wear: float  # 0 to 1
    joint: float  # from the line to the seam beside it


@dataclass(frozen=True)
class Side:
    """A shoulder, and a wall, a curb or, where `low` is above 0, a guard rail."""

    shoulder: float  # width; also a lane's: a wall's foot isn't one more line
    low: float  # above the ground
    high: float  # 0 for no barrier
    color: np.ndarray
    foot: float  # brightness of the barrier's dirty lowest part
    panel: float  # length of a piece


@dataclass(frozen=True)
class Layout:
    lines: list  # of Line, left to right
    concrete: bool  # or asphalt
    sides: tuple  # left and right Side
    opposite: tuple | None  # lateral positions of the opposite carriageway's edges


def random_line(rng, chances, yellow):
    """Random Line; `chances` are of LINE_KINDS, `yellow` is one."""
    period, dash = (12.2, 3.05) if rng.random() < 0.8 else (rng.uniform(5, 14.6), rng.uniform(1, 4.5))  # 40 and 10 ft
    return Line(
        kind=str(rng.choice(LINE_KINDS, p=chances)),
        color=random_color(rng, *(YELLOW if rng.random() < yellow else WHITE)),
        width=rng.uniform(0.09, 0.16) if rng.random() < 0.85 else rng.uniform(0.15, 0.22),
        period=period,
        dash=min(dash, 0.6 * period),
        phase=rng.uniform(0, period),
        opacity=rng.uniform(0.85, 1) if rng.random() < 0.75 else rng.uniform(0.25, 0.85),
        wear=rng.uniform(0, 0.3) if rng.random() < 0.7 else rng.uniform(0.3, 0.8),
        joint=(1 if rng.random() < 0.5 else -1) * rng.uniform(0.12, 0.45),
    )


def random_lines(rng, count):
    common, lines = random_line(rng, INNER, 0.03), [random_line(rng, LEFT, 0.75)]
    while len(lines) < count - 1:
        line = random_line(rng, INNER, 0.03)
        if rng.random() < 0.75:
            line = replace(common, phase=line.phase, opacity=line.opacity, wear=line.wear, joint=line.joint)
        lines.append(line)
    return [*lines, random_line(rng, RIGHT, 0.01)]


def random_side(rng, narrowest):
    barriers = (0, 0), (0, 0.2), (0.45, 0.75), (0, 0.85), (0, 1.1), (0, 4)
    low, high = rng.choice(barriers, p=[0.22, 0.08, 0.2, 0.22, 0.22, 0.06])
    color = random_color(rng, (0.35, 0.34, 0.32), (0.72, 0.66, 0.56))
    return Side(rng.uniform(narrowest, 4.5), low, high, color, rng.uniform(0.4, 1.3), rng.uniform(3, 7))


def random_layout(rng, road):
    lines, sides = random_lines(rng, len(road.offsets)), (random_side(rng, 0.3), random_side(rng, 0.5))
    edge = road.offsets[0] - sides[0].shoulder - rng.uniform(0.6, 8)
    opposite = (edge - rng.uniform(7, 16), edge) if rng.random() < 0.5 else None
    return Layout(lines, rng.random() < 0.5, sides, opposite)
