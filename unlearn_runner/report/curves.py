"""Curves over steps: a picture per recorded quantity, all runs in each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count

from unlearn_runner.report import svg
from unlearn_runner.report.compare import Comparison
from unlearn_runner.report.telemetry import Chart, Curve
from unlearn_runner.utils.text import format_score

WIDTH, HEIGHT = 400, 250
LEFT, RIGHT, TOP, BOTTOM = 50, 376, 30, 204
CROSS = "M-3.5 -3.5L3.5 3.5M3.5 -3.5L-3.5 3.5"
"""Ends the line of a run that diverged."""
MIN_POINTS, MAX_POINTS = 30, 160
"""Points per line; a line keeps the extremes of what is left out."""
BUDGET = 60_000
"""Points of all lines of all pictures together: a page must stay light."""


def draw(charts: Sequence[Chart], compared: Comparison, marked: Sequence[int]) -> list[svg.Figure]:
    """Returns a picture per chart, the marked runs' lines on top."""
    lines = sum(len(chart.curves) for chart in charts)
    max_points = max(MIN_POINTS, min(MAX_POINTS, BUDGET // max(lines, 1)))
    titles = {run.number: compared.title(run) for run in compared.runs}
    found: dict[str, svg.Figure] = {}
    for chart in charts:
        name = first = svg.file_name("curve", chart.key)
        copies = count(2)
        while name.lower() in found:  # some disks know no case
            name = svg.file_name(first[:80], str(next(copies)))
        found[name.lower()] = _draw(chart, name, titles, marked, max_points)
    return list(found.values())


def _draw(
    chart: Chart, file_name: str, titles: Mapping[int, str], marked: Sequence[int], max_points: int
) -> svg.Figure:
    values = [v for curve in chart.curves.values() for _, v in curve]
    steps = [s for curve in chart.curves.values() for s, _ in curve]
    share = chart.key in ("conflict", "rectified", "opposed", "surviving_norm")
    y = svg.scale([*values, *((0.0, 1.0) if share else ())], BOTTOM, TOP, False if share else None)
    x = svg.Scale(min(steps), max(max(steps), min(steps) + 1), LEFT + 4, RIGHT, whole=True)
    frame = svg.Frame(x, y, "optimizer step", "log scale" if y.log else "", max_ticks=5)
    marks = []
    order = sorted(chart.curves, key=lambda n: (n in marked, n))
    names = apart({n: frame.y(chart.curves[n][-1][1]) for n in order if n in marked})
    for number in order:
        slot = f" marked m{marked.index(number)}" if number in marked else ""
        points = [(frame.x(s), frame.y(v)) for s, v in thinned(chart.curves[number], max_points)]
        shapes, (x_end, y_end) = [svg.Shape(svg.path(points))], points[-1]
        if number in chart.over:
            shapes.append(svg.Shape(CROSS, "over", points[-1]))
        name = svg.Name("no", x_end + 4, names.get(number, y_end) + 4, str(number))
        title = f"run {number}: {titles[number]}"
        marks.append(svg.Mark(shapes, name, f"ln{slot}", str(number), title))
    shown = [(slot, n) for slot, n in enumerate(marked) if n in chart.curves]
    keys = [
        svg.Key(f"ln marked m{slot}", "M-12 0H20", f"run {n}: {titles[n]}") for slot, n in shown
    ]
    described = _described(chart, marked)
    return svg.Figure(file_name, chart.title, described, WIDTH, HEIGHT, frame, marks, keys)


def apart(places: Mapping[int, float], least: float = 11.0) -> dict[int, float]:
    """Returns where names go, `least` pixels apart: in the same order, around their middle."""

    def top(group: Sequence[int]) -> float:
        return sum(places[n] for n in group) / len(group) - (len(group) - 1) * least / 2

    groups: list[list[int]] = []
    for n in sorted(places, key=places.__getitem__):
        groups.append([n])
        while len(groups) > 1 and top(groups[-1]) < top(groups[-2]) + len(groups[-2]) * least:
            groups[-2:] = [groups[-2] + groups[-1]]
    found = {}
    for group in groups:
        first = max(TOP, min(top(group), BOTTOM - (len(group) - 1) * least))
        found |= {n: first + i * least for i, n in enumerate(group)}
    return found


def thinned(curve: Curve, max_points: int) -> Curve:
    """Returns at most about `max_points` points: of each stretch its lowest and its highest."""
    if len(curve) <= max_points:
        return curve
    stretches = max_points // 2
    kept = {0, len(curve) - 1}
    for i in range(stretches):
        part = range(i * len(curve) // stretches, (i + 1) * len(curve) // stretches)
        kept |= {min(part, key=lambda j: curve[j][1]), max(part, key=lambda j: curve[j][1])}
    return [curve[i] for i in sorted(kept)]


def _described(chart: Chart, marked: Sequence[int]) -> str:
    ends = [curve[-1][1] for curve in chart.curves.values()]
    parts = [
        f"{len(ends)} runs; at their last step between {format_score(min(ends))} and "
        f"{format_score(max(ends))}."
    ]
    for number in marked:
        if number in chart.curves:
            first, last = chart.curves[number][0][1], chart.curves[number][-1][1]
            parts.append(f"Run {number}: from {format_score(first)} to {format_score(last)}.")
    if chart.over:
        parts.append(f"Ended early, diverged: {', '.join(f'run {n}' for n in sorted(chart.over))}.")
    return " ".join(parts)
