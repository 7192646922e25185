"""Multiple choice: rows, prompts, scores of every choice one by one, lm-evaluation-harness's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from unlearn_runner.api import compose
from unlearn_runner.data.choices import ChoiceFiles, FromAnswers, Wording
from unlearn_runner.data.people import People
from unlearn_runner.data.rows import ChoiceQA, Rows
from unlearn_runner.errors import ConfigError, DataError
from unlearn_runner.evaluation.files import Choices, read_choices, write_choices
from unlearn_runner.evaluation.metrics.accuracy import Accuracy, is_right
from unlearn_runner.evaluation.metrics.base import compute, directions
from unlearn_runner.evaluation.metrics.bootstrap import intervals
from unlearn_runner.evaluation.metrics.evidence import Evidence
from unlearn_runner.evaluation.probes.choices import encode_choice, score_choices
from unlearn_runner.evaluation.schema import View
from unlearn_runner.pipeline.inputs import read_inputs

QUESTIONS = [
    {"question": " Which number is {even}? ", "choices": ["3", "4", "5", "7"], "answer": 1},
    {"question": "Who wrote Emma?", "choices": ["Austen", "Austen", "Eliot", "Brown"], "answer": 0},
    {"question": "What melts at zero?", "choices": ["Ice", "Iron", "Salt", "Tin"], "answer": 0},
]


def write(folder: Path, rows: list[Any], **more: Any) -> Path:
    lines = [json.dumps(row | more) for row in rows]
    (folder / "quiz.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def read(folder: Path, wording: Wording | None = None, **more: Any) -> list[ChoiceQA]:
    rows = ChoiceFiles(str(folder), **more).read("quiz", wording or Wording())
    return list(rows)  # type: ignore[arg-type]


def test_a_row_is_asked_as_hendrycks_et_al_ask_it(tmp_path: Path) -> None:
    first, *_ = read(write(tmp_path, QUESTIONS, subject="number_theory"))
    assert first.context == (
        "The following are multiple choice questions (with answers) about number theory.\n\n"
        "Which number is {even}?\nA. 3\nB. 4\nC. 5\nD. 7\nAnswer:"
    )
    assert first.choices == (" A", " B", " C", " D")
    assert (first.correct, first.answer) == (1, "4")
    own = Wording("{question}", " {choice} ({letter})")
    assert read(tmp_path, own)[0].choices[2] == " 5 (C)"
    named = read(tmp_path, subjects={"quiz": "chemistry"})
    assert "about chemistry." in named[0].context


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"answer": 4}, "'answer' must be the index of a choice, 0 to 3; it is '4'"),
        ({"answer": True}, "it is 'True'"),
        ({"answer": "B"}, "it is 'B'"),
        ({"choices": ["one"]}, "'choices' must be a list of 2 to 26 texts"),
        ({"choices": [1, 2]}, "'choices' holds what is no text"),
        ({"question": " "}, "empty or non-text 'question'"),
        ({"subject": ""}, "has no 'subject', and the prompt names one"),
    ],
)
def test_a_malformed_row_is_named(tmp_path: Path, row: dict[str, Any], problem: str) -> None:
    write(tmp_path, [QUESTIONS[1] | {"subject": "s"}, QUESTIONS[0] | {"subject": "s"} | row])
    with pytest.raises(DataError) as refused:
        read(tmp_path)
    assert problem in refused.value.problem
    assert "quiz.jsonl:" in refused.value.problem


def test_files_are_named_or_found(tmp_path: Path) -> None:
    write(tmp_path, QUESTIONS, subject="s")
    path = str(tmp_path / "quiz.jsonl")
    assert len(ChoiceFiles(files={"other": path}).read("other", Wording())) == 3
    with pytest.raises(DataError, match=r"benchmark\.source\.files\.other=.* is no file"):
        ChoiceFiles(files={"other": f"{path}x"}).read("other", Wording())
    with pytest.raises(DataError, match="no file is named for quiz"):
        ChoiceFiles().read("quiz", Wording())


def test_choices_of_answers_are_four_in_an_order_of_the_seed() -> None:
    source = People(people=20, questions=3)
    wording = Wording("{question}", " {choice}")
    rows = FromAnswers(source).read("forget10_perturbed", wording)
    assert [row.question for row in rows] == [row.question for row in source.read("forget10")]
    assert {len(row.choices) for row in rows} == {4}  # type: ignore[attr-defined]
    for row, qa in zip(rows, source.read("forget10_perturbed"), strict=True):
        assert isinstance(row, ChoiceQA)
        right, *wrong = (qa.paraphrased_answer, *qa.perturbed_answers[:3])
        assert row.choices[row.correct] == f" {right}"
        assert sorted(row.choices) == sorted(f" {text}" for text in (right, *wrong))
    assert len({row.correct for row in rows}) > 1  # type: ignore[attr-defined]
    assert FromAnswers(source, seed=1).read("forget10_perturbed", wording) != rows
    with pytest.raises(DataError, match="has no 'perturbed_answer' to choose between"):
        FromAnswers(source).read("forget10", wording)


def by_hand(tiny: Any, context: str, continuation: str) -> float:
    """Log-probability of the continuation's tokens, each from a pass over what precedes it."""
    whole = tiny.tokenizer(context + continuation)["input_ids"]
    start = len(tiny.tokenizer(context.rstrip())["input_ids"])
    model, found = tiny.llama().double().eval(), 0.0
    with torch.no_grad():
        for i in range(start, len(whole)):
            logits = model(torch.tensor([whole[:i]])).logits[0, -1].double()
            found += torch.log_softmax(logits, -1)[whole[i]].item()
    return found


