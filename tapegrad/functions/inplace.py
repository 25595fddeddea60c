"""In-place forms: each computes the new value and gives the handle its slot."""

from __future__ import annotations

import functools
import inspect
import math
import operator
import re
from typing import Any

import numpy as np

from tapegrad import creation, dtypes, writing
from tapegrad.arguments import Number, Sizes, checked, node
from tapegrad.batched import Batched
from tapegrad.creation import size_of
from tapegrad.debug import SMALL
from tapegrad.devices import contiguous_format, has_channels_last
from tapegrad.dtypes import BOOL, FLOAT64, DType
from tapegrad.functions import arrays, contractions, elementwise, joining, scattering
from tapegrad.functions.shaping import cat
from tapegrad.kinds import Kind
from tapegrad.ops import arithmetic
from tapegrad.ops.declare import BOOLEAN, Elementwise
from tapegrad.recording import broadcast_shapes, cast, operand, quick, record_elementwise, working_dtype
from tapegrad.tensor import Tensor, constant, describe, from_array, location

_ops = {op.name: op for op in elementwise.OPERATIONS}
_alike: set[Any] = set()  # operators, with the kinds of their operands, whose result has the kind of the first
_fitting: set[Any] = set()  # operations, with the kinds of their operands, whose result is known to fit


def _check(self: Tensor, op: Elementwise, others: tuple[Any, ...], name: str) -> None:
    """Before anything is recorded: `self` may be written to, and the result has its shape and fits its dtype."""
    writing.check_in_place(self, name)
    key = op, self._kind, *(o._kind if isinstance(o, Tensor) else o.__class__ for o in others)
    if key in _fitting:
        return
    known = [o for o in map(operand, (self, *others)) if o is not None]
    shape = self._kind.shape
    result_shape, result_dtype = (
        broadcast_shapes(op.name, [o for o in known if isinstance(o, Tensor)]),
        working_dtype(op, known),
    )
    if result_shape != shape:
        raise RuntimeError(
            f"output with shape {list(shape)} doesn't match the broadcast shape {list(result_shape)}: {name} on "
            f"{describe(self)}, at {location()}"
        )
    if op.result != BOOLEAN:
        _check_dtype(self, result_dtype, name)
    if all(isinstance(o, (Tensor, bool, int, float)) for o in others):
        _fitting.add(key)


def _check_dtype(self: Tensor, result: DType, name: str) -> None:
    if result.category > self._kind.dtype.category:
        result_name, own_name = result.scalar_type, self._kind.dtype.scalar_type
        raise RuntimeError(
            f"result type {result_name} can't be cast to the desired output type {own_name}: {name} on "
            f"{describe(self)}, at {location()}"
        )


def _operator(python: str, op: Elementwise) -> Any:
    plain, name, opcode = getattr(Tensor, f"__{python}__"), f"__i{python}__", op.opcode

    def in_place(self: Tensor, other: Any) -> Any:
        key = opcode, self._kind, other._kind if other.__class__ is Tensor else other.__class__
        if key in _alike:
            if getattr(self, "_origin", None) is None:
                if writing.stands_alone(self):
                    return writing.assign_alone(self, quick[opcode](self, other))
            elif writing.shows_alone(self):
                return writing.assign_shown(self, quick[opcode](self, other))
        _check(self, op, (other,), name)
        result = plain(self, other)
        if result is NotImplemented:
            # CPython takes what native code answers in this place for a sequence's answer too: it has to be one.
            return getattr(operator, f"__{python}__")(self, other)
        if not isinstance(result, Tensor):  # what another class answered
            return result
        kind = result._kind
        known = isinstance(key[2], Kind) or key[2] in (bool, int, float)
        if known and kind.shape == self._kind.shape and kind.dtype is self._kind.dtype and not SMALL:
            _alike.add(key)
        return writing.assign(self, cast(result, self._kind.dtype))

    return in_place


