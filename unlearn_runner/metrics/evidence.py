"""Evidence read back: what the probes wrote about one model, view by view, without torch.

A row is keyed by (view, row index, answer role, answer index), never by its text, so two models'
evidence can be compared row by row.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Role = Literal["answer", "paraphrased", "perturbed"]


@dataclass(frozen=True)
class ViewEvidence:
    """Everything the probes saw of one model on one view."""

    name: str
    goal: Literal["forget", "keep"]
    probability: Literal["answer", "options"]
    logprobs: Any
    """pyarrow table: row, role, answer_index, and the log-probability probe's lists by token."""
    generations: Any
    """pyarrow table: row, prompt, generation, answer."""

    @cached_property
    def _losses(self) -> dict[str, list[list[float]]]:
        table = self.logprobs.sort_by([("row", "ascending"), ("answer_index", "ascending")])
        losses: dict[str, list[list[float]]] = {}
        columns = (table[c].to_pylist() for c in ("row", "role", "logprob"))
        for row, role, logprob in zip(*columns, strict=True):
            by_row = losses.setdefault(role, [])
            while len(by_row) <= row:
                by_row.append([])
            by_row[row].append(-float(np.mean(np.asarray(logprob, dtype=np.float64))))
        return losses

    def has(self, role: Role) -> bool:
        """Returns whether answers of `role` were scored."""
        return role in self._losses

    def loss(self, role: Role) -> Floats:
        """Returns the mean token NLL, in nats, of each row's only answer of `role`; [rows]."""
        return np.array([answers[0] for answers in self._losses[role]])

    def losses(self, role: Role) -> list[Floats]:
        """Returns the mean token NLLs of each row's answers of `role`, rows of any length."""
        return [np.array(answers) for answers in self._losses[role]]


@dataclass(frozen=True)
class Evidence:
    """The evidence of one model over all views of a benchmark."""

    views: dict[str, ViewEvidence]

    @staticmethod
    def load(folder: Path, views: dict[str, Any]) -> Evidence:
        """Reads the parquet files an evaluation left in `folder`.

        Args:
            folder: Holds `<view>.logprobs.parquet` and `<view>.generations.parquet`.
            views: The benchmark's `View` by name.
        """
        import pyarrow.parquet as pq

        return Evidence(
            {
                name: ViewEvidence(
                    name,
                    view.goal,
                    view.probability,
                    pq.read_table(folder / f"{name}.logprobs.parquet"),
                    pq.read_table(folder / f"{name}.generations.parquet"),
                )
                for name, view in views.items()
            }
        )
