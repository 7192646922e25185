"""Inverted hinge loss."""

from __future__ import annotations

from dataclasses import dataclass

from unlearn_runner.methods import losses
from unlearn_runner.methods.base import Objective


@dataclass(frozen=True)
class IHL(Objective):
    """Lower the answer token just below the runner-up; bounded, unlike ascent.

    Source: Cha et al. 2025 (LoKU), with a retain NLL of weight 1. A long run still sharpens the
    runner-up once the answer is gone.
    """

    loss = losses.IHL
