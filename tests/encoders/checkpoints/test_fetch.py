"""Weights that come from an address or out of a wheel: kept only if they are what was published."""

import hashlib
import io
import tarfile
import urllib.request
import zipfile
from dataclasses import replace
from email.message import Message
from http.client import IncompleteRead
from pathlib import Path
from urllib.response import addinfourl

import pytest

from serfuse import encoders
from serfuse.encoders import weights
from serfuse.encoders.base import EncoderEntry, EncoderPreset, PublishedFile
from serfuse.encoders.checkpoints.fetch import fetch
from serfuse.errors import UnknownNameError, WeightsError, WriteError

CONTENT = b"published weights" * 100
SHA256 = hashlib.sha256(CONTENT).hexdigest()
ADDRESS = PublishedFile("a.bin", SHA256, limit=2_000, address="https://weights.example/a.bin")
WHEEL = PublishedFile("b.bin", SHA256, limit=2_000, wheel="someweights==1.0", member="someweights/data/b.bin")


def preset(*published: PublishedFile) -> EncoderPreset:
    return EncoderPreset(
        name="fetched",
        family="codec",
        sample_rate=16000,
        vector_size=4,
        licence="MIT",
        source="https://weights.example/",
        files=tuple(file.name for file in published),
        published=published,
        where="Ask somebody.",
        citation="Nobody",
    )


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[int, dict[str, str], bytes]]:
    """Address -> what is answered there: status, headers, body."""
    pages: dict[str, tuple[int, dict[str, str], bytes]] = {}

    def answer(_handler: object, request: urllib.request.Request) -> addinfourl:
        if request.full_url not in pages:
            raise ConnectionRefusedError(111, "Connection refused")
        status, headers, body = pages[request.full_url]
        message = Message()
        for name, value in headers.items():
            message[name] = value
        response = addinfourl(io.BytesIO(body), message, request.full_url, status)
        response.msg = "as asked"
        return response

    def no_http(*_args: object) -> None:
        raise AssertionError("an address without encryption was asked")

    monkeypatch.setattr(urllib.request.HTTPSHandler, "https_open", answer)
    monkeypatch.setattr(urllib.request.HTTPHandler, "http_open", no_http)
    return pages


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_an_address_and_one_that_leads_on_to_another(served, nowhere) -> None:
    served[ADDRESS.address] = 302, {"Location": "https://elsewhere.example/a"}, b""
    served["https://elsewhere.example/a"] = 200, {}, CONTENT
    folder = fetch(preset(ADDRESS))
    assert folder == nowhere / "fetched" and left(folder) == ["a.bin"]
    assert (folder / "a.bin").read_bytes() == CONTENT
    # Where the publisher tells only the beginning of the hash, that much is compared.
    assert fetch(preset(replace(ADDRESS, sha256=SHA256[:8]))) == folder


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        ((200, {}, CONTENT[:-1]), r"1,699 bytes\) is not the published file: its sha256 is [0-9a-f]{64}, expected"),
        ((200, {}, CONTENT * 2), "more than the 2,000 bytes"),
        ((404, {}, b"no"), "HTTP Error 404"),
        ((302, {"Location": "http://weights.example/a.bin"}, b""), "does not begin with https://"),
        (None, "Connection refused"),
    ],
)
def test_what_is_not_the_published_file_is_not_kept(served, nowhere, page, reason) -> None:
    if page:
        served[ADDRESS.address] = page
    with pytest.raises(WeightsError, match=reason) as caught:
        fetch(preset(ADDRESS))
    message = str(caught.value)
    assert message.startswith("a.bin of fetched could not be had.") and "\n" not in message
    assert f"Ask somebody. Put a.bin into {nowhere / 'fetched'}" in message
    assert left(nowhere) == []


