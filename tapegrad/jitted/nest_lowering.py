"""Texts of functions, lowered as they are: in a fraction of the time that Numba takes with a function's code.

A text is a function in a small part of Python: assignments, `if`, loops over ranges, arithmetic, calls, elements of
`a.shape`, and `return`. A loop over `turns` is one over a range, of which no turn meets memory that another one writes.
Its names are integers, floats, truth values and arrays, each of one type throughout, which is that of the first thing
that is assigned to it; of an integer and a float it is a float. All operations of expressions are carried out. What an
operation, or a function, gives is what Numba has for it, to the last bit.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.errors import LiteralTypingError
from numba.np import arrayobj

from tapegrad.jitted.active import WORD

_OPERATORS = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Pow: operator.pow, ast.BitXor: operator.xor,
    ast.BitOr: operator.or_, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.USub: operator.neg, ast.UAdd: operator.pos,
    ast.Not: operator.not_,
}  # fmt: skip
# Adjoints are added in any order, as vectors do; products and sums of them may be rounded once.
ADDS, MULTIPLIES = ("reassoc", "nsz", "contract"), ("nsz", "contract")
_MOST_SQUARED = 64  # exponents beyond are left to Numba's code


class Value(NamedTuple):
    """What an expression gives: its type, and how its code is written; a number, where it is known."""

    kind: Any
    write: Callable[[], Any]
    known: Any = None


class Address:
    """A function of a text that gives the address of what is in its module."""

    def __init__(self, function: Any) -> None:
        self.function = function

    def _defn(self, typing: Any) -> Any:
        """As intrinsics have it."""
        return types.int64(), lambda context, builder, sig, args: builder.ptrtoint(self.function, WORD)


class Distinct(ir.MDValue):  # type: ignore[misc]
    """Metadata that no other is equal to; where it has operands, it is the first of them, as of loops."""

    def __init__(self, module: Any, *operands: Any) -> None:
        super().__init__(module, operands, str(len(module.metadata)))

    __eq__, __hash__ = object.__eq__, object.__hash__

    def descr(self, buf: list[str]) -> None:
        """What it is, in LLVM's language."""
        operands = ", ".join(operand.get_reference() for operand in (self, *self.operands))
        buf += ("distinct !{ ", operands if self.operands else "", " }", "\n")


class Text:
    """A function's text, and what its global names are.

    In `regions` are names of arrays, and of addresses, and in which region the memory is that is met by them: what
    is in one region is not in another.
    """

    def __init__(self, text: str, scope: dict[str, Any], regions: Mapping[str, str] | None = None) -> None:
        self.tree: Any = ast.parse(text).body[0]
        self.text, self.scope, self.regions = text, scope, regions or {}
        self.nodes = list(_statements(self.tree.body))
        self.parameters = [a.arg for a in self.tree.args.args]

    def symbol(self, kinds: Sequence[Any]) -> str:
        """A name for what is made of it for arguments of some types; such is the same in all modules."""
        return f"tapegrad_{self.tree.name}_{hashlib.sha256(repr((self.text, *kinds)).encode()).hexdigest()[:20]}"


