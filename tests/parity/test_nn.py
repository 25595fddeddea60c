"""Modules: with PyTorch's values in them, they give what PyTorch's give, and the same gradients, states and texts."""

import copy
import pickle
import warnings

import numpy as np
import pytest

import tapegrad

from .oracle import agree, refuse_alike, torch

T = np.random.default_rng(0)
LAYERS = """
Linear(3, 2) | 5 3
Linear(3, 2, bias=False) | 2 5 3
Bilinear(3, 2, 4) | 5 3 | 5 2
Identity(3) | 2 3
Conv1d(4, 6, 3, padding=1, stride=2, groups=2) | 2 4 9
Conv1d(2, 3, 3, padding="same", padding_mode="circular") | 2 2 9
Conv2d(2, 3, (2, 3), padding=(1, 0), dilation=(1, 2), bias=False) | 2 2 6 7
Conv2d(2, 3, 3, padding=1, padding_mode="reflect") | 2 2 6 7
Conv3d(1, 2, 2) | 1 1 3 4 3
ConvTranspose1d(2, 3, 3, stride=2, output_padding=1) | 2 2 5
ConvTranspose2d(2, 3, 3, stride=2, padding=1) | 2 2 5 4
BatchNorm1d(3) | 5 3
BatchNorm1d(3, affine=False, momentum=None) | 4 3 5
BatchNorm2d(3, track_running_stats=False) | 2 3 4 5
BatchNorm3d(2) | 2 2 2 3 2
InstanceNorm1d(3, affine=True) | 2 3 5
InstanceNorm2d(3, track_running_stats=True) | 2 3 4 5
LayerNorm(4) | 3 4
LayerNorm((2, 4), elementwise_affine=False) | 3 2 4
LayerNorm(4, bias=False) | 3 4
RMSNorm(4) | 3 4
GroupNorm(2, 4) | 3 4 5
LocalResponseNorm(2) | 2 4 5
PReLU() | 3 4
PReLU(4) | 3 4
ReLU() | 3 4
ReLU(inplace=True) | 3 4
ReLU6() | 3 4
LeakyReLU(0.2) | 3 4
ELU(0.5) | 3 4
CELU() | 3 4
SELU() | 3 4
GELU() | 3 4
GELU(approximate="tanh") | 3 4
SiLU() | 3 4
Mish() | 3 4
Hardswish() | 3 4
Hardsigmoid() | 3 4
Hardtanh(-0.5, 0.5) | 3 4
Hardshrink() | 3 4
Softshrink(0.3) | 3 4
Softplus(beta=2.0) | 3 4
Softsign() | 3 4
Tanhshrink() | 3 4
LogSigmoid() | 3 4
Sigmoid() | 3 4
Tanh() | 3 4
Threshold(0.1, 5.0) | 3 4
GLU() | 3 4
Softmax(dim=1) | 3 4
LogSoftmax(dim=0) | 3 4
Softmin(dim=1) | 3 4
Softmax2d() | 2 3 4 5
MaxPool1d(2) | 2 3 8
MaxPool2d(2, stride=1, padding=1) | 2 3 5 6
MaxPool3d(2) | 1 2 4 4 4
AvgPool1d(3, 2) | 2 3 8
AvgPool2d((2, 3), padding=1) | 2 3 5 6
LPPool1d(2, 3) | 2 3 8
AdaptiveAvgPool1d(3) | 2 3 8
AdaptiveAvgPool2d((2, None)) | 2 3 5 6
AdaptiveMaxPool2d(2) | 2 3 5 6
ZeroPad2d(1) | 2 3 4 5
ZeroPad2d((1, 2, 0, 1)) | 2 3 4 5
ConstantPad1d(2, 3.5) | 2 3 4
ReflectionPad1d(2) | 2 3 4
ReplicationPad2d(1) | 2 3 4 5
CircularPad2d(1) | 2 3 4 5
Flatten() | 2 3 4 5
Flatten(0, 1) | 2 3 4
Unflatten(1, (2, 2)) | 3 4
PixelShuffle(2) | 1 8 2 3
PixelUnshuffle(2) | 1 2 4 6
Unfold(2) | 1 2 4 5
Fold((4, 5), 2) | 1 8 12
Upsample(scale_factor=2) | 1 2 3 4
Upsample(size=(5, 6), mode="bilinear") | 1 2 3 4
UpsamplingNearest2d(scale_factor=2) | 1 2 3 4
UpsamplingBilinear2d(size=(4, 6)) | 1 2 3 4
CosineSimilarity() | 3 4 | 3 4
PairwiseDistance() | 3 4 | 3 4
MSELoss() | 3 4 | 3 4
L1Loss(reduction="sum") | 3 4 | 3 4
SmoothL1Loss(beta=0.5) | 3 4 | 3 4
HuberLoss() | 3 4 | 3 4
BCEWithLogitsLoss() | 3 4 | 3 4
PoissonNLLLoss() | 3 4 | 3 4
TripletMarginLoss() | 3 4 | 3 4 | 3 4
RNN(3, 4) | 5 2 3
RNN(3, 4, 2, nonlinearity="relu", batch_first=True) | 2 5 3
LSTM(3, 4, num_layers=2, bidirectional=True) | 5 2 3
LSTM(3, 4, bias=False) | 5 3
GRU(3, 4, 2, batch_first=True, bidirectional=True) | 2 5 3
RNNCell(3, 4) | 2 3
LSTMCell(3, 4) | 2 3
GRUCell(3, 4, bias=False) | 2 3
MultiheadAttention(4, 2) | 3 2 4 | 5 2 4 | 5 2 4
MultiheadAttention(4, 2, batch_first=True, kdim=3, vdim=2) | 2 3 4 | 2 5 3 | 2 5 2
TransformerEncoderLayer(4, 2, 8, dropout=0.0) | 3 2 4
TransformerEncoderLayer(4, 2, 8, dropout=0.0, norm_first=True, activation="gelu", batch_first=True) | 2 3 4
TransformerDecoderLayer(4, 2, 8, dropout=0.0) | 3 2 4 | 5 2 4
Transformer(4, 2, 1, 1, 8, dropout=0.0) | 3 2 4 | 5 2 4
""".strip().splitlines()


