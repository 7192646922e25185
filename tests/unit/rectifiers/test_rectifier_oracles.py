"""GRU does the paper's arithmetic: worked examples by number, and the properties it promises.

The examples come from `tests/oracles/gru_geffect.json`. Those without a counterpart here:

- `aux_terms` plus_KL and plus_ce add a gradient *after* the projection. Here a retain term is part
  of the objective and is projected with it; only that entry's projection is used.
- `tru_reconstruction` (no retain data), `bf16_weight_update_trap` (weights, not gradients) and
  `g_effect`'s WGA and `code_ema` belong to things this package does not have.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from helpers.oracles import read_oracles
from torch import Tensor, nn

from unlearn_runner.data.encode import Encoded, collate
from unlearn_runner.methods.base import Method, Retain, Term
from unlearn_runner.methods.ga import GA
from unlearn_runner.methods.losses import KL, NLL
from unlearn_runner.methods.npo import NPO
from unlearn_runner.models.forward import Models
from unlearn_runner.models.gradients import Gradient, GradientSpace
from unlearn_runner.rectifiers.base import Rectified, RectifierState
from unlearn_runner.rectifiers.gru import GRU, MEAN
from unlearn_runner.rectifiers.none import NoRectifier
from unlearn_runner.training import optimizer
from unlearn_runner.training.batches import StepRows
from unlearn_runner.training.engine import Engine
from unlearn_runner.training.recipe import Recipe

Vector = Sequence[float]
RTOL, ATOL = 1e-9, 1e-12  # meta.tolerance of the oracles
GD = Retain(loss="nll")
TO_START = Retain(loss="kl")


@pytest.fixture(scope="module")
def oracles() -> dict[str, Any]:
    return read_oracles("gru_geffect")


def _named(cases: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(case for case in cases if case["name"] == name)


def _space(*sizes: int, dtype: torch.dtype = torch.float64) -> GradientSpace:
    return GradientSpace([nn.Parameter(torch.zeros(size, dtype=dtype)) for size in sizes])


def _gradient(*parts: Vector | None, dtype: torch.dtype = torch.float64) -> Gradient:
    return [None if part is None else torch.tensor(part, dtype=dtype) for part in parts]


def _flat(gradient: Gradient) -> list[float]:
    return [number for part in gradient if part is not None for number in part.reshape(-1).tolist()]


def _close(found: Gradient | Sequence[float], expected: Vector) -> None:
    numbers = _flat(found) if isinstance(found[0], Tensor) else found
    np.testing.assert_allclose(numbers, expected, rtol=RTOL, atol=ATOL)


def _rectify(
    gru: GRU,
    objective: Gradient,
    risk: Gradient,
    state: RectifierState | None = None,
    terms: tuple[Term, ...] | None = None,
) -> Rectified:
    """Hands one gradient per group to the rectifier, as a training step does."""
    terms = GA().terms() if terms is None else terms
    shapes = [o if o is not None else r for o, r in zip(objective, risk, strict=True)]
    space = _space(*(1 if s is None else len(s) for s in shapes))
    names = [group.name for group in gru.groups(terms)]
    gradients = dict(zip(names, (objective, risk), strict=True))
    return gru.rectify(gradients, terms, {} if state is None else state, space)


def _norm(vector: Vector) -> float:
    return math.hypot(*vector)


def _torch_clipped(exact: Vector, norm: float, tau: float) -> list[float]:
    """What an exactly clipped oracle becomes under torch's min(1, tau / (norm + 1e-6))."""
    return [x * norm / (norm + 1e-6) for x in exact] if norm > tau else list(exact)


# The projection.


@pytest.mark.parametrize("gamma", [1.0, 0.8, 0.01])
@pytest.mark.parametrize(
    "name",
    [
        "no_conflict",
        "axis_conflict",
        "general_conflict",
        "boundary_zero_dot",
        "antiparallel",
        "zero_retain",
        "scale_of_r_irrelevant",
    ],
)
def test_projection(oracles: dict[str, Any], name: str, gamma: float) -> None:
    case = _named(oracles["rectifier"], name)
    done = _rectify(GRU(gamma=gamma), _gradient(case["g_u"]), _gradient(case["g_r"]))
    _close(done.gradient, case["out"])
    assert done.facts["rectified"] is case["triggered"]
    assert done.facts["objective_norm"] == pytest.approx(case["norm_in"], rel=RTOL)
    assert done.facts["retain_norm"] == pytest.approx(gamma * _norm(case["g_r"]), rel=RTOL)
    assert done.facts["surviving_norm"] == pytest.approx(
        case["norm_out"] / case["norm_in"], rel=RTOL, abs=1e-7
    )
    lengths = case["norm_in"] * _norm(case["g_r"])
    cosine = pytest.approx(case["dot"] / lengths, rel=RTOL, abs=ATOL) if lengths else None
    assert done.facts["cosine"] == cosine


