"""What scripts ask of tensors in passing: where elements are, of what sort; `set_`, `apply_`, `map_`, `map2_`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tapegrad import aliasing, writing
from tapegrad.arguments import checked
from tapegrad.creation import empty, tensor
from tapegrad.kinds import address_of
from tapegrad.tensor import Tensor, describe, location


def data_ptr(self: Tensor) -> int:
    """The address of the first element: that of others which share it; after a write in place it may be another.

    >>> import tapegrad as tg
    >>> x = tg.ones(3)
    >>> x[1:].data_ptr() - x.data_ptr()
    8
    """
    return 0 if not self._kind.numel else address_of(self.detach().numpy())


class Storage:
    """The memory of a tensor and all that share its elements: where it is, and how large. Elements are read from it.

    >>> import tapegrad as tg
    >>> x = tg.ones(4)
    >>> x[2:].untyped_storage().nbytes(), x[2:].untyped_storage().data_ptr() == x.data_ptr()
    (32, True)
    """

    def __init__(self, t: Tensor, has_type: bool) -> None:
        self._t, self._unit = aliasing.top_of(t), t._kind.itemsize if has_type else 1

    def data_ptr(self) -> int:
        """The address of the first byte."""
        return data_ptr(self._t)

    def nbytes(self) -> int:
        """How many bytes it has."""
        return self._t._kind.numel * self._t._kind.itemsize

    def size(self) -> int:
        """How many elements, or bytes where it is untyped."""
        return self.nbytes() // self._unit

    def element_size(self) -> int:
        """How many bytes an element has; 1 where it is untyped."""
        return self._unit

    def tolist(self) -> list[Any]:
        """The elements, or bytes."""
        array = self._t.detach().numpy().reshape(-1)
        found: list[Any] = (array if self._unit > 1 else array.view("u1")).tolist()
        return found

    def __getitem__(self, key: Any) -> Any:
        return self.tolist()[key]

    __len__ = size


def untyped_storage(self: Tensor) -> Storage:
    """The memory of the elements, in bytes."""
    return Storage(self, False)


def storage(self: Tensor) -> Storage:
    """The memory of the elements."""
    return Storage(self, True)


def is_set_to(self: Tensor, tensor: Tensor) -> bool:
    """Whether it has the elements of another, in its shape and strides."""
    return data_ptr(self) == data_ptr(tensor) and (self.shape, self.stride()) == (tensor.shape, tensor.stride())


def set_(
    self: Tensor,
    source: Tensor | None = None,
    storage_offset: int | None = None,
    size: tuple[int, ...] | None = None,
    stride: tuple[int, ...] | None = None,
) -> Tensor:
    """Share the elements of another tensor, or some of them, by offset, size and strides; none without a source.

    Raises
    ------
    RuntimeError
        Where the dtypes differ; of a leaf that requires grad, while gradients are recorded.
    """
    if source is None:
        source = empty(0, dtype=self.dtype)
    if not isinstance(source, Tensor):
        raise TypeError(f"set_() takes a Tensor, but got {type(source).__name__}")
    if source.dtype is not self.dtype:
        raise RuntimeError(
            f"Could not set tensor of type {source.dtype} to a tensor of type {self.dtype}: {describe(self, source)}, "
            f"at {location()}"
        )
    writing.check_in_place(self, "set_")
    if size is not None:
        strides = stride if stride is not None else empty(*size).stride()
        source = aliasing.top_of(source).as_strided(size, strides, storage_offset or 0)
    self.data = source.detach()
    return self


def _replaced(self: Tensor, name: str, function: Callable[..., Any], *others: Tensor) -> Tensor:
    if self.requires_grad:
        raise RuntimeError(f"Can't call {name}() on Variable that requires grad. Use var.detach().{name}() instead.")
    operands = [t.reshape(-1).tolist() for t in (self, *others)]
    values = [function(*each) for each in zip(*operands, strict=True)]
    for value in values:
        if not hasattr(type(value), "__float__"):
            raise TypeError(f"must be real number, not {type(value).__name__}: what {name}() was given gave it")
    made: Tensor = self.copy_(tensor(values, dtype=self.dtype).reshape(self.shape))
    return made


def apply_(self: Tensor, callable: Callable[[Any], Any]) -> Tensor:
    """Replace each element by what a function of Python numbers gives: slow, and without a derivative.

    >>> import tapegrad as tg
    >>> tg.ones(2).apply_(lambda x: x + 1)
    tensor([2., 2.])
    """
    return _replaced(self, "apply_", callable)


def map_(self: Tensor, other: Tensor, callable: Callable[[Any, Any], Any]) -> Tensor:
    """Replace each element by what a function of it and another tensor's gives: slow, and without a derivative."""
    return _replaced(self, "map_", callable, other.detach().expand(self.shape))


