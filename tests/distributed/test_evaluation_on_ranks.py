"""An evaluation on two ranks is that of one process, and goes on after a kill where it was."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import evaluation_crew as crew
import pyarrow.parquet as pq
import pytest
import ranked
import torch
from crew import ENGINES

from unlearn_runner.evaluation.schema import OF_FINISHED, evidence_file
from unlearn_runner.pipeline.session import open_session

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("one_thread")]


FINISHED = [evidence_file("holdout", probe) for probe in OF_FINISHED]


@pytest.fixture(scope="module")
def crewed(place: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """What two ranks left, and one process beside it."""
    folder = tmp_path_factory.mktemp("evaluations")
    (folder / "model").symlink_to(place / "model")
    ranked.run(2, str(crew.__file__), str(folder))
    session = open_session(ENGINES["single"])
    model = session.frozen(folder / "model", "float32")
    crew.evaluate(model, folder, session, folder / "single", None)
    return folder, torch.load(folder / "found.pt", weights_only=False)


@pytest.mark.parametrize("engine", crew.CREWED)
def test_the_evidence_is_that_of_one_process(
    crewed: tuple[Path, dict[str, Any]], engine: str
) -> None:
    folder, _ = crewed
    files = sorted(path.name for path in (folder / "single").iterdir())
    assert len(files) == 5 + 4 + 3, "log-probabilities, texts, and three of the unseen rows"
    if engine == "fsdp2":
        files = [name for name in files if name not in FINISHED]
    assert sorted(path.name for path in (folder / engine).iterdir()) == files
    for name in files:
        one, other = (pq.read_table(folder / of / name) for of in ("single", engine))
        assert one.schema == other.schema
        for column in one.column_names:
            mine, theirs = one[column].to_pylist(), other[column].to_pylist()
            if column in ("l1", "l2", "max"):
                assert theirs == pytest.approx(mine, rel=1e-4, abs=1e-7), column
            elif column in ("logprob", "mean", "variance", "entropy"):
                for a, b in zip(mine, theirs, strict=True):
                    assert b == pytest.approx(a, rel=1e-5, abs=1e-5), (name, column)
            else:
                assert mine == theirs, (name, column)


@pytest.mark.parametrize("engine", crew.CREWED)
def test_no_row_is_computed_twice_on_any_rank_in_any_attempt(
    crewed: tuple[Path, dict[str, Any]], engine: str
) -> None:
    _, found = crewed
    computed = Counter[Any]()
    for attempts in found[engine]:
        assert len(attempts) == len(crew.MOMENTS) + 1
        assert all(attempts), "each was killed once it had kept something, on both ranks"
        for one in attempts:
            computed.update(one)
    assert set(computed.values()) == {1}
    rows = Counter(folder for folder, _ in computed)
    assert rows["views-0.generations"] == 40
    assert rows["holdout.logprobs"] == 10
    assert rows.keys() == {
        *(f"{view}.logprobs" for view in ("forget", "retain", "real_authors", "world_facts")),
        *("views-0.generations", "holdout.logprobs", "holdout.prefixes"),
        *(("holdout.gradients", "holdout.patched") if engine == "ddp" else ()),
    }