@pytest.mark.parametrize("times", [1e-6, 10.0, 1e6])
def test_projection_ignores_the_length_of_the_retain_gradient(
    oracles: dict[str, Any], times: float
) -> None:
    case = _named(oracles["rectifier"], "general_conflict")
    risk = _gradient([times * x for x in case["g_r"]])
    _close(_rectify(GRU(), _gradient(case["g_u"]), risk).gradient, case["out"])


@pytest.mark.parametrize("name", ["global_vs_per_tensor", "global_conflict"])
def test_one_inner_product_over_all_tensors(oracles: dict[str, Any], name: str) -> None:
    case = oracles[name]
    g_u, g_r = (_gradient(case[key]["A"], case[key]["B"]) for key in ("g_u", "g_r"))
    done = _rectify(GRU(gamma=1.0), g_u, g_r)
    _close(done.gradient, [*case["global_out"]["A"], *case["global_out"]["B"]])
    assert done.facts["rectified"] is (case["global_dot"] < 0)


@pytest.mark.parametrize("name", ["strong_conflict", "mild_conflict", "no_conflict"])
def test_cos_clip_removes_no_more_than_the_floor(oracles: dict[str, Any], name: str) -> None:
    case = _named(oracles["cos_clip"], name)
    gru = GRU(gamma=1.0, cos_clip=True, cos_floor=case["c"])
    done = _rectify(gru, _gradient(case["g_u"]), _gradient(case["g_r"]))
    _close(done.gradient, case["out"])
    assert np.dot(_flat(done.gradient), case["g_r"]) == pytest.approx(case["dot_out"], abs=1e-9)


def test_cos_clip_floor_of_minus_one_is_the_whole_projection(oracles: dict[str, Any]) -> None:
    case = _named(oracles["rectifier"], "general_conflict")
    gru = GRU(cos_clip=True, cos_floor=-1.0)
    done = _rectify(gru, _gradient(case["g_u"]), _gradient(case["g_r"]))
    _close(done.gradient, case["out"])


def test_conflict_is_that_of_the_minimised_objective(oracles: dict[str, Any]) -> None:
    """GA minimises -NLL, so the sign comes from the term's weight, not from the rectifier."""
    case, gru = oracles["sign_trap"], GRU(gamma=1.0)
    slopes = {"forget": case["grad_forget_nll"], "retain": case["grad_retain_nll"]}
    objective, risk = (
        [
            sum(
                term.weight * torch.tensor(slopes[term.split], dtype=torch.float64)
                for term in group.terms
            )
        ]
        for group in gru.groups(GA().terms())
    )
    _close(objective, case["ga_objective_gradient"])
    _close(_rectify(gru, objective, risk).gradient, case["correct"])


def test_conflict_that_bf16_misses_is_found_in_float32(oracles: dict[str, Any]) -> None:
    case = oracles["bf16_trigger_trap"]
    g_u, g_r = (_gradient(case[key], dtype=torch.float32) for key in ("g_u", "g_r"))
    in_bf16 = (g_u[0].bfloat16() * g_r[0].bfloat16()).sum()
    assert in_bf16.item() == case["bf16_elementwise_dot"]  # else this would show nothing
    done = _rectify(GRU(gamma=1.0), g_u, g_r)
    assert done.facts["rectified"] is True
    lengths = _norm(case["g_u"]) * _norm(case["g_r"])
    assert done.facts["cosine"] == pytest.approx(case["exact_dot"] / lengths, rel=1e-6)
    left = np.dot(np.float64(_flat(done.gradient)), case["g_r"])
    assert abs(left) < 1e-5 < abs(case["exact_dot"])


# Memory and clipping.


