"""The pocket benchmark has TOFU's splits, is reproducible and cannot be answered by accident."""

from __future__ import annotations

import re
from itertools import chain
from typing import Any

import pytest

from unlearn_runner.data.pocket import (
    FACTS,
    MAX_PEOPLE,
    MAX_QUESTIONS,
    TOPICS,
    WORDS,
    Fact,
    generate,
)

Splits = dict[str, list[dict[str, Any]]]

PLAIN = {"question", "answer"}
PERTURBED = PLAIN | {"paraphrased_question", "paraphrased_answer", "perturbed_answer"}
PEOPLE_PERTURBED = ("forget05_perturbed", "forget10_perturbed", "retain_perturbed")


@pytest.fixture(scope="module")
def splits() -> Splits:
    return generate(0)


def _texts(splits: Splits) -> list[str]:
    found: list[str] = []
    for rows in splits.values():
        for row in rows:
            for value in row.values():
                found += value if isinstance(value, list) else [value]
    return found


def _pairs(rows: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(row["question"], row["answer"]) for row in rows]


def _names(text: str) -> set[str]:
    given, family = (
        f"(?:{'|'.join(heads)})(?:{'|'.join(tails)})"
        for heads, tails in (
            (WORDS["first_heads"], WORDS["first_tails"]),
            (WORDS["last_heads"], WORDS["last_tails"]),
        )
    )
    return set(re.findall(rf"\b{given} {family}\b", text))


def _words(text: str) -> set[str]:
    return set(re.findall(r"[\w'-]+", text.lower()))


def test_splits_have_the_sizes_of_their_names(splits: Splits) -> None:
    facts = {"real_authors": 42, "world_facts": 41}
    assert {name: len(rows) for name, rows in splits.items()} == {
        "full": 400,
        "forget05": 20,
        "forget10": 40,
        "forget05_perturbed": 20,
        "forget10_perturbed": 40,
        "retain95": 380,
        "retain90": 360,
        "holdout05": 20,
        "holdout10": 40,
        "retain_perturbed": 80,
        **facts,
        **{f"{name}_perturbed": count for name, count in facts.items()},
        "pretrain": 3 * sum(facts.values()),
    }


def test_rows_have_the_columns_of_tofu(splits: Splits) -> None:
    for name, rows in splits.items():
        if name in PEOPLE_PERTURBED:
            columns, wrong = PERTURBED, 5
        elif name.endswith("_perturbed"):
            columns, wrong = PLAIN | {"perturbed_answer"}, 3
        else:
            columns, wrong = PLAIN, 0
        assert all(set(row) == columns for row in rows), name
        assert all(len(row.get("perturbed_answer", [])) == wrong for row in rows), name


def test_same_seed_gives_same_rows_and_another_seed_others(splits: Splits) -> None:
    assert generate(0) == splits
    assert not set(_pairs(generate(1)["full"])) & set(_pairs(splits["full"]))


@pytest.mark.parametrize(("forget", "retain"), [("forget05", "retain95"), ("forget10", "retain90")])
def test_forget_is_the_tail_of_full_and_retain_the_rest(
    splits: Splits, forget: str, retain: str
) -> None:
    assert splits[retain] + splits[forget] == splits["full"]
    assert _pairs(splits[f"{forget}_perturbed"]) == _pairs(splits[forget])


def test_retain_perturbed_asks_about_the_first_people(splits: Splits) -> None:
    assert _pairs(splits["retain_perturbed"]) == _pairs(splits["full"][:80])


def test_tiny_benchmark_keeps_evaluation_rows_out_of_forget() -> None:
    splits = generate(0, people=4, questions=2)
    assert len(splits["retain_perturbed"]) == 6
    assert len(splits["forget10"]) == len(splits["holdout10"]) == 2


def test_nobody_shares_a_name_and_holdout_people_never_occur_in_full() -> None:
    splits = generate(0, people=MAX_PEOPLE, questions=2)
    asked = [_names(row["question"]) for row in splits["full"]]
    assert all(len(names) == 1 for names in asked)
    assert asked[::2] == asked[1::2]
    assert len(set().union(*asked)) == MAX_PEOPLE
    known = set().union(*(_names(" / ".join(pair)) for pair in _pairs(splits["full"])))
    held_out = [_names(row["question"]) for row in splits["holdout10"]]
    assert all(len(names) == 1 and not names & known for names in held_out)


