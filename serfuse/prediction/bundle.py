"""A trained model with all that prediction on new audio needs, in one file.

The file is a zip archive of `bundle.json` (what the model expects, what it was trained on, how it was evaluated) and
`network.keras` (the network with its weights, its input statistics among them).
"""

import json
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from ..atomic_io import write_atomic
from ..errors import ModelFileError, StoreError
from ..experiment import backend, fitting
from ..experiment.config import explain
from ..store.key import EmbeddingKey
from . import keras_file

FORMAT = 1
MAX_CARD_BYTES = 2**20
MAX_NETWORK_BYTES = 4 * 2**30
_CARD, _NETWORK = "bundle.json", "network.keras"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Input(_Part):
    """One input of the network."""

    key: dict[str, Any] = Field(description="the embedding key, see `serfuse.store.key`")
    size: int = Field(ge=1, le=10**6, description="length of the vector")


class TrainedOn(_Part):
    """The clips that the model was trained on."""

    corpus: str
    clips: int = Field(ge=1)
    validation_clips: int = Field(ge=0, description="of `clips`, those that only early stopping looked at")
    speakers: int = Field(ge=0)
    speaker_kind: str
    synthetic: bool
    seconds: tuple[float, float] | None = Field(description="shortest and longest clip, where the store knows them")
    epochs: int = Field(ge=1)


class Evaluation(_Part):
    """What the cross-validation of the same settings found. The model itself has been tested on nothing."""

    split: str
    folds: int
    accuracy: float | None
    accuracy_low: float | None
    accuracy_high: float | None
    uar: float | None
    estimates: str = Field(description="the audit's sentence on what was new to the models: speakers, or only takes")


class Card(_Part):
    """`bundle.json`."""

    format: int
    model: str
    options: dict[str, Any]
    training: dict[str, Any]
    seed: int
    classes: list[str] = Field(min_length=2, max_length=1000)
    inputs: dict[str, Input] = Field(min_length=1, max_length=2)
    trained_on: TrainedOn
    evaluation: Evaluation
    versions: dict[str, str]
    backend: str

    def keys(self) -> dict[str, EmbeddingKey]:
        """The embedding key of each input.

        Raises:
            StoreError: a field is missing or unknown.
            pydantic.ValidationError: a field is of another type.
        """
        return {
            name: TypeAdapter(EmbeddingKey).validate_python(EmbeddingKey.from_dict(part.key).to_dict())
            for name, part in self.inputs.items()
        }

    @property
    def random(self) -> bool:
        """Whether an encoder had weights that were never trained."""
        return any(key.random for key in self.keys().values())

    def expectation(self) -> list[str]:
        """What to expect of the model, in plain sentences."""
        found, lines = self.evaluation, []
        if found.accuracy is not None:
            interval = ""
            if found.accuracy_low is not None and found.accuracy_high is not None:
                interval = f" (95 % interval {100 * found.accuracy_low:.1f} to {100 * found.accuracy_high:.1f})"
            lines.append(
                f"Expect {100 * found.accuracy:.1f} % accuracy{interval} on speech like its corpus: the mean of "
                f"{found.folds} folds under the split {found.split}."
            )
        return [*lines, found.estimates, *self.cautions()]

    def cautions(self) -> list[str]:
        """Plain sentences that belong with every prediction."""
        lines = []
        if self.trained_on.synthetic:
            lines.append("Trained on synthetic speech: its answers say nothing about emotion.")
        if self.random:
            lines.append("WARNING: an encoder has random weights; the answers say nothing about speech.")
        return lines


