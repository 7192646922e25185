"""Membership attacks: worked by hand, by brute force, and against every score of real logs."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.cases import each

from unlearn_runner.data.sources import Tofu
from unlearn_runner.evaluation.files import AnswerTokens, Tokens
from unlearn_runner.evaluation.logs.read import open_log
from unlearn_runner.evaluation.logs.retain_log import against
from unlearn_runner.evaluation.metrics import suites
from unlearn_runner.evaluation.metrics.base import MetricInputs, compute, directions
from unlearn_runner.evaluation.metrics.bootstrap import intervals
from unlearn_runner.evaluation.metrics.evidence import Evidence, Record, ViewEvidence
from unlearn_runner.evaluation.metrics.membership import attacks
from unlearn_runner.evaluation.metrics.membership.auc import auc
from unlearn_runner.evaluation.metrics.membership.privleak import PrivLeak
from unlearn_runner.evaluation.schema import Goal, compressed_length

EXACT = 1e-9  # of the issue, for AUCs and PrivLeak of logs
OU = "data/tofu_eval_logs/open_unlearning/tofu_Llama-3.2-1B-Instruct_{}.TOFU_EVAL.min.json"
MUSE = "data/muse_eval_logs/muse_Llama-2-7b-hf_News_{}.MUSE_EVAL.numeric.json"
LOGS = ("full.forget01", "full.forget10", "retain90", "retain99")


def tokens(logprob: list[float], mean: float = -1.0, variance: float = 1.0) -> Tokens:
    values = np.array(logprob, np.float32)
    same = np.ones_like(values)
    return Tokens(values, same > 0, mean * same, variance * same, same)


def view(name: str, goal: Goal, rows: list[Tokens], sizes: list[int]) -> ViewEvidence:
    losses = {"answer": [[-float(np.mean(row.logprob.astype(float)))] for row in rows]}
    return ViewEvidence(name, goal, "answer", Record(losses, tokens=AnswerTokens(rows, sizes)))


def evidence(members: list[list[float]], others: list[list[float]]) -> Evidence:
    """Answers of equal compressed length, by their tokens' log-probabilities."""
    sides: dict[str, tuple[Goal, list[list[float]]]] = {
        "forget": ("forget", members),
        "holdout": ("unseen", others),
    }
    return Evidence(
        {
            name: view(name, goal, list(map(tokens, rows)), [10] * len(rows))
            for name, (goal, rows) in sides.items()
        }
    )


def test_scores_of_one_answer() -> None:
    """Five tokens and the end of sequence, whose -9 counts in losses alone."""
    row = tokens([-0.5, -4.0, -1.0, -0.25, -2.0, -9.0], mean=-2.0, variance=4.0)
    one = view("forget", "forget", [row], [50])
    assert attacks.Loss().of_answers(one, None) == pytest.approx(16.75 / 6)
    assert attacks.Zlib().of_answers(one, None) == pytest.approx(16.75 / 6 / 50)
    assert attacks.MinK(0.4).of_answers(one, None) == pytest.approx((4.0 + 2.0) / 2)
    assert attacks.MinK(0.2).of_answers(one, None) == pytest.approx(4.0)
    assert attacks.MinK(0.1).of_answers(one, None) == pytest.approx(4.0)  # one token at least
    # z = (logp + 2) / 2: -1 and 0 are the lowest two.
    assert attacks.MinKPlusPlus(0.4).of_answers(one, None) == pytest.approx(0.5)
    flat = view("forget", "forget", [tokens([-2.0, -1.0], mean=-1.0, variance=0.0)], [50])
    assert attacks.MinKPlusPlus(1.0).of_answers(flat, None) == pytest.approx(1e3)  # variance 1e-6
    other = view("forget", "forget", [tokens([-1.0] * 6)], [50])
    assert attacks.Reference().of_answers(one, other) == pytest.approx(16.75 / 6 - 1)


def test_auc_is_the_share_of_pairs_that_are_in_order() -> None:
    random = np.random.default_rng(0)
    members, others = random.integers(0, 9, 37) / 2, random.integers(2, 12, 23) / 2
    pairs = [(m < o) + (m == o) / 2 for m in members for o in others]
    assert auc(members, others) == pytest.approx(np.mean(pairs), abs=1e-15)
    assert auc(members, np.array([np.nan])) != auc(members, np.array([np.nan]))


def test_zlib_falls_with_the_length_of_the_text() -> None:
    """Published defect: a mean over tokens, over a length. A longer text looks less odd."""
    text = "In year 1990 he wrote a book of poems about rivers."
    sizes = [compressed_length(text), compressed_length(f"{text} Few have read them since June.")]
    same = [tokens([-1.0] * 20), tokens([-1.0] * 40)]
    scores = attacks.Zlib().of_answers(view("f", "forget", same, sizes), None)
    assert scores is not None
    assert scores[0] / scores[1] == pytest.approx(sizes[1] / sizes[0])
    assert sizes[1] > 1.3 * sizes[0]


