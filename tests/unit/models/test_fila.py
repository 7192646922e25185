"""FILA and PiSSA against worked numbers: row weights, factors, residual, and the export."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.adapters import PLAIN
from helpers.oracles import read_oracles
from torch import Tensor, nn

from unlearn_runner.models.adapters.fila import FILA, INVERSE_EPS
from unlearn_runner.models.adapters.importance import Importance
from unlearn_runner.models.adapters.pissa import PiSSA
from unlearn_runner.models.adapters.residual import weighted_factors

SCALING = 2.0


def oracle(name: str) -> dict[str, Any]:
    return read_oracles("loku_llmeraser")["oracles"][name]


def tensor(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def importance(**changes: Any) -> Importance:
    found = FILA(**changes).importance
    assert found is not None
    return found


def information(worked: dict[str, Any], scale: float = 1.0) -> tuple[Tensor, Tensor]:
    forget = tensor(worked["importance_f_sum"]) / worked["f_cnt"]
    retain = tensor(worked["importance_r_sum"]) / worked["r_cnt"]
    return scale * forget, scale * retain


def weighted_error(weight: Tensor, product: Tensor, d: Tensor) -> float:
    return float((d[:, None] * (weight - product)).square().sum())


@pytest.mark.parametrize(("name", "rank"), [("fila_r1", 1), ("fila_r2", 2)])
def test_factors_are_the_worked_ones(name: str, rank: int) -> None:
    worked = oracle(name)
    weight = tensor(worked["W"])
    d, _ = importance().row_weights(*information(worked))
    assert d.tolist() == pytest.approx(worked["row_weight"], rel=1e-12)
    a, b = FILA(rank=rank).factors(weight, SCALING, d)
    product = SCALING * b @ a
    for found, expected in (
        (product, worked["sBA"]),
        (weight - product, worked["residual"]),
        (a.abs(), worked["abs_A"]),
        (b.abs(), worked["abs_B"]),
    ):
        assert torch.allclose(found, tensor(expected), rtol=0, atol=1e-12)
    assert weighted_error(weight, product, d) == pytest.approx(worked["weighted_sq_err"], rel=1e-9)
    plain, other = weighted_factors(weight, rank, SCALING)
    error = weighted_error(weight, SCALING * other @ plain, d)
    assert error == pytest.approx(worked["weighted_sq_err_plain_svd"], rel=1e-9)


def test_a_small_fisher_is_dominated_by_an_absolute_eps_and_not_by_a_relative_one() -> None:
    worked, data = oracle("fila_eps_dominated"), oracle("fila_r1")
    small, whole = information(data, worked["scale"]), information(data)
    d, facts = importance().row_weights(*small)
    assert d.tolist() == pytest.approx(worked["row_weight"], rel=1e-12)
    assert facts["eps_share"] == 1
    d, facts = importance(eps_relative=True).row_weights(*small)
    other, _ = importance(eps_relative=True).row_weights(*whole)
    assert torch.allclose(d, other, rtol=1e-12)
    assert facts["eps_share"] == 0


def test_equal_weights_are_pissa_and_pissa_is_the_truncated_svd() -> None:
    weight = torch.randn(7, 12, generator=torch.Generator().manual_seed(0)).double()
    a, b = PiSSA(**PLAIN).factors(weight, SCALING, None)
    for size in (1.0, 3.7):
        mine = weighted_factors(weight, 4, SCALING, torch.full((7,), size))
        assert torch.allclose(mine[1] @ mine[0], b @ a, rtol=0, atol=1e-12)
    published = FILA(**PLAIN).factors(weight, SCALING, torch.ones(7))  # adds 1e-5 to each weight
    assert torch.allclose((1 + INVERSE_EPS) * published[1], b, rtol=1e-12)
    left, values, right = torch.linalg.svd(weight)
    product = left[:, :4] @ torch.diag(values[:4]) @ right[:4]
    assert torch.allclose(SCALING * b @ a, product, rtol=0, atol=1e-12)
    assert torch.allclose(a.norm(dim=1), b.norm(dim=0)), "the two share each singular value"


@pytest.mark.parametrize("shape", [(5, 9), (9, 5), (6, 6)])
def test_the_weighted_error_is_never_above_that_of_the_plain_svd(shape: tuple[int, int]) -> None:
    draw = torch.Generator().manual_seed(sum(shape))
    for trial in range(40):
        weight = torch.randn(shape, generator=draw).double()
        d = torch.randn(shape[0], generator=draw).double().mul(2).exp()
        rank = 1 + trial % 4
        a, b = weighted_factors(weight, rank, SCALING, d)
        plain, other = weighted_factors(weight, rank, SCALING)
        mine = weighted_error(weight, SCALING * b @ a, d)
        assert mine <= weighted_error(weight, SCALING * other @ plain, d) * (1 + 1e-12)
        best = torch.linalg.svdvals(d[:, None] * weight)[rank:].square().sum()
        assert mine == pytest.approx(float(best), rel=1e-9)


def test_rows_without_weight_and_ranks_beyond_the_matrix() -> None:
    weight = torch.randn(3, 6, generator=torch.Generator().manual_seed(1)).double()
    a, b = weighted_factors(weight, 5, SCALING)
    assert (a.shape, b.shape) == ((5, 6), (3, 5))
    assert torch.allclose(SCALING * b @ a, weight)
    d = torch.tensor([0.0, 1.0, 2.0])
    a, b = weighted_factors(weight, 2, SCALING, d, INVERSE_EPS)
    assert not b[0].any()
    assert torch.allclose(SCALING * b @ a, torch.cat([0 * weight[:1], weight[1:]]), atol=1e-4)
    same = FILA(rank=2).factors(weight, SCALING, torch.zeros(3))
    equal = FILA(rank=2).factors(weight, SCALING, torch.ones(3))
    assert torch.allclose(same[1] @ same[0], equal[1] @ equal[0])


class OneMap(nn.Module):
    """A model of one linear map."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.map = nn.Linear(*reversed(weight.shape), bias=False, dtype=weight.dtype)
        self.map.weight.data.copy_(weight)

    def get_output_embeddings(self) -> None:
        return None


