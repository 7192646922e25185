"""Fine-tuning on the forget rows as they should have been: the plain rival of an influence edit."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from unlearn_runner.methods import losses
from unlearn_runner.methods.base import Objective, Retain, no_retain


@dataclass(frozen=True)
class Correct(Objective):
    """Minimises the NLL of the corrected rows, and with `retain.loss=nll` that of retain rows.

    Of benchmarks that have another version of each forget row. Reviewers of LLMEraser asked for it.
    """

    loss = losses.NLL
    on_corrected: ClassVar[bool] = True

    retain: Retain = field(default_factory=no_retain)
