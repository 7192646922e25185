"""One rank of `test_geffect_on_ranks.py`: effects of every measured case, on both engines.

`python geffect_crew.py FOLDER`; FOLDER holds `model/`, a Hugging Face folder, and `rows.pkl`. Rank
0 leaves `found.pt` in it.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from crew import ENGINES, take_part
from objectives_crew import MICRO, workbench

sys.path.insert(0, str(Path(__file__).parents[1]))
from helpers.objectives import Workbench

from unlearn_runner.methods.base import Method, Retain
from unlearn_runner.methods.ga import GA
from unlearn_runner.methods.npo import NPO
from unlearn_runner.models.adapters.lora import LoRA
from unlearn_runner.models.forward import Models
from unlearn_runner.pipeline.session import Session
from unlearn_runner.pipeline.stages.geffect import risks_of
from unlearn_runner.training.fixed_rows import fixed_rows, sample_rows
from unlearn_runner.training.geffect import Meter

CASES: dict[str, tuple[Method, str, bool]] = {
    "ga": (GA(), "nll", False),
    "npo": (NPO(Retain("nll", 0.2), beta=0.5), "nll", False),
    "npo, kl risk": (NPO(Retain("kl", 0.2), beta=0.5), "kl", False),
    "npo, lora": (NPO(Retain("none"), beta=0.5), "nll", True),
}
"""Method, risk, and whether an adapter is trained."""


def measured(bench: Workbench, models: Models, layout: Any, method: Method, risk: str) -> Any:
    """Exact effects, smoothed ones, and those of three rows by themselves."""
    engine = bench.engine(method, None, models, layout, micro_batch=MICRO)
    meter = Meter(engine, risks_of(risk))
    extra: Any = bench.step_loader(method).add_splits
    chosen = (sample_rows(5, "forget", 20, 7), sample_rows(5, "retain", 40, 9))
    rows = fixed_rows(3, bench.forget, bench.tiny.retain, chosen, extra)
    three = fixed_rows(3, bench.forget, bench.tiny.retain, ([0, 4, 9], chosen[1]), extra)
    loader = bench.step_loader(method, 4)
    return meter.exact(rows), meter.ema(map(loader.step, range(3))), meter.per_sample(three)


def everything(folder: Path, session: Session) -> dict[Any, Any]:
    bench, found = workbench(folder), {}
    for engine in ("ddp", "fsdp2"):
        layout = ENGINES[engine].layout(session.ranks, session.device)
        here = replace(session, layout=layout)
        for name, (method, risk, adapts) in CASES.items():
            models = prepared(folder, here, adapts)
            found[engine, name] = measured(bench, models, layout, method, risk)
    return found


def prepared(folder: Path, session: Session, adapts: bool) -> Models:
    """Models away from the start: every trained number is larger by a fiftieth, B by a bit."""

    def change(model: Any) -> None:
        if adapts:
            LoRA(rank=2).attach(model, 3)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.mul_(1.02).add_(1e-3 if adapts else 0.0)

    trained = session.trainable(folder / "model", "float64", change)
    start = session.trainable(folder / "model", "float64").eval()
    return Models(trained.eval(), start, partial(session.layout.autocast, "float64"), seed=3)


if __name__ == "__main__":
    take_part(everything)
