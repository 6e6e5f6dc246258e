"""A sweep file: which table is made, of which corpora, representations, models and seeds."""

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator

from .. import models
from ..errors import ConfigError, ExtensionError, UnknownNameError
from ..experiment import config as configs
from ..metrics import METRICS

MAX_EXPERIMENTS = 100_000


def _known(metric: str) -> str:
    try:
        METRICS.get(metric)
    except UnknownNameError:
        raise ValueError(f"choose one of: {', '.join(METRICS)}") from None
    except ExtensionError as error:
        raise ValueError(str(error)) from None
    return metric


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PublishedTable(_Section):
    """Where the printed figures stand."""

    paper: Literal["hyfuse", "parrot"]
    table: int = Field(ge=1)


class ModelEntry(_Section):
    """One model of the table; `model` only where the same one comes twice with other settings."""

    model: str | None = None
    heading: str | None = None
    settings: dict[str, Any] = Field(default_factory=dict, description="keys of `configs/<model>.yaml` to change")


class Block(_Section):
    """Rows that belong together; each is one encoder, or a list of several that are fused."""

    title: str | None = None
    rows: list[str | list[str]] = Field(min_length=1)

    @field_validator("rows")
    @classmethod
    def _few(cls, rows: list[str | list[str]]) -> list[str | list[str]]:
        for row in rows:
            if isinstance(row, list) and not 1 <= len(row) <= models.MAX_INPUTS:
                raise ValueError(f"a row is one encoder or a list of up to {models.MAX_INPUTS}, received {row}")
        return rows


class SweepFile(_Section):
    """Everything a sweep file may say. See docs/sweeps.md for each key with an example."""

    title: str
    published: PublishedTable | None = Field(None, description="the printed table to show beside")
    corpora: dict[str, str] = Field(min_length=1, description="corpus of the store -> heading")
    models: dict[str, ModelEntry] = Field(min_length=1)
    models_as: Literal["columns", "blocks"] = Field("columns", description="whether a model is a column or a block")
    encoders: dict[str, str] = Field(
        default_factory=dict, description="abbreviation used in the rows -> encoder, with selectors if need be"
    )
    blocks: list[Block] = Field(min_length=1)
    rows_heading: str = "Representation"
    separator: str = Field(" + ", description="between the names of a row of several")
    seeds: list[int] = Field(default_factory=lambda: [0], min_length=1)
    metrics: list[Annotated[str, AfterValidator(_known)]] = Field(
        default_factory=lambda: ["accuracy", "macro_f1"], min_length=1, description="names of `serfuse.metrics.METRICS`"
    )
    settings: dict[str, Any] = Field(default_factory=dict, description="settings of every model of the table")

    @field_validator("seeds")
    @classmethod
    def _seeds(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"a seed stands there twice: {seeds}")
        if any(not 0 <= seed < 2**31 for seed in seeds):
            raise ValueError(f"seeds are from 0 to 2147483647, received {seeds}")
        return seeds

    def model_name(self, key: str) -> str:
        """The registered model behind an entry of `models`."""
        return self.models[key].model or key


def shipped_names() -> list[str]:
    """The sweep files that ship with serfuse."""
    folder = resources.files("serfuse.configs") / "tables"
    return sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml"))


def read(name: str) -> tuple[SweepFile, str]:
    """A sweep file by path, or one that ships with serfuse by its name.

    Returns:
        the validated content, and the name that its folder of results gets by default.

    Raises:
        ConfigError: no such file, not YAML, unknown keys, or values that do not fit together.
    """
    path = Path(name)
    if path.is_file():
        return validate(configs.read_yaml(path), name), path.stem
    known = shipped_names()
    shipped = path.name.removesuffix(".yaml")
    # `configs/tables/<name>.yaml` is how a source tree calls the same file.
    if shipped in known and (path.parent == Path(".") or path.parent.parts[-2:] == ("configs", "tables")):
        text = (resources.files("serfuse.configs") / "tables" / f"{shipped}.yaml").read_text("utf-8")
        return validate(configs.parse_yaml(text, f"configs/tables/{shipped}.yaml"), shipped), shipped
    raise ConfigError(f"There is no sweep file {name!r}. Give a YAML file, or one of: {', '.join(known)}.")


def validate(values: Mapping[str, Any], where: str) -> SweepFile:
    """The content of a sweep file.

    Raises:
        ConfigError: listing every unknown key and bad value.
    """
    try:
        spec = SweepFile(**values)
    except ValidationError as error:
        raise ConfigError(configs.explain(error, f"the sweep {where}")) from None
    except TypeError as error:  # keys that are not text
        raise ConfigError(f"Bad configuration in the sweep {where}: {error}.") from None
    for key in spec.models:
        try:
            model = models.get(spec.model_name(key))
        except UnknownNameError as error:
            raise ConfigError(f"The sweep {where}, models.{key}: {error}") from None
        if model.instead:
            raise ConfigError(f"The sweep {where}: the model {key!r} cannot be trained: {model.instead}")
        for block in spec.blocks:
            for row in block.rows:
                given = 1 if isinstance(row, str) else len(row)
                if not model.takes(given):
                    raise ConfigError(
                        f"The sweep {where}: the model {key!r} takes {model.inputs_wanted}, but the row {row!r} has "
                        f"{given}."
                    )
    rows = sum(len(block.rows) for block in spec.blocks)
    experiments = rows * len(spec.corpora) * len(spec.models) * len(spec.seeds)
    if experiments > MAX_EXPERIMENTS:
        raise ConfigError(
            f"The sweep {where} asks for {experiments} cross-validations; at most {MAX_EXPERIMENTS} fit in one sweep."
        )
    return spec
