"""Primal-dual unlearning: the retain weight is learnt."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from unlearn_runner.errors import ConfigError
from unlearn_runner.methods import losses
from unlearn_runner.methods.base import NonNegative, Objective, Retain, Term

STATE = "retain_weight"


@dataclass(frozen=True)
class PDU(Objective):
    """Flatten the logits on forget rows, subject to a bound on the retain loss.

    Source: constrained entropic unlearning (PDU) in open-unlearning: the weight of the retain NLL
    starts at `retain.weight` and moves by dual ascent, weight <- max(0, weight + dual_step (NLL -
    retain_bound)), once per optimizer step and from the whole batch's loss. The published code
    moves it once per micro-batch, from one rank's loss. Published on TOFU: weight 100, step 5,
    bound 0.3, warm-up 5 of 10 epochs.
    """

    loss = losses.Margin

    dual_step: NonNegative = 5.0
    """Step size of the dual ascent; 0 keeps the weight."""
    retain_bound: NonNegative = 0.3
    """Retain loss, in nats per token, that is good enough."""
    warmup: NonNegative = 5.0
    """Epochs before the weight begins to move."""
    retain: Retain = field(default_factory=lambda: Retain(weight=100.0))

    def __post_init__(self) -> None:
        if self.retain.loss == "none" or self.retain.weight == 0:
            raise ConfigError(
                "method.retain: PDU bounds a retain loss, so it needs one",
                "method.retain.loss=nll method.retain.weight=100",
            )

    def terms_after(self, state: dict[str, float]) -> tuple[Term, ...]:
        """Returns the terms with the weight that `state` holds."""
        forget, retain = self.terms()
        return forget, replace(retain, weight=state.get(STATE, retain.weight))

    def after_step(
        self, losses: dict[str, float], epoch: float, state: dict[str, float]
    ) -> dict[str, float]:
        """Moves the weight by what the retain loss is above its bound."""
        before = state.get(STATE, self.retain.weight)
        over = losses["retain"] - self.retain_bound if epoch > self.warmup else 0.0
        return {STATE: max(0.0, before + self.dual_step * over)}
