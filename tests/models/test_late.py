"""Late fusion, stacking and the mean of kernels: what they equal, and what they never see."""

from collections.abc import Callable

import numpy as np
import pytest

import serfuse
from serfuse import models
from serfuse.errors import ConfigError, SplitError
from serfuse.experiment import cross_validation, fitting
from serfuse.experiment.cross_validation import Result
from serfuse.experiment.dataset import Dataset, Part, load_dataset
from serfuse.models.kernel import mean_rbf
from serfuse.models.late import geometric_mean
from serfuse.store import EmbeddingStore

ENCODERS = ("hubert", "soundstream", "logmel")
SIZES = dict(zip(ENCODERS, (12, 8, 5), strict=True))


@pytest.fixture
def store(make_store: Callable[..., EmbeddingStore]) -> EmbeddingStore:
    return make_store(SIZES, noise=2.0)


def run(store: EmbeddingStore, model: str, *encoders: str, **overrides: object) -> Result:
    changes = {key.replace("__", "."): value for key, value in overrides.items()}
    config = serfuse.configure(model, changes, inputs=list(encoders), split="speaker", folds=2, seed=3)
    return cross_validation.cross_validate(config, load_dataset(config, store))


def probabilities(result: Result) -> np.ndarray:
    return result.predictions.filter(like="p_").to_numpy()


def test_late_is_the_geometric_mean_of_the_single_runs(store: EmbeddingStore) -> None:
    single = np.stack([probabilities(run(store, "svm", name)) for name in ENCODERS])
    expected = np.exp(np.log(single).mean(axis=0))
    expected /= expected.sum(axis=1, keepdims=True)
    fused = run(store, "late", *ENCODERS)
    np.testing.assert_allclose(probabilities(fused), expected, rtol=0, atol=1e-12)
    predicted = np.asarray(fused.dataset.classes)[expected.argmax(axis=1)]
    assert list(fused.predictions["predicted"]) == list(predicted)


def test_what_tsne_shows_is_called_what_it_is(store: EmbeddingStore) -> None:
    single = [run(store, "svm", name).folds[0] for name in ENCODERS[:2]]
    assert models.get("svm").shown == models.get("kernel").shown == "inputs of the classifier"
    assert [fold.penultimate.shape[1] for fold in single] == [SIZES[name] for name in ENCODERS[:2]]
    for model in ("late", "stacked"):
        shown = run(store, model, *ENCODERS[:2]).folds[0].penultimate
        expected = np.concatenate([fold.predictions.filter(like="p_") for fold in single], axis=1)
        np.testing.assert_allclose(shown, np.log(expected), rtol=1e-9)
        assert models.get(model).shown == models.get("fused").shown == "logarithms of the experts' probabilities"
    assert models.get("experts").shown == "probabilities of each expert"
    assert models.get("concat").shown == "penultimate layer"


def test_weights_and_a_head_for_each_input(store: EmbeddingStore) -> None:
    heads = [{"C": 3.0}, {"kernel": "linear"}]
    single = [
        probabilities(run(store, "svm", name, **{f"options__{key}": value for key, value in head.items()}))
        for name, head in zip(ENCODERS, heads, strict=False)
    ]
    expected = single[0] ** 0.75 * single[1] ** 0.25
    expected /= expected.sum(axis=1, keepdims=True)
    options = {"options__head": ["svm", "svm"], "options__head_options": heads, "options__weights": [3, 1]}
    found = run(store, "late", *ENCODERS[:2], **options)
    np.testing.assert_allclose(probabilities(found), expected, rtol=0, atol=1e-12)
    assert found.config.model_options().head_options[1]["standardize"] is True, "the record holds every default"


@pytest.mark.slow
def test_networks_are_fitted_as_their_own_runs_fit_them(store: EmbeddingStore) -> None:
    quick = {"training__epochs": 2}
    single = [probabilities(run(store, "fcn", name, **quick)) for name in ENCODERS[:2]]
    expected = np.sqrt(single[0] * single[1])
    expected /= expected.sum(axis=1, keepdims=True)
    fused = run(store, "late", *ENCODERS[:2], options__head="fcn", **quick)
    np.testing.assert_allclose(probabilities(fused), expected, rtol=0, atol=1e-12)
    history = fused.folds[0].history
    assert list(history["network"]) == ["a", "a", "b", "b"] and list(history["epoch"]) == [1, 2, 1, 2]
    mixed = run(store, "late", *ENCODERS[:2], options__head=["svm", "fcn"], **quick)
    expected = np.sqrt(probabilities(run(store, "svm", "hubert")) * single[1])
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities(mixed), expected, rtol=0, atol=1e-12)


