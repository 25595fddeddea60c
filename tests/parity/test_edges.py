"""Borderline arguments: nan for bounds, empty parts, the ends of the integers; values, gradients and dtypes."""

import pytest

from .oracle import agree, refuse_alike

LEAVES = "x = tg.tensor([[0.5, -1.5, 2.0], [3.0, 0.0, -0.25]], requires_grad=True); "
GRADS = "; (y * weights(y)).sum().backward(); x.grad"
NAN_BOUNDS = ["nan, 5.0", "-1.0, nan", "nan, nan", "min=nan", "max=nan", "2.0, -1.0"]
TENSOR_BOUNDS = [
    "min=tg.tensor([nan, 0.0, 1.0])",
    "max=tg.tensor([nan, 0.0, 1.0])",
    "tg.tensor([nan, -1.0, 1.0]), tg.tensor([1.0, nan, 0.5])",
]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("bounds", NAN_BOUNDS + TENSOR_BOUNDS)
def test_bounds_that_are_nan_give_nan(bounds: str, dtype: str):
    leaf = f"x = tg.tensor([[0.5, -1.5, nan], [3.0, 0.0, inf]], dtype=tg.{dtype}, requires_grad=True); "
    bounds = bounds.replace("])", f"], dtype=tg.{dtype})")
    agree(f"{leaf}y = x.clamp({bounds}){GRADS}", text=False)


def test_gradients_of_bounds_that_are_nan():
    agree(
        "x = tg.tensor([0.5, -1.5, 2.0]); a = tg.tensor([nan, 0.0, 1.0], requires_grad=True); "
        "b = tg.tensor([1.0, nan, 1.5], requires_grad=True); x.clamp(a, b).sum().backward()"
    )
    agree("tg.tensor([1, 2]).clamp(nan, 3)")


@pytest.mark.parametrize("correction", ["0.5", "1.5", "-0.5", "1.0", "0", "True"])
@pytest.mark.parametrize("dim", ["0", "1", "(0, 1)"])
@pytest.mark.parametrize("name", ["var", "std"])
def test_corrections_need_not_be_integers(name: str, dim: str, correction: str):
    agree(f"{LEAVES}y = x.{name}({dim}, correction={correction}){GRADS}", text=False)


def test_the_second_derivative_with_a_correction_of_a_half():
    agree(
        f"{LEAVES}y = x.std(1, correction=0.5); g, = tg.autograd.grad((y * weights(y)).sum(), x, create_graph=True); "
        "h, = tg.autograd.grad((g * weights(g)).sum(), x)",
        text=False,
    )


