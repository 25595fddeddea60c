"""Functions of one sample applied to batches (`vmap`), and modules as functions of their parameters.

`vmap` calls the function once, with batched tensors in the place of one sample's (`batched.py`), and what is recorded
of these is recorded for all samples at once (`batching.py`). So it costs what a function written for batches does.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any

import numpy as np

from tapegrad import array_makers, batching, creation, trees  # noqa: F401 (the rules)
from tapegrad.batched import Batched, Level, NeedsSamplesError, is_at, levels, samples_of, wrap
from tapegrad.conversion import as_operand
from tapegrad.functions.shaping import functions as shaping
from tapegrad.tape import current_tape, in_grad_mode
from tapegrad.tensor import Tensor

_stack: Any = shaping["stack"]
_cat: Any = shaping["cat"]


def vmap(
    func: Callable[..., Any], in_dims: Any = 0, out_dims: Any = 0, randomness: str = "error", *,
    chunk_size: int | None = None,
) -> Callable[..., Any]:  # fmt: skip
    """The function of batches that a function of samples stands for.

    Parameters
    ----------
    func : callable
        A function of Tensors, arrays, and trees of them, which gives such. It is called once, with what stands for
        all samples; it can't branch by values that samples have of their own.
    in_dims : int, None, or a tree of them
        The dimension of each argument, or of parts of it, that goes over samples; None for what all samples share.
        Arguments by name are shared.
    out_dims : int, or a tree of them
        Where that dimension is in the results.
    randomness : str
        "different" numbers for each sample, the "same" for all, or an "error".
    chunk_size : int, optional
        How many samples are computed at once: fewer take less memory.

    Returns
    -------
    callable
        It takes what `func` takes, with a dimension more.

    Raises
    ------
    ValueError
        Where `in_dims` or `out_dims` don't fit, or lengths differ.
    RuntimeError
        Where random numbers are drawn, with "error"; where a value is asked for that differs between samples.

    >>> import tapegrad as tg
    >>> x = tg.tensor([[1.0, 2.0], [3.0, 4.0]])
    >>> tg.func.vmap(tg.dot)(x, x)
    tensor([ 5., 25.])
    >>> tg.func.vmap(tg.func.grad(lambda w, x: (w * x).sum() ** 2), (None, 0))(tg.ones(2), x)
    tensor([[ 6., 12.],
            [42., 56.]])
    """
    if randomness not in ("error", "different", "same"):
        raise RuntimeError("Only allowed values for randomness are 'error', 'different', or 'same'. Got " + randomness)
    if chunk_size is not None and chunk_size <= 0:
        raise ValueError(f"vmap: chunk_size should be None or greater than 0. (got {chunk_size})")
    name = getattr(func, "__name__", repr(func))

    def mapped(*args: Any, **facts: Any) -> Any:
        where = f"vmap({name}, in_dims={in_dims}, ...)(<inputs>)"
        if not args and not facts:
            raise ValueError(
                f"vmap({name})(<inputs>): got no inputs. Maybe you forgot to add inputs, or you are trying to "
                "vmap over a function with no inputs. The latter is unsupported."
            )
        if not isinstance(in_dims, (int, tuple, list)):
            raise ValueError(
                f"{where}: expected `in_dims` to be int or a (potentially nested) tuple matching the structure of "
                f"inputs, got: {type(in_dims)}."
            )
        leaves, structure = trees.flatten([list(args), facts])
        dims = _spread(in_dims, list(args), lambda: _incompatible(where, args))
        dims += [None] * (len(leaves) - len(dims))
        places = [_place(leaf, dim, where) for leaf, dim in zip(leaves, dims, strict=True)]
        lengths = [x.shape[dim] for x, dim in zip(leaves, places, strict=True) if dim is not None]
        if not lengths:
            raise ValueError(f"{where}: Expected at least one Tensor to be mapped over: all in_dims are None")
        if any(n != lengths[0] for n in lengths):
            raise ValueError(
                f"vmap: Expected all tensors to have the same size in the mapped dimension, got sizes {lengths} for "
                "the mapped dimension"
            )
        by_hand = is_jitted(func)
        if chunk_size is None or chunk_size >= lengths[0] or by_hand:
            run = _one_by_one if by_hand else _together
            return run(func, leaves, places, structure, lengths[0], randomness, out_dims, name)
        chunks = []
        for start in range(0, lengths[0], chunk_size):
            size = min(chunk_size, lengths[0] - start)
            part = [_narrowed(x, dim, start, size) for x, dim in zip(leaves, places, strict=True)]
            chunks.append(_together(func, part, places, structure, size, randomness, out_dims, name))
        return _joined(chunks, out_dims, name)

    mapped.__name__ = name
    mapped.__doc__ = getattr(func, "__doc__", None)
    return mapped


def is_jitted(func: Callable[..., Any]) -> bool:
    """Whether Numba has made it; if so, Numba has been imported, which would take a while."""
    registry = sys.modules.get("numba.core.registry")
    return registry is not None and isinstance(func, registry.CPUDispatcher)


def _together(
    func: Callable[..., Any], leaves: Sequence[Any], places: Sequence[int | None], structure: Any, size: int,
    randomness: str, out_dims: Any, name: str,
) -> Any:  # fmt: skip
    """One call for all samples. A function of arrays may ask for what one sample has: then it is called for each."""
    of_arrays = not any(isinstance(x, Tensor) for x in leaves)
    level, state = Level(size, randomness), creation.get_rng_state() if of_arrays else None
    given = [
        x if dim is None else wrap(as_operand(x, True).movedim(dim, 0), level)
        for x, dim in zip(leaves, places, strict=True)
    ]
    args, facts = trees.unflatten(structure, given)
    levels().append(level)
    tape = current_tape()
    if of_arrays:
        array_makers.begin(tape)
    try:
        found = array_makers.called(func, lambda: func(*args, **facts)) if of_arrays else func(*args, **facts)
    except NeedsSamplesError:
        if not of_arrays or not size:
            raise
    else:
        return _unwrapped(found, level, out_dims, name, of_arrays)
    finally:
        if of_arrays:
            array_makers.end(tape)
        levels().pop()
    if state is not None:
        creation.set_rng_state(state)
    return _one_by_one(func, leaves, places, structure, size, randomness, out_dims, name)


def _unwrapped(found: Any, level: Level, out_dims: Any, name: str, of_arrays: bool) -> Any:
    """What a function gives, with the samples where they are to be."""
    leaves, structure = trees.flatten(found)
    made = list[Any]()
    for leaf, dim in zip(leaves, _of_outputs(out_dims, found, name), strict=True):
        if not isinstance(leaf, Tensor):
            if isinstance(leaf, (np.ndarray, np.generic, int, float)) and of_arrays:
                array = np.asarray(leaf)
                made.append(array if dim is None else np.stack([array] * level.size, dim))
                continue
            raise _no_tensor(name, leaf)
        if dim is None:
            if is_at(leaf, level):
                raise ValueError(
                    f"vmap({name}, ...): `{name}` can not return a BatchedTensor when out_dim is None: what is the "
                    "same for all samples alone can be given without a dimension for them"
                )
            made.append(leaf)
            continue
        if not isinstance(dim, int) or isinstance(dim, bool) or not -leaf.ndim - 1 <= dim <= leaf.ndim:
            raise IndexError(
                f"Dimension out of range (expected to be in range of [{-leaf.ndim - 1}, {leaf.ndim}], but got {dim})"
            )
        whole = samples_of(leaf, level)
        made.append(whole.movedim(0, dim) if dim else whole)
    if of_arrays:
        made = [
            t if not isinstance(t, Tensor) or t.requires_grad or t.__class__ is Batched else np.array(t._array())
            for t in made
        ]
    return trees.unflatten(structure, made)


def _one_by_one(
    func: Callable[..., Any], leaves: Sequence[Any], places: Sequence[int | None], structure: Any, size: int,
    randomness: str, out_dims: Any, name: str,
) -> Any:  # fmt: skip
    """A call for each sample: of what Numba has jitted, and of arrays where a value steers what is done."""
    parts = [None if dim is None else _samples(x, dim) for x, dim in zip(leaves, places, strict=True)]
    found, state = [], creation.get_rng_state()
    for sample in zip(*(part or [x] * size for part, x in zip(parts, leaves, strict=True)), strict=True):
        if randomness == "same":
            creation.set_rng_state(state)
        given, named = trees.unflatten(structure, list(sample))
        found.append(func(*given, **named))
        if randomness == "error" and creation.get_rng_state() != state:
            creation.set_rng_state(state)
            raise RuntimeError(
                "vmap: called random operation while in randomness error mode. Please either use the 'same' or "
                "'different' randomness flags on vmap or perform the randomness operation out of vmap"
            )
    return _gathered(found, out_dims, name)


def _narrowed(x: Any, dim: int | None, start: int, size: int) -> Any:
    return x if dim is None else x[(slice(None),) * dim + (slice(start, start + size),)]


def _joined(chunks: Sequence[Any], out_dims: Any, name: str) -> Any:
    """What was given for chunks of samples, one after another."""
    dims = _of_outputs(out_dims, chunks[0], name)
    made = []
    for dim, *parts in zip(dims, *(trees.leaves(one) for one in chunks), strict=True):
        if dim is None:
            made.append(parts[0])
        else:
            made.append((_cat if isinstance(parts[0], Tensor) else np.concatenate)(parts, dim))
    return trees.unflatten(trees.flatten(chunks[0])[1], made)


def _incompatible(where: str, args: Any) -> ValueError:
    return ValueError(
        f"{where}: in_dims is not compatible with the structure of `inputs`: it has one for each argument, or for each "
        f"part of one, and there are {len(args)} arguments"
    )


def _spread(dims: Any, tree: Any, error: Callable[[], ValueError]) -> list[Any]:
    """A dimension for each leaf of a tree: a number, or None, stands for all below."""
    if dims is None or isinstance(dims, int):
        return [dims] * len(trees.leaves(tree))
    if isinstance(dims, Mapping) and isinstance(tree, Mapping):
        if dims.keys() != tree.keys():
            raise error()
        pairs: Iterator[Any] = ((dims[name], tree[name]) for name in tree)
    elif isinstance(dims, (tuple, list)) and isinstance(tree, (tuple, list)):
        if len(dims) != len(tree):
            raise error()
        pairs = zip(dims, tree, strict=True)
    else:
        raise error()
    return [dim for part, below in pairs for dim in _spread(part, below, error)]


def _place(leaf: Any, dim: Any, where: str) -> int | None:
    """The dimension of a leaf, from 0 on."""
    if dim is None:
        return None
    if not isinstance(dim, int) or isinstance(dim, bool):
        raise ValueError(
            f"{where}: Got in_dim={dim} for an input but in_dim must be either an integer dimension or None."
        )
    if not isinstance(leaf, (Tensor, np.ndarray)):
        raise ValueError(
            f"{where}: Got in_dim={dim} for an input but the input is of type {type(leaf)}. We cannot vmap over "
            "non-Tensor arguments, please use None as the respective in_dim"
        )
    if not -leaf.ndim <= dim < leaf.ndim:
        raise ValueError(
            f"{where}: Got in_dim={dim} for some input, but that input is a Tensor of dimensionality {leaf.ndim} so "
            f"expected in_dim to satisfy -{leaf.ndim} <= in_dim < {leaf.ndim}."
        )
    return dim % leaf.ndim


def _samples(x: Any, dim: int) -> list[Any]:
    return list(x.unbind(dim)) if isinstance(x, Tensor) else list(np.moveaxis(x, dim, 0))


def _of_outputs(out_dims: Any, output: Any, name: str) -> list[Any]:
    """A dimension for each leaf of an output: of one tensor, a tuple of one number is that number."""
    if not (out_dims is None or isinstance(out_dims, (int, tuple, list, Mapping))):
        raise ValueError(
            f"vmap({name}, ..., out_dims={out_dims}): `out_dims` must be an int, None or a python collection of ints "
            "representing where in the outputs the vmapped dimension should appear."
        )
    error = ValueError(
        f"vmap({name}, ..., out_dims={out_dims})(<inputs>): out_dims is not compatible with the structure of `outputs`"
    )
    if isinstance(out_dims, tuple) and len(out_dims) == 1 and not isinstance(output, (tuple, list, Mapping)):
        (out_dims,) = out_dims
    return _spread(out_dims, output, lambda: error)


def _no_tensor(name: str, leaf: Any) -> ValueError:
    return ValueError(
        f"vmap({name}, ...): `{name}` must only return Tensors, got type {type(leaf)}. Did you mean to set `out_dims=` "
        "to None for output?"
    )


def _gathered(found: Sequence[Any], out_dims: Any, name: str) -> Any:
    """What was given for all samples, stacked."""
    leaves, structure = trees.flatten(found[0])
    rows = [trees.leaves(one) for one in found]
    dims = _of_outputs(out_dims, found[0], name)
    stacked = []
    for k, (leaf, dim) in enumerate(zip(leaves, dims, strict=True)):
        parts = [row[k] for row in rows]
        if isinstance(leaf, Tensor):
            stacked.append(_stack(parts, 0 if dim is None else dim) if dim is not None else leaf)
        elif isinstance(leaf, (np.ndarray, np.generic, int, float)):
            stacked.append(np.stack([np.asarray(part) for part in parts], 0 if dim is None else dim))
        else:
            raise _no_tensor(name, leaf)
    return trees.unflatten(structure, stacked)


# --- modules as functions ---------------------------------------------------------------------------------------------


def functional_call(
    module: Any, parameter_and_buffer_dicts: Any, args: Any = None, kwargs: dict[str, Any] | None = None, *,
    tie_weights: bool = True, strict: bool = False,
) -> Any:  # fmt: skip
    """What a module gives with other parameters and buffers: of those by their paths, in a dictionary or several.

    What the module makes of one by assigning to its name is in the dictionary afterwards, where there is one only.

    Raises
    ------
    RuntimeError, ValueError, AttributeError
        With `strict`, where one is missing or not known; where one is given twice; where there is no such module.

    >>> import tapegrad as tg
    >>> line = tg.nn.Linear(1, 1)
    >>> weights = {"weight": tg.tensor([[3.0]]), "bias": tg.tensor([0.5])}
    >>> tg.func.functional_call(line, weights, tg.tensor([2.0]))
    tensor([6.5000])
    """
    given: dict[str, Any] = {}
    dictionaries = parameter_and_buffer_dicts
    if not isinstance(dictionaries, (Mapping, list, tuple)):
        raise ValueError(
            f"Expected parameter_and_buffer_dicts to be a dict, or a list/tuple of dicts, but got {type(dictionaries)}"
        )
    for one in [dictionaries] if isinstance(dictionaries, Mapping) else dictionaries:
        if not given.keys().isdisjoint(one):
            raise ValueError(
                f"{sorted(given.keys() & one)} appeared in multiple dictionaries; behavior of functional call is "
                "ambiguous"
            )
        given |= one
    places: dict[str, tuple[dict[str, Any], str]] = {}
    for path, below in module.named_modules(remove_duplicate=False):
        for of in (below._parameters, below._buffers):
            places |= {f"{path}{'.' if path else ''}{name}": (of, name) for name, t in of.items() if t is not None}
    unknown, missing = [name for name in given if name not in places], [name for name in places if name not in given]
    if strict and (unknown or missing):
        lines = [f"Unexpected key(s): {_quoted(unknown)}."] * bool(unknown)
        lines += [f"Missing key(s): {_quoted(missing)}."] * bool(missing)
        raise RuntimeError("\n\t".join([f"Error(s) in reparametrizing for {type(module).__name__}:", *lines]))
    if tie_weights:
        of_tensor = {id(places[name][0][places[name][1]]): t for name, t in given.items() if name in places}
        given = {name: of_tensor[id(of[key])] for name, (of, key) in places.items() if id(of[key]) in of_tensor} | given
    for path in unknown:  # attributes that are no parameters, and such as aren't there yet
        above, _, name = path.rpartition(".")
        places[path] = vars(module.get_submodule(above)), name
    before = [(of, key, of.get(key, _ABSENT)) for name in given for of, key in [places[name]]]
    try:
        for name, t in given.items():
            of, key = places[name]
            of[key] = t
        args = () if args is None else args if isinstance(args, tuple) else (args,)
        return module(*args, **(kwargs or {}))
    finally:
        if isinstance(dictionaries, MutableMapping):
            for name in dictionaries:
                of, key = places[name]
                if (now := of.get(key, _ABSENT)) is not given[name] and now is not _ABSENT:
                    dictionaries[name] = now
        for of, key, t in before:
            if t is _ABSENT:
                del of[key]
            else:
                of[key] = t


_ABSENT = object()


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in sorted(names))


def stack_module_state(models: Sequence[Any]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The parameters, and the buffers, of modules of one kind, stacked: for `vmap` with `functional_call`.

    >>> import tapegrad as tg
    >>> models = [tg.nn.Linear(2, 3) for _ in range(4)]
    >>> parameters, buffers = tg.func.stack_module_state(models)
    >>> parameters["weight"].shape
    tapegrad.Size([4, 3, 2])
    """
    if not models:
        raise RuntimeError("stack_module_state: Expected at least one model, got 0.")
    if any(type(m) is not type(models[0]) for m in models):
        raise RuntimeError("stack_module_state: Expected all models to be of the same class.")
    if any(m.training != models[0].training for m in models):
        raise RuntimeError("stack_module_state: Expected all models to have the same training/eval mode.")

    def stacked(of: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        made = {name: in_grad_mode(current_tape(), False, _stack, [one[name] for one in of]) for name in of[0]}
        return {name: t.requires_grad_(of[0][name].requires_grad) for name, t in made.items()}

    return (
        stacked([dict(m.named_parameters()) for m in models]),
        stacked([dict(m.named_buffers()) for m in models]),
    )


def replace_all_batch_norm_modules_(root: Any) -> Any:
    """Have all batch normalisations in a module take each batch's own mean and variance, in place; returns it.

    Under `vmap` running ones can't be written to, since samples share them.

    >>> import tapegrad as tg
    >>> tg.func.replace_all_batch_norm_modules_(tg.nn.Sequential(tg.nn.BatchNorm1d(2)))[0].running_mean is None
    True
    """
    from tapegrad.nn.layers import BatchNorm  # layers take a while to import

    for module in root.modules():
        if isinstance(module, BatchNorm):
            module.running_mean = module.running_var = module.num_batches_tracked = None
            module.track_running_stats = False
    return root


__all__ = ["functional_call", "replace_all_batch_norm_modules_", "stack_module_state", "vmap"]
