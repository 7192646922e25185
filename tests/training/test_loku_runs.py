"""LoKU and adapters of targets as whole runs: what is shared, what is kept, what is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from helpers.oracles import read_oracles
from helpers.planning import plan_run
from safetensors.torch import load_file

from unlearn_runner.api import compose
from unlearn_runner.distributed.single import Single
from unlearn_runner.models.load import load_frozen, merged
from unlearn_runner.pipeline.execute import Executor, StageResult
from unlearn_runner.pipeline.plan import Plan
from unlearn_runner.pipeline.session import open_session
from unlearn_runner.pipeline.stages.base import StageContext
from unlearn_runner.pipeline.stages.finetune import FinetuneAdapter
from unlearn_runner.pipeline.stages.merge import Merge
from unlearn_runner.store.store import Store
from unlearn_runner.tracking.record import Record
from unlearn_runner.training import optimizer

TINY = ("debug=tiny", "parallel.threads=1", "parallel.device=cpu", "train.lr=1e-2")
TUNED = ("target.adapter=lora", "target.adapter.rank=4", "target.adapter.dropout=0")
LOKU = (*TINY, *TUNED, "method=ihl", "rectifier=none", "adapter=fila")

pytestmark = pytest.mark.usefixtures("own_threads")


class Runs:
    """Runs on one store."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.store = folder, Store(folder / "store")

    def run(self, *overrides: str) -> tuple[Plan, dict[str, StageResult]]:
        run = compose(*overrides)
        stages = plan_run(run)
        done = Executor(self.store, Record(self.folder / "run"), run.parallel).run(stages)
        assert {result.outcome for result in done} == {"completed"}
        return stages, {result.stage.label: result for result in done}

    def files(self, result: StageResult) -> set[str]:
        return {path.name for path in self.store.path(result.stage).iterdir()}


@pytest.fixture(scope="module")
def runs(own_threads: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Runs, Any, Any]:
    """A run of IHL on FILA, from a target that was fine-tuned by LoRA."""
    place = Runs(tmp_path_factory.mktemp("loku"))
    return (place, *place.run(*LOKU))


def test_only_a_weight_per_row_is_kept_and_every_rank_shares_it(
    runs: tuple[Runs, Any, dict[str, StageResult]],
) -> None:
    place, _, done = runs
    kept = place.files(done["fisher"])
    assert kept == {"row_weights.safetensors", "fisher.json", "manifest.json", "metrics.jsonl"}
    folder = place.store.path(done["fisher"].stage)
    weights = load_file(folder / "row_weights.safetensors")
    base = load_frozen(place.store.path(done["target"].stage), "float32", torch.device("cpu"))
    for name, d in weights.items():
        assert d.shape == (base.get_submodule(name).out_features,)
    (line,) = (folder / "metrics.jsonl").read_text().splitlines()
    assert 0 <= json.loads(line)["eps_share"] <= 1
    facts = json.loads((folder / "fisher.json").read_text())
    assert set(facts) == set(weights)
    _, again = place.run(*LOKU, "adapter.rank=2", "seed=1", "adapter.fisher_passes=3")
    assert again["fisher"].cached
    assert not again["unlearn"].cached
    planned = plan_run(compose(*LOKU, "adapter.estimator=per_sample", "adapter.targets=mlp"))
    keys = {stage.kind: stage.key for stage in planned.stages}
    assert keys["fisher"] != done["fisher"].stage.key


def test_what_fila_keeps_is_an_adapter_of_the_target(
    runs: tuple[Runs, Any, dict[str, StageResult]],
) -> None:
    place, _, done = runs
    target, kept = (place.store.path(done[name].stage) for name in ("target", "unlearn"))
    config = json.loads((kept / "adapter_config.json").read_text())
    assert (kept / config["base_model_name_or_path"]).resolve() == target.resolve()
    assert (config["r"], config["lora_alpha"]) == (16, 32)
    own = load_file(target / "model.safetensors")
    found = merged(target, kept).state_dict()
    moved = [n for n, tensor in own.items() if not torch.allclose(tensor, found[n], atol=1e-6)]
    assert moved
    assert all(".layers." in name for name in moved)


