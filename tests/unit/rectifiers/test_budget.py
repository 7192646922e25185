"""`budget`: the half-space in the optimizer's metric, the ledger, and what a run really spends."""

from __future__ import annotations

import io
import math
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from unlearn_runner.data.encode import collate
from unlearn_runner.methods.base import Retain
from unlearn_runner.methods.ga import GA
from unlearn_runner.models.forward import Models
from unlearn_runner.models.gradients import GradientSpace
from unlearn_runner.rectifiers.base import OptimizerStep
from unlearn_runner.rectifiers.budget import COUNT, LEDGER, MEAN, Budget
from unlearn_runner.rectifiers.none import NoRectifier
from unlearn_runner.training.batches import StepLoader, StepRows
from unlearn_runner.training.engine import Engine
from unlearn_runner.training.fixed_rows import audit_rows
from unlearn_runner.training.recipe import Recipe

pytestmark = pytest.mark.usefixtures("one_thread")

SPACE = GradientSpace([("a", nn.Parameter(torch.zeros(2, dtype=torch.float64)))])


@dataclass(frozen=True)
class GivenStep(OptimizerStep):
    """A step with a given update and root mean squares, as of an optimizer."""

    roots: tuple[float, float] = (1.0, 1.0)
    clipped: float = field(default=1.0, kw_only=True)

    @property
    def betas(self) -> tuple[float, float]:
        return 0.9, 0.999

    @property
    def eps(self) -> float:
        return 0.0

    def scale(self) -> Any:
        return [torch.tensor(self.roots, dtype=torch.float64)]

    def decay(self) -> Any:
        return [torch.zeros(2, dtype=torch.float64)]


def corrected(
    update: tuple[float, float], risk: tuple[float, float], lr: float = 10.0, **settings: Any
) -> tuple[Any, dict[str, Any], tuple[float, ...]]:
    """Corrects the first of two steps; returns update (none: as it was), telemetry and ledger."""
    spent = settings.pop("spent", 0.0)
    roots = settings.pop("roots", (1.0, 1.0))
    excess = settings.pop("excess", 0.0)
    given = torch.tensor(update, dtype=torch.float64)
    state = {
        LEDGER: (3.0, spent, 0.0, 2, 2, excess),
        MEAN: [torch.tensor(risk, dtype=torch.float64)],
        COUNT: 1,
    }
    step = GivenStep([given], [torch.zeros(2).double()], lr, roots=roots)
    found = Budget(gamma=1.0, **{"reserve": 0.0, **settings}).correct(step, state, SPACE)
    return found.update and found.update[0], found.facts, state[LEDGER]


def test_a_budget_is_a_share_of_probability_per_token() -> None:
    assert Budget(keep=0.99).allowed == pytest.approx(0.0100503, abs=1e-7)
    assert math.exp(-Budget(keep=0.5).allowed) == pytest.approx(0.5)


def test_the_step_is_the_closest_one_within_the_bound() -> None:
    """By search along the line <d, r> = b, in the metric 1 / P with P = 1 / hypot(root, r)."""
    keep = math.exp(-0.4)  # so each of two steps may spend .2
    update, facts, ledger = corrected((2.0, 1.0), (1.0, 0.5), keep=keep, roots=(1.0, 3.0))
    # <d, r> = 2.5 and <r, P r> = 1 / root 2 + .25 / root 9.25.
    square = 1 / math.sqrt(2) + 0.25 / math.sqrt(9.25)
    c = 2.3 / square
    expected = (2 - c / math.sqrt(2), 1 - c * 0.5 / math.sqrt(9.25))
    assert update.tolist() == pytest.approx(expected)
    line = torch.linspace(-20, 20, 400_001, dtype=torch.float64)
    points = torch.stack([line, (0.2 - line) / 0.5], 1)
    metric = torch.tensor([math.sqrt(2), math.sqrt(9.25)], dtype=torch.float64)
    distance = ((points - torch.tensor([2.0, 1.0]).double()) ** 2 * metric).sum(1)
    torch.testing.assert_close(points[distance.argmin()], update, atol=2e-4, rtol=0)
    assert facts["budget_allowed"] == pytest.approx(0.2)
    assert facts["budget_planned"] == pytest.approx(2.5)
    assert facts["budget_first_order"] == pytest.approx(0.2)
    assert facts["rectified"] is True
    assert facts["surviving_norm"] == pytest.approx(float(update.norm()) / math.sqrt(5))
    assert ledger == pytest.approx((3.0, 0.0, 0.2, 1, 2, 0.0))


