"""Compiled functions from files: what `tapegrad.load` makes of what `f.save(path)` wrote, see `saved.py`.

Nothing is run before all of it is known to be right: `validation.py` says what that means for the text of a program.
"""

from __future__ import annotations

import bisect
import io
import json
import math
import operator
import struct
import types
import zipfile
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np

from tapegrad import creation, dtypes, engine, kernels, trees
from tapegrad.core.notes import ARENA, SCRATCH, TABLES, TEXT
from tapegrad.dtypes import DType
from tapegrad.kernels import digests
from tapegrad.kinds import Kind, address_of, kind_of, numbers
from tapegrad.replay.compiled import Compiled, _Family, _key, _Kin
from tapegrad.replay.program import PLAIN, Given, Miss, Program, Same
from tapegrad.replay.saved import BLAS, BY_NAME, CLASSES, FORMAT, KINDS_OF_TREES, checksum
from tapegrad.replay.standins import Again, Argument, Drawn, Number, StandIn
from tapegrad.replay.validation import Checker, InvalidError, Kernel, by_name
from tapegrad.replay.watch import Result, Seen, extent
from tapegrad.tape import Tape
from tapegrad.tensor import Size, Tensor, from_array

# --- reading ----------------------------------------------------------------------------------------------------------

_MOST_BYTES = 1 << 44  # of an arena
_MOST_PROGRAMS = 1 << 40
_NO_DRAWS = {"bit_generator", "spawn", "shuffle", "bytes"}  # what else generators have


def is_program(archive: zipfile.ZipFile) -> bool:
    """Whether an archive has programs."""
    return "program.json" in archive.namelist()


def members_of(archive: zipfile.ZipFile) -> dict[str, bytes]:
    """What is in an archive, as it was written."""
    members: dict[str, bytes] = {}
    for info in archive.infolist():
        if info.compress_type != zipfile.ZIP_STORED or info.filename in members or info.flag_bits & 1:
            raise InvalidError(f"the file's {info.filename!r} is not as it was written")
        members[info.filename] = archive.read(info)
    if members.pop("checksum", b"") != checksum(members).encode():
        raise InvalidError("the checksum is another: the file is damaged, or was changed")
    return members


def load(archive: zipfile.ZipFile, name: str) -> Loaded:
    """The function whose programs are in an archive."""
    try:
        return _Reader(members_of(archive)).function()
    except ValueError as error:
        raise InvalidError(f"load(): {name} is no file of a compiled function's save(): {error}") from error
    except Exception as error:  # whatever is in it
        raise InvalidError(f"load(): {name} is no file of a compiled function's save() ({error!r})") from error


