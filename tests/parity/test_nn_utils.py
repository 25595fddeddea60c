"""Parametrisations, norms of weights, packed sequences, lazy layers: what PyTorch's give, with PyTorch's errors."""

import copy

import pytest

import tapegrad as tg

from .oracle import agree, refuse_alike

LINEAR = """
_r = np.random.default_rng(5)
def _linear(out=4, n=3):
    made = tg.nn.Linear(n, out, dtype=tg.float64)
    made.load_state_dict({"weight": tg.tensor(_r.normal(size=(out, n))), "bias": tg.zeros(out, dtype=tg.float64)})
    return made
class _Sym(tg.nn.Module):
    def forward(self, x): return x.triu() + x.triu(1).T
    def right_inverse(self, a): return a.triu()
class _Exp(tg.nn.Module):
    def forward(self, x): return tg.linalg.matrix_exp(x)
class _First(tg.nn.Module):
    def forward(self, x): return x[:2]
def _facts(made):
    y = made(tg.tensor(reals(5, made.in_features)))
    (y * weights(y)).sum().backward()
    return [y, [[n, p.grad] for n, p in made.named_parameters()], list(made.state_dict()), repr(made)]
_p, _pz = tg.nn.utils.parametrize, tg.nn.utils.parametrizations
_weight_norm, _spectral_norm = tg.nn.utils.weight_norm, tg.nn.utils.spectral_norm
"""
PROGRAMS = """
f = [_facts(_pz.weight_norm(_linear(), dim=d)) for d in (0, 1, -2, None)]

f = [_facts(_weight_norm(_linear(), dim=d)) for d in (0, 1, None)]

f = _facts(tg.nn.utils.remove_weight_norm(_weight_norm(_linear())))

_m = _pz.weight_norm(_linear()); _p.remove_parametrizations(_m, "weight"); f = _facts(_m)

_a, _b = _pz.weight_norm(_linear()), _linear(); _p.transfer_parametrizations_and_params(_a, _b); f = _facts(_b)

_m = _pz.weight_norm(_linear()); _t = {k: v.detach() * 2 for k, v in _m.named_parameters()}
y = tg.func.functional_call(_m, _t, (tg.tensor(reals(2, 3)),))

def _norm(old, dim, trains):
    made = (_spectral_norm if old else _pz.spectral_norm)(_linear(), dim=dim)
    u, v = (made.weight_u, made.weight_v) if old else list(made.parametrizations.weight[0].buffers())
    u.copy_(tg.ones(len(u)) / 2); v.copy_(tg.ones(len(v)) / 2); made.train(trains)
    return [_facts(made), _facts(made), u, v]
f = [_norm(old, dim, trains) for old in (True, False) for dim in (0, 1) for trains in (True, False)]

def _map(name, base, *shape):
    made = _linear(*shape); _pz.orthogonal(made, orthogonal_map=name, use_trivialization=base); w = made.weight.detach()
    if base and shape[0] != shape[1]:
        return [(w.T @ w if shape[0] > shape[1] else w @ w.T).round(decimals=8) + 0.0]
    return [w, _facts(made)]
f = [_map(name, base, *shape) for name in ("matrix_exp", "cayley", "householder") for base in (True, False)
     for shape in ((4, 3), (3, 3), (3, 4))]

_m = _linear(3); _w = _m.weight
_p.register_parametrization(_m, "weight", _Sym()); _p.register_parametrization(_m, "weight", _Exp()); f = _facts(_m)
same = _m.parametrizations.weight.original is _w; kind = _p.type_before_parametrizations(_m).__name__
with _p.cached(): kept = _m.weight is _m.weight
other = _m.weight is _m.weight; w = copy.deepcopy(_m).weight
_p.remove_parametrizations(_m, "weight"); text = repr(_m); again = _m.weight is _w; is_ = _p.is_parametrized(_m)

_m = _p.register_parametrization(_linear(3), "weight", _Sym()); _m.weight = tg.tensor(reals(3, 3)); w = _m.weight
o = _m.parametrizations.weight.original

_n = tg.nn.BatchNorm1d(4, dtype=tg.float64); _n.load_state_dict({k: 2 + tg.tensor(positives(*v.shape))
                                                               for k, v in _n.state_dict().items()})
f = _facts(tg.nn.utils.fuse_linear_bn_eval(_linear().eval(), _n.eval()))
_c = tg.nn.ConvTranspose1d(2, 4, 3, bias=False, dtype=tg.float64).eval(); _c.weight.data = tg.tensor(reals(2, 4, 3))
w = tg.nn.utils.fuse_conv_bn_eval(_c, _n, transpose=True)(tg.tensor(reals(1, 2, 5)))

_m = _p.register_parametrization(_linear(), "weight", _First(), unsafe=True); shape = tuple(_m.weight.shape)
_m = tg.nn.BatchNorm1d(2); _p.register_parametrization(_m, "running_mean", tg.nn.Tanh()); s = list(_m.state_dict())
""".strip().split("\n\n")


