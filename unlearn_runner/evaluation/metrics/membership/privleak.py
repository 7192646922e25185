"""PrivLeak: distance of a membership attack's AUC from the retain model's (MUSE, 2024)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import numpy as np
from annotated_types import Ge, Le

from unlearn_runner.evaluation.metrics.base import Metric, MetricInputs, Sample
from unlearn_runner.evaluation.metrics.evidence import Floats
from unlearn_runner.evaluation.metrics.membership.attacks import Attack, MinK
from unlearn_runner.evaluation.metrics.membership.auc import auc
from unlearn_runner.evaluation.schema import Goal, Role, View

EPS = 1e-10  # open-unlearning


def privleak(model: Floats, retain_model: Floats) -> Floats:
    """Returns 100 ((1 - AUC) - (1 - AUC_retain)) / (1 - AUC_retain), from both AUCs.

    0 is no leak, -100 the fine-tuned model's, and what looks less like a training row than to the
    retain model is above 0, without bound as AUC_retain nears 1.
    """
    return 100 * ((1 - model) - (1 - retain_model)) / (1 - retain_model + EPS)


@dataclass(frozen=True)
class PrivLeak(Metric):
    """PrivLeak, the two AUCs it is made of, and how far apart they are."""

    attack: Attack = field(default_factory=MinK)
    retain_auc: Annotated[float, Ge(0), Le(1)] | None = None
    """AUC to compare with where there is no evidence of a retain model; null gives no score then.
    open-unlearning takes 0.5, MUSE its own retrained models': 0.5228 on News, 0.4607 on Books."""

    needs_retain_model: ClassVar[bool] = True

    def score(self, name: str, inputs: MetricInputs) -> dict[str, float | None]:
        """Returns `<name>`, `<name>_auc`, `<name>_auc_retain`, and `<name>_gap`, |difference|."""
        retain_model = inputs.retain_model
        mine = self.attack.attacked(inputs.model, retain_model)
        theirs = None
        if retain_model is not None:  # on the rows that are scored, which may be a part
            theirs = self.attack.attacked(retain_model.within(inputs.model), None)
        found: dict[str, Any] = dict.fromkeys(self._names(name))
        if mine is not None:
            found[f"{name}_auc"] = own = auc(mine.members, mine.others)
            given = self.retain_auc if theirs is None else auc(theirs.members, theirs.others)
            if given is not None:
                both = (np.array(own), np.array(given))
                found |= dict(zip(self._names(name), self._values(*both), strict=True))
        return {key: None if value is None else float(value) for key, value in found.items()}

    def sampled(self, name: str, sample: Sample) -> dict[str, Floats]:
        """Returns them where both models answered the same rows, which are drawn alike."""
        if sample.retain_model is None:
            return {}
        mine = self.attack.attacked(sample.model, sample.retain_model)
        theirs = self.attack.attacked(sample.retain_model, None)
        if mine is None or theirs is None:
            return {}
        if not all(self._same_rows(sample, view) for view in {*mine.views, *theirs.views}):
            return {}  # a log of some of the rows, or in another order
        both = mine.sampled(sample), theirs.sampled(sample)
        return dict(zip(self._names(name), self._values(*both), strict=True))

    def _same_rows(self, sample: Sample, view: str) -> bool:
        assert sample.retain_model is not None
        both = (sample.model.views.get(view), sample.retain_model.views.get(view))
        keys = [range(v.rows) if v.keys is None else v.keys for v in both if v is not None]
        return len(keys) == 2 and tuple(keys[0]) == tuple(keys[1])

    def _names(self, name: str) -> tuple[str, ...]:
        return (name, f"{name}_auc", f"{name}_auc_retain", f"{name}_gap")

    def _values(self, model: Floats, retain_model: Floats) -> tuple[Floats, ...]:
        leak = privleak(model, retain_model)
        return leak, model, retain_model, np.abs(model - retain_model)

    @property
    def named_views(self) -> dict[str, str]:
        """Those of its attack."""
        return {f"attack.{setting}": view for setting, view in self.attack.named_views.items()}

    def needs(self, view: View) -> tuple[Role, ...]:
        """Returns nothing: every row has its answer."""
        return ()

    def higher_is_better(self, score: str, goal: Goal | None) -> bool:
        """Returns true for PrivLeak itself, whose leaks are negative; above 0 it is no better."""
        return not score.endswith(("_auc", "_auc_retain", "_gap"))
