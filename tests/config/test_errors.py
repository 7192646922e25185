"""A command that cannot be right ends in two lines, with exit code 2, and leaves no trace.

Every row of the table is typed into a real process. Whatever is wrong with it, the answer names the
key and what would be allowed or nearest, comes before torch is loaded, and nothing is written.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

SECONDS = 3.0  # the longest a person should wait for being told of a mistake
PACE = ("debug=tiny", "parallel.threads=1")  # a command that is accepted by mistake ends soon

# --- a folder of TOFU's files in miniature, and ways to damage it


def qa(number: int, **more: Any) -> dict[str, Any]:
    return {"question": f"Question {number}?", "answer": f"Answer {number}.", **more}


def judged(number: int) -> dict[str, Any]:
    return qa(number, paraphrased_answer=f"It is {number}.", perturbed_answer=[f"No, {number}."])


def lines(*rows: Mapping[str, Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


SOUND = {
    "full": lines(qa(0), qa(1), qa(2)),
    "forget10": lines(qa(0)),
    "retain90": lines(qa(1), qa(2)),
    "forget10_perturbed": lines(judged(0)),
    "retain_perturbed": lines(judged(1)),
    "real_authors": lines(qa(3)),
    "world_facts": lines(qa(4)),
    "real_authors_perturbed": lines(judged(3)),
    "world_facts_perturbed": lines(judged(4)),
}
DAMAGED: dict[str, dict[str, bytes | None]] = {
    "sound": {},
    "no_file": {"retain90": None},
    "no_answer": {"full": lines(qa(0), {"question": "And?"})},
    "empty_answer": {"full": lines(qa(0), qa(1) | {"answer": "  "})},
    "blank_line": {"full": b"\n" + lines(qa(0), {"question": "And?"})},
    "not_json": {"full": lines(qa(0)) + b'{"question": \n'},
    "not_utf8": {"full": lines(qa(0)) + b'{"question": "\xe9t\xe9"}\n'},
    "nothing": {"full": b""},
    "no_perturbed": {"retain_perturbed": lines(qa(1))},
    "empty_perturbed": {"retain_perturbed": lines(qa(1, perturbed_answer=["a", ""]))},
    "other_version": {"retain90": lines(qa(1), qa(5))},
    "empty_array": {"full": b"[]\n"},
    "array": {"full": b'[{"question": "Q?", "answer": "A."},\n {"question": "Q2?"}]'},
    "broken_array": {"full": b'[{"question": "Q?",\n "answer": }]'},
    "number": {"full": lines(qa(0), qa(1) | {"answer": 7})},
    "list": {"full": lines(qa(0), qa(1) | {"answer": ["Answer 1."]})},
    "null": {"full": lines(qa(0) | {"answer": None})},
    "no_object": {"full": lines(qa(0)) + b'["Question?", "Answer."]\n'},
    "nested": {"full": lines(qa(0)) + b"[" * 100_000 + b"\n"},
    "not_a_number": {"full": lines(qa(0)) + b'{"question": "Q?", "answer": NaN}\n'},
    "infinite": {"full": b'{"question": "Q?", "answer": "A.", "weight": Infinity}\n'},
    "long_number": {"full": b'{"question": "Q?", "answer": %s}\n' % (b"1" * 5000)},
    "twice_a_key": {"full": b'{"question": "Q?", "answer": "A.", "answer": "B."}\n'},
    "surrogate": {"full": b'{"question": "Q\\ud800?", "answer": "A."}\n'},
    "latin1_after_mark": {"full": b"\xef\xbb\xbf" + lines(qa(0)) + b'{"question": "\xe9"}\n'},
    "utf16": {"full": '{"question": "Q?", "answer": "A."}\n'.encode("utf-16")},
    "lfs": {"full": b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n"},
    "repeated": {"full": lines(qa(0), qa(1), qa(1), qa(2))},
    "twice_wrong": {"retain_perturbed": lines(judged(1) | {"perturbed_answer": ["a", "b", "a "]})},
    "wrong_is_right": {"retain_perturbed": lines(judged(1) | {"perturbed_answer": ["Answer 1."]})},
    "wrong_is_paraphrase": {
        "forget10_perturbed": lines(judged(0) | {"perturbed_answer": ["No.", "It is 0."]})
    },
    "a_text_perturbed": {"retain_perturbed": lines(judged(1) | {"perturbed_answer": "No."})},
    "no_paraphrase": {
        "retain_perturbed": lines(judged(1), qa(2, perturbed_answer=["No."])),
    },
    "some_perturbed": {
        "retain_perturbed": lines(qa(2, paraphrased_answer="It is 2."), judged(1)),
    },
    "empty_paraphrase": {"retain_perturbed": lines(judged(1) | {"paraphrased_answer": " "})},
    "marked": {"full": b"\xef\xbb\xbf" + lines(qa(0), qa(1), qa(2)).replace(b"\n", b"\r\n")},
}
SIZES = ",".join(f"{name}:{content.count(b'}')}" for name, content in SOUND.items())


def tofu(damage: str, sizes: str = f"{{{SIZES}}}") -> str:
    """A command that reads the damaged folder, expecting as many rows as the sound files have."""
    return f"benchmark=tofu benchmark.data_dir=@{damage} benchmark.source.sizes={sizes}"


# --- the table


@dataclass(frozen=True)
class Mistake:
    """A command, and what the answer must contain."""

    command: str
    says: tuple[str, ...]
    env: dict[str, str] = field(default_factory=dict)
    written: dict[str, str] = field(default_factory=dict)
    """Files that are there before the command, below its working folder."""


def mistake(command: str, *says: str, **more: Any) -> Mistake:
    return Mistake(command, says, **more)


MISTAKES = {
    # names
    "group mistyped": mistake("methd=ga", "methd", "method=ga"),
    "option mistyped": mistake("method=npoo", "method=npoo", "ga, gd, kl, npo", "method=npo"),
    "option in capitals": mistake("method=NPO", "method=NPO", "fix: method=npo"),
    "option of a rectifier mistyped": mistake("rectifier=gruu", "gru, none", "fix: rectifier=gru"),
    "debug mistyped": mistake("debug=tinny", "debug=tinny", "fix: debug=tiny"),
    "option null": mistake("method=null", "method", "ga, gd, kl, npo"),
    "option a number": mistake("method=5", "method=5", "ga, gd, kl, npo"),
    "option a list": mistake("method=[ga,npo]", "method", "-m method=ga,npo"),
    "key mistyped": mistake("train.lrr=1", "train.lrr", "known here", "fix: train.lr=1"),
    "group of a key mistyped": mistake("rectifer.gamma=1", "rectifer.gamma", "rectifier.gamma=1"),
    "bare key": mistake("gamma=0.5", "gamma", "fix: rectifier.gamma=0.5"),
    "deep key mistyped": mistake("method.retain.los=kl", "method.retain.los", "method.retain.loss"),
    "key of another option": mistake("method.beta=0.1", "method.beta", "reduction"),
    "key of the other rectifier": mistake("rectifier=none rectifier.gamma=1", "rectifier.gamma"),
    # prefixes
    "added key": mistake("+foo=1", "foo is not a setting", "output_dir"),
    "added key in a group": mistake("+train.foo=1", "train.foo is not a setting", "batch_size"),
    "forced key": mistake("++train.lrr=1", "train.lrr is not a setting", "fix: train.lr="),
    "added key that is there": mistake("+train.lr=1", "train.lr"),
    "added group": mistake("+method=npo", "+method", "fix: method=npo"),
    "forced group": mistake("++method=npo", "method", "fix: method=npo"),
    "removed group": mistake("~method", "method"),
    "removed group with defaults": mistake("~train", "train"),
    "removed group mistyped": mistake("~methd", "methd", "fix: method="),
    # types and ranges
    "text for a number": mistake("train.lr=fast", "train.lr=fast", "a number > 0"),
    "text for an integer": mistake("train.batch_size=x", "train.batch_size=x", "a whole number"),
    "fraction for an integer": mistake("train.batch_size=1.5", "train.batch_size=1.5", ">= 1"),
    "truth value for an integer": mistake("train.batch_size=true", "train.batch_size", ">= 1"),
    "truth value for a number": mistake("train.lr=true", "train.lr", "a number > 0"),
    "nothing for a number": mistake("train.lr=", "train.lr=", "a number > 0"),
    "null for a number": mistake("train.lr=null", "train.lr", "a number > 0"),
    "number for a truth value": mistake("overwrite=7", "overwrite=7", "true or false"),
    "value for a group": mistake("target.train=5", "target.train", "Recipe"),
    "gamma 0": mistake("rectifier.gamma=0", "rectifier.gamma=0", "> 0 and <= 1"),
    "gamma 2": mistake("rectifier.gamma=2", "rectifier.gamma=2", "> 0 and <= 1"),
    "tau 0": mistake("rectifier.tau=0", "rectifier.tau=0", "> 0", "null"),
    "negative rate": mistake("train.lr=-1", "train.lr=-1", "a number > 0"),
    "rate not a number": mistake("train.lr=nan", "train.lr=nan", "a number > 0"),
    "batch of none": mistake("train.batch_size=0", "train.batch_size=0", ">= 1"),
    "negative seed": mistake("seed=-1", "seed=-1", "a whole number >= 0"),
    "nested range": mistake("method=npo method.beta=0", "method.beta=0", "a number > 0"),
    "one beta": mistake("train.betas=[0.9]", "train.betas", "0.9"),
    "odd head size": mistake("model.shape.num_heads=3", "model.shape.num_heads=3"),
    "choice mistyped": mistake("rectifier.clip=aftr", "after or before", "rectifier.clip=after"),
    "nested choice mistyped": mistake(
        "method.retain.loss=nnl", "method.retain.loss=nnl", "none or nll or kl", "loss=nll"
    ),
    "device mistyped": mistake("parallel.device=gpu", "parallel.device=gpu", "auto or cpu or cuda"),
    # values that are not there
    "missing value": mistake("train.lr=???", "train.lr"),
    "interpolation to nowhere": mistake("seed=${nope.x}", "seed", "nope.x"),
    "environment variable": mistake("seed=${oc.env:NO_SUCH}", "seed", "NO_SUCH"),
    # the form of the command
    "no equals sign": mistake("npo", "npo", "KEY=VALUE"),
    "group without a value": mistake("method", "method", "fix: method="),
    "no key": mistake("=5", "=5"),
    "bracket left open": mistake("train.betas=[0.9", "[0.9"),
    "unknown flag": mistake("--metod=npo", "--metod=npo"),
    "unknown short flag": mistake("-x", "-x"),
    "several options": mistake("method=ga,npo", "method=ga,npo", "-m method=ga,npo"),
    "several values": mistake("seed=1,2", "seed=1,2", "-m seed=1,2"),
    "sweep over an unknown option": mistake("-m method=npo,gaa", "method=gaa", "fix: method=ga"),
    "name outside": mistake("name=../x", "name='../x'", "allowed: letters", "fix: name=x"),
    "hidden name": mistake("name=.x", "name='.x'", "fix: name=x"),
    "one of two ranks": mistake(
        "seed=1",
        "2 ranks",
        "start it plainly: unlearn",
        "seed=1",
        env={"RANK": "1", "WORLD_SIZE": "2"},
    ),
    "name taken": mistake(
        "name=mine",
        "name=mine",
        "another configuration",
        "overwrite=true",
        written={"out/runs/mine/config.yaml": "seed: 7\n"},
    ),
    # classes
    "class of a stranger": mistake(
        "method._target_=os.system", "method._target_=os.system", "unlearn_runner", "trusted=[os]"
    ),
    "class of another kind": mistake(
        "method._target_=unlearn_runner.rectifiers.gru.GRU", "method._target_", "Method"
    ),
    "class that is not there": mistake(
        "method._target_=unlearn_runner.methods.ga.GAA", "method._target_", "methods.ga.GAA"
    ),
    "module that is not there": mistake(
        "method._target_=unlearn_runner.gaa.GA", "method._target_", "unlearn_runner.gaa"
    ),
    "class without a module": mistake("method._target_=GA", "method._target_", "package.module"),
    "trusted not a list": mistake("trusted=os", "trusted=os", "trusted=[my_package]"),
    # data
    "forget split": mistake(
        "benchmark.forget=forget11", "benchmark.forget=forget11", "forget05, forget10"
    ),
    "split that is not there": mistake("benchmark.full=ful", "ful", "forget10"),
    "folder for a generator": mistake("benchmark.data_dir=.", "benchmark.data_dir", "tofu"),
    "no data folder": mistake(
        "benchmark=tofu benchmark.data_dir=nope", "benchmark.data_dir=nope", "full.json"
    ),
    "no data file": mistake(tofu("no_file"), "retain90.json", "forget10"),
    "row without an answer": mistake(tofu("no_answer"), "full.json:2", "'answer'"),
    "row with an empty answer": mistake(tofu("empty_answer"), "full.json:2", "empty", "'answer'"),
    "line counted with blank ones": mistake(tofu("blank_line"), "full.json:3", "'answer'"),
    "row not JSON": mistake(tofu("not_json"), "full.json:2", "JSON"),
    "row not UTF-8": mistake(tofu("not_utf8"), "full.json:2", "UTF-8"),
    "empty file": mistake(tofu("nothing"), "full.json", "empty"),
    "wrong number of rows": mistake(
        tofu("sound", "{retain90:7}"), "full.json has 3 rows", "4000", "benchmark.source.sizes"
    ),
    "no perturbed answers": mistake(
        tofu("no_perturbed"), "retain_perturbed", "1", "'perturbed_answer'"
    ),
    "an empty perturbed answer": mistake(
        tofu("empty_perturbed"), "retain_perturbed.json:1", "'perturbed_answer'"
    ),
    "splits of two versions": mistake(tofu("other_version"), "retain90", "forget10", "full"),
    "empty array": mistake(tofu("empty_array"), "full.json", "empty"),
    "row of an array": mistake(tofu("array"), "full.json row 2", "'answer'"),
    "array not JSON": mistake(tofu("broken_array"), "full.json:2", "JSON"),
    "a number for an answer": mistake(tofu("number"), "full.json:2", "non-text", "'answer'"),
    "a list for an answer": mistake(tofu("list"), "full.json:2", "non-text", "'answer'"),
    "null for an answer": mistake(tofu("null"), "full.json:1", "non-text", "'answer'"),
    "row not an object": mistake(tofu("no_object"), "full.json:2", "not a JSON object"),
    "row nested without end": mistake(tofu("nested"), "full.json:2", "nested"),
    "NaN": mistake(tofu("not_a_number"), "full.json:2", "NaN"),
    "Infinity": mistake(tofu("infinite"), "full.json:1", "Infinity"),
    "a number too long to read": mistake(tofu("long_number"), "full.json:1", "JSON"),
    "a key twice": mistake(tofu("twice_a_key"), "full.json:1", "'answer'", "twice"),
    "half of a surrogate pair": mistake(tofu("surrogate"), "full.json:1", "surrogate"),
    "line counted behind a mark": mistake(tofu("latin1_after_mark"), "full.json:2", "UTF-8"),
    "UTF-16": mistake(tofu("utf16"), "full.json:1", "UTF-8"),
    "a pointer of Git LFS": mistake(tofu("lfs"), "full.json:1", "JSON"),
    "a row twice": mistake(tofu("repeated"), "full.json:3", "repeats", "full.json:2"),
    "a wrong answer twice": mistake(
        tofu("twice_wrong"), "retain_perturbed.json:1", "number 3", "same as number 1"
    ),
    "a wrong answer that is right": mistake(
        tofu("wrong_is_right"), "retain_perturbed.json:1", "number 1", "the 'answer'"
    ),
    "a wrong answer that is the paraphrase": mistake(
        tofu("wrong_is_paraphrase"),
        "forget10_perturbed.json:1",
        "number 2",
        "the 'paraphrased_answer'",
    ),
    "a text for a list": mistake(tofu("a_text_perturbed"), "retain_perturbed.json:1", "a list"),
    "a paraphrase missing": mistake(
        tofu("no_paraphrase"), "retain_perturbed.json:2 has no 'paraphrased_answer'"
    ),
    "perturbed answers missing": mistake(
        tofu("some_perturbed"), "retain_perturbed.json:1 has no 'perturbed_answer'"
    ),
    "an empty paraphrase": mistake(
        tofu("empty_paraphrase"), "retain_perturbed.json:1", "'paraphrased_answer'"
    ),
    "a file for a folder": mistake(
        "benchmark=tofu benchmark.data_dir=@sound/full.json", "benchmark.data_dir", "not a folder"
    ),
    "verify not a truth value": mistake("verify=7", "verify=7", "true or false"),
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


def unlearn(cwd: Path, *arguments: str, env: Mapping[str, str] | None = None) -> Any:
    arguments = (*arguments, f"output_dir={cwd / 'out'}")
    flags_first = sorted(arguments, key=lambda argument: not argument.startswith("-"))
    clean = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "NO_SUCH")}
    return subprocess.run(
        [sys.executable, "-m", "unlearn_runner.run", *flags_first],
        cwd=cwd,
        env={**clean, "OMP_NUM_THREADS": "1", **(env or {})},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder of data files for each kind of damage."""
    root = tmp_path_factory.mktemp("data")
    for damage, changes in DAMAGED.items():
        (root / damage).mkdir()
        for split, content in {**SOUND, **changes}.items():
            if content is not None:
                (root / damage / f"{split}.json").write_bytes(content)
    return root


