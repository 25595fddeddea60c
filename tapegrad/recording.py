"""Recording: how an operation on handles becomes a row.

Recording `a * b` is a look-up of the result's kind (which checks shapes and dtypes, once for each pair of kinds), a
slot from the free list, a row packed into the tape, and a new handle. What the look-up doesn't know goes the slow way
round, `record_elementwise`, which promotes, broadcasts, raises errors, and fills the look-up.
"""

from __future__ import annotations

import functools
import math
import struct
import sys
import warnings
import weakref
from _thread import get_ident
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tapegrad import batched, dtypes, engine, overrides, pages
from tapegrad.batched import Batched
from tapegrad.conversion import as_operand, is_array, is_sparse, repair
from tapegrad.debug import MEMORY, SMALL
from tapegrad.dtypes import BOOL, DTYPES, INT64, UINT8, DType
from tapegrad.kinds import GRADIENTS, Kind, array_at, flowing, kind_of, numbers, seen
from tapegrad.ops.arithmetic import CASTS
from tapegrad.ops.declare import BOOLEAN, FLOATING, OPS, Array, Elementwise, Op
from tapegrad.ops.reduction import sum_
from tapegrad.tape import IMM_A, IMM_B, PARAMS, ROW, TRACED, H, Tape, current_tape
from tapegrad.tensor import (
    Tensor,
    constant,
    constants,
    copied,
    depth_of_user,
    describe,
    exchange,
    from_array,
    location,
    over_memory,
    slot_in,
)  # fmt: skip

_pack = struct.Struct("=hhiiiii").pack_into
_pack_two = struct.Struct("=iii4xii").pack_into  # opcode with flags, out, b; a, kind
_pack_immediate = struct.Struct("=iidii").pack_into
pack_bits = struct.Struct("=iiqii").pack_into
# A row's immediate, as `b` and `c`.
_number, _offset, _two_ints = struct.Struct("=d").pack, struct.Struct("=q").pack, struct.Struct("=ii").unpack
_A_ROW = ROW.itemsize
_FILLED, _ROW_BYTES, _N_FREE = H.filled, H.row_bytes, H.n_free
_new = object.__new__
MISSED = (KeyError, IndexError, struct.error, OverflowError)


Operand = Tensor | int


def appended(
    tape: Tape, op: Op, kind: Kind, a: Tensor, b: Operand = -1, c: Operand = -1, flags: int = 0, place: str = "",
    host: Any = None
) -> Tensor:  # fmt: skip
    """The handle of a new row's result. `b` and `c` are operands too, or numbers; `c` the index of parameters."""
    return appended_together(tape, op, kind, ((a, b, c, flags),), place, host)


def appended_together(
    tape: Tape, op: Op, kind: Kind, rows: Sequence[tuple[Tensor, Operand, Operand, int]], place: str = "",
    host: Any = None
) -> Tensor:  # fmt: skip
    """The handle of what new rows fill together: for each its `a`, `b`, `c` and flags.

    Room is made first, and slots of operands are looked up then: another thread may take a tensor over at any moment,
    and what it leaves behind is gone with the next reclaiming.
    """
    h, n_bytes = tape.h, _A_ROW * len(rows)
    if SMALL or h[_FILLED] + n_bytes > h[_ROW_BYTES] or not h[_N_FREE]:
        engine.make_room(tape, len(rows))
    numbered = [
        (
            slot_in(tape, a),
            b if b.__class__ is int else slot_in(tape, b),  # type: ignore[arg-type]
            c if c.__class__ is int else slot_in(tape, c),  # type: ignore[arg-type]
            row_flags,
        )
        for a, b, c, row_flags in rows
    ]
    t = _new(Tensor)
    t._tape, t._kind = tape, kind
    end, height = h[_FILLED], h[_N_FREE] - 1
    stop, slot = end + n_bytes, tape.free.memory[height]
    at = end
    if MEMORY or tape.grad_enabled is TRACED:
        place = place or location()
    if tape.watch is not None:
        tape.watch.records(rows)
    for first, second, third, row_flags in numbered:
        _pack(tape.rows, at, op.opcode, row_flags, slot, second, third, first, kind.index)
        at += _A_ROW
    # What was written behind the last row is recorded now: nothing can come between (see `tape.py`).
    h[_N_FREE] = height
    t._slot = slot
    if tape.watch is not None:
        tape.watch.makes(slot)
    if place:
        tape.places[slot] = place
    if host is not None:
        tape.hosts[slot] = host
    h[_FILLED] = stop
    if tape.packs is not None and kind.requires_grad & GRADIENTS:
        tape.packs(tape, op, t, rows)
    return t


