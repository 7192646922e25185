"""Stop rules, and whole runs over sequences: they end where evidence says so, resumed too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from unlearn_runner.config.compose import compose
from unlearn_runner.errors import ConfigError, UserError
from unlearn_runner.pipeline import job as planned_job
from unlearn_runner.pipeline.job import plan_config
from unlearn_runner.pipeline.runner import run_job
from unlearn_runner.pipeline.stages.base import Stage
from unlearn_runner.store.store import Store
from unlearn_runner.training.stop import StopRule

TINY = (
    *("debug=tiny", "parallel.threads=1", "parallel.device=cpu", "rectifier=none"),
    *("benchmark=tdec_pocket", "benchmark.source.sequences=4", "benchmark.source.length=16"),
    *("benchmark.source.facts=2", "benchmark.limit=2", "evaluate.every=1", "train.lr=3e-2"),
    *("train.steps=6", "target.train.steps=12", "target.train.lr=1e-2", "method=gd"),
)


class Place:
    """An outputs folder, and commands in it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.store = folder, Store(folder / "store")

    def run(self, *overrides: str, **changed: Any) -> dict[str, Any]:
        """Performs a command to its end; returns its results, with the unlearned weights."""
        config = compose((*TINY, f"output_dir={self.folder}", *overrides)).config
        config["train"] |= changed
        found = plan_config(config, lambda run: f"runs/{run.name or 'run'}", {})
        run_job(found, brief=True)
        stages = {stage.label: stage for stage in found.plan.stages}
        self.unlearned = self.store.path(stages["unlearn"])
        results = json.loads((found.folder / "results.json").read_text())
        return results | {"weights": (self.unlearned / "model.safetensors").read_bytes()}

    def interrupted(self, *overrides: str, **changed: Any) -> None:
        """Performs a command up to where the unlearned model would be published."""

        class Dying(Store):
            def publish(self, stage: Stage, *how: Any) -> None:
                if stage.kind == "unlearn":
                    raise KeyboardInterrupt
                super().publish(stage, *how)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(planned_job, "Store", Dying)
            with pytest.raises(KeyboardInterrupt):
                self.run(*overrides, **changed)


@pytest.fixture(scope="module")
def place(own_threads: None, tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("place"))


@pytest.fixture(scope="module")
def free(place: Place) -> dict[str, Any]:
    """A run that nothing ends."""
    return place.run("name=free")


def test_a_run_over_sequences_is_scored(free: dict[str, Any]) -> None:
    assert free["status"] == "completed"
    assert "stopped" not in free
    scores, ways = free["scores"], free["directions"]
    assert {
        scores[f"{who}forget.{m}"] is None for who in ("", "target.") for m in ("ma", "el_10")
    } == {False}
    assert scores["forget.perplexity"] > scores["target.forget.perplexity"]
    assert (ways["forget.ma"], ways["forget.el_10"], ways["heldout.perplexity"]) == ("lower",) * 3
    assert ways["forget.perplexity"] == "higher"
    # Thresholds are of the target alone.
    assert scores["target.unseen.ma"] is not None
    assert scores["unseen.ma"] is None
    assert [one["step"] for one in free["along"]] == [1, 2, 3, 4, 5]


@pytest.fixture(scope="module")
def rule(free: dict[str, Any]) -> dict[str, Any]:
    """A rule that first holds at step 4."""
    third, fourth = (free["along"][i]["scores"]["forget.perplexity"] for i in (2, 3))
    assert third < fourth, "unlearning makes them unlikely"
    return {"metric": "forget.perplexity", "above": (third + fourth) / 2}


@pytest.fixture(scope="module")
def ended(place: Place, rule: dict[str, Any]) -> dict[str, Any]:
    return place.run("name=ended", stop=rule)


