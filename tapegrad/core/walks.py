"""Walks: how memory of another layout is met in the order of a region's lanes, a strided iterator.

A walk has runs of so many elements, strides in bytes apart, innermost first; neighbours that form one run are joined. A
stride of 0 repeats an element: gathered, it is broadcast; scattered, it is summed (or merged as the reduction says).
"""

from tapegrad.core.rows import OK
from tapegrad.core.tables import Walk
from tapegrad.kernels import TO_EACH, TO_ONE
from tapegrad.memory import call6, f4, f8, i4, i8, part, u1


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
    done = 0
    while done < n:
        lane = start + done
        within = lane % inner
        offset = source + _outer_offset(walk, lane // inner) + within * stride
        length = min(inner - within, n - done)
        if itemsize == 8:
            to = i8(target + done * 8, length)
            if stride == 0:
                value = i8(offset, 1)[0]
                for i in range(length):
                    to[i] = value
            elif stride == 8:
                of = i8(offset, length)
                for i in range(length):
                    to[i] = of[i]
            else:
                for i in range(length):
                    to[i] = i8(offset + i * stride, 1)[0]
        elif itemsize == 4:
            to4 = i4(target + done * 4, length)
            if stride == 4:
                of4 = i4(offset, length)
                for i in range(length):
                    to4[i] = of4[i]
            else:
                for i in range(length):
                    to4[i] = i4(offset + i * stride, 1)[0]
        else:
            to1 = u1(target + done, length)
            for i in range(length):
                to1[i] = u1(offset + i * stride, 1)[0]
        done += length
    return OK


@part
def scatter(walk: Walk, source, target, start, n, itemsize, number, count, kernel):
    """Merge lanes [start, start + n) at `source` into a walk over `count` states, of numbers of so many bytes."""
    inner, stride = walk.runs[0].length, walk.runs[0].stride
    rows = rows_at_once(walk)
    done = 0
    while done < n:
        lane = start + done
        within, row = lane % inner, lane // inner
        given, offset = source + done * itemsize, target + _outer_offset(walk, row) + within * stride
        length, m = min(inner - within, n - done), 1
        if stride == 0:
            call6(kernel, length, 1, given, offset, count, TO_ONE)
        elif stride == number:
            if length == inner:
                m = min((n - done) // inner, rows - row % rows)
            call6(kernel, length, m, given, offset, count, TO_EACH)
        else:
            for i in range(length):
                call6(kernel, 1, 1, given + i * itemsize, offset + i * stride, count, TO_EACH)
        done += length * m
    return OK


@part
def put(walk: Walk, source, target, start, n, itemsize):
    """Add lanes [start, start + n) at `source` to a walk over elements like them, floats of so many bytes."""
    inner, stride = walk.runs[0].length, walk.runs[0].stride
    done = 0
    while done < n:
        lane = start + done
        within = lane % inner
        offset = target + _outer_offset(walk, lane // inner) + within * stride
        length = min(inner - within, n - done)
        if itemsize == 8:
            of = f8(source + done * 8, length)
            if stride == 8:
                to = f8(offset, length)
                for i in range(length):
                    to[i] += of[i]
            else:
                for i in range(length):
                    f8(offset + i * stride, 1)[0] += of[i]
        else:
            of4 = f4(source + done * 4, length)
            for i in range(length):
                f4(offset + i * stride, 1)[0] += of4[i]
        done += length
    return OK


def rows_at_once(walk):
    """How many runs meet the same states: those of the next dimension, where it repeats them."""
    return walk.runs[1].length if walk.n_runs > 1 and walk.runs[1].stride == 0 else 1


def _outer_offset(walk, index):
    """The offset of a run: its number, written in the lengths of the outer dimensions."""
    offset = 0
    for d in range(1, walk.n_runs):
        if index == 0:
            break
        offset += index % walk.runs[d].length * walk.runs[d].stride
        index //= walk.runs[d].length
    return offset
