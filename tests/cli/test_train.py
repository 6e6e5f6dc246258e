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


@pytest.fixture(scope="module")
def run(standin_store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config, out = configure("fcn", a="hubert", folds=2, epochs=3), tmp_path_factory.mktemp("runs") / "run"
    execute(config, load_dataset(config, standin_store), out)
    return out


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_also_where_python_drops_its_exception(
    run: Path, standin_store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    seen: list[int] = []

    def swallowed(self: Progress, epoch: int, figures: object) -> None:
        seen.append(epoch)
        if epoch == 2:
            with suppress(KeyboardInterrupt):
                signal.raise_signal(number)

    arguments = ["train", str(run), "--store", str(standin_store.root), "-o", str(tmp_path / "model.serfuse")]
    with monkeypatch.context() as patch:
        patch.setattr(Progress, "epoch_done", swallowed)
        done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 130 and "Stopped." in done.stderr, done.output
    assert seen == [1, 2] and not (tmp_path / "model.serfuse").exists()
    if number == signal.SIGINT:
        assert CliRunner().invoke(main, arguments).exit_code == 0
        assert (tmp_path / "model.serfuse").exists()