def record(
    op: Op, kind: Kind, *operands: Tensor, params: tuple[int, ...] | None = None, flags: int = 0, host: Any = None
) -> Tensor:  # fmt: skip
    """Append a row with these operands and parameters; its result."""
    tape = current_tape()
    given: Any = (*operands, -1, -1)
    a, b, c = given[:3]
    if params is not None:
        if len(operands) > 2:
            raise TypeError(f"{op.name}: a row of three operands has no room for parameters: join two of the operands")
        c, flags = numbers(params), flags | PARAMS
    place = location() if op.failure is not None else ""
    result = appended(tape, op, kind, a, b, c, flags, place, host)
    if op.failure is not None or host is not None:  # what may fail by values does so here, where it can be caught
        try:
            engine.evaluate(result._tape, result._slot)
        except BaseException:
            del result  # the traceback lives on, and would keep the row
            raise
        return result
    return settled(result, *operands)


def settled(result: Tensor, *operands: Tensor) -> Tensor:
    """The result, computed now if NumPy could change an operand before someone looks."""
    for t in operands:
        if t._kind.exported:
            engine.evaluate(result._tape, result._slot)
            break
    return result


def _read(t: Tensor) -> Tensor:
    """What an array operation reads, whose parameters may tell of the operand's strides."""
    t = local(t)
    if not t._kind.contiguous:
        return t
    read = steady(t)
    return read if read._kind.contiguous else read.clone()


def activity(tape: Tape, tensors: Iterable[Tensor]) -> int:
    """Which derivatives flow through what is recorded of these: bits of a kind's `requires_grad`."""
    bits = 0
    for t in tensors:
        bits |= t._kind.requires_grad
    return flowing(tape.grad_enabled, bits)


def record_array(
    op: Array,
    shape: tuple[int, ...],
    dtype: DType,
    *operands: Tensor,
    params: tuple[int, ...] | None = None,
    flags: int = 0,
) -> Tensor:
    """Record an array operation: its kernels, its kind, its row. Operands are copied where it reads no strides."""
    if any(t.__class__ is Batched for t in operands):
        return batched.rules["array"](op, shape, dtype, *operands, params=params, flags=flags)  # type: ignore[no-any-return]
    operands = tuple(t if op.strided or t._kind.contiguous else t.clone() for t in map(_read, operands))
    requires_grad = 0
    if dtype.is_floating_point:
        for t, rule in zip(operands, op.partials, strict=False):
            requires_grad |= t._kind.requires_grad if rule is not None else 0
        requires_grad = flowing(operands[0]._tape.grad_enabled, requires_grad)
    code = operands[op.dtype_operand]._kind.dtype.code
    engine.need(op, code, False)
    if op.summed & 1:  # the sums of parts are joined by its kernels
        engine.need(sum_, dtype.code, False)
    if requires_grad:
        engine.need(op, code, True)
        need_sum(dtype)
    return record(op, kind_of(dtype, shape, requires_grad=requires_grad), *operands, params=params, flags=flags)


def record_results(
    op: Array, part: Op, shapes: Sequence[tuple[int, ...]], dtype: DType, *operands: Tensor, params: tuple[int, ...]
) -> list[Tensor]:
    """Record an array operation with several results, which lie one after another in its row; `part` shows one."""
    if any(t.__class__ is Batched for t in operands):
        return batched.rules["results"](op, part, shapes, dtype, *operands, params=params)  # type: ignore[no-any-return]
    whole = record_array(op, (sum(map(math.prod, shapes)),), dtype, *operands, params=params)
    results, at = [], 0
    for shape in shapes:
        kind = kind_of(dtype, shape, requires_grad=whole._kind.requires_grad)
        results.append(record_layout(part, whole, kind, at * kind.itemsize))
        at += kind.numel
    return results


def record_layout(op: Op, a: Tensor, kind: Kind, offset: int, params: int = -1) -> Tensor:
    """Append a row that gives other strides to `a`'s memory, `offset` bytes on; or as `params` say."""
    tape = current_tape()
    if params >= 0:
        return appended(tape, op, kind, a, 0, params, PARAMS)
    return appended(tape, op, kind, a, *_two_ints(_offset(offset)))


# --- tensors of other threads -----------------------------------------------------------------------------------------


