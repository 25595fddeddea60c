"""Run one program text with PyTorch and with tapegrad, and compare all that it leaves behind.

A program is a few lines of Python (mostly one) in which `tg` is one library or the other. What it leaves behind is
every variable it assigns (but for names that start with an underscore), the value of its trailing expression (called
`result`), and what it prints. Of a Tensor, all that a user can see counts: values, dtype, shape, requires_grad,
is_leaf, grad_fn, grad, printed text.

    program --+-- tg = torch    --> facts  --+
              |                              +--> differences, one line each
              +-- tg = tapegrad --> facts  --+
"""

import ast
import contextlib
import copy
import io
import math
import pickle
import re
import types
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import tapegrad

torch = pytest.importorskip("torch", reason="PyTorch is the oracle of these tests")

# Relative; sums may be taken in another order, and the functions themselves may be 2 ulp off.
TOLERANCE = {"float64": 1e-12, "float32": 3e-6}


def agree(program: str, *, text: bool = True, tolerance: float | None = None) -> None:
    """Fail, with every difference, unless tapegrad leaves behind what PyTorch does.

    `text=False` leaves out printed texts and names of grad_fn: for gradients that themselves record, where PyTorch's
    names tell how its backward formulas happen to be written.
    """
    expected, got = (run(library, program) for library in (torch, tapegrad))
    if isinstance(expected, Exception):
        raise AssertionError(f"PyTorch refuses the program: {expected!r}\n{program}")
    if isinstance(got, Exception):
        raise AssertionError(f"only tapegrad refuses the program: {got!r}\n{program}") from got
    report(program, differences(expected, got, text=text, tolerance=tolerance))


def agree_or_refuse_alike(program: str, *, text: bool = True) -> None:
    """As `agree`, but where PyTorch raises, tapegrad must raise an exception of the same type (or a subclass)."""
    expected = run(torch, program)
    if not isinstance(expected, Exception):
        agree(program, text=text)
        return
    got = run(tapegrad, program)
    assert isinstance(got, kind(expected)), f"PyTorch raises {expected!r}, tapegrad {got!r}\n{program}"


def refuse_alike(program: str, phrase: str) -> None:
    """Both libraries must raise, the same type of exception, with `phrase` in the message."""
    expected, got = (run(library, program) for library in (torch, tapegrad))
    assert isinstance(expected, Exception), f"PyTorch accepts the program\n{program}"
    assert phrase in neutral(str(expected)), f"PyTorch says: {expected}"
    assert isinstance(got, Exception), f"tapegrad accepts what PyTorch refuses with {expected!r}\n{program}"
    assert isinstance(got, kind(expected)), f"PyTorch raises {type(expected).__name__}, tapegrad {got!r}\n{program}"
    assert phrase in neutral(str(got)), f"tapegrad says: {got}\nPyTorch says: {expected}\n{program}"


def kind(error: Exception) -> type[Exception]:
    """What to catch: tapegrad's own, or PyTorch's, which raises NotImplementedError where it merely has no kernel."""
    if isinstance(error, torch.linalg.LinAlgError):
        return tapegrad.linalg.LinAlgError
    if type(error).__name__ == "GradcheckError":
        return tapegrad.autograd.checks.GradcheckError
    return RuntimeError if isinstance(error, NotImplementedError) else type(error)


def report(program: str, found: Iterator[str]) -> None:
    if lines := list(found):
        raise AssertionError("\n".join([program, *lines]))


def programs(text: str) -> list[str]:
    """The programs of a text, which stand between empty lines."""
    return text.strip().split("\n\n")


# Running a program


def run(library: types.ModuleType, program: str) -> dict[str, Any] | Exception:
    """The facts about all that the program leaves behind, or the exception it ends with."""
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()) as printed:
            warnings.simplefilter("ignore")
            left = left_behind(library, compiled(program))
    except Exception as error:
        return error
    return {"printed": neutral(printed.getvalue())} | left


def compiled(program: str) -> types.CodeType:
    """The code of a program, with its trailing expression called `result`. Not while another thread may do it too.

    CPython 3.11 raises SystemError where two threads make syntax trees at once (python/cpython#106905).
    """
    code = ast.parse(program)
    if isinstance(code.body[-1], ast.Expr):
        code.body[-1] = ast.Assign([ast.Name("result", ast.Store())], code.body[-1].value)
    return compile(ast.fix_missing_locations(code), "<program>", "exec")


def left_behind(library: types.ModuleType, code: types.CodeType) -> dict[str, Any]:
    """The facts about the variables of a program that prints nothing; on any thread."""
    given = givens(library)
    namespace = dict(given)
    exec(code, namespace)
    left = {name: value for name, value in namespace.items() if name not in given and name[0] != "_"}
    return {name: facts(library, value) for name, value in left.items()}


