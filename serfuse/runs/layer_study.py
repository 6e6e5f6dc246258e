"""Accuracy of each layer of an encoder: a run of each, compared with the best, and the choice of one made honestly."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np

from .. import metrics
from ..atomic_io import make_durable_folder, write_text
from ..errors import RunError, SerfuseError, StoreError
from ..experiment import cross_validation, fitting
from ..experiment import threads as processors
from ..experiment.config import Config, configure
from ..experiment.dataset import Dataset, load_dataset, only_corpus, parse_input
from ..progress import Observer
from ..splits.nested import inner_folds
from ..store import EmbeddingKey, EmbeddingStore, StorePath
from . import execution, figures
from .compare import Comparison, RunScore, compare
from .run import Run

FILE, PICTURE = "layers.json", "layers.png"

_INNER_FOLDS = 3


@dataclass(frozen=True)
class LayerScore:
    """What a run of one layer found.

    Attributes:
        layer: number of the layer; 0 is the input of the first one.
        value: the pooled figure.
        low: lower end of its interval, `None` with one speaker only.
        high: upper end.
        behind: the best layer's figure minus this one's, on the same clips; 0 of the best.
        behind_low: lower end of the paired interval of that difference; `None` of the best.
        behind_high: upper end.
        p: of that difference, by the bootstrap over speakers.
        run: the run folder.
    """

    layer: int
    value: float
    low: float | None
    high: float | None
    behind: float
    behind_low: float | None
    behind_high: float | None
    p: float | None
    run: str


@dataclass(frozen=True)
class NestedChoice:
    """What somebody gets who chooses the layer inside each training part.

    Attributes:
        value: the pooled figure of the chosen layers' answers, each about clips that the choice did not see.
        layers: the layer that was chosen, for each fold.
    """

    value: float
    layers: tuple[int, ...]


@dataclass(frozen=True)
class LayerStudy:
    """Accuracy of each layer.

    Attributes:
        corpus: name.
        encoder: name.
        model: of each run.
        split: name.
        metric: what was counted.
        scores: one for each layer, in their order.
        nested: the choice inside the training parts, where it was asked for.
        warnings: what a reader of the figures must know first, as of the runs: synthetic speech, random weights ...
    """

    corpus: str
    encoder: str
    model: str
    split: str
    metric: str
    scores: tuple[LayerScore, ...]
    nested: NestedChoice | None = None
    warnings: tuple[str, ...] = ()

    @property
    def best(self) -> LayerScore:
        """The layer with the best figure, the first of equals."""
        sign = 1 if metrics.METRICS.get(self.metric).higher_is_better else -1
        return max(self.scores, key=lambda score: sign * score.value)

    def sentence(self) -> str:
        """What the figure of the best layer is worth."""
        figure = metrics.METRICS.get(self.metric)
        best = f"Layer {self.best.layer} was picked by its test figures, the best of {len(self.scores)}"
        if self.nested is None:
            return (
                f"{best}: its {figure.title} flatters. What a layer gives that is chosen without the test clips, "
                "--nested says."
            )
        chosen = ", ".join(map(str, sorted(set(self.nested.layers))))
        return (
            f"{best}, so its {figure.title} of {figure.shown(self.best.value)} may flatter: chosen inside each "
            f"training part (layers {chosen}), it is {figure.shown(self.nested.value)}."
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {**asdict(self), "best": self.best.layer, "sentence": self.sentence()}


def study(
    store: EmbeddingStore | StorePath | str,
    encoder: str,
    corpus: str | None = None,
    *,
    model: str = "svm",
    settings: Mapping[str, Any] | None = None,
    metric: str = "accuracy",
    nested: bool = False,
    out: Path | str | None = None,
    observer: Observer | None = None,
) -> LayerStudy:
    """Cross-validate each layer of an encoder that the store holds.

    Args:
        store: the store, or its folder.
        encoder: name; with selectors as for `data.a` where the store holds several kinds ("hubert@pooling=time").
        corpus: name in the store; may be left out when it holds one.
        model: of one representation.
        settings: of `configure`, such as `split`, `folds`, `seed`.
        metric: what is counted; it needs an interval.
        nested: also choose the layer anew inside each training part, on inner folds that keep apart what the split
            keeps apart. It trains three more models for each layer and fold.
        out: folder of the runs, by default `layers/CORPUS-ENCODER-MODEL-SPLIT`, numbered where that holds a study of
            other embeddings (another pooling, other weights) or settings; finished runs there are not run again.
        observer: hears of each layer.

    Raises:
        StoreError: the store holds fewer than two numbered layers, or clips are missing.
        ConfigError: a model of several representations.
        RunError: `out` holds a study of other embeddings or settings; a metric without an interval; training diverges.
        SplitError: the clips cannot be split as asked.
    """
    store, observer = EmbeddingStore.of(store), observer or Observer()
    corpus = corpus or only_corpus(store)
    name, selectors = parse_input(encoder)
    joint = store.find(corpus, name, **{"layer": "all", **selectors})
    if not joint.joint:
        raise StoreError(f"{encoder!r} names one layer; expected several. Leave out layer=, or give layer=0+6+9.")
    given = {key: value for key, value in (settings or {}).items() if value is not None}
    configs = {
        layer: configure(model, a=joint.of_layer(layer).folder, corpus=corpus, **given) for layer in joint.layers
    }
    first = next(iter(configs.values()))
    folder = Path(out) if out is not None else _free_folder(corpus, joint, first)
    if other := _another_study(folder, joint, first):
        raise RunError(
            f"{folder} holds the layers of another study: {other}. Choose another folder (--out), or remove that one."
        )
    make_durable_folder(folder)
    data = {layer: load_dataset(config, store) for layer, config in configs.items()}
    runs: dict[str, Run] = {}
    for layer in observer.each(list(configs), f"{joint.encoder}, each layer", "layer"):
        runs[layer] = _run(configs[layer], data[layer], folder)
    compared = compare(list(runs.values()), metric=metric, names=list(runs), against=[_best(runs, metric)])
    scores = tuple(_score(compared, found, runs[found.name]) for found in compared.runs)
    chosen = _nested(configs, data, runs, metric, observer) if nested else None
    warnings = tuple(dict.fromkeys(text for run in runs.values() for text in run.warnings()))
    result = LayerStudy(corpus, joint.encoder, model, first.split.name, metric, scores, chosen, warnings)
    write_text(folder / FILE, json.dumps(result.to_dict(), indent=1))
    figures.layer_scores(result, folder / PICTURE)
    return result


def _free_folder(corpus: str, key: EmbeddingKey, config: Config) -> Path:
    """The folder of a study: named for it, and numbered where that name is another one's."""
    encoder = "".join(one if one.isalnum() or one in "._-" else "-" for one in key.encoder)
    base = Path("layers") / f"{corpus}-{encoder}-{config.model}-{config.split.name}"
    numbered = (base.with_name(f"{base.name}-{number}") for number in count(2))
    return next(folder for folder in chain([base], numbered) if not _another_study(folder, key, config))


