"""What each rectifier costs: its step beside plain GradDiff's and beside GRU's, in turns.

    python benchmarks/rectifiers.py --data FOLDER      FOLDER holds TOFU's JSON files
    python benchmarks/rectifiers.py --quick            generated rows, small sizes: does it work

Every rectifier of conf/rectifier/ with its default settings. Machines are shared and noisy: the
three steps alternate on the same rows, and medians of ratios are reported. Memory is the peak of
tensor bytes in a step, state included, beyond that of `none`, in gradients (of which a model in
float32 training holds four: weights, gradient, two moments).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from hydra.utils import instantiate
from memory import peak_bytes, state_bytes
from omegaconf import OmegaConf
from rich.table import Table
from turns import in_turns
from workload import Workload, prepare

from unlearn_runner.models.shape import Shape
from unlearn_runner.rectifiers.base import Rectifier
from unlearn_runner.training.recipe import Recipe
from unlearn_runner.utils.console import results_console

OPTIONS = Path(__file__).resolve().parents[1] / "conf" / "rectifier"
METHOD = "GradDiff x 0.1"


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    shape: Shape
    vocab: int
    batch: int
    micro: int
    rounds: int


FULL = Sizes(Shape(384, 1024, num_layers=6, num_heads=6), 8192, batch=32, micro=8, rounds=5)
QUICK = Sizes(Shape(64, 128, num_layers=2, num_heads=2), 1024, batch=8, micro=4, rounds=3)


@dataclass(frozen=True)
class Cost:
    """Cost of one rectifier's step."""

    rectifier: str
    over_none: float
    """Median over rounds of its seconds over those of plain GradDiff."""
    over_gru: float
    seconds: float
    gradients: float
    """Peak bytes beyond those of `none`, in bytes of one gradient."""


def main() -> None:
    """Prints the table."""
    args = _arguments()
    sizes = QUICK if args.quick else FULL
    sizes = replace(sizes, rounds=args.rounds or sizes.rounds)
    workload = prepare(args.data, sizes.shape, sizes.vocab, args.threads)
    names = args.rectifiers or sorted(p.stem for p in OPTIONS.glob("*.yaml"))
    costs = [measure(workload, name, sizes) for name in names if name not in ("none", "gru")]
    show(costs, workload, args.threads)
    if args.json:
        facts = {
            "source": workload.source,
            "parameters": workload.model.num_parameters(),
            "threads": args.threads,
            "torch": torch.__version__,
            "sizes": asdict(sizes),
        }
        rows = [asdict(cost) for cost in costs]
        args.json.write_text(json.dumps({**facts, "rectifiers": rows}, indent=1) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("rectifiers", nargs="*", help="names of conf/rectifier/; all if none")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="with TOFU's JSON files")
    parser.add_argument("--quick", action="store_true", help="small sizes, a minute")
    parser.add_argument("--rounds", type=int, help="how often each step is measured")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    return parser.parse_args()


def rectifier(name: str) -> Rectifier:
    """Returns a rectifier of conf/rectifier/ with its default settings."""
    loaded = OmegaConf.load(OPTIONS / f"{name}.yaml")
    return instantiate(OmegaConf.create({"seed": 0, "rectifier": loaded}).rectifier)


def measure(workload: Workload, name: str, sizes: Sizes) -> Cost:
    """Measures three steps in turns, then the peak of tensor bytes of two of them."""
    recipe = Recipe(lr=1e-4, batch_size=sizes.batch, micro_batch=sizes.micro)
    chosen = ("none", "gru", name)
    engines = {each: workload.engine(METHOD, recipe, rectifier(each)) for each in chosen}
    loader = workload.step_loader("GradDiff", recipe)
    turns = in_turns(engines, loader, sizes.rounds, name)
    rows = loader.step(sizes.rounds + 1)
    moved = {each: peak_bytes(lambda e=engines[each]: e.step(rows)) for each in ("none", name)}
    peaks = {each: state_bytes(engines[each]) + most for each, most in moved.items()}
    gradient = 4 * sum(p.numel() for p in engines[name].space.parameters)
    return Cost(
        name,
        turns.ratio(name, "none"),
        turns.ratio(name, "gru"),
        turns.median(name),
        (peaks[name] - peaks["none"]) / gradient,
    )


def show(costs: Sequence[Cost], workload: Workload, threads: int) -> None:
    """Prints a row for each rectifier."""
    million = workload.model.num_parameters() / 1e6
    title = f"{METHOD}, {million:.1f} M parameters, {workload.source}, {threads} thread(s)"
    table = Table(title=title)
    for column in ("rectifier", "s a step", "over none", "over gru", "gradients more than none"):
        table.add_column(column, justify="left" if column == "rectifier" else "right")
    for cost in costs:
        ratios = f"{cost.over_none:.2f}", f"{cost.over_gru:.2f}"
        table.add_row(cost.rectifier, f"{cost.seconds:.3f}", *ratios, f"{cost.gradients:.1f}")
    results_console().print(table)


if __name__ == "__main__":
    main()
