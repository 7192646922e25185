"""Metrics and schedules reproduce published numbers: worked examples and real evaluation logs.

Examples: `tests/oracles/gru_geffect.json` (section 5.4 of its specification). Logs:
`../shared/data/tofu_eval_logs`, per-row losses and generations of the TOFU authors (`locuslab`) and
of open-unlearning; the tables here are the printed digits of `../shared/specs/tofu-log-oracles.md`,
by its section numbers. Without a log in that folder: the 8B rows of section 4, and the anchors of
Phi-1.5 and of weight decay 0. Without a counterpart here: prefix search, extraction strength, model
mixing, membership attacks.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from helpers.cases import each
from helpers.oracles import read_oracles
from numpy.typing import NDArray

from unlearn_runner.evaluation import schema
from unlearn_runner.evaluation.logs.read import open_log
from unlearn_runner.evaluation.metrics.base import Metric, MetricInputs
from unlearn_runner.evaluation.metrics.evidence import Evidence
from unlearn_runner.evaluation.metrics.forget_quality import ForgetQuality, forget_quality
from unlearn_runner.evaluation.metrics.probability import (
    Probability,
    option_probability,
    option_share,
    probability,
)
from unlearn_runner.evaluation.metrics.rouge import RougeL, rouge_l_recall
from unlearn_runner.evaluation.metrics.truth_ratio import (
    TruthRatio,
    forgetting,
    knowing,
    truth_ratio,
)
from unlearn_runner.evaluation.metrics.utility import ModelUtility, model_utility
from unlearn_runner.training import optimizer
from unlearn_runner.training.recipe import Recipe

RTOL = 1e-9  # meta.tolerance of the oracles
PRINTED = 5.1e-9  # half of the last of eight printed digits
Mean = Literal["geometric", "arithmetic"]
View = Literal["retain", "ra", "wf", "forget"]
VIEWS = get_args(View)


@pytest.fixture(scope="module")
def oracles() -> dict[str, Any]:
    return read_oracles("gru_geffect")


class Part:
    """One view in one log: per-row mean NLLs, generations, and the values the log stored."""

    def __init__(
        self,
        right: Sequence[float],
        paraphrased: Sequence[float],
        wrong: Sequence[Sequence[float]],
        texts: Sequence[tuple[str, str]],
        stored: dict[str, Sequence[float]],
    ) -> None:
        self.right = np.array(right)
        self.paraphrased = np.array(paraphrased)
        self.wrong = [np.array(row) for row in wrong]
        self.generations, self.answers = zip(*texts, strict=True)
        self.stored = {name: np.array(values) for name, values in stored.items()}

    def ratio(self, mean: Mean = "geometric", eps: float = 0.0) -> NDArray[np.float64]:
        return truth_ratio(self.paraphrased, self.wrong, mean, eps)

    @cached_property
    def rouge(self) -> NDArray[np.float64]:
        return rouge_l_recall(self.generations, self.answers)


Log = dict[str, Part]


def _nine(log: Log, mean: Mean = "geometric", eps: float = 0.0) -> list[float]:
    """Probability, ROUGE and truth ratio of retain, ra and wf."""
    scores = []
    for view in ("retain", "ra", "wf"):
        part = log[view]
        if view == "retain":
            sure = probability(part.right)
        elif eps:
            sure = option_share(probability(part.right), [probability(x) for x in part.wrong], eps)
        else:
            sure = option_probability(part.right, part.wrong)
        scores += [sure.mean(), part.rouge.mean(), knowing(part.ratio(mean, eps)).mean()]
    return scores


# Worked examples.


@pytest.mark.parametrize(
    ("mean", "kept", "forgotten"),
    [
        ("geometric", "truth_ratio_utility_code", "truth_ratio_forget_code"),
        ("arithmetic", "truth_ratio_utility_arith", "truth_ratio_forget_arith"),
    ],
)
def test_truth_ratio(oracles: dict[str, Any], mean: Mean, kept: str, forgotten: str) -> None:
    """R is wrong over right; the oracles' S is right over wrong."""
    case = oracles["tofu_metrics"]
    wrong = [np.array(row) for row in case["average_perturb_loss"]]
    ratio = truth_ratio(np.array(case["avg_paraphrased_loss"]), wrong, mean)
    rows = {
        "geometric": np.divide(1, case["S_code_geometric"]),
        "arithmetic": case["R_truth_paper_arithmetic"],
    }
    np.testing.assert_allclose(ratio, rows[mean], rtol=RTOL)
    assert knowing(ratio).mean() == pytest.approx(case[kept], rel=RTOL)
    assert forgetting(ratio).mean() == pytest.approx(case[forgotten], rel=RTOL)


