"""What stands in front of public functions and looks at their arguments."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

import tapegrad as tg
from tapegrad import Tensor
from tapegrad.arguments import Dims, Number, checked
from tapegrad.dtypes import DType


@checked
def shown(
    input: Tensor, dim: Dims | None = None, p: Number | str = 2, keepdim: bool = False, *, dtype: DType | None = None
):  # fmt: skip
    return dim, p, keepdim, dtype


@checked
def required(dim: int, index: int, *rest: int, scale: float = 1.0):
    return dim, index, rest, scale


X = tg.ones(2, 3)


def test_arguments_are_passed_on_as_what_they_are_taken_for():
    assert shown(X) == (None, 2, False, None)
    assert shown(X, 1, 2.5, True, dtype=tg.float32) == (1, 2.5, True, tg.float32)
    for dim in (np.int32(1), tg.tensor(1), [1], (np.int64(1),), (tg.tensor(1),)):
        taken = shown(X, dim, "fro", dtype=None)
        assert taken == ((1,) if isinstance(dim, (list, tuple)) else 1, "fro", False, None)
        assert {type(d) for d in np.atleast_1d(taken[0]).tolist()} == {int}
    assert shown(X, axis=(0, 1), keepdims=True) == shown(X, (0, 1), keepdim=True) == ((0, 1), 2, True, None)
    assert shown(input=X, p=np.float32(0.5)) == (None, 0.5, False, None)
    assert shown(X, -(2**62)) == (-(2**62), 2, False, None)


def test_arguments_before_others_and_under_other_names():
    assert required(1, 2) == (1, 2, (), 1.0)
    assert required(np.int64(1), 2, 3, 4, scale=2) == (1, 2, (3, 4), 2.0)
    assert required(index=2, axis=1) == (1, 2, (), 1.0)
    with pytest.raises(TypeError, match=r"required\(\) missing 1 required positional argument: 'index'"):
        required(axis=1)
    with pytest.raises(TypeError, match=r"required\(\) missing 1 required positional argument: 'dim'"):
        required(index=1)
    with pytest.raises(TypeError, match=r"required\(\) got multiple values for argument 'dim'"):
        required(1, 2, axis=1)
    with pytest.raises(TypeError, match=r"required\(\) got an unexpected keyword argument 'size'"):
        required(1, 2, size=1)


def test_what_is_refused():
    with pytest.raises(TypeError, match=r"shown\(\): argument 'dim' \(position 2\) must be tuple of ints, not str"):
        shown(X, "a")
    with pytest.raises(TypeError, match=r"argument 'dim' .* must be tuple of ints, but found element of type float"):
        shown(X, (0, 1.5))
    with pytest.raises(TypeError, match=r"shown\(\): argument 'keepdim' \(position 4\) must be bool, not int"):
        shown(X, keepdim=1)
    with pytest.raises(TypeError, match=r"shown\(\): argument 'dtype'"):
        shown(X, dtype="nonsense")
    for dim in (2**63, (0, 2**63)):
        with pytest.raises(ValueError, match="Overflow when unpacking long long"):
            shown(X, dim)


def test_every_public_function_shows_its_own_signature():
    wanted = "(input: 'Tensor', dim: 'int', start: 'int | Tensor', length: 'int') -> 'Tensor'"
    assert str(inspect.signature(tg.narrow)) == wanted
    assert tg.narrow.__qualname__ == tg.narrow.__name__ == "narrow"
    assert tg.max.__qualname__ == "max"
