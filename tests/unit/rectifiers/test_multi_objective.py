"""Multi-objective rectifiers, each by a case worked by hand; state, degenerate gradients."""

from __future__ import annotations

import io
import math
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import nn

from unlearn_runner.errors import ConfigError
from unlearn_runner.methods.base import Retain, Term
from unlearn_runner.methods.ga import GA
from unlearn_runner.models.forward import Models
from unlearn_runner.models.gradients import GradientSpace
from unlearn_runner.rectifiers.multi_objective.aligned_mtl import AlignedMTL
from unlearn_runner.rectifiers.multi_objective.base import MultiObjective, require_solver
from unlearn_runner.rectifiers.multi_objective.cagrad import CAGrad
from unlearn_runner.rectifiers.multi_objective.config import ConFIG
from unlearn_runner.rectifiers.multi_objective.dualproj import DualProj
from unlearn_runner.rectifiers.multi_objective.fairgrad import FairGrad
from unlearn_runner.rectifiers.multi_objective.gradvac import GradVac
from unlearn_runner.rectifiers.multi_objective.imtl_g import IMTLG
from unlearn_runner.rectifiers.multi_objective.mgda import MGDA
from unlearn_runner.rectifiers.multi_objective.nash_mtl import NashMTL
from unlearn_runner.rectifiers.multi_objective.pcd import PCD
from unlearn_runner.rectifiers.multi_objective.random import RandomWeights
from unlearn_runner.rectifiers.multi_objective.upgrad import UPGrad
from unlearn_runner.training.batches import StepLoader
from unlearn_runner.training.engine import Engine
from unlearn_runner.training.recipe import Recipe

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT2 = math.sqrt(2.0)
CLASSES = {
    cls.__name__: cls
    for cls in (
        *(AlignedMTL, CAGrad, ConFIG, DualProj, FairGrad, GradVac, IMTLG),
        *(MGDA, NashMTL, PCD, RandomWeights, UPGrad),
    )
}
EXTRA = {"CAGrad": ("cvxpy", "clarabel")}
TERMS = GA(Retain()).terms()


def made(name: str, **settings: Any) -> MultiObjective:
    """The rectifier of a class; skips where its solver is an extra that is not installed."""
    for package in EXTRA.get(name, ()):
        pytest.importorskip(package, reason="needs the extra moo")
    return CLASSES[name](**settings)


def step(
    rectifier: MultiObjective,
    forget: tuple[float, ...],
    retain: tuple[float, ...],
    state: dict[str, Any] | None = None,
    terms: tuple[Term, ...] = TERMS,
) -> torch.Tensor:
    """The gradient stepped with, of a model of one parameter."""
    space = GradientSpace([("a", nn.Parameter(torch.zeros(len(forget), dtype=torch.float64)))])
    gradients = {
        "forget": [torch.tensor(forget, dtype=torch.float64)],
        "retain": [torch.tensor(retain, dtype=torch.float64)],
    }
    found = rectifier.rectify(gradients, terms, {} if state is None else state, space)
    if found.norm is not None:  # it is measured where nothing was changed
        assert found.norm == pytest.approx(float(found.gradient[0].norm()), rel=1e-4, abs=1e-6)
    return found.gradient[0]


def near(found: torch.Tensor, expected: tuple[float, ...], rel: float = 1e-6) -> None:
    assert found.tolist() == pytest.approx(list(expected), rel=rel, abs=rel)


# By hand, from the formula in each file. g = (2, 0), r = (-1, 1): <g,g> 4, <g,r> -2, <r,r> 2.


def test_mgda_steps_with_the_point_of_the_segment_nearest_to_zero() -> None:
    # a = (<r,r> - <g,r>) / |g - r|^2 = 4 / 10; both sides then gain .4.
    near(step(MGDA(), (2, 0), (-1, 1)), (0.2, 0.6))
    # The shorter gradient alone, where the segment only leads away from it.
    near(step(MGDA(), (3, 0, 0), (1, 0.5, 0)), (1, 0.5, 0))


def test_imtl_g_has_equal_projections() -> None:
    near(step(IMTLG(), (2, 0), (-1, 1)), ((2 * ROOT2 - 2) / (2 + ROOT2), 2 / (2 + ROOT2)))
    found = step(IMTLG(), (1, 2, 2), (0, 4, 3))  # of lengths 3 and 5: (5 g + 3 r) / 8
    near(found, (5 / 8, 22 / 8, 19 / 8))
    assert float(found @ torch.tensor([1, 2, 2]).double()) / 3 == pytest.approx(
        float(found @ torch.tensor([0, 4, 3]).double()) / 5
    )


