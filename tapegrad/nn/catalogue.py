"""All modules, by their names; and what several have in common, by those that PyTorch has for it."""

from tapegrad.nn import attention, containers, criteria, declared, layers, lazy, parallel, recurrent
from tapegrad.nn.module import Module
from tapegrad.nn.parameter import Buffer, Parameter, UninitializedBuffer, UninitializedParameter

_MODULES = (attention, containers, criteria, layers, lazy, recurrent)
DataParallel = parallel.DataParallel
_BatchNorm, _InstanceNorm, _NormBase = layers.BatchNorm, layers.InstanceNorm, layers.RunningNorm
_ConvNd, _ConvTransposeNd = layers.Convolution, layers.Transposed
_Loss, _WeightedLoss = declared.Loss, declared.WeightedLoss
globals().update({name: getattr(module, name) for module in _MODULES for name in module.__all__} | declared.layers)

__all__ = [  # noqa: PLE0604 - names, all of them
    "Buffer", "DataParallel", "Module", "Parameter", "UninitializedBuffer", "UninitializedParameter",
    *(name for module in _MODULES for name in module.__all__), *declared.layers,
]  # fmt: skip
