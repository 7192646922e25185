"""Rectifiers of the optimizer's step: `gru_update`, `orthograd`, `dual_optim`."""

from __future__ import annotations

from contextlib import nullcontext
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parameters_to_vector

from unlearn_runner.methods.base import Method, Retain
from unlearn_runner.methods.ga import GA
from unlearn_runner.methods.wga import WGA
from unlearn_runner.models.forward import Models
from unlearn_runner.models.gradients import GradientSpace
from unlearn_runner.rectifiers.base import OptimizerStep, Rectifier
from unlearn_runner.rectifiers.dual_optim import DualOptim
from unlearn_runner.rectifiers.gru import GRU
from unlearn_runner.rectifiers.gru_update import MEAN, SQUARE, GRUUpdate
from unlearn_runner.rectifiers.none import NoRectifier
from unlearn_runner.rectifiers.orthograd import OrthoGrad
from unlearn_runner.training.batches import StepLoader
from unlearn_runner.training.engine import Engine
from unlearn_runner.training.recipe import Recipe

pytestmark = pytest.mark.usefixtures("one_thread")

LR = 1e-3


@dataclass(frozen=True)
class Given(OptimizerStep):
    """A step with a preconditioner that the test chooses."""

    preconditioner: list[float] = field(default_factory=list)

    @property
    def betas(self) -> tuple[float, float]:
        return 0.9, 0.999

    @property
    def eps(self) -> float:
        return 1e-8

    def scale(self) -> Any:
        return vector([1 / x for x in self.preconditioner])

    def decay(self) -> Any:
        return [x * 0 for x in self.update]


def vector(numbers: Any) -> list[torch.Tensor]:
    return [torch.tensor(numbers, dtype=torch.float64)]


def remembered(mean: Any) -> Any:
    return {MEAN: vector(mean), SQUARE: sum(x * x for x in mean)}


def corrected(rectifier: Rectifier, update: Any, state: Any, scale: Any) -> Any:
    space = GradientSpace([nn.Parameter(torch.zeros(len(update), dtype=torch.float64))])
    # Metrics so steep that the square of m, which joins them, is far below rounding.
    steep = [1e-9 * x for x in scale]
    step = Given(vector(update), vector([0.0] * len(update)), LR, 1.0, steep)
    return rectifier.correct(step, state, space)


@pytest.mark.parametrize(
    ("metric", "update", "mean", "scale", "expected"),
    [
        # <d, m> = 2: what is removed lies along P m = (0, 2), so d - (2 / 2) (0, 2) / ... = (1, 0)
        ("optimizer", [1.0, 2.0], [0.0, 1.0], [1.0, 2.0], [1.0, 0.0]),
        # m = (1, 1), P m = (1, 3), <d, m> = 2, <m, P m> = 4: d - .5 (1, 3)
        ("optimizer", [2.0, 0.0], [1.0, 1.0], [1.0, 3.0], [1.5, -1.5]),
        # the same without P: d - 1 (1, 1)
        ("euclidean", [2.0, 0.0], [1.0, 1.0], [1.0, 3.0], [1.0, -1.0]),
        # m = (1, 2, 0), P m = (2, 2, 0), <d, m> = 3, <m, P m> = 6: d - .5 (2, 2, 0)
        ("optimizer", [1.0, 1.0, 5.0], [1.0, 2.0, 0.0], [2.0, 1.0, 9.0], [0.0, 0.0, 5.0]),
        # it lowers the risk, or leaves it: nothing to do
        ("optimizer", [-1.0, 0.0], [1.0, 1.0], [1.0, 3.0], None),
        ("optimizer", [1.0, -1.0], [1.0, 1.0], [1.0, 3.0], None),
    ],
)
def test_the_closest_step_that_does_not_raise_the_risk(
    metric: Any, update: Any, mean: Any, scale: Any, expected: Any
) -> None:
    found = corrected(GRUUpdate(metric=metric), update, remembered(mean), scale)
    if expected is None:
        assert found.update is None
    else:
        assert found.update[0].tolist() == pytest.approx(expected, abs=1e-14)
        assert found.facts["rectified"] is True


def test_numbers_that_the_objective_never_moved_do_not_take_the_whole_correction() -> None:
    """v = 0 of the first: P = 1 / |m| there, 1 / hypot(s, m) elsewhere; <d, m> = 2."""
    space = GradientSpace([nn.Parameter(torch.zeros(2, dtype=torch.float64))])
    step = Given(vector([0.0, 2.0]), vector([0.0, 0.0]), LR, 1.0, [1e12, 1.0])
    found = GRUUpdate().correct(step, remembered([1.0, 1.0]), space)
    second = 0.5**0.5
    moved = 2 / (1 + second)
    assert found.update is not None
    assert found.update[0].tolist() == pytest.approx([-moved, 2 - moved * second])


@pytest.mark.parametrize("metric", ["optimizer", "euclidean"])
@pytest.mark.parametrize("rank", [1, 3])
def test_what_lies_in_the_span_is_removed(metric: Any, rank: int) -> None:
    """Against least squares in scaled coordinates, by numpy; one direction is there twice."""
    random = np.random.default_rng(rank)
    retain, update = random.normal(size=(rank, 6)), random.normal(size=6)
    scale = random.uniform(0.5, 2.0, size=6)
    root = np.sqrt(scale) if metric == "optimizer" else np.ones(6)
    basis, target = (retain * root).T, update / root
    expected = (target - basis @ np.linalg.lstsq(basis, target)[0]) * root
    state = {str(age): vector(row) for age, row in enumerate([*retain, 2 * retain[0]])}
    found = corrected(OrthoGrad(metric=metric), list(update), state, list(scale)).update[0]
    assert found.numpy() == pytest.approx(expected, abs=1e-12)
    assert retain @ found.numpy() == pytest.approx(np.zeros(rank), abs=1e-12)


