"""The typed root of a run's configuration: what `conf/config.yaml` must hold, and nothing else.

`Run` is built once in a plain process, frozen, and handed down; no later code reads a raw mapping.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge

from unlearn_runner.benchmarks.base import Benchmark
from unlearn_runner.methods.base import Method
from unlearn_runner.models.base import Model
from unlearn_runner.parallel.base import Parallel
from unlearn_runner.rectifiers.base import Rectifier
from unlearn_runner.tracking.base import Tracker
from unlearn_runner.training.recipe import Recipe


@dataclass(frozen=True)
class Target:
    """The model that knows the forget set, and its retain-only sibling: one recipe for both."""

    train: Recipe
    seed: Annotated[int, Ge(0)] = 0
    """Seed of pre-training and fine-tuning, apart from `seed` so that several unlearning seeds
    share one fine-tune."""


@dataclass(frozen=True)
class Evaluation:
    """How evaluation runs; what it measures is the benchmark's."""

    batch_size: Annotated[int, Ge(1)] = 64
    """Sequences per forward pass and per generation batch. Changes speed, not scores."""


@dataclass(frozen=True)
class Run:
    """One experiment: fine-tune, unlearn, evaluate."""

    model: Model
    benchmark: Benchmark
    method: Method
    rectifier: Rectifier
    train: Recipe
    target: Target
    evaluate: Evaluation
    parallel: Parallel
    tracker: Tracker
    name: str | None = None
    """Name of the run folder; derived from the overrides when null."""
    seed: Annotated[int, Ge(0)] = 0
    """Seed of unlearning: order of the forget rows, retain partners, any draws of a method."""
    output_dir: str | None = None
    """Where runs, sweeps and the store live; `outputs/` beside `conf/` when null."""
    store: str | None = None
    """Where artifacts live; `<output_dir>/store` when null."""
    overwrite: bool = False
    """Allow a run folder of the same name to be replaced by another configuration."""
    plan_only: bool = False
    """Print the stages, their keys and what they read, and stop."""
    trusted: tuple[str, ...] = ()
    """Further packages that `_target_` may name classes from."""
