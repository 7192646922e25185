"""G-effects are the same on two ranks as on one, whole models and shards, adapters too."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import geffect_crew
import pytest
import ranked
import torch

from unlearn_runner.distributed.layout import Layout
from unlearn_runner.models.load import save
from unlearn_runner.pipeline.session import Session

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.long]


@pytest.fixture(scope="module")
def folder(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("geffect")
    save(tiny.llama(), tiny.tokenizer, folder / "model")
    rows = {"forget": tiny.forget, "retain": tiny.retain, "pad": tiny.pad}
    (folder / "rows.pkl").write_bytes(pickle.dumps(rows))
    ranked.run(2, str(geffect_crew.__file__), str(folder))
    return folder


def test_two_ranks_measure_what_one_does(folder: Path) -> None:
    found = torch.load(folder / "found.pt", weights_only=False)
    bench, alone = geffect_crew.workbench(folder), Session(1, "sdpa", Layout())
    for name, (method, risk, adapts) in geffect_crew.CASES.items():
        models = geffect_crew.prepared(folder, alone, adapts)
        exact, ema, samples = geffect_crew.measured(bench, models, Layout(), method, risk)
        for engine in ("ddp", "fsdp2"):
            theirs, smoothed, rows = found[engine, name]
            same(theirs, exact)
            assert [number for number, _ in smoothed] == [number for number, _ in ema] == [3]
            same(smoothed[0][1], ema[0][1])
            for mine, other in zip(samples, rows, strict=True):
                assert other == pytest.approx(mine, rel=1e-9, abs=1e-12)


def same(theirs: Any, mine: Any) -> None:
    assert list(theirs) == list(mine)
    for tensor, effect in mine.items():
        norm = effect.objective**0.5
        for key, risk in (("e_u", effect.forget), ("e_r", effect.retain)):
            near = 1e-10 * norm * risk**0.5 + 1e-300
            assert getattr(theirs[tensor], key) == pytest.approx(getattr(effect, key), abs=near)
        for key in ("objective", "forget", "retain"):
            value = getattr(effect, key)
            assert getattr(theirs[tensor], key) == pytest.approx(value, rel=1e-9, abs=1e-300)
