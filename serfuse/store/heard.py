"""What decoding a corpus' clips told of them: a digest of the samples, and remarks on their quality."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

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


def sounds(path: StorePath) -> tuple[pa.Array, pa.Array]:
    """Of all audio that was heard, its identity and the digest of its samples, as large strings.

    It takes a fifth of the time and memory of `read`.

    Raises:
        StoreError: the file is damaged.
    """
    content = json_file.sealed_text(path) if path.exists() else ""
    found = _columns(content) if content is not None else None
    if found is None:
        known = read(path)
        sound = pa.array([item.sound for item in known.values()], pa.large_string())
        return pa.array(known, pa.large_string()), sound
    return found


def _columns(content: str) -> tuple[pa.Array, pa.Array] | None:
    """`sounds` of the text of a file in which each is a line, as `write` writes them; `None` of any other."""
    lines = pc.split_pattern(pa.array([content], pa.large_string()), "\n").flatten()
    begins = pc.and_(pc.starts_with(lines, '"'), pc.ends_with(lines, '": ['))
    at = np.flatnonzero(begins.to_numpy(zero_copy_only=False))
    if len(at) != content.count('": ['):
        return None
    audio, sound = lines.take(pa.array(at)), lines.take(pa.array(at + 1))
    plain = pc.and_(pc.starts_with(sound, '"'), pc.ends_with(sound, '",'))
    for texts in (audio, sound):
        plain = pc.and_(plain, pc.invert(pc.match_substring(texts, "\\")))
    if not pc.all(plain, min_count=0).as_py():
        return None
    return pc.utf8_slice_codeunits(audio, 1, -4), pc.utf8_slice_codeunits(sound, 1, -2)


def write(path: StorePath, content: Mapping[str, Heard]) -> None:
    """Whole or not at all."""
    found = ((audio, content[audio]) for audio in sorted(content))
    json_file.write_items(
        path, "clips", ((audio, [item.sound, [list(remark) for remark in item.remarks]]) for audio, item in found)
    )
