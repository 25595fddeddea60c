"""Array operations in jitted code and of tensors: the same values, and derivatives of both modes and orders.

At regular points, at kinks and ties, of singular matrices, of one element and of none.
"""

import array_functions as these
import numpy as np
import pytest
from numba import njit

import tapegrad as tg

CASES = [("reductions", name, (np.array(x),)) for name, x in these.VECTORS.items()]
CASES += [("reductions_of_none", "none", (np.zeros(0),))]
CASES += [("along_axes", name, (x,)) for name, x in these.TABLES.items() if x.size]
CASES += [("products", name, args) for name, args in (these.REGULAR | these.SINGULAR).items()]
CASES += [("systems", name, args) for name, args in these.REGULAR.items()]
EXACT = {"rtol": 1e-11, "atol": 1e-12}


def weighed(function):
    """The sum of a function's results with weights, which are its first argument."""
    names = ", ".join("xyz"[: function.py_func.__code__.co_argcount])
    scope = {"np": np, "function": function}
    exec(f"def weighed(w, {names}):\n return (function({names}) * w).sum()", scope)
    return njit(scope["weighed"])


WEIGHED = {name: weighed(getattr(these, name)) for name in {case[0] for case in CASES}}


def over(cases):
    return pytest.mark.parametrize(
        ("name", "args"), [(c[0], c[2]) for c in cases], ids=[f"{c[0]}-{c[1]}" for c in cases]
    )


@over(CASES)
def test_first_derivatives(name, args):
    jitted, of_tensors = getattr(these, name), getattr(these, f"{name}_of")
    argnums = tuple(range(len(args)))
    tensors = tuple(tg.tensor(x) for x in args)
    np.testing.assert_allclose(jitted.py_func(*args), of_tensors(tg, *tensors).numpy(), **EXACT)
    wanted = tg.func.jacrev(lambda *xs: of_tensors(tg, *xs), argnums)(*tensors)
    for transform in (tg.func.jacrev, tg.func.jacfwd):
        for found, expected in zip(transform(jitted, argnums)(*args), wanted, strict=True):
            np.testing.assert_allclose(found, expected.numpy(), **EXACT)


# Of a singular matrix's determinant tensors have none; see test_jitted_kinks.py.
@over([case for case in CASES if case[1] not in these.SINGULAR])
def test_second_derivatives(name, args):
    of_tensors = getattr(these, f"{name}_of")
    n = len(getattr(these, name).py_func(*args))
    tensors, argnums = tuple(tg.tensor(x) for x in args), tuple(range(1, 1 + len(args)))
    for k in range(n):
        found = tg.func.hessian(WEIGHED[name], argnums)(np.eye(n)[k], *args)
        wanted = tg.func.hessian(lambda *xs, k=k: of_tensors(tg, *xs)[k], tuple(range(len(args))))(*tensors)
        for row, expected in zip(found, wanted, strict=True):
            for block, other in zip(row, expected, strict=True):
                np.testing.assert_allclose(block, other.numpy(), **EXACT)
