"""A finished run: one object for its folder, read by everything that uses runs."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ..errors import ConfigError, RunError, StoreError, UnknownNameError
from ..experiment import config as configs
from ..experiment.config import Config
from ..metrics.confusion import confusion
from ..published import results as published
from ..published.results import Published
from ..store.key import EmbeddingKey
from . import data_changes, reading, schema, sentences
from .schema import Description

if TYPE_CHECKING:
    import pandas as pd

    from ..experiment.dataset import Dataset


@dataclass(frozen=True)
class Run:
    """A finished run, as `serfuse cv` or a sweep left it; `Run.read` makes it.

    The settings and the figures are read and checked at once, the tables when they are first asked for: every property
    that gives a table raises `RunError` where its file is damaged.

    Attributes:
        folder: where it is.
        name: what to call it.
        description: what `config.yaml` holds.
        metrics: what `metrics.json` holds, checked by `schema.Metrics`. Plain values: a figure is found by its name in
            `serfuse.metrics`, and a later version may write more of them.
        digests: SHA-256 of its files as they were written, by name, see `reading.read_digests`; a file that is no
            longer so is refused when it is read.
    """

    folder: Path
    name: str
    description: Description = field(repr=False)
    metrics: dict[str, Any] = field(repr=False)
    digests: dict[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def read(cls, path: Path | str, *, name: str | None = None) -> Self:
        """The run in a folder.

        Args:
            path: the folder, or a file in it.
            name: what to call it; by default as the folder is called.

        Raises:
            RunError: no finished run, or one whose files are damaged or no regular files; the message names the file.
        """
        folder = Path(path)
        if folder.is_file():
            folder = folder.parent
        if not (folder / "metrics.json").exists():
            raise RunError(
                f"{folder} is no finished run: it has no metrics.json. Give a folder that `serfuse cv` wrote."
            )
        digests = reading.read_digests(folder)
        description = read_description(folder, digests)
        metrics = reading.json_object(folder / "metrics.json", digests)
        schema.check_metrics(metrics, description, str(folder))
        return cls(folder, name or folder.name or folder.resolve().name, description, metrics, digests)

    # --- what was run -----------------------------------------------------------------------------------------------

    @property
    def model(self) -> str:
        return self.description.model

    @property
    def corpus(self) -> str:
        return self.description.corpus.name

    @property
    def split(self) -> str:
        return self.description.split.name

    @property
    def speaker_kind(self) -> str:
        """What a speaker is called: "speaker", or "voice type"."""
        return self.description.corpus.speaker_kind

    @property
    def synthetic(self) -> bool:
        """Whether the speech was generated."""
        return self.description.corpus.synthetic

    @property
    def encoders(self) -> list[str]:
        """Of the inputs, in their order."""
        return self.description.encoders

    @property
    def random_weights(self) -> list[str]:
        """Encoders that were never trained."""
        return self.description.random_weights

    @property
    def inputs(self) -> str:
        """The representations: "prosody + hubert"."""
        return " + ".join(self.encoders)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings, to run it again on the very same embeddings.

        Raises:
            ConfigError: the record of the embeddings is damaged.
        """
        return settings_of(self.description.to_dict())

    @property
    def config(self) -> Config:
        """`settings`, validated.

        Raises:
            ConfigError: it was edited into something that is no configuration.
            UnknownNameError: a model that is not there.
        """
        return configs.from_dict(self.settings, f"{self.folder}/config.yaml")

    @property
    def keys(self) -> dict[str, EmbeddingKey]:
        """The embeddings' keys by input.

        Raises:
            RunError: one is damaged.
        """
        try:
            return {side: EmbeddingKey.from_dict(key.model_dump()) for side, key in self.description.embeddings.items()}
        except (StoreError, TypeError, ValueError) as error:
            raise RunError(f"{self.folder}/config.yaml does not say what the run was made with ({error}).") from None

    # --- what came out ----------------------------------------------------------------------------------------------

    @property
    def classes(self) -> list[str]:
        return list(self.metrics["classes"])

    @property
    def audit(self) -> list[str]:
        """Who stood on both sides of the folds, in plain sentences, the most important first."""
        return list(self.metrics["audit"]["sentences"])

    @property
    def left_out(self) -> list[str]:
        """Clips that lacked an embedding, sorted."""
        return sorted({str(item["clip"]) for item in self.metrics.get("left_out", [])})

    @cached_property
    def predictions(self) -> "pd.DataFrame":
        """`predictions.csv`: `clip, speaker, text, repeat, fold, label, predicted` and `p_<class>` where there are any.

        Ids are text, a missing speaker or text is missing.
        """
        path, classes = self.folder / "predictions.csv", self.classes
        needed = ("clip", "speaker", "repeat", "fold", "label", "predicted")
        numbers = [f"p_{name}" for name in classes]
        found = reading.table(path, needed, numbers=numbers, digests=self.digests)
        clips = self.metrics["pooled"]["clips"]
        if len(found) != clips or found.empty:
            raise RunError(
                f"{self.folder} is not a whole run folder: predictions.csv has {len(found)} rows, metrics.json is "
                f"about {clips}. Run it again."
            )
        strangers = sorted({*found["label"], *found["predicted"]} - set(classes))
        if strangers:
            raise RunError(
                f"{self.folder} is not a whole run folder: predictions.csv has the emotion {strangers[0]!r}, "
                f"metrics.json {', '.join(classes)}. Run it again."
            )
        if confusion(found["label"], found["predicted"], classes) != self.metrics["pooled"]["confusion"]:
            raise RunError(
                f"{self.folder} is not a whole run folder: what predictions.csv holds is not what the figures in "
                "metrics.json were counted from. Run it again."
            )
        return found

    @cached_property
    def history(self) -> "pd.DataFrame":
        """`history.csv`: a row for each epoch; without rows for a model that has none."""
        needed = ("repeat", "fold", "epoch", "loss")
        return self._optional("history.csv", needed, numbers=("epoch", "loss", "val_loss"))

    @cached_property
    def points(self) -> "pd.DataFrame":
        """`tsne.csv`: `x, y` of the test clips of one fold; without rows where it was not drawn."""
        return self._optional("tsne.csv", ("x", "y"), numbers=("x", "y"))

    @cached_property
    def parts(self) -> "pd.DataFrame":
        """`folds.csv`: `repeat, fold, clip, part` of every clip of every fold; without rows where it is missing."""
        return self._optional("folds.csv", ("repeat", "fold", "clip", "part"))

    @cached_property
    def clips(self) -> "pd.DataFrame":
        """`clips.csv`: `clip, label, speaker, text, audio` of every clip; without rows in runs before 0.2."""
        return self._optional("clips.csv", ("clip", "label", "speaker", "text", "audio"))

    def _optional(self, name: str, columns: Sequence[str], *, numbers: Sequence[str] = ()) -> "pd.DataFrame":
        return reading.optional_table(self.folder / name, columns, numbers=numbers, digests=self.digests)

    # --- in words ---------------------------------------------------------------------------------------------------

    def warnings(self) -> list[str]:
        """What a reader of its figures must know first."""
        return sentences.warnings(
            synthetic=self.synthetic, random=self.random_weights, encoders=self._sides, metrics=self.metrics
        )

    def contributions(self) -> list[str]:
        """What each input of a fusion contributes."""
        return sentences.contributions(self._sides, self.metrics)

    def choices(self) -> list[str]:
        """What `training.search` chose in the folds."""
        return sentences.choices(self.metrics)

    def layer_weights(self) -> list[str]:
        """What the layers of encoders weigh, where all of them were given."""
        return sentences.layers(self.metrics)

    @property
    def _sides(self) -> Mapping[str, str]:
        return {side: key.encoder for side, key in self.description.embeddings.items()}

    @property
    def published(self) -> list[Published]:
        """What the papers print for this corpus, model and encoders."""
        if len(self.encoders) > 2:  # the papers fuse two
            return []
        try:
            return published.find(self.corpus, self.model, *self.encoders)
        except (UnknownNameError, ConfigError):  # a model of a later version
            return []

    def changes(self, dataset: "Dataset") -> list[str]:
        """What of the data is no longer as the run had it, each in a few words; empty where everything is the same.

        A run before 0.2 knows its labels, speakers and texts, and how many clips it had, but not what was heard.

        Args:
            dataset: the data as they are now.
        """
        return data_changes.between(self.description, dataset, self._known_clips)

    def changes_of_clips(self, clips: "pd.DataFrame") -> list[str]:
        """As `changes`, for clips as a store has them: what is another of those that the run had."""
        return data_changes.of_clips(self._known_clips, clips, self.speaker_kind)

    @cached_property
    def _known_clips(self) -> "pd.DataFrame":
        return self.predictions.drop_duplicates("clip") if self.clips.empty else self.clips


