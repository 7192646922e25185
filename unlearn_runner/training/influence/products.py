"""Products of a risk's second derivative with a vector, without the matrix.

A risk is a sum of parts (micro-batches, one after another). Each function adds the parts' products
and sums them over the ranks, like a gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

from unlearn_runner.models.gradients import Gradient, GradientSpace


class Part(Protocol):
    """One addend of a risk. Each call runs the model once."""

    def loss(self) -> Tensor:
        """Returns its value, a scalar with a graph."""
        ...

    def logits(self) -> tuple[Tensor, Tensor]:
        """Returns logits and the weight of each position's NLL in the risk; [n, classes], [n]."""
        ...


Parts = Callable[[], Iterable[Part]]


def zeros(space: GradientSpace) -> Gradient:
    """Returns the zero vector."""
    return [torch.zeros_like(space.layout.to_local(p.detach())) for p in space.parameters]


def gradient(space: GradientSpace, parts: Parts) -> Gradient:
    """Returns the risk's gradient, with zeros where a parameter has none."""
    space.clear()
    for part in parts():
        part.loss().backward()
    pairs = zip(space.collect(), zeros(space), strict=True)
    return [zero if entry is None else entry for entry, zero in pairs]


def double(space: GradientSpace, parts: Parts, v: Gradient) -> Gradient:
    """Returns H v by a second backward pass through the gradient (Pearlmutter 1994); exact.

    Parameters must be whole. Attention is computed by the plain formula: torch's fused kernels have
    no second derivative, and transformers' "eager" rounds to float32 on the way.
    """
    total = zeros(space)
    with sdpa_kernel(SDPBackend.MATH):
        for part in parts():
            first = torch.autograd.grad(
                part.loss(), space.parameters, create_graph=True, materialize_grads=True
            )
            slope = _dot(first, v)
            if slope.requires_grad:  # a loss that is linear has no more
                _accumulate(total, torch.autograd.grad(slope, space.parameters, allow_unused=True))
    return _summed(space, total)


def gauss_newton(space: GradientSpace, parts: Parts, v: Gradient) -> Gradient:
    """Returns J^T (diag(p) - p p^T) J v, with J the Jacobian of the logits: never indefinite.

    H without the curvature of the logits themselves; the Fisher information of the softmax. J v is
    a forward derivative, which keeps no activations: in all it holds about what a gradient holds.
    Parameters must be whole; attention as in `double`.
    """
    total = zeros(space)
    with sdpa_kernel(SDPBackend.MATH):
        for part in parts():
            pushed, p, weights = _pushed(space, part, v)
            curved = p * (pushed - (p * pushed).sum(-1, keepdim=True)) * weights[:, None]
            logits, _ = part.logits()
            _accumulate(
                total, torch.autograd.grad(logits, space.parameters, curved, allow_unused=True)
            )
    return _summed(space, total)


def _pushed(space: GradientSpace, part: Part, v: Gradient) -> tuple[Tensor, Tensor, Tensor]:
    """Returns J v, the softmax of the logits, and the weights."""
    with torch.no_grad(), forward_ad.dual_level():
        for parameter, entry in zip(space.parameters, v, strict=True):
            if entry is not None:  # in place: a model finds its parameters where they were
                parameter.copy_(forward_ad.make_dual(parameter.detach().clone(), entry))
        logits, weights = part.logits()
        plain, tangent = forward_ad.unpack_dual(logits)
        # What a level has made ends with it.
        pushed = torch.zeros_like(plain) if tangent is None else tangent.clone()
        return pushed, plain.softmax(-1), weights


def difference(space: GradientSpace, parts: Parts, v: Gradient) -> Gradient:
    """Returns H v as a central difference of gradients: with any kernel, on shards too.

    The weights are moved by h v, h = e (1 + |theta|) / |v|, and put back. e balances truncation
    with rounding: 1e-3 in float32, 1e-5 in float64.
    """
    theta, length = space.weights(), space.norm(v)
    if length == 0:
        return zeros(space)
    share = 1e-5 if theta[0] is not None and theta[0].dtype == torch.float64 else 1e-3
    h = share * (1 + space.norm(theta)) / length
    try:
        found = [_at(space, parts, theta, v, sign * h) for sign in (1, -1)]
    finally:
        space.set_weights(theta)
    return space.scale(space.add(found[0], found[1], -1.0), 1 / (2 * h))


def _at(space: GradientSpace, parts: Parts, theta: Gradient, v: Gradient, step: float) -> Gradient:
    space.set_weights(space.add(space.copy(theta), v, step))
    return gradient(space, parts)


def _dot(a: Iterable[Tensor], b: Gradient) -> Tensor:
    return torch.stack([(x * y).sum() for x, y in zip(a, b, strict=True) if y is not None]).sum()


def _accumulate(total: Gradient, found: Iterable[Tensor | None]) -> None:
    for entry, more in zip(total, found, strict=True):
        if entry is not None and more is not None:
            entry.add_(more)


def _summed(space: GradientSpace, total: Gradient) -> Gradient:
    space.layout.reduce(total)
    return total
