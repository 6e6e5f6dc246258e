"""Tables and folder trees as corpora."""

import json
import os
import tracemalloc
from pathlib import Path

import pandas as pd
import pytest

from serfuse import corpora
from serfuse.corpora.table_rows import open_table
from serfuse.errors import CorpusError

read = corpora.get("table")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("a.wav", "b.wav", "sub/c.wav"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return tmp_path


def csv(root: Path, text: str, name: str = "clips.csv", encoding: str = "utf-8") -> Path:
    path = root / name
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize("mark", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_csv_as_programs_write_it(root: Path, mark: str, encoding: str, newline: str) -> None:
    rows = [["path", "emotion", "speaker", "text", "fold"], ["a.wav", "Happy", "s1", "t1", "1"]]
    rows += [["sub/c.wav", "joy", "s2", "t1", "2"], ["b.wav", "ANG", "", "", "1"]]
    corpus = read(csv(root, newline.join(mark.join(row) for row in rows) + newline, encoding=encoding))
    assert [clip.id for clip in corpus.clips] == ["a.wav", "b.wav", "sub/c.wav"]
    assert [clip.emotion for clip in corpus.clips] == ["happiness", "anger", "happiness"]
    assert [clip.speaker for clip in corpus.clips] == ["s1", None, "s2"]
    assert [clip.fold for clip in corpus.clips] == ["1", "1", "2"]
    assert corpus.name == "clips" and corpus.clips[2].path == root / "sub/c.wav"


def test_parquet_equals_csv(root: Path) -> None:
    frame = pd.DataFrame({"path": ["a.wav", "b.wav"], "emotion": ["anger", "fear"], "speaker": [3, 4]})
    frame.to_parquet(root / "p.parquet")
    frame.to_csv(root / "c.csv", index=False)
    assert read(root / "p.parquet").clips == read(root / "c.csv").clips


def test_segments_of_one_file_have_ids_of_their_own(root: Path) -> None:
    corpus = read(
        csv(root, "file,start,end,emotion\na.wav,0,1.5,anger\na.wav,1.5,2.25,fear\na.wav,0 days 00:00:02.25,NaT,joy\n")
    )
    assert [clip.id for clip in corpus.clips] == ["a.wav#0.000-1.500", "a.wav#1.500-2.250", "a.wav#2.250-"]
    assert [(clip.start, clip.end) for clip in corpus.clips] == [(0.0, 1.5), (1.5, 2.25), (2.25, None)]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("path\na.wav\n", "no column for the emotion"),
        ("emotion\nanger\n", "no column for the path"),
        ("path,emotion\na.wav,\n", "row 2: the emotion"),
        ("path,emotion\na.wav,happyish\n", "row 2: Unknown emotion 'happyish'"),
        ("path,emotion\na.wav,anger,extra\n", "row 2: has 3 values, expected 2"),
        ("path,emotion,start\na.wav,anger,soon\n", "expected seconds"),
        ("path,emotion,start\na.wav,anger,-1\n", "from 0 on"),
        ("path,emotion\nx.wav,anger\ny.wav,fear\n", "none of its 2 files exists"),
        ("path,emotion,id\na.wav,anger,1\nb.wav,fear,1\n", "two clips have the id"),
        ("path,emotion,path\na.wav,anger,b\n", "two columns have one name"),
        ("path,emotion\n", "no rows"),
        ("", "no column"),
    ],
)
def test_a_bad_table_is_named_with_its_row(root: Path, text: str, says: str) -> None:
    with pytest.raises(CorpusError, match=says) as caught:
        read(csv(root, text))
    assert "clips" in str(caught.value)


def test_latin_1_is_refused_rather_than_misread(root: Path) -> None:
    with pytest.raises(CorpusError, match="UTF-8"):
        read(csv(root, "path,emotion\na.wav,Ärger\n", encoding="latin-1"))


