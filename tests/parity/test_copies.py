"""Functions of views that give copies, samplers of shares, and `functionalize`, beside PyTorch's."""

import io
import pickle

import pytest

import tapegrad as tg

from .oracle import agree

torch = pytest.importorskip("torch")

COPIES = [
    "alias_copy(x)", "as_strided_copy(x, (2, 2), (1, 2), 1)", "diagonal_copy(x, 1)", "expand_copy(x, (2, 2, 3))",
    "narrow_copy(x, 1, 1, 2)", "permute_copy(x, (1, 0))", "select_copy(x, 1, -1)", "slice_copy(x, 1, 0, 3, 2)",
    "split_copy(x, 2, 1)", "split_with_sizes_copy(x, (1, 2), 1)", "squeeze_copy(x[:1])", "squeeze_copy(x[:1], 0)",
    "t_copy(x)", "transpose_copy(x, 0, 1)", "unbind_copy(x, 1)", "unfold_copy(x, 1, 2, 1)", "unsqueeze_copy(x, 0)",
    "view_copy(x, (3, 2))",
]  # fmt: skip


@pytest.mark.parametrize("call", COPIES)
def test_copies(call):
    agree(
        "w = tg.arange(6.0).reshape(2, 3).requires_grad_(); x = w * 2\n"
        f"made = tg.{call}; many = made if isinstance(made, tuple) else (made,)\n"
        "_ = [y.add_(1.0) for y in many]; shared = [y._base is None for y in many]\n"
        "sum([(y * y).sum() for y in many]).backward()",
        text=False,
    )


def test_out_takes_the_result():
    agree("x = tg.arange(6.0).reshape(2, 3); y = tg.empty(3, 2); z = tg.t_copy(x, out=y); same = z is y")
    agree("x = tg.arange(6.0).reshape(2, 3); z = x.narrow_copy(0, 1, 1); z += 1")


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize(("n", "replicas"), [(10, 3), (9, 3), (2, 5), (7, 2)])
def test_shares(n, replicas, drop_last):
    def shares(of):
        samplers = [
            of.utils.data.DistributedSampler(range(n), replicas, r, shuffle=False, drop_last=drop_last)
            for r in range(replicas)
        ]
        return [(len(s), s.num_samples, s.total_size, list(s)) for s in samplers]

    if not (drop_last and n < replicas):  # where PyTorch's lengths are negative
        assert shares(tg) == shares(torch)
    mixed = [list(tg.utils.data.DistributedSampler(range(9), 3, r, seed=1)) for r in range(3)]
    assert sorted(i for share in mixed for i in share) == list(range(9))
    sampler = tg.utils.data.DistributedSampler(range(9), 1, 0)
    before = list(sampler)
    assert before == list(sampler)
    sampler.set_epoch(1)
    assert before != list(sampler)


def test_refusals():
    for of in (tg, torch):
        with pytest.raises(ValueError, match=r"Invalid rank 2, rank should be in the interval \[0, 1\]"):
            of.utils.data.DistributedSampler(range(3), 2, 2)
        with pytest.raises(RuntimeError, match="received invalid argument for remove=x"):
            of.func.functionalize(lambda x: x, remove="x")(of.ones(1))
    with pytest.raises(ValueError, match="Default process group has not been initialized"):
        tg.utils.data.DistributedSampler(range(3))


def test_functionalize():
    agree(
        "def f(x):\n    y = x.clone()\n    y[0] += 2.0\n    x.mul_(3.0)\n    return y.sum()\n"
        "x = tg.ones(3); value = tg.func.functionalize(f)(x)\n"
        "slope = tg.func.grad(tg.func.functionalize(lambda x: x.clone().mul_(2.0).square().sum()))(x)",
        text=False,
    )


def test_what_was_computed_is_a_leaf_when_it_is_read_again():
    told = []
    for package in torch, tg:
        x = package.tensor([1.0, 2.0, 3.0], requires_grad=True)
        given = [x * 2, x[:1], x, x.view(3, 1), x.detach()]
        file = io.BytesIO()
        package.save(given, file)
        file.seek(0)
        again = package.load(file), pickle.loads(pickle.dumps(given))
        told += [[(t.tolist(), t.requires_grad, t.is_leaf) for t in read] for read in again]
    assert told[0] == told[1] == told[2] == told[3]
