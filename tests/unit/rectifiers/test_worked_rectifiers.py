"""PCGrad, SAGO and BLUR by hand, from their formulas; GRU's scopes, auxiliary terms, unbiased mean.

g is the forget gradient, r the retain gradient; `share` 0 is a method whose retain rows are only
watched, so that r decides and is not stepped with.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from helpers.oracles import read_oracles
from helpers.rectifiers import ALONE, BOTH, flat, gradient, rectified
from torch import nn

from unlearn_runner.methods.base import Retain, Term
from unlearn_runner.methods.ga import GA
from unlearn_runner.methods.losses import KL, NLL
from unlearn_runner.models.gradients import GradientSpace
from unlearn_runner.rectifiers.base import Rectifier
from unlearn_runner.rectifiers.blur import BLUR
from unlearn_runner.rectifiers.gru import GRU
from unlearn_runner.rectifiers.pcgrad import PCGrad
from unlearn_runner.rectifiers.sago import SAGO
from unlearn_runner.rectifiers.sides import NOISE

A, B = [1.0, -2.0], [4.0, 1.0]
RA, RB = [0.0, 1.0], [0.5, 1.0]
"""Two tensors: the first conflicts, -2; the second does not, 3; together they do not, 1."""
PREFER = SAGO(where_agreed="both")


def close(found: Any, expected: list[float]) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("rectifier", "forget", "retain", "stepped", "watched"),
    [
        # <g,r> = -4, <r,r> = 2: g + 2 r = (1, 1), and + r.
        (PCGrad(), [[3.0, -1.0]], [[-1.0, 1.0]], [0, 2], [1, 1]),
        # <g,r> = -6, <r,r> = 5: g + 1.2 r.
        (PCGrad(), [[2.0, 0.0, -3.0]], [[0.0, 1.0, 2.0]], [2, 2.2, 1.4], [2, 1.2, -0.6]),
        (PCGrad(), [[1.0, -2.0]], [[0.0, 0.0]], [1, -2], [1, -2]),
        (PCGrad(), [[-2.0, 4.0]], [[1.0, -2.0]], [1, -2], [0, 0]),  # opposite: r is left
        (PCGrad(), [A, B], [RA, RB], [1, -1, 4.5, 2], [1, -2, 4, 1]),
        (PCGrad("nll", "tensor"), [A, B], [RA, RB], [1, 1, 4.5, 2], [1, 0, 4, 1]),
        # <r,g> = 2, <g,g> = 2: r - g = (1, -1), and + g.
        (BLUR(), [[1.0, 1.0]], [[2.0, 0.0]], [2, 0], [1, 1]),
        # <r,g> = -3, <g,g> = 9: r + g / 3.
        (BLUR(), [[1.0, 2.0, 2.0]], [[-3.0, 0.0, 0.0]], [-5 / 3, 8 / 3, 8 / 3], [1, 2, 2]),
        (BLUR(), [[0.0, 0.0]], [[1.0, 2.0]], [1, 2], [0, 0]),
        (BLUR(), [[3.0, 0.0]], [[0.0, -2.0]], [3, -2], [3, 0]),  # orthogonal: the plain sum
        # <r,g> = 1 of <g,g> = 5 in all; -1 of 1 and 2 of 4 in the parts.
        (
            *(BLUR(), [[1.0, 0.0], [0.0, 2.0]], [[-1.0, 2.0], [1.0, 1.0]]),
            *([-0.2, 2, 1, 2.6], [1, 0, 0, 2]),
        ),
        (
            *(BLUR("nll", "tensor"), [[1.0, 0.0], [0.0, 2.0]], [[-1.0, 2.0], [1.0, 1.0]]),
            *([1, 2, 1, 2], [1, 0, 0, 2]),
        ),
        # Opposite signs in the first number alone: zero opposes nothing.
        (SAGO(), [[1.0, -2.0, 0.0, 3.0]], [[-4.0, -1.0, 5.0, 0.0]], [-4, -2, 0, 3], [0, -2, 0, 3]),
        (PREFER, [[1.0, -2.0, 0.0, 3.0]], [[-4.0, -1.0, 5.0, 0.0]], [-4, -3, 5, 3], [0, -2, 0, 3]),
        (SAGO(), [[3.0, -1.0]], [[-1.0, 1.0]], [-1, 1], [0, 0]),
        # Where a tensor has no gradient of one side, nothing is opposed there.
        (PREFER, [None, [1.0]], [[-2.0], [-3.0]], [-2, -3], [0, 0]),
        (SAGO(), [[-2.0], [1.0]], [None, [-3.0]], [-2, -3], [-2, 0]),
        (PCGrad(), [None, [1.0]], [[1.0], [-1.0]], [1.5, -0.5], [0.5, 0.5]),
    ],
)
def test_by_hand(
    rectifier: Rectifier, forget: Any, retain: Any, stepped: list[float], watched: list[float]
) -> None:
    for terms, expected in ((BOTH, stepped), (ALONE, watched)):
        done = rectified(rectifier, forget, retain, terms)
        close(flat(done.gradient), expected)
        if done.norm is not None:
            assert done.norm == pytest.approx(math.hypot(*expected), rel=1e-12, abs=1e-7)


@pytest.mark.parametrize(
    ("rectifier", "expected"),
    [
        # c g = (6, -2), a r = (-.5, .5): c (g + 2 r) + a r.
        (PCGrad(), [1.5, 2.5]),
        # <a r, c g> = -4, <c g, c g> = 40: c g + a r + .1 c g.
        (BLUR(), [6.1, -1.7]),
        (SAGO(), [-0.5, 0.5]),
    ],
    ids=repr,
)
def test_sides_count_as_the_method_weighs_them(rectifier: Rectifier, expected: Any) -> None:
    terms = GA(Retain("nll", 0.5), weight=2.0).terms()
    close(flat(rectified(rectifier, [[3.0, -1.0]], [[-1.0, 1.0]], terms).gradient), expected)


@pytest.mark.parametrize("rectifier", [PCGrad(), PREFER, BLUR()], ids=repr)
def test_both_sides_of_groups(rectifier: Rectifier) -> None:
    """All retain terms are one side, however many; what mixes both is of the forget side."""
    forget, mixed = Term("forget", "forget", NLL(), -1.0), Term("both", "mixed", NLL())
    retain = (Term("retain", "retain", NLL(), 0.5), Term("near", "retain", KL(), 2.0))
    first, second = rectifier.groups((retain[0], forget, mixed, retain[1]))
    assert (first.terms, second.terms) == ((forget, mixed), retain)
    first, second = rectifier.groups((forget, mixed))
    assert first.terms == (forget, mixed)
    assert second.terms == (Term("retain_risk", "retain", NLL(), 1.0, "token"),)


@pytest.mark.parametrize(
    ("rectifier", "forget", "retain", "acted", "share"),
    [
        (SAGO(), [[1.0, 2.0]], [[0.0, 0.0]], False, 0.0),
        (SAGO(), [[1.0, 2.0]], [[1.0, 0.0]], True, 0.0),  # r is left out: not the plain sum
        (PREFER, [[1.0, 2.0]], [[1.0, 0.0]], False, 0.0),
        (PREFER, [[1.0, 2.0, 1.0, 1.0], None], [[1.0, 0.0, -1.0, 2.0], None], True, 0.25),
        # The sum's length is that of g: 0 = 1 - 1, and yet another gradient.
        (PREFER, [[1.0, 1.0]], [[-2.0, 0.0]], True, 0.5),
    ],
)
def test_sago_says_what_is_opposed(
    rectifier: Rectifier, forget: Any, retain: Any, acted: bool, share: float
) -> None:
    done = rectified(rectifier, forget, retain)
    assert done.facts["rectified"] is acted
    assert done.facts["opposed"] == share


def test_signs_are_compared_not_a_product_that_vanishes() -> None:
    done = rectified(SAGO(), [[1e-30, 1.0]], [[-1e-30, 1.0]], dtype=torch.float32)
    assert done.facts["opposed"] == 0.5
    assert flat(done.gradient) == [pytest.approx(-1e-30), 1.0]


# --- a retain gradient that says nothing


@pytest.mark.parametrize("rectifier", [PCGrad(), PREFER, SAGO(), BLUR()], ids=repr)
@pytest.mark.parametrize("times", [0.1, 10.0])
def test_rounding_of_a_distance_to_the_start_model_is_no_direction(
    rectifier: Rectifier, times: float
) -> None:
    """Of KL it is one where it is longer than rounding; of NLL whatever its length."""
    length = times * NOISE
    forget, retain = [[1.0, -1.0]], [[-length, length / 2]]
    terms = GA(Retain("kl")).terms()
    done = rectified(rectifier, forget, retain, terms)
    assert done.facts["rectified"] is (times > 1)
    if times < 1:
        close(flat(done.gradient), [1 - length, length / 2 - 1])
    assert rectified(rectifier, [[1.0, -1.0]], [[-length, 0.0]]).facts["rectified"] is True


@pytest.mark.parametrize("rectifier", [PCGrad(), PREFER, SAGO(), BLUR()], ids=repr)
def test_an_overflow_of_what_is_only_watched_changes_nothing(rectifier: Rectifier) -> None:
    for wrong in (math.inf, math.nan):
        done = rectified(rectifier, [[1.0, -1.0]], [[wrong, 1.0]], ALONE)
        assert flat(done.gradient) == [1.0, -1.0]
        assert done.facts["rectified"] is False
        assert done.norm is None, "the engine measures it"


def test_an_overflow_in_one_tensor_leaves_the_others_rectified() -> None:
    forget, retain = [[1.0, -2.0], [1.0]], [[0.0, 1.0], [math.inf]]
    done = rectified(PCGrad(scope="tensor"), forget, retain, ALONE)
    close(flat(done.gradient), [1, 0, 1])


# --- GRU


def test_gru_per_tensor() -> None:
    """The oracle's wrong answer for the whole is the right one of this scope."""
    case = read_oracles("gru_geffect")["global_vs_per_tensor"]
    forget, retain = ([case[side][name] for name in "AB"] for side in ("g_u", "g_r"))
    for scope, key in (("whole", "global_out"), ("tensor", "per_tensor_out")):
        done = rectified(GRU(gamma=1.0, scope=scope), forget, retain, ALONE)
        close(flat(done.gradient), [*case[key]["A"], *case[key]["B"]])
        assert done.facts["cosine"] == pytest.approx(1 / math.sqrt(22 * 2.25), rel=1e-12)
        assert done.facts["conflict"] is False, "of the whole, whatever the scope"
        assert done.facts["rectified"] is (scope == "tensor")
        left = math.sqrt(18 / 22) if scope == "tensor" else 1.0
        assert done.facts["surviving_norm"] == pytest.approx(left, rel=1e-12)


