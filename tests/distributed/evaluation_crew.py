"""One rank of the evaluation tests: `python evaluation_crew.py FOLDER`, started once per rank.

FOLDER holds `model/`; evidence goes to a folder of each engine's name. Every attempt but the last
is killed on all ranks at a named moment, once each rank has kept a batch of some probe.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

from crew import ENGINES, take_part

sys.path.insert(0, str(Path(__file__).parents[1]))
from helpers.evaluations import evaluator_of, short_views

from unlearn_runner.evaluation.probes.batching import is_sharded
from unlearn_runner.evaluation.probes.journal import Journal
from unlearn_runner.evaluation.schema import OF_FINISHED, Probe
from unlearn_runner.models.load import load_tokenizer
from unlearn_runner.pipeline.session import Session, open_session

CREWED = ("ddp", "fsdp2")
MOMENTS = ("retain.logprobs", "holdout.prefixes", "views-0.generations")
BATCH = 1  # question per pass and prefix, four prompts at once


class Killed(Exception):
    """This attempt ends here."""


def evaluate(model: Any, folder: Path, session: Session, out: Path, attempt: Path | None) -> None:
    """Takes the evidence of all views, prefixes and gradients of the unseen rows' answers too."""
    further: tuple[Probe, ...] = ("prefixes",)
    if not is_sharded(model):  # a model in training, which these are not for
        further += OF_FINISHED
    evaluator = evaluator_of(short_views(10), BATCH, {"holdout": further})
    tokenizer = load_tokenizer(folder / "model")
    out.mkdir(parents=True, exist_ok=True)
    evaluator.run(model, tokenizer, out, "evaluation", session.ranks, attempt, model)


def attempts(model: Any, folder: Path, session: Session, name: str) -> list[Counter[Any]]:
    """Returns what this rank computed in each attempt: rows by the folder of their journal."""
    write, done = Journal.write, []

    def watched(self: Journal[Any], results: dict[int, Any]) -> None:
        write(self, results)
        done[-1].update((self.folder.name, row) for row in results)
        if len(done) <= len(MOMENTS) and self.folder.name == MOMENTS[len(done) - 1]:
            raise Killed

    Journal.write = watched  # type: ignore[method-assign]
    try:
        for _ in (*MOMENTS, "to the end"):
            done.append(Counter())
            try:
                evaluate(model, folder, session, folder / name, folder / f"{name}-attempt")
            except Killed:
                session.ranks.barrier()
    finally:
        Journal.write = write  # type: ignore[method-assign]
    return done


def find(folder: Path, _: Session) -> dict[str, Any]:
    """Evaluates with each engine, the model whole or in pieces."""
    found = {}
    for name in CREWED:
        session = open_session(ENGINES[name])
        model = session.trainable(folder / "model", "float32").eval()
        done = attempts(model, folder, session, name)
        found[name] = [list(map(dict, one)) for one in session.ranks.all_gather(done)]
    return found


if __name__ == "__main__":
    take_part(find)
