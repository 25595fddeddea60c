"""Printing: what `print`, `repr`, `str` and `format` show."""

import pytest

from .oracle import agree

VALUES = [
    "3",
    "-3.5",
    "0.0",
    "-0.0",
    "1e10",
    "1e-10",
    "1.23456789",
    "123456.789",
    "99999.5",
    "100000.0",
    "100000000.0",
    "1234567890123",
    "inf",
    "-inf",
    "nan",
    "True",
    "[]",
    "[[]]",
    "[[], []]",
    "[1]",
    "[1.0]",
    "[True, False]",
    "[1, 20, 300]",
    "[-1, 20, -300]",
    "[1.0, 20.0, 300.0]",
    "[1.5, 20.25, 300.125]",
    "[-1.5, 2.0]",
    "[1.0, -1.0]",
    "[0.1, 0.2, 0.30000000000000004]",
    "[1e-5, 1.0]",
    "[1e-4, 1.0]",
    "[1.0, 1000.0]",
    "[1.5, 1000.0]",
    "[1.5, 1001.0]",
    "[0.001, 1.0]",
    "[0.00099, 1.0]",
    "[1e8, 1.0]",
    "[1e8 + 1, 1.5]",
    "[99999999.0, 1.0]",
    "[100000001.0, 2.0]",
    "[1e5, 0.5]",
    "[1e20, 1.0]",
    "[1e20]",
    "[1e-20, 1e20]",
    "[1e300, 1e-300]",
    "[5e-324]",
    "[0.0, 1e-9]",
    "[0.0, 0.0]",
    "[-0.0, 0.0]",
    "[0.00001]",
    "[12345.678, 0.001]",
    "[1.0, nan]",
    "[1.0, inf]",
    "[1.5, nan, -inf]",
    "[nan, nan]",
    "[inf, -inf]",
    "[1e10, nan]",
    "[1e-10, inf]",
    "[1.0, 1e8, inf]",
    "[2147483648, -1]",
    "[[1, 2], [3, 4]]",
    "[[1.5, 2.0], [-3.0, 4.0]]",
    "[[1e-5, 1.0], [3.0, 100000.0]]",
    "[[True], [False]]",
    "[[[1, 2], [3, 4]], [[5, 6], [7, 8]]]",
    "[[[[1.0]]]]",
    "[0.99999, 0.5]",
    "[0.999999, 0.5]",
    "[9.9999, 0.12345]",
    "[9.99999, 0.12345]",
    "[1234.5678, 1.0]",
    "[2.5, 3.5, 4.00001]",
]


@pytest.mark.parametrize("value", VALUES)
def test_values(value: str):
    agree(f"x = tg.tensor({value}); print(x); str(x)")