@pytest.mark.parametrize("program", PROGRAMS)
def test_parametrisations(program):
    agree(LINEAR + program, text=False, tolerance=1e-9)


REFUSED = [
    ("_p.register_parametrization(_linear(3), 'nothing', _Sym())", "does not have a parameter, a buffer, or a param"),
    ("_p.register_parametrization(_linear(), 'weight', _First())", "may not change the shape of the tensor, unless"),
    ("_p.remove_parametrizations(_linear(), 'weight')", "does not have a parametrization on weight"),
    (
        "_p.remove_parametrizations(_pz.weight_norm(_linear()), 'weight', leave_parametrized=False)",
        "Cannot leave unparametrized (`leave_parametrized=False`) a tensor",
    ),
    (
        "_p.register_parametrization(_linear(3), 'weight', _Exp()).weight = tg.ones(3, 3)",
        "parametrization _Exp does not implement right_inverse",
    ),
    ("pickle.dumps(_pz.weight_norm(_linear()))", "Serialization of parametrized modules is only supported through"),
    ("_pz.weight_norm(_linear()).weight = tg.nn.Parameter(tg.ones(4, 3))", "attribute 'weight' already exists"),
    ("_pz.orthogonal(_linear(), orthogonal_map='svd')", 'orthogonal_map has to be one of "matrix_exp", "cayley"'),
    ("_pz.spectral_norm(_linear(), n_power_iterations=0)", "Expected n_power_iterations to be positive"),
    ("_pz.spectral_norm(_linear(), dim=2)", "Dimension out of range (expected to be in range of [-2, 1] but got 2)"),
    ("_weight_norm(_weight_norm(_linear()))", "weight"),
    ("tg.nn.utils.remove_weight_norm(_linear())", "weight_norm of 'weight' not found in"),
    ("tg.nn.utils.remove_spectral_norm(_linear())", "spectral_norm of 'weight' not found in"),
]


@pytest.mark.parametrize(("program", "phrase"), REFUSED)
def test_refusals_of_parametrisations(program, phrase):
    refuse_alike(LINEAR + program, phrase)


def test_what_is_refused_changes_nothing_and_copies_stand_alone():
    """A parametrisation that gives another shape; one removed from a copy."""
    agree(
        LINEAR
        + """
_m = _linear(); before = _m.weight.detach().clone()
try: _p.register_parametrization(_m, "weight", _First())
except ValueError: pass
after = _m.weight; text = repr(_m); names = list(_m.state_dict())
""",
        text=False,
    )
    a = tg.nn.utils.parametrizations.weight_norm(tg.nn.Linear(3, 2))
    b = tg.nn.utils.parametrizations.weight_norm(a, "bias", dim=None)
    b = copy.deepcopy(a)
    tg.nn.utils.parametrize.remove_parametrizations(a, "weight")
    assert b.weight.shape == (2, 3)
    assert isinstance(a.weight, tg.nn.Parameter)
    assert sorted(b.state_dict())[0] == "parametrizations.bias.original0"


