"""`serfuse extract`: compute embeddings of a corpus once and keep them in the store."""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .progress import Progress, duration
from .store_place import STORE
from .streams import printable

if TYPE_CHECKING:
    from serfuse.audio.padding import PadPolicy
    from serfuse.encoders.base import LoadRequest
    from serfuse.extraction.extract import Extraction, ExtractReport
    from serfuse.store import EmbeddingStore

PAPER_PAD = "5.0"
"""`--pad` under `--pool paper`: the papers' clips last 5.000 s, which gives the sizes they print."""

_SHOWN_FAILURES = 20


@click.command()
@click.option("--corpus", required=True, metavar="NAME", help="emodb, cremad, mesd, table or synthetic.")
@click.option("--data", type=click.Path(path_type=Path), help="Folder of the corpus, or the table's file.")
@click.option("--name", help="Name in the store; for a table by default the file's name.")
@click.option("--encoder", "encoders", multiple=True, required=True, metavar="NAME", help="May be repeated.")
@click.option(
    "--pool", default="time", show_default=True, metavar="POOLING", help="time, paper, mean-std; several by commas."
)
@click.option("--pad", metavar="none|max|SECONDS", help="Clip length before encoding. [none; 5.0 with --pool paper]")
@click.option("--layer", "layers", multiple=True, metavar="[ENC=]last|K,...|all", help="Layers, of one forward. [last]")
@click.option("--weights", multiple=True, metavar="[ENC=]PATH|random", help="Local weights; default: cache or hub.")
@click.option("--option", "options", multiple=True, metavar="[ENC:]KEY=VALUE", help="For example layout=freq.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of --weights random.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1 ...")
@click.option("--dtype", default="float32", show_default=True, help="float32, float16 or bfloat16.")
@click.option("--batch-seconds", type=click.FloatRange(min=0, min_open=True), help="Audio per batch. [30; GPU 240]")
@click.option(
    "--jobs", type=click.IntRange(min=1), help="Processes; GPUs are shared out. [1; ray: one per GPU or node]"
)
@click.option(
    "--engine", type=click.Choice(["process", "ray"]), default="process", show_default=True, help="What does the work."
)
@click.option("--address", help="Of a Ray cluster: auto, HOST:PORT, ray://HOST:PORT. [one is started here]")
@click.option("--shard", metavar="I/N", help="Only the I-th of N parts, as for a job array.")
@click.option("--flush-seconds", type=click.FloatRange(min=0), default=10.0, show_default=True, help="Between writes.")
@click.option("--store", type=STORE, help="Embedding store [$SERFUSE_STORE or serfuse-store].")
@click.option("--limit", type=click.IntRange(min=1), help="Only this many clips, spread over emotions and speakers.")
@click.option("--skip-bad", is_flag=True, help="Record unusable clips as skipped and exit with 0.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON report and nothing else.")
@click.option("--quiet", is_flag=True, help="No progress.")
@click.pass_context
def command(
    ctx: click.Context,
    corpus: str,
    data: Path | None,
    name: str | None,
    encoders: tuple[str, ...],
    pool: str,
    pad: str | None,
    layers: tuple[str, ...],
    weights: tuple[str, ...],
    options: tuple[str, ...],
    seed: int,
    device: str,
    dtype: str,
    batch_seconds: float | None,
    jobs: int | None,
    engine: str,
    address: str | None,
    shard: str | None,
    flush_seconds: float,
    store: str | Path | None,
    limit: int | None,
    skip_bad: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Compute embeddings of a corpus once and keep them in the store.

    \b
    serfuse extract --corpus emodb --data DIR --encoder hubert --encoder soundstream-lyra
    serfuse extract --corpus table --data clips.csv --name mine --encoder prosody --pool mean-std
    serfuse extract --corpus cremad --data DIR --encoder encodec --pool paper
    serfuse extract --corpus emodb --data DIR --encoder hubert --layer all --pool time,mean-std

    Encoders that fit into memory together get each file decoded once. Several of these commands on one store, and the
    processes of --jobs, share the work.

    What the store already holds is not computed again; a changed file or setting computes just what changed. Ctrl-C
    loses nothing: the same command goes on. Clips that cannot be used are listed with the reason, and the exit code
    is 1 then, unless --skip-bad.
    """
    from serfuse.audio.padding import PadPolicy
    from serfuse.corpora import get, read
    from serfuse.encoders import canonical
    from serfuse.extraction.extract import Extraction, split_poolings
    from serfuse.extraction.shard import Shard
    from serfuse.store import EmbeddingStore

    get(corpus)  # a wrong name is the first thing to say
    if data is None:
        raise click.UsageError(f"Add --data: the folder{' or file' if corpus == 'table' else ''} of {corpus}.")
    asked = list(dict.fromkeys(encoders))
    for encoder, _, settings in (one.partition("@") for one in asked if not one.startswith("hf:")):
        if settings:
            raise click.UsageError(
                f"--encoder {encoder}@{settings}: that is how `serfuse cv` chooses among embeddings that are stored. "
                f"Here give --encoder {encoder} and --layer, --pool, --pad, --weights or --option."
            )
    requests = load_requests(
        asked, weights=weights, layers=layers, options=options, seed=seed, device=device, dtype=dtype
    )
    layered = {canonical(encoder) for encoder in asked if several_layers(requests[encoder])}
    poolings = split_poolings(pool)
    if "paper" in poolings and len(poolings) > 1 and pad is None:
        raise click.UsageError(
            f"--pool {pool}: clips are padded to {PAPER_PAD} s under 'paper' and not at all under the others, and one "
            "forward has one length. Add --pad, or extract them one after the other."
        )
    policy = PadPolicy.parse(pad or (PAPER_PAD if poolings == ("paper",) else "none"))
    part = Shard.parse(shard) if shard else None
    out = _Output(as_json, EmbeddingStore(store), pool, policy)
    if address is not None and engine != "ray":
        raise click.UsageError("--address is of a Ray cluster: add --engine ray.")
    try:
        with Progress(quiet=quiet or as_json) as progress, ExitStack() as held:
            make, where = Extraction, {"jobs": jobs or 1}
            if engine == "ray":
                from serfuse.extraction.ray_engine import RayExtraction

                make, where = RayExtraction, {"jobs": jobs, "address": address}
            extraction = make(
                read(corpus, data, name=name, observer=progress),
                out.store,
                pooling=poolings,
                pad=policy,
                limit=limit,
                skip_bad=skip_bad,
                batch_seconds=batch_seconds,
                shard=part,
                flush_seconds=flush_seconds,
                observer=progress,
                **where,
            )
            if engine == "ray":
                held.enter_context(extraction)
            out.prepared(extraction)
            for report in extraction.each(requests):
                out.report(report, several=len(poolings) > 1 or report.encoder in layered)
    except KeyboardInterrupt as error:
        out.interrupted(getattr(error, "reports", []))
    out.finish()
    ctx.exit(out.exit_code)


class _Output:
    """What the command says, as text or as JSON."""

    def __init__(self, as_json: bool, store: "EmbeddingStore", pool: str, pad: "PadPolicy") -> None:
        self.as_json, self.store, self.pool, self.pad = as_json, store, pool, pad
        self.summary: dict[str, Any] = {}
        self.encoders: list[dict[str, Any]] = []
        self.exit_code = 0
        self.stopped = False
        self._remarked = False

    def prepared(self, extraction: "Extraction") -> None:
        self.summary, self.pad = extraction.summary, extraction.pad
        if not self.as_json:
            for line in describe_corpus(self.summary):
                click.echo(printable(line))

    def report(self, report: "ExtractReport", *, several: bool = False) -> None:
        """Take a report; `several` when its encoder has one for each of several keys."""
        self.encoders.append(report.to_dict())
        if not report.complete:
            self.exit_code = 1
        if report.error:
            click.echo(printable(f"{report.encoder}: not extracted. {report.error}"), err=True)
        elif not self.as_json:
            self._show(report, several)

    def _show(self, report: "ExtractReport", several: bool) -> None:
        speed = f" ({report.done / report.seconds:.3g} clips/s)" if report.done and report.seconds else ""
        line = (
            f"{_called(report) if several else report.encoder}: {report.done} computed"
            f"{f' in {duration(report.seconds)}{speed}' if report.done else ''}"
            f", {report.reused} taken from the store, {len(report.failed)} "
            f"{'skipped' if report.skip_bad else 'failed'}"
        )
        if report.vector_size:
            line += f"; {report.vector_size} values per clip"
        click.echo(f"{line}. Kept as {report.key.folder}")
        if report.key.random:
            click.echo(f"  RANDOM WEIGHTS ({report.key.weights}): never trained, for benchmarks only")
        for clip, reason in report.failed[:_SHOWN_FAILURES]:
            click.echo(printable(f"  {reason}" if reason.startswith(f"{clip}:") else f"  {clip}: {reason}"))
        if len(report.failed) > _SHOWN_FAILURES:
            click.echo(f"  ... and {len(report.failed) - _SHOWN_FAILURES} more (--json lists all)")
        if report.remarks and not self._remarked:
            from serfuse.extraction import hearing

            self._remarked = True  # the same for every encoder
            click.echo(f"  {len(report.remarks)} clips that are used are odd:")
            for line in hearing.table(report.remarks):
                click.echo(printable(f"  {line}"))
        if report.failed and not report.skip_bad:
            click.echo("  Mend or remove these clips and run the command again, or leave them out with --skip-bad.")

    def interrupted(self, reports: "Sequence[ExtractReport]") -> None:
        """Note Ctrl-C."""
        self.stopped = True
        self.exit_code = 130
        self.encoders += [report.to_dict() for report in reports]
        stored = "".join(
            f" {report.done} more clips of {report.encoder} are stored." for report in _first_of_each(reports)
        )
        click.echo(f"Interrupted.{stored} Nothing is lost: run the same command again to go on.", err=True)

    def finish(self) -> None:
        if self.as_json:
            content = {
                "corpus": self.summary,
                "store": str(self.store.root),
                "pad": self.pad.name if self.pad.resolved else str(self.pad),
                "pooling": self.pool,
                "encoders": self.encoders,
                "interrupted": self.stopped,
            }
            click.echo(json.dumps(content, ensure_ascii=False, indent=2))
        elif not self.stopped:
            click.echo(f"Store: {self.store.root}")


def _called(report: "ExtractReport") -> str:
    """An encoder with the layer and pooling of one of its keys."""
    return f"{report.encoder}, layer {report.key.layer}, {report.key.pooling}"


def _first_of_each(reports: "Sequence[ExtractReport]") -> "list[ExtractReport]":
    """Of each encoder the report that tells of the most clips."""
    found: dict[str, Any] = {}
    for report in reports:
        if report.encoder not in found or report.done > found[report.encoder].done:
            found[report.encoder] = report
    return list(found.values())


def several_layers(request: "LoadRequest") -> bool:
    """Whether several layers are asked of an encoder."""
    from serfuse.extraction.computing import ALL_LAYERS, split_layers

    layers = split_layers(request.layer)
    return len(layers) > 1 or layers == [ALL_LAYERS]


def describe_corpus(summary: dict[str, Any]) -> list[str]:
    """The summary of an `Extraction` in plain words."""
    part = f" of {summary['of']}" if summary["of"] != summary["clips"] else ""
    kind = summary["speaker_kind"]
    speakers = f"{summary['speakers']} {kind}s" if summary["speakers"] else f"{kind}s unknown"
    emotions = ", ".join(f"{name} {count}" for name, count in summary["emotions"].items())
    lines = [
        f"{summary['name']}: {summary['clips']}{part} clips, {speakers}, {len(summary['emotions'])} emotions "
        f"({emotions}), {duration(summary['seconds'])} of audio, longest clip {summary['longest']:.3f} s"
    ]
    if summary["synthetic"]:
        lines.append("  The speech is synthetic: it shows that the software works, nothing about emotion.")
    lines += [f"  Warning: {text}" for text in summary["warnings"]]
    return lines


def load_requests(
    encoders: Sequence[str],
    *,
    weights: Sequence[str] = (),
    layers: Sequence[str] = (),
    options: Sequence[str] = (),
    seed: int = 0,
    device: str = "auto",
    dtype: str = "float32",
) -> "dict[str, LoadRequest]":
    """What to ask of each encoder.

    A value without `ENC=` goes to every encoder it can concern: weights to those that need some, a layer to those
    that have layers, an option to those that have it. Layers may be repeated and parted by commas: all are meant.

    Raises:
        UnknownNameError: no such encoder.
        click.UsageError: a value names an encoder that was not asked for, or concerns none, or, being a path of
            weights, could be for several.
    """
    from serfuse.encoders import preset
    from serfuse.encoders.base import LoadRequest

    presets = {name: preset(name) for name in encoders}
    chosen: dict[str, dict[str, Any]] = {name: {"options": {}} for name in encoders}

    own, common = _scoped("--weights", weights, "=", encoders)
    needy = [name for name, data in presets.items() if data.needs_weights] or list(encoders)
    for value in common:
        if value != "random" and len(needy) > 1:
            raise click.UsageError(
                f"--weights {value}: say for which encoder, for example --weights {needy[0]}={value}. "
                f"Those that need weights: {', '.join(needy)}."
            )
        for name in needy:
            chosen[name]["weights"] = value
    for name, value in own:
        chosen[name]["weights"] = value

    own, common = _scoped("--layer", layers, "=", encoders)
    layered = [name for name, data in presets.items() if data.layers or not data.vector_size] or list(encoders)
    for name in layered if common else ():
        chosen[name]["layer"] = ",".join(common)
    for name in dict.fromkeys(name for name, _ in own):
        chosen[name]["layer"] = ",".join(value for other, value in own if other == name)

    own, common = _scoped("--option", options, ":", encoders)
    for value in common:
        key = _assignment(value)[0]
        having = [name for name, data in presets.items() if key in data.options]
        if not having:
            there = sorted({f"{name}:{option}" for name, data in presets.items() for option in data.options})
            raise click.UsageError(
                f"--option {value}: none of the encoders has an option {key!r}. There are: "
                f"{', '.join(there) or 'none'}."
            )
        own = [(name, value) for name in having] + own
    for name, value in own:
        key, setting = _assignment(value)
        chosen[name]["options"][key] = setting

    return {name: LoadRequest(**fields, seed=seed, device=device, dtype=dtype) for name, fields in chosen.items()}


def _scoped(
    flag: str, values: Sequence[str], mark: str, encoders: Sequence[str]
) -> tuple[list[tuple[str, str]], list[str]]:
    """Split `ENC=value` from values for all."""
    from serfuse.encoders import names

    own, common = [], []
    for value in values:
        head, found, _ = value.partition(mark)
        # A name such as hf:microsoft/wavlm-base-plus holds the mark itself.
        if meant := [name for name in encoders if value.startswith(name + mark)]:
            longest = max(meant, key=len)
            own.append((longest, value.removeprefix(longest + mark)))
        elif found and head in names():
            raise click.UsageError(f"{flag} {value}: {head} is not among the encoders: {', '.join(encoders)}.")
        else:
            common.append(value)
    return own, common


def _assignment(text: str) -> tuple[str, Any]:
    key, found, value = text.partition("=")
    if not found or not key:
        raise click.UsageError(f"--option {text}: expected KEY=VALUE, for example layout=freq.")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value
