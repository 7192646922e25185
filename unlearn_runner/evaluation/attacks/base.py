"""Attack: what somebody does to a model, or asks it, to get back what was forgotten.

An attack says what is done in up to three steps, each the identity where it has nothing to say: the
model is trained further, its weights are changed, it is asked in another way. The plan makes stages
of them, on the unlearned model and, as a control, on the retain model: an attack that brings
knowledge along proves nothing (arXiv 2506.00688).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from unlearn_runner.data.rows import Rows
from unlearn_runner.evaluation.benchmarks.base import Splits
from unlearn_runner.evaluation.evaluator import Evaluator


@dataclass(frozen=True)
class Training:
    """Fine-tune that is an attack: rows, and what differs from the target's recipe."""

    rows: Rows
    epochs: float
    lr: float
    batch_size: int


@dataclass(frozen=True)
class Attack:
    """Base class of attacks: a model in, a model out, which is evaluated again."""

    acts: ClassVar[bool] = True
    """Whether there is an attack at all."""
    changes_weights: ClassVar[bool] = False
    """Whether `change` does anything."""
    asks_otherwise: ClassVar[bool] = False
    """Whether `evaluator` does anything; then the benchmark's rows must be questions."""
    tells_rows: ClassVar[bool] = False
    """Whether it puts other rows into a prompt, as text."""

    def training(self, splits: Splits) -> Training | None:
        """Returns what the model is trained on; none where it is not trained."""
        return None

    def change(self, model: Any) -> None:
        """Changes a whole model's weights in place."""
        return

    def evaluator(self, evaluator: Evaluator, splits: Splits) -> Evaluator:
        """Returns how the attacked model is asked."""
        return evaluator


@dataclass(frozen=True)
class NoAttack(Attack):
    """No attack."""

    acts: ClassVar[bool] = False
