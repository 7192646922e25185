"""Own evaluations: the folder of an `evaluate` artifact in the store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from unlearn_runner.errors import DataError
from unlearn_runner.evaluation.logs.base import VIEWS, Log
from unlearn_runner.evaluation.metrics.evidence import Record, read_record
from unlearn_runner.evaluation.schema import PROBES, Probe, evidence_file


@dataclass(frozen=True)
class Artifact(Log):
    """One folder of evidence; see `evaluation.schema`."""

    format: ClassVar[str] = "unlearn-runner"

    @staticmethod
    def recognises(content: Any) -> bool:
        """Returns whether the names in a folder are those of an evaluation of TOFU's views."""
        return all(evidence_file(name, "logprobs") in content for name in VIEWS)

    def record(self, view: str) -> Record:
        """Returns the record of one view."""
        probes: tuple[Probe, ...] = tuple(
            probe for probe in PROBES if evidence_file(view, probe) in self.content
        )
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
