"""Tables of runs, as data and as CSV, Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Literal

from unlearn_runner.evaluation.metrics.scores import SEEDS
from unlearn_runner.report.compare import Comparison, how_they_ended, number
from unlearn_runner.report.cost import own_seconds
from unlearn_runner.report.means import mean_name
from unlearn_runner.report.run_folder import RunFolder
from unlearn_runner.utils.text import format_score

Kind = Literal["text", "number"]


@dataclass(frozen=True)
class Column:
    """One column."""

    key: str
    """Unambiguous: a dotted key or a metric's name."""
    label: str
    kind: Kind = "text"
    better: Literal["", "higher", "lower"] = ""
    main: bool = True
    """Whether it is shown where there is no room for all."""


@dataclass(frozen=True)
class Cell:
    """One value, as it sorts and as it reads."""

    value: str | float | None
    text: str
    best: bool = False
    """Whether no other of its column is better, of those that may be compared."""


@dataclass(frozen=True)
class Table:
    """Columns and rows; a row has one cell per column."""

    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]

    def narrow(self) -> Table:
        """Returns the table without what only the wide forms show."""
        keep = [i for i, column in enumerate(self.columns) if column.main]
        rows = [[row[i] for i in keep] for row in self.rows]
        return Table(self.title, [self.columns[i] for i in keep], rows)


NOTHING = Cell(None, "–")


def cell(value: Any, write: Callable[[Any], str] = str) -> Cell:
    """Returns the cell of a value, as `write` has it; a dash where there is none."""
    if value is None:
        return NOTHING
    return Cell(float(value) if isinstance(value, int) else value, write(value))


def setting(value: object) -> Cell:
    """Returns the cell of a setting; only numbers sort as such."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return cell(value if is_number or value is None else number(value), number)


def of_runs(compared: Comparison) -> Table:
    """Returns one row per run: what sets it apart, how it ended, scores, cost."""
    columns = [Column("run", "run", "number")]
    constant = compared.alike and bool(compared.differing)
    columns += [Column(group, group, main=not constant) for group in compared.named_groups]
    columns += [Column(k, compared.short[k], _kind(compared, k)) for k in compared.differing]
    columns += [Column("status", "status"), Column("label", "label")]
    columns += _metrics(compared)
    columns += [
        Column("rectified", "steps rectified", "number", main=False),
        Column("seconds", "seconds", "number"),
        Column("folder", "folder", main=False),
    ]
    return Table("Runs", columns, [_row(compared, run) for run in compared.runs])


def _kind(compared: Comparison, key: str) -> Kind:
    values = [run.settings.get(key) for run in compared.runs]
    plain = all(v is None or (isinstance(v, int | float) and v is not True) for v in values)
    return "number" if plain else "text"


def _metrics(compared: Comparison, names: Callable[[str], str] = str) -> list[Column]:
    main = compared.main_metrics
    return [
        Column(names(m), names(m), "number", compared.better(m), m in main)
        for m in compared.metrics
    ]


def _row(compared: Comparison, run: RunFolder) -> list[Cell]:
    row = [cell(run.number)]
    row += [cell(run.choice(group)) for group in compared.named_groups]
    row += [setting(run.settings.get(key)) for key in compared.differing]
    row += [cell(run.status), cell(compared.label(run))]
    row += [cell(run.scores.get(metric), format_score) for metric in compared.metrics]
    row += [cell(run.rectified_share, "{:.0%}".format), cell(own_seconds(run), "{:.1f}".format)]
    return [*row, cell(run.name)]


def setting_columns(
    compared: Comparison,
) -> tuple[list[Column], Callable[[RunFolder], list[Cell]]]:
    """Returns the columns of what sets settings apart but seeds, and what makes a run's cells."""
    groups = compared.named_groups
    keys = [key for key in compared.differing if key not in SEEDS]
    columns = [Column(group, group) for group in groups]
    columns += [Column(k, compared.short[k], _kind(compared, k)) for k in keys]

    def cells(run: RunFolder) -> list[Cell]:
        found = [cell(run.choice(group)) for group in groups]
        return found + [setting(run.settings.get(key)) for key in keys]

    return columns, cells


