"""What test_backends.py runs once per Keras backend, in processes of their own.

    backend_worker.py FOLDER BACKEND [OTHER BACKEND ...]

Each process checks the layers on its backend and saves models with their predictions to FOLDER; when all have saved,
each loads the files of the others. Outcomes go to FOLDER/BACKEND.json, `{check: "" or what went wrong}`.
"""

import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SECONDS = 900  # to wait for the other processes at most

FOLDER, BACKEND, OTHERS = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
os.environ["KERAS_BACKEND"] = BACKEND
os.environ["CUDA_VISIBLE_DEVICES"] = ""
# Programs that run once: most of the time would go into making them fast.
os.environ["XLA_FLAGS"] = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
if BACKEND == "torch":
    import torch

    torch.set_num_threads(1)

from serfuse.experiment import backend  # noqa: E402

backend.set_up_backend()
import keras  # noqa: E402
from keras import ops  # noqa: E402
from keras.src.testing import TestCase  # noqa: E402

from serfuse import models  # noqa: E402
from serfuse.layers import (  # noqa: E402
    ClipNorm,
    ExpMap0,
    FeatureTransport,
    GyroMidpoint,
    Hadamard,
    LogMap0,
    LogPool,
    MemberDense,
    MobiusAdd,
    ReferenceSet,
    ReferenceTransport,
    SinkhornTransport,
)
from serfuse.layers.transport_layer import Transport  # noqa: E402
from serfuse.ops import poincare, transport  # noqa: E402

keras.config.disable_traceback_filtering()

PAIR = ((2, 5), (2, 5))  # tuples: TensorFlow cannot make a data set of lists of arrays
LAYER_CASES = {
    "ClipNorm": (ClipNorm, {"max_norm": 0.5}, (2, 5), (2, 5)),
    "ExpMap0": (ExpMap0, {"kappa": 0.5}, (2, 5), (2, 5)),
    "ExpMap0 of a sequence": (ExpMap0, {}, (2, 3, 5), (2, 3, 5)),
    "LogMap0": (LogMap0, {"scale": 3.0}, (2, 5), (2, 5)),
    "MobiusAdd": (MobiusAdd, {}, PAIR, (2, 5)),
    "GyroMidpoint": (GyroMidpoint, {}, PAIR, (2, 5)),
    "Hadamard": (Hadamard, {}, PAIR, (2, 5)),
    "LogPool": (LogPool, {}, (2, 3, 4), (2, 4)),
    "MemberDense": (MemberDense, {"units": 5, "activation": "relu"}, (2, 3, 4), (2, 3, 5)),
    "ReferenceSet": (ReferenceSet, {"shape": (3, 5)}, (2, 4), (3, 5)),
    "SinkhornTransport": (
        SinkhornTransport,
        {"iterations": 2},
        ((2, 4, 3), (2, 5, 3)),
        Transport((2, 4, 3), (2, 5, 3), (2, 4, 5), (2,)),
    ),
    "SinkhornTransport, literal": (
        SinkhornTransport,
        {"iterations": 2, "epsilon": 0.01, "map": "literal"},
        ((2, 4, 3), (2, 4, 3)),
        Transport((2, 4, 3), (2, 4, 3), (2, 4, 4), (2,)),
    ),
    "SinkhornTransport of a batch": (
        SinkhornTransport,
        {"iterations": 2},
        PAIR,
        Transport((2, 5), (2, 5), (2, 2), ()),
    ),
    "FeatureTransport": (
        FeatureTransport,
        {"iterations": 2},
        ((2, 5), (2, 4)),
        Transport((2, 5), (2, 4), (2, 5, 4), (2,)),
    ),
    # References as many as clips: Keras' test batches all inputs alike.
    "ReferenceTransport": (
        ReferenceTransport,
        {"iterations": 2},
        ((2, 5),) * 4,
        Transport((2, 5), (2, 5), (2, 2), ()),
    ),
}
MODEL_CASES = {
    "hyfuse": ("hyfuse", {}),
    "hyfuse-literal": ("hyfuse", {"kappa": 1.0, "log_scale": "inverse", "align": "project"}),
    "hyfuse-symmetric": ("hyfuse-symmetric", {}),
    "hyfuse-midpoint": ("hyfuse-symmetric", {"form": "midpoint"}),
    "parrot-features": ("parrot", {"points": "features", "iterations": 3}),
    "parrot-reference": ("parrot", {"points": "reference", "references": 8, "iterations": 3}),
    "experts": ("experts", {"operator": "hyperbolic", "hidden": 8, "members": 2}),
    "parrot-batch": ("parrot", {"points": "batch", "map": "literal", "epsilon": 0.02, "iterations": 3}),
}