NAMED = ("model.embed_tokens.weight", "model.layers.0.a", "model.layers.0.b", "lm_head.weight")


def test_gru_per_layer_group() -> None:
    """Both tensors of the block are one vector: -2 + 3 is no conflict; embedding and head are."""
    forget, retain = [[1.0, -1.0], A, B, [-3.0]], [[0.0, 2.0], RA, RB, [5.0]]
    done = rectified(GRU(gamma=1.0, scope="group"), forget, retain, ALONE, names=NAMED)
    close(flat(done.gradient), [1, 0, *A, *B, 0])
    whole = rectified(GRU(gamma=1.0), forget, retain, ALONE, names=NAMED)
    # -2 + 1 - 15 of 4 + 2.25 + 25
    times = 16 / 31.25
    expected = np.array([1, -1, *A, *B, -3]) + times * np.array([0, 2, *RA, *RB, 5])
    close(flat(whole.gradient), expected.tolist())


def test_gru_bounds_the_whole_whatever_the_scope() -> None:
    """tau 1, before: (1, -2), (4, 1) shortened by sqrt(22); after: (1, 0), (4, 1) by sqrt(18)."""
    for clip, length in (("before", 22), ("after", 18)):
        gru = GRU(gamma=1.0, scope="tensor", tau=1.0, clip=clip)  # pyright: ignore
        done = rectified(gru, [A, B], [RA, RB], ALONE)
        found = np.array([1, 0, 4, 1]) / (math.sqrt(length) + 1e-6)
        close(flat(done.gradient), found.tolist())


