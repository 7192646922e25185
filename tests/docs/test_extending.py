"""What docs/extending.md shows works as it stands: copied out, outside the package, and run."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs/extending.md").read_text("utf-8")
BLOCK = re.compile(r"```\w*\n(.*?)```", re.DOTALL)
NAMED = re.compile(r"# (my_\S+)\n")
SECTIONS = {
    title: BLOCK.findall(text)
    for title, _, text in (part.partition("\n") for part in TEXT.split("\n## ")[1:])
}
TINY = ("debug=tiny", "parallel.device=cpu", "parallel.threads=1", "output_dir=outputs")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of all examples, where their first lines say."""
    found = tmp_path_factory.mktemp("mine")
    for block in (block for blocks in SECTIONS.values() for block in blocks):
        if named := NAMED.match(block):
            path = found / named[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            # JSON knows no comments: the line that names the file is no part of it.
            path.write_text(block if path.suffix != ".jsonl" else block[named.end() :], "utf-8")
    return found


def run(folder: Path, title: str, *more: str) -> subprocess.CompletedProcess[str]:
    """Types the command of a section in the folder of its files."""
    (command,) = (block for block in SECTIONS[title] if "--config-dir" in block)
    words = shlex.split(command)
    words = words[words.index("unlearn") + 1 :]
    environment = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE")}
    path = os.pathsep.join([str(folder), str(ROOT)])
    return subprocess.run(
        [sys.executable, "-m", "unlearn_runner.run", *words, *more],
        cwd=folder,
        env={**environment, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=1800,
    )


def completed(folder: Path, title: str, name: str) -> dict[str, Any]:
    """Runs a section's command to its end; returns the run's results."""
    done = run(folder, title, *TINY, f"name={name}")
    assert done.returncode == 0, done.stderr
    results = json.loads((folder / f"outputs/runs/{name}/results.json").read_text("utf-8"))
    assert results["status"] == "completed"
    return results


def steps(folder: Path, name: str) -> Iterator[dict[str, Any]]:
    """Yields the telemetry of unlearning."""
    lines = (folder / f"outputs/runs/{name}/metrics.jsonl").read_text("utf-8").splitlines()
    return (x for x in map(json.loads, lines) if x["stage"] == "unlearn")


@pytest.mark.parametrize("title", SECTIONS)
def test_an_example_is_shorter_than_forty_lines(title: str) -> None:
    files = [block for block in SECTIONS[title] if NAMED.match(block)]
    assert files
    assert sum(1 for block in files for line in block.splitlines() if line.strip()) < 40


def test_the_method_runs_under_gru(folder: Path) -> None:
    completed(folder, "A method", "capped")
    found = list(steps(folder, "capped"))
    # An untrained model knows nothing: all its tokens are beyond the cap.
    assert all(x["loss/forget"] == pytest.approx(-5.0, rel=0.05) for x in found)
    assert all("rectified" in x for x in found)


def test_the_method_is_checked_and_keyed_like_any_other(folder: Path) -> None:
    refused = run(folder, "A method", "method.cap=-1")
    assert refused.returncode == 2
    assert "method.cap=-1 is not allowed; allowed: a number > 0" in refused.stderr
    untrusted = run(folder, "A method", "trusted=[]")
    assert untrusted.returncode == 2
    assert re.search(r"fix: (.?)trusted=\[my_unlearning\]\1\s", untrusted.stderr)

    def key() -> str:
        planned = run(folder, "A method", "plan_only=true", "output_dir=outputs")
        assert planned.returncode == 0, planned.stderr
        return re.search(r"unlearn/\w+", planned.stdout)[0]  # type: ignore[index]

    before, file = key(), folder / "my_unlearning/capped.py"
    text = file.read_text("utf-8")
    file.write_text(text.replace("-nll.clamp", "-0.5 * nll.clamp"), "utf-8")
    try:
        assert key() != before
    finally:
        file.write_text(text, "utf-8")
    assert key() == before


@pytest.mark.long
def test_the_rectifier_runs(folder: Path) -> None:
    completed(folder, "A rectifier", "surgery")
    assert all(isinstance(x["rectified"], bool) for x in steps(folder, "surgery"))


@pytest.mark.long
def test_the_adapter_is_kept_with_its_option(folder: Path) -> None:
    completed(folder, "An adapter", "wide_mlp")
    (path,) = (folder / "outputs/store/unlearn").glob("*/adapter_config.json")
    kept = json.loads(path.read_text("utf-8"))
    assert (kept["r"], list(kept["rank_pattern"].values())) == (4, [8])


@pytest.mark.long
def test_the_metric_stands_beside_the_benchmarks_own(folder: Path) -> None:
    results = completed(folder, "A metric", "exact")
    scores = results["scores"]
    assert 0 <= scores["forget.exact"] <= 1
    assert "forget.rouge_l" in scores


@pytest.mark.long
def test_the_attack_is_judged(folder: Path) -> None:
    results = completed(folder, "An attack", "noise")
    (verdict,) = (stage["facts"] for stage in results["stages"] if stage["kind"] == "verdict")
    assert (verdict["attack"], verdict["settings"]) == ("noise", {"share": 0.2})
    models = verdict["scores"][0]["models"]
    assert models["attacked"] != models["unlearned"]


def test_the_benchmark_runs_on_json_lines(folder: Path) -> None:
    results = completed(folder, "A benchmark over one's own JSON lines", "village")
    scores = results["scores"]
    names = ("probability", "rouge_l")
    assert set(scores) >= {f"{view}.{name}" for view in ("forget", "retain") for name in names}
