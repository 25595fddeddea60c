"""Methods that arrays have, on Tensors: programs for NumPy call them in functions that are differentiated.

Names that PyTorch's tensors lack are methods of all Tensors. Of those that mean something else there, PyTorch's meaning
is that of Tensors; in a function of arrays (`tape.of_arrays`), where Tensors stand for these, calls that only arrays
take are NumPy's, and where both would take a call, a warning says whose meaning it has: but what `np.array` and its
kin have made (`array_makers.py`) has methods of arrays.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy

from tapegrad import dtypes, numpy_protocol
from tapegrad.array_makers import is_array_to_user
from tapegrad.tensor import Tensor, depth_of_user, is_users

np: Any = numpy
assert numpy_protocol.OF_SCIPY  # its functions, and NumPy's, take Tensors

# --- methods that PyTorch's tensors lack ------------------------------------------------------------------------------


def _astype(
    self: Tensor, dtype: Any, order: str = "K", casting: Any = "unsafe", subok: bool = True, copy: bool = True
) -> Tensor:
    """As `to`, by the dtype's name in NumPy: a copy, unless `copy` is False and it has the dtype already.

    Raises
    ------
    TypeError
        Where the dtype is none of tapegrad's, or `casting` forbids it.
    """
    del order, subok
    wanted = dtype if isinstance(dtype, dtypes.DType) else dtypes.BY_NUMPY.get(np.dtype(dtype))
    if wanted is None:
        raise TypeError(f"astype(): tensors are of {', '.join(d.name for d in dtypes.DTYPES)}, not {np.dtype(dtype)}")
    if not np.can_cast(self.dtype.numpy, wanted.numpy, casting):
        raise TypeError(
            f"Cannot cast array data from {self.dtype.name} to {wanted.name} according to the rule '{casting}'"
        )
    if self.dtype is wanted:
        return self.clone() if copy else self
    return self.to(wanted)


def _copy(self: Tensor, order: str = "C") -> Tensor:
    """The elements, as an own tensor."""
    del order
    return self.clone()


def _fill(self: Tensor, value: Any) -> None:
    """Make all elements this number."""
    self.fill_(value)


def _partition(self: Tensor, kth: Any, axis: int = -1, kind: str = "introselect", order: Any = None) -> None:
    """As `np.partition`, in place."""
    self.copy_(np.partition(self, kth, axis, kind, order))


def _compress(self: Tensor, condition: Any, axis: int | None = None, out: Any = None) -> Any:
    """See `np.compress`."""
    return np.compress(condition, self, axis, **({} if out is None else {"out": out}))


def _choose(self: Tensor, choices: Any, out: Any = None, mode: Any = "raise") -> Any:
    """See `np.choose`."""
    return np.choose(self, choices, **({} if out is None else {"out": out}), mode=mode)


def _argpartition(self: Tensor, kth: Any, axis: int | None = -1, kind: Any = "introselect", order: Any = None) -> Any:
    """See `np.argpartition`."""
    return np.argpartition(self, kth, axis, kind, order)


def _conjugate(self: Tensor) -> Tensor:
    """Itself: its elements are real."""
    return self.conj()


def _tobytes(self: Tensor, order: Any = "C") -> bytes:
    """The bytes of the elements."""
    return self.detach().numpy().tobytes(order)


class Flat:
    """The elements of a tensor, one after the other."""

    def __init__(self, of: Tensor) -> None:
        self._of = of

    def __len__(self) -> int:
        return self._of.numel()

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self._of.reshape(-1))

    def __getitem__(self, index: Any) -> Tensor:
        found: Tensor = self._of.reshape(-1)[index]
        return found

    def __setitem__(self, index: Any, value: Any) -> None:
        elements = self._of.reshape(-1).clone()
        elements[index] = value
        self._of.copy_(elements.reshape(self._of.shape))


setattr(Tensor, "flat", property(Flat, doc="The elements one after the other, to go through, and to index."))  # noqa: B010
for _method in (_argpartition, _astype, _choose, _compress, _conjugate, _copy, _fill, _partition, _tobytes):
    _method.__name__ = _method.__name__[1:]
    _method.__qualname__ = f"Tensor.{_method.__name__}"
    setattr(Tensor, _method.__name__, _method)


# --- calls that only arrays take --------------------------------------------------------------------------------------


def _of_arrays(name: str, is_meant: Callable[..., bool], function: Callable[..., Any]) -> None:
    """Have a method take calls of arrays in functions of these."""
    method = getattr(Tensor, name)

    @functools.wraps(method)
    def either(self: Tensor, *args: Any, **facts: Any) -> Any:
        if self._tape.of_arrays and (is_array_to_user(self) or is_meant(self, *args, **facts)) and is_users():
            return function(self, *args, **facts)
        return method(self, *args, **facts)

    setattr(Tensor, name, either)


def _transposed(self: Tensor, *axes: Any) -> Any:
    return np.transpose(self, axes[0] if len(axes) == 1 else axes or None)


def _reshaped(self: Tensor, *shape: Any, order: Any = "C", copy: Any = None) -> Any:
    made = np.reshape(self, shape[0] if len(shape) == 1 else shape, order=order)
    return made.clone() if copy else made


_of_arrays("transpose", lambda _, *axes, **facts: len(axes) != 2 and not facts, _transposed)
_of_arrays("reshape", lambda *_, **facts: "order" in facts or "copy" in facts, _reshaped)
_of_arrays("flatten", lambda _, *given, **facts: "order" in facts or isinstance((*given, 0)[0], str), np.ravel)
_of_arrays("ravel", lambda _, *given, **facts: bool(given or facts), np.ravel)
_of_arrays("round", lambda _, *given, **__: bool(given), np.round)
_of_arrays("trace", lambda _, *given, **facts: bool(given or facts), np.trace)
_of_arrays("dot", lambda x, y, *_, **__: x.ndim != 1 or np.ndim(y) != 1, np.dot)
_of_arrays("take", lambda _, i, *given, **facts: bool(given or facts) or not isinstance(i, Tensor), np.take)
_of_arrays("nonzero", lambda _, **facts: not facts, np.nonzero)
_of_arrays("view", lambda _, *given, **facts: not (given or facts), lambda x, *given: x.view(*given or (x.shape,)))
for _name in ("max", "min"):
    _of_arrays(_name, lambda *_, **facts: "axis" in facts, getattr(np, _name))
for _name in ("cumsum", "cumprod"):
    _of_arrays(
        _name, lambda _, *given, **facts: (*given, facts.get("axis"))[0] is None and "dim" not in facts,
        getattr(np, _name),
    )  # fmt: skip


# --- calls that both take: a warning tells whose they are -------------------------------------------------------------


def _warns(name: str, says: str, is_told: Callable[..., bool], theirs: Callable[..., Any] | None = None) -> None:
    """Have a method warn in functions of arrays; `theirs` is what that of arrays does."""
    method = getattr(Tensor, name)

    @functools.wraps(method)
    def warning(self: Tensor, *args: Any, **facts: Any) -> Any:
        if theirs is not None and self._tape.of_arrays and is_array_to_user(self) and is_users():
            return theirs(self, *args, **facts)
        if self._tape.of_arrays and not is_told(self, *args, **facts) and is_users():
            warnings.warn(
                f"{name}() in a function of arrays that is differentiated: there it is given Tensors, whose {name}() "
                f"{says}",
                UserWarning,
                stacklevel=depth_of_user(),
            )
        return method(self, *args, **facts)

    setattr(Tensor, name, warning)


def _sorted(self: Tensor, *args: Any, **facts: Any) -> None:
    self.copy_(np.sort(self, *args, **facts))


def _says_divisor(_: Tensor, *args: Any, **facts: Any) -> bool:
    return len(args) > 1 or "correction" in facts or "unbiased" in facts


for _name in ("var", "std"):
    _says = f"divides by n - 1, as PyTorch's, and that of arrays by n: say np.{_name}(x), or give the correction"
    _warns(_name, _says, _says_divisor, getattr(np, _name))
_warns("repeat", "repeats the whole, as PyTorch's, and that of arrays each element: say np.repeat or np.tile",
       lambda *_: False, np.repeat)  # fmt: skip
_warns("sort", "gives what is sorted, as PyTorch's, and that of arrays sorts in place: say x = np.sort(x)",
       lambda *_, **__: False, _sorted)  # fmt: skip
_warns("transpose", "exchanges two dimensions, as PyTorch's, and that of arrays permutes them: say np.transpose",
       lambda _, *axes, **__: len(axes) != 2 or [*axes] != sorted(axes))  # fmt: skip
for _name in ("item", "tolist"):
    _warns(_name, "gives numbers, which have no derivatives: leave it out, or say x.detach() where values are meant",
           lambda x: not (x.requires_grad and x._tape.grad_enabled))  # fmt: skip
