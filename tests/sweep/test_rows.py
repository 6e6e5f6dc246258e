"""One line per row, on screens of any size."""

import pytest
from rich.console import Console

from serfuse import encoders
from serfuse.cli import sweep_rows
from serfuse.sweep import driver
from serfuse.sweep.ledger import Done

MODELS = {
    "svm": {"heading": "Support vectors"},
    "fcn": {"heading": "Fully connected"},
    "cnn": {"heading": "Convolutions"},
    "cnn-pooled": {"heading": "Convolutions, pooled"},
}


@pytest.fixture
def progress(make_plan) -> driver.Progress:
    """Three rows that can run and many that cannot, four models, two units at work, one failed."""
    others = [name for name in encoders.names() if name not in ("hubert", "wavlm", "wav2vec2")]
    blocks = [
        {"title": "First", "rows": [*others, *(f"{name}@layer=3" for name in others), "hubert"]},
        {"title": "Last", "rows": ["wavlm", "wav2vec2"]},
    ]
    found = driver.Progress(make_plan(models=MODELS, blocks=blocks))
    units = found.plan.units
    assert len(units) == 60
    found.done = {unit.name: Done(0.5, 12.0, 0) for unit in units[:27]}
    found.running = {unit.name: unit for unit in units[27:29]}  # wavlm, fcn
    del found.done[units[3].name]
    found.failed = {units[3].name: "it broke"}
    return found


def _shown(what: object, console: Console) -> list[str]:
    with console.capture() as capture:
        console.print(what)
    return [line.rstrip() for line in capture.get().splitlines()]


@pytest.mark.parametrize(("width", "height"), [(80, 24), (60, 16), (56, 14)])
def test_a_small_screen_shows_what_is_at_work(progress: driver.Progress, width: int, height: int) -> None:
    console = Console(width=width, height=height, color_system=None)
    lines = _shown(sweep_rows.live(progress, console, 2, 1), console)
    assert len(lines) + 1 < height and max(map(len, lines)) <= width
    assert not [line for line in lines if "…" in line], "nothing is cut short"
    (row,) = [line for line in lines if line.split()[:1] == ["wavlm"]]
    assert "7/20" in row and "50.0" in row, "the row at work, with the column at work"
    assert "12" in row and "1 min 18 s" in row, "13 units of 12 s for two workers"
    assert "more rows" in " ".join(lines) and "more columns" in " ".join(lines)


def test_a_large_screen_shows_everything(progress: driver.Progress) -> None:
    console = Console(width=160, height=2 * len(encoders.names()) + 20, color_system=None)
    lines = _shown(sweep_rows.live(progress, console, 2, 1), console)
    labels = [line.split()[0] for line in lines if "/20" in line]
    assert len(labels) == 2 * len(encoders.names()) - 3 and labels[-3:] == ["hubert", "wavlm", "wav2vec2"]
    assert "50.0 (4/5) 1 failed" in "\n".join(lines) and "missing" in "\n".join(lines)
    assert "more" not in "\n".join(lines)


def test_the_state_is_shown_whole_on_a_narrow_screen(progress: driver.Progress) -> None:
    console = Console(width=60, height=10, color_system=None)
    parts = [_shown(part, console) for part in sweep_rows.whole(progress, console)]
    assert len(parts) > 1
    text = "\n".join(line for part in parts for line in part)
    for model in MODELS.values():
        assert text.count(f"{model['heading']}\n") + text.count(f"{model['heading']} ") == 1
    assert all(sum(line.split()[:1] == ["wavlm"] for line in part) == 1 for part in parts)
    assert max(len(line) for part in parts for line in part) <= 60 and "…" not in text
