"""The texts of a nest's two functions: see `nest_code.py` for what they do, `nest_rows.py` for what they are made of.

Before anything is done the forward function looks whether the nest can be taken as a whole, and leaves it to the plain
loop if not: where an array that is written to may share memory with another, where an index may lead out of an array,
where there is little to do for much to keep. Bounds of indices are found by interval arithmetic over the ranges of
loops; an index of which nothing is known is looked at when it is met. Nothing of the user's is changed before the nest
has been run.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tapegrad.jitted import jacobian_tape as tape
from tapegrad.jitted import nest_rows
from tapegrad.jitted.access import (
    get_index,
    get_number,
    get_word,
    open_tape,
    put_index,
    put_number,
    put_word,
    reserve,
)
from tapegrad.jitted.lifting import make, row_of, value_of
from tapegrad.jitted.nest_code import (
    _SIGNS,
    Again,
    Analysis,
    Fork,
    Gather,
    Get,
    Op,
    Pass,
    Piece,
    Put,
    Share,
    Turn,
    _nodes_of,
    exponent_of,
)
from tapegrad.jitted.nest_sums import Axis, Quotient, Sum
from tapegrad.jitted.nest_types import Names
from tapegrad.jitted.nests import (
    COMPARISONS,
    MIN_ITERATIONS,
    Compute,
    Const,
    End,
    Extent,
    Found,
    If,
    Load,
    Loop,
    Operand,
    Store,
    Straight,
    statements,
    target_of,
)

MAX_ELEMENTS = 4  # for each iteration of innermost loops: so many may be kept
MAX_OF_WHOLE = 1  # likewise, where statements are of whole arrays, whose rows are lines otherwise

_SCOPE = {
    "np": np, "KIND": nest_rows.KIND, "FLOATS": np.dtype(np.float64), "INTEGERS": np.dtype(np.int64),
    "open_tape": open_tape,
    "get_word": get_word, "put_word": put_word, "get_number": get_number, "put_number": put_number,
    "get_index": get_index, "put_index": put_index, "reserve": reserve, "make": make, "row_of": row_of,
    "value_of": value_of,
    "INDEX": tape.INDEX, "ARGUMENTS": tape.ARGUMENTS, "PARTIAL": tape.PARTIAL, "ADJOINT": tape.ADJOINT,
    **{name: getattr(nest_rows, name) for name in (
        "view", "plus", "plus_product", "chosen", "weighed_by", "overlap", "are_zero", "add_to_rows", "end_rows",
        "scratch", "release", "copying_numbers", "address_of",
        "get_byte", "get_choice", "new_array", "no_array",
    )},
}  # fmt: skip


class Texts:
    """The texts."""

    def __init__(self, found: Found | Straight, names: Names) -> None:
        self.found, self.names = found, names
        self.is_straight = isinstance(found, Straight)
        self.code = Analysis(names)
        self.code.finish(names.outputs)
        self.lines: list[str] = []
        self.scope: dict[str, Any] = dict(_SCOPE)
        self.short: dict[str, str] = {}
        self.functions: dict[Any, str] = {}
        self.share: Share | None = None  # of the loop that is written
        self.sums: dict[Any, str] = {}  # in which that loop adds up what elements get
        self.ahead: set[Operand] = set()  # indices that were looked at before it
        self.present: list[str] = []  # what is kept for loops around it
        self.given = [name for name in found.inputs if name in names.arrays]
        self.new = [*names.new]
        self.arrays = [*self.given, *self.new]
        self.scalars = [name for name in found.inputs if name not in names.arrays]
        self.least = self._least()
        self.active = [name for name in self.arrays if names.elements[name] == "a"]
        self.in_place = [name for name in self.arrays if name in names.in_place]
        self.lifted = [name for name in self.active if name not in names.in_place and name not in names.new]
        self.given_back = [name for name in names.written if name not in names.new or name in names.results]
        self.kept = [name for name in self.arrays if self.code.is_kept(name)]
        self.out = [name for name in names.outputs if names.of[name] == "a"]
        self.forward = self._forward()
        self.reverse = self._reverse()
        self.regions = self._regions()

    # --- words

    def put(self, indent: int, *lines: str) -> None:
        """Append lines."""
        self.lines += [" " * indent + line for line in lines]

    def t(self, operand: Operand) -> str:
        """A name, or a number, in the text."""
        if isinstance(operand, Const):
            value = operand.value
            if isinstance(value, float) and not isinstance(value, bool):
                value = float(value)
                if not np.isfinite(value):
                    return "np.nan" if value != value else "np.inf" if value > 0 else "(-np.inf)"
            text = repr(value)
            return f"({text})" if text.startswith("-") else text
        return self.short.setdefault(operand, f"x{len(self.short)}")

    def a(self, name: str, prefix: str = "v") -> str:
        """An array: as it is given (a), its values (v), its adjoints (b)."""
        return f"{prefix}{self.arrays.index(name)}"

    def b(self, version: str) -> str:
        """The adjoint of a version."""
        return f"b_{self.t(version)}"

    def function(self, function: Any) -> str:
        """The name of a function."""
        if function not in self.functions:
            self.functions[function] = f"fn_{len(self.functions)}"
            self.scope[self.functions[function]] = function
        return self.functions[function]

    def index(self, index: Sequence[Operand]) -> str:
        """An index, as a tuple."""
        return f"({''.join(self.t(i) + ', ' for i in index)})"

    def element(self, word: str, item: Any) -> str:
        """The intrinsic for an element: for any index, or for one that is known not to be negative."""
        return word if all(map(self.is_plain, item.index)) else f"{word}_any"

    def is_plain(self, i: Operand) -> bool:
        """Whether an index is known not to be negative."""
        if isinstance(i, Const):
            return bool(i.value >= 0)
        return i in self.names.inside | self.ahead or (i in self.code.known and self.least.get(i, -1) >= 0)

    def _least(self) -> dict[str, int]:
        """Bounds below that are known now."""
        least: dict[str, int] = {}
        loops: dict[str, list[int | None]] = {}
        ahead: dict[str, set[tuple[Operand, int]]] = {}  # of a variable: what it is behind, and by how much at least
        for item in self.names.all:
            if isinstance(item, Loop):
                start, stop, step = item.bounds
                ahead.setdefault(item.variable, set()).add((stop, 1) if step > 0 else (start, 0))

        def of(o: Operand) -> int | None:
            return o.value if isinstance(o, Const) else least.get(o)

        for item in self.names.all:
            if isinstance(item, Loop):
                first = of(item.bounds[0])
                last = of(item.bounds[1])
                low = first if item.bounds[2] > 0 else None if last is None else last + 1
                loops.setdefault(item.variable, []).append(low)
                if None not in loops[item.variable]:
                    least[item.variable] = min(x for x in loops[item.variable] if x is not None)
                else:
                    least.pop(item.variable, None)
            elif isinstance(item, Extent) and item.target in self.names.pure:
                least[item.target] = 0
            elif isinstance(item, Compute) and item.target in self.names.pure:
                xs = [of(o) for o in item.operands]
                if item.function is None and xs[0] is not None:
                    least[item.target] = xs[0]
                elif item.function is operator.add and None not in xs:
                    least[item.target] = xs[0] + xs[1]  # type: ignore[operator]
                elif item.function is operator.sub and len(ends := ahead.get(item.operands[1], ())) == 1:
                    ((end, by),) = ends
                    least.update({item.target: by} if end == item.operands[0] else {})
                elif item.function is operator.sub and xs[0] is not None and isinstance(item.operands[1], Const):
                    least[item.target] = xs[0] - item.operands[1].value
                elif item.function is operator.mul and None not in xs and min(xs) >= 0:  # type: ignore[type-var]
                    least[item.target] = xs[0] * xs[1]  # type: ignore[operator]
        return {name: low for name, low in least.items() if None not in loops.get(name, [0])}

    def computed(self, function: Any, xs: Sequence[str]) -> str:
        """A function of operands."""
        if function is None:
            return xs[0]
        if function in _SIGNS:
            return f"({xs[0]} {_SIGNS[function]} {xs[1]})"
        if function in (operator.neg, operator.pos):
            return f"({'-' if function is operator.neg else '+'}{xs[0]})"
        if function in (bool, operator.truth, operator.not_):
            return f"({'not' if function is operator.not_ else ''} ({xs[0]} != 0))"
        return f"{self.function(function)}({', '.join(xs)})"

    def _regions(self) -> dict[str, str]:
        """The memory in which arrays are, their adjoints, slots and bytes: see `Text`.

        Arrays that are only read may share it with each other, and so may their adjoints.
        """
        own = {*self.names.written, *self.new}
        regions = {"m": "slots", "choices": "bytes"}
        for name in self.arrays:
            for prefix, region in (("a", "given"), ("v", "values"), ("b", "adjoints")):
                is_own = name in own and prefix != "a"
                regions[self.a(name, prefix)] = f"{region} {self.arrays.index(name)}" if is_own else region
        return regions

    # --- integers

    def pure(self, indent: int, body: list[Any], prefix: str) -> None:
        """Compute the pure integers of a body."""
        for item in body:
            if isinstance(item, (Compute, Load, Extent)) and item.target in self.names.pure:
                if isinstance(item, Load) and prefix == "a":
                    self.check(indent, item)
                self.put(indent, f"{self.t(item.target)} = {self.value(item, prefix)}")

    def value(self, item: Any, prefix: str) -> str:
        """What a statement gives."""
        if isinstance(item, Compute):
            return self.computed(item.function, [self.t(o) for o in item.operands])
        if isinstance(item, Extent):
            array = self.a(item.array, prefix)
            return f"{array}.size" if item.axis is None else f"{array}.shape[{item.axis}]"
        found = f"{self.element('get', item)}({self.a(item.array, prefix)}, {self.index(item.index)})"
        return f"value_of({found})" if prefix == "a" and item.array in self.lifted else found

    def forward_value(self, item: Any) -> str:
        """The same, in the forward function, which reads arrays as they are given, if they aren't kept."""
        is_given = isinstance(item, (Load, Extent)) and item.array not in self.kept
        return self.value(item, "a" if is_given else "v")

    def intervals(self) -> None:
        """Bounds of indices, before the nest is run."""
        done: set[str] = set()

        def ends(o: Operand) -> tuple[str, str]:
            if isinstance(o, Const) or self.names.is_fixed(o):
                return self.t(o), self.t(o)
            return f"lo_{self.t(o)}", f"hi_{self.t(o)}"

        for item in self.names.all:
            target = item.variable if isinstance(item, Loop) else getattr(item, "target", None)
            if target not in self.code.known or self.names.is_fixed(target):
                continue
            if isinstance(item, Loop):
                (start, _), (_, stop) = ends(item.bounds[0]), ends(item.bounds[1])
                low, high = start, f"{stop} - 1"
                if item.bounds[2] < 0:
                    (_, start), (stop, _) = ends(item.bounds[0]), ends(item.bounds[1])
                    low, high = f"{stop} + 1", start
            elif isinstance(item, Extent):
                low = high = self.value(item, "a")
            else:
                xs = [ends(o) for o in item.operands]
                if item.function in (None, operator.pos):
                    low, high = xs[0]
                elif item.function is operator.neg:
                    low, high = f"-({xs[0][1]})", f"-({xs[0][0]})"
                elif item.function is operator.add:
                    low, high = f"{xs[0][0]} + {xs[1][0]}", f"{xs[0][1]} + {xs[1][1]}"
                elif item.function is operator.sub:
                    low, high = f"{xs[0][0]} - {xs[1][1]}", f"{xs[0][1]} - {xs[1][0]}"
                elif item.function is operator.mul:
                    products = ", ".join(f"{p} * {q}" for p in xs[0] for q in xs[1])
                    low, high = f"min({products})", f"max({products})"
                elif item.function is operator.floordiv:
                    low, high = f"{xs[0][0]} // {xs[1][0]}", f"{xs[0][1]} // {xs[1][0]}"
                else:
                    low, high = "0", f"{xs[1][0]} - 1"
            for word, text in (("lo", low), ("hi", high)):
                before = f"{word}_{self.t(target)}"
                if target in done:  # a variable of several loops
                    text = f"{'min' if word == 'lo' else 'max'}({before}, {text})"
                self.put(1, f"{before} = {text}")
            done.add(target)
        tests = []
        for item in self.names.all:
            if isinstance(item, (Load, Store)):
                for axis, i in enumerate(item.index):
                    if isinstance(i, Const) or i in self.code.known - self.names.inside:
                        low, high = ends(i)
                        n = f"{self.a(item.array, 'a')}.shape[{axis}]"
                        tests += [f"{low} < -{n}", f"{high} >= {n}"]
        tests += [f"{self.sum(differs)} != 0" for differs in self.names.equal]
        for end in (end for item in self.names.all if isinstance(item, Loop) for end in item.ends):
            if self.code.is_within([end.at]):
                tests += self.beyond(end, *ends(end.at))
        if tests:  # in one branch: Numba takes its time for each
            bad = " | ".join(f"({test})" for test in dict.fromkeys(tests))
            self.put(1, f"if {bad}:", f" return {self.stays}")

    def sum(self, found: Sum) -> str:
        """An integer that is a sum."""

        def of(atom: Any) -> str:
            if isinstance(atom, Quotient):
                return f"(({self.sum(atom.of)}) // {atom.by})"
            return f"{self.a(atom.array, 'a')}.shape[{atom.axis}]" if isinstance(atom, Axis) else self.t(atom)

        terms = [of(atom) if n == 1 else f"{self.t(Const(n))} * {of(atom)}" for atom, n in found.terms]
        return " + ".join([*terms, *([self.t(Const(found.number))] if found.number or not terms else [])])

    def beyond(self, end: End, low: str, high: str) -> list[str]:
        """What tells whether an end isn't what it must be."""
        found = [] if isinstance(end.at, Const) else [f"{low} < 0"]
        if end.array is not None:
            found.append(f"{high} > {self.a(end.array, 'a')}.shape[{end.axis}] + {self.t(Const(end.plus))}")
        return found

    def check(self, indent: int, item: Any) -> None:
        """Look at an index of which nothing is known."""
        for axis, i in enumerate(item.index):
            if not isinstance(i, Const) and i not in self.code.known | self.names.inside | self.ahead:
                n = f"{self.a(item.array, 'a')}.shape[{axis}]"
                self.put(indent, f"if {self.t(i)} < -{n} or {self.t(i)} >= {n}:", f" return {self.stays}")

    def looking_ahead(self, indent: int, part: Pass, is_reverse: bool, write: Callable[[int], None]) -> None:
        """Write an innermost loop, and another before it for where its indices are looked at as a whole.

        These are sums of its variable and of what doesn't change in it: there the least and the largest tell of all.
        """
        start, stop, step = part.loop.bounds
        tests: dict[str, None] = {}
        for item in statements(part.loop.body) if step == 1 else ():
            node = self.code.sources.get(id(item)) if isinstance(item, (Load, Store)) else None
            for axis, (i, at) in enumerate(zip(item.index, node.index, strict=True) if node is not None else ()):
                is_within = self.code.is_within([i]) or i in self.names.inside
                if self.is_plain(i) or (is_within and not is_reverse):
                    continue
                n, rest = self.line(part, i, is_reverse)
                if not n:  # in no turn another than in the first, or nobody knows
                    continue
                self.ahead.add(at if is_reverse else i)
                for end in (f"{rest} + {self.t(start)} * {n}", f"{rest} + ({self.t(stop)} - 1) * {n}"):
                    tests[f"{end} >= 0"] = None
                    if not is_reverse:
                        tests[f"{end} < {self.a(item.array, 'a')}.shape[{axis}]"] = None
        if tests:
            self.put(indent, f"if {' and '.join(tests)}:")
            write(indent + 1)
            self.put(indent, "else:")
        self.ahead = set()
        write(indent + bool(tests))

    def line(self, part: Pass, operand: Operand, is_reverse: bool) -> tuple[int | None, str]:
        """How often a loop's variable is in an integer, and the rest, which doesn't change; None where it isn't so."""
        if isinstance(operand, Const):
            return 0, self.t(operand)
        if operand == part.loop.variable:
            return 1, "0"
        made = [item for item in self.names.all if target_of(item) == operand]
        inside = [item for item in statements(part.loop.body) if target_of(item) == operand]
        if not inside:
            if not is_reverse or self.names.is_pure(operand):
                return 0, self.t(operand)
            return (0, self.t(f"{operand}_0")) if operand in self.present else (None, "")
        (item, *others) = made
        is_sum = isinstance(item, Compute) and item.function in (None, operator.add, operator.sub)
        is_carried = any(operand in piece.exposed for piece in part.body)
        if others or is_carried or not is_sum or not any(item is one for one in part.loop.body):
            return None, ""
        found = [self.line(part, o, is_reverse) for o in item.operands]
        if any(n is None for n, _ in found):
            return None, ""
        sign = -1 if item.function is operator.sub else 1
        n = sum(n * (sign if k else 1) for k, (n, _) in enumerate(found))  # type: ignore[operator]
        return n, self.computed(item.function, [rest for _, rest in found])

    def range(self, loop: Loop) -> str:
        """The range of a loop."""
        start, stop, step = loop.bounds
        first = "" if start == Const(0) and step == 1 else f"{self.t(start)}, "
        return f"range({first}{self.t(stop)}{'' if step == 1 else f', {step}'})"

    def count(self, indent: int, parts: list[Any]) -> None:
        """Count slots (q) and iterations (w)."""
        for part in parts:
            if isinstance(part, Piece):
                self.move(indent, "q", "+=", part.n)
                self.move(indent, "bytes", "+=", part.n_choices)
            elif isinstance(part, Turn):
                self.put(indent, "q += 1")
                test = self.test(part.source.condition)
                inner = indent + (test is not None)
                for body, parts_of_body, word in (
                    (part.source.then, part.then, f"if {test}:"),
                    (part.source.other, part.other, "else:"),
                ):  # both, where it isn't known which one is run
                    self.put(indent, *([] if test is None else [word, " pass"]))
                    self.pure(inner, body, "a")
                    self.count(inner, parts_of_body)
            elif part.is_innermost:
                n = sum(piece.n for piece in part.body)
                self.put(indent, f"n = len({self.range(part.loop)})", "w += n", f"q += {n} * n + {len(part.kept)}")
                self.move(indent, "bytes", "+=", sum(piece.n_choices for piece in part.body), " * n")
            else:
                if part.kept:
                    self.put(indent, f"q += {len(part.kept)}")
                self.put(indent, f"for {self.t(part.loop.variable)} in {self.range(part.loop)}:")
                self.pure(indent + 1, part.loop.body, "a")
                self.count(indent + 1, part.body)
                self.put(indent + 1, "pass")

    def test(self, condition: Operand) -> str | None:
        """A condition as a comparison of pure integers; None where it is none."""
        made = [item for item in self.names.all if isinstance(item, Compute) and item.target == condition]
        if len(made) != 1 or condition in self.names.given or made[0].function not in COMPARISONS:
            return None
        operands = made[0].operands
        return (
            self.computed(made[0].function, [*map(self.t, operands)])
            if all(map(self.names.is_pure, operands))
            else None
        )

    def move(self, indent: int, name: str, sign: str, n: int, times: str = "") -> None:
        """Move on in slots, or in bytes, if there are any."""
        if n:
            self.put(indent, f"{name} {sign} {n}{times}")

    # --- forward

    def _forward(self) -> str:
        names, code = self.names, self.code
        given = [f"g_{self.t(name)}" if names.of[name] == "a" and names.given[name] == "a" else self.t(name)
                 for name in self.scalars]  # fmt: skip
        nothing = [*map(self._as_given, names.outputs), *map(self._no_array, names.results)]
        self.stays = f"(False, {''.join(part + ', ' for part in nothing)}0)"
        rows = [self.a(name, "r") for name in self.in_place]
        arrays = [self.a(name, "a") for name in self.given]
        arguments = ", ".join([*arrays, *rows, *given])
        self.put(0, f"def forward({arguments}):")
        for name in self.scalars:
            if names.given[name] == "a":
                self.put(1, f"{self.t(name)} = value_of(g_{self.t(name)})")
            elif name in self.names.outputs:
                self.put(1, f"g_{self.t(name)} = {self.t(name)}")
        written = self.given_back
        for name, lengths in names.new.items():
            found = [*map(self.sum, lengths)]
            self.put(1, f"if {' | '.join(f'({n} < 0)' for n in found)}:", f" return {self.stays}")
            self.put(1, f"{self.a(name, 'a')} = view(FLOATS, 0, ({''.join(n + ', ' for n in found)}))")  # its lengths
        for name in filter(self.lifted.__contains__, written):
            for other in self.lifted:
                if other != name and not (other in written and self.lifted.index(other) < self.lifted.index(name)):
                    pair = f"{self.a(name, 'a')}, {self.a(other, 'a')}"
                    self.put(1, f"if overlap({pair}):", f" return {self.stays}")
        self.intervals()
        self.put(1, "q, w, bytes = 0, 0, 0")
        self.count(1, [code.top])
        self.put(1, "size = q + (bytes + 7) // 8")
        others = [name for name in self.arrays if name not in self.in_place]
        counted = [name for name in others if not (self.is_straight and name in names.new)]
        sizes = " + ".join(f"{self.a(name, 'a')}.size" for name in counted) or "0"
        is_whole = not self.is_straight and any(isinstance(s, Loop) and s.apart for s in names.all)
        most = MAX_OF_WHOLE if is_whole else MAX_ELEMENTS
        self.put(1, f"if w < {MIN_ITERATIONS} or {sizes} > {most} * w:", f" return {self.stays}")
        for name in others:
            a, e, r, ndim = (*(self.a(name, p) for p in "aer"), names.arrays[name].ndim)
            if name in self.new:
                self.put(1, f"{r} = 0")
            elif name in self.active:
                self.scope[f"finding_rows_{ndim}"] = nest_rows.finding_rows(ndim)
                self.put(1, f"{r} = finding_rows_{ndim}({a})")
            is_noted = f"{a}.size if {r} < 0 else 0" if name in self.active else "0"
            self.put(1, f"{e} = {f'{a}.size' if name in self.kept else is_noted}")
        self.put(1, f"elements = {' + '.join(self.a(name, 'e') for name in others) or '0'}")
        n_params = self.parameters()
        n_out = " + ".join([*(f"{self.a(name, 'a')}.size" for name in written), str(len(self.out))])
        self.put(1, "header = open_tape(KIND)", f"n_kept, n_out = elements + size + {n_params}, {n_out}")
        self.put(1, "if n_out == 0:", f" return {self.stays}")
        self.put(1, "if reserve(header, n_out, n_kept + 1, 1) == 0:", f" return {self.stays}")
        self.put(1, "at, any_row = get_word(header, ARGUMENTS), 0")
        self.put(1, "index, partial = get_word(header, INDEX) + 4 * at, get_word(header, PARTIAL) + 8 * at")
        for name in self.in_place:
            self.put(1, f"any_row |= {self.a(name, 'r')}", f"{self.a(name)} = {self.a(name, 'a')}")
        for name in others:
            a, v, e, r, ndim = (*(self.a(name, p) for p in "aver"), names.arrays[name].ndim)
            if name in self.lifted:
                self.scope[f"noting_rows_{ndim}"] = nest_rows.noting_rows(ndim)
                self.put(1, f"any_row |= {r}", f"if {r} < 0:", f" noting_rows_{ndim}({a}, index)")
            if name in self.kept:
                word = f"copying_{'values' if name in self.active else 'numbers'}_{ndim}"
                self.scope[word] = nest_rows.copying(ndim, name in self.active)
                kind = "INTEGERS" if names.elements[name] == "i" else "FLOATS"
                self.put(1, f"{v} = view({kind}, partial, {a}.shape)")
                self.put(1, *([] if name in self.new else [f"{word}({a}, {v})"]))
            self.put(1, f"index += 4 * {e}", f"partial += 8 * {e}")
        for name in self.scalars:
            if names.given[name] == "a":
                self.put(1, f"any_row |= row_of(g_{self.t(name)})")
        self.put(1, "m, k, choices, c = partial, 0, partial + 8 * q, 0")
        self.run(1, [code.top])
        self.put(1, "partial += 8 * size", "index += 4 * size")
        self.put(1, "first, step = 0, 0", "if any_row != 0:")
        self.keep_parameters(2)
        self.put(2, "first, step = end_rows(header, n_kept, n_out, address_of_reverse()), 1")
        for name in written:
            ndim, a = names.arrays[name].ndim, self.a(name, "a")
            self.scope[f"giving_back_{ndim}"] = nest_rows.giving_back(ndim)
            if name in names.results:
                self.put(1, f"o{a} = new_array({a}.shape)")
                a = f"o{a}"
            self.put(1, f"giving_back_{ndim}({a}, {self.a(name)}, first, step)", f"first += step * {a}.size")
        results = []
        for name in names.outputs:
            if name in self.out:
                results.append(f"make(KIND, {self.t(name)}, first + step * {self.out.index(name)}, 0)")
            else:
                results.append(f"float({self.t(name)})" if names.of[name] == "f" else self.t(name))
        results += [f"o{self.a(name, 'a')}" for name in names.results]
        n_states = max(map(len, names.states.values()), default=1)
        state = f"len({self.range(names.loop)}) % {n_states}" if n_states > 1 else "0"
        self.put(1, f"return (True, {''.join(r + ', ' for r in results)}{state})")
        return self._taken()

    def _no_array(self, name: str) -> str:
        return f"no_array(({'0, ' * self.names.arrays[name].ndim}))"

    def _as_given(self, name: str) -> str:
        if name not in self.names.given:
            return {"a": "make(KIND, 0.0, 0, 0)", "f": "0.0", "i": "0", "b": "False"}[self.names.of[name]]
        kind, given, x = self.names.of[name], self.names.given[name], f"g_{self.t(name)}"
        if kind == given:
            return x
        return f"make(KIND, float({x}), 0, 0)" if kind == "a" else f"float({x})"

    def _taken(self) -> str:
        text, self.lines = "\n".join(self.lines), []
        return text

    def run(self, indent: int, parts: list[Any]) -> None:
        """The nest, and its slots."""
        for part in parts:
            if isinstance(part, Piece):
                self.slots(indent, [(p, name) for name, p in part.slots.items()])
                if not part.statements:
                    self.put(indent, "pass")
                self.steps(indent, part.statements)
                self.move(indent, "k", "+=", part.n)
                self.move(indent, "c", "+=", part.n_choices)
            elif isinstance(part, Turn):
                for way, word in ((part.then, f"if {self.t(part.source.condition)}:"), (part.other, "else:")):
                    self.put(indent, word, " pass")
                    self.run(indent + 1, way)
                    self.put(indent + 1, f"put_number(m, k, {float(way is part.then)})")  # behind, as scalars are
                self.put(indent, "k += 1")
            else:
                for node in part.outside:
                    item = self.code.loads[id(node)]
                    self.put(indent, f"{self.t(item.target)} = {self.forward_value(item)}")
                for end in part.loop.ends:
                    if not self.code.is_within([end.at]):
                        tests = self.beyond(end, self.t(end.at), self.t(end.at))
                        self.put(indent, f"if {' or '.join(tests)}:", f" return {self.stays}")

                def write(indent: int, part: Pass = part) -> None:
                    self.put(indent, f"for {self.t(part.loop.variable)} in {self.range(part.loop)}:")
                    self.put(indent + 1, "pass")
                    self.run(indent + 1, part.body)

                if part.is_innermost:
                    self.looking_ahead(indent, part, False, write)
                else:
                    write(indent)
                self.slots(indent, list(enumerate(part.kept)))  # behind it: where the reverse comes first
                if part.kept:
                    self.put(indent, f"k += {len(part.kept)}")

    def slots(self, indent: int, slots: list[tuple[int, str]]) -> None:
        """Keep scalars from before."""
        for p, name in slots:
            self.put(indent, self.keep(name, p, self.t(name)))

    def keep(self, name: str, p: int, value: str) -> str:
        """Keep a value in a slot."""
        return f"put_{'word' if self.names.of[name] in 'ib' else 'number'}(m, k + {p}, {value})"

    def steps(self, indent: int, body: list[Any]) -> None:
        """Straight code, with its branches."""
        for item in body:
            if isinstance(item, If):
                self.put(indent, f"if {self.t(item.condition)}:", " pass")
                self.steps(indent + 1, item.then)
                self.put(indent, "else:", " pass")
                self.steps(indent + 1, item.other)
            elif isinstance(item, Store):
                self.check(indent, item)
                word, array, store = self.element("put", item), self.a(item.array), self.code.sources[id(item)]
                if store.slot is not None:
                    before = f"{self.element('get', item)}({array}, {self.index(item.index)})"
                    self.put(indent, f"put_number(m, k + {store.slot}, {before})")
                self.put(indent, f"{word}({array}, {self.index(item.index)}, {self.t(item.value)})")
            else:
                node = self.code.sources.get(id(item))
                if isinstance(node, Get) and node.is_outside:
                    continue
                if isinstance(item, Load):
                    self.check(indent, item)
                before = f"{self.t(item.target)}"
                if isinstance(node, Op) and node.choice is not None:
                    word = f"choose_{self.function(item.function)}"
                    self.scope[word] = nest_rows.choosing(item.function)
                    self.put(indent, f"{word}(choices, c + {node.choice}, {', '.join(map(self.t, item.operands))})")
                if isinstance(node, Op) and node.slope is not None:
                    partial = f"{self.weighing(item.function, 0, None)}(1.0, {self.t(item.operands[0])}, 0.0)"
                    self.put(indent, f"put_number(m, k + {node.slope}, {partial})")
                self.put(indent, f"{before} = {self.forward_value(item)}")
                if isinstance(node, (Get, Op)) and node.slot is not None:
                    self.put(indent, self.keep(item.target, node.slot, before))

    # --- parameters: each has an argument, a row and a word

    def parameters(self) -> int:
        """How many there are."""
        of_arrays = sum(1 + self.names.arrays[name].ndim for name in self.arrays)
        return 1 + 2 * self.code.has_choices + of_arrays + len(self.in_place) + len(self.scalars)

    def keep_parameters(self, indent: int) -> None:
        """Write them."""
        at = 0

        def keep(word: str, value: str, row: str = "") -> None:
            nonlocal at
            if row:
                self.put(indent, f"put_index(index, {at}, {row})")
            self.put(indent, f"put_{word}(partial, {at}, {value})")
            at += 1

        keep("word", "k")
        if self.code.has_choices:
            keep("word", "q")
            keep("word", "c")
        for name in self.arrays:
            keep("word", self.a(name, "r") if name in self.active else "0")
            for axis in range(self.names.arrays[name].ndim):
                keep("word", f"{self.a(name, 'a')}.shape[{axis}]")
        for name in self.in_place:
            keep("word", f"address_of({self.a(name, 'a')})")
        for name in self.scalars:
            kind, x = self.names.given[name], self.t(name)
            if kind == "a":
                keep("number", f"value_of(g_{x})", f"row_of(g_{x})")
            else:
                keep("word" if kind in "ib" else "number", f"g_{x}" if name in self.names.outputs else x)

    def load_parameters(self) -> None:
        """Read them, in the reverse."""
        at = 0

        def load(word: str, name: str, test: str = "") -> None:
            nonlocal at
            self.put(1, f"{name} = get_{word}(params, {at}){test}")
            at += 1

        load("word", "k")
        if self.code.has_choices:
            load("word", "q")
            load("word", "c")
        for name in self.arrays:
            load("word", self.a(name, "r"))
            for axis in range(self.names.arrays[name].ndim):
                load("word", f"{self.a(name, 'n')}_{axis}")
        for name in self.in_place:
            load("word", self.a(name, "d"))
        for name in self.scalars:
            kind, x = self.names.given[name], self.t(name)
            if kind == "a":
                self.put(1, f"r_{x} = get_index(rows, {at})")
            load("word" if kind in "ib" else "number", x, " != 0" if kind == "b" else "")

    # --- reverse

    def _reverse(self) -> str:
        names, code, written = self.names, self.code, self.given_back
        n_params = self.parameters()
        self.put(0, "def reverse(header, last, trailer):")
        self.put(
            1, "index, partial, bars = get_word(header, INDEX), get_word(header, PARTIAL), get_word(header, ADJOINT)"
        )
        self.put(1, f"n_kept, at = get_index(index, trailer), trailer - {n_params}", "begin = trailer - n_kept")
        self.put(1, "rows, params = index + 4 * at, partial + 8 * at")
        self.load_parameters()
        shapes = {}
        for name in self.arrays:
            lengths = [f"{self.a(name, 'n')}_{axis}" for axis in range(names.arrays[name].ndim)]
            shapes[name] = f"({''.join(n + ', ' for n in lengths)})"
            self.put(1, f"{self.a(name, 's')} = {' * '.join(lengths) or '1'}")
        n_out = " + ".join([*(self.a(name, "s") for name in written), str(len(self.out))])
        self.put(1, f"n_out = {n_out}", "first = last - n_out + 1", "if are_zero(bars, first, n_out):", " return begin")
        self.put(1, "index += 4 * begin", "partial += 8 * begin")
        apart = [name for name in (*self.lifted, *self.new) if name not in written]
        sizes = [f"(0 if {self.a(name, 'r')} > 0 else {self.a(name, 's')})" for name in apart]
        sizes += [self.a(name, "s") for name in code.restored]
        if sizes:
            self.put(1, f"heap = scratch({' + '.join(sizes)})", "free = heap")
        for name in self.arrays:
            v, b, s, r = (self.a(name, p) for p in "vbsr")
            kind = "INTEGERS" if names.elements[name] == "i" else "FLOATS"
            place = "free" if name in code.restored else self.a(name, "d") if name in self.in_place else "partial"
            if name in code.restored:
                self.put(1, f"copying_numbers(partial, free, {s})")
            self.put(1, f"{v} = view({kind}, {place}, {shapes[name]})", f"{self.a(name, 'i')} = index")
            if name in code.restored:
                self.put(1, f"free += 8 * {s}")
            is_noted = f"({s} if {r} < 0 else 0)" if name in self.active else "0"
            n = s if name in self.kept else is_noted
            if name in self.in_place:
                self.put(1, f"p{b} = bars + 8 * {r}")
            else:
                self.put(1, f"index += 4 * {n}", f"partial += 8 * {n}")
            if name in written:
                self.put(1, f"p{b} = bars + 8 * first", f"first += {s}")
            elif name in self.lifted or name in self.new:
                self.put(1, f"p{b} = bars + 8 * {r} if {r} > 0 else free", f"free += 0 if {r} > 0 else 8 * {s}")
            if name in self.active:
                self.put(1, f"{b} = view(FLOATS, p{b}, {shapes[name]})")
        self.put(1, "m = partial", *(["choices = m + 8 * q"] if code.has_choices else []))
        shared = code.shared | {name for name in self.scalars if names.given[name] == "a"}
        for name in sorted(shared):
            if names.of[name] == "a":
                place = f"get_number(bars, first + {self.out.index(name)})" if name in self.out else "0.0"
                self.put(1, f"{self.b(name)} = {place}")
        self.back(1, [code.top], [])
        for name in self.lifted:
            b, s, r, i = (self.a(name, p) for p in "bsri")
            self.put(1, f"add_to_rows(bars, {r if name in written else f'min({r}, 0)'}, {i}, p{b}, {s})")
        for name in self.scalars:
            if names.given[name] == "a":
                x = self.t(name)
                self.put(1, f"if r_{x} != 0:", f" put_number(bars, r_{x}, get_number(bars, r_{x}) + {self.b(name)})")
        if sizes:
            self.put(1, "release(heap)")
        self.put(1, "return begin")
        return self._taken()

    def back(
        self, indent: int, parts: list[Any], body: list[Any], is_innermost: bool = False, again: Sequence[Again] = ()
    ) -> None:
        """Go through parts backwards; `body` are the statements whose pure integers they need."""
        self.pure(indent, body, "v")
        self.put(indent, "pass")
        for made in again:
            self.make_again(indent, made)
        for part in reversed(parts):
            if isinstance(part, Piece):
                if not is_innermost:
                    self.move(indent, "k", "-=", part.n)
                    self.move(indent, "c", "-=", part.n_choices)
                self.piece(indent, part)
            elif isinstance(part, Turn):
                self.put(indent, "k -= 1", "if get_number(m, k) != 0.0:")
                self.back(indent + 1, part.then, part.source.then)
                self.put(indent, "else:")
                self.back(indent + 1, part.other, part.source.other)
            else:
                self.loop(indent, part)

    def loop(self, indent: int, part: Pass) -> None:
        """A loop, backwards; or forwards, where it makes no difference."""
        names, (start, _, step) = self.names, part.loop.bounds
        for node in part.outside:
            if any(node.y in piece.needed for piece in part.body):
                self.put(indent, f"{self.t(node.y)} = {self.got(node)}")
            if names.elements[node.array] == "a":
                self.put(indent, f"{self.b(node.y)} = 0.0")
        if part.kept:
            self.put(indent, f"k -= {len(part.kept)}")
        for p, name in enumerate(part.kept):
            self.put(indent, f"{self.t(name + '_0')} = {self.slot(name, f'k + {p}')}")
        self.present += part.kept
        variable, pieces = self.t(part.loop.variable), part.body if part.is_innermost else []
        n, n_choices = sum(piece.n for piece in pieces), sum(piece.n_choices for piece in pieces)
        size = f"n_{variable}"
        if n or n_choices or abs(step) != 1 or not part.in_any_order:
            self.put(indent, f"{size} = len({self.range(part.loop)})")
        if part.in_any_order:

            def write(indent: int) -> None:
                if part.gather is not None:
                    self.move(indent, "k", "-=", n, f" * {size}")
                    self.gather(indent, part, part.gather)
                    self.move(indent, "k", "+=", n, f" * {size}")
                for self.share in part.shares or ([None] if part.gather is None else []):
                    self.move(indent, "k", "-=", n, f" * {size}")
                    self.move(indent, "c", "-=", n_choices, f" * {size}")
                    turns = self.range(part.loop)
                    if self.share is not None and self.share.is_free:
                        turns = turns.replace("range", "turns", 1)
                    self.put(indent, f"for {variable} in {turns}:")
                    self.back(indent + 1, part.body, part.loop.body, part.is_innermost)
                    self.move(indent + 1, "k", "+=", n)
                    self.move(indent + 1, "c", "+=", n_choices)
                self.share = None

            self.looking_ahead(indent, part, True, write)
            self.move(indent, "k", "-=", n, f" * {size}")
            self.move(indent, "c", "-=", n_choices, f" * {size}")
        else:
            self.put(indent, f"for c_{variable} in range({size}):")
            last = f"{self.t(start)} + ({size} - 1 - c_{variable})"
            self.put(indent + 1, f"{variable} = {last}" + ("" if step == 1 else f" * {step}"))
            self.move(indent + 1, "k", "-=", n)
            self.move(indent + 1, "c", "-=", n_choices)
            self.back(indent + 1, part.body, part.loop.body, part.is_innermost, part.again)
        del self.present[len(self.present) - len(part.kept) :]
        for node in part.outside:
            if names.elements[node.array] == "a":
                self.put(
                    indent,
                    f"{self.element('add', node)}({self.a(node.array, 'b')}, {self.index(node.index)}, "
                    f"{self.b(node.y)})",
                )

    def gather(self, indent: int, part: Pass, gather: Gather) -> None:
        """What a loop adds to elements, element by element: see `Gather`."""
        variable, (start, stop) = self.t(part.loop.variable), map(self.t, part.loop.bounds[:2])
        least, most = min(gather.shares), max(gather.shares)
        element, low, high, first = (f"{word}_{variable}" for word in ("e", "low", "high", "k"))
        (piece,) = part.body
        at_slots = [f"k = {first} + {piece.n} * ({variable} - {start})"] if piece.n else []

        def turn(indent: int, by: int, share: Share) -> None:
            self.put(indent, f"{variable} = {element} - {self.t(Const(by))}", *at_slots)
            self.share = share
            self.back(indent, part.body, part.loop.body, True)

        self.put(indent, *([f"{first} = k"] if piece.n else []))
        if any(isinstance(node, Put) and node.slot is not None for node in piece.nodes):
            self.put(indent, f"for {variable} in {self.range(part.loop).replace('range', 'turns', 1)}:")
            self.pure(indent + 1, part.loop.body, "v")
            self.put(indent + 1, *at_slots)
            self.restore(indent + 1, piece)
        self.put(indent, f"{low} = {start} + {self.t(Const(most))}")
        self.put(indent, f"{high} = max({stop} + {self.t(Const(least))}, {low})")
        self.put(indent, f"for {element} in turns({low}, {high}):")
        self.sums = {place: f"sum_{k}" for k, place in enumerate(gather.places)}
        self.put(indent + 1, *(f"{name} = 0.0" for name in self.sums.values()))
        for by, share in gather.shares.items():
            turn(indent + 1, by, share)
        for (array, index), name in self.sums.items():
            word = "add" if all(map(self.is_plain, index)) else "add_any"
            at = "".join(f"{i}, " for i in (*map(self.t, index), element))
            self.put(indent + 1, f"{word}({self.a(array, 'b')}, ({at}), {name})")
        self.sums = {}
        self.put(indent, f"for c_{variable} in range({stop} - {start} + {most - least} - ({high} - {low})):")
        self.put(indent + 1, f"{element} = {start} + {self.t(Const(least))} + c_{variable}")
        self.put(indent + 1, f"if {element} >= {low}:", f" {element} = {element} + {high} - {low}")
        for by, share in gather.shares.items():
            at = f"{element} - {self.t(Const(by))}"
            self.put(indent + 1, f"if {at} >= {start} and {at} < {stop}:")
            turn(indent + 2, by, share)
        self.put(indent, *([f"k = {first}"] if piece.n else []))

    def make_again(self, indent: int, made: Again) -> None:
        """Run a loop that makes an array."""
        (piece,), loop = made.loop.body, made.loop.loop
        self.put(indent, f"for {self.t(loop.variable)} in {self.range(loop)}:")
        self.pure(indent + 1, loop.body, "v")
        for node in (node for node in piece.nodes if getattr(node, "y", None) in made.needed):
            xs = [self.t(x) for x in node.xs] if isinstance(node, Op) else []
            self.put(indent + 1, f"{self.t(node.y)} = {self.computed(node.function, xs) if xs else self.got(node)}")
        array, index = self.a(made.put.array), self.index(made.put.index)
        self.put(indent + 1, f"{self.element('put', made.put)}({array}, {index}, {self.t(made.put.x)})")

    def slot(self, name: str, at: str) -> str:
        """What a slot keeps."""
        kind = self.names.of[name]
        found = f"get_{'word' if kind in 'ib' else 'number'}(m, {at})"
        return f"({found} != 0)" if kind == "b" else found

    def got(self, node: Get) -> str:
        """An element of an array that is only read."""
        return f"{self.element('get', node)}({self.a(node.array)}, {self.index(node.index)})"

    def piece(self, indent: int, piece: Piece) -> None:
        """Straight code, backwards."""
        for name, sign, by in piece.steps:
            self.put(indent, f"{self.t(f'{name}_0')} = ({self.t(f'{name}_0')} {sign} {self.t(by)})")
        for name, p in piece.slots.items():
            self.put(indent, f"{self.t(piece.exposed[name])} = {self.slot(name, f'k + {p}')}")
        outside = {node.y for node in _nodes_of(piece.nodes, Get) if node.is_outside}
        changed = set(piece.final)
        self.bar_names = {
            version: self.b(name) for name, version in piece.exposed.items() if name not in changed
        }  # of what is from before, and isn't changed
        zeros = sorted(v for v in piece.barred if v not in outside and v not in self.bar_names)
        for version in zeros:
            self.put(indent, f"{self.b(version)} = 0.0")
        shared = [name for name in piece.final if name in self.code.shared and self.names.of[name] == "a"]
        for name in shared:
            if piece.final[name] in piece.barred:
                self.put(indent, f"{self.b(piece.final[name])} = {self.b(name)}")
        if self.share is None or self.share.is_first:
            self.restore(indent, piece)
        only = self.only_kept(piece, shared)
        if only is not None:
            self.put(indent, f"if get_byte(choices, c + {only.choice}) != {0 if only.kept else 2}:")
        self.again(indent + (only is not None), piece, piece.nodes)
        self.rare: set[str] = set()  # versions whose adjoints are 0 where another operand was taken
        self.adjoints(indent + (only is not None), piece, piece.nodes)
        for name in shared:
            version = piece.exposed.get(name)
            self.put(indent, f"{self.b(name)} = {self.b(version) if version in piece.barred else '0.0'}")

    def restore(self, indent: int, piece: Piece) -> None:
        """Have in arrays what was there before a piece."""
        for node in reversed(piece.nodes):
            if isinstance(node, Put) and node.slot is not None:
                array, index = self.a(node.array), self.index(node.index)
                self.put(indent, f"{self.element('put', node)}({array}, {index}, get_number(m, k + {node.slot}))")

    @staticmethod
    def only_kept(piece: Piece, shared: list[str]) -> Op | None:
        """What chooses the element that a piece stores, if all adjoints come from it: none where it stays as it was."""
        stores = [node for node in piece.nodes if isinstance(node, (Put, Fork))]
        is_alone = len(stores) == 1 and not any(piece.final[name] in piece.barred for name in shared)
        return stores[0].keeps if is_alone and isinstance(stores[0], Put) else None

    def bar(self, version: str) -> str:
        """The adjoint of a version, which may be that of a name."""
        return self.bar_names.get(version) or self.b(version)

    def again(self, indent: int, piece: Piece, nodes: list[Any]) -> None:
        """Values that are needed."""
        for node in nodes:
            if isinstance(node, Op) and node.y in piece.needed:
                if node.slot is not None:
                    value = f"get_number(m, k + {node.slot})"
                elif isinstance(node.function, Extent):
                    value = self.value(node.function, "v")
                else:
                    value = self.computed(node.function, [self.t(x) for x in node.xs])
                self.put(indent, f"{self.t(node.y)} = {value}")
            elif isinstance(node, Get) and node.y in piece.needed and not node.is_outside:
                value = self.got(node)
                if node.slot is not None:
                    value = f"get_number(m, k + {node.slot})"
                self.put(indent, f"{self.t(node.y)} = {value}")
            elif isinstance(node, Fork) and node.condition in piece.needed:
                self.put(indent, f"if {self.t(node.condition)}:", " pass")
                self.again(indent + 1, piece, node.then)
                for y, a, _ in node.merged:
                    if y in piece.needed:
                        self.put(indent + 1, f"{self.t(y)} = {self.t(a)}")
                self.put(indent, "else:", " pass")
                self.again(indent + 1, piece, node.other)
                for y, _, b in node.merged:
                    if y in piece.needed:
                        self.put(indent + 1, f"{self.t(y)} = {self.t(b)}")

    def adjoints(self, indent: int, piece: Piece, nodes: list[Any]) -> None:
        """Take the adjoints of results to those of operands."""
        for node in reversed(nodes):
            if isinstance(node, Put) and node.keeps is not None:
                self.kept_element(indent, node, node.keeps)
            elif isinstance(node, Put):
                stays = node.adds or (self.share is not None and not self.share.is_last)
                word = self.element("get" if stays else "take", node)
                taken = f"{word}({self.a(node.array, 'b')}, {self.index(node.index)})"
                if node.x in piece.barred:
                    x = self.bar(node.x)
                    self.put(indent, f"{x} = plus({x}, {taken})")
                elif not stays:
                    self.put(indent, taken)
            elif isinstance(node, Get):
                is_active = self.names.elements[node.array] == "a"
                is_added = is_active and self.is_reached(node.y) and not (node.is_outside or node.is_absorbed)
                if node.y in piece.barred and is_added and self.sums:
                    total = self.sums[node.array, tuple(node.index[:-1])]
                    self.put(indent, f"{total} = plus({total}, {self.bar(node.y)})")
                elif node.y in piece.barred and is_added:
                    array, index = self.a(node.array, "b"), self.index(node.index)
                    is_rare = node.y in self.rare and node.array in self.names.written  # no vector is made of it
                    self.put(indent, *([f"if {self.bar(node.y)} != 0.0:"] if is_rare else []))
                    self.put(indent + is_rare, f"{self.element('add', node)}({array}, {index}, {self.bar(node.y)})")
            elif isinstance(node, Op):
                if node.y in piece.barred and self.is_reached(node.y):
                    self.adjoint(indent, piece, node)
            elif node.condition in piece.needed:
                for side, nodes_of_side in ((1, node.then), (2, node.other)):
                    self.put(indent, f"if {self.t(node.condition)}:" if side == 1 else "else:", " pass")
                    for merged in node.merged:
                        y, x = merged[0], merged[side]
                        if y in piece.barred and x in piece.barred:
                            self.put(indent + 1, f"{self.bar(x)} = plus({self.bar(x)}, {self.bar(y)})")
                    self.adjoints(indent + 1, piece, nodes_of_side)

    def is_reached(self, version: str) -> bool:
        """Whether this loop takes the adjoint of a version, if it is one of several."""
        return self.share is None or version in self.share.reached

    def kept_element(self, indent: int, node: Put, chooses: Op) -> None:
        """Take the adjoint of an element, or as much of it as isn't that of what was there before."""
        y_bar, array, index = self.bar(chooses.y), self.a(node.array, "b"), self.index(node.index)
        kept = f"{'1.0 - ' if chooses.kept else ''}get_choice(choices, c + {chooses.choice})"
        self.put(indent, f"kept = {kept}", "if kept < 1.0:")
        self.put(indent + 1, f"{y_bar} = {self.element('take', node)}({array}, {index})")
        self.put(indent + 1, f"{self.element('add', node)}({array}, {index}, chosen(kept, {y_bar}))")

    def adjoint(self, indent: int, piece: Piece, node: Op) -> None:
        """Add to the adjoints of an operation's operands."""
        y_bar, function = self.bar(node.y), node.function
        exponent = exponent_of(node)
        if node.choice is not None:
            self.put(indent, f"p_{y_bar} = get_choice(choices, c + {node.choice})")
        for i, x in enumerate(node.xs):
            if x not in piece.barred or node.kept == i or not self.is_reached(str(x)):
                continue
            x_bar = self.bar(str(x))
            if node.choice is not None or node.y in self.rare:
                self.rare.add(str(x))
            if node.choice is not None:
                term = f"plus({x_bar}, chosen({'1.0 - ' if i else ''}p_{y_bar}, {y_bar}))"
            elif node.slope is not None:
                term = f"plus({x_bar}, weighed_by(get_number(m, k + {node.slope}), {y_bar}))"
            elif function in (None, float, operator.add, operator.pos) or (function is operator.sub and i == 0):
                term = f"plus({x_bar}, {y_bar})"
            elif function in (operator.sub, operator.neg):
                term = f"plus({x_bar}, -{y_bar})"
            elif function is operator.mul or exponent == 2:
                partial = self.t(node.xs[1 - i]) if exponent is None else f"2.0 * {self.t(node.xs[0])}"
                if self.is_straight:  # elements that were not taken have infinite factors too, perhaps
                    term = f"plus({x_bar}, chosen({y_bar}, {partial}))"
                else:
                    term = f"plus_product({x_bar}, {partial}, {y_bar})"
            else:
                word = self.weighing(function, i, exponent)
                operands = node.xs[: 1 if exponent is not None else None]
                values = [self.t(o) if not isinstance(o, str) or self.is_there(piece, o) else "0.0" for o in operands]
                y = self.t(node.y) if node.y in piece.needed else "0.0"
                term = f"plus({x_bar}, {word}({y_bar}, {', '.join(values)}, {y}))"
            self.put(indent, f"{x_bar} = {term}")

    def weighing(self, function: Any, i: int, exponent: int | None) -> str:
        """The name of the intrinsic for an adjoint times a partial derivative."""
        word = f"w{i}_{self.function(function)}" + ("" if exponent is None else f"_{len(self.scope)}")
        self.scope[word] = nest_rows.weighing(function, i, exponent)
        return word

    def is_there(self, piece: Piece, version: str) -> bool:
        """Whether the reverse has a value."""
        return version not in piece.kinds or version in piece.needed or piece.exposed.get(version) == version
