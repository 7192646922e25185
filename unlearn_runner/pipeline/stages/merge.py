"""A whole model of an adapter and the base it belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from unlearn_runner.pipeline.stages.base import Stage, StageContext
from unlearn_runner.store.artifact import Outcome
from unlearn_runner.utils.console import console


@dataclass(frozen=True)
class Merge(Stage):
    """A whole model, from an adapter and its base: both given, or one of them trained here."""

    base: Stage
    adapter: Stage

    kind: ClassVar[str] = "merge"
    on_all_ranks: ClassVar[bool] = False

    @property
    def fine_tune(self) -> Stage | None:
        """The adapter's."""
        return self.adapter.fine_tune

    def run(self, context: StageContext) -> Outcome:
        """Adds the adapter to the base's weights, in float32."""
        from unlearn_runner.models.load import load_tokenizer, merged, save

        base, adapter = context.path(self.base), context.path(self.adapter)
        console.print(f"merging {self.adapter.label} into {self.base.label}", markup=False)
        own = (adapter / "tokenizer_config.json").is_file()
        save(merged(base, adapter), load_tokenizer(adapter if own else base), context.folder)
        return "completed"