RANGES = """
arange(3) arange(2, 5) arange(2, end=5) arange(0, end=3) arange(start=2, end=5) arange(end=4) arange(1, 5, 2)
arange(0, 3, step=2) arange(5, 0, -2) arange(2, 2) arange(0.0, 1.0, 0.25) arange(0.1, -7.9, -4.0, dtype=tg.int64)
arange(0, 5.5, dtype=tg.int64) arange(0, 5.5, dtype=tg.int32) arange(-0.9, 4.9, 1.9, dtype=tg.int64)
arange(0, 2, 0.5, dtype=tg.float32) arange(True) arange(tg.tensor(3)) arange(2**53, 2**53+3) arange(2**62, 2**62+2)
linspace(0, 7, 5, dtype=tg.int64) linspace(7, 0, 4, dtype=tg.int32) linspace(-3.5, 3.5, 6, dtype=tg.int64)
linspace(0, 1, 1) linspace(2.5, 2.5, 3) linspace(0, 1, 0) linspace(start=0, end=1, steps=5) linspace(5, -1, 7)
linspace(tg.tensor(0.0), tg.tensor(1.0), 3) full((2,), 1.7, dtype=tg.int32) full((), -1, dtype=tg.bool)
full([2], tg.tensor(3)) full_like(tg.ones(2), 3) Tensor() Tensor([1.0, 2.5]) Tensor([[1], [2]])""".replace("\n", " ")
VIEWS = [
    "arange(5).narrow(0, -2, 2)", "arange(5).narrow(0, 5, 0)", "arange(5).narrow(0, tg.tensor(1), 2)",
    "zeros(0).chunk(3)", "arange(7).chunk(3)", "arange(3).split([0, 3])", "zeros(0).split(0)",
    "zeros(2, 0).split(2, 1)",
    "movedim(tg.zeros(2, 3, 4), (0, 1), (2, 0))", "movedim(tg.zeros(2, 3), (), ())", "zeros(2, 0).unbind(1)",
    "gather(tg.ones(3, 4), 0, tg.zeros(0, 4, dtype=tg.int64))", "gather(tg.tensor(2.5), 0, tg.tensor(0))",
    "gather(tg.arange(3), 0, tg.tensor(1))", "gather(tg.tensor(2.5), 0, tg.tensor([0, 0]))",
    "gather(tg.arange(6).reshape(2, 3), 1, tg.tensor([[2, 0]]))", "index_select(tg.tensor(2.5), 0, tg.tensor([0]))",
    "index_select(tg.arange(3), 0, tg.tensor(2))", "index_select(tg.arange(3), 0, tg.tensor([], dtype=tg.int64))",
    "nonzero(tg.tensor(2.0))", "nonzero(tg.tensor(0.0), as_tuple=True)", "where(tg.tensor(True))",
    "inner(tg.tensor(2.0), tg.ones(2))", "inner(tg.arange(6).reshape(2, 3), tg.arange(12).reshape(2, 2, 3))",
    "inner(tg.ones(2, 0), tg.ones(3, 0))", "cat([tg.empty(0), tg.ones(2, dtype=tg.float32)])",
    "cat([tg.empty(0, dtype=tg.int64), tg.ones(2, 2, dtype=tg.float32)], 1)", "cat([tg.empty(0), tg.empty(0)], 1)",
]  # fmt: skip
INTEGERS = [
    "div(tg.tensor([7, -7, 2**53 + 1, -(2**53) - 1]), tg.tensor([-2, 2, 1, 1]), rounding_mode='trunc')",
    "div(tg.tensor([7, -7, 2**53 + 1]), 2, rounding_mode='floor')",
    "div(tg.tensor([7, -7]), 2.0, rounding_mode='trunc')",
    "div(tg.ones(2, dtype=tg.float32), tg.tensor(2.0), rounding_mode='trunc')",
    "div(tg.tensor([5.0, -5.0, 1.0, nan, inf]), tg.tensor([0.0, 2.0, inf, 1.0, 1.0]), rounding_mode='trunc')",
    "div(tg.tensor([5.0, -5.0, 1.0, nan, inf]), tg.tensor([0.0, 2.0, inf, 1.0, 1.0]), rounding_mode='floor')",
    *(f"{name}(tg.tensor([2**53 + 1, -(2**62) - 1]))" for name in ("floor", "ceil", "round", "trunc")),
    "add(tg.ones(2, dtype=tg.float32), tg.arange(2), alpha=1.7)", "add(tg.arange(2), 1.5, alpha=2)",
    "sub(tg.arange(2), tg.ones(2, dtype=tg.float32), alpha=0.5)", "sub(tg.arange(2), tg.arange(2), alpha=2**40)",
    "add(tg.tensor([True, False]), tg.tensor([True, True]), alpha=True)", "rsub(tg.arange(2), 5, alpha=3)",
    "pow(tg.tensor([2, 1, -1, -1, 0, 3]), tg.tensor([-1, -3, -3, -2, -1, 40]))", "pow(tg.arange(4), 2**40)",
    "pow(2, tg.tensor([-1, 3]))", "tensor([1, 2**40 + 1]) == 2.0**40", "tensor([1, 3], dtype=tg.int32) < 2.5",
    "tensor([1, 3], dtype=tg.int32) + 2**40", "tensor([1, 3], dtype=tg.int32) * (2**32 + 3)",
    "tensor([-(2**63)]) // -1", "tensor([1, 2]) // 0.0", "tensor([2.5, -2.5]).round(decimals=0)",
    "tensor([12345.0, 2.675]).round(decimals=-2)", "tensor([True, False]).masked_fill_(tg.tensor([True, True]), -2.5)",
    "tensor([1, 2], dtype=tg.int32).masked_fill(tg.tensor([True, False]), 2.5)",
    "tensor([1, 2]).masked_fill(tg.tensor([True, False]), tg.tensor(2.5))",
    "tensor([2**40, 2**31, -(2**31) - 1]).to(tg.int32)", "tensor([1.7, True], dtype=tg.int32)",
    "tensor([nan, 0.0], dtype=tg.bool)",
]  # fmt: skip