def test_probability(oracles: dict[str, Any]) -> None:
    case = oracles["tofu_metrics"]["prob_eval_log"]
    found = probability(np.array(case["avg_gt_loss"])).mean()
    assert found == pytest.approx(case["value"], rel=RTOL)


def test_probability_among_options(oracles: dict[str, Any]) -> None:
    case = oracles["tofu_metrics"]
    wrong = [np.array(row) for row in case["average_perturb_loss"]]
    found = option_probability(np.array(case["prob_normalised"]["avg_gt_loss"]), wrong).mean()
    assert found == pytest.approx(case["prob_normalised"]["value"], rel=RTOL)


def test_model_utility(oracles: dict[str, Any]) -> None:
    case = oracles["tofu_metrics"]["model_utility"]
    assert model_utility(case["nine"]) == pytest.approx(case["value"], rel=RTOL)


@pytest.mark.parametrize("zero", [0, 4])
def test_model_utility_is_zero_when_one_part_is(zero: int) -> None:
    parts = [0.5] * 9
    parts[zero] = 0.0
    assert model_utility(parts) == 0.0


@pytest.mark.parametrize(
    ("unlearned", "statistic", "pvalue"),
    [("unlearned", "stat", "p"), ("shifted", "shifted_stat", "shifted_p")],
)
def test_forget_quality(
    oracles: dict[str, Any], unlearned: str, statistic: str, pvalue: str
) -> None:
    case = oracles["forget_quality"]
    mine, theirs = np.array(case[unlearned]), np.array(case["retained"])
    expected = pytest.approx((case[pvalue], case[statistic]), rel=RTOL)
    assert forget_quality(mine, theirs) == expected
    assert forget_quality(1 / mine, 1 / theirs) == expected


# Steps and learning rates.


@pytest.mark.parametrize(
    ("forget", "rows"), [("forget01", 40), ("forget05", 200), ("forget10", 400)]
)
@pytest.mark.parametrize(
    ("setup", "batch_size"), [("gru_bs4_acc8_ep5", 32), ("geffect_bs4_acc4_ep5", 16)]
)
def test_step_counts(
    oracles: dict[str, Any], setup: str, batch_size: int, forget: str, rows: int
) -> None:
    case = oracles["step_counts"][setup][forget]
    recipe = Recipe(batch_size=batch_size, epochs=5, warmup_epochs=1)
    assert recipe.num_steps(rows) == case["max_steps"]
    assert recipe.num_warmup_steps(rows) == case["steps_per_epoch"]


def test_a_last_batch_that_is_not_full_is_no_step() -> None:
    recipe = Recipe(batch_size=32, epochs=5, warmup_epochs=3)
    assert recipe.num_steps(63) == 9  # of 9.84
    assert recipe.num_warmup_steps(63) == 5  # of 5.91


def test_number_of_steps_can_be_given() -> None:
    recipe = Recipe(batch_size=16, epochs=5, steps=7, warmup_epochs=1, warmup_steps=3)
    assert (recipe.num_steps(200), recipe.num_warmup_steps(200)) == (7, 3)
    assert Recipe(batch_size=32, epochs=0.1).num_steps(20) == 1  # never none


