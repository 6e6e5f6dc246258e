"""The embedding store: rows belong to a clip and its audio, writers never lose each other's rows, damage is named."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from serfuse.corpora.base import Clip, Corpus
from serfuse.errors import StoreError, StoreWriteError
from serfuse.store import AudioFacts, EmbeddingStore, FileStamp, Skipped, clip_table, key_folder, parquet
from serfuse.store.key import EXTRACTION_VERSION, EmbeddingKey

KEY = EmbeddingKey("hubert", weights="hub:x@1")


def corpus_of(*ids: str, name: str = "c") -> Corpus:
    return Corpus(name, tuple(Clip(i, Path(f"/nowhere/{i}.wav"), "anger", i[0], i[1:]) for i in sorted(ids)))


def facts_of(corpus: Corpus, version: str = "1") -> dict[str, AudioFacts]:
    return {clip.id: AudioFacts(f"{clip.id}-{version}", 1.0) for clip in corpus.clips}


def rows_of(ids: list[str], size: int = 3) -> np.ndarray:
    """A vector that tells which clip it is of."""
    return np.stack([np.random.default_rng(list(i.encode())).normal(size=size) for i in ids]).astype(np.float32)


@pytest.fixture
def store(tmp_path: Path) -> EmbeddingStore:
    return EmbeddingStore(tmp_path / "store")


@pytest.fixture
def filled(store: EmbeddingStore) -> EmbeddingStore:
    """Four clips, all with embeddings under `KEY`, in two parts."""
    corpus = corpus_of("a1", "a2", "b1", "b2")
    store.write_corpus(corpus, facts_of(corpus), source={"corpus": "table", "data": "/data/my clips.csv"})
    for ids in (["b2", "a1"], ["b1", "a2"]):
        store.append("c", KEY, ids, [f"{i}-1" for i in ids], rows_of(ids))
    return store


def parts(store: EmbeddingStore, key: EmbeddingKey = KEY, corpus: str = "c") -> list[Path]:
    return sorted((store.root / corpus / key.folder).glob("part-*.parquet"))


# --- rows -------------------------------------------------------------------------------------------------------


def test_rows_come_back_by_clip_whatever_the_order_they_were_given_in(filled: EmbeddingStore) -> None:
    ids, matrix = filled.load("c", KEY)
    assert ids == ["a1", "a2", "b1", "b2"]
    assert matrix.dtype == np.float32
    np.testing.assert_array_equal(matrix, rows_of(ids))


def test_float32_survives_to_the_last_bit(store: EmbeddingStore) -> None:
    rng = np.random.default_rng(0)
    corpus = corpus_of(*(f"x{i:03d}" for i in range(200)))
    ids = [clip.id for clip in corpus.clips]
    matrix = (rng.normal(size=(200, 17)) * 10.0 ** rng.integers(-38, 38, (200, 17))).astype(np.float32)
    matrix[0, :3] = [-0.0, np.float32(1e-45), np.finfo(np.float32).max]
    order = rng.permutation(200)
    store.write_corpus(corpus, facts_of(corpus))
    for some in np.array_split(order, 7):
        store.append("c", KEY, [ids[i] for i in some], [f"{ids[i]}-1" for i in some], matrix[some])
    assert store.load("c", KEY)[1].tobytes() == matrix.tobytes()
    store.compact("c", KEY)
    assert len(parts(store)) == 1
    assert store.load("c", KEY)[1].tobytes() == matrix.tobytes()


def test_only_rows_of_the_present_audio_count(filled: EmbeddingStore) -> None:
    corpus = corpus_of("a1", "a2", "b1", "b2")
    changed = {**facts_of(corpus), "a2": AudioFacts("a2-2", 1.0)}
    filled.write_corpus(corpus, changed)
    assert filled.load("c", KEY)[0] == ["a1", "b1", "b2"]
    assert filled.present("c", KEY)["a2"] == "a2-1", "it is there, but of other audio"
    filled.append("c", KEY, ["a2"], ["a2-2"], np.full((1, 3), 7.0))
    ids, matrix = filled.load("c", KEY)
    np.testing.assert_array_equal(matrix[ids.index("a2")], [7, 7, 7])
    filled.compact("c", KEY)
    filled.write_corpus(corpus, facts_of(corpus))  # the old file is put back
    ids, matrix = filled.load("c", KEY)
    np.testing.assert_array_equal(matrix, rows_of(ids), "its old row is still known")


def test_of_two_rows_for_the_same_audio_the_later_counts(filled: EmbeddingStore) -> None:
    filled.append("c", KEY, ["b1"], ["b1-1"], np.full((1, 3), 9.0))
    for _ in range(2):
        ids, matrix = filled.load("c", KEY)
        np.testing.assert_array_equal(matrix[ids.index("b1")], [9, 9, 9])
        filled.compact("c", KEY)


def test_unreadable_audio_has_no_rows(store: EmbeddingStore) -> None:
    corpus = corpus_of("a1", "a2")
    store.write_corpus(corpus, {"a1": AudioFacts("a1-1", 1.0), "a2": AudioFacts(None, problem="gone")})
    store.append("c", KEY, ["a1", "a2"], ["a1-1", "a2-1"], rows_of(["a1", "a2"]))
    assert store.load("c", KEY)[0] == ["a1"]


@pytest.mark.parametrize(
    ("ids", "hashes", "matrix", "says"),
    [
        (["a1"], ["a1-1"], np.zeros((2, 3)), "one row per clip"),
        (["a1"], ["a1-1"], np.zeros(3), "one row per clip"),
        ([], [], np.zeros((0, 3)), "one row per clip"),
        (["a1", "a1"], ["x", "y"], np.zeros((2, 3)), "unique"),
        (["a1"], [""], np.zeros((1, 3)), "empty"),
        (["a1", "a2"], ["x", "y"], np.array([[0.0] * 3, [0, np.nan, 0]]), "'a2' holds values that are not finite"),
        (["a1"], ["x"], np.full((1, 3), 1e300), "not finite"),
        (["a1"], ["a1-1"], np.zeros((1, 4)), "have 3 values in the store, but 4"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning")  # 1e300 is meant to overflow
def test_rows_that_make_no_sense_are_refused(filled: EmbeddingStore, ids, hashes, matrix, says) -> None:
    before = [path.name for path in parts(filled)]
    with pytest.raises(StoreError, match=says):
        filled.append("c", KEY, ids, hashes, matrix)
    assert [path.name for path in parts(filled)] == before


def test_keys_do_not_mix(filled: EmbeddingStore) -> None:
    other = replace(KEY, pooling="mean-std")
    filled.append("c", other, ["a1"], ["a1-1"], np.zeros((1, 6)))
    assert {key.pooling for key in filled.keys("c")} == {"time", "mean-std"}
    assert filled.load("c", other)[1].shape == (1, 6) and filled.load("c", KEY)[1].shape == (4, 3)
    stray = parts(filled, other)[0]
    stray.rename(parts(filled)[0].with_name(stray.name))
    with pytest.raises(StoreError, match="another kind"):
        filled.load("c", KEY)


# --- joining ----------------------------------------------------------------------------------------------------


def test_labels_and_matrices_are_joined_by_clip_id(filled: EmbeddingStore) -> None:
    other = EmbeddingKey("logmel")
    ids = ["b1", "a2", "b2", "a1"]
    filled.append("c", other, ids, [f"{i}-1" for i in ids], rows_of(ids, 5))
    clips, matrices = filled.join("c", [KEY, other])
    assert list(clips["id"]) == ["a1", "a2", "b1", "b2"] and list(clips["speaker"]) == ["a", "a", "b", "b"]
    np.testing.assert_array_equal(matrices["hubert"], rows_of(list(clips["id"])))
    np.testing.assert_array_equal(matrices["logmel"], rows_of(list(clips["id"]), 5))
    assert clips.attrs["dropped"] == []


def test_a_missing_row_is_an_error_with_the_command_unless_it_was_skipped(filled: EmbeddingStore) -> None:
    other = EmbeddingKey("logmel", options={"mels": 64, "change": True}, weights="none")
    filled.append("c", other, ["a1", "b2"], ["a1-1", "b2-1"], rows_of(["a1", "b2"]))
    with pytest.raises(StoreError, match=r"lacks 2: a2, b1") as caught:
        filled.join("c", [KEY, other])
    command = shlex.split(str(caught.value).splitlines()[-1].strip())
    assert command[:2] == ["serfuse", "extract"] and "/data/my clips.csv" in command
    assert "mels=64" in command and "change=true" in command

    filled.record_skipped("c", other, [Skipped("a2", "a2-1", "silent"), Skipped("b1", "b1-1", "too short")])
    clips, matrices = filled.join("c", {"x": KEY, "y": other})
    assert list(clips["id"]) == ["a1", "b2"] and list(clips.index) == [0, 1] and matrices["x"].shape == (2, 3)
    assert {"clip": "a2", "name": "y", "reason": "silent"} in clips.attrs["dropped"]
    with pytest.raises(StoreError, match=r"'ignore' is not known\. Choose one of: error, drop"):
        filled.join("c", [KEY], missing="ignore")


def test_a_skipped_clip_counts_again_when_its_audio_changes(filled: EmbeddingStore) -> None:
    filled.record_skipped("c", KEY, [Skipped("a1", "a1-0", "of older audio"), Skipped("b1", "b1-1", "now")])
    assert [item.clip for item in filled.skipped("c", KEY)] == ["b1"]


def test_an_encoder_that_comes_twice_gets_full_names(filled: EmbeddingStore) -> None:
    other = replace(KEY, layer="6")
    ids = ["a1", "a2", "b1", "b2"]
    filled.append("c", other, ids, [f"{i}-1" for i in ids], rows_of(ids))
    assert set(filled.join("c", [KEY, other])[1]) == {KEY.folder, other.folder}


# --- finding ----------------------------------------------------------------------------------------------------


def test_find_needs_no_more_than_what_tells_keys_apart(filled: EmbeddingStore) -> None:
    assert filled.find("c", "hubert") == KEY
    padded = replace(KEY, pad="max:8.978", weights="random:3")
    filled.append("c", padded, ["a1"], ["a1-1"], rows_of(["a1"]))
    with pytest.raises(StoreError, match="several") as caught:
        filled.find("c", "hubert")
    assert KEY.folder in str(caught.value) and padded.folder in str(caught.value)
    assert filled.find("c", "hubert", pad="max") == padded == filled.find("c", "hubert", weights="random")
    assert filled.find("c", "hubert", pad="none") == KEY == filled.find("c", KEY.folder)
    assert filled.find("c", "hubert", pad=None, weights="hub:x") == KEY


def test_of_several_it_names_the_first_setting_in_which_they_differ(filled: EmbeddingStore) -> None:
    for other, setting in (
        (replace(KEY, layer="6"), "layer"),
        (replace(KEY, pooling="paper", layer="6"), "pooling"),
        (replace(KEY, options={"a": 1}), None),
    ):
        filled.append("c", other, ["a1"], ["a1-1"], rows_of(["a1"]))
        with pytest.raises(StoreError, match="say more about it") as caught:
            filled.find("c", "hubert")
        first = min(KEY, other, key=lambda key: key.folder)
        hint = f"hubert@{setting}={getattr(first, setting)}" if setting else first.folder
        assert str(caught.value).endswith(f"say more about it (for example {hint}).")
        for part in parts(filled, other):
            part.unlink()


def test_of_several_layers_together_the_hint_says_all_and_in_what_they_differ(filled: EmbeddingStore) -> None:
    for layer in ("0", "1"):
        for pooling in ("time", "mean-std"):
            key = replace(KEY, layer=layer, pooling=pooling)
            filled.append("c", key, ["a1"], ["a1-1"], rows_of(["a1"]))
    with pytest.raises(StoreError) as caught:
        filled.find("c", "hubert", layer="all")
    hint = str(caught.value).rpartition("(for example ")[2]
    assert hint in ("hubert@pooling=time,layer=all).", "hubert@pooling=mean-std,layer=all).")


@pytest.mark.parametrize("layer", ["all", "6"])
def test_layers_of_an_encoder_without_any_come_with_no_command(filled: EmbeddingStore, layer: str) -> None:
    with pytest.raises(StoreError, match=f"logmel has no layers to choose from, so layer={layer} names nothing"):
        filled.find("c", "logmel", layer=layer)


def test_options_are_found_by_some_of_them(filled: EmbeddingStore) -> None:
    few, many = (EmbeddingKey("logmel", weights="none", options={"mels": m, "change": True}) for m in (64, 80))
    for key in (few, many):
        filled.append("c", key, ["a1"], ["a1-1"], rows_of(["a1"]))
    assert filled.find("c", "logmel", options={"mels": 64}) == few
    assert filled.find("c", "logmel", options={"mels": 80, "change": True}) == many
    for nothing in ({"mels": 40}, {"mels": 64, "change": False}):
        with pytest.raises(StoreError, match="holds no embeddings"):
            filled.find("c", "logmel", options=nothing)


def test_what_is_not_there_comes_with_a_list_and_the_command(filled: EmbeddingStore) -> None:
    with pytest.raises(StoreError) as caught:
        filled.find("c", "dac", pooling="paper", pad="5.0")
    text = str(caught.value)
    assert KEY.folder in text and "--encoder dac --pool paper --pad 5.0" in text and str(filled.root) in text
    with pytest.raises(StoreError, match=r"Choose by: encoder, weights"):
        filled.find("c", "hubert", mood="blue")
    with pytest.raises(StoreError, match=r"no corpus 'd'. It holds: c"):
        filled.find("d", "hubert")


def test_the_command_it_prints_is_one_that_extract_takes(filled: EmbeddingStore) -> None:
    """Every word of it is read by the real command line, up to the corpus that does not exist."""
    from serfuse.cli import main

    settings = {"pooling": "mean-std", "pad": "max:8.978", "weights": "random:3", "options": {"change": False}}
    words = shlex.split(filled.command("c", "logmel", settings))
    assert words[words.index("--seed") + 1] == "3" and words[words.index("--pad") + 1] == "max"
    done = CliRunner().invoke(main, words[1:])
    assert done.exit_code == 1 and "/data/my clips.csv" in done.output and "no such file" in done.output


def test_embeddings_of_an_earlier_extraction_code_are_not_taken_unasked(filled: EmbeddingStore) -> None:
    old = EmbeddingKey("dac", code=EXTRACTION_VERSION - 1)
    filled.append("c", old, ["a1"], ["a1-1"], rows_of(["a1"]))
    with pytest.raises(StoreError, match="OUTDATED"):
        filled.find("c", "dac")
    assert filled.find("c", old.folder) == old


# --- the corpus' table ------------------------------------------------------------------------------------------


def test_the_table_holds_what_the_corpus_said(store: EmbeddingStore) -> None:
    clips = (
        Clip("a", Path("/x/a.wav"), "anger", "s1", "t1", extra={"sex": "f", "size": "big", "id": "odd"}),
        Clip("b", Path("/x/b.wav"), "fear", None, None, 0.5, 1.5, "3"),
    )
    corpus = Corpus("c", clips, "voice type", True, ("one clip less",))
    store.write_corpus(corpus, {"a": AudioFacts("h", 1.25), "b": AudioFacts(None)})
    frame = store.clips("c")
    said = ["id", "path", "emotion", "speaker", "text", "fold", "seconds", "audio", "start", "end"]
    assert list(frame.columns[:10]) == said
    assert frame.loc[0, "sex"] == "f" and frame.loc[0, "extra_id"] == "odd" and frame.loc[0, "id"] == "a"
    assert frame.loc[0, "seconds"] == 1.25 and frame.loc[1, "start"] == 0.5 and frame.loc[1, "fold"] == "3"
    assert frame.loc[1, ["speaker", "text", "audio", "seconds"]].isna().all()
    info = store.corpus_info("c")
    assert (info["speaker_kind"], info["synthetic"], info["warnings"]) == ("voice type", True, ["one clip less"])


def test_a_part_of_the_corpus_adds_and_the_whole_replaces(filled: EmbeddingStore) -> None:
    some = corpus_of("a1", "c1")
    filled.write_corpus(some, facts_of(some, "2"), complete=False)
    frame = filled.clips("c").set_index("id")
    assert list(frame.index) == ["a1", "a2", "b1", "b2", "c1"] and frame.loc["a1", "audio"] == "a1-2"
    filled.write_corpus(some, facts_of(some, "2"))
    assert list(filled.clips("c")["id"]) == ["a1", "c1"]


def test_another_corpus_under_the_same_name_is_refused(filled: EmbeddingStore) -> None:
    stranger = corpus_of("x1", "x2")
    with pytest.raises(StoreError, match=r"/data/my clips.csv.*--name NAME"):
        filled.write_corpus(stranger, facts_of(stranger))
    assert len(filled.clips("c")) == 4


def test_the_same_corpus_from_elsewhere_takes_its_place_and_another_does_not(filled: EmbeddingStore) -> None:
    """One clip in common is no reason to take a corpus for another one: what differs is said."""

    def write(corpus: Corpus, facts: dict[str, AudioFacts], data: str = "/moved/clips.csv", **how: bool) -> None:
        filled.write_corpus(corpus, facts, source={"corpus": "table", "data": data}, **how)

    before = filled.clips("c")
    ids = ("a1", "a2", "b1", "b2")
    same = corpus_of(*ids)
    mostly_other = facts_of(same, "2") | {"a1": AudioFacts("a1-1", 1.0)}
    sad = replace(same, clips=tuple(replace(clip, emotion="sadness") for clip in same.clips))
    somebody = replace(same, clips=tuple(replace(clip, speaker="x") for clip in same.clips))
    fewer, mixed, strange = corpus_of("a1", "a2", "b1"), corpus_of("a1", "x1"), corpus_of("x1")
    for corpus, facts, says in (
        (same, mostly_other, r"3 of the 4 clips that both have sound different \(the first is 'a2'\)"),
        (sad, facts_of(sad), r"4 of the 4 clips that both have differ in emotion \('a1': anger and sadness\)"),
        (somebody, facts_of(somebody), "differ in speaker"),
        (fewer, facts_of(fewer), r"1 clips of the store are not in it \(the first is 'b2'\)"),
        (mixed, facts_of(mixed), "3 clips of the store are not in it"),
        (strange, facts_of(strange), "no clip in common"),
    ):
        with pytest.raises(StoreError, match=says) as caught:
            write(corpus, facts)
        assert "/data/my clips.csv" in str(caught.value) and "--name NAME" in str(caught.value)
        assert filled.clips("c").equals(before)
    write(fewer, facts_of(fewer), complete=False)  # a part of the same corpus
    assert list(filled.clips("c")["id"]) == list(ids)
    more = corpus_of(*ids, "c1")
    write(more, facts_of(more))
    assert list(filled.clips("c")["id"]) == [*ids, "c1"]
    write(sad, facts_of(sad))  # now the same place, where anything may have changed
    assert set(filled.clips("c")["emotion"]) == {"sadness"}


def test_writing_the_same_again_writes_nothing(filled: EmbeddingStore) -> None:
    corpus = corpus_of("a1", "a2", "b1", "b2")
    files = [filled.root / "c" / name for name in ("clips.parquet", "corpus.json")]
    before = [path.stat().st_ino for path in files]
    filled.write_corpus(corpus, facts_of(corpus), source={"corpus": "table", "data": "/data/my clips.csv"})
    assert [path.stat().st_ino for path in files] == before


def test_a_table_in_a_file_is_compared_a_group_of_rows_at_a_time(tmp_path: Path) -> None:
    """Of 70,000 clips in two groups, of which the last one has another label."""
    corpus = corpus_of(*"abcdefg")
    few = clip_table.make([(clip, AudioFacts(f"{clip.id}-1", 1.0)) for clip in corpus.clips])
    table = pa.concat_tables([few] * 10_000).combine_chunks()
    path = tmp_path / "clips.parquet"
    assert not clip_table.holds(path, table)
    clip_table.write(path, table, "{}")
    assert clip_table.holds(path, table) and clip_table.read(path).equals(table)
    emotions = pa.array([*table["emotion"].to_pylist()[:-1], "fear"])
    other = table.set_column(table.column_names.index("emotion"), "emotion", emotions)
    assert not clip_table.holds(path, other) and not clip_table.holds(path, table.slice(0, 69_999))
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)
    assert not clip_table.holds(path, table)


def test_files_are_known_again_only_by_a_settled_stamp(store: EmbeddingStore) -> None:
    corpus = corpus_of("a1", "a2")
    stamp = FileStamp(10, 20, 30)
    facts = {
        "a1": AudioFacts("h1@0.5-1.0", 0.5, stamp, 4.0),
        "a2": AudioFacts("h2", 1.0, stamp, 1.0, settled=False),
    }
    store.write_corpus(corpus, facts)
    assert store.known_files("c") == {"/nowhere/a1.wav": (stamp, "h1", 4.0)}
    assert store.known_files("unknown") == {}


@pytest.mark.parametrize("name", ["../up", "", "a/b", ".hidden", "a\0b", "-rf"])
def test_names_that_could_leave_the_store_are_refused(store: EmbeddingStore, name: str) -> None:
    with pytest.raises(StoreError, match="cannot name a corpus"):
        store.write_corpus(corpus_of("a1", name=name), facts_of(corpus_of("a1")))
    assert not store.root.exists()


def test_repeated_ids_and_missing_facts_are_refused(store: EmbeddingStore) -> None:
    clip = Clip("a", Path("/a.wav"), "anger")
    with pytest.raises(StoreError, match="not unique: a"):
        store.write_corpus(Corpus("c", (clip, clip)), {"a": AudioFacts("h")})
    with pytest.raises(StoreError, match="No audio facts were given for 1"):
        store.write_corpus(Corpus("c", (clip,)), {})


def test_the_default_root_can_be_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SERFUSE_STORE", str(tmp_path / "there"))
    assert EmbeddingStore().root == tmp_path / "there"
    monkeypatch.delenv("SERFUSE_STORE")
    assert EmbeddingStore().root == Path("serfuse-store")
    assert EmbeddingStore(tmp_path / "none").corpora() == []


# --- other readers ----------------------------------------------------------------------------------------------


def test_pandas_alone_reads_the_files(filled: EmbeddingStore) -> None:
    """As docs/store.md shows it."""
    folder = filled.root / "c"
    clips = pd.read_parquet(folder / "clips.parquet")
    rows = pd.concat(pd.read_parquet(path) for path in sorted((folder / KEY.folder).glob("part-*.parquet")))
    table = clips.merge(rows, on=["id", "audio"]).drop_duplicates("id", keep="last").sort_values("id")
    np.testing.assert_array_equal(np.stack(table["embedding"]), filled.load("c", KEY)[1])


# --- damage -----------------------------------------------------------------------------------------------------


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[40] ^= 0xFF  # in the pages, behind the magic number
    path.write_bytes(data)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("harm", [_cut, _flip, _empty])
def test_a_damaged_part_is_named_and_removing_it_loses_only_its_rows(filled: EmbeddingStore, harm: Callable) -> None:
    part = parts(filled)[0]
    harm(part)
    for look in (filled.load, filled.compact):
        with pytest.raises(StoreError, match="is damaged") as caught:
            look("c", KEY)
        assert str(part) in str(caught.value) and "Delete that file" in str(caught.value)
    part.unlink()
    assert filled.load("c", KEY)[0] == ["a2", "b1"]


@pytest.mark.parametrize("harm", [_cut, _empty])
@pytest.mark.parametrize("name", ["clips.parquet", "corpus.json", f"{KEY.folder}/key.json"])
def test_other_damaged_files_are_named_too(filled: EmbeddingStore, harm: Callable, name: str) -> None:
    harm(filled.root / "c" / name)
    with pytest.raises(StoreError) as caught:
        filled.find("c", filled.keys("c")[0].encoder)
        filled.corpus_info("c")
        filled.load("c", KEY)
    assert name in str(caught.value)


def test_a_changed_bit_in_the_clip_table_is_noticed(filled: EmbeddingStore) -> None:
    _flip(filled.root / "c" / "clips.parquet")
    with pytest.raises(StoreError, match=r"clips\.parquet"):
        filled.clips("c")


def test_a_part_with_an_empty_cell_is_damaged(filled: EmbeddingStore) -> None:
    part = parts(filled)[0]
    table = pq.read_table(part)
    pq.write_table(table.set_column(1, "audio", pa.array([None, "a1-1"], pa.string())), part)
    with pytest.raises(StoreError, match="holds empty cells") as caught:
        filled.load("c", KEY)
    assert str(part) in str(caught.value)


def test_a_key_file_that_was_edited_is_noticed(filled: EmbeddingStore) -> None:
    path = filled.root / "c" / KEY.folder / "key.json"
    data = json.loads(path.read_text())
    data["key"]["pooling"] = "mean-std"
    path.write_text(json.dumps(data))
    with pytest.raises(StoreError, match="was changed, or its folder renamed"):
        filled.keys("c")


def test_what_a_killed_writer_leaves_is_not_read(filled: EmbeddingStore) -> None:
    folder = filled.root / "c" / KEY.folder
    (folder / ".tmp-1-abcd-part-0.parquet").write_bytes(b"half a file")
    assert filled.load("c", KEY)[0] == ["a1", "a2", "b1", "b2"]


def test_a_full_disk_loses_nothing_that_was_stored(filled: EmbeddingStore) -> None:
    import resource

    ids = [f"n{i}" for i in range(300)]
    big = np.random.default_rng(0).normal(size=(300, 3))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, hard))
    try:
        with pytest.raises(StoreError, match="no space left"):
            filled.append("c", KEY, ids, ids, big)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert filled.load("c", KEY)[0] == ["a1", "a2", "b1", "b2"] and len(parts(filled)) == 2
    filled.append("c", KEY, ids, ids, big)


def test_a_store_that_cannot_be_written_is_said_before_anything_is_computed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreWriteError, match="Cannot write") as caught:
        EmbeddingStore(tmp_path / "file").check_writable("c")
    assert caught.value.path == tmp_path / "file" / "c"


# --- several at once --------------------------------------------------------------------------------------------

_WRITER = """
import sys, pathlib
import numpy as np
from serfuse.store.key import EmbeddingKey
from serfuse.store import EmbeddingStore
store, me = EmbeddingStore(sys.argv[1]), sys.argv[2]
key = EmbeddingKey("hubert", weights="hub:x@1")
for number in range(25):
    clip = f"{me}{number:02d}"
    store.append("c", key, [clip], [clip + "-1"], np.full((1, 3), number, np.float32))
    if number % 4 == 3:
        store.compact("c", key)
    assert clip in store.load("c", key)[0]
