"""What a reader of a run's figures must know, in words: said alike on the terminal, in comparisons and in reports."""

from collections.abc import Mapping, Sequence
from typing import Any

IGNORED = 0.01
"""An input whose shuffling changes less than this share of the predictions is as good as not there."""

_TOGETHER = {"alone": "clip by clip", "32": "in batches of 32", "fold": "with the whole fold as one batch"}


def title(model: str, encoders: Sequence[tuple[str, bool]], corpus: str, synthetic: bool, split: str) -> str:
    """One line that says what a figure shows.

    Args:
        model: name.
        encoders: each with whether its weights are random.
        corpus: name.
        synthetic: whether its speech was generated.
        split: name.
    """
    inputs = " + ".join(f"{name}{' (random weights)' if random else ''}" for name, random in encoders)
    return f"{model}: {inputs}, {corpus}{' (synthetic speech)' if synthetic else ''}, split {split}"


def synthetic_speech(corpora: Sequence[str] = ()) -> str:
    """That the speech, or that of these corpora, was generated."""
    of = f" of {', '.join(corpora)}" if corpora else ""
    return f"The speech{of} is synthetic: the figures show that the software works, nothing about emotion."


def random_weights(encoders: Sequence[str]) -> str:
    """That encoders were never trained."""
    *others, last = dict.fromkeys(encoders)
    several = bool(others)
    names = f"{', '.join(others)} and {last}" if several else last
    return (
        f"{names} {'have' if several else 'has'} random weights: the figures say nothing about the published "
        f"model{'s' if several else ''}."
    )


def warnings(
    *, synthetic: bool, random: Sequence[str], encoders: Mapping[str, str], metrics: Mapping[str, Any]
) -> list[str]:
    """Everything that makes figures say less than they seem to.

    Args:
        synthetic: whether the speech was generated.
        random: encoders that were never trained.
        encoders: of each input ("a", "b" ...).
        metrics: what `metrics.json` holds.
    """
    found = [synthetic_speech()] if synthetic else []
    if random:
        found.append(random_weights(random))
    notes = metrics.get("audit", {}).get("notes", [])
    found += [note for note in notes if isinstance(note, str) and note.startswith("LEAKAGE: ")]
    for side, figures in metrics.get("sensitivity", {}).items():
        if figures["changed"] < IGNORED:
            found.append(
                f"This fusion all but ignores {encoders[side]}: shuffling it changes {figures['changed']:.1%} of the "
                "predictions."
            )
    if neighbours := metrics.get("neighbours"):
        found.append(_neighbours(neighbours))
    return found


def _neighbours(neighbours: Mapping[str, Mapping[str, Any]]) -> str:
    parts = [
        f"{100 * neighbours[size]['accuracy']:.1f} % {how}" for size, how in _TOGETHER.items() if size in neighbours
    ]
    text = f"A prediction depends on the clips predicted beside it: accuracy {', '.join(parts)}"
    changed = neighbours["fold"].get("changed_from_alone")
    if changed is not None:
        text += f"; {changed:.0%} of the predictions differ between alone and whole fold"
    return f"{text}."


def choices(metrics: Mapping[str, Any]) -> list[str]:
    """What a search chose within the training parts, each key in a sentence, with the number of folds."""
    chosen = metrics.get("chosen", [])
    lines = []
    for key in dict.fromkeys(key for fold in chosen for key in fold["settings"]):
        values = [str(fold["settings"].get(key)) for fold in chosen]
        counts = sorted({value: values.count(value) for value in values}.items(), key=lambda item: -item[1])
        told = ", ".join(f"{value} in {number}" for value, number in counts)
        lines.append(f"Chosen within the training part of each fold: {key} = {told} of {len(chosen)} folds.")
    return lines


_MOST_LAYERS = 4


def layers(metrics: Mapping[str, Any]) -> list[str]:
    """What a network has the layers of an encoder weigh, a sentence for each such input."""
    lines = []
    for side, found in metrics.get("layer_weights", {}).items():
        order = sorted(range(len(found["layers"])), key=lambda place: -found["mean"][place])
        most = ", ".join(f"{found['layers'][place]} ({found['mean'][place]:.1%})" for place in order[:_MOST_LAYERS])
        lines.append(
            f"Of the {len(order)} layers of {found['encoder']} (input {side}), these weigh most, in the mean of "
            f"{len(found['folds'])} folds: {most}; all alike would be {1 / len(order):.1%} each."
        )
    return lines


def contributions(encoders: Mapping[str, str], metrics: Mapping[str, Any]) -> list[str]:
    """What each input of a fusion contributes; arguments as for `warnings`."""
    return [
        f"Shuffling input {side} ({encoders[side]}) over the test clips changes {figures['changed']:.1%} of the "
        f"predictions and costs {100 * figures['accuracy_drop']:.1f} points of accuracy."
        for side, figures in metrics.get("sensitivity", {}).items()
    ]
