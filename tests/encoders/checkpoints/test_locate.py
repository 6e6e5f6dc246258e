"""Where weights are looked for, what identifies them, and what is said when they are not there."""

import hashlib
import os
import shutil
import socket
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from checkpoints import small_checkpoint, speechlike

from serfuse import encoders
from serfuse.encoders import LoadRequest
from serfuse.encoders.base import EncoderPreset
from serfuse.encoders.checkpoints.locate import Weights, find_weights, resolve, sha256, weights_root
from serfuse.errors import WeightsError

HUBERT = encoders.preset("hubert")
TWO = EncoderPreset("two", "codec", 16000, 4, source="https://example.org/two", files=("a.json", "b.bin|b.pt"))
ONE = replace(TWO, name="one", files=("b.bin|b.pt",))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "two"
    made.mkdir()
    (made / "a.json").write_text("{}")
    (made / "b.pt").write_bytes(b"weights")
    return made


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_checkpoint("hubert", tmp_path_factory.mktemp("weights") / "hubert")


def in_hub_cache(checkpoint: Path, cache: Path, name: str, revision: str, reference: str | None = None) -> Path:
    """Lay `checkpoint` down as huggingface_hub does: blobs, and a snapshot of links to them."""
    repository = cache / f"models--{name.replace('/', '--')}"
    snapshot = repository / "snapshots" / revision
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir(exist_ok=True)
    for path in checkpoint.iterdir():
        blob = repository / "blobs" / hashlib.sha256(path.read_bytes()).hexdigest()
        shutil.copy(path, blob)
        (snapshot / path.name).symlink_to(os.path.relpath(blob, snapshot))
    if reference:
        (repository / "refs").mkdir()
        (repository / "refs" / reference).write_text(revision)
    return snapshot


