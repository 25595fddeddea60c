"""Activations: compositions, which a sweep fuses with what is around them."""

from __future__ import annotations

import math
import warnings

import numpy as np

from tapegrad import creation
from tapegrad.arguments import EXACT, Number, node, taking_out
from tapegrad.dtypes import BOOL, DType
from tapegrad.functions.shaping import dimension, narrow
from tapegrad.nn.functional.common import at, elementwise, finished, floating, public, reductions, where
from tapegrad.tensor import Tensor

_ROOT_HALF = math.sqrt(0.5)
_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946

exp, expm1, erfc, tanh_, sigmoid_ = (elementwise[name] for name in ("exp", "expm1", "erfc", "tanh", "sigmoid"))
log1p, relu_kernel, smooth = (elementwise[name] for name in ("log1p", "relu", "softplus"))


@public
def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """max(input, 0), elementwise.

    >>> import tapegrad as tg
    >>> tg.nn.functional.relu(tg.tensor([-1.0, 2.0]))
    tensor([0., 2.])
    """
    return input.relu_() if inplace else relu_kernel(input)


@public
@node("ThresholdBackward0")
def threshold(input: Tensor, threshold: Number, value: Number, inplace: bool = False) -> Tensor:
    """`input` where it is above the threshold, else `value`.

    >>> import tapegrad as tg
    >>> tg.threshold(tg.tensor([-1.0, 0.3]), 0.0, 7.0)
    tensor([7.0000, 0.3000])
    """
    if input.dtype is BOOL:
        raise NotImplementedError(f"\"threshold_cpu\" not implemented for 'Bool': {at(input)}")
    return finished("threshold_", input, lambda x: where(x <= threshold, value, x).to(x.dtype), inplace)


def _limited(x: Tensor, low: float, high: float) -> Tensor:
    """Clamped, with a slope of 0 at the limits too; nan where a limit is."""
    if low != low or high != high:
        return x * math.nan
    limited: Tensor = where(x <= low, low, where(x >= high, high, x)).to(x.dtype)
    return limited


@public
@node("HardtanhBackward0")
def hardtanh(input: Tensor, min_val: Number = -1.0, max_val: Number = 1.0, inplace: bool = False) -> Tensor:
    """`input` limited to [min_val, max_val]; the slope at these is 0.

    Raises
    ------
    ValueError
        Where `min_val` is above `max_val`.

    >>> import tapegrad as tg
    >>> tg.nn.functional.hardtanh(tg.tensor([-4.0, 0.5]))
    tensor([-1.0000,  0.5000])
    """
    if min_val > max_val:
        raise ValueError(f"min_val cannot be greater than max_val: {min_val}, {max_val}")
    if input.dtype.name == "bool":
        raise NotImplementedError(f"Bool inputs not supported for hardtanh: {at(input)}")
    return finished("hardtanh_", input, lambda x: _limited(x, min_val, max_val), inplace)


@public
@node("HardtanhBackward0")
def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """`input` limited to [0, 6]; the slope at these is 0.

    >>> import tapegrad as tg
    >>> tg.nn.functional.relu6(tg.tensor([-1.0, 8.0]))
    tensor([0., 6.])
    """
    if input.dtype.name == "bool":
        raise NotImplementedError(f"Bool inputs not supported for hardtanh: {at(input)}")
    return finished("relu6_", input, lambda x: _limited(x, 0, 6), inplace)


@public
@node("EluBackward0")
def elu(input: Tensor, alpha: Number = 1.0, inplace: bool = False) -> Tensor:
    """`input` where it is positive, else alpha (exp(input) - 1).

    >>> import tapegrad as tg
    >>> tg.nn.functional.elu(tg.tensor([-1.0, 2.0]))
    tensor([-0.6321,  2.0000])
    """
    floating("elu_cpu", input)
    return finished("elu_", input, lambda x: where(x > 0, x, alpha * expm1(x)), inplace)


@public
@node("EluBackward0")
def selu(input: Tensor, inplace: bool = False) -> Tensor:
    """`elu` with the factors with which layers normalise themselves.

    >>> import tapegrad as tg
    >>> tg.selu(tg.tensor([-1.0, 1.0]))
    tensor([-1.1113,  1.0507])
    """
    floating("elu_cpu", input)
    negative = _SELU_ALPHA * _SELU_SCALE
    return finished("selu_", input, lambda x: where(x > 0, _SELU_SCALE * x, negative * expm1(x)), inplace)


