"""Folds of others: a fold column, an EmoBox folder."""

import json
import os

import pandas as pd
import pytest
from clip_tables import small

from serfuse.errors import SplitError
from serfuse.splits import folds


def test_given_folds_are_taken_as_they_are_in_natural_order():
    data = small(120)
    data["fold"] = [f"fold_{8 + i % 4}" for i in range(len(data))]
    found = folds.split(data, "given", folds=2, validation_fraction=0)
    assert len(found) == 4
    for number, fold in enumerate(found):
        assert set(fold.test) == set(data.loc[data["fold"] == f"fold_{8 + number}", "id"])


def test_given_parts_are_one_published_split():
    data = small(120)
    data["fold"] = ["train", "Test", "dev"] * (len(data) // 3)
    (fold,) = folds.split(data, "given")
    assert set(fold.validation) == set(data["id"][2::3]) and set(fold.test) == set(data["id"][1::3])
    assert set(fold.train) == set(data["id"][::3])
    data["fold"] = ["train", "train", "test"] * (len(data) // 3)
    (fold,) = folds.split(data, "given")
    assert 0 < len(fold.validation) < len(data) / 5


@pytest.mark.slow
def test_two_given_folds_are_enough_and_one_is_not():
    data = small(120)
    data["fold"] = ["1", "2"] * (len(data) // 2)
    first, second = folds.split(data, "given", validation_fraction=0)
    assert set(first.test) == set(second.train) == set(data["id"][::2])
    data["fold"] = "1"
    with pytest.raises(SplitError, match=r"holds one value only \('1'\)"):
        folds.split(data, "given")


@pytest.mark.parametrize("column", ["speaker", "text"])
def test_given_folds_that_keep_groups_apart_have_a_validation_part_that_does(column):
    data = small(150)
    groups = sorted(set(data[column]))
    data["fold"] = data[column].map({group: str(i % 3) for i, group in enumerate(groups)})
    other = {"speaker": "text", "text": "speaker"}[column]
    value = data.set_index("id")
    for fold in folds.split(data, "given"):
        assert not set(value.loc[fold.train, column]) & set(value.loc[fold.validation, column])
        assert set(value.loc[fold.train, other]) & set(value.loc[fold.validation, other])


def emobox(root, data, corpus="emodb", folds_of=None, valid=False):
    """Writes folds in EmoBox's layout."""
    for number, tested in enumerate(folds_of, start=1):
        folder = root / f"fold_{number}"
        folder.mkdir(parents=True)
        rest = [clip for clip in data["id"] if clip not in set(tested)]
        parts = {"test": tested, "train": rest}
        if valid:
            parts["valid"], parts["train"] = rest[:10], rest[10:]
        for part, ids in parts.items():
            lines = [
                json.dumps(
                    {
                        "key": f"{corpus}-{clip}",
                        "dataset": corpus,
                        "wav": f"downloads/{corpus}/wav/{clip}.wav",
                        "emo": "x",
                    }
                )
                for clip in ids
            ]
            (folder / f"{corpus}_{part}_fold_{number}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


def test_emobox_folds_are_read_from_a_folder(tmp_path, tables):
    data = tables["emodb"]
    tests = [data["id"].tolist()[i::5] for i in range(5)]
    root = emobox(tmp_path / "emodb", data, folds_of=tests)
    found = folds.split(data, "given", folder=root)
    assert [fold.test.tolist() for fold in found] == [sorted(test) for test in tests]
    assert all(len(fold.validation) for fold in found)


@pytest.mark.parametrize(
    ("corpus", "key", "wav"),
    [
        ("cremad", "cremad-{hyphens}", "downloads/cremad/AudioWAV/{stem}.wav"),
        ("mesd", "mesd-{stem}", "downloads/mesd/Mexican Emotional Speech Database (MESD)/{stem}.wav"),
    ],
)
def test_emobox_entries_as_each_corpus_has_them(tmp_path, tables, corpus, key, wav):
    """EmoBox writes CREMA-D's keys with hyphens, so that only the file's name tells the clip."""
    data = tables[corpus]
    tested = set(data["id"][::5])
    (tmp_path / "fold_1").mkdir()
    for part in ("train", "test"):
        lines = [
            json.dumps(
                {
                    "key": key.format(hyphens=clip.replace("_", "-"), stem=clip),
                    "dataset": corpus,
                    "wav": wav.format(stem=clip),
                    "type": "raw",
                    "task": "category",
                }
            )
            for clip in data["id"]
            if (clip in tested) == (part == "test")
        ]
        (tmp_path / "fold_1" / f"{corpus}_{part}_fold_1.jsonl").write_text("\n".join(lines), "utf-8")
        # Emo-DB's folders hold an older spelling beside it; the documented one is read.
        (tmp_path / "fold_1" / f"{corpus}_{part}_fold1.jsonl").write_text("not this one", "utf-8")
    (fold,) = folds.split(data, "given", folder=tmp_path, validation_fraction=0)
    assert set(fold.test) == tested and set(fold.train) == set(data["id"]) - tested


def test_emobox_validation_parts_and_ids_that_are_paths(tmp_path):
    data = small(60)
    root = emobox(tmp_path / "x", data, corpus="x", folds_of=[data["id"].tolist()[::4]], valid=True)
    data["id"] = "some/folder/" + data["id"] + ".wav"
    (fold,) = folds.split(data, "given", folder=root)
    assert len(fold.validation) == 10 and all(clip.startswith("some/folder/") for clip in fold.test)


def test_a_file_name_of_two_clips_tells_neither(tmp_path):
    data = small(60)
    root = emobox(tmp_path / "x", data, corpus="x", folds_of=[data["id"].tolist()[::4]])
    twice = pd.concat([data.assign(id="one/" + data["id"] + ".wav"), data.iloc[:1].assign(id="two/clip0000.wav")])
    twice["path"] = twice["id"]
    with pytest.raises(SplitError, match=r"lists 1 clips that the corpus does not hold, the first is 'x-clip0000'"):
        folds.split(twice, "given", folder=root)
    (fold,) = folds.split(twice.iloc[:-1], "given", folder=root)
    assert "one/clip0000.wav" in fold.test


def test_emobox_errors_say_what_is_wrong(tmp_path):
    data = small(60)
    with pytest.raises(SplitError, match=r"No EmoBox folds under .* Give the folder of one corpus"):
        folds.split(data, "given", folder=tmp_path)
    root = emobox(tmp_path / "x", data, corpus="x", folds_of=[data["id"].tolist()[::4]])
    with pytest.raises(SplitError, match=r"lists 1 clips that the corpus does not hold, the first is 'x-clip0000'"):
        folds.split(data.iloc[1:], "given", folder=root)
    file = root / "fold_1" / "x_test_fold_1.jsonl"
    file.write_text(file.read_text(encoding="utf-8") + '{"key": "x-clip0001", "dataset": "x"}\n', encoding="utf-8")
    with pytest.raises(SplitError, match="in training and in test"):
        folds.split(data, "given", folder=root)
    file.write_text("not json\n", encoding="utf-8")
    with pytest.raises(SplitError, match=r"x_test_fold_1.jsonl, line 1 is not an EmoBox entry"):
        folds.split(data, "given", folder=root)
    file.write_text('{"key": ' + "[" * 100_000 + "\n", encoding="utf-8")
    with pytest.raises(SplitError, match=r"line 1 is not an EmoBox entry"):
        folds.split(data, "given", folder=root)
    file.write_bytes(b"RIFF\xff\xfe")
    with pytest.raises(SplitError, match=r"x_test_fold_1.jsonl cannot be read: it is not text"):
        folds.split(data, "given", folder=root)
    file.unlink()
    file.mkdir()
    with pytest.raises(SplitError, match=r"x_test_fold_1.jsonl is not a file"):
        folds.split(data, "given", folder=root)
    with pytest.raises(SplitError, match="Use the split 'given'"):
        folds.split(data, "random", folder=root)


def test_given_parts_and_other_values_are_not_mixed():
    """One stray value would have made folds of train and test, trained on each other."""
    data = small(120)
    data["fold"] = ["train", "test", "unlabelled"] * (len(data) // 3)
    with pytest.raises(SplitError, match=r"names of parts \(test, train\) and others \(unlabelled\)"):
        folds.split(data, "given")


@pytest.mark.parametrize("kind", ["pipe", "device", "large", "line", "folder"])
def test_what_is_no_list_of_clips_is_refused_at_once(tmp_path, tables, kind):
    """A pipe that nobody writes to, a device that never ends, a file of 100 GB, a line that unpacks to gigabytes."""
    data = tables["emodb"]
    root = emobox(tmp_path / "emodb", data, folds_of=[data["id"].tolist()[:20]])
    path = root / "fold_1" / "emodb_test_fold_1.jsonl"
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    elif kind == "line":
        path.write_text("[" + "[]," * 400_000 + "[]]")
    else:
        with path.open("wb") as sparse:
            sparse.truncate(100 << 30)
    with pytest.raises(SplitError, match=rf"{path.name}.*(is not a file|larger than|is too long)"):
        folds.split(data, "given", folder=root)
