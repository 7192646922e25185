"""What runs keep where they have forgotten equally much, against numbers worked by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from unlearn_runner.report import forgetting_curve
from unlearn_runner.report.compare import Comparison, Setting
from unlearn_runner.report.equal_forgetting import EqualForgetting, kept_at, trajectory
from unlearn_runner.report.run_folder import RunFolder

UTILITY, FORGET, RETAIN = "model_utility", "forget.probability", "retain.probability"
Scored = Sequence[tuple[float, float]]
"""Forgetting and utility after each step."""


@pytest.mark.parametrize(
    ("level", "wanted"),
    [(1.0, 0.9), (0.8, 0.9 - 0.1 / 2), (0.6, 0.8), (0.5, 0.8 - 0.2 / 4), (0.2, 0.6), (0.1, None)],
)
def test_between_scored_steps_a_curve_is_straight(level: float, wanted: float | None) -> None:
    found = kept_at([(1.0, 0.9), (0.6, 0.8), (0.2, 0.6)], level)
    assert found == (None if wanted is None else pytest.approx(wanted, abs=1e-12))


def test_a_curve_is_read_where_it_first_gets_there() -> None:
    recovering = [(1.0, 1.0), (0.4, 0.4), (0.2, 0.7), (0.1, 0.6)]
    assert kept_at(recovering, 0.5) == pytest.approx(0.5)  # not the .7 at less than .5
    assert kept_at(recovering, 0.3) == pytest.approx(0.55)
    assert kept_at(recovering, 0.15) == pytest.approx(0.65)
    back_again = [(1.0, 1.0), (0.4, 0.4), (0.8, 0.6), (0.2, 0.9)]
    assert kept_at(back_again, 0.7) == pytest.approx(0.7)  # and not again on the second way down
    assert kept_at([(0.5, 0.9), (0.5, 0.1)], 0.5) == 0.9
    assert kept_at([(0.3, 0.9), (0.2, 0.1)], 0.5) is None  # begins below: it never was there
    assert kept_at([], 0.5) is None


def run(
    folder: Path, number: int, rectifier: str, seed: int, scored: Scored, **more: Any
) -> RunFolder:
    """A run of two steps from a target at (1, 1), compared with a retain model at (0.2, 1)."""
    path = folder / f"{number}"
    path.mkdir()
    lines = [{"stage": "unlearn", "step": step + 1} for step, _ in enumerate(scored)]
    (path / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    by_step = [{UTILITY: y, FORGET: x, RETAIN: y / 2} for x, y in scored]
    scores: dict[str, float | None] = {**by_step[-1]}
    for model, forget in (("target", 1.0), ("retain_model", 0.2)):
        scores |= {f"{model}.{UTILITY}": 1.0, f"{model}.{FORGET}": forget}
        scores |= {f"{model}.{RETAIN}": 0.5}
    along = [{"step": i + 1, "scores": found} for i, found in enumerate(by_step[:-1])]
    stage = {"name": "unlearn", "kind": "unlearn", "key": f"{number}", "cached": False}
    results = {
        "scores": scores,
        "along": along,
        "directions": {FORGET: "lower"},
        "stages": [{**stage, "seconds": 1.0, "outcome": "completed"}],
        "provenance": {"choices": {"method": "ga", "rectifier": rectifier, "adapter": "none"}},
    }
    of_rectifier = {"_target_": rectifier} | ({"gamma": 0.8} if rectifier == "gru" else {})
    config = {"seed": seed, "method": {"_target_": "ga"}, "rectifier": of_rectifier, **more}
    return RunFolder(number, path, {"status": "completed"}, results, config)


@pytest.fixture
def pairs(tmp_path: Path) -> EqualForgetting:
    """Two seeds without and with GRU; one of the four never forgets three quarters."""
    scored = {
        ("none", 0): [(0.8, 0.9), (0.4, 0.7)],
        ("gru", 0): [(0.8, 0.95), (0.4, 0.8)],
        ("none", 1): [(0.8, 0.9), (0.5, 0.6)],
        ("gru", 1): [(0.7, 0.9), (0.3, 0.7)],
    }
    runs = [run(tmp_path, i + 1, *key, found) for i, (key, found) in enumerate(scored.items())]
    return EqualForgetting(Comparison(runs))


def test_levels_are_shares_of_the_way_to_the_retain_model(pairs: EqualForgetting) -> None:
    assert pairs.levels == [0.6, 0.4]
    assert pairs.kept == [UTILITY, RETAIN]
    first = pairs.compared.runs[0]
    assert trajectory(first, FORGET, UTILITY) == [(1.0, 1.0), (0.8, 0.9), (0.4, 0.7)]


def test_settings_are_read_on_their_own_lines(pairs: EqualForgetting) -> None:
    plain, rectified = pairs.compared.settings

    def mean(setting: Setting, level: float, kept: str = UTILITY) -> tuple[float, int] | None:
        found = pairs.mean(setting, level, kept)
        return None if found is None else (round(found.value, 12), found.n)

    assert mean(plain, 0.6) == ((0.8 + 0.7) / 2, 2)
    assert mean(rectified, 0.6) == (round((0.875 + 0.85) / 2, 12), 2)
    assert mean(plain, 0.4) == (0.7, 1)
    assert mean(rectified, 0.4) == (round((0.8 + 0.75) / 2, 12), 2)
    assert mean(rectified, 0.6, RETAIN) == (round((0.875 + 0.85) / 4, 12), 2)
    assert mean(rectified, 0.25) is None


def test_a_rectifier_s_change_is_paired_over_seeds(pairs: EqualForgetting) -> None:
    ((plain, rectified),) = pairs.pairs
    assert [plain.numbers, rectified.numbers] == [[1, 3], [2, 4]]
    found = pairs.difference(rectified, plain, 0.6, UTILITY)
    assert found is not None
    assert found.n == 2
    assert found.value == pytest.approx((0.075 + 0.15) / 2, abs=1e-12)
    assert found.half == pytest.approx(stats.t.ppf(0.975, 1) * stats.sem([0.075, 0.15]), rel=1e-9)
    alone = pairs.difference(rectified, plain, 0.4, UTILITY)  # the other seed never gets there
    assert alone is not None
    assert (round(alone.value, 12), alone.half, alone.n) == (0.1, None, 1)
    table = pairs.rectification()
    assert table is not None
    assert [[cell.text for cell in row] for row in table.rows if row[3].text == UTILITY] == [
        ["ga", "gru", "0.60", UTILITY, "0.7500", "0.8625", f"+{found}", "2"],
        ["ga", "gru", "0.40", UTILITY, "0.7000", "0.7750", "+0.1000", "1"],
    ]
    heads = [column.label for column in table.narrow().columns]  # one method needs no column
    assert heads == ["rectifier", FORGET, "kept", "without", "with", "change", "n"]


def test_what_differs_in_more_than_the_rectifier_is_no_pair(tmp_path: Path) -> None:
    scored = [(0.8, 0.9), (0.4, 0.7)]
    runs = [
        run(tmp_path, 1, "none", 0, scored, train={"clip": 1.0}),
        run(tmp_path, 2, "gru", 0, scored, train={"clip": None}),
    ]
    found = EqualForgetting(Comparison(runs))
    assert found.pairs == []
    assert found.rectification() is None
    assert found.table() is not None


def test_runs_that_were_not_scored_along_have_no_such_table(tmp_path: Path) -> None:
    found = EqualForgetting(Comparison([run(tmp_path, 1, "none", 0, [(0.4, 0.7)])]))
    assert (found.levels, found.table(), found.rectification()) == ([], None, None)
    assert forgetting_curve.draw(found) is None


def test_the_picture_has_a_line_per_setting_and_dashes_what_is_not_rectified(
    pairs: EqualForgetting,
) -> None:
    figure = forgetting_curve.draw(pairs)
    assert figure is not None
    lines = [mark for mark in figure.marks if mark.kind.startswith("way")]
    assert [(line.kind, line.runs) for line in lines] == [
        ("way s0 d1", "1 3"),
        ("way s0 d0", "2 4"),
    ]
    assert [key.name for key in figure.keys] == ["ga + none", "ga + gru"]
    setting = pairs.compared.settings[0]
    curve = forgetting_curve.mean_curve(setting, FORGET, UTILITY)
    assert [(round(x, 12), round(y, 12)) for x, y in curve] == [
        (1.0, 1.0),
        (0.8, 0.9),
        (0.45, 0.65),
    ]
