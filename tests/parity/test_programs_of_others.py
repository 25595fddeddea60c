"""What libraries on top of PyTorch ask of it, in passing: private names, orders of arguments that were given up."""

from __future__ import annotations

import operator
import random
import warnings
from typing import Any

import numpy as np
import pytest

import tapegrad as tg

from .oracle import torch


@pytest.mark.parametrize(
    "text",
    [
        "x.add_(2, y)", "m.add(x, 2, y)", "x.sub(0.5, y)", "m.addcmul(x, 0.5, y, y)", "x.addcdiv_(-1, x, y)",
        "m.addmm(2, s, 3, s, s)", "s.addmm_(2, s + 0, s + 1)", "m.addmv(2, x, 3, s, y)", "m.addr(0.5, s, x, y)",
    ],
)  # fmt: skip
def test_factors_may_stand_before_what_they_multiply(text: str) -> None:
    def run(m: Any) -> Any:
        names = {"m": m, "x": m.arange(3.0) + 1, "y": m.arange(3.0) + 2, "s": m.arange(9.0).reshape(3, 3)}
        return eval(text, names).tolist()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = run(torch)
    with pytest.warns(UserWarning, match=r"This overload of \w+ is deprecated"):
        assert run(tg) == expected


def _reformed(m: Any, seed: int) -> list[Any]:
    """Change forms of tensors that share elements, and write to these."""
    rng, story = random.Random(seed), []
    x = m.arange(12.0).reshape(3, 4)
    if seed % 3 == 0:
        x = x.requires_grad_() * 1.0
    array = x.numpy() if seed % 3 == 1 else None
    held = [x, x[1], x.T, x.detach(), x[:, :2]]
    for _ in range(10):
        t = held[rng.randrange(len(held))]
        what = rng.choice(["t_", "transpose_", "squeeze_", "unsqueeze_", "swapdims_", "add", "mul", "view"])
        try:
            if what in ("t_", "squeeze_"):
                getattr(t, what)()
            elif what in ("transpose_", "swapdims_"):
                getattr(t, what)(0, -1)
            elif what == "unsqueeze_":
                t.unsqueeze_(rng.choice([0, -1]))
            elif what == "view":
                held.append(t[0] if t.ndim else t.detach())
            else:
                getattr(t, f"{what}_")(2.0)
        except (IndexError, RuntimeError) as error:
            story.append(type(error).__name__)
        story += [what, [(tuple(h.shape), h.tolist(), h._version) for h in held]]
        if array is not None:
            story.append(array.tolist())
    if seed % 3 == 0:
        sum((h * h).sum() for h in held if h.requires_grad).backward()
    return story


@pytest.mark.parametrize("seed", range(40))
def test_forms_change_in_place_where_elements_are_shared(seed: int) -> None:
    assert _reformed(tg, seed) == _reformed(torch, seed)


@pytest.mark.parametrize(
    "text",
    [
        "x.flip(dims=(-1,))", "x.permute(dims=(1, 0))", "x.reshape(shape=(3, 2))", "x.view(size=(3, 2))",
        "x.view(size=6)",
        "x[:, :1].expand(size=(2, 4))", "x.repeat(repeats=(2, 1))", "x.tile(dims=(2, 1))", "x.tile(dims=[2])",
        "x.broadcast_to(size=(2, 2, 3))", "x.sum_to_size(size=(1, 3))", "x.clone().resize_(size=(3, 2))",
        "x.permute((1, 0), dims=(1, 0))", "x.reshape(size=(3, 2))", "x.expand(size='a')",
    ],
)  # fmt: skip
def test_sizes_are_given_by_their_names(text: str) -> None:
    def run(m: Any) -> Any:
        try:
            return eval(text, {"x": m.arange(6.0).reshape(2, 3)}).tolist()
        except TypeError:
            return TypeError

    assert run(tg) == run(torch)


