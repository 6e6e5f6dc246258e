"""Small checkpoints of the larger and newer encoders, in the layout of their published files.

Names, prefixes and settings as the hub's files have them: `PUBLISHED` says what stands in each file beside the sizes.
"""

import json
from pathlib import Path
from types import SimpleNamespace

from checkpoints import LARGE_KIND, SMALL, fill

LAYER_NORM = {"feat_extract_norm": "layer", "do_stable_layer_norm": True}
POSITIONS = {"num_conv_pos_embeddings": 2, "conv_pos_kernel_size": 3}
CONFORMER = {**SMALL, "conv_depthwise_kernel_size": 7}
BERT = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "conv_depthwise_kernel_size": 7,
    "left_max_position_embeddings": 6,
    "right_max_position_embeddings": 3,
}
WHISPER = {
    "d_model": 32,
    "encoder_layers": 3,
    "encoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_layers": 1,
    "decoder_attention_heads": 4,
    "decoder_ffn_dim": 48,
    "vocab_size": 60,
    "pad_token_id": 50,
    "bos_token_id": 50,
    "eos_token_id": 50,
    "decoder_start_token_id": 51,
    "begin_suppress_tokens": [5, 50],
}
MIMI = {
    "hidden_size": 32,
    "num_filters": 4,
    "num_hidden_layers": 2,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "head_dim": 8,
    "codebook_size": 16,
    "codebook_dim": 8,
    "vector_quantization_hidden_dimension": 8,
    "num_quantizers": 4,
    "upsample_groups": 32,
}

_RAW = {"do_normalize": True, "feature_size": 1, "padding_value": 0.0, "sampling_rate": 16000}
_RAW |= {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "return_attention_mask": True, "padding_side": "right"}
_FBANK = {"feature_extractor_type": "SeamlessM4TFeatureExtractor", "feature_size": 80, "num_mel_bins": 80, "stride": 2}
_FBANK |= {"padding_side": "right", "padding_value": 1, "return_attention_mask": True, "sampling_rate": 16000}
_MEL = {"feature_extractor_type": "WhisperFeatureExtractor", "feature_size": 80, "sampling_rate": 16000, "n_fft": 400}
_MEL |= {"hop_length": 160, "chunk_length": 30, "n_samples": 480000, "nb_max_frames": 3000, "padding_side": "right"}
_MEL |= {"padding_value": 0.0, "return_attention_mask": False}
_CODEC = {"feature_extractor_type": "EncodecFeatureExtractor", "feature_size": 1, "sampling_rate": 24000}
_CODEC |= {"chunk_length_s": None, "overlap": None, "padding_side": "right", "padding_value": 0.0}


def _published(
    model: str, sizes: dict, *, said: dict | None = None, binary: bool = True, half: bool = False, **prepared
):
    """The class that the checkpoint was saved from, its sizes, what its config.json says besides, and its form."""
    kind = {"Whisper": _MEL, "Wav2Vec2Bert": _FBANK, "Mimi": _CODEC}
    extractor = next((found for name, found in kind.items() if model.startswith(name)), _RAW)
    return SimpleNamespace(
        model=model, sizes=sizes, said=said or {}, binary=binary, half=half, prepared={**extractor, **prepared}
    )


