"""Runs are compared on the same clips, folds and training parts, or not at all."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from serfuse.errors import RunError
from serfuse.runs import paired_runs
from serfuse.runs.paired_runs import PairedRun

CLIPS = [f"c{n}" for n in range(8)]
HEAD = "clip,speaker,repeat,fold,label,predicted\n"


def table() -> pd.DataFrame:
    """Eight clips of four speakers in two folds."""
    return pd.DataFrame(
        {
            "clip": CLIPS,
            "speaker": ["03", "03", "08", "08", "NA", "NA", "1", "1"],
            "repeat": 0,
            "fold": [0, 1] * 4,
            "label": ["joy", "rage"] * 4,
            "predicted": ["joy", "joy"] * 4,
            "p_joy": 0.6,
            "p_rage": 0.4,
        }
    )


def parts(*, swap: bool = False) -> pd.DataFrame:
    """Rows of folds.csv; `swap` moves a clip of fold 0 from training to nowhere."""
    rows = []
    for fold in (0, 1):
        for number, clip in enumerate(CLIPS):
            tested = number % 2 == fold
            if swap and fold == 0 and clip == "c1":
                continue
            rows.append({"repeat": 0, "fold": fold, "clip": clip, "part": "test" if tested else "train"})
    return pd.DataFrame(rows)


@pytest.fixture
def folder(write_run: Callable[..., Path]) -> Callable[..., Path]:
    def make(path: Path, predictions: pd.DataFrame, *, swap: bool = False, **changes: Any) -> Path:
        return write_run(path, predictions, parts=parts(swap=swap), kind="voice type", **changes)

    return make


def pair(one: pd.DataFrame, two: pd.DataFrame) -> list[PairedRun]:
    return paired_runs.named([paired_runs.read(one, 0), paired_runs.read(two, 1)], ["left", "right"])


def test_a_folder_its_file_and_its_table_are_the_same_run(folder, tmp_path: Path) -> None:
    path = folder(tmp_path / "run", table())
    of_folder, of_file = paired_runs.read(path, 0), paired_runs.read(path / "predictions.csv", 0)
    assert of_folder.name == of_file.name == "run" and of_folder.speaker_kind == "voice type"
    assert of_folder.classes == ("joy", "rage") and len(of_folder.parts) == 16
    pd.testing.assert_frame_equal(of_folder.table, of_file.table)
    pd.testing.assert_frame_equal(of_folder.table, paired_runs.read(table(), 0).table)


def test_names_stay_what_they_are(folder, tmp_path: Path) -> None:
    """Speaker 03 is not 3, and NA is a name."""
    found = paired_runs.read(folder(tmp_path / "run", table()), 0)
    assert sorted(set(found.table["speaker"])) == ["03", "08", "1", "NA"]


def test_rows_may_stand_in_any_order() -> None:
    shuffled = table().sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(paired_runs.read(shuffled, 0).table, paired_runs.read(table(), 0).table)
    paired_runs.check(*pair(table(), shuffled))


def test_missing_columns_mean_one_fold_and_nobody() -> None:
    found = paired_runs.read(table()[["clip", "label", "predicted"]], 0).table
    assert set(found["fold"]) == set(found["repeat"]) == {0} and set(found["speaker"]) == {""}


def test_runs_of_one_name_are_numbered_and_names_must_be_as_many() -> None:
    runs = [paired_runs.read(table(), place) for place in range(3)]
    assert [run.name for run in paired_runs.named(runs, None)] == ["run 1", "run 2", "run 3"]
    assert [run.name for run in paired_runs.named(runs, ["x", "y", "x"])] == ["x (1)", "y", "x (3)"]
    with pytest.raises(RunError, match="2 names for 3 runs"):
        paired_runs.named(runs, ["x", "y"])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t[t["clip"] != "c3"], r"'c3' \(repeat 0, fold 1\) is tested in 'left' but not in 'right'"),
        (lambda t: t.assign(fold=1 - t["fold"]), "'c0' .* in fold 0 of 'left' and in fold 1 of 'right'; 8 of 8"),
        (
            lambda t: t.assign(label=["rage", *t["label"][1:]]),
            "label of 1 clips: 'c0' is 'joy' in 'left' and 'rage'",
        ),
        (lambda t: t.assign(speaker=["x", *t["speaker"][1:]]), "speaker of 1 clips: 'c0' is '03' in 'left' and 'x'"),
        (lambda t: t.assign(p_fear=0.0), "joy, rage in 'left', fear, joy, rage in 'right'"),
    ],
)
def test_what_cannot_be_paired_is_refused_and_the_right_run_blamed(change, says: str) -> None:
    with pytest.raises(RunError, match=says):
        paired_runs.check(*pair(table(), change(table())))


def test_a_clip_that_only_the_second_run_tests() -> None:
    with pytest.raises(RunError, match=r"'c3' \(repeat 0, fold 1\) is tested in 'right' but not in 'left'"):
        paired_runs.check(*pair(table()[table()["clip"] != "c3"], table()))


@pytest.mark.parametrize("turned", [False, True])
def test_runs_that_learned_from_other_clips_are_refused(folder, tmp_path: Path, turned: bool) -> None:
    whole, less = folder(tmp_path / "whole", table()), folder(tmp_path / "less", table(), swap=True)
    runs = [paired_runs.read(path, 0) for path in ((less, whole) if turned else (whole, less))]
    with pytest.raises(RunError, match=r"in fold 0 \(repeat 0\) clip 'c1' is in .* of 'whole' but not of 'less'; 1 pl"):
        paired_runs.check(*runs)


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("predictions.csv", "clip,label\nc0,joy\n", "predictions.csv has no column speaker, repeat, fold, predicted; "),
        ("predictions.csv", HEAD, "predictions.csv has 0 rows, metrics.json is about 8"),
        ("predictions.csv", f"{HEAD}c0,1,0,one,joy,joy\n", "'fold' holds something that is no number"),
        ("predictions.csv", HEAD + 4 * "c0,1,0,0,joy,joy\nc0,1,0,0,rage,joy\n", "'c0' is predicted more than once"),
        ("predictions.csv", HEAD + 8 * "c0,1,0,0,joy,fear\n", "has the emotion 'fear', metrics.json joy, rage"),
        ("predictions.csv", HEAD + 8 * "c0,1,0,0,joy,joy\n", "is not what the figures in metrics.json were counted"),
        ("predictions.csv", "", "predictions.csv cannot be read"),
        ("predictions.csv", "," * 20_000, "more than 10000 columns"),
        ("folds.csv", "clip,part\nc0,test\n", "folds.csv has no column repeat, fold"),
        ("predictions.csv", f"{HEAD}c0,1,0,0.5,joy,joy\n", "expected whole numbers"),
        ("predictions.csv", f"{HEAD}c0,1,0,1e300,joy,joy\n", "expected whole numbers"),
        (
            "folds.csv",
            "repeat,fold,clip,part\n0,0,c0,test\n",
            "predictions.csv tests clip 'c2' in fold 0 .repeat 0., folds",
        ),
        ("folds.csv", "repeat,fold,clip,part\nx,0,c0,test\n", "folds.csv: the column 'repeat' holds something"),
    ],
)
def test_a_damaged_folder_is_named(folder, tmp_path: Path, file: str, text: str, says: str) -> None:
    path = folder(tmp_path / "run", table())
    (path / file).write_text(text, "utf-8")
    with pytest.raises(RunError, match=says):
        paired_runs.read(path, 0)


@pytest.mark.parametrize("file", ["predictions.csv", "folds.csv", "metrics.json", "config.yaml"])
@pytest.mark.parametrize("kind", ["large", "pipe", "device", "folder"])
def test_what_is_no_file_of_a_run_is_refused_at_once(folder, tmp_path: Path, file: str, kind: str) -> None:
    """A file of 100 GB that takes no room, a pipe that nobody writes to, a device that never ends."""
    path = folder(tmp_path / "run", table()) / file
    path.unlink()
    if kind == "large":
        with path.open("wb") as sparse:
            sparse.truncate(100 << 30)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    with pytest.raises(RunError, match=rf"{file}.*(larger than|is not a file)"):
        paired_runs.read(path.parent, 0)


def test_runs_that_heard_other_recordings_under_the_same_ids_are_refused(folder, tmp_path: Path) -> None:
    heard = {clip: f"sha-{clip}" for clip in CLIPS}
    one = folder(tmp_path / "one", table(), recordings=heard, digests={"recordings": "1"})
    other = folder(tmp_path / "other", table(), recordings={**heard, "c3": "sha-new"}, digests={"recordings": "2"})
    with pytest.raises(RunError, match=r"'c3' was another in 'other' than in 'one'; 1 of 8 clips differ"):
        paired_runs.check(paired_runs.read(one, 0), paired_runs.read(other, 1))
    (other / "clips.csv").unlink()
    with pytest.raises(
        RunError, match="did not hear the same recordings: those of 'one' and of 'other' have other dig"
    ):
        paired_runs.check(paired_runs.read(one, 0), paired_runs.read(other, 1))


def test_what_runs_do_not_tell_or_computed_again_is_said(folder, tmp_path: Path) -> None:
    one = folder(tmp_path / "one", table(), digests={"recordings": "1", "embeddings": {"a": "x"}})
    two = folder(tmp_path / "two", table(), digests={"recordings": "1", "embeddings": {"a": "y"}})
    before = folder(tmp_path / "before", table())
    runs = [paired_runs.read(path, 0) for path in (one, two, before)]
    for run in runs[1:]:
        paired_runs.check(runs[0], run)
    silent, again = paired_runs.heard(runs)
    assert silent.startswith("before does not tell which recordings were heard")
    assert "embeddings of hubert are not the same numbers in one and two" in again
    assert paired_runs.heard(runs[:1]) == []


def test_voice_types_are_called_that_where_runs_disagree(folder, tmp_path: Path) -> None:
    one = paired_runs.read(folder(tmp_path / "one", table()), 0)
    other = paired_runs.read(folder(tmp_path / "other", table().assign(speaker="x")), 1)
    with pytest.raises(RunError, match="disagree on the voice type of 8 clips"):
        paired_runs.check(one, other)
