"""Ctrl-C in a long sweep: it ends between two blocks, and nothing has changed."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

import tapegrad as tg
from tapegrad import interrupts
from tapegrad.kernels import native

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="signals are sent as POSIX does"),
    pytest.mark.roomy,  # else much is done before the sweep that is interrupted
]


@pytest.fixture(autouse=True)
def listening():
    """Ctrl-C raises, also where the tests were started in the background, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupted(function):
    """Run a function and send SIGINT while it runs; after how many more seconds of processor time it ended."""
    sent = []

    def send():
        sent.append(time.process_time())
        os.kill(os.getpid(), signal.SIGINT)

    def watched():
        timer.start()
        function()

    timer = threading.Timer(0.3, send)
    try:
        with pytest.raises(KeyboardInterrupt):
            watched()
        return time.process_time() - sent[0]
    finally:
        timer.cancel()
        timer.join()


def long_chain(x):
    for _ in range(400):
        x = (x * 1.000001).tanh()
    return x


def test_ctrl_c_waits_for_what_can_not_meet_it():
    def work():
        with interrupts.later():
            with interrupts.later():
                signal.raise_signal(signal.SIGINT)
                done.append("inner")
            done.append("outer")

    done = []
    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["inner", "outer"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_while_llvm_compiles():
    def compiled():
        signal.raise_signal(signal.SIGINT)
        done.append("compiled")
        raise NotImplementedError

    done = []
    with pytest.raises(KeyboardInterrupt) as caught:
        native._obtain("a kernel that is not there", "f", compiled)
    assert isinstance(caught.value.__context__, NotImplementedError)
    assert done == ["compiled"]


@pytest.fixture
def wide():
    return tg.full((4_000_000,), 0.5, requires_grad=True)


def test_a_forward_sweep_stops_between_blocks(wide):
    y = long_chain(wide)
    assert interrupted(y.tolist) < 5.0  # to the end it would be a minute
    assert (wide[:3] * 2).tolist() == [1.0, 1.0, 1.0]


def test_a_reverse_sweep_stops_and_leaves_gradients_alone(wide):
    (wide * 3).sum().backward()
    before = wide.grad[:2].tolist()
    loss = long_chain(wide).sum()
    assert interrupted(loss.backward) < 5.0
    assert wide.grad[:2].tolist() == before
    small = tg.tensor([1.0, 2.0], requires_grad=True)
    (small * small).sum().backward()
    assert small.grad.tolist() == [2.0, 4.0]


def chain(n):
    """An input of n numbers, and the sum of what 200 operations make of them."""
    x = tg.full((n,), 0.5, requires_grad=True)
    y = x
    for _ in range(100):
        y = (y * 1.01).tanh()
    return x, y.sum()


def test_what_is_interrupted_at_any_time_is_done_or_can_be_done_again():
    one, loss = chain(1)
    loss.backward()
    _, loss = chain(200_000)
    started = time.perf_counter()
    loss.backward()
    whole = time.perf_counter() - started
    for i in range(25):
        x, loss = chain(200_000)
        timer = threading.Timer(whole * i / 20, os.kill, (os.getpid(), signal.SIGINT))
        try:
            timer.start()
            loss.backward()
            timer.join()
        except KeyboardInterrupt:
            timer.join()
        if x.grad is None:
            loss.backward()
        assert x.grad[0].item() == x.grad[-1].item() == one.grad.item()


def test_a_child_process_ends_by_the_signal():
    program = (
        "import signal\n"
        "import tapegrad as tg\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "x = tg.full((4_000_000,), 0.5)\n"
        "for _ in range(400): x = x.tanh()\n"
        "print('sweeping', flush=True)\n"
        "x.tolist()\n"
    )
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "sweeping\n"
    time.sleep(0.5)
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=900)
    assert child.returncode != 0
    assert "KeyboardInterrupt" in errors
