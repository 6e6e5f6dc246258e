"""emotion2vec and the tuned emotion2vec+ family: the frames of any of their twelve layers."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import WeightsError
from .base import EncoderEntry, EncoderPreset, LoadRequest
from .checks import DTYPES, resized
from .layered import LayeredEncoder, load_network
from .resolve import open_request

if TYPE_CHECKING:
    import torch

    from .emotion2vec_model import Emotion2VecNetwork

_HOP, _SHORTEST = 320, 400
_CONTEXT = 4  # layers of the context encoder, which come first
_AUDIO = "modality_encoders.AUDIO."
_MATRICES = 3
"""Float32 matrices of frames by frames, for each head, that are held at once: the bias as it is made and padded."""


class Emotion2Vec(LayeredEncoder):
    """50 frames a second of a data2vec 2.0 transformer; each clip is brought to mean 0 and variance 1 first.

    Layers 1 to 4 are those of its context encoder, 5 to 12 those of the model behind it.
    """

    def __init__(self, preset: EncoderPreset, model: "Emotion2VecNetwork", **settings: Any) -> None:
        preset = resized(preset, vector_size=model.norm.normalized_shape[0], layers=len(model.layers))
        super().__init__(preset, model, model.layers, attention=_MATRICES * model.alibi_scale.numel(), **settings)

    def _pieces(self, clips: list[np.ndarray]) -> "Iterator[tuple[torch.Tensor, list[tuple[int, int]]]]":
        import torch

        batch = torch.from_numpy(np.stack(clips))
        normal = torch.nn.functional.layer_norm(batch, batch.shape[1:])
        frames = (batch.shape[1] - _SHORTEST) // _HOP + 1
        yield normal.to(self.device, self._dtype), [(number, frames) for number in range(len(clips))]

    def _run(self, inputs: "torch.Tensor") -> "torch.Tensor":
        return self._model(inputs)


def load(preset: EncoderPreset, request: LoadRequest) -> Emotion2Vec:
    """Build the encoder; the head of a tuned checkpoint and the decoder of a pretrained one are left out.

    Raises:
        WeightsError: weights absent, incomplete, unsafe or of another model.
        ConfigError: a layer, dtype, device or option that it does not have.
    """
    opening = open_request(preset, request, DTYPES)
    model = load_network(preset, opening.weights, build, _from_file)
    return Emotion2Vec(preset, model, **opening.settings)


def build(preset: EncoderPreset) -> "Emotion2VecNetwork":
    """The full-size architecture, with whatever weights torch's generator and default device give."""
    from .emotion2vec_model import Emotion2VecNetwork

    return Emotion2VecNetwork(**preset.config)


def own_names(state: "dict[str, torch.Tensor]") -> "dict[str, torch.Tensor]":
    """The tensors of the encoder, by the names of `Emotion2VecNetwork`.

    Tuned checkpoints call the model within them `d2v_model`. What is neither in it nor in its part for audio is a head;
    that part's decoder served the pretraining.
    """
    renamed = {}
    for name, tensor in state.items():
        name = name.removeprefix("d2v_model.")
        if behind := re.fullmatch(r"blocks\.(\d{1,4})\.(.+)", name):
            renamed[f"layers.{_CONTEXT + int(behind[1])}.{behind[2]}"] = tensor
        elif name.startswith(_AUDIO) and not name.startswith(f"{_AUDIO}decoder."):
            name = name.removeprefix(_AUDIO)
            name = re.sub(r"^context_encoder\.blocks\.", "layers.", name).removeprefix("context_encoder.")
            # As fairseq wrote it before scales of single layers came.
            renamed[name] = tensor[None] if name == "alibi_scale" and tensor.ndim == 4 else tensor
    return renamed


def _from_file(preset: EncoderPreset, path: Path) -> "Emotion2VecNetwork":
    """A checkpoint of fairseq's, `{"model": tensors, "cfg": settings ...}`, or the tensors alone."""
    import torch

    from .checkpoints.state_dict import load_part, tensor_size
    from .emotion2vec_model import Emotion2VecNetwork

    state = own_names(_read(preset, path))
    # Widths are free, so that a small checkpoint loads; layers and kernels are not: their tensors would not fit.
    sizes = {
        "channels": tensor_size(preset, state, "local_encoder.conv_layers.0.0.weight", path),
        "width": tensor_size(preset, state, "extra_tokens", path, axis=2),
        "tokens": tensor_size(preset, state, "extra_tokens", path, axis=1),
        "heads": tensor_size(preset, state, "alibi_scale", path, axis=2),
        "hidden": tensor_size(preset, state, "layers.0.mlp.fc1.weight", path),
    }
    if not sizes["heads"] or sizes["width"] % sizes["heads"] or sizes["width"] % 16:
        raise WeightsError(
            f"{path} is no checkpoint of {preset.name}: {sizes['width']} numbers cannot be shared by "
            f"{sizes['heads']} heads and 16 groups. {preset.where}"
        )
    with torch.device("meta"):
        model = Emotion2VecNetwork(**{**preset.config, **sizes})
    load_part(preset, model, state, "", path)
    return model