def _rates(recipe: Recipe, rows: int) -> list[float]:
    """The learning rate of every update."""
    weight = torch.nn.Parameter(torch.ones(1))
    optim = optimizer.optimizer([weight], recipe)
    schedule = optimizer.schedule(optim, recipe, rows)
    rates = []
    for _ in range(recipe.num_steps(rows)):
        weight.grad = torch.ones(1)
        rates.append(optim.param_groups[0]["lr"])
        optim.step()
        schedule.step()
    return rates


def test_learning_rates_of_the_g_effect_runs(oracles: dict[str, Any]) -> None:
    case = oracles["lr_schedule_geffect_forget05"]
    recipe = Recipe(lr=case["base_lr"], batch_size=16, epochs=5, schedule="linear", warmup_epochs=1)
    rates = _rates(recipe, 200)
    assert len(rates) == case["max_steps"]
    assert recipe.num_warmup_steps(200) == case["warmup"]
    multipliers = case["multiplier_at_optimizer_step"]
    found = {step: rates[int(step)] / case["base_lr"] for step in multipliers}
    assert found == pytest.approx(multipliers, rel=RTOL, abs=1e-12)


@pytest.mark.parametrize(
    ("schedule", "multipliers"),
    [
        ("constant", [0, 0.5, 1, 1, 1, 1]),
        ("linear", [0, 0.5, 1, 0.75, 0.5, 0.25]),
        ("cosine", [0, 0.5, 1, 0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5]),
    ],
)
def test_schedules(schedule: Any, multipliers: list[float]) -> None:
    recipe = Recipe(lr=0.2, steps=6, warmup_steps=2, schedule=schedule)
    assert _rates(recipe, 1) == pytest.approx([0.2 * m for m in multipliers], rel=RTOL, abs=1e-12)


# Section 3: the logs of the TOFU authors, Llama-2-7B-chat.

LOCUSLAB = {
    "retain": "eval_log.json",
    "ra": "eval_real_author_wo_options.json",
    "wf": "eval_real_world_wo_options.json",
    "forget": "eval_log_forget.json",
}
MODELS = ["full", "retain90", "retain95", "retain99"]


@pytest.fixture(scope="module")
def locuslab(shared: Path) -> dict[str, Log]:
    def column(part: dict[str, Any], name: str) -> list[Any]:
        return [part[name][row] for row in sorted(part[name], key=int)]

    logs: dict[str, Log] = {}
    for model in MODELS:
        name = f"data/tofu_eval_logs/locuslab/llama2-7b_{model}_wd0.01.eval_log_aggregated.json"
        parts = json.loads((shared / name).read_text())
        logs[model] = {
            view: Part(
                column(parts[key], "avg_gt_loss"),
                column(parts[key], "avg_paraphrased_loss"),
                column(parts[key], "average_perturb_loss"),
                [(text[1], text[2]) for text in column(parts[key], "generated_text")],
                {name: column(parts[key], name) for name in ("truth_ratio", "rougeL_recall")},
            )
            for view, key in LOCUSLAB.items()
        }
    return logs


def _reads_alike(path: Path, log: Log) -> None:
    """The product's readers find, row by row, what the readers of this file find."""
    for view, part in log.items():
        seen = open_log(path).view(ANCHOR_VIEWS[view])
        assert seen.loss("answer").tolist() == part.right.tolist()
        assert seen.loss(seen.right_role).tolist() == part.paraphrased.tolist()
        wrong = [row.tolist() for row in part.wrong]
        assert [row.tolist() for row in seen.losses("perturbed")] == wrong
        texts = seen.record.texts
        assert texts is not None
        assert (tuple(texts.generations), tuple(texts.answers)) == (part.generations, part.answers)
        assert seen.record.recalls == part.stored["rougeL_recall"].tolist()


