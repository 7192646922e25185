"""GPUs of this machine, handed out by file locks: no two jobs get the same one.

The locks lie in the machine's folder for temporary files, so that all sweeps of a user share them;
the operating system frees those of a process that dies.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from filelock import FileLock, Timeout


def take(visible: Sequence[str], need: int, held: ExitStack) -> list[str] | None:
    """Takes GPUs that no other job of this machine holds.

    Args:
        visible: To choose from.
        need: How many.
        held: Gives them back when it is closed.

    Returns:
        Their names, or none when there are not enough at this moment; then none is held.
    """
    folder = Path(tempfile.gettempdir()) / f"unlearn-gpus-{os.getuid()}"
    mine: list[str] = []
    for name in visible:
        if len(mine) == need:
            break
        folder.mkdir(exist_ok=True, mode=0o700)
        # Two objects of one process must exclude each other, too.
        lock = FileLock(folder / f"{re.sub(r'[^A-Za-z0-9-]', '_', name)}.lock", is_singleton=False)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        held.callback(lock.release)
        mine.append(name)
    if len(mine) < need:
        held.close()
        return None
    return mine
