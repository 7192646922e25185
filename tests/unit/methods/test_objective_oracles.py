"""Every other objective has the values, and the gradients by logit, of the worked examples.

The examples come from `tests/oracles/gru_geffect.json` (G-effect's weighted losses,
SimNPO, IDK, DPO, RMU) and `loku_llmeraser.json` (IHL, KL). What neither lists (SatImp, CE-U,
UNDIAL, PDU, ME, AP) is compared with the formulas in numpy, with finite differences for gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from itertools import combinations
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from examples import CPU, Example, Table, close, grad_logits
from helpers.oracles import read_oracles
from torch import Tensor, nn
from transformers import PreTrainedConfig

from unlearn_runner.data.encode import Batch, Encoded, collate
from unlearn_runner.errors import ConfigError
from unlearn_runner.methods import losses
from unlearn_runner.methods.base import Method, Retain
from unlearn_runner.methods.ceu import CEU
from unlearn_runner.methods.dpo import DPO
from unlearn_runner.methods.ga import GA
from unlearn_runner.methods.idk import IDK
from unlearn_runner.methods.ihl import IHL
from unlearn_runner.methods.me import ME
from unlearn_runner.methods.npo import NPO
from unlearn_runner.methods.pdu import PDU
from unlearn_runner.methods.rmu import RMU
from unlearn_runner.methods.satimp import SatImp
from unlearn_runner.methods.simnpo import SimNPO
from unlearn_runner.methods.tnpo import TNPO, WTNPO
from unlearn_runner.methods.undial import UNDIAL
from unlearn_runner.methods.wga import WGA
from unlearn_runner.models.forward import Models, hidden_states

NONE = Retain(loss="none")

FORGET: dict[str, Method] = {
    "wga_alpha1": WGA(NONE, alpha=1.0),
    "wga_alpha5": WGA(NONE, alpha=5.0),
    "wga_alpha7": WGA(NONE, alpha=7.0),
    "mean_p_pow_alpha5_over_5": WGA(NONE, alpha=5.0, closed=True),
    "tnpo_beta4_exact": TNPO(NONE, beta=4.0),
    "tnpo_beta4_code_eps1e-5": TNPO(NONE, beta=4.0, eps=1e-5),
    "tnpo_beta5_exact": TNPO(NONE, beta=5.0),
    "tokenwise_npo_beta4": TNPO(NONE, beta=4.0, closed=True),
    "wtnpo_a1.5_b5_exact": WTNPO(NONE, alpha=1.5, beta=5.0),
    "wtnpo_a1.5_b5_code_eps1e-5": WTNPO(NONE, alpha=1.5, beta=5.0, eps=1e-5),
    "wtnpo_a1.5_b7_exact": WTNPO(NONE, alpha=1.5, beta=7.0),
    "simnpo_beta2.5": SimNPO(NONE, beta=2.5),
    "simnpo_beta4.5": SimNPO(NONE, beta=4.5),
}


@pytest.mark.parametrize("name", FORGET)
def test_forget_side(judge: Any, results: dict[str, Any], name: str) -> None:
    value, gradient = judge(FORGET[name])
    close(value, results[name]["value"])
    close(gradient["forget"], grad_logits(results[name]))
    assert not gradient["retain"].any()


def test_an_attached_weight_would_have_another_gradient(results: dict[str, Any]) -> None:
    """What the gradients above catch: the oracle has the wrong one, too."""
    wrong, right = results["wga_alpha1_attached_WRONG"], results["wga_alpha1"]
    assert wrong["value"] == right["value"]
    assert not np.allclose(wrong["grad_logits"], right["grad_logits"], rtol=1e-3)


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("wga_alpha1", WGA(NONE, "sequence_sum", alpha=1.0)),
        ("tnpo_beta4", TNPO(NONE, "sequence_sum", beta=4.0)),
    ],
)
def test_reduction_of_the_paper(
    judge: Any, results: dict[str, Any], name: str, method: Method
) -> None:
    close(judge(method)[0], results["paper_reductions"][name])


def test_simnpo_beside_a_tenth_of_the_retain_nll(judge: Any, results: dict[str, Any]) -> None:
    method = SimNPO(Retain(weight=0.1), beta=4.5)
    close(judge(method)[0], results["composites"]["simnpo_gd_beta4p5_coef0p1"])


@pytest.mark.parametrize("inside", [False, True])
def test_the_margin_of_simnpo_stands_outside_beta_unless_asked(
    example: Example, results: dict[str, Any], inside: bool
) -> None:
    beta, gamma = 2.5, 0.3
    rows = [1.647893549926756, 0.5605902580189228, 0.2018946122990246]
    means = [sum(rows) / 3, (0.21426350725892135 + 0.9081695741299306) / 2]
    margin = beta * gamma if inside else gamma
    expected = sum(2 / beta * np.log1p(np.exp(-(beta * mean - margin))) for mean in means)
    found = losses.SimNPO(beta, gamma, inside)(example.models(), example.batch("forget"))
    close(found, expected)


def test_the_forget_side_has_a_weight_of_its_own(judge: Any, results: dict[str, Any]) -> None:
    value, gradient = judge(WGA(NONE, weight=0.25, alpha=5.0))
    close(value, 0.25 * results["wga_alpha5"]["value"])
    close(gradient["forget"], 0.25 * grad_logits(results["wga_alpha5"]))
    close(judge(GA(NONE, weight=0.5))[0], 0.5 * results["ga"]["value"])


# --- KL over all positions


def full(example: Example) -> Batch:
    """The retain rows with no padding: the published code counts all five positions of both."""
    return collate([Encoded((row, 0, 0, 0, 0), 1) for row in (2, 3)], 0, CPU)


def test_kl_over_all_positions(example: Example, results: dict[str, Any]) -> None:
    expected = results["retain_kl_code_all_positions"]
    logits = example.logits.clone().requires_grad_()
    value = losses.KL("all")(example.models(logits), full(example)) / 10
    (gradient,) = torch.autograd.grad(value, logits)
    close(value.item(), expected["value"])
    close(gradient[2:], grad_logits(expected))
    turned = results["retain_kl_reverse_all_positions_for_contrast"]["value"]
    assert abs(value.item() - turned) > 1e-3


@pytest.mark.parametrize(
    ("name", "weight"),
    [("npo_kl_Geffect_hyper0p5_bug", 0.5), ("npo_kl_intended_beta0p5_lambda20", 20.0)],
)
def test_g_effects_npo_with_kl(
    example: Example, judge: Any, results: dict[str, Any], name: str, weight: float
) -> None:
    kl = losses.KL("all")(example.models(), full(example)) / 10
    close(judge(NPO(NONE, beta=0.5))[0] + weight * kl, results["composites"][name])


def test_all_positions_are_the_tokens_of_a_row_and_none_of_the_padding(example: Example) -> None:
    everywhere = example.batch("retain").everywhere()
    assert everywhere.row.tolist() == [0] * 4 + [1] * 5
    assert everywhere.position.tolist() == [*range(4), *range(5)]
    method = GA(Retain("kl", positions="all"))
    assert method.terms()[1].unit == "position"
    assert GA(Retain("kl", positions="all"), "sequence_sum").terms()[1].unit == "row"


# --- refusals


def test_idk(judge: Any, results: dict[str, Any]) -> None:
    """The oracle's refusals are the forget rows."""
    oracle = results["idk_concat"]
    close(judge(IDK(NONE))[0], oracle["idk_only"])
    close(judge(IDK(concat=True))[0], oracle["token_mean_over_concat"])
    close(judge(IDK())[0], 2 * oracle["mean_of_two_means"])
    close(judge(IDK())[1]["forget"], -grad_logits(results["ga"]))


