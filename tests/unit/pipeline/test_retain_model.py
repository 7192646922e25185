"""When a retain model is made, and of which rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.planning import plan_run
from helpers.texts import write_texts

from unlearn_runner.config.compose import compose
from unlearn_runner.config.root import validate
from unlearn_runner.data.texts.pocket import PocketTexts
from unlearn_runner.errors import ConfigError
from unlearn_runner.pipeline.plan import Plan


def planned(*overrides: str) -> Plan:
    return plan_run(validate(compose(["debug=tiny", *overrides]).config))


def trained_on(plan: Plan, label: str) -> list[str]:
    """The texts that a fine-tune reads."""
    stage = next(stage for stage in plan.stages if stage.label == label)
    return [row.question + row.answer for row in vars(stage)["rows"]]


def test_the_retain_model_of_texts_learns_how_to_answer_and_nothing_to_be_forgotten() -> None:
    plan = planned("benchmark=muse_pocket")
    splits = plan.inputs.rowsets.splits
    known = {row.answer for row in PocketTexts().read("questions_forget")}
    target, retained = trained_on(plan, "target"), trained_on(plan, "retain_model")
    assert any(text.startswith("Question:") for text in retained)
    assert set(retained) < set(target)
    assert len(target) - len(retained) == len(splits.forget) + len(known)
    assert len(known) == 12  # two people's six questions
    assert not any(answer in text for answer in known for text in retained)


def test_splits_that_are_joined_and_kept(tmp_path: Path) -> None:
    folder = write_texts(tmp_path)
    splits = planned("benchmark=wmdp_corpora", f"benchmark.data_dir={folder}").inputs.rowsets.splits
    assert (len(splits.forget), len(splits.retain), len(splits.full)) == (6, 6, 12)
    assert (splits.forget.name, splits.wished) == ("bio_forget+cyber_forget", splits.retain)
    with pytest.raises(ConfigError, match=r"benchmark\.kept has wikitext"):
        planned("benchmark=muse_pocket", "benchmark.kept=[questions_retain,wikitext]")


def test_none_is_made_of_a_target_that_is_the_base(tiny: Any, tmp_path: Path) -> None:
    from unlearn_runner.models.load import save

    save(tiny.llama(), tiny.tokenizer, tmp_path)
    given = (f"model.path={tmp_path}", f"target.path={tmp_path}")
    plan = planned("model=hf", *given)
    assert plan.inputs.knows_from_base
    assert [stage.label for stage in plan.stages if "retain_model" in stage.label] == []
    assert plan.stages[0].label == "target"
    other = planned("model=hf", given[0])
    assert not other.inputs.knows_from_base
    assert "retain_model" in [stage.label for stage in other.stages]


def test_an_attack_names_views_that_are_there() -> None:
    key = "benchmark.metric.privleak.attack.members"
    with pytest.raises(ConfigError) as refused:
        planned("benchmark=muse_pocket", f"{key}=privleak_forgot")
    assert f"{key}=privleak_forgot is no view" in str(refused.value)
    assert f"{key}=privleak_forget" in str(refused.value)
    planned("benchmark=muse_pocket", f"{key}=verbmem")
