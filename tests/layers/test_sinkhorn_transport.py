"""The transport layers: what each of them computes under each map, masks, and who depends on whom."""

import numpy as np
import pytest

from serfuse.experiment import backend

backend.set_up_backend()
import keras  # noqa: E402 - the backend is chosen above

from serfuse.layers import FeatureTransport, ReferenceTransport, SinkhornTransport  # noqa: E402
from serfuse.ops import transport  # noqa: E402


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def arrays(outputs):
    return [keras.ops.convert_to_numpy(x) for x in outputs]


def plan_by_hand(p, q, epsilon, iterations):
    """The textbook iteration in float64, `(N, D), (M, D) -> (N, M)`."""
    distance = np.linalg.norm(p[:, None].astype("float64") - q[None], axis=-1)
    kernel = np.exp(-distance / distance.max() / epsilon)
    u = np.ones(len(p))
    for _ in range(iterations):
        v = 1 / len(q) / (kernel.T @ u)
        u = 1 / len(p) / (kernel @ v)
    return u[:, None] * kernel * v


@pytest.mark.parametrize("epsilon", [0.02, 0.1])
def test_both_maps_of_point_sets(epsilon):
    p, q = normal(2, 6, 4), normal(2, 6, 4, seed=1)
    barycentric = arrays(SinkhornTransport(epsilon, 15)([p, q]))
    literal = arrays(SinkhornTransport(epsilon, 15, map="literal")([p, q]))
    for clip in range(2):
        plan = plan_by_hand(p[clip], q[clip], epsilon, 15)
        assert abs(plan.sum() - 1) < 1e-12
        distance = np.linalg.norm(p[clip, :, None] - q[clip, None], axis=-1)
        for _, _, found_plan, found_cost in (barycentric, literal):
            np.testing.assert_allclose(found_plan[clip], plan, atol=5e-6)
            np.testing.assert_allclose(found_cost[clip], (plan * distance).sum() / distance.max(), atol=1e-5)
        for found, expected in (
            (barycentric[0][clip], plan / plan.sum(1, keepdims=True) @ q[clip]),
            (barycentric[1][clip], plan.T / plan.T.sum(1, keepdims=True) @ p[clip]),
            (literal[0][clip], plan @ p[clip]),  # as printed: Gamma R_p and Gamma^T R_q
            (literal[1][clip], plan.T @ q[clip]),
        ):
            np.testing.assert_allclose(found, expected, atol=2e-5)


def test_sets_of_different_sizes():
    p, q = normal(2, 7, 4), normal(2, 3, 4, seed=1)
    p_to_q, q_to_p, *_ = arrays(SinkhornTransport()([p, q]))
    plan = plan_by_hand(p[0], q[0], 0.1, 20)
    np.testing.assert_allclose(p_to_q[0], 7 * plan @ q[0], atol=2e-5)
    np.testing.assert_allclose(q_to_p[0], plan.T / plan.T.sum(1, keepdims=True) @ p[0], atol=2e-5)


def test_the_clips_of_a_batch_as_points():
    p, q = normal(6, 4), normal(6, 4, seed=1)
    found = arrays(SinkhornTransport()([p, q]))
    expected = arrays(SinkhornTransport()([p[None], q[None]]))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other[0])


def test_the_features_of_a_clip_as_points():
    p, q = normal(3, 6), normal(3, 5, seed=1)
    found = arrays(FeatureTransport()([p, q]))
    for clip in range(3):
        plan = plan_by_hand(p[clip, :, None], q[clip, :, None], 0.1, 20)
        np.testing.assert_allclose(found[0][clip], 6 * plan @ q[clip], atol=2e-5)
        np.testing.assert_allclose(found[1][clip], plan.T / plan.T.sum(1, keepdims=True) @ p[clip], atol=2e-5)


