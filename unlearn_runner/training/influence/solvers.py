"""Solvers of A x = b that know A by its products alone: A = H + mu, H a mean over training rows.

Each is a state and a step, so that it can be stopped between two steps and continued. Vectors are
gradients of a `GradientSpace`, on all ranks or in shards; scalars are sums in float64.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from unlearn_runner.models.gradients import Gradient, GradientSpace
from unlearn_runner.training.influence.products import zeros

Apply = Callable[[Gradient, int], Gradient]
"""Returns A v, damping included. The number of the step says which minibatch a stochastic solver
takes; -1 is all rows."""
ALL = -1


class NegativeCurvature(ArithmeticError):
    """A direction along which A is not positive: its system has no minimiser."""


@dataclass
class State:
    """What a solver is between two steps."""

    vectors: dict[str, Gradient] = field(default_factory=dict)
    numbers: dict[str, float] = field(default_factory=dict)
    diagonal: list[float] = field(default_factory=list)
    off: list[float] = field(default_factory=list)
    """The tridiagonal matrix of a Krylov method: its eigenvalues are Ritz values of A."""


@dataclass(frozen=True)
class Solver(ABC):
    """Base class of solvers."""

    stochastic: ClassVar[bool] = False
    """Whether its steps take minibatches, and no step knows the residual."""

    @abstractmethod
    def begin(self, b: Gradient, space: GradientSpace) -> State:
        """Returns the state before the first step."""

    @abstractmethod
    def step(
        self, state: State, step: int, apply: Apply, b: Gradient, space: GradientSpace
    ) -> None:
        """Takes a step, counted from 1.

        Raises:
            NegativeCurvature: If it meets such a direction and cannot go on; nothing is changed.
        """

    def solution(self, state: State, space: GradientSpace) -> Gradient:
        """Returns a copy of x."""
        return space.copy(state.vectors["x"])

    def residual(self, state: State) -> float | None:
        """Returns |A x - b| as the method's own recurrence has it; none where it has none."""
        return None


@dataclass(frozen=True)
class CG(Solver):
    """Conjugate gradients from zero: all of x lies in the span of b, A b, A^2 b, ..."""

    def begin(self, b: Gradient, space: GradientSpace) -> State:
        """Returns x = 0."""
        vectors = {"x": zeros(space), "r": space.copy(b), "p": space.copy(b)}
        return State(vectors, {"rr": space.dots((b, b))[0], "alpha": 0.0, "beta": 0.0})

    def step(
        self, state: State, step: int, apply: Apply, b: Gradient, space: GradientSpace
    ) -> None:
        """Takes one step of Hestenes and Stiefel."""
        x, r, p = (state.vectors[name] for name in "xrp")
        n = state.numbers
        if n["rr"] == 0:
            return
        ap = apply(p, ALL)
        curvature = space.dots((p, ap))[0]
        if curvature <= 0:
            raise NegativeCurvature
        alpha = n["rr"] / curvature
        state.diagonal.append(1 / alpha + (n["beta"] / n["alpha"] if n["alpha"] else 0.0))
        x, r = space.add(x, p, alpha), space.add(r, ap, -alpha)
        rr = space.dots((r, r))[0]
        beta = rr / n["rr"]
        state.off.append(math.sqrt(beta) / alpha)
        p = space.add(space.scale(p, beta), r)
        state.vectors = {"x": x, "r": r, "p": p}
        state.numbers = {"rr": rr, "alpha": alpha, "beta": beta}

    def residual(self, state: State) -> float:
        """Returns |r|."""
        return math.sqrt(state.numbers["rr"])


