"""Recording in native code: the same rows as in Python, and nothing lost or kept that Python's would not."""

import copy
import gc
import itertools
import pickle
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
import weakref

import numpy as np
import pytest

import tapegrad as tg
from tapegrad import cpython, engine, recorder, tape
from tapegrad.debug import MEMORY
from tapegrad.kernels import native
from tapegrad.tensor import Tensor

has_native = native.JIT and not native.CHECKED and not MEMORY  # else rows are recorded in Python
needs_native = pytest.mark.skipif(not has_native, reason="there is no native code without the JIT, nor with guards")


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """A tape of its own for each test."""
    monkeypatch.setattr(tape._threads, "tape", tape.Tape())


@pytest.fixture(autouse=True)
def native_again():
    yield
    recorder.install()


def is_native():
    return not isinstance(vars(Tensor)["__mul__"], type(lambda: None))


def tidy():
    gc.collect()
    engine.reclaim(tg.current_tape())


def in_use():
    """Slots that are not free."""
    of = tg.current_tape()
    return of.top - len(of.free) - len(of.low)


# --- the same rows ----------------------------------------------------------------------------------------------------

NUMBERS = [
    0, 1, 2, -1, 3, True, False, 0.5, -1.0, -0.0, 1e300, float("nan"), float("inf"), np.float64(0.1), np.float32(0.1),
    np.int64(7), np.int32(-1), np.bool_(True), 1 << 31, (1 << 53) + 1, (1 << 62) + 1, 1 << 63, -(1 << 63), -(1 << 70),
    10**400, "text", None, 1j, [1.0],
]  # fmt: skip
BINARY = [
    "x + y", "x - y", "x * y", "x / y", "x // y", "x % y", "x & y", "x | y", "x ^ y", "x ** y", "x == y", "x != y",
    "x < y", "x <= y", "x > y", "x >= y", "tg.maximum(x, y)", "tg.atan2(x, y)", "x.mul(y)", "tg.add(x, y, alpha=2)",
    "tg.rsub(x, y)", "x.sub_(y)", "tg.where(x > 0, x, y)",
]  # fmt: skip
IN_PLACE = [
    f"x.__i{name}__(y)" for name in ("add", "sub", "sub", "mul", "mul", "truediv", "floordiv", "mod", "and", "or")
]
UNARY = [
    "-x", "abs(x)", "+x", "~x", "x.exp()", "tg.tanh(x)", "x.square()", "x ** 2", "x.sin_()", "x.T", "x.sum()", "x[:1]",
    "x.reshape(-1)", "x.detach()", "x.clone()", "x.int()", "x.double()", "x.bool()",
]  # fmt: skip


def program(seed):
    """Run random operations on random operands; what came of each: a kind and a slot, or an error."""
    rng = random.Random(seed)
    held = [
        tg.tensor([1.0, 2.0, 3.0], requires_grad=True), tg.tensor([[0.5], [1.5]]), tg.tensor(2.0, requires_grad=True),
        tg.tensor([1.0, 2.0, 3.0], dtype=tg.float32), tg.tensor([1, 2, 3]), tg.tensor([3, 2, 1], dtype=tg.int32),
        tg.tensor([True, False, True]), tg.ones(2, 3, requires_grad=True),
    ]  # fmt: skip
    story = []
    for _ in range(120):
        x, y = rng.choice(held), rng.choice(held + NUMBERS)
        text = rng.choice(BINARY + IN_PLACE + UNARY)
        if rng.random() < 0.3:
            x, y = y, x
        with tg.set_grad_enabled(rng.random() < 0.8):
            try:
                z = eval(text, {"x": x, "y": y, "tg": tg, "Tensor": Tensor})
            except Exception as error:
                story.append((text, type(error), str(error)))
                continue
        if isinstance(z, Tensor):
            story.append((text, z._slot, z._kind.index, z._version))
            held[rng.randrange(len(held))] = z
        else:
            story.append((text, type(z)))
    of = tg.current_tape()
    leaves = sorted(of.leaves), sorted(of.former)
    return story, leaves, of.row_array().tolist(), list(of.live), [t.tolist() for t in held]


