"""Chunks of a parallel loop's turns: handed out to threads, and added up in their order. Compiled once, for all loops.

      values      of each chunk, each sum's number: a float64, or an int64
      partials    of each chunk and each sum, a number for each row of the caller's tape
      done        1 for each chunk that has come to its end
      weights     the partials of the whole by the start of a sum, and by what each chunk gives

All of it is memory of one piece, had and let go by the thread whose loop it is. `parallel_loops.py` says what for.
"""

from tapegrad.core.workers import WORTH_WAKING, share_among
from tapegrad.jitted import jacobian_tape as tape
from tapegrad.jitted.jacobian_tape import dispose, reserve, sweep, zero_adjoints
from tapegrad.memory import Record, f8, i4, i8, index_of, part, part2, part3, release, u1, word

ROWS, ARGUMENTS, LENGTH, INDEX, PARTIAL, ADJOINT = (
    tape.ROWS, tape.ARGUMENTS, tape.LENGTH, tape.INDEX, tape.PARTIAL, tape.ADJOINT,
)  # fmt: skip
REALLOC, FREE, LONG, MAX_LENGTH = tape.REALLOC, tape.FREE, tape.LONG, tape.MAX_LENGTH
SUM, PRODUCT, LARGEST, SMALLEST = range(4)
LEAST_TURNS = 32
LEAST_WORK = 50_000  # arguments and rows of all turns, below which threads aren't worth waking
CHUNK = 32_768  # of a chunk, as far as there are no more than `MOST_CHUNKS`: they stay in the cache
LEAST_CHUNKS, MOST_CHUNKS = 16, 1024
WORTH_KEEPING = 2  # arguments and rows of a loop that writes, for each number that is kept for it


class Job(Record):
    """What a loop tells those who take its chunks, and they it."""

    n = word()  # turns
    first = word()  # the range's start
    by = word()  # and step
    n_chunks = word()
    n_rows = word()  # of the caller's tape
    n_sums = word()
    inputs = word()  # address of what the loop is given
    values = word()
    partials = word()
    done = word()
    weights = word()
    total = word()
    cost = word()  # of a turn; 0 where it has raised
    number = word()  # what a sum begins with, and what it comes to: a float64, or an int64
    # Of loops that write (`parallel_writes.py`):
    tape = word()  # address of the header of the tape on which is kept what the loop is given
    begin = word()  # and from which argument on
    bars = word()  # the adjoints of what the loop leaves
    found = word()  # those of what it is given, chunk by chunk
    stride = word()  # so many words each


W = index_of(Job)


