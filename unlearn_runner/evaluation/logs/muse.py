"""MUSE_EVAL.json of open-unlearning: knowledge and verbatim memorisation, membership attacks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from unlearn_runner.evaluation.logs.base import FORGET, HOLDOUT, Log
from unlearn_runner.evaluation.logs.columns import column, same_rows
from unlearn_runner.evaluation.logs.recorded import MEMORISATION, ROWS, attacks, scored, unseen
from unlearn_runner.evaluation.metrics import suites
from unlearn_runner.evaluation.metrics.base import Metric
from unlearn_runner.evaluation.metrics.evidence import Record, Texts
from unlearn_runner.evaluation.metrics.rouge import KINDS, RougeL
from unlearn_runner.evaluation.metrics.truth_ratio import Mean
from unlearn_runner.evaluation.schema import View

VERBMEM = "forget_verbmem"
VIEWS = {
    "forget_knowmem": View("forget_knowmem", goal="forget"),
    "retain_knowmem": View("retain_knowmem"),
    VERBMEM: View(VERBMEM, goal="forget"),
}
TEXTS = ("input", "generation", "ground_truth")


@dataclass(frozen=True)
class Muse(Log):
    """One evaluation on MUSE. Exact memorisation and extraction strength are of verbatim rows.

    Membership attacks have rows of their own, `forget` and `holdout`.
    """

    format: ClassVar[str] = "open-unlearning MUSE"
    benchmark: ClassVar[str] = "MUSE"
    eps: ClassVar[float] = 1e-10
    has_texts: ClassVar[bool] = False

    @classmethod
    def recognises(cls, content: Any) -> bool:
        """Returns whether any ROUGE of MUSE's views is there."""
        return any(isinstance(content.get(f"{view}_ROUGE"), dict) for view in VIEWS)

    @property
    def views(self) -> Mapping[str, View]:
        """MUSE's three, and both sides of membership attacks where one is recorded."""
        sides = unseen(self.content)
        return {**VIEWS, **({FORGET: View(FORGET, goal="forget"), **sides} if sides else {})}

    def metrics(self, mean: Mean) -> dict[str, Metric]:
        """Returns MUSE's: ROUGE-L F1, memorisation, attacks, PrivLeak against 0.5 without a log."""
        more = suites.further(self.eps, retain_auc=0.5)
        names = ("exact_memorisation", "extraction_strength_published")
        chosen = {n: m for n, m in more.items() if n in names or n.startswith(("mia_", "priv"))}
        return {"rouge_l_f1": RougeL("rougeL_f1")} | chosen | suites.recorded()

    def further(self) -> dict[str, Metric]:
        """Returns ROUGE's other kinds."""
        return {"rouge_l": RougeL(), "rouge_1": RougeL("rouge1_recall")}

    def record(self, view: str) -> Record:
        """Returns what is recorded of one view."""
        if view in (FORGET, HOLDOUT):
            return Record(recorded=attacks(self.path, self.content, view))
        scores = scored(self.path, self.content, MEMORISATION) if view == VERBMEM else {}
        recorded = {name: column.known() for name, column in scores.items()}
        texts = None
        metric = self.content.get(f"{view}_ROUGE")
        if isinstance(metric, dict) and ROWS in metric:
            rouge = column(self.path, f"{view}_ROUGE", metric[ROWS])
            same_rows([rouge, *scores.values()])
            recorded |= {kind: rouge.field(kind).known() for kind in KINDS if rouge.has(kind)}
            if all(map(rouge.has, TEXTS)):
                texts = Texts(*(rouge.field(name).texts() for name in TEXTS))
        return Record(texts=texts, recorded=recorded)
