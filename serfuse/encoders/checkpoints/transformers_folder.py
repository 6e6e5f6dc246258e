"""Checkpoints in transformers' format: a folder with config.json and weights, loaded whole or refused.

transformers builds the model, from what `transformers_config` admits of config.json. It reads no file itself: its own
loader follows what a folder says (other weights, adapters, kernels), and fills gaps with random numbers.
"""

import dataclasses
import json
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ...errors import WeightsError
from ..base import EncoderPreset
from ..checks import shown
from ..torch_inference import seeded
from .locate import MAX_JSON, Weights
from .state_dict import again, normed, read_state, reading, some
from .transformers_config import admitted


def load_model(
    preset: EncoderPreset,
    weights: Weights,
    build: Callable[[dict[str, Any]], torch.nn.Module],
    config_class: type,
    may_miss: Collection[str] = (),
    *,
    rename: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]] | None = None,
) -> torch.nn.Module:
    """A model with every weight from the folder.

    Args:
        preset: the encoder.
        weights: a folder of transformers' own format; nothing else is read, and no network asked.
        build: a model of such settings, on torch's default device.
        config_class: of transformers, for the fields it knows.
        may_miss: last parts of names of weights that the encoder does not use.
        rename: from the names in the files to those of the model, by default `present_names`.

    Raises:
        WeightsError: unreadable, unsafe or damaged weights, or of another model.
    """
    path = weights.file("config.json")
    known = {field.name for field in dataclasses.fields(config_class)}
    settings = admitted(preset, path, read_json(preset, path), known)
    _check_size(preset, weights, path, config_class(**settings))
    state = (rename or present_names)(read_all(preset, weights))
    # Some of transformers' modules draw numbers even on the meta device.
    with quiet(), seeded(0), reading(preset, weights.folder), torch.device("meta"):
        model = build(settings)
    if preset.config.get("any_size"):
        _check_left_over(preset, weights, model, state)
    fill(preset, weights.folder, model, state, may_miss)
    return model


_HEADS = (
    *("quantizer.", "project_hid.", "project_q.", "lm_head.", "classifier.", "projector.", "layer_weights"),
    *("final_proj.", "label_embs_concat", "speaker_proj.", "ctc_proj.", "tdnn.", "decoder.", "decoder_transformer."),
    *("upsample.", "encoder.encoder_transformer.rotary_emb.", "feature_extractor.weight", "feature_extractor.bias"),
)
"""Heads, decoders and quantisers, which may stand beside an encoder that has no prefix."""


def _check_left_over(
    preset: EncoderPreset, weights: Weights, model: torch.nn.Module, state: dict[str, torch.Tensor]
) -> None:
    """Refuse a checkpoint of anybody's with tensors inside the encoder that its config.json does not describe."""
    expected = model.state_dict()
    strange = {
        name
        for name in state
        if name not in expected and not name.startswith(_HEADS) and not name.endswith((".inv_freq", ".pe"))
    }
    if strange:
        raise WeightsError(
            f"{weights.folder} cannot be run exactly: {len(strange)} tensors ({some(strange)}) are of no part that its "
            f"config.json describes as a {preset.config['model_type']} encoder; adapters that are added to a model are "
            "such. Merge them into the model and save it, or take another checkpoint."
        )


def read_all(preset: EncoderPreset, weights: Weights) -> dict[str, torch.Tensor]:
    """The tensors of all files of a checkpoint, by name.

    Raises:
        WeightsError: a file is unreadable or damaged, or two hold one name.
    """
    state: dict[str, torch.Tensor] = {}
    for path in weights.checkpoints:
        part = read_state(preset, path)
        twice = state.keys() & part.keys()
        if twice:
            raise WeightsError(f"{path} holds weights that another file beside it holds too: {some(twice)}.")
        state |= part
    return state


