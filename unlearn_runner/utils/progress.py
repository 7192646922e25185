"""Progress of long work: a bar with rate and ETA on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from unlearn_runner.utils import signals
from unlearn_runner.utils.console import console
from unlearn_runner.utils.console import note as to_log

LINE_EVERY_S = 20.0  # a log should show life without filling up


Watcher = Callable[[str, int, int, float], None]
"""Takes the work's title, units done, units in all, and units per second of this process's own."""
_watchers: list[Watcher] = []


def watch(watcher: Watcher | None) -> None:
    """Sets the only function that is called at every tick; none: no function is."""
    _watchers[:] = [] if watcher is None else [watcher]


class Tick:
    """Progress of one piece of work, shown on the terminal or in a log."""

    def __init__(self, title: str, total: int, bar: Progress) -> None:
        self.title, self.total, self.done, self.before = title, total, 0, 0
        self.bar, self.task = bar, bar.add_task(title, total=total, note="")
        self.started = self.printed = time.monotonic()

    def __call__(self, count: int = 1, note: str = "", check_signals: bool = True) -> None:
        """Counts `count` more units done, and shows the note beside the rate.

        Raises:
            Interrupted: If a signal requested the end, unless signals are not to be checked.
        """
        if check_signals:
            signals.check()
        self.done += count
        now, done = time.monotonic(), self.before + self.done
        spent = now - self.started
        rate = self.done / max(spent, 1e-9)
        for watcher in _watchers:
            watcher(self.title, done, self.total, rate)
        self.bar.update(self.task, completed=done, note=f"{rate:.1f}/s {note}")
        if now - self.printed >= LINE_EVERY_S or done == self.total:
            self.printed = now
            left = (self.total - done) / max(rate, 1e-9)
            line = (
                f"{self.title}: {done}/{self.total}  {rate:.1f}/s  "
                f"{spent:.0f}s spent, {left:.0f}s left  {note}"
            )
            # A log beside the bars has lines.
            (console.print if self.bar.disable else to_log)(line.rstrip())

    def resume(self, done: int) -> None:
        """Starts counting at `done` without letting it enter the rate."""
        self.before = done
        self.bar.reset(self.task, completed=done)  # forgets the speed, which this is no part of


_shown: list[Progress] = []


@contextmanager
def progress(title: str, total: int) -> Iterator[Tick]:
    """Shows the progress of `total` units of work, below that of the work it is a part of.

    On a console that is quiet, or no terminal, there are lines in place of the bars.
    """
    if _shown:
        tick = Tick(title, total, _shown[0])
        yield tick
        _shown[0].remove_task(tick.task)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("spent"),
        TimeRemainingColumn(),
        TextColumn("left"),
        TextColumn("{task.fields[note]}"),
    )
    plain = console.quiet or not sys.stderr.isatty()
    # A bar that is full says no more than the line that follows it.
    bar = Progress(*columns, console=console, disable=plain, transient=True)
    with nullcontext() if plain else bar:
        _shown.append(bar)
        try:
            yield Tick(title, total, bar)
        finally:
            _shown.clear()
