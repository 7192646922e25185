"""Cluster: where the jobs of a sweep run. A frozen dataclass and one YAML, like a method."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from unlearn_runner.distributed.base import Parallel
from unlearn_runner.distributed.clusters.spec import JobSpec


class Job(Protocol):
    """One job of a sweep, as far as a cluster needs to know it."""

    @property
    def name(self) -> str:
        """Name, unique in the sweep."""
        ...

    @property
    def folder(self) -> Path:
        """Its run folder."""
        ...

    @property
    def parallel(self) -> Parallel:
        """How it uses a machine."""
        ...

    def spec(self) -> JobSpec:
        """Returns the job as another process can run it."""
        ...

    def written(self, name: str) -> dict[str, Any]:
        """Returns a JSON file of the run folder; empty where there is none."""
        ...

    def run(self) -> int:
        """Runs it in this process, or in ranks that are its children; returns the exit code."""
        ...


class Monitor(Protocol):
    """Receiver of what happens to jobs; says whether further ones may begin."""

    @property
    def stopped(self) -> bool:
        """Whether no further job is to begin."""
        ...

    def begin(self, job: Any) -> None:
        """Notes that a job begins."""
        ...

    def end(self, job: Any, code: int = 0, cause: Exception | str | None = None) -> None:
        """Notes a job's exit code, and what went wrong where its folder does not say so."""
        ...


@dataclass(frozen=True)
class Cluster(ABC):
    """Base class of clusters."""

    @property
    def elsewhere(self) -> bool:
        """Whether even a single job runs in another process."""
        return True

    def check(self) -> None:  # noqa: B027 (most need nothing)
        """Checks that jobs can run here, before anything is written.

        Raises:
            ConfigError: If something is missing.
        """

    @abstractmethod
    def run(self, jobs: Sequence[Job], monitor: Monitor) -> None:
        """Runs jobs in order to their ends, whatever these are, and reports each to the monitor.

        Raises:
            Interrupted: If a signal was received; then no job is running any more, or a scheduler
                has them.
        """
