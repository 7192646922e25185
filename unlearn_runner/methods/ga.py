"""Gradient ascent, alone and with a retain term: GA, GradDiff, GA + KL."""

from __future__ import annotations

from dataclasses import dataclass, field

from unlearn_runner.methods.base import Objective, Retain, Term, no_retain
from unlearn_runner.methods.losses import NLL


@dataclass(frozen=True)
class GA(Objective):
    """Gradient ascent: minimise -NLL of the forget answers.

    Source: Jang et al. 2023; TOFU. Unbounded below: it runs away when nothing holds it. With
    `retain.loss=nll` it is GradDiff (Liu et al. 2022), with `retain.loss=kl` GA + KL.
    """

    retain: Retain = field(default_factory=no_retain)

    def terms(self) -> tuple[Term, ...]:
        """Returns the ascent on forget rows and the retain term."""
        return (
            Term("forget", "forget", NLL(), weight=-self.weight, unit=self.unit),
            *self.retain.terms(self.unit),
        )
