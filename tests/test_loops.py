"""The loops around scalar functions, alone: compiled, in Python, and as NumPy says; in every mode."""

import ctypes
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numba import njit

from tapegrad import kernels
from tapegrad.dtypes import DTYPES
from tapegrad.kernels import CELLS, loops, native
from tapegrad.kernels.loops import FRESH
from tapegrad.kinds import address_of
from tapegrad.ops.declare import OPS, Op, parameters

A, B, C = 1, 2, 4
COUNTS = (0, 1, 7, 8, 63, 64, 1000)
GUARD = 9  # elements behind the last that a kernel may write
FLOAT64, FLOAT32, INT64, BOOL = 4, 3, 2, 0
WIDTHS = pytest.mark.parametrize("code", [FLOAT64, FLOAT32], ids=["float64", "float32"])

by_name: dict[str, Op] = {op.name: op for op in OPS}

pytestmark = pytest.mark.nojit


def np_sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


# Values, and the partials that there are, as functions of operands and result.
FORWARD: dict[str, Callable[..., Any]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "maximum": np.maximum,
    "gt": np.greater,
    "atan2": np.arctan2,
    "exp": np.exp,
    "sin": np.sin,
    "neg": np.negative,
    "sigmoid": np_sigmoid,
    "where": np.where,
    "clamp": lambda a, b, c: np.minimum(np.maximum(a, b), c),
}
REVERSE: dict[str, tuple[Callable[..., Any] | None, ...]] = {
    "add": (lambda a, b, y: 1.0, lambda a, b, y: 1.0),
    "sub": (lambda a, b, y: 1.0, lambda a, b, y: -1.0),
    "mul": (lambda a, b, y: b, lambda a, b, y: a),
    "div": (lambda a, b, y: 1 / b, lambda a, b, y: -y / b),
    "maximum": (lambda a, b, y: a > b, lambda a, b, y: b > a),
    "atan2": (lambda a, b, y: b / (a * a + b * b), lambda a, b, y: -a / (a * a + b * b)),
    "exp": (lambda a, y: y,),
    "sin": (lambda a, y: np.cos(a),),
    "neg": (lambda a, y: -1.0,),
    "sigmoid": (lambda a, y: y * (1 - y),),
    "where": (None, lambda a, b, c, y: a, lambda a, b, c, y: ~a),
    "clamp": (
        lambda a, b, c, y: (a >= b) & (a <= c),
        lambda a, b, c, y: (a < b) & (b < c),
        lambda a, b, c, y: (a > c) | (b > c),
    ),
}
assert FORWARD.keys() == REVERSE.keys() | {"gt"}


def kernel(op: Op, code: int, part: int) -> Callable[..., None]:
    """The kernel at a place in the table, to be called with int64."""
    kernels.require(op, code, reverse=part > 0)
    address = int(kernels.table[(op.opcode * len(DTYPES) + code) * CELLS + part])
    assert address
    if not native.JIT:
        return native._functions[address - 1]
    return ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * (8 if part else 6))(address)


def maker(code: int) -> Callable[[int, int], np.ndarray]:
    dtype = DTYPES[code].numpy

    def at(address: int, n: int) -> np.ndarray:
        memory: Any = (ctypes.c_char * (n * dtype.itemsize)).from_address(address) if n else b""
        return np.frombuffer(memory, dtype)

    return at


def codes_of(op: Op, code: int) -> dict[str, int]:
    signature = op.signature(code)
    return {**dict(zip("abc", signature[:-1], strict=False)), "y": signature[-1]}


def drawn(code: int, n: int, seed: int) -> np.ndarray:
    """Elements for a kernel to read: an array of at least one, so that it has an address."""
    dtype, rng = DTYPES[code].numpy, np.random.default_rng(seed)
    if code == BOOL:
        return rng.integers(0, 2, max(n, 1)).astype(dtype)
    if code == INT64:
        return rng.integers(-9, 9, max(n, 1))
    return (rng.uniform(0.2, 1.5, max(n, 1)) * rng.choice([-1, 1], max(n, 1))).astype(dtype)


def expanded(arrays: dict[str, np.ndarray], mode: int, n: int) -> dict[str, np.ndarray]:
    """Operands as the mode says that a kernel sees them."""
    bits = {"a": 1, "b": 2, "c": 4, "y": 8}
    return {v: np.repeat(a[:1], n) if mode & bits[v] else a[:n] for v, a in arrays.items()}


