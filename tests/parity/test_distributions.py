"""`tapegrad.distributions` beside PyTorch's: densities, moments, divergences, their gradients; shapes and errors."""

import numpy as np
import pytest

import tapegrad

from .oracle import agree, torch

TD, D = torch.distributions, tapegrad.distributions

rng = np.random.default_rng(0)
R = rng.normal(size=(3, 4))
P = rng.uniform(0.5, 3.0, size=(3, 4))
Q = rng.uniform(0.5, 3.0, size=4)
U = rng.uniform(0.05, 0.95, size=(3, 4))
COUNTS = rng.integers(0, 4, size=(3, 4)).astype(float)
SIMPLEX = U / U.sum(-1, keepdims=True)
LOW = np.tril(rng.normal(size=(4, 4)), -1) + np.diag(rng.uniform(0.5, 2.0, 4))
SQUARE = LOW @ LOW.T
UNEQUAL = SQUARE + np.eye(4)
HOT = np.eye(4)[[0, 2, 3]]
CORRELATION = LOW / np.linalg.norm(LOW, axis=1, keepdims=True)

# name: parameters, values
CASES = {
    "Normal": ({"loc": R, "scale": Q}, R[::-1].copy()),
    "Cauchy": ({"loc": R, "scale": Q}, R[::-1].copy()),
    "Laplace": ({"loc": R, "scale": Q}, R[::-1].copy()),
    "Gumbel": ({"loc": R, "scale": Q}, R[::-1].copy()),
    "StudentT": ({"df": P + 2.5, "loc": R, "scale": Q}, R[::-1].copy()),
    "Uniform": ({"low": R, "high": R + P}, R + P * U),
    "Exponential": ({"rate": P}, U),
    "Gamma": ({"concentration": P, "rate": Q}, U),
    "Chi2": ({"df": P}, U),
    "InverseGamma": ({"concentration": P + 2, "rate": Q}, U),
    "Beta": ({"concentration1": P, "concentration0": Q}, U),
    "FisherSnedecor": ({"df1": P + 2, "df2": Q + 4}, U),
    "HalfNormal": ({"scale": P}, U),
    "HalfCauchy": ({"scale": P}, U),
    "LogNormal": ({"loc": R, "scale": Q}, P),
    "LogisticNormal": ({"loc": R[:, :3], "scale": P[:, :3]}, SIMPLEX),
    "Weibull": ({"scale": P, "concentration": Q + 1}, U),
    "Pareto": ({"scale": P, "alpha": Q + 2}, P + U),
    "GeneralizedPareto": ({"loc": R, "scale": Q, "concentration": U * 0.4}, R + P),
    "Kumaraswamy": ({"concentration1": P, "concentration0": Q}, U),
    "VonMises": ({"loc": R, "concentration": P}, R[::-1].copy()),
    "Bernoulli": ({"probs": U}, HOT),
    "Geometric": ({"probs": U}, COUNTS),
    "Binomial": ({"total_count": 5, "probs": U}, COUNTS),
    "NegativeBinomial": ({"total_count": P, "probs": U}, COUNTS),
    "Poisson": ({"rate": P}, COUNTS),
    "Categorical": ({"probs": P}, np.array([0, 3, 1])),
    "OneHotCategorical": ({"probs": P}, HOT),
    "OneHotCategoricalStraightThrough": ({"probs": P}, HOT),
    "Multinomial": ({"total_count": 20, "probs": P}, COUNTS),
    "ContinuousBernoulli": ({"probs": np.where(np.abs(U - 0.5) < 0.05, 0.2, U)}, U),
    "RelaxedBernoulli": ({"temperature": 0.7, "probs": U}, U),
    "RelaxedOneHotCategorical": ({"temperature": 0.7, "probs": P}, SIMPLEX),
    "Dirichlet": ({"concentration": P}, SIMPLEX),
    "MultivariateNormal": ({"loc": R, "scale_tril": LOW}, R[::-1].copy()),
    "LowRankMultivariateNormal": ({"loc": R, "cov_factor": LOW[:, :2], "cov_diag": Q}, R[::-1].copy()),
}
OF_LOGITS = {
    "Bernoulli logits": ("Bernoulli", {"logits": R * 5}, HOT),
    "Geometric logits": ("Geometric", {"logits": R}, COUNTS),
    "Binomial logits": ("Binomial", {"total_count": 5, "logits": R}, COUNTS),
    "NegativeBinomial logits": ("NegativeBinomial", {"total_count": P, "logits": R}, COUNTS),
    "Categorical logits": ("Categorical", {"logits": R * 5}, np.array([0, 3, 1])),
    "OneHotCategorical logits": ("OneHotCategorical", {"logits": R}, HOT),
    "Multinomial logits": ("Multinomial", {"total_count": 12, "logits": R}, COUNTS),
    "ContinuousBernoulli logits": ("ContinuousBernoulli", {"logits": R + np.sign(R)}, U),
    "RelaxedBernoulli logits": ("RelaxedBernoulli", {"temperature": 0.7, "logits": R}, U),
    "RelaxedOneHotCategorical logits": ("RelaxedOneHotCategorical", {"temperature": 0.7, "logits": R}, SIMPLEX),
    "MultivariateNormal covariance": ("MultivariateNormal", {"loc": R, "covariance_matrix": SQUARE}, R[::-1].copy()),
    "MultivariateNormal precision": ("MultivariateNormal", {"loc": R, "precision_matrix": SQUARE}, R[::-1].copy()),
    "MultivariateNormal batch": (
        "MultivariateNormal",
        {"loc": R[:, None], "scale_tril": np.stack([LOW, 2 * LOW])},
        rng.normal(size=(5, 3, 2, 4)),
    ),
    "Wishart": (
        "Wishart",
        {"df": P[:, 0] + 5.0, "scale_tril": LOW},
        np.stack([SQUARE, 2 * SQUARE, SQUARE + np.eye(4)]),
    ),
    "Wishart covariance": ("Wishart", {"df": 4.5, "covariance_matrix": SQUARE}, SQUARE + np.eye(4)),
    "LKJCholesky": ("LKJCholesky", {"dim": 4, "concentration": P[:, 0]}, CORRELATION),
}
NO_SLOPE = ("Gamma", "Chi2", "InverseGamma")  # PyTorch knows no derivative of their distribution functions
ALL = {**{name: (name, *case) for name, case in CASES.items()}, **OF_LOGITS}


