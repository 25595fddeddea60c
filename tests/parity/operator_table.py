"""PyTorch's own table of operators, run on tapegrad: every sample that it is tested with itself.

    python -m tests.parity.operator_table                      all, written to OPERATORS.md beside this file
    python -m tests.parity.operator_table --only 'sort,nn.functional.*'    some, with what goes wrong in each

An entry of the table (`op_db`) has sample inputs and error inputs. Each sample is run by both libraries, and these
are compared, each a check of its own:

    value      the outputs: values, dtypes, shapes
    order 1    gradients by all inputs that require them, for the same adjoints of the outputs
    order 2    gradients of these
    forward    tangents (`func.jvp`), where PyTorch has them
    in place   the method that ends in `_`: values and gradients
    strided    value and order 1 of inputs that are not contiguous
    float32    value and order 1 in single precision
    errors     error inputs: the type of the exception

Where an operator reads half of a matrix, PyTorch's own checks differentiate it as a function of the whole that is made
triangular, or symmetric, of what is given: derivatives are compared as such ones.

What a sample's function is made of (lambdas of the table among them) is run again with `torch` meaning tapegrad.
Nothing here knows an operation but for the lists below.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import dataclasses
import fnmatch
import multiprocessing
import os
import pathlib
import re
import sys
import time
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import tapegrad as tg

torch = pytest.importorskip("torch", reason="PyTorch is the oracle of this table")
op_db = pytest.importorskip("torch.testing._internal.common_methods_invocations").op_db
OpInfo = pytest.importorskip("torch.testing._internal.opinfo.core").OpInfo

CHECKS = ("value", "order 1", "order 2", "forward", "in place", "strided", "float32", "errors")
SLOW = 20  # seconds of an entry that are worth a line
WRITTEN = pathlib.Path(__file__).with_name("OPERATORS.md")

# What a dense library of real numbers has no place for, by the reason.
LEFT_OUT = {
    "complex numbers": (
        "cdouble cfloat chalf complex polar view_as_complex view_as_real imag istft stft fft.fft fft.fft2 fft.fftn "
        "fft.ifft fft.ifft2 fft.ifftn fft.rfft fft.rfft2 fft.rfftn fft.ihfft fft.ihfft2 fft.ihfftn linalg.eig "
        "linalg.eigvals"
    ),
    "sparse matrices": "sparse.* to_sparse",
    "kernels written in C++ by the user": "jiterator*",
    "internal names": (
        "_* ops.* torch.* *_copy hash_tensor max_pool2d_with_indices_backward native_* resolve_conj resolve_neg "
        "unsafe_* segment_reduce slice"
    ),
    "memory that nobody wrote": "empty empty_like new_empty empty_strided empty_permuted new_empty_strided",
}
# Values are random, and only shapes and dtypes are compared; so it is where samples have a `dropout_p`.
RANDOM = (
    "bernoulli cauchy exponential geometric log_normal normal uniform randn rand_like randn_like randint randint_like "
    "multinomial nn.functional.dropout nn.functional.dropout2d nn.functional.dropout3d nn.functional.alpha_dropout "
    "nn.functional.feature_alpha_dropout nn.functional.rrelu nn.functional.fractional_max_pool2d "
    "nn.functional.fractional_max_pool3d nn.functional.multi_head_attention_forward svd_lowrank pca_lowrank"
).split()
# Vectors are determined up to signs: what is compared is what the table differentiates.
UP_TO_SIGNS = "linalg.eigh linalg.svd svd".split()
# What PyTorch's checks give to operators that read half of a matrix.
STRUCTURED = {"gradcheck_wrapper_triangular_input", "gradcheck_wrapper_hermitian_input"}
# Entries whose gradients are another function's in PyTorch; here they are those of the value.
OTHER_DERIVATIVES = {
    "as_strided_scatter": "in PyTorch the input's gradient is there where it was written over, and 0 elsewhere",
    "cholesky_inverse": "in forward mode PyTorch's tangents are off by up to 1e-5: differences agree with these",
    "nn.functional.ctc_loss": (
        "PyTorch's gradient has exp(log_probs) beside, which is 0 behind `log_softmax`, and only there"
    ),
    "nn.functional.hardsigmoid": "of float64, PyTorch's slope is 1/6 in single precision",
    "nn.functional.max_unpool1d, 2d, 3d": (
        "where indices repeat, one element is written and in PyTorch's gradient all that were to be"
    ),
}
FAMILIES = {
    "nn.functional": "nn.functional", "linalg": "linalg", "special": "special", "masked": "masked", "fft": "fft",
    "signal": "signal.windows",
}  # fmt: skip
_CLASSES = {
    "UnaryUfuncInfo": "elementwise", "BinaryUfuncInfo": "elementwise", "ReductionOpInfo": "reductions",
    "SpectralFuncInfo": "fft",
}  # fmt: skip


class Absent(Exception):  # noqa: N818 (not an error, but an answer)
    """The library has no such name."""


class Unsupported(Exception):  # noqa: N818
    """A sample has what the library has no place for: a dtype, a device."""


# --- the same call in the other library -------------------------------------------------------------------------------

_DTYPES = {torch.float64: tg.float64, torch.float32: tg.float32, torch.int64: tg.int64, torch.int32: tg.int32}
_DTYPES[torch.bool] = tg.bool


class Mirror:
    """A module of PyTorch's, as tapegrad has it: what lambdas of the table see under `torch`."""

    def __init__(self, module: Any, path: str) -> None:
        self._module, self._path = module, path

    def __getattr__(self, name: str) -> Any:
        original = getattr(torch if not self._path else _walk(torch, self._path), name, None)
        if isinstance(original, torch.dtype):
            return translated(original, {})
        found = getattr(self._module, name, None)
        path = f"{self._path}.{name}".strip(".")
        if found is None:
            raise Absent(path)
        return Mirror(found, path) if isinstance(original, types.ModuleType) else found


