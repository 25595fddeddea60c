"""Optimisers and schedules: PyTorch's numbers, step for step, its state and its refusals."""

import copy
import gc
import types
import weakref

import numpy as np
import pytest

import tapegrad as tg

from .oracle import agree, refuse_alike, torch

OPTIMISERS = """
SGD lr=0.01
SGD lr=0.01, momentum=0.9
SGD lr=0.01, momentum=0.9, nesterov=True, weight_decay=0.1
SGD lr=0.001, momentum=0.9, dampening=0.3, maximize=True
Adam lr=0.1
Adam lr=0.1, betas=(0.5, 0.9), weight_decay=0.1, amsgrad=True
Adam lr=0.1, eps=0.1, maximize=True
Adam lr=tg.tensor(0.1)
AdamW lr=0.1
AdamW lr=0.1, weight_decay=0.5, amsgrad=True
Adagrad lr=0.1
Adagrad lr=0.1, lr_decay=0.1, weight_decay=0.1, initial_accumulator_value=0.5
RMSprop lr=0.01
RMSprop lr=0.01, centered=True, momentum=0.5, alpha=0.8, weight_decay=0.1
Adadelta lr=1.0
Adadelta lr=0.5, rho=0.5, eps=1e-3, weight_decay=0.1
Adamax lr=0.1
Adamax lr=0.1, betas=(0.5, 0.8), weight_decay=0.1
NAdam lr=0.1
NAdam lr=0.1, momentum_decay=0.1, weight_decay=0.1, decoupled_weight_decay=True
RAdam lr=0.1
RAdam lr=0.1, betas=(0.5, 0.6), weight_decay=0.1
RAdam lr=0.1, betas=(0.5, 0.6), weight_decay=0.1, decoupled_weight_decay=True
ASGD lr=0.1
ASGD lr=0.1, t0=3, lambd=0.1, weight_decay=0.1
Adafactor lr=0.1
Adafactor lr=0.1, beta2_decay=-0.5, eps=(1e-3, 0.1), d=2.0, weight_decay=0.1
Rprop lr=0.1
Rprop lr=0.1, etas=(0.3, 1.5), step_sizes=(0.01, 0.2)
""".strip().splitlines()

DESCENT = """
def _loss(x, w): return ((x ** 2).sum() - 1) ** 2 + (w.sin() * x[0]).sum() + (w ** 4).sum()
x = tg.tensor([1.0, -0.7, 0.3], dtype=tg.{dtype}, requires_grad=True)
w = tg.tensor([[0.5], [-1.5]], dtype=tg.{dtype}, requires_grad=True); unused = tg.ones(2, requires_grad=True)
_o = tg.optim.{name}([x, w, unused], {options})
for _i in range(12):
    _o.zero_grad(); _loss(x, w).backward(); _o.step()
x, w, unused = x.tolist(), w.tolist(), unused.tolist()
"""


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_descents_are_pytorchs(optimiser, dtype):
    name, options = optimiser.split(" ", 1)
    if dtype == "float32" and ("centered" in options or name == "Rprop"):
        pytest.skip("a difference of two means, and signs: rounding decides")
    tolerance = 1e-10 if dtype == "float64" else 2e-4
    agree(DESCENT.format(name=name, options=options, dtype=dtype), tolerance=tolerance)


