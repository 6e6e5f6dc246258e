"""Which data of a run are no longer what they were: clips, labels, speakers, texts, recordings, embeddings."""

from typing import TYPE_CHECKING

from .schema import Description

if TYPE_CHECKING:
    import pandas as pd

    from ..experiment.dataset import Dataset

# Column of `clips.csv` -> column of `Dataset.clips`, and the word for it.
_COLUMNS = {
    "label": ("emotion", "label"),
    "speaker": ("speaker", "{kind}"),
    "text": ("text", "text"),
    "audio": ("audio", "recording"),
}
_DIGESTS = {
    "clips": "clips",
    "labels": "labels",
    "speakers": "{kind}s",
    "texts": "texts",
    "folds": "folds that the corpus gives",
    "recordings": "recordings",
}
_NAMED = 3


def between(
    description: Description, dataset: "Dataset", clips: "pd.DataFrame | None" = None, *, inputs: bool = True
) -> list[str]:
    """What differs between a run and data as they are now, a few words for each kind of difference.

    Args:
        description: of the run.
        dataset: the data now.
        clips: what is known of the run's clips (`clip` and some of `label, speaker, text, audio`), for naming those
            that changed; only those that it tested where no more is known.
        inputs: whether inputs that are made in another way are a difference.
    """
    corpus, digests = description.corpus, description.digests
    if dataset.corpus != corpus.name:
        return [f"the corpus is {dataset.corpus}, it was {corpus.name}"]
    found = _clips(description, dataset, clips)
    if clips is not None:
        found += of_clips(clips, dataset.clips, dataset.speaker_kind)
    if not found:  # digests hold the ids as well: they say nothing where the clips themselves are others
        found = [
            f"the {_DIGESTS[name].format(kind=dataset.speaker_kind)} have changed"
            for name, digest in dataset.digests.items()
            if getattr(digests, name) not in (None, digest)
        ]
    if not found and sorted(dataset.classes) != sorted(corpus.classes or dataset.classes):
        found = [f"the emotions are {', '.join(dataset.classes)}, they were {', '.join(corpus.classes)}"]
    return found or _embeddings(description, dataset, inputs)


def of_clips(before: "pd.DataFrame", now: "pd.DataFrame", kind: str = "speaker") -> list[str]:
    """What is another of clips that were there and still are.

    Args:
        before: `clip` and some of `label, speaker, text, audio`.
        now: `id, emotion, speaker, text, audio`.
        kind: what a speaker is called.
    """
    found = []
    for known, (column, what) in _COLUMNS.items():
        if known in before:
            moved = _moved(before, known, now, column)
            if moved:
                has = "has" if len(moved) == 1 else "have"
                listed = _listed(moved, show_values=known != "audio")
                found.append(f"{_count(len(moved))} {has} another {what.format(kind=kind)} ({listed})")
    return found


def _clips(description: Description, dataset: "Dataset", clips: "pd.DataFrame | None") -> list[str]:
    """Clips that came or went."""
    before, number = description.corpus.clips, len(dataset.clips)
    if clips is not None and len(clips) == before:
        ids, present = set(clips["clip"]), set(dataset.clips["id"])
        gone, new = sorted(ids - present), sorted(present - ids)
        found = [f"{_count(len(gone))} {'are' if len(gone) > 1 else 'is'} gone ({_names(gone)})"] if gone else []
        return found + ([f"{_count(len(new))} {'are' if len(new) > 1 else 'is'} new ({_names(new)})"] if new else [])
    if number != before:
        return [f"there are {number} clips, there were {before}"]
    return []


def _moved(clips: "pd.DataFrame", known: str, now: "pd.DataFrame", column: str) -> dict[str, tuple[str, str]]:
    """Clips of both whose value differs: id -> what it was, what it is."""
    before = clips.set_index("clip")[known]
    before = before[~before.index.duplicated()]
    after = now.reset_index(drop=True).set_index("id")[column]
    ids = [clip for clip in before.index if clip in after.index]
    old, new = ([_text(value) for value in series.loc[ids]] for series in (before, after))
    return {clip: (a, b) for clip, a, b in zip(ids, old, new, strict=True) if a != b}


def _text(value: object) -> str:
    return "" if value is None or value != value else str(value)


def _embeddings(description: Description, dataset: "Dataset", inputs: bool) -> list[str]:
    """Inputs that are made in another way, or came out otherwise."""
    found = []
    for side, key in dataset.keys.items():
        before, digest = description.embeddings.get(side), description.digests.embeddings.get(side)
        if before is None or before.model_dump() != key.to_dict():
            was = "not there" if before is None else f"of {before.encoder} with other settings, weights or versions"
            found += [f"input {side} is {key.folder}, it was {was}"] if inputs else []
        elif digest not in (None, dataset.embedding_digests.get(side, digest)):
            found.append(f"the embeddings of {key.encoder} (input {side}) have changed")
    return found


def _count(number: int) -> str:
    return "1 clip" if number == 1 else f"{number} clips"


def _names(ids: list[str]) -> str:
    return ", ".join(ids[:_NAMED]) + (" ..." if len(ids) > _NAMED else "")


def _listed(moved: dict[str, tuple[str, str]], *, show_values: bool) -> str:
    if not show_values:
        return _names(sorted(moved))
    shown = [f"{clip}: {a or 'none'}, now {b or 'none'}" for clip, (a, b) in sorted(moved.items())[:_NAMED]]
    return "; ".join(shown) + (" ..." if len(moved) > _NAMED else "")
