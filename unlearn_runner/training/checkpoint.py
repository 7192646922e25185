"""Checkpoints: everything the next step depends on, written whole or not at all.

The newest two are kept: should the newest turn out to be damaged, the one before it still serves.
A checkpoint is two files, the state and then, once that is safely on the disk, a note of its size,
its hash and the stage it belongs to.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from unlearn_runner.errors import DataError, UserError
from unlearn_runner.progress import console

KEPT = 2


def save(folder: Path, key: str, step: int, state: dict[str, Any]) -> None:
    """Adds a checkpoint and removes the ones it makes superfluous.

    Args:
        folder: Of the stage's checkpoints.
        key: The stage's key.
        step: Optimizer steps done.
        state: What `load` is to return.

    Raises:
        UserError: If it cannot be written (a full disk, say); the ones before it are kept.
    """
    for note, _ in list(_notes(folder))[KEPT - 1 :]:
        _remove(note)  # before writing, so that the disk never holds more than KEPT
    note = folder / f"step-{step:08d}.json"
    temporary = folder / f".{note.stem}.writing"
    try:
        with temporary.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        facts = {"key": key, "step": step, "size": temporary.stat().st_size}
        facts["sha256"] = _digest(temporary)
        os.replace(temporary, note.with_suffix(".pt"))
        temporary.write_text(json.dumps(facts))
        os.replace(temporary, note)
    except (OSError, RuntimeError) as error:  # torch reports a failed write as a RuntimeError
        temporary.unlink(missing_ok=True)
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        free = shutil.disk_usage(folder).free / 2**30
        raise UserError(
            f"the checkpoint of step {step} cannot be written to {folder}: {reason} "
            f"({free:.1f} GiB free); the one before it is kept",
            "make room, or move everything with output_dir=FOLDER; the same command continues",
        ) from error


def load(folder: Path, key: str, device: torch.device) -> dict[str, Any] | None:
    """Returns the state of the newest whole checkpoint, or none when there is none.

    Damaged ones are said, set aside and passed over.

    Raises:
        DataError: If the newest belongs to another stage, that is to another configuration.
    """
    for leftover in folder.glob(".*.writing"):
        leftover.unlink()
    for note, facts in list(_notes(folder)):
        if facts is not None and facts["key"] != key:
            raise DataError(
                f"{note} is the checkpoint of another configuration ({facts['key']}, not {key})",
                f"remove {folder}, and the stage starts over",
            )
        state = _read(note, facts, device)
        if state is not None:
            return state
        console.print(f"warning: the checkpoint {note} is damaged and is set aside", markup=False)
        for path in (note, note.with_suffix(".pt")):
            if path.exists():
                os.replace(path, path.with_name(f"{path.name}.damaged"))
    return None


def _notes(folder: Path) -> Iterator[tuple[Path, dict[str, Any] | None]]:
    """Yields the notes of checkpoints with their content, newest first; none if unreadable."""
    for note in sorted(folder.glob("step-*.json"), reverse=True):
        try:
            facts = json.loads(note.read_text())
            yield note, facts if isinstance(facts["key"], str) else None
        except (OSError, ValueError, KeyError, TypeError):
            yield note, None


def _read(note: Path, facts: dict[str, Any] | None, device: torch.device) -> dict[str, Any] | None:
    path = note.with_suffix(".pt")
    if facts is None or not path.is_file() or _digest(path) != facts.get("sha256"):
        return None
    return torch.load(path, map_location=device, weights_only=True)


def _remove(note: Path) -> None:
    note.unlink(missing_ok=True)
    note.with_suffix(".pt").unlink(missing_ok=True)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
