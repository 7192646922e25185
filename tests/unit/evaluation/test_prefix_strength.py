"""PS: the oracle's searches, worked rows, a model that generates, and questions in other words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.oracles import read_oracles

from unlearn_runner.data.encode import Encoded
from unlearn_runner.data.rows import QA, Rows
from unlearn_runner.data.sources import Source
from unlearn_runner.errors import DataError
from unlearn_runner.evaluation.benchmarks.qa import QABenchmark
from unlearn_runner.evaluation.benchmarks.requests import Request
from unlearn_runner.evaluation.files import AnswerTokens, Tokens
from unlearn_runner.evaluation.metrics.evidence import Continuation, Record, ViewEvidence
from unlearn_runner.evaluation.metrics.memorisation.extraction import extraction_strength
from unlearn_runner.evaluation.metrics.memorisation.prefix import (
    Form,
    Match,
    PrefixStrength,
    longest_common,
    prefix_strength,
    shortest,
)
from unlearn_runner.evaluation.metrics.parts import units
from unlearn_runner.evaluation.probes.generations import continue_prompts
from unlearn_runner.evaluation.probes.logprobs import probe
from unlearn_runner.evaluation.probes.prefixes import continuations
from unlearn_runner.evaluation.schema import View

END = 0


def test_the_oracles_searches() -> None:
    for case in read_oracles("gru_geffect")["ps_binary_search"]:
        first, length = case["question_len"], case["full_len"] - case["question_len"]
        hits = case.get("matches_at") or range(case.get("min_prefix", 0), case["full_len"])
        found = shortest(lambda given, h=hits, f=first: f + given in h, length, "published")
        assert 1 - found / length == pytest.approx(case["ps"], abs=1e-12)


def test_the_least_prefix_is_found_where_halving_misses_it() -> None:
    hits = {1, 2, 6}
    assert shortest(hits.__contains__, 7) == 1
    assert shortest(hits.__contains__, 7, "published") == 6
    assert shortest(lambda _: False, 7) == shortest(lambda _: False, 7, "published") == 7
    assert shortest(lambda _: True, 7) == shortest(lambda _: True, 7, "published") == 0


def test_common_subsequences() -> None:
    assert longest_common([1, 2, 3, 4, 5], [2, 9, 4, 5, 1]) == 3
    assert longest_common([], [1]) == longest_common([1], []) == 0


def row(answer: list[int], *written: list[int]) -> list[Continuation]:
    whole = [*answer, END]
    return [Continuation(one, whole[given:]) for given, one in enumerate([*written, [END]])]


# The answer 1 2 3 4: behind nothing it writes 1 9 3, then 2 5 5 (one in three), then 3 4, then 4.
WRITTEN = row([1, 2, 3, 4], [1, 9, 3, END], [2, 5, 5, END], [3, 4, END], [4, END])


@pytest.mark.parametrize(
    ("rows", "match", "form", "expected"),
    [
        (WRITTEN, "exact", "fixed", 0.5),
        (WRITTEN, "exact", "published", 0.5),
        (WRITTEN, "similar", "fixed", 1.0),  # 1 and 3 of three
        # By halves: 2 is enough, then 1 is not (2 of 2 5 5), so 0 is never looked at.
        (WRITTEN, "similar", "published", 0.5),
        # Nothing, or the beginning and no more: enough for the published code alone.
        (row([1, 2], [END], [END]), "exact", "fixed", 0.0),
        (row([1, 2], [END], [END]), "exact", "published", 1.0),
        (row([1, 2], [END], [END]), "similar", "fixed", 0.0),
        (row([1, 2], [1, END], [2, 7]), "exact", "fixed", 0.5),
        (row([1, 2], [1, END], [2, 7]), "exact", "published", 1.0),
        # What is written behind the answer's last token is cut off.
        (row([1, 2], [1, 2, 8], [2, 8]), "exact", "fixed", 1.0),
    ],
)
def test_worked_rows(rows: list[Continuation], match: Match, form: Form, expected: float) -> None:
    assert prefix_strength(rows, match, form) == pytest.approx(expected, abs=1e-12)


def test_exact_is_what_one_teacher_forced_pass_says(tiny: Any) -> None:
    """Of generations, of the tokens, and of whichever of them a metric is given."""
    model, greedy = tiny.llama().eval(), {"do_sample": False, "num_beams": 1}

    def said(ids: tuple[int, ...], number: int) -> tuple[int, ...]:
        if not number:
            return ids
        (more,) = continue_prompts(model, tiny.tokenizer, [ids], [-1], number, **greedy)
        return (*ids, *more)

    rows = []
    for wrong in range(7):  # what the model says itself, but for one of seven tokens
        prompt = tiny.forget[wrong].ids[: tiny.forget[wrong].prompt_length]
        *before, last = said(prompt, wrong + 1)
        ids = said((*before, (last + 1) % len(tiny.tokenizer)), 7 - wrong)
        rows.append(Encoded(ids, len(prompt)))
    stats = probe(model, rows, tiny.pad, 8, "")
    tokens = [Tokens(*(getattr(s, n) for n in Tokens._fields)) for s in stats]
    written = continuations(model, tiny.tokenizer, rows, None, 16, "")
    each = [
        [
            Continuation(one, ids.ids[ids.prompt_length + given :])
            for given, one in enumerate(behind)
        ]
        for ids, behind in zip(rows, written, strict=True)
    ]
    forced = extraction_strength(tokens)
    np.testing.assert_allclose([prefix_strength(one) for one in each], forced, atol=1e-12)
    assert forced.tolist() == pytest.approx([1 - (wrong + 1) / 7 for wrong in range(7)])
    of_tokens = ViewEvidence("v", "keep", "answer", Record(tokens=AnswerTokens(tokens, None)))
    of_texts = ViewEvidence("v", "keep", "answer", Record(continuations=each))
    assert PrefixStrength().of_view(of_tokens) == pytest.approx(PrefixStrength().of_view(of_texts))
    assert PrefixStrength("similar").of_view(of_tokens) is None
    similar = PrefixStrength("similar").of_view(of_texts)
    assert similar is not None
    assert similar >= forced.mean()


class Reworded(Source):
    """Rows, of which some splits ask in other words."""

    def read(self, split: str) -> Rows:
        other = "What is A{}?" if split != "r" else None
        names = ("f0", "f1") if split == "f" else ("r0", "r1")
        names = ("f0", "f1", "r0", "r1") if split == "full" else names
        return Rows(split, tuple(_qa(name, other) for name in names))


def _qa(name: str, other: str | None) -> QA:
    return QA(f"Who is {name}?", f"{name} is.", paraphrased_question=other and other.format(name))


def test_a_view_that_asks_in_other_words() -> None:
    views = {"plain": View("request", "forget"), "other": View("request", "forget")}
    views["other"] = View("request", "forget", question="paraphrased")
    request = {"f": Request(retain="r", view="f")}
    benchmark = QABenchmark("1", Reworded(), "f", request, views, {}, rows_per_person=1)
    found = benchmark.views()

    class Asked:
        def render(self, _: Any, question: str, answer: str) -> Any:
            return question, answer

    template: Any = Asked()
    asked = [found[name][1][0].rendered(None, template) for name in ("plain", "other")]
    assert asked == [("Who is f0?", "f0 is."), ("What is Af0?", "f0 is.")]
    assert found["plain"][1].digest != found["other"][1].digest
    people = units(benchmark.source.read("full"), found, 1)
    assert people["plain"] == people["other"]
    views["other"] = View("r", question="paraphrased")
    with pytest.raises(DataError, match="r row 1 has no 'paraphrased_question' for the view other"):
        benchmark.views()