def test_the_geometric_mean_by_hand() -> None:
    one, other = np.array([[0.8, 0.2], [1.0, 0.0]]), np.array([[0.2, 0.8], [0.0, 1.0]])
    np.testing.assert_allclose(geometric_mean([one, other]), [[0.5, 0.5], [0.5, 0.5]])
    np.testing.assert_allclose(geometric_mean([one, one]), one, atol=1e-12)
    # Weights are shares, however large or small.
    for scale in (1e-300, 1e307):
        joined = geometric_mean([one, other], [8 * scale, 4 * scale])
        np.testing.assert_allclose(joined, geometric_mean([one, other], [2, 1]), rtol=1e-12)
    # A class that one rules out is ruled out, whatever the others say.
    assert geometric_mean([np.array([[0.0, 1.0]]), np.array([[0.99, 0.01]])])[0, 0] < 1e-100


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head": "concat"}, "'concat' takes 2"),
        ({"head": "late"}, "a head is a model of one representation"),
        ({"head_options": {"D": 1}}, "of the head 'svm': D"),
        ({"head": ["svm", "svm"], "head_options": [{}]}, "a list of 2 mappings"),
        ({"weights": [1, -1]}, "positive numbers"),
        ({"weights": [1e308, 1e-308]}, "nothing beside the largest"),
    ],
)
def test_bad_options_are_named(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        serfuse.configure({"model": "late", "options": options})


@pytest.mark.parametrize("options", [{"options__weights": [1, 2, 3]}, {"options__head": ["svm"] * 3}])
def test_lists_must_fit_the_inputs(store: EmbeddingStore, options: dict) -> None:
    with pytest.raises(ConfigError, match=r"3 (numbers|models) for 2 inputs"):
        run(store, "late", *ENCODERS[:2], **options)


def test_a_representation_twice_needs_another_head(store: EmbeddingStore) -> None:
    def check(model: str, **options: object) -> None:
        config = serfuse.configure(model, {f"options.{name}": value for name, value in options.items()}, inputs=twice)
        cross_validation.check(config, load_dataset(config, store))

    twice = ["hubert", "soundstream", "hubert"]
    check("late", head=["svm", "svm", "fcn"])
    check("stacked", head=["svm"] * 3, head_options=[{}, {}, {"C": 3.0}])
    for model in ("late", "stacked", "kernel", "svm", "experts", "parrot"):
        with pytest.raises(ConfigError, match=f"The inputs a and c of '{model}' are the same representation"):
            check(model)


def test_heads_are_recorded_with_every_setting() -> None:
    """Also with those that came after the first version, which a run of the head alone leaves out."""
    options = serfuse.configure("late", inputs=["hubert", "soundstream"]).model_options()
    assert options.head_options["class_weight"] == "none"
    assert "class_weight" not in serfuse.configure("svm", a="hubert").model_options().model_dump()


# --- stacked ---------------------------------------------------------------------------------------------------------


def parts(store: EmbeddingStore, model: str) -> tuple[Part, Part, Dataset]:
    config = serfuse.configure(model, inputs=list(ENCODERS[:2]), split="loso")
    dataset = load_dataset(config, store)
    fold = cross_validation.plan(config, dataset)[0]
    learned, _ = cross_validation.learned_from(config, fold)
    return dataset.part(learned, fold.apart), dataset.part(fold.test), dataset


def test_stacking_learns_from_held_out_clips_of_speakers_kept_apart(store: EmbeddingStore, monkeypatch) -> None:
    training, _, dataset = parts(store, "stacked")
    speaker = dict(zip(dataset.clips["id"], dataset.clips["speaker"], strict=True))
    seen = []
    from serfuse.experiment import task

    real = task.FitTask.head

    def watch(self, side, model, options, rows=None):
        if rows is not None and side == "a":
            seen.append({speaker[clip] for clip in self.training.ids[rows]})
        return real(self, side, model, options, rows)

    monkeypatch.setattr(task.FitTask, "head", watch)
    config = serfuse.configure("stacked", inputs=list(ENCODERS[:2]), split="loso")
    fitting.fit(config, training, training.take(np.arange(0)), 3, 0)
    everyone = {speaker[clip] for clip in training.ids}
    held = [everyone - learned for learned in seen]
    assert len(everyone) == 3 and sorted(map(len, held)) == [1, 1, 1] and set.union(*held) == everyone


def test_stacking_ignores_an_input_of_noise(make_store: Callable[..., EmbeddingStore]) -> None:
    store = make_store(SIZES, noise=1.0, speakers=6)
    config = serfuse.configure("stacked", inputs=["hubert", "soundstream"], split="loso")
    dataset = load_dataset(config, store)
    rng = np.random.default_rng(0)
    noise = rng.normal(size=dataset.arrays["b"].shape).astype("float32")
    ids = dataset.clips["id"].to_numpy()
    speakers = dataset.clips["speaker"].to_numpy(str)
    part = Part({"a": dataset.arrays["a"], "b": noise}, dataset.part(ids).labels, ids, {"speaker": speakers})
    fitted = fitting.fit(config, part, part.take(np.arange(0)), 3, 0)
    said = fitted.opinions(part.arrays)
    alone = np.abs(fitted.coefficients[:, :3]).sum(), np.abs(fitted.coefficients[:, 3:]).sum()
    assert alone[1] < alone[0] / 3, "what says nothing about held-out clips has no weight"
    assert fitted.parameters == 3 * 6 + 3
    np.testing.assert_allclose(fitted.joined(said).sum(axis=1), 1)


def test_stacking_needs_two_clips_of_each_class_in_every_inner_fold(store: EmbeddingStore) -> None:
    training, _, _ = parts(store, "stacked")
    training.groups["speaker"][:] = np.where(training.labels == 0, "one", training.groups["speaker"])
    with pytest.raises(SplitError, match=r"keep apart by speaker.*'late'"):
        fitting.fit(
            serfuse.configure("stacked", inputs=list(ENCODERS[:2])), training, training.take(np.arange(0)), 3, 0
        )


# --- kernel ----------------------------------------------------------------------------------------------------------


def test_the_kernel_is_the_mean_of_the_inputs_own(store: EmbeddingStore) -> None:
    from sklearn.metrics.pairwise import rbf_kernel
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    training, test, _ = parts(store, "kernel")
    fitted = fitting.fit(
        serfuse.configure("kernel", inputs=list(ENCODERS[:2])), training, training.take(np.arange(0)), 3, 0
    )
    kernels = []
    for name, array in training.arrays.items():
        scaler = StandardScaler().fit(array)
        own, other = (scaler.transform(part.arrays[name]).astype("float64") for part in (training, test))
        gamma = 1 / (own.shape[1] * own.var())
        kernels.append((rbf_kernel(own, own, gamma), rbf_kernel(other, own, gamma)))
    svc = SVC(kernel="precomputed").fit(np.mean([k for k, _ in kernels], axis=0), training.labels)
    expected = np.mean([k for _, k in kernels], axis=0)
    np.testing.assert_array_equal(fitted.predict(test.arrays), svc.predict(expected))
    np.testing.assert_allclose(
        fitted.estimator.decision_function(fitting.side_by_side(test.arrays)),
        svc.decision_function(expected),
        atol=1e-6,
    )
    one = [np.array([[0.0], [1.0]]), np.array([[0.0], [2.0]])]
    np.testing.assert_allclose(mean_rbf(one, one, [1.0, 0.5])[0, 1], (np.exp(-1) + np.exp(-2)) / 2)


def test_an_input_without_spread_says_nothing(store: EmbeddingStore) -> None:
    training, test, _ = parts(store, "kernel")
    training.arrays["b"][:] = 1
    test.arrays["b"][:] = 1
    fitted = fitting.fit(
        serfuse.configure("kernel", inputs=list(ENCODERS[:2])), training, training.take(np.arange(0)), 3, 0
    )
    assert np.isfinite(fitted.probabilities(test.arrays)).all()


# --- probabilities of the machine ------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [2, 3])
def test_pairwise_probabilities_are_better_than_scores_of_won_pairs(make_store, classes: int) -> None:
    """The labels stay the machine's own; the probabilities are surer where they are right."""
    store = make_store({"hubert": 12}, emotions=("anger", "neutral", "sadness")[:classes], speakers=6, noise=2.0)
    old = run(store, "svm", "hubert", options__probabilities="one-vs-rest")
    new = run(store, "svm", "hubert")
    assert list(old.predictions["predicted"]) == list(new.predictions["predicted"])
    np.testing.assert_allclose(probabilities(new).sum(axis=1), 1)
    if classes > 2:  # of two classes there is one pair
        assert new.metrics["pooled"]["log_loss"] < old.metrics["pooled"]["log_loss"]


def test_importance_of_opinions_is_that_of_inputs(store: EmbeddingStore) -> None:
    from serfuse.experiment.permutation_importance import importance_of, permutation_importance

    training, test, _ = parts(store, "late")
    fitted = fitting.fit(
        serfuse.configure("late", inputs=list(ENCODERS[:2])), training, training.take(np.arange(0)), 3, 0
    )
    predicted = fitted.predict(test.arrays)
    asked = importance_of(test.arrays, fitted.predict, test.labels, predicted, 5)
    assert permutation_importance(fitted, test, predicted, 5) == asked


@pytest.mark.filterwarnings("error")
def test_many_emotions_of_few_clips_give_no_warning() -> None:
    labels = np.repeat(np.arange(30), 2)
    rows = np.random.default_rng(0).normal(size=(60, 4)).astype("float32") + labels[:, None]
    part = Part({"a": rows}, labels, np.arange(60).astype(str))
    fitted = fitting.fit(serfuse.configure("svm", a="hubert"), part, part.take(np.arange(0)), 30, 0)
    assert fitted.probabilities({"a": rows}).shape == (60, 30)