def _walk(module: Any, path: str) -> Any:
    for part in path.split("."):
        module = getattr(module, part, None)
        if module is None:
            raise Absent(path)
    return module


def counterpart(function: Any, name: str = "") -> Any:
    """The function of tapegrad's that stands for one of PyTorch's, or for one made of these."""
    code = getattr(function, "__code__", None)
    if code is not None and "testing" in (function.__module__ or ""):
        scope = function.__globals__ | {
            "torch": Mirror(tg, ""),
            "F": Mirror(getattr(tg, "nn", None), "nn").functional if hasattr(tg, "nn") else None,
            "wrapper_set_seed": lambda call, *args, **facts: call(*args, **facts),
        }
        cells = tuple(types.CellType(_in_cell(cell.cell_contents)) for cell in function.__closure__ or ())
        made = types.FunctionType(code, scope, function.__name__, function.__defaults__, cells)
        made.__kwdefaults__ = function.__kwdefaults__
        return made
    if type(function).__name__ in ("method_descriptor", "wrapper_descriptor", "getset_descriptor"):
        return _walk(tg.Tensor, function.__name__)
    if name.startswith("__"):
        return _walk(tg.Tensor, name)
    return _walk(tg, name) if hasattr_path(tg, name) else _walk(tg.Tensor, name)


def hasattr_path(module: Any, path: str) -> bool:
    try:
        _walk(module, path)
    except Absent:
        return False
    return True


def _in_cell(value: Any) -> Any:
    if isinstance(value, OpInfo):
        return value
    if callable(value) and getattr(value, "__module__", None) and "testing" in value.__module__:
        return counterpart(value)
    if callable(value) and not isinstance(value, type):
        found = next((path for path in _paths(value) if hasattr_path(tg, path)), None)
        return _walk(tg, found) if found else value
    return translated(value, {})


def _paths(function: Any) -> Iterator[str]:
    name = getattr(function, "__name__", "")
    module = (getattr(function, "__module__", "") or "").removeprefix("torch").strip(".")
    yield f"{module}.{name}".strip(".")
    yield name


