"""The tables of docs/fusion.md: what fusion gains on the real Emo-DB, with representations that anybody can have.

    serfuse weights get ge2e speech-embedding
    python benchmarks/fusion.py run --data EMODB/wav --lyra LYRA --out runs/fusion      some hours on two cores
    python benchmarks/fusion.py write --out runs/fusion                                 the tables in docs/fusion.md

`run` goes on where it was stopped: a finished run folder is never run again. Every row of a table is one `serfuse cv`
command; `commands` prints them. Run folders hold tables only, no networks and no pictures. A part of them may be made
elsewhere, from a store that is there, and be written from both places:

    KERAS_BACKEND=jax python benchmarks/fusion.py run --store STORE --out papers --only papers --jobs 8
    python benchmarks/fusion.py write --out runs/fusion --out papers

`--only` takes the beginning of a table's name (`papers`, `pair-random`), or a pattern of run folders (`parrot-*-3`).
"""

import os
import subprocess
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path

import click
from emodb import DOCS, metrics, percent, replace, run_all

SETS = {
    "pair": ("ge2e", "speech-embedding"),
    "three": ("ge2e", "speech-embedding", "prosody"),
    "four": ("ge2e", "speech-embedding", "prosody", "soundstream-lyra"),
}
# Three seeds under leave one speaker out, whose folds are fixed; random folds are drawn once, for the papers' networks
# three times.
SPLITS = {
    "loso": "--split loso --repeats 3",
    "loso, one seed": "--split loso",
    "random": "--split random",
    "random, three times": "--split random --repeats 3",
}
# The papers' families are trained with what gets them furthest in so few steps: docs/results.md has their own settings.
STOP = "--set training.patience=5"
RATE = f"--set training.learning_rate=5e-4 {STOP}"
LITERAL = "--set options.points=batch --set options.map=literal"

BASELINE = "SVM on concatenation"

# row -> arguments of `serfuse cv`, without the representations
FUSIONS = {
    "SVM on concatenation": "--fusion svm",
    "concat": f"--fusion concat {RATE}",
    "hyfuse, literal kappa = 1": f"--fusion hyfuse {RATE} --set options.kappa=1",
    "hyfuse": f"--fusion hyfuse {RATE}",
    "hyfuse-symmetric": f"--fusion hyfuse-symmetric {RATE}",
    "parrot, literal": f"--fusion parrot {STOP} {LITERAL}",
    "parrot": f"--fusion parrot {STOP}",
    "late": "--fusion late",
    "stacked": "--fusion stacked",
    "kernel": "--fusion kernel",
    "experts": "--fusion experts",
    "experts, hyperbolic": "--fusion experts --set options.operator=hyperbolic",
    "experts, transport": "--fusion experts --set options.operator=transport",
}
# The papers' networks take most of the time.
PAPERS = ("concat", "hyfuse, literal kappa = 1", "hyfuse", "hyfuse-symmetric", "parrot, literal", "parrot")
TRANSPORT = "experts, transport"  # a minute a fold: one seed, to be compared with one of `experts`
SEPARATE = tuple(row for row in FUSIONS if row not in (*PAPERS, TRANSPORT))
FEW = tuple(row for row in SEPARATE if not row.startswith("experts, "))
# table -> (set of representations, split, rows)
TABLES = {
    "pair-loso": ("pair", "loso", SEPARATE),
    "three-loso": ("three", "loso", FEW),
    "four-loso": ("four", "loso", FEW),
    "pair-random": ("pair", "random", SEPARATE),
    "three-random": ("three", "random", FEW),
    "four-random": ("four", "random", FEW),
    "papers-pair-loso": ("pair", "loso", (BASELINE, *PAPERS, "late", "experts")),
    "papers-three-loso": ("three", "loso", (BASELINE, *PAPERS, "late", "experts")),
    "papers-pair-random": ("pair", "random, three times", (BASELINE, *PAPERS, "late", "experts")),
    "papers-three-random": ("three", "random, three times", (BASELINE, *PAPERS, "late", "experts")),
    "operators-loso": ("pair", "loso, one seed", (BASELINE, "experts", "experts, hyperbolic", TRANSPORT)),
}
# Tables that stand in the page as far as they have been run: the heading of each.
PARTS = {
    "papers-pair-loso": "The papers' networks, two representations, leave one speaker out, three seeds",
    "papers-three-loso": "The papers' networks, three representations, leave one speaker out, three seeds",
    "papers-pair-random": "The papers' networks, two representations, random folds drawn three times",
    "papers-three-random": "The papers' networks, three representations, random folds drawn three times",
    "operators-loso": "The papers' operators inside experts, leave one speaker out, one seed",
}


