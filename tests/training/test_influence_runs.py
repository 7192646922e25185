"""Whole runs of method=influence: an adapter in, an edited adapter out, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.books import write_books
from helpers.planning import plan_run

from unlearn_runner.api import compose
from unlearn_runner.config.root import interactions
from unlearn_runner.errors import ConfigError
from unlearn_runner.methods.influence import SCALES
from unlearn_runner.pipeline.execute import Executor, StageResult
from unlearn_runner.pipeline.results import flat, scores
from unlearn_runner.pipeline.stages.influence import DELTA, doubts
from unlearn_runner.store.store import Store
from unlearn_runner.tracking.record import Record

TINY = ("debug=tiny", "parallel.threads=1", "parallel.device=cpu", "method=influence")
ADAPTER = ("target.adapter=lora", "target.adapter.dropout=0")
REC = ("benchmark=pocket_rec", "benchmark.source.users=40", "method.task=correct_response")
SMALL = (
    "method.hvp=gauss_newton",
    "method.rows=12",
    "method.held_rows=4",
    "method.iterations=2",
    "train.batch_size=12",
)


def run(folder: Path, *overrides: str) -> tuple[dict[str, StageResult], Store, Any]:
    found, store = compose(*TINY, *overrides), Store(folder / "store")
    plan = plan_run(found)
    done = Executor(store, Record(folder / "run"), found.parallel).run(plan)
    by_label = {item.stage.label: item for item in done}
    return by_label, store, flat(scores(plan, store, done))


def tensors(folder: Path, name: str) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(folder / name)


def test_an_edit_is_the_target_plus_the_scaled_solution(own_threads: None, tmp_path: Path) -> None:
    overrides = (*ADAPTER, *REC, *SMALL)
    done, store, found = run(tmp_path, *overrides)
    assert all(item.outcome == "completed" for item in done.values())
    solved = store.path(done["influence"].stage)
    certificate = done["influence"].stage.facts(solved)
    assert certificate["task"] == "correct_response"
    assert certificate["hessian_rows"] == 12
    assert certificate["iterations"] == 2
    assert certificate["residual"] > 0
    assert "history" not in certificate
    assert certificate["n"] > 12 > certificate["m"] > 0
    delta = tensors(solved, DELTA)
    before = tensors(store.path(done["target adapter"].stage), "adapter_model.safetensors")
    for scale in (1.0, 0.5):
        again = (*overrides, f"method.scale={scale}")
        done, store, _ = run(tmp_path, *again)
        assert done["influence"].cached, "a sweep of the scale solves once"
        after = tensors(store.path(done["unlearn"].stage), "adapter_model.safetensors")
        assert before.keys() == after.keys()
        for name, tensor in after.items():
            plain = name.removeprefix("base_model.model.").replace(".weight", ".default.weight")
            expected = before[name] + scale * delta[plain]
            assert (tensor - expected).abs().max() < 1e-6, name
    chosen, store, _ = run(tmp_path, *overrides, "method.scale=auto")
    assert chosen["influence"].cached
    told = chosen["unlearn"].stage.facts(store.path(chosen["unlearn"].stage))
    losses = {float(scale): loss for scale, loss in told["validation_nll"].items()}
    assert tuple(losses) == SCALES
    assert losses[told["scale"]] == min(losses.values())
    assert len(set(losses.values())) > 1
    for view in ("test.hits", "test.hits_low", "test.ranked", "test.agreement"):
        assert found[view] is not None
    assert found["retain_model.test.agreement"] == 1.0


def test_records_of_yes_or_no_are_taken_out(own_threads: None, tmp_path: Path) -> None:
    books = ("benchmark=bookcrossing", f"benchmark.data_dir={write_books(tmp_path)}")
    share = ("benchmark.noise=null", "benchmark.noise_share=0.2", "benchmark.test_share=0.4")
    overrides = (*ADAPTER, *books, *share, *SMALL, "method=winu", "benchmark.limit=null")
    done, store, found = run(tmp_path / "runs", *overrides)
    certificate = done["influence"].stage.facts(store.path(done["influence"].stage))
    assert (certificate["task"], certificate["hessian"]) == ("remove", "new")
    assert (certificate["n"], certificate["m"]) == (30, 6)
    assert {name.split(".")[0] for name in found if name.endswith("probability")} == {
        *("test", "validation", "forget", "target", "retain_model")
    }
    assert 0 <= found["test.auc"] <= 1
    assert 0 <= found["test.hits_valid"] <= 1


@pytest.mark.parametrize(
    ("overrides", "problem", "fix"),
    [
        (("method.scale=auto",), "no validation rows", "method.scale=1"),
        (("method.task=modify_query",), "no other versions of its forget rows", "pocket_rec"),
        (("rectifier=gru",), "no gradients to rectify", "rectifier=none"),
        (("adapter=lora",), "trains no adapter", "adapter=none"),
        (("parallel=fsdp2",), "second derivatives", "method.hvp=difference, or parallel=ddp"),
        (("method.solver=released", "method.hessian=new"), "published code", "hessian=original"),
    ],
)
def test_what_is_refused(overrides: tuple[str, ...], problem: str, fix: str) -> None:
    with pytest.raises(ConfigError) as refused:
        plan_run(compose(*TINY, *ADAPTER, *overrides))
    assert problem in refused.value.problem
    assert fix in (refused.value.fix or "")


def test_a_target_from_elsewhere_is_refused(tmp_path: Path) -> None:
    from dataclasses import replace

    from unlearn_runner.pipeline.inputs import read_inputs
    from unlearn_runner.pipeline.plan import plan
    from unlearn_runner.pipeline.stages.local import Local

    found = compose(*TINY)
    given = replace(read_inputs(found), target=Local("target", tmp_path, "0" * 16))
    with pytest.raises(ConfigError, match="trained elsewhere"):
        plan(found, given)


def test_a_target_without_an_adapter_is_said() -> None:
    assert "solves for all of them" in interactions(compose(*TINY))[0]
    assert not any("solves" in line for line in interactions(compose(*TINY, *ADAPTER)))


def test_doubts_name_what_speaks_against_a_solution() -> None:
    good = {"gradient_over_b": 0.1, "residual": 0.01, "curvature": 0.2, "damping_raised": 0}
    good |= {"residual_held": 0.9}
    assert doubts(good, 0.01) == []
    bad = {"gradient_over_b": 11.0, "residual": 0.5, "curvature": -1.0, "damping_raised": 2}
    said = doubts({**good, **bad, "residual_held": 7.9, "damping": 3.0}, 0.01)
    assert [line.split()[1] for line in said] == ["target", "system", "rows", "is", "was"]
    assert "residual of 7.9" in said[2]