def module(library, text):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return eval("nn." + text, {"nn": library.nn})


def leaves(output):
    if isinstance(output, (tuple, list)):
        return [leaf for part in output for leaf in leaves(part)]
    return [] if output is None else [output]


@pytest.mark.parametrize("line", LAYERS)
def test_layers(line):
    text, *shapes = line.split(" | ")
    arrays = [T.normal(size=[int(n) for n in shape.split()]) for shape in shapes]
    theirs, ours = module(torch, text), module(tapegrad, text)
    if "Dynamically" not in repr(theirs):
        assert repr(theirs) == repr(ours)
    assert ours.load_state_dict({name: t.numpy() for name, t in theirs.state_dict().items()})
    assert list(ours.state_dict()) == list(theirs.state_dict())
    results = []
    for library, of in ((torch, theirs), (tapegrad, ours)):
        xs = [library.tensor(a, requires_grad=True) for a in arrays]
        outputs = leaves(of(*(x * 1 for x in xs)))
        sum((y * (1 + library.arange(y.numel()).reshape(y.shape) / 7)).sum() for y in outputs).backward()
        found = [y.detach().numpy() for y in outputs] + [x.grad.numpy() for x in xs if x.grad is not None]
        found += [p.grad.numpy() for p in of.parameters() if p.grad is not None]
        of.eval()
        with library.no_grad():
            found += [y.detach().numpy() for y in leaves(of(*xs))]
        results.append(found + [b.numpy() for b in of.buffers()])
    assert len(results[0]) == len(results[1])
    rtol = 1e-7 if text == "Hardsigmoid()" else 1e-9  # PyTorch's 1 / 6 is a float32
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(b, a, rtol=rtol, atol=1e-11)