@each("model", MODELS)
def test_the_reader_of_locuslab_logs(shared: Path, locuslab: dict[str, Log], model: str) -> None:
    name = f"llama2-7b_{model}_wd0.01.eval_log_aggregated.json"
    _reads_alike(shared / "data/tofu_eval_logs/locuslab" / name, locuslab[model])


@each("model", ["full.forget01", "full.forget10", "retain90", "retain99"])
def test_the_reader_of_open_unlearning_logs(shared: Path, open_unlearning: Any, model: str) -> None:
    name = f"tofu_Llama-3.2-1B-Instruct_{model}.TOFU_EVAL.min.json"
    path = shared / "data/tofu_eval_logs/open_unlearning" / name
    _reads_alike(path, open_unlearning(model)[0])


# fmt: off
PARTS = {  # 3.1: retain, ra, wf (P, R, T each); utility geometric, arithmetic; forget P, R, T
    "full": (
        0.98952723, 0.98565459, 0.47469859, 0.45548208, 0.93300000, 0.59622892, 0.41856181,
        0.88247863, 0.53903284, 0.62267736, 0.58588604, 0.99093856, 0.98544969, 0.51598542,
    ),
    "retain90": (
        0.98889673, 0.97581119, 0.47097713, 0.43408718, 0.92300000, 0.57068089, 0.41432633,
        0.89743590, 0.54419823, 0.61374500, 0.57523992, 0.14756281, 0.40824362, 0.67401927,
    ),
    "retain95": (
        0.98826653, 0.97988870, 0.46292236, 0.41672975, 0.95300000, 0.54417502, 0.40249450,
        0.88675214, 0.52792772, 0.60057653, 0.56129615, 0.15471641, 0.39800027, 0.67414712,
    ),
    "retain99": (
        0.99059605, 0.98894491, 0.46464124, 0.45931331, 0.92800000, 0.60372660, 0.41216986,
        0.88247863, 0.53897749, 0.62074448, 0.58116514, 0.17952116, 0.39723749, 0.68494110,
    ),
}
ARITHMETIC = {  # 3.1: truth ratio of retain, ra, wf, forget
    "full": (0.45386712, 0.50516011, 0.42305475, 0.53037002),
    "retain90": (0.44959375, 0.47851029, 0.42005697, 0.67965182),
    "retain95": (0.44248250, 0.45038165, 0.40643263, 0.68276447),
    "retain99": (0.44325028, 0.51089093, 0.41018440, 0.69695185),
}
# fmt: on


@each("model", MODELS)
def test_parts_and_utility(locuslab: dict[str, Log], model: str) -> None:
    log, forget = locuslab[model], locuslab[model]["forget"]
    nine = _nine(log)
    found = (
        *nine,
        model_utility(nine),
        model_utility(_nine(log, "arithmetic")),
        probability(forget.right).mean(),
        forget.rouge.mean(),
        forgetting(forget.ratio()).mean(),
    )
    assert found == pytest.approx(PARTS[model], abs=PRINTED, rel=0)


@each("model", MODELS)
def test_arithmetic_truth_ratio(locuslab: dict[str, Log], model: str) -> None:
    log = locuslab[model]
    found = [knowing(log[view].ratio("arithmetic")).mean() for view in ("retain", "ra", "wf")]
    found.append(forgetting(log["forget"].ratio("arithmetic")).mean())
    assert found == pytest.approx(ARITHMETIC[model], abs=PRINTED, rel=0)


@each("view", VIEWS)
@each("model", MODELS)
def test_every_row(locuslab: dict[str, Log], model: str, view: View) -> None:
    """Aggregates can hide compensating errors, and KS sees the order of ratios alone."""
    part = locuslab[model][view]
    # The ratios were stored from float32 losses.
    np.testing.assert_allclose(part.ratio(), part.stored["truth_ratio"], rtol=2e-6)
    np.testing.assert_array_equal(part.rouge, part.stored["rougeL_recall"])