@needs_native
@pytest.mark.roomy
@pytest.mark.parametrize("seed", range(60))
def test_both_ways_record_the_same(seed, monkeypatch):
    recorder.uninstall()
    for _ in range(2):
        program(seed)  # what isn't known yet is found out
    told = []
    for install in (recorder.uninstall, recorder.install, recorder.uninstall, recorder.install):
        install()
        monkeypatch.setattr(tape._threads, "tape", tape.Tape())
        told.append(repr(program(seed)))
        assert is_native() is (install is recorder.install)
    assert told[0] == told[1] == told[2] == told[3]


@pytest.mark.parametrize("number", [0, 1, -1, True, 2.5, -0.1, np.float64(0.1), (1 << 62) + 1, 10**400], ids=repr)
def test_numbers_are_what_python_makes_of_them(way, number):
    x = tg.tensor([1.0, -2.0])
    for _ in range(3):
        if type(number) is int and number == 10**400:
            with pytest.raises(OverflowError):
                x * number
        else:
            assert (x * number).tolist() == [float(number), -2.0 * float(number)]
            assert (number + x).tolist() == [float(number) + 1.0, float(number) - 2.0]


@pytest.mark.nojit
def test_operators_answer_as_python_expects(way):
    x = tg.tensor([1.0, 2.0])
    _ = x * 2.0, 2.0 * x, x * x, -x, x == x
    assert x.__mul__("text") is NotImplemented
    assert x.__rmul__(None) is NotImplemented
    with pytest.raises(TypeError, match="unsupported operand"):
        x - "text"
    with pytest.raises(TypeError, match="unsupported operand"):
        None - x
    assert (x == "text") is False
    assert Tensor.__add__(x, 1.0).tolist() == [2.0, 3.0]
    assert Tensor.__rsub__(x, 1.0).tolist() == [0.0, -1.0]
    with pytest.raises((TypeError, AttributeError)):
        Tensor.__mul__(1.0, x)


@pytest.mark.nojit
def test_subclasses_may_have_operators_of_their_own(way):
    class Mine(Tensor):
        __slots__ = ()

        def __add__(self, other):
            return "added"

        def __rmul__(self, other):
            return "multiplied"

    x = tg.ones(2)
    mine = Mine()
    mine._tape, mine._slot, mine._kind = x._tape, 0, x._kind
    assert mine + x == "added"
    assert x * mine == "multiplied"
    assert 2.0 * mine == "multiplied"
    mine._slot = x._slot
    assert type(mine * x) is Mine
    assert (mine * 3.0).tolist() == (mine - -2.0).tolist() == (-mine * -3.0).tolist() == [3.0, 3.0]
    mine._slot = 0


@pytest.mark.nojit
def test_a_mode_is_seen_at_once(way):
    x = tg.ones(2, requires_grad=True)
    assert (x * x).requires_grad
    with tg.no_grad():
        assert not (x * x).requires_grad
        with tg.enable_grad():
            assert (x * x).requires_grad
    assert (x * x).requires_grad


# --- nothing lost, nothing kept ---------------------------------------------------------------------------------------


def work(x, y):
    for _ in range(500):
        _ = x * y + 1.5 - 2 * x
        _ = -x.exp() / y
        u = x + y
        u += y
        u *= 2.0
        if not tg.is_grad_enabled():
            x -= 0.1 * y


