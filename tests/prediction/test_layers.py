"""A model of all layers of an encoder: kept in a file, and asked about new audio with one forward."""

from collections.abc import Iterator
from pathlib import Path

import counting_encoder
import numpy as np
import pytest

from serfuse.corpora.base import Corpus
from serfuse.encoders.base import LoadRequest
from serfuse.experiment import config as configs
from serfuse.experiment.dataset import load_dataset
from serfuse.extraction import extract
from serfuse.prediction import bundle, training
from serfuse.prediction.predictor import Predictor
from serfuse.runs import execution
from serfuse.store import EmbeddingStore


@pytest.fixture(autouse=True)
def counting() -> Iterator[None]:
    counting_encoder.install()
    yield
    counting_encoder.uninstall()


@pytest.mark.slow
def test_new_audio_goes_through_the_encoder_once_and_is_answered_as_it_was_learned(
    tiny_corpus: Corpus, tmp_path: Path
) -> None:
    store = EmbeddingStore(tmp_path / "store")
    extract.extract(tiny_corpus, {"counting-layers": LoadRequest(layer="all")}, store)
    config = configs.configure("fcn", a="counting-layers@layer=0+2", split="speaker", folds=2, epochs=2)
    out = tmp_path / "run"
    execution.execute(config, load_dataset(config, store), out, pictures=False, keep_models=False)
    made = training.fit_whole(out, *training.of_run(out, store))
    assert made.card.inputs["a"].shape == (2, 4) and made.card.inputs["a"].key["layer"] == "0+2"
    bundle.save(made, tmp_path / "kept.serfuse")
    dataset = training.of_run(out, store)[1]
    expected = made.probabilities(dataset.arrays)
    clips = {clip.id: clip.path for clip in tiny_corpus.clips}
    paths = [clips[name] for name in dataset.clips["id"]][:6]
    counting_encoder.HEARD.clear()
    with Predictor.load(tmp_path / "kept.serfuse") as predictor:
        answers = predictor.predict(paths)
    assert counting_encoder.HEARD == [1] * 6
    found = [[answer.probabilities[name] for name in predictor.classes] for answer in answers]
    np.testing.assert_allclose(found, expected[:6], atol=1e-5)
