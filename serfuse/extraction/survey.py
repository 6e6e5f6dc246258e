"""What a corpus' audio is, found out without decoding it."""

import math
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

from .. import audio
from ..audio.padding import PadPolicy
from ..corpora.base import Clip, Corpus
from ..errors import AudioError, CorpusError, StoreError
from ..progress import Observer
from ..store import AudioFacts, EmbeddingStore, FileStamp, clip_table, together

_READERS = 4
_TOGETHER = 8  # files that a thread looks at, at most, before it tells of them: to hand over each takes as long
_KEPT_SECONDS = 10.0
_USUAL, _FAR = 0.99, 2.5  # share of clips that are usual, and how many times as long "far longer" is
_BEYOND_SECONDS = 0.001  # by which a segment's end, rounded, may lie behind the end of its file
# A file that changed this recently could change again without its time changing (FAT keeps two seconds).
_UNSETTLED_SECONDS = 2.5


def survey(corpus: Corpus, store: EmbeddingStore, observer: Observer | None = None) -> dict[str, AudioFacts]:
    """Find out what each clip's audio is, without decoding it.

    A file whose size and times are as the store remembers them is not read again, also where an earlier survey was
    interrupted.

    Returns:
        the facts by clip id. A file that cannot be used is no error here; its `problem` says why.

    Raises:
        StoreError: the store's table of this corpus is damaged, or the store cannot be written.
    """
    known = store.known_files(corpus.name)
    told: dict[str, str] = {}  # a path of many pieces is one text; a Path that is hashed takes twice the memory
    paths = [
        told.get(path := str(clip.path)) or told.setdefault(path, clip_table.absolute(clip.path))
        for clip in corpus.clips
    ]
    files = dict.fromkeys(paths)
    looked: dict[str, AudioFacts] = {}
    observer = observer or Observer()
    fresh = _Fresh(store, corpus.name)
    at_once = max(1, min(_TOGETHER, len(files) // (4 * _READERS)))
    found = together.each(
        lambda some: [_look(path, known.get(path)) for path in some], _some(files, at_once), threads=_READERS
    )
    with observer.working(f"{corpus.name}: looking at the files", len(files), "file"), closing(found), fresh:
        for path, facts in zip(files, chain.from_iterable(found), strict=True):
            looked[path] = facts
            before = known.pop(path, None)  # two records of a million files would be a lot
            if before is None or before[0] != facts.stamp:
                fresh.add(path, facts)
            observer.advance(len(looked))
    return {clip.id: _of_clip(clip, looked[path]) for clip, path in zip(corpus.clips, paths, strict=True)}


def _some(files: Iterable[str], count: int) -> Iterator[list[str]]:
    """So many at a time."""
    coming = iter(files)
    while some := list(islice(coming, count)):
        yield some


class _Fresh:
    """Hashes that the store does not know yet: kept there every few seconds, and when the survey ends early.

    A survey that ends before the first of those seconds keeps nothing: the table of clips is about to hold it all.
    """

    def __init__(self, store: EmbeddingStore, corpus: str) -> None:
        self._store, self._corpus = store, corpus
        self._files: dict[str, tuple[FileStamp, str, float]] = {}
        self._since = time.monotonic()

    def add(self, path: str, facts: AudioFacts) -> None:
        """Take what was found out of a file."""
        if facts.stamp is None or facts.audio is None or not facts.settled or math.isnan(facts.file_seconds):
            return
        self._files[path] = facts.stamp, facts.audio, facts.file_seconds
        if time.monotonic() - self._since > _KEPT_SECONDS:
            self._keep()

    def _keep(self) -> None:
        self._store.record_files(self._corpus, self._files)
        self._files, self._since = {}, time.monotonic()

    def __enter__(self) -> "_Fresh":
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is not None and self._files:
            with suppress(StoreError):  # what ended it is to be told, not this
                self._keep()


def summarize(corpus: Corpus, facts: Mapping[str, AudioFacts], *, of: int | None = None) -> dict[str, Any]:
    """Counts of a corpus, as JSON values.

    Args:
        facts: from `survey`.
        of: clips of the whole corpus, where this is a part of it.
    """
    speakers = {clip.speaker for clip in corpus.clips if clip.speaker is not None}
    texts = {clip.text for clip in corpus.clips if clip.text is not None}
    lengths = [facts[clip.id].seconds for clip in corpus.clips if facts[clip.id].seconds > 0]
    return {
        "name": corpus.name,
        "clips": len(corpus.clips),
        "of": of or len(corpus.clips),
        "speakers": len(speakers),
        "speaker_kind": corpus.speaker_kind,
        "texts": len(texts),
        "emotions": dict(sorted(Counter(clip.emotion for clip in corpus.clips).items())),
        "seconds": round(sum(lengths), 3),
        "longest": round(max(lengths, default=0.0), 3),
        "synthetic": corpus.synthetic,
        "warnings": list(corpus.warnings),
    }


def resolve_pad(pad: PadPolicy | str, facts: Mapping[str, AudioFacts]) -> PadPolicy:
    """The pad policy with the length that "max" means for these clips.

    Raises:
        ConfigError: not a policy.
        CorpusError: "max", and no clip's length is known.
    """
    policy = PadPolicy.parse(pad) if isinstance(pad, str) else pad
    if policy.resolved:
        return policy
    lengths = [item.seconds for item in facts.values() if item.problem is None and not math.isnan(item.seconds)]
    if not lengths:
        raise CorpusError("--pad max needs the length of the longest clip, but no clip of the corpus can be read.")
    return policy.resolve(max(lengths))


def far_longer(pad: PadPolicy, facts: Mapping[str, AudioFacts]) -> str:
    """A sentence that names clips far longer than the rest, to which "max" would pad all; "" when there are none."""
    lengths = {clip: item.seconds for clip, item in facts.items() if item.problem is None and item.seconds > 0}
    if pad.kind != "max" or len(lengths) < 2:
        return ""
    usual = sorted(lengths.values())[math.ceil(_USUAL * len(lengths)) - 1]
    # Of few clips, the longest is the usual one too.
    usual = usual if usual < max(lengths.values()) else sorted(lengths.values())[-2]
    far = sorted((clip for clip, seconds in lengths.items() if seconds > _FAR * usual), key=lengths.__getitem__)[::-1]
    if not far:
        return ""
    named = ", ".join(f"{clip} ({lengths[clip]:.1f} s)" for clip in far[:3]) + (" ..." if len(far) > 3 else "")
    return (
        f"Warning: {len(far)} of {len(lengths)} clips {'is' if len(far) == 1 else 'are'} far longer than the rest "
        f"(up to {usual:.1f} s), and --pad max makes every clip as long as the longest: {named}. Leave them out, or "
        "give --pad in seconds."
    )


def _look(path: str, known: tuple[FileStamp, str, float] | None) -> AudioFacts:
    """Facts of a whole file."""
    try:
        stamp = FileStamp.of(Path(path))
    except (OSError, ValueError):
        stamp = None
    if stamp is not None and known is not None and known[0] == stamp:
        return AudioFacts(known[1], known[2], known[0], known[2])  # no second stamp for each of a million files
    try:
        about, digest = audio.identify(path)
    except AudioError as error:
        return AudioFacts(None, problem=str(error))
    settled = stamp is not None and time.time_ns() - max(stamp.mtime_ns, stamp.ctime_ns) > _UNSETTLED_SECONDS * 1e9
    seconds, problem = (math.nan, str(about)) if isinstance(about, AudioError) else (about.seconds, None)
    return AudioFacts(digest, seconds, stamp, seconds, settled, problem)


def _of_clip(clip: Clip, whole: AudioFacts) -> AudioFacts:
    """Facts of a clip, which may be a part of its file."""
    if clip.start is None and clip.end is None:
        return whole
    start = clip.start or 0.0
    end = whole.file_seconds if clip.end is None else clip.end
    audio_id = None if whole.audio is None else f"{whole.audio}@{start:.6f}-{'' if clip.end is None else f'{end:.6f}'}"
    seconds = end - start
    # A part that cannot be read has no length: --pad max must not follow a slip of the pen.
    inside = start >= 0 and not end > whole.file_seconds + _BEYOND_SECONDS
    return replace(whole, audio=audio_id, seconds=seconds if seconds > 0 and inside else math.nan)
