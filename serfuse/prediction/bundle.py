"""A trained model with all that prediction on new audio needs, in one file.

The file is a zip archive of `bundle.json` (what the model expects, what it was trained on, how it was evaluated) and
`network.keras` (the network with its weights, its input statistics among them); or, in format 2, `model.safetensors`
(support vector machines and what joins them, see `serfuse.prediction.plain_model`), which serfuse 0.1 refuses by name.
"""

import json
import re
import stat
import unicodedata
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from .. import encoders
from ..atomic_io import temporary_name, write_atomic, write_error
from ..audio import RATES
from ..audio.padding import PadPolicy
from ..encoders.checks import DTYPES, shown
from ..encoders.pooling import POOLINGS
from ..errors import ConfigError, ModelFileError, StoreError
from ..experiment import backend, fitting
from ..experiment.config import explain
from ..metrics import METRICS
from ..models import MAX_INPUTS
from ..store.key import TOGETHER, EmbeddingKey
from . import keras_file, plain_model
from .plain_model import PlainModel

FORMAT = 1
PLAIN_FORMAT = 2
MAX_CARD_BYTES = 2**20
MAX_NETWORK_BYTES = 4 * 2**30
_CARD, _NETWORK, _PLAIN = "bundle.json", "network.keras", "model.safetensors"
_MOST = 10**9  # of anything that is counted
_WEIGHTS = re.compile(r"none|random:\d{1,10}|sha256:[0-9a-f]{64}|hub:[\w.-]{1,100}/[\w.-]{1,100}@[\w.-]{1,100}", re.A)
_LAYER = re.compile(r"last|\d{1,4}(\+\d{1,4}){0,99}", re.A)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _distinct(names: list[str]) -> list[str]:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"{', '.join(map(repr, repeated))} stands there more than once")
    return names


Text = Annotated[str, Field(max_length=1000)]
Name = Annotated[str, Field(min_length=1, max_length=100)]
Label = Annotated[str, Field(min_length=1, max_length=300)]
Share = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(gt=0, le=_MOST)]


class Input(_Part):
    """One input of the network."""

    key: dict[str, Any] = Field(description="the embedding key, see `serfuse.store.key`")
    size: int = Field(ge=1, le=10**6, description="length of the vector, of each layer where there are several")

    @property
    def shape(self) -> tuple[int, ...]:
        """Of what the model takes of one clip: `(size,)`, or `(layers, size)` of several layers."""
        layers = str(self.key.get("layer")).count(TOGETHER) + 1
        return (self.size,) if layers == 1 else (layers, self.size)


class TrainedOn(_Part):
    """The clips that the model was trained on."""

    corpus: Text
    clips: int = Field(ge=1, le=_MOST)
    validation_clips: int = Field(ge=0, le=_MOST, description="of `clips`, those that only early stopping looked at")
    speakers: int = Field(ge=0, le=_MOST)
    speaker_kind: Text
    synthetic: bool
    seconds: tuple[Seconds, Seconds] | None = Field(description="shortest and longest clip, where the store knows them")
    epochs: int = Field(ge=0, le=_MOST, description="0 for what is not trained in epochs")


class Evaluation(_Part):
    """What the cross-validation of the same settings found. The model itself has been tested on nothing."""

    split: Text
    folds: int = Field(ge=1, le=_MOST)
    accuracy: Share | None
    accuracy_low: Share | None
    accuracy_high: Share | None
    uar: Share | None
    estimates: Text = Field(description="the audit's sentence on what was new to the models: speakers, or only takes")

    def sentences(self) -> list[str]:
        """What to expect, in plain sentences."""
        shown = METRICS.get("accuracy").shown  # as wherever else the run's figures are shown
        lines = []
        if self.accuracy is not None:
            interval = ""
            if self.accuracy_low is not None and self.accuracy_high is not None:
                ends = f"{shown(self.accuracy_low)} to {shown(self.accuracy_high)}"
                interval = f" (95 % interval {ends}, all clips pooled)"
            lines.append(
                f"Expect {shown(self.accuracy)} % accuracy{interval} on speech like its corpus: the mean of "
                f"{self.folds} folds under the split {self.split}."
            )
        return [*lines, self.estimates]


