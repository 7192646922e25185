"""A larger suite evaluates what it adds, and takes over what was evaluated before."""

from __future__ import annotations

from helpers.planning import plan_run

from unlearn_runner.api import compose
from unlearn_runner.pipeline.plan import DEFAULT_SUITE
from unlearn_runner.pipeline.stages.evaluate import Evaluate


def test_the_full_suite_adds_the_unseen_rows_to_the_default_suite_s_evidence() -> None:
    default = {stage.label: stage for stage in plan_run(compose()).stages}
    stages = plan_run(compose("benchmark.suite=full")).stages
    full = {stage.label: stage for stage in stages}
    models = ("target", "retain_model", "unlearned")
    for label in (f"evaluate {model}" for model in models):
        before, further = full[label + DEFAULT_SUITE], full[label]
        assert before.key == default[label].key, "a finished run has this one"
        assert isinstance(further, Evaluate)
        assert list(further.evaluator.views) == ["holdout"]
        assert further.further_to == before
        assert stages.index(before) < stages.index(further)
    assert len(full) == len(default) + len(models)
