"""Relearning: the model is fine-tuned on some rows, and asked whether more than those came back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le

from unlearn_runner.data.rows import Rows
from unlearn_runner.errors import ConfigError
from unlearn_runner.evaluation.attacks.base import Attack, Training
from unlearn_runner.evaluation.benchmarks.base import Splits


@dataclass(frozen=True)
class Relearn(Attack):
    """Fine-tune by the target's recipe but for rows, rate, batch and length.

    The defaults are the open-unlearning paper's: one epoch over the forget rows at 2e-5.
    """

    rows: Literal["forget", "retain", "pretrain"] = "forget"
    """In-domain: the rows that were forgotten. Out-of-domain: rows that were kept, or those that a
    from-scratch model was first trained on."""
    share: Annotated[float, Gt(0), Le(1)] = 1.0
    """Of the rows, evenly spaced. Of forget rows the verdict is then on the others: what comes back
    without having been told."""
    epochs: Annotated[float, Gt(0), Le(1000)] = 1.0
    lr: Annotated[float, Gt(0), Le(1)] = 2e-5
    batch_size: Annotated[int, Ge(1), Le(100_000)] = 32

    def training(self, splits: Splits) -> Training:
        """Returns the rows and how they are learned.

        Raises:
            ConfigError: If the benchmark has no such rows.
        """
        whole: Rows = getattr(splits, self.rows)
        if not len(whole):
            raise ConfigError(
                f"attack.rows={self.rows}: this benchmark has no such rows", "attack.rows=retain"
            )
        rows = whole if self.share == 1 else spaced(whole, self.share)
        return Training(rows, self.epochs, self.lr, self.batch_size)


def spaced(rows: Rows, share: float) -> Rows:
    """Returns a share of rows, evenly spaced, at least one."""
    ends = [math.floor(i * share + 1e-9) for i in range(len(rows) + 1)]
    chosen = [row for i, row in enumerate(rows) if ends[i + 1] > ends[i]]
    return Rows(f"{share:g} of {rows.name}", tuple(chosen or rows.items[:1]))
