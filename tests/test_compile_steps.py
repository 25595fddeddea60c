"""`tg.compile` around steps of optimisers and schedules: parameters, states and numbers are those of plain steps."""

import threading
import warnings

import numpy as np
import pytest
from compiled_functions import bits, needs_programs

import tapegrad as tg
from tapegrad import optim

schedules = optim.lr_scheduler
pytestmark = needs_programs

METHODS = {
    "SGD": lambda p: optim.SGD(p, lr=0.01),
    "momentum": lambda p: optim.SGD(p, lr=0.01, momentum=0.9, nesterov=True, weight_decay=0.1),
    "Adam": lambda p: optim.Adam(p, lr=0.1),
    "AdamW": lambda p: optim.AdamW(p, lr=0.1, amsgrad=True),
    "ascent": lambda p: optim.Adam(p, lr=0.1, maximize=True, weight_decay=0.01),
    "Adagrad": optim.Adagrad,
    "RMSprop": lambda p: optim.RMSprop(p, centered=True, momentum=0.5),
    "Adadelta": optim.Adadelta,
    "Adamax": optim.Adamax,
    "NAdam": optim.NAdam,
    "RAdam": optim.RAdam,
    "ASGD": lambda p: optim.ASGD(p, t0=3),
    "Adafactor": optim.Adafactor,
    "groups": lambda p: optim.Adam([{"params": p[:1], "lr": 0.1}, {"params": p[1:], "betas": (0.5, 0.9)}], lr=0.01),
}


class Model:
    """Parameters, their optimiser, and how it takes a step."""

    def __init__(self, make=METHODS["Adam"], dtype=tg.float64, step=None, schedule=None):
        self.w = tg.tensor([1.0, -2.0, 3.0], dtype=dtype, requires_grad=True)
        self.b = tg.tensor(0.5, dtype=dtype, requires_grad=True)
        self.optimiser = make([self.w, self.b])
        self.schedule = None if schedule is None else schedule(self.optimiser)
        self.step = step or Model.usual

    def loss(self, x):
        return ((self.w * x).sum() + self.b - x[0]) ** 2

    def usual(self, x):
        self.optimiser.zero_grad()
        loss = self.loss(x)
        loss.backward()
        self.optimiser.step()
        if self.schedule is not None:
            self.schedule.step()
        return loss.detach()

    def state(self):
        """All that a step may change, without NumPy's sharing memory."""
        states = [{k: (v.tolist(), v.dtype) if isinstance(v, tg.Tensor) else (type(v), v) for k, v in state.items()}
                  for state in self.optimiser.state.values()]  # fmt: skip
        numbers = [group["lr"] for group in self.optimiser.param_groups]
        gradients = [None if t.grad is None else bits(t.grad.tolist()) for t in (self.w, self.b)]
        return bits([self.w.tolist(), self.b.tolist(), numbers]), gradients, states, self.w.requires_grad, self.w.dtype


def follow(n, *given, between=None, least=None, **facts):
    """Take steps by a compiled function, and plainly: all is the same; the function's `stats()`."""
    plain, own = (Model(*given, **facts) for _ in range(2))
    compiled = tg.compile(lambda x: own.step(own, x))
    random = np.random.default_rng(0)
    for i in range(n):
        x = tg.tensor(random.normal(size=3), dtype=plain.w.dtype)
        for model in (plain, own):
            if between is not None:
                between(model, i)
        assert bits(plain.step(plain, x)) == bits(compiled(x))
        assert plain.state() == own.state()
    stats = compiled.stats()
    assert least is None or stats["replays"] >= least
    return stats


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("dtype", [tg.float32, tg.float64])
def test_steps_are_replayed(name, dtype):
    def changes(model, i):
        if i == 7:
            model.optimiser.param_groups[0]["lr"] *= 0.5
        elif i == 10:
            model.optimiser.load_state_dict(model.optimiser.state_dict())

    assert follow(14, METHODS[name], dtype, between=changes, least=9)["plain"] == 0


def test_choices_of_an_optimiser_are_guarded():
    def changes(model, i):
        group = model.optimiser.param_groups[0]
        if i == 4:
            group["betas"] = (0.5, 0.99)
        elif i == 7:
            group["weight_decay"] = 0.1
        elif i == 10:
            model.optimiser.state.clear()
        elif i == 13:
            group["params"].reverse()
        elif i == 16:
            group["params"].pop()
        elif i == 19:
            group["maximize"] = True
        elif i == 22:
            group["lr"] = 1
        elif i == 24:
            model.optimiser.state[model.w]["exp_avg"] = model.optimiser.state[model.w]["exp_avg"] * 2.0

    follow(28, between=changes, least=12)


