"""Whole commands of open-unlearning, typed here: answered with the same command in our words.

A single word of theirs has its own fix, from `synonyms.yaml`; a command would need one after
another.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from unlearn_runner.config.synonyms import synonym, table
from unlearn_runner.errors import ConfigError, assignment, listed

OWN = re.compile(r"(trainer|forget_split|retain_split|holdout_split|retain_logs_path|task_name)\b")
EXPERIMENT = re.compile(r"experiment=(unlearn|eval)/tofu/default(\.yaml)?")
ELSEWHERE = re.compile(r"experiment=(unlearn|eval|finetune)/")
"""Experiments; those that `EXPERIMENT` does not know are of benchmarks or stages not here."""
ALSO = re.compile(
    r"(experiment|model|model\.(model|tokenizer)_args\..*|(paths|data|eval)\b.*|data_split)="
)
CONFIG_NAME = re.compile(r"(--config-name|-cn)(=.*)?")
MODEL = "model.model_args.pretrained_model_name_or_path"
PER_DEVICE = "trainer.args.per_device_train_batch_size"
ACCUMULATION = "trainer.args.gradient_accumulation_steps"
ROWS = re.compile(r"[1-9]\d{0,5}")


def refuse_open_unlearning(arguments: Sequence[str]) -> None:
    """Answers a command of open-unlearning's with ours.

    Raises:
        ConfigError: If several of the words are its, or one is its experiment on TOFU.
    """
    words = [argument.lstrip("+") for argument in _without_config_name(arguments)]
    theirs = [word for word in words if OWN.match(word) or EXPERIMENT.fullmatch(word)]
    known = [word for word in words if EXPERIMENT.fullmatch(word)]
    if (len(theirs) < 2 and not known) or any(map(ELSEWHERE.match, {*words} - {*known})):
        return
    ours, unknown = _translated(words)
    left_out = f"; without an equal here, left out: {listed(unknown)}" if unknown else ""
    raise ConfigError(
        f"{listed(theirs, 3)}: open-unlearning's words; the same in ours is below{left_out}", ours
    )


def _without_config_name(arguments: Sequence[str]) -> list[str]:
    kept, skip = [], False
    for argument in arguments:
        if skip:
            skip = False
        elif found := CONFIG_NAME.fullmatch(argument):
            skip = found[2] is None
        else:
            kept.append(argument)
    return kept


def _translated(words: Sequence[str]) -> tuple[str, list[str]]:
    """Returns our command, and the words that have no equal in it."""
    given = dict(word.split("=", 1) for word in words if "=" in word and word[0] != "-")
    evaluates = any(word.startswith("experiment=eval/") for word in words)
    found, unknown = [], []
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not (OWN.match(word) or ALSO.match(word)):
            found.append(word)
        elif key == MODEL and evaluates:
            found.append(assignment("evaluate.path", value, shell=False))
        elif EXPERIMENT.fullmatch(word) and evaluates:
            found += ["benchmark=tofu", *(() if "model" in given else ("model=llama32_1b",))]
        elif key == ACCUMULATION and _batch(given):
            found.append(_batch(given))
        elif key not in table()["implied"]:
            ours = _with_values(key, value)
            (found if ours else unknown).append(ours or word)
    if "trainer" in given and not evaluates and "experiment" not in given:
        found.append("rectifier=none")
    return shlex.join(["unlearn-eval" if evaluates else "unlearn", *found]), unknown


def _batch(given: dict[str, str]) -> str:
    """Returns the rows of a step on one device: those of a forward pass, times how many of them."""
    rows, passes = given.get(PER_DEVICE, ""), given[ACCUMULATION]
    known = ROWS.fullmatch(rows) and ROWS.fullmatch(passes)
    return f"train.batch_size={int(rows) * int(passes)}" if known else ""


def _with_values(key: str, value: str) -> str:
    """Returns our override, of several values where there are several; empty where one has none."""
    found = [synonym(key, one, verbatim=True) for one in value.split(",")]
    if not all(found):
        return ""
    pairs = [shlex.split(one)[0].partition("=") for one in found]
    return f"{pairs[0][0]}={','.join(text for _, _, text in pairs)}"
