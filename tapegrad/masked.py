"""Reductions and their like over the elements where a mask is True, under the names of `torch.masked`.

`mask` is a bool tensor that broadcasts to `input`; without one all elements count. What is masked out gets the
operation's identity first (0 for sums, 1 for products, -inf for largest elements), and no gradient; where nothing is
left, the result is that identity, and nan for a mean, a median or a variance.

>>> import tapegrad as tg
>>> x, mask = tg.tensor([[1.0, 2.0], [3.0, 4.0]]), tg.tensor([[True, False], [True, True]])
>>> tg.masked.mean(x, 1, mask=mask)
tensor([1.0000, 3.5000])
"""

from __future__ import annotations

import functools
import math
from typing import Any

from tapegrad import dtypes, functions
from tapegrad.arguments import Dims, Flag, Number, checked
from tapegrad.dtypes import BOOL, FLOAT32, INT64, DType
from tapegrad.functions import elementwise, reductions
from tapegrad.functions.shaping import broadcast_to, dimension
from tapegrad.tensor import Tensor, describe, location

public = functools.partial(checked, prefix="masked.")
_functions = {name: f for module in functions.__all__ for name, f in getattr(functions, module).functions.items()}


def _dims(dim: Dims | None, ndim: int) -> tuple[int, ...]:
    """The dimensions given, or all: () means all, too."""
    if dim is None or dim == ():
        return tuple(range(ndim))
    found: list[int] = []
    for d in (dim,) if isinstance(dim, int) else dim:
        one = dimension(d, ndim)
        if one in found:
            raise RuntimeError(f"dim={d} appears multiple times in the list of dims")
        found.append(one)
    return tuple(sorted(found)) if ndim else ()


def _mask(input: Tensor, mask: Tensor) -> Tensor:
    if mask.ndim > input.ndim:
        raise IndexError(
            "_input_mask expected broadcastable mask (got mask dimensionality higher than of the input): "
            f"{describe(input, mask)}, at {location()}"
        )
    return broadcast_to(mask, input.shape).to(BOOL)


def _filled(input: Tensor, mask: Tensor | None, value: float) -> Tensor:
    """`input` with a value, or the nearest that its dtype has, where it is masked out."""
    if mask is None:
        return input
    if not input.dtype.is_floating_point:
        least, most = dtypes.limits(input.dtype)
        value = min(max(value, least), most)
    return elementwise.where(_mask(input, mask), input, value).to(input.dtype)


def _summed_dtype(input: Tensor, dtype: DType | None) -> DType:
    return dtype or (input.dtype if input.dtype.is_floating_point else INT64)


def _over(x: Tensor, name: str, dims: tuple[int, ...], keepdim: bool, *more: Any) -> Tensor:
    """A reduction over dimensions of a tensor that has some."""
    return _functions[name](x, *more, dims, keepdim) if x.ndim else _functions[name](x, *more, (), keepdim)


