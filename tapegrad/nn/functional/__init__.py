"""The functions of neural networks, under the names of `torch.nn.functional`.

Nearly all are compositions of other operations, which a sweep fuses; so derivatives of every order, in both modes, are
theirs. Convolutions and windows have kernels of their own.

>>> import tapegrad as tg
>>> import tapegrad.nn.functional as F
>>> x, w = tg.ones(2, 3), tg.zeros(4, 3, requires_grad=True)
>>> F.cross_entropy(F.linear(x, w), tg.tensor([0, 1])).backward()
>>> w.grad[0]
tensor([-0.2500, -0.2500, -0.2500])
"""

from tapegrad.functions.activations import hardshrink, prelu
from tapegrad.functions.distances import cosine_similarity, pairwise_distance, pdist
from tapegrad.nn.functional.activations import (
    celu,
    celu_,
    elu,
    elu_,
    gelu,
    glu,
    gumbel_softmax,
    hardsigmoid,
    hardswish,
    hardtanh,
    hardtanh_,
    leaky_relu,
    leaky_relu_,
    log_softmax,
    logsigmoid,
    mish,
    relu,
    relu6,
    relu_,
    rrelu,
    rrelu_,
    selu,
    selu_,
    sigmoid,
    silu,
    softmax,
    softmin,
    softplus,
    softshrink,
    softsign,
    tanh,
    tanhshrink,
    threshold,
    threshold_,
)  # fmt: skip
from tapegrad.nn.functional.convolution import (
    conv1d,
    conv2d,
    conv3d,
    conv_transpose1d,
    conv_transpose2d,
    conv_transpose3d,
    fold,
    unfold,
)  # fmt: skip
from tapegrad.nn.functional.dropout import (
    alpha_dropout,
    dropout,
    dropout1d,
    dropout2d,
    dropout3d,
    feature_alpha_dropout,
)  # fmt: skip
from tapegrad.nn.functional.linear import (
    bilinear,
    embedding,
    embedding_bag,
    linear,
    multi_head_attention_forward,
    one_hot,
    scaled_dot_product_attention,
)  # fmt: skip
from tapegrad.nn.functional.losses import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cosine_embedding_loss,
    gaussian_nll_loss,
    hinge_embedding_loss,
    huber_loss,
    kl_div,
    l1_loss,
    margin_ranking_loss,
    mse_loss,
    poisson_nll_loss,
    smooth_l1_loss,
    soft_margin_loss,
    triplet_margin_loss,
    triplet_margin_with_distance_loss,
)  # fmt: skip
from tapegrad.nn.functional.classification import (
    cross_entropy,
    linear_cross_entropy,
    multi_margin_loss,
    multilabel_margin_loss,
    multilabel_soft_margin_loss,
    nll_loss,
)  # fmt: skip
from tapegrad.nn.functional.alignment import ctc_loss
from tapegrad.nn.functional.normalisation import (
    batch_norm,
    group_norm,
    instance_norm,
    layer_norm,
    local_response_norm,
    normalize,
    rms_norm,
)  # fmt: skip
from tapegrad.nn.functional.padding import constant_pad_nd, pad
from tapegrad.nn.functional.pooling import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    adaptive_avg_pool3d,
    adaptive_max_pool1d,
    adaptive_max_pool2d,
    adaptive_max_pool3d,
    avg_pool1d,
    avg_pool2d,
    avg_pool3d,
    fractional_max_pool2d,
    fractional_max_pool3d,
    lp_pool1d,
    lp_pool2d,
    lp_pool3d,
    max_pool1d,
    max_pool2d,
    max_pool3d,
    max_unpool1d,
    max_unpool2d,
    max_unpool3d,
)  # fmt: skip
from tapegrad.nn.functional.resampling import (
    affine_grid,
    channel_shuffle,
    grid_sample,
    grid_sampler_2d,
    grid_sampler_3d,
    interpolate,
    native_channel_shuffle,
    pixel_shuffle,
    pixel_unshuffle,
    upsample,
    upsample_bilinear,
    upsample_nearest,
)  # fmt: skip

__all__ = [name for name in globals() if name[0] != "_" and callable(globals()[name])]
