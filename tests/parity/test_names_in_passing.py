"""What scripts name in passing: where elements are, storages, mixed precision, profiles, functions of the namespace."""

import pytest

import tapegrad as tg

from .oracle import agree, programs, refuse_alike, torch

PROGRAMS = programs("""
x = tg.ones(4); y = x[1:].data_ptr() - x.data_ptr(); same = x.view(2, 2).data_ptr() == x.detach().data_ptr()
other = x.clone().data_ptr() == x.data_ptr()

x = tg.ones(4, dtype=tg.float64); _s = x[2:].untyped_storage(); n = _s.nbytes(), len(_s), _s.data_ptr() == x.data_ptr()
m = x.storage().size() if tg.__name__ != "torch" else x.storage().size(), x.untyped_storage().size()

x = tg.ones(2); y = tg.arange(3.0); _z = x.set_(y); same = _z is x; y.add_(1); x.mul_(2)

x = tg.ones(2); _y = tg.arange(12.0); x.set_(_y, 2, (2, 3), (1, 2)); _y.mul_(2)

x = tg.ones(2, requires_grad=True)
with tg.no_grad(): x.set_(tg.arange(3.0))
(x * x).sum().backward()

x = tg.ones(2).set_(); n = x.numel()

x = tg.arange(4.0).reshape(2, 2).T; _y = x.apply_(lambda v: v * 3)
z = tg.ones(2).map_(tg.arange(2.0), lambda a, b: a - b)

a = tg.ones(2).map2_(tg.arange(2.0), tg.ones(2), lambda a, b, c: a - b + c); b = list(reversed(tg.arange(3)))
c = reversed(tg.tensor(2.0)), reversed(tg.arange(4).reshape(2, 2)), a.new(size=(0, 3)).shape
d = [tg.Generator().manual_seed(s).initial_seed() for s in (-1, 2**63, 2**64 - 1)], tg.manual_seed(2**64 - 2) and 0
e = tg.initial_seed(), tg.multinomial(tg.ones(0, 3), 2, True).shape

x = tg.tensor(1.0); x.index_copy_(0, tg.tensor([0]), tg.tensor([2.0])); y = x.index_copy(0, tg.tensor(0), tg.ones(()))
z = tg.ones(3).index_copy(0, tg.tensor([1]), tg.tensor(2.0))

from importlib import import_module as _m
_n = tg.__name__ + ".autograd."; same = _m(_n + "gradcheck").gradcheck is tg.autograd.gradcheck
_g = _m(_n + "grad_mode"); also = _g.no_grad is tg.no_grad, _m(_n + "variable").Variable is tg.autograd.Variable

_F = tg.nn.functional; _x = tg.arange(16.0).reshape(1, 4, 4); y = tg.zeros(1, 2, 2); _F.avg_pool2d(_x, 2, out=y)
z, w, u, v = (tg.empty(1, 4, 4) for _i in range(4)); _F.softplus(_x, out=z); _F.softshrink(_x, 2, out=w)
_F.logsigmoid(_x, out=u); _F.gelu(_x, out=v)

x = tg.ones(2, dtype=tg.float64); f = x.get_device(), x.is_signed(), x.is_conj(), x.is_neg(), x.is_pinned()
g = x.is_cpu, x.itemsize, x.is_quantized, x.is_mps, x.is_meta, x.is_nested, tg.ones(2, dtype=tg.bool).is_signed()
h = x.narrow_copy(0, 1, 1), x.is_set_to(x.view(2)), x.is_set_to(x.clone()), x.is_shared()

x = tg.tensor(reals(2, 3)); _w, _b = tg.tensor(positives(3)), tg.tensor(reals(3))
y = tg.layer_norm(x, (3,), _w, _b), tg.group_norm(x, 3, _w, _b), tg.dropout(x, 0.5, False)
v = tg.alpha_dropout(x, 0.5, False), x.dense_dim()
z = tg.batch_norm(x, _w, _b, None, None, True, 0.1, 1e-5, False), tg.embedding(x, tg.tensor([1, 1]))
v, i = tg.adaptive_max_pool1d(x[None], 2)
u = tg.instance_norm(x[None], None, None, None, None, True, 0.1, 1e-5, False)

_r = np.random.default_rng(0); _t = lambda *s: tg.tensor(_r.normal(size=s)); x, _h, _c = _t(2, 3), _t(2, 4), _t(2, 4)
y = tg.lstm_cell(x, (_h, _c), _t(16, 3), _t(16, 4), _t(16), _t(16))
w = tg.gru_cell(x, _h, _t(12, 3), _t(12, 4), _t(12), _t(12))
z = tg.rnn_tanh_cell(x, _h, _t(4, 3), _t(4, 4)), tg.rnn_relu_cell(x, _h, _t(4, 3), _t(4, 4))

_x = tg.tensor(reals(1, 1, 3, 4)); _t = tg.tensor(reals(1, 2, 3)); g = tg.affine_grid_generator(_t, (1, 1, 2, 3), False)
y = [tg.grid_sampler(_x, g, m, p, True) for m in (0, 1) for p in (0, 1)]

x = tg.ones(3); y = [tg.celu_(x.clone() - 2), tg.selu_(x.clone()), tg.threshold_(x.clone(), 2.0, 5.0)]

with tg.autocast("cpu", enabled=False): x = tg.ones(2) @ tg.ones(2)
w = tg.ones(2, requires_grad=True); _o = tg.optim.SGD([w], lr=0.1); _s = tg.amp.GradScaler("cpu", enabled=False)
_s.scale((w * w).sum()).backward(); _s.unscale_(_o); _s.step(_o); _s.update()
f = _s.is_enabled(), _s.get_scale(), _s.state_dict()

x = tg.tensor([1.0, -1.0, 0.3, -0.2]); y = x.hardshrink(), x.hardshrink(0.25), x.prelu(tg.tensor([0.1], dtype=x.dtype))
f = tg.is_conj(x), tg.is_neg(x), tg.is_signed(x), tg.is_inference(x), tg.is_storage(x)
g = tg.is_storage(x.untyped_storage()), tg.get_device(x), tg.typename(3), tg.get_deterministic_debug_mode()
h = tg.set_flush_denormal(False), tg.autograd.is_multithreading_enabled(), tg.nn.parameter.is_lazy(x)

import importlib as _importlib
_of = lambda path: _importlib.import_module(tg.__name__ + "." + path)
f = [getattr(_of("utils.data." + m), n) is getattr(tg.utils.data, n) for m, n in
     [("dataset", "Dataset"), ("dataloader", "DataLoader"), ("sampler", "Sampler"), ("dataset", "random_split")]]

v = list(reversed(tg.nn.ParameterDict({"a": tg.ones(1), "b": tg.ones(2)})))
u = tg.utils.data.Subset(list(range(10)), [2, 4, 6]).__getitems__([0, 2]); _p = [tg.ones(1), tg.ones(2)]
r = repr(tg.optim.SGD([{"params": _p[:1]}, {"params": _p[1:], "lr": 0.5}], lr=0.1)); _net = tg.nn.BatchNorm1d(2)
_s = _net.state_dict(); del _s["weight"]; _s["more"] = tg.ones(1)
try: _net.load_state_dict(_s)
except RuntimeError as e: said = str(e)

x = tg.arange(6.0).reshape(2, 3); x.resize_(3); y = tg.arange(6.0).reshape(2, 3).t(); y.resize_(2, 2)
_z = tg.arange(6.0); w = _z[1:].reshape(5)[::2]; w.resize_(2); w[1] = 7.0; z = _z.clone()
v = _z.view(2, 3).resize_(2, 3)

_net = tg.nn.LazyLinear(3, dtype=tg.float64); _o = tg.optim.SGD(_net.parameters(), lr=0.1, momentum=0.9); _o.step()
_o.zero_grad(); y = _net(tg.ones(1, 2, dtype=tg.float64)); _b = [p.detach().clone() for p in _net.parameters()]
for _i in range(2): _o.zero_grad(); _net(tg.ones(1, 2, dtype=tg.float64)).sum().backward(); _o.step()
n = [p - q for p, q in zip(_net.parameters(), _b)]; k = len(_o.state_dict()["state"]); y = 0
""")


