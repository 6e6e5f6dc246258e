"""`serfuse list`: what can be used, and what the store holds."""

import json
import re
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from serfuse.registry import OWN

from .store_place import STORE

if TYPE_CHECKING:
    from serfuse.registry import Registry

_LICENCE = 19  # letters of a licence that a line of 80 has room for


@click.command()
@click.argument("what", type=click.Choice(["encoders", "corpora", "models", "splits", "metrics", "store"]))
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--store", type=STORE, help="Embedding store [$SERFUSE_STORE or serfuse-store].")
@click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else.")
def command(what: str, names: tuple[str, ...], store: str | Path | None, as_json: bool) -> None:
    """Show encoders, corpora, models, splits, metrics, or what the store holds.

    \b
    serfuse list encoders     a line for each: size of the vector, sampling rate, kind, parameters, whether the weights
                              are here, licence; with NAMES all of it: what each was trained on, whether it has seen
                              emotion labels, where to get the weights, what to cite
    serfuse list corpora      what can be read, and how much of it was published
    serfuse list models       classifiers and fusions for `serfuse cv`
    serfuse list splits       how `serfuse cv --split` divides the clips, and what each keeps apart
    serfuse list metrics      figures of merit, their unit and direction
    serfuse list store        corpora and embeddings that were extracted

    With NAMES only those. What other packages add is listed by name; it is imported, and shown whole, when it is named.
    """
    if what == "store":
        if names:
            raise click.UsageError("`serfuse list store` takes no names.")
        rows: Any = held(store)
    else:
        rows = {"encoders": encoders, "corpora": corpora, "models": models, "splits": splits, "metrics": metrics}[what](
            names
        )
        for problem in _table_of(what).problems():
            click.echo(f"Remark: {problem}", err=True)
    if as_json:
        click.echo(json.dumps(rows, ensure_ascii=False, indent=2))
        return
    show = {
        "encoders": _show_encoders if names else _show_every_encoder,
        "corpora": _show_corpora,
        "models": _show_models,
        "splits": _show_splits,
        "metrics": _show_metrics,
        "store": _show_store,
    }[what]
    if what == "store":
        show(rows)
        return
    if whole := [row for row in rows if len(row) > 2]:
        show(whole)
    foreign = [row for row in rows if row["package"] != OWN]
    if foreign:
        _print("", *(f"{row['name']}: from {row['package']}" for row in foreign))
    if named := [row["name"] for row in rows if len(row) == 2]:
        _print(f"More about one of them: serfuse list {what} {named[0]}")


def _table_of(what: str) -> "Registry[Any]":
    from serfuse import corpora, encoders, metrics, models, splits

    return {
        "encoders": encoders.ENCODERS,
        "corpora": corpora.CORPORA,
        "models": models.MODELS,
        "splits": splits.SPLITS,
        "metrics": metrics.METRICS,
    }[what]


