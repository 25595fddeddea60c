"""Tensors, and trees of them, in files: `save` and `load`.

A file is a zip archive with a NumPy file for each tensor or array, and `tree.json`, which says how they are put
together. Nothing is unpickled: what is loaded is data, wherever it comes from.
"""

from __future__ import annotations

import io
import json
import os
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from tapegrad import aliasing, dtypes
from tapegrad.devices import check_device
from tapegrad.interop import shown_of
from tapegrad.kinds import contiguous_strides
from tapegrad.replay import loaded
from tapegrad.tensor import Tensor, from_array

_FORMAT = "tapegrad 1"


MAP_LOCATION = Any  # where `load` puts tensors, for annotations


class _UnreadableError(RuntimeError, ValueError):
    """A file is none that was saved: RuntimeError, as in PyTorch, and ValueError, as of files of compiled functions."""


_PLAIN = (bool, int, float, str, type(None))


def save(obj: Any, f: Any) -> None:
    """Write tensors to a file.

    Parameters
    ----------
    obj : object
        Tensors, arrays, numbers, texts, dtypes and None, and dictionaries, lists and tuples of such: a `state_dict`, or
        several. Tensors that share elements go on to share them.
    f : str, Path or binary file
        Where to.

    Raises
    ------
    TypeError, AttributeError
        For anything else; of a module, save the `state_dict`. Where `f` is no place to write to.

    >>> import io
    >>> import tapegrad as tg
    >>> file = io.BytesIO()
    >>> tg.save({"weights": tg.ones(2), "epoch": 3}, file)
    >>> _ = file.seek(0)
    >>> tg.load(file)
    {'weights': tensor([1., 1.]), 'epoch': 3}
    """
    if not isinstance(f, (str, os.PathLike)) and not hasattr(f, "write"):
        raise AttributeError(
            f"expected 'f' to be string, path, or a file-like object with a 'write' attribute, not {type(f).__name__}"
        )
    arrays: dict[int, tuple[int, Any]] = {}  # by identity: number, and what has it
    tree = json.dumps({_FORMAT: _written(obj, arrays, {})})
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("tree.json", tree)
        for number, held in arrays.values():
            of = held.detach()._array() if isinstance(held, Tensor) else held
            content = io.BytesIO()
            np.lib.format.write_array(content, np.ascontiguousarray(of).reshape(of.shape), allow_pickle=False)
            archive.writestr(f"{number}.npy", content.getvalue())
    if hasattr(f, "write"):
        f.write(whole.getvalue())
    else:
        Path(f).write_bytes(whole.getvalue())


def _written(o: Any, arrays: dict[int, tuple[int, Any]], tensors: dict[int, int]) -> Any:
    """A tree in JSON's terms."""
    if isinstance(o, np.ndarray) and o.dtype.kind in "biuf":
        return {"array": arrays.setdefault(id(o), (len(arrays), o))[0]}
    if isinstance(o, Tensor):
        origin, window = shown_of(o)
        if window == (origin._kind.shape, contiguous_strides(origin._kind.shape, origin._kind.itemsize), 0):
            window = None
        return {
            "tensor": tensors.setdefault(id(o), len(tensors)),
            "of": arrays.setdefault(id(origin), (len(arrays), origin))[0],
            "window": window,
            "requires_grad": o.requires_grad,
            "note": getattr(o, "_note", None),
        }
    if isinstance(o, np.generic):
        o = o.item()
    if isinstance(o, _PLAIN):
        return o
    if isinstance(o, dtypes.DType):
        return {"dtype": o.name}
    if isinstance(o, dict):
        kind = "ordered" if isinstance(o, OrderedDict) else "dict"
        return {kind: [[_written(key, arrays, tensors), _written(value, arrays, tensors)] for key, value in o.items()]}
    if isinstance(o, (list, tuple)):
        kind = "list" if isinstance(o, list) else "tuple"
        return {kind: [_written(value, arrays, tensors) for value in o]}
    repair = ": save its state_dict()" if hasattr(o, "state_dict") else ""
    raise TypeError(
        f"save() writes tensors, arrays, numbers, texts, and dictionaries, lists and tuples of them, but not "
        f"{type(o).__name__}{repair}"
    )


def load(f: Any, map_location: Any = None, weights_only: bool = True, **facts: Any) -> Any:
    """Read what `save` wrote, or what a compiled function's `save` did; `map_location` must be the CPU.

    Raises
    ------
    RuntimeError
        For a file that `save` did not write (it is a ValueError too).
    ValueError
        For a file of a compiled function that is damaged, or that another version of tapegrad wrote.

    >>> import tapegrad as tg
    >>> import io
    >>> file = io.BytesIO()
    >>> tg.save({"w": tg.ones(2)}, file)
    >>> _ = file.seek(0)
    >>> tg.load(file)
    {'w': tensor([1., 1.])}
    """
    del weights_only  # there is nothing else
    if facts:
        raise TypeError(f"load() got an unexpected keyword argument '{next(iter(facts))}'")
    if isinstance(map_location, str):
        check_device(map_location)
    try:
        with zipfile.ZipFile(f) as archive:
            if loaded.is_program(archive):
                return loaded.load(archive, str(getattr(f, "name", "the file" if hasattr(f, "read") else f)))
            known = json.loads(archive.read("tree.json"))

            def array(number: int) -> np.ndarray:
                content = io.BytesIO(archive.read(f"{int(number)}.npy"))
                read: np.ndarray = np.lib.format.read_array(content, allow_pickle=False)
                return read

            return _read(known[_FORMAT], array, {}, {})
    except (FileNotFoundError, loaded.InvalidError):
        raise
    except (KeyError, ValueError, TypeError, EOFError, RuntimeError, struct.error, zipfile.BadZipFile) as error:
        raise _UnreadableError(
            f"load(): {getattr(f, 'name', f)} was not written by tapegrad.save (files of other libraries are not "
            f"read): {error}"
        ) from error


def _read(o: Any, array: Any, tensors: dict[int, Tensor], origins: dict[int, Tensor]) -> Any:
    if not isinstance(o, dict):
        return o
    if "tensor" in o:
        number = o["tensor"]
        if number not in tensors:
            t = tensors[number] = _shown(o["window"], o["of"], array, origins).requires_grad_(bool(o["requires_grad"]))
            if o["note"]:
                t._note = str(o["note"])
        return tensors[number]
    ((kind, content),) = o.items()
    if kind == "array":
        return array(content)
    if kind == "dtype":
        return dtypes.as_dtype(content)
    if kind in ("dict", "ordered"):
        pairs = [tuple(_read(item, array, tensors, origins) for item in pair) for pair in content]
        return OrderedDict(pairs) if kind == "ordered" else dict(pairs)
    values = [_read(value, array, tensors, origins) for value in content]
    return tuple(values) if kind == "tuple" else values


def _shown(window: Any, of: int, array: Any, origins: dict[int, Tensor]) -> Tensor:
    """A tensor with the elements of an array, or those in a window: the first that has all has them for its own."""
    if of not in origins:
        origins[of] = from_array(array(of))
        if window is None:
            return origins[of]
    if window is None:
        return origins[of].detach()
    shape, strides, start = window
    return aliasing.show(origins[of], tuple(shape), tuple(strides), start)


__all__ = ["load", "save"]
