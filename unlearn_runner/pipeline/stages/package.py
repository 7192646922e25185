"""Base model from a file of an installed Python package."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from unlearn_runner.pipeline.stages.base import Stage, StageContext
from unlearn_runner.pipeline.stages.local import Local
from unlearn_runner.store.artifact import Outcome
from unlearn_runner.utils.files import sha256

if TYPE_CHECKING:
    from unlearn_runner.config.model import Packaged


@dataclass(frozen=True)
class Dequantize(Stage):
    """An ordinary model of float32 weights, from a file that holds them quantised."""

    kind: ClassVar[str] = "dequantize"
    on_all_ranks: ClassVar[bool] = False

    source: Local

    def reads(self) -> str:
        """Names the file."""
        return self.source.path.name

    def run(self, context: StageContext) -> Outcome:
        """Reads the file once, and saves what later stages load like any other model."""
        from unlearn_runner.models.gguf import dequantized
        from unlearn_runner.models.load import save

        save(*dequantized(context.path(self.source)), context.folder)
        return "completed"


def from_package(label: str, model: Packaged) -> Dequantize:
    """Returns the stage that makes an ordinary model of a package's.

    Raises:
        ConfigError: If the package is not installed.
    """
    path = model.find()
    return Dequantize(label, Local(f"{label} in {model.package}", path, sha256(path)[:16]))
