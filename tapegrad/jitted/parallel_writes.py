"""Loops over `prange` whose turns write to elements of their own: in chunks, which are run again to be swept.

      out[i] = ...      out[i, j] = ...      row = out[i + 1]; row[2:] += ...      the variable of the loop is an index

Forward the turns run as plain code, on the user's arrays, and nothing is recorded. What is kept is what they are given
(`kept.py`), of an array that is read or written at the variable's index alone, give or take a number, the part that the
loop comes to: its *window*. The reverse sweep cuts the loop into the same chunks. Each makes windows of its own of what
was kept, runs its turns again on the tape of whichever thread takes it, and sweeps them at once:

      rows of the chunk's tape | what the chunk is given, window by window | what its turns record |

The adjoints of what it was given go to the rows that this has on the caller's tape when all chunks are done, in their
order. So the tape holds what the loop is given, and a row for each element of the windows that it writes to, and
neither values nor derivatives depend on how many threads there are (`chunks.py`).

      arguments | n | first | by | chunks | n_out | numbers, and lengths and windows of arrays | weights of sums |

Whether a loop is one of these is known from its code (`parallel_loops.py`), from types, and when it is come to: windows
may not lead out of an array, nor an array that is written to share memory with another. Where there is little to do
against what is kept, or a turn raises, all turns are one chunk, which is recorded on the caller's tape.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir as llvm
from numba.core import types
from numba.core.imputils import impl_ret_borrowed
from numba.extending import intrinsic
from numba.np import arrayobj

from tapegrad.jitted import chunks, rewriting
from tapegrad.jitted import jacobian_tape as tape
from tapegrad.jitted.access import (
    add_whole,
    get_index,
    get_number,
    get_word,
    held,
    open_tape,
    place_of,
    plan_chunks,
    put_aside,
    put_back,
    put_index,
    put_number,
    put_word,
    share_out,
    sweep,
    take_rows,
    value_at,
    weigh,
    zero_adjoints,
)
from tapegrad.jitted.active import DOUBLE, WORD, Independents, Taped
from tapegrad.jitted.allocation import vector_of
from tapegrad.jitted.block_rows import address_of, begin_block, end_block
from tapegrad.jitted.checkpoints import keep_word, kept_word, take_bars
from tapegrad.jitted.drivers import protected
from tapegrad.jitted.independents import array_of, first_row, in_place
from tapegrad.jitted.inner import define, inside
from tapegrad.jitted.kept import Walk, as_kind, get_active, kept, put_active
from tapegrad.jitted.lifting import make, row_of, strip, value_of
from tapegrad.jitted.nest_rows import address_of as data_of
from tapegrad.jitted.outlining import Declined, Outlined
from tapegrad.jitted.sharing import may_meet
from tapegrad.memory import words_of

KIND = Taped(0)
N_AT, FIRST_AT, BY_AT, CHUNKS_AT, N_OUT_AT, N_KEPT = range(6)  # words that are kept
MOST_WHOLE = 64  # numbers for each turn, of arrays that every chunk is given whole
ZERO = np.int64(0)  # Numba compiles a function once more for a literal


class Reach(NamedTuple):
    """Where a turn reads and writes an array along an axis: from its variable and `low` to its variable and `high`."""

    axis: int
    low: int
    high: int


class Item:
    """A number or an array among what a loop is given."""

    def __init__(self, number: int, path: str, kind: Any, reach: Reach | None, is_written: bool) -> None:
        self.path, self.kind, self.is_written = path, kind, is_written
        self.x, self.reach = f"x{number}", reach
        if isinstance(kind, Independents) and (reach is None or reach.axis != 0):
            self.reach = None
        self.axis = 0 if self.reach is None else self.reach.axis
        self.is_array = isinstance(kind, types.Array)
        self.has_rows = isinstance(kind, Independents) or kind == KIND or (self.is_array and kind.dtype == KIND)

    @property
    def rest(self) -> str:
        """How many elements there are at one place of the axis, in terms of lengths."""
        return " * ".join(f"{self.x}_{k}" for k in range(self.kind.ndim) if k != self.axis) or "1"

    @property
    def window(self) -> tuple[str, str]:
        """The ends of a chunk's window; `low` and `high` are the variable's first and last values in it."""
        if self.reach is None:
            return "0", f"{self.x}_0"
        return f"low + {self.reach.low}", f"high + {self.reach.high + 1}"

    @property
    def given(self) -> Any:
        """The type that it has for a chunk."""
        if not self.is_array:
            return self.kind
        return types.Array(self.kind.dtype, self.kind.ndim, "C", not self.kind.mutable, aligned=self.kind.aligned)

    @property
    def plain(self) -> Any:
        """The type that it has for plain code."""
        if self.is_array and self.kind.dtype == KIND:
            return types.Array(types.float64, self.kind.ndim, "A", not self.kind.mutable)
        return rewriting.plain(self.kind)


class Given:
    """What a loop is given: its items, and how they are in tuples."""

    def __init__(self, names: Any, kinds: Any, before: int, reaches: dict[str, Reach], written: set[str]) -> None:
        self.items: list[Item] = []
        self.scope: dict[str, Any] = {}
        self.kinds, self.plain_kinds, self.texts, self.plain_texts = [], [], [], []
        begins = dict[str, str]()
        for k, (name, kind) in enumerate(zip(names, kinds, strict=True), before):
            made = self._made(kind, f"inputs[{k}]", reaches.get(name), name in written)
            if name in reaches:
                one = next((item for item in self.items if item.path == f"inputs[{k}]"), None)
                begins[name] = "0" if one is None or one.reach is None else f"lo_{one.x}"
            for of_all, one in zip((self.kinds, self.plain_kinds, self.texts, self.plain_texts), made, strict=True):
                of_all.append(one)
        self.begins = [begins[name] for name in reaches]  # where parts of arrays begin

    def _made(self, kind: Any, path: str, reach: Reach | None, is_written: bool) -> tuple[Any, Any, str, str]:
        """The types for a chunk, and for plain code, and the texts of both."""
        if isinstance(kind, types.BaseTuple):
            parts = [self._made(part, f"{path}[{i}]", None, False) for i, part in enumerate(kind)]
            of_class, called = getattr(kind, "instance_class", None), ""
            if of_class is not None:
                called = f"class{len(self.scope)}"
                self.scope[called] = of_class
            one, other = (types.BaseTuple.from_types([part[k] for part in parts], of_class) for k in range(2))
            texts = [f"{called}({''.join(part[k] + ', ' for part in parts)})" for k in (2, 3)]
            return one, other, texts[0], texts[1]
        if isinstance(kind, (types.Dispatcher, types.NoneType)):
            name, function = f"constant{len(self.scope)}", getattr(kind, "dispatcher", None)
            self.scope |= {name: function, f"plain_{name}": getattr(function, "original", function)}
            return kind, rewriting.plain(kind), name, f"plain_{name}"
        item = Item(len(self.items), path, kind, reach, is_written)
        _check(item)
        self.items.append(item)
        plain = f"values_of({path})"
        if isinstance(kind, Independents):
            plain = f"array_of({path})"
        elif not item.is_array:
            plain = f"value_of({path})" if kind == KIND else path
        return item.given, item.plain, item.x, plain


def _check(item: Item) -> None:
    """Raise Declined for what isn't kept."""
    kind = item.kind
    if isinstance(kind, Independents):
        return
    element = kind.dtype if item.is_array else kind
    if element != KIND and not isinstance(element, (types.Float, types.Integer, types.Boolean)):
        raise Declined(f"it reads {kind}")
    if item.is_array and (kind.ndim == 0 or not kind.aligned):
        raise Declined(f"it reads {kind}")
    if item.is_written and item.reach is None:
        raise Declined("its turns write to elements that may be others' too")


