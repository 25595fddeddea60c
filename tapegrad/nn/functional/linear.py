"""Linear maps, embeddings, attention."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tapegrad.arguments import node
from tapegrad.autograd.modes import no_grad
from tapegrad.batched import Batched, NeedsSamplesError, elements
from tapegrad.creation import arange
from tapegrad.dtypes import BOOL, INT32, INT64
from tapegrad.functions.indexing import index_select
from tapegrad.functions.products import matmul, mm
from tapegrad.functions.reductions import norm
from tapegrad.functions.shaping import cat, contiguous
from tapegrad.nn.functional.common import at, public, reductions, where
from tapegrad.nn.functional.dropout import dropout
from tapegrad.nn.functional.mapping import along, matrix_of_rows
from tapegrad.ops import attention, windows
from tapegrad.recording import record_array
from tapegrad.tensor import Tensor, from_array, location

# --- linear maps ------------------------------------------------------------------------------------------------------


@public
def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Input weight' + bias.

    `input` is [.., in], `weight` [out, in] (or [in], for a result without the last dimension), `bias` [out].

    Raises
    ------
    RuntimeError
        Where lengths or dtypes differ.

    >>> import tapegrad as tg
    >>> tg.nn.functional.linear(tg.ones(2), tg.ones(3, 2), tg.tensor([0.0, 1.0, 2.0]))
    tensor([2., 3., 4.])
    """
    if weight.ndim > 2 or not weight.ndim or not input.ndim:
        raise RuntimeError(
            f"linear(): expected an input of at least 1 dimension and a weight of 1 or 2: {at(input, weight)}"
        )
    if weight.ndim == 1:
        result = matmul(input, weight)
    elif input.ndim == 1:
        result = matmul(input, weight.mT)
    else:
        rows = input if input.ndim == 2 else input.reshape(math.prod(input.shape[:-1]), input.shape[-1])
        result = mm(rows, weight.mT)
        if input.ndim > 2:
            result = result.reshape(*input.shape[:-1], weight.shape[0])
    if bias is None:
        return result
    result = result + bias
    if result.__class__ is Tensor:
        result._called = "AddmmBackward0" if input.ndim == 2 else "ViewBackward0"
    return result