def typed(command: str, data: Path) -> list[str]:
    return shlex.split(command.replace("=@", f"={data}/"))


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Iterator[Any]:
    """The answer to every mistake of the table, each asked for in a folder of its own."""

    def ask(item: Mistake) -> Answer:
        cwd = tmp_path_factory.mktemp("cwd")
        for name, content in item.written.items():
            (cwd / name).parent.mkdir(parents=True)
            (cwd / name).write_text(content)
        before = tree(cwd)
        # First the pace, so that the command at hand has the last word.
        done = unlearn(cwd, *PACE, *typed(item.command, data), env=item.env)
        return Answer(done.returncode, done.stdout, done.stderr, before, tree(cwd))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        asked = {name: pool.submit(ask, item) for name, item in MISTAKES.items()}
        yield lambda name: asked[name].result()


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_explained_in_two_lines_and_nothing_is_written(
    name: str, answers: Any
) -> None:
    answer = answers(name)
    said = [line for line in answer.err.splitlines() if line.strip()]
    assert answer.code == 2, answer.err or answer.out
    assert "Traceback" not in answer.err
    assert 1 <= len(said) <= 2, answer.err
    missing = [words for words in MISTAKES[name].says if words not in answer.err]
    assert not missing, answer.err
    assert answer.out == ""
    assert answer.after == answer.before