def without_weight_norm(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors with weight norm multiplied out, under either of torch's names for it.

    A norm for each place of the first axis. One that does not fit stays as it is, so that its weight is found missing.
    """
    plain = {}
    names = (
        (".weight_g", ".weight_v"),
        (".parametrizations.weight.original0", ".parametrizations.weight.original1"),
    )
    for name, tensor in state.items():
        norm = next((name.removesuffix(v) + g for g, v in names if name.endswith(v)), None)
        weight = normed(state.get(norm), tensor, 0)
        if weight is not None:
            module = norm.removesuffix(".weight_g").removesuffix(".parametrizations.weight.original0")
            plain[f"{module}.weight"] = weight
        elif not any(name.endswith(g) and name.removesuffix(g) + v in state for g, v in names):
            plain[name] = tensor
    return plain


_BASES = ("wav2vec2.", "hubert.", "wavlm.", "unispeech.", "unispeech_sat.", "data2vec_audio.", "wav2vec2_conformer.")
"""What a checkpoint with a head calls the encoder in it."""


def part_of(state: dict[str, torch.Tensor], prefixes: Collection[str]) -> dict[str, torch.Tensor]:
    """The tensors under the first prefix that any name begins with, by their names without it.

    What stands beside them is the head that the checkpoint was trained with: of a recogniser, a classifier, a decoder.
    """
    for prefix in prefixes:
        if part := {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}:
            return part
    return {}


def present_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Names as present transformers and torch give them: without the head's prefix, weight norm parametrised."""
    renamed = {}
    for name, tensor in part_of(state, (*_BASES, "")).items():
        for old, new in (("weight_g", "original0"), ("weight_v", "original1")):
            if name.endswith(f".{old}"):
                name = f"{name.removesuffix(old)}parametrizations.weight.{new}"
        renamed[name] = tensor
    return renamed


def fill(
    preset: EncoderPreset,
    place: Path,
    model: torch.nn.Module,
    state: dict[str, torch.Tensor],
    may_miss: Collection[str] = (),
) -> None:
    """Make the tensors of `state` the parameters of `model`, which is on the meta device, without a copy.

    Args:
        preset: the encoder.
        place: of the checkpoint, for messages.
        model: gets them; tensors that it has no place for are left out.
        state: by the model's names.
        may_miss: last parts of names of weights that the encoder does not use.

    Raises:
        WeightsError: weights are missing, of another shape, or damaged.
    """
    expected = model.state_dict()
    part = {name: tensor for name, tensor in state.items() if name in expected}
    absent = expected.keys() - part.keys()
    missing = {name for name in absent if name.rpartition(".")[2] not in may_miss}
    misshapen = {name for name, tensor in part.items() if tensor.shape != expected[name].shape}
    if missing or misshapen:
        raise WeightsError(
            f"{place} is not a complete checkpoint of {preset.name}: {_count(missing, 'missing')}, "
            f"{_count(misshapen, 'of another shape')}. transformers would fill them with random numbers. "
            f"{again(preset)}"
        )
    damaged = {name for name, tensor in part.items() if not _finite(tensor)}
    if damaged:
        raise WeightsError(
            f"{place} is damaged: NaN or infinite numbers in {len(damaged)} weights ({some(damaged)}). {again(preset)}"
        )
    for name in absent - missing:
        part[name] = torch.zeros(expected[name].shape)
    part = {name: tensor.to(expected[name].dtype).contiguous() for name, tensor in part.items()}
    with warnings.catch_warnings(action="ignore", category=UserWarning):
        model.load_state_dict(part, assign=True)
    without = [name for name, buffer in model.named_buffers() if buffer.is_meta]
    if without:
        raise WeightsError(f"{place} cannot be loaded: no numbers for {some(without)}. {again(preset)}")


def _finite(tensor: torch.Tensor) -> bool:
    try:
        return bool(torch.isfinite(tensor).all())
    except (RuntimeError, NotImplementedError):  # eight-bit floats
        return False


def _check_size(preset: EncoderPreset, weights: Weights, path: Path, config: Any) -> None:
    """Compare what config.json describes with the bytes that are there, before anything is built.

    On the meta device a model takes no memory, in theory: transformers makes some parameters without asking for it.
    """
    described = _described(config)
    held = sum(path.stat().st_size for path in weights.checkpoints)
    if 2 * described > held:  # in half precision
        raise WeightsError(
            f"{path} describes at least {described:,} parameters, and the weights beside it have {held:,} bytes: they "
            f"do not belong together, or are damaged. Get both from {preset.home}."
        )


def _described(config: Any) -> int:
    """Parameters of the larger matrices of a model; all others are few beside them."""
    if config.model_type == "dac":
        widths = [config.encoder_hidden_size << number for number in range(len(config.downsampling_ratios) + 1)]
        units = sum(3 * (7 + 1) * width**2 for width in widths[:-1])
        strides = zip(widths, config.downsampling_ratios, strict=False)
        return units + sum(2 * stride * 2 * width**2 for width, stride in strides) + 3 * widths[-1] ** 2
    if config.model_type == "whisper":
        width = config.d_model
        layer = 4 * width**2 + 2 * width * config.encoder_ffn_dim
        front = 3 * width * (config.num_mel_bins + width) + config.max_source_positions * width
        return front + config.encoder_layers * layer
    if config.model_type == "mimi":
        widths = [config.num_filters << number for number in range(len(config.upsampling_ratios) + 1)]
        strides = zip(widths, reversed(config.upsampling_ratios), strict=False)
        front = sum(2 * stride * 2 * width**2 for width, stride in strides)
        books = config.num_quantizers * config.codebook_size * config.codebook_dim
        attention = 2 * config.hidden_size * config.head_dim * (config.num_attention_heads + config.num_key_value_heads)
        layer = attention + 2 * config.hidden_size * config.intermediate_size
        return front + books + config.num_hidden_layers * layer
    hidden = config.hidden_size
    layer = 4 * hidden**2 + 2 * hidden * config.intermediate_size
    if config.model_type.endswith(("-conformer", "-bert")):
        layer += 2 * hidden * config.intermediate_size + (3 * hidden + config.conv_depthwise_kernel_size) * hidden
    if config.model_type == "wav2vec2-bert":
        return config.feature_projection_input_dim * hidden + config.num_hidden_layers * layer
    channels = [1, *config.conv_dim]
    taps = zip(channels, channels[1:], config.conv_kernel, strict=False)
    front = sum(inputs * outputs * kernel for inputs, outputs, kernel in taps) + channels[-1] * hidden
    kernel, count = config.num_conv_pos_embeddings, 1
    if config.model_type == "data2vec-audio":
        kernel, count = config.conv_pos_kernel_size, config.num_conv_pos_embeddings
    positions = count * hidden * (hidden // config.num_conv_pos_embedding_groups) * kernel
    if config.model_type == "wav2vec2-conformer":
        positions = 0
    buckets = getattr(config, "num_buckets", 0) * config.num_attention_heads
    return front + positions + buckets + config.num_hidden_layers * layer


def check_model(preset: EncoderPreset, path: Path, expected: dict[str, Any], defaults: dict[str, Any]) -> None:
    """Compare a `config.json` with what tells this model from others.

    Args:
        preset: the encoder.
        path: of the file.
        expected: setting -> value.
        defaults: setting -> what transformers takes where the file leaves it out.

    Raises:
        WeightsError: it cannot be read, or is of another model.
    """
    settings = read_json(preset, path)
    got = {name: settings.get(name, defaults.get(name)) for name in expected}
    if got != expected:
        other = f", or take this one as it is: --encoder hf:{path.parent}" if preset.family == "attention" else ""
        listed = [
            f"{name} is {shown(repr(got[name]))}, expected {value!r}"
            for name, value in expected.items()
            if got[name] != value
        ]
        raise WeightsError(
            f"{path.parent} holds another model than {preset.name}: {', '.join(listed)}. Point --weights at a "
            f"checkpoint of {preset.source}{other}."
        )


def read_json(preset: EncoderPreset, path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        WeightsError: it cannot be read, or is something else.
    """
    try:
        if path.stat().st_size > MAX_JSON:
            raise ValueError(f"{path.stat().st_size} bytes, at most {MAX_JSON} expected")
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path} cannot be read as JSON: {error}.") from error
    if not isinstance(content, dict):
        raise WeightsError(f"{path} holds a {type(content).__name__}, expected a JSON object of {preset.name}.")
    return content


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' load report and progress bar off the terminal; here they become errors."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _count(names: set[str], what: str) -> str:
    return f"{len(names)} weights are {what}" + (f" ({some(names)})" if names else "")
