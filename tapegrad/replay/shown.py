"""What stands for arrays and numbers that a transform has made, while a function is recorded that goes on with them.

Beside the elements, which Python sees, it has the tensor that they are of. What NumPy, or Python, computes with them
exactly (sums, products, quotients, slices, comparisons) is recorded as operations on that tensor, which have the same
bits, but for the sign of a nan that is made of two, which NumPy does not keep to either. So a program goes on with it
too. All else asks for the elements, and is guarded by their bits.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from tapegrad import engine
from tapegrad.creation import tensor
from tapegrad.replay.standins import ForArray, Number, Shown, StandIn, reflected
from tapegrad.tape import in_grad_mode
from tapegrad.tensor import Tensor, from_array

_UFUNCS: dict[Any, Callable[..., Any]] = {
    np.add: operator.add, np.subtract: operator.sub, np.multiply: operator.mul, np.true_divide: operator.truediv,
    np.negative: operator.neg, np.absolute: operator.abs, np.sqrt: np.sqrt,
}  # fmt: skip
_LAYOUTS = {"ravel": "reshape", "reshape": "reshape", "copy": "clone", "squeeze": "squeeze", "flatten": "reshape"}
_OF_ALL = {"all", "any", "max", "min"}


class _Seen(Shown):
    """What both have in common."""

    __slots__ = ("t", "value", "watch")

    def __init__(self, watch: Any, value: Any, t: Tensor) -> None:
        self.watch, self.value, self.t = watch, value, t

    def asked(self) -> Any:
        """The elements, for someone who may do with them what can't be seen."""
        if not self.watch.is_over:
            self.told(self.t)
        return self.value

    def told(self, t: Tensor) -> None:
        """Python learns what a tensor that was computed of it has."""
        engine.evaluate(self.watch.tape, t._slot)
        self.watch.learns(t)

    def by(self, function: Callable[..., Any], *given: Any) -> Any:
        """What a function that is exact makes of it, and of others: of the elements, and of the tensors."""
        made = function(*map(_value, given))
        operands = None if self.watch.is_over else self._operands(given)
        if operands is None:
            return function(*map(_asked, given))
        if type(made) is float and reflected.get(function, function) is operator.truediv:
            divisor = given[0] if function in reflected else given[-1]
            if isinstance(divisor, _Seen):
                self.told(in_grad_mode(self.watch.tape, False, operator.ne, divisor.t, 0.0))
            elif type(divisor) is Number:
                divisor.told(bool, divisor)
        exact = reflected.get(function, function)
        operands = operands[::-1] if function in reflected else operands
        t = in_grad_mode(self.watch.tape, False, _TENSORS.get(exact, exact), *operands)
        return self.seen(made, t, given, function)

    def seen(self, made: Any, t: Tensor, given: Any, function: Callable[..., Any]) -> Any:
        """What stands for what was made, if the tensor is as it is."""
        if t.dtype.numpy != np.asarray(made).dtype or tuple(t.shape) != np.shape(made):
            return function(*map(_asked, given))
        if type(made) not in (bool, np.bool_) and (known := shown(self.watch, made, t)) is not None:
            return known
        self.told(t)
        return made

    def _operands(self, given: Any) -> list[Any] | None:
        """Tensors and numbers; None where what they would make is not known to have the same bits."""
        dtypes = {x.value.dtype for x in given if type(x) in (ShownArray, StandIn)}
        dtypes |= {x.dtype for x in given if type(x) is np.ndarray}
        dtypes |= {np.dtype(type(x.value)) for x in given if type(x) is ShownNumber and not dtypes}
        if len(dtypes) != 1 or (dtype := dtypes.pop()).char not in "fd":
            return None
        found: list[Any] = []
        for x in given:
            if isinstance(x, _Seen):
                if np.dtype(type(x.value)) != dtype and type(x.value) is not float and type(x) is ShownNumber:
                    return None
                found.append(x.t)
            elif type(x) is StandIn:
                found.append(from_array(x))  # type: ignore[arg-type]
            elif type(x) is np.ndarray:
                found.append(tensor(x))
            elif type(x) in (Number, int, float) and (type(x) is not int or abs(x) <= 1 << 53):
                found.append(x)
            else:
                return None
        return found

    def __bool__(self) -> bool:
        if type(self) is ShownNumber and not self.watch.is_over:
            self.told(in_grad_mode(self.watch.tape, False, operator.ne, self.t, 0.0))
            return bool(self.value)
        return bool(self.asked())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.asked(), dtype)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **facts: Any) -> Any:
        if any(isinstance(x, Tensor) for x in inputs):
            return NotImplemented
        if facts or method != "__call__" or ufunc not in _UFUNCS:
            return getattr(ufunc, method)(*map(_asked, inputs), **facts)
        return self.by(_UFUNCS[ufunc], *inputs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__array_") or not hasattr(self.value, name):
            raise AttributeError(name)
        return getattr(self.asked(), name)


class ShownArray(_Seen, ForArray):
    """Stands for an array."""

    __slots__ = ()

    T = property(lambda self: self._laid_out(lambda x: x.T if x.ndim == 2 else x.reshape(x.shape)))

    def _laid_out(self, layout: Callable[[Any], Any]) -> Any:
        """The same elements otherwise."""
        made = layout(self.value)
        if self.watch.is_over:
            return made
        return self.seen(made, in_grad_mode(self.watch.tape, False, layout, self.t), (self,), layout)

    def __len__(self) -> int:
        return len(self.value)

    def __iter__(self) -> Any:
        return iter([self[i] for i in range(len(self.value))])

    def __getitem__(self, index: Any) -> Any:
        parts = index if isinstance(index, tuple) else (index,)
        if all(type(part) in (int, slice, type(None), type(...)) for part in parts) and not any(
            type(part) is slice and (part.step or 1) < 0 for part in parts
        ):
            return self._laid_out(lambda x: x[index])
        return self.asked()[_asked(index)]

    def __setitem__(self, index: Any, value: Any) -> None:
        self.watch.fail("changes an array that a transform has made")
        self.value[index] = value

    def __getattr__(self, name: str) -> Any:
        if name in _LAYOUTS and not self.watch.is_over:
            return lambda *shape: self._laid_out(lambda x: _laid_out(x, name, shape))
        if name in _OF_ALL and not self.watch.is_over and self.value.size:
            return lambda **facts: self._reduced(name, facts)
        return super().__getattr__(name)

    def _reduced(self, name: str, facts: dict[str, Any]) -> Any:
        made = getattr(self.value, name)(**facts)
        if facts:
            self.asked()
            return made
        t = in_grad_mode(self.watch.tape, False, getattr(self.t, name))
        return self.seen(made, t, (self,), lambda x: getattr(x, name)())


def _laid_out(x: Any, name: str, shape: Any) -> Any:
    if not isinstance(x, Tensor):
        return getattr(x, name)(*shape)
    return getattr(x, _LAYOUTS[name])(*(shape if name == "reshape" else (-1,) if name in ("ravel", "flatten") else ()))


class ShownNumber(_Seen):
    """Stands for a number: a Python float, or an element of an array."""

    __slots__ = ()

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return type(self.value)

    def __hash__(self) -> int:
        return hash(self.asked())


def shown(watch: Any, value: Any, t: Tensor) -> Any:
    """What stands for elements of a tensor, if it can be stood for."""
    if type(value) is np.ndarray and value.ndim and value.dtype.char in "fd?":
        return ShownArray(watch, value, t)
    if type(value) in (float, np.float64, np.float32) and not t._kind.ndim:
        return ShownNumber(watch, value, t)
    return None


_TENSORS: dict[Any, Callable[..., Any]] = {np.sqrt: lambda t: t.sqrt(), operator.pow: lambda t, _: t * t}


def _value(x: Any) -> Any:
    return x.value if isinstance(x, _Seen) or type(x) in (StandIn, Number) else x


def _asked(x: Any) -> Any:
    return x.asked() if isinstance(x, _Seen) or type(x) in (StandIn, Number) else x


def _method(function: Callable[..., Any]) -> Any:
    def method(self: Any, *others: Any) -> Any:
        if any(isinstance(other, Tensor) for other in others):
            return NotImplemented
        return self.by(function, self, *others)

    return method


def _that_asks(function: Callable[..., Any]) -> Any:
    def method(self: Any, *others: Any) -> Any:
        if any(isinstance(other, Tensor) for other in others):
            return NotImplemented
        return function(*map(_asked, (self, *others)))

    return method


def _in_place(function: Callable[..., Any]) -> Any:
    def method(self: Any, other: Any) -> Any:
        if type(self) is ShownNumber:
            return NotImplemented
        self.watch.fail("changes an array that a transform has made")
        self.value = function(self.value, _asked(other))
        return self

    return method


def _power(self: Any, exponent: Any) -> Any:
    if type(self) is ShownArray and type(exponent) is int and exponent == 2:
        return self.by(operator.pow, self, exponent)
    return _asked(self) ** _asked(exponent)


for _name in ("add", "sub", "mul", "truediv"):
    _exact: Any = getattr(operator, f"__{_name}__")
    _reflection = next(made for made, function in reflected.items() if function is _exact)
    setattr(_Seen, f"__{_name}__", _method(_exact))
    setattr(_Seen, f"__r{_name}__", _method(_reflection))
for _name in ("lt", "le", "gt", "ge", "eq", "ne", "neg", "pos", "abs"):
    setattr(_Seen, f"__{_name}__", _method(getattr(operator, f"__{_name}__")))
for _name in ("floordiv", "mod", "matmul", "and", "or", "xor"):
    _exact = getattr(operator, f"__{_name}__")
    setattr(_Seen, f"__{_name}__", _that_asks(_exact))
    setattr(_Seen, f"__r{_name}__", _that_asks(lambda a, b, exact=_exact: exact(b, a)))
for _name in ("iadd", "isub", "imul", "itruediv", "ifloordiv", "imod", "ipow", "imatmul", "iand", "ior", "ixor"):
    setattr(_Seen, f"__{_name}__", _in_place(getattr(operator, f"__{_name}__")))
setattr(_Seen, "__pow__", _power)  # noqa: B010
setattr(_Seen, "__rpow__", _that_asks(lambda a, b: b**a))  # noqa: B010
_functions: dict[str, Callable[..., Any]] = {
    "float": float, "int": int, "complex": complex, "round": round, "repr": repr, "str": str, "format": format,
    "index": operator.index, "divmod": divmod, "contains": operator.contains, "invert": operator.invert,
}  # fmt: skip
for _name, _function in _functions.items():
    setattr(_Seen, f"__{_name}__", _that_asks(_function))