def test_gru_measures_its_step_when_asked_to(tiny: Any) -> None:
    loader = StepLoader("forget", tiny.forget, 8, 0, tiny.retain)
    ends = []
    for rectifier in (GRU(), GRU(measure_step=True)):
        run = engine(tiny, rectifier, GA(Retain("none")))
        for number in range(3):
            before = weights(run)
            facts = run.step(loader.step(number))
        ends.append(weights(run))
        if rectifier.measure_step:
            step = weights(run) - before
            mean = torch.cat([x.reshape(-1) for x in run.rectifier_state[MEAN]])
            cosine = float(step @ mean / (step.norm() * mean.norm()))
            assert facts["step_cosine"] == pytest.approx(cosine, abs=1e-12)
    assert torch.equal(*ends)


def engine(tiny: Any, rectifier: Rectifier, method: Method, **recipe: Any) -> Engine:
    settings = {"lr": LR, "batch_size": 8, "steps": 10, "weight_decay": 0.1, "clip": 0.5} | recipe
    return Engine(
        models=Models(tiny.llama(torch.float64), None, nullcontext),
        terms=method.terms(),
        recipe=Recipe(**settings),
        num_rows=len(tiny.forget),
        pad=tiny.pad,
        rectifier=rectifier,
    )


def weights(engine: Engine) -> torch.Tensor:
    return parameters_to_vector(engine.models.trained.parameters()).detach().clone()


@pytest.mark.parametrize(
    "method", [GA(Retain("none")), WGA(alpha=1.0, retain=Retain("none")), GA(Retain("nll", 0.2))]
)
def test_no_step_of_adamw_raises_the_risk_to_first_order(tiny: Any, method: Method) -> None:
    """With GRU of the gradient some do; the bound is rounding: the step's and the mean's length."""
    raising = {}
    for rectifier in (GRU(), GRUUpdate()):
        run = engine(tiny, rectifier, method)
        loader = StepLoader("forget", tiny.forget, 8, 0, tiny.retain)
        cosines = []
        for number in range(10):
            before = weights(run)
            run.step(loader.step(number))
            step = weights(run) - before
            mean = torch.cat([x.reshape(-1) for x in run.rectifier_state[MEAN]])
            cosines.append(float(step @ mean / (step.norm() * mean.norm())))
        raising[type(rectifier)] = max(cosines)
    assert raising[GRUUpdate] < 1e-12
    assert raising[GRU] > 1e-3


@pytest.mark.parametrize("weights_of_sides", [(1.0, 1.0), (0.5, 2.0)])
def test_both_sides_step_as_two_optimizers_would(tiny: Any, weights_of_sides: Any) -> None:
    """Against two of torch's own AdamW, one for each side, the first with the weight decay."""
    forget, retain = weights_of_sides
    run = engine(tiny, DualOptim(forget=forget, retain=retain), GA(Retain("nll", 0.2)), clip=None)
    loader = StepLoader("forget", tiny.forget, 8, 0, tiny.retain)
    shadow = [p.detach().clone() for p in run.space.parameters]
    sides = [[nn.Parameter(x.clone()) for x in shadow] for _ in range(2)]
    decay = run.recipe.weight_decay
    optimizers = [
        torch.optim.AdamW(ps, lr=LR * factor, betas=run.recipe.betas, eps=run.recipe.eps,
                          weight_decay=decay / forget if index == 0 else 0.0)
        for index, (ps, factor) in enumerate(zip(sides, weights_of_sides, strict=True))
    ]  # fmt: skip
    for number in range(3):
        rows = loader.step(number)
        gradients, _ = run.gradients(rows)
        for side, ps, optimizer in zip(("forget", "retain"), sides, optimizers, strict=True):
            for p, x, grad in zip(ps, shadow, gradients[side], strict=True):
                p.data.copy_(x)
                p.grad = grad.clone()
            optimizer.step()
        shadow = [x + (a - x) + (b - x) for x, a, b in zip(shadow, *sides, strict=True)]
        run.step(rows)
        found = weights(run)
        assert torch.allclose(found, parameters_to_vector(shadow), rtol=0, atol=1e-13)


def test_without_a_retain_term_the_steps_are_those_of_adamw(tiny: Any) -> None:
    found = []
    for rectifier in (NoRectifier(), DualOptim()):
        run = engine(tiny, rectifier, GA(Retain("none")))
        loader = StepLoader("forget", tiny.forget, 8, 0, tiny.retain)
        for number in range(4):
            run.step(loader.step(number))
        found.append(weights(run))
    assert torch.allclose(*found, rtol=0, atol=1e-13)
    assert (found[0] - weights(engine(tiny, NoRectifier(), GA()))).abs().max() > LR


@pytest.mark.parametrize("rectifier", [GRUUpdate(), OrthoGrad(history=2), DualOptim()], ids=repr)
def test_what_they_carry_is_saved_and_restored(tiny: Any, rectifier: Rectifier) -> None:
    loader = StepLoader("forget", tiny.forget, 8, 0, tiny.retain)
    runs = [engine(tiny, rectifier, GA(Retain("nll", 0.2))) for _ in range(2)]
    for number in range(3):
        runs[0].step(loader.step(number))
    runs[1].restore(deepcopy(runs[0].state(3)))
    for run in runs:
        for number in range(3, 6):
            run.step(loader.step(number))
    assert torch.equal(weights(runs[0]), weights(runs[1]))
