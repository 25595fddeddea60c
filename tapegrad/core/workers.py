"""Workers: threads that take chunks of a job from each other. Compiled code; `threads.py` starts them.

A job is a function to be called with (header, index, scratch memory) for n indices. One thread has it at a time, and
works on it too. What workers and it share is an array of int64, the crew:

    TICKET     epoch << 40 | n << 20 | the next index: one atomic addition takes an index, and tells of which job
    DONE       how many indices are done; the thread whose job it is waits until all are
    BUSY       1 while some thread has a job here: others then work alone
    RESTS      1 while a library with threads of its own computes: workers that have nothing to do leave it the cores
    SLEEPS     of each worker: 1 while it sleeps on its lock

A worker that has nothing to do looks for a new epoch for a while, then sleeps. A thread that holds an index holds the
job: its words do not change before that index is done.
"""

import numpy as np

from tapegrad.memory import Record, call1, exchange, fetch_add, index_of, inside, load, part, part2, part3, word
from tapegrad.tape import Header

MOST_WORKERS = 127


class Worker(Record):
    """What one worker is told, in a line of the cache of its own."""

    sleeps = word()
    own_lock = word()
    own_scratch = word()
    unused = inside(np.int64, 5)


class Crew(Record):
    """What threads share: see above."""

    ticket = word()
    done = word()
    busy = word()
    waits = word()  # 1 while the thread whose job it is sleeps on its lock
    lock = word()
    n_workers = word()
    function = word()  # the job
    header = word()
    first_index = word()
    acquire = word()  # Python's functions for locks
    release = word()
    rests = word()
    most = word()  # workers that the job may have
    unused = inside(np.int64, 3)
    workers = inside(Worker, MOST_WORKERS)


C, W = index_of(Crew), index_of(Worker)
_FIELD = 1 << 20
_SPINS = 250_000  # looks for a new job before a worker sleeps: some 80 us, longer than Python takes to record one
WORTH_WAKING = 100_000  # lanes times instructions of a job for which it is quicker to wake a worker than to do it alone


def rest(address, rests):
    """Have workers that wait for a job sleep at once, or (0) go on as usual."""
    if address:
        exchange(Crew(address).rests_at, rests)


@part
def share(tape: Header, function, first, n, cost):
    """Call the function with the indices [first, first + n), on as many threads as there are."""
    return share_among(tape.progress.crew, MOST_WORKERS, tape, tape.scratch, function, first, n, cost)


@part
def share_among(address, most, header, scratch, function, first, n, cost):
    """Likewise, for the crew at an address (0 for none), with so many workers at most."""
    crew = Crew(address)
    n_workers = min(crew.n_workers, n - 1, most) if address else 0
    if n_workers < 1 or exchange(crew.busy_at, 1):
        for k in range(n):
            part3(function, header, first + k, scratch)
        return 0
    crew.function, crew.header, crew.first_index, crew.done, crew.most = function, header, first, 0, most
    epoch = ((load(crew.ticket_at) >> 40) + 1) % _FIELD
    exchange(crew.ticket_at, epoch << 40 | n << 20)
    for i in range(n_workers if cost > WORTH_WAKING else 0):
        worker = crew.workers[i]
        if load(worker.sleeps_at) and exchange(worker.sleeps_at, 0):
            call1(crew.release, worker.own_lock)
    take_part(crew, scratch)
    for _ in range(_SPINS):
        if load(crew.done_at) == n:
            break
    while load(crew.done_at) != n:  # again where a worker, late from an earlier job, has woken this thread
        exchange(crew.waits_at, 1)
        if load(crew.done_at) != n or exchange(crew.waits_at, 0) == 0:
            part2(crew.acquire, crew.lock, 1)
    exchange(crew.busy_at, 0)
    return 0


def take_part(crew, scratch):
    """Take indices of the job until none are left; returns its epoch."""
    while True:
        ticket = fetch_add(crew.ticket_at, 1)
        k, n = ticket % _FIELD, ticket // _FIELD % _FIELD
        if k >= n:
            return ticket >> 40
        part3(crew.function, crew.header, crew.first_index + k, scratch)
        if fetch_add(crew.done_at, 1) + 1 == n and exchange(crew.waits_at, 0):
            call1(crew.release, crew.lock)


@part
def work(crew: Crew, i):
    """What a worker does, for good."""
    own = crew.workers[i]
    epoch = -1
    while True:
        spins = 0
        while spins < _SPINS and load(crew.ticket_at) >> 40 == epoch:
            spins = spins + 1 if load(crew.rests_at) == 0 else _SPINS
        if spins == _SPINS:
            exchange(own.sleeps_at, 1)
            if load(crew.ticket_at) >> 40 == epoch or exchange(own.sleeps_at, 0) == 0:
                part2(crew.acquire, own.own_lock, 1)
        epoch = load(crew.ticket_at) >> 40
        if i < crew.n_workers and i < crew.most:
            epoch = take_part(crew, own.own_scratch)
