"""Counting on histories that anybody can count."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "scripts"))

import recommendation_counts as counts

from unlearn_runner.data.recommendation.records import Record

HISTORIES = ((1, 2, 3), (4, 2, 5), (6, 2, 3))


@pytest.mark.parametrize(
    ("rule", "share"),
    [
        ("chance", 1 / 3),
        ("popularity", 0.0),  # 2, which all three have
        ("followed the last", 1.0),  # 3 came behind 2 twice, 5 once, 2 never
        ("followed any", 1.0),  # 2 and 3 once behind 1; 3 twice and 5 once behind 2
    ],
)
def test_shares_by_hand(rule: str, share: float) -> None:
    records = [Record(9, (1, 2), 3, (2, 3, 5), 0)]
    found = counts.rules(HISTORIES)[rule]
    assert counts.share(records, found) == pytest.approx(share)


def test_it_prints_a_line_for_each_rule(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--split", "validation", "--", "benchmark=pocket_rec", "benchmark.source.users=60"]
    monkeypatch.setattr(sys, "argv", ["recommendation_counts.py", *options])
    counts.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "24 users counted, 6 questions"
    assert float(lines[1].split()[-1]) == pytest.approx(1 / 6, abs=1e-3)
    assert len(lines) == 5