def test_the_weights_folder_follows_the_environment(monkeypatch, tmp_path) -> None:
    monkeypatch.delenv("SERFUSE_WEIGHTS", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert weights_root() == tmp_path / ".cache" / "serfuse" / "weights"
    monkeypatch.setenv("SERFUSE_WEIGHTS", "~/models")
    assert weights_root() == tmp_path / "models"


def test_no_weights_needed() -> None:
    logmel = encoders.preset("logmel")
    assert resolve(logmel, LoadRequest()) == Weights("none")
    assert find_weights(logmel) == (True, "needs none")
    for given in ("random", "/some/file"):
        with pytest.raises(WeightsError, match=f"logmel has no weights, so --weights {given} does not apply"):
            resolve(logmel, LoadRequest(weights=given))


def test_random() -> None:
    weights = resolve(TWO, LoadRequest(weights="random", seed=7))
    assert (weights.id, weights.seed, weights.random, weights.files) == ("random:7", 7, True, {})


def test_a_folder_and_its_identity(folder) -> None:
    weights = resolve(TWO, LoadRequest(weights=folder))
    assert weights.folder == folder and not weights.random
    assert weights.file("b.bin") == weights.file("b.pt") == folder / "b.pt"
    assert weights.file("a.json") == folder / "a.json"
    with pytest.raises(KeyError):
        weights.file("c.json")
    assert weights.id.startswith("sha256:") and len(weights.id) == 7 + 64
    # Any file of the folder may change an embedding; what is not of the encoder does not count.
    (folder / "README.md").write_text("hello")
    assert resolve(TWO, LoadRequest(weights=str(folder))).id == weights.id
    (folder / "a.json").write_text('{"do_normalize": true}')
    assert resolve(TWO, LoadRequest(weights=folder)).id != weights.id
    # A better alternative is taken as soon as it is there.
    (folder / "b.bin").write_bytes(b"other")
    assert resolve(TWO, LoadRequest(weights=folder)).file("b.pt").name == "b.bin"


def test_identity_does_not_depend_on_the_place(folder, tmp_path) -> None:
    copy = shutil.copytree(folder, tmp_path / "elsewhere")
    assert resolve(TWO, LoadRequest(weights=copy)).id == resolve(TWO, LoadRequest(weights=folder)).id


def test_a_single_file_may_have_any_name(tmp_path) -> None:
    path = tmp_path / "mine.weights"
    path.write_bytes(b"weights")
    weights = resolve(ONE, LoadRequest(weights=path))
    assert weights.id == f"sha256:{hashlib.sha256(b'weights').hexdigest()}" and weights.file("b.bin") == path
    assert find_weights(ONE, path) == (True, str(tmp_path))


def test_a_file_stands_for_its_folder_where_several_are_needed(folder) -> None:
    assert resolve(TWO, LoadRequest(weights=folder / "b.pt")).folder == folder
    (folder / "a.json").unlink()
    with pytest.raises(WeightsError, match=r"b\.pt lacks a\.json, which two needs"):
        resolve(TWO, LoadRequest(weights=folder / "b.pt"))


def test_paths_that_lead_nowhere(folder, monkeypatch) -> None:
    with pytest.raises(WeightsError, match=r"nothing: there is no such file or folder\. Expected the weights of two"):
        resolve(TWO, LoadRequest(weights=folder / "nothing"))
    (folder / "b.pt").unlink()
    for weights in (folder, str(folder)):
        with pytest.raises(WeightsError, match=r"lacks b\.bin or b\.pt, which two needs"):
            resolve(TWO, LoadRequest(weights=weights))
    found, reason = find_weights(TWO, folder)
    assert not found and "lacks b.bin or b.pt" in reason
    monkeypatch.setenv("HOME", str(folder.parent))
    assert find_weights(TWO, "~/two")[1].startswith(f"--weights {folder} lacks")


def test_the_weights_folder_comes_first(nowhere, checkpoint) -> None:
    in_hub_cache(checkpoint, Path(os.environ["HF_HUB_CACHE"]), HUBERT.source, HUBERT.revision)
    assert resolve(HUBERT, LoadRequest()).id.startswith("hub:")
    shutil.copytree(checkpoint, nowhere / "hubert")
    weights = resolve(HUBERT, LoadRequest())
    assert weights.id.startswith("sha256:") and weights.folder == nowhere / "hubert"
    assert encoders.weights_status("hubert") == (True, str(nowhere / "hubert"))


def test_an_incomplete_weights_folder_does_not_hide_the_hub(nowhere, checkpoint) -> None:
    shutil.copytree(checkpoint, nowhere / "hubert")
    (nowhere / "hubert" / "preprocessor_config.json").unlink()
    assert encoders.weights_status("hubert")[0] is False
    in_hub_cache(checkpoint, Path(os.environ["HF_HUB_CACHE"]), HUBERT.source, HUBERT.revision)
    assert resolve(HUBERT, LoadRequest()).id == f"hub:{HUBERT.source}@{HUBERT.revision}"


def test_the_pinned_revision_from_the_hubs_cache(nowhere, checkpoint, monkeypatch) -> None:
    cache = Path(os.environ["HF_HUB_CACHE"])
    in_hub_cache(checkpoint, cache, HUBERT.source, "0" * 40, reference="main")
    assert encoders.weights_status("hubert")[0] is False, "another revision is other weights"
    with pytest.raises(WeightsError, match=f"{HUBERT.source} is not complete in the hub's cache .* HF_HUB_OFFLINE"):
        encoders.load("hubert")
    snapshot = in_hub_cache(checkpoint, cache.parent / "second", HUBERT.source, HUBERT.revision)
    monkeypatch.setenv("HF_HUB_CACHE", str(cache.parent / "second"))
    assert encoders.weights_status("hubert") == (True, str(snapshot))
    encoder = encoders.load("hubert", LoadRequest(device="cpu"))
    assert encoder.weights_id == f"hub:{HUBERT.source}@{HUBERT.revision}"
    local = encoders.load("hubert", LoadRequest(weights=checkpoint, device="cpu"))
    np.testing.assert_array_equal(encoder.frames(speechlike(2000)), local.frames(speechlike(2000)))


def test_another_model_of_the_hub_by_name(nowhere, checkpoint) -> None:
    """`hub:NAME@REVISION`, and without a revision the commit that `main` stands for is what is recorded."""
    cache = Path(os.environ["HF_HUB_CACHE"])
    in_hub_cache(checkpoint, cache, "someone/tuned-hubert", "a" * 40, reference="main")
    for asked in ("hub:someone/tuned-hubert", f"hub:someone/tuned-hubert@{'a' * 40}"):
        assert resolve(HUBERT, LoadRequest(weights=asked)).id == f"hub:someone/tuned-hubert@{'a' * 40}"
    with pytest.raises(WeightsError, match="someone/tuned-hubert is not complete"):
        resolve(HUBERT, LoadRequest(weights="hub:someone/tuned-hubert@" + "b" * 40))


def test_without_a_network_the_error_says_what_to_do(nowhere, monkeypatch) -> None:
    """The hub's own client is asked, and what it raises becomes one sentence."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")

    def refuse(*_args, **_more):
        raise OSError("Network is unreachable")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)  # the client waits between five attempts
    with pytest.raises(WeightsError) as caught:
        resolve(HUBERT, LoadRequest())
    message = str(caught.value)
    assert message.startswith("The weights of hubert are not here. facebook/hubert-base-ls960 could not be had")
    assert f"https://huggingface.co/{HUBERT.source} (revision {HUBERT.revision})" in message
    assert f"into {nowhere / 'hubert'}" in message and "--weights random" in message and "\n" not in message


def test_download_takes_the_pinned_revision_and_only_the_files_that_are_needed(
    nowhere, checkpoint, monkeypatch
) -> None:
    import huggingface_hub

    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    asked = {}

    def offered(name, revision, timeout):
        files = ["README.md", "config.json", "preprocessor_config.json", "pytorch_model.bin", "tf_model.h5"]
        return SimpleNamespace(siblings=[SimpleNamespace(rfilename=file) for file in files])

    def fetch(name, revision, allow_patterns, cache_dir):
        asked.update(name=name, revision=revision, patterns=allow_patterns)
        (checkpoint.parent / "bin").mkdir()
        for path in checkpoint.iterdir():
            target = "pytorch_model.bin" if path.suffix == ".safetensors" else path.name
            shutil.copy(path, checkpoint.parent / "bin" / target)
        return str(in_hub_cache(checkpoint.parent / "bin", Path(cache_dir), name, revision))

    monkeypatch.setattr(huggingface_hub, "model_info", offered)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    weights = resolve(HUBERT, LoadRequest())
    assert weights.id == f"hub:{HUBERT.source}@{HUBERT.revision}"
    assert asked == {
        "name": HUBERT.source,
        "revision": HUBERT.revision,
        "patterns": ["config.json", "preprocessor_config.json", "pytorch_model.bin"],
    }


def test_hashes_are_of_the_content_as_it_is_now(tmp_path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"one")
    assert sha256(path) == hashlib.sha256(b"one").hexdigest()
    path.write_bytes(b"three")
    assert sha256(path) == hashlib.sha256(b"three").hexdigest()


@pytest.mark.parametrize("name", [name for name in encoders.names() if encoders.preset(name).needs_weights])
def test_every_message_tells_the_way(name, nowhere) -> None:
    """Where from, which file, and where to."""
    here, advice = encoders.weights_status(name)
    preset = encoders.preset(name)
    assert here is False
    assert str(nowhere / name) in advice
    assert "https://" in advice or "github.com" in advice
    assert any(file.split("|")[0] in advice for file in preset.files)
    with pytest.raises(WeightsError, match="not here") as caught:
        resolve(preset, LoadRequest())
    assert advice in str(caught.value)


def test_audio_mamba_comes_from_a_drive_folder(nowhere) -> None:
    advice = encoders.weights_status("audiomamba-small")[1]
    assert "Google Drive folder that the README of github.com/SarthakYadav/audio-mamba-official links" in advice
    assert "ssam_small_200_16x4_4x256_fp16_r1/checkpoints" in advice
    assert f"into {nowhere / 'audiomamba-small'}" in advice


def test_a_file_that_would_not_be_the_one_that_is_read_is_refused(folder) -> None:
    """Another checkpoint beside the published one must not silently give the published one's embeddings."""
    (folder / "mine.bin").write_bytes(b"mine")
    with pytest.raises(WeightsError, match=r"reads .*b\.pt.* from that folder, not mine\.bin"):
        resolve(TWO, LoadRequest(weights=folder / "mine.bin"))
    assert resolve(TWO, LoadRequest(weights=folder / "b.pt")).file("b.pt") == folder / "b.pt"


# --- pins that the hub does not know --------------------------------------------------------------------------

XVECTOR = encoders.preset("xvector")


@pytest.fixture
def hub(nowhere, tmp_path, monkeypatch) -> list[str | None]:
    """A hub that knows the branch `main` only, at commit "d" * 40; returns the revisions that it was asked for."""
    import huggingface_hub
    from huggingface_hub.errors import RevisionNotFoundError

    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    asked: list[str | None] = []
    files = tmp_path / "on-the-hub"
    files.mkdir()
    (files / "embedding_model.ckpt").write_bytes(b"weights")

    def offered(name, revision, timeout):
        asked.append(revision)
        if revision not in (None, "main"):
            response = SimpleNamespace(headers={}, request=None, status_code=404)
            raise RevisionNotFoundError(f"404: no revision {revision}", response=response)
        return SimpleNamespace(siblings=[SimpleNamespace(rfilename=path.name) for path in files.iterdir()])

    def fetch(name, revision, allow_patterns, cache_dir):
        assert revision in (None, "main") and allow_patterns == ["embedding_model.ckpt"]
        return str(in_hub_cache(files, Path(cache_dir), name, "d" * 40, reference="main"))

    monkeypatch.setattr(huggingface_hub, "model_info", offered)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    return asked


def test_a_pin_that_the_hub_does_not_know_gives_way_to_main(hub, monkeypatch) -> None:
    assert XVECTOR.revision == "56895a2df401be4150a159f3a1c653f00051d477"
    both = f"{XVECTOR.revision} of {XVECTOR.source} .* is not known to the hub: main, {'d' * 40}, is taken instead"
    with pytest.warns(UserWarning, match=both):
        weights = resolve(XVECTOR, LoadRequest())
    assert weights.id == f"hub:{XVECTOR.source}@{'d' * 40}", "the key says what is loaded"
    assert hub == [XVECTOR.revision, None]
    # Later without a network: what was taken then is taken again, with a warning.
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.warns(UserWarning, match=f"never seen on the hub: main, {'d' * 40}, is taken instead"):
        assert resolve(XVECTOR, LoadRequest()).id == weights.id
    assert encoders.weights_status("xvector")[0] is True
    # And a model that was trained on it asks for that commit.
    assert resolve(XVECTOR, LoadRequest(weights=weights.id, download=False)).id == weights.id


def test_only_a_pin_gives_way(hub) -> None:
    """A revision that the user names is meant, also where it is the pin's."""
    for asked in (f"hub:{XVECTOR.source}@{'e' * 40}", f"hub:{XVECTOR.source}@{XVECTOR.revision}"):
        with pytest.raises(WeightsError, match="could not be had from the hub: 404: no revision"):
            resolve(XVECTOR, LoadRequest(weights=asked))


def test_a_pin_that_the_hub_knows_is_taken_without_a_word(nowhere, tmp_path, recwarn) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "embedding_model.ckpt").write_bytes(b"weights")
    cache = Path(os.environ["HF_HUB_CACHE"])
    in_hub_cache(tmp_path / "files", cache, XVECTOR.source, "d" * 40, reference="main")
    in_hub_cache(tmp_path / "files", cache, XVECTOR.source, XVECTOR.revision)
    assert resolve(XVECTOR, LoadRequest()).id == f"hub:{XVECTOR.source}@{XVECTOR.revision}"
    assert not recwarn.list


