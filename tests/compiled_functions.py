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