PROGRAMS = """
x = tg.ones(2, requires_grad=True); w = tg.ones(2, requires_grad=True)
_o = tg.optim.SGD([{"params": [x]}, {"params": [w], "lr": 0.5}], lr=0.1, momentum=0.5)
for _i in range(3): _o.zero_grad(); (x ** 2 + w ** 3).sum().backward(); _o.step()
n = len(_o.param_groups); lr = [g["lr"] for g in _o.param_groups]; m = _o.state[w]["momentum_buffer"]

x = tg.ones(2, requires_grad=True); _o = tg.optim.Adam([x]); (x ** 2).sum().backward(); _o.step(); d = _o.state_dict()
d["param_groups"][0].pop("params"); d = d["param_groups"]

x = tg.ones(2, requires_grad=True); _o = tg.optim.Adam([x], lr=0.1); (x ** 2).sum().backward(); _o.step()
_p = tg.optim.Adam([x], lr=3.0); _p.load_state_dict(_o.state_dict()); _p.step(); s = _p.state[x]["exp_avg"]

x = tg.ones(2, requires_grad=True); w = tg.ones(3, requires_grad=True); _o = tg.optim.NAdam([x, w], lr=0.1)
def _step(): (x ** 2).sum().backward(); (w ** 3).sum().backward(); _o.step(); return _o.state[w]["step"].item()
seen = [_step() for _i in range(2)]; _h = _o.state[x]["step"]; _step(); _k = _o.state[w].get("mu_product")
seen += [_h.item(), round(_k.item(), 6)]; _step(); seen += [_h.item(), round(_k.item(), 6)]; _h.fill_(20.0); _step()
_o.state[w]["step"] += 30; _step(); _f = _o.state[x].items(); seen += [sorted((k, v.shape) for k, v in _f), _h.item()]
_h = _k = None; _step(); seen += [_o.state[t]["step"].item() for t in (x, w)]; x.grad = w.grad = None

class _Own(tg.optim.Optimizer):
    def step(self): self.state[x]["step"] = self.state[x].get("step", 0) + 1; self.state[x]["mu"] = tg.ones(1)
x = tg.ones(2, requires_grad=True); _o = _Own([x], {}); _o.step(); _o.step(); _d = _o.state_dict()["state"][0]
_p = _Own([x], {}); _p.load_state_dict(_o.state_dict()); _p.step()
seen = [_d["step"], _p.state[x]["step"], type(_d["mu"]) is type(x), _p.state[x]["mu"].shape]

x = tg.ones(2, requires_grad=True); x.grad = tg.ones(2); _o = tg.optim.ASGD([x], lr=0.1); _o.step()
_p = __import__("copy").deepcopy(_o); _p.state = {**_p.state}; seen = [isinstance(v, dict) for v in _p.state.values()]
seen += [sorted(_o.state[x]), _o.state[x]["eta"].ndim, tg.is_tensor(_o.state[x].pop("mu")), "mu" in _o.state[x]]

x = tg.ones(2, requires_grad=True); _o = tg.optim.SGD([x], lr=0.1)
def _closure():
    _o.zero_grad(); _l = (x ** 2).sum(); _l.backward(); return _l
l = _o.step(_closure).item()

x = tg.ones(2, requires_grad=True); _o = tg.optim.SGD([x], lr=0.1); x.grad = tg.ones(2); _o.zero_grad(set_to_none=False)
_g = x.grad.sum().item(); _o.zero_grad(); none = x.grad is None

x = tg.ones(9000, requires_grad=True); w = tg.tensor(2.0, requires_grad=True); _y = w.detach()
_o = tg.optim.Adam([x, w], lr=0.1); _z = w.detach()
for _i in range(3): _o.zero_grad(); ((x * w) ** 2).mean().backward(); _o.step()
seen = _y.item(), _z.item(), x[17].item(), x.sum().item(); x.grad = None; x = x[:2]

x = tg.tensor([1.0, 2.0], requires_grad=True); w = tg.ones(2, requires_grad=True)
_o = tg.optim.SGD([x, w], lr=0.1, momentum=0.5); _seen = []
for _i in range(4):
    (x * w).sum().backward(); _g = x.grad; _o.step(); _g.mul_(100); _o.zero_grad(); _seen.append(x.tolist())
seen = _seen; m = _o.state[x]["momentum_buffer"]

x = tg.from_numpy(__import__("numpy").ones(2)).requires_grad_(); _a = x.detach().numpy()
_o = tg.optim.SGD([x], lr=0.1); (x ** 3).sum().backward(); _o.step(); seen = _a.tolist()

x = tg.ones(2, requires_grad=True); _y = x.detach(); _o = tg.optim.SGD([x], lr=0.1); (x * 2).sum().backward(); _o.step()
seen = _y.tolist()

text = repr(tg.optim.Adam([tg.ones(2, requires_grad=True)]))

x = tg.ones(2, requires_grad=True); _seen = []; _o = tg.optim.SGD([x], lr=0.1)
_h = _o.register_step_pre_hook(lambda o, a, k: _seen.append("before"))
_k = _o.register_step_post_hook(lambda o, a, k: _seen.append("after")); (x * 2).sum().backward(); _o.step(); _h.remove()
_o.step(); seen = _seen

x = tg.ones(2, requires_grad=True); _o = tg.optim.SGD([x], lr=0.1); w = tg.ones(2, requires_grad=True)
_o.add_param_group({"params": w, "lr": 0.2}); (x * w).sum().backward(); _o.step()

x = tg.tensor([-1.0, 2.0], requires_grad=True); _o = tg.optim.LBFGS([x], lr=0.5, max_iter=15); _calls = []
def _closure():
    _o.zero_grad(); _l = ((x - 1) ** 4).sum() + x[0] * x[1]; _l.backward(); _calls.append(1); return _l
l = [_o.step(_closure).item() for _i in range(2)]; n = len(_calls)

x = tg.tensor([-1.0, 2.0], requires_grad=True); w = tg.tensor([[0.3]], requires_grad=True); _calls = []
_o = tg.optim.LBFGS([x, w], line_search_fn="strong_wolfe", max_iter=30, history_size=5)
def _closure():
    _o.zero_grad(); _l = (1 - x[0]) ** 2 + 9 * (x[1] - x[0] ** 2) ** 2 + (w - 1).cosh().sum(); _l.backward()
    _calls.append(1); return _l
l = [_o.step(_closure).item() for _i in range(2)]; n = len(_calls); x.grad = w.grad = None
""".strip().split("\n\n")


