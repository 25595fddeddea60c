"""Calls of nests in a user's function: before the loop, which stays behind it.

      entry:     ran, outputs = run_nest(nest, inputs)
                 branch ran, taken, header
      header:    the loop, as it was; at its end to `left`
      taken:     names are given their outputs; to the exit
      left:      to the exit

A nest that isn't differentiated as a whole, as is known when types are, leaves no code but the loop. Of nests within
each other the outermost is taken, and none in a loop of which nothing is left (`parallel_loops.py`).
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence
from typing import Any

from llvmlite import ir as llvm
from numba.core import cgutils, ir, types
from numba.core.callconv import create_error_model
from numba.core.datamodel import models
from numba.core.imputils import impl_ret_borrowed, lower_constant
from numba.extending import intrinsic, register_model, typeof_impl

from tapegrad.jitted import checking, rewriting
from tapegrad.jitted import jacobian_tape as tape
from tapegrad.jitted.active import WORD, Taped
from tapegrad.jitted.nest_lowering import Address, Function, Text
from tapegrad.jitted.nest_text import Texts
from tapegrad.jitted.nest_types import Names
from tapegrad.jitted.nests import Declined, Found, Straight, find
from tapegrad.jitted.outlining import Outlined


class Nest:
    """A nest in a function that is being compiled."""

    def __init__(self, found: Found | Straight, flags: Any, loc: Any) -> None:
        self.found, self.flags, self.loc = found, flags, loc
        self.is_taken = False
        self.around: list[Nest | Outlined] = []

    def names(self, kinds: Any) -> Names | None:
        """Its names, for inputs of some types; None where it isn't taken."""
        if self.flags.fastmath or any(other.is_taken for other in self.around):
            return None
        try:
            return Names(self.found, dict(zip(self.found.inputs, kinds, strict=True)))
        except Declined:
            return None


_numbers = itertools.count()


class NestType(types.Opaque):  # type: ignore[misc]
    """The type of a nest, which tells all."""

    def __init__(self, nest: Nest) -> None:
        self.nest = nest
        super().__init__(name=f"nest {next(_numbers)}")


register_model(NestType)(models.OpaqueModel)


@typeof_impl.register(Nest)
def _typeof(nest: Nest, context: Any) -> Any:
    return NestType(nest)


