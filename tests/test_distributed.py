"""Sums over partitions: the same bits wherever the work is done, however many do it, and whoever is lost."""

import concurrent.futures
import functools
import itertools
import math
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit
from scipy import optimize

import tapegrad as tg
from tapegrad.distributed import PartitionedSum, fronts, parts
from tests import distributed_work as work
from tests.distributed_work import COUNT, PARAMETERS, TANGENTS, answers, loss, partition, residuals

DATA = [partition(k) for k in range(COUNT)]


@pytest.fixture(scope="module")
def here():
    return answers(PartitionedSum(loss, DATA))


def whole(p):
    return sum(loss(p, x, y) for x, y in DATA)


# --- what is computed -------------------------------------------------------------------------------------------------


def test_derivatives_are_those_of_the_sum():
    total = PartitionedSum(loss, DATA)
    value, gradient = total.value_and_grad(PARAMETERS)
    expected, slope = tg.func.value_and_grad(whole)(PARAMETERS)
    assert value == total(PARAMETERS) == pytest.approx(expected, rel=1e-14)
    np.testing.assert_allclose(gradient["w"], slope["w"], rtol=1e-13)
    assert gradient["b"] == pytest.approx(slope["b"], rel=1e-13)
    assert total.grad(PARAMETERS)["b"] == gradient["b"]
    _, product = total.hvp(PARAMETERS, TANGENTS)
    _, expected = tg.func.hvp(whole, (PARAMETERS,), (TANGENTS,))
    np.testing.assert_allclose(product["w"], expected["w"], rtol=1e-13)
    assert product["b"] == pytest.approx(expected["b"], rel=1e-13)


def test_rows_stand_in_the_order_of_the_partitions():
    total = PartitionedSum(residuals, DATA)

    def at_once(p):
        return tg.cat([residuals(p, x, y) for x, y in DATA])

    np.testing.assert_array_equal(total.residuals(PARAMETERS), at_once(PARAMETERS).numpy())
    expected = tg.func.jacobian(at_once)(PARAMETERS)
    np.testing.assert_allclose(total.jacobian(PARAMETERS)[:, :3], expected["w"], rtol=1e-13)
    np.testing.assert_allclose(total.jacobian(PARAMETERS)[:, 3], expected["b"], rtol=1e-13)


def test_jitted_functions_tensors_and_float32():
    @njit
    def cost(p, x):
        return np.sum((p * x) ** 2)

    value, gradient = PartitionedSum(cost, [np.ones(2), np.full(2, 2.0)]).value_and_grad(np.array([1.0, 3.0]))
    assert value == 50.0
    np.testing.assert_array_equal(gradient, [10.0, 30.0])
    _, product = PartitionedSum(cost, [np.ones(2)]).hvp(np.array([1.0, 3.0]), np.ones(2))
    np.testing.assert_array_equal(product, [2.0, 2.0])
    total = PartitionedSum(lambda p, x: (p * x).sum(), [np.ones(2, np.float32)] * 3)
    value, gradient = total.value_and_grad(tg.tensor([1.0, 2.0], dtype=tg.float32))
    assert gradient.dtype is tg.float32
    assert gradient.tolist() == [3.0, 3.0]


def test_a_call_with_tensors_is_recorded_and_differentiated_twice():
    total, scale = PartitionedSum(lambda p, x: tg.sum(tg.sin(p["a"] * x)), [np.ones(2), np.full(2, 0.5)]), 3.0

    def own(p):
        return scale * total(p) + tg.sum(p["a"] ** 2)

    def plainly(p):
        return scale * sum(tg.sum(tg.sin(p["a"] * x)) for x in (np.ones(2), np.full(2, 0.5))) + tg.sum(p["a"] ** 2)

    p = {"a": np.array([0.3, 0.7])}
    for transform in (tg.func.grad, tg.func.hessian, tg.func.jacfwd, tg.func.jacrev):
        found, expected = transform(own)(p)["a"], transform(plainly)(p)["a"]
        if isinstance(found, dict):
            found, expected = found["a"], expected["a"]
        np.testing.assert_allclose(found, expected, rtol=1e-13)
    x = tg.tensor([0.3, 0.7], requires_grad=True, dtype=tg.float32)
    own({"a": x}).backward()
    assert x.grad.dtype is tg.float32
    np.testing.assert_allclose(x.grad.numpy(), tg.func.grad(plainly)(p)["a"], rtol=1e-5)
    (slope,) = tg.autograd.grad(own({"a": x}), [x], create_graph=True)
    (second,) = tg.autograd.grad(slope.sum(), [x], create_graph=True)
    with pytest.raises(RuntimeError, match="twice"):
        second.sum().backward()


