"""Runs that a test module finishes once, in its own process, and looks at."""

from __future__ import annotations

from pathlib import Path

import pytest

from unlearn_runner.config.compose import compose
from unlearn_runner.pipeline.job import plan_config
from unlearn_runner.pipeline.runner import run_job


def finished_run(*words: str) -> Path:
    """Returns the folder of a run of `unlearn` with these words, which has ended."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["unlearn", *words])  # what the run records as its command
        composed = compose(words)
        job = plan_config(composed.config, composed.name_run, composed.choices)
        run_job(job, brief=True)
    return job.folder