def test_too_many_rows_are_refused(root: Path) -> None:
    path = csv(root, "path,emotion\n" + "a.wav,anger\n" * 20)
    with pytest.raises(CorpusError, match="more than 10 rows"):
        read(path, max_rows=10)
    with pytest.raises(CorpusError, match="more than 19 rows"):
        read(path, max_rows=19)
    assert len(read(csv(root, "path,emotion\na.wav,anger\nb.wav,fear\n"), max_rows=2).clips) == 2


def test_empty_lines_are_no_rows(root: Path) -> None:
    (root / "lines.jsonl").write_text('\n{"path": "a.wav", "emotion": "joy"}\n\n \n', "utf-8")
    assert [clip.id for clip in read(root / "lines.jsonl").clips] == ["a.wav"]
    assert [clip.id for clip in read(csv(root, "path,emotion\n\na.wav,joy\n,\n")).clips] == ["a.wav"]


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("1.25", 1.25),
        ("0 days 00:00:02.25", 2.25),
        ("0:01:02", 62.0),
        ("1 day, 1:00:00", 90000.0),
        ("2 days", 172800.0),
    ],
)
def test_times_are_seconds_or_durations(root: Path, written: str, seconds: float) -> None:
    (clip,) = read(csv(root, f"path;emotion;start\na.wav;joy;{written}\n")).clips
    assert clip.start == seconds


def test_some_missing_files_are_a_warning(root: Path) -> None:
    corpus = read(csv(root, "path,emotion\na.wav,anger\ngone.wav,fear\n"))
    assert len(corpus.clips) == 2 and "1 of 2 files do not exist" in corpus.warnings[0]


def test_given_columns_aliases_and_skips(root: Path) -> None:
    path = csv(root, "wav,majority,who\na.wav,cheer,x\nb.wav,other,y\n")
    corpus = read(path, columns={"emotion": "majority", "speaker": "who"}, aliases={"cheer": "joy"}, skip=["other"])
    (clip,) = corpus.clips
    assert (clip.emotion, clip.speaker) == ("happiness", "x") and "1 rows were left out" in corpus.warnings[0]


def test_emobox_metadata_with_its_folds(root: Path) -> None:
    """`metadata.jsonl` beside `fold_1/`, `fold_2/`, as EmoBox lays it out: keys, wav, emo; a test file per fold."""
    rows = [{"key": f"k{n}", "wav": wav, "emo": "hap", "dataset": "x"} for n, wav in enumerate(["a.wav", "b.wav"])]
    lines = "\n".join(json.dumps(row) for row in rows)
    (root / "mine.jsonl").write_text(lines, "utf-8")
    for number, row in enumerate(rows, start=1):
        folder = root / f"fold_{number}"
        folder.mkdir()
        (folder / f"mine_test_fold_{number}.jsonl").write_text(json.dumps(row), "utf-8")
    assert [(clip.id, clip.fold) for clip in read(root / "mine.jsonl").clips] == [("k0", "1"), ("k1", "2")]


def test_a_folder_per_emotion(tmp_path: Path) -> None:
    for name in ("angry/s1/x.wav", "Joy/s1/x.wav", "Joy/s2/y.flac", "readme.wav"):
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    corpus = read(tmp_path / "tree")
    assert [(clip.id, clip.emotion) for clip in corpus.clips] == [
        ("Joy/s1/x.wav", "happiness"),
        ("Joy/s2/y.flac", "happiness"),
        ("angry/s1/x.wav", "anger"),
    ]
    assert "1 audio files lie above" in corpus.warnings[0]
    with_speakers = read(tmp_path / "tree", layout="emotion/speaker")
    assert [clip.speaker for clip in with_speakers.clips] == ["s1", "s2", "s1"]
    with pytest.raises(CorpusError, match="layout"):
        read(tmp_path / "tree", layout="mood")


