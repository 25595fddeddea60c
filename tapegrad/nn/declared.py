"""Layers without parameters: each is a function of `nn.functional`, and the options that it is called with.

    declare("Softplus", functional.softplus, "beta=1.0, threshold=20.0", "beta={beta}, threshold={threshold}")

makes a class whose options are attributes, whose `forward` gives them to the function by their names, and whose text
shows them. Each section ends with the examples of its layers.
"""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Callable
from typing import Any

from tapegrad.nn import functional
from tapegrad.nn.functional.common import legacy
from tapegrad.nn.module import Module
from tapegrad.tensor import Tensor


class Declared(Module):
    """A function with options."""

    function: Callable[..., Any]
    options: inspect.Signature
    shown: str = ""
    also: tuple[str, ...] = ()  # options that the function isn't given

    def __init__(self, *args: Any, **facts: Any) -> None:
        super().__init__()
        bound = self.options.bind(*args, **facts)
        bound.apply_defaults()
        for name, value in bound.arguments.items():
            if isinstance(value, Tensor):
                self.register_buffer(name, value)
            else:
                setattr(self, name, value)
        self._passed = tuple(name for name in bound.arguments if name not in self.also)

    def forward(self, *inputs: Any, **facts: Any) -> Any:
        """The function of these."""
        options = {name: getattr(self, name) for name in self._passed}
        return type(self).function(*inputs, **(options | facts))

    def extra_repr(self) -> str:
        """See `Module`."""
        return self.shown.format(**vars(self))


def signature_of(options: str) -> inspect.Signature:
    """That of a function with such an argument list."""
    return inspect.signature(eval(f"lambda {options}: None", {}))  # noqa: S307 (an argument list of ours)


def declare(
    name: str, function: Callable[..., Any], options: str = "", shown: str = "", base: type = Declared, **facts: Any
) -> type:
    """The class of a function."""
    given = signature_of(options)
    document = (function.__doc__ or "").strip().partition("\n")[0]
    if not function.__name__.startswith("_"):
        document += f" See `nn.functional.{function.__name__}`."
    attributes = {
        "function": staticmethod(function), "options": given, "shown": shown,
        "__doc__": document, "__module__": "tapegrad.nn",
        "__signature__": given, **facts,
    }  # fmt: skip
    return type(name, (base,), attributes)


F = functional
layers: dict[str, type] = {}


def _declare(name: str, function: Callable[..., Any], options: str = "", shown: str = "", **facts: Any) -> None:
    layers[name] = declare(name, function, options, shown, **facts)


def _show(examples: str) -> None:
    """Give layers their examples, a paragraph each: it is that of the last layer that it names."""
    for example in examples.strip().split("\n\n"):
        layer = layers[re.findall(r"tg\.nn\.(\w+)", example)[-1]]
        layer.__doc__ = __test__[layer.__name__] = f"{layer.__doc__}\n\n>>> import tapegrad as tg\n{example}"


__test__: dict[str, str] = {}

# --- activations ------------------------------------------------------------------------------------------------------

for _name in "Sigmoid Tanh Softsign Tanhshrink LogSigmoid".split():
    _declare(_name, getattr(F, _name.lower()))
for _name in "ReLU ReLU6 SELU SiLU Mish Hardswish Hardsigmoid".split():
    _inplace: dict[str, Any] = {"extra_repr": lambda self: "inplace=True" if self.inplace else ""}
    _declare(_name, getattr(F, _name.lower()), "inplace=False", **_inplace)


def _shows_inplace(text: str) -> dict[str, Any]:
    return {"extra_repr": lambda self: text.format(**vars(self)) + (", inplace=True" if self.inplace else "")}


_declare("ELU", F.elu, "alpha=1.0, inplace=False", **_shows_inplace("alpha={alpha}"))
_declare("CELU", F.celu, "alpha=1.0, inplace=False", **_shows_inplace("alpha={alpha}"))
_declare(
    "LeakyReLU", F.leaky_relu, "negative_slope=1e-2, inplace=False", **_shows_inplace("negative_slope={negative_slope}")
)


class _Hardtanh(Declared):
    """Its bounds have older names too."""

    also = ("min_value", "max_value")
    min_val: float
    max_val: float

    def __init__(self, *args: Any, **facts: Any) -> None:
        super().__init__(*args, **facts)
        for name in self.also:
            if (value := self.__dict__.pop(name)) is not None:
                new = f"{name[:3]}_val"
                said = f"keyword argument `{name}` is deprecated and renamed to `{new}`"
                warnings.warn(said, FutureWarning, stacklevel=2)
                setattr(self, new, value)
        if self.max_val <= self.min_val:
            raise AssertionError(f"max_val ({self.max_val}) must be greater than min_val ({self.min_val})")


