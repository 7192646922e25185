"""`unlearn-store` on a real store: what it lists, what it would free, what it finds damaged."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import FileLock

from unlearn_runner.api import run
from unlearn_runner.commands.store import main


@pytest.fixture(scope="module")
def made(own_threads: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The outputs folder of two runs that share a target."""
    outputs = tmp_path_factory.mktemp("made")
    for method in ("ga", "gd"):
        place = (f"output_dir={outputs}", f"name={method}", "parallel.threads=1")
        run("debug=tiny", f"method={method}", *place)
    return outputs


@pytest.fixture
def outputs(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "outputs"))


def listed(outputs: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, object]]:
    assert main(["ls", str(outputs / "store"), "--json"]) == 0
    return {f"{e['kind']}/{e['key']}": e for e in json.loads(capsys.readouterr().out)}


def names(outputs: Path) -> set[str]:
    return {
        f"{p.parent.parent.name}/{p.parent.name}" for p in outputs.glob("store/*/*/manifest.json")
    }


def used(outputs: Path, run: str) -> set[str]:
    stages = json.loads((outputs / "runs" / run / "results.json").read_text())["stages"]
    return {f"{stage['kind']}/{stage['key']}" for stage in stages}


def kept_by(outputs: Path, *arguments: str) -> set[str]:
    assert main(["gc", str(outputs / "store"), *arguments]) == 0
    return names(outputs)


def test_ls_names_every_artifact_its_size_and_the_runs_that_use_it(
    outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = listed(outputs, capsys)
    assert set(found) == names(outputs) == used(outputs, "ga") | used(outputs, "gd")
    for name, entry in found.items():
        assert (entry["state"], entry["outcome"], entry["fault"]) == ("whole", "completed", "")
        files = [p for p in (outputs / "store" / name).rglob("*") if p.is_file()]
        assert entry["bytes"] == sum(p.stat().st_size for p in files)
        assert entry["runs"] == [
            f"runs/{run}" for run in ("ga", "gd") if name in used(outputs, run)
        ]
    assert {len(entry["runs"]) for entry in found.values()} == {1, 2}  # type: ignore

    assert main(["ls", str(outputs / "store")]) == 0
    table = capsys.readouterr().out
    assert all(name in table for name in found)
    assert f"{len(found)} entries" in table


def test_gc_shows_first_and_removes_only_what_no_run_uses(
    outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = names(outputs)
    shutil.rmtree(outputs / "runs" / "gd")
    lost = before - used(outputs, "ga")
    assert any(name.startswith("unlearn/") for name in lost)
    assert kept_by(outputs) == before, "whole artifacts stay unless asked for"
    assert kept_by(outputs, "--unused") == before, "nothing goes without --yes"
    said = capsys.readouterr().out
    assert all(f"would remove  {name}" in said for name in lost)
    assert kept_by(outputs, "--unused", "--yes", "--older", "1h") == before, "all of it is new"
    assert kept_by(outputs, "--unused", "--yes", "--kind", "score") == {
        name for name in before if name not in lost or not name.startswith("score/")
    }
    assert kept_by(outputs, "--unused", "--yes") == before - lost
    assert "freed" in capsys.readouterr().out


def test_gc_waits_for_a_run_that_is_alive_and_leaves_what_is_held(outputs: Path) -> None:
    before = names(outputs)
    status = outputs / "runs" / "ga" / "status.json"
    alive = json.loads(status.read_text()) | {"status": "running", "pid": os.getpid()}
    status.write_text(json.dumps(alive))
    shutil.rmtree(outputs / "runs" / "gd")
    assert main(["gc", str(outputs / "store"), "--unused", "--yes"]) == 2
    assert names(outputs) == before

    (name,) = (n for n in before - used(outputs, "ga") if n.startswith("unlearn/"))
    status.write_text(json.dumps({**alive, "status": "completed"}))
    kind, key = name.split("/")
    with FileLock(outputs / "store" / kind / f".{key}.lock"):
        code = "import sys; from unlearn_runner.commands.store import main; main(sys.argv[1:])"
        command = [sys.executable, "-c", code, "gc", str(outputs / "store"), "--unused", "--yes"]
        subprocess.run(command, check=True, capture_output=True, timeout=1800)
    assert names(outputs) == used(outputs, "ga") | {name}


def test_leftovers_of_killed_runs_are_listed_and_removed(
    outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    partial = outputs / "store" / "unlearn" / ".0123456789abcdef.partial" / "checkpoints"
    partial.mkdir(parents=True)
    (partial / "step-00000005.pt").write_bytes(b"0" * 1000)
    aside = outputs / "store" / "score" / ".0123456789abcdef.77.removed"
    aside.mkdir()
    (entry,) = (e for e in listed(outputs, capsys).values() if e["state"] == "partial")
    assert (entry["bytes"], entry["what"]) == (1000, "with a checkpoint")
    before = names(outputs)
    old = time.time() - 3 * 86400
    os.utime(aside, (old, old))
    assert kept_by(outputs, "--yes", "--older", "2d") == before
    assert (partial.is_dir(), aside.exists()) == (True, False)
    assert kept_by(outputs, "--yes") == before
    assert not partial.exists()


def test_verify_names_the_damaged_and_gc_removes_it(
    outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(outputs / "store")]) == 0
    assert (
        f"{len(names(outputs))} of {len(names(outputs))} artifacts are whole"
        in capsys.readouterr().out
    )
    weights = next(outputs.glob("store/unlearn/*/model.safetensors"))
    data = bytearray(weights.read_bytes())
    data[-3] ^= 1
    weights.write_bytes(data)
    name = f"unlearn/{weights.parent.name}"
    assert main(["verify", str(outputs / "store")]) == 1
    said = capsys.readouterr().out
    assert f"damaged  {name}: model.safetensors has other bytes" in said
    before = names(outputs)
    assert kept_by(outputs, "--yes") == before - {name}