@pytest.mark.parametrize(
    "value", [v for v in VALUES if not any(word in v for word in ("True", "False", "1234567890123", "2147483648"))]
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values_of_floating_dtypes(value: str, dtype: str):
    agree(f"tg.tensor({value}, dtype=tg.{dtype})")


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64", "bool"])
@pytest.mark.parametrize("shape", ["", "0", "0, 2", "2, 0", "1", "3", "2, 3", "2, 2, 2", "1, 1, 1", "1001", "40, 40"])
def test_dtypes_and_shapes(shape: str, dtype: str):
    agree(f"tg.zeros({shape}, dtype=tg.{dtype})" if shape else f"tg.zeros((), dtype=tg.{dtype})")


LONG = [
    "tg.arange(999)",
    "tg.arange(1000)",
    "tg.arange(1001)",
    "tg.arange(1001.0)",
    "tg.arange(0, 3, 0.001)",
    "tg.linspace(0, 1, 30)",
    "tg.arange(100)",
    "tg.arange(100.0) / 7",
    "tg.zeros(2000)",
    "tg.ones(1001, dtype=tg.bool)",
    "tg.arange(1200).reshape(30, 40)",
    "tg.arange(1200.0).reshape(30, 40) / 1000",
    "tg.arange(1200).reshape(3, 400)",
    "tg.arange(1200).reshape(400, 3)",
    "tg.arange(1200).reshape(4, 300)",
    "tg.arange(1200).reshape(6, 200)",
    "tg.arange(1260).reshape(7, 9, 20)",
    "tg.arange(2000).reshape(10, 10, 20)",
    "tg.arange(2000.0).reshape(2, 10, 10, 10) * 1.5",
    "tg.arange(1001.0) * 1e6",
    "tg.cat([tg.ones(500), tg.tensor([1e10]), tg.ones(501)])",
    "tg.cat([tg.tensor([1e10]), tg.ones(1001)])",
    "tg.cat([tg.ones(500), tg.tensor([0.5]), tg.ones(501)])",
    "tg.arange(30).reshape(1, 30)",
    "tg.arange(40.0).reshape(2, 20)",
    "tg.arange(60).reshape(2, 1, 30)",
    "tg.ones(3, 26) * 0.5",
    "tg.arange(1001.0).reshape(1, 1001)",
    "tg.arange(1001.0).reshape(1001, 1)",
    "tg.arange(1002, dtype=tg.float32)",
]


@pytest.mark.parametrize("expression", LONG)
def test_long_tensors(expression: str):
    agree(f"x = {expression}; print(x)")


TAILS = [
    "tg.ones(2, requires_grad=True)",
    "tg.ones(2, dtype=tg.float32, requires_grad=True)",
    "tg.tensor(1.0, requires_grad=True)",
    "tg.tensor(1.0, requires_grad=True) * 2",
    "tg.ones(2, dtype=tg.float32, requires_grad=True) * 2",
    "tg.ones(0, requires_grad=True)",
    "tg.ones(0, 2, requires_grad=True) * 2",
    "tg.ones(2, 2, requires_grad=True).T",
    "tg.arange(1001.0).requires_grad_()",
    "tg.arange(1001.0).requires_grad_() * 2",
    "tg.ones(12, requires_grad=True) * 1.5",
    "tg.ones(13, requires_grad=True) / 3",
    "tg.ones(3, 5, requires_grad=True).exp()",
    "tg.ones(2, 2, requires_grad=True).sum(0)",
    "(tg.ones(2, requires_grad=True) * 2).detach()",
    "tg.linspace(0, 1, 8).requires_grad_().sin().reshape(2, 4)",
    "tg.arange(24.0, dtype=tg.float32).requires_grad_().log1p()",
    "tg.arange(6, dtype=tg.int32)",
    "tg.ones(9, dtype=tg.float32)",
    "tg.ones(3, 7, dtype=tg.float32) * 1.5",
    "[tg.tensor(1.0), tg.tensor([2])]",
    "{'w': tg.ones(2)}",
    "tg.tensor([1.0, 3.0]).max(0)",
    "tg.tensor([[1.0, 3.0]], requires_grad=True).max(1)",
]


@pytest.mark.parametrize("expression", TAILS)
def test_what_follows_the_values(expression: str):
    agree(f"x = {expression}; print(x); shown = repr(x)")


FORMATS = [
    "f'{tg.tensor(1.0)}', f'{tg.tensor(3)}', f'{tg.tensor(True)}', f'{tg.tensor(1.0, requires_grad=True)}'",
    "f'{tg.tensor(2.71828):.2f}', f'{tg.tensor(2.71828):8.3f}|', f'{tg.tensor(3):03d}', f'{tg.tensor(1e6):.1e}'",
    "f'{tg.tensor(2.5, requires_grad=True):.1f}', f'{tg.tensor([1.0, 2.0])}', format(tg.tensor([1, 2]), '')",
    "f'{tg.tensor(1.0, requires_grad=True) * 2}', f'{tg.ones(2, requires_grad=True) * 2}'",
    "f'{tg.tensor(0.5):.1%}', f'{tg.tensor(1234567.0):,.0f}', f'{tg.tensor(-2):+d}', f'{tg.tensor(nan):.1f}'",
    "'{!r}'.format(tg.tensor(1.5)), '{!s}'.format(tg.tensor(1.5)), '%s' % tg.tensor(2), '%d' % tg.tensor(2)",
    "print(tg.tensor(1.0), tg.tensor([2]), sep='|')",
]


@pytest.mark.parametrize("program", FORMATS)
def test_formats(program: str):
    agree(program)
