"""Layers that learn the length of what they are given when they are first given something, and then are made.

Until then their parameters are `UninitializedParameter`s, which have no elements; the first call has
`initialize_parameters` make them, and the layer becomes one of the class that it stands for.
"""

from __future__ import annotations

from typing import Any

from tapegrad.nn import layers
from tapegrad.nn.module import Module
from tapegrad.nn.parameter import UninitializedBuffer, UninitializedParameter
from tapegrad.tape import current_tape, in_grad_mode
from tapegrad.tensor import Tensor


class LazyModuleMixin(Module):
    """What such layers share; a subclass has `initialize_parameters(*args)`, called with the first arguments.

    >>> import tapegrad as tg
    >>> layer = tg.nn.LazyLinear(2)
    >>> layer.weight
    <UninitializedParameter>
    >>> layer(tg.ones(5, 3)).shape
    tapegrad.Size([5, 2])
    >>> layer
    Linear(in_features=3, out_features=2, bias=True)
    """

    cls_to_become: type[Module] | None = None

    def __init__(self, *args: Any, **facts: Any) -> None:
        super().__init__(*args, **facts)
        self._infers = self.register_forward_pre_hook(_infer, with_kwargs=True)

    def initialize_parameters(self, *args: Any, **facts: Any) -> None:
        """Make the parameters, by `materialize`."""
        raise NotImplementedError(f"initialize_parameters is not implemented for {type(self).__name__}")

    def has_uninitialized_params(self) -> bool:
        """Whether some parameters or buffers are yet to be made."""
        return any(isinstance(t, UninitializedBuffer) for t in (*self._parameters.values(), *self._buffers.values()))


def _infer(module: Any, args: tuple[Any, ...], facts: dict[str, Any]) -> None:
    """Before the first call."""
    in_grad_mode(current_tape(), False, module.initialize_parameters, *args, **facts)
    if module.has_uninitialized_params():
        raise RuntimeError(f"module {module._get_name()} has not been fully initialized")
    module._infers.remove()
    del module._infers
    if module.cls_to_become is not None:
        module.__class__ = module.cls_to_become


class _Lazy(LazyModuleMixin):
    """A layer whose parameters all follow from one length of its argument."""

    length: str  # the attribute that has it

    def _later(self, *names: str, dtype: Any = None, of: Any = UninitializedParameter) -> None:
        """Have parameters, or buffers, be made later."""
        for name in names:
            held = self._parameters if of is UninitializedParameter else self._buffers
            held[name] = of(dtype=dtype, module=self, name=name)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each, once the length is known."""
        raise NotImplementedError

    def initialize_parameters(self, input: Tensor) -> None:
        """See `LazyModuleMixin`."""
        if getattr(self, self.length) == 0:
            setattr(self, self.length, self._length_of(input))
        if self.has_uninitialized_params():
            for name, shape in self.shapes().items():
                if isinstance(held := getattr(self, name), UninitializedBuffer):
                    held.materialize(shape)
            self.reset_parameters()

    def _length_of(self, input: Tensor) -> int:
        return input.shape[-1]


class LazyLinear(_Lazy, layers.Linear):
    """`Linear`, whose `in_features` is that of the first input.

    >>> import tapegrad as tg
    >>> layer = tg.nn.LazyLinear(2)
    >>> layer(tg.ones(5, 3)).shape, layer.in_features
    (tapegrad.Size([5, 2]), 3)
    """

    cls_to_become, length = layers.Linear, "in_features"

    def __init__(self, out_features: int, bias: bool = True, device: Any = None, dtype: Any = None) -> None:
        super().__init__(0, 0, False, device, dtype)
        self.out_features = out_features
        self._later("weight", *["bias"] * bias, dtype=dtype)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """See `_Lazy`."""
        return {"weight": (self.out_features, self.in_features), "bias": (self.out_features,)}


class _LazyConvolution(_Lazy, layers.Convolution):
    length = "in_channels"

    def __init__(self, out_channels: int, kernel_size: Any, *args: Any, **facts: Any) -> None:
        super().__init__(0, 0, kernel_size, *args, **facts)
        has_bias, dtype = self.bias is not None, self.weight.dtype
        self.out_channels = out_channels
        self._later("weight", *["bias"] * has_bias, dtype=dtype)

    def _length_of(self, input: Tensor) -> int:
        n = self.dimensions
        if input.ndim not in (n + 1, n + 2):
            raise RuntimeError(
                f"Expected {n + 1}D (unbatched) or {n + 2}D (batched) input to {type(self).__name__}, but got input of "
                f"size: {input.shape}"
            )
        found = input.shape[-1 - n]
        if found % self.groups:
            raise ValueError("in_channels must be divisible by groups")
        return found

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """See `_Lazy`."""
        a, b = self.out_channels, self.in_channels
        a, b = (b, a) if self.transposed else (a, b)
        return {"weight": (a, b // self.groups, *self.kernel_size), "bias": (self.out_channels,)}


class _LazyNorm(_Lazy, layers.RunningNorm):
    length = "num_features"

    def __init__(self, *args: Any, **facts: Any) -> None:
        super().__init__(0, *args, **facts)
        dtype = facts.get("dtype")
        if self.affine:
            self._later("weight", "bias", dtype=dtype)
        if self.track_running_stats:
            self._later("running_mean", "running_var", dtype=dtype, of=UninitializedBuffer)

    def _length_of(self, input: Tensor) -> int:
        self._check(input)
        is_sample = isinstance(self, layers.InstanceNorm) and input.ndim < self.dimensions[-1]
        return input.shape[0 if is_sample else 1]

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """See `_Lazy`."""
        return dict.fromkeys(("weight", "bias", "running_mean", "running_var"), (self.num_features,))


_MADE = {
    f"{kind}{n}d": base
    for n in (1, 2, 3)
    for kind, base in (
        ("Conv", _LazyConvolution), ("ConvTranspose", _LazyConvolution), ("BatchNorm", _LazyNorm),
        ("InstanceNorm", _LazyNorm),
    )
}  # fmt: skip
__test__ = {}  # what is made here has its examples checked too
for _name, _base in _MADE.items():
    _of = getattr(layers, _name)
    __test__[_name] = f"""`{_name}`, whose `{_base.length}` is that of the first input.

    >>> import tapegrad as tg
    >>> layer = tg.nn.Lazy{_name}({"2, kernel_size=3" if _base is _LazyConvolution else ""})
    >>> layer(tg.ones(2, 4{", 5" * int(_name[-2])})).shape[1], layer.{_base.length}
    ({2 if _base is _LazyConvolution else 4}, 4)
    """
    globals()[f"Lazy{_name}"] = type(
        f"Lazy{_name}",
        (_base, _of),
        {"__doc__": __test__[_name], "__module__": __name__, "cls_to_become": _of},
    )

__all__ = ["LazyLinear", "LazyModuleMixin", *(f"Lazy{name}" for name in _MADE)]  # noqa: PLE0604 - names, all of them
