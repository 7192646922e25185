"""The store of finished artifacts: content-addressed, published whole or not at all.

An artifact is a folder `<store>/<kind>/<key>` whose `manifest.json` was written last and which was
renamed into place as a whole, so a reader never sees half of one. A lock per key lets processes
that want the same artifact wait for each other; the operating system frees it when its owner dies.

Disks forget and bytes flip, so a manifest holds the size and sha256 of every file, and of itself.
To see whether an artifact is there, sizes are compared and small files hashed; what is about to be
loaded into a computation is hashed throughout, and so is everything under `verify=true`.

A store may come from elsewhere. No name in a manifest leads out of its artifact's folder: one that
does makes the artifact a damaged one.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from unlearn_runner.store.artifact import Artifact, Outcome
from unlearn_runner.store.keys import settings
from unlearn_runner.utils.disk import disk_errors
from unlearn_runner.utils.files import OutsideError, inside, render_json, sha256, sync, write_json
from unlearn_runner.utils.locks import is_locked, locked
from unlearn_runner.utils.redact import redacted
from unlearn_runner.utils.text import size

MANIFEST = "manifest.json"
PARTIAL, REMOVED = ".partial", ".removed"
EPHEMERAL = "ephemeral"
"""In a manifest: every run so far that needed the artifact keeps only its scores; see `drop`."""
USERS = ".users"
"""Folder of a store with a note of each outputs folder, not its own, whose runs use it."""
SMALL = 4 << 20
"""Bytes up to which a file is hashed at every check: some milliseconds."""

_digests: dict[tuple[int, ...], str] = {}
"""Digests of files by identity: hashing gigabytes once in a process is enough."""


@dataclass(frozen=True)
class Building:
    """An artifact under construction."""

    folder: Path
    checkpoints: Path


class Store:
    """Artifacts below one folder.

    Args:
        root: The folder.
        verify: Hash every file of every artifact that is checked, however large.
    """

    def __init__(self, root: Path, verify: bool = False) -> None:
        self.root, self.verify = root, verify

    def note_user(self, outputs: Path) -> None:
        """Notes that runs of an outputs folder use the store, so that `gc` finds what they use.

        The folder that the store lies in is always consulted, and needs no note.
        """
        outputs = outputs.resolve()
        if outputs == self.root.resolve().parent:
            return
        name = hashlib.sha256(os.fsencode(outputs)).hexdigest()[:16]
        with suppress(OSError):  # a store that this user may only read, and not clean up either
            (self.root / USERS).mkdir(parents=True, exist_ok=True)
            write_json(self.root / USERS / f"{name}.json", {"outputs": str(outputs)})

    def path(self, artifact: Artifact) -> Path:
        """Returns the folder of an artifact, finished or not."""
        return artifact.outside() or self.root / artifact.kind / artifact.key

    def manifest(self, artifact: Artifact, load: bool = False) -> dict[str, Any] | None:
        """Returns the manifest of a whole artifact, or none when it is missing or damaged.

        To `load` its files all of them are hashed, and one whose weights were dropped is no use.
        """
        if artifact.given:
            return {"outcome": "completed", "files": {}} if artifact.outside() else None
        manifest, fault = inspect(self.path(artifact), load or self.verify)
        return None if fault or (load and manifest.get("dropped")) else manifest

    def fault(self, artifact: Artifact) -> str:
        """Returns what is wrong with what stands where the artifact should, or an empty string."""
        folder = self.path(artifact)
        return inspect(folder, self.verify)[1] if os.path.lexists(folder) else ""

    def is_ephemeral(self, artifact: Artifact) -> bool:
        """Returns whether an artifact that is to be made belongs to no run that keeps it whole."""
        folder = self.path(artifact)
        if not os.path.lexists(folder):
            return True
        manifest, _ = inspect(folder, every=False)  # damaged, or without its weights
        return bool(manifest.get(EPHEMERAL))

    def keep(self, artifact: Artifact, manifest: dict[str, Any]) -> None:
        """Takes the mark `ephemeral` from an artifact whose lock is held."""
        if manifest.pop(EPHEMERAL, False):
            self._rewrite(artifact, manifest)

    def drop(self, artifact: Artifact, pattern: str) -> None:
        """Removes the files of an ephemeral artifact that match, and says so in its manifest.

        An artifact is marked as ephemeral when it is made for a run that keeps no weights
        (`keep=scores`), and no longer once a run that keeps them has needed it. So nobody's
        kept weights are removed, and a run that died before it removed its own leaves the mark to
        the next. What remains still answers what it was and how it ended; whoever needs the files
        computes it again.
        """
        folder = self.path(artifact)
        if folder.is_symlink() or not _ephemeral_files(self.manifest(artifact), folder, pattern):
            return
        with self.locked(artifact):
            manifest = self.manifest(artifact)  # another run may have taken the mark away meanwhile
            dropped = _ephemeral_files(manifest, folder, pattern)
            if manifest is None or not dropped:
                return
            manifest["files"] = {n: e for n, e in manifest["files"].items() if n not in dropped}
            manifest["dropped"] = sorted({*manifest.get("dropped", []), *dropped})
            self._rewrite(artifact, manifest)  # first: a kill must not leave a damaged one
            for path in dropped.values():
                path.unlink(missing_ok=True)

    def _rewrite(self, artifact: Artifact, manifest: dict[str, Any]) -> None:
        manifest = {name: value for name, value in manifest.items() if name != "sha256"}
        manifest["sha256"] = _own_digest(manifest)
        write_json(self.path(artifact) / MANIFEST, manifest)

    @contextmanager
    def locked(
        self, artifact: Artifact, on_wait: Callable[[str], None] = lambda _: None
    ) -> Iterator[None]:
        """Holds the lock of one artifact; waits for another process that holds it.

        `on_wait` is called, before waiting, with what is waited for.

        Raises:
            DiskError: When the disk refuses something within; checkpoints stay as they are.
        """
        folder = self.path(artifact).parent
        what = f"{artifact.label} ({artifact.kind}/{artifact.key})"
        with (
            disk_errors(folder / artifact.key),
            locked(folder, artifact.key, what, on_wait=on_wait),
        ):
            yield

    def is_locked(self, artifact: Artifact) -> bool:
        """Returns whether a process holds the lock of an artifact."""
        return is_locked(self.path(artifact).parent, artifact.key)

    def begin(self, artifact: Artifact) -> Building:
        """Returns an empty folder for an artifact, and an earlier attempt's checkpoints."""
        partial = self._partial(artifact)
        building = Building(partial / "artifact", partial / "checkpoints")
        for folder in (partial, building.folder, building.checkpoints):
            if folder.is_symlink():  # nothing is written elsewhere
                folder.unlink()
        shutil.rmtree(building.folder, ignore_errors=True)
        for folder in (building.folder, building.checkpoints):
            folder.mkdir(parents=True, exist_ok=True)
        return building

    def publish(self, artifact: Artifact, building: Building, outcome: Outcome, facts: Any) -> None:
        """Makes the artifact visible: manifest last, then one rename."""
        files = {}
        for path in sorted(p for p in building.folder.rglob("*") if p.is_file()):
            name = path.relative_to(building.folder).as_posix()
            sync(path)
            files[name] = {"size": path.stat().st_size, "sha256": _digest(path)}
        manifest = {
            "kind": artifact.kind,
            "key": artifact.key,
            "outcome": outcome,
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "label": artifact.label,
            "reads": redacted(artifact.reads()),
            "inputs": {s.label: f"{s.kind}/{s.key}" for s in artifact.inputs},
            "settings": redacted(settings(artifact)),
            **facts,
            "files": files,
        }
        manifest["sha256"] = _own_digest(manifest)
        write_json(building.folder / MANIFEST, manifest)
        sync(building.folder / MANIFEST)
        sync(building.folder)
        final = self.path(artifact)
        discard(final)  # only a damaged artifact can stand here: we hold the lock
        os.replace(building.folder, final)
        # Without it a power cut could take back the rename, and hours of training with it.
        sync(final.parent)
        shutil.rmtree(self._partial(artifact), ignore_errors=True)

    def _partial(self, artifact: Artifact) -> Path:
        return self.root / artifact.kind / f".{artifact.key}{PARTIAL}"


