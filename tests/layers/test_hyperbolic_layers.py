"""The layers of HYFuse together: what the chain does to two inputs, and what the literal kappa loses."""

import numpy as np
import pytest

from serfuse.experiment import backend

backend.set_up_backend()
import keras  # noqa: E402 - the backend is chosen above

from serfuse.layers import ClipNorm, ExpMap0, GyroMidpoint, LogMap0, MobiusAdd  # noqa: E402


def vectors(norm, seed=0, count=6, size=40):
    x = np.random.default_rng(seed).normal(size=(count, size))
    return (norm * x / np.linalg.norm(x, axis=1, keepdims=True)).astype("float32")


def array(x):
    return keras.ops.convert_to_numpy(x)


def fused(x, y, kappa=1.0):
    exp = ExpMap0(kappa)
    return array(LogMap0(1.0)(MobiusAdd()([exp(x), exp(y)])))


@pytest.mark.parametrize("kappa", [0.1, 0.5, 1.0])
def test_exp_then_log(kappa):
    x = vectors(2.0)
    np.testing.assert_allclose(array(LogMap0()(ExpMap0(kappa)(x))), 2 * kappa * x, rtol=1e-4)
    np.testing.assert_allclose(array(LogMap0(1 / kappa)(ExpMap0(kappa)(x))), x, rtol=1e-4)


def test_small_vectors_simply_add():
    x, y = vectors(1e-3, 0), vectors(1e-3, 1)
    np.testing.assert_allclose(fused(x, y), x + y, rtol=1e-4, atol=1e-9)


def test_the_literal_kappa_all_but_ignores_the_second_input_and_both_others_do_not():
    """Features of norm 10: at kappa 1 the second input hardly moves the result, at kappa 0.1 it does."""
    x, y, other = vectors(10.0, 0), vectors(10.0, 1), vectors(10.0, 2)

    def moved(function):
        one, two = function(x, y), function(x, other)
        return np.linalg.norm(one - two) / np.linalg.norm(one)

    def midpoint(x, y):
        exp = ExpMap0(0.1)
        return array(LogMap0(1.0)(GyroMidpoint()([exp(x), exp(y)])))

    assert moved(fused) < 0.01
    assert moved(lambda x, y: fused(x, y, 0.1)) > 0.3
    assert moved(midpoint) > 0.7
    symmetric = moved(lambda x, y: fused(x, y, 0.1) + fused(y, x, 0.1))
    assert symmetric > 0.7


def test_three_points_are_added_from_left_to_right_and_have_one_middle():
    x, y, z = (ExpMap0()(vectors(1.0, seed)) for seed in range(3))
    two = MobiusAdd()
    np.testing.assert_array_equal(array(MobiusAdd()([x, y, z])), array(two([two([x, y]), z])))
    assert np.abs(array(MobiusAdd()([x, y, z])) - array(two([x, two([y, z])]))).max() > 0.01, "brackets matter"
    middle = array(GyroMidpoint()([x, y, z]))
    np.testing.assert_allclose(array(GyroMidpoint()([z, x, y])), middle, atol=1e-7)
    np.testing.assert_allclose(array(GyroMidpoint([2, 2, 2])([x, y, z])), middle, atol=1e-7)
    np.testing.assert_allclose(array(GyroMidpoint("learned")([x, y, z])), middle, atol=1e-7)
    near_z = array(GyroMidpoint([1, 1, 50])([x, y, z]))
    assert np.linalg.norm(near_z - array(z)) < 0.2 * np.linalg.norm(middle - array(z))


def test_learned_weights_are_trained():
    x, y, z = (array(ExpMap0()(vectors(1.0, seed))) for seed in range(3))
    given = [keras.Input((40,)) for _ in range(3)]
    network = keras.Model(given, GyroMidpoint("learned", name="middle")(given))
    network.compile(keras.optimizers.Adam(0.1), "mse", run_eagerly=True)
    network.fit([x, y, z], y, epochs=5, verbose=0)
    (logits,) = network.get_layer("middle").get_weights()
    assert logits.argmax() == 1 and logits[1] > 0.1


def test_the_order_matters_to_the_sum_and_not_to_the_midpoint():
    x, y = ExpMap0()(vectors(1.0, 0)), ExpMap0()(vectors(1.0, 1))
    there, back = array(MobiusAdd()([x, y])), array(MobiusAdd()([y, x]))
    assert np.abs(there - back).max() > 0.05
    np.testing.assert_allclose(np.linalg.norm(there, axis=1), np.linalg.norm(back, axis=1), rtol=1e-5)
    np.testing.assert_allclose(array(GyroMidpoint()([x, y])), array(GyroMidpoint()([y, x])), atol=1e-7)


def test_a_chain_that_remembers_gives_what_one_that_forgets_gives():
    """Lengths behind the first map follow from its own; a copy of a tensor remembers nothing and is measured."""
    import tensorflow as tf

    x, y = vectors(3.0, 0), vectors(20.0, 1)
    steps = (ClipNorm(8.0), ExpMap0(0.2), MobiusAdd(), LogMap0(1.5))

    def chain(between):
        with tf.GradientTape() as tape:
            given = [tf.constant(x), tf.constant(y)]
            tape.watch(given)
            clip, exp, add, log = steps
            points = [between(exp(between(clip(one)))) for one in given]
            found = log(between(add(points)))
            loss = tf.reduce_sum(found * tf.constant(vectors(1.0, 2)))
        return found, *tape.gradient(loss, given)

    for one, other in zip(chain(lambda tensor: tensor), chain(tf.identity), strict=True):
        np.testing.assert_allclose(array(one), array(other), rtol=2e-4, atol=2e-5)


def test_a_chain_reads_long_vectors_a_few_times():
    """Counted in the graph of values and gradients; measured at every step there were more than a hundred."""
    import tensorflow as tf

    steps = (ClipNorm(8.0), ExpMap0(0.2), MobiusAdd(), LogMap0(1.5))

    @tf.function(input_signature=[tf.TensorSpec([6, 40])] * 2)
    def both(x, y):
        clip, exp, add, log = steps
        with tf.GradientTape() as tape:
            tape.watch([x, y])
            loss = tf.reduce_sum(log(add([exp(clip(x)), exp(clip(y))])))
        return tape.gradient(loss, [x, y])

    graph = both.get_concrete_function().graph
    needed, waiting = set(), [tensor.op for tensor in graph.outputs]
    while waiting:
        operation = waiting.pop()
        if operation.name not in needed:
            needed.add(operation.name)
            waiting += [tensor.op for tensor in operation.inputs]
    long = [o for o in graph.get_operations() if o.name in needed and o.outputs and o.outputs[0].shape == (6, 40)]
    assert len(long) < 50