# --- a window at a time -----------------------------------------------------------------------------------------------


class Moves(NamedTuple):
    """Functions for jitted code, for arrays of a type, and windows [lo, hi) along an axis."""

    save: Any  # (array, header, at, lo, hi) -> where the next entry stands
    load: Any  # (header, at, shift, shape) -> an array of what was saved, whose rows are so many behind the entries
    restore: Any  # (array, header, at, lo, hi): what was saved, with its rows
    number: Any  # (array, row, lo, hi): give the elements rows that follow each other
    seed: Any  # (array, header, bars): add to the adjoints of the elements' rows


@functools.cache
def moves(kind: Any, axis: int) -> Moves:
    """Those of a type."""
    order = [axis, *(k for k in range(kind.ndim) if k != axis)]
    at = "".join(f"i{k}, " for k in range(kind.ndim))

    def over(head: str, ends: str, body: list[str], tail: str = " return at") -> str:
        lines = head.split("\n")
        for depth, k in enumerate(order):
            lines.append(" " * (depth + 1) + f"for i{k} in range({ends if k == axis else f'x.shape[{k}]'}):")
        return "\n".join([*lines, *(" " * (kind.ndim + 1) + line for line in body), tail])

    def walked(get: Any) -> tuple[Walk, str]:
        walk = Walk(1, False, get)
        return walk, walk.number(kind.dtype, "e", "")

    local, value = walked(get_local)
    whole, as_before = walked(get_active)
    result = types.Array(kind.dtype, kind.ndim, "C", not kind.mutable, aligned=kind.aligned)
    scope = {
        "np": np, "ELEMENT": kind.dtype, "as_result": as_kind(result), "make": make, "KIND": KIND,
        "value_of": value_of, "row_of": row_of, "get_word": get_word, "get_number": get_number,
        "put_number": put_number, "ADJOINT": tape.ADJOINT,
    }  # fmt: skip
    texts = {
        "save": (over("def save(x, header, at, lo, hi):", "lo, hi", [f"e = x[{at}]", *local.save]), local.scope),
        "load": (over("def load(header, at, live, shape):\n x = np.empty(shape, ELEMENT)", f"x.shape[{axis}]",
                      [*local.load, f"x[{at}] = {value}"], " return as_result(x)"), local.scope),
        "restore": (over("def restore(x, header, at, lo, hi):\n live = 1", "lo, hi",
                         [*whole.load, f"x[{at}] = {as_before}"]), whole.scope),
        "number": (over("def number(x, at, lo, hi):", "lo, hi",
                        [f"x[{at}] = make(KIND, value_of(x[{at}]), at, 0)", "at += 1"]), {}),
        "seed": (over("def seed(x, header, bars):\n at = 0\n adjoint = get_word(header, ADJOINT)", f"x.shape[{axis}]",
                      [f"row = row_of(x[{at}])", "if row != 0:",
                       " put_number(adjoint, row, get_number(adjoint, row) + get_number(bars, at))", "at += 1"]), {}),
    }  # fmt: skip
    if kind.dtype != KIND:
        del texts["number"], texts["seed"]
    found = {name: inside(define(text, name, {**scope, **more})) for name, (text, more) in texts.items()}
    return Moves(**{name: found.get(name) for name in Moves._fields})


