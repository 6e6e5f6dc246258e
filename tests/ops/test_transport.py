"""Optimal transport: plans, masks, invariances, gradients, and agreement with POT."""

import os

import numpy as np
import pytest

from serfuse.experiment import backend

backend.set_up_backend()
import keras  # noqa: E402 - the backend is chosen above

if keras.backend.backend() != "tensorflow":
    pytest.skip("gradients here are TensorFlow's; test_backends.py looks at the others", allow_module_level=True)
import tensorflow as tf  # noqa: E402

from serfuse.ops import transport  # noqa: E402

DTYPES = ("float32", "float64")
LOG, SCALINGS = 0.02, 0.1  # an epsilon on each side of the change of method


def sets(seed=0, p=7, q=5, features=3, dtype="float64", batch=()):
    """Two random point sets."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(*batch, n, features)).astype(dtype) for n in (p, q))


def tensor(*arrays):
    return [None if array is None else tf.constant(array) for array in arrays]


def gradients(function, *arrays):
    """Value and gradients of a scalar function."""
    tensors = tensor(*arrays)
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        value = function(*tensors)
    return value.numpy(), [found.numpy() for found in tape.gradient(value, tensors)]


def sinkhorn(cost, epsilon=0.1, iterations=20, a=None, b=None):
    return tf.exp(transport.sinkhorn_log_plan(cost, epsilon, iterations, a, b))


def plan(cost, *arguments, **weights):
    return sinkhorn(tf.constant(cost), *arguments, **weights).numpy()


def mapped(p, q, epsilon=0.1, iterations=20, p_mask=None, q_mask=None):
    cost = transport.cost_matrix(p, q, p_mask, q_mask)
    a, b = (None if mask is None else transport.uniform_weights(mask, cost.dtype) for mask in (p_mask, q_mask))
    return transport.barycentric_map(transport.sinkhorn_log_plan(cost, epsilon, iterations, a, b), q)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("features", [1, 3, 120])
def test_cost_is_the_distance_over_the_largest(features, dtype):
    p, q = sets(features=features, dtype=dtype, batch=(4,))
    expected = np.linalg.norm(p[:, :, None].astype("float64") - q[:, None], axis=-1)
    found = transport.cost_matrix(*tensor(p, q)).numpy()
    assert found.dtype == dtype
    np.testing.assert_allclose(
        found, expected / expected.max(axis=(1, 2), keepdims=True), atol={"float32": 2e-6, "float64": 1e-9}[dtype]
    )


@pytest.mark.parametrize("features", [3, 120])
@pytest.mark.parametrize(("shift", "size"), [(1e4, 1.0), (0.0, 1e-15), (0.0, 1e18), (-3e12, 1e10)])
def test_cost_does_not_depend_on_where_and_how_large_the_points_are(features, shift, size):
    p, q = sets(features=features)
    expected = transport.cost_matrix(*tensor(p, q)).numpy()
    # float32 rounds coordinates beside a shift of 1e4 to 1e-3, so the points are made from the rounded ones
    p, q = ((z * size + shift).astype("float32") for z in (p, q))
    exact = transport.cost_matrix(*tensor(p.astype("float64"), q.astype("float64"))).numpy()
    np.testing.assert_allclose(exact, expected, atol=3e-3)
    value, found = gradients(lambda p, q: tf.reduce_sum(mapped(p, q)), p, q)
    np.testing.assert_allclose(transport.cost_matrix(*tensor(p, q)), exact, atol=2e-6)
    assert np.isfinite(value) and all(np.isfinite(gradient).all() for gradient in found)


@pytest.mark.parametrize("features", [2, 40])
def test_equal_points_cost_nothing_and_have_finite_gradients(features):
    (p, _) = sets(p=6, q=6, features=features, dtype="float32")
    cost = transport.cost_matrix(*tensor(p, p)).numpy()
    assert np.diag(cost).max() < 1e-3  # 1e-6 pair by pair; the square root of the dtype's resolution by products
    _, found = gradients(lambda p, q: tf.reduce_sum(mapped(p, q) ** 2), p, p)
    assert all(np.isfinite(gradient).all() for gradient in found)
    same = np.ones_like(p)
    assert np.ptp(transport.cost_matrix(*tensor(same, same)).numpy()) == 0
    value, found = gradients(lambda p, q: tf.reduce_sum(mapped(p, q)), same, same)
    assert np.isfinite(value) and all(np.isfinite(gradient).all() for gradient in found)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("epsilon", [LOG, SCALINGS, 1.0])
def test_marginals(epsilon, seed, dtype):
    p, q = sets(seed, dtype=dtype, batch=(2,))
    found = plan(transport.cost_matrix(*tensor(p, q)), epsilon, 300)
    tolerance = {"float32": 2e-6, "float64": 1e-12}[dtype]
    np.testing.assert_allclose(found.sum(axis=2), 1 / 7, rtol=tolerance)
    np.testing.assert_allclose(found.sum(axis=1), 1 / 5, rtol=max(tolerance, 1e-5))  # as far as it has converged
    assert (found >= 0).all()
    # After the default 20 iterations the rows are exact already.
    np.testing.assert_allclose(plan(transport.cost_matrix(*tensor(p, q)), epsilon).sum(axis=2), 1 / 7, rtol=tolerance)


@pytest.mark.parametrize("epsilon", [LOG, SCALINGS])
@pytest.mark.parametrize("constant", [0.0, 0.3, 1.0])
def test_constant_cost_gives_the_uniform_plan(constant, epsilon):
    cost = np.full((4, 6), constant)
    np.testing.assert_allclose(plan(cost, epsilon), np.full((4, 6), 1 / 24), rtol=1e-12)
    weights = np.random.default_rng(0).normal(size=(4, 6))
    _, (found,) = gradients(lambda cost: tf.reduce_sum(sinkhorn(cost, epsilon, 20) * weights), cost)
    # Around the uniform plan a cost moves mass by -(1 / epsilon) / (N M) of its doubly centred part.
    centred = weights - weights.mean(axis=0) - weights.mean(axis=1, keepdims=True) + weights.mean()
    np.testing.assert_allclose(found, -centred / 24 / epsilon, atol=1e-10)


def test_small_epsilon_finds_the_permutation_and_a_large_one_forgets_the_cost():
    rng = np.random.default_rng(1)
    p = rng.normal(size=(8, 3))
    order = rng.permutation(8)
    cost = transport.cost_matrix(*tensor(p, p[order])).numpy()
    np.testing.assert_allclose(plan(cost, 0.002, 300), np.eye(8)[:, order] / 8, atol=1e-6)
    np.testing.assert_allclose(plan(cost, 1e4), np.full((8, 8), 1 / 64), rtol=1e-3)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("epsilon", [0.04, 0.1, 1.0])
def test_both_methods_are_the_same_iteration(epsilon, masked, dtype):
    """A cost and an epsilon that are both smaller by one factor have the same plan, which logarithms then find."""
    p, q = sets(dtype=dtype, batch=(3,), p=9, q=11)
    mask = np.arange(11) < np.array([[11], [4], [1]])

    def total(p, q, factor):
        cost = transport.cost_matrix(p, q, None, tf.constant(mask) if masked else None)
        weights = transport.uniform_weights(tf.constant(mask), cost.dtype) if masked else None
        log_plan = transport.sinkhorn_log_plan(factor * cost, factor * epsilon, 20, None, weights)
        return tf.reduce_sum(transport.barycentric_map(log_plan, q) * np.linspace(-1, 1, 3))

    by_scalings, by_logarithms = (
        gradients(lambda p, q, factor=factor: total(p, q, factor), p, q) for factor in (1.0, LOG / epsilon)
    )
    tolerance = {"float32": 2e-5, "float64": 1e-11}[dtype]
    np.testing.assert_allclose(by_scalings[0], by_logarithms[0], rtol=tolerance)
    for a, b in zip(by_scalings[1], by_logarithms[1], strict=True):
        np.testing.assert_allclose(a, b, atol=tolerance)


@pytest.mark.parametrize("epsilon", [LOG, SCALINGS])
def test_numbers_of_points_that_a_graph_does_not_know(epsilon):
    """As the clips of a batch are, whose number is unknown while a network is traced."""

    def total(p, q):
        cost = transport.cost_matrix(p, q)
        return tf.reduce_sum(transport.barycentric_map(transport.sinkhorn_log_plan(cost, epsilon, 20), q) ** 2)

    def slopes(p, q):
        return tf.gradients(total(p, q), [p, q])

    p, q = tensor(*sets(batch=(1,), p=5, q=7))
    unknown = [tf.TensorSpec([None, None, p.shape[-1]], p.dtype)] * 2
    expected = gradients(total, p, q)[1]
    for found, slope in zip(tf.function(slopes, input_signature=unknown)(p, q), expected, strict=True):
        np.testing.assert_allclose(found, slope, rtol=1e-6)


def test_the_worst_cost_for_scalings_in_float32():
    """Costs of 0 and 1 only, at the smallest epsilon for which logarithms are not used."""
    rng = np.random.default_rng(0)
    cost = (rng.random((40, 30)) < 0.9).astype("float32")
    cost[:, 0] = 1.0
    cost[0] = 1.0
    cost[0, 0] = 0.0
    found = plan(cost, 0.04, 200)
    np.testing.assert_allclose(found, plan(cost.astype("float64"), 0.04, 200), atol=1e-7)
    _, (gradient,) = gradients(lambda cost: tf.reduce_sum(sinkhorn(cost, 0.04, 200) ** 2), cost)
    assert np.isfinite(gradient).all()


@pytest.mark.slow
@pytest.mark.parametrize("epsilon", [LOG, SCALINGS])
@pytest.mark.parametrize("features", [3, 20])
@pytest.mark.parametrize("dtype", DTYPES)
def test_masked_is_unmasked(features, epsilon, dtype):
    """Values and gradients of masked sets are those of the sets without the masked points; theirs are zero."""
    p, q = sets(p=6, q=5, features=features, dtype=dtype)
    large_p = np.insert(p, [1, 4, 6], 50.0, axis=0)
    large_q = np.insert(q, [0, 2], -70.0, axis=0)
    p_mask, q_mask = tensor(large_p[:, 0] != 50.0, large_q[:, 0] != -70.0)
    weights = np.random.default_rng(0).normal(size=p.shape)

    def small(p, q):
        return tf.reduce_sum(mapped(p, q, epsilon) * weights)

    def large(p, q):
        found = mapped(p, q, epsilon, p_mask=p_mask, q_mask=q_mask)
        return tf.reduce_sum(tf.boolean_mask(found, p_mask) * weights)

    expected, gradients_small = gradients(small, p, q)
    found, gradients_large = gradients(large, large_p, large_q)
    tolerance = {"float32": 1e-4, "float64": 1e-10}[dtype]
    np.testing.assert_allclose(found, expected, rtol=tolerance)
    for one, other, mask in zip(gradients_large, gradients_small, (p_mask, q_mask), strict=True):
        np.testing.assert_allclose(one[mask.numpy()], other, atol=tolerance)
        assert not one[~mask.numpy()].any()


@pytest.mark.parametrize("epsilon", [LOG, SCALINGS])
def test_nothing_left_after_masking_is_finite(epsilon):
    p, q = sets(dtype="float32")

    def total(p, q):
        found = [mapped(p, q, epsilon, q_mask=tf.zeros(5)), mapped(p, q, epsilon, p_mask=tf.zeros(7))]
        return tf.reduce_sum(found[0]) + tf.reduce_sum(found[1])

    value, found = gradients(total, p, q)
    assert np.isfinite(value) and all(np.isfinite(gradient).all() for gradient in found)
    assert not plan(transport.cost_matrix(*tensor(p, q)), epsilon, b=tf.zeros(5)).any()


@pytest.mark.parametrize("epsilon", [LOG, SCALINGS])
def test_permutation_equivariance(epsilon):
    p, q = sets()
    rng = np.random.default_rng(0)
    one, other = rng.permutation(7), rng.permutation(5)
    expected = mapped(*tensor(p, q), epsilon).numpy()
    np.testing.assert_allclose(mapped(*tensor(p[one], q[other]), epsilon).numpy(), expected[one], atol=1e-12)


def test_mapped_points_lie_among_those_they_are_sent_to():
    p, q = sets(features=1)
    found = mapped(*tensor(100 * p, q)).numpy()
    assert q.min() < found.min() and found.max() < q.max()
    np.testing.assert_allclose(mapped(*tensor(p, q[:1])).numpy(), np.repeat(q[:1], 7, axis=0))


def test_a_row_too_small_for_the_dtype_is_still_a_mean():
    log_plan = tf.constant([[-300.0, -301.0], [-1.0, -2.0], [-1e13, -1e13]])
    found = transport.barycentric_map(log_plan, tf.constant([[1.0], [2.0]])).numpy()
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5)
    assert found[2] == 1.5


@pytest.mark.parametrize("epsilon", [LOG, SCALINGS])
@pytest.mark.parametrize("features", [2, 20])
def test_gradients_against_finite_differences(features, epsilon):
    p, q = sets(p=4, q=3, features=features)
    weights = np.random.default_rng(5).normal(size=p.shape)

    def total(p, q):
        return tf.reduce_sum(mapped(p, q, epsilon) * weights)

    _, found = gradients(total, p, q)
    step = 1e-6
    for number, gradient in enumerate(found):
        rng = np.random.default_rng(number)
        directions = [rng.normal(size=gradient.shape) for _ in range(3)]
        directions.append(np.eye(gradient.size)[0].reshape(gradient.shape))
        for direction in directions:
            ends = []
            for sign in (1, -1):
                moved = [p, q]
                moved[number] = moved[number] + sign * step * direction
                ends.append(total(*tensor(*moved)).numpy())
            slope = (ends[0] - ends[1]) / (2 * step)
            assert abs(slope - (gradient * direction).sum()) < 1e-6 * (1 + abs(slope))


# Made with POT 0.9.7 in float64 and uniform a and b:
# ot.bregman.sinkhorn_log(a, b, COST, epsilon, numItermax=20, stopThr=0).
COST = np.array([[0.0, 0.35, 1.0], [0.5, 0.1, 0.7], [0.9, 0.6, 0.2], [0.25, 0.8, 0.45]])
POT = {
    0.1: [
        [0.18461182571871218, 0.06534868017165879, 3.94941096290599e-05],
        [0.0003896226488547564, 0.2493619079805326, 0.0002484693706126017],
        [4.6262640904034005e-05, 0.010892356739504061, 0.2390613806195919],
        [0.14831304483710764, 0.007105059031766557, 0.09458189613112584],
    ],
    0.02: [
        [0.2480016652045141, 0.0019983347954859246, 1.0467725997667127e-18],
        [1.6057697922988642e-15, 0.24999999999999684, 1.595365914622277e-15],
        [7.202964670179701e-21, 7.556063518057873e-09, 0.24999999244393653],
        [0.1254062342749344, 4.5876255362883736e-08, 0.12459371984881025],
    ],
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("epsilon", POT)
def test_frozen_values_of_pot(epsilon, dtype):
    atol = {"float32": 1e-6, "float64": 1e-14}[dtype]
    np.testing.assert_allclose(plan(COST.astype(dtype), epsilon), POT[epsilon], rtol=0, atol=atol)


def test_pot_live(monkeypatch):
    for library in ("TENSORFLOW", "JAX", "PYTORCH", "CUPY"):  # POT imports each of them unless told otherwise
        monkeypatch.setitem(os.environ, f"POT_BACKEND_DISABLE_{library}", "1")
    ot = pytest.importorskip("ot")
    for seed in range(3):
        p, q = sets(seed, p=9, q=6)
        cost = ot.dist(p, q, metric="euclidean")
        cost /= cost.max()
        rng = np.random.default_rng(seed)
        weights = rng.dirichlet(np.ones(9)), rng.dirichlet(np.ones(6))
        for epsilon in (0.01, 0.1):
            for a, b in ((np.full(9, 1 / 9), np.full(6, 1 / 6)), weights):
                expected = ot.bregman.sinkhorn_log(a, b, cost, epsilon, numItermax=50, stopThr=0, warn=False)
                found = plan(transport.cost_matrix(*tensor(p, q)), epsilon, 50, *tensor(a, b))
                np.testing.assert_allclose(found, expected, atol=1e-10)
            uniform = plan(transport.cost_matrix(*tensor(p, q)), epsilon, 50)
            np.testing.assert_allclose(uniform, plan(cost, epsilon, 50, *tensor(np.full(9, 1 / 9), np.full(6, 1 / 6))))
