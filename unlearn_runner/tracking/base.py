"""Mirrors of a run's telemetry; the files in the run folder are the truth and need no tracker."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tracker:
    """Base class of the sinks that a run's telemetry can be mirrored to."""


@dataclass(frozen=True)
class Files(Tracker):
    """Nothing beside `metrics.jsonl`, `results.json` and `status.json`."""