class _Reader:
    """Reads what `_Writer` has written, and takes nothing for granted."""

    def __init__(self, members: dict[str, bytes]) -> None:
        self.members = members
        self.facts = json.loads(members["program.json"])

    def array(self, number: Any, dtype: Any = None) -> np.ndarray:
        """An array."""
        content = self.members[f"{_int(number)}.npy"]
        read: np.ndarray = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
        if dtype is not None and (read.dtype != dtype or read.ndim != 1):
            raise InvalidError(f"array {number} is one of {read.dtype} with {read.ndim} dimensions")
        return read

    def function(self) -> Loaded:
        """The function."""
        facts = self.facts
        if facts["format"] != FORMAT:
            raise InvalidError(f"its format is {facts['format']!r}, and this version of tapegrad reads {FORMAT!r}")
        if facts["package"] != digests.package():
            raise InvalidError("another version of tapegrad has written it: save the function again with this one")
        made = Loaded(_text(facts["name"]))
        made._capacity = _MOST_PROGRAMS
        made._inputs = {(self.structure(s), _int(place)) for s, place in facts["ints"]}
        kin: dict[Any, _Kin] = {}
        for of in facts["families"]:
            key, kept, classes = self.key(of["key"])
            family = made._families[key] = _Family(kin.setdefault((key[0], classes), _Kin()))
            family.kept = kept
            for program in of["programs"]:
                found, places, at = self.program(program, of["key"]["leaves"])
                made._keep(found, family, places, at)
        if not made._programs:
            raise InvalidError("it has no program")
        return made

    def key(self, facts: Any) -> Any:
        """What selects a family, what has to be kept for it, and the classes of arguments."""
        enabled, code, checks_nan = facts["modes"]
        if enabled not in (False, True) or checks_nan is not False or not 0 <= _int(code) < len(dtypes.DTYPES):
            raise InvalidError("a family is for modes that there are not")
        structure = self.structure(facts["structure"])
        parts, kept, classes = [], [], []
        for k, leaf in enumerate(facts["leaves"]):
            part, value, kind = self.leaf(leaf, k)
            parts.append(part)
            kept.append(value)
            classes.append(kind)
        n = structure if structure.__class__ is int else _n_leaves(structure)
        if n != len(parts):
            raise InvalidError(f"a family is for {n} arguments, of which {len(parts)} are described")
        return (structure, enabled, code, False, *parts), kept, tuple(classes)

    def structure(self, facts: Any) -> Any:
        """The structure of a tree, or of so many arguments."""
        if facts is None or facts.__class__ is int:
            return facts
        ((name, (keys, items)),) = facts.items()
        kind, keys = KINDS_OF_TREES[name], self.static(keys)
        if kind in (tuple, list) and keys:
            raise InvalidError("a tuple has keys")
        if issubclass(kind, dict) and (len(set(keys)) != len(items) or len(keys) != len(items)):
            raise InvalidError("a dictionary has other keys than values")
        parts = tuple([self.structure(item) for item in items])
        if any(part.__class__ is int for part in parts):
            raise InvalidError("a container has a number in the place of an item")
        return trees.Node(kind, tuple(keys), parts)

    def leaf(self, facts: Any, place: int) -> Any:
        """What an argument has to be: its part of a key, what is kept, its class."""
        ((form, of),) = facts.items()
        if form == "input":
            kind: Any = {"float": float, "int": int}[of]
            return kind, None, kind
        if form == "array":
            dtype, shape, strides, flags = (
                np.dtype(_text(of[0])),
                tuple(map(_int, of[1])),
                tuple(map(_int, of[2])),
                of[3],
            )
            return (dtype, shape, strides, _int(flags)), None, np.ndarray
        if form == "tensor":
            if not 0 <= _int(of[1]) <= place:
                raise InvalidError(f"argument {place} is the same as one that comes later")
            return (Tensor, self.kind(of[0]).index, of[1]), None, Tensor
        if form == "scalar":
            scalar = np.dtype(_text(of[0])).type
            return (scalar, bytes.fromhex(of[1])), None, scalar
        if form == "dtype":
            dtype_ = dtypes.as_dtype(of)
            return (DType, id(dtype_)), dtype_, DType
        if form != "static":
            raise InvalidError(f"argument {place} is described by {form!r}")
        value = self.static(of)
        if value.__class__ not in CLASSES.values():
            raise InvalidError(f"argument {place} is known by {value!r}")
        return (value.__class__, value), value, value.__class__

    def kind(self, facts: Any) -> Kind:
        """A kind."""
        name, shape, strides, requires_grad, is_leaf, exported = facts
        dtype = next((d for d in dtypes.DTYPES if d.name == name), None)
        shape, strides = tuple(map(_int, shape)), tuple(map(_int, strides))
        if (
            dtype is None or len(shape) != len(strides) or len(shape) > 64 or min(shape, default=0) < 0
            or min(strides, default=0) < 0 or any(step % dtype.itemsize for step in strides)
            or math.prod(max(n, 1) for n in shape) * dtype.itemsize > _MOST_BYTES
            or max(strides, default=0) > _MOST_BYTES
            or requires_grad not in (0, 1, 2, 3) or is_leaf not in (False, True) or exported not in (False, True)
        ):  # fmt: skip
            raise InvalidError(f"there is no kind of {name!r}, shape {shape}, strides {strides}")
        return kind_of(dtype, shape, strides, requires_grad, is_leaf, exported)

    def static(self, x: Any) -> Any:
        """A value that is always the same."""
        if x is None or x.__class__ in (bool, str, int):
            return x
        if x.__class__ is not dict:
            raise InvalidError(f"{x!r} is not a value as they are written")
        ((form, of),) = x.items()
        if form == "float":
            return struct.unpack(">d", bytes.fromhex(of))[0]
        if form == "bytes":
            return bytes.fromhex(of)
        if form in ("tuple", "list", "Size"):
            return {"tuple": tuple, "list": list, "Size": Size}[form]([self.static(item) for item in of])
        if form == "slice":
            return slice(*[self.static(item) for item in of])
        if form == "Ellipsis":
            return Ellipsis
        if form == "dtype":
            return dtypes.as_dtype(of)
        if form == "numpy":
            return _plain_dtype(of)
        if form == "class":
            found = {"int": int, "float": float}.get(of) or getattr(np, _text(of))
            if not (isinstance(found, type) and (found in (int, float) or issubclass(found, np.generic))):
                raise InvalidError(f"{of!r} is no class of numbers")
            return found
        if form == "scalar":
            return np.frombuffer(bytes.fromhex(of[1]), _plain_dtype(of[0]))[0]
        if form == "array":
            return self.array(of)
        raise InvalidError(f"{form!r} is not a form of values")

    # --- programs -----------------------------------------------------------------------------------------------------

    def program(self, facts: Any, leaves: Sequence[Any]) -> Any:
        """A program; the places of numbers that it is for, and these."""
        text = self.array(facts["text"], np.int64).tolist()
        places, base = self.array(facts["places"], np.int64), self.array(facts["bases"], np.int64)
        size = _int(facts["size"])
        if len(places) != len(base) or len({*places.tolist()}) != len(places) or not 0 <= size <= _MOST_BYTES:
            raise InvalidError(f"a program has {len(places)} addresses of {len(base)} bases, in {size} bytes")
        bases = dict(zip(places.tolist(), base.tolist(), strict=True))
        if not {*bases.values()} <= {ARENA, TEXT, TABLES, SCRATCH}:
            raise InvalidError("an address has a base that there is not")
        used = [by_name(*names) for names in facts["kernels"]]
        params = [tuple([_word(p) for p in of]) for of in facts["params"]]

        def kernel(word: int, _: Any) -> Kernel:
            if not 1 <= word <= len(used):
                raise InvalidError(f"a step calls kernel {word} of {len(used)}")
            return used[word - 1]

        def parameters(word: int) -> tuple[int, ...]:
            if not 0 <= word < len(params):
                raise InvalidError(f"a step has parameters {word} of {len(params)}")
            return params[word]

        checker = Checker(text, bases, size, kernel, parameters)
        checker.check()
        spans = _Spans(checker, text, size)
        self._enter(text, checker, used, params)
        draws = [self.draw(*of) for of in facts["draws"]]
        makes = self.makes(facts["makes"], leaves, len(draws))
        expected = np.array(text, np.int64).tobytes()
        seen = [
            Seen("a line of the function", at, n, expected[of : of + n], _size(n, size))
            for (at, of, n), size in zip(checker.guards, facts["seen"], strict=True)
        ]
        copied = []
        for offset, kind, (form, node) in facts["copied"]:
            of = self.kind(kind)
            spans.covers(_int(offset), of)
            copied.append((offset, of, _stand_in(form, _item(makes, node))))
        captured = []
        for offset, place, kind in facts["captured"]:
            of = self.kind(kind)
            spans.covers(_int(offset), of)
            if "tensor" not in _item(leaves, place):
                raise InvalidError(f"argument {place} is read as a tensor")
            captured.append((offset, extent(of), place, of))
        given_numbers = frozenset(_place(leaves, place) for place in facts["numbers"])
        places_at, at = self.static(facts["at"])
        if sorted(given_numbers) != places_at or len(at) != len(places_at):
            raise InvalidError("a program is for other numbers than it says")
        contents, itemsizes = self.contents(facts, spans)
        results = [self.result(of, spans, makes, leaves) for of in facts["results"]]
        placed = spans.placed()
        end = int(placed[-1].sum()) if len(placed) else 0
        if size > 4 * end + 4096:
            raise InvalidError(f"a program has {size} bytes, and reads none behind {end}")
        structure = self.structure(facts["structure"])
        which = [_place(results, k) for k in facts["which"]]
        if (1 if structure is None else _n_leaves(structure)) != len(which):
            raise InvalidError(f"a program has {len(which)} results, of another structure")
        program = Program.of(
            text=np.array(text, np.int64), places=places, bases=base, size=size,
            contents=contents, copied=copied, captured=captured,
            swept=[_place(leaves, place) for place in facts["swept"]], results=results, which=which,
            structure=structure,
            conditions=[(_condition(_item(makes, node)), self.static(answer)) for node, answer in facts["conditions"]],
            draws=draws, seen=seen, numbers=given_numbers, guards=checker.guard_steps,
            is_shared_out=checker.is_shared_out, placed=placed, itemsizes=itemsizes,
        )  # fmt: skip
        return program, tuple(places_at), tuple(at)

    @staticmethod
    def _enter(text: list[int], checker: Checker, used: list[Kernel], params: list[tuple[int, ...]]) -> None:
        """Enter what is another in each process: addresses of kernels, places of parameters."""
        addresses = [kernel.address for kernel in used]
        if 0 in addresses:
            raise InvalidError(f"there is no kernel of {used[addresses.index(0)].op.name!r} as the program calls it")
        for op, code in checker.needed:
            kernels.require(op, code, False)
        takes = {name for kernel in used for name in kernel.takes}
        routines = engine.routines() if takes & {"gemm", "lapack"} else None
        blas = dict.fromkeys(BLAS, 0)
        if routines is not None:
            blas = {"gemm64": int(routines[0]), "gemm32": int(routines[1]), "lapack": address_of(routines)}
        for i, role in checker.roles.items():
            if role == "a kernel":
                text[i] = addresses[text[i] - 1]
            elif role == "parameters":
                text[i] = numbers(params[text[i]])
            elif role == "nothing":
                text[i] = 0
            elif role in blas:
                text[i] = blas[role]

    def contents(self, facts: Any, spans: _Spans) -> tuple[list[tuple[int, bytes]], dict[int, int]]:
        """Elements that are always the same; by their offsets the bytes of one."""
        content, at, found = self.array(facts["content"], np.uint8).tobytes(), 0, []
        itemsizes: dict[int, int] = {}
        for offset, nbytes, itemsize in facts["constants"]:
            spans.keeps(_int(offset), _int(nbytes))
            itemsizes[offset] = _size(nbytes, itemsize)
            found.append((offset, content[at : at + nbytes]))
            at += nbytes
        if at != len(content):
            raise InvalidError(f"there are {len(content)} bytes of constants, of {at}")
        return found, itemsizes

    def draw(self, name: Any, given: Any, facts: Any) -> Any:
        """How random numbers are drawn."""
        if not callable(getattr(np.random.Generator, _text(name), None)) or name in _NO_DRAWS or name[0] == "_":
            raise InvalidError(f"{name!r} draws no random numbers")
        return creation._random, name, tuple(self.static(given)), {_text(k): v for k, v in self.static(facts)}

    def makes(self, nodes: Any, leaves: Sequence[Any], n_draws: int) -> list[Any]:
        """What is made of arguments, and of draws."""
        made: list[Any] = []
        for node in nodes:
            ((form, of),) = node.items()
            if form == "argument":
                made.append(Argument(_place(leaves, of)))
                continue
            if form == "draw":
                made.append(Drawn(_place(range(n_draws), of)))
                continue
            name, given, facts = of
            if form != "call" or name not in BY_NAME:
                raise InvalidError(f"{name!r} is not what is called before a program is run")
            arguments = tuple(self.static(x) if how == "static" else _stand_in(how, _item(made, x)) for how, x in given)
            made.append(Again(BY_NAME[name], arguments, {_text(k): v for k, v in self.static(facts)}))
        return made

    def result(self, facts: Any, spans: _Spans, makes: list[Any], leaves: Sequence[Any]) -> Any:
        """How an output is made."""
        ((form, of),) = facts.items()
        if form in ("computed", "scalar"):
            offset, kind = _int(of[0]), self.kind(of[1])
            if offset >= 0 or kind.numel:
                spans.covers(offset, kind)
            like: Any = {"Tensor": Tensor, "float": float}.get(of[2]) or _plain_dtype(of[2])
            if form == "scalar":
                like = like.type
            if (form == "scalar" or like is float) and kind.numel != 1:
                raise InvalidError(f"a number is made of {kind.numel} elements")
            return Result(offset, kind, like)
        if form == "given":
            return Given(_place(leaves, of))
        if form == "made":
            return Given(_stand_in(of[0], _item(makes, of[1])))
        if form == "tensor":
            return Same(from_array(self.array(of)))
        if form != "same":
            raise InvalidError(f"a result is {form!r}")
        return Same(self.static(of))


