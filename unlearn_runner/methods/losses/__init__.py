"""Losses over one split, as sums over a micro-batch; see `base`."""

# ruff: noqa: F401
from unlearn_runner.methods.losses.base import Loss, RetainLoss, Unit, retain_loss
from unlearn_runner.methods.losses.distribution import CEU, IHL, UNDIAL, Entropy, Margin
from unlearn_runner.methods.losses.hidden import Retention, Steering
from unlearn_runner.methods.losses.likelihood import KL, NLL, TNPO, WGA, SatImp
from unlearn_runner.methods.losses.preference import AP, DPO, NPO, SimNPO
