"""The full suite: unseen rows in a view of their own, one pass of each kind, none for a metric."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from helpers.evaluations import Views, evaluator_of, short_views

from unlearn_runner.api import compose
from unlearn_runner.commands.score import main
from unlearn_runner.config.root import Run
from unlearn_runner.distributed.ranks import ALONE
from unlearn_runner.evaluation.metrics import suites
from unlearn_runner.evaluation.metrics.base import compute
from unlearn_runner.evaluation.metrics.bootstrap import intervals
from unlearn_runner.evaluation.metrics.evidence import Evidence, read_record
from unlearn_runner.evaluation.metrics.parts import units
from unlearn_runner.evaluation.probes.packing import can_pack
from unlearn_runner.evaluation.schema import (
    VERSION,
    compressed_length,
    evidence_file,
    scored_answers,
)
from unlearn_runner.utils.files import finite

DEFAULT = ("probability", "rouge_l", "truth_ratio", "model_utility", "forget_quality")


def full(*overrides: str) -> Run:
    return compose("benchmark.suite=full", *overrides)


def test_the_default_is_tofu_s_and_the_full_suite_adds_to_it() -> None:
    default, more = compose().benchmark, full().benchmark
    assert tuple(default.metrics) == DEFAULT
    assert tuple(more.metrics) == (*DEFAULT, *suites.further())
    assert [more.metrics[name] for name in DEFAULT] == list(default.metrics.values())
    views, further = default.views(), more.views()
    assert {name: further[name] for name in views} == views
    assert further.keys() - views.keys() == {"holdout"}
    view, rows = further["holdout"]
    assert (view.goal, view.probes, rows.name, len(rows)) == (
        "unseen",
        ("logprobs",),
        "holdout10",
        40,
    )
    assert full("benchmark.forget=forget05").benchmark.views()["holdout"][1].name == "holdout05"


def test_unseen_people_are_drawn_as_people() -> None:
    benchmark = full().benchmark
    found = units(benchmark.splits().full, benchmark.views(), benchmark.rows_together)
    assert [len(set(found[name])) for name in ("forget", "holdout")] == [4, 4]
    assert not set(found["forget"]) & set(found["holdout"])


def test_a_view_over_unseen_rows_can_be_named_too() -> None:
    view = "benchmark.view.others={split: holdout, goal: unseen, probes: [logprobs]}"
    assert compose(view).benchmark.views()["others"][1].name == "holdout10"


@pytest.fixture(scope="module")
def evaluated(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Views, Any]:
    """Evidence of the full suite on short rows, and the passes that it took."""
    views = short_views(6)
    passes: Counter[str] = Counter()
    caches: list[Any] = []

    def count(_: Any, __: Any, given: dict[str, Any]) -> None:
        caches.append(cache := given.get("past_key_values"))
        if cache is None:
            passes["teacher-forced"] += 1
        elif cache.get_seq_length() == 0:
            passes["generation"] += 1
        else:
            passes["generated"] += given["input_ids"].numel()

    def count_scored(_: Any, inputs: tuple[Any, ...], __: Any) -> None:
        passes["scored tokens"] += len(inputs[0]) if caches[-1] is None else 0

    model = tiny.llama().eval()
    assert can_pack(model, []), "tried once, with passes of its own"
    model.register_forward_pre_hook(count, with_kwargs=True)
    folder = tmp_path_factory.mktemp("evidence")
    model.get_output_embeddings().register_forward_hook(count_scored)
    evaluator_of(views).run(model, tiny.tokenizer, folder, "tiny", ALONE)
    return folder, views, passes


def test_one_teacher_forced_pass_per_view_and_one_generation_pass_per_generating_view(
    evaluated: tuple[Path, Views, Any], tiny: Any, one_thread: None
) -> None:
    from unlearn_runner.data.encode import encode_row

    _, views, passes = evaluated
    template = evaluator_of(views).template
    scored: set[tuple[str, tuple[int, ...]]] = set()
    for name, (_, rows) in views.items():
        for answer in scored_answers(rows):
            qa = rows.items[answer.row]
            row = encode_row(tiny.tokenizer, template, qa, 128, name, answer.text)
            places = range(row.prompt_length, len(row.ids))
            scored |= {(name, row.ids[:place]) for place in places}
    answers = sum(len(scored_answers(rows)) for _, rows in views.values())
    questions = sum(len(rows) for view, rows in views.values() if "generations" in view.probes)
    assert (answers, questions) == (6 * (7 + 7 + 4 + 4 + 1), 24)
    # All answers of a view are scored in one sequence, what they begin with once.
    assert passes == {
        "teacher-forced": 2 * 3 + 2 * 2 + 1,  # of 16 answers at most, 7 or 4 to a question
        "scored tokens": len(scored),
        "generation": 1,  # all questions are read in it, with the first token that is known
        "generated": questions * (4 - 2),  # a token is read to know the next one
    }


def test_every_metric_comes_of_that_evidence_alone(evaluated: tuple[Path, Views, Any]) -> None:
    folder, views, _ = evaluated
    evidence = Evidence.load(folder, {name: view for name, (view, _) in views.items()})
    metrics = full().benchmark.metrics
    scores = compute(evidence, evidence, metrics)
    missing = {name for name, score in scores.items() if score is None}
    assert missing == {f"{v}.paraphrase_probability" for v in ("real_authors", "world_facts")}
    assert not any(name.startswith("holdout") for name in scores)
    assert 0 < scores["mia_zlib"] < 1  # type: ignore[operator]
    assert scores["mia_reference"] == 0.5
    assert scores["privleak"] == 0
    persons = {name: range(6) for name in views}
    ends = intervals(evidence, persons, metrics, scores, 50, evidence)
    without = {name for name in scores.keys() - ends.keys() if name not in missing}
    assert without == {"forget_quality", "forget_quality_ks", "forget_quality_log10"}


def test_a_finished_run_is_scored_again_without_a_model(
    evaluated: tuple[Path, Views, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """`unlearn-score` on the evidence: the same numbers, and the passes counted so far."""
    folder, views, passes = evaluated
    before = dict(passes)
    evidence = Evidence.load(folder, {name: view for name, (view, _) in views.items()})
    expected = finite(compute(evidence, evidence, suites.tofu(0.0) | suites.further()))
    arguments = [str(folder), "--retain", str(folder), "--suite", "full", "--json"]
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["scores"] == pytest.approx(expected)
    assert passes == before


def test_own_evidence_is_written_as_an_open_unlearning_log(
    evaluated: tuple[Path, Views, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Read back it has the same scores; that project's fixed terms in denominators apart."""
    folder, *_ = evaluated
    assert main([str(folder), "--retain", str(folder), "--export", str(tmp_path)]) == 0
    capsys.readouterr()
    found = []
    for place in (folder, tmp_path / "TOFU_EVAL.json"):
        assert main([str(place), "--suite", "full", "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out)["scores"])
    own, written = found
    lost = {"extraction_strength"}  # that form alone is not in the format
    common = {"forget", "model_utility", "mia_loss", "mia_zlib", "mia_min_k", "mia_min_k_plus_plus"}
    names = [n for n in own if n.partition(".")[0] in common and n.rpartition(".")[2] not in lost]
    assert {n: written[n] for n in names} == pytest.approx({n: own[n] for n in names}, rel=1e-6)


def test_evidence_has_a_version_and_that_of_before_is_read(
    evaluated: tuple[Path, Views, Any], tmp_path: Path
) -> None:
    """Version 1 had no compressed lengths: the zlib attack alone has no score."""
    folder, views, _ = evaluated
    both = {name: view for name, (view, _) in views.items() if view.goal != "keep"}
    for name, view in both.items():
        for probe in view.probes:
            table = pq.read_table(folder / (file := evidence_file(name, probe)))
            assert table.schema.metadata == {b"unlearn_runner.evidence": str(VERSION).encode()}
            names = [column for column in table.column_names if column != "zlib"]
            pq.write_table(table.select(names).replace_schema_metadata(), tmp_path / file)
        record = read_record(folder, name, view.probes)
        assert record.tokens is not None
        assert record.tokens.zlib == [compressed_length(row.answer) for row in views[name][1]]
        assert read_record(tmp_path, name, view.probes).losses == record.losses
    now, before = (Evidence.load(place, both) for place in (folder, tmp_path))
    metrics = suites.tofu(0.0) | suites.further()
    scores = compute(now, now, metrics)
    assert compute(before, before, metrics) == scores | {"mia_zlib": None}


def test_evidence_of_a_later_version_is_refused(
    evaluated: tuple[Path, Views, Any], tmp_path: Path
) -> None:
    folder, _, _ = evaluated
    table = pq.read_table(folder / evidence_file("holdout", "logprobs"))
    later = table.replace_schema_metadata({b"unlearn_runner.evidence": b"99"})
    pq.write_table(later, tmp_path / evidence_file("holdout", "logprobs"))
    with pytest.raises(ValueError, match="its version is 99"):
        read_record(tmp_path, "holdout", ("logprobs",))


def test_tokens_are_what_was_stored(evaluated: tuple[Path, Views, Any]) -> None:
    folder, _, _ = evaluated
    record = read_record(folder, "forget", ("logprobs",))
    assert record.tokens is not None
    for answer, losses in zip(record.tokens.tokens, record.losses["answer"], strict=True):
        assert -np.mean(answer.logprob.astype(float)) == losses[0]
        assert len({len(column) for column in answer}) == 1
        assert np.allclose(answer.entropy, -answer.mean)
