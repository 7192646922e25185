"""Influence against retraining where both can be had exactly; by the script of the same name."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.long]


@pytest.fixture(scope="module")
def bench() -> Any:
    """Sixty rows: of ten, one is a tenth of the risk, and too much for a first order."""
    from influence_retraining import Bench

    return Bench(rows=60, l2=1e-2, rank=1, seed=0)


@pytest.mark.parametrize(("task", "cosine"), [("remove", 0.8), ("correct_response", 0.65)])
def test_edits_go_where_retraining_goes(bench: Any, task: str, cosine: float) -> None:
    """Of a row put right the loss changes as retrained, by weights that are less alike."""
    from influence_retraining import compare

    found = compare(bench, 4, task)
    print(found)
    assert found["gradient_left"] < 1e-5
    assert found["right_sign"] == 1, "removed rows get worse, corrected ones better"
    assert found["more_than_random"] == 1
    assert found["median_cosine"] > cosine
    assert found["median_error"] < 0.4
    assert found["rank_correlation"] > 0.8


def test_a_small_request_is_predicted_to_first_order(bench: Any) -> None:
    """A twentieth of a row: what is left of the distance is the second order."""
    from influence_retraining import compare

    found = compare(bench, 3, "remove", share=0.05)
    assert found["median_cosine"] > 0.99
    assert found["median_relative_distance"] < 0.1
    assert found["rank_correlation"] > 0.99
