"""A job: one encoder, whose one forward gives the vectors of one or several keys."""

from dataclasses import dataclass

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
        key: under which they are stored.
        pooling: from the encoder's frames to the vector.
    """

    key: EmbeddingKey
    pooling: str


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
        return cls(encoder, pad, (Output(make_key(encoder, pooling, pad), pooling),))

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


def make_key(encoder: Encoder, pooling: str, pad: PadPolicy) -> EmbeddingKey:
    """The key of what `extract` stores.

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
        layer=encoder.layer,
        pooling=pooling,
        pad=pad.name,
        sample_rate=encoder.sample_rate,
        dtype=encoder.dtype,
        options=encoder.options,
        libraries=encoders.libraries(encoder.preset),
    )
