"""The arithmetic of gradients, and the only code that knows how they are stored.

A gradient is a list with one entry per trainable parameter, `None` where the parameter received
none (it counts as zero). `clear` comes at the *start* of every pass: a gradient that an earlier
pass wrote back must never leak into the next.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from unlearn_runner.distributed.layout import Layout
from unlearn_runner.models.layer_groups import Scope, layer_groups

Gradient = list[Tensor | None]
Gramian = list[list[float]]
"""Symmetric matrix of the inner products of some gradients."""

CHUNK = 1 << 20  # numbers converted to float64 at once on a device: 8 MiB, whatever the model
CACHED = 1 << 15  # numbers that stay in a processor's cache from one operation to the next


class GradientSpace:
    """Algebra of the gradients of one list of parameters, as this rank has them: plain tensors.

    `add`, `scale` and `clip` overwrite their first argument where they can, so a rectifier's peak
    is one buffer per group it keeps apart and one per gradient it remembers.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter] | Iterable[tuple[str, nn.Parameter]],
        layout: Layout | None = None,
    ) -> None:
        named = [p if isinstance(p, tuple) else ("", p) for p in parameters]
        self.names = [name for name, parameter in named if parameter.requires_grad]
        self.parameters = [parameter for _, parameter in named if parameter.requires_grad]
        self.layout = layout or Layout()

    def clear(self) -> None:
        """Drops the gradients of earlier passes."""
        for parameter in self.parameters:
            parameter.grad = None

    def collect(self) -> Gradient:
        """Moves the accumulated gradient out of the parameters, summed over the ranks."""
        gradient: Gradient = [
            None if parameter.grad is None else self.layout.to_local(parameter.grad)
            for parameter in self.parameters
        ]
        self.clear()
        self.layout.reduce(gradient)
        return gradient

    def assign(self, gradient: Gradient) -> None:
        """Makes `gradient` the one the optimizer steps with."""
        for parameter, entry in zip(self.parameters, gradient, strict=True):
            parameter.grad = None if entry is None else self.layout.from_local(entry, parameter)

    def to_checkpoint(self, a: Gradient) -> list[Any]:
        """Returns a gradient as a checkpoint stores it: this rank's share."""
        layout, pairs = self.layout, zip(a, self.parameters, strict=True)
        return [x if x is None else layout.to_checkpoint(layout.from_local(x, p)) for x, p in pairs]

    def from_checkpoint(self, stored: list[Any]) -> Gradient:
        """Returns what `to_checkpoint` stored under any layout."""
        pairs = zip(stored, self.parameters, strict=True)
        return [x if x is None else self.layout.from_checkpoint(x, p) for x, p in pairs]

    def weights(self) -> Gradient:
        """Returns copies of the parameters' values."""
        return [p.clone() for p in self._values()]

    def moved(self, before: Gradient) -> Gradient:
        """Returns how far the parameters' values are from what they were."""
        return [
            p.clone() if x is None else p - x for p, x in zip(self._values(), before, strict=True)
        ]

    def move(self, before: Gradient, update: Gradient) -> None:
        """Sets the parameters' values to what they were, and an update further."""
        for value, x, change in zip(self._values(), before, update, strict=True):
            if x is not None and change is not None:
                torch.add(x, change, out=value)

    def set_weights(self, values: Gradient) -> None:
        """Overwrites the parameters' values, where there are any."""
        for own, value in zip(self._values(), values, strict=True):
            if value is not None:
                own.copy_(value)

    def _values(self) -> list[Tensor]:
        return [self.layout.to_local(parameter.detach()) for parameter in self.parameters]

    def parts(self, scope: Scope) -> list[str]:
        """Returns the label of the part that each parameter belongs to, under a scope."""
        if scope == "group":
            return layer_groups(self.names)
        return self.names if scope == "tensor" else [""] * len(self.parameters)

    def gramian(self, *gradients: Gradient) -> Gramian:
        """Returns the matrix of all inner products; one all-reduce, as in `dots`."""
        return self.gramians(self.parts("whole"), *gradients)[""]

    def gramians(self, parts: Sequence[str], *gradients: Gradient) -> dict[str, Gramian]:
        """Returns the matrix of all inner products within each part; one all-reduce in all.

        Matrices of parts add up to that of the whole.
        """
        size = len(gradients)
        places = [(i, j) for i in range(size) for j in range(i, size)]
        pairs = [(gradients[i], gradients[j]) for i, j in places]
        found = {}
        for part, products in self._products(parts, pairs).items():
            at = dict(zip(places, products, strict=True))
            found[part] = [[at[min(i, j), max(i, j)] for j in range(size)] for i in range(size)]
        return found

    def dots(self, *pairs: tuple[Gradient, Gradient]) -> list[float]:
        """Returns the inner products of pairs of gradients, summed in float64.

        Each rank sums over its shard; one all-reduce of `len(pairs)` numbers makes them global.
        """
        return self._products(self.parts("whole"), pairs)[""]

    def _products(
        self, parts: Sequence[str], pairs: Sequence[tuple[Gradient, Gradient]]
    ) -> dict[str, list[float]]:
        """Returns the pairs' inner products by part, summed over all ranks."""
        labels = list(dict.fromkeys(parts))
        row = {label: i for i, label in enumerate(labels)}
        device = self.parameters[0].device
        total = torch.zeros(len(labels), len(pairs), dtype=torch.float64, device=device)
        different = list({id(gradient): gradient for pair in pairs for gradient in pair}.values())
        place = {id(gradient): i for i, gradient in enumerate(different)}
        places = [(place[id(a)], place[id(b)]) for a, b in pairs]
        for part, entries in zip(parts, zip(*different, strict=True), strict=True):
            shards = [None if x is None else self.layout.flat_shard(x) for x in entries]
            total[row[part]] += _dots(shards, places, total[row[part]])
        # One message and one transfer for all products.
        return dict(zip(labels, self.layout.total(total).tolist(), strict=True))

    def add(self, a: Gradient, b: Gradient, alpha: float = 1.0) -> Gradient:
        """Returns a + alpha * b; overwrites a."""
        out: Gradient = []
        for x, y in zip(a, b, strict=True):
            if x is None:
                out.append(_times(y, alpha))
            else:
                out.append(x if y is None else x.add_(y, alpha=alpha))
        return out

    def add_parts(
        self, parts: Sequence[str], a: Gradient, b: Gradient, alphas: Mapping[str, float]
    ) -> Gradient:
        """Returns a + alpha * b with each part's own alpha; overwrites a where alpha is not 0."""
        out: Gradient = []
        for part, x, y in zip(parts, a, b, strict=True):
            alpha = alphas[part]
            out.extend(self.add([x], [y], alpha) if alpha else [x])
        return out

    def scale_parts(
        self, parts: Sequence[str], a: Gradient, factors: Mapping[str, float]
    ) -> Gradient:
        """Returns a times each part's own factor; overwrites a."""
        pairs = zip(parts, a, strict=True)
        # A factor of 1 would only cost a sweep over memory.
        return [x if x is None or factors[p] == 1 else x.mul_(factors[p]) for p, x in pairs]

    def multiply(self, a: Gradient, b: Gradient) -> Gradient:
        """Returns the product number by number, zero where there is none; overwrites a."""
        pairs = zip(a, b, strict=True)
        return [None if x is None or y is None else x.mul_(y) for x, y in pairs]

    def elementwise(self, function: Callable[..., Tensor], *gradients: Gradient) -> Gradient:
        """Returns `function` of the gradients' entries, number by number; overwrites the first.

        A gradient counts as zero where it has no entry and another one does.
        """
        out: Gradient = []
        for entries in zip(*gradients, strict=True):
            filled = _filled(entries)
            for few in _pieces(filled):
                few[0].copy_(function(*few))
            out.append(filled[0] if filled else None)
        return out

    def share(self, condition: Callable[..., Tensor], *gradients: Gradient) -> float:
        """Returns the share of numbers, of all ranks, at which a condition on gradients holds.

        One all-reduce of two numbers. Numbers at which no gradient has an entry are left out.
        """
        device = self.parameters[0].device
        total = torch.zeros(2, dtype=torch.float64, device=device)
        for entries in zip(*gradients, strict=True):
            shards = [self.layout.flat_shard(x) for x in _filled(entries)]
            if shards:
                total[0] += condition(*shards).sum()
                total[1] += len(shards[0])
        found, numbers = self.layout.total(total).tolist()
        return found / numbers if numbers else 0.0

    def copy(self, a: Gradient) -> Gradient:
        """Returns a copy."""
        return [None if x is None else x.clone() for x in a]

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
        """Returns a with its L2 norm bounded, and the norm it had; overwrites a."""
        norm = self.norm(a)
        factor = clip_factor(norm, bound)
        return (self.scale(a, factor) if factor < 1 else a), norm