def givens(library: types.ModuleType) -> dict[str, Any]:
    """The names a program can use: the library as `tg`, and a few that both runs share."""

    def weights(y):
        """A constant of y's shape and dtype: in `(y * weights(y)).sum()` no element's gradient hides another's."""
        return library.tensor(1 + np.arange(y.numel()).reshape(tuple(y.shape)) / 7, dtype=y.dtype)

    # The one function of the surface that PyTorch keeps elsewhere.
    softplus = library.nn.functional.softplus if library is torch else library.softplus
    return {"tg": library, "softplus": softplus, "weights": weights, **GIVENS}


def reals(*shape: int) -> np.ndarray:
    """Numbers in (-2, 2), always the same, none at a kink or a tie."""
    return np.random.default_rng(1).uniform(-2, 2, shape)


def positives(*shape: int) -> np.ndarray:
    """Numbers in (0.2, 3)."""
    return np.random.default_rng(2).uniform(0.2, 3, shape)


def units(*shape: int) -> np.ndarray:
    """Numbers in (-0.9, 0.9)."""
    return np.random.default_rng(3).uniform(-0.9, 0.9, shape)


GIVENS = {
    "np": np,
    "nan": math.nan,
    "inf": math.inf,
    "copy": copy,
    "pickle": pickle,
    "reals": reals,
    "positives": positives,
    "units": units,
}
DTYPES = ("float64", "float32", "int64", "int32", "bool")


# Describing what is there


def facts(library: types.ModuleType, value: Any) -> Any:
    """Value as plain data that can be compared across libraries; a dict of facts for a Tensor."""
    if isinstance(value, library.Tensor):
        values = value.detach().numpy().copy()
        return {
            "dtype": dtype_name(value.dtype),
            "shape": tuple(value.shape),
            "requires_grad": value.requires_grad,
            "is_leaf": value.is_leaf,
            "values": values,
            "grad": facts(library, value.grad),
            "grad_fn": facts(library, value.grad_fn),
            "text": neutral(repr(value)),
        }
    if isinstance(value, (tuple, list)):
        return [facts(library, item) for item in value]
    if isinstance(value, dict):
        return {key: facts(library, item) for key, item in value.items()}
    if isinstance(value, str):
        return neutral(value)
    if isinstance(value, (np.ndarray, np.generic, bool, int, float, complex, type(None))):
        return value
    if hasattr(value, "next_functions"):
        return neutral(value.name())
    if isinstance(value, library.dtype):
        return dtype_name(value)
    return type(value).__name__


def dtype_name(dtype: Any) -> str:
    return str(dtype).rpartition(".")[2]


def neutral(text: str) -> str:
    """Text without the name of the library, its C++ namespaces or addresses in memory."""
    without_addresses = re.sub(r"0x[0-9a-f]+", "0x", text)
    return re.sub(r"\b(torch|tapegrad|tg)\.", "tg.", without_addresses).replace("torch::autograd::", "")


# Comparing


def differences(expected: Any, got: Any, where: str = "", *, text: bool, tolerance: float | None) -> Iterator[str]:
    """One line for each thing in which `got` is not as expected."""
    here = where or "program"
    if isinstance(expected, dict) and isinstance(got, dict):
        for name in {**expected, **got}:
            if name in {"text", "grad_fn"} and not text:
                continue
            path = f"{where}.{name}" if where else name
            if name not in expected or name not in got:
                yield f"{path}: only {'PyTorch' if name in expected else 'tapegrad'} has it"
            else:
                yield from differences(expected[name], got[name], path, text=text, tolerance=tolerance)
    elif isinstance(expected, list) and isinstance(got, list):
        if len(expected) != len(got):
            yield f"{here}: {len(expected)} items in PyTorch, {len(got)} in tapegrad"
        for position, pair in enumerate(zip(expected, got, strict=False)):
            yield from differences(*pair, f"{where}[{position}]", text=text, tolerance=tolerance)
    elif isinstance(expected, np.ndarray) and isinstance(got, np.ndarray):
        if not same_arrays(expected, got, tolerance):
            yield f"{here}: PyTorch {expected!r}, tapegrad {got!r}"
    elif isinstance(expected, float) and isinstance(got, float):
        if not same_arrays(np.asarray(expected), np.asarray(got), tolerance):
            yield f"{here}: PyTorch {expected!r}, tapegrad {got!r}"
    elif type(expected) is not type(got) or expected != got:
        yield f"{here}: PyTorch {expected!r}, tapegrad {got!r}"


def same_arrays(expected: np.ndarray, got: np.ndarray, tolerance: float | None) -> bool:
    """Same dtype and shape, and values that agree up to rounding (nan equals nan)."""
    if expected.dtype != got.dtype or expected.shape != got.shape:
        return False
    rtol = tolerance or TOLERANCE.get(expected.dtype.name, 0.0)
    return np.allclose(got, expected, rtol=rtol, atol=rtol / 10, equal_nan=True)
