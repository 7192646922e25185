"""Quantisation round trips: weights go through few bits and back, on any processor.

Unlearning moves weights by less than such a grid is wide, so rounding may undo it (Zhang et al.
2024, arXiv 2410.16454). The weights of linear maps are rounded, as the usual loaders do it:
embeddings, norms, biases and the projection to the vocabulary stay.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from annotated_types import Ge, Le

from unlearn_runner.evaluation.attacks.base import Attack

if TYPE_CHECKING:
    from torch import Tensor

NF4 = (
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
    *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
    *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
    *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
)
"""Levels of the 4-bit NormalFloat (Dettmers et al. 2023, arXiv 2305.14314, appendix E)."""


@dataclass(frozen=True)
class Quantise(Attack):
    """Base class of round trips; each block of a weight is rounded on a scale of its own."""

    changes_weights: ClassVar[bool] = True

    def change(self, model: Any) -> None:
        """Rounds the weights of all linear maps but the projection to the vocabulary."""
        import torch

        with torch.no_grad():
            for weight in linear_weights(model):
                weight.copy_(self.rounded(weight))

    @abstractmethod
    def rounded(self, weight: Tensor) -> Tensor:
        """Returns a weight after the round trip; [out, in]."""


@dataclass(frozen=True)
class Int8(Quantise):
    """Eight bits: whole multiples, -127 to 127, of the row's largest magnitude over 127.

    As LLM.int8() keeps weights (Dettmers et al. 2022), without its outliers, which are of inputs.
    """

    def rounded(self, weight: Tensor) -> Tensor:
        """Returns a weight after the round trip, row by row; [out, in]."""
        scale = weight.abs().amax(dim=1, keepdim=True) / 127
        return weight.div(scale.masked_fill(scale == 0, 1)).round() * scale


@dataclass(frozen=True)
class Nf4(Quantise):
    """Four bits: the nearest of 16 levels, times the largest magnitude of the block.

    Blocks are runs of the flattened weight, the last of which may be short. The scales are kept in
    full; QLoRA's double quantisation rounds them, too.
    """

    block: Annotated[int, Ge(1), Le(65_536)] = 64

    def rounded(self, weight: Tensor) -> Tensor:
        """Returns a weight after the round trip; any shape."""
        import torch
        from torch.nn.functional import pad

        flat = weight.flatten()
        blocks = pad(flat, (0, -len(flat) % self.block)).view(-1, self.block)
        scale = blocks.abs().amax(dim=1, keepdim=True)
        levels = torch.tensor(NF4, dtype=weight.dtype, device=weight.device)
        middles = (levels[1:] + levels[:-1]) / 2
        nearest = torch.bucketize(blocks / scale.masked_fill(scale == 0, 1), middles)
        return (levels[nearest] * scale).flatten()[: len(flat)].view_as(weight)


def linear_weights(model: Any) -> Iterator[Any]:
    """Yields the weights of all linear maps but the projection to the vocabulary."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    for module in model.modules():
        if isinstance(module, (nn.Linear, Conv1D)) and module is not model.get_output_embeddings():
            yield module.weight