class Imported(Tensor):
    """A leaf with the elements of another tape's tensor: nobody holds it but what is made of it here."""

    __slots__ = ()


def local(t: Tensor) -> Tensor:
    """The tensor, or its like on this thread's tape: a leaf that has the elements and returns the gradient."""
    tape = current_tape()
    if t._tape is tape:
        return t
    return imported(tape, t)


def imported(tape: Tape, t: Tensor, detached: bool = False) -> Tensor:
    """A leaf on `tape` for a tensor of another thread's tape."""
    if t.__class__ is Batched:  # it is on no tape: see `batched.py`
        return t
    if tape.watch is not None:
        tape.watch.fail("reads a tensor of another thread", False)
    known = tape.imported.get(id(t))
    if known is not None and known[0]() is t and known[1] is t._tape and known[2] == t._slot and known[3] is t._kind:
        return known[4]  # type: ignore[no-any-return]
    kind = t._kind
    if kind.requires_grad and not kind.is_leaf and not detached:
        raise RuntimeError(
            "a tensor that was computed on another thread's tape and requires grad cannot be used on this thread's: "
            f"use .detach(), or record its whole graph on one thread: {describe(t)}, at {location()}{pages.THREADS}"
        )
    if kind.exported:  # NumPy may write to it at any time
        with t._tape.lock:
            array, origin, slot = over_memory(t), t._tape, t._slot
    else:
        array, origin, slot, kind = copied(t)
    requires_grad = kind.is_leaf  # then it requires grad
    leaf = from_array(array, requires_grad=requires_grad, exported=kind.exported)
    leaf.__class__ = Imported
    if requires_grad:
        tape.leaves[leaf._slot] = weakref.ref(t)  # gradients go to the tensor that the user holds
    if not kind.requires_grad or requires_grad:
        identity = id(t)
        forget = weakref.ref(t, lambda _: tape.imported.pop(identity, None))
        tape.imported[identity] = (forget, origin, slot, kind, leaf)
    return leaf


def shared(t: Tensor) -> RuntimeError:
    """The error of a write that would not get to all that share the elements."""
    return RuntimeError(
        "a tensor of another thread's tape cannot be changed in place on this thread while views of it, or NumPy, "
        f"share its elements: change a clone() of it, or do it on its own thread: {describe(t)}, at {location()}"
        f"{pages.THREADS}"
    )


def is_imported(t: Tensor) -> bool:
    """Whether a tensor shares elements with the copy of another thread's: a write to it would not get there."""
    while (base := getattr(t, "_origin", None)) is not None:
        t = base
    return t.__class__ is Imported


def take_over(t: Tensor) -> None:
    """Make this thread's tape that of a tensor, before it is changed in place.

    Raises
    ------
    RuntimeError
        Where other tensors, or NumPy, share elements with a tensor of another thread's tape; where it has a graph.
    """
    if t._tape.thread == get_ident():
        return
    tape, kind = current_tape(), t._kind
    if kind.exported or hasattr(t, "_origin") or any(view() is not None for view in t._views or ()):
        raise shared(t)
    if kind.requires_grad and not kind.is_leaf:
        imported(tape, t)  # says why not
    leaf = from_array(copied(t)[0], t.requires_grad)
    if kind.requires_grad:
        tape.leaves[leaf._slot] = weakref.ref(t)
    tape.imported.pop(id(t), None)
    exchange(t, leaf)


# --- tensors that NumPy can write to ----------------------------------------------------------------------------------


# Filled by `aliasing.py`: makes a view by its recipe, and lists all that share elements with a tensor.
made_of: Any = None
family_of: Any = None
_COUNTED = sys.implementation.name == "cpython" and getattr(sys, "_is_gil_enabled", lambda: True)()  # references are


def taken_back(t: Tensor) -> bool:
    """Whether nobody has the array any more that shared the elements, so that the tensor is again like any other."""
    top = t
    while (base := getattr(top, "_origin", None)) is not None:
        top = base
    tape, slot = top._tape, top._slot
    if tape.thread != get_ident() or MEMORY or not _COUNTED:
        return False
    if sys.getrefcount(tape.arrays.get(slot)) != 2:  # the tape's, and the call's
        return False
    array = tape.arrays[slot]
    if array.base is not None or array.__class__ is not np.ndarray:  # who has the memory can't be told
        return False
    for member in list(family_of(top)):
        if member._kind.exported:
            member._set_kind(exported=False)
    return True


