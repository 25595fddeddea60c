"""Compiled functions in jitted code: `f.jitted()` and `f.cfunc()`, the Python half of `core/serving.py`.

Of each program of a family a plan is made at each seat: where arguments go, what has to hold, where results are. The
function for jitted code is written for the arguments of the example: it looks at their shapes, and passes addresses.
"""

from __future__ import annotations

import functools
import math
import os
import struct
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.lib.stride_tricks import as_strided

from tapegrad import engine, locks, trees
from tapegrad.core import calling, serving
from tapegrad.core.calling import CallCopy, CallNumber
from tapegrad.core.serving import Seat, Served, ServedPlan, serve
from tapegrad.kernels import native
from tapegrad.kinds import address_of
from tapegrad.replay.entry import UnplannedError, _Numbers, _row
from tapegrad.replay.program import Given, Memory, Program, Same
from tapegrad.replay.standins import Number
from tapegrad.replay.surroundings import Modes
from tapegrad.replay.watch import Result
from tapegrad.tape import Tape, apart
from tapegrad.tensor import Tensor

_MOST_NUMBERS = 256
_MOST_SEATS = 8
_FLOATS = (np.dtype(np.float64), np.dtype(np.float32))
_kept: list[Any] = []  # compiled code has their addresses, for good
_lock = locks.lock()


class _Place:
    """A seat: a tape, and the word that says whether someone has it."""

    def __init__(self) -> None:
        self.tape, self.busy = apart(), np.zeros(1, np.int64)


_places: list[_Place] = []


def _seats() -> list[_Place]:
    """As many as there are processors, made once."""
    with _lock:
        if not _places:
            _places.extend(_Place() for _ in range(min(os.cpu_count() or 1, _MOST_SEATS)))
    return _places


def _free_all() -> None:
    """In a child, nobody has a seat that another thread had."""
    for place in _places:
        place.busy[0] = 0


locks.in_child.append(_free_all)


class _OfCaller(_Numbers):
    """What Python computes with the caller's numbers, which are met by their places."""

    def __init__(self, leaves: Sequence[Any]) -> None:
        super().__init__(leaves, _MOST_NUMBERS)
        self.given: dict[int, int] = {}

    def made_by(self, make: Any) -> int:
        """The address of the number that this makes of arguments."""
        return self.at(make.place) if hasattr(make, "place") else super().made_by(make)

    def at(self, place: int) -> int:
        """The address of an argument."""
        if not _is_number(self.leaves[place]):
            raise UnplannedError
        if place not in self.given:
            self.given[place] = self._place()
        return self.given[place]

    def compare(self, make: Any, answer: Any) -> None:
        """Numbers have to compare as they did; modules stay in the modes that they are in now."""
        if not isinstance(make, Modes):
            super().compare(make, answer)
        elif make() != answer:
            raise UnplannedError

    def same(self, place: int, bits: Any) -> None:
        """A number has to have these bits."""
        if bits.__class__ is int:
            raise UnplannedError
        a, b = self.at(place), self.of(struct.unpack("=d", bits)[0])
        self.rows.append(_row(CallNumber, what=calling.SAME_BITS, a=a, b=b))


def _is_number(leaf: Any) -> bool:
    """Whether jitted code gives a number: also for an array of floats, or a Tensor, without dimensions."""
    if isinstance(leaf, Tensor):
        return leaf._kind.shape == () and leaf.dtype.is_floating_point
    return type(leaf) is float or (type(leaf) is np.ndarray and leaf.shape == () and leaf.dtype in _FLOATS)


def _table(rows: Sequence[Sequence[int]]) -> int:
    """The address of rows of words."""
    array = np.array([word for row in rows for word in row] or [0], np.int64)
    _kept.append(array)
    return address_of(array)