layers["Hardtanh"] = declare(
    "Hardtanh", F.hardtanh, "min_val=-1.0, max_val=1.0, inplace=False, min_value=None, max_value=None", base=_Hardtanh,
    **_shows_inplace("min_val={min_val}, max_val={max_val}"),
)  # fmt: skip
_declare(
    "Threshold",
    F.threshold,
    "threshold, value, inplace=False",
    **_shows_inplace("threshold={threshold}, value={value}"),
)
_declare("GELU", F.gelu, "approximate='none'", "approximate={approximate!r}")
_declare("Softplus", F.softplus, "beta=1.0, threshold=20.0", "beta={beta}, threshold={threshold}")
_declare("Softshrink", F.softshrink, "lambd=0.5", "{lambd}")
_declare("Hardshrink", F.hardshrink, "lambd=0.5", "{lambd}")
_declare("GLU", F.glu, "dim=-1", "dim={dim}")
_declare("Softmax", F.softmax, "dim=None", "dim={dim}")
_declare("LogSoftmax", F.log_softmax, "dim=None", "dim={dim}")
_declare("Softmin", F.softmin, "dim=None", "dim={dim}")


def _softmax2d(input: Tensor) -> Tensor:
    """Softmax over channels."""
    if input.ndim not in (3, 4):
        raise ValueError(f"Softmax2d: expected input to be 3D or 4D, got {input.ndim}D instead")
    return F.softmax(input, dim=-3)


_declare("Softmax2d", _softmax2d)

_show("""
>>> tg.nn.Sigmoid()(tg.tensor([-1.0, 0.0, 2.0]))
tensor([0.2689, 0.5000, 0.8808])

>>> tg.nn.Tanh()(tg.tensor([-1.0, 0.0, 2.0]))
tensor([-0.7616,  0.0000,  0.9640])

>>> tg.nn.Softsign()(tg.tensor([-1.0, 0.0, 3.0]))
tensor([-0.5000,  0.0000,  0.7500])

>>> tg.nn.Tanhshrink()(tg.tensor([-1.0, 0.0, 2.0]))
tensor([-0.2384,  0.0000,  1.0360])

>>> tg.nn.LogSigmoid()(tg.tensor([-1.0, 0.0, 2.0]))
tensor([-1.3133, -0.6931, -0.1269])

>>> tg.nn.ReLU()(tg.tensor([-1.0, 0.0, 2.0]))
tensor([0., 0., 2.])

>>> tg.nn.ReLU6()(tg.tensor([-1.0, 2.0, 7.0]))
tensor([0., 2., 6.])

>>> tg.nn.SELU()(tg.tensor([-1.0, 0.0, 2.0]))
tensor([-1.1113,  0.0000,  2.1014])

>>> tg.nn.SiLU()(tg.tensor([-1.0, 0.0, 2.0]))
tensor([-0.2689,  0.0000,  1.7616])

>>> tg.nn.Mish()(tg.tensor([-1.0, 0.0, 2.0]))
tensor([-0.3034,  0.0000,  1.9440])

>>> tg.nn.Hardswish()(tg.tensor([-4.0, 0.0, 1.0, 4.0]))
tensor([0.0000, 0.0000, 0.6667, 4.0000])

>>> tg.nn.Hardsigmoid()(tg.tensor([-4.0, 0.0, 1.5, 4.0]))
tensor([0.0000, 0.5000, 0.7500, 1.0000])

>>> tg.nn.ELU(alpha=0.5)(tg.tensor([-1.0, 0.0, 2.0]))
tensor([-0.3161,  0.0000,  2.0000])

>>> tg.nn.CELU(alpha=0.5)(tg.tensor([-1.0, 0.0, 2.0]))
tensor([-0.4323,  0.0000,  2.0000])

>>> tg.nn.LeakyReLU(0.1)(tg.tensor([-1.0, 0.0, 2.0]))
tensor([-0.1000,  0.0000,  2.0000])

>>> tg.nn.Hardtanh(-2.0, 2.0)(tg.tensor([-3.0, 0.5, 4.0]))
tensor([-2.0000,  0.5000,  2.0000])

>>> tg.nn.Threshold(1.0, value=-5.0)(tg.tensor([0.5, 1.0, 2.0]))
tensor([-5., -5.,  2.])

>>> tg.nn.GELU()(tg.tensor([-1.0, 0.0, 2.0]))
tensor([-0.1587,  0.0000,  1.9545])
>>> tg.nn.GELU(approximate="tanh")(tg.tensor([-1.0, 0.0, 2.0]))
tensor([-0.1588,  0.0000,  1.9546])

>>> tg.nn.Softplus(beta=2.0)(tg.tensor([-1.0, 0.0, 2.0]))
tensor([0.0635, 0.3466, 2.0091])

>>> tg.nn.Softshrink()(tg.tensor([-2.0, 0.3, 2.0]))
tensor([-1.5000,  0.0000,  1.5000])

>>> tg.nn.Hardshrink()(tg.tensor([-2.0, 0.3, 2.0]))
tensor([-2.,  0.,  2.])

>>> tg.nn.GLU()(tg.tensor([1.0, 2.0, 0.0, 100.0]))
tensor([0.5000, 2.0000])

>>> tg.nn.Softmax(dim=1)(tg.tensor([[0.0, 0.0], [0.0, 1.0]]))
tensor([[0.5000, 0.5000],
        [0.2689, 0.7311]])

>>> tg.nn.LogSoftmax(dim=1)(tg.tensor([[0.0, 0.0], [0.0, 1.0]]))
tensor([[-0.6931, -0.6931],
        [-1.3133, -0.3133]])

>>> tg.nn.Softmin(dim=1)(tg.tensor([[0.0, 0.0], [0.0, 1.0]]))
tensor([[0.5000, 0.5000],
        [0.7311, 0.2689]])

>>> tg.nn.Softmax2d()(tg.ones(1, 4, 2, 2))[0, :, 0, 0]
tensor([0.2500, 0.2500, 0.2500, 0.2500])
""")

