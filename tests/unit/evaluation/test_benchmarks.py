"""Benchmarks over anyone's rows: nothing is required that nobody reads, and bounds are bounds."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from unlearn_runner.config.build import build
from unlearn_runner.config.root import Evaluation
from unlearn_runner.data.rows import QA, Rows
from unlearn_runner.data.sources import Source
from unlearn_runner.errors import ConfigError, DataError
from unlearn_runner.evaluation.benchmarks.base import Benchmark, Generation, Splits
from unlearn_runner.evaluation.benchmarks.qa import QABenchmark
from unlearn_runner.evaluation.benchmarks.requests import Request
from unlearn_runner.evaluation.files import write_generations, write_logprobs
from unlearn_runner.evaluation.metrics.base import Metric, MetricInputs, compute, directions
from unlearn_runner.evaluation.metrics.evidence import Evidence
from unlearn_runner.evaluation.metrics.forget_quality import ForgetQuality
from unlearn_runner.evaluation.metrics.probability import Probability
from unlearn_runner.evaluation.metrics.rouge import RougeL
from unlearn_runner.evaluation.metrics.scores import lower
from unlearn_runner.evaluation.metrics.truth_ratio import TruthRatio
from unlearn_runner.evaluation.metrics.utility import ModelUtility
from unlearn_runner.evaluation.schema import TOKEN_TYPES, View, scored_answers
from unlearn_runner.training.recipe import Recipe

TOFU: dict[str, Metric] = {
    "probability": Probability(),
    "rouge_l": RougeL(),
    "truth_ratio": TruthRatio(),
    "model_utility": ModelUtility(),
    "forget_quality": ForgetQuality(),
}


@dataclass(frozen=True)
class Memory(Source):
    """Plain rows: no paraphrased, no perturbed answer."""

    rows: int = 10

    def read(self, split: str) -> Rows:
        return Rows(split, tuple(QA(f"Q {split} {i}?", f"A {i}.") for i in range(self.rows)))


def benchmark(metric: dict[str, Metric], **more: Any) -> QABenchmark:
    views = {"gone": View("request", "forget"), "rest": View("rest")}
    given: dict[str, Any] = {
        "forget": "f",
        "requests": {"f": Request(retain="r", view="f")},
        "view": views,
        "metric": metric,
        "source": Memory(),
    }
    return QABenchmark("1", **(given | more))


def test_wrong_answers_are_needed_only_where_a_metric_compares_with_them() -> None:
    plain: dict[str, Metric] = {"p": Probability(), "r": RougeL(), "u": ModelUtility(("p", "r"))}
    assert [len(rows) for _, rows in benchmark(plain).views().values()] == [10, 10]
    options = {"facts": View("facts", probability="options")}
    for name, metric in (("t", TruthRatio()), ("q", ForgetQuality())):
        with pytest.raises(DataError, match=rf"f row 1 has no 'perturbed_answer' for {name} to"):
            benchmark(plain | {name: metric}).views()
    with pytest.raises(DataError, match="facts row 1 has no 'perturbed_answer' for p to"):
        benchmark(plain, view=options).views()
    assert benchmark({"q": ForgetQuality()}, view={"rest": View("rest")}).views()


@pytest.mark.parametrize(
    ("limit", "view", "compat", "rows"),
    [
        (None, None, "open-unlearning", 400),
        (6, None, "open-unlearning", 6),
        (6, 40, "open-unlearning", 40),
        (None, None, "locuslab", 300),
        (6, None, "locuslab", 6),
        (None, 350, "locuslab", 300),
    ],
)
def test_limits(limit: int | None, view: int | None, compat: Any, rows: int) -> None:
    views = {"any name": View("rest", limit=view)}
    found = benchmark({}, view=views, limit=limit, compat=compat, source=Memory(400))
    assert len(found.evaluation_rows()["any name"][1]) == rows


@dataclass(frozen=True)
class OwnBenchmark(Benchmark):
    """Somebody's, which says nothing of limits and generation."""

    @property
    def metrics(self) -> dict[str, Metric]:
        return {}

    def splits(self) -> Splits:
        raise NotImplementedError

    def views(self) -> dict[str, tuple[View, Rows]]:
        return {"own": (View("own"), Memory().read("own"))}


def test_debug_tiny_fits_any_benchmark() -> None:
    """Its settings are fields of the base class."""
    found = build({"version": "1", "limit": 6, "generate": {"max_new_tokens": 8}}, OwnBenchmark)
    assert len(found.evaluation_rows()["own"][1]) == 6
    assert found.generation == Generation(max_new_tokens=8)


