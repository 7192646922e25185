"""Plans as the runner makes them, from a typed run."""

from __future__ import annotations

from unlearn_runner.config.root import Run
from unlearn_runner.pipeline.inputs import read_inputs
from unlearn_runner.pipeline.plan import Plan, plan


def plan_run(run: Run) -> Plan:
    """Returns the plan of a run whose inputs are read now."""
    return plan(run, read_inputs(run))