@dataclass(frozen=True)
class MINRES(Solver):
    """Minimal residuals (Paige and Saunders 1975) from zero: A may be indefinite."""

    def begin(self, b: Gradient, space: GradientSpace) -> State:
        """Returns x = 0."""
        beta = space.norm(b)
        vectors = {"x": zeros(space), "before": zeros(space), "last": space.copy(b)}
        vectors |= {"w": zeros(space), "w_before": zeros(space)}
        names = ("epsilon", "d", "sine", "old_beta")
        numbers = {**dict.fromkeys(names, 0.0), "beta": beta, "cosine": -1.0, "phi": beta}
        return State(vectors, numbers)

    def step(
        self, state: State, step: int, apply: Apply, b: Gradient, space: GradientSpace
    ) -> None:
        """Takes one Lanczos step, and one rotation."""
        vectors, n = state.vectors, state.numbers
        if n["beta"] == 0:
            return
        v = space.scale(space.copy(vectors["last"]), 1 / n["beta"])
        y = apply(v, ALL)
        if n["old_beta"]:
            y = space.add(y, vectors["before"], -n["beta"] / n["old_beta"])
        alpha = space.dots((v, y))[0]
        y = space.add(y, vectors["last"], -alpha / n["beta"])
        beta = space.norm(y)
        epsilon, delta = n["epsilon"], n["cosine"] * n["d"] + n["sine"] * alpha
        bar = n["sine"] * n["d"] - n["cosine"] * alpha
        gamma = max(math.hypot(bar, beta), 1e-300)
        cosine, sine = bar / gamma, beta / gamma
        w = space.add(v, vectors["w_before"], -epsilon)
        w = space.scale(space.add(w, vectors["w"], -delta), 1 / gamma)
        x = space.add(vectors["x"], w, cosine * n["phi"])
        state.diagonal.append(alpha)
        state.off.append(beta)
        state.vectors = {
            "x": x,
            "before": vectors["last"],
            "last": y,
            "w": w,
            "w_before": vectors["w"],
        }
        state.numbers = {
            "epsilon": n["sine"] * beta,
            "d": -n["cosine"] * beta,
            "sine": sine,
            "cosine": cosine,
            "old_beta": n["beta"],
            "beta": beta,
            "phi": sine * n["phi"],
        }

    def residual(self, state: State) -> float:
        """Returns |phi|."""
        return abs(state.numbers["phi"])


@dataclass(frozen=True)
class SGD(Solver):
    """Descent on x^T A x / 2 - b^T x by minibatches; x is the mean over the second half."""

    lr: float
    """At most 2 / (largest eigenvalue of a minibatch's A)."""
    steps: int
    """In all: what the second half is of."""

    stochastic: ClassVar[bool] = True

    def begin(self, b: Gradient, space: GradientSpace) -> State:
        """Returns x = 0."""
        return State({"x": zeros(space), "mean": zeros(space)}, {"averaged": 0.0})

    def step(
        self, state: State, step: int, apply: Apply, b: Gradient, space: GradientSpace
    ) -> None:
        """Takes one minibatch's step, and averages."""
        x = _descended(state.vectors["x"], step, apply, b, self.lr, space)
        state.vectors["x"] = x
        if step > self.steps // 2:
            count = state.numbers["averaged"] = state.numbers["averaged"] + 1
            state.vectors["mean"] = space.mix(state.vectors["mean"], x, 1 / count)

    def solution(self, state: State, space: GradientSpace) -> Gradient:
        """Returns the mean; before there is one, the last."""
        return space.copy(state.vectors["mean" if state.numbers["averaged"] else "x"])


