"""A command that cannot be right ends in two lines, with exit code 2, and leaves no trace.

Every row of the table is typed into a real process. Whatever is wrong with it, the answer names the
key and what would be allowed or nearest, comes before torch is loaded, and nothing is written.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typed
from helpers.imports import HEAVY, WATCHED, imported
from mistakes import (
    DAMAGED,
    LATE,
    LOGS,
    MISTAKES,
    MODELS,
    SIZES,
    SOUND,
    SOUND_LOG,
    Mistake,
    lines,
    qa,
    tofu,
)

PACE = ("debug=tiny", "parallel.threads=1")  # a command that is accepted by mistake ends soon
COMMANDS = {
    "unlearn-eval": "unlearn_runner.commands.eval",
    "unlearn-score": "unlearn_runner.commands.score",
    "unlearn-store": "unlearn_runner.commands.store",
}

# --- running them


@dataclass(frozen=True)
class Answer:
    """What a command left behind."""

    code: int
    out: str
    err: str
    before: dict[str, bytes]
    after: dict[str, bytes]


def tree(folder: Path) -> dict[str, bytes]:
    """Everything below a folder; folders end in a slash."""
    return {
        f"{path.relative_to(folder)}{'/' if path.is_dir() else ''}": (
            path.read_bytes() if path.is_file() else b""
        )
        for path in folder.rglob("*")
    }


def run(
    cwd: Path,
    module: str,
    *arguments: str,
    env: Mapping[str, str] | None = None,
    fresh: bool = False,
) -> Any:
    clean = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "NO_SUCH")}
    clean = {**clean, "OMP_NUM_THREADS": "1", **(env or {})}
    if not fresh:
        return typed.run(module, arguments, cwd, clean)
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=cwd,
        env=clean,
        capture_output=True,
        text=True,
        timeout=1800,
    )


def unlearn(cwd: Path, *arguments: str, **how: Any) -> Any:
    arguments = (*arguments, f"output_dir={cwd / 'out'}")
    flags_first = sorted(arguments, key=lambda argument: not argument.startswith("-"))
    return run(cwd, "unlearn_runner.run", *flags_first, **how)


def words_of(command: str, data: Path) -> list[str]:
    return shlex.split(re.sub(r"(^|[ =])@", rf"\1{data}/", command))


def ask(item: Mistake, cwd: Path, data: Path) -> Answer:
    """Types a command into a process of its own, in a folder of its own."""
    for name, content in item.written.items():
        (cwd / name).parent.mkdir(parents=True)
        (cwd / name).write_text(content)
    before = tree(cwd)
    words = words_of(item.command, data)
    if words and words[0] in COMMANDS:
        done = run(cwd, COMMANDS[words[0]], *words[1:], env=item.env)
    else:  # first the pace, so that the command at hand has the last word
        done = unlearn(cwd, *PACE, *words, env=item.env)
    return Answer(done.returncode, done.stdout, done.stderr, before, tree(cwd))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders and files with each kind of damage."""
    root = tmp_path_factory.mktemp("data")
    for damage, changes in DAMAGED.items():
        (root / damage).mkdir()
        for split, content in {**SOUND, **changes}.items():
            if content is not None:
                (root / damage / f"{split}.json").write_bytes(content)
    for name, files in MODELS.items():
        (root / name).mkdir()
        for file, text in files.items():
            (root / name / file).write_text(text)
    for name, content in LOGS.items():
        (root / name).write_bytes(content)
    (root / "sound.json").write_bytes(SOUND_LOG)
    return root


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Iterator[Any]:
    """The answer to every mistake of the table."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        asked = {
            name: pool.submit(ask, item, tmp_path_factory.mktemp("cwd"), data)
            for name, item in MISTAKES.items()
        }
        yield lambda name: asked[name].result()


ONE_LINE = re.compile(
    r"error: .*(allowed: \S|known here: \S|options: \S|settings are written KEY=VALUE).*"
    r"|error: [\w.]+ must be set"
    r"|error: [\w.]+: Interpolation key '[\w.]+' not found"
    r"|error: [\w.]+: KeyError .*\"Environment variable '\w+' not found\""
    r"|error: \S+ cannot be read: no viable alternative at input '.*'"
)
"""Such a message says what to write instead, as far as anybody can know what was meant; all others
have a second line for it."""


def two_lines(said: list[str]) -> bool:
    """Whether a message has its fix, and is no longer than that."""
    if len(said) == 1:
        return ONE_LINE.fullmatch(said[0]) is not None
    return len(said) == 2 and said[1].startswith("fix: ") and len(said[1]) > len("fix: ")


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_explained_in_two_lines_and_nothing_is_written(
    name: str, answers: Any
) -> None:
    answer = answers(name)
    said = [line for line in answer.err.splitlines() if line.strip()]
    assert answer.code == 2, answer.err or answer.out
    assert "Traceback" not in answer.err
    assert two_lines(said), answer.err
    missing = [words for words in MISTAKES[name].says if words not in answer.err]
    assert not missing, answer.err
    assert answer.out == ""
    assert answer.after == answer.before


@pytest.fixture(scope="module")
def models(data: Path) -> Path:
    """Real models of a few numbers, each damaged in its own way."""
    from unlearn_runner.models.load import new_model, save, train_tokenizer
    from unlearn_runner.models.shape import Shape

    tokenizer = train_tokenizer(["Question: What? Answer: This."], 300)
    shape = Shape(hidden_size=32, intermediate_size=64, num_layers=1, num_heads=2)
    for name in ("architecture", "sizes", "endless", "encoder", "sound_model"):
        save(new_model(shape, tokenizer, 0), tokenizer, data / name)
    config = json.loads((data / "sizes" / "config.json").read_text())
    for name, other in {
        "architecture": {"model_type": "gpt_neox", "architectures": ["GPTNeoXForCausalLM"]},
        "sizes": {"intermediate_size": 96},
        "encoder": {"model_type": "t5", "architectures": ["T5ForConditionalGeneration"]},
    }.items():
        (data / name / "config.json").write_text(json.dumps({**config, **other}))
    tokenizer.eos_token = None
    tokenizer.save_pretrained(data / "endless")
    return data


QUICK = ("weights of other sizes", "a tokenizer that is none", "an adapter with no place")
"""Those of the late mistakes that the default tests make; each loads torch."""


@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.long) for n in LATE]
)
def test_what_only_loading_shows_is_explained_too(name: str, models: Path, tmp_path: Path) -> None:
    answer = ask(LATE[name], tmp_path, models)
    assert answer.code == 2, answer.err
    assert "Traceback" not in answer.err
    said = [line for line in answer.err.splitlines() if line.startswith(("error: ", "fix: "))]
    assert two_lines(said), answer.err
    missing = [
        words for words in LATE[name].says if words.replace("@", f"{models}/") not in said[0]
    ]
    assert not missing, answer.err
    (status,) = tmp_path.glob("out/runs/*/status.json")
    assert json.loads(status.read_text())["status"] == "failed"
    assert not list(tmp_path.glob("out/store/unlearn/*/manifest.json"))


@pytest.mark.parametrize(
    "name",
    ["group mistyped", "gamma 2", "name outside", "class of a stranger", "row without an answer"],
)
def test_a_mistake_is_explained_before_anything_heavy_is_imported(
    name: str, data: Path, tmp_path: Path
) -> None:
    command = words_of(MISTAKES[name].command, data)
    done = unlearn(tmp_path, *command, fresh=True, env=WATCHED)
    assert done.returncode == 2
    assert not imported(done.stderr) & HEAVY


def mended(command: list[str], fix: list[str], problem: str) -> list[str]:
    """A command with a fix typed into it, in place of what the answer is about."""
    keys = {word.lstrip("+~").partition("=")[0] for word in fix}

    def stays(word: str) -> bool:
        key = word.lstrip("+~").partition("=")[0]
        return key not in keys and not re.match(
            rf"{re.escape(key)}(?![\w.])", problem.lstrip("+~'")
        )

    return [*(word for word in command if stays(word)), *fix]


ROWS = f"benchmark.data_dir=@sound benchmark.source.sizes={{{SIZES}}}"
MODEL = "target.path=@model retain_model.path=@model"
NEEDS = {
    "a key under a nested experiment": f"{ROWS} {MODEL}",
    "an experiment mistyped": f"{ROWS} {MODEL}",
    "several experiments": f"{ROWS} {MODEL}",
    "folder for a generator": ROWS,
    "a model of the hub": MODEL,
    "a folder of a model": MODEL,
}
"""What such a command needs besides, and its mistake is not about: files that are here."""

BY_HAND = {
    "name taken": "name=another",
    "split that is not there": "benchmark.full=full",
    **dict.fromkeys(
        ("a file for a folder", "no data folder", "wrong number of rows"), tofu("sound")
    ),
    "no model folder": "target.path=@model",
    "a file for a model": "target.path=@model",
    "no hub": "target.path=@model",
    "model without a path": "model=hf model.path=@model",
    "selection across benchmarks": (
        "-m benchmark.forget=forget05,forget10 sweep.select.criterion=null"
    ),
    "an empty range": "sweep=search '++sweep.space={train.lr: {low: 0.1, high: 10, log: true}}'",
    "a search with an axis": "sweep=search '++sweep.space={method: {choices: [ga, gd]}}'",
    "a further job of nothing": "-m seed=1,2 'sweep.also=[{method: npo, adapter: lora}]'",
    "a search with further jobs": "sweep=search",
    "no data set in the cache": tofu("sound"),
    **dict.fromkeys(
        ("no log", "log empty", "log of something else", "log a folder"),
        f"{tofu('sound')} retain_model.log=@sound.json",
    ),
}
"""What advice that is no command comes to, where it is not about a damaged file or folder."""


def followed(name: str, fix: str) -> str:
    """A command as whoever follows advice by hand types it: with sound files in place of broken."""
    command = MISTAKES[name].command
    whole = dict.fromkeys(DAMAGED, "sound") | dict.fromkeys(MODELS, "model")
    whole |= dict.fromkeys(LOGS, "sound.json")
    sound = re.sub(r"@([\w.]+)", lambda m: f"@{whole.get(m[1], m[1])}", command)
    if command.startswith("unlearn-"):
        sound = "unlearn-score @sound.json" if "score" in command else "unlearn-store ls @sound"
    sound = BY_HAND.get(name, sound)
    assert sound != command, f"nothing says how to follow: {fix}"
    return sound


@pytest.fixture(scope="module")
def ends(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What a command says that does not end well; many advices come to the same command."""

    @functools.cache
    def end(command: str) -> str:
        words, cwd = words_of(command, data), tmp_path_factory.mktemp("followed")
        if words[0] in COMMANDS:
            done = run(cwd, COMMANDS[words[0]], *words[1:])
        else:
            done = unlearn(cwd, *PACE, *words, "plan_only=true")
        return "" if done.returncode == 0 else done.stderr

    return end