@pytest.mark.parametrize("change", ["unsqueeze_(-1)", "squeeze_()", "t_()", "transpose_(0, 1)", "swapdims_(0, 1)"])
@pytest.mark.parametrize("requires_grad", [False, True])
def test_forms_change_in_place_where_an_element_has_several_places(change: str, requires_grad: bool) -> None:
    def run(m: Any) -> Any:
        leaf = m.arange(3.0).requires_grad_(requires_grad)
        expanded = (leaf * 2).expand(2, 3)
        eval(f"expanded.{change}", {"expanded": expanded})
        story = [expanded.tolist(), tuple(expanded.shape), expanded.stride()]
        if requires_grad:
            (expanded * m.arange(6.0).reshape(expanded.shape)).sum().backward()
            story.append(leaf.grad.tolist())
        return story

    assert run(tg) == run(torch)


def test_gradients_pass_what_has_changed_its_form() -> None:
    def run(m: Any) -> Any:
        x = m.arange(6.0, dtype=m.float64).reshape(2, 3).requires_grad_()
        y = x * 2.0
        row = y[0]
        y.t_()
        y.mul_(m.arange(6.0, dtype=m.float64).reshape(3, 2))
        (y[0].sum() * row.sum()).backward()
        return x.grad.tolist()

    assert run(tg) == run(torch)


def test_optimisers_around_others_need_no_init() -> None:
    class Around(tg.optim.Optimizer):
        def __init__(self, of: Any) -> None:
            self.of = of

        def step(self) -> None:
            self.of.step()

    p = tg.ones(2, requires_grad=True)
    p.sum().backward()
    Around(tg.optim.SGD([p], lr=0.5)).step()
    assert p.tolist() == [0.5, 0.5]


EACH = [
    "m._foreach_add_(a, b, alpha=2)", "m._foreach_add_(a, 3.0)", "m._foreach_sub(a, [1.0, 2.0])",
    "m._foreach_mul_(a, b)",
    "m._foreach_div(a, 2.0)", "m._foreach_lerp_(a, b, 0.25)", "m._foreach_addcmul_(a, b, b, 0.5)", "m._foreach_neg_(a)",
    "m._foreach_addcdiv(a, b, b, [0.5, 2.0])", "m._foreach_sqrt(b)", "m._foreach_norm(a)", "m._foreach_norm(b, ord=1)",
    "m._foreach_maximum_(a, 1.5)", "m._foreach_minimum(a, b)", "m._foreach_copy_(a, b)", "m._foreach_zero_(a)",
    "m._foreach_pow(a, 2)", "m._foreach_pow(2.0, a)", "m._foreach_clamp_min_(a, 1.5)", "m._foreach_reciprocal_(b)",
]  # fmt: skip


@pytest.mark.parametrize("text", EACH)
def test_one_operation_for_each_of_a_list(text: str) -> None:
    def run(m: Any) -> Any:
        a, b = ([m.arange(3.0) + k, m.arange(2.0).reshape(2, 1) + k] for k in (1, 2))
        found = eval(text, {"m": m, "a": a, "b": b})
        return [t.tolist() for t in (*a, *b, *found)]

    for one, other in zip(run(tg), run(torch), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)
    with pytest.raises(RuntimeError, match="Tensor list must have same number of elements as"):
        tg._foreach_add([tg.ones(1)], [1.0, 2.0])
    assert not hasattr(tg, "_foreach_nothing")


