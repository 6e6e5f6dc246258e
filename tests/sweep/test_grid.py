"""Sweep files: what they may say, and what they expand to."""

from pathlib import Path

import pytest
import yaml

from serfuse.errors import ConfigError
from serfuse.sweep import grid, spec


def test_a_sweep_is_the_product_of_its_axes(sweep_values) -> None:
    whole = grid.expand(
        spec.validate(
            sweep_values(corpora={"emodb": "E", "mesd": "M"}, models={"svm": {}, "fcn": {}}, seeds=[0, 3]), "a test"
        )
    )
    assert len(whole.experiments) == 3 * 2 * 2 * 2
    assert len({experiment.name for experiment in whole.experiments}) == 24
    assert [row.label for row in whole.rows] == ["hubert", "wavlm", "wav2vec2"]
    assert len(whole.columns) == 4
    assert [experiment.seed for experiment in whole.cell(whole.rows[0], whole.columns[0])] == [0, 3]


def test_every_axis_can_be_narrowed(sweep_values) -> None:
    content = spec.validate(
        sweep_values(
            corpora={"emodb": "Emo-DB", "mesd": "MESD"},
            models={"concat": {"heading": "Concat"}, "hyfuse": {}},
            encoders={"H": "hubert@pooling=time", "W": "wavlm"},
            blocks=[{"title": "one", "rows": [["H", "W"], ["H", "dac"]]}, {"title": "two", "rows": [["W", "dac"]]}],
            seeds=[0, 1],
        ),
        "a test",
    )

    def count(*only: str) -> int:
        return len(grid.expand(content, only).experiments)

    assert count() == 24
    assert count("corpus=emodb") == count("corpus=Emo-DB") == 12
    assert count("corpus=emodb", "corpus=mesd") == 24, "values of one axis add up"
    assert count("model=Concat", "corpus=mesd") == 6, "axes narrow each other"
    assert count("encoder=dac") == 16 and count("a=H") == 16 and count("b=wavlm") == 8
    assert count("row=H + dac") == 8 and count("block=two") == 8 and count("seed=1") == 12
    narrowed = grid.expand(content, ["block=two", "corpus=mesd"])
    assert [row.label for row in narrowed.rows] == ["W + dac"]
    assert {column.corpus for column in narrowed.columns} == {"mesd"}
    with pytest.raises(ConfigError, match="Choose one of: Emo-DB, emodb"):
        count("corpus=emo-db")
    three = sweep_values(models={"concat": {}}, blocks=[{"rows": [["hubert", "wavlm", "dac"], ["dac", "wavlm"]]}])
    (one,) = grid.expand(spec.validate(three, "a test"), ["c=dac"]).experiments
    assert one.config.data.inputs == {"a": "hubert", "b": "wavlm", "c": "dac"}
    assert one.row.label == "hubert + wavlm + dac" and "-hubert-wavlm-dac-seed0-" in one.name
    assert len(grid.expand(spec.validate(three, "a test"), ["encoder=dac"]).experiments) == 2
    single = spec.validate(sweep_values(blocks=[{"rows": ["hubert"]}]), "a test")
    with pytest.raises(ConfigError, match="b=hubert: this sweep has no rows with a representation 'b'"):
        grid.expand(single, ["b=hubert"])
    with pytest.raises(ConfigError, match="block=one: this sweep has no blocks with a title"):
        grid.expand(single, ["block=one"])
    with pytest.raises(ConfigError, match="AXIS out of corpus, model"):
        count("speaker=3")
    with pytest.raises(ConfigError, match="No cell of the table fits"):
        count("block=two", "a=H")


def test_settings_reach_the_configuration_in_order(sweep_values) -> None:
    content = spec.validate(
        sweep_values(
            models={"fcn": {}, "slow": {"model": "fcn", "settings": {"training": {"learning_rate": 0.5}}}},
            settings={"training": {"learning_rate": 0.25, "epochs": 7}},
        ),
        "a test",
    )
    fcn, slow = grid.expand(content, ["row=hubert"]).experiments
    assert (fcn.config.training.learning_rate, slow.config.training.learning_rate) == (0.25, 0.5)
    assert fcn.config.model == slow.config.model == "fcn" and fcn.config.training.epochs == 7
    assert fcn.config.training.batch_size == 32, "what the sweep does not say is from configs/fcn.yaml"
    changed = grid.expand(content, ["row=hubert"], ["training.learning_rate=1e-3"]).experiments
    assert [experiment.config.training.learning_rate for experiment in changed] == [1e-3, 1e-3]
    assert changed[0].name != fcn.name, "another configuration has another folder"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"colour": "red"}, "colour: unknown key"),
        ({"models": {"svm": {"lr": 1}}}, "models.svm.lr: unknown key"),
        ({"models": {"cnnn": {}}}, "Unknown model 'cnnn'"),
        ({"models": {"concat": {}}}, "takes 2 to 8 representations, but the row"),
        ({"models": {"fused": {}}}, "the model 'fused' cannot be trained"),
        ({"blocks": [{"rows": [list("abcdefghi")]}]}, "a row is one encoder or a list of up to 8"),
        ({"seeds": [0, 0]}, "a seed stands there twice"),
        ({"seeds": [-1]}, "seeds are from 0"),
        ({"seeds": list(range(40_000))}, "asks for 120000 cross-validations; at most 100000"),
        (
            {"models": {"svm": {}, "fcn": {}}, "corpora": {"emodb": "E", "mesd": "M"}, "seeds": list(range(9000))},
            "asks for 108000 cross-validations; at most 100000",
        ),
        ({"metrics": ["speed"]}, "metrics.0"),
        ({"published": {"paper": "hyfuse", "table": 0}}, "published.table"),
    ],
)
def test_a_bad_sweep_file_names_the_key(sweep_values, changes, says) -> None:
    with pytest.raises(ConfigError, match=says.replace(".", r"\.")):
        spec.validate(sweep_values(**changes), "a test")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"settings": {"training": {"epoch": 3}}}, "training.epoch: unknown key"),
        ({"settings": {"options": {"kappa": 1}}}, "options.kappa: unknown key"),
        ({"blocks": [{"rows": ["hubert@colour=red"]}]}, "after '@' come selectors"),
        ({"blocks": [{"rows": ["hubert", "hubert"]}]}, "stands in its block twice"),
    ],
)
def test_a_bad_cell_names_the_key(sweep_values, changes, says) -> None:
    with pytest.raises(ConfigError, match=says.replace(".", r"\.")):
        grid.expand(spec.validate(sweep_values(**changes), "a test"))


def test_files_are_found_by_path_and_shipped_ones_by_name(tmp_path: Path, monkeypatch, sweep_values) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(yaml.safe_dump(sweep_values()), "utf-8")
    content, name = spec.read("mine.yaml")
    assert (content.title, name) == ("Three", "mine")
    for given in ("hyfuse_table1", "hyfuse_table1.yaml", "configs/tables/hyfuse_table1.yaml"):
        content, name = spec.read(given)
        assert (content.published.paper, content.published.table, name) == ("hyfuse", 1, "hyfuse_table1")
    for given in ("no_such", "elsewhere/hyfuse_table1.yaml"):
        with pytest.raises(ConfigError, match="Give a YAML file, or one of: floor_pairs"):
            spec.read(given)
    Path("bad.yaml").write_text("title: *x", "utf-8")
    with pytest.raises(ConfigError, match="bad"):
        spec.read("bad.yaml")
    Path("number.yaml").write_text("1: 2", "utf-8")
    with pytest.raises(ConfigError):
        spec.read("number.yaml")
