"""Complex numbers with derivatives: two active scalars each, differentiated by the rules of real ones.

What is holomorphic has one rule for both. The partial of an operation is arithmetic, which holds for complex numbers as
it stands: called with `Pair`s it gives `p`, and a row each records

      w = f(z)        d re w = re p d re z - im p d im z
                      d im w = im p d re z + re p d im z

`abs`, `angle`, conjugates and parts have the partials of the real operations that they are. Values are those of Numba's
own code for complex128, to the last bit. The gradient by a complex number is that by its real part plus i times that by
its imaginary part, which is PyTorch's convention.
"""

from __future__ import annotations

import cmath
import itertools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.imputils import impl_ret_borrowed
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, overload, overload_attribute, overload_method
from numba.np import arrayobj

from tapegrad.jitted import checking
from tapegrad.jitted.active import PASSIVE, Active, Complex, Narrow, Taped
from tapegrad.jitted.checking import ALLOWED
from tapegrad.jitted.emission import ZERO_ROW, Choice, Compound, Condition, Emitter, Jet, Single, primal, where
from tapegrad.jitted.inner import OPTIONS
from tapegrad.jitted.names import NAMES, OPERATIONS, RULES
from tapegrad.jitted.signatures import finish, leaf
from tapegrad.jitted.statements import Leaf, Node, push_active
from tapegrad.ops.declare import Op

PLAIN = types.complex128
_OPERATIONS = (
    "add", "sub", "mul", "div", "neg", "clone", "pow", "square", "reciprocal", "sqrt", "exp", "exp2", "expm1", "log",
    "log2", "log10", "log1p", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "asinh", "acosh",
    "atanh",
)  # fmt: skip
_CMATH = {name: getattr(cmath, name, None) for name in _OPERATIONS}


def _names(name: str) -> list[Any]:
    """Operators, and NumPy's functions of complex numbers too, that mean an operation."""
    ufuncs = [f for f in NAMES[name] if isinstance(f, np.ufunc) and f not in (np.conjugate, np.float_power)]
    return [f for f in NAMES[name] if f is pow or f.__module__ == "_operator"] + ufuncs


# The partials of each function that is holomorphic.
PARTIALS = {f: RULES[f].partials for name in _OPERATIONS for f in _names(name)}
ARRAYS_OF_COMPLEX = {*PARTIALS, np.conjugate}  # functions whose results are complex where operands are
OF_CMATH = {f: RULES[NAMES[name][0]].partials for name, f in _CMATH.items() if f is not None}


# --- numbers that emit code -------------------------------------------------------------------------------------------


class Pair(Compound):
    """A complex number in registers: its parts are `Single`s, or `Jet`s."""

    def __init__(self, real: Any, imag: Any) -> None:
        self.real, self.imag = real, imag

    @property
    def emitter(self) -> Emitter:
        """Where its instructions go."""
        emitter: Emitter = self.real.emitter
        return emitter

    def pair(self, other: Any) -> Pair:
        """Another number as a complex one."""
        if isinstance(other, Pair):
            return other
        zero = self.emitter.single(0.0)
        return Pair(other if isinstance(other, (Single, Jet)) else self.emitter.single(other), zero)

    def _binary(self, op: Any, other: Any, reflected: bool = False) -> Any:
        a, b = (self.pair(other), self) if reflected else (self, self.pair(other))
        if op is operator.mul:
            return Pair(a.real * b.real - a.imag * b.imag, a.real * b.imag + a.imag * b.real)
        if op is operator.truediv:
            return _quotient(a, b)
        return Pair(op(a.real, b.real), op(a.imag, b.imag))

    def __neg__(self) -> Pair:
        return Pair(-self.real, -self.imag)

    def __eq__(self, other: object) -> Condition:  # type: ignore[override]
        other = self.pair(other)
        return (self.real == other.real) & (self.imag == other.imag)

    def __ge__(self, other: Any) -> Condition:
        """Of an exponent: whether a power of 0 is finite."""
        return self.real >= self.pair(other).real

    __hash__ = object.__hash__

    def chosen(self, condition: Condition, a: Any, b: Any) -> Pair:
        """One of two numbers."""
        x, y = self.pair(a), self.pair(b)
        return Pair(where(condition, x.real, y.real), where(condition, x.imag, y.imag))

    def applied(self, op: Op, operands: Sequence[Any]) -> Any:
        """An operation of complex numbers, which a partial names."""
        if op.name == "_first_power":
            return self
        if op.name == "rsqrt":
            return 1.0 / self.applied(OPERATIONS["sqrt"], operands)
        if op.name == "_less_square":
            return op.function(*map(self.pair, operands))
        return applied(_names(op.name)[-1], PARTIALS, [self.pair(x) for x in operands])


