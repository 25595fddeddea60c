"""`tapegrad.nn.functional` beside PyTorch's: values, gradients, second order, errors; without convolutions."""

import numpy as np
import pytest

from tests.parity.functional import agree, classes, reals, refuse_alike, units

X, Y = reals(4, 6), reals(4, 6, seed=2)
ACTIVATIONS = {
    "relu": (lambda tg, F, x: F.relu(x)),
    "relu6": (lambda tg, F, x: F.relu6(4 * x)),
    "elu": (lambda tg, F, x: F.elu(x, 1.5)),
    "selu": (lambda tg, F, x: F.selu(x)),
    "celu": (lambda tg, F, x: F.celu(x, 0.75)),
    "leaky_relu": (lambda tg, F, x: F.leaky_relu(x, 0.2)),
    "gelu": (lambda tg, F, x: F.gelu(3 * x)),
    "gelu tanh": (lambda tg, F, x: F.gelu(3 * x, approximate="tanh")),
    "logsigmoid": (lambda tg, F, x: F.logsigmoid(20 * x)),
    "hardshrink": (lambda tg, F, x: F.hardshrink(x, 0.3)),
    "softshrink": (lambda tg, F, x: F.softshrink(x, 0.3)),
    "tanhshrink": (lambda tg, F, x: F.tanhshrink(x)),
    "softsign": (lambda tg, F, x: F.softsign(x)),
    "softplus": (lambda tg, F, x: F.softplus(x, 2, 1)),
    "softmin": (lambda tg, F, x: F.softmin(x, 1)),
    "softmax": (lambda tg, F, x: F.softmax(x, 0)),
    "log_softmax": (lambda tg, F, x: F.log_softmax(x)),
    "hardsigmoid": (lambda tg, F, x: F.hardsigmoid(3 * x)),
    "silu": (lambda tg, F, x: F.silu(x)),
    "mish": (lambda tg, F, x: F.mish(x)),
    "hardswish": (lambda tg, F, x: F.hardswish(3 * x)),
    "hardtanh": (lambda tg, F, x: F.hardtanh(x, -0.5, 0.7)),
    "threshold": (lambda tg, F, x: F.threshold(x, 0.1, 20)),
    "glu": (lambda tg, F, x: F.glu(x)),
    "rrelu": (lambda tg, F, x: F.rrelu(x)),
    "sigmoid": (lambda tg, F, x: F.sigmoid(x)),
    "tanh": (lambda tg, F, x: F.tanh(x)),
    "in place": (lambda tg, F, x: F.silu(x * 1, inplace=True) + F.relu_(x * 1) + F.threshold_(x * 1, 0, 1)),
    "all in place": (
        lambda tg, F, x: F.elu_(x * 1) + F.selu_(x * 1) + F.celu_(x * 1) + F.leaky_relu_(x * 1) + F.hardtanh_(x * 1)
    ),
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name, dtype):
    if name == "hardsigmoid":  # of which PyTorch has no second derivative, and the first with the digits of float32
        dtype = "float32"
    agree(ACTIVATIONS[name], X, dtype=dtype, second=name != "hardsigmoid")


def test_prelu_has_weights_of_channels():
    for weight in (reals(6), reals(1)):
        agree(lambda tg, F, x, w: F.prelu(x, w), X, weight)
    agree(lambda tg, F, x, w: F.prelu(x, w), reals(2, 3, 4), reals(3))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_cross_entropy_of_rows(reduction, dtype):
    """With classes that have no chance, those that are ignored, weights, one row and one class."""
    logits = 3 * reals(7, 5)
    logits[0, 0], logits[1] = -np.inf, 100 * logits[1]
    for x in (logits, logits[2], logits[:, 4:], reals(1, 1030)):
        labels = np.zeros(x.shape[:-1], np.int64) if x.shape[-1] == 1 else classes(x.shape[-1], *x.shape[:-1])
        if labels.ndim:
            labels[0] = 0
        some = labels.copy()
        some[...] = np.where(np.arange(labels.size).reshape(labels.shape) == 2, -100, labels)
        for given in (labels, some):
            for weight in (None, np.abs(reals(x.shape[-1], seed=3))):
                agree(
                    lambda tg, F, x, given=given, weight=weight: F.cross_entropy(
                        x, tg.tensor(given), None if weight is None else tg.tensor(weight, dtype=x.dtype),
                        reduction=reduction,
                    ),
                    x, dtype=dtype,
                )  # fmt: skip


