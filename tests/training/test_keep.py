"""What an unlearned model leaves behind: whose weights are dropped, and what is kept along the way.

The runs are performed here, on one store; a process of its own where it is to be killed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.pausing import HANGS

from unlearn_runner.commands.store import main as store_command
from unlearn_runner.config.compose import compose
from unlearn_runner.config.root import Evaluation
from unlearn_runner.pipeline import job as planned_job
from unlearn_runner.pipeline.job import plan_config
from unlearn_runner.pipeline.runner import run_job
from unlearn_runner.pipeline.stages.base import Stage
from unlearn_runner.store.store import WEIGHTS, Store
from unlearn_runner.training.recipe import Recipe

TINY = ("debug=tiny", "parallel.threads=1", "parallel.device=cpu", "method=ga", "rectifier=none")
TINY = (*TINY, "train.lr=1e-2")
DYING = str(Path(__file__).with_name("dying.py"))


class Place:
    """An outputs folder, and commands in it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.store = folder, Store(folder / "store")
        self.stages: dict[str, Stage] = {}

    def run(self, *overrides: str) -> dict[str, Any]:
        """Performs a command to its end; returns its stages by name, as `results.json` has them."""
        config = compose((*TINY, f"output_dir={self.folder}", *overrides)).config
        found = plan_config(config, lambda run: f"runs/{run.name or 'run'}", {})
        run_job(found, brief=True)
        self.stages = {stage.label: stage for stage in found.plan.stages}
        self.results = json.loads((found.folder / "results.json").read_text())
        return {stage["name"]: stage for stage in self.results["stages"]}

    def killed(self, place: str, kind: str, count: int, *overrides: str) -> None:
        """Runs a command in a process that dies at a moment."""
        done = subprocess.run(
            [
                *(sys.executable, DYING, place, kind, str(count)),
                *(*TINY, f"output_dir={self.folder}", *overrides),
            ],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=HANGS,
        )
        assert done.returncode == -signal.SIGKILL, done.stderr

    def stopped(self, kind: str, *overrides: str) -> None:
        """Performs a command up to where an artifact of a kind would be published."""

        class Dying(Store):
            def publish(self, stage: Stage, *how: Any) -> None:
                if stage.kind == kind:
                    raise KeyboardInterrupt
                super().publish(stage, *how)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(planned_job, "Store", Dying)
            with pytest.raises(KeyboardInterrupt):
                self.run(*overrides)

    def weights(self) -> list[str]:
        """Weights of the last run's unlearned model on the disk, listed in a manifest or not."""
        place = self.store.path(self.stages["unlearn"])
        return sorted(str(path.relative_to(place)) for path in place.rglob(WEIGHTS))


@pytest.fixture(scope="module")
def place(own_threads: None, tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = Place(tmp_path_factory.mktemp("place"))
    place.run()
    return place


# --- keep=scores


@pytest.mark.parametrize("really", [False, pytest.param(True, marks=pytest.mark.long)])
def test_weights_that_a_killed_run_left_are_dropped_by_the_next(really: bool, place: Place) -> None:
    how = (f"seed={10 + really}", "keep=scores")
    if really:
        place.killed("artifact not yet published", "evaluate", 1, *how)
    else:
        place.stopped("evaluate", *how)
    stages = place.run(*how)
    assert stages["unlearn"]["cached"]
    assert not stages["evaluate unlearned"]["cached"], "it was killed before that"
    assert place.weights() == []
    assert place.store.fault(place.stages["unlearn"]) == ""
    assert all(stage["cached"] for stage in place.run(*how).values())


def test_what_a_run_keeps_is_not_dropped_by_another(place: Place) -> None:
    place.run("seed=2")
    assert place.run("seed=2", "keep=scores", "name=other")["unlearn"]["cached"]
    assert place.weights() == ["model.safetensors"]
    # Nor when it is damaged, and it is the other run that makes it again.
    damaged = place.store.path(place.stages["unlearn"]) / "model.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    again = ("seed=2", "keep=scores", "name=other", "evaluate.precision=bf16")
    assert not place.run(*again)["unlearn"]["cached"]
    assert place.weights() == ["model.safetensors"]


def test_what_a_run_has_come_to_keep_is_not_dropped_any_more(place: Place) -> None:
    taken = []

    class Between(Store):
        """Another run, which keeps the model, comes between the computing and the dropping."""

        def drop(self, stage: Stage, pattern: str) -> None:
            if not taken:
                taken.append(True)
                assert Place(place.folder).run("seed=3", "name=keeps")["unlearn"]["cached"]
            super().drop(stage, pattern)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planned_job, "Store", Between)
        place.run("seed=3", "keep=scores")
    assert taken
    assert place.weights() == ["model.safetensors"]
    assert place.run("seed=3", "keep=scores")["unlearn"]["cached"]
    assert place.weights() == ["model.safetensors"]


def test_dropped_weights_are_made_again_for_whoever_needs_them(place: Place) -> None:
    place.run("seed=4", "keep=scores")
    assert place.weights() == []
    other = place.run("seed=4", "keep=scores", "evaluate.precision=bf16", "name=other")
    assert not other["unlearn"]["cached"], "another evaluation reads the weights"
    assert place.weights() == [], "and they pass again"
    assert not place.run("seed=4", "name=keeps")["unlearn"]["cached"]
    assert place.weights() == ["model.safetensors"]


