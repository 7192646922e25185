"""Fluency by a classifier that is given: its probabilities, from texts to a score, and refusals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.evaluations import evaluator_of, short_views
from helpers.planning import plan_run
from transformers import BertConfig, BertForSequenceClassification

from unlearn_runner.api import compose
from unlearn_runner.distributed.ranks import ALONE
from unlearn_runner.errors import ConfigError, DataError
from unlearn_runner.evaluation.metrics.base import compute
from unlearn_runner.evaluation.metrics.evidence import Evidence
from unlearn_runner.evaluation.metrics.text.fluency import RecordedFluency
from unlearn_runner.evaluation.probes.clean import clean_probabilities
from unlearn_runner.models.load import save
from unlearn_runner.pipeline.stages.evaluate import Evaluate

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")
CLEANED = "benchmark.view.forget.probes=[logprobs,generations,clean]"


@pytest.fixture(scope="module")
def classifier(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of three classes with random weights."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tiny.tokenizer),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        initializer_range=1.0,
        num_labels=3,
        pad_token_id=tiny.pad,
    )
    folder = tmp_path_factory.mktemp("classifier")
    BertForSequenceClassification(config).save_pretrained(folder)
    tiny.tokenizer.save_pretrained(folder)
    return folder


def test_probabilities_are_those_of_each_text_alone(classifier: Path, tiny: Any) -> None:
    long = " ".join(["He was born in 1990 and writes."] * 20)
    texts = ["He was born.", long, "", *(f"Text number {i}." for i in range(40))]
    model = BertForSequenceClassification.from_pretrained(classifier).eval()
    expected = []
    for text in texts:
        ids = tiny.tokenizer(text)["input_ids"][:32] or [tiny.pad]
        given = torch.tensor([ids])
        with torch.no_grad():
            logits = model(given, attention_mask=(given != tiny.pad).long()).logits[0]
        expected.append((logits.exp() / logits.exp().sum())[0].item())
    found = clean_probabilities(classifier, texts, CPU, "")
    del expected[2], found[2]  # an empty text is padding alone
    assert found == pytest.approx(expected, rel=1e-4)
    assert max(found) - min(found) > 0.1
    whole = tiny.tokenizer(long)["input_ids"]
    assert len(whole) > 64, "or the cut would not be seen"


def test_a_causal_model_is_no_classifier(tiny: Any, tmp_path: Path) -> None:
    save(tiny.llama(), tiny.tokenizer, tmp_path)
    with pytest.raises(
        DataError, match=r"lacks weights of its architecture \(Llama.*\): score\.weight"
    ):
        clean_probabilities(tmp_path, ["text"], CPU, "")


def test_from_texts_to_a_score(tiny: Any, classifier: Path, tmp_path: Path) -> None:
    views = {"forget": short_views(4)["forget"]}
    evaluator = evaluator_of(views, more={"forget": ("clean",)})
    given = (tiny.llama().eval(), tiny.tokenizer, tmp_path, "", ALONE)
    evaluator.run(*given, classifier=classifier)
    shown = {n: replace(v, probes=(*v.probes, "clean")) for n, (v, _) in views.items()}
    evidence = Evidence.load(tmp_path, shown)
    texts = evidence.views["forget"].record.texts
    assert texts is not None
    each = clean_probabilities(classifier, texts.generations, CPU, "")
    scores = compute(evidence, None, {"clean_text": RecordedFluency()})
    assert scores == {"forget.clean_text": pytest.approx(sum(each) / 4)}


def test_the_classifier_is_of_evaluations_that_ask_it_alone(classifier: Path) -> None:
    asked = f"evaluate.classifier={classifier}"
    plan = plan_run(compose("debug=tiny", asked, CLEANED))
    stages = [stage for stage in plan.stages if isinstance(stage, Evaluate)]
    assert {stage.classifier and stage.classifier.label for stage in stages} == {"classifier"}
    unasked = plan_run(compose("debug=tiny", asked))
    others = [stage for stage in unasked.stages if isinstance(stage, Evaluate)]
    assert {stage.classifier for stage in others} == {None}
    with pytest.raises(ConfigError) as refused:
        plan_run(compose("debug=tiny", CLEANED))
    assert "clean asks the model that evaluate.classifier names" in str(refused.value)
    assert "benchmark.view.forget.probes=[logprobs,generations]" in str(refused.value)
