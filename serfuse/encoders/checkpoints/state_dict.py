"""Checkpoints of named tensors: read without executing anything, and fitted to a module exactly."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from ...errors import WeightsError
from ..base import EncoderPreset
from ..checks import shown
from .restricted_unpickler import Described
from .torch_file import open_torch_file

_DTYPES = {f"torch.{name}" for name in ("float16", "bfloat16", "float32", "float64", "int64")}
"""Of a checkpoint's tensors; int64 are counters of batches."""


def read_state(preset: EncoderPreset, path: Path, part: str | None = None) -> dict[str, torch.Tensor]:
    """The tensors of a flat checkpoint, by name: safetensors, or a file of torch.save. Nothing in it is executed.

    Args:
        preset: the encoder.
        path: of the file.
        part: where a file of torch.save holds a dictionary of this name, as training leaves them, the tensors of that.

    Raises:
        WeightsError: unreadable, damaged, or something else than named tensors.
    """
    with reading(preset, path):
        if is_safetensors(path):
            return load_file(path)
        with open_torch_file(path) as file:
            content = file.content
            if isinstance(content, dict) and isinstance(content.get(part), dict):
                content = content[part]
            return file.tensors(flat(preset, path, content))


def flat(preset: EncoderPreset, path: Path, content: Any) -> dict[str, Described]:
    """`content` of a file of torch.save, as one flat dictionary of described tensors.

    Raises:
        WeightsError: it is something else.
    """
    tensors = isinstance(content, dict) and all(isinstance(value, Described) for value in content.values())
    if not tensors or not all(isinstance(name, str) for name in content):
        raise WeightsError(
            f"{path} holds {_kind(content)}, expected the named tensors of {preset.name}, one flat dictionary. "
            f"{preset.where}"
        )
    return content


@contextmanager
def reading(preset: EncoderPreset, path: Path) -> Iterator[None]:
    """Make one error of all that reading a damaged file raises.

    Raises:
        WeightsError: naming the file.
    """
    try:
        yield
    except WeightsError:
        raise
    # It depends on where the file is damaged: ValueError, OSError, SafetensorError ...
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise WeightsError(
            f"{path} could not be read as a checkpoint of {preset.name}: {reason}. {again(preset)}"
        ) from error


def again(preset: EncoderPreset) -> str:
    """Where to get the weights of an encoder, as a sentence."""
    return preset.where or f"Get it again from {preset.home}."


def is_safetensors(path: Path) -> bool:
    """Whether a file is in safetensors' format, by its first bytes: the length of a header, and the header's brace.

    No file of torch.save has a brace there: one of the zip format would be compressed by an unknown method, and the
    format before begins with a fixed number.
    """
    if not path.is_file():
        raise WeightsError(f"{path} is no regular file, expected a checkpoint.")
    with path.open("rb") as stream:
        return stream.read(9)[8:] == b"{"


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
    strange = sorted({str(tensor.dtype) for tensor in part.values()} - _DTYPES)
    if strange:
        raise WeightsError(f"{path} holds weights as {', '.join(strange)}, expected floats. {preset.where}")
    # In float32, which is what they are loaded as: a float64 may be too large for it.
    single = {torch.float64: torch.float32}
    broken = [
        name
        for name, tensor in part.items()
        if not torch.isfinite(tensor.to(single.get(tensor.dtype, tensor.dtype))).all()
    ]
    if broken:
        raise WeightsError(
            f"{path} is damaged: {some([prefix + name for name in broken])} hold NaN or infinite numbers. "
            f"{preset.where}"
        )
    if any(parameter.is_meta for parameter in model.parameters()):
        model.to_empty(device="cpu").load_state_dict(part)


def normed(norm: Any, direction: Any, axis: int) -> torch.Tensor | None:
    """A weight that is kept with weight norm, `g * v / |v|` (Salimans and Kingma, arXiv:1602.07868).

    Args:
        norm: `g`, of length 1 along every axis but one.
        direction: `v`.
        axis: the first or the last one, along which there is a norm for each place.

    Returns:
        `None` where the two do not belong together: torch compares no shapes and would write beyond its memory.
    """
    if norm is None or direction is None or direction.ndim < 2 or direction.numel() == 0:
        return None
    shape = [1] * direction.ndim
    shape[axis] = direction.shape[axis]
    if list(norm.shape) != shape or norm.dtype != direction.dtype or not norm.is_floating_point():
        return None
    return torch._weight_norm(direction, norm, axis)


def some(names: Any, limit: int = 3) -> str:
    """The first names, in order, for a message."""
    listed = sorted(names)
    return ", ".join(map(shown, listed[:limit])) + (", ..." if len(listed) > limit else "")


def _kind(state: Any) -> str:
    if not isinstance(state, dict):
        return f"a {type(state).__name__.lstrip('_')}"
    others = {type(value).__name__.lstrip("_") for value in state.values() if not isinstance(value, Described)}
    return f"a dictionary with values of type {some(others)}"
