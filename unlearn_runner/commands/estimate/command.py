"""`unlearn estimate=true ...`: what unlearning will need, before anything starts."""

from __future__ import annotations

import math
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import cast

from rich.table import Table

from unlearn_runner.commands.estimate.memory import LargestBatch, Peak, Setting, peak
from unlearn_runner.commands.estimate.sizes import Sizes
from unlearn_runner.commands.estimate.speed import DEVICES, step
from unlearn_runner.config.root import Run
from unlearn_runner.data.rows import Rows
from unlearn_runner.distributed import launch
from unlearn_runner.distributed.gpus import visible
from unlearn_runner.errors import ConfigError
from unlearn_runner.methods.base import Term, needs_start_model
from unlearn_runner.pipeline.plan import Plan
from unlearn_runner.pipeline.stages.unlearn import Unlearn
from unlearn_runner.utils.console import console, results_console

CHARACTERS = 3.5
"""Of English text in a token, on the low side."""
TEMPLATE = 12
"""Tokens that a template adds to a row."""
HEADROOM = 0.93
"""Of a device's memory, what tensors may take: the rest is the driver's and the allocator's."""

WORDS = {
    "weights": "weights",
    "moments": "AdamW's moments",
    "memory": "the rectifier's memory",
    "gradients": "gradients, at the fullest moment",
    "start": "the start model",
    "activations": "activations of one micro-batch",
    "logits": "logits of its answers",
    "gathered": "gathered layers, or copies in bf16",
    "host": "(in host memory, beside these)",
}


def estimate(run: Run, plan: Plan) -> None:
    """Prints memory of each rank and time of a step, and warns where it cannot fit.

    Raises:
        ConfigError: If the model's sizes are not known here, or nothing is trained.
    """
    if run.method.one_shot:
        raise ConfigError("estimate: this method trains in no loop of ours", "estimate=false")
    stage = cast(Unlearn, plan.unlearn)
    sizes = sizes_of(run, plan)
    world = launch.ranks_here(run.parallel) * run.parallel.nodes
    setting, work, passes, tokens = setting_of(run, stage, sizes, world)
    found = peak(sizes, work, setting)
    name, memory = _device(run)
    trained = f"{setting.trained / 1e6:,.1f} M of " if setting.frozen else ""
    title = (
        f"unlearning {trained}{sizes.parameters / 1e6:,.1f} M parameters, "
        f"{type(run.parallel).__name__} on {world} rank{'s' if world > 1 else ''}, "
        f"{setting.precision}; at most {work.rows} rows x {work.length} tokens at once"
    )
    table = _table(title, found, name, memory)
    if device := DEVICES.get(name):
        time = step(sizes, setting, device, tokens * world, work.length, passes, world)
        table.add_section()
        table.add_row("seconds of a step, arithmetic", f"{time[0]:.3f}")
        table.add_row("and between ranks, unless hidden", f"{time[1]:.3f}")
    results_console().print(table)
    if memory and found.total > HEADROOM * memory:
        console.print(
            f"warning: {found.total / 1e9:.1f} GB do not fit {name} ({memory / 1e9:.0f} GB): "
            f"{_remedy(run, found)}",
            markup=False,
        )


def sizes_of(run: Run, plan: Plan) -> Sizes:
    """Returns the sizes of the model that is trained.

    Raises:
        ConfigError: If its configuration is not on this machine, and it is none of `conf/model`.
    """
    for stage in plan.stages:
        folder = stage.outside() if stage.given and stage.label in ("target", "base") else None
        if folder is not None:
            return Sizes.of_folder(Path(folder))
    if (made := run.model.pretraining) is not None:
        shape = {
            **vars(made.shape),
            "model_type": made.shape.family,
            "max_position_embeddings": made.shape.context,
            "tie_word_embeddings": made.shape.tie_embeddings,
        }
        return Sizes.of_config(shape | {"vocab_size": made.vocab_size})
    package = run.model.packaged
    path = package.same_as if package else run.model.given and run.model.given.path
    if path and (known := Sizes.of_name(path)) is not None:
        return known
    raise ConfigError(
        f"estimate: the configuration of {path} is not on this machine",
        f"python scripts/fetch.py {path}",
    )


FROZEN_BYTES = {"float32": 4, "bf16": 2, "nf4": 0.53}
"""Of a weight by its number format; of 4 bits with their quantised scales."""