class Card(_Part):
    """`bundle.json`."""

    format: int
    model: Name
    options: dict[str, Any]
    training: dict[str, Any]
    seed: int = Field(ge=0, lt=2**32)
    classes: Annotated[list[Label], Field(min_length=2, max_length=1000), AfterValidator(_distinct)]
    inputs: dict[Name, Input] = Field(min_length=1, max_length=MAX_INPUTS)
    trained_on: TrainedOn
    evaluation: Evaluation
    versions: dict[Name, Name]
    backend: Name

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
        return [*self.evaluation.sentences(), *self.cautions()]

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
    """A trained network, or another model, and its card.

    Attributes:
        card: what it expects and where it comes from.
        network: `keras.Model`, `{name: (B, D)}` to class probabilities `(B, classes)`; or a `PlainModel`.
        clips_at_once: most rows that go through the network together; they do not change each other's answers.
    """

    card: Card
    network: Any
    clips_at_once: int = keras_file.BATCH

    def probabilities(self, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        """Class probabilities `(N, classes)`, see `answers`."""
        return self.answers(arrays)[0]

    def answers(self, arrays: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """What the model says of each clip.

        Args:
            arrays: embeddings `(N, D)` of each input, `(N, L, D)` of several layers, made as `card.inputs` says.

        Returns:
            Class probabilities `(N, classes)`, float64, columns as in `card.classes`, NaN where the model gives none;
            and the labels `(N,)` that a cross-validation counts, class numbers, -1 there: the most probable class, but
            for a model that has labels of its own, see `PlainModel.answers`.

        Raises:
            ModelFileError: other inputs, or vectors of another length, than the network was trained on.
        """
        received = {name: tuple(array.shape) for name, array in arrays.items()}
        rows = len(next(iter(arrays.values()), ()))
        expected = {name: (rows, *part.shape) for name, part in self.card.inputs.items()}
        if received != expected:
            raise ModelFileError(f"The model takes vectors of the shapes {expected}; received {received}.")
        if isinstance(self.network, PlainModel):
            return self.network.answers(arrays)
        with np.errstate(invalid="ignore", divide="ignore"):
            found = fitting.probabilities(self.network, arrays, self.clips_at_once)
        return found, most_probable(found)


def most_probable(probabilities: np.ndarray) -> np.ndarray:
    """The most probable class of each row `(N,)`, of several the first; -1 where a row `(N, classes)` is not finite."""
    return np.where(np.isfinite(probabilities).all(axis=1), probabilities.argmax(axis=1), -1)


def save(bundle: Bundle, path: Path) -> None:
    """Write a bundle, whole or not at all.

    Raises:
        ModelFileError: one that `load` would refuse for what its card says, or its network names or takes.
        StoreError: the file cannot be written.
    """
    try:
        _check_texts(bundle.card.model_dump())
    except ValueError as error:
        raise ModelFileError(f"{path}: such a model could not be read again: {error}") from None
    if isinstance(bundle.network, PlainModel):
        content = plain_model.write(bundle.network)

        def write_plain(file: Any) -> None:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                archive.writestr(_CARD, bundle.card.model_dump_json(indent=2))
                archive.writestr(_PLAIN, content)

        write_atomic(path, write_plain)
        return
    keras_file.check_declared(bundle.network, bundle.card.model)
    keras_file.clips_at_once(bundle.network, path)
    # Beside the file, where there must be room for it anyway: the folder for temporary files may be full.
    network = temporary_name(path, ".keras")
    try:
        backend.save(bundle.network, network)

        def write(file: Any) -> None:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                archive.writestr(_CARD, bundle.card.model_dump_json(indent=2))
                archive.write(network, _NETWORK)

        write_atomic(path, write)
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        with suppress(OSError):
            network.unlink(missing_ok=True)


def read_card(path: Path) -> Card:
    """What a bundle says of itself; the network is not touched.

    Raises:
        ModelFileError: missing, or not a bundle.
    """
    with _archive(path) as archive:
        return _card(archive, path)


@dataclass(frozen=True)
class Checked:
    """A bundle of which all has been looked at that can be without Keras.

    Attributes:
        card: what it says of itself.
        path: the file.
        unpacked: the network, unpacked to a place that only lasts as long as `opened` does.
    """

    card: Card
    path: Path
    unpacked: Path

    def load(self) -> Bundle:
        """Build the network; nothing in it is executed, see `serfuse.prediction.keras_file`.

        Raises:
            ModelFileError: a network that is refused, or does not fit its card.
        """
        if self.card.format == PLAIN_FORMAT:
            return Bundle(self.card, plain_model.read(self.unpacked, self.path))
        backend.set_up_backend()
        network, card = keras_file.load(self.unpacked, self.path, self.card.model), self.card
        takes = {tensor.name: tuple(tensor.shape) for tensor in network.inputs}
        gives = tuple(network.outputs[0].shape)
        expected = {name: (None, *part.shape) for name, part in card.inputs.items()}
        if takes != expected or len(network.outputs) != 1 or gives != (None, len(card.classes)):
            raise ModelFileError(
                f"{self.path}: its network takes {takes} and gives {gives}; its card says {expected} and "
                f"{len(card.classes)} classes."
            )
        return Bundle(card, network, keras_file.clips_at_once(network, self.path))


@contextmanager
def opened(path: Path) -> Iterator[Checked]:
    """A bundle, which may come from anybody, unpacked and checked: every byte of it against its checksum, the card,
    and the network as far as `keras_file.check` goes. Neither Keras nor an encoder is imported.

    What was checked is what `Checked.load` reads, whatever happens to the file in between.

    Raises:
        ModelFileError: missing, damaged, or not a bundle.
    """
    with _archive(path) as archive, ExitStack() as stack:
        card = _card(archive, path)
        folder = stack.enter_context(keras_file.unpacking(path))
        unpacked = keras_file.unpacked(archive, _PLAIN if card.format == PLAIN_FORMAT else _NETWORK, folder, path)
        if card.format == PLAIN_FORMAT:
            sizes = {name: part.size for name, part in card.inputs.items()}
            if not plain_model.fits(plain_model.read(unpacked, path), sizes, len(card.classes)):
                raise ModelFileError(
                    f"{path}: its model takes other inputs, or gives other classes, than its card says."
                )
        else:
            keras_file.check(unpacked, path)
        checked = Checked(card, path, unpacked)
        stack = stack.pop_all()
    with stack:
        yield checked


def load(path: Path) -> Bundle:
    """Read a bundle.

    Raises:
        ModelFileError: missing, damaged, not a bundle, or a network that is refused or does not fit its card.
    """
    with opened(path) as checked:
        return checked.load()


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """The zip archive, its members of the right names and sizes; damage that is met in the block names the file."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for
            raise ModelFileError(f"{path} is no model that `serfuse train` wrote: it is not a file.")
        with zipfile.ZipFile(path) as archive:
            _check_members(archive.infolist(), path)
            yield archive
    except ModelFileError:
        raise
    except FileNotFoundError:
        raise ModelFileError(f"There is no model {path}. Make one with `serfuse train RUN`.") from None
    except Exception as error:  # zipfile says NotImplementedError, RuntimeError, EOFError ... about flipped bits
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ModelFileError(
            f"{path} is no model that `serfuse train` wrote, or is damaged: {str(reason)[:300]}."
        ) from None


def _check_members(members: list[zipfile.ZipInfo], path: Path) -> None:
    limits = {_CARD: MAX_CARD_BYTES, _NETWORK: MAX_NETWORK_BYTES}
    if any(item.filename == _PLAIN for item in members):
        limits = {_CARD: MAX_CARD_BYTES, _PLAIN: plain_model.MAX_BYTES}
    if sorted(item.filename for item in members) != sorted(limits):
        raise ModelFileError(
            f"{path} is no model that `serfuse train` wrote: it holds "
            f"{', '.join(repr(item.filename[:100])[1:-1] for item in members[:5]) or 'nothing'}; expected "
            f"{', '.join(limits)}."
        )
    for item in members:
        if item.file_size > limits[item.filename] or item.compress_type != zipfile.ZIP_STORED:
            raise ModelFileError(
                f"{path}: {item.filename} is compressed, or larger than {limits[item.filename]} bytes."
            )


# -- what the card may say ---------------------------------------------------------------------------------


def _card(archive: zipfile.ZipFile, path: Path) -> Card:
    content = archive.read(_CARD)
    try:
        values = json.loads(content)
        json.dumps(values, allow_nan=False)  # 1e999 and NaN, which `predict --json` would hand on
        expected = PLAIN_FORMAT if _PLAIN in archive.namelist() else FORMAT
        if isinstance(values, dict) and values.get("format") != expected:
            raise ModelFileError(
                f"{path} has the format {shown(str(values.get('format')))}; this version of serfuse reads {FORMAT} "
                f"with a network and {PLAIN_FORMAT} with {_PLAIN}."
            )
        _check_texts(values)
        card = Card.model_validate(values)
        for name, key in card.keys().items():
            _check_key(key, f"inputs.{name}.key")
    except ValidationError as error:
        lines = explain(error, f"{_CARD} of {path}").splitlines()
        raise ModelFileError("\n".join(shown(line, 300) for line in lines)) from None
    except (ValueError, RecursionError, StoreError) as error:
        raise ModelFileError(f"{path}: {_CARD} cannot be read: {shown(str(error), 300)}") from None
    return card


def _check_texts(values: Any) -> None:
    """Refuse text that changes more on a terminal than the place where it stands.

    Raises:
        ValueError: control characters (escape sequences, line breaks), marks of writing direction, half characters.
    """
    waiting = [values]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        elif isinstance(value, dict):
            waiting += [*value, *value.values()]
        elif isinstance(value, str) and any(map(_commands, value)):
            raise ValueError(f"{shown(ascii(value))} holds characters that a terminal would obey.")


def _commands(character: str) -> bool:
    return (
        unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
        or "\u202a" <= character <= "\u202e"
        or ("\u2066" <= character <= "\u2069")
    )


def _check_key(key: EmbeddingKey, where: str) -> None:
    """Refuse an embedding key that no `serfuse extract` makes.

    Raises:
        ValueError: naming the field.
    """
    if key.encoder not in encoders.ENCODERS:
        raise ValueError(f"{where}: this serfuse has no encoder {key.encoder!r}.")
    try:
        pad = PadPolicy.parse(key.pad)
        sound = pad.resolved and pad.name == key.pad
    except ConfigError:
        sound = False
    defaults = encoders.preset(key.encoder).options
    for field, value, good in (
        ("pad", key.pad, sound),
        ("pooling", key.pooling, key.pooling in POOLINGS),
        ("weights", key.weights, _WEIGHTS.fullmatch(key.weights)),
        ("layer", key.layer, _LAYER.fullmatch(key.layer)),
        ("dtype", key.dtype, key.dtype in DTYPES),
        ("sample_rate", key.sample_rate, RATES[0] <= key.sample_rate <= RATES[1]),
        ("code", key.code, 0 <= key.code <= _MOST),
        *(
            (f"options.{name}", value, name in defaults and type(value) is type(defaults[name]))
            for name, value in key.options.items()
        ),
    ):
        if not good:
            raise ValueError(f"{where}.{field}: {shown(repr(value))} is nothing that `serfuse extract` writes.")