@pytest.mark.parametrize(
    ("written", "gamma", "convention"),
    [
        ("0.8", 0.8, "code_convention_gamma_on_new"),
        ("0.3", 0.3, "code_convention_gamma_on_new"),
        ("1.0", 1.0, "code_convention_gamma_on_new"),
        # The opposite convention is ours with 1 - gamma.
        ("0.8", 0.2, "opposite_convention"),
        ("0.3", 0.7, "opposite_convention"),
    ],
)
def test_mean_weighs_the_newest_gradient_by_gamma(
    oracles: dict[str, Any], written: str, gamma: float, convention: str
) -> None:
    state: RectifierState = {}
    steps = zip(
        oracles["ema"]["inputs"], oracles["ema"]["by_gamma"][written][convention], strict=True
    )
    for risk, mean in steps:
        _rectify(GRU(gamma=gamma), _gradient([1.0, 1.0]), _gradient(risk), state)
        _close(state[MEAN], mean)


@pytest.mark.parametrize(("gamma", "trace"), [(0.8, "steps"), (0.2, "opposite_gamma_steps")])
def test_pipeline_trace(oracles: dict[str, Any], gamma: float, trace: str) -> None:
    case = oracles["pipeline_trace"]
    gru, state = GRU(gamma=gamma, tau=case["tau"]), {}
    for step in case[trace]:
        done = _rectify(gru, _gradient(step["g_u"]), _gradient(step["r_now"]), state)
        _close(state[MEAN], step["g_r_ema"])
        assert done.facts["rectified"] is step["triggered"]
        lengths = _norm(step["g_u"]) * _norm(step["g_r_ema"])
        assert done.facts["cosine"] == pytest.approx(step["dot"] / lengths, rel=RTOL)
        norm = _norm(step["rectified"])
        _close(done.gradient, _torch_clipped(step["final"], norm, case["tau"]))


def test_projects_on_the_mean_not_on_the_newest_gradient(oracles: dict[str, Any]) -> None:
    case = oracles["aux_terms"]
    mean, now = np.array(case["g_r_ema"]), np.array(case["g_r_now"])
    state: RectifierState = {MEAN: [torch.from_numpy((mean - 0.8 * now) / 0.2)]}
    done = _rectify(GRU(gamma=0.8), _gradient(case["g_u"]), _gradient(case["g_r_now"]), state)
    _close(state[MEAN], case["g_r_ema"])
    _close(done.gradient, case["rectified"])


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize(
    ("clip", "order"), [("after", "project_then_clip"), ("before", "clip_then_project")]
)
def test_clip_order(oracles: dict[str, Any], index: int, clip: Any, order: str) -> None:
    case = oracles["clip_order"][index]
    gru = GRU(gamma=1.0, tau=case["tau"], clip=clip)
    done = _rectify(gru, _gradient(case["g_u"]), _gradient(case["g_r"]))
    # g_r is the second axis, so the projection of g_u is its first number.
    norm = _norm(case["g_u"]) if clip == "before" else abs(case["g_u"][0])
    _close(done.gradient, _torch_clipped(case[order], norm, case["tau"]))


def test_clip_has_torchs_convention(oracles: dict[str, Any]) -> None:
    case = oracles["clip_torch_convention"]
    clipped, norm = _space(2).clip(_gradient(case["grad"]), case["tau"])
    _close(clipped, case["out"])
    assert norm == pytest.approx(5.0, rel=RTOL)
    no_conflict = _gradient(case["grad"])
    _close(
        _rectify(GRU(tau=case["tau"]), _gradient(case["grad"]), no_conflict).gradient, case["out"]
    )


@pytest.mark.parametrize("clip", ["after", "before"])
def test_no_tau_no_clip(clip: Any) -> None:
    done = _rectify(GRU(tau=None, clip=clip), _gradient([300.0, 400.0]), _gradient([1.0, 1.0]))
    _close(done.gradient, [300.0, 400.0])


# Micro-batches, ranks, and the optimizer.


def test_rectifies_once_what_micro_batches_accumulated(oracles: dict[str, Any]) -> None:
    case = oracles["grad_accumulation"]
    space, gradients = _space(2), []
    for key in ("g_u", "g_r"):
        space.clear()
        for micro in case["micro"]:
            slope = torch.tensor(micro[key], dtype=torch.float64)
            (torch.dot(slope, space.parameters[0]) / case["steps"]).backward()
        gradients.append(space.collect())
    _close(gradients[0], case["accumulated_g_u"])
    _close(gradients[1], case["accumulated_g_r"])
    _close(_rectify(GRU(gamma=case["gamma"]), *gradients).gradient, case["correct"])


