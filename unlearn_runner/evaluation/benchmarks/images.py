"""Questions about pictures, some of whose answers in training are wrong.

Two families: pictures that are drawn, and pictures and annotations that the user has. A wrong
answer is another of the question's own, or what the data give as one.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated

from annotated_types import Ge, Gt, Lt

from unlearn_runner.data.images.questions import PictureQuestions
from unlearn_runner.data.rows import VisualQA
from unlearn_runner.evaluation.benchmarks.corrected import Corrected, drawn
from unlearn_runner.evaluation.metrics.base import Metric


@dataclass(frozen=True)
class ImageQuestions(Corrected):
    """Questions about pictures, with noise in some training answers (task=correct_response)."""

    source: PictureQuestions
    metric: dict[str, Metric]
    data_dir: str | None = None
    """Folder of annotations and pictures; shorthand for `source.data_dir`."""
    noise_share: Annotated[float, Gt(0), Lt(1)] = 0.4
    """Share of training rows whose answer is another one, where the data name none."""
    seed: Annotated[int, Ge(0)] = 0
    """Of the noise."""

    def __post_init__(self) -> None:
        if self.data_dir is not None:
            object.__setattr__(self, "source", self.source.in_folder(self.data_dir))

    @property
    def sees(self) -> bool:
        """They are."""
        return True

    def right(self, split: str) -> Sequence[VisualQA]:
        """Returns the rows of a split, as they should be."""
        return self.source.read(split)

    def wrong(self) -> Mapping[int, VisualQA]:
        """Returns the rows with another answer: those that the data name, or as many as drawn."""
        rows = self.right("train")
        named = {
            i: _answered(row, row.noisy_answer)
            for i, row in enumerate(rows)
            if row.noisy_answer is not None
        }
        if named:
            return named
        may = [i for i, row in enumerate(rows) if row.perturbed_answers]
        chosen = drawn(may, self.noise_share, len(rows), self.seed)
        return {i: _answered(rows[i], self._noise(rows[i])) for i in chosen}

    def _noise(self, row: VisualQA) -> str:
        rng = random.Random(f"noise:{self.seed}:{row.question}:{row.image.identity}")
        return rng.choice(row.perturbed_answers)

    @property
    def metrics(self) -> dict[str, Metric]:
        """Metrics by name, told the candidates and the categories of the rows."""
        return {
            name: metric.told(self._candidates, 1, self._categories)
            for name, metric in self.metric.items()
        }

    @cached_property
    def _candidates(self) -> dict[str, tuple[tuple[str, ...], ...]]:
        rows = self.right("test")
        return {"test": tuple((row.answer, *row.perturbed_answers) for row in rows)}

    @cached_property
    def _categories(self) -> dict[str, tuple[str, ...]]:
        return {"test": tuple(row.category for row in self.right("test"))}


def _answered(row: VisualQA, answer: str) -> VisualQA:
    """Returns a row with another of its answers in the right one's place."""
    others = tuple(row.answer if one == answer else one for one in row.perturbed_answers)
    return replace(row, answer=answer, perturbed_answers=others, noisy_answer=None)
