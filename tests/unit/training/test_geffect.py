"""G-effects against the oracles of `gru_geffect.json`, finite differences, and plain autograd."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers.objectives import EVERY_METHOD, Workbench
from helpers.oracles import read_oracles
from helpers.two_layers import Oracle
from torch import nn

from unlearn_runner.methods.base import Method, Retain, Term
from unlearn_runner.methods.ga import GA
from unlearn_runner.methods.npo import NPO
from unlearn_runner.methods.wga import WGA
from unlearn_runner.models.gradients import GradientSpace
from unlearn_runner.models.layer_groups import layer_groups
from unlearn_runner.pipeline.stages.geffect import risks_of
from unlearn_runner.rectifiers.gru import GRU
from unlearn_runner.training.batches import StepRows
from unlearn_runner.training.fixed_rows import fixed_rows, sample_rows
from unlearn_runner.training.geffect import ZERO, Effect, Effects, Meter, smoothed

pytestmark = pytest.mark.usefixtures("one_thread")

FOUND = read_oracles("gru_geffect")
NONE = Retain("none")
METHODS: dict[str, Method] = {
    "ga": GA(),
    "wga_alpha1": WGA(NONE, alpha=1.0),
    "npo_beta0.5": NPO(NONE, beta=0.5),
}
NLL = risks_of("nll")


def close(expected: Any) -> Any:
    return pytest.approx(expected, rel=1e-9, abs=1e-12)


def whole(effects: Effects) -> Effect:
    return sum(effects.values(), ZERO)


# --- oracles


@pytest.mark.parametrize("name", METHODS)
def test_effects_of_the_tiny_model(name: str) -> None:
    oracle, known = Oracle(FOUND["g_effect"]), FOUND["g_effect"]["objectives"][name]
    meter = oracle.meter(METHODS[name], NLL)
    effects = meter.exact(oracle.rows)
    assert {k.partition(".")[0]: e.e_u for k, e in effects.items()} == close(known["e_u_by_layer"])
    assert {k.partition(".")[0]: e.e_r for k, e in effects.items()} == close(known["e_r_by_layer"])
    assert whole(effects).e_u == close(known["e_u"])
    assert whole(effects).e_r == close(known["e_r"])
    assert meter.losses["risk_forget"] == close(FOUND["g_effect"]["R_u"])
    assert meter.losses["risk_retain"] == close(FOUND["g_effect"]["R_r"])


@pytest.mark.parametrize("name", METHODS)
def test_a_small_step_changes_the_risks_as_the_effects_say(name: str) -> None:
    oracle = Oracle(FOUND["g_effect"])
    known = FOUND["g_effect"]["objectives"][name]["first_order_check"]
    meter, lr = oracle.meter(METHODS[name], NLL), known["eta"]
    effect = whole(meter.exact(oracle.rows))
    before = dict(meter.losses)
    step = meter.take(oracle.rows, meter.engine.terms)
    meter.space.set_weights(meter.space.add(meter.space.weights(), step, -lr))
    meter.exact(oracle.rows)
    for risk, e, which in (("risk_forget", effect.e_u, "u"), ("risk_retain", effect.e_r, "r")):
        change = meter.losses[risk] - before[risk]
        assert change == pytest.approx(known[f"actual_dR_{which}"], rel=1e-9)
        assert -lr * e == close(known[f"predicted_dR_{which}"])
        assert change == pytest.approx(-lr * e, rel=1e-2)


def test_npo_is_a_weighted_mean_of_what_its_rows_do() -> None:
    oracle, known = Oracle(FOUND["g_effect"]), FOUND["g_effect"].get("npo_pg_decomposition")
    known = known or FOUND["npo_pg_decomposition"]
    method = NPO(NONE, beta=0.5)
    meter = oracle.meter(method, NLL)
    loss, rows = method.terms()[0].loss, oracle.splits["forget"]
    found = meter.per_sample(oracle.rows)
    weights = []
    for row, (logprob, pg_u, pg_r), point in zip(rows, found, known["points"], strict=True):
        assert row.start_logprob is not None
        weights.append(loss.row_weight(logprob, float(row.start_logprob.sum())))
        assert weights[-1] == close(point["weight"])
        assert (pg_u, pg_r) == close((point["pg_unlearn"], point["pg_retain"]))
    for at, name in ((1, "recombined_e_u"), (2, "recombined_e_r")):
        mean = sum(w * one[at] for w, one in zip(weights, found, strict=True)) / len(found)
        assert mean == close(known[name])
    effect = whole(meter.exact(oracle.rows))
    assert (effect.e_u, effect.e_r) == close((known["recombined_e_u"], known["recombined_e_r"]))


def test_a_row_has_no_weight_where_the_gradient_is_no_weighted_ascent() -> None:
    assert WGA(NONE).terms()[0].loss.row_weight(-1.0, -1.0) is None
    assert NPO(NONE).terms()[0].loss.row_weight(-1.0, None) is None
    assert NPO(NONE).terms()[0].loss.row_weight(-2.0, -2.0) == 1.0


def test_smoothing_is_that_of_the_published_code() -> None:
    known = FOUND["g_effect"].get("code_ema") or FOUND["code_ema"]
    space = GradientSpace([("v", nn.Parameter(torch.zeros(2, dtype=torch.float64)))])
    means: list[Any] = [None, None]
    for new, dot in zip(
        zip(known["risk_grads"], known["objective_grads"], strict=True),
        known["dot_after_each"],
        strict=True,
    ):
        vectors = [[torch.tensor(one, dtype=torch.float64)] for one in new]
        means = [smoothed(space, *pair) for pair in zip(means, vectors, strict=True)]
        assert space.dots((means[0], means[1]))[0] == close(dot)


@pytest.mark.parametrize("name", ["gru_on_tiny_model", "gru_on_tiny_model_conflict"])
def test_what_gru_leaves_of_the_effects(name: str) -> None:
    """Of the rectified gradient: e_r is what a rectified step does to the retain risk."""
    known = FOUND[name]
    retain = (known["X_r"], known["y_r"]) if "X_r" in known else None
    oracle = Oracle(FOUND["g_effect"], retain)
    meter = oracle.meter(GA(), NLL)
    rectifier, space, rows = GRU(gamma=1.0), meter.space, oracle.rows
    terms = meter.engine.terms
    gradients, _ = meter.engine.gradients(rows, rectifier.groups(terms))
    rectified = rectifier.rectify(gradients, terms, {}, space).gradient
    flat = torch.cat([entry.reshape(-1) for entry in rectified if entry is not None])
    assert flat.tolist() == close(known["rectified"])
    e_u, e_r = (space.dots((rectified, meter.take(rows, [risk])))[0] for risk in NLL)
    assert e_u == close(known["e_u_after"])
    assert e_r == close(known["e_r_after"])


# --- every objective


def plain(meter: Meter, rows: StepRows, terms: Sequence[Term]) -> torch.Tensor:
    """The gradient of terms over rows by one backward pass of torch, all rows in one batch."""
    model = meter.engine.models.trained
    model.zero_grad()
    total = 0.0
    for term in terms:
        (micro,) = rows.micro(term.split, None, meter.engine.pad, meter.engine.device)
        loss = term.loss(meter.engine.models, micro.batch)
        total = total + term.weight * loss / rows.count(term.split, term.unit)
    (total / 1).backward()  # pyright: ignore[reportAttributeAccessIssue]
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in meter.space.parameters]
    flat = torch.cat([grad.reshape(-1) for grad in grads])
    model.zero_grad()
    return flat


CHOSEN = ("ga", "gd", "gd, sequence sums", "kl", "npo", "idk, concatenated", "ap", "rmu", "altpo")
CASES = [
    pytest.param(method, id=name, marks=[] if name in CHOSEN else [pytest.mark.long])
    for name, method in EVERY_METHOD
]


def bench_rows(bench: Workbench, method: Method) -> StepRows:
    """A sample of forget and of retain rows, with all that the method reads."""
    extra: Any = bench.step_loader(method).add_splits
    chosen = (sample_rows(5, "forget", 20, 6), sample_rows(5, "retain", 40, 9))
    return fixed_rows(3, bench.forget, bench.tiny.retain, chosen, extra)


@pytest.mark.parametrize("risk", ["nll", "kl"])
@pytest.mark.parametrize("method", CASES)
def test_exact_is_what_three_plain_gradients_give(tiny: Any, method: Method, risk: str) -> None:
    bench = Workbench(tiny, torch.float64)
    rows, risks = bench_rows(bench, method), risks_of(risk)
    engine = bench.engine(method, micro_batch=4)
    with torch.no_grad():  # away from the start model, where KL has no gradient
        for parameter in engine.models.trained.parameters():
            parameter.mul_(1.02)
    engine.models.trained.eval()
    meter = Meter(engine, risks)
    found = whole(meter.exact(rows))
    objective = plain(meter, rows, method.terms())
    of_forget, of_retain = (plain(meter, rows, [one]) for one in risks)
    expected = Effect(
        float(objective @ of_forget),
        float(objective @ of_retain),
        float(objective @ objective),
        float(of_forget @ of_forget),
        float(of_retain @ of_retain),
    )
    scale = expected.objective**0.5
    assert found.e_u == pytest.approx(expected.e_u, rel=1e-8, abs=1e-10 * scale)
    assert found.e_r == pytest.approx(expected.e_r, rel=1e-8, abs=1e-10 * scale)
    for name in ("objective", "forget", "retain"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-8)


NEEDED = {"ga": 6 + 9, "gd": 6 + 9, "kl": 6 + 9 + 9, "npo": 6 + 6 + 9, "rmu": 6 + 9 + 6 + 9}
"""Passes of a row that each different loss needs once: 6 forget rows, 9 retain rows."""


@pytest.mark.parametrize("name", NEEDED)
def test_exact_passes_each_loss_once(tiny: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    method = dict(EVERY_METHOD)[name]
    bench = Workbench(tiny, torch.float64)
    rows = bench_rows(bench, method)
    meter = Meter(bench.engine(method, micro_batch=4), NLL)
    seen, alive, most = [], [], []
    meter.engine.models.trained.register_forward_pre_hook(
        lambda _, __, given: seen.append(len(given["input_ids"])), with_kwargs=True
    )
    collect = GradientSpace.collect

    def counting(space: GradientSpace) -> Any:
        import weakref

        gradient = collect(space)
        alive.append([weakref.ref(entry) for entry in gradient if entry is not None])
        most.append(sum(any(ref() is not None for ref in refs) for refs in alive))
        return gradient

    monkeypatch.setattr(GradientSpace, "collect", counting)
    meter.exact(rows)
    assert sum(seen) == meter.rows_passed == NEEDED[name]
    assert max(most) <= 2, "one that is kept, and one that accumulates"


def test_effects_of_layer_groups_add_up_to_the_whole(tiny: Any) -> None:
    method = NPO(Retain("nll", 0.2), beta=0.5)
    bench = Workbench(tiny, torch.float64)
    rows = bench_rows(bench, method)
    meter = Meter(bench.engine(method), NLL)
    effects = meter.exact(rows)
    groups = layer_groups(list(effects), (0, 1))
    assert set(groups) == {"embed", "middle", "deep", "norm"}
    by_group: dict[str, Effect] = {}
    for group, effect in zip(groups, effects.values(), strict=True):
        by_group[group] = by_group.get(group, ZERO) + effect
    objective = meter.take(rows, method.terms())
    for at, risk in enumerate(NLL):
        dot = meter.space.dots((objective, meter.take(rows, [risk])))[0]
        summed = sum((e.e_u, e.e_r)[at] for e in by_group.values())
        assert summed == pytest.approx(dot, rel=1e-10)


def test_a_finite_step_of_a_language_model(tiny: Any) -> None:
    method = NPO(Retain("nll", 0.2), beta=0.5)
    bench = Workbench(tiny, torch.float64)
    rows = bench_rows(bench, method)
    meter = Meter(bench.engine(method), NLL)
    effect, before, lr = whole(meter.exact(rows)), dict(meter.losses), 1e-6
    step = meter.take(rows, method.terms())
    meter.space.set_weights(meter.space.add(meter.space.weights(), step, -lr))
    meter.exact(rows)
    for risk, e in (("risk_forget", effect.e_u), ("risk_retain", effect.e_r)):
        assert meter.losses[risk] - before[risk] == pytest.approx(-lr * e, rel=1e-2)


# --- ema, samples of rows


@pytest.mark.parametrize(("batches", "reported"), [(2, [2]), (3, [3]), (6, [3]), (8, [3, 7])])
def test_the_published_code_reports_after_these_batches(batches: int, reported: list[int]) -> None:
    oracle = Oracle(FOUND["g_effect"])
    meter = oracle.meter(GA(), NLL)
    found = meter.ema(oracle.rows for _ in range(batches))
    assert [number for number, _ in found] == reported
    exact = whole(oracle.meter(GA(), NLL).exact(oracle.rows))
    for _, effects in found:  # a mean of equal gradients
        assert whole(effects).e_u == pytest.approx(exact.e_u, rel=1e-12)
        assert whole(effects).e_r == pytest.approx(exact.e_r, rel=1e-12)


def test_ema_smooths_each_kind_of_gradient_apart() -> None:
    oracle = Oracle(FOUND["g_effect"])
    first = StepRows({name: rows[:1] for name, rows in oracle.splits.items()})
    second = StepRows({name: rows[1:] for name, rows in oracle.splits.items()})
    meter = oracle.meter(WGA(NONE, alpha=1.0), NLL)
    ((_, effects),) = meter.ema([first, second])
    objective, of_forget, of_retain = (
        0.6 * plain(meter, first, terms) + 0.4 * plain(meter, second, terms)
        for terms in (meter.engine.terms, NLL[:1], NLL[1:])
    )
    assert whole(effects).e_u == close(float(objective @ of_forget))
    assert whole(effects).e_r == close(float(objective @ of_retain))


def test_samples_are_fixed_in_order_and_of_all_rows_when_they_can_be() -> None:
    assert sample_rows(1, "forget", 5, 9) == [0, 1, 2, 3, 4]
    few = sample_rows(1, "forget", 100, 10)
    assert few == sorted(set(few)) == sample_rows(1, "forget", 100, 10)
    assert few != sample_rows(2, "forget", 100, 10) != sample_rows(2, "retain", 100, 10)


def test_chosen_rows_are_each_passed_once(tiny: Any) -> None:
    method = dict(EVERY_METHOD)["ap"]
    bench = Workbench(tiny, torch.float64)
    rows = bench_rows(bench, method)
    retain = [replace(row, other=None) for row in rows.splits["retain"]]
    assert retain == [bench.tiny.retain[i] for i in sample_rows(5, "retain", 40, 9)]
    for row in rows.splits["retain"]:  # a refusal of the row's own question
        assert row.other is not None
        assert row.other.ids[: row.prompt_length] == row.ids[: row.prompt_length]