@pytest.mark.parametrize("program", PROGRAMS)
def test_groups_state_and_closures(program):
    if "LBFGS" in program:  # rounding grows from step to step
        agree(program.strip(), text=False, tolerance=1e-5)
    else:
        agree(program.strip())


@pytest.mark.parametrize(
    "options", ["momentum=0.5", "nesterov=False, adjust_lr_fn='match_rms_adamw', weight_decay=0.5"]
)
@pytest.mark.parametrize("shape", [(3, 2), (2, 4), (1, 1)])
def test_muon_is_pytorchs_but_for_the_figures_of_bfloat16(shape, options):
    start = np.random.default_rng(0).normal(size=shape)
    ends = []
    for library in (torch, tg):
        x = library.tensor(start, requires_grad=True)
        optimizer = library.optim.Muon([x], lr=0.1, **eval(f"dict({options})"))
        for _ in range(4):
            optimizer.zero_grad()
            ((x - 1) ** 4).sum().backward()
            optimizer.step()
        ends.append(x.detach().numpy() - start)
    np.testing.assert_allclose(ends[1], ends[0], atol=0.03 * np.abs(ends[0]).max())


def test_muon_makes_steps_orthogonal():
    """With the coefficients of a cubic iteration that converges, a step is the orthogonal factor of the gradient."""
    x = tg.zeros(3, 5, dtype=tg.float64, requires_grad=True)
    g = np.random.default_rng(1).normal(size=(3, 5))
    optimizer = tg.optim.Muon(
        [x], lr=1.0, weight_decay=0.0, momentum=0.0, ns_coefficients=(1.5, -0.5, 0.0), ns_steps=60
    )
    x.grad = tg.tensor(g)
    optimizer.step()
    u, _, v = np.linalg.svd(g, full_matrices=False)
    np.testing.assert_allclose(x.detach().numpy(), -u @ v, atol=1e-12)


