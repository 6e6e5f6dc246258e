"""A model that version 0.1 kept gives the answers that version 0.1 gave."""

from pathlib import Path

import pytest

from serfuse.prediction.predictor import Predictor

KEPT = Path(__file__).resolve().parent / "version_0_1"


@pytest.mark.slow
def test_a_model_of_version_0_1_gives_its_answers() -> None:
    with Predictor.load(KEPT / "model.serfuse") as predictor:
        answer = predictor.predict_one(KEPT / "clip.wav")
    assert not answer.problem
    # as `serfuse predict` of version 0.1.0 printed them, with librosa 0.11.0
    expected = {"anger": 0.49962583186472465, "sadness": 0.5003741681352754}
    assert answer.probabilities == pytest.approx(expected, abs=1e-4) and answer.emotion == "sadness"
    assert predictor.card.versions["serfuse"] == "0.1.0"