class Function:
    """A text in a module, for arguments of some types."""

    def __init__(
        self, context: Any, module: Any, text: Text, kinds: Sequence[Any], returns: Any = None, name: str = ""
    ) -> None:
        self.context, self.module, self.text, self.arguments = context, module, text, tuple(kinds)
        self.of: dict[str, Any] = dict(zip(text.parameters, kinds, strict=True))
        self.returns, self.name = returns, name or text.symbol(kinds)
        self.resolved: dict[Any, Any] = {}
        self.met: dict[str, tuple[Any, Any]] = {}  # by region: the metadata of what meets it
        self.turns: Any = None  # the metadata of what meets memory in a loop whose turns are free of each other
        self._infer()
        self.function = module.globals.get(self.name)
        if self.function is None:
            try:
                self._write()
            except Exception:
                module.globals.pop(self.name, None)  # who wants it next shall not find a part of it
                raise

    def call(self, builder: Any, values: Sequence[Any]) -> tuple[Any, Any]:
        """The status of a call, and what it returned."""
        found = self.context.call_conv.call_function(builder, self.function, self.returns, self.arguments, values)
        return found[0], found[1]

    # --- types

    def _infer(self) -> None:
        waiting = True
        while waiting:
            waiting = False
            for node in self.text.nodes:
                for target, kind in self._assigned(node):
                    before = self.of.get(target)
                    if kind is not None and kind != before:
                        joined = kind if before is None else self._joined(before, kind)
                        waiting |= joined != before
                        self.of[target] = joined
                if isinstance(node, ast.Return) and self.returns is None:
                    found = self.value(node.value)
                    self.returns = None if found is None else types.unliteral(found.kind)

    def _assigned(self, node: Any) -> list[tuple[str, Any]]:
        """The names that a statement assigns, with types, None where these aren't known yet."""
        if isinstance(node, ast.For):
            return [(node.target.id, types.int64)]
        if isinstance(node, ast.AugAssign):
            found = self.operation(_OPERATORS[type(node.op)], [self.value(node.target), self.value(node.value)])
            return [(node.target.id, None if found is None else types.unliteral(found.kind))]
        if isinstance(node, ast.Assign):
            pairs = _pairs(node)
            kinds = [self.value(value) for _, value in pairs]
            return [(t, None if k is None else types.unliteral(k.kind)) for (t, _), k in zip(pairs, kinds, strict=True)]
        return []

    @staticmethod
    def _joined(a: Any, b: Any) -> Any:
        if {a, b} != {types.int64, types.float64}:
            raise TypeError(f"{a} and {b} are one name's types")
        return types.float64

    # --- expressions

    def value(self, node: Any) -> Value | None:
        """What an expression gives; None where a type isn't known yet."""
        found: Value | None = getattr(self, f"_{type(node).__name__}")(node)
        return found

    def values(self, nodes: Sequence[Any]) -> list[Value] | None:
        """What several give."""
        found = [self.value(node) for node in nodes]
        return None if any(one is None for one in found) else found  # type: ignore[return-value]

    def constant(self, known: Any) -> Value:
        """A number that is known."""
        kind = types.boolean if isinstance(known, bool) else types.int64 if isinstance(known, int) else types.float64
        return Value(kind, lambda: self.context.get_constant(kind, known), known)

    def _Constant(self, node: Any) -> Value:  # noqa: N802  these are the names of nodes
        return self.constant(node.value)

    def _Name(self, node: Any) -> Value | None:  # noqa: N802
        name = node.id
        if name in self.text.scope:
            known = self.text.scope[name]
            if isinstance(known, (bool, int, float)):
                return self.constant(known)
            kind = self.context.typing_context.resolve_value_type(known)
            return Value(kind, lambda: self.context.get_dummy_value())
        kind = self.of.get(name)
        return None if kind is None else Value(kind, lambda: self.builder.load(self.places[name]))

    def _Tuple(self, node: Any) -> Value | None:  # noqa: N802
        items = self.values(node.elts)
        if items is None:
            return None
        kind = types.BaseTuple.from_types(tuple(types.unliteral(item.kind) for item in items))
        return Value(kind, lambda: self.context.make_tuple(self.builder, kind, [item.write() for item in items]))

    def _Attribute(self, node: Any) -> Value | None:  # noqa: N802
        if isinstance(node.value, ast.Name) and node.value.id == "np":
            return self.constant(getattr(np, node.attr))
        name = node.value.id
        if name not in self.of:
            return None
        if node.attr == "shape":
            kind = types.UniTuple(types.intp, self.of[name].ndim)
            return Value(kind, lambda: self.context.make_tuple(self.builder, kind, self.arrays[name][1]))
        return Value(types.intp, lambda: functools.reduce(self.builder.mul, self.arrays[name][1]))

    def _Subscript(self, node: Any) -> Value | None:  # noqa: N802
        found, at = self.value(node.value), node.slice.value
        return None if found is None else Value(types.intp, lambda: self.builder.extract_value(found.write(), at))

    def _IfExp(self, node: Any) -> Value | None:  # noqa: N802
        parts = self.values([node.test, node.body, node.orelse])
        if parts is None:
            return None
        test, a, b = parts
        return Value(
            types.unliteral(a.kind), lambda: self.builder.select(self.truth(test), a.write(), self.cast(b, a.kind))
        )

    def _BoolOp(self, node: Any) -> Value | None:  # noqa: N802
        parts = self.values(node.values)
        if parts is None:
            return None
        write = self.builder_method("or_" if isinstance(node.op, ast.Or) else "and_")
        return Value(types.boolean, lambda: functools.reduce(write, map(self.truth, parts)))

    def _BinOp(self, node: Any) -> Value | None:  # noqa: N802
        return self.operation(_OPERATORS[type(node.op)], [self.value(node.left), self.value(node.right)])

    def _Compare(self, node: Any) -> Value | None:  # noqa: N802
        return self.operation(_OPERATORS[type(node.ops[0])], [self.value(node.left), self.value(node.comparators[0])])

    def _UnaryOp(self, node: Any) -> Value | None:  # noqa: N802
        found = self.value(node.operand)
        if found is not None and found.known is not None:
            return self.constant(_OPERATORS[type(node.op)](found.known))
        return self.operation(_OPERATORS[type(node.op)], [found])

    def _Call(self, node: Any) -> Value | None:  # noqa: N802
        if node.func.id == "len":
            bounds = self.values(node.args[0].args)
            return None if bounds is None else Value(types.int64, lambda: self.length(bounds))
        if node.func.id.removesuffix("_any") in ("get", "put", "add", "take"):
            return self.element(node.func.id, node)
        function, given = self.text.scope.get(node.func.id, getattr(_BUILTINS, node.func.id, None)), node.args
        found = self.operation(function, [self.value(a) for a in given])
        if found is None or not given or not isinstance(given[0], ast.Name) or given[0].id not in self.text.regions:
            return found
        return found._replace(write=lambda: self.meeting(given[0].id, found.write))

    def meeting(self, name: str, write: Callable[[], Any]) -> Any:
        """Write what reads or writes memory at an address, or elements of an array."""
        block, n = self.builder.block, len(self.builder.block.instructions)
        found = write()
        if name in self.text.regions:
            for instruction in block.instructions[n:]:
                if isinstance(instruction, (ir.LoadInstr, ir.StoreInstr)):
                    for kind, of in zip(("alias.scope", "noalias"), self.region(self.text.regions[name]), strict=True):
                        instruction.set_metadata(kind, of)
                    if self.turns is not None:
                        instruction.set_metadata("llvm.access.group", self.turns)
        return found

    def region(self, name: str) -> tuple[Any, Any]:
        """The metadata of what meets a region: that it does, and that it meets no other."""
        if not self.met:
            of = {one: self.module.add_metadata([one, self.module.add_metadata([self.name])])
                  for one in sorted(set(self.text.regions.values()))}  # fmt: skip
            for one, itself in of.items():
                others = [other for other in of.values() if other is not itself]
                self.met[one] = self.module.add_metadata([itself]), self.module.add_metadata(others)
        return self.met[name]

    def element(self, word: str, node: Any) -> Value | None:
        """An element of an array: get it, put one there, add to it, take it away."""
        name = node.args[0].id
        kind, index, rest = self.of.get(name), self.values(node.args[1].elts), self.values(node.args[2:])
        if kind is None or index is None or rest is None:
            return None
        context, wraps, word = self.context, word.endswith("_any"), word.removesuffix("_any")

        def get() -> Any:
            return arrayobj.load_item(context, self.builder, kind, self.pointer(name, index, wraps))

        def put() -> Any:
            at, value = self.pointer(name, index, wraps), self.cast(rest[0], kind.dtype)
            return arrayobj.store_item(context, self.builder, kind, value, at)

        def add() -> Any:
            at = self.pointer(name, index, wraps)
            total = self.builder.fadd(self.builder.load(at), self.cast(rest[0], kind.dtype), flags=ADDS)
            self.builder.store(total, at)

        def take() -> Any:
            at = self.pointer(name, index, wraps)
            found = self.builder.load(at)
            self.builder.store(found.type(0.0), at)
            return found

        write = locals()[word]
        return Value(kind.dtype if word in ("get", "take") else types.none, lambda: self.meeting(name, write))

    def pointer(self, name: str, index: Sequence[Value], wraps: bool) -> Any:
        """Where an element is; an index may be negative where it `wraps`."""
        builder, (data, shape, strides, is_counted) = self.builder, self.arrays[name]
        places = self.casts(index, [types.int64] * len(index))
        if wraps:
            signs = [builder.icmp_signed("<", at, WORD(0)) for at in places]
            ends = [builder.add(at, n) for at, n in zip(places, shape, strict=True)]
            places = [builder.select(*found) for found in zip(signs, ends, places, strict=True)]
        steps = [at if step is None else builder.mul(at, step) for at, step in zip(places, strides, strict=True)]
        offset = functools.reduce(builder.add, steps)
        return builder.gep(data, [offset]) if is_counted else cgutils.pointer_add(builder, data, offset)

    def unpack(self, name: str, value: Any) -> None:
        """Have the parts of an array, which its name means from now on."""
        kind = self.of[name]
        array = arrayobj.make_array(kind)(self.context, self.builder, value)
        shape, strides = (cgutils.unpack_tuple(self.builder, part) for part in (array.shape, array.strides))
        if kind.layout in "CF":  # steps in elements: None is 1
            lengths, strides = shape if kind.layout == "F" else shape[::-1], [None]
            for n in lengths[:-1]:
                strides.append(n if strides[-1] is None else self.builder.mul(strides[-1], n))
            strides = strides if kind.layout == "F" else strides[::-1]
        self.arrays[name] = array.data, shape, strides, kind.layout in "CF"

    def operation(self, function: Any, given: Sequence[Value | None]) -> Value | None:
        """A function of operands."""
        if any(one is None for one in given):
            return None
        operands: list[Any] = list(given)
        if isinstance(function, Text):
            kinds = tuple(types.unliteral(x.kind) for x in operands)
            made = self.once((function, kinds), lambda: Function(self.context, self.module, function, kinds))
            return Value(made.returns, lambda: self.checked(*made.call(self.builder, [x.write() for x in operands])))
        if function is float:
            return Value(types.float64, lambda: self.cast(operands[0], types.float64))
        key = (function, *(x.kind if x.known is None else (x.kind, x.known) for x in operands))
        returns, write = self.once(key, lambda: self.resolve(function, operands))
        return Value(returns, lambda: write(operands))

    def once(self, key: Any, make: Callable[[], Any]) -> Any:
        """What is made but once for a key."""
        if key not in self.resolved:
            self.resolved[key] = make()
        return self.resolved[key]

    def resolve(self, function: Any, operands: Sequence[Value]) -> tuple[Any, Callable[[Sequence[Value]], Any]]:
        """What Numba has for a function of operands of these types."""
        context, typing = self.context, self.context.typing_context
        kinds = [x.kind for x in operands]
        if hasattr(function, "_defn"):  # an intrinsic
            sig, codegen = function._defn(typing, *kinds)
            return sig.return_type, lambda given: codegen(context, self.builder, sig, self.casts(given, sig.args))
        if function is operator.pow and isinstance(operands[1].known, int) and 0 < operands[1].known <= _MOST_SQUARED:
            return types.float64, lambda given: self.power(self.cast(given[0], types.float64), operands[1].known)
        kind = typing.resolve_value_type(function)
        sig = kind.get_call_type(typing, tuple(map(_literal, operands)), {})
        implementation = context.get_function(kind, sig)
        return sig.return_type, lambda given: implementation(self.builder, self.casts(given, sig.args))

    def power(self, base: Any, exponent: int) -> Any:
        """An integer power, as Numba's code for it multiplies."""
        result = None
        while exponent:
            if exponent & 1:
                result = base if result is None else self.builder.fmul(result, base)
            exponent >>= 1
            base = self.builder.fmul(base, base) if exponent else base
        return result

    def casts(self, values: Sequence[Value], kinds: Sequence[Any]) -> list[Any]:
        """Values, each as one of a type; those of what takes any number are in a tuple."""
        rest = kinds[-1] if kinds else None
        if isinstance(rest, (types.StarArgTuple, types.StarArgUniTuple)):
            n, one_by_one = len(kinds) - 1, [*kinds[:-1], *rest]
            found = self.casts(values, one_by_one)
            return [*found[:n], self.context.make_tuple(self.builder, rest, found[n:])]
        return [self.cast(value, kind) for value, kind in zip(values, kinds, strict=True)]

    def cast(self, value: Value, kind: Any) -> Any:
        """A value, as one of a type."""
        return self.context.cast(self.builder, value.write(), value.kind, kind)

    def truth(self, value: Value) -> Any:
        """A value, as a truth value."""
        return self.context.is_true(self.builder, value.kind, value.write())

    def checked(self, status: Any, value: Any) -> Any:
        """What a call returned, if it didn't raise."""
        with cgutils.if_unlikely(self.builder, status.is_error):
            self.context.call_conv.return_status_propagate(self.builder, status)
        return value

    def builder_method(self, name: str) -> Callable[[Any, Any], Any]:
        """A method of the builder that there is by then."""
        return lambda a, b: getattr(self.builder, name)(a, b)

    # --- statements

    def _write(self) -> None:
        context, conv = self.context, self.context.call_conv
        made = conv.get_function_type(self.returns, self.arguments)
        self.function = ir.Function(self.module, made, self.name)
        self.function.linkage = "linkonce_odr"
        self.function.attributes.add("noinline")  # there is less to optimise
        conv.decorate_function(self.function, self.text.parameters, self.arguments)
        self.builder = builder = ir.IRBuilder(self.function.append_basic_block("entry"))
        given = context.get_arg_packer(self.arguments).from_arguments(builder, conv.get_arguments(self.function))
        self.places = {
            name: cgutils.alloca_once(builder, context.get_value_type(kind), zfill=True)
            for name, kind in self.of.items()
        }
        self.arrays: dict[str, Any] = {}
        for name, kind, value in zip(self.text.parameters, self.arguments, given, strict=True):
            self.put(name, context.cast(builder, value, kind, self.of[name]))
        builder.branch(builder.append_basic_block("body"))
        builder.position_at_end(self.function.blocks[-1])
        self.body(self.text.tree.body)

    def body(self, statements: Sequence[Any]) -> None:
        """Statements, one after the other."""
        for statement in statements:
            getattr(self, f"_write_{type(statement).__name__}")(statement)

    def known(self, node: Any) -> Value:
        """What an expression gives, when all types are known."""
        found = self.value(node)
        assert found is not None
        return found

    def put(self, name: str, value: Any) -> None:
        """Give a name its value."""
        self.builder.store(value, self.places[name])
        if isinstance(self.of[name], types.Array):
            self.unpack(name, value)

    def _write_Assign(self, node: Any) -> None:  # noqa: N802
        pairs = [(name, self.known(value)) for name, value in _pairs(node)]
        found = [(name, self.cast(value, self.of[name])) for name, value in pairs]
        for name, value in found:
            self.put(name, value)

    def _write_AugAssign(self, node: Any) -> None:  # noqa: N802
        found = self.operation(_OPERATORS[type(node.op)], [self.known(node.target), self.known(node.value)])
        assert found is not None
        self.put(node.target.id, self.cast(found, self.of[node.target.id]))

    def _write_Expr(self, node: Any) -> None:  # noqa: N802
        self.known(node.value).write()

    def _write_Pass(self, node: Any) -> None:  # noqa: N802
        pass

    def _write_Return(self, node: Any) -> None:  # noqa: N802
        value = self.cast(self.known(node.value), self.returns)
        context, builder = self.context, self.builder
        context.call_conv.return_value(builder, context.get_return_value(builder, self.returns, value))

    def _write_If(self, node: Any) -> None:  # noqa: N802
        builder, test = self.builder, self.truth(self.known(node.test))
        then, other, behind = (builder.append_basic_block(name) for name in ("then", "else", "endif"))
        builder.cbranch(test, then, other)
        for block, statements in ((then, node.body), (other, node.orelse)):
            builder.position_at_end(block)
            self.body(statements)
            if not builder.block.is_terminated:
                builder.branch(behind)
        builder.position_at_end(behind)

    def _write_For(self, node: Any) -> None:  # noqa: N802
        builder = self.builder
        start, stop, step = self.range([self.known(a) for a in node.iter.args])
        first = start if step == 1 else WORD(0)
        end = stop if step == 1 else self.count(start, stop, step)
        test, body, behind = (builder.append_basic_block(name) for name in ("for", "turn", "endfor"))
        before = builder.block
        builder.branch(test)
        builder.position_at_end(test)
        at = builder.phi(WORD)
        at.add_incoming(first, before)
        builder.cbranch(builder.icmp_signed("<", at, end), body, behind)
        builder.position_at_end(body)
        value = at if step == 1 else builder.add(start, builder.mul(at, WORD(step)))
        builder.store(value, self.places[node.target.id])
        is_free = node.iter.func.id == "turns"
        self.turns = Distinct(self.module) if is_free else None
        self.body(node.body)
        at.add_incoming(builder.add(at, WORD(1), flags=["nsw"]), builder.block)
        again = builder.branch(test)
        if is_free:
            free = self.module.add_metadata(["llvm.loop.parallel_accesses", self.turns])
            again.set_metadata("llvm.loop", Distinct(self.module, free))
        self.turns = None
        builder.position_at_end(behind)

    def range(self, bounds: Sequence[Value]) -> tuple[Any, Any, int]:
        """Start, stop and step of a range."""
        step = bounds[2].known if len(bounds) == 3 else 1
        ends = [self.constant(0), bounds[0]] if len(bounds) == 1 else list(bounds[:2])
        start, stop = self.casts(ends, (types.int64, types.int64))
        return start, stop, step

    def length(self, bounds: Sequence[Value]) -> Any:
        """How many numbers a range has."""
        return self.count(*self.range(bounds))

    def count(self, start: Any, stop: Any, step: int) -> Any:
        """The same."""
        builder = self.builder
        low, high = (start, stop) if step > 0 else (stop, start)
        rest = builder.sub(builder.sub(high, low), WORD(1))
        n = builder.add(builder.udiv(rest, WORD(abs(step))), WORD(1))
        return builder.select(builder.icmp_signed("<", low, high), n, WORD(0))


class _BUILTINS:
    """Functions that texts name without saying what they are."""

    min, max, float = min, max, float


def _statements(body: Sequence[Any]) -> Iterator[Any]:
    """All statements, from the first to the last."""
    for node in body:
        yield node
        yield from _statements([*getattr(node, "body", ()), *getattr(node, "orelse", ())])


def _pairs(node: Any) -> list[tuple[str, Any]]:
    """Names and what they are assigned."""
    target = node.targets[0]
    if isinstance(target, ast.Tuple):
        return [(t.id, value) for t, value in zip(target.elts, node.value.elts, strict=True)]
    return [(target.id, node.value)]


def _literal(value: Value) -> Any:
    """The type of an operand, as Numba has it for a number that is known."""
    if value.known is None:
        return value.kind
    try:
        return types.literal(value.known)
    except LiteralTypingError:
        return value.kind
