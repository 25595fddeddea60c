"""Statements: how an expression over active scalars becomes one row of the tape.

While a function is compiled, an expression is a graph of nodes: what was computed, from which operands, with which
partials. `record` makes a row of it: it walks the graph in reverse, here, at compile time, and so emits the products of
partials that lead from the result to each scalar that has a row already. What runs is straight-line arithmetic in
registers, and one append to the tape.

      d = x[i] - x[j]          nothing
      e = d * d / (s + d)      a row of three arguments: x[i], x[j], s

An argument that was not chosen, of `max` say, becomes nobody's: an infinite adjoint doesn't turn its 0 into nan.

Which scalars get rows, and which remain nodes, is decided in `plan.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from tapegrad.jitted import jacobian_tape as tape
from tapegrad.jitted.active import ALIGNMENT, DOUBLE, WORD, Taped
from tapegrad.jitted.emission import ZERO_ROW, Choice, Emitter, Jet, Rule, Single, chain, parts_of, weighed

I8, I32 = ir.IntType(8), ir.IntType(32)


class Leaf:
    """A number that has a row, or a passive one (row 0)."""

    def __init__(self, value: Single | Jet, row: Any = ZERO_ROW) -> None:
        self.value, self.row = value, row

    @property
    def is_passive(self) -> bool:
        """Whether it is known now that nothing leads on from here."""
        return isinstance(self.row, ir.Constant) and self.row.constant == 0


class Node:
    """A number computed from others, that has no row (yet)."""

    def __init__(self, rule: Rule, operands: Sequence[Node | Leaf]) -> None:
        self.rule, self.operands = rule, operands
        self.value = chain(rule, *(operand.value for operand in operands))
        self._partials: dict[tuple[int, Any], Any] = {}

    def partial(self, i: int, where: Any) -> Any:
        """The partial derivative by an operand; emitted once in each block of code, since blocks may not see others."""
        if (i, where) not in self._partials:
            values = [operand.value for operand in self.operands]
            self._partials[i, where] = self.rule.partials[i](*values, self.value)
        return self._partials[i, where]


def partials_of(emitter: Emitter, top: Node | Leaf, seed: float, where: Any) -> list[tuple[Any, Single | Jet]]:
    """The rows that a graph of nodes leads to, and its derivative by each: reverse accumulation, at compile time."""
    order: list[Node] = []
    seen: set[int] = set()
    stack: list[tuple[Node | Leaf, bool]] = [(top, False)]
    while stack:
        item, done = stack.pop()
        if isinstance(item, Leaf) or _is_flat(item) or (not done and id(item) in seen):
            continue
        if done:
            order.append(item)
        else:
            seen.add(id(item))
            stack.append((item, True))
            stack += [(operand, False) for operand in item.operands]
    if isinstance(top, Leaf):
        return [] if top.is_passive else [(top.row, emitter.single(seed))]
    # An adjoint, and whether it is reached at all: None where it always is.
    bars: dict[int, tuple[Any, Any]] = {id(top): (emitter.single(seed), None)}
    rows: dict[int, tuple[Any, Any]] = {}
    found: dict[int, Any] = {}
    for node in reversed(order):
        if id(node) not in bars:
            continue  # nothing leads there
        y_bar, is_reached = bars.pop(id(node))
        for i, operand in enumerate(node.operands):
            if operand.is_passive if isinstance(operand, Leaf) else _is_flat(operand):
                continue
            partial = node.partial(i, where)
            if isinstance(partial, (int, float)) and partial == 0.0:
                continue
            reached = is_reached
            if isinstance(partial, Choice):
                taken = partial.is_taken(emitter.builder)
                reached = taken if reached is None else emitter.builder.and_(reached, taken)
            if isinstance(operand, Leaf):
                found[id(operand.row)] = operand.row
            into, key = (rows, id(operand.row)) if isinstance(operand, Leaf) else (bars, id(operand))
            term = weighed(partial, y_bar, [x.value for x in node.operands])
            if key in into:
                before, was_reached = into[key]
                is_either = None not in (reached, was_reached)
                term, reached = before + term, emitter.builder.or_(was_reached, reached) if is_either else None
            into[key] = term, reached
    return [
        (found[k] if reached is None else emitter.builder.select(reached, found[k], ZERO_ROW), term)
        for k, (term, reached) in rows.items()
    ]


def _is_flat(node: Node) -> bool:
    """Whether nothing active is below."""
    return all(operand.is_passive if isinstance(operand, Leaf) else False for operand in node.operands)


def record(context: Any, builder: Any, kind: Taped, node: Node | Leaf, where: Any, line: Any = None) -> Leaf:
    """Emit the row of a statement, unless all it reads is passive; what comes back has that row.

    It may be one of a line (`lines.py`).
    """
    if isinstance(node, Leaf):
        return node
    emitter = Emitter(context, builder)
    terms = partials_of(emitter, node, 1.0, where)
    if not terms:
        return Leaf(node.value)
    return Leaf(node.value, push_active(context, builder, kind, terms) if line is None else line.append(terms))


def any_active(builder: Any, terms: Sequence[tuple[Any, Any]]) -> Any:
    rows = terms[0][0]
    for row, _ in terms[1:]:
        rows = builder.or_(rows, row)
    return builder.icmp_signed("!=", rows, ZERO_ROW)


# --- appending to the tape --------------------------------------------------------------------------------------------


def push(context: Any, builder: Any, kind: Taped, terms: Sequence[tuple[Any, Any]]) -> Any:
    """Append a row; returns its number. Where memory is short, the function returns with MemoryError."""
    return _append(context, builder, kind, terms, closes=True)


def push_active(context: Any, builder: Any, kind: Taped, terms: Sequence[tuple[Any, Any]]) -> Any:
    """Append a row, unless all its arguments are nobody's: then it is row 0."""
    before = builder.block
    with builder.if_then(any_active(builder, terms), likely=True):
        recorded = push(context, builder, kind, terms)
        after = builder.block
    row = builder.phi(WORD)
    row.add_incoming(ZERO_ROW, before)
    row.add_incoming(recorded, after)
    return row


