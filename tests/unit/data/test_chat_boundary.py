"""All that a chat template writes before the answer is prompt, whatever the answer's words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from chat_styles import STYLES, Style

from unlearn_runner.data.chat import SENTINEL, Chat
from unlearn_runner.data.encode import encode
from unlearn_runner.errors import ConfigError

ANSWERS = (
    "In São Paulo, of course.",
    "sentence",  # stands inside <｜end▁of▁sentence｜>
    "think",
    "assistant",
    "user",
    "im_end",
    "Q",  # the question itself
    "S",
    "a",
    "1 May 2025",
    "One,\n\nand another.",
    "日本語",
    SENTINEL,
)


@pytest.fixture(params=STYLES)
def style(request: pytest.FixtureRequest) -> Style:
    return STYLES[request.param]


def tokenizer_of(style: Style) -> Any:
    from transformers import PreTrainedTokenizerFast

    from unlearn_runner.models.load import train_tokenizer

    bytes_alone = train_tokenizer([], 300)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bytes_alone.backend_tokenizer,
        eos_token=style.closing,
        pad_token="<|pad|>",
        extra_special_tokens=list(style.markup),
    )
    tokenizer.chat_template = style.template
    return tokenizer


def chat(style: Style) -> Chat:
    return Chat(system="S" if style.system else None, date="1 May 2025")


@pytest.mark.parametrize("answer", ANSWERS)
def test_the_prompt_is_what_stands_before_the_answer(style: Style, answer: str) -> None:
    tokenizer = tokenizer_of(style)
    rendered = chat(style).render(tokenizer, "Q", answer)
    assert rendered.text[: rendered.prompt_end] == style.prompt
    assert rendered.text[rendered.prompt_end : rendered.answer_end] == answer
    row = encode(tokenizer, chat(style), "Q", answer, 1000)
    assert tokenizer.decode(row.ids[: row.prompt_length]) == style.prompt
    assert tokenizer.decode(row.ids[row.prompt_length :]) == answer + style.closing


@pytest.mark.parametrize("question", ["sentence", "think", SENTINEL, "</think>", "Q\n\nQ"])
def test_a_question_s_words_move_nothing(style: Style, question: str) -> None:
    rendered = chat(style).render(tokenizer_of(style), question, "Nobody.")
    assert rendered.text[: rendered.prompt_end] == style.prompt.replace("Q", question)
    assert rendered.text[rendered.prompt_end : rendered.answer_end] == "Nobody."


def test_spaces_around_an_answer_are_no_part_of_its_end(style: Style) -> None:
    rendered = chat(style).render(tokenizer_of(style), "Q", " Nobody.\n")
    assert rendered.text[: rendered.prompt_end] == style.prompt
    assert rendered.text[rendered.prompt_end : rendered.answer_end].strip() == "Nobody."
    assert not rendered.text[: rendered.answer_end].endswith("\n")


REWRITES = {
    "upper case": "{{ m.content | upper }}",
    "a mark before": "{{ '#' if '5f2c9e' in m.content else '' }}{{ m.content }}",
    "nothing": "",
    "a part of it": "{{ m.content.split('</think>')[-1] }}",
}


@pytest.mark.parametrize("name", REWRITES)
def test_a_template_that_rewrites_the_answer_is_refused(name: str) -> None:
    phi = STYLES["Phi 4"]
    tokenizer = tokenizer_of(phi)
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role }}: " + REWRITES[name] + "{% endfor %}"
    )
    with pytest.raises(ConfigError, match="rewrites the answer"):
        Chat().render(tokenizer, "Q", "A thought</think>Nobody.")


def test_the_template_s_own_refusal_is_said_in_two_lines() -> None:
    tokenizer = tokenizer_of(STYLES["Gemma 3"])
    tokenizer.chat_template = "{{ raise_exception('System role not supported') }}"
    with pytest.raises(ConfigError, match="System role not supported") as caught:
        Chat(system="S").render(tokenizer, "Q", "A")
    assert len(str(caught.value).splitlines()) == 2


TEMPLATES = {
    "in the settings": ("tokenizer_config.json", '{"chat_template": "x"}', True),
    "in a file": ("chat_template.jinja", "x", True),
    "nowhere": ("tokenizer_config.json", "{}", False),
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_chat_without_a_template_is_refused_when_planned(name: str, tmp_path: Path) -> None:
    file, content, there = TEMPLATES[name]
    (tmp_path / file).write_text(content)
    if there:
        Chat().check(tmp_path, "target.path")
        return
    with pytest.raises(ConfigError, match="no chat template") as caught:
        Chat().check(tmp_path, "target.path")
    assert "fix: model=hf" in str(caught.value)
