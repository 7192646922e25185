"""ROUGE counts the words of every script; English ones exactly as rouge_score counts them."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from nltk.stem import porter
from rouge_score import tokenize

from unlearn_runner.evaluation.metrics.base import MetricInputs
from unlearn_runner.evaluation.metrics.evidence import Evidence, Record, Texts, ViewEvidence
from unlearn_runner.evaluation.metrics.rouge import RougeL, rouge_l_recall
from unlearn_runner.evaluation.metrics.utility import ModelUtility
from unlearn_runner.evaluation.metrics.words import words

CASES: dict[str, tuple[str, str, float]] = {
    # answer, generation, recall
    "chinese": ("巴黎是首都", "巴黎是首都", 1.0),
    "chinese, in part": ("巴黎是首都", "首都是巴黎", 2 / 5),
    "japanese": ("東京タワーです", "東京です", 4 / 7),
    "thai": ("กรุงเทพ", "กรุงเทพ", 1.0),
    "russian": ("Москва — столица России", "москва столица", 2 / 3),
    "hindi": ("दिल्ली भारत की राजधानी है", "दिल्ली भारत की राजधानी है", 1.0),
    "hindi, in part": ("दिल्ली भारत की राजधानी है", "भारत की", 2 / 5),
    "arabic": ("القاهرة عاصمة مصر", "القاهرة عاصمة مصر", 1.0),
    "arabic, other": ("القاهرة عاصمة مصر", "لندن", 0.0),
    "korean": ("서울은 수도입니다", "서울은", 1 / 2),
    "greek": ("Η Αθήνα", "η αθήνα", 1.0),
    "hebrew": ("ירושלים עיר", "עיר", 1 / 2),
    "latin and han": ("GPT模型 2024", "gpt模 2024", 3 / 4),
    "decomposed": (unicodedata.normalize("NFD", "서울은 Łódź ё"), "서울은 Łódź ё", 1.0),
    "symbols alone": ("👍 ∞", "👍", 1 / 2),
    "digits of Hindi": ("२०२३", "२०२३", 1.0),
    "vietnamese word without a-z": ("ở đó", "ở đó", 1.0),
    "nothing said": ("巴黎", "", 0.0),
    "english": ("The cats are running.", "a cat runs", 2 / 4),
    "punctuation against words": ("Yes.", "...", 0.0),
}


@pytest.mark.parametrize("case", CASES)
def test_recall(case: str) -> None:
    answer, generation, recall = CASES[case]
    assert rouge_l_recall([generation], [answer])[0] == pytest.approx(recall, rel=1e-12)


ENGLISH = (
    "Gabriel García Márquez wrote it in 1967; naïve café-goers' æsthetics.",
    "Don’t – “quote” – 20 m² of O’Neill’s...",
    "Ngũgĩ wa Thiong'o, Åse and Karel Čapek",
    "THE K-SIGN \u212a and İstanbul",
)


@pytest.mark.parametrize("text", ENGLISH)
def test_english_words_are_rouge_scores(text: str) -> None:
    assert words(text) == tokenize.tokenize(text, porter.PorterStemmer())


def inputs(*pairs: tuple[str, str]) -> MetricInputs:
    texts = Texts([""] * len(pairs), [g for _, g in pairs], [a for a, _ in pairs])
    view = ViewEvidence("kept", "keep", "answer", Record(texts=texts))
    return MetricInputs(Evidence({"kept": view}), None, {})


def test_an_empty_answer_is_left_out_and_never_makes_utility_zero() -> None:
    some, none = inputs(("Yes.", "Yes."), (" ", "No.")), inputs((" ", "No."))
    assert RougeL().score("r", some) == {"kept.r": 1.0}
    assert RougeL().score("r", none) == {"kept.r": None}
    utility = ModelUtility(("r",))
    without = MetricInputs(none.model, None, {"kept.r": None})
    assert utility.score("utility", without) == {"utility": None}


def test_texts_of_published_logs_have_rouge_scores_words(shared: Path) -> None:
    from unlearn_runner.evaluation.logs.read import open_log

    texts: set[str] = set()
    for path in (shared / "data/tofu_eval_logs").glob("*/*[dn].json"):
        if "SUMMARY" not in path.name:
            for view in open_log(path).evidence().views.values():
                found = view.record.texts
                texts |= {*found.generations, *found.answers} if found else set()
    accented = [text for text in texts if not text.isascii()]
    assert len(accented) > 100
    stemmer = porter.PorterStemmer()
    assert [words(t) for t in accented] == [tokenize.tokenize(t, stemmer) for t in accented]