def clips() -> dict[str, np.ndarray]:
    """Two representations of different lengths, the same in every process."""
    rng = np.random.default_rng(0)
    return {"a": rng.normal(size=(12, 20)).astype("float32"), "b": rng.normal(size=(12, 26)).astype("float32")}


class LayerTest(TestCase):
    """Keras' own test of a layer: shapes, dtypes, serialization, a training step, mixed precision."""

    def runTest(self) -> None:
        """Only here because unittest wants one."""


def layer_case(name: str) -> None:
    layer, arguments, shapes, expected = LAYER_CASES[name]
    LayerTest().run_layer_test(
        layer,
        init_kwargs=arguments,
        input_shape=shapes,
        expected_output_shape=expected,
        expected_num_trainable_weights=2 if layer is MemberDense else 0,
        expected_num_non_trainable_weights=1 if layer is ReferenceSet else 0,
        supports_masking=layer not in (ReferenceSet, LogPool, MemberDense),
        # which needs a batch axis in every output; the gradients are those of `GRADIENT_CASES`
        run_training_check=getattr(expected, "cost", True) != (),
    )


def gradients(function: Callable, arrays: list[np.ndarray]) -> tuple[float, list[np.ndarray]]:
    """Value and gradients of a scalar function on this backend; of JAX one that `differentiated` gave."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        tensors = [tf.constant(array) for array in arrays]
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            value = function(*tensors)
        return float(value), [found.numpy() for found in tape.gradient(value, tensors)]
    if BACKEND == "torch":
        tensors = [torch.tensor(array, requires_grad=True) for array in arrays]
        value = function(*tensors)
        value.backward()
        return float(value.detach()), [tensor.grad.numpy() for tensor in tensors]
    value, found = function(*arrays)
    return float(value), [np.asarray(gradient) for gradient in found]


def differentiated(function: Callable, count: int) -> Callable:
    """What `gradients` takes; under JAX a program, which is made once for all sizes of its `count` arrays."""
    if BACKEND != "jax":
        return function
    import jax

    return jax.jit(jax.value_and_grad(function, argnums=tuple(range(count))))


def hyperbolic(u: object, v: object) -> object:
    """The chain of HYFuse, both orders, and the midpoint."""
    x, y = poincare.expmap0(u, 0.7), poincare.expmap0(v, 0.9)
    total = poincare.logmap0(poincare.mobius_add(x, y)) + poincare.logmap0(poincare.mobius_add(y, x), 1.3)
    total = total + poincare.logmap0(poincare.gyromidpoint(x, y)) + poincare.clip_norm(u, 0.5)
    return ops.sum(total**2) / (1.0 + ops.sum(ops.stop_gradient(total) ** 2))


def transported(epsilon: float) -> Callable:
    """Both directions of a transport, as a function of the two sets."""

    def total(p: object, q: object) -> object:
        log_plan = transport.sinkhorn_log_plan(transport.cost_matrix(p, q), epsilon, 3)
        there = transport.barycentric_map(log_plan, q)
        back = transport.barycentric_map(ops.swapaxes(log_plan, -1, -2), p)
        return ops.sum(there**2) + ops.sum(back * q)

    return total


GRADIENT_CASES = {
    "chain": (hyperbolic, 1e25, (6, 5), (6, 5)),
    "transport by scalings": (transported(0.1), 1e15, (6, 3), (5, 3)),
    "transport by logarithms": (transported(0.02), 1e15, (6, 24), (5, 24)),
}


def gradient_case(name: str) -> None:
    """Value and gradients, kept for the comparison; finite also at zero, at equal points and far away."""
    function, largest, *shapes = GRADIENT_CASES[name]
    function = differentiated(function, len(shapes))
    rng = np.random.default_rng(1)
    arrays = [rng.normal(size=shape).astype("float32") for shape in shapes]
    if shapes[0] != shapes[1]:
        arrays[1] = rng.normal(size=shapes[1]).astype("float32")
    value, found = gradients(function, arrays)
    saved = FOLDER / f"{BACKEND}-{name}.npz"
    np.savez(saved, value=value, **{str(number): gradient for number, gradient in enumerate(found)})
    for size in (0.0, 1e-12, 12.0, 1e3, largest):
        value, found = gradients(function, [array * np.float32(size) for array in arrays])
        assert np.isfinite(value), f"{value} at size {size}"
        assert all(np.isfinite(gradient).all() for gradient in found), f"gradient at size {size}"


def double_case(name: str) -> None:
    """In float64, digits of float64: against numpy, with layers and with functions."""
    if BACKEND == "jax":
        import jax

        jax.config.update("jax_enable_x64", True)
    DOUBLE_CASES[name]()


def hyperbolic_double() -> None:
    rng = np.random.default_rng(2)
    u, v = 0.8 * rng.normal(size=(6, 5)), 0.8 * rng.normal(size=(6, 5))

    def exp0(x):
        norm = np.linalg.norm(x, axis=-1, keepdims=True)
        return np.tanh(norm) * x / norm

    def log0(y):
        norm = np.linalg.norm(y, axis=-1, keepdims=True)
        return 2 * np.arctanh(norm) * y / norm

    def add(x, y):  # HYFuse equation 2 as printed
        inner, a, b = (np.sum(z, axis=-1, keepdims=True) for z in (x * y, x * x, y * y))
        return ((1 + 2 * inner + b) * x + (1 - a) * y) / (1 + 2 * inner + a * b)

    expected = log0(add(exp0(u), exp0(v)))
    tensors = [ops.convert_to_tensor(array, dtype="float64") for array in (u, v)]
    points = [ExpMap0(dtype="float64")(tensor) for tensor in tensors]
    found = LogMap0(dtype="float64")(MobiusAdd(dtype="float64")(points))
    assert keras.backend.standardize_dtype(found.dtype) == "float64"
    np.testing.assert_allclose(ops.convert_to_numpy(found), expected, rtol=1e-12)
    far = poincare.expmap0(100.0 * tensors[0])
    edge = ops.convert_to_numpy(poincare.logmap0(far, 1.0))
    np.testing.assert_allclose(np.linalg.norm(edge, axis=-1), np.arctanh(1 - 1e-12), rtol=1e-4)
    np.testing.assert_allclose(ops.convert_to_numpy(poincare.gyromidpoint(far, far)), ops.convert_to_numpy(far), 1e-9)


def transport_double() -> None:
    rng = np.random.default_rng(3)
    p, q = (ops.convert_to_tensor(rng.normal(size=(n, 24)), dtype="float64") for n in (6, 5))
    for mask in (None, np.array([True, True, False, True, True, True])):
        for epsilon in (0.1, 0.02):
            given = None if mask is None else ops.convert_to_tensor(mask)
            cost = transport.cost_matrix(p, q, given)
            weights = None if mask is None else transport.uniform_weights(given, "float64")
            plan = ops.exp(transport.sinkhorn_log_plan(cost, epsilon, 2, weights))
            rows = ops.convert_to_numpy(ops.sum(plan, axis=-1))
            expected = np.full(6, 1 / 6) if mask is None else mask / mask.sum()
            np.testing.assert_allclose(rows, expected, rtol=0, atol=1e-14)


DOUBLE_CASES = {"hyperbolic": hyperbolic_double, "transport": transport_double}


def model_case(name: str) -> None:
    """A whole model: saved and loaded here, with its predictions for the others."""
    model, options = MODEL_CASES[name]
    arrays = clips()
    keras.utils.set_random_seed(0)
    network = models.get(model).build(arrays, 3, models.get(model).options(**options), 0)
    expected = predicted(network)
    network.save(FOLDER / f"{BACKEND}-{name}.keras")
    np.save(FOLDER / f"{BACKEND}-{name}.npy", expected)


def predicted(network: keras.Model) -> np.ndarray:
    """Predictions of `clips`, without compiling `predict`, which takes seconds per model."""
    inputs = {name: ops.convert_to_tensor(array) for name, array in clips().items()}
    found = network(inputs, training=False)
    return ops.convert_to_numpy(found.detach() if BACKEND == "torch" else found)


def training_case(name: str) -> None:
    """A training step under jit_compile=True changes the weights and keeps them finite."""
    model, options = MODEL_CASES[name]
    arrays = clips()
    network = models.get(model).build(arrays, 3, models.get(model).options(**options), 0)
    network.compile(
        "adam", "sparse_categorical_crossentropy", jit_compile=BACKEND != "torch"
    )  # torch.compile needs a C++ compiler at run time
    before = [weight.copy() for weight in network.get_weights()]
    history = network.fit(arrays, np.arange(12) % 3, batch_size=12, epochs=1, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    after = network.get_weights()
    assert all(np.isfinite(weight).all() for weight in after)
    trained = [not np.array_equal(old, new) for old, new in zip(before, after, strict=True)]
    assert sum(trained) >= len(network.trainable_weights) - 1


def lesson_case() -> None:
    """A training with every setting that is none of the papers', and experts that learn by themselves."""
    from serfuse.experiment import config as configs
    from serfuse.experiment import fitting
    from serfuse.experiment.dataset import Part

    changes = {
        "options.hidden": 8,
        "options.members": 2,
        "training.loss": "focal",
        "training.focal_gamma": 0.5,
        "training.label_smoothing": 0.1,
        "training.class_weights": "balanced",
        "training.batch_size": 6,
    }
    part = Part(clips(), np.arange(12) % 3, np.arange(12))
    fitted = fitting.fit(configs.configure("experts", changes, epochs=2), part, part, 3, 0)
    assert len(fitted.history) == 2 and all(np.isfinite(list(row.values())).all() for row in fitted.history)
    np.testing.assert_allclose(fitted.probabilities(part.arrays).sum(axis=1), 1, atol=1e-6)