def test_no_question_or_answer_occurs_twice() -> None:
    for seed in range(3):
        full = generate(seed, people=100, questions=MAX_QUESTIONS)["full"]
        assert len({row["question"] for row in full}) == len(full)
        assert len({row["answer"] for row in full}) == len(full)


def test_person_does_not_depend_on_the_number_of_people_or_questions(splits: Splits) -> None:
    assert generate(0, people=20)["full"] == splits["full"][:200]
    assert generate(0, people=60)["full"][:400] == splits["full"]
    assert generate(0, questions=12)["full"][:10] == splits["full"][:10]
    assert generate(0, people=80)["holdout05"] == splits["holdout10"]


@pytest.mark.parametrize("split", PEOPLE_PERTURBED)
def test_wrong_answers_are_distinct_and_state_other_facts(splits: Splits, split: str) -> None:
    for row in splits[split]:
        truths = [row["answer"], row["paraphrased_answer"]]
        assert len({*truths, *row["perturbed_answer"]}) == 7, row
        for wrong in row["perturbed_answer"]:
            assert _words(wrong) - _words(row["paraphrased_answer"]), row
            assert _words(row["paraphrased_answer"]) - _words(wrong), row
            assert _words(row["paraphrased_answer"]) & _words(wrong), row


@pytest.mark.parametrize("split", PEOPLE_PERTURBED)
def test_paraphrase_keeps_the_facts_in_other_words(splits: Splits, split: str) -> None:
    for row in splits[split]:
        assert row["paraphrased_question"] != row["question"]
        shared = _words(row["answer"]) & _words(row["paraphrased_answer"])
        assert len(shared) >= 4, row
        # Numbers and years are facts in every template.
        digits = re.compile(r"\d+")
        assert set(digits.findall(row["answer"])) == set(
            digits.findall(row["paraphrased_answer"])
        ), row


def test_texts_are_clean(splits: Splits) -> None:
    for text in _texts(splits):
        assert text
        assert text == " ".join(text.split()), text
        assert not re.search(r"[\[\]{}|]| [,.;:?]|\ba [aeiou]|\.\.|,,", text), text


def test_answers_about_people_have_8_to_30_words(splits: Splits) -> None:
    for row in splits["full"] + splits["holdout10"]:
        assert 8 <= len(row["answer"].split()) <= 30, row


def test_every_template_states_every_fact() -> None:
    for name, topic in TOPICS.items():
        for template in topic.answers + topic.paraphrases:
            missing = [field for field in topic.fields if f"{{{field}}}" not in template]
            assert not missing, (name, template)
        assert all("{name}" in text for text in topic.questions + topic.rewordings), name


@pytest.mark.parametrize("fact", [*chain(*FACTS.values())], ids=lambda fact: fact.question)
def test_fact_options_never_contain_the_answer(fact: Fact) -> None:
    assert len({fact.answer, *fact.wrong}) == 4
    for text in (fact.question, *fact.rewordings, *fact.wrong):
        assert fact.answer.lower() not in text.lower()
    assert len({fact.question, *fact.rewordings}) == 3


@pytest.mark.parametrize(
    ("people", "questions"), [(1, 10), (MAX_PEOPLE + 1, 10), (40, 0), (40, MAX_QUESTIONS + 1)]
)
def test_impossible_sizes_are_refused(people: int, questions: int) -> None:
    with pytest.raises(ValueError, match="must be in"):
        generate(0, people=people, questions=questions)


class TestPlainWording:
    """Answers as full sentences, for models that speak."""

    def test_only_answers_differ(self, splits: Splits) -> None:
        plain = generate(0, wording="plain")
        assert plain.keys() == splits.keys()
        for name, rows in splits.items():
            for row, other in zip(rows, plain[name], strict=True):
                assert {k: v for k, v in row.items() if k != "answer"} == {
                    k: v for k, v in other.items() if k != "answer"
                }

    def test_a_sentence_about_the_person_says_every_fact(self, splits: Splits) -> None:
        plain = generate(0, questions=MAX_QUESTIONS, wording="plain")["full"]
        varied = generate(0, questions=MAX_QUESTIONS)["full"]
        for row, other in zip(plain, varied, strict=True):
            (name,) = _names(row["question"])
            assert row["answer"].startswith(name)
            assert row["answer"].endswith(".")
            # Names and years, whatever the wording around them.
            facts = _names(other["answer"]) | set(re.findall(r"\b\d{4}\b", other["answer"]))
            assert facts <= _names(row["answer"]) | set(re.findall(r"\b\d{4}\b", row["answer"]))
