"""Probes take short cuts; what they find is what the plain way finds, and nothing is done twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AfmoeConfig,
    DogeConfig,
    GPTNeoConfig,
    Lfm2Config,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    RobertaConfig,
)
from transformers import AutoModelForCausalLM as Auto

from unlearn_runner.data.encode import Encoded
from unlearn_runner.distributed.ranks import ALONE
from unlearn_runner.evaluation.probes import decoding, packing
from unlearn_runner.evaluation.probes.batching import map_batches
from unlearn_runner.evaluation.probes.decoding import decode
from unlearn_runner.evaluation.probes.generations import continue_prompts, generate
from unlearn_runner.evaluation.probes.journal import Journal
from unlearn_runner.evaluation.probes.logprobs import TokenStats, journalled, moments, probe
from unlearn_runner.evaluation.schema import Generation

pytestmark = pytest.mark.usefixtures("one_thread")

SIZES: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 48, "vocab_size": 60}
HEADS: dict[str, Any] = {"num_hidden_layers": 2, "num_attention_heads": 4}
END = 1
FAMILIES: dict[str, PreTrainedConfig] = {
    "grouped heads": LlamaConfig(
        **SIZES, **HEADS, num_key_value_heads=2, max_position_embeddings=40
    ),
    "sliding window": MistralConfig(
        **SIZES, **HEADS, num_key_value_heads=2, sliding_window=6, max_position_embeddings=40
    ),
    "learned positions": GPTNeoConfig(
        **{**SIZES, "num_layers": 2, "num_heads": 4, "window_size": 6},
        **{"max_position_embeddings": 40, "attention_types": [[["global", "local"], 1]]},
    ),
}
FURTHER: dict[str, PreTrainedConfig] = {
    "convolutions": Lfm2Config(
        **SIZES, **HEADS, num_key_value_heads=2, layer_types=["conv", "full_attention"]
    ),
    "masks of its own": DogeConfig(**SIZES, **HEADS, num_key_value_heads=2),
    "attention that looks ahead": RobertaConfig(**SIZES, **HEADS, max_position_embeddings=64),
    "masks by name": AfmoeConfig(
        **SIZES, **HEADS, num_key_value_heads=2, num_dense_layers=2, head_dim=8
    ),
}


def random_model(name: str, dtype: torch.dtype = torch.float64) -> Any:
    torch.manual_seed(4)
    model = Auto.from_config({**FAMILIES, **FURTHER}[name]).to(dtype).eval()
    # Random weights say nearly the same everywhere: larger ones make every next token another.
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data.mul_(6)
        elif not parameter.any():
            parameter.data.normal_()
    return model


def prompts() -> list[tuple[int, ...]]:
    drawn = np.random.default_rng(1)
    return [tuple(drawn.integers(2, 60, n).tolist()) for n in (3, 12, 7, 1, 9, 12, 5)]


def computed(model: Any) -> Counter[str]:
    """Counts rows and tokens of every call from now on."""
    packing.can_pack(model, [])  # what it tries once is not counted
    counts: Counter[str] = Counter()

    def count(_: Any, __: Any, given: dict[str, Any]) -> None:
        counts["calls"] += 1
        counts["tokens"] += given["input_ids"].numel()
        counts["rows"] += len(given["input_ids"])

    model.register_forward_pre_hook(count, with_kwargs=True)
    return counts


@pytest.mark.parametrize(("tokens", "passes"), [(decoding.CACHED, 1), (14, 5)])
@pytest.mark.parametrize("name", FAMILIES)
def test_rows_that_leave_say_what_transformers_lets_them_say(
    name: str, tokens: int, passes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row by row alone, by `model.generate`; some end, some fill their rooms, or the positions.

    Prompts are read as one tree, or as several of few tokens; or with padding.
    """
    monkeypatch.setattr(decoding, "CACHED", tokens)
    model, rows, rooms = random_model(name), prompts(), [4, 20, 9, 50, 1, 6, 0]
    ends = [END, *range(30, 34)]
    expected = [
        continue_prompts(model, Tokenizer(), [p], ends, max(n, 1), do_sample=False)[0][:n]
        for p, n in zip(rows, rooms, strict=True)
    ]
    counts = computed(model)
    assert decode(model, 0, rows, [()] * 7, rooms, ends) == expected
    lengths = list(map(len, expected))
    assert len(set(lengths)) > 3, "they must not end together"
    # A step for every token but the first, which the prompt's pass gives, and for every end.
    ended = [n < min(room, 40 - len(p)) for n, room, p in zip(lengths, rooms, rows, strict=True)]
    steps = [n - 1 + end for n, end in zip(lengths, ended, strict=True)][:6]
    packs = name == "grouped heads"
    assert counts["rows"] == (passes if packs else 6) + sum(steps)
    assert counts["calls"] == (passes if packs else 1) + max(steps)


