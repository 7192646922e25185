"""Isolation of a tracker: its failures and delays stay away from training.

A thread of its own opens the mirror and feeds it; a run hands over what it has and goes on. It
waits only when the mirror opens and closes, and no longer than the tracker's patience.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from unlearn_runner.tracking.base import Answers, Figures, Mirrored, Sink, Tracker
from unlearn_runner.utils.console import console
from unlearn_runner.utils.redact import redacted

Task = Callable[[Sink], None]
LONGEST = 300
"""Characters of a message; libraries put whole conversations into theirs."""


class Safe:
    """A mirror that never raises and never blocks. Its first failure is printed and kept."""

    def __init__(
        self,
        tracker: Tracker,
        folder: Path,
        config: Mapping[str, Any],
        identity: str,
        figures: Figures = lambda _: {},
        answers: Answers = lambda _: [],
    ) -> None:
        self.name, self.identity = type(tracker).__name__.lower(), identity
        self.error: str | None = None
        self._tracker = tracker
        self._run = Mirrored(folder, identity, redacted(config), self._warn, figures, answers)
        self._tasks: SimpleQueue[Task | None] = SimpleQueue()
        self._opened, self._closed = threading.Event(), threading.Event()
        self._over, self._warning = False, threading.Lock()
        threading.Thread(target=self._work, name=self.name, daemon=True).start()
        if not self._opened.wait(tracker.patience):
            self._give_up(f"it did not open within {tracker.patience:g} s")

    def line(self, facts: Mapping[str, Any]) -> None:
        """Hands over one line of telemetry."""
        self._hand(lambda sink: sink.line(facts))

    def results(self, content: Mapping[str, Any]) -> None:
        """Hands over what `results.json` holds."""
        hidden = redacted(content)
        self._hand(lambda sink: sink.results(hidden))

    def finish(self, status: str) -> None:
        """Closes the mirror, and waits for it as long as its tracker's patience lasts."""
        if self._over:
            return
        self._hand(lambda sink: sink.finish(status))
        self._tasks.put(None)
        if not self._closed.wait(self._tracker.patience):
            self._give_up(f"it did not close within {self._tracker.patience:g} s")
        self._over = True

    def _hand(self, task: Task) -> None:
        if not self._over:
            self._tasks.put(task)

    def _work(self) -> None:
        try:
            sink = self._tracker.open(self._run)
            self._opened.set()
            while not self._over and (task := self._tasks.get()) is not None:
                task(sink)
        # Whatever a foreign library raises, a SystemExit too, is no reason to end a run.
        except BaseException as error:
            self._give_up(f"{type(error).__name__}: {error}")
        finally:
            self._opened.set()
            self._closed.set()

    def _give_up(self, why: str) -> None:
        self._warn(f"{why}; the run goes on without it, and its folder's files hold everything")
        self._over = True

    def _warn(self, problem: str) -> None:
        with self._warning:
            if self.error is not None or self._over:
                return
            text = " ".join(problem.split())
            if len(text) > LONGEST:
                text = f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"
            self.error = redacted(text)
        console.print(f"warning: tracker={self.name}: {self.error}", markup=False)
