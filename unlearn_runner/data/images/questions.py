"""Questions about pictures: their sources, and those that are drawn from a seed."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Le

from unlearn_runner.data.images.scenes import BACKGROUNDS, COLOURS, SHAPES, Scene
from unlearn_runner.data.rows import VisualQA
from unlearn_runner.errors import ConfigError

Count = Annotated[int, Ge(1), Le(1_000_000)]
YES, NO = "yes", "no"
KINDS = {"colour": tuple(COLOURS), "shape": SHAPES, "background": BACKGROUNDS}
"""What is asked about, and what it may be."""
OPEN = {
    "colour": "What colour is the shape?",
    "shape": "What shape is it?",
    "background": "What is the background like?",
}
CLOSED = {
    "colour": "Is the shape {value}?",
    "shape": "Is it a {value}?",
    "background": "Is the background {value}?",
}


@dataclass(frozen=True)
class PictureQuestions(ABC):
    """Base class of sources of questions about pictures. Two reads give equal rows."""

    @abstractmethod
    def read(self, split: str) -> Sequence[VisualQA]:
        """Returns the rows of "pretrain", "train", "validation" or "test"; no picture is in two.

        Raises:
            DataError: If a file is missing or malformed.
        """

    def in_folder(self, folder: str) -> PictureQuestions:
        """Returns the source with its files in a folder."""
        raise ConfigError(
            "benchmark.data_dir: this benchmark reads no files, it draws its pictures",
            "benchmark=spubench reads yours",
        )


@dataclass(frozen=True)
class Drawn(PictureQuestions):
    """One coloured shape on one background for each question, all from the seed.

    In training most shapes have a background of their own; in validation and test half of them
    have, so that a model which goes by the background is found out. The categories of questions
    about shapes say whether the background speaks for the right answer.
    """

    seed: Annotated[int, Ge(0)] = 0
    side: Annotated[int, Ge(16), Le(1024)] = 32
    """Pixels of a picture; another size than the model's needs Pillow."""
    pretrain: Count = 1000
    train: Count = 300
    validation: Count = 100
    test: Count = 300
    spurious: Annotated[float, Ge(0), Le(1)] = 0.9
    """Share of pictures to train on whose background is that of their shape."""
    open: Annotated[float, Ge(0), Le(1)] = 0.5
    """Share of questions answered with a word; the others are answered with yes or no."""

    def read(self, split: str) -> Sequence[VisualQA]:
        """Draws the rows of a split."""
        spurious = self.spurious if split in ("pretrain", "train") else 0.5
        return [self._row(f"{self.seed}:{split}:{i}", spurious) for i in range(vars(self)[split])]

    def _row(self, name: str, spurious: float) -> VisualQA:
        rng = random.Random(f"scene:{name}")
        shape = rng.choice(SHAPES)
        own = BACKGROUNDS[SHAPES.index(shape)]
        others = [one for one in BACKGROUNDS if one != own]
        scene = Scene(
            shape,
            rng.choice(tuple(COLOURS)),
            own if rng.random() < spurious else rng.choice(others),
            round(rng.uniform(0.375, 0.625), 4),
            round(rng.uniform(0.375, 0.625), 4),
            round(rng.uniform(0.25, 0.35), 4),
            rng.randrange(1 << 30),
            self.side,
        )
        kind = rng.choice(tuple(KINDS))
        true, wrong = getattr(scene, kind), [w for w in KINDS[kind] if w != getattr(scene, kind)]
        usual = SHAPES[BACKGROUNDS.index(scene.background)]
        if rng.random() < self.open:
            category = _category(kind, usual == true)
            return VisualQA(OPEN[kind], true, None, tuple(wrong), image=scene, category=category)
        stated = true if rng.random() < 0.5 else rng.choice(wrong)
        answer, other = (YES, NO) if stated == true else (NO, YES)
        category = _category(kind, (usual == stated) == (true == stated))
        question = CLOSED[kind].format(value=stated)
        return VisualQA(question, answer, None, (other,), image=scene, category=category)


def _category(kind: str, agrees: bool) -> str:
    """Returns what a question is about, and of shapes whether the background tells the truth."""
    return kind if kind != "shape" else f"shape_{'helped' if agrees else 'misled'}"