def test_what_prompts_begin_with_is_read_once() -> None:
    """As where a model continues every beginning of a row; equal prompts have a slot each."""
    model = random_model("grouped heads")
    row = prompts()[1]
    beginnings = [row[:length] for length in (3, 12, 5, 12, 1)]
    alone = [decode(model, 0, [one], [()], [4], [END])[0] for one in beginnings]
    counts = computed(model)
    assert decode(model, 0, beginnings, [()] * 5, [4] * 5, [END]) == alone
    assert counts["tokens"] == 12 + sum(len(found) - 1 for found in alone)


@pytest.mark.parametrize("name", FAMILIES)
def test_what_is_known_is_read_and_not_said_again(name: str) -> None:
    model, rows, rooms = random_model(name), prompts(), [8] * 7
    plain = decode(model, 0, rows, [()] * 7, rooms, [END])
    known = [tokens[:i] for i, tokens in enumerate(plain)]
    counts = computed(model)
    assert decode(model, 0, rows, known, rooms, [END]) == plain
    assert counts["rows"] <= sum(len(t) + 1 - len(k) for t, k in zip(plain, known, strict=True))
    assert decode(model, 0, rows, plain, list(map(len, plain)), [END]) == plain
    before = counts["calls"]
    assert decode(model, 0, rows, plain, list(map(len, plain)), [END]) == plain
    assert counts["calls"] == before, "nothing is left to compute"


class Tokenizer:
    """All that generation asks of a tokenizer."""

    pad_token_id, eos_token_id = 0, END

    def decode(self, tokens: list[int], **_: Any) -> str:
        return " ".join(map(str, tokens))


def test_an_answer_by_heart_is_known_from_its_scores() -> None:
    model = random_model("grouped heads")
    said = decode(model, 0, prompts(), [()] * 7, [10] * 7, [END])
    rows = [Encoded((*p, *tokens, END), len(p)) for p, tokens in zip(prompts(), said, strict=True)]
    rows[2] = Encoded((*rows[2].ids[:-4], 50, 51, END), rows[2].prompt_length)
    known = [one.said() for one in probe(model, rows, 0, 8, "")]
    assert [found[: len(first)] for found, first in zip(known, said, strict=True)] == [
        first[: len(found)] for found, first in zip(known, said, strict=True)
    ]
    given = (Tokenizer(), rows, Generation(max_new_tokens=10), [END], 2, "")
    expected = generate(model, *given)
    assert expected == [" ".join(map(str, tokens)) for tokens in said]
    counts = computed(model)
    assert generate(model, *given, said=known) == expected
    # All but one are known to their ends; that one says 51 where the model says something else.
    missing = len(said[2]) - len(known[2])
    assert (missing, len(said[2])) == (2, 10)
    assert counts["rows"] == missing
    assert counts["tokens"] == missing + len(prompts()[2]) + len(known[2]) - 1


# --- packing


def answers(model: Any) -> list[Encoded]:
    """Three questions with several answers, the second with one; neighbours alone are packed."""
    drawn = np.random.default_rng(2)
    rows = []
    for prompt, sizes in ((7, (3, 1, 6)), (2, (5,)), (9, (4, 4))):
        question = tuple(drawn.integers(2, 60, prompt).tolist())
        for size in sizes:
            rows.append(Encoded((*question, *drawn.integers(2, 60, size).tolist(), END), prompt))
    rows[2] = Encoded((*rows[0].ids[:-1], *rows[2].ids[10:]), 7)  # begins as the first one does
    return rows