# --- dropout: it is on while the module is being trained --------------------------------------------------------------


class _Dropout(Declared):
    def forward(self, *inputs: Any, **facts: Any) -> Any:
        return super().forward(*inputs, training=self.training, **facts)


def _dropout(name: str, function: Callable[..., Any]) -> None:
    def check(self: Any, p: float = 0.5, inplace: bool = False) -> None:
        if not 0 <= p <= 1:
            raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
        Declared.__init__(self, p, inplace)

    shown = "p={p}, inplace={inplace}"
    layers[name] = declare(name, function, "p=0.5, inplace=False", shown, _Dropout, __init__=check)


for _name, _function in {
    "Dropout": F.dropout, "Dropout1d": F.dropout1d, "Dropout2d": F.dropout2d, "Dropout3d": F.dropout3d,
    "AlphaDropout": F.alpha_dropout, "FeatureAlphaDropout": F.feature_alpha_dropout,
}.items():  # fmt: skip
    _dropout(_name, _function)
layers["RReLU"] = declare(
    "RReLU", F.rrelu, "lower=1.0 / 8, upper=1.0 / 3, inplace=False", "lower={lower}, upper={upper}", _Dropout
)

_show("""
>>> _ = tg.manual_seed(0)
>>> layer = tg.nn.Dropout(0.5)
>>> layer(tg.ones(6))
tensor([2., 2., 2., 0., 0., 0.])
>>> layer.eval()(tg.ones(6))
tensor([1., 1., 1., 1., 1., 1.])

>>> _ = tg.manual_seed(0)
>>> tg.nn.Dropout1d(0.5)(tg.ones(1, 4, 2))[0]
tensor([[2., 2.],
        [2., 2.],
        [2., 2.],
        [0., 0.]])

>>> _ = tg.manual_seed(0)
>>> tg.nn.Dropout2d(0.5)(tg.ones(1, 5, 2, 2)).sum((2, 3))
tensor([[8., 8., 8., 0., 0.]])

>>> _ = tg.manual_seed(0)
>>> tg.nn.Dropout3d(0.5)(tg.ones(1, 5, 2, 2, 2)).sum((2, 3, 4))
tensor([[16., 16., 16.,  0.,  0.]])

>>> _ = tg.manual_seed(0)
>>> tg.nn.AlphaDropout(0.5)(tg.zeros(4))
tensor([ 0.7792,  0.7792,  0.7792, -0.7792])

>>> _ = tg.manual_seed(0)
>>> tg.nn.FeatureAlphaDropout(0.5)(tg.zeros(1, 4, 2))[0]
tensor([[ 0.7792,  0.7792],
        [ 0.7792,  0.7792],
        [ 0.7792,  0.7792],
        [-0.7792, -0.7792]])

>>> layer = tg.nn.RReLU(0.1, 0.3).eval()
>>> layer(tg.tensor([-1.0, 2.0]))
tensor([-0.2000,  2.0000])
""")

# --- pooling ----------------------------------------------------------------------------------------------------------

_MAX = "kernel_size={kernel_size}, stride={stride}, padding={padding}, dilation={dilation}, ceil_mode={ceil_mode}"
_MEAN = "kernel_size={kernel_size}, stride={stride}, padding={padding}"


class _Pool(Declared):
    stride: Any
    in_tuples = False

    def __init__(self, *args: Any, **facts: Any) -> None:
        super().__init__(*args, **facts)
        if self.stride is None:
            self.stride = self.kernel_size
        if self.in_tuples:
            for name in ("kernel_size", "stride", "padding"):
                value = getattr(self, name)
                setattr(self, name, value if isinstance(value, tuple) else (value,))


