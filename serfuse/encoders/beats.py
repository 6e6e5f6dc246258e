"""BEATs, Microsoft's self-supervised transformer for sounds of all kinds: the rows of any of its layers."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import WeightsError
from .base import EncoderEntry, EncoderPreset, LoadRequest
from .checks import DTYPES, resized, shown
from .layered import LayeredEncoder, load_network
from .resolve import open_request

if TYPE_CHECKING:
    import torch

    from .beats_model import BeatsNetwork

_BANDS, _MEAN, _DEVIATION = 128, 15.41663, 6.55582
_MATRICES = 2
"""Float32 matrices of rows by rows, for each head, that are held at once: the bias, and as it was gated."""

_KIND = {
    "input_patch_size": 16,
    "conv_bias": False,
    "activation_fn": "gelu",
    "encoder_layers": 12,
    "layer_norm_first": False,
    "deep_norm": True,
    "conv_pos": 128,
    "conv_pos_groups": 16,
    "relative_position_embedding": True,
    "num_buckets": 320,
    "max_distance": 800,
    "gru_rel_pos": True,
}
"""Settings beside the weights that decide the numbers and are in no tensor's shape, as the published file has them."""


class Beats(LayeredEncoder):
    """A row for each patch of 16 columns (160 ms) by 16 of 128 mel bands, eight patches per time."""

    def __init__(self, preset: EncoderPreset, model: "BeatsNetwork", **settings: Any) -> None:
        layers = model.encoder.layers
        preset = resized(preset, vector_size=model.post_extract_proj.out_features, layers=len(layers))
        super().__init__(preset, model, layers, attention=_MATRICES * layers[0].self_attn.heads, **settings)

    def _pieces(self, clips: list[np.ndarray]) -> "Iterator[tuple[torch.Tensor, list[tuple[int, None]]]]":
        import torch
        from torchaudio.compliance import kaldi

        from .torch_inference import on_device

        spectra = [
            kaldi.fbank(clip[None] * 2**15, num_mel_bins=_BANDS, sample_frequency=self.sample_rate)
            for clip in on_device(np.stack(clips), self.device)
        ]
        bands = (torch.stack(spectra) - _MEAN) / (2 * _DEVIATION)
        yield bands.to(self._dtype), [(number, None) for number in range(len(clips))]

    def _run(self, inputs: "torch.Tensor") -> "torch.Tensor":
        return self._model(inputs)


def load(preset: EncoderPreset, request: LoadRequest) -> Beats:
    """Build the encoder; the head of a tuned checkpoint is left out.

    Raises:
        WeightsError: weights absent, incomplete, unsafe or of another model.
        ConfigError: a layer, dtype, device or option that it does not have.
    """
    opening = open_request(preset, request, DTYPES)
    model = load_network(preset, opening.weights, build, _from_file)
    return Beats(preset, model, **opening.settings)


def build(preset: EncoderPreset) -> "BeatsNetwork":
    """The full-size architecture, with whatever weights torch's generator and default device give."""
    from .beats_model import BeatsNetwork

    return BeatsNetwork(**preset.config)


def _from_file(preset: EncoderPreset, path: Path) -> "BeatsNetwork":
    """A file of the authors': `{"cfg": settings, "model": tensors}`."""
    import torch

    from .beats_model import BeatsNetwork
    from .checkpoints.state_dict import load_part, tensor_size

    state = _read(preset, path)
    # Widths are free, so that a small checkpoint loads; layers and kernels are not: their tensors would not fit.
    sizes = {
        "patch": tensor_size(preset, state, "patch_embedding.weight", path),
        "width": tensor_size(preset, state, "post_extract_proj.weight", path),
        "heads": tensor_size(preset, state, "encoder.layers.0.self_attn.grep_a", path, axis=1),
        "hidden": tensor_size(preset, state, "encoder.layers.0.fc1.weight", path),
    }
    if not sizes["heads"] or sizes["width"] % sizes["heads"] or sizes["width"] % 16:
        raise WeightsError(
            f"{path} is no checkpoint of {preset.name}: {sizes['width']} numbers cannot be shared by "
            f"{sizes['heads']} heads and 16 groups. {preset.where}"
        )
    with torch.device("meta"):
        model = BeatsNetwork(**{**preset.config, **sizes})
    load_part(preset, model, state, "", path)
    return model


def _read(preset: EncoderPreset, path: Path) -> "dict[str, torch.Tensor]":
    """The tensors of the encoder, its settings checked and weight norm multiplied out."""
    from .checkpoints.state_dict import flat, is_safetensors, normed, reading
    from .checkpoints.torch_file import open_torch_file

    with reading(preset, path):
        if is_safetensors(path):
            raise WeightsError(f"{path} is without the settings that stand in the authors' file. {preset.where}")
        with open_torch_file(path) as file:
            content = file.content if isinstance(file.content, dict) else {}
            said = content.get("cfg")
            if not isinstance(said, dict):
                raise WeightsError(f"{path} holds no cfg, the settings that the authors' file has. {preset.where}")
            told = [
                f"{name} is {shown(repr(said.get(name)))}, expected {value!r}"
                for name, value in _KIND.items()
                if said.get(name) != value
            ]
            if told:
                raise WeightsError(f"{path} is of another model than {preset.name}: {', '.join(told)}. {preset.where}")
            state = file.tensors(flat(preset, path, content.get("model")))
    state = {name: tensor for name, tensor in state.items() if not name.startswith("predictor.")}
    norm, direction = (state.pop(f"encoder.pos_conv.0.weight_{end}", None) for end in "gv")
    # Unlike elsewhere a norm for each place of the kernel.
    if direction is not None and (weight := normed(norm, direction, direction.ndim - 1)) is not None:
        state["encoder.pos_conv.0.weight"] = weight
    return state


BEATS = EncoderEntry(
    EncoderPreset(
        name="beats",
        family="attention",
        sample_rate=16000,
        vector_size=768,
        layers=12,
        parameters=90_311_664,
        megabytes=361,
        licence="MIT",
        source="https://github.com/microsoft/unilm/tree/master/beats",
        files=("BEATs_iter3_plus_AS2M.pt",),
        hop=320,
        min_samples=2800,
        where="Take BEATs_iter3_plus_AS2M.pt (361 MB) from where the README of "
        "https://github.com/microsoft/unilm/tree/master/beats leads.",
        citation="Chen et al., BEATs: Audio Pre-Training with Acoustic Tokenizers, ICML 2023, arXiv:2212.09058",
        trained_on="sounds of AudioSet, 5,800 h of web video, speech and music among them; towards tokens of a model "
        "tuned on AudioSet's labels of sounds",
        config={"patch": 512, "width": 768, "heads": 12, "hidden": 3072, "layers": 12},
    ),
    load,
)
