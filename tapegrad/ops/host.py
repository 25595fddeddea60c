"""Python between two sweeps: a row whose value and adjoints are computed by callables of the user's.

The escape, not the habit: the sweep stops at such a row, lets Python work on NumPy arrays, and goes on. The callables
are kept by the tape, by the slot of the result.
"""

import math

from tapegrad.dtypes import DTYPES, FLOAT64
from tapegrad.ops.declare import Host, elementwise


def _declare(arity):
    def host():
        """A Python callable as a row."""

    reads = (1 << arity) - 1 | 8  # its operands and its result
    rules = {"saves": (reads,) * arity, "partials": (host,) * arity}
    return Host(function=host, arity=arity, grad_name="HostFunctionBackward", **rules)


HOSTS = {arity: _declare(arity) for arity in (1, 2, 3)}


def _function():
    """A function of the user's, with a backward in Python: its operands, three a row, are the tensors it was given."""


def _no_rule():
    """What Python is asked for. Compiled code has a kernel of it, as of all rules, which nothing runs."""
    return math.nan


FUNCTION = Host(function=_function, arity=3, grad_name="FunctionBackward", partials=(_no_rule,) * 3)


@elementwise(
    partials=(_no_rule, None),
    signature=lambda code: (DTYPES.index(FLOAT64), code, code),
    dtype_operand=1,
    grad_name="FunctionBackward",
)
def _output(a, b):
    """`b`, one of the results of a function of the user's, which `a` is."""
    return b
