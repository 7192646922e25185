"""The trade-off of forgetting against utility, with the runs that no other beats in both."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from unlearn_runner.evaluation.metrics.scores import SEEDS, lower
from unlearn_runner.report import svg
from unlearn_runner.report.compare import Comparison, choices, number
from unlearn_runner.report.labels import Box, around, label
from unlearn_runner.report.run_folder import RunFolder
from unlearn_runner.utils.text import format_score

WIDTH, HEIGHT = 620, 440
LEFT, RIGHT, TOP, BOTTOM = 62, 604, 34, 384
AREA = (LEFT, TOP - 12, WIDTH, BOTTOM)
"""Where names may be."""
SMALLEST = 1e-30
"""A p-value of zero is drawn here."""
WIDE = 10.0
"""P-values further apart than this ratio are drawn by their exponent."""
CROWDED = 0.25
"""Share of an axis: runs that fill less of it are drawn once more, without the other models."""


@dataclass(frozen=True)
class Series:
    """Runs of one marker: of one method and rectifier, or of one value of a setting."""

    name: str
    place: int
    """Which marker and color."""


def series(compared: Comparison) -> dict[int, Series]:
    """Returns each run's series by its number."""
    runs, key = compared.runs, _distinguishing(compared)
    if key is None:
        names = [choices(run) for run in runs]
        order = list(dict.fromkeys(names))
    else:
        values = [run.settings.get(key) for run in runs]
        names = [f"{compared.short[key]} {number(value)}" for value in values]
        order = [f"{compared.short[key]} {number(value)}" for value in compared.values(key)]
    return {
        run.number: Series(name, order.index(name) if name in order else len(order))
        for run, name in zip(runs, names, strict=True)
    }


def _distinguishing(compared: Comparison) -> str | None:
    """Returns the setting with as many values as markers can tell, where methods are all one."""
    if not compared.alike:
        return None
    counts = {key: len(compared.values(key)) for key in compared.differing if key not in SEEDS}
    fitting = [key for key, count in counts.items() if 1 < count <= len(svg.MARKERS)]
    return max(fitting, key=counts.__getitem__, default=None)


@dataclass(frozen=True)
class Panel:
    """One picture."""

    forget: str
    """The metric of forgetting."""
    close: bool = False
    """Whether it shows the runs alone."""

    @property
    def name(self) -> str:
        """What the picture's file is called."""
        return f"tradeoff-{self.forget}{'-close' * self.close}"


def panels(compared: Comparison) -> list[Panel]:
    """Returns the pictures: a metric of forgetting each, crowded ones also from close by."""
    wanted = (compared.axes.forget, "forget_quality")
    found = [Panel(m) for m in dict.fromkeys(wanted) if _points(compared, m)]
    return [p for panel in found for p in (panel, Panel(panel.forget, True)) if _seen(compared, p)]


def _seen(compared: Comparison, panel: Panel) -> bool:
    points, anchors = _points(compared, panel.forget), _anchors(compared, panel.forget)
    if not panel.close:
        return True
    if not anchors or len(set(points.values())) < 3:
        return False
    if len({x for x, _ in points.values()}) == 1:  # a p-value of 1, say
        return False
    frame = _frame(compared, panel.forget, points, anchors)
    xs, ys = zip(*((frame.x(x), frame.y(y)) for x, y in points.values()), strict=True)
    width, height = max(xs) - min(xs), max(ys) - min(ys)
    return 0 < width < CROWDED * (RIGHT - LEFT) or 0 < height < CROWDED * (BOTTOM - TOP)


def _points(compared: Comparison, forget: str) -> dict[int, tuple[float, float]]:
    utility = compared.axes.utility
    return {
        run.number: (x, y)
        for run in compared.runs
        if (x := run.scores.get(forget)) is not None and (y := run.scores.get(utility)) is not None
    }


def _anchors(compared: Comparison, forget: str) -> list[tuple[str, float, float]]:
    """Returns what the runs are compared with; several where they have not one target."""
    found: dict[tuple[str, float, float], None] = {}
    for run in compared.runs:
        for model in ("target", "retain_model"):
            scores = run.scores_of(model)
            x, y = scores.get(forget), scores.get(compared.axes.utility)
            if x is not None and y is not None:
                found[model, x, y] = None
    return list(found)