def read_description(folder: Path, digests: Mapping[str, str] | None = None) -> Description:
    """What `config.yaml` of a run folder holds.

    Raises:
        RunError: missing, no regular file, too large, not as it was written, not YAML, YAML that expands itself, or
            not that of a run.
    """
    path = folder / "config.yaml"
    data = reading.file_bytes(path, configs.MAX_CONFIG_BYTES, digests)
    try:
        values = configs.parse_yaml(data.decode("utf-8"), str(path))
    except (ConfigError, UnicodeDecodeError) as error:
        raise RunError(f"{folder} is not a whole run folder: {error}") from None
    return schema.check_description(values, str(folder))


def settings_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings in what `config.yaml` of a run holds, to run it again; other configurations as they are.

    What was only recorded is left out, and encoders are named in full: whatever else the store holds by now, the
    same embeddings are meant.

    Raises:
        ConfigError: the record of the embeddings is damaged.
    """
    if not is_recorded(values):
        return dict(values)
    settings = {key: value for key, value in values.items() if key not in schema.RECORDED}
    try:
        named = {side: EmbeddingKey.from_dict(key).selector for side, key in values["embeddings"].items()}
        settings["data"] = {**values["data"], **named}
    except (AttributeError, KeyError, TypeError, StoreError) as error:
        raise ConfigError(f"The embeddings recorded in this run's configuration cannot be read ({error}).") from None
    return settings


def is_recorded(values: Mapping[str, Any]) -> bool:
    """Whether these are the values of a run's `config.yaml`, not only settings."""
    return {"embeddings", "versions"} <= values.keys()


def changes_since(file: Path, dataset: "Dataset") -> list[str]:
    """What is no longer as the run had it whose `config.yaml` this is, for running it again.

    Nothing of the data for other configurations, and for another corpus or inputs, which somebody asked for. Clips are
    named where the rest of the run is beside the file.

    Args:
        file: a configuration that can be read.
        dataset: the data as they are now.

    Raises:
        RunError: it is the record of a run, and damaged.
    """
    values = configs.read_yaml(file)
    found = []
    with suppress(RunError):
        expected = reading.read_digests(file.parent).get(file.name)
        if expected not in (None, reading.digest(reading.file_bytes(file, configs.MAX_CONFIG_BYTES))):
            found = ["the settings in the file are not as the run wrote them"]
    if not is_recorded(values):
        return found
    description, clips = schema.check_description(values, str(file)), None
    if description.corpus.name != dataset.corpus:
        return found
    with suppress(RunError):  # without the rest of the run, kinds of changes are named but no clips
        clips = Run.read(file.parent)._known_clips if file.name == "config.yaml" else None
    return found + data_changes.between(description, dataset, clips, inputs=False)