@pytest.mark.parametrize("kind", ["barycentric", "literal"])
@pytest.mark.parametrize("epsilon", [0.02, 0.1])
def test_a_reference_itself_is_mapped_as_in_its_set(epsilon, kind):
    """Out-of-sample mapping by the dual potential agrees with the plan on the points it was solved for."""
    p, q = normal(6, 4), normal(6, 4, seed=1)
    # As many iterations as it takes: the columns of the plan are uniform only then
    arguments = {"epsilon": epsilon, "iterations": 400, "map": kind}
    inside = arrays(SinkhornTransport(**arguments)([p, q]))
    found = arrays(ReferenceTransport(**arguments)([p, q, p, q]))
    for one, other in zip(found, inside, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_the_cost_scale_is_that_of_the_references():
    """A far clip does not change the map of a near one, and is itself sent among the references."""
    p, q, set_p, set_q = normal(2, 4), normal(2, 4, seed=1), normal(8, 4, seed=2), normal(8, 4, seed=3)
    layer = ReferenceTransport()
    near = arrays(layer([p, q, set_p, set_q]))
    p[1] *= 1e12
    far = arrays(layer([p, q, set_p, set_q]))
    np.testing.assert_array_equal(near[0][0], far[0][0])
    assert set_q.min() <= far[0][1].min() and far[0][1].max() <= set_q.max()


def batches_of(kind, count=9):
    if kind is SinkhornTransport:
        return [normal(count, 5, 4), normal(count, 6, 4, seed=1)], []
    if kind is FeatureTransport:
        return [normal(count, 7), normal(count, 7, seed=1)], []
    return [normal(count, 7), normal(count, 7, seed=1)], [normal(8, 7, seed=2), normal(9, 7, seed=3)]


@pytest.mark.parametrize("epsilon", [0.02, 0.1])
@pytest.mark.parametrize("kind", [SinkhornTransport, FeatureTransport, ReferenceTransport])
def test_alone_is_as_in_any_batch(kind, epsilon):
    layer = kind(epsilon)
    clips, references = batches_of(kind)
    together = layer([*clips, *references])
    for rows in ([0], [4], [4, 0, 8]):
        found = layer([x[rows] for x in clips] + references)
        for one, other in zip(arrays(found[:2]), arrays(together[:2]), strict=True):
            np.testing.assert_allclose(one, other[rows], atol=2e-6)
        for one, other in zip(arrays(found[2:]), arrays(together[2:]), strict=True):  # the plan and its cost
            np.testing.assert_allclose(one, other if kind is ReferenceTransport else other[rows], atol=2e-6)


def test_in_the_literal_reading_the_batch_decides():
    layer = SinkhornTransport()
    p, q = normal(32, 10), normal(32, 10, seed=1)
    together, *_ = arrays(layer([p, q]))
    others = [np.concatenate([x[:1], normal(31, 10, seed=seed)]) for x, seed in ((p, 5), (q, 6))]
    swapped, *_ = arrays(layer(others))
    assert np.linalg.norm(swapped[0] - together[0]) > 0.5 * np.linalg.norm(together[0])
    alone, *_ = arrays(layer([p[:1], q[:1]]))
    np.testing.assert_allclose(alone, q[:1], rtol=1e-5)  # a lone clip is sent to its own other representation


MASKED = {
    SinkhornTransport: [(2, 5, 4), (2, 6, 4)],
    FeatureTransport: [(2, 5), (2, 6)],
}


@pytest.mark.slow
@pytest.mark.parametrize("epsilon", [0.02, 0.1])
@pytest.mark.parametrize("kind", MASKED)
def test_masked_is_unmasked_whatever_the_masked_points_hold(kind, epsilon):
    masks = [np.array([[1, 1, 0, 1, 0]] * 2, bool), np.array([[1, 0, 1, 1, 1, 0]] * 2, bool)]
    clips = [normal(*shape, seed=seed) for seed, shape in enumerate(MASKED[kind])]
    layer = kind(epsilon)
    kept = [np.flatnonzero(mask[0]) for mask in masks]
    expected = arrays(layer([np.take(x, rows, 1) for x, rows in zip(clips, kept, strict=True)]))
    for value in (0.0, 1e9, np.nan):
        for x, mask in zip(clips, masks, strict=True):
            x[~mask] = value
        *sent, plan, cost = arrays(layer(clips, mask=masks))
        for one, other, mask, rows in zip(sent, expected[:2], masks, kept, strict=True):
            np.testing.assert_allclose(np.take(one, rows, 1), other, atol=1e-5)
            assert not one[~mask].any()
        np.testing.assert_allclose(plan[:, kept[0]][:, :, kept[1]], expected[2], atol=1e-6)
        np.testing.assert_allclose(plan.sum(axis=(1, 2)), 1, rtol=1e-5)  # nothing for the masked ones
        np.testing.assert_allclose(cost, expected[3], rtol=1e-5)
    found = layer.compute_mask(clips, masks)
    assert found.p_to_q is masks[0] and found.q_to_p is masks[1] and found.plan is found.cost is None


def test_masked_clips_of_a_batch_and_masked_references():
    p, q = normal(5, 4), normal(5, 4, seed=1)
    alone = np.array([False, False, True, False, False])
    keep = np.array([True, True, False, True, False])
    expected = arrays(SinkhornTransport()([p[keep], q[keep]]))
    found = arrays(SinkhornTransport()([p, q], mask=[keep, keep]))
    for one, other in zip(found[:2], expected[:2], strict=True):
        np.testing.assert_allclose(one[keep], other, atol=1e-5)
    for epsilon in (0.02, 0.1):
        for kind in ("barycentric", "literal"):
            layer = ReferenceTransport(epsilon, map=kind)
            clips = [normal(3, 4, seed=7), normal(3, 4, seed=8)]
            for kept in (keep, alone):
                expected = arrays(layer([*clips, p[kept], q[kept]]))
                found = arrays(layer([*clips, p, q], mask=[None, None, kept, kept]))
                for one, other in zip(found[:2], expected[:2], strict=True):
                    np.testing.assert_allclose(one, other, atol=1e-5)
                np.testing.assert_allclose(found[2][kept][:, kept], expected[2], atol=1e-6)
                np.testing.assert_allclose(found[3], expected[3], atol=1e-6)


def test_masks_of_keras_layers_arrive():
    p, q = normal(2, 5, 4), normal(2, 6, 4, seed=1)
    p[:, 3:], q[:, :2] = 0.0, 0.0
    given = [keras.Input((None, 4)), keras.Input((None, 4))]
    masked = [keras.layers.Masking()(x) for x in given]
    network = keras.Model(given, SinkhornTransport()(masked)._asdict())
    expected = SinkhornTransport()([p[:, :3], q[:, 2:]])
    found = network([p, q])
    np.testing.assert_allclose(found["p_to_q"][:, :3], expected.p_to_q, atol=1e-5)
    np.testing.assert_allclose(found["q_to_p"][:, 2:], expected.q_to_p, atol=1e-5)
    np.testing.assert_allclose(found["plan"][:, :3, 2:], expected.plan, atol=1e-6)


def test_a_clip_without_points_is_zero():
    p, q = normal(2, 3, 4), normal(2, 3, 4, seed=1)
    nothing = np.array([[True] * 3, [False] * 3])
    for epsilon in (0.02, 0.1):
        for kind in ("barycentric", "literal"):
            found = arrays(SinkhornTransport(epsilon, map=kind)([p, q], mask=[nothing, nothing]))
            assert all(np.isfinite(x).all() and not x[1].any() and x[0].any() for x in found)


def test_permutation_equivariance():
    p, q = normal(1, 6, 4), normal(1, 5, 4, seed=1)
    one, other = np.random.default_rng(0).permutation(6), np.random.default_rng(1).permutation(5)
    layer = SinkhornTransport()
    expected = arrays(layer([p, q]))
    found = arrays(layer([p[:, one], q[:, other]]))
    np.testing.assert_allclose(found[0], expected[0][:, one], atol=1e-6)
    np.testing.assert_allclose(found[1], expected[1][:, other], atol=1e-6)


# POT 0.9.7 in float64, with M = ot.dist(p, q, metric="euclidean") / its largest entry and a, b uniform:
# 3 * ot.bregman.sinkhorn_log(a, b, M, 0.1, numItermax=20, stopThr=0) @ q
POT = [
    [1.0062145655342656, -0.006214565534265748],
    [1.3139607895473575, -0.31396078954735773],
    [0.17982445792565643, 0.8201755420743438],
]


def test_frozen_values_of_pot():
    p = np.array([[0.0, 0.0], [1.0, 0.5], [-1.0, 2.0]])
    q = np.array([[0.5, 0.5], [2.0, -1.0], [0.0, 1.0]])
    found = arrays(SinkhornTransport()([p[None].astype("float32"), q[None].astype("float32")]))
    np.testing.assert_allclose(found[0][0], POT, atol=2e-6)
    cost = transport.cost_matrix(*(keras.ops.convert_to_tensor(x) for x in (p, q)))
    assert keras.ops.convert_to_numpy(cost).max() == 1.0
