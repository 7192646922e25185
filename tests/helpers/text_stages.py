"""Stages that need no device: each writes one text file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, cast

from unlearn_runner.distributed.single import Single
from unlearn_runner.pipeline.execute import Executor, StageResult
from unlearn_runner.pipeline.plan import Plan
from unlearn_runner.pipeline.stages.base import Stage, StageContext
from unlearn_runner.store.artifact import Outcome
from unlearn_runner.store.keys import INERT
from unlearn_runner.store.store import Store
from unlearn_runner.tracking.record import Record

RUNS: list[str] = []
"""Labels of the stages that were computed, in order."""


@dataclass(frozen=True)
class Text(Stage):
    """Writes a text after the texts of what it reads; meanwhile something may happen."""

    text: str = "hello"
    source: Stage | None = None
    meanwhile: Callable[[], object] = field(default=lambda: None, metadata=INERT)
    kind: ClassVar[str] = "text"

    def run(self, context: StageContext) -> Outcome:
        RUNS.append(self.label)
        self.meanwhile()
        before = "" if self.source is None else text_of(context.path(self.source))
        (context.folder / "text.safetensors").write_text(before + self.text)
        return "completed"


def text_of(folder: Path) -> str:
    return (folder / "text.safetensors").read_text()


def execute(root: Path, stages: list[Stage], wanted: list[Stage]) -> list[StageResult]:
    """Runs stages as the plan of a run would."""
    RUNS.clear()
    plan = Plan(tuple(stages), stages[-1], {}, tuple(wanted), cast(Any, None))
    return Executor(Store(root / "store"), Record(root / "run"), Single()).run(plan)