def _plan(program: Program, tape: Tape, leaves: Sequence[Any], places: dict[int, int], at: Any) -> int:
    """The address of the plan of a program at a seat; `places` are those of arguments among what is given."""
    memory, numbers = Memory(program, tape), _OfCaller(leaves)
    memory.speed_up(program)
    for make, answer in program.conditions:
        numbers.compare(make, answer)
    for place, bits in zip(*at, strict=True):
        numbers.same(place, bits)
    copies = [
        _row(CallCopy, target=memory.at + offset, **_copied(kind, source, leaves, places, numbers))
        for offset, kind, source in program.copied
    ] + [
        _row(CallCopy, target=memory.at + offset, **_captured(kind, nbytes, t, leaves, places, numbers))
        for offset, nbytes, t, kind in program.captured
    ]
    made = [_row(CallCopy, place=k, **_result(of, memory, numbers)) for k, of in enumerate(program.outputs)]
    given = [numbers.given.get(place, 0) for place in places]
    guards = [[memory.text_at + 8 * step for step in program.guards]]
    words = _row(
        ServedPlan, header=tape.header_address, group=id(program.nodes[0]), n_given=len(given), given=_table([given]),
        n_numbers=len(numbers.rows), numbers=_table(numbers.rows), n_copies=len(copies), copies=_table(copies),
        n_guards=len(guards[0]), guards=_table(guards), n_made=len(made), made=_table(made), text=memory.run_at,
        tables=memory.tables_at,
    )  # fmt: skip
    _kept.append((memory, numbers, program))
    return _table([words])


def _copied(
    kind: Any, source: Any, leaves: Sequence[Any], places: dict[int, int], numbers: _OfCaller
) -> dict[str, Any]:  # fmt: skip
    """How what is made of arguments, or an array of the function's own, is copied in."""
    if not kind.contiguous:
        raise UnplannedError
    if type(source) is np.ndarray:
        return {"object": _snapshot(np.array(source, kind.dtype.numpy)), "nbytes": kind.numel * kind.itemsize}
    place = getattr(source.make, "place", None)
    leaf = None if place is None else leaves[place]
    if type(source) is Number or _is_number(leaf):
        return _of_number(kind, numbers.made_by(source.make))
    if place is None or type(leaf) is not np.ndarray or leaf.dtype != kind.dtype.numpy or leaf.shape != kind.shape:
        raise UnplannedError
    return {"place": places[place], "nbytes": kind.numel * kind.itemsize}


def _captured(
    kind: Any, nbytes: int, t: Any, leaves: Sequence[Any], places: dict[int, int], numbers: _OfCaller
) -> dict[str, Any]:  # fmt: skip
    """How the elements of a Tensor are copied in, one of the function's own, or an argument's place."""
    if isinstance(t, Tensor):
        n, step = nbytes // kind.itemsize, kind.itemsize
        return {"object": _snapshot(as_strided(t.detach()._array(), (n,), (step,)).copy()), "nbytes": nbytes}
    if _is_number(leaves[t]):
        return _of_number(kind, numbers.at(t))
    if not kind.contiguous:
        raise UnplannedError
    return {"place": places[t], "nbytes": nbytes}


def _of_number(kind: Any, address: int) -> dict[str, Any]:
    """How a number at an address is copied to where a value of this kind is."""
    if kind.numel != 1 or not kind.dtype.is_floating_point:
        raise UnplannedError
    return {"what": serving.SINGLE if kind.itemsize == 4 else serving.DOUBLE, "object": address}


def _snapshot(array: np.ndarray) -> int:
    _kept.append(array)
    return address_of(array)


def _result(of: Any, memory: Memory, numbers: _OfCaller) -> dict[str, Any]:
    """Where a result is, and how it is copied."""
    if isinstance(of, Result):
        kind, address = of.kind, memory.at + max(of.offset, 0)
        if _form(of) is None:
            return _of_number(kind, address)
        is_same = of.like is Tensor or (isinstance(of.like, np.dtype) and of.like == kind.dtype.numpy)
        if not (is_same and kind.contiguous):
            raise UnplannedError
        return {"what": serving.ELEMENTS, "object": address, "nbytes": kind.numel * kind.itemsize}
    if isinstance(of, Same):
        address = numbers.of(of.value)
    elif isinstance(of, Given) and type(of.source) in (int, Number):
        address = numbers.at(of.source) if of.source.__class__ is int else numbers.made_by(of.source.make)
    else:
        raise UnplannedError
    return {"what": serving.DOUBLE, "object": address}


def _form(of: Any) -> tuple[np.dtype, tuple[int, ...]] | None:
    """The dtype and the shape of a result; None of what is a number in jitted code."""
    if isinstance(of, Result) and of.like is not float and (of.kind.shape or not of.kind.dtype.is_floating_point):
        return of.kind.dtype.numpy, of.kind.shape
    return None


def _facts(leaf: Any) -> tuple[np.dtype, tuple[int, ...]] | None:
    """The dtype and the shape of an array or a Tensor; None of a number."""
    if _is_number(leaf):
        return None
    if isinstance(leaf, Tensor):
        return leaf.dtype.numpy, tuple(leaf.shape)
    return leaf.dtype, leaf.shape


