"""Registers: what is computed in a region, as instructions on registers (see `tables.py`). Compiled code."""

from tapegrad.core.adjoints import nbytes
from tapegrad.core.observed import FILLED, tell
from tapegrad.core.rows import INSIDE, STORE, arity, is_evaluated
from tapegrad.core.storage import obtain
from tapegrad.core.tables import (
    ALONG,
    FORWARD,
    GATHER,
    ITEMSIZE,
    MANY_KNOWN,
    N_CODES,
    NARROW,
    REDUCE,
    SCATTER,
    SINGLE,
    SPREAD,
    SWEEP_VALUES,
    VECTOR,
    WIDE,
    Walk,
)  # fmt: skip
from tapegrad.core.walks import broadcast_walk, enter_walk
from tapegrad.debug import MEMORY
from tapegrad.kinds import CONTIGUOUS
from tapegrad.memory import f4, f8, i4, i8, part, u1, u2
from tapegrad.ops.declare import ELEMENTWISE, LAYOUT, REDUCTION
from tapegrad.tape import IMM_A, IMM_B, STORED, Header

NEW = 1 << 20  # beyond the number of any register
ANY = -1

FEW_LANES = 64  # up to which registers are not shared


def hold_value(tape, slot):
    """Make memory for a value; False where there is none to be had."""
    if slot.primal == 0:
        slot.primal = obtain(tape, nbytes(tape.kinds[slot.kind]), 0)
    return slot.primal != 0


def code_of(tape, row):
    """The dtype that a row computes in."""
    by = tape.ops[row.opcode].dtype_operand
    return tape.kinds[tape.slots[row.b if by == 1 else row.a].kind].dtype


def kernels_of(tape, row):
    """A row's kernels."""
    return tape.kernels[row.opcode * N_CODES + code_of(tape, row)]


def sum_kernels(tape, code):
    """The kernels that add: see `kernels`."""
    return tape.kernels[tape.sum_opcode * N_CODES + code]


def state_bytes(tape, opcode, code):
    """The bytes of a state of a reduction of this dtype."""
    return 8 * tape.ops[opcode].parts if code == 4 else 8 if code == 3 else ITEMSIZE[code]


# --- registers and instructions ---------------------------------------------------------------------------------------


def new_register(program, level, size, address=0, step=0):
    """A new register; without an address it is in scratch memory."""
    r = program.n_registers
    register = program.registers[r]
    register.base, register.step, register.scratch = address, step, 0 if address else 1
    register.level, register.widened, register.size, register.within = level, 0, size, 0
    register.ndim = ANY
    register.born, register.dies = -1, -1
    program.n_registers += 1
    return r


def level_of(program, r):
    """A register's level."""
    return program.registers[r].level


def is_over(program, r, space):
    """Whether rows over this space find their elements in `r`, but for its level."""
    ndim = program.registers[r].ndim
    return ndim == space.ndim or ndim == ANY


def memory_step(program, level, size):
    """How far a contiguous value moves from row to row."""
    return size * program.inner if level == WIDE else size


def emit(program, what, kernel=0, mode=0, width=WIDE, a=0, b=0, c=0, y=0, g=0, k=0):
    """Append an instruction, and return it: what is not a register is for the caller to enter."""
    instruction = program.code[program.n_code]
    program.n_code += 1
    _write(program, instruction, what, kernel, mode, width, a, b, c, y, g, k)
    return instruction


def emit_scatter(program, kernel, size, width, a, walk, start, count, target, finish, terms, state):
    """Emit a SCATTER, whose states go to `target` in the end."""
    made = emit(program, SCATTER, kernel=kernel, mode=size, width=width, a=a)
    made.walk, made.address, made.start, made.count = walk, target, start, count
    made.target, made.finish, made.terms, made.state = target, finish, terms, state


def _write(program, instruction, what, kernel, mode, width, a, b, c, y, g, k):
    instruction.what, instruction.kernel, instruction.mode, instruction.width = what, kernel, mode, width
    instruction.a, instruction.b, instruction.c = a, b, c
    instruction.y, instruction.g, instruction.k = y, g, k
    instruction.walk, instruction.address, instruction.start, instruction.count = 0, 0, 0, 0
    instruction.partial = -1
    if MEMORY:
        instruction.of_row = program.bound_row


def widened(program, r, level):
    """The register with the elements of `r` spread over the lanes."""
    register = program.registers[r]
    known = register.widened
    if known and level_of(program, known) == level:
        return known
    made = new_register(program, level, register.size)
    if register.level == SINGLE and register.scratch == 0:  # the same for all blocks
        setup = program.setup[program.n_setup]
        _write(program, setup, SPREAD, 0, register.size, level, r, 0, 0, made, 0, 0)
        program.n_setup += 1
    else:
        emit(program, SPREAD, mode=register.size, width=level, a=r, y=made)
    register.widened = made
    return made