def test_privleak_has_its_aucs_and_grows_without_bound() -> None:
    """Published defect: the number explodes as the retain model's AUC nears 1."""
    unlearned = evidence([[-8.0, 0]] * 4, [[-1.0, 0]] * 4)  # over-unlearned: AUC 0
    for others, reference in (([-1.0, -1.0, -1.0, -1.0], 0.5), ([-2.0, -2.0, -2.0, -1.0], 0.875)):
        retain = evidence([[-1.0, 0]] * 4, [[x, 0] for x in others])
        found = compute(unlearned, retain, {"privleak": PrivLeak()})
        assert found["privleak_auc"] == 0
        assert found["privleak_auc_retain"] == pytest.approx(reference)
        assert found["privleak_gap"] == pytest.approx(reference)
        assert found["privleak"] == pytest.approx(100 * reference / (1 - reference))
    alone = compute(unlearned, None, {"privleak": PrivLeak()})
    assert alone["privleak_auc"] == 0
    assert alone["privleak"] is None
    published = compute(unlearned, None, {"privleak": PrivLeak(retain_auc=0.5)})
    assert published["privleak"] == pytest.approx(100)
    ways = directions(published, {}, {"privleak": PrivLeak()})
    assert [name for name, way in ways.items() if way == "higher"] == ["privleak"]


def test_reference_compares_equal_rows_alone() -> None:
    model, retain = (evidence([[-x, 0]] * 2, [[-3.0, 0]] * 2) for x in (1.0, 2.0))
    assert compute(model, retain, {"mia": attacks.Reference()}) == {"mia": 1.0}
    some = Evidence({n: v.keyed((0, -1)) for n, v in retain.views.items()})
    assert compute(model, some, {"mia": attacks.Reference()}) == {"mia": None}
    assert compute(model, None, {"mia": attacks.Reference()}) == {"mia": None}


def test_without_unseen_rows_there_is_no_attack() -> None:
    both = evidence([[-1.0, 0]], [[-2.0, 0]])
    alone = Evidence({"forget": both.views["forget"]})
    for metric in suites.membership().values():
        assert metric.score("mia", MetricInputs(alone, alone, {})) == {"mia": None}