@dataclass(frozen=True)
class Bundle:
    """A trained network and its card.

    Attributes:
        card: what it expects and where it comes from.
        network: `keras.Model`, `{name: (B, D)}` to class probabilities `(B, classes)`.
    """

    card: Card
    network: Any

    def probabilities(self, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        """Class probabilities `(N, classes)`, float64, columns as in `card.classes`.

        Args:
            arrays: embeddings `(N, D)` of each input, made as `card.inputs` says.

        Raises:
            ModelFileError: other inputs, or vectors of another length, than the network was trained on.
        """
        received = {name: tuple(array.shape) for name, array in arrays.items()}
        rows = len(next(iter(arrays.values()), ()))
        expected = {name: (rows, part.size) for name, part in self.card.inputs.items()}
        if received != expected:
            raise ModelFileError(f"The model takes vectors of the shapes {expected}; received {received}.")
        return fitting.probabilities(self.network, arrays)


def save(bundle: Bundle, path: Path) -> None:
    """Write a bundle, whole or not at all.

    Raises:
        StoreError: the file cannot be written.
    """
    with tempfile.TemporaryDirectory() as folder:
        network = Path(folder) / _NETWORK
        bundle.network.save(network)

        def write(file: Any) -> None:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                archive.writestr(_CARD, bundle.card.model_dump_json(indent=2))
                archive.write(network, _NETWORK)

        write_atomic(path, write)


def read_card(path: Path) -> Card:
    """What a bundle says of itself; the network is not touched.

    Raises:
        ModelFileError: missing, or not a bundle.
    """
    with _opened(path) as archive:
        return _card(archive, path)


def load(path: Path) -> Bundle:
    """Read a bundle, which may come from anybody: nothing in it is executed, see `serfuse.prediction.keras_file`.

    Raises:
        ModelFileError: missing, damaged, not a bundle, or a network that does not fit its card.
    """
    backend.set_up_backend()
    with _opened(path) as archive:
        card = _card(archive, path)
        with tempfile.TemporaryDirectory() as folder:
            network = keras_file.load(Path(archive.extract(_NETWORK, folder)))
    takes = {tensor.name: tuple(tensor.shape) for tensor in network.inputs}
    gives = tuple(network.outputs[0].shape)
    expected = {name: (None, part.size) for name, part in card.inputs.items()}
    if takes != expected or len(network.outputs) != 1 or gives != (None, len(card.classes)):
        raise ModelFileError(
            f"{path}: its network takes {takes} and gives {gives}; its card says {expected} and {len(card.classes)} "
            "classes."
        )
    return Bundle(card, network)


def _opened(path: Path) -> zipfile.ZipFile:
    try:
        archive = zipfile.ZipFile(path)
    except FileNotFoundError:
        raise ModelFileError(f"There is no model {path}. Make one with `serfuse train RUN`.") from None
    except (OSError, zipfile.BadZipFile) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ModelFileError(f"{path} is no model that `serfuse train` wrote: {reason}.") from None
    members = archive.infolist()
    limits = {_CARD: MAX_CARD_BYTES, _NETWORK: MAX_NETWORK_BYTES}
    if sorted(item.filename for item in members) != sorted(limits):
        archive.close()
        raise ModelFileError(
            f"{path} is no model that `serfuse train` wrote: it holds "
            f"{', '.join(item.filename for item in members[:5]) or 'nothing'}; expected {', '.join(limits)}."
        )
    for item in members:
        if item.file_size > limits[item.filename] or item.compress_type != zipfile.ZIP_STORED:
            archive.close()
            raise ModelFileError(
                f"{path}: {item.filename} is compressed, or larger than {limits[item.filename]} bytes."
            )
    return archive


def _card(archive: zipfile.ZipFile, path: Path) -> Card:
    try:
        values = json.loads(archive.read(_CARD))
        if isinstance(values, dict) and values.get("format") != FORMAT:
            raise ModelFileError(
                f"{path} has the format {values.get('format')!r}; this version of serfuse reads {FORMAT}."
            )
        card = Card.model_validate(values)
        card.keys()
    except ValidationError as error:
        raise ModelFileError(explain(error, f"{_CARD} of {path}")) from None
    except (OSError, zipfile.BadZipFile, ValueError, RecursionError, StoreError) as error:
        raise ModelFileError(f"{path}: {_CARD} cannot be read: {error}") from None
    return card