@pytest.mark.parametrize("program", PROGRAMS)
def test_names(program):
    agree(program, text=False, tolerance=1e-9)


REFUSED = [
    ("tg.ones(2).set_(tg.ones(2, dtype=tg.int64))", "Could not set tensor of type"),
    ("tg.ones(2, requires_grad=True).set_(tg.ones(2))", "a leaf Variable that requires grad is being used in an in-pl"),
    ("tg.ones(2, requires_grad=True).apply_(lambda v: v)", "Can't call apply_() on Variable that requires grad."),
    ("tg.ones(2).apply_(lambda v: 'v')", "must be real number, not str"),
    ("tg.manual_seed(2**64)", "Overflow when unpacking long long"),
    ("tg.Generator().manual_seed(1.5)", "manual_seed expected a long, but got float"),
    ("tg.device('cpu:')", "Invalid device string: 'cpu:'"),
    ("tg.Generator('fast')", "Expected one of cpu, cuda"),
    ("'a' in tg.ones(2)", "only supports Tensor or scalar, but you passed in a <class 'str'>."),
    ("tg.ones(0, 3).index_select(0, tg.tensor([0]))", "index_select(): self indexing axis dim should be positive"),
    ("tg.distributions.TransformedDistribution.support.event_dim", ".event_dim cannot be determined statically"),
    ("tg.nn.Linear(1, 1).to('cpu', copy=True)", ".to() does not accept copy argument"),
    ("tg.autocast(3)", "Expected `device_type` of type `str`"),
    ("tg.nn.LazyLinear(3).weight + 1", "Attempted to use an uninitialized parameter in "),
    ("tg.cat([])", "tg.cat(): expected a non-empty list of Tensors"),
    ("tg.zeros(-1)", "zeros: Dimension size must be non-negative"),
    ("tg.ones(2, 3).index_select(0, tg.tensor([5]))", "index out of range in self"),
    ("tg.nn.LSTM(2, 3)(tg.ones(2))", "LSTM: Expected input to be 2D or 3D, got 1D instead"),
    ("tg.func.jvp(lambda x: x, (tg.ones(2),), (tg.ones(3),))", "Trying to set a forward gradient that has a different"),
    ("tg.func.vjp(lambda x: x, tg.ones(2))[1](tg.ones(3))", "grad_output[0] has a shape of tg.Size([3])"),
    ("tg.set_num_interop_threads(0)", "positive"),
    ("tg.ones(2).to('q')", "Expected one of cpu, cuda, ipu, xpu"),
    ("tg.ones(2, device=3)", "Cannot access accelerator device when none is available"),
    ("tg.zeros('a')", "zeros(): argument 'size' (position 1) must be tuple of ints, not str"),
    ("tg.ones(2).expand('a')", "expand(): argument 'size' (position 1) must be tuple of ints, not str"),
    ("tg.nn.ModuleDict().update([('a',)])", "ModuleDict update sequence element #0 has length 1; 2 is required"),
    ("tg.nn.ParameterDict().update([3])", "ParameterDict update sequence element #0 should be Iterable; is"),
    ("tg.nn.ParameterDict()[1] = tg.ones(1)", "cannot be used as a key as it is not a string (type is 'int')"),
    ("tg.nn.ReLU().add_module('a.b', None)", "got: a.b"),
    ("tg.nn.utils.rnn.pad_sequence([])", "received an empty list of sequences"),
    ("tg.nn.utils.rnn.pad_sequence(3)", "pad_sequence: Expected iterable for input sequences, but got arg of type: "),
    ("tg.nn.utils.rnn.pad_sequence([tg.ones(1)], padding_side='q')", "Expected padding_side to be one of left or"),
    ("tg.nn.BatchNorm1d(1).running_mean = 3", "as buffer 'running_mean' (tg.nn.Buffer, tg.Tensor or None expected)"),
    ("tg.save(3, 3)", "expected 'f' to be string, path, or a fi"),
    (
        "tg.ones(3, 4).copy_(tg.ones(5))",
        "The size of tensor a (4) must match the size of tensor b (5) at non-singleton",
    ),
    ("tg.ones(3, 4).copy_(tg.ones(2, 3, 4))", "output with shape [3, 4] doesn't match the broadcast shape [2, 3, 4]"),
    (
        "tg.utils.data.DataLoader([1], prefetch_factor=2)",
        "prefetch_factor option could only be specified in multiproce",
    ),
    ("tg.utils.data.DataLoader([1], persistent_workers=True)", "persistent_workers option needs num_workers > 0"),
    ("tg.utils.data.DataLoader([1], multiprocessing_context='fork')", "multiprocessing_context can only be used with"),
    ("tg.utils.data.DataLoader([1]).batch_size = 3", "batch_size attribute should not be set after DataLoader is init"),
    (
        "tg.autograd.grad(tg.ones(1, requires_grad=True), [3])",
        "all inputs have to be Tensors or GradientEdges, but got",
    ),
    (
        "tg.autograd.functional.hessian(lambda x: x.sum(), tg.ones(2), strict=True)",
        "While computing the hessian, found",
    ),
]