def close(one: TokenStats, other: TokenStats, tolerance: float) -> None:
    for field in fields(TokenStats):
        found, expected = getattr(one, field.name), getattr(other, field.name)
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("together", [2, 16])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_answers_of_one_pass_score_what_they_score_alone(
    dtype: torch.dtype, together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "TOGETHER", together)
    model = random_model("grouped heads", dtype)
    rows = answers(model)
    assert [len(group) for group in packing.groups(rows)] == [3, 1, 2]
    alone = [probe(model, [row], 0, 1, "")[0] for row in rows]
    counts = computed(model)
    found = probe(model, rows, 0, 64, "")
    assert counts == {"calls": 1, "rows": 1, "tokens": (7 + 3 + 1 + 3) + (2 + 5) + (9 + 4 + 4)}
    assert model.config._attn_implementation == "sdpa"
    for one, other in zip(found, alone, strict=True):
        close(one, other, 1e-12 if dtype == torch.float64 else 2e-5)


def test_a_long_row_beside_short_ones_takes_no_room_but_its_own() -> None:
    """By itself it has no mask; in a mask with the short ones each of them would be as long."""
    model, tree, drawn = random_model("grouped heads"), packing.Tree(), np.random.default_rng(3)
    rows = [Encoded((i, *drawn.integers(2, 60, n).tolist()), 1) for i, n in enumerate([5] * 9)]
    rows.append(Encoded(tuple(drawn.integers(30, 60, 1100).tolist()), 1))
    for row in rows:
        tree.add([row])
    layout = packing._Layout.of(tree, torch.float64, torch.device("cpu"))
    masks = [part.mask for part in layout.parts]
    assert [mask if mask is None else mask.shape[0] for mask in masks] == [9, None]
    alone = [probe(model, [row], 0, 1, "")[0] for row in rows]
    for one, other in zip(probe(model, rows, 0, 200, ""), alone, strict=True):
        close(one, other, 1e-10)


