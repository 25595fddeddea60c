"""Indexing in all its forms: reading, assigning, and the gradients of both."""

import pytest

from .oracle import DTYPES, agree

# Of a 4 x 3 x 2 tensor.
INDICES = [
    "0",
    "-1",
    "True",
    "False",
    "None",
    "...",
    ":",
    "1:3",
    "::2",
    "1::2",
    "-3:-1",
    "3:1",
    "10:",
    ":10",
    "-10:2",
    "::5",
    "0, 1",
    "0, 1, 1",
    "0, :, 1",
    ":, 0",
    "..., 0",
    "0, ...",
    "..., 1:, 0",
    "0, ..., 1",
    "None, 0",
    "0, None, 1",
    ":, None",
    "..., None",
    "None, ..., None",
    "1:3, ::2, -1",
    "[0]",
    "[0, 2]",
    "[-1, 0, 0]",
    "[True, False, True, False]",
    "[0, 1], [2, 0]",
    "[0, 1], 1",
    "1, [0, 2]",
    "[0, 1], :, [1, 0]",
    ":, [0, 2], [1, 1]",
    ":, [2, 0]",
    "..., [1, 1, 0]",
    "[0, 1], None, [0, 1]",
    "[0, 1], 1:, 1",
    "0, :, [1, 0]",
    "[[0], [1]], [0, 2]",
    "[0, 1, 2], [1]",
    "1:, [0, 1]",
    "None, [0, 1]",
    "(0, 1)",
    "()",
    "[]",
    "np.array([0, 2])",
    "np.array([True, False, True, False])",
    "np.array([[0, 1], [3, 3]]), 0",
    "np.int64(1)",
    "np.int64(1), slice(None), np.int32(0)",
    "tg.tensor([3, 1])",
    "tg.tensor(2)",
    "tg.tensor([True, False, False, True])",
    "tg.tensor([], dtype=tg.int64)",
    "tg.tensor([[0, 1], [2, 3]], dtype=tg.int32)",
    ":, tg.tensor([True, False, True])",
    "..., tg.tensor([1, 0])",
    "tg.tensor([0, 1]), tg.tensor([1, 2]), tg.tensor([0, 1])",
    "x > 0",
    "x[:, 0, 0] > 0",
    "x[..., 0] > 0",
    "x > 9",
    "1:, x[0] > 0",
    "tg.tensor([False, False, False, False])",
    "slice(1, None, 2)",
    "slice(tg.tensor(1), tg.tensor(3))",
    "tg.tensor(True)",
]


@pytest.mark.parametrize("index", INDICES)
def test_reading(index: str):
    agree(f"x = tg.tensor(reals(4, 3, 2)); x[{index}]")


@pytest.mark.parametrize("index", INDICES)
def test_gradient_of_reading(index: str):
    agree(
        f"x = tg.tensor(reals(4, 3, 2), requires_grad=True)\ny = x[{index}] ** 2\n(y * weights(y)).sum().backward()",
        text=False,
    )


@pytest.mark.parametrize("index", INDICES)
def test_assigning_a_scalar(index: str):
    agree(f"x = tg.tensor(reals(4, 3, 2)); x[{index}] = 7.5")


# Where an index names an element twice, which of two values the element gets is nobody's promise.
WITHOUT_REPEATS = [i for i in INDICES if i not in {"[-1, 0, 0]", "..., [1, 1, 0]", "np.array([[0, 1], [3, 3]]), 0"}]


@pytest.mark.parametrize("index", WITHOUT_REPEATS)
def test_assigning_a_tensor(index: str):
    agree(f"x = tg.tensor(reals(4, 3, 2)); _v = x[{index}]; x[{index}] = weights(_v)")


# Through an assignment to nothing PyTorch gives no gradient, tapegrad an empty one.
@pytest.mark.parametrize("index", [i for i in WITHOUT_REPEATS if i != "False"])
def test_gradient_of_assigning(index: str):
    agree(
        "x = tg.tensor(reals(4, 3, 2), requires_grad=True)\n"
        f"v = (weights(x[{index}].detach()) + 0.5).requires_grad_()\n"
        "y = x * x\n"
        f"y[{index}] = v ** 2\n"
        "(y * weights(y)).sum().backward()",
        text=False,
    )


@pytest.mark.parametrize("index", [i for i in INDICES if "x" not in i])
def test_adding_in_place(index: str):
    agree(f"x = tg.tensor(reals(4, 3, 2)); x[{index}] += 10; x[{index}] *= 2")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("index", ["0", ":, 1", "..., ::2", "[1, 0]", "x > 0", "0, [2, 0]", "None, 1"])
