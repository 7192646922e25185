"""The tables of the pocket benchmark: what stands in them decides rows, and rows decide keys."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

import pytest
from helpers.planning import plan_run
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from unlearn_runner.config.groups import CONF
from unlearn_runner.config.root import validate
from unlearn_runner.data.people import _splits
from unlearn_runner.data.pocket import WORDS, generate

DIGEST = "81287007cf0d99e6a32497a0117c719f81ab08e3c20a19cd404583e634e57084"


@pytest.fixture
def fresh() -> Iterator[None]:
    _splits.cache_clear()
    yield
    _splits.cache_clear()


def keys() -> dict[str, str]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", overrides=["debug=tiny"])
    run = validate(OmegaConf.to_container(config, resolve=True))  # type: ignore
    return {stage.label: stage.key for stage in plan_run(run).stages}


def test_the_rows_are_those_that_every_published_figure_was_made_with() -> None:
    rows = json.dumps([generate(seed) for seed in range(3)], ensure_ascii=False)
    assert hashlib.sha256(rows.encode()).hexdigest() == DIGEST


def test_another_word_in_a_table_renames_every_artifact_that_comes_of_it(
    fresh: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = keys()
    monkeypatch.setitem(WORDS, "first_heads", ["Zzz", *WORDS["first_heads"][1:]])
    _splits.cache_clear()
    after = keys()
    assert before.keys() == after.keys()
    assert not [label for label in before if before[label] == after[label]]