for _d in (1, 2, 3):
    layers[f"MaxPool{_d}d"] = declare(
        f"MaxPool{_d}d", getattr(F, f"max_pool{_d}d"),
        "kernel_size, stride=None, padding=0, dilation=1, return_indices=False, ceil_mode=False", _MAX, _Pool,
    )  # fmt: skip
    layers[f"AvgPool{_d}d"] = declare(
        f"AvgPool{_d}d", getattr(F, f"avg_pool{_d}d"),
        "kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True"
        + (", divisor_override=None" if _d > 1 else ""),
        _MEAN, _Pool, in_tuples=_d == 1,
    )  # fmt: skip
    layers[f"LPPool{_d}d"] = declare(
        f"LPPool{_d}d", getattr(F, f"lp_pool{_d}d"), "norm_type, kernel_size, stride=None, ceil_mode=False",
        "norm_type={norm_type}, kernel_size={kernel_size}, stride={stride}, ceil_mode={ceil_mode}",
    )  # fmt: skip
    layers[f"MaxUnpool{_d}d"] = declare(
        f"MaxUnpool{_d}d", getattr(F, f"max_unpool{_d}d"), "kernel_size, stride=None, padding=0", _MEAN, _Pool
    )
    _declare(f"AdaptiveAvgPool{_d}d", getattr(F, f"adaptive_avg_pool{_d}d"), "output_size", "output_size={output_size}")
    _declare(f"AdaptiveMaxPool{_d}d", getattr(F, f"adaptive_max_pool{_d}d"), "output_size, return_indices=False",
             "output_size={output_size}")  # fmt: skip
for _d in (2, 3):
    _declare(f"FractionalMaxPool{_d}d", getattr(F, f"fractional_max_pool{_d}d"),
             "kernel_size, output_size=None, output_ratio=None, return_indices=False, _random_samples=None"
    )  # fmt: skip

_show("""
>>> tg.nn.MaxPool1d(2)(tg.tensor([[[1.0, 3.0, 2.0, 5.0]]]))
tensor([[[3., 5.]]])

>>> tg.nn.AvgPool1d(2)(tg.tensor([[[1.0, 3.0, 2.0, 5.0]]]))
tensor([[[2.0000, 3.5000]]])

>>> tg.nn.LPPool1d(2, 2)(tg.tensor([[[3.0, 4.0, 0.0, 5.0]]])).round(decimals=3)
tensor([[[5., 5.]]])

>>> largest, places = tg.nn.MaxPool1d(2, return_indices=True)(tg.tensor([[[1.0, 3.0, 2.0, 5.0]]]))
>>> tg.nn.MaxUnpool1d(2)(largest, places)
tensor([[[0., 3., 0., 5.]]])

>>> tg.nn.AdaptiveAvgPool1d(2)(tg.tensor([[[1.0, 3.0, 2.0, 5.0]]]))
tensor([[[2.0000, 3.5000]]])

>>> tg.nn.AdaptiveMaxPool1d(2)(tg.tensor([[[1.0, 3.0, 2.0, 5.0]]]))
tensor([[[3., 5.]]])

>>> tg.nn.MaxPool2d(2)(tg.arange(8.0).reshape(1, 1, 2, 4))
tensor([[[[5., 7.]]]])

>>> tg.nn.AvgPool2d(2)(tg.arange(8.0).reshape(1, 1, 2, 4))
tensor([[[[2.5000, 4.5000]]]])

>>> tg.nn.LPPool2d(1, 2)(tg.arange(8.0).reshape(1, 1, 2, 4))
tensor([[[[10., 18.]]]])

>>> largest, places = tg.nn.MaxPool2d(2, return_indices=True)(tg.arange(8.0).reshape(1, 1, 2, 4))
>>> tg.nn.MaxUnpool2d(2)(largest, places)
tensor([[[[0., 0., 0., 0.],
          [0., 5., 0., 7.]]]])

>>> tg.nn.AdaptiveAvgPool2d(1)(tg.arange(8.0).reshape(1, 1, 2, 4))
tensor([[[[3.5000]]]])

>>> tg.nn.AdaptiveMaxPool2d((2, 1))(tg.arange(8.0).reshape(1, 1, 2, 4))
tensor([[[[3.],
          [7.]]]])

>>> tg.nn.MaxPool3d(2)(tg.arange(16.0).reshape(1, 1, 2, 2, 4))
tensor([[[[[13., 15.]]]]])

>>> tg.nn.AvgPool3d(2)(tg.arange(16.0).reshape(1, 1, 2, 2, 4))
tensor([[[[[6.5000, 8.5000]]]]])

>>> tg.nn.LPPool3d(1, 2)(tg.arange(16.0).reshape(1, 1, 2, 2, 4))
tensor([[[[[52., 68.]]]]])

>>> largest, places = tg.nn.MaxPool3d(2, return_indices=True)(tg.arange(8.0).reshape(1, 1, 2, 2, 2))
>>> tg.nn.MaxUnpool3d(2)(largest, places).flatten()
tensor([0., 0., 0., 0., 0., 0., 0., 7.])

>>> tg.nn.AdaptiveAvgPool3d(1)(tg.arange(8.0).reshape(1, 1, 2, 2, 2))
tensor([[[[[3.5000]]]]])

>>> tg.nn.AdaptiveMaxPool3d((2, 1, 1))(tg.arange(8.0).reshape(1, 1, 2, 2, 2)).flatten()
tensor([3., 7.])

>>> tg.nn.FractionalMaxPool2d(2, output_size=(3, 3))(tg.ones(1, 1, 7, 7)).shape
tapegrad.Size([1, 1, 3, 3])

>>> tg.nn.FractionalMaxPool3d(2, output_ratio=0.5)(tg.ones(1, 1, 6, 6, 6)).shape
tapegrad.Size([1, 1, 3, 3, 3])
""")

