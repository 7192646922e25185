"""Retain log: a log's forget rows, keyed by the rows they are compared with."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from unlearn_runner.data.rows import Rows
from unlearn_runner.errors import DataError
from unlearn_runner.evaluation.logs.base import FORGET, Log
from unlearn_runner.evaluation.logs.match import Match, NormalizedRow, from_rows, from_texts, match
from unlearn_runner.evaluation.logs.read import open_log
from unlearn_runner.evaluation.metrics.evidence import Evidence, ViewEvidence
from unlearn_runner.store.keys import INERT

SAME_SPLIT = "give a log of the retain model that was evaluated on the same forget rows"


def retain_evidence(path: Path, rows: Rows, name: str = FORGET) -> Evidence:
    """Returns a log's forget view as the evidence of a benchmark's forget view.

    Args:
        path: The retain model's log.
        rows: The rows of the view.
        name: The view's name in the benchmark.

    Raises:
        DataError: The log is malformed, has no forget rows to compare, or is of another split.

    The evidence is keyed by the position in `rows`; the log's order may differ, and the log or the
    view may stop early, so forget quality compares the rows that both have.
    """
    log = open_log(path)
    theirs = comparable(log)
    found = match(from_rows(rows), _normalized(theirs))
    if not found.same_split:
        raise DataError(_other_split(path, found, rows.name), SAME_SPLIT)
    return Evidence({name: replace(theirs.keyed(found.keys()), name=name)})


def against(model: Log, retain: Log, only_shared: bool) -> tuple[Evidence, Match]:
    """Returns the retain log's forget view, keyed by the model log's rows, and what they share.

    Args:
        model: The log that is scored.
        retain: The retain model's log.
        only_shared: Compare logs of different splits by the rows they share.

    Raises:
        DataError: As above; with `only_shared` only when no row is shared.
    """
    mine, theirs = comparable(model), comparable(retain)
    found = match(_normalized(mine), _normalized(theirs))
    if not found.same_split and not (only_shared and found.pairs):
        fix = f"{SAME_SPLIT}, or add --matched to compare the shared rows alone"
        problem = _other_split(retain.path, found, str(model.path))
        raise DataError(problem, fix if found.pairs else SAME_SPLIT)
    return Evidence({FORGET: theirs.keyed(found.keys())}), found


def comparable(log: Log) -> ViewEvidence:
    """Returns the forget view of a log that has what forget quality needs."""
    view = log.view(FORGET)
    if not view.has(view.right_role, "perturbed") or view.record.texts is None:
        raise DataError(
            f"{log.path}: the log lacks what forget quality compares: losses of the forget rows' "
            f"{view.right_role} and perturbed answers, and the rows' texts",
            "score it without --retain, or evaluate again with all of TOFU's metrics",
        )
    return view


def _normalized(view: ViewEvidence) -> list[NormalizedRow]:
    assert view.record.texts is not None
    return from_texts(view.record.texts)


def _other_split(path: Path, found: Match, whose: str) -> str:
    shared = f"{len(found.pairs)} of them are the same" if found.pairs else "no row is the same"
    return (
        f"{path} is a log of another forget split: it has {found.theirs} forget rows, "
        f"{whose} has {found.mine}, and {shared}"
    )


@dataclass(frozen=True)
class RetainLog:
    """Evaluation log of a retain-only model, in the model's place."""

    path: Path = field(metadata=INERT)
    digest: str
    rows: Rows
    """Rows of the view that forget quality looks at, which the log's rows are matched with."""
    view: str

    def matched(self) -> Evidence:
        """Returns its forget rows, keyed by ours.

        Raises:
            DataError: If it is malformed, or of another split.
        """
        return retain_evidence(self.path, self.rows, self.view)

    def everything(self) -> Evidence:
        """Returns all it recorded."""
        return open_log(self.path).evidence()