def test_folders_left_out_as_asked_are_counted(tmp_path: Path) -> None:
    for name in ("anger/x.wav", "other/y.wav", "other/z.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    corpus = read(tmp_path, skip=["other"])
    assert [clip.id for clip in corpus.clips] == ["anger/x.wav"]
    (warning,) = corpus.warnings
    assert warning.endswith(": 2 clips were left out as asked (other).")


def test_two_emotions_on_the_way_to_a_file(tmp_path: Path) -> None:
    (tmp_path / "anger" / "joy").mkdir(parents=True)
    (tmp_path / "anger" / "joy" / "x.wav").touch()
    with pytest.raises(CorpusError, match=r"found 2 of them \(anger, joy\)"):
        read(tmp_path)
    assert read(tmp_path, layout="emotion/-").clips[0].emotion == "anger"


def test_a_folder_that_is_no_emotion(tmp_path: Path) -> None:
    (tmp_path / "blue").mkdir()
    (tmp_path / "blue" / "x.wav").touch()
    with pytest.raises(CorpusError, match="named like an emotion"):
        read(tmp_path)


def test_a_name_cannot_leave_its_folder_nor_take_a_corpus_place(root: Path) -> None:
    path = csv(root, "path,emotion\na.wav,anger\n", name="emodb.csv")
    assert read(path).name == "emodb-table"
    with pytest.raises(CorpusError, match="Corpus name"):
        read(path, name="../x")


def jsonl(root: Path, *rows: dict) -> Path:
    (root / "lines.jsonl").write_text("\n".join(json.dumps(row) for row in rows), "utf-8")
    return root / "lines.jsonl"


def test_a_key_that_the_first_row_lacks_is_read_from_the_others(root: Path) -> None:
    rows = [{"key": f"k{n}", "wav": wav, "emo": "sad"} for n, wav in enumerate(["a.wav", "b.wav", "sub/c.wav"])]
    rows[1] |= {"spk": "s1", "start": 0.1, "end": 0.5}
    rows[2] |= {"spk": "s2", "start": 0.0, "end": 0.25}
    corpus = read(jsonl(root, *rows))
    assert [(clip.speaker, clip.start, clip.end) for clip in corpus.clips] == [
        (None, None, None),
        ("s1", 0.1, 0.5),
        ("s2", 0.0, 0.25),
    ]
    assert [warning for warning in corpus.warnings if "rows have no" in warning] == [
        f"lines: 1 of 3 rows have no {field} (column {column})."
        for field, column in (("speaker", "spk"), ("start", "start"), ("end", "end"))
    ]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_what_is_missing_is_counted_in_every_kind_of_table(root: Path, kind: str) -> None:
    frame = pd.DataFrame({"path": ["a.wav", "b.wav"], "emotion": ["anger", "fear"], "speaker": ["s1", None]})
    frame["text"] = None  # no row has one: that is no gap
    path = root / f"t.{kind}"
    frame.to_csv(path, index=False) if kind == "csv" else frame.to_parquet(path)
    assert read(path).warnings == ("t: 1 of 2 rows have no speaker (column speaker).",)


@pytest.mark.parametrize(
    ("one", "other", "says"),
    [
        ({"speaker": 3}, {"speaker": "3"}, r"row 2: column speaker holds text \('3'\), but a number in row 1"),
        ({"speaker": True}, {"speaker": 1}, "holds a number"),
        ({"start": 0.5}, {"start": "0.5"}, "column start holds text"),
        ({}, {"speaker": ["s1"]}, "row 2: column speaker holds list"),
        ({"Speaker": "s1"}, {"speaker": "s2"}, "columns are called alike: 'Speaker', 'speaker'"),
    ],
)
def test_a_column_is_of_one_kind_and_has_one_name(root: Path, one: dict, other: dict, says: str) -> None:
    with pytest.raises(CorpusError, match=says):
        read(jsonl(root, {"path": "a.wav", "emotion": "joy"} | one, {"path": "b.wav", "emotion": "joy"} | other))


def test_a_key_given_twice_is_refused(root: Path) -> None:
    (root / "lines.jsonl").write_text('{"path": "a.wav", "emo": "joy", "emo": "sad"}', "utf-8")
    with pytest.raises(CorpusError, match="row 1: has the key 'emo' twice"):
        read(root / "lines.jsonl")


def test_ids_of_absolute_paths_depend_on_their_own_row_only(root: Path, tmp_path_factory) -> None:
    elsewhere = tmp_path_factory.mktemp("other") / "x.wav"
    elsewhere.touch()
    rows = "".join(f"{root}/{name},joy\n" for name in ("a.wav", "sub/c.wav"))
    few = read(csv(root, f"path,emotion\n{rows}"))
    more = read(csv(root, f"path,emotion\n{rows}{elsewhere},joy\n"))
    assert [clip.id for clip in few.clips] == ["a.wav", "sub/c.wav"]
    assert {clip.id for clip in more.clips} == {"a.wav", "sub/c.wav", str(elsewhere)[1:]}
    based = read(csv(root, f"path,emotion\n{rows}"), base=root / "sub")
    assert {clip.id for clip in based.clips} == {"c.wav", f"{str(root)[1:]}/a.wav"}


def test_files_are_found_under_other_spellings_where_one_alone_fits(root: Path, monkeypatch) -> None:
    composed, apart = "é", "e\N{COMBINING ACUTE ACCENT}"
    (root / f"caf{apart}").mkdir()
    (root / f"caf{apart}" / f"{apart}.wav").touch()
    monkeypatch.setenv("HOME", str(root / "sub"))
    corpus = read(
        csv(root, f"path,emotion\nsub\\c.wav,joy\ncaf{composed}/{composed}.wav,joy\n~/c.wav,joy\na.wav,joy\n")
    )
    assert {clip.id: clip.path for clip in corpus.clips} == {
        "sub/c.wav": root / "sub/c.wav",
        f"caf{composed}/{composed}.wav": root / f"caf{apart}" / f"{apart}.wav",
        "c.wav": root / "sub/c.wav",
        "a.wav": root / "a.wav",
    }
    found = [warning for warning in corpus.warnings if "were found" in warning]
    assert found == [
        f"clips: 1 paths are written {how}; their files were found."
        for how in ("with backslashes", "with another composition of accents", "from the home folder on")
    ]
    # Two names that are one when composed: neither is taken.
    for name in ("\N{ANGSTROM SIGN}.wav", "A\N{COMBINING RING ABOVE}.wav"):
        (root / name).touch()
    missing = read(csv(root, "path,emotion\na.wav,joy\nÅ.wav,joy\n"))
    assert "1 of 2 files do not exist" in missing.warnings[0]


def test_no_home_folder_is_said(root: Path, monkeypatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    with pytest.raises(CorpusError, match=r"'~/a.wav' begins at the home folder, but there is none"):
        read(csv(root, "path,emotion\n~/a.wav,joy\n"))


def test_different_labels_that_become_one_emotion_are_named_and_counted(root: Path) -> None:
    rows = ["a.wav,hot-anger", "b.wav,Cold Anger", "sub/c.wav,cold_anger"]
    corpus = read(csv(root, "path,emotion\n" + "\n".join(rows) + "\n"))
    assert {clip.emotion for clip in corpus.clips} == {"anger"}
    assert corpus.warnings == (
        "clips: different labels are one emotion here: anger is cold-anger (2) and hot-anger (1).",
    )
    assert not read(csv(root, "path,emotion\na.wav,Anger\nb.wav,anger\n")).warnings, "case alone makes no difference"


def test_two_spellings_of_a_speaker_are_named(root: Path) -> None:
    corpus = read(csv(root, "path,emotion,speaker\na.wav,joy,Anna\nb.wav,joy,anna\nsub/c.wav,joy,Ben\n"))
    (warning,) = corpus.warnings
    assert "'Anna' (1 clips) and 'anna' (1 clips)" in warning and "Ben" not in warning
    assert len({clip.speaker for clip in corpus.clips}) == 3, "they stay apart"


def test_a_file_name_that_is_not_utf8_is_one_clip_with_a_remark(tmp_path: Path) -> None:
    (tmp_path / "anger").mkdir()
    for name in (b"c\xf3lera.wav", b"good.wav"):
        (tmp_path / "anger" / os.fsdecode(name)).touch()
    corpus = read(tmp_path, "mine")
    assert [clip.id for clip in corpus.clips] == ["anger/c\\xf3lera.wav", "anger/good.wav"]
    assert all(clip.path.exists() for clip in corpus.clips)
    (warning,) = corpus.warnings
    assert "names of 1 files are not UTF-8" in warning and "c\\xf3lera" in warning


def _parquet(path: Path, values: list[str], times: int, **options) -> Path:
    import pyarrow
    from pyarrow import parquet

    emotions = pyarrow.array(["anger"] * (len(values) * times))
    parquet.write_table(pyarrow.table({"path": values * times, "emotion": emotions}), path, **options)
    return path


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"compression": "zstd"}, r"holds more than 64 MB of text"),
        ({"compression": "zstd", "use_dictionary": False}, r"unpacks to 76 MB"),
    ],
)
def test_a_parquet_table_that_stands_for_far_more_than_it_holds_is_refused(tmp_path: Path, options, says: str) -> None:
    """One long path in every row: some hundred bytes for all of them."""
    path = _parquet(tmp_path / "t.parquet", ["a" * 200_000], 400, **options)
    assert path.stat().st_size < 60_000
    tracemalloc.start()
    try:
        with pytest.raises(CorpusError, match=says):
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


