"""`plan_only` names where a choice in one group changes what a setting of another does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("overrides", "notes"),
    [
        (["rectifier=gru"], []),
        (["rectifier=none"], []),
        (["rectifier=gru", "rectifier.tau=1"], ["train.clip=1.0 does not act"]),
        (["rectifier=gru", "rectifier.tau=1", "train.clip=null"], []),
        (
            ["adapter=lora"],
            ["train.clip=1.0 bounds the gradient of the adapter alone", "the adapter's dropout"],
        ),
        (["method=task_vector"], ["train is the recipe of the method's fine-tunes"]),
        (["evaluate.every=1epoch", "evaluate.precision=bf16"], ["scores along the way"]),
    ],
)
def test_interactions_are_said(overrides: list[str], notes: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "unlearn_runner.run", "debug=tiny", "plan_only=true"]
    done = subprocess.run(
        [*command, *overrides, f"output_dir={tmp_path}"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = [line[9:] for line in done.stdout.splitlines() if line.startswith("note     ")]
    assert len(found) == len(notes)
    assert all(line.startswith(note) for line, note in zip(found, notes, strict=True))


@pytest.mark.parametrize("experiment", ["gru/tofu_llama2", "gru/tofu_phi"])
def test_presets_of_codes_that_do_not_clip_say_so(experiment: str) -> None:
    import yaml

    from unlearn_runner.config.groups import CONF

    preset = yaml.safe_load((CONF / "experiment" / f"{experiment}.yaml").read_text())
    assert preset["train"]["clip"] is None
    assert preset["rectifier"]["tau"] is None