def test_dpo(example: Example, judge: Any, results: dict[str, Any]) -> None:
    """The oracle's winners are the retain rows."""
    value, gradient = judge(DPO(NONE, beta=0.1))
    close(value, results["dpo_beta0.1"]["value"])
    assert gradient["forget"].any()
    assert gradient["retain"].any()
    close(judge(DPO(NONE, beta=0.1, doubled=True))[0], 20 * value)


def log_softmax(logits: Any) -> Any:
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def sequence_nlls(example: Example, logits: Tensor, split: str) -> Any:
    batch = example.batch(split)
    rows = {"forget": (0, 1), "retain": (2, 3)}[split]
    logp = log_softmax(logits.numpy())
    found = np.zeros(2)
    triples = zip(batch.row, batch.position, batch.labels, strict=True)
    for row, position, label in triples:
        found[row] -= logp[rows[row], position, label]
    return found


def test_answer_preservation(example: Example) -> None:
    """Refusals of the retain questions are the forget rows here."""
    refused = sequence_nlls(example, example.logits, "forget")
    answered = sequence_nlls(example, example.logits, "retain")
    beta = 0.3
    expected = (np.log1p(np.exp(-beta * (refused - answered))) / beta).mean()
    (term,) = (t for t in IDK(Retain("ap", beta=beta)).terms() if t.split == "retain")
    assert term.unit == "row"
    found = term.loss(example.models(), example.batch("retain")) / 2
    close(found, expected)


