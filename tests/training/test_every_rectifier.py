"""Every method that has a loop with every rectifier, composed from the command line's words.

By default as many pairs as there are methods or rectifiers, whichever are more: each occurs, and
`make test-long` has all other pairs.
"""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import pytest
from helpers.rectifiers import EVERY_RECTIFIER, FACTS, Case
from test_every_method import MORE, ONE_SHOT, TRAINED, Place, place

from unlearn_runner.api import compose
from unlearn_runner.errors import ConfigError

__all__ = ["place"]  # the fixture

ROUND = max(len(TRAINED), len(EVERY_RECTIFIER))
SOME = {
    (TRAINED[i % len(TRAINED)], EVERY_RECTIFIER[i % len(EVERY_RECTIFIER)].name)
    for i in range(ROUND)
}
PAIRS = [
    pytest.param(
        *(method, case),
        id=f"{method}-{case.name}",
        marks=[] if (method, case.name) in SOME else [pytest.mark.long],
    )
    for method, case in product(TRAINED, EVERY_RECTIFIER)
]
QUICK = ("train.steps=2", "train.batch_size=4", "keep=scores")


def test_each_occurs_by_default() -> None:
    assert {method for method, _ in SOME} == set(TRAINED)
    assert {name for _, name in SOME} == {case.name for case in EVERY_RECTIFIER}


@pytest.mark.parametrize(("method", "case"), PAIRS)
def test_two_steps(place: Place, method: str, case: Case) -> None:
    words = (f"method={method}", *case.overrides, *MORE.get(method, ()), *QUICK)
    done, steps, _ = place.unlearn(f"{method}-{case.name}", *words)
    stage: Any = done[-1].stage
    assert stage.rectifier == case.rectifier
    assert done[-1].outcome == "completed"
    assert [line["step"] for line in steps] == [1, 2]
    for line in steps:
        said: dict[str, Any] = {name: line[name] for name in FACTS}
        assert all(math.isfinite(value) for value in said.values() if value is not None), said
        assert isinstance(said["conflict"], bool)
        assert isinstance(said["rectified"], bool)
        assert said["cosine"] is None or -1.001 <= said["cosine"] <= 1.001
        assert said["surviving_norm"] >= 0
        assert said["objective_norm"] > 0


@pytest.mark.parametrize("option", sorted({case.overrides[0] for case in EVERY_RECTIFIER}))
def test_what_has_no_loop_refuses_them_in_one_line(option: str) -> None:
    for method in ONE_SHOT:
        with pytest.raises(ConfigError, match="has no gradients to rectify") as found:
            compose("debug=tiny", f"method={method}", option)
        reason, fix = str(found.value).splitlines()
        assert reason.startswith("error: rectifier: method ")
        assert fix == "fix: rectifier=none"