def tolerance(code: int) -> dict[str, float]:
    return {"rtol": 4e-15, "atol": 1e-15} if code == FLOAT64 else {"rtol": 2e-6, "atol": 1e-6}


def for_python(function: Callable[..., Any]) -> Callable[..., Any]:
    """What jitted code calls, compiled once more for Python to call."""
    called = kernels.scalar(function, True)
    return njit(error_model="numpy", nogil=True)(getattr(called, "py_func", called))


# --- forward ----------------------------------------------------------------------------------------------------------


def forward_modes(op: Op) -> tuple[int, ...]:
    return (0, *loops.single_modes("abc"[: op.arity]))


@WIDTHS
@pytest.mark.parametrize("name", FORWARD)
def test_values_in_every_mode(name: str, code: int):
    op = by_name[name]
    codes = codes_of(op, code)
    compiled = kernel(op, code, 0)
    plain = loops.plain_forward(for_python(op.function), [maker(codes[v]) for v in (*"abc"[: op.arity], "y")])
    for n, mode in itertools.product(COUNTS, forward_modes(op)):
        arrays = {v: drawn(codes[v], n, seed) for seed, v in enumerate("abc"[: op.arity])}
        before = drawn(codes["y"], n + GUARD, 7)
        expected = before.copy()
        with np.errstate(all="ignore"):
            expected[:n] = FORWARD[name](*expanded(arrays, mode, n).values())
        addresses = [address_of(arrays[v]) if v in arrays else 0 for v in "abc"]
        for function in (compiled, plain) if n <= 64 else (compiled,):
            y = before.copy()
            function(n, mode, *addresses, address_of(y))
            np.testing.assert_allclose(y, expected, **tolerance(code), err_msg=f"{n}, {mode}")
            assert y[n:].tobytes() == before[n:].tobytes()


@pytest.mark.parametrize("to", [BOOL, INT64, FLOAT32, FLOAT64], ids=["bool", "int64", "float32", "float64"])
@pytest.mark.parametrize("source", [BOOL, INT64, FLOAT32, FLOAT64], ids=["bool", "int64", "float32", "float64"])
def test_conversions(source: int, to: int):
    convert = kernel(by_name[f"to_{DTYPES[to].name}"], source, 0)
    for n in COUNTS:
        x = drawn(source, n, 0)
        x[::5] = 0
        before = drawn(to, n + GUARD, 1)
        y = before.copy()
        convert(n, 0, address_of(x), 0, 0, address_of(y))
        np.testing.assert_array_equal(y[:n], x[:n].astype(DTYPES[to].numpy))
        assert y[n:].tobytes() == before[n:].tobytes()


def test_a_condition_is_true_where_its_byte_is_not_zero():
    """NumPy's bools are 0 and 1; memory that it was lent may hold others."""
    choose = kernel(by_name["where"], FLOAT64, 0)
    condition = np.array([0, 1, 2, 128, 255, 0], np.uint8)
    p, q, y = np.arange(1.0, 7.0), -np.arange(1.0, 7.0), np.zeros(6)
    if native.JIT:
        choose(6, 0, address_of(condition), address_of(p), address_of(q), address_of(y))
        assert y.tolist() == [-1.0, 2.0, 3.0, 4.0, 5.0, -6.0]


def test_an_operand_may_be_there_twice():
    x, y = drawn(FLOAT64, 100, 0), np.zeros(100)
    kernel(by_name["mul"], FLOAT64, 0)(100, 0, address_of(x), address_of(x), 0, address_of(y))
    np.testing.assert_array_equal(y, x * x)


# --- reverse ----------------------------------------------------------------------------------------------------------


def read_by(op: Op, k: int) -> str:
    rule = op.partials[k]
    assert rule is not None
    return "".join({"x": "a", "n": "b"}.get(v, v) for v in parameters(rule))


PARTIALS = [(name, k) for name, rules in REVERSE.items() for k, rule in enumerate(rules) if rule is not None]


