"""Suites: named sets of metrics over question/answer evidence."""

from __future__ import annotations

from collections.abc import Iterable

from unlearn_runner.evaluation.metrics.base import Metric
from unlearn_runner.evaluation.metrics.forget_quality import ForgetQuality, ForgetQualityLog10
from unlearn_runner.evaluation.metrics.membership import attacks
from unlearn_runner.evaluation.metrics.membership.privleak import PrivLeak
from unlearn_runner.evaluation.metrics.memorisation.depth import UnlearningDepth
from unlearn_runner.evaluation.metrics.memorisation.exact import ExactMemorisation
from unlearn_runner.evaluation.metrics.memorisation.extraction import ExtractionStrength
from unlearn_runner.evaluation.metrics.probability import Probability
from unlearn_runner.evaluation.metrics.rouge import RougeL
from unlearn_runner.evaluation.metrics.text.entropy import TokenEntropy
from unlearn_runner.evaluation.metrics.text.fluency import Fluency, RecordedFluency
from unlearn_runner.evaluation.metrics.truth_ratio import Mean, TruthRatio
from unlearn_runner.evaluation.metrics.utility import ModelUtility
from unlearn_runner.evaluation.schema import Probe

PARTS = ("probability", "rouge_l", "truth_ratio")
"""Of model utility, on every view to be kept."""


def tofu(eps: float, mean: Mean = "geometric") -> dict[str, Metric]:
    """Returns TOFU's metrics by name, as a format defines them.

    Args:
        eps: What the format adds to denominators.
        mean: How truth ratios average wrong answers in what is reported and in model utility.
            Forget quality is geometric in every published code.
    """
    return {
        "probability": Probability(eps),
        "rouge_l": RougeL(),
        "truth_ratio": TruthRatio(mean, eps),
        "model_utility": ModelUtility(PARTS),
        "forget_quality": ForgetQuality("geometric", eps),
    }


def further(eps: float = 0.0, retain_auc: float | None = None) -> dict[str, Metric]:
    """Returns the metrics that a full suite has beyond TOFU's, by name.

    All are of the evidence that TOFU's are of, and of the answers' losses on unseen rows.

    Args:
        eps: As for `tofu`.
        retain_auc: As for `PrivLeak`.
    """
    ratios = {
        "closer_to_1": TruthRatio(eps=eps, form="closer_to_1_better"),
        "true_better": TruthRatio(eps=eps, form="true_better"),
        "prob_mean": TruthRatio(eps=eps, form="prob_mean"),
    }
    return {
        "exact_memorisation": ExactMemorisation(),
        "extraction_strength": ExtractionStrength(),
        "extraction_strength_published": ExtractionStrength("published"),
        "paraphrase_probability": Probability(role="paraphrased"),
        "rouge_1": RougeL("rouge1_recall"),
        "rouge_l_f1": RougeL("rougeL_f1"),
        **{f"truth_ratio_{name}": metric for name, metric in ratios.items()},
        "token_entropy": TokenEntropy(),
        "fluency": Fluency(),
        "forget_quality_log10": ForgetQualityLog10("geometric", eps),
        **membership(),
        "privleak": PrivLeak(retain_auc=retain_auc),
    }


def membership() -> dict[str, attacks.Attack]:
    """Returns the membership attacks, by name."""
    return {
        "mia_loss": attacks.Loss(),
        "mia_zlib": attacks.Zlib(),
        "mia_min_k": attacks.MinK(),
        "mia_min_k_plus_plus": attacks.MinKPlusPlus(),
        "mia_reference": attacks.Reference(),
    }


def probed(probes: Iterable[Probe]) -> dict[str, Metric]:
    """Returns what a full suite has beyond `further` where views have such probes, by name."""
    of: dict[Probe, dict[str, Metric]] = {
        "gradients": {"mia_gradnorm": attacks.GradNorm()},
        "patched": {"uds": UnlearningDepth()},
        "clean": {"clean_text": RecordedFluency()},
    }
    return {
        name: metric
        for probe in dict.fromkeys(probes)
        for name, metric in of.get(probe, {}).items()
    }


def recorded() -> dict[str, Metric]:
    """Returns the metrics that are known of another project's log alone, by name."""
    return {"mia_gradnorm": attacks.GradNorm(), "clean_text": RecordedFluency()}
