"""`serfuse extract` as a user calls it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from pathlib import Path

import counting_encoder
import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from serfuse.cli import main
from serfuse.cli.extract import load_requests
from serfuse.store import EmbeddingStore


def wav(path: Path, seed: int, seconds: float = 0.3) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).normal(0, 0.1, round(seconds * 16000))
    soundfile.write(path, noise, 16000, subtype="FLOAT")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder per emotion, six clips."""
    for number in range(6):
        wav(tmp_path / "speech" / ["anger", "sadness"][number % 2] / f"{number}.wav", number)
    return tmp_path / "speech"


@pytest.fixture
def serfuse(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, data: Path) -> Iterator[Callable[..., Result]]:
    """`serfuse extract --corpus table --data <the six clips>` in an empty folder, with the counting encoders known."""
    counting_encoder.install()
    counting_encoder.HEARD.clear()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SERFUSE_STORE", raising=False)

    def call(*arguments: str) -> Result:
        return CliRunner().invoke(main, ["extract", "--corpus", "table", "--data", str(data), *arguments])

    yield call
    counting_encoder.uninstall()


@pytest.mark.slow
def test_it_extracts_once_and_keeps_what_it_has(serfuse, data: Path) -> None:
    done = serfuse("--encoder", "counting")
    assert done.exit_code == 0, done.output
    assert "speech: 6 clips, speakers unknown, 2 emotions (anger 3, sadness 3)" in done.stdout
    assert "counting: 6 computed" in done.stdout and "4 values per clip. Kept as counting-" in done.stdout
    assert "6 of 6 clips" in done.stderr and "6 of 6 clips" not in done.stdout, "progress is not a result"
    assert Path("serfuse-store/speech").is_dir()

    counting_encoder.HEARD.clear()
    again = serfuse("--encoder", "counting")
    assert "counting: 0 computed, 6 taken from the store, 0 failed" in again.stdout
    assert counting_encoder.HEARD == []

    wav(data / "anger" / "0.wav", 99)
    assert "counting: 1 computed" in serfuse("--encoder", "counting").stdout
    assert "counting: 6 computed" in serfuse("--encoder", "counting", "--pool", "mean-std").stdout
    assert "counting: 6 computed" in serfuse("--encoder", "counting", "--option", "scale=2.0").stdout


def test_json_is_all_there_is_on_standard_output(serfuse) -> None:
    done = serfuse("--encoder", "counting", "--json")
    report = json.loads(done.stdout)
    assert done.stderr == ""
    assert report["corpus"]["clips"] == 6 and report["corpus"]["emotions"] == {"anger": 3, "sadness": 3}
    assert report["encoders"][0]["done"] == 6 and report["encoders"][0]["key"]["encoder"] == "counting"
    assert (report["pad"], report["pooling"], report["interrupted"]) == ("none", "time", False)


@pytest.mark.slow
def test_several_layers_and_poolings_have_a_line_and_a_report_each(serfuse) -> None:
    words = ["--encoder", "counting-layers", "--encoder", "counting", "--layer", "1", "--layer", "0"]
    done = serfuse(*words, "--pool", "time,mean-std")
    assert done.exit_code == 0, done.output
    assert "counting-layers, layer 1, time: 6 computed" in done.stdout
    assert "counting-layers, layer 0, mean-std: 6 computed" in done.stdout
    assert "counting, layer last, mean-std: 6 computed" in done.stdout
    report = json.loads(serfuse(*words, "--pool", "time", "--json").stdout)
    found = [(one["encoder"], one["key"]["layer"], one["key"]["pooling"], one["reused"]) for one in report["encoders"]]
    assert found == [
        ("counting-layers", "1", "time", 6),
        ("counting-layers", "0", "time", 6),
        ("counting", "last", "time", 6),
    ]
    both = serfuse("--encoder", "counting", "--pool", "time,paper")
    assert both.exit_code == 2 and "one forward has one length" in " ".join(both.stderr.split())


def test_bad_clips_are_listed_and_the_exit_code_says_so(serfuse, data: Path) -> None:
    (data / "anger" / "empty.wav").write_bytes(b"")
    (data / "sadness" / "text.wav").write_text("no audio " * 100)
    done = serfuse("--encoder", "counting")
    assert done.exit_code == 1
    assert "6 computed" in done.stdout and "2 failed" in done.stdout and "--skip-bad" in done.stdout
    assert "anger/empty.wav" in done.stdout and "is empty" in done.stdout and "is not audio" in done.stdout

    skipped = serfuse("--encoder", "counting", "--skip-bad")
    assert skipped.exit_code == 0 and "6 taken from the store, 2 skipped" in skipped.stdout
    everything = json.loads(serfuse("--encoder", "counting", "--json").stdout)
    assert len(everything["encoders"][0]["failed"]) == 2