class Call:
    """How a function is called from jitted code: facts of what it takes and gives, and where it is served."""

    def __init__(self, compiled: Any, args: Sequence[Any], name: str) -> None:
        if not native.JIT:
            _refuse(name, "Numba compiles nothing here (NUMBA_DISABLE_JIT)")
        why, programs = compiled.programs_for(args)
        leaves = trees.leaves(tuple(args))
        taken = [k for k, leaf in enumerate(leaves) if isinstance(leaf, (float, np.ndarray, Tensor))]
        places = {place: k for k, place in enumerate(taken)}
        plans: list[list[int]] = [[] for _ in _seats()]
        for place in _seats():
            engine.ready(place.tape)
        made: list[Any] | None = None
        for program, at in programs:
            forms = [_form(of) for of in program.outputs]
            if program.draws or program.has_effects or program.finds or made not in (None, forms):
                continue
            try:
                own = [_plan(program, place.tape, leaves, places, at) for place in _seats()]
            except UnplannedError:
                continue
            made = forms
            for k, plan in enumerate(own):
                plans[k].append(plan)
        if made is None:
            why = why or (
                "it changes tensors, draws random numbers, applies NumPy's functions to arrays (give Tensors in their "
                "place), takes ints that change, or returns what it does not compute"
            )
            _refuse(name, f"{compiled!r} has no program for such arguments that runs without Python: {why}")
        self.given = [_facts(leaves[k]) for k in taken]
        self.made = made
        self.name = compiled.__name__
        seats = [
            _row(Seat, busy=address_of(place.busy), n_plans=len(own), plans=_table([own]))
            for place, own in zip(_seats(), plans, strict=True)
        ]
        self.served = _table([_row(Served, n_seats=len(seats), seats=_table(seats))])
        self.address = native.link(serve.__name__, 3, functools.partial(native.rebind, serve), (serve,), returns=True)


def _refuse(name: str, why: str) -> NoReturn:
    raise ValueError(f"{name}(): {why}")


def jitted(compiled: Any, args: Sequence[Any]) -> Callable[..., Any]:
    """The function for jitted code."""
    import numba

    call = Call(compiled, args, "jitted")
    n_given, n_made = len(call.given), len(call.made)
    scope: dict[str, Any] = {"np": np, "serve": _intrinsic(call)}
    inputs = [f"a{k}" for k in range(n_given)]
    outputs = [f"out{k}" for k, of in enumerate(call.made) if of is not None]
    lines = []
    for k, of in enumerate(call.given):
        if of is not None:
            lines.append(f"a{k} = np.ascontiguousarray(a{k})" if of[1] else "")
            lines.append(_check(f"a{k}", of, f"argument {k}", call.name))
    lines += [
        _check(f"out{k}", of, f"the array for result {k}", call.name)
        for k, of in enumerate(call.made)
        if of is not None
    ]
    numbers = [f"made[{1 + i}]" for i in range(n_made - len(outputs))]
    text = "\n ".join(line for line in lines if line)
    failure = f"{call.name}: no program was recorded for these arguments (call the compiled function with such, then "
    source = (
        f"def {_identifier(call.name)}({', '.join(inputs + outputs)}):\n {text}\n"
        f" made = serve({', '.join(inputs + outputs)})\n"
        f" if made[0] == {serving.NO_PROGRAM}: raise RuntimeError({failure + 'jitted() again)'!r})\n"
        f" if made[0] != 0: raise RuntimeError({call.name + ': what is computed failed'!r})\n"
        f" return {numbers[0] if len(numbers) == 1 else '(' + ', '.join(numbers) + ')' if numbers else 'None'}\n"
    )
    exec(source, scope)  # noqa: S102
    made = numba.njit(scope[_identifier(call.name)])
    _kept.append((call, made))
    return made  # type: ignore[no-any-return]


