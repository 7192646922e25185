"""NPO token by token: TNPO, and WTNPO with the weight of WGA."""

from __future__ import annotations

from dataclasses import dataclass

from unlearn_runner.errors import ConfigError
from unlearn_runner.methods import losses
from unlearn_runner.methods.base import NonNegative, Objective, Positive


@dataclass(frozen=True)
class TNPO(Objective):
    """Push every token below its start probability, each weighted by itself.

    Source: Wang et al. 2025 (G-effect): beta 4 on TOFU's 1 and 5 %, 5 on 10 %.
    """

    loss = losses.TNPO

    beta: Positive = 4.0
    """Inverse temperature of the weight 2 p^beta / (p^beta + p_start^beta)."""
    eps: NonNegative = 0.0
    """Added to the weight's denominator: 1e-5 in the published code, 0 in the paper."""
    closed: bool = False
    """Report (2/beta) log(1 + (p/p_start)^beta), which has the same gradient and falls steadily."""

    def __post_init__(self) -> None:
        if self.closed and self.eps:
            raise ConfigError(
                "method.closed=true: the weights with method.eps have no closed form",
                "method.eps=0",
            )


@dataclass(frozen=True)
class WTNPO(Objective):
    """TNPO whose weights are multiplied by p^alpha.

    Source: Wang et al. 2025 (G-effect): (alpha, beta) = (1.5, 5) on TOFU's 1 and 5 %, (1.5, 7) on
    10 %; the published code falls back to beta 4.
    """

    loss = losses.TNPO

    alpha: Positive = 1.5
    """Exponent of the confidence."""
    beta: Positive = 5.0
    """Inverse temperature of TNPO's weight."""
    eps: NonNegative = 0.0
    """Added to the weight's denominator: 1e-5 in the published code, 0 in the paper."""
