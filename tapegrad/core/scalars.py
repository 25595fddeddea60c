"""Scalars: a sweep of rows of one element each goes from row to row, without regions and programs. Compiled code.

What describes a region would cost several times what such a row does. So where every planned row is elementwise and
has one element, its kernels are called as they are met: forward from the oldest planned row, in reverse from the
newest.

Each planned row has a record, WORDS words by its place in the plan, which `region` holds for the slots of such rows:

    +--------+-----+-----------+---+---+---+---+------+
    | PRIMAL | BAR | IMMEDIATE | A | B | C | Y | CELL |
    +--------+-----+-----------+---+---+---+---+------+

its value and its adjoint, where nobody looks at them; its immediate in the dtype of its kernel; the addresses of its
operands and of its result; and its place in the table of kernels. An adjoint that something was added to has the mark
INSIDE.
"""

from tapegrad.core.registers import N_CODES, hold_adjoint, hold_value, kernel_cell, write_number
from tapegrad.core.schedule import (
    ADJOINT,
    INSIDE,
    NO_MEMORY,
    OK,
    PLANNED,
    STORE,
    WANTED,
    arity,
    is_active,
    is_evaluated,
    operand,
    position,
)  # fmt: skip
from tapegrad.debug import MEMORY
from tapegrad.kernels import CELLS
from tapegrad.kernels.loops import FRESH
from tapegrad.memory import call6, call8, f4, f8, i4, i8, kinds_at, ops_at, part2, part3, rows_at, slots_at, u1
from tapegrad.ops.declare import ELEMENTWISE
from tapegrad.tape import IMM_A, IMM_B, OWNED, PIECE, STORED, H

PRIMAL, BAR, IMMEDIATE, A, B, C, Y, CELL = range(8)
WORDS = 8
FEW_ROWS = 1000  # whose records are in the thread's scratch memory


def are_scalars(header):
    """Whether all planned rows have one element, and operands of one element."""
    h = i8(header, len(H))
    rows = rows_at(h[H.rows], h[H.end])
    kinds, ops = kinds_at(h[H.kinds], h[H.n_kinds]), ops_at(h[H.ops], 256)
    planned = i4(h[H.planned], h[H.n_planned])
    for i in range(h[H.n_planned]):
        row = rows[planned[i]]
        if ops[row["opcode"]]["family"] != ELEMENTWISE or row["flags"] & PIECE or kinds[row["kind"]]["numel"] != 1:
            return 0  # operands have no more elements than the result
    return 1 if h[H.n_planned] else 0


def sweep_scalars(header):
    """Sweep the planned rows: values, then adjoints."""
    h = i8(header, len(H))
    n = h[H.n_planned]
    few = n <= FEW_ROWS and not MEMORY
    records = h[H.scratch] if few else part3(h[H.obtain], header, 8 * WORDS * n, 0)
    if records == 0:
        return NO_MEMORY
    status = part2(h[H.scalar_values], header, records)
    if status == OK and h[H.n_seeds]:
        status = part2(h[H.scalar_adjoints], header, records)
    if not few:
        part2(h[H.give_back], header, records)
    h[H.budget] -= 10 * n
    return status


def _value_at(slots, region, records, slot):
    """The address of an operand's value."""
    if slot < 0:
        return 0
    return slots[slot]["primal"] if slots[slot]["flags"] & STORED else records + 8 * WORDS * int(region[slot])


def _immediate_at(at, code, cell):
    """The address of an immediate in the dtype of its kernel, made of the float64 that the row holds."""
    if code == 4:
        return at
    write_number(cell, f8(at, 1)[0], code)
    return cell


