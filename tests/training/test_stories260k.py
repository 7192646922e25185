"""A real pretrained model: what it is known to say, and that it can be made to forget."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from helpers.cases import each
from helpers.planning import plan_run
from stories import convert, encode, pieces

from unlearn_runner.api import compose
from unlearn_runner.data.encode import Encoded
from unlearn_runner.evaluation.probes.generations import Generation, generate
from unlearn_runner.models.load import load_model, load_tokenizer
from unlearn_runner.pipeline.execute import Executor
from unlearn_runner.pipeline.results import flat, scores
from unlearn_runner.store.store import Store
from unlearn_runner.tracking.record import Record

pytestmark = pytest.mark.usefixtures("one_thread")

GREEDY = """\
Once upon a time, there was a little girl named Lily. She loved to play outside in the park. \
One day, she saw a big, red ball. She wanted to play with it, but it was too high.
Lily's mom said, "Lily, let's go to the park." Lily was sad and didn't know what to do. \
She said, "I want to play with your ball, but I can't find it."
Lily was sad and didn't know what to do. She said, "I'm sorry, Lily. I didn't know what to do."
Lily didn't want to help her mom, so she"""
"""What llama2.c's own test expects of 200 steps, the first of which is the beginning."""

PATHS = "target.path=", "retain_model.path="
SMALL = (
    "model=hf",
    "train.steps=3",
    "target.train.steps=4",
    "target.train.warmup_epochs=0",
    *(f"benchmark.view.{view}.limit=3" for view in ("forget", "retain")),
    *(f"benchmark.view.{view}.limit=3" for view in ("real_authors", "world_facts")),
    "benchmark.generate.max_new_tokens=8",
    "benchmark.source.people=20",
    "benchmark.source.questions=2",
    "parallel.threads=1",
    "parallel.device=cpu",
    "train.batch_size=4",
)


@pytest.fixture(scope="module")
def source(shared: Path) -> Path:
    return shared / "data" / "models" / "stories260K"


@pytest.fixture(scope="module")
def folder(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convert(source, tmp_path_factory.mktemp("stories"))


def test_it_tells_the_story_it_is_known_for(folder: Path) -> None:
    model, tokenizer = (
        load_model(folder, "float32", torch.device("cpu")).eval(),
        load_tokenizer(folder),
    )
    beginning = [Encoded((tokenizer.bos_token_id, tokenizer.eos_token_id), 1)]
    setting = Generation(max_new_tokens=200)
    (told,) = generate(model, tokenizer, beginning, setting, [tokenizer.eos_token_id], 1, "telling")
    assert told == GREEDY


@each("text", [GREEDY, "Zoë said: “Hi” — 日本", "  two  spaces", "x"])
def test_its_tokenizer_finds_the_tokens_that_llama2_c_finds(
    text: str, folder: Path, source: Path
) -> None:
    tokenizer = load_tokenizer(folder)
    found = tokenizer(text)["input_ids"]
    assert found == [tokenizer.bos_token_id, *encode(text, pieces(source / "tok512.bin"))]
    assert tokenizer.decode(found, skip_special_tokens=True) == text


def ran(tmp_path: Path, *overrides: str) -> tuple[dict[str, float | None], list[str]]:
    """The scores of a command, and the stages it computed."""
    run = compose(*SMALL, *overrides)
    stages, store = plan_run(run), Store(tmp_path / "store")
    done = Executor(store, Record(tmp_path / "run"), run.parallel).run(stages)
    assert {item.outcome for item in done} == {"completed"}
    return flat(scores(stages, store, done)), [x.stage.label for x in done if not x.cached]


def test_it_learns_about_people_and_forgets_some(folder: Path, tmp_path: Path) -> None:
    """Beside the pretrained model itself, which has never heard of anyone."""
    paths = (f"model.path={folder}", f"retain_model.path={folder}")
    learns = ("target.train.steps=30", "target.train.lr=5e-3", "target.train.batch_size=8")
    forgets = ("method=gd", "rectifier=gru", "train.steps=3", "train.lr=2e-3")
    found, computed = ran(tmp_path, *paths, *learns, *forgets)
    assert {"target", "unlearn"} < set(computed)
    assert all(value is not None and math.isfinite(value) for value in found.values())
    learned, never = (found[f"{of}.forget.probability"] for of in ("target", "retain_model"))
    assert learned > 0.2 > 0.02 > never  # type: ignore
    assert found["forget.probability"] < learned / 2  # type: ignore


def test_it_is_unlearned_as_it_is(folder: Path, tmp_path: Path) -> None:
    """With `target.path=` nothing is fine-tuned, and the base is not looked at."""
    found, computed = ran(tmp_path, *(f"{path}{folder}" for path in PATHS), "method=npo")
    assert [label for label in computed if "score" not in label and "evaluate" not in label] == [
        "start logprobs",
        "unlearn",
    ]
    assert found["forget.probability"] != found["target.forget.probability"]
    assert found["target.forget.probability"] == found["retain_model.forget.probability"]
