"""Gradient ascent, alone and with a retain term: GA, GradDiff, GA + KL."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from unlearn_runner.methods import losses
from unlearn_runner.methods.base import Objective, Retain, Split, Term, no_retain


@dataclass(frozen=True)
class GA(Objective):
    """Gradient ascent: minimise -NLL of the forget answers.

    Source: Jang et al. 2023; TOFU. Unbounded below: it runs away when nothing holds it. With
    `retain.loss=nll` it is GradDiff (Liu et al. 2022), with `retain.loss=kl` GA + KL.
    """

    loss = losses.NLL

    retain: Retain = field(default_factory=no_retain)

    def forget_term(self, split: Split = "forget") -> Term:
        """Returns the ascent."""
        return replace(super().forget_term(split), weight=-self.weight)
