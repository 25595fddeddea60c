"""Array operations in jitted code beside PyTorch: values and gradients, at kinks and ties too."""

import array_functions as these
import numpy as np
import pytest

import tapegrad as tg

from .oracle import torch

POINTS = {"reductions": {name: (np.array(x),) for name, x in these.VECTORS.items()}}
POINTS["along_axes"] = {name: (x,) for name, x in these.TABLES.items() if x.size}
POINTS |= dict.fromkeys(("products", "systems"), these.REGULAR)
CASES = [(name, args) for name, points in POINTS.items() for args in points.values()]
NAMES = [f"{name}-{point}" for name, points in POINTS.items() for point in points]


@pytest.mark.parametrize(("name", "args"), CASES, ids=NAMES)
def test_gradients(name, args):
    jitted, of_tensors = getattr(these, name), getattr(these, f"{name}_of")
    tensors = tuple(torch.tensor(x) for x in args)
    np.testing.assert_allclose(jitted.py_func(*args), of_tensors(torch, *tensors).numpy(), rtol=1e-11, atol=1e-12)
    wanted = torch.autograd.functional.jacobian(lambda *xs: of_tensors(torch, *xs), tensors)
    for found, expected in zip(tg.func.jacrev(jitted, tuple(range(len(args))))(*args), wanted, strict=True):
        np.testing.assert_allclose(found, expected.numpy(), rtol=1e-11, atol=1e-12)
