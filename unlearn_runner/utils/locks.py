"""Locks of artifacts: who holds one, and what a process says while it waits.

The operating system frees a lock when its owner dies, however it dies. Where a file system has no
such locks, filelock marks the owner's process and host instead and takes a dead one's place.
"""

from __future__ import annotations

import json
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

LOCK, OWNER = ".lock", ".owner"
POLL_S = 0.1
SAY_EVERY_S = 60.0
SIGNAL_EVERY_S = 1.0


@contextmanager
def hold(
    folder: Path,
    key: str,
    what: str,
    wait: bool = True,
    told: Callable[[str], None] = lambda _: None,
) -> Iterator[None]:
    """Holds the lock of `key` in `folder`.

    Args:
        folder: Holds `.<key>.lock`, and while the lock is held `.<key>.owner`.
        key: What is locked.
        what: What the owner does with it, for those who wait.
        wait: Whether to wait for another owner.
        told: Called, before waiting, with what is waited for.

    Raises:
        Timeout: When another process holds it and `wait` is false.
    """
    lock = FileLock(folder / f".{key}{LOCK}", poll_interval=POLL_S)
    note = folder / f".{key}{OWNER}"
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if not wait:
            raise
        told(f"{what}: {owner(note)} works on it")
        _wait(lock, note, what)
    try:
        # A courtesy to those who wait: a disk that is full must not fail here.
        with suppress(OSError):
            note.write_text(json.dumps({**_me(), "what": what}) + "\n", encoding="utf-8")
        yield
    finally:
        with suppress(OSError):
            note.unlink(missing_ok=True)
        lock.release()


def held(folder: Path, key: str) -> bool:
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
    started = said = time.monotonic()
    _say(f"waiting for {what}: {owner(note)} works on it")
    while True:
        try:
            lock.acquire(timeout=SIGNAL_EVERY_S)
            return
        except Timeout:
            signals.check()
        now = time.monotonic()
        if now - said >= SAY_EVERY_S:
            said, minutes = now, (now - started) / 60
            _say(f"still waiting for {what}, {minutes:.0f} min: {owner(note)} works on it")


def owner(note: Path) -> str:
    """Returns who holds a lock, in words."""
    try:
        found = json.loads(note.read_text(encoding="utf-8"))
        where = "" if found["host"] == socket.gethostname() else f" on {found['host']}"
        return f"process {found['pid']}{where} (since {found['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def _me() -> dict[str, object]:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": since}


def _say(text: str) -> None:
    console.print(text, markup=False)