ANCHOR_VIEWS = {"retain": "retain", "ra": "real_authors", "wf": "world_facts", "forget": "forget"}


@each("model", MODELS)
def test_reference_anchors(oracles: dict[str, Any], locuslab: dict[str, Log], model: str) -> None:
    (anchor,) = (
        row
        for row in oracles["tofu_reference_anchors"]["rows"]
        if (row["model"], row["weight_decay"], row["trained_on"]) == ("llama2-7b", "0.01", model)
    )
    nine, forget = _nine(locuslab[model]), locuslab[model]["forget"]
    scores = {view: nine[3 * i : 3 * i + 3] for i, view in enumerate(("retain", "ra", "wf"))}
    scores["forget"] = [
        probability(forget.right).mean(),
        forget.rouge.mean(),
        forgetting(forget.ratio()).mean(),
    ]
    for view, name in ANCHOR_VIEWS.items():
        expected = [anchor[name][key] for key in ("prob", "rougeL_recall", "truth_ratio")]
        assert scores[view] == pytest.approx(expected, rel=RTOL)
        assert len(locuslab[model][view].right) == anchor[name]["n"]
    assert model_utility(nine) == pytest.approx(anchor["model_utility"], rel=RTOL)
    if "forget_quality_of_full_vs_this" in anchor:
        quality = anchor["forget_quality_of_full_vs_this"]
        found = forget_quality(locuslab["full"]["forget"].ratio(), forget.ratio())
        assert found == pytest.approx((quality["p"], quality["stat"]), rel=RTOL)


ALL_ROWS, FIRST_100, LAST_100 = slice(None), slice(0, 100), slice(200, 300)


@each(
    ("mine", "my_rows", "theirs", "their_rows", "statistic", "pvalue"),
    [
        ("full", ALL_ROWS, "retain90", ALL_ROWS, 0.3966666667, 1.834066410995e-21),
        ("full", ALL_ROWS, "retain95", ALL_ROWS, 0.38, 6.504458846554e-16),
        ("full", LAST_100, "retain95", FIRST_100, 0.39, 3.569033855719e-07),
        ("full", ALL_ROWS, "retain99", ALL_ROWS, 0.4283333333, 2.345177252755e-06),
        ("retain90", LAST_100, "retain95", FIRST_100, 0.06, 9.942356257695e-01),
        ("full", ALL_ROWS, "full", ALL_ROWS, 0.0, 1.0),
    ],
)
def test_forget_quality_of_the_logs(
    locuslab: dict[str, Log],
    mine: str,
    my_rows: slice,
    theirs: str,
    their_rows: slice,
    statistic: float,
    pvalue: float,
) -> None:
    """3.2: the exact p-values, scipy's default at these sizes (asymptotic: up to twice off)."""
    ratios = [
        locuslab[model]["forget"].ratio()[rows]
        for model, rows in ((mine, my_rows), (theirs, their_rows))
    ]
    found = forget_quality(ratios[0], ratios[1])
    assert found[0] == pytest.approx(pvalue, rel=RTOL)
    assert found[1] == pytest.approx(statistic, abs=5.1e-11)


# The same through the metrics a benchmark lists, from evidence as the probes write it.


