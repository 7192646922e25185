"""What several test modules share: a model so small that a step takes milliseconds."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True)
class Tiny:
    """A tokenizer, sixty rows, and models that have begun to learn those rows."""

    tokenizer: Any
    rows: list[Any]
    """Encoded; 16 to 28 tokens long, most of them cut."""
    learned: Any

    @property
    def forget(self) -> list[Any]:
        return self.rows[:20]

    @property
    def retain(self) -> list[Any]:
        return self.rows[20:]

    @property
    def pad(self) -> int:
        return self.tokenizer.pad_token_id

    def llama(self, dtype: Any = None) -> Any:
        """Returns a fresh copy of the model that has begun to learn the rows."""
        import torch

        from unlearn_runner.models.load import in_precision

        model = deepcopy(self.learned)
        if dtype == torch.float64:
            return in_precision(model, "float64")
        return model if dtype is None else model.to(dtype)


@pytest.fixture(scope="session")
def tiny() -> Tiny:
    # Imported here: tests that need no model start without torch.
    import torch

    from unlearn_runner.data.encode import encode
    from unlearn_runner.data.people import People
    from unlearn_runner.data.prompts import Template
    from unlearn_runner.models.load import new_model, train_tokenizer
    from unlearn_runner.models.shape import Shape

    full = People(people=20, questions=3).read("full")
    # The last words of a question name the person; whole questions would only cost time.
    short = [replace(row, question=" ".join(row.question.split()[-3:])) for row in full]
    template = Template(prompt="{question}\n", answer=" {answer}")
    texts = ["".join(template.texts(row.question, row.answer)) for row in short]
    tokenizer = train_tokenizer(texts, 400)
    rows = [
        encode(tokenizer, template, row.question, row.answer, max_tokens=16 + 7 * i % 13)
        for i, row in enumerate(short)
    ]
    shape = Shape(32, 50, num_layers=2, num_heads=2, tie_embeddings=True, context=128)
    model = new_model(shape, tokenizer, seed=0)

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(3):
        for row in rows:
            ids = torch.tensor([row.ids])
            model(input_ids=ids, labels=ids).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    torch.set_num_threads(before)
    return Tiny(tokenizer, rows, model)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """A tiny model gains nothing from threads, and loses much where cores are shared."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def own_threads() -> Iterator[None]:
    """Puts back the number of threads that runs in this process have set."""
    import torch

    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tofu_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with files like TOFU's, for what their rows do not matter to."""
    from helpers.tofu import write_tofu

    return write_tofu(tmp_path_factory.mktemp("tofu"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The third-party material beside the checkout: data sets, tokenizers, evaluation logs."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("needs ../shared/ (data and logs of others, no part of this repository)")
    return folder