def test_what_rows_begin_with_is_read_once_and_scored_once() -> None:
    model = random_model("grouped heads")
    rows, tree = answers(model), packing.Tree()
    tree.add(rows[:3])
    assert len(set(tree.places)) == 4 + 1 + 7 - 4, "the third begins as the first"
    # Another question that begins as the first one does, as few-shot prompts do.
    tree.add([Encoded((*rows[0].ids[:4], 59, 58, 57, END), 6)])
    assert len(tree.tokens) == 14 + 3
    places, picks = np.unique(tree.places, return_inverse=True)
    logits = packing.packed_logits(model, tree, places, torch.device("cpu"))[picks]
    alone = [
        model(torch.tensor([[*rows[0].ids[:4], 59, 58, 57]])).logits[0, -2:],
        model(torch.tensor([rows[0].ids[:-1]])).logits[0, -4:],
    ]
    torch.testing.assert_close(logits[-2:], alone[0], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(logits[:4], alone[1], rtol=1e-12, atol=1e-12)


def test_answers_that_need_no_more_have_log_probabilities_alone() -> None:
    model = random_model("grouped heads")
    rows = answers(model)
    plain = [True, False, False, False, True, False]
    whole = probe(model, rows, 0, 64, "")
    for one, other, mark in zip(
        probe(model, rows, 0, 64, "", whole=plain), whole, plain, strict=True
    ):
        if mark:
            close(one, other, 0)
        else:
            np.testing.assert_allclose(one.logprob, other.logprob, rtol=1e-12)
            assert {len(getattr(one, f.name)) for f in fields(TokenStats)[1:]} == {0}


def test_masks_may_be_given_by_name() -> None:
    """As the layers of some families do."""
    model = random_model("masks by name")
    rows = answers(model)
    assert packing.can_pack(model, rows)
    alone = [probe(model, [row], 0, 1, "")[0].logprob for row in rows]
    for one, expected in zip(probe(model, rows, 0, 64, ""), alone, strict=True):
        np.testing.assert_allclose(one.logprob, expected, rtol=1e-5)


def test_what_was_read_as_a_tree_is_where_models_look_for_it() -> None:
    """Keys and values of a layer's cache, which some ask whether anything is there."""
    model, rows = random_model("grouped heads"), prompts()
    table = decoding._Table(model, 0, rows)
    table.step()
    for slot in table.slots:
        assert slot.keys.shape == slot.values.shape == (len(rows), 2, max(map(len, rows)), 8)


@pytest.mark.parametrize(
    "name",
    [
        *("sliding window", "learned positions", "convolutions"),
        *("masks of its own", "attention that looks ahead"),
    ],
)
def test_models_that_count_tokens_themselves_get_a_row_per_answer(name: str) -> None:
    """A window that cuts a row, masks made of the order of tokens, and layers that go by it.

    Also what only a trial tells: attention that is not of what is before a token alone.
    """
    model = random_model(name)
    rows = answers(model)
    assert not packing.can_pack(model, rows)
    alone = [probe(model, [row], 0, 1, "")[0].logprob for row in rows]
    for one, expected in zip(probe(model, rows, 0, 64, ""), alone, strict=True):
        np.testing.assert_allclose(one.logprob, expected, rtol=1e-12)


def test_statistics_are_those_of_the_definition_minus_infinity_included() -> None:
    torch.manual_seed(0)
    logits = torch.randn(6, 50, dtype=torch.float64) * 3
    logits[0, 7:] = -torch.inf
    logits[1, 3] = -torch.inf
    logits[2, 4] = -3e38  # as transformers masks in float32
    logits[3, [8, 9]] = 20.0  # two that are equally likely
    logits[4] = torch.nan
    labels = torch.tensor([2, 3, 5, 9, 1, int(logits[5].argmax())])
    found = moments(logits.log_softmax(-1), labels)
    logprob, hit, mean, variance, entropy, rank, sole, best = found
    p = logits.softmax(-1)
    logp = p.log()
    expected = torch.where(p == 0, 0.0, p * logp).sum(-1)
    squares = torch.where(p == 0, 0.0, p * (logp - expected[:, None]) ** 2).sum(-1)
    for found, value in ((mean, expected), (variance, squares), (entropy, -expected)):
        torch.testing.assert_close(found, value, rtol=1e-10, atol=1e-12, equal_nan=True)
    assert logprob[1] == -torch.inf
    assert rank[1] == 49
    assert hit.tolist()[3:] == [True, True, True]
    assert sole.tolist()[3:] == [False, False, True]
    assert best.tolist()[:3] == logits[:3].argmax(-1).tolist()
    assert best[5] == labels[5]


# --- batches, and the journal of them


def test_batches_hold_rows_and_tokens_within_bounds() -> None:
    lengths, rows = [10, 2000, 30, 400, 20, 500, 1], [1, 1, 7, 1, 3, 1, 1]
    seen: list[list[int]] = []

    def compute(batch: Any) -> Iterator[int]:
        seen.append(list(batch))
        return iter(batch)

    found = map_batches(torch.nn.Linear(1, 1), lengths, 4, "", ALONE, compute, None, rows)
    assert found == list(range(7))
    assert seen == [[6, 0], [4], [2], [3, 5], [1]], "4 rows, and 4 x 256 tokens, or one item"


class Killed(Exception):
    pass


def test_an_attempt_goes_on_where_the_last_one_was_killed(tmp_path: Path) -> None:
    journal, scored = Journal[list[float]](tmp_path / "x"), Counter[int]()

    def compute(batch: Any) -> Iterator[list[float]]:
        if len(scored) == 6:
            raise Killed
        scored.update(batch)
        return iter([[i / 7, -i] for i in batch])

    lengths = [5, 3, 8, 1, 9, 2, 7, 7, 4, 6, 11]
    given = (torch.nn.Linear(1, 1), lengths)
    with pytest.raises(Killed):
        map_batches(*given, 2, "", ALONE, compute, journal)
    scored[-1] += 1  # it is not killed again
    found = map_batches(*given, 3, "", ALONE, compute, journal)  # in other batches
    assert found == [[i / 7, -i] for i in range(11)]
    assert set(scored.values()) == {1}, "no row twice"
    assert map_batches(*given, 2, "", ALONE, compute, journal) == found
    assert set(scored.values()) == {1}
    damaged = sorted((tmp_path / "x").glob("*.pt"))[0]
    damaged.write_bytes(damaged.read_bytes()[:100])
    assert map_batches(*given, 2, "", ALONE, compute, journal) == found
    assert sorted(scored.values()) == [1] * 10 + [2] * 2, "a damaged file's batch alone"


def test_statistics_come_back_from_the_journal_to_the_bit(tmp_path: Path) -> None:
    model = random_model("grouped heads", torch.float32)
    rows, journal = answers(model), Journal[Any](tmp_path, **journalled())
    given = (model, rows, 0, 4, "", ALONE, journal, [True, False, False, True, False, True])
    expected = probe(*given)
    counts = computed(model)
    for one, other in zip(probe(*given), expected, strict=True):
        for field in fields(TokenStats):
            found, value = getattr(one, field.name), getattr(other, field.name)
            assert found.dtype == value.dtype
            assert np.array_equal(found, value)
    assert not counts