class _Spans:
    """The memory of a program: which parts of it are touched."""

    def __init__(self, checker: Checker, text: list[int], size: int) -> None:
        self.size = size
        # What is named, and not touched, is somewhere too.
        named = [text[i] for i, base in checker.bases.items() if base == ARENA]
        self.parts = [(at, at + 1) for at in named if 0 <= at < size]
        self.parts += [(low, high) for low, high, _ in checker.reaches]
        writes = sorted((low, high) for low, high, is_written in checker.reaches if is_written)
        self.starts, self.ends, end = [low for low, _ in writes], list[int](), 0
        for _, high in writes:
            end = max(end, high)
            self.ends.append(end)

    def covers(self, offset: int, kind: Kind) -> None:
        """A value has to be in it."""
        if not 0 <= offset <= self.size - extent(kind):
            raise InvalidError(f"{extent(kind)} bytes at {offset} are not within the {self.size} of a program")
        self.parts.append((offset, offset + max(extent(kind), 1)))

    def keeps(self, offset: int, nbytes: int) -> None:
        """Constants have to be in it, and no step writes to them."""
        if not (nbytes >= 0 and 0 <= offset <= self.size - nbytes):
            raise InvalidError(f"{nbytes} bytes at {offset} are not within the {self.size} of a program")
        self.parts.append((offset, offset + max(nbytes, 1)))
        before = bisect.bisect_left(self.starts, offset + nbytes)
        if nbytes and before and self.ends[before - 1] > offset:
            raise InvalidError(f"a step writes to the constants at {offset}")

    def placed(self) -> np.ndarray:
        """Parts that overlap, as one: rows of their offsets, and bytes."""
        parts = np.array(sorted({*self.parts}), np.int64).reshape(-1, 2)
        ends = np.maximum.accumulate(parts[:, 1])
        begins = np.flatnonzero(np.concatenate([[True], parts[1:, 0] >= ends[:-1]])[: len(parts)])
        starts = parts[begins, 0]
        return np.stack([starts, ends[np.append(begins[1:], len(parts)) - 1] - starts], 1) if len(parts) else parts