def test_ranks_are_averaged_before_rectifying(oracles: dict[str, Any]) -> None:
    """The runner is one process today; this is the order any other engine has to keep."""
    case, space, gru = oracles["data_parallel"], _space(2), GRU(gamma=1.0)

    def mean(key: str) -> Gradient:
        first, second = (_gradient(rank[key]) for rank in case["ranks"])
        return space.scale(space.add(first, second), 0.5)

    both = _rectify(gru, mean("g_u"), mean("g_r"))
    _close(both.gradient, case["correct_allreduce_mean_then_project"])
    for rank, alone in zip(case["ranks"], case["wrong_rank_local"], strict=True):
        _close(_rectify(gru, _gradient(rank["g_u"]), _gradient(rank["g_r"])).gradient, alone)


def test_adamw_steps_with_the_rectified_gradient(oracles: dict[str, Any]) -> None:
    """With the recipe's default betas, eps and decay; AdamW need not keep the orthogonality."""
    case, conflict = oracles["adamw_step"], _named(oracles["rectifier"], "general_conflict")
    space = _space(3)
    with torch.no_grad():
        space.parameters[0].copy_(torch.tensor(case["p0"]))
    optim = optimizer.optimizer(space.parameters, Recipe(lr=case["lr"]))
    done = _rectify(GRU(), _gradient(conflict["g_u"]), _gradient(conflict["g_r"]))
    space.assign(done.gradient)
    optim.step()
    stepped = space.parameters[0].tolist()
    _close(stepped, case["p1"])
    delta = np.subtract(stepped, case["p0"])
    assert np.dot(delta, conflict["g_r"]) == pytest.approx(case["delta_dot_g_r"], rel=1e-9)


# A tiny model: logits = W2 tanh(W1 x), one answer token. A row's first token names its x.


class Tiny(nn.Module):
    def __init__(self, points: Sequence[Vector], w1: Any, w2: Any) -> None:
        super().__init__()
        self.points = torch.tensor(points, dtype=torch.float64)
        self.w1 = nn.Parameter(torch.tensor(w1, dtype=torch.float64))
        self.output = nn.Linear(2, 3, bias=False, dtype=torch.float64)
        with torch.no_grad():
            self.output.weight.copy_(torch.tensor(w2, dtype=torch.float64))

    def forward(self, input_ids: Tensor, **_: Any) -> Any:
        hidden = torch.tanh(self.points[input_ids] @ self.w1.T)
        return SimpleNamespace(logits=self.output(hidden))

    def get_output_embeddings(self) -> nn.Module:
        return self.output


RETAIN_SETS = ["g_effect", "gru_on_tiny_model_conflict"]


def _engine(
    oracles: dict[str, Any], retain_set: str, method: Method, rectifier: Any
) -> tuple[Engine, StepRows]:
    """The real training step over the tiny model, with its start model and its rows."""
    tiny, kept = oracles["g_effect"], oracles[retain_set]
    points = [*tiny["X_u"], *kept["X_r"]]
    trained, start = (Tiny(points, tiny["W1" + ref], tiny["W2" + ref]) for ref in ("", "_ref"))
    models = Models(trained, start, nullcontext)
    labels = [*tiny["y_u"], *kept["y_r"]]
    rows = [Encoded((i, label), prompt_length=1) for i, label in enumerate(labels)]
    logp = models.start_logits(collate(rows, 0, torch.device("cpu"))).log_softmax(-1)
    rows = [
        Encoded(row.ids, 1, logp[i, [label]].numpy())
        for i, (row, label) in enumerate(zip(rows, labels, strict=True))
    ]
    engine = Engine(models, method.terms(), Recipe(), 2, pad=0, rectifier=rectifier)
    return engine, StepRows({"forget": rows[:2], "retain": rows[2:]})


def _layers(gradient: dict[str, Any]) -> list[float]:
    return np.concatenate([np.ravel(gradient["W1"]), np.ravel(gradient["W2"])]).tolist()


