"""PARROT models that version 0.1 wrote: one transport layer then said by an option what the points are."""

import tarfile
from pathlib import Path

import numpy as np
import pytest

from serfuse.experiment import backend
from serfuse.prediction import keras_file

backend.set_up_backend()
import keras  # noqa: E402 - the backend is chosen above

from serfuse.layers import FeatureTransport, ReferenceTransport, SinkhornTransport  # noqa: E402

ARCHIVE = Path(__file__).parent.parent / "compatibility" / "version_0_1" / "parrot.tar.xz"
READINGS = {"features": FeatureTransport, "reference": ReferenceTransport, "batch": SinkhornTransport}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("parrot")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(root, filter="data")
    return root


@pytest.mark.parametrize("kind", ["", "-literal"], ids=["barycentric", "literal"])
@pytest.mark.parametrize("points", READINGS)
def test_they_load_and_predict_the_same(points: str, kind: str, folder: Path, tmp_path: Path) -> None:
    with np.load(folder / "parrot.npz") as held:
        clips = {name: held[f"clips-{name}"] for name in "ab"}
        expected = held[f"parrot-{points}{kind}"]
    network = keras_file.load(folder / f"parrot-{points}{kind}.keras")
    assert type(network.get_layer("transport")) is READINGS[points]
    np.testing.assert_allclose(keras.ops.convert_to_numpy(network(clips, training=False)), expected, atol=1e-6)
    network.save(tmp_path / "again.keras")
    again = keras_file.load(tmp_path / "again.keras")
    np.testing.assert_allclose(keras.ops.convert_to_numpy(again(clips, training=False)), expected, atol=1e-6)


def test_point_sets_load_and_are_sent_to_the_same(folder: Path) -> None:
    network = keras.saving.load_model(folder / "set.keras")
    with np.load(folder / "parrot.npz") as held:
        found = network([held["set-p"], held["set-q"]])
        for one, other in zip(found, (held["set-p_to_q"], held["set-q_to_p"]), strict=True):
            np.testing.assert_allclose(keras.ops.convert_to_numpy(one), other, atol=1e-6)