@pytest.mark.parametrize(
    "schedule",
    [
        lambda o: schedules.StepLR(o, 3, 0.5),
        lambda o: schedules.LambdaLR(o, lambda epoch: 1.0 / (1 + epoch)),
        lambda o: schedules.CosineAnnealingWarmRestarts(o, 4),
        lambda o: schedules.ChainedScheduler([schedules.ExponentialLR(o, 0.9), schedules.ConstantLR(o, 0.5, 4)]),
        lambda o: schedules.SequentialLR(o, [schedules.ConstantLR(o, 0.5, 4), schedules.ExponentialLR(o, 0.9)], [5]),
    ],
)
def test_schedules_go_on(schedule):
    assert follow(12, schedule=schedule, least=9)["plain"] == 0


def test_schedules_that_change_more_are_right():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        follow(14, schedule=lambda o: schedules.OneCycleLR(o, 1.0, total_steps=20))
        follow(8, lambda p: optim.SGD(p, lr=0.1, momentum=0.9), schedule=lambda o: schedules.CyclicLR(o, 0.01, 0.1, 3))


class Halving(schedules.LRScheduler):
    """It counts on its own."""

    calls = 0

    def get_lr(self):
        return [group["lr"] * 0.5 for group in self.optimizer.param_groups]

    def step(self, epoch=None):
        self.calls += 1
        super().step(epoch)


def before(model, x):
    for group in model.optimiser.param_groups:
        group["lr"] *= 0.9
    return model.usual(x)


def after(model, x):
    loss = model.usual(x)
    model.optimiser.param_groups[0]["lr"] *= 0.9
    return loss


def schedule_first(model, x):
    model.schedule.step()
    model.optimiser.zero_grad()
    model.loss(x).backward()
    model.optimiser.step()


def by_epoch(model, x):
    loss = model.usual(x)
    model.schedule.step(3)
    return loss


def plateau(model, x):
    loss = model.loss(x)
    model.optimiser.zero_grad()
    loss.backward()
    model.optimiser.step()
    model.plateau.step(loss)


def tells(model, x):
    loss = model.usual(x)
    return loss, model.schedule.get_last_lr()[0], model.optimiser.state[model.w]["step"]


class Own(optim.SGD):
    """An optimiser of the user's, with a number of its own."""

    n = 0

    def update(self, group, p, g, state):
        self.n += 1
        return p - g * (0.1 / self.n)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("step", [before, after, schedule_first, by_epoch, plateau, tells, None, Own, Halving])
def test_what_is_not_followed_is_done_plainly(step):
    facts = {"step": None if step in (Own, Halving) else step}
    if step is Halving:
        facts["schedule"] = Halving
    elif step in (schedule_first, by_epoch, tells):
        facts["schedule"] = lambda o: schedules.ExponentialLR(o, 0.8)

    def prepare(model, i):
        if i == 0 and step is plateau:
            model.plateau = schedules.ReduceLROnPlateau(model.optimiser, patience=1)
        if step is None and i == 3:
            model.optimiser.register_step_post_hook(lambda *_: model.b.detach().zero_())

    follow(9, Own if step is Own else METHODS["Adam"], between=prepare, **facts)


def twice(model, x):
    loss = model.usual(x)
    model.usual(x * 2.0)
    return loss


def of_two(model, x):
    for optimiser in (model.optimiser, model.other):
        optimiser.zero_grad()
        model.loss(x).backward()
        optimiser.step()
    return model.w.detach() * 1.0


def by_closure(model, x):
    def closure():
        model.optimiser.zero_grad()
        loss = model.loss(x)
        loss.backward()
        return loss

    return model.optimiser.step(closure).detach()


def clips(model, x):
    model.optimiser.zero_grad(set_to_none=False)
    model.loss(x).backward()
    tg.nn.utils.clip_grad_norm_([model.w, model.b], 0.5)
    model.optimiser.step()
    return model.optimiser.state[model.w]["exp_avg"] * 1.0, model.w.grad * 1.0


def only_steps(model, x):
    model.optimiser.step()


def branches(model, x):
    model.optimiser.zero_grad()
    loss = model.loss(x) if x[0] > 0 else (model.w**2).sum()
    loss.backward()
    if loss < 5.0:
        model.optimiser.step()
    return float(loss) > 5.0


@pytest.mark.parametrize("step", [twice, of_two, by_closure, clips, branches])
def test_other_ways_to_take_steps(step):
    def prepare(model, i):
        if i == 0:
            model.other = optim.SGD([model.w], lr=0.05, momentum=0.5)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stats = follow(14, step=step, between=prepare)
    assert stats["replays"] > 5 or step is branches


def test_gradients_that_are_set_outside():
    def sets(model, i):
        if i < 3 or i > 6:
            model.w.grad = tg.tensor([1.0, float(i), -1.0])

    follow(10, step=only_steps, between=sets)


def test_what_was_kept_of_a_state_stays():
    model = Model()
    compiled = tg.compile(lambda x: model.usual(x))
    for i in range(4):
        compiled(tg.tensor([1.0, 2.0, float(i)]))
    kept = model.optimiser.state_dict()["state"][0]["exp_avg"]
    numbers = kept.tolist()
    compiled(tg.tensor([3.0, 2.0, 1.0]))
    assert kept.tolist() == numbers
    assert compiled.stats()["replays"] == 3


