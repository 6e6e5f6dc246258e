"""What the models of models share: a head per input, by name, and its validated settings."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field, ValidationError, ValidationInfo, field_validator

from .base import EVERY_SETTING, Model, Options

_PER_INPUT = (list, tuple)


class HeadOptions(Options):
    """Settings of a model that puts together what a head says of each input."""

    head: str | tuple[str, ...] = Field("svm", description="a model of one representation; or one for each input")
    head_options: dict[str, Any] | tuple[dict[str, Any], ...] = Field(
        default_factory=dict, description="its settings; a list where `head` is one"
    )

    @field_validator("head")
    @classmethod
    def _of_one_representation(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for name in (value,) if isinstance(value, str) else value:
            model = _get(name)
            if not model.takes(1) or model.fit is not None:
                raise ValueError(f"a head is a model of one representation; {name!r} takes {model.inputs_wanted}")
        return value

    @field_validator("head_options")
    @classmethod
    def _every_default(cls, value: Any, info: ValidationInfo) -> Any:
        """The settings of each head with every default, so that a run's record holds them."""
        head = info.data.get("head")
        if head is None:  # refused already
            return value
        if isinstance(head, str):
            if isinstance(value, _PER_INPUT):
                raise ValueError(f"one mapping for the head {head!r}, received a list")
            return _settings(head, value)
        each = value if isinstance(value, _PER_INPUT) else ({},) * len(head)
        if len(each) != len(head) or (value and not isinstance(value, _PER_INPUT)):
            raise ValueError(f"a list of {len(head)} mappings, one for each head")
        return tuple(_settings(name, one) for name, one in zip(head, each, strict=True))

    @property
    def standardize(self) -> bool:
        """Whether any head estimates the scale of its input."""
        return any(getattr(_options(*head), "standardize", True) for head in self._given)

    @property
    def _given(self) -> list[tuple[str, Mapping[str, Any]]]:
        if isinstance(self.head, str):
            return [(self.head, self.head_options or _settings(self.head, {}))]
        return list(zip(self.head, self.head_options or ({},) * len(self.head), strict=True))

    def heads(self, count: int) -> list[tuple[str, Mapping[str, Any]]]:
        """Name and settings of the head of each of `count` inputs.

        Raises:
            ConfigError: there is a list of heads of another length.
        """
        from ..errors import ConfigError

        given = self._given
        if not isinstance(self.head, str) and len(given) != count:
            raise ConfigError(f"options.head names {len(given)} models for {count} inputs; expected one for each.")
        return given * count if isinstance(self.head, str) else given


def _get(name: str) -> Model:
    from . import get

    return get(name)


def _options(name: str, values: Mapping[str, Any]) -> Options:
    return _get(name).options(**values)


def _settings(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return _options(name, values).model_dump(mode="json", context=EVERY_SETTING)
    except ValidationError as error:
        found = (f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors())
        raise ValueError(f"of the head {name!r}: {'; '.join(found)}") from None


def library(options: HeadOptions) -> str:
    """What trains the heads: "keras" as soon as one of them is a network."""
    libraries = {_get(name).trained_with(_options(name, values)) for name, values in options._given}
    return "keras" if "keras" in libraries else "scikit-learn"


def batch_dependent(options: HeadOptions) -> bool:
    """Whether a head's prediction depends on the clips predicted beside it."""
    return any(_get(name).batch_dependent(_options(name, values)) for name, values in options._given)