@lower_constant(NestType)
def _nothing(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    return context.get_constant_null(kind)


NUMBERS = {"a": Taped(0), "f": types.float64, "i": types.int64, "b": types.boolean}


@intrinsic
def run_nest(typingctx, nest, inputs):
    """Run a nest; returns whether it was done, and what its outputs are."""
    found = nest.nest.found
    given = [types.unliteral(kind) for kind in inputs]
    names = nest.nest.names(given)
    kinds = dict(zip(found.inputs, given, strict=True))
    outs = [kinds[n] if names is None or n in names.states else NUMBERS[names.of[n]] for n in found.outputs]
    result = types.Tuple([types.boolean, *outs])

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        values = cgutils.unpack_tuple(builder, args[1])
        values = [context.cast(builder, v, a, b) for v, a, b in zip(values, inputs, given, strict=True)]
        by_name = dict(zip(found.inputs, values, strict=True))
        kept = [context.cast(builder, by_name[n], kinds[n], o) for n, o in zip(found.outputs, outs, strict=True)]
        ran = [context.get_constant(types.boolean, False), *kept]
        names = nest.nest.names(given)
        if names is not None:
            ran = run(context, builder, nest.nest, names, by_name, kinds, ran)
        made = context.make_tuple(builder, result, ran)
        return impl_ret_borrowed(context, builder, result, made)

    return result(nest, inputs), codegen


def run(
    context: Any,
    builder: Any,
    nest: Nest,
    names: Names,
    by_name: dict[str, Any],
    kinds: dict[str, Any],
    by_loop: list[Any],
) -> list[Any]:
    """Whether a nest was done, and its outputs; `by_loop` where its loop does it."""
    known = {*builder.module.globals}
    by_name, kinds = dict(by_name), dict(kinds)
    try:
        text = Texts(nest.found, names)
        rows = []
        for name in text.in_place:
            value, kind = by_name[name], kinds[name]
            by_name[name], kinds[name] = builder.extract_value(value, 0), kind.array
            rows.append((builder.extract_value(value, 1), types.int64))
        ordered = [(by_name[name], kinds[name]) for name in text.given]
        ordered += [*rows, *((by_name[name], kinds[name]) for name in text.scalars)]
        results = [names.arrays[name] for name in names.results]
        returns = types.Tuple(
            [types.boolean, *(NUMBERS[names.of[name]] for name in names.outputs), *results, types.int64]
        )
        forward = _lowered(context, builder, text, [kind for _, kind in ordered], returns)
    except Exception as error:  # noqa: BLE001 (whatever is amiss with its text, the loop is right)
        for name in {*builder.module.globals} - known:
            if ".nest" in name:  # what they have declared stays
                del builder.module.globals[name]
        what = "this loop is" if isinstance(nest.found, Found) else "these arrays are"
        warnings.warn_explicit(
            f"{what} differentiated row by row, since a reverse loop could not be compiled: slower, and a "
            f"fault of tapegrad's, which please report ({error!r})",
            RuntimeWarning,
            nest.loc.filename,
            nest.loc.line,
        )
        return by_loop
    nest.is_taken = True
    status, returned = forward.call(builder, [value for value, _ in ordered])
    ran, *numbers, state = cgutils.unpack_tuple(builder, returned)
    outputs = dict(zip([*names.outputs, *names.results], numbers, strict=True))
    for name, (first, *others) in names.states.items():
        outputs[name] = by_name[first]
        for number, array in enumerate(others, 1):
            is_there = builder.icmp_signed("==", state, WORD(number))
            outputs[name] = builder.select(is_there, by_name[array], outputs[name])
    found = [ran, *(outputs[name] for name in (*nest.found.outputs, *names.results))]
    # Where it raises, the loop does so again, and leaves what it wrote by then.
    return [builder.select(status.is_error, a, b) for a, b in zip(by_loop, found, strict=True)]


checking.make_known(run_nest)


def _lowered(context: Any, builder: Any, text: Texts, kinds: Sequence[Any], returns: Any) -> Function:
    """The forward function, which names the reverse, in the module that calls it."""
    module, words = builder.module, [types.int64] * 3
    name = f"{builder.function.name}.nest{len(module.functions)}"
    dividing = context.subtarget(error_model=create_error_model("numpy", context))  # what would raise has raised
    backwards = Text(text.reverse, text.scope, text.regions)
    reverse = Function(dividing, module, backwards, words, types.int64, f"{name}.reverse")
    called = llvm.Function(module, llvm.FunctionType(WORD, [WORD] * 3), f"{name}.called")
    inner = llvm.IRBuilder(called.append_basic_block())
    status, begin = reverse.call(inner, called.args)
    inner.ret(inner.select(status.is_error, WORD(tape.NO_MEMORY), begin))
    scope = {**text.scope, "address_of_reverse": Address(called)}
    forward = Function(context, module, Text(text.forward, scope, text.regions), kinds, returns, f"{name}.forward")
    for function in (forward.function, reverse.function, called):
        function.linkage = "internal"
    return forward


def insert(func_ir: Any, flags: Any) -> bool:
    """Put the calls of a function's nests before their loops."""
    found = find(func_ir, rewriting.resolve)
    nests = {one.header: Nest(one, flags, func_ir.blocks[one.header].loc) for one in found}
    for one in found:
        cut_out = [made for body, made in getattr(func_ir, "outlined", ()) if one.header in body]
        nests[one.header].around = [*cut_out, *(nests[other] for other in one.around if other in nests)]
        _insert(func_ir, nests[one.header])
    return bool(found)


rewriting.NESTS.append(insert)


def _insert(func_ir: Any, nest: Nest) -> None:
    one, blocks = nest.found, func_ir.blocks
    entry, test = blocks[one.entry], blocks[one.test]
    scope, loc = entry.scope, nest.loc  # the line of the loop, to which the row belongs
    taken, left = max(blocks) + 1, max(blocks) + 2

    def variable(value: Any, body: list[Any]) -> Any:
        made = scope.redefine("$tapegrad.nest", loc, rename=True)
        body.append(ir.Assign(value, made, loc))
        func_ir._definitions[made.name] = [value]
        return made

    body = entry.body[:-1]
    function = variable(ir.Global("tapegrad.run_nest", run_nest, loc), body)
    itself = variable(ir.Global("tapegrad.nest", nest, loc), body)
    inputs = variable(ir.Expr.build_tuple([scope.get_exact(name) for name in one.inputs], loc), body)
    result = variable(ir.Expr.call(function, (itself, inputs), (), loc), body)
    ran = variable(ir.Expr.static_getitem(result, 0, None, loc), body)
    entry.body = [*body, ir.Branch(ran, taken, one.header, loc)]
    blocks[taken], blocks[left] = ir.Block(scope, loc), ir.Block(scope, loc)
    for i, name in enumerate(one.outputs):
        value = ir.Expr.static_getitem(result, i + 1, None, loc)
        blocks[taken].append(ir.Assign(value, scope.get_exact(name), loc))
        func_ir._definitions[name].append(value)
    for label in (taken, left):
        blocks[label].append(ir.Jump(one.exit, loc))
    branch = test.body[-1]
    test.body[-1] = ir.Branch(branch.cond, branch.truebr, left, branch.loc)
