"""Benchmarks over texts and token sequences (TDEC, MUSE): no row asks a question.

Forget and retain rows come from wherever the source has them; they need not make up one whole.
"""

from __future__ import annotations

from dataclasses import dataclass

from unlearn_runner.data.rows import Rows
from unlearn_runner.data.sources import Source
from unlearn_runner.errors import ConfigError, listed
from unlearn_runner.evaluation.benchmarks.base import Benchmark, Splits
from unlearn_runner.evaluation.metrics.base import Metric
from unlearn_runner.evaluation.schema import View

REQUEST = "request"


@dataclass(frozen=True)
class TextBenchmark(Benchmark):
    """Texts or token sequences to forget, others to keep, and views on both."""

    source: Source
    forget: str
    """Split to forget; several are joined by `+`."""
    retain: str
    """Split to keep; several are joined by `+`."""
    view: dict[str, View]
    """By name; the split `request` is the chosen forget split."""
    metric: dict[str, Metric]
    full: tuple[str, ...] = ()
    """Splits that the target is fine-tuned on beside forget and retain rows."""
    kept: tuple[str, ...] = ()
    """Those of `full` that the retain model is trained on, too."""
    pretrain: tuple[str, ...] = ()
    """Splits that a from-scratch model is pre-trained on."""
    data_dir: str | None = None
    """Folder of the source's files; shorthand for `source.data_dir`."""

    def __post_init__(self) -> None:
        if not self.view:
            raise ConfigError(
                "benchmark.view is empty: nothing would be evaluated",
                "benchmark=tdec_pocket has three views; leave one out with ~benchmark.view.NAME",
            )
        if odd := [name for name in self.kept if name not in self.full]:
            raise ConfigError(
                f"benchmark.kept has {listed(odd)}, which benchmark.full has not",
                f"benchmark.kept=[{','.join(name for name in self.kept if name in self.full)}]",
            )
        if self.data_dir is not None:
            object.__setattr__(self, "source", self.source.in_folder(self.data_dir))

    @property
    def metrics(self) -> dict[str, Metric]:
        """Metrics by name."""
        return self.metric

    @property
    def asks(self) -> bool:
        """No row is a question."""
        return False

    def splits(self) -> Splits:
        """Reads the training rows."""
        forget, retain = self._read(self.forget), self._read(self.retain)
        return Splits(
            Rows.joined("full", (forget, retain, *map(self.source.read, self.full))),
            forget,
            retain,
            self._read("+".join(self.pretrain)),
            further=self._read("+".join(self.kept)) if self.kept else None,
        )

    def _read(self, names: str) -> Rows:
        """Returns the rows of splits joined by `+`."""
        return Rows.joined(names, (self.source.read(name) for name in names.split("+") if name))

    def views(self) -> dict[str, tuple[View, Rows]]:
        """Reads the rows each view scores."""
        named = {
            name: self.forget if view.split == REQUEST else view.split
            for name, view in self.view.items()
        }
        return {
            name: (view, self._read(named[name]).first(view.limit))
            for name, view in self.view.items()
        }
