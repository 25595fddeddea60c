"""PyTorch's own tables of modules and optimisers (`module_db`, `optim_db`), run on tapegrad."""

import copy
import pickle
import re
import warnings

import numpy as np
import pytest

import tapegrad as tg
from tests.parity import operator_table as table
from tests.parity.operator_table import Absent, Unsupported, differ, tensors

torch = pytest.importorskip("torch", reason="PyTorch is the oracle of these tables")
module_db = pytest.importorskip("torch.testing._internal.common_modules").module_db
optimizers = pytest.importorskip("torch.testing._internal.common_optimizers")

MODULES = {info.name: info for info in module_db if info.module_cls.__module__.startswith("torch.nn.modules")}
OPTIMIZERS = {info.optim_cls.__name__: info for info in optimizers.optim_db}
# The gradient of `ctc_loss` by probabilities that are no result of `log_softmax` is another: see its notes.
ANOTHER_GRADIENT = {"nn.CTCLoss"}
MOST = 4  # samples of a module
_LAYERS = "nn.TransformerEncoderLayer nn.TransformerDecoderLayer"


def translated(value, seen):
    """As `operator_table.translated`, and layers, which keep their options."""
    if isinstance(value, (list, tuple)) and type(value) in (list, tuple):
        return type(value)(translated(item, seen) for item in value)
    if isinstance(value, dict):
        return {key: translated(item, seen) for key, item in value.items()}
    if isinstance(value, torch.nn.Module) and f"nn.{type(value).__name__}" in _LAYERS:
        attention = value.self_attn
        return getattr(tg.nn, type(value).__name__)(
            attention.embed_dim, attention.num_heads, value.linear1.out_features, value.dropout.p,
            translated(value.activation, seen), value.norm1.eps, attention.batch_first, value.norm_first,
            value.linear1.bias is not None,
        )  # fmt: skip
    if callable(value) and getattr(value, "__module__", "") in ("torch._C._nn", "torch.nn.functional"):
        return getattr(tg.nn.functional, value.__name__)
    return table.translated(value, seen)


def is_random(name, facts, training):
    return (
        any(part in name for part in ("Dropout", "RReLU", "Fractional"))
        or (training and name.startswith("nn.Transformer"))
        or (training and bool(facts.get("dropout")))
    )


def adjoints(results):
    random = np.random.default_rng(0)
    return [random.uniform(0.5, 1.5, tuple(t.shape)) for t in results]


