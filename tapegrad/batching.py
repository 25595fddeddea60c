"""Rules of `vmap`: how a row is recorded of batched operands, a rule for each family of operations.

Samples are along the first dimension of what is behind a batched tensor (`batched.py`), so a rule says what becomes of
shapes, dimensions and parameters where there is one more in front. It follows from what the family's rows hold:

    elementwise   samples are one dimension more to broadcast over
    reduction     dimensions move one place on
    layout        the samples' stride comes before those of the view
    along axes    there are so many times more outer parts
    array         likewise, where its declaration names the parts that it treats alike (`Array.parts`);
                  flat positions go on where those of the sample before end (`Array.positions`)
    products      matrices have one batch dimension more; convolutions more images, or more groups

What no rule is for is recorded sample by sample, and joined. All rules end in what records rows of plain tensors, or
of those that are batched at a level further out: so levels nest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from tapegrad import aliasing, autograd, creation, recording, trees, writing
from tapegrad.batched import Batched, Level, NeedsSamplesError, elements, innermost, is_at, rules, samples_of, wrap
from tapegrad.dtypes import INT32, INT64
from tapegrad.functions import indexing as at_index
from tapegrad.functions import products, reductions, shaping
from tapegrad.functions.elementwise import where
from tapegrad.ops import convolution, indexing
from tapegrad.ops.declare import Array, Elementwise, Op
from tapegrad.recording import broadcast_shapes, cast, operand, promoted, quick, record_array, record_elementwise
from tapegrad.tensor import Tensor, describe, location


def _rule(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def enter(function: Callable[..., Any]) -> Callable[..., Any]:
        rules[name] = function
        return function

    return enter


def _level(*operands: Any) -> Level:
    level = innermost(operands)
    assert level is not None
    return level


def _apart(level: Level, t: Tensor) -> Tensor:
    """Samples of its own, in order: repeated where they are the same for all."""
    return shaping.contiguous(samples_of(t, level))


def _aligned(level: Level, t: Any, ndim: int) -> Any:
    """Samples in front of as many dimensions as the operand with most has."""
    if not is_at(t, level):
        return t
    missing = ndim - t._kind.ndim
    return t.physical[(slice(None), *(None,) * missing)] if missing else t.physical


# --- families ---------------------------------------------------------------------------------------------------------


@_rule("elementwise")
def elementwise(op: Elementwise, *operands: Any) -> Any:
    """Of what is broadcast together, after it is of one dtype: what a sample's dtype is doesn't depend on the batch."""
    given = [operand(o) for o in operands]
    if any(o is None for o in given):
        return NotImplemented
    level = _level(*given)
    tensors = [o for o in given if isinstance(o, Tensor)]
    broadcast_shapes(op.name, tensors)
    work = given[op.dtype_operand :]
    if len({o._kind.dtype for o in work if isinstance(o, Tensor)}) > 1:
        dtype = promoted(work)
        given[op.dtype_operand :] = [cast(o, dtype) if isinstance(o, Tensor) else o for o in work]
    ndim = max(o._kind.ndim for o in tensors)
    physical = [_aligned(level, o, ndim) for o in given]
    first = physical[0]
    if op.arity < 3 and first.__class__ is Tensor:
        return wrap(quick[op.opcode](*physical), level)
    return wrap(record_elementwise(op, *physical), level)


@_rule("cast")
def _cast(t: Batched, dtype: Any) -> Tensor:
    return wrap(cast(t.physical, dtype), t.level)


@_rule("reduction")
def reduction(op: Any, x: Batched, dims: tuple[int, ...], keepdim: bool, variant: bool) -> Tensor:
    """Over the same dimensions, one place on."""
    moved = tuple(d + 1 for d in dims)
    return wrap(reductions._record_reduction(op, x.physical, moved, keepdim, variant), x.level)


@_rule("view")
def view(
    op: Op, base: Batched, shape: tuple[int, ...], strides: tuple[int, ...], offset: int, adjoint: tuple[int, ...],
    start: int, detached: bool = False,
) -> Tensor:  # fmt: skip
    """A view of all samples, by whose stride those of the view are preceded."""
    physical, level = base.physical, base.level
    kind = physical._kind
    own = kind.strides[0] if kind.shape[0] > 1 or not kind.contiguous else base._kind.numel * kind.itemsize
    apart = base._kind.numel * kind.itemsize
    made = aliasing.view(
        op, physical, (level.size, *shape), (own, *strides), offset, (apart, *adjoint), start, detached
    )
    return wrap(made, level)


@_rule("joined")
def joined(
    op: Op, pieces: list[Tensor], shape: tuple[int, ...], windows: list[tuple[int, int, int]], outer: int
) -> Tensor:
    """So many times more runs."""
    level = _level(*pieces)
    physical = [_apart(level, piece) for piece in pieces]
    return wrap(shaping.joined(op, physical, (level.size, *shape), windows, outer * level.size), level)


@_rule("array")
def array(
    op: Array, shape: tuple[int, ...], dtype: Any, *operands: Tensor, params: tuple[int, ...] | None, flags: int
) -> Tensor:
    """By what the operation's declaration says of its parts, or of its positions; else sample by sample."""
    level = _level(*operands)
    n = level.size
    if op in _OWN:
        return _OWN[op](level, op, shape, dtype, operands, params, flags)
    if op.positions is not None:
        return _at_positions(level, op, shape, dtype, operands, params, flags)
    parts = op.parts
    if parts is None:
        return _by_rows(
            level, lambda *these: record_array(op, shape, dtype, *these, params=params, flags=flags), operands
        )
    assert params is not None
    if any(is_at(operands[k], level) for k in op.for_all):
        return _by_rows(
            level, lambda *these: record_array(op, shape, dtype, *these, params=params, flags=flags), operands
        )
    given = [t if k in op.for_all else _apart(level, t) for k, t in enumerate(operands)]
    return wrap(record_array(op, (n, *shape), dtype, *given, params=parts(params, n), flags=flags), level)


