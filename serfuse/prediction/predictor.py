"""A trained model on new audio: read, encode as it was trained, ask the network."""

import gc
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np

from .. import audio, encoders
from ..audio import padding, spool
from ..audio.padding import PadPolicy
from ..encoders.base import Encoder, LoadRequest
from ..errors import AudioError, ModelFileError
from ..extraction.batching import CPU_BATCH_SECONDS, GPU_BATCH_SECONDS
from ..extraction.embed import embed, embed_each, reason
from ..extraction.job import make_key
from ..progress import Observer
from ..store.key import EmbeddingKey
from . import bundle
from .bundle import Bundle, Card
from .isolation import Limits, NetworkProcess

Source = str | os.PathLike[str] | tuple[np.ndarray, int] | BinaryIO
"""What is predicted: a file's path, a waveform with its rate in Hz, or an open binary stream with a file in it."""


@dataclass(frozen=True)
class Prediction:
    """What a model says of one recording.

    Attributes:
        path: the file, `None` for a waveform or a stream.
        name: what messages call it: the path, the stream's own name, or its place among what was given.
        seconds: its length, `None` where it cannot be read.
        probabilities: by emotion, summing to 1; empty when there is none.
        problem: why there is none.
        unlike: a sentence when the recording is unlike what the model was trained on; empty otherwise.
        remarks: what is odd about the recording itself, see `serfuse.audio.quality`.
        label: the emotion that the model answers, where it has answers of its own; `None`: the most probable one.
    """

    path: Path | None
    name: str
    seconds: float | None
    probabilities: dict[str, float]
    problem: str = ""
    unlike: str = ""
    remarks: tuple[str, ...] = ()
    label: str | None = None

    @property
    def emotion(self) -> str | None:
        """The model's answer: its own label (`svm` and `kernel`: the emotion that wins most of the machine's pairs, as
        `serfuse cv` counts), else the most probable emotion. `None` without probabilities."""
        if self.probabilities and self.label is not None:
            return self.label
        return max(self.probabilities, key=self.probabilities.__getitem__) if self.probabilities else None

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            **({"name": self.name} if self.path is None else {"path": str(self.path)}),
            "seconds": None if self.seconds is None else round(self.seconds, 3),
            "emotion": self.emotion,
            "probabilities": self.probabilities,
            **({"problem": self.problem} if self.problem else {}),
            **({"unlike": self.unlike} if self.unlike else {}),
            **({"remarks": list(self.remarks)} if self.remarks else {}),
        }


