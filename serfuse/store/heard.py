"""What decoding a corpus' clips told of them: a digest of the samples, and remarks on their quality."""

from collections.abc import Mapping
from dataclasses import dataclass

from . import json_file
from .damage import DamageError
from .files import StorePath

NAME = "heard.json"


@dataclass(frozen=True)
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
    if not path.exists():
        return {}
    content = json_file.read(path).get("clips")
    try:
        return {
            str(audio): Heard(str(sound), tuple((str(kind), str(text)) for kind, text in remarks))
            for audio, (sound, remarks) in content.items()
        }
    except (AttributeError, TypeError, ValueError):
        raise DamageError(path, f"The file {path} is damaged. Delete it and run `serfuse extract` again.") from None


def write(path: StorePath, content: Mapping[str, Heard]) -> None:
    """Whole or not at all."""
    clips = {audio: [item.sound, [list(remark) for remark in item.remarks]] for audio, item in sorted(content.items())}
    json_file.write(path, {"clips": clips}, indent=0)
