"""Multi-objective rectifiers: weights of both sides from their Gramian, by TorchJD's weightings."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Ge, Lt

from unlearn_runner.errors import ConfigError
from unlearn_runner.rectifiers.sides import GramianRectifier

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from unlearn_runner.models.gradients import Gramian
    from unlearn_runner.rectifiers.base import RectifierState

PartState = tuple[float, ...]
"""What a weighting carries from step to step; empty at first."""
SMOOTHED = "smoothed weights"


@dataclass(frozen=True)
class MultiObjective(GramianRectifier):
    """Base class: forgetting and retention are two objectives, each with a gradient of its own.

    Their gradients come as the method weighs its terms. A retain gradient that would only be
    watched becomes an objective of weight 1: `ga` is stepped with as `gd` is. Where a gradient is
    zero or not finite, or a solver finds no finite weights, the plain sum is stepped with. What is
    random is drawn apart from the run's other draws.
    """

    smoothing: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Weight of the earlier weights in a running mean of them, which is stepped with (CR-MOGM,
    NeurIPS 2022); 0 keeps none."""

    by_trace: ClassVar[bool] = True
    """Whether the Gramian is divided by its trace first, so that the gradients' common scale, small
    or large, meets no absolute threshold of a solver."""

    @abstractmethod
    def solve(
        self, gramian: Tensor, carried: PartState
    ) -> tuple[Tensor | Sequence[float], PartState]:
        """Returns the weights of the forget and the retain gradient, and what to remember.

        Args:
            gramian: Inner products, [2, 2], float64, on the CPU; no zero on the diagonal.
            carried: What the step before returned.
        """

    def weights(
        self, part: str, gramian: Gramian, share: float, state: RectifierState
    ) -> tuple[float, float]:
        """Returns the weights in one part, and remembers in `state` what it needs there."""
        import torch

        trace = gramian[0][0] + gramian[1][1]
        if min(gramian[0][0], gramian[1][1]) <= 0 or not math.isfinite(trace):
            return 1.0, share
        matrix = torch.tensor(gramian, dtype=torch.float64)
        key = f"{type(self).__name__}/{part}"
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            found, carried = self.solve(
                matrix / trace if self.by_trace else matrix, state.get(key, ())
            )
        forget, retain = (float(weight) for weight in found)
        if not (math.isfinite(forget) and math.isfinite(retain)):
            return 1.0, share
        if carried:
            state[key] = carried
        if self.smoothing:
            key = f"{SMOOTHED}/{part}"
            before = state.get(key, (forget, retain))
            forget, retain = (
                self.smoothing * old + (1 - self.smoothing) * new
                for old, new in zip(before, (forget, retain), strict=True)
            )
            state[key] = (forget, retain)
        return forget, retain


def unit_sides(gramian: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the Gramian of both gradients at length 1, and their lengths, [2]."""
    lengths = gramian.diagonal().sqrt()
    return gramian / lengths.outer(lengths), lengths


def square_root(gramian: Tensor) -> Tensor:
    """Returns a symmetric matrix whose rows have the inner products of the Gramian, [2, 2]."""
    import torch

    values, vectors = torch.linalg.eigh(gramian)
    return vectors @ values.clamp(min=0).sqrt().diag() @ vectors.T


def require_solver(option: str, *packages: str) -> None:
    """Refuses a rectifier whose solver is not installed, without importing it.

    Raises:
        ConfigError: If a package is missing.
    """
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        raise ConfigError(
            f"rectifier={option} needs {' and '.join(missing)}, which the extra moo installs; "
            "without it: rectifier=upgrad",
            "pip install 'unlearn-runner[moo]'",
        )
