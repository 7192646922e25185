"""Opening a log: which format it is, by its content; own evaluations are one."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from unlearn_runner.errors import DataError
from unlearn_runner.evaluation.logs.base import HOLDOUT, UNSEEN, VIEWS, Log
from unlearn_runner.evaluation.logs.choices import ChoiceArtifact, LMEval
from unlearn_runner.evaluation.logs.formats import Locuslab, OpenUnlearning
from unlearn_runner.evaluation.logs.muse import Muse
from unlearn_runner.evaluation.metrics import suites
from unlearn_runner.evaluation.metrics.base import Metric
from unlearn_runner.evaluation.metrics.evidence import Record, read_record
from unlearn_runner.evaluation.schema import OF_FINISHED, PROBES, Probe, View, evidence_file
from unlearn_runner.utils.untrusted import read_regular

READ: tuple[Probe, ...] = (*PROBES, *OF_FINISHED)
"""Probes whose evidence of TOFU's views is scored."""
FORMATS: tuple[type[Log], ...] = (Locuslab, OpenUnlearning, Muse, LMEval)
KNOWN = (
    "logs that can be read: TOFU's eval_log_aggregated.json, open-unlearning's TOFU_EVAL.json "
    "(TOFU_SUMMARY.json has no rows), MUSE_EVAL.json and LMEval_SUMMARY.json, and the folder of an "
    "`evaluate` artifact"
)


@dataclass(frozen=True)
class Artifact(Log):
    """Own evaluation: the folder of an `evaluate` artifact; see `evaluation.schema`."""

    format: ClassVar[str] = "unlearn-runner"

    @classmethod
    def recognises(cls, content: Any) -> bool:
        """Returns whether the names in a folder are those of an evaluation of TOFU's views."""
        return all(evidence_file(name, "logprobs") in content for name in VIEWS)

    @property
    def views(self) -> Mapping[str, View]:
        """TOFU's, and the unseen rows where they were evaluated."""
        there = evidence_file(HOLDOUT, "logprobs") in self.content
        return {**VIEWS, **({HOLDOUT: UNSEEN} if there else {})}

    def further(self) -> dict[str, Metric]:
        """Returns the full suite's, and those of further probes that left evidence."""
        return super().further() | suites.probed(
            p for view in self.views for p in self._probes(view)
        )

    def _probes(self, view: str) -> list[Probe]:
        """Returns the probes that left evidence of a view."""
        return [probe for probe in READ if evidence_file(view, probe) in self.content]

    def record(self, view: str) -> Record:
        """Returns the record of one view."""
        probes = self._probes(view)
        try:
            for probe in probes:
                if not (self.path / (name := evidence_file(view, probe))).is_file():
                    raise ValueError(f"{name} is no file")
            record = read_record(self.path, view, probes)
            _check(record)
        except (OSError, KeyError, ValueError, TypeError) as error:  # pyarrow's are among these
            reason = " ".join(str(error).split())[:200]
            raise DataError(
                f"{self.path}: the evidence of '{view}' cannot be read: {reason}",
                "the command that made it makes it again",
            ) from error
        return record


FOLDERS: tuple[type[Log], ...] = (Artifact, ChoiceArtifact)


def _check(record: Record) -> None:
    """Refuses rows without an answer, answers without a row, and what is no text."""
    sizes = {len(by_row) for by_row in record.losses.values()}
    if any(not answers for by_row in record.losses.values() for answers in by_row):
        raise ValueError("a row has no answer of a role that others have")
    if (texts := record.texts) is not None:
        columns = (texts.questions, texts.generations, texts.answers)
        if any(not isinstance(text, str) for column in columns for text in column):
            raise ValueError("a text is missing")
        sizes.add(len(texts.answers))
    if len(sizes) > 1:
        raise ValueError(f"its parts have {' and '.join(map(str, sorted(sizes)))} rows")


def open_log(path: Path) -> Log:
    """Returns the log in `path`, its views still to be read.

    Raises:
        DataError: It cannot be read, is not JSON, or is neither format.
    """
    if path.is_dir():
        names = _names(path)
        for form in FOLDERS:
            if form.recognises(names):
                return form(path, names)
        raise DataError(f"{path} is a folder without an evaluation's evidence in it", KNOWN)
    content = _parsed(path)
    if not isinstance(content, dict):
        raise DataError(f"{path}: the log is not a JSON object", KNOWN)
    for form in FORMATS:
        if form.recognises(content):
            return form(path, content)
    raise DataError(f"{path}: neither a TOFU nor an open-unlearning log", KNOWN)


def digest(path: Path) -> str:
    """Returns a hash of the log's bytes, for keys and provenance; nothing is parsed.

    Of a folder the evidence counts alone: what else is in it says when it was made.
    """
    if not path.is_dir():
        return hashlib.sha256(_bytes(path)).hexdigest()[:16]
    found = hashlib.sha256()
    for name in sorted(name for name in _names(path) if name.endswith(".parquet")):
        found.update(f"{name}\0".encode() + _bytes(path / name))
    return found.hexdigest()[:16]


def _bytes(path: Path) -> bytes:
    try:
        return read_regular(path)
    except OSError as error:
        raise _unreadable(path, error) from error


def _names(folder: Path) -> set[str]:
    try:
        return {item.name for item in folder.iterdir()}
    except OSError as error:
        raise _unreadable(folder, error) from error


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(f"{path}: the log cannot be read: {error.strerror}", KNOWN)


def _parsed(path: Path) -> Any:
    try:
        text = _bytes(path).decode("utf-8-sig")
        return json.loads(text, object_pairs_hook=_unique, parse_int=_integer)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 (byte {error.start})", KNOWN) from error
    except json.JSONDecodeError as error:
        problem = f"{path}:{error.lineno}: not JSON: {error.msg} (column {error.colno})"
        raise DataError(
            problem, "a log that was cut off while it was written must be made again"
        ) from error
    except RecursionError:
        raise DataError(f"{path}: not a log: nested too deep", KNOWN) from None
    except ValueError as error:
        raise DataError(f"{path}: not a log: {error}", KNOWN) from None


def _integer(digits: str) -> float:
    """Returns a whole number; one that no score could hold as infinity, which its row then has."""
    return int(digits) if len(digits) < 400 else math.inf


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key '{twice}' occurs twice in one object")
    return found
