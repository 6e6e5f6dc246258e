"""What every layer promises: configuration, shapes, dtypes, masks, files, and messages that name the received shape."""

import numpy as np
import pytest

from serfuse.experiment import backend

backend.set_up_backend()
import keras  # noqa: E402 - the backend is chosen above

from serfuse import layers  # noqa: E402
from serfuse.layers import (  # noqa: E402
    ClipNorm,
    ExpMap0,
    FeatureTransport,
    GyroMidpoint,
    Hadamard,
    LogMap0,
    MobiusAdd,
    ReferenceSet,
    ReferenceTransport,
    SinkhornTransport,
)

B, N, M, D = 3, 4, 5, 6
# A maker of each layer and the shapes it is called on, without the batch axis where there is one.
CASES = {
    "ClipNorm": (lambda **k: ClipNorm(0.4, **k), (B, D)),
    "ExpMap0": (lambda **k: ExpMap0(0.3, **k), (B, D)),
    "LogMap0": (lambda **k: LogMap0(1.5, **k), (B, N, D)),
    "MobiusAdd": (MobiusAdd, [(B, D), (B, D)]),
    "GyroMidpoint": (GyroMidpoint, [(B, N, D), (B, N, D)]),
    "sum of three": (MobiusAdd, [(B, D), (B, D), (B, D)]),
    "midpoint of three": (GyroMidpoint, [(B, D), (B, D), (B, D)]),
    "midpoint with weights": (lambda **k: GyroMidpoint([1, 2.5, 0.5], **k), [(B, D), (B, D), (B, D)]),
    "midpoint with learned weights": (lambda **k: GyroMidpoint("learned", **k), [(B, D), (B, D), (B, D)]),
    "Hadamard": (Hadamard, [(B, D), (B, D)]),
    "sets": (lambda **k: SinkhornTransport(0.3, 4, **k), [(B, N, D), (B, M, D)]),
    "sets, literal": (lambda **k: SinkhornTransport(0.01, 4, map="literal", **k), [(B, N, D), (B, N, D)]),
    "sets of sequences": (lambda **k: SinkhornTransport(0.3, 4, **k), [(2, B, N, D), (2, B, M, D)]),
    "one pair of sets": (lambda **k: SinkhornTransport(0.3, 4, **k), [(N, D), (M, D)]),
    "features": (lambda **k: FeatureTransport(0.3, 4, **k), [(B, N), (B, M)]),
    "reference": (lambda **k: ReferenceTransport(0.3, 4, **k), [(B, D), (B, D), (N, D), (M, D)]),
    "reference, literal": (
        lambda **k: ReferenceTransport(0.3, 4, map="literal", **k),
        [(B, D), (B, D), (N, D), (N, D)],
    ),
}


def inputs_of(shapes, seed=0, size=0.2):
    rng = np.random.default_rng(seed)
    if isinstance(shapes, tuple):
        return (size * rng.normal(size=shapes)).astype("float32")
    return [(size * rng.normal(size=shape)).astype("float32") for shape in shapes]


def arrays(outputs):
    found = outputs if isinstance(outputs, list | tuple) else [outputs]
    return [keras.ops.convert_to_numpy(keras.ops.cast(x, "float32")) for x in found]


def dtypes(outputs):
    found = outputs if isinstance(outputs, list | tuple) else [outputs]
    return {keras.backend.standardize_dtype(x.dtype) for x in found}


def test_everything_exported_is_here():
    tried = {type(make()).__name__ for make, _ in CASES.values()} | {"ReferenceSet"}
    tried |= {"LayerWeights", "LogPool", "MemberDense"}  # which have shapes of their own, in files of their own
    assert tried == set(layers.__all__)