def test_skipping_everything_is_no_success(tmp_path: Path, serfuse, data: Path) -> None:
    for path in data.rglob("*.wav"):
        path.write_bytes(b"")
    done = serfuse("--encoder", "counting", "--skip-bad")
    assert done.exit_code == 1 and "6 skipped" in done.stdout


@pytest.mark.slow
def test_an_encoder_without_weights_does_not_stop_the_others(serfuse, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SERFUSE_WEIGHTS", str(tmp_path / "no-weights"))
    done = serfuse("--encoder", "counting", "--encoder", "soundstream-lyra", "--encoder", "counting-batch")
    assert done.exit_code == 1
    assert "counting: 6 computed" in done.stdout and "counting-batch: 6 computed" in done.stdout
    assert "soundstream-lyra: not extracted. The weights of soundstream-lyra are not here" in done.stderr
    assert "no-weights" in done.stderr, "it says where to put them"
    report = json.loads(serfuse("--encoder", "soundstream-lyra", "--encoder", "counting", "--json").stdout)
    assert "not here" in report["encoders"][0]["error"] and report["encoders"][1]["reused"] == 6


@pytest.mark.slow
def test_a_model_says_that_it_is_loading_before_its_first_clip(serfuse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("SERFUSE_WEIGHTS", "nowhere")
    monkeypatch.setenv("HF_HUB_CACHE", "nowhere")
    done = serfuse("--encoder", "hubert", "--encoder", "counting")
    assert done.stderr.index("hubert: loading the weights ...") < done.stderr.index(
        "hubert: not extracted. The weights"
    )
    assert "counting: loading" not in done.stderr
    assert "loading" not in serfuse("--encoder", "hubert", "--quiet").stderr


def test_random_weights_say_so_wherever_they_are_shown(serfuse) -> None:
    done = serfuse("--encoder", "counting", "--weights", "random", "--seed", "3")
    assert "RANDOM WEIGHTS (random:3): never trained" in done.stdout
    listed = CliRunner().invoke(main, ["list", "store"])
    assert "NEVER TRAINED" in listed.stdout


@pytest.mark.slow
def test_a_limit_adds_to_what_is_there(serfuse) -> None:
    done = serfuse("--encoder", "counting", "--limit", "2")
    assert "speech: 2 of 6 clips" in done.stdout and "anger 1, sadness 1" in done.stdout
    store = EmbeddingStore()
    assert len(store.clips("speech")) == 2
    assert "4 computed" in serfuse("--encoder", "counting").stdout
    assert "2 taken from the store" in serfuse("--encoder", "counting", "--limit", "2").stdout
    assert len(store.clips("speech")) == 6


def test_pad_max_means_the_whole_corpus_also_under_a_limit(serfuse, data: Path) -> None:
    wav(data / "sadness" / "long.wav", 9, 0.8)
    report = json.loads(serfuse("--encoder", "counting", "--limit", "1", "--pad", "max", "--json").stdout)
    assert report["pad"] == "max:0.800"


def test_the_papers_pooling_brings_the_papers_length(serfuse) -> None:
    report = json.loads(serfuse("--encoder", "counting", "--pool", "paper", "--json").stdout)
    assert report["pad"] == "5.000" and report["pooling"] == "paper"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_keeps_what_is_finished(serfuse, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    frames = counting_encoder.Counting.frames
    count: list[int] = []

    def signalled(self: object, waveform: np.ndarray) -> np.ndarray:
        count.append(1)
        if len(count) == 4:
            os.kill(os.getpid(), number)
        return frames(self, waveform)

    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        patch.setattr(counting_encoder.Counting, "frames", signalled)
        done = serfuse("--encoder", "counting", "--encoder", "counting-batch", "--json")
    assert done.exit_code == 130
    assert "3 more clips of counting are stored. Nothing is lost" in done.stderr
    report = json.loads(done.stdout)
    assert report["interrupted"] is True and [row["encoder"] for row in report["encoders"]] == ["counting"]
    assert signal.getsignal(number) == before
    assert "3 computed" in serfuse("--encoder", "counting").stdout


def test_a_store_that_cannot_be_written_is_an_error_before_any_work(serfuse, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    done = serfuse("--encoder", "counting", "--store", "file")
    assert done.exit_code == 1 and "Cannot write file" in done.stderr and "Traceback" not in done.output
    assert "--store FOLDER" in done.stderr and "SERFUSE_STORE" in done.stderr
    assert counting_encoder.HEARD == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--encoder", "hubbert"], "Unknown encoder 'hubbert'. Did you mean 'hubert'? Choose one of: wavlm"),
        (["--encoder", "hubert@layer=6"], "Here give --encoder hubert and --layer"),
        (["--encoder", "counting", "--pad", "long"], "Unknown pad policy 'long'"),
        (["--encoder", "counting", "--pool", "median"], "Unknown pooling 'median'. Choose one of"),
        (["--encoder", "counting", "--option", "colour=red"], "none of the encoders has an option 'colour'"),
        (["--encoder", "counting", "--option", "scale"], "expected KEY=VALUE"),
        (["--encoder", "counting", "--limit", "0"], "0 is not in the range"),
        (["--encoder", "counting", "--name", "a/b"], "Corpus name 'a/b': expected letters"),
        (["--encoder", "counting", "--weights", "hubert=x"], "hubert is not among the encoders: counting"),
        ([], "Missing option '--encoder'"),
    ],
)
def test_mistakes_are_answered_in_one_sentence(serfuse, arguments: list[str], says: str) -> None:
    done = serfuse(*arguments)
    assert done.exit_code in (1, 2) and says in " ".join(done.stderr.split()), done.output
    assert "Traceback" not in done.output and counting_encoder.HEARD == []


def test_mistakes_about_the_corpus(serfuse, tmp_path: Path, data: Path) -> None:
    run = CliRunner().invoke
    nothing = run(main, ["extract", "--corpus", "emodb", "--encoder", "counting"])
    assert nothing.exit_code == 2 and "Add --data" in nothing.stderr
    unknown = run(main, ["extract", "--corpus", "emdb", "--data", str(data), "--encoder", "counting"])
    assert unknown.exit_code == 1
    assert "Unknown corpus 'emdb'. Did you mean 'emodb'? Choose one of: cremad, emodb" in unknown.stderr
    (tmp_path / "clips.csv").write_text("path,emotion\nspeech/anger/0.wav,blorp\n")
    emotion = run(main, ["extract", "--corpus", "table", "--data", "clips.csv", "--encoder", "counting"])
    assert emotion.exit_code == 1 and "row 2: Unknown emotion 'blorp'. Choose one of:" in emotion.stderr


# --- which value goes to which encoder --------------------------------------------------------------------------


def test_values_for_all_go_to_those_they_can_concern() -> None:
    asked = load_requests(["hubert", "logmel", "wavlm"], weights=["random"], layers=["6"], options=["mels=64"], seed=5)
    assert [asked[name].weights for name in asked] == ["random", None, "random"]
    assert [asked[name].layer for name in asked] == ["6", "last", "6"]
    assert [asked[name].options for name in asked] == [{}, {"mels": 64}, {}]
    assert asked["hubert"].seed == 5


def test_values_for_one_go_to_that_one_whatever_the_others_get() -> None:
    asked = load_requests(
        ["hubert", "wavlm"], weights=["random", "hubert=/w/h=1"], layers=["3", "wavlm=last"], options=[]
    )
    assert [asked[name].weights for name in asked] == ["/w/h=1", "random"]
    assert [asked[name].layer for name in asked] == ["3", "last"]
    asked = load_requests(["audiomamba-tiny"], options=["audiomamba-tiny:layout=freq", "layout=time"])
    assert asked["audiomamba-tiny"].options == {"layout": "freq"}


def test_layers_that_are_repeated_or_parted_by_commas_are_all_meant() -> None:
    asked = load_requests(["hubert", "wavlm"], layers=["hubert=6", "hubert=9", "wavlm=all"])
    assert [asked[name].layer for name in asked] == ["6,9", "all"]
    asked = load_requests(["hubert", "wavlm"], layers=["0,6", "9", "wavlm=last"])
    assert [asked[name].layer for name in asked] == ["0,6,9", "last"]


def test_one_path_of_weights_serves_one_encoder() -> None:
    import click

    assert load_requests(["logmel", "hubert"], weights=["/w"])["hubert"].weights == "/w"
    with pytest.raises(click.UsageError, match="say for which encoder, for example --weights hubert=/w"):
        load_requests(["hubert", "wavlm"], weights=["/w"])


# --- through the installed command ------------------------------------------------------------------------------


def test_the_installed_command_is_this_one(data: Path, tmp_path: Path) -> None:
    (script,) = [item for item in entry_points(group="console_scripts") if item.name == "serfuse"]
    assert script.load() is main
    command = Path(sys.executable).parent / "serfuse"
    done = subprocess.run(
        [command, "extract", "--corpus", "table", "--data", data, "--encoder", "hubbert"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 1 and done.stderr.startswith("Error: Unknown encoder 'hubbert'"), done.stderr
    assert done.stdout == ""


@pytest.mark.slow
def test_logmel_imports_neither_tensorflow_nor_torch(data: Path, tmp_path: Path) -> None:
    code = (
        "import sys\nfrom serfuse.cli import main\n"
        f"arguments = ['extract', '--corpus', 'table', '--data', {str(data)!r}, '--encoder', 'logmel', "
        f"'--store', {str(tmp_path / 'store')!r}, '--json']\n"
        "try:\n    main(arguments)\nexcept SystemExit as end:\n    assert not end.code\n"
        "print('LOADED', *sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *report, loaded = done.stdout.splitlines()
    assert json.loads("\n".join(report))["encoders"][0]["done"] == 6
    heavy = {"torch", "tensorflow", "keras", "transformers", "jax", "matplotlib"}
    assert "librosa" in loaded.split() and not set(loaded.split()) & heavy


@pytest.mark.slow
def test_the_real_emodb(emodb_dir: Path, tmp_path: Path) -> None:
    arguments = ["extract", "--corpus", "emodb", "--data", str(emodb_dir), "--encoder", "logmel", "--limit", "21"]
    done = CliRunner().invoke(main, [*arguments, "--store", str(tmp_path / "store"), "--json"])
    report = json.loads(done.stdout)
    assert report["corpus"]["of"] == 535 and len(report["corpus"]["emotions"]) == 7
    assert report["encoders"][0]["done"] == 21 and report["encoders"][0]["vector_size"] == 160
    store = EmbeddingStore(tmp_path / "store")
    clips, matrices = store.join("emodb", [store.find("emodb", "logmel")])
    assert len(clips) == 21 and np.isfinite(matrices["logmel"]).all()
    assert clips["seconds"].between(1, 9).all()


@pytest.mark.slow
def test_odd_audio_is_counted_and_named_also_the_second_time(serfuse, data: Path) -> None:
    time = np.arange(16000) / 16000
    soundfile.write(data / "anger" / "0.wav", np.clip(5 * np.sin(900 * time) * np.sin(9 * time), -1, 1), 16000)
    path = data / "sadness" / "1.wav"
    soundfile.write(path, 0.2 * np.sin(900 * time) * np.sin(9 * time), 16000)
    content = bytearray(path.read_bytes())
    content[40:44] = bytes(4)  # never closed
    path.write_bytes(content)
    for _ in range(2):
        done = serfuse("--encoder", "counting", "--encoder", "logmel")
        assert done.stdout.count("     1  clipped (anger/0.wav: clipped: ") == 1
        assert "     1  header wrong or several recordings in one file (sadness/1.wav: was never" in done.stdout
    report = json.loads(serfuse("--encoder", "counting", "--json").stdout)["encoders"][0]["remarks"]
    assert report["counts"]["clipping"] == report["counts"]["file"] == 1
    assert {"clip": "sadness/1.wav", "kind": "file"}.items() <= next(
        row for row in report["clips"] if row["kind"] == "file"
    ).items()


def test_other_media_are_listed_with_their_reason(serfuse, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    m4a = b"\0\0\0\x20ftypM4A \0\0\0\0M4A mp42isom\0\0\0\0"
    (data / "anger" / "phone.m4a").write_bytes(m4a)
    (data / "anger" / "0.mp4").write_bytes(m4a)  # the film of a clip that is there as audio
    done = serfuse("--encoder", "counting")
    assert done.exit_code == 1 and "counting: 6 computed" in done.stdout and "1 failed" in done.stdout
    assert "phone.m4a: is MP4" in done.stdout and "pip install 'serfuse[codecs]'" in done.stdout
    assert "1 files (video?) lie beside audio of the same name and were left out: anger/0.mp4" in done.stdout


@pytest.mark.slow
def test_a_clip_far_longer_than_the_rest_is_named_before_all_are_padded_to_it(serfuse, data: Path) -> None:
    assert "far longer" not in serfuse("--encoder", "counting", "--pad", "max").stderr
    wav(data / "anger" / "long.wav", 9, 3.0)
    done = serfuse("--encoder", "counting", "--pad", "max")
    assert "1 of 7 clips is far longer than the rest (up to 0.3 s)" in done.stderr
    assert "anger/long.wav (3.0 s)" in done.stderr
    assert "far longer" not in serfuse("--encoder", "counting").stderr


def test_copies_in_another_container_have_one_sound(serfuse, data: Path) -> None:
    wave = np.random.default_rng(0).integers(-3000, 3000, 5000).astype("int16")
    soundfile.write(data / "anger" / "0.wav", wave, 16000)
    soundfile.write(data / "sadness" / "copy.flac", wave, 16000)
    assert serfuse("--encoder", "counting").exit_code == 0
    clips = EmbeddingStore("serfuse-store").clips("speech").set_index("id")
    assert clips["sound"].notna().all() and clips["sound"].nunique() == 6
    assert clips["sound"]["anger/0.wav"] == clips["sound"]["sadness/copy.flac"]
    assert clips["audio"].nunique() == 7
