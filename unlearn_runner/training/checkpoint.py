"""Checkpoints: everything the next step depends on, written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from unlearn_runner.progress import console

NAME = "checkpoint.pt"


def save(folder: Path, state: dict[str, Any]) -> None:
    """Replaces the folder's checkpoint by `state`; a kill leaves the old one or the new one."""
    temporary = folder / f".{NAME}.writing"
    torch.save(state, temporary)
    os.replace(temporary, folder / NAME)


def load(folder: Path, device: torch.device) -> dict[str, Any] | None:
    """Returns the folder's checkpoint, or none when there is none that can be read."""
    path = folder / NAME
    if not path.is_file():
        return None
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except (OSError, RuntimeError, EOFError, LookupError, ValueError, UnpicklingError) as error:
        console.print(f"warning: {path} cannot be read ({error}); the stage starts over")
        return None
