"""A key stands for everything that can change an embedding, and for nothing else."""

import json
from dataclasses import fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serfuse.errors import StoreError
from serfuse.store.key import EXTRACTION_VERSION, EmbeddingKey, option_text

BASE = EmbeddingKey("hubert")
OTHER = {
    "encoder": "wavlm",
    "weights": "hub:facebook/hubert-base-ls960@1",
    "layer": "9",
    "pooling": "mean-std",
    "pad": "5.000",
    "sample_rate": 24000,
    "dtype": "float16",
    "options": {"layout": "freq"},
    "libraries": {"librosa": "0.11.0"},
    "code": EXTRACTION_VERSION + 1,
}


def test_the_test_knows_every_field() -> None:
    assert set(OTHER) == {item.name for item in fields(EmbeddingKey)}


def test_every_field_changes_the_digest() -> None:
    digests = {replace(BASE, **{name: value}).digest for name, value in OTHER.items()}
    assert len(digests | {BASE.digest}) == len(OTHER) + 1


def test_digests_stay_what_they_are() -> None:
    """Stores on users' disks are found by these: a change here means that everything is computed anew."""
    assert BASE.digest == "dda45fe80ff7"
    key = EmbeddingKey(
        *("logmel", "none", "3", "mean-std", "5.000", 24000, "float16"),
        options={"b": 1, "a": True},
        libraries={"librosa": "0.11.0"},
    )
    assert key.folder == "logmel-b2a8f77d8644"


@settings(deadline=None, max_examples=50)
@given(
    st.dictionaries(
        st.text(max_size=5),
        st.one_of(st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
        max_size=5,
    ),
    st.randoms(),
)
def test_the_order_of_options_does_not_count_and_json_keeps_the_key(options, random) -> None:
    shuffled = list(options.items())
    random.shuffle(shuffled)
    key, other = replace(BASE, options=options), replace(BASE, options=dict(shuffled))
    assert key == other and key.digest == other.digest and hash(key) == hash(other)
    read = EmbeddingKey.from_dict(json.loads(json.dumps(key.to_dict())))
    assert read == key and read.digest == key.digest


def test_values_that_only_look_alike_are_told_apart() -> None:
    values = [1, "1", True, None, 1.5, [1], {"a": 1}]
    assert len({replace(BASE, options={"x": value}).digest for value in values}) == len(values)


def test_what_json_makes_equal_is_equal() -> None:
    key = replace(BASE, options={"bands": (1, 2)})
    assert key == EmbeddingKey.from_dict(json.loads(json.dumps(key.to_dict())))
    assert replace(BASE, layer=3) == replace(BASE, layer="3")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), b"x", {1, 2}])
def test_options_that_cannot_be_written_down_are_refused(value: object) -> None:
    with pytest.raises(StoreError, match="cannot be part of a key"):
        replace(BASE, options={"x": value})


def test_a_key_with_other_fields_is_refused() -> None:
    data = BASE.to_dict()
    del data["pad"]
    with pytest.raises(StoreError, match=r"missing \['pad'\], unknown \['mood'\]"):
        EmbeddingKey.from_dict({**data, "mood": "blue"})


def test_a_key_is_frozen() -> None:
    with pytest.raises(AttributeError):
        BASE.pad = "max:2.000"  # type: ignore[misc]


def test_what_people_read_names_what_matters() -> None:
    text = replace(BASE, weights="random:3", options={"change": True, "mels": 80}, dtype="float16").describe()
    assert text.startswith("hubert-") and "NEVER TRAINED" in text and "float16" in text and "change=true" in text
    assert "OUTDATED" in replace(BASE, code=0).describe() and "OUTDATED" not in BASE.describe()
    assert "sha256:0123456789ab," in replace(BASE, weights="sha256:" + "0123456789abcdef" * 4).settings() + ","


@pytest.mark.parametrize(
    ("value", "text"), [(True, "true"), (80, "80"), (0.5, "0.5"), ("freq", "freq"), ("80", '"80"'), ("true", '"true"')]
)
def test_an_option_is_written_as_the_command_line_reads_it(value: object, text: str) -> None:
    from serfuse.cli.extract import _assignment

    assert option_text(value) == text
    assert _assignment(f"x={text}") == ("x", value)
