"""Sparse Jacobians of jitted functions: columns that no row has together are computed as one.

A column is the derivative by one number. Along the sum of columns of which no row has two, the derivative of a result
is that by the one number that it depends on: so forward mode along as many directions as there are groups gives all
that the Jacobian has (A. Curtis, M. J. D. Powell, and J. Reid, On the estimation of sparse Jacobian matrices, 1974).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import scipy.sparse
from numba import njit
from scipy.optimize._numdiff import group_columns

from tapegrad.jitted import sharing
from tapegrad.jitted.engine import engine_of

_TOLERANCE = 1e-6  # of a row, beyond which another derivative is one that the pattern leaves out
_ROUNDING = 1e-13  # of the largest row


def jacobian(function: Callable[..., Any], sparsity: Any, argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """A function that computes the Jacobian of a jitted function as a sparse matrix.

    Parameters
    ----------
    function : jitted function, or a plain one that can be
        What it returns is float64, as are the arguments that it is differentiated by: numbers, arrays, and trees of
        them.
    sparsity : sparse matrix, or array, of shape (m, n)
        Which of the m numbers that are returned may depend on which of the n numbers of these arguments, each counted
        from left to right: they do where it isn't 0.
    argnums : int or sequence of int
        By which arguments it is differentiated.

    Returns
    -------
    function
        Of the arguments of `function`: the Jacobian, a `scipy.sparse.csr_array` of shape (m, n) and dtype float64, with
        an element for each of `sparsity`. Columns of which no row has two are computed together, so that the time is
        that of forward mode along as many directions as there are groups of these, and one: residuals of a camera's 11
        numbers and a point's 3 take 15, whatever the number of cameras and points.

    Raises
    ------
    ValueError
        For a matrix of another shape than the Jacobian's; for one that leaves out what a result depends on, which the
        derivative along one more direction tells; and for arguments that share memory, if the function writes to it.
    NotDifferentiableError, TypeError, RuntimeError
        As `tapegrad.func.jacfwd` does.

    Notes
    -----
    `scipy.optimize.least_squares` takes it as `jac`, if all of the function's arguments are `x` and its `args`.

    >>> import numpy as np
    >>> import tapegrad as tg
    >>> from numba import njit
    >>> @njit
    ... def differences(x):
    ...     return x[1:] ** 2 - x[:-1]
    >>> sparsity = np.eye(4, 5) + np.eye(4, 5, 1)
    >>> tg.jitted.jacobian(differences, sparsity)(np.arange(5.0)).toarray()
    array([[-1.,  2.,  0.,  0.,  0.],
           [ 0., -1.,  4.,  0.,  0.],
           [ 0.,  0., -1.,  6.,  0.],
           [ 0.,  0.,  0., -1.,  8.]])
    """
    pattern = _pattern(sparsity)
    groups = _groups(pattern)
    directions = np.zeros((groups.size, int(groups.max(initial=-1)) + 2))
    directions[np.arange(groups.size), groups] = 1.0
    directions[:, -1] = np.random.default_rng(0).integers(1, 64, groups.size)
    known = engine_of(function)

    @functools.wraps(function, updated=())
    def jacobian_of(*args: Any, **kwargs: Any) -> Any:
        given = known.bind(args, kwargs)
        places = known.places(given, argnums)
        if sharing.shared(known, given, places) is not None:
            raise ValueError("jacobian: arguments share memory, and the function writes to some: give copies")
        n = known.n_inputs(given, places)
        if n != groups.size:
            raise _other_shape(pattern, 1, n, "the arguments have {} numbers to differentiate by")
        found = known.along(given, places, directions)
        if found.shape[1] != pattern.shape[0]:
            raise _other_shape(pattern, 0, found.shape[1], "the function returns {} numbers")
        data, sizes, misses = _elements(pattern.indptr, pattern.indices, groups, directions[:, -1], found)
        _check(sizes, misses)
        return type(pattern)((data, pattern.indices, pattern.indptr), pattern.shape, copy=True)

    return jacobian_of


def _pattern(sparsity: Any) -> Any:
    """Where a Jacobian's elements are."""
    given = sparsity if scipy.sparse.issparse(sparsity) else np.asarray(sparsity)
    if given.ndim != 2:
        raise ValueError(f"jacobian: `sparsity` is a matrix of rows for results, not of {given.ndim} dimensions")
    found = scipy.sparse.csr_array(given != 0).astype(np.float64)
    found.sort_indices()
    return found


def _groups(pattern: Any) -> np.ndarray:
    """The group of each column: the fewest of two greedy choices, in the order of the columns and the fullest first."""
    fullest_first = np.argsort(-np.diff(pattern.tocsc().indptr), kind="stable")
    orders = np.arange(pattern.shape[1]), fullest_first
    return min((group_columns(pattern, order) for order in orders), key=lambda groups: groups.max(initial=-1))


def _other_shape(pattern: Any, axis: int, n: int, text: str) -> ValueError:
    name, shape = ("rows", "columns")[axis], tuple(pattern.shape)
    return ValueError(
        f"jacobian: {text.format(n)}, but `sparsity` has {shape[axis]} {name} (it is {shape[0]} x {shape[1]}): give a "
        "row for each number that is returned, and a column for each that is differentiated by"
    )


@njit(nogil=True)
def _elements(indptr, indices, groups, along, found):
    """The elements, row by row; of each row the size, and how far it is from what the last direction gives."""
    m = indptr.size - 1
    data, sizes, misses = np.empty(indices.size), np.empty(m), np.empty(m)
    for i in range(m):
        expected = found[-1, i]
        total, size = -expected, abs(expected)
        for e in range(indptr[i], indptr[i + 1]):
            j = indices[e]
            data[e] = found[groups[j], i]
            total += data[e] * along[j]
            size += abs(data[e]) * along[j]
        sizes[i], misses[i] = size, abs(total)
    return data, sizes, misses


def _check(sizes: np.ndarray, misses: np.ndarray) -> None:
    """Raise where the derivative along a direction isn't what the elements make of it."""
    finite = np.isfinite(sizes)
    bound = _TOLERANCE * sizes + _ROUNDING * sizes[finite].max(initial=0.0)
    wrong = np.flatnonzero(finite & (misses > bound))
    if wrong.size:
        raise ValueError(
            f"jacobian: result {wrong[0]} depends on numbers for which `sparsity` has no element in row {wrong[0]}, as "
            f"do {wrong.size} of {sizes.size} results: let it have one wherever a derivative may be other than 0"
        )