def clip_factor(norm: float, bound: float) -> float:
    """Returns min(1, bound / (norm + 1e-6)), torch's convention; 1 if the norm is not finite."""
    factor = bound / (norm + 1e-6)
    return factor if factor < 1 and math.isfinite(norm) else 1.0


def _filled(entries: Sequence[Tensor | None]) -> list[Tensor]:
    """Returns entries of several gradients with zeros for the missing; nothing if all are."""
    some = next((x for x in entries if x is not None), None)
    if some is None:
        return []
    return [torch.zeros_like(some) if x is None else x for x in entries]


def _pieces(entries: Sequence[Tensor]) -> Iterator[Sequence[Tensor]]:
    """Yields entries of several gradients piece by piece, as large as a processor's cache holds."""
    if (
        not entries
        or entries[0].device.type != "cpu"
        or not all(x.is_contiguous() for x in entries)
    ):
        return iter([entries] if entries else [])
    return zip(*(x.view(-1).split(CACHED) for x in entries), strict=True)


def _times(x: Tensor | None, factor: float) -> Tensor | None:
    return None if x is None else x * factor


def _dots(
    shards: Sequence[Tensor | None], pairs: Sequence[tuple[int, int]], like: Tensor
) -> Tensor:
    """Returns inner products of pairs of shards in float64; [pairs], zero where there is no shard.

    Each number is converted once, however many products it is in, and only a chunk at a time.
    """
    known = {i: x for i, x in enumerate(shards) if x is not None and len(x)}
    wanted = [(place, pair) for place, pair in enumerate(pairs) if known.keys() >= set(pair)]
    found = torch.zeros_like(like)
    if wanted:
        size = CACHED if like.device.type == "cpu" else CHUNK
        products = []
        for pieces in zip(*(x.split(size) for x in known.values()), strict=True):
            numbers = dict(zip(known, (x.double() for x in pieces), strict=True))
            products.extend(torch.dot(numbers[a], numbers[b]) for _, (a, b) in wanted)
        sums = torch.stack(products).view(-1, len(wanted)).sum(0)
        found[[place for place, _ in wanted]] = sums
    return found