def test_a_step_within_its_bound_is_left_as_it_is() -> None:
    update, facts, ledger = corrected((0.1, -1.0), (1.0, 0.5), keep=math.exp(-0.4))
    assert update is None
    assert "rectified" not in facts
    assert facts["budget_first_order"] == pytest.approx(-0.4)
    assert ledger[2] == pytest.approx(-0.4)  # what it gave back is there for the next


def test_an_overdraft_is_paid_back() -> None:
    """.6 of .4 are spent: each of two steps must lower the risk by .1."""
    update, facts, _ = corrected((0.0, 0.0), (1.0, 0.0), keep=math.exp(-0.4), spent=0.6)
    assert update.tolist() == pytest.approx([-0.1, 0.0])
    assert facts["budget_first_order"] == pytest.approx(-0.1)


def test_the_step_is_shortened_over_the_last_quarter() -> None:
    # Of .4, .35 are spent: half of the last .1 is left, and .05 / 2 for this step.
    update, facts, _ = corrected((0.0, 2.0), (1.0, 0.0), keep=math.exp(-0.4), spent=0.35)
    assert update.tolist() == pytest.approx([0.0, 1.0])
    assert facts["budget_pace"] == pytest.approx(0.5)
    update, facts, _ = corrected((4.0, 2.0), (1.0, 0.0), keep=math.exp(-0.4), spent=0.35)
    assert facts["budget_first_order"] == pytest.approx(0.025)
    update, _, _ = corrected((4.0, 2.0), (1.0, 0.0), keep=math.exp(-0.4), spent=0.4)
    assert update.tolist() == pytest.approx([0.0, 0.0])


def test_what_steps_cost_beyond_first_order_is_expected_of_the_next() -> None:
    _, facts, _ = corrected((1.0, 0.0), (1.0, 0.0), keep=math.exp(-0.4), excess=0.05)
    assert facts["budget_first_order"] == pytest.approx(0.2 - 0.05)
    state: dict[str, Any] = {}
    assert Budget().audited(3.0, 0, 10, state) == {"budget_spent": 0.0}
    state[LEDGER] = (3.0, 0.0, 0.02, 8, 10, 0.0)  # two steps, .02 by first order
    assert Budget().audited(3.06, 2, 10, state)["budget_spent"] == pytest.approx(0.06)
    # .06 - .02 more than expected, of two steps: .02 a step, of which half is believed at once.
    assert state[LEDGER] == pytest.approx((3.0, 0.06, 0.0, 8, 8, 0.01))


def test_the_last_measurement_says_whether_it_was_kept() -> None:
    for loss, kept in ((3.01, True), (3.011, False)):
        state = {LEDGER: (3.0, 0.0, 0.0, 0, 1, 0.0)}
        assert Budget(keep=0.99).audited(loss, 10, 10, state)["budget_kept"] is kept


def test_the_end_of_a_run_says_what_was_kept() -> None:
    assert Budget().closing({"budget_spent": 0.004}) is None
    said = Budget(keep=0.99).closing({"budget_spent": 0.004, "budget_kept": True})
    assert said is not None
    assert said.startswith("budget kept: retain NLL rose by 0.0040 nats a token, of 0.0101 allowed")
    said = Budget(keep=0.99).closing({"budget_spent": 0.02, "budget_kept": False})
    assert "not kept" in str(said)
    assert "0.9802 of probability kept" in str(said)


def test_a_reserve_is_not_spent() -> None:
    _, facts, _ = corrected((1.0, 0.0), (1.0, 0.0), keep=math.exp(-0.4), reserve=0.25)
    assert facts["budget_first_order"] == pytest.approx(0.15)


def test_no_number_is_moved_beyond_the_reach() -> None:
    update, facts, _ = corrected((1.0, 1.0), (1e-3, 1.0), lr=0.01, reach=5.0, keep=0.99)
    moved = (torch.tensor([1.0, 1.0]).double() - update).abs()
    assert moved.max() <= 0.05
    assert facts["budget_first_order"] > facts["budget_allowed"]


def test_numbers_the_optimizer_never_moved_do_not_take_the_whole_correction() -> None:
    update, _, _ = corrected((1.0, 0.0), (1.0, 1e-4), roots=(1.0, 1e-12), keep=1.0)
    # With P = 1 / root alone the second number would move by 1e4.
    assert abs(float(update[1])) < 2


# Whole runs.


