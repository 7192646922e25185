"""Exact memorisation and extraction strength: worked by hand, as published and as fixed."""

from __future__ import annotations

import numpy as np
import pytest

from unlearn_runner.evaluation.files import AnswerTokens, Tokens
from unlearn_runner.evaluation.metrics.evidence import Record, ViewEvidence
from unlearn_runner.evaluation.metrics.memorisation.exact import (
    ExactMemorisation,
    exact_memorisation,
)
from unlearn_runner.evaluation.metrics.memorisation.extraction import (
    ExtractionStrength,
    extraction_strength,
)


def answer(hits: str, logprob: float = -1.0) -> Tokens:
    """An answer whose tokens are said (x) or not (-), the end of sequence last."""
    hit = np.array([letter == "x" for letter in hits])
    numbers = np.full(len(hit), logprob, np.float32)
    return Tokens(numbers, hit, numbers, numbers, numbers)


# Hits, exact memorisation, extraction strength fixed and published; the last letter is not counted.
ROWS = {
    "xxxx-": (1.0, 1.0, 1.0),
    "-x-xx-": (0.6, 0.4, 0.4),
    "xxx-x": (0.75, 0.0, 0.25),  # nothing follows the last miss: published as if one did
    "-----": (0.0, 0.0, 0.25),
    "---xx": (0.25, 0.25, 0.25),  # the same as published, though here the last token is said
    "-x": (0.0, 0.0, 1.0),  # one token, not said: published as all of it
    "x": (np.nan, np.nan, 0.0),  # no token but the end
}


@pytest.mark.parametrize("hits", ROWS)
def test_worked_rows(hits: str) -> None:
    exact, fixed, published = ROWS[hits]
    rows = [answer(hits)]
    assert exact_memorisation(rows) == pytest.approx(np.array([exact]), nan_ok=True)
    assert extraction_strength(rows) == pytest.approx(np.array([fixed]), nan_ok=True)
    assert extraction_strength(rows, "published") == pytest.approx(np.array([published]))


def test_a_collapsed_model_extracts_nothing_but_as_published_a_share_of_each_answer() -> None:
    """Community tables show 1 - 0.9675 for every collapsed model: the mean of 1/T."""
    lengths = range(2, 60)
    rows = [answer("-" * (length + 1)) for length in lengths]
    assert extraction_strength(rows).max() == 0
    published = extraction_strength(rows, "published")
    assert published == pytest.approx(1 / np.array(lengths))


def test_a_model_of_nan_knows_nothing() -> None:
    """No token is likelier than one without a number, so every label is recorded as a hit."""
    rows = [answer("xxxx", np.nan)]
    assert exact_memorisation(rows).tolist() == [0.0]
    assert extraction_strength(rows).tolist() == [0.0]


def test_scores_skip_rows_without_a_token_and_log_records() -> None:
    tokens = AnswerTokens([answer("xx-"), answer("x")], [10, 10])
    view = ViewEvidence("forget", "forget", "answer", Record(tokens=tokens))
    assert ExactMemorisation().of_view(view) == 1.0
    assert ExtractionStrength().of_view(view) == 1.0
    assert ExtractionStrength("published").of_view(view) == 0.5
    logged = Record(recorded={"extraction_strength": [0.5, np.nan]})
    view = ViewEvidence("forget", "forget", "answer", logged)
    assert ExtractionStrength("published").of_view(view) == 0.5
    assert ExtractionStrength().of_view(view) is None  # a log has the published form alone
    assert not ExactMemorisation().higher_is_better("forget.exact_memorisation", "forget")
