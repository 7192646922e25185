"""Prompt templates: how questions and answers become text."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Rendered:
    """One question and its answer as the text a model sees."""

    text: str
    """Prompt, answer, and whatever a chat template writes behind the answer."""
    prompt_end: int
    """Characters of `text` that are prompt; what follows is scored."""
    answer_end: int
    """Characters of `text` up to the end of the answer."""
    special_tokens: bool
    """Whether the tokenizer is to add its own (a beginning of sequence); chat templates write
    theirs into the text."""
    closed: bool = True
    """Whether an end of sequence, or of a turn, follows the answer and is scored."""
    ids: tuple[int, ...] | None = None
    """Token ids in the text's place, all but the first scored."""
    limit: int | None = None
    """Only the first so many tokens; none takes all."""


@dataclass(frozen=True)
class Prompting(ABC):
    """Base class of prompt templates; a component of the `model` group."""

    def check(self, folder: Path, key: str) -> None:
        """Refuses, when a run is planned, a model's folder that lacks what the prompting needs.

        Raises:
            ConfigError: If it does, naming `key`, the setting that names the folder.
        """
        return

    @abstractmethod
    def render(self, tokenizer: Any, question: str, answer: str) -> Rendered:
        """Returns the text of one row."""


@dataclass(frozen=True)
class Template(Prompting):
    """Plain text around question and answer.

    The space between them belongs to the answer: byte-level tokenizers put a word's leading space
    into the word's token, and a prompt that ends in a space would be tokenised differently alone
    and in front of an answer.
    """

    prompt: str = "Question: {question}\nAnswer:"
    answer: str = " {answer}"

    def render(self, tokenizer: Any, question: str, answer: str) -> Rendered:
        """Returns prompt and answer, the tokenizer's own special tokens to be added."""
        prompt, continuation = self.texts(question, answer)
        whole = prompt + continuation
        return Rendered(whole, len(prompt), len(whole), special_tokens=True)

    def texts(self, question: str, answer: str) -> tuple[str, str]:
        """Returns prompt and continuation."""
        # Not str.format: a question may contain braces.
        prompt = self.prompt.replace("{question}", question)
        return prompt, self.answer.replace("{answer}", answer)
