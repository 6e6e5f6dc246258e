"""`serfuse sweep --status`: how far sweeps are, also those that another terminal or machine runs."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from serfuse.errors import RunError, SerfuseError

from .progress import duration

if TYPE_CHECKING:
    from rich.console import Console

    from serfuse.sweep.driver import Progress
    from serfuse.sweep.ledger import Ledger

_SHOWN_FAILURES = 20


def facts(progress: "Progress", ledger: "Ledger") -> dict[str, Any]:
    """The state for scripts; what is at work and what failed is told by the log of whoever runs it."""
    from serfuse.sweep import driver, history

    found = history.read(progress, ledger)
    return {
        "folder": str(ledger.folder),
        **driver.summary(progress),
        "failed": dict(found.failed),
        "at_work": dict(found.at_work),
        "units_per_minute": None if found.rate is None else 60 * found.rate,
        "seconds_left": found.seconds_left,
    }


def show(progress: "Progress", ledger: "Ledger", console: "Console") -> None:
    """Who works, how fast, what failed."""
    from serfuse.sweep import history

    found = history.read(progress, ledger)
    for sweep, number in found.at_work.items():
        console.print(f"{number} at work on {sweep}.", markup=False, soft_wrap=True)
    if not found.at_work:
        console.print("Nothing is at work now.")
    if found.rate is not None and found.seconds_left is not None:
        console.print(f"Lately {60 * found.rate:.3g} units/min: {duration(found.seconds_left)} left.")
    for name, error in list(found.failed.items())[:_SHOWN_FAILURES]:
        console.print(f"Failed: {name}: {error}", markup=False, soft_wrap=True)
    if len(found.failed) > _SHOWN_FAILURES:
        console.print(f"... and {len(found.failed) - _SHOWN_FAILURES} more, see log.jsonl.")


def all_sweeps(folder: Path, as_json: bool) -> None:
    """One line for each sweep whose results lie in `folder`.

    Raises:
        RunError: there is none.
    """
    from serfuse.sweep.ledger import LOG, Ledger

    found = [Ledger(path.parent) for path in sorted(folder.glob(f"*/{LOG}"))]
    if not found:
        raise RunError(
            f"No sweep has been started here: {folder} holds no results. Start one, for example: serfuse sweep "
            "hyfuse_table1 --dry-run"
        )
    states: list[dict[str, Any]] = []
    for ledger in found:
        try:
            state = facts(_recalled(ledger), ledger)
        except SerfuseError as error:
            state = {"folder": str(ledger.folder), "error": str(error)}
        states.append(state)
        if not as_json:
            click.echo(_line(state))
    if as_json:
        click.echo(json.dumps({"sweeps": states}, indent=2))
    else:
        click.echo("Name one to see its rows: serfuse sweep NAME --status")


def _recalled(ledger: "Ledger") -> "Progress":
    """How far the latest call in a folder is."""
    from serfuse.store import EmbeddingStore
    from serfuse.sweep import driver, grid, plan, spec

    call = next((entry for entry in reversed(list(ledger.events())) if entry.get("event") == "call"), None)
    try:
        name, only, assignments, store = call["sweep"], call["only"], call["set"], str(call["store"])
        content, _ = spec.read(str(name))
        asked = grid.expand(content, [str(text) for text in only], [str(text) for text in assignments])
    except (KeyError, TypeError):
        raise RunError("its log does not say what was asked for; name the sweep: serfuse sweep NAME --status") from None
    return driver.look(plan.make(asked, EmbeddingStore(store)), ledger)


def _line(state: dict[str, Any]) -> str:
    if "error" in state:
        return f"{state['folder']}: {state['error']}"
    text = f"{state['folder']}: {state['done']} of {state['units']} units"
    if state["waiting_for_embeddings"]:
        text += f", {state['waiting_for_embeddings']} more wait for embeddings"
    if state["failed"]:
        text += f", {len(state['failed'])} failed"
    text += f", {sum(state['at_work'].values())} at work" if state["at_work"] else ", nothing at work"
    if state["seconds_left"] is not None:
        text += f", {state['units_per_minute']:.3g} units/min, {duration(state['seconds_left'])} left"
    return text
