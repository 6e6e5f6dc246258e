"""The table of encoders: names, presets and how both fit together."""

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from serfuse import encoders
from serfuse.encoders import LoadRequest, table_row
from serfuse.encoders.base import Encoder
from serfuse.encoders.presets import PRESETS
from serfuse.errors import UnknownNameError
from serfuse.registry import Registry

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


def test_the_thirteen_and_three_more() -> None:
    assert encoders.names() == [*THIRTEEN, "soundstream-lyra", "logmel", "prosody"]


def test_every_line_has_a_preset_and_every_preset_a_line() -> None:
    assert set(PRESETS) == set(encoders.ENCODERS)
    assert all(preset.name == name for name, preset in PRESETS.items())


@pytest.mark.parametrize("name", encoders.names())
def test_every_line_names_a_function_of_the_interface(name) -> None:
    module, _, function = encoders.ENCODERS._entries[name].partition(":")
    path = Path(importlib.util.find_spec(module).origin)
    found = [node for node in ast.parse(path.read_text("utf-8")).body if getattr(node, "name", None) == function]
    assert [argument.arg for argument in found[0].args.args] == ["preset", "request"]


@pytest.mark.parametrize("name", encoders.names())
def test_presets_hold_what_the_list_shows(name) -> None:
    preset = encoders.preset(name)
    assert preset.family in ("attention", "mamba", "speaker", "codec", "signal")
    assert preset.licence and preset.citation and preset.vector_size > 0 and preset.min_samples >= 1
    assert preset.paper_pooling in ("time", "channels")
    if preset.needs_weights:
        assert preset.files and preset.source
    if name in THIRTEEN:
        assert preset.parameters and preset.paper_vector_size
    row = table_row(name)
    assert (row["name"], row["time"], row["mean-std"]) == (name, preset.vector_size, 2 * preset.vector_size)
    assert row["frame_rate"] == (preset.sample_rate / preset.hop if preset.hop else None)
    assert isinstance(row["weights_here"], bool) and row["where"]


def test_hub_revisions_are_whole_commits() -> None:
    """A branch or a tag may move; forty hex digits cannot."""
    pinned = [preset.revision for preset in PRESETS.values() if preset.revision]
    assert len(pinned) >= 5
    assert all(len(revision) == 40 and int(revision, 16) for revision in pinned)


def test_unknown_names_list_the_choices() -> None:
    for call in (encoders.preset, encoders.load, encoders.weights_status, table_row):
        with pytest.raises(
            UnknownNameError,
            match=r"Unknown encoder 'huberd'\. Did you mean 'hubert'\? Choose one of: wavlm, .*hubert.*prosody",
        ):
            call("huberd")


def test_one_line_adds_an_encoder_and_a_name_stands_once(monkeypatch) -> None:
    """What the documentation promises, tried: a preset, a file with `load`, a line."""
    from dataclasses import replace

    entries = list(encoders.ENCODERS._entries.items())
    grown = Registry("encoder", [*entries, ("constant", "counting_encoder:load")])
    monkeypatch.setattr(encoders, "ENCODERS", grown)
    monkeypatch.setitem(PRESETS, "constant", replace(PRESETS["logmel"], name="constant"))
    assert encoders.names()[-1] == "constant" and table_row("constant")["family"] == "signal"
    with pytest.raises(ValueError, match="'hubert' is registered twice"):
        Registry("encoder", [*entries, ("hubert", "serfuse.encoders.dac:load")])


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


def test_looking_for_a_gpu_after_tensorflow_has_is_no_warning() -> None:
    code = (
        "import warnings, tensorflow as tf; tf.config.list_physical_devices(); warnings.simplefilter('error')\n"
        "from serfuse.encoders.checks import resolve_device; print(resolve_device('auto') in ('cpu', 'cuda'))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.strip() == "True", done.stderr
