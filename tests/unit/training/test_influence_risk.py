"""Influence systems of a tiny language model with an adapter, in float64."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy

from unlearn_runner.methods.influence import Influence
from unlearn_runner.models.adapters.lora import LoRA
from unlearn_runner.models.forward import Models
from unlearn_runner.models.gradients import GradientSpace
from unlearn_runner.training.influence import products
from unlearn_runner.training.influence.risk import Hessian, Request, Risk, sampled
from unlearn_runner.training.influence.solve import System, solve
from unlearn_runner.training.loop import TrainingLog
from unlearn_runner.utils import signals

pytestmark = pytest.mark.usefixtures("one_thread")


def risk_of(tiny: Any, reduction: Any = "token", micro_batch: int = 3) -> Risk:
    lora = LoRA(rank=1, alpha=4.0, dropout=0.0, regex="[qv]_proj", layers=(1, 1))
    model = lora.attach(tiny.llama(torch.float64), 3)
    with torch.no_grad():  # B is zero at first, and A then has no gradient
        generator = torch.Generator().manual_seed(0)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.05)
    space = GradientSpace(model.named_parameters())
    return Risk(Models(model.eval(), None, nullcontext), space, reduction, micro_batch, tiny.pad)


def flat(vector: Any) -> Tensor:
    return torch.cat([entry.reshape(-1) for entry in vector])


def like(space: GradientSpace, numbers: Tensor) -> Any:
    sizes = [p.numel() for p in space.parameters]
    return [x.reshape(p.shape) for x, p in zip(numbers.split(sizes), space.parameters, strict=True)]


def explicit(risk: Risk, rows: list[Any], mean_of_rows: bool) -> tuple[Tensor, Tensor]:
    """Gradient and Hessian by torch's own, of the loss as transformers' logits give it."""
    names, model = risk.space.names, risk.models.trained
    start = flat([p.detach() for p in risk.space.parameters])

    def loss(numbers: Tensor) -> Tensor:
        weights = dict(zip(names, like(risk.space, numbers), strict=True))
        total, count = numbers.new_zeros(()), 0
        for row in rows:
            ids = torch.tensor([row.ids])
            logits = functional_call(model, weights, (ids,)).logits[0, row.prompt_length - 1 : -1]
            nll = cross_entropy(logits, ids[0, row.prompt_length :], reduction="sum")
            total = total + (nll / row.num_labels if mean_of_rows else nll)
            count += 1 if mean_of_rows else row.num_labels
        return total / count

    with sdpa_kernel(SDPBackend.MATH):
        slope = torch.autograd.functional.jacobian(loss, start)
        return slope, torch.autograd.functional.hessian(loss, start)


@pytest.mark.parametrize("reduction", ["token", "row"])
def test_products_against_the_explicit_hessian(tiny: Any, reduction: Any) -> None:
    risk, rows = risk_of(tiny, reduction), tiny.rows[:3]
    slope, hessian = explicit(risk, rows, reduction == "row")
    size = risk.size(rows)
    assert torch.allclose(flat(risk.gradient(rows, size)), slope, rtol=1e-10, atol=1e-13)
    v = torch.randn(len(slope), dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = hessian @ v
    for kind, near in (("double", 1e-10), ("difference", 1e-6)):
        found = flat(risk.product(kind, rows, size, like(risk.space, v)))  # type: ignore[arg-type]
        assert float((found - expected).norm() / expected.norm()) < near, kind


def test_gauss_newton_against_its_definition(tiny: Any) -> None:
    risk, rows = risk_of(tiny), tiny.rows[:2]
    size, names, model = risk.size(rows), risk.space.names, risk.models.trained
    start = flat([p.detach() for p in risk.space.parameters])
    v = torch.randn(len(start), dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    expected = torch.zeros_like(start)
    for row in rows:
        ids = torch.tensor([row.ids])

        def logits(numbers: Tensor, ids: Tensor = ids, row: Any = row) -> Tensor:
            weights = dict(zip(names, like(risk.space, numbers), strict=True))
            return functional_call(model, weights, (ids,)).logits[0, row.prompt_length - 1 : -1]

        with sdpa_kernel(SDPBackend.MATH):
            jacobian = torch.func.jacfwd(logits)(start)
        p = logits(start).softmax(-1)
        middle = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
        expected += torch.einsum("tvk,tvw,twl,l->k", jacobian, middle, jacobian, v) / size
    found = flat(risk.product("gauss_newton", rows, size, like(risk.space, v)))
    assert float((found - expected).norm() / expected.norm()) < 1e-10


def curvature_root(risk: Risk, rows: list[Any]) -> Tensor:
    """U, U U^T being the sum of the rows' Gauss-Newton matrices; [parameters, tokens x classes]."""
    names, model, found = risk.space.names, risk.models.trained, []
    start = flat([p.detach() for p in risk.space.parameters])
    for row in rows:
        ids = torch.tensor([row.ids])

        def logits(numbers: Tensor, ids: Tensor = ids, row: Any = row) -> Tensor:
            weights = dict(zip(names, like(risk.space, numbers), strict=True))
            return functional_call(model, weights, (ids,)).logits[0, row.prompt_length - 1 : -1]

        with sdpa_kernel(SDPBackend.MATH):
            jacobian = torch.func.jacfwd(logits)(start)
        p = logits(start).softmax(-1)
        # (diag(sqrt p) - p sqrt(p)^T) times its transpose is diag(p) - p p^T.
        middle = torch.diag_embed(p.sqrt()) - p[:, :, None] * p.sqrt()[:, None, :]
        found.append(torch.einsum("tvk,tvw->ktw", jacobian, middle).flatten(1))
    return torch.cat(found, 1)