def _another_study(folder: Path, key: EmbeddingKey, config: Config) -> str:
    """How a study in the folder differs from one of `key` and `config`, in more than the layers, in words; else "".

    The runs say what it was made with, also those of earlier versions. A study whose runs are gone is nobody's.
    """
    try:
        scores = json.loads((folder / FILE).read_text("utf-8"))["scores"]
        names = [Path(score["run"]).name for score in scores]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    for name in names:
        try:
            run = Run.read(folder / name)
            theirs, settings = run.keys["a"].of_layer("all"), run.config
        except (SerfuseError, KeyError):
            continue
        if theirs != (ours := key.of_layer("all")):
            return f"of {theirs.encoder}, {theirs.settings()}, not of {ours.encoder}, {ours.settings()}"
        was, now = ({**one.model_dump(mode="json"), "data": one.data.corpus} for one in (settings, config))
        return "; ".join(f"with {part} {was[part]}, not {now[part]}" for part in was if was[part] != now[part])
    return ""


def _run(config: Config, dataset: Dataset, folder: Path) -> Run:
    """The run of one layer, made unless it is there."""
    mark = execution.fingerprint(config, dataset, [processors.threads(fitting.library(config))])
    out = folder / f"layer-{dataset.keys['a'].layer}-{mark[:12]}"
    if not (out / "metrics.json").exists():
        execution.execute(config, dataset, out, pictures=False, keep_models=False)
    return Run.read(out)