def made(library, distributions, kind, parameters, dtype="float64"):
    """A distribution, and those of its parameters that require grad."""
    leaves = {
        name: library.tensor(np.asarray(value), dtype=getattr(library, dtype), requires_grad=True)
        for name, value in parameters.items()
        if name not in ("total_count", "temperature", "dim") or not np.isscalar(value)
    }
    others = {k: library.tensor(v) if k == "temperature" else v for k, v in parameters.items() if k not in leaves}
    return getattr(distributions, kind)(**{**others, **leaves}), leaves


def close(got, expected, tolerance):
    got, expected = got.detach().numpy(), expected.detach().numpy()
    assert got.shape == expected.shape
    assert got.dtype == expected.dtype
    np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)


def same(library_pair, ask, tolerance=2e-9, gradients=True):
    """What is asked of both distributions, and its gradient by their parameters, agree."""
    (theirs, their_leaves), (ours, our_leaves) = library_pair
    try:
        expected = ask(torch, theirs)
    except NotImplementedError:
        return
    got = ask(tapegrad, ours)
    close(got, expected, tolerance)
    if not gradients or not expected.requires_grad:
        return
    finite = torch.isfinite(expected)
    if not finite.any():
        return
    by = torch.autograd.grad(expected[finite].sum(), list(their_leaves.values()), allow_unused=True)
    mine = tapegrad.autograd.grad(
        got[tapegrad.from_numpy(finite.numpy())].sum(), list(our_leaves.values()), allow_unused=True
    )
    for name, e, g in zip(their_leaves, by, mine, strict=True):
        e = torch.zeros_like(their_leaves[name]) if e is None else e
        g = tapegrad.zeros_like(our_leaves[name]) if g is None else g
        if name == "scale_tril":  # what is above the diagonal is 0, by constraint
            e, g = e.tril(), g.tril()
        np.testing.assert_allclose(g.numpy(), e.numpy(), rtol=1e3 * tolerance, atol=1e2 * tolerance, err_msg=name)


def both(kind, parameters, dtype="float64"):
    return made(torch, TD, kind, parameters, dtype), made(tapegrad, D, kind, parameters, dtype)


def tolerance(kind, dtype):
    if dtype == "float32":
        return 2e-5
    return {"VonMises": 2e-7, "ContinuousBernoulli": 2e-9}.get(kind, 2e-10)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", ALL)