for _python, _name in elementwise.OPERATORS.items():
    setattr(Tensor, f"__i{_python}__", _operator(_python, _ops[_name]))


_MODES = {"alpha", "decimals", "rounding_mode"}  # arguments that are no operands


def _method(name: str, op: Elementwise, function: Any) -> Any:
    def in_place(self: Tensor, *args: Any, **facts: Any) -> Tensor:
        # A quotient that is rounded may be an integer.
        working = _ops["floor_divide"] if isinstance(facts.get("rounding_mode"), str) else op
        _check(self, working, (*args, *(v for k, v in facts.items() if k not in _MODES)), f"{name}_")
        result = function(self, *args, **facts)
        if not isinstance(result, Tensor):  # what another class answered
            return result
        _check_dtype(self, result._kind.dtype, f"{name}_")
        result = cast(result, self._kind.dtype)
        return writing.assign(self, _instead(self, result) if op.result == BOOLEAN else result)

    in_place.__name__ = f"{name}_"
    in_place.__doc__ = f"`{name}`, in place."
    in_place.__wrapped__ = function
    return in_place


for _op in elementwise.OPERATIONS:
    for _name in (_op.name, *_op.aliases):
        if _op.in_place and _op.is_public:
            setattr(Tensor, f"{_name}_", _method(_name, _op, elementwise.functions[_name]))


def _instead(self: Tensor, value: Tensor) -> Tensor:
    """The value that takes the place of all elements: gradients that flow on to what was there are zero."""
    if self._kind.requires_grad and self._tape.grad_enabled:
        return record_elementwise(arithmetic._replaced, self, value)
    return value


def _filled(self: Tensor, value: Any) -> Tensor:
    if isinstance(value, Tensor):
        if value.ndim:
            raise RuntimeError(
                f"fill_ only supports 0-dimension value tensor but got tensor with {value.ndim} dimensions."
            )
        return cast(value, self.dtype).expand(*self._kind.shape).clone()
    return creation.full(self._kind.shape, value, dtype=self.dtype)


def fill_(self: Tensor, value: Any) -> Tensor:
    """Make every element `value`.

    >>> import tapegrad as tg
    >>> tg.fill_(tg.zeros(2), 3.0)
    tensor([3., 3.])
    """
    repeats = [step == 0 and n > 1 for step, n in zip(self._kind.strides, self._kind.shape, strict=True)]
    if any(repeats):  # one value for all is one for each
        fill_(self[tuple(slice(0, 1 if repeated else None) for repeated in repeats)], value)
        return self
    writing.check_in_place(self, "fill_")
    return writing.assign(self, _instead(self, _filled(self, value)))


def zero_(self: Tensor) -> Tensor:
    """Make every element zero."""
    return fill_(self, 0)


@checked
def copy_(self: Tensor, src: Number | Tensor, non_blocking: bool = False) -> Tensor:
    """Take the elements of `src`, broadcast to this shape and converted to this dtype.

    Raises
    ------
    RuntimeError
        Where it can't be broadcast to it.
    """
    writing.check_in_place(self, "copy_")
    if not isinstance(src, Tensor):
        src = constant(src, self.dtype)
    if src._kind.shape != self._kind.shape:
        shape = broadcast_shapes("copy_", [self, src])
        if shape != self._kind.shape:
            raise RuntimeError(
                f"output with shape {list(self._kind.shape)} doesn't match the broadcast shape {list(shape)}: copy_ of "
                f"{describe(src)}, at {location()}"
            )
    return writing.assign(self, _instead(self, cast(src.expand(*self._kind.shape), self.dtype).clone()))


