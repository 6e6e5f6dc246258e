"""The one vocabulary of emotions that all corpora are mapped to."""

import re
import unicodedata

from ..errors import CorpusError

EMOTIONS: tuple[str, ...] = (
    "amusement",
    "anger",
    "boredom",
    "calm",
    "confusion",
    "contempt",
    "disappointment",
    "disgust",
    "embarrassment",
    "excitement",
    "fear",
    "frustration",
    "guilt",
    "happiness",
    "interest",
    "neutral",
    "pain",
    "pride",
    "relief",
    "sadness",
    "sarcasm",
    "shame",
    "sleepiness",
    "surprise",
    "tenderness",
    "worry",
)
"""Every canonical name, sorted."""

# What corpora and toolkits write for them. "boredem" is EmoBox' spelling for Emo-DB; three letters are those of
# CREMA-D and IEMOCAP.
_ALIASES = {
    "amusement": "amused amu",
    "anger": "angry ang rage wut ärger aerger hot-anger cold-anger",
    "boredom": "bored boredem bor langeweile",
    "calm": "calmness cal relaxed",
    "confusion": "confused",
    "contempt": "contemptuous con",
    "disappointment": "disappointed",
    "disgust": "disgusted dis ekel",
    "embarrassment": "embarrassed",
    "excitement": "excited exc",
    "fear": "fearful fea fear/anxiety anxiety/fear anxiety anxious angst scared afraid",
    "frustration": "frustrated fru",
    "guilt": "guilty",
    "happiness": "happy hap joy joyful freude",
    "interest": "interested",
    "neutral": "neu normal neutrality",
    "pain": "painful",
    "pride": "proud",
    "relief": "relieved",
    "sadness": "sad trauer sorrow",
    "sarcasm": "sarcastic",
    "shame": "ashamed",
    "sleepiness": "sleepy",
    "surprise": "surprised sur pleasant-surprise pleasant-surprised ps",
    "tenderness": "tender",
    "worry": "worried",
}


def _fold(name: str) -> str:
    return re.sub(r"[\s_-]+", "-", unicodedata.normalize("NFC", name).strip().casefold())


_CANONICAL = {name: name for name in EMOTIONS} | {
    _fold(alias): name for name, aliases in _ALIASES.items() for alias in aliases.split()
}


def known(name: str) -> str | None:
    """The canonical name of an emotion, or `None` if it is not known."""
    return _CANONICAL.get(_fold(name))


def canonical(name: str, aliases: dict[str, str] | None = None) -> str:
    """The canonical name of an emotion, whatever its case and whichever of the usual names it has.

    Args:
        name: such as "happiness", "Happy", "joy" or "hap".
        aliases: further names that the caller wants to be understood, each with a name known here.

    Raises:
        CorpusError: the emotion (or the one an alias stands for) is not known; the message lists the choices.
    """
    for alias, meaning in (aliases or {}).items():
        if _fold(alias) == _fold(name):
            name = meaning
            break
    found = known(name)
    if found is None:
        raise CorpusError(f"Unknown emotion {name!r}. Choose one of: {', '.join(EMOTIONS)}.")
    return found
