"""Losses and methods have the values, and the gradients by logit, of the worked examples.

The examples come from `losses` in `tests/oracles/gru_geffect.json`: logits of two forget
and two retain rows, the same of a reference model, labels. Here ascent, NPO, the retain terms and
what holds for all losses; the other objectives in `test_objective_oracles.py`.
"""

from __future__ import annotations

import itertools
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from examples import CPU, SPLITS, Example, Table, close, grad_logits
from torch import Tensor
from torch.nn.functional import cross_entropy

from unlearn_runner.data.encode import collate
from unlearn_runner.methods import losses
from unlearn_runner.methods.base import Method, Retain, needs_start_model
from unlearn_runner.methods.ga import GA
from unlearn_runner.methods.losses import KL, NLL, Loss
from unlearn_runner.methods.npo import NPO
from unlearn_runner.models.forward import Models

NO_RETAIN = Retain(loss="none")


@pytest.mark.parametrize("split", SPLITS)
def test_labels_are_predicted_one_position_before(
    oracles: dict[str, Any], example: Example, split: str
) -> None:
    """Everything below rests on this: which logits meet which labels."""
    batch = example.batch(split)
    mask = np.zeros((2, 4), dtype=bool)
    mask[batch.row, batch.position] = True
    assert mask.tolist() == oracles["per_token"][f"{split}_mask"]
    ce = cross_entropy(example.models().logits(batch), batch.labels, reduction="none")
    close(ce, np.array(oracles["per_token"][f"{split}_ce"])[mask])
    per_row = oracles["per_token"]["seq_nll"]
    if split == "forget":
        close(batch.rows_sum(ce), per_row)
        close(batch.rows_sum(-batch.start_logprob), oracles["per_token"]["seq_nll_ref"])


FORGET = {
    "ga": GA(),
    "npo_beta0.1": NPO(retain=NO_RETAIN, beta=0.1),
    "npo_beta0.5": NPO(retain=NO_RETAIN, beta=0.5),
    "npo_beta1": NPO(retain=NO_RETAIN, beta=1.0),
    "npo_beta2": NPO(retain=NO_RETAIN, beta=2.0),
}


@pytest.mark.parametrize("name", FORGET)
def test_forget_side(judge: Any, results: dict[str, Any], name: str) -> None:
    value, gradient = judge(FORGET[name])
    close(value, results[name]["value"])
    close(gradient["forget"], grad_logits(results[name]))
    assert not gradient["retain"].any()


@pytest.mark.parametrize("weight", [1.0, 0.25])
@pytest.mark.parametrize(
    ("loss", "name"), [("nll", "retain_nll"), ("kl", "retain_kl_answer_positions_only")]
)
@pytest.mark.parametrize("forget", ["ga", "npo_beta0.5"])
def test_retain_side(
    judge: Any, results: dict[str, Any], forget: str, loss: Any, name: str, weight: float
) -> None:
    method = replace(FORGET[forget], retain=Retain(loss, weight))
    value, gradient = judge(method)
    close(value, results[forget]["value"] + weight * results[name]["value"])
    close(gradient["retain"], weight * grad_logits(results[name]))
    close(gradient["forget"], grad_logits(results[forget]))


@pytest.mark.parametrize(
    ("name", "method"),
    [("gd_coef1", GA(retain=Retain("nll"))), ("npo_gd_beta0p1", NPO(retain=Retain("nll")))],
)
def test_composites(judge: Any, results: dict[str, Any], name: str, method: Method) -> None:
    """With the default weight 1, and NPO's default beta 0.1."""
    close(judge(method)[0], results["composites"][name])


@pytest.mark.parametrize(
    ("name", "method", "weight"),
    [
        ("ga_KL_coef5_GRU", GA(retain=Retain("kl", 5.0)), 5.0),
        ("ga_kl_coef1_Geffect", GA(retain=Retain("kl")), 1.0),
        ("npo_KL_beta0p1", NPO(retain=Retain("kl")), 1.0),
    ],
)
def test_composites_with_kl(
    judge: Any, results: dict[str, Any], name: str, method: Method, weight: float
) -> None:
    """The published codes average KL over all positions; ours differs from them by just that."""
    ours = results["retain_kl_answer_positions_only"]["value"]
    theirs = results["retain_kl_code_all_positions"]["value"]
    close(judge(method)[0], results["composites"][name] + weight * (ours - theirs))


