"""Layers with parameters: linear, convolutions, normalisations, embeddings; by the functions of `nn.functional`.

First values are PyTorch's in distribution, drawn by tapegrad's generator. `device` must be the CPU.
"""

from __future__ import annotations

import math
from typing import Any

from tapegrad import creation, dtypes
from tapegrad.nn import functional as F  # noqa: N812 (as everybody calls it)
from tapegrad.nn import init
from tapegrad.nn.module import Module
from tapegrad.nn.parameter import Parameter
from tapegrad.tensor import Tensor


def parameter(*shape: int, device: Any = None, dtype: Any = None) -> Any:
    """A parameter that is yet to be given values."""
    return Parameter(creation.empty(*shape, device=device, dtype=dtype))


def zeros(*shape: int, device: Any = None, dtype: Any = None) -> Any:
    """A parameter of zeros."""
    return Parameter(creation.zeros(*shape, device=device, dtype=dtype))


def ones(*shape: int, device: Any = None, dtype: Any = None) -> Any:
    """A parameter whose values are one."""
    return Parameter(creation.ones(*shape, device=device, dtype=dtype))


def many(value: Any, n: int) -> tuple[Any, ...]:
    """A number for each of n dimensions."""
    return tuple(value) if isinstance(value, (tuple, list)) else (value,) * n


class Identity(Module):
    """What it is given, whatever its options are.

    >>> import tapegrad as tg
    >>> tg.nn.Identity(54, unused=True)(tg.tensor([1.0, 2.0]))
    tensor([1., 2.])
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        del args, kwargs
        super().__init__()

    def forward(self, input: Any) -> Any:
        """See `Module`."""
        return input


class Linear(Module):
    """`x W^T + b`.

    Parameters
    ----------
    in_features : int
        The last length of what is given.
    out_features : int
        The last length of what comes out.
    bias : bool
        Whether there is a `b`.

    >>> import tapegrad as tg
    >>> tg.nn.Linear(3, 2)(tg.ones(5, 3)).shape
    tapegrad.Size([5, 2])
    """

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__()
        facts = {"device": device, "dtype": dtype}
        self.in_features, self.out_features = in_features, out_features
        self.weight = parameter(out_features, in_features, **facts)
        self.register_parameter("bias", parameter(out_features, **facts) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw values anew: uniform, within `1 / sqrt(in_features)`."""
        bound = 1 / math.sqrt(self.in_features) if self.in_features else 0.0
        for t in (self.weight, self.bias):
            if t is not None:
                init.uniform_(t, -bound, bound)

    def forward(self, input: Tensor) -> Tensor:
        """See `Module`."""
        return F.linear(input, self.weight, self.bias)

    def extra_repr(self) -> str:
        """See `Module`."""
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class Bilinear(Module):
    """`x1^T W x2 + b`.

    >>> import tapegrad as tg
    >>> layer = tg.nn.Bilinear(2, 3, 4)
    >>> layer(tg.ones(5, 2), tg.ones(5, 3)).shape, layer.weight.shape
    (tapegrad.Size([5, 4]), tapegrad.Size([4, 2, 3]))
    """

    def __init__(
        self, in1_features: int, in2_features: int, out_features: int, bias: bool = True, device: Any = None,
        dtype: Any = None,
    ) -> None:  # fmt: skip
        super().__init__()
        facts = {"device": device, "dtype": dtype}
        self.in1_features, self.in2_features, self.out_features = in1_features, in2_features, out_features
        self.weight = parameter(out_features, in1_features, in2_features, **facts)
        self.register_parameter("bias", parameter(out_features, **facts) if bias else None)
        for t in (self.weight, self.bias):
            if t is not None:
                init.uniform_(t, -1 / math.sqrt(in1_features), 1 / math.sqrt(in1_features))

    def forward(self, input1: Tensor, input2: Tensor) -> Tensor:
        """See `Module`."""
        return F.bilinear(input1, input2, self.weight, self.bias)

    def extra_repr(self) -> str:
        """See `Module`."""
        return (
            f"in1_features={self.in1_features}, in2_features={self.in2_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}"
        )