def test_every_dtype(index: str, dtype: str):
    agree(f"x = tg.tensor([[1, 0, 2], [3, 1, 0]], dtype=tg.{dtype}); y = x[{index}]; x[{index}] = 1")


SMALL = [
    "x = tg.tensor(5.0); x[()], x[...], x[None]",
    "x = tg.tensor([1, 2, 3]); x[0], x[-1], x[[0, 1]], x[x > 1], x[tg.tensor([2, 0])]",
    "x = tg.tensor([True, False]); x[0], x[x], x[~x]",
    "x = tg.tensor([1.0, 2.0], dtype=tg.float32); x[0], x[1:], x[[1]]",
    "x = tg.zeros(0, 3); x[:], x[:, 1], x[..., None]",
    "x = tg.arange(10); x[::3], x[2:8][1:4][::2], x[x % 2 == 0]",
    "x = tg.arange(12).reshape(3, 4); x[1], x[1][2], x[:, 1:3][1:], x.T[0], x.T[1:, ::2]",
    "x = tg.zeros(3); x[0] = True; x[1] = 5; x[2] = tg.tensor(2.5)",
    "x = tg.zeros(3, dtype=tg.int64); x[0] = 2.9; x[1] = tg.tensor(3); x[2] = True",
    "x = tg.zeros(2, 3); x[:] = tg.tensor([1.0, 2.0, 3.0]); x[:, 0] = tg.tensor([9.0, 8.0])",
    "x = tg.zeros(2, 3); x[0] = tg.tensor([1, 2, 3]); x[1, :2] = 4",
    "x = tg.zeros(2, 3); x[...] = 1; x[x > 0] = tg.arange(6.0); x[1, [0, 2]] = tg.tensor([-1.0, -2.0])",
    "x = tg.zeros(2, 3); x[:, :, None] = 4; x[None] = tg.ones(1, 2, 3)",
    "x = tg.tensor(1.0); x[...] = 2; x[()] = 3",
    "x = tg.arange(5.0); x[1:] = x[:-1].clone(); x[[0, 1]] = x[[1, 0]]",
    "x = tg.zeros(4); x[[0, 1, 1]] += 1",
    "x = tg.arange(24.0).reshape(2, 3, 4); y = x[[[0, 1], [1, 0]]], x[[[0, 1]]], x[[tg.tensor([0, 1]), None]]",
    "x = tg.arange(24.0).reshape(2, 3, 4); y = x[(0, 1),], x[((0, 1), (1, 0))], x[[slice(0, 1), 1]], x[[..., 0]]",
    "x = tg.arange(24.0).reshape(2, 3, 4); y = x[..., ...], x[0, ..., ...], x[..., 0, ...], x[..., None, ...]",
    "x = tg.arange(24.0).reshape(2, 3, 4); y = x[[0] * 33], x[[[0]] * 32], x[[[[0, 1], [1, 0]]]]",
    "x = tg.arange(6.0); x[[tg.tensor([0, 1])]] = 5.0; x[[[True, False] * 3]] = 7.0",
    "x = tg.arange(6.0); v = x.unfold(0, 3, 1); v[0, 2] = 7.0; v[1:3, 1:] = tg.tensor([[1.0, 2.0], [2.0, 3.0]])",
    "x = tg.arange(12.0).reshape(3, 4); x.unfold(1, 2, 1)[0, 0] = 9; v = x.as_strided((2, 3), (1, 1)); v[0] = 8",
    "x = tg.zeros(3); x[tg.tensor([True, False, True])] = tg.tensor([1.0, 2.0])",
    "x = tg.ones(3, requires_grad=True); y = x * 2; y[0] = 0; z = y.sum(); z.backward()",
    "x = tg.ones(3, requires_grad=True); y = tg.zeros(3); y[1] = x[0] * 3; y[2] = x.sum(); y.sum().backward()",
    "x = tg.ones(3, requires_grad=True); y = tg.zeros(2, 3); y[0] = x; y[1] = x * 2; y.sum().backward()",
    "x = tg.ones(3, requires_grad=True); y = x * 3; y[y > 2] = x[0]; y.prod().backward()",
    "x = tg.tensor([[1.0, 2.0], [4.0, 3.0]], requires_grad=True); x[tg.arange(2), x.argmax(1)].sum().backward()",
]


@pytest.mark.parametrize("program", SMALL)
def test_small_programs(program: str):
    agree(program, text=".sum().backward()" not in program)
