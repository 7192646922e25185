"""GPUs that this process may use, and locks on them; without loading torch."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from filelock import FileLock, Timeout


def visible(device: str = "auto") -> list[str]:
    """Returns the GPUs' names, as CUDA_VISIBLE_DEVICES has them.

    None with `parallel.device` "cpu", and none with accelerate's switch.
    """
    if device == "cpu" or os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true":
        return []
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        found = [name.strip() for name in chosen.split(",")]
        return [name for name in found if name not in ("", "-1")]
    devices = (path.name.removeprefix("nvidia") for path in Path("/dev").glob("nvidia[0-9]*"))
    return sorted(devices, key=int)


def lock_gpus(names: Sequence[str], count: int, locks: ExitStack) -> list[str] | None:
    """Locks `count` of the named GPUs that no other job of this machine uses.

    Returns their names, or none when too few are free at this moment; then none is locked. Closing
    `locks` unlocks them.
    """
    folder = Path(tempfile.gettempdir()) / f"unlearn-gpus-{os.getuid()}"
    locked: list[str] = []
    for name in names:
        if len(locked) == count:
            break
        folder.mkdir(exist_ok=True, mode=0o700)
        # Two objects of one process must exclude each other, too.
        lock = FileLock(folder / f"{re.sub(r'[^A-Za-z0-9-]', '_', name)}.lock", is_singleton=False)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        locks.callback(lock.release)
        locked.append(name)
    if len(locked) < count:
        locks.close()
        return None
    return locked
