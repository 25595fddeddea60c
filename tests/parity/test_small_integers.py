"""Integers of few bits: what PyTorch does with uint8, int8 and int16, for which there is no gradient."""

import math
import warnings

import numpy as np
import pytest

import tapegrad as tg

from .oracle import agree, agree_or_refuse_alike, programs, refuse_alike

GIVEN = """
u = tg.tensor([1, 200, 255], dtype=tg.uint8); c = tg.tensor([1, -2, 100], dtype=tg.int8)
s = tg.tensor([1, -2, 30000], dtype=tg.int16); i = tg.tensor([3, 0, 7], dtype=tg.int32); x = tg.tensor([0.5, 1.5, 2.5])
"""

ARITHMETIC = """
u + u, u - 2, -u, u * 3, u // 2, u % 3, u ** 2, u + 300, c + 300, s * 70000

u * 2.5, u / 255, s / 32768, x * u, u + x, (u / 255 - 0.5) / 0.25

(u + c).dtype, (u + s).dtype, (c + s).dtype, (s + i).dtype, (u + tg.tensor(5)).dtype, (u == c), (u + True).dtype

~u, u & c, u | 1, u << 1, c >> 1, abs(c), tg.maximum(u, c), u.clamp(2, 10)

u.sum(), u.max(), c.min(), s.amin(), u.argmax(), u.sum(dtype=tg.uint8), u.all(), c.all(), u.any(0)

u.sqrt(), c.exp(), u.float().mean(), u.bool(), u.logical_not(), tg.logical_and(u, c), u.cumsum(0)

u @ u, tg.outer(u, u)

tg.trapezoid(c, dx=0.5), tg.trapezoid(s), tg.trapezoid(i, i)

u.add_(1), u.add_(c), u.fill_(7), u.mul_(u), u.zero_()
"""

MAKING = """
tg.tensor([-1, -255], dtype=tg.uint8), tg.full((2,), -1, dtype=tg.uint8), tg.arange(300, dtype=tg.uint8).sum()

tg.zeros(2, dtype=tg.int8), tg.eye(2, dtype=tg.int16), tg.tensor([-1.5, 300.0]).to(tg.uint8)

x[s[0]], x[c[0] * 0], x[s[0].clone(), ...]
u.type(), tg.ByteTensor([1, 2]), tg.ShortTensor([3]), tg.CharTensor([4]), u.short(), s.byte(), s.long()

tg.iinfo(tg.uint8).max, tg.iinfo(tg.int16).min, tg.uint8.is_signed, tg.int8.itemsize, u.element_size(), s.nbytes

tg.from_numpy(np.arange(6, dtype=np.uint8).reshape(2, 3)), tg.tensor(np.int16([1, 2])), tg.as_tensor(u.numpy())

tg.promote_types(tg.uint8, tg.int8), tg.result_type(u, c), tg.can_cast(tg.int16, tg.uint8), u.tolist(), u[1].item()
"""

LAYOUTS = """
tg.stack([s, s]).t().contiguous(), s.flip(0)[::2], s.unsqueeze(1).expand(3, 4).contiguous(), tg.cat([u, c])

u.roll(1), u.repeat(2), tg.nn.functional.pad(u, (1, 1)), u[1:] + s[1:].reshape(2, 1)

u.sort(descending=True), u.nonzero(), tg.unique(u)

s[1] + s[2], s.max() - s.min(), u[0] * u[1]

u.index_select(0, tg.tensor([2, 0])), tg.where(s > 0, s, c), s.scatter(0, tg.tensor([1]), 7)

tg.bincount(tg.tensor([1, 2, 2], dtype=tg.uint8)), u.diff(), s.reshape(1, 3).float() @ tg.ones(3, 1).float()

tg.nn.functional.interpolate(u.reshape(1, 1, 1, 3), scale_factor=2)

tg.nn.functional.cross_entropy(tg.tensor([[1.0, 2.0], [0.5, 0.0]]), tg.tensor([1, 0], dtype=tg.uint8))
"""

MASKS = """
m = tg.tensor([1, 0, 1], dtype=tg.uint8); x[m], x[m.bool()], tg.where(m, 1, 2), tg.where(m, x, -x)

x[u[0]], x[tg.tensor(0, dtype=tg.uint8)]

y = tg.zeros(3, 4); y[tg.tensor([0, 1, 0], dtype=tg.uint8)] += 1; y
"""

REFUSALS = [
    ("tg.tensor([256], dtype=tg.uint8)", "value cannot be converted to type uint8"),
    ("tg.tensor([128], dtype=tg.int8)", "value cannot be converted to type int8"),
    ("tg.full((1,), 300, dtype=tg.uint8)", "value cannot be converted to type uint8_t without overflow"),
    ("u.fill_(300)", "value cannot be converted to type uint8_t without overflow"),
    ("u.mean()", "mean(): could not infer output dtype"),
    ("u.requires_grad_()", "can require gradients"),
    ("tg.tensor([1], dtype=tg.uint8, requires_grad=True)", "Only Tensors of floating point"),
    ("x[s]", "tensors used as indices must be long, int, byte or bool tensors"),
    ("x.masked_fill(u, 0)", "only supports boolean masks"),
    ("tg.gather(x, 0, u)", "gather(): Expected dtype int32/int64 for index"),
    ("tg.nn.functional.one_hot(u)", "one_hot is only applicable to index tensor"),
    ("tg.nn.functional.embedding(u, tg.ones(300, 2))", "Expected tensor for argument #1 'indices'"),
    ("u.mul_(1.5)", "result type"),
    ("tg.randint(0, 300, (3,), dtype=tg.uint8)", "to - 1 is out of bounds for unsigned char"),
    ("tg.randint(-5, 3, (3,), dtype=tg.uint8)", "from is out of bounds for unsigned char"),
    ("tg.dot(u, c)", "expected both vectors to have same dtype"),
]


