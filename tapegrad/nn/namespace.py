"""Functions of `nn.functional` that PyTorch's own namespace has with other arguments: `torch.dropout(x, 0.5, True)`."""

from __future__ import annotations

from typing import Any

from tapegrad.nn import functional as F  # noqa: N812 (as everybody calls it)
from tapegrad.nn import recurrent
from tapegrad.tensor import Tensor


def dropout(input: Tensor, p: float, train: bool) -> Tensor:
    """See `nn.functional.dropout`.

    >>> import tapegrad as tg
    >>> _ = tg.manual_seed(0)
    >>> tg.dropout(tg.ones(5), 0.5, train=True), tg.dropout(tg.ones(2), 0.5, train=False)
    (tensor([2., 2., 2., 0., 0.]), tensor([1., 1.]))
    """
    return F.dropout(input, p, train)


def dropout_(input: Tensor, p: float, train: bool) -> Tensor:
    """See `nn.functional.dropout`; in place."""
    return F.dropout(input, p, train, inplace=True)


def alpha_dropout(input: Tensor, p: float, train: bool) -> Tensor:
    """See `nn.functional.alpha_dropout`.

    >>> import tapegrad as tg
    >>> _ = tg.manual_seed(0)
    >>> tg.alpha_dropout(tg.zeros(4), 0.5, train=True)
    tensor([ 0.7792,  0.7792,  0.7792, -0.7792])
    """
    return F.alpha_dropout(input, p, train)


def feature_alpha_dropout(input: Tensor, p: float, train: bool) -> Tensor:
    """See `nn.functional.feature_alpha_dropout`.

    >>> import tapegrad as tg
    >>> _ = tg.manual_seed(0)
    >>> tg.feature_alpha_dropout(tg.zeros(1, 4, 2), 0.5, train=True)[0]
    tensor([[ 0.7792,  0.7792],
            [ 0.7792,  0.7792],
            [ 0.7792,  0.7792],
            [-0.7792, -0.7792]])
    """
    return F.feature_alpha_dropout(input, p, train)


def adaptive_max_pool1d(input: Tensor, output_size: Any) -> tuple[Tensor, Tensor]:
    """See `nn.functional.adaptive_max_pool1d`: the places of the maxima are returned too.

    >>> import tapegrad as tg
    >>> tg.adaptive_max_pool1d(tg.tensor([[1.0, 3.0, 2.0, 5.0]]), 2)
    (tensor([[3., 5.]]), tensor([[1, 3]]))
    """
    largest, places = F.adaptive_max_pool1d(input, output_size, return_indices=True)
    return largest, places


def embedding(
    weight: Tensor, indices: Tensor, padding_idx: int = -1, scale_grad_by_freq: bool = False, sparse: bool = False
) -> Tensor:
    """See `nn.functional.embedding`: the table comes first, and -1 is no padding.

    >>> import tapegrad as tg
    >>> tg.embedding(tg.tensor([[1.0, 2.0], [3.0, 4.0]]), tg.tensor([1, 0]))
    tensor([[3., 4.],
            [1., 2.]])
    """
    padding = None if padding_idx < 0 else padding_idx
    return F.embedding(indices, weight, padding, None, 2.0, scale_grad_by_freq, sparse)


def batch_norm(
    input: Tensor, weight: Tensor | None, bias: Tensor | None, running_mean: Tensor | None, running_var: Tensor | None,
    training: bool, momentum: float, eps: float, cudnn_enabled: bool = False,
) -> Tensor:  # fmt: skip
    """See `nn.functional.batch_norm`.

    >>> import tapegrad as tg
    >>> x = tg.tensor([[1.0, 5.0], [3.0, 9.0]])
    >>> tg.batch_norm(x, None, None, None, None, True, 0.1, 1e-5).round(decimals=3)
    tensor([[-1., -1.],
            [ 1.,  1.]])
    """
    del cudnn_enabled
    return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)


def instance_norm(
    input: Tensor, weight: Tensor | None, bias: Tensor | None, running_mean: Tensor | None, running_var: Tensor | None,
    use_input_stats: bool, momentum: float, eps: float, cudnn_enabled: bool = False,
) -> Tensor:  # fmt: skip
    """See `nn.functional.instance_norm`.

    >>> import tapegrad as tg
    >>> x = tg.tensor([[[1.0, 3.0], [7.0, 5.0]]])
    >>> tg.instance_norm(x, None, None, None, None, True, 0.1, 1e-5).round(decimals=3)
    tensor([[[-1.,  1.],
             [ 1., -1.]]])
    """
    del cudnn_enabled
    return F.instance_norm(input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps)


def layer_norm(
    input: Tensor, normalized_shape: Any, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5,
    cudnn_enable: bool = False,
) -> Tensor:  # fmt: skip
    """See `nn.functional.layer_norm`.

    >>> import tapegrad as tg
    >>> tg.layer_norm(tg.tensor([[1.0, 3.0]]), (2,)).round(decimals=3)
    tensor([[-1.,  1.]])
    """
    del cudnn_enable
    return F.layer_norm(input, normalized_shape, weight, bias, eps)