@pytest.mark.parametrize("retain", [NO_RETAIN, Retain("nll", 0.5), Retain("kl", 0.5)])
def test_reduction_of_the_paper(
    judge: Any, oracles: dict[str, Any], results: dict[str, Any], retain: Retain
) -> None:
    """`sequence_sum`: summed over a row's tokens, averaged over the rows, on both sides."""
    value, gradient = judge(GA(retain=retain, reduction="sequence_sum"))
    per_row = {
        "none": 0.0,
        "nll": sum(map(sum, oracles["per_token"]["retain_ce"])) / 2,
        # Six answer tokens in two rows.
        "kl": results["retain_kl_answer_positions_only"]["value"] * 6 / 2,
    }
    ascent = results["paper_reductions"]["ga_sum_seq_mean_batch"]
    close(value, ascent + retain.weight * per_row[retain.loss])
    # Five answer tokens in two rows.
    close(gradient["forget"], grad_logits(results["ga"]) * 5 / 2)


def test_reduction_leaves_npos_own_term_alone(judge: Any, results: dict[str, Any]) -> None:
    method = replace(FORGET["npo_beta0.5"], reduction="sequence_sum")
    close(judge(method)[0], results["npo_beta0.5"]["value"])


def test_npo_approaches_ascent_as_beta_goes_to_zero(judge: Any) -> None:
    _, npo = judge(NPO(retain=NO_RETAIN, beta=1e-7))
    _, ascent = judge(GA(reduction="sequence_sum"))
    np.testing.assert_allclose(npo["forget"], ascent["forget"], rtol=1e-6)


def test_npo_of_the_start_model_is_ln_two(example: Example) -> None:
    """p = p_start: (2/beta) ln 2 for each of two rows."""
    models = example.models(example.start)
    found = losses.NPO(0.4)(models, example.batch("forget"))
    assert found.item() == pytest.approx(2 * (2 / 0.4) * np.log(2), rel=1e-9)


def test_kl_to_itself_is_zero_and_flat(example: Example) -> None:
    logits = example.start.clone().requires_grad_()
    kl = KL()(example.models(logits), example.batch("retain"))
    (gradient,) = torch.autograd.grad(kl, logits)
    assert kl.item() == pytest.approx(0.0, abs=1e-14)
    assert gradient.abs().max().item() < 1e-14


def test_kl_from_a_sure_start_model_is_the_nll(example: Example) -> None:
    """Where the start model's other probabilities underflow to 0, they contribute 0."""
    batch, start = example.batch("retain"), torch.zeros_like(example.start)
    start[batch.input_ids[batch.row, 0], batch.position, batch.labels] = 1e4
    models = replace(example.models(), start=Table(start))
    close(KL()(models, batch), NLL()(models, batch))


def test_no_gradient_reaches_the_start_model(example: Example) -> None:
    start = example.start.clone().requires_grad_()
    trained = example.logits.clone().requires_grad_()
    kl = KL()(Models(Table(trained), Table(start), nullcontext), example.batch("retain"))
    kl.backward()
    assert start.grad is None
    assert trained.grad is not None