def test_reference_counts_are_unchanged(way):
    of = tg.current_tape()
    x, y = tg.ones(3, requires_grad=True), tg.ones(3)
    recorder.uninstall()  # what Python notes of kinds when it is asked first is there then
    work(x, y)
    with tg.no_grad():
        work(x, y)
    if way == "native":
        recorder.install()
    made = x * y
    tidy()
    watched = [of, x, y, x._kind, y._kind, made._kind, made._kind.passive, Tensor, float, int, of.header_address]
    before = [sys.getrefcount(o) for o in watched]
    for _ in range(20):
        work(x, y)
    with tg.no_grad():
        work(x, y)
    with pytest.raises(TypeError):
        x * "text"
    tidy()
    after = [sys.getrefcount(o) for o in watched]
    assert after == before
    holders = sys.getrefcount(of)
    held = [x * y for _ in range(10)]
    assert sys.getrefcount(of) == holders + 10
    del held
    assert sys.getrefcount(of) == holders


def test_a_million_operations_leave_nothing(way):
    x, y = tg.ones(3, requires_grad=True), tg.ones(3)
    for _ in range(20):
        work(x, y)
    tidy()
    blocks, objects, slots = sys.getallocatedblocks(), len(gc.get_objects()), in_use()
    for _ in range(200 if way == "native" else 20):
        work(x, y)
    tidy()
    assert abs(sys.getallocatedblocks() - blocks) < 100
    assert abs(len(gc.get_objects()) - objects) < 50
    assert in_use() == slots


def test_gradients_are_given_to_leaves_as_python_gives_them(way):
    """More leaves than there are low slots; one that has a gradient, one that is gone, one that is written to."""
    leaves = [tg.tensor(float(k), requires_grad=True) for k in range(1, 101)]
    for times in 1, 2:
        sum(t * t for t in leaves).backward()
        assert [t.grad.item() for t in leaves] == [2.0 * times * k for k in range(1, 101)]
    first, second = leaves[:2]
    first.grad = None
    held = second.grad
    (first * second).backward()
    assert (first.grad.item(), held.item(), second.grad is held) == (2.0, 9.0, True)
    kept = first * second
    lost = weakref.ref(second)
    del second, leaves, held
    gc.collect()
    assert lost() is None
    first.grad = None
    kept.backward()
    assert first.grad.item() == 2.0
    with tg.no_grad():
        first *= 3.0
    first.grad = None
    (first * first).backward()
    assert first.grad.item() == 6.0
    with pytest.raises(RuntimeError, match="second time"):
        kept.backward()
    used, before = in_use(), sys.getrefcount(first)
    for _ in range(1000):
        first.grad = None
        (first * first).backward()
    first.grad = None
    del kept
    tidy()
    assert in_use() <= used
    assert sys.getrefcount(first) == before


@pytest.mark.nojit
def test_handles_are_collected_as_other_objects(way):
    x = tg.ones(2)
    y = x * 2.0
    assert gc.is_tracked(y)
    assert x in gc.get_referrers(x._kind)
    told = []
    seen = weakref.ref(y, told.append)
    y._grad = y  # a cycle
    slot = y._slot
    del y
    gc.collect()
    assert seen() is None
    assert len(told) == 1
    assert not x._tape.live[slot]


@pytest.mark.nojit
def test_an_unfinished_handle_goes_quietly(way):
    t = Tensor.__new__(Tensor)
    del t
    with pytest.raises(AttributeError):
        Tensor.__new__(Tensor) * 2.0
    with pytest.raises(AttributeError):
        tg.ones(2) + Tensor.__new__(Tensor)


def test_copies_and_pickles(way):
    y = tg.tensor([1.0, 2.0]) * 3.0
    for other in (copy.copy(y), copy.deepcopy(y), pickle.loads(pickle.dumps(y))):
        assert (other * 2.0).tolist() == [6.0, 12.0]