@pytest.mark.parametrize("name", CASES)
def test_configuration_round_trip(name):
    make, shapes = CASES[name]
    layer = make(name="here")
    assert keras.saving.get_registered_name(type(layer)) == f"serfuse>{type(layer).__name__}"
    again = type(layer).from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    restored = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    values = inputs_of(shapes)
    for found, expected in zip(arrays(restored(values)), arrays(layer(values)), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", CASES)
def test_shapes_and_dtypes_agree_with_what_comes_out(name):
    make, shapes = CASES[name]
    for policy in ("float32", "mixed_float16", "mixed_bfloat16", "float64"):
        layer = make(dtype=policy)
        values = inputs_of(shapes)
        outputs = layer(values)
        promised = layer.compute_output_shape(shapes)
        several = isinstance(outputs, tuple)
        assert type(promised) is (type(outputs) if several else tuple)
        assert [x.shape for x in arrays(outputs)] == (list(promised) if several else [promised])
        as_tensors = keras.tree.map_structure(lambda x: keras.KerasTensor(x.shape, dtype="float32"), values)
        assert dtypes(outputs) == dtypes(layer.compute_output_spec(as_tensors)) == {layer.compute_dtype}


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("name", CASES)
def test_half_precision_only_rounds_what_comes_in_and_goes_out(name, policy):
    make, shapes = CASES[name]
    half = make(dtype=policy)
    given = keras.tree.map_structure(lambda x: keras.ops.cast(x, half.compute_dtype), inputs_of(shapes))
    exact = make()(keras.tree.map_structure(lambda x: keras.ops.cast(x, "float32"), given))
    found = half(given)
    for one, other in zip(arrays(found), arrays(exact), strict=True):
        np.testing.assert_array_equal(
            one, keras.ops.convert_to_numpy(keras.ops.cast(keras.ops.cast(other, half.compute_dtype), "float32"))
        )


def test_large_half_precision_vectors_stay_on_the_edge():
    """In float16 the square of 300 is infinite and the map silently gave 0."""
    large = keras.ops.cast(np.full((2, 100), 300.0), "float16")
    found = arrays(ExpMap0(dtype="mixed_float16")(large))[0]
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, rtol=2e-3)
    (log,) = arrays(LogMap0(1.0, dtype="mixed_float16")(large))
    assert np.isfinite(log).all() and np.linalg.norm(log) > 4


