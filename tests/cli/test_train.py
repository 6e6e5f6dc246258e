"""`serfuse train` as a user calls it."""

import signal
from contextlib import suppress
from pathlib import Path

import pytest
from click.testing import CliRunner

from serfuse.cli import main
from serfuse.cli.progress import Progress
from serfuse.experiment.config import configure
from serfuse.experiment.dataset import load_dataset
from serfuse.runs.execution import execute


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_also_where_python_drops_its_exception(
    make_store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    store = make_store()
    config = configure("fcn", a="hubert", folds=2, epochs=3)
    execute(config, load_dataset(config, store), tmp_path / "run")
    seen: list[int] = []

    def swallowed(self: Progress, epoch: int, figures: object) -> None:
        seen.append(epoch)
        if epoch == 2:
            with suppress(KeyboardInterrupt):
                signal.raise_signal(number)

    arguments = ["train", str(tmp_path / "run"), "--store", str(store.root), "-o", str(tmp_path / "model.serfuse")]
    with monkeypatch.context() as patch:
        patch.setattr(Progress, "epoch_done", swallowed)
        done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 130 and "Stopped." in done.stderr, done.output
    assert seen == [1, 2] and not (tmp_path / "model.serfuse").exists()
    assert CliRunner().invoke(main, arguments).exit_code == 0
    assert (tmp_path / "model.serfuse").exists()
