"""Models whose Jacobians are asked for, and a recurrent net."""

import math

import numpy as np
from numba import njit

from tapegrad.jitted import value_and_grad


@njit
def rotated(r, x, out):
    """A point turned about an axis, by Rodrigues' formula."""
    square = r[0] * r[0] + r[1] * r[1] + r[2] * r[2]
    theta = math.sqrt(square + 1e-30)
    c, s = math.cos(theta), math.sin(theta)
    w0, w1, w2 = r[0] / theta, r[1] / theta, r[2] / theta
    dot = (w0 * x[0] + w1 * x[1] + w2 * x[2]) * (1.0 - c)
    out[0] = x[0] * c + (w1 * x[2] - w2 * x[1]) * s + w0 * dot
    out[1] = x[1] * c + (w2 * x[0] - w0 * x[2]) * s + w1 * dot
    out[2] = x[2] * c + (w0 * x[1] - w1 * x[0]) * s + w2 * dot


@njit
def project(block, at, x, y, out):
    """Where a camera sees a point, less where it was seen, times a weight.

    In `block` are the camera (its turn, its place, focal length, centre, two coefficients of distortion), the point and
    the weight; `x` and `y` are work space.
    """
    for i in range(3):
        x[i] = block[11 + i] - block[3 + i]
    rotated(block[:3], x, y)
    u, v = y[0] / y[2], y[1] / y[2]
    square = u * u + v * v
    radial = 1.0 + block[9] * square + block[10] * square * square
    out[0] = block[14] * (block[6] * radial * u + block[7] - at[0])
    out[1] = block[14] * (block[6] * radial * v + block[8] - at[1])


@njit
def reprojections(blocks, at):
    """The reprojection errors of all that was seen."""
    found = np.empty((len(blocks), 2))
    x, y = np.empty(3), np.empty(3)
    for k in range(len(blocks)):
        project(blocks[k], at[k], x, y, found[k])
    return found


@njit
def reprojection(block, at, part):
    """One of the two numbers of one reprojection error."""
    x, y, found = np.empty(3), np.empty(3), np.empty(2)
    project(block, at, x, y, found)
    return found[part]


reprojection_and_slope = value_and_grad(reprojection)


@njit
def reprojections_blocks(blocks, at):
    """The Jacobian of all reprojection errors, of which only the blocks that aren't zero are computed."""
    found = np.empty((len(blocks), 2, blocks.shape[1]))
    for k in range(len(blocks)):
        for part in range(2):
            _, found[k, part] = reprojection_and_slope(blocks[k], at[k], part)
    return found


@njit
def chained(a, b, out):
    """One affine map after another, as matrices of 3 x 4."""
    for i in range(3):
        for j in range(4):
            s = a[i, 3] if j == 3 else 0.0
            for k in range(3):
                s += a[i, k] * b[k, j]
            out[i, j] = s


@njit
def skin(theta, base, inverse, weights, rest):
    """A hand's skin, moved with its bones: a wrist, and five fingers of four bones.

    `theta` turns the hand (3), shifts it (3), and bends the fingers: each by four angles, of which the first spreads
    and the second bends its first bone. `base` has each bone's place in that before it, `inverse` the inverse of its
    place in the hand at rest, `weights` how much each bone moves each point of the skin.
    """
    n_bones, n = base.shape[0], rest.shape[0]
    world, moved = np.empty((n_bones, 3, 4)), np.empty((n_bones, 3, 4))
    local, turned = np.empty((3, 4)), np.zeros((3, 4))
    world[0] = base[0]
    chained(world[0], inverse[0], moved[0])
    for bone in range(1, n_bones):
        finger, joint = (bone - 1) // 4, (bone - 1) % 4
        angles = theta[6 + 4 * finger : 10 + 4 * finger]
        spread = angles[0] if joint == 0 else 0.0
        bend = angles[joint + 1] if joint < 3 else 0.0
        c, s, cx, sx = math.cos(spread), math.sin(spread), math.cos(bend), math.sin(bend)
        turned[0, 0], turned[0, 1], turned[0, 2] = c, -s * cx, s * sx
        turned[1, 0], turned[1, 1], turned[1, 2] = s, c * cx, -c * sx
        turned[2, 1], turned[2, 2] = sx, cx
        chained(base[bone], turned, local)
        chained(world[0 if joint == 0 else bone - 1], local, world[bone])
        chained(world[bone], inverse[bone], moved[bone])
    points, x = np.empty((n, 3)), np.empty(3)
    for p in range(n):
        x[:] = 0.0
        for bone in range(n_bones):
            for i in range(3):
                t = moved[bone, i, 3]
                for k in range(3):
                    t += moved[bone, i, k] * rest[p, k]
                x[i] += weights[bone, p] * t
        rotated(theta[:3], x, points[p])
        for i in range(3):
            points[p, i] += theta[3 + i]
    return points


@njit
def hand(theta, base, inverse, weights, rest, points, seen):
    """How far what was seen is from points of a hand's skin."""
    skinned = skin(theta, base, inverse, weights, rest)
    found = np.empty(seen.shape)
    for k in range(seen.shape[0]):
        for i in range(3):
            found[k, i] = seen[k, i] - skinned[points[k], i]
    return found


@njit
def hand_on_triangles(p, base, inverse, weights, rest, triangles, places, seen):
    """How far what was seen is from points in the skin's triangles.

    The last two of `p` are added to the places in all triangles: each place has a residual of its own, so that a column
    of the Jacobian has the derivatives by all of them.
    """
    skinned = skin(p, base, inverse, weights, rest)
    found = np.empty(seen.shape)
    for k in range(seen.shape[0]):
        u, v = places[k, 0] + p[26], places[k, 1] + p[27]
        for i in range(3):
            a, b, c = (skinned[triangles[k, 0], i], skinned[triangles[k, 1], i], skinned[triangles[k, 2], i])
            found[k, i] = seen[k, i] - (u * a + v * b + (1.0 - u - v) * c)
    return found


@njit
def lstm(w, x, n_layers):
    """The log likelihood of a text under a recurrent net with gates that look at their own unit alone.

    `w` has, a layer, the weights and biases of four gates, and at the end weights of the input, and of the output and
    its biases.
    """
    n, ends = x.shape[1], 8 * n_layers
    hidden, cell = np.zeros((n_layers, n)), np.zeros((n_layers, n))
    given = np.empty(n)
    loss = 0.0
    for t in range(x.shape[0] - 1):
        for j in range(n):
            given[j] = x[t, j] * w[ends, j]
        for layer in range(n_layers):
            at = 8 * layer
            for j in range(n):
                forget = 1.0 / (1.0 + math.exp(-(given[j] * w[at, j] + w[at + 1, j])))
                taken = 1.0 / (1.0 + math.exp(-(hidden[layer, j] * w[at + 2, j] + w[at + 3, j])))
                shown = 1.0 / (1.0 + math.exp(-(given[j] * w[at + 4, j] + w[at + 5, j])))
                change = math.tanh(hidden[layer, j] * w[at + 6, j] + w[at + 7, j])
                cell[layer, j] = cell[layer, j] * forget + taken * change
                hidden[layer, j] = shown * math.tanh(cell[layer, j])
                given[j] = hidden[layer, j]
        s = 2.0
        for j in range(n):
            given[j] = given[j] * w[ends + 1, j] + w[ends + 2, j]
            s += math.exp(given[j])
        s = math.log(s)
        for j in range(n):
            loss += x[t + 1, j] * (given[j] - s)
    return loss / x.shape[0]