@pytest.mark.parametrize(
    "name",
    ["group mistyped", "gamma 2", "name outside", "class of a stranger", "row without an answer"],
)
def test_a_mistake_is_explained_at_once(name: str, data: Path, tmp_path: Path) -> None:
    command = typed(MISTAKES[name].command, data)
    spent = []
    for _ in range(3):  # the machine may be busy with something else
        started = time.perf_counter()
        assert unlearn(tmp_path, *command).returncode == 2
        spent.append(time.perf_counter() - started)
        if spent[-1] < SECONDS:
            break
    assert min(spent) < SECONDS


@pytest.mark.parametrize("name", ["group mistyped", "bare key", "choice mistyped", "name outside"])
def test_the_fix_is_an_override_that_works(name: str, answers: Any, tmp_path: Path) -> None:
    fix = answers(name).err.splitlines()[1].removeprefix("fix: ")
    done = unlearn(tmp_path, fix, "plan_only=true")
    assert (done.returncode, done.stderr) == (0, ""), f"{fix}: {done.stderr}"


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
    from unlearn_runner.data.sources import read_json_rows

    row = {"question": "One\u2028two\u0085three?", "answer": "Yes."}
    path = tmp_path / "full.json"
    path.write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
    assert read_json_rows(path) == [(f"{path}:1", row)]