@public
@node("CeluBackward0")
def celu(input: Tensor, alpha: Number = 1.0, inplace: bool = False) -> Tensor:
    """`input` where it is positive, else alpha (exp(input / alpha) - 1).

    >>> import tapegrad as tg
    >>> tg.celu(tg.tensor([-1.0, 1.0]))
    tensor([-0.6321,  1.0000])
    """
    if alpha == 0:
        raise RuntimeError(f"ZeroDivisionError: alpha cannot be 0 for CELU: {at(input)}")
    floating("elu_cpu", input)
    return finished("celu_", input, lambda x: where(x > 0, x, alpha * expm1(x / alpha)), inplace)


@public
@node("LeakyReluBackward0")
def leaky_relu(input: Tensor, negative_slope: Number = 0.01, inplace: bool = False) -> Tensor:
    """`input` where it is positive, else negative_slope input.

    >>> import tapegrad as tg
    >>> tg.nn.functional.leaky_relu(tg.tensor([-1.0, 1.0]))
    tensor([-0.0100,  1.0000])
    """
    floating("leaky_relu_cpu", input)
    return finished("leaky_relu_", input, lambda x: where(x > 0, x, negative_slope * x), inplace)


@public
@node("RreluWithNoiseBackward0")
def rrelu(
    input: Tensor, lower: float = 1.0 / 8, upper: float = 1.0 / 3, training: bool = False, inplace: bool = False
) -> Tensor:
    """`leaky_relu` with slopes drawn from [lower, upper] in training, else with their mean."""
    floating("rrelu_with_noise_out_cpu", input)
    if lower > upper:
        raise RuntimeError(f"Lower bound should be less than or equal to the upper bound: {lower}, {upper}")
    slope = creation.rand_like(input) * (upper - lower) + lower if training else (lower + upper) / 2
    return finished("rrelu_", input, lambda x: where(x > 0, x, slope * x), inplace)