@dataclass(frozen=True)
class LiSSA(Solver):
    """The series sum_k (1 - lr A)^k lr b, each factor of another minibatch; a mean over repeats.

    Source: Agarwal et al. 2017, scaled as Koh and Liang 2017 do. The same recursion as gradient
    descent from x = lr b; nothing is averaged but the repeats, one after another.
    """

    lr: float
    steps: int
    """In all repeats together."""
    repeats: int = 2

    stochastic: ClassVar[bool] = True

    def begin(self, b: Gradient, space: GradientSpace) -> State:
        """Returns the series' first term."""
        return State({"x": self._first(b, space), "mean": zeros(space)}, {"repeats": 0.0})

    def _first(self, b: Gradient, space: GradientSpace) -> Gradient:
        return space.scale(space.copy(b), self.lr)

    def step(
        self, state: State, step: int, apply: Apply, b: Gradient, space: GradientSpace
    ) -> None:
        """Adds a term; at the end of a repeat, begins the next."""
        x = state.vectors["x"] = _descended(state.vectors["x"], step, apply, b, self.lr, space)
        if step % max(1, self.steps // self.repeats) == 0:
            count = state.numbers["repeats"] = state.numbers["repeats"] + 1
            state.vectors["mean"] = space.mix(state.vectors["mean"], x, 1 / count)
            state.vectors["x"] = self._first(b, space)

    def solution(self, state: State, space: GradientSpace) -> Gradient:
        """Returns the mean of the finished repeats."""
        return space.copy(state.vectors["mean" if state.numbers["repeats"] else "x"])


@dataclass(frozen=True)
class Released(Solver):
    """What the code of LLMEraser does: torch's Adam, its gradient H x / 2 - b.

    The halved product is a slip: a constant H x in x^T (H x) / 2 - b^T x. Its root is 2 H^-1 b; 20
    steps of 1e-5 never come near it, so x is `init` + 20 lr sign(b). The damping is Adam's weight
    decay. Not a solution: a preset to compare with.
    """

    lr: float = 1e-5
    decay: float = 1e-5
    init: float = 1e-5

    stochastic: ClassVar[bool] = True

    def begin(self, b: Gradient, space: GradientSpace) -> State:
        """Returns x = init in every coordinate, which leaves a component in the null space."""
        x = space.elementwise(lambda zero: zero + self.init, zeros(space))
        return State({"x": x, "m": zeros(space), "v": zeros(space)})

    def step(
        self, state: State, step: int, apply: Apply, b: Gradient, space: GradientSpace
    ) -> None:
        """Takes one step of Adam; `apply` has no damping."""
        x, m, v = (state.vectors[name] for name in "xmv")
        g = space.add(space.scale(apply(x, step), 0.5), b, -1.0)
        g = space.add(g, x, self.decay)
        m = space.mix(m, g, 0.1)
        v = space.mix(v, space.multiply(space.copy(g), g), 0.001)
        one, two = 1 - 0.9**step, 1 - 0.999**step
        move = space.elementwise(
            lambda first, second: first / one / ((second / two).sqrt() + 1e-8), space.copy(m), v
        )
        state.vectors = {"x": space.add(x, move, -self.lr), "m": m, "v": v}


def _descended(
    x: Gradient, step: int, apply: Apply, b: Gradient, lr: float, space: GradientSpace
) -> Gradient:
    """Returns x - lr (A x - b)."""
    slope = space.add(apply(x, step), b, -1.0)
    return space.add(x, slope, -lr)


def lanczos(
    apply: Callable[[Gradient], Gradient], b: Gradient, steps: int, space: GradientSpace
) -> list[float]:
    """Returns the Ritz values of an operator after some Lanczos steps from b, in rising order.

    Not orthogonalised again, so copies of an extreme one may appear; the extremes are right.
    """
    diagonal: list[float] = []
    off: list[float] = []
    before, beta = zeros(space), space.norm(b)
    if beta == 0:
        return [0.0]
    v = space.scale(space.copy(b), 1 / beta)
    for _ in range(steps):
        w = apply(v)
        alpha = space.dots((v, w))[0]
        diagonal.append(alpha)
        w = space.add(space.add(w, v, -alpha), before, -(off[-1] if off else 0.0))
        beta = space.norm(w)
        if beta <= 1e-12 * max(map(abs, diagonal)):
            break
        off.append(beta)
        before, v = v, space.scale(w, 1 / beta)
    return ritz(diagonal, off)


def ritz(diagonal: list[float], off: list[float]) -> list[float]:
    """Returns the eigenvalues of a tridiagonal matrix, in rising order."""
    size = len(diagonal)
    between = off[: size - 1]
    matrix = np.diag(diagonal) + np.diag(between, 1) + np.diag(between, -1)
    return np.linalg.eigvalsh(matrix).tolist() if size else []
