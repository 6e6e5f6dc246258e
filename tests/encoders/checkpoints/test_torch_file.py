"""Files that torch.load would run out of memory or crash on are refused before; ordinary ones of both formats pass."""

import io
import json
import os
import pickle
import struct
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from checkpoints import SMALL

from serfuse import encoders
from serfuse.encoders import LoadRequest
from serfuse.encoders.checkpoints.torch_file import open_torch_file
from serfuse.errors import WeightsError

_DEEP_KEY = b"\x80\x02}(" + b")" + b"\x85" * 200_000 + b"K\x01u."
"""{((((...)))): 1}: to hash the key exhausts the C stack, which no `except` catches."""


class _Calls:
    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def read(path: Path) -> dict[str, torch.Tensor]:
    with open_torch_file(path) as file:
        return file.tensors(file.content)


def _described(count: int, size: Sequence[int], stride: Sequence[int], key: str = "0") -> bytes:
    """The pickle of one tensor "w" that makes these claims."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, thing):
            return ("storage", torch.FloatStorage, key, "cpu", count) if thing is marker else None

    marker, out = object(), io.BytesIO()
    tensor = _Calls(torch._utils._rebuild_tensor_v2, marker, 0, tuple(size), tuple(stride), False, OrderedDict())
    Pickler(out, protocol=2).dump({"w": tensor})
    return out.getvalue()


def _archive(path: Path, data: bytes, compression: int = zipfile.ZIP_STORED, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive, warnings.catch_warnings(action="ignore"):
        archive.writestr("archive/data.pkl", data)
        for name, content in members.items():
            archive.writestr(f"archive/{name.replace('_', '/')}", content)
    return path


@pytest.mark.parametrize("zipped", [True, False])
def test_what_torch_saves_is_read_as_torch_reads_it(tmp_path, zipped) -> None:
    module = torch.nn.BatchNorm1d(4)
    state = module.state_dict()  # an OrderedDict with an attribute, float32 and int64
    state["half"], state["parameter"] = torch.ones(3).half(), torch.nn.Parameter(torch.ones(2))
    state["view"] = torch.arange(20.0).reshape(4, 5)[1:3, ::2]
    torch.save(state, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
    got, expected = read(tmp_path / "x.pt"), torch.load(tmp_path / "x.pt", weights_only=True)
    assert list(got) == list(expected)
    for name, tensor in expected.items():
        assert got[name].dtype == tensor.dtype
        assert torch.equal(got[name], tensor)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_name_beside_the_weights_is_refused_and_not_run(tmp_path, zipped) -> None:
    content = {"w": torch.zeros(2), "x": _Calls(os.system, f"touch {tmp_path / 'ran'}")}
    torch.save(content, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r"it names \w+\.system, which weights have no need of; nothing in it was run"):
        read(tmp_path / "x.pt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: _archive(path, _DEEP_KEY), "it uses a tuple as a key"),
        (lambda path: path.write_bytes(_DEEP_KEY), "it uses a tuple as a key"),  # the format before zip
        (
            lambda path: _archive(
                path, _described(1 << 24, [1 << 24], [1]), zipfile.ZIP_DEFLATED, data_0=bytes(1 << 26)
            ),
            "is compressed",
        ),
        (lambda path: _archive(path, _described(1 << 40, [1 << 40], [1]), data_0=bytes(16)), "and holds 16"),
        (lambda path: _archive(path, _described(4, [1 << 40], [0]), data_0=bytes(16)), "does not fit its storage"),
        (lambda path: _archive(path, _described(4, [4], [1], key="7"), data_0=bytes(16)), "under data/7 and holds 0"),
        (lambda path: _archive(path, b"\x80\x02}" + b"0}" * (3 << 20) + b"."), "its pickle has 6291460 bytes"),
        (lambda path: path.write_bytes(b"\x80\x02}" + b"0}" * (3 << 20) + b"."), "its pickle has more than"),
        (lambda path: _archive(path, _described(4, [4], [1]), data_0=bytes(16), DATA_0=bytes(16)), "a member twice"),
        (
            lambda path: path.write_bytes(b"\x80\x02X" + struct.pack("<I", 1 << 31) + b"short"),
            "its pickle has|EOFError",
        ),
        (lambda path: path.write_bytes(b""), "EOFError"),
        (lambda path: zipfile.ZipFile(path, "w").close(), "truncated or damaged"),
        (lambda path: zipfile.ZipFile(path, "w").writestr("archive/other", b""), "truncated or damaged"),  # left open
    ],
)
def test_files_made_to_do_harm_are_refused(tmp_path, make, says) -> None:
    make(tmp_path / "x.pt")
    with pytest.raises(ValueError, match=says):
        read(tmp_path / "x.pt")


def test_claims_of_the_older_format(tmp_path) -> None:
    """Its storages follow the pickles, and torch sets their memory aside before it reads them."""
    out = io.BytesIO()
    for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
        pickle.dump(part, out, protocol=2)
    out.write(_described(1 << 40, [1 << 40], [1]))
    (tmp_path / "x.pt").write_bytes(out.getvalue())
    with pytest.raises(ValueError, match=f"claims {1 << 42} bytes of weights"):
        read(tmp_path / "x.pt")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["xvector", "encodec", "speechtokenizer", "soundstream"])
def test_every_encoder_of_one_file_looks_first(tmp_path, name) -> None:
    """Without the check the process would end here."""
    path = _archive(tmp_path / "x.pt", _DEEP_KEY)
    with pytest.raises(WeightsError, match=f"could not be read as a checkpoint of {name}: it uses a tuple as a key"):
        encoders.load(name, LoadRequest(weights=path, device="cpu"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hubert", "dac"])
def test_every_encoder_of_transformers_looks_first(tmp_path, name) -> None:
    settings = {
        "hubert": SMALL | {"num_hidden_layers": 1, "conv_dim": [1] * 7},
        "dac": {"encoder_hidden_size": 1, "downsampling_ratios": [2, 4, 5, 8]},
    }
    (tmp_path / "config.json").write_text(json.dumps({"model_type": name, **settings[name]}))
    (tmp_path / "preprocessor_config.json").write_text('{"sampling_rate": 16000, "do_normalize": true}')
    _archive(tmp_path / "pytorch_model.bin", _DEEP_KEY)
    with pytest.raises(WeightsError, match=f"could not be read as a checkpoint of {name}: it uses a tuple as a key"):
        encoders.load(name, LoadRequest(weights=tmp_path, device="cpu"))


def test_widths_that_only_the_first_tensor_claims_set_no_memory_aside(tmp_path) -> None:
    """A codec's widths are read off its first and last tensor; 60,000 filters would be a model of many gigabytes."""
    from codec_checkpoints import encodec_state, whole

    state = whole(encodec_state())
    state["encoder.model.0.conv.conv.weight_v"] = torch.zeros(60_000, 1, 7)
    torch.save(state, tmp_path / "x.pt")
    with pytest.raises(WeightsError, match=r"holds another model than encodec: .* weights have another shape"):
        encoders.load("encodec", LoadRequest(weights=tmp_path / "x.pt", device="cpu"))