def test_config_is_as_long_as_what_both_have_along_the_bisector() -> None:
    near(step(ConFIG(), (3, 0), (0, 1)), (2, 2))  # e = (1, 1) / root 2; <g + r, e> = 4 / root 2
    # Units (1, 0) and (-3, 4) / 5: e = (1, 2) / root 5; <g + r, e> = (-1 + 8) / root 5.
    near(step(ConFIG(), (2, 0), (-3, 4)), (7 / 5, 14 / 5))


def test_upgrad_projects_both() -> None:
    # g + r = (1, 1) and r + g / 2 = (0, 1).
    near(step(UPGrad(), (2, 0), (-1, 1)), (1, 2))
    near(step(UPGrad(), (2, 0, 1), (1, 1, 1)), (3, 1, 2))


def test_dualproj_projects_the_sum() -> None:
    near(step(DualProj(), (2, 0), (-1, 1)), (1, 1))  # <g + r, r> = 0: as it is
    near(step(DualProj(), (4, 0), (-1, 1)), (2, 2))  # (3, 1) without its part along r, -1 of r
    # g + r = (1, 3) opposes g = (1, -1) by -2 of 2: one g more.
    near(step(DualProj(), (1, -1), (0, 4)), (2, 2))


def test_aligned_mtl_sums_an_orthogonal_frame() -> None:
    near(step(AlignedMTL(), (2, 0, 0), (0, 1, 0)), (1, 1, 0))
    near(step(AlignedMTL(scale="rmse"), (2, 0), (0, 1)), (math.sqrt(2.5), math.sqrt(2.5)))
    # Cosine .6, length 1: both on the eigenvector (1, 1), of 1.6; the other's value is .4.
    near(step(AlignedMTL(), (1, 0), (0.6, 0.8)), (0.8, 0.4))


def test_fairgrad_gives_each_side_a_power_of_its_weight() -> None:
    # The Gramian over its trace: diag(.8, .2). alpha 1: w = 1 / root; alpha 2: w^(3/2) = 1 / g.
    near(step(FairGrad(alpha=1), (2, 0), (0, 1)), (2 * math.sqrt(1.25), math.sqrt(5)), 1e-4)
    near(step(FairGrad(alpha=2), (2, 0), (0, 1)), (2 * 1.25 ** (2 / 3), 5 ** (2 / 3)), 1e-4)
    near(step(FairGrad(alpha=0), (2, 0), (0, 1)), (1, 0.5))


def test_gradvac_turns_each_gradient_to_the_cosine_so_far() -> None:
    g, r, state = torch.tensor([2.0, 0]).double(), torch.tensor([-1.0, 1]).double(), {}
    # The cosine is -1 / root 2, the expected one 0: as UPGrad; then it is half of that.
    near(step(GradVac(), (2, 0), (-1, 1), state), (1, 2))
    expected = -0.5 / ROOT2
    forget, retain = GradVac().weights("", [[4.0, -2.0], [-2.0, 2.0]], 1.0, state)
    for turned, other in ((g + (retain - 1) * r, r), (r + (forget - 1) * g, g)):
        cosine = float(turned @ other / (turned.norm() * other.norm()))
        assert cosine == pytest.approx(expected, abs=1e-6)


def test_nash_mtl_gives_each_side_the_reciprocal_of_its_weight() -> None:
    # Of gradients of length 1 and cosine c both weights are 1 / root(1 + c); times root(3) here.
    weight = 1 / math.sqrt(1 - 1 / ROOT2)
    forget, retain = weight * math.sqrt(3) / 2, weight * math.sqrt(3) / ROOT2
    near(step(NashMTL(), (2, 0), (-1, 1)), (2 * forget - retain, retain))
    near(step(NashMTL(), (1, 0, 0), (0, 0, 1)), (1, 0, 1))


def test_nash_mtl_keeps_its_weights_between_solutions() -> None:
    state: dict[str, Any] = {}
    near(step(NashMTL(every=2), (1, 0), (0, 1), state), (1, 1))
    near(step(NashMTL(every=2), (1, 0), (0.6, 0.8), state), (1.6, 0.8))
    near(
        step(NashMTL(every=2), (1, 0), (0.6, 0.8), state),
        (1.6 / 1.6**0.5, 0.8 / 1.6**0.5),
    )


def test_cagrad_helps_the_worse_side_most_within_the_ball() -> None:
    g, r = torch.tensor([2.0, 0]).double(), torch.tensor([-1.0, 1]).double()
    found, mean = step(made("CAGrad", c=0.5), (2, 0), (-1, 1)), (g + r) / 2
    angles = torch.linspace(0, 2 * math.pi, 100_001, dtype=torch.float64)
    ball = mean + 0.5 * mean.norm() * torch.stack([angles.cos(), angles.sin()], 1)
    best = torch.minimum(ball @ g, ball @ r).max()
    assert float((found - mean).norm()) == pytest.approx(0.5 * float(mean.norm()), rel=1e-4)
    assert float(torch.minimum(found @ g, found @ r)) == pytest.approx(float(best), rel=1e-4)
    near(step(made("CAGrad", c=0), (2, 0), (-1, 1)), (0.5, 0.5), 1e-4)