def _quotient(a: Pair, b: Pair) -> Pair:
    """By the larger part of the divisor first: its square may be beyond the range of numbers."""
    is_real = abs(b.real) >= abs(b.imag)
    large, small = where(is_real, b.real, b.imag), where(is_real, b.imag, b.real)
    ratio = small / large
    length = large + small * ratio
    real = where(is_real, a.real + a.imag * ratio, a.real * ratio + a.imag)
    imag = where(is_real, a.imag - a.real * ratio, a.imag * ratio - a.real)
    return Pair(real / length, imag / length)


def _value(x: Any) -> Any:
    return x.value if isinstance(x, Jet) else x


def _is_nothing(tangent: Any) -> Condition:
    """Whether a tangent is exactly 0, with its own tangents."""
    found = primal(tangent) == 0.0
    while isinstance(tangent, Jet):
        for part in tangent.tangents:
            found = found & _is_nothing(part)
        tangent = tangent.value
    return found


def applied(function: Any, known: dict[Any, Any], operands: Sequence[Pair]) -> Pair:
    """Numba's value of a function at complex numbers; with tangents, by the chain rule, where they have some."""
    emitter = operands[0].emitter
    values = [Pair(_value(x.real), _value(x.imag)) for x in operands]
    jets = [part for x in operands for part in (x.real, x.imag) if isinstance(part, Jet)]
    if not jets:
        return _plain(emitter, function, values)
    y = applied(function, known, values)
    zeros = [emitter.single(0.0)] * len(jets[0].tangents)
    total = [Pair(zero, zero) for zero in zeros]
    for x, partial in zip(operands, known[function], strict=True):
        p = _of_pairs(partial, values, y)
        for k in range(len(zeros)):
            x_dot = Pair(*(part.tangents[k] if isinstance(part, Jet) else zeros[k] for part in (x.real, x.imag)))
            is_none = _is_nothing(x_dot.real) & _is_nothing(x_dot.imag)
            term = p * x_dot
            total[k] = total[k] + term.chosen(is_none, 0.0, term)
    return Pair(Jet(y.real, [t.real for t in total]), Jet(y.imag, [t.imag for t in total]))


def _of_pairs(partial: Callable[..., Any], operands: Sequence[Pair], y: Pair) -> Pair:
    found = partial(*operands, y)
    return y.pair(found.on(y.emitter) if isinstance(found, Choice) else found)


def _plain(emitter: Emitter, function: Any, operands: Sequence[Pair]) -> Pair:
    """Numba's value of a function of complex128."""
    result, builder = _called(emitter, function, operands)[0], emitter.builder
    return Pair(*(Single(emitter, builder.extract_value(result, k)) for k in range(2)))


def _called(emitter: Emitter, function: Any, operands: Sequence[Pair]) -> tuple[Any, Any]:
    """Numba's own code for a function of complex128: its result, and the result's type."""
    context, builder = emitter.context, emitter.builder
    found = context.typing_context.resolve_value_type(function)
    call_type = found.get_call_type(context.typing_context, [PLAIN] * len(operands), {})
    given = []
    for x in operands:
        number = ir.Constant(context.get_value_type(PLAIN), ir.Undefined)
        for k, part in enumerate((x.real, x.imag)):
            number = builder.insert_value(number, part.value, k)
        given.append(number)
    return context.get_function(found, call_type)(builder, given), call_type.return_type


# --- functions of scalars ---------------------------------------------------------------------------------------------


def complex_of(kinds: Sequence[Any]) -> Complex | None:
    """The type of a complex number that scalars make together; None where they don't, or have no derivatives."""
    kinds = [*map(_wide, kinds)]
    parts = {k.part if isinstance(k, Complex) else k for k in kinds if isinstance(k, (Complex, Active))}
    is_complex = any(isinstance(k, (Complex, types.Complex)) for k in kinds)
    if len(parts) != 1 or not is_complex or not all(map(is_scalar, kinds)):
        return None
    return Complex(parts.pop())


def is_scalar(kind: Any) -> bool:
    """Whether a type is that of a number."""
    return isinstance(kind, (Complex, Active, *PASSIVE)) or kind == PLAIN


def _wide(kind: Any) -> Any:
    """The type in double precision, which complex128 has."""
    return kind.part if isinstance(kind, Narrow) else kind


def _taken(kind: Any) -> Any:
    """The type as which an operand is taken."""
    kind = _wide(kind)
    return kind if isinstance(kind, (Complex, Active)) else PLAIN


def _parts(context: Any, builder: Any, kind: Any, value: Any) -> tuple[Leaf, Leaf]:
    """The real and the imaginary part of an operand."""
    if isinstance(kind, Active):
        return leaf(context, builder, kind, value), Leaf(Emitter(context, builder).single(0.0))
    part = kind.part if isinstance(kind, Complex) else types.float64
    return tuple(leaf(context, builder, part, builder.extract_value(value, k)) for k in range(2))  # type: ignore[return-value]


