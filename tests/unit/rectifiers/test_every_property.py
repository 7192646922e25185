"""What every rectifier promises: no conflict, order, length, float64; the line it adds to a table.

The table is `helpers/rectifiers.py`.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from helpers.rectifiers import (
    ALONE,
    BOTH,
    EVERY_RECTIFIER,
    FACTS,
    NAMES,
    Case,
    Slopes,
    flat,
    rectified,
)

from unlearn_runner.config.groups import groups
from unlearn_runner.rectifiers.base import RectifierState

PARTS = ("model.embed_tokens.weight", "model.layers.0.q", "model.layers.1.q", "model.norm.weight")
SIZES = (3, 2, 4, 1)
every = pytest.mark.parametrize("case", EVERY_RECTIFIER, ids=NAMES)
sides = pytest.mark.parametrize("terms", [BOTH, ALONE], ids=["both", "watched"])


def drawn(seed: int, sign: bool = False) -> list[list[float]]:
    """Returns a gradient of random numbers; with `sign`, all positive."""
    generator = np.random.default_rng(seed)
    found = [generator.normal(size=size) for size in SIZES]
    return [(np.abs(x) if sign else x).tolist() for x in found]


def opposed(slopes: Slopes) -> list[list[float]]:
    """Returns a shorter gradient that conflicts, but not in every number."""
    other = drawn(7)
    pairs = zip(slopes, other, strict=True)
    return [[y / 9 - x / 9 for x, y in zip(a, b, strict=True)] for a, b in pairs if a is not None]


def test_every_option_has_a_line() -> None:
    options = {f"rectifier={name}" for name in groups()["rectifier"] if name != "none"}
    assert options == {case.overrides[0] for case in EVERY_RECTIFIER}
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize("case", [c for c in EVERY_RECTIFIER if c.unopposed], ids=lambda c: c.name)
@sides
def test_what_it_gives_where_nothing_conflicts(case: Case, terms: tuple) -> None:
    assert case.unopposed is not None
    forget, retain = drawn(1, sign=True), drawn(2, sign=True)
    done = rectified(case.rectifier, forget, retain, terms, names=PARTS)
    g, r = np.concatenate(forget), np.concatenate(retain)
    expected = case.unopposed(g, r, 1.0 if terms is BOTH else 0.0)
    np.testing.assert_allclose(flat(done.gradient), expected, rtol=1e-12)
    assert done.facts["conflict"] is False
    plain = g + r if terms is BOTH else g
    assert done.facts["rectified"] is not np.allclose(expected, plain, rtol=1e-9)


@every
@sides
def test_telemetry(case: Case, terms: tuple) -> None:
    forget = drawn(1)
    done = rectified(case.rectifier, forget, opposed(forget), terms, names=PARTS)
    assert set(FACTS) <= done.facts.keys()
    assert done.facts["conflict"] is True
    assert -1 < done.facts["cosine"] < 0
    assert done.facts["objective_norm"] > 0
    assert done.facts["retain_norm"] > 0
    assert done.facts["surviving_norm"] >= 0
    if done.norm is not None:
        assert done.norm == pytest.approx(math.hypot(*flat(done.gradient)), rel=1e-6)


@every
@sides
def test_the_order_of_parameters_changes_nothing(case: Case, terms: tuple) -> None:
    order = (2, 0, 3, 1)
    states: list[RectifierState] = [{}, {}]
    for step in range(3):
        forget = drawn(step)
        retain = opposed(forget)
        one = rectified(case.rectifier, forget, retain, terms, states[0], names=PARTS)
        moved = ([x[i] for i in order] for x in (forget, retain, PARTS))
        two = rectified(case.rectifier, *list(moved)[:2], terms, states[1], names=named(order))
        back = [two.gradient[order.index(i)] for i in range(len(order))]
        np.testing.assert_allclose(
            flat(back), flat(one.gradient), rtol=case.precision, atol=case.precision / 100
        )
        assert two.facts == pytest.approx(one.facts, rel=max(1e-9, case.precision))


def named(order: tuple[int, ...]) -> list[str]:
    return [PARTS[i] for i in order]


@every
@pytest.mark.parametrize("times", [1e-3, 1e3])
def test_of_a_watched_gradient_the_direction_counts(case: Case, times: float) -> None:
    states: list[RectifierState] = [{}, {}]
    same = []
    for step in range(3):
        forget = drawn(step)
        retain = opposed(forget)
        longer = [[times * x for x in part] for part in retain]
        one = rectified(case.rectifier, forget, retain, ALONE, states[0], names=PARTS)
        two = rectified(case.rectifier, forget, longer, ALONE, states[1], names=PARTS)
        same.append(np.allclose(flat(two.gradient), flat(one.gradient), rtol=1e-9, atol=1e-12))
        assert two.facts["cosine"] == pytest.approx(one.facts["cosine"], rel=1e-9)
    assert case.ignores_length in (all(same), None)


@every
@pytest.mark.parametrize("x", [1.25390625, 1.2578125])
def test_inner_products_are_of_float64(case: Case, x: float) -> None:
    """<g, r> is -x / 2; in float32 both large products round to one number, and it is x / 2.

    So it is of a running mean, a multiple of r.
    """
    forget, retain = [[-16777215.0, 16777214.0, 0.5]], [[x, x, x]]
    for times in (1.0, 0.8):
        products = torch.tensor(forget) * (times * torch.tensor(retain))
        assert float(products.sum()) > 0, "else this would show nothing"
    done = rectified(case.rectifier, forget, retain, ALONE, dtype=torch.float32)
    assert done.facts["conflict"] is True
    lengths = math.hypot(*forget[0]) * math.hypot(*retain[0])
    assert done.facts["cosine"] == pytest.approx(-x / 2 / lengths, rel=1e-6)
