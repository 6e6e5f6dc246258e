"""A part of a corpus, for one of several calls that share the work without knowing of each other."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..corpora.base import Clip
from ..errors import ConfigError


@dataclass(frozen=True)
class Shard:
    """One of `of` equal parts.

    Attributes:
        number: from 1.
        of: how many there are.
    """

    number: int
    of: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.of:
            raise ConfigError(
                f"Shard {self.number}/{self.of} does not exist. Expected I/N with I from 1 to N (a job array: 1-N)."
            )

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Read "2/10".

        Raises:
            ConfigError: anything else.
        """
        found = re.fullmatch(r"\s*(\d{1,9})\s*/\s*(\d{1,9})\s*", text)
        if not found:
            raise ConfigError(f"Cannot read the shard {text!r}. Expected I/N, such as 1/10 for the first of ten parts.")
        return cls(int(found[1]), int(found[2]))

    def choose(self, clips: Sequence[Clip]) -> tuple[Clip, ...]:
        """Every `of`-th clip in the order of their ids, so that what belongs together is spread over the shards.

        The same clips are divided in the same way, in whatever order they come; each is in just one shard.
        """
        chosen = {clip for clip, number in self.numbers(clips) if number == self.number}
        return tuple(clip for clip in clips if clip.id in chosen)

    def numbers(self, clips: Sequence[Clip]) -> Iterator[tuple[str, int]]:
        """Each clip's id, in their order, with the number of the shard that it is in."""
        for place, clip in enumerate(sorted(clip.id for clip in clips)):
            yield clip, place % self.of + 1

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"
