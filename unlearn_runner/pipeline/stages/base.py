"""Stage: a frozen description of one piece of work, keyed by all that determines it.

Describing and planning a stage never loads torch; `run` imports what it needs when it runs.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from unlearn_runner.store.artifact import Outcome
from unlearn_runner.store.keys import INERT, stage_key

if TYPE_CHECKING:
    from unlearn_runner.pipeline.session import Session
    from unlearn_runner.training.loop import TrainingLog


MADE = ("unlearn", "calibrate")
"""Kinds of models that a run is for; keep=scores does not keep their weights."""


@dataclass(frozen=True)
class StageContext:
    """Services of a running stage: folders, other artifacts, the session, telemetry."""

    folder: Path
    """Where to leave results; published as a whole when the stage ends."""
    checkpoints: Path
    """Survives a killed stage and is found again by the next attempt; removed when published."""
    key: str
    """Of the stage that runs: what its checkpoints are marked with."""
    path: Callable[[Stage], Path]
    """Folder of another stage's finished artifact."""
    open_session: Callable[[], Session]
    """Opens the process's device and threads; loads torch."""
    log: Callable[[dict[str, Any]], None]
    """Writes one line of telemetry."""

    def training_log(self) -> TrainingLog:
        """Returns where a training loop leaves checkpoints and telemetry."""
        from unlearn_runner.training.loop import TrainingLog

        return TrainingLog(self.checkpoints, self.key, self.log)


@dataclass(frozen=True)
class Stage(ABC):
    """Base class of stages. Every field that is not inert enters the key."""

    label: str = field(metadata=INERT)
    """What the run calls this stage: "target", "evaluate unlearned", ..."""

    kind: ClassVar[str]
    """Folder of the store, and the first part of the key."""
    on_all_ranks: ClassVar[bool] = True
    """Whether every rank runs it; false for what reads and writes files alone."""
    order: ClassVar[int] = 0
    """Where a plan shows it: 0 models, 1 unlearning and what it needs, 2 evidence, 3 scores."""
    given: ClassVar[bool] = False
    """Whether the artifact exists without the runner, outside the store."""

    def outside(self) -> Path | None:
        """Returns the folder of a given artifact, or none when it is not there (yet)."""
        return None

    @property
    def key(self) -> str:
        """Hash of everything that determines the artifact."""
        return self._key

    @cached_property
    def _key(self) -> str:
        return stage_key(self)

    @property
    def inputs(self) -> tuple[Stage, ...]:
        """The stages this one reads, in field order."""
        values = [getattr(self, item.name) for item in dataclasses.fields(self)]
        return tuple(value for value in values if isinstance(value, Stage))

    @property
    def address(self) -> str:
        """Where an artifact beside it, two folders below the store, finds this one."""
        return f"../../{self.kind}/{self.key}"

    def reads(self) -> str:
        """Returns in a few words what the stage reads, for a plan."""
        return ", ".join(stage.label for stage in self.inputs)

    @property
    def fine_tune(self) -> Stage | None:
        """The fine-tune of a run that made this model; none where it came from elsewhere."""
        return None

    @property
    def belongs_to(self) -> Stage | None:
        """The model without which this one, an adapter, is of no use; none where it is whole."""
        return None

    def facts(self, folder: Path) -> dict[str, Any]:
        """Returns what results say of the artifact in a folder, beside how long it took."""
        return {}

    def closing(self, last: dict[str, Any]) -> str | None:
        """Returns what the reader of a run's results should know, given the last telemetry."""
        return None

    @abstractmethod
    def run(self, context: StageContext) -> Outcome:
        """Computes the artifact into `context.folder`."""
