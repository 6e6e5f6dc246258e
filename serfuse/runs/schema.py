"""What a report needs of `metrics.json` and `config.yaml`: a run folder may come from anybody."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..errors import RunError
from ..experiment.config import explain

# Not only a number: Python's JSON reader lets NaN and infinity through.
Number = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]


class _Part(BaseModel):
    """Further keys are let through: a later version may write more."""

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


class _Corpus(_Part):
    name: str
    clips: Count
    speakers: Count
    speaker_kind: str = "speaker"
    synthetic: bool = False


class _Key(_Part):
    encoder: str
    weights: str
    layer: Any
    pooling: str
    pad: str


class _Split(_Part):
    name: str
    folds: Count
    repeats: Count


class Description(_Part):
    """`config.yaml` of a run folder."""

    model: str
    corpus: _Corpus
    embeddings: Annotated[dict[str, _Key], Field(min_length=1, max_length=2)]
    split: _Split
    options: dict[str, Any]
    training: dict[str, Any]
    seed: Count
    versions: dict[str, Any]


def check(metrics: Any, config: Any, where: str) -> None:
    """Refuses files that a report cannot be made of.

    Args:
        metrics: what `metrics.json` holds.
        config: what `config.yaml` holds.
        where: the run folder, for the message.

    Raises:
        RunError: naming the file and what in it is missing or of another type.
    """
    for name, model, values in (("config.yaml", Description, config), ("metrics.json", Metrics, metrics)):
        try:
            found = model.model_validate(values)
        except (ValidationError, RecursionError) as error:
            reason = explain(error, name) if isinstance(error, ValidationError) else "nested without end"
            lines = reason.splitlines()
            more = f"\n  ... and {len(lines) - 4} more" if len(lines) > 4 else ""
            text = "\n".join(line[:200] for line in lines[:4])
            raise RunError(f"{where} is not a whole run folder. Run it again.\n{text}{more}") from None
    unknown = set(found.sensitivity) - set(config["embeddings"])
    if unknown:
        raise RunError(
            f"{where} is not a whole run folder: metrics.json tells of the inputs {', '.join(sorted(unknown))}, "
            f"config.yaml of {', '.join(config['embeddings'])}. Run it again."
        )