def test_many_tensors_on_one_storage_cannot_swell(tmp_path) -> None:
    from codec_checkpoints import soundstream_state, whole

    state = whole(soundstream_state())
    largest = max(state.values(), key=torch.Tensor.numel)
    pool = torch.zeros(largest.numel())
    state = {name: pool[: tensor.numel()].reshape(tensor.shape) for name, tensor in state.items()}
    torch.save(state, tmp_path / "x.pt")
    with pytest.raises(WeightsError, match=r"claims \d+ bytes of weights, but the file has"):
        encoders.load("soundstream", LoadRequest(weights=tmp_path / "x.pt", device="cpu"))


# --- files that are one thing to one reader and another to the next -------------------------------------------


def _saved(state: dict, *, zipped: bool = True) -> bytes:
    out = io.BytesIO()
    torch.save(state, out, _use_new_zipfile_serialization=zipped)
    return out.getvalue()


def _behind(front: bytes, path: Path) -> bytes:
    """`front`, and a good archive behind it whose directory counts from the beginning of the file."""
    path.write_bytes(front)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/data.pkl", _described(4, [4], [1]))
        archive.writestr("archive/data/0", bytes(16))
    return path.read_bytes()


def _other_directory(good: bytes) -> bytes:
    """A file of torch.save whose zip64 record, which torch's reader follows, names another directory than its end."""
    place = good.rindex(b"PK\x06\x06") + 48
    return good[:place] + struct.pack("<Q", struct.unpack("<Q", good[place : place + 8])[0] - 100) + good[place + 8 :]