def aux_step(gru: GRU, risk: list[float], **now: list[float]) -> list[float]:
    """One step of the oracle's third kind: the mean is given, and what is added is this step's."""
    case = read_oracles("gru_geffect")["aux_terms"]
    space = GradientSpace([nn.Parameter(torch.zeros(3, dtype=torch.float64))])
    # gamma on the newest: the mean before it that makes the mean the oracle's.
    before = (np.array(case["g_r_ema"]) - gru.gamma * np.array(risk)) / (1 - gru.gamma)
    state = {"mean": gradient([before.tolist()])}
    slopes = {"objective": case["g_u"], "risk": risk, **now}
    names = [group.name for group in gru.groups(ALONE)]
    assert names == list(slopes)
    gradients = {name: gradient([numbers]) for name, numbers in slopes.items()}
    return flat(gru.rectify(gradients, ALONE, state, space).gradient)


def test_gru_adds_auxiliary_terms_after_the_projection() -> None:
    case = read_oracles("gru_geffect")["aux_terms"]
    kl, now = case["g_kl"], case["g_r_now"]
    close(aux_step(GRU(), now), case["rectified"])
    close(aux_step(GRU(aux_kl=1.0), now, aux_kl=kl), case["plus_KL_coef1"])
    close(aux_step(GRU(aux_ce=1.0), now), case["plus_ce_coef1"])
    # Where KL is the risk, the KL term is the risk's own gradient and the NLL has the extra pass.
    close(aux_step(GRU(risk="kl", aux_kl=1.0), now), case["plus_ce_coef1"])
    close(aux_step(GRU(risk="kl", aux_ce=1.0), now, aux_ce=kl), case["plus_KL_coef1"])
    both = 2.0 * np.array(kl) + 3.0 * np.array(now) + np.array(case["rectified"])
    close(aux_step(GRU(aux_kl=2.0, aux_ce=3.0), now, aux_kl=kl), both.tolist())


