"""Attention: y = softmax(scale q k' + mask) v, by tiles of queries, so that weights never leave the cache.

What is attended is one operand, so that one reverse kernel, which computes the weights of a tile again, gives the
adjoints of all three: heads one after another, and of each

    q [queries, E]    k [keys, E]    v [keys, V]

With P the weights of a tile and D what their adjoints are (Dao, *FlashAttention*, 2022, algorithm 4):

    D = P (y_bar v' - the sum of y y_bar)    q_bar = scale D k    k_bar = scale D' q    v_bar = P' y_bar

Products are so small that BLAS does not share them out; heads are shared out instead, forward in parts
if there are few.
It is quickest where no row of one factor meets a row of the other: k and v are turned first. Parameters `p`:

    (heads, queries, keys, E, V, scale, whether causal, queries of a tile, keys of a product, elements of memory, units,
     dimensions of the mask before its last, their lengths as of y, and the strides)

The scale is a float64's bits. A causal head pays attention to no later place, and computes nothing of these.
"""

from collections.abc import Sequence

import numpy as np

from tapegrad import vectormath
from tapegrad.memory import f8, larger, plus
from tapegrad.ops.arithmetic import _times
from tapegrad.ops.axes import LONG_PART, extreme, total_of_products
from tapegrad.ops.declare import array_op
from tapegrad.ops.linalg import gemm_into, turn
from tapegrad.ops.spectral import vanishes

HEADS, QUERIES, KEYS, E, V, SCALE, CAUSAL, TILE, BLOCK, ROOM, UNITS, NDIM = range(12)
WORK = 32  # elements of memory, for BLAS's arguments
_ALONE = 1 << 18  # multiplications of a product that BLAS does not share out: OpenBLAS's threshold
_TILE, _ELEMENTS = 32, 1 << 17  # queries of a tile, and elements of one, at most
_LANES = 16  # keys of a product are a multiple of these
_FEW = 8  # units that are enough to share out, and queries that are worth turning for


