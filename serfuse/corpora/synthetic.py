"""A small generated corpus of speech-like clips, to see and test the software without any recording.

It says nothing about emotion in real speech, and is marked synthetic wherever its results are shown. What the voices
do is what descriptions of vocal emotion agree on (Scherer 2003; Juslin and Laukka 2003): anger is loud, high, fast and
bright, sadness soft, low, slow and dark, fear high, fast, breathy and trembling, happiness high, wide in pitch and
lively. How strongly is drawn clip by clip, and speakers differ, so that a classifier has something left to get wrong.
"""

import hashlib
import itertools
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import bounded_file
from ..errors import CorpusError
from ..progress import Observer
from . import synthetic_voice
from .assemble import assemble
from .base import Clip, Corpus
from .emotions import canonical
from .files import folder

# Factors on pitch, pitch_range, rate, breath and jitter; additions to level and tilt (dB) and open quotient.
STYLES: dict[str, dict[str, float]] = {
    "anger": {"pitch": 1.22, "pitch_range": 1.5, "rate": 1.15, "level": 6.0, "tilt": 2.5, "open_quotient": -0.12},
    "fear": {"pitch": 1.35, "rate": 1.22, "level": -1.0, "breath": 2.0, "jitter": 2.5, "slope": 2.0},
    "happiness": {"pitch": 1.28, "pitch_range": 1.8, "rate": 1.08, "level": 3.0, "tilt": 1.2, "slope": 1.0},
    "neutral": {},
    "sadness": {
        "pitch": 0.92,
        "pitch_range": 0.6,
        "rate": 0.82,
        "level": -5.0,
        "tilt": -2.5,
        "open_quotient": 0.12,
        "breath": 2.0,
    },
}
"""What each emotion does to a voice at full strength, see `voices.changed`."""

_MANIFEST = "corpus.json"
_FORMAT = 1
_MAX_MANIFEST = 16 << 20
_SYLLABLES = (5, 8)
_OWN = re.compile(r"spk\d+|corpus\.part|\..*")


def generate(
    root: str | os.PathLike[str],
    *,
    speakers: int = 8,
    texts: int = 4,
    takes: int = 2,
    emotions: Sequence[str] = tuple(STYLES),
    seed: int = 0,
    sample_rate: int = 16000,
    observer: Observer | None = None,
) -> Corpus:
    """Write the corpus to disk as 16-bit wav, `<root>/<speaker>/<speaker>_<text>_<emotion>_<take>.wav`, and read it.

    The same arguments give the same bytes. Files that are there already as they should be are kept.

    Args:
        root: folder, created where it is not there.
        speakers: voices; odd ones lower, even ones higher.
        texts: sentences of made-up syllables, the same for all speakers.
        takes: clips of each speaker, text and emotion.
        emotions: out of `STYLES`.
        seed: decides voices, sentences and every clip.
        sample_rate: Hz.
        observer: hears of each clip.

    Raises:
        CorpusError: a number below one, an emotion without a style, a folder that holds something else or cannot be
            written.
    """
    emotions = sorted(canonical(name) for name in emotions)
    unknown = [name for name in emotions if name not in STYLES]
    if unknown or not emotions:
        raise CorpusError(f"Cannot speak with {', '.join(unknown) or 'no emotion'}. Choose from: {', '.join(STYLES)}.")
    if min(speakers, texts, takes) < 1 or sample_rate < 8000:
        raise CorpusError(
            f"Expected at least one speaker, text and take and a rate of 8000 Hz or more, received {speakers}, "
            f"{texts}, {takes} and {sample_rate} Hz."
        )
    observer = observer or Observer()
    place = Path(root)
    settings = {
        "speakers": speakers,
        "texts": texts,
        "takes": takes,
        "emotions": emotions,
        "seed": seed,
        "sample_rate": sample_rate,
    }
    try:
        place.mkdir(parents=True, exist_ok=True)
        known = _known(place, settings)
        sentences = [_sentence(seed, text) for text in range(texts)]
        hashes: dict[str, str] = {}
        voices = [_voice(seed, speaker) for speaker in range(speakers)]
        wanted = list(itertools.product(range(speakers), range(texts), emotions, range(takes)))
        for speaker, text, emotion, take in observer.each(wanted, f"generating synthetic speech in {place}"):
            name = f"spk{speaker + 1:02d}"
            (place / name).mkdir(exist_ok=True)
            clip = f"{name}/{name}_t{text + 1:02d}_{emotion}_{take + 1}.wav"
            if known.get(clip) is None or _hash(place / clip) != known[clip]:
                rng = _rng(seed, 2, speaker, text, take, *emotion.encode())
                _write(place / clip, _clip(voices[speaker], sentences[text], emotion, sample_rate, rng), sample_rate)
                hashes[clip] = _hash(place / clip)
            else:
                hashes[clip] = known[clip]
        manifest = {"format": _FORMAT, "synthetic": True, **settings, "clips": hashes}
        _write_text(place / _MANIFEST, json.dumps(manifest, indent=1) + "\n")
    except OSError as error:
        raise CorpusError(f"{place}: the synthetic corpus cannot be written: {error.strerror or error}.") from error
    return read(place)


