"""Checkpoints that torch.save wrote, and files made to do harm: the second are refused and nothing in them runs."""

import argparse
import builtins
import io
import os
import pickle
import struct
import sys
import types
import zipfile
from pathlib import Path

import pytest
import torch

from serfuse.encoders.checkpoints.restricted_unpickler import MAX_PICKLE
from serfuse.encoders.checkpoints.torch_file import read_checkpoint
from serfuse.errors import WeightsError


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    whole = torch.randn(4, 6, generator=generator)
    return {
        "plain": whole,
        "transposed": torch.randn(3, 5, generator=generator).T,
        "view": whole[1:3, 2:5],
        "half": whole.half(),
        "brain": whole.bfloat16(),
        "count": torch.tensor(7),
        "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(whole[0].clone()),
    }


@pytest.fixture
def config_class(monkeypatch: pytest.MonkeyPatch) -> type:
    """A class that pickles under ml_collections' name, which need not be installed to read the file."""
    name = "ml_collections.config_dict.config_dict"
    module = types.ModuleType(name)

    class ConfigDict:
        def __init__(self, **fields):
            self._fields = fields

    ConfigDict.__module__, ConfigDict.__qualname__ = name, "ConfigDict"
    module.ConfigDict = ConfigDict
    for parent in ("ml_collections", "ml_collections.config_dict"):
        monkeypatch.setitem(sys.modules, parent, types.ModuleType(parent))
    monkeypatch.setitem(sys.modules, name, module)
    return ConfigDict


def test_reads_what_the_official_training_script_writes(tmp_path, state, config_class):
    module = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(module.parameters())
    module(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    content = {
        "model": module.state_dict() | state,
        "optimizer": optimizer.state_dict(),
        "epoch": 99,
        "scaler": {"scale": 65536.0, "growth_interval": 2000, "on": True, "none": None},
        "args": config_class(model=config_class(sizes=(200, 80), kind=str), path=Path("x"), list=[1, "two"]),
        "more": argparse.Namespace(device=torch.device("cpu")),
    }
    path = tmp_path / "checkpoint-99.pth"
    torch.save(content, path)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)

    read = read_checkpoint(path)

    assert read.keys() == content["model"].keys()
    for name, tensor in content["model"].items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor.detach())


def test_reads_a_bare_state_dict(tmp_path, state):
    torch.save(state, tmp_path / "weights.pth")
    read = read_checkpoint(tmp_path / "weights.pth")
    assert all(torch.equal(read[name], tensor.detach()) for name, tensor in state.items())


class _Calls:
    """Pickles as a call of `function` with `arguments`."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def _archive(path: Path, data: bytes, compression: int = zipfile.ZIP_STORED, **storages: bytes) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", data)
        for key, content in storages.items():
            archive.writestr(f"archive/data/{key.removeprefix('k')}", content)
    return path


def _named(module: str, name: str, *arguments: str) -> bytes:
    """The opcodes of `module.name(*arguments)`, whatever there is by that name."""
    called = b"".join(b"X" + struct.pack("<I", len(text)) + text.encode() for text in arguments)
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + b"(" + called + b"tR."


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda mark: _Calls(os.system, f"touch {mark}"), "system"),
        (lambda mark: _Calls(builtins.eval, f"open({str(mark)!r}, 'w')"), "eval"),
        (lambda mark: _Calls(builtins.exec, f"open({str(mark)!r}, 'w')"), "exec"),
        (lambda mark: _Calls(getattr, "x", "join"), "getattr"),
        (lambda mark: _Calls(builtins.open, str(mark), "w"), "open"),
        (lambda mark: _Calls(torch.load, str(mark)), "torch.serialization.load"),
    ],
)
@pytest.mark.parametrize("beside", [True, False])
def test_names_that_are_not_admitted_are_refused_and_not_run(tmp_path, state, call, name, beside):
    mark = tmp_path / "ran"
    torch.save({"model": state, "args": call(mark)} if beside else call(mark), tmp_path / "hostile.pth")
    with pytest.raises(WeightsError, match=f"{name}, which weights have no need of") as error:
        read_checkpoint(tmp_path / "hostile.pth")
    assert "Nothing in it was run" in str(error.value)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("collections", "OrderedDict.fromkeys"),  # reached through an admitted one
        ("torch._utils", "_rebuild_tensor_v2.__globals__"),
        ("torch", "os.system"),
        ("torch", "FloatStorage.__init__"),
        ("torch.os", "system"),
        ("builtins", "__import__"),
        ("serfuse.encoders.checkpoints.restricted_unpickler", "_Global"),
    ],
)
def test_names_are_compared_whole(tmp_path, module, name):
    path = _archive(tmp_path / "x.pth", _named(module, name, "true"))
    with pytest.raises(WeightsError, match="was refused"):
        read_checkpoint(path)


def _tensor(count: int, size: tuple, stride: tuple, offset: int = 0, key: str = "0") -> bytes:
    """The pickle of {"model": {"w": tensor}} with these claims."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, thing):
            return ("storage", torch.FloatStorage, key, "cpu", count) if thing is marker else None

    marker = object()
    rebuild = torch._utils._rebuild_tensor_v2
    out = io.BytesIO()
    Pickler(out, protocol=2).dump({"model": {"w": _Calls(rebuild, marker, offset, size, stride, False, None)}})
    return out.getvalue()


