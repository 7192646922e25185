"""`unlearn-eval`: a checkpoint evaluated with no run around it has the scores a run gives it."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.stats import ks_2samp

import unlearn_runner as ur
from unlearn_runner import api
from unlearn_runner.commands.eval import as_evaluation, main
from unlearn_runner.errors import ConfigError
from unlearn_runner.report.discovery import find_runs
from unlearn_runner.report.run_folder import RunFolder, read

pytestmark = pytest.mark.usefixtures("own_threads")

TINY = ("debug=tiny", "parallel.threads=1", "parallel.device=cpu")
VIEWS = ("forget", "retain", "real_authors", "world_facts")
PROBES = ("logprobs", "generations")


def outputs(folder: Path) -> str:
    return f"output_dir={folder}"


def artifact(run: RunFolder, stage: str) -> Path:
    ran = run.stage(stage)
    assert ran is not None
    place = run.artifact(ran)
    assert place is not None
    return place


def evaluated(folder: Path, name: str, *words: str) -> RunFolder:
    """Evaluates by the command into a folder of its own, and reads what that leaves."""
    assert main([*words, *TINY, outputs(folder), f"name={name}"]) == 0
    return read(folder / "evals" / name)


@pytest.fixture(autouse=True)
def _argv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["unlearn-eval"])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run that has made everything itself, and moved its model a little."""
    words = ("method=ga", "rectifier=none", "train.lr=1e-2", "name=made")
    return api.run(*TINY, *words, outputs(tmp_path_factory.mktemp("made")))