@pytest.fixture
def rows(tmp_path: Path) -> Rows:
    """Prompts of every length, letters that share a pass, and choices of several tokens."""
    short = Wording("{question}\n{options}\nAnswer:")
    long = Wording("{question} ", "{choice} it is")
    write(tmp_path, QUESTIONS)
    return Rows("quiz", (*read(tmp_path, short), *read(tmp_path, long)))


def test_every_choice_is_scored_as_one_by_one(tiny: Any, rows: Rows, one_thread: None) -> None:
    found = score_choices(tiny.llama().eval(), tiny.tokenizer, rows, 4, "quiz")
    for row, scored in zip(rows, found, strict=True):
        assert isinstance(row, ChoiceQA)
        expected = [by_hand(tiny, row.context, choice) for choice in row.choices]
        assert scored.logprobs == pytest.approx(expected, abs=1e-5)
        assert scored.correct == row.correct
    assert score_choices(tiny.llama().eval(), tiny.tokenizer, rows, 1, "quiz") == [
        Choices(pytest.approx(c.logprobs, abs=1e-5), c.characters, c.correct)  # type: ignore
        for c in found
    ]


def test_letters_take_one_pass_per_question(tiny: Any, rows: Rows) -> None:
    letters, passed = rows.first(3), 0

    def count(_: Any, __: Any, given: dict[str, Any]) -> None:
        nonlocal passed
        passed += len(given["input_ids"])

    model = tiny.llama().eval()
    model.register_forward_pre_hook(count, with_kwargs=True)
    score_choices(model, tiny.tokenizer, letters, 8, "quiz")
    one = [encode_choice(tiny.tokenizer, row.context, row.choices[0], None) for row in letters]  # type: ignore
    assert all(e.num_labels == 1 for e in one)
    assert passed == 3


def test_a_prompt_too_long_loses_its_beginning(tiny: Any) -> None:
    whole = encode_choice(tiny.tokenizer, "word " * 200, "end", None)
    cut = encode_choice(tiny.tokenizer, "word " * 200, "end", 50)
    assert cut.ids == whole.ids[-50:]
    assert cut.num_labels == whole.num_labels


def test_accuracy() -> None:
    near = Choices((-4.0, -3.0, -5.0), (1, 10, 20), 1)
    assert is_right(near)
    assert not is_right(near, "character")  # -4, -0.3, -0.25
    assert is_right(Choices((-1.0, -1.0), (1, 1), 0))  # the first of equal ones
    assert not is_right(Choices((-1.0, -1.0), (1, 1), 1))
    assert not is_right(Choices((float("nan"), -1.0), (1, 1), 0))
    assert not Accuracy().higher_is_better("wmdp_bio.accuracy", "forget")