def test_it_ends_at_the_first_step_where_the_rule_holds(
    free: dict[str, Any], ended: dict[str, Any], rule: dict[str, Any], place: Place
) -> None:
    value = free["along"][3]["scores"]["forget.perplexity"]
    assert ended["stopped"] == {
        "step": 4,
        "epochs": 4 * 8 / 4,  # batches of 8 from 4 sequences
        "scores": {"forget.perplexity": value},
        "bounds": {"forget.perplexity": rule["above"]},
    }
    assert ended["along"] == free["along"][:4]
    assert ended["scores"]["forget.perplexity"] == pytest.approx(value, rel=1e-6)
    assert any("stopped after step 4, 8 epochs to forget" in note for note in ended["notes"])
    text = (place.unlearned / "metrics.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line.get("stopped") for line in lines] == [None, None, None, True]
    assert ended["weights"] != free["weights"]


def test_a_rule_that_holds_after_the_last_step_says_so(
    ended: dict[str, Any], rule: dict[str, Any], place: Place
) -> None:
    found = place.run("name=last", stop=rule, steps=4)
    assert [one["step"] for one in found["along"]] == [1, 2, 3]
    assert found["weights"] == ended["weights"]
    last, before = found["stopped"], ended["stopped"]
    assert (last["step"], last["epochs"], last["bounds"]) == (4, 8.0, before["bounds"])
    assert last["scores"] == pytest.approx(before["scores"], rel=1e-6)
    assert any("stopped after step 4, 8 epochs to forget" in note for note in found["notes"])


@pytest.mark.parametrize("every", [1, 3])
def test_resumed_it_ends_there_bit_for_bit(
    every: int, ended: dict[str, Any], rule: dict[str, Any], tmp_path: Path, own_threads: None
) -> None:
    """Killed with the decision made; continued from the very step's checkpoint, or one before."""
    again, how = Place(tmp_path), {"stop": rule, "checkpoint_every": every}
    again.interrupted(**how)
    found = again.run(**how)
    assert found["stopped"] == ended["stopped"]
    assert found["weights"] == ended["weights"]


def test_several_rules_must_all_hold_and_a_bound_may_be_the_targets_score(
    rule: dict[str, Any], place: Place
) -> None:
    rules = [rule, {"metric": "forget.ma", "below": "unseen.ma"}]
    found = place.run("name=both", stop=rules, steps=6)
    if "stopped" in found:
        assert found["stopped"]["bounds"]["forget.ma"] == found["scores"]["target.unseen.ma"]
        assert found["stopped"]["scores"]["forget.ma"] < found["scores"]["target.unseen.ma"]
        assert found["stopped"]["step"] >= 4
    else:
        assert "train.stop: its bounds were not reached by the last step" in found["notes"]
    never = place.run("name=never", stop={"metric": "forget.ma", "below": 0.0}, steps=6)
    assert "train.stop: its bounds were not reached by the last step" in never["notes"]
    assert len(never["along"]) == 5


def test_nothing_is_generated_while_another_rule_says_to_go_on(
    free: dict[str, Any], ended: dict[str, Any], rule: dict[str, Any], place: Place
) -> None:
    rules = [{"metric": "forget.el_10", "below": 1.1}, rule]
    found = place.run("name=brief", "evaluate.along=stop", stop=rules)
    assert found["weights"] == ended["weights"]
    assert [one["step"] for one in found["along"]] == [1, 2, 3, 4]
    assert found["stopped"]["step"] == 4
    brief, every = ([one["scores"] for one in run["along"]] for run in (found, free))
    assert [one.get("forget.el_10") for one in brief] == [None] * 3 + [every[3]["forget.el_10"]]
    assert [one["forget.ma"] for one in brief] == [one["forget.ma"] for one in every[:4]]
    assert [one.get("heldout.perplexity") for one in brief] == [None] * 4
    assert found["scores"]["heldout.perplexity"] is not None, "scored at the end"


# --- what is refused


def test_a_rule_has_one_bound() -> None:
    with pytest.raises(ConfigError, match=r"forget\.ma needs one bound"):
        StopRule("forget.ma")
    with pytest.raises(ConfigError, match="needs one bound"):
        StopRule("forget.ma", below=0.1, above=0.2)


def test_a_rule_holds_strictly_beyond_its_bound() -> None:
    start = {"unseen.ma": 0.3}
    assert not StopRule("x", below=0.3).holds({"x": 0.3}, {})
    assert StopRule("x", below="unseen.ma").holds({"x": 0.29}, start)
    assert StopRule("x", above="unseen.ma").holds({"x": 0.31}, start)
    with pytest.raises(UserError, match="no score along the way named y; there are x"):
        StopRule("y", below=1.0).holds({"x": 0.0, "z": None}, {})


REFUSED = [
    (("evaluate.every=null", "train.stop={metric: forget.ma, below: 0.1}"), "evaluate.every"),
    (("evaluate.along=stop",), "what train.stop is about, which is null"),
    (("train.stop={metric: forget.mo, below: 0.1}",), "no score of this benchmark along the way"),
    (("train.stop={metric: unseen.ma, below: 0.1}",), "no score of this benchmark along the way"),
    (("train.stop={metric: forget.ma, below: unsen.ma}",), "no score of this benchmark"),
    (("target.train.stop={metric: forget.ma, below: 0.1}",), "only unlearning is ended by scores"),
    (("method=idk",), "texts that ask none"),
    (("method=dpo",), "texts that ask none"),
    (("method=altpo",), "texts that ask none"),
    (("method.retain.loss=ap",), "texts that ask none"),
]


@pytest.mark.parametrize(("overrides", "said"), REFUSED)
def test_what_cannot_be_is_refused(overrides: tuple[str, ...], said: str) -> None:
    config = compose((*TINY, *overrides)).config
    with pytest.raises(ConfigError, match=said):
        plan_config(config, lambda run: "runs/x", {})