def test_intervals_draw_people_on_both_sides() -> None:
    """Of twenty people with twenty equal rows, as of twenty rows: more rows add nothing."""
    random = np.random.default_rng(1)
    members, others = random.normal(-1, 0.5, 20), random.normal(-1.4, 0.5, 20)
    one = evidence([[x, 0] for x in members], [[x, 0] for x in others])
    many = evidence(
        [[x, 0] for x in members for _ in range(20)], [[x, 0] for x in others for _ in range(20)]
    )
    metrics = {"mia_min_k": attacks.MinK()}
    scores = compute(one, None, metrics)
    assert compute(many, None, metrics) == pytest.approx(scores)
    by_row = {name: list(range(20)) for name in one.views}
    by_person = {name: [i // 20 for i in range(400)] for name in many.views}
    ends = intervals(one, by_row, metrics, scores)["mia_min_k"]
    assert intervals(many, by_person, metrics, scores)["mia_min_k"] == pytest.approx(ends)
    low, high = ends
    assert low < (scores["mia_min_k"] or 0) < high
    unaware = intervals(many, {}, metrics, scores)["mia_min_k"]
    assert (high - low) > 3 * (unaware[1] - unaware[0])


def test_privleak_of_a_model_against_itself_is_0_in_every_sample() -> None:
    model = evidence([[-1.0, 0], [-3.0, 0]], [[-2.0, 0], [-4.0, 0]])
    metrics = {"privleak": PrivLeak()}
    scores = compute(model, model, metrics)
    units = {"forget": [0, 1], "holdout": [2, 3]}
    found = intervals(model, units, metrics, scores, retain_model=model)
    assert found["privleak"] == found["privleak_gap"] == (0.0, 0.0)
    assert found["privleak_auc"][0] < found["privleak_auc"][1]
    other = Evidence({n: v.keyed((1, 0)) for n, v in model.views.items()})
    assert intervals(model, units, metrics, scores, retain_model=other) == {}


@pytest.mark.long
def test_intervals_have_their_nominal_coverage() -> None:
    """Known AUC, authors of ten rows: 95 % intervals hold it in about 95 % of simulated data."""
    random = np.random.default_rng(0)
    people, rows, shift, held = 20, 10, 1.0, 0
    from statistics import NormalDist

    truth = NormalDist().cdf(shift / (2 * (1 + 1)) ** 0.5)  # of N(0, 1 + 1) and N(shift, 1 + 1)
    units = {name: [i // rows for i in range(people * rows)] for name in ("forget", "holdout")}
    metrics = {"mia": attacks.MinK()}
    for _ in range(400):
        sides = [
            np.repeat(random.normal(mean, 1, people), rows) + random.normal(0, 1, people * rows)
            for mean in (0, shift)
        ]
        model = evidence(*([[-x, 0] for x in side] for side in sides))
        low, high = intervals(model, units, metrics, compute(model, None, metrics), 400)["mia"]
        held += low <= truth <= high
    print(f"held {held} of 400")
    assert 0.90 <= held / 400 <= 0.98


# Real logs.


def _content(shared: Path, name: str) -> dict[str, Any]:
    return json.loads((shared / name).read_text(encoding="utf-8"))


@each("name", [*(OU.format(log) for log in LOGS), *(MUSE.format(m) for m in ("target", "retrain"))])
def test_every_auc_of_the_logs(shared: Path, name: str) -> None:
    content, log = _content(shared, name), open_log(shared / name)
    scores = compute(log.evidence(), None, suites.membership() | suites.recorded())
    recorded = [key for key in content if key.startswith("mia_")]
    assert len(recorded) >= 5
    for key in recorded:
        assert scores[key] == pytest.approx(content[key]["auc"], abs=EXACT), key


PAIRS = (
    (OU.format("full.forget01"), OU.format("retain99")),
    (OU.format("full.forget10"), OU.format("retain90")),
    (MUSE.format("target"), MUSE.format("retrain")),
)


@each("names", [*PAIRS, *((own, None) for _, own in PAIRS)])
def test_every_privleak_of_the_logs(shared: Path, names: tuple[str, str | None]) -> None:
    own, reference = names
    log = open_log(shared / own)
    retain = None if reference is None else against(log, open_log(shared / reference), False)[0]
    metrics = log.metrics("geometric") | log.further()
    found = compute(log.evidence(), retain, {"privleak": metrics["privleak"]})["privleak"]
    assert found == pytest.approx(_content(shared, own)["privleak"]["agg_value"], rel=EXACT)


@each("name", LOGS)
def test_zlib_of_the_logs_is_loss_over_the_compressed_answer(shared: Path, name: str) -> None:
    content = _content(shared, OU.format(name))
    rows = content["forget_Q_A_ROUGE"]["value_by_index"]
    losses, scores = (content[key]["forget"]["value_by_index"] for key in ("mia_loss", "mia_zlib"))
    for row, texts in rows.items():
        size = len(zlib.compress(texts["ground_truth"].encode()))
        assert compressed_length(texts["ground_truth"]) == size
        assert losses[row]["score"] / scores[row]["score"] == pytest.approx(size, rel=1e-9)
        assert losses[row]["score"] == content["forget_Q_A_Prob"]["value_by_index"][row]["avg_loss"]


def test_reference_of_the_logs_is_another_run_of_the_retain_model(shared: Path) -> None:
    """Candidate's loss less the retain log's is within 0.06 of what is recorded, not equal to it.

    The reference model was loaded again and scored in other batches, in half precision; no bias.
    """
    full, retain = (_content(shared, OU.format(name)) for name in ("full.forget10", "retain90"))
    for side in ("forget", "holdout"):
        mine, theirs, recorded = (
            np.array([row["score"] for row in found[side]["value_by_index"].values()])
            for found in (full["mia_loss"], retain["mia_loss"], full["mia_reference"])
        )
        off = mine - theirs - recorded
        assert 0.01 < np.abs(off).max() < 0.06
        assert abs(off.mean()) < 0.002


def test_members_of_the_perturbed_split_are_the_forget_rows(shared: Path) -> None:
    """Published oddity: members are read from another file than what was trained on.

    Question and answer are the same ones, so nothing differs; and no unseen row was trained on.
    """
    source = Tofu(data_dir=str(shared / "data/tofu"))
    full = {(row.question, row.answer) for row in source.read("full")}
    for percent in ("01", "05", "10"):
        forget, members, unseen = (
            [(row.question, row.answer) for row in source.read(split)]
            for split in (f"forget{percent}", f"forget{percent}_perturbed", f"holdout{percent}")
        )
        assert members == forget
        assert len(unseen) == len(forget)
        assert not full & set(unseen)


def test_an_attack_compares_the_views_that_it_names() -> None:
    """The first forget view may be of questions, and the texts that were read be another one."""
    both = evidence([[-1.0, -1.0]], [[-3.0, -3.0]])
    texts = [view("texts", "forget", [tokens([-5.0, -5.0])], [10])]
    texts += [view("kept", "keep", [tokens([-4.0, -4.0])], [10])]
    whole = Evidence(both.views | {each.name: each for each in texts})
    assert compute(whole, None, {"loss": attacks.Loss()})["loss"] == 1.0  # forget, holdout
    named = attacks.Loss(members="texts", others="kept")
    assert compute(whole, None, {"loss": named})["loss"] == 0.0
    absent = attacks.MinK(members="none such")
    assert compute(whole, None, {"mia": absent})["mia"] is None
