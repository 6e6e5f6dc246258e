"""Checkpoints of named tensors: read without executing anything, and fitted to a module exactly."""

import warnings
from pathlib import Path
from typing import Any

import torch

from ...errors import WeightsError
from ..base import EncoderPreset
from ..checks import shown
from .torch_file import check_torch_file


def read_state(preset: EncoderPreset, path: Path, part: str | None = None) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint, by name. Nothing in the file is executed.

    Args:
        preset: the encoder.
        path: of the file.
        part: where a dictionary of this name is in it, as training leaves them, the tensors of that.

    Raises:
        WeightsError: unreadable, damaged, or something else than named tensors.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: Any = load_file(path)
        else:
            check_torch_file(path)
            state = torch.load(path, map_location="cpu", weights_only=True)
    # What a damaged file raises depends on where it is damaged: RuntimeError, UnpicklingError, EOFError,
    # SafetensorError, KeyError ...
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise WeightsError(
            f"{path} could not be read as a checkpoint of {preset.name}: {reason}. {preset.where}"
        ) from error
    if isinstance(state, dict) and isinstance(state.get(part), dict):
        state = state[part]
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise WeightsError(
            f"{path} holds {_kind(state)}, expected the named tensors of {preset.name}, one flat dictionary. "
            f"{preset.where}"
        )
    return state


def tensor_size(preset: EncoderPreset, state: dict[str, torch.Tensor], name: str, path: Path, axis: int = 0) -> int:
    """The length of one axis of tensor `name`, by which a checkpoint tells its widths.

    Raises:
        WeightsError: there is no such tensor, so the checkpoint is incomplete or another model's.
    """
    tensor = state.get(name)
    if tensor is None or tensor.ndim <= axis:
        raise WeightsError(
            f"{path} is no checkpoint of {preset.name}: it lacks {name}. It holds {len(state)} tensors "
            f"({some(state)}). {preset.where}"
        )
    return int(tensor.shape[axis])


def load_part(
    preset: EncoderPreset, model: torch.nn.Module, state: dict[str, torch.Tensor], prefix: str, path: Path
) -> None:
    """Load the tensors of `state` whose names begin with `prefix` into `model`, all of them and no others.

    A `model` on the meta device gets memory, on the CPU, once names and shapes are known to agree: until then its
    size is only what the file claims.

    Raises:
        WeightsError: one is missing, left over, of another shape, or not finite.
    """
    part = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    claimed, size = sum(tensor.numel() * tensor.element_size() for tensor in part.values()), path.stat().st_size
    if claimed > size:
        raise WeightsError(f"{path} claims {claimed} bytes of weights, but the file has {size}. {preset.where}")
    try:
        # On the meta device torch compares only, and warns that it does no more.
        with warnings.catch_warnings(action="ignore", category=UserWarning):
            result = model.load_state_dict(part, strict=False)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:]]
        raise WeightsError(
            f"{path} holds another model than {preset.name}: {len(lines)} weights have another shape "
            f"({' '.join(lines[:1])}). {preset.where}"
        ) from error
    if result.missing_keys:
        raise WeightsError(
            f"{path} is not a complete checkpoint of {preset.name}: {len(result.missing_keys)} weights of its encoder "
            f"are missing ({some([prefix + name for name in result.missing_keys])}). {preset.where}"
        )
    if result.unexpected_keys:
        raise WeightsError(
            f"{path} holds another model than {preset.name}: its encoder has {len(result.unexpected_keys)} weights "
            f"more ({some([prefix + name for name in result.unexpected_keys])}). {preset.where}"
        )
    broken = [name for name, tensor in part.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise WeightsError(
            f"{path} is damaged: {some([prefix + name for name in broken])} hold NaN or infinite numbers. "
            f"{preset.where}"
        )
    if any(parameter.is_meta for parameter in model.parameters()):
        model.to_empty(device="cpu").load_state_dict(part)


def some(names: Any, limit: int = 3) -> str:
    """The first names, in order, for a message."""
    listed = sorted(names)
    return ", ".join(map(shown, listed[:limit])) + (", ..." if len(listed) > limit else "")


def _kind(state: Any) -> str:
    if not isinstance(state, dict):
        return f"a {type(state).__name__}"
    others = {type(value).__name__ for value in state.values() if not isinstance(value, torch.Tensor)}
    return f"a dictionary with values of type {some(others)}"