def test_a_network_is_trained():
    def make():
        tg.manual_seed(0)
        net = tg.nn.Sequential(tg.nn.Linear(3, 4), tg.nn.Tanh(), tg.nn.Dropout(0.2), tg.nn.Linear(4, 1))
        optimiser = optim.AdamW(net.parameters(), lr=0.05)

        def step(x, y):
            optimiser.zero_grad()
            loss = tg.nn.functional.mse_loss(net(x), y)
            loss.backward()
            optimiser.step()
            return loss.item()

        return net, step

    random = np.random.default_rng(0)
    x, y = tg.tensor(random.normal(size=(8, 3))), tg.tensor(random.normal(size=(8, 1)))
    results = []
    for is_compiled in (False, True):
        net, step = make()
        of = tg.compile(step) if is_compiled else step
        results.append(([of(x, y) for _ in range(8)], [p.tolist() for p in net.parameters()]))
    assert results[0] == results[1]


def test_tensors_that_others_hold_are_not_written_to():
    def make():
        w = tg.tensor([1.0, -2.0], requires_grad=True)
        optimiser = optim.SGD([w], lr=0.1, momentum=0.9)

        def step(x):
            optimiser.zero_grad()
            (w * x).exp().sum().backward()
            optimiser.step()
            return w.grad

        return w, optimiser, step

    found = []
    for is_compiled in (False, True):
        w, optimiser, step = make()
        of, held = tg.compile(step) if is_compiled else step, []
        for i in range(12):
            held.append(of(tg.tensor([0.1, float(i)])))
            if i == 5:
                held += [w.grad, w.detach(), w[:1], optimiser.state[w]["momentum_buffer"]]
            elif i == 8:
                held += [w * 2.0, w.grad.detach() + 0.0]
            elif i == 9:
                del held[-2:]
        graph = (w * w).sum()
        of(tg.tensor([0.5, 0.25]))
        graph.backward()
        found.append([t.tolist() for t in (*held, w, w.grad)])
    assert found[0] == found[1]


def test_parameters_that_another_thread_has_read():
    w = tg.tensor([1.0, -2.0], requires_grad=True)
    optimiser = optim.SGD([w], lr=0.1)

    def step(x):
        optimiser.zero_grad()
        (w * x).sum().backward()
        optimiser.step()

    compiled, seen, goes, has_gone = tg.compile(step), [], threading.Semaphore(0), threading.Semaphore(0)

    def reads():
        for _ in range(5):
            goes.acquire()
            seen.append((w.detach() * 1.0).tolist())
            has_gone.release()

    thread = threading.Thread(target=reads)
    thread.start()
    want = []
    for _ in range(5):
        compiled(tg.tensor([1.0, 2.0]))
        want.append(w.tolist())
        goes.release()
        has_gone.acquire()
    thread.join()
    assert seen == want


def test_expressions_of_rates_are_computed_at_each_call():
    def run(compiles):
        w = tg.tensor([1.0, -2.0], requires_grad=True)
        optimiser = tg.optim.SGD([w], lr=0.1, weight_decay=0.1)
        schedule, group = tg.optim.lr_scheduler.StepLR(optimiser, 2, gamma=0.5), optimiser.param_groups[0]

        def step(x):
            optimiser.zero_grad()
            loss = ((w - x) ** 2).sum() * group["lr"]
            loss.backward()
            optimiser.step()
            return (
                loss.detach() / (1.0 + optimiser.param_groups[0].get("lr")),
                group["lr"],
                group["weight_decay"] * w.detach(),
            )

        function = tg.compile(step) if compiles else step
        found = []
        for k in range(9):
            loss, rate, decay = function(tg.tensor([0.5 * k, 1.0]))
            found.append((loss.item(), rate, decay.tolist(), w.tolist()))
            schedule.step()
            if k == 5:
                group["weight_decay"] = 0.3
        return found, function

    found, compiled = run(True)
    assert found == run(False)[0]
    assert compiled.stats()["replays"] >= 6


def test_what_a_schedule_tells_is_no_constant():
    optimiser = tg.optim.SGD([tg.ones(1, requires_grad=True)], lr=0.1)
    schedule = tg.optim.lr_scheduler.ExponentialLR(optimiser, 0.5)
    for reads in (lambda x: x * schedule.get_last_lr()[0], lambda x: x * [*optimiser.param_groups[0].values()][1]):
        compiled = tg.compile(reads)
        with pytest.warns(UserWarning, match="schedule|all options"):
            assert compiled(tg.ones(1)).item() == reads(tg.ones(1)).item()
        optimiser.step()
        schedule.step()
        assert compiled(tg.ones(1)).item() == reads(tg.ones(1)).item()
