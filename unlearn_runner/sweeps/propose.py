"""Proposals of a search: Optuna's tree-structured Parzen estimator, without a memory.

Each batch's sampler is made anew, seeded by the search's seed and the batch's number, and given all
trials so far. So a proposal is a function of those, and a search that was ended and started again
proposes what it would have proposed.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from unlearn_runner.config.sweep import Choice, Range, Search
from unlearn_runner.errors import ConfigError

Setting = dict[str, Choice]
DIGITS = 4
"""Of a proposed number: what a folder's name has room for."""


@dataclass(frozen=True)
class Trial:
    """A setting that was tried."""

    setting: Setting
    loss: float
    """Less is better; only the order of losses matters."""


def check() -> None:
    """Refuses a search where Optuna is not installed.

    Raises:
        ConfigError: Saying how to install it.
    """
    if importlib.util.find_spec("optuna") is None:
        raise ConfigError(
            "sweep=search needs optuna, which is not installed",
            "pip install 'unlearn-runner[search]'",
        )


def propose(
    search: Search, space: Mapping[str, Range], tried: Sequence[Trial], count: int
) -> list[Setting]:
    """Returns the next settings.

    Args:
        search: Its seed and startup count.
        space: What is searched, by key.
        tried: All trials so far, in the order of their proposals.
        count: How many to propose, each knowing of the others before it.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(
        n_startup_trials=search.startup,
        seed=int.from_bytes(sha256(f"{search.seed}:{len(tried)}".encode()).digest()[:4]),
        constant_liar=True,
    )
    study = optuna.create_study(sampler=sampler, direction="minimize")
    ranges = {key: _distribution(wanted) for key, wanted in space.items()}
    for trial in tried:
        study.add_trial(
            optuna.trial.create_trial(params=trial.setting, distributions=ranges, value=trial.loss)
        )
    proposed = [study.ask(ranges).params for _ in range(count)]
    return [{key: _short(space[key], new[key]) for key in space} for new in proposed]


def _distribution(wanted: Range) -> Any:
    from optuna import distributions as of

    if wanted.choices:
        return of.CategoricalDistribution(wanted.choices)
    whole = isinstance(wanted.low, int) and isinstance(wanted.high, int)
    kind: Any = of.IntDistribution if whole else of.FloatDistribution
    return kind(wanted.low, wanted.high, log=wanted.log)


def _short(wanted: Range, value: Choice) -> Choice:
    """Returns a number with few digits, still within its range."""
    if not isinstance(value, float) or wanted.choices:
        return value
    assert wanted.low is not None
    assert wanted.high is not None
    return float(min(max(float(f"{value:.{DIGITS}g}"), wanted.low), wanted.high))
