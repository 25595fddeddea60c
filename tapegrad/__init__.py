"""tapegrad: automatic differentiation on a flat tape, with PyTorch's surface and Numba's speed.

>>> import tapegrad as tg
>>> x = tg.tensor([1.0, 2.0], requires_grad=True)
>>> y = (x * x).sum()
>>> y.backward()
>>> x.grad
tensor([2., 4.])
"""

import builtins as _builtins

from tapegrad import autograd
from tapegrad import functions as _functions
from tapegrad.autograd import enable_grad, is_grad_enabled, no_grad, set_grad_enabled
from tapegrad.creation import (
    arange,
    empty,
    empty_like,
    eye,
    full,
    full_like,
    linspace,
    manual_seed,
    ones,
    ones_like,
    rand,
    rand_like,
    randint,
    randn,
    randn_like,
    randperm,
    zeros,
    zeros_like,
)  # fmt: skip
from tapegrad.dtypes import BOOL, FLOAT32, FLOAT64, INT32, INT64, get_default_dtype, promote_types, set_default_dtype
from tapegrad.dtypes import DType as dtype
from tapegrad.interop import as_tensor, from_numpy, is_tensor, tensor
from tapegrad.printing import set_printoptions
from tapegrad.tape import Tape, current_tape
from tapegrad.tensor import Size, Tensor

__version__ = "0.1.0"

bool, float32, float64, int32, int64 = BOOL, FLOAT32, FLOAT64, INT32, INT64
double, float, long, int = FLOAT64, FLOAT32, INT64, INT32
inf, nan, pi, e = _builtins.float("inf"), _builtins.float("nan"), 3.141592653589793, 2.718281828459045

for _module in (
    _functions.elementwise,
    _functions.shaping,
    _functions.products,
    _functions.reductions,
    _functions.indexing,
    _functions.inplace,
):
    globals().update(_module.functions)

from tapegrad import numpy_protocol as _numpy_protocol  # the functions are all there now
