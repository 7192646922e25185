"""Figures as PDF, by matplotlib where that is installed: the drawing of `svg.py`, shape by shape.

A page of its own size for each, in the colors of paper, with text that can be searched.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from importlib import util
from io import BytesIO
from typing import Any

from unlearn_runner.report.svg import Figure, Mark, Name, Shape

POINTS = 0.75
"""Of a pixel, which is a 96th of an inch."""
ABOVE, ROW = 34, 20
"""Pixels for the title, and for a line of keys; as in `figure.svg`."""
INK, SOFT, LINE, FAINT, PAPER = "#000", "#444", "#d4d9df", "#b4bcc6", "#fff"
COLORS = ("#0b5cad", "#b8410c", "#137752", "#8a2f86", "#7a5a00", "#c01f55", "#3f5566", "#4a3fb0")
DASHES = {"1": (7, 3), "2": (2, 2.5), "3": (9, 3, 2, 3), "4": (13, 4), "5": (5, 2, 2, 2, 2, 2)}
"""By the number of a class `d` or `m` in `figure.css`."""
SIZES = {"tick": 11, "no": 11, "title": 14}
"""Pixels of text by its class; of other text 12."""
PIECE = re.compile(r"([MLHVaZ])([^MLHVaZ]*)")


@cache
def available() -> bool:
    """Returns whether matplotlib is installed."""
    return util.find_spec("matplotlib") is not None


def draw(figure: Figure) -> bytes:
    """Returns a figure as a PDF."""
    import matplotlib  # pyright: ignore[reportMissingImports]
    from matplotlib.backends.backend_pdf import FigureCanvasPdf  # pyright: ignore[reportMissingImports]

    out = BytesIO()
    # Type 42 keeps letters as letters, and is what conferences take; without a date the same
    # figure is the same file.
    with matplotlib.rc_context({"pdf.fonttype": 42}):
        FigureCanvasPdf(drawn(figure)).print_pdf(out, metadata={"CreationDate": None})
    return out.getvalue()


def drawn(figure: Figure) -> Any:
    """Returns a figure as one of matplotlib's."""
    from matplotlib.figure import Figure as Page  # pyright: ignore[reportMissingImports]

    rows = figure.rows()
    height = figure.height + ABOVE + ROW * len(rows)
    page = Page(figsize=(figure.width / 96, height / 96))
    axes = page.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, figure.width)
    axes.set_ylim(figure.height + ROW * len(rows), -ABOVE)
    drawing = _Drawing(axes)
    drawing.words(Name("title", 14, -14, figure.title))
    for number, row in enumerate(rows):
        y = figure.height + 12 + ROW * number
        for x, key in row:
            drawing.shape(Shape(key.shape, "", (x, y)), key.kind)
            aside = 24 if key.shape.endswith("H20") else 12
            drawing.words(Name("key", x + aside, y + 4, key.name))
    drawing.axes(figure)
    for mark in figure.marks:
        drawing.mark(mark)
    return page