def steady(t: Tensor) -> Tensor:
    """What an operation reads of a tensor: of one that NumPy can write to at any time, a leaf with its elements of now.

    So the row can wait like any other. The leaf is kept, and serves again until the elements are others; of a view of
    it, it is the view of such a leaf. Where the elements are many, or have another graph, it is the tensor itself, and
    what is recorded is computed at once (see `settled`).
    """
    kind = t._kind
    if not kind.exported or kind.is_large or taken_back(t):
        return t
    tape, slot = t._tape, t._slot
    if kind.requires_grad and not kind.is_leaf:
        recipe: Any = getattr(t, "_recipe", None)
        base = t if recipe is None or recipe.detached else steady(t._origin)
        return t if base._kind.exported else made_of(recipe, base, recipe.recorded and tape.grad_enabled)
    if tape.watch is not None:
        return tape.watch.steady(t)  # type: ignore[no-any-return]
    elements = over_memory(t) if not kind.contiguous else array_at(tape.slot_words[4 * slot + 1], kind, None)
    now, known = elements.tobytes(), getattr(t, "_seen", None)
    if known is not None and known[0] == now and known[1] == slot and known[2] is kind:
        return known[3]  # type: ignore[no-any-return]
    made = from_array(elements.copy(), t.requires_grad)
    if kind.requires_grad:  # gradients go to the tensor, which a rule may have been lent
        tape.leaves[made._slot] = tape.former[made._slot] = tape.leaves.get(slot) or weakref.ref(t)
    t._seen = now, slot, kind, made
    return made


# --- operations of elements -------------------------------------------------------------------------------------------


def broadcast_shapes(op_name: str, operands: list[Tensor]) -> tuple[int, ...]:
    """The shape that operands are broadcast to, or PyTorch's error."""
    shape = operands[0]._kind.shape if operands else ()  # a rule over numbers
    for other in operands[1:]:
        right = other._kind.shape
        if right == shape:
            continue
        n = max(len(shape), len(right))
        left_padded, right_padded = (1,) * (n - len(shape)) + shape, (1,) * (n - len(right)) + right
        for d in reversed(range(n)):
            p, q = left_padded[d], right_padded[d]
            if p != q and p != 1 and q != 1:
                raise RuntimeError(
                    f"The size of tensor a ({p}) must match the size of tensor b ({q}) at non-singleton dimension {d}: "
                    f"{op_name}({describe(*operands)}), recorded at {location()}. Shapes are matched from the right; a "
                    f"dimension of length 1 is repeated."
                )
        shape = tuple(q if p == 1 else p for p, q in zip(left_padded, right_padded, strict=True))
    return shape


def _dtype_of(operand: Any) -> DType:
    if isinstance(operand, Tensor):
        return operand._kind.dtype
    return dtypes.dtype_of_number(operand)


def _rank_of(operand: Any) -> int:
    if not isinstance(operand, Tensor):
        return dtypes.NUMBER
    return dtypes.DIMENSIONED if operand._kind.ndim else dtypes.ZERO_DIM


def promoted(operands: list[Any]) -> DType:
    """The dtype in which an operation on these tensors and Python numbers is done."""
    return dtypes.result_type([(_rank_of(o), _dtype_of(o)) for o in operands])


def working_dtype(op: Elementwise, operands: list[Any]) -> DType:
    """The dtype in which this operation is done on these: it may want floating point."""
    dtype = promoted(operands)
    return dtypes.get_default_dtype() if op.result == FLOATING and not dtype.is_floating_point else dtype


memos: list[dict[Any, Kind]] = [{} for _ in OPS]
learners: list[Callable[[Op, tuple[Any, ...], Kind], None]] = []  # are told what enters the look-up


def record_elementwise(op: Elementwise, *operands: Any) -> Any:
    """The slow way round: any operands, with all checks. Fills the look-up for the next time."""
    if any(o.__class__ is Batched for o in operands):
        return batched.rules["elementwise"](op, *operands)
    tape = current_tape()
    if tape.watch is not None:
        return tape.watch.elementwise(_record_again, op, operands)
    known = _of_three(tape, op, operands) if op.arity > 2 else None
    return _record_elementwise(op, *operands) if known is None else known


# What three operands come to, some of which are numbers: by the operation, kinds of tensors, and types of numbers, the
# result's kind, and the dtype that numbers are given.
_triples: dict[tuple[Any, ...], tuple[Kind, DType]] = {}