# encoder -> how the file on the hub was made. Pretraining heads and recognisers have their encoder under a prefix.
PUBLISHED = {
    "wavlm-base-plus": _published("WavLMModel", SMALL, do_normalize=False, said={"replace_prob": 0.5}),
    "wavlm-large": _published("WavLMModel", {**SMALL, **LAYER_NORM}),
    "hubert-large": _published("HubertModel", {**SMALL, **LARGE_KIND}),
    "hubert-xlarge": _published("HubertModel", {**SMALL, **LARGE_KIND}),
    "wav2vec2-large": _published("Wav2Vec2ForPreTraining", SMALL, said={"num_feat_extract_layers": 7}),
    "wav2vec2-robust": _published("Wav2Vec2ForPreTraining", {**SMALL, **LARGE_KIND}),
    "xls-r-300m": _published("Wav2Vec2ForPreTraining", {**SMALL, **LARGE_KIND}),
    "xls-r-1b": _published("Wav2Vec2ForPreTraining", {**SMALL, **LARGE_KIND}),
    "xls-r-2b": _published("Wav2Vec2ForPreTraining", {**SMALL, **LARGE_KIND}),
    "mms-300m": _published("Wav2Vec2ForPreTraining", {**SMALL, **LARGE_KIND}),
    "data2vec-base": _published("Data2VecAudioModel", {**SMALL, **POSITIONS}, said={"feat_extract_norm": "layer"}),
    "data2vec-large": _published("Data2VecAudioModel", {**SMALL, **POSITIONS}, said={"feat_extract_norm": "layer"}),
    "audeering-dim": _published(
        "Wav2Vec2ForSequenceClassification",
        {**SMALL, **LARGE_KIND},
        said={
            "architectures": ["Wav2Vec2ForSpeechClassification"],
            "finetuning_task": "wav2vec2_reg",
            "pooling_mode": "mean",
            "id2label": {"0": "arousal", "1": "dominance", "2": "valence"},
            "feat_extract_dropout": 0.0,
            "vocab_size": None,
        },
    ),
    "w2v-bert-2.0": _published("Wav2Vec2BertModel", BERT, binary=False),
    "whisper-tiny": _published("WhisperForConditionalGeneration", WHISPER, binary=False, said={"suppress_tokens": [1]}),
    "whisper-large-v3": _published(
        "WhisperForConditionalGeneration", {**WHISPER, "num_mel_bins": 128}, binary=False, half=True, feature_size=128
    ),
    "mimi": _published("MimiModel", MIMI, binary=False, said={"frame_rate": 12.5, "rope_theta": 10000.0}),
}


def model_of(published: SimpleNamespace):
    """The whole model of a published checkpoint, small, filled."""
    import transformers

    model_class = getattr(transformers, published.model)
    model = model_class(model_class.config_class(**published.sizes)).eval()
    fill(model)
    return model


def published_checkpoint(published: SimpleNamespace, folder: Path) -> Path:
    """Write a checkpoint as the hub's file is: its names, its form, its number format."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    model = model_of(published)
    state = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    state = {_older(name): tensor for name, tensor in state.items()}
    if published.model.startswith("Whisper"):
        del state["proj_out.weight"]  # tied to the decoder's embedding, so not in the file
    if published.sizes.get("d_model") is None and "Classification" in published.model:
        state = {name: tensor for name, tensor in state.items() if not name.startswith(("projector.", "classifier."))}
        width = published.sizes["hidden_size"]  # audeering's EmotionModel has a head of its own
        state |= {
            "classifier.dense.weight": torch.zeros(width, width),
            "classifier.out_proj.weight": torch.zeros(3, width),
        }
    if published.half:
        state = {name: tensor.half() for name, tensor in state.items()}
    if published.binary:
        torch.save(state, folder / "pytorch_model.bin")
    else:
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    config = {**json.loads(model.config.to_json_string()), **published.said}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "preprocessor_config.json").write_text(json.dumps(published.prepared))
    return folder


def _older(name: str) -> str:
    """Names that transformers had when the files were published."""
    for new, old in (("0", "weight_g"), ("1", "weight_v")):
        name = name.replace(f"conv.parametrizations.weight.original{new}", f"conv.{old}")
    if name.startswith(("encoder.encoder_seanet.", "decoder.decoder_seanet.")):  # of Mimi
        return name.replace("encoder.encoder_seanet.", "encoder.").replace("decoder.decoder_seanet.", "decoder.")
    for part in (
        "encoder.encoder_transformer",
        "encoder.downsample",
        "decoder.decoder_transformer",
        "decoder.upsample",
    ):
        if name.startswith(part):
            return name.partition(".")[2]
    return name
