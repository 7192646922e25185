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

from unlearn_runner.distributed.layout import Layout

Gradient = list[Tensor | None]

PIECE = 1 << 20  # numbers converted to float64 at once: 8 MiB, whatever the model


class GradientSpace:
    """Gradients of one list of parameters: what this rank holds of them, as plain tensors.

    `add`, `scale` and `clip` overwrite their first argument where they can, so a rectifier's peak
    is one buffer per group it keeps apart and one per gradient it remembers.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], layout: Layout | None = None) -> None:
        self.parameters = [p for p in parameters if p.requires_grad]
        self.layout = layout or Layout()

    def clear(self) -> None:
        """Forgets the gradients of earlier passes."""
        for parameter in self.parameters:
            parameter.grad = None

    def collect(self) -> Gradient:
        """Moves the accumulated gradient out of the parameters, summed over the ranks."""
        taken: Gradient = [
            None if parameter.grad is None else self.layout.to_local(parameter.grad)
            for parameter in self.parameters
        ]
        self.clear()
        self.layout.reduce(taken)
        return taken

    def assign(self, gradient: Gradient) -> None:
        """Makes `gradient` the one the optimizer steps with."""
        for parameter, entry in zip(self.parameters, gradient, strict=True):
            parameter.grad = None if entry is None else self.layout.from_local(entry, parameter)

    def dots(self, *pairs: tuple[Gradient, Gradient]) -> list[float]:
        """Returns the inner products of pairs of gradients, summed in float64.

        Each rank sums over its piece; one all-reduce of `len(pairs)` numbers makes them global.
        """
        total = torch.zeros(len(pairs), dtype=torch.float64, device=self.parameters[0].device)
        for entries in zip(*(gradient for pair in pairs for gradient in pair), strict=True):
            for place in range(len(pairs)):
                x, y = entries[2 * place], entries[2 * place + 1]
                if x is not None and y is not None:
                    piece = self.layout.flat_shard(x)
                    total[place] += _dot(piece, piece if y is x else self.layout.flat_shard(y))
        return self.layout.total(total).tolist()  # one transfer for all products

    def add(self, a: Gradient, b: Gradient, alpha: float = 1.0) -> Gradient:
        """Returns a + alpha * b; overwrites a."""
        out: Gradient = []
        for x, y in zip(a, b, strict=True):
            if x is None:
                out.append(_times(y, alpha))
            else:
                out.append(x if y is None else x.add_(y, alpha=alpha))
        return out

    def mix(self, a: Gradient, b: Gradient, share: float) -> Gradient:
        """Returns (1 - share) * a + share * b, in one sweep over memory; overwrites a."""
        out: Gradient = []
        for x, y in zip(a, b, strict=True):
            if x is None or y is None:
                out.append(x.mul_(1 - share) if x is not None else _times(y, share))
            else:
                out.append(x.lerp_(y, share))
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


def _times(x: Tensor | None, factor: float) -> Tensor | None:
    return None if x is None else x * factor


def _dot(x: Tensor, y: Tensor) -> Tensor:
    """Returns the inner product in float64, with float64 copies of a small piece at a time."""
    if not len(x):
        return x.new_zeros((), dtype=torch.float64)
    pieces = zip(x.split(PIECE), y.split(PIECE), strict=True)
    if x is y:
        squares = (a.double() for a, _ in pieces)
        return torch.stack([torch.dot(a, a) for a in squares]).sum()
    return torch.stack([torch.dot(a.double(), b.double()) for a, b in pieces]).sum()
