"""`serfuse predict`: emotions of new audio, by a model that `serfuse train` kept."""

import csv
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .progress import Progress

if TYPE_CHECKING:
    from rich.table import Table

    from serfuse.prediction.bundle import Card
    from serfuse.prediction.predictor import Prediction


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("audio", nargs=-1, required=True, metavar="AUDIO AUDIO ...", type=click.Path(path_type=Path))
@click.option(
    "--weights",
    multiple=True,
    metavar="[ENC=]PATH",
    help="Local weights of an encoder; default: where they usually are.",
)
@click.option("--download", is_flag=True, help="Fetch weights that are not here from where the model says.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1 ...")
@click.option("--trusted", is_flag=True, help="The model is your own: no process of its own, no limits.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV and nothing else.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else.")
@click.option("--quiet", is_flag=True, help="No progress.")
@click.pass_context
def command(
    ctx: click.Context,
    model: Path,
    audio: tuple[Path, ...],
    weights: tuple[str, ...],
    download: bool,
    device: str,
    trusted: bool,
    as_csv: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Say which emotion a trained model hears in audio files.

    \b
    serfuse predict winner.serfuse call.wav
    serfuse predict winner.serfuse recordings/ --csv > emotions.csv

    MODEL is a file that `serfuse train` wrote; AUDIO are files of any format, or folders. Every file is encoded as
    the training clips were: an encoder or weights that would give other numbers are refused. A file that cannot be
    used is listed with the reason, and the exit code is 1 then. MODEL may come from anybody: it is checked, and its
    network works in a process of its own, which is killed when it takes too much.
    """
    from serfuse.prediction import bundle
    from serfuse.prediction.predictor import Predictor

    if as_csv and as_json:
        raise click.UsageError("Give --csv or --json, not both.")
    paths = _files(audio)
    card = bundle.read_card(model)
    asked = {"weights": _weights(weights, card), "device": device, "download": download, "isolated": not trusted}
    with (
        Predictor.load(model, **asked) as predictor,
        Progress(quiet=quiet or as_json or as_csv) as progress,
    ):
        found = predictor.predict(paths, observer=progress)
    if as_json:
        content = {"model": card.model_dump(mode="json"), "predictions": [item.to_dict() for item in found]}
        click.echo(json.dumps(content, ensure_ascii=False, allow_nan=False))
    elif as_csv:
        click.echo(_csv(found, card.classes), nl=False)
    else:
        _show(found, card)
    ctx.exit(1 if any(item.problem for item in found) else 0)


def _files(audio: tuple[Path, ...]) -> list[Path]:
    """The files that were named, and all audio files below the folders that were."""
    from serfuse.corpora.files import audio_files

    paths: list[Path] = []
    for given in audio:
        if given.is_dir():
            below = audio_files(given)
            if not below:
                raise click.UsageError(f"{given} holds no audio file.")
            paths += below
        else:
            paths.append(given)
    return list(dict.fromkeys(paths))


def _weights(values: tuple[str, ...], card: "Card") -> dict[str, str]:
    """`--weights` by encoder."""
    from serfuse.encoders import canonical

    encoders = list(dict.fromkeys(key.encoder for key in card.keys().values()))
    found = {}
    for value in values:
        name, equals, path = value.partition("=")
        if equals and (name in encoders or name.startswith("hf:")):
            found[canonical(name)] = path
        elif len(encoders) == 1:
            found[encoders[0]] = value
        else:
            raise click.UsageError(
                f"--weights {value}: say for which encoder, for example --weights {encoders[0]}=PATH. The model takes "
                f"{' and '.join(encoders)}."
            )
    return found


def _csv(found: "list[Prediction]", classes: list[str]) -> str:
    from serfuse.report.escaping import spreadsheet

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    heads = ["path", "seconds", "emotion", *(f"p_{name}" for name in classes), "problem", "unlike", "remarks"]
    writer.writerow([spreadsheet(head) for head in heads])
    for item in found:
        seconds = "" if item.seconds is None else f"{item.seconds:.3f}"
        figures = [item.probabilities.get(name, "") for name in classes]
        cells = [str(item.path), seconds, item.emotion or "", *figures, item.problem, item.unlike]
        writer.writerow([spreadsheet(cell) for cell in (*cells, " ".join(item.remarks))])
    return text.getvalue()


def _show(found: "list[Prediction]", card: "Card") -> None:
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False)
    console.print(_table(found))
    for item in found:
        notes = [f"{item.path}: {text}" for text in (item.unlike, *item.remarks) if text]
        said = [item.problem] if item.problem else notes
        for line in said:
            console.print(line, soft_wrap=True)
    for line in card.expectation():
        console.print(line, markup=False, soft_wrap=True)


def _table(found: "list[Prediction]") -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table()
    table.add_column("file", overflow="fold")
    table.add_column("s", justify="right")
    table.add_column("emotion")
    table.add_column("%", justify="right")
    table.add_column("then")
    for item in found:
        # The answer first: a machine's own label is not always the most probable emotion.
        ranked = sorted(item.probabilities.items(), key=lambda part: (part[0] != item.emotion, -part[1]))
        first = ranked[0] if ranked else ("-", None)
        second = f"{ranked[1][0]} {100 * ranked[1][1]:.0f}" if len(ranked) > 1 else ""
        table.add_row(
            Text(str(item.path)),
            "-" if item.seconds is None else f"{item.seconds:.1f}",
            Text(first[0]),
            "-" if first[1] is None else f"{100 * first[1]:.0f}",
            Text(second),
        )
    return table