# --- padding ----------------------------------------------------------------------------------------------------------


class _Padding(Declared):
    mode = "constant"
    dimensions = 1
    also = ("padding", "value")
    padding: Any

    def __init__(self, *args: Any, **facts: Any) -> None:
        super().__init__(*args, **facts)
        if isinstance(self.padding, int):
            self.padding = (self.padding,) * (2 * self.dimensions)

    def forward(self, input: Tensor) -> Any:
        if self.mode == "circular" and input.ndim not in (self.dimensions + 1, self.dimensions + 2):
            said = f"{self.dimensions + 1}D or {self.dimensions + 2}D"
            raise ValueError(f"expected {said} input (got {input.ndim}D input)")
        return F.pad(input, tuple(self.padding), self.mode, getattr(self, "value", None))


_MODES = {
    "Zero": ("constant", "zeros"),
    "Constant": ("constant", "`value`"),
    "Reflection": ("reflect", "the mirror images of the elements beside the edge"),
    "Replication": ("replicate", "copies of the element at the edge"),
    "Circular": ("circular", "the elements of the other end"),
}
_PADDED = """`input` with {what} before and behind, along {where}. See `nn.functional.pad`.

Parameters
----------
padding : int or tuple of int
    How many elements there are more: on all sides, or before and behind, of the last dimension first.
"""


def _pad(name: str, d: int) -> None:
    (mode, what), document = _MODES[name], _PADDED
    options, shown = "padding", "{padding}"
    if name == "Constant":
        options, shown = "padding, value", "padding={padding}, value={value}"
        document += "value : float\n    What these are.\n"
    where = f"the last {d} dimensions" if d > 1 else "the last dimension"
    facts = {"mode": mode, "dimensions": d, "__doc__": document.format(what=what, where=where).rstrip()}
    layers[f"{name}Pad{d}d"] = declare(f"{name}Pad{d}d", F.pad, options, shown, _Padding, **facts)


for _d in (1, 2, 3):
    for _name in _MODES:
        _pad(_name, _d)

_show("""
>>> tg.nn.ZeroPad1d(1)(tg.tensor([[[1.0, 2.0, 3.0]]]))
tensor([[[0., 1., 2., 3., 0.]]])

>>> tg.nn.ReflectionPad1d((2, 0))(tg.tensor([[[1.0, 2.0, 3.0]]]))
tensor([[[3., 2., 1., 2., 3.]]])

>>> tg.nn.ReplicationPad1d((2, 0))(tg.tensor([[[1.0, 2.0, 3.0]]]))
tensor([[[1., 1., 1., 2., 3.]]])

>>> tg.nn.CircularPad1d((2, 0))(tg.tensor([[[1.0, 2.0, 3.0]]]))
tensor([[[2., 3., 1., 2., 3.]]])

>>> tg.nn.ConstantPad1d((0, 2), 7.0)(tg.tensor([[[1.0, 2.0, 3.0]]]))
tensor([[[1., 2., 3., 7., 7.]]])

>>> tg.nn.ZeroPad2d((1, 0, 0, 1))(tg.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]))
tensor([[[[0., 1., 2.],
          [0., 3., 4.],
          [0., 0., 0.]]]])

>>> tg.nn.ReflectionPad2d((1, 0, 0, 1))(tg.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]))
tensor([[[[2., 1., 2.],
          [4., 3., 4.],
          [2., 1., 2.]]]])

>>> tg.nn.ReplicationPad2d((1, 0, 0, 1))(tg.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]))
tensor([[[[1., 1., 2.],
          [3., 3., 4.],
          [3., 3., 4.]]]])

>>> tg.nn.CircularPad2d((1, 0, 0, 1))(tg.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]))
tensor([[[[2., 1., 2.],
          [4., 3., 4.],
          [2., 1., 2.]]]])

>>> tg.nn.ConstantPad2d((1, 0, 0, 1), 7.0)(tg.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]))
tensor([[[[7., 1., 2.],
          [7., 3., 4.],
          [7., 7., 7.]]]])

>>> tg.nn.ZeroPad3d(1)(tg.ones(1, 1, 2, 3, 4)).shape
tapegrad.Size([1, 1, 4, 5, 6])

>>> tg.nn.ReflectionPad3d(1)(tg.ones(1, 1, 2, 3, 4)).shape
tapegrad.Size([1, 1, 4, 5, 6])

>>> tg.nn.ReplicationPad3d((1, 1, 0, 0, 0, 0))(tg.ones(1, 1, 2, 3, 4)).shape
tapegrad.Size([1, 1, 2, 3, 6])

>>> tg.nn.CircularPad3d((0, 0, 0, 0, 1, 1))(tg.ones(1, 1, 2, 3, 4)).shape
tapegrad.Size([1, 1, 4, 3, 4])

>>> tg.nn.ConstantPad3d(1, 7.0)(tg.ones(1, 1, 2, 3, 4)).shape
tapegrad.Size([1, 1, 4, 5, 6])
""")

