"""Classifier of generated texts: the probability that each is clean, by a model the user names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from unlearn_runner.models.load import load_classifier
from unlearn_runner.utils.progress import progress

CLEAN = 0  # class of clean text, of open-unlearning's classifier
MAX_TOKENS = 32  # of a text, as there
ROWS = 32  # texts per forward pass


@torch.no_grad()
def clean_probabilities(
    folder: Path, texts: Sequence[str], device: torch.device, title: str
) -> list[float]:
    """Returns the probability of a classifier's first class for each text's first 32 tokens.

    Raises:
        DataError: If the folder holds no classifier that is whole.
    """
    (model, tokenizer), found = load_classifier(folder, device), list[float]()
    with progress(title, len(texts)) as tick:
        for start in range(0, len(texts), ROWS):
            batch = list(texts[start : start + ROWS])
            given = tokenizer(
                batch, return_tensors="pt", padding=True, truncation=True, max_length=MAX_TOKENS
            )
            logits = model(**given.to(device)).logits
            found += logits.softmax(-1)[:, CLEAN].tolist()
            tick(len(batch))
    return found
