"""The GPUs that this process may use, without loading torch."""

from __future__ import annotations

import os
from pathlib import Path


def visible(device: str = "auto") -> list[str]:
    """Returns the GPUs' names, as CUDA_VISIBLE_DEVICES has them.

    Args:
        device: The setting `parallel.device`; "cpu" wants none, and so does accelerate's switch.
    """
    if device == "cpu" or os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true":
        return []
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        found = [name.strip() for name in chosen.split(",")]
        return [name for name in found if name not in ("", "-1")]
    devices = (path.name.removeprefix("nvidia") for path in Path("/dev").glob("nvidia[0-9]*"))
    return sorted(devices, key=int)
