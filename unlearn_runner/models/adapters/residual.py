"""Base of adapters that begin as the largest part of the weights, beside what is left of them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge, Lt

from unlearn_runner.models.adapters.files import NAME, Tensors
from unlearn_runner.models.adapters.lora import LoRA

if TYPE_CHECKING:
    from torch import Tensor

START = "start_factors"
"""Attribute of an adapted module: A and B as they began, in host memory."""


@dataclass(frozen=True)
class ResidualLoRA(LoRA):
    """Base class of LoRA that takes A and B out of W: y = (W - s B0 A0) x + s B A x.

    The residual is made of A0 and B0 as they are stored, so the sum is W up to one rounding of the
    residual, whatever its number format. The start model is not the trained one with its adapter
    off: where a loss needs it, a copy is held. What is kept is an adapter of twice the rank on the
    *original* weights, W + s [B, -B0] [A; A0], which peft loads as any other.
    """

    dropout: Annotated[float, Ge(0), Lt(1)] = 0.0
    """On the adapter's input, in training; it would drop part of W itself."""

    @property
    def holds_start(self) -> bool:
        """No: without the adapter only the residual is there."""
        return False

    @abstractmethod
    def factors(
        self, weight: Tensor, scaling: float, row_weights: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Returns A [rank, in] and B [out, rank] for weights [out, in]; see `weighted_factors`."""

    def begin(
        self, module: Any, name: str, seed: int, row_weights: Mapping[str, Any] | None
    ) -> None:
        """Splits W into A, B and the residual."""
        import torch

        weights, scaling = module.get_base_layer().weight, module.scaling[NAME]
        a, b = module.lora_A[NAME].weight, module.lora_B[NAME].weight
        with torch.no_grad():
            weight = weights.T if module.fan_in_fan_out else weights
            first, second = self.factors(
                weight, scaling, None if row_weights is None else row_weights[name]
            )
            a.copy_(first)
            b.copy_(second)
            weight.copy_(weight.double() - scaling * (b.double() @ a.double()))
        setattr(module, START, (a.detach().cpu().clone(), b.detach().cpu().clone()))

    def start(self, model: Any) -> Any | None:
        """Returns none: the weights below the adapter are not the start model's."""
        return None

    def imported(self, tensors: Tensors) -> Tensors:
        """Returns the trained half of a kept adapter."""
        return {
            name: tensor[: self.rank] if ".lora_A." in name else tensor[:, : self.rank]
            for name, tensor in tensors.items()
        }

    def exported(self, model: Any, config: Any, tensors: Tensors) -> Tensors:
        """Returns [A; A0] and [B, -B0], of twice the rank at the same scale."""
        import torch

        config.r, config.lora_alpha = 2 * config.r, 2 * config.lora_alpha
        found = {}
        for name, tensor in tensors.items():
            first, second = getattr(model.get_submodule(name.partition(".lora_")[0]), START)
            trained = tensor.detach().cpu()
            lower = ".lora_A." in name
            pair = (trained, first) if lower else (trained, -second)
            found[name] = torch.cat(pair, dim=0 if lower else 1)
        return found


def weighted_factors(
    weight: Tensor, rank: int, scaling: float, row_weights: Tensor | None = None, eps: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Returns the A and B for which scaling * B A is nearest to W, row i weighing d_i squared.

    The minimum of sum_i d_i^2 |W_i - M_i|^2 over M of a rank is known, since a row has one weight:
    M = diag(1 / d) U S V^T, of the truncated SVD of diag(d) W (LoKU, whose code adds 1e-5 to d
    before it divides). In float64, exact: no random sketch, no draws.

    Args:
        weight: W; [out, in].
        rank: Of the product; where W has a smaller one, the rest of A and B is zero.
        scaling: What the product is multiplied by.
        row_weights: d; [out]. None weighs all rows alike.
        eps: What is added to d before dividing by it.
    """
    import torch

    exact = weight.detach().double()
    d = exact.new_ones(len(exact)) if row_weights is None else row_weights.to(exact)
    left, values, right = _truncated_svd(d[:, None] * exact, min(rank, *exact.shape))
    root = (values / scaling).sqrt()
    a, b = exact.new_zeros(rank, exact.shape[1]), exact.new_zeros(len(exact), rank)
    a[: len(root)] = root[:, None] * right
    b[:, : len(root)] = torch.where(d > 0, 1 / (d + eps), 0)[:, None] * left * root
    return a, b


def _truncated_svd(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """Returns U, S and V^T of the largest singular values of a float64 matrix.

    By the eigenvectors of the smaller Gram matrix, an order of magnitude faster than a whole SVD.
    Singular values below 1e-8 of the largest are not resolved; float32 would not hold them either.
    """
    import torch

    if len(matrix) > matrix.shape[1]:
        right, values, left = _truncated_svd(matrix.T, rank)
        return left.T, values, right.T
    left = torch.linalg.eigh(matrix @ matrix.T)[1][:, -rank:].flip(1)
    right = left.T @ matrix
    values = right.norm(dim=1)
    return left, values, right / values.clamp_min(torch.finfo(values.dtype).tiny)[:, None]