STACKED_CASES = {
    "with early stopping, decay, weights of classes, a schedule and all layers of an encoder": (
        "fcn",
        {
            "data.a": "hubert@layer=all",
            "training.epochs": 9,
            "training.patience": 1,
            "training.learning_rate": 0.03,
            "training.weight_decay": 0.01,
            "training.schedule": "cosine",
            "training.class_weights": "balanced",
        },
    ),
    "with mixed clips": ("fcn", {"training.mixup": 0.3}),
    "with scales of their own": ("hyfuse", {"options.align": "project", "options.projection": 8}),
}


def stacked_case(name: str) -> None:
    """Folds of unequal size that are trained side by side are what they are one by one, and so are their answers."""
    from serfuse.experiment import config as configs
    from serfuse.experiment import trainers
    from serfuse.experiment.dataset import Part
    from serfuse.experiment.trainers import forward
    from serfuse.progress import Observer

    model, changes = STACKED_CASES[name]
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 3, 40)
    arrays = {"a": rng.normal(size=(40, 14)), "b": rng.normal(size=(40, 12))}
    arrays = {side: (values + labels[:, None]).astype("float32") for side, values in arrays.items()}
    if model == "fcn":
        arrays = {"a": arrays["a"].reshape(40, 2, 7) if "data.a" in changes else arrays["a"]}
    clips = Part(arrays, labels, np.arange(40).astype(str))
    config = configs.configure(model, {"training.epochs": 2, "training.batch_size": 8, **changes})
    orders = [rng.permutation(40) for _ in range(2)]
    lessons = [
        trainers.Lesson(config, clips.take(order[:count]), clips.take(order[count : count + 8]), 3, count)
        # Without early stopping each fold fills its batches: a last one of another size is a program more.
        for order, count in zip(orders, (21, 16) if "patience" in str(changes) else (24, 16), strict=True)
    ]
    assert trainers.choose(config).name == "stacked"
    heard: list[int] = []

    class Listener(Observer):
        def epoch_done(self, epoch: int, figures: object) -> None:
            heard.append(epoch)

    together = trainers.get("stacked").train(lessons, Listener())
    alone = trainers.get("keras").train(lessons, Observer())
    assert len(heard) == sum(len(one.history) for one in together)
    if "patience" in str(changes):
        assert len({len(one.history) for one in alone}) == 2, "both stop at the same epoch, which shows little"
    for ours, theirs in zip(together, alone, strict=True):
        assert [list(row) for row in ours.history] == [list(row) for row in theirs.history]
        found, expected = ([list(row.values()) for row in one.history] for one in (ours, theirs))
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
        for mine, other in zip(ours.network.variables, theirs.network.variables, strict=True):
            np.testing.assert_allclose(mine.numpy(), other.numpy(), rtol=1e-3, atol=1e-5, err_msg=mine.path)
        said = ours.network(dict(clips.arrays), training=False)
        np.testing.assert_allclose(forward.outputs(ours.network, clips.arrays, 16), said, atol=1e-6)


