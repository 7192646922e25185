"""Likelihood of the answers, plain and weighted, and closeness to the start model's distribution.

The weighted ones ascend with a weight per token: -sum w_i NLL_i, the weights without a gradient.
Where the weighted sum is the gradient of a simpler function, `closed` reports that function in its
place: the gradient is the same, and the value falls as unlearning proceeds, which a weighted sum's
need not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from unlearn_runner.methods.losses.base import Loss, start_nll, token_nll

if TYPE_CHECKING:
    from torch import Tensor

    from unlearn_runner.data.encode import Batch
    from unlearn_runner.models.forward import Models


@dataclass(frozen=True)
class NLL(Loss):
    """Negative log-likelihood of the answer tokens, in nats."""

    def __call__(self, models: Models, batch: Batch) -> Tensor:
        """Returns the sum over answer tokens."""
        from torch.nn.functional import cross_entropy

        return cross_entropy(models.logits(batch), batch.labels, reduction="sum")


@dataclass(frozen=True)
class KL(Loss):
    """KL(start ‖ trained), summed over the vocabulary, at the answer positions.

    Source: the retain term of GA+KL (Maini et al. 2024; GRU 1.7, G-effect 2.3). The published codes
    average over all positions, prompt and padding included. Here only scored positions count, or,
    with `positions="all"`, every token of the row; padding never does, or a batch's longest row
    would change the weight of the others.
    """

    positions: Literal["answer", "all"] = "answer"

    needs_start_model: ClassVar[bool] = True

    def __call__(self, models: Models, batch: Batch) -> Tensor:
        """Returns the sum over answer tokens, or over all positions."""
        from torch.nn.functional import kl_div, log_softmax

        if self.positions == "all":
            batch = batch.everywhere()
        trained = log_softmax(models.logits(batch), dim=-1)
        start = log_softmax(models.start_logits(batch), dim=-1)
        return kl_div(trained, start, reduction="sum", log_target=True)


@dataclass(frozen=True)
class WGA(Loss):
    """Weights p_i^alpha; closed: sum p_i^alpha / alpha.

    Source: Wang et al. 2025 (G-effect, arXiv 2502.19301).
    """

    alpha: float
    closed: bool = False

    def __call__(self, models: Models, batch: Batch) -> Tensor:
        """Returns the sum over answer tokens."""
        nll = token_nll(models, batch)
        if self.closed:
            return (-self.alpha * nll).exp().sum() / self.alpha
        return -(nll * (-self.alpha * nll.detach()).exp()).sum()


@dataclass(frozen=True)
class TNPO(Loss):
    """NPO's weight token by token: 2 p_i^beta / (p_i^beta + p_start,i^beta), times p_i^alpha.

    Source: Wang et al. 2025 (G-effect); alpha 0 is TNPO, else WTNPO. Their code adds `eps` = 1e-5
    to the denominator, which turns the weight off where both probabilities are small; the sigmoid
    form used here for eps 0 is exact there. Closed (alpha 0, eps 0): (2/beta) sum log(1 + (p_i /
    p_start,i)^beta).
    """

    beta: float
    alpha: float = 0.0
    eps: float = 0.0
    closed: bool = False

    needs_start_logprobs: ClassVar[bool] = True

    def __call__(self, models: Models, batch: Batch) -> Tensor:
        """Returns the sum over answer tokens."""
        from torch.nn.functional import softplus

        nll = token_nll(models, batch)
        start = start_nll(batch).to(nll.dtype)
        if self.closed:
            return (2 / self.beta) * softplus(self.beta * (start - nll)).sum()
        return -(nll * self._weights(nll.detach(), start)).sum()

    def _weights(self, nll: Tensor, start: Tensor) -> Tensor:
        if self.eps:
            own, before = (-self.beta * nll).exp(), (-self.beta * start).exp()
            share = own / (own + before + self.eps)
        else:
            share = (self.beta * (start - nll)).sigmoid()
        return 2 * share * (-self.alpha * nll).exp()


@dataclass(frozen=True)
class SatImp(Loss):
    """Weights p_i^beta1 (1 - p_i)^beta2: little for what is forgotten, and for what is certain.

    Source: Yang et al. 2025 (SatImp).
    """

    beta1: float
    beta2: float

    def __call__(self, models: Models, batch: Batch) -> Tensor:
        """Returns the sum over answer tokens."""
        nll = token_nll(models, batch)
        logp = -nll.detach()
        weights = (self.beta1 * logp).exp() * (-logp.expm1()).clamp(min=0) ** self.beta2
        return -(nll * weights).sum()
