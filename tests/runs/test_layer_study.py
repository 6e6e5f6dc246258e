"""`serfuse layers`: a run of each layer, what the best is worth, and the choice inside the training parts."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from store_rows import drawn_clips

from serfuse.cli import main
from serfuse.errors import RunError, StoreError
from serfuse.runs import layer_study
from serfuse.runs.run import Run
from serfuse.store import EmbeddingKey, EmbeddingStore


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> EmbeddingStore:
    """Layers 0, 1 and 4 of "hubert", of which the second holds the emotion."""
    rng, store = np.random.default_rng(3), EmbeddingStore(tmp_path_factory.mktemp("layers"))
    emotions = ("anger", "neutral", "sadness")
    clips, ids, audio = drawn_clips(store, "made", emotions, speakers=4, texts=4)
    centres = {name: rng.normal(size=6) for name in emotions}
    for layer, signal in (("0", 0.0), ("1", 6.0), ("4", 0.4)):
        rows = np.stack([signal * centres[clip.emotion] + rng.normal(size=6) for clip in clips]).astype("float32")
        store.append("made", EmbeddingKey("hubert", layer=layer), ids, audio, rows)
    store.append("made", EmbeddingKey("logmel"), ids, audio, rows)
    return store


def test_each_layer_is_a_run_and_the_choice_is_made_inside_the_training_parts(
    store: EmbeddingStore, tmp_path: Path
) -> None:
    settings = {"split": "speaker", "folds": 2}
    found = layer_study.study(store, "hubert", settings=settings, nested=True, out=tmp_path)
    assert [score.layer for score in found.scores] == [0, 1, 4] and found.best.layer == 1
    for score in found.scores:
        run = Run.read(score.run)
        assert run.metrics["pooled"]["accuracy"] == score.value and score.low <= score.value <= score.high
        assert run.keys["a"] == EmbeddingKey("hubert", layer=str(score.layer))
        assert score.behind == pytest.approx(found.best.value - score.value)
        if score is not found.best:
            assert score.behind > 0 and score.behind_low <= score.behind <= score.behind_high
    assert found.nested.layers == (1, 1) and found.nested.value == found.best.value
    assert "picked by its test figures, the best of 3" in found.sentence() and "may flatter" in found.sentence()
    assert json.loads((tmp_path / "layers.json").read_text())["best"] == 1
    assert (tmp_path / "layers.png").stat().st_size > 5000
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("layer-*/metrics.json")}
    again = layer_study.study(store, "hubert@layer=1+4", settings=settings, out=tmp_path)
    assert [score.layer for score in again.scores] == [1, 4] and again.nested is None and "--nested" in again.sentence()
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("layer-*/metrics.json")} == before


@pytest.mark.slow
def test_a_study_of_other_embeddings_or_settings_is_never_overwritten(
    store: EmbeddingStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for layer in ("0", "1"):
        ids, rows = store.load("made", EmbeddingKey("hubert", layer=layer))[:2]
        audio = [store.present("made", EmbeddingKey("hubert", layer=layer))[one] for one in ids]
        store.append("made", EmbeddingKey("data2vec-base", layer=layer), list(ids), audio, rows)
        store.append("made", EmbeddingKey("data2vec-base", layer=layer, pooling="mean-std"), list(ids), audio, rows)
    settings = {"split": "speaker", "folds": 2}

    def folder(pooling: str, **changes: object) -> str:
        name = f"data2vec-base@pooling={pooling}"
        found = layer_study.study(store, name, settings={**settings, **changes})
        return str(Path(found.best.run).parent)

    first = folder("time")
    kept = (tmp_path / first / "layers.json").read_bytes()
    assert first == str(Path("layers") / "made-data2vec-base-svm-speaker")
    assert folder("mean-std") == f"{first}-2" and folder("time", seed=1) == f"{first}-3"
    assert folder("time") == first and folder("mean-std") == f"{first}-2", "each goes on where it was"
    with pytest.raises(
        RunError, match=r"another study: of data2vec-base, pooling time(.|\n)*pooling mean-std(.|\n)*--out"
    ):
        layer_study.study(store, "data2vec-base@pooling=mean-std", settings=settings, out=first)
    with pytest.raises(RunError, match=r"another study: with seed 1, not 0\. Choose"):
        layer_study.study(store, "data2vec-base@pooling=time", settings=settings, out=f"{first}-3")
    assert (tmp_path / first / "layers.json").read_bytes() == kept


def test_the_command_prints_a_table_or_json(store: EmbeddingStore, tmp_path: Path) -> None:
    words = ["layers", "--corpus", "made", "--encoder", "hubert", "--split", "speaker", "--folds", "2"]
    words += ["--store", str(store.root), "--out", str(tmp_path), "--quiet"]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0] == "svm on each layer of hubert, made, split speaker: accuracy in per cent"
    assert [line.split()[0] for line in lines[4:7]] == ["0", "1", "4"]
    assert f"Figure: {tmp_path / 'layers.png'}" in done.stdout
    as_json = json.loads(CliRunner().invoke(main, [*words, "--json"]).stdout)
    assert [score["layer"] for score in as_json["scores"]] == [0, 1, 4] and as_json["best"] == 1


def test_drawn_weights_are_told_as_in_the_runs(store: EmbeddingStore, tmp_path: Path) -> None:
    ids, rows = store.load("made", EmbeddingKey("hubert", layer="1"))[:2]
    audio = store.present("made", EmbeddingKey("hubert", layer="1"))
    drawn = [EmbeddingKey("wavlm", layer=layer, weights="random:0") for layer in ("0", "1")]
    for key in drawn:
        store.append("made", key, list(ids), [audio[one] for one in ids], rows)
    words = ["layers", "--corpus", "made", "--encoder", "wavlm", "--split", "speaker", "--folds", "2"]
    done = CliRunner().invoke(main, [*words, "--store", str(store.root), "--out", str(tmp_path), "--quiet"])
    assert "WARNING: wavlm has random weights" in done.stdout


def test_an_encoder_without_layers_in_the_store_is_told_with_the_command(store: EmbeddingStore) -> None:
    with pytest.raises(StoreError, match=r"that fit xls-r-300m, layer all(.|\n)*--encoder xls-r-300m --layer all"):
        layer_study.study(store, "xls-r-300m")
    with pytest.raises(StoreError, match="logmel has no layers"):
        layer_study.study(store, "logmel")
    with pytest.raises(StoreError, match="names one layer"):
        layer_study.study(store, "hubert@layer=1")
