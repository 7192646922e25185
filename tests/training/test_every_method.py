"""Every option of `method`, with and without GRU, from the command line to its scores."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from helpers.oracles import read_oracles
from helpers.planning import plan_run

from unlearn_runner.api import compose
from unlearn_runner.config.groups import groups
from unlearn_runner.pipeline.execute import Executor, StageResult
from unlearn_runner.store.store import Store
from unlearn_runner.tracking.record import Record

OTHERS = ("influence", "sisa", "winu")
METHODS = [name for name in groups()["method"] if "/" not in name and name not in OTHERS]
"""Not the published settings of the same methods, nor what has runs of its own."""
ONE_SHOT = ("task_vector", "tru")
TINY = (
    *("debug=tiny", "parallel.threads=1", "parallel.device=cpu"),
    *("benchmark.source.people=20", "benchmark.source.questions=4", "train.lr=1e-3"),
)
MORE = {
    "altpo": ["method.alternates.number=2", "method.alternates.max_new_tokens=6"],
    "tru": ["method.splits=2"],
}
TRAINED = [name for name in METHODS if name not in ONE_SHOT]


@dataclass(frozen=True)
class Place:
    """A store that all combinations share: one target, whatever the method."""

    folder: Path

    @property
    def store(self) -> Store:
        return Store(self.folder / "store")

    def unlearn(
        self, name: str, *overrides: str
    ) -> tuple[list[StageResult], list[dict[str, Any]], Path]:
        """Brings about the unlearned model alone; returns stages, telemetry, its folder."""
        run = compose(*TINY, *overrides)
        whole = plan_run(run)
        (unlearn,) = (stage for stage in whole.stages if stage.kind == "unlearn")
        needed = whole.stages[: whole.stages.index(unlearn) + 1]
        stages = tuple(stage for stage in needed if stage.label != "retain_model")
        folder = self.folder / "runs" / name
        done = Executor(self.store, Record(folder), run.parallel).run(
            replace(whole, stages=stages, wanted=(unlearn,))
        )
        text = (folder / "metrics.jsonl").read_text(encoding="utf-8")
        lines = [json.loads(line) for line in text.splitlines()]
        return done, [x for x in lines if x["stage"] == "unlearn"], self.store.path(unlearn)


@pytest.fixture(scope="module")
def place(own_threads: None, tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("methods"))


def weights(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


# --- whole runs of `debug=tiny`

# Sweeps in one process and one store: one target, one retain model, one warm torch.
SWEEPS = """
import sys
from unlearn_runner.run import main
for command in sys.argv[1:]:
    sys.argv = ["unlearn", *command.split()]
    if code := main():
        sys.exit(code)
"""


def commands(half: int) -> dict[str, list[str]]:
    """Every method once, with GRU or without: in the other half it is the other way round."""
    plain, rectified = TRAINED[half::2], TRAINED[1 - half :: 2]
    return {"none": [*plain, *(ONE_SHOT if half == 0 else ())], "gru": rectified}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("every")


def command(*arguments: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=1800,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.long
@pytest.mark.parametrize("half", [0, 1])
def test_every_method_completes(outputs: Path, half: int) -> None:
    """From one command per rectifier to the files it leaves, at the settings of `debug=tiny`."""
    asked = commands(half)
    always = "-m debug=tiny name=every parallel.threads=1 parallel.device=cpu"
    lines = [
        f"{always} method={','.join(methods)} rectifier={rectifier} output_dir={outputs}"
        for rectifier, methods in asked.items()
    ]
    code, *said = command("-c", SWEEPS, *lines)
    assert code == 0, said
    runs = [
        assert_complete(outputs, method, rectifier)
        for rectifier, methods in asked.items()
        for method in methods
    ]
    for name in ("base", "target", "retain_model", "evaluate target", "evaluate retain_model"):
        stages = [stages[name] for stages in runs]
        assert len({stage["key"] for stage in stages}) == 1, name
        assert sum(not stage["cached"] for stage in stages) <= 1, f"{name}: made once, for all"


def assert_complete(outputs: Path, method: str, rectifier: str) -> dict[str, dict[str, Any]]:
    """Returns the stages that the run's results list, by name."""
    import torch

    folder = outputs / "sweeps/every" / f"pocket-{method}-{rectifier},debug=tiny"
    assert json.loads((folder / "status.json").read_text())["status"] == "completed", folder.name
    results = json.loads((folder / "results.json").read_text())
    assert results["status"] == "completed"
    scores = results["scores"]
    assert {"model_utility", "forget_quality", "retain_model.forget_quality"} <= scores.keys()
    stages = {stage["name"]: stage for stage in results["stages"]}
    before = weights(outputs / "store/finetune" / stages["target"]["key"])
    after = weights(outputs / "store/unlearn" / stages["unlearn"]["key"])
    assert before.keys() == after.keys()
    assert all(bool(torch.isfinite(tensor).all()) for tensor in after.values())
    moved = [key for key in before if not torch.equal(before[key], after[key])]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    numbers = [v for x in (*lines, scores) for v in x.values() if not isinstance(v, str)]
    assert all(map(math.isfinite, numbers)), folder.name
    steps = [x for x in lines if x["stage"] == "unlearn"]
    if method in ONE_SHOT:
        assert moved
    else:
        # RMU's gradient ends at its layer; everything else reaches every weight.
        assert len(moved) == len(before) or (moved and method == "rmu"), folder.name
        assert [x["step"] for x in steps] == [1, 2, 3]
        assert all(("rectified" in x) == (rectifier == "gru") for x in steps)
    return stages


