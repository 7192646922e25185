"""Signals that request the end of a run: noted at once, acted on where nothing is lost.

Ctrl-C, SIGTERM and SIGUSR2 (what clusters send before they preempt) only set a flag. Training
checks it after every step and leaves a checkpoint; other work checks it where its progress ticks. A
second Ctrl-C does not wait.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

Handler = Callable[[int, FrameType | None], None]
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)

_received: list[int] = []
_catching: list[bool] = []


class Interrupted(KeyboardInterrupt):
    """The end of a run that a signal requested, at a place it can continue from."""

    def __init__(self, number: int) -> None:
        super().__init__(name(number))
        self.number = number


def name(number: int) -> str:
    """Returns a signal's name."""
    return signal.Signals(number).name


def requested() -> int | None:
    """Returns the signal that requested the run's end, or none."""
    return _received[0] if _received else None


def check() -> None:
    """Raises `Interrupted` when a signal has requested the run's end."""
    number = requested()
    if number is not None:
        raise Interrupted(number)


@contextmanager
def handle_signals(handler: Handler) -> Iterator[None]:
    """Has signals handled by a function while it lasts."""
    before = {number: signal.signal(number, handler) for number in SIGNALS}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


@contextmanager
def catch_signals() -> Iterator[None]:
    """Takes signals as requests while it lasts.

    Does nothing within itself, and elsewhere than in the main thread.
    """
    if _catching or threading.current_thread() is not threading.main_thread():
        yield
        return
    _received.clear()
    _catching.append(True)
    try:
        with handle_signals(_note):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # see `block_signals`
            yield
    finally:
        _catching.clear()


@contextmanager
def block_signals() -> Iterator[None]:
    """Blocks signals while it lasts, here and in the children that are started meanwhile.

    A cluster warns every process of a job at once. A child without handlers yet would die of it; so
    it is started with the signals blocked, and gets them as soon as it enters `catch_signals`.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _note(number: int, _: FrameType | None) -> None:
    from unlearn_runner.utils.console import console

    if number in _received:
        # A cluster sends its warning to each process, and our launcher hands it on: only a person
        # who presses Ctrl-C again is in a hurry.
        if number == signal.SIGINT:
            raise Interrupted(number)
        return
    _received.append(number)
    console.print(f"{name(number)}: ending at the next step; again to end at once", markup=False)