def test_the_export_of_twice_the_rank_is_the_worked_one() -> None:
    """W_res + s B1 A1 = W + s [B1, -B0] [A1; A0], from the published factors."""
    worked, data = oracle("fila_rank2r_export"), oracle("fila_r2")
    weight = tensor(data["W"])
    d, _ = importance().row_weights(*information(data))
    adapter = FILA(rank=2)
    model = adapter.attach(OneMap(weight), 0, {"map": d})
    module = model.map
    a, b = module.lora_A["default"].weight, module.lora_B["default"].weight
    # The oracle's update is of its own signs of singular vectors.
    began = (a.detach().clone(), b.detach().clone())
    sign = torch.sign(tensor(worked["A1"]) * began[0]).sum(1).sign()
    with torch.no_grad():
        a.copy_(sign[:, None] * tensor(worked["A1"]))
        b.copy_(sign * tensor(worked["B1"]))
        here = module.base_layer.weight + SCALING * b @ a
        config = model.peft_config["default"]
        names = {"A": "map.lora_A.weight", "B": "map.lora_B.weight"}
        kept = adapter.exported(model, config, {names["A"]: a, names["B"]: b})
        there = weight + config.lora_alpha / config.r * kept[names["B"]] @ kept[names["A"]]
    assert (config.r, kept[names["A"]].shape) == (4, (4, 3))
    expected = tensor(worked["W_eff"])
    assert torch.allclose(here, expected, rtol=0, atol=1e-12)
    assert torch.allclose(there, expected, rtol=0, atol=1e-12)
    again = adapter.imported(kept)
    assert torch.equal(again[names["A"]], a)
    assert torch.equal(again[names["B"]], b)


def test_a_bf16_residual_is_made_of_the_factors_as_they_are_stored() -> None:
    """Its error is one rounding of the residual, below that of weights in bf16."""
    worked, data = oracle("fila_bf16_roundtrip"), oracle("fila_r2")
    d, _ = importance().row_weights(*information(data))
    rounded = tensor(data["W"]).bfloat16()
    module = FILA(rank=2).attach(OneMap(rounded), 0, {"map": d}).map
    a, b = (getattr(module, f"lora_{x}")["default"].weight for x in "AB")
    assert (a.dtype, module.base_layer.weight.dtype) == (torch.float32, torch.bfloat16)
    sum_of_both = module.base_layer.weight.double() + SCALING * (b.double() @ a.double())
    error = float((sum_of_both - rounded).detach().norm() / rounded.double().norm())
    assert error < worked["rel_err_consistent"] < worked["rel_err_separate"]
