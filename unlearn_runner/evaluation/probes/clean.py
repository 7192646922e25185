"""Classifier of generated texts: the probability that each is clean, by a model the user names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from unlearn_runner.errors import DataError, listed
from unlearn_runner.models.load import OWN_CODE
from unlearn_runner.models.quiet import quietly
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
        DataError: If the folder holds no classifier.
    """
    model, tokenizer = _load(folder)
    model, found = model.to(device).eval(), list[float]()
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


def _load(folder: Path) -> tuple[Any, Any]:
    try:
        with quietly():
            loaded: Any = AutoModelForSequenceClassification.from_pretrained(
                folder,
                dtype=torch.float32,
                use_safetensors=True,
                output_loading_info=True,
                **OWN_CODE,
            )
            tokenizer = AutoTokenizer.from_pretrained(folder, **OWN_CODE)
    except Exception as error:  # of many kinds, by what the files say
        raise _refused(folder, " ".join(str(error).split())[:160]) from None
    model, loading = loaded
    if loading["missing_keys"]:  # transformers has drawn them, and would classify at random
        raise _refused(folder, f"it lacks {listed(sorted(loading['missing_keys']), 3)}")
    return model, tokenizer


def _refused(folder: Path, reason: str) -> DataError:
    return DataError(
        f"evaluate.classifier={folder} is no classifier of texts: {reason}",
        "evaluate.classifier=FOLDER that AutoModelForSequenceClassification loads whole",
    )