@public
@node("GluBackward0")
def glu(input: Tensor, dim: int = -1) -> Tensor:
    """The first half along a dimension times the sigmoid of the second.

    Raises
    ------
    RuntimeError
        Where the length of the dimension is odd, or there is none.

    >>> import tapegrad as tg
    >>> tg.nn.functional.glu(tg.tensor([2.0, 0.0]))
    tensor([1.])
    """
    if not input.ndim:
        raise RuntimeError(f"glu does not support 0-dimensional tensors: {at(input)}")
    d = dimension(dim, input.ndim)
    n = input.shape[d]
    if n % 2:
        raise RuntimeError(f"Halving dimension must be even, but dimension {d} is size {n}: {at(input)}")
    floating("glu_cpu", input)
    gated: Tensor = narrow(input, d, 0, n // 2) * sigmoid_(narrow(input, d, n // 2, n // 2))
    return gated


@taking_out(EXACT)
@node("GeluBackward0")
def gelu(input: Tensor, *, approximate: str = "none") -> Tensor:
    """`input` times the probability that a normal number is below it; with "tanh" by an approximate formula.

    >>> import tapegrad as tg
    >>> tg.nn.functional.gelu(tg.tensor([-1.0, 0.0, 1.0]))
    tensor([-0.1587,  0.0000,  0.8413])
    """
    if approximate not in ("none", "tanh"):
        raise RuntimeError(f"approximate argument must be either none or tanh, not {approximate!r}")
    floating("GeluKernelImpl", input)
    if approximate == "none":
        exact: Tensor = 0.5 * input * erfc(-_ROOT_HALF * input)
        return exact
    # 1 + tanh(u) = 2 sigmoid(2 u), which loses nothing where tanh is near -1
    rounded: Tensor = input * sigmoid_(2 * math.sqrt(2 / math.pi) * input * (1 + 0.044715 * input * input))
    return rounded


@taking_out(EXACT)
@node("LogSigmoidBackward0")
def logsigmoid(input: Tensor) -> Tensor:
    """log(sigmoid(input)), without overflow.

    >>> import tapegrad as tg
    >>> tg.nn.functional.logsigmoid(tg.tensor([-1.0, 0.0]))
    tensor([-1.3133, -0.6931])
    """
    floating("log_sigmoid_cpu", input)
    result: Tensor = -smooth(-input)
    return result


@taking_out(EXACT)
@node("SoftshrinkBackward0")
def softshrink(input: Tensor, lambd: Number = 0.5) -> Tensor:
    """`input` moved by `lambd` towards 0, and not beyond.

    >>> import tapegrad as tg
    >>> tg.nn.functional.softshrink(tg.tensor([-1.0, 0.3]))
    tensor([-0.5000,  0.0000])
    """
    if lambd < 0:
        most = np.finfo(input.dtype.numpy).max
        raise RuntimeError(
            f"lambda must be in range [0, {most:g}] for input dtype {input.dtype}, but found {lambd}: {at(input)}"
        )
    floating("softshrink_cpu", input)
    inside = where(input != input, input, 0.0)
    result: Tensor = where(input > lambd, input - lambd, where(input < -lambd, input + lambd, inside))
    return result


@public
def tanhshrink(input: Tensor) -> Tensor:
    """Input - tanh(input).

    >>> import tapegrad as tg
    >>> tg.nn.functional.tanhshrink(tg.tensor([-1.0, 1.0]))
    tensor([-0.2384,  0.2384])
    """
    result: Tensor = input - tanh_(input)
    return result


@public
def softsign(input: Tensor) -> Tensor:
    """Input / (1 + |input|).

    >>> import tapegrad as tg
    >>> tg.nn.functional.softsign(tg.tensor([-1.0, 3.0]))
    tensor([-0.5000,  0.7500])
    """
    result: Tensor = input / (input.abs() + 1)
    return result


@taking_out(EXACT)
@node("SoftplusBackward0")
def softplus(input: Tensor, beta: Number = 1, threshold: Number = 20) -> Tensor:
    """log(1 + exp(beta input)) / beta; `input` itself where beta input is above the threshold.

    >>> import tapegrad as tg
    >>> tg.nn.functional.softplus(tg.tensor([-1.0, 0.0, 2.0]), beta=2.0)
    tensor([0.0635, 0.3466, 2.0091])
    """
    floating("softplus_cpu", input)
    scaled = input * beta
    result: Tensor = where(scaled > threshold, input, smooth(scaled) / beta)
    return result


def _dim_of(name: str, dim: int | None, ndim: int) -> int:
    if dim is not None:
        return dim
    warnings.warn(
        f"Implicit dimension choice for {name} has been deprecated. Change the call to include dim=X as an argument.",
        stacklevel=4,
    )
    return 0 if ndim in (0, 1, 3) else 1


@public
def softmax(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: DType | None = None) -> Tensor:
    """exp(input) over its sum along a dimension, without overflow.

    >>> import tapegrad as tg
    >>> tg.nn.functional.softmax(tg.zeros(2), dim=0)
    tensor([0.5000, 0.5000])
    """
    result: Tensor = reductions["softmax"](input, _dim_of("softmax", dim, input.ndim), dtype=dtype)
    return result


@public
def softmin(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: DType | None = None) -> Tensor:
    """`softmax` of -input.

    >>> import tapegrad as tg
    >>> tg.nn.functional.softmin(tg.tensor([0.0, 1.0]), dim=0)
    tensor([0.7311, 0.2689])
    """
    result: Tensor = reductions["softmax"](-input, _dim_of("softmin", dim, input.ndim), dtype=dtype)
    return result


@public
def log_softmax(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: DType | None = None) -> Tensor:
    """The logarithm of `softmax`, without overflow.

    >>> import tapegrad as tg
    >>> tg.nn.functional.log_softmax(tg.tensor([0.0, 1.0]), dim=0)
    tensor([-1.3133, -0.3133])
    """
    result: Tensor = reductions["log_softmax"](input, _dim_of("log_softmax", dim, input.ndim), dtype=dtype)
    return result


@public
def gumbel_softmax(logits: Tensor, tau: float = 1, hard: bool = False, eps: float = 1e-10, dim: int = -1) -> Tensor:
    """Samples of the Gumbel-softmax distribution; with `hard` one-hot, with the gradients of soft ones.

    >>> import tapegrad as tg
    >>> _ = tg.manual_seed(0)
    >>> tg.nn.functional.gumbel_softmax(tg.zeros(2, 3), hard=True).sum(1)
    tensor([1., 1.])
    """
    if eps != 1e-10:
        warnings.warn("`eps` parameter is deprecated and has no effect.", stacklevel=3)
    least = float(np.finfo(logits.dtype.numpy).tiny)
    exponential = -log1p(-creation.rand_like(logits.detach())).clamp_max(-least)
    soft: Tensor = reductions["softmax"]((logits - elementwise["log"](exponential)) / tau, dim)
    if not hard:
        return soft
    index = reductions["argmax"](soft, dim, keepdim=True)
    ladder = creation.arange(soft.shape[dim]).reshape(-1, *(1,) * (soft.ndim - 1 - dimension(dim, soft.ndim)))
    return (ladder == index).to(soft.dtype) - soft.detach() + soft


@public
def tanh(input: Tensor) -> Tensor:
    """`tapegrad.tanh`.

    >>> import tapegrad as tg
    >>> tg.nn.functional.tanh(tg.tensor([-1.0, 0.0, 2.0]))
    tensor([-0.7616,  0.0000,  0.9640])
    """
    result: Tensor = tanh_(input)
    return result


@public
def sigmoid(input: Tensor) -> Tensor:
    """`tapegrad.sigmoid`.

    >>> import tapegrad as tg
    >>> tg.nn.functional.sigmoid(tg.tensor([-1.0, 0.0, 2.0]))
    tensor([0.2689, 0.5000, 0.8808])
    """
    result: Tensor = sigmoid_(input)
    return result


@public
@node("HardsigmoidBackward0")
def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """Input / 6 + 1/2 limited to [0, 1]; the slope at the ends is 0.

    >>> import tapegrad as tg
    >>> tg.nn.functional.hardsigmoid(tg.tensor([-4.0, 0.0, 4.0]))
    tensor([0.0000, 0.5000, 1.0000])
    """
    floating("hardsigmoid", input)
    return finished(
        "hardsigmoid_", input, lambda x: where(x <= -3, 0.0, where(x >= 3, 1.0, x * (1 / 6) + 0.5)), inplace
    )


@public
@node("SiluBackward0")
def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """Input sigmoid(input), also called swish.

    >>> import tapegrad as tg
    >>> tg.nn.functional.silu(tg.tensor([-1.0, 0.0, 1.0]))
    tensor([-0.2689,  0.0000,  0.7311])
    """
    floating("silu_cpu", input)
    return finished("silu_", input, lambda x: x * sigmoid_(x), inplace)


@public
@node("MishBackward0")
def mish(input: Tensor, inplace: bool = False) -> Tensor:
    """Input tanh(softplus(input)).

    >>> import tapegrad as tg
    >>> tg.nn.functional.mish(tg.tensor([-1.0, 1.0]))
    tensor([-0.3034,  0.8651])
    """
    floating("mish_cpu", input)
    return finished("mish_", input, lambda x: x * tanh_(smooth(x)), inplace)


@public
@node("HardswishBackward0")
def hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    """Input (input + 3) / 6 where `input` is in (-3, 3); below it 0, above it `input`.

    >>> import tapegrad as tg
    >>> tg.nn.functional.hardswish(tg.tensor([-4.0, 1.0, 4.0]))
    tensor([0.0000, 0.6667, 4.0000])
    """
    floating("hardswish_cpu", input)
    return finished(
        "hardswish_", input, lambda x: where(x <= -3, 0.0, where(x >= 3, x, x * ((x + 3) * (1 / 6)))), inplace
    )


def relu_(input: Tensor) -> Tensor:
    """`relu`, in place."""
    return relu(input, inplace=True)


_threshold = threshold


def threshold_(input: Tensor, threshold: float, value: float) -> Tensor:
    """`threshold`, in place."""
    return _threshold(input, threshold, value, inplace=True)


def hardtanh_(input: Tensor, min_val: float = -1.0, max_val: float = 1.0) -> Tensor:
    """`hardtanh`, in place."""
    return hardtanh(input, min_val, max_val, inplace=True)


def elu_(input: Tensor, alpha: float = 1.0) -> Tensor:
    """`elu`, in place."""
    return elu(input, alpha, inplace=True)


def selu_(input: Tensor) -> Tensor:
    """`selu`, in place."""
    return selu(input, inplace=True)


def celu_(input: Tensor, alpha: float = 1.0) -> Tensor:
    """`celu`, in place."""
    return celu(input, alpha, inplace=True)


def leaky_relu_(input: Tensor, negative_slope: float = 0.01) -> Tensor:
    """`leaky_relu`, in place."""
    return leaky_relu(input, negative_slope, inplace=True)


def rrelu_(input: Tensor, lower: float = 1.0 / 8, upper: float = 1.0 / 3, training: bool = False) -> Tensor:
    """`rrelu`, in place."""
    return rrelu(input, lower, upper, training, inplace=True)
