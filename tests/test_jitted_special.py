"""Special functions in jitted code: all that operations are, by SciPy's names and by `tapegrad.special`'s.

Values are SciPy's, or the operation's on tensors; derivatives are the operation's, which other tests hold to mpmath.
"""

import ctypes
import inspect

import numpy as np
import pytest
import scipy.special
from numba import njit, types
from numba.extending import get_cython_function_address
from thoroughness import further

import tapegrad as tg
from tapegrad.jitted import special

pytestmark = pytest.mark.filterwarnings("ignore::numba.core.errors.NumbaWarning")
# A name for each operation, SciPy's if it has one, and those of what is made of operations.
NAMES = list({special.OPERATIONS.get(name, name): name for name in reversed(special.__all__)}.values())
OF_SCIPY = {name for name in NAMES if isinstance(getattr(scipy.special, name, None), np.ufunc)}
COUNTS = dict.fromkeys(("yn", "kn", "expn", "pdtr", "pdtrc", "eval_hermite", "eval_hermitenorm"), (2,))
COUNTS |= dict.fromkeys(("spherical_jn", "spherical_yn", "spherical_in", "spherical_kn"), (2,))
PAIRS = {"fresnel", "sici", "shichi"}
COUNTS |= dict.fromkeys(("bdtr", "bdtrc"), (2.0, 5)) | dict.fromkeys(("nbdtr", "nbdtrc"), (2, 5))


def arguments(name):
    """By the names of parameters: n is the integer order, or degree."""
    drawn = dict(
        zip(inspect.signature(getattr(special, name).py_func).parameters, (0.37, 0.64, 0.41, 0.23), strict=False)
    )
    if name == "zeta":
        drawn["a"] = 2.3
    drawn |= zip(drawn, COUNTS.get(name, ()), strict=False)
    return {parameter: 2 if parameter == "n" else x for parameter, x in drawn.items()}


def constants(name, given):
    """The parameters by which is not differentiated."""
    op = special.OPERATIONS.get(name)
    known = len(COUNTS.get(name, ())) or (len(op.unknown) if op else 0)
    return {"n", *list(given)[:known]}


def on_tensors(name, given):
    """Value, and derivatives by what is no integer; of a pair of results, of their difference."""
    function = getattr(tg.special, name, None) or getattr(scipy.special, name)
    fixed = constants(name, given)
    tensors = [tg.tensor(float(x), dtype=tg.float64, requires_grad=p not in fixed) for p, x in given.items()]
    if name == "polygamma":
        tensors[0] = 2
    value = function(*tensors)
    if name in PAIRS:
        value = value[0] - value[1]
    free = [t for t, p in zip(tensors, given, strict=True) if p not in fixed]
    return value.item(), [g.item() for g in tg.autograd.grad(value, free)]


@pytest.mark.parametrize("part", [0, *further(1)])
def test_all(part):
    """In one jitted function, of the numbers x of half of them."""
    names = [*NAMES][part::2]
    given, calls, x, at = {name: arguments(name) for name in names}, [], [], {}
    for name in names:
        texts, first = [], len(x)
        for parameter, number in given[name].items():
            is_fixed = parameter in constants(name, given[name])
            texts.append(repr(number) if is_fixed else f"x[{len(x)}]")
            x += [] if is_fixed else [number]
        owner = "scipy.special" if name in OF_SCIPY else "tg.special" if hasattr(tg.special, name) else "special"
        call = f"{owner}.{name}({', '.join(texts)})"
        calls.append(f"{call}[0] - {call}[1]" if name in PAIRS else call)
        at[name] = range(first, len(x))
    f, x = defined(f"return {', '.join(calls)}"), np.array(x)
    wanted = {name: on_tensors(name, given[name]) for name in names}
    for j in range(3):  # by the operand j of each
        along = np.zeros(len(x))
        along[[at[name][j] for name in names if j < len(at[name])]] = 1.0
        values, tangents = tg.func.jvp(f, (x,), (along,))
        for name, value, tangent in zip(names, values, tangents, strict=True):
            is_known = name in OF_SCIPY and name not in PAIRS
            known = getattr(scipy.special, name)(*given[name].values()) if is_known else wanted[name][0]
            slope = wanted[name][1][j] if j < len(at[name]) else 0.0
            assert value == pytest.approx(known, rel=3e-14), name
            assert tangent == pytest.approx(slope, rel=1e-13, nan_ok=True), (name, j)


def defined(text):
    scope = {"scipy": scipy, "tg": tg, "special": special}
    exec(f"def f(x):\n {text}", scope)
    return njit(scope["f"])


def test_arrays():
    """Values are the plain call's; derivatives those on tensors, of the same dtype."""
    f = defined("return scipy.special.xlogy(x, tg.special.i0(x[0]))[1]")

    def on_tensors(t):
        return tg.xlogy(t, tg.i0(t[0]))[1]

    x = np.array([0.7, 1.9, 2.6])
    value, gradient = tg.func.value_and_grad(f)(x)
    assert value == f(x) == pytest.approx(on_tensors(tg.tensor(x)).item(), rel=1e-14)
    assert gradient == pytest.approx(tg.func.grad(on_tensors)(x), rel=1e-13)
    single = x.astype(np.float32)
    value, gradient = tg.func.value_and_grad(f)(single)
    assert value == f(single)
    assert gradient.dtype == np.float32
    assert gradient == pytest.approx(tg.func.grad(f)(single.astype(float)), rel=1e-5)


class Ndtri(types.WrapperAddressProtocol):
    """SciPy's function, as Numba takes it by its address."""

    def __wrapper_address__(self):
        return get_cython_function_address("scipy.special.cython_special", "ndtri")

    def signature(self):
        return types.float64(types.float64)


def test_functions_of_scipy_that_are_called_by_their_addresses():
    """Through ctypes, and by an object that tells the address: the bits are those of the plain call."""
    double = ctypes.c_double
    address = get_cython_function_address("scipy.special.cython_special", "gammainc")
    gammainc, ndtri = ctypes.CFUNCTYPE(double, double, double)(address), Ndtri()

    @njit
    def f(x):
        return gammainc(x[0], x[1]) * ndtri(0.3) + ndtri(x[2])

    x = np.array([1.3, 0.7, 0.2])
    value, gradient = tg.func.value_and_grad(f)(x)
    assert value == f(x)
    t = tg.tensor(x, requires_grad=True)
    (scipy.special.gammainc(t[0], t[1]) * scipy.special.ndtri(0.3) + scipy.special.ndtri(t[2])).backward()
    np.testing.assert_allclose(gradient, t.grad.numpy(), rtol=1e-13)


def test_second_derivatives():
    assert tg.func.hessian(special.j1)(0.7) == pytest.approx(scipy.special.jvp(1, 0.7, 2), rel=1e-14)
    logarithm = defined("return x * scipy.special.hyp2f1(1.0, 1.0, 2.0, x)")  # -log(1 - x), DLMF 15.4.1
    assert tg.func.hessian(logarithm)(0.4) == pytest.approx(0.6**-2, rel=1e-13)


def test_what_is_no_operation_is_refused():
    with pytest.raises(tg.jitted.NotDifferentiableError, match="bei"):
        tg.func.grad(defined("return scipy.special.bei(x)"))(0.5)