"""


def test_two_processes_that_append_and_compact_lose_nothing(store: EmbeddingStore) -> None:
    corpus = corpus_of(*(f"{who}{number:02d}" for who in "ab" for number in range(25)))
    store.write_corpus(corpus, facts_of(corpus))
    both = [subprocess.Popen([sys.executable, "-P", "-c", _WRITER, str(store.root), who]) for who in "ab"]
    assert [process.wait(120) for process in both] == [0, 0]
    ids, matrix = store.load("c", KEY)
    assert ids == [clip.id for clip in corpus.clips]
    np.testing.assert_array_equal(matrix[:, 0], [int(clip[1:]) for clip in ids])
    store.compact("c", KEY)
    assert len(parts(store)) == 1 and store.load("c", KEY)[0] == ids


def test_compaction_removes_nothing_before_its_part_is_there(
    filled: EmbeddingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise StoreError("no space left")

    monkeypatch.setattr(key_folder, "write_atomic", fails)
    with pytest.raises(StoreError):
        filled.compact("c", KEY)
    assert len(parts(filled)) == 2


def test_a_compaction_between_listing_and_reading_is_no_error(
    filled: EmbeddingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = parquet.opened
    first = [True]

    def compacted_meanwhile(path: Path, **how: object) -> object:
        if first and path.name.startswith("part-"):
            first.clear()
            EmbeddingStore(filled.root).compact("c", KEY)
        return opened(path, **how)

    monkeypatch.setattr(parquet, "opened", compacted_meanwhile)
    assert filled.load("c", KEY)[0] == ["a1", "a2", "b1", "b2"]


def test_size_says_what_is_on_the_disk(filled: EmbeddingStore) -> None:
    size, occupied = filled.size("c", KEY)
    assert size == 3 and occupied == sum(os.path.getsize(path) for path in parts(filled))