UNPINNED = """
audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim
emotion2vec/emotion2vec_base emotion2vec/emotion2vec_plus_base emotion2vec/emotion2vec_plus_seed
facebook/data2vec-audio-base facebook/data2vec-audio-large facebook/hubert-large-ll60k facebook/hubert-xlarge-ll60k
facebook/mms-300m facebook/w2v-bert-2.0 facebook/wav2vec2-large facebook/wav2vec2-large-robust
facebook/wav2vec2-xls-r-1b facebook/wav2vec2-xls-r-2b facebook/wav2vec2-xls-r-300m
haydenshively/SoundStream hubertsiuzdak/snac_32khz hubertsiuzdak/snac_44khz kyutai/mimi
microsoft/wavlm-base-plus microsoft/wavlm-large
openai/whisper-base openai/whisper-large openai/whisper-large-v2 openai/whisper-large-v3 openai/whisper-medium
openai/whisper-small openai/whisper-tiny
"""


def test_every_other_model_of_the_hub_is_pinned() -> None:
    """Those are left of which no public code that was looked at names a commit."""
    presets = [encoders.preset(name) for name in encoders.names()]
    pins = {preset.source: preset.revision for preset in presets if preset.revision}
    assert pins["descript/dac_16khz"] == "7c2fc5e759f1f501aefc6e7a0265cc57f5d17ba7"
    assert pins["fnlp/SpeechTokenizer"] == "4d54939beef00572fa7bfe41ee35a335c3732f51"
    unpinned = {preset.source for preset in presets if preset.source.count("/") == 1} - set(pins)
    assert unpinned == set(UNPINNED.split())


