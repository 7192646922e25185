"""Scores of existing evaluations: logs of TOFU and open-unlearning, and our own.

    unlearn-score LOG [LOG ...] [--retain LOG] [--json]

The metrics are those a run computes, on evidence read from the log; no model and no torch.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Column

from unlearn_runner.commands.shell import Parser, answered
from unlearn_runner.errors import DataError
from unlearn_runner.evaluation.logs.base import FORGET, VIEWS, Log
from unlearn_runner.evaluation.logs.read import KNOWN, open_log
from unlearn_runner.evaluation.logs.retain_log import against
from unlearn_runner.evaluation.metrics.base import Metric, compute, directions
from unlearn_runner.evaluation.metrics.evidence import ViewEvidence
from unlearn_runner.evaluation.metrics.forget_quality import ForgetQuality
from unlearn_runner.evaluation.metrics.probability import Probability
from unlearn_runner.evaluation.metrics.rouge import RougeL
from unlearn_runner.evaluation.metrics.truth_ratio import Mean, TruthRatio
from unlearn_runner.evaluation.metrics.utility import ModelUtility
from unlearn_runner.evaluation.schema import Role
from unlearn_runner.utils.columns import TitledTable
from unlearn_runner.utils.console import results_console
from unlearn_runner.utils.files import finite
from unlearn_runner.utils.text import format_score
from unlearn_runner.utils.version import __version__

PARTS = ("probability", "rouge_l", "truth_ratio")
WHOLE = ("model_utility", "forget_quality", "forget_quality_ks")

DESCRIPTION = """Scores evaluation logs of TOFU (eval_log_aggregated.json) and open-unlearning
(TOFU_EVAL.json), told apart by their content, or the folder of an `evaluate` artifact: model
utility, its nine parts, the forget view's, and with --retain forget quality."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Scores the logs on the command line; returns the exit code."""
    return answered(lambda: _score(_parser().parse_args(arguments)))


def _score(args: argparse.Namespace) -> None:
    retain = None if args.retain is None else open_log(args.retain)
    found = [score(open_log(path), retain, args.mean, args.matched) for path in args.logs]
    if args.json:
        print(json.dumps(found if len(found) > 1 else found[0], indent=2, allow_nan=False))
    else:
        print_table(found)


def metrics(eps: float, mean: Mean) -> dict[str, Metric]:
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


def score(log: Log, retain: Log | None, mean: Mean, only_shared: bool) -> dict[str, Any]:
    """Returns the scores of one log, and what they were computed from, as `--json` prints them.

    Raises:
        DataError: A log is malformed, or `retain` is of another forget split.
    """
    model = log.evidence()
    missing = {name: lacking for name, view in model.views.items() if (lacking := _lacking(view))}
    if all(view.rows == 0 for view in model.views.values()):
        raise DataError(f"{log.path}: the log has no rows that could be scored", KNOWN)
    retain_model, match = None, None
    if retain is not None:
        retain_model, match = against(log, retain, only_shared)
    scores = compute(model, retain_model, metrics(log.eps, mean))
    sources = dict.fromkeys(filter(None, map(_source, model.views.values())))
    content: dict[str, Any] = {name: scores[name] for name in WHOLE}
    content["parts"] = {
        view: {part: scores[f"{view}.{part}"] for part in PARTS} for view in model.views
    }
    content |= {
        "log": str(log.path),
        "format": log.format,
        "rows": {name: view.rows for name, view in model.views.items()},
        "retain_log": None if retain is None else str(retain.path),
        "retain_format": None if retain is None else retain.format,
        "retain_rows": None if match is None else match.theirs,
        "matched": None if match is None else len(match.pairs),
        "mean": mean,
        "rouge_l_from": " and ".join(sources) or None,
        "missing": missing,
        "version": __version__,
    }
    return finite(content)


def _lacking(view: ViewEvidence) -> list[str]:
    """Returns what a log has not recorded of a view."""
    roles: tuple[Role, ...] = ("answer", view.right_role, "perturbed")
    lacking = [f"losses of {role} answers" for role in dict.fromkeys(roles) if not view.has(role)]
    return lacking + (["generated texts"] if _source(view) is None else [])


def _source(view: ViewEvidence) -> str | None:
    """Says whether ROUGE is computed from texts or taken as the log recorded it."""
    if view.record.texts is not None:
        return "texts"
    return None if view.record.recalls is None else "recorded values"


def print_table(found: list[dict[str, Any]]) -> None:
    """Prints a column per log, and below it what the numbers were computed from."""
    names = _short([content["log"] for content in found])
    table = TitledTable("", "metric", Column("better", justify="center"))
    for name in names:
        table.add_column(name, justify="right")
    rows = [(name, [content[name] for content in found]) for name in WHOLE]
    for view in VIEWS:
        for part in PARTS:
            rows.append((f"{view}.{part}", [c["parts"][view][part] for c in found]))
    better = directions((name for name, _ in rows), VIEWS, metrics(0.0, "geometric"))
    for name, values in rows:
        if name.endswith(f".{PARTS[0]}"):
            table.add_section()
        table.add_row(name, better[name], *map(format_score, values))
    out = results_console()
    out.print(table)
    for name, content in zip(names, found, strict=True):
        for line in _notes(content):
            out.print(f"{name}: {line}", soft_wrap=True, markup=False)


def _notes(content: dict[str, Any]) -> list[str]:
    rows = ", ".join(f"{view} {count}" for view, count in content["rows"].items())
    notes = [
        f"{content['format']} log; rows: {rows}; {content['mean']} truth ratios; "
        f"ROUGE from {content['rouge_l_from'] or 'nothing: the log has none'}"
    ]
    if content["missing"]:
        parts = (f"{view} ({', '.join(lacking)})" for view, lacking in content["missing"].items())
        notes.append(f"not in the log, so without a score: {'; '.join(parts)}")
    if content["retain_log"] is not None:
        counts = f"of {content['rows'][FORGET]} here and {content['retain_rows']} there"
        notes.append(
            f"forget quality on {content['matched']} equal rows {counts}, "
            f"against {content['retain_log']}"
        )
        if content["retain_format"] != content["format"]:
            notes.append(
                f"the retain log is in the {content['retain_format']} format; both logs' truth "
                f"ratios are taken as {content['format']} defines them"
            )
    return notes


def _short(paths: list[str]) -> list[str]:
    """Cuts the folders that all paths share."""
    if len(set(paths)) == 1:
        return [Path(path).name for path in paths]
    common = os.path.commonpath([os.path.abspath(path) for path in paths])
    return [os.path.relpath(path, common) for path in paths]


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="unlearn-score", description=DESCRIPTION, allow_abbrev=False)
    parser.add_argument("logs", metavar="LOG", type=Path, nargs="+", help="a log to score")
    parser.add_argument(
        "--retain", metavar="LOG", type=Path, help="the retain-only model's log, same forget rows"
    )
    parser.add_argument(
        "--matched",
        action="store_true",
        help="compare logs of different forget splits by the rows they share",
    )
    parser.add_argument(
        "--mean",
        choices=("geometric", "arithmetic"),
        default="geometric",
        help="truth ratio's mean over wrong answers; forget quality is geometric always",
    )
    parser.add_argument("--json", action="store_true", help="JSON; a list for several logs")
    return parser


if __name__ == "__main__":
    sys.exit(main())
