"""What decoding a corpus' clips told of them: a digest of the samples, and remarks on their quality."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from . import json_file
from .damage import DamageError
from .files import StorePath

NAME = "heard.json"


@dataclass(frozen=True, slots=True)
class Heard:
    """What is known of a piece of audio once it was decoded.

    Attributes:
        sound: digest of the decoded samples: the same for copies that differ in a header or a lossless container.
        remarks: `(kind, text)` of each; see `serfuse.audio.quality`.
    """

    sound: str
    remarks: tuple[tuple[str, str], ...] = ()


def read(path: StorePath) -> dict[str, Heard]:
    """What was heard, by the audio's identity (`AudioFacts.audio`). Empty where there is no such file.

    Raises:
        StoreError: the file is damaged.
    """
    return dict(each(path))


def each(path: StorePath) -> Iterator[tuple[str, Heard]]:
    """What `read` reads, one by one."""
    if not path.exists():
        return
    try:
        for audio, (sound, remarks) in json_file.items(path, "clips"):
            yield audio, Heard(str(sound), tuple((str(kind), str(text)) for kind, text in remarks))
    except (AttributeError, TypeError, ValueError):
        raise DamageError(path, f"The file {path} is damaged. Delete it and run `serfuse extract` again.") from None


def write(path: StorePath, content: Mapping[str, Heard]) -> None:
    """Whole or not at all."""
    found = ((audio, content[audio]) for audio in sorted(content))
    json_file.write_items(
        path, "clips", ((audio, [item.sound, [list(remark) for remark in item.remarks]]) for audio, item in found)
    )
