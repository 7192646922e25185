"""`unlearn-store gc --unused` spares what the runs of any outputs folder use."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from helpers.text_stages import Text, execute

from unlearn_runner.commands.store import main
from unlearn_runner.store.inventory import users
from unlearn_runner.store.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store of three artifacts, one of them used by a run beside it."""
    stages = [Text(name, name) for name in ("mine", "theirs", "nobodys")]
    execute(tmp_path / "outputs", [*stages], [*stages])
    shutil.rmtree(tmp_path / "outputs" / "run")
    leave_run(tmp_path / "outputs", "mine")
    return Store(tmp_path / "outputs" / "store")


def leave_run(outputs: Path, name: str, status: str = "completed", place: str = "runs") -> Path:
    """Writes the run folder of a run that used the artifact of its name."""
    folder = outputs / place / name
    folder.mkdir(parents=True)
    stages = [{"kind": "text", "key": Text(name, name).key}]
    (folder / "results.json").write_text(json.dumps({"stages": stages}))
    facts = {"status": status, "pid": os.getpid(), "host": os.uname().nodename}
    (folder / "status.json").write_text(json.dumps(facts))
    return folder


def gc(store: Store, *more: str) -> int:
    return main(["gc", str(store.root), "--unused", "--yes", *more])


def left(store: Store) -> set[str]:
    return {p.read_text() for p in store.root.glob("text/*/text.safetensors")}


def test_another_outputs_folder_is_consulted(store: Store, tmp_path: Path) -> None:
    leave_run(tmp_path / "other", "theirs")
    store.note_user(tmp_path / "other")
    assert gc(store) == 0
    assert left(store) == {"mine", "theirs"}


def test_the_folder_around_a_store_needs_no_note(store: Store, tmp_path: Path) -> None:
    store.note_user(tmp_path / "outputs")
    assert users(store.root) == []
    assert gc(store) == 0
    assert left(store) == {"mine"}


def test_a_running_job_elsewhere_stops_it(store: Store, tmp_path: Path, capsys: Capsys) -> None:
    leave_run(tmp_path / "other", "theirs", "running")
    store.note_user(tmp_path / "other")
    assert gc(store) == 2
    assert "running as process" in capsys.readouterr().err
    assert left(store) == {"mine", "theirs", "nobodys"}


def test_an_outputs_folder_that_is_not_there_stops_it_and_the_fix_works(
    store: Store, tmp_path: Path, capsys: Capsys
) -> None:
    store.note_user(tmp_path / "un mounted")
    assert gc(store) == 2
    said = capsys.readouterr().err
    assert f"{tmp_path / 'un mounted'}, whose runs use this store, is not there" in said
    assert len(said.splitlines()) == 2
    fix = said[said.index("rm ") :].strip()
    assert shlex.split(fix)[1] == str(users(store.root)[0].note)
    subprocess.run(fix, shell=True, check=True)
    assert gc(store) == 0


@pytest.mark.parametrize(
    "note",
    [
        *("", "{", "[]", "5", "[" * 100_000, '{"outputs": 5}', '{"outputs": "relative"}'),
        *('{"outputs": "/a\\u0000b"}', '{"outputs": null}'),
    ],
)
def test_a_note_that_cannot_be_read_stops_it(store: Store, note: str, capsys: Capsys) -> None:
    store.note_user(Path("/somewhere"))
    users(store.root)[0].note.write_text(note)
    assert gc(store) == 2
    assert "cannot be read" in capsys.readouterr().err
    assert left(store) == {"mine", "theirs", "nobodys"}
    assert main(["ls", str(store.root)]) == 0


def test_what_a_sweep_writes_beside_its_jobs_is_no_run(store: Store, tmp_path: Path) -> None:
    folder = leave_run(tmp_path / "outputs", "theirs", place="sweeps/s").parent
    for name in ("selection.json", ".job.lock", "table.csv"):
        (folder / name).write_text("{}")
    (folder.parent / ".s.lock").touch()
    (folder / ".slurm").mkdir()
    assert gc(store) == 0
    assert left(store) == {"mine", "theirs"}


@pytest.mark.parametrize(
    "results",
    [
        *("", "{", "[]", "{}", "[" * 100_000, '{"stages": 5}', '{"stages": [5]}'),
        *('{"stages": [{}]}', '{"stages": null}', '{"stages": {"a": 1}}'),
        '{"stages": [{"kind": "text"}]}',
    ],
)
def test_results_that_cannot_be_read_stop_it(store: Store, tmp_path: Path, results: str) -> None:
    (tmp_path / "outputs" / "runs" / "mine" / "results.json").write_text(results)
    assert gc(store) == 2
    assert left(store) == {"mine", "theirs", "nobodys"}


STATUSES = [
    {"pid": 10**30},
    {"pid": -1},
    {"pid": "a"},
    {"pid": None},
    {"pid": [1]},
    {"pid": True},
    {"pid": 1.5},
    {"status": ["running"]},
    {"host": 5, "updated": "a"},
    {"host": "elsewhere", "updated": None},
    {"host": "elsewhere", "updated": "2026-01-01T00:00:00"},
    {"host": "elsewhere", "updated": "0001-01-01T00:00:00"},
    {"host": "elsewhere", "updated": 10**30},
    {"host": None},
    {"progress": "a", "status": "completed"},
]


@pytest.mark.parametrize("facts", STATUSES, ids=repr)
def test_a_status_that_says_nonsense_is_no_running_process(
    store: Store, tmp_path: Path, facts: dict[str, object]
) -> None:
    path = tmp_path / "outputs" / "runs" / "mine" / "status.json"
    host = os.uname().nodename
    path.write_text(json.dumps({"status": "running", "pid": 1, "host": host, **facts}))
    assert gc(store) == 0
    assert left(store) == {"mine"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_runs_that_this_user_may_not_read_stop_it(store: Store, tmp_path: Path) -> None:
    leave_run(tmp_path / "other", "theirs")
    store.note_user(tmp_path / "other")
    (tmp_path / "other" / "runs").chmod(0)
    try:
        assert gc(store) == 2
    finally:
        (tmp_path / "other" / "runs").chmod(0o755)


Capsys = pytest.CaptureFixture[str]