def split_case() -> None:
    """Convolutions and wide products in the form that stacks well are what they were."""
    from serfuse.experiment.trainers import stacked_network

    rng = np.random.default_rng(5)
    x, kernel = rng.normal(size=(2, 9, 3)).astype("float32"), rng.normal(size=(3, 3, 4)).astype("float32")
    found = stacked_network.unfolded(ops.convert_to_tensor(x), ops.convert_to_tensor(kernel))
    np.testing.assert_allclose(found, ops.conv(x, kernel), atol=1e-5)
    import jax

    layers = keras.Sequential([keras.Input((9, 3)), keras.layers.Conv1D(4, 3, activation="relu")])
    weights = [variable.value for variable in layers.trainable_variables]

    def cost(weights: list) -> Any:
        return ops.sum(ops.square(layers.stateless_call(weights, [], ops.convert_to_tensor(x))[0]))

    expected, slopes = jax.value_and_grad(cost)(weights)
    with stacked_network.stackable(layers, splits=False):
        assert "conv_general_dilated" not in str(jax.make_jaxpr(jax.grad(cost))(weights)), "convolved as before"
        found, ours = jax.value_and_grad(cost)(weights)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    for one, other in zip(ours, slopes, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
    wide = keras.Sequential([keras.Input((8192,)), keras.layers.Dense(3, "relu")])
    clips = rng.normal(size=(4, 8192)).astype("float32")
    expected = wide(clips)
    assert stacked_network.parts_of(8192) > 1
    with stacked_network.stackable(wide, splits=True):
        np.testing.assert_allclose(wide(clips), expected, atol=1e-4)


def settings_case(when: str) -> None:
    """Keras' settings are serfuse's, not those of a file or variable of the user's."""
    found = keras.config
    settings = found.floatx(), found.dtype_policy().name, found.image_data_format(), found.epsilon()
    assert settings == ("float32", "float32", "channels_last", 1e-7), f"{when}: {settings}"
    assert keras.backend.backend() == BACKEND
    network = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    network.compile(loss="mse")
    network.fit(np.zeros((4, 1)), np.zeros((4, 1)), batch_size=2, epochs=2, verbose=0)
    assert len(network.history.epoch) == 2 and int(ops.convert_to_numpy(network.optimizer.iterations)) == 4


def loading_case(other: str, name: str) -> None:
    """A file of another backend predicts the same here."""
    network = keras.models.load_model(FOLDER / f"{other}-{name}.keras")
    np.testing.assert_allclose(predicted(network), np.load(FOLDER / f"{other}-{name}.npy"), atol=1e-5)


def comparing_case(other: str, name: str) -> None:
    """Values and gradients of another backend are those of this one."""
    mine, theirs = (np.load(FOLDER / f"{backend}-{name}.npz") for backend in (BACKEND, other))
    for key in mine.files:
        np.testing.assert_allclose(mine[key], theirs[key], rtol=1e-3, atol=1e-4)


def main() -> None:
    outcomes: dict[str, str] = {}

    def attempt(check: str, function: Callable, *arguments: str) -> None:
        started = time.monotonic()
        try:
            function(*arguments)
            outcomes[check] = ""
        except Exception:
            outcomes[check] = traceback.format_exc()
        seconds[check] = round(time.monotonic() - started, 2)

    seconds: dict[str, float] = {}
    attempt("settings after import", settings_case, "after import")
    for name in MODEL_CASES:
        attempt(f"model {name}", model_case, name)
    for name in GRADIENT_CASES:
        attempt(f"gradient {name}", gradient_case, name)
    (FOLDER / f"{BACKEND}.saved").touch()
    for name in LAYER_CASES:
        attempt(f"layer {name}", layer_case, name)
    for name in ("hyfuse-symmetric", "parrot-features", "parrot-reference"):
        attempt(f"training {name}", training_case, name)
    attempt("training with all settings", lesson_case)
    if BACKEND == "jax":
        for name in STACKED_CASES:
            attempt(f"stacked {name}", stacked_case, name)
        attempt("stacked products", split_case)
    until = time.monotonic() + SECONDS
    while not all((FOLDER / f"{other}.saved").exists() for other in OTHERS) and time.monotonic() < until:
        time.sleep(0.2)
    for other in OTHERS:
        for name in MODEL_CASES:
            attempt(f"loading {other} {name}", loading_case, other, name)
        for name in GRADIENT_CASES:
            attempt(f"comparing {other} {name}", comparing_case, other, name)
    for name in DOUBLE_CASES:  # last, since JAX keeps float64 switched on
        attempt(f"double {name}", double_case, name)
    (FOLDER / f"{BACKEND}.json").write_text(json.dumps({"outcomes": outcomes, "seconds": seconds}, indent=1))


if __name__ == "__main__":
    main()
