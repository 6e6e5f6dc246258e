"""Tables and folder trees as corpora."""

import json
from pathlib import Path

import pandas as pd
import pytest

from serfuse import corpora
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
