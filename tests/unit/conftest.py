"""The oracles' worked example of losses, shared by the tests of all of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def oracles(shared: Path) -> dict[str, Any]:
    """The losses of `gru_geffect.json`: inputs, and what they come to."""
    return json.loads((shared / "specs/oracles/gru_geffect.json").read_text())["losses"]


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
