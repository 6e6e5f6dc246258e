"""`serfuse store`: look into the embedding store, mend it, and take embeddings in and out."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .progress import Progress
from .store_place import STORE

if TYPE_CHECKING:
    from serfuse.store import EmbeddingKey, EmbeddingStore
    from serfuse.store.verification import Verification

_PATIENCE = 2.0


@click.group()
def command() -> None:
    """Look into the embedding store, mend it, and take embeddings in and out.

    \b
    serfuse store info                        what is there, by file format and number of parts
    serfuse store verify                      read every check sum
    serfuse store repair                      set damaged files aside, and name the clips to extract again
    serfuse store compact [CORPUS]            bring the rows of each kind into one part
    serfuse store convert [CORPUS]            write files of older formats anew
    serfuse store export CORPUS KIND OUT      one Parquet file, one .npz, or a Hugging Face dataset folder
    serfuse store import FILE --corpus ...    embeddings that were made elsewhere
    serfuse store diff CORPUS KIND KIND       why two kinds of embeddings differ
    serfuse store gc [--remove]               what nothing current uses
    serfuse store remove CORPUS KIND [--yes]  all embeddings of one kind

    A KIND is an encoder's name where there is just one of it (also `hubert@layer=6`), or the full name that `info`
    shows.
    """


def _options(function: Callable[..., Any]) -> Callable[..., Any]:
    place = click.option("--store", "root", type=STORE, help="Embedding store [$SERFUSE_STORE or serfuse-store].")
    as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else.")
    return place(as_json(function))


def _open(root: str | Path | None) -> "EmbeddingStore":
    from serfuse.errors import StoreError
    from serfuse.store import EmbeddingStore

    store = EmbeddingStore(root)
    if not store.root.is_dir():
        raise StoreError(
            f"There is no store in {store.root}. Name it with --store (a folder, or an address such as "
            "s3://BUCKET/PREFIX), or the variable SERFUSE_STORE."
        )
    return store


def _key(store: "EmbeddingStore", corpus: str, kind: str) -> "EmbeddingKey":
    from serfuse.experiment.dataset import parse_input

    encoder, selectors = parse_input(kind)
    return store.find(corpus, encoder, **selectors)


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, ensure_ascii=False, indent=2))


@command.command(short_help="Show what the store holds.")
@click.argument("corpus", required=False)
@_options
def info(corpus: str | None, root: str | Path | None, as_json: bool) -> None:
    """Show what the store holds: kinds of embeddings, rows, parts, formats, bytes."""
    from serfuse.store import maintenance

    found = maintenance.info(_open(root), corpus)
    if as_json:
        _print_json(found)
        return
    for item in found["corpora"]:
        click.echo(f"{item['name']}: {item['clips']} clips")
        for kind in item["embeddings"]:
            if not kind["rows"]:
                click.echo(f"  {kind['name']}: 0 rows; extract it again")
                continue
            formats = ", ".join(map(str, kind["formats"]))
            click.echo(
                f"  {kind['name']}: {kind['clips']} clips, {kind['rows']} rows of {kind['vector_size']} values in "
                f"{kind['parts']} part{'s' if kind['parts'] != 1 else ''}, {_size(kind['bytes'])}, format {formats}"
            )
    if not found["corpora"]:
        click.echo(f"The store {found['store']} is empty.")


@command.command(short_help="Compare every byte with the check sums.")
@_options
def verify(root: str | Path | None, as_json: bool) -> None:
    """Read every byte of the store and compare it with the check sums. Exit code 1 when something is damaged."""
    from serfuse.store import verification

    store = _open(root)
    with Progress(quiet=as_json, patience=_PATIENCE) as progress:
        found = verification.verify(store, progress)
    _show(found, as_json)
    if found.findings:
        if not as_json:
            words = ["serfuse", "store", "repair", "--store", str(store.root)]
            click.echo(f"Set what is damaged aside with: {shlex.join(words)}")
        raise click.exceptions.Exit(1)


@command.command(short_help="Set damaged files aside, and name the clips to extract again.")
@_options
def repair(root: str | Path | None, as_json: bool) -> None:
    """Set damaged files aside, keep the rows that are whole, and name the clips to extract again."""
    from serfuse.store import verification

    with Progress(quiet=as_json, patience=_PATIENCE) as progress:
        found = verification.repair(_open(root), progress)
    _show(found, as_json)
    if as_json:
        return
    for extract, clips in found.lacking.items():
        if clips:
            named = ", ".join(clips[:5]) + (" ..." if len(clips) > 5 else "")
            click.echo(f"{len(clips)} clips have no row now ({named}). Extract them again with:\n  {extract}")
        else:
            click.echo(f"Bring what is missing back with:\n  {extract}")


@command.command(short_help="Bring the rows of each kind into one part.")
@click.argument("corpus", required=False)
@_options
def compact(corpus: str | None, root: str | Path | None, as_json: bool) -> None:
    """Bring the rows of each kind into one part, sorted by clip."""
    store = _open(root)
    done = []
    with Progress(quiet=as_json, patience=_PATIENCE) as progress:
        for name in [corpus] if corpus else store.corpora():
            for key in store.keys(name):
                store.compact(name, key, progress)
                done.append({"corpus": name, "name": key.folder})
    if as_json:
        _print_json(done)
    else:
        click.echo(f"{len(done)} kinds of embeddings have one part each.")


@command.command(short_help="Write files of older formats anew.")
@click.argument("corpus", required=False)
@_options
def convert(corpus: str | None, root: str | Path | None, as_json: bool) -> None:
    """Write files of older formats anew in the present one."""
    from serfuse.store import maintenance

    store = _open(root)
    with Progress(quiet=as_json, patience=_PATIENCE) as progress:
        done = {name: maintenance.convert(store, name, progress) for name in ([corpus] if corpus else store.corpora())}
    if as_json:
        _print_json(done)
        return
    for name, written in done.items():
        click.echo(
            f"{name}: {', '.join(written) + ' written anew' if written else 'everything is of the present format'}"
        )


@command.command(short_help="Write labels and embeddings to one file or folder.")
@click.argument("corpus")
@click.argument("kind")
@click.argument("out", type=click.Path(path_type=Path))
@_options
def export(corpus: str, kind: str, out: Path, root: str | Path | None, as_json: bool) -> None:
    """Write labels and embeddings to OUT: NAME.parquet, NAME.npz, or a folder for Hugging Face datasets."""
    from serfuse.store import exchange

    store = _open(root)
    key = _key(store, corpus, kind)
    with Progress(quiet=as_json, patience=_PATIENCE) as progress:
        count = exchange.export(store, corpus, key, out, observer=progress)
    if as_json:
        _print_json({"clips": count, "name": key.folder, "out": str(out)})
    else:
        click.echo(f"{count} clips with {key.folder} are in {out}")


@command.command("import", short_help="Take embeddings that were made elsewhere.")
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@click.option("--corpus", required=True, help="The corpus whose clips they are of, as the store knows it.")
@click.option("--name", required=True, help="What they are called from now on, for example xlsr-mine.")
@click.option(
    "--ids", type=click.Path(exists=True, path_type=Path), help="For an .npy: a file with the id of each row."
)
@click.option("--pool", "pooling", help="How frames became a vector, as far as you know.")
@click.option("--layer", help="Which layer they are of.")
@click.option("--rate", "sample_rate", type=int, help="Hz at which the model heard the audio.")
@click.option("--note", "notes", multiple=True, metavar="NAME=TEXT", help="Anything else about their making.")
@_options
def import_(
    source: Path,
    corpus: str,
    name: str,
    ids: Path | None,
    pooling: str | None,
    layer: str | None,
    sample_rate: int | None,
    notes: tuple[str, ...],
    root: str | Path | None,
    as_json: bool,
) -> None:
    """Take embeddings made elsewhere from SOURCE: .npz, .npy with --ids, .parquet, or a Hugging Face dataset folder.

    Ids are compared with the clips of the corpus, and the key says that they were imported, with a hash of all numbers.
    """
    from serfuse.store import exchange

    if strange := [note for note in notes if "=" not in note]:
        raise click.UsageError(f"--note {strange[0]!r}: expected NAME=TEXT.")
    made: dict[str, Any] = {"pooling": pooling, "layer": layer, "sample_rate": sample_rate}
    made = {field: value for field, value in made.items() if value is not None}
    if notes:
        made["options"] = dict(note.split("=", 1) for note in notes)
    with Progress(quiet=as_json, patience=_PATIENCE) as progress:
        key, count, lacking = exchange.import_embeddings(
            _open(root), corpus, source, name, ids=ids, made=made, observer=progress
        )
    if as_json:
        _print_json({"name": key.folder, "key": key.to_dict(), "clips": count, "lacking": lacking})
        return
    click.echo(f"{count} clips of {corpus} have embeddings now: {key.folder}")
    if lacking:
        named = ", ".join(lacking[:5]) + (" ..." if len(lacking) > 5 else "")
        click.echo(f"{len(lacking)} clips have none ({named}); `serfuse cv` needs them for every clip.")


@command.command(short_help="Say why two kinds of embeddings differ.")
@click.argument("corpus")
@click.argument("one")
@click.argument("other")
@_options
def diff(corpus: str, one: str, other: str, root: str | Path | None, as_json: bool) -> None:
    """Say why two kinds of embeddings differ, and how much."""
    from serfuse.store import maintenance

    store = _open(root)
    found = maintenance.difference(store, corpus, _key(store, corpus, one), _key(store, corpus, other))
    if as_json:
        _print_json(found)
        return
    click.echo(f"{found['names'][0]} and {found['names'][1]}")
    for title, fields in (("", found["fields"]), (" (not part of the key)", found["made_with"])):
        for name, (first, second) in fields.items():
            click.echo(f"  {name}{title}: {_text(first)} and {_text(second)}")
    if not found["fields"]:
        click.echo("  They are the same kind.")
    sizes, clips = found["vector_size"], found["clips"]
    click.echo(f"  values: {sizes[0]} and {sizes[1]}")
    click.echo(f"  clips: {clips[2]} in both, {clips[0]} only in the first, {clips[1]} only in the second")
    if found["relative_difference"] is not None:
        click.echo(f"  vectors of a clip differ by {found['relative_difference']:.2%} of their length (median)")


@command.command(short_help="List what nothing current uses, and remove it with --remove.")
@click.option("--remove", is_flag=True, help="Remove what is listed. Without it nothing is changed.")
@click.option("--damaged", is_flag=True, help="Also damaged parts of embeddings that clips lack now.")
@_options
def gc(remove: bool, damaged: bool, root: str | Path | None, as_json: bool) -> None:
    """List what nothing current uses: outdated kinds, rows of clips that left, leftovers; and remove it on request."""
    from serfuse.store import maintenance

    every = maintenance.unused(_open(root))
    found = [item for item in every if damaged or not item.held]
    kept = [item for item in every if item not in found]
    with Progress(quiet=as_json, patience=_PATIENCE) as progress:
        if remove:
            for item in progress.each(found, "removing", "item"):
                item.remove()
    if as_json:
        told = {"unused": [item.to_dict() for item in found], "kept": [item.to_dict() for item in kept]}
        _print_json({"removed": remove, **told})
        return
    for item in kept:
        click.echo(f"{item.path}: {item.reason} ({_size(item.bytes)}); kept unless --damaged asks for it")
    for item in found:
        what = f"{item.rows} rows in {item.path}" if item.rows else str(item.path)
        click.echo(f"{what}: {item.reason} ({_size(item.bytes)})")
    total = _size(sum(item.bytes for item in found))
    if not found:
        click.echo("Nothing else is unused." if kept else "Everything in the store is in use.")
    elif remove:
        click.echo(f"Removed: {total}.")
    else:
        click.echo(f"{total} could be freed with --remove. Nothing was changed.")


@command.command(short_help="Say what one kind of embeddings takes, and remove it with --yes.")
@click.argument("corpus")
@click.argument("kind")
@click.option("--yes", is_flag=True, help="Remove it. Without it nothing is changed.")
@_options
def remove(corpus: str, kind: str, yes: bool, root: str | Path | None, as_json: bool) -> None:
    """Say what the embeddings of one kind take, and remove all of them on request, whether they are in use or not.

    The labels and the other kinds of the corpus stay. While a process extracts into the corpus nothing is removed.
    """
    from serfuse.experiment.dataset import parse_input
    from serfuse.store import removal

    store = _open(root)
    encoder, selectors = parse_input(kind)
    found = removal.find(store, corpus, encoder, **selectors)
    if yes:
        found = removal.remove(store, found)
    if as_json:
        _print_json({"removed": yes, **found.to_dict()})
        return
    parts = f"{found.parts} part{'s' if found.parts != 1 else ''}"
    click.echo(f"{found.name} of {found.corpus}: {found.rows} rows in {parts}, {_size(found.bytes)}")
    click.echo("Removed." if yes else "Remove it with --yes. Nothing was changed.")


def _show(found: "Verification", as_json: bool) -> None:
    if as_json:
        _print_json(found.to_dict())
        return
    for item in found.findings:
        click.echo(f"{item.path}: {item.reason}" + (f" ({item.done})" if item.done else ""))
    count = f"{found.files} files, {_size(found.bytes)}"
    damaged = f"{len(found.findings)} damaged" if found.findings else "all as they were written"
    click.echo(f"{count}: {damaged}.")
    if found.unsealed:
        click.echo(
            f"{len(found.unsealed)} files are of the first format, whose check sums do not cover every byte. "
            "`serfuse store convert` writes them anew."
        )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _size(count: int) -> str:
    for unit, size in (("GB", 1 << 30), ("MB", 1 << 20), ("kB", 1 << 10)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"