def test_losses_of_classes():
    x, k = T.normal(size=(5, 3)), T.integers(0, 3, 5)
    for text in ("CrossEntropyLoss()", "CrossEntropyLoss(label_smoothing=0.1)", "NLLLoss()", "MultiMarginLoss()"):
        a, b = (module(lib, text)(lib.tensor(x), lib.tensor(k)).item() for lib in (torch, tapegrad))
        assert a == pytest.approx(b, rel=1e-12)
    w = [1.0, 2.0, 0.5]
    a, b = (
        lib.nn.CrossEntropyLoss(weight=lib.tensor(w))(lib.tensor(x), lib.tensor(k)).item() for lib in (torch, tapegrad)
    )
    assert a == pytest.approx(b, rel=1e-12)


PROGRAMS = """
_m = tg.nn.Module(); _m.register_buffer("b", tg.ones(2), persistent=False); none = list(_m.state_dict())
_m.b = tg.nn.Parameter(tg.ones(2)); state = list(_m.state_dict()), [n for n, _b in _m.named_buffers()]

class _Net(tg.nn.Module):
    def __init__(self):
        super().__init__()
        self.a = tg.nn.Linear(2, 3); self.b = tg.nn.ModuleList([tg.nn.Linear(3, 3), tg.nn.ReLU()])
        self.w = tg.nn.Parameter(tg.ones(3)); self.register_buffer("scale", tg.tensor(2.0)); self.d = tg.nn.Dropout(0.0)
        self.register_buffer("passing", tg.zeros(1), persistent=False)
    def forward(self, x):
        return (self.b[1](self.b[0](self.a(x))) * self.w * self.scale).sum()
_m = _Net(); text = repr(_m); names = [n for n, _p in _m.named_parameters()]; state = list(_m.state_dict())
kinds = [type(_x).__name__ for _x in _m.modules()]; children = [n for n, _p in _m.named_children()]
buffers = [n for n, _b in _m.named_buffers()]; count = sum(p.numel() for p in _m.parameters())
_m.eval(); modes = [_x.training for _x in _m.modules()]; keys = sorted(_m._modules); shape = _m.a.weight.shape
_n = copy.deepcopy(_m); same = (_n.w == _m.w).all().item(); parameter = isinstance(_n.w, tg.nn.Parameter)

m = tg.nn.Sequential(tg.nn.Linear(2, 2), tg.nn.Tanh()); text = repr(m); first = repr(m[0]); n = len(m); m = repr(m[1:])

_m = tg.nn.Sequential(); _m.append(tg.nn.ReLU()); _m.add_module("last", tg.nn.Tanh()); text = repr(_m)
y = _m(tg.tensor([-1.0, 1.0]))

_d = tg.nn.ModuleDict({"a": tg.nn.ReLU()}); _d["b"] = tg.nn.Tanh(); text = repr(_d); keys = list(_d.keys())
has = "a" in _d

_l = tg.nn.ParameterList([tg.ones(2), tg.zeros(1)]); n = len(list(_l.parameters())); _l.append(tg.ones(3)); m = len(_l)

_m = tg.nn.Linear(2, 1); _seen = []; x = tg.ones(1, 2, requires_grad=True); tg.nn.init.ones_(_m.weight)
_h = _m.register_forward_hook(lambda m, i, o: _seen.append(len(i)));
_k = _m.register_forward_pre_hook(lambda m, i: (i[0] * 2,))
_b = _m.register_full_backward_hook(lambda m, gi, go: _seen.append([len(gi), go[0].tolist()]))
_m(x).sum().backward(); _h.remove(); _m(x).sum().backward(); seen = _seen

_m = tg.nn.Linear(2, 1)
_m.load_state_dict({"weight": tg.tensor([[1.0, 2.0]]), "bias": tg.tensor([0.5])}); x = tg.ones(3, 2); y = _m(x)
_m.zero_grad(); _m.requires_grad_(False); z = _m(x).requires_grad; text = str(_m.load_state_dict(_m.state_dict()))

_m = tg.nn.Linear(2, 1).to(tg.float32); dtype = _m.weight.dtype; _m.double(); again = _m.weight.dtype
_m.float(); leaf = _m.weight.is_leaf; grad = _m.weight.requires_grad

p = tg.nn.Parameter(tg.ones(2)); text = repr(p); a = isinstance(p, tg.Tensor)
b = isinstance(tg.ones(2), tg.nn.Parameter)
_q = pickle.loads(pickle.dumps(p)); c = isinstance(_q, tg.nn.Parameter)

_m = tg.nn.Linear(2, 1); _m.weight.data.fill_(1.0); _m.bias.data.zero_(); y = _m(tg.ones(2)).item()
_m.apply(lambda _x: tg.nn.init.constant_(_x.weight, 3.0)); z = _m.weight

w = tg.ones(2, requires_grad=True); w.grad = tg.tensor([3.0, 4.0]); n = tg.nn.utils.clip_grad_norm_([w], 2.0)

w = tg.ones(2, requires_grad=True); w.grad = tg.tensor([3.0, -4.0]); tg.nn.utils.clip_grad_value_([w], 2.0)

_m = tg.nn.Linear(2, 1); v = tg.arange(3.0); tg.nn.utils.vector_to_parameters(v, _m.parameters())
u = tg.nn.utils.parameters_to_vector(_m.parameters()).detach(); w = _m.weight.detach()

s = tg.nn.utils.rnn.pad_sequence([tg.ones(2), tg.ones(3), tg.ones(1)], batch_first=True, padding_value=-1.0)

g = [tg.nn.init.calculate_gain(n) for n in ("relu", "tanh", "linear", "leaky_relu", "selu")]

e = tg.nn.init.constant(tg.empty(2, 3), 2.0), tg.nn.init.eye(tg.empty(2, 2)), tg.nn.init.dirac(tg.empty(2, 2, 3))

e = tg.nn.init.eye_(tg.empty(2, 3)); d = tg.nn.init.dirac_(tg.empty(2, 2, 3)); z = tg.nn.init.zeros_(tg.empty(2))
""".strip().split("\n\n")