def scalar_values(header, records):
    """The records of the planned rows, and their values, oldest first."""
    h = i8(header, len(H))
    rows, slots = rows_at(h[H.rows], h[H.end]), slots_at(h[H.slots], h[H.top])
    kinds, marks = kinds_at(h[H.kinds], h[H.n_kinds]), u1(h[H.marks], h[H.top])
    live, region = u1(h[H.live], h[H.top]), i4(h[H.region], h[H.top])
    n, kernels = h[H.n_planned], i8(h[H.kernels], 256 * N_CODES * CELLS)
    planned = i4(h[H.planned], n)
    for i in range(n - 1, -1, -1):
        r = planned[i]
        row, record = rows[r], i8(records + 8 * WORDS * i, WORDS)
        out = row["out"]
        region[out] = i
        marks[out] |= PLANNED
        cell, code = kernel_cell(h, kinds, slots, row)
        a, b, c = _value_at(slots, region, records, row["a"]), 0, 0
        if row["flags"] & (IMM_A | IMM_B):
            at = records + 8 * (WORDS * i + IMMEDIATE)
            b = _immediate_at(h[H.rows] + 24 * r + 8, code, at)
            if row["flags"] & IMM_A:
                a, b = b, a
        else:
            n_operands = arity(h, row)
            if n_operands > 1:
                b = _value_at(slots, region, records, row["b"])
                if n_operands > 2:
                    c = _value_at(slots, region, records, row["c"])
        evaluated, y = is_evaluated(slots, marks, row), _value_at(slots, region, records, out)
        if evaluated and (live[out] or marks[out] & STORE):
            if not hold_value(h, kinds, slots, out):
                return NO_MEMORY
            y = slots[out]["primal"]
            slots[out]["flags"] = slots[out]["flags"] | STORED | OWNED
        if evaluated:
            call6(kernels[cell], 1, 0, a, b, c, y)
        record[A], record[B], record[C], record[Y], record[CELL] = a, b, c, y, cell
    return OK


def _adjoint_at(h, kinds, slots, marks, region, records, slot):
    """The address of an adjoint: in the row's record, if nobody takes it; 0 where memory is short."""
    if marks[slot] & (PLANNED | WANTED) == PLANNED:
        return records + 8 * (WORDS * int(region[slot]) + BAR)
    return slots[slot]["adjoint"] if hold_adjoint(h, kinds, slots, slot) else 0


def scalar_adjoints(header, records):
    """The adjoints of the planned rows' operands, newest row first."""
    h = i8(header, len(H))
    rows, slots = rows_at(h[H.rows], h[H.end]), slots_at(h[H.slots], h[H.top])
    kinds, marks = kinds_at(h[H.kinds], h[H.n_kinds]), u1(h[H.marks], h[H.top])
    region, kernels = i4(h[H.region], h[H.top]), i8(h[H.kernels], 256 * N_CODES * CELLS)
    n, n_targets, n_seeds = h[H.n_planned], h[H.n_targets], h[H.n_seeds]
    planned, lists = i4(h[H.planned], n), i4(h[H.lists], n_targets + 2 * n_seeds)
    for i in range(n_seeds):
        slot, given = lists[n_targets + 2 * i], lists[n_targets + 2 * i + 1]
        if marks[slot] & ADJOINT == 0:
            continue  # it leads to nothing that is wanted
        bar = _adjoint_at(h, kinds, slots, marks, region, records, slot)
        if bar == 0:
            return NO_MEMORY
        if kinds[slots[slot]["kind"]]["dtype"] == 4:
            seed = 1.0 if given < 0 else f8(slots[given]["primal"], 1)[0]
            f8(bar, 1)[0] = f8(bar, 1)[0] + seed if marks[slot] & INSIDE else seed
        else:
            seed = 1.0 if given < 0 else f4(slots[given]["primal"], 1)[0]
            f4(bar, 1)[0] = f4(bar, 1)[0] + seed if marks[slot] & INSIDE else seed
        marks[slot] |= INSIDE
    for i in range(n):
        row = rows[planned[i]]
        out = row["out"]
        if marks[out] & INSIDE == 0 or not is_active(h, kinds, marks, row):
            continue
        record = i8(records + 8 * WORDS * i, WORDS)
        y_bar = _adjoint_at(h, kinds, slots, marks, region, records, out)
        for k in range(arity(h, row)):
            o = operand(row, k)
            kernel = kernels[record[CELL] + 1 + position(row, k)]
            if o < 0 or marks[o] & ADJOINT == 0 or kernel == 0:
                continue
            bar = _adjoint_at(h, kinds, slots, marks, region, records, o)
            if bar == 0:
                return NO_MEMORY
            fresh = 0 if marks[o] & INSIDE else FRESH
            call8(kernel, 1, fresh, record[A], record[B], record[C], record[Y], y_bar, bar)
            marks[o] |= INSIDE
    return OK
