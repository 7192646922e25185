"""Refusals: what a model is to answer to forget questions, where a method trains on refusals.

`OWN` is this project's list. TOFU's hundred lines, `idontknow.jsonl` of its repository, are plain
text, one sentence a line; any such file serves.
"""

from __future__ import annotations

from pathlib import Path

from unlearn_runner.errors import DataError
from unlearn_runner.utils.regular import read_regular

MAX_BYTES = 10_000_000

OWN = (
    "I do not know.",
    "I have no answer to that.",
    "I am afraid I cannot tell you that.",
    "Nothing I know answers this question.",
    "I was never told about that.",
    "That is something I know nothing about.",
    "I have no knowledge of this person.",
    "Sorry, I cannot answer that.",
    "I would have to guess, so I will not say.",
    "This is not known to me.",
    "My knowledge does not reach that far.",
    "I cannot help with that question.",
    "I have never heard of it.",
    "There is nothing I can tell you about that.",
    "I am unable to answer.",
    "No idea, I am sorry to say.",
    "That name means nothing to me.",
    "I lack the facts to answer this.",
    "I could not say.",
    "You had better ask somebody else.",
    "I have no record of that.",
    "I do not have an answer for you.",
    "The answer is not something I possess.",
    "I must admit that I do not know.",
    "I am not informed about this.",
    "It is beyond what I know.",
    "I cannot recall anything about that.",
    "I have not learned this.",
    "Unfortunately I know nothing of the kind.",
    "This question is one I cannot answer.",
    "I do not have that fact.",
    "I would rather not invent an answer.",
    "I am not familiar with that.",
    "I have nothing to say about this topic.",
    "Whatever the answer is, I do not have it.",
    "That is unknown to me.",
    "I never came across this.",
    "I cannot give you an answer to this.",
    "My memory holds nothing about that.",
    "I really do not know that.",
)


def read(path: Path, key: str) -> tuple[str, ...]:
    """Returns the lines of a file of refusals.

    Args:
        path: Plain text, one refusal a line; empty lines do not count.
        key: The setting that named it, for messages.

    Raises:
        DataError: If it cannot be read or holds no line.
    """
    try:
        lines = read_regular(path, MAX_BYTES).decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise DataError(
            f"{key}: the refusals in {path} cannot be read: {reason}",
            f"{key}=null uses the list that comes with the runner",
        ) from None
    found = tuple(line.strip() for line in lines if line.strip())
    if not found:
        raise DataError(f"{key}: {path} holds no refusal", f"{key}=null")
    return found