def _of_three(tape: Tape, op: Elementwise, operands: Sequence[Any]) -> Tensor | None:
    """Record an operation on three operands like some before; None for what it doesn't know."""
    known = _triples.get((op, *[o._kind if o.__class__ is Tensor else o.__class__ for o in operands]))
    if known is None or (tape.grad_enabled is not True and tape.grad_enabled is not False):
        return None
    kind, dtype = known
    given: list[Any] = []
    for o in operands:
        if o.__class__ is Tensor:
            if o._tape is not tape:
                return None
            given.append(o)
        elif o.__class__ is int and not -(1 << 63) <= o < 1 << 64:
            return None  # to be refused
        else:
            try:
                given.append(constants(tape, dtype).of(tape, o))
            except OverflowError:
                return None
    a, b, c = given
    return appended(tape, op, seen(tape.grad_enabled, kind), a, b, c)


def _learn_three(op: Elementwise, operands: Sequence[Any], kind: Kind, dtype: DType) -> None:
    """Note what three operands come to, whose dtype is that of all tensors among them, and so no other's."""
    classes = [o.__class__ for o in operands]
    if dtype.is_floating_point and Tensor in classes[op.dtype_operand :] and {Tensor, float, int}.issuperset(classes):
        _triples[op, *[o._kind if o.__class__ is Tensor else o.__class__ for o in operands]] = kind, dtype


def _record_again(op: Elementwise, *operands: Any) -> Any:
    """Record what is like a row before without asking again what it comes to, but note its line."""
    tape = current_tape()
    key: Any = tuple([o._kind if o.__class__ is Tensor else o.__class__ for o in operands])
    kind = memos[op.opcode].get(key if op.arity > 1 else key[0])
    tensors = [o for o in operands if o.__class__ is Tensor]
    if kind is None or op.failure is not None or any(t._tape is not tape for t in tensors):
        return _record_elementwise(op, *operands)
    shown = seen(tape.grad_enabled, kind)
    if len(tensors) == op.arity:
        given: Any = (*tensors, -1, -1)
        return appended(tape, op, shown, *given[:3])
    is_left = operands[0].__class__ is not Tensor
    number = operands[0] if is_left else operands[1]
    if number.__class__ is int and not -(1 << 63) <= number < 1 << 64:
        return _record_elementwise(op, *operands)
    b, c = _two_ints(_number(float(number)))
    return appended(tape, op, shown, tensors[0], b, c, IMM_A if is_left else IMM_B)


def _record_elementwise(op: Elementwise, *operands: Any) -> Any:
    if any(o.__class__ is not Tensor and overrides.answers(o) for o in operands):
        return overrides.operated(op.name, *operands)
    if any(isinstance(o, Tensor) and o._kind.exported for o in operands):
        given = [steady(local(o)) if isinstance(o, Tensor) else o for o in operands]
        if len(given) < 3 and isinstance(given[0], Tensor) and not any(
            isinstance(o, Tensor) and o._kind.exported for o in given
        ):  # fmt: skip
            return quick[op.opcode](*given)
        operands = tuple(given)
    if op.name in {"mul", "pow"} and any(isinstance(o, np.matrix) for o in operands):
        raise TypeError(
            f"the products and powers of np.matrix are those of matrices: {op.name} with one, at {location()}; "
            "np.asarray() makes an array of it, and @ multiplies matrices"
        )
    is_kept = any(isinstance(o, Tensor) and o._kind.requires_grad for o in operands)
    tensors = [operand(o, is_kept) for o in operands]
    if any(t is None for t in tensors):
        return NotImplemented
    if op.dtype_operand and _dtype_of(tensors[0]) is UINT8:
        warnings.warn(
            f"{op.name} received a uint8 condition tensor. Use a boolean condition instead",
            UserWarning,
            stacklevel=depth_of_user(),
        )
        tensors[0] = cast(tensors[0], BOOL)
    if op.dtype_operand and (not isinstance(tensors[0], Tensor) or tensors[0].dtype is not BOOL):
        raise RuntimeError(
            f"{op.name} expected condition to be a boolean tensor, but got a tensor with dtype {describe(tensors[0])}"
        )
    dtype = working_dtype(op, tensors[op.dtype_operand :])
    if dtype.name in op.refuses or (op.refuses_any_bool and any(_dtype_of(t) is BOOL for t in tensors)):
        raise _refusal(op, dtype, tensors)
    if op.result == BOOLEAN and not dtype.is_floating_point:
        dtype = _room_for(dtype, tensors)
    shape = broadcast_shapes(op.name, [t for t in tensors if isinstance(t, Tensor)])
    looks_at_values = op.divides and not dtype.is_floating_point
    if looks_at_values and 0 not in shape:
        _check_divisor(op, tensors)
    casted = False
    for k in range(op.dtype_operand, op.arity):
        t = tensors[k]
        if isinstance(t, Tensor) and t.dtype is not dtype:
            tensors[k], casted = cast(t, dtype), True
    flags, immediate = _immediate(op, dtype, tensors)
    if flags == 0:
        tensors = [t if isinstance(t, Tensor) else constant(t, dtype) for t in tensors]
    slots = [t for t in tensors if isinstance(t, Tensor)]
    kind = _result_kind(op, dtype, shape, tensors)
    first, tape = slots[0], current_tape()
    shown = seen(tape.grad_enabled, kind)
    if flags:
        b, c = _two_ints(_number(immediate))
        result = appended(tape, op, shown, first, b, c, flags)
    else:
        result = record(op, shown, *slots)
    if any(t._kind.exported for t in slots):
        settled(result, *slots)
    elif not MEMORY and not casted and not looks_at_values and (flags == 0 or dtype.is_floating_point):
        key: Any = tuple(t._kind if isinstance(t, Tensor) else type(t) for t in tensors)
        memos[op.opcode][key if op.arity > 1 else key[0]] = kind
        for learn in learners:
            learn(op, key, kind)
        if op.arity > 2:
            _learn_three(op, operands, kind, dtype)
    return result


