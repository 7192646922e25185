"""Prompting by the tokenizer's own chat template."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from unlearn_runner.data.prompts import Prompting, Rendered
from unlearn_runner.errors import ConfigError


@dataclass(frozen=True)
class Chat(Prompting):
    """Prompting as a conversation of one question and one answer, by the chat template."""

    system: str | None = None
    """System prompt; null leaves it out (some templates, Gemma's, know none)."""
    date: str | None = None
    """What the template writes as today's date, where it writes one. A fixed date, because the
    tokens, and so every score, would otherwise change from day to day."""

    def render(self, tokenizer: Any, question: str, answer: str) -> Rendered:
        """Returns the whole conversation; the prompt ends where the answer is to begin.

        Raises:
            ConfigError: If the tokenizer has no chat template, or one that cannot take this
                conversation.
        """
        turns = [{"role": "system", "content": self.system}] if self.system is not None else []
        turns.append({"role": "user", "content": question})
        prompt = self._apply(tokenizer, turns, add_generation_prompt=True)
        whole = self._apply(tokenizer, [*turns, {"role": "assistant", "content": answer}])
        # Templates strip what they are given, and some write more into a finished turn than into
        # the prompt for one (an empty chain of thought, say): then the answer itself is looked for.
        begins = whole.startswith(prompt)
        start = len(prompt) if begins else whole.rfind(answer.strip())
        if start < 0:
            raise ConfigError(
                "model.template: the tokenizer's chat template rewrites the answer, so it cannot "
                "be scored",
                "model.template._target_=unlearn_runner.data.prompts.Template with a plain prompt",
            )
        end = whole.find(answer.strip(), start) + len(answer.strip())
        return Rendered(whole, start, end, special_tokens=False)

    def _apply(self, tokenizer: Any, turns: list[dict[str, str]], **more: Any) -> str:
        dated = {} if self.date is None else {"date_string": self.date}
        try:
            return tokenizer.apply_chat_template(turns, tokenize=False, **dated, **more)
        except Exception as error:  # jinja's own errors, and the tokenizer's for having none
            reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
            raise ConfigError(
                f"model.template: the tokenizer's chat template cannot be used: {reason}",
                "model.template.system=null, or a plain model.template with prompt and answer",
            ) from None