@pytest.mark.parametrize(
    ("method", "forget", "retain", "start"),
    [
        (GA(), False, False, False),
        (NPO(), False, False, False),
        *((IDK(Retain(name)), True, name == "ap", False) for name in ("none", "nll", "kl", "ap")),
        (IDK(concat=True), True, False, False),
        (DPO(), True, False, True),
        (DPO(Retain("ap")), True, True, True),
        (NPO(Retain("ap")), False, True, False),
    ],
)
def test_what_a_method_needs_of_other_answers(
    method: Method, forget: bool, retain: bool, start: bool
) -> None:
    needed = method.prerequisites()
    assert ("forget" in needed.alternatives) is forget
    assert ("retain" in needed.alternatives) is retain
    assert needed.alternative_logprobs is start


# --- whole distributions, by the formulas in numpy


def by_position(example: Example, split: str) -> list[tuple[Any, Any, int]]:
    """Per scored token the trained logits, the start logits and the label."""
    batch = example.batch(split)
    rows = {"forget": (0, 1), "tail": (0, 1)}[split]
    return [
        (example.logits[rows[r], p].numpy(), example.start[rows[r], p].numpy(), int(label))
        for r, p, label in zip(batch.row, batch.position, batch.labels, strict=True)
    ]


def numeric_gradient(value: Callable[[Any], float], at: Any, step: float = 1e-6) -> Any:
    found = np.zeros_like(at)
    for i in range(len(at)):
        moved = [at.copy(), at.copy()]
        moved[0][i] += step
        moved[1][i] -= step
        found[i] = (value(moved[0]) - value(moved[1])) / (2 * step)
    return found


def satimp(z: Any, at: Any, _: Any, label: int) -> float:
    p = np.exp(log_softmax(at))[label]
    return p**5 * (1 - p) * log_softmax(z)[label]


def ceu(z: Any, at: Any, _: Any, label: int) -> float:
    target = np.exp(at)
    target[label] = 0
    return -(target / target.sum() * log_softmax(z)).sum()


def undial(z: Any, _: Any, start: Any, label: int) -> float:
    lowered = start.copy()
    lowered[label] -= 10
    return -(np.exp(log_softmax(lowered)) * log_softmax(z)).sum()


def margin(z: Any, *_: Any) -> float:
    return (z.max() - z.mean()) ** 2


def entropy(z: Any, *_: Any) -> float:
    logp = log_softmax(z)
    return np.log(len(z)) + (np.exp(logp) * logp).sum()


