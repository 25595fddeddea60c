"""What formulas are written in: the functions of Tensors under their public names, from where they are made.

Types are those of `tapegrad/__init__.pyi`.
"""

from tapegrad import autograd, functions, linalg
from tapegrad.creation import arange, eye, full, full_like, ones_like, zeros, zeros_like
from tapegrad.dtypes import BOOL as bool
from tapegrad.dtypes import INT64 as int64
from tapegrad.dtypes import get_default_dtype

enable_grad, no_grad = autograd.enable_grad, autograd.no_grad

for _name in functions.__all__:
    globals().update(getattr(functions, _name).functions)

__all__ = [
    "arange", "autograd", "bool", "enable_grad", "eye", "full", "full_like", "get_default_dtype", "int64",
    "linalg", "no_grad", "ones_like", "zeros", "zeros_like",
]  # fmt: skip
