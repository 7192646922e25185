"""Whether `rectifier=budget` keeps what it promises, on the embedded benchmark, over seeds.

    python scripts/measure_budget.py --output FOLDER           writes docs/data/budget.csv

Each run unlearns with the settings of `sweep=demo` and is then measured on *all* retain rows, not
on the sample that its ledger is of: `kept` and `forget_left` are what retain and forget answers
have left of their probability per token, `sampled` is `kept` as the ledger's rows have it, `ledger`
the sum of what steps spent by first order. One target model serves all; seeds are of unlearning.
Runs are taken from the folder's store where they are there already.

The committed table has three more settings, which `docs/rectifiers.md` names: overrides after --.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
from pathlib import Path
from typing import Any

import torch

from unlearn_runner.api import plan
from unlearn_runner.data.encode import collate, encode_rows
from unlearn_runner.models.load import load_frozen, load_tokenizer
from unlearn_runner.pipeline.execute import Executor
from unlearn_runner.pipeline.stages.base import Stage
from unlearn_runner.pipeline.stages.unlearn import Unlearn
from unlearn_runner.tracking.record import Record

CPU = torch.device("cpu")
ROOT = Path(__file__).resolve().parents[1]
RIVALS: dict[str, tuple[str, ...]] = {
    "none": ("rectifier=none",),
    "gru": ("rectifier=gru",),
    "keep .99": ("rectifier=budget", "rectifier.keep=0.99"),
    "keep .95": ("rectifier=budget", "rectifier.keep=0.95"),
}
SETTINGS = ("keep", "rows", "every", "reserve")
COLUMNS = ("method", "rectifier", *SETTINGS, "seed", "kept", "forget_left")
COLUMNS += ("ledger", "sampled")


def nll(folder: Path, stage: Unlearn, rows: Any) -> float:
    """Returns the mean NLL of a model on all answer tokens of some rows, in nats."""
    tokenizer, model = load_tokenizer(folder), load_frozen(folder, "float32", CPU)
    encoded = encode_rows(tokenizer, stage.template, rows, stage.recipe.max_length)
    encoded.sort(key=lambda row: len(row.ids))
    total = 0.0
    with torch.no_grad():
        for start in range(0, len(encoded), 64):
            batch = collate(encoded[start : start + 64], tokenizer.pad_token_id, CPU)
            total += _sum(model, batch)
    return total / sum(row.num_labels for row in encoded)


def _sum(model: Any, batch: Any) -> float:
    from contextlib import nullcontext

    from unlearn_runner.methods.losses import NLL
    from unlearn_runner.models.forward import Models

    return float(NLL()(Models(model, None, nullcontext), batch))


def needed(stage: Stage) -> list[Stage]:
    """Returns a stage and all that it reads, what is read first."""
    found: dict[str, Stage] = {}
    for read in stage.inputs:
        found |= {one.key: one for one in needed(read)}
    return [*found.values(), stage]


def measure(
    method: str, rectifier: str, seed: int, more: list[str], output: Path
) -> dict[str, Any]:
    """Unlearns once and returns a row of the table."""
    words = (f"method={method}", "train.lr=1e-4", f"seed={seed}", *RIVALS[rectifier], *more)
    job = plan(*words, f"output_dir={output}", "name=measure-budget")
    stage = next(one for one in job.plan.stages if isinstance(one, Unlearn))
    executor = Executor(job.store, Record(output / "record"), job.run.parallel)
    for one in needed(stage):
        executor.ensure_artifact(one, load=True)
    before, after = job.store.path(stage.start), job.store.path(stage)
    lines = (after / "metrics.jsonl").read_text("utf-8").splitlines()
    last = json.loads(lines[-1])
    spent = last.get("budget_spent")
    first_order = [json.loads(line).get("budget_first_order", 0.0) for line in lines]
    start = [nll(before, stage, rows) for rows in (stage.retain, stage.forget)]
    end = [nll(after, stage, rows) for rows in (stage.retain, stage.forget)]
    return {
        "method": method,
        "rectifier": rectifier,
        **{name: getattr(job.run.rectifier, name, "") for name in SETTINGS},
        "seed": seed,
        "kept": round(math.exp(start[0] - end[0]), 5),
        "forget_left": round(math.exp(start[1] - end[1]), 5),
        "ledger": "" if spent is None else round(sum(first_order), 5),
        "sampled": "" if spent is None else round(math.exp(-spent), 5),
    }


def main() -> None:
    """Measures all and writes the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=ROOT / "outputs", help="store and telemetry")
    parser.add_argument("--methods", nargs="*", default=["ga", "npo"])
    parser.add_argument("--rectifiers", nargs="*", default=list(RIVALS), choices=list(RIVALS))
    parser.add_argument("--seeds", type=int, nargs="*", default=list(range(10)))
    parser.add_argument("--csv", type=Path, default=ROOT / "docs" / "data" / "budget.csv")
    parser.add_argument("more", nargs="*", default=[], help="overrides for all of them")
    chosen = parser.parse_args()
    rows = []
    for method in chosen.methods:
        for rectifier in chosen.rectifiers:
            for seed in chosen.seeds:
                rows.append(measure(method, rectifier, seed, chosen.more, chosen.output.resolve()))
                print(*rows[-1].values(), flush=True)
    chosen.csv.parent.mkdir(parents=True, exist_ok=True)
    with chosen.csv.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