@WIDTHS
@pytest.mark.parametrize(("name", "k"), PARTIALS)
def test_partials_in_every_mode(name: str, k: int, code: int):
    op = by_name[name]
    codes, read = codes_of(op, code), read_by(op, k)
    operands, bar, partial = "abc"[: op.arity], codes["abc"[k]], REVERSE[name][k]
    compiled = kernel(op, code, 1 + k)
    plain = loops.plain_reverse(
        for_python(op.partials[k]), read, [maker(codes[v]) for v in read] + [maker(codes["y"]), maker(bar)]
    )
    assert partial is not None
    for n, single, fresh in itertools.product(COUNTS, (0, *loops.partial_modes(read)), (0, FRESH)):
        arrays = {v: drawn(codes[v], n, seed) for seed, v in enumerate(operands)}
        # Only what is read may be one number; the rest is expanded likewise, so that y belongs to it.
        seen = expanded(arrays, single, n)
        with np.errstate(all="ignore"):
            arrays["y"] = np.zeros(max(n, 1), DTYPES[codes["y"]].numpy)
            arrays["y"][:n] = FORWARD[name](*seen.values())
            slopes = np.broadcast_to(partial(*seen.values(), arrays["y"][:n]), n)
        y_bar = drawn(codes["y"], n, 8)
        before = drawn(bar, n + GUARD, 9)
        expected = before.copy()
        expected[:n] = y_bar[:n] * slopes + (0 if fresh else before[:n])
        addresses = [address_of(arrays[v]) if v in read else 0 for v in "abcy"]
        for function in (compiled, plain) if n <= 64 else (compiled,):
            k_bar = before.copy()
            function(n, single | fresh, *addresses, address_of(y_bar), address_of(k_bar))
            np.testing.assert_allclose(k_bar, expected, **tolerance(code), err_msg=f"{n}, {single}, {fresh}")
            assert k_bar[n:].tobytes() == before[n:].tobytes()


def test_a_fresh_adjoint_is_not_read():
    """What was there before may be anything: not even nan gets through."""
    y_bar, x, y = np.ones(100), drawn(FLOAT64, 100, 0), np.full(100, np.nan)
    kernel(by_name["sin"], FLOAT64, 1)(100, FRESH, address_of(x), 0, 0, 0, address_of(y_bar), address_of(y))
    np.testing.assert_allclose(y, np.cos(x), rtol=4e-15)


@pytest.mark.parametrize(("source", "to"), [(FLOAT32, FLOAT64), (FLOAT64, FLOAT32), (FLOAT64, FLOAT64)])
def test_adjoints_of_conversions_are_converted_back(source: int, to: int):
    reverse = kernel(by_name[f"to_{DTYPES[to].name}"], source, 1)
    for n, fresh in itertools.product(COUNTS, (0, FRESH)):
        y_bar, before = drawn(to, n, 0), drawn(source, n + GUARD, 1)
        expected = before.copy()
        expected[:n] = y_bar[:n].astype(expected.dtype) + (0 if fresh else before[:n])
        x_bar = before.copy()
        reverse(n, fresh, 0, 0, 0, 0, address_of(y_bar), address_of(x_bar))
        np.testing.assert_array_equal(x_bar, expected)


def test_integers_and_bools_have_no_adjoints():
    for op, code in ((by_name["mul"], INT64), (by_name["to_float64"], BOOL), (by_name["gt"], FLOAT64)):
        kernels.require(op, code, reverse=True)
        at = (op.opcode * len(DTYPES) + code) * CELLS
        assert not kernels.table[at + 1 : at + 3].any()


# --- the text ---------------------------------------------------------------------------------------------------------


def test_which_operands_may_be_one_number():
    assert loops.single_modes("a") == ()
    assert loops.single_modes("ab") == (A, B)
    assert loops.single_modes("abc") == ()
    assert [loops.partial_modes(read) for read in ("", "a", "b", "c", "y", "ab", "by")] == [
        (), (A,), (B,), (C,), (), (), ()
    ]  # fmt: skip


def test_the_text_has_a_loop_for_each_mode():
    text = loops.forward_ir("f", ["double", "double"], (FLOAT64, FLOAT64, FLOAT64))
    assert [f"loop{mode}:" in text for mode in (0, A, B, C)] == [True, True, True, False]
    text = loops.reverse_ir("f", ["double"], "b", {"b": FLOAT64}, FLOAT32, FLOAT64)
    assert [f"loop{mode}:" in text for mode in (0, B, FRESH, B | FRESH, A)] == [True, True, True, True, False]
    assert "fptrunc double" in text
    assert "icmp ne i8" in loops.forward_ir("f", ["i1", "double", "double"], (BOOL, FLOAT64, FLOAT64, FLOAT64))
