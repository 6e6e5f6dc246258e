"""The table of encoders: names, presets and how both fit together."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from serfuse import encoders
from serfuse.encoders import LoadRequest, table_row
from serfuse.encoders.base import Encoder, EncoderEntry
from serfuse.errors import ConfigError, ExtensionError, UnknownNameError

THIRTEEN = [
    "wavlm",
    "wav2vec2",
    "hubert",
    "unispeech-sat",
    "mms-1b",
    "xvector",
    "audiomamba-tiny",
    "audiomamba-small",
    "audiomamba-base",
    "encodec",
    "dac",
    "speechtokenizer",
    "soundstream",
]


WIDER = [
    *("wavlm-base-plus", "wavlm-large", "hubert-large", "hubert-xlarge", "wav2vec2-large", "wav2vec2-robust"),
    *("xls-r-300m", "xls-r-1b", "xls-r-2b", "mms-300m", "data2vec-base", "data2vec-large", "audeering-dim"),
    *("emotion2vec", "emotion2vec-seed", "emotion2vec-plus", "emotion2vec-large", "beats"),
    *("w2v-bert-2.0", "whisper-tiny", "whisper-base", "whisper-small", "whisper-medium", "whisper-large-v1"),
    *("whisper-large-v2", "whisper-large-v3", "mimi", "snac-24khz", "snac-32khz", "snac-44khz", "ecapa"),
]


def test_the_papers_thirteen_those_people_use_and_small_ones() -> None:
    small = ["soundstream-lyra", "ge2e", "speech-embedding", "logmel", "prosody", "egemaps", "compare-2016"]
    assert encoders.names() == [*THIRTEEN, *WIDER, *small]


@pytest.mark.parametrize("name", encoders.names())
def test_every_line_names_an_entry_of_its_own_name(name) -> None:
    entry = encoders.ENCODERS.get(name)
    assert isinstance(entry, EncoderEntry) and entry.name == entry.preset.name == name


@pytest.mark.parametrize("name", encoders.names())
def test_presets_hold_what_the_list_shows(name) -> None:
    preset = encoders.preset(name)
    assert preset.family in ("attention", "mamba", "speaker", "keyword", "codec", "signal")
    assert preset.licence and preset.citation and preset.vector_size > 0 and preset.min_samples >= 1
    assert preset.paper_pooling in ("time", "channels")
    if preset.needs_weights:
        assert preset.files and preset.source and preset.trained_on
    if name in WIDER:
        assert preset.parameters and preset.megabytes and preset.paper_vector_size is None
    if name in THIRTEEN:
        assert preset.parameters and preset.paper_vector_size
    row = table_row(name)
    assert (row["name"], row["time"], row["mean-std"]) == (name, preset.vector_size, 2 * preset.vector_size)
    assert row["frame_rate"] == (preset.sample_rate / preset.hop if preset.hop else None)
    assert isinstance(row["weights_here"], bool) and row["where"]


@pytest.mark.parametrize("name", WIDER)
def test_the_page_says_what_the_preset_does(name) -> None:
    preset = encoders.preset(name)
    page = (Path(__file__).parents[2] / "docs" / "encoders.md").read_text("utf-8")
    cells = [name, preset.source, f"{preset.parameters:,}", f"{preset.megabytes:,}"]
    (row,) = [line for line in page.splitlines() if line.startswith(f"| `{name}` |")]
    for cell in [*cells, preset.licence, preset.trained_on, preset.citation]:
        assert cell in row


def test_hub_revisions_are_whole_commits() -> None:
    """A branch or a tag may move; forty hex digits cannot."""
    pinned = [revision for name in encoders.names() if (revision := encoders.preset(name).revision)]
    assert len(pinned) >= 5
    assert all(len(revision) == 40 and int(revision, 16) for revision in pinned)


@pytest.mark.slow
def test_unknown_names_list_the_choices() -> None:
    for call in (encoders.preset, encoders.load, encoders.weights_status, table_row):
        with pytest.raises(
            UnknownNameError,
            match=r"Unknown encoder 'huberd'\. Did you mean 'hubert'\? Choose one of: wavlm, .*hubert.*prosody",
        ):
            call("huberd")


def test_one_call_adds_an_encoder_and_a_name_stands_once() -> None:
    logmel = encoders.ENCODERS.get("logmel")
    mine = EncoderEntry(replace(logmel.preset, name="mine"), logmel.load)
    encoders.ENCODERS.register("mine", mine)
    try:
        assert encoders.names()[-1] == "mine" and table_row("mine")["family"] == "signal"
        assert encoders.load("mine").name == "mine"
    finally:
        encoders.ENCODERS.unregister("mine")
    with pytest.raises(ExtensionError, match="The encoder 'hubert' is there already, from serfuse"):
        encoders.ENCODERS.register("hubert", mine)


def test_the_libraries_that_decide_a_number_are_said_by_the_preset() -> None:
    from importlib import metadata

    said = {name: encoders.preset(name).libraries for name in encoders.names()}
    smile = dict.fromkeys(("egemaps", "compare-2016"), ("opensmile",))
    assert {name: found for name, found in said.items() if found} == {
        "logmel": ("librosa",),
        "prosody": ("librosa",),
        **smile,
    }
    deciding = {name: encoders.libraries(encoders.preset(name)) for name in said.keys() - smile}
    assert {name: found for name, found in deciding.items() if found} == {
        key: {"librosa": metadata.version("librosa")} for key in ("logmel", "prosody")
    }
    with pytest.raises(ConfigError, match="needs no-such-library, which is not installed"):
        encoders.libraries(replace(encoders.preset("logmel"), libraries=("no-such-library",)))


def test_loading_gives_an_encoder_that_knows_itself() -> None:
    encoder = encoders.load("logmel", LoadRequest())
    assert isinstance(encoder, Encoder)
    assert (encoder.name, encoder.sample_rate, encoder.layer, encoder.dtype) == ("logmel", 16000, "last", "float32")
    assert (encoder.weights_id, encoder.batches) == ("none", False)
    assert encoders.load("logmel").options == encoder.options


def test_importing_and_asking_loads_no_library_that_computes() -> None:
    code = (
        "import sys\n"
        "from serfuse import encoders\n"
        "for name in encoders.names():\n"
        "    encoders.preset(name), encoders.weights_status(name), encoders.table_row(name)\n"
        "heavy = {'torch', 'torchaudio', 'tensorflow', 'keras', 'transformers', 'librosa', 'speechbrain', 'encodec',\n"
        "         'scipy', 'sklearn', 'pandas', 'pyarrow', 'huggingface_hub', 'ai_edge_litert', 'soundfile'}\n"
        "loaded = heavy & {module.partition('.')[0] for module in sys.modules}\n"
        "assert not loaded, loaded"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_looking_for_a_gpu_after_tensorflow_has_is_no_warning() -> None:
    code = (
        "import warnings, tensorflow as tf; tf.config.list_physical_devices(); warnings.simplefilter('error')\n"
        "from serfuse.encoders.checks import resolve_device; print(resolve_device('auto') in ('cpu', 'cuda'))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.strip() == "True", done.stderr
