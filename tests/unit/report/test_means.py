"""What a report averages: one sample per unlearned model, no p-values, and n is said."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pytest
from scipy import stats

from unlearn_runner.commands.report import main
from unlearn_runner.report.compare import Comparison
from unlearn_runner.report.discovery import find_runs
from unlearn_runner.report.means import mean_of


def run(folder: Path, seed: int, key: str, lr: float = 0.1, **scores: float) -> None:
    folder.mkdir(parents=True)
    stage = {"name": "unlearn", "kind": "unlearn", "key": key, "cached": False, "seconds": 1.0}
    content = {
        "status": "completed",
        "scores": scores,
        "stages": [stage | {"outcome": "completed"}],
    }
    (folder / "results.json").write_text(json.dumps(content))
    (folder / "config.yaml").write_text(f"seed: {seed}\ntrain: {{lr: {lr}}}\n")


def scores(utility: float, forget: float, p: float) -> dict[str, float]:
    return {"model_utility": utility, "forget.probability": forget, "forget_quality": p}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two settings; of the first, two folders share an unlearned model."""
    run(tmp_path / "a0", 0, "k0", **scores(0.50, 0.2, 1e-2))
    run(tmp_path / "a1", 1, "k1", **scores(0.60, 0.3, 1e-4))
    run(tmp_path / "a1-again", 1, "k1", **scores(0.60, 0.3, 1e-4))
    run(tmp_path / "b0", 0, "k2", lr=0.2, **scores(0.40, 0.4, 1e-9))
    return tmp_path


def test_folders_that_share_a_model_are_one_seed(folder: Path, tmp_path: Path) -> None:
    assert main([str(folder), "--out", str(tmp_path / "out")]) == 0
    with (tmp_path / "out" / "seeds.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["n"] for row in rows] == ["2", "1"]
    assert float(rows[0]["model_utility"]) == pytest.approx(0.55)
    low, high = stats.t.interval(0.95, 1, 0.55, stats.sem([0.5, 0.6]))
    half = float(rows[0]["model_utility (95 % ±)"])
    assert half == pytest.approx((high - low) / 2, rel=1e-3)
    text = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "Runs 2–3 share one unlearned model, and count as one seed." in text


def test_p_values_are_averaged_by_their_exponents(folder: Path, tmp_path: Path) -> None:
    assert main([str(folder), "--out", str(tmp_path / "out")]) == 0
    with (tmp_path / "out" / "seeds.csv").open(encoding="utf-8") as file:
        row = next(csv.DictReader(file))
    assert "forget_quality" not in row
    assert float(row["log10 forget_quality"]) == pytest.approx(-3.0)
    found = mean_of("forget_quality", [0.0, None])
    assert found is not None
    assert (found.value, found.half, found.n) == (-30.0, None, 1)


def test_the_front_is_of_means_over_seeds(folder: Path, tmp_path: Path) -> None:
    run(tmp_path / "c0", 0, "k3", lr=0.3, **scores(0.58, 0.2, 0.5))
    run(tmp_path / "c1", 1, "k4", lr=0.3, **scores(0.30, 0.3, 0.5))
    compared = Comparison(find_runs([folder]).runs)
    # Run 2 has the most utility of all, but its setting's mean decides.
    assert [s.numbers for s in compared.front_of("forget.probability")] == [[1, 2, 3]]
    points = compared.points("forget_quality")
    assert [x.value for _, x, _ in points] == pytest.approx([-3.0, -9.0, math.log10(0.5)])
    assert [y.n for *_, y in points] == [2, 1, 2]


def test_a_point_of_several_seeds_has_bars_and_says_n(folder: Path, tmp_path: Path) -> None:
    assert main([str(folder), "--out", str(tmp_path / "out")]) == 0
    picture = (tmp_path / "out" / "tradeoff-forget.probability.svg").read_text(encoding="utf-8")
    assert picture.count('class="bar"') == 2
    assert 'data-run="1 2 3"' in picture
    assert "mean of n = 2" in picture


def test_a_setting_is_compared_with_a_baseline_seed_by_seed(folder: Path, tmp_path: Path) -> None:
    run(tmp_path / "c0", 0, "k3", lr=0.3, **scores(0.52, 0.1, 1e-1))
    run(tmp_path / "c1", 1, "k4", lr=0.3, **scores(0.63, 0.2, 1e-2))
    run(tmp_path / "c2", 2, "k5", lr=0.3, **scores(0.90, 0.2, 1e-2))  # without its like
    assert main([str(folder), "--baseline", "1", "--out", str(tmp_path / "out")]) == 0
    with (tmp_path / "out" / "differences.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["train.lr"] for row in rows] == ["0.2", "0.3"]  # not the baseline itself
    assert [row["n"] for row in rows] == ["1", "2"]
    assert [float(row["model_utility"]) for row in rows] == pytest.approx([-0.1, 0.025])
    low, high = stats.t.interval(0.95, 1, 0.025, stats.sem([0.02, 0.03]))
    half = float(rows[1]["model_utility (95 % ±)"])
    assert half == pytest.approx((high - low) / 2, rel=1e-3)
    assert float(rows[1]["log10 forget_quality"]) == pytest.approx(1.5)
    assert main([str(folder), "--baseline", "99", "--out", str(tmp_path / "no")]) == 2


def test_which_way_is_better_is_read_from_results(folder: Path) -> None:
    path = folder / "a0" / "results.json"
    content = json.loads(path.read_text()) | {"directions": {"forget_quality": "lower"}}
    path.write_text(json.dumps(content))
    compared = Comparison(find_runs([folder]).runs)
    assert compared.better("forget_quality") == "lower"
    assert compared.better("forget.probability") == "lower"  # of before directions were recorded
    assert compared.better("model_utility") == "higher"
