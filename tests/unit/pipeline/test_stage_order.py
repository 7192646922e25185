"""Which stage a run goes on with while other processes work on the same store."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.planning import plan_run

from unlearn_runner.config.compose import compose
from unlearn_runner.config.root import validate
from unlearn_runner.distributed.single import Single
from unlearn_runner.pipeline.execute import Executor
from unlearn_runner.pipeline.plan import Plan
from unlearn_runner.store.store import Store
from unlearn_runner.tracking.record import Record


@pytest.fixture
def plan() -> Plan:
    return plan_run(validate(compose(["debug=tiny"]).config))


def published(store: Store, plan: Plan, *labels: str) -> None:
    """Publishes empty artifacts in the place of some stages."""
    for stage in plan.stages:
        if stage.label in labels:
            store.publish(stage, store.begin(stage), "completed", {})


def test_a_stage_that_another_process_works_on_is_not_waited_for_while_another_is_free(
    plan: Plan, tmp_path: Path
) -> None:
    store = Store(tmp_path / "store")
    executor = Executor(store, Record(tmp_path / "run"), Single())
    by_label = {stage.label: stage for stage in plan.stages}
    required = {stage.key: True for stage in plan.stages}

    def following(*left: str) -> str:
        return executor._next([by_label[label] for label in left], required).label

    order = tuple(by_label)
    assert following(*order) == "base"
    with store.locked(by_label["base"]):
        assert following(*order) == "base"  # nothing can be made without it
    published(store, plan, "base")
    with store.locked(by_label["target"]):
        assert following(*order) == "base"  # it is there: no wait
        assert following(*order[1:]) == "retain_model"
        with store.locked(by_label["retain_model"]):
            assert following(*order[1:]) == "target"
        required.pop(by_label["retain_model"].key)
        assert following(*order[1:]) == "target"
    assert following(*order[1:]) == "target"
