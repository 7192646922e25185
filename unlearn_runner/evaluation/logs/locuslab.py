"""TOFU's logs (`eval_log_aggregated.json` of its repository).

Four parts, each {statistic: {row: value}}, or {statistic: [value, ...]} as older revisions and the
authors of NPO and SimNPO have it; losses are mean token NLLs with the end of sequence
counted. The right answer of truth ratios is the paraphrased one in every part: on real authors and
world facts that is the answer itself, scored a second time in batches of another size, and the
two losses differ by rounding up to 0.1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from unlearn_runner.errors import DataError
from unlearn_runner.evaluation.logs.base import FORGET, Log
from unlearn_runner.evaluation.logs.columns import Column, column, same_rows
from unlearn_runner.evaluation.metrics.evidence import Record, Texts
from unlearn_runner.evaluation.schema import Role

PARTS = {
    "retain": "eval_log.json",
    "real_authors": "eval_real_author_wo_options.json",
    "world_facts": "eval_real_world_wo_options.json",
    FORGET: "eval_log_forget.json",
}


ROLES: dict[str, tuple[str, Callable[[Column], list[list[float]]]]] = {
    "answer": ("avg_gt_loss", Column.number),
    "paraphrased": ("avg_paraphrased_loss", Column.number),
    "perturbed": ("average_perturb_loss", Column.numbers),
}
TEXTS, ROUGE = "generated_text", "rougeL_recall"
STATISTICS = {name for name, _ in ROLES.values()} | {TEXTS, ROUGE}


@dataclass(frozen=True)
class Locuslab(Log):
    """One `eval_log_aggregated.json`."""

    format: ClassVar[str] = "locuslab"

    @staticmethod
    def recognises(content: Any) -> bool:
        """Returns whether any of the four parts is there."""
        return any(part in content for part in PARTS.values())

    def right(self, view: str) -> Role:
        """Returns the paraphrased answer."""
        return "paraphrased"

    def record(self, view: str) -> Record:
        """Returns losses, texts and ROUGE of one view."""
        part = PARTS[view]
        if not isinstance(statistics := self.content.get(part, {}), dict):
            raise DataError(
                f"{self.path}: the part '{part}' is not an object of statistics",
                f"an aggregated TOFU log holds {', '.join(PARTS.values())}",
            )
        known = {
            name: column(self.path, f"{part}.{name}", values)
            for name, values in statistics.items()
            if name in STATISTICS
        }
        if known:
            same_rows(known.values())
        return _values(known)


def _values(known: dict[str, Column]) -> Record:
    texts = recalls = None
    if TEXTS in known:
        triples = [known[TEXTS].item(i, of=3).texts() for i in range(3)]
        texts = Texts(*triples)
    if ROUGE in known:
        recalls = [row[0] for row in known[ROUGE].number()]
    losses = {role: read(known[name]) for role, (name, read) in ROLES.items() if name in known}
    return Record(losses, texts=texts, recalls=recalls)