def translated(value: Any, seen: dict[int, Any]) -> Any:
    """A value of PyTorch's as tapegrad's; what `seen` holds, by identity, is the same tensor again."""
    if isinstance(value, torch.Tensor):
        if id(value) not in seen:
            is_dense = value.device.type == "cpu" and value.layout == torch.strided and value.ndim <= 64
            if value.dtype not in _DTYPES or not is_dense:
                raise Unsupported(f"{value.dtype} on {value.device}")
            made = tg.from_numpy(value.detach().resolve_conj().resolve_neg().numpy())
            if not value.requires_grad:
                made = made if not value.is_contiguous() else made.clone()
            elif value.is_contiguous():
                made = made.clone().requires_grad_()
            else:
                made = made.requires_grad_()
            seen[id(value)] = made
        return seen[id(value)]
    if isinstance(value, torch.dtype):
        if value not in _DTYPES:
            raise Unsupported(str(value))
        return _DTYPES[value]
    if isinstance(value, (torch.device, torch.Generator, complex)):
        if str(value) != "cpu":
            raise Unsupported(repr(value))
        return "cpu"
    if isinstance(value, (torch.memory_format, torch.layout)):
        return _walk(tg, str(value).removeprefix("torch."))
    if isinstance(value, torch.Size):
        return tuple(value)
    if isinstance(value, slice):
        return slice(*(translated(part, seen) for part in (value.start, value.stop, value.step)))
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(translated(item, seen) for item in value))
    if isinstance(value, (list, tuple)):
        return type(value)(translated(item, seen) for item in value)
    if isinstance(value, dict):
        return {key: translated(item, seen) for key, item in value.items()}
    if type(value).__module__.startswith("torch") or (getattr(value, "__module__", None) or "").startswith("torch"):
        if isinstance(value, torch.nn.Module) and hasattr(tg.nn, type(value).__name__):
            return getattr(tg.nn, type(value).__name__)()
        if dataclasses.is_dataclass(value) and not isinstance(value, type) and hasattr(tg.nn, type(value).__name__):
            facts = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
            return getattr(tg.nn, type(value).__name__)(**translated(facts, seen))
        found = next((path for path in _paths(value) if hasattr_path(tg, path)), None)
        if found is None:
            raise Absent(getattr(value, "__name__", repr(value)))
        return _walk(tg, found)
    return value


def tensors(value: Any, kind: type) -> list[Any]:
    """The tensors of a nested container, in order, each once; and the numbers among results."""
    found: list[Any] = []

    def visit(item: Any) -> None:
        if isinstance(item, kind):
            if not any(item is other for other in found):
                found.append(item)
        elif isinstance(item, (list, tuple)):
            for part in item:
                visit(part)
        elif isinstance(item, dict):
            for part in item.values():
                visit(part)

    visit(value)
    return found


def flat(value: Any) -> list[Any]:
    if isinstance(value, (list, tuple)):
        return [leaf for item in value for leaf in flat(item)]
    return [value]


# --- comparing --------------------------------------------------------------------------------------------------------


def array(value: Any) -> Any:
    return value.detach().numpy(force=True) if isinstance(value, torch.Tensor) else value


def mine(value: Any) -> Any:
    return value.detach().numpy() if isinstance(value, tg.Tensor) else value


def differ(expected: Any, got: Any, *, values: bool = True, what: str = "value") -> str | None:
    """What is wrong with a result, if anything is."""
    left, right = flat(expected), flat(got)
    if len(left) != len(right):
        return f"{what}: {len(right)} results, PyTorch {len(left)}"
    for theirs, ours in zip(left, right, strict=True):
        if isinstance(theirs, torch.Tensor) != isinstance(ours, tg.Tensor):
            return f"{what}: {type(ours).__name__} for {type(theirs).__name__}"
        a, b = np.asarray(array(theirs)), np.asarray(mine(ours))
        if isinstance(theirs, torch.dtype) or a.dtype == object:
            continue
        if a.dtype != b.dtype:
            return f"{what}: {b.dtype} for {a.dtype}"
        if a.shape != b.shape:
            return f"{what}: shape {b.shape} for {a.shape}"
        if b.dtype.kind == "f" and what != "value":  # by convention (`ops/__init__.py`) there are fewer that are nan
            a = np.where(np.isnan(a) & np.isfinite(b), b, a)
        if values and not near(a, b):
            return f"{what}: {_short(b)} for {_short(a)}"
    return None


def near(a: np.ndarray, b: np.ndarray) -> bool:
    if a.dtype.kind != "f":
        return bool((a == b).all())
    rtol = 1e-8 if a.dtype == np.float64 else 1e-3
    finite = a[np.isfinite(a)]
    scale = float(np.abs(finite).max()) if finite.size else 0.0
    return np.allclose(b, a, rtol=rtol, atol=rtol * max(scale, 1e-3), equal_nan=True)


