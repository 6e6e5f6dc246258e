"""The command line. Each command is one module of this package and is imported only when it is called."""

import importlib
import sys
from collections.abc import Sequence
from typing import Any

import click

from serfuse.errors import SerfuseError, StoreWriteError

from . import streams

# name -> what it does, in the order of `serfuse --help`; the module is `serfuse.cli.<name>`, its command `command`
COMMANDS = {
    "demo": "A complete run on generated speech: extract, cross-validate, draw.",
    "extract": "Compute embeddings of a corpus once and keep them in the store.",
    "cv": "Cross-validate a classifier on one representation or on several, fused.",
    "fuse": "Join finished runs of equal folds by their probabilities, without any training.",
    "sweep": "Run a whole table of cross-validations, and print it beside the published one.",
    "compare": "Say whether one run is above another, with intervals and paired tests.",
    "layers": "Accuracy of each layer of an encoder, with a figure.",
    "recommend": "Try the sensible fusions on a corpus, and say what to use.",
    "report": "Write runs as one self-contained page, or as Markdown, CSV or LaTeX.",
    "train": "Train the model of a run on all clips, and keep it as one file.",
    "predict": "Say which emotion a trained model hears in audio files.",
    "weights": "Bring the encoders' weights to this machine, list and verify them.",
    "store": "Look into the store: info, verify, repair, compact, convert, export, import, diff, gc.",
    "list": "Show encoders, corpora, models, splits, metrics, or what the store holds.",
}


class _Commands(click.Group):
    """A group that knows its commands' names and summaries without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        return importlib.import_module(f".{cmd_name}", __name__).command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def main(self, args: Sequence[str] | None = None, *rest: Any, **more: Any) -> Any:
        """Run the command of the command line, and end the process with its exit code."""
        try:
            with streams.guarded(sys.argv[1:] if args is None else args):
                return super().main(args, *rest, **more)
        except streams.OutputError as error:
            streams.abandon_output()
            made = "Files and folders that the command made are whole."
            click.echo(f"Error: Standard output cannot be written: {error.strerror}. {made}", err=True)
            sys.exit(1)
        except BrokenPipeError:
            streams.abandon_output()
            sys.exit(141)

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except SerfuseError as error:
            raise click.ClickException(streams.printable(_worded(error))) from error
        except KeyboardInterrupt:
            click.echo("\nStopped.", err=True)
            raise click.exceptions.Exit(130) from None
        except BrokenPipeError:  # `serfuse ... | head`
            streams.abandon_output()
            raise click.exceptions.Exit(141) from None


def _worded(error: SerfuseError) -> str:
    """The message of an error, with the option that mends it where the library does not know the shell."""
    if isinstance(error, StoreWriteError) and not error.full:
        return (
            f"Cannot write {error.path}: {error.reason}. Give a store that you may write to (--store FOLDER, or the "
            "variable SERFUSE_STORE)."
        )
    return str(error)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="serfuse")
def main() -> None:
    """Speech emotion recognition from fused, frozen speech representations.

    \b
    serfuse demo                                             see everything work, in minutes
    serfuse extract --corpus emodb --data DIR --encoder hubert --encoder soundstream-lyra
    serfuse cv --fusion parrot --a hubert --b soundstream-lyra
    """


__all__ = ["COMMANDS", "main"]
