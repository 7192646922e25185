"""Models that exist already: their base class, and those on this machine's disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from unlearn_runner.errors import DataError
from unlearn_runner.pipeline.stages.base import Stage, StageContext
from unlearn_runner.store.artifact import Outcome


@dataclass(frozen=True)
class Given(Stage):
    """Base class of given models."""

    kind: ClassVar[str] = "given"
    given: ClassVar[bool] = True


@dataclass(frozen=True)
class Local(Given):
    """A model in a folder, or in one file."""

    path: Path
    digest: str

    @property
    def key(self) -> str:
        """Its content."""
        return self.digest

    def reads(self) -> str:
        """Names the folder or file."""
        return str(self.path)

    def outside(self) -> Path | None:
        """Returns it."""
        return self.path if self.path.exists() else None

    def run(self, context: StageContext) -> Outcome:
        """Never called while it is there.

        Raises:
            DataError: Since it is not.
        """
        raise DataError(
            f"the model {self.path} is gone since the run was planned",
            "put it back, or name where it is now; it is known by its content",
        )
