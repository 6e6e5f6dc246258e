"""What the loaders of torch encoders settle before they build: settings this encoder has, a device, weights."""

from dataclasses import dataclass
from typing import Any

from .base import EncoderPreset, LoadRequest
from .checkpoints.locate import Weights, resolve
from .checks import resolve_device, resolve_dtype, resolve_layer, resolve_options


@dataclass(frozen=True)
class Opening:
    """A request that was checked, with its weights found.

    Attributes:
        dtype: that the encoder computes in.
        device: a torch device, "auto" resolved.
        options: the preset's, with those of the request on top.
        weights: where they are, or the seed to draw them from.
        layer: as it was asked for.
    """

    dtype: str
    device: str
    options: dict[str, Any]
    weights: Weights
    layer: str = "last"

    @property
    def settings(self) -> dict[str, Any]:
        """What `LayeredEncoder` takes by keyword."""
        return {
            "weights_id": self.weights.id,
            "layer": self.layer,
            "dtype": self.dtype,
            "device": self.device,
            "options": self.options,
        }


def open_request(preset: EncoderPreset, request: LoadRequest, dtypes: tuple[str, ...] = ("float32",)) -> Opening:
    """Check a request against the encoder and find its weights, the cheap checks first.

    Args:
        preset: the encoder.
        request: what the user asked for.
        dtypes: those that the encoder computes in.

    Raises:
        ConfigError: a layer, dtype, device or option that the encoder does not have.
        WeightsError: absent or incomplete weights.
    """
    # A checkpoint may have fewer layers than the published one: then its loader looks at the layer.
    if not preset.layers or request.weights == "random":
        resolve_layer(preset, request.layer)
    return Opening(
        dtype=resolve_dtype(preset, request, dtypes),
        options=resolve_options(preset, request),
        device=resolve_device(request.device),
        weights=resolve(preset, request),
        layer=request.layer,
    )
