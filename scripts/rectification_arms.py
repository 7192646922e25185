"""What `does_rectification_help.py` left open: gamma and tau over seeds, bf16 weights, TOFU.

    python scripts/rectification_arms.py settings|precision|tofu --output FOLDER

`tofu` wants the files' folder, too: --data FOLDER. Plan and words: the second plan of
docs/does-rectification-help.md. Runs are taken from the folder's store where they are there
already. Prints the page's tables; writes docs/data/rectification_ARM.csv, a row per run, as the
rows come. With --print it only prints, from the committed rows.
"""

from __future__ import annotations

import argparse
import csv
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from does_rectification_help import GAMMAS, ROOT, TAUS, number, table
from measure_budget import needed, nll
from rectification_runs import COMMON, LEFT, RATES, SEEDS, Cell, Experiment

from unlearn_runner.pipeline.execute import Executor
from unlearn_runner.pipeline.session import Session
from unlearn_runner.pipeline.stages.base import StageContext
from unlearn_runner.pipeline.stages.unlearn import Unlearn
from unlearn_runner.tracking.record import Record

TOFU = (
    *("experiment=tofu_scratch", "benchmark.authors=60", "train.batch_size=16"),
    *(word for word in COMMON if not word.startswith(("benchmark.source", "benchmark.view"))),
    *("benchmark.view.retain.split=retain90", "benchmark.view.forget.limit=200"),
    *("benchmark.view.retain.limit=100", "evaluate.precision=bf16"),
    *(word for word in COMMON if "limit=20" in word or "probes" in word),
)
TOFU_CELLS = tuple(product(("ga", "npo"), ("none", "gru", "gru_update", "sago")))
PRECISIONS = ("float32", "bf16")
PRECISION_CELLS = tuple(product(("2e-5", "2e-4"), ("ga", "npo"), ("none", "gru"), PRECISIONS))
RETAIN_ROWS = 160
Row = Mapping[str, Any]


def settings(output: Path, _: Path | None) -> Iterator[Row]:
    """Yields the runs of gamma and tau that the first table has not: all seeds but the first."""
    experiment = Experiment(output)
    for more, seed, method in product(_settings(), SEEDS[1:], ("ga", "npo")):
        experiment.curve(Cell(method, "gru", (more,)), RATES[0], seed)
        yield experiment.done[-1]


def tofu(output: Path, data: Path | None) -> Iterator[Row]:
    """Yields the runs on TOFU: both rates with the first seed, the chosen one with another."""
    experiment = Experiment(output, (*TOFU, f"benchmark.data_dir={data}"), 30)
    for seed, pair in product(SEEDS[:2], TOFU_CELLS):
        cell = Cell(*pair)
        rates = RATES if seed == SEEDS[0] else (experiment.chosen(cell),)
        for rate in rates:
            experiment.curve(cell, rate, seed)
            yield experiment.done[-1]


@dataclass(frozen=True)
class Bf16(Session):
    """A session whose trained models are stored in bf16, gradients and moments with them."""

    def trainable(self, *args: Any, **more: Any) -> Any:
        """Loads a model and rounds its weights."""
        import torch

        return super().trainable(*args, **more).to(torch.bfloat16)


def precision(output: Path, _: Path | None) -> Iterator[Row]:
    """Yields the runs in float32 and in bf16."""
    experiment, start = Experiment(output), dict[str, float]()
    for seed, (rate, method, rectifier, dtype) in product(SEEDS, PRECISION_CELLS):
        job = experiment.job((*COMMON, *_equal(method, rectifier, rate, seed)))
        stage = next(one for one in job.plan.stages if isinstance(one, Unlearn))
        stage = replace(stage, periodic_eval=None)
        executor = Executor(job.store, Record(output / "record"), job.run.parallel)
        for one in needed(stage)[:-1]:
            executor.ensure_artifact(one, load=True)
        session = executor._session
        opened = Bf16(**vars(session)) if dtype == "bf16" else session
        folder = output / "precision" / f"{stage.key}-{dtype}"
        folder.mkdir(parents=True, exist_ok=True)
        context = StageContext(
            folder, folder / "checkpoints", stage.key, job.store.path, lambda o=opened: o, _silent
        )
        before = job.store.path(stage.start)
        if not (folder / "model.safetensors").exists():
            assert stage.run(context) == "completed"
        asked = {"forget": stage.forget, "retain": stage.retain.first(RETAIN_ROWS)}
        start = start or {name: nll(before, stage, rows) for name, rows in asked.items()}
        yield {
            "method": method,
            "rectifier": rectifier,
            "lr": rate,
            "precision": dtype,
            "seed": seed,
            **_moved(before, folder, dtype),
            **{
                f"{name}_left": round(math.exp(start[name] - nll(folder, stage, rows)), 5)
                for name, rows in asked.items()
            },
        }


def _equal(method: str, rectifier: str, rate: str, seed: int) -> tuple[str, ...]:
    """Returns overrides with as many steps for each, whatever its passes."""
    return (*Cell(method, rectifier).words(rate, seed, 50)[:3], "train.steps=50", f"seed={seed}")


