"""w2v-BERT 2.0: a conformer on mel bands, through transformers."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from .base import TRANSFORMERS_WEIGHTS, EncoderEntry, EncoderPreset, LoadRequest
from .checks import DTYPES, resized
from .layered import LayeredEncoder
from .resolve import open_request
from .transformers_encoder import open_model

if TYPE_CHECKING:
    import torch

_MATRICES = 5  # of frames by frames, for each head, beside the one of relative keys
_PREPARED = {"sampling_rate": 16000, "num_mel_bins": 80, "feature_size": 80, "stride": 2, "padding_side": "right"}


class Wav2Vec2Bert(LayeredEncoder):
    """80 mel bands as Kaldi computes them, each brought to mean 0 and variance 1 over the clip, two frames at a time.

    transformers' own extractor fills an odd frame up and masks it; the masked row is no frame here. The model masks
    what is behind a clip in its convolutions too, so clips of different length share a pass.
    """

    pads = True

    def __init__(self, preset: EncoderPreset, model: "torch.nn.Module", **settings: Any) -> None:
        import transformers

        config = model.config
        preset = resized(preset, vector_size=config.hidden_size, layers=config.num_hidden_layers)
        width = config.hidden_size // config.num_attention_heads
        settings["attention"] = _MATRICES * config.num_attention_heads + width
        super().__init__(preset, model, model.encoder.layers, **settings)
        self._mel = transformers.SeamlessM4TFeatureExtractor()

    def _pieces(self, clips: list[np.ndarray]) -> "Iterator[tuple[Any, list[tuple[int, int]]]]":
        import torch

        found = [self._mel(clip, sampling_rate=self.sample_rate, return_tensors="np") for clip in clips]
        longest = max(clip["attention_mask"].shape[1] for clip in found)
        mask = np.zeros((len(clips), longest), found[0]["attention_mask"].dtype)
        features = np.zeros((len(clips), longest, found[0]["input_features"].shape[2]), np.float32)
        for row, own, clip in zip(features, mask, found, strict=True):
            row[: len(clip["input_features"][0])] = clip["input_features"][0]
            own[: len(clip["attention_mask"][0])] = clip["attention_mask"][0]
        inputs = torch.from_numpy(features).to(self.device, self._dtype), torch.from_numpy(mask).to(self.device)
        yield inputs, [(number, int(own.sum())) for number, own in enumerate(mask)]

    def _run(self, inputs: "tuple[torch.Tensor, torch.Tensor]") -> "torch.Tensor":
        features, mask = inputs
        return self._model(features, attention_mask=mask).last_hidden_state


def load(preset: EncoderPreset, request: LoadRequest) -> Wav2Vec2Bert:
    """Build the encoder.

    Raises:
        WeightsError: weights absent, incomplete, unreadable or of another model.
        ConfigError: a layer, dtype, device or option that it does not have.
    """
    opening = open_request(preset, request, DTYPES)
    model = open_model(
        preset,
        opening.weights,
        _build,
        "Wav2Vec2BertConfig",
        prefixes=("wav2vec2_bert.", ""),
        prepared=_PREPARED,
        may_miss=frozenset({"masked_spec_embed"}),
    )
    return Wav2Vec2Bert(
        preset,
        model,
        **opening.settings,
    )


def build(preset: EncoderPreset) -> "torch.nn.Module":
    """The full-size architecture, with whatever weights torch's generator and default device give."""
    return _build(dict(preset.config["architecture"]))


def _build(settings: dict[str, Any]) -> "torch.nn.Module":
    import torch
    import transformers

    config = transformers.Wav2Vec2BertConfig(**settings)
    config._attn_implementation = "eager"
    model = transformers.Wav2Vec2BertModel(config)
    if model.encoder.embed_positions is not None:
        # Computed, in no checkpoint, and needs numbers also beside a meta device.
        with torch.device("cpu"):
            model.encoder.embed_positions = type(model.encoder.embed_positions)(config)
    return model


W2V_BERT = EncoderEntry(
    EncoderPreset(
        name="w2v-bert-2.0",
        family="attention",
        sample_rate=16000,
        vector_size=1024,
        parameters=580_493_120,
        megabytes=2323,
        licence="MIT",
        source="facebook/w2v-bert-2.0",
        files=("config.json", "preprocessor_config.json", TRANSFORMERS_WEIGHTS),
        hop=320,
        layers=24,
        min_samples=560,
        citation="Seamless Communication et al., Seamless, 2023, arXiv:2312.05187",
        trained_on="4.5 million h of speech in more than 143 languages, without labels; which recordings is not known",
        config={"model_type": "wav2vec2-bert", "architecture": {"hidden_size": 1024}},
    ),
    load,
)
