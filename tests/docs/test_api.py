"""What docs/api.md shows runs as it stands, in an empty folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import unlearn_runner as ur
from unlearn_runner.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs/api.md").read_text("utf-8"), re.DOTALL)


def python(folder: Path, code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_page_runs(tmp_path: Path) -> None:
    out = python(tmp_path, "\n".join(BLOCKS))
    assert out.startswith("NPO 0.2 3\n")
    assert "completed" in out
    assert re.search(r"0 +npo +completed +0\.\d+", out) or re.search(r"1 +npo +completed", out)
    assert re.search(r"\nanswer +-?\d", out)
    assert out.rstrip().endswith("error: method.beta=-1 is not allowed; allowed: a number > 0")
    results = [path.parent.name for path in tmp_path.glob("outputs/runs/*/results.json")]
    assert sorted(results) == ["pocket-ga-gru,debug=tiny", "pocket-npo-gru,debug=tiny"]


def test_importing_the_package_loads_nothing_and_planning_no_torch(tmp_path: Path) -> None:
    code = """
import sys
import unlearn_runner as ur
assert not [m for m in ("hydra", "pydantic", "torch", "pandas") if m in sys.modules]
ur.plan("debug=tiny")
assert not [m for m in ("torch", "transformers", "pandas", "datasets") if m in sys.modules]
assert not hasattr(ur, "nothing")
"""
    python(tmp_path, code)
    assert list(tmp_path.iterdir()) == []


def test_a_run_s_command_can_be_typed(tmp_path: Path) -> None:
    before = list(sys.argv)
    job = ur.plan("debug=tiny", "+train.lr=1e-3", f"output_dir={tmp_path}")
    assert job.run.train.lr == 1e-3
    assert job.folder == tmp_path / "runs" / "pocket-gd-gru,debug=tiny,train.lr=1e-3"
    assert sys.argv == before


@pytest.mark.parametrize("words", [("-m", "seed=1,2"), ("sweep=search",), ("--cfg", "job")])
def test_a_sweep_is_refused(words: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="a matter of the command line"):
        ur.compose(*words)
