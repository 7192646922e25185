"""What lies in a store, and which run folders refer to it: read from the files alone.

A store knows its artifacts by the stages of a plan; here there is no plan, only folders.
"""

from __future__ import annotations

import json
import os
import re
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from filelock import Timeout

from unlearn_runner.errors import UserError
from unlearn_runner.store.store import PARTIAL, REMOVED, discard, inspect
from unlearn_runner.utils.disk import refusal
from unlearn_runner.utils.locks import OWNER, is_locked, locked

State = Literal["whole", "damaged", "partial", "leftover"]
KEY = re.compile(r"[0-9a-f]{16}")
HIDDEN = re.compile(
    rf"\.+({KEY.pattern})(?:\.\w+)*({'|'.join(map(re.escape, (PARTIAL, REMOVED, OWNER)))})"
)
RUNS = ("runs/*", "sweeps/*/*")
FORGOTTEN = timedelta(days=7)
"""After which a run on another machine that says it is running is taken to be dead."""


@dataclass(frozen=True)
class Entry:
    """One artifact, or what an attempt at one left."""

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
            retain = settings["method"].get("retain", {})
            if isinstance(retain, dict) and retain.get("loss") not in (None, "none"):
                parts[0] += f" (retain {retain['loss']})"
            adapter = _class(settings.get("adapter", {}))
            parts += [adapter] if adapter not in ("?", "NoAdapter") else []
            return f"{' + '.join(parts)}, seed {settings.get('seed')}"
        return ": ".join(str(self.manifest[k]) for k in ("label", "reads") if self.manifest.get(k))


def _class(settings: dict[str, Any]) -> str:
    return str(settings.get("class", "?")).rpartition(":")[2]


def entries(root: Path, every: bool = False) -> list[Entry]:
    """Returns what lies in a store, kind by kind.

    Args:
        root: The store.
        every: Hash every file, not only small ones.

    Raises:
        UserError: If there is no store.
    """
    within = [p for p in (root / "store", root / "outputs" / "store") if p.is_dir()]
    if within or not root.is_dir():
        fix = str(within[0]) if within else "FOLDER"
        raise UserError(f"there is no store at {root}", f"unlearn-store ls {fix}")
    try:
        folders = sorted(p for kind in sorted(root.iterdir()) if kind.is_dir() for p in _in(kind))
    except OSError as error:
        raise refusal(error, root) or error from None
    return [entry for path in folders if (entry := inspect_entry(path, every))]


def _in(kind: Path) -> list[Path]:
    return [] if kind.name.startswith(".") else list(kind.iterdir())


def inspect_entry(path: Path, every: bool = False) -> Entry | None:
    """Returns what stands at a path of a store, or none when it is nothing of ours."""
    manifest: dict[str, Any] = {}
    state: State
    fault = ""
    if KEY.fullmatch(path.name):
        key = path.name
        manifest, fault = inspect(path, every)
        state = "damaged" if fault else "whole"
    elif found := HIDDEN.fullmatch(path.name):
        key, ending = found[1], found[2]
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
    """Reads the run folders below `outputs`; what a used artifact was made from is used, too."""
    inputs = {e.name: tuple(e.manifest.get("inputs", {}).values()) for e in stored}
    found: dict[str, set[str]] = {}
    unsettled: dict[str, str] = {}
    folders = [f for top in outputs for pattern in RUNS for f in sorted(top.glob(pattern))]
    for folder in folders:
        name = f"{folder.parent.name}/{folder.name}"
        if reason := _alive(folder):
            unsettled[name] = reason
        try:
            results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
            wanted = [f"{stage['kind']}/{stage['key']}" for stage in results["stages"]]
        except FileNotFoundError:
            continue  # a run that did not end
        except (OSError, ValueError, LookupError, TypeError):
            unsettled[name] = "its results.json cannot be read"
            continue
        while wanted:
            artifact = wanted.pop()
            if name not in found.setdefault(artifact, set()):
                found[artifact].add(name)
                wanted += inputs.get(artifact, ())
    return Uses({name: sorted(runs) for name, runs in found.items()}, unsettled, len(folders))


def _alive(folder: Path) -> str:
    """Returns how a run that has not ended goes on, or an empty string."""
    try:
        status = json.loads((folder / "status.json").read_text(encoding="utf-8"))
        if status["status"] not in ("running", "waiting"):
            return ""
        pid, host = int(status["pid"]), status["host"]
        updated = datetime.fromisoformat(status["updated"])
    except (OSError, ValueError, LookupError, TypeError):
        return ""
    if host != socket.gethostname():
        return f"running on {host}" if datetime.now(UTC) - updated < FORGOTTEN else ""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass  # somebody else's, and alive
    return f"running as process {pid}"