class Predictor:
    """A trained model that stays loaded, with the encoders it needs.

    ```python
    with Predictor.load("winner.serfuse") as predictor:
        print(predictor.predict_one("call.wav").emotion)
        for answer in predictor.predict(["call.wav", (samples, 16_000), upload]):
            print(answer.name, answer.probabilities)
    ```

    An answer is the same whether its recording is given as a file, as a stream of that file or as the waveform in it,
    alone or among others.
    """

    def __init__(self, model: Bundle | NetworkProcess, inputs: Mapping[str, Encoder]) -> None:
        """Use `load`; here the network and the encoder of each input are loaded already."""
        self._model: Bundle | NetworkProcess | None = model
        self._card = model.card
        self._inputs = dict(inputs)
        self._keys = model.card.keys()
        self._policies = {name: PadPolicy.parse(key.pad) for name, key in self._keys.items()}

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        weights: Mapping[str, str] | None = None,
        device: str = "auto",
        download: bool = False,
        isolated: bool = False,
        limits: Limits | None = None,
    ) -> Self:
        """Load a model, and the encoders that it needs: one for all inputs that use it in the same way.

        The whole file is checked before any encoder is loaded.

        Args:
            path: a file that `serfuse train` wrote. It may come from anybody, see `serfuse.prediction.bundle`.
            weights: by encoder, a path where its weights are found on this machine; otherwise the usual places.
            device: of the encoders: "cpu", "cuda" ... or "auto".
            download: whether weights that are not on this machine may be fetched from where the model says.
            isolated: build the network and ask it in a process of its own, which is killed when it takes more than
                `limits`. For files from anybody; the answers are the same. It knows the models of installed packages,
                not those that were registered in this process. A file without a network (format 2) needs none: what
                it takes is bounded by its size.
            limits: of that process.

        Raises:
            ModelFileError: the file is no model, is damaged, or takes more than a model may; or this machine's
                encoder or its weights are not those that it was trained on.
            WeightsError: an encoder's weights are absent or damaged.
            ConfigError: an unknown device, or one that is not on this machine.
        """
        with bundle.opened(Path(path)) as checked, ExitStack() as stack:
            # It imports its libraries while the encoders are loaded here.
            alone = isolated and checked.card.format != bundle.PLAIN_FORMAT
            process = stack.enter_context(NetworkProcess(limits)) if alone else None
            inputs = _load_encoders(checked.card, weights or {}, device, download)
            if process is None:
                # Only now: torch looks for its GPUs in vain once TensorFlow has.
                return cls(checked.load(), inputs)
            process.load(checked)
            stack.pop_all()
            return cls(process, inputs)

    def __del__(self) -> None:
        if isinstance(getattr(self, "_model", None), NetworkProcess):
            self._model.close()

    @property
    def card(self) -> Card:
        """What the model expects, what it was trained on and how it was evaluated."""
        return self._card

    @property
    def classes(self) -> list[str]:
        """The emotions."""
        return list(self._card.classes)

    def predict(self, sources: Iterable[Source], *, observer: Observer | None = None) -> list[Prediction]:
        """Ask the model about recordings.

        One that cannot be used has its reason in its answer, and the others are answered all the same. Recordings of
        equal length go through the encoders together.

        Args:
            sources: paths of files of any format that libsndfile reads; tuples of a waveform and its rate (`(samples,)`
                or `(samples, channels)`, floating point with full scale 1, or int16, int32, int8, uint8); binary
                streams that hold a file, which are read to their end and not closed. Any rate; channels are averaged.
            observer: hears of the recordings that are encoded.

        Returns:
            one answer for each, in their order.

        Raises:
            TypeError: one of them is nothing of that.
            ValueError: the predictor is closed.
        """
        if self._model is None:
            raise ValueError("This predictor is closed.")
        if _single(sources):
            raise TypeError("predict takes a list of recordings; give one alone to predict_one.")
        given = list(sources)
        named = [_named(source, number) for number, source in enumerate(given, start=1)]
        clips: list[_Clip] = []
        held: list[_Clip] = []
        observer = observer or Observer()
        with observer.working("encoding", len(given), "recording"):
            for source, (path, name) in zip(given, named, strict=True):
                clip = self._read(source, path, name)
                clips.append(clip)
                held.append(clip)
                if len(clips) == len(given) or sum(map(self._seconds, held)) >= self._seconds_at_once():
                    self._encode(held)
                    held = []
                    observer.advance(len(clips))
        return self._answers(clips)

    def predict_one(self, source: Source) -> Prediction:
        """Ask the model about one recording, see `predict`."""
        return self.predict([source])[0]

    def close(self) -> None:
        """Give back the memory of the network and the encoders."""
        if isinstance(self._model, NetworkProcess):
            self._model.close()
        self._model = None
        self._inputs.clear()
        gc.collect()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- recordings to vectors -----------------------------------------------------------------------------

    def _read(self, source: Source, path: Path | None, name: str) -> "_Clip":
        """A recording at every rate that an encoder hears."""
        clip = _Clip(path, name)
        try:
            with _file(source, name) as file:
                clip.seconds = audio.info(file).seconds
                for rate in {encoder.sample_rate for encoder in self._inputs.values()}:
                    found = audio.read_recording(file, rate)
                    clip.waveforms[rate] = found.waveform
                    clip.remarks = tuple(remark.text for remark in found.remarks)  # of the audio as it is in the file
        except AudioError as error:
            clip.problem = str(error)
        return clip

    def _seconds(self, clip: "_Clip") -> float:
        """What the longest of a recording's waveforms lasts, once padded."""
        lengths = [0.0]
        for name, encoder in self._inputs.items() if clip.waveforms and not clip.problem else ():
            samples = self._policies[name].samples(len(clip.waveforms[encoder.sample_rate]), encoder.sample_rate)
            lengths.append(samples / encoder.sample_rate)
        return max(lengths)

    def _seconds_at_once(self) -> float:
        on_gpu = any(encoder.device.startswith("cuda") for encoder in self._inputs.values())
        return GPU_BATCH_SECONDS if on_gpu else CPU_BATCH_SECONDS

    def _encode(self, clips: "Sequence[_Clip]") -> None:
        """Put vectors, or the reason why there are none, in the place of waveforms."""
        good = [clip for clip in clips if not clip.problem]
        done: dict[EmbeddingKey, list[np.ndarray | Exception]] = {}
        for name, key in self._keys.items():
            encoder = self._inputs[name]
            if key not in done:
                rate, policy = encoder.sample_rate, self._policies[name]
                waveforms = [clip.waveforms[rate] for clip in good]
                padded = [padding.pad(waveform, policy.samples(len(waveform), rate)) for waveform in waveforms]
                done[key] = _vectors(encoder, padded, key)
            shape = self._card.inputs[name].shape
            for clip, vector in zip(good, done[key], strict=True):
                if isinstance(vector, Exception):
                    clip.problem = clip.problem or reason(vector)
                elif vector.shape != shape:
                    clip.problem = clip.problem or (
                        f"{encoder.name} gives {vector.shape[-1]} values for it and the model takes {shape[-1]}: it is "
                        f"longer than the clips that the model was trained on (pad {key.pad})."
                    )
                else:
                    clip.vectors[name] = vector
        for clip in clips:
            clip.waveforms.clear()

    # -- vectors to answers --------------------------------------------------------------------------------

    def _answers(self, clips: "Sequence[_Clip]") -> list[Prediction]:
        good = [clip for clip in clips if not clip.problem]
        if good:
            what = "machine" if self._card.format == bundle.PLAIN_FORMAT else "network"
            arrays = {name: np.stack([clip.vectors[name] for clip in good]) for name in self._card.inputs}
            for clip, row, label in zip(good, *self._model.answers(arrays), strict=True):
                if np.isfinite(row).all() and (row >= 0).all():
                    clip.probabilities = {name: float(p) for name, p in zip(self._card.classes, row, strict=True)}
                    clip.label = self._card.classes[label]
                else:
                    clip.problem = f"{clip.name}: the model's {what} gives no probabilities for it: {row[:5]}."
        return [
            Prediction(
                clip.path,
                clip.name,
                clip.seconds,
                clip.probabilities,
                clip.problem,
                "" if clip.problem else _unlike(self._card, clip.seconds),
                clip.remarks,
                clip.label,
            )
            for clip in clips
        ]


