"""Commands of open-unlearning, typed here, are answered with ours; each of the page's ten."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from unlearn_runner.commands import eval as evaluation
from unlearn_runner.commands.unlearn import run_command
from unlearn_runner.config.command_line import parse
from unlearn_runner.config.compose import compose
from unlearn_runner.config.root import Run, validate
from unlearn_runner.errors import ConfigError

PAGE = Path(__file__).resolve().parents[2] / "docs/coming-from-open-unlearning.md"
TEN = re.findall(r"```\n(.*src/.*)\n(unlearn.*)\n```", PAGE.read_text("utf-8"))


def typed(theirs: str) -> tuple[str, list[str]]:
    """Our command for theirs, and the words after their script."""
    script, _, rest = theirs.partition("src/")[2].partition(" ")
    return ("unlearn-eval" if script == "eval.py" else "unlearn"), shlex.split(rest)


def answer(command: str, words: list[str]) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        parse(evaluation.as_evaluation(words) if command == "unlearn-eval" else words)
    return caught.value


def run(ours: str) -> Run:
    words = shlex.split(ours)[1:]
    return validate(compose(parse(words).overrides).config)


def test_there_are_ten() -> None:
    assert len(TEN) == 10


@pytest.mark.parametrize(("theirs", "ours"), TEN)
def test_the_answer_is_the_command_of_the_page(theirs: str, ours: str) -> None:
    error = answer(*typed(theirs))
    assert error.fix == ours.removesuffix(" parallel=ddp")
    assert "left out" not in error.problem
    assert len(str(error).splitlines()) == 2


@pytest.fixture(scope="module")
def chatty(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with a chat template."""
    from copy import deepcopy

    from unlearn_runner.models.load import save

    tokenizer = deepcopy(tiny.tokenizer)
    tokenizer.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    folder = tmp_path_factory.mktemp("chatty") / "model"
    folder.mkdir()
    save(tiny.llama(), tokenizer, folder)
    return folder


@pytest.mark.parametrize("ours", [ours for _, ours in TEN])
def test_the_answer_can_be_planned(
    ours: str,
    chatty: Path,
    tofu_files: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As pasted, but for what is not on this machine: models of the hub, their logs, the data."""
    local = {
        "target.path": f"target.path={chatty}",
        "evaluate.path": f"evaluate.path={chatty}",
        "retain_model.log": f"retain_model.path={chatty}",
        "output_dir": f"output_dir={tmp_path}",
    }
    program, *words = shlex.split(ours)
    words = [local.get(word.partition("=")[0], word) for word in words]
    words += [f"benchmark.data_dir={tofu_files}", "plan_only=true", "tracker=files"]
    there = {word.partition("=")[0] for word in words}
    words += [local["output_dir"]] if "output_dir" not in there else []
    if program == "unlearn":
        words += [local["target.path"]] if "target.path" not in there else []
        words += [local["retain_model.log"]] if "retain_model.path" not in there else []
    monkeypatch.setattr(sys, "argv", [program, *words])
    code = evaluation.main(words) if program == "unlearn-eval" else run_command(words)
    said = capsys.readouterr()
    assert (code, said.err) == (0, "")
    assert "plan of" in said.out
    assert ("evaluate model" in said.out) == (program == "unlearn-eval")


def test_the_first_has_their_published_settings() -> None:
    found = run(TEN[0][1])
    assert found.target.path == "open-unlearning/tofu_Llama-3.2-1B-Instruct_full"
    assert not found.rectifier.acts
    recipe = found.train
    assert (recipe.lr, recipe.epochs, recipe.batch_size) == (1e-5, 10, 32)
    assert (recipe.weight_decay, recipe.warmup_epochs, recipe.decay_norms) == (0.01, 1, False)


def test_a_model_without_a_published_target_must_be_named() -> None:
    with pytest.raises(ConfigError, match="nothing is published for phi"):
        run("unlearn experiment=open_unlearning/tofu model=phi")


ANSWERS = {
    "trainer=NPO task_name=x": "unlearn method=npo name=x rectifier=none",
    "trainer=NPO train.lr=1 seed=2 task_name=x": (
        "unlearn method=npo train.lr=1 seed=2 name=x rectifier=none"
    ),
    "experiment=unlearn/tofu/default": "unlearn experiment=open_unlearning/tofu",
    "--config-name unlearn.yaml experiment=unlearn/tofu/default": (
        "unlearn experiment=open_unlearning/tofu"
    ),
    "experiment=eval/tofu/default": "unlearn-eval benchmark=tofu model=llama32_1b",
    "model=Llama-3.2-1B-Instruct": "model=llama32_1b",
    "experiment=unlearn/muse/default trainer=NPO task_name=x": "",
    "experiment=finetune/tofu/default task_name=x": "",
}


@pytest.mark.parametrize("words", ANSWERS)
def test_other_commands(words: str) -> None:
    assert answer("unlearn", shlex.split(words)).fix == ANSWERS[words]


def test_what_has_no_equal_is_named() -> None:
    error = answer("unlearn", ["trainer=NPO", "task_name=x", "trainer.args.optim=adamw_8bit"])
    assert "left out: trainer.args.optim=adamw_8bit" in error.problem
    assert error.fix == "unlearn method=npo name=x rectifier=none"
