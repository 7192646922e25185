"""SVG figures: axes, markers and text, without a plotting library.

Here is what a figure holds and where; `figure.svg` says it in SVG, and `figure.css` has colors and
fonts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

WIDE_ENOUGH = 50.0
"""From this ratio of largest to smallest on, positive values get a logarithmic axis."""


@dataclass(frozen=True)
class Scale:
    """Maps values to pixels."""

    low: float
    high: float
    start: float
    """Pixel of the smallest value."""
    end: float
    """Of the largest; smaller than `start` for an axis that runs up or backwards."""
    log: bool = False
    """Whether equal ratios are equally far apart."""
    whole: bool = False
    """Whether there is nothing between whole numbers."""

    def __call__(self, value: float) -> float:
        """Returns the pixel of a value; values outside are put at the edge."""
        low, high, at = self.low, self.high, min(max(value, self.low), self.high)
        if self.log:
            low, high, at = map(math.log10, (low, high, at))
        return self.start + (at - low) / (high - low) * (self.end - self.start)

    def ticks(self, max_ticks: int = 6) -> list[tuple[float, str]]:
        """Returns round values within, and how they are written."""
        if self.log:
            return self._decades(max_ticks)
        raw = (self.high - self.low) / max_ticks
        power = 10.0 ** math.floor(math.log10(raw))
        steps = (m * power for m in (1, 2, 2.5, 5, 10) if not self.whole or m != 2.5)
        step = next(step for step in steps if step >= raw * (1 - 1e-9))
        step = max(step, 1.0) if self.whole else step
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        digits = max(0, -math.floor(math.log10(step) + 1e-9) + (step / power == 2.5))
        big = max(abs(self.low), abs(self.high)) >= 1e5 or digits > 4
        values = [i * step for i in range(first, last + 1)]
        if not big:
            return [(v, f"{v:.{digits}f}") for v in values]
        # As many digits as tell the ticks of a narrow range apart.
        written = ([f"{v:.{n}g}" for v in values] for n in range(3, 17))
        names = next((found for found in written if len({*found}) == len(found)), [])
        return list(zip(values, names, strict=False))

    def _decades(self, max_ticks: int) -> list[tuple[float, str]]:
        first = math.ceil(math.log10(self.low) - 1e-9)
        last = math.floor(math.log10(self.high) + 1e-9)
        apart = max(1, math.ceil((last - first + 1) / max_ticks))
        powers = range(first, last + 1, apart)
        found = [(10.0**p, f"{10.0**p:g}" if abs(p) <= 3 else f"1e{p}") for p in powers]
        if len(found) > 1:
            return found
        ends = (self.low, math.sqrt(self.low * self.high), self.high)
        return [(v, f"{v:.2g}") for v in ends]


def scale(values: Iterable[float], start: float, end: float, log: bool | None = None) -> Scale:
    """Returns a scale with all values, of which there is one, and some air around them.

    With `log` none it is logarithmic where the values ask for it and are positive.
    """
    found = list(values)
    low, high = min(found), max(found)
    if log is None:
        log = low > 0 and high / low >= WIDE_ENOUGH
    if log:
        low, high = math.log10(low), math.log10(high)
    air = 0.05 * (high - low) or 0.05 * abs(high) or 0.5
    low, high = low - air, high + air
    if log:
        low, high = 10.0 ** max(low, -300), 10.0 ** min(high, 300)
    return Scale(low, high, start, end, log)


@dataclass(frozen=True)
class Frame:
    """The rectangle that a figure's data lie in, and its two axes."""

    x: Scale
    y: Scale
    x_title: str
    y_title: str
    max_ticks: int = 6

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Pixels of its left, top, right and bottom."""
        left, right = sorted((self.x.start, self.x.end))
        top, bottom = sorted((self.y.start, self.y.end))
        return left, top, right, bottom


def px(value: float) -> str:
    """Returns a coordinate, short."""
    return f"{value:.1f}".rstrip("0").rstrip(".")


def path(points: Sequence[tuple[float, float]]) -> str:
    """Returns the `d` of a line through points given in pixels."""
    return "M" + "L".join(f"{px(x)} {px(y)}" for x, y in points)


MARKERS = (
    "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0 -10 0Z",  # circle
    "M-4.6 -4.6H4.6V4.6H-4.6Z",  # square
    "M0 -6L5.6 4.2H-5.6Z",  # triangle
    "M0 -6.4L6 0L0 6.4L-6 0Z",  # diamond
    "M0 6L5.6 -4.2H-5.6Z",  # triangle, pointing down
    "M-1.9 -5.6H1.9V-1.9H5.6V1.9H1.9V5.6H-1.9V1.9H-5.6V-1.9H-1.9Z",  # plus
    "M0 -6L5.7 -1.8L3.5 4.9H-3.5L-5.7 -1.8Z",  # pentagon
    "M-5.4 -3.1L0 -6.2L5.4 -3.1V3.1L0 6.2L-5.4 3.1Z",  # hexagon
)
STAR = "M0 -9L2.4 -3L8.6 -2.8L3.8 1.1L5.3 7.3L0 3.8L-5.3 7.3L-3.8 1.1L-8.6 -2.8L-2.4 -3Z"


def marker(series: int) -> str:
    """Returns the `d` of the marker of the n-th series: its shape, not only its color, tells it."""
    return MARKERS[series % len(MARKERS)]


class Key(NamedTuple):
    """What a marker or a line stands for."""

    kind: str
    """Its class in `figure.css`."""
    shape: str
    """The `d` of its path, drawn around the origin."""
    name: str


class Shape(NamedTuple):
    """A path."""

    d: str
    kind: str = ""
    at: tuple[float, float] | None = None
    """Where its origin goes; none: where it is drawn."""


class Name(NamedTuple):
    """Text beside a point."""

    kind: str
    x: float
    y: float
    content: str
    anchor: str = "start"


Box = tuple[float, float, float, float]
"""Left, top, right and bottom in pixels."""


def around(x: float, y: float, far: float) -> Box:
    """Returns the square around a point."""
    return (x - far, y - far, x + far, y + far)


def name_beside(
    kind: str, content: str, x: float, y: float, away: float, area: Box, occupied: list[Box]
) -> Name:
    """Returns a name beside a point, where it covers no other; the first place if all do.

    It is so many pixels away from the point, within the area, and added to what is occupied.
    """
    width = 7.0 * len(content)
    before = {"start": 0.0, "middle": width / 2, "end": width}
    spots = (
        (x + away, y - 4, "start"),
        (x - away, y - 4, "end"),
        (x + away, y + 13, "start"),
        (x - away, y + 13, "end"),
        (x, y - away - 3, "middle"),
        (x, y + away + 11, "middle"),
    )
    boxes = [(x - before[a], y - 10, x - before[a] + width, y + 2) for x, y, a in spots]
    left, top, right, bottom = x - away - width, y - away - 13, x + away + width, y + away + 13
    near = [b for b in occupied if b[0] < right and left < b[2] and b[1] < bottom and top < b[3]]
    free = (
        i
        for i, box in enumerate(boxes)
        if _within(box, area) and not any(_overlap(box, other) for other in near)
    )
    best = next(free, 0)
    occupied.append(boxes[best])
    return Name(kind, *spots[best][:2], content, spots[best][2])


def _within(box: Box, area: Box) -> bool:
    return box[0] > area[0] and box[1] > area[1] and box[2] < area[2] and box[3] < area[3]


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


@dataclass(frozen=True)
class Mark:
    """What stands for runs; without a kind, for none of them."""

    shapes: Sequence[Shape]
    name: Name | None = None
    kind: str = ""
    runs: str = ""
    """Their numbers."""
    title: str = ""
    bars: Sequence[tuple[float, float, float, float]] = ()


def file_name(*parts: str) -> str:
    """Returns a name for ids and files from any text, of a fixed alphabet and without folders."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join(parts))[:100].strip(".-")


@dataclass(frozen=True)
class Figure:
    """A drawing with its text alternative."""

    name: str
    """Of this figure alone, for ids and files; see `file_name`."""
    title: str
    """What it shows, in a line."""
    description: str
    """What one sees, for those who cannot."""
    width: int
    height: int
    frame: Frame
    marks: Sequence[Mark]
    keys: Sequence[Key] = ()
    """What the page says beside the figure, and a file must say within."""

    def __post_init__(self) -> None:
        if self.name != file_name(self.name):
            raise ValueError(f"{self.name!r} is no name for an id")

    def rows(self) -> list[list[tuple[float, Key]]]:
        """Returns the keys, each with its x, in lines as wide as the drawing."""
        rows: list[list[tuple[float, Key]]] = []
        x = float(self.width)
        for key in self.keys:
            needed = 46 + 7.0 * len(key.name)
            if x + needed > self.width:
                rows.append([])
                x = 26.0
            rows[-1].append((x, key))
            x += needed
        return rows
