"""Recipe: optimisation settings of one training stage.

The same recipe serves pre-training, fine-tuning and unlearning, so a setting means the same thing
everywhere. Fields marked inert change speed or safety but not the numbers, and never enter a key.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

from unlearn_runner.store.keys import INERT
from unlearn_runner.training.stop import StopRule


@dataclass(frozen=True)
class Recipe:
    """Optimisation settings of one training stage.

    The number of steps is `steps` when given, else floor(epochs * rows / batch_size), at least one:
    batches run across the ends of epochs, so every batch is full (the published step counts,
    62 for 400 rows, batch 32 and 5 epochs, follow from this).
    """

    lr: Annotated[float, Gt(0), Lt(1e30)] = 1e-5
    """Peak learning rate of AdamW."""
    batch_size: Annotated[int, Ge(1), Le(1_000_000)] = 32
    """Rows per optimizer step, over all ranks and micro-batches."""
    micro_batch: Annotated[int, Ge(1), Le(1_000_000)] | None = field(default=None, metadata=INERT)
    """Rows per forward pass; null takes the whole batch at once. Changes memory, not numbers."""
    epochs: Annotated[float, Gt(0), Le(10_000)] = 5.0
    """Passes over the stage's rows (the forget rows when unlearning)."""
    steps: Annotated[int, Ge(1), Le(1_000_000)] | None = None
    """Optimizer steps; when given, `epochs` is not used."""
    clip: Annotated[float, Gt(0)] | None = 1.0
    """Largest L2 norm of the gradient that is stepped with, after rectification; null is off. A
    rectifier's own bound (`rectifier.tau`), where one is given, takes its place."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """What the learning rate does after warm-up; linear and cosine end at zero."""
    warmup_epochs: Annotated[float, Ge(0), Le(10_000)] = 0.0
    """Linear warm-up from zero over floor(warmup_epochs * rows / batch_size) steps."""
    warmup_steps: Annotated[int, Ge(0), Le(1_000_000)] | None = None
    """Linear warm-up in steps; when given, `warmup_epochs` is not used."""
    weight_decay: Annotated[float, Ge(0), Lt(1e30)] = 0.01
    """Decoupled, times the learning rate, as in AdamW."""
    l2: Annotated[float, Ge(0), Lt(1e30)] = 0.0
    """Adds l2 / 2 |trained weights|^2 to what is minimised: its gradient comes behind rectification
    and before `clip`. Unlike decoupled decay it leaves a risk that has a minimum, which
    method=influence takes its derivatives of."""
    decay_norms: bool = True
    """Whether weight decay acts on parameters of one dimension, too (norms, biases), as the papers'
    AdamW does; Hugging Face's Trainer, and so most published codes, exempts them."""
    betas: tuple[Annotated[float, Ge(0), Lt(1)], Annotated[float, Ge(0), Lt(1)]] = (0.9, 0.999)
    eps: Annotated[float, Gt(0), Lt(1e30)] = 1e-8
    precision: Literal["float32", "bf16", "float64"] = "float32"
    """Arithmetic of the forward pass; the trained weights are float32 under bf16 (autocast)."""
    max_length: Annotated[int, Ge(8), Le(10_000_000)] = 512
    """Longest row in tokens; a longer answer is cut and then has no end-of-sequence label."""
    gradient_checkpointing: bool = field(default=False, metadata=INERT)
    """Compute activations again in the backward pass instead of keeping them: less memory, about a
    third more time, the same numbers."""
    stop: StopRule | tuple[StopRule, ...] | None = None
    """Of unlearning: end it when these scores, all of them, are beyond their bounds; looked at
    every `evaluate.every`. Null goes on to the last step."""
    checkpoint_every: Annotated[int, Ge(1), Le(1_000_000)] | None = field(
        default=200, metadata=INERT
    )
    """Optimizer steps between checkpoints; null writes none."""

    @property
    def stop_rules(self) -> tuple[StopRule, ...]:
        """The rules of `stop`."""
        rules = self.stop or ()
        return rules if isinstance(rules, tuple) else (rules,)

    def num_steps(self, rows: int) -> int:
        """Returns the number of optimizer steps for a data set of `rows` rows."""
        if self.steps is not None:
            return self.steps
        return max(1, _floor(self.epochs * rows / self.batch_size))

    def num_warmup_steps(self, rows: int) -> int:
        """Returns the number of optimizer steps over which the learning rate rises from zero."""
        if self.warmup_steps is not None:
            return self.warmup_steps
        return _floor(self.warmup_epochs * rows / self.batch_size)


def _floor(steps: float) -> int:
    """Returns the whole number of steps; 1.15 epochs of 20 steps are 23, not 22.999..."""
    return math.floor(steps + 1e-9)