def test_honest_claims_are_read(tmp_path):
    path = _archive(tmp_path / "x.pth", _tensor(4, (2, 2), (2, 1)), k0=struct.pack("<4f", 1, 2, 3, 4))
    assert read_checkpoint(path)["w"].tolist() == [[1, 2], [3, 4]]


_UNFIT = "does not fit its storage"


@pytest.mark.parametrize(
    ("claims", "says"),
    [
        # 4 TB in a file of some bytes; the same from one number, repeated
        (
            {"count": 1 << 40, "size": (1 << 40,), "stride": (1,)},
            r"claims 4398046511104 bytes under data/0 and holds 16",
        ),
        ({"count": 4, "size": (1 << 40,), "stride": (0,)}, _UNFIT),
        ({"count": 4, "size": (2, 2), "stride": (2, 1), "offset": 1}, _UNFIT),  # one number behind the end
        ({"count": 4, "size": (1,), "stride": (1,), "offset": 4}, _UNFIT),
        ({"count": 4, "size": (2,), "stride": (-1,), "offset": 3}, _UNFIT),
        ({"count": 4, "size": (-2, -2), "stride": (2, 1)}, _UNFIT),
        ({"count": 4, "size": (2, 2), "stride": (1,)}, _UNFIT),
        ({"count": 4, "size": (1,) * 9, "stride": (1,) * 9}, _UNFIT),
        ({"count": 5, "size": (5,), "stride": (1,)}, "claims 20 bytes under data/0 and holds 16"),
        ({"count": 3, "size": (3,), "stride": (1,)}, "claims 12 bytes under data/0 and holds 16"),
        ({"count": 4, "size": (4,), "stride": (1,), "key": "../data.pkl"}, None),
        ({"count": 4, "size": (4,), "stride": (1,), "key": "1"}, None),  # not there
    ],
)
def test_claims_that_the_bytes_do_not_bear_out_are_refused(tmp_path, claims, says):
    path = _archive(tmp_path / "x.pth", _tensor(**claims), k0=struct.pack("<4f", 1, 2, 3, 4))
    with pytest.raises(WeightsError, match=says):
        read_checkpoint(path)


def test_admitted_names_are_called_as_torch_calls_them_only(tmp_path):
    path = _archive(tmp_path / "x.pth", _named("collections", "OrderedDict", "x"))
    with pytest.raises(WeightsError, match=r"it calls collections\.OrderedDict"):
        read_checkpoint(path)


def test_attributes_of_an_admitted_name_cannot_be_set(tmp_path):
    path = _archive(tmp_path / "x.pth", b"\x80\x02ccollections\nOrderedDict\n}b.")
    with pytest.raises(WeightsError, match="it sets attributes of a Global"):
        read_checkpoint(path)


def test_many_tensors_on_one_storage_cannot_swell(tmp_path):
    base = torch.zeros(10_000)
    torch.save({"model": {str(number): base[:9_999] for number in range(50)}}, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match="claims 1999800 bytes"):
        read_checkpoint(tmp_path / "x.pth")


