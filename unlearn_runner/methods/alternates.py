"""Alternates: other answers to forget questions, sampled from the start model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt, Le


@dataclass(frozen=True)
class Alternates:
    """Settings of sampling other answers from the start model."""

    number: Annotated[int, Ge(1), Le(1000)] = 5
    """Number of alternates per question."""
    temperature: Annotated[float, Gt(0), Le(1000)] = 1.0
    """Temperature of sampling. An alternate that repeats the answer is drawn again, hotter."""
    instruction: str = "{question}"
    """Prompt of the model, with {question} and {answer} filled in. A model that follows
    instructions can be told to change facts; a plain one gets the question again."""
    max_new_tokens: Annotated[int, Ge(1), Le(1048576)] = 100
