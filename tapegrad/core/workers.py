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

from tapegrad.memory import call1, exchange, fetch_add, i8, load, part2, part3
from tapegrad.tape import H

TICKET, DONE, BUSY, WAITS, LOCK, N_WORKERS, FUNCTION, HEADER, FIRST_INDEX, ACQUIRE, RELEASE, RESTS = range(12)
WORKER, WORDS_A_WORKER = 16, 8  # where the words of each worker begin, in lines of the cache of their own
SLEEPS, OWN_LOCK, OWN_SCRATCH = range(3)
MOST_WORKERS = 127
CREW = WORKER + WORDS_A_WORKER * MOST_WORKERS
_FIELD = 1 << 20
_SPINS = 250_000  # looks for a new job before a worker sleeps: some 80 us, longer than Python takes to record one
WORTH_WAKING = 100_000  # lanes times instructions of a job for which it is quicker to wake a worker than to do it alone


def rest(crew_at, rests):
    """Have workers that wait for a job sleep at once, or (0) go on as usual."""
    if crew_at:
        exchange(crew_at + 8 * RESTS, rests)


def share(header, function, first, n, cost):
    """Call the function with the indices [first, first + n), on as many threads as there are."""
    h = i8(header, len(H))
    crew_at = h[H.crew]
    crew = i8(crew_at, CREW)
    n_workers = min(crew[N_WORKERS], n - 1) if crew_at else 0
    if n_workers < 1 or exchange(crew_at + 8 * BUSY, 1):
        for k in range(n):
            part3(function, header, first + k, h[H.scratch])
        return 0
    crew[FUNCTION], crew[HEADER], crew[FIRST_INDEX], crew[DONE] = function, header, first, 0
    epoch = ((load(crew_at + 8 * TICKET) >> 40) + 1) % _FIELD
    exchange(crew_at + 8 * TICKET, epoch << 40 | n << 20)
    if cost > WORTH_WAKING:
        for i in range(n_workers):
            at = crew_at + 8 * (WORKER + WORDS_A_WORKER * i)
            if load(at + 8 * SLEEPS) and exchange(at + 8 * SLEEPS, 0):
                call1(crew[RELEASE], i8(at, WORDS_A_WORKER)[OWN_LOCK])
    take_part(crew_at, h[H.scratch])
    for _ in range(_SPINS):
        if load(crew_at + 8 * DONE) == n:
            break
    while load(crew_at + 8 * DONE) != n:  # again where a worker, late from an earlier job, has woken this thread
        exchange(crew_at + 8 * WAITS, 1)
        if load(crew_at + 8 * DONE) != n or exchange(crew_at + 8 * WAITS, 0) == 0:
            part2(crew[ACQUIRE], crew[LOCK], 1)
    exchange(crew_at + 8 * BUSY, 0)
    return 0


def take_part(crew_at, scratch):
    """Take indices of the job until none are left; returns its epoch."""
    crew = i8(crew_at, CREW)
    while True:
        ticket = fetch_add(crew_at + 8 * TICKET, 1)
        k, n = ticket % _FIELD, ticket // _FIELD % _FIELD
        if k >= n:
            return ticket >> 40
        part3(crew[FUNCTION], crew[HEADER], crew[FIRST_INDEX] + k, scratch)
        if fetch_add(crew_at + 8 * DONE, 1) + 1 == n and exchange(crew_at + 8 * WAITS, 0):
            call1(crew[RELEASE], crew[LOCK])


def work(crew_at, i):
    """What a worker does, for good."""
    crew = i8(crew_at, CREW)
    own = crew_at + 8 * (WORKER + WORDS_A_WORKER * i)
    lock, scratch = i8(own, WORDS_A_WORKER)[OWN_LOCK], i8(own, WORDS_A_WORKER)[OWN_SCRATCH]
    epoch = -1
    while True:
        spins = 0
        while spins < _SPINS and load(crew_at + 8 * TICKET) >> 40 == epoch:
            spins = spins + 1 if load(crew_at + 8 * RESTS) == 0 else _SPINS
        if spins == _SPINS:
            exchange(own + 8 * SLEEPS, 1)
            if load(crew_at + 8 * TICKET) >> 40 == epoch or exchange(own + 8 * SLEEPS, 0) == 0:
                part2(crew[ACQUIRE], lock, 1)
        epoch = load(crew_at + 8 * TICKET) >> 40
        if i < crew[N_WORKERS]:
            epoch = take_part(crew_at, scratch)