class _Clip:
    """A recording on its way to its answer."""

    def __init__(self, path: Path | None, name: str) -> None:
        self.path, self.name = path, name
        self.seconds: float | None = None
        self.waveforms: dict[int, np.ndarray] = {}  # by rate
        self.vectors: dict[str, np.ndarray] = {}  # by input
        self.probabilities: dict[str, float] = {}
        self.label: str | None = None
        self.problem = ""
        self.remarks: tuple[str, ...] = ()


# -- sources -----------------------------------------------------------------------------------------------


def _vectors(
    encoder: Encoder, waveforms: Sequence[np.ndarray | Exception], key: EmbeddingKey
) -> list[np.ndarray | Exception]:
    """What the model takes of each recording: a vector, or of several layers `(L, D)`, all from one forward."""
    if not key.joint:
        return embed(encoder, waveforms, key.pooling)
    found = embed_each(encoder, waveforms, [(layer, key.pooling) for layer in key.layers])
    return [outcome if isinstance(outcome, Exception) else np.stack(outcome) for outcome in found]


def _single(value: Any) -> bool:
    """Whether a value is one recording, rather than several."""
    if isinstance(value, tuple):
        return len(value) == 2 and isinstance(value[0], np.ndarray) and not isinstance(value[1], np.ndarray | tuple)
    return isinstance(value, str | os.PathLike | np.ndarray) or hasattr(value, "read")


