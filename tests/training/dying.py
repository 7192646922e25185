"""Runs `unlearn`, and dies by SIGKILL at one named moment: `python dying.py PLACE KIND COUNT ...`.

KIND is the kind of artifact that is being made, COUNT how often the moment comes before it is
fatal. The code that runs is the product's; only the system calls around the moment are watched.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from pathlib import Path
from typing import Any

PLACES = {
    "checkpoint half written": ".pt",
    "checkpoint without its note": ".pt",
    "artifact not yet published": "artifact",
    "artifact just published": "artifact",
}


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arm(place: str, kind: str, count: int) -> None:
    """Watches for the moment."""
    import torch

    left = [count]
    save, replace = torch.save, os.replace

    def now(path: str) -> bool:
        if f"/{kind}/" in path:
            left[0] -= 1
        return left[0] == 0 and f"/{kind}/" in path

    def dying_save(state: Any, file: Any) -> None:
        if place == "checkpoint half written" and now(str(file.name)):
            whole = io.BytesIO()
            save(state, whole)
            file.write(whole.getvalue()[: whole.tell() // 2])
            file.flush()
            os.fsync(file.fileno())
            die()
        save(state, file)

    def dying_replace(old: Any, new: Any) -> None:
        path = Path(new)
        if place == "checkpoint without its note" and path.suffix == ".pt" and now(str(new)):
            replace(old, new)
            die()
        if Path(old).name == "artifact" and now(str(new)):
            if place == "artifact just published":
                replace(old, new)
            if place.startswith("artifact"):
                die()
        replace(old, new)

    torch.save = dying_save
    os.replace = dying_replace


if __name__ == "__main__":
    place, kind, count = sys.argv[1:4]
    assert place in PLACES
    arm(place, kind, int(count))
    sys.argv[1:4] = []
    from unlearn_runner.run import main

    sys.exit(main())
