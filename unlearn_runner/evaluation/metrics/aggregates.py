"""Aggregate scores of the open-unlearning paper: Memorisation, Privacy, Utility, and one of all.

Dorna et al. 2025 (arXiv 2506.12618), appendix F. The code was not published, and the text leaves
open how memorisation is normalised and how closeness to the retain model's AUC is measured. So each
choice is a setting with a name: there is no default that is the paper's. What they come to on the
published models, beside what the paper prints, is in `docs/metrics.md`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from unlearn_runner.evaluation.metrics.utility import model_utility as harmonic_mean

Scores = Mapping[str, float | None]
Closeness = Literal["relative", "inverse", "exponential"]
Normalisation = Literal["none", "finetuned"]

MEMORISED = (
    "forget.extraction_strength_published",
    "forget.exact_memorisation",
    "forget.paraphrase_probability",
    "forget.truth_ratio_prob_mean",
)
ATTACKS = ("mia_loss", "mia_zlib", "mia_min_k", "mia_min_k_plus_plus")
UTILITY = "model_utility"
FLUENCY = ("forget.clean_text", "forget.fluency")
"""The paper's, a classifier's; else ours. The first that both models have is taken."""


def closeness(auc: float, retain_auc: float, variant: Closeness) -> float:
    """Returns how near an attack's AUC is to the retain model's; 1 where they are equal.

    Args:
        auc: Of the model.
        retain_auc: Of the retain model.
        variant: `relative` is max(0, 1 - |AUC - AUC_retain| / AUC_retain), as the authors of UDS
            compute it. `inverse` is 1 / (1 + 9.05 d), d = |AUC - AUC_retain| / (1 - AUC_retain),
            which is PrivLeak's; `exponential` is exp(-3.84 |AUC - AUC_retain|). The constants of
            both are of people who fitted them to the paper's 0.10 for the fine-tuned model.
    """
    gap = abs(auc - retain_auc)
    if variant == "relative":
        return max(0.0, 1 - _over(gap, retain_auc))
    if variant == "inverse":
        return 1 / (1 + 9.05 * _over(gap, 1 - retain_auc))
    return math.exp(-3.84 * gap)


def _over(gap: float, whole: float) -> float:
    if whole:
        return gap / whole
    return math.inf if gap else 0.0


@dataclass(frozen=True)
class Aggregation:
    """Named choices, and the scores that they come to. A score that lacks a part is none."""

    normalisation: Normalisation = "finetuned"
    """Memorisation as it is, or as a share of the fine-tuned model's, which is then 0."""
    closeness: Closeness = "inverse"
    clamp: bool = True
    """Whether a share of the fine-tuned model's score counts as 1 where it is above."""

    def memorisation(self, scores: Scores, finetuned: Scores) -> float | None:
        """Returns the harmonic mean of 1 - ES, 1 - EM, 1 - P(paraphrase), 1 - truth ratio.

        ES is the published form, truth ratio `prob_mean`; higher is less memorised.
        """
        shares = []
        for name in MEMORISED:
            value, whole = scores.get(name), finetuned.get(name)
            if self.normalisation == "none":
                whole = 1.0
            if value is None or whole is None:
                return None
            shares.append(self._share(value, whole))
        return harmonic_mean([float(np.maximum(0, 1 - share)) for share in shares])

    def privacy(self, scores: Scores, retain_model: Scores) -> float | None:
        """Returns the harmonic mean of the closeness of four attacks' AUCs."""
        found = []
        for name in ATTACKS:
            auc, retain_auc = scores.get(name), retain_model.get(name)
            if auc is None or retain_auc is None:
                return None
            found.append(closeness(auc, retain_auc, self.closeness))
        return harmonic_mean(found)

    def utility(self, scores: Scores, finetuned: Scores) -> float | None:
        """Returns the harmonic mean of model utility and fluency, as shares of the fine-tuned's."""
        both = [n for n in FLUENCY if scores.get(n) is not None and finetuned.get(n) is not None]
        shares = []
        for name in (UTILITY, *both[:1]):
            value, whole = scores.get(name), finetuned.get(name)
            if value is None or whole is None:
                return None
            shares.append(self._share(value, whole))
        return harmonic_mean(shares) if both else None

    def _share(self, value: float, whole: float) -> float:
        share = value / whole if whole else math.nan
        return min(share, 1.0) if self.clamp else share

    def all(
        self, scores: Scores, finetuned: Scores, retain_model: Scores
    ) -> dict[str, float | None]:
        """Returns the three, and both overall scores, by name.

        `overall` is the paper's Table 3, of all three; `overall_without_privacy` its Table 6, by
        which it chooses hyperparameters.
        """
        memorisation = self.memorisation(scores, finetuned)
        privacy = self.privacy(scores, retain_model)
        utility = self.utility(scores, finetuned)
        return {
            "memorisation": memorisation,
            "privacy": privacy,
            "utility": utility,
            "overall": _of_all(memorisation, privacy, utility),
            "overall_without_privacy": _of_all(memorisation, utility),
        }


def _of_all(*parts: float | None) -> float | None:
    known = [part for part in parts if part is not None]
    return harmonic_mean(known) if len(known) == len(parts) else None