@pytest.mark.parametrize(
    ("name", "method"), [("ga", GA()), ("npo_beta0.5", NPO(retain=Retain("none"), beta=0.5))]
)
def test_g_effect_of_the_method(oracles: dict[str, Any], name: str, method: Method) -> None:
    """The G-effect <grad R, grad L_u>: on forget rows, on retain rows, layer by layer."""
    case = oracles["g_effect"]
    expected = case["objectives"][name]
    engine, rows = _engine(oracles, "g_effect", method, GRU())
    gradients, losses = engine.gradients(rows)
    objective, risk = gradients.values()
    assert losses["forget"] * method.terms()[0].weight == pytest.approx(expected["loss"], rel=RTOL)
    assert losses["retain_risk"] == pytest.approx(case["R_r"], rel=RTOL)
    _close(objective, _layers(expected["grad"]))
    _close(risk, _layers(case["grad_R_r"]))
    forget_risk = [torch.tensor(case["grad_R_u"][w], dtype=torch.float64) for w in ("W1", "W2")]
    space = engine.space
    e_u, e_r = space.dots((forget_risk, objective), (risk, objective))
    assert e_u == pytest.approx(expected["e_u"], rel=RTOL)
    assert e_r == pytest.approx(expected["e_r"], rel=RTOL)
    for layer, w in enumerate(("W1", "W2")):
        for other, by_layer in ((forget_risk, "e_u_by_layer"), (risk, "e_r_by_layer")):
            found = torch.sum(other[layer] * objective[layer]).item()
            assert found == pytest.approx(expected[by_layer][w], rel=RTOL)


@pytest.mark.parametrize("name", ["gru_on_tiny_model", "gru_on_tiny_model_conflict"])
def test_gru_on_the_tiny_model(oracles: dict[str, Any], name: str) -> None:
    case = oracles[name]
    retain_set = name if "X_r" in case else "g_effect"
    engine, rows = _engine(oracles, retain_set, GA(), GRU())
    gradients, _ = engine.gradients(rows)
    risk = _flat(gradients["risk"])
    _close(gradients["objective"], case["g_u"])
    _close(risk, case["g_r"])
    done = engine.rectifier.rectify(gradients, engine.terms, {}, engine.space)
    assert done.facts["rectified"] is case["triggered"]
    found = _flat(done.gradient)
    _close(found, case["rectified"])
    assert np.dot(found, risk) == pytest.approx(case["e_r_after"], abs=ATOL, rel=RTOL)
    assert np.dot(found, np.negative(case["g_u"])) == pytest.approx(case["e_u_after"], rel=RTOL)


METHODS = {
    "ga": GA(),
    "gd": GA(retain=GD),
    "gd, weight 3": GA(retain=Retain("nll", 3.0)),
    "ga + kl": GA(retain=TO_START),
    "npo": NPO(retain=Retain("none")),
    "npo + gd": NPO(retain=GD),
    "npo + kl": NPO(retain=TO_START),
    "gd, rows": GA(retain=GD, reduction="sequence_sum"),
}


@pytest.mark.parametrize("retain_set", RETAIN_SETS)
@pytest.mark.parametrize("risk", ["nll", "kl"])
@pytest.mark.parametrize("method", METHODS)
def test_two_passes_give_the_gradient_of_the_whole_objective(
    oracles: dict[str, Any], method: str, risk: Any, retain_set: str
) -> None:
    """Whether or not the retain term moved to the risk's pass: project the whole gradient."""
    plain, rows = _engine(oracles, retain_set, METHODS[method], NoRectifier())
    g = np.array(_flat(plain.gradients(rows)[0]["objective"]))
    engine, rows = _engine(oracles, retain_set, METHODS[method], GRU(risk=risk))
    gradients, _ = engine.gradients(rows)
    m = np.array(_flat(gradients["risk"]))
    done = engine.rectifier.rectify(gradients, engine.terms, {}, engine.space)
    expected = g - min(0.0, g @ m) / (m @ m) * m
    np.testing.assert_allclose(_flat(done.gradient), expected, rtol=RTOL, atol=ATOL)


# Properties.


def _pairs() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    sampler = np.random.default_rng(0)
    for _ in range(20):
        g, m = sampler.normal(size=(2, 7))
        yield g, (m if g @ m < 0 else -m)