@intrinsic
def get_local(typingctx, kind, header, at, shift):
    """The active scalar of an entry, whose row is so many behind the entry's number; row 0 where it has none."""
    active = kind.instance_type

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        found = context.compile_internal(builder, _row_there, types.int64(*[types.int64] * 3), args[1:])
        value = context.compile_internal(builder, _value_there, types.float64(types.int64, types.int64), args[1:3])
        result = llvm.Constant(context.get_value_type(active), llvm.Undefined)
        return builder.insert_value(builder.insert_value(result, value, 0), found, 1)

    return active(kind, types.int64, types.int64, types.int64), codegen


def _row_there(header, at, shift):
    return 0 if get_index(get_word(header, tape.INDEX), at) == 0 else at + shift


def _value_there(header, at):
    return get_number(get_word(header, tape.PARTIAL), at)


@intrinsic
def values_of(typingctx, x):
    """The values of an array's elements, in place; the array itself where they are plain."""
    if x.dtype != KIND:
        return x(x), lambda context, builder, sig, args: impl_ret_borrowed(context, builder, x, args[0])
    made = types.Array(types.float64, x.ndim, "A", not x.mutable)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        given = arrayobj.make_array(x)(context, builder, args[0])
        array = arrayobj.make_array(made)(context, builder)
        data = builder.bitcast(given.data, DOUBLE.as_pointer())
        size = context.get_constant(types.intp, 8)
        arrayobj.populate_array(array, data, given.shape, given.strides, size, given.meminfo)
        return impl_ret_borrowed(context, builder, made, array._getvalue())

    return made(x), codegen


@inside
def ends_of(begin, end, n, first, by):
    """The least and the greatest value of the loop's variable from one turn to another, and what lies before the next.

    So windows of chunks that follow each other leave nothing out.
    """
    a = first + begin * by
    z = first + (n - 1) * by if end == n else first + end * by - (1 if by > 0 else -1)
    return min(a, z), max(a, z)


@inside
def add_entries(header, at, found, n):
    """Add to the adjoints of entries' rows."""
    index, adjoint = get_word(header, tape.INDEX), get_word(header, tape.ADJOINT)
    for e in range(n):
        row = get_index(index, at + e)
        if row != 0:
            put_number(adjoint, row, get_number(adjoint, row) + get_number(found, e))


@inside
def add_rows(header, row, found, n):
    """Add to the adjoints of rows that follow each other."""
    adjoint = get_word(header, tape.ADJOINT)
    for e in range(row, row + n):
        put_number(adjoint, e, get_number(adjoint, e) + get_number(found, e - row))


@inside
def is_spread(x):
    """Whether no two elements of an array may share memory, as far as its strides tell."""
    for i in range(x.ndim):
        room = 1
        for j in range(x.ndim):
            a, b = abs(x.strides[i]), abs(x.strides[j])
            if i != j and (b < a or (b == a and j < i)):
                room += (x.shape[j] - 1) * b
        if x.shape[i] > 1 and abs(x.strides[i]) < room + x.itemsize - 1:
            return False
    return True