def _room_for(dtype: DType, operands: list[Any]) -> DType:
    """The integer dtype in which these are compared: a Python number that fewer bits don't hold takes int64."""
    given = [o for o in operands if not isinstance(o, Tensor)]
    for wide in (dtype, INT64):
        low, high = dtypes.limits(wide)
        if all(low <= o <= high for o in given):
            return wide
    raise OverflowError(f"int too big to convert: {max(given, key=abs)} does not fit 64 bits")


def _check_divisor(op: Elementwise, tensors: list[Any]) -> None:
    """Integers are not divided by zero: their divisor is looked at when the row is recorded."""
    divisor = tensors[1]
    if (divisor._array() == 0).any() if isinstance(divisor, Tensor) else divisor == 0:
        raise RuntimeError(
            f"ZeroDivisionError: {op.name}({describe(*tensors)}), recorded at {location()}: integers have no infinity"
        )


def operand(o: Any, is_kept: bool = False) -> Any:
    """A Tensor of this thread, or a Python number; None for what no operation takes. See `as_operand`."""
    if isinstance(o, Tensor):
        return local(o)
    if isinstance(o, (bool, int, float)):
        if isinstance(o, int) and not -(1 << 63) <= o < 1 << 64:
            raise OverflowError(f"int too big to convert: {o} does not fit 64 bits")
        return o
    if isinstance(o, (np.bool_, np.integer, np.floating)):
        return o.item()
    if is_sparse(o):
        raise TypeError(f"unsupported operand: {type(o).__name__}{repair(o)}, at {location()}")
    return as_operand(o, is_kept) if is_array(o) else None


def _refusal(op: Elementwise, dtype: DType, tensors: list[Any]) -> Exception:
    where = f"{op.name}({describe(*tensors)}), recorded at {location()}"
    if op.name == "sub":
        both = "two bool tensors is" if dtype is BOOL else "a bool tensor is"
        repair = "`^` or `logical_xor()`" if dtype is BOOL else "`~` or `logical_not()`"
        purpose = "Use the" if dtype is BOOL else "If you are trying to invert a mask, use the"
        return RuntimeError(
            f"Subtraction, the `-` operator, with {both} not supported. {purpose} {repair} operator instead. {where}"
        )
    if op.name == "neg":
        return RuntimeError(
            "Negation, the `-` operator, on a bool tensor is not supported. "
            f"If you are trying to invert a mask, use the `~` or `logical_not()` operator instead. {where}"
        )
    return NotImplementedError(f"\"{op.name}\" not implemented for '{dtype.scalar_type}': {where}")


def _immediate(op: Elementwise, dtype: DType, tensors: list[Any]) -> tuple[int, float]:
    """Where a binary operation has one Python number: the row's flag, and the number as the row will hold it."""
    numbers = [k for k, t in enumerate(tensors) if not isinstance(t, Tensor)]
    if op.arity != 2 or len(numbers) != 1:
        return 0, 0.0
    value = tensors[numbers[0]]
    if not dtype.is_floating_point:
        if not isinstance(value, (bool, int)) or abs(value) >= 1 << 53:
            return 0, 0.0
        if dtype is not BOOL and not np.iinfo(dtype.numpy).min <= value <= np.iinfo(dtype.numpy).max:
            return 0, 0.0
    try:
        return (IMM_A, IMM_B)[numbers[0]], float(value)
    except OverflowError:
        return 0, 0.0


