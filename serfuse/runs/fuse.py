"""Late fusion of finished runs: their probabilities joined clip by clip, without any training."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .. import metrics, models
from ..atomic_io import locked
from ..errors import RunError, SerfuseError
from ..experiment import cross_validation
from ..experiment.config import Config, from_dict
from ..experiment.cross_validation import FoldResult, Result
from ..experiment.dataset import Dataset
from ..experiment.permutation_importance import importance_of
from ..models.late import geometric_mean, log_features, sound_weights
from ..splits.folds import Fold
from . import paired_runs, run_folder
from .run import Run


def fuse(
    runs: Sequence[Run | Path | str],
    out: Path | str | None = None,
    *,
    weights: Sequence[float] | None = None,
    overwrite: bool = False,
) -> Run:
    """Join finished runs by the geometric mean of their probabilities, into a run like any other.

    Nothing is trained: each clip's probabilities are those that models gave which had not seen it. The result is what
    a cross-validation of `late` gives to the last digits, and its record says so, where one configuration describes the
    runs: each of one representation, trained in the same way with the same seed. Otherwise its model is called `fused`.

    Args:
        runs: two or more runs, or their folders, tested on the same clips in the same folds.
        out: the run folder, by default a free one in `runs/`.
        weights: of the runs in the mean, positive; by default all alike.
        overwrite: replace a finished run.

    Raises:
        RunError: too few or too many runs, one that cannot be read or has no probabilities; or runs of other corpora,
            clips, labels, recordings, classes, splits or folds; or one run is given twice; or `out` cannot be written,
            is taken, or is one of the runs.
    """
    members = [run if isinstance(run, Run) else Run.read(run) for run in runs]
    _check_folders(members, out)
    _check(members, weights)
    keys = _inputs(members)
    config = _config(members, keys, weights)
    result = _result(members, config, _Data.of(members, keys), weights)
    folder = Path(out) if out is not None else _free_folder(config, result.dataset)
    run_folder.prepare(folder, overwrite)
    threads = _threads(members)
    try:
        with locked(folder, wait=False):
            run_folder.clear(folder)
            run_folder.write_start(folder, config, result.dataset, [one.fold for one in result.folds], threads)
            run_folder.write(folder, result)
    except OSError as error:
        raise RunError(f"Cannot write the run folder {folder}: {error.strerror or error}.") from error
    return Run.read(folder)


# -- what can be fused ---------------------------------------------------------------------------------------


def _check_folders(members: Sequence[Run], out: Path | str | None) -> None:
    """Refuse one run given twice, and a result that would take the place of a run that it is made of."""
    places = [run.folder.resolve() for run in members]
    for number, place in enumerate(places):
        if place in places[:number]:
            raise RunError(
                f"The run {members[number].folder} is given twice: a fusion joins the opinions of different runs. To "
                "have one count more than another, give weights."
            )
    if out is not None and Path(out).resolve() in places:
        raise RunError(f"{out} is one of the runs to be fused, and the result would replace it. Give another folder.")


def _check(members: Sequence[Run], weights: Sequence[float] | None) -> None:
    if not 2 <= len(members) <= models.MAX_INPUTS:
        raise RunError(f"{len(members)} run(s) given; a fusion joins 2 to {models.MAX_INPUTS}.")
    if weights is not None and (len(weights) != len(members) or not sound_weights(weights)):
        raise RunError(
            f"The weights are {', '.join(map(str, weights))}; expected {len(members)} positive numbers, one for each "
            "run, none of which is nothing beside the largest."
        )
    read = paired_runs.named([paired_runs.read(run, place) for place, run in enumerate(members)], None)
    first = members[0]
    for run, paired in zip(members[1:], read[1:], strict=True):
        for what, here, there in (
            ("corpora", first.corpus, run.corpus),
            ("splits", first.split, run.split),
            ("emotions", ", ".join(first.classes), ", ".join(run.classes)),
        ):
            if here != there:
                raise RunError(
                    f"Runs of different {what} cannot be fused: {here} in {read[0].name!r}, {there} in {paired.name!r}."
                )
        paired_runs.check(read[0], paired)
    for run in members:
        if metrics.probability_columns(run.predictions, run.classes) is None:
            raise RunError(f"{run.folder} has no probabilities in its predictions.csv, which a fusion is made of.")


def _inputs(members: Sequence[Run]) -> dict[str, tuple[Run, str]]:
    """The inputs of all runs under names of their own: the run, and the name there."""
    found = [(run, side) for run in members for side in run.keys]
    if len(found) > models.MAX_INPUTS:
        seen = {run.keys[side]: (run, side) for run, side in reversed(found)}
        found = [one for one in found if one in seen.values()]
    if len(found) > models.MAX_INPUTS:
        raise RunError(f"The runs take {len(found)} representations together; a run records {models.MAX_INPUTS}.")
    return dict(zip(models.INPUTS, found, strict=False))


def _threads(members: Sequence[Run]) -> list[int]:
    given = [run.description.threads for run in members]
    return sorted({one for some in given for one in (some if isinstance(some, list) else [some]) if one is not None})


# -- what the fusion is recorded as --------------------------------------------------------------------------


def _config(members: Sequence[Run], inputs: Mapping[str, tuple[Run, str]], weights: Sequence[float] | None) -> Config:
    """A configuration of `late` that gives the same by training, where there is one; else one of `fused`."""
    first = members[0].description
    data = {"corpus": first.corpus.name, **{name: run.keys[side].selector for name, (run, side) in inputs.items()}}
    values = {
        "model": "fused",
        "options": {} if weights is None else {"weights": list(weights)},
        "data": data,
        "split": first.split.model_dump(exclude_unset=True),
        "training": first.training,
        "seed": first.seed,
    }
    if all(len(run.keys) == 1 and _same_training(run, members[0]) for run in members):
        heads = [(run.model, run.description.options) for run in members]
        if all(head == heads[0] for head in heads):
            options: dict[str, Any] = {"head": heads[0][0], "head_options": heads[0][1]}
        else:
            options = {"head": [name for name, _ in heads], "head_options": [dict(values) for _, values in heads]}
        try:
            return from_dict({**values, "model": "late", "options": {**options, **values["options"]}})
        except SerfuseError:  # a model that cannot be a head, or of a package that is not there
            pass
    return from_dict({**values, "training": {}})


def _same_training(run: Run, other: Run) -> bool:
    one, two = run.description, other.description
    return one.seed == two.seed and one.training == two.training and not one.training.get("search")


@dataclass(frozen=True)
class _Data(Dataset):
    """What finished runs tell of their data: everything but the vectors."""

    known: Mapping[str, str] | None = None
    vectors: Mapping[str, str] | None = None

    @classmethod
    def of(cls, members: Sequence[Run], inputs: Mapping[str, tuple[Run, str]]) -> "_Data":
        first = members[0]
        told = first.clips if not first.clips.empty else first.predictions.drop_duplicates("clip")
        clips = pd.DataFrame({"id": told["clip"].to_numpy(), "emotion": told["label"].to_numpy(), "fold": None})
        for column in ("speaker", "text", "audio"):
            clips[column] = told[column].to_numpy() if column in told else None
        digests = first.description.digests.model_dump(exclude={"embeddings"}, exclude_none=True)
        vectors = {name: run.description.digests.embeddings.get(side) for name, (run, side) in inputs.items()}
        info = {
            "speaker_kind": first.speaker_kind,
            "synthetic": any(run.synthetic for run in members),
            "backend": " + ".join(dict.fromkeys(run.description.backend for run in members)),
            "trainer": " + ".join(dict.fromkeys(name for run in members if (name := run.description.trainer))),
            "made_of": [
                {"run": run.name, "model": run.model, "inputs": run.encoders, "seed": run.description.seed}
                for run in members
            ],
        }
        left_out = {(item["clip"], item["name"]): item for run in members for item in run.metrics.get("left_out", [])}
        return cls(
            first.corpus,
            info,
            clips.sort_values("id").set_index("id", drop=False),
            {},
            {name: run.keys[side] for name, (run, side) in inputs.items()},
            tuple(left_out.values()),
            {name: value for name, value in digests.items() if isinstance(value, str)},
            {name: digest for name, digest in vectors.items() if digest},
        )

    @property
    def digests(self) -> dict[str, str]:
        return dict(self.known or {})

    @property
    def embedding_digests(self) -> dict[str, str]:
        return dict(self.vectors or {})


def _free_folder(config: Config, dataset: Dataset) -> Path:
    parts = [dataset.corpus, config.model, *(key.encoder for key in dataset.keys.values()), config.split.name]
    base = Path("runs") / ("-".join(parts) + f"-seed{config.seed}-fused")
    candidate, number = base, 2
    while candidate.exists():
        candidate, number = base.with_name(f"{base.name}-{number}"), number + 1
    return candidate


# -- what comes out ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Audit:
    """The runs' audits in one: they are about the same folds, and may have different things to say of their inputs."""

    told: dict[str, Any]

    @classmethod
    def of(cls, members: Sequence[Run]) -> "_Audit":
        sentences = list(dict.fromkeys(sentence for run in members for sentence in run.audit))
        return cls({**members[0].metrics["audit"], "sentences": sentences})

    def to_dict(self) -> dict[str, Any]:
        return self.told