class Convolution(Module):
    """What convolutions share."""

    dimensions = 1
    transposed = False

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any = 1, padding: Any = 0,
        dilation: Any = 1, groups: int = 1, bias: bool = True, padding_mode: str = "zeros", device: Any = None,
        dtype: Any = None, output_padding: Any = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        facts = {"device": device, "dtype": dtype}
        if groups <= 0:
            raise ValueError("groups must be a positive integer")
        if in_channels % groups:
            raise ValueError("in_channels must be divisible by groups")
        if out_channels % groups:
            raise ValueError("out_channels must be divisible by groups")
        modes = ("zeros", "reflect", "replicate", "circular")
        if padding_mode not in modes:
            raise ValueError(f"padding_mode must be one of {set(modes)}, but got padding_mode='{padding_mode}'")
        if self.transposed and padding_mode != "zeros":
            raise ValueError(f'Only "zeros" padding mode is supported for {type(self).__name__}')
        n = self.dimensions
        if isinstance(padding, str):
            if padding not in ("same", "valid"):
                raise ValueError(f"Invalid padding string '{padding}', should be one of {{'valid', 'same'}}")
            if padding == "same" and any(s != 1 for s in many(stride, n)):
                raise ValueError("padding='same' is not supported for strided convolutions")
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size, self.stride, self.dilation = many(kernel_size, n), many(stride, n), many(dilation, n)
        self.padding: Any = padding if isinstance(padding, str) else many(padding, n)
        self.output_padding, self.padding_mode = many(output_padding, n), padding_mode
        a, b = (in_channels, out_channels) if self.transposed else (out_channels, in_channels)
        self.weight = parameter(a, b // groups, *self.kernel_size, **facts)
        self.register_parameter("bias", parameter(out_channels, **facts) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw values anew: uniform, within `1 / sqrt(fan_in)`."""
        fan = self.weight.shape[1] * math.prod(self.kernel_size)
        bound = 1 / math.sqrt(fan) if fan else 0.0
        for t in (self.weight, self.bias):
            if t is not None:
                init.uniform_(t, -bound, bound)

    def forward(self, input: Tensor, output_size: Any = None) -> Tensor:
        """See `Module`."""
        n = self.dimensions
        if self.transposed:
            function = getattr(F, f"conv_transpose{n}d")
            extra = self.output_padding if output_size is None else self._extra(input, output_size)
            return function(input, self.weight, self.bias, self.stride, self.padding, extra, self.groups, self.dilation)
        padding = self.padding
        if self.padding_mode != "zeros":
            sides = self._sides()
            input, padding = F.pad(input, sides, self.padding_mode), (0,) * n
        return getattr(F, f"conv{n}d")(input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)

    def _sides(self) -> tuple[int, ...]:
        """How much is padded before and behind, the last dimension first."""
        if self.padding == "valid":
            return (0,) * (2 * self.dimensions)
        if self.padding == "same":
            total = [d * (k - 1) for d, k in zip(self.dilation, self.kernel_size, strict=True)]
            return tuple(n for t in reversed(total) for n in (t // 2, t - t // 2))
        return tuple(n for p in reversed(self.padding) for n in (p, p))

    def _extra(self, input: Tensor, output_size: Any) -> tuple[int, ...]:
        """The output padding that gives a size."""
        n = self.dimensions
        least = [
            (length - 1) * s - 2 * p + d * (k - 1) + 1
            for length, s, p, d, k in zip(
                input.shape[-n:], self.stride, self.padding, self.dilation, self.kernel_size, strict=True
            )
        ]
        extra = tuple(size - low for size, low in zip(tuple(output_size)[-n:], least, strict=True))
        if any(not 0 <= e < max(s, d) for e, s, d in zip(extra, self.stride, self.dilation, strict=True)):
            raise ValueError(
                f"requested an output size of {list(output_size)}, but valid sizes range from {least} to "
                f"{[low + s - 1 for low, s in zip(least, self.stride, strict=True)]} (for an input of "
                f"{list(input.shape[-n:])})"
            )
        return extra

    def extra_repr(self) -> str:
        """See `Module`."""
        n = self.dimensions
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        if self.padding != (0,) * n:
            text += f", padding={self.padding}"
        if self.dilation != (1,) * n:
            text += f", dilation={self.dilation}"
        if self.output_padding != (0,) * n:
            text += f", output_padding={self.output_padding}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        if self.bias is None:
            text += ", bias=False"
        return text if self.padding_mode == "zeros" else f"{text}, padding_mode={self.padding_mode}"


class Conv1d(Convolution):
    """Convolution over one dimension: see `nn.functional.conv1d`.

    >>> import tapegrad as tg
    >>> layer = tg.nn.Conv1d(2, 4, kernel_size=3, stride=2)
    >>> layer(tg.ones(1, 2, 9)).shape, layer.weight.shape
    (tapegrad.Size([1, 4, 4]), tapegrad.Size([4, 2, 3]))
    """


class Conv2d(Convolution):
    """Convolution over two dimensions: see `nn.functional.conv2d`.

    >>> import tapegrad as tg
    >>> layer = tg.nn.Conv2d(3, 8, kernel_size=3, padding=1)
    >>> layer(tg.zeros(2, 3, 16, 16)).shape
    tapegrad.Size([2, 8, 16, 16])
    """

    dimensions = 2


class Conv3d(Convolution):
    """Convolution over three dimensions: see `nn.functional.conv3d`.

    >>> import tapegrad as tg
    >>> tg.nn.Conv3d(1, 2, kernel_size=3, padding="same")(tg.ones(1, 1, 4, 5, 6)).shape
    tapegrad.Size([1, 2, 4, 5, 6])
    """

    dimensions = 3


class Transposed(Convolution):
    """What transposed convolutions share."""

    transposed = True

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any = 1, padding: Any = 0,
        output_padding: Any = 0, groups: int = 1, bias: bool = True, dilation: Any = 1, padding_mode: str = "zeros",
        device: Any = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode, device,
            dtype, output_padding,
        )  # fmt: skip


class ConvTranspose1d(Transposed):
    """Transposed convolution over one dimension: see `nn.functional.conv_transpose1d`.

    >>> import tapegrad as tg
    >>> tg.nn.ConvTranspose1d(4, 2, kernel_size=3, stride=2)(tg.ones(1, 4, 4)).shape
    tapegrad.Size([1, 2, 9])
    """


class ConvTranspose2d(Transposed):
    """Transposed convolution over two dimensions: see `nn.functional.conv_transpose2d`.

    >>> import tapegrad as tg
    >>> tg.nn.ConvTranspose2d(4, 2, kernel_size=2, stride=2)(tg.ones(1, 4, 3, 5)).shape
    tapegrad.Size([1, 2, 6, 10])
    """

    dimensions = 2


class ConvTranspose3d(Transposed):
    """Transposed convolution over three dimensions: see `nn.functional.conv_transpose3d`.

    >>> import tapegrad as tg
    >>> tg.nn.ConvTranspose3d(2, 1, kernel_size=2, stride=2)(tg.ones(1, 2, 2, 3, 4)).shape
    tapegrad.Size([1, 1, 4, 6, 8])
    """

    dimensions = 3


# --- normalisation ----------------------------------------------------------------------------------------------------


class RunningNorm(Module):
    """Normalisation by means and variances of channels, of the batch or of all batches so far."""

    dimensions: tuple[int, ...] = ()
    said = ""

    _version = 2

    def __init__(
        self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True,
        track_running_stats: bool = True, device: Any = None, dtype: Any = None, *, bias: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        facts = {"device": device, "dtype": dtype}
        self.num_features, self.eps, self.momentum, self.affine = num_features, eps, momentum, affine
        self.track_running_stats = track_running_stats
        self.register_parameter("weight", ones(num_features, **facts) if affine else None)
        self.register_parameter("bias", zeros(num_features, **facts) if affine and bias else None)
        tracks = track_running_stats
        self.register_buffer("running_mean", creation.zeros(num_features, **facts) if tracks else None)
        self.register_buffer("running_var", creation.ones(num_features, **facts) if tracks else None)
        self.register_buffer("num_batches_tracked", creation.tensor(0) if tracks else None)

    def reset_running_stats(self) -> None:
        """Forget the batches so far."""
        if self.track_running_stats:
            self.running_mean.zero_()
            self.running_var.fill_(1)
            self.num_batches_tracked.zero_()

    def reset_parameters(self) -> None:
        """Forget all."""
        self.reset_running_stats()
        if self.affine:
            init.ones_(self.weight)
            if self.bias is not None:
                init.zeros_(self.bias)

    def _check(self, input: Tensor) -> None:
        if input.ndim not in self.dimensions:
            raise ValueError(f"expected {self.said} input (got {input.ndim}D input)")

    def _take_older(self, state: Any, prefix: str, version: int | None) -> None:
        """Version 1 did not count batches."""
        if (version is None or version < 2) and self.num_batches_tracked is not None:
            state.setdefault(f"{prefix}num_batches_tracked", self.num_batches_tracked)

    def extra_repr(self) -> str:
        """See `Module`."""
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )


class BatchNorm(RunningNorm):
    """What batch normalisations share."""

    def forward(self, input: Tensor) -> Tensor:
        """See `Module`."""
        self._check(input)
        momentum = 0.0 if self.momentum is None else self.momentum
        if self.training and self.track_running_stats and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:
                momentum = 1.0 / self.num_batches_tracked.item()
        by_batch = self.training or self.running_mean is None
        keeps = not self.training or self.track_running_stats
        return F.batch_norm(
            input, self.running_mean if keeps else None, self.running_var if keeps else None, self.weight, self.bias,
            by_batch, momentum, self.eps,
        )  # fmt: skip


class BatchNorm1d(BatchNorm):
    """Batch normalisation of [batch, channels] or [batch, channels, length]: see `nn.functional.batch_norm`.

    >>> import tapegrad as tg
    >>> layer = tg.nn.BatchNorm1d(2)
    >>> layer(tg.tensor([[1.0, 5.0], [3.0, 5.0]])).detach().round(decimals=3)
    tensor([[-1.,  0.],
            [ 1.,  0.]])
    >>> layer.running_mean
    tensor([0.2000, 0.5000])
    """

    dimensions, said = (2, 3), "2D or 3D"


class BatchNorm2d(BatchNorm):
    """Batch normalisation of [batch, channels, height, width]: see `nn.functional.batch_norm`.

    >>> import tapegrad as tg
    >>> layer = tg.nn.BatchNorm2d(3)
    >>> layer(tg.ones(2, 3, 4, 4)).abs().max().item()
    0.0
    >>> layer.running_mean
    tensor([0.1000, 0.1000, 0.1000])
    """

    dimensions, said = (4,), "4D"


class BatchNorm3d(BatchNorm):
    """Batch normalisation of [batch, channels, depth, height, width]: see `nn.functional.batch_norm`.

    >>> import tapegrad as tg
    >>> layer = tg.nn.BatchNorm3d(2)
    >>> _ = layer(tg.ones(2, 2, 3, 3, 3))
    >>> layer.running_mean, layer.num_batches_tracked
    (tensor([0.1000, 0.1000]), tensor(1))
    """

    dimensions, said = (5,), "5D"


class SyncBatchNorm(BatchNorm):
    """Batch normalisation over the batches of all processes, of which there is one: that of its own batch.

    >>> import tapegrad as tg
    >>> tg.nn.SyncBatchNorm.convert_sync_batchnorm(tg.nn.Sequential(tg.nn.BatchNorm2d(3)))
    Sequential(
      (0): SyncBatchNorm(3, eps=1e-05, momentum=0.1, affine=True, bias=True, track_running_stats=True)
    )
    """

    def __init__(
        self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True,
        track_running_stats: bool = True, process_group: Any = None, device: Any = None, dtype: Any = None, *,
        bias: bool = True,
    ) -> None:  # fmt: skip
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias)
        self.process_group = process_group

    def _check(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"expected at least 2D input (got {input.ndim}D input)")
        if input.shape[1] == 0:
            raise ValueError("SyncBatchNorm number of input channels should be non-zero")

    @classmethod
    def convert_sync_batchnorm(cls, module: Any, process_group: Any = None) -> Any:
        """A module with one of these, with its parameters and buffers, in the place of each batch normalisation."""
        made = module
        if isinstance(module, BatchNorm):
            made = cls(
                module.num_features, module.eps, module.momentum, module.affine, module.track_running_stats,
                process_group, bias=module.bias is not None,
            )  # fmt: skip
            made._parameters.update(module._parameters)
            made._buffers.update(module._buffers)
            made.training = module.training
        for name, child in module.named_children():
            made.add_module(name, cls.convert_sync_batchnorm(child, process_group))
        return made


class InstanceNorm(RunningNorm):
    """What instance normalisations share."""

    def __init__(
        self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = False,
        track_running_stats: bool = False, device: Any = None, dtype: Any = None, *, bias: bool = True,
    ) -> None:  # fmt: skip
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        """See `Module`."""
        self._check(input)
        return self._of_batch(input) if input.ndim == self.dimensions[-1] else self._of_batch(input[None])[0]

    def _of_batch(self, input: Tensor) -> Tensor:
        return F.instance_norm(
            input, self.running_mean, self.running_var, self.weight, self.bias,
            self.training or not self.track_running_stats, 0.0 if self.momentum is None else self.momentum, self.eps,
        )  # fmt: skip


class InstanceNorm1d(InstanceNorm):
    """Normalisation of each channel of each sample: see `nn.functional.instance_norm`.

    >>> import tapegrad as tg
    >>> tg.nn.InstanceNorm1d(2)(tg.tensor([[[1.0, 3.0], [7.0, 5.0]]])).round(decimals=3)
    tensor([[[-1.,  1.],
             [ 1., -1.]]])
    """

    dimensions, said = (2, 3), "2D or 3D"


class InstanceNorm2d(InstanceNorm):
    """Normalisation of each channel of each sample: see `nn.functional.instance_norm`.

    >>> import tapegrad as tg
    >>> tg.nn.InstanceNorm2d(1)(tg.tensor([[[[1.0, 3.0], [3.0, 1.0]]]])).round(decimals=3)
    tensor([[[[-1.,  1.],
              [ 1., -1.]]]])
    """

    dimensions, said = (3, 4), "3D or 4D"


class InstanceNorm3d(InstanceNorm):
    """Normalisation of each channel of each sample: see `nn.functional.instance_norm`.

    >>> import tapegrad as tg
    >>> tg.nn.InstanceNorm3d(3, affine=True)(tg.ones(2, 3, 2, 2, 2)).shape
    tapegrad.Size([2, 3, 2, 2, 2])
    """

    dimensions, said = (4, 5), "4D or 5D"


class LayerNorm(Module):
    """Normalisation over the last dimensions: see `nn.functional.layer_norm`.

    >>> import tapegrad as tg
    >>> tg.nn.LayerNorm(2)(tg.tensor([[1.0, 3.0]])).detach().round(decimals=3)
    tensor([[-1.,  1.]])
    """

    def __init__(
        self, normalized_shape: Any, eps: float = 1e-5, elementwise_affine: bool = True, bias: bool = True,
        device: Any = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        super().__init__()
        facts = {"device": device, "dtype": dtype}
        self.normalized_shape, self.eps = many(normalized_shape, 1), eps
        self.elementwise_affine = elementwise_affine
        self.register_parameter("weight", ones(*self.normalized_shape, **facts) if elementwise_affine else None)
        has_bias = elementwise_affine and bias
        self.register_parameter("bias", zeros(*self.normalized_shape, **facts) if has_bias else None)

    def reset_parameters(self) -> None:
        """Ones, and zeros."""
        if self.elementwise_affine:
            init.ones_(self.weight)
            if self.bias is not None:
                init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:
        """See `Module`."""
        return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        """See `Module`."""
        affine = self.elementwise_affine
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={affine}, bias={self.bias is not None}"


class RMSNorm(Module):
    """Division by the root of the mean square over the last dimensions: see `nn.functional.rms_norm`.

    >>> import tapegrad as tg
    >>> tg.nn.RMSNorm(2)(tg.tensor([1.0, 7.0])).detach().round(decimals=3)
    tensor([0.2000, 1.4000])
    """

    def __init__(
        self, normalized_shape: Any, eps: float | None = None, elementwise_affine: bool = True, device: Any = None,
        dtype: Any = None,
    ) -> None:  # fmt: skip
        super().__init__()
        facts = {"device": device, "dtype": dtype}
        self.normalized_shape, self.eps = many(normalized_shape, 1), eps
        self.elementwise_affine = elementwise_affine
        self.register_parameter("weight", ones(*self.normalized_shape, **facts) if elementwise_affine else None)

    def forward(self, input: Tensor) -> Tensor:
        """See `Module`."""
        return F.rms_norm(input, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        """See `Module`."""
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class GroupNorm(Module):
    """Normalisation of groups of channels: see `nn.functional.group_norm`.

    >>> import tapegrad as tg
    >>> layer = tg.nn.GroupNorm(2, 4)
    >>> layer(tg.tensor([[1.0, 3.0, 20.0, 60.0]])).detach().round(decimals=3)
    tensor([[-1.,  1., -1.,  1.]])
    """

    def __init__(
        self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True, device: Any = None,
        dtype: Any = None, *, bias: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        facts = {"device": device, "dtype": dtype}
        if num_channels % num_groups:
            raise ValueError(f"num_channels ({num_channels}) must be divisible by num_groups ({num_groups})")
        self.num_groups, self.num_channels, self.eps, self.affine = num_groups, num_channels, eps, affine
        self.register_parameter("weight", ones(num_channels, **facts) if affine else None)
        self.register_parameter("bias", zeros(num_channels, **facts) if affine and bias else None)

    def forward(self, input: Tensor) -> Tensor:
        """See `Module`."""
        return F.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        """See `Module`."""
        text = f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}"
        return f"{text}, bias={self.bias is not None}"


# --- embeddings, and an activation with a parameter -------------------------------------------------------------------


class Embedding(Module):
    """Rows of a table: see `nn.functional.embedding`.

    >>> import tapegrad as tg
    >>> tg.nn.Embedding(10, 3)(tg.tensor([1, 4, 1])).shape
    tapegrad.Size([3, 3])
    """

    def __init__(
        self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None, max_norm: float | None = None,
        norm_type: float = 2.0, scale_grad_by_freq: bool = False, sparse: bool = False, _weight: Tensor | None = None,
        _freeze: bool = False, device: Any = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        super().__init__()
        facts = {"device": device, "dtype": dtype}
        if padding_idx is not None:
            if not -num_embeddings <= padding_idx < num_embeddings:
                raise AssertionError("Padding_idx must be within num_embeddings")
            padding_idx %= num_embeddings
        self.num_embeddings, self.embedding_dim, self.padding_idx = num_embeddings, embedding_dim, padding_idx
        self.max_norm, self.norm_type, self.scale_grad_by_freq, self.sparse = (
            max_norm, norm_type, scale_grad_by_freq, sparse
        )  # fmt: skip
        table = creation.empty(num_embeddings, embedding_dim, **facts) if _weight is None else _weight
        self.weight = Parameter(table, requires_grad=not _freeze)
        if _weight is None:
            self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw values anew: normal, and zeros for the padding."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            self.weight.data[self.padding_idx] = 0.0

    @classmethod
    def from_pretrained(cls, embeddings: Tensor, freeze: bool = True, **options: Any) -> Embedding:
        """With a table that is there."""
        if embeddings.ndim != 2:
            raise AssertionError("Embeddings parameter is expected to be 2-dimensional")
        return cls(embeddings.shape[0], embeddings.shape[1], _weight=embeddings, _freeze=freeze, **options)

    def forward(self, input: Tensor) -> Tensor:
        """See `Module`."""
        return F.embedding(
            input, self.weight, self.padding_idx, self.max_norm, self.norm_type, self.scale_grad_by_freq, self.sparse
        )

    def extra_repr(self) -> str:
        """See `Module`."""
        text = f"{self.num_embeddings}, {self.embedding_dim}"
        return text if self.padding_idx is None else f"{text}, padding_idx={self.padding_idx}"


class EmbeddingBag(Module):
    """Sums or means of rows of a table: see `nn.functional.embedding_bag`.

    >>> import tapegrad as tg
    >>> bag = tg.nn.EmbeddingBag(10, 3, mode="sum")
    >>> bag(tg.tensor([1, 4, 1, 2, 0]), offsets=tg.tensor([0, 2])).shape
    tapegrad.Size([2, 3])
    """

    def __init__(
        self, num_embeddings: int, embedding_dim: int, max_norm: float | None = None, norm_type: float = 2.0,
        scale_grad_by_freq: bool = False, mode: str = "mean", sparse: bool = False, _weight: Tensor | None = None,
        include_last_offset: bool = False, padding_idx: int | None = None, device: Any = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        super().__init__()
        facts = {"device": device, "dtype": dtype}
        self.num_embeddings, self.embedding_dim, self.padding_idx = num_embeddings, embedding_dim, padding_idx
        self.max_norm, self.norm_type, self.scale_grad_by_freq, self.sparse = (
            max_norm, norm_type, scale_grad_by_freq, sparse
        )  # fmt: skip
        self.mode, self.include_last_offset = mode, include_last_offset
        table = creation.empty(num_embeddings, embedding_dim, **facts) if _weight is None else _weight
        self.weight = Parameter(table)
        if _weight is None:
            init.normal_(self.weight)

    def forward(self, input: Tensor, offsets: Tensor | None = None, per_sample_weights: Tensor | None = None) -> Tensor:
        """See `Module`."""
        return F.embedding_bag(
            input, self.weight, offsets, self.max_norm, self.norm_type, self.scale_grad_by_freq, self.mode, self.sparse,
            per_sample_weights, self.include_last_offset, self.padding_idx,
        )  # fmt: skip

    def extra_repr(self) -> str:
        """See `Module`."""
        return f"{self.num_embeddings}, {self.embedding_dim}, mode={self.mode!r}"


class PReLU(Module):
    """`max(0, x) + a min(0, x)`, with an `a` for each channel, or one: see `nn.functional.prelu`.

    >>> import tapegrad as tg
    >>> layer = tg.nn.PReLU()
    >>> layer(tg.tensor([-1.0, 2.0])).sum().backward()
    >>> layer.weight.grad
    tensor([-1.])
    """

    def __init__(self, num_parameters: int = 1, init: float = 0.25, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        self.num_parameters, self.init = num_parameters, init
        self.weight = Parameter(
            creation.full((num_parameters,), float(init), device=device, dtype=dtype or dtypes.get_default_dtype())
        )

    def forward(self, input: Tensor) -> Tensor:
        """See `Module`."""
        return F.prelu(input, self.weight)

    def extra_repr(self) -> str:
        """See `Module`."""
        return f"num_parameters={self.num_parameters}"


__all__ = [
    "BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "Bilinear", "Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d",
    "ConvTranspose2d", "ConvTranspose3d", "Embedding", "EmbeddingBag", "GroupNorm", "Identity", "InstanceNorm1d",
    "InstanceNorm2d", "InstanceNorm3d", "LayerNorm", "Linear", "PReLU", "RMSNorm", "SyncBatchNorm",
]  # fmt: skip
