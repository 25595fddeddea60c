"""One call with PyTorch and with tapegrad: values, gradients, second order, forward mode, in both dtypes."""

import inspect
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tapegrad
import tapegrad.nn.functional

torch = pytest.importorskip("torch", reason="PyTorch is the oracle of these tests")

TOLERANCE = {"float64": 1e-10, "float32": 1e-4}


def agree(call: Callable[..., Any], *arrays: np.ndarray, dtype: str = "float64", second: bool = True) -> None:
    """Fail unless `call(library, F, *tensors)` gives the same with both libraries, and its derivatives are the same.

    Arrays of floats are differentiated by.
    """
    got, expected = (left(library, call, arrays, dtype, second) for library in (tapegrad, torch))
    assert got.keys() == expected.keys(), inspect.getsource(call)
    for name in expected:
        tolerance = TOLERANCE[dtype] * max(1.0, np.abs(expected[name][np.isfinite(expected[name])]).max(initial=0))
        np.testing.assert_allclose(
            got[name], expected[name], rtol=TOLERANCE[dtype], atol=tolerance,
            err_msg=f"{name}, {dtype}: {inspect.getsource(call)}",
        )  # fmt: skip


def left(library: Any, call: Any, arrays: tuple[np.ndarray, ...], dtype: str, second: bool) -> dict[str, np.ndarray]:
    tensors = [library.tensor(a.astype(dtype) if a.dtype.kind == "f" else a) for a in arrays]
    inputs = [t.requires_grad_() for t in tensors if t.dtype in (library.float32, library.float64)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = call(library, library.nn.functional, *tensors)
    results = result if isinstance(result, tuple) else (result,)
    found = {f"result {i}": numbers(y) for i, y in enumerate(results)}
    dtypes = [str(y.dtype).rpartition(".")[2] for y in results]
    found["dtypes"] = np.array([("bool", "int64", "int32", "float32", "float64").index(d) for d in dtypes])
    active = [y for y in results if y.requires_grad]
    if not active:
        return found
    weighted = sum((y * weights(library, y)).sum() for y in active)
    gradients = library.autograd.grad(weighted, inputs, create_graph=second, allow_unused=True)
    found |= {f"gradient {i}": numbers(g) for i, g in enumerate(gradients) if g is not None and numbers(g).any()}
    if second:
        active = [g for g in gradients if g is not None and g.requires_grad]
        if active:
            once_more = sum((g * weights(library, g)).sum() for g in active)
            if once_more.requires_grad:
                again = library.autograd.grad(once_more, inputs, allow_unused=True)
                found |= {f"second {i}": numbers(g) for i, g in enumerate(again) if g is not None and numbers(g).any()}
    return found


def weights(library: Any, y: Any) -> Any:
    return library.tensor((1 + np.arange(y.numel()) % 17 / 7).reshape(tuple(y.shape)), dtype=y.dtype)


def numbers(t: Any) -> np.ndarray:
    return np.array(t.detach().clone().numpy() + 0.0, np.float64)


def refuse_alike(call: Callable[..., Any], *arrays: np.ndarray, leading: int = 12) -> None:
    """Both libraries refuse, with the same type of exception and the same first words."""
    errors = []
    for library in (torch, tapegrad):
        tensors = [library.tensor(a) for a in arrays]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                call(library, library.nn.functional, *tensors)
            except Exception as error:
                errors.append(error)
            else:
                raise AssertionError(f"{library.__name__} takes {inspect.getsource(call)}")
    expected, got = errors
    kind = RuntimeError if isinstance(expected, NotImplementedError) else type(expected)
    assert isinstance(got, kind), f"{expected!r}\n{got!r}\n{inspect.getsource(call)}"
    assert str(got)[:leading] == str(expected)[:leading], f"{expected!r}\n{got!r}\n{inspect.getsource(call)}"


def reals(*shape: int, seed: int = 1) -> np.ndarray:
    """Numbers in (-2, 2), none at a kink."""
    return np.random.default_rng(seed).uniform(-2, 2, shape)


def units(*shape: int, seed: int = 1) -> np.ndarray:
    """Numbers in (0.05, 0.95)."""
    return np.random.default_rng(seed).uniform(0.05, 0.95, shape)


def classes(n: int, *shape: int, seed: int = 1) -> np.ndarray:
    """Numbers 0 to n - 1."""
    return np.random.default_rng(seed).integers(0, n, shape)