def cfunc(compiled: Any, args: Sequence[Any]) -> Any:
    """The function as one of C's."""
    import numba
    from numba import types

    call = Call(compiled, args, "cfunc")
    number, pointer, n = types.float64, types.CPointer(types.float64), len(call.given)
    scope: dict[str, Any] = {"np": np, "carray": numba.carray, "serve": _intrinsic(call)}
    of_numbers = call.given == [None] * n and n > 0
    of_array = n == 1 and call.given[0] is not None and call.given[0][0] == np.float64
    if call.made != [None] or not (of_numbers or of_array):
        _refuse("cfunc", "a function of C's is one of floats, or of one array of float64, that returns one number")
    if of_array:
        assert call.given[0] is not None
        shape = call.given[0][1]
        signature = types.intc(pointer, types.intp, pointer, types.CPointer(types.void))
        source = (
            "def function(elements, n, result, data):\n"
            f" if n != {math.prod(shape)}: return 0\n"
            f" made = serve(carray(elements, {shape}))\n"
            " result[0] = made[1]\n"
            " return 1 if made[0] == 0 else 0\n"
        )
    elif n == 1:
        signature = number(number)
        source = "def function(x):\n made = serve(x)\n return made[1] if made[0] == 0 else np.nan\n"
    else:
        signature = number(types.intc, pointer)
        given = ", ".join(f"x[{k}]" for k in range(n))
        source = (
            f"def function(n, x):\n if n != {n}: return np.nan\n made = serve({given})\n"
            " return made[1] if made[0] == 0 else np.nan\n"
        )
    exec(source, scope)  # noqa: S102
    made = numba.cfunc(signature)(scope["function"])
    _kept.append((call, made))
    return made


def _identifier(name: str) -> str:
    return name if name.isidentifier() else "compiled"


def _check(name: str, of: tuple[np.dtype, tuple[int, ...]], what: str, function: str) -> str:
    shape = f"({', '.join(map(str, of[1]))}{',' * (len(of[1]) == 1)})"
    return f"if {name}.shape != {shape}: raise ValueError({f'{function}: {what} must have the shape {shape}'!r})"


def _intrinsic(call: Call) -> Any:
    """What calls `serve` in jitted code: of arrays, and numbers; what has happened, and the numbers that it gives."""
    from llvmlite import ir
    from numba import types
    from numba.core import cgutils
    from numba.core.errors import TypingError
    from numba.extending import intrinsic
    from numba.np import numpy_support

    word = ir.IntType(64)
    outputs = [of for of in call.made if of is not None]
    wanted = [*call.given, *outputs]
    n_numbers = len(call.made) - len(outputs)
    result = types.Tuple((types.int64, *[types.float64] * n_numbers))

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        words = []
        for of, kind, value in zip(wanted, signature.args, args, strict=True):
            if of is None:
                words.append(builder.bitcast(context.cast(builder, value, kind, types.float64), word))
            else:
                words.append(builder.ptrtoint(context.make_array(kind)(context, builder, value).data, word))
        given = cgutils.alloca_once(builder, word, max(len(call.given), 1))
        made = cgutils.alloca_once(builder, word, max(len(call.made), 1))
        rest = iter(words[len(call.given) :])
        for k in range(len(call.given)):
            builder.store(words[k], builder.gep(given, [ir.Constant(word, k)]))
        for k, of in enumerate(call.made):
            if of is not None:
                builder.store(next(rest), builder.gep(made, [ir.Constant(word, k)]))
        served, entry = (
            builder.ptrtoint(context.add_dynamic_addr(builder, address, info=f"tapegrad.{call.name}"), word)
            for address in (call.served, call.address)
        )
        function = builder.inttoptr(entry, ir.FunctionType(word, [word] * 3).as_pointer())
        status = builder.call(function, [served, builder.ptrtoint(given, word), builder.ptrtoint(made, word)])
        numbers = [
            builder.bitcast(builder.load(builder.gep(made, [ir.Constant(word, k)])), ir.DoubleType())
            for k, of in enumerate(call.made)
            if of is None
        ]
        return context.make_tuple(builder, signature.return_type, [status, *numbers])

    def typed(kinds: Sequence[Any]) -> Any:
        for k, (of, kind) in enumerate(zip(wanted, kinds, strict=True)):
            if of is None:
                if not isinstance(kind, (types.Float, types.Integer, types.Boolean)):
                    raise TypingError(f"{call.name}: argument {k} must be a number, not {kind}")
                continue
            dtype = numpy_support.from_dtype(of[0])
            if not (isinstance(kind, types.Array) and kind.dtype == dtype and kind.ndim == len(of[1])):
                raise TypingError(f"{call.name}: argument {k} must be an array of {dtype}, {len(of[1])}d, not {kind}")
            if kind.layout != "C" or (k >= len(call.given) and not kind.mutable):
                raise TypingError(f"{call.name}: argument {k}, for a result, must be contiguous, and writeable")
        return result(*kinds), codegen

    names = ", ".join(f"p{k}" for k in range(len(wanted)))
    scope: dict[str, Any] = {"typed": typed}
    exec(f"def serve(typingctx, {names}):\n return typed(({names},))", scope)  # noqa: S102
    return intrinsic(scope["serve"])


__all__ = ["cfunc", "jitted"]