def test_the_tape_grows_and_is_reclaimed(way):
    of = tg.current_tape()
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    held = [x * k for k in range(3 * of.slot_capacity)]
    assert [t.tolist() for t in held[::5000]] == [[k * 1.0, k * 2.0] for k in range(0, len(held), 5000)]
    assert not any(set(of.free.array[: len(of.free)].tolist()) & {t._slot for t in held})
    y = x
    for _ in range(5 * 4096):
        y = y * 1.0 + 0.0
    y.sum().backward()
    assert x.grad.tolist() == [1.0, 1.0]
    del held, y
    tidy()
    assert in_use() == 3  # x, its gradient, and slot 0


@needs_native
def test_the_look_up_grows():
    recorder.install()
    made = recorder._linked().look_up
    shapes = list(itertools.product(range(1, 40), range(1, 40)))
    for shape in shapes:
        _ = tg.ones(*shape) * 2.0
    assert 2 * made._used <= len(made._words) // recorder._ENTRY
    assert made._used > len(shapes)
    for shape in shapes[::100]:
        assert (tg.ones(*shape) * 2.0).shape == shape


def test_collecting_in_the_midst_of_recording(way):
    """The garbage collector runs when a handle is made; what it lets go of may record in its turn."""
    x = tg.tensor([1.0, 2.0])
    told = []

    class Garbage:
        def __init__(self):
            self.itself = self

        def __del__(self):
            told.append(x * 5.0 + x)

    threshold = gc.get_threshold()
    gc.set_threshold(3)
    try:
        y = x
        for _ in range(3000):
            Garbage()
            y = (y + x) * 1.0
    finally:
        gc.set_threshold(*threshold)
    gc.collect()
    assert y.tolist() == [3001.0, 6002.0]
    assert len(told) == 3000
    assert all(t.tolist() == [6.0, 12.0] for t in told[::50])
    assert len({t._slot for t in told}) == 3000


# --- threads and signals ----------------------------------------------------------------------------------------------


def elsewhere(function):
    """The result of a function run on a thread of its own, or the error it raised."""
    results = []

    def run():
        try:
            results.append(function())
        except Exception as error:
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return results[0]


def test_another_thread_records_on_its_own_tape(way):
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    y = x * 2.0
    end = tg.current_tape().end
    assert isinstance(elsewhere(lambda: y * y), RuntimeError)
    assert isinstance(elsewhere(lambda: -y), RuntimeError)
    assert isinstance(elsewhere(lambda: 2.0 * y), RuntimeError)
    assert elsewhere(lambda: (x * x).tolist()) == [1.0, 4.0]
    assert tg.current_tape().end == end
    z = y.detach()
    z.tolist()
    assert elsewhere(lambda: (tg.ones(2) + z).tolist()) == [3.0, 5.0]


@pytest.mark.nojit
def test_handles_may_die_on_another_thread(way):
    x = tg.ones(2)
    slots = in_use()
    held = [x * k for k in range(1000)]
    elsewhere(held.clear)
    tidy()
    assert in_use() == slots


def test_threads_record_at_once(way):
    def run():
        x = tg.tensor([1.0], requires_grad=True)
        y = x
        for _ in range(20_000):
            y = y * 1.0 + 1.0
        y.sum().backward()
        return y.item(), x.grad.item()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    results = []
    try:
        threads = [threading.Thread(target=lambda: results.append(run())) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert results == [(20_001.0, 1.0)] * 4


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no such timers")
def test_interrupts_lose_nothing(way):
    class InterruptError(Exception):
        pass

    def interrupt(_, frame):
        if frame.f_code.co_name in (test_interrupts_lose_nothing.__name__, "record_binary", "_quickly"):
            raise InterruptError
        signal.setitimer(signal.ITIMER_REAL, 0.0001)  # in the midst of other work

    x = tg.tensor([1.0, 2.0])
    work(x, x)
    tidy()
    slots, interrupts = in_use(), 0
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        stop = time.perf_counter() + 0.5
        while time.perf_counter() < stop or interrupts <= 20:
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0007)
                while True:
                    _ = x * x + 1.0
            except InterruptError:
                interrupts += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    _ = None
    tidy()
    assert interrupts > 20
    assert in_use() == slots
    assert (x * x + 1.0).tolist() == [2.0, 5.0]


