"""What is worth trying: every representation alone, fusions of all of them, and of some."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from .. import models
from ..errors import ConfigError
from ..experiment.config import Config, configure
from ..store import EmbeddingKey, EmbeddingStore
from ..store.store import default_root

HEAD = "svm"
"""The model of one representation, and of several concatenated."""

LATE = "late"

FUSIONS = (LATE, HEAD, "kernel", "stacked", "experts", "hyfuse-symmetric", "parrot")
"""Fusions in the order in which they are tried; what a stated time does not allow is the last of them."""

CONCATENATION = "concatenation"
SINGLE = "single"


@dataclass(frozen=True)
class Candidate:
    """One model on one choice of representations.

    Attributes:
        model: its registry name.
        sides: which inputs of the whole dataset it takes, such as ("a", "c").
        inputs: the same as text for `data.a` ..., such as ("prosody", "ge2e@pooling=mean-std").
    """

    model: str
    sides: tuple[str, ...]
    inputs: tuple[str, ...]

    @property
    def family(self) -> str:
        """What it is compared as: "single", "concatenation" (an SVM on it), or the name of the fusion."""
        if len(self.sides) == 1:
            return SINGLE
        return CONCATENATION if self.model == HEAD else self.model

    @property
    def name(self) -> str:
        """For people: "late: prosody + ge2e"."""
        title = {SINGLE: self.model, CONCATENATION: f"{self.model} on concatenation"}.get(self.family, self.model)
        return f"{title}: {' + '.join(self.inputs)}"

    @property
    def folder(self) -> str:
        """For files: "late-ac"."""
        return f"{self.model}-{''.join(self.sides)}"

    def config(self, corpus: str, settings: Mapping[str, object]) -> Config:
        """The experiment, as `serfuse cv` would run it.

        Args:
            corpus: its name in the store.
            settings: of `configure`: `split`, `folds`, `seed`.
        """
        return configure(self.model, inputs=list(self.inputs), corpus=corpus, **settings)

    def command(self, corpus: str, settings: Mapping[str, object], store: EmbeddingStore) -> str:
        """The `serfuse cv` command of it.

        Args:
            corpus: its name in the store.
            settings: of `configure`.
            store: where the embeddings are; named where it is not the usual one.
        """
        sides = " ".join(f"--{side} {text}" for side, text in zip(models.INPUTS, self.inputs, strict=False))
        usual = {"folds": 5, "seed": 0}
        rest = " ".join(f"--{name} {value}" for name, value in settings.items() if value != usual.get(name))
        kind = "head" if len(self.sides) == 1 else "fusion"
        place = "" if store.root == default_root() else f" --store {shlex.quote(str(store.root))}"
        return f"serfuse cv --{kind} {self.model} {sides} --corpus {shlex.quote(corpus)} {rest}{place}"


def candidates(inputs: Sequence[str], fusions: Sequence[str] = FUSIONS) -> list[Candidate]:
    """Every representation alone, then late fusions of every subset, then each other fusion on all and on pairs.

    Args:
        inputs: two to eight representations, as text for `data.a` ...
        fusions: names of models.

    Raises:
        UnknownNameError: no such model.
        ConfigError: fewer than two representations, more than eight, or a model that does not fuse.
    """
    if not 2 <= len(inputs) <= models.MAX_INPUTS:
        few = len(inputs) < 2
        instead = "Extract more, or name" if few else "None is left out unasked: name"
        some = " ".join(f"--input {shlex.quote(text)}" for text in inputs[:2])
        raise ConfigError(
            f"{len(inputs)} representations are to be compared ({', '.join(inputs) or 'none'}); a recommendation needs "
            f"2 to {models.MAX_INPUTS}. {instead} those that count with --input{'' if few else f', such as {some}'}."
        )
    if twice := sorted({text for text in inputs if list(inputs).count(text) > 1}):
        raise ConfigError(f"{', '.join(twice)} is named more than once; a representation counts once.")
    sides = models.INPUTS[: len(inputs)]
    named = dict(zip(sides, inputs, strict=True))

    def candidate(model: str, subset: Sequence[str]) -> Candidate:
        return Candidate(model, tuple(subset), tuple(named[side] for side in subset))

    for model in fusions:
        models.get(model).check_trainable()
        if models.get(model).most_inputs < 2:
            raise ConfigError(f"The model {model!r} is no fusion of two or more representations.")
    found = [candidate(HEAD, side) for side in sides]
    # Late fusion puts together what the single ones said, so all of its subsets cost next to nothing.
    found += [candidate(LATE, subset) for subset in _subsets(sides, every=True) if LATE in fusions]
    others = [model for model in fusions if model != LATE]
    for subset in _subsets(sides, every=False):
        found += [candidate(model, subset) for model in others if models.get(model).takes(len(subset))]
    return found


def _subsets(sides: Sequence[str], *, every: bool) -> Iterator[tuple[str, ...]]:
    """All of them first, then smaller ones: `every`, or pairs only."""
    for size in range(len(sides), 1, -1) if every else dict.fromkeys((len(sides), 2)):
        yield from combinations(sides, size)


def of_store(store: EmbeddingStore, corpus: str) -> list[str]:
    """The representations of a corpus in a store that are current and trained, each by its shortest clear name.

    Raises:
        StoreError: there is no such corpus, or a key file is damaged.
    """
    keys = [key for key in store.keys(corpus) if key.current and not key.random]
    return [_shortest(key, keys) for key in keys]


def _shortest(key: EmbeddingKey, keys: Sequence[EmbeddingKey]) -> str:
    like = [other for other in keys if other.encoder == key.encoder]
    if len(like) == 1:
        return key.encoder
    if [other.pooling for other in like].count(key.pooling) == 1:
        return f"{key.encoder}@pooling={key.pooling}"
    return key.folder
