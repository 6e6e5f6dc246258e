"""A job: one encoder, whose one forward gives the vectors of one or several keys."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from .. import encoders
from ..audio.padding import PadPolicy
from ..encoders import pooling as poolings
from ..encoders.base import Encoder
from ..errors import ConfigError
from ..store import EmbeddingKey


@dataclass(frozen=True)
class Output:
    """Vectors that a job makes of each clip.

    Attributes:
        key: under which they are stored; its `layer` says whose frames they are made of.
        pooling: from the encoder's frames to the vector.
    """

    key: EmbeddingKey
    pooling: str

    @property
    def wanted(self) -> tuple[str, str]:
        """Layer and pooling, see `embed_each`."""
        return self.key.layer, self.pooling


@dataclass(frozen=True)
class Job:
    """One forward of an encoder, and what becomes of its frames.

    Attributes:
        encoder: loaded.
        pad: to which length its clips are padded.
        outputs: at least one; their rows are stored together.
    """

    encoder: Encoder
    pad: PadPolicy
    outputs: tuple[Output, ...]

    @classmethod
    def of(cls, encoder: Encoder, pooling: str, pad: PadPolicy) -> "Job":
        """The job of one pooling.

        Raises:
            ConfigError: as `make_key`.
        """
        return cls.of_each(encoder, [(encoder.layer, pooling)], pad)

    @classmethod
    def of_each(cls, encoder: Encoder, wanted: Sequence[tuple[str, str]], pad: PadPolicy) -> "Job":
        """The job of several layers and poolings, all of one forward.

        Args:
            encoder: loaded for the last of those layers, or for "last".
            wanted: layer and pooling of each output.
            pad: to which length its clips are padded.

        Raises:
            ConfigError: as `make_key`; layers that this encoder cannot give from one forward.
        """
        layers = dict.fromkeys(layer for layer, _ in wanted)
        if set(layers) != {encoder.layer} and not encoder.gives_layers:
            raise ConfigError(
                f"{encoder.name} gives one layer of a forward, received --layer {','.join(layers)}. Extract its layers "
                "one after the other."
            )
        return cls(encoder, pad, tuple(Output(make_key(encoder, how, pad, layer), how) for layer, how in wanted))

    @property
    def wanted(self) -> list[tuple[str, str]]:
        """Layer and pooling of each output."""
        return [output.wanted for output in self.outputs]

    def only(self, outputs: Sequence[Output]) -> "Job":
        """The same forward for some of its outputs."""
        return replace(self, outputs=tuple(outputs))

    @property
    def name(self) -> str:
        """Of the encoder."""
        return self.encoder.name

    @property
    def sample_rate(self) -> int:
        """Hz, of the waveforms it takes."""
        return self.encoder.sample_rate

    @property
    def on_gpu(self) -> bool:
        """Whether it runs on a GPU."""
        return self.encoder.device.startswith("cuda")


def make_key(encoder: Encoder, pooling: str, pad: PadPolicy, layer: str | None = None) -> EmbeddingKey:
    """The key of what `extract` stores.

    Args:
        encoder: loaded.
        pooling: from frames to a vector.
        pad: to which length clips are padded.
        layer: whose frames; by default the one that the encoder was loaded for.

    Raises:
        ConfigError: an unknown pooling, or one that needs clips of one length while they are not padded to one.
    """
    poolings.check_pooling(pooling)
    if pooling == "paper" and encoder.preset.paper_pooling == "channels" and pad.kind == "none":
        raise ConfigError(
            f"The pooling 'paper' of {encoder.name} keeps one value per frame, so every clip must have one length. "
            "Received --pad none; use --pad 5.0 (the papers' length), --pad max, or --pool time."
        )
    return EmbeddingKey(
        encoder=encoder.name,
        weights=encoder.weights_id,
        layer=encoder.layer if layer is None else layer,
        pooling=pooling,
        pad=pad.name,
        sample_rate=encoder.sample_rate,
        dtype=encoder.dtype,
        options=encoder.options,
        libraries=encoders.libraries(encoder.preset),
    )
