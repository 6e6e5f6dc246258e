"""What an audit says of what the encoders were trained on."""

from dataclasses import replace

import pytest

from serfuse import encoders
from serfuse.encoders import EncoderEntry
from serfuse.store import EmbeddingKey, encoder_notes

HUB = "hub:a/b@c"


@pytest.mark.parametrize("corpus", ["msp-podcast", "MSP_Podcast", "msppodcast-1.11"])
def test_an_encoder_that_has_seen_the_answers_is_leakage(corpus) -> None:
    notes = encoder_notes(corpus, [EmbeddingKey("hubert", HUB), EmbeddingKey("audeering-dim", HUB)])
    assert len(notes) == 1, "hubert has seen no labels"
    assert notes[0].startswith("LEAKAGE: audeering-dim was trained on emotion labels of msp-podcast, the corpus under")
    (other,) = encoder_notes("emodb", [EmbeddingKey("audeering-dim", HUB)])
    assert "LEAKAGE" not in other and "was trained on emotion labels of msp-podcast" in other


def test_a_checkpoint_of_anybody_s() -> None:
    (leak,) = encoder_notes("iemocap", [EmbeddingKey("hf.superb--hubert-large-superb-er", HUB)])
    assert leak.startswith("LEAKAGE: hf.superb--hubert-large-superb-er")
    (unknown,) = encoder_notes("iemocap", [EmbeddingKey("hf.mine", "sha256:0")])
    assert unknown.startswith("What hf.mine was trained on is not known here")
    # Of the table's own under its name on the hub it is known.
    assert encoder_notes("iemocap", [EmbeddingKey("hf.microsoft--wavlm-large", HUB)]) == []


def test_recordings_heard_without_labels_are_said_and_drawn_or_imported_numbers_are_not() -> None:
    logmel = encoders.ENCODERS.get("logmel")
    preset = replace(logmel.preset, name="heard", needs_weights=True, corpora_seen=("cremad",), trained_on="speech")
    encoders.ENCODERS.register("heard", EncoderEntry(preset, logmel.load))
    try:
        (note,) = encoder_notes("cremad", [EmbeddingKey("heard", HUB)])
        assert note.startswith("heard has heard the recordings of cremad") and "LEAKAGE" not in note
        assert encoder_notes("emodb", [EmbeddingKey("heard", HUB)]) == []
    finally:
        encoders.ENCODERS.unregister("heard")
    keys = [EmbeddingKey("audeering-dim", "random:0"), EmbeddingKey("mine", "imported:x"), EmbeddingKey("logmel")]
    assert encoder_notes("msp-podcast", keys) == []
