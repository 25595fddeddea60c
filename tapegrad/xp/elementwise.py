"""Elementwise functions."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from tapegrad import creation
from tapegrad.functions import elementwise
from tapegrad.recording import cast
from tapegrad.tensor import Tensor
from tapegrad.xp.operands import array, named, promoted


def _named(
    function: Callable[..., Any], name: str, ours: Callable[..., Any], operands: tuple[str, ...]
) -> Callable[..., Any]:
    function.__name__ = function.__qualname__ = name
    first, second = operands[0], operands[-1]
    names = {"input": first, "other": second, "exponent": second}
    text = elementwise.naming((ours.__doc__ or "").strip().partition("\n")[0], names)
    said = _SAID.get(name, text) or f"The standard's `{name}`, elementwise."
    example = f">>> xp.{_EXAMPLES[name]}" if name in _EXAMPLES else _example(name, ours)
    function.__doc__ = __test__[name] = f"{said}\n\n>>> from tapegrad import xp\n{example}"
    return function


def _example(name: str, ours: Callable[..., Any]) -> str:
    """The example of a function of the package, in the standard's names."""
    example = inspect.cleandoc(ours.__doc__ or "").partition(">>> import tapegrad as tg\n")[2]
    example = example.replace("tg.tensor(", "xp.asarray(").replace(f"tg.{ours.__name__}(", f"xp.{name}(")
    return example.replace("tg.", "xp.")


# Of which the functions of the package have more arguments, or no example.
_SAID = {
    "add": "`x1 + x2`, elementwise.",
    "subtract": "`x1 - x2`, elementwise.",
    "divide": "`x1 / x2`, elementwise; integers are converted to floating point.",
    "round": "The nearest integer, elementwise; ties to even.",
}
_EXAMPLES = {
    "add": "add(xp.asarray([1, 2]), xp.asarray([0.5, 0.5]))\ntensor([1.5000, 2.5000])",
    "subtract": "subtract(xp.asarray([1, 2]), xp.asarray([0.5, 0.5]))\ntensor([0.5000, 1.5000])",
    "divide": "divide(xp.asarray([7, -7]), 2)\ntensor([ 3.5000, -3.5000])",
    "pow": "pow(xp.asarray([1.0, 2.0, 3.0]), 2)\ntensor([1., 4., 9.])",
    "round": "round(xp.asarray([0.5, 1.5, 2.46]))\ntensor([0., 2., 2.])",
    "conj": "conj(xp.asarray([1.0, -2.0]))\ntensor([ 1., -2.])",
    "real": "real(xp.asarray([1.0, -2.0]))\ntensor([ 1., -2.])",
}
__test__: dict[str, str] = {}  # what is made here has its examples checked too


def _of_one(name: str, ours: str | None = None) -> Callable[..., Tensor]:
    record = named[ours or name]

    def function(x: Any, /) -> Tensor:
        return record(array(x))

    return _named(function, name, record, ("x",))


def _of_two(name: str, ours: str | None = None) -> Callable[..., Tensor]:
    """The operands are promoted, and one may be a number."""
    record = named[ours or name]

    def function(x1: Any, x2: Any, /) -> Tensor:
        return record(*promoted(x1, x2))

    return _named(function, name, record, ("x1", "x2"))


abs, acos, acosh, asin, asinh = map(_of_one, ("abs", "acos", "acosh", "asin", "asinh"))
atan, atanh, ceil, conj, cos = map(_of_one, ("atan", "atanh", "ceil", "conj", "cos"))
cosh, exp, expm1, floor, isfinite = map(_of_one, ("cosh", "exp", "expm1", "floor", "isfinite"))
isinf, isnan, log, log1p, log2 = map(_of_one, ("isinf", "isnan", "log", "log1p", "log2"))
log10, logical_not, negative, reciprocal = map(_of_one, ("log10", "logical_not", "negative", "reciprocal"))
round, sign, signbit, sin, sinh = map(_of_one, ("round", "sign", "signbit", "sin", "sinh"))
sqrt, square, tan, tanh, trunc, real = map(_of_one, ("sqrt", "square", "tan", "tanh", "trunc", "real"))
bitwise_invert = _of_one("bitwise_invert", "bitwise_not")

add, atan2, bitwise_and, bitwise_or = map(_of_two, ("add", "atan2", "bitwise_and", "bitwise_or"))
bitwise_left_shift, bitwise_right_shift = map(_of_two, ("bitwise_left_shift", "bitwise_right_shift"))
bitwise_xor, copysign, divide, hypot = map(_of_two, ("bitwise_xor", "copysign", "divide", "hypot"))
floor_divide, greater, greater_equal, less = map(_of_two, ("floor_divide", "greater", "greater_equal", "less"))
less_equal, logaddexp, logical_and, logical_or = map(_of_two, ("less_equal", "logaddexp", "logical_and", "logical_or"))
logical_xor, maximum, minimum, multiply = map(_of_two, ("logical_xor", "maximum", "minimum", "multiply"))
nextafter, not_equal, pow = map(_of_two, ("nextafter", "not_equal", "pow"))
subtract, equal = _of_two("subtract"), _of_two("equal", "eq")


def remainder(x1: Any, x2: Any, /) -> Tensor:
    """The remainder of a division, with the sign of the divisor, zeros too.

    >>> from tapegrad import xp
    >>> xp.remainder(xp.asarray([5, -5]), 3)
    tensor([2, 1])
    """
    made = named["remainder"](*promoted(x1, x2))
    if not made.dtype.is_floating_point:
        return made
    sign = named["copysign"](creation.ones_like(made), x2)
    return sign * (sign * made + 0.0)  # -0 + 0 is 0, to which PyTorch's zeros, of the dividend's sign, come


def positive(x: Any, /) -> Tensor:
    """A copy of the elements.

    >>> from tapegrad import xp
    >>> xp.positive(xp.asarray([-1.0, 2.0]))
    tensor([-1.,  2.])
    """
    return array(x).clone()


def imag(x: Any, /) -> Tensor:
    """Zeros: the elements are real.

    >>> from tapegrad import xp
    >>> xp.imag(xp.asarray([1.0, 2.0]))
    tensor([0., 0.])
    """
    return creation.zeros_like(array(x))


def clip(x: Any, /, min: Any = None, max: Any = None) -> Tensor:
    """The elements, those below `min` or above `max` (numbers, or arrays that broadcast) made equal to it.

    >>> from tapegrad import xp
    >>> xp.clip(xp.asarray([1, 5, 9]), 2, max=xp.asarray([3, 3, 8]))
    tensor([2, 3, 8])
    """
    x = array(x)
    bounds = [v if v is None or isinstance(v, (bool, int, float)) else array(v) for v in (min, max)]
    if bounds == [None, None]:
        return x.clone()
    return cast(elementwise.clamp_rule(x, *bounds), x.dtype)
