"""Inventory of a store: what lies in it, and which run folders refer to it, by files alone.

A store knows its artifacts by the stages of a plan; here there is no plan, only folders.
"""

from __future__ import annotations

import os
import re
import shlex
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from filelock import Timeout

from unlearn_runner.errors import UserError
from unlearn_runner.store.store import PARTIAL, REMOVED, USERS, discard, inspect
from unlearn_runner.utils.disk import refusal
from unlearn_runner.utils.files import read_object
from unlearn_runner.utils.locks import OWNER, is_locked, locked
from unlearn_runner.utils.process import is_alive

State = Literal["whole", "damaged", "partial", "leftover"]
KEY = re.compile(r"[0-9a-f]{16}")
HIDDEN = re.compile(
    rf"\.+({KEY.pattern})(?:\.\w+)*({'|'.join(map(re.escape, (PARTIAL, REMOVED, OWNER)))})"
)
RESULTS, STATUS = "results.json", "status.json"
DEAD_AFTER = timedelta(days=7)
"""Silence of a run on another machine, after which it is taken to be dead."""


@dataclass(frozen=True)
class Entry:
    """One artifact, or the remains of an attempt at one."""

    path: Path
    kind: str
    key: str
    state: State
    fault: str
    """What is wrong with a damaged one."""
    manifest: dict[str, Any] = field(repr=False)
    size: int
    """Bytes on disk."""
    changed: float
    """When any of its files was last written; seconds since 1970."""

    @property
    def name(self) -> str:
        """Kind and key, as manifests and results name it."""
        return f"{self.kind}/{self.key}"

    @property
    def locked(self) -> bool:
        """Whether a process works on it now."""
        return is_locked(self.path.parent, self.key)

    @property
    def what(self) -> str:
        """What it is, in a few words."""
        if self.state in ("partial", "leftover"):
            checkpoint = any((self.path / "checkpoints").glob("*.pt"))
            return "with a checkpoint" if checkpoint else ""
        settings = self.manifest.get("settings", {})
        if "method" in settings and "rectifier" in settings:
            parts = [_class(settings["method"]), _class(settings["rectifier"])]
            retain = _settings(_settings(settings["method"]).get("retain"))
            if retain.get("loss") not in (None, "none"):
                parts[0] += f" (retain {retain['loss']})"
            adapter = _class(settings.get("adapter"))
            parts += [adapter] if adapter not in ("?", "NoAdapter") else []
            return f"{' + '.join(parts)}, seed {settings.get('seed')}"
        return ": ".join(str(self.manifest[k]) for k in ("label", "reads") if self.manifest.get(k))


def _settings(component: object) -> dict[str, Any]:
    return component if isinstance(component, dict) else {}


def _class(component: object) -> str:
    return str(_settings(component).get("class", "?")).rpartition(":")[2]


def entries(root: Path, every: bool = False) -> list[Entry]:
    """Returns what lies in a store, kind by kind; hashes small files, or `every` one.

    Raises:
        UserError: If there is no store.
    """
    within = [p for p in (root / "store", root / "outputs" / "store") if p.is_dir()]
    if within or not root.is_dir():
        fix = "name the folder that a run calls its store"
        if within:
            fix = shlex.join(["unlearn-store", "ls", str(within[0])])
        raise UserError(f"there is no store at {root}", fix)
    try:
        folders = [path for kind in _folders(root) for path in sorted(kind.iterdir())]
    except OSError as error:
        raise refusal(error, root) or error from None
    return [entry for path in folders if (entry := inspect_entry(path, every))]


def inspect_entry(path: Path, every: bool = False) -> Entry | None:
    """Returns what lies at a path of a store, or none when it is nothing of ours."""
    manifest: dict[str, Any] = {}
    state: State
    fault = ""
    if KEY.fullmatch(path.name):
        key = path.name
        manifest, fault = inspect(path, every)
        state = "damaged" if fault else "whole"
    elif match := HIDDEN.fullmatch(path.name):
        key, ending = match[1], match[2]
        state = "partial" if ending == PARTIAL else "leftover"
        if ending == OWNER and is_locked(path.parent, key):
            return None
    else:
        return None
    size, changed = _extent(path)
    return Entry(path, path.parent.name, key, state, fault, manifest, size, changed)


