"""Convolution, pooling, padding and resampling beside PyTorch's: values, gradients, second order, errors."""

import numpy as np
import pytest

from tests.parity.functional import agree, reals, refuse_alike, units

CONVOLUTIONS = {
    "conv1d": (lambda tg, F, x, w, b: F.conv1d(x, w, b, 2, 1, 2), reals(2, 3, 9), reals(4, 3, 3), reals(4)),
    "grad of conv1d": (
        lambda tg, F, w, y, x: (
            tg.nn.grad.conv1d_input((2, 3, 9), w, y, 2, 1, 2).sum() * tg.nn.grad.conv1d_weight(x, (4, 3, 3), y, 2, 1, 2)
        ),
        reals(4, 3, 3),
        reals(2, 4, 4),
        reals(2, 3, 9),
    ),
    "grad of conv2d": (
        lambda tg, F, w, y: tg.nn.grad.conv2d_input((1, 4, 3, 5), w, y, (1, 2), 1, groups=2),
        reals(4, 2, 2, 3),
        reals(1, 4, 4, 3),
    ),
    "conv1d of one": (lambda tg, F, x, w: F.conv1d(x, w), reals(3, 6), reals(4, 3, 2)),
    "conv2d": (lambda tg, F, x, w, b: F.conv2d(x, w, b), reals(2, 3, 5, 6), reals(4, 3, 3, 2), reals(4)),
    "conv2d of many": (
        lambda tg, F, x, w: F.conv2d(x, w, None, (2, 1), (1, 2), (1, 2), 2), reals(2, 4, 5, 7), reals(6, 2, 3, 2)
    ),
    "conv2d plain": (lambda tg, F, x, w: F.conv2d(x, w), reals(2, 3, 4, 5), reals(4, 3, 1, 1)),
    "conv2d apart": (lambda tg, F, x, w: F.conv2d(x, w, padding=1, groups=3), reals(2, 3, 4, 5), reals(3, 1, 3, 3)),
    "conv2d same": (
        lambda tg, F, x, w: F.conv2d(x, w, padding="same", dilation=2), reals(2, 3, 6, 7), reals(2, 3, 2, 3)
    ),
    "conv2d valid": (lambda tg, F, x, w: F.conv2d(x, w, padding="valid"), reals(2, 3, 4, 5), reals(2, 3, 2, 3)),
    "conv2d beyond": (lambda tg, F, x, w: F.conv2d(x, w, padding=5, stride=3), reals(1, 1, 2, 2), reals(1, 1, 3, 3)),
    "conv2d none": (lambda tg, F, x, w: F.conv2d(x, w), reals(0, 3, 4, 5), reals(2, 3, 2, 3)),
    "conv2d transposed": (lambda tg, F, x, w: F.conv2d(x.mT, w), reals(2, 3, 4, 5), reals(2, 3, 2, 3)),
    "conv3d": (
        lambda tg, F, x, w, b: F.conv3d(x, w, b, (1, 2, 1), 1, (2, 1, 1)),
        reals(2, 2, 4, 5, 3), reals(3, 2, 2, 3, 2), reals(3),
    ),
    "conv_transpose1d": (
        lambda tg, F, x, w, b: F.conv_transpose1d(x, w, b, 3, 1, 2, 1, 2), reals(2, 3, 4), reals(3, 2, 3), reals(2)
    ),
    "conv_transpose2d": (
        lambda tg, F, x, w, b: F.conv_transpose2d(x, w, b, (2, 3), 1, (1, 0), 2), reals(2, 4, 3, 4), reals(4, 3, 3, 2),
        reals(6),
    ),
    "conv_transpose2d of one": (lambda tg, F, x, w: F.conv_transpose2d(x, w), reals(4, 3, 4), reals(4, 3, 3, 2)),
    "conv_transpose3d": (
        lambda tg, F, x, w: F.conv_transpose3d(x, w, stride=2, padding=1), reals(1, 2, 3, 2, 4), reals(2, 2, 2, 3, 2)
    ),
    # Several blocks of channels and of outputs, tiles of rows, and of parts of a row.
    "conv2d in tiles": (lambda tg, F, x, w: F.conv2d(x, w, padding=1), reals(2, 12, 9, 20), reals(40, 12, 3, 3)),
    "conv1d in tiles": (lambda tg, F, x, w: F.conv1d(x, w, stride=2), reals(1, 14, 420), reals(40, 14, 5)),
    "conv2d plain, in tiles": (lambda tg, F, x, w: F.conv2d(x, w), reals(3, 70, 5, 30), reals(33, 70, 1, 1)),
    "conv_transpose2d in tiles": (
        lambda tg, F, x, w: F.conv_transpose2d(x, w, stride=2, groups=2), reals(1, 66, 9, 20), reals(66, 12, 3, 3)
    ),
    "unfold": (lambda tg, F, x: F.unfold(x, (2, 3), (2, 1), (1, 2), (1, 2)), reals(2, 3, 5, 6)),
    "unfold of one": (lambda tg, F, x: F.unfold(x, 2), reals(3, 5, 6)),
    "fold": (lambda tg, F, x: F.fold(x, (5, 6), (2, 3), (2, 1), (1, 2), (1, 2)), reals(2, 12, 20)),
    "fold of one": (lambda tg, F, x: F.fold(x, (3, 3), 2), reals(4, 4)),
}  # fmt: skip


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions(name):
    call, *arrays = CONVOLUTIONS[name]
    agree(call, *arrays)
    agree(call, *arrays, dtype="float32", second=False)


