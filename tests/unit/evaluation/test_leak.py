"""leak@k against all choices of k samples, and as pass@k; samples that depend on seed and row."""

from __future__ import annotations

from itertools import combinations
from math import comb
from typing import Any

import numpy as np
import pytest

from unlearn_runner.evaluation.metrics.base import compute
from unlearn_runner.evaluation.metrics.bootstrap import intervals
from unlearn_runner.evaluation.metrics.evidence import Evidence, Record, Texts, ViewEvidence
from unlearn_runner.evaluation.metrics.leak import Leak, expected_best


@pytest.mark.parametrize("k", range(1, 7))
def test_the_best_of_k_is_the_mean_over_all_choices(k: int) -> None:
    values = np.random.default_rng(0).random((3, 6)).round(1)  # with ties
    plain = [np.mean([max(chosen) for chosen in combinations(row, k)]) for row in values]
    assert expected_best(values, k) == pytest.approx(plain)


def test_of_hits_it_is_pass_at_k() -> None:
    n, hits, k = 128, 3, 16
    values = np.array([[1.0] * hits + [0.0] * (n - hits)])
    assert expected_best(values, k)[0] == pytest.approx(1 - comb(n - hits, k) / comb(n, k))


def evidence(samples: list[list[str]], answers: list[str]) -> Evidence:
    texts = Texts([""] * len(answers), [one[0] for one in samples], answers)
    record = Record(texts=texts, samples=samples)
    return Evidence({"forget": ViewEvidence("forget", "forget", "answer", record)})


def test_scores_go_up_in_powers_of_two_and_have_intervals() -> None:
    found = evidence([["a b", "c", "a", "c"], ["x", "x", "y", "x"]], ["a b", "z"])
    metrics = {"leak_at": Leak()}
    scores = compute(found, None, metrics)
    # Of the first row recalls 1, 0, .5, 0: of two, the best is 1 in 3 of 6, .5 in 2, 0 in 1.
    assert scores == pytest.approx(
        {"forget.leak_at_1": 0.375 / 2, "forget.leak_at_2": 4 / 6 / 2, "forget.leak_at_4": 0.5}
    )
    ends = intervals(found, {"forget": (0, 1)}, metrics, scores)
    assert ends["forget.leak_at_4"] == (0.0, 1.0), "either person may be drawn twice"
    hits = compute(found, None, {"leak_at": Leak(threshold=0.6)})
    assert hits["forget.leak_at_2"] == pytest.approx(0.25)
    nothing = Evidence({"forget": ViewEvidence("forget", "forget", "answer", Record())})
    assert compute(nothing, None, metrics) == {}


def test_samples_are_a_function_of_seed_and_row(tmp_path: Any) -> None:
    from unlearn_runner.data.encode import encode_rows, stops
    from unlearn_runner.data.prompts import Template
    from unlearn_runner.data.rows import QA, Rows
    from unlearn_runner.evaluation.files import read_samples, write_samples
    from unlearn_runner.evaluation.probes.samples import sample_answers
    from unlearn_runner.evaluation.schema import Generation, Sampling
    from unlearn_runner.models.load import new_model, train_tokenizer
    from unlearn_runner.models.shape import Shape

    template, generation = Template(), Generation(max_new_tokens=4)
    rows = Rows("forget", tuple(QA(f"Who is number {'very ' * i}{i}?", "A") for i in range(3)))
    tokenizer = train_tokenizer([row.question for row in rows], 300)
    shape = Shape(hidden_size=16, intermediate_size=16, num_layers=1)
    model = new_model(shape, tokenizer, 0).eval()
    encoded = encode_rows(tokenizer, template, rows, 100)

    def drawn(rows: Any, **how: Any) -> list[list[str]]:
        ends = stops(tokenizer, template)
        return sample_answers(model, tokenizer, rows, generation, Sampling(**how), ends, "")

    found = drawn(encoded, number=3)
    assert [len(texts) for texts in found] == [3, 3, 3]
    assert len({text for texts in found for text in texts}) > 6, "they are sampled"
    assert drawn(encoded[:2], number=3) == found[:2], "whatever other rows there are"
    assert drawn(encoded, number=3, seed=1) != found
    greedy = drawn(encoded, number=2, temperature=1e-4)
    assert all(one == other for one, other in greedy)
    write_samples(tmp_path, "forget", found)
    assert read_samples(tmp_path, "forget") == found
