"""Distributions against SciPy's and against their mathematics: densities, quantiles, samples, implicit derivatives."""

import math

import mpmath
import numpy as np
import pytest
import scipy.stats as stats

import tapegrad as tg

D = tg.distributions

# name: ours, SciPy's, and points of its support, extreme ones too
CASES = {
    "Normal": (D.Normal(0.3, 2.0), stats.norm(0.3, 2.0), [-1e3, -40.0, -1.0, 0.0, 0.7, 50.0]),
    "Cauchy": (D.Cauchy(0.3, 2.0), stats.cauchy(0.3, 2.0), [-1e100, -1.0, 0.3, 1e9]),
    "Laplace": (D.Laplace(0.3, 2.0), stats.laplace(0.3, 2.0), [-600.0, -1.0, 0.0, 700.0]),
    "Gumbel": (D.Gumbel(0.3, 2.0), stats.gumbel_r(0.3, 2.0), [-8.0, -1.0, 0.3, 300.0]),
    "StudentT": (D.StudentT(3.5, 0.3, 2.0), stats.t(3.5, 0.3, 2.0), [-1e60, -1.0, 0.3, 1e9]),
    "StudentT of many": (D.StudentT(1e7), stats.t(1e7), [-5.0, 0.0, 2.0, 20.0]),
    "Uniform": (D.Uniform(-1.0, 3.0), stats.uniform(-1.0, 4.0), [-1.0, 0.0, 2.999]),
    "Exponential": (D.Exponential(2.0), stats.expon(scale=0.5), [0.0, 1e-300, 1.0, 300.0]),
    "Gamma": (D.Gamma(2.5, 2.0), stats.gamma(2.5, scale=0.5), [1e-200, 1e-3, 1.0, 300.0]),
    "Gamma of little": (D.Gamma(0.01, 2.0), stats.gamma(0.01, scale=0.5), [1e-300, 1e-3, 1.0, 30.0]),
    "Chi2": (D.Chi2(3.0), stats.chi2(3.0), [1e-9, 1.0, 100.0]),
    "InverseGamma": (D.InverseGamma(2.5, 2.0), stats.invgamma(2.5, scale=2.0), [0.01, 1.0, 1e6]),
    "Beta": (D.Beta(2.5, 0.5), stats.beta(2.5, 0.5), [1e-200, 0.1, 0.5, 1 - 1e-12]),
    "Beta of many": (D.Beta(2e6, 3e6), stats.beta(2e6, 3e6), [0.399, 0.4, 0.401]),
    "FisherSnedecor": (D.FisherSnedecor(5.0, 7.0), stats.f(5.0, 7.0), [1e-9, 1.0, 1e6]),
    "HalfNormal": (D.HalfNormal(2.0), stats.halfnorm(scale=2.0), [0.0, 1e-9, 1.0, 60.0]),
    "HalfCauchy": (D.HalfCauchy(2.0), stats.halfcauchy(scale=2.0), [0.0, 1.0, 1e100]),
    "LogNormal": (D.LogNormal(0.3, 2.0), stats.lognorm(2.0, scale=math.exp(0.3)), [1e-200, 1.0, 1e200]),
    "Weibull": (D.Weibull(2.0, 1.5), stats.weibull_min(1.5, scale=2.0), [1e-9, 1.0, 30.0]),
    "Pareto": (D.Pareto(2.0, 1.5), stats.pareto(1.5, scale=2.0), [2.0, 3.0, 1e100]),
    "GeneralizedPareto": (D.GeneralizedPareto(0.3, 2.0, -0.2), stats.genpareto(-0.2, 0.3, 2.0), [0.3, 1.0, 10.0]),
    "GeneralizedPareto of 0": (D.GeneralizedPareto(0.0, 2.0, 1e-12), stats.genpareto(1e-12, 0.0, 2.0), [0.0, 5.0]),
    "VonMises": (D.VonMises(0.3, 2.0), stats.vonmises(2.0, 0.3), [-2.0, 0.3, 3.0]),
    "VonMises of much": (D.VonMises(0.3, 1e5), stats.vonmises(1e5, 0.3), [0.29, 0.3, 0.31]),
    "Bernoulli": (D.Bernoulli(0.3), stats.bernoulli(0.3), [0.0, 1.0]),
    "Binomial": (D.Binomial(50, 0.3), stats.binom(50, 0.3), [0.0, 15.0, 50.0]),
    "Binomial of many": (D.Binomial(10**7, 0.3), stats.binom(10**7, 0.3), [2.9e6, 3e6, 3.1e6]),
    "Geometric": (D.Geometric(0.3), stats.geom(0.3, -1), [0.0, 1.0, 100.0]),
    "NegativeBinomial": (D.NegativeBinomial(4.0, 0.3), stats.nbinom(4.0, 0.7), [0.0, 2.0, 200.0]),
    "Poisson": (D.Poisson(3.0), stats.poisson(3.0), [0.0, 3.0, 100.0]),
}
DISCRETE = ("Bernoulli", "Binomial", "Geometric", "NegativeBinomial", "Poisson")


