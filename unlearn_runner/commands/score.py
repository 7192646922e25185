"""Scores of existing evaluations: logs of TOFU and open-unlearning, and our own.

    unlearn-score LOG [LOG ...] [--retain LOG] [--suite full] [--finetuned LOG] [--json]
    unlearn-score LOG [--retain LOG] --export FOLDER

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
from unlearn_runner.errors import ConfigError, DataError
from unlearn_runner.evaluation.logs.base import FORGET, Log
from unlearn_runner.evaluation.logs.read import KNOWN, open_log
from unlearn_runner.evaluation.logs.retain_log import against
from unlearn_runner.evaluation.logs.write import write
from unlearn_runner.evaluation.metrics.aggregates import Aggregation
from unlearn_runner.evaluation.metrics.base import compute, directions, scored
from unlearn_runner.evaluation.metrics.evidence import ViewEvidence
from unlearn_runner.evaluation.metrics.scores import sort_metrics
from unlearn_runner.evaluation.metrics.suites import PARTS
from unlearn_runner.evaluation.metrics.truth_ratio import Mean
from unlearn_runner.evaluation.schema import Role
from unlearn_runner.utils.columns import TitledTable
from unlearn_runner.utils.console import results_console
from unlearn_runner.utils.files import finite
from unlearn_runner.utils.text import format_score
from unlearn_runner.utils.version import __version__

WHOLE = ("model_utility", "forget_quality", "forget_quality_ks")

DESCRIPTION = """Scores evaluation logs of TOFU (eval_log_aggregated.json) and open-unlearning
(TOFU_EVAL.json, MUSE_EVAL.json, LMEval_SUMMARY.json), told apart by their content, or the folder of
an `evaluate` artifact: model utility, its nine parts, the forget view's, and with --retain forget
quality."""

VARIANTS = {
    "relative": Aggregation(normalisation="none", closeness="relative"),
    "inverse": Aggregation(normalisation="finetuned", closeness="inverse"),
    "exponential": Aggregation(normalisation="none", closeness="exponential"),
}
"""Readings of the open-unlearning paper's aggregates, by their membership score."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Scores the logs on the command line; returns the exit code."""
    return answered(lambda: _score(_parser().parse_args(arguments)))


def _score(args: argparse.Namespace) -> None:
    logs = [open_log(path) for path in args.logs]
    retain = None if args.retain is None else open_log(args.retain)
    if args.export is not None:
        return _export(logs, retain, args)
    found = [score(log, retain, args.mean, args.matched, args.suite == "full") for log in logs]
    if args.finetuned is not None:
        finetuned = score(open_log(args.finetuned), retain, args.mean, args.matched, full=True)
        for content in found:
            content["aggregates"] = aggregated(content, finetuned, retain)
    if args.json:
        print(json.dumps(found if len(found) > 1 else found[0], indent=2, allow_nan=False))
    else:
        print_table(found)


def _export(logs: Sequence[Log], retain: Log | None, args: argparse.Namespace) -> None:
    if len(logs) > 1:
        raise ConfigError("--export writes one log's files, and several logs are named", "one LOG")
    (log,) = logs
    retain_model = None if retain is None else against(log, retain, args.matched)[0]
    for path in write(args.export, log, retain_model):
        results_console().print(f"wrote {path}", soft_wrap=True, markup=False)


def score(
    log: Log, retain: Log | None, mean: Mean, only_shared: bool, full: bool = False
) -> dict[str, Any]:
    """Returns the scores of one log, and what they were computed from, as `--json` prints them.

    Raises:
        DataError: A log is malformed, or `retain` is of another forget split.
    """
    model = log.evidence()
    views = {name: view for name, view in model.views.items() if scored(view)}
    missing = {name: lacking for name, view in views.items() if (lacking := _lacking(view))}
    if not log.scores() and all(view.rows == 0 for view in model.views.values()):
        raise DataError(f"{log.path}: the log has no rows that could be scored", KNOWN)
    retain_model, match = None, None
    if retain is not None:
        retain_model, match = against(log, retain, only_shared)
    metrics = log.metrics(mean) | (log.further() if full else {})
    scores = compute(model, retain_model, metrics) | log.scores()
    sources = dict.fromkeys(filter(None, map(_source, views.values())))
    content: dict[str, Any] = {name: scores.get(name) for name in WHOLE}
    content["parts"] = {
        view: {part: scores.get(f"{view}.{part}") for part in PARTS} for view in views
    }
    content |= {
        "scores": scores,
        "directions": directions(scores, model.views, metrics),
        "log": str(log.path),
        "format": log.format,
        "rows": {name: view.rows for name, view in views.items()},
        "retain_log": None if retain is None else str(retain.path),
        "retain_format": None if retain is None else retain.format,
        "retain_rows": None if match is None else match.theirs,
        "matched": None if match is None else len(match.pairs),
        "mean": mean,
        "rouge_l_from": " and ".join(sources) or None,
        "missing": missing if PARTS[0] in metrics else {},
        "version": __version__,
    }
    return finite(content)


def aggregated(
    content: dict[str, Any], finetuned: dict[str, Any], retain: Log | None
) -> dict[str, Any]:
    """Returns the aggregate scores of a scored log, by named variant; see `metrics.aggregates`."""
    full = score(open_log(Path(content["log"])), None, content["mean"], False, full=True)["scores"]
    known = {} if retain is None else score(retain, None, content["mean"], False, full=True)
    return {
        name: finite(how.all(full, finetuned["scores"], known.get("scores", {})))
        for name, how in VARIANTS.items()
    }


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
    better = {score: way for content in found for score, way in content["directions"].items()}
    of_view = None
    for name in sort_metrics(
        dict.fromkeys(name for content in found for name in content["scores"])
    ):
        if (view := name.rpartition(".")[0]) != of_view and view:
            table.add_section()
        values = [content["scores"].get(name) for content in found]
        if name.rpartition(".")[2] not in (*WHOLE, *PARTS) and values.count(None) == len(values):
            continue  # no log has evidence for it
        table.add_row(name, better.get(name, ""), *map(format_score, values))
        of_view = view
    for variant in found[0].get("aggregates", {}):
        table.add_section()
        for name in found[0]["aggregates"][variant]:
            values = [content["aggregates"][variant][name] for content in found]
            table.add_row(f"{name} ({variant})", "higher", *map(format_score, values))
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
    if content["matched"] is not None:
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
    parser.add_argument(
        "--suite",
        choices=("default", "full"),
        default="default",
        help="full: every metric that the log has evidence for (docs/metrics.md)",
    )
    parser.add_argument(
        "--finetuned",
        metavar="LOG",
        type=Path,
        help="the fine-tuned model's log: aggregate scores, with --retain",
    )
    parser.add_argument(
        "--export",
        metavar="FOLDER",
        type=Path,
        help="write the log as open-unlearning's EVAL and SUMMARY files",
    )
    parser.add_argument("--json", action="store_true", help="JSON; a list for several logs")
    return parser


if __name__ == "__main__":
    sys.exit(main())
