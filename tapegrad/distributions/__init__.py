"""Probability distributions, under the names of `torch.distributions`.

Parameters are Tensors, arrays or numbers, and broadcast. Densities are finite wherever they are in truth, also where
torch's are clamped: of probabilities 0 and 1 logarithms are -inf and 0.

>>> import tapegrad as tg
>>> mean = tg.tensor(0.0, requires_grad=True)
>>> tg.distributions.Normal(mean, 1.0).log_prob(tg.tensor([1.0, 3.0])).sum().backward()
>>> mean.grad
tensor(4.)
"""

from tapegrad import namesakes as _namesakes
from tapegrad.distributions import constraints, transforms, utils
from tapegrad.distributions.composed import Independent, MixtureSameFamily, TransformedDistribution
from tapegrad.distributions.continuous import (
    Beta,
    Cauchy,
    Chi2,
    Exponential,
    FisherSnedecor,
    Gamma,
    GeneralizedPareto,
    Laplace,
    Normal,
    StudentT,
    Uniform,
    VonMises,
)
from tapegrad.distributions.discrete import (
    Bernoulli,
    Binomial,
    Categorical,
    ContinuousBernoulli,
    Dirichlet,
    Geometric,
    Multinomial,
    NegativeBinomial,
    OneHotCategorical,
    OneHotCategoricalStraightThrough,
    Poisson,
    RelaxedBernoulli,
    RelaxedOneHotCategorical,
)  # fmt: skip
from tapegrad.distributions.distribution import Distribution, ExponentialFamily
from tapegrad.distributions.divergence import kl_divergence, register_kl
from tapegrad.distributions.multivariate import LKJCholesky, LowRankMultivariateNormal, MultivariateNormal, Wishart
from tapegrad.distributions.registry import biject_to, transform_to
from tapegrad.distributions.transformed import (
    Gumbel,
    HalfCauchy,
    HalfNormal,
    InverseGamma,
    Kumaraswamy,
    LogisticNormal,
    LogNormal,
    Pareto,
    Weibull,
)
from tapegrad.distributions.transforms import (
    AbsTransform,
    AffineTransform,
    CatTransform,
    ComposeTransform,
    CorrCholeskyTransform,
    CumulativeDistributionTransform,
    ExpTransform,
    IndependentTransform,
    LowerCholeskyTransform,
    PositiveDefiniteTransform,
    PowerTransform,
    ReshapeTransform,
    SigmoidTransform,
    SoftmaxTransform,
    SoftplusTransform,
    StackTransform,
    StickBreakingTransform,
    TanhTransform,
    Transform,
    identity_transform,
)  # fmt: skip

__all__ = [
    name for name in globals() if name[0] != "_" and name not in (
        "composed", "continuous", "discrete", "distribution", "divergence", "multivariate", "registry", "special",
        "variates",
    )
]  # fmt: skip

# PyTorch has a module for each; those that are here apart have what is not named above too.
for _names, _of in {
    "bernoulli beta binomial categorical cauchy chi2 continuous_bernoulli dirichlet exponential fishersnedecor gamma "
    "generalized_pareto geometric gumbel half_cauchy half_normal independent inverse_gamma kumaraswamy laplace "
    "lkj_cholesky log_normal logistic_normal lowrank_multivariate_normal mixture_same_family multinomial "
    "multivariate_normal negative_binomial normal one_hot_categorical pareto poisson studentT transformed_distribution "
    "uniform von_mises weibull wishart": "tapegrad.distributions",
    "relaxed_bernoulli relaxed_categorical": "tapegrad.distributions.discrete",
    "exp_family": "tapegrad.distributions.distribution",
    "constraint_registry": "tapegrad.distributions.registry",
    "kl": "tapegrad.distributions.divergence",
}.items():
    _namesakes.add_namesakes(__name__, _names, _of)