def group_norm(
    input: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5,
    cudnn_enabled: bool = False,
) -> Tensor:  # fmt: skip
    """See `nn.functional.group_norm`.

    >>> import tapegrad as tg
    >>> tg.group_norm(tg.tensor([[1.0, 3.0, 20.0, 60.0]]), 2).round(decimals=3)
    tensor([[-1.,  1., -1.,  1.]])
    """
    del cudnn_enabled
    return F.group_norm(input, num_groups, weight, bias, eps)


_MODES, _PADDINGS = ("bilinear", "nearest", "bicubic"), ("zeros", "border", "reflection")


def grid_sampler(
    input: Tensor, grid: Tensor, interpolation_mode: int, padding_mode: int, align_corners: bool
) -> Tensor:
    """See `nn.functional.grid_sample`: modes are numbers, in the order in which that names them.

    >>> import tapegrad as tg
    >>> image, places = tg.tensor([[[[1.0, 2.0]]]]), tg.tensor([[[[0.0, 0.0]]]])
    >>> tg.grid_sampler(image, places, 0, 0, False)
    tensor([[[[1.5000]]]])
    """
    return F.grid_sample(input, grid, _MODES[interpolation_mode], _PADDINGS[padding_mode], align_corners)


def affine_grid_generator(theta: Tensor, size: Any, align_corners: bool) -> Tensor:
    """See `nn.functional.affine_grid`.

    >>> import tapegrad as tg
    >>> theta = tg.tensor([[[1.0, 0.0, 0.5], [0.0, 1.0, 0.0]]])
    >>> tg.affine_grid_generator(theta, (1, 1, 1, 2), True)
    tensor([[[[-0.5000,  0.0000],
              [ 1.5000,  0.0000]]]])
    """
    return F.affine_grid(theta, size, align_corners)


def _cell(formula: Any, input: Tensor, state: Any, weights: tuple[Any, ...], nonlinearity: str = "tanh") -> Any:
    made = formula(input, state, nonlinearity, *weights)
    return made[0] if len(made) == 1 else made


def lstm_cell(
    input: Tensor, hx: Any, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None = None, b_hh: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The states h and c after one step of long short-term memory: see `nn.LSTMCell`.

    >>> import tapegrad as tg
    >>> h, c = tg.lstm_cell(tg.ones(1, 2), (tg.zeros(1, 3), tg.zeros(1, 3)), tg.zeros(12, 2), tg.zeros(12, 3))
    >>> h.shape, c.shape
    (tapegrad.Size([1, 3]), tapegrad.Size([1, 3]))
    """
    made: tuple[Tensor, Tensor] = _cell(recurrent.lstm, input, tuple(hx), (w_ih, w_hh, b_ih, b_hh))
    return made


def gru_cell(
    input: Tensor, hx: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None = None, b_hh: Tensor | None = None
) -> Tensor:
    """The state after one step of gated recurrent units: see `nn.GRUCell`.

    >>> import tapegrad as tg
    >>> tg.gru_cell(tg.ones(1, 2), tg.ones(1, 3), tg.zeros(9, 2), tg.zeros(9, 3))  # 0.5 * 0 + 0.5 * 1
    tensor([[0.5000, 0.5000, 0.5000]])
    """
    made: Tensor = _cell(recurrent.gru, input, (hx,), (w_ih, w_hh, b_ih, b_hh))
    return made


def rnn_tanh_cell(
    input: Tensor, hx: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None = None, b_hh: Tensor | None = None
) -> Tensor:
    """The state after one step of Elman's network: see `nn.RNNCell`.

    >>> import tapegrad as tg
    >>> tg.rnn_tanh_cell(tg.ones(1, 2), tg.zeros(1, 1), tg.tensor([[0.5, 0.5]]), tg.ones(1, 1))
    tensor([[0.7616]])
    """
    made: Tensor = _cell(recurrent.elman, input, (hx,), (w_ih, w_hh, b_ih, b_hh))
    return made


def rnn_relu_cell(
    input: Tensor, hx: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None = None, b_hh: Tensor | None = None
) -> Tensor:
    """The state after one step of Elman's network, with relu: see `nn.RNNCell`.

    >>> import tapegrad as tg
    >>> tg.rnn_relu_cell(tg.ones(1, 2), tg.zeros(1, 1), tg.tensor([[0.5, 0.5]]), tg.ones(1, 1))
    tensor([[1.]])
    """
    made: Tensor = _cell(recurrent.elman, input, (hx,), (w_ih, w_hh, b_ih, b_hh), "relu")
    return made


__all__ = [
    "affine_grid_generator", "alpha_dropout", "batch_norm", "dropout", "dropout_", "embedding", "feature_alpha_dropout",
    "grid_sampler", "group_norm", "gru_cell", "instance_norm", "layer_norm", "lstm_cell", "rnn_relu_cell",
    "rnn_tanh_cell",
]  # fmt: skip