@pytest.mark.parametrize("method", ["L-BFGS-B", "Newton-CG", "trust-exact"])
def test_minimisers_are_driven_by_sums(method):
    total = PartitionedSum(loss, DATA)
    found = tg.optimize.minimize(total, PARAMETERS, method=method)
    plain = tg.optimize.minimize(whole, PARAMETERS, method=method)
    np.testing.assert_allclose(found.x["w"], plain.x["w"], atol=1e-3)
    line = PartitionedSum(lambda p, x, y: x @ p[:3] + p[3] - y, DATA)
    fit = optimize.least_squares(line.residuals, np.zeros(4), jac=line.jacobian)
    x, y = np.concatenate([x for x, _ in DATA]), np.concatenate([y for _, y in DATA])
    expected = np.linalg.lstsq(np.column_stack([x, np.ones(len(x))]), y, rcond=None)[0]
    np.testing.assert_allclose(fit.x, expected, rtol=1e-6)


# --- the order of the sum ---------------------------------------------------------------------------------------------


@given(st.integers(1, 40).flatmap(lambda n: st.tuples(st.just(n), st.lists(st.integers(0, n), max_size=6))))
def test_parts_that_ranks_sum_apart_give_the_bits_of_the_whole(drawn):
    n, cuts = drawn
    rows = list(np.random.default_rng(n).standard_normal((n, 2)) * 10.0 ** np.arange(n)[:, None])
    bounds, known = [0, *sorted(cuts), n], {}
    for start, stop in itertools.pairwise(bounds):
        for a, b in parts.aligned(start, stop, n):
            known[a, b] = parts.paired(rows[a:b])
    assert sorted(k for a, b in known for k in range(a, b)) == list(range(n))
    assert parts.gathered(known, 0, n).tobytes() == parts.paired(rows).tobytes()
    at_once = [parts.paired(rows[i : i + 8]) for i in range(0, n, 8)]
    assert parts.paired(at_once).tobytes() == parts.paired(rows).tobytes()


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_threads_give_the_same_bits(here, workers):
    with concurrent.futures.ThreadPoolExecutor(workers) as executor:
        assert answers(PartitionedSum(loss, DATA, executor)) == here


def test_loaded_partitions_are_loaded_once_and_stay():
    calls = []

    def load(k):
        calls.append(k)
        return partition(k)

    loaders = [functools.partial(load, k) for k in range(COUNT)]
    with concurrent.futures.ThreadPoolExecutor(2) as executor:
        for on in (None, executor):
            calls.clear()
            total = PartitionedSum(loss, loaders, on)
            first = answers(total)
            assert answers(total) == first
            assert sorted(calls) == list(range(COUNT))


# --- processes --------------------------------------------------------------------------------------------------------


def spawned(n):
    import multiprocessing

    return concurrent.futures.ProcessPoolExecutor(n, multiprocessing.get_context("spawn"))


def test_processes_give_the_same_bits_and_one_that_ends_is_replaced(here, tmp_path):
    made = []

    def make():
        made.append(spawned(2))
        return made[-1]

    mortal = functools.partial(work.loss_of_a_mortal, tmp_path)
    total = PartitionedSum(mortal, [functools.partial(partition, k) for k in range(COUNT)], make)
    try:
        assert answers(total) == here
        assert (tmp_path / "ended").exists()
        assert len(made) == 2
        (tmp_path / "ended").unlink()
        with pytest.raises(concurrent.futures.BrokenExecutor, match="makes executors"):
            PartitionedSum(mortal, DATA, made[-1])(PARAMETERS)
    finally:
        for executor in made:
            executor.shutdown()


def test_joblib_gives_the_same_bits_and_starts_lost_processes_anew(here, tmp_path):
    joblib = pytest.importorskip("joblib")
    mortal = functools.partial(work.loss_of_a_mortal, tmp_path)
    with joblib.Parallel(n_jobs=2) as workers:
        assert answers(PartitionedSum(mortal, DATA, workers)) == here
        assert (tmp_path / "ended").exists()
        # What a process keeps is no leak: joblib would end it.
        assert workers(joblib.delayed(work.most_growth)() for _ in range(2)) == [math.inf] * 2


@pytest.fixture(scope="module")
def cluster():
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(n_workers=3, threads_per_worker=1, dashboard_address=":0", silence_logs=50) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def test_dask_gives_the_same_bits_and_does_lost_work_again(here, cluster, tmp_path):
    pids = set(cluster.run(os.getpid).values())
    mortal = functools.partial(work.loss_of_a_mortal, tmp_path)
    total = PartitionedSum(mortal, DATA, cluster)
    assert answers(total) == here
    assert (tmp_path / "ended").exists()
    assert set(cluster.run(os.getpid).values()) != pids  # one was killed in the middle
    rows = PartitionedSum(residuals, DATA, cluster).jacobian(PARAMETERS)
    np.testing.assert_array_equal(rows, PartitionedSum(residuals, DATA).jacobian(PARAMETERS))


