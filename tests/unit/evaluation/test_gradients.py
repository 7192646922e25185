"""Gradient norms: those of a plain loop in float64, of an adapter, after a kill; and their AUC."""

from __future__ import annotations

import json
from collections import Counter
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.adapters import EVERY_ADAPTER, attached
from helpers.evaluations import evaluator_of, short_views
from peft.tuners.tuners_utils import BaseTunerLayer

from unlearn_runner.api import compose
from unlearn_runner.commands.score import main
from unlearn_runner.data.encode import Encoded, encode_rows
from unlearn_runner.distributed.ranks import ALONE
from unlearn_runner.evaluation.files import read_gradients, write_gradients
from unlearn_runner.evaluation.metrics.base import Metric, compute
from unlearn_runner.evaluation.metrics.evidence import Evidence
from unlearn_runner.evaluation.metrics.membership.attacks import GradNorm
from unlearn_runner.evaluation.probes.gradients import gradient_norms
from unlearn_runner.evaluation.probes.journal import Journal
from unlearn_runner.evaluation.schema import NORMS, OF_FINISHED

pytestmark = pytest.mark.usefixtures("one_thread")


def plain(model: Any, row: Encoded) -> dict[str, list[float]]:
    """Norms by the plainest code: all logits, one loss, one backward pass."""
    model.zero_grad()
    logp = model(input_ids=torch.tensor([row.ids])).logits[0].log_softmax(-1)
    scored = range(row.prompt_length, len(row.ids) - 1)
    (-sum(logp[i - 1, row.ids[i]] for i in scored) / len(scored)).backward()
    return {
        name: [p.grad.norm(order).item() for order in (1, 2, float("inf"))]
        for name, p in model.named_parameters()
    }


def scored(tiny: Any, number: int) -> list[Encoded]:
    return [row for row in tiny.forget if row.num_labels > 1][:number]


def assert_same(found: list[Any], expected: list[Any], rel: float) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for name, norms in other.items():
            assert one[name] == pytest.approx(norms, rel=rel), name


def test_norms_are_those_of_a_plain_loop_in_float64(tiny: Any) -> None:
    model, rows = tiny.llama(torch.float64).eval(), scored(tiny, 5)
    expected = [plain(model, row) for row in rows]
    assert "lm_head.weight" not in expected[0], "tied: one tensor, and one gradient of both uses"
    model.requires_grad_(False)
    assert_same(gradient_norms(model, rows, tiny.pad, 2, ""), expected, 1e-10)
    assert not any(p.requires_grad or p.grad is not None for p in model.parameters())
    assert_same(gradient_norms(tiny.llama().eval(), rows, tiny.pad, 2, ""), expected, 1e-3)


@pytest.mark.parametrize("name", [name for name in EVERY_ADAPTER if name != "dora"])
def test_an_adapter_s_model_has_the_norms_of_the_merged_one(tiny: Any, name: str) -> None:
    model = attached(tiny, EVERY_ADAPTER[name], torch.float64).eval()
    random = torch.Generator().manual_seed(3)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert trained
    for parameter in trained:
        parameter.data.add_(torch.randn(parameter.shape, generator=random, dtype=torch.float64) / 9)
    rows = scored(tiny, 2)
    found = gradient_norms(model, rows, tiny.pad, 2, "")
    assert all(parameter.requires_grad for parameter in trained), "as they were"
    merged = deepcopy(model)
    for module in merged.modules():
        if isinstance(module, BaseTunerLayer):
            module.merge()
    state = {n.replace(".base_layer.", "."): x for n, x in merged.state_dict().items()}
    whole = tiny.llama(torch.float64).eval()
    whole.load_state_dict({name: state[name] for name in whole.state_dict()})
    assert_same(found, [plain(whole, row) for row in rows], 1e-8)


def test_a_row_without_a_scored_token_has_no_norm(tiny: Any, tmp_path: Path) -> None:
    (row,) = scored(tiny, 1)
    short = replace(row, ids=row.ids[: row.prompt_length + 1])
    found = gradient_norms(tiny.llama().eval(), [short, row], tiny.pad, 2, "")
    write_gradients(tmp_path, "v", found)
    for norm, values in read_gradients(tmp_path, "v").items():
        assert np.isnan(values[0])
        assert values[1] == pytest.approx(
            np.mean([n[NORMS.index(norm)] for n in found[1].values()])
        )


def test_an_attempt_takes_no_norm_twice(tiny: Any, tmp_path: Path) -> None:
    model, calls = tiny.llama().eval(), Counter[str]()

    def count(*_: Any) -> None:
        calls["rows"] += 1
        if calls["rows"] == 4:
            raise KeyboardInterrupt

    given = (scored(tiny, 6), tiny.pad, 2, "")
    expected = gradient_norms(model, *given)
    hook = model.register_forward_pre_hook(count)
    journal = Journal[Any](tmp_path / "j")
    with pytest.raises(KeyboardInterrupt):
        gradient_norms(model, *given, ALONE, journal)
    assert gradient_norms(model, *given, ALONE, journal) == expected
    assert calls["rows"] == 4 + 4, "a batch of two was kept"
    hook.remove()


def test_the_full_suite_attacks_by_gradients_where_the_probe_is() -> None:
    asked = "benchmark.view.forget.probes=[logprobs,generations,gradients]"
    benchmark = compose("benchmark.suite=full", asked).benchmark
    assert benchmark.metrics.keys() - compose("benchmark.suite=full").benchmark.metrics.keys() == {
        "mia_gradnorm"
    }
    assert benchmark.views()["holdout"][0].probes == ("logprobs", "gradients")


def test_from_a_model_to_an_auc(
    tiny: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The AUC is of a plain loop's norms, in a run and by the command."""
    views = short_views(6)
    attacked = ("forget", "holdout")
    evaluator = evaluator_of(views, more=dict.fromkeys(attacked, ("gradients",)))
    model = tiny.llama().eval()
    evaluator.run(model, tiny.tokenizer, tmp_path, "", ALONE)
    shown = {n: replace(views[n][0], probes=("logprobs", "gradients")) for n in attacked}
    evidence = Evidence.load(tmp_path, shown)

    def own(name: str) -> list[float]:
        rows = encode_rows(tiny.tokenizer, evaluator.template, views[name][1], 128)
        return [float(np.mean([n[1] for n in plain(model, row).values()])) for row in rows]

    members, others = own("forget"), own("holdout")
    assert len(members) == len(others) == 6
    pairs = [(m < o) + (m == o) / 2 for m in members for o in others]
    metrics: dict[str, Metric] = {norm: GradNorm(norm=norm) for norm in NORMS}
    scores = compute(evidence, None, metrics)
    assert scores["l2"] == pytest.approx(np.mean(pairs))
    assert all(score is not None for score in scores.values())
    alone = Evidence.load(tmp_path, {n: v for n, (v, _) in views.items()})
    assert compute(alone, None, metrics) == dict.fromkeys(NORMS)
    assert main([str(tmp_path), "--suite", "full", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["scores"]["mia_gradnorm"] == scores["l2"]
    assert evaluator.without(OF_FINISHED).probes["holdout"] == ("logprobs",)
