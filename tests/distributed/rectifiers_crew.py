"""One rank of `test_rectifiers_on_ranks.py`: some steps of every rectifier, both engines.

`python rectifiers_crew.py FOLDER`; FOLDER holds `model/`, a Hugging Face folder, and `rows.pkl`.
Rank 0 leaves `found.pt` in it.
"""

from __future__ import annotations

import pickle
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from crew import BATCH, ENGINES, freeze, run_steps, take_part, weights

sys.path.insert(0, str(Path(__file__).parents[1]))
from helpers.rectifiers import EVERY_RECTIFIER

from unlearn_runner.methods.base import Retain, needs_start_model
from unlearn_runner.methods.ga import GA
from unlearn_runner.models.forward import Models
from unlearn_runner.pipeline.session import Session
from unlearn_runner.training.engine import Engine
from unlearn_runner.training.fixed_rows import audit_rows
from unlearn_runner.training.recipe import Recipe

STEPS = 3
METHOD = GA(Retain("nll", 0.05))
RECTIFIERS = {case.name: case.rectifier for case in EVERY_RECTIFIER}
DEFAULT = ("pcgrad, tensor", "sago")
"""Tried by `test_pieces.py` on the ranks that it starts anyhow."""


def engine_of(folder: Path, rows: Any, session: Session, name: str) -> Engine:
    """Returns an engine of a model, a part of which is frozen, with the rectifier of that name."""
    trained = session.trainable(folder / "model", "float64", freeze)
    rectifier, start = RECTIFIERS[name], None
    groups = rectifier.groups(METHOD.terms())
    if needs_start_model(tuple(term for group in groups for term in group.terms)):
        start = session.trainable(folder / "model", "float64").eval()
    recipe = Recipe(
        lr=1e-4, batch_size=BATCH, steps=STEPS, micro_batch=4, clip=0.7, precision="float64"
    )
    return Engine(
        models=Models(trained, start, partial(session.layout.autocast, "float64")),
        terms=METHOD.terms(),
        recipe=recipe,
        num_rows=len(rows["forget"]),
        pad=rows["pad"],
        rectifier=rectifier,
        layout=session.layout,
        audit_rows=audit_rows("retain", rows["retain"], 8, 3),
    )


def run(folder: Path, rows: Any, session: Session, name: str) -> Any:
    """Returns the weights before and after some steps, and the steps' telemetry."""
    engine = engine_of(folder, rows, session, name)
    before = weights(engine, session)
    before = None if before is None else before.clone()
    return before, run_steps(engine, rows, 0, STEPS), weights(engine, session)


def everything(folder: Path, session: Session) -> dict[Any, Any]:
    rows, found = pickle.loads((folder / "rows.pkl").read_bytes()), {}
    for engine in ("ddp", "fsdp2"):
        layout = ENGINES[engine].layout(session.ranks, session.device)
        inside = replace(session, layout=layout)
        for name in RECTIFIERS:
            found[engine, name] = run(folder, rows, inside, name)
    return found


if __name__ == "__main__":
    take_part(everything)