class _Drawing:
    """Axes of matplotlib that are drawn upon in pixels."""

    def __init__(self, axes: Any) -> None:
        self.on = axes

    def words(self, name: Name) -> None:
        """Writes text."""
        kinds = name.kind.split()
        size = next((SIZES[kind] for kind in kinds if kind in SIZES), 12) * POINTS
        self.on.text(
            name.x,
            name.y,
            name.content.replace("$", r"\$"),  # no formula
            fontsize=size,
            color=SOFT if {*kinds} & {"tick", "axis-title"} else INK,
            ha={"start": "left", "middle": "center", "end": "right"}[name.anchor],
            va="baseline",
            weight="bold" if {*kinds} & {"title", "anchor-name", "no"} else "normal",
            style="italic" if "anchor-name" in kinds else "normal",
        )

    def line(self, x1: float, y1: float, x2: float, y2: float, color: str, width: float) -> None:
        """Draws a straight line."""
        self.on.plot([x1, x2], [y1, y2], color=color, linewidth=width * POINTS, zorder=1)

    def axes(self, figure: Figure) -> None:
        """Draws the frame with its ticks."""
        frame = figure.frame
        left, top, right, bottom = frame.box
        for value, name in frame.x.ticks(frame.max_ticks):
            at = frame.x(value)
            self.line(at, top, at, bottom, LINE, 0.6)
            self.words(Name("tick", at, bottom + 16, name, "middle"))
        for value, name in frame.y.ticks(frame.max_ticks):
            at = frame.y(value)
            self.line(left, at, right, at, LINE, 0.6)
            self.words(Name("tick", left - 7, at + 4, name, "end"))
        self.line(left, bottom, right, bottom, SOFT, 1)
        self.line(left, top, left, bottom, SOFT, 1)
        middle = (left + right) / 2
        self.words(Name("axis-title", middle, bottom + 36, frame.x_title, "middle"))
        self.words(Name("axis-title", left - 40, top - 12, frame.y_title))

    def mark(self, mark: Mark) -> None:
        """Draws what stands for runs."""
        kinds = mark.kind.split()
        for bar in mark.bars:
            self.line(*bar, _color(kinds), 1)
        for shape in mark.shapes:
            self.shape(shape, mark.kind)
        shown = "no" not in (mark.name.kind if mark.name else "") or {*kinds} & {"front", "marked"}
        if mark.name and shown:
            self.words(mark.name)

    def shape(self, shape: Shape, kind: str) -> None:
        """Draws a path as `figure.css` has its class."""
        from matplotlib.patches import PathPatch  # pyright: ignore[reportMissingImports]

        kinds = [*kind.split(), *shape.kind.split()]
        path = _path(shape.d, shape.at or (0.0, 0.0))
        self.on.add_patch(PathPatch(path, zorder=2, **_style(kinds)))


def _color(kinds: Sequence[str]) -> str:
    numbers = (kind[1:] for kind in kinds if kind[:1] in "sm" and kind[1:].isdigit())
    return COLORS[int(next(numbers, "0")) % len(COLORS)]


def _style(kinds: Sequence[str]) -> dict[str, Any]:
    """Returns the color, line and filling of a path."""
    color, width, dashes, fill = _color(kinds), 1.0, (), 0.0
    if "anchor" in kinds:
        return {"facecolor": INK, "edgecolor": PAPER, "linewidth": POINTS}
    if "dot" in kinds:
        return {"facecolor": color, "edgecolor": "none"}
    if "front-line" in kinds:
        color, width, dashes = SOFT, 1.2, (2, 3)
    elif "pt" in kinds:
        fill = 1.0 if "front" in kinds else 0.32
        if "collapsed" in kinds:
            fill, dashes = 0.0, (2, 1.5)
        if "marked" in kinds:
            return {"facecolor": (color, fill), "edgecolor": INK, "linewidth": 1.6 * POINTS}
    elif {*kinds} & {"ln", "way", "m"}:
        width = 0.8 if "ln" in kinds and "marked" not in kinds else 2.0
        color = FAINT if width < 1 else color
        found = (kind[1:] for kind in kinds if kind[:1] in "dm" and kind[1:].isdigit())
        dashes = DASHES.get(next(found, ""), ())
        if "over" in kinds:
            width, dashes = 1.3, ()
    else:
        fill = 0.5
    style = (0, tuple(dash / width for dash in dashes)) if dashes else "solid"
    face: Any = (color, fill) if fill else "none"
    return {
        "facecolor": face,
        "edgecolor": color,
        "linewidth": width * POINTS,
        "linestyle": style,
    }


def _path(d: str, at: tuple[float, float]) -> Any:
    """Returns a path of matplotlib from the `d` of one in `svg.py`, which has few commands."""
    from matplotlib.path import Path  # pyright: ignore[reportMissingImports]

    points, codes = list[tuple[float, float]](), list[int]()
    x, y = 0.0, 0.0
    for command, text in PIECE.findall(d):
        numbers = [float(number) for number in re.findall(r"-?[\d.]+", text)]
        if command == "Z":
            points.append((at[0] + x, at[1] + y))
            codes.append(Path.CLOSEPOLY)
        elif command == "a":  # the first half of a circle, which the second completes
            return Path.circle((at[0] + x + numbers[0], at[1] + y), numbers[0])
        else:
            if command in "ML":
                x, y = numbers
            x = numbers[0] if command == "H" else x
            y = numbers[0] if command == "V" else y
            points.append((at[0] + x, at[1] + y))
            codes.append(Path.MOVETO if command == "M" else Path.LINETO)
    return Path(points, codes)
