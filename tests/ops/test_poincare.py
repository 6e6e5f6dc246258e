"""The geometry of the Poincare ball: laws, limits, gradients, and agreement with exact arithmetic and with geoopt."""

from fractions import Fraction
from functools import partial

import numpy as np
import pytest

from serfuse.experiment import backend

backend.set_up_backend()
import keras  # noqa: E402 - the backend is chosen above

if keras.backend.backend() != "tensorflow":
    pytest.skip("gradients here are TensorFlow's; test_backends.py looks at the others", allow_module_level=True)
import tensorflow as tf  # noqa: E402

from serfuse.ops import poincare  # noqa: E402

DTYPES = ("float32", "float64")
SEEDS = range(3)
DIMENSIONS = (2, 120)
ABOUT = {"float32": 2e-4, "float64": 1e-11}  # what the laws hold to with norms up to 0.99


def ball(seed, dimension, dtype, count=64, lowest=0.0, highest=0.99):
    """Random points of the ball, their norms spread evenly."""
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(count, dimension))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    return (points * np.linspace(lowest, highest, count)[:, None]).astype(dtype)


def two(seed, dimension, dtype):
    """Pairs of random points whose norms do not go together."""
    x, y = ball(seed, dimension, dtype), ball(seed + 1000, dimension, dtype)
    return x, np.random.default_rng(seed).permutation(y)


def run(function, *arrays):
    """Value of the function, and whether the gradients of its sum of squares are finite (asserted)."""
    tensors = [tf.constant(array) for array in arrays]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        value = function(*tensors)
        total = tf.reduce_sum(value**2)
    for gradient in tape.gradient(total, tensors, unconnected_gradients="zero"):
        assert np.isfinite(gradient.numpy()).all()
    assert value.dtype == tensors[0].dtype
    return value.numpy()


def gradient(function, *arrays):
    """Gradients of a scalar function."""
    tensors = [tf.constant(array) for array in arrays]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        value = function(*tensors)
    return [found.numpy() for found in tape.gradient(value, tensors)]


def exact_sum(x, y):
    """Moebius addition as printed, in extended precision."""
    return printed(x.astype("longdouble"), y.astype("longdouble"))


