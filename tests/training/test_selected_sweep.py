"""A sweep that selects: parts, scores and winner recomputed from the evidence files alone."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy import stats

from unlearn_runner.commands.report import main as report

SETTINGS = (
    *("-m", "debug=tiny", "method=ga", "rectifier=gru", "train.steps=6", "name=rates"),
    *("parallel.threads=1", "parallel.device=cpu", "train.lr=3e-4,1e-3,1e-2,1e6", "seed=0,1"),
    *("benchmark.view.forget.limit=40", "benchmark.view.retain.limit=20"),
    # The smallest model's answers have no word in common with the right ones.
    "benchmark.metric.model_utility.parts=[probability,truth_ratio]",
    *("sweep.select.criterion=forgetting", "sweep.select.by=person", "sweep.select.seed=3"),
)
VIEWS = ("forget", "retain", "real_authors", "world_facts")
SEARCH = (
    *("sweep=search", "sweep.trials=3", "sweep.startup=2", "name=found", "rectifier.tau=1"),
    "++sweep.space={train.lr: {low: 1e-4, high: 1e-2, log: true}, rectifier.gamma: null}",
    *(word for word in SETTINGS if not word.startswith(("-m", "train.lr", "seed", "name"))),
)
COMMANDS = """
import json, shutil, sys
from unlearn_runner.run import main
for number, (words, folder) in enumerate(json.loads(sys.argv[1])):
    sys.argv = ["unlearn", *words]
    assert main() == 0
    shutil.copy(f"{folder}/selection.json", f"{folder}/{number}.json")
    print(f"end of {number}", flush=True)