def read(root: str | os.PathLike[str]) -> Corpus:
    """A corpus that `generate` wrote.

    Raises:
        CorpusError: there is none, or its list of clips is damaged.
    """
    place = folder(root)
    manifest = _manifest(place)
    if manifest is None:
        raise CorpusError(
            f"{place}: holds no synthetic corpus (no {_MANIFEST}). Generate one: serfuse demo, or "
            "serfuse extract --corpus synthetic --data NEW_FOLDER."
        )
    clips = []
    for name in manifest["clips"]:
        speaker, text, emotion, _ = _parts(place, name)
        clips.append(Clip(Path(name).stem, place / name, emotion, speaker, text))
    return assemble("synthetic", clips, synthetic=True)


def _parts(place: Path, name: str) -> list[str]:
    """Speaker, text, emotion and take in a clip's name."""
    parts = Path(name).stem.split("_")
    if len(parts) != 4 or parts[2] not in STYLES or name != f"{parts[0]}/{Path(name).name}":
        raise CorpusError(
            f"{place / _MANIFEST}: {name!r} is not the name of a generated clip. Generate the corpus anew."
        )
    return parts


def _manifest(place: Path) -> dict[str, Any] | None:
    path = place / _MANIFEST
    if not path.is_file():
        return None
    try:
        found = json.loads(bounded_file.read_bytes(path, _MAX_MANIFEST, CorpusError, owner="list of clips"))
        if found["format"] != _FORMAT or found["synthetic"] is not True or not isinstance(found["clips"], dict):
            raise ValueError("not the list of a synthetic corpus")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CorpusError(f"{path}: damaged ({error}). Delete it and generate the corpus anew.") from None
    return found


def _known(place: Path, settings: dict[str, Any]) -> dict[str, str]:
    """Hashes of the clips that an earlier call with the same settings wrote.

    Raises:
        CorpusError: the folder holds something else, or a corpus of other settings.
    """
    found = _manifest(place)
    if found is None:
        # Without a list there may be what an interrupted call left, and nothing else.
        strange = sorted(entry.name for entry in place.iterdir() if not _OWN.fullmatch(entry.name))
        if strange:
            raise CorpusError(
                f"{place}: holds something else ({', '.join(strange[:3])}{' ...' if len(strange) > 3 else ''}). Give "
                "the synthetic corpus a new or empty folder."
            )
        return {}
    other = [name for name, value in settings.items() if found.get(name) != value]
    if other:
        raise CorpusError(
            f"{place} holds a synthetic corpus of other settings ({', '.join(other)}). Choose another folder, or "
            "delete that one."
        )
    return {name: value for name, value in found["clips"].items() if (place / name).is_file()}


def _rng(*numbers: int) -> np.random.Generator:
    """A generator of its own for each clip, so that none depends on which others there are."""
    return np.random.default_rng(np.random.SeedSequence(numbers))


def _sentence(seed: int, text: int) -> list[tuple[str, str]]:
    rng = _rng(seed, 0, text)
    return synthetic_voice.sentence(rng, int(rng.integers(*_SYLLABLES, endpoint=True)))


def _voice(seed: int, speaker: int) -> synthetic_voice.Voice:
    rng = _rng(seed, 1, speaker)
    higher = speaker % 2
    return synthetic_voice.Voice(
        pitch=float((200.0 if higher else 115.0) * np.exp(0.10 * rng.standard_normal())),
        pitch_range=float(2.0 * np.exp(0.2 * rng.standard_normal())),
        tract=float((1.15 if higher else 1.0) * np.exp(0.04 * rng.standard_normal())),
        rate=float(np.exp(0.10 * rng.standard_normal())),
        level=float(-26.0 + 2.0 * rng.standard_normal()),
        tilt=float(1.0 * rng.standard_normal()),
        open_quotient=float(np.clip(0.6 + 0.05 * rng.standard_normal(), 0.4, 0.8)),
        breath=float(0.02 * np.exp(0.3 * rng.standard_normal())),
    )


def _clip(
    voice: synthetic_voice.Voice, text: list[tuple[str, str]], emotion: str, sample_rate: int, rng: np.random.Generator
) -> np.ndarray:
    """One sentence, spoken with some strength of an emotion and some variation that means nothing."""
    strength = float(np.clip(rng.normal(0.8, 0.35), 0.0, 1.5))
    multiplied = {"pitch", "pitch_range", "rate", "breath", "jitter"}
    style = {
        name: value**strength if name in multiplied else value * strength for name, value in STYLES[emotion].items()
    }
    varied = {
        "pitch": np.exp(0.06 * rng.standard_normal()),
        "pitch_range": np.exp(0.2 * rng.standard_normal()),
        "rate": np.exp(0.06 * rng.standard_normal()),
        "level": 1.5 * rng.standard_normal(),
        "tilt": 0.7 * rng.standard_normal(),
    }
    spoken = synthetic_voice.changed(
        synthetic_voice.changed(voice, **style), **{name: float(value) for name, value in varied.items()}
    )
    return synthetic_voice.speak(text, spoken, sample_rate, rng)


def _write(path: Path, wave: np.ndarray, sample_rate: int) -> None:
    """16-bit wav, whole or not at all; rounded here, so that the bytes do not depend on the audio library."""
    import soundfile

    samples = np.round(np.clip(wave, -1.0, 1.0) * 32767.0).astype(np.int16)
    temporary = path.with_suffix(".part")
    soundfile.write(temporary, samples, sample_rate, subtype="PCM_16", format="WAV")
    os.replace(temporary, path)


def _write_text(path: Path, text: str) -> None:
    temporary = path.with_suffix(".part")
    temporary.write_text(text, "utf-8")
    os.replace(temporary, path)


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
