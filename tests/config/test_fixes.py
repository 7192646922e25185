"""A fix can be pasted into a shell, says what was meant, and never offers another setting."""

from __future__ import annotations

import shlex
import subprocess
from typing import Any

import pytest

from unlearn_runner.config.command_line import parse
from unlearn_runner.config.compose import compose
from unlearn_runner.config.root import validate
from unlearn_runner.errors import ConfigError, UserError, assignment, nearest, pasteable, quoted

PATHS = [
    "/data/a=b",
    "/data/my models",
    "/data/two  spaces",
    "/data/a,b",
    "/data/a#b",
    "/data/a (copy)",
    "/data/it's",
    '/data/"quoted"',
    "/data/[1]",
    "/data/{x}",
    "/data/$HOME/${seed}",
    "/data/`id`;&|<>*?!",
    "/data/Größe/模型",
    "C:\\models\\x\\",
    "~nobody/x",
    "null",
    "007",
    "1e5",
    "true",
    " ",
]


@pytest.mark.parametrize("path", PATHS)
def test_a_path_survives_a_shell_and_hydra(path: str) -> None:
    """What is printed, through a real shell, to the value that a run has."""
    shown = assignment("benchmark.data_dir", path)
    echoed = subprocess.run(
        ["sh", "-c", f"printf '%s\\0' {shown}"], capture_output=True, text=True, check=True
    )
    (word,) = echoed.stdout.split("\0")[:-1]
    command = parse([word])
    assert compose(command.overrides).config["benchmark"]["data_dir"] == path
    assert shlex.split(pasteable(shown)) == [word]


TYPED = [path for path in PATHS[:6] if "," not in path] + ["/data/Größe/模型", "a(b)=c#d"]


@pytest.mark.parametrize("path", TYPED)
def test_a_path_needs_no_quotes_but_the_shell_s(path: str) -> None:
    command = parse([f"output_dir={path}"])
    assert compose(command.overrides).config["output_dir"] == path.strip()


def test_a_path_with_a_comma_is_offered_in_quotes() -> None:
    with pytest.raises(ConfigError, match="several values") as caught:
        parse(["output_dir=/data/a,b"])
    (word,) = shlex.split(caught.value.fix)
    assert compose(parse([word]).overrides).config["output_dir"] == "/data/a,b"


PRINTED = {
    "seed=1": "seed=1",
    "seed=1 or seed=2": "seed=1  # or seed=2",
    "a.b=1 c.d=2, or e=3": "a.b=1 c.d=2  # or e=3",
    "keep=null trains all": "keep=null  # trains all",
    "name them all": "# name them all",
    "choose another name=..., or overwrite=true": "# choose another name=..., or overwrite=true",
    "model.path=FOLDER that is there": "# model.path=FOLDER that is there",
    "unlearn -m seed=1,2": "unlearn -m seed=1,2",
    "unlearn-store gc x --older 30d, or --yes": "unlearn-store gc x --older 30d  # or --yes",
    "pip install x, or tracker=files": "pip install x  # or tracker=files",
    "sweep.space={a: {low: 1}}": "# sweep.space={a: {low: 1}}",
    "'sweep.space={a: {low: 1}}'": "'sweep.space={a: {low: 1}}'",
    "~benchmark.metric.x": "~benchmark.metric.x",
}


@pytest.mark.parametrize("fix", PRINTED)
def test_what_is_no_command_is_a_comment(fix: str) -> None:
    assert str(UserError("wrong", fix)) == f"error: wrong\nfix: {PRINTED[fix]}"