def rows(table: str) -> dict[str, str]:
    """Rows of one table: name -> arguments of `serfuse cv`, the single representations first."""
    chosen, split, fusions = TABLES[table]
    encoders = SETS[chosen]
    sides = " ".join(f"--{side} {encoder}" for side, encoder in zip("abcd", encoders, strict=False))
    found = {f"SVM, {encoder}": f"--head svm --a {encoder}" for encoder in encoders}
    found |= {row: f"{FUSIONS[row]} {sides}" for row in fusions}
    return {row: f"{arguments} {SPLITS[split]}" for row, arguments in found.items()}


def folder(arguments: str) -> str:
    """Run folder of a row, the same in every table that has it."""
    words = [word.rpartition("=")[2] if "=" in word else word for word in arguments.split() if not word.startswith("-")]
    return "-".join(words).replace(".", "")


def commands() -> dict[str, str]:
    """Every run: folder name -> arguments, the quick ones first."""
    found = {folder(arguments): arguments for table in TABLES for arguments in rows(table).values()}
    slow = ("hyfuse", "parrot", "concat-", "experts-transport")
    return dict(sorted(found.items(), key=lambda item: (item[0].startswith(slow), "random" in item[0])))


def chosen(only: Sequence[str]) -> dict[str, str]:
    """The runs of tables whose names begin so, and those whose folders fit a pattern; all where nothing is said.

    Raises:
        click.BadParameter: a word that is neither.
    """
    known, wanted = commands(), set()
    for word in only:
        found = {folder(one) for name in TABLES if name.startswith(word) for one in rows(name).values()}
        found |= {name for name in known if fnmatch(name, word)}
        if not found:
            raise click.BadParameter(f"{word!r} is the beginning of no table, and no pattern of a run folder.")
        wanted |= found
    return {name: arguments for name, arguments in known.items() if name in wanted or not only}


@click.group()
def main() -> None:
    """Measure what fusion gains on the real Emo-DB."""


ONLY = click.option("--only", multiple=True, help="Beginning of a table's name, or a pattern of run folders.")


@main.command("commands")
@ONLY
def show(only: tuple[str, ...]) -> None:
    """Print every command."""
    for name, arguments in chosen(only).items():
        click.echo(f"serfuse cv {arguments} --out {name}")


@main.command()
@click.option("--data", type=click.Path(exists=True, path_type=Path), help="Emo-DB's wav folder.")
@click.option("--lyra", type=click.Path(exists=True, path_type=Path), help="Weights of Lyra v2.")
@click.option("--store", type=click.Path(path_type=Path), help="A store that holds all of it; instead of --data.")
@click.option("--out", default="runs/fusion", type=click.Path(path_type=Path), show_default=True)
@click.option("--jobs", default=2, show_default=True, help="Processes, of one thread each.")
@ONLY
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="A further setting of every network.")
def run(
    data: Path | None,
    lyra: Path | None,
    store: Path | None,
    out: Path,
    jobs: int,
    only: tuple[str, ...],
    settings: tuple[str, ...],
) -> None:
    """Extract, and run what is not there yet."""
    if (data is None or lyra is None) and store is None:
        raise click.UsageError("Give --data and --lyra to extract from, or a --store that holds all of it.")
    wanted = chosen(only)
    out.mkdir(parents=True, exist_ok=True)
    if store is None:
        store = out / "store"
        extract = ["serfuse", "extract", "--corpus", "emodb", "--data", str(data), "--pool", "mean-std"]
        plain = [word for name in ("prosody", "ge2e", "speech-embedding") for word in ("--encoder", name)]
        subprocess.run([*extract, *plain, "--store", str(store)], check=True)
        lyra_words = ["--encoder", "soundstream-lyra", "--weights", str(lyra), "--store", str(store)]
        subprocess.run([*extract, *lyra_words], check=True)

    # Several processes share one accelerator: none may take all of its memory.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    further = "".join(f" --set {setting}" for setting in settings)
    wanted = {name: arguments + (further if is_network(arguments) else "") for name, arguments in wanted.items()}
    run_all(wanted, store, out, jobs, ("--no-models", "--no-pictures", "--quiet"))