# --- a process's beginning and end ------------------------------------------------------------------------------------

PROGRAMS = {
    "ends with handles in use": """
        class Keeper:
            def __del__(self):
                self.y = self.x * 2.0
        keeper = Keeper()
        keeper.x = x
        everywhere = [x * k for k in range(10)]
        cycle = x * 3.0
        cycle._grad = cycle
        sys.modules["kept"] = [x + 1.0, x.exp()]
    """,
    "ends with threads' tapes": """
        import threading
        kept = []
        thread = threading.Thread(target=lambda: kept.append(tg.ones(3) * 2.0))
        thread.start(); thread.join()
    """,
    "is forked": """
        import os
        child = os.fork()
        y = (x * 2.0 + 1.0).tolist()
        assert y == [3.0, 5.0]
        if child:
            assert os.waitpid(child, 0)[1] == 0
    """,
}


@pytest.mark.roomy
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_process(name):
    if "fork" in name and sys.platform == "win32":
        pytest.skip("there is no fork")
    source = "import sys, tapegrad as tg\nx = tg.tensor([1.0, 2.0], requires_grad=True)\n(x * x).sum().backward()\n"
    source += textwrap.dedent(PROGRAMS[name])
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=900, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.nojit
def test_without_the_compiler_python_records():
    assert recorder.install() is has_native
    assert is_native() is has_native
    assert (tg.ones(2) * 3.0).tolist() == [3.0, 3.0]


@needs_native
def test_what_is_not_as_known_is_left_alone(monkeypatch):
    for module in recorder, cpython:
        monkeypatch.setattr(module, "words_at", lambda o: [0] * 8)
    with pytest.raises(cpython.UnknownLayoutError):
        recorder._offsets()
    with pytest.raises(ValueError, match="not in list"):
        cpython.slot_wrapper(tg.Tensor, int.__mul__, 0)


@pytest.mark.parametrize("dtype", [tg.float64, tg.float32])
def test_three_operands_are_recorded_again_as_at_first(dtype):
    x, y = tg.tensor([-2.0, 0.5, 3.0], dtype=dtype, requires_grad=True), tg.ones(3, dtype=dtype)
    for low, high, weight in ((-1, 1, 0.25), (-1.5, 2.0, 1), (0.25, 1e300, 0.75)):  # the last is no float32
        for z, expected, slope in (
            (x.clamp(low, high), np.clip(x.tolist(), low, high), [low <= v <= high for v in x.tolist()]),
            (tg.lerp(x, y, weight), (1 - weight) * np.array(x.tolist()) + weight, [1 - weight] * 3),
            (tg.where(x > 0, x, high), np.where(np.array(x.tolist()) > 0, x.tolist(), high), [0, 1, 1]),
        ):
            assert z.dtype is dtype
            with np.errstate(over="ignore"):
                np.testing.assert_allclose(z.tolist(), np.asarray(expected).astype(dtype.numpy), rtol=1e-6)
            np.testing.assert_allclose(tg.autograd.grad(z.sum(), x)[0].tolist(), slope)
    with pytest.raises(OverflowError, match="int too big"):
        tg.where(x > 0, x, 10**30)
    with tg.no_grad():
        assert not x.clamp(0.0, 1.0).requires_grad


def test_rows_that_wait_for_the_same_kernels_name_them_once(monkeypatch):
    monkeypatch.setattr(engine.kernels, "is_ready", lambda *_: False)
    x = tg.eye(3, requires_grad=True)
    y = x
    for _ in range(100):
        y = y @ x
    waiting = {operation.name for operation, _, _ in engine._pending}
    assert len(engine._pending) <= 2 * len(waiting)
    assert y.tolist() == np.eye(3).tolist()
    assert not engine._pending
