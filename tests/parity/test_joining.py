"""Layout and joining, sorting and scans, statistics, beside PyTorch: values, names of nodes, gradients, refusals."""

import pytest

from .oracle import agree, agree_or_refuse_alike

GIVEN = """\
s, v, w = tg.tensor(2.0), tg.arange(3.0), tg.arange(6.0)
a, b = tg.arange(6.0).reshape(2, 3), tg.arange(12.0).reshape(3, 4)
c = tg.arange(24.0).reshape(2, 3, 4); i = tg.tensor([2, 0, 1, 2]); t = tg.tensor([True, False, True])
e = tg.zeros(2, 0); r = tg.tensor([3.0, -1.0, 2.5, -1.0, 7.0, 0.0])
n = tg.tensor([1.0, tg.nan, 3.0]); f = r.to(tg.float32)
"""
PROGRAMS = """
tg.atleast_1d(s), tg.atleast_2d(s), tg.atleast_3d(s)
tg.atleast_1d(v), tg.atleast_2d(v), tg.atleast_3d(v)
tg.atleast_1d(a), tg.atleast_2d(a), tg.atleast_3d(a)
tg.atleast_2d(s, v)
tg.atleast_2d([s, v])
tg.atleast_2d()
tg.vstack([v, v]), tg.vstack((a, v)), tg.row_stack([s, s])
tg.vstack([])
tg.vstack([a, s])
tg.vstack(a)
tg.hstack([v, v]), tg.hstack((a, a)), tg.hstack([s, s])
tg.hstack([a, v])
tg.dstack([v, v]), tg.dstack((a, a)), tg.dstack([s, s])
tg.column_stack([v, v]), tg.column_stack((a, a)), tg.column_stack([s, s])
tg.column_stack([])
tg.vstack([i[:3], v])
tg.block_diag(a, s, v)
tg.block_diag(i, v)
tg.block_diag(c)
tg.broadcast_tensors(v, a)
tg.broadcast_tensors(v, b)
tg.broadcast_shapes((3, 1), (4,), ())
tg.broadcast_shapes((3,), (4,))
tg.broadcast_shapes((-1,))
tg.meshgrid(v, w, indexing="ij")
tg.meshgrid(v, w, s, indexing="xy")
tg.meshgrid([v], indexing="xy")
tg.meshgrid(a, indexing="ij")
tg.meshgrid(v, i, indexing="ij")
tg.meshgrid(v, indexing="yx")
tg.meshgrid(indexing="ij")
tg.cartesian_prod(v, w)
tg.cartesian_prod(v)
tg.cartesian_prod(a)
tg.combinations(v)
tg.combinations(v, 2, True)
tg.combinations(v, 4)
tg.combinations(v, 0)
tg.combinations(v, -1)
tg.combinations(a)
tg.tile(a, (2,)), tg.tile(a, (2, 1, 2)), a.tile(2, 2), tg.tile(s, (3,))
tg.tile(a, (-1,))
tg.tile(a, 2)
tg.repeat_interleave(a, 2), a.repeat_interleave(2, 1), a.repeat_interleave(tg.tensor([0, 2]), dim=0)
tg.repeat_interleave(i)
tg.repeat_interleave(a, tg.tensor([1, 2]), 1)
tg.repeat_interleave(a, -1)
tg.repeat_interleave(a, tg.tensor([-1, 1]), 0)
tg.repeat_interleave(a, tg.tensor([[1]]), 0)
tg.repeat_interleave(a, tg.tensor([1, 2]), 0, output_size=3)
tg.repeat_interleave(a, 2, 2)
a.flip(0), a.flip(0, 1), a.flip([1]), tg.flip(a, (0,)), tg.flip(a.T, (0,)), tg.flip(s, (0,)), tg.flip(i, (0,))
t.flip(0)
tg.flip(a, (0, 0))
tg.flip(a, (2,))
tg.fliplr(a), tg.flipud(v)
tg.fliplr(v)
tg.flipud(s)
tg.rot90(a), tg.rot90(a, 2), tg.rot90(a, -1), tg.rot90(c, 3, (2, 0)), tg.rot90(a, 4)
tg.rot90(v)
tg.rot90(a, 1, (0, 0))
tg.rot90(a, 1, (0, 2))
tg.rot90(a, 1, (0,))
a.roll(1), a.roll(-1, 1), tg.roll(a, (1, 2), (0, 1)), tg.roll(a, (1, 1), (0, 0)), tg.roll(i, 5), tg.roll(s, 1)
tg.roll(a, (1, 2), 0)
tg.roll(a, (1, 2))
tg.roll(a, 1, 2)
tg.roll(s, 1, 0)
a.adjoint(), a.H, c.mH
v.adjoint()
c.H
v.mH
tg.tensor_split(w, 4), w.tensor_split((1, 3)), tg.tensor_split(c, 2, -1), tg.tensor_split(w, tg.tensor([2, 9]))
w.tensor_split(tg.tensor(2))
tg.tensor_split(w, 0)
tg.tensor_split(s, 1)
tg.tensor_split(w, tg.tensor([1.0]))
w.hsplit(2), a.hsplit(3), a.vsplit(2), c.dsplit([1, 2]), tg.hsplit(a, (1,))
w.hsplit(4)
s.hsplit(1)
v.vsplit(1)
a.dsplit(1)
w.split_with_sizes([1, 5]), tg.split_with_sizes(a, [1, 2], 1), w.unsafe_chunk(2), w.unsafe_split(4)
w.split_with_sizes([1, 4])
w.unflatten(0, (2, -1)), c.unflatten(-1, (2, 2)), tg.unflatten(w, 0, (3, 2))
w.unflatten(0, (4, 2))
w.unflatten(0, ())
w.unflatten(0, (-1, -1))
w.unfold(0, 2, 1), w.unfold(0, 3, 2), c.unfold(1, 2, 1), a.T.unfold(0, 2, 1), s.unfold(0, 1, 1)
w.unfold(0, 7, 1)
w.unfold(0, 2, 0)
w.unfold(1, 2, 1)
w.as_strided((2, 2), (1, 2)), w[1:].as_strided((2, 2), (2, 1)), tg.as_strided(w, (2, 3), (0, 1), 1)
a[:, 1:].as_strided((2,), (1,))
w.as_strided((7,), (1,))
w.as_strided((2,), (-1,))
w.as_strided((2, 2), (1,))
w.as_strided((2,), (1,), -1)
w[2:].storage_offset(), a.T[1:].storage_offset(), w.storage_offset(), c.ndimension()
tg.diagflat(a), v.diagflat(1)
tg.swapaxes(c, 0, 2).shape, c.moveaxis(0, -1).shape, tg.moveaxis(c, (0, 1), (1, 0)).shape, c.swapdims(0, 1).shape
r.sort(), r.sort(0, True), r.sort(descending=True, stable=True), tg.sort(a, 0), tg.sort(s), tg.sort(n)
tg.sort(n, descending=True), t.sort()
tg.sort(r, stable=True, dim=0), tg.msort(b.flip(0)), tg.argsort(r), r.argsort(descending=True, stable=True)
i.sort(stable=True)
r.sort(1)
tg.sort(r, "x")
tg.topk(c, 2), w.topk(3, largest=False), w.topk(2, 0), tg.topk(c, 1, 0), n.topk(2), w.topk(0)
w.topk(7)
w.topk(-1)
t.topk(1)
w.kthvalue(2), c.kthvalue(1, 0, True), tg.kthvalue(s, 1)
w.kthvalue(0)
w.kthvalue(7)
e.kthvalue(1)
t.kthvalue(1)
r.median(), c.median(), c.median(0), c.median(1, True), n.median(), n.nanmedian(), n.nanmedian(0), i.median()
s.median(), tg.median(c, dim=2), tg.zeros(0).median()
e.median(1)
t.median()
c.mode(1), i.mode(), s.mode(), tg.mode(c, 0, True)
e.mode(1)
tg.unique(i), i.unique(return_counts=True), i.unique(return_inverse=True), tg.unique(a.round(), dim=1)
s.unique(), t.unique(True, True, True)
tg.unique_consecutive(i), i.unique_consecutive(return_counts=True, return_inverse=True)
tg.unique_consecutive(a, dim=0)
s.unique(dim=0)
tg.searchsorted(w, a), tg.searchsorted(w, a, right=True), tg.searchsorted(w, 2.5)
tg.searchsorted(w, a, side="right", out_int32=True), tg.searchsorted(c, c + 0.5), tg.searchsorted(w, n)
tg.searchsorted(w, i)
tg.searchsorted(a, b)
tg.searchsorted(a, 1.0)
tg.searchsorted(w, a, side="left", right=True)
tg.searchsorted(w, a, side="x")
tg.searchsorted(w, a, sorter=i)
tg.bucketize(a, w), tg.bucketize(a, w, right=True), tg.bucketize(2.0, w), tg.bucketize(i, tg.tensor([1, 2]))
tg.bucketize(a, a)
tg.isin(i, tg.tensor([2, 5])), tg.isin(i, 2), tg.isin(2, i), tg.isin(a, v, invert=True), tg.isin(n, n)
tg.isin(2, 3)
r.cumsum(0), r.cumprod(0), c.cumprod(1), i.cumprod(0), t.cumprod(0), f.cumprod(0), r.cumprod(0, dtype=tg.float32)
r.cummax(0), r.cummin(0), c.cummax(1), n.cummax(0), i.cummin(0), s.cummax(0)
r.logcumsumexp(0), c.logcumsumexp(2), s.logcumsumexp(0)
i.logcumsumexp(0)
r.cumprod(1)
r.cumprod()
x = r.clone(); x.cumsum_(0); x.cumprod_(0)
x = i.clone(); x.cumsum_(0)
tg.quantile(r, 0.3), r.quantile(tg.tensor([0.1, 0.5])), c.quantile(0.5, 1), c.quantile(0.5, 1, True)
n.quantile(0.5), n.nanquantile(0.5), s.quantile(0.2), f.quantile(0.7)
r.quantile(0.3, interpolation="lower"), r.quantile(0.3, interpolation="higher")
r.quantile(0.3, interpolation="midpoint"), r.quantile(0.3, interpolation="nearest")
r.quantile(2.0)
r.quantile(0.5, interpolation="x")
i.quantile(0.5)
tg.zeros(0).quantile(0.5)
f.quantile(tg.tensor([0.5]))
tg.diff(r), r.diff(2), c.diff(dim=1), i.diff(), t.diff(), r.diff(prepend=v, append=v), r.diff(9), r.diff(0)
s.diff()
r.diff(-1)
c.diff(prepend=v)
tg.trapezoid(r), tg.trapezoid(r, w), tg.trapezoid(c, dx=0.5, dim=1), tg.trapz(r, dx=2.0)
tg.trapezoid(c, v, dim=1), tg.trapezoid(i), tg.trapezoid(e)
tg.cumulative_trapezoid(r), tg.cumulative_trapezoid(c, v, dim=1), tg.cumulative_trapezoid(r, dx=2)
tg.trapezoid(r, v)
tg.trapezoid(t)
tg.trapezoid(s)
tg.gradient(r), tg.gradient(c, dim=(0, 2)), tg.gradient(b, spacing=2.0, edge_order=2)
tg.gradient(b, spacing=[2.0, 0.5]), tg.gradient(r, spacing=(w * w,), edge_order=2)
tg.gradient(s)
tg.gradient(tg.zeros(1))
tg.gradient(r, edge_order=3)
tg.gradient(r, spacing=[1.0, 2.0])
n.nanmean(), tg.nanmean(c, (0, 1)), tg.nanmean(n, 0, True)
i.nanmean()
tg.std_mean(r), tg.var_mean(c, 1), tg.std_mean(c, (0, 1), keepdim=True), tg.var_mean(r, False)
tg.var_mean(c, dim=1, correction=0)
tg.aminmax(r), c.aminmax(dim=1), c.aminmax(dim=0, keepdim=True), tg.aminmax(i), n.aminmax()
tg.zeros(0).aminmax()
tg.cov(b), tg.cov(r), b.cov(correction=0), tg.cov(b, fweights=i), tg.cov(b, aweights=i.double())
tg.cov(b, fweights=i, aweights=b[1], correction=2), tg.cov(s), tg.cov(i)
tg.cov(c)
tg.cov(t)
tg.cov(b, fweights=b[0])
tg.cov(b, aweights=i)
tg.cov(b, aweights=-b[1])
tg.corrcoef(b + tg.sin(b)), tg.corrcoef(r), tg.corrcoef(s)
tg.corrcoef(c)
tg.bincount(i), i.bincount(minlength=5), i.bincount(r[:4]), i.bincount(f[:4]), i.bincount(i)
r.bincount()
i.bincount(r)
(-i).bincount()
i.bincount(minlength=-1)
tg.histc(r), r.histc(4), r.histc(4, 0, 3), f.histc(3), n.histc(2, 0, 4)
n.histc(2)
i.histc(4)
r.histc(0)
tg.histogram(r, 4), r.histogram(4, range=(0.0, 3.0)), tg.histogram(r, v), tg.histogram(r, 4, weight=w, density=True)
tg.histogram(i, 2)
tg.histogram(r, 2, range=(1.5, 1.5)), tg.histogram(v * 0 + 2, 2), tg.histogram(r[:0], 3), tg.histc(v * 0 + 1, 3, 2, 2)
tg.histogramdd(a.T, (2, 2), range=(0.0, 0.0, 1.0, 1.0)).hist
tg.histogram(r, v[:0])
tg.histogram(r, v.float())
tg.histogram(r, 2, weight=r.float())
r.quantile(1.5)
r.quantile(0.3, interpolation="lower"), r.sum(axis=0, keepdims=True)
tg.histogramdd(b, [2, 3, 2, 2]).hist, tg.histogramdd(a.T, (v, v)).hist
tg.histogramdd(b, [2, 3])
""".strip().splitlines()

