"""How fast the training loop is, and what rectification costs: side by side, in one run.

    python benchmarks/speed.py --data FOLDER      FOLDER holds TOFU's JSON files
    python benchmarks/speed.py --quick            generated rows, small sizes: does it work at all

Machines are shared and noisy: what is compared is interleaved, and medians of ratios are reported.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import bare
import torch
from memory import peak_bytes, state_bytes
from rich.table import Table
from turns import in_turns
from workload import Workload, prepare

from unlearn_runner.models.shape import Shape
from unlearn_runner.rectifiers.gru import GRU
from unlearn_runner.rectifiers.none import NoRectifier
from unlearn_runner.tracking.folder import METRICS
from unlearn_runner.tracking.record import Record
from unlearn_runner.training.engine import Engine
from unlearn_runner.training.loop import TrainingLog, train
from unlearn_runner.training.recipe import Recipe
from unlearn_runner.utils.console import console, results_console
from unlearn_runner.utils.files import append_line

GB = 1e9
LOOPS = ("fine-tune", "GradDiff", "NPO")


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    loop: Shape
    loop_vocab: int
    loop_steps: int
    rounds: int
    gru: Shape
    gru_vocab: int
    gru_batch: int
    gru_micro: int
    gru_pairs: int


FULL = Sizes(
    loop=Shape(256, 1024, num_layers=2, num_heads=4),
    loop_vocab=4096,
    loop_steps=8,
    rounds=7,
    gru=Shape(640, 1728, num_layers=8, num_heads=10),
    gru_vocab=32_000,
    gru_batch=32,
    gru_micro=8,
    gru_pairs=4,
)
QUICK = Sizes(
    loop=Shape(64, 128, num_layers=2, num_heads=2),
    loop_vocab=1024,
    loop_steps=4,
    rounds=3,
    gru=Shape(128, 256, num_layers=2, num_heads=2),
    gru_vocab=4096,
    gru_batch=8,
    gru_micro=4,
    gru_pairs=3,
)


@dataclass(frozen=True)
class Speed:
    """Tokens per second of two loops over the same batches."""

    method: str
    ours: float
    bare: float
    ratio: float
    """Median over rounds of ours over bare."""
    lowest: float
    highest: float
    apart: float
    """Distance between the two trained models over the distance they travelled."""


@dataclass(frozen=True)
class Cost:
    """What a GRU step costs beside a GradDiff step with the same forward passes."""

    parameters: int
    plain_s: float
    gru_s: float
    ratio: float
    gradient_gb: float
    plain_gb: float
    gru_gb: float
    buffers: float
    """Peak bytes more than GradDiff's, in gradients."""
    rectified: int
    steps: int


def main() -> None:
    """Measures, prints, writes."""
    args = _arguments()
    sizes = QUICK if args.quick else FULL
    if args.rounds:
        sizes = Sizes(**{**vars(sizes), "rounds": args.rounds, "gru_pairs": args.rounds})
    workload = prepare(args.data, sizes.loop, sizes.loop_vocab, args.threads)
    speeds = [speed(workload, method, sizes) for method in LOOPS]
    large = prepare(args.data, sizes.gru, sizes.gru_vocab, args.threads)
    cost = gru_cost(large, sizes)
    facts = {
        "rows": workload.source,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "loop_parameters": workload.model.num_parameters(),
        "command": " ".join(["python", *sys.argv]),
    }
    print_tables(speeds, cost, facts)
    if args.json:
        content = {**facts, "loops": [asdict(s) for s in speeds], "gru": asdict(cost)}
        args.json.write_text(json.dumps(content, indent=1) + "\n")
    if args.markdown:
        print(markdown(speeds, cost))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="with TOFU's JSON files")
    parser.add_argument("--quick", action="store_true", help="small sizes, half a minute")
    parser.add_argument("--rounds", type=int, help="how often each pair is measured")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--markdown", action="store_true", help="also print Markdown tables")
    return parser.parse_args()


# --- the loop


def speed(workload: Workload, method: str, sizes: Sizes) -> Speed:
    """Measures the runner's loop and the bare one on the same batches, in turns."""
    recipe = Recipe(
        lr=1e-4, batch_size=32, micro_batch=16, steps=sizes.loop_steps, checkpoint_every=None
    )
    ready = bare.steps(
        workload.step_loader(method, recipe),
        recipe,
        sizes.loop_steps,
        workload.tokenizer.pad_token_id,
    )
    tokens = sum(step.tokens for step in ready)
    rates: dict[str, list[float]] = {"ours": [], "bare": []}
    trained: dict[str, Any] = {}

    def ours() -> Callable[[], object]:
        engine, loader = workload.engine(method, recipe), workload.step_loader(method, recipe)
        trained["ours"] = engine.models.trained
        return lambda: _train(engine, loader)

    def by_hand() -> Callable[[], object]:
        trained["bare"] = model = deepcopy(workload.model)
        return lambda: bare.run(model, method, recipe, ready)

    pair = {"ours": ours, "bare": by_hand}
    for number in range(sizes.rounds + 1):
        for name in pair if number % 2 else reversed(pair):
            seconds = _clock(pair[name]())
            if number:  # the first round warms up
                rates[name].append(tokens / seconds)
        console.print(f"{method}: round {number} of {sizes.rounds}", markup=False)
    ratios = [a / b for a, b in zip(rates["ours"], rates["bare"], strict=True)]
    return Speed(
        method,
        statistics.median(rates["ours"]),
        statistics.median(rates["bare"]),
        statistics.median(ratios),
        min(ratios),
        max(ratios),
        apart(trained["ours"], trained["bare"], workload.model),
    )


