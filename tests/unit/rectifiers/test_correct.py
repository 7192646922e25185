"""`Rectifier.correct` on the update of the optimizer, and the Gramian of gradients."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parameters_to_vector

from unlearn_runner.methods.base import Retain
from unlearn_runner.methods.ga import GA
from unlearn_runner.models.forward import Models
from unlearn_runner.models.gradients import GradientSpace
from unlearn_runner.rectifiers.base import Corrected, OptimizerStep
from unlearn_runner.rectifiers.gru import GRU, MEAN
from unlearn_runner.training.batches import StepLoader
from unlearn_runner.training.engine import Engine
from unlearn_runner.training.recipe import Recipe

pytestmark = pytest.mark.usefixtures("one_thread")


@dataclass(frozen=True)
class Leaves(GRU):
    """Overrides the hook and leaves the update as it is."""

    def correct(self, step: OptimizerStep, state: Any, space: Any) -> Corrected:
        return Corrected(None)


@dataclass(frozen=True)
class Scales(GRU):
    factor: float = 0.0

    def correct(self, step: OptimizerStep, state: Any, space: Any) -> Corrected:
        return Corrected(space.scale(step.update, self.factor), {"scaled": self.factor})


@dataclass(frozen=True)
class Projects(GRU):
    """Removes from the step itself what would raise the retain risk."""

    def correct(self, step: OptimizerStep, state: Any, space: Any) -> Corrected:
        mean = state[MEAN]
        dot, square = space.dots((step.update, mean), (mean, mean))
        return Corrected(space.add(step.update, mean, -dot / square) if dot > 0 else None)


def stepped(tiny: Any, rectifier: GRU, steps: int = 3) -> tuple[Engine, torch.Tensor, torch.Tensor]:
    """An engine after some steps, and its weights before and after the last of them."""
    engine = Engine(
        models=Models(tiny.llama(torch.float64), None, nullcontext),
        terms=GA(Retain("none")).terms(),
        recipe=Recipe(lr=1e-3, batch_size=8, steps=10),
        num_rows=len(tiny.forget),
        pad=tiny.pad,
        rectifier=rectifier,
    )
    loader = StepLoader("forget", tiny.forget, 8, 0, tiny.retain)
    before = weights(engine)
    for step in range(steps):
        before = weights(engine)
        engine.step(loader.step(step))
    return engine, before, weights(engine)


def weights(engine: Engine) -> torch.Tensor:
    return parameters_to_vector(engine.models.trained.parameters()).detach().clone()


def test_an_update_that_is_left_as_it_is_changes_no_bit(tiny: Any) -> None:
    assert torch.equal(stepped(tiny, Leaves())[2], stepped(tiny, GRU())[2])


def test_the_corrected_update_is_taken(tiny: Any) -> None:
    _, before, after = stepped(tiny, Scales(factor=0.0))
    assert torch.equal(before, after)
    start, plain = stepped(tiny, GRU(), 1)[1:]
    torch.testing.assert_close(stepped(tiny, Scales(factor=0.5), 1)[2], (start + plain) / 2)


def test_a_step_can_be_kept_from_raising_the_retain_risk(tiny: Any) -> None:
    """AdamW's step conflicts although its gradient does not; the corrected one does not."""
    for rectifier, conflicts in ((GRU(), True), (Projects(), False)):
        engine, before, after = stepped(tiny, rectifier)
        step = after - before
        mean = torch.cat([x.reshape(-1) for x in engine.rectifier_state[MEAN]])
        cosine = float(step @ mean / (step.norm() * mean.norm()))
        assert (cosine > 1e-9) is conflicts


def test_the_gramian_holds_all_inner_products() -> None:
    space = GradientSpace([nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1))])
    a = [torch.tensor([1.0, 2.0]), None]
    b = [torch.tensor([3.0, -1.0]), torch.tensor([2.0])]
    c = [None, torch.tensor([-4.0])]
    assert space.gramian(a, b, c) == [[5.0, 1.0, 0.0], [1.0, 14.0, -8.0], [0.0, -8.0, 16.0]]
    assert space.gramian(b) == [[14.0]]
    by_part = space.gramians(["x", "y"], a, b, c)
    assert by_part["x"] == [[5.0, 1.0, 0.0], [1.0, 10.0, 0.0], [0.0, 0.0, 0.0]]
    assert by_part["y"] == [[0.0, 0.0, 0.0], [0.0, 4.0, -8.0], [0.0, -8.0, 16.0]]


def test_a_rectifier_sees_the_step_as_the_optimizer_took_it(tiny: Any) -> None:
    """The update is the preconditioned mean gradient and the decay, to rounding."""
    seen: list[OptimizerStep] = []

    @dataclass(frozen=True)
    class Watches(GRU):
        def correct(self, step: OptimizerStep, state: Any, space: Any) -> Corrected:
            seen.append(step)
            return Corrected(None)

    engine, before, after = stepped(tiny, Watches())
    step = seen[-1]
    means = [engine.optimizer.state[p]["exp_avg"] for p in engine.space.parameters]
    unbiased = 1 - step.betas[0] ** 3
    for update, mean, scale, decay in zip(
        step.update, means, step.scale(), step.decay(), strict=True
    ):
        torch.testing.assert_close(update, decay - step.lr * mean / (scale * unbiased))
    flat = torch.cat([x.reshape(-1) for x in step.update])
    torch.testing.assert_close(flat, after - before)