def _evidence(folder: Path, log: Log, paraphrased: bool = True) -> Evidence:
    views = {}
    folder.mkdir()
    for name, part in log.items():
        asked = [(row, "answer", 0, loss) for row, loss in enumerate(part.right)]
        if paraphrased:
            asked += [(row, "paraphrased", 0, loss) for row, loss in enumerate(part.paraphrased)]
        for row, losses in enumerate(part.wrong):
            asked += [(row, "perturbed", i, loss) for i, loss in enumerate(losses)]
        asked.reverse()  # rows are known by their keys, not by their place in the file
        rows, roles, indices, losses = zip(*asked, strict=True)
        logprobs = {
            "row": rows,
            "role": roles,
            "answer_index": indices,
            # Two tokens whose mean is the row's: metrics normalise by length.
            "logprob": [[-1.5 * loss, -0.5 * loss] for loss in losses],
        }
        generations = {
            "row": list(range(len(part.answers)))[::-1],
            "question": [""] * len(part.answers),
            "generation": part.generations[::-1],
            "answer": part.answers[::-1],
        }
        pq.write_table(pa.table(logprobs), folder / f"{name}.logprobs.parquet")
        pq.write_table(pa.table(generations), folder / f"{name}.generations.parquet")
        views[name] = schema.View(
            name,
            "forget" if name == "forget" else "keep",
            "options" if name in ("ra", "wf") else "answer",
        )
    return Evidence.load(folder, views)


METRICS: dict[str, Metric] = {
    "probability": Probability(),
    "rouge_l": RougeL(),
    "truth_ratio": TruthRatio(),
    "model_utility": ModelUtility(),
    "forget_quality": ForgetQuality(),
}


def _scores(model: Evidence, retain_model: Evidence | None) -> dict[str, float | None]:
    scores: dict[str, float | None] = {}
    for name, metric in METRICS.items():
        scores |= metric.score(name, MetricInputs(model, retain_model, scores))
    return scores


def test_metrics_on_evidence(tmp_path: Path, locuslab: dict[str, Log]) -> None:
    retain_model = _evidence(tmp_path / "retain", locuslab["retain90"])
    found = _scores(_evidence(tmp_path / "full", locuslab["full"]), retain_model)
    nine, (utility, _, *forget) = PARTS["full"][:9], PARTS["full"][9:]
    names = [
        f"{view}.{name}" for view in VIEWS for name in ("probability", "rouge_l", "truth_ratio")
    ]
    expected = dict(zip(names, (*nine, *forget), strict=True))
    expected["model_utility"] = utility
    quality = {name: found.pop(name) for name in ("forget_quality", "forget_quality_ks")}
    assert found == pytest.approx(expected, abs=PRINTED, rel=0)
    assert quality["forget_quality"] == pytest.approx(1.834066410995e-21, rel=RTOL)
    assert quality["forget_quality_ks"] == pytest.approx(0.3966666667, abs=5.1e-11)


def test_without_a_paraphrase_the_answer_is_the_right_one(
    tmp_path: Path, locuslab: dict[str, Log]
) -> None:
    """As on world facts, whose answers the log scored twice (losses differ by up to 0.12)."""
    part = locuslab["full"]["wf"]
    judged = MetricInputs(_evidence(tmp_path / "wf", {"wf": part}, paraphrased=False), None, {})
    expected = knowing(truth_ratio(part.right, part.wrong)).mean()
    assert expected != pytest.approx(knowing(part.ratio()).mean(), rel=1e-6)
    found = TruthRatio().score("truth_ratio", judged)
    assert found == pytest.approx({"wf.truth_ratio": expected}, rel=RTOL)


def test_without_a_reference_there_is_no_forget_quality(
    tmp_path: Path, locuslab: dict[str, Log]
) -> None:
    log = {"forget": locuslab["retain99"]["forget"]}
    judged = MetricInputs(_evidence(tmp_path / "log", log), None, {})
    found = ForgetQuality().score("forget_quality", judged)
    assert found == {"forget_quality": None, "forget_quality_ks": None}


# Section 4: the logs of open-unlearning, which adds 1e-10 to two denominators.

EPS = 1e-10
FLOAT32 = 2e-8  # the logs' probabilities were rounded to float32 before they were averaged