def parameters(
    sizes: tuple[int, int, int, int, int], scale: float, causal: bool, lengths: Sequence[int], strides: Sequence[int]
) -> tuple[int, ...]:
    """Those of so many heads, queries and keys, E, and V; with a mask's, if there is one."""
    heads, queries, keys, e, v = sizes
    widest = max(e, v)
    tile = max(min(queries, _TILE, _ALONE // (_LANES * widest), max(_ELEMENTS // keys, _FEW)), 1)
    block = max(_ALONE // (tile * widest) // _LANES * _LANES, 1)
    room = WORK + keys * (e + v) + tile * (2 * keys + 1)
    bits = np.float64(scale).view(np.int64).item()
    units = heads if heads >= _FEW else heads * -(-_FEW // heads)
    return (*sizes, bits, int(causal), tile, block, room, units, len(lengths), *lengths, *strides)


def _more_heads(p: tuple[int, ...], n: int) -> tuple[int, ...]:
    return (n * p[HEADS], *p[1:UNITS], n * p[UNITS], *p[NDIM:])


def _split(p, x, head):
    """q, k and v of a head."""
    of_q, of_k, of_v = p[QUERIES] * p[E], p[KEYS] * p[E], p[KEYS] * p[V]
    start = head * (of_q + of_k + of_v)
    then, last = start + of_q, start + of_q + of_k
    return x[start:then], x[then:last], x[last : last + of_v]


def _rooms(p, memory):
    """Memory for k turned, v turned, weights, their adjoints, and one over the sum of each query's weights."""
    of_v = WORK + p[KEYS] * p[E]
    weights = of_v + p[KEYS] * p[V]
    adjoints, sums = weights + p[TILE] * p[KEYS], weights + 2 * p[TILE] * p[KEYS]
    return memory[WORK:of_v], memory[of_v:weights], memory[weights:adjoints], memory[adjoints:sums], memory[sums:]


def _n_seen(p, last):
    """How many keys the queries before one can see."""
    return min(last, p[KEYS]) if p[CAUSAL] else p[KEYS]


def _rows_by_rows(p, gemm, work, n, count, width, alpha, a, b, turned, c):
    """c = alpha a b', of count rows a and n rows b as wide; c's are as far apart as there are keys."""
    size = a.itemsize
    apart, between = (p[KEYS], 1) if len(turned) > 0 else (1, width)
    at = turned.ctypes.data if len(turned) > 0 else b.ctypes.data
    for j in range(0, n, p[BLOCK]):
        gemm_into(
            gemm, work, size, count, min(p[BLOCK], n - j), width, alpha, a.ctypes.data, width, 1,
            at + size * j * between, apart, between, 0.0, c.ctypes.data + size * j, p[KEYS]
        )  # fmt: skip


def _tile_by_rows(p, gemm, work, n, count, width, alpha, tile, b, beta, c):
    """c = alpha tile b + beta c, of n rows b."""
    size = b.itemsize
    for j in range(0, n, p[BLOCK]):
        gemm_into(
            gemm, work, size, count, width, min(p[BLOCK], n - j), alpha, tile.ctypes.data + size * j, p[KEYS], 1,
            b.ctypes.data + size * j * width, width, 1, beta if j == 0 else 1.0, c.ctypes.data, width
        )  # fmt: skip


def _add_turned_by_rows(p, gemm, work, n, count, width, alpha, tile, b, c):
    """c += alpha tile' b, of n rows c."""
    size = b.itemsize
    for j in range(0, n, p[BLOCK]):
        gemm_into(
            gemm, work, size, min(p[BLOCK], n - j), width, count, alpha, tile.ctypes.data + size * j, 1, p[KEYS],
            b.ctypes.data, width, 1, 1.0, c.ctypes.data + size * j * width, width
        )  # fmt: skip


def _add_mask(p, mask, head, query, run):
    """Add a query's part of the mask, whose dimensions may be repeated; what that hides is seen by no one."""
    ndim, at, batch = p[NDIM], 0, head
    at = query * p[NDIM + 2 * ndim]
    for d in range(ndim - 2, -1, -1):
        length = p[NDIM + 1 + d]
        at += batch % length * p[NDIM + 1 + ndim + d]
        batch //= length
    added, lowest = mask[at : at + len(run)], run.dtype.type(-np.inf)
    for j in range(len(run)):
        score = run[j] + added[j]
        run[j] = lowest if added[j] == lowest else score


def _exponentials(run, may_be_hidden):
    """exp(run - its largest), in place, and one over their sum; where all may be and is hidden, zeros."""
    largest, total = extreme(run, larger), np.float64(0)
    if may_be_hidden and largest == -np.inf:
        run[:] = 0
        return run.dtype.type(0)
    for first in range(0, len(run), LONG_PART):
        part, few = run.dtype.type(0), run[first : first + LONG_PART]
        for j in range(len(few)):
            few[j] = vectormath.exp(few[j] - largest)
            part = plus(part, few[j])
        total += part
    return run.dtype.type(1 / total)


def _weights(p, gemm, work, mask, head, first, count, q, k, turned, weights, over):
    """Of a tile of queries, times a factor `over` for each."""
    n, e = _n_seen(p, first + count), p[E]
    scale = f8(p.ctypes.data + 8 * SCALE, 1)[0]
    _rows_by_rows(p, gemm, work, n, count, e, scale, q[first * e : (first + count) * e], k, turned, weights)
    for i in range(count):
        seen = _n_seen(p, first + i + 1)
        run = weights[i * p[KEYS] : i * p[KEYS] + seen]
        if len(mask) > 0:
            _add_mask(p, mask, head, first + i, run)
        over[i] = _exponentials(run, len(mask) > 0)
        weights[i * p[KEYS] + seen : i * p[KEYS] + n] = 0


def _attend(p, lo, hi, gemm, memory, x, mask, y):
    of_k, _, weights, _, over = _rooms(p, memory)
    work, width, parts = memory.ctypes.data, p[V], p[UNITS] // p[HEADS]
    for unit in range(lo, hi):
        head, part = unit // parts, unit % parts
        q, k, v = _split(p, x, head)
        tiles = (p[QUERIES] + p[TILE] - 1) // p[TILE]
        begin, end = part * tiles // parts * p[TILE], min((part + 1) * tiles // parts * p[TILE], p[QUERIES])
        turned = of_k if end - begin >= _FEW else of_k[:0]
        if len(turned) > 0:
            turn(k, p[KEYS], p[E], p[E], turned)
        for first in range(begin, end, p[TILE]):
            count = min(p[TILE], end - first)
            _weights(p, gemm, work, mask, head, first, count, q, k, turned, weights, over)
            at = (head * p[QUERIES] + first) * width
            rows = y[at : at + count * width]
            _tile_by_rows(p, gemm, work, _n_seen(p, first + count), count, width, 1.0, weights, v, 0.0, rows)
            for i in range(count):
                row, factor = rows[i * width : (i + 1) * width], over[i]
                for j in range(width):
                    row[j] *= factor


def _to_adjoints(weights, over, adjoints, y, g):
    """Of a query: finish its weights, and adjoints = weights (adjoints - the sum of y g)."""
    if over != over and vanishes(g):  # what is nan and not used
        weights[:] = 0
        adjoints[:] = 0
        return
    mean = weights.dtype.type(total_of_products(y, g))
    for j in range(len(weights)):
        weights[j] *= over
        adjoints[j] = _times(weights[j], adjoints[j] - mean)


def _attend_vjp(p, lo, hi, gemm, memory, begun, x, mask, y, y_bar, x_bar):
    of_k, of_v, weights, adjoints, over = _rooms(p, memory)
    work, scale, e, width = memory.ctypes.data, f8(p.ctypes.data + 8 * SCALE, 1)[0], p[E], p[V]
    for head in range(lo * p[HEADS] // p[UNITS], hi * p[HEADS] // p[UNITS]):
        q, k, v = _split(p, x, head)
        q_bar, k_bar, v_bar = _split(p, x_bar, head)
        start = head * p[QUERIES] * width
        turn(k, p[KEYS], e, e, of_k)
        turn(v, p[KEYS], width, width, of_v)
        if begun == 0:
            k_bar[:] = 0
            v_bar[:] = 0
        for first in range(0, p[QUERIES], p[TILE]):
            count = min(p[TILE], p[QUERIES] - first)
            n = _n_seen(p, first + count)
            _weights(p, gemm, work, mask, head, first, count, q, k, of_k, weights, over)
            g = y_bar[start + first * width : start + (first + count) * width]
            rows = y[start + first * width : start + (first + count) * width]
            _rows_by_rows(p, gemm, work, n, count, width, 1.0, g, v, of_v, adjoints)
            for i in range(count):
                at, own, end = i * p[KEYS], i * width, (i + 1) * width
                _to_adjoints(weights[at : at + n], over[i], adjoints[at : at + n], rows[own:end], g[own:end])
            of_queries = q_bar[first * e : (first + count) * e]
            _tile_by_rows(p, gemm, work, n, count, e, scale, adjoints, k, 1.0 if begun else 0.0, of_queries)
            queries = q[first * e : (first + count) * e]
            _add_turned_by_rows(p, gemm, work, n, count, e, scale, adjoints, queries, k_bar)
            _add_turned_by_rows(p, gemm, work, n, count, width, 1.0, weights, g, v_bar)


# --- the same of Tensors ----------------------------------------------------------------------------------------------


def _apart(x, p):
    """q, k and v of a tensor [.., all the elements of a head]."""
    of_q, of_k, heads = p[QUERIES] * p[E], p[KEYS] * p[E], x.shape[:-1]
    return (
        x[..., :of_q].reshape(*heads, p[QUERIES], p[E]),
        x[..., of_q : of_q + of_k].reshape(*heads, p[KEYS], p[E]),
        x[..., of_q + of_k :].reshape(*heads, p[KEYS], p[V]),
    )


def _factor(p):
    return np.int64(p[SCALE]).view(np.float64).item()


def _weights_of(q, k, p, mask):
    scores = q @ k.mT * _factor(p)
    if p[CAUSAL]:
        scores = scores.masked_fill(scores.new_ones(scores.shape[-2:]).tril() == 0, -np.inf)
    if mask is None:
        return scores.softmax(-1)
    hidden = mask == -np.inf
    weights = (scores + mask.masked_fill(hidden, 0.0)).masked_fill(hidden, -np.inf).softmax(-1)
    return weights.masked_fill(hidden.all(-1, keepdim=True), 0.0)


def _softmax_dot(weights, dots):
    """What softmax makes of tangents, or of adjoints."""
    return _times(dots - _times(dots, weights).sum(-1, keepdim=True), weights)


def _rule(x, mask, g, p):
    (q, k, v), bars = _apart(x, p), x.new_zeros(x.shape)
    weights = _weights_of(q, k, p, mask)
    of_scores = _softmax_dot(weights, g @ v.mT) * _factor(p)
    of_q, of_k = p[QUERIES] * p[E], p[KEYS] * p[E]
    bars[..., :of_q] = (of_scores @ k).flatten(-2)
    bars[..., of_q : of_q + of_k] = (of_scores.mT @ q).flatten(-2)
    bars[..., of_q + of_k :] = (weights.mT @ g).flatten(-2)
    return bars


def _tangent(x, mask, t, p):
    (q, k, v), (q_dot, k_dot, v_dot) = _apart(x, p), _apart(t, p)
    weights = _weights_of(q, k, p, mask)
    of_scores = (q_dot @ k.mT + q @ k_dot.mT) * _factor(p)
    return _softmax_dot(weights, of_scores) @ v + weights @ v_dot


_FACTS = {
    "room": ROOM,
    "units": UNITS,
    "parts": _more_heads,
    "grad_name": "ScaledDotProductFlashAttentionForCpuBackward0",
}


@array_op(
    1,
    vjps=(
        lambda p, lo, hi, gemm, memory, begun, x, y, y_bar, x_bar: _attend_vjp(
            p, lo, hi, gemm, memory, begun, x, x[:0], y, y_bar, x_bar
        ),
    ),
    partials=(lambda x, g, p: _rule(x, None, g, p),),
    tangents=(lambda x, t, p: _tangent(x, None, t, p),),
    saves=(1 | 8,),
    **_FACTS,
)
def attend(p, lo, hi, gemm, memory, x, y):
    """Attention without a mask."""
    _attend(p, lo, hi, gemm, memory, x, x[:0], y)


@array_op(
    2,
    vjps=(
        lambda p, lo, hi, gemm, memory, begun, x, mask, y, y_bar, x_bar: _attend_vjp(
            p, lo, hi, gemm, memory, begun, x, mask, y, y_bar, x_bar
        ),
        None,
    ),
    partials=(lambda a, b, g, p: _rule(a, b, g, p), None),
    tangents=(lambda a, b, t, p: _tangent(a, b, t, p),),
    saves=(1 | 2 | 8, 0),
    for_all=(1,),
    **_FACTS,
)
def attend_masked(p, lo, hi, gemm, memory, x, mask, y):
    """Attention under a mask, which is added and has no derivative: queries from which it hides all see nothing."""
    _attend(p, lo, hi, gemm, memory, x, mask, y)