def _packed(context: Any, builder: Any, kind: Complex, parts: Sequence[Any]) -> Any:
    number = ir.Constant(context.get_value_type(kind), ir.Undefined)
    for k, part in enumerate(parts):
        number = builder.insert_value(number, part, k)
    return number


def _lower_holomorphic(function: Any, known: dict[Any, Any]) -> Any:
    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind, emitter = sig.return_type, Emitter(context, builder)
        operands = [_parts(context, builder, k, v) for k, v in zip(sig.args, args, strict=True)]
        numbers = [Pair(real.value, imag.value) for real, imag in operands]
        y = applied(function, known, numbers)
        terms: tuple[list[Any], list[Any]] = [], []
        for (real, imag), partial in zip(operands, known[function], strict=True):
            if isinstance(kind.part, Taped) and not (real.is_passive and imag.is_passive):
                p = _of_pairs(partial, numbers, y)
                terms[0].extend([(real.row, p.real), (imag.row, -p.imag)])
                terms[1].extend([(real.row, p.imag), (imag.row, p.real)])
        packed = []
        for part, all_terms in zip((y.real, y.imag), terms, strict=True):
            found = [(row, p) for row, p in all_terms if row is not ZERO_ROW and p.constant != 0.0]
            row = push_active(context, builder, kind.part, found) if found else ZERO_ROW
            packed.append(emitter.pack(kind.part, part, row if isinstance(kind.part, Taped) else None))
        return _packed(context, builder, kind, packed)

    return lower


def _declare_holomorphic(function: Any, known: dict[Any, Any]) -> None:
    arity, is_of_cmath = len(known[function]), known is OF_CMATH

    class Template(AbstractTemplate):
        key = function

        def generic(self, args: Any, kws: Any) -> Any:
            if len(args) != arity or kws:
                return None
            if is_of_cmath:
                return signature(kind, kind) if (kind := _of_one(args[0])) is not None else None
            return None if (kind := complex_of(args)) is None else signature(kind, *map(_taken, args))

    infer_global(function)(Template)
    lower = _lower_holomorphic(function, known)
    for kinds in itertools.product((Complex, Active, PLAIN), repeat=arity):
        if Complex in kinds or {Active, PLAIN} <= set(kinds):
            lower_builtin(function, *kinds)(lower)
    ALLOWED.add(function)


def _of_one(kind: Any) -> Complex | None:
    """The type of a number with derivatives as a complex one."""
    return Complex(kind) if isinstance(kind, Active) else kind if isinstance(kind, Complex) else None


def _declare(function: Any, choose: Callable[..., Any], lower: Callable[..., Any], *kinds: Any) -> None:
    """A function whose signature `choose` gives for the types of its arguments, or None."""

    class Template(AbstractTemplate):
        key = function

        def generic(self, args: Any, kws: Any) -> Any:
            return None if kws else choose(*args)

    infer_global(function)(Template)
    lower_builtin(function, *kinds)(lower)
    ALLOWED.add(function)


def _declare_real(function: Any, node: Callable[[Leaf, Leaf], Node]) -> None:
    """A function of a complex number whose value is real."""

    def choose(*args: Any) -> Any:
        return signature(args[0].part, *args) if len(args) == 1 and isinstance(args[0], Complex) else None

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return finish(context, builder, sig.return_type, node(*_parts(context, builder, sig.args[0], args[0])))

    _declare(function, choose, lower, Complex)


def _declare_of_values(function: Any, arity: int) -> None:
    """A function that has no derivative but zero."""

    def choose(*args: Any) -> Any:
        kind = complex_of(args) if len(args) == arity else None
        return None if kind is None else signature(types.boolean, *[kind] * arity)

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        emitter = Emitter(context, builder)
        parts = [_parts(context, builder, kind, value) for kind, value in zip(sig.args, args, strict=True)]
        return _called(emitter, function, [Pair(primal(x.value), primal(y.value)) for x, y in parts])[0]

    _declare(function, choose, lower, *[Complex] * arity)


for _function in PARTIALS:
    _declare_holomorphic(_function, PARTIALS)
for _function in OF_CMATH:
    _declare_holomorphic(_function, OF_CMATH)
for _function in (abs, np.absolute):
    _declare_real(_function, lambda real, imag: Node(RULES[math.hypot], [real, imag]))
_declare_real(cmath.phase, lambda real, imag: Node(RULES[math.atan2], [imag, real]))
for _function in (np.isnan, np.isinf, np.isfinite, cmath.isnan, cmath.isinf, cmath.isfinite, bool, operator.truth):
    _declare_of_values(_function, 1)
for _function in (operator.eq, operator.ne, np.equal, np.not_equal):
    _declare_of_values(_function, 2)


