"""`unlearn-geffect` on runs of the smallest model: tables, files, report, and mistakes."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from helpers.finished import finished_run

from unlearn_runner.commands.geffect import main
from unlearn_runner.commands.report import main as report
from unlearn_runner.config import names
from unlearn_runner.config.compose import compose
from unlearn_runner.config.root import validate
from unlearn_runner.errors import ConfigError
from unlearn_runner.pipeline.job import plan_config
from unlearn_runner.pipeline.runner import run_job

TINY = ("debug=tiny", "parallel.threads=1", "parallel.device=cpu", "rectifier=none")
TINY = (*TINY, "train.lr=1e-2", "train.steps=2")
KEPT = ("evaluate.every=1", "keep=checkpoints")


def finished(outputs: Path, name: str, *overrides: str) -> Path:
    return finished_run(*TINY, f"output_dir={outputs}", *overrides, f"name={name}")


@pytest.fixture(scope="module")
def outputs(own_threads: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("geffect")


@pytest.fixture(scope="module")
def run(outputs: Path) -> Path:
    return finished(outputs, "npo", "method=npo", "method.retain.loss=none", *KEPT)


@pytest.fixture(autouse=True)
def command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["unlearn"])  # the command changes it


def written(run: Path) -> str:
    return (run / "config.yaml").read_text()


def summary(run: Path, name: str = "geffect") -> dict[str, Any]:
    return json.loads((run / f"{name}.json").read_text())


def test_a_run_is_measured_at_every_kept_model(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, scores = written(run), json.loads((run / "results.json").read_text())
    assert main([str(run), "per_sample=true"]) == 0
    shown = capsys.readouterr().out
    found = summary(run)
    assert (found["objective"], found["risk"], found["mode"]) == ("NPO", "NLL", "exact")
    steps = found["steps"]
    assert [step["step"] for step in steps] == [0, 1, 2]
    for step in steps:
        number = re.escape(f"{step['e_u']:.4g}")
        assert re.search(rf"{step['step']} │ +{number} ", shown)
        for at, name in enumerate(("e_u", "e_r")):
            assert sum(e[at] for e in step["groups"].values()) == pytest.approx(step[name])
    lr = 1e-2
    assert steps[0]["sum_u"] == 0
    assert steps[2]["sum_u"] == pytest.approx(-lr * (steps[0]["e_u"] + steps[1]["e_u"]))
    assert steps[0]["e_u"] < 0 < steps[1]["risk_u"] - steps[0]["risk_u"], "it unlearns"
    rows = pq.read_table(run / "geffect.parquet").to_pylist()
    for step in steps:
        own = [row for row in rows if row["step"] == step["step"]]
        assert sum(row["e_u"] for row in own) == pytest.approx(step["e_u"])
        assert all(abs(r["e_u"]) <= r["norm_objective"] * r["norm_risk_u"] * 1.0001 for r in own)
    samples = pq.read_table(run / "geffect.samples.parquet").to_pylist()
    for step in steps:  # NPO is a weighted mean of its rows' effects
        own = [row for row in samples if row["step"] == step["step"]]
        assert len(own) == len(found["forget_rows"])
        mean = sum(row["weight"] * row["pg_u"] for row in own) / len(own)
        assert mean == pytest.approx(step["e_u"], rel=1e-4)
    after = json.loads((run / "results.json").read_text())
    assert after["scores"] == scores["scores"]
    assert all(stage["cached"] for stage in after["stages"] if stage["kind"] != "geffect")
    before, now = (names.identity(yaml.safe_load(text)) for text in (config, written(run)))
    assert before == now, "the run is what it was"


def test_a_second_time_costs_nothing_and_another_question_is_kept_beside(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(run)]) == 0
    first = summary(run)
    assert main([str(run)]) == 0
    results = json.loads((run / "results.json").read_text())
    assert [s["cached"] for s in results["stages"] if s["kind"] == "geffect"] == [True]
    assert main([str(run), "method=ga", "mode=ema", "risk=kl"]) == 0
    (other,) = run.glob("geffect-ga-*-kl-ema.json")
    assert summary(run, other.stem)["objective"] == "GA"
    assert summary(run) == first
    start = summary(run, other.stem)["steps"][0]
    assert (start["e_u"], start["risk_u"]) == pytest.approx((0, 0), abs=1e-6), "it is the start"


def test_the_report_shows_what_a_run_folder_holds(run: Path, tmp_path: Path) -> None:
    assert main([str(run)]) == 0
    assert report([str(run), "--out", str(tmp_path)]) == 0
    page = (tmp_path / "report.html").read_text()
    assert 'id="geffect"' in page
    assert f"{summary(run)['steps'][1]['e_u']:.4g}" in page
    for name in ("e_u", "e_r"):
        drawn = (tmp_path / f"geffect-1-{name}.svg").read_text()
        assert "embed" in drawn
        assert "middle" in drawn
    path = run / "geffect.json"
    text = path.read_text()
    path.write_text(text.replace('"unlearn/', '"unlearn/0'))  # of models that are there no more
    assert report([str(run), "--out", str(tmp_path)]) == 0
    assert "objective NPO" not in (tmp_path / "report.html").read_text()
    path.write_text('{"steps": "<script>"}')
    assert report([str(run), "--out", str(tmp_path)]) == 2
    path.write_text(text)


def test_adapters_are_loaded_and_their_tensors_measured(outputs: Path) -> None:
    folder = finished(outputs, "lora", "method=ga", "adapter=lora", *KEPT)
    assert main([str(folder)]) == 0
    found = summary(folder)
    rows = pq.read_table(folder / "geffect.parquet").to_pylist()
    assert {row["tensor"].split(".")[-3] for row in rows} == {"lora_A", "lora_B"}
    # B begins at zero, so A has no gradient at first.
    at_start = [row for row in rows if row["step"] == 0]
    assert all((row["norm_objective"] == 0) == ("lora_A" in row["tensor"]) for row in at_start)
    assert found["steps"][2]["risk_u"] > found["steps"][0]["risk_u"]
    own = json.loads((folder / "results.json").read_text())["along"][0]["scores"]
    assert own["forget.probability"] is not None


# --- mistakes


def test_a_run_without_models_is_told_the_command_that_keeps_them(
    outputs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = finished(outputs, "bare", "method=ga", "keep=model")
    capsys.readouterr()
    assert main([str(folder)]) == 2
    problem, fix = capsys.readouterr().err.strip().splitlines()
    assert problem.startswith(f"error: {folder} has kept no models on its way")
    words = shlex.split(fix.removeprefix("fix: "))
    assert words[0] == "unlearn"
    monkeypatch.setattr("sys.argv", words)
    composed = compose(words[1:])
    job = plan_config(composed.config, composed.name_run, composed.choices)
    assert job.run.keep == "checkpoints"
    assert job.folder != folder
    run_job(job, brief=True)
    assert main([str(job.folder)]) == 0


@pytest.mark.parametrize(
    ("words", "problem", "fix"),
    [
        (["mod=ema"], "mod=ema is no setting of a measurement", "mode=ema"),
        (["mode=average"], "geffect.mode=average is not allowed", ""),
        (["mode=ema", "retain_rows=3"], "geffect.retain_rows is of geffect.mode=exact", "geffect."),
        (["boundaries=[2,1]"], "`deep` begins before `middle`", "geffect.boundaries"),
        (["method=task_vector"], "minimises nothing", "geffect.method=null"),
        (["method.beta=1"], "of an objective that is named beside it", "unlearn-geffect"),
    ],
)
def test_mistakes_take_two_lines(
    run: Path, capsys: pytest.CaptureFixture[str], words: list[str], problem: str, fix: str
) -> None:
    assert main([str(run), *words]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) <= 2
    assert problem in said[0]
    assert fix in said[-1]


def test_no_run_and_a_folder_without_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([]) == 2
    assert "unlearn-geffect --help" in capsys.readouterr().err
    assert main([str(tmp_path)]) == 2
    assert "holds no run" in capsys.readouterr().err
    assert main(["--help"]) == 0
    assert "e_u" in capsys.readouterr().out


def test_a_run_that_keeps_nothing_cannot_measure_in_its_plan() -> None:
    with pytest.raises(ConfigError, match=r"geffect\.mode=exact is of the models"):
        validate(compose([*TINY, "geffect.mode=exact"]).config)


def test_the_measurement_is_no_part_of_what_a_run_is(outputs: Path) -> None:
    def planned(*overrides: str) -> Any:
        composed = compose([*TINY, f"output_dir={outputs}", "method=ga", *KEPT, *overrides])
        return plan_config(composed.config, composed.name_run, composed.choices)

    plain, measured = planned(), planned("geffect.mode=exact")
    other = planned("geffect.mode=exact", "geffect.risk=kl")
    assert plain.config_hash == measured.config_hash
    assert plain.folder == measured.folder
    assert plain.plan.unlearn.key == measured.plan.unlearn.key
    assert plain.plan.geffect is None
    assert measured.plan.geffect.key != other.plan.geffect.key
