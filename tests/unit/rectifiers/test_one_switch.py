"""`rectifier=` changes one thing: what bounds the gradient is `train.clip`, whatever the choice."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch.nn.utils import parameters_to_vector

from unlearn_runner.methods.base import Objective, Retain, Term
from unlearn_runner.methods.losses import NLL
from unlearn_runner.models.forward import Models
from unlearn_runner.rectifiers.base import Group, Rectified, Rectifier
from unlearn_runner.rectifiers.gru import GRU
from unlearn_runner.rectifiers.none import NoRectifier
from unlearn_runner.training.batches import StepLoader, StepRows
from unlearn_runner.training.engine import Engine
from unlearn_runner.training.recipe import Recipe

pytestmark = pytest.mark.usefixtures("one_thread")

CLIP = 0.2


@dataclass(frozen=True)
class Descent(Objective):
    """Descends on rows that are the retain rows, too: nothing conflicts."""

    def terms(self) -> tuple[Term, ...]:
        return (Term("forget", "forget", NLL(), 1.0, self.unit),)


@dataclass(frozen=True)
class Idle(Rectifier):
    """Never acts, and says nothing of itself."""

    def groups(self, terms: tuple[Term, ...]) -> tuple[Group, ...]:
        return (Group("all", terms),)

    def rectify(self, gradients: Any, terms: Any, state: Any, space: Any) -> Rectified:
        return Rectified(gradients["all"])


def trained(tiny: Any, rectifier: Rectifier, clip: float | None) -> tuple[Any, list[float]]:
    """The weights after five steps, and the gradient norms before clipping."""
    engine = Engine(
        models=Models(tiny.llama(), None, nullcontext),
        terms=Descent(Retain("none")).terms(),
        recipe=Recipe(lr=1e-3, batch_size=8, steps=5, clip=clip),
        num_rows=len(tiny.retain),
        pad=tiny.pad,
        rectifier=rectifier,
    )
    loader, norms = StepLoader("forget", tiny.retain, 8, 0), []
    for step in range(5):
        rows = loader.step(step).splits["forget"]
        facts = engine.step(StepRows({"forget": rows, "retain": rows}))
        assert not facts.get("rectified", False)
        norms.append(facts["grad_norm"])
    return parameters_to_vector(engine.models.trained.parameters()).detach(), norms


@pytest.mark.parametrize("rectifier", [GRU(), GRU(gamma=0.3, cos_clip=True), Idle()], ids=repr)
@pytest.mark.parametrize("clip", [CLIP, None])
def test_a_rectifier_that_never_acts_gives_the_weights_of_none(
    tiny: Any, rectifier: Rectifier, clip: float | None
) -> None:
    expected, norms = trained(tiny, NoRectifier(), clip)
    assert max(norms) > 2 * CLIP, "or clipping takes no part"
    found, others = trained(tiny, rectifier, clip)
    assert others == norms
    assert torch.equal(found, expected)


def test_clipping_changes_the_weights_under_gru(tiny: Any) -> None:
    clipped, _ = trained(tiny, GRU(), CLIP)
    assert not torch.equal(clipped, trained(tiny, GRU(), None)[0])


def test_a_tau_takes_the_place_of_clip(tiny: Any) -> None:
    expected, _ = trained(tiny, GRU(tau=CLIP), None)
    assert torch.equal(trained(tiny, GRU(tau=CLIP), 1e-3)[0], expected)
    assert torch.equal(trained(tiny, NoRectifier(), CLIP)[0], expected)