GRADIENTS = """
tg.vstack([x, x]) * 2
tg.block_diag(x, y)
sum(g.sum() for g in tg.meshgrid(x[0], y[0], indexing="xy"))
tg.tile(x, (2, 2)) ** 2
x.repeat_interleave(2, 1) ** 2
x.repeat_interleave(tg.tensor([2, 1]), 0) ** 2
x.flip(0) * y
x.rot90(1) ** 2
x.roll(1) * y
x.unfold(1, 2, 1) ** 2
x.as_strided((2, 2), (1, 1)) ** 2
tg.diagflat(x) @ tg.diagflat(y)
sum((p * p).sum() for p in x.tensor_split(2, 1))
x.sort(1).values * y
x.topk(2).values ** 2
x.kthvalue(2).values ** 2
x.median() * x
x.median(1).values ** 2
x.nanmedian() * x
x.mode(1).values ** 2
x.cumprod(1) * y
x.cumprod(0).cumsum(1) ** 2
x.cummax(1).values * y
x.cummin(0).values * y
x.logcumsumexp(1) * y
x.quantile(0.3, 1) ** 2
x.quantile(tg.tensor([0.1, 0.8]), 1) ** 2
x.nanquantile(0.3) ** 2
x.diff() ** 2
x.diff(2, prepend=y) ** 2
tg.trapezoid(x, y) ** 2
tg.cumulative_trapezoid(x) ** 2
sum((g * g).sum() for g in tg.gradient(x))
tg.nanmean(x * y, 1) ** 2
tg.std_mean(x, 1)[0] * tg.var_mean(y, 1)[0]
x.aminmax(dim=1)[0] * y.aminmax(dim=1).max
tg.cov(x) ** 2
tg.corrcoef(x) ** 2
tg.atleast_3d(x) ** 2
tg.column_stack([x, y]) ** 2
tg.combinations(x[0]) ** 2
tg.cartesian_prod(x[0], y[1]) ** 2
x.unflatten(1, (3, 1)) ** 2
""".strip().splitlines()


@pytest.mark.parametrize("program", PROGRAMS)
def test_values_and_refusals(program: str):
    agree_or_refuse_alike(GIVEN + program)


@pytest.mark.parametrize("expression", GRADIENTS)
def test_gradients_and_their_gradients(expression: str):
    agree(
        "x = tg.tensor([[0.5, -1.0, 2.0], [3.0, 0.25, -2.0]], requires_grad=True)\n"
        "y = tg.tensor([[1.0, 2.5, -3.0], [0.5, 4.0, 7.0]], requires_grad=True)\n"
        f"z = ({expression}).sum()\n"
        "g = tg.autograd.grad(z, (x, y), create_graph=True, allow_unused=True)\n"
        "h = sum((p * p).sum() for p in g if p is not None)\n"
        "if h.requires_grad:\n    h.backward()",
        text=False,
        tolerance=1e-10,
    )