@pytest.mark.parametrize("name", CASES)
def test_densities_are_scipys(name):
    ours, theirs, points = CASES[name]
    points = np.array(points)
    density = theirs.logpmf if name.startswith(DISCRETE) else theirs.logpdf
    np.testing.assert_allclose(
        ours.log_prob(points).numpy(), density(points), rtol=2e-9, atol=2e-8 if name.endswith("of many") else 1e-9
    )


@pytest.mark.parametrize("name", CASES)
def test_moments_and_entropies_are_scipys(name):
    ours, theirs, _ = CASES[name]
    for got, expected in (("mean", theirs.mean), ("variance", theirs.var), ("entropy", theirs.entropy)):
        if name.startswith("VonMises") and got != "mean":
            continue  # the variance of an angle is another
        try:
            found = getattr(ours, got)
            found = float(found() if callable(found) else found)
        except NotImplementedError:
            continue
        reference = float(expected())
        if math.isfinite(reference):
            assert found == pytest.approx(reference, rel=2e-7, abs=1e-9), got
        else:
            assert not math.isfinite(found)


@pytest.mark.parametrize("name", [name for name in CASES if not name.startswith(DISCRETE)])
def test_distribution_functions_are_scipys_and_each_others_inverse(name):
    ours, theirs, points = CASES[name]
    points = np.array(points)
    try:
        got = ours.cdf(points).numpy()
    except NotImplementedError:
        return
    np.testing.assert_allclose(got, theirs.cdf(points), rtol=1e-9, atol=1e-300)
    u = np.array([1e-12, 0.01, 0.5, 0.9, 1 - 1e-9])
    try:
        x = ours.icdf(u)
    except NotImplementedError:
        return
    np.testing.assert_allclose(ours.cdf(x).numpy(), u, rtol=1e-6, atol=1e-15)


def slope(function, at):
    """A derivative by mpmath, at fifty digits."""
    with mpmath.workdps(50):
        return float(mpmath.diff(function, mpmath.mpf(at)))


