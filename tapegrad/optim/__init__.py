"""Optimisers, as in `torch.optim`: what changes parameters by their gradients."""

from tapegrad.optim import lr_scheduler
from tapegrad.optim.lbfgs import LBFGS
from tapegrad.optim.methods import (
    ASGD,
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    NAdam,
    RAdam,
    RMSprop,
    Rprop,
)
from tapegrad.optim.optimizer import Optimizer

__all__ = [
    "ASGD", "LBFGS", "SGD", "Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "NAdam", "Optimizer", "RAdam", "RMSprop",
    "Rprop", "lr_scheduler",
]  # fmt: skip