@pytest.mark.parametrize("name", [name for name, (_, shapes) in CASES.items() if len(shapes) < 4])
def test_a_file_restores_the_layer(name, tmp_path):
    make, shapes = CASES[name]
    pair = isinstance(shapes, list)
    given = [keras.Input(shape[1:]) for shape in shapes] if pair else keras.Input(shapes[1:])
    network = keras.Model(given, make()(given))
    network.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras")
    values = inputs_of(shapes)
    for found, expected in zip(arrays(restored(values)), arrays(network(values)), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("make", [lambda: ExpMap0(0.5), lambda: LogMap0(1.0), lambda: ClipNorm(0.3)])
def test_a_mask_passes_through_a_map(make):
    sequence = inputs_of((B, N, D))
    sequence[:, 2:] = 0.0
    masked = keras.layers.Masking()(sequence)
    found = make()(masked)
    np.testing.assert_array_equal(arrays(found._keras_mask)[0], [[1, 1, 0, 0]] * B)
    np.testing.assert_array_equal(arrays(found)[0], arrays(make()(sequence))[0])


@pytest.mark.parametrize("layer", [MobiusAdd, GyroMidpoint, Hadamard])
def test_a_pair_counts_where_both_count(layer):
    x, y = inputs_of([(1, 3, D), (1, 3, D)])
    one, other = np.array([[True, True, False]]), np.array([[True, False, True]])
    make = layer()
    np.testing.assert_array_equal(make.compute_mask([x, y], [one, other]), [[True, False, False]])
    assert make.compute_mask([x, y], [one, None]) is one
    assert make.compute_mask([x, y], None) is None
    if layer is not Hadamard:
        third = np.array([[False, True, True]])
        np.testing.assert_array_equal(make.compute_mask([x, y, x], [one, None, third]), [[False, True, False]])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ExpMap0(0.0), "kappa=0.0"),
        (lambda: ExpMap0(float("nan")), "kappa=nan"),
        (lambda: ExpMap0("0.5"), "kappa='0.5'"),
        (lambda: ExpMap0(1e200), "to 1e.12. Received: kappa=1e.200"),
        (lambda: LogMap0(-2.0), "scale=-2.0"),
        (lambda: LogMap0(None), "scale=None"),
        (lambda: ClipNorm([1.0]), r"max_norm=\[1.0\]"),
        (lambda: GyroMidpoint([1.0, 0.0]), "weights=0.0"),
        (lambda: GyroMidpoint([1.0]), r"two or more numbers. Received: \[1.0\]"),
        (lambda: GyroMidpoint("equal"), "'learned'.*Received: 'equal'"),
        (lambda: SinkhornTransport(epsilon=0), "epsilon=0"),
        (lambda: SinkhornTransport(epsilon=1e-9), "from 1e-06 to .* epsilon=1e-09"),
        (lambda: SinkhornTransport(iterations=0), "iterations=0"),
        (lambda: SinkhornTransport(iterations=2.5), "iterations=2.5"),
        (lambda: SinkhornTransport(iterations=10**9), "from 1 to 1000. Received: iterations=1000000000"),
        (lambda: SinkhornTransport(iterations=float("inf")), "iterations=inf"),
        (lambda: SinkhornTransport(iterations="20"), "iterations='20'"),
        (lambda: SinkhornTransport(iterations=True), "iterations=True"),
        (lambda: SinkhornTransport(map="mean"), "'mean'"),
        (lambda: SinkhornTransport.from_config({"points": "clips"}), "'clips'"),
        (lambda: SinkhornTransport.from_config({"points": ["set"]}), r"points=\['set'\]"),
        (lambda: FeatureTransport(epsilon=0), "epsilon=0"),
        (lambda: ReferenceTransport(iterations=0), "iterations=0"),
        (lambda: ReferenceSet(), "values"),
        (lambda: ReferenceSet(np.zeros(3)), r"\(3,\)"),
        (lambda: ReferenceSet([["a"]]), "matrix of numbers"),
        (lambda: ReferenceSet(shape=(2.5, 3)), r"\(2.5, 3\)"),
        (lambda: ReferenceSet(shape="23"), "Received shape: 23"),
        (lambda: ReferenceSet(np.zeros((0, 3))), r"\(0, 3\)"),
        (lambda: ReferenceSet(np.full((2, 3), np.nan)), "NaN"),
        (lambda: ReferenceSet(np.zeros((2, 3)), shape=(3, 2)), r"\(3, 2\)"),
    ],
)
def test_arguments_out_of_range(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "shapes", "words"),
    [
        (ExpMap0, [(2, 3), (2, 3)], "one tensor"),
        (ExpMap0, (3,), r"\(3,\)"),
        (lambda: ClipNorm(1.0), (), r"\(\)"),
        (LogMap0, (2, 0), r"at least 1.*\(2, 0\)"),
        (Hadamard, [(2, 0), (2, 0)], r"at least 1.*\(2, 0\)"),
        (SinkhornTransport, [(2, 0, 4), (2, 3, 4)], r"at least one point.*\(2, 0, 4\)"),
        (SinkhornTransport, [(0, 4), (0, 4)], r"at least one point.*\(0, 4\)"),
        (ReferenceTransport, [(2, 3), (2, 3), (0, 3), (4, 3)], r"one point.*\(0, 3\)"),
        (LogMap0, (2, None), r"\(2, None\)"),
        (MobiusAdd, (2, 3), r"list of two.*\(2, 3\)"),
        (MobiusAdd, [(2, 3), (2, 4)], r"\(2, 4\).*zero padding"),
        (MobiusAdd, [(2, 3), (2, 3), (2, 4)], r"two or more tensors of the same shape.*\(2, 4\).*zero padding"),
        (Hadamard, [(2, 3), (2, 3), (2, 3)], "list of two tensors"),
        (lambda: GyroMidpoint([1, 2, 3]), [(2, 3), (2, 3)], "as many tensors as it has weights, 3"),
        (GyroMidpoint, [(2, 3), (2, 3, 3)], r"\(2, 3, 3\)"),
        (Hadamard, [(2, 1), (2, 3)], r"\(2, 1\)"),
        (Hadamard, [(2, None), (2, None)], "known number"),
        (SinkhornTransport, [(3,), (3,)], r"2 axes or more.*\(3,\)"),
        (SinkhornTransport, [(2, 3, 4), (3, 4)], r"numbers of axes differ.*\(3, 4\)"),
        (FeatureTransport, [(2, 3, 4), (2, 3, 4)], r"must have 2 axes.*\(2, 3, 4\)"),
        (FeatureTransport, [(2, 0), (2, 3)], r"at least one feature.*\(2, 0\)"),
        (FeatureTransport, [(2, 3), (4, 3)], r"batch sizes differ.*\(4, 3\)"),
        (ReferenceTransport, [(2, 3), (2, 3), (1, 5, 3), (5, 3)], r"must have 2 axes.*\(1, 5, 3\)"),
        (SinkhornTransport, (2, 3, 4), "list of 2 tensors"),
        (SinkhornTransport, [(2, 3, 4), (2, 3, 5)], r"features differ.*\(2, 3, 5\)"),
        (SinkhornTransport, [(2, 3, 4), (1, 3, 4)], r"batch sizes differ.*\(1, 3, 4\)"),
        (SinkhornTransport, [(2, 3, None), (2, 3, 4)], "last axis"),
        (lambda: SinkhornTransport(map="literal"), [(2, 3, 4), (2, 5, 4)], "3 and 5 points"),
        (SinkhornTransport, [(2, 3), (2, 4)], "features differ"),
        (lambda: FeatureTransport(map="literal"), [(2, 3), (2, 4)], "3 and 4 points"),
        (ReferenceTransport, [(2, 3), (2, 3)], "4 tensors"),
        (ReferenceTransport, [(2, 3), (2, 3), (5, 4), (5, 3)], "features differ"),
        (
            lambda: ReferenceTransport(map="literal"),
            [(2, 3), (2, 3), (7, 3), (8, 3)],
            "7 and 8 points",
        ),
    ],
)
def test_shapes_that_do_not_fit_are_named(make, shapes, words):
    for attempt in ("build", "compute_output_shape"):
        with pytest.raises(ValueError, match=words):
            getattr(make(), attempt)(shapes)
    if None not in keras.tree.flatten(shapes):
        with pytest.raises(ValueError, match=words):
            make()(inputs_of(shapes))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("size", [1, 8, 120])
