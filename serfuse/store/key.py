"""What identifies an embedding: everything that can change its numbers."""

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from typing import Any

from ..errors import StoreError

EXTRACTION_VERSION = 1
"""Raised whenever a change of this package's code changes embeddings. Part of every key, so that the next `extract`
computes them anew and older ones are no longer found."""

TOGETHER = "+"
"""Stands between layers that are used together."""

_FORMAT = 1


@dataclass(frozen=True)
class EmbeddingKey:
    """How embeddings were made. Two keys are equal when nothing that can change a number differs.

    Attributes:
        encoder: registry name.
        weights: `Encoder.weights_id`: "none", "random:SEED", "sha256:...", or "hub:NAME@REVISION".
        layer: "last" or a number as text; "0+1+2" stands for several that are used together (see `layers`), which no
            folder holds.
        pooling: "time", "paper" or "mean-std".
        pad: resolved pad policy: "none", "5.000" (seconds), or "max:8.978" (the corpus' longest clip in seconds).
        sample_rate: Hz at which the encoder heard the audio.
        dtype: of the computation; stored vectors are float32.
        options: resolved options of the encoder, JSON values.
        libraries: versions of the libraries that define the numbers, for encoders that are signal processing.
        code: `EXTRACTION_VERSION` when they were made.
    """

    encoder: str
    weights: str = "none"
    layer: str = "last"
    pooling: str = "time"
    pad: str = "none"
    sample_rate: int = 16000
    dtype: str = "float32"
    options: Mapping[str, Any] = field(default_factory=dict)
    libraries: Mapping[str, str] = field(default_factory=dict)
    code: int = EXTRACTION_VERSION

    def __post_init__(self) -> None:
        try:
            # Through JSON once, so that a key read back from key.json equals the one that was written.
            options, libraries = (
                json.loads(json.dumps(dict(part), allow_nan=False)) for part in (self.options, self.libraries)
            )
        except (TypeError, ValueError) as error:
            raise StoreError(
                f"An option of encoder {self.encoder!r} cannot be part of a key: {error}. Expected text, numbers, "
                f"true or false; received {self.options!r}."
            ) from error
        object.__setattr__(self, "options", options)
        object.__setattr__(self, "libraries", libraries)
        object.__setattr__(self, "layer", str(self.layer))

    def __hash__(self) -> int:
        return hash(self.digest)

    @property
    def digest(self) -> str:
        """12 hexadecimal digits that stand for the whole key."""
        canonical = json.dumps({"format": _FORMAT, **self.to_dict()}, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]

    @property
    def folder(self) -> str:
        """Name of the folder that holds these embeddings; also a full name wherever an encoder is asked for."""
        return f"{self.encoder}-{self.digest}"

    @property
    def layers(self) -> tuple[str, ...]:
        """The layer, or each of several that are used together."""
        return tuple(self.layer.split(TOGETHER))

    @property
    def joint(self) -> bool:
        """Whether it stands for several layers that are used together."""
        return len(self.layers) > 1

    def of_layer(self, layer: str) -> "EmbeddingKey":
        """The same with one layer, or with several as "0+1+2"."""
        return replace(self, layer=layer)

    @property
    def selector(self) -> str:
        """What names these embeddings in a configuration: the folder, or of several layers all that tells them."""
        if not self.joint:
            return self.folder
        chosen = {name: getattr(self, name) for name in ("layer", "pooling", "pad", "weights", "dtype")}
        return f"{self.encoder}@{','.join(f'{name}={value}' for name, value in chosen.items())}"

    @property
    def random(self) -> bool:
        """Whether the weights were never trained, so that the embeddings say nothing about speech."""
        return self.weights.startswith("random")

    def to_dict(self) -> dict[str, Any]:
        """The fields, as JSON values."""
        return {item.name: getattr(self, item.name) for item in fields(self)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "EmbeddingKey":
        """The key of `to_dict`.

        Raises:
            StoreError: a field is missing or unknown.
        """
        expected = {item.name for item in fields(cls)}
        if set(data) != expected:
            raise StoreError(
                f"Not the fields of an embedding key: missing {sorted(expected - set(data))}, "
                f"unknown {sorted(set(data) - expected)}."
            )
        return cls(**data)

    @property
    def current(self) -> bool:
        """Whether the present code would make the same embeddings."""
        return self.code == EXTRACTION_VERSION

    def settings(self) -> str:
        """Everything but the encoder's name, for people."""
        # Twelve digits of a hash tell files apart; key.json has all of them.
        weights = self.weights[:19] if self.weights.startswith("sha256:") else self.weights
        parts = [f"pooling {self.pooling}", f"pad {self.pad}", f"layer {self.layer}", f"weights {weights}"]
        if self.random:
            parts[-1] += " (NEVER TRAINED: for benchmarks only)"
        if self.dtype != "float32":
            parts.append(self.dtype)
        parts += [f"{name}={option_text(value)}" for name, value in sorted(self.options.items())]
        parts += [f"{name} {version}" for name, version in sorted(self.libraries.items())]
        if not self.current:
            parts.append("OUTDATED: made by an earlier version of the extraction code")
        return ", ".join(parts)

    def describe(self) -> str:
        """One line for people."""
        return f"{self.folder}: {self.settings()}"


def option_text(value: Any) -> str:
    """An option's value as `--option KEY=VALUE` takes it: text as it is, everything else as JSON (`true`, not `True`).

    Text that would be taken for JSON ("80", "true") is quoted.
    """
    if isinstance(value, str):
        with suppress(ValueError):
            json.loads(value)
            return json.dumps(value)
        return value
    return json.dumps(value)
