"""What CONTRIBUTING shows works as it stands: copied out, outside the package, and run."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"```\w*\n(.*?)```", re.DOTALL)


@pytest.fixture
def example(tmp_path: Path) -> list[str]:
    """Writes the files of the example where their first lines say; returns the command's words."""
    blocks = [match[1] for match in BLOCK.finditer((ROOT / "CONTRIBUTING.md").read_text("utf-8"))]
    for block in blocks:
        if named := re.match(r"# (my_\S+)\n", block):
            path = tmp_path / named[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block, encoding="utf-8")
    (command,) = (block for block in blocks if "--config-dir" in block)
    return shlex.split(command)


def run(folder: Path, words: list[str], *more: str) -> subprocess.CompletedProcess[str]:
    assert words[:2] == ["PYTHONPATH=.", "unlearn"]
    path = os.pathsep.join([str(folder), str(ROOT)])
    return subprocess.run(
        [sys.executable, "-m", "unlearn_runner.run", *words[2:], *more],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=240,
    )


def test_the_example_is_short(example: list[str], tmp_path: Path) -> None:
    lines = [
        line
        for path in (tmp_path / "my_methods/capped.py", tmp_path / "my_conf/method/capped.yaml")
        for line in path.read_text("utf-8").splitlines()
        if line.strip()
    ]
    assert len(lines) < 40


def test_the_example_runs_from_outside_the_package(example: list[str], tmp_path: Path) -> None:
    tiny = (
        "debug=tiny",
        "parallel.device=cpu",
        f"output_dir={tmp_path / 'outputs'}",
        "name=capped",
    )
    done = run(tmp_path, example, *tiny)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "outputs/runs/capped/results.json").read_text("utf-8"))
    assert results["status"] == "completed"
    lines = (tmp_path / "outputs/runs/capped/metrics.jsonl").read_text("utf-8").splitlines()
    unlearned = [x for x in map(json.loads, lines) if x["stage"] == "unlearn"]
    # An untrained model knows nothing: all its tokens are beyond the cap.
    assert all(x["loss/forget"] == pytest.approx(-5.0, rel=0.05) for x in unlearned)
    assert all("rectified" in x for x in unlearned)


def test_the_example_is_checked_and_keyed_like_any_method(
    example: list[str], tmp_path: Path
) -> None:
    refused = run(tmp_path, example, "method.cap=-1")
    assert refused.returncode == 2
    assert "method.cap=-1 is not allowed; allowed: a number > 0" in refused.stderr
    untrusted = run(tmp_path, [word for word in example if not word.startswith("trusted")])
    assert untrusted.returncode == 2
    assert "fix: 'trusted=[my_methods]'" in untrusted.stderr

    def key() -> str:
        planned = run(tmp_path, example, "plan_only=true", f"output_dir={tmp_path / 'outputs'}")
        assert planned.returncode == 0, planned.stderr
        return re.search(r"unlearn/\w+", planned.stdout)[0]  # type: ignore[index]

    before = key()
    file = tmp_path / "my_methods/capped.py"
    file.write_text(file.read_text().replace("-nll.clamp", "-0.5 * nll.clamp"))
    assert key() != before
