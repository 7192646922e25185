"""What a model is before it is loaded: where its base comes from and how it is prompted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

from unlearn_runner.data.rows import Rows
from unlearn_runner.stages.base import Stage


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
class Model(ABC):
    """Base class of models."""

    template: Template = field(default_factory=Template)

    @abstractmethod
    def base(self, full: Rows, pretrain: Rows, seed: int) -> Stage:
        """Returns the stage whose artifact holds the model to fine-tune, and its tokenizer.

        Args:
            full: The benchmark's training rows; a from-scratch tokenizer is made for them.
            pretrain: Rows that stand in for a pre-training corpus.
            seed: Seed of the initial weights and of pre-training.
        """
