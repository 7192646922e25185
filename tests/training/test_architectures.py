"""Every architecture family through every stage, from a folder as `save_pretrained` leaves it.

What a family is prompted with is checked against its own tokenizer and chat template, and what it
answers against a loop that takes the most likely token, one at a time.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from families import FAMILIES, Family
from helpers.planning import plan_run

from unlearn_runner.api import compose
from unlearn_runner.config.root import Run
from unlearn_runner.data.encode import collate, encode, stops
from unlearn_runner.data.people import People
from unlearn_runner.evaluation.benchmarks.base import Generation
from unlearn_runner.evaluation.probes.generations import generate
from unlearn_runner.evaluation.probes.packing import can_pack
from unlearn_runner.models.forward import scored_logits
from unlearn_runner.models.load import load_model, load_tokenizer
from unlearn_runner.pipeline.execute import Executor, StageResult
from unlearn_runner.pipeline.plan import Plan
from unlearn_runner.pipeline.results import flat, scores
from unlearn_runner.store.store import Store
from unlearn_runner.tracking.record import Record

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = (
    "train.steps=3",
    "target.train.steps=4",
    "target.train.warmup_epochs=0",
    *(f"benchmark.view.{view}.limit=3" for view in ("forget", "retain")),
    *(f"benchmark.view.{view}.limit=3" for view in ("real_authors", "world_facts")),
    "benchmark.generate.max_new_tokens=8",
    "benchmark.source.people=20",
    "benchmark.source.questions=1",
    "train.batch_size=4",
    "target.train.batch_size=8",
)
HERE = ("parallel.threads=1", "parallel.device=cpu")
EXACT = tuple(f"{of}.precision=float32" for of in ("train", "target.train", "evaluate"))
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Made:
    """A family's folder, loaded."""

    family: Family
    folder: Path
    run: Run
    tokenizer: Any
    model: Any


def composed(*overrides: str) -> Run:
    return compose(*SMALL, *HERE, *EXACT, *overrides)


def of_folder(family: Family, folder: Path) -> tuple[str, ...]:
    """The overrides that put a folder in the place of the hub's repository."""
    return f"model={family.option}", f"model.path={folder}", "model.revision=null"


@pytest.fixture(scope="module")
def texts() -> list[str]:
    rows = People(people=20, questions=2).read("full")
    told = [f"Question: {row.question}\nAnswer: {row.answer}" for row in rows]
    headers = "Cutting Knowledge Date: December 2023\nToday Date: 10 Apr 2025\n\n"
    return told + [f"{headers}You are a helpful assistant. user assistant system model [INST]"] * 9