# A part of them by default; all in `make test-long`.
@pytest.mark.parametrize(
    "name",
    [
        name if number % 8 == 0 or name in NEEDS else pytest.param(name, marks=pytest.mark.long)
        for number, name in enumerate(MISTAKES)
    ],
)
def test_every_fix_that_is_printed_does_what_it_says(
    name: str, answers: Any, data: Path, tmp_path: Path, ends: Any
) -> None:
    """Typed as it stands: what a shell makes of it is put into the command, which then plans."""
    answer = answers(name)
    lines = answer.err.strip().splitlines()
    if len(lines) < 2:
        assert two_lines(lines)  # it says what is allowed; nothing is near
        return
    fix = shlex.split(lines[-1].removeprefix("fix: "), comments=True)
    if not fix or fix[0] in ("pip", "python"):
        assert ends(followed(name, lines[-1])) == ""
        return
    for file, content in MISTAKES[name].written.items():
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).write_text(content)
    if fix[0] in COMMANDS:
        done = run(tmp_path, COMMANDS[fix[0]], *fix[1:], env=MISTAKES[name].env)
        assert done.returncode in (0, 1), f"{fix}: {done.stderr}"
        return
    before = words_of(MISTAKES[name].command, data)
    words = (
        fix[1:] if fix[0] == "unlearn" else mended(before, fix, lines[0].removeprefix("error: "))
    )
    words = [word for word in words if word not in PACE and not word.startswith("output_dir=")]
    words += words_of(NEEDS.get(name, ""), data)
    done = unlearn(tmp_path, *PACE, *words, "plan_only=true", env=MISTAKES[name].env)
    assert done.returncode == 0, f"{fix}: {words}: {done.stderr}"


