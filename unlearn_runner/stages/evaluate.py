"""Evaluation: a model in, evidence out. Scores are a stage of their own and need no model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from unlearn_runner.benchmarks.base import Generation
from unlearn_runner.data.rows import Rows
from unlearn_runner.models.base import Template
from unlearn_runner.stages.base import INERT, Outcome, Stage, Work


@dataclass(frozen=True)
class Evaluate(Stage):
    """Runs both probes over every view, once."""

    model: Stage
    template: Template
    views: dict[str, Rows]
    generation: Generation
    max_length: int
    batch_size: int = field(metadata=INERT)

    kind: ClassVar[str] = "evaluate"

    def reads(self) -> str:
        """Names the model and the views."""
        views = ", ".join(f"{name} {len(rows)}" for name, rows in self.views.items())
        return f"{self.model.label}, rows of {views}"

    def run(self, work: Work) -> Outcome:
        """Writes `<view>.logprobs.parquet` and `<view>.generations.parquet`."""
        from unlearn_runner.data.encode import encode, encode_rows
        from unlearn_runner.models.load import load_model, load_tokenizer
        from unlearn_runner.probes.evidence import answers, write_generations, write_logprobs
        from unlearn_runner.probes.generations import generate
        from unlearn_runner.probes.logprobs import probe

        session = work.open_session()
        folder = work.path(self.model)
        tokenizer = load_tokenizer(folder)
        model = load_model(folder, "float32", session.device).eval()
        size, most = self.batch_size, self.max_length
        for name, rows in self.views.items():
            title = f"{self.label}, {name}"
            asked = answers(rows)
            encoded = [
                encode(tokenizer, self.template, rows[i].question, text, most)
                for i, _, _, text in asked
            ]
            probed = probe(model, encoded, tokenizer.pad_token_id, size, f"{title} answers")
            write_logprobs(work.folder / f"{name}.logprobs.parquet", name, asked, probed)
            prompts = encode_rows(tokenizer, self.template, rows, most)
            texts = generate(
                model, tokenizer, prompts, self.generation, size, f"{title} generation"
            )
            write_generations(work.folder / f"{name}.generations.parquet", name, rows, texts)
        return "completed"
