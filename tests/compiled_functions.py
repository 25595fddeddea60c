"""How compiled functions are compared with the plain ones."""

import numpy as np
import pytest

import tapegrad as tg
from tapegrad import trees
from tapegrad.debug import MEMORY

needs_programs = pytest.mark.skipif(MEMORY, reason="memory is guarded: functions are called as they are")


def bits(tree):
    """All that tells results from others: structure, types, dtypes, shapes, and the bits of elements."""
    leaves, structure = trees.flatten(tree)

    def of(leaf):
        if isinstance(leaf, tg.Tensor):
            return type(leaf), leaf.dtype, tuple(leaf.shape), leaf.requires_grad, leaf.detach().numpy().tobytes()
        array = np.asarray(leaf)
        return type(leaf), array.dtype, array.shape, array.tobytes() if array.dtype != object else leaf

    return structure, [of(leaf) for leaf in leaves]


def agrees(function, compiled, *args, **kwargs):
    """Whether both give the same, or raise the same."""

    def outcome(of):
        try:
            return bits(of(*args, **kwargs))
        except Exception as error:
            return type(error), str(error).partition(", recorded at")[0]

    want, found = outcome(function), outcome(compiled)
    assert found == want


@tg.compile
def squares(x):
    """Found by its name in a process that is spawned."""
    return (x * x).sum()


def slope(x):
    """Compiled where it is used."""
    return tg.func.grad(squares.__wrapped__)(x)


def call(compiled, x):
    """What a compiled function gives at its first call, and at another; and its statistics."""
    return [compiled(x), compiled(x)], compiled.stats()
