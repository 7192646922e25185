"""Table of runs in progress, from their files alone: what `unlearn-status` shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Column
from rich.text import Text

from unlearn_runner.report.compare import Comparison
from unlearn_runner.report.discovery import find_runs
from unlearn_runner.report.overview import why
from unlearn_runner.report.run_folder import RunFolder
from unlearn_runner.utils.columns import TitledTable

WORDS = {"completed": "done", "unknown": "no status.json"}
STYLES = {
    "running": "bold",
    "waiting": "dim",
    "failed": "bold red",
    "interrupted": "yellow",
    "diverged": "magenta",
    "unknown": "yellow",
    "completed": "green",
}
"""By status, what needs eyes first."""
COLUMNS = {"doing": "stage", "step": "step", "rate": "rate", "left": "left", "note": "note"}
"""By field of a line; a column that says nothing of any run is not shown."""
NUMBERS = ("step", "rate", "left")
UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
FOREVER = 1e9  # seconds
SILENT = timedelta(minutes=10)
"""After which a running job that wrote nothing is suspicious: evaluation ticks every batch."""


@dataclass(frozen=True)
class Line:
    """One run's row."""

    status: str
    run: RunFolder
    doing: str = ""
    step: str = ""
    rate: str = ""
    left: str = ""
    note: str = ""


def line(run: RunFolder, now: datetime) -> Line:
    """Returns what a run's files say of it now."""
    facts, status = run.facts, run.status
    if status == "running":
        return _running(run, now)
    if status == "waiting":
        parts = [str(facts[key]) for key in ("waits_for", "stage", "owner") if key in facts]
        return Line(status, run, note=", ".join(parts))
    ended = status in ("failed", "interrupted", "diverged")
    return Line(status, run, note=_one_line(why(run)) if ended else "")


def _running(run: RunFolder, now: datetime) -> Line:
    facts = run.facts
    doing = str(facts.get("stage", ""))
    if "number" in facts and "of" in facts:
        doing += f" ({facts['number']}/{facts['of']})"
    note = ""
    updated = _time(facts.get("updated"))
    if updated is not None and now - updated > SILENT:
        note = f"silent for {duration((now - updated).total_seconds())}"
    found = facts.get("progress")
    if not isinstance(found, dict):
        return Line("running", run, doing, note=note)
    done, of, rate = (float(found.get(key) or 0) for key in ("done", "of", "rate"))
    left = duration(min((of - done) / rate, FOREVER)) if rate > 1e-9 else "?"
    work = str(found.get("work", ""))
    # A stage's parts tick by themselves; its own ticks are its steps.
    note = ", ".join(part for part in (work * (work != facts.get("stage")), note) if part)
    return Line("running", run, doing, f"{done:.0f}/{of:.0f}", f"{rate:.1f}/s", left, note)


def _time(text: Any) -> datetime | None:
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _one_line(text: str, max_length: int = 160) -> str:
    text = " ".join(text.split())
    return text if len(text) <= max_length else f"{text[:max_length]}..."


def duration(seconds: float) -> str:
    """Returns a length of time in its two largest units."""
    total = max(0, round(seconds))
    for (unit, length), (smaller, part) in pairwise(UNITS.items()):
        if total >= length:
            return f"{total // length}{unit} {total % length // part:02}{smaller}"
    return f"{total}s"


def show(
    folders: Sequence[Path], max_rows: int | None = None
) -> tuple[RenderableType, bool, list[str]]:
    """Returns a table of runs, whether any is not finished, and what was left out.

    With `max_rows` it has no more; the rest is counted below it.
    """
    found = find_runs(folders)
    compared = Comparison(found.runs)
    now = datetime.now(UTC)
    order = list(STYLES)
    lines = sorted((line(run, now) for run in found.runs), key=lambda ln: order.index(ln.status))
    # A terminal may be lower than what surrounds the rows: then there is room for less than none.
    hidden = 0 if max_rows is None else max(0, len(lines) - max(0, max_rows))
    shown = lines[: len(lines) - hidden]
    told = [name for name in COLUMNS if any(getattr(ln, name) for ln in shown)]
    table = TitledTable(_summary(lines), Column("status", no_wrap=True), "run", one_line=True)
    for name in told:
        table.add_column(COLUMNS[name], justify="right" if name in NUMBERS else "left")
    for ln in shown:
        word = Text(WORDS.get(ln.status, ln.status), STYLES[ln.status])
        cells = (compared.title(ln.run), *(getattr(ln, name) for name in told))
        table.add_row(word, *map(Text, cells))
    parts: list[RenderableType] = [table]
    if hidden:
        parts.append(Text(f"and {hidden} more; --once shows all", "dim"))
    if found.left_out and max_rows is not None:
        parts.append(Text(f"left out, unreadable: {len(found.left_out)}; --once says why", "dim"))
    alive = any(ln.status in ("running", "waiting") for ln in lines)
    return Group(*parts), alive, found.left_out


def _summary(lines: Sequence[Line]) -> str:
    # They are sorted.
    counts = Counter(WORDS.get(ln.status, ln.status) for ln in lines)
    parts = [f"{count} {word}" for word, count in counts.items()]
    return f"{len(lines)} runs: {', '.join(parts)}"