RECURRENT = """
_r, _R = np.random.default_rng(0), tg.nn.utils.rnn
def _run(made, how, has_state):
    for p in made.parameters(): p.data = tg.tensor(_r.normal(size=tuple(p.shape)))
    x = tg.tensor(_r.normal(size=(5, 3, 3)), requires_grad=True)
    n, batch = made.num_layers * (1 + made.bidirectional), 5 if made.batch_first and how == "padded" else 3
    h = [tg.tensor(_r.normal(size=(n, batch, s)), requires_grad=True) for s in (made.proj_size or 4, 4)]
    given = x
    if how != "padded":
        lengths = [5, 3, 2] if how == "sorted" else tg.tensor([2, 5, 3])
        given = _R.pack_padded_sequence(x, lengths, enforce_sorted=how == "sorted")
    y, end = made(given, None if not has_state else tuple(h) if made.mode == "LSTM" else h[0])
    ends, lengths = end if isinstance(end, tuple) else (end,), None
    if how != "padded": y, lengths = _R.pad_packed_sequence(y, batch_first=True, padding_value=-1.0)
    ((y * weights(y)).sum() + sum((s**3).sum() for s in ends)).backward()
    return [y, ends, lengths, x.grad, [s.grad for s in h], [p.grad for p in made.parameters()], repr(made)]
"""
LAYERS = [
    "RNN(3, 4)",
    "RNN(3, 4, 2, 'relu')",
    "LSTM(3, 4, bidirectional=True, num_layers=2)",
    "LSTM(3, 4, 2, proj_size=2, bidirectional=True)",
    "GRU(3, 4, bias=False, batch_first=True)",
    "GRU(3, 4, bidirectional=True)",
]


@pytest.mark.parametrize("layer", LAYERS)
def test_recurrent_layers_take_packed_sequences(layer):
    agree(
        f"{RECURRENT}f = [_run(tg.nn.{layer}, how, has) for how in ('padded', 'sorted', 'any') for has in (0, 1)]",
        text=False,
        tolerance=1e-9,
    )


PACKED = """
s = _R.pack_sequence([tg.ones(3), tg.ones(2) * 2]); text = repr(s); d = s.double().data; b = s.batch_sizes

u = _R.unpack_sequence(_R.pack_sequence([tg.ones(2, 2), tg.arange(6.0).reshape(3, 2)], enforce_sorted=False))

_s = _R.pack_sequence([tg.arange(3), tg.arange(2)]); p = _R.pad_packed_sequence(_s, total_length=5, padding_value=7)

_x = tg.arange(12.0).reshape(2, 3, 2); s = list(_R.pack_padded_sequence(_x, tg.tensor([3, 1]), True))

p = _R.invert_permutation(tg.tensor([2, 0, 1])); t = tuple(_R.PackedSequence(tg.ones(3), tg.tensor([2, 1])))
""".strip().split("\n\n")


@pytest.mark.parametrize("program", PACKED)
def test_packed_sequences(program):
    agree(RECURRENT + program, text=False)


REFUSED_SEQUENCES = [
    ("_R.pack_padded_sequence(tg.ones(3, 2, 1), [1, 2])", "array must be sorted in decreasing order when `enforce_"),
    ("_R.pack_padded_sequence(tg.ones(3, 2, 1), [2, 1, 1])", "Expected `len(lengths)` to be equal to batch_size, but"),
    ("_R.pack_padded_sequence(tg.ones(3, 2, 1), [2, 0])", "Length of all samples has to be greater than 0"),
    ("_R.pad_packed_sequence(_R.pack_sequence([tg.ones(3)]), total_length=2)", "Expected total_length to be at least"),
    ("tg.nn.LSTM(3, 4)(tg.ones(2, 3, 3), (tg.zeros(1, 3, 3), tg.zeros(1, 3, 4)))", "Expected hidden[0] size (1, 3, 4)"),
    ("tg.nn.GRU(3, 4)(tg.ones(2, 3), tg.zeros(1, 1, 4))", "For unbatched 2-D input, hx should also be 2-D but got 3-D"),
    ("tg.nn.LSTM(3, 4, proj_size=4)", "proj_size has to be smaller than hidden_size"),
    ("tg.nn.LSTM(3, 4, proj_size=-1)", "proj_size should be a positive integer or zero to disable projections"),
    ("tg.nn.GRU(3, 4)(tg.ones(0, 3, 3))", "Expected sequence length to be larger than 0 in RNN"),
]


@pytest.mark.parametrize(("program", "phrase"), REFUSED_SEQUENCES)
def test_refusals_of_sequences(program, phrase):
    refuse_alike(RECURRENT + program, phrase)