def test_log_prob(name, dtype):
    kind, parameters, values = ALL[name]
    if kind == "RelaxedOneHotCategorical" and dtype == "float32":
        values = values.astype(np.float32).astype(np.float64)
    if (kind, dtype) == ("GeneralizedPareto", "float32"):
        pytest.skip("PyTorch's compares with a 0 of the default dtype, and refuses")
    pair = both(kind, parameters, dtype)

    def ask(library, d):
        return d.log_prob(library.tensor(values, dtype=None if values.dtype == int else getattr(library, dtype)))

    same(pair, ask, tolerance(kind, dtype))


@pytest.mark.parametrize("name", ALL)
def test_moments_entropies_and_distribution_functions(name):
    kind, parameters, values = ALL[name]
    for what in ("mean", "mode", "variance", "stddev"):
        if (kind, what) == ("Kumaraswamy", "mode"):
            continue  # PyTorch's is nan where it need not be
        same(both(kind, parameters), lambda _, d, what=what: getattr(d, what), tolerance(kind, "float64"))
    same(both(kind, parameters), lambda _, d: d.entropy(), tolerance(kind, "float64"))
    same(both(kind, parameters), lambda library, d: d.cdf(library.tensor(values)), 2e-9, kind not in NO_SLOPE)
    same(both(kind, parameters), lambda library, d: d.icdf(library.tensor(U)), 2e-9)


@pytest.mark.filterwarnings("ignore:Singular sample")  # PyTorch's, of Wishart's
@pytest.mark.parametrize("name", ALL)
def test_shapes_expansion_and_text(name):
    kind, parameters, _ = ALL[name]
    (theirs, _), (ours, _) = both(kind, parameters)
    for d, e in ((ours, theirs), (ours.expand((2, *ours.batch_shape)), theirs.expand((2, *theirs.batch_shape)))):
        assert tuple(d.batch_shape) == tuple(e.batch_shape)
        assert tuple(d.event_shape) == tuple(e.event_shape)
        assert tuple(d.sample().shape) == tuple(e.sample().shape)
        assert tuple(d.sample((5, 2)).shape) == tuple(e.sample((5, 2)).shape)
        assert d.sample().numpy().dtype == e.sample().numpy().dtype
        assert bool(d.support.check(d.sample((20,))).all())
    assert ours.has_rsample == theirs.has_rsample
    assert ours.has_enumerate_support == theirs.has_enumerate_support
    if kind in ("Normal", "Gamma", "Uniform", "Bernoulli", "Categorical", "MultivariateNormal"):
        assert repr(ours).replace("tapegrad", "torch") == repr(both(kind, parameters)[0][0])
    if ours.has_rsample:
        assert ours.rsample((2,)).requires_grad
    if ours.has_enumerate_support:
        for expand in (True, False):
            close(ours.enumerate_support(expand), theirs.enumerate_support(expand), 0.0)


PAIRS = sorted(
    (p.__name__, q.__name__)
    for p, q in torch.distributions.kl._KL_REGISTRY
    if p.__name__ in CASES and q.__name__ in CASES
)


@pytest.mark.parametrize(("p", "q"), PAIRS)
def test_divergences(p, q):
    if (p, q) in {("ContinuousBernoulli", "Uniform"), ("Uniform", "ContinuousBernoulli")}:
        pytest.skip("PyTorch's is infinite where it need not be")
    other = dict(CASES[q][0])
    for name, value in other.items():
        if name not in ("total_count", "temperature", "low", "high", "scale_tril", "cov_factor", "probs"):
            other[name] = value + 0.3
    if "probs" in other:
        other["probs"] = other["probs"] * 0.9
    if (p, q) == ("Uniform", "Uniform"):
        other = {"low": R - 0.2, "high": R + P + 0.3}
    of_p = CASES[p][0]
    if p == "Uniform" and q in ("Beta", "Exponential", "Gamma", "Pareto"):
        of_p = {"low": U * 0.3, "high": U * 0.3 + 0.5}
        other = {name: value if name != "scale" else value * 0.001 for name, value in other.items()}
    if q == "Uniform" and p == "Beta":
        other = {"low": -U, "high": 1 + U}
    (theirs, their_leaves), (ours, our_leaves) = both(p, of_p)
    (their_other, _), (our_other, _) = both(q, other)
    same(
        ((theirs, their_leaves), (ours, our_leaves)),
        lambda library, d: TD.kl_divergence(d, their_other) if library is torch else D.kl_divergence(d, our_other),
        2e-8,
        q != "ContinuousBernoulli",
    )