def lengths(x):
    return np.linalg.norm(x, axis=-1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("dimension", DIMENSIONS)
class TestMobiusAddLaws:
    def test_left_cancellation(self, seed, dimension, dtype):
        x, y = two(seed, dimension, dtype)
        inside = lengths(exact_sum(x, y)) < 1 - poincare.margin(dtype)
        x, y = x[inside], y[inside]
        assert len(x) > 32
        found = run(lambda x, y: poincare.mobius_add(-x, poincare.mobius_add(x, y)), x, y)
        np.testing.assert_allclose(found, y, atol=ABOUT[dtype])

    def test_zero_is_neutral(self, seed, dimension, dtype):
        x, _ = two(seed, dimension, dtype)
        zero = np.zeros_like(x)
        close = partial(np.testing.assert_allclose, atol=4 * np.finfo(dtype).eps)
        close(run(poincare.mobius_add, zero, x), x)
        close(run(poincare.mobius_add, x, zero), x)
        close(run(poincare.mobius_add, -x, x), zero)

    def test_minus_distributes(self, seed, dimension, dtype):
        x, y = two(seed, dimension, dtype)
        minus = run(lambda x, y: poincare.mobius_add(-x, -y), x, y)
        np.testing.assert_allclose(-run(poincare.mobius_add, x, y), minus, atol=4 * np.finfo(dtype).eps)

    def test_norm_does_not_depend_on_the_order(self, seed, dimension, dtype):
        x, y = two(seed, dimension, dtype)
        there, back = run(poincare.mobius_add, x, y), run(poincare.mobius_add, y, x)
        np.testing.assert_allclose(lengths(there), lengths(back), rtol=20 * np.finfo(dtype).eps)

    def test_printed_formula(self, seed, dimension, dtype):
        x, y = two(seed, dimension, dtype)
        exact = exact_sum(x, y)
        inside = lengths(exact) < 1 - poincare.margin(dtype)
        found = run(poincare.mobius_add, x, y)
        np.testing.assert_allclose(found[inside], exact[inside].astype(dtype), atol=8 * np.finfo(dtype).eps)
        assert (lengths(found) <= 1 - poincare.margin(dtype) + 4 * np.finfo(dtype).eps).all()


def printed(x, y):
    """Moebius addition as printed, in the dtype of the arguments or in exact fractions."""
    inner, xx, yy = ((a * b).sum(-1, keepdims=True) for a, b in ((x, y), (x, x), (y, y)))
    return ((1 + 2 * inner + yy) * x + (1 - xx) * y) / (1 + 2 * inner + xx * yy)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_mobius_add_keeps_its_digits_at_the_boundary(dimension, dtype):
    """x near the edge and y almost -x, against rational arithmetic: the printed form has no digit left there."""
    edge = 1 - 2 * poincare.margin(dtype)
    x = ball(0, dimension, dtype, count=8, lowest=edge, highest=edge)
    y = (-x + 0.3 * poincare.margin(dtype) * ball(1, dimension, dtype, count=8, lowest=1, highest=1)).astype(dtype)
    exact = printed(*(np.vectorize(lambda n: Fraction(float(n)), otypes=[object])(z) for z in (x, y))).astype("float64")
    assert (lengths(exact) < 0.5).all()
    found = run(poincare.mobius_add, x, y)
    assert (lengths(found - exact) / lengths(exact)).max() < 3e-3
    with np.errstate(all="ignore"):
        lost = lengths(printed(x, y) - exact) / lengths(exact)
    assert not np.median(lost) < 0.3  # the reason for the rearrangement


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kappa", [0.05, 0.5, 1.0, 30.0])
def test_exp_and_log_laws(seed, kappa, dtype):
    """logmap0(expmap0(x)) = scale kappa x, as far as the ball reaches; scale 1 / kappa is the inverse."""
    x = ball(seed, 24, "float64", lowest=0.0, highest=4.5).astype(dtype) / kappa
    x = x.astype(dtype)
    rtol, atol = {"float32": (2e-4, 1e-6), "float64": (1e-10, 1e-14)}[dtype]
    twice = run(lambda x: poincare.logmap0(poincare.expmap0(x, kappa), 2.0), x)
    np.testing.assert_allclose(twice, 2 * kappa * x, rtol=rtol, atol=atol)
    same = run(lambda x: poincare.logmap0(poincare.expmap0(x, kappa), 1 / kappa), x)
    np.testing.assert_allclose(same, x, rtol=rtol, atol=atol / kappa)
    y = ball(seed, 24, dtype, highest=0.999)
    np.testing.assert_allclose(
        run(lambda y: poincare.expmap0(poincare.logmap0(y, 1 / kappa), kappa), y), y, rtol=rtol, atol=atol
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_expmap0_is_the_printed_formula(dtype):
    x = ball(0, 24, dtype, lowest=1e-3, highest=4.0)
    wide = x.astype("longdouble")
    length = np.linalg.norm(wide, axis=-1, keepdims=True)
    found = run(lambda x: poincare.expmap0(x, 0.9), x)
    np.testing.assert_allclose(found, np.tanh(0.9 * length) * wide / length, rtol=30 * np.finfo(dtype).eps)
    inner = x / 4.1
    length = np.linalg.norm(inner.astype("longdouble"), axis=-1, keepdims=True)
    expected = 2 * np.arctanh(length) * inner / length
    np.testing.assert_allclose(run(poincare.logmap0, inner), expected, rtol=300 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", DTYPES)
def test_tiny_features_with_a_large_kappa(dtype):
    x = ball(0, 8, dtype, lowest=0.1, highest=2.0)
    tiny = (x * 1e-9).astype(dtype)
    np.testing.assert_allclose(run(lambda x: poincare.expmap0(x, 1e9), tiny), run(poincare.expmap0, x), rtol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_values_and_gradients_at_zero(dtype):
    zero, weights = np.zeros((2, 5), dtype), np.random.default_rng(0).normal(size=(2, 5)).astype(dtype)
    for function, factor in (
        (partial(poincare.expmap0, kappa=0.7), 0.7),
        (poincare.logmap0, 2.0),
        (poincare.project, 1.0),
        (lambda x: poincare.mobius_add(x, x), 2.0),
        (lambda x: poincare.gyromidpoint(x, x), 1.0),
    ):
        assert not run(function, zero).any()
        (found,) = gradient(lambda x, function=function: tf.reduce_sum(function(x) * weights), zero)
        np.testing.assert_allclose(found, factor * weights, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "size"), [("float32", 1e3), ("float32", 1e18), ("float64", 1e18)])
def test_huge_vectors_end_on_the_edge(dtype, size):
    direction = ball(0, 12, dtype, lowest=1.0, highest=1.0)
    huge = (direction * size).astype(dtype)
    edge = direction * (1 - poincare.margin(dtype))
    for function in (poincare.expmap0, poincare.project):
        np.testing.assert_allclose(run(function, huge), edge, rtol=1e-5)
    furthest = np.arctanh(1 - poincare.margin(dtype))
    np.testing.assert_allclose(run(partial(poincare.logmap0, scale=1.0), huge), direction * furthest, rtol=1e-3)
    on_edge = run(poincare.expmap0, huge)
    for function in (poincare.mobius_add, poincare.gyromidpoint):
        found = run(function, on_edge, np.roll(on_edge, 1, axis=0))
        assert (lengths(found) <= 1 - poincare.margin(dtype) + 1e-6).all()
        assert lengths(run(function, on_edge, -on_edge)).max() < 1e-6


@pytest.mark.parametrize("dtype", DTYPES)
def test_project(dtype):
    points = np.concatenate([ball(0, 7, dtype), ball(1, 7, dtype, lowest=1.0, highest=3.0)])
    found = run(poincare.project, points)
    np.testing.assert_array_equal(found[:64], points[:64])
    np.testing.assert_allclose(lengths(found[64:]), 1 - poincare.margin(dtype), rtol=1e-6)
    np.testing.assert_allclose(
        found[64:] / lengths(found[64:])[:, None], points[64:] / lengths(points[64:])[:, None], 1e-4
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("dimension", DIMENSIONS)
class TestGyromidpoint:
    def test_it_is_halfway(self, seed, dimension, dtype):
        x, y = two(seed, dimension, dtype)
        middle = run(poincare.gyromidpoint, x, y)

        def distance(x, y):
            return np.arctanh(lengths(exact_sum(-x, y)))

        whole = distance(x, y)
        rtol, atol = {"float32": (1e-4, 1e-4), "float64": (1e-10, 1e-12)}[dtype]
        np.testing.assert_allclose(distance(x, middle), whole / 2, rtol=rtol, atol=atol)
        np.testing.assert_allclose(distance(y, middle), whole / 2, rtol=rtol, atol=atol)

    def test_order_and_equal_points(self, seed, dimension, dtype):
        x, y = two(seed, dimension, dtype)
        close = partial(np.testing.assert_allclose, atol=4 * np.finfo(dtype).eps)
        close(run(poincare.gyromidpoint, x, y), run(poincare.gyromidpoint, y, x))
        close(run(poincare.gyromidpoint, x, x), x)
        close(run(poincare.gyromidpoint, x, -x), np.zeros_like(x))

    def test_against_ungars_formula(self, seed, dimension, dtype):
        x, y = two(seed, dimension, dtype)
        wide = [z.astype("longdouble") for z in (x, y)]
        squared_factors = [1 / (1 - (z * z).sum(-1, keepdims=True)) for z in wide]
        mean = sum(g * z for g, z in zip(squared_factors, wide, strict=True)) / (sum(squared_factors) - 1)
        length = np.maximum(np.linalg.norm(mean, axis=-1, keepdims=True), 1e-30)
        expected = np.tanh(np.arctanh(np.minimum(length, 1)) / 2) * mean / length
        np.testing.assert_allclose(run(poincare.gyromidpoint, x, y), expected, atol=20 * np.finfo(dtype).eps)


def weighted(*points, weights):
    return poincare.weighted_midpoint(points, weights)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("dimension", DIMENSIONS)
class TestWeightedMidpoint:
    WEIGHTS = (1.0, 0.25, 3.0)

    def points(self, dimension, dtype):
        rng = np.random.default_rng(dimension)
        return [rng.permutation(ball(seed, dimension, dtype, lowest=0.0, highest=0.95)) for seed in range(3)]

    def test_two_equal_weights_are_the_gyromidpoint(self, dimension, dtype):
        x, y, _ = self.points(dimension, dtype)
        expected = run(poincare.gyromidpoint, x, y)
        found = run(partial(weighted, weights=[0.7, 0.7]), x, y)
        np.testing.assert_allclose(found, expected, atol=8 * np.finfo(dtype).eps)

    def test_order_and_equal_points(self, dimension, dtype):
        x, y, z = self.points(dimension, dtype)
        one = run(partial(weighted, weights=self.WEIGHTS), x, y, z)
        other = run(partial(weighted, weights=(3.0, 1.0, 0.25)), z, x, y)
        np.testing.assert_allclose(one, other, atol=8 * np.finfo(dtype).eps)
        np.testing.assert_allclose(run(partial(weighted, weights=self.WEIGHTS), x, x, x), x, atol=4e-7)

    def test_against_ungars_formula(self, dimension, dtype):
        points = self.points(dimension, dtype)
        wide = [z.astype("longdouble") for z in points]
        factors = [1 / (1 - (z * z).sum(-1, keepdims=True)) for z in wide]
        above = sum(w * g * z for w, g, z in zip(self.WEIGHTS, factors, wide, strict=True))
        mean = above / sum(w * (g - 0.5) for w, g in zip(self.WEIGHTS, factors, strict=True))
        length = np.maximum(np.linalg.norm(mean, axis=-1, keepdims=True), 1e-30)
        expected = np.tanh(np.arctanh(np.minimum(length, 1)) / 2) * mean / length
        found = run(partial(weighted, weights=self.WEIGHTS), *points)
        np.testing.assert_allclose(found, expected, atol=20 * np.finfo(dtype).eps)

    def test_it_moves_with_the_points(self, dimension, dtype):
        """`z (+) middle(x_k)` is `middle(z (+) x_k)`: no place of the ball is special."""
        x, y, z = (0.7 * one for one in self.points(dimension, dtype))
        middle = partial(weighted, weights=self.WEIGHTS)
        moved = run(middle, *(run(poincare.mobius_add, z, one) for one in (x, y, x)))
        there = run(poincare.mobius_add, z, run(middle, x, y, x))
        np.testing.assert_allclose(moved, there, atol={"float32": 1e-5, "float64": 1e-13}[dtype])


def test_weighted_midpoint_at_the_edge():
    """Opposite points of the edge meet in the origin; the sum that is printed would divide 0 by 0 in float32."""
    edge = ball(0, 12, "float32", lowest=1.0, highest=1.0)
    middle = partial(weighted, weights=(1.0, 0.5, 0.5))
    np.testing.assert_allclose(run(middle, edge, -edge, -edge), np.zeros_like(edge), atol=1e-6)
    np.testing.assert_allclose(lengths(run(middle, edge, edge, edge)), 1 - poincare.margin("float32"), rtol=1e-6)


@pytest.mark.parametrize(
    ("function", "inputs"),
    [
        (partial(poincare.expmap0, kappa=0.8), 1),
        (partial(poincare.logmap0, scale=1.3), 1),
        (poincare.project, 1),
        (lambda x: poincare.project(20.0 * x), 1),
        (poincare.mobius_add, 2),
        (poincare.gyromidpoint, 2),
        (partial(weighted, weights=(1.0, 0.25, 3.0)), 3),
        (lambda x, y: poincare.logmap0(poincare.mobius_add(poincare.expmap0(x), poincare.expmap0(y))), 2),
    ],
    ids=[
        "expmap0",
        "logmap0",
        "project inside",
        "project outside",
        "mobius_add",
        "gyromidpoint",
        "weighted_midpoint",
        "chain",
    ],
)
def test_gradients_against_finite_differences(function, inputs):
    rng = np.random.default_rng(3)
    arrays = [ball(seed, 4, "float64", count=6, lowest=0.1, highest=0.95) for seed in range(inputs)]
    weights = rng.normal(size=function(*map(tf.constant, arrays)).shape)

    def total(*tensors):
        return tf.reduce_sum(function(*tensors) * weights)

    for number, found in enumerate(gradient(total, *arrays)):
        for index in np.ndindex(*found.shape):
            step = np.zeros_like(found)
            step[index] = 1e-6
            plus, minus = ([a + sign * step * (i == number) for i, a in enumerate(arrays)] for sign in (1, -1))
            slope = (total(*map(tf.constant, plus)) - total(*map(tf.constant, minus))) / 2e-6
            assert abs(slope.numpy() - found[index]) < 1e-6 * (1 + abs(found[index]))


@pytest.mark.parametrize("size", [0.5, 1.0, 1.5, 2.4])
@pytest.mark.parametrize("dimension", [120, 20_000])
def test_the_chain_in_float32_is_exact_far_beyond_norm_one(size, dimension):
    """logmap0(expmap0(u) (+) expmap0(v)) up to 2.4 each, against float64; a ball of 1 - 4e-3 would lose a fifth."""
    rng = np.random.default_rng(0)
    u = rng.normal(size=(8, dimension))
    v = 0.7 * rng.normal(size=(8, dimension)) + 0.3 * u
    u, v = ((size * z / lengths(z)[:, None]).astype("float32") for z in (u, v))

    def chain(u, v):
        return poincare.logmap0(poincare.mobius_add(poincare.expmap0(u), poincare.expmap0(v)))

    found, expected = run(chain, u, v), run(chain, u.astype("float64"), v.astype("float64"))
    assert (lengths(found - expected) / lengths(expected)).max() < 3e-4
    small, large = (gradient(lambda u, v: tf.reduce_sum(chain(u, v)), *z) for z in ((u, v), map(np.float64, (u, v))))
    for found, expected in zip(small, large, strict=True):
        assert (lengths(found - expected) / lengths(expected)).max() < 5e-3


def exact_chain(u, v):
    """2 artanh(||z||) z / ||z|| for z = expmap0(u) (+) expmap0(v), of one pair of vectors, with 80 digits."""
    import mpmath

    mpmath.mp.dps = 80

    def length(z):
        return mpmath.sqrt(sum(t * t for t in z))

    def on_ball(z):
        return [mpmath.tanh(length(z)) * t / length(z) for t in z]

    x, y = (np.array(on_ball([mpmath.mpf(float(t)) for t in z]), dtype=object) for z in (u, v))
    z = printed(x, y)
    size = length(z)
    return np.array([float(2 * mpmath.atanh(size) * t / size) for t in z])


@pytest.mark.parametrize(("a", "b"), [(1e-6, 1e-6), (4e-3, 5e-3), (1e-3, 2.0), (1, 1), (3, 1), (1, 3), (5, 5)])
def test_the_chain_against_exact_arithmetic(a, b):
    """In float64, up to 1 - 4e-9 of the ball. Random and equal directions."""
    pytest.importorskip("mpmath")
    rng = np.random.default_rng(0)
    u, v = rng.normal(size=(2, 5, 3))
    v[4] = u[4]
    u, v = (size * z / lengths(z)[:, None] for size, z in ((a, u), (b, v)))
    found = run(lambda u, v: poincare.logmap0(poincare.mobius_add(poincare.expmap0(u), poincare.expmap0(v))), u, v)
    expected = np.array([exact_chain(*pair) for pair in zip(u, v, strict=True)])
    assert (lengths(found - expected) / lengths(expected)).max() < 1e-8


# Made with geoopt 0.5.1 in float64: PoincareBall(c=1.0).mobius_add(X, Y), .expmap0(3 * X), .logmap0(Y), and
# .weighted_midpoint(torch.stack([X, Y]), reducedim=[0]).
X = np.array([[0.3, -0.4, 0.2], [-0.05, 0.8, 0.5]])
Y = np.array([[-0.1, 0.25, 0.6], [0.6, -0.1, -0.7]])
GEOOPT = {
    "mobius_add": [
        [0.3191080353710112, -0.35054390845150063, 0.6409299590655179],
        [0.020647749395315863, 0.874579670815881, 0.4657542327886261],
    ],
    "expmap0": [
        [0.5147340587593885, -0.6863120783458516, 0.3431560391729258],
        [-0.05256130096766933, 0.8409808154827093, 0.5256130096766932],
    ],
    "logmap0": [
        [-0.11992089980004314, 0.29980224950010786, 0.7195253988002587],
        [1.0605624413925467, -0.17676040689875783, -1.2373228482913046],
    ],
    "gyromidpoint": [
        [0.06387040205909326, -0.03185475971712965, 0.3471847043917463],
        [0.13262111401750099, 0.23352848337864357, -0.012108884323336774],
    ],
}


@pytest.mark.parametrize("dtype", DTYPES)
def test_frozen_values_of_geoopt(dtype):
    x, y = X.astype(dtype), Y.astype(dtype)
    found = {
        "mobius_add": run(poincare.mobius_add, x, y),
        "expmap0": run(partial(poincare.expmap0, kappa=3.0), x),
        "logmap0": run(partial(poincare.logmap0, scale=1.0), y),
        "gyromidpoint": run(poincare.gyromidpoint, x, y),
    }
    for name, value in found.items():
        np.testing.assert_allclose(value, GEOOPT[name], atol={"float32": 4e-7, "float64": 1e-14}[dtype], err_msg=name)


def test_geoopt_live():
    geoopt, torch = pytest.importorskip("geoopt"), pytest.importorskip("torch")
    manifold = geoopt.PoincareBall(c=1.0)
    x, y = (ball(seed, 16, "float64", highest=0.95) for seed in (0, 1))
    a, b = torch.from_numpy(x), torch.from_numpy(y)
    for found, expected in (
        (run(poincare.mobius_add, x, y), manifold.mobius_add(a, b)),
        (run(poincare.expmap0, x), manifold.expmap0(a)),
        (run(partial(poincare.logmap0, scale=1.0), x), manifold.logmap0(a)),
        (run(poincare.gyromidpoint, x, y), manifold.weighted_midpoint(torch.stack([a, b]), reducedim=[0])),
        (
            run(partial(weighted, weights=[0.5, 2.0]), x, y),
            manifold.weighted_midpoint(torch.stack([a, b]), torch.tensor([[0.5], [2.0]]).double(), reducedim=[0]),
        ),
    ):
        np.testing.assert_allclose(found, expected.detach().numpy(), atol=1e-10)


def test_other_dtypes_are_refused():
    with pytest.raises(ValueError, match="float16"):
        poincare.expmap0(tf.constant([[1.0, 2.0]], "float16"))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kappa", [1e-12, 1.0, 1e12])
def test_vectors_whose_squares_overflow_end_on_the_edge_too(dtype, kappa):
    """Their norm is infinite in the dtype; the map divided by it and silently gave 0."""
    direction = ball(0, 12, dtype, count=8, lowest=1.0, highest=1.0)
    edge = direction * (1 - poincare.margin(dtype))
    for size in {"float32": (1e20, 1e37), "float64": (1e160, 1e305)}[dtype]:
        huge = (direction * size).astype(dtype)
        np.testing.assert_allclose(run(partial(poincare.expmap0, kappa=kappa), huge), edge, rtol=1e-5)
        np.testing.assert_allclose(run(poincare.project, huge), edge, rtol=1e-5)
        np.testing.assert_allclose(run(lambda x: poincare.clip_norm(x, 3.0), huge), 3.0 * direction, rtol=1e-5)
        # a bound that is longer than the vector leaves it alone, whatever is done inside
        assert (poincare.clip_norm(tf.constant(huge), 10.0 * size).numpy() == huge).all()
        furthest = direction * np.arctanh(1 - poincare.margin(dtype))
        np.testing.assert_allclose(run(partial(poincare.logmap0, scale=1.0), huge), furthest, rtol=1e-3)
        small = ball(1, 12, dtype, count=8, lowest=0.3, highest=0.3)
        for function in (poincare.mobius_add, poincare.gyromidpoint):
            for pair, bounded in (((huge, small), (edge, small)), ((small, huge), (small, edge))):
                np.testing.assert_allclose(run(function, *pair), run(function, *bounded), atol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("longest", [1e-12, 1.0, 1e12])
def test_clip_norm_has_finite_gradients_whatever_its_bound(dtype, longest):
    """At zero the branch that is not taken divided by a norm of 1e-15, and its gradient was 0 times infinity."""
    x = np.array([[0.0, 0.0], [1e-20, 0.0], [3.0, -4.0], [1e18, 1e18]], dtype)
    lengths_found = lengths(run(lambda x: poincare.clip_norm(x, longest), x).astype("float64"))
    np.testing.assert_allclose(lengths_found, np.minimum(lengths(x.astype("float64")), longest), rtol=1e-5)


def test_not_a_number_is_not_hidden():
    for bad in (np.nan, np.inf):
        x = tf.constant([[bad, 1.0], [0.1, 0.2]])
        for function in (poincare.expmap0, poincare.logmap0, lambda x: poincare.mobius_add(x, 0.5 * x)):
            found = function(x).numpy()
            assert np.isnan(found[0]).any() and np.isfinite(found[1]).all()