def entropy_turned(z: Any, *_: Any) -> float:
    return -np.log(len(z)) - log_softmax(z).mean()


def wtnpo(z: Any, at: Any, start: Any, label: int) -> float:
    p, before = np.exp(log_softmax(at))[label], np.exp(log_softmax(start))[label]
    return 2 * p**6.5 / (p**5 + before**5) * log_softmax(z)[label]


FORMULAS: dict[str, tuple[Method, Callable[..., float], str]] = {
    "satimp": (SatImp(NONE, weight=1.0), satimp, "forget"),
    "ce-u": (CEU(NONE), ceu, "tail"),
    "ce-u, first token too": (CEU(NONE, ignore_first=0), ceu, "forget"),
    "undial": (UNDIAL(NONE), undial, "forget"),
    "pdu": (PDU(Retain("nll", 1e-300)), margin, "forget"),
    "me": (ME(NONE, weight=1.0), entropy, "forget"),
    "me, turned": (ME(NONE, weight=1.0, order="uniform-model"), entropy_turned, "forget"),
    "wtnpo": (WTNPO(NONE), wtnpo, "forget"),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_by_the_formula(example: Example, judge: Any, name: str) -> None:
    """The second argument of a formula is what a weight or target is made of, without gradient."""
    method, formula, split = FORMULAS[name]
    value, gradient = judge(method)
    tokens = by_position(example, split)
    close(value, np.mean([formula(z, z, start, label) for z, start, label in tokens]))
    expected = np.zeros((2, 5, 4))
    batch = example.batch(split)
    for (z, start, label), row, position in zip(tokens, batch.row, batch.position, strict=True):
        slope = numeric_gradient(lambda moved: formula(moved, z, start, label), z)  # noqa: B023
        expected[row, position] += slope / len(tokens)
    np.testing.assert_allclose(gradient["forget"], expected, rtol=1e-6, atol=1e-9)


def test_ceu_leaves_the_first_answer_token_alone(judge: Any, example: Example) -> None:
    _, gradient = judge(CEU(NONE))
    first = [row.prompt_length - 1 for row in example.rows["forget"]]
    touched = gradient["forget"].abs().sum(-1) > 0
    assert not any(touched[row, position] for row, position in enumerate(first))
    assert touched.sum() == 3  # of five answer tokens


# --- TNPO where both probabilities are small


def test_the_sigmoid_form_keeps_the_weight_that_an_epsilon_takes_away() -> None:
    cases = read_oracles("gru_geffect")["tnpo_eps_trap"]
    for case in cases:
        p, beta = case["p"], case["beta"]
        table = torch.log(torch.tensor([[[p, 1 - p], [0.5, 0.5]]], dtype=torch.float64))
        batch = collate([Encoded((0, 0), 1, np.array([np.log(case["p_ref"])]))], 0, CPU)
        models = Models(Table(table), None, nullcontext)
        nll = -np.log(p)
        close(losses.TNPO(beta)(models, batch), -case["exact_weight"] * nll)
        close(losses.TNPO(beta, eps=1e-5)(models, batch), -case["code_weight"] * nll)


# --- IHL


@pytest.fixture(scope="module")
def loku() -> dict[str, Any]:
    return read_oracles("loku_llmeraser")["oracles"]


def tokens(logits: Any, targets: list[int]) -> tuple[Tensor, Batch]:
    """One row of a table whose every position is scored, and its batch."""
    table = torch.tensor([[*logits, logits[0]]], dtype=torch.float64)
    return table, collate([Encoded((0, *targets), 1)], 0, CPU)


def ihl(table: Tensor, batch: Batch) -> Tensor:
    return losses.IHL()(Models(Table(table), None, nullcontext), batch)


def test_ihl(loku: dict[str, Any]) -> None:
    case = loku["ihl_basic"]
    table, batch = tokens(case["logits"], case["targets"])
    value = ihl(table.requires_grad_(), batch) / 3
    (gradient,) = torch.autograd.grad(value, table)
    close(value.item(), case["mean"])
    close(gradient[0, :3], case["grad_mean"])
    for place, expected in enumerate(case["per_token"]):
        alone, one = tokens([case["logits"][place]], [case["targets"][place]])
        value = ihl(alone.requires_grad_(), one)
        close(value.item(), expected)
        close(torch.autograd.grad(value, alone)[0][0, 0], case["per_token_grad"][place])


def test_ihl_of_rows_with_unscored_tokens_is_a_token_mean(loku: dict[str, Any]) -> None:
    case = loku["ihl_shift_mask"]
    rows = []
    for number, labels in enumerate(case["labels"]):
        first = next(i for i, label in enumerate(labels) if label != -100)
        ids = (number, *(max(label, 0) for label in labels[1:]))
        rows.append(Encoded(ids, first))
    table = torch.tensor(case["logits"], dtype=torch.float64)
    batch = collate(rows, 0, CPU)
    assert len(batch.labels) == case["n_scored"]
    close(ihl(table, batch) / case["n_scored"], case["token_mean"])
    assert abs(case["token_mean"] - case["mean_of_seq_means"]) > 0.01


def test_ihl_takes_a_softmax_of_logits_that_look_like_probabilities(loku: dict[str, Any]) -> None:
    case = loku["ihl_skip_softmax_trap"]
    close(ihl(*tokens(case["logits"], case["targets"])) / 2, case["correct_mean"])


def test_ihl_at_its_limits(loku: dict[str, Any]) -> None:
    case = loku["ihl_limits"]
    assert ihl(*tokens([[99.0, 0.0, 0.0]], [0])).item() == pytest.approx(case["p1"], abs=1e-12)
    assert ihl(*tokens([[0.0, 99.0, 0.0]], [0])).item() == pytest.approx(case["forgot"], abs=1e-12)
    close(ihl(*tokens([[1.0, 1.0, 1.0]], [0])), case["uniform"])


def test_ihl_in_bf16_autocast_still_tells_small_probabilities_apart(loku: dict[str, Any]) -> None:
    case = loku["ihl_bf16_resolution"]
    others = 997
    table = torch.tensor([[[0.003, *[0.001] * others], [0.0] * (others + 1)]]).log().clamp(min=-99)
    with torch.autocast("cpu", torch.bfloat16):
        value = ihl(table, collate([Encoded((0, 0), 1)], 0, CPU))
    assert value.item() == pytest.approx(case["exact"], abs=1e-5)
    assert case["bf16"] == 1.0


def test_ihl_beside_the_retain_nll(judge: Any, results: dict[str, Any]) -> None:
    """Both with weight 1; `ihl_combined` adds two numbers."""
    alone = judge(IHL(NONE))[0]
    close(judge(IHL())[0], alone + results["retain_nll"]["value"])


def test_kl_of_loku_over_all_positions(loku: dict[str, Any]) -> None:
    case = loku["kl_retain"]
    trained, start = (
        torch.tensor(case[key], dtype=torch.float64) for key in ("current_logits", "oracle_logits")
    )
    batch = collate([Encoded((0, 0), 1)], 0, CPU)
    kl = losses.KL("all")(Models(Table(trained), Table(start), nullcontext), batch)
    close(kl / 2, case["kl"])


# --- hidden states


class Stack(nn.Module):
    """A model of two blocks that do nothing, whose embeddings are looked up by the first token."""

    def __init__(self, states: Any) -> None:
        super().__init__()
        self.states = nn.Parameter(torch.tensor(states, dtype=torch.float64))
        self.config = PreTrainedConfig(num_hidden_layers=2)
        self.blocks = nn.ModuleList([nn.Identity(), nn.Identity()])
        self.output = nn.Identity()

    def forward(self, input_ids: Tensor, **_: Any) -> Any:
        found = self.states[input_ids[:, 0], : input_ids.shape[1]]
        for block in self.blocks:
            found = block(found)
        return SimpleNamespace(logits=self.output(found))

    def get_output_embeddings(self) -> nn.Module:
        return self.output


class Steering(Models):
    """Models whose random direction is the oracle's."""

    u: Tensor

    def direction(self, like: Tensor) -> Tensor:
        return self.u


@pytest.fixture(scope="module")
def rmu() -> dict[str, Any]:
    return read_oracles("gru_geffect")["rmu"]


def hidden_rows(case: dict[str, Any]) -> Batch:
    rows = [
        Encoded(
            (number, *(max(label, 0) for label in labels[1:])),
            next(i for i, label in enumerate(labels) if label != -100),
        )
        for number, labels in enumerate(case["labels"])
    ]
    return collate(rows, 0, CPU)


def test_a_layer_that_is_not_there_is_named_by_its_key() -> None:
    batch = collate([Encoded((0, 0), 1)], 0, CPU)
    with pytest.raises(ConfigError, match=r"^error: method\.layer=3 .* 0 to 2, ") as refused:
        hidden_states(Stack([[[1.0], [2.0]]]), batch, 3)
    assert refused.value.fix.startswith("method.layer=2, or null")


@pytest.mark.parametrize("layer", [0, 1, 2, None])
@pytest.mark.parametrize("coefficient", ["c2", "c4"])
@pytest.mark.parametrize("over", ["sum", "mean"])
def test_rmu(rmu: dict[str, Any], over: Any, coefficient: str, layer: int | None) -> None:
    """The oracle's direction is not normalised (G-effect)."""
    models = Steering(Stack(rmu["hidden"]), None, nullcontext)
    object.__setattr__(models, "u", torch.tensor(rmu["u"], dtype=torch.float64))
    loss = losses.Steering(float(coefficient[1:]), layer, "uniform", over)
    batch = hidden_rows(rmu)
    name = {"sum": "paper_sum_over_dim", "mean": "code_mean_over_dim"}[over]
    value = loss(models, batch) / len(batch.labels)
    close(value.item(), rmu[coefficient][name])
    value.backward()
    # d/dh of the mean over three tokens of ||h - c u||^2, at the positions that predict a label.
    gap = models.trained.states.detach() - float(coefficient[1:]) * models.u
    expected = torch.zeros_like(gap)
    expected[batch.input_ids[batch.row, 0], batch.position] = 2 / 3
    close(models.trained.states.grad, expected * gap / (4 if over == "mean" else 1))


def test_rmus_default_direction_has_length_one(rmu: dict[str, Any]) -> None:
    models = Steering(Stack(rmu["hidden"]), None, nullcontext)
    object.__setattr__(models, "u", torch.tensor(rmu["u"], dtype=torch.float64))
    batch = hidden_rows(rmu)
    u = np.array(rmu["u"]) / np.linalg.norm(rmu["u"])
    h = models.trained.states.detach().numpy()
    where = zip(batch.input_ids[batch.row, 0], batch.position, strict=True)
    expected = sum(((h[row, position] - 3 * u) ** 2).sum() for row, position in where)
    close(losses.Steering(3.0)(models, batch).item(), expected)


@pytest.mark.parametrize("over", ["sum", "mean"])
def test_representation_retention(rmu: dict[str, Any], over: Any) -> None:
    case = rmu["rr"]
    models = Models(Stack(rmu["hidden"]), Stack(case["hidden_ref"]), nullcontext)
    batch = hidden_rows(rmu)
    close(losses.Retention(1, over)(models, batch).item() / 3, case[f"{over}_over_dim"])


@pytest.mark.parametrize("layer", [0, 1, 2, None])
@pytest.mark.parametrize("over", ["sum", "mean"])
@pytest.mark.parametrize("kind", ["kept", "steered"])
def test_gradients_by_hidden_state_agree_with_finite_differences(
    rmu: dict[str, Any], kind: str, over: Any, layer: int | None
) -> None:
    """In float64; and the start model, which is the other half of the gap, gets none."""
    batch, u = hidden_rows(rmu), torch.tensor(rmu["u"], dtype=torch.float64)
    start = Stack(rmu["rr"]["hidden_ref"])
    loss = (
        losses.Retention(layer, over) if kind == "kept" else losses.Steering(3.0, layer, over=over)
    )

    def value(states: Tensor) -> Tensor:
        trained = Stack(rmu["hidden"])
        del trained.states
        trained.states = states
        models = Steering(trained, start, nullcontext)
        object.__setattr__(models, "u", u)
        return loss(models, batch)

    states = torch.tensor(rmu["hidden"], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(value, states)
    value(states).backward()
    gradient = states.grad
    assert gradient is not None
    scored = torch.zeros(states.shape[:2], dtype=torch.bool)
    scored[batch.input_ids[batch.row, 0], batch.position] = True
    assert (gradient.abs().sum(-1) > 0).equal(scored)
    assert start.states.grad is None
    if kind == "kept":
        gap = 2 * (states - start.states).detach() / (states.shape[-1] if over == "mean" else 1)
        close(gradient, torch.where(scored[..., None], gap, 0.0))


@pytest.mark.parametrize("size", [1e2, 1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_representation_retention_is_finite_however_far_the_states_have_gone(
    rmu: dict[str, Any], size: float, dtype: torch.dtype
) -> None:
    models = Models(Stack(rmu["hidden"]).to(dtype), Stack(rmu["hidden"]).to(dtype), nullcontext)
    models.trained.states.data.fill_(size)
    value = losses.Retention()(models, hidden_rows(rmu))
    value.backward()
    assert value.dtype == dtype
    assert torch.isfinite(value)
    assert torch.isfinite(models.trained.states.grad).all()
    dimensions = 3 * len(rmu["u"])  # of three scored tokens
    assert value.item() == pytest.approx(dimensions * size**2, rel=0.1)


def test_rmu_retains_at_its_own_layer_unless_told_otherwise() -> None:
    _, retain = RMU(Retain("rr"), layer=5).terms()
    assert retain.loss == losses.Retention(5)
    _, retain = RMU(Retain("rr", layer=2, over="mean"), layer=5).terms()
    assert retain.loss == losses.Retention(2, "mean")
    _, retain = RMU(Retain("nll"), layer=5).terms()
    assert retain.loss == losses.NLL()


def test_the_direction_is_a_function_of_the_seed_alone() -> None:
    like = torch.zeros(3, 8)
    first, again, other = (
        Models(None, None, nullcontext, seed).direction(like) for seed in (1, 1, 2)
    )
    assert first.dtype == torch.float32
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert 0 <= float(first.min()) < float(first.max()) < 1


# --- PDU's dual variable


def test_pdu_moves_its_weight_by_dual_ascent_after_the_warm_up() -> None:
    method = PDU(Retain(weight=2.0), dual_step=5.0, retain_bound=0.3, warmup=1.0)
    state = method.after_step({"forget": 9.0, "retain": 0.9}, 1.0, {})
    assert method.terms_after(state)[1].weight == 2.0
    state = method.after_step({"forget": 9.0, "retain": 0.9}, 1.5, state)
    assert method.terms_after(state)[1].weight == pytest.approx(5.0)
    state = method.after_step({"forget": 9.0, "retain": 0.1}, 2.0, state)
    assert method.terms_after(state)[1].weight == pytest.approx(4.0)
    state = method.after_step({"forget": 9.0, "retain": 0.0}, 2.5, {"retain_weight": 1.0})
    assert method.terms_after(state)[1].weight == 0.0
    assert method.terms_after(state)[0] == method.terms()[0]


def test_methods_compare_by_value() -> None:
    assert all(a != b for a, b in combinations(FORGET.values(), 2))
    assert replace(WGA(), alpha=2.0) == WGA(alpha=2.0)