def extend(context: Any, builder: Any, kind: Taped, terms: Sequence[tuple[Any, Any]]) -> None:
    """Append arguments, of a row that `close` will make of all since the mark."""
    _append(context, builder, kind, terms, closes=False)


def mark(builder: Any, kind: Taped) -> Any:
    """How many arguments there are."""
    return builder.load(_word(builder, header(builder, kind), tape.ARGUMENTS))


def take_back(builder: Any, kind: Taped, since: Any) -> None:
    """Forget the arguments since a mark."""
    builder.store(since, _word(builder, header(builder, kind), tape.ARGUMENTS))


def close(context: Any, builder: Any, kind: Taped, since: Any, row: Any) -> Any:
    """Make a row of the arguments since a mark, and of `row`, with the partial 1; where there are none, it is `row`."""
    name = f"tapegrad_close_{1 + kind.n_tangents}"
    function = _function(builder.module, name, [WORD, WORD, WORD])
    if function.is_declaration:
        b = ir.IRBuilder(function.append_basic_block())
        h, since_, row_ = function.args
        arguments = b.load(_word(b, h, tape.ARGUMENTS))
        with b.if_then(b.icmp_signed("==", arguments, since_)):
            b.ret(row_)
        _ensure_room(b, h, 2, kind)
        zeros = [ir.Constant(part, None) for part in _parts_of(kind)]
        _store_argument(b, h, kind, arguments, known(b, h, row_), [ir.Constant(DOUBLE, 1.0), *zeros[1:]])
        one = ir.Constant(WORD, 1)
        arguments = b.add(arguments, one)
        n = b.sub(arguments, since_)
        is_long = b.icmp_signed(">", n, ir.Constant(WORD, tape.MAX_LENGTH))
        with b.if_then(is_long):
            _store_argument(b, h, kind, arguments, n, zeros)
        arguments = b.select(is_long, b.add(arguments, one), arguments)
        b.store(arguments, _word(b, h, tape.ARGUMENTS))
        b.ret(_end_row(b, h, b.select(is_long, ir.Constant(I8, tape.LONG), b.trunc(n, I8))))
    return _checked(context, builder, builder.call(function, [header(builder, kind), since, row]))


def header(builder: Any, kind: Taped) -> Any:
    """The address of the thread's tape: asked for once in each function, at its entry."""
    name = f"tapegrad_header_{kind.n_tangents}"
    known = getattr(builder.function, name, None)
    if known is None:
        with builder.goto_entry_block():
            get = _external(builder.module, "tapegrad_get_specific", [WORD])
            base = builder.call(get, [builder.load(shared(builder.module))])
            known = builder.add(base, ir.Constant(WORD, tape.place_of(kind.n_tangents)))
        setattr(builder.function, name, known)
    return known


def shared(module: Any) -> Any:
    """The address of what all threads share; its first word is the key."""
    name = "tapegrad_shared"
    if name not in module.globals:
        variable = ir.GlobalVariable(module, WORD, name)
        variable.linkage = "external"
    return module.globals[name]


