"""Optimisers, as in `torch.optim`: what changes parameters by their gradients."""

from typing import Any

from tapegrad import namesakes as _namesakes
from tapegrad.optim import lr_scheduler
from tapegrad.optim.lbfgs import LBFGS
from tapegrad.optim.matrices import Adafactor, Muon
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
    SparseAdam,
)
from tapegrad.optim.optimizer import Optimizer


def __getattr__(name: str) -> Any:
    """`swa_utils` needs modules, which optimisers don't: it is imported when it is asked for."""
    if name != "swa_utils":
        raise _namesakes.unknown(__name__, name)
    import importlib

    return importlib.import_module("tapegrad.optim.swa_utils")


__all__ = [
    "ASGD", "LBFGS", "SGD", "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "Muon", "NAdam", "Optimizer",
    "RAdam", "RMSprop", "Rprop", "SparseAdam", "lr_scheduler", "swa_utils",
]  # fmt: skip

_namesakes.add_namesakes(
    __name__, "adadelta adafactor adagrad adam adamax adamw asgd nadam radam rmsprop rprop sgd sparse_adam", __name__
)  # a module each, in PyTorch
