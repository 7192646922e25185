"""ROUGE of the generated answer against the true one (Lin 2004): of words, or their order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Literal, get_args

import numpy as np

from unlearn_runner.evaluation.metrics.base import ViewMetric, known_mean
from unlearn_runner.evaluation.metrics.evidence import Floats, ViewEvidence
from unlearn_runner.evaluation.schema import Goal

Kind = Literal["rougeL_recall", "rougeL_f1", "rouge1_recall"]
"""As open-unlearning's logs name them."""
KINDS: tuple[Kind, ...] = get_args(Kind)


@cache
def _scorer() -> Any:
    from rouge_score import rouge_scorer

    from unlearn_runner.evaluation.metrics import words

    class Tokenizer:
        def tokenize(self, text: str) -> list[str]:
            return words.words(text)

    return rouge_scorer.RougeScorer(["rouge1", "rougeL"], tokenizer=Tokenizer())


def rouge(generations: Sequence[str], answers: Sequence[str]) -> dict[Kind, Floats]:
    """Returns ROUGE of each generation, of `words.words`, by kind; each [rows].

    NaN for a row whose answer is empty: there is nothing to recall.
    """
    pairs = zip(answers, generations, strict=True)
    found = [_kinds(answer, text) if answer.strip() else (np.nan,) * 3 for answer, text in pairs]
    columns = np.array(found, float).reshape(-1, len(KINDS)).T
    return dict(zip(KINDS, columns, strict=True))


def _kinds(answer: str, text: str) -> tuple[float, ...]:
    score = _scorer().score(answer, text)
    return (score["rougeL"].recall, score["rougeL"].fmeasure, score["rouge1"].recall)


def rouge_l_recall(generations: Sequence[str], answers: Sequence[str]) -> Floats:
    """Returns the ROUGE-L recall of each generation; [rows], see `rouge`."""
    return rouge(generations, answers)["rougeL_recall"]


def of_view(view: ViewEvidence, kind: Kind = "rougeL_recall") -> Floats | None:
    """Returns one kind of ROUGE per row: from the texts, else as recorded, else none."""
    if (texts := view.record.texts) is not None:
        return _rouge(tuple(texts.generations), tuple(texts.answers))[kind]
    recalls = view.record.recalls
    if kind == "rougeL_recall" and recalls is not None:
        return np.array(recalls)
    return view.recorded(kind)


@lru_cache(maxsize=16)
def _rouge(generations: tuple[str, ...], answers: tuple[str, ...]) -> dict[Kind, Floats]:
    """Computes a view's ROUGE once: several scores and their intervals want it."""
    return rouge(generations, answers)


@dataclass(frozen=True)
class RougeL(ViewMetric):
    """Mean ROUGE over rows that have an answer."""

    kind: Kind = "rougeL_recall"
    """ROUGE-L recall in TOFU, its F1 in MUSE."""

    def of_rows(self, view: ViewEvidence) -> Floats | None:
        """Returns each row's ROUGE."""
        return of_view(view, self.kind)

    def of_view(self, view: ViewEvidence) -> float | None:
        """Returns the mean of the rows that have one."""
        return known_mean(self.of_rows(view))

    def higher_is_better(self, score: str, goal: Goal | None) -> bool:
        """Returns false on rows to be forgotten."""
        return goal != "forget"