def test_equal_text_of_a_parquet_table_is_kept_once(tmp_path: Path) -> None:
    path = _parquet(tmp_path / "t.parquet", ["a" * 100, "b", ""], 4000)
    rows = [row for _, row in open_table(path).rows({"path", "emotion"})]
    assert [row["path"] for row in rows] == ["a" * 100, "b", ""] * 4000
    assert len({id(row["path"]) for row in rows if row["path"]}) == 2


def test_a_parquet_column_of_lists_and_one_that_is_not_utf_8_are_named(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"path": [["a"]], "emotion": ["anger"]}), tmp_path / "l.parquet")
    with pytest.raises(CorpusError, match=r"l\.parquet: column path holds list"):
        read(tmp_path / "l.parquet")
    wrong = pyarrow.array([b"\xff\xfe"]).view(pyarrow.string())
    parquet.write_table(pyarrow.table({"path": wrong, "emotion": ["anger"]}), tmp_path / "u.parquet")
    with pytest.raises(CorpusError, match=r"u\.parquet: holds text that is not UTF-8"):
        read(tmp_path / "u.parquet")


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.csv", "path,emotion\n" + "a" * (1 << 21), "line 2: too long a row"),
        ("b.csv", "path,emotion\n" + '"a\n",' * 2000, "line 1002: too long a row"),
        ("c.csv", "," * 20_000, "more than 10000 columns"),
        ("d.jsonl", "[" + "[]," * (1 << 20), "line 1: too long a row"),
        ("e.jsonl", "".join(f'{{"k{n}": 1}}\n' for n in range(10_002)), "more than 10000 columns"),
    ],
)
def test_rows_and_headers_are_bounded(tmp_path: Path, name: str, text: str, says: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(CorpusError, match=says):
        read(tmp_path / name)


def test_a_pipe_among_emobox_folds_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "t.jsonl")
    with pytest.raises(CorpusError, match=r"t\.jsonl is not a file"):
        open_table(tmp_path / "t.jsonl")
