"""Files of many small records are read and written one by one, as they always were."""

import json
import tracemalloc
from pathlib import Path

import pytest
from store_rows import corpus_of, facts_of

from serfuse.errors import StoreError
from serfuse.store import DamageError, EmbeddingStore, heard, json_file
from serfuse.store.heard import Heard

ODD = {'quote " and \\': [1, [2.5, None]], "ü\n": "é", "": {}, "\ud800": [], "x": {"y": [{}]}}


@pytest.mark.parametrize("content", [ODD, {}, {"one": [1]}])
def test_items_are_written_as_a_whole_file_would_be(tmp_path: Path, content: dict) -> None:
    path, other = tmp_path / "items.json", tmp_path / "whole.json"
    json_file.write_items(path, "some", iter(content.items()))
    json_file.write(other, {"some": content}, indent=0)
    assert path.read_bytes() == other.read_bytes()
    assert json_file.read(path)["some"] == dict(json_file.items(path, "some")) == content


@pytest.mark.parametrize("indent", [0, 2])
@pytest.mark.parametrize("first", ["some", "other"])
def test_items_of_other_layouts_are_read_too(tmp_path: Path, indent: int, first: str) -> None:
    path, content = tmp_path / "file.json", {"a": [1, ["b"]], "c": []}
    json_file.write(path, {first: 1, "some": content} if first == "other" else {"some": content}, indent=indent)
    assert dict(json_file.items(path, "some")) == content
    path.write_text(json.dumps({"some": content}))  # of the first format, which has no seal
    assert dict(json_file.items(path, "some")) == content
    with pytest.raises(DamageError, match="is damaged"):
        dict(json_file.items(path, "absent"))


def test_wrong_bytes_among_items_and_formats_to_come_are_told(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    json_file.write_items(path, "some", [("a", 1), ("b", 2)])
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"a"', b'"z"'))
    with pytest.raises(DamageError, match="was changed, or is damaged"):
        next(json_file.items(path, "some"))
    path.write_bytes(whole[:-9])
    with pytest.raises(DamageError, match="cannot be read"):
        next(json_file.items(path, "some"))
    path.write_text('{"format": 9, "some": {"a": 1}}')
    with pytest.raises(StoreError, match="9"):
        next(json_file.items(path, "some"))


def test_what_was_heard_is_kept_of_clips_that_are_there(tmp_path: Path) -> None:
    store = EmbeddingStore(tmp_path)
    corpus = corpus_of("a", "b")
    store.write_corpus(corpus, facts_of(corpus))
    store.record_heard("c", {"a-1": Heard("1"), "b-1": Heard("2", (("clipped", "often"),)), "gone": Heard("3")})
    path = tmp_path / "c" / heard.NAME
    assert store.heard("c") == {"a-1": Heard("1"), "b-1": Heard("2", (("clipped", "often"),))}
    assert store.remarked("c") == {"b-1": Heard("2", (("clipped", "often"),))}
    before = path.stat().st_ino
    store.record_heard("c", {"a-1": Heard("1"), "gone": Heard("4")})
    assert path.stat().st_ino == before  # nothing new, nothing written
    store.record_heard("c", {"a-1": Heard("5")})
    assert store.heard("c")["a-1"] == Heard("5")
    left = corpus_of("b")
    store.write_corpus(left, facts_of(left))
    store.record_heard("c", {})
    assert set(store.heard("c")) == {"b-1"}


@pytest.mark.parametrize(
    "known",
    [
        {},
        {"a-1": Heard("1")},
        {"a-1": Heard("1"), "b-1": Heard("2", (("clipped", 'it says "x": [ and \\ too'), ("quiet", "")))},
        {'odd " one': Heard("1"), "b-1": Heard("\\")},
    ],
)
def test_digests_of_sounds_are_found_without_the_rest(tmp_path: Path, known: dict[str, Heard]) -> None:
    path = tmp_path / heard.NAME
    assert [column.to_pylist() for column in heard.sounds(path)] == [[], []]
    content = {audio: [item.sound, [list(remark) for remark in item.remarks]] for audio, item in known.items()}
    heard.write(path, known)
    for write in (
        lambda: None,
        lambda: json_file.write(path, {"clips": content}),  # in another layout
        lambda: path.write_text(json.dumps({"clips": content})),  # of the first format, which has no seal
    ):
        write()
        audio, sound = (column.to_pylist() for column in heard.sounds(path))
        assert dict(zip(audio, sound, strict=True)) == {name: item.sound for name, item in known.items()}
    heard.write(path, {"a": Heard("1")})
    path.write_bytes(path.read_bytes().replace(b'"1"', b'"2"'))
    with pytest.raises(DamageError, match="was changed"):
        heard.sounds(path)
    path.write_text(json_file.text({"clips": {}}, 0).replace('"format": 2', '"format": 9'))
    with pytest.raises(StoreError):
        heard.sounds(path)


def test_what_was_heard_of_many_clips_takes_little_memory(tmp_path: Path) -> None:
    """A record takes 150 bytes in the file. Looking for remarks takes that and no more; it took 690."""
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "corpus.json").write_text("{}")
    count = 5000
    heard.write(tmp_path / "c" / heard.NAME, {f"{n:064x}": Heard(f"{n:064x}") for n in range(count)})
    store = EmbeddingStore(tmp_path)
    store.remarked("c")
    tracemalloc.start()
    try:
        assert store.remarked("c") == {}
        assert tracemalloc.get_traced_memory()[1] < 350 * count
        tracemalloc.reset_peak()
        known = store.heard("c")
        assert len(known) == count and tracemalloc.get_traced_memory()[1] < 600 * count
    finally:
        tracemalloc.stop()
