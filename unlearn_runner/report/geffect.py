"""G-effects of runs: read from their folders, as pictures by layer group and as tables.

The files are checked like all others of a run folder: anybody may have written them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unlearn_runner.models.layer_groups import GROUPS
from unlearn_runner.report import svg
from unlearn_runner.report.run_folder import RunFolder
from unlearn_runner.report.schema import is_effects, read_checked
from unlearn_runner.report.tables import Cell, Column, Table, cell
from unlearn_runner.utils.untrusted import clean

FILES = "geffect*.json"
MAX_MEASURED = 24
"""Measurements that a report shows."""
WIDTH, HEIGHT = 400, 250
LEFT, RIGHT, TOP, BOTTOM = 56, 386, 30, 204
DOT = "M-2.2 0a2.2 2.2 0 1 0 4.4 0a2.2 2.2 0 1 0 -4.4 0Z"
WHOLE = "all"
KINDS = {"e_u": "Unlearning G-effect", "e_r": "Retaining G-effect"}
COLUMNS = {
    "e_u": "e_u",
    "e_r": "e_r",
    "sum_u": "sum of -lr e_u",
    "sum_r": "sum of -lr e_r",
    "risk_u": "risk, forget",
    "risk_r": "risk, retain",
}


@dataclass(frozen=True)
class Measured:
    """One measurement of one run."""

    number: int
    """Of the run."""
    name: str
    """Of its file, without an ending."""
    content: Mapping[str, Any]

    @property
    def title(self) -> str:
        """Whose gradient, what risk, how."""
        objective, risk, mode = (clean(str(self.content[k])) for k in ("objective", "risk", "mode"))
        return f"run {self.number}: objective {objective}, risk {risk}, {mode}"

    @property
    def steps(self) -> list[Mapping[str, Any]]:
        """What was found, by step."""
        return self.content["steps"]


def read(path: Path, number: int = 1) -> Measured:
    """Returns the measurement of a file.

    Raises:
        DataError: If it is not as a run writes it.
    """
    again = f"unlearn-geffect {path.parent}"
    return Measured(number, path.stem, read_checked(path, is_effects, "G-effects by step", again))


def measured(runs: Sequence[RunFolder]) -> list[Measured]:
    """Returns the measurements that lie in run folders, of the models that are there now."""
    found = []
    for run in runs:
        for path in sorted(run.path.glob(FILES), key=lambda path: path.stem):
            one = read(path, run.number)
            if one.content.get("models") == f"unlearn/{run.unlearned}":
                found.append(one)
    return found[:MAX_MEASURED]


def table(one: Measured) -> Table:
    """Returns a row per step: both effects, their running sums, both risks."""
    columns = [Column("step", "step", "number")]
    columns += [Column(key, label, "number") for key, label in COLUMNS.items()]
    rows = [
        [cell(step["step"]), *(Cell(step[key], format_effect(step[key])) for key in COLUMNS)]
        for step in one.steps
    ]
    return Table(f"G-effect of {one.title}", columns, rows)


def format_effect(value: float | None) -> str:
    """Returns an effect in four digits: it may be of any size."""
    return "–" if value is None else f"{value:.4g}"


def print_table(path: Path, name: str) -> None:
    """Prints the measurement of a file on the terminal."""
    from rich.table import Column as RichColumn
    from rich.table import Table as RichTable

    from unlearn_runner.utils.console import results_console

    one = table(read(path))
    heads = [RichColumn(column.label, justify="right") for column in one.columns]
    title = f"{name}: {one.title.partition(': ')[2]}"
    shown = RichTable(*heads, title=title, title_justify="left", title_style="bold")
    for row in one.rows:
        shown.add_row(*(cell.text for cell in row))
    results_console().print(shown)
    print(f"g-effect {path} (and {path.stem}.parquet, by tensor)")


def figures(found: Sequence[Measured]) -> list[tuple[Measured, list[svg.Figure]]]:
    """Returns two pictures of each measurement: both effects by layer group, over steps."""
    return [(one, [_draw(one, at) for at in range(len(KINDS))]) for one in found]


def _draw(one: Measured, at: int) -> svg.Figure:
    key, title = list(KINDS.items())[at]
    curves = {
        group: [(s["step"], s["groups"][group][at]) for s in one.steps if group in s["groups"]]
        for group in GROUPS
    }
    curves = {group: curve for group, curve in curves.items() if curve}
    curves[WHOLE] = [(step["step"], step[key]) for step in one.steps]
    values = [value for curve in curves.values() for _, value in curve]
    steps = [step for curve in curves.values() for step, _ in curve]
    y = svg.scale([*values, 0.0], BOTTOM, TOP, log=False)
    x = svg.Scale(min(steps), max(max(steps), min(steps) + 1), LEFT + 4, RIGHT, whole=True)
    frame = svg.Frame(x, y, "optimizer step", key, max_ticks=5)
    zero = svg.path([(LEFT + 4, y(0.0)), (RIGHT, y(0.0))])
    marks = [svg.Mark([svg.Shape(zero, "front-line")])]
    keys = []
    for group, curve in curves.items():
        kind = f"way s{6 if group == WHOLE else GROUPS.index(group)}"
        kind += "" if group == WHOLE else f" d{GROUPS.index(group) % 4}"
        points = [(x(step), y(value)) for step, value in curve]
        shapes = [svg.Shape(svg.path(points)), *(svg.Shape(DOT, "dot", p) for p in points)]
        marks.append(svg.Mark(shapes, None, kind, str(one.number), f"{group}"))
        keys.append(svg.Key(kind, "M-12 0H20", group))
    last = one.steps[-1]
    described = (
        f"{title} of {one.title}, by layer group. All: from {format_effect(one.steps[0][key])} at "
        f"step {one.steps[0]['step']} to {format_effect(last[key])} at step {last['step']}."
    )
    name = svg.file_name(one.name, str(one.number), key)
    return svg.Figure(name, f"{title} by layer group", described, WIDTH, HEIGHT, frame, marks, keys)
