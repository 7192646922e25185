"""What rectification costs under adapters, and what FILA's Fisher estimate costs.

    python benchmarks/lora.py --data FOLDER      FOLDER holds TOFU's JSON files
    python benchmarks/lora.py --quick            generated rows, small sizes: does it work at all

GRU's step and GradDiff's take the same forward and backward passes, in turns; so do the estimate
and a plain loop. Machines are shared and noisy, so seconds are the process's own (CPU time), and
beside the median ratio of steps stands the time that is spent in rectification itself.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from memory import peak_bytes, state_bytes
from rich.table import Table
from torch.nn.functional import cross_entropy
from turns import in_turns
from workload import Workload, prepare

from unlearn_runner.data.encode import Encoded, collate
from unlearn_runner.distributed.layout import Layout
from unlearn_runner.models.adapters.dora import DoRA
from unlearn_runner.models.adapters.fila import FILA
from unlearn_runner.models.adapters.lora import LoRA
from unlearn_runner.models.adapters.pissa import PiSSA
from unlearn_runner.models.adapters.rslora import RsLoRA
from unlearn_runner.models.forward import scored_logits
from unlearn_runner.models.shape import Shape
from unlearn_runner.rectifiers.gru import GRU
from unlearn_runner.rectifiers.none import NoRectifier
from unlearn_runner.training.engine import Engine
from unlearn_runner.training.fisher import Estimate, batches, only_measured
from unlearn_runner.training.recipe import Recipe
from unlearn_runner.utils.console import console, results_console

MB = 1e6
ALLOWED, BUFFERS, FISHER = 1.03, 2, 1.2
ADAPTERS: dict[str, type[LoRA]] = {
    "lora": LoRA,
    "rslora": RsLoRA,
    "dora": DoRA,
    "pissa": PiSSA,
    "fila": FILA,
}


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    shape: Shape
    vocab: int
    batch: int
    micro: int
    pairs: int


FULL = Sizes(Shape(640, 1728, num_layers=8, num_heads=10), 32_000, batch=16, micro=8, pairs=7)
QUICK = Sizes(Shape(128, 256, num_layers=2, num_heads=2), 4096, batch=8, micro=4, pairs=5)


@dataclass(frozen=True)
class Cost:
    """What a GRU step costs beside a GradDiff step with the same passes, under one adapter."""

    parameters: int
    trained: int
    plain_s: float
    gru_s: float
    ratio: float
    """Median over pairs of GRU's step over GradDiff's."""
    rectify_s: float
    """Median seconds of a step that rectification itself takes."""
    share: float
    """Of a GradDiff step."""
    gradient_mb: float
    plain_mb: float
    """Peak of tensors that are not frozen weights."""
    gru_mb: float
    buffers: float
    """Peak bytes more than GradDiff's, in gradients of the adapter."""
    rectified: int
    steps: int


@dataclass(frozen=True)
class FisherCost:
    """What FILA's estimate costs beside the backward passes that it needs."""

    passes: int
    plain_s: float
    """Median seconds of a pair of forward and backward passes, by plain torch."""
    estimate_s: float
    ratio: float
    kept_bytes: int
    rows: int
    """Output rows of all adapted maps."""


def main() -> None:
    """Prints the tables: costs beside their bounds."""
    args = _arguments()
    sizes = QUICK if args.quick else FULL
    sizes = replace(sizes, pairs=args.pairs or sizes.pairs)
    workload = prepare(args.data, sizes.shape, sizes.vocab, args.threads)
    facts: dict[str, Any] = {"source": workload.source, "threads": args.threads, "rank": args.rank}
    facts["parameters"] = workload.model.num_parameters()
    weights, fisher = measure_fisher(workload, sizes)
    found: dict[str, Any] = {**facts, "fisher": asdict(fisher), "adapters": {}}
    show_fisher(fisher)
    for name in args.adapters.split(","):
        adapter = ADAPTERS[name](rank=args.rank)
        cost = measure(workload, adapter, sizes, weights if adapter.importance else None)
        show(name, cost, adapter, workload, args.threads)
        found["adapters"][name] = asdict(cost)
        if args.json:  # after each: they take their time
            args.json.write_text(json.dumps(found, indent=1) + "\n")


def measure_fisher(workload: Workload, sizes: Sizes) -> tuple[dict[str, Any], FisherCost]:
    """Returns row weights, and what they cost: batches of the estimate and of plain torch."""
    how, pad = FILA().importance, workload.tokenizer.pad_token_id
    model = deepcopy(workload.model).eval()
    only_measured(model, how, 0)
    some = 4 * how.batch
    pairs = batches(how, workload.forget[:some], workload.retain)
    estimate = Estimate(model, how, Layout(), None, pad)
    tensors = [p for p in model.parameters() if p.requires_grad]
    seconds: dict[str, list[float]] = {"plain": [], "estimate": []}

    def plain(pair: dict[str, list[Encoded]]) -> None:
        for rows in pair.values():
            rows = sorted(rows, key=lambda row: len(row.ids))
            batch = collate(rows, pad, torch.device("cpu"))
            loss = cross_entropy(scored_logits(model, batch), batch.labels)
            for tensor in tensors:
                tensor.grad = None
            loss.backward()

    works = {"plain": plain, "estimate": lambda pair: estimate.sums([pair])}
    for number in range(sizes.pairs + 1):
        pair = pairs[number % len(pairs)]
        for name in works if number % 2 else reversed(works):
            started = time.process_time()
            works[name](pair)
            spent = time.process_time() - started
            if number:
                seconds[name].append(spent)
        console.print(f"Fisher estimate: round {number} of {sizes.pairs}", markup=False)
    # One estimate over few batches begins and ends as one over many does: that is not in a batch.
    started = time.process_time()
    estimate.sums([])
    idle = time.process_time() - started
    ratios = zip(seconds["estimate"], seconds["plain"], strict=True)
    weights, _ = estimate.row_weights(pairs)
    cost = FisherCost(
        2 * len(pairs),
        statistics.median(seconds["plain"]),
        statistics.median(seconds["estimate"]) - idle,
        statistics.median((mine - idle) / other for mine, other in ratios),
        sum(d.numel() * d.element_size() for d in weights.values()),
        sum(d.numel() for d in weights.values()),
    )
    return weights, cost