def is_single(program, r, level):
    """Whether all lanes of a block read one element of `r`."""
    have = level_of(program, r)
    return have == SINGLE or (have == NARROW and level == WIDE and program.one_row != 0)


def spread_over(program, r, level):
    """`r`, or a register that has it over the lanes of `level`."""
    have = level_of(program, r)
    return r if r == 0 or have == level or have == VECTOR else widened(program, r, level)


# --- values -----------------------------------------------------------------------------------------------------------


def value(tape, slot, space, level):
    """The register of an operand of a row over a space: made in this region, or stored before it."""
    if slot < 0:
        return 0
    binding = tape.binding
    if binding.stamp[slot] == binding.stamps:
        have = level_of(tape.program, binding.register[slot])
        fits = is_over(tape.program, binding.register[slot], space) and (have == level or level == WIDE)
        if fits or have == SINGLE:
            return int(binding.register[slot])
    r = _stored(tape, tape.slots[slot], space, level)
    tape.program.registers[r].ndim = space.ndim
    binding.stamp[slot], binding.register[slot] = binding.stamps, r
    return r


def _stored(tape, slot, space, level):
    """A register for a value in memory."""
    kind, program = tape.kinds[slot.kind], tape.program
    size, address = ITEMSIZE[kind.dtype], slot.primal
    if kind.space == space.space and kind.flags & CONTIGUOUS:
        return new_register(program, level, size, address, memory_step(program, level, size))
    if kind.numel == 1:
        return new_register(program, SINGLE, size, address)
    return by_walk(program, broadcast_walk(tape, kind, space, 0), address, size, level)


def by_walk(program, walk_at, address, size, level):
    """A register for memory of another layout: the memory itself where its rows are those of the region."""
    walk = Walk(walk_at)
    if level == WIDE and walk.n_runs == 2 and walk.runs[0].length == program.inner:
        within, along = walk.runs[0].stride, walk.runs[1].stride
        if within == 0 and (along == size or program.one_row):
            return new_register(program, NARROW, size, address, along)
        if within == size and program.one_row:
            return new_register(program, WIDE if along else VECTOR, size, address, along)
    made = new_register(program, level, size)
    gathered = emit(program, GATHER, mode=size, width=level, y=made)
    gathered.walk, gathered.address = walk_at, address
    return made


def _known(tape, p, q):
    """Where what has the key (p, q) is entered among what is computed once; its register is 0 if it is new.

    The entry's number, or -1 where nothing is entered: in a region of few lanes, looking would cost more than
    computing.
    """
    program, now = tape.program, tape.binding.stamps
    if program.n_rows * program.inner <= FEW_LANES:
        return -1
    i = ((p * 0x1E3779B97F4A7C15 + q * 0x3F58476D1CE4E5B9) >> 32) % MANY_KNOWN
    for _ in range(8):
        known = program.known[i]
        if known.stamp != now:
            known.p, known.q, known.register, known.stamp = p, q, 0, now
            return i
        if known.p == p and known.q == q:
            return i
        i = (i + 1) % MANY_KNOWN
    return -1


def write_number(address, value, code):
    """Write a float64 to memory as a number of the dtype with this code."""
    if code == 4:
        f8(address, 1)[0] = value
    elif code == 3:
        f4(address, 1)[0] = value
    elif code == 2:
        i8(address, 1)[0] = int(value)
    elif code == 1:
        i4(address, 1)[0] = int(value)
    elif code == 7:
        u2(address, 1)[0] = int(value) & 65535
    elif code >= 5:
        u1(address, 1)[0] = int(value) & 255
    else:
        u1(address, 1)[0] = value != 0


def constant(program, value, code):
    """A register of one number."""
    address = program.constants_at + 8 * program.n_constants
    program.n_constants += 1
    write_number(address, value, code)
    return new_register(program, SINGLE, ITEMSIZE[code], address)


def immediate(tape, row, code):
    """A register of a row's immediate: the same for equal numbers."""
    program, i = tape.program, _known(tape, row.bits, -1 - code)
    if i >= 0 and program.known[i].register:
        return program.known[i].register
    made = constant(program, row.immediate, code)
    if i >= 0:
        program.known[i].register = made
    return made


def _result(tape, slot, level, stays):
    """A register for a value made in this region: in its memory where it stays."""
    size = ITEMSIZE[tape.kinds[slot.kind].dtype]
    if stays and slot.primal:
        return new_register(tape.program, level, size, slot.primal, memory_step(tape.program, level, size))
    return new_register(tape.program, level, size)


def row_level(tape, kind):
    """WIDE for rows over the region's space, else NARROW."""
    return WIDE if kind.space == tape.kinds[tape.program.space_kind].space else NARROW


