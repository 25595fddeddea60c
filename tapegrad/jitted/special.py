"""Special functions for jitted code: operations as jitted functions, and what is made of such as `math` has.

They are compiled into the code that calls them, differentiated or not:

>>> from tapegrad import func
>>> from tapegrad.jitted import special
>>> func.grad(special.ndtr)(0.0)
0.39894228...
"""

from __future__ import annotations

import functools
import math
from typing import Any

from numba import njit

from tapegrad.jitted.extensions import custom_rule
from tapegrad.jitted.inner import define
from tapegrad.kernels import native, scalar
from tapegrad.ops import special
from tapegrad.ops.declare import Op, parameters
from tapegrad.ops.exponential import sigmoid


@functools.cache
def jitted(op: Op) -> Any:
    """An operation of one operand as a jitted function, whose derivative is the operation's, at every order."""
    function, (partial,) = scalar(op), op.partials
    if partial is not None and native.JIT:
        for named in map(partial.__globals__.get, partial.__code__.co_names):
            if isinstance(named, Op) and named.arity == 1:
                jitted(named)
        text = f"def rule(x, y):\n return partial({', '.join(parameters(partial))})"
        custom_rule(function)(define(text, "rule", {"partial": scalar(partial)}))
    return function


digamma, expit = jitted(special.digamma), jitted(sigmoid)


@njit
def ndtr(x):
    """The distribution function of the standard normal distribution."""
    return 0.5 * math.erfc(-x * math.sqrt(0.5))


@njit
def logit(p):
    """The inverse of the logistic function."""
    return math.log(p) - math.log1p(-p)


@njit
def betaln(a, b):
    """The logarithm of the beta function, of positive numbers."""
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
