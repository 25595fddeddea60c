"""What processes of the tests of `tapegrad.distributed` are sent by name, and a program of two ranks."""

import functools
import os
import signal
import sys
from pathlib import Path

import numpy as np

import tapegrad as tg

COUNT = 11


def partition(k):
    generator = np.random.default_rng(k)
    return generator.standard_normal((20 + k, 3)), generator.standard_normal(20 + k) * 10.0 ** (k % 5)


def loss(p, x, y):
    return tg.sum(tg.logaddexp(0.0, x @ p["w"] + p["b"]) * tg.exp(0.1 * tg.tanh(y))) + tg.sum(p["w"] ** 4)


def residuals(p, x, y):
    return tg.tanh(x @ p["w"] + p["b"]) - y


def loss_of_a_mortal(folder, p, x, y):
    """The loss; of one partition, in a process that ends on the first try."""
    flag = Path(folder) / "ended"
    if len(y) == 24 and not flag.exists():
        flag.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return loss(p, x, y)


def failing(p, x, y):
    if len(y) == 24:
        raise ArithmeticError("this one can't be done")
    return loss(p, x, y)


def most_growth():
    """By how much one of joblib's processes may grow."""
    from joblib.externals.loky import process_executor

    return process_executor._MAX_MEMORY_LEAK_SIZE


PARAMETERS = {"w": np.array([0.5, -1.0, 0.25]), "b": 0.1}
TANGENTS = {"w": np.array([1.0, 2.0, -1.0]), "b": 0.5}


def answers(total):
    """All that a sum gives, as bytes."""
    value, gradient = total.value_and_grad(PARAMETERS)
    _, product = total.hvp(PARAMETERS, TANGENTS)
    numbers = [total(PARAMETERS), value, gradient["w"], gradient["b"], product["w"], product["b"]]
    return b"".join(np.asarray(x).tobytes() for x in numbers)


def main():
    """A rank's part: the first prints the answers of both, and what they are told of a failure."""
    from mpi4py import MPI

    world = MPI.COMM_WORLD
    rank, bounds = world.Get_rank(), [0, 4, COUNT]
    own = [functools.partial(partition, k) for k in range(bounds[rank], bounds[rank + 1])]
    total = tg.distributed.PartitionedSum(loss, own, on=world)
    found = tg.optimize.minimize(total, PARAMETERS, options={"maxiter": 5})
    rows = tg.distributed.PartitionedSum(residuals, own, on=world).jacobian(PARAMETERS)
    try:
        tg.distributed.PartitionedSum(failing, own, on=world).value_and_grad(PARAMETERS)
    except (ArithmeticError, RuntimeError) as error:
        told = f"{type(error).__name__} {error} {getattr(error, '__notes__', '')}"
    answer = answers(total) + found.x["w"].tobytes() + rows.tobytes()
    every = world.gather((answer.hex(), told))
    if rank == 0:
        print(len(total), *(answer for answer, _ in every), sep="\n")
        print(*(told for _, told in every), sep="\n")


if __name__ == "__main__":
    sys.exit(main())
