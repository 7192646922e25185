"""Secrets of the environment stand in nothing that is written or printed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.text_stages import Text, execute
from rich.table import Table

from unlearn_runner.commands.shell import answered
from unlearn_runner.config.names import derive
from unlearn_runner.errors import UserError
from unlearn_runner.pipeline.runner import _failed
from unlearn_runner.run import main
from unlearn_runner.store.store import Store
from unlearn_runner.tracking.record import Record
from unlearn_runner.utils.console import console, results_console
from unlearn_runner.utils.process import command

SECRET = "hunter2'secret"


@pytest.fixture(autouse=True)
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTHER_PASSWORD", SECRET)


def texts(folder: Path) -> str:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    assert paths
    return "".join(f"{path}\n{path.read_text()}" for path in paths)


def test_no_file_of_a_run_folder_has_it(tmp_path: Path) -> None:
    record = Record(tmp_path)
    record.line({"stage": "unlearn", "step": 1, "note": SECRET})
    record.results(
        {"scores": {}, "provenance": {"command": [f"x={SECRET}"]}, "given": {"a": SECRET}}
    )
    record.status("running", waits_for=f"{SECRET} there")
    try:
        raise RuntimeError(f"cannot open {SECRET}")
    except RuntimeError as error:
        _failed(record, error)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"metrics.jsonl", "results.json", "status.json", "traceback.txt"}
    assert "hunter2" not in texts(tmp_path)
    assert texts(tmp_path).count("***") == 5


def test_no_manifest_has_it_and_the_key_stays(tmp_path: Path) -> None:
    stage = Text("text", SECRET)
    execute(tmp_path, [stage], [stage])
    path = Store(tmp_path / "store").path(stage) / "manifest.json"
    assert '"text": "***"' in path.read_text()
    assert "hunter2" not in path.read_text()
    assert Store(tmp_path / "store").manifest(stage) is not None


def test_no_console_shows_it(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("column", title=f"of {SECRET}")
    table.add_row(SECRET)
    results_console().print(table)
    results_console().print(f"so {SECRET}")
    console.print(f"so {SECRET}", markup=False)
    said = capsys.readouterr()
    assert "hunter2" not in said.out + said.err
    assert (said.out + said.err).count("***") == 4


def test_no_command_line_and_no_name_has_it() -> None:
    assert command(["seed=1", f"target.path={SECRET}"]) == "unlearn seed=1 'target.path=***'"
    assert "hunter2" not in derive([f"target.path={SECRET}"], {"benchmark": "pocket"})


def test_no_error_message_has_it(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise UserError(f"{SECRET} is no file")

    assert answered(fail) == 2
    assert capsys.readouterr().err == "error: *** is no file\n"


def test_a_resolver_brings_it_neither_into_a_name_nor_onto_the_screen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    setting = "benchmark.refusals_file=${oc.env:OTHER_PASSWORD}"
    arguments = ["debug=tiny", "plan_only=true", f"output_dir={tmp_path}", setting]
    monkeypatch.setattr(sys, "argv", ["unlearn", *arguments])
    assert main() == 0
    said: Any = capsys.readouterr()
    assert "hunter2" not in said.out + said.err
    assert "refusals_file=_oc.env_OTHER_PASSWORD_" in said.out.replace("\n", "")


def test_a_resolver_brings_it_into_no_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    setting = "target.path=${oc.env:OTHER_PASSWORD}"
    monkeypatch.setattr(sys, "argv", ["unlearn", "debug=tiny", f"output_dir={tmp_path}", setting])
    assert main() == 2
    said = capsys.readouterr()
    assert "/*** is not a model" in said.err
    assert "hunter2" not in said.out + said.err
