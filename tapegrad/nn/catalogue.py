"""All modules, by their names."""

from tapegrad.nn import attention, containers, criteria, declared, layers, lazy, recurrent
from tapegrad.nn.module import Module
from tapegrad.nn.parameter import Buffer, Parameter, UninitializedBuffer, UninitializedParameter

_MODULES = (attention, containers, criteria, layers, lazy, recurrent)
globals().update({name: getattr(module, name) for module in _MODULES for name in module.__all__} | declared.layers)

__all__ = [  # noqa: PLE0604 - names, all of them
    "Buffer", "Module", "Parameter", "UninitializedBuffer", "UninitializedParameter",
    *(name for module in _MODULES for name in module.__all__), *declared.layers,
]  # fmt: skip