@pytest.mark.parametrize(("program", "phrase"), REFUSED)
def test_refusals(program, phrase):
    refuse_alike(program, phrase)


def test_less_precision_warns_and_changes_nothing():
    with pytest.warns(UserWarning, match="Disabling autocast"), tg.autocast("cpu"):
        assert (tg.ones(2, dtype=tg.float64) * 2).dtype is tg.float64
    with pytest.warns(UserWarning, match="Disabling"):
        assert not tg.amp.GradScaler("cpu").is_enabled()


def test_profiles_count_what_is_swept_and_what_is_labelled():
    x = tg.rand(1000, requires_grad=True)
    with tg.profiler.profile(activities=[tg.profiler.ProfilerActivity.CPU], record_shapes=True) as taken:
        for _ in range(3):
            with tg.autograd.profiler.record_function("a step"):
                tg.sum(tg.exp(x)).backward()
    rows = {row.key: row for row in taken.key_averages()}
    assert rows["exp"].count == rows["sum"].count == rows["a step"].count == 3
    assert rows["a step"].cpu_time_total >= rows["exp"].cpu_time_total + rows["sum"].cpu_time_total > 0
    assert taken.total_average().cpu_time_total <= taken.self_cpu_time_total
    table = taken.key_averages().table(sort_by="cpu_time_total", row_limit=2)
    assert table.count("\n") == 6
    assert "a step" in table
    with pytest.raises(AttributeError, match="can be sorted by"):
        taken.table(sort_by="memory")
    with pytest.raises(TypeError, match="unexpected keyword argument 'something'"):
        tg.profiler.profile(something=1)
    with tg.profiler.profile(enabled=False) as none:
        tg.ones(3).sum().item()
    assert list(none.key_averages()) == []


def test_gamma_variates_for_samplers_of_others():
    for package in torch, tg:
        a = package.full((20000,), 2.5, dtype=package.float64, requires_grad=True)
        x = package._standard_gamma(a)
        x.sum().backward()  # the mean is a, so that the mean of dx/da is 1
        assert float(x.detach().mean()) == pytest.approx(2.5, abs=0.1)
        assert float(a.grad.mean()) == pytest.approx(1.0, abs=0.05)


def test_checks_in_passing():
    for package in torch, tg:
        package._assert(package.tensor(True), "no"), package._check(True), package._assert_async(package.tensor(2.0))
        with pytest.raises(AssertionError, match="no"):
            package._assert(package.tensor(False), "no")
        with pytest.raises(RuntimeError, match="no"):
            package._assert_async(package.tensor(0), "no")
        with pytest.raises(RuntimeError, match="no"):
            package._check(False, lambda: "no")
        with pytest.raises(RuntimeError, match="Expected cond to be True"):
            package._check(False)
        with pytest.raises(package._C._LinAlgError):
            package.linalg.inv(package.zeros(2, 2)).tolist()