def inspect(folder: Path, every: bool) -> tuple[dict[str, Any], str]:
    """Returns an artifact's manifest, and what is wrong with it or an empty string.

    Hashed are small files and those whose digest is known, or `every` one.
    """
    if not (folder / MANIFEST).is_file():
        return {}, f"{MANIFEST} is missing"
    try:
        text = (folder / MANIFEST).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        return {}, f"{MANIFEST} cannot be read: {error}"
    try:
        manifest = json.loads(text)
        if _own_digest(manifest) != manifest["sha256"] or render_json(manifest) != text:
            return {}, f"{MANIFEST} is not as it was written"
        files = _files(manifest, folder)
    except OutsideError as error:
        return {}, f"{MANIFEST} is not a manifest: {error}"
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}, f"{MANIFEST} is not a manifest"
    if (manifest.get("kind"), manifest.get("key")) != (folder.parent.name, folder.name):
        return {}, f"{MANIFEST} is of {manifest.get('kind')}/{manifest.get('key')}"
    for path, length, digest in files:
        if fault := _file_fault(path, length, digest, every):
            return manifest, f"{path.relative_to(folder)} {fault}"
    return manifest, ""


def _files(manifest: dict[str, Any], folder: Path) -> list[tuple[Path, int, str]]:
    """Returns the path, size and sha256 of each file of an artifact.

    Raises:
        OutsideError: If one of its names leads out of the folder.
        TypeError: If something else in it is of another type than we write.
    """
    shapes = {"files": dict, "inputs": dict, "settings": dict, "dropped": list}
    parts = [(manifest.get(part, shape()), shape) for part, shape in shapes.items()]
    texts = [manifest["outcome"], *manifest.get("inputs", {}).values()]
    entries = [(name, e["size"], e["sha256"]) for name, e in manifest["files"].items()]
    typed = [*parts, *((t, str) for t in texts), *((size, int) for _, size, _ in entries)]
    if not all(isinstance(value, shape) for value, shape in typed):
        raise TypeError
    for name in manifest.get("dropped", []):
        inside(folder, name)
    return [(inside(folder, name), length, digest) for name, length, digest in entries]