@checked
@node("MaskedFillBackward0")
def masked_fill(input: Tensor, mask: Tensor, value: Number | Tensor) -> Tensor:
    """`value`, in the dtype of `input`, where `mask` is True, else `input`.

    Raises
    ------
    RuntimeError
        Where `mask` is not of bools, `value` is a tensor with dimensions, or a number that the dtype can't hold.

    >>> import tapegrad as tg
    >>> x = tg.tensor([1.0, -2.0, 3.0])
    >>> x.masked_fill(x < 0.0, 0.0)
    tensor([1., 0., 3.])
    """
    if mask.dtype is not BOOL:
        raise RuntimeError(
            f"masked_fill_ only supports boolean masks, but got mask with dtype {mask.dtype.scalar_type}: "
            f"{describe(input, mask)}, at {location()}"
        )
    if isinstance(value, Tensor):
        if value.ndim:
            raise RuntimeError(
                f"masked_fill_ only supports a 0-dimensional value tensor, but got tensor with {value.ndim} "
                f"dimension(s): at {location()}"
            )
        value = cast(value, input.dtype)
    else:
        value = constant(dtypes.in_range(value, input.dtype), input.dtype)
    filled: Tensor = elementwise.where(mask, value, input)
    return filled


def masked_fill_(self: Tensor, mask: Tensor, value: Any) -> Tensor:
    """`masked_fill`, in place."""
    writing.check_in_place(self, "masked_fill_")
    filled = masked_fill(self, mask, value)
    if filled._kind.shape != self._kind.shape:
        raise RuntimeError(
            f"output with shape {list(self._kind.shape)} doesn't match the broadcast shape "
            f"{list(filled._kind.shape)}: masked_fill_ on {describe(self, mask)}, at {location()}"
        )
    return writing.assign(self, filled)


Tensor.fill_, Tensor.zero_, Tensor.copy_, Tensor.masked_fill = fill_, zero_, copy_, masked_fill
Tensor.masked_fill_ = masked_fill_
functions: dict[str, Any] = {"masked_fill": masked_fill}


@checked
def fill(input: Tensor, value: Number | Tensor) -> Tensor:
    """`input` with every element `value`, a number or a tensor of one element.

    >>> import tapegrad as tg
    >>> tg.fill(tg.zeros(2), 3)
    tensor([3., 3.])
    """
    return _instead(input, _filled(input, value))


functions["fill"] = fill


@checked
def uniform_(self: Tensor, low: Number = 0.0, high: Number = 1.0, *, generator: Any = None) -> Tensor:
    """Draw every element anew, uniform in [low, high)."""
    _check_floating(self, "uniform_")
    most = float(np.finfo(self.dtype.numpy).max)
    for name, bound in (("from", low), ("to", high)):
        if not -most <= bound <= most:
            raise RuntimeError(f"{name} is out of bounds for {self.dtype}: {bound}")
    if low > high:
        raise RuntimeError(f"uniform_ expects to return a [from, to) range, but found from={low} > to={high}")
    return writing.assign(self, _instead(self, creation.rand_like(self, generator=generator) * (high - low) + low))


@checked
def normal_(self: Tensor, mean: Number = 0.0, std: Number = 1.0, *, generator: Any = None) -> Tensor:
    """Draw every element anew, of the normal distribution."""
    _check_floating(self, "normal_")
    if not std >= 0:
        raise RuntimeError(f"normal expects std >= 0.0, but found std {std}")
    return writing.assign(self, _instead(self, creation.randn_like(self, generator=generator) * std + mean))


def _check_floating(self: Tensor, name: str) -> None:
    writing.check_in_place(self, name)
    if not self.dtype.is_floating_point:
        raise NotImplementedError(f'"{name}" is not implemented for {self.dtype}: {describe(self)}, at {location()}')


Tensor.uniform_, Tensor.normal_ = uniform_, normal_


# --- in place of compositions -----------------------------------------------------------------------------------------