@_rule("results")
def results(
    op: Array, part: Op, shapes: Sequence[tuple[int, ...]], dtype: Any, *operands: Tensor, params: tuple[int, ...]
) -> list[Tensor]:
    """Several results, each of all samples."""
    level = _level(*operands)
    n = level.size
    if op.parts is None:
        rows = [
            recording.record_results(op, part, shapes, dtype, *these, params=params) for these in _each(level, operands)
        ]
        return [_stacked(level, column) for column in zip(*rows, strict=True)]
    given = [_apart(level, t) for t in operands]
    made = recording.record_results(
        op, part, [(n, *shape) for shape in shapes], dtype, *given, params=op.parts(params, n)
    )
    return [wrap(t, level) for t in made]


# --- flat positions ---------------------------------------------------------------------------------------------------


def _at_positions(
    level: Level, op: Array, shape: tuple[int, ...], dtype: Any, operands: Sequence[Tensor], params: Any, flags: int
) -> Tensor:
    """Positions of each sample go on where those of the one before end."""
    assert op.positions is not None
    place, of = op.positions
    at = operands[place]
    into = shape if of < 0 else operands[of]._kind.shape
    # Positions may number runs: of as many elements as fall to each of what is read or written there.
    other = shape if op.arity == 2 and of >= 0 else operands[0 if op.arity == 2 else 1]._kind.shape
    n_at = at._kind.numel
    run = max(math.prod(other) // n_at, 1) if n_at else 1
    step = math.prod(into) // run
    given = [_apart(level, t) if k != place else t for k, t in enumerate(operands)]
    places = _apart(level, at).reshape(level.size, n_at)
    if of >= 0 and op.arity == 2 and not is_at(operands[of], level):
        given[of] = operands[of]  # all samples read of one
    else:
        places = places + creation.arange(level.size).reshape(-1, 1) * step
    given[place] = places.reshape(-1)
    return wrap(record_array(op, (level.size, *shape), dtype, *given, params=params, flags=flags), level)


def _window(p: tuple[int, ...], n: int, numel: int, ascending: bool) -> tuple[int, ...]:
    """The window of a view, with a dimension of samples in front."""
    start, ndim, *rest = p
    shape, steps = rest[:ndim], rest[ndim : 2 * ndim]
    order = (n, *rest[2 * ndim : 3 * ndim], numel, *rest[3 * ndim : 4 * ndim]) if ascending else ()
    return (start, ndim + 1, n, *shape, numel, *steps, *order)


def _written(
    level: Level, op: Array, shape: tuple[int, ...], dtype: Any, operands: Sequence[Tensor], p: Any, flags: int
) -> Tensor:
    given = [_apart(level, t) for t in operands]
    window = _window(p, level.size, math.prod(shape), op is indexing.write)
    return wrap(record_array(op, (level.size, *shape), dtype, *given, params=window, flags=flags), level)


# --- products ---------------------------------------------------------------------------------------------------------


@_rule("product")
def product(a: Any, b: Any) -> Tensor:
    """Matrices [.., m, k] and [.., k, n], with samples among the batch; a matrix beside all samples is one product."""
    level = _level(a, b)
    ndim = max(a._kind.ndim, b._kind.ndim)
    if ndim == 2 and not is_at(a, level) and is_at(b, level):
        # [m, k] and [n, k, j]: one product with all columns.
        return wrap(products.matmul(b.physical.mT, a.mT).mT, level)
    return wrap(products.matmul(_aligned(level, a, ndim), _aligned(level, b, ndim)), level)


@_rule("vector product")
def vector_product(a: Any, b: Any) -> Tensor:
    """A vector, or a matrix, and a vector."""
    level = _level(a, b)
    if not is_at(b, level):
        return wrap(products.matmul(samples_of(a, level), b), level)
    if not is_at(a, level):
        return wrap(products.matmul(b.physical, a.mT if a._kind.ndim == 2 else a), level)
    first, column = a.physical, b.physical.unsqueeze(-1)
    if a._kind.ndim == 2:
        return wrap(products.matmul(first, column).squeeze(-1), level)
    return wrap(products.matmul(first.unsqueeze(1), column).reshape(level.size), level)


def _convolution(
    level: Level, op: Array, shape: tuple[int, ...], dtype: Any, operands: Sequence[Tensor], p: Any, flags: int
) -> Tensor:
    """More images, where the filters are the same for all; else more groups, the samples in front of the channels."""
    del dtype, flags
    n, (a, b) = level.size, operands
    images, groups = p[:2]
    if op is not convolution.conv_weight and not is_at(b, level):
        x = _apart(level, a)
        x = x.reshape(n * images, *a._kind.shape[1:])
        y = op.record(x, b, (n * images, *p[1:-1], n * p[-1]), (n * images, *shape[1:]))
        return wrap(y.reshape(n, *shape), level)

    def beside(t: Tensor) -> Tensor:  # [n, images, channels, ..] to [images, n channels, ..]
        x: Tensor = samples_of(t, level).movedim(0, 1)
        return x.reshape(x.shape[0], n * t._kind.shape[1], *t._kind.shape[2:])

    more = (images, n * groups, *p[2:-1], n * p[-1])  # the last is the number of units
    if op is convolution.conv_weight:
        y = op.record(beside(a), beside(b), more, (n * shape[0], *shape[1:]))
        return wrap(y.reshape(n, *shape), level)
    w = _apart(level, b).reshape(n * b._kind.shape[0], *b._kind.shape[1:])
    y = op.record(beside(a), w, more, (images, n * shape[1], *shape[2:]))
    return wrap(y.reshape(images, n, *shape[1:]).movedim(1, 0), level)


_OWN: dict[Any, Callable[..., Tensor]] = {
    **dict.fromkeys((convolution.conv, convolution.conv_transposed, convolution.conv_weight), _convolution),
    **dict.fromkeys((indexing.write, indexing.embed), _written),
}


# --- writing in place -------------------------------------------------------------------------------------------------


def _refused(t: Tensor, level: Level, name: str = "arithmetic") -> RuntimeError:
    return RuntimeError(
        f"vmap: inplace {name}(self, *extra_args) is not possible because there exists a Tensor `other` in extra_args "
        "that has more elements than `self`. This happened due to `other` being vmapped over but `self` not being "
        f"vmapped over at level {level.depth + 1}. Please try to use out-of-place operators instead, or make `self` "
        f"by new_zeros() or zeros_like() of what is vmapped over: {describe(t)}, at {location()}"
    )


@_rule("assign")
def assign(t: Any, value: Any, stores: Any = ()) -> Any:
    """Write to all samples; what samples share can't hold a value for each."""
    level = _level(t, value)
    if not is_at(t, level):
        raise _refused(t, level)
    physical = value.physical if isinstance(value, Batched) and value.level is level else None
    if physical is None:
        physical = samples_of(value, level).clone()
    writing.assign(t.physical, physical, stores)
    return t


# --- indices that samples have of their own ---------------------------------------------------------------------------


def _parted(index: Any, ndim: int) -> tuple[tuple[Any, ...], list[Tensor], list[int]]:
    """An index as one of ints, slices and None, and tensors for dimensions of what that shows."""
    items = list(index) if isinstance(index, tuple) else [index]
    items = [
        i
        if isinstance(i, Tensor)
        else i
        if i is None or i is Ellipsis or isinstance(i, (slice, int))
        else creation.as_tensor(i)
        for i in items
    ]
    for i in items:
        if isinstance(i, Tensor) and i.dtype not in (INT64, INT32):
            raise NeedsSamplesError(
                "vmap: We do not support batching operators that can support dynamic shape. Attempting to batch over "
                "indexing with a boolean mask: as many elements as are True differ between samples. Choose between "
                "values with tapegrad.where(), or write with masked_fill()",
                _level(*(t for t in items if isinstance(t, Tensor))),
            )
    used = sum(i is not None and i is not Ellipsis for i in items)
    if used > ndim:
        raise IndexError(f"too many indices for tensor of dimension {ndim}")
    dots = next((k for k, i in enumerate(items) if i is Ellipsis), None)
    rest = [slice(None)] * (ndim - used)
    items = [*items, *rest] if dots is None else [*items[:dots], *rest, *items[dots + 1 :]]
    first, tensors, dims = list[Any](), list[Tensor](), list[int]()
    shown = 0
    for i in items:
        if isinstance(i, Tensor):
            tensors.append(i)
            dims.append(shown)
            first.append(slice(None))
        else:
            first.append(i)
        shown += not isinstance(i, int) or isinstance(i, bool)
    return tuple(first), tensors, dims


def _runs_at(self: Tensor, index: Any) -> tuple[Tensor, Tensor, tuple[int, ...], list[int]]:
    """A view with the indexed dimensions in front; flat positions of runs behind them; the indices' shape; dims."""
    first, tensors, dims = _parted(index, self._kind.ndim)
    shown = at_index.getitem(self, first) if any(i != slice(None) for i in first) else self
    others = [d for d in range(shown._kind.ndim) if d not in dims]
    front = shown.permute(*dims, *others)
    lengths = front._kind.shape[: len(dims)]
    shape = broadcast_shapes("index", tensors)
    at: Any = 0
    for k, (i, n) in enumerate(zip(tensors, lengths, strict=True)):
        i = cast(i, INT64)
        values = elements(i)
        if values.size and (values.min() < -n or values.max() >= n):
            wrong = values[(values < -n) | (values >= n)].flat[0]
            raise IndexError(f"index {wrong} is out of bounds for dimension {dims[k]} with size {n}")
        if values.size and values.min() < 0:
            i = where(i < 0, i + n, i)
        at = at * n + i if k else i
    at = at.expand(*shape).reshape(-1)
    return front, at, shape, dims


def _places_of(dims: list[int], n_of_index: int) -> tuple[int, ...] | None:
    """Where the indices' dimensions go: to the first indexed one where these are neighbours, else in front."""
    if not dims or dims[0] == 0 or dims != list(range(dims[0], dims[0] + len(dims))):
        return None
    return tuple(range(dims[0], dims[0] + n_of_index))


@_rule("getitem")
def getitem(self: Tensor, index: Any) -> Tensor:
    """`self[index]`, where samples have indices of their own."""
    front, at, shape, dims = _runs_at(self, index)
    rest = front._kind.shape[len(dims) :]
    taken = at_index._record_take(front, at, (*shape, *rest))
    to = _places_of(dims, len(shape))
    return taken if to is None else taken.movedim(tuple(range(len(shape))), to)


@_rule("setitem")
def setitem(self: Tensor, index: Any, value: Any) -> None:
    """`self[index] = value`, where samples have indices of their own."""
    level = innermost(t for t in (index if isinstance(index, tuple) else (index,)) if isinstance(t, Tensor))
    if level is not None and not (isinstance(self, Batched) and self.level.depth >= level.depth):
        raise _refused(self, level, "index_put_")
    front, at, shape, dims = _runs_at(self, index)
    rest = front._kind.shape[len(dims) :]
    value = value if isinstance(value, Tensor) else creation.as_tensor(value)
    to = _places_of(dims, len(shape))
    wanted = (*shape, *rest)
    if to is None:
        value = value.expand(*wanted)
    else:
        shown = (*rest[: to[0]], *shape, *rest[to[0] :])
        value = value.expand(*shown).movedim(to, tuple(range(len(shape))))
    value = shaping.contiguous(cast(value, self.dtype)).reshape(-1)
    front.copy_(at_index._record_put(front, value, at, front._kind.shape))


# --- sample by sample -------------------------------------------------------------------------------------------------


def _each(level: Level, operands: Sequence[Any]) -> list[list[Any]]:
    """The operands of each sample."""
    return [[t.physical[k] if is_at(t, level) else t for t in operands] for k in range(level.size)]


def _stacked(level: Level, parts: Sequence[Tensor]) -> Tensor:
    return wrap(shaping.stack(list(parts), 0), level)


def _by_rows(level: Level, record: Callable[..., Tensor], operands: Sequence[Tensor]) -> Tensor:
    """A row a sample."""
    if not level.size:
        raise NeedsSamplesError("vmap: a batch without samples: there is no rule that tells what would come", level)
    return _stacked(level, [record(*these) for these in _each(level, operands)])


_OF_DYNAMIC_SHAPE = ("nonzero", "unique", "unique_consecutive", "where")  # of one argument


def by_samples(error: NeedsSamplesError, function: Callable[..., Any], args: Any, facts: dict[str, Any]) -> Any:
    """What a function gives, called once a sample: where it asks for what only one sample has."""
    level = error.level
    if (name := getattr(function, "__name__", "")) in _OF_DYNAMIC_SHAPE:
        raise NeedsSamplesError(
            "vmap: We do not support batching operators that can output dynamic shape. Attempted to vmap over "
            f"aten::{name}: how many elements there are differs between samples, at {location()}",
            level,
        )
    leaves, structure = trees.flatten([list(args), facts])
    has_samples = [is_at(t, level) for t in leaves]
    draws = level.randomness != "error" and not level.is_sampling
    if not level.size or not (any(has_samples) or (draws and level.randomness == "different")):
        raise error
    found: list[Any] = []
    own = leaves[0].physical if has_samples[0] else None
    state = creation.get_rng_state() if draws and level.randomness == "same" else None
    was, level.is_sampling = level.is_sampling, level.is_sampling or draws
    try:
        for k in range(level.size):
            if state is not None:
                creation.set_rng_state(state)
            these = [t.physical[k] if has else t for t, has in zip(leaves, has_samples, strict=True)]
            given, named = trees.unflatten(structure, these)
            result = function(*given, **named)
            found.append(result)
            if own is not None and result is these[0] and k == level.size - 1:
                return leaves[0]  # it was written to in place
    finally:
        level.is_sampling = was
    parts = [trees.leaves(one) for one in found]
    if any(not isinstance(t, Tensor) for row in parts for t in row):
        raise error
    shapes = [[t._kind.shape for t in row] for row in parts]
    if any(these != shapes[0] for these in shapes):
        raise NeedsSamplesError(
            "vmap: the shape of a result depends on values, and differs between samples: "
            f"{getattr(function, '__name__', 'a function')}",
            level,
        )
    _, structure = trees.flatten(found[0])
    return trees.unflatten(structure, [_stacked(level, column) for column in zip(*parts, strict=True)])


rules["by samples"] = by_samples


class _Info(NamedTuple):
    """What a `Function`'s own rule is told."""

    batch_size: int
    randomness: str


@_rule("function")
def function(level: Level, cls: Any, args: tuple[Any, ...]) -> Any:
    """A function of the user's: by its `vmap`, or for each sample."""
    if not cls._has("vmap"):
        asked = NeedsSamplesError(f"vmap: {cls.__name__} can't be applied to each sample", level)
        return by_samples(asked, cls.apply, args, {})
    leaves, structure = trees.flatten(list(args))
    physical = trees.unflatten(structure, [t.physical if is_at(t, level) else t for t in leaves])
    in_dims = trees.unflatten(structure, [0 if is_at(t, level) else None for t in leaves])
    given = cls.vmap(_Info(level.size, level.randomness), tuple(in_dims), *physical)
    if not isinstance(given, tuple) or len(given) != 2:
        raise RuntimeError(
            f"Expected the vmap staticmethod to have two returns, an output and out_dims with pytree structure "
            f"compatible with the output. Got a {type(given).__name__}: {cls.__name__}, at {location()}"
        )
    output, out_dims = given
    results = output if isinstance(output, tuple) else (output,)
    dims = out_dims if isinstance(out_dims, (tuple, list)) else (out_dims,) * len(results)
    made = tuple(
        t if d is None or not isinstance(t, Tensor) else wrap(t.movedim(d, 0), level)
        for t, d in zip(results, dims, strict=True)
    )
    return made if isinstance(output, tuple) else made[0]


# --- gradients --------------------------------------------------------------------------------------------------------


def _seeds(level: Level, outputs: Sequence[Any], seeds: Sequence[Any]) -> tuple[list[Tensor], list[Tensor]]:
    """All samples of outputs, and their seeds: since samples don't depend on each other, one sweep serves them all."""
    for y, seed in zip(outputs, seeds, strict=True):
        if seed is None and y._kind.numel != 1:
            raise RuntimeError("grad can be implicitly created only for scalar outputs")
    ys = [samples_of(y, level) for y in outputs]
    full = [
        creation.ones_like(y) if seed is None else samples_of(seed, level) for y, seed in zip(ys, seeds, strict=True)
    ]
    return ys, full


@_rule("grad")
def grad(
    level: Level, outputs: Sequence[Any], inputs: Sequence[Any], seeds: Sequence[Any],
    retain_graph: bool | None, create_graph: bool, allow_unused: bool | None, materialize_grads: bool,
) -> tuple[Any, ...]:  # fmt: skip
    """The gradients of each sample's outputs by its inputs."""
    facts = {"allow_unused": allow_unused, "materialize_grads": materialize_grads, "create_graph": create_graph}
    if all(is_at(x, level) for x in inputs):
        ys, full = _seeds(level, outputs, seeds)
        found = autograd.grad(ys, [x.physical for x in inputs], full, retain_graph, **facts)
        return tuple(g if g is None else wrap(g, level) for g in found)
    # By what samples share: a sweep for each.
    rows, n = list[Any](), level.size
    for k in range(n):
        ys, these = list[Any](), list[Any]()
        for y, seed in zip(outputs, seeds, strict=True):
            of_one = seed.physical[k] if is_at(seed, level) else seed
            if is_at(y, level):
                of_one = creation.ones_like(y.physical[k]) if of_one is None else of_one
                along = creation.zeros_like(y.physical)
                along[k] = of_one
                ys.append(y.physical)
                these.append(along)
            else:
                ys.append(y)
                these.append(of_one)
        retain = True if k < n - 1 else retain_graph
        found = autograd.grad(
            ys,
            [x.physical if is_at(x, level) else x for x in inputs],
            these,
            retain,
            **facts,
        )
        rows.append([g[k] if g is not None and is_at(x, level) else g for g, x in zip(found, inputs, strict=True)])
    if not rows:
        return tuple(creation.zeros_like(x) for x in inputs)
    return tuple(None if column[0] is None else _stacked(level, column) for column in zip(*rows, strict=True))
