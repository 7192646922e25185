"""Calibration: a run's unlearned model mixed with its target until it keeps what it is to keep."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers.oracles import read_oracles
from safetensors.torch import load_file
from torch import nn

from unlearn_runner.config.compose import compose
from unlearn_runner.errors import ConfigError
from unlearn_runner.pipeline.job import plan_config
from unlearn_runner.pipeline.runner import run_job
from unlearn_runner.pipeline.stages.calibrate import CALIBRATION, Mixture, largest

TINY = (
    *("debug=tiny", "parallel.threads=1", "parallel.device=cpu", "method=ga", "rectifier=none"),
    *("train.lr=1e-2", "train.steps=2", "~benchmark.metric.rouge_l"),
    *("benchmark.metric.model_utility.parts=[probability]",),
    *(f"benchmark.view.{v}.probes=[logprobs]" for v in ("forget", "retain")),
)
CLASS = "unlearn_runner.evaluation.metrics.memorisation.prefix.PrefixStrength"
STRENGTHS = (
    f"+benchmark.metric.ps={{_target_: {CLASS}}}",
    f"+benchmark.metric.ps_similar={{_target_: {CLASS}, match: similar}}",
    "benchmark.view.forget.probes=[logprobs,prefixes]",
    "+benchmark.view.reworded={split: request, goal: forget, question: paraphrased, limit: 4}",
)
METRIC = "calibrate.metric=retain.probability"


@pytest.mark.parametrize(
    ("bound", "halvings", "expected"),
    [(0.7, 4, 0.6875), (0.7, 1, 0.5), (1.0, 3, 1.0), (0.01, 3, 0.0), (0.875, 3, 0.875)],
)
def test_the_largest_share_that_is_enough(bound: float, halvings: int, expected: float) -> None:
    tried: list[float] = []

    def enough(share: float) -> bool:
        tried.append(share)
        return share <= bound

    assert largest(enough, halvings) == expected
    assert len(tried) == (1 if bound >= 1 else halvings + 1)


def test_the_oracles_mixture() -> None:
    case = read_oracles("gru_geffect")["model_mixing"]
    before, after = (_model(case[name]) for name in ("before", "after"))
    mixture = Mixture(after, before)
    # The oracle's factor is of the model before; a share is of the one after.
    for factor, name in ((0.1, "lam0p1"), (1.0, "lam1"), (0.0, "lam0")):
        mixture.set(1 - factor)
        assert after.weight.tolist() == pytest.approx(case[name], abs=1e-12)


def _model(weights: list[float]) -> Any:
    model = nn.Module()
    model.weight = nn.Parameter(torch.tensor(weights, dtype=torch.float64))
    return model


@pytest.fixture(scope="module")
def outputs(own_threads: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("calibrated")


def run(outputs: Path, *words: str) -> Any:
    composed = compose((*TINY, f"output_dir={outputs}", *words))
    job = plan_config(composed.config, composed.name_run, composed.choices)
    run_job(job, brief=True)
    results = json.loads((job.folder / "results.json").read_text())
    places = {stage.label: job.store.path(stage) for stage in job.plan.stages}
    return SimpleNamespace(**results, places=places)


def test_as_much_is_kept_as_is_asked_for(outputs: Path) -> None:
    found = run(outputs, METRIC, "calibrate.keep=0.95", "calibrate.halvings=5", "name=kept")
    facts = json.loads((found.places["calibrate"] / CALIBRATION).read_text())
    target = found.scores["target.retain.probability"]
    assert facts["bar"] == pytest.approx(0.95 * target)
    scores, share = {t["share"]: t["score"] for t in facts["trials"]}, facts["share"]
    assert 0 < share < 1
    assert scores[share] >= facts["bar"] > scores[share + 1 / 32]
    assert scores[0.0] == target
    assert scores[1.0] == pytest.approx(found.scores["retain.probability"])
    assert found.scores["calibrated.retain.probability"] == pytest.approx(facts["score"])
    assert found.scores["calibrated.forget.probability"] > found.scores["forget.probability"]
    names = ("target", "unlearn", "calibrate")
    before, after, mixed = (load_file(found.places[n] / "model.safetensors") for n in names)
    for name, weight in mixed.items():
        expected = (1 - share) * before[name].double() + share * after[name].double()
        torch.testing.assert_close(weight.double(), expected, rtol=0, atol=1e-7)
    assert any(note.startswith(f"calibrated: {share:.4g} of the unlearned") for note in found.notes)
    (stage,) = (stage for stage in found.stages if stage["kind"] == "calibrate")
    assert (stage["facts"]["share"], "trials" in stage["facts"]) == (share, False)


def test_a_model_that_keeps_enough_is_left_as_it_is(outputs: Path) -> None:
    words = (METRIC, "calibrate.keep=0.01", *STRENGTHS, "keep=scores", "name=whole")
    found = run(outputs, *words)
    unlearned = {k: v for k, v in found.scores.items() if "." in k and k.count(".") == 1}
    for name in ("forget.probability", "retain.probability"):
        assert found.scores[f"calibrated.{name}"] == unlearned[name]
    assert not (found.places["calibrate"] / "model.safetensors").exists()  # keep=scores
    strengths = {"forget.ps", "forget.ps_similar", "reworded.ps", "retain.ps"}
    assert {found.scores[name] is None for name in strengths} == {False}
    assert found.scores["retain.ps_similar"] is None  # no prefixes are continued there
    assert found.scores["reworded.probability"] != found.scores["forget.probability"]
    assert (found.directions["forget.ps"], found.directions["retain.ps"]) == ("lower", "higher")
    again = run(outputs, *words)
    assert all(stage["cached"] for stage in again.stages if stage["needed"])
    assert again.scores == found.scores


@pytest.mark.long
def test_two_ranks_find_what_one_finds(outputs: Path) -> None:
    words = (METRIC, "calibrate.keep=0.95", "calibrate.halvings=3")
    one = run(outputs, *words, "name=one").scores
    composed = compose((*TINY, *words, f"output_dir={outputs / 'two'}", "name=two"))
    config = composed.config | {}
    config["parallel"] = compose((*TINY, "parallel=ddp", "parallel.ranks=2")).config["parallel"]
    from unlearn_runner.pipeline.runner import start_job

    job = plan_config(config, composed.name_run, composed.choices)
    start_job(job)
    two = json.loads((job.folder / "results.json").read_text())["scores"]
    assert two == pytest.approx(one, rel=1e-4)


@pytest.mark.parametrize(
    ("words", "problem", "fix"),
    [
        (("calibrate.metric=retain.probabilty",), "is no score of this", "retain.probability"),
        (("calibrate.metric=forget.probability",), "less of it is better", METRIC),
        (("calibrate.metric=forget_quality",), "is no score of this", ""),
        ((METRIC, "adapter=lora"), "mixes whole models", "adapter.merge=true"),
        ((METRIC, "calibrate.keep=1.5"), "calibrate.keep", ""),
    ],
)
def test_mistakes_are_told_before_anything_runs(
    tmp_path: Path, words: tuple[str, ...], problem: str, fix: str
) -> None:
    composed = compose(("debug=tiny", f"output_dir={tmp_path}", *words))
    with pytest.raises(ConfigError) as caught:
        plan_config(composed.config, composed.name_run, composed.choices)
    assert problem in str(caught.value)
    assert fix in str(caught.value)