def test_evidence_scores_and_intervals(tmp_path: Path) -> None:
    scored = [Choices((-1.0, -2.0), (1, 1), i % 4 == 3) for i in range(200)]
    write_choices(tmp_path, "quiz", scored)
    assert read_choices(tmp_path, "quiz") == scored
    views = {"quiz": View("quiz", probes=("choices",))}
    evidence, metrics = Evidence.load(tmp_path, views), {"accuracy": Accuracy()}
    scores = compute(evidence, None, metrics)
    assert scores == {"quiz.accuracy": 0.75}
    assert directions(scores, views, metrics) == {"quiz.accuracy": "higher"}
    low, high = intervals(evidence, {}, metrics, scores)["quiz.accuracy"]
    half = 1.96 * (0.75 * 0.25 / 200) ** 0.5
    assert (0.75 - low, high - 0.75) == pytest.approx((half, half), rel=0.15)


def test_a_benchmark_is_yaml_over_files(tmp_path: Path) -> None:
    write(tmp_path, QUESTIONS, subject="s")
    option = f"benchmark.source.files.mmlu={tmp_path / 'quiz.jsonl'}"
    benchmark = compose("benchmark=mmlu", option).benchmark
    assert len(benchmark.views()["mmlu"][1]) == 3
    with pytest.raises(ConfigError, match="only a checkpoint can be evaluated"):
        read_inputs(compose("benchmark=mmlu", option))
    named = [
        f"benchmark.source.files.{name}={tmp_path / 'quiz.jsonl'}" for name in ("wmdp_bio", "mmlu")
    ]
    left_out = ("~benchmark.view.wmdp_cyber", "~benchmark.view.wmdp_chem")
    bio, kept = compose("benchmark=wmdp", *left_out, *named).benchmark.views().values()
    assert (bio[0].goal, kept[0].goal) == ("forget", "keep")
    assert "about biology." in bio[1][0].context  # type: ignore[attr-defined]


def test_the_pocket_benchmark_is_asked_by_choices() -> None:
    benchmark = compose("benchmark=pocket_choices").benchmark
    assert [len(rows) for _, rows in benchmark.views().values()][:2] == [40, 80]
    assert benchmark.rows_together == 10
    assert len(benchmark.splits().forget) == 40


def test_it_is_what_lm_evaluation_harness_scores(
    tiny: Any, tmp_path: Path, one_thread: None
) -> None:
    """Row by row, of the same local file, through the task's own template."""
    harness = pytest.importorskip("lm_eval", reason="needs lm-evaluation-harness")
    from lm_eval.models.huggingface import HFLM

    write(tmp_path, QUESTIONS, subject="s")
    options = "".join(f"{letter}. {{{{choices[{i}]}}}}\n" for i, letter in enumerate("ABCD"))
    about = "The following are multiple choice questions (with answers) about s.\n\n"
    found = {}
    for name, wording, choice in (
        ("letters", Wording(), ["A", "B", "C", "D"]),
        ("texts", Wording(continuation=" {choice}"), "{{choices}}"),
    ):
        task = {
            "task": name,
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(tmp_path / "quiz.jsonl")}},
            "test_split": "test",
            "output_type": "multiple_choice",
            "description": about,
            "doc_to_text": "{{question.strip()}}\n" + options + "Answer:",
            "doc_to_choice": choice,
            "doc_to_target": "answer",
            "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
        }
        model = HFLM(pretrained=tiny.llama().eval(), tokenizer=tiny.tokenizer, batch_size=2)
        result = harness.simple_evaluate(
            model=model, tasks=[task], log_samples=True, bootstrap_iters=0
        )
        samples = sorted(result["samples"][name], key=lambda sample: sample["doc_id"])
        theirs = [[resp[0][0] for resp in sample["resps"]] for sample in samples]
        rows = Rows("quiz", tuple(read(tmp_path, wording)))
        ours = score_choices(tiny.llama().eval(), tiny.tokenizer, rows, 4, "quiz")
        for mine, other in zip(ours, theirs, strict=True):
            assert mine.logprobs == pytest.approx(other, abs=1e-5)
        for per, metric in (("choice", "acc"), ("character", "acc_norm")):
            right = [float(is_right(row, per)) for row in ours]  # type: ignore[arg-type]
            assert right == [sample[metric] for sample in samples]
        found[name] = len(ours)
    assert found == {"letters": 3, "texts": 3}