def _clock(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _train(engine: Engine, loader: Any) -> None:
    """Runs the runner's loop as a stage does, telemetry on the disk included."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        record, stage_lines = Record(folder / "run"), folder / METRICS

        def log(facts: dict[str, Any]) -> None:
            append_line(stage_lines, facts)
            record.line(facts, stage_lines)

        if not train(engine, loader, "benchmark", TrainingLog(folder, "0" * 16, log)):
            raise SystemExit("training diverged: the figures would mean nothing")


def apart(a: Any, b: Any, start: Any) -> float:
    """Returns the distance between two trained models over the distance from where they began."""

    def distance(x: Any, y: Any) -> float:
        pairs = zip(x.parameters(), y.parameters(), strict=True)
        return sum(float((p - q).double().square().sum()) for p, q in pairs) ** 0.5

    with torch.no_grad():
        return distance(a, b) / distance(b, start)


# --- rectification


def gru_cost(workload: Workload, sizes: Sizes) -> Cost:
    """Measures GRU's and GradDiff's steps in turns, then the peak of tensor bytes of each."""
    recipe = Recipe(lr=1e-5, batch_size=sizes.gru_batch, micro_batch=sizes.gru_micro)
    # tau bounds GRU's gradient as clip bounds GradDiff's: the same work outside of rectification.
    rectifiers = {"plain": NoRectifier(), "gru": GRU(gamma=0.8, tau=1.0)}
    engines = {name: workload.engine("GradDiff x 0.1", recipe, r) for name, r in rectifiers.items()}
    loader = workload.step_loader("GradDiff", recipe)
    turns = in_turns(engines, loader, sizes.gru_pairs, "GRU")
    rows = loader.step(0)
    peaks = {}
    for name, engine in engines.items():
        peaks[name] = state_bytes(engine) + peak_bytes(lambda e=engine: e.step(rows))
    count = workload.model.num_parameters()
    return Cost(
        count,
        turns.median("plain"),
        turns.median("gru"),
        turns.ratio("gru", "plain"),
        4 * count / GB,
        peaks["plain"] / GB,
        peaks["gru"] / GB,
        (peaks["gru"] - peaks["plain"]) / (4 * count),
        turns.rectified,
        sizes.gru_pairs + 1,
    )


# --- tables


def print_tables(speeds: list[Speed], cost: Cost, facts: dict[str, Any]) -> None:
    """Prints both tables for people."""
    title = f"the loop: {facts['loop_parameters'] / 1e6:.1f} M parameters, {facts['rows']}, "
    title += f"{facts['threads']} thread(s), tokens per second"
    table = Table(title=title, title_justify="left")
    for name in ("", "ours", "bare loop", "ratio", "lowest", "highest", "models apart"):
        table.add_column(name, justify="right" if name else "left")
    for s in speeds:
        cells = (f"{s.ours:.0f}", f"{s.bare:.0f}", f"{s.ratio:.3f}", f"{s.lowest:.3f}")
        table.add_row(s.method, *cells, f"{s.highest:.3f}", f"{s.apart:.1e}")
    results_console().print(table)
    title = f"GRU on GradDiff: {cost.parameters / 1e6:.1f} M parameters, same forward passes, "
    title += f"{cost.rectified} of {cost.steps} steps rectified"
    table = Table(title=title, title_justify="left")
    for name in ("", "GradDiff", "GRU", "GRU over GradDiff"):
        table.add_column(name, justify="right" if name else "left")
    table.add_row(
        "seconds per step", f"{cost.plain_s:.2f}", f"{cost.gru_s:.2f}", f"{cost.ratio:.3f} x"
    )
    more = f"+{cost.buffers:.2f} gradients of {cost.gradient_gb:.2f} GB"
    table.add_row("peak of tensors, GB", f"{cost.plain_gb:.2f}", f"{cost.gru_gb:.2f}", more)
    results_console().print(table)


def markdown(speeds: list[Speed], cost: Cost) -> str:
    """Returns both tables in Markdown."""
    lines = ["| loop | tokens/s | bare loop | ratio |", "|---|---:|---:|---:|"]
    lines += [f"| {s.method} | {s.ours:.0f} | {s.bare:.0f} | {s.ratio:.3f} |" for s in speeds]
    lines += ["", "| | GradDiff | GRU | |", "|---|---:|---:|---|"]
    lines += [f"| s/step | {cost.plain_s:.2f} | {cost.gru_s:.2f} | {cost.ratio:.3f} x |"]
    extra = f"+{cost.buffers:.2f} gradients"
    lines += [f"| peak GB | {cost.plain_gb:.2f} | {cost.gru_gb:.2f} | {extra} |"]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