def test_a_rectified_gradient_is_orthogonal_shorter_and_closest() -> None:
    for g, m in _pairs():
        done = _rectify(GRU(gamma=1.0), _gradient(g.tolist()), _gradient(m.tolist()))
        found = np.array(_flat(done.gradient))
        assert abs(found @ m) < 1e-12
        assert g @ found == pytest.approx(found @ found, rel=1e-9)
        assert found @ found < g @ g
        # Every other vector that does not conflict is further from g.
        for other, _ in _pairs():
            feasible = other if other @ m >= 0 else -other
            assert np.linalg.norm(feasible - g) > np.linalg.norm(found - g)


@pytest.mark.parametrize(
    ("objective", "risk"),
    [
        ([math.nan, 1.0], [1.0, 1.0]),
        ([1.0, -1.0], [math.nan, 1.0]),
        ([-math.inf, 1.0], [1.0, 1.0]),
        ([1.0, -1.0], [-math.inf, 1.0]),
        ([-1e200, 1.0], [1e200, 1.0]),  # finite, but <g, m> and <m, m> overflow
    ],
)
@pytest.mark.parametrize("cos_clip", [False, True])
def test_a_product_that_is_not_finite_passes_the_gradient_through(
    objective: Vector, risk: Vector, cos_clip: bool
) -> None:
    done = _rectify(GRU(cos_clip=cos_clip), _gradient(objective), _gradient(risk))
    np.testing.assert_array_equal(_flat(done.gradient), objective)
    assert done.facts["rectified"] is False


@pytest.mark.parametrize(
    ("objective", "risk"),
    [
        ([[1.0, -3.0], None], [[0.5, 2.0], [4.0]]),
        ([[1.0, -3.0], [2.0]], [None, [-4.0]]),
        ([[1.0, -3.0], None], [[0.5, 2.0], None]),
        ([None, [2.0]], [[1.0, 1.0], None]),
    ],
    ids=["no objective", "no risk", "neither", "no overlap"],
)
@pytest.mark.parametrize("retain", [Retain("none"), GD], ids=["ga", "gd"])
@pytest.mark.parametrize("tau", [None, 0.5])
def test_a_missing_gradient_counts_as_zero(
    objective: list[Vector | None], risk: list[Vector | None], retain: Retain, tau: float | None
) -> None:
    terms, sizes = GA(retain=retain).terms(), (2, 1)

    def run(zeros: bool) -> tuple[Rectified, list[list[float] | None]]:
        state: RectifierState = {}
        for _ in range(2):  # the second step meets a mean
            given = [
                _gradient(
                    *(
                        [0.0] * n if zeros and part is None else part
                        for part, n in zip(side, sizes, strict=True)
                    )
                )
                for side in (objective, risk)
            ]
            done = _rectify(GRU(tau=tau), *given, state, terms)
        return done, [None if part is None else part.tolist() for part in done.gradient]

    missing, found = run(zeros=False)
    explicit, expected = run(zeros=True)
    assert missing.facts == pytest.approx(explicit.facts)
    for mine, theirs, o, r in zip(found, expected, objective, risk, strict=True):
        if o is None and r is None:
            assert mine is None  # weight decay must not start on it either
        elif mine is None:
            assert theirs == [0.0] * len(theirs)
        else:
            assert mine == pytest.approx(theirs, rel=RTOL, abs=ATOL)


def test_gamma_one_keeps_no_memory() -> None:
    state: RectifierState = {}
    _rectify(GRU(gamma=1.0), _gradient([1.0, 1.0]), _gradient([5.0, -7.0]), state)
    later = _rectify(GRU(gamma=1.0), _gradient([1.0, -3.0]), _gradient([0.0, 2.0]), state)
    _close(later.gradient, [1.0, 0.0])


def test_without_conflict_gru_is_the_plain_method() -> None:
    """gamma 1, no tau: bit for bit the gradient it was given."""
    gradient = _gradient([0.1, 0.7, -0.3])
    done = _rectify(GRU(gamma=1.0), gradient, _gradient([0.1, 0.7, -0.3]))
    assert _flat(done.gradient) == [0.1, 0.7, -0.3]


@pytest.mark.parametrize("cos_clip", [False, True])
def test_without_retain_gradient_nothing_is_removed(cos_clip: bool) -> None:
    for risk in (_gradient([0.0, 0.0]), _gradient(None)):
        done = _rectify(GRU(cos_clip=cos_clip), _gradient([1.0, -1.0]), risk)
        _close(done.gradient, [1.0, -1.0])
        assert done.facts["cosine"] is None
        assert done.facts["rectified"] is False


