"""Checkpoints: everything the next step depends on, written whole or not at all.

The newest two are kept: should the newest turn out to be damaged, the one before it still serves.
A checkpoint is one file of state, or one for each rank where ranks hold pieces, and then, once all
are safely on the disk, a note of their sizes and hashes and of the stage they belong to.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import torch

from unlearn_runner.distributed.layout import SHARD, Parts
from unlearn_runner.distributed.ranks import ALONE, Ranks
from unlearn_runner.errors import DataError, UserError
from unlearn_runner.utils.console import console
from unlearn_runner.utils.files import inside, read_object, sha256

KEPT = 2


def save(folder: Path, key: str, step: int, state: dict[str, Any], ranks: Ranks = ALONE) -> None:
    """Adds a checkpoint and removes the ones it makes superfluous. Every rank must call it.

    Args:
        folder: Of the stage's checkpoints.
        key: The stage's key.
        step: Optimizer steps done.
        state: What `load` is to return; where it holds pieces, every rank's is written.
        ranks: Who saves.

    Raises:
        UserError: If it cannot be written (a full disk, say); the ones before it are kept.
    """
    if ranks.main:
        for note, _ in list(_notes(folder))[KEPT - 1 :]:
            _remove(note)  # before writing, so that the disk never holds more than KEPT
    note = folder / f"step-{step:08d}.json"
    pieces = ranks.world > 1 and _in_pieces(state)
    path = note.with_suffix(f".{ranks.rank}-of-{ranks.world}.pt" if pieces else ".pt")
    mine = ({}, "")
    if ranks.main or pieces:
        mine = _written(path, lambda file: torch.save(state, file))
    every = ranks.all_gather((path.name, *mine))
    failures = [reason for _, _, reason in every if reason]
    if ranks.main and not failures:
        files = {name: facts for name, facts, _ in every if facts}
        text = json.dumps({"key": key, "step": step, "files": files})
        failures += filter(None, [_written(note, lambda file: file.write(text.encode()))[1]])
    if failed := ranks.broadcast(failures):
        path.unlink(missing_ok=True)
        free = shutil.disk_usage(folder).free / 2**30
        raise UserError(
            f"the checkpoint of step {step} cannot be written to {folder}: {failed[0]} "
            f"({free:.1f} GiB free); the one before it is kept",
            "make room, or move everything with output_dir=FOLDER; the same command continues",
        )


def _written(path: Path, write: Callable[[BinaryIO], object]) -> tuple[dict[str, Any], str]:
    """Writes a file as a whole; returns its size and hash, and why that failed if it did."""
    temporary = path.with_name(f".{path.name}.writing")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        facts = {"size": temporary.stat().st_size, "sha256": sha256(temporary)}
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:  # torch reports a failed write as a RuntimeError
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        return {}, getattr(error, "strerror", None) or str(error).splitlines()[0]
    return facts, ""


def load(
    folder: Path, key: str, device: torch.device, ranks: Ranks = ALONE
) -> dict[str, Any] | None:
    """Returns the state of the newest whole checkpoint, or none when there is none.

    It may have been written by any number of ranks; what is in pieces comes back as `Parts`.
    Damaged ones are said, set aside and passed over. Every rank must call it.

    Raises:
        DataError: If the newest belongs to another stage, that is to another configuration.
    """
    if ranks.main:
        for leftover in folder.glob(".*.writing"):
            leftover.unlink()
    for note, facts in ranks.broadcast(list(_notes(folder)) if ranks.main else []):
        if facts is not None and facts["key"] != key:
            raise DataError(
                f"{note} is the checkpoint of another configuration ({facts['key']}, not {key})",
                f"remove {folder}, and the stage starts over",
            )
        paths = _whole(note, facts, ranks)
        if paths:
            return _read(paths, device)
        if ranks.main:
            console.print(
                f"warning: the checkpoint {note} is damaged and is set aside", markup=False
            )
            for path in (note, *_files(note)):
                if path.exists():
                    os.replace(path, path.with_name(f"{path.name}.damaged"))
    return None


def _notes(folder: Path) -> Iterator[tuple[Path, dict[str, Any] | None]]:
    """Yields the notes of checkpoints with their content, newest first; none if unreadable."""
    for note in sorted(folder.glob("step-*.json"), reverse=True):
        try:
            facts = read_object(note) or {}
            readable = isinstance(facts["key"], str) and isinstance(facts["files"], dict)
            readable &= all(inside(folder, name).parent == folder for name in facts["files"])
            yield note, facts if readable else None
        except (ValueError, KeyError):
            yield note, None


def _whole(note: Path, facts: dict[str, Any] | None, ranks: Ranks) -> list[Path]:
    """Returns a checkpoint's files when all are as they were written; ranks share the hashing."""
    files = sorted((facts or {}).get("files", {}).items(), key=lambda item: _rank(item[0]))
    sound = bool(files)
    for name, entry in ranks.shard(files):
        path = note.with_name(name)
        sound &= path.is_file() and sha256(path) == entry.get("sha256")
    return [note.with_name(name) for name, _ in files] if all(ranks.all_gather(sound)) else []


def _rank(name: str) -> int:
    part = name.split(".")[1]
    return int(part.partition("-of-")[0]) if "-of-" in part else 0


def _read(paths: list[Path], device: torch.device) -> dict[str, Any]:
    if len(paths) == 1:
        return _joined([torch.load(paths[0], map_location=device, weights_only=True)])
    # Mapped, not read: of the other ranks' pieces only what this rank asks for is touched.
    states = [torch.load(p, map_location="cpu", weights_only=True, mmap=True) for p in paths]
    return _joined(states)


def _joined(entries: list[Any]) -> Any:
    """Returns one state of the ranks' states: pieces together, the rest as the first has it."""
    first = entries[0]
    if not isinstance(first, dict):
        if isinstance(first, list):
            return [_joined(list(items)) for items in zip(*entries, strict=True)]
        return first
    if set(first) == {SHARD}:
        return Parts([entry[SHARD] for entry in entries])
    return {name: _joined([entry[name] for entry in entries]) for name in first}


def _in_pieces(state: Any) -> bool:
    if isinstance(state, dict):
        return set(state) == {SHARD} or any(map(_in_pieces, state.values()))
    return isinstance(state, list) and any(map(_in_pieces, state))


def _files(note: Path) -> list[Path]:
    return list(note.parent.glob(f"{note.stem}.*pt"))


def _remove(note: Path) -> None:
    note.unlink(missing_ok=True)
    for path in _files(note):
        path.unlink(missing_ok=True)
