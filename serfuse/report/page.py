"""The report as one self-contained HTML page: no script, no network, readable on a phone and in print."""

from collections.abc import Mapping
from importlib import resources
from typing import Any

from .. import __version__
from ..audio import quality
from ..errors import RunError, StoreError
from ..progress import Observer
from ..runs import compare
from ..store import EmbeddingStore
from . import alt_texts, charts, fold_tables, mistakes, tables
from . import sentences as words
from .runs import ReportedRun


def render(
    runs: list[ReportedRun],
    *,
    title: str | None = None,
    store: EmbeddingStore | None = None,
    observer: Observer | None = None,
) -> str:
    """The page.

    Args:
        runs: from `runs.read`.
        title: heading; by default made from the corpora.
        store: where the clips' audio files are looked up, for the players; `None` for a page without sound.
        observer: hears of each run that is drawn.
    """
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, finalize=_unbroken
    )
    template = environment.from_string((resources.files(__package__) / "page.html").read_text("utf-8"))
    sections = []
    for number, run in enumerate((observer or Observer()).each(runs, "drawing", "run"), start=1):
        figures = [
            (
                "Confusion matrix",
                "Rows: the true emotion, in per cent; small print: clips",
                alt_texts.confusion(run),
                charts.confusion(run),
            ),
            (
                f"{_capital(run.shown)}, by emotion",
                "t-SNE of the test clips of one fold",
                alt_texts.tsne(run),
                charts.tsne(run, "label"),
            ),
            (
                f"{_capital(run.shown)}, by {run.speaker_kind}",
                alt_texts.tsne_by_speaker(run),
                alt_texts.tsne_by_speaker(run),
                charts.tsne(run, "speaker"),
            ),
            (
                "Learning curves",
                "Thin: each fold; bold: the median of the folds still training",
                alt_texts.curves(run),
                charts.curves(run),
            ),
            (
                "Weights of the layers",
                "What each layer weighs in the sum that the network takes of them",
                alt_texts.layers(run),
                charts.layers(run),
            ),
            (
                f"Accuracy per {run.speaker_kind}",
                "Dashed: accuracy over all clips",
                alt_texts.speakers(run),
                charts.speakers(run),
            ),
        ]
        sections.append(
            {
                "run": run,
                "id": f"run{number}",
                "warnings": run.warnings(),
                "sensitivity": run.contributions() + run.layer_weights(),
                "figures": [
                    (head, caption, text, Markup(charts.apart(drawn, f"r{number}f{place}-")))
                    for place, (head, caption, text, drawn) in enumerate(figures)
                    if drawn
                ],
                "figure_titles": [metric.title for metric in fold_tables.figures(run)],
                "units": fold_tables.units(run),
                "summary": fold_tables.summary(run),
                "fold_heads": fold_tables.heads(run),
                "folds": fold_tables.rows(run),
                "mistakes": mistakes.worst(run, store, sound_bytes=mistakes.SOUND_BYTES // len(runs)),
                "settings": _settings(run),
                "classes": _per_class(run),
            }
        )
    corpora = list(dict.fromkeys(run.corpus for run in runs))
    return template.render(
        title=title or f"Speech emotion recognition on {', '.join(corpora)}",
        heads=tables.HEADS,
        rows=list(zip(tables.rows(runs), [section["id"] for section in sections], strict=True)),
        overview=Markup(charts.apart(charts.intervals(runs), "all-")),
        overview_text=alt_texts.intervals(runs),
        printed_note=words.printed_note(runs),
        data=words.data(runs) + _store_changes(runs, store) + _odd_recordings(runs, store),
        gaps=words.gaps(runs),
        comparisons=_comparisons(runs),
        units=" or ".join(sorted({f"{run.metrics['interval']['unit']}s" for run in runs})),
        sections=sections,
        version=__version__,
        notes=sorted({run.metrics["interval"]["note"] for run in runs}),
    )


def _capital(text: str) -> str:
    """With its first letter large."""
    return text[:1].upper() + text[1:]


def _unbroken(value: Any) -> Any:
    """A number and its per cent sign stay on one line."""
    return value.replace(" %", "\u00a0%") if type(value) is str else value


def _comparisons(runs: list[ReportedRun]) -> list[str]:
    """Paired verdicts among the runs that share clips and folds."""
    sentences: list[str] = []
    groups: dict[tuple[Any, ...], list[ReportedRun]] = {}
    for run in runs:
        split = run.description.split
        key = (run.corpus, split.name, split.folds, split.repeats, run.description.seed)
        groups.setdefault(key, []).append(run)
    for key, group in groups.items():
        if len(group) < 2:
            continue
        names = [f"{run.title} ({run.inputs})" for run in group]
        if len(set(names)) < len(names):
            names = [run.name for run in group]
        paired = [0]
        for place in range(1, len(group)):
            try:
                compare.compare([group[0], group[place]], names=[names[0], names[place]], draws=2)
            except RunError as error:
                sentences.append(f"Split {key[1]}: {names[place]} cannot be compared with {names[0]}. {error}")
            else:
                paired.append(place)
        if len(paired) > 1:
            found = compare.compare([group[n] for n in paired], names=[names[n] for n in paired])
            sentences += [f"Split {key[1]}: {sentence}" for sentence in found.sentences()]
    return sentences


def _settings(run: ReportedRun) -> list[tuple[str, str]]:
    told = run.description
    pairs = [("corpus", f"{run.corpus}, {told.corpus.clips} clips, {told.corpus.speakers} {run.speaker_kind}s")]
    for side, key in told.embeddings.items():
        pairs.append(
            (
                f"input {side}",
                f"{key.encoder}, weights {key.weights[:26]}, layer {key.layer}, pooling {key.pooling}, pad {key.pad}",
            )
        )
    split = {name: value for name, value in told.split.model_dump(exclude_unset=True).items() if value is not None}
    pairs.append(("split", _listed(split)))
    pairs.append(("options", _listed(told.options)))
    if not run.history.empty:
        pairs.append(("training", _listed(told.training)))
    pairs.append(("seed", str(told.seed)))
    pairs += [("chosen", sentence) for sentence in run.choices()]
    pairs += [
        ("fused from", f"{one.run}: {one.model} on {' + '.join(one.inputs)}, seed {one.seed}") for one in told.made_of
    ]
    if run.metrics.get("parameters"):
        pairs.append(("trainable parameters", f"{run.metrics['parameters']:,}"))
    pairs.append(("time", run.seconds()))
    pairs.append(("backend", told.backend))
    if told.trainer:
        pairs.append(("trainer", told.trainer))
    pairs.append(("versions", _listed(told.versions)))
    return pairs


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _store_changes(runs: list[ReportedRun], store: EmbeddingStore | None) -> list[str]:
    """Where the store, whose recordings a page plays, no longer holds what a run was made with."""
    found = []
    for run in runs:
        now = mistakes.stored(run, store)
        changes = [] if now is None else run.changes_of_clips(now)
        if changes:
            found.append(
                f"The data have changed since {run.name} was made: in the store {'; '.join(changes)}. Recordings that "
                "changed are not played."
            )
    return found


def _odd_recordings(runs: list[ReportedRun], store: EmbeddingStore | None) -> list[str]:
    """How many recordings of each corpus are odd, and in what, as far as the store knows."""
    found = []
    for corpus in dict.fromkeys(run.corpus for run in runs) if store is not None else ():
        try:
            known, clips = store.remarked(corpus), store.clips(corpus)
        except StoreError:  # another store than the runs were made with
            continue
        heard = [known[audio].remarks for audio in clips["audio"].astype(str) if audio in known]
        counts = quality.counts([[quality.Remark(kind, text) for kind, text in remarks] for remarks in heard])
        if counts:
            kinds = ", ".join(f"{quality.KINDS[kind]} {count}" for kind, count in counts.items())
            found.append(
                f"{len(heard)} of {len(clips)} recordings of {corpus} are odd: {kinds}. `serfuse extract` names them."
            )
    return found


def _per_class(run: ReportedRun) -> list[list[str]]:
    pooled, bounds = run.metrics["pooled"]["per_class"], run.metrics["intervals"].get("per_class", {})
    return [
        [
            name,
            str(figures["support"]),
            words.percent(figures["recall"]),
            words.interval(bounds.get(name, {})),
            words.percent(figures["precision"]),
            words.percent(figures["f1"]),
        ]
        for name, figures in pooled.items()
    ]
