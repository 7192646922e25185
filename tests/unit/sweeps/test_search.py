"""What a search proposes: within its space, the same each time, and better than chance."""

from __future__ import annotations

import math
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from unlearn_runner.config.select import Select
from unlearn_runner.config.sweep import Range, Search
from unlearn_runner.errors import ConfigError
from unlearn_runner.sweeps.search import SearchLoop, Setting, Trial, propose

optuna = pytest.importorskip("optuna", reason="optuna is not installed (the extra `search`)")

SPACE = {
    "train.lr": Range(low=1e-5, high=1e-1, log=True),
    "rectifier.gamma": Range(low=0.01, high=0.99),
    "train.epochs": Range(low=1, high=9),
    "method": Range(choices=("ga", "gd", "npo")),
}


def search(seed: int = 0, startup: int = 10) -> Search:
    return Search(seed=seed, startup=startup, select=Select("forgetting"))


def loss(setting: Setting) -> float:
    """Least at lr 1e-3, gamma 0.7, gd; the epochs do not matter."""
    lr, gamma = float(setting["train.lr"]), float(setting["rectifier.gamma"])
    return 0.1 * (math.log10(lr) + 3) ** 2 + (gamma - 0.7) ** 2 + 0.3 * (setting["method"] != "gd")


def course(length: int, batch: int = 1, seed: int = 0) -> list[Trial]:
    tried: list[Trial] = []
    while len(tried) < length:
        new = propose(search(seed), SPACE, tried, min(batch, length - len(tried)))
        tried += [Trial(setting, loss(setting)) for setting in new]
    return tried


def test_proposals_lie_within_the_space_and_are_short() -> None:
    settings = [trial.setting for trial in course(30)]
    for setting in settings:
        assert list(setting) == list(SPACE)
        lr, gamma = setting["train.lr"], setting["rectifier.gamma"]
        assert isinstance(lr, float)
        assert isinstance(gamma, float)
        assert 1e-5 <= lr <= 1e-1
        assert 0.01 <= gamma <= 0.99
        assert float(f"{lr:.4g}") == lr
        assert isinstance(setting["train.epochs"], int)
        assert 1 <= setting["train.epochs"] <= 9
        assert setting["method"] in ("ga", "gd", "npo")
    # By factors: about half of what is drawn at random lies below 1e-3, not a hundredth.
    drawn = [float(s["train.lr"]) for s in settings[:10]]
    assert 2 <= sum(lr < 1e-3 for lr in drawn) <= 8


def test_a_search_goes_on_as_if_it_had_not_been_ended() -> None:
    whole = course(14)
    assert whole == course(14)
    assert whole[:9] == course(9)
    again = propose(search(), SPACE, whole[:9], 1)
    assert again == [whole[9].setting]
    assert course(5, seed=1) != whole[:5]


def test_a_batch_is_of_different_settings() -> None:
    batch = propose(search(startup=4), SPACE, course(12), 4)
    assert len({str(setting) for setting in batch}) == 4
    assert course(12, batch=4) == course(12, batch=4)


def test_it_learns() -> None:
    found = [[trial.loss for trial in course(40, seed=seed)] for seed in range(3)]
    chance = sum(sum(losses[:10]) for losses in found) / 30
    learned = sum(sum(losses[-10:]) for losses in found) / 30
    assert learned < 0.5 * chance


def test_without_optuna_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    grid: Any = SimpleNamespace(typed={}, given=set())
    selection: Any = None
    loop = SearchLoop(grid, Search(space=SPACE, select=Select("forgetting")), selection, {})
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError, match="optuna") as error:
        loop.check()
    assert "pip install" in error.value.fix


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        (Range(low=1), "neither"),
        (Range(), "neither"),
        (Range(low=2, high=1), "not below"),
        (Range(low=1, high=1), "not below"),
        (Range(low=0, high=1, log=True), "not above 0"),
        (Range(low=0, choices=("a",)), "beside"),
    ],
)
def test_a_range_that_is_none_is_refused(wanted: Range, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        Search(space={"train.lr": wanted}, select=Select("forgetting"))