def test_a_target_by_adapter_is_the_base_with_it_and_a_stage_gets_at_its_parameters(
    runs: tuple[Runs, Any, dict[str, StageResult]],
) -> None:
    place, planned, done = runs
    assert done["target"].stage.kind == done["retain_model"].stage.kind == "merge"
    assert not any(stage.label == "fine-tune" for stage in planned.stages)
    stage = cast(FinetuneAdapter, cast(Merge, done["target"].stage).adapter)
    assert len(stage.rows) > len(planned.inputs.rowsets.splits.retain)
    folders = {"adapter_config.json", "adapter_model.safetensors"}
    assert folders <= place.files(done["target adapter"])
    assert "model.safetensors" not in place.files(done["target adapter"])
    session = open_session(Single(device="cpu", threads=1))
    nowhere = place.folder / "nowhere"
    context = StageContext(nowhere, nowhere, "", place.store.path, lambda: session, print)
    model = stage.trained(context).eval()
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained
    assert all(".lora_" in name for name in trained)
    ids = torch.arange(3, 20)[None]
    whole = load_frozen(place.store.path(done["target"].stage), "float32", session.device)
    base = load_frozen(place.store.path(stage.base), "float32", session.device)
    with torch.no_grad():
        found, expected, before = (m(input_ids=ids).logits for m in (model, whole, base))
        assert torch.allclose(found, expected, atol=1e-5)
        assert not torch.allclose(found, before, atol=1e-4)
    fresh = stage.trained(context, kept=False).eval()
    with torch.no_grad():
        assert torch.equal(fresh(input_ids=ids).logits, before)


def test_fine_tuning_without_an_adapter_is_planned_as_it_was() -> None:
    plain, none = (plan_run(compose(*TINY, *how)) for how in ((), ("target.adapter=none",)))
    assert [stage.key for stage in plain.stages] == [stage.key for stage in none.stages]
    assert "merge" not in {stage.kind for stage in plain.stages}


def test_losses_with_a_start_model_compare_with_the_target(
    runs: tuple[Runs, Any, dict[str, StageResult]],
) -> None:
    """At the first step FILA computes what the target does: KL is zero, NPO's margin is log 2."""
    place, _, _ = runs
    expected = {"npo": 2 / 0.1 * 0.6931472, "kl": 0.0}
    for method, rule in (("npo", "none"), ("kl", "gru")):
        how = (*LOKU, f"method={method}", f"rectifier={rule}", "train.steps=1")
        _, done = place.run(*how, *(("method.beta=0.1",) if method == "npo" else ()))
        lines = (place.store.path(done["unlearn"].stage) / "metrics.jsonl").read_text()
        first = json.loads(lines.splitlines()[0])
        name = "forget" if method == "npo" else "retain"
        assert first[f"loss/{name}"] == pytest.approx(expected[method], abs=1e-4)


@pytest.mark.parametrize(("name", "rate"), [("phi", 2e-4), ("llama2", 1e-4)])
def test_the_published_settings_have_the_published_steps_and_rates(name: str, rate: float) -> None:
    run = compose(f"experiment=loku/tofu_{name}")
    worked = read_oracles("loku_llmeraser")["oracles"]["loku_schedule"]
    for split in ("forget01", "forget05", "forget10"):
        facts = worked[split]
        rows = facts["n"]
        assert run.train.num_steps(rows) == facts["max_steps"]
        assert run.train.num_warmup_steps(rows) == facts["warmup"]
        steps = run.evaluate.__class__(every=facts["steps_per_epoch"]).steps(run.train, rows)
        # With one step an epoch the last one kept along the way is the fifth.
        assert facts["last_full_epoch_ckpt"] in steps
        if (rates := worked.get(f"{split}_lr_after_steps")) is None:
            continue
        optim = optimizer.optimizer([torch.nn.Parameter(torch.zeros(1))], run.train)
        schedule = optimizer.schedule(optim, run.train, rows)
        found = [schedule.get_last_lr()[0]]
        for _ in range(facts["max_steps"]):
            optim.step()
            schedule.step()
            found.append(schedule.get_last_lr()[0])
        for step, expected in rates.items():
            assert found[int(step)] == pytest.approx(expected * rate / 2e-4, rel=1e-9)
