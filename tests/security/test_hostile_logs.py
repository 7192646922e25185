"""Logs of anyone: what can be scored is scored; hostile ones end in two lines, exit 2, at once."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from unlearn_runner.commands.score import main

Json = dict[str, Any]
PARTS = {
    "retain": "eval_log.json",
    "real_authors": "eval_real_author_wo_options.json",
    "world_facts": "eval_real_world_wo_options.json",
    "forget": "eval_log_forget.json",
}
ROWS = 3


def locuslab(as_rows: Callable[[list[Any]], Any]) -> Json:
    part = {
        "avg_gt_loss": [0.5, 0.6, 0.7],
        "avg_paraphrased_loss": [1.0, 1.1, 1.2],
        "average_perturb_loss": [[2.0, 2.5], [1.5, 1.0], [3.0, 1.0]],
        "generated_text": [[f"Q{i}", "An answer.", f"Answer {i}."] for i in range(ROWS)],
        "rougeL_recall": [0.5, 0.5, 0.5],
    }
    return {name: {k: as_rows(v) for k, v in part.items()} for name in PARTS.values()}


def numbered(form: str) -> Callable[[list[Any]], Json]:
    return lambda values: {form.format(i): value for i, value in enumerate(values)}


def open_unlearning(form: str) -> Json:
    loss = numbered(form)([{"avg_loss": 0.5}] * ROWS)
    text = {"input": "Q", "generation": "A", "ground_truth": "A b"}
    return {
        f"{prefix}_{metric}": {"agg_value": 0.0, "value_by_index": values}
        for prefix in ("forget", "retain", "ra", "wf")
        for metric, values in (
            ("Q_A_Prob", loss),
            ("Q_A_PARA_Prob", loss),
            ("Q_A_PERT_Prob", numbered(form)([{"avg_loss": [1.0, 2.0]}] * ROWS)),
            ("Q_A_ROUGE", numbered(form)([text] * ROWS)),
        )
    }


def run(path: Path, capsys: Any, *arguments: str) -> Json:
    code = main([str(path), "--json", *arguments])
    said = capsys.readouterr()
    assert code == 0, said.err
    return json.loads(said.out)


def scores(found: Json) -> Json:
    return {key: found[key] for key in ("model_utility", "parts", "rows", "missing")}


def written(folder: Path, content: Any, name: str = "log.json") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


# Read as they are.


def backwards(values: list[Any]) -> Json:
    return dict(reversed(numbered("{}")(values).items()))


def mixed(values: list[Any]) -> Any:
    """Losses in lists, all else by row numbers with a decimal point."""
    return values if isinstance(values[0], float) else numbered("{}.0")(values)


def beside(**more: Any) -> Json:
    log = locuslab(list)
    return {**log, PARTS["forget"]: {**log[PARTS["forget"]], **more}}


FORMS: dict[str, tuple[Any, Any]] = {
    # a log, and one of row numbers that says the same
    "lists": (locuslab(list), locuslab(numbered("{}"))),
    "decimal row numbers": (locuslab(numbered("{}.0")), locuslab(numbered("{}"))),
    "row numbers out of order": (locuslab(backwards), locuslab(numbered("{}"))),
    "lists beside decimal row numbers": (locuslab(mixed), locuslab(numbered("{}"))),
    "statistics that nobody asks for": (beside(seconds=[1, 2], note="x"), locuslab(list)),
    "parts that nobody asks for": (locuslab(list) | {"time.json": {"a": 1}}, locuslab(list)),
    "open-unlearning's decimal row numbers": (open_unlearning("{}.0"), open_unlearning("{}")),
    "open-unlearning's summary beside": (
        open_unlearning("{}.0") | {"model_utility": {"agg_value": 0.5}},
        open_unlearning("{}"),
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_log_of_another_form_says_the_same(tmp_path: Path, capsys: Any, form: str) -> None:
    log, same = FORMS[form]
    expected = run(written(tmp_path, same), capsys)
    assert expected["missing"] == {}
    assert expected["model_utility"] is not None
    path = written(tmp_path, log, "other.json")
    assert scores(run(path, capsys)) == scores(expected)
    assert run(path, capsys, "--retain", str(tmp_path / "log.json"))["forget_quality"] == 1.0


@pytest.mark.parametrize("view", PARTS)
def test_a_missing_part_leaves_the_others_scored(tmp_path: Path, capsys: Any, view: str) -> None:
    log = locuslab(list)
    whole = run(written(tmp_path, log), capsys)
    del log[PARTS[view]]
    found = run(written(tmp_path, log), capsys)
    assert set(found["parts"].pop(view).values()) == {None}
    assert found["parts"] == {k: v for k, v in whole["parts"].items() if k != view}
    assert list(found["missing"]) == [view]
    expected = whole["model_utility"] if view == "forget" else None
    assert found["model_utility"] == expected
    assert main([str(tmp_path / "log.json")]) == 0
    assert f"not in the log, so without a score: {view} (losses" in capsys.readouterr().out


@pytest.mark.parametrize("value", [0.5, {"agg_value": 0.5}, None])
def test_a_mean_without_rows_is_a_missing_metric(tmp_path: Path, capsys: Any, value: Any) -> None:
    log = open_unlearning("{}") | {"ra_Q_A_Prob": value}
    found = run(written(tmp_path, log), capsys)
    assert found["parts"]["real_authors"]["probability"] is None
    assert found["parts"]["retain"]["probability"] is not None
    assert found["missing"] == {"real_authors": ["losses of answer answers"]}


# Hostile.


def lists(view: str = "forget", **statistics: Any) -> Json:
    log = locuslab(list)
    log[PARTS[view]] |= statistics
    return log


BIG = b"9" * 5_000
HOSTILE: dict[str, tuple[Any, tuple[str, ...]]] = {
    # content, what the error names
    "lists nested": (b"[" * 200_000, ("deep",)),
    "objects nested": (b'{"eval_log.json":' * 100_000, ("deep",)),
    "nested in a value": (
        b'{"eval_log.json": {"avg_gt_loss": {"0": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}}",
        ("deep",),
    ),
    "number of 5,000 digits": (
        b'{"eval_log.json": {"avg_gt_loss": [' + BIG + b"]}}",
        ("avg_gt_loss", "row 0", "finite"),
    ),
    "row of 5,000 digits": (
        b'{"eval_log.json": {"avg_gt_loss": {"' + BIG + b'": 1}}}',
        ("no row number",),
    ),
    "exponent": (b'{"eval_log.json": {"avg_gt_loss": [1e999]}}', ("row 0", "finite")),
    "NaN": (lists(avg_gt_loss=[0.5, float("nan"), 0.5]), ("avg_gt_loss", "row 1", "nan")),
    "Infinity": (lists(average_perturb_loss=[[1.0], [float("inf")], [1.0]]), ("row 1", "inf")),
    "row half": (lists(avg_gt_loss={"0": 1, "0.5": 1, "1": 1}), ("'0.5'",)),
    "row twice": (lists(avg_gt_loss={"0": 1, "0.0": 1, "1": 1}), ("row 0 twice",)),
    "row with a path": (lists(avg_gt_loss={"../../etc/passwd": 1}), ("'../../etc/passwd'",)),
    "row with markup": (lists(avg_gt_loss={"[red]0[/red]": 1}), ("[red]0[/red]",)),
    "row with a line": (lists(avg_gt_loss={"0\nfix: rm -rf /": 1}), ("no row number",)),
    "numbers as text": (lists(avg_gt_loss=["0.5"] * 3), ("row 0", "text")),
    "numbers as objects": (lists(avg_gt_loss=[{"_target_": "os.system"}] * 3), ("an object",)),
    "texts as lists": (lists(generated_text=[[["Q"], "A", "A"]] * 3), ("row 0", "a list")),
    "part true": ({PARTS["forget"]: True}, ("eval_log_forget.json",)),
    "lists of other lengths": (lists(avg_gt_loss=[0.5] * 9), ("row 3", "9 and 3 rows")),
    "nothing of a log": ({name: {} for name in PARTS.values()}, ("no rows",)),
    "names with ../": ({"../../eval_log.json": {}, "..": 1}, ("neither",)),
    "UTF-16": (json.dumps(locuslab(list)).encode("utf-16"), ("UTF-8",)),
    "a number": (b"1e5", ("not a JSON object",)),
    "pickle": (b"\x80\x04\x95\x10\x00cos\nsystem\n", ("UTF-8",)),
}


def refused(capsys: Any, path: Path, *named: str) -> None:
    assert main([str(path)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    error, fix = said.err.splitlines()
    assert error.startswith("error: ")
    assert len(error) < 500
    assert fix.startswith("fix: ")
    for word in (str(path), *named):
        assert word in error


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile(tmp_path: Path, capsys: Any, case: str) -> None:
    content, named = HOSTILE[case]
    refused(capsys, written(tmp_path, content), *named)
    assert [item.name for item in tmp_path.iterdir()] == ["log.json"]


def test_what_is_no_file_is_not_opened(tmp_path: Path, capsys: Any) -> None:
    """A pipe would be waited for, a device read for ever."""
    os.mkfifo(tmp_path / "pipe")
    refused(capsys, tmp_path / "pipe", "no regular file")
    refused(capsys, Path("/dev/zero"), "no regular file")
    (tmp_path / "loop").symlink_to("loop")
    refused(capsys, tmp_path / "loop", "cannot be read")


def evaluation(folder: Path, **columns: Any) -> Path:
    """An evaluation of ours, one view of it with columns replaced."""
    folder.mkdir(exist_ok=True)
    losses: Json = {"row": [0, 1], "role": ["answer"] * 2, "answer_index": [0, 0]}
    losses["logprob"] = [[-1.0], [-2.0]]
    texts: Json = {"row": [0, 1], "question": ["Q"] * 2, "generation": ["A"] * 2}
    texts["answer"] = ["A"] * 2
    for view in PARTS:
        new = columns if view == "retain" else {}
        logprobs = losses | {k: v for k, v in new.items() if k in losses and k != "row"}
        logprobs |= {"row": new["row"]} if "row" in new else {}
        pq.write_table(pa.table(logprobs), folder / f"{view}.logprobs.parquet")
        generations = texts | {k: v for k, v in new.items() if k in texts and k != "row"}
        pq.write_table(pa.table(generations), folder / f"{view}.generations.parquet")
    return folder


@pytest.mark.parametrize(
    ("columns", "named"),
    [
        ({"row": [0, 10**9]}, "row 1000000000"),
        ({"row": [-1, 0]}, "row -1"),
        ({"row": [None, 0]}, "retain"),
        ({"row": ["0", "1"]}, "retain"),
        ({"row": [1, 1]}, "no answer"),
        ({"row": [0, 0]}, "1 and 2 rows"),
        ({"generation": ["A", None]}, "a text"),
        ({"answer": [1, 2]}, "a text"),
        ({"logprob": ["a", "b"]}, "retain"),
    ],
)
def test_evidence_that_no_probe_wrote(
    tmp_path: Path, capsys: Any, columns: Json, named: str
) -> None:
    assert main([str(evaluation(tmp_path / "sound"))]) == 0
    capsys.readouterr()
    refused(capsys, evaluation(tmp_path / "bad", **columns), "'retain'", named)


def test_a_pipe_among_the_evidence(tmp_path: Path, capsys: Any) -> None:
    folder = evaluation(tmp_path / "bad")
    (folder / "retain.logprobs.parquet").unlink()
    os.mkfifo(folder / "retain.logprobs.parquet")
    refused(capsys, folder, "no file")
