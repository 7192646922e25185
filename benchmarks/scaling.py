"""The tables of docs/scaling.md: what unlearning of two well-known models needs on A100s.

python benchmarks/scaling.py
"""

from __future__ import annotations

from unlearn_runner.commands.estimate.memory import LargestBatch, Setting, peak
from unlearn_runner.commands.estimate.sizes import Sizes
from unlearn_runner.commands.estimate.speed import DEVICES, bytes_sent, step

MODELS = {
    "Phi-1.5": Sizes(2048, 8192, 24, 32, 32, 64, 51_200, tied=False, gated=False),
    "Llama-2-7B": Sizes(4096, 11_008, 32, 32, 32, 128, 32_000, tied=False),
}
BATCH, MICRO, LENGTH, SCORED = 32, 4, 160, 60
"""Rows of a step and of a micro-batch, tokens of a long TOFU row, and of its answer."""
A100 = DEVICES["A100-80GB"]


def row(name: str, ranks: int, engine: str, gru: bool, rank: int = 0) -> str:
    """Returns one line: GradDiff, bf16, activation checkpointing for the larger model."""
    sizes = MODELS[name]
    sharded = engine == "fsdp2"
    cuts = max(1, BATCH // ranks // MICRO)
    setting = Setting(
        trained=sizes.adapted(rank, True, True) if rank else sizes.parameters,
        frozen=sizes.parameters if rank else 0,
        frozen_bytes=2 if rank else 4,
        precision="bf16",
        groups=1 + gru,
        kept=int(gru),
        passes=cuts if gru else 2 * cuts,
        shards=ranks if sharded else 1,
        gathers=sharded,
        checkpointing=name != "Phi-1.5",
        dropout=bool(rank),
    )
    found = peak(sizes, LargestBatch(MICRO, LENGTH, MICRO * SCORED), setting)
    tokens = 2 * BATCH * LENGTH
    arithmetic, sending = step(sizes, setting, A100, tokens, LENGTH, 2 * cuts, ranks)
    sent = bytes_sent(setting, 2 * cuts, ranks)
    fits = "" if found.total < 0.93 * A100.memory else " (does not fit)"
    what = f"LoRA {rank}, bf16 base" if rank else "all weights"
    return (
        f"| {name} | {what} | {ranks} x {engine} | {'gru' if gru else 'none'} "
        f"| {found.total / 1e9:.1f}{fits} | {arithmetic:.2f} | {sent / 1e9:.1f} "
        f"| {sending:.2f} |"
    )


def main() -> None:
    """Prints the table."""
    print("| model | trained | ranks | rectifier | peak GB | s arithmetic | GB sent | s sending |")
    print("|---|---|---|---|---:|---:|---:|---:|")
    for name in MODELS:
        for ranks, engine in ((1, "single"), (8, "ddp"), (8, "fsdp2")):
            for gru in (False, True):
                print(row(name, ranks, engine, gru))
        print(row(name, 1, "single", True, rank=8))


if __name__ == "__main__":
    main()
