"""What an experiment is made with: labels and embeddings of one corpus, joined by clip id, and parts of them."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from .. import models
from ..errors import ConfigError, StoreError
from ..store import EmbeddingKey, EmbeddingStore
from .config import Config
from .rows import Stacked, joined, take

_SELECTORS = ("pooling", "layer", "pad", "weights", "dtype")


@dataclass(frozen=True)
class Part:
    """Clips that are trained on, watched by early stopping, or tested; rows of all fields belong together.

    Attributes:
        arrays: `{"a": (N, D_a), ...}`, one per input of the model, float32, `(N, L, D)` of several layers of an
            encoder; `Rows` of what is mapped, where that is too large to copy.
        labels: `(N,)` class numbers, int64.
        ids: `(N,)` clip ids.
        groups: `{"speaker": (N,), "text": (N,)}` as far as the split keeps them apart: folds within the part do so too.
    """

    arrays: Mapping[str, Any]
    labels: np.ndarray
    ids: np.ndarray
    groups: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: np.ndarray) -> "Part":
        """Some of the clips, by their row numbers."""
        return Part(
            {name: take(array, rows) for name, array in self.arrays.items()},
            self.labels[rows],
            self.ids[rows],
            {name: values[rows] for name, values in self.groups.items()},
        )

    def joined(self, other: "Part") -> "Part":
        """These clips, and behind them those of another part."""
        return Part(
            {name: joined(array, other.arrays[name]) for name, array in self.arrays.items()},
            np.concatenate([self.labels, other.labels]),
            np.concatenate([self.ids, other.ids]),
            {name: np.concatenate([values, other.groups[name]]) for name, values in self.groups.items()},
        )

    def only(self, side: str) -> "Part":
        """The same clips with one of the inputs, called "a" as in a run of that input alone."""
        return Part({"a": self.arrays[side]}, self.labels, self.ids, self.groups)


@dataclass(frozen=True)
class Dataset:
    """One corpus with the embeddings that an experiment uses, joined by clip id.

    Attributes:
        corpus: name.
        info: what the store knows of it (`speaker_kind`, `synthetic`, ...).
        clips: one row per clip with `id, emotion, speaker, text, fold, audio`, sorted by id.
        arrays: `{"a": (N, D_a), ...}`, one per input of the model, float32, rows as in `clips`; `Stacked`
            `(N, L, D)` of several layers of an encoder.
        keys: the embedding key of each array, of several layers a joint one.
        left_out: clips of the corpus that lack an embedding (they were skipped as unusable): `clip`, `name` (of the
            input) and `reason`.
    """

    corpus: str
    info: Mapping[str, Any]
    clips: pd.DataFrame
    arrays: dict[str, np.ndarray]
    keys: dict[str, EmbeddingKey]
    left_out: tuple[dict[str, str], ...] = ()

    @property
    def classes(self) -> list[str]:
        """Emotions, sorted."""
        return sorted(self.clips["emotion"].unique())

    @cached_property
    def digest(self) -> str:
        """A hash of the clips and of all that is known of them, for telling whether a result is of these data."""
        rows = self.clips[["id", "emotion", "speaker", "text", "fold", "audio"]].astype(str)
        return hashlib.sha256(rows.to_csv(index=False).encode()).hexdigest()[:16]

    @cached_property
    def digests(self) -> dict[str, str]:
        """A hash of each thing that is known of the clips, for saying which of them has changed.

        `clips` is of the ids; `labels`, `speakers`, `texts`, `folds` (given by the corpus) and `recordings` (the
        identity of the audio) are of the ids with what their name says.
        """
        columns = {"labels": "emotion", "speakers": "speaker", "texts": "text", "folds": "fold", "recordings": "audio"}
        return {
            "clips": _digest_of(self.clips, "id"),
            **{name: _digest_of(self.clips, "id", column) for name, column in columns.items()},
        }

    @cached_property
    def embedding_digests(self) -> dict[str, str]:
        """A hash of the numbers of each array; none of arrays without columns, which a plan has."""
        return {name: _digest_of_array(array) for name, array in self.arrays.items() if array.shape[-1]}

    @property
    def speaker_kind(self) -> str:
        return str(self.info.get("speaker_kind", "speaker"))

    def rows(self, ids: Iterable[str]) -> np.ndarray:
        """Row numbers of clip ids."""
        return self.clips.index.get_indexer(pd.Index(ids))

    def select(self, names: Iterable[str]) -> "Dataset":
        """The same clips with some of the inputs, which are called "a", "b" ... in the order given.

        Args:
            names: of inputs.
        """
        called = dict(zip(names, models.INPUTS, strict=False))
        return replace(
            self,
            arrays={new: self.arrays[name] for name, new in called.items()},
            keys={new: self.keys[name] for name, new in called.items()},
            left_out=tuple({**item, "name": called[item["name"]]} for item in self.left_out if item["name"] in called),
        )

    def part(self, ids: Iterable[str], apart: Iterable[str] = ()) -> Part:
        """Embeddings and class numbers of some clips, in the order of their ids; `apart` as in `splits.folds.Fold`."""
        rows = self.rows(ids)
        emotions = self.clips["emotion"].iloc[rows]
        codes = pd.Categorical(emotions, categories=self.classes).codes.astype("int64")
        arrays = {name: take(array, rows) for name, array in self.arrays.items()}
        groups = {column: self.clips[column].to_numpy(dtype=object)[rows].astype(str) for column in apart}
        return Part(arrays, codes, self.clips["id"].to_numpy()[rows], groups)


def _digest_of_array(array: np.ndarray) -> str:
    found = hashlib.sha256(f"{array.dtype.str}{array.shape}".encode())
    for one in array.sources if isinstance(array, Stacked) else [array]:
        found.update(np.ascontiguousarray(one))
    return found.hexdigest()[:16]


def _digest_of(clips: pd.DataFrame, *columns: str) -> str:
    table = clips[list(columns)].astype(object)
    text = table.where(table.notna(), "").astype(str).to_csv(index=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def parse_input(text: str) -> tuple[str, dict[str, str]]:
    """`"hubert@pooling=time,layer=6"` -> `("hubert", {"pooling": "time", "layer": "6"})`.

    `layer=all` and `layer=0+6+9` are several layers used together.

    Raises:
        ConfigError: a selector that does not exist.
    """
    name, _, rest = text.partition("@")
    selectors = {}
    for part in filter(None, rest.split(",")):
        key, equals, value = part.partition("=")
        key = {"pool": "pooling"}.get(key, key)
        if not equals or key not in _SELECTORS:
            raise ConfigError(
                f"Cannot read {part!r} in {text!r}: after '@' come selectors such as pooling=time, out of "
                f"{', '.join(_SELECTORS)}."
            )
        selectors[key] = value
    return name, selectors


def load_dataset(config: Config, store: EmbeddingStore) -> Dataset:
    """Join labels and embeddings for a configuration.

    Raises:
        ConfigError: the number of encoders does not fit the model.
        UnknownNameError: an encoder that neither the store nor serfuse knows.
        StoreError: the store holds no such corpus or embedding, several that fit, or one with missing clips.
    """
    model = models.get(config.model)
    given = config.data.inputs
    if not model.takes(len(given)):
        need = " ".join(f"--{side} NAME" for side in models.INPUTS[: model.inputs])
        have = ", ".join(f"--{side} {text}" for side, text in given.items()) or "none"
        raise ConfigError(f"The model {config.model!r} takes {model.inputs_wanted}: {need}; received {have}.")
    corpus = config.data.corpus or only_corpus(store)
    keys = {}
    for side, text in given.items():
        encoder, selectors = parse_input(text)
        if config.data.pooling:
            selectors.setdefault("pooling", config.data.pooling)
        keys[side] = store.find(corpus, encoder, **selectors)
    clips, arrays, left_out = _joined(store, corpus, keys)
    clips = clips.set_index("id", drop=False)
    return Dataset(corpus, store.corpus_info(corpus), clips, arrays, keys, left_out)


def _joined(
    store: EmbeddingStore, corpus: str, keys: Mapping[str, EmbeddingKey]
) -> tuple[pd.DataFrame, dict[str, Any], tuple[dict[str, str], ...]]:
    """Clips, array of each input, and what is left out; of a joint key, the arrays of its layers stacked."""
    names = {side: [f"{side}:{layer}" if key.joint else side for layer in key.layers] for side, key in keys.items()}
    single = {
        name: key.of_layer(layer)
        for side, key in keys.items()
        for name, layer in zip(names[side], key.layers, strict=True)
    }
    clips, found = store.join(corpus, single)
    arrays: dict[str, Any] = {}
    for side, key in keys.items():
        layers = [found[name] for name in names[side]]
        if len({array.shape[1] for array in layers}) > 1:
            raise StoreError(f"The layers of {key.encoder} have vectors of several lengths. Extract them anew.")
        arrays[side] = Stacked(layers) if key.joint else layers[0]
    left_out: dict[tuple[str, str], dict[str, str]] = {}
    for item in clips.attrs["dropped"]:
        side = item["name"].partition(":")[0]
        left_out.setdefault((side, item["clip"]), {**item, "name": side})
    return clips, arrays, tuple(left_out.values())


def only_corpus(store: EmbeddingStore) -> str:
    """Give the corpus of a store that holds one.

    Raises:
        StoreError: it holds none, or several.
    """
    corpora = store.corpora()
    if len(corpora) == 1:
        return corpora[0]
    if not corpora:
        raise StoreError(
            f"The store {store.root} holds no corpus yet. Fill it first, for example: serfuse extract --corpus emodb "
            "--data DIR --encoder logmel --encoder prosody"
        )
    raise StoreError(f"The store {store.root} holds several corpora. Add --corpus with one of: {', '.join(corpora)}.")