@pytest.fixture(scope="module")
def open_unlearning(shared: Path) -> Callable[[str], tuple[Log, dict[str, Any]]]:
    """Reads a Llama-3.2-1B-Instruct log; once each."""
    read: dict[str, tuple[Log, dict[str, Any]]] = {}

    def load(model: str) -> tuple[Log, dict[str, Any]]:
        if model not in read:
            name = f"open_unlearning/tofu_Llama-3.2-1B-Instruct_{model}.TOFU_EVAL.min.json"
            metrics = json.loads((shared / "data/tofu_eval_logs" / name).read_text())
            read[model] = {view: _part(metrics, view) for view in VIEWS}, metrics
        return read[model]

    return load


def _part(metrics: dict[str, Any], view: View) -> Part:
    def column(metric: str, name: str) -> list[Any]:
        values = metrics[metric]["value_by_index"]
        return [values[row][name] for row in sorted(values, key=int)]

    right = column(f"{view}_Q_A_Prob", "avg_loss")
    paraphrased = f"{view}_Q_A_PARA_Prob"
    texts = zip(
        column(f"{view}_Q_A_ROUGE", "generation"),
        column(f"{view}_Q_A_ROUGE", "ground_truth"),
        strict=True,
    )
    ratio = "forget_truth_ratio" if view == "forget" else f"{view}_Truth_Ratio"
    return Part(
        right,
        column(paraphrased, "avg_loss") if paraphrased in metrics else right,
        column(f"{view}_Q_A_PERT_Prob", "avg_loss"),
        list(texts),
        {
            "truth_ratio": column(ratio, "score"),
            "rougeL_recall": column(f"{view}_Q_A_ROUGE", "rougeL_recall"),
        },
    )


# fmt: off
OPEN_PARTS = {  # 4: retain, ra, wf (P, R, T each); utility; forget truth ratio
    "full.forget10": (
        0.8706601644, 0.7932626474, 0.5179621870, 0.4135646438, 0.7970000000, 0.5273262603,
        0.4363308258, 0.8279202279, 0.6201053694, 0.5991534707, 0.475563896242,
    ),
    "retain90": (
        0.8804108249, 0.8300587399, 0.5139158767, 0.3922635412, 0.8295000000, 0.5034587128,
        0.4288505097, 0.8022792023, 0.6175020880, 0.5911246639, 0.627459769854,
    ),
    "retain99": (
        0.8793024188, 0.8124799078, 0.5147961871, 0.4115916184, 0.7570000000, 0.5209530103,
        0.4396084243, 0.8518518519, 0.6228107493, 0.5986022374, 0.651600966972,
    ),
}
# fmt: on


@each("model", OPEN_PARTS)
def test_parts_of_open_unlearning(open_unlearning: Any, model: str) -> None:
    log, metrics = open_unlearning(model)
    nine = _nine(log, eps=EPS)
    found = (*nine, model_utility(nine), forgetting(log["forget"].ratio(eps=EPS)).mean())
    assert found == pytest.approx(OPEN_PARTS[model], rel=FLOAT32)
    # What no float32 probability has entered is held to more digits.
    for view, truth in zip(("retain", "ra", "wf"), nine[2::3], strict=True):
        assert truth == pytest.approx(metrics[f"{view}_Truth_Ratio"]["agg_value"], rel=RTOL)
    assert found[-1] == pytest.approx(metrics["forget_truth_ratio"]["agg_value"], rel=RTOL)


@each("view", VIEWS)
@each("model", ["full.forget01", *OPEN_PARTS])
def test_every_row_of_open_unlearning(open_unlearning: Any, model: str, view: View) -> None:
    part = open_unlearning(model)[0][view]
    np.testing.assert_allclose(part.ratio(eps=EPS), part.stored["truth_ratio"], rtol=RTOL)
    np.testing.assert_array_equal(part.rouge, part.stored["rougeL_recall"])


