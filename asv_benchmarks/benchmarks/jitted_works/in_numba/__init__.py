"""The works as users of Numba write them, whose derivatives are tapegrad's."""

import importlib
import os
from collections.abc import Callable
from typing import Any

from numba import njit

from benchmarks.jitted_works.table import CALLS, Work
from tapegrad import func, jitted


def primal(work: Work) -> Callable[[], Any]:
    """What computes the function of a work, as often as its derivative is."""
    function, args = function_of(work), work.arguments()
    if work.way != "calls":
        return lambda: function(*args)
    call = called(function, lambda value: value)
    return lambda: call(*args)


def derivative(work: Work) -> Callable[[], Any]:
    """What computes the derivative of a work, once it has compiled at its first call."""
    args = work.arguments()
    if work.way == "calls":
        call = called(jitted.value_and_grad(function_of(work)), lambda found: found[0])
        return lambda: call(*args)
    return transformed(work)


def transformed(work: Work) -> Callable[[], Any]:
    """The same, from Python."""
    function, args = function_of(work), work.arguments()
    found: Any
    if work.way == "blocks":
        found = function_of(work, "_blocks")
    elif work.way == "jacobian":
        found = func.jacobian(function)
    else:
        found = func.value_and_grad(function, work.by if len(work.by) > 1 else work.by[0])
    return lambda: found(*args)


def called(function: Any, value_of: Callable[[Any], Any]) -> Any:
    """Jitted code that calls a jitted function of an array, and of whatever else, `CALLS` times.

    The array's first number is another each time, so that no call can be left out.
    """
    value_of = njit(value_of)

    @njit
    def call(x, *others):
        first, total = x[0], 0.0
        for i in range(CALLS):
            x[0] = first + 1e-12 * i
            total += value_of(function(x, *others))
        x[0] = first
        return total

    return call


def function_of(work: Work, suffix: str = "") -> Any:
    """The jitted function of a work."""
    found = getattr(importlib.import_module(f"{__name__}.{work.family}"), work.function + suffix)
    if os.environ.get("NUMBA_CACHE_DIR"):  # the caller has a place for it: Numba's own would be beside the files
        found.enable_caching()
    return found
