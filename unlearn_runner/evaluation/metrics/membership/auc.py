"""Area under the curve: how well a score tells rows that were trained on from unseen ones."""

from __future__ import annotations

import numpy as np

from unlearn_runner.evaluation.metrics.evidence import Floats


def auc(members: Floats, others: Floats) -> float:
    """Returns P(a member scores below another row), ties counted half; NaN where a score is NaN.

    Args:
        members: Attack score of each forget row; higher looks less like a member.
        others: Of each unseen row.
    """
    if np.isnan(members).any() or np.isnan(others).any():
        return np.nan
    ordered = np.sort(members)
    below = np.searchsorted(ordered, others, "left") + np.searchsorted(ordered, others, "right")
    return float(below.sum() / (2 * len(members) * len(others)))


def sampled_auc(members: Floats, others: Floats, drawn: Floats, drawn_others: Floats) -> Floats:
    """Returns the AUC of every bootstrap sample; [samples].

    Args:
        members: As for `auc`; [n].
        others: As for `auc`; [m].
        drawn: How often each member is drawn; [samples, n].
        drawn_others: How often each other row is; [samples, m].
    """
    less = (members[:, None] < others) + 0.5 * (members[:, None] == others)
    pairs = drawn.sum(axis=1) * drawn_others.sum(axis=1)
    return ((drawn @ less) * drawn_others).sum(axis=1) / pairs