def test_convolutions_of_integers():
    x, w = np.arange(48).reshape(1, 2, 4, 6), np.arange(24).reshape(3, 2, 2, 2) - 12
    agree(lambda tg, F, x, w: F.conv2d(x, w, stride=2), x, w)


PADDING = {
    "constant": (lambda tg, F, x: F.pad(x, (1, 2, 3, 0)), reals(2, 3, 4)),
    "constant value": (lambda tg, F, x: F.pad(x, (1, 2, 0, 1, 2, 0), value=1.5), reals(2, 3, 4)),
    "constant inf": (lambda tg, F, x: F.pad(x, (1, 2), value=float("inf")).exp().reciprocal(), reals(2, 3)),
    "constant negative": (lambda tg, F, x: F.pad(x, (-1, 2, 1, -2), value=7.0), reals(2, 3, 4)),
    "constant smaller": (lambda tg, F, x: F.pad(x, (-1, -2)), reals(2, 3, 4)),
    "nothing": (lambda tg, F, x: F.pad(x, (0, 0)), reals(2, 3, 4)),
    "reflect": (lambda tg, F, x: F.pad(x, (2, 1), mode="reflect"), reals(2, 3, 12)),
    "reflect 2": (lambda tg, F, x: F.pad(x, (2, 1, 0, 2), mode="reflect"), reals(2, 3, 4)),
    "reflect 3": (lambda tg, F, x: F.pad(x, (1, 1, 1, 0, 2, 1), mode="reflect"), reals(2, 3, 4, 2)),
    "replicate": (lambda tg, F, x: F.pad(x, (2, 5, 1, 1), mode="replicate"), reals(2, 3, 4, 9)),
    "replicate smaller": (lambda tg, F, x: F.pad(x, (-1, 2), mode="replicate"), reals(2, 3, 4)),
    "circular": (lambda tg, F, x: F.pad(x, (2, 1, 3, 0), mode="circular"), reals(2, 3, 12)),
    "circular smaller": (lambda tg, F, x: F.pad(x, (-1, 2, 2, -1), mode="circular"), reals(2, 3, 4)),
    "constant_pad_nd": (lambda tg, F, x: tg.constant_pad_nd(x, (1, 2, 3, 1), 2), reals(2, 3, 4)),
}


@pytest.mark.parametrize("name", PADDING)
def test_padding(name):
    call, *arrays = PADDING[name]
    agree(call, *arrays)
    agree(call, *arrays, dtype="float32", second=False)


def test_padding_of_integers_and_bools():
    x = np.arange(6).reshape(2, 3)
    agree(lambda tg, F, x: (F.pad(x, (1, 2), value=7), F.pad(x > 2, (1, 0), value=True), F.pad(x, (0, 0, 2, 1))), x)