def _result(members: Sequence[Run], config: Config, dataset: Dataset, weights: Sequence[float] | None) -> Result:
    classes, first = members[0].classes, members[0].predictions
    place = ["repeat", "clip"]
    rows = pd.MultiIndex.from_frame(first[place])
    columns = [f"p_{name}" for name in classes]
    opinions = {}
    for number, run in enumerate(members):
        name = list(dataset.keys)[number] if _single(members) else str(number)
        opinions[name] = run.predictions.set_index(place)[columns].loc[rows].to_numpy(dtype="float64")
    joined = geometric_mean(list(opinions.values()), weights)
    predictions = first.reindex(columns=["clip", "speaker", "text", "repeat", "fold", "label"])
    predictions["predicted"] = np.asarray(classes)[joined.argmax(axis=1)]
    predictions[columns] = joined
    parts, seconds = _parts(members), sum(run.metrics.get("seconds", 0.0) for run in members)
    histories, parameters = _histories(members, dataset), sum(run.metrics.get("parameters", 0) for run in members)
    numbers = pd.Categorical(first["label"], categories=classes).codes.astype("int64")
    found = []
    for fold in parts:
        mine = ((first["repeat"] == fold.repeat) & (first["fold"] == fold.index)).to_numpy()
        said = {name: rows[mine] for name, rows in opinions.items()}
        found.append(
            FoldResult(
                fold=fold,
                predictions=predictions[mine],
                history=_of_fold(histories, fold),
                parameters=parameters,
                sensitivity=importance_of(
                    said,
                    lambda some: geometric_mean(list(some.values()), weights).argmax(axis=1),
                    numbers[mine],
                    joined[mine].argmax(axis=1),
                    cross_validation.fold_seed(config, fold),
                )
                if _single(members)
                else {},
                neighbours={},
                penultimate=log_features(said),
                seconds=seconds / len(parts),
            )
        )
    result = Result(config, dataset, _Audit.of(members), found)
    result.metrics = cross_validation.measure(result)
    return result


