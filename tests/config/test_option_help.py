"""`unlearn GROUP=OPTION --help`: every setting that an option has, as the code has it."""

from __future__ import annotations

import dataclasses
import re

import pytest

from unlearn_runner.config.groups import groups
from unlearn_runner.config.option_help import print_options
from unlearn_runner.errors import ConfigError
from unlearn_runner.methods.npo import NPO
from unlearn_runner.rectifiers.gru import GRU
from unlearn_runner.run import print_help

OPTIONS = [f"{group}={name}" for group, names in groups().items() for name in names]


def told(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    print_options([*words, "--help"])
    return capsys.readouterr().out


def test_every_option_can_be_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    for option in OPTIONS:
        text = told(capsys, option)
        assert text.startswith(option), option
        assert len(text.splitlines()) > 3, option


@pytest.mark.parametrize(("option", "cls"), [("method=npo", NPO), ("rectifier=gru", GRU)])
def test_every_field_is_listed(option: str, cls: type, capsys: pytest.CaptureFixture[str]) -> None:
    group, text = option.partition("=")[0], told(capsys, option)
    for field in dataclasses.fields(cls):
        assert re.search(rf"^{group}\.{field.name}( =|\.)", text, re.MULTILINE), field.name


def test_a_field_has_value_bounds_and_meaning(capsys: pytest.CaptureFixture[str]) -> None:
    lines = told(capsys, "rectifier=gru").splitlines()
    place = lines.index("rectifier.gamma = 0.8")
    assert lines[place + 1].strip() == "a number > 0 and <= 1"
    assert lines[place + 2].strip().startswith("Weight of the *newest* retain gradient")


def test_values_are_the_options_file_s(capsys: pytest.CaptureFixture[str]) -> None:
    assert "method.beta = 0.1\n" in told(capsys, "method=npo")
    assert "method.beta = 0.5\n" in told(capsys, "method=geffect/npo")
    phi = told(capsys, "model=phi")
    assert "model.path = microsoft/phi-1_5\n" in phi
    assert "target.train.lr=2e-05" in phi


def test_a_group_lists_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    text = told(capsys, "rectifier")
    assert all(f"rectifier={name} " in text for name in groups()["rectifier"])


def test_an_option_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match="method=npoo is not one of the method options"):
        print_options(["method=npoo", "--help"])
    assert print_help(["method=npoo", "--help"]) == 2
    assert "fix: unlearn method=npo --help" in capsys.readouterr().err