def test_the_chain_is_finite_where_half_precision_rounds_onto_the_edge(policy, size):
    far = 50 * np.random.default_rng(0).normal(size=(2, 256, size)).astype("float32")
    x, y = (ExpMap0(dtype=policy)(values) for values in far)
    for fuse in (MobiusAdd, GyroMidpoint):
        for first, second in ((x, y), (y, x), (x, x), (x, -x)):
            (found,) = arrays(LogMap0(dtype=policy)(fuse(dtype=policy)([first, second])))
            assert np.isfinite(found).all()


@pytest.mark.parametrize("name", CASES)
def test_shapes_are_checked_at_every_call(name):
    """A layer is built once. Called on one clip beside three afterwards, the operations themselves would broadcast."""
    make, shapes = CASES[name]
    layer = make()
    values = inputs_of(shapes)
    layer(values)
    if isinstance(shapes, tuple):
        wrong = [np.ones((), "float32"), values[0, ..., 0], [values, values]]
    else:
        wrong = [values[0], values[:1], dict(enumerate(values))]
        if name != "features":  # other numbers of them are welcome
            wrong.append([values[0][..., :-1], *values[1:]])
        if not name.startswith(("reference", "one pair")):  # whose first axes are not the same
            wrong.append([values[0], values[1][:1]])
    for given in wrong:
        with pytest.raises(ValueError, match=r"expects.*Received: input_shape="):
            layer(given)