def test_a_failed_attempt_leaves_what_was_there(served, nowhere) -> None:
    (nowhere / "fetched").mkdir(parents=True)
    (nowhere / "fetched" / "a.bin").write_bytes(b"mine")
    served[ADDRESS.address] = 200, {}, b"other"
    with pytest.raises(WeightsError, match="not the published file"):
        fetch(preset(ADDRESS))
    assert (nowhere / "fetched" / "a.bin").read_bytes() == b"mine"


def test_a_connection_that_breaks_off_is_not_a_disk_that_cannot_be_written(served, nowhere, monkeypatch) -> None:
    served[ADDRESS.address] = 200, {}, CONTENT
    for error in (ConnectionResetError(104, "Connection reset by peer"), IncompleteRead(b"", 9)):

        def broken(_self: object, _size: int, error: Exception = error) -> bytes:
            raise error

        monkeypatch.setattr(addinfourl, "read", broken, raising=False)
        with pytest.raises(WeightsError, match=r"a\.bin of fetched could not be had\. It breaks off: "):
            fetch(preset(ADDRESS))
    assert left(nowhere) == []


def test_only_https(served, nowhere) -> None:
    for address in ("http://weights.example/a.bin", "file:///etc/hostname", ""):
        with pytest.raises(WeightsError, match="no address that begins with https://"):
            fetch(preset(replace(ADDRESS, address=address)))


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("SERFUSE_WEIGHTS", str(tmp_path / "file"))
    with pytest.raises(WriteError, match="Cannot write"):
        fetch(preset(ADDRESS))


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package registry for pip: a folder, and no other."""
    folder = tmp_path / "registry"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    return folder


def put_wheel(registry: Path, ran: Path, members: dict[str, bytes]) -> None:
    """The wheel someweights 1.0, which depends on something that nobody has, and whose code would leave a trace."""
    info = "someweights-1.0.dist-info"
    with zipfile.ZipFile(registry / "someweights-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("someweights/__init__.py", f"open({str(ran)!r}, 'w')")
        for name, content in members.items():
            wheel.writestr(name, content)
        wheel.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: someweights\nVersion: 1.0\nRequires-Dist: nobody-has-it\n"
        )
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


@pytest.mark.slow
def test_files_out_of_a_wheel_by_pip_and_nothing_of_it_runs(registry, nowhere, tmp_path, monkeypatch) -> None:
    # A folder called pip where the user stands is not what is meant.
    (tmp_path / "pip").mkdir()
    (tmp_path / "pip" / "__main__.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.chdir(tmp_path)
    put_wheel(registry, tmp_path / "ran", {WHEEL.member: CONTENT, "someweights/other.bin": b"other"})
    other = replace(WHEEL, name="c.bin", member="someweights/other.bin", sha256=hashlib.sha256(b"other").hexdigest())
    folder = fetch(preset(WHEEL, other))
    assert left(folder) == ["b.bin", "c.bin"] and (folder / "b.bin").read_bytes() == CONTENT
    # Another file of that name, or none.
    for wrong, reason in (
        (replace(WHEEL, name="d.bin", member=other.member), "not the published file"),
        (replace(WHEEL, name="d.bin", member="someweights/d.bin"), "holds 0 files someweights/d.bin, expected one"),
    ):
        with pytest.raises(WeightsError, match=reason):
            fetch(preset(wrong))
    assert left(folder) == ["b.bin", "c.bin"] and not (tmp_path / "ran").exists()


@pytest.mark.slow
def test_a_source_archive_is_not_built(registry, nowhere, tmp_path) -> None:
    """Its setup.py would be code of the package, run."""
    setup = f"open({str(tmp_path / 'ran')!r}, 'w')\n".encode()
    with tarfile.open(registry / "someweights-1.0.tar.gz", "w:gz") as archive:
        entry = tarfile.TarInfo("someweights-1.0/setup.py")
        entry.size = len(setup)
        archive.addfile(entry, io.BytesIO(setup))
    with pytest.raises(WeightsError, match=r"pip download someweights==1\.0: .*No matching distribution"):
        fetch(preset(WHEEL))
    assert not (tmp_path / "ran").exists() and left(nowhere) == []


@pytest.fixture
def fetched(served, nowhere):
    """An encoder `fetched` in the table, whose weights are at an address."""
    served[ADDRESS.address] = 200, {}, CONTENT
    encoders.ENCODERS.register("fetched", EncoderEntry(preset(ADDRESS), lambda *_: None))
    yield nowhere / "fetched"
    encoders.ENCODERS.unregister("fetched")


def test_get_brings_once_and_mends_what_differs(fetched, served) -> None:
    before = weights.status("fetched")
    assert (before.here, before.folder, before.bytes) == (False, fetched, 0)
    assert before.how == "serfuse weights get fetched" and before.source == ADDRESS.address
    with pytest.raises(WeightsError, match="fetched are not here"):
        weights.verify("fetched")
    first = weights.get("fetched")
    assert (first.here, first.fetched_now, first.bytes, first.licence) == (True, True, len(CONTENT), "MIT")
    page = served.pop(ADDRESS.address)
    assert weights.get("fetched").fetched_now is False, "no network is asked for what is here"
    (check,) = weights.verify("fetched")
    assert (check.path, check.sha256, check.state) == (fetched / "a.bin", SHA256, "published")
    (fetched / "a.bin").write_bytes(CONTENT[:-1] + b"?")
    assert weights.verify("fetched")[0].state == "differs"
    served[ADDRESS.address] = page
    assert weights.get("fetched").fetched_now is True
    assert weights.verify("fetched")[0].state == "published"


def test_what_the_hub_gave_is_compared_with_the_hubs_hash(nowhere, tmp_path, monkeypatch) -> None:
    """The hub's cache holds a large file under its sha256, and names lead there."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    xvector = encoders.preset("xvector")
    repository = tmp_path / "cache" / f"models--{xvector.source.replace('/', '--')}"
    commit = xvector.revision or "main"
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    blob = repository / "blobs" / SHA256
    blob.write_bytes(CONTENT)
    (snapshot / "embedding_model.ckpt").symlink_to(blob)
    assert [check.state for check in weights.verify("xvector")] == ["published"]
    assert weights.get("xvector").fetched_now is False
    blob.write_bytes(b"damaged")
    assert [check.state for check in weights.verify("xvector")] == ["differs"]
    (snapshot / "embedding_model.ckpt").unlink()
    (snapshot / "embedding_model.ckpt").write_bytes(CONTENT)
    assert [check.state for check in weights.verify("xvector")] == ["unpinned"]


def test_weights_that_no_command_can_bring(nowhere) -> None:
    with pytest.raises(WeightsError, match=r"of audiomamba-tiny are on no hub.* Google Drive folder"):
        weights.get("audiomamba-tiny")
    assert "Google Drive folder" in weights.status("audiomamba-tiny").how
    for call in (weights.get, weights.verify, weights.status, weights.path):
        with pytest.raises(WeightsError, match="logmel computes without weights"):
            call("logmel")
        with pytest.raises(UnknownNameError, match="Did you mean 'ge2e'"):
            call("ge2")


def test_every_pin_can_be_fetched() -> None:
    """A preset that says where its files are says it completely."""
    pinned = [name for name in encoders.names() if encoders.preset(name).published]
    assert {"ge2e", "speech-embedding", "soundstream-lyra"} <= set(pinned)
    for name in pinned:
        data = encoders.preset(name)
        assert {file.name for file in data.published} <= {part for entry in data.files for part in entry.split("|")}
        assert len(data.published) >= len(data.files) or len(data.files) == 1
        for file in data.published:
            assert 8 <= len(file.sha256) <= 64 and int(file.sha256, 16) and 0 < file.limit < 1 << 30
            assert bool(file.wheel and file.member) != file.address.startswith("https://")