@pytest.fixture(scope="module")
def saved(made: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its models as a user of transformers would save them."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path_factory.mktemp("saved")
    for stage in ("unlearn", "retain_model"):
        place = artifact(made, stage)
        AutoModelForCausalLM.from_pretrained(place).save_pretrained(folder / stage)
        AutoTokenizer.from_pretrained(place).save_pretrained(folder / stage)
    return folder


@pytest.fixture(scope="module")
def alone(saved: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The unlearned one, evaluated against the retain model in a store of its own."""
    before, sys.argv = sys.argv, ["unlearn-eval"]
    folder = tmp_path_factory.mktemp("alone")
    retain = f"retain_model.path={saved / 'retain_model'}"
    found = evaluated(folder, "alone", str(saved / "unlearn"), retain)
    sys.argv = before
    return found


def test_nothing_is_trained(alone: RunFolder) -> None:
    assert [ran.name for ran in alone.stages] == [
        "model",
        "retain_model",
        "evaluate model",
        "evaluate retain_model",
        "score model",
        "score retain_model",
    ]
    assert alone.status == "completed"
    made = {path.parents[1].name for path in alone.stores[0].glob("*/*/manifest.json")}
    assert made == {"evaluate", "score"}
    assert {alone.choice(group) for group in ("method", "rectifier")} == {"none"}


@pytest.mark.parametrize("model", ["unlearned", "retain_model"])
@pytest.mark.parametrize("view", VIEWS)
def test_it_sees_what_the_run_saw(view: str, model: Any, alone: RunFolder, made: RunFolder) -> None:
    mine = "model" if model == "unlearned" else model
    for probe in PROBES:
        one = pq.read_table(artifact(made, f"evaluate {model}") / f"{view}.{probe}.parquet")
        two = pq.read_table(artifact(alone, f"evaluate {mine}") / f"{view}.{probe}.parquet")
        assert one.num_rows >= 6
        assert one.equals(two)


def test_it_scores_as_the_run_scored(alone: RunFolder, made: RunFolder) -> None:
    assert alone.scores == made.scores
    assert alone.scores_of("retain_model") == made.scores_of("retain_model")
    assert alone.scores["forget_quality"] is not None
    assert alone.scores != made.scores_of("target"), "else the model has not moved"
    assert {k: alone.interval(k) for k in alone.scores} == {
        k: made.interval(k) for k in made.scores
    }


def test_it_is_a_run_to_everything_that_reads_runs(
    alone: RunFolder, saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from unlearn_runner.store.inventory import uses

    top = alone.path.parents[1]
    assert [run.name for run in find_runs([top]).runs] == ["alone"]
    assert ur.load_runs(top).loc[0, "forget_quality"] == alone.scores["forget_quality"]
    assert len(ur.evidence(alone, "forget", model="model")) >= 6
    stored = {f"{ran.kind}/{ran.key}" for ran in alone.stages}
    assert {*uses([top], []).by_artifact} == stored
    again = evaluated(
        top, "alone", str(saved / "unlearn"), f"retain_model.path={saved / 'retain_model'}"
    )
    assert all(ran.cached for ran in again.stages)
    assert "forget_quality_ks" in capsys.readouterr().out


def test_without_a_retain_model_none_is_trained(saved: Path, alone: RunFolder) -> None:
    found = evaluated(alone.path.parents[1], "bare", str(saved / "unlearn"))
    assert [ran.name for ran in found.stages] == ["model", "evaluate model", "score model"]
    assert found.scores["forget_quality"] is None
    same = {k: v for k, v in alone.scores.items() if not k.startswith("forget_quality")}
    assert {k: found.scores[k] for k in same} == same


@pytest.mark.long
def test_ranks_share_the_work(saved: Path, alone: RunFolder, tmp_path: Path) -> None:
    retain = f"retain_model.path={saved / 'retain_model'}"
    ranks = ("parallel=ddp", "parallel.ranks=2")
    found = evaluated(tmp_path, "two", str(saved / "unlearn"), retain, *ranks)
    assert found.provenance["ranks"] == 2
    assert found.scores == pytest.approx(alone.scores, rel=1e-5)


def test_several_are_a_sweep(saved: Path, alone: RunFolder) -> None:
    paths = f"evaluate.path={saved / 'unlearn'},{saved / 'retain_model'}"
    retain = f"retain_model.path={saved / 'retain_model'}"
    top = alone.path.parents[1]
    assert main(["-m", paths, retain, *TINY, outputs(top), "name=two"]) == 0
    runs = find_runs([top / "sweeps" / "two"]).runs
    quality = sorted(run.scores["forget_quality"] or 0 for run in runs)
    assert quality == [alone.scores["forget_quality"], 1]


def test_against_a_log_of_open_unlearning(saved: Path, shared: Path, tmp_path: Path) -> None:
    """Forget quality by SciPy, from the log's own truth ratios and our evidence."""
    name = "tofu_Llama-3.2-1B-Instruct_retain90.TOFU_EVAL.min.json"
    log = shared / "data/tofu_eval_logs/open_unlearning" / name
    data = ("benchmark=tofu", f"benchmark.data_dir={shared / 'data/tofu'}", "benchmark.limit=12")
    found = evaluated(tmp_path, "logged", str(saved / "unlearn"), *data, f"retain_model.log={log}")
    rows = ur.evidence(found, "forget", model="model")
    rows = rows.assign(mean=rows.logprob.map(np.mean))
    by_role = rows.groupby(["role", "row"])["mean"].mean()
    mine = np.exp(by_role["perturbed"] - by_role["paraphrased"])
    theirs = json.loads(log.read_text())["forget_truth_ratio"]["value_by_index"]
    expected = ks_2samp(mine, [theirs[str(row)]["score"] for row in range(12)])
    assert expected.pvalue < 1
    assert found.scores["forget_quality"] == pytest.approx(expected.pvalue, rel=1e-9)
    assert found.scores["forget_quality_ks"] == pytest.approx(expected.statistic, rel=1e-9)
    assert str(log) in found.provenance["given"]["retain log"]


def test_an_adapter_is_evaluated_on_its_base(made: RunFolder, tmp_path: Path) -> None:
    top = made.path.parents[1]
    run = api.run(
        *TINY, "adapter=lora", "method=ga", "rectifier=none", "train.lr=1e-2", outputs(top)
    )
    for stage in ("unlearn", "target"):
        shutil.copytree(artifact(run, stage), tmp_path / stage)
    assert not (tmp_path / "unlearn" / "model.safetensors").exists()
    base = ("model=hf", f"model.path={tmp_path / 'target'}")
    found = evaluated(tmp_path / "out", "adapter", str(tmp_path / "unlearn"), *base)
    mine = ur.evidence(found, "forget", model="model")
    theirs = ur.evidence(run, "forget")
    for one, two in zip(mine.logprob, theirs.logprob, strict=True):
        assert one == pytest.approx(two, abs=1e-4)  # merged weights are rounded
    assert found.scores["forget.probability"] != made.scores_of("target")["forget.probability"]


# --- what is refused


@pytest.fixture
def without_tokenizer(saved: Path, tmp_path: Path) -> Path:
    shutil.copytree(saved / "unlearn", tmp_path / "bare")
    for path in (tmp_path / "bare").glob("tokenizer*"):
        path.unlink()
    return tmp_path / "bare"


REFUSED = {
    "": ("no checkpoint is named", "unlearn-eval --help"),
    "benchmark=tofu": ("no checkpoint is named", "unlearn-eval --help"),
    "@nowhere": ("is not a folder", "evaluate.path=FOLDER"),
    "@bare": ("it has no tokenizer", "evaluate.path=FOLDER"),
    "@good @bare": ("2 checkpoints are named", "unlearn-eval -m evaluate.path="),
    "@good method=npo": ("method=npo has no part", "unlearn evaluate.path="),
    "@good target.path=x": ("target.path=x has no part", "unlearn evaluate.path="),
    "@good evaluate.every=5": ("evaluate.every=5 has no part", "unlearn evaluate.path="),
    "@good retain_model.path=@nowhere": ("retain_model.path", "retain_model.path=FOLDER"),
    "@good retain_model.log=nope.json": ("nope.json", ""),
    "@good benchmrk=tofu": ("benchmrk is not a setting", "benchmark=tofu"),
    "@good colour=red": ("colour is not a setting", ""),
    "@good model=chat": ("evaluate.path", "model=hf"),
    "@good --jsn": ("--jsn is not a flag", ""),
}


@pytest.mark.parametrize("words", REFUSED)
def test_a_mistake_ends_in_two_lines_and_leaves_nothing(
    words: str,
    saved: Path,
    without_tokenizer: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    places = {"@good": saved / "unlearn", "@bare": without_tokenizer, "@nowhere": tmp_path / "no"}
    typed = words.split()
    for word, place in places.items():
        typed = [one.replace(word, str(place)) for one in typed]
    assert main([*typed, *TINY, outputs(tmp_path / "out")]) == 2
    said = capsys.readouterr()
    problem, *fix = said.err.splitlines()
    expected, offered = REFUSED[words]
    assert said.out == ""
    assert problem.startswith("error: ")
    assert expected in problem
    assert len(fix) <= 1
    assert offered in "".join(fix)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["a/b", "seed=1"], ["evaluate.path=a/b", "seed=1"]),
        (["seed=1", "a b"], ["seed=1", 'evaluate.path="a b"']),
        (["a,b"], ['evaluate.path="a,b"']),
        (["007"], ['evaluate.path="007"']),
        (["~/m", "~benchmark.metric.x"], ['evaluate.path="~/m"', "~benchmark.metric.x"]),
        (["--config-dir", "mine", "m"], ["--config-dir", "mine", "evaluate.path=m"]),
        (["-m", "evaluate.path=a,b"], ["-m", "evaluate.path=a,b"]),
    ],
)
def test_which_word_is_the_checkpoint(typed: list[str], meant: list[str]) -> None:
    assert as_evaluation(typed) == meant


def test_a_folder_may_have_a_name_like_an_override(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "seed=1").mkdir()
    monkeypatch.chdir(tmp_path)
    assert as_evaluation(["seed=1"]) == ['evaluate.path="seed=1"']
    with pytest.raises(ConfigError, match="2 checkpoints"):
        as_evaluation(["seed=1", "evaluate.path=x"])


def test_help_says_how(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "retain_model.log=LOG" in capsys.readouterr().out
