"""Dividing evaluated rows into two parts, and who wins a sweep on one of them."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from unlearn_runner.config.select import CriterionValue, Select
from unlearn_runner.data.sources import Tofu
from unlearn_runner.errors import ConfigError
from unlearn_runner.evaluation.benchmarks.qa import QABenchmark
from unlearn_runner.evaluation.benchmarks.requests import Request
from unlearn_runner.evaluation.metrics.evidence import Evidence, Record, Texts, ViewEvidence
from unlearn_runner.evaluation.metrics.parts import divide, part, units


@pytest.mark.parametrize(("share", "seed"), product((0.05, 0.3, 0.5, 0.8), range(5)))
def test_units_are_never_divided_and_every_row_is_in_one_part(share: float, seed: int) -> None:
    owners = {
        "forget": [i // 20 for i in range(80)],
        "reworded": [i // 5 for i in range(40)],  # units 0 to 3 again, and four others
        "facts": [("facts", i) for i in range(101)],
    }
    parts = divide(owners, share, seed)
    assert parts == divide(owners, share, seed)
    in_a = {owners[view][i] for view in owners for i in parts.a[view]}
    in_b = {owners[view][i] for view in owners for i in parts.b[view]}
    assert not in_a & in_b
    for view, own in owners.items():
        assert sorted(parts.a[view] + parts.b[view]) == list(range(len(own)))
        assert parts.a[view]
        assert parts.b[view]
        chosen = len(set(own) & in_a)
        assert chosen == min(max(round(share * len(set(own))), 1), len(set(own)) - 1) or (
            view == "reworded"  # half of whose units the first view has placed
        )


def test_another_seed_is_another_division() -> None:
    owners = {"forget": [i // 20 for i in range(400)]}
    assert len({divide(owners, 0.5, seed).a["forget"] for seed in range(10)}) == 10


def test_what_is_one_unit_cannot_be_divided() -> None:
    with pytest.raises(ValueError, match="forget"):
        divide({"forget": [7, 7, 7]}, 0.5, 0)
    with pytest.raises(ValueError, match="second"):  # settled by the views before it
        divide({"first": [1, 2], "second": [1, 1]}, 0.5, 0)


def test_tofu_is_divided_by_author(tofu_files: Path) -> None:
    source = Tofu(data_dir=str(tofu_files))
    requests = {"forget10": Request("retain90", "forget10_perturbed")}
    from unlearn_runner.evaluation.benchmarks.base import View

    views = {
        "forget": View("request", "forget"),
        "retain": View("retain_perturbed"),
        "world_facts": View("world_facts_perturbed"),
    }
    tofu = QABenchmark("1", source, "forget10", requests, views, {}, rows_per_person=20)
    found = units(tofu.splits().full, tofu.views(), tofu.rows_together)
    assert found["forget"] == tuple(i // 20 for i in range(400))  # twenty authors,
    assert found["retain"] == tuple(20 + i // 20 for i in range(400))  # twenty others,
    assert found["world_facts"] == tuple(range(40, 157))  # and facts, each by itself
    parts = divide(found, 0.5, 0)
    assert [len(parts.a[view]) for view in views] == [200, 200, 58]
    # Both parts ask all twenty questions about each of their authors, who are ten.
    for rows in (parts.a["forget"], parts.b["forget"]):
        assert [i // 20 for i in rows] == [
            a for a in sorted({i // 20 for i in rows}) for _ in range(20)
        ]


def test_a_part_keeps_its_rows_values_and_keys() -> None:
    values = Record(
        losses={"answer": [[0.0], [1.0], [2.0]], "perturbed": [[5.0, 6.0], [7.0], [8.0]]},
        probabilities={"answer": [[0.9], [0.8], [0.7]]},
        texts=Texts(["q0", "q1", "q2"], ["g0", "g1", "g2"], ["a0", "a1", "a2"]),
        recalls=[0.1, 0.2, 0.3],
    )
    whole = Evidence({"forget": ViewEvidence("forget", "forget", "answer", values)})
    view = part(whole, {"forget": (0, 2)}).views["forget"]
    assert view.rows == 2
    assert view.loss("answer").tolist() == [0.0, 2.0]
    assert [row.tolist() for row in view.losses("perturbed")] == [[5.0, 6.0], [8.0]]
    assert [row.tolist() for row in view.probabilities("answer")] == [[0.9], [0.7]]
    assert view.record.texts == Texts(["q0", "q2"], ["g0", "g2"], ["a0", "a2"])
    assert view.record.recalls == [0.1, 0.3]
    # Against the whole of another model they are still the rows they were.
    here, there = view.shared(whole.views["forget"])
    assert (here.tolist(), there.tolist()) == ([0, 1], [0, 2])
    keyed = Evidence({"forget": whole.views["forget"].keyed((2, -1, 0))})
    assert part(keyed, {"forget": (0,)}).views["forget"].loss("answer").tolist() == [2.0]


TARGET = {"model_utility": 0.5, "forget.probability": 0.99, "forget_quality_ks": 0.9}


def scores(utility: float | None, forget: float | None, ks: float = 0.5) -> dict[str, float | None]:
    return {"model_utility": utility, "forget.probability": forget, "forget_quality_ks": ks}


def test_a_criterion_reads_its_scores_and_no_others() -> None:
    assert Select("forgetting").worth(scores(0.375, 0.3), TARGET) == CriterionValue(0.3, 0.75)
    harmonic = Select("harmonic").worth(scores(0.375, 0.3), TARGET)
    assert isinstance(harmonic, CriterionValue)
    assert harmonic.value == pytest.approx(2 * 0.75 * 0.7 / 1.45, abs=1e-15)
    more = Select("harmonic").worth(scores(0.625, 0.3), TARGET)
    assert isinstance(more, CriterionValue)
    assert more.value == pytest.approx(2 * 0.7 / 1.7, abs=1e-15)  # no credit beyond the target's
    assert Select("harmonic").worth(scores(0.5, 1.0), TARGET) == CriterionValue(0.0, 1.0)
    peeking = Select("forget_quality", peek=True)
    assert peeking.worth(scores(0.5, None, 0.2), TARGET) == CriterionValue(0.2, 1.0)


@pytest.mark.parametrize(
    ("mine", "target", "why"),
    [
        (scores(0.02, 0.0), TARGET, "collapsed"),
        (scores(None, 0.0), TARGET, "does not exist"),
        (scores(0.5, None), TARGET, "does not exist"),
        (scores(0.0, 0.0), scores(0.0, 0.9), "is 0"),
    ],
)
def test_some_cannot_win(
    mine: dict[str, float | None], target: dict[str, float | None], why: str
) -> None:
    found = Select("forgetting", keep=0.0).worth(mine, target)
    assert isinstance(found, str)
    assert why in found


def test_the_retain_model_is_looked_at_only_where_asked_for() -> None:
    with pytest.raises(ConfigError, match="forget_quality"):
        Select("forget_quality")
    assert "forget_quality" not in " ".join(Select("forgetting").needed)
    assert "forget_quality" not in " ".join(Select("harmonic").needed)
