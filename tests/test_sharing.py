"""Sweeps shared out to threads: the same bits on any number of them, whatever else the process does."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import tapegrad as tg
from tapegrad import tape
from tapegrad.core.tables import Program
from tapegrad.memory import words_of

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="signals and processes are those of POSIX")


@pytest.fixture(autouse=True)
def number() -> Iterator[None]:
    """The number of threads is as it was, afterwards."""
    before = tg.get_num_threads()
    yield
    tg.set_num_threads(before)


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape)


def active(*arrays: np.ndarray) -> list[Any]:
    return [tg.tensor(a, requires_grad=True) for a in arrays]


# --- programs ---------------------------------------------------------------------------------------------------------


def full_sum() -> list[Any]:
    x, w, b = active(normal(300_001), normal(300_001), np.array(0.3))
    y = ((-x * x).exp() * (w * x + b).tanh()).sum()
    y.backward()
    return [y, x.grad, w.grad, b.grad]


def broadcast() -> list[Any]:
    x, row, column = active(normal(1000, 1000), normal(1000), normal(1000, 1))
    y = (x * row + column).sin()
    y.mean().backward()
    return [y, x.grad, row.grad, column.grad]


def row_times_column() -> list[Any]:
    row, column = active(normal(1000), normal(1000, 1))
    y = (row * column).exp().log1p().sum()
    y.backward()
    return [y, row.grad, column.grad]


def over_rows() -> list[Any]:
    (x,) = active(normal(2000, 130))
    y = (x * x).sum(0)
    (y * y.sin()).sum().backward()
    return [y, x.grad]


def over_the_middle() -> list[Any]:
    x, w = active(normal(40, 60, 50), normal(60, 1))
    y = (x * w).mean(1).exp()
    y.sum().backward()
    return [y, x.grad, w.grad]


def cross_entropy() -> list[Any]:
    x, w = active(normal(3000, 10), normal(10))
    labels = tg.tensor(np.arange(3000) % 10)
    y = -(x * w).log_softmax(1).gather(1, labels[:, None]).mean()
    y.backward()
    return [y, x.grad, w.grad]


def softmax_by_hand() -> list[Any]:
    (x,) = active(normal(700, 300))
    e = (x - x.amax(-1, keepdim=True)).exp()
    y = e / e.sum(-1, keepdim=True)
    (y * x).sum().backward()
    return [y, x.grad]


def matrix_and_vector(see: Callable[[Any], Any], shape: tuple[int, int]) -> Callable[[], list[Any]]:
    def product() -> list[Any]:
        m, v, u = active(normal(*shape), normal(350), normal(450))
        a = see(m)
        y, z = a @ v, u @ a
        ((y * y).sum() + z.sin().sum()).backward()
        return [y, z, m.grad, v.grad, u.grad]

    return product


def matrices() -> list[Any]:
    a, b = active(normal(200, 90), normal(90, 160))
    y = (a @ b).tanh()
    y.sum().backward()
    return [y]  # the gradients of products are BLAS's, whose threads are its own affair


def take() -> list[Any]:
    x, w = active(normal(500, 40), normal(40))
    at = np.random.default_rng(0).integers(0, 500, 6000)
    y = x[at] * w
    (y * y).sum().backward()
    return [y, x.grad, w.grad]


def logsumexp_over_rows() -> list[Any]:
    (x,) = active(normal(3000, 70))
    y = x.logsumexp(0)
    (y * y).sum().backward()
    return [y, x.grad]


def logsumexp_of_long_rows() -> list[Any]:
    (x,) = active(normal(40, 5000))
    y = (x * 2).logsumexp(1)
    (y * y).sum().backward()
    return [y, x.grad]


def single_precision() -> list[Any]:
    x, w = (tg.tensor(a, dtype=tg.float32, requires_grad=True) for a in (normal(600, 400), normal(400)))
    y = (x.tanh() * w).sum(1).to(tg.float64)
    (y * y).sum().backward()
    return [y, x.grad, w.grad]


PROGRAMS = {
    **{
        f.__name__: f
        for f in (
            full_sum, broadcast, row_times_column, over_rows, over_the_middle, cross_entropy, softmax_by_hand, matrices,
            take, logsumexp_over_rows, logsumexp_of_long_rows, single_precision,
        )
    },
    "matrix, rows": matrix_and_vector(lambda m: m, (450, 350)),
    "matrix, columns": matrix_and_vector(lambda m: m.T, (350, 450)),
    "matrix, strided": matrix_and_vector(lambda m: m[::2, ::3], (900, 1050)),
}  # fmt: skip


def bits(program: Callable[[], list[Any]]) -> list[bytes]:
    return [t.detach().numpy().tobytes() for t in program()]


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_the_same_bits_on_any_number_of_threads(program: Callable[[], list[Any]]):
    tg.set_num_threads(1)
    alone = bits(program)
    for n in (2, 3, 8):
        tg.set_num_threads(n)
        for _ in range(4):
            assert bits(program) == alone


def test_the_programs_are_shared_out():
    """Else the test before would show nothing."""
    for program, partial in ((full_sum, True), (broadcast, True), (single_precision, True), (softmax_by_hand, False)):
        program()
        tables, words = tg.current_tape().tables, words_of(Program)
        assert tables[words["n_chunks"]] > 4
        assert tables[words["partial_bytes"]] > 0 or not partial


def test_thousands_of_small_jobs_in_a_row():
    """Each is short, so that workers are late, early and asleep."""
    tg.set_num_threads(4)
    array = normal(30_000)
    (x,) = active(array)
    expected = None
    for k in range(1500):
        x.grad = None
        (x * x).sum().backward()
        found = x.grad.numpy()
        assert found[-1] == 2 * array[-1]
        if k % 100 == 0:
            expected = 2 * array if expected is None else expected
            np.testing.assert_array_equal(found, expected)
            time.sleep(0.001)  # long enough for workers to fall asleep


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.nojit
@pytest.mark.parametrize("wrong", [0, -1, -100])
def test_a_number_that_is_not_positive_is_refused(wrong: int):
    before = tg.get_num_threads()
    with pytest.raises(RuntimeError, match="expects a positive integer"):
        tg.set_num_threads(wrong)
    assert tg.get_num_threads() == before


@pytest.mark.nojit
@pytest.mark.parametrize("wrong", [1.0, "2", None, True, np.float64(2)])
def test_what_is_no_number_of_threads_is_refused(wrong: Any):
    with pytest.raises(RuntimeError, match="expects an int, but got"):
        tg.set_num_threads(wrong)


@pytest.mark.nojit
def test_the_number_is_what_was_set():
    for n in (1, 5, 2, 1000):
        tg.set_num_threads(n)
        assert tg.get_num_threads() == n
        assert (tg.ones(3) * 2).sum().item() == 6.0


def test_more_threads_than_there_can_be():
    tg.set_num_threads(10_000)
    assert bits(over_rows) == bits(over_rows)


def run(program: str, **variables: str) -> str:
    """What a child process prints; it must end well, and say nothing else."""
    child = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=900,
        env={**os.environ, **variables},
        check=False,
    )
    assert (child.returncode, child.stderr) == (0, "")
    return child.stdout.strip()


@pytest.mark.parametrize(
    ("given", "expected"), [("3", "3"), ("1", "1"), ("", None), ("0", None), ("-2", None), ("two", None), ("1.5", None)]
)
def test_the_environment_gives_the_number(given: str, expected: str | None):
    found = run("import tapegrad as tg\nprint(tg.get_num_threads())", TAPEGRAD_NUM_THREADS=given)
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    assert found == (expected or str(processors))


# --- many threads of Python's -----------------------------------------------------------------------------------------


def test_several_threads_sweep_at_once():
    tg.set_num_threads(3)
    programs = [full_sum, over_rows, softmax_by_hand, take, cross_entropy]
    expected = [bits(program) for program in programs]
    barrier = threading.Barrier(6)

    def work(k: int) -> list[list[bytes]]:
        barrier.wait()
        order = [(k + i) % len(programs) for i in range(len(programs))]
        found = {i: bits(programs[i]) for i in order for _ in range(2)}
        return [found[i] for i in range(len(programs))]

    with ThreadPoolExecutor(6) as pool:
        for found in pool.map(work, range(6), timeout=900):
            assert found == expected


def test_the_number_may_change_while_others_sweep():
    expected, stop = bits(over_rows), threading.Event()

    def change() -> None:
        n = 0
        while not stop.is_set():
            n = n % 6 + 1
            tg.set_num_threads(n)
            time.sleep(0.0005)

    changer = threading.Thread(target=change)
    changer.start()
    try:
        for _ in range(40):
            assert bits(over_rows) == expected
    finally:
        stop.set()
        changer.join()


# --- processes --------------------------------------------------------------------------------------------------------

COMPUTE = """
import os, sys, threading, warnings
import tapegrad as tg
tg.set_num_threads(3)
def compute():
    x = tg.linspace(-1.0, 1.0, 200_000, requires_grad=True)
    y = ((x * 3).sin() * x.exp()).sum()
    y.backward()
    return y.item(), x.grad.sum().item(), x.grad[12345].item()
