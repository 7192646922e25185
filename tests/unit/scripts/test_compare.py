"""`benchmarks/compare.py` says what moved beyond the spread of its measurements."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
sys.path.append(str(BENCHMARKS))


def test_what_moved_is_what_the_spreads_do_not_share(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import compare

    before = {"same": [1.0, 1.2, 1.1], "faster": [10.0, 12.0, 11.0], "gone": [1.0]}
    now = {"same": [1.19, 1.3, 1.25], "faster": [8.0, 9.9, 9.0], "new": [2.0]}
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    compare.write(old, "python benchmarks/x.py", before)
    compare.write(new, "python benchmarks/x.py", now)
    monkeypatch.setattr(sys, "argv", ["compare.py", str(new), "--baseline", str(old)])
    compare.main()
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split()[1]: line for line in lines if line.startswith(("│", "|"))}
    assert {name for name, line in rows.items() if "moved" in line} == {"faster"}
    assert "-18.2%" in rows["faster"]
    assert rows["gone"].rstrip("│ ").endswith("gone")
    assert rows["new"].rstrip("│ ").endswith("new")


@pytest.mark.parametrize(
    "path", sorted((BENCHMARKS / "baselines").glob("*.json")), ids=lambda path: path.name
)
def test_baselines_are_readable_and_of_a_known_commit(path: Path) -> None:
    import compare

    found = compare.Baseline.read(path)
    assert found.figures
    assert "dirty" not in found.commit
    assert all(f.lowest <= f.value <= f.highest for f in found.figures.values())