# --- shapes -----------------------------------------------------------------------------------------------------------


def _flatten(input: Tensor, start_dim: int, end_dim: int) -> Tensor:
    """Make one dimension of several."""
    return input.flatten(start_dim, end_dim)


def _unflatten(input: Tensor, dim: int, unflattened_size: Any) -> Tensor:
    """Make several dimensions of one."""
    return input.unflatten(dim, unflattened_size)


_declare("Flatten", _flatten, "start_dim=1, end_dim=-1", "start_dim={start_dim}, end_dim={end_dim}")
_declare("Unflatten", _unflatten, "dim, unflattened_size", "dim={dim}, unflattened_size={unflattened_size}")
_declare("PixelShuffle", F.pixel_shuffle, "upscale_factor", "upscale_factor={upscale_factor}")
_declare("PixelUnshuffle", F.pixel_unshuffle, "downscale_factor", "downscale_factor={downscale_factor}")
_declare("ChannelShuffle", F.channel_shuffle, "groups", "groups={groups}")
_WINDOWS = "kernel_size={kernel_size}, dilation={dilation}, padding={padding}, stride={stride}"
_declare("Fold", F.fold, "output_size, kernel_size, dilation=1, padding=0, stride=1",
         "output_size={output_size}, " + _WINDOWS)  # fmt: skip
_declare("Unfold", F.unfold, "kernel_size, dilation=1, padding=0, stride=1", _WINDOWS)


class _Upsample(Declared):
    scale_factor: Any

    def __init__(self, *args: Any, **facts: Any) -> None:
        super().__init__(*args, **facts)
        given = self.scale_factor
        if given is not None:
            self.scale_factor = tuple(map(float, given)) if isinstance(given, (tuple, list)) else float(given)

    def extra_repr(self) -> str:
        given = f"scale_factor={self.scale_factor}" if self.scale_factor is not None else f"size={self.size}"
        return f"{given}, mode={self.mode!r}"


layers["Upsample"] = declare(
    "Upsample", F.interpolate,
    "size=None, scale_factor=None, mode='nearest', align_corners=None, recompute_scale_factor=None", base=_Upsample,
)  # fmt: skip
layers["UpsamplingNearest2d"] = declare(
    "UpsamplingNearest2d", F.interpolate, "size=None, scale_factor=None, *, mode='nearest'", base=_Upsample
)
layers["UpsamplingBilinear2d"] = declare(
    "UpsamplingBilinear2d",
    F.interpolate,
    "size=None, scale_factor=None, *, mode='bilinear', align_corners=True",
    base=_Upsample,
)
for _name in ("LocalResponseNorm", "CrossMapLRN2d"):
    _declare(_name, F.local_response_norm, "size, alpha=1e-4, beta=0.75, k=1.0",
             "{size}, alpha={alpha}, beta={beta}, k={k}")  # fmt: skip
_declare("CosineSimilarity", F.cosine_similarity, "dim=1, eps=1e-8")
_declare("PairwiseDistance", F.pairwise_distance, "p=2.0, eps=1e-6, keepdim=False")

