"""What the encoders that run on torch share. Imports torch: for family files only."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, Generic, TypeVar

import numpy as np
import torch

Value = TypeVar("Value")


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
    """No gradients, and everything in full float32, whatever the process is set to.

    TF32 is 1e-3 off. It is torch's default for convolutions on a GPU, and speechbrain allows it for matrix products
    when it is imported: what a clip's vector is would depend on which encoders the process has seen. Threads may be
    here at once.
    """
    with torch.inference_mode(), _HELD.here():
        yield


def passes_at_once(device: str) -> int:
    """How many passes of an encoder that takes it run at once: two on a CPU, unless it has one thread to compute in."""
    return 2 if device == "cpu" and torch.get_num_threads() > 1 else 1


class _Products:
    """The precision of matrix products as torch had it set before each backend had its own."""

    @property
    def precision(self) -> str:
        return torch.get_float32_matmul_precision()

    @precision.setter
    def precision(self, value: str) -> None:
        torch.set_float32_matmul_precision(value)


_B = torch.backends
# Torch has two ways to set it, and complains where it finds that they differ. The old one sets the new one too.
_EXACT: list[tuple[Any, str, Any]] = [(_Products(), "precision", "highest"), (_B.cudnn, "allow_tf32", False)]
_EXACT += [
    (place, "fp32_precision", "ieee")
    for place in (_B.cuda.matmul, _B.cudnn.conv, _B.cudnn.rnn, _B.mkldnn.matmul, _B.mkldnn.conv, _B.mkldnn.rnn)
]
_REPEATABLE = [(_B.cudnn, "enabled", True), (_B.cudnn, "benchmark", False), (_B.cudnn, "deterministic", True)]


@contextmanager
def _set(settings: Sequence[tuple[Any, str, Any]]) -> Iterator[None]:
    """Attributes set to values for a moment; one that cannot be read, since a user set it both ways, is left alone."""
    before = []
    for place, name, value in settings:
        with suppress(RuntimeError):
            before.append((place, name, getattr(place, name), value))
    try:
        for place, name, _, value in before:
            setattr(place, name, value)
        yield
    finally:
        for place, name, value, _ in before:
            setattr(place, name, value)


class _Held:
    """Settings of the whole process, as long as a thread is in a pass: the last one puts back what the first found."""

    def __init__(self, *settings: Sequence[tuple[Any, str, Any]]) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._inside = 0
        self._outside = ExitStack()

    @contextmanager
    def here(self) -> Iterator[None]:
        with self._lock:
            if not self._inside:
                with ExitStack() as entered:  # all of them, or none
                    for some in self._settings:
                        entered.enter_context(_set(some))
                    self._outside = entered.pop_all()
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if not self._inside:
                    self._outside.close()


class Told(Generic[Value]):
    """What is told to the modules that a pass goes through. Each thread has its own: passes run side by side."""

    def __init__(self) -> None:
        self._own = threading.local()

    @contextmanager
    def tell(self, value: Value) -> Iterator[None]:
        """Within this, passes of this thread find it."""
        self._own.value = value
        try:
            yield
        finally:
            del self._own.value

    def now(self) -> Value | None:
        """What this thread was told; `None` outside."""
        return getattr(self._own, "value", None)


_HELD = _Held(_EXACT, _REPEATABLE)
_NO_CUDNN = _Held([(_B.cudnn, "enabled", False)])


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
        with _NO_CUDNN.here():
            return forward(*args, **kwargs)

    module.forward = plain
