"""Runs that a table would show alike, and the settings that tell them apart."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

_SECTIONS = ("options", "split", "training", "seed", "embeddings", "backend", "trainer", "threads")
_SHOWN = 3


def told_apart(
    seen: Sequence[tuple[str, ...]], configs: Sequence[Mapping[str, Any]], names: Sequence[str]
) -> list[str]:
    """For each run what to add to its model: nothing where no other run looks alike, else the settings that differ.

    Args:
        seen: of each run, what a table shows of it.
        configs: their `config.yaml`.
        names: what to call them where their settings are the same, or differ in more than three places.

    Returns:
        such as `"seed 3"` or `"dropout 0.3, points features"`, one for each run.
    """
    groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for place, key in enumerate(seen):
        groups[key].append(place)
    found = [""] * len(seen)
    for places in groups.values():
        if len(places) < 2:
            continue
        settings = {place: _flat(configs[place]) for place in places}
        keys = list(dict.fromkeys(key for one in settings.values() for key in one))
        differ = [key for key in keys if len({one.get(key) for one in settings.values()}) > 1]
        texts = {
            place: ", ".join(f"{key} {one.get(key, 'not set')}" for key in differ) for place, one in settings.items()
        }
        if len(set(texts.values())) < len(places) or len(differ) > _SHOWN:
            texts = {place: names[place] for place in places}
        for place, text in texts.items():
            found[place] = text
    return found


def _flat(config: Mapping[str, Any]) -> dict[str, str]:
    """`{"dropout": "0.3", "a pooling": "time", "seed": "3", ...}`."""
    result: dict[str, str] = {}

    def add(name: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for key, inner in value.items():
                add(f"{name} {key}".strip(), inner)
        else:
            result[name] = str(value)

    for section in _SECTIONS:
        value = config.get(section)
        add("" if isinstance(value, Mapping) else section, value)
    return result