def _extent(path: Path) -> tuple[int, float]:
    size, changed = 0, 0.0
    for item in (path, *path.rglob("*")):
        try:
            stat = item.lstat()
        except OSError:  # its owner is at work
            continue
        size += 0 if item.is_dir() else stat.st_size
        changed = max(changed, stat.st_mtime)
    return size, changed or time.time()


def remove(entry: Entry) -> str:
    """Removes an entry that nobody works on; returns why not, or an empty string."""
    try:
        with locked(entry.path.parent, entry.key, "removing it", wait=False):
            now = inspect_entry(entry.path)
            if now is not None and (now.state, now.changed) != (entry.state, entry.changed):
                return "it has changed"
            discard(entry.path)
            return ""
    except Timeout:
        return "a process works on it"
    except OSError as error:
        refused = refusal(error, entry.path)
        return refused.problem if refused else str(error)


@dataclass(frozen=True)
class Uses:
    """Which runs refer to which artifacts."""

    by_artifact: dict[str, list[str]]
    """Names of run folders by kind/key."""
    unsettled: dict[str, str]
    """Run folders that may use more than they say, with the reason."""
    runs: int


def uses(outputs: Iterable[Path], stored: Iterable[Entry]) -> Uses:
    """Returns what the runs below `outputs` use, and what that was made from."""
    inputs = {e.name: tuple(e.manifest.get("inputs", {}).values()) for e in stored}
    by_artifact: dict[str, set[str]] = {}
    unsettled: dict[str, str] = {}
    folders: list[Path] = []
    for place in (top / name for top in outputs for name in ("runs", "evals", "sweeps")):
        try:
            for folder in _folders(place):
                folders += _folders(folder) if place.name == "sweeps" else [folder]
        except OSError as error:
            unsettled[str(error.filename or place)] = f"cannot be read: {error.strerror}"
    for folder in folders:
        name = f"{folder.parent.name}/{folder.name}"
        if reason := _alive(folder):
            unsettled[name] = reason
        if not os.path.lexists(folder / RESULTS):
            continue  # a run that did not end
        try:
            stages: list[Any] = (read_object(folder / RESULTS) or {})["stages"]
            queue = [f"{stage['kind']}/{stage['key']}" for stage in stages]
        except (LookupError, TypeError):
            unsettled[name] = f"its {RESULTS} cannot be read"
            continue
        while queue:
            artifact = queue.pop()
            if name not in by_artifact.setdefault(artifact, set()):
                by_artifact[artifact].add(name)
                queue += inputs.get(artifact, ())
    return Uses({name: sorted(runs) for name, runs in by_artifact.items()}, unsettled, len(folders))


def _folders(place: Path) -> list[Path]:
    """Returns the folders in a folder, without hidden ones; none where it is missing."""
    if not place.is_dir():
        return []
    return sorted(p for p in place.iterdir() if p.is_dir() and not p.name.startswith("."))


def _alive(folder: Path) -> str:
    """Returns how a run that has not ended goes on, or an empty string."""
    facts = read_object(folder / STATUS) or {}
    if facts.get("status") not in ("running", "waiting"):
        return ""
    if facts.get("host") == socket.gethostname():
        return f"running as process {facts['pid']}" if is_alive(facts.get("pid")) else ""
    try:
        updated = datetime.fromisoformat(str(facts.get("updated"))).astimezone(UTC)
    except (ValueError, OverflowError):
        return ""
    return f"running on {facts.get('host')}" if datetime.now(UTC) - updated < DEAD_AFTER else ""


@dataclass(frozen=True)
class User:
    """An outputs folder whose runs use a store, by the note that they left in it."""

    note: Path
    outputs: Path | None
    """None when the note cannot be read."""

    @property
    def fault(self) -> str:
        """Why its runs cannot be consulted, or an empty string."""
        if self.outputs is None:
            return f"the note {self.note} cannot be read"
        there = os.path.isdir(self.outputs)
        return "" if there else f"{self.outputs}, whose runs use this store, is not there"


def users(root: Path) -> list[User]:
    """Returns the outputs folders, other than the store's own, that have used a store."""
    found = []
    for note in sorted((root / USERS).glob("*.json")):
        outputs = (read_object(note) or {}).get("outputs")
        readable = isinstance(outputs, str) and os.path.isabs(outputs) and "\0" not in outputs
        found.append(User(note, Path(str(outputs)) if readable else None))
    return found
