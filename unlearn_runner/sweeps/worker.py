"""One job of a sweep in a process of its own, composed anew from its overrides.

What it prints goes to the job's log.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from unlearn_runner.distributed.clusters.spec import JobSpec


def main(text: str) -> int:
    """Runs the job of a spec; returns the exit code."""
    from unlearn_runner.utils.process import prepare_process

    prepare_process()  # before what loads Hydra
    from unlearn_runner.pipeline.job import plan_config
    from unlearn_runner.pipeline.runner import start_job
    from unlearn_runner.sweeps.grid import Grid

    spec = JobSpec(**json.loads(text))
    sys.argv = ["unlearn", *spec.arguments]
    with Grid(spec.overrides, list(map(Path, spec.folders))).opened() as grid:
        composed = grid.compose([])
    return start_job(plan_config(composed.config, lambda _: spec.name, composed.choices))


if __name__ == "__main__":
    from unlearn_runner.utils.process import run_child

    run_child(main)
