"""A trained model on new audio: read, encode as it was trained, ask the network."""

import gc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import audio, encoders
from ..audio import padding
from ..audio.padding import PadPolicy
from ..encoders.base import Encoder, LoadRequest
from ..errors import AudioError, ModelFileError
from ..extraction.embed import embed, reason
from ..extraction.extract import make_key
from ..extraction.survey import ProgressCallback
from ..store.key import EmbeddingKey
from . import bundle
from .bundle import Bundle, Card


@dataclass(frozen=True)
class Prediction:
    """What a model says of one file.

    Attributes:
        path: the file.
        seconds: its length, `None` where it cannot be read.
        probabilities: by emotion, summing to 1; empty when there is none.
        problem: why there is none.
        unlike: a sentence when the file is unlike what the model was trained on; empty otherwise.
    """

    path: Path
    seconds: float | None
    probabilities: dict[str, float]
    problem: str = ""
    unlike: str = ""

    @property
    def emotion(self) -> str | None:
        """The most probable emotion."""
        return max(self.probabilities, key=self.probabilities.__getitem__) if self.probabilities else None

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "path": str(self.path),
            "seconds": None if self.seconds is None else round(self.seconds, 3),
            "emotion": self.emotion,
            "probabilities": self.probabilities,
            **({"problem": self.problem} if self.problem else {}),
            **({"unlike": self.unlike} if self.unlike else {}),
        }


def requests(card: Card, weights: Mapping[str, str] | None = None, device: str = "auto") -> dict[str, LoadRequest]:
    """How each input's encoder must be loaded to give what the model was trained on.

    Args:
        card: of the model.
        weights: by encoder, a path where its weights are found on this machine; otherwise the usual places.
        device: "cpu", "cuda" ... or "auto".

    Raises:
        ModelFileError: weights for an encoder that the model does not use.
    """
    keys = card.keys()
    if strange := set(weights or {}) - {key.encoder for key in keys.values()}:
        raise ModelFileError(
            f"The model does not use {', '.join(sorted(strange))}; it takes "
            f"{' and '.join(key.encoder for key in keys.values())}."
        )
    return {
        name: LoadRequest(
            weights=(weights or {}).get(key.encoder, _usual(key)),
            layer=key.layer,
            dtype=key.dtype,
            device=device,
            seed=_seed(key),
            options={**encoders.preset(key.encoder).options_before, **key.options},
        )
        for name, key in keys.items()
    }


def _seed(key: EmbeddingKey) -> int:
    """The seed of random weights."""
    text = key.weights.removeprefix("random:")
    return int(text) if text.isascii() and text.isdigit() else 0


def _usual(key: EmbeddingKey) -> str | None:
    """Where weights are looked for when the user names no place."""
    if key.random:
        return "random"
    return key.weights if key.weights.startswith("hub:") else None


def predict(
    model: Path,
    paths: Sequence[Path],
    wanted: Mapping[str, LoadRequest] | None = None,
    progress: ProgressCallback | None = None,
) -> list[Prediction]:
    """Ask a model about audio files.

    A file that cannot be used has its reason in its answer, and the others are answered all the same. An answer does
    not depend on the other files.

    Args:
        model: the file, see `serfuse.prediction.bundle`.
        paths: any format that libsndfile reads, any rate; channels are averaged.
        wanted: from `requests`.
        progress: called after every file with the number of those done by one encoder and its name.

    Raises:
        WeightsError: an encoder's weights are absent or damaged.
        ModelFileError: the file is no model, or this machine's encoder or its weights are not those that the model
            was trained on.
    """
    card = bundle.read_card(model)
    wanted = requests(card) if wanted is None else wanted
    vectors: dict[str, list[np.ndarray | Exception]] = {}
    for name, key in card.keys().items():
        encoder = encoders.load(key.encoder, wanted[name])
        policy = PadPolicy.parse(key.pad)
        _check_same(key, make_key(encoder, key.pooling, policy))
        vectors[name] = []
        for path in paths:
            vectors[name].append(_vector(path, encoder, policy, key.pooling, card.inputs[name].size))
            if progress:
                progress(len(vectors[name]), len(paths), key.encoder, None)
        del encoder
        gc.collect()  # a large encoder gives its memory back before the next one is loaded
    # Only now: torch looks for its GPUs in vain once TensorFlow has.
    return _answers(bundle.load(model), paths, vectors)


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


def _vector(path: Path, encoder: Encoder, policy: PadPolicy, pooling: str, size: int) -> np.ndarray | Exception:
    try:
        waveform = audio.read(path, encoder.sample_rate)
    except AudioError as error:
        return error
    padded = padding.pad(waveform, policy.samples(len(waveform), encoder.sample_rate))
    vector = embed(encoder, [padded], pooling)[0]
    if not isinstance(vector, Exception) and vector.shape != (size,):
        return AudioError(
            f"{encoder.name} gives {vector.shape[0]} values for it and the model takes {size}: it is longer than the "
            f"clips that the model was trained on (pad {policy.name})."
        )
    return vector


def _answers(
    model: Bundle, paths: Sequence[Path], vectors: Mapping[str, list[np.ndarray | Exception]]
) -> list[Prediction]:
    good = [row for row in range(len(paths)) if not any(isinstance(part[row], Exception) for part in vectors.values())]
    classes = model.card.classes
    answers = {}
    if good:
        arrays = {name: np.stack([part[row] for row in good]) for name, part in vectors.items()}
        answers = dict(zip(good, model.probabilities(arrays), strict=True))
    found = []
    for row, path in enumerate(paths):
        problems = [reason(part[row]) for part in vectors.values() if isinstance(part[row], Exception)]
        try:
            seconds = audio.info(path).seconds
        except AudioError:
            seconds = None
        answer = Prediction(path, seconds, {}, problem=problems[0] if problems else "")
        if row in answers:
            probabilities = {name: float(p) for name, p in zip(classes, answers[row], strict=True)}
            answer = replace(answer, probabilities=probabilities, unlike=_unlike(model.card, seconds))
        found.append(answer)
    return found


def _unlike(card: Card, seconds: float | None) -> str:
    lengths = card.trained_on.seconds
    if lengths is None or seconds is None or lengths[0] / 2 <= seconds <= lengths[1] * 2:
        return ""
    return f"{seconds:.1f} s long; the model was trained on clips of {lengths[0]:.1f} to {lengths[1]:.1f} s"