AVERAGES = """
_s, _model = tg.optim.swa_utils, tg.nn.Sequential(tg.nn.Linear(2, 2, dtype=tg.float64), tg.nn.BatchNorm1d(2))
_model.double()
_averages = [_s.AveragedModel(_model, **options) for options in (
    {}, {"avg_fn": _s.get_ema_avg_fn(0.5)}, {"multi_avg_fn": _s.get_ema_multi_avg_fn(0.3), "use_buffers": True},
    {"multi_avg_fn": _s.get_swa_multi_avg_fn()})]
for _i in range(3):
    for _p in _model.parameters(): _p.data.copy_(tg.tensor(reals(*_p.shape) * (_i + 1)))
    _model[1].running_mean.fill_(_i)
    for _a in _averages: _a.update_parameters(_model)
state = [[[k, v] for k, v in _a.state_dict().items()] for _a in _averages]
_s.update_bn([(tg.tensor(reals(4, 2)), 0), (tg.tensor(positives(4, 2)), 0)], _averages[0])
mean, var, momentum = _averages[0].module[1].running_mean, _averages[0].module[1].running_var, _model[1].momentum
y = _averages[0].eval()(tg.tensor(reals(3, 2)))
"""


def test_averages_of_models():
    agree(AVERAGES, text=False)


SCHEDULES = """
StepLR(_o, 3, gamma=0.5)
MultiStepLR(_o, [2, 5, 5], gamma=0.5)
ConstantLR(_o, factor=0.5, total_iters=4)
LinearLR(_o, start_factor=0.2, end_factor=0.8, total_iters=6)
ExponentialLR(_o, 0.9)
PolynomialLR(_o, total_iters=8, power=2.0)
CosineAnnealingLR(_o, T_max=4, eta_min=0.1)
CosineAnnealingWarmRestarts(_o, T_0=3, T_mult=2, eta_min=0.05)
CyclicLR(_o, base_lr=0.1, max_lr=1.0, step_size_up=3, step_size_down=2)
CyclicLR(_o, base_lr=0.1, max_lr=1.0, step_size_up=2, mode="triangular2")
CyclicLR(_o, base_lr=0.1, max_lr=1.0, step_size_up=2, mode="exp_range", gamma=0.9)
OneCycleLR(_o, max_lr=1.0, total_steps=20)
OneCycleLR(_o, max_lr=1.0, epochs=4, steps_per_epoch=4, anneal_strategy="linear", three_phase=True)
SWALR(_o, 0.05, anneal_epochs=4)
SWALR(_o, [0.05, 0.1], anneal_epochs=3, anneal_strategy="linear")
SWALR(_o, 0.05, anneal_epochs=0)
LambdaLR(_o, lambda epoch: 0.9 ** epoch)
MultiplicativeLR(_o, lambda epoch: 0.9)
SequentialLR(_o, [_s.ConstantLR(_o, 0.1, 3), _s.ExponentialLR(_o, 0.9)], milestones=[4])
ChainedScheduler([_s.ConstantLR(_o, 0.1, 3), _s.ExponentialLR(_o, 0.9)])
""".strip().splitlines()


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedules(schedule):
    module = "swa_utils" if schedule.startswith("SWALR") else "lr_scheduler"
    agree(
        f"x = tg.ones(1, requires_grad=True); w = tg.ones(1, requires_grad=True); _s = tg.optim.{module}\n"
        "_o = tg.optim.SGD([{'params': [x]}, {'params': [w], 'lr': 0.3}], lr=0.8, momentum=0.9)\n"
        f"_k = _s.{schedule}; rates = [[g['lr'] for g in _o.param_groups]]; last = [_k.get_last_lr()]; momentum = []\n"
        "for _i in range(15):\n    _o.step(); _k.step(); rates.append([g['lr'] for g in _o.param_groups])\n"
        "    last.append(_k.get_last_lr()); momentum.append(_o.param_groups[0]['momentum'])\n"
    )