def _short(a: np.ndarray) -> str:
    return np.array2string(a.ravel()[:6], precision=4, separator=",").replace("\n", "")


def adjoints(results: list[Any], seed: int) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [np.asarray(random.uniform(0.5, 1.5, tuple(r.shape)), str(r.dtype).rpartition(".")[2]) for r in results]


# --- checks: each yields nothing, or what is wrong --------------------------------------------------------------------


class Sample:
    """One sample, in both libraries."""

    def __init__(self, op: Any, sample: Any) -> None:
        self.op, self.sample = op, sample
        self.theirs = (sample.input, sample.args, sample.kwargs)
        self.ours = translated(self.theirs, {})
        self.function = counterpart(op.op, op.name)
        process = sample.output_process_fn_grad
        self.process, self.processed = process, counterpart(process) if "testing" in process.__module__ else process
        self.structured = op.gradcheck_wrapper
        self.has_structure = not {self.structured.__name__, *self.structured.__code__.co_names}.isdisjoint(STRUCTURED)
        self.random = op.name in RANDOM or bool(sample.kwargs.get("dropout_p"))

    def determined(self, theirs: Any, ours: Any) -> tuple[Any, Any]:
        """Results, or what is determined of them."""
        return (self.process(theirs), self.processed(ours)) if self.op.name in UP_TO_SIGNS else (theirs, ours)

    def run_theirs(self, given: Any = None) -> Any:
        input, args, facts = given or self.theirs
        return self.op.op(input, *args, **facts)

    def run_ours(self, given: Any = None) -> Any:
        input, args, facts = given or self.ours
        return self.function(input, *args, **facts)

    def theirs_of_structure(self, given: Any = None) -> Any:
        """As `run_theirs`, of matrices that are made of the structure that the operator takes them to have."""
        input, args, facts = given or self.theirs
        return self.structured(self.op.op, input, *args, **facts)

    def ours_of_structure(self, given: Any = None) -> Any:
        input, args, facts = given or self.ours
        return counterpart(self.structured)(self.function, input, *args, **facts)

    def to_differentiate(self, theirs: Any, ours: Any) -> tuple[Any, Any]:
        """The results, or where that is another function, those of it."""
        return (self.theirs_of_structure(), self.ours_of_structure()) if self.has_structure else (theirs, ours)


def gradients(s: Sample, theirs: Any, ours: Any, order: int, given: Any = None) -> Iterator[tuple[str, str | None]]:
    """Compare gradients of the first order, and of the second."""
    givens_theirs, givens_ours = given or (s.theirs, s.ours)
    x = [t for t in tensors(givens_theirs, torch.Tensor) if t.requires_grad]
    u = [t for t in tensors(givens_ours, tg.Tensor) if t.requires_grad]
    y = [t for t in flat(s.process(theirs)) if isinstance(t, torch.Tensor)]
    v = [t for t in flat(s.processed(ours)) if isinstance(t, tg.Tensor)]
    kept = [k for k, t in enumerate(y) if t.requires_grad]
    if not x or not kept:
        return
    if lost := [k for k in kept if not v[k].requires_grad]:
        yield "order 1", f"order 1: result {lost[0]} does not require grad"
        return
    y, v = [y[k] for k in kept], [v[k] for k in kept]
    seeds = adjoints(y, 1)
    second = order == 2 and s.op.supports_gradgrad
    try:
        first_t = torch.autograd.grad(y, x, [torch.tensor(g) for g in seeds], create_graph=second, allow_unused=True)
    except (NotImplementedError, RuntimeError):
        return  # PyTorch has none: of acosh in place, of det in float32 where the default is float64
    first_o = tg.autograd.grad(v, u, [tg.tensor(g) for g in seeds], create_graph=second, allow_unused=True)
    yield "order 1", _differ_or_zero(first_t, first_o, x, "order 1")
    if not second:
        return
    dy = [g for g in first_t if g is not None and g.requires_grad]
    kept = [k for k, g in enumerate(first_t) if g is not None and g.requires_grad]
    if not dy:
        return
    seeds = adjoints(dy, 2)
    try:
        second_t = torch.autograd.grad(dy, x, [torch.tensor(g) for g in seeds], allow_unused=True)
    except (RuntimeError, NotImplementedError):
        return
    dv = [(first_o[k], g) for k, g in zip(kept, seeds, strict=True)]
    dv = [(g, seed) for g, seed in dv if g is not None and g.requires_grad]
    if dv:
        second_o = tg.autograd.grad([g for g, _ in dv], u, [tg.tensor(seed) for _, seed in dv], allow_unused=True)
    else:
        second_o = (None,) * len(u)
    yield "order 2", _differ_or_zero(second_t, second_o, x, "order 2")


