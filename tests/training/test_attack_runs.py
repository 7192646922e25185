"""`unlearn-attack` on a run of the smallest model: verdicts, files, report, and mistakes."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.finished import finished_run

from unlearn_runner.commands.attack import main
from unlearn_runner.commands.report import main as report
from unlearn_runner.config import names
from unlearn_runner.config.compose import compose
from unlearn_runner.config.root import validate
from unlearn_runner.errors import ConfigError

# Twelve rows of two people, so that intervals are of something.
TINY = (
    "debug=tiny",
    "parallel.threads=1",
    "parallel.device=cpu",
    "rectifier=none",
    "train.lr=1e-2",
)
TINY = (*TINY, "benchmark.limit=12", "~benchmark.view.real_authors", "~benchmark.view.world_facts")
LEARNED = ("attack=relearn", "attack.lr=1e-2", "attack.batch_size=8", "attack.share=0.5")


@pytest.fixture(scope="module")
def outputs(own_threads: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("attacks")


@pytest.fixture(scope="module")
def run(outputs: Path) -> Path:
    return finished_run(*TINY, "adapter=lora", f"output_dir={outputs}", "method=ga", "name=ga")


@pytest.fixture(autouse=True)
def command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["unlearn"])  # the command changes it


def verdicts(run: Path) -> list[dict[str, Any]]:
    return [json.loads(p.read_text()) for p in sorted(run.glob("attack-*.json"))]


def stages(run: Path) -> list[dict[str, Any]]:
    return json.loads((run / "results.json").read_text())["stages"]


def test_both_models_are_attacked_once_and_compared(run: Path) -> None:
    before = yaml.safe_load((run / "config.yaml").read_text())
    scores = json.loads((run / "results.json").read_text())["scores"]
    assert main([str(run), *LEARNED]) == 0
    (found,) = verdicts(run)
    assert found["settings"] == {"share": 0.5, "lr": 0.01, "batch_size": 8}
    assert found["rows"] == 6, "of twelve those that were not trained on"
    first = found["scores"][0]
    assert first["score"] == "forget.probability"
    models = first["models"]
    assert models["attacked"] > models["unlearned"], "it learns"
    assert models["attacked_retain_model"] > models["retain_model"]
    lost = models["target"] - models["unlearned"]
    recovered = (models["attacked"] - models["unlearned"]) / lost
    assert first["recovered"]["value"] == pytest.approx(recovered)
    control = models["attacked_retain_model"] - models["retain_model"]
    assert first["robustness"] == pytest.approx(
        min(1, control / (models["attacked"] - models["unlearned"]))
    )
    after = yaml.safe_load((run / "config.yaml").read_text())
    assert names.identity(before) == names.identity(after), "the run is what it was"
    results = json.loads((run / "results.json").read_text())
    assert results["scores"] == scores
    assert any(note.startswith("attack relearn (share=0.5") for note in results["notes"])
    new = {s["name"] for s in stages(run) if not s["cached"] and s["needed"]}
    assert new == {
        *("unlearned merged", "attack unlearned", "attack retain_model"),
        *("evaluate attacked unlearned", "evaluate attacked retain_model"),
        "attack relearn (share=0.5, lr=0.01, batch_size=8)",
    }
    assert main([str(run), *LEARNED]) == 0
    assert all(s["cached"] for s in stages(run) if s["needed"]), "a second time costs nothing"


def test_several_attacks_lie_beside_each_other_and_in_the_report(run: Path, tmp_path: Path) -> None:
    assert main([str(run), "attack=nf4,prefix,few_shot"]) == 0
    assert {"nf4", "prefix", "fewshot"} <= {one["attack"] for one in verdicts(run)}
    assert main([str(run), *LEARNED]) == 0
    assert report([str(run), "--out", str(tmp_path)]) == 0
    page, table = (tmp_path / "report.html").read_text(), (tmp_path / "attacks.csv").read_text()
    assert 'id="attack-heading"' in page
    for one in verdicts(run):
        assert f"{one['scores'][0]['models']['attacked']:.4f}" in page
        assert one["attack"] in table
    drawn = (tmp_path / "attacks.svg").read_text()
    assert "retain model, attacked alike" in drawn
    place = next(run.glob("attack-nf4-*.json"))
    text = place.read_text()
    place.write_text(text.replace('"unlearn/', '"unlearn/0'))  # of a model that is there no more
    assert report([str(run), "--out", str(tmp_path)]) == 0
    assert "nf4" not in (tmp_path / "attacks.csv").read_text()
    place.write_text('{"attack": "<script>"}')
    assert report([str(run), "--out", str(tmp_path)]) == 2
    place.write_text(text)


def test_what_cannot_be_attacked_is_refused(
    run: Path, outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*words: str) -> str:
        assert main(list(words)) == 2
        return capsys.readouterr().err

    assert "no attack is named; allowed: few_shot, int8" in refused(str(run))
    assert "attack=relearn" in refused(str(run), "attack=relern")
    assert "attack.lrr" in refused(str(run), "attack=relearn", "attack.lrr=1")
    assert "method=ga is no setting" in refused(str(run), "method=ga")
    assert "no run is named" in refused("attack=nf4")
    unfinished = outputs / "runs" / "unfinished"
    unfinished.mkdir()
    (unfinished / "status.json").write_text('{"status": "interrupted"}')
    assert "the run is interrupted" in refused(str(unfinished), "attack=nf4")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("benchmark=pocket_choices attack=prefix", "no free questions"),
        ("benchmark=muse_pocket attack=few_shot", "no free questions"),
        ("attack=relearn attack.share=0", "attack.share=0 is not allowed"),
    ],
)
def test_an_attack_that_means_nothing_is_refused_before_anything_runs(
    words: str, said: str
) -> None:
    from helpers.planning import plan_run

    with pytest.raises(ConfigError, match=said):
        plan_run(validate(compose(shlex.split(words)).config))