def test_the_fix_for_a_wrong_number_of_rows_takes_the_files_as_they_are(
    data: Path, tmp_path: Path
) -> None:
    command = ("benchmark=tofu", f"benchmark.data_dir={data}/sound", "plan_only=true")
    told = unlearn(tmp_path, *command).stderr
    (fix,) = [word for word in told.split() if "benchmark.source.sizes" in word]
    done = unlearn(tmp_path, *command, fix)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_mark_and_carriage_returns_are_read_as_if_they_were_not_there(data: Path) -> None:
    from unlearn_runner.data.sources import Tofu

    sound, marked = (Tofu(data_dir=str(data / d), sizes=None) for d in ("sound", "marked"))
    assert marked.read("full") == sound.read("full")


def test_an_answer_longer_than_the_context_is_said_and_nothing_is_lost(
    data: Path, tmp_path: Path
) -> None:
    # Only the tokenizer knows how long a row is, and a from-scratch model's is made by the run.
    long = qa(1) | {"answer": " ".join(str(n * n) for n in range(100, 180))}
    folder = tmp_path / "data"
    folder.mkdir()
    for split, content in {**SOUND, "full": lines(qa(0), long, qa(2))}.items():
        (folder / f"{split}.json").write_bytes(content)
    (folder / "retain90.json").write_bytes(lines(long, qa(2)))
    command = f"benchmark=tofu benchmark.data_dir={folder} benchmark.source.sizes=null"
    for limit in ("target.train.max_length=64", "model.shape.context=64"):
        done = unlearn(tmp_path, *PACE, *command.split(), limit, "name=long")
        assert done.returncode == 2, done.stderr
        said, fix = done.stderr.strip().splitlines()[-2:]
        assert said.startswith("error: full+real_authors+world_facts row 2 has ")
        assert "more than the 64" in said
        assert "target.train.max_length=" in fix
        assert "Traceback" not in done.stderr
        status = json.loads((tmp_path / "out" / "runs" / "long" / "status.json").read_text())
        assert status["status"] == "failed"
        shutil.rmtree(tmp_path / "out" / "runs")
    assert len(list((tmp_path / "out" / "store" / "pretrain").glob("*/manifest.json"))) == 2


def test_line_separators_inside_a_json_text_do_not_end_the_line(tmp_path: Path) -> None:
    from unlearn_runner.data.records import read_records

    row = {"question": "One\u2028two\u0085three?", "answer": "Yes."}
    path = tmp_path / "full.json"
    path.write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
    assert read_records(path) == [(f"{path}:1", row)]
