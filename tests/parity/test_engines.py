"""Elementwise operations at edge points and ties: values, gradients and second derivatives are PyTorch's.

The op table drives it: each operation that PyTorch has under the same name. What jitted code makes of them is compared
with these in `tests/test_engines.py`, at the same points.
"""

import itertools
import math

import numpy as np
import pytest

import tapegrad as tg
from tapegrad.ops.declare import ELEMENTWISE, OPS, Op

from .oracle import torch

INF, NAN = math.inf, math.nan
NUMBERS = (0.0, -0.0, 0.5, -0.5, 1.0, -1.0, 2.0, -2.5, 3.0, 0.01, INF, -INF, NAN)
# PyTorch has no derivative of these, or by one operand only; of i0 its second is nan at infinities.
NOT_SHARED = {"heaviside", "i0", "igamma", "igammac", "nextafter"}
SHARED = [
    op for op in OPS
    if op.family == ELEMENTWISE and op.arity < 3 and any(op.partials) and hasattr(torch, op.name)
    and op.name != "floor_divide"  # PyTorch has no derivative of it
]  # fmt: skip


def points(op: Op) -> list[np.ndarray]:
    return [np.array(column) for column in zip(*itertools.product(NUMBERS, repeat=op.arity), strict=True)]


# The points where values or derivatives are others: by the table in `ops`, or by NumPy's sign; atan2's slopes far out,
# which are 0; and trigamma, of which PyTorch's has nine digits, and is finite at its poles.
ELSEWHERE = {
    "atan2": lambda a, b: np.isinf(a) | np.isinf(b),
    "hypot": lambda a, b: (a == 0) & (b == 0),
    "sign": np.isnan,
    "lgamma": lambda x: x == -1,
    "digamma": lambda x: (x == -1) | (x == -np.inf),
}
ROUGH = {"lgamma": 1e-8, "digamma": 1e-8}


def run(library, op: Op):
    function = getattr(library, op.name)
    leaves = [library.tensor(x, dtype=library.float64, requires_grad=True) for x in points(op)]
    y = function(*leaves)
    first = library.autograd.grad(y.sum(), leaves, create_graph=True)
    second = []
    for g in first:
        found = [None] * op.arity
        if g.requires_grad:
            found = library.autograd.grad(g.sum(), leaves, retain_graph=True, allow_unused=True)
        second += [[0.0] * y.numel() if h is None else (h + 0.0).tolist() for h in found]
    return np.array(y.tolist()), [np.array(g.tolist()) for g in first], [np.array(h) for h in second]


@pytest.mark.parametrize("op", [op for op in SHARED if op.name not in NOT_SHARED], ids=lambda op: op.name)
def test_edges_are_pytorchs(op: Op):
    at = points(op)
    value, first, second = run(tg, op)
    expected, slopes, curvatures = run(torch, op)
    left_out = ELSEWHERE[op.name](*at) if op.name in ELSEWHERE else False
    compare("value", at, value, expected, 1e-14, left_out)
    for k, (g, w) in enumerate(zip(first, slopes, strict=True)):
        compare(f"derivative by {'ab'[k]}", at, g, w, ROUGH.get(op.name, 1e-13), left_out)
    for k, (h, w) in enumerate(zip(second, curvatures, strict=True)):
        # In PyTorch's second derivatives 0 meets inf, which is nan; here 0 times anything is 0.
        compare(f"second derivative {k}", at, h, w, ROUGH.get(op.name, 1e-11), left_out | np.isnan(w))


def compare(what: str, at: list[np.ndarray], given: np.ndarray, wanted: np.ndarray, rtol: float, left_out) -> None:
    with np.errstate(all="ignore"):
        near = (np.abs(given - wanted) <= rtol * np.abs(wanted)) | (np.abs(given - wanted) < rtol)
    near |= (given == wanted) | (np.isnan(given) & np.isnan(wanted)) | left_out
    lines = [
        f"{tuple(row[:-2])}: {row[-2]}, of PyTorch {row[-1]}"
        for row in np.stack([*at, given, wanted], 1)[~near].tolist()
    ]
    if lines:
        pytest.fail(f"the {what} at\n" + "\n".join(lines), pytrace=False)
