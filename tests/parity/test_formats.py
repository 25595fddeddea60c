"""Memory formats, layouts, and `out=` of what makes new tensors: strides, shapes, dtypes and errors are PyTorch's."""

import pytest

import tapegrad as tg

torch = pytest.importorskip("torch")

CALLS = [
    "L.ones(2, 3, 4, 5).contiguous(memory_format=L.channels_last)",
    "L.ones(2, 3, 4, 5).contiguous(memory_format=L.contiguous_format)",
    "L.ones(2, 3, 4, 5).to(memory_format=L.channels_last)",
    "L.ones(2, 3, 4, 5).to('cpu', non_blocking=True)",
    "L.ones(2, 3, 4, 5).to(L.float32, True, True, memory_format=L.channels_last)",
    "L.ones(2, 3, 4, 5).float(memory_format=L.channels_last)",
    "L.ones(2, 3, 4, 5).clone(memory_format=L.channels_last)",
    "L.clone(L.ones(2, 3, 2, 4, 5), memory_format=L.channels_last_3d)",
    "L.zeros_like(L.ones(2, 3, 4, 5), memory_format=L.channels_last)",
    "L.full_like(L.ones(2, 3, 4, 5), 3, memory_format=L.channels_last, requires_grad=True)",
    "L.ones_like(L.ones(2, 3), memory_format=L.preserve_format, layout=L.strided)",
    "L.zeros(2, 3, layout=L.strided, pin_memory=False)",
    "L.arange(4, layout=L.strided)",
    "L.arange(4, out=L.empty(0))",
    "L.arange(4.0, out=L.empty(4, dtype=L.int64))",
    "L.linspace(0, 1, 3, out=L.empty(3, dtype=L.float32))",
    "L.eye(2, out=L.empty(0, dtype=L.int32))",
    "L.zeros(2, 2, out=L.ones(2, 2))",
    "L.full((2,), 3, out=L.empty(2))",
    "L.ones(2, 3).as_strided_((3,), (1,))",
    "L.resize_as_(L.arange(4), L.zeros(2, 2))",
    "L.narrow(L.arange(5), 0, L.tensor(2), 2)",
]
REFUSED = [
    "L.ones(3).contiguous(memory_format=L.channels_last)",
    "L.ones(2, 3).clone(memory_format=L.channels_last)",
    "L.ones(2, 3, 4, 5).contiguous(memory_format=3)",
    "L.zeros_like(L.ones(2, 3), memory_format='channels_last')",
    "L.ones(2, memory_format=L.channels_last)",
    "L.zeros(2, layout=3)",
    "L.zeros(2, pin_memory=True)",
    "L.zeros_like(L.ones(2), pin_memory=True)",
    "L.ones(2, 3).to(L.channels_last)",
    "L.arange(4, out=3)",
    "L.arange(4, out=[1])",
    "L.narrow(L.arange(5), 0, L.tensor([2]), 2)",
    "L.amax(L.ones((1,) * 65), 0)",
]


@pytest.fixture(autouse=True)
def _float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("call", CALLS)
def test_as_pytorch(call):
    theirs, ours = (eval(call, {"L": library}) for library in (torch, tg))
    assert (tuple(ours.shape), ours.stride()) == (tuple(theirs.shape), theirs.stride())
    assert str(ours.dtype).rpartition(".")[2] == str(theirs.dtype).rpartition(".")[2]
    assert ours.tolist() == theirs.tolist()
    assert ours.requires_grad == theirs.requires_grad
    for name in ("contiguous_format", "channels_last", "channels_last_3d"):
        ends = (t.is_contiguous(memory_format=getattr(library, name)) for library, t in ((torch, theirs), (tg, ours)))
        assert len({*ends}) == 1


@pytest.mark.parametrize("call", REFUSED)
def test_refused(call):
    with pytest.raises(Exception) as theirs:  # noqa: PT011
        eval(call, {"L": torch})
    with pytest.raises(theirs.type):
        eval(call, {"L": tg})


def test_gradients_go_through_other_orders():
    x = tg.arange(24.0).reshape(1, 2, 3, 4).requires_grad_()
    y = x.to(memory_format=tg.channels_last)
    assert y is not x
    assert y.contiguous(memory_format=tg.channels_last) is y
    (y * y).sum().backward()
    assert x.grad.tolist() == (2 * x.detach()).tolist()


def test_modules_take_them():
    conv = tg.nn.Conv2d(2, 3, 3)
    weight = conv.weight.tolist()
    assert conv.to(memory_format=tg.channels_last) is conv
    assert conv.weight.tolist() == weight
    assert conv.to("cpu", non_blocking=True) is conv
    assert (tg.ones(2).layout, tg.ones(2).is_sparse, repr(tg.channels_last)) == (
        tg.strided, False, "tapegrad.channels_last"
    )  # fmt: skip
