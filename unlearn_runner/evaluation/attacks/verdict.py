"""Verdict on an attack: what came back, and what a model that never knew it was taught by the same.

By score m of a forget view, with target T, unlearned model U, retain model R, and A and C the last
two attacked: of what unlearning took, m(T) - m(U), the attack brought back m(A) - m(U); of what the
retain model lacks, m(T) - m(R), it brought m(C) - m(R). The difference of the two shares is what
was still there. Bootstrap samples draw the same people in all five.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from unlearn_runner.evaluation.metrics.base import Metric, compute, directions
from unlearn_runner.evaluation.metrics.bootstrap import DRAWS, ENDS, samples
from unlearn_runner.evaluation.metrics.evidence import Evidence, Floats

Model = Literal["target", "unlearned", "attacked", "retain_model", "attacked_retain_model"]


def judge(
    evidence: Mapping[Model, Evidence],
    units: Mapping[str, Sequence[int]],
    metrics: Mapping[str, Metric],
    trains: bool,
    draws: int = DRAWS,
) -> list[dict[str, Any]]:
    """Returns by score what came back; only scores that are sampled, of views to be forgotten.

    Each has `score`; `models`, the score of each; `recovered`, `control` and `excess`, each with
    the ends of its 95 % interval, none where nothing had been forgotten, or (the last two) there is
    no retain model that was attacked; `robustness`, see there.

    Args:
        evidence: By model; those of the retain model may be missing.
        units: By view, which person each row is about.
        metrics: By name; those that compare with the retain model are left out.
        trains: Whether the attack is a training.
        draws: Bootstrap samples.
    """
    own = {n: m for n, m in metrics.items() if not (m.needs_retain_model or m.of_scores)}
    scores = {model: compute(one, None, own) for model, one in evidence.items()}
    drawn = {m: samples(one, units, own, scores[m], draws) for m, one in evidence.items()}
    views = evidence["target"].views
    better = directions(scores["target"], views, own)
    found = []
    for name in scores["target"]:
        view = name.rpartition(".")[0]
        if view not in views or any(name not in one for one in drawn.values()):
            continue
        values = {model: np.array([scores[model][name], *drawn[model][name]]) for model in drawn}
        recovered = _share(values["target"], values["unlearned"], values["attacked"])
        control = excess = None
        if "attacked_retain_model" in values:
            retain, attacked = values["retain_model"], values["attacked_retain_model"]
            control = _share(values["target"], retain, attacked)
            if recovered is not None and control is not None:
                excess = recovered - control
        shares = {"recovered": recovered, "control": control, "excess": excess}
        plain = {model: float(value[0]) for model, value in values.items()}
        found.append(
            {
                "score": name,
                "models": plain,
                **{key: None if of is None else _with_ends(of) for key, of in shares.items()},
                "robustness": robustness(plain, trains) if better.get(name) == "lower" else None,
            }
        )
    return found


def _share(target: Floats, before: Floats, after: Floats) -> Floats | None:
    """Returns which share of target - before is after - before, first of the scores themselves.

    None where zero lies within the interval of target - before: there was nothing to bring back.
    """
    lost = target - before
    low, high = np.nanquantile(lost[1:], ENDS)
    if low <= 0 <= high:
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        return (after - before) / lost


def _with_ends(sampled: Floats) -> dict[str, float]:
    low, high = np.nanquantile(sampled[1:], ENDS)
    return {"value": float(sampled[0]), "low": float(low), "high": float(high)}


def robustness(models: Mapping[str, float], trains: bool) -> float | None:
    """Returns a ratio of the open-unlearning paper, of a score that is higher with more knowledge.

    Of a training R = min((m(C) - m(R)) / (m(A) - m(U)), 1), of any other attack
    Q = min(m(U) / m(A), 1): 1 is robust (Dorna et al. 2025, arXiv 2506.12618, section 4). The paper
    does not say what R is where the attack brings the unlearned model nothing: here 1; nor where it
    only harms the retain model: here 0. Some write Q upside down, for scores that fall with
    knowledge. None where there is no attacked retain model for R.
    """
    before, after = models["unlearned"], models["attacked"]
    if not trains:
        return 1.0 if after <= before else max(0.0, before / after)
    if "attacked_retain_model" not in models:
        return None
    if after <= before:
        return 1.0
    gained = models["attacked_retain_model"] - models["retain_model"]
    return min(max(gained / (after - before), 0.0), 1.0)
