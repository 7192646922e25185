"""Every rectifier once, what it promises, and how it is handed gradients of any numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from unlearn_runner.methods.base import Retain, Term
from unlearn_runner.methods.ga import GA
from unlearn_runner.models.gradients import Gradient, GradientSpace
from unlearn_runner.rectifiers.base import Rectified, Rectifier, RectifierState
from unlearn_runner.rectifiers.blur import BLUR
from unlearn_runner.rectifiers.budget import Budget
from unlearn_runner.rectifiers.dual_optim import DualOptim
from unlearn_runner.rectifiers.gru import GRU
from unlearn_runner.rectifiers.gru_update import GRUUpdate
from unlearn_runner.rectifiers.multi_objective.aligned_mtl import AlignedMTL
from unlearn_runner.rectifiers.multi_objective.cagrad import CAGrad
from unlearn_runner.rectifiers.multi_objective.config import ConFIG
from unlearn_runner.rectifiers.multi_objective.dualproj import DualProj
from unlearn_runner.rectifiers.multi_objective.fairgrad import FairGrad
from unlearn_runner.rectifiers.multi_objective.gradvac import GradVac
from unlearn_runner.rectifiers.multi_objective.imtl_g import IMTLG
from unlearn_runner.rectifiers.multi_objective.mgda import MGDA
from unlearn_runner.rectifiers.multi_objective.nash_mtl import NashMTL
from unlearn_runner.rectifiers.multi_objective.pcd import PCD
from unlearn_runner.rectifiers.multi_objective.random import RandomWeights
from unlearn_runner.rectifiers.multi_objective.upgrad import UPGrad
from unlearn_runner.rectifiers.orthograd import OrthoGrad
from unlearn_runner.rectifiers.pcgrad import PCGrad
from unlearn_runner.rectifiers.sago import SAGO

Numbers = np.ndarray
Slopes = Sequence[Sequence[float] | None]
"""A gradient as lists of numbers, one per tensor; none where there is none."""

FACTS = ("objective_norm", "retain_norm", "cosine", "conflict", "rectified", "surviving_norm")
"""What every rectifier says of each step."""
BOTH = GA(Retain("nll")).terms()
"""A forget term and a retain term, each of weight 1 in what is minimised."""
ALONE = GA(Retain("none")).terms()
"""The forget term alone: the retain rows are watched."""


def plain_sum(g: Numbers, r: Numbers, share: float) -> Numbers:
    """The gradient that is stepped with without a rectifier."""
    return g + share * r


def forget_alone(g: Numbers, r: Numbers, share: float) -> Numbers:
    """SAGO's: where signs agree, the retain gradient is left out."""
    return g


def retain_across(g: Numbers, r: Numbers, share: float) -> Numbers:
    """BLUR's: conflict or not, the retain gradient loses what is along the forget gradient."""
    return g + share * (r - (r @ g) / (g @ g) * g)


@dataclass(frozen=True)
class Case:
    """A rectifier with the settings of one test, and what holds of it."""

    name: str
    rectifier: Rectifier
    overrides: tuple[str, ...]
    """The same on the command line."""
    unopposed: Callable[[Numbers, Numbers, float], Numbers] | None = plain_sum
    """What a forget and a retain gradient become where nothing conflicts: no sign of any number, so
    no part of any scope. The last argument is 1, or 0 where the retain gradient is only watched.
    None: not documented in this form."""
    ignores_length: bool | None = True
    """Whether of a retain gradient that is only watched the direction alone matters; None: it
    depends on the gradients."""
    precision: float = 1e-12
    """Relative error of the weights; that of an iterative solver is where it stops."""

    by_start_model: bool = False
    """Whether a KL term of the method's decides what is rectified."""


def _several(name: str, rectifier: Rectifier, precision: float = 1e-12) -> Case:
    """A multi-objective rectifier: a watched gradient is an objective too, so its length counts.

    What each makes of gradients that do not conflict is worked out by hand in
    `test_multi_objective`.
    """
    return Case(name, rectifier, (f"rectifier={name}",), None, None, precision)