REFUSED = {
    "a negative scale": lambda tg, D: D.Normal(0.0, -1.0),
    "nan": lambda tg, D: D.Normal(tg.tensor(float("nan")), 1.0),
    "bounds": lambda tg, D: D.Uniform(1.0, 0.0),
    "neither": lambda tg, D: D.Bernoulli(),
    "both": lambda tg, D: D.Categorical(tg.ones(2), tg.ones(2)),
    "a probability": lambda tg, D: D.Bernoulli(1.5),
    "a scalar": lambda tg, D: D.Categorical(tg.tensor(1.0)),
    "negative probabilities": lambda tg, D: D.Categorical(tg.tensor([-1.0, 2.0])),
    "a list": lambda tg, D: D.Normal([0.0], 1.0),
    "outside": lambda tg, D: D.Exponential(1.0).log_prob(tg.tensor(-1.0)),
    "no integer": lambda tg, D: D.Poisson(1.0).log_prob(tg.tensor(0.5)),
    "a category": lambda tg, D: D.Categorical(tg.ones(2)).log_prob(tg.tensor(2)),
    "a list of values": lambda tg, D: D.Normal(0.0, 1.0).log_prob([0.0]),
    "shapes": lambda tg, D: D.Normal(tg.zeros(3), 1.0).log_prob(tg.zeros(2)),
    "shapes of parameters": lambda tg, D: D.Normal(tg.zeros(3), tg.ones(2)),
    "an event": lambda tg, D: D.Dirichlet(tg.ones(3)).log_prob(tg.ones(2) / 2),
    "matrices": lambda tg, D: D.MultivariateNormal(tg.zeros(2)),
    "no vector": lambda tg, D: D.MultivariateNormal(tg.tensor(0.0), tg.eye(2)),
    "not positive definite": lambda tg, D: D.MultivariateNormal(tg.zeros(2), -tg.eye(2)),
    "not symmetric": lambda tg, D: D.MultivariateNormal(tg.zeros(2), tg.tensor([[1.0, 0.5], [0.0, 1.0]])),
    "degrees": lambda tg, D: D.Wishart(tg.tensor(0.5), tg.eye(2)),
    "a dimension": lambda tg, D: D.LKJCholesky(1),
    "counts": lambda tg, D: D.Multinomial(tg.tensor([2, 3]), tg.ones(2, 2)),
    "independent": lambda tg, D: D.Independent(D.Normal(0.0, 1.0), 1),
    "mixture": lambda tg, D: D.MixtureSameFamily(D.Normal(0.0, 1.0), D.Normal(0.0, 1.0)),
    "components": lambda tg, D: D.MixtureSameFamily(D.Categorical(tg.ones(2)), D.Normal(tg.zeros(3), 1.0)),
    "transforms": lambda tg, D: D.TransformedDistribution(D.Normal(0.0, 1.0), 3),
    "no divergence": lambda tg, D: D.kl_divergence(D.StudentT(3.0), D.Normal(0.0, 1.0)),
    "no samples with derivatives": lambda tg, D: D.Poisson(1.0).rsample(),
    "a cache": lambda tg, D: D.ExpTransform(cache_size=2),
    "sizes": lambda tg, D: D.ReshapeTransform((2,), (3,)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name):
    with pytest.raises(Exception) as expected:  # noqa: PT011
        REFUSED[name](torch, TD)
    with pytest.raises(expected.type) as got:
        REFUSED[name](tapegrad, D)
    theirs, ours = (" ".join(str(e.value).split())[:22] for e in (expected, got))
    if name not in ("a list", "shapes of parameters", "mixture", "no samples with derivatives"):
        assert ours == theirs


def test_distributions_that_say_nothing_of_their_constraints_are_used_with_a_warning():
    agree(
        """
import warnings as _warnings
class _Delta(tg.distributions.Distribution):
    def log_prob(self, value): self._validate_sample(value); return value * 2
with _warnings.catch_warnings(record=True) as _w:
    _warnings.simplefilter("always"); y = _Delta(validate_args=True).log_prob(tg.ones(()))
said = ["does not define `" + w in str(s.message) for w, s in zip(("arg_constraints", "support"), _w)]
""",
        text=False,
    )


def test_numbers_for_samplers_of_others():
    for package in torch, tapegrad:
        draw = package.distributions.utils._standard_normal
        made = draw(package.Size([300, 2]), dtype=package.float32, device=package.device("cpu"))
        assert made.dtype is package.float32
        assert made.shape == (300, 2)
        assert abs(float(made.mean())) < 0.2
        assert draw((), dtype=package.float64, device="cpu").shape == ()
