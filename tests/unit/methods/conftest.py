"""The oracles' worked example of losses, shared by the tests of all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from helpers.oracles import read_oracles


@pytest.fixture(scope="session")
def oracles() -> dict[str, Any]:
    """The losses of `gru_geffect.json`: inputs, and what they come to."""
    return read_oracles("gru_geffect")["losses"]


@pytest.fixture(scope="session")
def results(oracles: dict[str, Any]) -> dict[str, Any]:
    return oracles["results"]


@pytest.fixture(scope="session")
def example(oracles: dict[str, Any]) -> Any:
    # Imported here: most tests of this folder need no torch.
    from examples import Example

    return Example.of(oracles["inputs"])


@pytest.fixture(scope="session")
def judge(example: Any) -> Callable[[Any], Any]:
    """Returns a method's objective, and its gradient with respect to each split's logits."""
    return example.judge