before = compute()
"""

FORK = (
    COMPUTE
    + """
warnings.simplefilter("ignore")  # Python 3.12 warns of forks where there are threads
child = os.fork()
if child == 0:
    os._exit(0 if compute() == before and compute() == before else 3)
assert compute() == before
_, status = os.waitpid(child, 0)
assert compute() == before
print(os.waitstatus_to_exitcode(status), flush=True)
"""
)


@POSIX
def test_a_forked_child_computes_and_so_does_its_parent():
    assert run(FORK) == "0"


@POSIX
def test_a_child_forked_in_the_midst_of_a_sweep_of_another_thread():
    sweep = "stop = []\nthread = threading.Thread(target=lambda: [compute() for _ in iter(lambda: not stop, False)])\n"
    program = FORK.replace("child = os.fork()", sweep + "thread.start()\ncompute()\nchild = os.fork()")
    assert run(program + "stop.append(1)\nthread.join()\n") == "0"


@pytest.mark.parametrize(
    "end",
    [
        "",
        "import time; time.sleep(0.05)",  # workers have fallen asleep
        "keep = tg.ones(10) * 2\nkeep.tolist()\nsys.exit(0)",
        "t = threading.Thread(target=compute)\nt.start()\nt.join()",
        "tg.set_num_threads(1)\ncompute()",
    ],
    ids=["at once", "asleep", "exit", "another thread", "one"],
)
def test_an_interpreter_ends_while_workers_are_there(end: str):
    assert run(f"{COMPUTE}\nprint('done', flush=True)\n{end}\n") == "done"


# --- Ctrl-C -----------------------------------------------------------------------------------------------------------


@POSIX
@pytest.mark.parametrize("looks", [False, True], ids=["fused", "apart"])
def test_ctrl_c_in_a_shared_sweep_leaves_everything_as_it_was(looks: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tape._threads, "tape", tape.Tape())
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    tg.set_num_threads(3)

    def chain(x: Any, w: Any) -> Any:
        for _ in range(100):
            x = (x * w).tanh()
        return x

    n = 3_000_000
    x, w = tg.full((n,), 0.5, requires_grad=True), tg.tensor(1.01, requires_grad=True)
    small, v = tg.full((1,), 0.5, requires_grad=True), tg.tensor(1.01, requires_grad=True)
    chain(small, v).sum().backward()
    y = chain(x, w)
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    try:
        if looks:
            y[:1].tolist()
        loss = y.sum()
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            loss.backward()
        assert x.grad is None
        assert w.grad is None
        assert not tg.current_tape().slots["adjoint"][: tg.current_tape().top].any()
        assert x[:2].tolist() == [0.5, 0.5]
        part = chain(x[:1000], w)
        part.sum().backward()
    finally:
        timer.cancel()
        timer.join()
        signal.signal(signal.SIGINT, handler)
    assert (x.grad[0].item(), x.grad[999].item(), x.grad[1000].item()) == (small.grad.item(), small.grad.item(), 0.0)
    assert w.grad.item() == pytest.approx(1000 * v.grad.item(), rel=1e-10)
