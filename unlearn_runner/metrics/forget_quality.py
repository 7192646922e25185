"""Forget quality: can the unlearned model be told from one that never saw the rows? (TOFU)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, cast

from unlearn_runner.metrics.base import Judged, Metric
from unlearn_runner.metrics.evidence import Floats
from unlearn_runner.metrics.truth_ratio import Mean, view_ratio


def forget_quality(ratio: Floats, reference: Floats) -> tuple[float, float]:
    """Returns p-value and statistic of the two-sided two-sample Kolmogorov-Smirnov test.

    Args:
        ratio: Truth ratio R per forget row of the unlearned model.
        reference: The same rows under the retain-only model.

    The p-value is scipy's default, exact at benchmark sizes; the statistic is reported with it
    because p-values of different numbers of rows cannot be compared.
    """
    from scipy.stats import ks_2samp

    # A named tuple that scipy builds at run time, which type checkers cannot see into.
    statistic, pvalue = cast(tuple[float, float], ks_2samp(ratio, reference))
    return float(pvalue), float(statistic)


@dataclass(frozen=True)
class ForgetQuality(Metric):
    """KS test of the truth ratios on the rows to be forgotten, against the retain-only model."""

    mean: Mean = "geometric"

    needs_reference: ClassVar[bool] = True

    def score(self, name: str, judged: Judged) -> dict[str, float | None]:
        """Returns `<name>` (p-value) and `<name>_ks` (statistic)."""
        forget = [view.name for view in judged.model.views.values() if view.goal == "forget"]
        if judged.reference is None or not forget:
            return {name: None, f"{name}_ks": None}
        mine = view_ratio(judged.model.views[forget[0]], self.mean)
        theirs = view_ratio(judged.reference.views[forget[0]], self.mean)
        pvalue, statistic = forget_quality(mine, theirs)
        return {name: pvalue, f"{name}_ks": statistic}