def map2_(self: Tensor, x: Tensor, y: Tensor, callable: Callable[[Any, Any, Any], Any]) -> Tensor:
    """Replace each element by what a function of it and two other tensors' gives: slow, and without a derivative."""
    return _replaced(self, "map2_", callable, *(t.detach().expand(self.shape) for t in (x, y)))


def _fact(name: str, value: Any, document: str, is_method: bool = True) -> None:
    def get(self: Tensor) -> Any:
        return value(self)

    get.__name__ = get.__qualname__ = name
    get.__doc__ = document
    get.__annotations__["return"] = type(value(empty(1))).__name__
    setattr(Tensor, name, get if is_method else property(get, doc=document))


_fact("get_device", lambda _: -1, "-1: it is on the CPU.")
_fact("is_signed", lambda t: t.dtype.numpy.kind in "fi", "Whether its dtype has negative numbers.")
_fact("is_conj", lambda _: False, "False: it isn't complex.")
_fact("is_neg", lambda _: False, "False.")
_fact("is_pinned", lambda _: False, "False: the CPU's memory is not pinned.")
_fact("is_inference", lambda _: False, "False: what `inference_mode` makes is a tensor like others.")
_fact("is_shared", lambda _: False, "False: other processes don't see its memory.")
_fact("dense_dim", lambda t: t.ndim, "How many dimensions it has: none is sparse.")
_fact("sparse_dim", lambda _: 0, "0: it isn't sparse.")
_fact("to_dense", lambda t: t, "Itself: it isn't sparse.")
_fact("is_cpu", lambda _: True, "True.", is_method=False)
_fact("itemsize", lambda t: t._kind.itemsize, "How many bytes an element has.", is_method=False)
for _name in ("is_quantized", "is_mps", "is_xpu", "is_meta", "is_nested", "is_mkldnn", "is_sparse_csr"):
    _fact(_name, lambda _: False, "False.", is_method=False)


def _is(name: str) -> Any:
    """A method that says what a tensor is, as a function."""

    def function(input: Tensor) -> Any:
        return getattr(input, name)()

    function.__name__ = function.__qualname__ = name
    function.__doc__ = getattr(Tensor, name).__doc__
    function.__annotations__["return"] = getattr(Tensor, name).__annotations__["return"]
    return checked(function)


is_conj, is_inference, is_neg, is_signed = (_is(name) for name in ("is_conj", "is_inference", "is_neg", "is_signed"))
get_device = _is("get_device")


def is_storage(obj: Any) -> bool:
    """Whether it is the memory of a tensor's elements, as `untyped_storage` gives it."""
    return isinstance(obj, Storage)


def typename(obj: Any) -> str:
    """The name of a tensor's type, or of another object's class.

    >>> import tapegrad as tg
    >>> tg.typename(tg.ones(2)), tg.typename(tg.nn.ReLU())
    ('tapegrad.DoubleTensor', 'tapegrad.nn.ReLU')
    """
    if isinstance(obj, Tensor):
        return str(obj.type())
    kind = type(obj)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


for _method in (apply_, data_ptr, is_set_to, map2_, map_, set_, storage, untyped_storage):
    setattr(Tensor, _method.__name__, _method)
__all__ = ["Storage"]
