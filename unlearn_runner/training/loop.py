"""The loop over the steps: checkpoints, telemetry, signals, and the end of what runs away."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from unlearn_runner.utils.signals import Interrupted, requested

if TYPE_CHECKING:
    from unlearn_runner.distributed.ranks import Ranks

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from unlearn_runner.training import checkpoint
from unlearn_runner.training.batches import StepLoader
from unlearn_runner.training.divergence import Diverged
from unlearn_runner.training.engine import Engine
from unlearn_runner.utils import signals
from unlearn_runner.utils.progress import progress


@dataclass(frozen=True)
class TrainingLog:
    """Where a loop leaves what it may be continued from, and what it says of each step."""

    checkpoints: Path
    """Folder of the checkpoints."""
    key: str
    """Of the stage that trains: what its checkpoints are marked with."""
    write: Callable[[dict[str, Any]], None]
    """Writes one line of telemetry."""


def train(
    engine: Engine,
    loader: StepLoader,
    title: str,
    log: TrainingLog,
    along: Callable[[int], None] = lambda _: None,
    evaluated_after: Collection[int] = (),
) -> bool:
    """Runs the loop to its end, continuing from a checkpoint where one is found.

    Args:
        engine: What changes.
        loader: The rows of every step.
        title: What telemetry and progress call it.
        log: Where checkpoints and telemetry go.
        along: Called with the number of steps done after every step, and once more for the step
            that a checkpoint was found of; must not change the model, nor mind being repeated.
        evaluated_after: The steps after which `along` looks at the model.

    Returns:
        Whether it reached the end; false when training diverged, of which the last line of
        telemetry is the evidence. A checkpoint never holds a model that is lost.

    Raises:
        Interrupted: If a signal asked for it; a checkpoint has been left.
    """
    total = engine.recipe.num_steps(engine.num_rows)
    every, ranks = engine.recipe.checkpoint_every, engine.layout.ranks
    state = checkpoint.load(log.checkpoints, log.key, engine.device, ranks)
    first = engine.restore(state) if state else 0
    del state  # as large as the model and its optimizer together
    with progress(title, total) as tick:
        tick.resume(first)
        if first:
            along(first)
        for done in range(first + 1, total + 1):
            # Dropout, where a model has any, is drawn anew each step: the same step after a resume.
            torch.manual_seed(loader.sampler.step_seed(done, ranks.rank))
            engine.models.trained.train()
            started = time.perf_counter()
            rows = loader.step(done - 1)
            line: dict[str, Any] = {"stage": title, "step": done}
            try:
                facts = engine.step(rows)
                rate = rows.num_tokens / (time.perf_counter() - started)
                line |= {**facts, "tokens_per_s": round(rate, 1)}
                stop = engine.stop_requested or (ranks.world == 1 and bool(signals.requested()))
                save = stop or (every and done % every == 0 and done < total)
                if save or done == total or done in evaluated_after:
                    engine.check_finite(rows, line)
            except Diverged as found:
                log.write({**line, **found.line})
                return False
            log.write(line)
            if save:
                checkpoint.save(log.checkpoints, log.key, done, engine.state(done), ranks)
            if stop:
                raise_stop(ranks)
            along(done)
            note = " ".join(f"{k[5:]} {v:.3f}" for k, v in facts.items() if k[:5] == "loss/")
            tick(note=note, check_signals=False)  # a rank must not leave before the others know
    return True


def raise_stop(ranks: Ranks) -> NoReturn:
    """Ends here: some rank was asked to, and all agree on the signal.

    Raises:
        Interrupted: Always.
    """
    raise Interrupted(ranks.all_reduce_max(requested() or 0))
