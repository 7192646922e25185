"""Search: propose, run, score on the validation part, propose again.

Optuna's tree-structured Parzen estimator proposes, without a memory: each batch's sampler is made
anew, seeded by the search's seed and the batch's number, and given all trials so far. So a proposal
is a function of those, and there is no study on disk. Trials are jobs in folders named by their
overrides, so the same command repeats the same proposals: what is finished is read, and the first
unfinished one is run.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from unlearn_runner.config.sweep import Choice, Range, Search
from unlearn_runner.errors import ConfigError, as_value
from unlearn_runner.evaluation.metrics.scores import SEEDS
from unlearn_runner.pipeline.inputs import Rowsets
from unlearn_runner.sweeps.grid import Grid
from unlearn_runner.sweeps.jobs import SweepJob, planned_jobs, same_mistake
from unlearn_runner.sweeps.monitor import SweepMonitor
from unlearn_runner.sweeps.selection import Selection
from unlearn_runner.utils import signals
from unlearn_runner.utils.files import finite, write_json

FILE = "search.json"
WORST = 2.0
"""Loss of a setting that cannot win at all; of one that keeps too little, from 1 on."""

RunJobs = Callable[[Sequence[SweepJob]], None]
"""Runs the jobs that are not finished."""
Setting = dict[str, Choice]
DIGITS = 4
"""Of a proposed number: what a folder's name has room for."""


@dataclass(frozen=True)
class Trial:
    """A setting that was tried."""

    setting: Setting
    loss: float
    """Less is better; only the order of losses matters."""


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
    create = optuna.trial.create_trial
    for trial in tried:
        study.add_trial(create(params=trial.setting, distributions=ranges, value=trial.loss))
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


@dataclass
class SearchLoop:
    """Search and its trials so far."""

    grid: Grid
    search: Search
    selection: Selection
    rowsets: dict[str, Rowsets]
    """The rows, read once."""
    tried: list[Trial] = field(default_factory=list)
    _seen: dict[str, SweepJob] = field(default_factory=dict)

    @property
    def space(self) -> dict[str, Range]:
        """The search space less what the command line sets."""
        given = self.grid.given
        return {k: v for k, v in self.search.space.items() if v is not None and k not in given}

    def check(self) -> None:
        """Refuses a search of nothing, axes that a search cannot have, and a lack of Optuna.

        Raises:
            ConfigError: Saying so.
        """
        others = [key for key in self.grid.typed if key not in SEEDS]
        if others:
            key = others[0]
            raise ConfigError(
                f"{key}: a search has no axis beside its seeds, it proposes values",
                f"++sweep.space={{{key}: {{choices: [...]}}}}",
            )
        if not self.space:
            raise ConfigError(
                "sweep.space has nothing to search that the command line leaves open",
                "'++sweep.space={train.lr: {low: 1e-5, high: 1e-3, log: true}}'",
            )
        if importlib.util.find_spec("optuna") is None:
            raise ConfigError(
                "sweep=search needs optuna, which is not installed",
                "pip install 'unlearn-runner[search]'",
            )

    def next(self) -> list[tuple[Setting, list[SweepJob]]]:
        """Proposes a batch, and plans its jobs.

        Raises:
            UserError: For a mistake that all of the first batch share.
        """
        count = min(self.search.batch, self.search.trials - len(self.tried))
        with self.grid.opened():
            settings = propose(self.search, self.space, self.tried, count)
            found = [(setting, self._jobs(setting)) for setting in settings]
        jobs = [job for _, jobs in found for job in jobs]
        if not self.tried and (mistake := same_mistake(jobs)) is not None:
            raise mistake
        return found

    def _jobs(self, setting: Setting) -> list[SweepJob]:
        axes = [f"{key}={as_value(value)}" for key, value in setting.items()]
        planned = planned_jobs(self.grid, axes, self.rowsets)
        # Rounding and choices may propose the same job again.
        return [self._seen.setdefault(job.identity, job) for job in planned]

    def record(self, batch: Sequence[tuple[Setting, list[SweepJob]]]) -> None:
        """Adds a batch that has ended to the trials, and writes them down."""
        self.tried += (Trial(setting, self._loss(jobs)) for setting, jobs in batch)
        content = {
            "seed": self.search.seed,
            "startup": self.search.startup,
            "batch": self.search.batch,
            "criterion": self.search.select.stated,
            "trials": [{"setting": t.setting, "loss": t.loss} for t in self.tried],
        }
        write_json(self.selection.folder / FILE, finite(content))

    def run(self, monitor: SweepMonitor, run_jobs: RunJobs) -> None:
        """Runs until all trials are done, or a failure ends it."""
        while len(self.tried) < self.search.trials and not monitor.stopped:
            batch = self.next()
            known = {id(job) for job in monitor.jobs}
            new = [job for _, planned in batch for job in planned if id(job) not in known]
            monitor.jobs += new
            run_jobs(new)
            signals.check()
            if any(job.status == "waiting" for job in new):
                return  # ended early: these are to be done first
            self.record(batch)

    def _loss(self, jobs: Sequence[SweepJob]) -> float:
        """Returns the loss of a setting: below 1 where it could win."""
        found = self.selection.evaluate(jobs)
        if found.criterion is None:
            return WORST
        if found.why:
            return 1.0 + self.search.select.keep - found.criterion.kept
        value = found.criterion.value
        return value if self.search.select.lower else 1.0 - value