@pytest.mark.parametrize("schedule", [s for s in SCHEDULES if "_s." not in s])
def test_schedules_go_on(schedule):
    """From an epoch when they are made, and where they are put to one."""
    module = "swa_utils" if schedule.startswith("SWALR") else "lr_scheduler"
    agree(
        f"import warnings; warnings.simplefilter('ignore'); _s = tg.optim.{module}; rates = []; told = []\n"
        "_levels = dict(initial_lr=0.7, max_lr=1.0, min_lr=0.1, base_momentum=0.8, max_momentum=0.9)\n"
        "for _last, _epochs in ((0, ()), (3, ()), (7, ()), (-1, (0, 2, 5)), (-1, (7, 1)), (-1, (3,))):\n"
        "    _x, _w = tg.ones(1, requires_grad=True), tg.ones(1, requires_grad=True)\n"
        "    _o = tg.optim.SGD([{'params': [_x]}, {'params': [_w], 'lr': 0.3}], lr=0.8, momentum=0.9)\n"
        "    if _last >= 0:\n        [_g.update(_levels) for _g in _o.param_groups]\n"
        f"    _k = _s.{schedule[:-1]}, last_epoch=_last)\n"
        "    for _e in [*_epochs, *[None] * 7]:\n"
        "        _o.step(); _k.step() if _e is None else _k.step(_e); told.append(_k.last_epoch)\n"
        "        rates.append([[g['lr'], g['momentum']] for g in _o.param_groups])\n",
    )


@pytest.mark.parametrize("first", ["ConstantLR(_o, 0.5, 4)", "LinearLR(_o, 0.25, 0.8, 4)", "StepLR(_o, 2, 0.5)"])
@pytest.mark.parametrize(
    "then",
    ["LinearLR(_o, 0.25, 0.8, 4)", "CosineAnnealingLR(_o, 4, 0.01)", "PolynomialLR(_o, 4, 2.0)", "StepLR(_o, 2)"],
)
def test_schedules_after_others(first, then):
    """They begin from the first rates at their milestone, 0 too; chains among them; their states."""
    agree(
        "_s = tg.optim.lr_scheduler; rates = []\nfor _at, _is_chain in ((3, False), (0, False), (5, True)):\n"
        "    _o = tg.optim.SGD([tg.ones(1, requires_grad=True)], lr=0.8)\n"
        f"    _first = _s.{first}\n"
        "    if _is_chain:\n        _first = _s.ChainedScheduler([_first, _s.ExponentialLR(_o, 0.9)])\n"
        f"    _k = _s.SequentialLR(_o, [_first, _s.{then}], [_at]); is_one = isinstance(_k, _s.LRScheduler)\n"
        "    for _i in range(8):\n        _o.step(); _k.step(); rates.append(_k.get_last_lr())\n"
        "        _k.load_state_dict(_k.state_dict())\n"
    )


def test_schedules_warn_of_the_order_of_steps():
    def made():
        optimizer = tg.optim.SGD([tg.ones(1, requires_grad=True)], lr=1.0)
        return optimizer, tg.optim.lr_scheduler.StepLR(optimizer, 1)

    optimizer, schedule = made()
    with pytest.warns(UserWarning, match="Detected call of `lr_scheduler.step\\(\\)` before `optimizer.step"):
        schedule.step()
    schedule.step()
    optimizer, schedule = made()
    optimizer.step = types.MethodType(lambda self, step=optimizer.step: step(), optimizer)
    optimizer.step()
    with pytest.warns(UserWarning, match="`optimizer.step\\(\\)` has been overridden"):
        schedule.step()
    tg.optim.lr_scheduler.StepLR(optimizer, 1).step()
    with pytest.warns(UserWarning, match="The epoch parameter in `scheduler.step\\(\\)` was not necessary"):
        schedule.step(3)


def test_an_optimiser_ends_when_it_is_let_go():
    gc.collect()
    for method in tg.optim.SGD, tg.optim.Adam:
        optimizer = method([tg.ones(3, requires_grad=True)], lr=0.1)
        tg.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 1.0)
        groups, seen = optimizer.param_groups, weakref.ref(optimizer)
        del optimizer
        assert seen() is None
        assert groups[0]["lr"] == 0.1
        assert type(copy.deepcopy(groups[0])) is dict


def test_a_parameter_in_two_groups_has_the_first_place_in_a_state():
    optimizer = tg.optim.SGD([tg.ones(1, requires_grad=True), tg.ones(2, requires_grad=True)], lr=0.1)
    optimizer.param_groups.extend(optimizer.param_groups)
    assert [group["params"] for group in optimizer.state_dict()["param_groups"]] == [[0, 1], [0, 1]]