def test_win_u_is_the_newton_step_that_woodbury_takes_apart(tiny: Any, tmp_path: Path) -> None:
    """WIN-U (2604.13438): (A - U U^T)^-1 b = A^-1 b + A^-1 U (1 - U^T A^-1 U)^-1 U^T A^-1 b."""
    full, gone = tiny.rows[:5], tiny.rows[:1]
    settings = {"hessian": "new", "damping": 1e-2}  # those of method=winu, and rows=null
    x, facts, risk = delta(tiny, Request(full, gone), tmp_path, **settings)
    n = risk.size(full)
    root, some = (curvature_root(risk, rows) / n**0.5 for rows in (full, gone))
    a = root @ root.T + facts["damping"] * torch.eye(len(root), dtype=root.dtype)
    b = flat(risk.gradient(gone, n))
    whole, sides = torch.linalg.solve(a, b), torch.linalg.solve(a, some)
    inner = torch.eye(some.shape[1], dtype=some.dtype) - some.T @ sides
    expected = whole + sides @ torch.linalg.solve(inner, some.T @ whole)
    assert float((x - expected).norm() / expected.norm()) < 1e-6
    assert float((x - whole).norm() / expected.norm()) > 0.1, "plain influence is another step"


def test_b_is_additive_over_disjoint_requests(tiny: Any) -> None:
    risk, full = risk_of(tiny), tiny.rows[:12]
    one, two = full[:3], full[3:5]
    b = [flat(Request(full, rows).right_hand_side(risk)) for rows in (one, two, [*one, *two])]
    assert torch.allclose(b[0] + b[1], b[2], rtol=1e-10, atol=1e-14)
    replaced = flat(Request(full, one, tiny.rows[20:23]).right_hand_side(risk))
    come = flat(risk.gradient(tiny.rows[20:23], risk.size(full)))
    assert torch.allclose(replaced, b[0] - come, rtol=1e-10, atol=1e-14)


def no_log(folder: Path, key: str = "key") -> TrainingLog:
    return TrainingLog(folder, key, lambda line: None)


def delta(tiny: Any, request: Request, folder: Path, **settings: Any) -> tuple[Tensor, Any, Risk]:
    risk = risk_of(tiny, micro_batch=8)
    settings = {
        "hvp": "gauss_newton",
        "rows": None,
        "tolerance": 1e-9,
        "iterations": 400,
    } | settings
    system = System(Influence(**settings), request, risk, 3)
    (place := folder / str(len(list(folder.iterdir())))).mkdir()
    x, facts = solve(system, "solve", no_log(place))
    return flat(x), facts, risk


def test_duplication_laws(tiny: Any, tmp_path: Path) -> None:
    full, asked = tiny.rows[:6], tiny.rows[:1]
    once, facts, _ = delta(tiny, Request(full, asked), tmp_path)
    both, _, _ = delta(tiny, Request([*full, *full], [*asked, *asked]), tmp_path)
    rows_only, _, _ = delta(tiny, Request([*full, *full], asked), tmp_path)
    assert facts["residual"] < 1e-8
    assert torch.allclose(both, once, rtol=1e-5, atol=1e-7 * float(once.norm()))
    assert torch.allclose(rows_only, once / 2, rtol=1e-5, atol=1e-7 * float(once.norm()))


def test_no_component_along_the_gauge(tiny: Any, tmp_path: Path) -> None:
    """B -> B t, A -> A / t leaves every row's loss as it is."""
    full = tiny.rows[:6]
    x, _, risk = delta(tiny, Request(full, full[:2]), tmp_path, iterations=20)
    found = dict(zip(risk.space.names, like(risk.space, x), strict=True))
    values = dict(zip(risk.space.names, risk.space.weights(), strict=True))
    for name in (name for name in values if "lora_A" in name):
        other = name.replace("lora_A", "lora_B")
        along = (found[other] * values[other]).sum()
        along = along - (found[name] * values[name]).sum()
        length = float(values[other].norm() ** 2 + values[name].norm() ** 2) ** 0.5
        assert abs(along.item()) / length < 1e-9 * float(x.norm())