@pytest.mark.parametrize("gamma", [0.3, 1.0])
def test_what_is_added_in_a_first_step_is_not_the_mean(gamma: float) -> None:
    """The mean takes the risk's place in memory where nothing else wants that."""
    gru, state = GRU(gamma=gamma, aux_ce=2.0), {}
    for _ in range(2):
        done = rectified(gru, [[1.0, -3.0]], [[0.0, 2.0]], ALONE, state)
        close(flat(done.gradient), [1, 4])


def test_auxiliary_terms_leave_the_telemetry_of_the_projection_and_are_bounded() -> None:
    plain = rectified(GRU(), [[1.0, -3.0]], [[0.0, 2.0]], ALONE)
    more = rectified(GRU(aux_ce=2.0, tau=1.0), [[1.0, -3.0]], [[0.0, 2.0]], ALONE)
    assert more.facts == plain.facts
    assert math.hypot(*flat(more.gradient)) == pytest.approx(1.0, rel=1e-5)


def test_an_auxiliary_term_has_the_unit_of_the_methods_own() -> None:
    terms = GA(Retain("kl"), "sequence_sum").terms()
    groups = GRU(aux_kl=1.0).groups(terms)
    assert [group.name for group in groups] == ["objective", "risk", "aux_kl"]
    assert groups[0].terms == terms, "the method's own KL is projected as before"
    assert groups[2].terms == (Term("aux_kl", "retain", KL(), 1.0, "row"),)


@pytest.mark.parametrize("gamma", ["0.8", "0.3", "1.0"])
def test_an_unbiased_mean_changes_what_is_said_of_its_length_alone(gamma: str) -> None:
    oracle = read_oracles("gru_geffect")["ema"]
    means = oracle["by_gamma"][gamma]["code_convention_gamma_on_new"]
    biased, unbiased = ({}, {})
    for step, (mean, r) in enumerate(zip(means, oracle["inputs"], strict=True), 1):
        g = [[1.0, -3.0 + step]]
        one = rectified(GRU(gamma=float(gamma)), g, [r], ALONE, biased)
        gru = GRU(gamma=float(gamma), bias_correction=True)
        two = rectified(gru, g, [r], ALONE, unbiased)
        assert flat(two.gradient) == flat(one.gradient)
        length = math.hypot(*mean) / (1 - (1 - float(gamma)) ** step)
        assert two.facts == {**one.facts, "retain_norm": pytest.approx(length, rel=1e-9)}
    assert unbiased["steps"] == 3


def test_a_mean_that_overflowed_is_counted_from_the_start_again() -> None:
    state, gru = {}, GRU(gamma=0.5, bias_correction=True)
    for r in ([1.0, 1.0], [math.inf, 1.0], [0.0, 2.0]):
        done = rectified(gru, [[1.0, -3.0]], [r], ALONE, state)
    assert state["steps"] == 1
    assert done.facts["retain_norm"] == pytest.approx(2.0)
