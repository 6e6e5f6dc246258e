"""`serfuse extract`: compute embeddings of a corpus once and keep them in the store."""

import gc
import json
import logging
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .progress import Progress, duration
from .signals import terminated_like_interrupted
from .streams import printable

if TYPE_CHECKING:
    from serfuse.corpora.base import Corpus
    from serfuse.encoders.base import LoadRequest
    from serfuse.extraction.extract import ExtractReport
    from serfuse.store import AudioFacts, EmbeddingStore

PAPER_PAD = "5.0"
"""`--pad` under `--pool paper`: the papers' clips last 5.000 s, which gives the sizes they print."""

_SHOWN_FAILURES = 20
_log = logging.getLogger(__name__)


@click.command()
@click.option("--corpus", required=True, metavar="NAME", help="emodb, cremad, mesd, table or synthetic.")
@click.option("--data", type=click.Path(path_type=Path), help="Folder of the corpus, or the table's file.")
@click.option("--name", help="Name in the store; for a table by default the file's name.")
@click.option("--encoder", "encoders", multiple=True, required=True, metavar="NAME", help="May be repeated.")
@click.option("--pool", type=click.Choice(["time", "paper", "mean-std"]), default="time", show_default=True)
@click.option("--pad", metavar="none|max|SECONDS", help="Clip length before encoding. [none; 5.0 with --pool paper]")
@click.option("--layer", "layers", multiple=True, metavar="[ENC=]last|K", help="Layer of a transformer. [last]")
@click.option("--weights", multiple=True, metavar="[ENC=]PATH|random", help="Local weights; default: cache or hub.")
@click.option("--option", "options", multiple=True, metavar="[ENC:]KEY=VALUE", help="For example layout=freq.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of --weights random.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1 ...")
@click.option("--dtype", default="float32", show_default=True, help="float32, float16 or bfloat16.")
@click.option("--batch-seconds", type=click.FloatRange(min=0, min_open=True), help="Audio per batch. [30; GPU 240]")
@click.option("--store", type=click.Path(path_type=Path), help="Embedding store [$SERFUSE_STORE or serfuse-store].")
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
    store: Path | None,
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

    What the store already holds is not computed again; a changed file or setting computes just what changed. Ctrl-C
    loses nothing: the same command goes on. Clips that cannot be used are listed with the reason, and the exit code
    is 1 then, unless --skip-bad.
    """
    from serfuse.audio.padding import PadPolicy
    from serfuse.store import EmbeddingStore

    requests = load_requests(
        list(dict.fromkeys(encoders)),
        weights=weights,
        layers=layers,
        options=options,
        seed=seed,
        device=device,
        dtype=dtype,
    )
    policy = PadPolicy.parse(pad or (PAPER_PAD if pool == "paper" else "none"))
    target = EmbeddingStore(store)
    out = _Output(as_json, quiet or as_json)
    run = _Run(target, pool, policy, skip_bad, batch_seconds, limit, out)
    with terminated_like_interrupted() as run.check:
        try:
            run.prepare(corpus, data, name)
            for encoder, request in requests.items():
                run.encode(encoder, request)
        except KeyboardInterrupt as error:
            run.interrupted(getattr(error, "report", None))
    out.finish(run)
    ctx.exit(run.exit_code)


class _Run:
    """One call of the command: the corpus, then one encoder after the other."""

    def __init__(
        self,
        store: "EmbeddingStore",
        pool: str,
        pad: Any,
        skip_bad: bool,
        batch_seconds: float | None,
        limit: int | None,
        out: "_Output",
    ) -> None:
        self.store, self.pool, self.pad, self.skip_bad = store, pool, pad, skip_bad
        self.batch_seconds, self.limit, self.out = batch_seconds, limit, out
        self.summary: dict[str, Any] = {}
        self.encoders: list[dict[str, Any]] = []
        self.exit_code = 0
        self.stopped = False
        self.check: Callable[[], None] = lambda: None

    def prepare(self, reader: str, data: Path | None, name: str | None) -> None:
        """Read the corpus, look at its files, and give its clips to the store."""
        from serfuse.corpora.subset import spread
        from serfuse.extraction import survey

        whole = read_corpus(reader, data, name, quiet=self.out.quiet)
        self.store.check_writable(whole.name)
        corpus = spread(whole, self.limit) if self.limit else whole
        complete = len(corpus.clips) == len(whole.clips)
        # "max" means the longest clip of the whole corpus, also when only some of it is computed.
        looked_at = whole if self.pad.kind == "max" else corpus
        with Progress(f"{whole.name}: looking at the files", unit="file", quiet=self.out.quiet) as progress:
            facts = survey.survey(looked_at, self.store, progress.callback)
        self.pad = survey.resolve_pad(self.pad, facts)
        source = {"corpus": reader, "data": str(data.absolute())} if data else {"corpus": reader}
        if whole.name != reader:
            source["name"] = whole.name
        self.store.write_corpus(corpus, facts, complete=complete, source=source)
        self.corpus, self.facts = corpus, facts
        self.summary = summarize(corpus, facts, of=len(whole.clips))
        self.out.corpus(self.summary)

    def encode(self, name: str, request: "LoadRequest") -> None:
        """Load one encoder and extract. What is wrong with it does not concern the others.

        Raises:
            StoreError: a full disk or a damaged store, which the next encoder would meet too.
        """
        from serfuse.errors import SerfuseError, StoreError

        try:
            report = self._extract(name, request)
        except StoreError:
            raise
        except SerfuseError as error:
            self._broken(name, str(error))
        except Exception as error:  # whatever a library raises, the other encoders can still run
            _log.debug("encoder %s", name, exc_info=True)
            self._broken(name, f"{type(error).__name__}: {error}")
        else:
            self.encoders.append(report.to_dict())
            if report.failed and (not self.skip_bad or not (report.done or report.reused)):
                self.exit_code = 1
            self.out.report(report)
        _free_memory()

    def _extract(self, name: str, request: "LoadRequest") -> "ExtractReport":
        from serfuse import encoders
        from serfuse.extraction import extract

        self.out.loading(name, request)
        encoder = encoders.load(name, request)
        with Progress(name, quiet=self.out.quiet) as progress:

            def on_batch(*state: Any) -> None:
                progress.callback(*state)
                self.check()

            return extract.extract(
                self.corpus,
                encoder,
                self.store,
                pooling=self.pool,
                pad=self.pad,
                facts=self.facts,
                skip_bad=self.skip_bad,
                batch_seconds=self.batch_seconds,
                progress=on_batch,
            )

    def interrupted(self, report: "ExtractReport | None") -> None:
        """Note Ctrl-C."""
        self.stopped = True
        self.exit_code = 130
        if report is not None:
            self.encoders.append(report.to_dict())
        stored = f" {report.done} more clips of {report.encoder} are stored." if report else ""
        self.out.warn(f"Interrupted.{stored} Nothing is lost: run the same command again to go on.")

    def _broken(self, name: str, reason: str) -> None:
        self.exit_code = 1
        self.encoders.append({"encoder": name, "error": reason})
        self.out.warn(f"{name}: not extracted. {reason}")


class _Output:
    """What the command says, as text or as JSON."""

    def __init__(self, as_json: bool, quiet: bool) -> None:
        self.as_json, self.quiet = as_json, quiet

    def corpus(self, summary: dict[str, Any]) -> None:
        if self.as_json:
            return
        for line in describe_corpus(summary):
            click.echo(printable(line))

    def loading(self, name: str, request: "LoadRequest") -> None:
        """A large model takes a while before its first clip, and may have to be downloaded."""
        from serfuse.encoders import preset

        if not self.quiet and preset(name).needs_weights:
            drawn = request.weights == "random"
            click.echo(f"{name}: {'drawing random weights' if drawn else 'loading the weights'} ...", err=True)

    def report(self, report: "ExtractReport") -> None:
        if self.as_json:
            return
        speed = f" ({report.done / report.seconds:.3g} clips/s)" if report.done and report.seconds else ""
        line = (
            f"{report.encoder}: {report.done} computed{f' in {duration(report.seconds)}{speed}' if report.done else ''}"
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
        if report.failed and not report.skip_bad:
            click.echo("  Mend or remove these clips and run the command again, or leave them out with --skip-bad.")

    def warn(self, text: str) -> None:
        click.echo(printable(text), err=True)

    def finish(self, run: _Run) -> None:
        if self.as_json:
            content = {
                "corpus": run.summary,
                "store": str(run.store.root),
                "pad": run.pad.name if run.pad.resolved else str(run.pad),
                "pooling": run.pool,
                "encoders": run.encoders,
                "interrupted": run.stopped,
            }
            click.echo(json.dumps(content, ensure_ascii=False, indent=2))
        elif not run.stopped:
            click.echo(f"Store: {run.store.root}")


def read_corpus(reader: str, data: Path | None, name: str | None = None, *, quiet: bool = False) -> "Corpus":
    """The corpus that `--corpus`, `--data` and `--name` mean. A synthetic one that is not there yet is generated.

    Raises:
        UnknownNameError: no such corpus.
        CorpusError: the folder or file does not hold it.
    """
    from dataclasses import replace

    from serfuse import corpora

    read = corpora.get(reader)
    if data is None:
        raise click.UsageError(f"Add --data: the folder{' or file' if reader == 'table' else ''} of {reader}.")
    if reader == "synthetic" and not (data / "corpus.json").exists():
        from serfuse.corpora import synthetic

        with Progress(f"generating synthetic speech in {data}", quiet=quiet) as progress:
            synthetic.generate(data, progress=progress.callback)
    if reader == "table" and name:
        return read(data, name=name)
    corpus = read(data)
    return replace(corpus, name=name) if name else corpus


def summarize(corpus: "Corpus", facts: "dict[str, AudioFacts]", *, of: int | None = None) -> dict[str, Any]:
    """Counts of a corpus, as JSON values."""
    speakers = {clip.speaker for clip in corpus.clips if clip.speaker is not None}
    texts = {clip.text for clip in corpus.clips if clip.text is not None}
    lengths = [facts[clip.id].seconds for clip in corpus.clips if facts[clip.id].seconds > 0]
    return {
        "name": corpus.name,
        "clips": len(corpus.clips),
        "of": of or len(corpus.clips),
        "speakers": len(speakers),
        "speaker_kind": corpus.speaker_kind,
        "texts": len(texts),
        "emotions": dict(sorted(Counter(clip.emotion for clip in corpus.clips).items())),
        "seconds": round(sum(lengths), 3),
        "longest": round(max(lengths, default=0.0), 3),
        "synthetic": corpus.synthetic,
        "warnings": list(corpus.warnings),
    }


def describe_corpus(summary: dict[str, Any]) -> list[str]:
    """`summarize` in plain words."""
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
    that have layers, an option to those that have it.

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
    layered = [name for name, data in presets.items() if data.layers] or list(encoders)
    for value in common:
        for name in layered:
            chosen[name]["layer"] = value
    for name, value in own:
        chosen[name]["layer"] = value

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
        head, found, rest = value.partition(mark)
        if found and head in encoders:
            own.append((head, rest))
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


def _free_memory() -> None:
    """Give a large model's memory back before the next one is loaded."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
