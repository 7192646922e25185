"""open-unlearning's logs (`TOFU_EVAL.json`).

One object per metric, {"agg_value": mean, "value_by_index": {row: {field: value}}}. Losses are mean
token NLLs with the end of sequence counted; `prob` is exp(-loss) as rounded to float32 there, and
is what its probabilities are averaged from. The right answer of truth ratios is the paraphrased one
on forget and retain rows, the answer itself on real authors and world facts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from unlearn_runner.evaluation.logs.base import FORGET, VIEWS, Log
from unlearn_runner.evaluation.logs.columns import Column, column, same_rows
from unlearn_runner.evaluation.metrics.evidence import Record, Texts
from unlearn_runner.evaluation.schema import Role

PREFIXES = {"retain": "retain", "real_authors": "ra", "world_facts": "wf", FORGET: "forget"}
ROWS = "value_by_index"

ROLES: dict[str, tuple[str, Callable[[Column], list[list[float]]]]] = {
    "answer": ("Q_A_Prob", Column.number),
    "paraphrased": ("Q_A_PARA_Prob", Column.number),
    "perturbed": ("Q_A_PERT_Prob", Column.numbers),
}
ROUGE = "Q_A_ROUGE"
METRICS = (*(name for name, _ in ROLES.values()), ROUGE)
TEXTS = ("input", "generation", "ground_truth")


@dataclass(frozen=True)
class OpenUnlearning(Log):
    """One `TOFU_EVAL.json`."""

    format: ClassVar[str] = "open-unlearning"
    eps: ClassVar[float] = 1e-10

    @staticmethod
    def recognises(content: Any) -> bool:
        """Returns whether any metric that scores answers, or generations, is there row by row."""
        names = (f"{prefix}_{metric}" for prefix in PREFIXES.values() for metric in METRICS)
        return any(isinstance(content.get(name), dict) for name in names)

    def right(self, view: str) -> Role:
        """Returns the paraphrased answer on TOFU's own rows, the plain one on facts."""
        return "answer" if VIEWS[view].probability == "options" else "paraphrased"

    def record(self, view: str) -> Record:
        """Returns losses, probabilities, texts and ROUGE of one view."""
        known: dict[str, Column] = {}
        for metric in METRICS:
            name = f"{PREFIXES[view]}_{metric}"
            found = self.content.get(name)
            if isinstance(found, dict) and ROWS in found:  # else a mean alone, as in a summary
                known[metric] = column(self.path, name, found[ROWS])
        if known:
            same_rows(known.values())
        losses, probabilities = {}, {}
        for role, (metric, read) in ROLES.items():
            if metric in known:
                losses[role] = read(known[metric].field("avg_loss"))
                if _has(known[metric], "prob"):
                    probabilities[role] = read(known[metric].field("prob"))
        return Record(losses, probabilities, *_generated(known.get(ROUGE)))


def _has(rows: Column, name: str) -> bool:
    """Whether the first row has a field; the others must then, too."""
    first = next(iter(rows.values.values()))
    return isinstance(first, dict) and name in first


def _generated(rows: Column | None) -> tuple[Texts | None, list[float] | None]:
    texts = recalls = None
    if rows is not None:
        if all(_has(rows, name) for name in TEXTS):
            texts = Texts(*(rows.field(name).texts() for name in TEXTS))
        if texts is None or _has(rows, "rougeL_recall"):
            recalls = [row[0] for row in rows.field("rougeL_recall").number()]
    return texts, recalls
