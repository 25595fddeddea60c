"""`out=`: results are written into tensors that there are."""

import warnings

import numpy as np
import pytest

import tapegrad as tg


@pytest.mark.parametrize(
    ("call", "shape"),
    [
        (lambda x, out: tg.exp(x, out=out), (3, 2)),
        (lambda x, out: tg.add(x, 2, alpha=3, out=out), (3, 2)),
        (lambda x, out: tg.pow(x, 2, out=out), (3, 2)),
        (lambda x, out: tg.clamp(x, -0.5, 0.5, out=out), (3, 2)),
        (lambda x, out: tg.sum(x, 0, out=out), (2,)),
        (lambda x, out: tg.cumsum(x, 0, out=out), (3, 2)),
        (lambda x, out: tg.matmul(x.T, x, out=out), (2, 2)),
        (lambda x, out: tg.stack([x, x], out=out), (2, 3, 2)),
        (lambda x, out: tg.where(x > 0, x, -x, out=out), (3, 2)),
        (lambda x, out: tg.tril(x, out=out), (3, 2)),
    ],
)
def test_the_result_is_in_the_tensor_and_in_all_that_share_its_elements(call, shape):
    x = tg.tensor(np.random.default_rng(1).normal(size=(3, 2)))
    expected = call(x, None)
    whole = tg.zeros((2, *shape))
    out = whole[1]
    assert call(x, out) is out
    assert out.tolist() == expected.tolist() == whole[1].tolist()
    assert not whole[0].any()
    assert not out.requires_grad


def test_several_results():
    x = tg.tensor([[1.0, 3.0], [2.0, 0.0]])
    values, indices = tg.zeros(2), tg.zeros(2, dtype=tg.int64)
    result = tg.max(x, 1, out=(values, indices))
    assert result.values is values
    assert result.indices is indices
    assert (values.tolist(), indices.tolist()) == ([3.0, 2.0], [1, 0])


def test_an_operand_may_be_the_output():
    x = tg.tensor([1.0, 2.0])
    assert tg.mul(x, x, out=x) is x
    assert tg.clone(x, out=x).tolist() == [1.0, 4.0]


def test_arrays_that_share_memory_see_it():
    array = np.zeros(3)
    tg.exp(tg.ones(3), out=tg.from_numpy(array))
    np.testing.assert_allclose(array, np.exp(1), rtol=1e-15)


def test_dtypes():
    single = tg.zeros(2, dtype=tg.float32)
    assert tg.exp(tg.zeros(2), out=single).dtype is tg.float32
    assert single.tolist() == [1.0, 1.0]
    with pytest.raises(RuntimeError, match="result type Double can't be cast to the desired output type Long"):
        tg.exp(tg.zeros(2), out=tg.zeros(2, dtype=tg.int64))
    with pytest.raises(RuntimeError, match="Expected out tensor to have dtype double, but got float instead"):
        tg.matmul(tg.ones(2), tg.ones(2), out=tg.zeros((), dtype=tg.float32))


def test_a_result_of_another_shape():
    out = tg.empty(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert tg.exp(tg.zeros(3), out=out) is out
    assert out.tolist() == [1.0] * 3
    with pytest.warns(UserWarning, match="An output with one or more elements was resized"):
        tg.exp(tg.zeros(2), out=out)
    assert out.tolist() == [1.0] * 2
    whole = tg.zeros(4)
    with pytest.warns(UserWarning, match="resized"), pytest.raises(RuntimeError, match="not resizable"):
        tg.exp(tg.zeros(2), out=whole[:3])
    assert whole.tolist() == [0.0] * 4


def test_no_derivative_is_lost():
    x = tg.ones(2, requires_grad=True)
    out = tg.zeros(2)
    for call in (lambda: tg.exp(x, out=out), lambda: tg.stack([x, x], out=out), lambda: tg.sum(x, 0, out=out)):
        with pytest.raises(RuntimeError, match="don't support automatic differentiation"):
            call()
    with pytest.raises(RuntimeError, match="don't support automatic differentiation"):
        tg.exp(out, out=x)
    assert out.tolist() == [0.0, 0.0]
    with tg.no_grad():
        tg.exp(x, out=out)
    assert out.tolist() == x.exp().tolist()


def test_what_is_refused_changes_nothing():
    x, out = tg.ones(3), tg.zeros(3)
    with pytest.raises(TypeError, match=r"exp\(\): argument 'out' must be Tensor, not int"):
        tg.exp(x, out=3)
    with pytest.raises(TypeError, match=r"max\(\): argument 'out' must be tuple of 2 Tensors"):
        tg.max(x, 0, out=out)
    with pytest.raises(RuntimeError, match="more than one element of the written-to tensor"):
        tg.exp(x, out=tg.ones(1).expand(3))
    with pytest.raises(RuntimeError, match="size"):
        tg.matmul(x, tg.ones(2), out=out)
    assert out.tolist() == [0.0] * 3


@pytest.mark.parametrize(
    "call",
    [
        lambda x, at: tg.take(x, at, out=x[:2]),
        lambda x, at: tg.gather(x, 0, at, out=x[1:3]),
        lambda x, at: tg.gather(at, 0, at, out=at),
        lambda x, at: tg.cat((x, x), out=x),
        lambda x, at: tg.index_select(x, 0, at, out=x[:2]),
        lambda x, at: tg.masked_select(x, x > 1, out=x),
    ],
)
def test_what_reads_anywhere_is_not_written_where_it_reads(call):
    x, at = tg.arange(4.0), tg.tensor([3, 0])
    with pytest.raises(RuntimeError, match="refer to a single memory location"):
        call(x, at)
    assert x.tolist() == [0.0, 1.0, 2.0, 3.0]
    apart = tg.arange(4.0)
    assert tg.take(apart[:2], tg.tensor([1, 0]), out=apart[2:]).tolist() == [1.0, 0.0]