_show("""
>>> tg.nn.Flatten()(tg.ones(2, 3, 4)).shape
tapegrad.Size([2, 12])

>>> tg.nn.Unflatten(1, (3, 4))(tg.ones(2, 12)).shape
tapegrad.Size([2, 3, 4])

>>> tg.nn.PixelShuffle(2)(tg.arange(4.0).reshape(1, 4, 1, 1))
tensor([[[[0., 1.],
          [2., 3.]]]])

>>> tg.nn.PixelUnshuffle(2)(tg.arange(4.0).reshape(1, 1, 2, 2)).flatten()
tensor([0., 1., 2., 3.])

>>> tg.nn.ChannelShuffle(2)(tg.arange(4.0).reshape(1, 4, 1, 1)).flatten()
tensor([0., 2., 1., 3.])

>>> tg.nn.Fold(output_size=(3, 3), kernel_size=2)(tg.ones(1, 4, 4))
tensor([[[[1., 2., 1.],
          [2., 4., 2.],
          [1., 2., 1.]]]])

>>> tg.nn.Unfold(kernel_size=2)(tg.arange(9.0).reshape(1, 1, 3, 3))
tensor([[[0., 1., 3., 4.],
         [1., 2., 4., 5.],
         [3., 4., 6., 7.],
         [4., 5., 7., 8.]]])

>>> tg.nn.Upsample(scale_factor=2)(tg.tensor([[[1.0, 2.0]]]))
tensor([[[1., 1., 2., 2.]]])
>>> tg.nn.Upsample(size=3, mode="linear", align_corners=True)(tg.tensor([[[1.0, 2.0]]]))
tensor([[[1.0000, 1.5000, 2.0000]]])

>>> tg.nn.UpsamplingNearest2d(scale_factor=2)(tg.tensor([[[[1.0, 2.0]]]]))
tensor([[[[1., 1., 2., 2.],
          [1., 1., 2., 2.]]]])

>>> tg.nn.UpsamplingBilinear2d(size=(1, 3))(tg.tensor([[[[1.0, 2.0]]]]))
tensor([[[[1.0000, 1.5000, 2.0000]]]])

>>> tg.nn.LocalResponseNorm(2, alpha=2.0, beta=1.0)(tg.ones(1, 3, 1))
tensor([[[0.5000],
         [0.3333],
         [0.3333]]])

>>> tg.nn.CrossMapLRN2d(2, alpha=2.0, beta=1.0)(tg.ones(1, 3, 1, 1)).flatten()
tensor([0.5000, 0.3333, 0.3333])

>>> tg.nn.CosineSimilarity()(tg.tensor([[1.0, 0.0]]), tg.tensor([[1.0, 1.0]]))
tensor([0.7071])

>>> tg.nn.PairwiseDistance()(tg.tensor([[0.0, 0.0]]), tg.tensor([[3.0, 4.0]]))
tensor([5.0000])
""")

# --- losses -----------------------------------------------------------------------------------------------------------


_OLD = "size_average=None, reduce=None"


class Loss(Declared):
    """What PyTorch's older options, `size_average` and `reduce`, say of `reduction` is settled at once."""

    options = signature_of(f"{_OLD}, reduction='mean'")
    also = ("size_average", "reduce")
    reduction: str
    size_average: bool | None
    reduce: bool | None

    def __init__(self, *args: Any, **facts: Any) -> None:
        super().__init__(*args, **facts)
        self.reduction = legacy(self.size_average, self.reduce, self.reduction, 3)
        del self.size_average, self.reduce


class WeightedLoss(Loss):
    """A loss of classes that have weights."""

    options = signature_of(f"weight=None, {_OLD}, reduction='mean'")


for _name, _function, _options in (
    ("MSELoss", F.mse_loss, f"{_OLD}, reduction='mean'"),
    ("L1Loss", F.l1_loss, f"{_OLD}, reduction='mean'"),
    ("SmoothL1Loss", F.smooth_l1_loss, f"{_OLD}, reduction='mean', beta=1.0"),
    ("CrossEntropyLoss", F.cross_entropy,
     "weight=None, size_average=None, ignore_index=-100, reduce=None, reduction='mean', label_smoothing=0.0"),
    ("NLLLoss", F.nll_loss, "weight=None, size_average=None, ignore_index=-100, reduce=None, reduction='mean'"),
    ("BCELoss", F.binary_cross_entropy, f"weight=None, {_OLD}, reduction='mean'"),
    ("BCEWithLogitsLoss", F.binary_cross_entropy_with_logits,
     f"weight=None, {_OLD}, reduction='mean', pos_weight=None"),
    ("KLDivLoss", F.kl_div, f"{_OLD}, reduction='mean', log_target=False"),
    ("PoissonNLLLoss", F.poisson_nll_loss,
     "log_input=True, full=False, size_average=None, eps=1e-8, reduce=None, reduction='mean'"),
    ("HingeEmbeddingLoss", F.hinge_embedding_loss, f"margin=1.0, {_OLD}, reduction='mean'"),
    ("MultiLabelMarginLoss", F.multilabel_margin_loss, f"{_OLD}, reduction='mean'"),
    ("MultiLabelSoftMarginLoss", F.multilabel_soft_margin_loss, f"weight=None, {_OLD}, reduction='mean'"),
    ("SoftMarginLoss", F.soft_margin_loss, f"{_OLD}, reduction='mean'"),
    ("MarginRankingLoss", F.margin_ranking_loss, f"margin=0.0, {_OLD}, reduction='mean'"),
    ("CosineEmbeddingLoss", F.cosine_embedding_loss, f"margin=0.0, {_OLD}, reduction='mean'"),
    ("MultiMarginLoss", F.multi_margin_loss, f"p=1, margin=1.0, weight=None, {_OLD}, reduction='mean'"),
    ("TripletMarginLoss", F.triplet_margin_loss, f"margin=1.0, p=2.0, eps=1e-6, swap=False, {_OLD}, reduction='mean'"),
):  # fmt: skip
    layers[_name] = declare(_name, _function, _options, base=WeightedLoss if _options[:6] == "weight" else Loss)