def _read(preset: EncoderPreset, path: Path) -> "dict[str, torch.Tensor]":
    from .checkpoints.restricted_unpickler import IGNORED, WEIGHTS
    from .checkpoints.state_dict import flat, is_safetensors, read_state, reading
    from .checkpoints.torch_file import open_torch_file

    if is_safetensors(path):
        return read_state(preset, path)
    with reading(preset, path), open_torch_file(path, WEIGHTS | IGNORED) as file:
        content = file.content
        if isinstance(content, dict) and isinstance(content.get("model"), dict):
            content = content["model"]
        if isinstance(content, dict):
            # The average of the weights over the training, a dictionary within the dictionary.
            content = {name: value for name, value in content.items() if name != "_ema"}
        return file.tensors(flat(preset, path, content))


_SEEN = ("iemocap", "meld", "mead", "cmu-mosei", "msp-podcast")
_EMOBOX = (
    *("aesdd", "ased", "asvp-esd", "cafe", "casia", "cremad", "emns", "emodb", "emov-db", "emovo", "emozionalmente"),
    *("enterface", "iemocap", "jl-corpus", "m3ed", "mead", "meld", "mer2023", "mesd", "msp-podcast", "oreau"),
    *("pavoque", "polish", "ravdess", "resd", "savee", "shemo", "subesco", "tess", "turev-db", "urdu"),
    "esd",  # behind those whose names hold this one
)
"""The 32 corpora of EmoBox (Ma et al., arXiv:2406.07162), 294 h. The model cards say that the family was tuned on 201 h
of them and not on which, so that each may be among them."""

_PRETRAINED = (
    "speech of LibriSpeech (data2vec), then of IEMOCAP, MELD, MEAD, CMU-MOSEI and MSP-Podcast, 262 h, without labels"
)
_TUNED = (
    f"as emotion2vec ({_PRETRAINED}); then emotion labels of 201 h of EmoBox, whose 32 corpora hold CREMA-D, Emo-DB, "
    "MESD, IEMOCAP and MSP-Podcast"
)
_PAPER = "Ma et al., emotion2vec, Findings of ACL 2024, arXiv:2312.15185"


def _preset(name: str, hub: str, files: str, *, width: int = 768, heads: int = 12, **fields: Any) -> EncoderEntry:
    source = f"emotion2vec/{hub}"
    return EncoderEntry(
        EncoderPreset(
            name=name,
            family="attention",
            sample_rate=16000,
            vector_size=width,
            layers=12,
            licence="FunASR model licence (model card); the repository's README says MIT",
            source=source,
            files=(files,),
            hop=_HOP,
            min_samples=_SHORTEST,
            where=f"Get {files.partition('|')[0]} from https://huggingface.co/{source} (modelscope: iic/{hub}).",
            config={
                "channels": 512,
                "width": width,
                "heads": heads,
                "hidden": 4 * width,
                "layers": 12,
                "tokens": 10,
            },
            **fields,
        ),
        load,
    )


_PSEUDO = "then what those models labelled themselves, {} h of speech; which recordings is not known"
ENTRIES = {
    entry.name: entry
    for entry in (
        _preset(
            "emotion2vec",
            "emotion2vec_base",
            "emotion2vec_base.pt|model.pt",
            parameters=93_171_212,
            megabytes=1130,
            trained_on=_PRETRAINED,
            corpora_seen=_SEEN,
            citation=_PAPER,
        ),
        _preset(
            "emotion2vec-seed",
            "emotion2vec_plus_seed",
            "model.pt",
            parameters=93_171_212,
            megabytes=1120,
            trained_on=_TUNED,
            corpora_seen=_SEEN,
            emotion_labels=_EMOBOX,
            citation=_PAPER,
        ),
        _preset(
            "emotion2vec-plus",
            "emotion2vec_plus_base",
            "model.pt",
            parameters=93_171_212,
            megabytes=1120,
            trained_on=f"{_TUNED}; {_PSEUDO.format('4,788')}",
            corpora_seen=_SEEN,
            emotion_labels=_EMOBOX,
            citation=_PAPER,
        ),
        _preset(
            "emotion2vec-large",
            "emotion2vec_plus_large",
            "model.pt",
            width=1024,
            heads=16,
            parameters=162_130_960,
            megabytes=1946,
            revision="6c303ba987b86b93193de93e34bb2b077a6bedc4",
            revision_confirmed=False,
            trained_on=f"{_TUNED}; {_PSEUDO.format('42,526')}",
            corpora_seen=_SEEN,
            emotion_labels=_EMOBOX,
            citation=_PAPER,
        ),
    )
}