@pytest.mark.parametrize("call", [c + ")" for c in RANGES.strip().split(") ")] + VIEWS + INTEGERS)
def test_borderline_calls_agree(call: str):
    call = call.replace("))", ")") if call.count("(") < call.count(")") else call
    agree(f"tg.{call}")


@pytest.mark.parametrize("wide", ["float64", "float32"])
@pytest.mark.parametrize("narrow", ["int64", "int32", "bool"])
@pytest.mark.parametrize("n", [1, 3, 70])
def test_what_an_integer_does_not_hold_is_converted_as_by_pytorch(narrow: str, wide: str, n: int):
    values = "[nan, inf, -inf, 1e30, -1e30, 2.0**31, -(2.0**31) - 1, 2.0**32 + 7, 2.0**40, 2.0**63, 3e9, -3e9]"
    agree(f"tg.from_numpy(np.tile(np.array({values}, '{wide}'), {n})).to(tg.{narrow})")


@pytest.mark.parametrize("mode", ["trunc", "floor"])
def test_rounded_quotients_have_gradients_of_zero(mode: str):
    agree(
        "a = tg.tensor([5.0, 1.0, inf, nan, 2.0], requires_grad=True); "
        "b = tg.tensor([inf, 0.0, 2.0, 1.0, -0.5], requires_grad=True); "
        f"y = tg.div(a, b, rounding_mode='{mode}'); y.sum().backward()",
        text=False,
    )


@pytest.mark.parametrize("shape", ["0", "0, 3", "2, 0"])
@pytest.mark.parametrize("call", ["prod()", "prod(0)", "prod(-1, True)", "sum(0)"])
def test_products_and_sums_of_nothing(call: str, shape: str):
    agree(f"x = tg.ones({shape}, requires_grad=True); y = x.{call}; y.sum().backward()", text=False)


@pytest.mark.parametrize("pieces", ["[x, y]", "[y, x, y]", "[x, x]", "[x, z, x]", "[x, z, z]"])
def test_parts_without_elements_have_gradients(pieces: str):
    agree(
        "x = tg.tensor([], requires_grad=True); y = tg.ones(2, requires_grad=True); "
        f"z = tg.ones(1, 2, requires_grad=True); r = tg.cat({pieces}); (r * weights(r)).sum().backward()",
        text=False,
    )


