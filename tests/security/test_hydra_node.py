"""Nothing that a command line or a folder of options writes below `hydra` is ever run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

COPY = "{_target_: shutil.copyfile, src: SRC, dst: DST}"
CALL = (
    "{version: 1, handlers: {x: {(): shutil.copyfile, src: SRC, dst: DST}}, root: {handlers: [x]}}"
)

COMMANDS = {
    "a callback": [f"+hydra.callbacks.x={COPY}"],
    "a callback, forced": [f"++hydra.callbacks.x={COPY}"],
    "a callback, replaced": [f"hydra.callbacks={{x: {COPY}}}"],
    "a callback of a sweep": ["-m", "seed=1,2", f"+hydra.callbacks.x={COPY}"],
    "the whole node": [f"++hydra={{callbacks: {{x: {COPY}}}}}"],
    "with a flag of Hydra's": ["--cfg", "job", f"+hydra.callbacks.x={COPY}"],
    "a launcher's class": ["-m", "seed=1,2", "hydra.launcher._target_=shutil.copyfile"],
    "a launcher with a part": [
        "-m",
        "seed=1,2",
        f"+hydra.launcher.x={COPY}",
        "hydra/launcher=basic",
    ],
    "a sweeper's class": ["-m", "seed=1,2", "hydra.sweeper._target_=os.system"],
    "logging of one's own": [f"++hydra.job_logging={CALL}"],
    "logging that writes": ["hydra/job_logging=default"],
    "logging to the screen": ["hydra/hydra_logging=colorlog"],
    "the environment": ["+hydra.job.env_set.LD_PRELOAD=x"],
}
FILES = {
    "a callback": f"hydra: {{callbacks: {{x: {COPY}}}}}",
    "a launcher": f"hydra: {{launcher: {COPY}}}",
    "a sweeper": "hydra: {sweeper: {_target_: shutil.copyfile, src: SRC, dst: DST}}",
    "a part of the sweeper": f"hydra: {{sweeper: {{params: {COPY}}}}}",
    "logging": f"hydra: {{job_logging: {CALL}}}",
    "help": f"hydra: {{help: {COPY}}}",
    "an interpolated class": "n: shutil.copyfile\nhydra: {callbacks: {x: {_target_: '${n}'}}}",
    "an interpolated node": f"n: {COPY}\nhydra: {{sweeper: {{params: '${{n}}'}}}}",
    "the environment": "hydra: {job: {env_set: {LD_PRELOAD: x}}}",
}


def unlearn(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    (folder / "src").write_text("x")
    here = [
        w.replace("SRC", str(folder / "src")).replace("DST", str(folder / "ran")) for w in words
    ]
    return subprocess.run(
        [sys.executable, "-m", "unlearn_runner", *here, "debug=tiny", "plan_only=true"],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=1800,
    )


def refused(done: subprocess.CompletedProcess[str], folder: Path) -> None:
    assert done.returncode == 2, done.stderr + done.stdout
    assert done.stderr.startswith("error: ")
    assert "hydra" in done.stderr
    assert len(done.stderr.splitlines()) <= 2
    assert {path.name for path in folder.iterdir()} <= {"src", "mine"}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_cannot_have_hydra_run_anything(name: str, tmp_path: Path) -> None:
    refused(unlearn(tmp_path, *COMMANDS[name]), tmp_path)


WAYS = {
    "one run": ("--config-dir", "mine", "experiment=evil"),
    "a sweep": ("-m", "seed=1,2", "--config-dir", "mine", "experiment=evil"),
    "hydra's own sweep": (
        "-m",
        "hydra/launcher=basic",
        "--config-dir=mine",
        "experiment=good,evil",
    ),
    "the search path": ("hydra.searchpath=[file://mine]", "experiment=evil", "--cfg", "job"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_options_cannot_have_hydra_run_anything(name: str, tmp_path: Path) -> None:
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    text = FILES[name].replace("SRC", str(tmp_path / "src")).replace("DST", str(tmp_path / "ran"))
    (tmp_path / "mine/experiment/evil.yaml").write_text(f"# @package _global_\n{text}\n")
    (tmp_path / "mine/experiment/good.yaml").write_text("# @package _global_\nseed: 1\n")
    for words in WAYS.values() if name == "a callback" else [WAYS["hydra's own sweep"]]:
        refused(unlearn(tmp_path, *words), tmp_path)


def test_hydra_s_own_groups_are_no_way_round(tmp_path: Path) -> None:
    (tmp_path / "mine/hydra/launcher").mkdir(parents=True)
    text = "_target_: shutil.copyfile\nsrc: SRC\ndst: DST\n".replace("SRC", str(tmp_path / "src"))
    text = text.replace("DST", str(tmp_path / "ran"))
    (tmp_path / "mine/hydra/launcher/evil.yaml").write_text(text)
    words = ("-m", "seed=1,2", "--config-dir", "mine", "hydra/launcher=evil")
    refused(unlearn(tmp_path, *words), tmp_path)


def test_hydra_s_own_launcher_still_runs_a_sweep(tmp_path: Path) -> None:
    done = unlearn(tmp_path, "-m", "seed=1,2", "hydra/launcher=basic", "output_dir=out")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("plan of sweeps/sweep/pocket-gd-gru") == 2
    assert {path.name for path in tmp_path.iterdir()} == {"src"}
