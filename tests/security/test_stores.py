"""Hostile stores, manifests, run folders and names: nothing outside is read, loaded or removed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.text_stages import Text, execute, text_of

from unlearn_runner.commands.store import main
from unlearn_runner.errors import DataError
from unlearn_runner.report.answers import collect
from unlearn_runner.report.run_folder import read
from unlearn_runner.store.inventory import entries
from unlearn_runner.store.store import MANIFEST, WEIGHTS, Store
from unlearn_runner.utils.files import render_json

Manifest = dict[str, Any]
STAGE = Text("unlearn", "weights")
ENTRY = {"size": 7, "sha256": hashlib.sha256(b"private").hexdigest()}
"""Of a file that holds "private"."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Folder with a store of one ephemeral artifact, and victims beside it."""
    execute(tmp_path, [STAGE], [STAGE])
    (tmp_path / "victim.safetensors").write_text("private")
    (tmp_path / "victims").mkdir()
    (tmp_path / "victims" / "x.safetensors").write_text("private")
    return tmp_path


def forge(root: Path, change: Callable[[Manifest], object]) -> Path:
    """Changes the artifact's manifest, and puts its digest right; returns the folder."""
    folder = Store(root / "store").path(STAGE)
    manifest = json.loads((folder / MANIFEST).read_text())
    del manifest["sha256"]
    manifest["ephemeral"] = True
    change(manifest)
    manifest["sha256"] = hashlib.sha256(render_json(manifest).encode()).hexdigest()
    (folder / MANIFEST).write_text(render_json(manifest))
    return folder


def victims(root: Path) -> list[str]:
    return [p.read_text() for p in (root / "victim.safetensors", root / "victims/x.safetensors")]


def dropping(name: object) -> Callable[[Manifest], object]:
    return lambda manifest: manifest.update(dropped=[name])


def listing(name: str, entry: object = ENTRY) -> Callable[[Manifest], object]:
    return lambda manifest: manifest["files"].update({name: entry})


OUT = "../../../victim.safetensors"
FORGED: dict[str, Callable[[Manifest], object]] = {
    "dropped outside": dropping(OUT),
    "dropped through a folder of its own": dropping(f"a/../{OUT}"),
    "dropped absolute": dropping("/etc/hostname"),
    "dropped the folder itself": dropping("."),
    "dropped the folder above": dropping(".."),
    "dropped nothing": dropping(""),
    "dropped with NUL": dropping("a\0b"),
    "dropped a number": dropping(5),
    "dropped is a text": lambda manifest: manifest.update(dropped=OUT),
    "dropped is an object": lambda manifest: manifest.update(dropped={OUT: 1}),
    "a file outside": listing(OUT),
    "a file with an absolute name": listing("/etc/hostname"),
    "a file below a file outside": listing("../../../victims/x.safetensors"),
    "a file without a name": listing(""),
    "a size that is a text": listing("text.safetensors", {"size": "7", "sha256": "0"}),
    "an entry that is a number": listing("text.safetensors", 5),
    "files in a list": lambda manifest: manifest.update(files=["text.safetensors"]),
    "inputs in a list": lambda manifest: manifest.update(inputs=["a"]),
    "an input that is an object": lambda manifest: manifest.update(inputs={"a": {"b": 1}}),
    "settings that are a number": lambda manifest: manifest.update(settings=5),
    "an outcome that is a number": lambda manifest: manifest.update(outcome=5),
    "no outcome": lambda manifest: manifest.pop("outcome"),
}


@pytest.mark.parametrize("change", FORGED.values(), ids=FORGED)
def test_a_forged_manifest_is_a_damaged_artifact(
    root: Path, change: Callable[[Manifest], object]
) -> None:
    forge(root, change)
    store = Store(root / "store")
    store.drop(STAGE, WEIGHTS)
    assert victims(root) == ["private"] * 2
    assert store.manifest(STAGE) is None
    assert store.fault(STAGE)
    assert [entry.state for entry in entries(store.root)] == ["damaged"]
    assert main(["ls", str(store.root)]) == 0
    assert main(["verify", str(store.root)]) == 1
    assert main(["gc", str(store.root), "--yes"]) == 0
    assert victims(root) == ["private"] * 2
    assert not store.path(STAGE).exists()


def link_file(folder: Path) -> None:
    (folder / "text.safetensors").unlink()
    (folder / "text.safetensors").symlink_to(folder.parents[2] / "victim.safetensors")


def link_folder(folder: Path) -> None:
    (folder / "sub").symlink_to(folder.parents[2] / "victims")


LINKED: dict[str, tuple[Callable[[Path], None], Callable[[Manifest], object]]] = {
    "a file that is a link": (link_file, listing("text.safetensors")),
    "a dropped file that is a link": (
        link_file,
        lambda manifest: manifest.update(files={}, dropped=["text.safetensors"]),
    ),
    "a file behind a link": (link_folder, listing("sub/x.safetensors")),
    "a dropped file behind a link": (link_folder, dropping("sub/x.safetensors")),
}


