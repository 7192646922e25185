"""The table of edits and their rivals: what several models' mean says, and what an arm costs."""

from __future__ import annotations

import csv
import math
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "scripts"))

from unlearn_runner.evaluation.files import write_logprobs
from unlearn_runner.evaluation.schema import ScoredAnswer, View

TINY = ("debug=tiny", "parallel.threads=1", "parallel.device=cpu", "target.adapter=lora")
TINY += ("benchmark=pocket_rec", "benchmark.source.users=40", "model.rehearse=false")


class Stats(NamedTuple):
    """Of an answer's tokens; only the first is read."""

    logprob: list[float]
    hit: list[bool]
    mean: list[float]
    variance: list[float]
    entropy: list[float]
    rank: list[int]


def leave(folder: Path, by_answer: dict[tuple[int, str, int], list[float]]) -> Path:
    folder.mkdir()
    answers = [ScoredAnswer(row, role, i, "x") for row, role, i in by_answer]  # pyright: ignore
    stats = [
        Stats([math.log(p) for p in ps], [True] * n, [0.0] * n, [0.0] * n, [0.0] * n, [0] * n)
        for ps in by_answer.values()
        for n in [len(ps)]
    ]
    write_logprobs(folder, "test", answers, stats)
    return folder


def test_a_mixture_has_the_mean_probability_of_each_token(tmp_path: Path) -> None:
    """One model is sure of the first token, the other of the second; no vote of logs."""
    from influence_table import averaged

    from unlearn_runner.evaluation.metrics.recommendation import picks

    answer, other = (0, "answer", 0), (0, "perturbed", 0)
    one = leave(tmp_path / "one", {answer: [0.9, 0.1], other: [0.4, 0.4]})
    two = leave(tmp_path / "two", {other: [0.2, 0.4], answer: [0.1, 0.9]})
    found = averaged([one, two], {"test": View("test")}).views["test"]
    assert found.losses("answer")[0][0] == pytest.approx(-math.log(0.5))
    assert found.losses("perturbed")[0][0] == pytest.approx(-math.log(0.3 * 0.4) / 2)
    assert picks(found) == [0]
    alone = [averaged([one], {"test": View("test")}).views["test"] for one in (one, two)]
    assert [list(picks(view)) for view in alone] == [[1], [0]]


def test_what_an_arm_costs() -> None:
    """A request of one row is in one of two shards; the other shard is not trained anew."""
    from influence_table import Arm

    from unlearn_runner.api import plan

    def rows(*overrides: str) -> float:
        job = plan(*TINY, *overrides, "benchmark.noise_share=0.001", "train.batch_size=1")
        assert len(job.plan.inputs.rowsets.splits.forget) == 1
        arm: Any = Arm(job, None)  # pyright: ignore[reportArgumentType]
        return arm.passes * arm.rows

    steps, batch = 4, 16  # of the target's recipe
    shards = [rows("method=sisa", "method.shards=2", f"method.shard={i}") for i in range(2)]
    assert sorted(shards) == pytest.approx([0, steps * batch])
    assert rows("method=gd", "rectifier=none") == pytest.approx(3 * (1 + 1)), "retain rows, too"


@pytest.mark.long
@pytest.mark.usefixtures("own_threads")
def test_the_table_from_first_to_last(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import influence_table

    file = tmp_path / "table.csv"
    arms = {
        "edited": "method=influence method.task=correct_response method.hvp=gauss_newton "
        "method.rows=12 method.iterations=2 method.scale=auto",
        "sisa": "method=sisa method.shards=2",
        "ga": "method=ga rectifier=none",
    }
    given = [word for name, more in arms.items() for word in ("--arm", name, more)]
    words = ["x", "--output", str(tmp_path), "--csv", str(file), "--label", "tiny", *given, "--"]
    monkeypatch.setattr(sys, "argv", [*words, *TINY])
    influence_table.main()
    printed = capsys.readouterr().out
    with file.open(encoding="utf-8") as lines:
        found = {line["model"]: line for line in csv.DictReader(lines)}
    assert list(found) == ["corrupted", "retrained", *arms]
    assert found["retrained"]["test.agreement"] == "1.0"
    assert found["sisa"]["test.hits"] == "", "what a mixture would generate is not known"
    assert 0 <= float(found["sisa"]["test.ranked_low"]) <= float(found["sisa"]["test.ranked"])
    assert float(found["edited"]["residual"]) > 0
    assert found["edited"]["scale"] in printed
    assert all(name in printed for name in found)
