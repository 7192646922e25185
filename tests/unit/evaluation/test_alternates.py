"""Alternates are sampled from the distribution itself, whatever a generation_config.json wishes."""

from __future__ import annotations

from transformers import GenerationConfig

from unlearn_runner.data.prompts import Template
from unlearn_runner.data.rows import QA, Rows
from unlearn_runner.evaluation.probes.alternates import sample
from unlearn_runner.methods.base import Alternates
from unlearn_runner.models.load import new_model, train_tokenizer
from unlearn_runner.models.shape import Shape

ROWS = Rows("forget", tuple(QA(f"Who is {name}?", f"{name} is a poet.") for name in ("Ann", "Bo")))


def test_the_models_own_generation_configuration_is_set_aside() -> None:
    tokenizer = train_tokenizer([f"{row.question} {row.answer}" for row in ROWS], 300)
    model = new_model(Shape(16, 32, 1, 2), tokenizer, seed=0).eval()
    setting = Alternates(number=2, max_new_tokens=12)
    plain = sample(model, tokenizer, Template(), ROWS, setting, seed=1)
    own = GenerationConfig(repetition_penalty=5.0, no_repeat_ngram_size=1, top_k=2, min_p=0.5)
    model.generation_config = own
    assert sample(model, tokenizer, Template(), ROWS, setting, seed=1) == plain
    assert model.generation_config is own