@public
def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The forms x' A y + b for each matrix A of `weight`, [out, in1, in2]; inputs are [.., in1] and [.., in2].

    >>> import tapegrad as tg
    >>> tg.nn.functional.bilinear(tg.tensor([1.0, 2.0]), tg.tensor([3.0, 4.0]), tg.eye(2).unsqueeze(0))  # 1 * 3 + 2 * 4
    tensor([11.])
    """
    if input1.ndim != input2.ndim:
        raise RuntimeError(
            f"bilinear(): input dimensions do not match: got {input1.ndim} and {input2.ndim}: {at(input1, input2)}"
        )
    if weight.ndim != 3:
        raise RuntimeError(f"bilinear(): expected a weight of 3 dimensions: {at(weight)}")
    for d in range(input1.ndim - 1):
        if input1.shape[d] != input2.shape[d]:
            raise RuntimeError(
                f"bilinear(): input batch dimensions do not match at dim {d}: got {input1.shape[d]} and "
                f"{input2.shape[d]}: {at(input1, input2)}"
            )
    for place, x in ((1, input1), (2, input2)):
        if x.shape[-1] != weight.shape[place]:
            raise RuntimeError(
                f"bilinear(): input{place} size does not match weight size: got {x.shape[-1]} but expected "
                f"{weight.shape[place]}: {at(input1, input2, weight)}"
            )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise RuntimeError(
            f"bilinear(): bias size does not match weight size: got {list(bias.shape)} but expected "
            f"{weight.shape[0]}: {at(weight, bias)}"
        )
    head, (n_out, n1, n2) = input1.shape[:-1], weight.shape
    n = math.prod(head)
    half = mm(input1.reshape(n, n1), weight.permute(1, 0, 2).reshape(n1, n_out * n2)).reshape(n, n_out, n2)
    result: Tensor = matmul(half, input2.reshape(n, n2, 1)).reshape(*head, n_out)
    return result if bias is None else result + bias


# --- embeddings -------------------------------------------------------------------------------------------------------


def _rows(weight: Tensor, numbers: np.ndarray) -> Tensor:
    """Rows of a matrix by their numbers, a vector."""
    where_, inner = from_array(np.ascontiguousarray(numbers, np.int64)), weight.shape[1]
    return record_array(
        windows.rows_taken, (numbers.size, inner), weight.dtype, contiguous(weight), where_, params=(inner,)
    )


def _record_rows(op: Any) -> Any:
    def record(x: Tensor, where_: Tensor, p: tuple[int, ...], shape: tuple[int, ...]) -> Tensor:
        return record_array(op, tuple(shape), x.dtype, contiguous(x), where_, params=p)

    return record


windows.rows_taken.record = _record_rows(windows.rows_taken)
windows.rows_added.record = _record_rows(windows.rows_added)


def _numbers(name: str, input: Tensor, weight: Tensor) -> np.ndarray:
    """The numbers of rows, which are checked."""
    if input.dtype not in (INT64, INT32):
        raise RuntimeError(
            f"Expected tensor for argument #1 'indices' to have one of the following scalar types: Long, Int; but got "
            f"{input.dtype} instead ({name}: {at(input, weight)})"
        )
    numbers = input._array().reshape(-1)
    wrong = (numbers < 0) | (numbers >= weight.shape[0])
    if wrong.any():
        raise IndexError(
            f"index out of range in self: {numbers[wrong][0]} of {weight.shape[0]} rows, {name}: {at(input, weight)}"
        )
    return np.array(numbers, np.int64)


def _shorten_rows(weight: Tensor, numbers: np.ndarray, max_norm: float, norm_type: float) -> None:
    """Rows in use that are too long are shortened in place."""
    with no_grad():
        used = np.unique(numbers)
        rows = weight.detach()[used]
        lengths = norm(rows, norm_type, 1, True)
        weight[used] = rows * where(lengths > max_norm, max_norm / (lengths + 1e-7), 1.0)


def _by_frequency(rows: Tensor, numbers: np.ndarray) -> Tensor:
    """Rows whose adjoints are divided by how often they occur."""
    _, inverse, counts = np.unique(numbers, return_inverse=True, return_counts=True)
    factor = from_array((1 / counts[inverse]).astype(rows.dtype.numpy).reshape(-1, 1))
    return rows.detach() + (rows - rows.detach()) * factor


def _padded(rows: Tensor, is_padding: np.ndarray) -> Tensor:
    """Rows, of which some get no adjoint."""
    if not is_padding.any():
        return rows
    result: Tensor = where(from_array(np.ascontiguousarray(is_padding).reshape(-1, 1)), rows.detach(), rows)
    return result


@public
@node("EmbeddingBackward0")
def embedding(
    input: Tensor, weight: Tensor, padding_idx: int | None = None, max_norm: float | None = None,
    norm_type: float = 2.0, scale_grad_by_freq: bool = False, sparse: bool = False,
) -> Tensor:  # fmt: skip
    """The rows of a matrix [n, k] whose numbers `input` holds, [..]: [.., k].

    Parameters
    ----------
    padding_idx
        A row that gets no gradient.
    max_norm, norm_type
        Rows in use that are longer are shortened first, in place.
    scale_grad_by_freq
        Whether the gradient of a row is divided by how often `input` has it.
    sparse
        Has no meaning here: gradients are dense.

    Raises
    ------
    IndexError
        Where a number is out of range.

    >>> import tapegrad as tg
    >>> tg.nn.functional.embedding(tg.tensor([1, 0]), tg.tensor([[1.0, 2.0], [3.0, 4.0]]))
    tensor([[3., 4.],
            [1., 2.]])
    """
    if weight.ndim != 2:
        raise RuntimeError(f"'weight' must be 2-D: {at(input, weight)}")
    if padding_idx is not None:
        if not -weight.shape[0] <= padding_idx < weight.shape[0]:
            raise AssertionError(f"Padding_idx must be within num_embeddings: {padding_idx}, {at(weight)}")
        padding_idx %= weight.shape[0]
    if input.__class__ is Batched and max_norm is None and not scale_grad_by_freq:
        taken = index_select(weight, 0, input.reshape(-1))
        if padding_idx is not None:
            taken = where((input == padding_idx).reshape(-1, 1), taken.detach(), taken)
        return taken.reshape(*input.shape, weight.shape[1])
    numbers = _numbers("embedding", input, weight)
    if max_norm is not None:
        _shorten_rows(weight, numbers, max_norm, norm_type)
    rows = _rows(weight, numbers)
    if weight.requires_grad:
        if scale_grad_by_freq:
            rows = _by_frequency(rows, numbers)
        if padding_idx is not None:
            rows = _padded(rows, numbers == padding_idx)
    return rows.reshape(*input.shape, weight.shape[1])


@public
def embedding_bag(
    input: Tensor, weight: Tensor, offsets: Tensor | None = None, max_norm: float | None = None, norm_type: float = 2,
    scale_grad_by_freq: bool = False, mode: str = "mean", sparse: bool = False,
    per_sample_weights: Tensor | None = None, include_last_offset: bool = False, padding_idx: int | None = None,
) -> Tensor:  # fmt: skip
    """Sums, means or largest elements of bags of rows: `embedding`, reduced, with no row stored.

    Parameters
    ----------
    input
        Numbers of rows: [bags, n], or a vector that `offsets` divides into bags.
    mode
        "sum", "mean" or "max".
    per_sample_weights
        Factors of the rows, in the shape of `input`, for "sum".
    include_last_offset
        Whether the last offset is the end of the last bag.
    padding_idx
        A row that counts for nothing.

    >>> import tapegrad as tg
    >>> tg.nn.functional.embedding_bag(tg.tensor([[0, 1]]), tg.tensor([[1.0, 2.0], [3.0, 4.0]]))
    tensor([[2., 3.]])
    """
    if per_sample_weights is not None and per_sample_weights.shape != input.shape:
        raise ValueError(
            f"embedding_bag: If per_sample_weights ({per_sample_weights.shape}) is not None, then it must have the "
            f"same shape as the input ({input.shape})"
        )
    if weight.ndim != 2:
        raise ValueError(f"weight has to be a 2D Tensor, but got Tensor of dimension {weight.ndim}")
    if input.ndim == 2:
        if offsets is not None:
            raise ValueError(
                "if input is 2D, then offsets has to be None, as input is treated is a mini-batch of fixed length "
                f"sequences. However, found offsets of type {type(offsets)}"
            )
        starts = np.arange(input.shape[0]) * input.shape[1]
        include_last_offset = False
    elif input.ndim == 1:
        if offsets is None:
            raise ValueError("offsets has to be a 1D Tensor but got None")
        if offsets.ndim != 1:
            raise ValueError("offsets has to be a 1D Tensor")
        starts = np.array(offsets._array(), np.int64)
    else:
        raise ValueError(f"input has to be 1D or 2D Tensor, but got Tensor of dimension {input.ndim}")
    if mode not in ("sum", "mean", "max"):
        raise ValueError(f"mode has to be one of sum, mean or max, not {mode!r}")
    if mode == "max" and scale_grad_by_freq:
        raise ValueError("max mode does not support scaling the gradient by the frequency")
    if mode == "max" and sparse:
        raise ValueError("max mode does not support sparse weights")
    if per_sample_weights is not None and mode != "sum":
        raise NotImplementedError(
            "embedding_bag: per_sample_weights was not None. per_sample_weights is only supported for mode='sum' "
            f"(got mode='{mode}')."
        )
    numbers = _numbers("embedding_bag", input, weight)
    n = numbers.size
    if include_last_offset:
        if not starts.size:
            raise RuntimeError("include_last_offset: numBags should be at least 1")
        starts, end = starts[:-1], int(starts[-1])
    else:
        end = n
    if not starts.size and per_sample_weights is not None:
        raise RuntimeError(f"embedding_bag: offsets are empty, but per_sample_weights are not: {at(input, weight)}")
    if starts.size and starts[0] != 0:
        raise RuntimeError(
            f"offsets[0] has to be 0, i.e., the first sequence in the mini-batch has to start from "
            f"position 0. However, got {starts[0]}"
        )
    if starts.size and starts[-1] > n:
        raise RuntimeError(
            f"offsets[-1] can not be greater than input's length ({n}) but got offsets[-1] of {starts[-1]}"
        )
    if max_norm is not None:
        _shorten_rows(weight, numbers, max_norm, norm_type)
    bags = [np.arange(first, last) for first, last in zip(starts, [*starts[1:], end], strict=False)]
    if padding_idx is not None:
        padding_idx += weight.shape[0] if padding_idx < 0 else 0
        bags = [bag[numbers[bag] != padding_idx] for bag in bags]
    rows = _rows(weight, numbers)
    if scale_grad_by_freq and weight.requires_grad:
        rows = _by_frequency(rows, numbers)
    if per_sample_weights is not None:
        rows = rows * per_sample_weights.reshape(-1, 1)
    if mode == "max":
        values = rows.detach()._array()
        best = [bag[values[bag].argmax(0)] if bag.size else np.zeros(weight.shape[1], np.int64) for bag in bags]
        places = np.stack(best) if best else np.zeros((0, weight.shape[1]), np.int64)
        largest = rows[places, np.arange(weight.shape[1])]
        empty = np.array([not bag.size for bag in bags], bool).reshape(-1, 1)
        return where(from_array(empty), 0.0, largest) if empty.any() else largest
    factors = [np.full(bag.size, 1 / max(bag.size, 1) if mode == "mean" else 1.0) for bag in bags]
    return along(rows, 0, matrix_of_rows(bags, factors, n))


@public
def one_hot(input: Tensor, num_classes: int = -1) -> Tensor:
    """Ones where the last, new, dimension has the number in `input`, else zeros; int64.

    >>> import tapegrad as tg
    >>> tg.nn.functional.one_hot(tg.tensor([0, 2]))
    tensor([[1, 0, 0],
            [0, 0, 1]])
    """
    if input.dtype is not INT64:
        raise RuntimeError(f"one_hot is only applicable to index tensor of type LongTensor, not {at(input)}")
    numbers = elements(input)
    if not numbers.size and input.__class__ is not Batched:
        if num_classes <= 0:
            raise RuntimeError(f"Can not infer total number of classes from empty tensor: {at(input)}")
        return from_array(np.zeros((*numbers.shape, num_classes), np.int64))
    if numbers.size and numbers.min() < 0:
        raise RuntimeError(f"Class values must be non-negative: {at(input)}")
    if num_classes == -1 and isinstance(input, Batched):
        raise NeedsSamplesError(
            f"vmap: one_hot() without num_classes makes a shape that depends on values: give it, {at(input)}",
            input.level,
        )
    if num_classes == -1:
        num_classes = int(numbers.max()) + 1
    elif num_classes < 1:
        raise RuntimeError(f"num_classes should be positive: {num_classes}")
    elif numbers.size and numbers.max() >= num_classes:
        raise RuntimeError(f"Class values must be smaller than num_classes: {at(input)}")
    if input.__class__ is Batched:
        return (input.unsqueeze(-1) == arange(num_classes)).to(INT64)
    return from_array((np.asarray(numbers)[..., None] == np.arange(num_classes)).astype(np.int64))


# --- attention --------------------------------------------------------------------------------------------------------


@public
def scaled_dot_product_attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
    is_causal: bool = False, *, scale: float | None = None, enable_gqa: bool = False,
) -> Tensor:  # fmt: skip
    """softmax(scale query key' + mask) value.

    Parameters
    ----------
    query
        [.., L, E]; the result is [.., L, V].
    key
        [.., S, E].
    value
        [.., S, V].
    attn_mask
        Bools, True where attention may be paid; or numbers that are added. Broadcast to [.., L, S].
    dropout_p
        The share of weights that are dropped.
    is_causal
        Whether attention is paid to no later place.
    scale
        E ** -0.5 where it is None.
    enable_gqa
        Whether heads (dimension -3) of `key` and `value` are repeated to those of `query`.

    Raises
    ------
    RuntimeError
        Where shapes or dtypes don't fit.

    >>> import tapegrad as tg
    >>> query, key, value = tg.zeros(1, 4), tg.ones(2, 4), tg.tensor([[1.0], [3.0]])
    >>> tg.nn.functional.scaled_dot_product_attention(query, key, value)
    tensor([[2.]])
    """
    if attn_mask is not None and is_causal:
        raise RuntimeError("_scaled_dot_product_attention: Explicit attn_mask should not be set when is_causal=True")
    if query.dtype is not key.dtype or query.dtype is not value.dtype:
        raise RuntimeError(
            f"Expected query, key, and value to have the same dtype, but got query.dtype: {query.dtype} key.dtype: "
            f"{key.dtype} and value.dtype: {value.dtype} instead."
        )
    if min(query.ndim, key.ndim, value.ndim) < 2:
        raise RuntimeError(
            f"Expected query, key, and value to all be at least 2 dimensional, but got query.dim(): {query.ndim}, "
            f"key.dim(): {key.ndim} and value.dim(): {value.ndim} instead."
        )
    if attn_mask is not None and attn_mask.dtype not in (BOOL, query.dtype):
        raise RuntimeError(
            f"Expected attn_mask dtype to be bool or float or to match query dtype, but got attn_mask.dtype: "
            f"{attn_mask.dtype} and query.dtype: {query.dtype} instead."
        )
    if enable_gqa:
        key, value = (_repeated_heads(x, query.shape[-3]) for x in (key, value))
    length = query.shape[-1]
    factor = (1 / math.sqrt(length) if length else math.inf) if scale is None else scale
    if not dropout_p and factor and math.isfinite(factor):
        attended = _attended(query, key, value, attn_mask, is_causal, factor)
        if attended is not None:
            return attended
    scores = matmul(query, key.mT) * factor
    if is_causal:
        allowed = np.tril(np.ones(scores.shape[-2:], bool))
        attn_mask = from_array(allowed)
    if attn_mask is None:
        weights = reductions["softmax"](scores, -1)
    else:
        scores = where(attn_mask, scores, -math.inf) if attn_mask.dtype is BOOL else scores + attn_mask
        weights = reductions["softmax"](scores, -1)
        if not is_causal:  # where nothing may be looked at nothing is seen
            nothing = reductions["amax"](scores.detach(), -1, True) == -math.inf if scores.shape[-1] else None
            weights = weights if nothing is None else where(nothing, 0.0, weights)
    if dropout_p:
        weights = dropout(weights, dropout_p)
    result: Tensor = matmul(weights, value)
    return result


def _attended(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, is_causal: bool, factor: float
) -> Tensor | None:
    """Attention by one operation; None where that is not for such operands, which other functions may refuse."""
    (*_, n, e), (*_, m, inner), (*_, of_values, v) = query.shape, key.shape, value.shape
    fits = e == inner and m == of_values and query.dtype.is_floating_point and n * m * e * v > 0
    if not fits or (mask is not None and mask.requires_grad):
        return None
    given = [query, key, value]
    if mask is not None:
        mask = where(mask, 0.0, -math.inf).to(query.dtype) if mask.dtype is BOOL else mask
        mask = mask[(None,) * (2 - mask.ndim)]
        if mask.shape[-2] not in (1, n) or mask.shape[-1] not in (1, m):
            return None
        mask = contiguous(mask.expand(*mask.shape[:-1], m))
        given.append(mask)
    try:
        batch = np.broadcast_shapes(*(t.shape[:-2] for t in given))
    except ValueError:
        return None
    heads = math.prod(batch)
    if not heads:
        return None
    pieces = [t if t.shape[:-2] == batch else t.expand(*batch, *t.shape[-2:]) for t in given[:3]]
    joined = cat(pieces, -2).flatten(-2) if e == v else cat([t.flatten(-2) for t in pieces], -1)
    sizes = heads, n, m, e, v
    if mask is None:
        params = attention.parameters(sizes, factor, is_causal, (), ())
        return record_array(attention.attend, (*batch, n, v), query.dtype, joined, params=params)
    own = (1,) * (len(batch) + 2 - mask.ndim) + mask.shape
    strides = [0 if own[d] == 1 else math.prod(own[d + 1 :]) for d in range(len(own) - 1)]
    params = attention.parameters(sizes, factor, is_causal, (*batch, n), strides)
    return record_array(attention.attend_masked, (*batch, n, v), query.dtype, joined, mask, params=params)


def _repeated_heads(x: Tensor, n: int) -> Tensor:
    *batch, own, length, size = x.shape
    if own == 0 or n % own:
        raise RuntimeError(f"Number of heads in key and value must divide the number of heads in query: {own}, {n}")
    return x.unsqueeze(-3).expand(*batch, own, n // own, length, size).reshape(*batch, n, length, size)


def _mask(name: str, mask: Tensor | None, dtype: object) -> Tensor | None:
    """A mask of attention as numbers that are added."""
    if mask is None:
        return None
    if mask.dtype is BOOL:
        added: Tensor = where(mask, -math.inf, 0.0).to(dtype)
        return added
    if not mask.dtype.is_floating_point:
        raise AssertionError(f"only bool and floating types of {name} are supported")
    return mask


def _check_heads(
    query: Tensor, key: Tensor, value: Tensor, key_padding_mask: Tensor | None, attn_mask: Tensor | None, n_heads: int
) -> bool:
    """Whether there is a batch dimension."""
    if query.ndim not in (2, 3):
        raise AssertionError(
            f"query should be unbatched 2D or batched 3D tensor but received {query.ndim}-D query tensor"
        )
    if key.ndim != query.ndim or value.ndim != query.ndim:
        raise AssertionError(
            f"For {'batched' if query.ndim == 3 else 'unbatched'} ({query.ndim}-D) `query`, expected `key` and `value` "
            f"to be {query.ndim}-D but found {key.ndim}-D and {value.ndim}-D tensors respectively"
        )
    if key_padding_mask is not None and key_padding_mask.ndim != query.ndim - 1:
        raise AssertionError(
            f"expected `key_padding_mask` to be None or {query.ndim - 1}-D but found {key_padding_mask.ndim}-D tensor"
        )
    if attn_mask is not None and attn_mask.ndim not in (2, 3):
        raise AssertionError(f"expected `attn_mask` to be None, 2-D or 3-D but found {attn_mask.ndim}-D tensor instead")
    if query.ndim == 2 and attn_mask is not None and attn_mask.ndim == 3:
        wanted = (n_heads, query.shape[0], key.shape[0])
        if attn_mask.shape != wanted:
            raise AssertionError(f"Expected `attn_mask` shape to be {wanted} but got {attn_mask.shape}")
    return query.ndim == 3


def _projected(
    query: Tensor, key: Tensor, value: Tensor, weights: tuple[Tensor | None, ...], packed: Tensor | None,
    bias: Tensor | None, separate: bool,
) -> list[Tensor]:  # fmt: skip
    """Queries, keys and values by their weights, which may be one tensor."""
    size = query.shape[-1]
    if separate:
        for name, weight in zip("qkv", weights, strict=True):
            if weight is None:
                raise AssertionError(f"use_separate_proj_weight is True but {name}_proj_weight is None")
        parts: list[Tensor] = list(weights)  # type: ignore[arg-type]
    else:
        if packed is None:
            raise AssertionError("use_separate_proj_weight is False but in_proj_weight is None")
        parts = [packed[i * size : (i + 1) * size] for i in range(3)]
    if not separate and query is key and key is value:
        together = linear(query, packed, bias)
        return [together[..., i * size : (i + 1) * size] for i in range(3)]
    biases = [None] * 3 if bias is None else [bias[i * size : (i + 1) * size] for i in range(3)]
    return [linear(x, w, b) for x, w, b in zip((query, key, value), parts, biases, strict=True)]


@public
def multi_head_attention_forward(
    query: Tensor, key: Tensor, value: Tensor, embed_dim_to_check: int, num_heads: int,
    in_proj_weight: Tensor | None, in_proj_bias: Tensor | None, bias_k: Tensor | None, bias_v: Tensor | None,
    add_zero_attn: bool, dropout_p: float, out_proj_weight: Tensor, out_proj_bias: Tensor | None,
    training: bool = True, key_padding_mask: Tensor | None = None, need_weights: bool = True,
    attn_mask: Tensor | None = None, use_separate_proj_weight: bool = False, q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None, v_proj_weight: Tensor | None = None, static_k: Tensor | None = None,
    static_v: Tensor | None = None, average_attn_weights: bool = True, is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """Attention of several heads, with projections: what `torch.nn.MultiheadAttention` computes.

    `query` is [L, N, E], `key` and `value` are [S, N, E], or all without N. Masks are bools, True where no attention
    is paid, or numbers that are added: `attn_mask` [L, S] or [N heads, L, S], `key_padding_mask` [N, S].

    Returns
    -------
    tuple
        The output, [L, N, E], and the weights, [N, L, S], or None without `need_weights`; with heads apart,
        [N, heads, L, S], where they are not averaged.
    """
    is_batched = _check_heads(query, key, value, key_padding_mask, attn_mask, num_heads)
    if not is_batched:
        is_same = query is key, key is value
        query = query.unsqueeze(1)
        key = query if is_same[0] else key.unsqueeze(1)
        value = key if is_same[1] else value.unsqueeze(1)
        key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
    n_targets, n, size = query.shape
    n_heads, n_sources = num_heads, key.shape[0]
    if is_causal and attn_mask is None:
        raise RuntimeError("Need attn_mask if specifying the is_causal hint.")
    if size != embed_dim_to_check:
        raise AssertionError(f"was expecting embedding dimension of {embed_dim_to_check}, but got {size}")
    if n_heads <= 0:
        raise AssertionError(f"num_heads must be greater than 0, but got {n_heads}")
    of_head = size // n_heads
    if of_head * n_heads != size:
        raise AssertionError(f"embed_dim {size} not divisible by num_heads {n_heads}")
    if use_separate_proj_weight:
        if key.shape[:2] != value.shape[:2]:
            raise AssertionError(
                f"key's sequence and batch dims {key.shape[:2]} do not match value's {value.shape[:2]}"
            )
    elif key.shape != value.shape:
        raise AssertionError(f"key shape {key.shape} does not match value shape {value.shape}")
    apart = (q_proj_weight, k_proj_weight, v_proj_weight)
    q, k, v = _projected(query, key, value, apart, in_proj_weight, in_proj_bias, use_separate_proj_weight)
    added = _mask("attn_mask", attn_mask, query.dtype)
    of_keys = _mask("key_padding_mask", key_padding_mask, query.dtype)
    if added is not None:
        wanted = (n_targets, n_sources) if added.ndim == 2 else (n * n_heads, n_targets, n_sources)
        if added.shape != wanted:
            raise RuntimeError(f"The shape of the {added.ndim}D attn_mask is {added.shape}, but should be {wanted}.")
        added = added.unsqueeze(0) if added.ndim == 2 else added
    if (bias_k is None) != (bias_v is None):
        raise AssertionError("bias_k and bias_v are both set, or neither")
    more: list[tuple[Tensor, Tensor]] = []
    if bias_k is not None and bias_v is not None:
        if static_k is not None or static_v is not None:
            raise AssertionError("bias cannot be added to static key or value.")
        k, v = cat([k, bias_k.repeat(1, n, 1)]), cat([v, bias_v.repeat(1, n, 1)])
        more.append((k, v))
    q = _by_heads(q, n * n_heads, of_head)
    k = _static("static_k", static_k, k, n * n_heads, of_head)
    v = _static("static_v", static_v, v, n * n_heads, of_head)
    n_added = len(more)
    if add_zero_attn:
        nothing = k.new_zeros((n * n_heads, 1, of_head))
        k, v = cat([k, nothing], 1), cat([v, nothing], 1)
        n_added += 1
    n_sources = k.shape[1]
    if n_added:
        added, of_keys = (
            None if m is None else cat([m, m.new_zeros((*m.shape[:-1], n_added))], -1) for m in (added, of_keys)
        )
    if of_keys is not None:
        for i, length in enumerate((n, n_sources)):
            if of_keys.shape[i] != length:
                raise AssertionError(
                    f"Expected key_padding_mask.shape[{i}] to be {length}, but got {of_keys.shape[i]}: at {location()}"
                )
        of_all = of_keys.reshape(n, 1, 1, n_sources).expand(n, n_heads, 1, n_sources)
        of_all = of_all.reshape(n * n_heads, 1, n_sources)
        added = of_all if added is None else added + of_all
    share = dropout_p if training else 0.0
    if not need_weights:
        output = scaled_dot_product_attention(q, k, v, added, share)
        weights = None
    else:
        scores = matmul(q * (1 / math.sqrt(of_head)), k.mT)
        weights = reductions["softmax"](scores if added is None else scores + added, -1)
        weights = dropout(weights, share) if share else weights
        output = matmul(weights, v)
    output = linear(output.transpose(0, 1).reshape(n_targets * n, size), out_proj_weight, out_proj_bias)
    output = output.reshape(n_targets, n, output.shape[1])
    if weights is not None:
        weights = weights.reshape(n, n_heads, n_targets, n_sources)
        weights = weights.mean(1) if average_attn_weights else weights
    if not is_batched:
        return output.squeeze(1), None if weights is None else weights.squeeze(0)
    return output, weights


def _by_heads(x: Tensor, n: int, size: int) -> Tensor:
    """[steps, N, E] as [N heads, steps, E / heads]."""
    return x.reshape(x.shape[0], n, size).transpose(0, 1)


def _static(name: str, x: Tensor | None, projected: Tensor, n: int, size: int) -> Tensor:
    """What is given by heads, or the projected in its place."""
    if x is None:
        return _by_heads(projected, n, size)
    if x.ndim != 3 or x.shape[0] != n or x.shape[2] != size:
        raise AssertionError(f"expecting {name} of [{n}, .., {size}], but got {list(x.shape)}")
    return x


__all__ = [
    "bilinear", "embedding", "embedding_bag", "linear", "multi_head_attention_forward", "one_hot",
    "scaled_dot_product_attention",
]  # fmt: skip
