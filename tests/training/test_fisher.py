"""Fisher estimators against worked numbers and plain loops, and which rows they take."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers.oracles import read_oracles
from torch import Tensor, nn

from unlearn_runner.data.encode import Encoded, collate
from unlearn_runner.distributed.layout import Layout
from unlearn_runner.models.adapters.fila import FILA
from unlearn_runner.models.adapters.importance import Importance
from unlearn_runner.models.adapters.targets import linear_modules
from unlearn_runner.training.fisher import Estimate, Pairs, batches, only_measured

pytestmark = pytest.mark.usefixtures("one_thread")
ESTIMATORS = ("batch_token_weighted", "per_sample", "per_token")


def importance(**changes: Any) -> Importance:
    found = FILA(**changes).importance
    assert found is not None
    return found


def oracle(name: str) -> dict[str, Any]:
    return read_oracles("loku_llmeraser")["oracles"][name]


class Regression(nn.Module):
    """Softmax regression in the form of a language model: token i has the features of sample i."""

    def __init__(self, worked: dict[str, Any]) -> None:
        super().__init__()
        features = torch.tensor(worked["X"], dtype=torch.float64)
        self.features = nn.Embedding.from_pretrained(features)
        weight = torch.tensor(worked["W"], dtype=torch.float64)
        self.map = nn.Linear(2, 3, bias=False, dtype=torch.float64)
        self.map.weight.data.copy_(weight)
        self.head = nn.Identity()

    def get_output_embeddings(self) -> nn.Module:
        return self.head

    def forward(self, input_ids: Tensor, **_: Any) -> Any:
        return SimpleNamespace(logits=self.head(self.map(self.features(input_ids))))


def fisher(model: nn.Module, how: Importance, pairs: Pairs, pad: int = 0) -> list[Tensor]:
    only_measured(model.eval(), how, 0)
    sums = Estimate(model, how, Layout(), 1, pad).sums(pairs)
    assert all(torch.equal(a, b) for a, b in zip(*sums, strict=True)), "equal rows on both sides"
    return sums[0]


def test_the_released_estimator_is_the_worked_one_and_batches_of_one_are_per_token() -> None:
    worked = oracle("fisher_estimators")
    rows = [Encoded((i, y), 1) for i, y in enumerate(worked["Y"])]

    def found(estimator: Any, places: list[list[int]]) -> Tensor:
        chosen = ([rows[i] for i in one] for one in places)
        pairs = [{"forget": some, "retain": some} for some in chosen]
        return fisher(Regression(worked), importance(estimator=estimator), pairs)[0]

    singles = [[i] for i in range(5)]
    for estimator, places, key in (
        ("batch_token_weighted", worked["batches"], "batch_estimator"),
        ("batch_token_weighted", [list(range(5))], "one_big_batch"),
        ("batch_token_weighted", singles, "bs1_estimator"),
        ("per_sample", singles, "per_token_fisher"),
        ("per_token", singles, "per_token_fisher"),
    ):
        expected = torch.tensor(worked[key], dtype=torch.float64)
        assert torch.allclose(found(estimator, places), expected, rtol=0, atol=1e-14), key


def test_a_record_of_several_tokens_counts_them() -> None:
    """The worked records, through the same weights that the estimate uses."""
    worked, many = oracle("fisher_estimators"), oracle("fisher_multi_token")
    x, y = torch.tensor(worked["X"], dtype=torch.float64), torch.tensor(worked["Y"])
    how, total, units = importance(fisher_batch=1), torch.zeros(3, 2).double(), 0
    for record in many["records"]:
        weight = torch.tensor(worked["W"], dtype=torch.float64, requires_grad=True)
        logits = x[record] @ weight.T
        nn.functional.cross_entropy(logits, y[record]).backward()
        assert weight.grad is not None
        total += how.weight(len(record)) * weight.grad.square()
        units += how.unit(len(record))
    expected = torch.tensor(many["estimator"], dtype=torch.float64)
    assert torch.allclose(total / units, expected, rtol=0, atol=1e-14)


def squares(model: Any, rows: list[Encoded], pad: int, token: int | None = None) -> list[Tensor]:
    """Gradients of the summed NLL of some rows, or of one of their tokens, squared: plain torch."""
    batch = collate(rows, pad, torch.device("cpu"))
    logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
    losses = nn.functional.cross_entropy(
        logits[batch.row, batch.position], batch.labels, reduction="none"
    )
    model.zero_grad()
    (losses.sum() if token is None else losses[token]).backward()
    return [module.weight.grad.square() for module in linear_modules(model).values()]


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_an_estimate_is_what_a_plain_loop_finds(tiny: Any, estimator: Any) -> None:
    rows, model, pad = tiny.forget[:6], tiny.llama(torch.float64), tiny.pad
    how = importance(estimator=estimator, fisher_batch=4)
    pairs = batches(how, rows, rows)
    for pair in pairs:  # the same rows on both sides, whatever was drawn
        pair["retain"] = pair["forget"]
    found = fisher(tiny.llama(torch.float64), how, pairs, pad)
    total = [torch.zeros_like(x) for x in found]
    units = 0
    order = [row for pair in pairs for row in pair["forget"]]
    if estimator == "batch_token_weighted":
        for some in (order[:4], order[4:]):
            n = sum(row.num_labels for row in some)
            units += n
            for into, square in zip(total, squares(model, some, pad), strict=True):
                into += square / n
    elif estimator == "per_sample":
        for row in rows:
            units += 1
            for into, square in zip(total, squares(model, [row], pad), strict=True):
                into += square
    else:
        for row in rows:
            units += row.num_labels
            for token in range(row.num_labels):
                for into, square in zip(total, squares(model, [row], pad, token), strict=True):
                    into += square
    for mine, expected in zip(found, total, strict=True):
        assert torch.allclose(mine, expected / units, rtol=1e-9, atol=1e-18)


def test_every_forget_row_is_taken_once_with_one_drawn_retain_row(tiny: Any) -> None:
    how = importance(fisher_batch=8)
    pairs = batches(how, tiny.forget, tiny.retain)
    assert [len(pair["forget"]) for pair in pairs] == [8, 8, 4]
    assert [len(pair["retain"]) for pair in pairs] == [8, 8, 4]
    taken = [row for pair in pairs for row in pair["forget"]]
    assert sorted(map(id, taken)) == sorted(map(id, tiny.forget))
    drawn = [row for pair in pairs for row in pair["retain"]]
    assert {map(id, drawn)} != {map(id, tiny.retain[:20])}
    assert batches(how, tiny.forget, tiny.retain) == pairs
    assert batches(replace(how, seed=1), tiny.forget, tiny.retain) != pairs


def test_passes_over_parts_of_the_modules_find_the_same_bits(tiny: Any) -> None:
    whole, parts = {}, {}
    for passes, into in ((1, whole), (3, parts)):
        how = importance(fisher_passes=passes)
        pairs = batches(how, tiny.forget[:4], tiny.retain)
        for part in range(passes):
            model = tiny.llama().eval()
            only_measured(model, how, part)
            into |= Estimate(model, how, Layout(), 2, tiny.pad).row_weights(pairs)[0]
    assert list(parts) == list(whole) == list(linear_modules(tiny.llama()))
    assert all(torch.equal(found, parts[name]) for name, found in whole.items())
    for name, module in linear_modules(tiny.llama()).items():
        assert whole[name].shape == (module.out_features,)
        assert whole[name].dtype == torch.float32
        assert bool((whole[name] > 0).all())


def test_a_transposed_map_has_a_weight_per_output(tiny: Any) -> None:
    """GPT-2 stores its maps as [in, out]."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(vocab_size=400, n_embd=32, n_layer=1, n_head=2, n_positions=64)
    model = GPT2LMHeadModel(config).eval()
    how = importance()
    only_measured(model, how, 0)
    pairs = batches(how, tiny.forget[:4], tiny.retain)
    found, _ = Estimate(model, how, Layout(), None, tiny.pad).row_weights(pairs)
    assert found["transformer.h.0.attn.c_attn"].shape == (96,)
    again = FILA(rank=2, alpha=4.0).attach(model, 0, found)
    assert again.transformer.h[0].attn.c_attn.lora_B["default"].weight.any()
