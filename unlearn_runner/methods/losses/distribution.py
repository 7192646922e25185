"""Losses that shape the whole next-token distribution at the answer positions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from unlearn_runner.methods.losses.base import Loss

if TYPE_CHECKING:
    from torch import Tensor

    from unlearn_runner.data.encode import Batch
    from unlearn_runner.models.forward import Models


@dataclass(frozen=True)
class IHL(Loss):
    """Inverted hinge: 1 + p(label) - p(best other token), per token; from 2 down to 0.

    Source: Cha et al. 2025 (LoKU, arXiv 2408.06621), on probabilities. Their code skips the softmax
    where all logits lie in [0, 1]; this does not.
    """

    def __call__(self, models: Models, batch: Batch) -> Tensor:
        """Returns the sum over answer tokens."""
        logits, label = models.logits(batch), batch.labels[:, None]
        whole = logits.logsumexp(-1)
        own = logits.gather(1, label)[:, 0]
        best = logits.scatter(1, label, -math.inf).max(-1).values
        return (1 + (own - whole).exp() - (best - whole).exp()).sum()


@dataclass(frozen=True)
class CEU(Loss):
    """Cross entropy to the model's own distribution with the label's logit at minus infinity.

    Source: Yang 2025 (CE-U, arXiv 2503.01224). The target carries no gradient.
    """

    def __call__(self, models: Models, batch: Batch) -> Tensor:
        """Returns the sum over answer tokens."""
        from torch.nn.functional import cross_entropy

        logits = models.logits(batch)
        target = logits.detach().scatter(1, batch.labels[:, None], -math.inf).softmax(-1)
        return cross_entropy(logits, target, reduction="sum")


@dataclass(frozen=True)
class UNDIAL(Loss):
    """Cross entropy to softmax(start logits - beta at the label): self-distillation.

    Source: Dong et al. 2024 (arXiv 2402.10052). open-unlearning also averages over prompt and
    padding, with a stray penalty there; only answer tokens count here.
    """

    beta: float

    needs_start_model: ClassVar[bool] = True

    def __call__(self, models: Models, batch: Batch) -> Tensor:
        """Returns the sum over answer tokens."""
        from torch.nn.functional import cross_entropy

        start, label = models.start_logits(batch), batch.labels[:, None]
        lowered = start.scatter_add(1, label, start.new_full(label.shape, -self.beta))
        return cross_entropy(models.logits(batch), lowered.softmax(-1), reduction="sum")


@dataclass(frozen=True)
class Margin(Loss):
    """(Largest logit - mean logit)^2 per token: flattens the logits, without a softmax.

    Source: the logit-margin flattening loss of PDU. open-unlearning's first mask was off by one
    position, its later code counts prompt and padding, too; only answer tokens count here.
    """

    def __call__(self, models: Models, batch: Batch) -> Tensor:
        """Returns the sum over answer tokens."""
        logits = models.logits(batch)
        return ((logits.max(-1).values - logits.mean(-1)) ** 2).sum()


@dataclass(frozen=True)
class Entropy(Loss):
    """KL to the uniform distribution over the vocabulary, per token: maximises entropy.

    Source: Yuan et al. 2025 (ME). The paper's KL(model ‖ uniform) = log V - entropy; their code
    has the reverse, KL(uniform ‖ model), which punishes a single improbable token without bound.
    """

    order: Literal["model-uniform", "uniform-model"] = "model-uniform"

    def __call__(self, models: Models, batch: Batch) -> Tensor:
        """Returns the sum over answer tokens."""
        logp = models.logits(batch).log_softmax(-1)
        size = math.log(logp.shape[-1])
        if self.order == "uniform-model":
            return (-logp.mean(-1) - size).sum()
        return ((logp.exp() * logp).sum(-1) + size).sum()
