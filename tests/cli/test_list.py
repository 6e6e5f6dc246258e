"""`serfuse list` shows what can be used, for people and for scripts."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from serfuse import corpora, encoders, models, splits
from serfuse.cli import main
from serfuse.store import EmbeddingStore


def run(*arguments: str) -> str:
    done = CliRunner().invoke(main, ["list", *arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_encoders_as_json_hold_all_that_is_known() -> None:
    rows = {row["name"]: row for row in json.loads(run("encoders", "--json"))}
    assert list(rows) == encoders.names()
    hubert = rows["hubert"]
    assert (hubert["time"], hubert["mean-std"], hubert["sample_rate"], hubert["frame_rate"]) == (768, 1536, 16000, 50)
    assert "HuBERT" in hubert["citation"]
    assert hubert["licence"] and hubert["parameters"] > 90e6 and hubert["family"] == "attention"
    dimensional = rows["audeering-dim"]
    assert dimensional["emotion_labels"] == ["msp-podcast"] and "MSP-Podcast 1.7" in dimensional["trained_on"]
    assert hubert["emotion_labels"] == hubert["corpora_seen"] == [] and "LibriSpeech" in hubert["trained_on"]
    assert (dimensional["megabytes"], dimensional["layers"], dimensional["revision"]) == (661, 12, None)
    assert rows["encodec"]["paper"] == 375 and rows["encodec"]["time"] == 128
    assert rows["logmel"]["weights_here"] is True and rows["logmel"]["where"] == "needs none"


def test_encoders_say_whether_the_weights_are_here_and_else_where_to_get_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SERFUSE_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    text = run("encoders", "audeering-dim", "audiomamba-base", "ge2e")
    assert "audeering-dim: HAS SEEN EMOTION LABELS of msp-podcast" in text
    assert "github.com/SarthakYadav/audio-mamba-official" in text, "weights on no hub come with the way to them"
    assert str(tmp_path / "audiomamba-base") in text
    assert "ge2e: Get them with: serfuse weights get ge2e." in text
    assert "ge2e: Wan et al., Generalized End-to-End Loss" in text, "whom to cite"
    assert _weights()["audiomamba-base"] == "absent" and _weights()["logmel"] == "none"

    (tmp_path / "soundstream-lyra").mkdir()
    (tmp_path / "soundstream-lyra" / "soundstream_encoder.tflite").write_bytes(b"x")
    assert _weights()["soundstream-lyra"] == "here"


def _weights() -> dict[str, str]:
    """The column `weights` of the table of all encoders."""
    heads, *lines = run("encoders").split("\n\n")[0].splitlines()
    return {line.split()[0]: line[heads.index("weights") :].split()[0] for line in lines}


def test_all_encoders_are_a_table_of_a_line_each_and_a_few_words() -> None:
    table, notes = run("encoders").split("\n\n")
    heads, *lines = table.splitlines()
    assert heads.split() == ["encoder", "values", "kHz", "kind", "params", "weights", "licence"]
    rows = {line.split()[0]: line for line in lines}
    assert list(rows) == encoders.names() and len(notes.splitlines()) == 4
    assert rows["encodec"].split()[:6] == ["encodec", "128", "24", "codec", "7.4", "M"]
    assert rows["mms-1b"].split()[-1] == "CC-BY-NC-4.0" and rows["encodec"].split()[-2:] == ["MIT", "…"]
    assert "Trained on emotion labels, so that figures on the same corpora leak: audeering-dim, emotion2vec" in notes
    assert "serfuse list encoders audeering-dim" in notes


def test_corpora_show_the_published_numbers() -> None:
    rows = {row["name"]: row for row in json.loads(run("corpora", "--json"))}
    assert list(rows) == corpora.names()
    assert (rows["cremad"]["clips"], rows["cremad"]["speakers"], rows["cremad"]["emotions"]) == (7442, 91, 6)
    assert (rows["emodb"]["clips"], rows["emodb"]["speakers"], rows["emodb"]["emotions"]) == (535, 10, 7)
    assert rows["table"]["clips"] is None
    assert "7,442" in run("corpora") and "synthetic" in run("corpora")


def test_splits_say_what_they_need_and_keep_apart() -> None:
    rows = {row["name"]: row for row in json.loads(run("splits", "--json"))}
    assert list(rows) == splits.names()
    assert rows["random"]["apart"] == [] and rows["given"]["apart"] is None
    assert rows["speaker-text"]["needs"] == rows["speaker-text"]["apart"] == ["speaker", "text"]
    line = next(line for line in run("splits").splitlines() if line.startswith("loso"))
    assert "leave one speaker out" in line


def test_models_say_how_they_are_called() -> None:
    rows = {row["name"]: row for row in json.loads(run("models", "--json"))}
    assert list(rows) == models.names() and "fused" not in rows, "what nobody can train is not offered"
    assert rows["cnn"]["inputs"] == rows["cnn"]["max_inputs"] == 1
    assert (rows["parrot"]["inputs"], rows["parrot"]["max_inputs"]) == (2, 8)
    lines = run("models").splitlines()
    assert next(line for line in lines if line.startswith("hyfuse ")).split()[1:5] == ["--fusion", "2", "to", "8"]
    assert next(line for line in lines if line.startswith("cnn ")).split()[1] == "--head"
    assert next(line for line in lines if line.startswith("svm ")).split()[1:3] == ["--head,", "--fusion"]


def test_the_store_shows_corpora_and_how_the_embeddings_were_made(make_store, tmp_path: Path) -> None:
    store = make_store({"hubert": 24}, root=tmp_path / "s")
    text = run("store", "--store", str(tmp_path / "s"))
    key = store.keys("standin")[0]
    assert key.folder in text and "36 of 36" in text and "24" in text and "pooling time" in text
    assert "standin: 36 clips, 4 speakers, 3 emotions" in text
    content = json.loads(run("store", "--store", str(tmp_path / "s"), "--json"))
    row = content["corpora"][0]["embeddings"][0]
    assert row["key"] == key.to_dict() and row["clips"] == 36 and row["bytes"] > 36 * 24


def test_an_empty_store_says_how_to_fill_it(tmp_path: Path) -> None:
    assert "serfuse extract" in run("store", "--store", str(tmp_path / "none"))
    assert json.loads(run("store", "--store", str(tmp_path / "none"), "--json"))["corpora"] == []
    assert not (tmp_path / "none").exists(), "looking changes nothing"


def test_a_damaged_store_is_a_plain_error(make_store, tmp_path: Path) -> None:
    store: EmbeddingStore = make_store({"hubert": 4}, root=tmp_path / "s")
    (store.root / "standin" / "clips.parquet").write_bytes(b"nothing")
    done = CliRunner().invoke(main, ["list", "store", "--store", str(store.root)])
    assert done.exit_code == 1 and "clips.parquet" in done.output and "Traceback" not in done.output


_ON_80_COLUMNS = """
import fcntl, os, pty, struct, sys, termios
pid, end = pty.fork()
if pid == 0:
    os.environ["TERM"] = "xterm"
    os.environ.pop("COLUMNS", None)
    fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    from serfuse.cli import main
    main(["list", "encoders"])
text = b""
try:
    while piece := os.read(end, 65536):
        text += piece
except OSError:
    pass
sys.stdout.buffer.write(text)
"""


def test_on_a_terminal_of_80_columns_every_encoder_is_one_line() -> None:
    done = subprocess.run([sys.executable, "-P", "-c", _ON_80_COLUMNS], capture_output=True, text=True, check=True)
    table = done.stdout.replace("\r", "").split("\n\n")[0].splitlines()
    assert [line.split()[0] for line in table[1:]] == encoders.names()
    assert all(len(line) <= 80 for line in table[1:])


@pytest.mark.slow
def test_listing_loads_no_library_that_computes() -> None:
    code = (
        "import sys\nfrom serfuse.cli import main\nfrom click.testing import CliRunner\n"
        "for what in ('encoders', 'corpora', 'models', 'splits'):\n"
        "    assert CliRunner().invoke(main, ['list', what]).exit_code == 0\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout.replace("'", '"')))
    assert not loaded & {"torch", "tensorflow", "keras", "transformers", "librosa", "jax"}