REQUEST = {"retain": "r", "view": "f"}
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no view": ({"view": {}}, "benchmark.view is empty"),
    "no request": ({"requests": {}}, "benchmark.requests is empty"),
    "limit 0": ({"limit": 0}, "benchmark.limit"),
    "limit huge": ({"limit": 10**30}, "benchmark.limit"),
    "a view's limit": ({"view": {"v": {"split": "r", "limit": 10**30}}}, "benchmark.view.v.limit"),
    "tokens": ({"generate": {"max_new_tokens": 10**12}}, "benchmark.generate.max_new_tokens"),
    "length": ({"generate": {"max_length": 10**12}}, "benchmark.generate.max_length"),
    "a probe": ({"view": {"v": {"split": "r", "probes": ["x"]}}}, "benchmark.view.v.probes"),
}


def node(**more: Any) -> dict[str, Any]:
    people = {"_target_": "unlearn_runner.data.people.People"}
    given = {"version": "1", "source": people, "forget": "f", "requests": {"f": REQUEST}}
    return given | {"view": {"v": {"split": "r"}}, "metric": {}} | more


def test_probes_of_a_view_are_a_list() -> None:
    view = {"v": {"split": "r", "probes": ["logprobs"]}}
    found = build(node(view=view), QABenchmark, "benchmark")
    assert found.view["v"].probes == ("logprobs",)
    assert found.requests["f"].holdout is None


@pytest.mark.parametrize("case", BAD)
def test_bounds(case: str) -> None:
    more, named = BAD[case]
    with pytest.raises(ConfigError) as caught:
        build(node(**more), QABenchmark, "benchmark")
    assert named in str(caught.value)


@pytest.mark.parametrize("path", ["/dev/zero", "pipe", "large"])
def test_refusals_are_read_from_a_regular_file_of_a_sane_size(tmp_path: Path, path: str) -> None:
    import os

    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "large").open("wb") as file:
        file.truncate(1 << 34)
    with pytest.raises(DataError, match=r"benchmark.refusals_file: .* cannot be read"):
        benchmark({}, refusals_file=str(tmp_path / path)).refusals()


def test_evaluations_along_the_way_are_bounded() -> None:
    recipe = Recipe(batch_size=1, steps=100_000)
    every = [Evaluation(every=each) for each in (1, "0.0000000001epochs")]
    for evaluation in every:
        with pytest.raises(ConfigError, match=r"evaluate.every=.* 100000 steps") as caught:
            evaluation.steps(recipe, 10)
        assert caught.value.fix == "evaluate.every=10"
        assert len(evaluation.steps(replace(recipe, steps=5), 10)) == 4


# Directions.


@dataclass(frozen=True)
class Exposure(Metric):
    """A new metric of the forget set."""

    def score(self, name: str, inputs: MetricInputs) -> dict[str, float | None]:
        return {f"{view}.{name}": 0.5 for view in inputs.model.views}

    def higher_is_better(self, score: str, goal: str | None) -> bool:
        return goal != "forget"


def test_metrics_say_which_way_is_better() -> None:
    views = {"gone": View("f", "forget"), "rest": View("r")}
    metrics = TOFU | {"exposure": Exposure()}
    names = [f"{view}.{name}" for view in views for name in metrics]
    found = directions([*names, "model_utility", "forget_quality_ks"], views, metrics)
    falling = {"gone.probability", "gone.rouge_l", "gone.exposure", "forget_quality_ks"}
    assert {name for name, better in found.items() if better == "lower"} == falling
    assert lower("gone.exposure", found)
    # Results of before have no directions.
    assert lower("forget.probability")
    assert not lower("model_utility", {})


# Probes.


def test_a_view_of_one_probe_is_scored_as_far_as_it_goes(tmp_path: Path) -> None:
    rows = Memory(2).read("f")
    answers = scored_answers(rows)
    stats = SimpleNamespace(**{name: (-1, -2) for name in TOKEN_TYPES} | {"hit": (True, False)})
    write_logprobs(tmp_path, "likely", answers, [stats] * 2)
    write_generations(tmp_path, "texts", rows, ["A 0.", ""])
    views = {"likely": View("f", probes=("logprobs",)), "texts": View("f", probes=("generations",))}
    found = compute(Evidence.load(tmp_path, views), None, TOFU)
    known = {name for name, score in found.items() if score is not None}
    assert known == {"likely.probability", "texts.rouge_l"}
    assert json.dumps(found)
