"""Prompting by the tokenizer's own chat template."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unlearn_runner.data.prompts import Prompting, Rendered
from unlearn_runner.errors import ConfigError

SENTINEL = "The answer 5f2c9e stands here"
"""A text in an answer's place; words that no template writes, and none strips or splits."""


@dataclass(frozen=True)
class Chat(Prompting):
    """Prompting as a conversation of one question and one answer, by the chat template."""

    system: str | None = None
    """System prompt; null leaves it out (some templates, Gemma's, know none)."""
    date: str | None = None
    """What the template writes as today's date, where it writes one. A fixed date, because the
    tokens, and so every score, would otherwise change from day to day."""

    def check(self, folder: Path, key: str) -> None:
        """Refuses a folder whose tokenizer has no chat template."""
        files = ("chat_template.jinja", "chat_template.json", "additional_chat_templates")
        settings = folder / "tokenizer_config.json"
        if any((folder / name).exists() for name in files):
            return
        if not settings.is_file() or '"chat_template"' not in settings.read_text("utf-8"):
            raise ConfigError(
                f"{key}={folder}: model.template is a chat, but the tokenizer there has no chat "
                "template",
                "model=hf (a plain prompt), or a model that was tuned to chat",
            )

    def render(self, tokenizer: Any, question: str, answer: str) -> Rendered:
        """Returns the whole conversation; the prompt is all that stands before the answer.

        Where that is, the template says itself, by what it writes around a sentinel: the answer is
        never looked for among markup that may hold its words. So an empty chain of thought that the
        template puts in front belongs to the prompt.

        Raises:
            ConfigError: If the tokenizer has no chat template, or one that cannot take this
                conversation.
        """
        whole = self._conversation(tokenizer, question, answer)
        before, found, behind = self._conversation(tokenizer, question, SENTINEL).rpartition(
            SENTINEL
        )
        middle = whole[len(before) : len(whole) - len(behind)]
        # Templates strip what they are given.
        if not found or before + middle + behind != whole or middle.strip() != answer.strip():
            raise ConfigError(
                "model.template: the tokenizer's chat template rewrites the answer, so it cannot "
                f"be scored: {answer[:60]!r}",
                "model.template._target_=unlearn_runner.data.prompts.Template with a plain prompt",
            )
        end = len(before) + len(middle.rstrip())
        return Rendered(whole, len(before), end, special_tokens=False)

    def _conversation(self, tokenizer: Any, question: str, answer: str) -> str:
        turns = [{"role": "system", "content": self.system}] if self.system is not None else []
        turns.append({"role": "user", "content": question})
        turns.append({"role": "assistant", "content": answer})
        # For models that can think: some templates tell them whether to.
        settings = {"enable_thinking": False} | ({"date_string": self.date} if self.date else {})
        try:
            return tokenizer.apply_chat_template(turns, tokenize=False, **settings)
        except Exception as error:  # jinja's own errors, and the tokenizer's for having none
            reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
            raise ConfigError(
                f"model.template: the tokenizer's chat template cannot be used: {reason}",
                "model.template.system=null, or a plain model.template with prompt and answer",
            ) from None