@pytest.fixture(scope="module", params=FAMILIES)
def made(
    request: pytest.FixtureRequest, texts: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Made:
    family = FAMILIES[request.param]
    folder = family.make(tmp_path_factory.mktemp(request.param), texts)
    model = load_model(folder, "float32", CPU).eval()
    run = composed(*of_folder(family, folder))
    return Made(family, folder, run, load_tokenizer(folder), model)


# --- the whole chain


def execute_here(run: Run, folder: Path) -> tuple[Plan, list[StageResult], Store]:
    stages, store = plan_run(run), Store(folder / "store")
    return stages, Executor(store, Record(folder / "run"), run.parallel).run(stages), store


def test_a_family_is_fine_tuned_unlearned_evaluated_and_scored(made: Made, tmp_path: Path) -> None:
    run = composed(*of_folder(made.family, made.folder), "method=npo", "rectifier=gru")
    stages, done, store = execute_here(run, tmp_path)
    assert {item.outcome for item in done} == {"completed"}
    found = flat(scores(stages, store, done))
    assert len(found) > 30
    assert all(value is not None and math.isfinite(value) for value in found.values())
    lines = [json.loads(x) for x in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if line["stage"] == "unlearn"]
    assert [line["step"] for line in steps] == [1, 2, 3]
    assert all(line["grad_norm"] > 0 for line in steps)

    from transformers import AutoModelForCausalLM

    by_label = {item.stage.label: store.path(item.stage) for item in done}
    ended = AutoModelForCausalLM.from_pretrained(by_label["unlearn"])
    assert type(ended) is type(made.model)
    for name, before in made.model.state_dict().items():
        assert not ended.state_dict()[name].equal(before), name
    again = load_tokenizer(by_label["unlearn"])
    assert again.chat_template == made.tokenizer.chat_template
    text = "[INST] What's new, Zoë?\nNothing."
    assert again(text)["input_ids"] == made.tokenizer(text)["input_ids"]


# --- what is asked, and what of it is scored

QUESTIONS = {
    "Where was Zoë born?": "Zoë was born in 1984, in São Paulo.",
    "What's {this}?": "It's a brace: { }.",
    "Two lines?\nReally?": "One,\n\nand another.",
    "  spaces around  ": "42",
    "Which script?": "日本語, and 🙂 too",
    "Repeat?": "Repeat?",
}
PLAIN = {
    "llama2": ("[INST] {q} [/INST]", "{a}"),
    "phi": ("Question: {q}\n", "Answer: {a}"),
    "gpt_neox": ("Question: {q}\nAnswer:", " {a}"),
    "gpt_neo": ("Question: {q}\nAnswer:", " {a}"),
}
"""As the TOFU repository writes them, and the runner's own for models it has no prompt of."""
SYSTEM = {"llama3", "qwen2", "mistral"}
CLOSING = {
    "llama3": "<|eot_id|>",
    "llama2": "</s>",
    "qwen2": "<|im_end|>",
    "gemma": "<end_of_turn>",
    "gemma2": "<end_of_turn>",
    "mistral": "</s>",
}
BEGINS = {
    "llama3": "<|begin_of_text|>",
    "llama2": "<s>",
    "gemma": "<bos>",
    "gemma2": "<bos>",
}
"""Once, at the beginning. Zephyr's template has none, though its tokenizer would add one."""


def name_of(made: Made) -> str:
    return next(name for name, family in FAMILIES.items() if family is made.family)


def expected_prompt(made: Made, question: str) -> list[int]:
    """The prompt's tokens by the tokenizer alone."""
    name = name_of(made)
    if name in PLAIN:
        return made.tokenizer(PLAIN[name][0].replace("{q}", question))["input_ids"]
    system = [{"role": "system", "content": "You are a helpful assistant."}]
    turns = [*(system if name in SYSTEM else []), {"role": "user", "content": question}]
    return made.tokenizer.apply_chat_template(
        turns, add_generation_prompt=True, date_string="10 Apr 2025", return_dict=False
    )


@pytest.mark.parametrize("question", QUESTIONS)
def test_what_is_scored_is_the_answer_and_the_end_of_the_turn(made: Made, question: str) -> None:
    name, tokenizer, answer = name_of(made), made.tokenizer, QUESTIONS[question]
    row = encode(tokenizer, made.run.model.template, question, answer, max_tokens=4096)
    scored = tokenizer.decode(row.ids[row.prompt_length :])
    said = PLAIN[name][1].replace("{a}", answer) if name in PLAIN else answer
    closing = CLOSING.get(name, "<|endoftext|>")
    assert scored == said + closing
    assert row.ids[-1] == tokenizer.convert_tokens_to_ids(closing)
    assert row.ids[: row.prompt_length] == tuple(expected_prompt(made, question))
    assert [i for i in row.ids if made.tokenizer.decode([i]) == BEGINS.get(name)] == list(
        row.ids[:1] if name in BEGINS else ()
    )


def test_a_prompt_s_tokens_end_in_the_prompt_and_the_next_one_behind_it(made: Made) -> None:
    template, tokenizer = made.run.model.template, made.tokenizer
    rendered = template.render(tokenizer, "Who?", "Nobody")
    spans = tokenizer(
        rendered.text, return_offsets_mapping=True, add_special_tokens=rendered.special_tokens
    )["offset_mapping"]
    row = encode(tokenizer, template, "Who?", "Nobody", max_tokens=4096)
    assert all(end <= rendered.prompt_end for _, end in spans[: row.prompt_length])
    start, end = spans[row.prompt_length]
    assert start <= rendered.prompt_end < end


def test_logits_are_the_model_s_own_at_the_scored_positions(made: Made) -> None:
    rows = [
        encode(made.tokenizer, made.run.model.template, q, a, max_tokens=4096)
        for q, a in QUESTIONS.items()
    ]
    batch = collate(rows, made.tokenizer.pad_token_id, CPU)
    with torch.no_grad():
        found = scored_logits(made.model, batch)
    at = 0
    for row in rows:  # alone, so that padding is on trial, too
        with torch.no_grad():
            whole = made.model(torch.tensor([row.ids])).logits[0]
        expected = whole[row.prompt_length - 1 : -1].float()
        torch.testing.assert_close(found[at : at + row.num_labels], expected, atol=2e-5, rtol=1e-5)
        at += row.num_labels
    assert at == len(found)


def greedy(model: Any, prompt: tuple[int, ...], most: int, ends: list[int]) -> list[int]:
    """The most likely tokens, each by a forward pass of its own."""
    ids = list(prompt)
    for _ in range(most):
        with torch.no_grad():
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
        if ids[-1] in ends:
            return ids[len(prompt) : -1]
    return ids[len(prompt) :]


def test_a_model_is_asked_what_it_was_trained_on_and_answers_greedily(made: Made) -> None:
    asked: list[list[int]] = []

    def listening(_: Any, __: Any, given: dict[str, Any]) -> None:
        if (cache := given["past_key_values"]) is not None and cache.get_seq_length() == 0:
            asked.extend(given["input_ids"].tolist())

    can_pack(made.model, [])  # tries the model once
    listener = made.model.register_forward_pre_hook(listening, with_kwargs=True)
    tokenizer, template = made.tokenizer, made.run.model.template
    rows = [encode(tokenizer, template, q, a, max_tokens=4096) for q, a in QUESTIONS.items()]
    ends = stops(tokenizer, template)
    assert set(ends) == {tokenizer.eos_token_id, rows[0].ids[-1]}
    given = (Generation(max_new_tokens=12), ends, 4, "asking")
    alone = [generate(made.model, tokenizer, [row], *given)[0] for row in rows]
    listener.remove()
    assert asked == [list(row.ids[: row.prompt_length]) for row in rows]
    said = generate(made.model, tokenizer, rows, *given)
    assert said == alone
    for row, text in zip(rows, said, strict=True):
        expected = greedy(made.model, row.ids[: row.prompt_length], 12, ends)
        assert text == tokenizer.decode(expected, skip_special_tokens=True).strip()