@pytest.mark.parametrize("method", ONE_SHOT)
def test_one_shot_methods_refuse_a_rectifier(tmp_path: Path, method: str) -> None:
    settings = ("debug=tiny", f"method={method}", "rectifier=gru", f"output_dir={tmp_path / 'o'}")
    code, out, err = command("-m", "unlearn_runner.run", *settings)
    assert (code, out) == (2, "")
    reason, fix = err.splitlines()
    assert reason.startswith("error: rectifier: method ")
    assert reason.endswith("changes the weights in one go and has no gradients to rectify")
    assert fix == "fix: rectifier=none"
    assert not (tmp_path / "o").exists()


# --- what single methods do, as far as the unlearned model


def done_target(place: Place, done: list[StageResult]) -> Path:
    (target,) = (item.stage for item in done if item.stage.label == "target")
    return place.store.path(target)


def test_a_task_vector_goes_as_far_back_as_fine_tuning_went(place: Place) -> None:
    """alpha 0.5: the start model is two thirds of the way from the unlearned one to the tuned."""
    import torch

    done, _, folder = place.unlearn("half", "method=task_vector", "method.alpha=0.5")
    (tuned,) = (item.stage for item in done if item.stage.label == "fine-tune forget10")
    start, there = weights(done_target(place, done)), weights(place.store.path(tuned))
    for name, found in weights(folder).items():
        torch.testing.assert_close(found, start[name] - 0.5 * (there[name] - start[name]))


def test_tru_rectifies_every_part_against_the_rest() -> None:
    """The reconstruction's arithmetic, by the oracle."""
    import torch

    from unlearn_runner.data.rows import QA, Rows
    from unlearn_runner.methods.one_shot import Context
    from unlearn_runner.methods.tru import TRU
    from unlearn_runner.models.gradients import GradientSpace

    case = read_oracles("gru_geffect")["tru_reconstruction"]
    vectors = [s[key] for key in ("T_k", "T_rest") for s in case["splits"]]
    method = TRU(alpha=case["alpha"], splits=3)
    space = GradientSpace([torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))])
    ctx = Context(space, lambda part: [torch.tensor(vectors[part], dtype=torch.float64)])
    (change,) = method.run(ctx)
    assert change is not None
    expected = torch.tensor(case["delta_theta"], dtype=torch.float64)
    torch.testing.assert_close(change, expected, rtol=1e-9, atol=1e-12)
    rows = Rows("f", tuple(QA(f"q{i}", "a") for i in range(10)))
    parts = method.finetunes(rows)
    assert [len(part) for part in parts] == [3, 3, 4, 7, 7, 6]
    for own, rest in zip(parts[:3], parts[3:], strict=True):
        assert sorted(q.question for q in (*own, *rest)) == [q.question for q in rows]


def test_alternates_are_made_once_and_are_not_the_answers(place: Place) -> None:
    from unlearn_runner.pipeline.stages.start_model import read_alternates

    more = MORE["altpo"]
    first, _, _ = place.unlearn("altpo-first", "method=altpo", *more)
    again, _, _ = place.unlearn("altpo-again", "method=altpo", "method.beta=0.5", *more)
    (made,) = (item for item in again if item.stage.kind == "alternates")
    assert made.cached
    (stage,) = (item.stage for item in first if item.stage.kind == "alternates")
    texts = read_alternates(place.store.path(stage))
    rows: Any = stage
    assert len(texts) == len(rows.rows)
    assert all(
        len(set(found)) == 2 and row.answer not in found
        for row, found in zip(rows.rows, texts, strict=True)
    )


@pytest.mark.parametrize("method", ["kl", "dpo", "rmu", "undial"])
def test_methods_that_ask_the_start_model_go_with_an_adapter(place: Place, method: str) -> None:
    """It is then the trained model with its adapter off."""
    done, lines, folder = place.unlearn(f"{method}-lora", f"method={method}", "adapter=lora")
    assert done[-1].outcome == "completed"
    assert (folder / "adapter_model.safetensors").is_file()
    assert all(math.isfinite(x["loss/forget"]) for x in lines)