EDGES = np.array([-3.0, -1.0, 0.0, 0.5, -0.5, 1.0, 3.0, 6.0, 700.0, -700.0, 1e300, -1e300])


@pytest.mark.parametrize(
    "name",
    "relu relu6 elu selu celu leaky_relu logsigmoid hardshrink softshrink softplus silu hardswish hardtanh gelu "
    "mish".split(),
)
def test_activations_at_kinks_and_extremes(name):
    agree(lambda tg, F, x: getattr(F, name)(x), EDGES, second=False)


LOSSES = {
    "mse": (lambda tg, F, x, t: F.mse_loss(x, t), X, Y),
    "mse weighted": (lambda tg, F, x, t, w: F.mse_loss(x, t, weight=w), X, Y, units(4, 6)),
    "mse broadcast": (lambda tg, F, x, t: F.mse_loss(x, t, reduction="sum"), X, reals(6)),
    "mse of old": (lambda tg, F, x, t: F.mse_loss(x, t, size_average=False), X, Y),
    "l1": (lambda tg, F, x, t: F.l1_loss(x, t), X, Y),
    "l1 weighted": (lambda tg, F, x, t, w: F.l1_loss(x, t, weight=w), X, Y, units(4, 6)),
    "smooth_l1": (lambda tg, F, x, t: F.smooth_l1_loss(x, t, beta=0.7), X, Y),
    "smooth_l1 0": (lambda tg, F, x, t: F.smooth_l1_loss(x, t, beta=0.0), X, Y),
    "huber": (lambda tg, F, x, t: F.huber_loss(x, t, delta=0.7, reduction="none"), X, Y),
    "huber weighted": (lambda tg, F, x, t, w: F.huber_loss(x, t, weight=w), X, Y, units(4, 6)),
    "bce": (lambda tg, F, x, t: F.binary_cross_entropy(x, t), units(4, 6), units(4, 6, seed=2)),
    "bce weighted": (
        lambda tg, F, x, t, w: F.binary_cross_entropy(x, t, w.detach(), reduction="sum"),
        units(4, 6), units(4, 6, seed=2), units(6),
    ),
    "logits": (lambda tg, F, x, t: F.binary_cross_entropy_with_logits(20 * x, t), X, units(4, 6)),
    "logits weighted": (
        lambda tg, F, x, t, w, p: F.binary_cross_entropy_with_logits(x, t, w.detach(), pos_weight=p.detach()),
        X, units(4, 6), units(4, 6), units(6),
    ),
    "kl_div": (lambda tg, F, x, t: F.kl_div(x, t), X, units(4, 6)),
    "kl_div batchmean": (lambda tg, F, x, t: F.kl_div(x, t, reduction="batchmean", log_target=True), X, Y),
    "poisson": (lambda tg, F, x, t: F.poisson_nll_loss(x, t, full=True), X, 3 * units(4, 6)),
    "poisson rate": (lambda tg, F, x, t: F.poisson_nll_loss(x, t, log_input=False), units(4, 6), 3 * units(4, 6)),
    "gaussian": (lambda tg, F, x, t, v: F.gaussian_nll_loss(x, t, v, full=True), X, Y, units(4, 6)),
    "gaussian rows": (lambda tg, F, x, t, v: F.gaussian_nll_loss(x, t, v, eps=0.3), X, Y, units(4)),
    "soft_margin": (lambda tg, F, x, t: F.soft_margin_loss(30 * x, t.detach()), X, np.sign(Y)),
    "margin_ranking": (lambda tg, F, x, y, t: F.margin_ranking_loss(x, y, t, 0.3), X, Y, np.sign(X * Y + 0.1)),
    "hinge_embedding": (lambda tg, F, x, t: F.hinge_embedding_loss(x, t), X, np.sign(Y)),
    "cosine": (lambda tg, F, x, y, t: F.cosine_embedding_loss(x, y, t, 0.1), X, Y, np.array([1.0, -1.0, 1.0, -1.0])),
    "cosine of one": (lambda tg, F, x, y, t: F.cosine_embedding_loss(x, y, t), X[0], Y[0], np.array(-1.0)),
    "triplet": (lambda tg, F, x, y, z: F.triplet_margin_loss(x, y, z, swap=True), X, Y, reals(4, 6, seed=3)),
    "triplet 3": (
        lambda tg, F, x, y, z: F.triplet_margin_loss(x, y, z, p=3, reduction="none"), X, Y, reals(4, 6, seed=3)
    ),
    "triplet with distance": (
        lambda tg, F, x, y, z: F.triplet_margin_with_distance_loss(
            x, y, z, distance_function=lambda a, b: (a - b).abs().sum(-1)
        ),
        X, Y, reals(4, 6, seed=3),
    ),
    "multi_margin": (lambda tg, F, x, t: F.multi_margin_loss(x, t), X, classes(6, 4)),
    "multi_margin 2": (
        lambda tg, F, x, t, w: F.multi_margin_loss(x, t, p=2, margin=0.7, reduction="none", weight=w.detach()),
        X, classes(6, 4), units(6),
    ),
    "multi_margin of one": (lambda tg, F, x, t: F.multi_margin_loss(x, t), X[0], np.array(2)),
    "multilabel_margin": (
        lambda tg, F, x, t: F.multilabel_margin_loss(x, t),
        X, np.array([[3, 0, -1, 1, 2, 3], [1, 2, 3, 4, 5, 0], [-1] * 6, [2, 2, 2, -1, 0, 0]]),
    ),
    "multilabel_margin of one": (
        lambda tg, F, x, t: F.multilabel_margin_loss(x, t, reduction="none"), X[0], np.array([3, 0, -1, 1, 2, 3])
    ),
    "multilabel_soft_margin": (
        lambda tg, F, x, t, w: F.multilabel_soft_margin_loss(20 * x, t, w), X, units(4, 6), units(6)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LOSSES)
def test_losses(name):
    call, *arrays = LOSSES[name]
    agree(call, *arrays, second=not name.startswith("multi"))  # PyTorch has no second derivatives of these
    agree(call, *arrays, dtype="float32", second=False)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("shape", [(5,), (4, 5), (2, 5, 3), (2, 5, 3, 2)])
def test_cross_entropy(shape, smoothing, weighted, reduction):
    w = units(5)
    facts = {"reduction": reduction, "label_smoothing": smoothing}
    target = classes(5, *shape[:1], *shape[2:]) if len(shape) > 1 else np.array(3)

    def call(tg, F, x, t):
        weight = tg.tensor(w.tolist(), dtype=x.dtype) if weighted else None
        return F.cross_entropy(x, t, weight, ignore_index=2, **facts)

    def of_probabilities(tg, F, x, t):
        weight = tg.tensor(w.tolist(), dtype=x.dtype) if weighted else None
        return F.cross_entropy(x, t, weight, **facts)

    agree(call, reals(*shape), target)
    agree(call, reals(*shape), target, dtype="float32")
    agree(of_probabilities, reals(*shape), units(*shape))
    if not smoothing:
        agree(lambda tg, F, x, t: F.nll_loss(x, t, reduction=reduction), reals(*shape), target)


def test_cross_entropy_of_ignored_targets_alone():
    for reduction in ("mean", "sum", "none"):
        agree(lambda tg, F, x, t, r=reduction: F.cross_entropy(x, t, ignore_index=1, reduction=r), X, np.ones(4, int))


def test_linear_cross_entropy():
    agree(
        lambda tg, F, x, w, b, t: F.linear_cross_entropy(x, w, t, linear_bias=b),
        X, reals(5, 6, seed=3), reals(5), classes(5, 4),
    )  # fmt: skip


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("facts", [{"batch_chunk_size": 3}, {}], ids=str)
def test_linear_cross_entropy_in_chunks(reduction, facts):
    target = np.array([0, 2, -100, 4])

    def call(tg, F, x, w, b, factors):
        options = tg.nn.LinearCrossEntropyOptions(allow_retain_graph=True, **facts)
        factors = abs(factors.detach())
        return F.linear_cross_entropy(
            x, w, tg.tensor(target), linear_bias=b, weight=factors, reduction=reduction, options=options
        )

    agree(call, X, reals(5, 6, seed=3), reals(5), reals(5, seed=4), second=False)
    agree(lambda tg, F, x, w: call(tg, F, x, w, None, tg.ones(5)), X, reals(5, 6, seed=3), second=False)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_ctc_loss_by_logits(reduction):
    # Gradients are taken by logits: PyTorch's by log-probabilities are those of logits too.
    t = np.array([[1, 2, 2, 3], [4, 1, 0, 0], [2, 0, 0, 0]])

    def call(tg, F, x):
        lengths = tg.tensor([9, 7, 3]), tg.tensor([4, 2, 1])
        return F.ctc_loss(tg.log_softmax(x, 2), tg.tensor(t), *lengths, reduction=reduction)

    def joined(tg, F, x):
        flat = np.concatenate([t[0, :4], t[1, :2], t[2, :1]])
        return F.ctc_loss(tg.log_softmax(x, 2), tg.tensor(flat), (9, 7, 3), (4, 2, 1), reduction=reduction)

    agree(call, reals(9, 3, 5), second=False)
    agree(joined, reals(9, 3, 5), second=False)
    agree(
        lambda tg, F, x: F.ctc_loss(
            tg.log_softmax(x, 2), tg.tensor(t), (2, 7, 3), (4, 2, 1), zero_infinity=True, reduction=reduction
        ),
        reals(9, 3, 5), second=False,
    )  # fmt: skip


LINEAR = {
    "linear": (lambda tg, F, x, w, b: F.linear(x, w, b), X, reals(3, 6), reals(3)),
    "linear of many": (lambda tg, F, x, w: F.linear(x, w), reals(2, 3, 6), reals(3, 6)),
    "linear of one": (lambda tg, F, x, w, b: F.linear(x, w, b), reals(6), reals(3, 6), reals(3)),
    "linear to one": (lambda tg, F, x, w: F.linear(x, w), X, reals(6)),
    "bilinear": (
        lambda tg, F, x, y, w, b: F.bilinear(x, y, w, b), reals(2, 3, 4), reals(2, 3, 5), reals(3, 4, 5), reals(3)
    ),
    "embedding": (lambda tg, F, i, w: F.embedding(i, w), classes(5, 3, 4), reals(5, 6)),
    "embedding padding": (lambda tg, F, i, w: F.embedding(i, w, padding_idx=-2), classes(5, 3, 4), reals(5, 6)),
    "embedding by frequency": (
        lambda tg, F, i, w: F.embedding(i, w, scale_grad_by_freq=True), classes(3, 3, 4), reals(5, 6)
    ),
    "embedding_bag": (lambda tg, F, i, w: F.embedding_bag(i, w, mode="sum"), classes(5, 3, 4), reals(5, 6)),
    "embedding_bag mean": (
        lambda tg, F, i, w: F.embedding_bag(i, w, tg.tensor([0, 3, 3, 8]), padding_idx=1), classes(5, 12), reals(5, 6)
    ),
    "embedding_bag last": (
        lambda tg, F, i, w: F.embedding_bag(i, w, tg.tensor([0, 3, 8, 12]), include_last_offset=True),
        classes(5, 12), reals(5, 6),
    ),
    "embedding_bag weights": (
        lambda tg, F, i, w, s: F.embedding_bag(i, w, mode="sum", per_sample_weights=s),
        classes(5, 3, 4), reals(5, 6), reals(3, 4),
    ),
    "embedding_bag max": (lambda tg, F, i, w: F.embedding_bag(i, w, mode="max"), classes(5, 3, 4), reals(5, 6)),
    "attention": (
        lambda tg, F, q, k, v: F.scaled_dot_product_attention(q, k, v), reals(2, 3, 4), reals(2, 5, 4), reals(2, 5, 3)
    ),
    "attention causal": (
        lambda tg, F, q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.7),
        reals(2, 3, 4), reals(2, 5, 4), reals(2, 5, 3),
    ),
    "attention mask": (
        lambda tg, F, q, k, v, m: F.scaled_dot_product_attention(q, k, v, m > 0),
        reals(2, 3, 4), reals(2, 5, 4), reals(2, 5, 3), np.concatenate([reals(2, 5), -np.ones((1, 5))]),
    ),
    "attention added": (
        lambda tg, F, q, k, v, m: F.scaled_dot_product_attention(q, k, v, m),
        reals(2, 3, 4), reals(2, 5, 4), reals(2, 5, 3), reals(3, 5),
    ),
    "attention of groups": (
        lambda tg, F, q, k, v: F.scaled_dot_product_attention(q, k, v, enable_gqa=True),
        reals(2, 4, 3, 4), reals(2, 2, 5, 4), reals(2, 2, 5, 3),
    ),
    "one_hot": (lambda tg, F, i: F.one_hot(i, 7), classes(5, 3, 4)),
}  # fmt: skip


