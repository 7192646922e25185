"""The README is for the first hour: short, and every command of it is one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from unlearn_runner.commands.eval import as_evaluation
from unlearn_runner.config.command_line import parse
from unlearn_runner.config.compose import compose
from unlearn_runner.config.root import validate

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"^```\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
LINES = [line.partition("  #")[0].strip() for block in BLOCKS for line in block.splitlines()]
COMMANDS = [line for line in LINES if line.startswith(("unlearn ", "unlearn-eval "))]


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= 120


def test_recipes_have_at_most_three_lines() -> None:
    recipes = README.partition("## Five recipes")[2].partition("\n## ")[0]
    blocks = re.findall(r"^```\n(.*?)^```", recipes, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 5
    assert all(len(block.splitlines()) <= 3 for block in blocks)


@pytest.mark.parametrize("line", [c for c in COMMANDS if "--help" not in c])
def test_its_commands_can_be_typed(line: str) -> None:
    program, *words = line.split()
    command = parse(as_evaluation(words) if program == "unlearn-eval" else words)
    # A swept key has its first value.
    fixed = [word.partition(",")[0] for word in command.overrides]
    validate(compose(fixed, command.folders).config)


def test_every_extra_has_a_pin() -> None:
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    extras = text.partition("[project.optional-dependencies]")[2].partition("[project.scripts]")[0]
    names = {name.lower() for name in re.findall(r'"([A-Za-z][\w-]*)[\[>=<]', extras)}
    pins = {
        line.partition("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    }
    assert names - pins - {"unlearn-runner", "setuptools"} == set()
