"""Python between two sweeps: a row whose value and adjoints are computed by callables of the user's.

The escape, not the habit: the sweep stops at such a row, lets Python work on NumPy arrays, and goes on. The callables
are kept by the tape, by the slot of the result.
"""

from tapegrad.ops.declare import Host


def _declare(arity):
    def host():
        """A Python callable as a row."""

    reads = (1 << arity) - 1 | 8  # its operands and its result
    rules = {"saves": (reads,) * arity, "partials": (host,) * arity}
    return Host(function=host, arity=arity, grad_name="HostFunctionBackward", **rules)


HOSTS = {arity: _declare(arity) for arity in (1, 2, 3)}
