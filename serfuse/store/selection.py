"""Which embeddings are meant, and the command that makes them."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from .key import TOGETHER, EmbeddingKey, option_text


def fits(key: EmbeddingKey, name: str, value: Any) -> bool:
    """Whether a field of the key is as asked: "random" and "max" fit every seed and length, options those given."""
    have = getattr(key, name)
    if isinstance(have, dict):
        return isinstance(value, Mapping) and all(have.get(item) == wanted for item, wanted in value.items())
    have, value = str(have), str(value)
    if name == "pad":
        with suppress(ValueError):
            return float(have) == float(value)
    return have == value or (name in ("pad", "weights") and have.startswith((f"{value}:", f"{value}@")))


ALL_LAYERS = "all"
"""As the layer of `find`: every numbered layer that is there, used together."""


def several_layers(layer: Any) -> bool:
    """Whether several layers are asked for, to be used together: "all", or "0+6+9"."""
    return str(layer) == ALL_LAYERS or TOGETHER in str(layer)


def joint(keys: Sequence[EmbeddingKey], layer: str) -> list[EmbeddingKey]:
    """The keys of several layers used together, one for each kind of embeddings that has these layers.

    Args:
        keys: of single layers.
        layer: "all", which asks for two at least, or "0+6+9".
    """
    kinds: dict[EmbeddingKey, list[int]] = {}
    for key in keys:
        if key.layer.isdecimal():
            kinds.setdefault(key.of_layer(""), []).append(int(key.layer))
    asked = None if layer == ALL_LAYERS else layer.split(TOGETHER)
    found = []
    for kind, numbers in kinds.items():
        there = [str(number) for number in sorted(numbers)]
        chosen = there if asked is None else [one for one in there if one in asked]
        if len(chosen) > 1 and (asked is None or set(asked) == set(chosen)):
            found.append(kind.of_layer(TOGETHER.join(chosen)))
    return found


def difference(encoder: str, keys: Sequence[EmbeddingKey], layer: str = "") -> str:
    """How the first key is told apart from the others, in the command line's notation.

    Args:
        encoder: its name.
        keys: two or more that fit.
        layer: what was asked for, where the keys are of several layers used together.
    """
    for name in ("pooling", "pad", "layer", "weights", "dtype"):
        if len({getattr(key, name) for key in keys}) > 1:
            together = f",layer={layer}" if layer and name != "layer" else ""
            return f"{encoder}@{name}={getattr(keys[0], name)}{together}"
    return keys[0].selector if keys[0].joint else keys[0].folder


def settings_of(key: EmbeddingKey) -> dict[str, Any]:
    """What of a key differs from the defaults of `serfuse extract`, for the command that makes it."""
    found = {name: getattr(key, name) for name in ("pooling", "layer", "pad", "weights", "dtype", "options")}
    standard = {"layer": "last", "dtype": "float32", "options": {}}
    return {name: value for name, value in found.items() if standard.get(name) != value}


def command(words: Sequence[str], encoder: str, settings: Mapping[str, Any]) -> list[str]:
    """The words of a `serfuse extract` command: those that name the corpus, then the encoder with its settings."""
    found = [*words, "--encoder", encoder]
    flags = {"pooling": "--pool", "pad": "--pad", "layer": "--layer", "dtype": "--dtype"}
    for name, value in settings.items():
        if name in flags:
            value = str(value).replace(TOGETHER, ",") if name == "layer" else value
            found += [flags[name], "max" if name == "pad" and str(value).startswith("max") else str(value)]
        elif name == "weights" and str(value).startswith("random"):
            found += ["--weights", "random"]
            if (seed := str(value).partition(":")[2]) not in ("", "0"):
                found += ["--seed", seed]
        elif name == "options":
            for option, setting in value.items():
                found += ["--option", f"{option}={option_text(setting)}"]
    return found
