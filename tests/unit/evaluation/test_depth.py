"""UDS: worked rows, a plain patched pass in float64, facts in texts, three models in a plan."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.evaluations import evaluator_of, short_views
from helpers.planning import plan_run

from unlearn_runner.api import compose
from unlearn_runner.data.checks import checked
from unlearn_runner.data.encode import Encoded, encode_entity
from unlearn_runner.data.prompts import Template
from unlearn_runner.data.rows import Passage
from unlearn_runner.distributed.ranks import ALONE
from unlearn_runner.errors import DataError
from unlearn_runner.evaluation.files import read_patched, write_patched
from unlearn_runner.evaluation.metrics.base import Sample, compute
from unlearn_runner.evaluation.metrics.evidence import Evidence, Record, ViewEvidence
from unlearn_runner.evaluation.metrics.memorisation.depth import UnlearningDepth, depth
from unlearn_runner.evaluation.probes.patched import patched_logprobs
from unlearn_runner.pipeline.stages.evaluate import Evaluate

pytestmark = pytest.mark.usefixtures("one_thread")


def of(deltas: list[list[float]]) -> Any:
    """Log-probabilities that are so much below the target's own, block by block."""
    return np.array([[-0.5, *(-0.5 - delta for delta in row)] for row in deltas])


def test_worked_rows() -> None:
    retain = of([[0.01, 0.2, 0.8], [0.04, 0.049, -0.3], [0.0, 1.0, 1.0]])
    model = of([[9.0, 0.05, 0.8], [1.0, 1.0, 1.0], [0.5, -2.0, 3.0]])
    # The first: blocks 2 and 3 count, (0.2 x 0.25 + 0.8 x 1) / 1. The second: none. The third: a
    # block that says it better than the target counts 0, one that lost more than all counts 1.
    np.testing.assert_allclose(depth(model, retain, 0.05), [0.85, np.nan, 0.5], atol=1e-12)
    np.testing.assert_allclose(depth(retain, retain, 0.05), [1, np.nan, 1], atol=1e-12)
    np.testing.assert_allclose(depth(of([[0.0] * 3] * 3), retain, 0.05), [0, np.nan, 0], atol=1e-12)
    assert depth(model, retain, 0.0)[1] == pytest.approx(1.0)


def view(rows: Any, name: str = "forget") -> ViewEvidence:
    return ViewEvidence(name, "forget", "answer", Record(patched=rows.tolist()))


def test_the_score_is_the_mean_of_rows_that_both_models_have_and_that_count() -> None:
    retain = of([[0.01, 0.2, 0.8], [0.04, 0.049, -0.3], [0.0, 1.0, 1.0]])
    model = of([[9.0, 0.05, 0.8], [1.0, 1.0, 1.0], [0.5, -2.0, 3.0]])
    both = Evidence({"forget": view(model)}), Evidence({"forget": view(retain)})
    metrics = {"uds": UnlearningDepth()}
    assert compute(*both, metrics) == {"forget.uds": pytest.approx((0.85 + 0.5) / 2)}
    assert compute(both[0], None, metrics) == {"forget.uds": None}
    some = Evidence({"forget": replace(view(retain[::-1]), keys=(2, 1, -1))})
    assert compute(both[0], some, metrics) == {"forget.uds": pytest.approx(0.5)}
    sample = Sample(*both, {"forget": np.array([[1.0, 1, 1], [2, 0, 0], [0, 3, 0]])}, {})
    found = metrics["uds"].sampled("uds", sample)["forget.uds"]
    np.testing.assert_allclose(found, [0.675, 0.85, np.nan], atol=1e-12)


def plain(model: Any, target: Any, row: Encoded) -> list[float]:
    """The same by hand for Llama: layer after layer of the target, one row, no hooks."""
    ids = torch.tensor([row.ids])
    at = torch.arange(row.prompt_length - 1, len(row.ids) - 1)

    def run(llama: Any, block: int | None = None, states: Any = None) -> tuple[Any, list[Any]]:
        inner, hidden, seen = llama.model, llama.model.embed_tokens(ids), []
        positions = torch.arange(ids.shape[1])[None]
        turns = inner.rotary_emb(hidden, positions)
        mask = torch.full((ids.shape[1],) * 2, -torch.inf, dtype=hidden.dtype).triu(1)[None, None]
        for i, layer in enumerate(inner.layers):
            hidden = layer(
                hidden, attention_mask=mask, position_ids=positions, position_embeddings=turns
            )
            hidden = hidden[0] if isinstance(hidden, tuple) else hidden
            if i == block:
                hidden = hidden.clone()
                hidden[0, at] = states
            seen.append(hidden[0, at])
        logp = llama.lm_head(inner.norm(hidden))[0, at].log_softmax(-1)
        return logp[range(len(at)), list(row.ids[row.prompt_length :])].mean().item(), seen

    with torch.no_grad():
        own, _ = run(target)
        _, states = run(model)
        return [own, *(run(target, i, one)[0] for i, one in enumerate(states))]


