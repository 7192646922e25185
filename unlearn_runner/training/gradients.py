"""The arithmetic of gradients, and the only code that knows how they are stored.

A gradient is a list with one entry per trainable parameter, `None` where the parameter received
none (it counts as zero). `clear` comes at the *start* of every pass: a gradient that an earlier
pass wrote back must never leak into the next.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

Gradient = list[Tensor | None]


class GradientSpace:
    """Gradients of one list of parameters, on one device.

    `add`, `scale` and `clip` overwrite their first argument where they can, so a rectifier's peak
    is one buffer per group it keeps apart and one per gradient it remembers.
    """

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        self.parameters = [p for p in parameters if p.requires_grad]

    def clear(self) -> None:
        """Forgets the gradients of earlier passes."""
        for parameter in self.parameters:
            parameter.grad = None

    def take(self) -> Gradient:
        """Moves the accumulated gradient out of the parameters."""
        taken: Gradient = [parameter.grad for parameter in self.parameters]
        self.clear()
        return taken

    def put(self, gradient: Gradient) -> None:
        """Makes `gradient` the one the optimizer steps with."""
        for parameter, entry in zip(self.parameters, gradient, strict=True):
            parameter.grad = entry

    def dots(self, *pairs: tuple[Gradient, Gradient]) -> list[float]:
        """Returns the inner products of pairs of gradients, summed in float64."""
        sums = [self._dot(*pair) for pair in pairs]
        return torch.stack(sums).tolist()  # one transfer for all products

    def _dot(self, a: Gradient, b: Gradient) -> Tensor:
        total = torch.zeros((), dtype=torch.float64, device=self.parameters[0].device)
        for x, y in zip(a, b, strict=True):
            if x is not None and y is not None:
                total += torch.dot(x.reshape(-1).double(), y.reshape(-1).double())
        return total

    def add(self, a: Gradient, b: Gradient, alpha: float = 1.0) -> Gradient:
        """Returns a + alpha * b; overwrites a."""
        out: Gradient = []
        for x, y in zip(a, b, strict=True):
            if x is None:
                out.append(None if y is None else y * alpha)
            else:
                out.append(x if y is None else x.add_(y, alpha=alpha))
        return out

    def scale(self, a: Gradient, factor: float) -> Gradient:
        """Returns factor * a; overwrites a."""
        return [None if x is None else x.mul_(factor) for x in a]

    def norm(self, a: Gradient) -> float:
        """Returns the L2 norm over all parameters."""
        return math.sqrt(self.dots((a, a))[0])

    def clip(self, a: Gradient, bound: float) -> tuple[Gradient, float]:
        """Returns a with its L2 norm bounded, and the norm it had; overwrites a.

        The factor is min(1, bound / (norm + 1e-6)), torch's convention.
        """
        norm = self.norm(a)
        factor = bound / (norm + 1e-6)
        return (self.scale(a, factor) if factor < 1 else a), norm
