"""Hooks inside transforms: those of a call see its sweep, and no other; under `vmap` they see a sample.

And hooks of saved tensors there, in compiled functions, and in loops that drop what they have recorded.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import tapegrad as tg
from tapegrad import engine
from tapegrad.func import grad, jacrev, vjp, vmap

X = np.array([0.5, -1.2, 2.0])


def doubled(y):
    """A hook makes the gradient twice what it is."""
    y.register_hook(lambda g: 2 * g)
    return y


def f(x):
    return (doubled(x * x) * x).sum()  # twice of x^3 by the first factor: 4 x^2 + x^2


def test_a_hook_of_an_inner_transform_is_none_of_the_outer_ones():
    x = tg.tensor(X)
    np.testing.assert_allclose(grad(f)(x).numpy(), 5 * X**2)
    np.testing.assert_allclose(grad(lambda x: (grad(f)(x) * x).sum())(x).numpy(), 15 * X**2)
    np.testing.assert_allclose(jacrev(grad(f))(x).numpy(), np.diag(10 * X))
    leaf = tg.tensor(X, requires_grad=True)
    grad(f)(leaf).sum().backward()
    np.testing.assert_allclose(leaf.grad.numpy(), 10 * X)


def test_a_hook_is_called_by_a_sweep_of_the_users_and_by_one_that_comes_later():
    def g(x):
        y = x * 1.0
        return y + tg.autograd.grad(f(y), y, create_graph=True)[0]

    np.testing.assert_allclose(
        jacrev(g)(tg.tensor(X)).numpy(), np.diag(1 + 12 * X)
    )  # also as it differentiates the first
    _, pull = vjp(lambda x: doubled(x * 3), tg.tensor(X))
    np.testing.assert_allclose(pull(tg.ones(3, dtype=tg.float64))[0].numpy(), [6.0] * 3)


def test_under_vmap_a_hook_is_given_what_stands_for_one_sample():
    seen = []

    def of_sample(x, scale):
        y = x * x
        y.register_hook(lambda g: seen.append(tuple(g.shape)) or g * scale.sum() + x)
        return (y * x).sum()

    rows, scales = tg.tensor(np.stack([X, 2 * X])), tg.tensor([[1.0, 1.0], [3.0, 0.5]])
    found = vmap(grad(of_sample))(rows, scales)
    by_hand = tg.stack([grad(of_sample)(*pair) for pair in zip(rows, scales, strict=True)])
    np.testing.assert_allclose(found.numpy(), by_hand.numpy())
    assert set(seen) == {(3,)}
    leaf = rows.clone().requires_grad_()
    vmap(of_sample)(leaf, scales).sum().backward()  # the call has ended: its hooks are still told of samples
    np.testing.assert_allclose(leaf.grad.numpy(), found.numpy())
    np.testing.assert_allclose(vmap(vmap(grad(lambda x: doubled(x * x))))(rows).numpy(), 4 * rows.numpy())


def test_retained_gradients_and_checkpoints_under_vmap():
    kept = []

    def of_sample(x):
        y = x * x
        y.retain_grad()
        assert y.retains_grad
        kept.append(y)
        return tg.utils.checkpoint.checkpoint(lambda y: (y * y).sum(), y, use_reentrant=False)

    leaf = tg.tensor(np.stack([X, 2 * X]), requires_grad=True)
    vmap(of_sample)(leaf).sum().backward()
    np.testing.assert_allclose(leaf.grad.numpy(), 4 * leaf.detach().numpy() ** 3)
    assert kept[0].physical.grad.shape == (2, 3)


@pytest.mark.parametrize("hook", [3, None])
def test_what_is_no_function_is_no_hook(hook):
    with pytest.raises(TypeError, match="a hook must be callable"):
        tg.ones(2, requires_grad=True).register_hook(hook)


def saved(seen):
    """Hooks of saved tensors that note how often they are called, and make of each what it was."""
    pack = lambda t: (seen.append("packed"), t.tolist())[1]  # noqa: E731
    return tg.autograd.graph.saved_tensors_hooks(pack, lambda values: (seen.append("read"), tg.tensor(values))[1])


def test_hooks_of_saved_tensors_in_transforms_of_every_order():
    seen = []
    with saved(seen):
        np.testing.assert_allclose(grad(lambda x: (x**3).sum())(tg.tensor(X)).numpy(), 3 * X**2)
        np.testing.assert_allclose(jacrev(grad(lambda x: x.exp().sum()))(tg.tensor(X)).numpy(), np.diag(np.exp(X)))
        found = vmap(grad(lambda x: x.sin()))(tg.tensor(X))
        np.testing.assert_allclose(tg.func.jvp(lambda x: x * x, (tg.tensor(X),), (tg.ones(3),))[1].numpy(), 2 * X)
    np.testing.assert_allclose(found.numpy(), np.cos(X))
    assert {"packed", "read"} == {*seen}


@pytest.mark.filterwarnings("ignore:.*has saved tensors hooks:UserWarning")
def test_compiled_functions_are_called_as_they_are_where_saved_tensors_have_hooks():
    f, seen = tg.compile(lambda x: (x * x.exp()).sum()), []
    for _ in range(3):
        f(tg.tensor(X))
    leaf = tg.tensor(X, requires_grad=True)
    with saved(seen):
        f(leaf).backward()
    assert seen == ["packed"] * 3 + ["read"] * 3
    np.testing.assert_allclose(leaf.grad.numpy(), (1 + X) * np.exp(X))

    def inside(x):
        with saved(seen):
            return x.exp()

    seen.clear()
    tg.compile(inside)(leaf).sum().backward()
    assert seen == ["packed", "read"]


def test_what_hooks_keep_goes_with_the_row():
    def on_a_tape_of_its_own():
        x, tape = tg.tensor(X, requires_grad=True), tg.current_tape()
        with tg.autograd.graph.saved_tensors_hooks(lambda t: {"kept": [t]}, lambda found: found["kept"][0]):
            for _ in range(20):
                y = x.exp()  # whose rule reads its result
        engine.reclaim(tape)
        assert len(tape.hooks) == 1
        y.sum().backward()
        assert tape.grad_enabled is True
        return x.grad.numpy().copy()

    with ThreadPoolExecutor(1) as pool:
        np.testing.assert_allclose(pool.submit(on_a_tape_of_its_own).result(), np.exp(X))


def test_what_is_unpacked_has_the_shape_of_what_was_packed():
    x = tg.tensor(X, requires_grad=True)
    with tg.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t[:2]):
        y = x.exp().sum()
    with pytest.raises(RuntimeError, match=r"Output of saved tensor unpack_hook expected to be float64\[3\]"):
        y.backward()
