"""Frozen encoders by name. Nothing heavy is imported before `load`.

Adding one: a file with an `EncoderEntry`, which is what is known of it and its `load`, and a line in `ENCODERS`; from
another package the same entry under an entry point of the group `serfuse.encoders` (docs/extending.md).
"""

from importlib import metadata
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..registry import Registry
from . import hub_names, pooling
from .base import Encoder, EncoderEntry, EncoderPreset, LoadRequest
from .checkpoints.locate import find_weights
from .extras import how_to_install, left_out
from .hub_names import canonical

ENCODERS: Registry[EncoderEntry] = Registry(
    "encoder",
    [
        ("wavlm", "serfuse.encoders.speech_ssl:ENTRIES.wavlm"),
        ("wav2vec2", "serfuse.encoders.speech_ssl:ENTRIES.wav2vec2"),
        ("hubert", "serfuse.encoders.speech_ssl:ENTRIES.hubert"),
        ("unispeech-sat", "serfuse.encoders.speech_ssl:ENTRIES.unispeech-sat"),
        ("mms-1b", "serfuse.encoders.speech_ssl:ENTRIES.mms-1b"),
        ("xvector", "serfuse.encoders.xvector:XVECTOR"),
        ("audiomamba-tiny", "serfuse.encoders.audiomamba:TINY"),
        ("audiomamba-small", "serfuse.encoders.audiomamba:SMALL"),
        ("audiomamba-base", "serfuse.encoders.audiomamba:BASE"),
        ("encodec", "serfuse.encoders.encodec:ENCODEC"),
        ("dac", "serfuse.encoders.dac:DAC"),
        ("speechtokenizer", "serfuse.encoders.speechtokenizer:SPEECHTOKENIZER"),
        ("soundstream", "serfuse.encoders.soundstream:SOUNDSTREAM"),
        ("wavlm-base-plus", "serfuse.encoders.speech_ssl:ENTRIES.wavlm-base-plus"),
        ("wavlm-large", "serfuse.encoders.speech_ssl:ENTRIES.wavlm-large"),
        ("hubert-large", "serfuse.encoders.speech_ssl:ENTRIES.hubert-large"),
        ("hubert-xlarge", "serfuse.encoders.speech_ssl:ENTRIES.hubert-xlarge"),
        ("wav2vec2-large", "serfuse.encoders.speech_ssl:ENTRIES.wav2vec2-large"),
        ("wav2vec2-robust", "serfuse.encoders.speech_ssl:ENTRIES.wav2vec2-robust"),
        ("xls-r-300m", "serfuse.encoders.speech_ssl:ENTRIES.xls-r-300m"),
        ("xls-r-1b", "serfuse.encoders.speech_ssl:ENTRIES.xls-r-1b"),
        ("xls-r-2b", "serfuse.encoders.speech_ssl:ENTRIES.xls-r-2b"),
        ("mms-300m", "serfuse.encoders.speech_ssl:ENTRIES.mms-300m"),
        ("data2vec-base", "serfuse.encoders.speech_ssl:ENTRIES.data2vec-base"),
        ("data2vec-large", "serfuse.encoders.speech_ssl:ENTRIES.data2vec-large"),
        ("audeering-dim", "serfuse.encoders.speech_ssl:ENTRIES.audeering-dim"),
        ("emotion2vec", "serfuse.encoders.emotion2vec:ENTRIES.emotion2vec"),
        ("emotion2vec-seed", "serfuse.encoders.emotion2vec:ENTRIES.emotion2vec-seed"),
        ("emotion2vec-plus", "serfuse.encoders.emotion2vec:ENTRIES.emotion2vec-plus"),
        ("emotion2vec-large", "serfuse.encoders.emotion2vec:ENTRIES.emotion2vec-large"),
        ("beats", "serfuse.encoders.beats:BEATS"),
        ("w2v-bert-2.0", "serfuse.encoders.wav2vec2_bert:W2V_BERT"),
        ("whisper-tiny", "serfuse.encoders.whisper:ENTRIES.whisper-tiny"),
        ("whisper-base", "serfuse.encoders.whisper:ENTRIES.whisper-base"),
        ("whisper-small", "serfuse.encoders.whisper:ENTRIES.whisper-small"),
        ("whisper-medium", "serfuse.encoders.whisper:ENTRIES.whisper-medium"),
        ("whisper-large-v1", "serfuse.encoders.whisper:ENTRIES.whisper-large-v1"),
        ("whisper-large-v2", "serfuse.encoders.whisper:ENTRIES.whisper-large-v2"),
        ("whisper-large-v3", "serfuse.encoders.whisper:ENTRIES.whisper-large-v3"),
        ("mimi", "serfuse.encoders.mimi:MIMI"),
        ("snac-24khz", "serfuse.encoders.snac:ENTRIES.snac-24khz"),
        ("snac-32khz", "serfuse.encoders.snac:ENTRIES.snac-32khz"),
        ("snac-44khz", "serfuse.encoders.snac:ENTRIES.snac-44khz"),
        ("ecapa", "serfuse.encoders.ecapa:ECAPA"),
        ("soundstream-lyra", "serfuse.encoders.lyra:LYRA"),
        ("ge2e", "serfuse.encoders.ge2e:GE2E_ENTRY"),
        ("speech-embedding", "serfuse.encoders.speech_embedding:SPEECH_EMBEDDING"),
        ("logmel", "serfuse.encoders.logmel:LOGMEL"),
        ("prosody", "serfuse.encoders.prosody:PROSODY"),
        ("egemaps", "serfuse.encoders.smile:ENTRIES.egemaps"),
        ("compare-2016", "serfuse.encoders.smile:ENTRIES.compare-2016"),
    ],
    group="serfuse.encoders",
    expects=EncoderEntry,
    made=hub_names.entry,
)

