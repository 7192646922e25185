"""Nothing of a model folder runs, nothing beyond it is read, and a broken one costs two lines."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hostile_models import HARMLESS, REFUSED, UNLOADABLE, make

from unlearn_runner.errors import DataError, UserError
from unlearn_runner.models.folder import checked, digest
from unlearn_runner.pipeline.stages.given import given

KEY = "target.path"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("sound") / "m")


@pytest.fixture
def model(sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VICTIM", str(tmp_path / "victim"))
    monkeypatch.setattr("builtins.input", lambda *_: "y")  # as a piped "y" would be
    return Path(shutil.copytree(sound, tmp_path / "m"))


def load(folder: Path) -> Any:
    import torch

    from unlearn_runner.models.load import load_model, load_tokenizer

    load_tokenizer(folder)
    return load_model(folder, "float32", torch.device("cpu"))


def two_lines(error: UserError) -> str:
    said = str(error)
    assert len(said.splitlines()) <= 2
    assert len(said) < 1000
    return said


@pytest.mark.parametrize("name", REFUSED)
def test_a_hostile_folder_is_refused_when_planned(name: str, model: Path) -> None:
    damage, says = REFUSED[name]
    damage(model)
    with pytest.raises(DataError) as caught:
        given("target", KEY, str(model), None)
    said = two_lines(caught.value)
    assert says in said
    assert said.startswith(f"error: {KEY}={model} is not a model that can be loaded: ")
    assert not (model.parent / "victim").exists()


@pytest.fixture
def library(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What transformers says of itself, which its logger hands on to nobody."""
    logger = logging.getLogger("transformers")
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)


@pytest.mark.parametrize("name", UNLOADABLE)
def test_what_only_loading_finds_ends_in_two_lines(
    name: str, model: Path, library: pytest.LogCaptureFixture
) -> None:
    UNLOADABLE[name](model)
    with pytest.raises(DataError) as caught:
        load(checked(model, KEY))
    two_lines(caught.value)
    assert library.text == "", "no report of the library's beside them"
    assert not (model.parent / "victim").exists()


@pytest.mark.skipif(find_spec("sentencepiece") is not None, reason="SentencePiece is installed")
def test_a_tokenizer_of_a_library_that_is_not_here_is_told_with_its_name(model: Path) -> None:
    (model / "tokenizer.json").rename(model / "tokenizer.model")
    with pytest.raises(DataError) as caught:
        given("target", KEY, str(model), None)
    assert "needs the SentencePiece library" in str(caught.value)
    assert str(caught.value).endswith("\nfix: pip install sentencepiece protobuf")


@pytest.mark.parametrize("name", HARMLESS)
def test_what_does_no_harm_is_loaded_and_runs_nothing(name: str, model: Path) -> None:
    HARMLESS[name](model)
    loaded = load(checked(model, KEY))
    assert type(loaded).__name__ == "LlamaForCausalLM"
    assert not (model.parent / "victim").exists()


def test_code_of_a_folder_does_not_run_by_the_loader_alone_either(model: Path) -> None:
    REFUSED["code of an unknown architecture"][0](model)
    with pytest.raises(DataError) as caught:
        load(model)
    two_lines(caught.value)
    assert not (model.parent / "victim").exists()


@pytest.mark.parametrize("name", ["a.txt", "x.jinja", "additional_chat_templates/x.jinja"])
def test_every_file_that_a_loader_reads_is_in_the_key(name: str, model: Path) -> None:
    before = digest(model)
    path = model / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("one")
    between = digest(model)
    path.write_text("two")
    assert len({before, between, digest(model)}) == 3


def test_a_snapshot_of_the_hub_s_cache_is_a_folder_of_links(model: Path, tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "hub" / "blobs", tmp_path / "hub" / "snapshots" / "0"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, path in enumerate(sorted(model.iterdir())):
        shutil.copy(path, blobs / str(number))
        os.symlink(f"../../blobs/{number}", snapshot / path.name)
    assert checked(snapshot, KEY) == snapshot
    assert digest(snapshot) == digest(model)


COMMAND = (
    "code of an unknown architecture",
    "weights beside the folder",
    "a link to nothing",
    "a header nested deep",
)


@pytest.mark.parametrize("name", COMMAND)
def test_the_command_ends_at_once_with_two_lines_and_writes_nothing(
    name: str, model: Path, tmp_path: Path
) -> None:
    REFUSED[name][0](model)
    empty = tmp_path / "empty"
    empty.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "unlearn_runner.run", "debug=tiny", f"target.path={model}"],
        cwd=empty,
        input="y\ny\ny\ny\n",
        capture_output=True,
        text=True,
        timeout=1800,
        env={**os.environ, "VICTIM": str(tmp_path / "victim"), "COLUMNS": "250"},
    )
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.strip().splitlines()) == 2, done.stderr
    assert done.stdout == ""
    assert not list(empty.iterdir())
    assert not (tmp_path / "victim").exists()
