"""Products and solvers against worked problems in float64: ridge, logistic, a rank-one adapter."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from helpers.oracles import read_oracles
from torch import Tensor, nn

from unlearn_runner.models.gradients import Gradient, GradientSpace
from unlearn_runner.training.influence.products import (
    difference,
    double,
    gauss_newton,
    gradient,
    zeros,
)
from unlearn_runner.training.influence.solvers import (
    ALL,
    CG,
    MINRES,
    SGD,
    LiSSA,
    NegativeCurvature,
    Released,
    Solver,
    State,
    lanczos,
    ritz,
)

ORACLES = read_oracles("loku_llmeraser")["oracles"]
RIDGE, LOGISTIC = ORACLES["influence_ridge"], ORACLES["influence_logistic"]


def exact(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@dataclass
class Sample:
    """One row's loss over the number of rows, as a part of a risk."""

    theta: nn.Parameter
    x: Tensor
    y: Tensor
    l2: float
    count: int
    squared: bool

    def loss(self) -> Tensor:
        z = self.x @ self.theta
        fit = (z - self.y) ** 2 / 2 if self.squared else nn.functional.softplus(z) - self.y * z
        return (fit + self.l2 / 2 * self.theta @ self.theta) / self.count

    def logits(self) -> tuple[Tensor, Tensor]:
        z = self.x @ self.theta
        return torch.stack([z * 0, z])[None], exact([1 / self.count])


class Problem:
    """A data set of an oracle, at its minimiser."""

    def __init__(self, found: dict[str, Any], squared: bool) -> None:
        self.x, self.y = exact(found["X"]), exact(found["y"])
        self.l2 = found["lam"] if squared else found["mu"]
        self.squared, self.count = squared, found["n"]
        self.theta = nn.Parameter(exact(found["theta"]))
        self.space = GradientSpace([self.theta])

    def parts(
        self, rows: Iterable[int] | None = None, x: Any = None, y: Any = None, count: int = 0
    ) -> Callable[[], list[Sample]]:
        x, y = self.x if x is None else exact(x), self.y if y is None else exact(y)
        chosen = list(range(len(x)) if rows is None else rows)
        size = count or self.count
        return lambda: [Sample(self.theta, x[i], y[i], self.l2, size, self.squared) for i in chosen]

    def removal(self, rows: Iterable[int]) -> Gradient:
        return gradient(self.space, self.parts(rows))

    def replacement(self, rows: Iterable[int], x: Any = None, y: Any = None) -> Gradient:
        old = self.removal(rows)
        changed_x, changed_y = self.x.tolist(), self.y.tolist()
        for place, i in enumerate(rows):
            changed_x[i] = x[place] if x else changed_x[i]
            changed_y[i] = y[place] if y else changed_y[i]
        return self.space.add(
            old, gradient(self.space, self.parts(rows, changed_x, changed_y)), -1.0
        )

    def apply(self, rows: Iterable[int] | None = None, mu: float = 0.0) -> Any:
        def product(v: Gradient, step: int = ALL) -> Gradient:
            found = double(self.space, self.parts(rows), v)
            return self.space.add(found, v, mu)

        return product


@pytest.fixture
def ridge() -> Problem:
    return Problem(RIDGE, squared=True)


@pytest.fixture
def logistic() -> Problem:
    return Problem(LOGISTIC, squared=False)


def solved(solver: Solver, apply: Any, b: Gradient, space: GradientSpace, steps: int) -> Gradient:
    state = solver.begin(b, space)
    taken(state, apply, b, space, steps, solver)
    return solver.solution(state, space)


def taken(
    state: State,
    apply: Any,
    b: Gradient,
    space: GradientSpace,
    steps: int,
    solver: Solver | None = None,
) -> None:
    for step in range(1, steps + 1):
        (solver or CG()).step(state, step, apply, b, space)


def only(vector: Gradient) -> Tensor:
    (entry,) = vector
    assert entry is not None
    return entry


def same(found: Gradient, expected: Any, rel: float = 1e-10) -> None:
    assert only(found).tolist() == pytest.approx(expected, rel=rel, abs=rel * 1e-2)


