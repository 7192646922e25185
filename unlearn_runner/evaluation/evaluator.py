"""Evaluator: runs the probes over every view and leaves the evidence."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unlearn_runner.data.prompts import Prompting
from unlearn_runner.data.rows import Rows
from unlearn_runner.evaluation.benchmarks.base import Generation
from unlearn_runner.store.keys import INERT

if TYPE_CHECKING:
    from unlearn_runner.distributed.ranks import Ranks


@dataclass(frozen=True)
class Evaluator:
    """What a model is asked, and how."""

    template: Prompting
    views: dict[str, Rows]
    generation: Generation
    max_length: int
    precision: str
    batch_size: int = field(metadata=INERT)

    def run(
        self, model: Any, tokenizer: Any, folder: Path, title: str, ranks: Ranks | None = None
    ) -> None:
        """Writes `<view>.logprobs.parquet` and `<view>.generations.parquet`.

        Args:
            model: A causal LM in eval mode.
            tokenizer: Its tokenizer.
            folder: Where the evidence goes.
            title: What the progress is called.
            ranks: Who shares the work; every rank must call it, rank 0 writes.
        """
        from unlearn_runner.data.encode import encode_rows, encode_whole, length_limit, stops
        from unlearn_runner.distributed.ranks import ALONE
        from unlearn_runner.evaluation.probes.evidence import (
            answers,
            write_generations,
            write_logprobs,
        )
        from unlearn_runner.evaluation.probes.generations import generate
        from unlearn_runner.evaluation.probes.logprobs import probe

        ranks = ranks or ALONE
        size, most = self.batch_size, length_limit(model, self.max_length)
        ends = stops(tokenizer, self.template)
        for name, rows in self.views.items():
            asked = answers(rows)
            encoded = [
                encode_whole(
                    tokenizer,
                    self.template,
                    rows[i].question,
                    text,
                    most,
                    f"{rows.name} row {i + 1}, {role} answer",
                )
                for i, role, _, text in asked
            ]
            pad = tokenizer.pad_token_id
            probed = probe(model, encoded, pad, size, f"{title}, {name} answers", ranks)
            if ranks.main:
                write_logprobs(folder / f"{name}.logprobs.parquet", name, asked, probed)
            prompts = encode_rows(tokenizer, self.template, rows, most)
            texts = generate(
                model,
                tokenizer,
                prompts,
                self.generation,
                ends,
                size,
                f"{title}, {name} generation",
                ranks,
            )
            if ranks.main:
                write_generations(folder / f"{name}.generations.parquet", name, rows, texts)