@pytest.mark.parametrize("program", PROGRAMS)
def test_modules(program):
    agree(program, text=False)


REFUSED = [
    ("tg.nn.Module()(3)", 'Module [Module] is missing the required "forward" function'),
    ("tg.nn.Linear(2, 1).nothing", "'Linear' object has no attribute 'nothing'"),
    ("tg.nn.Linear(2, 1).weight = 3", "as parameter 'weight' (tg.nn.Parameter or None expected)"),
    ("tg.nn.Linear(2, 1).load_state_dict({})", "Missing key(s) in state_dict: \"weight\", \"bias\"."),
    (
        "tg.nn.Linear(2, 1).load_state_dict({'weight': tg.ones(3, 3), 'bias': tg.ones(1), 'more': tg.ones(1)})",
        'Unexpected key(s) in state_dict: "more".',
    ),
    ("tg.nn.Linear(2, 1).load_state_dict({'weight': tg.ones(3, 3), 'bias': tg.ones(1)})", "size mismatch for weight"),
    ("tg.nn.Linear(2, 1).register_buffer('a.b', tg.ones(1))", 'contain "."'),
    ("tg.nn.Linear(2, 1).register_buffer('weight', tg.ones(1))", "attribute 'weight' already exists"),
    ("tg.nn.Dropout(2.0)", "dropout probability has to be between 0 and 1, but got 2.0"),
    ("tg.nn.Conv2d(3, 4, 2, groups=2)", "in_channels must be divisible by groups"),
    ("tg.nn.BatchNorm2d(2)(tg.ones(2, 2))", "expected 4D input (got 2D input)"),
    ("tg.nn.MultiheadAttention(3, 2)", "embed_dim must be divisible by num_heads"),
    ("tg.nn.ModuleList([tg.nn.ReLU()])[3]", "index 3 is out of range"),
    ("tg.nn.Linear(2, 1).to(tg.int64)", "nn.Module.to only accepts floating point or complex dtypes"),
    ("tg.nn.LSTM(2, 3)(tg.ones(2, 5))", "input.size(-1) must be equal to input_size. Expected 2, got 5"),
    ("w = tg.ones(1, requires_grad=True); w.grad = tg.tensor([inf]); tg.nn.utils.clip_grad_norm_([w], 1.0, "
     "error_if_nonfinite=True)", "is non-finite, so it cannot be clipped"),
]  # fmt: skip


