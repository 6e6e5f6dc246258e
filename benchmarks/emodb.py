"""The figures of docs/results.md: everything run on the real Emo-DB, and the tables written.

    python benchmarks/emodb.py run --data EMODB/wav --lyra WEIGHTS --out runs/emodb     about an hour on two cores
    python benchmarks/emodb.py write --out runs/emodb                                   the tables in docs/results.md
    python benchmarks/emodb.py picture --out runs/emodb                                 docs/emodb.png

`run` goes on where it was stopped: a finished run folder is never run again. Every row of a table is one `serfuse cv`
command, which `write` prints beside it.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAIR = "--a prosody --b soundstream-lyra"
# The question of those tables is what a fusion can do, not how far 700 steps at the 1e-5 that HYFuse prints get it:
# that family is trained at 5e-4 there. Both families stop after five epochs without a better validation loss.
STOP = "--set training.patience=5"
RATE = f"--set training.learning_rate=5e-4 {STOP}"
LITERAL = "--set options.points=batch --set options.map=literal"
ENCODERS = ("prosody", "logmel", "soundstream-lyra")

# name of the run folder -> arguments of `serfuse cv`
RESULTS = {
    f"{model}-{encoder}-{split}": f"--head {model} --a {encoder} --split {split}"
    for encoder in ENCODERS
    for model in ("svm", "fcn", "cnn")
    for split in ("random", "loso")
} | {
    f"{model}-{split}": f"--fusion {model} {PAIR} --split {split}"
    for model in ("concat", "hyfuse", "hyfuse-symmetric", "parrot")
    for split in ("random", "loso")
}
# family -> row -> arguments; the first two rows are the single representations, the third is concatenation
FUSION = {
    "hyfuse": {
        "cnn, prosody": f"--head cnn --a prosody {RATE}",
        "cnn, soundstream-lyra": f"--head cnn --a soundstream-lyra {RATE}",
        "concat": f"--fusion concat {PAIR} {RATE}",
        "hyfuse, literal kappa = 1": f"--fusion hyfuse {PAIR} {RATE} --set options.kappa=1",
        "hyfuse": f"--fusion hyfuse {PAIR} {RATE}",
        "hyfuse-symmetric": f"--fusion hyfuse-symmetric {PAIR} {RATE}",
    },
    "parrot": {
        "cnn-pooled, prosody": f"--head cnn-pooled --a prosody {STOP}",
        "cnn-pooled, soundstream-lyra": f"--head cnn-pooled --a soundstream-lyra {STOP}",
        "concat-pooled": f"--fusion concat-pooled {PAIR} {STOP}",
        "parrot, literal": f"--fusion parrot {PAIR} {STOP} {LITERAL}",
        "parrot, reference": f"--fusion parrot {PAIR} {STOP} --set options.points=reference",
        "parrot, features": f"--fusion parrot {PAIR} {STOP} --set options.points=features",
    },
}
SPLITS = {"random": "--split random --repeats 3", "loso": "--split loso"}


def fusion_name(row: str, split: str) -> str:
    """Run folder of a row of the fusion tables."""
    return "fusion-" + re.sub(r"[^a-z0-9]+", "-", f"{row} {split}".lower())


def commands() -> dict[str, str]:
    """Every run: folder name -> arguments."""
    found = dict(RESULTS)
    for rows in FUSION.values():
        for row, arguments in rows.items():
            for split, flags in SPLITS.items():
                found[fusion_name(row, split)] = f"{arguments} {flags}"
    return found


@click.group()
def main() -> None:
    """Measure on the real Emo-DB."""


@main.command()
@click.option("--data", required=True, type=click.Path(exists=True, path_type=Path), help="Emo-DB's wav folder.")
@click.option("--lyra", required=True, type=click.Path(exists=True, path_type=Path), help="Weights of Lyra v2.")
@click.option("--out", default="runs/emodb", type=click.Path(path_type=Path), show_default=True)
@click.option("--jobs", default=2, show_default=True, help="Processes, of one thread each.")
def run(data: Path, lyra: Path, out: Path, jobs: int) -> None:
    """Extract, and run what is not there yet."""
    out.mkdir(parents=True, exist_ok=True)
    store = out / "store"
    extract = ["extract", "--corpus", "emodb", "--data", str(data), "--pool", "mean-std", "--store", str(store)]
    subprocess.run(["serfuse", *extract, "--encoder", "prosody", "--encoder", "logmel"], check=True)
    subprocess.run(["serfuse", *extract, "--encoder", "soundstream-lyra", "--weights", str(lyra)], check=True)
    run_all(commands(), store, out, jobs)


def run_all(wanted: dict[str, str], store: Path, out: Path, jobs: int, flags: Sequence[str] = ()) -> None:
    """Run each `serfuse cv` whose folder in `out` holds no finished run yet.

    Args:
        wanted: folder name -> arguments.
        store: that holds all embeddings.
        out: folder of the run folders.
        jobs: processes at once.
        flags: further arguments of each.
    """
    environment = os.environ | dict.fromkeys(
        ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"), "1"
    )

    def one(item: tuple[str, str]) -> str:
        name, arguments = item
        if not (out / name / "metrics.json").exists():
            command = [sys.executable, "-c", "from serfuse.cli import main; main()", "cv", *shlex.split(arguments)]
            command += [*flags, "--store", str(store), "--out", str(out / name)]
            done = subprocess.run(command, env=environment, capture_output=True, text=True)
            (out / f"{name}.log").write_text(done.stdout + done.stderr, "utf-8")
            if done.returncode:
                return f"{name}: FAILED\n{done.stderr}"
        return f"{name}: done"

    with ThreadPoolExecutor(jobs) as pool:
        for message in pool.map(one, wanted.items()):
            click.echo(message)


@main.command()
@click.option("--out", default="runs/emodb", type=click.Path(exists=True, path_type=Path), show_default=True)
def write(out: Path) -> None:
    """Write the tables into docs/results.md."""
    replace(DOCS / "results.md", {"results": results_table(out)})
    tables = {}
    for family, rows in FUSION.items():
        for split in SPLITS:
            tables[f"{family}-{split}"] = fusion_table(out, rows, split)
    tables["neighbours"] = neighbours_table(out)
    replace(DOCS / "results.md", tables)


@main.command()
@click.option("--out", default="runs/emodb", type=click.Path(exists=True, path_type=Path), show_default=True)
@click.option("--run", "name", default="hyfuse-symmetric-random", show_default=True)
def picture(out: Path, name: str) -> None:
    """Write docs/emodb.png: the confusion matrix and the penultimate layer of one run."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.image import imread

    images = [imread(out / name / file) for file in ("confusion.png", "tsne.png")]
    height = max(image.shape[0] for image in images)
    widths = [image.shape[1] * height / image.shape[0] for image in images]
    figure = Figure(figsize=(sum(widths) / 130, height / 130))
    FigureCanvasAgg(figure)
    left = 0.0
    for image, width in zip(images, widths, strict=True):
        axes = figure.add_axes((left / sum(widths), 0, width / sum(widths), 1))
        axes.imshow(image)
        axes.axis("off")
        left += width
    figure.savefig(DOCS / "emodb.png", dpi=100)
    click.echo(f"wrote {DOCS / 'emodb.png'}")


