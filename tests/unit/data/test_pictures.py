"""Pictures: the same from the same seed, prepared as CLIP's are; hostile files and annotations."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unlearn_runner.api import compose
from unlearn_runner.data.images.annotations import Annotations
from unlearn_runner.data.images.files import find_image
from unlearn_runner.data.images.questions import Drawn
from unlearn_runner.data.images.scenes import BACKGROUNDS, COLOURS, SHAPES, Scene
from unlearn_runner.data.picture import ImageInput, Picture
from unlearn_runner.data.rows import QA, Rows
from unlearn_runner.errors import ConfigError, DataError

SMALL = Drawn(seed=3, train=60, test=200)


class Given(Picture):
    def __init__(self, pixels: Any) -> None:
        self._pixels = pixels

    @property
    def identity(self) -> str:
        return str(hash(self._pixels.tobytes()))

    def pixels(self) -> Any:
        return self._pixels


def test_drawn_pictures_are_those_of_the_seed() -> None:
    scene = Scene("circle", "red", "striped", 0.5, 0.5, 0.3, 7)
    pixels = scene.pixels()
    assert pixels.shape == (32, 32, 3)
    assert pixels.dtype == np.uint8
    assert (pixels == scene.pixels()).all()
    middle, corner = pixels[14:18, 14:18].mean((0, 1)), pixels[:4, :4].mean((0, 1))
    assert abs(middle - COLOURS["red"]).max() < 10
    assert abs(corner - 150).max() < 10, "a bright stripe"
    shown = {Scene(s, "red", "plain", 0.5, 0.5, 0.3, 0).pixels().tobytes() for s in SHAPES}
    assert len(shown) == len(SHAPES)
    rows = SMALL.read("train")
    assert rows == SMALL.read("train")
    digests = {Rows("r", tuple(Drawn(seed=s, train=60).read("train"))).digest for s in (3, 3, 4)}
    assert len(digests) == 2
    assert Rows("r", (QA("q", "a"),)).digest == "312972b603c554dd", "of text rows as ever"


def test_questions_are_right_and_the_background_misleads() -> None:
    rows = SMALL.read("test")
    own = dict(zip(SHAPES, BACKGROUNDS, strict=True))
    for row in rows:
        scene: Any = row.image
        if row.answer in ("yes", "no"):
            true = any(f" {x}?" in row.question for x in vars(scene).values() if type(x) is str)
            assert true == (row.answer == "yes"), row
        else:
            assert row.answer in (scene.shape, scene.colour, scene.background)
            assert row.answer not in row.perturbed_answers
        if row.category == "shape_misled" and row.answer == scene.shape:
            assert scene.background != own[scene.shape]
    assert {row.category for row in rows} == {
        "colour",
        "background",
        "shape_helped",
        "shape_misled",
    }
    train: Any = [row.image for row in SMALL.read("train")]
    assert sum(own[s.shape] == s.background for s in train) > 0.8 * len(train)


def test_the_benchmark_flips_a_share() -> None:
    benchmark = compose("model=tiny_llava", "benchmark=pocket_vqa").benchmark
    splits = benchmark.splits()
    assert splits.corrected is not None
    assert len(splits.forget) == len(splits.corrected) == int(0.4 * len(splits.full))
    for old, new in zip(splits.forget, splits.corrected, strict=True):
        assert (old.question, old.picture) == (new.question, new.picture)
        assert old.answer != new.answer
        assert {old.answer, *old.perturbed_answers} == {new.answer, *new.perturbed_answers}
    seen = {row.picture for row in splits.full}
    assert not seen & {row.picture for row in benchmark.views()["test"][1]}


def test_pictures_are_prepared_as_clip_does_it() -> None:
    pytest.importorskip("PIL")
    from transformers import CLIPImageProcessorPil

    rng = np.random.default_rng(0)
    how = ImageInput(24, 8, 2)
    theirs = CLIPImageProcessorPil(
        size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24}
    )
    for shape in ((24, 24, 3), (50, 37, 3), (24, 61, 3)):
        pixels = rng.integers(0, 256, shape, dtype=np.uint8)
        expected = theirs(pixels, return_tensors="np", input_data_format="channels_last")
        found = how.values(Given(pixels))
        assert found.shape == (3, 24, 24)
        assert np.abs(found - np.asarray(expected["pixel_values"][0])).max() < 1e-5
    for wrong in ((0, 8), (24, 25), (1 << 20, 8)):
        with pytest.raises(ValueError, match="no model sees"):
            ImageInput(*wrong, 2)


def write(folder: Path, *lines: dict[str, Any]) -> Annotations:
    text = "\n".join(json.dumps({"image": "a.png", "question": "Q?"} | line) for line in lines)
    (folder / "annotations.jsonl").write_text(text)
    return Annotations(str(folder))


def picture(path: Path, size: tuple[int, int] = (6, 4), colour: Any = (10, 20, 30)) -> None:
    Image = pytest.importorskip("PIL.Image")
    Image.new("RGB", size, colour).save(path)


def test_annotations_become_rows(tmp_path: Path) -> None:
    Image = pytest.importorskip("PIL.Image")
    for name in "abc":
        picture(tmp_path / f"{name}.png", colour=(ord(name), 0, 0))
    mask = Image.new("L", (6, 4))
    mask.putpixel((1, 2), 1)
    mask.putpixel((3, 0), 2)
    mask.save(tmp_path / "mask.png")
    cats = ["A. cat", "B. dog"]
    source = write(
        tmp_path,
        {
            "split": "train",
            "answer": "no",
            "noisy_answer": 0,
            "category": "size",
            "mask": "mask.png",
        },
        {"split": "val", "answer": 1, "choices": cats, "image": "b.jpg"},
        {"split": "test", "answer": 0, "image": "c.png"},
    )
    (row,), (choice,) = source.read("train"), source.read("validation")
    assert (row.answer, row.noisy_answer, row.category) == ("no", "yes", "size")
    pixels = row.image.pixels()
    assert pixels[2, 1].tolist() == [97 // 2 + 127, 0, 0]
    assert pixels[0, 3].tolist() == [97 // 2, 127, 0]
    assert pixels[0, 0].tolist() == [97, 0, 0]
    assert (choice.question, choice.answer) == ("Q?\nA. cat\nB. dog", "B. dog")
    assert choice.image.pixels()[0, 0, 0] == 98, "found by its stem"
    benchmark = compose(
        "model=tiny_llava", "benchmark=rbench", f"benchmark.data_dir={tmp_path}"
    ).benchmark
    splits = benchmark.splits()
    assert [r.answer for r in splits.forget] == ["yes"], "as the data say"
    picture(tmp_path / "c.png")
    with pytest.raises(DataError, match="has changed"):
        source.read("test")[0].image.pixels()


def test_no_picture_is_in_two_splits(tmp_path: Path) -> None:
    names = [f"{i}.png" for i in range(10)]
    for i, name in enumerate(names):
        picture(tmp_path / name, colour=(i, 0, 0))
    source = write(tmp_path, *[{"image": n, "answer": a} for n in names for a in ("yes", "no")])
    found = {s: {r.image.identity for r in source.read(s)} for s in ("train", "validation", "test")}
    assert [len(x) for x in found.values()] == [6, 2, 2]
    assert len(set.union(*found.values())) == 10


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ({"answer": "maybe"}, "none of its choices"),
        ({"answer": 2}, "none of its choices"),
        ({"answer": True}, "none of its choices"),
        ({"answer": 0, "choices": ["a", "a"]}, "different texts"),
        ({"answer": 0, "choices": "ab"}, "different texts"),
        ({"answer": 0, "question": "<image> Q?"}, "without <image>"),
        ({"answer": 0, "category": 3}, "no short text"),
        ({"answer": 0, "split": "rest"}, "has the split 'rest'"),
        ({"answer": 0, "image": 7}, "no path within"),
        ({"answer": 0, "image": "/etc/passwd"}, "no path within"),
        ({"answer": 0, "image": "a\0.png"}, "no path within"),
        ({"answer": 0, "image": "../out.png"}, "lies outside"),
        ({"answer": 0, "image": "link.png"}, "lies outside"),
        ({"answer": 0, "image": "loop.png"}, "cannot be read"),
        ({"answer": 0, "image": "folder"}, "no regular file"),
        ({"answer": 0, "image": "none.png"}, "cannot be read"),
        ({"answer": 0, "image": "text.png"}, "no picture that can be read"),
        ({"answer": 0, "image": "long.png"}, "no side 16 times"),
        ({"answer": 0, "image": "bomb.png"}, "90,000,000|64,000,000|bomb"),
    ],
)
def test_hostile_lines_and_pictures_are_refused(
    tmp_path: Path, line: dict[str, Any], problem: str
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    picture(folder / "a.png")
    picture(tmp_path / "out.png")
    picture(folder / "long.png", (80, 4))
    (folder / "link.png").symlink_to(tmp_path / "out.png")
    (folder / "loop.png").symlink_to(folder / "loop.png")
    (folder / "folder").mkdir()
    (folder / "text.png").write_text("no picture")
    bomb = bytearray((folder / "a.png").read_bytes())
    bomb[16:24] = (30_000).to_bytes(4, "big") * 2  # its header alone says how large it is
    import zlib

    bomb[29:33] = zlib.crc32(bytes(bomb[12:29])).to_bytes(4, "big")
    (folder / "bomb.png").write_bytes(bomb)
    with pytest.raises(DataError, match=problem) as refused:
        write(folder, line).read("train")
    assert "annotations.jsonl:1" in refused.value.problem or str(folder) in refused.value.problem


def test_a_missing_pillow_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(tmp_path / "a.png")
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(DataError, match="need Pillow") as refused:
        find_image(tmp_path, "a.png", "line 1")
    assert refused.value.fix == "pip install 'unlearn-runner[vision]'"


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="data_dir must be set"):
        Annotations().read("train")
    with pytest.raises(DataError, match=r"has no annotations\.jsonl"):
        Annotations(str(tmp_path)).read("train")
    with pytest.raises(ConfigError, match="leave no pictures"):
        Annotations(validation_share=0.6, test_share=0.5)
    with pytest.raises(ConfigError, match="no name of a file"):
        Annotations(file="../x.jsonl")
    with pytest.raises(ConfigError, match="draws its pictures"):
        compose("model=tiny_llava", "benchmark=pocket_vqa", f"benchmark.data_dir={tmp_path}")
