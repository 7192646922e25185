"""Multiple-choice benchmarks; a new one needs YAML alone: question, choices, index of the answer.

What is trained on is another benchmark's, `training`: the rows that choices are asked about, or a
corpus. Without one only a given checkpoint can be evaluated.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from unlearn_runner.data.choices import ChoiceSource, Wording
from unlearn_runner.data.rows import Rows
from unlearn_runner.errors import ConfigError
from unlearn_runner.evaluation.benchmarks.base import Benchmark, Splits
from unlearn_runner.evaluation.metrics.base import Metric
from unlearn_runner.evaluation.schema import View


@dataclass(frozen=True)
class ChoiceBenchmark(Benchmark):
    """Questions with choices (WMDP, MMLU), of what is to be forgotten and of what is to be kept."""

    source: ChoiceSource
    view: dict[str, View]
    metric: dict[str, Metric]
    wording: Wording = field(default_factory=Wording)
    training: Benchmark | None = None
    """Benchmark whose rows are trained on; null evaluates checkpoints alone."""
    data_dir: str | None = None
    """Folder of the files; shorthand for `source.data_dir`."""

    def __post_init__(self) -> None:
        if not self.view:
            raise ConfigError(
                "benchmark.view is empty: nothing would be evaluated",
                "benchmark.view.NAME={split: SPLIT, goal: keep, probes: [choices]}",
            )
        if self.data_dir is not None:
            object.__setattr__(self, "source", self.source.in_folder(self.data_dir))

    @property
    def metrics(self) -> dict[str, Metric]:
        """Metrics by name."""
        return self.metric

    @property
    def asks(self) -> bool:
        """Whether what is trained on are questions."""
        return self.training is None or self.training.asks

    @property
    def rows_together(self) -> int:
        """Rows of one person, of what is trained on."""
        return 1 if self.training is None else self.training.rows_together

    def splits(self) -> Splits:
        """Reads the training rows; there are none without `training`."""
        if self.training is None:
            none = Rows("none", ())
            return Splits(full=none, forget=none, retain=none, pretrain=none)
        return self.training.splits()

    def refusals(self) -> tuple[str, ...]:
        """Returns those of what is trained on."""
        return super().refusals() if self.training is None else self.training.refusals()

    def views(self) -> dict[str, tuple[View, Rows]]:
        """Reads the questions of each view."""
        return {
            name: (view, self.source.read(view.split, self.wording).first(view.limit))
            for name, view in self.view.items()
        }