def _differ_or_zero(theirs: Any, ours: Any, x: list[torch.Tensor], what: str) -> str | None:
    for a, b, base in zip(theirs, ours, x, strict=True):
        a = torch.zeros_like(base) if a is None else a
        b = tg.zeros(tuple(base.shape), dtype=_DTYPES[base.dtype]) if b is None else b
        if wrong := differ(a, b, what=what):
            return wrong
    return None


def forward(s: Sample) -> str | None:
    """Tangents."""
    x = [t for t in tensors(s.theirs, torch.Tensor) if t.requires_grad]
    u = [t for t in tensors(s.ours, tg.Tensor) if t.requires_grad]
    if not x:
        return None
    seeds = adjoints(x, 3)

    def substituted(structure: Any, old: list[Any], new: Any) -> Any:
        if isinstance(structure, (torch.Tensor, tg.Tensor)):
            return next((b for a, b in zip(old, new, strict=True) if a is structure), structure)
        if isinstance(structure, (list, tuple)) and not hasattr(structure, "_fields"):
            return type(structure)(substituted(item, old, new) for item in structure)
        if isinstance(structure, dict):
            return {key: substituted(item, old, new) for key, item in structure.items()}
        return structure

    def keep(process: Callable[..., Any], kind: type, run: Callable[..., Any], given: Any, old: list[Any]) -> Any:
        def function(*new: Any) -> Any:
            results = flat(process(run(substituted(given, old, new))))
            return tuple(t for t in results if isinstance(t, kind) and t.dtype.is_floating_point)

        return function

    run_theirs, run_ours = s.run_theirs, s.run_ours
    if s.has_structure:
        run_theirs, run_ours = s.theirs_of_structure, s.ours_of_structure
    f = keep(s.process, torch.Tensor, run_theirs, s.theirs, x)
    try:
        _, expected = torch.func.jvp(f, tuple(t.detach() for t in x), tuple(torch.tensor(g) for g in seeds))
    except (RuntimeError, NotImplementedError):
        return None
    f = keep(s.processed, tg.Tensor, run_ours, s.ours, u)
    _, got = tg.func.jvp(f, tuple(t.detach() for t in u), tuple(tg.tensor(g) for g in seeds))
    return differ(expected, got, what="forward")


def in_place(s: Sample) -> str | None:
    """The method that writes its result into its tensor."""
    name = getattr(s.op.inplace_variant, "__name__", "")
    if not name.endswith("_") or s.sample.broadcasts_input or not isinstance(s.sample.input, torch.Tensor):
        return None

    def run(given: Any, call: Any) -> Any:
        input, args, facts = given
        written = input.clone()
        call(written, *args, **facts)
        return written

    try:
        theirs = run(s.theirs, s.op.inplace_variant)
    except (RuntimeError, TypeError, ValueError):
        return None
    ours = run(s.ours, _walk(tg.Tensor, name))
    if wrong := differ(theirs, ours, values=not s.random, what="in place"):
        return wrong
    return None if s.random else next((w for _, w in gradients(s, theirs, ours, 1) if w), None)


def strided(op: Any, sample: Any) -> str | None:
    return whole(Sample(op, sample.noncontiguous()))


def whole(s: Sample) -> str | None:
    """Value and order 1."""
    theirs, ours = s.run_theirs(), s.run_ours()
    if wrong := differ(*s.determined(theirs, ours), values=not s.random):
        return wrong
    return (
        None
        if s.random
        else next((wrong for _, wrong in gradients(s, *s.to_differentiate(theirs, ours), 1) if wrong), None)
    )