def setting_of(
    run: Run, stage: Unlearn, sizes: Sizes, world: int
) -> tuple[Setting, LargestBatch, int, int]:
    """Returns what memory depends on, a rank's largest micro-batch, its passes, and its tokens."""
    terms, groups = run.method.terms(), stage.groups
    watched = tuple(term for group in groups for term in group.terms)
    rows = math.ceil(run.train.batch_size / world)
    micro = min(run.train.micro_batch or rows, rows)
    cuts = math.ceil(rows / micro)
    start_model = needs_start_model(watched)
    compared = [
        (before, term)
        for before, group in enumerate(groups)
        for term in group.terms
        if term.loss.needs_alternative
    ]
    setting = Setting(
        trained=run.adapter.trained_parameters(sizes),
        frozen=sizes.parameters if run.adapter.adapts else 0,
        precision=run.train.precision,
        frozen_bytes=FROZEN_BYTES[run.adapter.storage],
        groups=len(groups),
        kept=run.rectifier.gradients_kept,
        passes=len(groups[-1].terms) * cuts,
        compared_after=max(
            (n + (cuts > 1 or term is not groups[n].terms[0]) for n, term in compared), default=0
        ),
        holds_start_model=start_model and not run.adapter.holds_start,
        over_vocabulary=4 if start_model else 2,
        shards=world if run.parallel.shards else 1,
        gathers=run.parallel.shards,
        offload=run.parallel.offloads,
        checkpointing=run.train.gradient_checkpointing,
        dropout=run.adapter.drops_out,
    )
    splits = [stage.forget, *([stage.retain] if len(watched) > 1 or len(terms) > 1 else [])]
    length, scored = (max(x) for x in zip(*(_longest(s, micro) for s in splits), strict=True))
    length = min(length, run.train.max_length)
    work = LargestBatch(micro, length, scored)
    if compared:
        work = replace(work, **_alternatives(run, stage, compared, micro))
    tokens = cuts * (len(watched) * work.tokens + len(compared) * work.compared)
    return setting, work, (len(watched) + len(compared)) * cuts, tokens


def _alternatives(
    run: Run, stage: Unlearn, compared: list[tuple[int, Term]], micro: int
) -> dict[str, int]:
    """Returns the tokens of the longest row with another answer, and of the answers' longest."""
    questions = max(
        len(row.question)
        for _, term in compared
        for row in (stage.retain if term.split == "retain" else stage.forget)
    )
    longest = max((len(text) for text in stage.refusals), default=0) / CHARACTERS + 1
    if (alternates := run.method.prerequisites().alternates) is not None:
        longest = max(longest, alternates.max_new_tokens + 1)
    length = math.ceil(questions / CHARACTERS + TEMPLATE + longest)
    return {
        "other_length": min(length, run.train.max_length),
        "other_scored": math.ceil(micro * longest),
    }


def _longest(rows: Rows, micro: int) -> tuple[int, int]:
    """Returns the tokens of the longest row, and the scored ones of the longest answers."""
    lengths = [(len(r.question) + len(r.answer)) / CHARACTERS + TEMPLATE for r in rows]
    answers = sorted((len(r.answer) / CHARACTERS + 1 for r in rows), reverse=True)
    return math.ceil(max(lengths)), math.ceil(sum(answers[:micro]))


def _device(run: Run) -> tuple[str, float]:
    """Returns the device's name and memory in bytes: the asked one, or this machine's."""
    if isinstance(run.estimate, str):
        return run.estimate, DEVICES[run.estimate].memory
    if visible(run.parallel.device) and shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
        lines = subprocess.run(query, capture_output=True, text=True).stdout.splitlines()
        if lines:
            name, _, mebibytes = lines[0].rpartition(",")
            return name.strip(), float(mebibytes) * 2**20
    return "this machine's processor", 0.0


def _table(title: str, found: Peak, name: str, memory: float) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("on each rank")
    table.add_column("GB", justify="right")
    for part, words in WORDS.items():
        if part == "host" and not found.host:
            continue
        table.add_row(words, f"{getattr(found, part) / 1e9:.3f}")
    table.add_section()
    of = f" of {memory / 1e9:.0f}" if memory else ""
    table.add_row(f"peak, on {name}", f"{found.total / 1e9:.3f}{of}")
    return table


def _remedy(run: Run, found: Peak) -> str:
    """Returns what would make it smaller, the largest part first."""
    if found.activations + found.logits > found.total / 2:
        if not run.train.gradient_checkpointing:
            return "train.gradient_checkpointing=true, or a smaller train.micro_batch"
        return "a smaller train.micro_batch"
    if not run.parallel.shards:
        return "parallel=fsdp2 shares weights, gradients and moments out; adapter=lora trains less"
    if run.parallel.offloads:
        return "more parallel.ranks, or adapter=lora"
    return "more parallel.ranks, parallel.offload=true, or adapter=lora"