@pytest.mark.parametrize("weight", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("clip", ["after", "before"])
def test_a_shared_risk_is_added_back_with_its_weight(weight: float, clip: Any) -> None:
    gru = GRU(gamma=0.6, tau=2.0, clip=clip)
    forget, risk = np.array([1.0, -5.0, 2.0]), np.array([0.5, 1.0, -0.2])
    shared, apart = ({}, {})
    for _ in range(2):
        two = _rectify(
            gru,
            _gradient(forget.tolist()),
            _gradient(risk.tolist()),
            shared,
            GA(retain=Retain("nll", weight)).terms(),
        )
        whole = _gradient((forget + weight * risk).tolist())
        one = _rectify(gru, whole, _gradient(risk.tolist()), apart)
        _close(two.gradient, _flat(one.gradient))
        assert two.facts == pytest.approx(one.facts)
    _close(shared[MEAN], _flat(apart[MEAN]))


FORGET, BOTH = ["forget"], ["forget", "retain"]


@pytest.mark.parametrize(
    ("method", "risk", "objective", "watched", "unit"),
    [
        ("ga", "nll", FORGET, NLL(), "token"),
        ("ga", "kl", FORGET, KL(), "token"),
        ("gd", "nll", FORGET, NLL(), "token"),
        ("gd", "kl", BOTH, KL(), "token"),
        ("gd, weight 3", "nll", FORGET, NLL(), "token"),
        ("ga + kl", "nll", BOTH, NLL(), "token"),
        ("ga + kl", "kl", FORGET, KL(), "token"),
        ("npo", "nll", FORGET, NLL(), "token"),
        ("npo", "kl", FORGET, KL(), "token"),
        ("npo + gd", "nll", FORGET, NLL(), "token"),
        ("npo + gd", "kl", BOTH, KL(), "token"),
        ("npo + kl", "nll", BOTH, NLL(), "token"),
        ("npo + kl", "kl", FORGET, KL(), "token"),
        ("gd, rows", "nll", FORGET, NLL(), "row"),  # the term moves with its own unit
        ("gd, rows", "kl", BOTH, KL(), "token"),
    ],
)
def test_groups(method: str, risk: Any, objective: list[str], watched: Any, unit: str) -> None:
    """A retain term that is the risk moves to the risk's pass; any other stays where it was."""
    terms = METHODS[method].terms()
    kept, apart = GRU(risk=risk).groups(terms)
    assert kept.terms == tuple(term for term in terms if term.name in objective)
    assert apart.terms == (Term("retain_risk", "retain", watched, 1.0, unit),)
    assert len({kept.name, apart.name}) == 2


@pytest.mark.parametrize("method", METHODS)
def test_plain_keeps_nothing_apart(method: str) -> None:
    terms = METHODS[method].terms()
    (group,) = NoRectifier().groups(terms)
    assert group.terms == terms
    gradient = _gradient([3.0, -4.0])
    assert NoRectifier().rectify({group.name: gradient}, terms, {}, _space(2)).gradient is gradient


def test_only_a_tau_takes_the_place_of_the_recipes_clip() -> None:
    assert GRU(tau=1.0).bounds_norm
    assert not GRU().bounds_norm
    assert not NoRectifier().bounds_norm


@pytest.mark.parametrize("gamma", [0.8, 1.0])
def test_an_overflowing_retain_gradient_is_forgotten(gamma: float):
    """One infinite retain gradient passes the objective through and does not turn GRU off."""
    space = GradientSpace([nn.Parameter(torch.zeros(2, dtype=torch.float64))])
    state: dict[str, object] = {}
    rectified = []
    for risk in ([math.inf, 0.0], [0.0, 2.0]):
        gradients = {
            "objective": [torch.tensor([1.0, -3.0], dtype=torch.float64)],
            "risk": [torch.tensor(risk, dtype=torch.float64)],
        }
        rectified.append(GRU(gamma=gamma).rectify(gradients, (), state, space))
    assert [r.facts["rectified"] for r in rectified] == [False, True]
    assert rectified[0].gradient[0].tolist() == [1.0, -3.0]
    assert rectified[1].gradient[0].tolist() == pytest.approx([1.0, 0.0], abs=1e-12)
