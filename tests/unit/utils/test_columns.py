"""Tables for terminals of any width: every number is there whole, every row says what it is of."""

from __future__ import annotations

import re

import pytest
from rich.console import Console
from rich.table import Column

from unlearn_runner.utils.columns import TitledTable

NUMBERS = [
    f"{mantissa}.31e-1{exponent} ± 7.0{mantissa}e-05" for mantissa, exponent in ((4, 2), (5, 9))
]
HEADS = ("model_utility", "forget\nprobability", "retain\nprobability", "forget\ntruth_ratio")


def printed(table: TitledTable, width: int) -> list[str]:
    console = Console(width=width)
    with console.capture() as captured:
        console.print(table)
    return captured.get().splitlines()


def scores() -> TitledTable:
    columns = [Column(head, justify="right") for head in HEADS]
    found = TitledTable("scores", "method", "rectifier", "adapter", *columns, keys=3)
    for method, number in zip(("ga", "npo"), NUMBERS, strict=True):
        found.add_row(method, "gru", "lora", *[number] * len(HEADS))
    return found


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_no_number_is_cut_and_every_part_says_what_its_rows_are(width: int) -> None:
    lines = printed(scores(), width)
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    assert "…" not in text
    for method, number in zip(("ga", "npo"), NUMBERS, strict=True):
        assert text.count(number) == len(HEADS)
        rows = [line for line in lines if number in line]
        assert all(re.match(rf"│ {method} +│ gru +│ lora", row) for row in rows)
    parts = sum("method" in line for line in lines)
    assert parts == {60: 4, 80: 2, 120: 1, 200: 1}[width]


def test_what_all_rows_say_folds_into_a_line_under_the_title() -> None:
    table = scores()
    table.fold(range(3))
    title, same, *lines = printed(table, 80)
    assert (title.strip(), same.strip()) == ("scores", "rectifier gru, adapter lora")
    assert sum("method" in line for line in lines) == 2
    assert not any("lora" in line for line in lines)


def test_one_row_is_shown_in_full() -> None:
    table = TitledTable("one", "method", "score")
    table.add_row("ga", "1")
    table.fold(range(2))
    assert table.same == []


def test_a_line_a_row_cuts_names_and_no_number() -> None:
    table = TitledTable("runs", "run", Column("step", justify="right"), "note", one_line=True)
    table.add_row("method=npo,rectifier=gru,seed=1", "1234/123456", "evaluates the retain model")
    (row,) = (line for line in printed(table, 50) if line.startswith("│"))
    assert "1234/123456" in row
    assert row.count("…") == 2
