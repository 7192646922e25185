"""A sweep with a dashboard beside it, interrupted in the middle and given again.

What the dashboard would get is read back from its files: one run per job, each whole.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mirrors
import pytest
from helpers.pausing import Pause
from omegaconf import OmegaConf

from unlearn_runner.evaluation.metrics.evidence import read_texts
from unlearn_runner.report.run_folder import read
from unlearn_runner.tracking.base import ANSWERS

STEPS, EVERY = 50, 10
CUT_AT = 30
"""W&B writes blocks of 32 KiB; a kill before the first is full would leave nothing to compare."""
NAME = "gamma-by-tau"
SECRETS = {
    "WANDB_API_KEY": "5ec4e7" * 6 + "0001",
    "HF_TOKEN": "hf_neverToBeSeenInAnyFile",
}
SETTINGS = (
    *("-m", f"name={NAME}", "debug=tiny", "parallel.threads=1", "parallel.device=cpu"),
    *("method=ga", "rectifier.gamma=0.1,0.9", "rectifier.tau=1,10"),
    *(f"train.steps={STEPS}", f"train.checkpoint_every={EVERY}", "train.batch_size=2"),
    "keep=scores",
)


@dataclass(frozen=True)
class Tracked:
    """The sweep's command, in an outputs folder of its own."""

    home: Path
    overrides: tuple[str, ...]

    def start(self, **more: str) -> subprocess.Popen[bytes]:
        plain = {name: v for name, v in os.environ.items() if not name.startswith("WANDB_")}
        environment = {**plain, "HOME": str(self.home), "OMP_NUM_THREADS": "1", **SECRETS}
        environment |= {"WANDB_MODE": "offline", **more}  # with a key it would go online
        given = (*SETTINGS, *self.overrides, f"output_dir={self.outputs}")
        self.outputs.mkdir(exist_ok=True)
        with (self.outputs / "said.txt").open("ab") as said:
            return subprocess.Popen(
                [sys.executable, "-m", "unlearn_runner.run", *given],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def interrupt(self, number: signal.Signals) -> None:
        """Gives the command, and the signal in the second job's unlearning."""
        pause = Pause(self.home / "pause", "unlearn", CUT_AT, published=1)
        process = self.start(**pause.environment)
        assert pause.reached(process), self.said()
        os.killpg(process.pid, number)
        pause.go()
        expected = -number if number == signal.SIGKILL else 128 + number
        assert process.wait(timeout=1800) == expected, self.said()
        assert len(list(self.outputs.glob("sweeps/*/*/results.json"))) == 1

    def finish(self) -> None:
        """Gives the command, and lets it end."""
        process = self.start()
        assert process.wait(timeout=1800) == 0, self.said()
        assert "4 jobs: 4 completed" in self.said()

    def said(self) -> str:
        return (self.outputs / "said.txt").read_text()

    @property
    def outputs(self) -> Path:
        return self.home / "outputs"

    @property
    def jobs(self) -> list[Path]:
        return sorted(p.parent for p in self.outputs.glob(f"sweeps/{NAME}/*/status.json"))


def exact(lines: list[mirrors.Line]) -> list[mirrors.Line]:
    """Lines without what a clock says; a step that is repeated takes another time."""
    return [{k: v for k, v in line.items() if k != "tokens_per_s"} for line in lines]


def facts(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Sent:
    """What the parts of one run come to when each is sent after the other."""

    identities: set[str]
    rows: dict[int, mirrors.Line]
    """By W&B's own step; a later part's row takes the place of an earlier one's."""
    summary: dict[str, Any]

    @property
    def lines(self) -> list[mirrors.Line]:
        return mirrors.lines(self.rows[step] for step in sorted(self.rows))


def sent(folder: Path) -> Sent:
    whole = Sent(set(), {}, {})
    for part in mirrors.parts(folder):
        found = list(mirrors.records_of(part))
        whole.identities.update(r.run.run_id for r in found if r.HasField("run"))
        rows = mirrors.rows(found)
        steps = [row["_step"] for row in rows]
        assert steps == sorted(set(steps)), "W&B drops what does not go forward"
        whole.rows.update(zip(steps, rows, strict=True))
        whole.summary.update(mirrors.summary(found))
    return whole


@pytest.mark.long
@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGKILL, id="killed"),
        pytest.param(signal.SIGTERM, id="preempted"),
    ],
)
def test_a_requeued_sweep_is_four_whole_wandb_runs(number: signal.Signals, tmp_path: Path) -> None:
    sweep = Tracked(tmp_path, ("tracker=wandb", "tracker.notes=${oc.env:HF_TOKEN}"))
    sweep.interrupt(number)
    before = {job: sent(job) for job in sweep.jobs if mirrors.parts(job)}
    assert len(before) == 2
    (cut,) = [s for job, s in before.items() if not (job / "results.json").exists()]
    assert {line["stage"] for line in cut.lines} == {"base", "target", "retain_model", "unlearn"}
    assert len([line for line in cut.lines if line["stage"] == "unlearn"]) < STEPS

    sweep.finish()
    assert len(sweep.jobs) == 4
    identities = set()
    for job in sweep.jobs:
        after, results = sent(job), facts(job, "results.json")
        check_whole(job, after, results)
        identities |= after.identities
        if job in before:
            assert after.identities == before[job].identities
            # Whatever was sent before, the same steps say the same things again.
            told = before[job].lines
            assert exact(after.lines[: len(told)]) == exact(told)
            assert list(before[job].rows) == list(after.rows)[: len(before[job].rows)]
    assert len(identities) == 4
    assert mirrors.holding(sweep.home, SECRETS.values()) == []


