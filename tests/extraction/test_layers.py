"""Several layers and poolings from one forward: each as if it had been extracted alone."""

from pathlib import Path

import checkpoints
import counting_encoder
import numpy as np
import pytest
import soundfile

from serfuse.corpora.base import Clip, Corpus
from serfuse.encoders.base import LoadRequest
from serfuse.errors import ConfigError
from serfuse.extraction import extract
from serfuse.extraction.report import ExtractReport
from serfuse.store import EmbeddingStore

NAME = "counting-layers"


pytestmark = pytest.mark.usefixtures("counting")


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """Six clips of 0.4 and 0.5 s."""
    clips = []
    for number in range(6):
        path = tmp_path / f"c{number}.wav"
        soundfile.write(path, checkpoints.speechlike(6400 + 1600 * (number % 2), number), 16000, subtype="FLOAT")
        clips.append(Clip(path.stem, path, ["anger", "fear"][number % 2], f"s{number % 3}"))
    return Corpus("tiny", tuple(clips))


def layers(store: EmbeddingStore, corpus: Corpus, layer: str, **settings: object) -> dict[str, ExtractReport]:
    """The reports of `--layer LAYER`, by layer."""
    found = extract.extract(corpus, {NAME: LoadRequest(layer=layer)}, store, **settings)
    assert all(not report.error for report in found), [report.error for report in found]
    return {report.key.layer: report for report in found}


def rows(store: EmbeddingStore, report: ExtractReport) -> np.ndarray:
    return store.load("tiny", report.key)[1]


def test_one_forward_gives_every_layer_and_pooling_as_if_it_were_extracted_alone(
    corpus: Corpus, store: EmbeddingStore, tmp_path: Path
) -> None:
    folder = checkpoints.small_checkpoint("hubert", tmp_path / "hubert")

    def request(layer: str) -> dict[str, LoadRequest]:
        return {"hubert": LoadRequest(weights=folder, layer=layer)}

    together = extract.extract(corpus, request("all,last"), store, pooling="time,mean-std")
    assert [(one.key.layer, one.key.pooling) for one in together] == [
        (layer, pooling) for layer in ("0", "1", "2", "3", "last") for pooling in ("time", "mean-std")
    ]
    assert all(report.done == 6 and report.complete for report in together)
    for report in together:
        alone = EmbeddingStore(tmp_path / f"alone-{report.key.layer}-{report.key.pooling}")
        (single,) = extract.extract(corpus, request(report.key.layer), alone, pooling=report.key.pooling)
        assert single.key == report.key and single.key.folder == report.key.folder
        assert single.vector_size == report.vector_size == (32 if report.key.pooling == "time" else 64)
        np.testing.assert_allclose(rows(store, report), rows(alone, single), atol=1e-5, rtol=0)
    first, second = (rows(store, together[place]) for place in (0, 2))
    assert np.abs(first - second).max() > 0.1, "two layers are two things"


def test_each_clip_goes_through_once_and_only_what_is_missing_is_stored(corpus: Corpus, store: EmbeddingStore) -> None:
    layers(store, corpus, "1")
    alone = rows(store, layers(store, corpus, "1")["1"])
    counting_encoder.HEARD.clear()
    found = layers(store, corpus, "0,1,3")
    assert counting_encoder.HEARD == [1] * 6
    assert {layer: (one.done, one.reused) for layer, one in found.items()} == {"0": (6, 0), "1": (0, 6), "3": (6, 0)}
    np.testing.assert_array_equal(rows(store, found["1"]), alone)
    again = layers(store, corpus, "all")
    assert {layer: one.done for layer, one in again.items()} == {"0": 0, "1": 0, "2": 6, "3": 0}
    counting_encoder.HEARD.clear()
    assert all(one.done == 0 and one.reused == 6 for one in layers(store, corpus, "all").values())
    assert counting_encoder.HEARD == []


def test_a_clip_has_rows_added_under_the_keys_that_it_lacks(corpus: Corpus, store: EmbeddingStore) -> None:
    layers(store, Corpus("tiny", corpus.clips[:4]), "1")
    layers(store, Corpus("tiny", corpus.clips[3:]), "2")
    layers(store, corpus, "0")
    counting_encoder.HEARD.clear()
    found = layers(store, corpus, "1,2")
    assert {layer: (one.done, one.reused) for layer, one in found.items()} == {"1": (2, 4), "2": (3, 3)}
    assert counting_encoder.HEARD == [1] * 5, "the fourth clip has both"
    assert rows(store, found["1"]).shape == rows(store, found["2"]).shape == (6, 4)


def test_a_bad_clip_is_told_of_under_each_key_that_it_lacks(corpus: Corpus, store: EmbeddingStore) -> None:
    layers(store, corpus, "1")
    path = Path(corpus.clips[0].path)
    path.write_bytes(b"no audio")
    found = layers(store, corpus, "1,2", skip_bad=True)
    assert [(len(one.failed), one.done) for one in found.values()] == [(1, 0), (1, 5)]
    for one in found.values():
        assert [item.clip for item in store.skipped("tiny", one.key)] == ["c0"]


def test_encoders_without_layers_refuse_with_a_sentence(corpus: Corpus, store: EmbeddingStore) -> None:
    found = extract.extract(corpus, {"counting": LoadRequest(layer="all"), "logmel": LoadRequest(layer="0,2")}, store)
    assert [report.error for report in found] == [
        "counting has no layers to choose from, got --layer all. Use --layer last.",
        "logmel has no layers to choose from, got --layer 0,2. Use --layer last.",
    ]
    (beyond,) = extract.extract(corpus, {NAME: LoadRequest(layer="1,4")}, store)
    assert "has layers 1 to 3 (0 is the input of the first one) and 'last', got --layer 4" in beyond.error
    (both,) = extract.extract(corpus, {NAME: LoadRequest(layer="1,all")}, store)
    assert "'all' holds every number already" in both.error
    with pytest.raises(ConfigError, match="Unknown pooling 'median'"):
        extract.extract(corpus, NAME, store, pooling="time,median")
    with pytest.raises(ConfigError, match=r"made by each\(\)"):
        extract.Extraction(corpus, store).run(NAME, LoadRequest(layer="1,2"))


@pytest.mark.slow
def test_processes_share_the_layers_of_a_corpus(
    corpus: Corpus, store: EmbeddingStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers(store, corpus, "2")
    counting_encoder.as_package(tmp_path / "package")
    monkeypatch.syspath_prepend(str(tmp_path / "package"))  # which the processes get as well
    found = layers(store, corpus, "0,2,3", jobs=2)
    assert {layer: (one.done, one.reused) for layer, one in found.items()} == {"0": (6, 0), "2": (0, 6), "3": (6, 0)}
    alone = layers(EmbeddingStore(tmp_path / "alone"), corpus, "3")
    np.testing.assert_array_equal(rows(store, found["3"]), rows(EmbeddingStore(tmp_path / "alone"), alone["3"]))


def test_shards_divide_all_layers(corpus: Corpus, store: EmbeddingStore) -> None:
    parts = [layers(store, corpus, "1,2", shard=f"{number}/2") for number in (1, 2)]
    assert sum(part["1"].done for part in parts) == sum(part["2"].done for part in parts) == 6
    assert rows(store, parts[1]["2"]).shape == (6, 4)