def compare(theirs, ours, *, values):
    assert not differ(theirs, ours, values=values)
    x, y = [
        [t for t in tensors(of, kind) if t.requires_grad] for of, kind in ((theirs, torch.Tensor), (ours, tg.Tensor))
    ]
    assert len(x) == len(y)
    return x, y


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", MODULES)
def test_modules(name, training):
    info = MODULES[name]
    own = getattr(tg.nn, info.module_cls.__name__)
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        facts = {"device": "cpu", "dtype": torch.float64, "requires_grad": True, "training": training}
        samples = list(info.module_inputs_func(info, **facts))
        for sample in samples[:: max(1, len(samples) // MOST)]:
            try:
                compare_modules(info, own, sample, training)
            except (Absent, Unsupported):
                continue
        errors = info.module_error_inputs_func
        for wrong in errors(info, **facts | {"requires_grad": False, "dtype": torch.float32}) if errors else ():
            try:
                check_error(own, wrong)
            except Unsupported:
                continue


def compare_modules(info, own, sample, training):
    args, facts = sample.constructor_input.args, sample.constructor_input.kwargs
    module = info.module_cls(*args, **facts).train(training).to(torch.float64)
    ours = own(*translated(args, {}), **translated(facts, {})).train(training).to(tg.float64)
    assert repr(ours) == repr(module)
    assert list(ours.state_dict()) == list(module.state_dict())
    seen = {}
    given, named = sample.forward_input.args, sample.forward_input.kwargs
    args_of_ours, facts_of_ours = translated(given, seen), translated(named, seen)
    if "Lazy" in info.name:  # which learn from the first call
        module(*given, **named), ours(*args_of_ours, **facts_of_ours)
        assert repr(ours) == repr(module)
    ours.load_state_dict({key: translated(value.detach(), {}) for key, value in module.state_dict().items()})
    random = is_random(info.name, facts, training)
    left, right = module(*given, **named), ours(*args_of_ours, **facts_of_ours)
    results, mine = compare(left, right, values=not random)
    for key, value in module.state_dict().items():
        assert not differ(value, ours.state_dict()[key], what=key)
    for again in copy.deepcopy(ours), pickle.loads(pickle.dumps(ours)):
        assert repr(again) == repr(ours)
    if random or not results or info.name in ANOTHER_GRADIENT:
        return
    inputs = [t for t in tensors((given, named), torch.Tensor) if t.requires_grad]
    x, u = [*inputs, *module.parameters()], [*(seen[id(t)] for t in inputs), *ours.parameters()]
    bars = adjoints(results)
    facts = {"allow_unused": True, "materialize_grads": True}
    found = torch.autograd.grad(results, x, [torch.tensor(b) for b in bars], create_graph=True, **facts)
    got = tg.autograd.grad(mine, u, [tg.tensor(b) for b in bars], create_graph=True, **facts)
    assert not differ(found, got, what="gradient")
    seconds = [(a, b) for a, b in zip(found, got, strict=True) if a.requires_grad]
    if seconds:
        try:
            found = torch.autograd.grad([a.sin().sum() for a, _ in seconds], x, **facts)
        except RuntimeError as error:
            if "is not implemented" not in str(error):
                raise
            return
        got = tg.autograd.grad([b.sin().sum() for _, b in seconds if b.requires_grad], u, **facts)
        assert not differ(found, got, what="second order")


def check_error(own, wrong):
    made, given = wrong.module_error_input.constructor_input, wrong.module_error_input.forward_input
    with pytest.raises(wrong.error_type, match=wrong.error_regex):  # noqa: PT012
        module = own(*translated(made.args, {}), **translated(made.kwargs, {})).to(tg.float32)
        if given is not None:
            module(*translated(given.args, {}), **translated(given.kwargs, {}))


# --- optimisers -------------------------------------------------------------------------------------------------------


def parameters(library, kind):
    random = np.random.default_rng(0)
    return [kind(library.tensor(random.normal(size=shape))) for shape in ((3, 4), (4,), (2, 3, 2), ())]


def loss(library, given, k):
    random = np.random.default_rng(k)
    targets = [library.tensor(random.normal(size=tuple(p.shape))) for p in given]
    return sum(((p - c) ** 2).sum() + (p * c).sin().sum() for p, c in zip(given, targets, strict=True))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers(name):
    info, own = OPTIMIZERS[name], getattr(tg.optim, name)
    if name in ("Muon", "SparseAdam"):
        pytest.skip("for other parameters")
    tolerance = 1e-7 if name == "ASGD" else 1e-9  # PyTorch's has steps of single precision
    n_steps = 2 if name == "LBFGS" else 5  # beyond the minimum rounding decides
    for given in info.optim_inputs_func(device="cpu"):
        theirs = info.optim_cls(x := parameters(torch, torch.nn.Parameter), **given.kwargs)
        ours = own(y := parameters(tg, tg.nn.Parameter), **table.translated(given.kwargs, {}))
        for k in range(n_steps):
            for library, optimizer, of in ((torch, theirs, x), (tg, ours, y)):

                def closure(library=library, optimizer=optimizer, of=of, k=k):
                    optimizer.zero_grad()
                    value = loss(library, of, k)
                    value.backward()
                    return value

                optimizer.step(closure)
        for a, b in zip(x, y, strict=True):
            np.testing.assert_allclose(b.detach().numpy(), a.detach().numpy(), rtol=tolerance, atol=tolerance)
        if name != "LBFGS":
            left, right = theirs.state_dict()["state"], ours.state_dict()["state"]
            assert left.keys() == right.keys()
            for place in left:
                assert left[place].keys() == right[place].keys()
                for key, value in left[place].items():
                    assert isinstance(value, torch.Tensor) == isinstance(right[place][key], tg.Tensor), key
                    if value is not None:
                        np.testing.assert_allclose(right[place][key].detach().numpy(), value, 1e-6, 1e-9)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_errors_of_optimizers(name):
    info, own = OPTIMIZERS[name], getattr(tg.optim, name)
    for wrong in info.optim_error_inputs_func(device="cpu", dtype=torch.float64):
        if wrong.error_on != optimizers.OptimizerErrorEnum.CONSTRUCTION_ERROR:
            continue
        if name == "LBFGS" and "group" in re.sub("param groups? cannot", "", wrong.error_regex):
            continue  # it takes one group, and says so first
        seen = {}

        def converted(value, seen=seen):
            if isinstance(value, torch.nn.Parameter):
                return seen.setdefault(id(value), tg.nn.Parameter(tg.tensor(value.detach().numpy())))
            if isinstance(value, (list, tuple)):
                return type(value)(map(converted, value))
            if isinstance(value, dict):
                return {key: converted(item) for key, item in value.items()}
            return table.translated(value, seen)

        given = wrong.optimizer_error_input
        try:
            params, facts = converted(given.params), converted(given.kwargs)
        except Unsupported:
            continue
        expects = pytest.warns if wrong.error_type is UserWarning else pytest.raises
        with expects(wrong.error_type, match=wrong.error_regex):
            own(params, **facts)
