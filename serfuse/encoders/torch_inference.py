"""What the encoders that run on torch share. Imports torch: for family files only."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from a CPU generator of this seed; the global one is left as it was.

    Random weights are drawn on the CPU and then moved, so that they are the same on every device.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


@contextmanager
def inference() -> Iterator[None]:
    """No gradients, and convolutions on a GPU in full float32: TF32, torch's default there, is 1e-3 off."""
    with (
        torch.inference_mode(),
        torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False),
    ):
        yield


def on_device(batch: np.ndarray, device: str, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """A batch where the model is; to a GPU from pinned memory, so that the copy waits for nothing."""
    there = torch.from_numpy(batch)
    if device.startswith("cuda"):
        there = there.pin_memory().to(device, non_blocking=True)
    return there.to(device, dtype)


def without_cudnn(module: torch.nn.Module) -> None:
    """Have the forward of a convolution computed by torch itself on a GPU: the clips' windows times the weights.

    cuDNN takes the first algorithm that its heuristics name, whatever memory that needs; for few channels and many
    samples in full float32 it can be a thousand times the input. A forward on a CPU stays what it is.
    """
    forward = module.forward

    def plain(*args: Any, **kwargs: Any) -> Any:
        with torch.backends.cudnn.flags(enabled=False, allow_tf32=False):
            return forward(*args, **kwargs)

    module.forward = plain
