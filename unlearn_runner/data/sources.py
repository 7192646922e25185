"""Where named splits of question/answer rows come from: files, the hub, or a generator.

Rows are checked when they are opened, so a malformed file ends in a message that names the file and
the line before anything is computed.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unlearn_runner.data.rows import QA, Rows
from unlearn_runner.errors import DataError, listed, nearest

Placed = tuple[str, Any]
"""Where a record stands, for messages, and the record."""


@dataclass(frozen=True)
class Source(ABC):
    """Reads named splits. Two reads of one name give equal rows."""

    @abstractmethod
    def read(self, split: str) -> Rows:
        """Returns the rows of `split`.

        Raises:
            DataError: If the split does not exist or a row is malformed.
        """


@dataclass(frozen=True)
class Tofu(Source):
    """TOFU (Maini et al. 2024) from a folder of the upstream JSON files, or from the hub.

    The files are JSON lines named `<split>.json`; a JSON array is read too.
    """

    hub: str = "locuslab/TOFU"
    revision: str = "324592d84ae4f482ac7249b9285c2ecdb53e3a68"
    data_dir: str | None = None
    """Folder with the upstream files; null asks the hub (or its local cache when offline)."""
    sizes: dict[str, int] | None = field(default_factory=dict)
    """Expected number of rows by split; splits not named are not checked, nor any when null."""

    def read(self, split: str) -> Rows:
        """Returns the rows of `split`, checked."""
        where, records = self._from_hub(split) if self.data_dir is None else self._from_file(split)
        rows = Rows(split, tuple(checked(record, place) for place, record in records))
        expected = (self.sizes or {}).get(split)
        if expected is not None and len(rows) != expected:
            raise DataError(
                f"{where} has {len(rows)} rows, but {split} has {expected}",
                "fetch the file again, or set benchmark.source.sizes=null to take it as it is",
            )
        return rows

    def _from_file(self, split: str) -> tuple[str, list[Placed]]:
        folder = Path(str(self.data_dir)).expanduser()
        if not folder.is_dir():
            raise DataError(
                f"benchmark.data_dir={self.data_dir} is not a folder (seen from {Path.cwd()})",
                "name the folder that holds full.json, forget10.json, ... or leave it out to use "
                f"the hub data set {self.hub}",
            )
        path = folder / f"{split}.json"
        if not path.is_file():
            present = sorted(p.stem for p in folder.glob("*.json"))
            close = nearest(split, present)
            raise DataError(
                f"benchmark.data_dir={self.data_dir} has no {path.name}; it has {listed(present)}",
                f"did you mean {close}.json?" if close else "",
            )
        return str(path), read_json_rows(path)

    def _from_hub(self, split: str) -> tuple[str, list[Placed]]:
        # Imported here: a run on local files must not pay for it, nor need it.
        from datasets import load_dataset

        try:
            data = load_dataset(self.hub, split, split="train", revision=self.revision)
        except Exception as error:
            reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
            raise DataError(
                f"the hub data set {self.hub} ({split}) could not be read: {reason}",
                "benchmark.data_dir=FOLDER with the upstream JSON files needs no network",
            ) from None
        where = f"{self.hub}/{split}"
        return where, [(f"{where} row {i}", record) for i, record in enumerate(data, 1)]


def read_json_rows(path: Path) -> list[Placed]:
    """Reads a JSON array or JSON lines; each record with the place it stands at.

    Raises:
        DataError: If the file is not UTF-8 or not JSON, naming the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise DataError(f"{path}:{line} is not UTF-8 text") from None
    if text.lstrip().startswith("["):
        try:
            return [(f"{path} row {i}", record) for i, record in enumerate(json.loads(text), 1)]
        except json.JSONDecodeError as error:
            raise DataError(f"{path}:{error.lineno} is not valid JSON: {error.msg}") from None
    records = []
    # Not splitlines: a JSON text may hold other line separators than the newline.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            records.append((f"{path}:{number}", json.loads(line)))
        except json.JSONDecodeError as error:
            raise DataError(f"{path}:{number} is not valid JSON: {error.msg}") from None
    if not records:
        raise DataError(f"{path} is empty")
    return records


def checked(record: object, where: str) -> QA:
    """Returns the row that a record of TOFU's schema describes.

    Raises:
        DataError: If a key is missing, empty or of the wrong type.
    """
    if not isinstance(record, Mapping):
        raise DataError(f"{where} is not a JSON object with question and answer")
    for name in ("question", "answer"):
        value = record.get(name)
        if not isinstance(value, str) or not value.strip():
            state = "no" if name not in record else "an empty or non-text"
            raise DataError(f"{where} has {state} {name!r}")
    wrong = record.get("perturbed_answer", [])
    if not isinstance(wrong, list) or not all(isinstance(w, str) and w.strip() for w in wrong):
        raise DataError(f"{where}: 'perturbed_answer' must be a list of non-empty texts")
    paraphrase = record.get("paraphrased_answer")
    if paraphrase is not None and (not isinstance(paraphrase, str) or not paraphrase.strip()):
        raise DataError(f"{where} has an empty or non-text 'paraphrased_answer'")
    return QA(record["question"], record["answer"], paraphrase, tuple(wrong))
