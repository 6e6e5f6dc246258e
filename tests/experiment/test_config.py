"""Configurations: every bad one is refused in words that name the key, every shipped one is the papers'."""

import os
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from serfuse import models
from serfuse.errors import ConfigError, SerfuseError, UnknownNameError
from serfuse.experiment import config as configs

SHIPPED = models.names()


@pytest.mark.parametrize("name", SHIPPED)
def test_every_model_ships_a_valid_configuration_of_itself(name: str) -> None:
    config = configs.from_dict(configs.shipped(name))
    assert config.model == name
    assert config.split.name == "random" and config.split.folds == 5, "the papers' five random folds"
    if models.get(name).library == "keras" and name != "experts":  # which is none of the papers'
        training = config.training
        assert (training.optimizer, training.batch_size, training.epochs) == ("adam", 32, 50)
        assert training.patience and training.validation_fraction > 0, "early stopping on an inner part"


@pytest.mark.parametrize(
    ("name", "rate"), [("hyfuse", 1e-5), ("concat", 1e-5), ("parrot", 1e-3), ("concat-pooled", 1e-3)]
)
def test_learning_rates_are_the_printed_ones(name: str, rate: float) -> None:
    assert configs.from_dict(configs.shipped(name)).training.learning_rate == rate


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_files_write_every_key_that_matters_with_its_default(name: str) -> None:
    """A reader of the file sees what the model does; a default that drifts from the file would be a silent change."""
    values = configs.shipped(name)
    defaults = models.get(name).options().model_dump()
    for key, value in values["options"].items():
        assert defaults[key] == value, key


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"modle": "fcn"}, "modle: unknown key"),
        ({"training": {"epoch": 3}}, "training.epoch: unknown key"),
        ({"training": {"epochs": 0}}, "training.epochs"),
        ({"training": {"learning_rate": -1}}, "training.learning_rate"),
        ({"training": {"learning_rate": "fast"}}, "received 'fast'"),
        ({"split": {"folds": 1}}, "split.folds"),
        ({"options": {"kapa": 1}}, "options.kapa: unknown key"),
        ({"options": {"dropout": 1.5}}, "options.dropout"),
        ({"seed": -1}, "seed"),
        ({"model": "hifuse"}, "hyfuse"),
    ],
)
def test_a_bad_value_is_named(change: dict, named: str) -> None:
    with pytest.raises(SerfuseError) as caught:
        configs.from_dict({**configs.shipped("fcn"), **change})
    assert named in str(caught.value)


def test_all_problems_are_reported_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        configs.from_dict({"model": "fcn", "sead": 1, "split": {"folds": 0}})
    assert "sead" in str(caught.value) and "split.folds" in str(caught.value)


def test_a_flood_of_problems_is_cut_short() -> None:
    with pytest.raises(ConfigError, match="and 480 more") as caught:
        configs.from_dict({"model": "fcn", **{f"key{number}": 1 for number in range(500)}})
    assert len(str(caught.value).splitlines()) < 25


@pytest.mark.parametrize("value", ["nan", ".nan", "inf", "-.inf", "1e999"])
@pytest.mark.parametrize(
    ("model", "key"),
    [("svm", "options.C"), ("hyfuse", "options.kappa"), ("parrot", "options.epsilon"), ("fcn", "training.epochs")],
)
def test_numbers_that_are_none_are_refused(model: str, key: str, value: str) -> None:
    values = configs.override(configs.shipped(model), [f"{key}={value}"])
    with pytest.raises(ConfigError, match=key):
        configs.from_dict(values)


@pytest.mark.parametrize("value", ["kappa=-1", "kappa=big", "log_scale=0", "align=stretch"])
def test_bad_options_of_hyfuse(value: str) -> None:
    values = configs.override(configs.shipped("hyfuse"), [f"options.{value}"])
    with pytest.raises(ConfigError, match=value.split("=")[0]):
        configs.from_dict(values)


def test_overrides_reach_any_key_and_leave_the_original_alone() -> None:
    values = configs.shipped("hyfuse")
    changed = configs.override(values, ["training.learning_rate=1e-4", "options.kappa=0.5", "training.patience=null"])
    config = configs.from_dict(changed)
    assert config.training.learning_rate == 1e-4
    assert config.model_options().kappa == 0.5
    assert config.training.patience is None
    assert values == configs.shipped("hyfuse")


