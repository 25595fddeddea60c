"""Functions of neural networks: a value and its gradient by all tensors."""

from collections.abc import Callable
from typing import Any

import numpy as np

import tapegrad as tg

from .common import DTYPES

Work = tuple[Callable[..., Any], tuple[tuple[int, ...], ...]]

# A function of F and tensors, and the shapes of these.
WORKS: dict[str, Work] = {
    "conv2d": (lambda F, x, w: F.conv2d(x, w, padding=1), ((32, 16, 28, 28), (32, 16, 3, 3))),
    "conv_transpose2d": (lambda F, x, w: F.conv_transpose2d(x, w, stride=2), ((8, 32, 14, 14), (32, 16, 4, 4))),
    "max_pool2d": (lambda F, x: F.max_pool2d(x, 2), ((32, 32, 28, 28),)),
    "pad": (lambda F, x: F.pad(x, (1, 1, 1, 1), mode="reflect"), ((32, 16, 28, 28),)),
    "avg_pool2d": (lambda F, x: F.avg_pool2d(x, 2), ((32, 32, 28, 28),)),
    "interpolate": (lambda F, x: F.interpolate(x, scale_factor=2, mode="bilinear"), ((8, 16, 28, 28),)),
    "attention": (lambda F, q, k, v: F.scaled_dot_product_attention(q, k, v), ((8, 8, 128, 64),) * 3),
    "layer_norm": (lambda F, x, w, b: F.layer_norm(x, (256,), w, b), ((4096, 256), (256,), (256,))),
    "batch_norm": (lambda F, x, w, b: F.batch_norm(x, None, None, w, b, True), ((32, 64, 28, 28), (64,), (64,))),
    "batch_norm of vectors": (
        lambda F, x, w, b: F.batch_norm(x, None, None, w, b, True),
        ((4096, 512), (512,), (512,)),
    ),
    "group_norm": (lambda F, x, w, b: F.group_norm(x, 8, w, b), ((32, 64, 28, 28), (64,), (64,))),
    "cross_entropy": (lambda F, x: F.cross_entropy(x, tg.arange(x.shape[0]) % x.shape[1]), ((1024, 1000),)),
    "embedding": (lambda F, w: F.embedding(tg.arange(8192) * 7919 % 10_000, w), ((10_000, 64),)),
    "gelu": (lambda F, x: F.gelu(x), ((1000, 1000),)),
}


class Functions:
    """Forward and backward."""

    params = (tuple(WORKS), DTYPES)
    param_names = ("work", "dtype")

    def setup(self, work, dtype):
        if "nn" not in dir(tg):  # asv measures older commits too
            raise NotImplementedError
        self.function, shapes = WORKS[work]
        rng = np.random.default_rng(0)
        self.inputs = [tg.tensor(rng.standard_normal(shape), dtype=dtype, requires_grad=True) for shape in shapes]
        self.time_gradient(work, dtype)

    def time_gradient(self, _work, _dtype):
        tg.autograd.grad((self.function(tg.nn.functional, *self.inputs) ** 2).sum(), self.inputs)
