"""Cross-entropy unlearning."""

from __future__ import annotations

from dataclasses import dataclass, field

from unlearn_runner.methods import losses
from unlearn_runner.methods.base import Count, Objective, Retain, Term, no_retain


@dataclass(frozen=True)
class CEU(Objective):
    """Learn one's own distribution without the answer token.

    Source: Yang 2025 (CE-U), without a retain term.
    """

    loss = losses.CEU

    ignore_first: Count = 1
    """Tokens at the front of every answer that are left alone; the paper leaves the first."""
    retain: Retain = field(default_factory=no_retain)

    @property
    def skip(self) -> int:
        """What the split `tail` leaves out."""
        return self.ignore_first

    def terms(self) -> tuple[Term, ...]:
        """Returns the cross entropy on forget rows and the retain term."""
        split = "tail" if self.ignore_first else "forget"
        return self.forget_term(split), *self.retain.terms(self.unit)