def _single(members: Sequence[Run]) -> bool:
    return all(len(run.keys) == 1 for run in members)


def _parts(members: Sequence[Run]) -> list[Fold]:
    """The folds, from whichever run wrote all of them down."""
    table = next((run.parts for run in members if not run.parts.empty), None)
    if table is None:  # runs of an early version: what was tested is known
        table = members[0].predictions[["repeat", "fold", "clip"]].assign(part="test")
    found = []
    for (repeat, index), rows in table.groupby(["repeat", "fold"], sort=True):
        ids = {part: rows.loc[rows["part"] == part, "clip"].to_numpy() for part in ("train", "validation", "test")}
        found.append(Fold(int(repeat), int(index), ids["train"], ids["validation"], ids["test"]))
    return found


def _histories(members: Sequence[Run], dataset: Dataset) -> pd.DataFrame:
    """A row for each epoch of each run's networks; `network` says which."""
    names: Iterable[str] = dataset.keys if _single(members) else [run.name for run in members]
    tables = [
        run.history.assign(network=name) for run, name in zip(members, names, strict=False) if not run.history.empty
    ]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _of_fold(histories: pd.DataFrame, fold: Fold) -> pd.DataFrame:
    if histories.empty:
        return pd.DataFrame({"repeat": [], "fold": []})
    return histories[(histories["repeat"] == fold.repeat) & (histories["fold"] == fold.index)]
