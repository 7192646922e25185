"""One rank of `test_objectives_on_ranks.py`: the first gradient of every objective, both engines.

`python objectives_crew.py FOLDER`; FOLDER holds `model/`, a Hugging Face folder, `rows.pkl`, and
`names`, of the objectives, a line each.
Rank 0 leaves `found.pt` in it.
"""

from __future__ import annotations

import pickle
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from crew import ENGINES, full, take_part

sys.path.insert(0, str(Path(__file__).parents[1]))
from helpers.objectives import EVERY_METHOD, Workbench

from unlearn_runner.methods.base import Method
from unlearn_runner.models.forward import Models
from unlearn_runner.models.load import load_model, load_tokenizer
from unlearn_runner.pipeline.session import Session
from unlearn_runner.rectifiers.gru import GRU

MICRO = 5  # 32 rows on two ranks: three of five and one of one on each


def workbench(folder: Path) -> Workbench:
    rows = pickle.loads((folder / "rows.pkl").read_bytes())
    exact = load_model(folder / "model", "float64", torch.device("cpu"))
    tiny = SimpleNamespace(
        **rows, tokenizer=load_tokenizer(folder / "model"), llama=lambda _: exact
    )
    return Workbench(tiny, torch.float64)


def gradients(
    folder: Path, bench: Workbench, session: Session, method: Method
) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """Returns each group's gradient over all parameters, whole, and the losses."""
    trained = session.trainable(folder / "model", "float64")
    start = session.trainable(folder / "model", "float64").eval()
    models = Models(trained, start, partial(session.layout.autocast, "float64"), seed=3)
    engine = bench.engine(method, GRU(), models, session.layout, micro_batch=MICRO)
    found, losses = engine.gradients(bench.step_loader(method).step(0))
    whole = {}
    for group, gradient in found.items():
        entries = zip(gradient, engine.space.parameters, strict=True)
        whole[group] = torch.cat([full(engine, *entry).reshape(-1) for entry in entries])
    return whole, losses


def everything(folder: Path, session: Session) -> dict[str, Any]:
    bench, found = workbench(folder), {}
    wanted = (folder / "names").read_text().splitlines()
    for engine in ("ddp", "fsdp2"):
        layout = ENGINES[engine].layout(session.ranks, session.device)
        here = replace(session, layout=layout)
        for name, method in EVERY_METHOD:
            if name in wanted:
                found[engine, name] = gradients(folder, bench, here, method)
    return found


if __name__ == "__main__":
    take_part(everything)
