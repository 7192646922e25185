"""Own evaluations: the folder of an `evaluate` artifact in the store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from unlearn_runner.errors import DataError
from unlearn_runner.evaluation.logs.base import VIEWS, Log
from unlearn_runner.evaluation.metrics.evidence import Parquet
from unlearn_runner.evaluation.schema import evidence_file


@dataclass(frozen=True)
class Artifact(Log):
    """One folder of evidence; see `evaluation.schema`."""

    format: ClassVar[str] = "unlearn-runner"

    @staticmethod
    def recognises(content: Any) -> bool:
        """Returns whether the names in a folder are those of an evaluation of TOFU's views."""
        return all(evidence_file(name, "logprobs") in content for name in VIEWS)

    def record(self, view: str) -> Parquet:
        """Returns the record of one view."""
        record = Parquet(self.path, view)
        try:
            _ = record.losses, record.texts
        except (OSError, KeyError, ValueError) as error:  # pyarrow's errors are among these
            raise DataError(
                f"{self.path}: the evidence of '{view}' cannot be read: {error}",
                "the command that made it makes it again",
            ) from error
        return record