def test_pcd_keeps_a_share_of_progress_for_the_retain_side() -> None:
    # g' = (1, 0), r' = (-1, 1) / root 2: d = g' + (tau + 1 / root 2) r', then as long as g.
    for tau in (0.0, 0.5):
        mu = tau + 1 / ROOT2
        d = torch.tensor([1 - mu / ROOT2, mu / ROOT2]).double()
        near(step(PCD(tau=tau, eps=0), (2, 0), (-1, 1)), tuple((2 * d / d.norm()).tolist()))


def test_pcd_leaves_a_forget_gradient_that_gives_retention_its_share() -> None:
    near(step(PCD(), (2, 0), (1, 1)), (2, 0))
    # At tau 1 it lacks 1 - 1 / root 2 of r' = (1, 1) / root 2.
    mu = 1 - 1 / ROOT2
    d = torch.tensor([1 + mu / ROOT2, mu / ROOT2]).double()
    near(step(PCD(tau=1, eps=0), (2, 0), (1, 1)), tuple((2 * d / d.norm()).tolist()))


def test_random_weights_are_of_the_seed_and_the_step() -> None:
    before, state = torch.get_rng_state(), {}
    draws = [tuple(step(RandomWeights(seed=3), (1, 0), (0, 1), state).tolist()) for _ in range(50)]
    assert torch.equal(torch.get_rng_state(), before)
    assert len(set(draws)) == 50
    assert all(a > 0 and b > 0 and a + b == pytest.approx(1) for a, b in draws)
    assert sum(a for a, _ in draws) / 50 == pytest.approx(0.5, abs=0.15)
    state = {}
    again = [tuple(step(RandomWeights(seed=3), (9, 0), (0, 9), state).tolist()) for _ in range(2)]
    assert again == [tuple(9 * x for x in pair) for pair in draws[:2]]
    assert tuple(step(RandomWeights(seed=4), (1, 0), (0, 1)).tolist()) != draws[0]


@pytest.mark.parametrize("name", ["UPGrad", "DualProj", "GradVac"])
def test_the_plain_sum_where_nothing_conflicts(name: str) -> None:
    rectifier, state = made(name), {}
    near(step(rectifier, (2, 0), (1, 1), state), (3, 1))
    near(step(rectifier, (2, 0), (0, 1), {}), (2, 1))


# What all have in common.


@pytest.mark.parametrize("name", CLASSES)
def test_neither_side_loses_where_the_paper_says_so(name: str) -> None:
    """Not PCD's primary, whose own progress has no bound; three make no such promise."""
    rectifier = made(name)
    if isinstance(rectifier, RandomWeights | GradVac | CAGrad):
        return
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        g, r = torch.randn(2, 3, generator=generator, dtype=torch.float64)
        found = step(rectifier, tuple(g.tolist()), tuple((3 * r).tolist()))
        assert float(found @ r) > -1e-6
        if name != "PCD":
            assert float(found @ g) > -1e-6


