"""Trade-off of forgetting against utility, with the settings that no other beats in both."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from unlearn_runner.evaluation.metrics.scores import SEEDS
from unlearn_runner.report import svg
from unlearn_runner.report.compare import Comparison, Setting, choices, number
from unlearn_runner.report.means import Mean, mean_name
from unlearn_runner.report.overview import listed
from unlearn_runner.utils.text import format_score

WIDTH, HEIGHT = 620, 440
LEFT, RIGHT, TOP, BOTTOM = 62, 604, 34, 384
AREA = (LEFT, TOP - 12, WIDTH, BOTTOM)
"""Where names may be."""
CROWDED = 0.25
"""Share of an axis: runs that fill less of it are drawn once more, without the other models."""
Point = tuple[Setting, Mean, Mean]
"""A setting with its forgetting and its utility."""
Panel = tuple[str, bool]
"""A picture: its metric of forgetting, and whether it is close by, of the runs alone."""
MARKERS = len(svg.MARKERS)


@dataclass(frozen=True)
class Series:
    """Runs of one marker: of one method and rectifier, or of one value of a setting."""

    name: str
    place: int
    """Which marker and color."""


def series(compared: Comparison) -> dict[int, Series]:
    """Returns each run's series by its number.

    Where all runs are of one method a setting tells them apart: that with as many values as
    markers can tell.
    """
    fitting = {key: len(found) for key, found in compared.swept.items() if len(found) <= MARKERS}
    if compared.alike and fitting:
        key = max(fitting, key=fitting.__getitem__)
        name = compared.short[key]
        names = {run.number: f"{name} {number(run.settings.get(key))}" for run in compared.runs}
        order = [f"{name} {number(value)}" for value in compared.swept[key]]
    else:
        names = {run.number: choices(run) for run in compared.runs}
        order = list(dict.fromkeys(names.values()))
    return {
        run: Series(name, order.index(name) if name in order else len(order))
        for run, name in names.items()
    }


def keys(compared: Comparison) -> list[svg.Key]:
    """Returns what each marker stands for."""
    found = sorted({(s.place, s.name) for s in series(compared).values()})
    return [svg.Key(f"pt s{place % 8}", svg.marker(place), name) for place, name in found]


def panels(compared: Comparison) -> list[Panel]:
    """Returns the pictures: a metric of forgetting each, crowded ones also from close by."""
    found = []
    for forget in dict.fromkeys((compared.axes.forget, "forget_quality")):
        if compared.points(forget):
            found.append((forget, False))
            found += [(forget, True)] if _crowded(compared, forget) else []
    return found


def _crowded(compared: Comparison, forget: str) -> bool:
    """Whether the settings fill so little of the picture that they are drawn once more."""
    points, anchors = compared.points(forget), compared.anchors(forget)
    places = {(x.value, y.value) for _, x, y in points}
    if not anchors or len(places) < 3 or len({x for x, _ in places}) == 1:  # a p-value of 1, say
        return False
    frame = _frame(compared, forget, points, anchors)
    xs, ys = zip(*((frame.x(x), frame.y(y)) for x, y in places), strict=True)
    width, height = max(xs) - min(xs), max(ys) - min(ys)
    return 0 < width < CROWDED * (RIGHT - LEFT) or 0 < height < CROWDED * (BOTTOM - TOP)


def draw(compared: Comparison, panel: Panel, marked: Sequence[int]) -> svg.Figure:
    """Returns a picture of forgetting against utility, a point for each setting.

    Settings of which a run is marked stand out, as do those on the front.
    """
    forget, close = panel
    named = close or (forget, True) not in panels(compared)
    points = compared.points(forget)
    anchors = [] if close else compared.anchors(forget)
    frame = _frame(compared, forget, points, anchors)
    front = compared.front_of(forget)
    best = {id(setting) for setting in front}
    of = series(compared)
    marks = _stairs(frame, [(x.value, y.value) for s, x, y in points if id(s) in best])
    occupied: list[svg.Box] = [
        svg.around(frame.x(x.value), frame.y(y.value), 5) for _, x, y in points
    ]
    for model, x, y in anchors:
        at = frame.x(x), frame.y(y)
        occupied.append(svg.around(*at, 9))
        name = svg.name_beside("anchor-name", model, *at, 12, AREA, occupied)
        marks.append(svg.Mark([svg.Shape(svg.STAR, "anchor", at)], name))
    for point in sorted(points, key=lambda point: id(point[0]) in best):
        setting, place = point[0], of[point[0].first.number].place
        stands_out = ["front"] * (id(setting) in best)
        stands_out += ["marked"] * any(n in marked for n in setting.numbers)
        kinds = [f"pt s{place % 8}", *stands_out]
        kinds += ["collapsed"] * any(map(compared.collapsed, setting.runs))
        boxes = (occupied if stands_out else []) if named else None
        shape = svg.marker(place)
        marks.append(_point(compared, frame, point, " ".join(kinds), shape, boxes))
    title = f"{compared.axes.utility} against {mean_name(forget)}"
    title += ", the runs alone" * close
    name = svg.file_name("tradeoff", forget, *["close"] * close)
    described = _described(compared, forget, anchors, front)
    return svg.Figure(name, title, described, WIDTH, HEIGHT, frame, marks, keys(compared))


def _frame(
    compared: Comparison,
    forget: str,
    points: Sequence[Point],
    anchors: Sequence[tuple[str, float, float]],
) -> svg.Frame:
    """Returns axes on which up is more kept and right is more forgotten."""
    xs = [*(x.value for _, x, _ in points), *(x for _, x, _ in anchors)]
    ys = [*(y.value for *_, y in points), *(y for *_, y in anchors)]
    lower = compared.lower(forget)
    x = svg.scale(xs, *((RIGHT, LEFT + 8) if lower else (LEFT + 8, RIGHT)), log=False)
    note = "axis reversed, further right is more forgotten" if lower else ""
    x_title = f"{mean_name(forget)} ({note or 'further right is more forgotten'})"
    return svg.Frame(x, svg.scale(ys, BOTTOM, TOP, log=False), x_title, compared.axes.utility)


def _stairs(frame: svg.Frame, points: Iterable[tuple[float, float]]) -> list[svg.Mark]:
    """Returns the front as stairs: a step down is what more forgetting costs."""
    placed = sorted((frame.x(x), frame.y(y)) for x, y in points)
    stairs = placed[:1]
    for x, y in placed[1:]:
        stairs += [(stairs[-1][0], y), (x, y)]
    return [svg.Mark([svg.Shape(svg.path(stairs), "front-line")])] if len(stairs) > 1 else []


def _point(
    compared: Comparison,
    frame: svg.Frame,
    point: Point,
    kinds: str,
    shape: str,
    occupied: list[svg.Box] | None,
) -> svg.Mark:
    """Returns a setting's marker with its bars; its numbers where `occupied` is known."""
    setting, forget, utility = point
    x, y = frame.x(forget.value), frame.y(utility.value)
    # Of single runs only those that stand out: the bars of a whole grid would hide its points.
    has_bars = occupied is not None or utility.n > 1
    bars = []
    if has_bars and (ends := utility.ends):
        bars.append((x, frame.y(ends[0]), x, frame.y(ends[1])))
    if has_bars and (ends := forget.ends):
        bars.append((frame.x(ends[0]), y, frame.x(ends[1]), y))
    runs = "run" if len(setting.runs) == 1 else "runs"
    text = f"{runs} {listed(setting.numbers)}: {compared.title(setting.first, SEEDS)}"
    text += f"; mean of n = {utility.n}" if utility.n > 1 else ""
    name = None
    if occupied is not None:
        name = svg.name_beside("no", listed(setting.numbers), x, y, 9, AREA, occupied)
    numbers = " ".join(map(str, setting.numbers))
    return svg.Mark([svg.Shape(shape, at=(x, y))], name, kinds, numbers, text, bars)


def _described(
    compared: Comparison,
    forget: str,
    anchors: Sequence[tuple[str, float, float]],
    front: Sequence[Setting],
) -> str:
    utility, name, points = compared.axes.utility, mean_name(forget), compared.points(forget)
    runs = sum(len(setting.runs) for setting, *_ in points)
    parts = [f"{runs} runs, {len(points)} settings." if runs > len(points) else f"{runs} runs."]
    parts += [
        f"{model}: {utility} {format_score(y)}, {name} {format_score(x)}."
        for model, x, y in anchors
    ]
    parts.append("On the front, from most utility to most forgetting:")
    parts += [
        f"run {listed(s.numbers)}: {utility} {s.mean(utility)}, {name} {s.mean(forget)};"
        for s in front[:12]
    ]
    if len(front) > 12:
        parts.append(f"and {len(front) - 12} more.")
    return " ".join(parts) + " All numbers are in the table of runs."
