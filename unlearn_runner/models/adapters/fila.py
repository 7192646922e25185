"""FILA: LoRA that begins at what matters for the forget rows and not for the retain rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, Gt, Le

from unlearn_runner.models.adapters.importance import Batch, EpsValue, Estimator, Importance, Passes
from unlearn_runner.models.adapters.residual import ResidualLoRA, weighted_factors
from unlearn_runner.store.keys import INERT

if TYPE_CHECKING:
    from torch import Tensor

INVERSE_EPS = 1e-5
"""What the published code adds to row weights before dividing by them."""


@dataclass(frozen=True)
class FILA(ResidualLoRA):
    """A and B of the SVD of W with its rows weighted by relative Fisher information.

    Source: LoKU (Cha et al. 2025) and its code: R = I_f / (eps + I_r) entry by entry, a weight per
    row d_i = sqrt(sum_j R_ij), and the best low-rank approximation of W under those weights.
    Deviations: the SVD is exact (the code: a random sketch without oversampling), sums are float32
    (bf16), A and B stay float32, and the residual is made of them as they are stored. The retain
    rows of the estimate are, as there, one drawn for each forget row.
    """

    alpha: Annotated[float, Gt(0)] | None = None
    estimator: Estimator = "batch_token_weighted"
    """Squares of gradients of a batch's mean loss, weighted by its tokens (the released code);
    of each row's log-likelihood (the textbook's empirical Fisher); of each token's. The last needs
    a backward pass per token."""
    fisher_batch: Batch = 4
    """Rows of a batch of `batch_token_weighted`, which the estimate depends on: squares of means
    shrink as batches grow."""
    eps: EpsValue = 1e-5
    """What the retain Fisher is padded with; the published value is absolute."""
    eps_relative: bool = False
    """Whether `eps` is a multiple of each module's median retain Fisher, and what inverse row
    weights are padded with one of their mean. Published: no, and where all of a model's Fisher
    information is below 1e-5 the retain rows have no say; telemetry has the share (`eps_share`)."""
    fisher_seed: Annotated[int, Ge(0), Le(2**32 - 1)] = 0
    """Of the batches and the retain rows drawn, apart from `seed`: several seeds share one
    estimate, and so do all ranks."""
    fisher_passes: Passes = field(default=1, metadata=INERT)
    """Passes over the rows, each for a share of the modules: less memory, the same numbers."""

    @property
    def importance(self) -> Importance:
        """As the settings say, whatever rank and alpha."""
        return Importance(
            self.estimator,
            self.fisher_batch if self.estimator == "batch_token_weighted" else 1,
            self.eps,
            self.eps_relative,
            self.fisher_seed,
            self.targets,
            self.regex,
            self.layers,
            self.fisher_passes,
        )

    def factors(
        self, weight: Tensor, scaling: float, row_weights: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Returns A and B; rows that all weigh nothing weigh alike.

        Raises:
            ValueError: Without row weights.
        """
        if row_weights is None:
            raise ValueError("FILA begins with row weights, and was given none")
        d = row_weights.double()
        if not d.any():
            d = d + 1
        if self.eps_relative:
            d = d / d.mean()
        return weighted_factors(weight, self.rank, scaling, d, INVERSE_EPS)