@pytest.mark.parametrize("program", programs(ARITHMETIC + "\n" + MAKING + "\n" + LAYOUTS + "\n" + MASKS))
def test_agree_with_pytorch(program: str):
    agree(GIVEN + program)


@pytest.mark.parametrize(("program", "phrase"), REFUSALS)
def test_refusals(program: str, phrase: str):
    refuse_alike(GIVEN + program, phrase)


@pytest.mark.parametrize("x", ["u", "c", "s", "i"])
@pytest.mark.parametrize("y", ["u", "c", "s", "i", "x", "x > 1", "5", "2.5", "u[0]"])
def test_sums_in_every_pair_of_dtypes(x: str, y: str):
    agree_or_refuse_alike(GIVEN + f"{x} + {y}, {y} - {x}")


def test_masks_of_bytes_warn():
    with pytest.warns(UserWarning, match="indexing with dtype tapegrad.uint8 is now deprecated"):
        tg.ones(2)[tg.tensor([1, 0], dtype=tg.uint8)]
    with pytest.warns(UserWarning, match="uint8 condition tensor"):
        tg.where(tg.tensor([1, 0], dtype=tg.uint8), 1.0, 2.0)


@pytest.mark.parametrize("number", [-1, 255, 256, 300, 1 << 40])
def test_comparisons_with_numbers_beyond_the_dtype_are_right(number: int):
    """Where PyTorch wraps the number, and -1 is 255."""
    values = [0, 44, 255]
    x = tg.tensor(values, dtype=tg.uint8)
    assert (x < number).tolist() == [v < number for v in values]
    assert (x == number).tolist() == [v == number for v in values]
    assert (number <= x).tolist() == [number <= v for v in values]


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16"])
def test_elements_of_any_layout(dtype: str):
    """Blocks gather, spread and store elements of one and two bytes as those of more."""
    rng = np.random.default_rng(0)
    a = rng.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, (5, 300, 7), dtype)
    x, row, column = tg.tensor(a), a[0, :, :1], a[1, 0]
    for way in [(0, 1, 2), (2, 1, 0), (1, 2, 0)]:
        y, b = x.permute(way), a.transpose(way)
        np.testing.assert_array_equal((y[:, ::3] + y[:, 1:2]).numpy(), b[:, ::3] + b[:, 1:2])
        np.testing.assert_array_equal(y.contiguous().numpy(), b)
        np.testing.assert_array_equal(y.sum(1).numpy(), b.sum(1, dtype=np.int64))
        np.testing.assert_array_equal(y.amax(0).numpy(), b.max(0))
    np.testing.assert_array_equal((tg.tensor(row) + tg.tensor(column)).numpy(), row + column)
    gradient = tg.func.grad(lambda w: (w * x).sum())(tg.tensor(2.0, dtype=tg.float64))
    assert math.isclose(gradient.item(), a.sum(dtype=np.int64))


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32"])
def test_products_keep_the_last_bits(dtype: str):
    """Sums beyond the dtype, and beyond what float64 counts, wrap."""
    info = np.iinfo(dtype)
    a = np.random.default_rng(1).integers(info.min, info.max, 100_000, dtype)
    m, v = a[:6000].reshape(4, 1500), a[6000:7500]
    with np.errstate(over="ignore"):
        assert (tg.tensor(a) @ tg.tensor(a)).item() == (a * a).sum(dtype=dtype)
        for one, other in ((m, v), (np.asfortranarray(m), v), (m, m.T), (m.reshape(2, 2, 1500), m.T)):
            expected = (one[..., None, :] * (other if other.ndim == 1 else other.T)).sum(-1, dtype=dtype)
            made = (tg.tensor(one) @ tg.tensor(other)).numpy()
            np.testing.assert_array_equal(made, expected.reshape(made.shape))


def test_images():
    """Pixels to floats and a gradient, as scripts do it."""
    agree(
        "image = tg.arange(48, dtype=tg.uint8).reshape(1, 4, 4, 3)\n"
        "x = image.permute(0, 3, 1, 2).contiguous().float().div(255)\n"
        "x = (x - tg.tensor([0.4, 0.5, 0.6], dtype=tg.float32).view(3, 1, 1)) / 0.25\n"
        "w = tg.ones(2, 3, 3, 3, dtype=tg.float32, requires_grad=True)\n"
        "tg.nn.functional.conv2d(x, w).pow(2).mean().backward()\n"
        "back = (x.mul(0.25).add(0.5) * 255).clamp(0, 255).byte(); w.grad, back.sum(), image[0, 0, 0].tolist()",
        text=False,
        tolerance=1e-5,
    )


def test_saved_and_recorded_again(tmp_path):
    x = tg.tensor([1, 2, 255], dtype=tg.uint8)
    tg.save({"x": x}, tmp_path / "x.pt")
    assert tg.load(tmp_path / "x.pt")["x"].dtype is tg.uint8
    f = tg.compile(lambda w: (w * x).sum() + (x + 1).sum())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for w in (1.0, 2.0, 3.0):
            assert f(tg.tensor(w)).item() == w * 258 + 2 + 3 + 0