@part
def run_chunks(header, words, job, crew, most):
    """Run a loop's chunks; 0 where all turns are to be one: it isn't worth it, memory is short, or one has raised."""
    h, w = i8(header, tape.WORDS), Job(words)
    m, n_rows = w.n_sums, w.n_rows
    w.n_chunks, w.cost = 1, 0
    if w.n < LEAST_TURNS:
        return 0
    part3(job, words, -1, 0)  # the turn in the middle: what is it worth?
    work = w.n * w.cost
    n = min(w.n, max(LEAST_CHUNKS, min(work // CHUNK, MOST_CHUNKS)), work // (4 * n_rows * m))
    if work < LEAST_WORK or n < LEAST_CHUNKS // 4 or reserve(header, m, m * (n_rows + 2), 1) == 0:
        return 0
    memory = part2(h[REALLOC], 0, 8 * (n * m * (1 + n_rows) + 2 * n + 1 + n_rows))
    if memory == 0:
        return 0
    w.n_chunks, w.values = n, memory
    w.partials = w.values + 8 * n * m
    w.done = w.partials + 8 * n * m * n_rows
    w.weights = w.done + 8 * n
    w.total = w.weights + 8 * (n + 1)
    if not _are_done(words, job, crew, most):
        end_chunks(header, words)
        return 0
    return 1


def _are_done(words, job, crew, most):
    """Run a job for each chunk; tells whether all have come to their end."""
    w = Job(words)
    done = i8(w.done, w.n_chunks)
    for k in range(w.n_chunks):
        done[k] = 0
    share_among(crew, most, words, 0, job, 0, w.n_chunks, WORTH_WAKING + 1)
    n = 0
    for k in range(w.n_chunks):
        n += done[k] != 0
    return n == w.n_chunks


@part
def end_chunks(header, words):
    """Let the memory go."""
    release(i8(header, tape.WORDS)[FREE], Job(words).values)
    return 0


@part
def sweep_chunk(header, words, k, i, row):
    """Sweep chunk `k` from the row of its sum `i`, to the partials by the caller's rows; below 0 where it can't be."""
    h, w = i8(header, tape.WORDS), Job(words)
    n_rows = w.n_rows
    partials = f8(w.partials + 8 * (k * w.n_sums + i) * n_rows, n_rows)
    if zero_adjoints(header, 1) == 0:
        return tape.NO_MEMORY
    if row != 0:
        f8(h[ADJOINT], row + 1)[row] = 1.0
        if sweep(header, n_rows) < 0:
            return tape.NO_MEMORY
    bars = f8(h[ADJOINT], n_rows)
    for r in range(n_rows):
        partials[r] = bars[r] if row != 0 else 0.0
    return 0


@part
def add_whole(words, i, kind):
    """Sum `i`, of integers."""
    w = Job(words)
    values, number = i8(w.values, w.n_chunks * w.n_sums), i8(words + 8 * W.number, 1)
    for k in range(w.n_chunks):
        value = values[k * w.n_sums + i]
        if kind == SUM:
            number[0] += value
        elif kind == PRODUCT:
            number[0] *= value
        elif (kind == LARGEST and value > number[0]) or (kind == SMALLEST and value < number[0]):
            number[0] = value
    return 0


@part
def add_chunks(header, words, i, kind, row):
    """Sum `i`, of floats, which begins with what has a row: a statement row of all that the chunks read."""
    h, w = i8(header, tape.WORDS), Job(words)
    n, m, n_rows = w.n_chunks, w.n_sums, w.n_rows
    _weigh(words, i, kind)
    weights, total = f8(w.weights, n + 1), f8(w.total, n_rows)
    for r in range(n_rows):
        total[r] = 0.0
    for k in range(n):
        partials = f8(w.partials + 8 * (k * m + i) * n_rows, n_rows)
        if weights[k + 1] != 0.0:
            for r in range(1, n_rows):
                total[r] += weights[k + 1] * partials[r]
    begin = c = h[ARGUMENTS]
    index, partial = i4(h[INDEX], c + n_rows + 1), f8(h[PARTIAL], c + n_rows + 1)
    if row != 0 and weights[0] != 0.0:
        index[c], partial[c] = row, weights[0]
        c += 1
    for r in range(1, n_rows):
        if total[r] != 0.0:
            index[c], partial[c] = r, total[r]
            c += 1
    length = c - begin
    if length > MAX_LENGTH:
        index[c], partial[c] = length, 0.0
        c, length = c + 1, LONG
    made = h[ROWS]
    u1(h[LENGTH] + made, 1)[0] = length
    h[ROWS], h[ARGUMENTS] = made + 1, c
    return made


def _weigh(words, i, kind):
    """The value of a sum, and its weights. Of numbers that are equal the larger shares with those before it."""
    w = Job(words)
    n, m = w.n_chunks, w.n_sums
    values, weights, number = f8(w.values, n * m), f8(w.weights, n + 1), f8(words + 8 * W.number, 1)
    weights[0] = 1.0
    for k in range(n):
        value = values[k * m + i]
        weights[k + 1] = 1.0
        if kind == SUM:
            number[0] += value
        elif kind == PRODUCT:
            weights[k + 1] = number[0]
            number[0] *= value
        else:
            is_taken = value > number[0] if kind == LARGEST else value < number[0]
            share = 1.0 if is_taken else 0.5 if value == number[0] else 0.0
            for before in range(k + 1):
                weights[before] *= 1.0 - share
            weights[k + 1] = share
            number[0] = value if is_taken else number[0]
    if kind == PRODUCT:
        behind = 1.0
        for k in range(n - 1, -1, -1):
            weights[k + 1] *= behind
            behind *= values[k * m + i]
        weights[0] = behind


@part
def weigh(words, i, kind):
    """The value of sum `i`, of floats, and its weights."""
    _weigh(words, i, kind)
    return 0


# --- loops that write -------------------------------------------------------------------------------------------------


@part
def plan_chunks(words, job, n_kept, n_whole):
    """Into how many chunks a loop is cut, which keeps so many numbers, and each chunk so many; 0 if it isn't worth it.

    It depends on the turn in the middle, which is recorded, and what is given to the loop alone.
    """
    w = Job(words)
    w.n_chunks, w.cost = 1, 0
    part3(job, words, -1, 0)
    work = w.n * w.cost
    n = min(w.n, max(LEAST_CHUNKS, min(work // CHUNK, MOST_CHUNKS)), work // (4 * n_whole))
    w.n_chunks = 0 if work < LEAST_WORK or n < LEAST_CHUNKS // 4 or work < WORTH_KEEPING * n_kept else n
    return w.n_chunks


@part
def share_out(words, job, crew, most):
    """Run a job for each chunk; 1 where all have come to their end, else 0."""
    return 1 if _are_done(words, job, crew, most) else 0


@part
def put_aside(header, spare, words):
    """Put the tape aside, whose words are kept at an address; what is recorded meanwhile is on the spare one."""
    h, s, kept = i8(header, REALLOC), i8(spare, REALLOC), i8(words, REALLOC)
    for k in range(REALLOC):
        kept[k], h[k], s[k] = h[k], s[k], 0
    return 0


@part
def put_back(header, spare, words):
    """Have the tape back that was put aside; the other is spare again, unless there is a spare one."""
    h, s, kept = i8(header, REALLOC), i8(spare, REALLOC), i8(words, REALLOC)
    if s[LENGTH] != 0:
        dispose(header)
    else:
        for k in range(REALLOC):
            s[k] = h[k]
    for k in range(REALLOC):
        h[k] = kept[k]
    return 0


tape.know(
    run_chunks, end_chunks, sweep_chunk, add_whole, add_chunks, weigh, plan_chunks, share_out, put_aside, put_back
)