def _bind_value(tape, row, level, stays):
    """The instruction of an elementwise row; returns its result's register, which may be that of a row just like it."""
    program, kernel, code = tape.program, kernels_of(tape, row).forward, code_of(tape, row)
    kind, n = tape.kinds[row.kind], arity(tape, row)
    b = c = 0
    if row.flags & IMM_A:
        a = immediate(tape, row, code)
        b = value(tape, row.a, kind, level)
    else:
        a = value(tape, row.a, kind, level)
        if row.flags & IMM_B:
            b = immediate(tape, row, code)
        elif n > 1:
            b = value(tape, row.b, kind, level)
            if n > 2:
                c = value(tape, row.c, kind, level)
    mode = 0
    if n == 2:
        if is_single(program, b, level):
            mode = 2
        elif is_single(program, a, level):
            mode = 1
    a = a if mode == 1 else spread_over(program, a, level)
    b = b if mode == 2 else spread_over(program, b, level)
    c = spread_over(program, c, level)
    i = _known(tape, kernel, int(a) << 40 | int(b) << 20 | int(c)) if not stays else -1
    if i >= 0 and program.known[i].register:
        return program.known[i].register
    y = _result(tape, tape.slots[row.out], level, stays)
    if i >= 0:
        program.known[i].register = y
    emit(program, FORWARD, kernel=kernel, mode=mode, width=level, a=a, b=b, c=c, y=y)
    return y


def _bind_reduction(tape, row, y):
    """The instruction of a reduction: of whole rows into the register `y`, or scattered to its memory where y is 0."""
    program, kernels, code = tape.program, kernels_of(tape, row), code_of(tape, row)
    space, size = tape.kinds[tape.slots[row.a].kind], ITEMSIZE[code]
    level = row_level(tape, space)
    x = spread_over(program, value(tape, row.a, space, level), level)
    if y:
        emit(program, REDUCE, kernel=kernels.rows, mode=size, width=level, a=x, y=y)
        return
    n, state, target = tape.kinds[row.kind].numel, state_bytes(tape, row.opcode, code), tape.slots[row.out].primal
    walk = enter_walk(tape, space, row.c + 1, min(state, 8))
    if state == size:
        tell(tape, FILLED, target, n, kernels.start, size)
        fill(target, n, kernels.start, size)
    emit_scatter(
        program, kernels.accumulate, size, level, x, walk, kernels.start, n, target, kernels.finish, tape.pool[row.c],
        state
    )  # fmt: skip


def fill(address, n, bits, itemsize):
    """Fill memory with `n` elements of these bits."""
    for i in range(n):
        if itemsize == 8:
            i8(address, n)[i] = bits
        elif itemsize == 4:
            i4(address, n)[i] = bits
        elif itemsize == 2:
            u2(address, n)[i] = bits
        else:
            u1(address, n)[i] = bits


def copy_element(target, source, itemsize):
    """Copy one element."""
    if itemsize == 8:
        i8(target, 1)[0] = i8(source, 1)[0]
    elif itemsize == 4:
        i4(target, 1)[0] = i4(source, 1)[0]
    elif itemsize == 2:
        u2(target, 1)[0] = u2(source, 1)[0]
    else:
        u1(target, 1)[0] = u1(source, 1)[0]


def copy(target, source, nbytes):
    """Copy bytes."""
    words = nbytes // 8
    to, of = i8(target, words), i8(source, words)
    for i in range(words):
        to[i] = of[i]
    for i in range(8 * words, nbytes):
        u1(target, nbytes)[i] = u1(source, nbytes)[i]


def _bind_along(tape, row, y):
    """The instruction of an array row that works along the rows of the region."""
    program, space = tape.program, tape.kinds[tape.slots[row.a].kind]
    x = spread_over(program, value(tape, row.a, space, WIDE), WIDE)
    width = row_level(tape, tape.kinds[row.kind])
    emit(program, ALONG, kernel=kernels_of(tape, row).forward, width=width, a=x, y=y).params = row.c


@part
def bind_values(tape: Header, first, last):
    """Bind what is computed: for the sweep of values, and again for the rules of active rows. 0: memory is short."""
    program, plan, binding = tape.program, tape.plan, tape.binding
    for i in range(first, last):
        row = tape.rows[plan.order[i]]
        out, slot = row.out, tape.slots[row.out]
        family, inside = tape.ops[row.opcode].family, plan.marks[out] & INSIDE
        if family == LAYOUT:
            continue
        evaluated = program.sweeps & SWEEP_VALUES and is_evaluated(tape, row)
        if not evaluated and (binding.want[out] != binding.stamps or slot.flags & STORED or not inside):
            continue
        if MEMORY:
            program.bound_row = plan.order[i]
        stays = evaluated and (tape.live[out] or plan.marks[out] & STORE or slot.primal)
        if stays and not hold_value(tape, slot):
            return 0
        y, level = 0, row_level(tape, tape.kinds[row.kind])
        if family == ELEMENTWISE:
            y = _bind_value(tape, row, level, stays)
        else:
            if inside:
                y = _result(tape, slot, level, stays)
            if family == REDUCTION:
                _bind_reduction(tape, row, y)
            else:
                _bind_along(tape, row, y)
        if inside:
            binding.stamp[out], binding.register[out] = binding.stamps, y
    return 1