def show_fisher(cost: FisherCost) -> None:
    """Prints what an estimate costs beside its bounds."""
    title = f"Fisher estimate of {cost.rows} output rows, batches of 4 forget and 4 retain rows"
    table = Table(title=title, title_justify="left")
    for name in ("", "passes alone", "estimate", "ratio", "at most"):
        table.add_column(name, justify="right" if name else "left")
    seconds = (f"{cost.plain_s:.3f}", f"{cost.estimate_s:.3f}")
    table.add_row("CPU seconds per pair of batches", *seconds, f"{cost.ratio:.3f} x", f"{FISHER} x")
    table.add_row("bytes kept per row", "", f"{cost.kept_bytes / cost.rows:.0f}", "", "4")
    results_console().print(table)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="with TOFU's JSON files")
    parser.add_argument("--quick", action="store_true", help="small sizes, half a minute")
    parser.add_argument("--pairs", type=int, help="how often the pair of steps is measured")
    parser.add_argument("--rank", type=int, default=8, help="of the adapter (8)")
    parser.add_argument("--adapters", default=",".join(ADAPTERS), help="names (all)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    return parser.parse_args()


class Timed(GRU):
    """GRU that notes how long it takes."""

    spent: list[float] = []  # noqa: RUF012  (one list for the one instance there is)

    def rectify(self, *arguments: Any) -> Any:
        """Rectifies, and notes the seconds."""
        started = time.process_time()
        found = super().rectify(*arguments)
        self.spent.append(time.process_time() - started)
        return found


def measure(
    workload: Workload, adapter: LoRA, sizes: Sizes, weights: dict[str, Any] | None
) -> Cost:
    """Measures both steps in turns, then the peak of tensor bytes of each."""
    recipe = Recipe(lr=1e-4, batch_size=sizes.batch, micro_batch=sizes.micro)
    # tau bounds GRU's gradient as clip bounds GradDiff's: the same work outside of rectification.
    rectifiers = {"plain": NoRectifier(), "gru": Timed(gamma=0.8, tau=1.0)}
    engines = {
        name: workload.engine("GradDiff x 0.1", recipe, rectifier, adapter, weights)
        for name, rectifier in rectifiers.items()
    }
    loader = workload.step_loader("GradDiff", recipe)
    Timed.spent.clear()
    turns = in_turns(
        engines, loader, sizes.pairs, f"GRU on {type(adapter).__name__}", time.process_time
    )
    rectify = statistics.median(Timed.spent[1:])
    rows = loader.step(0)
    peaks = {n: _moving(e) + peak_bytes(lambda e=e: e.step(rows)) for n, e in engines.items()}
    trained = sum(p.numel() for p in engines["gru"].space.parameters)
    plain = turns.median("plain")
    return Cost(
        workload.model.num_parameters(),
        trained,
        plain,
        turns.median("gru"),
        turns.ratio("gru", "plain"),
        rectify,
        rectify / plain,
        4 * trained / MB,
        peaks["plain"] / MB,
        peaks["gru"] / MB,
        (peaks["gru"] - peaks["plain"]) / (4 * trained),
        turns.rectified,
        sizes.pairs + 1,
    )


def _moving(engine: Engine) -> int:
    """Returns what is held between steps without the frozen weights."""
    frozen = [p for p in engine.models.trained.parameters() if not p.requires_grad]
    return state_bytes(engine) - sum(p.numel() * p.element_size() for p in frozen)


def show(name: str, cost: Cost, adapter: LoRA, workload: Workload, threads: int) -> None:
    """Prints the figures beside their bounds."""
    title = f"GRU on GradDiff, {name} of rank {adapter.rank}: {cost.trained / 1e6:.2f} M of "
    title += f"{cost.parameters / 1e6:.1f} M parameters, {workload.source}, {threads} thread(s), "
    title += f"{cost.rectified} of {cost.steps} steps rectified"
    table = Table(title=title, title_justify="left")
    for column in ("", "GradDiff", "GRU", "GRU over GradDiff", "at most"):
        table.add_column(column, justify="right" if column else "left")
    table.add_row(
        "CPU seconds per step",
        f"{cost.plain_s:.3f}",
        f"{cost.gru_s:.3f}",
        f"{cost.ratio:.3f} x",
        f"{ALLOWED:.2f} x",
    )
    table.add_row("of them rectifying", "", f"{cost.rectify_s:.4f}", f"{cost.share:.2%}", "3%")
    more = f"+{cost.buffers:.2f} gradients of {cost.gradient_mb:.2f} MB"
    peaks = (f"{cost.plain_mb:.1f}", f"{cost.gru_mb:.1f}")
    table.add_row("peak of tensors, frozen weights apart, MB", *peaks, more, f"+{BUFFERS}")
    results_console().print(table)


if __name__ == "__main__":
    main()
