"""Neural networks, as in `torch.nn`: modules, and the functions that they are made of (`nn.functional`).

Layers are declarations over these functions, and have no kernels of their own.
"""

from typing import Any

from tapegrad import namesakes as _namesakes
from tapegrad.nn import functional


def __getattr__(name: str) -> Any:
    """Modules are imported when the first of them is asked for."""
    import importlib

    if name in ("attention", "grad", "init", "utils", "module", "parallel", "parameter"):
        found: Any = importlib.import_module(f"tapegrad.nn.{name}")
    else:
        catalogue = importlib.import_module("tapegrad.nn.catalogue")
        if name not in catalogue.__all__:
            raise _namesakes.unknown(__name__, name)
        found = getattr(catalogue, name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """What is public."""
    from tapegrad.nn import catalogue

    return ["functional", "grad", "init", "utils", *catalogue.__all__]


__all__ = ["functional"]

# PyTorch has a module for each.
_namesakes.add_namesakes(__name__, "modules", "tapegrad.nn.catalogue")
_namesakes.add_namesakes(
    f"{__name__}.modules",
    "activation adaptive batchnorm channelshuffle container conv distance dropout flatten fold instancenorm lazy "
    "linear loss normalization padding pixelshuffle pooling rnn sparse transformer upsampling",
    "tapegrad.nn.catalogue",
)
_namesakes.add_namesakes(f"{__name__}.modules", "module", "tapegrad.nn.module")
_namesakes.add_namesakes(f"{__name__}.modules", "utils", "tapegrad.nn.tuples")
