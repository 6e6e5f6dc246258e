"""The tables of docs/fusion.md: what fusion gains on the real Emo-DB, with representations that anybody can have.

    serfuse weights get ge2e speech-embedding
    python benchmarks/fusion.py run --data EMODB/wav --lyra LYRA --out runs/fusion      some hours on two cores
    python benchmarks/fusion.py write --out runs/fusion                                 the tables in docs/fusion.md

`run` goes on where it was stopped: a finished run folder is never run again. Every row of a table is one `serfuse cv`
command; `commands` prints them.
"""

import subprocess
from pathlib import Path

import click
from emodb import DOCS, metrics, percent, replace, run_all

SETS = {
    "pair": ("ge2e", "speech-embedding"),
    "three": ("ge2e", "speech-embedding", "prosody"),
    "four": ("ge2e", "speech-embedding", "prosody", "soundstream-lyra"),
}
# Three seeds under leave one speaker out, whose folds are fixed; random folds are drawn once.
SPLITS = {"loso": "--split loso --repeats 3", "loso, one seed": "--split loso", "random": "--split random"}
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
}
# The papers' networks take most of the time: one seed, and two representations.
PAPERS = ("concat", "hyfuse, literal kappa = 1", "hyfuse", "hyfuse-symmetric", "parrot, literal", "parrot")
SEPARATE = tuple(row for row in FUSIONS if row not in PAPERS)
FEW = tuple(row for row in SEPARATE if not row.startswith("experts, "))
# table -> (set of representations, split, rows)
TABLES = {
    "pair-loso": ("pair", "loso", SEPARATE),
    "three-loso": ("three", "loso", FEW),
    "four-loso": ("four", "loso", FEW),
    "papers-loso": ("pair", "loso, one seed", (BASELINE, *PAPERS, "late", "experts")),
    "pair-random": ("pair", "random", SEPARATE),
    "three-random": ("three", "random", FEW),
    "four-random": ("four", "random", FEW),
}
# The transport inside the network takes minutes a fold: one seed, to be compared with that of `experts`.
TRANSPORT = {
    "experts-transport-loso": "--fusion experts --set options.operator=transport --a ge2e --b speech-embedding "
    "--split loso"
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
    slow = ("hyfuse", "parrot", "concat-")
    found = dict(sorted(found.items(), key=lambda item: (item[0].startswith(slow), "random" in item[0])))
    return found | TRANSPORT


@click.group()
def main() -> None:
    """Measure what fusion gains on the real Emo-DB."""


@main.command("commands")
def show() -> None:
    """Print every command."""
    for name, arguments in commands().items():
        click.echo(f"serfuse cv {arguments} --out {name}")


@main.command()
@click.option("--data", type=click.Path(exists=True, path_type=Path), help="Emo-DB's wav folder.")
@click.option("--lyra", type=click.Path(exists=True, path_type=Path), help="Weights of Lyra v2.")
@click.option("--store", type=click.Path(path_type=Path), help="A store that holds all of it; instead of --data.")
@click.option("--out", default="runs/fusion", type=click.Path(path_type=Path), show_default=True)
@click.option("--jobs", default=2, show_default=True, help="Processes, of one thread each.")
def run(data: Path | None, lyra: Path | None, store: Path | None, out: Path, jobs: int) -> None:
    """Extract, and run what is not there yet."""
    out.mkdir(parents=True, exist_ok=True)
    if store is None:
        store = out / "store"
        extract = ["serfuse", "extract", "--corpus", "emodb", "--data", str(data), "--pool", "mean-std"]
        plain = [word for name in ("prosody", "ge2e", "speech-embedding") for word in ("--encoder", name)]
        subprocess.run([*extract, *plain, "--store", str(store)], check=True)
        lyra_words = ["--encoder", "soundstream-lyra", "--weights", str(lyra), "--store", str(store)]
        subprocess.run([*extract, *lyra_words], check=True)

    run_all(commands(), store, out, jobs)


@main.command()
@click.option("--out", default="runs/fusion", type=click.Path(exists=True, path_type=Path), show_default=True)
def write(out: Path) -> None:
    """Write the tables into docs/fusion.md."""
    replace(DOCS / "fusion.md", {name: table(out, name) for name in TABLES})


def table(out: Path, name: str) -> str:
    """One line per row: figures, and paired differences from the best single and from concatenation."""
    from serfuse.runs.compare import compare

    folders = {row: out / folder(arguments) for row, arguments in rows(name).items()}
    folders = {row: path for row, path in folders.items() if (path / "metrics.json").exists()}
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