def test_a_drop_that_was_killed_is_finished(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    unlink = Path.unlink

    def dying(path: Path, missing_ok: bool = False) -> None:
        if path.match(WEIGHTS):
            raise KeyboardInterrupt
        unlink(path, missing_ok)

    how = ("seed=5", "keep=scores")
    monkeypatch.setattr(Path, "unlink", dying)
    with pytest.raises(KeyboardInterrupt):
        place.run(*how)
    monkeypatch.undo()
    (left,) = (p for p in place.store.root.glob("unlearn/*/*.safetensors") if not listed(p))
    assert all(stage["cached"] for stage in place.run(*how).values())
    assert not left.exists()
    assert store_command(["verify", str(place.store.root)]) == 0


def listed(path: Path) -> bool:
    return path.name in json.loads((path.parent / "manifest.json").read_text())["files"]


# --- evaluate.every, keep=checkpoints, save_dtype

ALONG = ("seed=6", "train.steps=3", "evaluate.every=1", "keep=checkpoints", "save_dtype=bf16")
ALONG = (*ALONG, "train.checkpoint_every=2")


@pytest.fixture(scope="module")
def along(place: Place) -> Place:
    """A run that was killed when everything was computed, and repeated."""
    mine = Place(place.folder)
    mine.stopped("unlearn", *ALONG)
    mine.run(*ALONG)
    return mine


def tensors(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def evaluated_again(stage: Any, model: Path, folder: Path) -> dict[str, bytes]:
    """The evidence of a kept model, taken anew; `stage` has what it is asked."""
    import torch

    from unlearn_runner.distributed.ranks import ALONE
    from unlearn_runner.models.load import load_frozen, load_tokenizer

    folder.mkdir()
    loaded = load_frozen(model, "float32", torch.device("cpu"), "sdpa")
    stage.evaluator.run(loaded, load_tokenizer(model), folder, "again", ALONE)
    return evidence(folder)


def evidence(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.parquet")}


def test_what_is_kept_along_the_way_is_what_was_scored(along: Place, tmp_path: Path) -> None:
    import torch

    from unlearn_runner.evaluation.metrics.base import compute
    from unlearn_runner.evaluation.metrics.evidence import Evidence

    scored: Any = along.stages["score along"]
    kept = along.store.path(along.stages["unlearn"])
    retain = Evidence.load(along.store.path(scored.retain_model), scored.views)
    points = along.results["along"]
    assert [point["step"] for point in points] == [1, 2], "the third is the end"
    for point in points:
        place, again = kept / f"step-{point['step']:06d}", tmp_path / str(point["step"])
        assert {x.dtype for x in tensors(place / "model").values()} == {torch.float32}
        asked = along.stages["evaluate unlearned"]
        assert evaluated_again(asked, place / "model", again) == evidence(place)
        judged = Evidence.load(again, scored.views)
        assert point["scores"] == compute(judged, retain, scored.metrics)
    assert points[0]["scores"] != points[1]["scores"]


def test_the_end_is_kept_in_its_number_format_and_scored_from_it(
    along: Place, tmp_path: Path
) -> None:
    import torch

    kept = along.store.path(along.stages["unlearn"])
    asked = along.stages["evaluate unlearned"]
    scored = evidence(along.store.path(asked))
    found = tensors(kept)
    assert {x.dtype for x in found.values()} == {torch.bfloat16}
    assert json.loads((kept / "config.json").read_text())["dtype"] == "bfloat16"
    assert evaluated_again(asked, kept, tmp_path / "again") == scored

    plain = Place(along.folder)
    plain.run(*ALONG[:2], "save_dtype=bf16", "name=plain")
    assert plain.stages["unlearn"].key != along.stages["unlearn"].key
    place = plain.store.path(plain.stages["unlearn"])
    name = "model.safetensors"
    assert (place / name).read_bytes() == (kept / name).read_bytes(), "looking changes nothing"
    assert plain.results["scores"] == along.results["scores"]

    plain.run(*ALONG[:2], "name=float32")
    whole = tensors(plain.store.path(plain.stages["unlearn"]))
    assert all(whole[name].bfloat16().equal(found[name]) for name in whole)
    assert evidence(plain.store.path(plain.stages["evaluate unlearned"])) != scored


@pytest.mark.parametrize(
    ("every", "steps"),
    [
        (None, ()),
        (4, (4, 8, 12)),
        (5, (5, 10)),
        (15, ()),
        ("1epoch", (5, 10)),
        ("2epochs", (10,)),
        ("3 epochs", ()),
        ("0.5epochs", (2, 5, 7, 10, 12)),
        (".1epochs", (*range(1, 15),)),
    ],
)
def test_scores_are_taken_after_these_of_15_steps(every: Any, steps: tuple[int, ...]) -> None:
    """40 rows in batches of 8 are 5 steps an epoch; the last step is the end, scored anyway."""
    recipe = Recipe(epochs=3.0, batch_size=8)
    assert recipe.num_steps(40) == 15
    assert Evaluation(every=every).steps(recipe, 40) == steps
