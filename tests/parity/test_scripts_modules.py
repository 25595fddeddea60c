"""What scripts ask of modules, optimisers and loaders beside their numbers: hooks, texts, states, refusals."""

import pytest

import tapegrad as tg

from .oracle import agree, programs, refuse_alike

NET = """
nn = tg.nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(2, 3), nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
        self.p = nn.Parameter(tg.ones(2)); self.register_buffer("r", tg.ones(1))
net = Net()
with tg.no_grad():
    for t in net.parameters(): t.copy_(tg.arange(t.numel()).reshape(t.shape) / 7)
state = net.state_dict(); x = tg.tensor([[0.5, -1.0], [1.0, 2.0]])
"""

PROGRAMS = programs("""
versions = dict(state._metadata); net.state_dict(destination=state, prefix="q.")._metadata["q.b.1"]

_f = lambda m, s, prefix, known, *rest: print(prefix, known)
net.register_load_state_dict_pre_hook(_f); net.load_state_dict(state); net.load_state_dict(dict(state))

def _post(m, keys): print(keys.missing_keys, keys.unexpected_keys); keys.missing_keys.clear()
_h = net.register_load_state_dict_post_hook(_post)
print(net.load_state_dict({k: t + 1 for k, t in state.items() if k != "p"})); net.a.weight

print(net.load_state_dict({"p": tg.zeros(2), "z": tg.ones(1)}, strict=False))

log = []
_f = lambda m, gi, go: log.append(([g if g is None else tuple(g.shape) for g in gi], [tuple(g.shape) for g in go]))
for _m in (net.a, net.b, net.b[1]): _m.register_full_backward_hook(_f)
net.b(net.a(x)).sum().backward()
_y = x.clone().requires_grad_(); net.a(_y).sum().backward()

class _Scaled(nn.Module):
    def forward(self, k, t, other=None): return t * k, k
_s = _Scaled(); log = []; _t = tg.ones(2, requires_grad=True)
_s.register_full_backward_hook(lambda m, gi, go: (log.append([len(gi), len(go), go[1]]), (None, gi[1] * 5))[1])
_s(3.0, _t)[0].sum().backward(); grad = _t.grad

print(nn.ParameterList([tg.ones(2), tg.zeros(1, 3)]), nn.ParameterList([tg.ones(2)]), nn.ParameterList())
print(nn.ParameterDict({"a": tg.ones(1)}), nn.ParameterDict({"a": tg.ones(1), "b": tg.zeros(2, 2)}))

s = nn.Sequential(nn.ReLU()) * 2 + nn.Sequential(nn.Tanh()); print(s, 2 * nn.Sequential(nn.ELU()))
s *= 2; print(len(s))
s += nn.Sequential(nn.GELU()); print(s)

o = tg.optim.Adam(net.parameters(), lr=0.5); _log = print
o.register_state_dict_pre_hook(lambda o: print("pre")); o.register_state_dict_post_hook(lambda o, s: s.update(z=1))
_s = o.state_dict(); print("z" in _s)
o.register_load_state_dict_pre_hook(lambda o, s: {**s, "param_groups": [{**s["param_groups"][0], "lr": 0.25}]})
o.register_load_state_dict_post_hook(lambda o: print("taken")); o.load_state_dict(_s); lr = o.param_groups[0]["lr"]

class _Batches(tg.utils.data.Dataset):
    def __getitem__(self, i): return i
    def __getitems__(self, places): return [i * 10 for i in places]
    def __len__(self): return 4
list(tg.utils.data.DataLoader(_Batches(), batch_size=2)), list(tg.utils.data.DataLoader(_Batches(), batch_size=None))
""")

REFUSALS = [
    ("nn.Conv2d(2, 2, 3, padding='same', stride=2)", "padding='same' is not supported for strided convolutions"),
    ("nn.Conv2d(2, 2, 3, padding='some')", "Invalid padding string 'some', should be one of"),
    ("nn.GRU(3, 4, proj_size=2)", "proj_size argument is only supported for LSTM, not RNN or GRU"),
    ("nn.RNN(3, 4, proj_size=2)", "proj_size argument is only supported for LSTM, not RNN or GRU"),
    ("nn.RNN(3, 4)(tg.ones(1, 2, 3, 3))", "RNN: Expected input to be 2D or 3D, got 4D tensor instead"),
    ("nn.Transformer(4, 1, 1, 1, 4)(tg.ones(5, 3, 4), tg.ones(5, 2, 4))", "the batch number of src and tgt must be"),
    ("nn.Transformer(4, 1, 1, 1, 4)(tg.ones(5, 2, 6), tg.ones(5, 2, 6))", "the feature number of src and tgt must be"),
    ("net.get_parameter('a')", "`a` is not an nn.Parameter"),
    ("net.get_parameter('a.z')", "Linear has no attribute `z`"),
    ("net.get_buffer('p')", "`p` is not a buffer"),
    ("net.p = tg.ones(2)", "cannot assign 'tg.DoubleTensor' as parameter 'p' (tg.nn.Parameter or None expected)"),
    ("net.register_parameter('q', tg.ones(1))", "cannot assign 'tg.DoubleTensor' object to parameter 'q'"),
    ("nn.Sequential(nn.ReLU()) + [1]", "add operator supports only objects of Sequential class"),
    ("nn.Sequential(nn.ReLU()) * 0", "Non-positive multiplication factor 0 for"),
    ("nn.Sequential(nn.ReLU()) * 1.5", "unsupported operand type(s) for *"),
    ("nn.ModuleList(5)", "ModuleList.extend should be called with an iterable, but got int"),
    (
        "nn.ModuleDict().update(5)",
        "ModuleDict.update should be called with an iterable of key/value pairs, but got int",
    ),
    ("tg.optim.Adam([net.p], foreach=True, fused=True)", "`fused` and `foreach` cannot be `True` together."),
    ("tg.utils.data.DataLoader([1], timeout=-1)", "timeout option should be non-negative"),
    ("tg.utils.data.WeightedRandomSampler([1.0], 0)", "num_samples should be a positive integer value"),
    (
        "net.a.register_full_backward_hook(lambda m, gi, go: (tg.ones(1),)); net.a(x).sum().backward()",
        "Backward hook for Modules where no input requires gradient should always return None",
    ),
]


@pytest.mark.parametrize("program", PROGRAMS)
def test_agree_with_pytorch(program: str):
    agree(NET + program, text=False)


@pytest.mark.parametrize(("program", "phrase"), REFUSALS)
def test_refusals(program: str, phrase: str):
    refuse_alike(NET + program, phrase)


def test_missing_keys_that_no_hook_forgives_leave_the_module_as_it_was():
    net = tg.nn.Linear(1, 1)
    before = net.weight.item()
    with pytest.raises(RuntimeError, match="Missing key"):
        net.load_state_dict({"weight": tg.ones(1, 1)})
    assert net.weight.item() == before
