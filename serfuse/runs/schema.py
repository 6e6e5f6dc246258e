"""The files `config.yaml` and `metrics.json` of a run folder: what they hold, for writing and for reading.

A run folder may come from anybody, and from an earlier or later version: what is not always there is optional, and
further keys are let through.
"""

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..errors import RunError
from ..experiment.config import explain
from ..models import MAX_INPUTS
from . import sentences

# Not only a number: Python's JSON reader lets NaN and infinity through.
Number = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Model = TypeVar("Model", bound=BaseModel)


class _Part(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


class _Bounds(_Part):
    low: Number | None
    high: Number | None


class _Scores(_Part):
    accuracy: Share
    macro_f1: Share | None
    uar: Share | None
    weighted_f1: Share | None
    log_loss: Number | None
    ece: Share | None


class _Class(_Part):
    support: Count
    recall: Share | None
    precision: Share | None
    f1: Share | None


class _Pooled(_Scores):
    clips: Count
    per_class: dict[str, _Class]
    confusion: list[list[Count]]


class _Fold(_Scores):
    repeat: Count
    fold: Count


class _FoldAudit(_Part):
    train: Count
    validation: Count
    test: Count
    shared_speakers: Count | None
    shared_texts: Count | None
    repeated: Count | None
    identical: Count | None


class _Audit(_Part):
    folds: list[_FoldAudit]
    sentences: Annotated[list[str], Field(min_length=1)]


class _Intervals(_Part):
    __pydantic_extra__: dict[str, _Bounds]
    accuracy: _Bounds
    per_class: dict[str, _Bounds] = {}


class _Interval(_Part):
    unit: str
    note: str


class _Sensitivity(_Part):
    changed: Number
    accuracy_drop: Number


class _Neighbours(_Part):
    accuracy: Share
    changed_from_alone: Share | None = None


class _Chosen(_Part):
    """What `training.search` chose in a fold: the value of each key."""

    repeat: Count
    fold: Count
    settings: dict[str, Any]


class _LayerWeights(_Part):
    """What the layers of an encoder weigh in the sum that a network takes of them: in the mean, and in each fold."""

    encoder: str
    layers: Annotated[list[Count], Field(min_length=1, max_length=1000)]
    mean: list[Share]
    folds: list[list[Share]]

    @model_validator(mode="after")
    def _sizes_agree(self) -> "_LayerWeights":
        if any(len(weights) != len(self.layers) for weights in (self.mean, *self.folds)):
            raise ValueError(f"expected {len(self.layers)} weights, one for each layer")
        return self


class Metrics(_Part):
    """`metrics.json`."""

    classes: Annotated[list[str], Field(min_length=1)]
    folds: Annotated[list[_Fold], Field(min_length=1)]
    mean: _Scores
    std: dict[str, Number | None]
    pooled: _Pooled
    intervals: _Intervals
    interval: _Interval
    audit: _Audit
    parameters: Count = 0
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    sensitivity: dict[str, _Sensitivity] = {}
    neighbours: dict[str, _Neighbours] = {}
    chosen: list[_Chosen] = []
    layer_weights: dict[str, _LayerWeights] = {}

    @model_validator(mode="after")
    def _sizes_agree(self) -> "Metrics":
        number = len(self.classes)
        if len(set(self.classes)) < number or set(self.pooled.per_class) != set(self.classes):
            raise ValueError("pooled.per_class does not hold the classes")
        if [len(row) for row in self.pooled.confusion] != [number] * number:
            raise ValueError(f"pooled.confusion is not {number} x {number}")
        if len(self.audit.folds) != len(self.folds):
            raise ValueError(f"the audit is about {len(self.audit.folds)} folds, the figures about {len(self.folds)}")
        if "accuracy" not in self.std:
            raise ValueError("std lacks accuracy")
        if self.neighbours and not {"alone", "fold"} <= set(self.neighbours):
            raise ValueError("neighbours lacks alone or fold")
        return self


class Corpus(_Part):
    """What was learned from; `left_out` are clips that extract skipped."""

    name: str
    clips: Count
    left_out: Count = 0
    speakers: Count
    speaker_kind: str = "speaker"
    classes: list[str] = []
    synthetic: bool = False


class Key(_Part):
    """The key of an embedding, as far as it is shown; `EmbeddingKey.from_dict` knows all of it."""

    encoder: str
    weights: str
    layer: Any
    pooling: str
    pad: str

    @property
    def random(self) -> bool:
        """Whether the weights were never trained."""
        return self.weights.startswith("random")


class Data(_Part):
    """What the store was asked for."""

    corpus: str | None = None
    a: str | None = None
    b: str | None = None
    c: str | None = None
    d: str | None = None
    e: str | None = None
    f: str | None = None
    g: str | None = None
    h: str | None = None
    pooling: str | None = None


class Split(_Part):
    """How the clips were split."""

    name: str
    folds: Count
    repeats: Count
    folder: str | None = None


class Member(_Part):
    """A finished run that went into a fusion of finished runs."""

    run: str
    model: str
    inputs: list[str]
    seed: Count


class Digests(_Part):
    """Hashes of the data that a run was made with, see `Dataset.digests`; runs before 0.2 have none."""

    clips: str | None = None
    labels: str | None = None
    speakers: str | None = None
    texts: str | None = None
    folds: str | None = None
    recordings: str | None = None
    embeddings: dict[str, str] = {}


class Description(_Part):
    """`config.yaml` of a run folder: the settings with every default, and what the run was made with."""

    model: str
    options: dict[str, Any]
    data: Data = Data()
    split: Split
    training: dict[str, Any]
    seed: Count
    embeddings: Annotated[dict[str, Key], Field(min_length=1, max_length=MAX_INPUTS)]
    corpus: Corpus
    versions: dict[str, Any]
    backend: str = "-"
    trainer: str | None = None
    threads: Count | list[Count] | None = None
    digests: Digests = Digests()
    made_of: list[Member] = []

    @property
    def encoders(self) -> list[str]:
        """Of the inputs, in their order."""
        return [key.encoder for key in self.embeddings.values()]

    @property
    def random_weights(self) -> list[str]:
        """Encoders that were never trained."""
        return [key.encoder for key in self.embeddings.values() if key.random]

    @property
    def title(self) -> str:
        """One line that says what a figure shows."""
        return sentences.title(
            self.model,
            [(key.encoder, key.random) for key in self.embeddings.values()],
            self.corpus.name,
            self.corpus.synthetic,
            self.split.name,
        )

    def to_dict(self) -> dict[str, Any]:
        """The values that were given, in the order of the file."""
        return self.model_dump(mode="json", exclude_unset=True)


RECORDED = ("embeddings", "corpus", "versions", "backend", "trainer", "threads", "digests", "made_of", "environment")
"""Keys of `Description` that are no settings."""


def check_description(values: Any, where: str) -> Description:
    """What `config.yaml` holds.

    Raises:
        RunError: naming what in it is missing or of another type; `where` is the run folder.
    """
    return _validated(Description, values, "config.yaml", where)


def check_metrics(values: Any, description: Description, where: str) -> Metrics:
    """What `metrics.json` holds.

    Raises:
        RunError: as `check_description`, or the two files are about different inputs.
    """
    found = _validated(Metrics, values, "metrics.json", where)
    unknown = {*found.sensitivity, *found.layer_weights} - set(description.embeddings)
    if unknown:
        raise RunError(
            f"{where} is not a whole run folder: metrics.json tells of the inputs {', '.join(sorted(unknown))}, "
            f"config.yaml of {', '.join(description.embeddings)}. Run it again."
        )
    return found


def _validated(model: type[Model], values: Any, name: str, where: str) -> Model:
    try:
        return model.model_validate(values)
    except (ValidationError, RecursionError) as error:
        reason = explain(error, name) if isinstance(error, ValidationError) else "nested without end"
        lines = reason.splitlines()
        more = f"\n  ... and {len(lines) - 4} more" if len(lines) > 4 else ""
        text = "\n".join(line[:200] for line in lines[:4])
        raise RunError(f"{where} is not a whole run folder. Run it again.\n{text}{more}") from None
