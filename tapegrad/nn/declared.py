"""Layers without parameters: each is a function of `nn.functional`, and the options that it is called with.

    declare("Softplus", functional.softplus, "beta=1.0, threshold=20.0", "beta={beta}, threshold={threshold}")

makes a class whose options are attributes, whose `forward` gives them to the function by their names, and whose text
shows them.
"""

from __future__ import annotations

import inspect
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


for _d in (1, 2, 3):
    for _name, _mode in {
        "Zero": "constant",
        "Reflection": "reflect",
        "Replication": "replicate",
        "Circular": "circular",
    }.items():
        layers[f"{_name}Pad{_d}d"] = declare(
            f"{_name}Pad{_d}d", F.pad, "padding", "{padding}", _Padding, mode=_mode, dimensions=_d
        )
    layers[f"ConstantPad{_d}d"] = declare(
        f"ConstantPad{_d}d", F.pad, "padding, value", "padding={padding}, value={value}", _Padding, dimensions=_d
    )

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

globals().update(layers)
__all__ = ["Declared", "Loss", "WeightedLoss", "declare", "layers"]