def _append(context: Any, builder: Any, kind: Taped, terms: Sequence[tuple[Any, Any]], closes: bool) -> Any:
    """Call the function that appends `n` arguments; it stands in every module that needs it, and is inlined."""
    n, parts = len(terms), _parts_of(kind)
    width = len(parts)
    name = f"tapegrad_{'push' if closes else 'extend'}_{n}_{1 + kind.n_tangents}"
    function = _function(builder.module, name, [WORD] * (1 + n) + parts * n)
    if function.is_declaration:
        b = ir.IRBuilder(function.append_basic_block())
        h, rows, partials = function.args[0], function.args[1 : 1 + n], function.args[1 + n :]
        is_long = closes and n > tape.MAX_LENGTH
        _ensure_room(b, h, n + is_long, kind)
        arguments = b.load(_word(b, h, tape.ARGUMENTS))
        for k in range(n):
            at = b.add(arguments, ir.Constant(WORD, k))
            _store_argument(b, h, kind, at, known(b, h, rows[k]), partials[k * width : (k + 1) * width])
        if is_long:
            zeros = [ir.Constant(part, None) for part in parts]
            _store_argument(b, h, kind, b.add(arguments, ir.Constant(WORD, n)), ir.Constant(WORD, n), zeros)
        b.store(b.add(arguments, ir.Constant(WORD, n + is_long)), _word(b, h, tape.ARGUMENTS))
        b.ret(_end_row(b, h, ir.Constant(I8, tape.LONG if is_long else n)) if closes else ZERO_ROW)
    partials = []
    for _, partial in terms:
        partials += [part.value for part in parts_of(partial, kind)]
    values = [header(builder, kind), *(row for row, _ in terms), *partials]
    return _checked(context, builder, builder.call(function, values))


def _parts_of(kind: Taped) -> list[Any]:
    """The LLVM types of a partial's value and of its tangents (`parts_of`)."""
    return [DOUBLE, ir.VectorType(DOUBLE, kind.n_tangents)] if kind.is_wide else [DOUBLE] * (1 + kind.n_tangents)


def _function(module: Any, name: str, arguments: list[Any]) -> Any:
    if name in module.globals:
        return module.globals[name]
    function = ir.Function(module, ir.FunctionType(WORD, arguments), name)
    function.linkage = "linkonce_odr"
    function.attributes.add("alwaysinline")
    function.attributes.add("nounwind")
    return function


def _external(module: Any, name: str, arguments: list[Any]) -> Any:
    return cgutils.get_or_insert_function(module, ir.FunctionType(WORD, arguments), name)


def _word(b: Any, header: Any, word: int) -> Any:
    pointer = b.inttoptr(header, WORD.as_pointer())
    return b.gep(pointer, [ir.Constant(WORD, word)])


def _ensure_room(b: Any, header: Any, n: int, kind: Taped) -> None:
    """Room for so many arguments, and a row: there is always room for as many rows as for arguments."""
    need = b.add(b.load(_word(b, header, tape.ARGUMENTS)), ir.Constant(WORD, n))
    with cgutils.if_unlikely(b, b.icmp_signed(">", need, b.load(_word(b, header, tape.ARGUMENT_CAPACITY)))):
        numbers = [ir.Constant(WORD, k) for k in (1, n, 1 + kind.n_tangents)]
        has_room = b.call(_external(b.module, "tapegrad_reserve", [WORD] * 4), [header, *numbers])
        with cgutils.if_unlikely(b, b.icmp_signed("==", has_room, ZERO_ROW)):
            b.ret(ir.Constant(WORD, -1))


def known(b: Any, header: Any, row: Any) -> Any:
    """A row that there is; nobody's for any other.

    What was read beyond an array's end may hold anything: the sweep must not write where it points.
    """
    return b.select(b.icmp_unsigned("<", row, b.load(_word(b, header, tape.ROWS))), row, ZERO_ROW)


def _store_argument(b: Any, header: Any, kind: Taped, at: Any, row: Any, partials: Sequence[Any]) -> None:
    index = b.inttoptr(b.load(_word(b, header, tape.INDEX)), I32.as_pointer())
    b.store(b.trunc(row, I32), b.gep(index, [at]))
    partial = b.inttoptr(b.load(_word(b, header, tape.PARTIAL)), DOUBLE.as_pointer())
    if kind.n_tangents:
        at = b.mul(at, ir.Constant(WORD, 1 + kind.n_tangents))
    for k, p in enumerate(partials):
        place = b.gep(partial, [b.add(at, ir.Constant(WORD, k)) if k else at])
        b.store(p, b.bitcast(place, p.type.as_pointer()), align=ALIGNMENT)


def _end_row(b: Any, header: Any, length: Any) -> Any:
    row = b.load(_word(b, header, tape.ROWS))
    lengths = b.inttoptr(b.load(_word(b, header, tape.LENGTH)), I8.as_pointer())
    b.store(length, b.gep(lengths, [row]))
    b.store(b.add(row, ir.Constant(WORD, 1)), _word(b, header, tape.ROWS))
    return row


def _checked(context: Any, builder: Any, result: Any) -> Any:
    with cgutils.if_unlikely(builder, builder.icmp_signed("<", result, ZERO_ROW)):
        context.call_conv.return_user_exc(
            builder, MemoryError, ("no memory for the tape, or over 2**31 rows: differentiate fewer steps at a time",)
        )
    return result