_alive = types.SimpleNamespace(is_over=False)


def _stand_in(form: str, make: Any) -> Any:
    if form not in ("array", "number"):
        raise InvalidError(f"{form!r} is not what stands for an argument")
    return Number(_alive, 0.0, make, None) if form == "number" else StandIn(_alive, np.zeros(0), make)


def _condition(make: Any) -> Any:
    if not isinstance(make, Again):
        raise InvalidError("a condition calls nothing")
    return make


def _int(x: Any) -> int:
    if x.__class__ is not int or not -(1 << 62) < x < 1 << 62:
        raise InvalidError(f"{x!r} is not an int")
    return x


def _size(nbytes: int, itemsize: Any) -> int:
    """The bytes of an element, of so many bytes of them."""
    if not any(d.itemsize == _int(itemsize) for d in dtypes.DTYPES) or nbytes % itemsize:
        raise InvalidError(f"{nbytes} bytes are not elements of {itemsize}")
    return itemsize  # type: ignore[no-any-return]


def _word(x: Any) -> int:
    if x.__class__ is not int or not -(1 << 63) <= x < 1 << 63:
        raise InvalidError(f"{x!r} is not a parameter")
    return x


def _text(x: Any) -> str:
    if x.__class__ is not str:
        raise InvalidError(f"{x!r} is not a text")
    return x