POOLING = {
    "avg_pool1d": (lambda tg, F, x: F.avg_pool1d(x, 3, 2, 1), reals(2, 3, 8)),
    "avg_pool2d": (lambda tg, F, x: F.avg_pool2d(x, (2, 3)), reals(2, 3, 6, 7)),
    "avg_pool2d of one": (lambda tg, F, x: F.avg_pool2d(x, 2, 1, 1, False, False), reals(3, 6, 7)),
    "avg_pool2d ceil": (lambda tg, F, x: F.avg_pool2d(x, 3, 2, 1, True), reals(2, 3, 6, 7)),
    "avg_pool2d inside": (lambda tg, F, x: F.avg_pool2d(x, 3, 2, 1, True, False), reals(2, 3, 6, 7)),
    "avg_pool2d divisor": (lambda tg, F, x: F.avg_pool2d(x, 2, divisor_override=3), reals(2, 3, 6, 7)),
    "avg_pool3d": (lambda tg, F, x: F.avg_pool3d(x, 2, 1, 1), reals(2, 2, 3, 4, 3)),
    "lp_pool1d": (lambda tg, F, x: F.lp_pool1d(x, 3, 2), units(2, 3, 8)),
    "lp_pool2d": (lambda tg, F, x: F.lp_pool2d(x, 2, 2, 1), units(2, 3, 5, 4)),
    "max_pool1d": (lambda tg, F, x: F.max_pool1d(x, 3, 2, 1, 2), reals(2, 3, 9)),
    "max_pool1d indices": (lambda tg, F, x: F.max_pool1d(x, 3, return_indices=True), reals(3, 9)),
    "max_pool2d": (lambda tg, F, x: F.max_pool2d(x, 2), reals(2, 3, 6, 7)),
    "max_pool2d indices": (
        lambda tg, F, x: F.max_pool2d(x, (3, 2), (2, 1), (1, 0), (1, 2), True, True), reals(2, 3, 6, 7)
    ),
    "max_pool3d": (lambda tg, F, x: F.max_pool3d(x, 2, 1, 1, return_indices=True), reals(2, 2, 3, 4, 3)),
    "adaptive_avg_pool1d": (lambda tg, F, x: F.adaptive_avg_pool1d(x, 4), reals(2, 3, 7)),
    "adaptive_avg_pool2d": (lambda tg, F, x: F.adaptive_avg_pool2d(x, (3, None)), reals(2, 3, 7, 5)),
    "adaptive_avg_pool3d": (lambda tg, F, x: F.adaptive_avg_pool3d(x, (2, 5, 3)), reals(2, 3, 4, 5)),
    "adaptive_max_pool1d": (lambda tg, F, x: F.adaptive_max_pool1d(x, 4, return_indices=True), reals(2, 3, 7)),
    "adaptive_max_pool2d": (lambda tg, F, x: F.adaptive_max_pool2d(x, (3, None), True), reals(2, 3, 7, 5)),
    "adaptive_max_pool3d": (lambda tg, F, x: F.adaptive_max_pool3d(x, 2), reals(2, 3, 4, 5)),
    "fractional_max_pool2d": (
        lambda tg, F, x, u: F.fractional_max_pool2d(x, (2, 3), (3, 2), None, True, u.detach()),
        reals(2, 3, 6, 7), units(2, 3, 2),
    ),
    "fractional_max_pool3d": (
        lambda tg, F, x, u: F.fractional_max_pool3d(x, 2, (3, 2, 3), None, True, u.detach()),
        reals(2, 3, 6, 5, 5), units(2, 3, 3),
    ),
    "max_unpool1d": (
        lambda tg, F, x: F.max_unpool1d(*F.max_pool1d(x, 2, return_indices=True), 2), reals(2, 3, 8)
    ),
    "max_unpool2d": (
        lambda tg, F, x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2, output_size=(2, 3, 5, 7)),
        reals(2, 3, 5, 7),
    ),
    "max_unpool3d": (
        lambda tg, F, x: F.max_unpool3d(*F.max_pool3d(x, 2, return_indices=True), 2), reals(2, 3, 4, 4, 2)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", POOLING)
def test_pooling(name):
    call, *arrays = POOLING[name]
    agree(call, *arrays)
    agree(call, *arrays, dtype="float32", second=False)


def test_largest_elements_of_ties_and_nans():
    x = np.array([[[1.0, 1.0, np.nan, 2.0, np.nan, np.nan, -np.inf, -np.inf]]])
    agree(lambda tg, F, x: F.max_pool1d(x.detach(), 2, return_indices=True), x)
    agree(lambda tg, F, x: F.max_pool2d(x, 2, return_indices=True), np.zeros((1, 4, 4), int))
    x = np.random.default_rng(7).choice([0.0, 1.0, np.nan, -np.inf], (2, 7, 11))  # windows that are cut off, too
    agree(lambda tg, F, x: F.max_pool2d(x.detach(), 3, 2, 1, return_indices=True, ceil_mode=True), x)
    agree(lambda tg, F, x: F.max_pool2d(x.detach(), 3, 2, 1, (2, 3), return_indices=True), x)


RESAMPLING = {
    "nearest": (lambda tg, F, x: F.interpolate(x, 7), reals(2, 3, 5)),
    "nearest down": (lambda tg, F, x: F.interpolate(x, scale_factor=(0.6, 1.7)), reals(2, 3, 5, 6)),
    "nearest exact": (lambda tg, F, x: F.interpolate(x, (7, 3), mode="nearest-exact"), reals(2, 3, 5, 6)),
    "nearest 3": (lambda tg, F, x: F.interpolate(x, (3, 5, 2)), reals(1, 2, 2, 3, 4)),
    "area": (lambda tg, F, x: F.interpolate(x, (2, 9), mode="area"), reals(2, 3, 5, 6)),
    "linear": (lambda tg, F, x: F.interpolate(x, 8, mode="linear"), reals(2, 3, 5)),
    "linear aligned": (lambda tg, F, x: F.interpolate(x, 8, mode="linear", align_corners=True), reals(2, 3, 5)),
    "bilinear": (lambda tg, F, x: F.interpolate(x, (3, 9), mode="bilinear"), reals(2, 3, 5, 6)),
    "bilinear factor": (lambda tg, F, x: F.interpolate(x, scale_factor=1.7, mode="bilinear"), reals(2, 3, 5, 6)),
    "bilinear recomputed": (
        lambda tg, F, x: F.interpolate(x, scale_factor=1.7, mode="bilinear", recompute_scale_factor=True),
        reals(2, 3, 5, 6),
    ),
    "bilinear antialias": (
        lambda tg, F, x: F.interpolate(x, (2, 9), mode="bilinear", antialias=True), reals(2, 3, 5, 6)
    ),
    "bicubic antialias": (lambda tg, F, x: F.interpolate(x, (2, 9), mode="bicubic", antialias=True), reals(2, 3, 7, 6)),
    "lanczos": (lambda tg, F, x: F.interpolate(x, (2, 9), mode="lanczos", antialias=True), reals(2, 3, 8, 7)),
    "trilinear": (lambda tg, F, x: F.interpolate(x, (3, 2, 5), mode="trilinear"), reals(1, 2, 2, 3, 4)),
    "bicubic": (lambda tg, F, x: F.interpolate(x, (3, 9), mode="bicubic"), reals(2, 3, 5, 6)),
    "bicubic aligned": (
        lambda tg, F, x: F.interpolate(x, (3, 9), mode="bicubic", align_corners=True), reals(2, 3, 5, 6)
    ),
    "upsample": (lambda tg, F, x: F.upsample(x, scale_factor=2), reals(2, 3, 5)),
    "upsample_nearest": (lambda tg, F, x: F.upsample_nearest(x, scale_factor=2), reals(2, 3, 5, 2)),
    "upsample_bilinear": (lambda tg, F, x: F.upsample_bilinear(x, scale_factor=2), reals(2, 3, 5, 2)),
    "affine_grid": (lambda tg, F, x: F.affine_grid(x, (2, 1, 3, 4), align_corners=False), reals(2, 2, 3)),
    "affine_grid 3": (lambda tg, F, x: F.affine_grid(x, (2, 1, 3, 4, 2), align_corners=True), reals(2, 3, 4)),
    "pixel_shuffle": (lambda tg, F, x: F.pixel_shuffle(x, 2), reals(2, 8, 2, 3)),
    "pixel_unshuffle": (lambda tg, F, x: F.pixel_unshuffle(x, 2), reals(2, 4, 6)),
    "channel_shuffle": (lambda tg, F, x: F.channel_shuffle(x, 2), reals(2, 4, 3)),
}  # fmt: skip


@pytest.mark.parametrize("name", RESAMPLING)
def test_resampling(name):
    call, *arrays = RESAMPLING[name]
    agree(call, *arrays)
    agree(call, *arrays, dtype="float32", second=False)


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
def test_grid_sample(mode, padding, aligned):
    # PyTorch has no second derivatives of these.
    def call(tg, F, x, grid):
        return F.grid_sample(x, grid, mode, padding, aligned)

    agree(call, reals(2, 3, 4, 5), reals(2, 3, 4, 2), second=False)
    if mode != "bicubic":
        agree(call, reals(2, 2, 3, 4, 5), reals(2, 2, 3, 4, 3), second=False)


def test_grid_sampler():
    agree(lambda tg, F, x, g: tg.grid_sampler_2d(x, g, 0, 1, True), reals(2, 3, 4, 5), reals(2, 3, 4, 2), second=False)
    agree(
        lambda tg, F, x, g: tg.grid_sampler_3d(x, g, 1, 0, False), reals(1, 2, 3, 4, 5), reals(1, 2, 3, 4, 3),
        second=False,
    )  # fmt: skip


REFUSED = [
    lambda tg, F: F.conv2d(tg.ones(2, 3), tg.ones(1, 3, 1, 1)),
    lambda tg, F: F.conv2d(tg.ones(1, 2, 3, 3), tg.ones(1, 3, 1, 1)),
    lambda tg, F: F.conv2d(tg.ones(1, 2, 3, 3), tg.ones(1, 2, 4, 4)),
    lambda tg, F: F.conv2d(tg.ones(1, 2, 3, 3), tg.ones(3, 1, 1, 1), groups=2),
    lambda tg, F: F.conv2d(tg.ones(1, 2, 3, 3), tg.ones(3, 2, 1, 1), tg.ones(2)),
    lambda tg, F: F.conv2d(tg.ones(1, 2, 3, 3), tg.ones(3, 2, 1, 1), stride=0),
    lambda tg, F: F.conv2d(tg.ones(1, 2, 3, 3), tg.ones(3, 2, 1, 1), padding=-1),
    lambda tg, F: F.conv2d(tg.ones(1, 2, 3, 3), tg.ones(3, 2, 1, 1), dilation=0),
    lambda tg, F: F.conv2d(tg.ones(1, 2, 3, 3), tg.ones(3, 2, 1, 1), groups=0),
    lambda tg, F: F.conv2d(tg.ones(1, 2, 3, 3), tg.ones(3, 2, 1, 1), padding="same", stride=2),
    lambda tg, F: F.conv2d(tg.ones(1, 2, 3, 3), tg.ones(3, 2, 1, 1), padding="x"),
    lambda tg, F: F.conv2d(tg.ones(1, 2, 3, 3), tg.ones(3, 2, 1, 1), stride=(1, 2, 3)),
    lambda tg, F: F.conv_transpose2d(tg.ones(1, 2, 3, 3), tg.ones(2, 1, 1, 1), output_padding=2),
    lambda tg, F: F.conv_transpose2d(tg.ones(1, 2, 3, 3), tg.ones(3, 1, 1, 1)),
    lambda tg, F: F.unfold(tg.ones(1, 1, 2, 2), 3),
    lambda tg, F: F.fold(tg.ones(1, 4, 3), (3, 3), 2),
    lambda tg, F: F.fold(tg.ones(1, 5, 4), (3, 3), 2),
    lambda tg, F: F.pad(tg.ones(2, 3), (1, 1, 1, 1, 1, 1)),
    lambda tg, F: F.pad(tg.ones(2, 3), (1,)),
    lambda tg, F: F.pad(tg.ones(2, 3), (-2, -2)),
    lambda tg, F: F.pad(tg.ones(2, 3), (3, 3), mode="reflect"),
    lambda tg, F: F.pad(tg.ones(2, 3), (4, 0), mode="circular"),
    lambda tg, F: F.pad(tg.ones(2, 3), (1, 1, 1, 1), mode="reflect"),
    lambda tg, F: F.pad(tg.ones(2, 3), (1, 1), mode="reflect", value=1.0),
    lambda tg, F: F.pad(tg.ones(2, 3), (1, 1), mode="x"),
    lambda tg, F: F.avg_pool2d(tg.ones(1, 2, 3, 3), 2, padding=2),
    lambda tg, F: F.avg_pool2d(tg.ones(1, 2, 3, 3), 4),
    lambda tg, F: F.avg_pool2d(tg.ones(1, 2, 3, 3), 2, divisor_override=0),
    lambda tg, F: F.avg_pool2d(tg.ones(1, 2, 3, 3), 2, stride=0),
    lambda tg, F: F.max_pool2d(tg.ones(2, 3), 2),
    lambda tg, F: F.max_pool2d(tg.ones(1, 2, 3, 3), 2, padding=2),
    lambda tg, F: F.max_pool2d(tg.ones(1, 2, 3, 3), 4),
    lambda tg, F: F.max_pool2d(tg.ones(1, 2, 3, 3), 2, dilation=0),
    lambda tg, F: F.max_pool1d(tg.ones(1, 2, 3, 3), 2),
    lambda tg, F: F.max_pool1d(tg.ones(2, 3), 4),
    lambda tg, F: F.max_pool1d(tg.ones(2, 3), 2, padding=2),
    lambda tg, F: F.avg_pool1d(tg.ones(2, 3), 4),
    lambda tg, F: F.adaptive_avg_pool2d(tg.ones(2, 3), 2),
    lambda tg, F: F.adaptive_avg_pool2d(tg.ones(1, 2, 3, 3), -1),
    lambda tg, F: F.adaptive_max_pool2d(tg.ones(1, 2, 3, 3), -1),
    lambda tg, F: F.adaptive_avg_pool1d(tg.ones(3), 2),
    lambda tg, F: F.adaptive_avg_pool2d(tg.ones(1, 2, 0, 3), 2),
    lambda tg, F: F.max_unpool2d(tg.ones(1, 1, 2, 2), tg.full((1, 1, 2, 2), 99), 2),
    lambda tg, F: F.max_unpool2d(tg.ones(1, 1, 2, 2), tg.zeros(1, 1, 2, 2), 2),
    lambda tg, F: F.max_unpool2d(tg.ones(1, 1, 2, 2), tg.zeros(1, 1, 2, 1).long(), 2),
    lambda tg, F: F.interpolate(tg.ones(1, 1, 2), 2, mode="bilinear"),
    lambda tg, F: F.interpolate(tg.ones(1, 1, 2, 2), (0, 2)),
    lambda tg, F: F.interpolate(tg.ones(1, 1, 2, 2), (2, 2, 2)),
    lambda tg, F: F.interpolate(tg.ones(1, 1, 2, 2)),
    lambda tg, F: F.interpolate(tg.ones(1, 1, 2, 2), 3, align_corners=True),
    lambda tg, F: F.grid_sample(tg.ones(1, 1, 2, 2), tg.ones(1, 2, 2, 3)),
    lambda tg, F: F.grid_sample(tg.ones(1, 1, 2, 2), tg.ones(2, 2, 2, 2)),
    lambda tg, F: F.grid_sample(tg.ones(1, 1, 2, 2), tg.ones(1, 2, 2, 2), mode="x"),
    lambda tg, F: F.grid_sample(tg.ones(1, 1, 2, 2, 2), tg.ones(1, 2, 2, 2, 3), mode="bicubic"),
    lambda tg, F: F.affine_grid(tg.ones(1, 2, 2), (1, 1, 2, 2)),
    lambda tg, F: F.pixel_shuffle(tg.ones(1, 3, 2, 2), 2),
    lambda tg, F: F.pixel_unshuffle(tg.ones(1, 1, 3, 3), 2),
    lambda tg, F: F.channel_shuffle(tg.ones(1, 3, 2, 2), 2),
    lambda tg, F: F.fractional_max_pool2d(tg.ones(1, 1, 4, 4), 3),
    lambda tg, F: F.fractional_max_pool2d(tg.ones(1, 1, 4, 4), 3, (4, 4)),
]


@pytest.mark.parametrize("number", range(len(REFUSED)))
def test_what_pytorch_refuses_is_refused(number):
    refuse_alike(REFUSED[number])
