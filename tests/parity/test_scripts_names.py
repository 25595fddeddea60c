"""What scripts import and hook into beside layers: modules by PyTorch's paths, pruning, hooks of modules and steps."""

import pytest

import tapegrad as tg

from .oracle import agree, programs, refuse_alike

LINEAR = """
def _linear(n=4, out=3, seed=5):
    r, made = np.random.default_rng(seed), tg.nn.Linear(n, out, dtype=tg.float64)
    made.load_state_dict({"weight": tg.tensor(r.normal(size=(out, n))), "bias": tg.tensor(r.normal(size=out))})
    return made
def _facts(made, *x):
    y = made(*(x or [tg.tensor(reals(5, 4))])); (y * weights(y)).sum().backward()
    return [y, [[n, p.grad] for n, p in made.named_parameters()], dict(made.named_buffers()), list(made.state_dict())]
class _Net(tg.nn.Module):
    def __init__(self, fails=False): super().__init__(); self.line, self.fails, self.extra = _linear(), fails, 3
    def forward(self, x, scale=1.0):
        if self.fails: raise ValueError("no")
        return self.line(x) * scale
    def get_extra_state(self): return {"extra": self.extra}
    def set_extra_state(self, state): self.extra = state["extra"]
import importlib as _i
_of = lambda path: _i.import_module(tg.__name__ + "." + path)
_prune = _of("nn.utils.prune")
"""
PROGRAMS = programs("""
_p = _of("nn.utils.prune"); _m = _p.l1_unstructured(_linear(), "weight", amount=5); f = _facts(_m); w = _m.weight
_p.ln_structured(_m, "weight", amount=0.34, n=2, dim=0); g = _facts(_m); _h = next(iter(_m._forward_pre_hooks.values()))
n = len(_h), _h._tensor_name, type(_h[1]).__name__, _p.is_pruned(_m); _p.remove(_m, "weight"); h = _facts(_m), _m.weight

_p = _of("nn.utils.prune"); _m = tg.nn.Sequential(_linear(), tg.nn.Tanh(), _linear(3, 2, 6))
_p.global_unstructured([(_m[0], "weight"), (_m[2], "weight")], _p.L1Unstructured, amount=0.5); f = _facts(_m)
_p.l1_unstructured(_m[0], "bias", 2, tg.tensor([1.0, 3.0, 2.0])); g = _m[0].bias
_s = {k: v * 2 for k, v in _m.state_dict().items()}; _m.load_state_dict(_s); h = _facts(_m)

_p = _of("nn.utils.prune")
class _Odd(_p.BasePruningMethod):
    PRUNING_TYPE = "unstructured"
    def compute_mask(self, t, default_mask): m = default_mask.clone(); m.view(-1)[::2] = 0; return m
_m = _linear(); _Odd.apply(_m, "bias"); _p.identity(_m, "weight"); f = _facts(_m)
_p.custom_from_mask(_m, "weight", tg.tensor([[1, 0, 1, 0]]).expand(3, 4)); g = _m.weight, _m.weight_mask
h = _Odd().prune(tg.ones(4)), _p.ln_structured(_linear(), "weight", 1, float("inf"), 1).weight

_p = _of("nn.utils.prune"); _m = _p.random_unstructured(_linear(), "weight", 4); n = int(_m.weight_mask.sum())
_p.random_structured(_m, "weight", 1, dim=1); m = int((_m.weight_mask.sum(0) == 0).sum()) > 0

_a, _n = _of("nn.modules.batchnorm"), tg.nn
f = [isinstance(_n.BatchNorm2d(2), _a._BatchNorm), isinstance(_n.Conv1d(2, 2, 1), _of("nn.modules.conv")._ConvNd)]
f += [isinstance(_n.CrossEntropyLoss(), _of("nn.modules.loss")._WeightedLoss), _of("nn.modules.utils")._pair(3)]
f += [isinstance(_n.MSELoss(), _n.modules.loss._Loss), _of("nn.modules.utils")._pair((1, 2))]
f += [_n.modules.Linear is _n.Linear]
f += [_of("optim.adam").Adam is tg.optim.Adam, _of("distributions.normal").Normal is tg.distributions.Normal]
_d = _of("distributions.kl").kl_divergence; g = _d(tg.distributions.Normal(0.0, 1.0), tg.distributions.Normal(1.0, 2.0))
class _L(_n.modules.loss._Loss):
    def forward(self, x): return x.mean() if self.reduction == "mean" else x.sum()
h = _L()(tg.arange(3.0)), _L(None, None, "sum")(tg.arange(3.0)), _of("nn.utils.clip_grad").clip_grad_norm_.__name__

_u = _of("distributions.utils"); x = _u.broadcast_all(tg.ones(2), 0.5); p = tg.tensor([0.2, 0.0, 0.8])
y = _u.probs_to_logits(p), _u.probs_to_logits(p, True), _u.logits_to_probs(p), _u.logits_to_probs(p, True)
z = _u.clamp_probs(p), _u.vec_to_tril_matrix(tg.arange(6.0)), _u.tril_matrix_to_vec(tg.arange(9.0).view(3, 3), -1)

_D = tg.distributions; _m = _D.MixtureSameFamily(_D.Categorical(tg.tensor([0.3, 0.7])),
                       _D.Normal(tg.tensor([-1.0, 1.0]), tg.tensor([0.5, 1.5]))); x = _m.log_prob(tg.tensor([0.0, 1.0]))
_g = _D.MixtureSameFamily(_D.Categorical(tg.ones(2)), _D.Gamma(tg.ones(2), tg.ones(2))); y = _g.log_prob(tg.tensor(2.0))
class _Even(_D.constraints.Constraint):
    def check(self, value): return value.remainder(2).eq(0)
class _Two(_D.Poisson): support = _Even()
z = _Two(tg.tensor(3.0)).log_prob(tg.tensor(4.0))

_m = tg.nn.DataParallel(_linear()); f = _facts(_m); _s = dict(_m.state_dict())
_of("nn.modules.utils").consume_prefix_in_state_dict_if_present(_s, "module."); g = _linear().load_state_dict(_s)

_m = tg.nn.SyncBatchNorm.convert_sync_batchnorm(tg.nn.Sequential(tg.nn.BatchNorm1d(4), tg.nn.Linear(4, 4)))
r = repr(_m[0])
_m = _m[0].double(); f = _facts(_m), _facts(_m.eval()), _m(tg.ones(2, 4, 1, 1, dtype=tg.float64))

_m = _Net(); _s = _m.state_dict(); k = list(_s); e = _s["_extra_state"]; _n = _Net(); _n.extra = 0
f = _n.load_state_dict(_s); x = _n.extra; f2 = _n.load_state_dict({}, strict=False)
_l = []; _m.register_state_dict_pre_hook(lambda m, prefix, keep: _l.append([prefix, keep]))
_m.register_state_dict_post_hook(lambda m, s, prefix, meta: s.__delitem__("line.bias")); g = list(_m.state_dict())
_m.register_load_state_dict_pre_hook(lambda m, s, *a: s.__setitem__("line.bias", tg.zeros(3, dtype=tg.float64)))
_m.register_load_state_dict_post_hook(lambda m, keys: keys.unexpected_keys.clear()); h = _m.load_state_dict(_s)
b = _m.line.bias; l = _l

_m, _l = _Net(fails=True), []
_m.register_forward_hook(lambda m, a, y: _l.append(["always", y is None]), always_call=True)
_m.register_forward_hook(lambda m, a, y: _l.append("never"))
try: _m(tg.ones(4))
except ValueError: _l.append("raised")
l = _l

_m, _l = _Net(), []; _m.register_forward_hook(lambda m, a, k, y: _l.append(sorted(k)) or y * 2, with_kwargs=True)
_m.register_forward_pre_hook(lambda m, a, k: (a, {**k, "scale": 3.0}), with_kwargs=True, prepend=True)
y = _m(tg.ones(4, dtype=tg.float64), scale=2.0); n = len(_m._forward_hooks); _m._forward_hooks.clear(); l = _l
z = _m(tg.ones(4, dtype=tg.float64))

_h, _l = _of("nn.modules.module"), []; _m = tg.nn.Sequential(_linear(), tg.nn.Tanh())
_a = _h.register_module_forward_hook(lambda m, a, y: _l.append(type(m).__name__))
_b = _h.register_module_forward_pre_hook(lambda m, a: _l.append("pre"))
_c = _h.register_module_full_backward_hook(lambda m, gi, go: _l.append(["back", type(m).__name__, go[0]]))
try: _m(tg.tensor(reals(2, 4), requires_grad=True)).sum().backward()
finally: _a.remove(), _b.remove(), _c.remove()
_m(tg.tensor(reals(2, 4))); l = _l

_m = tg.nn.Sequential(_linear(), tg.nn.Tanh()); _m.set_submodule("1", tg.nn.ReLU()); r = repr(_m)
_d = tg.nn.ParameterDict({"a": tg.ones(2)}); f = _d.get("a"), _d.get("b"), _d.setdefault("c", tg.zeros(1))
g = _d.pop("a"), list(_d.copy()), _d.popitem()[0], len(_d)

_w, _l = tg.ones(2, dtype=tg.float64, requires_grad=True), []
class _Mine(tg.optim.Optimizer):
    def __init__(self, params): super().__init__(params, {"lr": 0.5})
    def step(self, closure=None):
        with tg.no_grad():
            for p in self.param_groups[0]["params"]: p.sub_(p.grad, alpha=0.5)
for _o in (_Mine([_w]), tg.optim.SGD([_w], lr=0.1), tg.optim.LBFGS([_w], max_iter=2)):
    _o.register_step_pre_hook(lambda o, a, k: _l.append(["pre", a[0] is o, len(a), sorted(k)]))
    _o.register_step_post_hook(lambda o, a, k: _l.append("post"))
    _w.grad = tg.ones(2, dtype=tg.float64)
    def _c():
        _o.zero_grad(); y = (_w * _w).sum(); y.backward(); return y
    _o.step(_c)
l = _l; w = _w

class _F:
    def __init__(self): self.factor = 0.5
    def __call__(self, epoch): return self.factor**epoch
_o = tg.optim.SGD([{"params": [tg.ones(1)]}, {"params": [tg.ones(1)]}], lr=1.0)
_s = tg.optim.lr_scheduler.LambdaLR(_o, [_F(), lambda e: 1.0 / (e + 1)]); _o.step(); _s.step()
d = _s.state_dict()["lr_lambdas"]
_s.load_state_dict(_s.state_dict() | {"lr_lambdas": [{"factor": 0.25}, None]}); _s.step(); r = _s.get_last_lr()

_of("cuda.amp"), _of("backends.cudnn"); _x = tg.ones(2, requires_grad=True)
f = [tg.version.cuda, tg.cuda.is_available(), tg.cuda.device_count(), tg.backends.cudnn.is_available()]
with _of("cuda.amp").autocast(enabled=False): _y = (_x * 2).sum()
g = tg.autograd.grad(outputs=_y, inputs=_x, only_inputs=True)
class _S(tg.autograd.Function):
    @staticmethod
    @tg.amp.custom_fwd(device_type="cpu")
    def forward(ctx, x): return x * 3
    @staticmethod
    @tg.amp.custom_bwd(device_type="cpu")
    def backward(ctx, g): return g * 3
h = _S.apply(_x), tg.autograd.grad(_S.apply(_x).sum(), _x)

_g = tg.autograd.graph; x = tg.ones(2, requires_grad=True); _g.increment_version([x.detach(), x * 1]); n = x._version
with _g.allow_mutation_on_saved_tensors(): _y = x.clone(); _z = _y.sin(); _y.mul_(3); _z.sum().backward()
with _g.disable_saved_tensors_hooks("none here"):
    try:
        with _g.saved_tensors_hooks(abs, abs): pass
    except RuntimeError as e: s = str(e)
with _g.saved_tensors_hooks(lambda t: t, lambda t: t): z = (x * x).sum()
_a = _of("nn.attention"); b = _a.SDPBackend.MATH.name
with _a.sdpa_kernel([_a.SDPBackend.MATH]): y = tg.nn.functional.scaled_dot_product_attention(*[tg.ones(1, 2, 3)] * 3)

d = {"float32": tg.float32, "bfloat16": tg.bfloat16, "float16": tg.float16}["float32"]; e = tg.ones(1).dtype == tg.half
f = tg.float16 if tg.cuda.is_available() else tg.float32; g = tg.ones(1, dtype=tg.int64).dtype in (tg.uint8, tg.int16)
""")  # fmt: skip


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step:UserWarning")
@pytest.mark.parametrize("program", PROGRAMS)
def test_programs(program):
    agree(LINEAR + program, text=False, tolerance=1e-6)


