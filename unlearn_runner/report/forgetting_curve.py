"""Picture of what a setting keeps on its way of forgetting: one line each, over scored steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from unlearn_runner.evaluation.metrics.scores import SEEDS
from unlearn_runner.report import svg
from unlearn_runner.report.compare import Comparison, Setting
from unlearn_runner.report.equal_forgetting import EqualForgetting
from unlearn_runner.report.telemetry import Curve, scored
from unlearn_runner.utils.text import format_score

WIDTH, HEIGHT = 620, 440
LEFT, RIGHT, TOP, BOTTOM = 62, 596, 34, 384
AREA = (LEFT, TOP - 12, WIDTH, BOTTOM)
"""Where names may be."""
MAX_KEYS = 12
"""Lines that are named beside the picture; all are when they are pointed at."""
DOT = "M-2.6 0a2.6 2.6 0 1 0 5.2 0a2.6 2.6 0 1 0 -5.2 0Z"
COLORS = 8
"""Of `figure.css`."""
Line = tuple[Setting, Curve]


def draw(equal: EqualForgetting) -> svg.Figure | None:
    """Returns the picture, or none where no run was scored along its way."""
    compared, forget, utility = equal.compared, equal.forget, equal.compared.axes.utility
    found = [(setting, mean_curve(setting, forget, utility)) for setting in compared.settings]
    lines = [(setting, line) for setting, line in found if len(line) > 1]
    if not lines or not equal.levels:
        return None
    anchors = compared.anchors(forget)
    points = [(x, y) for _, line in lines for x, y in line] + [(x, y) for _, x, y in anchors]
    x = svg.scale([x for x, _ in points], RIGHT, LEFT + 8, log=False)
    y = svg.scale([y for _, y in points], BOTTOM, TOP, log=False)
    note = f"{forget} (axis reversed, further right is more forgotten)"
    frame = svg.Frame(x, y, note, utility)
    styles = _styles(equal, [setting for setting, _ in lines])
    marks = [_level(frame, level) for level in equal.levels]
    marks += [_line(compared, frame, line, styles) for line in lines]
    occupied: list[svg.Box] = []
    for model, at_x, at_y in anchors:
        at = x(at_x), y(at_y)
        name = svg.name_beside("anchor-name", model, *at, 12, AREA, occupied)
        marks.append(svg.Mark([svg.Shape(svg.STAR, "anchor", at)], name))
    keys = [
        svg.Key(styles[s.first.number], "M-12 0H20", compared.title(s.first, SEEDS))
        for s, _ in lines
    ]
    title = f"{utility} on the way of forgetting"
    name, described = svg.file_name("forgetting", forget), _described(equal, lines)
    return svg.Figure(name, title, described, WIDTH, HEIGHT, frame, marks, keys[:MAX_KEYS])


def mean_curve(setting: Setting, forget: str, kept: str) -> Curve:
    """Returns the mean of two scores over a setting's independent runs, at each step all have."""
    both = [(dict(scored(run, forget)), dict(scored(run, kept))) for run in setting.independent]
    known = [(xs, ys) for xs, ys in both if xs]
    steps = set.intersection(*({*xs} & {*ys} for xs, ys in known)) if known else ()
    return [
        (
            math.fsum(xs[step] for xs, _ in known) / len(known),
            math.fsum(ys[step] for _, ys in known) / len(known),
        )
        for step in sorted(steps)
    ]


def _styles(equal: EqualForgetting, settings: Sequence[Setting]) -> dict[int, str]:
    """Returns each setting's classes in `figure.css` by the number of its first run.

    Settings that differ in the rectifier alone have one color; dashes are without a rectifier.
    """
    alike: dict[int, list[int]] = {setting.first.number: [] for setting in settings}
    for plain, rectified in equal.pairs:
        alike.setdefault(plain.first.number, []).append(rectified.first.number)
    paired = {number for numbers in alike.values() for number in numbers}
    found: dict[int, str] = {}
    for color, number in enumerate(number for number in alike if number not in paired):
        color = f"way s{color % COLORS}"
        found[number] = f"{color} d{1 if alike[number] else 0}"
        found |= {n: f"{color} d{(0, 2, 3)[i % 3]}" for i, n in enumerate(alike[number])}
    return found


def _level(frame: svg.Frame, level: float) -> svg.Mark:
    at = frame.x(level)
    name = svg.Name("tick", at, TOP - 4, f"{level:.2f}", "middle")
    return svg.Mark([svg.Shape(svg.path([(at, TOP), (at, BOTTOM)]), "front-line")], name)


def _line(
    compared: Comparison, frame: svg.Frame, line: Line, styles: Mapping[int, str]
) -> svg.Mark:
    setting, curve = line
    points = [(frame.x(x), frame.y(y)) for x, y in curve]
    shapes = [svg.Shape(svg.path(points)), *(svg.Shape(DOT, "dot", at) for at in points[1:])]
    numbers, n = setting.numbers, len(setting.independent)
    title = f"{compared.title(setting.first, SEEDS)}" + (f"; mean of n = {n}" if n > 1 else "")
    return svg.Mark(shapes, None, styles[setting.first.number], " ".join(map(str, numbers)), title)


def _described(equal: EqualForgetting, lines: Sequence[Line]) -> str:
    utility, forget, compared = equal.compared.axes.utility, equal.forget, equal.compared
    parts = [f"{len(lines)} settings, from the target on; each point is a scored step."]
    for setting, curve in lines[:MAX_KEYS]:
        x, y = map(format_score, curve[-1])
        parts.append(
            f"{compared.title(setting.first, SEEDS)}: ends at {utility} {y}, {forget} {x}."
        )
    return " ".join([*parts, "Numbers at equal forgetting are in the table."])