def checked(op: Any, sample: Any, checks: tuple[str, ...]) -> Iterator[tuple[str, str | None]]:
    """What a sample comes to: a check and what is wrong with it."""
    s = Sample(op, sample)
    theirs, ours = s.run_theirs(), s.run_ours()
    yield "value", differ(*s.determined(theirs, ours), values=not s.random)
    if s.random:
        return
    if op.supports_autograd:
        yield from gradients(s, *s.to_differentiate(theirs, ours), 2 if "order 2" in checks else 1)
    if "forward" in checks and op.supports_forward_ad and op.supports_autograd:
        yield "forward", forward(Sample(op, sample))
    if "in place" in checks and op.inplace_variant is not None:
        yield "in place", in_place(Sample(op, sample))
    if "strided" in checks:
        yield "strided", strided(op, sample)


def errors(op: Any) -> Iterator[str | None]:
    """Error inputs: the exception must be PyTorch's, or one that is caught as it."""
    for case in op.error_inputs("cpu"):
        sample = case.sample_input
        try:
            op.op(sample.input, *sample.args, **sample.kwargs)
        except Exception as error:
            expected = error
        else:
            continue
        try:
            given = translated((sample.input, sample.args, sample.kwargs), {})
        except (Unsupported, Absent):
            continue
        kind = RuntimeError if isinstance(expected, NotImplementedError) else type(expected)
        kind = tg.linalg.LinAlgError if isinstance(expected, torch.linalg.LinAlgError) else kind
        try:
            input, args, facts = given
            counterpart(op.op, op.name)(input, *args, **facts)
        except Absent:
            raise
        except Exception as error:
            yield None if isinstance(error, kind) else f"errors: {_said(error)} for {_said(expected)}"
        else:
            yield f"errors: none for {_said(expected)}"


def _said(error: Exception) -> str:
    """An error, without the line of ours that it came from."""
    text = re.sub(r",? (?:recorded )?at \S+:\d+", "", str(error))
    return f"{type(error).__name__}: {text[:100]}"


# --- an entry ---------------------------------------------------------------------------------------------------------


def family(op: Any) -> str:
    first = op.name.split(".")[0]
    return FAMILIES.get(".".join(op.name.split(".")[:2]) if first == "nn" else first) or _CLASSES.get(
        type(op).__name__, "others"
    )


def title(op: Any) -> str:
    return f"{op.name}/{op.variant_test_name}" if op.variant_test_name else op.name


def left_out(op: Any) -> str | None:
    for reason, names in LEFT_OUT.items():
        if any(fnmatch.fnmatchcase(op.name, pattern) for pattern in names.split()):
            return reason
    return None


def entries(only: str = "*") -> list[int]:
    """Where in the table the entries of these names are, but for those that are left out."""
    patterns = only.split(",")
    return [
        k
        for k, op in enumerate(op_db)
        if not left_out(op) and any(fnmatch.fnmatchcase(n, p) for p in patterns for n in (op.name, title(op)))
    ]


def examined(index: int, checks: tuple[str, ...] = CHECKS) -> dict[str, Any]:
    """How an entry of the table does: by check, the samples that pass, all of them, and what is wrong first."""
    op, begun = op_db[index], time.process_time()
    passed: collections.Counter[str] = collections.Counter()
    asked: collections.Counter[str] = collections.Counter()
    first: dict[str, str] = {}

    def note(check: str, wrong: str | None) -> None:
        asked[check] += 1
        passed[check] += not wrong
        if wrong:
            first.setdefault(check, wrong)

    def attempt(check: str, steps: Callable[[], Iterator[tuple[str, str | None]]]) -> None:
        last = check
        try:
            for last, wrong in steps():
                note(last, wrong)
        except Unsupported:
            return
        except Absent as absent:
            note(check, f"absent: {absent}")
        except Exception as error:
            note(last if last != "value" else check, _said(error))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.seterr(all="ignore")
        for dtype in (torch.float64, torch.float32):
            single = dtype == torch.float32
            supported = dtype if dtype in op.dtypes else torch.int64 if torch.int64 in op.dtypes else None
            if supported is None or (single and ("float32" not in checks or supported != dtype)):
                continue
            torch.manual_seed(0)
            samples = op.sample_inputs(
                "cpu", supported, requires_grad=op.supports_autograd and supported.is_floating_point
            )
            for sample in samples:
                if single:
                    attempt("float32", lambda sample=sample: iter([("float32", whole(Sample(op, sample)))]))
                else:
                    attempt("value", lambda sample=sample: checked(op, sample, checks))
        if "errors" in checks and op.error_inputs_func is not None:
            attempt("errors", lambda: (("errors", wrong) for wrong in errors(op)))
    return {
        "title": title(op),
        "family": family(op),
        "differentiable": bool(op.supports_autograd),
        "seconds": time.process_time() - begun,
        "checks": {check: (passed[check], asked[check]) for check in CHECKS if asked[check]},
        "first": first,
    }


