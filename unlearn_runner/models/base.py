"""What a model is before it is loaded: where its base comes from and how it is prompted."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Template:
    """How a question and its answer become text.

    The space between them belongs to the answer: byte-level tokenizers put a word's leading space
    into the word's token, and a prompt that ends in a space would be tokenised differently alone
    and in front of an answer.
    """

    prompt: str = "Question: {question}\nAnswer:"
    answer: str = " {answer}"

    def texts(self, question: str, answer: str) -> tuple[str, str]:
        """Returns prompt and continuation."""
        # Not str.format: a question may contain braces.
        prompt = self.prompt.replace("{question}", question)
        return prompt, self.answer.replace("{answer}", answer)


@dataclass(frozen=True)
class Model:
    """Base class of models; the plan knows which stage makes each kind's base."""

    template: Template = field(default_factory=Template)
