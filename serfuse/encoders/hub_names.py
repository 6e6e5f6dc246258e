"""Encoders that no table holds: `hf:OWNER/NAME` of the hub, or `hf:./FOLDER`, any checkpoint of a known architecture.

What such a name means is read off the checkpoint's own config.json when it is loaded. In the store, in runs and in
kept models it is called `hf.OWNER--NAME` or `hf.FOLDER`, which is a name of a folder too and leads back: `--` cannot
be part of a name on the hub.
"""

import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import ConfigError, WeightsError
from .base import TRANSFORMERS_WEIGHTS, Encoder, EncoderEntry, EncoderPreset, LoadRequest
from .checkpoints.locate import find_weights, resolve
from .checks import shown

PREFIX = "hf:"
_KEPT = "hf."
_HUB = re.compile(
    r"(?P<owner>[A-Za-z0-9][\w.-]{0,95})/(?P<name>[A-Za-z0-9][\w.-]{0,95})(@(?P<revision>[\w.-]+))?", re.A
)
_SAFE = re.compile(r"hf\.[A-Za-z0-9][A-Za-z0-9._-]{0,199}", re.A)

_OPTIONS = {"codebooks": 0}  # of a codec; what another architecture does not have is refused when it is loaded

# model_type of config.json -> the family's loader, and what of its presets a checkpoint cannot say.
_SPEECH = ("speech_ssl", {"sample_rate": 16000})
_FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "wavlm": _SPEECH,
    "wav2vec2": _SPEECH,
    "hubert": _SPEECH,
    "unispeech": _SPEECH,
    "unispeech-sat": _SPEECH,
    "data2vec-audio": _SPEECH,
    "wav2vec2-conformer": _SPEECH,
    "wav2vec2-bert": ("wav2vec2_bert", {"sample_rate": 16000, "hop": 320, "min_samples": 560}),
    "whisper": ("whisper", {"sample_rate": 16000, "hop": 320, "min_samples": 400}),
    "mimi": ("mimi", {"sample_rate": 24000, "family": "codec"}),
}

# Of transformers, where a config.json leaves them out.
_WIDTHS = {"hidden_size": 768, "num_hidden_layers": 12}

# Checkpoints of the hub that are often taken and were trained on emotion labels: name -> corpora.
_EMOTION_LABELS = {
    "superb/wav2vec2-base-superb-er": ("iemocap",),
    "superb/wav2vec2-large-superb-er": ("iemocap",),
    "superb/hubert-base-superb-er": ("iemocap",),
    "superb/hubert-large-superb-er": ("iemocap",),
    "ehcalabres/wav2vec2-lg-xlsr-en-speech-emotion-recognition": ("ravdess",),
    "harshit345/xlsr-wav2vec-speech-emotion-recognition": ("aesdd",),
}


def canonical(name: str) -> str:
    """How an encoder is called in keys, tables and names of folders: `hf:OWNER/NAME` -> `hf.OWNER--NAME`.

    Any other name is given back as it is.

    Raises:
        ConfigError: it begins with `hf:` and is neither a model of the hub nor a folder.
    """
    return _read(name)[0] if name.startswith(PREFIX) else name


def entry(name: str) -> EncoderEntry | None:
    """The encoder that a name in either form means, `None` for a name that is of another kind.

    Raises:
        ConfigError: it begins with `hf:` and is neither a model of the hub nor a folder.
    """
    if name.startswith(PREFIX):
        kept, source, revision, folder = _read(name)
    elif _SAFE.fullmatch(name):
        owner, mark, model = name.removeprefix(_KEPT).partition("--")
        beside = Path(name.removeprefix(_KEPT))  # where `hf:./FOLDER` was given from; its digest is compared
        kept, source, revision = name, f"{owner}/{model}" if mark else "", None
        folder = str(beside.resolve()) if not mark and beside.is_dir() else ""
    else:
        return None
    return EncoderEntry(_preset(kept, source, revision, folder), load)