def test_the_probe_is_a_plain_patched_pass_in_float64(tiny: Any, tmp_path: Path) -> None:
    target, model = (tiny.llama(torch.float64).eval() for _ in range(2))
    random = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data.add_(
            torch.randn(parameter.shape, generator=random, dtype=torch.float64) / 20
        )
    rows = [row for row in tiny.forget if row.num_labels > 1][:5]
    expected = [plain(model, target, row) for row in rows]
    found = patched_logprobs(model, target, rows, tiny.pad, 3, "")
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    assert np.ptp(np.array(found), axis=1).min() > 1e-3, "patching must matter"
    own = patched_logprobs(target, target, rows, tiny.pad, 3, "")
    np.testing.assert_allclose(own, [[row[0]] * 3 for row in expected], rtol=1e-10)
    # Behind the last block nothing is left but the model's own states: at the scored places the
    # target's norm and vocabulary projection of them.
    same = tiny.llama(torch.float64).eval()
    for layer, other in zip(same.model.layers, model.model.layers, strict=True):
        layer.load_state_dict(other.state_dict())
    same.model.embed_tokens.weight = torch.nn.Parameter(model.model.embed_tokens.weight.detach())
    assert found[0][-1] == pytest.approx(plain(same, same, rows[0])[0], rel=1e-10)
    write_patched(tmp_path, "v", found)
    np.testing.assert_array_equal(read_patched(tmp_path, "v"), found)


class Letters:
    """A tokenizer with a token per two letters, the second pair's beginning a space at times."""

    eos_token_id, all_special_ids = 0, (0,)

    def __call__(self, text: str, **_: Any) -> Any:
        spans = [(i, min(i + 2, len(text))) for i in range(0, len(text), 2)]
        return {"input_ids": [ord(text[i]) for i, _ in spans], "offset_mapping": spans}


def entity(answer: str, fact: str | None) -> str:
    """First letters of the tokens that are scored, in the prompt `Q?`."""
    row = checked({"question": "Q?", "answer": answer, "entity": fact}, "file:1")
    found = encode_entity(Letters(), Template("{question}", "{answer}"), row, 99, "")
    return "".join(map(chr, found.ids[found.prompt_length :]))


def test_the_fact_is_the_tokens_that_overlap_it_where_it_first_stands() -> None:
    assert entity("abcdefghabcd", "cd") == "c"
    assert entity("abcdefghabcd", "de") == "ce", "two tokens have a letter of it each"
    assert entity("abcdefgh", None) == "aceg", "all, but no end"
    assert entity("Q?cd", "Q?") == "Q", "in the answer, not in the question"
    assert entity("abcdefgh", "gh") == "g"
    for wrong in ("xy", "", 7):
        with pytest.raises(DataError, match="file:1: 'entity' must be a part of the answer"):
            checked({"question": "Q?", "answer": "abc", "entity": wrong}, "file:1")


def test_a_text_without_an_end_is_scored_whole(tiny: Any) -> None:
    row = Passage("", "He was born in 1990.")
    found = encode_entity(tiny.tokenizer, Template(), row, 99, "")
    assert found.ids == tuple(tiny.tokenizer(row.answer)["input_ids"])


def test_evidence_of_a_model_and_of_one_that_lacks_all(tiny: Any, tmp_path: Path) -> None:
    """The target's own UDS is 0; that of one whose blocks say nothing is the retain model's, 1."""
    views = {"forget": short_views(4)["forget"]}
    evaluator = evaluator_of(views, more={"forget": ("patched",)})
    target, empty = tiny.llama().eval(), tiny.llama().eval()
    for parameter in empty.model.layers.parameters():
        parameter.data.zero_()
    found = {}
    for name, model in (("target", target), ("empty", empty)):
        (tmp_path / name).mkdir()
        given = (tiny.tokenizer, tmp_path / name, "", ALONE)
        evaluator.run(model, *given, tmp_path / f"{name} attempt", target)
        shown = {n: replace(v, probes=("patched",)) for n, (v, _) in views.items()}
        found[name] = Evidence.load(tmp_path / name, shown)
    metrics = {"uds": UnlearningDepth()}
    assert compute(found["target"], found["empty"], metrics)["forget.uds"] == pytest.approx(0)
    assert compute(found["empty"], found["empty"], metrics)["forget.uds"] == pytest.approx(1)


PATCHED = "benchmark.view.forget.probes=[logprobs,generations,patched]"


def test_who_is_patched_into_the_target_is_evaluated_with_it() -> None:
    plan = plan_run(compose("debug=tiny", PATCHED, "attack=int8", "benchmark.suite=full"))
    every = [stage for stage in plan.stages if isinstance(stage, Evaluate)]
    stages = [stage for stage in every if "forget" in stage.evaluator.views]
    assert len(stages) == 5, "target, unlearned, retain model, and two of them attacked"
    target = stages[0].model
    assert target.label == "target"
    assert {stage.target for stage in every if stage not in stages} == {None}, "of unseen rows"
    assert {stage.target for stage in stages} == {target}
    plain = plan_run(compose("debug=tiny"))
    others = [stage for stage in plain.stages if isinstance(stage, Evaluate)]
    assert {stage.target for stage in others} == {None}, "or a retain model's key would hold it"
    assert not {stage.key for stage in stages} & {stage.key for stage in others}