REFUSED = [
    ("_prune.l1_unstructured(_linear(), 'weight', 20)", "amount=20 should be smaller than the nu"),
    ("_prune.l1_unstructured(_linear(), 'weight', 1.5)", "amount=1.5 should either be a float in"),
    ("_prune.l1_unstructured(_linear(), 'weight', 'a')", "Invalid type for amount: a. Must be int"),
    ("_prune.ln_structured(_linear(), 'bias', 1, 2, 0)", "Structured pruning can only be applied"),
    ("_prune.remove(_linear(), 'weight')", "Parameter 'weight' of module Linear(in_features=4, "),
    ("tg.nn.SyncBatchNorm(3)(tg.ones(3))", "expected at least 2D input (got 1D input)"),
    ("_linear().get_extra_state()", "Reached a code path in Module.get_extra_state() that should never be called."),
    ("_linear().set_submodule('', tg.nn.ReLU())", "Cannot set the submodule without a target name!"),
    ("_of('nn.parallel').DistributedDataParallel(_linear())", "Default process group has not been initialized"),
    ("_of('distributions.utils').vec_to_tril_matrix(tg.ones(5))", "The size of last dimension is 5 which cannot be"),
]  # fmt: skip


@pytest.mark.parametrize(("program", "phrase"), REFUSED)
def test_refusals(program, phrase):
    refuse_alike(LINEAR + program, phrase)


