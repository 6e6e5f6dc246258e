"""Emo-DB, CREMA-D and MESD from their published file names."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serfuse import corpora
from serfuse.corpora import cremad, emodb, mesd
from serfuse.corpora.emotions import EMOTIONS
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


def cremad_stems() -> list[str]:
    """As many names as were published, 1,271 of each emotion and 1,087 neutral ones, one of them with a single X.

    Each actor says one sentence at three intensities and eleven at none, neutral at none. That is 20 more than
    were published; which these are is not said anywhere, so they are dropped from the end of each emotion.
    """
    others = ["DFA", "IOM", "ITH", "ITS", "IWL", "IWW", "MTI", "TAI", "TIE", "TSI", "WSI"]
    stems = []
    for emotion, count in {"ANG": 1271, "DIS": 1271, "FEA": 1271, "HAP": 1271, "SAD": 1271, "NEU": 1087}.items():
        levels = ["XX"] if emotion == "NEU" else ["LO", "MD", "HI"]
        said = [(text, "XX") for text in others] + [("IEO", level) for level in levels]
        stems += [f"{actor}_{text}_{emotion}_{level}" for text, level in said for actor in range(1001, 1092)][:count]
    stems[stems.index("1040_ITH_SAD_XX")] = "1040_ITH_SAD_X"
    return stems


def test_the_whole_of_cremad_by_name(tmp_path: Path) -> None:
    corpus = corpora.get("cremad")(touch(tmp_path / "AudioWAV", *cremad_stems()).parent)
    assert len(corpus.warnings) == 1 and len(corpus.clips) == 7442
    bad = ("1064_IEO_DIS_MD", "1064_TIE_SAD_XX", "1076_MTI_NEU_XX", "1076_MTI_SAD_XX")
    assert "4 of its published clips are known to be bad" in corpus.warnings[0]
    assert all(stem in corpus.warnings[0] for stem in bad)
    counts = Counter(clip.emotion for clip in corpus.clips)
    assert counts.pop("neutral") == 1087 and set(counts.values()) == {1271} and len(counts) == 5
    assert len({clip.speaker for clip in corpus.clips}) == 91 and len({clip.text for clip in corpus.clips}) == 12
    assert {clip.extra["intensity"] for clip in corpus.clips} == {"low", "medium", "high", "unspecified"}


def test_the_whole_of_mesd_by_name(tmp_path: Path) -> None:
    """6 emotions x 3 voice types x (24 words that all share and 24 of the emotion's own)."""
    emotions = ("Anger", "Disgust", "Fear", "Happiness", "Neutral", "Sadness")
    words = [("A", f"palabra{n}") for n in range(24)]
    stems = [
        f"{emotion}_{voice}_{which}_{word}"
        for emotion in emotions
        for voice in "FMC"
        for which, word in words + [("B", f"{emotion.lower()}{n}") for n in range(24)]
    ]
    corpus = corpora.get("mesd")(touch(tmp_path, *stems))
    assert corpus.warnings == () and len(corpus.clips) == 864 and corpus.speaker_kind == "voice type"
    assert Counter(clip.speaker for clip in corpus.clips) == {"female": 288, "male": 288, "child": 288}


@given(st.text(max_size=16))
def test_no_name_breaks_a_parser(stem: str) -> None:
    """A name is of the scheme, or of another, or has an unknown code: nothing else happens."""
    for reader in (cremad, emodb, mesd):
        try:
            clip = reader._parse(stem, Path("x.wav"))
        except CorpusError as error:
            assert "code" in str(error)
        else:
            assert clip is None or (clip.id == stem and clip.emotion in EMOTIONS)


@given(
    st.integers(1001, 1091),
    st.from_regex(r"[A-Z]{3}", fullmatch=True),
    st.sampled_from(sorted(cremad.EMOTIONS)),
    st.sampled_from(["LO", "MD", "HI", "XX"]),
)
def test_a_cremad_name_gives_back_its_parts(actor: int, text: str, code: str, level: str) -> None:
    clip = cremad._parse(f"{actor}_{text}_{code}_{level}", Path("x.wav"))
    assert (clip.speaker, clip.text, clip.emotion) == (str(actor), text, cremad.EMOTIONS[code])


def test_a_link_to_nowhere_is_a_clip_that_extraction_will_name(tmp_path: Path) -> None:
    touch(tmp_path, "03a01Fa")
    (tmp_path / "08a01Wa.wav").symlink_to(tmp_path / "gone.wav")
    assert [clip.id for clip in corpora.get("emodb")(tmp_path).clips] == ["03a01Fa", "08a01Wa"]


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
    touch(tmp_path, "03a01Fa", "._03a01Fa", "08a01Wa")
    touch(tmp_path / "__MACOSX", "03a02Fa")
    assert len(corpora.get("emodb")(tmp_path).clips) == 2