def metrics(folder: Path) -> dict:
    """`metrics.json` of a finished run."""
    from serfuse.errors import RunError
    from serfuse.runs.run import Run

    try:
        return Run.read(folder).metrics
    except RunError as error:
        sys.exit(f"{error} Call `run` first.")


def percent(value: float) -> str:
    return f"{100 * value:.1f}"


def results_table(out: Path) -> str:
    """One line per run: accuracy and UAR over folds, the interval, the command."""
    lines = [
        "| model | representations | split | accuracy (std over folds) | 95 % | UAR | parameters | command |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, arguments in RESULTS.items():
        found = metrics(out / name)
        words = shlex.split(arguments)
        inputs = " + ".join(words[place + 1] for place, word in enumerate(words) if re.fullmatch("--[a-h]", word))
        interval = found["intervals"]["accuracy"]
        lines.append(
            f"| {words[1]} | {inputs} | {words[-1]} | {percent(found['mean']['accuracy'])} "
            f"({percent(found['std']['accuracy'])}) | {percent(interval['low'])} to {percent(interval['high'])} | "
            f"{percent(found['mean']['uar'])} | {found['parameters']:,} | `serfuse cv {arguments}` |"
        )
    return "\n".join(lines)


def fusion_table(out: Path, rows: dict[str, str], split: str) -> str:
    """One line per model: accuracy, what shuffling each input does, and paired differences."""
    from serfuse.runs.compare import compare

    folders = {row: out / fusion_name(row, split) for row in rows}
    found = {row: metrics(folder) for row, folder in folders.items()}
    *singles, baseline = list(rows)[:3]
    better = max(singles, key=lambda row: found[row]["mean"]["accuracy"])
    lines = [
        f"| model | accuracy | 95 % | a shuffled | b shuffled | against {better} | against {baseline} |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        interval = found[row]["intervals"]["accuracy"]
        cells = [row, percent(found[row]["mean"]["accuracy"])]
        cells.append(f"{percent(interval['low'])} to {percent(interval['high'])}")
        for side in "ab":
            shuffled = found[row].get("sensitivity", {}).get(side)
            cells.append(
                f"{100 * shuffled['changed']:.0f} % change, {-100 * shuffled['accuracy_drop']:+.1f}" if shuffled else ""
            )
        for other in (better, baseline):
            if row == other or row in singles:
                cells.append("")
                continue
            (pair,) = compare([folders[row], folders[other]], names=["row", "other"]).pairs
            p_t = "-" if pair.p_t is None else f"{pair.p_t:.2f}"
            cells.append(
                f"{100 * pair.difference:+.1f} ({100 * pair.low:+.1f} to {100 * pair.high:+.1f}); "
                f"p = {pair.p:.2f}, t-test {p_t}"
            )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def neighbours_table(out: Path) -> str:
    """What the literal reading of PARROT loses when clips come alone."""
    lines = [
        "| split | alone | in batches of 32 | whole fold | predictions that differ, alone against whole fold |",
        "|---|---|---|---|---|",
    ]
    for split in SPLITS:
        found = metrics(out / fusion_name("parrot, literal", split))["neighbours"]
        cells = [split, *(percent(found[size]["accuracy"]) for size in ("alone", "32", "fold"))]
        lines.append("| " + " | ".join([*cells, f"{100 * found['fold']['changed_from_alone']:.0f} %"]) + " |")
    return "\n".join(lines)


def replace(page: Path, tables: dict[str, str]) -> None:
    """Put each table between its marks `<!-- table NAME -->` and `<!-- end -->`."""
    text = page.read_text("utf-8")
    for name, table in tables.items():
        text, count = re.subn(
            rf"(<!-- table {re.escape(name)} -->\n).*?(<!-- end -->)",
            lambda match, table=table: f"{match[1]}\n{table}\n\n{match[2]}",
            text,
            flags=re.DOTALL,
        )
        if count != 1:
            sys.exit(f"{page} should hold the mark <!-- table {name} --> once, found {count}.")
    page.write_text(text, "utf-8")
    click.echo(f"wrote {', '.join(tables)} into {page}")


if __name__ == "__main__":
    main()