def _prepare() -> None:
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)


def all_examined(only: str, checks: tuple[str, ...], jobs: int) -> Iterator[dict[str, Any]]:
    chosen = entries(only)
    if jobs == 1:
        _prepare()
        yield from (examined(k, checks) for k in chosen)
        return
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(jobs, context, _prepare) as pool:
        yield from pool.map(examined, chosen, [checks] * len(chosen), chunksize=4)


def is_whole(entry: dict[str, Any], *checks: str) -> bool:
    found = entry["checks"]
    return (
        bool(found) and all(found[c][0] == found[c][1] for c in checks or CHECKS if c in found) and ("value" in found)
    )


def report(results: list[dict[str, Any]]) -> str:
    """The table, by family, and what is not whole."""
    lines = [
        "# PyTorch's table of operators, on tapegrad",
        "",
        "`make operators` writes this page. It runs the sample inputs and error inputs of PyTorch's own tests",
        f"(`op_db` of {torch.__version__.partition('+')[0]}) through both libraries; `operator_table.py` says how.",
        f"Left out: {', '.join(LEFT_OUT)}.",
        "",
        "| family | entries | differentiable | of these order 1 | order 2 | forward mode | whole in every check |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    names = sorted({entry["family"] for entry in results})
    for name in [*names, "all"]:
        of = [entry for entry in results if name in (entry["family"], "all")]
        d = [entry for entry in of if entry["differentiable"]]
        counts = [sum(is_whole(e, "value", "order 1", *more) for e in d) for more in ((), ("order 2",), ("forward",))]
        lines.append(
            f"| {name} | {len(of)} | {len(d)} | {counts[0]} | {counts[1]} | {counts[2]} | {sum(map(is_whole, of))} |"
        )
    lines += ["", "## Where PyTorch's derivatives are not those of the function", ""]
    lines += [f"- `{names}`: {why}." for names, why in OTHER_DERIVATIVES.items()]
    lines += [
        "",
        "## Not whole",
        "",
        "| entry | " + " | ".join(CHECKS) + " | first |",
        "|---|" + "---:|" * len(CHECKS) + "---|",
    ]
    for entry in sorted(results, key=lambda e: e["title"]):
        if not is_whole(entry):
            cells = [f"{p} of {n}" if p < n else str(n) for p, n in (entry["checks"].get(c, (0, 0)) for c in CHECKS)]
            told = next(iter(entry["first"].values()), "no sample").replace("|", "\\|").replace("\n", " ")
            lines.append(f"| `{entry['title']}` | {' | '.join(cells)} | {told} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default="*", help="names, or patterns of them, with commas between")
    parser.add_argument("--checks", default=",".join(CHECKS), help="which checks")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes")
    chosen = parser.parse_args()
    results = []
    for entry in all_examined(chosen.only, tuple(chosen.checks.split(",")), chosen.jobs):
        results.append(entry)
        if entry["seconds"] > SLOW:
            print(f"{entry['title']} took {entry['seconds']:.0f} s", file=sys.stderr)
        if chosen.only != "*":
            told = ", ".join(f"{c} {p}/{n}" for c, (p, n) in entry["checks"].items())
            print(f"{'ok  ' if is_whole(entry) else 'NOT '} {entry['title']}: {told}", flush=True)
            for check, wrong in entry["first"].items():
                print(f"       {check}: {wrong}")
    text = report(results)
    if chosen.only == "*":
        WRITTEN.write_text(text)
    print(text.partition("## Not whole")[0])


if __name__ == "__main__":
    main()