@intrinsic
def put_value(typingctx, address, x):
    """Put a value at an address, in words; nobody counts that it refers to memory."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store(args[1], builder.inttoptr(args[0], args[1].type.as_pointer()), align=8)
        return context.get_dummy_value()

    return types.void(types.int64, x), codegen


@intrinsic
def words_in(typingctx, x):
    """How many words a value takes."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return WORD((context.get_abi_sizeof(args[0].type) + 7) // 8)

    return types.int64(x), codegen


# --- the loop ---------------------------------------------------------------------------------------------------------


class Texts:
    """The texts of a loop's functions, each of which goes through the items in their order."""

    def __init__(self, given: Given, sums: list[int], outs: list[Any], chunk: list[Any], n_state: int) -> None:
        self.given, self.items, self.sums, self.outs, self.chunk = given, given.items, sums, outs, chunk
        self.m, self.n_state = len(sums), n_state
        self.written = [item for item in self.items if item.is_written]
        self.left = [item for item in self.written if item.kind.dtype == KIND]
        self.active_sums = [j for j, kind in enumerate(outs) if isinstance(kind, Taped)]
        if not self.left and not self.active_sums:
            raise Declined("no derivative goes through it")

    def scope(self) -> dict[str, Any]:
        """What the texts name."""
        scope = {**_SCOPE, **self.given.scope, "m": self.m}
        for item in self.items:
            x = item.x
            if item.is_array:
                scope |= {f"{name}_{x}": function for name, function in moves(item.kind, item.axis)._asdict().items()}
            elif isinstance(item.kind, Independents):
                scope[f"kind_{x}"] = item.kind
            elif item.kind != KIND:
                known = kept(item.kind, 1)
                scope |= {f"save_{x}": known.save, f"load_{x}": known.load}
        return scope

    def lengths(self, item: Item, of: str) -> list[str]:
        """The names of an array's lengths, of an expression that is indexed."""
        return [f" {item.x}_{k} = {of.format(k)}" for k in range(getattr(item.kind, "ndim", 0))]

    def given_arrays(self, items: list[Item]) -> Iterator[tuple[Item, list[str]]]:
        """Arrays as the loop is given them, and their lengths."""
        for item in items:
            if hasattr(item.kind, "ndim"):
                yield item, self.lengths(item, item.path + ".shape[{}]")

    def fits(self) -> str:
        """Whether windows are within their arrays, and what is written to is apart from all else."""
        lines = [
            "def fits(inputs, n, first, by):",
            " low, high = ends_of(0, n, n, first, by)",
            " if by == 0:",
            "  return False",
        ]
        for item, lengths in self.given_arrays(self.items):
            if item.reach is not None:
                lo, hi = item.window
                lines += [*lengths, f" if {lo} < 0 or {hi} > {item.x}_{item.axis}:", "  return False"]
        for item in self.written:
            others = [o for o in self.items if o.is_array and o is not item]
            met = [f"may_meet({item.path}, {other.path})" for other in others]
            if item.kind.layout == "A":
                met.append(f"not is_spread({item.path})")
            lines += [f" if {test}:\n  return False" for test in met]
        return "\n".join([*lines, " return True"])

    def size(self) -> str:
        """How many entries are kept for some turns, how many of what chunks have whole, and how many rows are left."""
        lines = ["def size(inputs, begin, end, n, first, by):", " low, high = ends_of(begin, end, n, first, by)"]
        lines += [" n_kept, n_whole, n_out = 0, 0, 0"]
        for item in self.items:
            if isinstance(item.kind, Independents):
                lines.append(f" n_kept += words_in({item.path})")
            elif not item.is_array:
                lines.append(" n_kept += 1")
        for item, lengths in self.given_arrays(self.items):
            lo, hi = item.window
            lines += [*lengths, f" size = ({hi} - ({lo})) * {item.rest}"]
            lines += [f" n_kept += size + {item.kind.ndim + 2}"] if item.is_array else []
            lines += [" n_whole += size"] if item.reach is None else []
            lines += [" n_out += size"] if item in self.left else []
        return "\n".join([*lines, f" return n_kept, n_whole, n_out + {len(self.active_sums)}"])

    def save(self) -> str:
        """Keep what some turns are given."""
        lines = ["def save(inputs, header, at, begin, end, n, first, by):"]
        lines += [" low, high = ends_of(begin, end, n, first, by)"]
        for item in self.items:
            if isinstance(item.kind, Independents):
                lines.append(f" put_value(get_word(header, PARTIAL) + 8 * at, {item.path})")
                lines.append(f" at += words_in({item.path})")
            elif item.is_array:
                lo, hi = item.window
                lines += self.lengths(item, item.path + ".shape[{}]")
                lines += [f" keep_word(header, at + {k}, {item.x}_{k}, 1)" for k in range(item.kind.ndim)]
                lines += [f" lo, hi = {lo}, {hi}", f" at += {item.kind.ndim + 2}"]
                lines += [" keep_word(header, at - 2, lo, 1)", " keep_word(header, at - 1, hi, 1)"]
                lines.append(f" at = save_{item.x}({item.path}, header, at, lo, hi)")
            elif item.kind == KIND:
                lines += [f" put_active(KIND, {item.path}, header, at)", " at += 1"]
            else:
                lines.append(f" at = save_{item.x}({item.path}, header, at)")
        return "\n".join([*lines, " return at"])

    def each(self, home: str, use: Any) -> list[str]:
        """Go through what is kept on the tape `home` from `at` on, with what `use(item)` does with each item."""
        lines = []
        for item in self.items:
            x = item.x
            if not hasattr(item.kind, "ndim"):
                lines += [" place, size = at, 1", *use(item), " at += 1"]
                continue
            if item.is_array:
                lines += self.lengths(item, f"kept_word({home}, at + {{}}, 1)")
                lines.append(f" at += {item.kind.ndim + 2}")
                lines.append(f" lo, hi = kept_word({home}, at - 2, 1), kept_word({home}, at - 1, 1)")
            else:
                lines.append(f" {x} = value_at(kind_{x}, get_word({home}, PARTIAL) + 8 * at)")
                lines += self.lengths(item, f"{x}.shape[{{}}]")
            begin, end = item.window
            lines += [f" rest, lo_{x}, hi_{x} = {item.rest}, {begin}, {end}", f" size = (hi_{x} - lo_{x}) * rest"]
            if item.is_array:
                lines += [f" place = at + (lo_{x} - lo) * rest", *use(item)]
                lines += (
                    [f" bars_{x} = out + (lo_{x} - lo) * rest", " out += (hi - lo) * rest"] if item in self.left else []
                )
                lines.append(" at += (hi - lo) * rest")
            else:
                lines += [*use(item), f" at += words_in({x})"]
        return lines

    def load(self, item: Item) -> list[str]:
        """What a chunk has of an item, with rows of its own."""
        x = item.x
        if isinstance(item.kind, Independents):
            lines = [f" {x} = in_place(KIND, array_of({x})[lo_{x}:hi_{x}], row)"]
        elif item.is_array:
            lengths = (f"hi_{x} - lo_{x}" if k == item.axis else f"{x}_{k}" for k in range(item.kind.ndim))
            lines = [f" {x} = load_{x}(home, place, row - place, ({''.join(f'{n}, ' for n in lengths)}))"]
        elif item.kind == KIND:
            lines = [f" {x} = get_local(KIND, home, place, row - place)"]
        else:
            lines = [f" {x} = load_{x}(home, place, 0)"]
        return [*lines, " row += size"] if item.has_rows else lines

    def add(self, item: Item) -> list[str]:
        """Add what a chunk has found of an item to the adjoints of its rows."""
        if not item.has_rows:
            return []
        x = item.x
        where = f"first_row({x}) + lo_{x} * rest" if isinstance(item.kind, Independents) else "place"
        function = "add_rows" if isinstance(item.kind, Independents) else "add_entries"
        return [" if found != 0:", f"  {function}(header, {where}, found + 8 * row, size)", " row += size"]

    def job(self) -> str:
        """What a thread does for a chunk when the loop is swept; for the turn in the middle, whose cost is asked."""
        begun = "".join(f"in{j}(start{j}), " for j in range(self.m))
        seeds = [f"  seed_{item.x}({item.x}, header, get_word(words, BARS) + 8 * bars_{item.x})" for item in self.left]
        for i, j in enumerate(self.active_sums):
            seeds += [
                f"  row_of_sum, w = row_of(in{j}(y[{j}])), at + {i} * (n_chunks + 1) + 1 + k",
                "  if row_of_sum != 0:",
                f"   bar = get_number(get_word(home, PARTIAL), w) * get_number(get_word(words, BARS), out + {i})",
                "   adjoint = get_word(header, ADJOINT)",
                "   put_number(adjoint, row_of_sum, get_number(adjoint, row_of_sum) + bar)",
            ]
        given = "".join(f"{text}, " for text in [*self.given.texts, *self.given.begins])
        return _JOB.format(items="\n".join(self.each("home", self.load)), given=begun + given, seeds="\n".join(seeds))

    def adding(self) -> str:
        """What adds all that a chunk has found, and returns how many numbers these are; it only counts them at 0."""
        head = """def add(header, begin, k, found):
 n, n_chunks = kept_word(header, begin + N_AT, 1), kept_word(header, begin + CHUNKS_AT, 1)
 first, by = kept_word(header, begin + FIRST_AT, 1), kept_word(header, begin + BY_AT, 1)
 low, high = ends_of(k * n // n_chunks, (k + 1) * n // n_chunks, n, first, by)
 at, row, out = begin + N_KEPT, 0, 0"""
        return "\n".join([head, *self.each("header", self.add), " return row"])

    def reverse(self) -> str:
        """What the sweep calls."""
        n = len(self.active_sums)
        starts = "".join(
            f"""
    w = trailer - {n - i} * (n_chunks + 1)
    start = get_index(get_word(header, INDEX), w)
    if start != 0:
        bar = get_number(get_word(header, PARTIAL), w) * bars[n_out - {n - i}]
        put_number(get_word(header, ADJOINT), start, get_number(get_word(header, ADJOINT), start) + bar)"""
            for i in range(n)
        )
        return _REVERSE.format(starts=starts)

    def forward(self) -> str:
        """What a thread does for a chunk at first."""
        begun = "".join(f"plain{j}(start{j}), " for j in range(self.m))
        given = "".join(f"inputs[{i}], " for i in range(len(self.given.kinds))) + "ZERO, " * len(self.given.begins)
        sums = "\n".join(
            f"    put_{_word(kind)}(get_word(words, VALUES), k * m + {j}, plain{j}(y[{j}]))"
            for j, kind in enumerate(self.chunk)
        )
        return _FORWARD.format(given=begun + given, sums=sums)

    def restore(self) -> str:
        """Have arrays that are written to as they were kept."""

        def put_back_item(item: Item) -> list[str]:
            x = item.x
            return [f" restore_{x}({item.path}, header, place, lo_{x}, hi_{x})"] if item.is_written else []

        head = "def restore(inputs, header, at, n, first, by):\n low, high = ends_of(0, n, n, first, by)\n out = 0"
        return "\n".join([head, *self.each("header", put_back_item)])

    def number(self) -> str:
        """Give the elements that are left rows that follow each other."""
        lines = ["def number(inputs, row, n, first, by):", " low, high = ends_of(0, n, n, first, by)"]
        for item, lengths in self.given_arrays(self.left):
            lines += [*lengths, f" row = number_{item.x}({item.path}, row, {', '.join(item.window)})"]
        return "\n".join([*lines, " return row"])

    def run(self) -> str:
        """What is called before the loop."""
        more = "".join(f"inputs[{i}], " for i in range(self.m, self.n_state))
        n_kinds = self.m + len(self.given.kinds)
        return _RUN.format(
            plain="".join(f"{text}, " for text in self.given.plain_texts),
            sums="".join(self._sum(j) for j in range(self.m)),
            outputs="".join(f"y{j}, " for j in range(self.m)) + more,
            begun="".join(f"out{j}(inputs[{j}]), " for j in range(self.m))
            + "".join(f"inputs[{i}], " for i in range(self.m, n_kinds))
            + "ZERO, " * len(self.given.begins),
            left="".join(f"out{j}(x[{j}]), " for j in range(self.m)) + more,
            n_weights=len(self.active_sums),
        )

    def _sum(self, j: int) -> str:
        """The code of what a sum comes to, with weights of its chunks where derivatives go through it."""
        out, of = self.outs[j], self.sums[j]
        word = _word(out)
        lines = [f"x{j} = out{j}(inputs[{j}])", f"put_{word}(words, NUMBER, strip(x{j}))"]
        lines.append(f"add_whole(words, {j}, {of})" if word == "word" else f"weigh(words, {j}, {of})")
        lines.append(f"y{j} = get_{word}(words, NUMBER)")
        if isinstance(out, Taped):
            lines += [
                f"keep_weights(header, at, row_of(x{j}), get_word(words, WEIGHTS), n_chunks + 1)",
                f"at, y{j}, row = at + n_chunks + 1, make(KIND, y{j}, row, 0), row + 1",
            ]
        return "".join(f"\n            {line}" for line in lines)