MP = {
    "StudentT": (
        lambda v: D.StudentT(v).log_prob(0.7),
        lambda v: mpmath.loggamma((v + 1) / 2) - mpmath.loggamma(v / 2) - mpmath.log(v * mpmath.pi) / 2
        - (v + 1) / 2 * mpmath.log(1 + mpmath.mpf(0.7) ** 2 / v),
        [0.5, 3.0, 25.0, 1e5],
    ),
    "Beta": (
        lambda a: D.Beta(a, 3.0).log_prob(0.3),
        lambda a: (a - 1) * mpmath.log(mpmath.mpf(0.3)) + 2 * mpmath.log(1 - mpmath.mpf(0.3))
        - mpmath.log(mpmath.beta(a, 3)),
        [0.01, 1.0, 3.0, 9.5, 40.0, 1e4],
    ),
    "Gamma": (
        lambda a: D.Gamma(a, 2.0).log_prob(0.3),
        lambda a: a * mpmath.log(2) + (a - 1) * mpmath.log(mpmath.mpf(0.3)) - 2 * mpmath.mpf(0.3) - mpmath.loggamma(a),
        [0.01, 1.0, 30.0],
    ),
    "VonMises": (
        lambda k: D.VonMises(0.0, k).log_prob(0.3),
        lambda k: k * mpmath.cos(mpmath.mpf(0.3)) - mpmath.log(2 * mpmath.pi * mpmath.besseli(0, k)),
        [0.01, 1.0, 30.0, 300.0],
    ),
    "ContinuousBernoulli": (
        lambda odds: D.ContinuousBernoulli(logits=odds).log_prob(0.3),
        lambda odds: mpmath.mpf(0.3) * odds - mpmath.log((mpmath.exp(odds) - 1) / odds),
        [-50.0, -1.9, 1e-9, 0.3, 2.1, 200.0],
    ),
    "NegativeBinomial": (
        lambda r: D.NegativeBinomial(r, 0.3).log_prob(4.0),
        lambda r: mpmath.loggamma(r + 4) - mpmath.loggamma(r) + r * mpmath.log(1 - mpmath.mpf(0.3)),
        [0.1, 5.0, 30.0, 1e5],
    ),
    "Normal's quantile": (
        lambda u: D.Normal(0.0, 1.0).icdf(u),
        lambda u: mpmath.sqrt(2) * mpmath.erfinv(2 * u - 1),
        [1e-6, 0.2, 0.9],
    ),
    "Gamma's distribution function": (
        lambda x: D.Gamma(2.5, 1.0).cdf(x),
        lambda x: mpmath.gammainc(mpmath.mpf(2.5), 0, x, regularized=True),
        [0.01, 1.0, 20.0],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MP)
def test_first_and_second_derivatives(name):
    ours, exact, points = MP[name]
    for at in points:
        x = tg.tensor(at, requires_grad=True)
        (first,) = tg.autograd.grad(ours(x), x, create_graph=True)
        (second,) = tg.autograd.grad(first, x)
        assert first.item() == pytest.approx(slope(exact, at), rel=1e-8, abs=1e-12)
        assert second.item() == pytest.approx(slope(lambda v: mpmath.diff(exact, v), at), rel=1e-6, abs=1e-10)


def test_distribution_functions_have_derivatives_by_shapes():
    for a in (0.3, 2.5, 40.0):
        leaf = tg.tensor(a, requires_grad=True)
        (got,) = tg.autograd.grad(D.Gamma(leaf, 2.0).cdf(0.9), leaf)
        exact = slope(lambda v: mpmath.gammainc(v, 0, mpmath.mpf(1.8), regularized=True), a)
        assert got.item() == pytest.approx(exact, rel=1e-10)
        (got,) = tg.autograd.grad(D.Beta(leaf, 2.0).cdf(0.9), leaf)
        exact = slope(lambda v: mpmath.betainc(v, 2, 0, mpmath.mpf(0.9), regularized=True), a)
        assert got.item() == pytest.approx(exact, rel=1e-9)


def test_second_derivatives_of_beta_where_its_parameters_are_equal():
    for a in (2.0, 30.0):
        hessian = tg.func.hessian(lambda p: D.Beta(p[0], p[1]).log_prob(0.4))(np.array([a, a]))
        with mpmath.workdps(30):
            both, one = float(mpmath.psi(1, 2 * a)), float(mpmath.psi(1, a))
        np.testing.assert_allclose(hessian, [[both - one, both], [both, both - one]], rtol=1e-9)


def test_implicit_derivatives_of_gamma_variates():
    """-(dP/da) / p(x), at forty digits; from far in one tail to far in the other."""
    for a in (1e-3, 0.3, 1.0, 3.9, 4.1, 50.0, 1e4):
        for u in (1e-12, 1e-3, 0.5, 0.999, 1 - 1e-12):
            x = float(stats.gamma.ppf(u, a))
            if x < 1e-300:
                continue
            with mpmath.workdps(40):
                by_a = mpmath.diff(
                    lambda v, x=x: mpmath.gammainc(v, 0, x, regularized=True), a, h=mpmath.mpf(a) * 1e-15
                )
                log_p = (a - 1) * mpmath.log(x) - x - mpmath.loggamma(a)
                expected = float(-by_a / mpmath.exp(log_p) / x)
            got = float(D.variates.slope_of_log(np.array([a]), np.array([math.log(x)]))[0])
            assert got == pytest.approx(expected, rel=1e-11), (a, u)


REPARAMETRISED = {
    # of these E[x] and its derivatives by the parameters are known
    "Normal": (D.Normal, [0.3, 2.0], [1.0, 0.0]),
    "Laplace": (D.Laplace, [0.3, 2.0], [1.0, 0.0]),
    "Gumbel": (D.Gumbel, [0.3, 2.0], [1.0, 0.5772156649]),
    "Uniform": (D.Uniform, [-1.0, 3.0], [0.5, 0.5]),
    "Exponential": (D.Exponential, [2.0], [-0.25]),
    "Gamma": (D.Gamma, [2.5, 2.0], [0.5, -0.625]),
    "Gamma of little": (D.Gamma, [0.2, 2.0], [0.5, -0.05]),
    "Chi2": (D.Chi2, [3.0], [1.0]),
    "Beta": (D.Beta, [2.0, 3.0], [0.12, -0.08]),
    "InverseGamma": (D.InverseGamma, [6.0, 2.0], [-0.08, 0.2]),
    "Weibull": (D.Weibull, [2.0, 1.0], [1.0, -2.0 * (1 - 0.5772156649)]),
    "Pareto": (D.Pareto, [1.0, 6.0], [1.2, -0.04]),
    "LogNormal": (D.LogNormal, [0.1, 0.5], [math.exp(0.225), 0.5 * math.exp(0.225)]),
    "HalfNormal": (D.HalfNormal, [2.0], [math.sqrt(2 / math.pi)]),
}


@pytest.mark.parametrize("name", REPARAMETRISED)
def test_samples_have_the_derivatives_of_their_mean(name):
    make, parameters, expected = REPARAMETRISED[name]
    tg.manual_seed(1)
    n = 20_000
    leaves = [tg.full((n,), value, requires_grad=True) for value in parameters]
    x = make(*leaves).rsample()
    x.sum().backward()
    for leaf, value in zip(leaves, expected, strict=True):
        slopes = leaf.grad.numpy()
        assert abs(slopes.mean() - value) <= 5 * slopes.std() / math.sqrt(n) + 1e-9


MATRIX = np.array([[2.0, 0.5, 0.1], [0.5, 1.0, 0.3], [0.1, 0.3, 0.7]])
SAMPLED = {
    **{name: case[0] for name, case in CASES.items() if not name.startswith(("Cauchy", "HalfCauchy", "VonMises"))},
    "Kumaraswamy": D.Kumaraswamy(2.0, 3.0),
    "Dirichlet": D.Dirichlet(np.array([0.2, 1.0, 3.0])),
    "OneHotCategorical": D.OneHotCategorical(np.array([1.0, 0.0, 3.0])),
    "Multinomial": D.Multinomial(7, np.array([1.0, 0.0, 3.0])),
    "ContinuousBernoulli": D.ContinuousBernoulli(logits=-3.0),
    "MultivariateNormal": D.MultivariateNormal(np.array([1.0, 0.0, -1.0]), MATRIX),
    "MultivariateNormal by precision": D.MultivariateNormal(np.zeros(3), precision_matrix=MATRIX),
    "LowRankMultivariateNormal": D.LowRankMultivariateNormal(np.zeros(3), MATRIX[:, :1], np.ones(3)),
    "Wishart": D.Wishart(4.5, MATRIX),
    "Independent": D.Independent(D.Normal(np.array([0.0, 1.0]), 2.0), 1),
    "MixtureSameFamily": D.MixtureSameFamily(D.Categorical(np.array([1.0, 3.0])), D.Normal(np.array([-1.0, 2.0]), 0.5)),
}


@pytest.mark.parametrize("name", SAMPLED)
def test_samples_have_the_moments(name):
    d = SAMPLED[name]
    tg.manual_seed(2)
    n = 20_000
    x = d.sample((n,))
    assert not x.requires_grad
    mean, variance = d.mean.numpy(), d.variance.numpy()
    x = x.numpy().astype(np.float64)
    assert (np.abs(x.mean(0) - mean) <= 5 * np.sqrt(variance / n) + 1e-12).all()
    fourth = ((x - mean) ** 4).mean(0)
    if np.isfinite(variance).all() and name not in ("StudentT", "Pareto", "InverseGamma", "LogNormal"):
        assert (np.abs(((x - mean) ** 2).mean(0) - variance) <= 6 * np.sqrt(fourth / n) + 1e-12).all()


def test_correlations_of_lkj():
    tg.manual_seed(4)
    for n, concentration in ((2, 1.0), (3, 0.7), (4, 2.0)):
        d = D.LKJCholesky(n, concentration)
        low = d.sample((20_000,))
        r = (low @ low.mT).numpy()
        variance = 1 / (2 * concentration + n - 1)  # of each correlation, whose density is a beta one's
        for i, j in zip(*np.tril_indices(n, -1), strict=True):
            assert abs(r[:, i, j].mean()) <= 5 * math.sqrt(variance / 20_000)
            assert r[:, i, j].var() == pytest.approx(variance, rel=0.05)


def test_a_seed_gives_the_same_samples():
    def drawn():
        tg.manual_seed(3)
        return [d.sample((3,)).tolist() for d in (D.Normal(0.0, 1.0), D.Poisson(3.0), D.Gamma(0.5, 1.0))]

    assert drawn() == drawn()


DIVERGENCES = [
    (D.Wishart(6.0, MATRIX), D.Wishart(4.5, MATRIX + np.eye(3))),
    (D.LowRankMultivariateNormal(np.ones(3), MATRIX[:, :1], np.ones(3)), D.MultivariateNormal(np.zeros(3), MATRIX)),
    (D.MultivariateNormal(np.ones(3), MATRIX), D.LowRankMultivariateNormal(np.zeros(3), MATRIX[:, :1], np.ones(3))),
    (D.ContinuousBernoulli(0.2), D.Uniform(-1.0, 1.0)),
    (D.Uniform(0.1, 0.9), D.ContinuousBernoulli(0.2)),
    (D.Beta(2.0, 3.0), D.Gamma(1.5, 2.0)),
    (D.Gamma(2.0, 3.0), D.Gumbel(0.5, 2.0)),
    (D.Normal(0.3, 1.2), D.Laplace(-0.1, 0.8)),
    (D.Pareto(1.0, 5.0), D.Normal(0.3, 1.5)),
    (D.Geometric(0.3), D.Geometric(logits=0.1)),
    (D.Dirichlet(np.array([1.0, 2.0, 3.0])), D.Dirichlet(np.array([2.0, 2.0, 0.5]))),
]


@pytest.mark.parametrize(("p", "q"), DIVERGENCES)
def test_divergences_are_means(p, q):
    tg.manual_seed(5)
    x = p.sample((20_000,))
    terms = (p.log_prob(x) - q.log_prob(x)).numpy()
    assert abs(terms.mean() - D.kl_divergence(p, q).item()) <= 5 * terms.std() / math.sqrt(len(terms))


def test_densities_integrate_to_one():
    x = np.linspace(0.0, 1.0, 20001)[1:-1]
    for d in (
        D.Kumaraswamy(2.0, 3.0),
        D.ContinuousBernoulli(logits=5.0),
        D.RelaxedBernoulli(0.8, logits=0.3),
        D.Beta(2.0, 3.0),
        D.TransformedDistribution(D.Normal(0.2, 0.9), [D.SigmoidTransform()]),
    ):
        assert np.trapezoid(np.exp(d.log_prob(x).numpy()), x) == pytest.approx(1.0, abs=1e-3)


def test_probabilities_at_their_bounds():
    assert D.Bernoulli(0.0).log_prob(0.0).item() == 0.0
    assert D.Bernoulli(0.0).log_prob(1.0).item() == -math.inf
    assert D.Bernoulli(1e-20).log_prob(1.0).item() == pytest.approx(math.log(1e-20))
    assert D.Bernoulli(logits=1000.0).log_prob(0.0).item() == -1000.0
    assert D.Categorical(np.array([0.0, 1.0])).entropy().item() == 0.0
    assert D.Binomial(3, 1.0).log_prob(3.0).item() == pytest.approx(0.0, abs=1e-15)
    assert D.Poisson(0.0).log_prob(0.0).item() == 0.0
    p, q = D.Bernoulli(np.array([0.0, 0.5, 0.5])), D.Bernoulli(np.array([0.0, 0.0, 0.5]))
    assert D.kl_divergence(p, q).tolist() == [0.0, math.inf, 0.0]
    p = tg.tensor([0.2, 0.8], requires_grad=True)
    D.kl_divergence(D.Categorical(p), D.Categorical(np.array([0.2, 0.8]))).backward()
    np.testing.assert_allclose(p.grad.numpy(), 0.0, atol=1e-15)


def test_derivatives_at_the_ends_of_the_support():
    for make, expected in (
        (lambda x: D.Gamma(1.0, 2.0).log_prob(x), -2.0),
        (lambda x: D.Beta(1.0, 3.0).log_prob(x), -2.0),
        (lambda x: D.Kumaraswamy(1.0, 3.0).log_prob(x), -2.0),
        (lambda rate: D.Poisson(rate).log_prob(0.0), -1.0),
        (lambda p: D.Bernoulli(p).log_prob(0.0), -1.0),
    ):
        x = tg.tensor(0.0, requires_grad=True)
        assert tg.autograd.grad(make(x), x)[0].item() == expected


def test_outside_of_the_support():
    with pytest.raises(ValueError, match="to be within the support"):
        D.Exponential(1.0).log_prob(-1.0)
    for d in (D.Exponential, D.HalfNormal, D.HalfCauchy, D.Chi2):
        assert d(1.0, validate_args=False).log_prob(-1.0).item() == -math.inf
    for d in (D.LogNormal, D.Gamma, D.Weibull, D.Pareto, D.InverseGamma):
        assert d(1.0, 1.0, validate_args=False).log_prob(-1.0).item() == -math.inf
    for d in (D.Beta, D.Kumaraswamy):
        assert d(1.0, 2.0, validate_args=False).log_prob(1.5).item() == -math.inf
    assert math.isnan(D.Exponential(1.0, validate_args=False).log_prob(math.nan).item())


def test_what_is_refused():
    with pytest.raises(ValueError, match="Expected parameter scale"):
        D.Normal(0.0, -1.0)
    with pytest.raises(ValueError, match="Expected parameter low"):
        D.Uniform(1.0, 0.0)
    with pytest.raises(ValueError, match="Either `probs` or `logits`"):
        D.Bernoulli()
    with pytest.raises(ValueError, match="at least one-dimensional"):
        D.Categorical(1.0)
    with pytest.raises(ValueError, match="Exactly one of"):
        D.MultivariateNormal(np.zeros(2))
    with pytest.raises(ValueError, match="Input arguments must all be"):
        D.Normal([0.0], 1.0)
    with pytest.raises(ValueError, match="The value argument to log_prob"):
        D.Normal(0.0, 1.0).log_prob([0.0])
    with pytest.raises(ValueError, match="Value is not broadcastable"):
        D.Normal(np.zeros(3), 1.0).log_prob(np.zeros(2))
    with pytest.raises(ValueError, match="must match event_shape"):
        D.MultivariateNormal(np.zeros(3), MATRIX).log_prob(np.zeros(2))
    with pytest.raises(NotImplementedError, match="No KL"):
        D.kl_divergence(D.StudentT(3.0), D.Normal(0.0, 1.0))
    with pytest.raises(NotImplementedError, match="no reparametrised samples"):
        D.Poisson(1.0).rsample()
    with pytest.raises(NotImplementedError, match="does not implement cdf"):
        D.StudentT(1.0).cdf(0.5)
    a = tg.tensor(2.0, requires_grad=True)
    (first,) = tg.autograd.grad(D.Gamma(a, 1.0).rsample(), a, create_graph=True)
    with pytest.raises(RuntimeError, match="the derivative of a host function's vjp is not known"):
        tg.autograd.grad(first, a)


def test_numbers_arrays_and_float32():
    assert D.Normal(0, 1).log_prob(0).dtype is tg.float64
    d = D.Normal(np.zeros(2, np.float32), 1)
    assert d.log_prob(np.zeros(2, np.float32)).dtype is d.sample().dtype is tg.float32
    assert D.Categorical(tg.tensor([1.0, 2.0])).sample().dtype is tg.int64
    assert D.Binomial(np.array([3, 4]), np.array([0.5, 0.5])).sample().dtype is tg.float64


TRANSFORMS = {
    "Exp": D.ExpTransform(),
    "Affine": D.AffineTransform(1.0, -2.0),
    "Sigmoid": D.SigmoidTransform(),
    "Softplus": D.SoftplusTransform(),
    "Tanh": D.TanhTransform(),
    "Power of Exp": D.ComposeTransform([D.ExpTransform(), D.PowerTransform(1.5)]),
    "StickBreaking": D.StickBreakingTransform(),
    "CorrCholesky": D.CorrCholeskyTransform(),
    "Independent": D.IndependentTransform(D.ExpTransform(), 1),
    "Reshape": D.ReshapeTransform((6,), (2, 3)),
    "Cat": D.CatTransform([D.ExpTransform(), D.TanhTransform()], -1, [2, 4]),
    "Stack": D.StackTransform([D.ExpTransform(), D.TanhTransform()] * 3, -1),
    "Cdf": D.CumulativeDistributionTransform(D.Normal(0.0, 1.0)),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_and_their_jacobians(name):
    f = TRANSFORMS[name]
    x = tg.tensor([0.3, -0.2, 0.5, 0.1, -0.7, 0.4])
    y = f(x)
    np.testing.assert_allclose(f.inv(y).numpy(), x.numpy(), rtol=1e-9)
    assert bool(f.codomain.check(y).all())
    assert f.inv.inv is f
    assert tuple(f.forward_shape(tuple(x.shape))) == tuple(y.shape)
    assert tuple(f.inverse_shape(tuple(y.shape))) == tuple(x.shape)

    def free(x):  # as many numbers as x has
        y = f(x)
        if name == "CorrCholesky":
            return y[tuple(tg.tril_indices(4, 4, -1))]
        return y[:-1] if name == "StickBreaking" else y.reshape(-1)

    jacobian = tg.autograd.functional.jacobian(free, x).numpy()
    got = f.log_abs_det_jacobian(x, y).numpy().sum()
    if name != "CorrCholesky":
        assert got == pytest.approx(np.linalg.slogdet(jacobian)[1], rel=1e-9, abs=1e-12)
    else:
        assert got == pytest.approx(np.linalg.slogdet(jacobian)[1], rel=1e-9)
    np.testing.assert_allclose(f.inv.log_abs_det_jacobian(y, x).numpy().sum(), -got)


def test_biject_to_reaches_constraints():
    c = D.constraints
    for constraint in (c.real, c.positive, c.interval(-1.0, 2.0), c.less_than(3.0), c.greater_than(2.0), c.simplex):
        y = D.biject_to(constraint)(tg.tensor([-0.5, 0.1, 2.0]))
        assert bool(constraint.check(y).all())
    for constraint in (c.lower_cholesky, c.positive_definite):
        assert bool(D.transform_to(constraint)(tg.randn(3, 3)).shape == (3, 3))
        assert bool(constraint.check(D.transform_to(constraint)(tg.randn(3, 3))))


def test_expanded_distributions_keep_gradients():
    loc = tg.tensor(0.5, requires_grad=True)
    d = D.LogNormal(loc, 1.0).expand((3,))
    d.log_prob(tg.ones(3)).sum().backward()
    assert loc.grad.item() == pytest.approx(-1.5)


def test_register_kl_takes_the_nearest_types():
    class Mine(D.Normal):
        pass

    @D.register_kl(Mine, D.Normal)
    def mine(p, q):
        return tg.tensor(7.0)

    assert D.kl_divergence(Mine(0.0, 1.0), D.Normal(0.0, 1.0)).item() == 7.0
    assert D.kl_divergence(D.Normal(0.0, 1.0), Mine(0.0, 1.0)).item() == 0.0
