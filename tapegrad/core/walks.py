"""Walks: how memory of another layout is met in the order of a region's lanes, a strided iterator.

A walk has runs of so many elements, strides in bytes apart, innermost first; neighbours that form one run are joined. A
stride of 0 repeats an element: gathered, it is broadcast; scattered, it is summed (or merged as the reduction says).
"""

from tapegrad.core.rows import OK
from tapegrad.core.tables import Walk
from tapegrad.kernels import SHORT, TO_EACH, TO_ONE
from tapegrad.memory import call6, f4, f8, i4, i8, part, u1, u2


def new_walk(program):
    """The address of a new walk, of no runs."""
    address = program.walks_at + 8 * program.walk_words
    Walk(address).n_runs = 0
    return address


def add_run(walk, length, stride):
    """One more dimension of a walk: joined to the last where the two form one run."""
    if length == 1:
        return
    n = walk.n_runs
    if n and walk.runs[n - 1].length * walk.runs[n - 1].stride == stride:
        walk.runs[n - 1].length *= length
        return
    walk.runs[n].length, walk.runs[n].stride = length, stride
    walk.n_runs += 1


def end_walk(program, walk):
    """Keep a walk, which has one run at least."""
    if walk.n_runs == 0:
        walk.runs[0].length, walk.runs[0].stride, walk.n_runs = 1, 0, 1
    program.walk_words += 1 + 2 * walk.n_runs


def enter_walk(tape, kind, strides, scale):
    """Enter a walk over a kind's shape, with strides (times `scale`: bytes) from the pool; returns its address."""
    program, pool = tape.program, tape.pool
    address = new_walk(program)
    walk = Walk(address)
    for d in range(kind.ndim - 1, -1, -1):
        add_run(walk, pool[kind.dims + d], pool[strides + d] * scale)
    end_walk(program, walk)
    return address


def broadcast_walk(tape, of, space, size):
    """A walk over a space for an operand that is broadcast to it; over states of `size` bytes for it, if not 0."""
    program, pool = tape.program, tape.pool
    missing, strides, step = space.ndim - of.ndim, of.dims + of.ndim, size
    address = new_walk(program)
    walk = Walk(address)
    for d in range(space.ndim - 1, -1, -1):
        stride = 0
        if d >= missing:
            own = pool[of.dims + d - missing]
            if own != 1:
                stride = step if size else pool[strides + d - missing]
            step *= own
        add_run(walk, pool[space.dims + d], stride)
    end_walk(program, walk)
    return address


