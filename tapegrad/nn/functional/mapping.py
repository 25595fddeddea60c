"""Linear maps along an axis: matrices with few elements a row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tapegrad.functions.shaping import contiguous
from tapegrad.ops import windows
from tapegrad.recording import record_array
from tapegrad.tensor import Tensor, from_array

_PART, _FEW = 64, 8  # elements of a part of the inner axis; outer parts that are enough to share out


class Matrix(NamedTuple):
    """A matrix as the kernel reads it: where its elements are, by rows and by columns, and what they are."""

    shape: tuple[int, int]
    nonzero: int
    words: np.ndarray


def matrix_of_rows(columns: Sequence[np.ndarray], weights: Sequence[np.ndarray], n: int) -> Matrix:
    """Of the columns of each row's elements, out of n, and what these are."""
    m = len(columns)
    counts = np.array([len(c) for c in columns], np.int64)
    rows = np.repeat(np.arange(m), counts)
    at = np.concatenate([np.asarray(c, np.int64) for c in columns]) if m else np.zeros(0, np.int64)
    values = np.concatenate([np.asarray(w, np.float64) for w in weights]) if m else np.zeros(0)
    by_column = np.argsort(at, kind="stable")
    begins = [np.concatenate([[0], np.cumsum(c)]) for c in (counts, np.bincount(at, minlength=n))]
    places = np.concatenate([begins[0], at, begins[1], rows[by_column]]).astype(np.int64)
    weights = np.concatenate([values, values[by_column]])
    return Matrix((m, n), values.size, np.concatenate([places, weights.view(np.int64)]))


def along(x: Tensor, dim: int, matrix: Matrix) -> Tensor:
    """The matrix times a dimension of `x`."""
    (m, n), shape = matrix.shape, x.shape
    assert shape[dim] == n
    outer, inner = math.prod(shape[:dim]), math.prod(shape[dim + 1 :])
    parts = inner // _PART if outer < _FEW and inner >= 2 * _PART and inner % _PART == 0 else 1
    params = (outer * parts, n, m, inner // parts, parts, matrix.nonzero, 0)
    return _record(x, from_array(matrix.words), params, (*shape[:dim], m, *shape[dim + 1 :]))


def _record(x: Tensor, at: Tensor, p: tuple[int, ...], shape: tuple[int, ...]) -> Tensor:
    return record_array(windows.map_along, tuple(shape), x.dtype, contiguous(x), at, params=p)


windows.map_along.record = _record