def draw(compared: Comparison, panel: Panel, marked: Sequence[int] = ()) -> svg.Figure:
    """Returns a picture of forgetting against utility.

    Args:
        compared: The runs.
        panel: Of which metric, and how close.
        marked: Numbers of the runs that stand out among others.
    """
    forget = panel.forget
    named = panel.close or Panel(forget, True) not in panels(compared)
    points = _points(compared, forget)
    anchors = [] if panel.close else _anchors(compared, forget)
    frame = _frame(compared, forget, points, anchors)
    front = compared.front_of(forget)
    of = series(compared)
    parts = frame.draw()
    parts.append(_line(frame, [points[n] for n in front]))
    places = {n: (frame.x(x), frame.y(y)) for n, (x, y) in points.items()}
    occupied: list[Box] = [around(*place, 5) for place in places.values()]
    for model, x, y in anchors:
        parts += _anchor(model, frame.x(x), frame.y(y), occupied)
    runs = sorted(compared.runs, key=lambda run: run.number in front)
    for run in runs:
        if run.number in points:
            on = run.number in front
            at = places[run.number]
            parts.append(
                _point(
                    compared,
                    run,
                    at,
                    of[run.number].place,
                    on,
                    run.number in marked,
                    occupied if named else None,
                )
            )
    title = f"{compared.axes.utility} against {forget}" + ", the runs alone" * panel.close
    described = _described(compared, forget, points, anchors, front)
    keys = [
        svg.Key(f"pt s{place % 8}", svg.marker(place), name)
        for place, name in sorted({(s.place, s.name) for s in of.values()})
    ]
    return svg.Figure(panel.name, title, described, WIDTH, HEIGHT, parts, keys)


def _frame(
    compared: Comparison,
    forget: str,
    points: dict[int, tuple[float, float]],
    anchors: list[tuple[str, float, float]],
) -> svg.Frame:
    """Returns axes on which up is more kept and right is more forgotten."""
    xs = [*(x for x, _ in points.values()), *(x for _, x, _ in anchors)]
    ys = [*(y for _, y in points.values()), *(y for *_, y in anchors)]
    log = forget == "forget_quality" and max(xs) > WIDE * max(min(xs), SMALLEST)
    ends = (RIGHT, LEFT + 8) if lower(forget) else (LEFT + 8, RIGHT)
    if log:
        xs = [max(x, SMALLEST) for x in xs]
    x = svg.scale(xs, *ends, log=log)
    note = "axis reversed, further right is more forgotten" if lower(forget) else ""
    x_title = f"{forget} ({note or 'further right is more forgotten'})"
    return svg.Frame(x, svg.scale(ys, BOTTOM, TOP, log=False), x_title, compared.axes.utility)


def _line(frame: svg.Frame, points: Iterable[tuple[float, float]]) -> str:
    """Returns the front as stairs: a step down is what more forgetting costs."""
    placed = sorted((frame.x(x), frame.y(y)) for x, y in points)
    stairs = [placed[0]] if placed else []
    for x, y in placed[1:]:
        stairs += [(stairs[-1][0], y), (x, y)]
    return f'<path class="front-line" d="{svg.path(stairs)}"/>' if len(stairs) > 1 else ""


def _anchor(model: str, x: float, y: float, occupied: list[Box]) -> list[str]:
    star = f'<path class="anchor" d="{svg.STAR}" transform="translate({svg.px(x)} {svg.px(y)})"/>'
    occupied.append(around(x, y, 9))
    return [star, label("anchor-name", model, x, y, 12, AREA, occupied)]


def _point(
    compared: Comparison,
    run: RunFolder,
    at: tuple[float, float],
    place: int,
    front: bool,
    marked: bool,
    occupied: list[Box] | None,
) -> str:
    """Returns a run's marker; its number only where `occupied` says what else is there."""
    x, y = at
    kinds = ["pt", f"s{place % 8}"]
    kinds += ["front"] * front + ["marked"] * marked + ["collapsed"] * compared.collapsed(run)
    mark = f'<path d="{svg.marker(place)}" transform="translate({svg.px(x)} {svg.px(y)})"/>'
    name_tag = f"<title>{escape(f'run {run.number}: {compared.title(run)}')}</title>"
    name = ""
    if occupied is not None:
        boxes = occupied if front or marked else []
        name = label("no", str(run.number), x, y, 9, AREA, boxes)
    return f'<g class="{" ".join(kinds)}" data-run="{run.number}">{name_tag}{mark}{name}</g>'


def _described(
    compared: Comparison,
    forget: str,
    points: dict[int, tuple[float, float]],
    anchors: list[tuple[str, float, float]],
    front: set[int],
) -> str:
    utility = compared.axes.utility
    parts = [f"{len(points)} runs."]
    parts += [
        f"{model}: {utility} {format_score(y)}, {forget} {format_score(x)}."
        for model, x, y in anchors
    ]
    ordered = sorted(front, key=lambda n: points[n][1], reverse=True)
    parts.append("On the front, from most utility to most forgetting:")
    parts += [
        f"run {n}: {utility} {format_score(points[n][1])}, {forget} {format_score(points[n][0])};"
        for n in ordered[:12]
    ]
    if len(ordered) > 12:
        parts.append(f"and {len(ordered) - 12} more.")
    return " ".join(parts) + " All numbers are in the table of runs."