def _rows(what: str, names: Sequence[str], row: Callable[[str], dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each name, with the package it comes from; nothing else where that would import another package."""
    table = _table_of(what)
    found = []
    for name in names or table.names():
        whole = name in names or name in table.own_names()
        found.append({**(row(name) if whole else {"name": name}), "package": table.origin(name)})
    return found


def encoders(names: Sequence[str] = ()) -> list[dict[str, Any]]:
    """One row per encoder; see `serfuse.encoders.table_row`."""
    from serfuse import encoders

    return _rows("encoders", names, encoders.table_row)


def corpora(names: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Name, what it is, and the published numbers of clips, speakers and emotions where there are any."""
    from serfuse import corpora

    def row(name: str) -> dict[str, Any]:
        module = sys.modules.get(corpora.get(name).__module__)
        published = getattr(module, "PUBLISHED", None)
        return {
            "name": name,
            "what": (getattr(module, "__doc__", None) or name).strip().splitlines()[0],
            "clips": getattr(published, "clips", None),
            "speakers": getattr(published, "speakers", None),
            "emotions": getattr(published, "emotions", None),
        }

    return _rows("corpora", names, row)


def models(names: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Name, how few and how many representations it takes, and what it is."""
    from serfuse import models

    def row(name: str) -> dict[str, Any]:
        model = models.get(name)
        return {"name": name, "inputs": model.inputs, "max_inputs": model.most_inputs, "what": model.summary}

    return _rows("models", names, row)


def splits(names: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Name, what it is, the columns it needs of every clip, and those it keeps apart (`None`: depends on the folds)."""
    from serfuse import splits

    def row(name: str) -> dict[str, Any]:
        method = splits.get(name)
        return {
            "name": name,
            "what": method.summary,
            "needs": list(method.needs),
            "apart": None if method.apart is None else list(method.apart),
        }

    return _rows("splits", names, row)


def metrics(names: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Name, what it is called, what it needs, its unit, and whether more is better."""
    from serfuse.metrics import METRICS

    def row(name: str) -> dict[str, Any]:
        metric = METRICS.get(name)
        return {
            "name": name,
            "what": metric.title,
            "needs": metric.needs,
            "unit": metric.unit,
            "higher_is_better": metric.higher_is_better,
            "interval": metric.interval,
        }

    return _rows("metrics", names, row)


def held(root: str | Path | None) -> dict[str, Any]:
    """Every corpus of the store with its embeddings.

    Raises:
        StoreError: the store is damaged.
    """
    from serfuse.store import EmbeddingStore

    store = EmbeddingStore(root)
    return {"store": str(store.root), "corpora": [_corpus(store, name) for name in store.corpora()]}


def _corpus(store: Any, name: str) -> dict[str, Any]:
    info = store.corpus_info(name)
    clips = store.clips(name)
    audio = dict(zip(clips["id"], clips["audio"], strict=True))
    rows = []
    for key in store.keys(name):
        size, occupied = store.size(name, key)
        present = store.present(name, key)
        rows.append(
            {
                "name": key.folder,
                "clips": sum(audio.get(clip) == content for clip, content in present.items()),
                "skipped": len(store.skipped(name, key)),
                "vector_size": size,
                "bytes": occupied,
                "random_weights": key.random,
                "current": key.current,
                "key": key.to_dict(),
                "description": key.settings(),
            }
        )
    return {
        "name": name,
        "clips": len(clips),
        "speakers": int(clips["speaker"].nunique()),
        "speaker_kind": info["speaker_kind"],
        "emotions": int(clips["emotion"].nunique()),
        "synthetic": info["synthetic"],
        "warnings": info["warnings"],
        "embeddings": rows,
    }


def _table(columns: dict[str, str], title: str | None = None) -> Any:
    """A rich table; columns by their justification."""
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for number, (column, justify) in enumerate(columns.items()):
        # The first one holds what is copied into the next command.
        table.add_column(column, justify=justify, overflow="fold", no_wrap=number == 0)
    return table


def _print(*items: Any) -> None:
    from rich.console import Console

    # A pipe has no width of its own, and a table cut to 80 columns would be hard to search.
    console = Console(highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else 160)
    for item in items:
        console.print(item, soft_wrap=isinstance(item, str))


def _show_every_encoder(rows: list[dict[str, Any]]) -> None:
    """A line for each, which fits into a terminal of 80 columns."""
    left, right = "left", "right"
    table = _table(
        {
            "encoder": left,
            "values": right,
            "kHz": right,
            "kind": left,
            "params": right,
            "weights": left,
            "licence": left,
        }
    )
    for row in rows:
        licence = re.split(r" \(|; ", row["licence"])[0]
        table.add_row(
            row["name"],
            "" if row["time"] is None else str(row["time"]),
            f"{row['sample_rate'] / 1000:.0f}",
            row["family"],
            _millions(row["parameters"]),
            _weights(row),
            textwrap.shorten(licence if licence == row["licence"] else f"{licence} …", _LICENCE, placeholder=" …"),
        )
    notes = [
        "",
        "values: length of a vector under --pool time; weights: here, absent, or none needed",
        "Any other checkpoint of a known architecture: hf:OWNER/NAME of the hub, or hf:./FOLDER",
    ]
    if labelled := [row["name"] for row in rows if row["emotion_labels"]]:
        notes.append(f"Trained on emotion labels, so that figures on the same corpora leak: {', '.join(labelled)}")
    example = labelled[0] if labelled else rows[0]["name"]
    notes.append(f"All about one, its corpora, whole licence and citation included: serfuse list encoders {example}")
    _print(table, *notes)


def _weights(row: dict[str, Any]) -> str:
    """Whether the weights of an encoder are here, in a word."""
    return "none" if row["where"] == "needs none" else "here" if row["weights_here"] else "absent"


def _show_encoders(rows: list[dict[str, Any]]) -> None:
    """Two tables, because twelve columns are not readable on a terminal of 80."""
    left, right = "left", "right"
    sizes = _table(
        {
            "encoder": left,
            "family": left,
            "time": right,
            "paper": right,
            "mean-std": right,
            "kHz": right,
            "rate": right,
            "params": right,
            "weights": left,
        }
    )
    terms = _table({"encoder": left, "parameters": right, "(papers)": right, "MB": right, "licence": left})
    for row in rows:
        sizes.add_row(
            row["name"],
            row["family"],
            *("" if row[name] is None else str(row[name]) for name in ("time", "paper", "mean-std")),
            f"{row['sample_rate'] / 1000:.0f}",
            "" if row["frame_rate"] is None else f"{row['frame_rate']:.3g}",
            _millions(row["parameters"]),
            _weights(row),
        )
        terms.add_row(
            row["name"],
            "" if row["parameters"] is None else f"{row['parameters']:,}",
            row["paper_parameters"] or "",
            "" if row["megabytes"] is None else f"{row['megabytes']:,}",
            row["licence"],
        )
    notes = [
        "",
        "time, paper, mean-std: length of a vector under each --pool (paper: of 5.000 s clips)",
        "rate: frames per second; weights: here, absent, or none needed; MB: of the published files",
        "Any other checkpoint of a known architecture: hf:OWNER/NAME of the hub, or hf:./FOLDER",
        "",
    ]
    places = [""]
    citations = ["", *(f"{row['name']}: {row['citation']}" for row in rows if row["citation"])]
    for row in rows:
        if row["where"] != "needs none":
            places.append(f"{row['name']}: {'weights in ' if row['weights_here'] else ''}{row['where']}")
    trained = ["", *(f"{row['name']}: trained on {row['trained_on']}" for row in rows if row["trained_on"])]
    for row in rows:
        if row["emotion_labels"]:
            seen = " and ".join(row["emotion_labels"])
            trained.append(f"{row['name']}: HAS SEEN EMOTION LABELS of {seen}: tested on them, its figures leak")
        if row["corpora_seen"]:
            trained.append(f"{row['name']}: has heard {' and '.join(row['corpora_seen'])}, without emotion labels")
    _print(sizes, *notes, terms, *places, *trained, *citations)


def _millions(count: int | None) -> str:
    if count is None:
        return ""
    return f"{count / 1e6:.1f} M" if count < 1e9 else f"{count / 1e9:.2f} B"


def _show_corpora(rows: list[dict[str, Any]]) -> None:
    table = _table({"corpus": "left", "clips": "right", "speakers": "right", "emotions": "right", "what": "left"})
    for row in rows:
        counts = ("" if row[name] is None else f"{row[name]:,}" for name in ("clips", "speakers", "emotions"))
        table.add_row(row["name"], *counts, row["what"])
    _print(table)


def _show_models(rows: list[dict[str, Any]]) -> None:
    table = _table({"model": "left", "use with": "left", "inputs": "left", "what": "left"})
    for row in rows:
        least, most = row["inputs"], row["max_inputs"]
        flags = [flag for flag, fits in (("--head", least == 1), ("--fusion", most > 1)) if fits]
        table.add_row(row["name"], ", ".join(flags), str(least) if least == most else f"{least} to {most}", row["what"])
    _print(table)


def _show_splits(rows: list[dict[str, Any]]) -> None:
    table = _table({"split": "left", "needs": "left", "what": "left"})
    for row in rows:
        table.add_row(row["name"], ", ".join(row["needs"]) or "-", row["what"])
    _print(table)


def _show_metrics(rows: list[dict[str, Any]]) -> None:
    table = _table({"metric": "left", "what": "left", "of": "left", "unit": "left", "better": "left"})
    for row in rows:
        unit = "per cent" if row["unit"] == "percent" else "plain"
        table.add_row(row["name"], row["what"], row["needs"], unit, "higher" if row["higher_is_better"] else "lower")
    _print(table)


def _show_store(content: dict[str, Any]) -> None:
    if not content["corpora"]:
        _print(
            f"The store {content['store']} is empty. Fill it with: serfuse extract --corpus NAME --data DIR "
            "--encoder NAME"
        )
        return
    _print(f"Store: {content['store']}")
    for corpus in content["corpora"]:
        table = _table({"embeddings": "left", "clips": "right", "values": "right", "MB": "right", "made with": "left"})
        for row in corpus["embeddings"]:
            clips = f"{row['clips']} of {corpus['clips']}"
            if row["skipped"]:
                clips += f" ({row['skipped']} skipped)"
            table.add_row(row["name"], clips, str(row["vector_size"]), f"{row['bytes'] / 1e6:.1f}", row["description"])
        kind = corpus["speaker_kind"]
        _print(
            "",
            f"{corpus['name']}: {corpus['clips']} clips, {corpus['speakers']} {kind}s, {corpus['emotions']} emotions"
            + (" (synthetic speech)" if corpus["synthetic"] else ""),
            *(f"  Warning: {text}" for text in corpus["warnings"]),
            table if corpus["embeddings"] else "  no embeddings yet",
        )