@pytest.mark.parametrize("name", LINEAR)
def test_linear_maps_embeddings_attention(name):
    call, *arrays = LINEAR[name]
    # PyTorch's embedding_bag has no second derivatives but of its sums.
    agree(call, *arrays, second="bag" not in name)
    agree(call, *arrays, dtype="float32", second=False)


def test_embedding_shortens_rows_in_place():
    agree(lambda tg, F, i, w: (F.embedding(i, w.detach(), max_norm=1.0), w * 1), classes(5, 3), reals(5, 6))


@pytest.mark.parametrize("weights", [True, False])
@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("mask", ["none", "bools", "both"])
def test_multi_head_attention(weights, batched, mask):
    shape = (3, 2, 8) if batched else (3, 8)

    def call(tg, F, x, y, w, b, w2, b2, bk, bv):
        added = None if mask == "none" else tg.tensor(np.triu(np.ones((3, 3), bool), 1))
        of_keys = tg.tensor([[False, True, False]] * 2 if batched else [False, True, False]) if mask == "both" else None
        output, paid = F.multi_head_attention_forward(
            x, y, y, 8, 2, w, b, bk, bv, True, 0.0, w2, b2, attn_mask=added, key_padding_mask=of_keys,
            need_weights=weights,
        )  # fmt: skip
        return (output, paid) if weights else output

    biases = [reals(1, 1, 8, seed=s) for s in (5, 6)]
    agree(
        call,
        reals(*shape),
        reals(*shape, seed=2),
        reals(24, 8),
        reals(24),
        reals(8, 8),
        reals(8),
        *biases,
        second=weights,
    )