def test_b_of_the_three_tasks_and_the_step_they_give(ridge: Problem, logistic: Problem) -> None:
    ir, qm, rc = (RIDGE[task] for task in ("IR", "QM", "RC"))
    asked = [
        (ridge, ridge.removal([3]), ir),
        (ridge, ridge.removal([1, 3]), RIDGE["IR2"]),
        (ridge, ridge.replacement([4], x=[qm["x_new"]]), qm),
        (ridge, ridge.replacement([0], y=[rc["y_new"]]), rc),
        (logistic, logistic.removal([6]), LOGISTIC["IR"]),
        (logistic, logistic.replacement([2], x=[LOGISTIC["QM"]["x_new"]]), LOGISTIC["QM"]),
        (logistic, logistic.replacement([6, 7], y=[1.0, 0.0]), LOGISTIC["RC"]),
    ]
    for problem, b, oracle in asked:
        same(b, oracle["b"], 1e-8)
        for solver in (CG(), MINRES()):
            delta = solved(solver, problem.apply(), b, problem.space, 2)
            same(delta, oracle["delta_influence"], 1e-8)


def test_the_hessian_of_the_remaining_rows_gives_the_newton_step(ridge: Problem) -> None:
    b = ridge.removal([3])
    delta = solved(CG(), ridge.apply([0, 1, 2, 4, 5]), b, ridge.space, 2)
    same(delta, RIDGE["IR"]["delta_newton_on_remaining"], 1e-9)
    same(delta, RIDGE["IR"]["delta_exact"], 1e-9)


def test_products_three_ways(ridge: Problem, logistic: Problem) -> None:
    hvp = LOGISTIC["HVP"]
    v = [exact(hvp["v"])]
    space, parts = logistic.space, logistic.parts()
    same(double(space, parts, v), hvp["Hv"], 1e-12)
    same(difference(space, parts, v), hvp["Hv"], 1e-8)
    # A generalized linear model's curvature is all in the loss; the ridge is not of the logits.
    fitted = space.add(gauss_newton(space, parts, v), v, LOGISTIC["mu"])
    same(fitted, hvp["Hv"], 1e-12)
    assert only([logistic.theta.data]).tolist() == LOGISTIC["theta"], "the weights were put back"
    columns = [only(double(ridge.space, ridge.parts(), [axis])) for axis in exact([[1, 0], [0, 1]])]
    assert torch.stack(columns).tolist() == [pytest.approx(row) for row in RIDGE["H"]]
    nothing = zeros(space)
    assert only(difference(space, parts, nothing)).tolist() == [0, 0]


def test_damping(ridge: Problem) -> None:
    damped = RIDGE["damped"]
    for mu, expected in zip(damped["mu"], damped["delta"], strict=True):
        for solver in (CG(), MINRES()):
            b = ridge.removal([3])
            same(solved(solver, ridge.apply(mu=mu), b, ridge.space, 2), expected, 1e-9)


def test_descent_by_full_batches_and_by_single_rows(ridge: Problem) -> None:
    b = ridge.removal([3])
    for steps, expected, _ in RIDGE["solver_gd"]["trace"]:
        # Nothing is averaged before the second half of so many steps.
        solver = SGD(lr=0.5, steps=2 * steps)
        same(solved(solver, ridge.apply(), b, ridge.space, steps), expected, 1e-9)

    def one_row(v: Gradient, step: int) -> Gradient:
        return double(ridge.space, ridge.parts([(step - 1) % 6], count=1), v)

    for steps, expected, _ in RIDGE["solver_sgd_cyclic"]["trace"]:
        solver = SGD(lr=0.05, steps=2 * steps)
        same(solved(solver, one_row, b, ridge.space, steps), expected, 1e-9)


def test_the_tail_of_descent_is_averaged(ridge: Problem) -> None:
    b, path = ridge.removal([3]), []
    for steps in (3, 4):
        path.append(only(solved(SGD(0.5, 100), ridge.apply(), b, ridge.space, steps)))
    mean = only(solved(SGD(0.5, 4), ridge.apply(), b, ridge.space, 4))
    assert mean.tolist() == pytest.approx(((path[0] + path[1]) / 2).tolist(), rel=1e-12)


def test_lissa_is_the_truncated_series(ridge: Problem) -> None:
    b, h, lr = ridge.removal([3]), exact(RIDGE["H"]), 0.4
    term, series = lr * only(b), torch.zeros(2, dtype=torch.float64)
    for _ in range(6):
        series += term
        term = term - lr * h @ term
    found = solved(LiSSA(lr, steps=10, repeats=2), ridge.apply(), b, ridge.space, 10)
    same(found, series.tolist(), 1e-12)
    long = solved(LiSSA(lr, steps=400, repeats=2), ridge.apply(), b, ridge.space, 400)
    same(long, RIDGE["IR"]["delta_influence"], 1e-8)