def is_network(arguments: str) -> bool:
    """Whether the model of a `serfuse cv` command is a network."""
    return any(f" {name} " in f"{arguments} " for name in ("concat", "hyfuse", "hyfuse-symmetric", "parrot", "experts"))


@main.command()
@click.option(
    "--out",
    "places",
    default=["runs/fusion"],
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    show_default=True,
    help="Folder of runs; several are looked through in this order.",
)
def write(places: tuple[Path, ...]) -> None:
    """Write the tables into docs/fusion.md."""
    found = {name: finished(places, name) for name in TABLES}
    tables = {name: table(folders) for name, folders in found.items() if name not in PARTS}
    parts = []
    for name, heading in PARTS.items():
        # What such a table is about; SVMs, late fusion and experts stand in other tables too.
        if found[name].keys() & {*PAPERS, TRANSPORT}:
            parts.append(f"### {heading}\n\n{table(found[name])}")
        if missing := rows(name).keys() - found[name].keys():
            click.echo(f"{name}: not run yet: {', '.join(sorted(missing))}")
    if parts:
        tables["papers"] = "\n\n".join(parts)
    replace(DOCS / "fusion.md", tables)


def finished(places: Sequence[Path], name: str) -> dict[str, Path]:
    """The run folder of each row of a table, as far as it is in one of these places."""
    found = {}
    for row, arguments in rows(name).items():
        folders = (place / folder(arguments) for place in places)
        if path := next((path for path in folders if (path / "metrics.json").exists()), None):
            found[row] = path
    return found


def table(folders: Mapping[str, Path]) -> str:
    """One line per row: figures, and paired differences from the best single and from concatenation."""
    from serfuse.runs.compare import compare

    found = {row: metrics(path) for row, path in folders.items()}
    singles = [row for row in folders if row.startswith("SVM, ")]
    best = max(singles, key=lambda row: found[row]["pooled"]["accuracy"])
    compared = compare(list(folders.values()), names=list(folders), against=[best, BASELINE])
    pairs = {frozenset((pair.a, pair.b)): pair for pair in compared.pairs}
    lines = [
        f"| model | accuracy | 95 % | UAR | against {best} | against {BASELINE} |",
        "|---|---|---|---|---|---|",
    ]
    for row in folders:
        ends = found[row]["intervals"]["accuracy"]
        cells = [
            row,
            percent(found[row]["pooled"]["accuracy"]),
            f"{percent(ends['low'])} to {percent(ends['high'])}",
            percent(found[row]["pooled"]["uar"]),
        ]
        for other in (best, BASELINE):
            pair = pairs.get(frozenset((row, other))) if row != other and row not in singles else None
            if pair is None:
                cells.append("")
                continue
            sign = 1 if pair.a == row else -1
            low, high = sorted((sign * pair.low, sign * pair.high))
            cells.append(
                f"{100 * sign * pair.difference:+.1f} ({100 * low:+.1f} to {100 * high:+.1f}); "
                f"p {_p(pair.p)}, Holm {_p(pair.holm['p'])}"
            )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


if __name__ == "__main__":
    main()
