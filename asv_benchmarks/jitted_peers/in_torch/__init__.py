"""The works as users of PyTorch write them: eager, loops are Python's, arrays whole."""

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from benchmarks.jitted_works.table import Work


def derivative(work: Work) -> Callable[[], Any]:
    """What computes the derivative of a work, recorded at every call."""
    function = getattr(importlib.import_module(f"{__name__}.{work.family}"), work.function)
    args = [torch.from_numpy(a) if isinstance(a, np.ndarray) else a for a in work.arguments()]
    if work.way in ("jacobian", "blocks"):
        found = torch.func.jacfwd(function) if work.way == "jacobian" else torch.func.vmap(torch.func.jacrev(function))
        return lambda: found(*args).numpy()
    inputs = [args[i].requires_grad_() for i in work.by]

    def compute() -> Any:
        value = function(*args)
        return value.item(), tuple(slope.numpy() for slope in torch.autograd.grad(value, inputs))

    return compute