def test_the_hessian_of_what_remains(tiny: Any) -> None:
    full = tiny.rows[:4]
    request = Request(full, [full[1]], [tiny.rows[9]])
    assert request.after() == [full[0], full[2], full[3], tiny.rows[9]]
    risk = risk_of(tiny)
    system = System(Influence(hessian="new", rows=None), Request(full, full[:1]), risk, 0)
    v = products.gradient(risk.space, risk.parts(full, 1.0))
    mine = flat(system.hessian.product(v))
    theirs = flat(risk.product("double", full[1:], risk.size(full), v))
    assert torch.allclose(mine, theirs, rtol=1e-10, atol=1e-14)


def test_an_l2_term_of_the_fine_tune_is_a_part_of_the_risk(tiny: Any) -> None:
    risk, full = risk_of(tiny), tiny.rows[:4]
    plain = System(Influence(rows=None, damping=0), Request(full, full[:1]), risk, 0)
    with_l2 = System(plain.method, plain.request, replace(risk, l2=0.3), 0)
    slope, theta = (flat(x) for x in (risk.gradient(full, risk.size(full)), risk.space.weights()))
    found = with_l2.begin()
    assert found.facts["gradient_norm"] == pytest.approx(float((slope + 0.3 * theta).norm()))
    v = found.b
    for one, other in ((plain.hessian, with_l2.hessian), (plain.held, with_l2.held)):
        expected = flat(one.product(v)) + 0.3 * flat(v)
        assert torch.allclose(flat(other.product(v)), expected, rtol=1e-12)
        expected = flat(one.minibatch(v, 1, 2)) + 0.3 * flat(v)
        assert torch.allclose(flat(other.minibatch(v, 1, 2)), expected, rtol=1e-12)


def test_minibatches_are_right_in_the_mean(tiny: Any) -> None:
    risk, rows = risk_of(tiny), tiny.rows[:3]
    hessian = Hessian(risk, "double", rows)
    v = risk.gradient(rows, 1.0)
    whole = flat(hessian.product(v))
    drawn = {step: flat(hessian.minibatch(v, step, 1)) for step in range(1, 40)}
    distinct = {tuple(found.tolist()): found for found in drawn.values()}
    assert len(distinct) == 3
    assert torch.allclose(sum(distinct.values()) / 3, whole, rtol=1e-10)  # type: ignore[arg-type]


def test_samples_are_disjoint_as_far_as_there_are_rows(tiny: Any) -> None:
    rows = tiny.rows[:20]
    some, held = sampled(rows, 12, 5, 0)
    assert (len(some), len(held)) == (12, 5)
    assert not {id(row) for row in some} & {id(row) for row in held}
    every, held = sampled(rows, None, 5, 0)
    assert len(every) == 20
    assert {id(row) for row in held} <= {id(row) for row in every}


def test_a_solution_that_is_stopped_goes_on_to_the_same_bits(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = tiny.rows[:6]
    for solver in ("cg", "minres", "sgd", "lissa"):
        settings: Any = {"solver": solver, "iterations": 6, "tolerance": 1e-12, "batch": 2}
        method = Influence(hvp="gauss_newton", rows=None, **settings)

        def run(folder: Path, method: Influence = method) -> Tensor:
            system = System(method, Request(full, full[:2]), risk_of(tiny), 3)
            return flat(solve(system, "solve", no_log(folder))[0])

        (tmp_path / solver).mkdir()
        undisturbed = run(tmp_path)
        asked = iter([None, None, 15])
        monkeypatch.setattr(signals, "requested", lambda asked=asked: next(asked, 15))
        with pytest.raises(signals.Interrupted):
            run(tmp_path / solver)
        monkeypatch.undo()
        assert list((tmp_path / solver).glob("step-*.json"))
        assert torch.equal(run(tmp_path / solver), undisturbed), solver


def test_damping_is_raised_where_curvature_is_negative(tiny: Any, tmp_path: Path) -> None:
    full = tiny.rows[:6]  # a model that has only begun to learn: far from a minimum
    _, facts, _ = delta(tiny, Request(full, full[:1]), tmp_path, hvp="double", tolerance=1e-3)
    assert facts["smallest_ritz"] < 0
    assert facts["damping_raised"] > 0
    assert facts["damping"] > 1e-3 * facts["largest_ritz"]
    assert facts["residual"] < 2e-3
    assert facts["gradient_over_b"] > 1


def test_the_released_solver_is_far_by_the_certificate(tiny: Any, tmp_path: Path) -> None:
    full = tiny.rows[:6]
    request = Request(full, full[:1])
    x, facts, _ = delta(tiny, request, tmp_path, solver="released", iterations=20, batch=1)
    solved, good, _ = delta(tiny, request, tmp_path, tolerance=1e-4)
    assert facts["residual"] > 0.9 > 1e-3 > good["residual"]
    assert float(x.abs().max()) < 2.2e-4
    assert float((x - solved).norm() / solved.norm()) > 0.9
