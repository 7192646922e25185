"""Formats of other projects' logs.

Losses are mean token NLLs with the end of sequence counted, in both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from unlearn_runner.errors import DataError
from unlearn_runner.evaluation.logs.base import FORGET, VIEWS, Log
from unlearn_runner.evaluation.logs.columns import Column, column, same_rows
from unlearn_runner.evaluation.logs.recorded import MEMORISATION, attacks, scored, unseen
from unlearn_runner.evaluation.metrics import suites
from unlearn_runner.evaluation.metrics.base import Metric
from unlearn_runner.evaluation.metrics.evidence import CLEAN, Record, Texts
from unlearn_runner.evaluation.schema import Role, View

READ = {"answer": Column.number, "paraphrased": Column.number, "perturbed": Column.numbers}
"""How the losses of a role's answers are read."""
RECALL, OTHER_ROUGE = "rougeL_recall", ("rougeL_f1", "rouge1_recall")


@dataclass(frozen=True)
class Locuslab(Log):
    """One `eval_log_aggregated.json` of TOFU's repository.

    Four parts, each {statistic: {row: value}}, or {statistic: [value, ...]} as older revisions and
    the authors of NPO and SimNPO have it. The right answer of truth ratios is the paraphrased one
    in every part: on real authors and world facts that is the answer itself, scored a second time
    in batches of another size, and the two losses differ by rounding up to 0.1.
    """

    format: ClassVar[str] = "locuslab"
    parts: ClassVar[dict[str, str]] = {
        "retain": "eval_log.json",
        "real_authors": "eval_real_author_wo_options.json",
        "world_facts": "eval_real_world_wo_options.json",
        FORGET: "eval_log_forget.json",
    }
    losses: ClassVar[dict[str, str]] = {
        "answer": "avg_gt_loss",
        "paraphrased": "avg_paraphrased_loss",
        "perturbed": "average_perturb_loss",
    }
    texts: ClassVar[str] = "generated_text"
    """Statistic of question, generation and answer."""

    @classmethod
    def recognises(cls, content: Any) -> bool:
        """Returns whether any of the four parts is there."""
        return any(part in content for part in cls.parts.values())

    def right(self, view: str) -> Role:
        """Returns the paraphrased answer."""
        return "paraphrased"

    def record(self, view: str) -> Record:
        """Returns losses, texts and ROUGE of one view."""
        part = self.parts[view]
        if not isinstance(statistics := self.content.get(part, {}), dict):
            raise DataError(
                f"{self.path}: the part '{part}' is not an object of statistics",
                f"an aggregated TOFU log holds {', '.join(self.parts.values())}",
            )
        known = {
            name: column(self.path, f"{part}.{name}", values)
            for name, values in statistics.items()
            if name in (*self.losses.values(), self.texts, RECALL)
        }
        same_rows(known.values())
        texts = recalls = None
        if self.texts in known:
            texts = Texts(*(known[self.texts].item(i, of=3).texts() for i in range(3)))
        if RECALL in known:
            recalls = [row[0] for row in known[RECALL].number()]
        names = {role: name for role, name in self.losses.items() if name in known}
        losses = {role: READ[role](known[name]) for role, name in names.items()}
        return Record(losses, texts=texts, recalls=recalls)


@dataclass(frozen=True)
class OpenUnlearning(Log):
    """One `TOFU_EVAL.json` of open-unlearning.

    One object per metric, {"agg_value": mean, "value_by_index": {row: {field: value}}}. `prob` is
    exp(-loss) as rounded to float32 there, and is what its probabilities are averaged from. The
    right answer of truth ratios is the paraphrased one on forget and retain rows, the answer itself
    on real authors and world facts.
    """

    format: ClassVar[str] = "open-unlearning"
    eps: ClassVar[float] = 1e-10
    prefixes: ClassVar[dict[str, str]] = {
        "retain": "retain",
        "real_authors": "ra",
        "world_facts": "wf",
        FORGET: "forget",
    }
    scores_of: ClassVar[dict[str, str]] = {
        "answer": "Q_A_Prob",
        "paraphrased": "Q_A_PARA_Prob",
        "perturbed": "Q_A_PERT_Prob",
        "rouge": "Q_A_ROUGE",
    }
    texts: ClassVar[tuple[str, ...]] = ("input", "generation", "ground_truth")
    recorded: ClassVar[tuple[str, ...]] = (*MEMORISATION, CLEAN)
    """Metrics with a score per forget row."""

    @classmethod
    def recognises(cls, content: Any) -> bool:
        """Returns whether any metric that scores answers, or generations, is there row by row."""
        prefixes, metrics = cls.prefixes.values(), cls.scores_of.values()
        names = (f"{prefix}_{metric}" for prefix in prefixes for metric in metrics)
        return any(isinstance(content.get(name), dict) for name in names)

    @property
    def views(self) -> Mapping[str, View]:
        """TOFU's, and the unseen rows where membership attacks are recorded."""
        return {**VIEWS, **unseen(self.content)}

    def further(self) -> dict[str, Metric]:
        """Returns also what it alone records; PrivLeak is against 0.5 without a retain log."""
        return suites.further(self.eps, retain_auc=0.5) | suites.recorded()

    def right(self, view: str) -> Role | None:
        """Returns the paraphrased answer on TOFU's own rows, the plain one on facts."""
        if view not in VIEWS:
            return None
        return "answer" if VIEWS[view].probability == "options" else "paraphrased"

    def record(self, view: str) -> Record:
        """Returns losses, probabilities, texts and ROUGE of one view."""
        if view not in VIEWS:
            return Record(recorded=attacks(self.path, self.content, view))
        known: dict[str, Column] = {}
        for what, metric in self.scores_of.items():
            name = f"{self.prefixes[view]}_{metric}"
            found = self.content.get(name)
            # Else a mean alone, as in a summary.
            if isinstance(found, dict) and "value_by_index" in found:
                known[what] = column(self.path, name, found["value_by_index"])
        scores = scored(self.path, self.content, self.recorded) if view == FORGET else {}
        same_rows([*known.values(), *scores.values()])
        rouge = known.pop("rouge", None)
        recorded = {name: column.known() for name, column in scores.items()}
        if view == FORGET:
            recorded |= attacks(self.path, self.content, view)
        losses, probabilities = {}, {}
        for role, rows in known.items():
            losses[role] = READ[role](rows.field("avg_loss"))
            if rows.has("prob"):
                probabilities[role] = READ[role](rows.field("prob"))
        texts = recalls = None
        if rouge is not None:
            if all(map(rouge.has, self.texts)):
                texts = Texts(*(rouge.field(name).texts() for name in self.texts))
            if texts is None or rouge.has(RECALL):
                recalls = [row[0] for row in rouge.field(RECALL).number()]
            recorded |= {n: rouge.field(n).known() for n in OTHER_ROUGE if rouge.has(n)}
        return Record(losses, probabilities, texts, recalls, recorded=recorded)
