"""Locks of artifacts: who holds one, and what a process says while it waits.

The operating system frees a lock when its owner dies, however it dies. Where a file system has no
such locks, filelock marks the owner's process and host instead and takes a dead one's place.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from unlearn_runner.utils import signals
from unlearn_runner.utils.console import console
from unlearn_runner.utils.files import append_line, read_object

LOCK, OWNER = ".lock", ".owner"
POLL_S = 0.1
SAY_EVERY_S = 60.0
SIGNAL_EVERY_S = 1.0


@contextmanager
def locked(
    folder: Path,
    key: str,
    what: str,
    wait: bool = True,
    on_wait: Callable[[str], None] = lambda _: None,
) -> Iterator[None]:
    """Holds the lock of `key` in `folder`.

    Args:
        folder: Holds `.<key>.lock`, and while the lock is held `.<key>.owner`.
        key: What is locked.
        what: What the owner does with it, for those who wait.
        wait: Whether to wait for another owner.
        on_wait: Called, before waiting, with what is waited for.

    Raises:
        Timeout: When another process holds it and `wait` is false.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f".{key}{LOCK}", poll_interval=POLL_S)
    note = folder / f".{key}{OWNER}"
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if not wait:
            raise
        on_wait(f"{what}: {owner(note)} works on it")
        _wait(lock, note, what)
    try:
        # A courtesy to those who wait: a disk that is full must not fail here.
        with suppress(OSError):
            note.unlink(missing_ok=True)  # of an owner that was killed
            since = datetime.now(UTC).isoformat(timespec="seconds")
            owned = {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
            append_line(note, {**owned, "what": what})
        yield
    finally:
        with suppress(OSError):
            note.unlink(missing_ok=True)
        lock.release()


def is_locked(folder: Path, key: str) -> bool:
    """Returns whether a process holds the lock of `key` in `folder`."""
    path = folder / f".{key}{LOCK}"
    if not path.exists():
        return False
    try:
        with FileLock(path).acquire(timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # a store that we may only read
        return (folder / f".{key}{OWNER}").exists()


def _wait(lock: FileLock, note: Path, what: str) -> None:
    started = printed = time.monotonic()
    console.print(f"waiting for {what}: {owner(note)} works on it", markup=False)
    while True:
        try:
            lock.acquire(timeout=SIGNAL_EVERY_S)
            return
        except Timeout:
            signals.check()
        now = time.monotonic()
        if now - printed >= SAY_EVERY_S:
            printed, waited = now, f"{(now - started) / 60:.0f} min"
            console.print(
                f"still waiting for {what}, {waited}: {owner(note)} works on it", markup=False
            )


def owner(note: Path) -> str:
    """Returns who holds a lock, in words."""
    facts = read_object(note) or {}
    if not {"host", "pid", "since"} <= facts.keys():
        return "another process"
    where = "" if facts["host"] == socket.gethostname() else f" on {facts['host']}"
    return f"process {facts['pid']}{where} (since {facts['since']})"