def _ephemeral_files(
    manifest: dict[str, Any] | None, folder: Path, pattern: str
) -> dict[str, Path]:
    """Returns what of an artifact is to be dropped: also what a kill left of an earlier drop."""
    if manifest is None or not manifest.get(EPHEMERAL):
        return {}
    names = [name for name in manifest["files"] if fnmatch(name, pattern)]
    paths = {name: inside(folder, name) for name in (*names, *manifest.get("dropped", []))}
    return {name: path for name, path in paths.items() if path.is_file()}


def _file_fault(path: Path, length: int, digest: str, every: bool) -> str:
    try:
        if not path.is_file():
            return "is missing"
        actual = path.stat().st_size
        if actual != length:
            return f"has {size(actual)} ({actual}) instead of {length} bytes"
        hashed = every or actual <= SMALL or _identity(path) in _digests
        if hashed and _digest(path) != digest:
            return "has other bytes than were written (sha256 differs)"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return ""


def discard(path: Path) -> None:
    """Removes a folder: renamed away first, so that nobody finds half of it."""
    aside = path.with_name(f".{path.name}.{os.getpid()}{REMOVED}")
    with suppress(FileNotFoundError):
        os.replace(path, aside)
        if aside.is_dir() and not aside.is_symlink():
            shutil.rmtree(aside)
        else:
            aside.unlink()


def _identity(path: Path) -> tuple[int, ...]:
    """Returns what changes whenever a file's content may have; a rename is no change."""
    stat = path.stat()
    return (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


def _digest(path: Path) -> str:
    identity = _identity(path)
    if identity not in _digests:
        _digests[identity] = sha256(path)
    return _digests[identity]


def _own_digest(manifest: dict[str, Any]) -> str:
    rest = {name: value for name, value in manifest.items() if name != "sha256"}
    return hashlib.sha256(render_json(rest).encode()).hexdigest()


WEIGHTS = "*.safetensors"
