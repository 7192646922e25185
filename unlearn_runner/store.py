"""The store of finished artifacts: content-addressed, published whole or not at all.

An artifact is a folder `<store>/<kind>/<key>` whose `manifest.json` was written last and which was
renamed into place as a whole, so a reader never sees half of one. A lock per key lets processes
that want the same artifact wait for each other; the operating system frees it when its owner dies.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatch
from hashlib import sha256
from pathlib import Path
from typing import Any

from filelock import FileLock

from unlearn_runner.errors import UserError
from unlearn_runner.keys import settings
from unlearn_runner.stages.base import Outcome, Stage

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Building:
    """An artifact under construction."""

    folder: Path
    checkpoints: Path


class Store:
    """Artifacts below one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, stage: Stage) -> Path:
        """Returns the folder of the stage's artifact, finished or not."""
        return stage.outside() or self.root / stage.kind / stage.key

    def manifest(self, stage: Stage) -> dict[str, Any] | None:
        """Returns the manifest of a whole artifact, or none when it is missing or damaged."""
        if stage.given:
            return {"outcome": "completed", "files": {}} if stage.outside() else None
        folder = self.path(stage)
        try:
            manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
            sizes = {name: entry["size"] for name, entry in manifest["files"].items()}
            whole = all((folder / name).stat().st_size == size for name, size in sizes.items())
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return manifest if whole else None

    def drop(self, stage: Stage, pattern: str) -> None:
        """Removes the files of an artifact that match, and says so in its manifest.

        The artifact still answers what it was and how it ended; whoever needs the files computes
        it again.
        """
        with self.locked(stage):
            manifest = self.manifest(stage)
            if manifest is None:
                return
            folder = self.path(stage)
            gone = [name for name in manifest["files"] if fnmatch(name, pattern)]
            manifest["files"] = {n: e for n, e in manifest["files"].items() if n not in gone}
            manifest["dropped"] = sorted({*manifest.get("dropped", []), *gone})
            write_json(folder / MANIFEST, manifest)  # first: a kill must not leave a damaged one
            for name in gone:
                (folder / name).unlink(missing_ok=True)

    def damaged(self, stage: Stage) -> bool:
        """Returns whether something stands where the artifact should, but not a whole one."""
        return self.path(stage).exists() and self.manifest(stage) is None

    @contextmanager
    def locked(self, stage: Stage) -> Iterator[None]:
        """Holds the lock of one artifact; waits for another process that holds it."""
        folder = self.path(stage).parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"the store {self.root} cannot be written: {error.strerror}",
                "store=FOLDER or output_dir=FOLDER on a disk you can write to",
            ) from None
        with FileLock(folder / f".{stage.key}.lock"):
            yield

    def begin(self, stage: Stage) -> Building:
        """Returns empty room for an artifact; checkpoints of an earlier attempt are kept."""
        room = self._room(stage)
        shutil.rmtree(room / "artifact", ignore_errors=True)
        for part in ("artifact", "checkpoints"):
            (room / part).mkdir(parents=True, exist_ok=True)
        return Building(room / "artifact", room / "checkpoints")

    def publish(self, stage: Stage, building: Building, outcome: Outcome, facts: Any) -> None:
        """Makes the artifact visible: manifest last, then one rename."""
        files = {}
        for path in sorted(p for p in building.folder.rglob("*") if p.is_file()):
            name = path.relative_to(building.folder).as_posix()
            files[name] = {"size": path.stat().st_size, "sha256": _digest(path)}
        manifest = {
            "kind": stage.kind,
            "key": stage.key,
            "outcome": outcome,
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "inputs": {s.label: f"{s.kind}/{s.key}" for s in stage.inputs},
            "settings": settings(stage),
            **facts,
            "files": files,
        }
        write_json(building.folder / MANIFEST, manifest)
        final = self.path(stage)
        if final.exists():  # only a damaged artifact can stand here: we hold the lock
            shutil.rmtree(final)
        os.replace(building.folder, final)
        shutil.rmtree(self._room(stage), ignore_errors=True)

    def _room(self, stage: Stage) -> Path:
        return self.root / stage.kind / f".{stage.key}.partial"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        digest = sha256()
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def write_json(path: Path, content: object) -> None:
    """Writes JSON so that a reader sees the old file or the new one, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    temporary.write_text(text + "\n", encoding="utf-8")
    os.replace(temporary, path)