def _conjugate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    kind = sig.return_type
    imag = leaf(context, builder, kind.part, builder.extract_value(args[0], 1))
    return builder.insert_value(args[0], finish(context, builder, kind.part, Node(RULES[operator.neg], [imag])), 1)


_declare(np.conjugate, lambda *a: signature(a[0], *a) if isinstance(a[0], Complex) and len(a) == 1 else None,
         _conjugate, Complex)  # fmt: skip


def _choose_complex(*args: Any) -> Any:
    """`complex(z)`, `complex(real)`, `complex(real, imag)`."""
    if len(args) == 1:
        return None if (kind := _of_one(args[0])) is None else signature(kind, kind)
    if len(args) != 2 or all(isinstance(a, Narrow) or a == types.float32 for a in args):  # that would be complex64
        return None
    args = tuple(map(_wide, args))
    active = {a for a in args if isinstance(a, Active)}
    if len(active) != 1 or not all(isinstance(a, (Active, *PASSIVE)) for a in args):
        return None
    part = active.pop()
    return signature(Complex(part), part, part)


_declare(complex, _choose_complex, lambda context, builder, sig, args: args[0], Complex)
lower_builtin(complex, Active, Active)(
    lambda context, builder, sig, args: _packed(context, builder, sig.return_type, args)
)


# --- parts, of numbers and of arrays ----------------------------------------------------------------------------------


def _part(k: int) -> Any:
    """For jitted code: the real part of a number, or of the elements of an array as a view; or the imaginary one."""

    @intrinsic
    def part(typingctx: Any, z: Any) -> Any:
        if isinstance(z, Complex):
            return z.part(z), lambda context, builder, sig, args: builder.extract_value(args[0], k)
        made = types.Array(z.dtype.part, z.ndim, "A", readonly=not z.mutable, aligned=z.aligned)

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            given = arrayobj.make_array(sig.args[0])(context, builder, args[0])
            element = context.get_data_type(made.dtype)
            first = builder.gep(builder.bitcast(given.data, element.as_pointer()), [ir.Constant(ir.IntType(32), k)])
            view = arrayobj.make_array(made)(context, builder)
            shape, strides = (cgutils.unpack_tuple(builder, x, z.ndim) for x in (given.shape, given.strides))
            arrayobj.populate_array(
                view, data=first, shape=shape, strides=strides, meminfo=given.meminfo, parent=given.parent,
                itemsize=context.get_constant(types.intp, context.get_abi_sizeof(element)),
            )  # fmt: skip
            return impl_ret_borrowed(context, builder, made, view._getvalue())

        return made(z), codegen

    checking.make_known(part)
    return part


real_part, imaginary_part = _part(0), _part(1)


@overload_attribute(Complex, "real", jit_options=OPTIONS)
def _real(z):
    return lambda z: real_part(z)


@overload_attribute(Complex, "imag", jit_options=OPTIONS)
def _imag(z):
    return lambda z: imaginary_part(z)


@overload_method(Complex, "conjugate", jit_options=OPTIONS)
def _conjugated(z):
    return lambda z: np.conjugate(z)


@overload(cmath.polar, OPTIONS)
def _polar(z):
    return (lambda z: (abs(z), cmath.phase(z))) if isinstance(z, Complex) else None


@overload(cmath.rect, OPTIONS)
def _rect(r, phi):
    if not any(isinstance(k, Active) for k in (r, phi)):
        return None
    return lambda r, phi: complex(r * math.cos(phi), r * math.sin(phi))


@overload(cmath.log, OPTIONS)
def _log_of_base(z, base):
    """Numba's own formula, of complex numbers both."""
    if not any(isinstance(k, (Active, Complex)) for k in (z, base)):
        return None
    return lambda z, base: cmath.log(_as_complex(z)) / cmath.log(_as_complex(base))


def _as_complex(x):
    """A number as a complex one."""
    raise NotImplementedError


@overload(_as_complex, OPTIONS)
def _as_complex_number(x):
    return (lambda x: x) if isinstance(x, (Complex, types.Complex)) else (lambda x: complex(x))


@intrinsic
def complex_value(typingctx, z):
    """The value of a complex number with derivatives."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        parts = [builder.extract_value(builder.extract_value(args[0], k), 0) for k in range(2)]
        return _packed(context, builder, PLAIN, parts)

    return PLAIN(z), codegen


@intrinsic
def with_complex_value(typingctx, z, value):
    """A complex number with another value, and its own derivatives."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        number = args[0]
        for k in range(2):
            part = builder.insert_value(builder.extract_value(number, k), builder.extract_value(args[1], k), 0)
            number = builder.insert_value(number, part, k)
        return number

    return z(z, PLAIN), codegen


ALLOWED.update({cmath.polar, cmath.rect, _as_complex})
