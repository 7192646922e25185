"""UDS, unlearning depth: how much of what the retain model lacks the unlearned one lacks, by layer.

arXiv 2605.24614. Both models' states are written into the target, block by block (the probe
`patched`), and what a row's fact loses by that is compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge

from unlearn_runner.evaluation.metrics.base import Metric, MetricInputs, Sample, known_mean, scored
from unlearn_runner.evaluation.metrics.evidence import Evidence, Floats
from unlearn_runner.evaluation.schema import Goal


def depth(model: Floats, retain_model: Floats, threshold: float) -> Floats:
    """Returns each row's UDS; [rows], NaN where the retain model lacks the fact at no block.

    A mean over the blocks whose loss under the retain model is above the threshold, weighted by it,
    of the loss under the model as a share of it, from 0 to 1.

    Args:
        model: Log-probabilities of the fact: the target's own, then with the model's states behind
            each block; [rows, 1 + blocks].
        retain_model: With the retain model's states.
        threshold: In nats.
    """
    lost, lacking = (found[:, :1] - found[:, 1:] for found in (model, retain_model))
    counts = lacking > threshold
    # A share of its own weight: what was lost itself, within bounds.
    shares = np.where(counts, np.clip(lost, 0, lacking), 0).sum(axis=1)
    with np.errstate(invalid="ignore"):
        return shares / np.where(counts, lacking, 0).sum(axis=1)


@dataclass(frozen=True)
class UnlearningDepth(Metric):
    """Mean UDS: 1 where the fact is as absent as from the retain model, 0 where it is all there.

    Deviation from the published code, which writes the last block's states as they are behind the
    final norm, so that they are normed twice: here those in front of it, as the paper says. The
    prompt is the model's own.
    """

    threshold: Annotated[float, Ge(0)] = 0.05
    """Loss under the retain model, in nats, above which a block counts."""

    needs_retain_model: ClassVar[bool] = True

    def score(self, name: str, inputs: MetricInputs) -> dict[str, float | None]:
        """Returns `<view>.<name>` for every view whose facts were patched."""
        found = self._of_views(inputs.model, inputs.retain_model)
        return {f"{view}.{name}": known_mean(rows) for view, rows in found}

    def sampled(self, name: str, sample: Sample) -> dict[str, Floats]:
        """Returns the same in every bootstrap sample of people."""
        found = self._of_views(sample.model, sample.retain_model)
        return {
            f"{view}.{name}": sample.mean(view, rows) for view, rows in found if rows is not None
        }

    def _of_views(
        self, model: Evidence, retain_model: Evidence | None
    ) -> Iterator[tuple[str, Floats | None]]:
        others = {} if retain_model is None else retain_model.views
        for view in filter(scored, model.views.values()):
            other, mine = others.get(view.name), view.record.patched
            if mine is None:
                continue
            if other is None or (theirs := other.record.patched) is None:
                yield view.name, None
                continue
            rows, (here, there) = np.full(len(mine), np.nan), view.shared(other)
            rows[here] = depth(np.array(mine)[here], np.array(theirs)[there], self.threshold)
            yield view.name, rows

    def higher_is_better(self, score: str, goal: Goal | None) -> bool:
        """Returns true on rows to be forgotten alone."""
        return goal == "forget"