@pytest.mark.parametrize(
    "assignment", ["epochs", "=3", "model.name=x", "seed=[1", f"seed={'[' * 5000}", "seed=2026-02-31"]
)
def test_a_bad_assignment_is_an_error(assignment: str) -> None:
    with pytest.raises(ConfigError):
        configs.override(configs.shipped("fcn"), [assignment])


@given(st.floats(1e-9, 10, allow_nan=False))
def test_numbers_survive_the_command_line(rate: float) -> None:
    """YAML 1.1 reads `1e-05` as text; a learning rate must come through in whatever form Python prints it."""
    config = configs.from_dict(configs.override(configs.shipped("fcn"), [f"training.learning_rate={rate!r}"]))
    assert config.training.learning_rate == rate


@pytest.mark.parametrize("name", SHIPPED)
def test_dump_reads_back_as_the_same_configuration(name: str, tmp_path: Path) -> None:
    config = configs.from_dict(configs.shipped(name))
    path = tmp_path / "config.yaml"
    path.write_text(configs.dump(config), "utf-8")
    again = configs.from_dict(configs.read_yaml(path))
    assert again.model_options() == config.model_options()
    assert (again.training, again.split, again.seed) == (config.training, config.split, config.seed)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("model: [fcn", "not valid YAML"),
        ("- fcn", "must hold"),
        ("", "must hold"),
        ("a: &x [1, 2]\nb: [*x, *x]", "aliases"),
        ("model: !!python/object/apply:os.system ['true']", "not valid YAML"),
        ("[" * 50_000, "more than 20 levels"),
        ("- " * 30_000, "more than 20 levels"),
        ("model: fcn\nseed: 1\nseed: 2", "line 3: the key 'seed' stands there twice"),
        ("model: fcn\ntraining: {epochs: 1, epochs: 2}", "line 2: the key 'epochs' stands there twice"),
        ("model: fcn\n1: 2", "line 2: keys must be text, received '1'"),
        ("model: fcn\non: 2", "keys must be text, received 'on'"),
        ("model: fcn\n? [a]\n: 2", "keys must be text"),
        ("model: fcn\n<<: {seed: 1}", "keys must be text"),
        (f"model: fcn\nseed: {'9' * 5000}", "not valid YAML"),
        ("model: fcn\nseed: 2026-02-31", "not valid YAML"),
    ],
)
def test_hostile_or_broken_yaml_is_refused(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(ConfigError, match=says):
        configs.read_yaml(path)


def test_a_huge_or_missing_or_binary_file_is_refused(tmp_path: Path) -> None:
    huge = tmp_path / "huge.yaml"
    huge.write_bytes(b"#" * (configs.MAX_CONFIG_BYTES + 1))
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    os.mkfifo(pipe := tmp_path / "pipe.yaml")
    (folder := tmp_path / "folder.yaml").mkdir()
    for path in (huge, binary, pipe, folder, Path("/dev/zero"), tmp_path / "none.yaml"):
        with pytest.raises(ConfigError, match=path.name):
            configs.read_yaml(path)


def test_shipped_files_are_those_in_the_folder() -> None:
    folder = Path(__file__).resolve().parents[2] / "configs"
    files = {path.stem: yaml.safe_load(path.read_text("utf-8")) for path in folder.glob("*.yaml")}
    assert sorted(files) == sorted(SHIPPED)
    assert all(values["model"] == name for name, values in files.items())


def test_configure_is_what_the_command_line_makes_of_the_same_words() -> None:
    given = configs.configure(
        "parrot", {"options.points": "reference", "seed": 4}, a="wavlm", b="hubert", split="loso", epochs=7, seed=None
    )
    values = configs.override(configs.shipped("parrot"), ["options.points=reference", "seed=4", "split.name=loso"])
    values = configs.assign(values, {"data.a": "wavlm", "data.b": "hubert", "training.epochs": 7})
    assert given == configs.from_dict(values)
    assert configs.configure({"model": "fcn", "seed": 3}, {"seed": 4}, seed=5).seed == 5, "short names go first"


def test_configure_names_what_it_does_not_know() -> None:
    with pytest.raises(ConfigError, match=r"Unknown settings: epoch, kappa\. Choose from a, b, c"):
        configs.configure("hyfuse", kappa=1.0, epoch=3)
    with pytest.raises(UnknownNameError, match="Did you mean 'parrot'"):
        configs.configure("parot", a="wavlm")
    with pytest.raises(ConfigError, match=r"options\.kapa: unknown key"):
        configs.configure("hyfuse", {"options.kapa": 1.0})


def test_a_model_needs_no_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As a model of another package has none: the defaults hold then."""
    monkeypatch.setattr(configs.resources, "files", lambda package: tmp_path)
    assert configs.configure("fcn", a="hubert") == configs.Config(model="fcn", data={"a": "hubert"})
    with pytest.raises(UnknownNameError, match="Choose one of"):
        configs.shipped("../fcn")


def test_inputs_are_said_one_by_one_or_as_a_list_and_mean_the_same() -> None:
    one_by_one = configs.configure("concat", a="prosody", b="logmel", c="hubert@layer=6")
    listed = configs.configure("concat", inputs=["prosody", "logmel", "hubert@layer=6"])
    assert one_by_one == listed
    assert listed.data.inputs == {"a": "prosody", "b": "logmel", "c": "hubert@layer=6"}
    assert configs.from_dict(configs.parse_yaml(configs.dump(listed), "a dump")) == listed


def test_a_file_of_two_inputs_says_nothing_of_a_third() -> None:
    data = configs.parse_yaml(configs.dump(configs.configure("concat", a="prosody", b="logmel")), "a dump")["data"]
    assert data == {"corpus": None, "a": "prosody", "b": "logmel", "pooling": None}


def test_an_input_replaces_that_of_a_file_also_of_a_list_and_a_list_replaces_all() -> None:
    file = {"model": "concat", "data": {"inputs": ["prosody", "logmel", "hubert"], "pooling": "time"}}
    assert configs.configure(file, b="wavlm").data.inputs == {"a": "prosody", "b": "wavlm", "c": "hubert"}
    assert configs.configure(file, {"data.d": "dac"}).data.inputs["d"] == "dac"
    replaced = configs.configure({"model": "concat", "data": {"a": "x", "b": "y", "c": "z"}}, inputs=["dac", "lyra"])
    assert replaced.data.inputs == {"a": "dac", "b": "lyra"}
    assert file["data"]["inputs"][1] == "logmel", "the file's values are not touched"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"inputs": ["x"], "b": "y"}, "not both"),
        ({"inputs": "x"}, "must list 1 to 8 encoders, received 'x'"),
        ({"inputs": list("abcdefghi")}, "must list 1 to 8 encoders"),
        ({"a": "x", "c": "y"}, "without gaps, received a, c"),
    ],
)
def test_inputs_that_cannot_be_meant(data: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        configs.from_dict({"model": "concat", "data": data})


LATER = {
    "weight_decay": 0.01,
    "schedule": "cosine",
    "loss": "focal",
    "focal_gamma": 1.0,
    "label_smoothing": 0.1,
    "class_weights": "balanced",
    "mixup": 0.4,
}


def test_settings_that_came_later_are_written_where_they_are_not_at_their_default_and_only_there() -> None:
    """So that the file, and the fingerprint, of a run made before there was a choice stay what they were."""
    plain = yaml.safe_load(configs.dump(configs.configure("fcn")))
    assert not plain["training"].keys() & LATER.keys()
    assert set(configs.TrainingConfig.later) == LATER.keys() | {"search", "trainer"}
    for name, value in LATER.items():
        changed = configs.configure("fcn", {f"training.{name}": value})
        written = yaml.safe_load(configs.dump(changed))
        assert written["training"] == {**plain["training"], name: value}
        assert configs.from_dict(written).training == changed.training
    assert "class_weight" not in yaml.safe_load(configs.dump(configs.configure("svm")))["options"]
    balanced = configs.configure("svm", {"options.class_weight": "balanced"})
    assert yaml.safe_load(configs.dump(balanced))["options"]["class_weight"] == "balanced"