def _place(items: Sequence[Any], place: Any) -> int:
    if not 0 <= _int(place) < len(items):
        raise InvalidError(f"there is no argument {place} of {len(items)}")
    return place  # type: ignore[no-any-return]


def _item(items: Sequence[Any], place: Any) -> Any:
    if not 0 <= _int(place) < len(items):
        raise InvalidError(f"there is no item {place} of {len(items)}")
    return items[place]


def _plain_dtype(x: Any) -> np.dtype:
    dtype = np.dtype(_text(x))
    if dtype.hasobject or dtype.names or dtype.subdtype:
        raise InvalidError(f"{x!r} is no dtype of numbers")
    return dtype


def _n_leaves(structure: Any) -> int:
    return 1 if structure is None else sum(map(_n_leaves, structure.items))


class Loaded(Compiled):
    """A compiled function without its Python function: it has the programs that were saved."""

    def __init__(self, name: str) -> None:
        def absent(*_: Any, **__: Any) -> Any:
            self._lack(
                "it is called inside another function that is recorded, where it can't be replayed, or mapped over "
                "Tensors that require grad"
            )

        absent.__name__ = absent.__qualname__ = name
        super().__init__(absent, 1)

    def __repr__(self) -> str:
        return f"<compiled {self.__name__}, from a file>"  # type: ignore[attr-defined]

    def _lack(self, why: str) -> NoReturn:
        raise RuntimeError(
            f"{self!r} has no program for this call, and the Python function is not there: {why}. Call the function "
            "with such arguments before it is saved"
        )

    def _new_family(self, *_: Any) -> _Family:
        return _Family(_Kin())

    def _plainly(self, *_: Any) -> Any:
        self._lack("a tensor among the arguments has hooks, belongs to another thread, or is not as it was")

    def _record(self, *call: Any) -> Any:
        """What another family's program answers; or that of arrays and Tensors in another order."""
        tape, family, *_, leaves, structure, line = call
        for other in self._families_for(tape, leaves, structure):
            for program, found in other.attempts(tape, leaves) if other is not family else ():
                if found.__class__ is Miss:
                    line = line or program.seen[found.guard].line
                elif found is not PLAIN:
                    return found
        if line:
            self._lack("Python code would see other values than in any call that was recorded")
        ordered = [_ordered(leaf) for leaf in leaves]
        if all(map(operator.is_, ordered, leaves)):
            self._lack("there was none with arguments of these structures, shapes, dtypes, modes and static values")
        if structure.__class__ is int:
            return self(*ordered)
        args, kwargs = trees.unflatten(structure, ordered)
        return self(*args, **kwargs)

    def _families_for(self, tape: Tape, leaves: Any, structure: Any) -> list[_Family]:
        """Families whose programs answer the same.

        No result requires grad: so they are for both modes. An int that has become an input may have been another one
        when a program was recorded.
        """
        keys = [_key(tape, leaves, structure, inputs) for inputs in (self._inputs, set())]
        known = [key for key in keys if key is not None]
        known += [(key[0], not key[1], *key[2:]) for key in known]
        return [self._families[key] for key in dict.fromkeys(known) if key in self._families]


def _ordered(leaf: Any) -> Any:
    """An array, or a Tensor, with its elements in order."""
    if leaf.__class__ is np.ndarray:
        is_ordered = leaf.flags.c_contiguous and leaf.flags.aligned and leaf.flags.writeable
        return leaf if is_ordered else np.array(leaf, order="C")
    if leaf.__class__ is Tensor and not leaf.requires_grad:
        return leaf.contiguous()
    return leaf


__all__ = ["InvalidError", "Loaded", "is_program", "load"]
