"""What an objective's step holds: peak bytes of tensors beside those of a GradDiff step.

    python benchmarks/objectives.py --data FOLDER     FOLDER holds TOFU's JSON files
    python benchmarks/objectives.py --quick           generated rows, small sizes

A method that compares with the start model reads stored numbers and should hold nothing more; the
last rows hold a second model, which is what the published codes do for all of them.
"""

from __future__ import annotations

import argparse
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

from memory import peak_bytes, state_bytes
from rich.table import Table
from workload import Workload, prepare

from unlearn_runner.methods.base import Method, Retain
from unlearn_runner.methods.ga import GA
from unlearn_runner.methods.npo import NPO
from unlearn_runner.methods.tnpo import TNPO, WTNPO
from unlearn_runner.methods.undial import UNDIAL
from unlearn_runner.models.forward import Models
from unlearn_runner.models.shape import Shape
from unlearn_runner.training.engine import Engine
from unlearn_runner.training.recipe import Recipe
from unlearn_runner.utils.console import results_console

BASELINE = "GradDiff"
METHODS: dict[str, Method] = {
    BASELINE: GA(Retain("nll")),
    "NPO": NPO(),
    "TNPO": TNPO(),
    "WTNPO": WTNPO(),
    "GA + KL": GA(Retain("kl")),
    "UNDIAL": UNDIAL(Retain("nll")),
}
HOLDS = ("GA + KL", "UNDIAL")


def peak(work: Workload, method: Method, recipe: Recipe, holds: bool) -> int:
    """Returns the most bytes of tensors alive in one step, the models' weights included."""
    start: Any = deepcopy(work.model).eval() if holds else None
    autocast = partial(work.session.autocast, "float32")
    models = Models(deepcopy(work.model), start, autocast)
    pad = work.tokenizer.pad_token_id
    engine = Engine(models, method.terms(), recipe, len(work.forget), pad, method=method)
    loader = work.step_loader(BASELINE, recipe)
    engine.step(loader.step(0))  # AdamW's moments exist from now on
    held = sum(p.numel() * p.element_size() for p in start.parameters()) if holds else 0
    rows = loader.step(1)
    return state_bytes(engine) + held + peak_bytes(lambda: engine.step(rows))


def main() -> None:
    """Measures, and prints one table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path)
    parser.add_argument("--quick", action="store_true")
    chosen = parser.parse_args()
    shape = Shape(64, 128, 2, 2) if chosen.quick else Shape(256, 1024, 2, 4)
    work = prepare(chosen.data, shape, 1024 if chosen.quick else 4096, threads=1)
    recipe = Recipe(lr=1e-5, batch_size=32, micro_batch=8, steps=4)
    peaks = {name: peak(work, m, recipe, name in HOLDS) for name, m in METHODS.items()}
    peaks["NPO, were the start model held"] = peak(work, METHODS["NPO"], recipe, holds=True)
    table = Table(title=f"one step, batch 32 = 4 x 8, {work.source}", title_justify="left")
    for column in ("method", "peak, MB", "of GradDiff"):
        table.add_column(column, justify="left" if column == "method" else "right")
    for name, found in peaks.items():
        table.add_row(name, f"{found / 1e6:.1f}", f"{found / peaks[BASELINE]:.3f}")
    results_console().print(table)


if __name__ == "__main__":
    main()