def test_lbfgs_begins_where_a_gradient_is_zero():
    agree(
        "x = tg.zeros(2, requires_grad=True); _o = tg.optim.LBFGS([x], tolerance_grad=-1.0)\n"
        "def _closure():\n    _o.zero_grad(); _l = (x ** 2).sum(); _l.backward(); return _l\nloss = _o.step(_closure)\n"
    )


@pytest.mark.parametrize(
    "options", ["", "mode='max', patience=1", "threshold_mode='abs', patience=0, cooldown=2", "min_lr=0.3"]
)
def test_plateaus(options):
    measures = np.random.default_rng(2).uniform(0, 1, 30).round(2).tolist()
    agree(
        "x = tg.ones(1, requires_grad=True); _o = tg.optim.SGD([x], lr=0.8)\n"
        f"_k = tg.optim.lr_scheduler.ReduceLROnPlateau(_o, factor=0.5, {options}); rates = []\n"
        f"for _m in {measures}:\n    _k.step(_m); rates.append(_o.param_groups[0]['lr'])\n"
    )


REFUSED = [
    ("tg.optim.SGD([], lr=1)", "optimizer got an empty parameter list"),
    ("tg.optim.SGD(p, lr=1)", "params argument given to the optimizer should be an iterable of Tensors or dicts"),
    ("tg.optim.SGD([p], lr=-1)", "Invalid learning rate: -1"),
    ("tg.optim.SGD([p * 2], lr=1)", "can't optimize a non-leaf Tensor"),
    ("tg.optim.SGD([3], lr=1)", "optimizer can only optimize Tensors, but one of the params is int"),
    (
        "tg.optim.SGD([{'params': [p]}, {'params': [p]}], lr=1)",
        "some parameters appear in more than one parameter group",
    ),
    ("tg.optim.SGD([p], lr=0.1, momentum=-1)", "Invalid momentum value: -1"),
    ("tg.optim.SGD([p], lr=0.1, nesterov=True)", "Nesterov momentum requires a momentum and zero dampening"),
    ("tg.optim.Adam([p], betas=(1.0, 0))", "Invalid beta parameter at index 0: 1.0"),
    ("tg.optim.Adam([p], eps=-1)", "Invalid epsilon value: -1"),
    ("tg.optim.Adam([p], weight_decay=-1)", "Invalid weight_decay value: -1"),
    ("tg.optim.Adam([p]).load_state_dict({'state': {}, 'param_groups': []})", "a different number of parameter groups"),
    ("tg.optim.Adafactor([p], beta2_decay=1)", "beta2_decay should be <= 0 but is: 1"),
    ("tg.optim.Adafactor([p], d=0.5)", "Clipping threshold d should be >= 1 but is: 0.5"),
    ("tg.optim.Muon([p])", "Muon only supports 2D parameters whereas we found a parameter with size"),
    ("tg.optim.Muon([p], adjust_lr_fn='mine')", "Adjust learning rate function mine is not supported"),
    ("o = tg.optim.SparseAdam([p]); p.sum().backward(); o.step()", "SparseAdam does not support dense gradients"),
    ("tg.optim.swa_utils.get_ema_avg_fn(2)", "Invalid decay value 2 provided."),
    ("tg.optim.swa_utils.SWALR(tg.optim.SGD([p], lr=1), 1, anneal_strategy='sin')", "anneal_strategy must be one of"),
    ("tg.optim.lr_scheduler.StepLR(3, 1)", "int is not an Optimizer"),
    ("tg.optim.lr_scheduler.StepLR(tg.optim.SGD([p], lr=1), 1, last_epoch=3)", "param 'initial_lr' is not specified"),
    ("tg.optim.lr_scheduler.OneCycleLR(tg.optim.SGD([p], lr=1), 1.0)", "You must define either total_steps OR"),
    ("tg.optim.lr_scheduler.ReduceLROnPlateau(tg.optim.SGD([p], lr=1), factor=2.0)", "Factor should be < 1.0."),
]


@pytest.mark.parametrize(("program", "phrase"), REFUSED)
def test_refusals(program, phrase):
    refuse_alike("p = tg.ones(2, requires_grad=True)\n" + program, phrase)