def check_whole(job: Path, found: Sent, results: Any) -> None:
    """A job's offline run holds what its folder does, under the names that W&B groups by."""
    (part,) = mirrors.parts(job)
    run = mirrors.started(mirrors.records_of(part))
    assert (run.display_name, run.run_group, run.job_type, run.project) == (
        *(job.name, NAME, "unlearn"),
        "unlearn-runner",
    )
    assert {run.run_id} == found.identities == {facts(job, "status.json")["tracker"]["id"]}

    logged = mirrors.items(run.config.update)
    del logged["_wandb"]
    choices = logged.pop("choices")
    assert choices == results["provenance"]["choices"]
    assert (choices["method"], choices["rectifier"]) == ("ga", "gru")
    assert logged == OmegaConf.to_container(OmegaConf.load(job / "config.yaml"))
    assert logged["tracker"]["notes"] == "***"

    lines = mirrors.written(job)
    assert list(found.rows) == list(range(len(lines) + 1))  # the last one is the table's
    assert found.lines == lines
    unlearning = [line for line in lines if line["stage"] == "unlearn"]
    assert [line["step"] for line in unlearning] == list(range(1, STEPS + 1))
    # Its objective's losses, the gradients apart, and what the rectifier did.
    wanted = {"loss/forget", "lr", "grad_norm", "tokens_per_s", "cosine", "rectified"}
    assert wanted <= unlearning[0].keys()

    scores = {k[7:]: v for k, v in found.summary.items() if k.startswith("scores/")}
    assert scores == {k.replace(".", "/"): v for k, v in results["scores"].items()}
    # W&B takes a dot for a level.
    logged_names = [name for row in found.rows.values() for name in row] + [*found.summary]
    assert [name for name in logged_names if "." in name] == []
    assert "." not in "".join(found.summary["provenance"]["seeds"])
    check_answers(job, part)
    assert found.summary["status"] == results["status"] == "completed"
    artifacts = [r.artifact for r in mirrors.records_of(part) if r.HasField("artifact")]
    (files,) = [{e.path for e in a.manifest.contents} for a in artifacts if a.type == "run"]
    assert files >= {"results.json", "metrics.jsonl", "figures/curve-cosine.svg"}
    assert any(name.startswith("figures/tradeoff-") for name in files)
    assert "run_table" in {artifact.type for artifact in artifacts}


def check_answers(job: Path, part: Path) -> None:
    """The run has a table of answers, which are those of the evidence."""
    (path,) = part.parent.glob("files/media/table/answers_*.table.json")
    told = json.loads(path.read_text(encoding="utf-8"))
    assert told["columns"] == list(ANSWERS)
    run = read(job)
    ran = run.stage("evaluate unlearned")
    assert ran is not None
    folder = run.artifact(ran)
    assert folder is not None
    texts = {view: read_texts(folder, view) for view in ("forget", "retain")}
    assert {row[0] for row in told["data"]} == {*texts}
    for view, number, question, expected, _, after, _ in told["data"]:
        found = texts[view]
        assert found is not None
        at = int(number) - 1
        assert (found.questions[at], found.answers[at]) == (question, expected)
        assert found.generations[at][:400] == after[:400]


@pytest.mark.long
def test_a_requeued_sweep_is_four_whole_tensorboard_runs(tmp_path: Path) -> None:
    sweep = Tracked(tmp_path, ("tracker=tensorboard", "tracker.flush_secs=1"))
    sweep.interrupt(signal.SIGKILL)
    sweep.finish()
    assert len(sweep.jobs) == 4
    for job in sweep.jobs:
        scalars, texts = mirrors.events(job / "tensorboard")
        assert scalars == mirrors.expected_events(job)
        assert texts.keys() == {"config", "results", "provenance", "status"}
        assert texts["status"] == "completed"
    assert mirrors.holding(sweep.home, SECRETS.values()) == []
