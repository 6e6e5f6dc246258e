"""One experiment as a file: what is read, how it is split, what is trained and how.

A configuration is plain YAML with the keys of `Config`. Unknown keys and values out of range are errors that name
the key. `configs/` holds one file per model; `serfuse cv` starts from the file of the model and lets every key be
overridden on the command line.
"""

import math
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import (
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from .. import models
from ..errors import ConfigError
from ..metrics import METRICS
from ..registry import OWN
from . import trainers

MAX_CONFIG_BYTES = 1 << 16
_MAX_DEPTH = 20  # of sections in sections; the deepest that serfuse writes are four
_SHOWN_PROBLEMS = 20


class DataConfig(models.Settings):
    """Which rows of the store are used.

    The inputs are called "a", "b", "c" ... in their order. A file may say them one by one, or as a list `inputs`.
    """

    later = tuple(models.INPUTS[2:])

    corpus: str | None = Field(None, description="a corpus of the store; may be left out when it holds one")
    a: str | None = Field(None, description="first encoder, optionally with selectors: 'hubert@pooling=time,layer=6'")
    b: str | None = Field(None, description="second encoder, for a fusion")
    c: str | None = Field(None, description="third encoder, for fusions that take more than two")
    d: str | None = None
    e: str | None = None
    f: str | None = None
    g: str | None = None
    h: str | None = None
    pooling: str | None = Field(None, description="pooling of all, needed when the store holds several")

    @model_validator(mode="before")
    @classmethod
    def _listed(cls, values: Any) -> Any:
        """Take `inputs: [x, y]` for `a: x`, `b: y`."""
        if not isinstance(values, Mapping) or values.get("inputs") is None:
            return values
        listed, rest = values["inputs"], {key: value for key, value in values.items() if key != "inputs"}
        if not isinstance(listed, Sequence) or isinstance(listed, str) or not 1 <= len(listed) <= models.MAX_INPUTS:
            raise ValueError(f"inputs must list 1 to {models.MAX_INPUTS} encoders, received {listed!r}")
        if twice := [name for name in models.INPUTS if rest.get(name) is not None]:
            raise ValueError(f"say the encoders either as inputs or one by one, not both ({', '.join(twice)})")
        return {**rest, **dict(zip(models.INPUTS, listed, strict=False))}

    @model_validator(mode="after")
    def _without_gaps(self) -> "DataConfig":
        given = "".join(self.inputs)
        if not models.INPUTS.startswith(given):
            raise ValueError(f"the encoders are called a, b, c ... without gaps, received {', '.join(given)}")
        return self

    @property
    def inputs(self) -> dict[str, str]:
        """The encoders that were given, by the name of their input, in order."""
        return {name: text for name in models.INPUTS if (text := getattr(self, name))}


class SplitConfig(models.Settings):
    """How clips are split."""

    name: str = Field("random", description="see `serfuse.splits.folds`")
    folds: int = Field(5, ge=2, le=1000)
    repeats: int = Field(1, ge=1, le=1000, description="times the whole split is drawn anew")
    folder: str | None = Field(None, description="for 'given': an EmoBox folder with fold_1, fold_2 ... of the corpus")


GRIDS: dict[str, dict[str, list[Any]]] = {
    "C": {"options.C": [1.0, 0.3, 3.0, 10.0]},
    "head-C": {"options.head_options.C": [1.0, 0.3, 3.0, 10.0]},
    "head-kernel": {"options.head_options.kernel": ["rbf", "linear"]},
    "learning-rate": {"training.learning_rate": [1e-3, 3e-4, 1e-4]},
    "dropout": {"options.dropout": [0.3, 0.1, 0.5]},
    "head": {"options.head": ["svm", "fcn"]},
}
"""Grids of `training.search` that have a name; the default stands first, and wins among equals."""
MAX_CANDIDATES = 64
_SEARCHED = ("options.", "training.learning_rate", "training.batch_size", "training.epochs", "training.patience")


class SearchConfig(models.Settings):
    """Settings that are chosen anew in each fold, on inner folds of its training part; never on its test part.

    The inner folds keep apart what the run's split does.
    """

    grid: str | dict[str, list[Any]] = Field(description="a named grid, or the values of each key: {options.C: [1, 3]}")
    folds: int = Field(3, ge=2, le=20, description="inner folds")
    metric: Literal["uar", "log_loss"] = Field("uar", description="of all clips that the inner folds hold out")

    @field_validator("grid")
    @classmethod
    def _bounded(cls, value: str | dict[str, list[Any]]) -> str | dict[str, list[Any]]:
        if isinstance(value, str):
            if value not in GRIDS:
                raise ValueError(
                    f"no grid of that name; choose from {', '.join(GRIDS)}, or give the values of each key"
                )
            return value
        for key, values in value.items():
            if not key.startswith(_SEARCHED):
                raise ValueError(f"{key!r} is not searched; keys begin with {', '.join(_SEARCHED)}")
            if not values:
                raise ValueError(f"{key!r} has no values")
        size = math.prod(len(values) for values in value.values())
        if not value or size > MAX_CANDIDATES:
            raise ValueError(f"1 to {MAX_CANDIDATES} combinations, received {size if value else 0}")
        return value

    @property
    def values(self) -> dict[str, list[Any]]:
        """The values of each key."""
        return GRIDS[self.grid] if isinstance(self.grid, str) else self.grid

    @property
    def size(self) -> int:
        """How many combinations there are."""
        return math.prod(len(values) for values in self.values.values())


class TrainingConfig(models.Settings):
    """How a neural model is trained. Both papers: Adam, cross-entropy, batch 32, 50 epochs, early stopping.

    The settings from `weight_decay` on are none of the papers'. Their defaults are the papers' training, and a file
    leaves out those that stand at their default.
    """

    later = (
        "weight_decay",
        "schedule",
        "loss",
        "focal_gamma",
        "label_smoothing",
        "class_weights",
        "mixup",
        "search",
        "trainer",
    )

    optimizer: Literal["adam"] = "adam"
    learning_rate: float = Field(1e-3, gt=0, le=10)
    batch_size: int = Field(32, ge=1, le=65536)
    epochs: int = Field(50, ge=1, le=100_000)
    patience: int | None = Field(10, ge=1, description="epochs without a better validation loss; null: never stop")
    validation_fraction: float = Field(
        0.1,
        ge=0,
        lt=0.9,
        description="part of the training folds that early stopping looks at, never the test fold",
    )
    weight_decay: float = Field(
        0.0, ge=0, le=10, description="decoupled (AdamW): each step takes learning rate times this off every kernel"
    )
    schedule: Literal["constant", "cosine"] = Field(
        "constant", description="of the learning rate; 'cosine' brings it to zero over all epochs"
    )
    loss: Literal["cross-entropy", "focal"] = "cross-entropy"
    focal_gamma: float = Field(
        2.0, ge=0, le=20, description="of loss=focal, -(1 - p)^gamma log p; 0 is the cross-entropy"
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="part of a label that is shared out evenly among all emotions"
    )
    class_weights: Literal["none", "balanced"] = Field(
        "none",
        description="of networks; 'balanced' weighs a clip by clips / (emotions * clips of its emotion), counted in "
        "the training part. The SVM has options.class_weight",
    )
    mixup: float = Field(
        0.0,
        ge=0,
        le=100,
        description="alpha of Beta(alpha, alpha), in which parts each clip of a batch is mixed with another one, "
        "embeddings and labels alike; 0: not at all",
    )
    search: SearchConfig | None = Field(None, description="settings that are chosen within each training part")
    trainer: str = Field(
        trainers.AUTO,
        max_length=64,
        description="of networks: one of `serfuse.experiment.trainers`, which differ in time and in the last digits; "
        "'auto' takes the fastest that can train them here, 'keras' is plain `keras.Model.fit`",
    )

    @field_validator("search", mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        """Take `search: C` and `search: {options.C: [1, 3]}` for a grid with the usual folds and metric."""
        if isinstance(value, str) or (isinstance(value, Mapping) and value and not value.keys() & _SEARCH_KEYS):
            return {"grid": value}
        return value


_SEARCH_KEYS = SearchConfig.model_fields.keys()


class Config(models.Settings):
    """Everything that decides the result of a cross-validation, next to the stored embeddings themselves."""

    later = ("metrics",)

    model: str
    options: dict[str, Any] = Field(default_factory=dict, description="the model's own settings")
    data: DataConfig = Field(default_factory=DataConfig)
    split: SplitConfig = Field(default_factory=SplitConfig)
    training: TrainingConfig = Field(default_factory=TrainingConfig)
    seed: int = Field(0, ge=0, lt=2**31)
    metrics: tuple[str, ...] = Field(
        (), max_length=100, description="figures of other packages to measure beside serfuse's own, by name"
    )

    def model_options(self) -> models.Options:
        """The validated settings of the model.

        Raises:
            ConfigError: an unknown key or a bad value among `options`.
        """
        try:
            return models.get(self.model).options(**self.options)
        except ValidationError as error:
            raise ConfigError(explain(error, f"options of the model {self.model!r}", "options.")) from None


def explain(error: ValidationError, where: str, prefix: str = "") -> str:
    """What pydantic found wrong, one line per key, for a `ConfigError`.

    Args:
        where: the file, or the part of a configuration that it concerns; empty for settings from everywhere.
        prefix: stands before each key.
    """
    lines = []
    problems = error.errors()
    for problem in problems[:_SHOWN_PROBLEMS]:
        key = prefix + ".".join(str(part) for part in problem["loc"])
        received = "" if problem["type"] in ("missing", "extra_forbidden") else f" (received {problem['input']!r})"
        message = "unknown key" if problem["type"] == "extra_forbidden" else problem["msg"]
        lines.append(f"  {key}: {message}{received}")
    if len(problems) > _SHOWN_PROBLEMS:
        lines.append(f"  ... and {len(problems) - _SHOWN_PROBLEMS} more")
    return f"Bad configuration{f' in {where}' if where else ''}:\n" + "\n".join(lines)


def from_dict(values: dict[str, Any], where: str = "") -> Config:
    """A validated configuration.

    Raises:
        ConfigError: listing every unknown key and bad value.
        UnknownNameError: no such model, metric or trainer.
        ExtensionError: a model or metric of another package, which is broken.
    """
    try:
        config = Config(**values)
    except ValidationError as error:
        raise ConfigError(explain(error, where)) from None
    models.MODELS.get(config.model)
    config.model_options()
    # What other packages add and the user names is imported here, so that a broken one ends nothing that has begun.
    for name in config.metrics:
        METRICS.get(name)
    if config.training.trainer != trainers.AUTO:
        trainers.get(config.training.trainer)
    return config


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file, read without executing anything.

    Raises:
        ConfigError: missing, not a file, too large, or refused by `parse_yaml`.
    """
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise ConfigError(f"Cannot read the configuration {path}: it is not a file.")
        with path.open("rb") as file:
            data = file.read(MAX_CONFIG_BYTES + 1)
        if len(data) > MAX_CONFIG_BYTES:
            raise ConfigError(f"{path} is larger than {MAX_CONFIG_BYTES} bytes; a configuration is a short text file.")
        text = data.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"Cannot read the configuration {path}: {reason}.") from None
    return parse_yaml(text, str(path))


def parse_yaml(text: str, where: str) -> dict[str, Any]:
    """The mapping in a YAML text.

    Raises:
        ConfigError: not YAML, uses aliases (they can expand without bound), is nested too deeply, has a key twice or
            one that is not text, or is not a mapping.
    """
    try:
        values = _load(text)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a number of thousands of digits, the 31st of February
        raise ConfigError(f"{where} is not valid YAML: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{where} must hold `key: value` lines, received {type(values).__name__}.")
    return values


class _Loader(yaml.SafeLoader):
    """Plain values only. PyYAML would take the last of two equal keys, and `on` and `1` for keys that are not text."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.tag != "tag:yaml.org,2002:str":
                shown = repr(key.value) if isinstance(key, yaml.ScalarNode) else "one that is a list or a mapping"
                raise yaml.YAMLError(f"line {key.start_mark.line + 1}: keys must be text, received {shown}. Quote it.")
            if key.value in seen:
                raise yaml.YAMLError(f"line {key.start_mark.line + 1}: the key {key.value!r} stands there twice.")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _load(text: str) -> Any:
    """The value of a YAML text, in bounded time.

    Raises:
        yaml.YAMLError: not YAML, or YAML that a configuration does not need.
        ValueError: a scalar that Python cannot hold.
    """
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            raise yaml.YAMLError(f"more than {_MAX_DEPTH} levels of lists or sections in each other.")
        if isinstance(event, yaml.AliasEvent):
            raise yaml.YAMLError(f"it uses aliases (*{event.anchor}), which configurations do not need. Write it out.")
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def shipped(name: str) -> dict[str, Any]:
    """The configuration file that ships for a model (`configs/<name>.yaml`); the bare defaults where there is none.

    Raises:
        UnknownNameError: no such model.
    """
    models.get(name)
    file = resources.files("serfuse.configs") / f"{name}.yaml"
    if models.MODELS.origin(name) != OWN or not file.is_file():
        return {"model": name}
    return parse_yaml(file.read_text("utf-8"), f"configs/{name}.yaml")


SHORT = {
    "a": "data.a",
    "b": "data.b",
    "c": "data.c",
    "d": "data.d",
    "e": "data.e",
    "f": "data.f",
    "g": "data.g",
    "h": "data.h",
    "inputs": "data.inputs",
    "corpus": "data.corpus",
    "pooling": "data.pooling",
    "split": "split.name",
    "folds": "split.folds",
    "repeats": "split.repeats",
    "epochs": "training.epochs",
    "seed": "seed",
    "metrics": "metrics",
    "trainer": "training.trainer",
}
"""The keys that `configure` and `serfuse cv` know by a short name."""


def configure(model: str | Mapping[str, Any], overrides: Mapping[str, Any] | None = None, **settings: Any) -> Config:
    """A validated configuration: the file of a model, with changes.

    `configure("parrot", a="audiomamba-base", b="hubert", split="loso")` is what
    `serfuse cv --fusion parrot --a audiomamba-base --b hubert --split loso` runs.

    Args:
        model: its name, or the values of a configuration, as `read_yaml` gives them.
        overrides: any further key, such as `{"training.learning_rate": 1e-4, "options.kappa": 1.0}`.
        settings: keys of `SHORT`, which go before `overrides`; `None` leaves one as it is.

    Raises:
        UnknownNameError: no such model.
        ConfigError: listing every unknown key and bad value.
    """
    if unknown := settings.keys() - SHORT.keys():
        raise ConfigError(
            f"Unknown settings: {', '.join(sorted(unknown))}. Choose from {', '.join(SHORT)}, or give the whole key "
            'in overrides, such as {"options.kappa": 1.0}.'
        )
    values = _named_inputs(
        shipped(model) if isinstance(model, str) else dict(model), settings.get("inputs") is not None
    )
    values = assign(values, dict(overrides or {}))
    return from_dict(assign(values, {SHORT[name]: value for name, value in settings.items() if value is not None}))


def _named_inputs(values: dict[str, Any], replaced: bool) -> dict[str, Any]:
    """A file's values with its inputs one by one, so that each may be replaced; without them where all are."""
    data = values.get("data")
    if not isinstance(data, Mapping):
        return values
    if replaced:
        return {**values, "data": {key: value for key, value in data.items() if key not in (*models.INPUTS, "inputs")}}
    listed = data.get("inputs")
    if not isinstance(listed, list) or len(listed) > models.MAX_INPUTS or any(data.get(x) for x in models.INPUTS):
        return values
    rest = {key: value for key, value in data.items() if key not in (*models.INPUTS, "inputs")}
    return {**values, "data": {**rest, **dict(zip(models.INPUTS, listed, strict=False))}}


def _plain(value: str) -> Any:
    """A value of `--set key=value`: YAML 1.1 scalars, and the `1e-4` that YAML 1.1 takes for a text."""
    parsed = _load(value)
    if isinstance(parsed, str):
        try:
            return float(parsed)
        except ValueError:
            return parsed
    return parsed


def override(values: dict[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """A copy of `values` with every `a.b=value` of `assignments` applied.

    Raises:
        ConfigError: an assignment without `=`, or through a key that is no section.
    """
    return assign(values, parse_assignments(assignments))


def parse_assignments(assignments: Sequence[str]) -> dict[str, Any]:
    """`["training.learning_rate=1e-4"]` as the `overrides` of `configure`.

    Raises:
        ConfigError: an assignment without `=`, or of something else than a plain value.
    """
    parsed = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--set takes key=value, such as training.learning_rate=1e-4; received {assignment!r}.")
        try:
            parsed[key.strip()] = _plain(value)
        except (yaml.YAMLError, ValueError):
            shown = value if len(value) <= 80 else f"{value[:80]}..."
            raise ConfigError(f"--set {key.strip()}: {shown!r} is not a plain value.") from None
    return parsed


def assign(values: dict[str, Any], parsed: dict[str, Any]) -> dict[str, Any]:
    """A copy of `values` with every dotted key of `parsed` set.

    Raises:
        ConfigError: a key leads through a value.
    """
    changed = _copy(values)
    for key, value in parsed.items():
        section = changed
        *parents, last = key.split(".")
        for parent in parents:
            section = section.setdefault(parent, {})
            if not isinstance(section, dict):
                raise ConfigError(f"{key}: {parent!r} is a value, not a section.")
        section[last] = value
    return changed


def _copy(values: dict[str, Any]) -> dict[str, Any]:
    return {key: _copy(value) if isinstance(value, dict) else value for key, value in values.items()}


def dump(config: Config) -> str:
    """The configuration as YAML, every default written out but those of settings that came later.

    So a run made with the papers' settings has the same file, and the same fingerprint, whichever version wrote it.
    """
    values = config.model_dump(mode="json")
    values["options"] = config.model_options().model_dump(mode="json")
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