def load(preset: EncoderPreset, request: LoadRequest) -> Encoder:
    """Build the encoder of whatever architecture its config.json names.

    Raises:
        WeightsError: weights absent, incomplete or unreadable, or of an architecture that cannot be had exactly.
        ConfigError: a layer, dtype, device or option that it does not have.
    """
    from importlib import import_module

    from .checkpoints.transformers_folder import read_json

    if request.weights == "random":
        raise WeightsError(
            f"{preset.name} has no random weights: its architecture is in its checkpoint. Take an encoder of "
            "`serfuse list encoders`."
        )
    path = resolve(preset, request).file("config.json")
    settings = read_json(preset, path)
    model_type = settings.get("model_type")
    if not isinstance(model_type, str) or model_type not in _FAMILIES:
        raise WeightsError(
            f"{path} says model_type {shown(repr(model_type))}, which serfuse cannot run exactly. It knows "
            f"{', '.join(_FAMILIES)}."
        )
    preset = replace(
        preset,
        **_said(settings),
        config={"model_type": model_type, "any_size": True},
        options=_OPTIONS if model_type == "mimi" else {},
    )
    return import_module(f".{_FAMILIES[model_type][0]}", __package__).load(preset, request)


def _read(name: str) -> tuple[str, str, str | None, str]:
    """`hf:...` -> the kept name, the name on the hub, a revision of it, and the folder; "" where there is none."""
    given = name.removeprefix(PREFIX)
    if found := _HUB.fullmatch(given):
        kept = f"{_KEPT}{found['owner']}--{found['name']}"
        if "--" not in found["owner"] + found["name"] and _SAFE.fullmatch(kept):
            return kept, f"{found['owner']}/{found['name']}", found["revision"], ""
    elif given.startswith((".", "/", "~")):
        # Of a user that does not exist, through links in a circle, or with a zero byte in it: no folder.
        with suppress(RuntimeError, ValueError, OSError):
            folder = Path(given).expanduser().resolve()
            kept = _KEPT + re.sub(r"-{2,}", "-", re.sub(r"[^A-Za-z0-9._-]", "-", folder.name)).lstrip("._-")
            if _SAFE.fullmatch(kept):
                return kept, "", None, str(folder)
    raise ConfigError(
        f"{shown(name)} names no encoder. Expected hf:OWNER/NAME, a model of the hub (such as "
        "hf:microsoft/wavlm-base-plus-sv), or a folder with its path: hf:./FOLDER or hf:/PATH/FOLDER."
    )


def _preset(kept: str, source: str, revision: str | None, folder: str) -> EncoderPreset:
    """What is known without the checkpoint; sizes where its config.json is here."""
    known = _published(source) if source else None
    preset = EncoderPreset(
        name=kept,
        family="attention",
        sample_rate=16000,
        vector_size=0,
        licence=known.licence if known else "as its model card says",
        source=source or folder or f"the folder that it was extracted from ({kept.removeprefix(_KEPT)})",
        revision=revision or (known.revision if known else None),
        files=("config.json", "preprocessor_config.json", TRANSFORMERS_WEIGHTS),
        where="" if source else f"It was the folder {kept.removeprefix(_KEPT)}: give it as --weights {kept}=FOLDER.",
        citation=known.citation if known else "",
        trained_on=known.trained_on if known else "",
        emotion_labels=known.emotion_labels if known else _EMOTION_LABELS.get(source, ()),
        corpora_seen=known.corpora_seen if known else (),
        folder=folder,
        options=_OPTIONS,
    )
    return replace(preset, **_sizes(preset))


def _published(source: str) -> EncoderPreset | None:
    from . import ENCODERS

    presets = (ENCODERS.get(name).preset for name in ENCODERS.serfuse_names())
    return next((preset for preset in presets if preset.source == source), None)


def _sizes(preset: EncoderPreset) -> dict[str, Any]:
    """What a config.json on this machine says; nothing is refused here."""
    import json

    from .checkpoints.locate import MAX_JSON

    here, where = find_weights(preset)
    path = Path(where) / "config.json"
    try:
        if here and path.stat().st_size <= MAX_JSON:
            return _said(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    return {}


def _said(settings: dict[str, Any]) -> dict[str, Any]:
    """Fields of a preset by a config.json; sizes out of range are 0, and refused when the model is built.

    Raises:
        KeyError: of an architecture that serfuse does not know.
    """
    module, fields = _FAMILIES[settings["model_type"]]

    def size(*names: str) -> int:
        value = next((settings[name] for name in names if name in settings), _WIDTHS.get(names[-1], 0))
        return value if type(value) is int and 0 < value < 1 << 16 else 0

    layers = 0 if module == "mimi" else size("encoder_layers", "num_hidden_layers")
    return {**fields, "vector_size": size("d_model", "hidden_size"), "layers": layers}
