"""How Numba types and lowers scalar functions of active scalars: the table of rules, made known to it.

This is the plain way, in which every call records its row at once. Inside the user's functions `plan.py` does
better, and comes here only for what it doesn't plan.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Sequence
from typing import Any

from numba.core import types
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import lower_builtin

from tapegrad.jitted.active import PASSIVE, Active, Complex, Narrow, Taped
from tapegrad.jitted.emission import Emitter, Rule
from tapegrad.jitted.names import PIECEWISE, POWERS, RULES, Whole, whole_power
from tapegrad.jitted.statements import Leaf, Node, record


def common(arguments: Sequence[Any]) -> Active | None:
    """The one active type among scalar arguments; None where there is none, or another kind of argument."""
    active = {a for a in arguments if isinstance(a, Active)}
    if len(active) != 1 or not all(isinstance(a, (Active, *PASSIVE)) for a in arguments):
        return None
    found: Active = active.pop()
    return found


def leaf(context: Any, builder: Any, kind: Any, value: Any) -> Leaf:
    """An operand of a rule, from a value in a register."""
    emitter = Emitter(context, builder)
    number = emitter.unpack(kind, value)
    return Leaf(number, emitter.row_of(kind, value)) if isinstance(kind, Taped) else Leaf(number)


def finish(context: Any, builder: Any, kind: Active, node: Node) -> Any:
    """A value of an active type, recorded if it is taped."""
    emitter = Emitter(context, builder)
    if isinstance(kind, Taped):
        recorded = record(context, builder, kind, node, object())
        return emitter.pack(kind, recorded.value, recorded.row)
    return emitter.pack(kind, node.value)


def _lower_rule(rule: Rule) -> Any:
    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        operands = [leaf(context, builder, kind, value) for kind, value in zip(sig.args, args, strict=True)]
        return finish(context, builder, sig.return_type, Node(rule, operands))

    return lower


def _lower_integer_power(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    base = leaf(context, builder, sig.args[0], args[0])
    return finish(context, builder, sig.return_type, power_node(context, builder, base, sig.args[1], args[1]))


def power_node(context: Any, builder: Any, base: Node | Leaf, kind: Any, exponent: Any) -> Node:
    """`base ** exponent` for an int, which is a Python int where it is known."""
    if isinstance(exponent, int) and exponent == 2:
        return Node(RULES[operator.mul], [base, base])  # whose partials need no guard
    if not isinstance(exponent, int):
        exponent = Whole(Emitter(context, builder), context.cast(builder, exponent, kind, types.int64))
    return Node(whole_power(exponent), [base])


def declare(function: Any, rule: Rule) -> None:
    """A function of scalars that has a rule."""

    class Template(AbstractTemplate):
        key = function

        def generic(self, args: Any, kws: Any) -> Any:
            kind = common(args)
            if kind is None or kws or len(args) != len(rule.partials):
                return None
            kinds = [a if isinstance(a, Active) else types.float64 for a in args]
            if (
                function in POWERS
                and isinstance(args[0], Active)
                and isinstance(args[1], (types.Integer, types.Boolean))
            ):
                kinds[1] = args[1]
            return signature(kind, *kinds)

    infer_global(function, types.Function(Template))
    lower = _lower_rule(rule)
    if len(rule.partials) == 1:
        lower_builtin(function, Active)(lower)
        return
    for kinds in itertools.product((Active, types.float64), repeat=len(rule.partials)):
        if Active in kinds:
            lower_builtin(function, *kinds)(lower)
    if function in POWERS:
        lower_builtin(function, Active, types.Integer)(_lower_integer_power)
        lower_builtin(function, Active, types.IntegerLiteral)(_lower_integer_power)


def _declare_piecewise(function: Any) -> None:
    class Template(AbstractTemplate):
        key = function

        def generic(self, args: Any, kws: Any) -> Any:
            if kws or not args or (not isinstance(args[0], Active) and common(args) is None):
                return None
            if any(isinstance(a, Narrow) for a in args):
                return None  # see `single_precision.py`
            plain = [types.float64 if isinstance(a, Active) else a for a in args]
            found = self.context.resolve_function_type(self.key, plain, {})
            if found is None:
                return None
            kinds = [a if isinstance(a, Active) else b for a, b in zip(args, found.args, strict=False)]
            return signature(found.return_type, *kinds)

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        given = zip(sig.args, args, strict=True)
        values = [builder.extract_value(v, 0) if isinstance(k, Active) else v for k, v in given]
        kinds = [types.float64 if isinstance(k, Active) else k for k in sig.args]
        found = context.typing_context.resolve_value_type(function)
        plain = found.get_call_type(context.typing_context, kinds, {})
        values = [context.cast(builder, v, k, p) for v, k, p in zip(values, kinds, plain.args, strict=True)]
        return context.get_function(found, plain)(builder, values)

    infer_global(function, types.Function(Template))
    for kinds in ((Active,), (Active, Active), (Active, types.Any), (types.Any, Active)):
        lower_builtin(function, *kinds)(lower)


def _declare_in_place(function: Any, copying: Any) -> Any:
    """What stands for an in-place operator: Numba's own template for arrays fails on active ones.

    Scalars are lowered by the copying operator, as always; `arrays.py` gives the code for active arrays.
    """

    def in_place(a: Any, b: Any) -> Any:
        raise NotImplementedError

    in_place.__name__ = function.__name__

    class Template(AbstractTemplate):
        key = in_place

        def generic(self, args: Any, kws: Any) -> Any:
            kinds = [a.type if isinstance(a, types.Optional) else a for a in args]
            is_of_scalars = all(isinstance(a, (Active, Complex, Narrow, types.Complex, *PASSIVE)) for a in kinds)
            if is_of_scalars and any(isinstance(a, (Active, Complex, Narrow)) for a in kinds):
                return self.context.resolve_function_type(copying, args, {})
            if any(isinstance(a, types.Array) and isinstance(a.dtype, (Active, Complex, Narrow)) for a in args):
                return None
            return self.context.resolve_function_type(function, args, {})

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        found = context.typing_context.resolve_value_type(function)
        return context.get_function(found, found.get_call_type(context.typing_context, sig.args, {}))(builder, args)

    infer_global(in_place, types.Function(Template))
    lower_builtin(in_place, types.Any, types.Any)(lower)
    return in_place


_OPERATORS = ("add", "sub", "mul", "truediv", "pow", "mod", "floordiv")
IN_PLACE = {
    getattr(operator, f"i{name}"): _declare_in_place(getattr(operator, f"i{name}"), getattr(operator, name))
    for name in _OPERATORS
}
for _function, _rule in RULES.items():
    declare(_function, _rule)
for _function in PIECEWISE:
    _declare_piecewise(_function)