def test_a_name_of_the_hub_is_recognised() -> None:
    with pytest.raises(WeightsError, match=r"no such file or folder.*give hub:facebook/hubert-base-ls960"):
        resolve(HUBERT, LoadRequest(weights="facebook/hubert-base-ls960"))


# --- several sets of files ------------------------------------------------------------------------------------


def test_the_first_set_of_files_that_is_whole_is_taken(tmp_path) -> None:
    several = replace(TWO, other_files=(("c.pth",), ("d-*.pth",)))

    def served(path: Path) -> list[str]:
        return sorted(file.name for file in resolve(several, LoadRequest(weights=path)).files.values())

    for name in ("a.json", "c.pth", "d-9.pth", "d-10.pth", "d-x.pth"):
        (tmp_path / name).write_bytes(name.encode())
    assert served(tmp_path) == ["c.pth"]
    assert served(tmp_path / "d-9.pth") == ["d-9.pth"], "a file that is given is the one that is read"
    (tmp_path / "b.bin").write_bytes(b"b")
    assert served(tmp_path) == served(tmp_path / "b.bin") == ["a.json", "b.bin"]
    assert served(tmp_path / "c.pth") == ["c.pth"]
    (tmp_path / "a.json").unlink()
    (tmp_path / "c.pth").unlink()
    assert served(tmp_path) == ["d-10.pth"]
