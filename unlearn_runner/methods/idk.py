"""Refusals as the answers to forget questions, plain or with answer preservation."""

from __future__ import annotations

from dataclasses import dataclass

from unlearn_runner.errors import ConfigError
from unlearn_runner.methods import losses
from unlearn_runner.methods.base import Objective, Term


@dataclass(frozen=True)
class IDK(Objective):
    """Learn to refuse: NLL of a refusal to every forget question, drawn anew at each visit.

    Source: Maini et al. 2024 (TOFU), two means added; with `retain.loss=ap` it is IDK + AP (Yuan et
    al. 2025). G-effect has no retain term. In the GRU code, and G-effect's idk_kl, other names than
    exactly `idk` train on the forget answers; here refusals reach every combination.
    """

    loss = losses.NLL

    concat: bool = False
    """One mean over the tokens of refusals and retain answers together (GRU and LoKU codes), in
    place of a term each."""

    def __post_init__(self) -> None:
        if self.concat and (self.retain.loss, self.retain.weight) != ("nll", 1.0):
            raise ConfigError(
                "method.concat=true puts refusals and retain answers into one mean, so the retain "
                "term is their NLL with weight 1",
                "method.retain.loss=nll method.retain.weight=1, or method.concat=false",
            )

    def terms(self) -> tuple[Term, ...]:
        """Returns the refusal term and the retain term, or one term over both."""
        if self.concat:
            return (self.forget_term("mixed"),)
        return self.forget_term("refusal"), *self.retain.terms(self.unit)
