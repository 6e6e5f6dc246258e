"""Checkpoints in transformers' format: a folder with config.json and weights, loaded whole or refused."""

import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers

from ...errors import WeightsError
from ..base import EncoderPreset
from ..checks import shown
from ..torch_inference import seeded
from .locate import MAX_JSON, Weights
from .state_dict import some
from .torch_file import check_torch_file

_COUNTS = ("num_hidden_layers", "num_adapter_layers", "num_feat_extract_layers", "n_codebooks")
_MOST = 256  # layers and the like; the largest published model has 48
_LONGEST = 64  # entries of a list


def load_pretrained(
    preset: EncoderPreset,
    weights: Weights,
    model_class: type,
    dtype: torch.dtype = torch.float32,
    may_miss: Collection[str] = (),
    **settings: Any,
) -> torch.nn.Module:
    """A model with every weight from the folder; transformers itself would fill gaps with random numbers.

    Args:
        preset: the encoder, for messages.
        weights: a folder of transformers' own format; nothing else is read, and no network asked.
        model_class: of transformers.
        dtype: of the weights.
        may_miss: last parts of names of weights that the encoder does not use.
        settings: further ones of `from_pretrained`.

    Raises:
        WeightsError: unreadable, unsafe or damaged weights, or of another model.
    """
    folder = weights.folder
    again = f"Get it again from https://huggingface.co/{preset.source}."
    try:
        for path in weights.checkpoints:
            if path.suffix != ".safetensors":
                check_torch_file(path)
        with quiet(), seeded(0):
            _check_size(preset, weights, model_class)
            model, info = model_class.from_pretrained(
                folder,
                local_files_only=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are refused below, by name
                dtype=dtype,
                **settings,
            )
    except WeightsError:
        raise
    # What a damaged file raises depends on where it is damaged: OSError, RuntimeError, UnpicklingError,
    # SafetensorError, ValueError, KeyError ...
    except Exception as error:
        # The first sentence: torch goes on with how to load an unsafe file all the same.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].partition(". ")[0].rstrip(".")
        raise WeightsError(f"{folder} could not be read as a checkpoint of {preset.name}: {reason}. {again}") from error
    missing = {name for name in info["missing_keys"] if name.rpartition(".")[2] not in may_miss}
    misshapen = {entry[0] for entry in info["mismatched_keys"]}
    if missing or misshapen:
        raise WeightsError(
            f"{folder} is not a complete checkpoint of {preset.name}: {_count(missing, 'missing')}, "
            f"{_count(misshapen, 'of another shape')}. transformers would fill them with random numbers. {again}"
        )
    damaged = {name for name, weight in model.named_parameters() if not torch.isfinite(weight).all()}
    if damaged:
        raise WeightsError(
            f"{folder} is damaged: NaN or infinite numbers in {len(damaged)} weights ({some(damaged)}). {again}"
        )
    return model


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
        listed = [
            f"{name} is {got[name]!r}, expected {value!r}" for name, value in expected.items() if got[name] != value
        ]
        raise WeightsError(
            f"{path.parent} holds another model than {preset.name}: {', '.join(listed)}. Point --weights at a "
            f"checkpoint of {preset.source}."
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


def _check_size(preset: EncoderPreset, weights: Weights, model_class: type) -> None:
    """Compare what config.json describes with the bytes that are there; transformers would set the memory aside."""
    path = weights.file("config.json")
    settings = read_json(preset, path)
    for name, value in settings.items():
        most, number = (_LONGEST, len(value)) if isinstance(value, list) else (_MOST, value)
        if (isinstance(value, list) or name in _COUNTS) and isinstance(number, int) and number > most:
            raise WeightsError(
                f"{path} is of no {preset.name}: {shown(name)} counts {number}, at most {most} expected."
            )
    with torch.device("meta"):
        model = model_class(model_class.config_class.from_dict(settings))
    described = sum(weight.numel() for weight in model.parameters())
    held = sum(path.stat().st_size for path in weights.checkpoints)
    if 2 * described > held:  # in half precision
        raise WeightsError(
            f"{path} describes {described:,} parameters, and the weights beside it have {held:,} bytes: they do not "
            f"belong together, or are damaged. Get both from https://huggingface.co/{preset.source}."
        )


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' load report and progress bar off the terminal; here they become errors."""
    logging = transformers.utils.logging
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