def _result_kind(op: Elementwise, dtype: DType, shape: tuple[int, ...], tensors: list[Any]) -> Kind:
    codes = op.signature(dtype.code)
    result = DTYPES[codes[-1]]
    requires_grad = 0
    for rule, t in zip(op.partials, tensors, strict=False):
        if rule is not None and isinstance(t, Tensor) and result.is_floating_point:
            requires_grad |= t._kind.requires_grad
    engine.need(op, dtype.code, False)
    if requires_grad:
        engine.need(op, dtype.code, True)
        need_sum(dtype)
    return kind_of(result, shape, requires_grad=requires_grad)


def need_sum(dtype: DType) -> None:
    """The reverse sweep adds with the kernels of `sum`."""
    engine.need(sum_, dtype.code, False)
    engine.need(sum_, dtype.code, True)


def cast(t: Tensor, dtype: DType) -> Tensor:
    """The tensor in another dtype; itself where it has it already."""
    if t._kind.dtype is dtype:
        return t
    if t.__class__ is Batched:
        return batched.rules["cast"](t, dtype)  # type: ignore[no-any-return]
    t = steady(local(t))
    op = CASTS[dtype.code]
    requires_grad = t._kind.requires_grad if dtype.is_floating_point else 0
    kind = kind_of(dtype, t._kind.shape, requires_grad=flowing(t._tape.grad_enabled, requires_grad))
    engine.need(op, t._kind.dtype.code, False)
    if requires_grad:
        engine.need(op, t._kind.dtype.code, True)
        need_sum(t._kind.dtype)
        need_sum(dtype)
    return record(op, kind, t)


def quickly(tape: Tape, kind: Kind, pack: Any, word: int, second: Any, first: int) -> Tensor:
    """Append a row: opcode and flags in a word, the second operand (a slot, or a number), the first's slot.

    Raises one of `MISSED` where there is no room, or the number doesn't fit; then nothing has changed.
    """
    if second.__class__ is int and not -(1 << 63) <= second < 1 << 64:
        raise OverflowError  # to be refused
    if tape.grad_enabled is not True:
        if tape.grad_enabled is not False:
            raise KeyError  # the line is to be noted
        kind = seen(tape.grad_enabled, kind)
    t, h = _new(Tensor), tape.h
    end, height = h[_FILLED], h[_N_FREE] - 1
    if height < 0:
        raise IndexError
    slot = tape.free.memory[height]
    pack(tape.rows, end, word, slot, second, first, kind.index)
    t._tape = tape
    t._kind = kind
    h[_N_FREE] = height
    t._slot = slot
    h[_FILLED] = end + _A_ROW
    return t


class Recorded(NamedTuple):
    """What a row holds."""

    word: int  # opcode and flags
    out: int
    b: int
    c: int
    a: int
    kind: int

    @property
    def bits(self) -> int:
        """Its second and third number in one."""
        return self.b & 0xFFFFFFFF | self.c << 32


def last_rows(result: Tensor, of: Sequence[Tensor]) -> list[Recorded] | None:
    """The last rows, one for each operand, where they are all that gave the result, now and whenever recorded again."""
    tape = result._tape
    if MEMORY or result.__class__ is Batched or tape.grad_enabled is not True or any(t._tape is not tape for t in of):
        return None
    rows = [Recorded(opcode | flags << 16, *rest) for opcode, flags, *rest in tape.row_array()[-len(of) :].tolist()]
    made = [(row.out, row.a) for row in rows]
    return rows if made == [(result._slot, t._slot) for t in of] else None


