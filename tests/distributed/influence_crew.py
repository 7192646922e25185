"""One rank of `test_influence_on_ranks.py`: influence systems of an adapter, on both engines.

`python influence_crew.py FOLDER`; FOLDER holds `model/`, a Hugging Face folder, and `rows.pkl`.
Rank 0 leaves `found.pt` in it.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from crew import ENGINES, take_part
from objectives_crew import workbench

sys.path.insert(0, str(Path(__file__).parents[1]))

from unlearn_runner.methods.influence import Influence
from unlearn_runner.models.adapters.lora import LoRA
from unlearn_runner.models.forward import Models
from unlearn_runner.models.gradients import GradientSpace
from unlearn_runner.pipeline.session import Session
from unlearn_runner.training.influence.risk import Request, Risk
from unlearn_runner.training.influence.solve import System, solve
from unlearn_runner.training.loop import TrainingLog

CASES = {
    "cg": Influence(hvp="gauss_newton", iterations=8, rows=11, held_rows=3),
    "minres": Influence(hvp="double", solver="minres", iterations=5, rows=None),
    "sgd": Influence(hvp="difference", solver="sgd", iterations=6, batch=3),
    "cg by differences": Influence(hvp="difference", iterations=4, damping=10.0),
}


def solved(folder: Path, session: Session, method: Influence) -> tuple[list[Any], dict[str, Any]]:
    """Delta, whole, and its certificate."""

    def change(model: Any) -> None:
        LoRA(rank=2, dropout=0.0).attach(model, 3)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.mul_(1.02).add_(1e-3)

    bench, layout = workbench(folder), session.layout
    model = session.trainable(folder / "model", "float64", change).eval()
    space = GradientSpace(model.named_parameters(), layout)
    models = Models(model, None, partial(layout.autocast, "float64"))
    full = bench.tiny.retain[:15]
    risk = Risk(models, space, "token", 2, bench.tiny.pad)
    system = System(method, Request(full, full[:3], bench.tiny.forget[:2]), risk, 5)
    with tempfile.TemporaryDirectory() as place:
        place = session.ranks.broadcast(place)
        delta, found = solve(system, "solve", TrainingLog(Path(place), "key", lambda _: None))
    pairs = zip(delta, space.parameters, strict=True)
    return [layout.gathered(x, p).clone() for x, p in pairs if x is not None], found


def everything(folder: Path, session: Session) -> dict[Any, Any]:
    found = {}
    for engine in ("ddp", "fsdp2"):
        layout = ENGINES[engine].layout(session.ranks, session.device)
        here = replace(session, layout=layout)
        for name, method in CASES.items():
            if engine == "ddp" or not method.needs_whole:
                found[engine, name] = solved(folder, here, method)
    return found


if __name__ == "__main__":
    take_part(everything)
