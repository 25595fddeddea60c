"""Compiled functions elsewhere: in files, of which none does anything but replay the same bits; and in jitted code."""

import contextlib
import io
import json
import subprocess
import sys
import threading
import warnings
import zipfile

import numba
import numpy as np
import pytest
import scipy.integrate
import scipy.ndimage
from compiled_functions import bits, needs_programs
from test_compile import inputs, program

import tapegrad as tg
from tapegrad import trees
from tapegrad.replay import loaded, saved

F = tg.func
pytestmark = needs_programs


def written(compiled):
    file = io.BytesIO()
    compiled.save(file)
    return file.getvalue()


def read(content):
    return tg.load(io.BytesIO(content))


def rosenbrock(x):
    return tg.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


WEIGHTS = tg.tensor(np.random.default_rng(1).normal(size=(4, 4)))
ARRAY = np.arange(4.0)
GENERATOR = tg.Generator()


def normal(*shape, dtype=np.float64):
    return tg.tensor(np.random.default_rng(0).normal(size=shape).astype(dtype))


def of_matrix(a):
    return tg.linalg.cholesky(a @ a.T + 5.0 * tg.eye(4)).sum() + tg.linalg.solve(a + 9.0 * tg.eye(4), a).sum()


CASES = {
    "value and gradient": (F.value_and_grad(rosenbrock), (np.array([0.5, 2.0, 1.0]),)),
    "single precision": (F.value_and_grad(rosenbrock), (np.array([0.5, 2.0, 1.0], np.float32),)),
    "Hessian": (F.hessian(rosenbrock), (np.array([0.5, 2.0, 1.0]),)),
    "containers": (lambda d: {"a": d["x"].exp(), "b": [d["y"] * 2, (3, "s", None)]}, ({"x": tg.ones(2), "y": 1.5},)),
    "captured": (F.grad(lambda x: ((x @ WEIGHTS).sin()[::2] * tg.tensor(ARRAY)).sum()), (normal(5, 4),)),
    "broadcast": (F.grad(lambda x, y: (x * y).tanh().sum(0).sin().sum(), (0, 1)), (normal(900, 30), normal(30))),
    "broadcast, single": (
        F.grad(lambda x, y: (x * y).tanh().sum(0).sin().sum(), (0, 1)),
        (normal(900, 30, dtype=np.float32), normal(30, dtype=np.float32)),
    ),
    "along rows": (F.grad(lambda x: (x.softmax(1) * x.cumsum(0)).sum()), (normal(30, 40),)),
    "arrays of NumPy's": (lambda x, t: tg.tensor(x[1:].T * 2.0 - t).exp(), (ARRAY, 1.5)),
    "numbers": (F.value_and_grad(lambda a, b: a * tg.sin(b) if a > 0.5 else a - b, (0, 1)), (0.75, 2.0)),
    "matrices": (F.grad(of_matrix), (normal(4, 4),)),
    "indices": (F.grad(lambda x: (x[[0, 2, 2]] ** 2).sum() + x.sort(0)[0].var()), (normal(3, 4),)),
    "a window": (
        F.grad(lambda x: tg.nn.functional.conv2d(x, tg.ones(2, 3, 3, 3), padding=1).square().sum()),
        (normal(1, 3, 5, 5),),
    ),
    "no elements": (F.grad(lambda x: (x * x).sum()), (np.zeros((0, 3)),)),
    "static": (lambda x, how, d: (x * (2.0 if how == "twice" else 1.0)).to(d), (tg.ones(2), "twice", tg.float32)),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_loaded_replays_the_same_bits(name):
    function, args = CASES[name]
    compiled = tg.compile(function)
    expected = bits(compiled(*args))
    again = read(written(compiled))
    for _ in range(3):  # in Python, then in native code
        assert bits(again(*args)) == expected
    assert bits(read(written(again))(*args)) == expected
    stats = again.stats()
    assert (stats["recordings"], stats["replays"]) == (0, 3)


@pytest.mark.parametrize("seed", range(6))
def test_random_programs_with_branches_are_loaded(seed):
    random = np.random.default_rng(seed)
    compiled, known = tg.compile(program(seed, 6)), []
    for _ in range(4):
        x, y, *numbers = inputs(random, (3,), np.float64)
        args = tg.tensor(x), tg.tensor(y), *numbers
        with warnings.catch_warnings(), contextlib.suppress(ArithmeticError, ValueError):
            warnings.simplefilter("ignore")
            known.append((args, bits(compiled(*args))))
            compiled(*args)  # an int that is another than before is an input now
    replayed = []
    for args, outcome in known:
        before = compiled.stats()["replays"]
        compiled(*args)
        if compiled.stats()["replays"] > before:
            replayed.append((args, outcome))
    assert replayed
    again = read(written(compiled))
    for args, outcome in replayed:
        assert bits(again(*args)) == outcome


def test_guards_choose_among_the_programs_that_were_saved():
    @tg.compile
    @F.value_and_grad
    def f(x):
        return (x**2).sum() if x[0] > 0 else x.exp().sum()

    f(np.ones(2))
    with pytest.raises(RuntimeError, match="Python code would see other values"):
        read(written(f))(-np.ones(2))
    f(-np.ones(2))
    again = read(written(f))
    for x in np.ones(2), -np.ones(2), np.array([0.5, 3.0]), np.array([-2.0, 1.0]):
        assert bits(again(x)) == bits(f(x))


def test_other_arguments_have_no_program():
    f = tg.compile(lambda x: tg.sum(tg.exp(x)))
    f(np.ones((2, 3)))
    again = read(written(f))
    for other in np.ones(3), np.ones((2, 3), np.float32), tg.ones(2, 3), 1.0:
        with pytest.raises(RuntimeError, match="the Python function is not there"):
            again(other)
    with pytest.raises(RuntimeError, match="the Python function is not there"):
        F.grad(again)(tg.ones(2, 3))
    rows = np.random.default_rng(0).normal(size=(40, 2, 3))
    assert bits(again.map(rows)) == bits(f.map(rows))
    x = np.arange(6.0).reshape(3, 2).T  # in another order
    assert bits(again(x)) == bits(f(x.copy()))


def test_what_was_loaded_draws_anew():
    f = tg.compile(lambda x: tg.nn.functional.dropout(x) + tg.randn(4))
    f(tg.ones(4))
    again = read(written(f))
    tg.manual_seed(7)
    expected = [bits(f(tg.ones(4))) for _ in range(3)]
    tg.manual_seed(7)
    assert [bits(again(tg.ones(4))) for _ in range(3)] == expected
    assert expected[0] != expected[1]


def test_a_model_is_called_in_both_modes():
    model = tg.nn.Sequential(tg.nn.Linear(3, 4), tg.nn.Tanh(), tg.nn.Linear(4, 2))
    f, x = tg.compile(lambda x: model(x)), normal(5, 3)
    with tg.no_grad():
        expected = bits(f(x))
    again = read(written(f))
    assert bits(again(x)) == expected
    with tg.no_grad():
        assert bits(again(normal(3, 5).T)) == bits(f(normal(3, 5).T.contiguous()))  # in another order
    with pytest.raises(RuntimeError, match="the Python function is not there"):
        again(x.clone().requires_grad_())


def test_elements_of_captured_tensors_are_those_of_the_moment():
    w = tg.tensor([1.0, 2.0])
    f = tg.compile(lambda x: x * w)
    f(tg.ones(2))
    w.mul_(3.0)
    again = read(written(f))
    w.mul_(0.0)
    assert again(tg.ones(2)).tolist() == [3.0, 6.0]


@pytest.mark.parametrize(
    ("function", "args", "why"),
    [
        (lambda x: x.add_(1.0), (tg.ones(2),), "changes tensors"),
        (lambda x: x + tg.randn(2, generator=GENERATOR), (tg.ones(2),), "draws random numbers"),
        (lambda x, o: x * 2.0, (tg.ones(2), test_other_arguments_have_no_program), "known by its identity"),
    ],
)
def test_what_a_file_can_not_have_is_refused(function, args, why):
    compiled = tg.compile(function)
    with pytest.raises(ValueError, match="no program yet"):
        written(compiled)
    compiled(*args)
    with pytest.raises(ValueError, match=why):
        written(compiled)


def test_files_are_read_by_other_processes(tmp_path):
    f = tg.compile(F.grad(lambda x: (tg.linalg.inv(x) @ x.softmax(0)).sum()))
    x = np.eye(3) + 0.1
    expected = f(x)
    f.save(tmp_path / "slope.npz")
    program = (
        "import numpy as np, tapegrad as tg\n"
        f"f = tg.load({str(tmp_path / 'slope.npz')!r})\n"
        "print(f(np.eye(3) + 0.1).tobytes().hex())\n"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert found.stdout.strip() == expected.tobytes().hex()
    with np.load(tmp_path / "slope.npz", allow_pickle=False) as archive:
        assert "program.json" in archive.files


# --- files that are damaged, and such as nobody has saved -------------------------------------------------------------


def members(content):
    return loaded.members_of(zipfile.ZipFile(io.BytesIO(content)))


def array_of(content):
    return np.lib.format.read_array(io.BytesIO(content))


def of_array(array):
    file = io.BytesIO()
    np.lib.format.write_array(file, array, allow_pickle=False)
    return file.getvalue()


def test_damaged_files_are_refused():
    f = tg.compile(F.value_and_grad(rosenbrock))
    x = np.array([0.5, 2.0, 1.0])
    expected, content, random = bits(f(x)), written(f), np.random.default_rng(0)
    for _ in range(400):
        damaged = bytearray(content)
        if random.random() < 0.2:
            damaged = damaged[: random.integers(len(damaged))]
        else:
            for _ in range(random.integers(1, 4)):
                damaged[random.integers(len(damaged))] ^= 1 << random.integers(8)
        try:
            again = read(bytes(damaged))
        except ValueError as error:
            assert "load()" in str(error)  # noqa: PT017
        else:  # the date of a member
            assert bits(again(x)) == expected


def test_a_checksum_is_looked_at():
    f = tg.compile(rosenbrock)
    f(np.ones(3))
    whole = members(written(f))
    for change in whole:
        changed = {**whole, change: whole[change][:-1] + bytes([whole[change][-1] ^ 1])}
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            for name, content in {**changed, "checksum": saved.checksum(whole).encode()}.items():
                archive.writestr(name, content)
        with pytest.raises(ValueError, match="checksum"):
            read(file.getvalue())


def test_other_versions_are_refused():
    f = tg.compile(rosenbrock)
    f(np.ones(3))
    whole = members(written(f))
    for name in "format", "package":
        facts = json.loads(whole["program.json"])
        facts[name] = "another"
        with pytest.raises(ValueError, match="version of tapegrad"):
            read(saved.written({**whole, "program.json": json.dumps(facts).encode()}))


def columns_of(args, n=12):
    """Arguments for `map`: the same in all rows."""

    def column(x):
        return tg.stack([x] * n) if isinstance(x, tg.Tensor) else np.stack([np.asarray(x)] * n)

    leaves, structure = trees.flatten(tuple(args))
    return trees.unflatten(structure, [column(x) for x in leaves])


VALUES = (0, 1, -1, 2, 7, 8, 63, 64, 4096, 1 << 20, 1 << 31, 1 << 40, 1 << 62, -8, -(1 << 40))


def places_in(tree, place=()):
    """Where something stands in a tree of JSON's."""
    for key, item in tree.items() if isinstance(tree, dict) else enumerate(tree):
        yield (*place, key)
        if isinstance(item, (dict, list)):
            yield from places_in(item, (*place, key))


@pytest.mark.parametrize("name", ["value and gradient", "broadcast", "containers", "numbers"])
def test_programs_that_nobody_has_saved_stay_within_their_memory(name):
    """Words of programs are changed, and the checksum is made right: then what is checked is all that there is."""
    function, args = CASES[name]
    compiled = tg.compile(function)
    compiled(*args)
    whole, random, rows = members(written(compiled)), np.random.default_rng(0), columns_of(args)
    outcomes = {"refused": 0, "ran": 0}
    for _ in range(120):
        facts, changed = json.loads(whole["program.json"]), dict(whole)
        of = facts["families"][0]["programs"][0]
        kind = random.integers(4)
        if kind < 2:  # a word of the text, an address, its base
            member = f"{of[('text', random.choice(['text', 'places', 'bases']))[kind]]}.npy"
            array = array_of(whole[member]).copy()
            i = random.integers(len(array))
            array[i] = random.choice(VALUES) if random.random() < 0.5 else array[i] + random.integers(-9, 10)
            changed[member] = of_array(array if random.random() < 0.9 else array[:i])
        else:
            places = [place for place in places_in(facts) if place[0] != "package"]
            *path, last = places[random.integers(len(places))]
            at = facts
            for key in path:
                at = at[key]
            if kind == 2:
                del at[last]
            else:
                new = [None, [], {}, "x", "float32", 1.5, *map(int, random.choice(VALUES, 4))]
                at[last] = new[random.integers(len(new))]
        changed["program.json"] = json.dumps(facts).encode()
        try:
            again = read(saved.written(changed))
        except ValueError as error:
            assert "load()" in str(error)  # noqa: PT017
            outcomes["refused"] += 1
            continue
        with contextlib.suppress(RuntimeError, TypeError, ValueError):  # it is for others, or computes otherwise
            again(*args)
        with contextlib.suppress(RuntimeError, TypeError, ValueError):
            again.map(*rows)
        outcomes["ran"] += 1
    assert outcomes["refused"] > outcomes["ran"]


# --- in jitted code ---------------------------------------------------------------------------------------------------


def branching(x):
    return (x**2).sum() if x[0] > 0 else (x * WEIGHTS[0, : x.shape[0]]).exp().sum()


def test_jitted_code_replays_the_same_bits_on_any_thread():
    f = tg.compile(F.value_and_grad(branching))
    f(-np.ones(2))
    call = f.jitted(np.ones(2))

    @numba.njit(nogil=True)
    def all_of(points, slopes, values):
        for i in range(len(points)):
            values[i] = call(points[i], slopes[i])

    points = np.random.default_rng(0).normal(size=(200, 2))
    expected = [f(x) for x in points]

    def check(found):
        slopes, values = np.empty_like(points), np.empty(len(points))
        all_of(points, slopes, values)
        found.append((values.tolist(), slopes.tobytes()))

    outcomes = []
    threads = [threading.Thread(target=check, args=(outcomes,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wanted = [float(value) for value, _ in expected], np.array([slope for _, slope in expected]).tobytes()
    assert outcomes == [wanted] * 4


def test_jitted_code_gives_numbers_and_arrays():
    def function(a, x, y, how):
        return a * 2.0, (x * a).sum(), {"all": [x * y, x.float()]}, 3.0

    x, y = np.arange(6.0).reshape(2, 3), np.ones(3, np.float32)
    f = tg.compile(function)
    call = f.jitted(0.5, tg.tensor(x), tg.tensor(y), "static")
    first, second = np.empty((2, 3)), np.empty((2, 3), np.float32)
    twice, total, three = call(1.5, x[:, ::-1], y, first, second)  # argument 1 in another order
    expected = function(1.5, tg.tensor(x[:, ::-1].copy()), tg.tensor(y), "static")
    assert (twice, total, three) == (3.0, expected[1].item(), 3.0)
    assert first.tobytes() == expected[2]["all"][0].numpy().tobytes()
    assert second.tobytes() == expected[2]["all"][1].numpy().tobytes()
    with pytest.raises(ValueError, match=r"the array for result 2 must have the shape \(2, 3\)"):
        call(1.5, x, y, first[:1], second)
    with pytest.raises(ValueError, match=r"argument 1 must have the shape \(2, 3\)"):
        call(1.5, x[:1], y, first, second)
    with pytest.raises(numba.TypingError, match="argument 2 must be an array of float32, 1d"):
        call(1.5, x, x, first, second)


def test_a_guard_that_no_program_is_for_is_an_error_in_jitted_code():
    f = tg.compile(lambda a: a.exp() if a > 0.5 else a * 2.0)
    call, e = f.jitted(tg.tensor(1.0)), tg.exp(tg.tensor(1.0)).item()
    assert call(1.0) == e
    with pytest.raises(RuntimeError, match="no program was recorded for these arguments"):
        call(0.0)
    call = f.jitted(tg.tensor(0.0))
    assert (call(1.0), call(0.0), call(0.25)) == (e, 0.0, 0.5)


def test_numbers_that_python_has_compared_choose_programs_in_jitted_code():
    def function(a, b):
        c = tg.exp(a - b) if a / b > 0.5 else b
        return c * (1.0 if float(b) == 2.0 else 2.0)

    f = tg.compile(function)
    for a, b in (3.0, 2.0), (0.0, 2.0), (3.0, 1.0):
        f(a, b)
    call = f.jitted(0.0, 1.0)
    for a, b in (3.0, 2.0), (0.5, 2.0), (2.5, 1.0), (0.25, 1.0), (1.5, 2.0):
        assert call(a, b) == float(function(a, b))
    with pytest.raises(RuntimeError, match="no program"):
        call(1.0, 0.0)


def test_elements_of_captured_tensors_are_kept_for_jitted_code():
    w = tg.tensor([1.0, 2.0])
    call = tg.compile(lambda x: x * w).jitted(tg.ones(2))
    w.mul_(0.0)
    out = np.empty(2)
    call(np.array([3.0, 4.0]), out)
    assert out.tolist() == [3.0, 8.0]


def test_functions_of_c_are_integrated_and_applied_to_images():
    one = tg.compile(F.grad(lambda x: tg.exp(-x * x)))
    value, _ = scipy.integrate.quad(scipy.LowLevelCallable(one.cfunc(0.5).ctypes), 0.0, 1.0)
    assert abs(value - (np.exp(-1.0) - 1.0)) < 1e-12

    two = tg.compile(lambda a, b: a * tg.exp(-b) if a > 0.5 else a * b)
    two(0.75, 1.0)
    value, _ = scipy.integrate.nquad(scipy.LowLevelCallable(two.cfunc(0.25, 1.0).ctypes), [(0, 1), (0, 1)])
    assert abs(value - (0.375 * (1.0 - np.exp(-1.0)) + 0.0625)) < 1e-8

    of_window = tg.compile(lambda x: (x - x.mean()).square().sum().sqrt())
    image = np.random.default_rng(0).normal(size=(8, 9))
    function = scipy.LowLevelCallable(of_window.cfunc(tg.ones(9)).ctypes)
    found = scipy.ndimage.generic_filter(image, function, size=3)
    expected = scipy.ndimage.generic_filter(image, lambda x: of_window(tg.tensor(x)).item(), size=3)
    assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    ("function", "args", "why"),
    [
        (lambda x: x.add_(1.0), (tg.ones(2),), "it changes tensors"),
        (lambda x: tg.exp(np.sin(x)), (np.ones(2),), "NumPy's functions"),
        (lambda x: "text", (tg.ones(2),), "returns what it does not compute"),
    ],
)
def test_what_jitted_code_can_not_replay_is_refused(function, args, why):
    with pytest.raises(ValueError, match=why):
        tg.compile(function).jitted(*args)


def test_functions_of_c_have_three_forms():
    with pytest.raises(ValueError, match="of floats, or of one array of float64, that returns one number"):
        tg.compile(lambda x: x * 2.0).cfunc(tg.ones(2))


def test_what_was_loaded_is_jitted():
    f = tg.compile(F.value_and_grad(branching))
    f(np.ones(2))
    call, slope = read(written(f)).jitted(np.ones(2)), np.empty(2)
    assert call(np.array([1.0, 3.0]), slope) == 10.0
    assert slope.tolist() == [2.0, 6.0]
