"""`serfuse weights` as a user calls it, on a machine without a network."""

import hashlib
import json
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from serfuse import encoders
from serfuse.cli import main
from serfuse.errors import WeightsError

LYRA = "soundstream_encoder.tflite"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty weights folder; neither the hub nor pip is to be asked."""
    monkeypatch.setenv("SERFUSE_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path / "weights"


def call(*arguments: str, code: int = 0) -> Result:
    done = CliRunner().invoke(main, ["weights", *arguments])
    assert done.exit_code == code, done.output
    return done


def put(root: Path, name: str, file: str, content: bytes = b"weights") -> Path:
    (root / name).mkdir(parents=True)
    (root / name / file).write_bytes(content)
    return root / name / file


def test_list_says_what_is_here_and_how_the_rest_comes(root) -> None:
    put(root, "xvector", "embedding_model.ckpt")
    text = call("list").stdout
    assert f"Weights folder: {root}" in text
    lines = {line.split()[0]: line for line in text.splitlines() if line.strip()}
    assert f"here, 0.0 MB in {root / 'xvector'}" in lines["xvector"]
    assert "absent: serfuse weights get ge2e" in lines["ge2e"] and "Apache-2.0; wheel resemblyzer==0.1.4" in text
    rows = {row["name"]: row for row in json.loads(call("list", "--json").stdout)}
    assert list(rows) == [name for name in encoders.names() if encoders.preset(name).needs_weights]
    assert rows["xvector"]["here"] and rows["xvector"]["bytes"] == 7 and rows["xvector"]["how"] == ""
    assert rows["hubert"]["source"].startswith("hub facebook/hubert-base-ls960@")
    assert all(row["licence"] and row["source"] for row in rows.values())


def test_path_is_for_other_programs(root) -> None:
    assert call("path").stdout == f"{root}\n"
    assert call("path", "ge2e").stdout == f"{root / 'ge2e'}\n"
    assert json.loads(call("path", "ge2e", "--json").stdout) == {
        "name": "ge2e",
        "path": str(root / "ge2e"),
        "exists": False,
    }


def test_verify_ends_with_1_where_a_file_is_not_what_was_published(root) -> None:
    assert "No weights are here" in call("verify").stdout
    unpinned = put(root, "xvector", "embedding_model.ckpt")
    line = call("verify").stdout
    assert str(unpinned) in line and hashlib.sha256(b"weights").hexdigest() in line
    assert "no published hash is known" in line
    put(root, "soundstream-lyra", LYRA)
    text = call("verify", code=1).stdout
    assert "DIFFERS" in text and "serfuse weights get soundstream-lyra" in text
    checks = json.loads(call("verify", "soundstream-lyra", "--json", code=1).stdout)
    assert [(check["name"], check["state"]) for check in checks] == [("soundstream-lyra", "differs")]
    assert "ge2e are not here" in call("verify", "ge2e", code=1).output


def test_get_goes_on_after_one_that_cannot_be_had(root) -> None:
    put(root, "xvector", "embedding_model.ckpt")
    done = call("get", "audiomamba-tiny", "xvector", "logmel", code=1)
    assert "audiomamba-tiny are on no hub" in done.stderr and "logmel computes without weights" in done.stderr
    assert f"xvector: here already, 0.0 MB in {root / 'xvector'}\n  licence: Apache-2.0\n" in done.stdout
    rows = json.loads(call("get", "xvector", "--json").stdout)
    assert [(row["name"], row["fetched_now"]) for row in rows] == [("xvector", False)]
    assert "not complete in the hub's cache" in call("get", "hubert", code=1).stderr


def test_get_says_what_pip_said(root, monkeypatch) -> None:
    asked = []

    def pip(command, **_more):
        asked.extend(command)
        return subprocess.CompletedProcess(command, 1, "", "WARNING: slow\nERROR: No matching distribution found\n")

    monkeypatch.setattr(subprocess, "run", pip)
    done = call("get", "ge2e", code=1)
    assert "pretrained.pt of ge2e could not be had. pip download resemblyzer==0.1.4: ERROR: No matching" in done.stderr
    assert "By hand: Take resemblyzer/pretrained.pt" in done.stderr and str(root / "ge2e") in done.stderr
    assert asked[1:5] == ["-P", "-m", "pip", "download"] and {"--no-deps", "--only-binary"} < set(asked)


def test_missing_weights_name_the_command(root) -> None:
    for name in ("ge2e", "speech-embedding", "soundstream-lyra", "encodec", "hubert", "xvector"):
        with pytest.raises(WeightsError, match=f"serfuse weights get {name}"):
            encoders.load(name, encoders.LoadRequest(device="cpu"))