@pytest.mark.parametrize("name", CLASSES)
def test_a_common_scale_of_the_gradients_scales_the_step(name: str) -> None:
    rectifier = made(name, eps=0.0) if name == "PCD" else made(name)
    unit = step(rectifier, (2, 0.5, 0), (-1, 1, 0.3))
    for scale in (1e-6, 1e5):
        scaled = [tuple(scale * x for x in v) for v in ((2, 0.5, 0), (-1, 1, 0.3))]
        torch.testing.assert_close(step(rectifier, *scaled) / scale, unit, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", CLASSES)
def test_degenerate_gradients_give_finite_steps(name: str) -> None:
    rectifier = made(name)
    near(step(rectifier, (0, 0), (1, 2)), (1, 2))
    near(step(rectifier, (1, 2), (0, 0)), (1, 2))
    near(step(rectifier, (0, 0), (0, 0)), (0, 0))
    for retain in ((2.0, 4.0), (-2.0, -4.0), (-1.0, -2.0), (1e-9, 1e9)):
        found = step(rectifier, (1, 2), retain)
        assert found.isfinite().all()
        assert float(found.norm()) < 1e3 * (math.hypot(*retain) + math.hypot(1, 2))
    state: dict[str, Any] = {}
    assert not step_norm_is_finite(rectifier, state)
    assert not state  # nothing remembered of it


def step_norm_is_finite(rectifier: MultiObjective, state: dict[str, Any]) -> bool:
    space = GradientSpace([("a", nn.Parameter(torch.zeros(2)))])
    gradients = {"forget": [torch.tensor([math.inf, 0.0])], "retain": [torch.tensor([1.0, 1.0])]}
    return bool(rectifier.rectify(gradients, TERMS, state, space).gradient[0].isfinite().all())


@pytest.mark.parametrize("name", CLASSES)
def test_a_watched_retain_gradient_becomes_an_objective(name: str) -> None:
    terms = GA(Retain("none")).terms()
    given = (2, 0.5), (-1, 1)
    assert torch.equal(step(made(name), *given, terms=terms), step(made(name), *given))
    near(step(made(name), (1, 2), (0, 0), terms=terms), (1, 2))


@pytest.mark.parametrize("scope", ["whole", "tensor"])
@pytest.mark.parametrize("name", [*CLASSES, "smoothed"])
def test_saved_state_goes_on_bit_for_bit(name: str, scope: Any) -> None:
    settings = {"scope": scope, **({"smoothing": 0.5} if name == "smoothed" else {})}
    rectifier = made("MGDA" if name == "smoothed" else name, **settings)
    space = GradientSpace([(n, nn.Parameter(torch.zeros(3).double())) for n in "ab"])
    draws = torch.randn(6, 2, 2, 3, generator=torch.Generator().manual_seed(1)).double()

    def run(state: dict[str, Any], steps: range) -> list[list[float]]:
        found = []
        for i in steps:
            sides = zip(("forget", "retain"), draws[i].clone(), strict=True)
            gradients = {side: list(entries) for side, entries in sides}
            result = rectifier.rectify(gradients, TERMS, state, space).gradient
            found.append(torch.cat(result).tolist())
        return found

    whole, state = run({}, range(6)), {}
    first = run(state, range(3))
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    assert first + run(torch.load(file, weights_only=True), range(3, 6)) == whole
    remembers = name in ("GradVac", "NashMTL", "PCD", "RandomWeights", "smoothed")
    assert len(state) == remembers * (2 if scope == "tensor" else 1)


def test_smoothing_is_a_running_mean_of_weights() -> None:
    state: dict[str, Any] = {}
    near(step(MGDA(smoothing=0.75), (2, 0), (0, 2), state), (1, 1))
    # MGDA's own weights are now 0 and 1.
    near(step(MGDA(smoothing=0.75), (2, 0), (1, 0), state), (2 * 0.375 + 0.625, 0))


def engine_of(tiny: Any, rectifier: MultiObjective, **settings: Any) -> Engine:
    return Engine(
        models=Models(tiny.llama(torch.float64), None, nullcontext),
        terms=GA(Retain("none")).terms(),
        recipe=Recipe(lr=1e-3, batch_size=8, steps=10, **settings),
        num_rows=len(tiny.forget),
        pad=tiny.pad,
        rectifier=rectifier,
    )


def test_what_is_stepped_with_is_clipped(tiny: Any) -> None:
    """Its norm is known from the Gramian; `train.clip` bounds it all the same."""
    engine = engine_of(tiny, UPGrad(), clip=1e-3)
    facts = engine.step(StepLoader("forget", tiny.forget, 8, 0, tiny.retain).step(0))
    assert facts["grad_norm"] > 0.1
    moments = [engine.optimizer.state[p]["exp_avg"] for p in engine.space.parameters]
    assert engine.space.norm(moments) == pytest.approx(0.1 * 1e-3, rel=1e-4)


@pytest.mark.parametrize("name", ["GradVac", "PCD", "RandomWeights"])
def test_an_engine_resumes_bit_for_bit(tiny: Any, name: str) -> None:
    loader = StepLoader("forget", tiny.forget, 8, 0, tiny.retain)
    straight, stopped, resumed = (engine_of(tiny, made(name)) for _ in range(3))
    for i in range(4):
        facts = straight.step(loader.step(i))
    assert {"cosine", "conflict", "objective_norm", "retain_norm", "surviving_norm"} <= set(facts)
    for i in range(2):
        stopped.step(loader.step(i))
    file = io.BytesIO()
    torch.save(stopped.state(2), file)
    file.seek(0)
    assert resumed.restore(torch.load(file, weights_only=True)) == 2
    for i in range(2, 4):
        resumed.step(loader.step(i))
    for a, b in zip(straight.space.weights(), resumed.space.weights(), strict=True):
        assert torch.equal(a, b)


def test_a_missing_solver_is_named_with_its_extra() -> None:
    with pytest.raises(ConfigError, match="rectifier=cagrad needs no_such_solver") as found:
        require_solver("cagrad", "no_such_solver")
    assert "pip install 'unlearn-runner[moo]'" in str(found.value)
