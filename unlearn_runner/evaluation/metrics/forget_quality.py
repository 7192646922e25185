"""Forget quality: a test of unlearned against retain-only model on the forget rows (TOFU)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, cast

import numpy as np
from annotated_types import Ge

from unlearn_runner.evaluation.metrics.base import Metric, MetricInputs
from unlearn_runner.evaluation.metrics.evidence import Floats
from unlearn_runner.evaluation.metrics.truth_ratio import Mean, view_ratio
from unlearn_runner.evaluation.schema import Goal, Role, View


def forget_quality(ratio: Floats, retain_model: Floats) -> tuple[float, float]:
    """Returns p-value and statistic of the two-sided two-sample Kolmogorov-Smirnov test.

    Args:
        ratio: Truth ratio R per forget row of the unlearned model.
        retain_model: The same rows under the retain-only model.

    The p-value is scipy's default, exact at benchmark sizes; the statistic is reported with it
    because p-values of different numbers of rows cannot be compared.
    """
    from scipy.stats import ks_2samp

    # A named tuple that scipy builds at run time, which type checkers cannot see into.
    statistic, pvalue = cast(tuple[float, float], ks_2samp(ratio, retain_model))
    return float(pvalue), float(statistic)


@dataclass(frozen=True)
class ForgetQuality(Metric):
    """KS test of the truth ratios on the rows to be forgotten, against the retain-only model."""

    mean: Mean = "geometric"
    eps: Annotated[float, Ge(0)] = 0.0
    """Added to the right answer's probability on both sides: 1e-10 in open-unlearning."""

    needs_retain_model: ClassVar[bool] = True

    def score(self, name: str, inputs: MetricInputs) -> dict[str, float | None]:
        """Returns `<name>` (p-value) and `<name>_ks` (statistic), over the rows both have."""
        nothing: dict[str, float | None] = {name: None, f"{name}_ks": None}
        forget = [view.name for view in inputs.model.views.values() if view.goal == "forget"]
        if inputs.retain_model is None or not forget:
            return nothing
        model, retain_model = inputs.model.views[forget[0]], inputs.retain_model.views[forget[0]]
        mine = view_ratio(model, self.mean, self.eps)
        theirs = view_ratio(retain_model, self.mean, self.eps)
        here, there = model.shared(retain_model)
        if mine is None or theirs is None or not len(here):
            return nothing
        pvalue, statistic = forget_quality(mine[here], theirs[there])
        return {name: pvalue, f"{name}_ks": statistic}

    def needs(self, view: View) -> tuple[Role, ...]:
        """Returns what truth ratios compare, on the rows to be forgotten."""
        return ("answer", "perturbed") if view.goal == "forget" else ()

    def higher_is_better(self, score: str, goal: Goal | None) -> bool:
        """Returns true for the p-value; the statistic is a distance from the retain-only model."""
        return not score.endswith("_ks")


@dataclass(frozen=True)
class ForgetQualityLog10(ForgetQuality):
    """Logarithm of forget quality to base 10: a p-value near 0 says nothing beside another."""

    def score(self, name: str, inputs: MetricInputs) -> dict[str, float | None]:
        """Returns `<name>`; minus infinity where the p-value is no float above 0."""
        pvalue = super().score(name, inputs)[name]
        with np.errstate(divide="ignore"):
            return {name: None if pvalue is None else float(np.log10(pvalue))}