def _score(compared: Comparison, found: RunScore, run: Run) -> LayerScore:
    """A layer beside the best one, on the same clips."""
    pair = next((one for one in compared.pairs_of(compared.best) if found.name in (one.a, one.b)), None)
    if pair is None or found.name == compared.best:
        behind, low, high, p = 0.0, None, None, None
    else:
        sign = 1 if pair.a == compared.best else -1
        behind, p = sign * pair.difference, pair.p
        low, high = (pair.low, pair.high) if sign > 0 else (_negative(pair.high), _negative(pair.low))
    return LayerScore(
        layer=int(found.name),
        value=found.value,
        low=found.low,
        high=found.high,
        behind=behind,
        behind_low=low,
        behind_high=high,
        p=p,
        run=str(run.folder),
    )


def _negative(value: float | None) -> float | None:
    return None if value is None else -value


def _best(runs: Mapping[str, Run], metric: str) -> str:
    sign = 1 if metrics.METRICS.get(metric).higher_is_better else -1
    return max(runs, key=lambda layer: sign * runs[layer].metrics["pooled"][metric])


def _nested(
    configs: Mapping[str, Config],
    data: Mapping[str, Dataset],
    runs: Mapping[str, Run],
    metric: str,
    observer: Observer,
) -> NestedChoice:
    """Choose the layer on folds inside each training part, and count what the chosen one said of the test clips."""
    import pandas as pd

    layers, figure = list(configs), metrics.METRICS.get(metric)
    first = configs[layers[0]]
    parts = cross_validation.plan(first, data[layers[0]])
    classes = data[layers[0]].classes
    chosen: list[str] = []
    tables = []
    for fold in observer.each(parts, "choosing inside the training parts", "fold"):
        values = [_inner_value(configs[layer], data[layer], fold, figure) for layer in layers]
        chosen.append(layers[int(np.argmax(values))])
        table = runs[chosen[-1]].predictions
        tables.append(table[(table["fold"] == fold.index) & (table["repeat"] == fold.repeat)])
    said = pd.concat(tables, ignore_index=True)
    return NestedChoice(_value(figure, said, classes), tuple(int(layer) for layer in chosen))


def _inner_value(config: Config, dataset: Dataset, fold: cross_validation.Fold, figure: metrics.Metric) -> float:
    """The figure of the clips of a training part, each predicted by a model that did not learn from it.

    The larger, the better.
    """
    learned, watched = cross_validation.learned_from(config, fold)
    training, validation = dataset.part(learned, fold.apart), dataset.part(watched, fold.apart)
    count, seed = len(dataset.classes), cross_validation.fold_seed(config, fold)
    held = np.zeros((len(training), count))
    predicted = np.zeros(len(training), dtype="int64")
    for rows, out in inner_folds(training.labels, training.groups, _INNER_FOLDS, seed):
        fitted = fitting.fit(config, training.take(rows), validation, count, seed)
        part = training.take(out)
        held[out], predicted[out] = fitted.probabilities(part.arrays), fitted.predict(part.arrays)
    names = np.asarray(dataset.classes)
    tested = metrics.tested_on(names[training.labels], names[predicted], held, tuple(dataset.classes))
    found = metrics.quick_value(figure, tested)
    return (found if figure.higher_is_better else -found) if np.isfinite(found) else -np.inf


def _value(figure: metrics.Metric, table: Any, classes: Sequence[str]) -> float:
    probabilities = metrics.probability_columns(table, classes)
    tested = metrics.tested_on(table["label"], table["predicted"], probabilities, list(classes))
    return metrics.quick_value(figure, tested)
