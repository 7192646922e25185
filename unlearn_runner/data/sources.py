"""Sources of named splits of question/answer rows: files, or the hub.

Rows are checked when they are opened, so a malformed file ends in a message that names the file and
the line before anything is computed.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from unlearn_runner.data.rows import QA, Rows
from unlearn_runner.errors import DataError, listed, nearest

AGAIN = "fetch the file again"
ROW = 'one line per row: {"question": "...", "answer": "..."}'
LFS = "version https://git-lfs"
Placed = tuple[str, Any]
"""Place of a record, for messages, and the record."""


@dataclass(frozen=True)
class Source(ABC):
    """Base class of sources. Two reads of one split give equal rows."""

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
        rows = Rows(split, checked_split(records))
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
                (f"{close} in place of {split}, or " if close else "")
                + f"put {path.name} of {self.hub} there",
            )
        return str(path), read_json_rows(path)

    def _from_hub(self, split: str) -> tuple[str, list[Placed]]:
        path = self.fetched(split)
        where = f"{self.hub}/{path.name}"
        return where, read_json_rows(path)

    def fetched(self, split: str) -> Path:
        """Returns the split's file in the hub's cache (`HF_HOME`), fetched when it is not there.

        The file itself, not `datasets`' copy of it: it is checked line by line like a local one,
        and a cached one of a pinned revision is found without a network.

        Raises:
            DataError: If it cannot be had.
        """
        # Imported here: a run on local files must not pay for it, nor need it.
        from huggingface_hub import HfApi, hf_hub_download, try_to_load_from_cache

        which: dict[str, Any] = {"repo_type": "dataset", "revision": self.revision}
        cached = try_to_load_from_cache(self.hub, f"{split}.json", **which)
        if isinstance(cached, str):
            return Path(cached)
        try:
            # Asked first: where there is no network the download tries for half a minute.
            HfApi().dataset_info(self.hub, revision=self.revision)
            found = hf_hub_download(self.hub, f"{split}.json", **which)
        except Exception as error:  # of many kinds, by what is wrong with hub, network or name
            reason = " ".join(str(error).split())[:120] or type(error).__name__
            raise DataError(
                f"the hub data set {self.hub} ({split}) could not be read: {reason}",
                "benchmark.data_dir=FOLDER with the upstream JSON files needs no network, nor does "
                "what was fetched before by: python scripts/fetch.py --tofu",
            ) from None
        return Path(found)


def read_json_rows(path: Path) -> list[Placed]:
    """Reads a JSON array or JSON lines; each record with the place it stands at.

    Raises:
        DataError: If the file cannot be read, is not UTF-8 or not JSON, naming the line.
    """
    text = _text(path)
    if text.lstrip().startswith("["):
        found = [(f"{path} row {i}", record) for i, record in enumerate(_json(text, path), 1)]
    else:
        # Not splitlines: a JSON text may hold other line separators than the newline.
        lines = [(i, line) for i, line in enumerate(text.split("\n"), 1) if line.strip()]
        found = [(f"{path}:{i}", _json(line, path, i)) for i, line in lines]
    if not found:
        raise DataError(f"{path} is empty", f"{AGAIN}; {ROW}")
    return found


def _text(path: Path) -> str:
    try:
        data = path.read_bytes().removeprefix(b"\xef\xbb\xbf")  # the mark some editors begin with
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror}", "a file that this user may read"
        ) from None
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DataError(
            f"{path}:{line} is not UTF-8 text", f"iconv -f latin1 -t utf-8 {path.name}, if it is"
        ) from None


def _json(text: str, path: Path, line: int | None = None) -> Any:
    """Returns what a whole file, or the given line of it, says in JSON by the standard alone."""
    where = path if line is None else f"{path}:{line}"
    try:
        return json.loads(text, parse_constant=_no_number, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        at = f"{path}:{error.lineno if line is None else line}"
        fix = "git lfs pull, which fetches the file itself" if text.startswith(LFS) else ROW
        raise DataError(f"{at} is not valid JSON: {error.msg}", fix) from None
    except RecursionError:
        raise DataError(f"{where} is not valid JSON for us: it is nested too deeply", ROW) from None
    except ValueError as error:
        raise DataError(f"{where} is not valid JSON: {error}", f"correct it, or {AGAIN}") from None


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} stands twice in one object")
    return dict(pairs)


def checked_split(records: Iterable[Placed]) -> tuple[QA, ...]:
    """Returns the rows of a split, each checked, and checked against each other.

    Raises:
        DataError: If a row is malformed, repeats another, or lacks what others have.
    """
    rows: list[QA] = []
    places: dict[tuple[str, str], str] = {}
    for where, record in records:
        row = checked(record, where)
        # TOFU asks one question of two authors: only question and answer together are a row.
        first = places.setdefault((row.question, row.answer), where)
        if first != where:
            raise DataError(
                f"{where} repeats the question and answer of {first}", "remove one of the two"
            )
        for name, there, expected in (
            ("paraphrased_answer", row.paraphrased_answer, rows and rows[0].paraphrased_answer),
            ("perturbed_answer", row.perturbed_answers, rows and rows[0].perturbed_answers),
        ):
            if rows and bool(there) != bool(expected):
                other = next(iter(places.values()))
                lacks, has = (other, where) if there else (where, other)
                raise DataError(
                    f"{lacks} has no {name!r}, but {has} has: all rows or none must",
                    f"add it to every row, or {AGAIN}",
                )
        rows.append(row)
    return tuple(rows)


def checked(record: object, where: str) -> QA:
    """Returns the row that a record of TOFU's schema describes.

    Raises:
        DataError: If a key is missing, empty or of the wrong type, or a wrong answer is right.
    """
    if not isinstance(record, Mapping):
        raise DataError(f"{where} is not a JSON object with question and answer", ROW)
    for name in ("question", "answer"):
        value = record.get(name)
        if not isinstance(value, str) or not value.strip():
            state = "no" if name not in record else "an empty or non-text"
            raise DataError(
                f"{where} has {state} {name!r}", f"a text under {name!r}, or remove the row"
            )
    wrong = record.get("perturbed_answer", [])
    if not isinstance(wrong, list) or not all(isinstance(w, str) and w.strip() for w in wrong):
        raise DataError(
            f"{where}: 'perturbed_answer' must be a list of non-empty texts",
            '"perturbed_answer": ["a wrong answer", "another"]',
        )
    paraphrase = record.get("paraphrased_answer")
    if paraphrase is not None and (not isinstance(paraphrase, str) or not paraphrase.strip()):
        raise DataError(
            f"{where} has an empty or non-text 'paraphrased_answer'",
            '"paraphrased_answer": "the answer in other words"',
        )
    row = QA(record["question"], record["answer"], paraphrase, tuple(wrong))
    _check_answers(row, where)
    return row


def _check_answers(row: QA, where: str) -> None:
    """Refuses answers that a comparison of right and wrong ones could not tell apart."""
    seen: dict[str, str] = {}
    right = [("answer", row.answer), ("paraphrased_answer", row.paraphrased_answer or "")]
    for text in (row.question, *(text for _, text in right), *row.perturbed_answers):
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise DataError(
                f"{where} holds half of a surrogate pair, which is no text",
                "write the character itself in UTF-8, or both halves",
            )
    for name, text in right:
        seen.setdefault(text.strip(), f"the {name!r}")
    for number, text in enumerate(row.perturbed_answers, 1):
        same = seen.setdefault(text.strip(), f"number {number}")
        if same != f"number {number}":
            raise DataError(
                f"{where}: 'perturbed_answer' number {number} is the same as {same}",
                f"another wrong answer as number {number}, or remove it",
            )