def _composed(name: str, function: Any) -> Any:
    """A function that is no operation of the table: its result takes the place of the tensor's elements."""

    def in_place(self: Tensor, *args: Any, **facts: Any) -> Tensor:
        writing.check_in_place(self, f"{name}_")
        result = function(self, *args, **facts)
        if result is self:
            return self
        if result._kind.shape != self._kind.shape:
            raise RuntimeError(
                f"output with shape {list(self._kind.shape)} doesn't match the broadcast shape "
                f"{list(result._kind.shape)}: {name}_ on {describe(self)}, at {location()}"
            )
        _check_dtype(self, result._kind.dtype, f"{name}_")
        return writing.assign(self, cast(result, self._kind.dtype))

    in_place.__name__ = f"{name}_"
    in_place.__doc__ = f"`{name}`, in place."
    in_place.__wrapped__ = function
    return in_place


_COMPOSED = {
    elementwise: (
        "addcdiv", "addcmul", "clamp_max", "clamp_min", "conj_physical", "ldexp", "lerp", "mvlgamma", "nan_to_num",
    ),
    scattering: (
        "index_add", "index_copy", "index_fill", "index_put", "index_reduce", "masked_scatter", "put", "scatter",
        "scatter_add", "scatter_reduce",
    ),
    contractions: ("addbmm", "addmm", "addmv", "addr", "baddbmm"),
}  # fmt: skip
for _module, _composed_names in _COMPOSED.items():
    for _name in _composed_names:
        setattr(Tensor, f"{_name}_", _composed(_name, _module.functions[_name]))


def _reformed(name: str, function: Any) -> Any:
    """The form in place of a function whose result has another shape, or other strides."""

    @functools.wraps(function)
    def in_place(self: Tensor, *args: Any, **facts: Any) -> Tensor:
        writing.check_in_place(self, f"{name}_", writes=False)
        if isinstance(self, Batched):  # a handle of its own: what it shows of the samples is another view
            self.physical = function(self, *args, **facts).physical
            return self
        if writing.shares(self):
            return writing.relay(self, lambda t: function(t, *args, **facts))
        return writing.reform(self, function(self, *args, **facts).clone(), f"{name}_")

    in_place.__name__ = in_place.__qualname__ = f"{name}_"
    in_place.__doc__ = f"`{name}`, in place: what shares the elements keeps its form."
    return in_place


for _name in ("squeeze", "swapdims", "t", "transpose", "unsqueeze"):
    setattr(Tensor, f"{_name}_", _reformed(_name, getattr(Tensor, _name)))
Tensor.swapaxes_ = Tensor.swapdims_
Tensor.as_strided_ = _reformed("as_strided", joining.as_strided)
for _name in ("tril", "triu"):
    setattr(Tensor, f"{_name}_", _composed(_name, arrays.functions[_name]))


@checked
def fill_diagonal_(self: Tensor, fill_value: Number, wrap: bool = False) -> Tensor:
    """Give the elements whose indices are all equal a value; with `wrap` those of a tall matrix go on below.

    >>> import tapegrad as tg
    >>> tg.zeros(2, 2).fill_diagonal_(3.0)
    tensor([[3., 0.],
            [0., 3.]])

    Raises
    ------
    RuntimeError
        Where there are fewer than two dimensions, or more than two of lengths that differ.
    """
    shape = self._kind.shape
    if len(shape) < 2:
        raise RuntimeError(f"dimensions must larger than 1: fill_diagonal_ of {describe(self)}, at {location()}")
    if len(shape) > 2 and len(set(shape)) > 1:
        raise RuntimeError(
            f"all dimensions of input must be of equal length: fill_diagonal_ of {describe(self)}, at {location()}"
        )
    step = sum(math.prod(shape[d + 1 :]) for d in range(len(shape)))
    n = self._kind.numel if wrap and len(shape) == 2 else min(shape) * step
    is_diagonal = np.zeros(self._kind.numel, bool)
    is_diagonal[:n:step] = True
    filled: Tensor = masked_fill_(self, from_array(is_diagonal.reshape(shape)), fill_value)
    return filled


Tensor.fill_diagonal_ = fill_diagonal_


