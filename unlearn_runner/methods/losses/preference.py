"""Losses of the preference family: one value per row, from the log-probability of whole answers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from unlearn_runner.methods.losses.base import Loss, other, start_nll, token_nll

if TYPE_CHECKING:
    from torch import Tensor

    from unlearn_runner.data.encode import Batch
    from unlearn_runner.models.forward import Models


@dataclass(frozen=True)
class NPO(Loss):
    """Negative preference optimisation: -(2/beta) log sigmoid(-beta log(p(s)/p_start(s))).

    Source: Zhang et al. 2024; p(s) is the product over answer tokens, without length
    normalisation. One value per row, so the unit is the row.
    """

    beta: float

    per_row: ClassVar[bool] = True
    needs_start_logprobs: ClassVar[bool] = True

    def __call__(self, models: Models, batch: Batch) -> Tensor:
        """Returns the sum over rows."""
        from torch.nn.functional import logsigmoid

        gap = _log_ratio(models, batch)
        return -(2 / self.beta) * logsigmoid(-self.beta * gap).sum()

    def row_weight(self, logprob: float, start: float | None) -> float | None:
        """Returns 2 p^beta / (p^beta + p_start^beta)."""
        return None if start is None else 1 + math.tanh(self.beta * (logprob - start) / 2)


@dataclass(frozen=True)
class SimNPO(Loss):
    """NPO without a start model: -(2/beta) log sigmoid(-(beta/n) log p(s) - gamma), n tokens.

    Source: Fan et al. 2024. Its code and open-unlearning's have the margin inside, beta (nll/n -
    gamma): `margin_inside`.
    """

    beta: float
    gamma: float = 0.0
    margin_inside: bool = False

    per_row: ClassVar[bool] = True

    def __call__(self, models: Models, batch: Batch) -> Tensor:
        """Returns the sum over rows."""
        from torch.nn.functional import logsigmoid

        nll = token_nll(models, batch)
        mean = batch.rows_sum(nll) / batch.rows_sum(nll.new_ones(nll.shape))
        margin = self.beta * self.gamma if self.margin_inside else self.gamma
        return -(2 / self.beta) * logsigmoid(self.beta * mean - margin).sum()


@dataclass(frozen=True)
class DPO(Loss):
    """Direct preference: -log sigmoid(beta (log-ratio of the other answer - log-ratio of the row)).

    A log-ratio is log p(s) - log p_start(s), summed over the answer's tokens. The row's own answer
    is the loser. Source: Rafailov et al. 2023, TOFU; open-unlearning multiplies by 2/beta:
    `doubled`.
    """

    beta: float
    doubled: bool = False

    per_row: ClassVar[bool] = True
    needs_start_logprobs: ClassVar[bool] = True
    needs_alternative: ClassVar[bool] = True

    def __call__(self, models: Models, batch: Batch) -> Tensor:
        """Returns the sum over rows."""
        from torch.nn.functional import logsigmoid

        gap = _log_ratio(models, other(batch)) - _log_ratio(models, batch)
        return -(2 / self.beta if self.doubled else 1.0) * logsigmoid(self.beta * gap).sum()


@dataclass(frozen=True)
class AP(Loss):
    """Answer preservation: -(1/beta) log sigmoid(beta log(p(s)/p(refusal))), on retain rows.

    Source: Yuan et al. 2025 ("A closer look at machine unlearning"), the companion of refusals on
    the forget side: a retain question must not be refused, too. No start model enters.
    """

    beta: float = 0.1

    per_row: ClassVar[bool] = True
    needs_alternative: ClassVar[bool] = True

    def __call__(self, models: Models, batch: Batch) -> Tensor:
        """Returns the sum over rows."""
        from torch.nn.functional import logsigmoid

        refusal = other(batch)
        refused = refusal.rows_sum(token_nll(models, refusal))
        gap = refused - batch.rows_sum(token_nll(models, batch))
        return -(1 / self.beta) * logsigmoid(self.beta * gap).sum()


def _log_ratio(models: Models, batch: Batch) -> Tensor:
    """Returns log(p(s)/p_start(s)) of every row's answer; [rows]."""
    nll = token_nll(models, batch)
    return batch.rows_sum(start_nll(batch).to(nll.dtype) - nll)
