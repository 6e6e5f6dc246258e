"""A small part of a corpus that still meets many emotions and speakers."""

from collections.abc import Sequence
from dataclasses import replace

from ..errors import ConfigError
from .base import Clip, Corpus


def spread(corpus: Corpus, count: int) -> Corpus:
    """At most `count` clips, spread over emotions, then over speakers; always the same ones.

    Raises:
        ConfigError: `count` is not positive.
    """
    if count < 1:
        raise ConfigError(f"Expected a limit of at least one clip, received {count}.")
    emotions: dict[str, dict[str, list[Clip]]] = {}
    for clip in corpus.clips:
        emotions.setdefault(clip.emotion, {}).setdefault(clip.speaker or "", []).append(clip)
    rows = []
    for number, emotion in enumerate(sorted(emotions)):
        speakers = [emotions[emotion][name] for name in sorted(emotions[emotion])]
        # Each emotion begins with another speaker, so that a small limit meets many.
        speakers = speakers[number % len(speakers) :] + speakers[: number % len(speakers)]
        rows.append(_in_turn(speakers))
    chosen = sorted(_in_turn(rows)[:count], key=lambda clip: clip.id)
    return replace(corpus, clips=tuple(chosen))


def _in_turn(lists: Sequence[Sequence[Clip]]) -> list[Clip]:
    """The first of each, then the second of each, ..."""
    longest = max((len(items) for items in lists), default=0)
    return [items[place] for place in range(longest) for items in lists if place < len(items)]
