"""Memorisation accuracy and extraction likelihood: worked examples, and a model that generates.

The oracles' language model knows the last token alone. A Llama without blocks is one: embeddings
that tell tokens apart, and a projection that holds the table.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.oracles import read_oracles
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from unlearn_runner.data.encode import Encoded
from unlearn_runner.evaluation.files import AnswerTokens, Tokens, write_logprobs, write_prefixes
from unlearn_runner.evaluation.metrics.evidence import Evidence, Record, ViewEvidence
from unlearn_runner.evaluation.metrics.memorisation.sequences import (
    Denominator,
    ExtractionLikelihood,
    MemorisationAccuracy,
)
from unlearn_runner.evaluation.metrics.text.perplexity import Perplexity
from unlearn_runner.evaluation.probes.generations import continue_prompts
from unlearn_runner.evaluation.probes.logprobs import probe
from unlearn_runner.evaluation.probes.prefixes import continuations
from unlearn_runner.evaluation.schema import ScoredAnswer, View

END, VOCABULARY = 0, 9


class Tokenizer:
    """Ids of two special tokens: all that probes ask of a tokenizer."""

    pad_token_id = eos_token_id = END


def bigram_model(table: dict[str, int]) -> Any:
    """Returns a causal LM whose most likely next token is a function of the last one."""
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=8,  # as long as the rows: no room for padding
        tie_word_embeddings=False,
        bos_token_id=None,
    )
    model: Any = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for block in model.model.layers:  # what it adds to its input is nothing
            block.self_attn.o_proj.weight.zero_()
            block.mlp.down_proj.weight.zero_()
        model.model.embed_tokens.weight.copy_(torch.eye(VOCABULARY, 16))
        model.lm_head.weight.zero_()
        for token, following in table.items():
            model.lm_head.weight[following, int(token)] = 1.0
    return model


def evidence(folder: Path, model: Any, sequences: list[list[int]], known: bool = True) -> Evidence:
    """Returns what both probes leave of sequences, written and read back."""
    rows = [Encoded(tuple(ids), 1) for ids in sequences]
    stats = probe(model, rows, END, 4, "")
    hits = [one.hit for one in stats] if known else None
    found = continuations(model, Tokenizer(), rows, hits, 3, "")
    answers = [ScoredAnswer(i, "answer", 0, "") for i in range(len(rows))]
    write_logprobs(folder, "forget", answers, stats)
    write_prefixes(folder, "forget", rows, found)
    return Evidence.load(folder, {"forget": View("x", probes=("logprobs", "prefixes"))})


@pytest.mark.parametrize("known", [True, False])
def test_the_bigram_models_el_and_ma(known: bool, tmp_path: Path) -> None:
    oracle = read_oracles("loku_llmeraser")["oracles"]["el_ma_bigram_lm"]
    cases = list(oracle["sequences"].values())
    model = bigram_model(oracle["table"])
    view = evidence(tmp_path, model, [case["tokens"] for case in cases], known).views["forget"]
    for n in (2, 3):
        rows = ExtractionLikelihood(n).of_rows(view)
        assert rows is not None
        np.testing.assert_allclose(rows, [case[f"EL{n}"] for case in cases], atol=1e-12)
    rows = MemorisationAccuracy().of_rows(view)
    assert rows is not None
    np.testing.assert_allclose(rows, [case["MA"] for case in cases], atol=1e-12)
    assert view.record.tokens is not None
    hits = [one.hit.tolist() for one in view.record.tokens.tokens]
    assert hits == [list(map(bool, case["MA_hits"])) for case in cases]


def test_a_model_without_numbers_knows_nothing_by_heart() -> None:
    hit, logprob = np.array([True, True, False]), np.array([np.nan, -0.5, -2.0])
    tokens = AnswerTokens([Tokens(logprob, hit, logprob, logprob, logprob)], None)
    view = ViewEvidence("forget", "forget", "answer", Record(tokens=tokens))
    rows = MemorisationAccuracy().of_rows(view)
    assert rows is not None
    assert rows.tolist() == pytest.approx([1 / 3])


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(
    ("denominator", "name"),
    [("reference", "EL2_ref_denominator"), ("generation", "EL2_pred_denominator")],
)
def test_both_denominators_where_a_generation_ends_early(
    denominator: Denominator, name: str, known: bool, tmp_path: Path
) -> None:
    oracle = read_oracles("loku_llmeraser")["oracles"]["el_eos"]
    found = evidence(tmp_path, bigram_model(oracle["table"]), [oracle["tokens"]], known)
    score = ExtractionLikelihood(2, denominator).of_view(found.views["forget"])
    assert score == pytest.approx(oracle[name], abs=1e-12)


def test_a_row_too_short_for_n_grams_has_no_likelihood(tmp_path: Path) -> None:
    view = evidence(tmp_path, bigram_model({"1": 2}), [[1, 2], [1, 2, 3, 4]]).views["forget"]
    rows = ExtractionLikelihood(3).of_rows(view)
    assert rows is not None
    assert np.isnan(rows[0])
    assert ExtractionLikelihood(3).of_view(view) == rows[1]
    assert ExtractionLikelihood(5).of_view(view) is None


def test_one_pass_gives_what_generating_token_by_token_gives(tiny: Any, tmp_path: Path) -> None:
    """MA by one teacher-forced pass; and continuations chained as without a short cut."""
    model, rows = tiny.llama().eval(), [Encoded(row.ids, 1) for row in tiny.rows[:6]]
    greedy = {"do_sample": False, "num_beams": 1}
    by_hand = []
    for row in rows:
        prefixes = [row.ids[:i] for i in range(1, len(row.ids))]
        # An end that no token is: the published code lets the first token be any.
        tokens = continue_prompts(model, tiny.tokenizer, prefixes, [-1], 1, **greedy)
        by_hand.append(np.mean([t == [y] for t, y in zip(tokens, row.ids[1:], strict=True)]))
    stats = probe(model, rows, tiny.pad, 4, "")
    np.testing.assert_allclose([one.hit.mean() for one in stats], by_hand, atol=1e-12)
    assert 0.1 < np.mean(by_hand) < 0.9, "a model that knows all, or nothing, would show little"
    hits = [one.hit for one in stats]
    chained = continuations(model, tiny.tokenizer, rows, hits, 8, "")
    assert chained == continuations(model, tiny.tokenizer, rows, None, 8, "")


def test_perplexity_is_of_all_tokens_together(tmp_path: Path) -> None:
    rows = [Encoded((1, 2), 1), Encoded((1, 2, 3, 4), 1)]
    model = bigram_model({"1": 2, "3": 4})
    stats = probe(model, rows, END, 1, "")
    write_logprobs(tmp_path, "x", [ScoredAnswer(i, "answer", 0, "") for i in range(2)], stats)
    view = Evidence.load(tmp_path, {"x": View("x", probes=("logprobs",))}).views["x"]
    every = np.concatenate([one.logprob for one in stats]).astype(float)
    assert Perplexity().of_view(view) == pytest.approx(np.exp(-every.mean()), rel=1e-12)


def test_neo_models_have_neither_dropout_nor_another_draw(tiny: Any) -> None:
    """GPT-Neo from a seed: the same weights again, local and global layers by turns."""
    from unlearn_runner.models.load import new_model
    from unlearn_runner.models.shape import NeoShape

    shape = NeoShape(24, 48, num_layers=3, num_heads=3, context=32, window=8)
    one, two = (new_model(shape, tiny.tokenizer, 3) for _ in range(2))
    assert one.config.attention_layers == ["global", "local", "global"]
    assert not any(module.p for module in one.modules() if isinstance(module, nn.Dropout))
    pairs = zip(one.parameters(), two.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