def _word(kind: Any) -> str:
    """How a sum stands in memory."""
    return "word" if isinstance(kind, types.Integer) else "number"


@inside
def keep_weights(header, at, row, weights, n):
    """Keep the weights of a sum: that of its start with its row."""
    for k in range(n):
        put_index(get_word(header, tape.INDEX), at + k, row if k == 0 else 0)
        put_number(get_word(header, tape.PARTIAL), at + k, get_number(weights, k))


_FORWARD = """
def forward(words, k, scratch):
    n, n_chunks = get_word(words, N), get_word(words, N_CHUNKS)
    inputs = value_at(given, get_word(words, INPUTS))
    arguments = k * n // n_chunks, (k + 1) * n // n_chunks, get_word(words, FIRST), get_word(words, BY), {given}
    _, _, y = protected(steps, arguments, 0, 0, 0, (), ())
{sums}
    put_word(get_word(words, DONE), k, 1)
    return 0
"""

_JOB = """
def job(words, k, scratch):
 header, home = open_tape(KIND), get_word(words, TAPE)
 rows, arguments = get_word(header, ROWS), get_word(header, ARGUMENTS)
 n, n_chunks, first, by = get_word(words, N), get_word(words, N_CHUNKS), get_word(words, FIRST), get_word(words, BY)
 begin, end = k * n // n_chunks, (k + 1) * n // n_chunks
 if k < 0:
  begin, end = n // 2, n // 2 + 1
 low, high = ends_of(begin, end, n, first, by)
 at, out, base = get_word(words, BEGIN), 0, max(rows, 1)
 row = base
{items}
 if take_rows(header, row - base, 1) < 0:
  return NO_MEMORY
 recorded = get_word(header, ROWS)
 _, _, y = protected(again, (begin, end, first, by, {given}), header, rows, arguments, (), ())
 if k < 0:
  put_word(words, COST, 1 + get_word(header, ARGUMENTS) - arguments + get_word(header, ROWS) - recorded)
 elif zero_adjoints(header, base) != 0:
{seeds}
  pass
  if sweep(header, recorded) >= 0:
   adjoint, found = get_word(header, ADJOINT), get_word(words, FOUND) + 8 * k * get_word(words, STRIDE)
   for e in range(recorded - base):
    put_number(found, e, get_number(adjoint, base + e))
   put_word(get_word(words, DONE), k, 1)
 put_word(header, ROWS, rows)
 put_word(header, ARGUMENTS, arguments)
 return 0
"""

