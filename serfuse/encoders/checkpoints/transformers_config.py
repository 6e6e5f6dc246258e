"""What a `config.json` in transformers' format may say: known fields with known ranges, and nothing else reaches it.

Such a file can name other weights than those beside it, ask for code from a hub, and describe a model of any size.
transformers is handed what is admitted here, never the file. Imports no library, so that it costs nothing.
"""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from ...errors import WeightsError
from ..base import EncoderPreset
from ..checks import shown

_LAYERS = 256  # the largest published model has 48
_WIDTH = 1 << 16  # channels; mms-1b has 5120 at most
_TAPS = 1 << 12  # of a convolution; at most 128 are usual
_ENTRIES = 64  # of a list; seven are usual
_ACTIVATIONS = ("gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "relu", "silu", "swish")


def _whole(most: int, least: int = 1) -> tuple[Callable[[Any], bool], str]:
    return lambda value: type(value) is int and least <= value <= most, f"{least} to {most}"


def _wholes(most: int) -> tuple[Callable[[Any], bool], str]:
    good, said = _whole(most)
    return (
        lambda value: isinstance(value, list) and 1 <= len(value) <= _ENTRIES and all(map(good, value)),
        f"at most {_ENTRIES} numbers, {said}",
    )


def _one_of(*values: Any) -> tuple[Callable[[Any], bool], str]:
    return (
        lambda value: any(type(value) is type(good) and value == good for good in values),
        f"{' or '.join(map(repr, values))}",
    )


_FLAG = _one_of(True, False)
_SMALL = (lambda value: type(value) is float and 0 < value < 1, "a number between 0 and 1")

_SPEECH = {
    "hidden_size": _whole(_WIDTH),
    "num_hidden_layers": _whole(_LAYERS),
    "num_attention_heads": _whole(1024),
    "intermediate_size": _whole(_WIDTH),
    "hidden_act": _one_of(*_ACTIVATIONS),
    "layer_norm_eps": _SMALL,
    "feat_extract_norm": _one_of("group", "layer"),
    "feat_extract_activation": _one_of(*_ACTIVATIONS),
    "feat_proj_layer_norm": _FLAG,
    "conv_dim": _wholes(_WIDTH),
    "conv_stride": _wholes(64),
    "conv_kernel": _wholes(_TAPS),
    "conv_bias": _FLAG,
    "conv_pos_batch_norm": _FLAG,
    "num_conv_pos_embeddings": _whole(_TAPS),
    "num_conv_pos_embedding_groups": _whole(_WIDTH),
    "num_buckets": _whole(_TAPS),
    "max_bucket_distance": _whole(1 << 20),
    "do_stable_layer_norm": _FLAG,
    "adapter_attn_dim": (lambda value: value is None or _whole(_WIDTH)[0](value), f"null or 1 to {_WIDTH}"),
    "add_adapter": _one_of(False),  # with it the frames are other ones, three times fewer
}
_POSITIONS = {
    "position_embeddings_type": _one_of("relative", "rotary", None),
    "rotary_embedding_base": _whole(1 << 30),
    "max_source_positions": _whole(1 << 16),
    "conv_depthwise_kernel_size": _whole(_TAPS),
}
_ROTATION = {"rope_type": "default", "rope_theta": 10000.0}
FIELDS: dict[str, dict[str, tuple[Callable[[Any], bool], str]]] = {
    **dict.fromkeys(("wavlm", "wav2vec2", "hubert", "unispeech", "unispeech-sat"), _SPEECH),
    "data2vec-audio": {**_SPEECH, "conv_pos_kernel_size": _whole(_TAPS)},
    "wav2vec2-conformer": {**_SPEECH, **_POSITIONS},
    "wav2vec2-bert": {
        **{name: _SPEECH[name] for name in ("hidden_size", "num_hidden_layers", "num_attention_heads")},
        **{name: _SPEECH[name] for name in ("intermediate_size", "hidden_act", "layer_norm_eps", "add_adapter")},
        **_POSITIONS,
        "position_embeddings_type": _one_of("relative_key", "relative", "rotary", None),
        "feature_projection_input_dim": _one_of(160),
        "left_max_position_embeddings": _whole(_TAPS, 0),
        "right_max_position_embeddings": _whole(_TAPS, 0),
        "use_intermediate_ffn_before_adapter": _one_of(False),
    },
    "whisper": {
        "d_model": _whole(_WIDTH),
        "encoder_layers": _whole(_LAYERS),
        "encoder_attention_heads": _whole(1024),
        "encoder_ffn_dim": _whole(_WIDTH),
        "activation_function": _one_of(*_ACTIVATIONS),
        "num_mel_bins": _whole(1024),
        "scale_embedding": _FLAG,
        "max_source_positions": _one_of(1500),  # 30 s, the length that clips are filled to
    },
    "mimi": {
        "sampling_rate": _one_of(24000),
        "audio_channels": _one_of(1),
        "hidden_size": _whole(_WIDTH),
        "num_filters": _whole(_WIDTH),
        "num_residual_layers": _one_of(1),
        "upsampling_ratios": _wholes(64),
        "kernel_size": _whole(_TAPS),
        "last_kernel_size": _whole(_TAPS),
        "residual_kernel_size": _whole(_TAPS),
        "dilation_growth_rate": _whole(64),
        "use_causal_conv": _one_of(True),
        "pad_mode": _one_of("constant"),
        "compress": _whole(64),
        "codebook_size": _whole(1 << 20),
        "codebook_dim": _whole(_WIDTH),
        "num_quantizers": _whole(1024, 2),
        "use_conv_shortcut": _FLAG,
        "vector_quantization_hidden_dimension": _whole(_WIDTH),
        "num_semantic_quantizers": _whole(1024),
        "num_hidden_layers": _whole(_LAYERS),
        "intermediate_size": _whole(_WIDTH),
        "num_attention_heads": _whole(1024),
        "num_key_value_heads": _whole(1024),
        "head_dim": (lambda value: value is None or _whole(_WIDTH)[0](value), f"null or 1 to {_WIDTH}"),
        "hidden_act": _one_of(*_ACTIVATIONS),
        "norm_eps": _SMALL,
        "max_position_embeddings": _whole(1 << 20),
        "rope_theta": _one_of(10000.0, 10000),  # of earlier versions
        "rope_parameters": (lambda value: value in (None, _ROTATION), f"null or {_ROTATION}"),
        "sliding_window": _whole(1 << 20),
        "attention_bias": _one_of(False),
    },
    "dac": {"encoder_hidden_size": _whole(_WIDTH), "downsampling_ratios": _wholes(64)},
    "encodec": {
        "audio_channels": _one_of(1),
        "normalize": _one_of(False),
        "chunk_length_s": _one_of(None),
        "overlap": (lambda value: value is None or type(value) is float, "null or a number"),
        "norm_type": _one_of("weight_norm"),
        "kernel_size": _one_of(7),
        "last_kernel_size": _one_of(7),
        "residual_kernel_size": _one_of(3),
        "dilation_growth_rate": _one_of(2),
        "num_residual_layers": _one_of(1),
        "num_lstm_layers": _one_of(2),
        "use_causal_conv": _one_of(True),
        "pad_mode": _one_of("reflect"),
        "compress": _one_of(2),
        "use_conv_shortcut": _one_of(True),
        "num_filters": _whole(_WIDTH),
        "hidden_size": _whole(_WIDTH),
    },
}
"""model_type -> field that decides a frame -> what is good, and that in words."""

IGNORED = frozenset(
    {
        # who wrote it, tokens, labels, outputs
        *("architectures", "transformers_version", "model_type", "dtype", "torch_dtype", "_name_or_path"),
        *("output_hidden_states", "output_attentions", "return_dict", "chunk_size_feed_forward", "is_encoder_decoder"),
        *("id2label", "label2id", "problem_type", "vocab_size", "pad_token_id", "bos_token_id", "eos_token_id"),
        # training
        *("hidden_dropout", "activation_dropout", "attention_dropout", "feat_proj_dropout", "feat_quantizer_dropout"),
        *("final_dropout", "layerdrop", "initializer_range", "apply_spec_augment", "mask_time_prob"),
        *("mask_time_length", "mask_time_min_masks", "mask_feature_prob", "mask_feature_length"),
        *("mask_feature_min_masks", "ctc_loss_reduction", "ctc_zero_infinity", "contrastive_logits_temperature"),
        *("num_negatives", "diversity_loss_weight", "quantizer_dropout", "commitment_loss_weight"),
        "codebook_loss_weight",
        # heads, adapters that are not added, decoders, quantisers (a codec's are read off its tensors)
        *("num_codevectors_per_group", "num_codevector_groups", "codevector_dim", "proj_codevector_dim"),
        *("use_weighted_layer_sum", "classifier_proj_size", "tdnn_dim", "tdnn_kernel", "tdnn_dilation"),
        *("xvector_output_dim", "num_ctc_classes", "replace_prob", "num_clusters", "output_hidden_size"),
        *("adapter_kernel_size", "adapter_stride", "num_adapter_layers"),
        *("decoder_hidden_size", "n_codebooks", "codebook_size", "codebook_dim", "sampling_rate"),
        *("target_bandwidths", "upsampling_ratios", "trim_right_ratio", "upsample_groups"),
        *("decoder_layers", "decoder_attention_heads", "decoder_ffn_dim", "decoder_layerdrop", "max_target_positions"),
        *("decoder_start_token_id", "suppress_tokens", "begin_suppress_tokens", "median_filter_width", "adapter_act"),
        *("tie_word_embeddings", "use_cache", "use_streaming"),
        # training
        *("dropout", "encoder_layerdrop", "init_std", "conformer_conv_dropout", "layer_scale_initial_scale"),
    }
)
"""Fields that transformers knows and that decide no frame (or are compared with the preset elsewhere)."""

_ATTENTION = (None, "eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention")
_REFUSED = {
    "transformers_weights": "names other weights than those beside it",
    "auto_map": "names code to be run",
    "custom_pipelines": "names code to be run",
    "quantization_config": "asks for weights in another form",
    "use_kernels": "asks for code from a hub",
    "kernel_config": "asks for code from a hub",
}


def admitted(preset: EncoderPreset, path: Path, settings: Mapping[str, Any], known: Collection[str]) -> dict[str, Any]:
    """The fields of a `config.json` that decide a frame, each within its range.

    Fields that nobody knows are left out, as they change nothing.

    Args:
        preset: the encoder, of whose `model_type` the file is.
        path: of the file, for messages.
        settings: what it says.
        known: fields that transformers knows of this kind of model.

    Raises:
        WeightsError: a value out of range; a field that asks for other weights or for code, or that transformers knows
            and this table does not.
    """
    fields = FIELDS[preset.config["model_type"]]
    for name, value in settings.items():
        if value and name in _REFUSED:
            raise WeightsError(f"{path} was refused: its {name} {_REFUSED[name]}. {_cure(preset)}")
        if name.strip("_").startswith("attn_implementation") and value not in _ATTENTION:
            raise WeightsError(
                f"{path} was refused: its {name}, {_told(value)}, asks for code that is not transformers' own. "
                f"{_cure(preset)}"
            )
        if name in fields and not fields[name][0](value):
            counted = isinstance(value, list) and len(value) > _ENTRIES
            told = f"counts {len(value)}" if counted else f"is {_told(value)}"
            raise WeightsError(
                f"{path} is of no {preset.name}: {name} {told}, expected {fields[name][1]}. {_cure(preset)}"
            )
        if name in known and name not in fields and name not in IGNORED:
            raise WeightsError(
                f"{path} was refused: this serfuse does not know what its {shown(name)}, {_told(value)}, does to the "
                f"frames. {_cure(preset)}"
            )
    return {name: value for name, value in settings.items() if name in fields and name in known}


def _told(value: Any) -> str:
    return shown(repr(value)) if isinstance(value, str | int | float | bool | None) else f"a {type(value).__name__}"


def _cure(preset: EncoderPreset) -> str:
    return f"Take the file from {preset.home}."