NORMALISATION = {
    "batch_norm": (lambda tg, F, x, w, b: F.batch_norm(x, None, None, w, b, True), reals(4, 3, 5), reals(3), reals(3)),
    "batch_norm running": (
        lambda tg, F, x, w, b: F.batch_norm(x, tg.ones(3, dtype=x.dtype), 2 * tg.ones(3, dtype=x.dtype), w, b),
        reals(4, 3, 5), reals(3), reals(3),
    ),
    "layer_norm": (lambda tg, F, x, w, b: F.layer_norm(x, (5,), w, b), reals(4, 3, 5), reals(5), reals(5)),
    "layer_norm of two": (lambda tg, F, x, w: F.layer_norm(x, (3, 5), w), reals(4, 3, 5), reals(3, 5)),
    "group_norm": (lambda tg, F, x, w, b: F.group_norm(x, 2, w, b), reals(3, 4, 5), reals(4), reals(4)),
    "instance_norm": (lambda tg, F, x, w, b: F.instance_norm(x, None, None, w, b), reals(2, 3, 4), reals(3), reals(3)),
    "rms_norm": (lambda tg, F, x, w: F.rms_norm(x, (5,), w), reals(4, 3, 5), reals(5)),
    "local_response_norm": (lambda tg, F, x: F.local_response_norm(x, 3, 0.5, 0.6, 2.0), reals(2, 5, 3)),
    "local_response_norm even": (lambda tg, F, x: F.local_response_norm(x, 4, 0.5), reals(2, 5, 3, 2)),
    "normalize": (lambda tg, F, x: F.normalize(x), X),
    "normalize planes": (lambda tg, F, x: F.normalize(x, 1.5, (0, -1)), reals(2, 3, 4)),
    "normalize 3": (lambda tg, F, x: F.normalize(x, 3, -1), reals(2, 3, 4)),
    "cosine_similarity": (lambda tg, F, x, y: F.cosine_similarity(x, y), X, Y),
    "cosine_similarity 0": (lambda tg, F, x, y: F.cosine_similarity(x, y, 0, 3.0), X, Y),
    "pairwise_distance": (lambda tg, F, x, y: F.pairwise_distance(x, y, 3, keepdim=True), X, Y),
    "cdist": (lambda tg, F, x, y: tg.cdist(x, y), reals(3, 4), reals(5, 4, seed=2)),
    "cdist 1": (lambda tg, F, x, y: tg.cdist(x, y, 1), reals(2, 3, 4), reals(2, 5, 4, seed=2)),
    "cdist inf": (lambda tg, F, x, y: tg.cdist(x, y, float("inf")), reals(2, 3, 4), reals(2, 5, 4, seed=2)),
    "pdist": (lambda tg, F, x: F.pdist(x, 2), reals(5, 4)),
    "dist": (lambda tg, F, x, y: x.dist(y, 3), X, Y),
    "renorm": (lambda tg, F, x: tg.renorm(x, 2, 0, 2.5), reals(4, 3, 2)),
}  # fmt: skip


