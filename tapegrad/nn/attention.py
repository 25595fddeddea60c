"""Attention, and the transformer that is made of it (Vaswani et al. 2017)."""

from __future__ import annotations

import contextlib
import copy
import enum
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tapegrad import creation
from tapegrad.nn import functional as F  # noqa: N812 (as everybody calls it)
from tapegrad.nn import init
from tapegrad.nn.containers import ModuleList
from tapegrad.nn.declared import layers as _declared
from tapegrad.nn.layers import LayerNorm, Linear, parameter
from tapegrad.nn.module import Module
from tapegrad.tensor import Tensor

_Dropout: Any = _declared["Dropout"]


class NonDynamicallyQuantizableLinear(Linear):
    """A `Linear`, by the name under which PyTorch shows it in `MultiheadAttention`."""


class MultiheadAttention(Module):
    """Attention of several heads: see `nn.functional.multi_head_attention_forward`.

    >>> import tapegrad as tg
    >>> attention = tg.nn.MultiheadAttention(4, 2, batch_first=True)
    >>> x = tg.ones(1, 3, 4)
    >>> output, weights = attention(x, x, x)
    >>> output.shape, weights.shape
    (tapegrad.Size([1, 3, 4]), tapegrad.Size([1, 3, 3]))
    """

    def __init__(
        self, embed_dim: int, num_heads: int, dropout: float = 0.0, bias: bool = True, add_bias_kv: bool = False,
        add_zero_attn: bool = False, kdim: int | None = None, vdim: int | None = None, batch_first: bool = False,
        device: Any = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        super().__init__()
        facts = {"device": device, "dtype": dtype}
        if embed_dim <= 0 or num_heads <= 0:
            raise ValueError(
                f"embed_dim and num_heads must be greater than 0, got embed_dim={embed_dim} and num_heads={num_heads} "
                "instead"
            )
        if embed_dim % num_heads:
            raise AssertionError("embed_dim must be divisible by num_heads")
        self.embed_dim, self.num_heads, self.head_dim = embed_dim, num_heads, embed_dim // num_heads
        self.kdim, self.vdim = embed_dim if kdim is None else kdim, embed_dim if vdim is None else vdim
        self._qkv_same_embed_dim = self.kdim == embed_dim and self.vdim == embed_dim
        self.dropout, self.batch_first, self.add_zero_attn = dropout, batch_first, add_zero_attn
        of_each = not self._qkv_same_embed_dim
        self.register_parameter("in_proj_weight", None if of_each else parameter(3 * embed_dim, embed_dim, **facts))
        for name, size in (("q", embed_dim), ("k", self.kdim), ("v", self.vdim)):
            made = parameter(embed_dim, size, **facts) if of_each else None
            self.register_parameter(f"{name}_proj_weight", made)
        self.register_parameter("in_proj_bias", parameter(3 * embed_dim, **facts) if bias else None)
        self.out_proj = NonDynamicallyQuantizableLinear(embed_dim, embed_dim, bias, **facts)
        for name in ("bias_k", "bias_v"):
            self.register_parameter(name, parameter(1, 1, embed_dim, **facts) if add_bias_kv else None)
        self._reset_parameters()

    def _reset_parameters(self) -> None:
        for name in ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight"):
            if (t := getattr(self, name)) is not None:
                init.xavier_uniform_(t)
        if self.in_proj_bias is not None:
            init.zeros_(self.in_proj_bias)
            init.zeros_(self.out_proj.bias)
        for t in (self.bias_k, self.bias_v):
            if t is not None:
                init.xavier_normal_(t)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, key_padding_mask: Tensor | None = None,
        need_weights: bool = True, attn_mask: Tensor | None = None, average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:  # fmt: skip
        """(output, weights or None)."""
        swaps = self.batch_first and query.ndim == 3
        if swaps:
            query, key, value = (t.transpose(0, 1) for t in (query, key, value))
        output, weights = F.multi_head_attention_forward(
            query, key, value, self.embed_dim, self.num_heads, self.in_proj_weight, self.in_proj_bias, self.bias_k,
            self.bias_v, self.add_zero_attn, self.dropout, self.out_proj.weight, self.out_proj.bias,
            training=self.training, key_padding_mask=key_padding_mask, need_weights=need_weights, attn_mask=attn_mask,
            use_separate_proj_weight=not self._qkv_same_embed_dim, q_proj_weight=self.q_proj_weight,
            k_proj_weight=self.k_proj_weight, v_proj_weight=self.v_proj_weight,
            average_attn_weights=average_attn_weights, is_causal=is_causal,
        )  # fmt: skip
        return output.transpose(0, 1) if swaps else output, weights


def _activation(given: Any) -> Callable[[Tensor], Tensor]:
    if callable(given):
        return given
    if given not in ("relu", "gelu"):
        raise RuntimeError(f"activation should be relu/gelu, not {given}")
    return getattr(F, given)


class _Layer(Module):
    """What layers of encoders and decoders share: attention and a network, each with a norm and a way around it."""

    n_attentions = 1

    def __init__(
        self, d_model: int, nhead: int, dim_feedforward: int = 2048, dropout: float = 0.1, activation: Any = "relu",
        layer_norm_eps: float = 1e-5, batch_first: bool = False, norm_first: bool = False, bias: bool = True,
        device: Any = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        super().__init__()
        facts = {"device": device, "dtype": dtype}
        for name in ("self_attn", "multihead_attn")[: self.n_attentions]:
            attention = MultiheadAttention(d_model, nhead, dropout, bias, batch_first=batch_first, **facts)
            self.register_module(name, attention)
        self.linear1 = Linear(d_model, dim_feedforward, bias, **facts)
        self.dropout = _Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias, **facts)
        self.norm_first, self.activation = norm_first, _activation(activation)
        for k in range(1, self.n_attentions + 2):
            self.register_module(f"norm{k}", LayerNorm(d_model, layer_norm_eps, bias=bias, **facts))
        for k in range(1, self.n_attentions + 2):
            self.register_module(f"dropout{k}", _Dropout(dropout))

    def _around(self, x: Tensor, k: int, block: Callable[[Tensor], Tensor]) -> Tensor:
        """The sum of x and what block `k` makes of it, normalised before or behind."""
        norm, dropout = getattr(self, f"norm{k}"), getattr(self, f"dropout{k}")
        return x + dropout(block(norm(x))) if self.norm_first else norm(x + dropout(block(x)))

    def _network(self, x: Tensor) -> Tensor:
        return self.linear2(self.dropout(self.activation(self.linear1(x))))


class TransformerEncoderLayer(_Layer):
    """Attention of a sequence to itself, and a network.

    >>> import tapegrad as tg
    >>> layer = tg.nn.TransformerEncoderLayer(8, nhead=2, dim_feedforward=16, batch_first=True)
    >>> layer(tg.ones(3, 5, 8)).shape
    tapegrad.Size([3, 5, 8])
    """

    def forward(
        self, src: Tensor, src_mask: Tensor | None = None, src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:  # fmt: skip
        """See `Module`."""

        def attends(x: Tensor) -> Tensor:
            return self.self_attn(
                x, x, x, attn_mask=src_mask, key_padding_mask=src_key_padding_mask, need_weights=False,
                is_causal=is_causal,
            )[0]  # fmt: skip

        return self._around(self._around(src, 1, attends), 2, self._network)


class TransformerDecoderLayer(_Layer):
    """Attention of a sequence to itself, to what an encoder gave, and a network.

    >>> import tapegrad as tg
    >>> layer = tg.nn.TransformerDecoderLayer(8, nhead=2, dim_feedforward=16, batch_first=True)
    >>> layer(tg.ones(3, 5, 8), memory=tg.ones(3, 7, 8)).shape
    tapegrad.Size([3, 5, 8])
    """

    n_attentions = 2

    def forward(
        self, tgt: Tensor, memory: Tensor, tgt_mask: Tensor | None = None, memory_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None, memory_key_padding_mask: Tensor | None = None,
        tgt_is_causal: bool = False, memory_is_causal: bool = False,
    ) -> Tensor:  # fmt: skip
        """See `Module`."""

        def attends(x: Tensor) -> Tensor:
            return self.self_attn(
                x, x, x, attn_mask=tgt_mask, key_padding_mask=tgt_key_padding_mask, need_weights=False,
                is_causal=tgt_is_causal,
            )[0]  # fmt: skip

        def looks_back(x: Tensor) -> Tensor:
            return self.multihead_attn(
                x, memory, memory, attn_mask=memory_mask, key_padding_mask=memory_key_padding_mask,
                need_weights=False, is_causal=memory_is_causal,
            )[0]  # fmt: skip

        return self._around(self._around(self._around(tgt, 1, attends), 2, looks_back), 3, self._network)


class _Stack(Module):
    def __init__(self, layer: Module, num_layers: int, norm: Module | None = None, **facts: Any) -> None:
        del facts  # how PyTorch goes about padding
        super().__init__()
        self.layers = ModuleList([copy.deepcopy(layer) for _ in range(num_layers)])
        self.num_layers, self.norm = num_layers, norm


class TransformerEncoder(_Stack):
    """Copies of a layer, one after the other.

    >>> import tapegrad as tg
    >>> layer = tg.nn.TransformerEncoderLayer(8, nhead=2, dim_feedforward=16, batch_first=True)
    >>> encoder = tg.nn.TransformerEncoder(layer, num_layers=3)
    >>> encoder(tg.ones(3, 5, 8)).shape, len(encoder.layers)
    (tapegrad.Size([3, 5, 8]), 3)
    """

    def __init__(
        self, encoder_layer: Module, num_layers: int, norm: Module | None = None, enable_nested_tensor: bool = True,
        mask_check: bool = True,
    ) -> None:  # fmt: skip
        del enable_nested_tensor, mask_check
        super().__init__(encoder_layer, num_layers, norm)

    def forward(
        self, src: Tensor, mask: Tensor | None = None, src_key_padding_mask: Tensor | None = None,
        is_causal: bool | None = None,
    ) -> Tensor:  # fmt: skip
        """See `Module`."""
        for layer in self.layers:
            src = layer(src, src_mask=mask, src_key_padding_mask=src_key_padding_mask, is_causal=bool(is_causal))
        return src if self.norm is None else self.norm(src)


class TransformerDecoder(_Stack):
    """Copies of a layer, one after the other.

    >>> import tapegrad as tg
    >>> layer = tg.nn.TransformerDecoderLayer(8, nhead=2, dim_feedforward=16, batch_first=True)
    >>> tg.nn.TransformerDecoder(layer, num_layers=3)(tg.ones(3, 5, 8), tg.ones(3, 7, 8)).shape
    tapegrad.Size([3, 5, 8])
    """

    def __init__(self, decoder_layer: Module, num_layers: int, norm: Module | None = None) -> None:
        super().__init__(decoder_layer, num_layers, norm)

    def forward(
        self, tgt: Tensor, memory: Tensor, tgt_mask: Tensor | None = None, memory_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None, memory_key_padding_mask: Tensor | None = None,
        tgt_is_causal: bool | None = None, memory_is_causal: bool = False,
    ) -> Tensor:  # fmt: skip
        """See `Module`."""
        for layer in self.layers:
            tgt = layer(
                tgt, memory, tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask,
                bool(tgt_is_causal), memory_is_causal,
            )  # fmt: skip
        return tgt if self.norm is None else self.norm(tgt)


class Transformer(Module):
    """An encoder and a decoder.

    >>> import tapegrad as tg
    >>> sizes = {"num_encoder_layers": 1, "num_decoder_layers": 1, "dim_feedforward": 16}
    >>> model = tg.nn.Transformer(8, nhead=2, batch_first=True, **sizes)
    >>> model(tg.ones(3, 5, 8), tg.ones(3, 7, 8)).shape
    tapegrad.Size([3, 7, 8])
    """

    def __init__(
        self, d_model: int = 512, nhead: int = 8, num_encoder_layers: int = 6, num_decoder_layers: int = 6,
        dim_feedforward: int = 2048, dropout: float = 0.1, activation: Any = "relu", custom_encoder: Any = None,
        custom_decoder: Any = None, layer_norm_eps: float = 1e-5, batch_first: bool = False, norm_first: bool = False,
        bias: bool = True, device: Any = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        super().__init__()
        options = (
            d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps, batch_first, norm_first, bias, device,
            dtype,
        )  # fmt: skip
        norm = LayerNorm(d_model, layer_norm_eps, bias=bias, device=device, dtype=dtype)
        self.encoder = custom_encoder or TransformerEncoder(TransformerEncoderLayer(*options), num_encoder_layers, norm)
        self.decoder = custom_decoder or TransformerDecoder(
            TransformerDecoderLayer(*options), num_decoder_layers, copy.deepcopy(norm)
        )
        self.d_model, self.nhead, self.batch_first = d_model, nhead, batch_first
        for t in self.parameters():
            if t.ndim > 1:
                init.xavier_uniform_(t)

    def forward(
        self, src: Tensor, tgt: Tensor, src_mask: Tensor | None = None, tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None, src_key_padding_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None, memory_key_padding_mask: Tensor | None = None,
        src_is_causal: bool | None = None, tgt_is_causal: bool | None = None, memory_is_causal: bool = False,
    ) -> Tensor:  # fmt: skip
        """See `Module`."""
        at = 0 if self.batch_first else 1
        if src.ndim == 3 and src.shape[at] != tgt.shape[at]:
            raise RuntimeError(
                f"the batch number of src and tgt must be equal, but they are {src.shape[at]} and {tgt.shape[at]}"
            )
        if {src.shape[-1], tgt.shape[-1]} != {self.d_model}:
            raise RuntimeError(
                f"the feature number of src and tgt must be equal to d_model, {self.d_model}, but they are "
                f"{src.shape[-1]} and {tgt.shape[-1]}"
            )
        memory = self.encoder(src, src_mask, src_key_padding_mask, src_is_causal)
        return self.decoder(
            tgt, memory, tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask, tgt_is_causal,
            memory_is_causal,
        )  # fmt: skip

    @staticmethod
    def generate_square_subsequent_mask(sz: int, device: Any = None, dtype: Any = None) -> Tensor:
        """-inf above the diagonal: what comes later is not looked at."""
        return creation.full((sz, sz), float("-inf"), device=device, dtype=dtype).triu(1)


class SDPBackend(enum.Enum):
    """Ways in which PyTorch computes attention, by its names and numbers: here there is one."""

    ERROR = -1
    MATH = 0
    FLASH_ATTENTION = 1
    EFFICIENT_ATTENTION = 2
    CUDNN_ATTENTION = 3
    OVERRIDEABLE = 4


@contextlib.contextmanager
def sdpa_kernel(backends: SDPBackend | Sequence[SDPBackend], set_priority: bool = False) -> Iterator[None]:
    """Have attention computed in some ways, within a `with` statement: results agree, and here there is one way.

    Raises
    ------
    AssertionError
        Where something is no `SDPBackend`.
    """
    del set_priority
    for backend in [backends] if isinstance(backends, SDPBackend) else backends:
        if not isinstance(backend, SDPBackend):
            raise AssertionError("Backend must be an instance of SDPBackend or a list of SDPBackend instances")
    yield


__all__ = [
    "MultiheadAttention", "Transformer", "TransformerDecoder", "TransformerDecoderLayer", "TransformerEncoder",
    "TransformerEncoderLayer",
]  # fmt: skip
