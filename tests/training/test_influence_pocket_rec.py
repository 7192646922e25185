"""The whole of it on generated recommendation data: an adapter that has converged, put right."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.planning import plan_run

from unlearn_runner.api import compose
from unlearn_runner.pipeline.execute import Executor
from unlearn_runner.pipeline.results import flat, scores
from unlearn_runner.store.store import Store
from unlearn_runner.tracking.record import Record

CONVERGED = (
    "target.train.l2=1e-3",
    "target.train.weight_decay=0",
    "target.train.schedule=linear",
    "target.train.batch_size=100",
    "target.train.lr=1e-2",
    "target.train.steps=150",
    "target.train.warmup_epochs=0",
    "target.adapter=lora",
    "target.adapter.rank=2",
    "target.adapter.dropout=0",
)
SMALL = (
    "benchmark=pocket_rec",
    "benchmark.source.users=80",
    "benchmark.noise_share=0.1",
    "benchmark.draws=1",
    "benchmark.candidates=4",
    "benchmark.history=3",
    "model.shape.hidden_size=48",
    "model.shape.intermediate_size=96",
    "model.shape.num_layers=1",
    "model.pretrain.epochs=8",
    "parallel.threads=1",
    "parallel.device=cpu",
)
EDIT = (
    "method=influence",
    "method.task=correct_response",
    "method.hvp=gauss_newton",
    "method.rows=null",
    "method.iterations=40",
    "train.micro_batch=50",
)


@pytest.mark.long
def test_wrong_answers_are_put_right(own_threads: None, tmp_path: Path) -> None:
    found, store = compose(*SMALL, *CONVERGED, *EDIT), Store(tmp_path / "store")
    plan = plan_run(found)
    done = Executor(store, Record(tmp_path / "run"), found.parallel).run(plan)
    facts = next(r.stage.facts(store.path(r.stage)) for r in done if r.stage.kind == "influence")
    score = flat(scores(plan, store, done))
    seconds = {r.stage.label: round(r.seconds, 1) for r in done}
    print(facts, score, seconds, sep="\n")
    assert facts["gradient_over_b"] < 0.5
    assert facts["residual"] < 0.02
    for view, sign in (("forget", -1), ("corrected", 1)):
        name = f"{view}.probability"
        edited, retrained = (
            sign * (score[place + name] - score[f"target.{name}"])
            for place in ("", "retain_model.")
        )
        assert edited > 0, view
        assert retrained > 0, view