@pytest.mark.parametrize("name", NORMALISATION)
def test_normalisation_and_distances(name):
    call, *arrays = NORMALISATION[name]
    # PyTorch's pdist and cdist have no second derivatives of some orders.
    agree(call, *arrays, second=name != "pdist" and "cdist" not in name)
    agree(call, *arrays, dtype="float32", second=False)


def test_running_moments():
    def call(tg, F, x):
        m, v = tg.zeros(3, dtype=x.dtype), tg.ones(3, dtype=x.dtype)
        for _ in range(2):
            F.batch_norm(x, m, v, training=True, momentum=0.3)
        k, u = tg.zeros(3, dtype=x.dtype), tg.ones(3, dtype=x.dtype)
        F.instance_norm(x, k, u, momentum=0.3)
        return m, v, k, u

    agree(call, reals(4, 3, 5))


def test_what_dropout_does_without_training():
    def call(tg, F, x):
        y = F.dropout(x, training=False) + F.alpha_dropout(x) + F.feature_alpha_dropout(x) + F.dropout(x, 0.0)
        return y + F.dropout(x, 1.0) + F.dropout1d(x, 1.0)

    agree(call, X)


REFUSED = [
    lambda tg, F: F.glu(tg.ones(3)),
    lambda tg, F: F.elu(tg.tensor([1, 2])),
    lambda tg, F: F.prelu(tg.ones(2, 3), tg.ones(2)),
    lambda tg, F: F.hardtanh(tg.ones(2), 2.0, 1.0),
    lambda tg, F: F.gelu(tg.ones(2), approximate="x"),
    lambda tg, F: F.softshrink(tg.ones(2), -1.0),
    lambda tg, F: F.relu("3"),
    lambda tg, F: F.softmax(tg.tensor([1, 2]), 0),
    lambda tg, F: F.cross_entropy(tg.ones(2, 3), tg.tensor([0, 3])),
    lambda tg, F: F.cross_entropy(tg.ones(2, 3), tg.tensor([0, 1, 2])),
    lambda tg, F: F.cross_entropy(tg.ones(2, 3), tg.tensor([0.0, 1.0])),
    lambda tg, F: F.cross_entropy(tg.ones(2, 3), tg.ones(2, 3), ignore_index=1),
    lambda tg, F: F.cross_entropy(tg.ones(2, 3), tg.tensor([0, 1]), label_smoothing=2.0),
    lambda tg, F: F.cross_entropy(tg.ones(2, 3), tg.tensor([0, 1]), reduction="x"),
    lambda tg, F: F.cross_entropy(tg.ones(2, 3), tg.tensor([0, 1]), tg.ones(2)),
    lambda tg, F: F.nll_loss(tg.ones(2, 3, 4), tg.zeros(2, 3).long()),
    lambda tg, F: F.binary_cross_entropy(tg.ones(2) * 2, tg.ones(2)),
    lambda tg, F: F.binary_cross_entropy(tg.ones(2), tg.ones(3)),
    lambda tg, F: F.binary_cross_entropy_with_logits(tg.ones(2), tg.ones(3)),
    lambda tg, F: F.mse_loss(tg.ones(2), tg.ones(3)),
    lambda tg, F: F.huber_loss(tg.ones(2), tg.ones(2), delta=0.0),
    lambda tg, F: F.smooth_l1_loss(tg.ones(2), tg.ones(2), beta=-1.0),
    lambda tg, F: F.gaussian_nll_loss(tg.ones(2), tg.ones(2), tg.ones(3)),
    lambda tg, F: F.triplet_margin_loss(tg.ones(2), tg.ones(2), tg.ones(2), margin=-1.0),
    lambda tg, F: F.multi_margin_loss(tg.ones(2, 3), tg.tensor([0, 3])),
    lambda tg, F: F.linear(tg.ones(2, 3), tg.ones(2, 4)),
    lambda tg, F: F.embedding(tg.tensor([5]), tg.ones(2, 3)),
    lambda tg, F: F.embedding(tg.tensor([0]), tg.ones(2, 3), padding_idx=4),
    lambda tg, F: F.embedding(tg.tensor([0.5]), tg.ones(2, 3)),
    lambda tg, F: F.embedding_bag(tg.tensor([0]), tg.ones(2, 3)),
    lambda tg, F: F.one_hot(tg.tensor([-1, 2])),
    lambda tg, F: F.one_hot(tg.tensor([1, 2]), 2),
    lambda tg, F: F.scaled_dot_product_attention(tg.ones(3), tg.ones(3), tg.ones(3)),
    lambda tg, F: F.dropout(tg.ones(2), 1.5),
    lambda tg, F: F.batch_norm(tg.ones(1, 3), None, None, training=True),
    lambda tg, F: F.batch_norm(tg.ones(2, 3), tg.ones(2), tg.ones(3)),
    lambda tg, F: F.batch_norm(tg.ones(2, 3), None, None),
    lambda tg, F: F.layer_norm(tg.ones(2, 3), (4,)),
    lambda tg, F: F.layer_norm(tg.ones(2, 3), (3,), tg.ones(2)),
    lambda tg, F: F.group_norm(tg.ones(2, 3), 2),
    lambda tg, F: F.local_response_norm(tg.ones(2, 3), 2),
    lambda tg, F: tg.cdist(tg.ones(3), tg.ones(2, 3)),
    lambda tg, F: tg.cdist(tg.ones(2, 2), tg.ones(2, 3)),
    lambda tg, F: tg.renorm(tg.ones(2, 2), -1, 0, 1),
    lambda tg, F: F.pdist(tg.ones(3)),
]


@pytest.mark.parametrize("number", range(len(REFUSED)))
def test_what_pytorch_refuses_is_refused(number):
    refuse_alike(REFUSED[number])