_declare("HuberLoss", F.huber_loss, "reduction='mean', delta=1.0")
_declare("GaussianNLLLoss", F.gaussian_nll_loss, "*, full=False, eps=1e-6, reduction='mean'")
_declare("TripletMarginWithDistanceLoss", F.triplet_margin_with_distance_loss,
         "*, distance_function=None, margin=1.0, swap=False, reduction='mean'")  # fmt: skip
_declare("CTCLoss", F.ctc_loss, "blank=0, reduction='mean', zero_infinity=False")

_show("""
>>> tg.nn.MSELoss()(tg.tensor([1.0, 2.0]), tg.tensor([0.0, 4.0]))
tensor(2.5000)

>>> tg.nn.L1Loss(reduction="sum")(tg.tensor([1.0, 2.0]), tg.tensor([0.0, 4.0]))
tensor(3.)

>>> tg.nn.SmoothL1Loss(reduction="none")(tg.tensor([0.5, 3.0]), tg.zeros(2))
tensor([0.1250, 2.5000])

>>> tg.nn.CrossEntropyLoss()(tg.tensor([[0.0, 0.0], [0.0, 5.0]]), tg.tensor([0, 1]))
tensor(0.3499)

>>> tg.nn.NLLLoss()(tg.tensor([[0.5, 0.5], [0.1, 0.9]]).log(), tg.tensor([0, 1]))
tensor(0.3993)

>>> tg.nn.BCELoss()(tg.tensor([0.9, 0.2]), tg.tensor([1.0, 0.0]))
tensor(0.1643)

>>> tg.nn.BCEWithLogitsLoss()(tg.tensor([2.0, -1.0]), tg.tensor([1.0, 0.0]))
tensor(0.2201)

>>> tg.nn.KLDivLoss(reduction="batchmean")(tg.tensor([[0.5, 0.5]]).log(), tg.tensor([[0.9, 0.1]]))
tensor(0.3681)

>>> tg.nn.PoissonNLLLoss(log_input=False)(tg.tensor([1.0, 2.0]), tg.tensor([1.0, 3.0]))
tensor(0.4603)

>>> tg.nn.HingeEmbeddingLoss(reduction="none")(tg.tensor([0.5, 0.2]), tg.tensor([1.0, -1.0]))
tensor([0.5000, 0.8000])

>>> tg.nn.MultiLabelMarginLoss()(tg.tensor([[0.1, 0.2, 0.4, 0.8]]), tg.tensor([[3, 0, -1, 1]]))
tensor(0.8500)

>>> tg.nn.MultiLabelSoftMarginLoss()(tg.tensor([[1.0, -1.0]]), tg.tensor([[1.0, 0.0]]))
tensor(0.3133)

>>> tg.nn.SoftMarginLoss()(tg.tensor([1.0, -1.0]), tg.tensor([1.0, 1.0]))
tensor(0.8133)

>>> tg.nn.MarginRankingLoss(margin=0.5)(tg.tensor([1.0, 1.0]), tg.tensor([0.0, 2.0]), tg.ones(2))
tensor(0.7500)

>>> tg.nn.CosineEmbeddingLoss()(tg.tensor([[1.0, 0.0]]), tg.tensor([[0.0, 1.0]]), tg.tensor([1.0]))
tensor(1.)

>>> tg.nn.MultiMarginLoss()(tg.tensor([[0.1, 0.2, 0.8]]), tg.tensor([2]))
tensor(0.2333)

>>> tg.nn.TripletMarginLoss()(tg.tensor([[0.0]]), tg.tensor([[1.0]]), tg.tensor([[1.5]]))
tensor(0.5000)

>>> tg.nn.HuberLoss(reduction="none", delta=2.0)(tg.tensor([1.0, 4.0]), tg.zeros(2))
tensor([0.5000, 6.0000])

>>> tg.nn.GaussianNLLLoss()(tg.tensor([1.0]), tg.tensor([3.0]), tg.tensor([4.0]))
tensor(1.1931)

>>> distance = lambda a, b: (a - b).abs().sum(-1)
>>> loss = tg.nn.TripletMarginWithDistanceLoss(distance_function=distance)
>>> loss(tg.tensor([[0.0]]), tg.tensor([[1.0]]), tg.tensor([[1.5]]))
tensor(0.5000)

>>> scores = tg.zeros(5, 1, 3).log_softmax(2)
>>> tg.nn.CTCLoss()(scores, tg.tensor([[1, 2]]), tg.tensor([5]), tg.tensor([2]))
tensor(0.9689)
""")

globals().update(layers)
__all__ = ["Declared", "Loss", "WeightedLoss", "declare", "layers"]