_REVERSE = """
def reverse(header, last, trailer):
    begin = trailer - get_index(get_word(header, INDEX), trailer)
    n_chunks, n_out = kept_word(header, begin + CHUNKS_AT, 1), kept_word(header, begin + N_OUT_AT, 1)
    bars = vector_of(n_out)
    take_bars(header, last + 1 - n_out, bars)
    if not np.any(bars):
        return begin
    memory, done, aside = vector_of(N_WORDS), vector_of(n_chunks), vector_of(REALLOC)
    words = data_of(memory)
    put_word(words, N, kept_word(header, begin + N_AT, 1))
    put_word(words, FIRST, kept_word(header, begin + FIRST_AT, 1))
    put_word(words, BY, kept_word(header, begin + BY_AT, 1))
    put_word(words, N_CHUNKS, n_chunks)
    put_word(words, BEGIN, begin + N_KEPT)
    put_word(words, DONE, data_of(done))
    put_word(words, BARS, data_of(bars))
    put_word(words, TAPE, data_of(aside))
    stride = 1
    for k in range(n_chunks):
        stride = max(stride, add(header, begin, k, ZERO))
    found = vector_of(n_chunks * stride)
    put_word(words, FOUND, data_of(found))
    put_word(words, STRIDE, stride)
    put_aside(header, header + SPARE, data_of(aside))
    are_done = share_out(words, address_of(job))
    put_back(header, header + SPARE, data_of(aside))
    held(memory, (done, aside, bars))
    if are_done == 0:
        return NO_MEMORY
    for k in range(n_chunks):
        add(header, begin, k, data_of(found) + 8 * k * stride)
    held(found, 0){starts}
    return begin
"""

