"""Compiled functions in files: what `f.save(path)` writes; `loaded.py` reads it.

A file is a zip archive: `program.json`, a NumPy file for each array, and `checksum`, the SHA-256 of the others. It has
all programs of a function, and which arguments each is for. Operations are there by their names, arguments by their
places, and what a program reads of the function's own tensors by its elements. Nothing is unpickled. What the words of
a program mean is known to the version of tapegrad that wrote them, whose digest stands beside.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
import operator
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.lib.stride_tricks import as_strided

from tapegrad import creation, dtypes, kernels
from tapegrad.dtypes import DType
from tapegrad.kernels import digests
from tapegrad.kinds import Kind, numbers_at
from tapegrad.kinds import objects as kinds_by_index
from tapegrad.ops.declare import OPS, Reduction
from tapegrad.replay.compiled import Compiled
from tapegrad.replay.program import Given, Program, Same
from tapegrad.replay.standins import _METHODS, Again, Argument, Drawn, Number, StandIn, bits_of, reflected
from tapegrad.replay.surroundings import Modes
from tapegrad.replay.validation import Checker, InvalidError, Kernel, by_name
from tapegrad.replay.watch import Result
from tapegrad.tensor import Size, Tensor

FORMAT = "tapegrad program 1"
BLAS = {"gemm64", "gemm32", "lapack"}
KINDS_OF_TREES = {"tuple": tuple, "list": list, "dict": dict, "ordered": OrderedDict}
CLASSES: dict[str, type] = {"int": int, "bool": bool, "str": str, "bytes": bytes, "NoneType": type(None)}


def _functions() -> dict[str, Callable[..., Any]]:
    """What stand-ins call again, by name."""
    found: dict[str, Callable[..., Any]] = {}
    for name in (
        "add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and_", "or_", "xor", "lshift", "rshift", "matmul",
        "neg", "pos", "abs", "invert", "lt", "le", "gt", "ge", "eq", "ne", "getitem",
    ):  # fmt: skip
        found[name] = getattr(operator, name)
    found |= {f"reflected {meant.__name__}": function for function, meant in reflected.items()}
    found |= {f"numpy.{name}": f for name, f in vars(np).items() if isinstance(f, np.ufunc)}
    found |= {f"ndarray.{name}": getattr(np.ndarray, name) for name in _METHODS}
    return found | {"bool": bool, "type": type, "bits": bits_of, "sqrt": math.sqrt}


BY_NAME = _functions()
_NAMES = {id(function): name for name, function in reversed(BY_NAME.items())}


# --- writing ----------------------------------------------------------------------------------------------------------


class _Writer:
    """Writes what a function has learnt as JSON, and arrays apart."""

    def __init__(self) -> None:
        self.arrays: list[np.ndarray] = []

    def array(self, array: Any) -> int:
        """The number of an array in the file."""
        self.arrays.append(np.asarray(array))
        return len(self.arrays) - 1

    def function(self, compiled: Compiled) -> Any:
        """All programs, family by family."""
        # Modules stay in the modes that they are in now.
        programs = [of for of in compiled._programs if all(make() == is_so for make, is_so in _modes(of[0]))]
        if not programs:
            raise ValueError(f"save(): {compiled!r} has no program yet: call it with arguments like those it is for")
        keys = {id(family): key for key, family in compiled._families.items()}
        families: dict[int, Any] = {}
        for program, family, (places, at) in programs:
            if id(family) not in families:
                families[id(family)] = {"key": self.key(keys[id(family)], family), "programs": []}
            families[id(family)]["programs"].append(self.program(program, places, at))
        return {
            "format": FORMAT,
            "package": digests.package(),
            "name": getattr(compiled, "__qualname__", "function"),
            "ints": [[self.structure(s), place] for s, place in sorted(compiled._inputs, key=repr)],
            "families": list(families.values()),
        }

    def key(self, key: Any, family: Any) -> Any:
        """What selects a family."""
        structure, *modes, checks_nan = key[:4]
        leaves = [self.leaf(part, k, family) for k, part in enumerate(key[4:])]
        return {"structure": self.structure(structure), "modes": [*modes, checks_nan], "leaves": leaves}

    def structure(self, structure: Any) -> Any:
        """The structure of a tree, or of so many arguments."""
        if structure is None or structure.__class__ is int:
            return structure
        name = next((name for name, kind in KINDS_OF_TREES.items() if kind is structure.kind), None)
        if name is None:
            _refuse(f"takes or returns a container of the class {structure.kind.__name__}")
        return {name: [self.static(list(structure.keys)), [self.structure(item) for item in structure.items]]}

    def leaf(self, part: Any, place: int, family: Any) -> Any:
        """What an argument has to be."""
        if part is float or part is int:
            return {"input": part.__name__}
        if isinstance(part[0], np.dtype):
            dtype, shape, strides, flags = part
            return {"array": [dtype.str, list(shape), list(strides), flags]}
        if len(part) == 3:
            if part[0] is not Tensor:
                _refuse(f"has an argument of the class {part[0].__name__}")
            return {"tensor": [self.kind(kinds_by_index[part[1]]), part[2]]}
        kind, value = part
        if issubclass(kind, np.generic):
            return {"scalar": [np.dtype(kind).str, value.hex()]}
        if kind.__name__ in CLASSES and CLASSES[kind.__name__] is kind:
            return {"static": self.static(value)}
        if kind is DType:
            return {"dtype": family.kept[place].name}
        return _refuse(f"has an argument that is known by its identity alone (of the class {kind.__name__})")

    def kind(self, kind: Kind) -> Any:
        """A kind."""
        return [
            kind.dtype.name, list(kind.shape), list(kind.strides), int(kind.requires_grad), kind.is_leaf, kind.exported
        ]  # fmt: skip

    def static(self, x: Any) -> Any:
        """A value that is always the same."""
        if x is None or x.__class__ in (bool, str, int):
            return x
        if x.__class__ is float:
            return {"float": struct.pack(">d", x).hex()}
        if x.__class__ is bytes:
            return {"bytes": x.hex()}
        if x.__class__ in (tuple, list, Size):
            return {x.__class__.__name__: [self.static(item) for item in x]}
        if x.__class__ is slice:
            return {"slice": [self.static(item) for item in (x.start, x.stop, x.step)]}
        if x is Ellipsis:
            return {"Ellipsis": None}
        if isinstance(x, DType):
            return {"dtype": x.name}
        if isinstance(x, np.dtype) and not x.hasobject:
            return {"numpy": x.str}
        if isinstance(x, type) and (x in (int, float) or issubclass(x, np.generic)):
            return {"class": x.__name__}
        if isinstance(x, np.generic) and not x.dtype.hasobject:
            return {"scalar": [x.dtype.str, x.tobytes().hex()]}
        if x.__class__ is np.ndarray and not x.dtype.hasobject:
            return {"array": self.array(x)}
        return _refuse(f"depends on an object (of the class {type(x).__name__})")

    def program(self, program: Program, places: Any, at: Any) -> Any:
        """A program, and the numbers that it is for."""
        if program.has_effects or program.finds:
            _refuse("changes tensors or their gradients: what it computes has to be returned")
        if any(again is not creation._random for again, *_ in program.draws):
            _refuse("draws random numbers of a generator that it was given")
        kernels_used: list[tuple[str, str, str, int]] = []
        known: dict[int, int] = {}
        params: list[tuple[int, ...]] = []

        def kernel(address: int, families: Any) -> Kernel:
            found = _kernel_at(address, families)
            if address not in known:
                known[address] = len(kernels_used)
                kernels_used.append(found.names)
            return found

        def parameters(index: int) -> tuple[int, ...]:
            return numbers_at(index)

        text = program.text.tolist()
        bases = dict(zip(program.places.tolist(), program.bases.tolist(), strict=True))
        checker = Checker(text, bases, program.size, kernel, parameters)
        checker.check()
        for i, role in checker.roles.items():
            if role == "a kernel":
                text[i] = known[text[i]] + 1
            elif role == "parameters":
                params.append(numbers_at(text[i]))
                text[i] = len(params) - 1
            elif role == "nothing" or role in BLAS:
                text[i] = 0
        constants, content = self.constants(program)
        makes = _Makes(self)
        facts = {
            "text": self.array(np.array(text, np.int64)),
            "places": self.array(program.places),
            "bases": self.array(program.bases),
            "kernels": kernels_used,
            "params": params,
            "size": program.size,
            "constants": constants,
            "content": self.array(np.frombuffer(content, np.uint8)),
            "copied": [
                [offset, self.kind(kind), makes.of(source)]
                for offset, kind, source in program.copied
                if type(source) is not np.ndarray
            ],
            "captured": [[offset, t, self.kind(kind)] for offset, _, t, kind in program.captured if t.__class__ is int],
            "swept": [t for t in program.swept if t.__class__ is int],
            "results": [self.result(of, makes) for of in program.results],
            "which": program.which,
            "structure": self.structure(program.structure),
            "conditions": [
                [makes.of_condition(make), self.static(answer)]
                for make, answer in program.conditions
                if not isinstance(make, Modes)
            ],
            "seen": [seen.itemsize for seen in program.seen],
            "numbers": sorted(program.numbers),
            "draws": [
                [name, self.static(list(given)), self.static([[k, v] for k, v in facts.items()])]
                for _, name, given, facts in program.draws
            ],
            "at": self.static([list(places), list(at)]),
        }
        return facts | {"makes": makes.nodes}

    def constants(self, program: Program) -> tuple[list[list[int]], bytes]:
        """Elements that are always the same: also those of the function's own tensors.

        Offsets, bytes, and bytes of one; elements.
        """
        found = [(offset, program.itemsizes[offset], content) for offset, content in program.contents]
        for offset, kind, source in program.copied:
            if type(source) is np.ndarray:
                found.append((offset, kind.itemsize, np.ascontiguousarray(source, kind.dtype.numpy).tobytes()))
                if not kind.contiguous:
                    _refuse("reads an array whose elements lie apart")
        for offset, nbytes, t, kind in program.captured:
            if isinstance(t, Tensor):
                n, step = nbytes // kind.itemsize, kind.itemsize
                found.append((offset, step, as_strided(t.detach()._array(), (n,), (step,)).tobytes()))
        return [[offset, len(content), size] for offset, size, content in found], b"".join(of[2] for of in found)

    def result(self, of: Any, makes: _Makes) -> Any:
        """How an output is made."""
        if isinstance(of, Result):
            like = "Tensor" if of.like is Tensor else "float" if of.like is float else np.dtype(of.like).str
            form = "computed" if of.like in (Tensor, float) or isinstance(of.like, np.dtype) else "scalar"
            return {form: [of.offset, self.kind(of.kind), like]}
        if isinstance(of, Given):
            return {"given": of.source} if of.source.__class__ is int else {"made": makes.of(of.source)}
        if isinstance(of, Same) and isinstance(of.value, Tensor):
            return {"tensor": self.array(of.value.detach().numpy())}
        if isinstance(of, Same):
            return {"same": self.static(of.value)}
        return _refuse("returns what it has changed")


class _Makes:
    """What is made of arguments before a program is run: calls, each of arguments and of what was made before."""

    def __init__(self, writer: _Writer) -> None:
        self.writer, self.nodes, self.known = writer, list[Any](), dict[int, int]()
        self.kept: list[Any] = []

    def of(self, source: Any) -> list[Any]:
        """What stands for an array or a number: which, and how it is made."""
        return ["number" if type(source) is Number else "array", self.node(source.make)]

    def node(self, make: Any) -> int:
        """The number of a call; of an argument likewise."""
        if id(make) not in self.known:
            if isinstance(make, Argument):
                node: Any = {"argument": make.place}
            elif isinstance(make, Drawn):
                node = {"draw": make.number}
            elif isinstance(make, Again):
                node = self.call(make)
            else:
                _refuse("asks for what is found elsewhere at each call")
            self.known[id(make)] = len(self.nodes)
            self.kept.append(make)
            self.nodes.append(node)
        return self.known[id(make)]

    def call(self, make: Again) -> Any:
        """A call."""
        name = _NAMES.get(id(make.function))
        if name is None:
            _refuse(f"calls {getattr(make.function, '__name__', make.function)!r} before it is run")
        given = [self.of(x) if type(x) in (StandIn, Number) else ["static", self.writer.static(x)] for x in make.given]
        return {"call": [name, given, self.writer.static([[k, v] for k, v in make.facts.items()])]}

    def of_condition(self, make: Any) -> int:
        """A call whose answer is guarded."""
        if not isinstance(make, Again):
            _refuse("depends on whether tensors have gradients, or on an optimiser")
        return self.node(make)


def _modes(program: Program) -> list[Any]:
    """The modes of modules that a program is for."""
    return [condition for condition in program.conditions if isinstance(condition[0], Modes)]


def _refuse(what: str) -> NoReturn:
    raise ValueError(f"save(): a program that is to be saved {what}")


_addresses: dict[int, list[Kernel]] = {}


def _kernel_at(address: int, families: Any) -> Kernel:
    """The kernel at an address, of one of these families and cells."""
    table = kernels.table
    if address not in _addresses:
        _addresses.clear()
        for i in np.flatnonzero(table).tolist():
            row, cell = divmod(i, kernels.CELLS)
            opcode, code = divmod(row, len(dtypes.DTYPES))
            op = OPS[opcode]
            if not (isinstance(op, Reduction) and cell == 3):
                _addresses.setdefault(int(table[i]), []).append(Kernel(op, code, cell))
    for kernel in _addresses.get(address, ()):
        if any(isinstance(kernel.op, family) and kernel.cell in cells for family, cells in families):
            with contextlib.suppress(InvalidError):
                if by_name(*kernel.names) == kernel:
                    return kernel
    raise InvalidError("a step calls a kernel of no operation")


def save(compiled: Compiled, f: Any) -> None:
    """Write the programs of a function to a file."""
    writer = _Writer()
    with compiled._lock:
        facts = writer.function(compiled)
    members = {"program.json": json.dumps(facts, separators=(",", ":")).encode()}
    for k, array in enumerate(writer.arrays):
        content = io.BytesIO()
        np.lib.format.write_array(content, np.ascontiguousarray(array).reshape(array.shape), allow_pickle=False)
        members[f"{k}.npy"] = content.getvalue()
    whole = written(members)
    if hasattr(f, "write"):
        f.write(whole)
    else:
        Path(f).write_bytes(whole)


def written(members: dict[str, bytes]) -> bytes:
    """A file of these members, with their checksum."""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        for name, content in {**members, "checksum": checksum(members).encode()}.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return whole.getvalue()


def checksum(members: dict[str, bytes]) -> str:
    """The SHA-256 of all members, in 64 hexadecimal digits."""
    state = hashlib.sha256()
    for name in sorted(members):
        state.update(digests.tagged(name, members[name]))
    return state.hexdigest()
