"""Checkpoints: everything the next step depends on, written whole or not at all.

The newest two are kept: should the newest turn out to be damaged, the one before it still serves.
A checkpoint is one file of state, or one for each rank where ranks hold shards, and then, once all
are safely on the disk, a manifest of their sizes and hashes and of the stage they belong to.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, BinaryIO

import torch

from unlearn_runner.distributed.layout import SHARD
from unlearn_runner.distributed.ranks import ALONE, Ranks
from unlearn_runner.errors import DataError, UserError
from unlearn_runner.utils.console import console
from unlearn_runner.utils.files import read_object, sha256

KEPT = 2
FILE = re.compile(r"step-\d{8}(?:\.(\d+)-of-\d+)?\.pt")
"""What a manifest may name: a file beside it."""


def save(folder: Path, key: str, step: int, state: dict[str, Any], ranks: Ranks = ALONE) -> None:
    """Writes a checkpoint and removes superfluous ones. Every rank must call it.

    Args:
        folder: Folder of the stage's checkpoints.
        key: Key of the stage.
        step: Optimizer steps done.
        state: What `load` is to return; where it holds shards, every rank's is written.
        ranks: The ranks that save.

    Raises:
        UserError: If it cannot be written (a full disk, say); the ones before it are kept.
    """
    if ranks.main:
        for manifest, _ in list(_manifests(folder))[KEPT - 1 :]:
            _remove(manifest)  # before writing, so that the disk never holds more than KEPT
    manifest = folder / f"step-{step:08d}.json"
    sharded = ranks.world > 1 and _is_sharded(state)
    path = manifest.with_suffix(f".{ranks.rank}-of-{ranks.world}.pt" if sharded else ".pt")
    result = ({}, "")
    if ranks.main or sharded:
        result = _write(path, lambda file: torch.save(state, file))
    results = ranks.all_gather((path.name, *result))
    failures = [reason for _, _, reason in results if reason]
    if ranks.main and not failures:
        files = {name: facts for name, facts, _ in results if facts}
        text = json.dumps({"key": key, "step": step, "files": files})
        failures += filter(None, [_write(manifest, lambda file: file.write(text.encode()))[1]])
    if failed := ranks.broadcast(failures):
        path.unlink(missing_ok=True)
        free = shutil.disk_usage(folder).free / 2**30
        raise UserError(
            f"the checkpoint of step {step} cannot be written to {folder}: {failed[0]} "
            f"({free:.1f} GiB free); the one before it is kept",
            "make room, or move everything with output_dir=FOLDER; the same command continues",
        )


def _write(path: Path, write: Callable[[BinaryIO], object]) -> tuple[dict[str, Any], str]:
    """Writes a whole file or none; returns its size and hash, and the reason of a failure."""
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
    """Returns the state of the newest undamaged checkpoint, or none when there is none.

    It may have been written by any number of ranks; tensors in shards are for `layout.whole`.
    Damaged checkpoints are reported, set aside and passed over. Every rank must call it.

    Raises:
        DataError: If the newest belongs to another stage, that is to another configuration, or
            was not written by `save`.
    """
    if ranks.main:
        for leftover in folder.glob(".*.writing"):
            leftover.unlink()
    for manifest, facts in ranks.broadcast(list(_manifests(folder)) if ranks.main else []):
        if facts is not None and facts["key"] != key:
            raise DataError(
                f"{manifest} is the checkpoint of another configuration "
                f"({facts['key']}, not {key})",
                f"remove {folder}, and the stage starts over",
            )
        paths = _verified_files(manifest, facts, ranks)
        if paths:
            try:
                return _read(paths, device)
            except (UnpicklingError, RuntimeError, KeyError, EOFError) as error:
                raise DataError(
                    f"{manifest} names files that are no checkpoint: {str(error).splitlines()[0]}",
                    f"remove {folder}, and the stage starts over",
                ) from None
        if ranks.main:
            console.print(
                f"warning: the checkpoint {manifest} is damaged and is set aside", markup=False
            )
            for path in (manifest, *_files(manifest)):
                if path.exists():
                    os.replace(path, path.with_name(f"{path.name}.damaged"))
    return None


def _manifests(folder: Path) -> Iterator[tuple[Path, dict[str, Any] | None]]:
    """Yields manifests with their content, newest first; none for what is no manifest."""
    for manifest in sorted(folder.glob("step-*.json"), reverse=True):
        try:
            facts = read_object(manifest) or {}
            files = facts["files"]
            valid = isinstance(facts["key"], str) and all(map(FILE.fullmatch, files))
            valid = valid and all(isinstance(entry["sha256"], str) for entry in files.values())
            yield manifest, facts if valid else None
        except (KeyError, TypeError, AttributeError):
            yield manifest, None


def _verified_files(manifest: Path, facts: dict[str, Any] | None, ranks: Ranks) -> list[Path]:
    """Returns a checkpoint's files if all are as they were written; ranks share the hashing."""
    files = sorted((facts or {}).get("files", {}).items(), key=lambda item: _rank(item[0]))
    sound = bool(files)
    for name, entry in ranks.shard(files):
        path = manifest.with_name(name)
        sound &= path.is_file() and sha256(path) == entry["sha256"]
    return [manifest.with_name(name) for name, _ in files] if all(ranks.all_gather(sound)) else []


def _rank(name: str) -> int:
    found = FILE.fullmatch(name)
    return int(found[1] or 0) if found else 0


def _read(paths: list[Path], device: torch.device) -> dict[str, Any]:
    if len(paths) == 1:
        return _merged([torch.load(paths[0], map_location=device, weights_only=True)])
    # Mapped, not read: of the other ranks' shards only what this rank needs is touched.
    states = [torch.load(p, map_location="cpu", weights_only=True, mmap=True) for p in paths]
    return _merged(states)


def _merged(states: list[Any]) -> Any:
    """Returns one state of all ranks': shards together, the rest as the first has it."""
    first = states[0]
    if not isinstance(first, dict):
        if isinstance(first, list):
            return [_merged(list(items)) for items in zip(*states, strict=True)]
        return first
    if set(first) == {SHARD}:
        return {SHARD: [state[SHARD] for state in states]}
    return {name: _merged([state[name] for state in states]) for name in first}


def _is_sharded(state: Any) -> bool:
    if isinstance(state, dict):
        return set(state) == {SHARD} or any(map(_is_sharded, state.values()))
    return isinstance(state, list) and any(map(_is_sharded, state))


def _files(manifest: Path) -> list[Path]:
    return list(manifest.parent.glob(f"{manifest.stem}.*pt"))


def _remove(manifest: Path) -> None:
    manifest.unlink(missing_ok=True)
    for path in _files(manifest):
        path.unlink(missing_ok=True)