@pytest.mark.parametrize(("link", "change"), LINKED.values(), ids=LINKED)
def test_links_out_of_an_artifact_are_not_followed(
    root: Path, link: Callable[[Path], None], change: Callable[[Manifest], object]
) -> None:
    link(forge(root, change))
    store = Store(root / "store")
    store.drop(STAGE, WEIGHTS)
    assert store.manifest(STAGE, load=True) is None
    assert victims(root) == ["private"] * 2
    assert main(["gc", str(store.root), "--yes"]) == 0
    assert victims(root) == ["private"] * 2


def test_what_an_honest_manifest_names_is_dropped(root: Path) -> None:
    folder = forge(root, lambda manifest: None)
    Store(root / "store").drop(STAGE, WEIGHTS)
    assert not (folder / "text.safetensors").exists()
    assert Store(root / "store").manifest(STAGE) is not None


def test_an_artifact_that_is_a_link_is_not_emptied(root: Path) -> None:
    folder = forge(root, lambda manifest: None)
    away = root / "away" / "text" / folder.name
    away.parent.mkdir(parents=True)
    shutil.move(folder, away)
    folder.symlink_to(away)
    store = Store(root / "store")
    assert store.manifest(STAGE) is not None, "whoever links an artifact may read it"
    store.drop(STAGE, WEIGHTS)
    assert text_of(away) == "weights"


@pytest.mark.parametrize("part", ["", "artifact", "checkpoints"])
def test_links_in_the_remains_of_an_attempt_are_not_followed(root: Path, part: str) -> None:
    store = Store(root / "store")
    shutil.rmtree(store.path(STAGE))
    partial = store.root / "text" / f".{STAGE.key}.partial"
    if part:
        partial.mkdir()
    (partial / part).symlink_to(root / "victims")
    execute(root, [STAGE], [STAGE])
    assert os.listdir(root / "victims") == ["x.safetensors"]
    assert victims(root) == ["private"] * 2
    assert not store.path(STAGE).is_symlink()


@pytest.mark.parametrize("special", ["fifo", "device", "folder", "deep"])
def test_a_manifest_that_is_no_file_of_ours_is_none(root: Path, special: str) -> None:
    path = Store(root / "store").path(STAGE) / MANIFEST
    path.unlink()
    if special == "fifo":
        os.mkfifo(path)
    elif special == "device":
        path.symlink_to("/dev/zero")
    elif special == "folder":
        path.mkdir()
    else:
        path.write_text("[" * 100_000)
    assert Store(root / "store").manifest(STAGE) is None
    assert main(["gc", str(root / "store"), "--yes"]) == 0


# --- run folders


def run_folder(root: Path, stage: Any, view: str = "forget") -> Path:
    """Writes a run folder whose evaluation is at a place of the writer's choice."""
    folder = root / "outputs" / "runs" / "mine"
    folder.mkdir(parents=True)
    entry = {"name": "evaluate unlearned", "cached": True, "seconds": 1.0, "outcome": "completed"}
    (folder / "results.json").write_text(json.dumps({"stages": [{**entry, **stage}]}))
    config = {"store": str(root / "store"), "benchmark": {"view": {view: {"goal": "forget"}}}}
    (folder / "config.yaml").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        ("..", "victims"),
        ("../victims", "x"),
        ("", "victims"),
        ("/etc", "x"),
        (".", ".."),
        ("text", "../../victims"),
        ("text", ""),
        ("text\0", "x"),
        ("out", "victims"),
        ("out/..", "victims"),
        ("text/..", "../victims"),
        ("text", "x/../../../victims"),
        ("text", ".."),
        ("text/", "x"),
        ("text", "a\\..\\b"),
        ("text", "x\n"),
        ("~", "victims"),
        (["text"], "x"),
        (5, None),
    ],
)
def test_a_run_folder_names_no_artifact_outside_its_store(
    root: Path, kind: object, key: object
) -> None:
    (root / "store" / "out").symlink_to(root)
    try:
        run = read(run_folder(root, {"kind": kind, "key": key}))
    except DataError:
        return  # such a folder is no run's, and is left out as a whole
    assert run.artifact(run.stages[0]) is None
    assert run.artifact(run.stages[0], root / "store") is None


VIEWS = ("../../victims/x", "/etc/x", "", "..", "a\0b", "out/x", "./../x", "x/../../../victims/x")


@pytest.mark.parametrize("view", VIEWS)
def test_a_run_folder_names_no_evidence_outside_its_artifact(root: Path, view: str) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    import pyarrow as pa

    folder = Store(root / "store").path(STAGE)
    (folder / "out").symlink_to(root / "victims")
    table = pa.table({"row": [0], "question": ["q"], "generation": ["private"], "answer": ["a"]})
    pq.write_table(table, root / "victims" / "x.generations.parquet")
    pq.write_table(table, root / "store" / "x.generations.parquet")
    run = read(run_folder(root, {"kind": "text", "key": STAGE.key}, view))
    assert "private" not in str(collect([run], 5))


def test_an_escape_sequence_of_a_manifest_is_shown_not_obeyed(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    forge(root, lambda manifest: manifest.update(label="\x1b]0;x\x07"))
    assert main(["ls", str(root / "store")]) == 0
    said = capsys.readouterr().out
    assert "]0;" in said
    assert "\x1b" not in said