_RUN = """
def run(turns, inputs):
    header = open_tape(KIND)
    n, first, by = len(turns), turns.start, turns.step
    if n >= LEAST_TURNS and fits(inputs, n, first, by):
        memory = vector_of(N_WORDS)
        words, begin, n_chunks = data_of(memory), get_word(header, ARGUMENTS), 0
        put_word(words, N, n)
        put_word(words, FIRST, first)
        put_word(words, BY, by)
        put_word(words, TAPE, header)
        put_word(words, BEGIN, begin)
        put_word(words, N_SUMS, m)
        n_kept, n_whole, n_out = size(inputs, ZERO, n, n, first, by)
        if n_whole <= MOST_WHOLE * n:
            n_tried, _, _ = size(inputs, n // 2, n // 2 + 1, n, first, by)
            begin_block(header, n_tried, 0)
            save(inputs, header, begin, n // 2, n // 2 + 1, n, first, by)
            put_word(header, ARGUMENTS, begin + n_tried)
            n_chunks = plan_chunks(words, address_of(job), n_kept, max(n_whole, 1))
            put_word(header, ARGUMENTS, begin)
        if n_chunks != 0:
            n_kept += N_KEPT + {n_weights} * (n_chunks + 1)
            begin_block(header, n_kept, n_out)
            at = save(inputs, header, begin + N_KEPT, ZERO, n, n, first, by)
            done, values, weights = vector_of(n_chunks), vector_of(n_chunks * m), vector_of(n_chunks + 1)
            put_word(words, DONE, data_of(done))
            put_word(words, VALUES, data_of(values))
            put_word(words, WEIGHTS, data_of(weights))
            packed = as_given(({plain}))
            put_word(words, INPUTS, place_of(packed))
            are_done = share_out(words, address_of(forward))
            if are_done == 0:  # a turn has raised: let it do so in its order
                restore(inputs, header, begin + N_KEPT, n, first, by)
        if n_chunks != 0 and are_done != 0:
            row = number(inputs, get_word(header, ROWS), n, first, by)
            keep_word(header, begin + N_AT, n, 1)
            keep_word(header, begin + FIRST_AT, first, 1)
            keep_word(header, begin + BY_AT, by, 1)
            keep_word(header, begin + CHUNKS_AT, n_chunks, 1)
            keep_word(header, begin + N_OUT_AT, n_out, 1){sums}
            end_block(header, n_kept, n_out, address_of(reverse))
            held(memory, (done, values, weights))
            return True, 1, ({outputs})
    _, _, x = again(ZERO, n, first, by, {begun})
    return True, 1, ({left})
"""