@pytest.mark.parametrize(("program", "phrase"), REFUSED)
def test_refusals(program, phrase):
    refuse_alike(program, phrase)


def test_first_values_are_drawn_as_pytorchs():
    n = 4000
    for library in (torch, tapegrad):
        library.manual_seed(0)
    for text in (
        "Linear(50, 80)",
        "Conv2d(4, 40, 5)",
        "Embedding(80, 50)",
        "LSTM(20, 25)",
        "MultiheadAttention(40, 2)",
    ):
        theirs, ours = (dict(module(library, text).named_parameters()) for library in (torch, tapegrad))
        for name, t in theirs.items():
            a, b = t.detach().numpy().ravel(), ours[name].detach().numpy().ravel()
            if len(a) >= n:
                np.testing.assert_allclose([b.std(), np.abs(b).max()], [a.std(), np.abs(a).max()], rtol=0.25)
                assert abs(b.mean()) < 4 * a.std() / np.sqrt(len(a))
    for text in (
        "xavier_uniform_",
        "xavier_normal_",
        "kaiming_uniform_",
        "kaiming_normal_",
        "orthogonal_",
        "trunc_normal_",
    ):
        a, b = (getattr(lib.nn.init, text)(lib.empty(60, 80)).detach().numpy() for lib in (torch, tapegrad))
        np.testing.assert_allclose(b.std(), a.std(), rtol=0.05)


def test_modules_are_copied_and_pickled():
    m = tapegrad.nn.Sequential(tapegrad.nn.Linear(2, 3), tapegrad.nn.BatchNorm1d(3), tapegrad.nn.Dropout(0.1))
    for made in (copy.deepcopy(m), pickle.loads(pickle.dumps(m))):
        for (name, a), (other, b) in zip(m.state_dict().items(), made.state_dict().items(), strict=True):
            assert name == other
            np.testing.assert_array_equal(a.numpy(), b.numpy())
        assert [type(p) for p in made.parameters()] == [tapegrad.Tensor] * 4


def test_a_parameter_shares_what_others_hold_and_is_what_nobody_holds():
    tg = tapegrad
    alone = tg.nn.Parameter(tg.ones(3))
    assert not hasattr(alone, "_origin")
    assert not hasattr(tg.nn.Linear(2, 3).weight, "_origin")
    data = tg.ones(3)
    p = tg.nn.Parameter(data)
    assert p is not data
    assert not data.requires_grad
    with tg.no_grad():
        p.add_(1)
    assert data.tolist() == [2.0] * 3
    assert not isinstance(data, tg.nn.Parameter)
    x = tg.ones(3, requires_grad=True)
    q = tg.nn.Parameter(x)
    (q * 2).sum().backward()
    assert x.grad is None
    assert tg.nn.Parameter(x * 2).is_leaf
    assert not tg.nn.Parameter(tg.ones(1), requires_grad=False).requires_grad


def test_buffers_that_are_no_longer_tracked_stay():
    agree(
        "_m = tg.nn.BatchNorm1d(3); _m.track_running_stats = False; y = _m(tg.arange(6.0).reshape(2, 3))\n"
        "count, mean = _m.num_batches_tracked, _m.running_mean"
    )