_GOOD = {"w": torch.arange(4.0)}
_OTHER = _saved({"w": torch.ones(4)})
_FACES = {
    "older format, zip behind": lambda path: _behind(_saved(_GOOD, zipped=False), path),
    "harmful pickle, zip behind": lambda path: _behind(_DEEP_KEY, path),
    "zip, zip behind": lambda path: _saved(_GOOD) + _OTHER,
    "archive without its end, zip behind": lambda path: _behind(_saved(_GOOD)[:-22], path),
    "something before the zip": lambda path: b"#!/bin/sh\n" + _saved(_GOOD),
    "something behind the zip": lambda path: _saved(_GOOD) + b"more",
    "something behind the older format": lambda path: _saved(_GOOD, zipped=False) + b"more",
    "zip in the comment of a zip": lambda path: _saved(_GOOD)[:-2] + struct.pack("<H", len(_OTHER)) + _OTHER,
    "another directory by zip64": lambda path: _other_directory(_saved(_GOOD)),
}


@pytest.mark.parametrize("face", _FACES)
def test_a_file_with_two_faces_is_refused(tmp_path, face) -> None:
    """torch decides by the first bytes and Python's zipfile by the last; to pass the check as one is not enough."""
    (tmp_path / "x.pt").write_bytes(_FACES[face](tmp_path / "made"))
    with pytest.raises(ValueError, match=r"which weights have no need of|truncated or damaged"):
        read(tmp_path / "x.pt")


def test_every_byte_of_an_archive_belongs_to_a_member(tmp_path) -> None:
    """Bytes between two members, or members on top of each other, would be another archive to a reader that scans."""
    good = _archive(tmp_path / "x.pt", _described(4, [4], [1]), data_0=bytes(16)).read_bytes()
    with zipfile.ZipFile(tmp_path / "x.pt") as archive:
        second, directory = archive.infolist()[1].header_offset, archive.start_dir
    assert read(tmp_path / "x.pt")["w"].tolist() == [0] * 4

    def place(data: bytes, at: int, offset: int) -> bytes:
        return data[:at] + struct.pack("<L", offset) + data[at + 4 :]

    entry = good.index(b"PK\x01\x02", directory + 1) + 42
    gap = good[:second] + bytes(8) + good[second:]
    gap = place(place(gap, entry + 8, second + 8), len(gap) - 6, directory + 8)
    for made, says in ((gap, "belong to no member"), (place(good, entry, 0), "belong to no member|another member")):
        (tmp_path / "x.pt").write_bytes(made)
        with pytest.raises(ValueError, match=says):
            read(tmp_path / "x.pt")


@pytest.mark.parametrize("zipped", [True, False])
def test_damage_anywhere_is_an_error_or_changes_nothing(tmp_path, zipped) -> None:
    """In the zip format, which has checksums; the older one has none for its numbers."""
    good = _saved({"w": torch.arange(6.0).reshape(2, 3)}, zipped=zipped)
    for place in range(0, len(good), 7):
        (tmp_path / "x.pt").write_bytes(good[:place] + bytes([good[place] ^ 0x10]) + good[place + 1 :])
        try:
            state = read(tmp_path / "x.pt")
        except ValueError:
            continue
        values = [tensor.flatten().tolist() for tensor in state.values()]
        assert not zipped or values in ([list(range(6))], [[0, 2, 4, 1, 3, 5]]), place
    for length in range(0, len(good), 11):
        (tmp_path / "x.pt").write_bytes(good[:length])
        with pytest.raises(ValueError, match=r"truncated or damaged|no need of"):
            read(tmp_path / "x.pt")


def test_a_pipe_is_no_checkpoint(tmp_path) -> None:
    os.mkfifo(tmp_path / "x.pt")
    with pytest.raises(WeightsError, match="is no regular file"):
        read(tmp_path / "x.pt")
    with pytest.raises(WeightsError, match=r"lacks|no regular file"):
        encoders.load("soundstream", LoadRequest(weights=tmp_path / "x.pt", device="cpu"))


def test_what_is_loaded_is_what_the_key_stands_for(tmp_path, monkeypatch) -> None:
    """A file that is written while it is loaded: other embeddings under the key of the first content."""
    from codec_checkpoints import soundstream_state, whole

    from serfuse.encoders.checkpoints import state_dict

    path = tmp_path / "x.pt"
    torch.save(whole(soundstream_state()), path)
    opened = state_dict.open_torch_file

    def replaced_meanwhile(path: Path):
        path.write_bytes(path.read_bytes())
        return opened(path)

    monkeypatch.setattr(state_dict, "open_torch_file", replaced_meanwhile)
    with pytest.raises(WeightsError, match="was changed while it was being loaded"):
        encoders.load("soundstream", LoadRequest(weights=path, device="cpu"))