def run_of(
    loop: Outlined, given: Given, sums: list[int], outs: list[Any], chunk: list[Any], scope: dict[str, Any]
) -> Any:
    """What is run before a loop; `scope` has its functions, and what converts its sums."""
    texts = Texts(given, sums, outs, chunk, len(loop.state))
    scope = {
        **texts.scope(), **scope, "given": types.BaseTuple.from_types(given.plain_kinds),
        **{f"plain{j}": as_kind(rewriting.plain(kind)) for j, kind in enumerate(chunk)},
    }  # fmt: skip
    scope["as_given"] = as_kind(scope["given"])
    for name, text in (
        ("fits", texts.fits()), ("size", texts.size()), ("save", texts.save()), ("number", texts.number()),
        ("restore", texts.restore()), ("add", texts.adding()), ("forward", texts.forward()), ("job", texts.job()),
        ("reverse", texts.reverse()),
    ):  # fmt: skip
        scope[name] = inside(define(text, name, scope))
    return define(texts.run(), "run", scope)


_SCOPE = {
    "np": np, "KIND": KIND, "ROWS": tape.ROWS, "ARGUMENTS": tape.ARGUMENTS, "INDEX": tape.INDEX,
    "PARTIAL": tape.PARTIAL, "ADJOINT": tape.ADJOINT, "NO_MEMORY": tape.NO_MEMORY, "SPARE": tape.SPARE,
    "REALLOC": tape.REALLOC, "LEAST_TURNS": chunks.LEAST_TURNS, "ZERO": ZERO, "MOST_WHOLE": MOST_WHOLE,
    "N_KEPT": N_KEPT, "N_AT": N_AT, "FIRST_AT": FIRST_AT, "BY_AT": BY_AT, "CHUNKS_AT": CHUNKS_AT, "N_OUT_AT": N_OUT_AT,
    **{name.upper(): at for name, at in words_of(chunks.Job).items()}, "N_WORDS": chunks.Job.nbytes // 8,
    **{function.__name__: function for function in (keep_word, kept_word, take_bars, begin_block, end_block)},
    "add_whole": add_whole, "get_index": get_index, "get_number": get_number, "get_word": get_word,
    "open_tape": open_tape, "plan_chunks": plan_chunks, "put_aside": put_aside, "put_back": put_back,
    "put_number": put_number, "put_word": put_word, "share_out": share_out, "sweep": sweep, "take_rows": take_rows,
    "weigh": weigh, "zero_adjoints": zero_adjoints, "vector_of": vector_of, "address_of": address_of,
    "protected": protected, "array_of": array_of, "first_row": first_row, "in_place": in_place, "make": make,
    "row_of": row_of, "strip": strip, "value_of": value_of, "data_of": data_of, "may_meet": may_meet,
    "is_spread": is_spread, "get_local": get_local, "put_active": put_active, "values_of": values_of,
    "ends_of": ends_of, "add_entries": add_entries, "add_rows": add_rows, "put_value": put_value, "words_in": words_in,
    "keep_weights": keep_weights, "place_of": place_of, "value_at": value_at, "held": held,
}  # fmt: skip
