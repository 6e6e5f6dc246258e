"""What training and test parts share, told in plain sentences.

The audit says what a result can be about; it is no score. "Training" here is everything that shapes the
model, so the validation part counts as training: early stopping looks at it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import SplitError
from .folds import Fold

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class FoldAudit:
    """Counts for one fold. A count is `None` where some clip's speaker, text or audio hash is unknown.

    Attributes:
        repeat: as in `Fold`.
        index: as in `Fold`.
        train: training clips.
        validation: validation clips.
        test: test clips.
        left_out: clips of the corpus that are in none of the parts.
        test_speakers: distinct speakers of the test part.
        shared_speakers: those of them that are also in training.
        test_texts: distinct texts of the test part.
        shared_texts: those of them that are also in training.
        repeated: test clips whose (speaker, text, emotion) has another take in training.
        identical: test clips whose very audio is also in training: the same samples, whatever the container; the same
            bytes where no samples are known.
        giveaway: test clips whose text occurs with one emotion only in the corpus and is also in training.
        validation_shared_speakers: speakers both in the training and in the validation part.
        validation_shared_texts: texts both in the training and in the validation part.
        absent: emotions of the corpus of which the test part has no clip.
    """

    repeat: int
    index: int
    train: int
    validation: int
    test: int
    left_out: int
    test_speakers: int | None
    shared_speakers: int | None
    test_texts: int | None
    shared_texts: int | None
    repeated: int | None
    identical: int | None
    giveaway: int | None
    validation_shared_speakers: int | None
    validation_shared_texts: int | None
    absent: tuple[str, ...]


@dataclass(frozen=True)
class Audit:
    """What the folds of one run share.

    The totals are over all folds and repeats: a speaker counts as shared if in any fold it is tested while
    also being in training. A total is `None` where the clips do not tell.

    Attributes:
        folds: one `FoldAudit` per fold.
        speaker_kind: "speaker", or "voice type".
        clips: clips of the corpus.
        tested: distinct clips that are tested.
        speakers: distinct tested speakers.
        shared_speakers: those shared.
        texts: distinct tested texts.
        shared_texts: those shared.
        repeated: distinct test clips with another take of the same speaker, text and emotion in training.
        identical: distinct test clips with the same audio in training.
        corpus_texts: distinct texts of the corpus.
        emotion_only_texts: texts said more than once, and always with the same emotion.
        giveaway: distinct test clips with such a text that is also in training.
        fitted: what was fitted on clips outside the training part: name -> number of such clips.
        fitted_names: everything that was checked.
        notes: further sentences of the caller.
    """

    folds: tuple[FoldAudit, ...]
    speaker_kind: str
    clips: int
    tested: int
    speakers: int | None
    shared_speakers: int | None
    texts: int | None
    shared_texts: int | None
    repeated: int | None
    identical: int | None
    corpus_texts: int | None
    emotion_only_texts: int | None
    giveaway: int | None
    fitted: dict[str, int]
    fitted_names: tuple[str, ...]
    notes: tuple[str, ...]

    def sentences(self) -> list[str]:
        """Say the audit in plain words, the most important first."""
        return [*_speaker_sentences(self), *_text_sentences(self), *_clip_sentences(self), *self.notes]

    def to_dict(self) -> dict[str, Any]:
        """Give everything, the sentences included, in types that JSON holds."""
        result = asdict(self)
        result["folds"] = [{**fold, "absent": list(fold["absent"])} for fold in result["folds"]]
        for key in ("notes", "fitted_names"):
            result[key] = list(result[key])
        result["sentences"] = self.sentences()
        return result


def audit(
    clips: "pd.DataFrame",
    folds: Sequence[Fold],
    speaker_kind: str = "speaker",
    *,
    fitted: Mapping[str, Sequence[Iterable[str]]] | None = None,
    notes: Sequence[str] = (),
) -> Audit:
    """Count what stands on both sides of each fold.

    Args:
        clips: columns `id`, `emotion`, and where known `speaker`, `text`, `audio` (content hash of the
            audio; for clips cut out of a longer file, of what identifies the piece), `sound` (digest of the decoded
            samples).
        folds: from `folds.split`.
        speaker_kind: what the speaker column holds.
        fitted: for everything fitted to data besides the model ("normalisation" ...), the ids of the clips
            it is fitted on, one collection per fold. The audit says whether they are all training clips.
        notes: sentences to add as they are.

    Raises:
        SplitError: a fold names a clip that the table does not hold, or the number of fitted collections is not that
            of the folds.
    """
    counted = _Counted(clips)
    audits = [counted.add(fold) for fold in folds]
    said = dict.fromkeys(fold.note for fold in folds if fold.note)
    return counted.whole(audits, speaker_kind, folds, fitted or {}, (*said, *notes))


class _Counted:
    """The clips of an audit, and what was seen of them on both sides of the folds so far."""

    def __init__(self, clips: "pd.DataFrame") -> None:
        table = clips.assign(id=clips["id"].astype(str)).set_index("id")
        self.ids = table.index.to_numpy(dtype=str)
        self.place = {clip: i for i, clip in enumerate(self.ids)}
        self.known = {name: _codes(table, [name]) for name in ("speaker", "text", "audio")}
        self.known["audio"], self.note = _identity(table, self.known["audio"])
        self.known["take"] = _codes(table, ["speaker", "text", "emotion"])
        self.only = _emotion_only(self.known["text"], _codes(table, ["emotion"]))
        self.emotions = table["emotion"].astype(str).to_numpy(dtype=str)
        self.tested = np.zeros(len(self.ids), dtype=bool)
        # Per kind: values tested anywhere, values shared in any fold, clips affected in any fold.
        self.seen: dict[str, set[int]] = {name: set() for name in self.known}
        self.shared: dict[str, set[int]] = {name: set() for name in self.known}
        self.hit = {name: np.zeros(len(self.ids), dtype=bool) for name in (*self.known, "giveaway")}

    def add(self, fold: Fold) -> FoldAudit:
        """Count one fold."""
        train, validation, test = (_places(part, self.place, fold) for part in (fold.train, fold.validation, fold.test))
        fit = np.concatenate([train, validation])
        self.tested[test] = True
        counts = {name: self._on_both_sides(name, fit, test) for name in self.known}
        return FoldAudit(
            repeat=fold.repeat,
            index=fold.index,
            train=len(train),
            validation=len(validation),
            test=len(test),
            left_out=len(self.ids) - len(train) - len(validation) - len(test),
            test_speakers=_pick(counts["speaker"], 0),
            shared_speakers=_pick(counts["speaker"], 1),
            test_texts=_pick(counts["text"], 0),
            shared_texts=_pick(counts["text"], 1),
            repeated=_pick(counts["take"], 2),
            identical=_pick(counts["audio"], 2),
            giveaway=self._given_away(fit, test),
            validation_shared_speakers=_common(self.known["speaker"], train, validation),
            validation_shared_texts=_common(self.known["text"], train, validation),
            absent=tuple(sorted(set(self.emotions) - set(self.emotions[test]))),
        )

    def _on_both_sides(self, name: str, fit: np.ndarray, test: np.ndarray) -> tuple[int, int, int] | None:
        """Values that are tested, those of them that are also in training, and the test clips that have such a one."""
        codes = self.known[name]
        if codes is None:
            return None
        values = set(codes[test])
        common = values & set(codes[fit])
        clips = test[np.isin(codes[test], list(common))]
        self.seen[name] |= values
        self.shared[name] |= common
        self.hit[name][clips] = True
        return len(values), len(common), len(clips)

    def _given_away(self, fit: np.ndarray, test: np.ndarray) -> int | None:
        """Test clips whose text tells the emotion, and is also in training."""
        text = self.known["text"]
        if self.only is None or text is None:
            return None
        told = test[self.only[text[test]] & np.isin(text[test], text[fit])]
        self.hit["giveaway"][told] = True
        return len(told)

    def whole(
        self,
        audits: Sequence[FoldAudit],
        speaker_kind: str,
        folds: Sequence[Fold],
        fitted: Mapping[str, Sequence[Iterable[str]]],
        notes: Sequence[str],
    ) -> Audit:
        """The audit, once every fold is counted."""

        def total(name: str, of: Mapping[str, set[int]]) -> int | None:
            return None if self.known[name] is None else len(of[name])

        def clips(name: str, known: np.ndarray | None) -> int | None:
            return None if known is None else int(self.hit[name].sum())

        text = self.known["text"]
        return Audit(
            folds=tuple(audits),
            speaker_kind=speaker_kind,
            clips=len(self.ids),
            tested=int(self.tested.sum()),
            speakers=total("speaker", self.seen),
            shared_speakers=total("speaker", self.shared),
            texts=total("text", self.seen),
            shared_texts=total("text", self.shared),
            repeated=clips("take", self.known["take"]),
            identical=clips("audio", self.known["audio"]),
            corpus_texts=None if text is None else len(set(text)),
            emotion_only_texts=None if self.only is None else int(self.only.sum()),
            giveaway=clips("giveaway", self.only),
            fitted=_fitted(folds, fitted),
            fitted_names=tuple(fitted),
            notes=(*notes, *self.note),
        )


def _identity(table: "pd.DataFrame", files: np.ndarray | None) -> tuple[np.ndarray | None, list[str]]:
    """One integer per distinct audio, by its samples where they are known, and a sentence where they are not of all."""
    if files is None:
        return None, []
    sound = table["sound"] if "sound" in table.columns else table["audio"].map(lambda _: None)
    codes = _codes(table.assign(audio=sound.where(sound.notna(), table["audio"])), ["audio"])
    if sound.notna().all():
        return codes, []
    return codes, [
        f"Identical audio was looked for by samples in {int(sound.notna().sum())} of {len(table)} clips, in the others "
        "by the bytes of files: copies in another container would not be found there. Extract again to compare all."
    ]


def _codes(table: "pd.DataFrame", columns: list[str]) -> np.ndarray | None:
    """One integer per distinct combination; `None` when a column is missing or has a gap."""
    if any(column not in table.columns or table[column].isna().any() for column in columns):
        return None
    return table.groupby(columns, sort=True).ngroup().to_numpy()


def _emotion_only(text: np.ndarray | None, emotion: np.ndarray | None) -> np.ndarray | None:
    """For each text code: is it said more than once, and always with the same emotion."""
    if text is None or emotion is None or not len(text):
        return None
    said = np.zeros((text.max() + 1, emotion.max() + 1), dtype=int)
    np.add.at(said, (text, emotion), 1)
    return ((said > 0).sum(axis=1) == 1) & (said.sum(axis=1) > 1)


def _places(part: np.ndarray, place: Mapping[str, int], fold: Fold) -> np.ndarray:
    found = np.array([place.get(str(clip), -1) for clip in part.tolist()], dtype=int)
    if (found < 0).any():
        missing = part[found < 0].tolist()
        raise SplitError(
            f"Fold {fold.index} (repeat {fold.repeat}) holds {len(missing)} clips that the table does not, the first "
            f"is {missing[0]!r}. Audit folds with the clips they were made from."
        )
    return found


def _pick(counts: tuple[int, int, int] | None, which: int) -> int | None:
    return None if counts is None else counts[which]


def _common(codes: np.ndarray | None, one: np.ndarray, other: np.ndarray) -> int | None:
    return None if codes is None else len(set(codes[one]) & set(codes[other]))


def _fitted(folds: Sequence[Fold], fitted: Mapping[str, Sequence[Iterable[str]]]) -> dict[str, int]:
    outside = {}
    for name, collections in fitted.items():
        if len(collections) != len(folds):
            raise SplitError(
                f"{name}: {len(collections)} collections of fitted clips were given for {len(folds)} folds."
            )
        outside[name] = sum(
            len({str(clip) for clip in collection} - set(fold.train.tolist()) - set(fold.validation.tolist()))
            for collection, fold in zip(collections, folds, strict=True)
        )
    return outside


# --- sentences ----------------------------------------------------------------------------------------------


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _speaker_sentences(a: Audit) -> list[str]:
    kind = a.speaker_kind
    if a.speakers is None or a.shared_speakers is None:
        return [
            f"The {kind}s are unknown: it cannot be told whether the test {kind}s are also in training. Read the "
            f"result as one for new utterances of known {kind}s."
        ]
    both = f"{a.shared_speakers} of {a.speakers} test {kind}s {_are(a.shared_speakers)} also in training"
    if a.shared_speakers == 0:
        sentences = [f"{both}: this estimates {kind}s never heard in training."]
        return sentences + _validation_sentence(a, kind, [f.validation_shared_speakers for f in a.folds])
    if a.shared_speakers == a.speakers:
        return [f"{both}: this estimates new utterances of known {kind}s."]
    return [f"{both}: this estimates a mixture of known and new {kind}s."]


def _validation_sentence(a: Audit, kind: str, shared: Sequence[int | None]) -> list[str]:
    """Only a split that somebody else made can validate on known speakers or texts and test on new ones."""
    folds = sum(bool(number) for number in shared)
    if not folds:
        return []
    return [
        f"In {folds} of {_plural(len(a.folds), 'fold')} the inner validation part shares {kind}s with the rest of "
        f"training: early stopping looks at known {kind}s."
    ]


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _text_sentences(a: Audit) -> list[str]:
    if a.texts is None or a.shared_texts is None:
        return ["The texts are unknown: it cannot be told whether the test texts are also in training."]
    both = f"{a.shared_texts} of {a.texts} test texts {_are(a.shared_texts)} also in training"
    if a.shared_texts == 0:
        sentences = [f"{both}: this estimates texts never heard in training."]
        sentences += _validation_sentence(a, "text", [f.validation_shared_texts for f in a.folds])
    elif a.shared_texts == a.texts:
        sentences = [f"{both}: this says nothing about new words."]
    else:
        sentences = [f"{both}: this estimates a mixture of known and new texts."]
    if a.emotion_only_texts:
        said = f"{a.emotion_only_texts} of {a.corpus_texts} texts are only ever said with one emotion"
        if a.giveaway:
            sentences.append(
                f"{said}, and {a.giveaway} of {a.tested} test clips have such a text that is also in training: the "
                "words alone give their emotion away."
            )
        else:
            sentences.append(f"{said}, but no test clip has such a text that is also in training.")
    return sentences


def _clip_sentences(a: Audit) -> list[str]:
    sentences = []
    if a.repeated:
        sentences.append(
            f"{a.repeated} of {a.tested} test clips have another take of the same {a.speaker_kind}, text and emotion "
            "in training."
        )
    if a.identical:
        sentences.append(
            f"{_plural(a.identical, 'test clip')} {'has' if a.identical == 1 else 'have'} the very same audio in "
            "training: remove the copies."
        )
    elif a.identical is None:
        sentences.append("The audio's content hashes are unknown: identical audio cannot be looked for.")
    else:
        sentences.append("No test clip has identical audio in training.")
    if a.tested < a.clips:
        sentences.append(f"{a.tested} of {a.clips} clips are tested.")
    left = [f.left_out / max(a.clips, 1) for f in a.folds]
    if left and max(left) > 0:
        low, high = round(100 * min(left)), round(100 * max(left))
        share = f"{low} %" if low == high else f"{low} to {high} %"
        sentences.append(f"{share} of the clips are in no part of a fold.")
    absent = [f for f in a.folds if f.absent]
    if absent:
        which = sorted({emotion for f in absent for emotion in f.absent})
        sentences.append(
            f"{len(absent)} of {_plural(len(a.folds), 'fold')} {'test' if len(absent) > 1 else 'tests'} no clip of "
            f"some emotion ({', '.join(which)}): that emotion is left out of such a fold's averages over classes."
        )
    for name in a.fitted_names:
        outside = a.fitted[name]
        if outside:
            saw = f"The {name} saw {_plural(outside, 'clip')} outside the training part"
            sentences.append(f"{saw}: this leaks.")
        else:
            sentences.append(f"The {name} is fitted on the training part only, in every fold.")
    return sentences
