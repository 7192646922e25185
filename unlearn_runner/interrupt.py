"""Signals that ask a run to end: noted at once, obeyed where nothing is lost.

Ctrl-C, SIGTERM and SIGUSR2 (what clusters send before they preempt) only set a flag. Training looks
at it after every step and leaves a checkpoint; other work looks at it where its progress ticks. A
second Ctrl-C does not wait.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)

_received: list[int] = []


class Interrupted(KeyboardInterrupt):
    """A signal asked the run to end, and it did at a place it can continue from."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def requested() -> int | None:
    """Returns the signal that asked the run to end, or none."""
    return _received[0] if _received else None


def check() -> None:
    """Ends here when a signal asked for it.

    Raises:
        Interrupted: If so.
    """
    number = requested()
    if number is not None:
        raise Interrupted(number)


@contextmanager
def heeded() -> Iterator[None]:
    """Takes signals as requests while it lasts; elsewhere than in the main thread, does nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _received.clear()
    before = {number: signal.signal(number, _note) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _note(number: int, _: FrameType | None) -> None:
    from unlearn_runner.progress import console

    if number in _received:
        raise Interrupted(number)
    _received.append(number)
    name = signal.Signals(number).name
    console.print(f"{name}: ending at the next step; again to end at once", markup=False)