class Ways(dict[Any, tuple[Kind, int, int]]):
    """How rows were recorded: the result's kind, and what the row holds, by all that tells of them.

    A key begins with the kinds of the operands.
    """

    def again(self, key: Any, a: Tensor, b: Tensor | None = None) -> Tensor | None:
        """The result of such a row; None where it was not recorded before, or that is not all there is to do."""
        way, tape = self.get(key), a._tape
        if way is None or a.__class__ is Batched or tape.thread != get_ident():
            return None
        try:
            if b is None:
                return quickly(tape, way[0], pack_bits, way[1], way[2], a._slot)
            if b._tape is tape:
                return quickly(tape, way[0], pack_bits, way[1], way[2] | b._slot, a._slot)
        except MISSED:
            pass
        return None

    def keep(self, key: Any, result: Tensor, a: Tensor, b: Tensor | None = None) -> Tensor:
        """The result; and know how it was recorded.

        By now NumPy may have let go of an operand, whose kind then is another: the way is for the one that it had.
        """
        is_shared = key[0].exported or (b is not None and key[1].exported)
        if not is_shared and (rows := last_rows(result, [a])) is not None:
            row = rows[0]
            if b is None and row.b < 0:  # it has no other operand
                self[key] = result._kind, row.word, row.bits
            elif b is not None and (b._tape, b._slot) == (a._tape, row.b):
                self[key] = result._kind, row.word, row.c << 32
        return result


def in_one_step(function: Callable[..., Tensor], known: Any = None) -> Callable[..., Tensor]:
    """Let a function record in one step what it has recorded before: of such a tensor, with the same arguments.

    That is so where it records one row, which reads the tensor as it is and waits for the sweep. The other arguments
    are no tensors, and nothing else decides what is recorded. What is known of views is more than of other rows:
    `aliasing.WaysOfViews`.
    """
    ways = Ways() if known is None else known

    @functools.wraps(function)
    def quick(input: Tensor, *args: Any, **facts: Any) -> Tensor:
        key = (input._kind, *args, *facts.items()) if facts else (input._kind, *args)
        try:
            result = ways.again(key, input)
        except TypeError:  # lists
            return function(input, *args, **facts)
        return ways.keep(key, function(input, *args, **facts), input) if result is None else result

    return quick


def of_two_in_one_step(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Likewise a function of two tensors, and of arguments that are none."""
    ways = Ways()

    @functools.wraps(function)
    def quick(input: Tensor, *others: Any, **named: Tensor) -> Tensor:
        other, *args = others or named.values()
        key = input._kind, other._kind, *args
        result = ways.again(key, input, other) if other.__class__ is not Batched else None
        return ways.keep(key, function(input, other, *args), input, other) if result is None else result

    return quick


# By opcode, what records a Tensor's operation (with another operand). `recorder.py` puts native code here.
quick: list[Callable[..., Any]] = [record_elementwise] * len(OPS)


def unary(op: Elementwise) -> Callable[[Any], Any]:
    """The recording function of an elementwise operation with one operand."""
    memo, opcode = memos[op.opcode], op.opcode

    def record_unary(self: Tensor) -> Tensor:
        tape, kind = self._tape, self._kind
        if tape.thread == get_ident():
            try:
                return quickly(tape, memo[kind], _pack_two, opcode, 0, self._slot)
            except MISSED:
                pass
        return record_elementwise(op, self)  # type: ignore[no-any-return]

    def record(input: Any) -> Any:
        return quick[opcode](input) if input.__class__ is Tensor else record_elementwise(op, input)

    quick[opcode] = record_unary
    return record


def binary(op: Elementwise) -> tuple[Callable[[Any, Any], Any], Callable[[Any, Any], Any]]:
    """The recording functions of an elementwise operation with two operands: as a method, and reflected.

    The method answers NotImplemented for what it doesn't take, as operators must.
    """
    memo, opcode = memos[op.opcode], op.opcode
    with_left, with_right = opcode | IMM_A << 16, opcode | IMM_B << 16

    def record_binary(self: Tensor, other: Any) -> Any:
        tape, kind = self._tape, self._kind
        if tape.thread == get_ident():
            try:
                if other.__class__ is not Tensor:
                    return quickly(tape, memo[kind, other.__class__], _pack_immediate, with_right, other, self._slot)
                if other._tape is tape:
                    return quickly(tape, memo[kind, other._kind], _pack_two, opcode, other._slot, self._slot)
            except MISSED:
                pass
        return record_elementwise(op, self, other)

    def record_reflected(self: Tensor, other: Any) -> Any:
        tape, kind = self._tape, self._kind
        if tape.thread == get_ident():
            try:
                return quickly(tape, memo[other.__class__, kind], _pack_immediate, with_left, other, self._slot)
            except MISSED:
                pass
        return record_elementwise(op, other, self)

    quick[opcode] = record_binary
    return record_binary, record_reflected


for _op in OPS:
    if isinstance(_op, Elementwise):
        _op.record = unary(_op) if _op.arity == 1 else (lambda *operands, _op=_op: record_elementwise(_op, *operands))