def test_a_failed_pruning_changes_nothing():
    prune, line = tg.nn.utils.prune, tg.nn.Linear(2, 2)
    prune.identity(line, "weight")
    before = list(line.state_dict()), list(line._forward_pre_hooks)
    with pytest.raises(ValueError, match="amount=9"):
        prune.l1_unstructured(line, "weight", 9)
    with pytest.raises(ValueError, match="amount=9"):
        prune.l1_unstructured(line, "bias", 9)
    assert (list(line.state_dict()), list(line._forward_pre_hooks)) == before


CLOSE = [
    ("tg.tensor([1.0, 2.0])", "tg.tensor([1.0, 3.0])", ""), ("tg.tensor([1, 2])", "tg.tensor([1, 3])", ""),
    ("tg.ones(1)", "tg.ones(2)", ""), ("1.0", "2.0", ""),
    ("[tg.ones(1), tg.tensor(2.0)]", "[tg.ones(1), tg.tensor(3.0)]", ""),
    ("dict(a=tg.tensor(1.0))", "dict(a=tg.tensor(2.0))", ""), ("1.0", "2.0", "msg='so'"), ("[1]", "(1, 2)", ""),
    ("1.0", "2.0", "msg=lambda m: m + '!'"), ("True", "False", ""), ("tg.tensor([True])", "tg.tensor([False])", ""),
    ("None", "1", ""), ("tg.tensor(np.nan)", "tg.tensor(np.nan)", ""), ("tg.tensor([np.inf])", "tg.tensor([1.0])", ""),
    ("tg.ones(2, dtype=tg.float32)", "tg.ones(2, dtype=tg.float64)", ""), ("1", "2", ""), ("tg.ones(1)", "1.0", ""),
    ("tg.ones(1)", "tg.zeros(1)", "rtol=1"), ("tg.ones(1)", "tg.ones(1) + 1e-8", ""), ("1.0", "1.0 + 1e-9", ""),
    ("tg.tensor([np.nan])", "tg.tensor([np.nan])", "equal_nan=True"), ("tg.ones(2)", "tg.zeros(2)", "rtol=0, atol=1"),
]  # fmt: skip