@part
def gather(walk: Walk, source, target, start, n, itemsize):
    """Bring lanes [start, start + n) of a walk from `source` together at `target`."""
    inner, stride = walk.runs[0].length, walk.runs[0].stride
    within, run, done = start % inner, start // inner, 0
    while done < n:
        offset, to = source + _outer_offset(walk, run) + within * stride, target + done * itemsize
        length, m = min(inner - within, n - done), 1
        if length == inner:
            m = min((n - done) // inner, _runs_left(walk, run))
        step = walk.runs[1].stride if m > 1 else 0
        if itemsize == 8:
            copy8(offset, step, stride, to, m, length)
        elif itemsize == 4:
            copy4(offset, step, stride, to, m, length)
        elif itemsize == 2:
            copy2(offset, step, stride, to, m, length)
        else:
            copy1(offset, step, stride, to, m, length)
        done, run, within = done + length * m, run + m, 0
    return OK


def copy8(source, step, stride, target, m, n):
    """Copy `m` runs of `n` elements of 8 bytes to lie close; runs are `step`, elements `stride` bytes apart."""
    if n <= SHORT and m > 1:
        for i in range(n):
            of, to = source + i * stride, target + i * 8
            for run in range(m):
                i8(to + run * n * 8, 1)[0] = i8(of + run * step, 1)[0]
        return
    for run in range(m):
        of, to = source + run * step, i8(target + run * n * 8, n)
        if stride == 0:
            value = i8(of, 1)[0]
            for i in range(n):
                to[i] = value
        elif stride == 8:
            elements = i8(of, n)
            for i in range(n):
                to[i] = elements[i]
        elif stride == -8:
            elements = i8(of - 8 * (n - 1), n)
            for i in range(n):
                to[i] = elements[n - 1 - i]
        else:
            for i in range(n):
                to[i] = i8(of + i * stride, 1)[0]


def copy4(source, step, stride, target, m, n):
    """The same for elements of 4 bytes."""
    if n <= SHORT and m > 1:
        for i in range(n):
            of, to = source + i * stride, target + i * 4
            for run in range(m):
                i4(to + run * n * 4, 1)[0] = i4(of + run * step, 1)[0]
        return
    for run in range(m):
        of, to = source + run * step, i4(target + run * n * 4, n)
        if stride == 0:
            value = i4(of, 1)[0]
            for i in range(n):
                to[i] = value
        elif stride == 4:
            elements = i4(of, n)
            for i in range(n):
                to[i] = elements[i]
        elif stride == -4:
            elements = i4(of - 4 * (n - 1), n)
            for i in range(n):
                to[i] = elements[n - 1 - i]
        else:
            for i in range(n):
                to[i] = i4(of + i * stride, 1)[0]


def copy2(source, step, stride, target, m, n):
    """The same for elements of 2 bytes."""
    for run in range(m):
        of, to = source + run * step, u2(target + run * n * 2, n)
        for i in range(n):
            to[i] = u2(of + i * stride, 1)[0]


def copy1(source, step, stride, target, m, n):
    """The same for bytes."""
    for run in range(m):
        of, to = source + run * step, u1(target + run * n, n)
        for i in range(n):
            to[i] = u1(of + i * stride, 1)[0]


@part
def scatter(walk: Walk, source, target, start, n, itemsize, number, count, kernel):
    """Merge lanes [start, start + n) at `source` into a walk over `count` states, of numbers of so many bytes."""
    inner, stride = walk.runs[0].length, walk.runs[0].stride
    along = walk.runs[1].stride if walk.n_runs > 1 else 0  # of the next dimension
    within, run, done = start % inner, start // inner, 0
    while done < n:
        given, offset = source + done * itemsize, target + _outer_offset(walk, run) + within * stride
        length, m = min(inner - within, n - done), 1
        if length == inner and ((stride == 0 and along == number) or (stride == number and along == 0)):
            m = min((n - done) // inner, _runs_left(walk, run))
        if stride == 0:
            call6(kernel, length, m, given, offset, count, TO_ONE)
        elif stride == number:
            call6(kernel, length, m, given, offset, count, TO_EACH)
        else:
            for i in range(length):
                call6(kernel, 1, 1, given + i * itemsize, offset + i * stride, count, TO_EACH)
        done, run, within = done + length * m, run + m, 0
    return OK


@part
def put(walk: Walk, source, target, start, n, itemsize):
    """Add lanes [start, start + n) at `source` to a walk over elements like them, floats of so many bytes."""
    inner, stride = walk.runs[0].length, walk.runs[0].stride
    within, run, done = start % inner, start // inner, 0
    while done < n:
        offset = target + _outer_offset(walk, run) + within * stride
        length, m = min(inner - within, n - done), 1
        if length == inner and walk.n_runs > 1 and walk.runs[1].stride == itemsize:
            m = min((n - done) // inner, _runs_left(walk, run))
        if m > 1:
            _put_turned(source + done * itemsize, offset, stride, m, inner, itemsize)
        elif itemsize == 8:
            of = f8(source + done * 8, length)
            if stride == 8:
                to = f8(offset, length)
                for i in range(length):
                    to[i] += of[i]
            elif stride == -8:
                to = f8(offset - 8 * (length - 1), length)
                for i in range(length):
                    to[length - 1 - i] += of[i]
            else:
                for i in range(length):
                    f8(offset + i * stride, 1)[0] += of[i]
        else:
            of4 = f4(source + done * 4, length)
            if stride == 4:
                to4 = f4(offset, length)
                for i in range(length):
                    to4[i] += of4[i]
            elif stride == -4:
                to4 = f4(offset - 4 * (length - 1), length)
                for i in range(length):
                    to4[length - 1 - i] += of4[i]
            else:
                for i in range(length):
                    f4(offset + i * stride, 1)[0] += of4[i]
        done, run, within = done + length * m, run + m, 0
    return OK


def _put_turned(source, target, stride, m, n, itemsize):
    """Add `m` runs of `n` elements where elements are `stride` bytes apart and runs beside each other."""
    for i in range(n):
        if itemsize == 8:
            to, of = f8(target + i * stride, m), source + i * 8
            for run in range(m):
                to[run] += f8(of + run * n * 8, 1)[0]
        else:
            to4, of = f4(target + i * stride, m), source + i * 4
            for run in range(m):
                to4[run] += f4(of + run * n * 4, 1)[0]


def _runs_left(walk, run):
    """How many runs there are from this one to where the next dimension begins anew."""
    return walk.runs[1].length - run % walk.runs[1].length if walk.n_runs > 1 else 1


def _outer_offset(walk, index):
    """The offset of a run: its number, written in the lengths of the outer dimensions."""
    offset = 0
    for d in range(1, walk.n_runs):
        if index == 0:
            break
        offset += index % walk.runs[d].length * walk.runs[d].stride
        index //= walk.runs[d].length
    return offset
