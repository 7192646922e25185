"""Writes evaluations in open-unlearning's files: of TOFU, of MUSE, and LMEval_SUMMARY.json.

What a log recorded is written as it was; the rest is computed as that project computes it. A metric
without evidence is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unlearn_runner.evaluation.logs.base import FORGET, HOLDOUT, Log
from unlearn_runner.evaluation.logs.choices import lm_eval_summary
from unlearn_runner.evaluation.logs.recorded import MEMORISATION, ROWS
from unlearn_runner.evaluation.metrics import suites
from unlearn_runner.evaluation.metrics.base import compute
from unlearn_runner.evaluation.metrics.evidence import CLEAN, Evidence, Floats, ViewEvidence
from unlearn_runner.evaluation.metrics.membership.attacks import GradNorm
from unlearn_runner.evaluation.metrics.membership.auc import auc
from unlearn_runner.evaluation.metrics.membership.privleak import PrivLeak
from unlearn_runner.evaluation.metrics.memorisation.exact import ExactMemorisation
from unlearn_runner.evaluation.metrics.memorisation.extraction import ExtractionStrength
from unlearn_runner.evaluation.metrics.probability import option_share
from unlearn_runner.evaluation.metrics.rouge import KINDS, of_view
from unlearn_runner.evaluation.metrics.truth_ratio import TruthRatio, view_ratio
from unlearn_runner.evaluation.schema import Role
from unlearn_runner.utils.files import write_json

EPS = 1e-10
RETAIN_AUC = 0.5  # where there is no retain log
PREFIXES = {"forget": "forget", "retain": "retain", "real_authors": "ra", "world_facts": "wf"}
ROLES: dict[Role, str] = {
    "answer": "Q_A_Prob",
    "paraphrased": "Q_A_PARA_Prob",
    "perturbed": "Q_A_PERT_Prob",
}
SUMMARY = (
    *MEMORISATION,
    *("forget_Q_A_Prob", "forget_Q_A_ROUGE", f"forget_{CLEAN}"),
    *("forget_quality", "model_utility", "privleak"),
)
Content = dict[str, Any]


def tofu_eval(model: Evidence, retain_model: Evidence | None) -> Content:
    """Returns the content of a TOFU_EVAL.json: by metric, its mean and its rows.

    Args:
        model: Evidence of the model, in TOFU's views.
        retain_model: Of the retain model, that forget quality and PrivLeak compare with.
    """
    content: Content = {}
    for name, prefix in PREFIXES.items():
        if name in model.views:
            content |= _of_view(model.views[name], prefix)
    privleak = PrivLeak(retain_auc=RETAIN_AUC)
    scores = compute(model, retain_model, {**suites.tofu(EPS), "privleak": privleak})
    for name in ("forget_quality", "model_utility", "privleak"):
        content[name] = {"agg_value": scores[name]}
    return content | _memorisation(model.views[FORGET]) | _attacks(model, retain_model)


def muse_eval(model: Evidence, retain_model: Evidence | None) -> Content:
    """Returns the content of a MUSE_EVAL.json, arguments as of `tofu_eval`."""
    content: Content = {}
    for name, view in model.views.items():
        content |= _rouge(view, f"{name}_ROUGE", "rougeL_f1") | _memorisation(view)
    privleak = PrivLeak(retain_auc=RETAIN_AUC)
    content["privleak"] = {"agg_value": compute(model, retain_model, {"p": privleak})["p"]}
    return content | _attacks(model, retain_model)


def summary(content: Content, names: Iterable[str] = SUMMARY) -> Content:
    """Returns the content of the summary of an evaluation: {metric: mean}."""
    kept = [n for n in content if n in names or n.startswith("mia_") or n.endswith("mem_ROUGE")]
    means = {name: content[name]["agg_value"] for name in sorted(kept)}
    return {name: value for name, value in means.items() if value is not None}


WRITERS = {"TOFU": tofu_eval, "MUSE": muse_eval}
"""What makes the content of an evaluation, by the benchmark that a log is of."""


def write(folder: Path, log: Log, retain_model: Evidence | None) -> tuple[Path, ...]:
    """Writes a log as open-unlearning's <benchmark>_EVAL.json and _SUMMARY.json; returns the paths.

    Of multiple choice the summary alone: the rows there are lm-evaluation-harness's own.
    """
    benchmark, model = log.benchmark, log.evidence()
    if benchmark in WRITERS:
        content = WRITERS[benchmark](model, retain_model)
        contents = {"EVAL": content, "SUMMARY": summary(content)}
    else:
        recorded = {name.replace(".", "/"): value for name, value in log.scores().items()}
        contents = {"SUMMARY": recorded | lm_eval_summary(model)}
    folder.mkdir(parents=True, exist_ok=True)
    paths = {folder / f"{benchmark}_{kind}.json": found for kind, found in contents.items()}
    for path, found in paths.items():
        write_json(path, found)
    return tuple(paths)


def _metric(mean: float | None, rows: Iterable[Mapping[str, Any]]) -> Content:
    return {"agg_value": mean, ROWS: {str(i): dict(row) for i, row in enumerate(rows)}}


def _scores(values: Floats, mean: float | None = None) -> Content:
    known = values[~np.isnan(values)]
    if mean is None and len(known):
        mean = float(known.mean())
    return _metric(mean, ({"score": None if math.isnan(v) else v} for v in values.tolist()))


def _of_view(view: ViewEvidence, prefix: str) -> Content:
    content: Content = {}
    options = view.probability == "options"
    for role, name in ROLES.items():
        if view.has(role) and not (options and role == "paraphrased"):
            content[f"{prefix}_{name}"] = _probabilities(view, role)
    if options and view.has("answer", "perturbed"):
        right = np.array([row[0] for row in view.probabilities("answer")])
        shares = option_share(right, view.probabilities("perturbed"), EPS)
        rows = ({"prob": share} for share in shares.tolist())
        content[f"{prefix}_Q_A_Prob_normalised"] = _metric(float(shares.mean()), rows)
    ratio = view_ratio(view, "geometric", EPS)
    if ratio is not None:
        name = "forget_truth_ratio" if view.goal == "forget" else f"{prefix}_Truth_Ratio"
        content[name] = _scores(ratio, TruthRatio(eps=EPS).of_view(view))
    if (clean := view.recorded(CLEAN)) is not None:
        content[f"{prefix}_{CLEAN}"] = _scores(clean)
    return content | _rouge(view, f"{prefix}_Q_A_ROUGE", "rougeL_recall")


def _probabilities(view: ViewEvidence, role: Role) -> Content:
    """Returns probability and loss of each row: a number, or a list where a role has several."""
    probabilities, losses = view.probabilities(role), view.losses(role)
    of: Callable[[Floats], Any] = (lambda row: row.tolist()) if role == "perturbed" else _only
    pairs = zip(probabilities, losses, strict=True)
    rows = [{"prob": of(p), "avg_loss": of(loss)} for p, loss in pairs]
    return _metric(float(np.mean([row.mean() for row in probabilities])), rows)


def _only(row: Floats) -> float:
    return float(row[0])


def _rouge(view: ViewEvidence, name: str, reported: str) -> Content:
    columns: dict[str, Sequence[Any]] = {}
    for kind in KINDS:
        found = view.recorded(kind)
        if kind == "rougeL_recall" and view.record.recalls is not None:
            found = np.array(view.record.recalls)
        found = of_view(view, kind) if found is None else found
        if found is not None:
            columns[kind] = [None if math.isnan(v) else v for v in found.tolist()]
    if reported not in columns:
        return {}
    if (texts := view.record.texts) is not None:
        columns |= {"input": texts.questions, "ground_truth": texts.answers}
        columns |= {"generation": texts.generations}
    rows = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
    known = [value for value in columns[reported] if value is not None]
    return {name: _metric(float(np.mean(known)) if known else None, rows)}


def _memorisation(view: ViewEvidence) -> Content:
    metrics = (ExactMemorisation(), ExtractionStrength("published"))
    pairs = zip(MEMORISATION, metrics, strict=True)
    found = {name: metric.of_rows(view) for name, metric in pairs}
    return {name: _scores(rows) for name, rows in found.items() if rows is not None}


def _attacks(model: Evidence, retain_model: Evidence | None) -> Content:
    content: Content = {}
    for metric in (*suites.membership().values(), GradNorm()):
        if found := metric.attacked(model, retain_model):
            both = {FORGET: _scores(found.members), HOLDOUT: _scores(found.others)}
            area = auc(found.members, found.others)
            content[metric.recorded] = {**both, "auc": area, "agg_value": area}
    return content
