"""Who wins, and that the plan says so: method < benchmark < experiment < command line."""

from __future__ import annotations

import subprocess
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from unlearn_runner.config.command_line import parse
from unlearn_runner.config.compose import compose_nodes, hydra_open
from unlearn_runner.config.groups import groups
from unlearn_runner.config.origins import COMMAND_LINE, config_sources

RANKS = ("method", "benchmark", "experiment", COMMAND_LINE)
"""From the weakest to the strongest."""
VALUES = {"method": 0.11, "benchmark": 0.22, "experiment": 0.33, COMMAND_LINE: 0.44}


def composed(*overrides: str) -> dict[str, Any]:
    line = parse(overrides)
    with hydra_open():
        config, _ = compose_nodes(line.overrides, line.folders)
    return OmegaConf.to_container(config)  # type: ignore


def leaves(content: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(content, dict) or not content:
        return {prefix: content}
    found = {}
    for key, value in content.items():
        found |= leaves(value, f"{prefix}.{key}" if prefix else str(key))
    return found


@pytest.fixture
def presets(tmp_path: Path) -> str:
    """A further folder of configuration whose files all set the same learning rate."""
    for group in RANKS[:-1]:
        like = {"method": "ga", "benchmark": "pocket", "experiment": ""}[group]
        (tmp_path / group).mkdir()
        defaults = f"defaults: [{like}@_global_.{group}, _self_]\n" if like else ""
        text = f"# @package _global_\n{defaults}train: {{lr: {VALUES[group]}}}\n"
        (tmp_path / group / "mine.yaml").write_text(text)
    return f"hydra.searchpath=[file://{tmp_path}]"


def chosen(who: str) -> str:
    return f"train.lr={VALUES[who]}" if who == COMMAND_LINE else f"{who}=mine"


@pytest.mark.parametrize(("weak", "strong"), combinations(RANKS, 2))
def test_the_stronger_wins_whatever_the_order_they_are_typed_in(
    weak: str, strong: str, presets: str
) -> None:
    for both in ((chosen(weak), chosen(strong)), (chosen(strong), chosen(weak))):
        assert composed(presets, *both)["train"]["lr"] == VALUES[strong]


@pytest.mark.usefixtures("presets")
def test_a_plan_names_every_one_that_set_a_value_the_last_one_first(tmp_path: Path) -> None:
    given = (
        "--config-dir",
        str(tmp_path),
        *map(chosen, RANKS),
        "plan_only=true",
        f"output_dir={tmp_path / 'out'}",
    )
    done = subprocess.run(
        [sys.executable, "-m", "unlearn_runner.run", *given],
        capture_output=True,
        text=True,
        env={"COLUMNS": "250", "PATH": "/usr/bin"},
    )
    assert done.returncode == 0, done.stderr
    lines = [x for x in done.stdout.splitlines() if x.startswith("│ train.lr ")]
    cells = [cell.strip() for cell in lines[0].split("│")][2:5]
    assert cells[:2] == ["0.44", "command line"]
    assert cells[2].startswith("0.33 of experiment/mine, 0.22 of benchmark/mine, 0.11 of method/mi")


COMMANDS = [
    (),
    *((f"{group}={name}",) for group, names in groups().items() for name in names),
    ("method=npo", "rectifier=none", "method.beta=0.5", "debug=tiny"),
    ("experiment=tofu_scratch", "method=kl", "train.lr=3", "model=pocket"),
    ("train.lr=7", "train.clip=null", "target.train.betas=[0.5,0.6]", "hydra.verbose=true"),
]


@pytest.mark.parametrize("overrides", COMMANDS, ids=" ".join)
def test_what_is_said_is_what_hydra_composes(overrides: tuple[str, ...]) -> None:
    """Hydra is the oracle: the last one named gave every key the value that it has."""
    found = config_sources(list(overrides))
    values = leaves(composed(*overrides))
    differ = {key: value for key, value in values.items() if found[key][-1].value != value}
    assert not differ


def test_the_command_line_is_named_for_what_it_sets_and_nothing_else() -> None:
    found = config_sources(["method=npo", "train.lr=3", "method.retain={weight: 2.0}"])
    named = {key for key, given in found.items() if given[-1].by == COMMAND_LINE}
    assert named == {"train.lr", "method.retain.weight"}
    assert found["target.seed"][-1].by == "config.yaml"
    assert found["seed"][-1].by == "config.yaml"