def _loaded(m: Any) -> list[Any]:
    """Modules that take part in states under PyTorch's private names."""
    told: list[Any] = []

    class Renamed(m.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.w = m.nn.Parameter(m.zeros(2))
            self.register_buffer("scratch", m.ones(1), persistent=False)
            self.plain = m.ones(2)

        def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
            if prefix + "old" in state_dict:
                state_dict[prefix + "w"] = state_dict.pop(prefix + "old")
            super()._load_from_state_dict(state_dict, prefix, *args)

        def _apply(self, fn: Any, *args: Any) -> Any:
            super()._apply(fn, *args)
            self.plain = fn(self.plain)
            return self

    class Own(m.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.values = [0.0]

        def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
            destination[prefix + "values"] = m.tensor(self.values)

        def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
            self.values = state_dict[prefix + "values"].tolist()

    def hook(state: Any, prefix: str, *args: Any) -> None:
        told.append((prefix, sorted(state)))

    net = m.nn.Sequential(Renamed(), Own())
    net[0]._register_load_state_dict_pre_hook(hook)
    net[1]._register_load_state_dict_pre_hook(hook)
    net._register_state_dict_hook(lambda module, state, prefix, metadata: {**state, "more": 1})
    told.append(sorted(net.state_dict()))
    keys = net.load_state_dict({"0.old": m.ones(2), "1.values": m.tensor([4.0]), "other": 1, "0.x.y": 2}, strict=False)
    told += [keys.missing_keys, sorted(keys.unexpected_keys), net[0].w.tolist(), net[1].values]
    told.append([name for name, _ in net._named_members(lambda module: module._buffers.items())])
    told += [sorted(net[0]._non_persistent_buffers_set), net.double()[0].plain.dtype == m.float64]
    return told


def test_states_of_modules_of_others() -> None:
    assert _loaded(tg) == _loaded(torch)


def _stated(m: Any) -> list[Any]:
    p = m.ones(2, requires_grad=True)
    told: list[Any] = []
    o = m.optim.SGD([p], lr=0.5, momentum=0.9)
    o.register_state_dict_pre_hook(lambda o: told.append("pre"))
    o.register_state_dict_post_hook(lambda o, state: told.append(sorted(state)))
    o.register_state_dict_post_hook(lambda o, state: {**state, "more": 1}, prepend=True)
    o.register_load_state_dict_pre_hook(lambda o, state: told.append(sorted(state)))
    handle = o.register_load_state_dict_post_hook(lambda o: told.append("loaded"))
    state = o.state_dict()
    o.load_state_dict(state)
    handle.remove()
    o.load_state_dict(state)
    return told


def test_hooks_of_optimisers_states() -> None:
    assert _stated(tg) == _stated(torch)


@pytest.mark.parametrize("name", ["SGD", "Adagrad", "Adam"])
def test_states_before_the_first_step(name: str) -> None:
    def run(m: Any) -> Any:
        p = m.ones(2, requires_grad=True)
        return {k: m.as_tensor(v).tolist() for k, v in getattr(m.optim, name)([p]).state[p].items()}

    assert run(tg) == run(torch)


def _scheduled(m: Any) -> list[Any]:
    told: list[Any] = []

    class Halved(m.optim.lr_scheduler.LRScheduler):  # type: ignore[misc, name-defined]
        def get_lr(self) -> Any:
            told.append((self._get_lr_called_within_step, self._step_count))
            return [base * 0.5**self.last_epoch for base in self.base_lrs]

    o = m.optim.SGD([m.ones(1, requires_grad=True)], lr=1.0)
    schedule = Halved(o)
    for _ in range(3):
        o.step()
        schedule.step()
    told.append((schedule._get_lr_called_within_step, schedule._step_count, schedule.get_last_lr()))
    return told


def test_what_schedules_of_others_ask() -> None:
    assert _scheduled(tg) == _scheduled(torch)


def _expanded(m: Any) -> list[Any]:
    d = m.distributions

    class Diagonal(d.Independent):  # type: ignore[misc, name-defined]
        def __init__(self, loc: Any, scale: Any) -> None:
            super().__init__(d.Normal(loc, scale), 1)
            self.note = "kept"

        def expand(self, batch_shape: Any, new: Any = None) -> Any:
            new = self._get_checked_instance(Diagonal, new)
            new.note = self.note
            return super().expand(batch_shape, new)

    class Own(d.Distribution):  # type: ignore[misc, name-defined]
        arg_constraints: Any = {}  # noqa: RUF012

        def __init__(self, loc: Any, validate_args: Any = None) -> None:
            self.loc = loc
            super().__init__(loc.shape, validate_args=validate_args)

        def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
            new = self._get_checked_instance(Own, _instance)
            new.loc = self.loc.expand(batch_shape)
            super(Own, new).__init__(batch_shape, validate_args=False)
            return new

    class Unable(d.Normal):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__(0.0, 1.0)

    class Plain(d.Normal):  # type: ignore[misc, name-defined]
        pass

    wide = Diagonal(m.zeros(3), m.ones(3)).expand((4,))
    told = [type(wide).__name__, tuple(wide.batch_shape), tuple(wide.event_shape), wide.note]
    told += [round(v, 5) for v in wide.log_prob(m.ones(3)).tolist()]
    own, plain = Own(m.ones(1)).expand((2, 3)), Plain(m.zeros(1), m.ones(1)).expand((2,))
    told += [tuple(own.batch_shape), own.loc.tolist(), type(plain).__name__, tuple(plain.loc.shape)]
    for other in (
        d.TransformedDistribution(d.Normal(m.zeros(1), m.ones(1)), [d.ExpTransform()]), d.LogNormal(0.0, 1.0),
        d.MixtureSameFamily(d.Categorical(m.ones(2)), d.Normal(m.zeros(2), m.ones(2))),
    ):  # fmt: skip
        told.append(tuple(other.expand((2,)).batch_shape))
    with pytest.raises(NotImplementedError, match="that defines a custom __init__ method must also define a custom"):
        Unable().expand((2,))
    return told


def test_distributions_of_others_expand() -> None:
    assert _expanded(tg) == _expanded(torch)


def test_names_in_passing() -> None:
    assert not tg.compiler.is_compiling()
    assert not tg.onnx.is_in_onnx_export()
    assert not tg.is_autocast_enabled()
    assert not tg.distributed.is_available()
    tg._C._log_api_usage_once("nothing")
    assert tg.functional.einsum is tg.einsum
    assert "NumPy" in tg.__config__.show()
    assert tg.nn.init._calculate_fan_in_and_fan_out(tg.ones(3, 5)) == (5, 3)
    assert tg.compiler.disable(recursive=False)(len) is len
    assert [len(t) for t in tg.arange(6).split(split_size=4)] == [4, 2]
    assert tg.randint_like(tg.ones(4), high=1).tolist() == [0.0] * 4
    with pytest.raises(TypeError, match="takes \\(input, high\\)"):
        tg.randint_like(tg.ones(4))
    with pytest.raises(NotImplementedError, match=r"fft.fft\(\): its result is complex"):
        tg.fft.fft(tg.ones(4))


def test_parts_of_shapes_are_shapes() -> None:
    def run(m: Any) -> Any:
        s = m.ones(2, 3, 4).shape
        made = [s[-2:], s + (1,), (1, 5) + s, s * 2, 2 * s, s[::2] + s]  # noqa: RUF005 (shapes, not tuples)
        assert all(type(part) is m.Size for part in made)
        assert s[1] == 3
        for wrong in (lambda: operator.add(s, [1]), lambda: operator.add([1], s), lambda: s * 1.5, lambda: s["a"]):
            with pytest.raises(TypeError):
                wrong()
        return [(tuple(part), part.numel()) for part in made]

    assert run(tg) == run(torch)


def test_trees_under_their_private_names() -> None:
    from torch.utils import _pytree as theirs

    from tapegrad.utils import _pytree as ours

    tree: Any = {"b": [1, (2, None)], "a": {"c": 3.0}}
    for of in (ours, theirs):
        leaves, spec = of.tree_flatten(tree)
        assert (leaves, spec.num_leaves) == ([1, 2, None, 3.0], 4)
        assert of.tree_unflatten(leaves, spec) == tree
        assert of.tree_map_only(int, lambda n: n + 1, tree) == {"b": [2, (3, None)], "a": {"c": 3.0}}
        assert of.tree_map(lambda x, y: (x, y), [1, 2], [3, 4]) == [(1, 3), (2, 4)]
        assert not of.tree_all(lambda x: x is not None, tree)
        with pytest.raises(ValueError, match=r"`leaves` has length 3|leaves"):
            of.tree_unflatten(leaves[:3], spec)
    assert ours.tree_leaves(np.ones(1).tolist()) == [1.0]