__all__ = [
    "ENCODERS",
    "Encoder",
    "EncoderEntry",
    "EncoderPreset",
    "LoadRequest",
    "canonical",
    "libraries",
    "load",
    "names",
    "preset",
    "table_row",
    "weights_status",
]


def names() -> list[str]:
    """All encoder names: serfuse's in table order, then those of other packages."""
    return ENCODERS.names()


def preset(name: str) -> EncoderPreset:
    """The plain data of encoder `name`.

    Raises:
        UnknownNameError: no such encoder; the message lists the choices.
        ExtensionError: it comes from another package, which is broken.
    """
    return ENCODERS.get(name).preset


def load(name: str, request: LoadRequest | None = None) -> Encoder:
    """Build encoder `name` as `request` asks, with its weights found, checked and loaded.

    Raises:
        UnknownNameError: no such encoder.
        WeightsError: weights absent, incomplete or of another model.
        ConfigError: a layer, dtype, device or option that this encoder does not have, or its library is not installed.
    """
    entry = ENCODERS.get(name)
    try:
        return entry.load(entry.preset, request or LoadRequest())
    except ModuleNotFoundError as error:
        if (missing := left_out(name, error)) is None:
            raise
        raise missing from error


def libraries(data: EncoderPreset) -> dict[str, str]:
    """Installed versions of the libraries that decide the numbers of an encoder, for its embeddings' key.

    Raises:
        ConfigError: one of them is not installed.
    """
    try:
        return {name: metadata.version(name) for name in data.libraries}
    except metadata.PackageNotFoundError as error:
        raise ConfigError(
            f"{data.name} needs {error.name}, which is not installed: {how_to_install(error.name)}."
        ) from None


def weights_status(name: str, folder: str | Path | None = None) -> tuple[bool, str]:
    """Whether the weights of `name` are on this machine, and where they are or where to get them.

    Args:
        folder: a file or folder to look at instead of the usual places.
    """
    return find_weights(preset(name), folder)


def table_row(name: str) -> dict[str, Any]:
    """One row of `serfuse list encoders`, without importing torch.

    Returns:
        name, family, vector size per pooling (`time`, `paper`, `mean-std`), sample_rate (Hz), frame_rate
        (frames per second or None), parameters, paper_parameters, megabytes, licence, citation, trained_on,
        emotion_labels, corpora_seen, layers, source, revision, weights_here, where. A size is None where only a
        checkpoint that is not here would tell.
    """
    data = preset(name)
    here, where = find_weights(data)
    return {
        "name": data.name,
        "family": data.family,
        "time": pooling.vector_size(data, "time") or None,
        "paper": pooling.vector_size(data, "paper") or None,
        "mean-std": pooling.vector_size(data, "mean-std") or None,
        "sample_rate": data.sample_rate,
        "frame_rate": data.frame_rate,
        "parameters": data.parameters,
        "paper_parameters": data.paper_parameters,
        "megabytes": data.megabytes,
        "layers": data.layers,
        "licence": data.licence,
        "citation": data.citation,
        "trained_on": data.trained_on,
        "emotion_labels": list(data.emotion_labels),
        "corpora_seen": list(data.corpora_seen),
        "source": data.source,
        "revision": data.revision,
        "weights_here": here,
        "where": where,
    }