EVERY_RECTIFIER = [
    Case("gru", GRU(), ("rectifier=gru",)),
    Case("gru, tensor", GRU(scope="tensor"), ("rectifier=gru", "rectifier.scope=tensor")),
    Case("gru, group", GRU(scope="group"), ("rectifier=gru", "rectifier.scope=group")),
    Case(
        "gru, aux",
        GRU(aux_kl=0.5, aux_ce=0.25, tau=1.0),
        ("rectifier=gru", "rectifier.aux_kl=0.5", "rectifier.aux_ce=0.25", "rectifier.tau=1"),
        unopposed=None,
        ignores_length=False,
    ),
    Case(
        "gru, kl, unbiased",
        GRU(risk="kl", bias_correction=True),
        ("rectifier=gru", "rectifier.risk=kl", "rectifier.bias_correction=true"),
        by_start_model=True,
    ),
    Case("pcgrad", PCGrad(), ("rectifier=pcgrad",), by_start_model=True),
    Case("pcgrad, tensor", PCGrad(scope="tensor"), ("rectifier=pcgrad", "rectifier.scope=tensor")),
    Case("pcgrad, kl", PCGrad(risk="kl"), ("rectifier=pcgrad", "rectifier.risk=kl")),
    Case("sago", SAGO(), ("rectifier=sago",), unopposed=forget_alone, by_start_model=True),
    Case(
        "sago, both", SAGO(where_agreed="both"), ("rectifier=sago", "rectifier.where_agreed=both")
    ),
    Case("blur", BLUR(), ("rectifier=blur",), unopposed=retain_across, by_start_model=True),
    Case(
        "blur, group",
        BLUR(scope="group"),
        ("rectifier=blur", "rectifier.scope=group"),
        unopposed=None,
    ),
    Case("gru_update", GRUUpdate(), ("rectifier=gru_update",)),
    Case("orthograd", OrthoGrad(), ("rectifier=orthograd",)),
    Case("dual_optim", DualOptim(), ("rectifier=dual_optim",)),
    Case("budget", Budget(keep=1.0), ("rectifier=budget", "rectifier.keep=1")),
    _several("upgrad", UPGrad()),
    _several("dualproj", DualProj()),
    _several("gradvac", GradVac()),
    _several("pcd", PCD()),
    _several("mgda", MGDA()),
    _several("imtl_g", IMTLG()),
    _several("aligned_mtl", AlignedMTL()),
    _several("cagrad", CAGrad()),
    _several("fairgrad", FairGrad(), 1e-6),
    _several("nash_mtl", NashMTL()),
    _several("config", ConFIG()),
    _several("random", RandomWeights()),
]
"""A new rectifier's line here puts it under every test of this kind."""
NAMES = [case.name for case in EVERY_RECTIFIER]


def gradient(slopes: Slopes, dtype: torch.dtype = torch.float64) -> Gradient:
    """Returns a gradient of these numbers."""
    return [None if part is None else torch.tensor(part, dtype=dtype) for part in slopes]


def flat(found: Gradient) -> list[float]:
    """Returns a gradient's numbers, those that are there, in order."""
    return [number for part in found if part is not None for number in part.reshape(-1).tolist()]


def rectified(
    rectifier: Rectifier,
    forget: Slopes,
    retain: Slopes,
    terms: tuple[Term, ...] = BOTH,
    state: RectifierState | None = None,
    *,
    names: Sequence[str] = (),
    dtype: torch.dtype = torch.float64,
) -> Rectified:
    """Hands over one gradient per group, the sum of its terms', as a training step does.

    Args:
        rectifier: The rectifier.
        forget: Gradient of what is *minimised* on forget rows, for a weight of 1.
        retain: Gradient of any loss on retain rows, for a weight of 1.
        terms: Terms of a method. A forget term's weight counts by its size alone, for ascent is in
            `forget` already.
        state: State of earlier steps.
        names: Names of the tensors; numbered ones otherwise.
        dtype: Number format of the gradients.
    """
    shapes = [g if g is not None else r for g, r in zip(forget, retain, strict=True)]
    sizes = [1 if shape is None else len(shape) for shape in shapes]
    names = names or [f"tensor.{i}" for i in range(len(sizes))]
    parameters = [nn.Parameter(torch.zeros(size, dtype=dtype)) for size in sizes]
    space = GradientSpace(zip(names, parameters, strict=True))
    slopes = {"forget": forget, "retain": retain}
    gradients = {}
    for group in rectifier.groups(terms):
        total: Gradient = [None for _ in sizes]
        for term in group.terms:
            weight = abs(term.weight)
            total = space.add(total, gradient(slopes[term.split], dtype), weight)
        gradients[group.name] = total
    return rectifier.rectify(gradients, terms, {} if state is None else state, space)
