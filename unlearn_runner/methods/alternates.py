"""Alternates: other answers to forget questions, sampled from the start model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt


@dataclass(frozen=True)
class Alternates:
    """How other answers are sampled from the start model."""

    number: Annotated[int, Ge(1)] = 5
    """Per question."""
    temperature: Annotated[float, Gt(0)] = 1.0
    """Of sampling. An alternate that repeats the answer is drawn again, hotter."""
    instruction: str = "{question}"
    """What the model is asked, with {question} and {answer} filled in. A model that follows
    instructions can be asked for an answer with other facts; a plain one is just asked again."""
    max_new_tokens: Annotated[int, Ge(1)] = 100