def test_whoever_takes_an_extra_state_asks_for_it():
    class Takes(tapegrad.nn.Module):
        def set_extra_state(self, state):
            raise AssertionError

    class Gives(tapegrad.nn.Module):
        def get_extra_state(self):
            return "extra"

    with pytest.raises(RuntimeError, match=r'Missing key.*"_extra_state"'):
        Takes().load_state_dict({})
    with pytest.raises(RuntimeError, match=r'Unexpected key.*"_extra_state"'):
        Gives().load_state_dict(Gives().state_dict())
    assert not Gives().load_state_dict(Gives().state_dict(), strict=False).missing_keys


def test_what_is_no_tensor_in_a_state_is_named():
    layer = tapegrad.nn.Linear(1, 1)
    with pytest.raises(RuntimeError, match='While copying the parameter named "weight", expected'):
        layer.load_state_dict(layer.state_dict() | {"weight": object})


@pytest.mark.parametrize("name", ["kaiming_normal_", "kaiming_uniform_"])
def test_nothing_to_be_given_values_is_told(name):
    with pytest.warns(UserWarning, match="Initializing zero-element tensors is a no-op"):
        assert getattr(tapegrad.nn.init, name)(tapegrad.empty(1, 0)).shape == (1, 0)


def test_names_of_attributes_are_no_numbers():
    model = tapegrad.nn.Sequential(tapegrad.nn.Identity())
    assert "0" not in dir(model)
    assert "training" in dir(model)


# --- modules of others ------------------------------------------------------------------------------------------------


def _scaled(package):
    class Scaled(package.nn.Module):
        """Counts the loads, in a hook that is a method of its own; has names that tapegrad's Module might have."""

        loads, _take, _get, _hooks = 0, 1, 2, ()

        def __init__(self):
            super().__init__()
            self.w = package.nn.Parameter(package.tensor([1.0, 2.0]))
            self.register_buffer("shift", package.ones(2))
            self._register_load_state_dict_pre_hook(self._count)

        def _count(self, *args):
            self.loads += 1

        def forward(self, x):
            return self.w * x + self.shift

    return Scaled


class _Hooked(tapegrad.nn.Linear):
    def __init__(self):
        super().__init__(2, 2)
        self.loads = 0
        self._register_load_state_dict_pre_hook(self._count)

    def _count(self, *args):
        self.loads += 1


def test_names_of_modules_of_others_are_free():
    for package in torch, tapegrad:
        made = _scaled(package)()
        made.register_forward_hook(lambda module, args, result: 2 * result)
        made.load_state_dict({"w": package.tensor([3.0, 4.0]), "shift": package.zeros(2)})
        assert made(package.ones(2)).tolist() == [6.0, 8.0]
        assert made.get_parameter("w") is made.w
        assert made.loads == 1


def test_a_copied_module_has_its_own_hooks():
    first = [_scaled(torch)(), _scaled(tapegrad)(), _Hooked()]
    others = [*map(copy.deepcopy, first), pickle.loads(pickle.dumps(first[2]))]
    for module, other in zip([*first, first[2]], others, strict=True):
        other.load_state_dict(module.state_dict())
        assert (module.loads, other.loads) == (0, 1)


@pytest.mark.parametrize("package", [torch, tapegrad])
def test_a_module_may_be_a_distribution(package):
    class Prior(package.distributions.Normal, package.nn.Module):
        def __init__(self, loc, scale):
            package.nn.Module.__init__(self)
            package.distributions.Normal.__init__(self, loc, scale)
            self.register_buffer("seen", package.zeros(2))

    prior = Prior(1.0, 2.0)
    prior.load_state_dict({"seen": package.ones(2)})
    assert prior.seen.tolist() == [1.0, 1.0]
    assert float(prior.log_prob(package.tensor(1.0))) == pytest.approx(-1.6120857)
