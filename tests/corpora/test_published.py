"""Emo-DB, CREMA-D and MESD from their published file names."""

from collections import Counter
from pathlib import Path

import pytest

from serfuse import corpora
from serfuse.errors import CorpusError


def touch(root: Path, *stems: str) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for stem in stems:
        (root / f"{stem}.wav").touch()
    return root


def test_the_real_emodb(emodb_dir: Path) -> None:
    corpus = corpora.get("emodb")(emodb_dir)
    assert corpus.warnings == () and corpus.speaker_kind == "speaker" and not corpus.synthetic
    assert (len(corpus.clips), len({clip.speaker for clip in corpus.clips})) == (535, 10)
    # Table 1 of the corpus' own page.
    assert Counter(clip.emotion for clip in corpus.clips) == {
        "anger": 127,
        "boredom": 81,
        "disgust": 46,
        "fear": 69,
        "happiness": 71,
        "neutral": 79,
        "sadness": 62,
    }
    assert len({clip.text for clip in corpus.clips}) == 10
    assert {clip.extra["sex"] for clip in corpus.clips} == {"male", "female"}
    assert [clip.id for clip in corpus.clips] == sorted(clip.id for clip in corpus.clips)


@pytest.mark.parametrize("above", [False, True])
def test_emodb_from_its_folder_or_the_one_above(emodb_dir: Path, tmp_path: Path, above: bool) -> None:
    root = tmp_path / "emodb"
    root.mkdir()
    (root / "wav").symlink_to(emodb_dir)
    corpus = corpora.get("emodb")(root if above else root / "wav")
    assert len(corpus.clips) == 535 and corpus.warnings == ()


@pytest.mark.parametrize(
    ("name", "stem", "emotion", "speaker", "text"),
    [
        ("emodb", "03a01Fa", "happiness", "03", "a01"),
        ("emodb", "16b10Wb", "anger", "16", "b10"),
        ("cremad", "1001_DFA_ANG_XX", "anger", "1001", "DFA"),
        ("cremad", "1091_IEO_HAP_LO", "happiness", "1091", "IEO"),
        ("cremad", "1040_ITH_SAD_X", "sadness", "1040", "ITH"),
        ("mesd", "Anger_C_A_abajo", "anger", "child", "A_abajo"),
        ("mesd", "Sadness_F_B_a_veces", "sadness", "female", "B_a_veces"),
    ],
)
def test_what_a_name_holds(tmp_path: Path, name: str, stem: str, emotion: str, speaker: str, text: str) -> None:
    (clip,) = corpora.get(name)(touch(tmp_path, stem)).clips
    assert (clip.id, clip.emotion, clip.speaker, clip.text) == (stem, emotion, speaker, text)


def test_mesd_says_that_its_names_hold_the_voice_type_only(tmp_path: Path) -> None:
    corpus = corpora.get("mesd")(touch(tmp_path, "Anger_C_A_abajo", "Fear_M_B_noche"))
    assert corpus.speaker_kind == "voice type"
    assert any("2 clips found, 864 were published" in text for text in corpus.warnings)


@pytest.mark.parametrize(
    ("name", "stems", "counts"),
    [
        ("emodb", ["03a01Fa", "08a01Wa"], ["2 clips found, 535", "2 speakers found, 10", "2 emotions found, 7"]),
        ("cremad", ["1001_DFA_ANG_XX"], ["1 clips found, 7442", "1 speakers found, 91", "1 emotions found, 6"]),
    ],
)
def test_a_count_that_is_not_as_published_is_a_warning_that_names_it(
    tmp_path: Path, name: str, stems: list[str], counts: list[str]
) -> None:
    warnings = corpora.get(name)(touch(tmp_path, *stems)).warnings
    for count in counts:
        assert any(count in warning for warning in warnings), (count, warnings)


@pytest.mark.parametrize(
    ("name", "stem"), [("emodb", "03a01Xa"), ("cremad", "1001_DFA_XYZ_XX"), ("mesd", "Joy_C_A_abajo")]
)
def test_an_unknown_emotion_code_names_the_file_and_the_choices(tmp_path: Path, name: str, stem: str) -> None:
    with pytest.raises(CorpusError, match="anger") as caught:
        corpora.get(name)(touch(tmp_path, stem))
    assert stem in str(caught.value) and "code" in str(caught.value)


@pytest.mark.parametrize("name", ["emodb", "cremad", "mesd"])
def test_a_folder_without_the_corpus(tmp_path: Path, name: str) -> None:
    reader = corpora.get(name)
    with pytest.raises(CorpusError, match="no such folder"):
        reader(tmp_path / "none")
    with pytest.raises(CorpusError, match="no audio file"):
        reader(tmp_path)
    with pytest.raises(CorpusError, match="none named so"):
        reader(touch(tmp_path / "other", "song"))
    (tmp_path / "file").touch()
    with pytest.raises(CorpusError, match="is a file"):
        reader(tmp_path / "file")


def test_files_of_another_scheme_are_left_out_with_a_warning(tmp_path: Path) -> None:
    corpus = corpora.get("emodb")(touch(tmp_path, "03a01Fa", "noise"))
    assert len(corpus.clips) == 1
    assert any("noise.wav" in text for text in corpus.warnings)


def test_two_files_of_one_name_are_an_error_that_names_both(tmp_path: Path) -> None:
    touch(tmp_path / "one", "03a01Fa")
    touch(tmp_path / "two", "03a01Fa")
    with pytest.raises(CorpusError, match="two clips have the id") as caught:
        corpora.get("emodb")(tmp_path)
    assert "one" in str(caught.value) and "two" in str(caught.value)


def test_hidden_copies_of_macos_are_not_clips(tmp_path: Path) -> None:
    touch(tmp_path, "03a01Fa", "._03a01Fa", "__MACOSX/x" if False else "08a01Wa")
    assert len(corpora.get("emodb")(tmp_path).clips) == 2
