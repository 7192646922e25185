"""Scores that open-unlearning records row by row, which need tokens to be computed again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from unlearn_runner.evaluation.logs.base import FORGET, HOLDOUT, UNSEEN
from unlearn_runner.evaluation.logs.columns import Column, column, same_rows
from unlearn_runner.evaluation.schema import View

MEMORISATION = ("exact_memorization", "extraction_strength")
ATTACKS = ("loss", "zlib", "min_k", "min_k_plus_plus", "reference", "gradnorm")
ROWS = "value_by_index"


def scored(path: Path, content: Mapping[str, Any], names: Iterable[str]) -> dict[str, Column]:
    """Returns the scores of the forget rows by metric, of those that have a score per row.

    A name is looked for as it is, and behind `forget_`.
    """
    found = {}
    for name in names:
        key = name if name in content else f"{FORGET}_{name}"
        metric = content.get(key)
        if isinstance(metric, dict) and ROWS in metric:
            found[name] = column(path, key, metric[ROWS]).field("score")
    return found


def attacks(path: Path, content: Mapping[str, Any], side: str) -> dict[str, list[float]]:
    """Returns the scores of membership attacks on one side, `forget` or `holdout`, by attack."""
    found = {}
    for name in (f"mia_{attack}" for attack in ATTACKS):
        metric = content.get(name)
        rows = metric.get(side) if isinstance(metric, dict) else None
        if isinstance(rows, dict) and ROWS in rows:
            found[name] = column(path, f"{name}.{side}", rows[ROWS]).field("score")
    same_rows(found.values())
    return {name: scores.known() for name, scores in found.items()}


def unseen(content: Mapping[str, Any]) -> dict[str, View]:
    """Returns the view of unseen rows, where an attack recorded their scores."""
    metrics = (content.get(f"mia_{attack}") for attack in ATTACKS)
    there = any(isinstance(metric, dict) and HOLDOUT in metric for metric in metrics)
    return {HOLDOUT: UNSEEN} if there else {}
