"""Array operations that both engines know, in jitted code and of tensors of tapegrad or PyTorch; and where to try them.

Each function gives the elements of all its results in one vector, so that few functions are compiled.
"""

import numpy as np
from numba import njit

RNG = np.random.default_rng(11)


@njit
def reductions(x):
    extremes = np.array([np.max(x), np.min(x), np.ptp(x)])
    return np.concatenate((
        np.array([np.sum(x), np.mean(x), np.prod(x), np.var(x), np.std(x), np.linalg.norm(x), np.dot(x, x)]), extremes
    ))  # fmt: skip


def reductions_of(lib, x):
    largest, smallest = x.amax(), x.amin()
    return lib.stack([
        x.sum(), x.mean(), x.prod(), x.var(correction=0), x.std(correction=0), lib.linalg.norm(x), lib.dot(x, x),
        largest, smallest, largest - smallest,
    ])  # fmt: skip


@njit
def reductions_of_none(x):
    return np.array([np.sum(x), np.prod(x), np.linalg.norm(x), np.dot(x, x)])


def reductions_of_none_of(lib, x):
    return lib.stack([x.sum(), x.prod(), lib.linalg.norm(x), lib.dot(x, x)])


@njit
def along_axes(x):
    return np.concatenate((
        np.sum(x, axis=0), np.mean(x, axis=1), np.prod(x, axis=0), np.var(x, axis=1), np.std(x, axis=0),
        np.max(x, axis=0), np.min(x, axis=1), x.max(axis=1),
    ))  # fmt: skip


def along_axes_of(lib, x):
    return lib.cat([
        x.sum(0), x.mean(1), x.prod(0), x.var(1, correction=0), x.std(0, correction=0), x.amax(0), x.amin(1), x.amax(1),
    ])  # fmt: skip


@njit
def products(a, b, v):
    return np.concatenate((
        (a @ b).ravel(), a @ v, v @ b, np.outer(v, v).ravel(), np.dot(a, b.T).ravel(), np.array([np.trace(a)]),
        np.array([np.linalg.det(a), np.linalg.det(b.T)]),
    ))  # fmt: skip


def products_of(lib, a, b, v):
    return lib.cat([
        (a @ b).reshape(-1), a @ v, v @ b, lib.outer(v, v).reshape(-1), (a @ b.T).reshape(-1), lib.trace(a).reshape(1),
        lib.stack([lib.linalg.det(a), lib.linalg.det(b.T)]),
    ])  # fmt: skip


@njit
def systems(a, b, v):
    return np.concatenate((
        np.linalg.solve(a, b).ravel(), np.linalg.solve(a, v), np.linalg.inv(a.T).ravel(),
        np.array([np.linalg.slogdet(a)[1]]), np.linalg.cholesky(a).ravel(),
    ))  # fmt: skip


def systems_of(lib, a, b, v):
    return lib.cat([
        lib.linalg.solve(a, b).reshape(-1), lib.linalg.solve(a, v), lib.linalg.inv(a.T).reshape(-1),
        lib.linalg.slogdet(a)[1].reshape(1), lib.linalg.cholesky(a).reshape(-1),
    ])  # fmt: skip


VECTORS = {
    "regular": [0.5, -1.25, 2.0, 0.75], "zeros": [0.0, 0.0, 0.0], "a zero": [0.0, 3.0, -2.0],
    "two zeros": [0.0, 2.0, 0.0], "ties": [1.0, 1.0, 0.0], "ties below": [-1.0, 2.0, -1.0], "alike": [1.0, 1.0],
    "one": [-2.0], "one zero": [0.0], "zeros of both signs": [0.0, -0.0, -1.0],
}  # fmt: skip
TABLES = {
    "regular": RNG.normal(size=(3, 2)), "ties": np.array([[1.0, 1.0], [1.0, 0.0], [0.0, 1.0]]),
    "alike": np.ones((2, 3)), "zeros": np.zeros((2, 2)), "one": np.array([[2.0]]), "none": np.zeros((0, 0)),
}  # fmt: skip


def _matrices(n):
    root = RNG.normal(size=(n, n))
    return root @ root.T + n * np.eye(n), RNG.normal(size=(n, n)), RNG.normal(size=n)


REGULAR = {f"{n} by {n}": _matrices(n) for n in (1, 3)} | {"none": (np.zeros((0, 0)), np.zeros((0, 0)), np.zeros(0))}
SINGULAR = {
    "of rank 1": (np.array([[1.0, 2.0], [2.0, 4.0]]), np.eye(2), np.ones(2)),
    "zeros": (np.zeros((2, 2)), np.ones((2, 2)), np.array([0.0, 1.0])),
    "of rank 2": (np.array([[1.0, 2, 3], [4, 5, 6], [5, 7, 9]]), np.diag([1.0, 0.0, 2.0]), np.arange(3.0)),
}  # fmt: skip