def test_names_from_the_file_reach_a_message_short_and_without_control_characters(tmp_path):
    path = _archive(tmp_path / "x.pth", _named("\x1b[2Jos", "s" * 100_000, "true"))
    with pytest.raises(WeightsError, match="was refused") as error:
        read_checkpoint(path)
    assert "\x1b" not in str(error.value) and len(str(error.value)) < 1000


def test_a_pickle_too_long_for_weights_is_refused(tmp_path):
    path = _archive(tmp_path / "x.pth", b"\x80\x02](" + b"}" * MAX_PICKLE + b"e.")
    with pytest.raises(WeightsError, match=f"more than {MAX_PICKLE}"):
        read_checkpoint(path)


def test_compressed_members_are_refused(tmp_path):
    count = 1 << 22
    path = _archive(tmp_path / "x.pth", _tensor(count, (count,), (1,)), zipfile.ZIP_DEFLATED, k0=bytes(4 * count))
    assert path.stat().st_size < 1 << 17
    with pytest.raises(WeightsError, match="is compressed, which"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80\x02",
        b"\x80\x02R.",
        b"\x80\x02}X\x05\x00\x00\x00modelq\x00",  # stops short
        b"\x80\x02r\xff\xff\xff\xff.",  # a memo of 4 billion places
        b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x7f.",  # a bytearray of 2**63 bytes
        b"\x80\x02X\xff\xff\xff\x7fshort.",
        b"\x80\x02cos\nsystem\n.",
        b"\x80\x02}" + b"(" + b")" + b"\x85" * 200_000 + b"K\x01u.",  # a key nested 200,000 deep
        b"cos\nsystem\n(S'true'\ntR.",  # protocol 0
        b"(S'true'\nios\nsystem\n.",
        b"\x80\x02\x82\x01.",  # extension registry
        b"\x80\x04\x8c\x02os\x8c\x06system\x93.",  # STACK_GLOBAL
    ],
)
def test_made_up_pickles_are_errors_of_the_weights(tmp_path, data):
    with pytest.raises(WeightsError):
        read_checkpoint(_archive(tmp_path / "x.pth", data))


@pytest.mark.parametrize("kept", [0, 10, 0.5, 0.999])
def test_truncated_files_are_refused(tmp_path, state, kept):
    torch.save({"model": state}, tmp_path / "x.pth")
    whole = (tmp_path / "x.pth").read_bytes()
    (tmp_path / "x.pth").write_bytes(whole[: kept if kept in (0, 10) else int(len(whole) * kept)])
    with pytest.raises(WeightsError, match="truncated"):
        read_checkpoint(tmp_path / "x.pth")


def test_changed_bytes_are_noticed(tmp_path):
    torch.save({"model": {"w": torch.full((1000,), 1.25)}}, tmp_path / "x.pth")
    data = (tmp_path / "x.pth").read_bytes()
    number = struct.pack("<f", 1.25)
    place = data.index(number * 100) + 400
    (tmp_path / "x.pth").write_bytes(data[:place] + struct.pack("<f", 1.5) + data[place + 4 :])
    with pytest.raises(WeightsError, match="damaged"):
        read_checkpoint(tmp_path / "x.pth")


@pytest.mark.parametrize("content", [{"epoch": 3}, [torch.zeros(2)], {"model": [1]}, {"model": {"w": 1.0}}, {}])
def test_files_without_weights_say_what_they_hold(tmp_path, content):
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match="hold"):
        read_checkpoint(tmp_path / "x.pth")


def test_other_zip_archives_and_other_files(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.pth", "w") as archive:
        archive.writestr("a/b.txt", "no weights")
    with pytest.raises(WeightsError, match=r"0 data\.pkl"):
        read_checkpoint(tmp_path / "x.pth")
    torch.save({"model": {}}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    with pytest.raises(WeightsError, match="holds no weights under 'model'"):
        read_checkpoint(tmp_path / "old.pth")
    with pytest.raises(WeightsError):
        read_checkpoint(tmp_path / "absent.pth")