OVERFLOW = "value cannot be converted to type"
REFUSED = [
    ("tg.tensor([2**40], dtype=tg.int32)", OVERFLOW),
    ("tg.tensor([nan], dtype=tg.int64)", OVERFLOW),
    ("tg.tensor(1e30, dtype=tg.int64)", OVERFLOW),
    ("tg.as_tensor([[1], [2**40]], dtype=tg.int32)", OVERFLOW),
    ("tg.full((2,), 2**40, dtype=tg.int32)", OVERFLOW),
    ("tg.full((2,), nan, dtype=tg.int32)", OVERFLOW),
    ("tg.full((2,), 1e300, dtype=tg.float32)", OVERFLOW),
    ("tg.zeros(2, dtype=tg.int32).fill_(2**40)", OVERFLOW),
    ("tg.zeros(2, dtype=tg.int32).masked_fill(tg.ones(2) > 0, 2**40)", OVERFLOW),
    ("tg.zeros(2, dtype=tg.int32).clamp(0, 2**40)", OVERFLOW),
    ("x = tg.zeros(2, dtype=tg.int32); x[0] = 2**40", OVERFLOW),
    ("tg.full((2,), None)", "full"),
    ("tg.ones(2) + 2**70", "int too big to convert"),
    ("x = tg.ones(2); x + 1; x + 2**70", "int too big to convert"),
    ("tg.arange(5).narrow(0, 2, 10)", "start (2) + length (10) exceeds dimension size (5)."),
    ("tg.arange(5).narrow(0, 0, -1)", "narrow(): length must be non-negative"),
    ("tg.arange(5).narrow(0, 6, 0)", "start out of range (expected to be in range of [-5, 5], but got 6)"),
    (
        "tg.gather(tg.ones(3, 4), 0, tg.zeros(3, dtype=tg.int64))",
        "Index tensor must have the same number of dimensions",
    ),
    (
        "tg.gather(tg.ones(2, 3), 0, tg.zeros(1, 4, dtype=tg.int64))",
        "Size does not match at dimension 1 expected index",
    ),
    ("tg.gather(tg.ones(3), 0, tg.tensor([-1]))", "is out of bounds for dimension 0 with size 3"),
    ("tg.gather(tg.ones(3), 0, tg.tensor([1.0]))", "gather(): Expected dtype int32/int64 for index"),
    ("tg.index_select(tg.zeros(3), 0, tg.tensor([-1]))", "index"),
    ("tg.index_select(tg.zeros(3), 0, tg.zeros(2, 2, dtype=tg.int64))", "Index is supposed to be a vector"),
    ("tg.movedim(tg.zeros(2, 3, 4), (0, 1), (2, 2))", "movedim: repeated dim in `destination`"),
    ("tg.movedim(tg.zeros(2, 3, 4), (0, 1), (2,))", "movedim: Invalid source or destination dims"),
    ("tg.arange(3).split([-1, 4])", "split_with_sizes expects split_sizes have only non-negative entries"),
    ("tg.zeros(3).split(-1)", "split expects split_size be non-negative, but got split_size=-1"),
    ("tg.zeros(3).split(0)", "split_size can only be 0 if dimension size is 0"),
    ("tg.zeros(3).chunk(0)", "chunk expects `chunks` to be greater than 0, got: 0"),
    ("tg.add(tg.arange(2), tg.arange(2), alpha=1.5)", "For integral input tensors, argument alpha must not be a"),
    ("tg.add(tg.arange(2), tg.arange(2), alpha=True)", "Boolean alpha only supported for Boolean results"),
    ("tg.zeros_like('a')", "zeros_like(): argument 'input' (position 1) must be Tensor, not str"),
    ("tg.allclose(tg.ones(2), [1.0])", "allclose(): argument 'other' (position 2) must be Tensor, not list"),
    ("tg.equal([1], tg.ones(2))", "equal(): argument 'input' (position 1) must be Tensor, not list"),
    ("tg.sum(tg.ones(2), 1.5)", "sum()"),
    ("tg.unsqueeze(tg.ones(2), True)", "unsqueeze(): argument 'dim' (position 2) must be int, not bool"),
    ("tg.amax(tg.ones(2, 2), ['a'])", "must be tuple of ints, but found element of type str at pos 0"),
    ("tg.exp([1.5])", "exp(): argument 'input' (position 1) must be Tensor, not list"),
    ("tg.maximum(tg.ones(2), [1.0])", "maximum(): argument 'other' (position 2) must be Tensor, not list"),
    ("tg.ones(2).masked_fill(tg.ones(2), 1.0)", "masked_fill_ only supports boolean masks, but got mask with dtype"),
    ("tg.argmax(tg.tensor([True]))", "argmax(): does not support bool input"),
    ("tg.zeros(2**40, 2**40)", "Storage size calculation overflowed"),
    (
        "tg.inner(tg.ones(2, 3), tg.ones(2))",
        "inner() the last dimension must match on both input tensors but got shapes",
    ),
]


@pytest.mark.parametrize(("program", "phrase"), REFUSED)
def test_borderline_calls_are_refused(program: str, phrase: str):
    refuse_alike(program, phrase)
