"""What encoders with a transformer inside share: frames of any layer, and of several layers from one pass."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import AudioError, ConfigError
from .base import Encoder, EncoderPreset
from .checkpoints.locate import Weights
from .checks import check_clips, resolve_layer
from .turns import on_host

if TYPE_CHECKING:
    import torch


class LayeredEncoder(Encoder):
    """A stack of layers on torch. A subclass says what goes in (`_pieces`) and how it is run (`_run`).

    Clips of equal length are run together; clips of different length only where the subclass keeps them apart (`pads`),
    since many models normalise over time and a padded clip would come out different, attention mask or not.

    Args:
        preset: with the sizes of the checkpoint.
        model: the network, on the CPU.
        stack: its layers, in order, a part of `model`.
        weights_id: as in `Encoder`.
        layer: whose output `frames` gives; the layers behind it are dropped.
        dtype: of the computation.
        device: of torch.
        options: resolved.
        attention: float32 numbers for each pair of frames that attention holds at once; 0 where it is fused.
    """

    def __init__(
        self,
        preset: EncoderPreset,
        model: "torch.nn.Module",
        stack: "torch.nn.ModuleList",
        *,
        weights_id: str,
        layer: str = "last",
        dtype: str = "float32",
        device: str = "cpu",
        options: dict[str, Any] | None = None,
        attention: int = 0,
    ) -> None:
        import torch

        self.preset, self.weights_id = preset, weights_id
        self.dtype, self.device, self.options = dtype, device, dict(options or {})
        self._dtype: torch.dtype = getattr(torch, dtype)
        self._attention = attention
        number = resolve_layer(preset, layer)
        self.layer = "last" if number is None else str(number)
        if number is not None:
            del stack[max(number, 1) :]
        self._stack = stack
        self._model = model.to(device=device, dtype=self._dtype).eval().requires_grad_(False)

    def frames(self, waveform: np.ndarray) -> np.ndarray:
        return self.frames_batch([waveform])[0]

    def frames_batch(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        return self.frames_of_layers(waveforms, [self.layer])[self.layer]

    def frames_of_layers(self, waveforms: Sequence[np.ndarray], layers: Sequence[str]) -> dict[str, list[np.ndarray]]:
        numbers = {str(layer): self._number(layer) for layer in layers}
        clips = check_clips(self.preset, waveforms, alike=not self.pads)
        self._check_memory(len(clips), max(len(clip) for clip in clips))
        from .torch_inference import inference

        parts: dict[str, list[list[np.ndarray]]] = {layer: [[] for _ in clips] for layer in numbers}
        with inference():
            for inputs, rows in self._pieces(clips):
                with _outputs(self._stack, {number for number in numbers.values() if number is not None}) as outputs:
                    last = self._run(inputs)
                for layer, number in numbers.items():
                    hidden = last if number is None else outputs[number]
                    for (clip, kept), frames in zip(rows, on_host(hidden.float()), strict=True):
                        parts[layer][clip].append(frames[:kept])
        return {
            layer: [found[0] if len(found) == 1 else np.concatenate(found) for found in of_clips]
            for layer, of_clips in parts.items()
        }

    def _pieces(self, clips: list[np.ndarray]) -> "Iterator[tuple[Any, list[tuple[int, int | None]]]]":
        """What goes into the model for clips `(samples,)`, which are of one length unless the encoder `pads`.

        Yields:
            the input of one pass, and for each of its rows the clip that it is of and how many frames belong to it,
            `None` for all. Where a clip has several rows, they follow one another in time.
        """
        raise NotImplementedError

    def _run(self, inputs: "torch.Tensor") -> "torch.Tensor":
        """One pass; the frames at its end, `(B, T, D)`."""
        return self._model(inputs).last_hidden_state

    def _number(self, layer: str) -> int | None:
        number = resolve_layer(self.preset, layer)
        if str(layer) != self.layer and (number is None or number > len(self._stack)) and self.layer != "last":
            raise ConfigError(
                f"{self.name} was loaded for layer {self.layer}, and the layers behind it were dropped: it cannot give "
                f"layer {layer}. Load it with layer='last'."
            )
        return number

    def _check_memory(self, clips: int, samples: int) -> None:
        """Refuse a clip whose attention would take the memory of the whole machine, and the process with it.

        Raises:
            AudioError: too long for the memory that is free.
        """
        import psutil

        if not self._attention or self.device != "cpu":
            return  # the fused form holds no such matrices, and a GPU that is full says so
        needed = 4 * clips * self._attention * (samples / self.preset.hop) ** 2
        free = psutil.virtual_memory().available
        if needed > free:
            raise AudioError(
                f"Too long for {self.name} here: its attention needs about {needed / 2**30:.1f} GiB for "
                f"{samples / self.sample_rate:.1f} s, and {free / 2**30:.1f} GiB are free. Cut the clip (start and end "
                "in a table of clips) or leave it out."
            )


@contextmanager
def _outputs(stack: "torch.nn.ModuleList", numbers: Iterable[int]) -> "Iterator[dict[int, torch.Tensor]]":
    """Note what comes out of layers while the model runs: number -> `(B, T, D)`; 0 is the input of the first layer."""
    found: dict[int, torch.Tensor] = {}

    def before(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        found[0] = args[0] if args else kwargs["hidden_states"]

    def after(number: int) -> Any:
        def note(_module: Any, _args: Any, output: Any) -> None:
            found[number] = output[0] if isinstance(output, tuple) else output

        return note

    handles = [
        stack[number - 1].register_forward_hook(after(number))
        if number
        else stack[0].register_forward_pre_hook(before, with_kwargs=True)
        for number in numbers
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def load_network(
    preset: EncoderPreset,
    weights: Weights,
    build: Callable[[EncoderPreset], Any],
    read: Callable[[EncoderPreset, Path], Any],
) -> Any:
    """The network with random weights that `build` makes, or the one that `read` finds in the preset's first file.

    Raises:
        WeightsError: weights absent, incomplete, unsafe or of another model.
    """
    from .torch_inference import seeded

    if weights.random:
        with seeded(weights.seed):
            return build(preset)
    model = read(preset, weights.file(preset.files[0].partition("|")[0]))
    weights.check_unchanged()
    return model