"""
TORCH_FREE = "assert 'torch' not in sys.modules\n"


@dataclass(frozen=True)
class Swept:
    outputs: Path
    said: str

    @property
    def folder(self) -> Path:
        return self.outputs / "sweeps" / "rates"

    @cached_property
    def selection(self) -> dict[str, Any]:
        return json.loads((self.folder / "0.json").read_text())

    def jobs(self) -> dict[tuple[str, int], tuple[Path, dict[str, Any]]]:
        """Folder and results of every job, by learning rate and seed."""
        found = {}
        for path in self.folder.glob("*/results.json"):
            axes = self.selection["jobs"][path.parent.name]["axes"]
            results = json.loads(path.read_text())
            found[axes["train.lr"], int(axes["seed"])] = path.parent, results
        return found

    def evidence(self, results: dict[str, Any], model: str) -> Path:
        key = next(s["key"] for s in results["stages"] if s["name"] == f"evaluate {model}")
        return self.outputs / "store" / "evaluate" / key


def commands(outputs: Path, *all_words: Sequence[str], torch_free: bool = False) -> list[str]:
    """Runs commands one after another in one process; returns what each said."""
    names = ["found" if "name=found" in words else "rates" for words in all_words]
    asked = [
        ([*words, f"output_dir={outputs}"], str(outputs / "sweeps" / name))
        for words, name in zip(all_words, names, strict=True)
    ]
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS + TORCH_FREE * torch_free, json.dumps(asked)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, done.stdout
    return re.split(r"end of \d+\n", done.stdout)


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Swept:
    """Four learning rates, of which the last diverges, and two seeds; and a search."""
    outputs = tmp_path_factory.mktemp("select")
    more = [SEARCH] if importlib.util.find_spec("optuna") else []
    return Swept(outputs, commands(outputs, SETTINGS, *more)[0])


# --- the same scores from the files, by other code


def answers(folder: Path, view: str, rows: Iterable[int]) -> dict[str, list[list[float]]]:
    """Mean log-probability of the answers of some rows, by role."""
    wanted, found = set(rows), {}
    for line in pq.read_table(folder / f"{view}.logprobs.parquet").to_pylist():
        if line["row"] in wanted:
            by_row = found.setdefault(line["role"], {}).setdefault(line["row"], [])
            by_row.append(np.mean(line["logprob"], dtype=np.float64))
    return {role: [by_row[i] for i in sorted(by_row)] for role, by_row in found.items()}


def ratios(found: dict[str, list[list[float]]]) -> np.ndarray:
    right = found.get("paraphrased", found["answer"])
    wrong = [np.exp(np.mean(row)) for row in found["perturbed"]]
    return np.array(wrong) / np.exp([row[0] for row in right])


def computed(folder: Path, retain_model: Path, rows: dict[str, list[int]]) -> dict[str, float]:
    scores: dict[str, float] = {}
    for view in VIEWS:
        found = answers(folder, view, rows[view])
        p, ratio = np.exp([row[0] for row in found["answer"]]), ratios(found)
        if view in ("forget", "retain"):
            scores[f"{view}.probability"] = p.mean()
        else:
            others = np.array([np.exp(row).sum() for row in found["perturbed"]])
            scores[f"{view}.probability"] = (p / (p + others)).mean()
        kept = np.minimum(ratio, 1 / ratio) if view == "forget" else np.maximum(0, 1 - ratio)
        scores[f"{view}.truth_ratio"] = kept.mean()
    parts = [
        scores[f"{view}.{name}"] for view in VIEWS[1:] for name in ("probability", "truth_ratio")
    ]
    scores["model_utility"] = float(stats.hmean(parts)) if min(parts) > 0 else 0.0
    mine, theirs = (ratios(answers(f, "forget", rows["forget"])) for f in (folder, retain_model))
    scores["forget_quality_ks"], scores["forget_quality"] = stats.ks_2samp(mine, theirs)
    return scores


def test_a_sweep_selects_on_part_a_what_the_files_say_is_best(swept: Swept) -> None:
    selection, jobs = swept.selection, swept.jobs()
    split = selection["split"]["views"]
    for view, people in (("forget", 10), ("retain", 10)):
        a, b = split[view]["validation"], split[view]["test"]
        assert sorted(a + b) == list(range(40 if view == "forget" else 20))
        assert not {i // people for i in a} & {i // people for i in b}
    for view in VIEWS[2:]:
        assert sorted(split[view]["validation"] + split[view]["test"]) == list(range(6))

    by_part: dict[str, dict[tuple[str, int], dict[str, float]]] = {"validation": {}, "test": {}}
    targets: dict[str, dict[str, float]] = {}
    for place, (folder, results) in jobs.items():
        if results["status"] == "diverged":
            continue
        retain_model = swept.evidence(results, "retain_model")
        known = selection["jobs"][folder.name]
        for name in ("validation", "test"):
            rows = {view: split[view][name] for view in VIEWS}
            for model in ("unlearned", "target"):
                mine = computed(swept.evidence(results, model), retain_model, rows)
                recorded = selection["scored"][known[model]][name]
                assert {k: recorded[k] for k in mine} == pytest.approx(mine, rel=1e-9)
                if model == "unlearned":
                    by_part[name][place] = mine
                else:
                    targets[name] = mine
        assert known["all"] == {
            k: v
            for k, v in results["scores"].items()
            if k.split(".")[0] not in ("target", "retain_model")
        }

    rates = sorted({rate for rate, _ in jobs if float(rate) < 1}, key=float)
    assert len(rates) == 3

    def mean(rate: str, name: str, part: str = "validation") -> float:
        return float(np.mean([by_part[part][rate, seed][name] for seed in (0, 1)]))

    able = [
        r for r in rates if mean(r, "model_utility") >= 0.9 * targets["validation"]["model_utility"]
    ]
    assert 1 < len(able) < 3, "the bar must matter"
    winner = min(able, key=lambda rate: mean(rate, "forget.probability"))
    chosen = selection["selected"]
    assert chosen["axes"] == {"train.lr": winner}
    assert sorted(chosen["jobs"]) == sorted(jobs[winner, seed][0].name for seed in (0, 1))
    for part in ("validation", "test"):
        assert chosen["scores"]["forget.probability"][part][0] == pytest.approx(
            mean(winner, "forget.probability", part), rel=1e-9
        )
    why = {s["axes"]["train.lr"]: s["why_not"] for s in selection["settings"]}
    assert [why[r] is None for r in rates] == [r in able for r in rates]
    assert next(v for r, v in why.items() if float(r) > 1) == "diverged"
    assert (
        f"selected train.lr={winner}: least forget.probability on the validation part" in swept.said
    )
    assert "all rows" in swept.said
    assert "(partly selected on)" in swept.said


def test_it_is_made_again_from_files_alone(swept: Swept) -> None:
    path = swept.folder / "selection.json"
    before = path.read_bytes()
    path.unlink()
    peek = ("sweep.select.criterion=forget_quality", "sweep.select.peek=true")
    peek += ("sweep.select.keep=0",)
    again, peeked, _ = commands(swept.outputs, SETTINGS, (*SETTINGS, *peek), torch_free=True)
    assert "scoring both parts of 7 models" in again
    assert (swept.folder / "0.json").read_bytes() == before

    assert "scoring" not in peeked, "scores of the same parts are taken from the file"
    selection = json.loads(path.read_text())
    path.write_bytes(before)
    assert selection["criterion"]["peek"] is True
    jobs, scored = selection["jobs"], selection["scored"]
    statistic = {
        setting["axes"]["train.lr"]: np.mean(
            [
                scored[jobs[p]["unlearned"]]["validation"]["forget_quality_ks"]
                for p in setting["jobs"]
            ]
        )
        for setting in selection["settings"]
        if setting["why_not"] is None
    }
    assert len(statistic) == 3
    best = min(statistic, key=statistic.__getitem__)
    assert selection["selected"]["axes"] == {"train.lr": best}
    assert f"selected train.lr={best}: least forget_quality_ks" in peeked


def test_a_report_marks_what_was_selected(swept: Swept, tmp_path: Path) -> None:
    assert report([str(swept.folder), "--out", str(tmp_path)]) == 0
    with (tmp_path / "runs.csv").open(encoding="utf-8") as file:
        marked = {r["folder"] for r in csv.DictReader(file) if "selected" in r["label"]}
    selection = swept.selection
    assert marked == set(selection["selected"]["jobs"])
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "all rows (partly selected on)" in page
    with (tmp_path / "selection.csv").open(encoding="utf-8") as file:
        rows = {r["metric"]: r for r in csv.DictReader(file)}
    for name, columns in selection["selected"]["scores"].items():
        for column in ("validation", "test", "all"):
            assert float(rows[name][column]) == columns[column][0]


def test_a_search_goes_on_from_its_folders(swept: Swept) -> None:
    pytest.importorskip("optuna", reason="optuna is not installed (the extra `search`)")
    from unlearn_runner.config.select import Select
    from unlearn_runner.config.sweep import Range, Search
    from unlearn_runner.sweeps.search import Trial, propose

    folder = swept.outputs / "sweeps" / "found"

    trials = json.loads((folder / "search.json").read_text())["trials"]
    assert len(trials) == 3
    # Each is what the sampler says of those before it, whoever tells it.
    told = [Trial(trial["setting"], trial["loss"]) for trial in trials]
    wanted = Search(startup=2, select=Select("forgetting"))
    space = {"train.lr": Range(low=1e-4, high=1e-2, log=True)}
    for place in range(3):
        assert propose(wanted, space, told[:place], 1) == [told[place].setting]
    (folder / "search.json").unlink()
    again = commands(swept.outputs, SEARCH, torch_free=True)[0]
    assert "begins" not in again
    assert json.loads((folder / "search.json").read_text())["trials"] == trials
    # Below 1 a loss is the criterion's own number; the least of all is what was selected.
    best = min(trials, key=lambda trial: trial["loss"])
    chosen = json.loads((folder / "selection.json").read_text())["selected"]
    assert chosen["axes"] == {"train.lr": str(best["setting"]["train.lr"])}
    assert chosen["scores"]["forget.probability"]["validation"][0] == best["loss"]