@pytest.mark.parametrize("name", [name for name in CASES if name != "one pair of sets"])
def test_no_clips_give_no_results(name):
    make, shapes = CASES[name]
    values = inputs_of(shapes)
    if isinstance(shapes, tuple):
        given, expected = values[:0], [(0, *shapes[1:])]
    else:
        sets = name.startswith("reference")  # whose two last inputs have no clips
        given = [x if sets and number > 1 else x[:0] for number, x in enumerate(values)]
        expected = [(0, *shape[1:]) for shape in shapes[:2]]
    found = make()(given)
    if isinstance(found, tuple):
        assert [x.shape for x in arrays(found)] == list(make().compute_output_shape([x.shape for x in given]))
    assert [x.shape for x in arrays(found)][:2] == (expected if isinstance(found, tuple) else expected[:1])


# Clips and references have batch axes of their own: test_models.py builds models with those.
@pytest.mark.parametrize("name", [name for name in CASES if not name.startswith("reference")])
def test_unknown_batch_and_time_axes(name):
    """A model is built on shapes with None, and then called on any batch."""
    make, shapes = CASES[name]
    values = inputs_of(shapes)
    listed = [shapes] if isinstance(shapes, tuple) else shapes
    given = [keras.Input(batch_shape=(*(None for _ in shape[:-1]), shape[-1])) for shape in listed]
    given = given[0] if isinstance(shapes, tuple) else given
    network = keras.Model(given, make()(given))
    for found, expected in zip(arrays(network(values)), arrays(make()(values)), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_whole_numbers_and_other_floats_are_taken_as_what_they_are(name):
    make, shapes = CASES[name]
    whole = keras.tree.map_structure(lambda x: np.rint(9 * x).astype("int32"), inputs_of(shapes))
    as_floats = keras.tree.map_structure(lambda x: x.astype("float32"), whole)
    for dtype in ("int32", "float64", "float16"):
        given = keras.tree.map_structure(lambda x, dtype=dtype: x.astype(dtype), whole)
        for found, expected in zip(arrays(make()(given)), arrays(make()(as_floats)), strict=True):
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    "config",
    [
        {"class_name": "ExpMap0", "config": {"kappa": float("nan")}},
        {"class_name": "ExpMap0", "config": {"kappa": -1}},
        {"class_name": "LogMap0", "config": {"scale": "2"}},
        {"class_name": "SinkhornTransport", "config": {"iterations": 10**7}},
        {"class_name": "SinkhornTransport", "config": {"epsilon": 0}},
        {"class_name": "SinkhornTransport", "config": {"map": ["literal"]}},
        {"class_name": "SinkhornTransport", "config": {"points": {"set": 1}}},
        {"class_name": "SinkhornTransport", "config": {"points": "reference", "iterations": 10**7}},
        {"class_name": "FeatureTransport", "config": {"epsilon": "0.1"}},
        {"class_name": "ReferenceSet", "config": {"shape": [-1, 4]}},
    ],
    ids=str,
)
def test_a_file_cannot_ask_for_what_an_argument_may_not_be(config):
    name = config["class_name"]
    written = {"module": None, "registered_name": f"serfuse>{name}", **config}
    with pytest.raises((TypeError, ValueError), match=r"must be|expects a matrix"):
        keras.saving.deserialize_keras_object(written)


@pytest.mark.parametrize(
    "mask",
    [
        [np.ones((B, N), bool)],
        np.ones((B, N), bool),
        [np.ones((B, M), bool), None],
        [None, np.ones((B, M, D), bool)],
    ],
    ids=["one", "not a list", "of the other set", "of every value"],
)
def test_a_mask_that_does_not_fit_is_named(mask):
    points = inputs_of([(B, N, D), (B, M, D)])
    with pytest.raises(ValueError, match=r"list of 2 masks.*\(3, 4\), \(3, 5\)\. Received: mask="):
        SinkhornTransport()(points, mask=mask)
