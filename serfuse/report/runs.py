"""The finished runs of a report, each with what tells it from the others."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

from .. import models
from ..errors import RunError, SerfuseError
from ..progress import duration
from ..runs.run import Run
from . import distinguish


@dataclass(frozen=True)
class ReportedRun(Run):
    """A finished run beside others.

    Attributes:
        name: the folder's name, made unique among the runs of a report.
        twin: the settings that tell it from runs of the report that look alike, see `distinguish`.
    """

    twin: str = ""

    @property
    def title(self) -> str:
        """The model, with what tells this run from others that look alike: "parrot (seed 3)"."""
        return f"{self.model} ({self.twin})" if self.twin else self.model

    @property
    def experiment(self) -> tuple[str, ...]:
        """Corpus, model, representations, settings and data: what stays the same when only the split changes."""
        values = self.description.to_dict()
        digests = {name: value for name, value in values.get("digests", {}).items() if name != "folds"}
        settings = {name: values.get(name) for name in ("options", "training", "seed", "embeddings")}
        return self.corpus, self.model, self.inputs, json.dumps([settings, digests], sort_keys=True, default=str)

    @property
    def shown(self) -> str:
        """What its t-SNE shows of each clip, see `serfuse.models.Model`."""
        try:
            return models.get(self.model).shown
        except SerfuseError:  # a run of somebody else's, of a model that is not installed here
            return "features of the model"

    def seconds(self) -> str:
        """Wall time for people, as `serfuse cv` prints it."""
        return duration(float(self.metrics.get("seconds", 0)))


def read(folders: list[Path]) -> list[ReportedRun]:
    """The runs in these folders.

    Raises:
        RunError: no folder was given, one holds no finished run, or its files are damaged.
    """
    if not folders:
        raise RunError("No run folder was given. Give the folders that `serfuse cv` wrote.")
    names = _unique([folder.resolve() for folder in folders])
    runs = [ReportedRun.read(folder, name=name) for folder, name in zip(folders, names, strict=True)]
    seen = [(run.corpus, run.model, run.inputs, run.split) for run in runs]
    texts = distinguish.told_apart(seen, [run.description.to_dict() for run in runs], names)
    found = [replace(run, twin=text) for run, text in zip(runs, texts, strict=True)]
    for run in found:
        for table in ("predictions", "history", "points", "clips"):
            getattr(run, table)  # a page is not begun with a run whose tables cannot be read
    return found


def _unique(folders: list[Path]) -> list[str]:
    """Folder names, with as much of the path before them as tells them apart."""
    depth = 1
    while depth < 6:
        names = ["/".join(folder.parts[-depth:]) for folder in folders]
        if len(set(names)) == len(set(folders)):
            return names
        depth += 1
    return [str(folder) for folder in folders]