@public
def sum(
    input: Tensor, dim: Dims | None = None, *, keepdim: Flag = False, dtype: DType | None = None,
    mask: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The sum of what is not masked out.

    >>> import tapegrad as tg
    >>> tg.masked.sum(tg.tensor([[1.0, 2.0], [3.0, 4.0]]), 1, mask=tg.tensor([[True, False], [True, True]]))
    tensor([1., 7.])
    """
    dims = _dims(dim, input.ndim)
    return _functions["sum"](_filled(input, mask, 0), dims, keepdim, dtype=_summed_dtype(input, dtype))


@public
def prod(
    input: Tensor, dim: Dims | None = None, *, keepdim: Flag = False, dtype: DType | None = None,
    mask: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The product of what is not masked out.

    >>> import tapegrad as tg
    >>> tg.masked.prod(tg.tensor([2.0, 3.0, 50.0]), mask=tg.tensor([True, True, False]))
    tensor(6.)
    """
    result = _filled(input, mask, 1).to(_summed_dtype(input, dtype))
    for d in reversed(_dims(dim, input.ndim)):
        result = _functions["prod"](result, d, keepdim)
    return result


@public
def cumsum(input: Tensor, dim: int, *, dtype: DType | None = None, mask: Tensor | None = None) -> Tensor:
    """The sums of each element and all before it that are not masked out.

    >>> import tapegrad as tg
    >>> tg.masked.cumsum(tg.tensor([1.0, 50.0, 3.0]), 0, mask=tg.tensor([True, False, True]))
    tensor([1., 1., 4.])
    """
    dtype = dtype or input.dtype
    return _functions["cumsum"](_filled(input, mask, 0), dim, dtype=dtype).to(dtype)


@public
def cumprod(input: Tensor, dim: int, *, dtype: DType | None = None, mask: Tensor | None = None) -> Tensor:
    """The products of each element and all before it that are not masked out.

    >>> import tapegrad as tg
    >>> tg.masked.cumprod(tg.tensor([2.0, 50.0, 3.0]), 0, mask=tg.tensor([True, False, True]))
    tensor([2., 2., 6.])
    """
    dtype = dtype or input.dtype
    return _functions["cumprod"](_filled(input, mask, 1), dim, dtype=dtype).to(dtype)


def _extremum(name: str, least: float) -> Any:
    def extremum(
        input: Tensor, dim: Dims | None = None, *, keepdim: Flag = False, dtype: DType | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        found = _over(_filled(input, mask, least), name, _dims(dim, input.ndim), keepdim)
        return found.to(dtype or input.dtype)

    extremum.__name__ = extremum.__qualname__ = name
    extremum.__doc__ = f"""The {"largest" if least < 0 else "smallest"} element that is not masked out.

    >>> import tapegrad as tg
    >>> tg.masked.{name}(tg.tensor([5.0, 2.0, 3.0, 0.0]), mask=tg.tensor([False, True, True, False]))
    tensor({3 if least < 0 else 2}.)
    """
    return public(extremum)


def _place(name: str, least: float) -> Any:
    def place(
        input: Tensor, dim: int | None = None, *, keepdim: Flag = False, dtype: DType | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        return _functions[name](_filled(input, mask, least), dim, keepdim).to(dtype or input.dtype)

    place.__name__ = place.__qualname__ = name
    place.__doc__ = f"""The index of the {"largest" if least < 0 else "smallest"} element that is not masked out.

    >>> import tapegrad as tg
    >>> tg.masked.{name}(tg.tensor([5.0, 2.0, 3.0, 0.0]), mask=tg.tensor([False, True, True, False]))
    tensor({2 if least < 0 else 1}.)
    """
    return public(place)


amax, amin = _extremum("amax", -math.inf), _extremum("amin", math.inf)
argmax, argmin = _place("argmax", -math.inf), _place("argmin", math.inf)


def _count(input: Tensor, dims: tuple[int, ...], keepdim: bool, mask: Tensor | None) -> Any:
    """How many elements are left."""
    if mask is None:
        return math.prod(input.shape[d] for d in dims)
    return _functions["sum"](_mask(input, mask), dims, keepdim)


def _over_count(total: Tensor, count: Any) -> Tensor:
    return total / count if isinstance(count, Tensor) or count else total * math.nan


@public
def mean(
    input: Tensor, dim: Dims | None = None, *, keepdim: Flag = False, dtype: DType | None = None,
    mask: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The mean of what is not masked out; nan of nothing.

    >>> import tapegrad as tg
    >>> tg.masked.mean(tg.tensor([1.0, 5.0, 3.0]), mask=tg.tensor([True, False, True]))
    tensor(2.)
    """
    wanted = dtype or input.dtype
    if not wanted.is_floating_point:
        source = "Input" if dtype is None else "Optional"
        raise ValueError(
            f"mean(): Could not infer output dtype. {source} dtype must be either a floating point or complex dtype. "
            f"Got: {wanted}"
        )
    dims = _dims(dim, input.ndim)
    total = _functions["sum"](_filled(input, mask, 0), dims, keepdim, dtype=wanted)
    return _over_count(total, _count(input, dims, keepdim, mask))


@public
def median(
    input: Tensor, dim: int = -1, *, keepdim: bool = False, dtype: DType | None = None, mask: Tensor | None = None
) -> Tensor:
    """The median, the lower one of two, of what is not masked out; nan of nothing.

    >>> import tapegrad as tg
    >>> tg.masked.median(tg.tensor([1.0, 3.0, 50.0]), 0, mask=tg.tensor([True, True, False]))
    tensor(1.)
    """
    is_float = input.dtype.is_floating_point
    x = input if is_float else input.to(FLOAT32)
    output = _functions["nanmedian"](_filled(x, mask, math.nan), dimension(dim, input.ndim), keepdim).values
    if is_float:
        return output
    if bool(output.isnan().any()):
        raise ValueError("masked median expects no fully masked out rows if dtype is not floating point")
    return output.to(dtype or input.dtype)


@public
def logsumexp(
    input: Tensor, dim: Dims | None = None, *, keepdim: bool = False, dtype: DType | None = None,
    mask: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """log(sum(exp(input))) of what is not masked out, without overflow.

    >>> import tapegrad as tg
    >>> tg.masked.logsumexp(tg.tensor([0.0, 0.0, 50.0]), 0, mask=tg.tensor([True, True, False]))
    tensor(0.6931)
    """
    found = _over(_filled(input, mask, -math.inf), "logsumexp", _dims(dim, input.ndim), keepdim)
    return found.to(dtype or input.dtype)


@public
def logaddexp(
    input: Tensor, other: Tensor, *, dtype: DType | None = None, input_mask: Tensor | None = None,
    other_mask: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """log(exp(input) + exp(other)), elementwise, of what is not masked out.

    >>> import tapegrad as tg
    >>> tg.masked.logaddexp(tg.zeros(2), tg.zeros(2), other_mask=tg.tensor([True, False]))
    tensor([0.6931, 0.0000])
    """
    parts = (_filled(x, mask, -math.inf) for x, mask in ((input, input_mask), (other, other_mask)))
    return _functions["logaddexp"](*parts).to(dtype or input.dtype)


@public
def norm(
    input: Tensor, ord: float | None = 2.0, dim: Dims | None = None, *, keepdim: Flag = False,
    dtype: DType | None = None, mask: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The norm of order `ord` of what is not masked out.

    >>> import tapegrad as tg
    >>> tg.masked.norm(tg.tensor([3.0, 4.0, 50.0]), 2, mask=tg.tensor([True, True, False]))
    tensor(5.)
    """
    order = 2.0 if ord is None else ord
    x = _filled(input, mask, math.inf if order == -math.inf else 0)
    return reductions.norm(x, order, _dims(dim, input.ndim), keepdim, dtype)


@public
def normalize(
    input: Tensor, ord: float, dim: int, *, eps: float = 1e-12, dtype: DType | None = None, mask: Tensor | None = None
) -> Tensor:
    """Vectors along a dimension over their norm, which counts as `eps` at least; 0 where they are masked out.

    >>> import tapegrad as tg
    >>> tg.masked.normalize(tg.tensor([3.0, 4.0, 50.0]), 2.0, 0, mask=tg.tensor([True, True, False]))
    tensor([0.6000, 0.8000, 0.0000])
    """
    length = norm(input, ord, dim, keepdim=True, dtype=dtype, mask=mask)
    return _filled(input, mask, 0) / _functions["maximum"](length, eps)


def _spread(
    input: Tensor, dim: Dims | None, unbiased: bool | None, correction: Number | None, keepdim: bool,
    dtype: DType | None, mask: Tensor | None,
) -> Tensor:  # fmt: skip
    if unbiased is not None and correction is not None:
        raise AssertionError("Only one of unbiased and correction may be given")
    if correction is None:
        correction = 1 if unbiased is None else int(unbiased)
    wanted = dtype or (input.dtype if input.dtype.is_floating_point else FLOAT32)
    computed = wanted if wanted.is_floating_point else FLOAT32
    dims = _dims(dim, input.ndim)
    count = _count(input, dims, True, mask)
    x = input.to(computed)
    centre = _over_count(_functions["sum"](_filled(x, mask, 0), dims, True), count)
    deviation = _filled(x - centre, mask, 0)
    squares = _functions["sum"](deviation * deviation, dims, keepdim)
    if isinstance(count, Tensor):
        left = (count if keepdim else count.reshape(squares.shape)).to(computed) - correction
        return (squares / left.clamp_min(0)).to(wanted)
    left = max(count - correction, 0)
    return (squares / left if left else squares / squares.new_zeros(())).to(wanted)


@public
def var(
    input: Tensor, dim: Dims | None = None, unbiased: bool | None = None, *, correction: Number | None = None,
    keepdim: Flag = False, dtype: DType | None = None, mask: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The variance of what is not masked out: squared deviations over n - correction (1).

    >>> import tapegrad as tg
    >>> tg.masked.var(tg.tensor([1.0, 3.0, 50.0]), mask=tg.tensor([True, True, False]))
    tensor(2.)
    """
    return _spread(input, dim, unbiased, correction, keepdim, dtype, mask)


@public
def std(
    input: Tensor, dim: Dims | None = None, unbiased: bool | None = None, *, correction: Number | None = None,
    keepdim: Flag = False, dtype: DType | None = None, mask: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The root of `var`.

    >>> import tapegrad as tg
    >>> tg.masked.std(tg.tensor([1.0, 3.0, 50.0]), mask=tg.tensor([True, True, False]))
    tensor(1.4142)
    """
    return _functions["sqrt"](_spread(input, dim, unbiased, correction, keepdim, dtype, mask))


def _along(name: str, kernel: str, sign: int, said: str, shown: str) -> Any:
    def along(input: Tensor, dim: int, *, dtype: DType | None = None, mask: Tensor | None = None) -> Tensor:
        filled = _filled(input, mask, -sign * math.inf)
        return _functions[kernel](filled if sign > 0 else -filled, dim, dtype=dtype)

    along.__name__ = along.__qualname__ = name
    along.__doc__ = f"""{said}

    >>> import tapegrad as tg
    >>> tg.masked.{name}(tg.tensor([0.0, 1.0, 9.0]), 0, mask=tg.tensor([True, True, False]))
    {shown}
    """
    return public(along)


softmax = _along(
    "softmax", "softmax", 1, "exp(input) over its sum, along a dimension, of what is not masked out.",
    "tensor([0.2689, 0.7311, 0.0000])",
)  # fmt: skip
log_softmax = _along(
    "log_softmax", "log_softmax", 1, "The logarithm of `softmax`.", "tensor([-1.3133, -0.3133,    -inf])"
)
softmin = _along("softmin", "softmax", -1, "`softmax` of -input.", "tensor([0.7311, 0.2689, 0.0000])")

__all__ = [
    "amax", "amin", "argmax", "argmin", "cumprod", "cumsum", "log_softmax", "logaddexp", "logsumexp", "mean", "median",
    "norm", "normalize", "prod", "softmax", "softmin", "std", "sum", "var",
]  # fmt: skip


def __dir__() -> list[str]:
    return __all__