def _silent(line: dict[str, Any]) -> None:
    """Takes telemetry that nobody reads."""


def _moved(before: Path, after: Path, dtype: str) -> dict[str, float]:
    """Returns how far the weights are from where training began, and how many moved at all."""
    import torch
    from safetensors.torch import load_file

    start, end = (load_file(folder / "model.safetensors") for folder in (before, after))
    rounded = torch.bfloat16 if dtype == "bf16" else torch.float32
    square = moved = total = 0.0
    for name, weight in end.items():
        change = weight.double() - start[name].to(rounded).double()
        square += float((change**2).sum())
        moved += float((change != 0).sum())
        total += change.numel()
    return {"distance": round(math.sqrt(square), 5), "moved": round(moved / total, 5)}


def show_settings(rows: Sequence[Row]) -> None:
    """Prints what each gamma and tau keeps, beside the default."""
    first = read(ROOT / "docs" / "data" / "rectification.csv")
    known = [row for row in (*first, *rows) if (row["rectifier"], row["lr"]) == ("gru", RATES[0])]
    for left in LEFT:
        shown = []
        for method, more in product(("ga", "npo"), ("", *_settings())):
            mine = by_seed(known, f"B_utility_{left:g}", method=method, more=more, times="1")
            default = by_seed(known, f"B_utility_{left:g}", method=method, more="", times="1")
            shown.append([method, more or "gamma=0.8, no tau", *beside(mine, default)])
        print(f"utility where {left:g} of the forget probability is left, part B")
        table(("method", "gru with", "kept", "less the default", "seeds"), shown)


def _settings() -> list[str]:
    named = (("gamma", GAMMAS), ("tau", TAUS))
    return [f"rectifier.{name}={value}" for name, values in named for value in values]


def show_tofu(rows: Sequence[Row]) -> None:
    """Prints what each cell keeps at its rate, beside `none`."""
    for what, left in product(("utility", "retain"), LEFT):
        shown = []
        for method, rectifier in TOFU_CELLS:
            found = []
            for name in ("none", rectifier):
                mine = [r for r in rows if (r["method"], r["rectifier"]) == (method, name)]
                again = [r["lr"] for r in mine if r["seed"] == str(SEEDS[1])]
                found.append((again, by_seed(mine, f"B_{what}_{left:g}", lr=(again or [""])[0])))
            (_, plain), (again, with_) = found
            shown.append([method, rectifier, *(again or ["-"]), *beside(with_, plain)])
        print(f"{what} where {left:g} of the forget probability is left, part B")
        table(("method", "rectifier", "lr", "kept", "less none", "seeds"), shown)


def show_precision(rows: Sequence[Row]) -> None:
    """Prints means over the seeds, and the bf16 share of the float32 distance."""
    shown = []
    columns = ("distance", "moved", "forget_left", "retain_left")
    for *cell, dtype in PRECISION_CELLS:
        where = dict(zip(("lr", "method", "rectifier"), cell, strict=True))
        found = [by_seed(rows, name, **where, precision=dtype) for name in columns]
        means = [number(float(np.mean(list(each.values())))) if each else "-" for each in found]
        shown.append([*cell, dtype, *means, str(len(found[0]))])
    table(("lr", "method", "rectifier", "weights", *columns, "seeds"), shown)


def by_seed(rows: Iterable[Row], name: str, **where: str) -> dict[str, float]:
    """Returns a column of the rows that fit, by seed."""
    fitting = [row for row in rows if all(row[key] == value for key, value in where.items())]
    return {row["seed"]: float(row[name]) for row in fitting}


def beside(mine: Mapping[str, float], other: Mapping[str, float]) -> list[str]:
    """Returns the mean, that of the differences by seed, and their range."""
    changes = [value - other[seed] for seed, value in mine.items() if seed in other]
    if not changes:
        return ["-", "-", "-"]
    ends = f"{number(min(changes), '+')} .. {number(max(changes), '+')} ({len(changes)})"
    mean = number(float(np.mean(list(mine.values()))))
    return [mean, number(float(np.mean(changes)), "+"), ends]


def read(path: Path) -> list[dict[str, str]]:
    """Reads a table of runs."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def main() -> None:
    """Runs an arm, writes its rows and prints its tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arms = {
        "settings": (settings, show_settings),
        "precision": (precision, show_precision),
        "tofu": (tofu, show_tofu),
    }
    parser.add_argument("arm", choices=list(arms))
    parser.add_argument("--output", type=Path, default=ROOT / "outputs", help="store")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="where data/ is")
    parser.add_argument("--data", type=Path, help="folder of TOFU's files")
    parser.add_argument("--print", action="store_true", help="run nothing")
    chosen = parser.parse_args()
    compute, show = arms[chosen.arm]
    path = chosen.docs / "data" / f"rectification_{chosen.arm}.csv"
    rows: list[Row] = []
    if not chosen.print:
        path.parent.mkdir(parents=True, exist_ok=True)
        for row in compute(chosen.output.resolve(), chosen.data):
            rows.append(row)
            with path.open("w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, list(row), lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)
    show(read(path))


if __name__ == "__main__":
    sys.exit(main())