MEANT = {
    "train.save_steps=100": "train.checkpoint_every=100",
    "train.learning_rate=1e-4": "train.lr=0.0001",
    "learning_rate=1e-4": "train.lr=0.0001",
    "lr=1e-4": "train.lr=0.0001",
    "train.per_device_train_batch_size=4": "train.micro_batch=4",
    "train.num_train_epochs=3": "train.epochs=3",
    "train.max_grad_norm=1": "train.clip=1",
    "train.lr_scheduler_type=cosine": "train.schedule=cosine",
    "train.bf16=true": "train.precision=bf16",
    "trainer.args.learning_rate=1e-5": "train.lr=1e-05",
    "trainer=GradAscent": "method=ga",
    "trainer=NPO": "method=npo",
    "forget_split=forget05": "benchmark.forget=forget05",
    "retain_logs_path=logs/TOFU_EVAL.json": "retain_model.log=logs/TOFU_EVAL.json",
    "task_name=mine": "name=mine",
    "report_to=wandb": "tracker=wandb",
    "model.attn_implementation=eager": "parallel.attention=eager",
    "model.torch_dtype=bfloat16": "train.precision=bf16",
    "adapter.r=16": "adapter.rank=16",
    "adapter.target_modules=all-linear": "adapter.targets=all_linear",
    "hydra/launcher=submitit_slurm": "cluster=slurm",
    "hydra.run.dir=/data/out": "output_dir=/data/out",
    "hydra.sweep.dir=/data/out": "output_dir=/data/out",
    "hydra/sweeper=optuna": "sweep=search",
    "max_steps=10": "train.steps=10",
    "gamma=0.5": "rectifier.gamma=0.5",
    "batch_size=8": "train.batch_size=8",
    "epochs=2": "train.epochs=2",
    "trian.lr=1": "train.lr=1",
    "train.bacth_size=4": "train.batch_size=4",
    "method=gru": "rectifier=gru",
    "model=owner/name": "model=hf model.path=owner/name",
    "model=./my model": "model=hf 'model.path=\"./my model\"'",
    "experiment=tofu_npo_1b": "experiment=open_unlearning/tofu_npo_1b",
}


def answer(*words: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        validate(compose(parse(words).overrides).config)
    return caught.value


@pytest.mark.parametrize("override", MEANT)
def test_the_fix_is_what_was_meant(override: str) -> None:
    assert answer(override).fix == MEANT[override]


UNKNOWN = {
    "train.gradient_accumulation_steps=4": "train.micro_batch",
    "train.warmup_ratio=0.1": "train.warmup_epochs",
    "resume=true": "the same command goes on",
    "train.fp16=true": "train.precision",
    "train.optim=adamw_8bit": "AdamW",
    "train.group_by_length=true": "known here: lr, batch_size",
    "train.step_size=3": "known here: lr, batch_size",
    "push_to_hub=true": "allowed: text or null",
    "method=banana": "options: altpo",
    "experiment=tofu_phi": "geffect/tofu_llama2, geffect/tofu_phi, gru/muse_books",
    "train.lr_scheduler_type=polynomial": "known here: lr",
}


@pytest.mark.parametrize("override", UNKNOWN)
def test_where_nothing_is_known_nothing_is_offered(override: str) -> None:
    error = answer(override)
    assert error.fix == ""
    assert UNKNOWN[override] in error.problem


def test_every_synonym_leads_to_a_setting_that_is_there() -> None:
    from unlearn_runner.config.build import settings
    from unlearn_runner.config.groups import groups
    from unlearn_runner.config.root import Run
    from unlearn_runner.config.synonyms import table

    options = groups()
    chosen = ("adapter=lora", "cluster=slurm", "tracker=wandb", "parallel=fsdp2", "method=npo")
    config: Any = compose(chosen).config
    local: Any = compose(("cluster=local",)).config
    there = {*settings(Run, config), *settings(Run, local), "benchmark.generate.max_new_tokens"}
    synonyms = table()["synonyms"]
    assert len(synonyms) >= 60
    for word, found in synonyms.items():
        ((key, values),) = found.items() if isinstance(found, dict) else [(found, {})]
        if "=" in key:
            group, _, option = key.partition("=")
            assert option in options[group], word
        elif key in options:
            assert {*values.values()} <= {*options[key]}, word
        else:
            assert key in there, word


@pytest.mark.parametrize(
    ("word", "known", "found"),
    [
        ("save_steps", ["steps"], ""),
        ("learning_rate", ["max_length", "lr"], ""),
        ("methd", ["method", "model"], "method"),
        ("NPO", ["npo", "pdu"], "npo"),
        ("gb", ["ga", "gd"], ""),
        ("onlin", ["online", "offline"], "online"),
        ("anything", [], ""),
    ],
)
def test_a_slip_is_a_letter_or_two(word: str, known: list[str], found: str) -> None:
    assert nearest(word, known) == found


def test_plain_words_stay_plain() -> None:
    assert [quoted(x) for x in ("a", "a-b_c.d/e", "/x/y")] == ["a", "a-b_c.d/e", "/x/y"]