ADAPTIVE = """
_m = tg.nn.AdaptiveLogSoftmaxWithLoss(8, 20, [5, 12], div_value=2.0, head_bias=True, dtype=tg.float64)
_r = np.random.default_rng(0)
for _p in _m.parameters(): _p.data = tg.tensor(_r.normal(size=tuple(_p.shape)))
x = tg.tensor(reals(6, 8), requires_grad=True); _t = tg.tensor([0, 4, 5, 11, 12, 19])
y, loss = _m(x, _t); loss.backward()
g = [_p.grad for _p in _m.parameters()]; p, n = _m.log_prob(x.detach()), _m.predict(x.detach()); text = repr(_m)
one = tuple(_m(x[0].detach(), tg.tensor(7)))
"""


def test_adaptive_softmax():
    agree(ADAPTIVE, text=False, tolerance=1e-9)
    refuse_alike(ADAPTIVE + "_m(x, tg.tensor([0] * 5 + [20]))", "Target values should be in [0, 19], but values in")
    refuse_alike(ADAPTIVE + "_m(x, tg.tensor([0] * 5))", "Input and target should have the same size in the batch")
    refuse_alike("tg.nn.AdaptiveLogSoftmaxWithLoss(8, 20, [5, 5])", "cutoffs should be a sequence of unique, positive")


LAZY = """
LazyLinear(3) | 5 4
LazyLinear(3, bias=False) | 4
LazyConv1d(4, 3, padding=1) | 2 3 6
LazyConv2d(4, 3, groups=2) | 4 6 6
LazyConvTranspose1d(4, 3, stride=2) | 2 3 6
LazyConvTranspose3d(1, 2) | 1 2 3 3 3
LazyBatchNorm1d(affine=False) | 4 3 2
LazyBatchNorm2d(track_running_stats=False) | 4 3 2 2
LazyBatchNorm3d() | 4 3 2 2 2
""".strip().splitlines()


@pytest.mark.parametrize("line", LAZY)
def test_lazy_layers(line):
    text, shape = line.split(" | ")
    shape = tuple(map(int, shape.split()))
    agree(
        f"""
_a, _b = tg.nn.{text}, tg.nn.{text}; before = repr(_a), list(_a.state_dict()); _a.double(); _b.eval()
x = tg.tensor(reals(*{shape})); shape = tuple(_a(x).shape); after = repr(_a)
state = [(n, tuple(p.shape), p.dtype, p.requires_grad) for n, p in _a.state_dict(keep_vars=True).items()]
_b.load_state_dict(_a.eval().state_dict()); _b.double(); same = (_a(x) == _b(x)).all().item(); kind = type(_b).__name__
n = len(list(_b.parameters()))
""",
        text=False,
    )


LAZY_REFUSED = [
    ("l.weight.numel()", "Attempted to use an uninitialized parameter in"),
    ("l.weight.shape", "Can't access the shape of an uninitialized parameter or buffer."),
    ("tg.nn.Linear(2, 3).load_state_dict(l.state_dict())", "Can't access the shape of an uninitialized parameter"),
    ("tg.nn.LazyConv2d(3, 2)(tg.ones(2, 2))", "Expected 3D (unbatched) or 4D (batched) input to LazyConv2d, but got"),
    ("tg.nn.LazyBatchNorm2d()(tg.ones(2, 2))", "expected 4D input (got 2D input)"),
    ("tg.nn.LazyConv1d(4, 2, groups=2)(tg.ones(1, 3, 5))", "in_channels must be divisible by groups"),
]


@pytest.mark.parametrize(("program", "phrase"), LAZY_REFUSED)
def test_refusals_of_lazy_layers(program, phrase):
    refuse_alike("l = tg.nn.LazyLinear(3)\n" + program, phrase)


def test_a_lazy_layer_of_ones_own():
    agree(
        """
_mixin = getattr(tg.nn, "LazyModuleMixin", None) or tg.nn.modules.lazy.LazyModuleMixin
class _Scale(_mixin, tg.nn.Module):
    def __init__(self): super().__init__(); self.w = tg.nn.UninitializedParameter()
    def initialize_parameters(self, x): self.w.materialize((x.shape[-1],)); tg.nn.init.ones_(self.w)
    def forward(self, x): return x @ self.w
_m = _Scale(); text = repr(_m.w); y = _m(tg.ones(2, 3)); y.sum().backward(); g = _m.w.grad
is_ = isinstance(_m.w, tg.nn.Parameter)
_n = tg.nn.LazyInstanceNorm2d(affine=True, track_running_stats=True); z = _n.double()(tg.tensor(reals(2, 3, 5, 4)))
norm, m = repr(_n), _n.running_mean
""",
        text=False,
    )