def engine_of(tiny: Any, rectifier: Any, rows: StepRows | None, loss: str = "none") -> Engine:
    return Engine(
        models=Models(tiny.llama(torch.float64), None, nullcontext),
        terms=GA(Retain(loss)).terms(),
        recipe=Recipe(lr=1e-3, batch_size=8, steps=12),
        num_rows=len(tiny.forget),
        pad=tiny.pad,
        rectifier=rectifier,
        audit_rows=rows,
    )


def nll(engine: Engine, rows: StepRows) -> float:
    """Mean NLL of all answer tokens, row by row."""
    total, count = 0.0, 0
    for row in rows.splits["retain"]:
        batch = collate([row], engine.pad, engine.device)
        with torch.no_grad():
            total += float(
                cross_entropy(engine.models.logits(batch), batch.labels, reduction="sum")
            )
        count += row.num_labels
    return total / count


@pytest.mark.parametrize("loss", ["none", "nll"])
def test_a_run_keeps_its_budget_where_a_plain_one_does_not(tiny: Any, loss: str) -> None:
    loader = StepLoader("forget", tiny.forget, 8, 0, tiny.retain)
    rows = audit_rows("retain", tiny.retain, 1000, 0)
    spent = {}
    for rectifier in (NoRectifier(), Budget(keep=0.95)):
        engine = engine_of(tiny, rectifier, rows, loss)
        start = nll(engine, rows)
        lines = [engine.step(loader.step(i)) for i in range(12)]
        spent[type(rectifier)] = nll(engine, rows) - start
    if loss == "none":
        assert spent[NoRectifier] > 3 * Budget(keep=0.95).allowed
    assert spent[Budget] <= Budget(keep=0.95).allowed
    assert lines[-1]["budget_spent"] == pytest.approx(spent[Budget], rel=1e-6)
    assert lines[-1]["budget_kept"] is True
    assert lines[0]["budget_spent"] == 0.0
    assert all("budget_kept" not in line for line in lines[:-1])
    assert lines[-1]["loss/forget"] != lines[0]["loss/forget"]


def test_the_weights_take_the_corrected_step(tiny: Any) -> None:
    """What a step spends by first order is its change times the risk's gradient before it."""
    loader = StepLoader("forget", tiny.forget, 8, 0, tiny.retain)
    engine = engine_of(
        tiny, Budget(keep=0.999, gamma=1.0), audit_rows("retain", tiny.retain, 10, 0)
    )
    for i in range(4):
        rows = loader.step(i)
        gradients, _ = engine.gradients(rows)
        before = engine.space.weights()
        facts = engine.step(rows)
        change = engine.space.add(engine.space.weights(), before, -1.0)
        (spent,) = engine.space.dots((change, gradients["risk"]))
        assert facts["budget_first_order"] == pytest.approx(spent, rel=1e-6, abs=1e-12)
        assert facts["cosine"] is not None


@pytest.mark.parametrize("settings", [{"gamma": 1.0}, {"gamma": 0.5, "every": 3}])
def test_a_budget_resumes_bit_for_bit(tiny: Any, settings: dict[str, Any]) -> None:
    loader = StepLoader("forget", tiny.forget, 8, 0, tiny.retain)
    rows = audit_rows("retain", tiny.retain, 10, 0)
    straight, stopped, resumed = (engine_of(tiny, Budget(**settings), rows) for _ in range(3))
    for i in range(5):
        straight.step(loader.step(i))
    for i in range(2):
        stopped.step(loader.step(i))
    file = io.BytesIO()
    torch.save(stopped.state(2), file)
    file.seek(0)
    assert resumed.restore(torch.load(file, weights_only=True)) == 2
    for i in range(2, 5):
        resumed.step(loader.step(i))
    assert resumed.rectifier_state[LEDGER] == straight.rectifier_state[LEDGER]
    for a, b in zip(straight.space.weights(), resumed.space.weights(), strict=True):
        assert torch.equal(a, b)


def test_rows_to_measure_on_are_asked_for(tiny: Any) -> None:
    with pytest.raises(ValueError, match="given no rows"):
        engine_of(tiny, Budget(), None)


def test_the_rows_are_drawn_by_the_seed_alone(tiny: Any) -> None:
    first, again, other = (audit_rows("retain", tiny.retain, 10, s) for s in (0, 0, 1))
    assert first.splits["retain"] == again.splits["retain"]
    assert len(first.splits["retain"]) == 10
    assert first.splits["retain"] != other.splits["retain"]
    assert len(audit_rows("retain", tiny.retain, 1000, 0).splits["retain"]) == len(tiny.retain)
