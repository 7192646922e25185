"""Influence systems have the same solution on two ranks as on one, whole models and shards."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import influence_crew
import pytest
import ranked
import torch

from unlearn_runner.distributed.layout import Layout
from unlearn_runner.models.load import save
from unlearn_runner.pipeline.session import Session

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.long]


def test_two_ranks_solve_what_one_does(tiny: Any, tmp_path: Path) -> None:
    save(tiny.llama(), tiny.tokenizer, tmp_path / "model")
    rows = {"forget": tiny.forget, "retain": tiny.retain, "pad": tiny.pad}
    (tmp_path / "rows.pkl").write_bytes(pickle.dumps(rows))
    ranked.run(2, str(influence_crew.__file__), str(tmp_path))
    found = torch.load(tmp_path / "found.pt", weights_only=False)
    assert {name for _, name in found} == set(influence_crew.CASES)
    alone = Session(1, "sdpa", Layout())
    for (engine, name), (theirs, certificate) in found.items():
        mine, expected = influence_crew.solved(tmp_path, alone, influence_crew.CASES[name])
        # A central difference of float64 gradients has eight digits or so.
        near = 1e-5 if "differences" in name or name == "sgd" else 1e-8
        a, b = (torch.cat([x.reshape(-1) for x in y]) for y in (theirs, mine))
        assert float((a - b).norm() / b.norm()) < near, (engine, name)
        for key in ("residual", "curvature", "b_norm", "gradient_norm", "largest_ritz"):
            assert certificate[key] == pytest.approx(expected[key], rel=1e3 * near), (engine, key)
        for key in ("iterations", "n", "m", "gradient_passes", "product_passes"):
            assert certificate[key] == expected[key], (engine, key)
