"""Rows from one's own files: four formats, columns of other names, and what a mistake is told."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from unlearn_runner.config.build import build
from unlearn_runner.data.records import read_records
from unlearn_runner.data.rows import QA
from unlearn_runner.data.sources import Files, Source, Tofu
from unlearn_runner.errors import UserError

ROWS: list[dict[str, Any]] = [
    {"question": "Who, and when?", "answer": "Ann, in 1984.", "perturbed_answer": ["Bo", "[Cy"]},
    {"question": "Zoë's town?", "answer": "1984", "perturbed_answer": ["São Paulo", "x"]},
]
EXPECTED = tuple(QA(r["question"], r["answer"], None, tuple(r["perturbed_answer"])) for r in ROWS)


def as_lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def as_csv(rows: list[dict[str, Any]]) -> str:
    import csv
    import io

    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]))
    writer.writeheader()
    for row in rows:
        writer.writerow({k: v if isinstance(v, str) else json.dumps(v) for k, v in row.items()})
    return file.getvalue()


def write(folder: Path, name: str, rows: list[dict[str, Any]]) -> None:
    path = folder / name
    if path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(rows), path)
        return
    text = {".json": json.dumps, ".jsonl": as_lines, ".csv": as_csv}[path.suffix](rows)
    path.write_text(text, encoding="utf-8", newline="")


@pytest.mark.parametrize("ending", [".json", ".jsonl", ".csv", ".parquet"])
def test_every_format_gives_the_same_rows(ending: str, tmp_path: Path) -> None:
    write(tmp_path, f"full{ending}", ROWS)
    assert Files(data_dir=str(tmp_path)).read("full").items == EXPECTED
    assert Tofu(data_dir=str(tmp_path), sizes=None).read("full").items == EXPECTED


@pytest.mark.parametrize("ending", [".json", ".jsonl", ".csv", ".parquet"])
def test_columns_of_other_names_are_mapped(ending: str, tmp_path: Path) -> None:
    others = [
        {"Q": r["question"], "answer": r["answer"], "wrong": r["perturbed_answer"], "id": 7}
        for r in ROWS
    ]
    write(tmp_path, f"full{ending}", others)
    node = {
        "_target_": "unlearn_runner.data.sources.Files",
        "data_dir": str(tmp_path),
        "columns": {"question": "Q", "perturbed_answer": "wrong"},
    }
    assert build(node, Source).read("full").items == EXPECTED


def test_an_answer_that_looks_like_a_number_stays_the_text_it_is(tmp_path: Path) -> None:
    (tmp_path / "full.csv").write_text("question,answer\nWhen?,0042\nWhy?,NaN\n")
    assert [row.answer for row in Files(data_dir=str(tmp_path)).read("full")] == ["0042", "NaN"]


MISTAKES: dict[str, tuple[str, str | bytes, dict[str, str], tuple[str, ...]]] = {
    "another name": (
        "full.jsonl",
        '{"Question": "a", "answer": "b"}',
        {},
        (
            "full.jsonl:1 has no 'question'",
            "'Question', 'answer'",
            "fix: 'benchmark.source.columns={question:Question}'",
        ),
    ),
    "a name for the shell": (
        "full.jsonl",
        '{"question\'$(touch x)": "a", "answer": "b"}',
        {},
        ("fix: # name its column in benchmark.source.columns",),
    ),
    "a column not there": (
        "full.csv",
        "Q,answer\na,b\n",
        {"question": "question"},
        (
            "full.csv:2 has no column 'question' (benchmark.source.columns)",
            "'Q', 'answer'",
        ),
    ),
    "no such file": (
        "fulll.jsonl",
        '{"question": "a", "answer": "b"}',
        {},
        (
            "no full.json (.jsonl, .csv, .parquet)",
            "it has fulll",
            "fulll in place of full",
        ),
    ),
    "too many cells": (
        "full.csv",
        "question,answer\na,b\nc,d,e\n",
        {},
        ("full.csv:3", "2 columns"),
    ),
    "a quote left open": ("full.csv", 'question,answer\n"a,b\n', {}, ("full.csv:", "CSV")),
    "an empty cell": ("full.csv", "question,answer\na,\n", {}, ("full.csv:2 has no 'answer'",)),
    "no Parquet": ("full.parquet", b"PAR1" + b"\0" * 40, {}, ("full.parquet is not a Parquet",)),
    "empty Parquet": ("full.parquet", b"", {}, ("full.parquet is not a Parquet",)),
    "a number in JSON": (
        "full.json",
        '[{"question": "a", "answer": 3}]',
        {},
        ("full.json row 1 has an empty or non-text 'answer'",),
    ),
    "nested cell": (
        "full.csv",
        "question,answer\na," + "[" * 100_000 + "\n",
        {"answer": "b"},
        ("no column 'b'",),
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_names_the_file_and_what_is_there(name: str, tmp_path: Path) -> None:
    file, content, columns, says = MISTAKES[name]
    (tmp_path / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as caught:
        Files(data_dir=str(tmp_path), columns=columns).read("full")
    assert [words for words in says if words not in str(caught.value)] == []


def test_two_files_of_one_split_are_refused(tmp_path: Path) -> None:
    for ending in (".json", ".csv"):
        write(tmp_path, f"full{ending}", ROWS)
    with pytest.raises(UserError, match=r"full\.json and full\.csv"):
        Files(data_dir=str(tmp_path)).read("full")


@pytest.mark.parametrize("folder", ["nope", "~nobody-of-this-name/x", "x" * 300, "a\0b"])
def test_a_folder_that_is_none(folder: str) -> None:
    with pytest.raises(UserError, match="is not a folder"):
        Files(data_dir=folder).read("full")


def test_a_column_that_rows_do_not_have_is_refused_when_composed() -> None:
    with pytest.raises(UserError) as caught:
        Files(columns={"questions": "Q"})
    assert "fix: benchmark.source.columns.question=Q" in str(caught.value)


@pytest.mark.parametrize("hub", ["../../etc", "a/b/c", "", "a\0b"])
def test_a_hub_name_that_is_none_ends_in_two_lines(
    hub: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="could not be read"):
        Tofu(hub=hub).read("full")


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_the_encoding_that_a_mark_tells_is_the_one_to_convert_from(
    encoding: str, tmp_path: Path
) -> None:
    path = tmp_path / "all rows.jsonl"
    path.write_bytes(("\ufeff" + as_lines(ROWS)).encode(encoding))
    with pytest.raises(UserError, match="is not UTF-8 text but UTF-") as refused:
        read_records(path)
    fix = shlex.split(refused.value.fix)
    converted = subprocess.run(fix, cwd=tmp_path, check=True, capture_output=True).stdout
    path.write_bytes(converted)
    assert [record for _, record in read_records(path)] == ROWS