def of_seeds(compared: Comparison, baseline: int | None = None) -> Table | None:
    """Returns one row per setting with its seeds' mean and 95 % interval, or none.

    With the number of a run as baseline the means are of differences to its setting, seed by seed.
    """
    base = next((s for s in compared.settings if baseline in s.numbers), None)
    if base is None and all(len(s.runs) == 1 for s in compared.settings):
        return None
    names, start = setting_columns(compared)
    columns = [*names, Column("seeds", "seeds"), Column("n", "n", "number")]
    columns += [Column("ended", "how they ended")]
    columns += _metrics(compared, mean_name)
    rows = []
    for group in compared.settings:
        if group is base:
            continue
        row = start(group.first)
        row += [cell(", ".join("/".join(_seed(run)) for run in group.runs))]
        found = [group.delta(m, base) if base else group.mean(m) for m in compared.metrics]
        row += [cell(max((mean.n for mean in found if mean), default=0))]
        row += [cell(_ended(compared, group.runs))]
        rows.append(row + [Cell(mean.value, str(mean)) if mean else NOTHING for mean in found])
    return Table("Differences" if base else "Seeds", columns, rows)


def _seed(run: RunFolder) -> Iterable[str]:
    seed, target = run.settings.get("seed"), run.settings.get("target.seed")
    return [number(seed)] if target in (None, 0) else [number(seed), number(target)]


def _ended(compared: Comparison, group: Sequence[RunFolder]) -> str:
    useless = sum(map(compared.collapsed, group))
    return how_they_ended(group) + (f" ({useless} collapsed)" if useless else "")


def as_csv(table: Table) -> str:
    """Returns all columns under their unambiguous names; numbers in full, unknown ones empty."""
    columns: list[list[str]] = []
    for i, column in enumerate(table.columns):
        cells = [row[i] for row in table.rows]
        columns.append([column.key, *("" if c.value is None else _number(c.value) for c in cells)])
        halves = [cell.text.partition("±")[2].strip() for cell in cells]
        if any(halves):
            columns.append([f"{column.key} (95 % ±)", *halves])
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(zip(*columns, strict=True))
    return out.getvalue()


def _number(value: str | float) -> str:
    if isinstance(value, str):  # a spreadsheet would compute a text that begins like a formula
        return f"'{value}" if value.startswith(("=", "+", "@")) else value
    return f"{value:.0f}" if abs(value) < 1e15 and value == int(value) else repr(value)


def as_markdown(table: Table) -> str:
    """Returns the narrow table in GitHub's dialect."""
    table = table.narrow()
    right = {"number": "---:", "text": "---"}
    lines = [
        [_pipe(head(c)) for c in table.columns],
        [right[c.kind] for c in table.columns],
        *([_marked(cell) for cell in row] for row in table.rows),
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def head(column: Column) -> str:
    """Returns what stands above a column: its label, and which way is better."""
    arrow = {"higher": " ↑", "lower": " ↓", "": ""}[column.better]
    return column.label + arrow


def _marked(cell: Cell) -> str:
    return f"**{_pipe(cell.text)}**" if cell.best else _pipe(cell.text)


def _pipe(value: str) -> str:
    """Returns a text that Markdown shows as it is: no link, no emphasis, no element, one cell."""
    plain = escape(" ".join(value.split()), quote=False)
    plain = ACTIVE.sub(lambda found: f"\\{found[0]}", plain)
    return plain.replace("://", "&#58;//").replace("www.", "www&#46;")


def as_latex(table: Table) -> str:
    """Returns the narrow table as a `longtable` with `booktabs` rules, to be included."""
    table = table.narrow()
    form = "".join("r" if c.kind == "number" else "l" for c in table.columns)
    heads = " & ".join(tex(head(c)) for c in table.columns)
    lines = [
        r"% \usepackage{booktabs,longtable}",
        rf"\begin{{longtable}}{{{form}}}",
        r"\toprule",
        rf"{heads} \\",
        r"\midrule\endhead",
        r"\bottomrule\endfoot",
        *(" & ".join(tex(cell.text) for cell in row) + r" \\" for row in table.rows),
        r"\end{longtable}",
    ]
    return "\n".join(lines) + "\n"


ACTIVE = re.compile(r"[\\`*\[\]|~]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
"""What Markdown would read as markup; an underscore within a word is one."""
SPECIAL = {
    "[": "{[}",
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "–": "--",
    "±": r"$\pm$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
}
SPECIAL |= {char: f"\\{char}" for char in "&%$#_{}"}
SCIENTIFIC = re.compile(r"(-?\d\.\d+)e([+-]\d+)")


def tex(value: str) -> str:
    """Returns a text that LaTeX shows as it is, powers of ten as people write them."""
    parts = SCIENTIFIC.split(" ".join(value.split()))
    plain = ["".join(SPECIAL.get(char, char) for char in part) for part in parts[::3]]
    powers = [
        rf"${base}\cdot10^{{{int(power)}}}$"
        for base, power in zip(parts[1::3], parts[2::3], strict=True)
    ]
    return plain[0] + "".join(p + after for p, after in zip(powers, plain[1:], strict=True))
