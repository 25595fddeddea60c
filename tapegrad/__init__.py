"""tapegrad: automatic differentiation on a flat tape, with PyTorch's surface and Numba's speed.

>>> import tapegrad as tg
>>> x = tg.tensor([1.0, 2.0], requires_grad=True)
>>> y = (x * x).sum()
>>> y.backward()
>>> x.grad
tensor([2., 4.])
"""

import importlib as _importlib
import math as _math

from tapegrad import autograd, func, jitted, linalg, special
from tapegrad import absent as _absent
from tapegrad import functions as _functions
from tapegrad import interop as _interop
from tapegrad import looking as _looking
from tapegrad import namesakes as _namesakes
from tapegrad import subclasses as _subclasses
from tapegrad.autograd import (
    enable_grad, inference_mode, is_anomaly_check_nan_enabled, is_anomaly_enabled, is_grad_enabled,
    is_inference_mode_enabled, no_grad, set_grad_enabled,
)  # fmt: skip
from tapegrad.creation import (
    BoolTensor, ByteTensor, CharTensor, DoubleTensor, FloatTensor, Generator, IntTensor, LongTensor, ShortTensor,
    arange, as_tensor, default_generator, empty,
    empty_like, eye, from_numpy, full, full_like, get_rng_state, initial_seed, is_tensor, linspace, manual_seed,
    ones, ones_like, rand, rand_like, randint, randn, randn_like, randperm, seed, set_default_tensor_type,
    set_rng_state, tensor, zeros,
    zeros_like,
)  # fmt: skip
from tapegrad.dtypes import BFLOAT16 as bfloat16
from tapegrad.dtypes import BOOL as bool
from tapegrad.dtypes import COMPLEX64 as complex64
from tapegrad.dtypes import COMPLEX128 as complex128
from tapegrad.dtypes import FLOAT16 as float16
from tapegrad.dtypes import FLOAT32 as float32
from tapegrad.dtypes import FLOAT64 as float64
from tapegrad.dtypes import INT8 as int8
from tapegrad.dtypes import INT16 as int16
from tapegrad.dtypes import INT32 as int32
from tapegrad.dtypes import INT64 as int64
from tapegrad.dtypes import UINT8 as uint8
from tapegrad.dtypes import UINT16 as uint16
from tapegrad.dtypes import UINT32 as uint32
from tapegrad.dtypes import UINT64 as uint64
from tapegrad.dtypes import DType as dtype
from tapegrad.devices import (
    are_deterministic_algorithms_enabled, backends, channels_last, channels_last_3d, contiguous_format, cuda,
    device, get_default_device, get_deterministic_debug_mode, get_float32_matmul_precision, get_num_interop_threads,
    layout, memory_format, mps, preserve_format, set_default_device, set_deterministic_debug_mode,
    set_float32_matmul_precision, set_flush_denormal, set_num_interop_threads, strided,
    use_deterministic_algorithms, version,
)  # fmt: skip
from tapegrad.dtypes import can_cast, finfo, get_default_dtype, iinfo, promote_types, set_default_dtype
from tapegrad.interop import from_dlpack
from tapegrad.printing import set_printoptions
from tapegrad.storages import get_device, is_conj, is_inference, is_neg, is_signed, is_storage, typename
from tapegrad.tape import Tape, current_tape
from tapegrad.tensor import Size, Tensor
from tapegrad.threads import get_num_threads, set_num_threads

__version__ = "0.1.0"


# Of `nn.functional`, what PyTorch's own namespace has too.
_FUNCTIONAL = """
    adaptive_avg_pool1d avg_pool1d bilinear celu celu_ channel_shuffle constant_pad_nd conv1d conv2d
    conv3d conv_transpose1d conv_transpose2d conv_transpose3d grid_sampler_2d grid_sampler_3d max_pool1d
    max_pool2d max_pool3d pixel_shuffle pixel_unshuffle rms_norm rrelu rrelu_ selu selu_ threshold threshold_
""".split()
# What it has with other arguments.
_NAMESPACE = """
    adaptive_max_pool1d affine_grid_generator alpha_dropout batch_norm dropout dropout_ embedding
    feature_alpha_dropout grid_sampler group_norm gru_cell instance_norm layer_norm lstm_cell rnn_relu_cell
    rnn_tanh_cell
""".split()
# What takes long to import, or few ask for, is imported when it is first asked for: from these modules.
_LATER = {
    "GradScaler": "amp",
    "amp": "",
    "autocast": "amp",
    "compile": "replay",
    "compiler": "absent",
    "custom_jvp": "autograd.custom",
    "custom_rule": "jitted.extensions",
    "custom_vjp": "autograd.custom",
    "distributed": "",
    "distributions": "",
    "fft": "",
    "is_autocast_enabled": "amp",
    "jit": "",
    "load": "serialization",
    "masked": "",
    "nn": "",
    "onnx": "absent",
    "optim": "",
    "optimize": "",
    "overrides": "",
    "profiler": "autograd",
    "quasirandom": "",
    "random": "",
    "save": "serialization",
    "signal": "",
    "testing": "",
    "utils": "",
    "viz": "",
    "vmap": "mapped",
    "xp": "",
    **dict.fromkeys(_FUNCTIONAL, "nn.functional"),
    **dict.fromkeys(_NAMESPACE, "nn.namespace"),
}


_PRIVATE = {"_standard_gamma": "distributions.variates"}  # in PyTorch's namespace too


def __getattr__(name: str) -> object:
    """Import what is imported late."""
    found: object
    if name.startswith("_foreach_"):
        found = globals()[name] = _importlib.import_module("tapegrad.functions.each").named(name)
        return found
    home = _LATER.get(name, _PRIVATE.get(name))
    if home is None:
        raise _namesakes.unknown(__name__, name)
    module = _importlib.import_module(f"tapegrad.{home or name}")
    found = getattr(module, name) if home else module
    globals()[name] = found
    return found


double, float, long, int = float64, float32, int64, int32
half, short = float16, int16
inf, nan, pi, e = _math.inf, _math.nan, _math.pi, _math.e
newaxis = None

# Functions are made from the op table: `__init__.pyi` lists them for type checkers and editors, and a test compares.
for _name in _functions.__all__:
    globals().update(getattr(_functions, _name).functions)

from tapegrad import array_methods as _array_methods  # the functions are all there now

_C, __config__ = _absent._C, _absent.__config__
_assert, _assert_async, _check = _absent._assert, _absent._assert_async, _absent._check
_C._LinAlgError = linalg.LinAlgError  # type: ignore[attr-defined]
_MODULES = ("autograd", "backends", "cuda", "func", "jitted", "linalg", "mps", "special", "version")
_made = [name for name, value in globals().items() if name[0] != "_" and not isinstance(value, type(_math))]
__all__ = [*_MODULES, *_made, *_LATER]  # noqa: PLE0604 - names, all of them


def __dir__() -> list[str]:
    """What is public, and nothing else."""
    return [*__all__, "__version__"]