def test_data_on_a_killed_worker_are_made_again(here, cluster):
    import distributed

    total = PartitionedSum(loss, [functools.partial(partition, k) for k in range(COUNT)], cluster)
    assert answers(total) == here
    distributed.wait(total.front.partitions)
    os.kill(next(iter(cluster.run(os.getpid).values())), 9)
    assert answers(total) == here


def test_daskss_collections_are_partitions(cluster):
    import dask
    import dask.array
    import dask.bag

    x, y = np.concatenate([x for x, _ in DATA]), np.concatenate([y for _, y in DATA])
    chunks = tuple(len(y) for _, y in DATA)
    arrays = dask.array.from_array(x, chunks=(chunks, 2)), dask.array.from_array(y, chunks=50)
    expected = answers(PartitionedSum(loss, DATA))
    assert answers(PartitionedSum(loss, arrays, cluster)) == expected
    assert answers(PartitionedSum(loss, [dask.delayed(partition)(k) for k in range(COUNT)], cluster)) == expected
    pieces = [tuple(cluster.scatter(list(d))) for d in DATA]
    assert answers(PartitionedSum(loss, pieces, cluster)) == expected
    bag = dask.bag.from_sequence(range(12), npartitions=4)
    assert PartitionedSum(lambda p, items: p * sum(items), bag, cluster).value_and_grad(2.0) == (132.0, 66.0)
    squares = PartitionedSum(lambda p, x: (p * x**2).sum(), dask.array.arange(10, chunks=3), cluster)
    assert squares.value_and_grad(1.0) == (285.0, 285.0)
    with pytest.raises(TypeError, match="Client"):
        PartitionedSum(loss, bag)
    with pytest.raises(ValueError, match="as many rows"):
        PartitionedSum(loss, (arrays[0], arrays[1][1:]), cluster)
    with pytest.raises(ArithmeticError, match="can't be done"):
        PartitionedSum(work.failing, DATA, cluster)(PARAMETERS)


def test_ranks_give_the_same_bits(here):
    pytest.importorskip("mpi4py")
    mpiexec = Path(sys.executable).with_name("mpiexec")
    if not mpiexec.exists():
        pytest.skip("there is no mpiexec beside Python")
    command = [mpiexec, "-n", "2", sys.executable, "-m", "tests.distributed_work"]
    count, first, second, *told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")
    assert count == str(COUNT)
    assert first == second
    found = tg.optimize.minimize(PartitionedSum(loss, DATA), PARAMETERS, options={"maxiter": 5})
    rows = PartitionedSum(residuals, DATA).jacobian(PARAMETERS)
    assert first == (here + found.x["w"].tobytes() + rows.tobytes()).hex()
    assert told[0].startswith("RuntimeError 1 other rank(s) failed")
    assert told[1].startswith("ArithmeticError this one can't be done")
    assert "in partition 4" in told[1]


# --- what is refused, and shown ---------------------------------------------------------------------------------------


def test_what_is_wrong_is_said():
    with pytest.raises(TypeError, match="not on int"):
        PartitionedSum(loss, DATA, 3)
    with pytest.raises(TypeError, match="a function is summed"):
        PartitionedSum(3, DATA)
    with pytest.raises(TypeError, match="iterable"):
        PartitionedSum(loss, 3)
    with pytest.raises(ValueError, match="no partitions"):
        PartitionedSum(loss, [])
    with pytest.raises(TypeError, match="makes an executor, not int"):
        PartitionedSum(loss, DATA, lambda: 3)
    with pytest.raises(ArithmeticError, match="can't be done") as caught:
        PartitionedSum(work.failing, DATA)(PARAMETERS)
    assert "in partition 4" in caught.value.__notes__[0]
    with pytest.raises(ValueError, match="returns a number"):
        PartitionedSum(residuals, DATA)(PARAMETERS)
    total = PartitionedSum(loss, DATA)
    with pytest.raises(ValueError, match="tangents"):
        total.hvp(PARAMETERS, {"w": np.ones(3)})
    with pytest.raises(TypeError, match="parameters must be"):
        total.value_and_grad({"w": "x"})
    lock = threading.Lock()
    with pytest.raises(TypeError, match="can't be sent"):
        fronts.Joblib(lambda p, x: lock, DATA, None, 1, False)


def test_progress_shows_a_bar(capsys):
    pytest.importorskip("tqdm")
    PartitionedSum(loss, DATA, progress=True)(PARAMETERS)
    assert "partition" in capsys.readouterr().err
