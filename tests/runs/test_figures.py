"""Figures are drawn from what they are given, on no screen, and say what they show."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from serfuse.runs import figures

CLASSES = ["anger", "neutral", "sadness"]


def _pixels(path: Path) -> np.ndarray:
    from matplotlib.image import imread

    return imread(path)


def test_confusion_depends_on_the_predictions(tmp_path: Path) -> None:
    labels = np.repeat(CLASSES, 10)
    right = pd.DataFrame({"label": labels, "predicted": labels})
    wrong = pd.DataFrame({"label": labels, "predicted": np.roll(labels, 10)})
    figures.confusion(right, CLASSES, "right", tmp_path / "a.png")
    figures.confusion(wrong, CLASSES, "right", tmp_path / "b.png")
    one, two = _pixels(tmp_path / "a.png"), _pixels(tmp_path / "b.png")
    assert one.shape == two.shape and min(one.shape[:2]) > 400
    assert np.abs(one - two).max() > 0.5


def test_confusion_with_a_class_that_never_occurs(tmp_path: Path) -> None:
    frame = pd.DataFrame({"label": ["anger"] * 4, "predicted": ["anger", "anger", "sadness", "anger"]})
    figures.confusion(frame, CLASSES, "no neutral", tmp_path / "a.png")
    assert np.isfinite(_pixels(tmp_path / "a.png")).all()


@pytest.mark.slow
def test_projection_parts_what_is_apart_and_repeats() -> None:
    rng = np.random.default_rng(0)
    features = np.concatenate([rng.normal(0, 0.1, (20, 8)), rng.normal(5, 0.1, (20, 8))])
    points = figures.project(features, 3)
    np.testing.assert_array_equal(points, figures.project(features, 3))
    gap = np.linalg.norm(points[:20].mean(axis=0) - points[20:].mean(axis=0))
    spread = max(points[:20].std(), points[20:].std())
    assert gap > 2 * spread


@pytest.mark.parametrize("features", [np.zeros((2, 4)), np.zeros((30, 4))])
def test_nothing_to_project_is_no_error(features: np.ndarray) -> None:
    assert (figures.project(features, 0) == 0).all()


def test_tsne_by_label_and_by_speaker(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    points = pd.DataFrame(
        {"x": rng.normal(size=40), "y": rng.normal(size=40), "label": CLASSES[:2] * 20, "speaker": list("abcd") * 10}
    )
    figures.tsne(points, CLASSES, "by emotion", tmp_path / "a.png")
    figures.tsne(points, CLASSES, "by speaker", tmp_path / "b.png", by="speaker")
    assert not np.array_equal(_pixels(tmp_path / "a.png"), _pixels(tmp_path / "b.png"))


def test_colours_are_told_apart_by_colour_blind_readers() -> None:
    """Every pair differs in lightness or in the blue-yellow axis that both common kinds of colour blindness keep."""
    rgb = np.array([[int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)] for colour in figures.COLOURS])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    # Deuteranopia as in Vienot, Brettel and Mollon (1999).
    seen = linear @ np.array([[0.29275, 0.70725, 0.0], [0.29275, 0.70725, 0.0], [-0.02234, 0.02234, 1.0]]).T
    distances = np.linalg.norm(seen[:, None] - seen[None], axis=-1)[np.triu_indices(len(seen), 1)]
    assert distances.min() > 0.05
    assert len(set(figures.MARKERS)) == len(figures.MARKERS) == len(figures.COLOURS)


def test_many_speakers_get_a_count_instead_of_a_legend() -> None:
    rng = np.random.default_rng(0)
    points = pd.DataFrame({"x": rng.normal(size=182), "y": rng.normal(size=182), "speaker": np.arange(182) % 91})
    drawn = figures.draw_tsne(points.assign(label="anger"), CLASSES, by="speaker")
    assert not drawn.legends and [text.get_text() for text in drawn.texts] == ["91 speakers"]
    few = figures.draw_tsne(points.assign(label="anger", speaker=np.arange(182) % 4), CLASSES, by="speaker")
    assert len(few.legends[0].get_texts()) == 4


@pytest.mark.slow
@pytest.mark.parametrize("name", ["$\\frac{$", "_hidden", "a\nb", "x" * 500])
def test_names_are_no_formulas_and_none_is_left_out(name: str) -> None:
    points = pd.DataFrame({"x": [0.0, 1.0], "y": [0.0, 1.0], "label": [name, "anger"]})
    drawn = figures.draw_tsne(points, [name, "anger"], title=name)
    assert len(drawn.legends[0].get_texts()) == 2
    assert all(len(text.get_text()) <= 26 for text in drawn.legends[0].get_texts())
    drawn.draw_without_rendering()
    frame = pd.DataFrame({"label": [name, "anger"], "predicted": ["anger", name]})
    figures.draw_confusion(frame, [name, "anger"], small=True).draw_without_rendering()


def test_what_speakers_are_called() -> None:
    points = pd.DataFrame({"x": range(60), "y": range(60), "speaker": range(60), "label": "anger"})
    drawn = figures.draw_tsne(points, CLASSES, by="speaker", kind="voice type")
    assert [text.get_text() for text in drawn.texts] == ["60 voice types"]


def test_a_picture_does_not_depend_on_the_users_settings(tmp_path: Path) -> None:
    import matplotlib

    frame = pd.DataFrame({"label": CLASSES * 4, "predicted": ["anger"] * 12})
    figures.confusion(frame, CLASSES, "title", tmp_path / "a.png")
    theirs = {"text.usetex": True, "font.size": 30, "savefig.dpi": 20, "axes.facecolor": "red", "savefig.bbox": "tight"}
    with matplotlib.rc_context(theirs):
        figures.confusion(frame, CLASSES, "title", tmp_path / "b.png")
        assert {name: matplotlib.rcParams[name] for name in theirs} == theirs, "they are as before afterwards"
    np.testing.assert_array_equal(_pixels(tmp_path / "a.png"), _pixels(tmp_path / "b.png"))


@pytest.mark.parametrize(("points", "threads"), [(40, {1}), (400, {2})])
def test_few_points_are_projected_by_one_thread(
    points: int, threads: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several of them wait for each other a thousand times, on a busy machine for a hundredth of a second each."""
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_info, threadpool_limits

    seen: set[int] = set()

    def fit_transform(self, features):
        seen.update(found["num_threads"] for found in threadpool_info() if found["user_api"] == "openmp")
        return features[:, :2]

    monkeypatch.setattr(TSNE, "fit_transform", fit_transform)
    with threadpool_limits(2, "openmp"):
        figures.project(np.random.default_rng(0).normal(size=(points, 3)), 0)
    assert seen == threads