def test_the_released_solver_and_where_it_would_end(ridge: Problem) -> None:
    oracle, b = ORACLES["released_adam_20"], ridge.removal([3])
    found = solved(Released(), ridge.apply(), b, ridge.space, 20)
    same(found, oracle["x"], 1e-9)
    wanted = exact(oracle["H_inv_b"])
    assert float((only(found) - wanted).norm() / wanted.norm()) == pytest.approx(oracle["rel_err"])

    def half(v: Gradient, step: int) -> Gradient:
        return ridge.space.scale(ridge.apply()(v), 0.5)

    ends = solved(CG(), half, b, ridge.space, 2)
    same(ends, RIDGE["released_half_hvp"]["delta"], 1e-9)
    far = solved(Released(lr=0.01, decay=0.0), ridge.apply(), b, ridge.space, 6000)
    same(far, RIDGE["released_half_hvp"]["delta"], 1e-6)


def gauge_problem() -> tuple[GradientSpace, Tensor, Gradient, Tensor]:
    """An operator with the oracle's null vector that maps its minimum-norm solution to its b."""
    oracle = ORACLES["lora_gauge"]
    gauge, b, delta = (exact(oracle[name]) for name in ("gauge", "b", "delta_min_norm"))
    inside = torch.eye(4, dtype=torch.float64) - torch.outer(gauge, gauge)
    h = inside - torch.outer(delta, delta) / (delta @ delta) + torch.outer(b, b) / (b @ delta)
    space = GradientSpace([nn.Parameter(exact(oracle["theta"]))])
    assert float((h @ gauge).norm()) < 1e-12
    return space, h, [b], gauge


def test_from_zero_no_solver_enters_the_null_space() -> None:
    oracle = ORACLES["lora_gauge"]
    space, h, b, gauge = gauge_problem()

    def apply(v: Gradient, step: int = ALL) -> Gradient:
        return [h @ only(v)]

    for solver, steps in (
        (CG(), 3),
        (MINRES(), 3),
        (SGD(0.5, 4000), 2000),
        (LiSSA(0.5, 4000), 1999),
    ):
        found = solved(solver, apply, b, space, steps)
        same(found, oracle["delta_min_norm"], 1e-9)
        assert abs(float(only(found) @ gauge)) < 1e-12
    x = torch.full((4,), 0.05, dtype=torch.float64)
    for _ in range(2000):  # descent from a constant: what the released code begins with
        x -= 0.5 * (h @ x - only(b))
    assert x.tolist() == pytest.approx(oracle["gd_from_const_0p05"], rel=1e-6)
    assert float(x @ gauge) == pytest.approx(oracle["spurious_gauge_component"], rel=1e-9)


def test_ritz_values_are_the_eigenvalues_after_enough_steps(ridge: Problem) -> None:
    b, expected = ridge.removal([3]), RIDGE["solver_gd"]["H_eigs"]
    assert lanczos(ridge.apply(), b, 5, ridge.space) == pytest.approx(expected)
    for solver in (CG(), MINRES()):
        state = solver.begin(b, ridge.space)
        for step in (1, 2):
            solver.step(state, step, ridge.apply(), b, ridge.space)
            residual = ridge.space.add(ridge.apply()(solver.solution(state, ridge.space)), b, -1.0)
            known = solver.residual(state)
            assert known == pytest.approx(ridge.space.norm(residual), abs=1e-12)
        assert ritz(state.diagonal, state.off) == pytest.approx(expected)
    assert lanczos(ridge.apply(), zeros(ridge.space), 5, ridge.space) == [0.0]


def test_indefinite_systems() -> None:
    space = GradientSpace([nn.Parameter(exact([0.0, 0.0, 0.0]))])
    a = exact([2.0, -1.0, 0.5])
    b: Gradient = [exact([1.0, 1.0, 1.0])]

    def apply(v: Gradient, step: int = ALL) -> Gradient:
        return [a * only(v)]

    same(solved(MINRES(), apply, b, space, 3), (1 / a).tolist(), 1e-10)
    state = CG().begin(b, space)
    with pytest.raises(NegativeCurvature):
        taken(state, apply, b, space, 3)
    assert torch.isfinite(only(CG().solution(state, space))).all()