def _named(source: Source, number: int) -> tuple[Path | None, str]:
    """A recording's path, and what messages call it."""
    if isinstance(source, str | os.PathLike):
        return Path(source), str(source)
    if hasattr(source, "read"):
        name = getattr(source, "name", None)
        return None, name if isinstance(name, str) and name else f"stream {number}"
    if isinstance(source, tuple) and len(source) == 2:
        return None, f"waveform {number}"
    raise TypeError(
        "A recording is a path, a tuple of a waveform and its rate, or a binary stream; received "
        f"{type(source).__name__} in place {number}."
    )


@contextmanager
def _file(source: Source, name: str) -> Iterator[str | os.PathLike[str]]:
    """A recording as what the readers of files take."""
    if isinstance(source, str | os.PathLike):
        yield source
    elif isinstance(source, tuple):
        with spool.spooled_waveform(*source, name) as file:
            yield file
    else:
        with spool.spooled(source, name) as file:
            yield file


def _unlike(card: Card, seconds: float | None) -> str:
    lengths = card.trained_on.seconds
    if lengths is None or seconds is None or lengths[0] / 2 <= seconds <= lengths[1] * 2:
        return ""
    return f"{seconds:.1f} s long; the model was trained on clips of {lengths[0]:.1f} to {lengths[1]:.1f} s"


# -- encoders ----------------------------------------------------------------------------------------------


def _load_encoders(card: Card, weights: Mapping[str, str], device: str, download: bool) -> dict[str, Encoder]:
    """The encoder of each input, loaded once for all that use it with the same settings."""
    keys = card.keys()
    if strange := set(weights) - {key.encoder for key in keys.values()}:
        raise ModelFileError(
            f"The model does not use {', '.join(sorted(strange))}; it takes "
            f"{' and '.join(key.encoder for key in keys.values())}."
        )
    loaded: list[tuple[str, LoadRequest, Encoder]] = []
    inputs = {}
    for name, key in keys.items():
        request = _request(key, weights.get(key.encoder), device, download)
        same = [encoder for encoder_name, asked, encoder in loaded if (encoder_name, asked) == (key.encoder, request)]
        encoder = same[0] if same else encoders.load(key.encoder, request)
        if key.joint and not encoder.gives_layers:
            raise ModelFileError(f"{encoder.name} does not give layers {key.layer} from one pass.")
        layer = key.layer if key.joint else None
        _check_same(key, make_key(encoder, key.pooling, PadPolicy.parse(key.pad), layer))
        loaded.append((key.encoder, request, encoder))
        inputs[name] = encoder
    return inputs


def _request(key: EmbeddingKey, weights: str | None, device: str, download: bool) -> LoadRequest:
    """How an encoder must be loaded to give what the model was trained on."""
    seed = 0
    if weights is None and key.random:
        weights, seed = "random", int(key.weights.removeprefix("random:"))
    elif weights is None and key.weights.startswith("hub:"):
        weights = key.weights
    return LoadRequest(
        weights=weights,
        layer=max(key.layers, key=int) if key.joint else key.layer,  # those behind it are dropped
        dtype=key.dtype,
        device=device,
        seed=seed,
        options={**encoders.preset(key.encoder).options_before, **key.options},
        download=download,
    )


def _check_same(trained: EmbeddingKey, here: EmbeddingKey) -> None:
    if trained == here:
        return
    differing = [name for name, value in trained.to_dict().items() if here.to_dict()[name] != value]
    lines = [f"  {name}: {trained.to_dict()[name]} in the model, {here.to_dict()[name]} here" for name in differing]
    cure = (
        f"Give the weights that it was trained with: --weights {trained.encoder}=PATH."
        if "weights" in differing
        else "Install those versions, or extract and train again with these."
    )
    raise ModelFileError(
        f"{trained.encoder} would not give the embeddings that the model was trained on:\n"
        + "\n".join(lines)
        + f"\n{cure}"
    )
