"""How many networks may be trained side by side in the memory of the device."""

import math
from collections.abc import Sequence
from typing import Any

from .base import Lesson

_OF_WEIGHTS = 8  # the network's own, the stack's, two moments, the best, slopes, and what is written beside them
_OF_LAYERS = 4  # each result, its slope, and what is kept to compute it
_SHARE = 0.8  # of the memory that is free
_BYTES = 4


def fitting(network: Any, lessons: Sequence[Lesson]) -> int:
    """How many of the lessons fit side by side, by estimate; at least 1.

    Args:
        network: of one of them, the others being of its form.
        lessons: all that there are.
    """
    clips = {str(name): 0 for lesson in lessons for part in (lesson.training, lesson.validation) for name in part.ids}
    columns = sum(math.prod(array.shape[1:]) for array in lessons[0].training.arrays.values())
    room = _SHARE * free() - _BYTES * len(clips) * columns
    return max(1, min(len(lessons), int(room / (_BYTES * needed(network, lessons[0].config.training.batch_size)))))


def needed(network: Any, batch: int) -> int:
    """Numbers that the training of one network keeps on the device."""
    weights = sum(math.prod(variable.shape) for variable in network.variables)
    return _OF_WEIGHTS * weights + _OF_LAYERS * sum(_results(layer, batch) for layer in network.layers)


def _results(layer: Any, batch: int) -> int:
    """Numbers in all results of a layer; those of a transport once for each of its iterations."""
    shapes = [tensor.shape for node in layer._inbound_nodes for tensor in node.output_tensors]
    found = sum(math.prod(batch if size is None else size for size in shape) for shape in shapes)
    return found * getattr(layer, "iterations", 1)


def free() -> int:
    """Bytes that are free on the device; half of what is available where it is the processor."""
    import jax
    import psutil

    known = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" in known:
        return known["bytes_limit"] - known.get("bytes_in_use", 0)
    return psutil.virtual_memory().available // 2