@each(
    ("mine", "theirs", "n", "statistic", "pvalue"),
    [
        ("full.forget01", "retain99", 40, 0.375, 6.760732303569208e-03),
        ("full.forget10", "retain90", 400, 0.35, 3.905471357108338e-22),
    ],
)
def test_forget_quality_of_open_unlearning(
    open_unlearning: Any, mine: str, theirs: str, n: int, statistic: float, pvalue: float
) -> None:
    """From the losses; the stored summary has the same p-value."""
    logs = [open_unlearning(model)[0]["forget"] for model in (mine, theirs)]
    assert [len(log.right) for log in logs] == [n, n]
    found = forget_quality(*(log.ratio(eps=EPS) for log in logs))
    assert found == pytest.approx((pvalue, statistic), rel=RTOL)
    # The 1e-10 reorders no rows here, so without it the test says the same.
    assert forget_quality(*(log.ratio() for log in logs)) == pytest.approx(found, rel=RTOL)


@each(
    ("model", "forget", "retain", "statistic", "pvalue"),
    [
        ("Llama-2-7b-chat-hf", "forget01", "retain99", 0.425, 1.270814348528162e-03),
        ("Llama-2-7b-chat-hf", "forget10", "retain90", 0.3725, 4.346199600129006e-25),
        ("Llama-3.2-3B-Instruct", "forget01", "retain99", 0.35, 1.430154804770646e-02),
        ("Llama-3.2-3B-Instruct", "forget10", "retain90", 0.3875, 3.597702439966823e-27),
    ],
)
def test_forget_quality_of_other_models(
    shared: Path, model: str, forget: str, retain: str, statistic: float, pvalue: float
) -> None:
    """Of these models the folder has the truth ratios alone."""
    name = "data/tofu_eval_logs/open_unlearning/forget_vectors_4models.json"
    vectors = json.loads((shared / name).read_text())[model][forget]
    ratios = [np.array(vectors[log]["forget_truth_ratio"]) for log in ("full", retain)]
    found = forget_quality(ratios[0], ratios[1])
    assert found == pytest.approx((pvalue, statistic), rel=RTOL)
    stored = vectors["full"]["summary"]["forget_quality"]
    assert found[0] == pytest.approx(stored, rel=RTOL)


# Rows no log has.


@pytest.mark.parametrize(
    ("generation", "recall"),
    [
        ("the cat sat", 1.0),
        ("The CATS, sitting!", 2 / 3),  # lower case; stemmer: cats -> cat, sitting -> sit
        ("sat cat the", 1 / 3),  # order counts
        ("the cat sat on the mat all day", 1.0),  # recall: what is added costs nothing
        ("dog", 0.0),
        ("", 0.0),
    ],
)
def test_rouge_l_recall(generation: str, recall: float) -> None:
    assert rouge_l_recall([generation], ["the cat sat"]).tolist() == pytest.approx([recall])


@pytest.mark.parametrize(
    ("ratio", "forgotten", "known"),
    [([1.0, 1.0], 1.0, 0.0), ([0.5, 2.0], 0.5, 0.25), ([4.0, 0.25], 0.25, 0.375)],
)
def test_reported_truth_ratios(ratio: list[float], forgotten: float, known: float) -> None:
    assert forgetting(np.array(ratio)).mean() == pytest.approx(forgotten, rel=RTOL)
    assert knowing(np.array(ratio)).mean() == pytest.approx(known, rel=RTOL)


def test_scores_survive_the_end_of_the_scale():
    """A runaway ascent drives every probability to zero; ratios of losses still mean something."""
    lost, wrong = np.array([800.0]), [np.array([800.0, 800.0, 800.0])]
    assert option_probability(lost, wrong) == pytest.approx([0.25])
    assert truth_ratio(lost, wrong, "arithmetic") == pytest.approx([1.0])
    assert forgetting(np.array([0.0, np.inf])).mean() == 0.0
    assert math.isnan(model_utility([math.nan, 0.0]))


def test_fractional_epochs_are_not_cut_by_rounding():
    assert Recipe(epochs=1.15, batch_size=10).num_steps(200) == 23