@pytest.mark.parametrize(("actual", "expected", "options"), CLOSE)
def test_assert_close_says_what_pytorchs_says(actual, expected, options):
    agree(f"""
import re as _re; _t = __import__(tg.__name__ + ".testing").testing
try: _t.assert_close({actual}, {expected}, {options}); said = ""
except Exception as e: said = type(e).__name__, _re.sub("tapegrad(.tensor)?", "torch", str(e))
""", text=False)  # fmt: skip


def test_make_tensor():
    for dtype in (tg.float32, tg.float64, tg.int64, tg.bool):
        made = tg.testing.make_tensor(3, 4, dtype=dtype, low=0, high=2, noncontiguous=True, exclude_zero=True)
        assert (made.shape, made.dtype, made.is_contiguous()) == ((3, 4), dtype, False)
        assert ((made > 0) & (made <= 2)).all()
    assert tg.testing.make_tensor((2,), dtype=tg.float64, requires_grad=True).is_leaf


def test_jit_leaves_functions_as_they_are():
    jit = tg.jit

    @jit.script
    def f(x):
        return x * 2

    @jit.ignore
    def g(x):
        return x

    @jit.ignore(drop=True)
    def h(x):
        return x

    assert (f(tg.ones(1)).item(), g(1), h(1), jit.is_scripting(), jit.annotate(list[int], [])) == (2.0, 1, 1, False, [])
    assert jit.trace(f, (tg.ones(1),)) is f
    for value, of in (([1, 2], list[int]), ({"a": (1, 2.0)}, dict[str, tuple[int, float]]), (1, int | None)):
        assert jit.isinstance(value, of)
    assert not jit.isinstance([1, "a"], list[int])
    with pytest.raises(RuntimeError, match="eval mode"):
        jit.freeze(tg.nn.Linear(1, 1))


@pytest.mark.parametrize("name", ["float16", "half", "bfloat16", "uint16", "complex64"])
def test_dtypes_that_are_only_named_are_refused(name):
    named = getattr(tg, name)
    for make in (lambda: tg.ones(2, dtype=named), lambda: tg.ones(2).to(named), lambda: tg.nn.Linear(2, 2).to(named)):
        with pytest.raises(TypeError, match=r"dtype must be one of tapegrad\.bool.*int"):
            make()