ALL: list[tuple[Loss, str]] = [
    (NLL(), "forget"),
    (NLL(), "retain"),
    (KL(), "retain"),
    (KL("all"), "retain"),
    (losses.NPO(0.1), "forget"),
    (losses.NPO(2.0), "forget"),
    (losses.WGA(5.0, closed=True), "forget"),
    (losses.TNPO(4.0, closed=True), "forget"),
    (losses.SimNPO(4.5, 0.2), "forget"),
    (losses.DPO(0.1), "forget"),
    (losses.DPO(0.5, doubled=True), "forget"),
    (losses.AP(0.1), "retain"),
    (losses.IHL(), "forget"),
    (losses.UNDIAL(10.0), "forget"),
    (losses.Margin(), "forget"),
    (losses.Entropy(), "forget"),
    (losses.Entropy("uniform-model"), "forget"),
]
# Their gradient is not that of their value: weights and targets carry none.
DETACHED: list[tuple[Loss, str]] = [
    (losses.WGA(1.0), "forget"),
    (losses.WGA(5.0), "forget"),
    (losses.TNPO(4.0), "forget"),
    (losses.TNPO(4.0, eps=1e-5), "forget"),
    (losses.TNPO(5.0, alpha=1.5), "forget"),
    (losses.SatImp(5.0, 1.0), "forget"),
    (losses.CEU(), "forget"),
]


@pytest.mark.parametrize(("loss", "split"), ALL)
def test_gradient_agrees_with_finite_differences(example: Example, loss: Loss, split: str) -> None:
    def value(logits: Tensor) -> Tensor:
        return loss(example.models(logits), example.batch(split))

    assert torch.autograd.gradcheck(value, example.logits.clone().requires_grad_())


@pytest.mark.parametrize(("loss", "split"), ALL + DETACHED)
def test_a_loss_is_a_sum_over_micro_batches(example: Example, loss: Loss, split: str) -> None:
    whole = loss(example.models(), example.batch(split))
    parts = [loss(example.models(), collate([row], 0, CPU)) for row in example.rows[split]]
    close(sum(parts), whole)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1e2, 1e4])
@pytest.mark.parametrize("answer", ["impossible", "certain"])
@pytest.mark.parametrize(("loss", "split"), ALL + DETACHED)
def test_finite_at_the_ends(
    example: Example, loss: Loss, split: str, answer: str, size: float, dtype: torch.dtype
) -> None:
    """p -> 0 and p -> 1 of the labels, beyond what the probability itself can hold.

    The start model was as sure of the opposite.
    """
    batch = example.batch(split)
    start = torch.full((len(batch.labels),), -size if answer == "certain" else 0.0)
    batch = replace(batch, start_logprob=start)
    logits = torch.zeros(4, 5, 4, dtype=dtype)
    rows = batch.input_ids[batch.row, 0]
    logits[rows, batch.position, batch.labels] = size if answer == "certain" else -size
    logits.requires_grad_()
    value = loss(example.models(logits), batch)
    (gradient,) = torch.autograd.grad(value, logits)
    assert value.dtype == dtype
    assert torch.isfinite(value)
    assert torch.isfinite(gradient).all()
    lengths = len(batch.labels) * size
    if isinstance(loss, NLL):
        expected = 0.0 if answer == "certain" else lengths
        assert value.item() == pytest.approx(expected, rel=0.02, abs=1e-30)
    elif isinstance(loss, losses.NPO):
        # -(2/beta) log sigmoid(-beta x) is 2 x for large x, and nothing for small ones.
        expected = 2 * lengths if answer == "certain" else 0.0
        assert value.item() == pytest.approx(expected, rel=1e-3, abs=1e-6)


def test_losses_compare_by_value() -> None:
    """GRU recognises its risk in a method's terms by this."""
    assert NLL() == NLL()
    assert losses.NPO(0.1) == losses.NPO(0.1)
    different = [*(loss for loss, _ in ALL[1:] + DETACHED), losses.NPO(0.2)]
    assert all(a != b for a, b in itertools.combinations(different, 2))


@pytest.mark.parametrize(
    ("method", "logprobs", "model"),
    [
        (GA(), False, False),
        (GA(retain=Retain("nll")), False, False),
        (GA(retain=Retain("kl")), False, True),
        (GA(retain=Retain("kl", 0.0)), False, False),  # a term of weight 0 is none
        (NPO(retain=NO_RETAIN), True, False),
        (NPO(), True, False),
        (NPO(retain=Retain("kl")), True, True),
    ],
)
def test_what_a_method_needs_of_the_start_model(
    method: Method, logprobs: bool, model: bool
) -> None:
    assert method.prerequisites().start_logprobs is logprobs
    assert needs_start_model(method.terms()) is model