@checked
def resize_(self: Tensor, *sizes: Any, size: Sizes | None = None, memory_format: Any = contiguous_format) -> Tensor:
    """The same elements in their order, as many as the new shape has; what is more than there were is zero.

    They are laid out one after the other: a `memory_format` that puts the channels last is refused.

    Raises
    ------
    RuntimeError
        Where the tensor requires grad; where it shares its elements with others, and has fewer.
    """
    shape = size_of("resize_", sizes, size)
    if has_channels_last(memory_format, len(shape)):
        raise RuntimeError(f"resize_: elements lie one after the other, but {memory_format} was asked for")
    if self._kind.requires_grad:
        raise RuntimeError(f"cannot resize variables that require grad: resize_ of {describe(self)}, at {location()}")
    writing.check_in_place(self, "resize_")
    if shape == self._kind.shape:
        return self
    if math.prod(shape) <= self._kind.numel and writing.shares(self):
        steps = [math.prod(shape[d + 1 :]) for d in range(len(shape))]  # what lies in memory one after another
        return writing.relay(self, lambda t: t.as_strided(shape, steps, t.storage_offset()))
    return writing.reform(self, _resized(self, shape), "resize_")


def _resized(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    n = math.prod(shape)
    more = creation.zeros(max(n - x._kind.numel, 0), dtype=x._kind.dtype)
    return cat([x.reshape(-1)[:n], more]).reshape(shape).clone()


@checked
def resize_as_(self: Tensor, other: Tensor, *, memory_format: Any = contiguous_format) -> Tensor:
    """`resize_` to the shape of another.

    >>> import tapegrad as tg
    >>> tg.resize_as_(tg.arange(4), tg.ones(2, 2))
    tensor([[0, 1],
            [2, 3]])
    """
    return resize_(self, other._kind.shape, memory_format=memory_format)


Tensor.resize_, Tensor.resize_as_ = resize_, resize_as_


def float_power_(self: Tensor, exponent: Any) -> Tensor:
    """`float_power`, in place.

    Raises
    ------
    RuntimeError
        Where the dtype is not float64.
    """
    if self._kind.dtype is not FLOAT64:
        raise RuntimeError(
            f"the base given to float_power_ has dtype {self._kind.dtype.scalar_type} but the operation's "
            f"result requires dtype Double: {describe(self)}, at {location()}"
        )
    return _of_powers(self, exponent)


_of_powers = _composed("float_power", elementwise.float_power)
Tensor.float_power_ = float_power_


@checked
def polygamma_(self: Tensor, n: int) -> Tensor:
    """`polygamma`, in place."""
    return _of_derivatives(self, n)


_of_derivatives = _composed("polygamma", Tensor.polygamma)
Tensor.polygamma_ = polygamma_

# Methods in place that are functions too, as in PyTorch; the examples are those of the functions.
__test__: dict[str, str] = {}  # what is made here has its examples checked too
for _name in (
    "abs acos acosh addmv arccos arccosh arcsin arcsinh arctan arctanh as_strided asin asinh atan atanh ceil clamp "
    "clamp_max clamp_min clip conj_physical cos cosh deg2rad detach erf erfc exp exp2 expm1 fill fix floor frac gcd "
    "index_put lcm ldexp log log10 log1p log2 logit nan_to_num neg negative rad2deg reciprocal relu resize_as round "
    "rsqrt sigmoid sin sinc sinh sqrt square tan tanh trunc xlogy zero"
).split():
    functions[f"{_name}_"] = _made = getattr(Tensor, f"{_name}_")
    _, _import, _example = (getattr(_made, "__wrapped__", _made).__doc__ or "").partition(">>> import tapegrad as tg\n")
    _shown = re.sub(r"\btg\.(?!tensor\b|ones\b|zeros\b)\w+\(", f"tg.{_name}_(", inspect.cleandoc(_example))
    if _shown and _made.__doc__ == f"`{_name}`, in place.":
        _made.__doc__ = __test__[f"{_name}_"] = f"{_made.__doc__}\n\n{_import}{_shown}\n"
