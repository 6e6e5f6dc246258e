"""What `serfuse report` writes: true, complete, escaped, and the same in every form."""

import csv
import io
import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from serfuse import paired_runs
from serfuse.cli import main
from serfuse.errors import RunError
from serfuse.report import mistakes, page, tables, words
from serfuse.report import runs as folders_of
from serfuse.store import EmbeddingStore


def metrics(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text("utf-8"))


def test_the_table_holds_what_the_run_folders_hold(folders: list[Path]) -> None:
    for row, folder in zip(tables.rows(folders_of.read(folders)), folders, strict=True):
        found = metrics(folder)
        assert row[4] == f"{100 * found['mean']['accuracy']:.1f}"
        assert row[8] == f"{100 * found['mean']['uar']:.1f}"
        low, high = (100 * found["intervals"]["accuracy"][end] for end in ("low", "high"))
        assert row[6] == f"{low:.1f} to {high:.1f}"
    assert tables.rows(folders_of.read(folders[2:]))[0][2] == "hubert + encodec"


def test_the_printed_figure_is_beside_the_measured_one(folders: list[Path]) -> None:
    from serfuse import published

    (row,) = published.find("emodb", "concat", "hubert", "encodec")
    assert tables.rows(folders_of.read(folders))[2][9] == f"{row.accuracy:.2f} (HYFuse, Table {row.table})"


def test_csv_has_full_precision(folders: list[Path]) -> None:
    rows = list(csv.DictReader(io.StringIO(tables.comma_separated(folders_of.read(folders)))))
    assert [row["run"] for row in rows] == [folder.name for folder in folders]
    for row, folder in zip(rows, folders, strict=True):
        assert float(row["accuracy_mean"]) == metrics(folder)["mean"]["accuracy"]
        assert float(row["ece_pooled"]) == metrics(folder)["pooled"]["ece"]


def test_markdown_and_latex_are_tables_of_the_same_width(folders: list[Path]) -> None:
    found = folders_of.read(folders)
    lines = [line for line in tables.markdown(found).splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(folders) and len({line.count("|") for line in lines}) == 1
    body = tables.latex(found)
    rows = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert len({line.count("&") for line in rows}) == 1 and r"95 \%" in body
    assert body.count(r"\begin{table}") == body.count(r"\end{table}") == 1


def test_the_gap_between_splits_is_in_words(folders: list[Path]) -> None:
    found = folders_of.read(folders)
    (sentence,) = words.gaps(found)
    values = [100 * metrics(folder)["mean"]["accuracy"] for folder in folders[:2]]
    for value in values:
        assert f"{value:.1f} %" in sentence
    assert f"{abs(values[0] - values[1]):.1f} points less" in sentence
    assert "new speakers" in sentence and "known speakers" in sentence
    easier, harder = (f"{value:.1f} %" for value in sorted(values, reverse=True))
    assert sentence.index(easier) < sentence.index(harder), "what the others are less than comes first"
    assert words.gaps(found[::-1]) == [sentence]
    assert words.gaps(found[1:]) == [], "one split is no gap"


def test_voice_types_are_called_that_in_the_gap(folders: list[Path]) -> None:
    found = folders_of.read(folders[:2])
    for run in found:
        run.config["corpus"]["speaker_kind"] = "voice type"
    (sentence,) = words.gaps(found)
    assert "(new voice types)" in sentence and "of known voice types" in sentence and "speaker" not in sentence


def test_the_most_confident_mistakes_come_first_with_sound_where_there_is_some(reported: Path) -> None:
    (run,) = folders_of.read([reported / "svm-loso"])
    found = mistakes.worst(run, EmbeddingStore(reported / "store"), count=200)
    assert len(found) == int((run.predictions["label"] != run.predictions["predicted"]).sum())
    confidences = [item.confidence for item in found]
    assert confidences == sorted(confidences, reverse=True)
    for item in found:
        assert item.label != item.predicted
        there = (reported / "audio" / f"{item.clip}.wav").exists()
        assert (item.sound or "").startswith("data:audio/wav;base64,") == there
    assert all(item.sound is None for item in mistakes.worst(run, None))
    assert all(item.sound is None for item in mistakes.worst(run, EmbeddingStore(reported / "none")))


def test_the_page_is_the_same_twice(folders: list[Path]) -> None:
    found = folders_of.read(folders[:1])
    assert page.render(found) == page.render(found)


def test_names_cannot_break_out_of_the_page(folders: list[Path], tmp_path: Path) -> None:
    """A run folder from somebody else, whose names are not only names."""
    evil = "<script>alert(1)</script>"
    folder = tmp_path / "run"
    shutil.copytree(folders[0], folder)
    for name in ("predictions.csv", "tsne.csv"):
        text = (folder / name).read_text("utf-8")
        (folder / name).write_text(text.replace("s0-", f"{evil}-").replace(",s0,", f",{evil},"), "utf-8")
    config = (folder / "config.yaml").read_text("utf-8").replace("encoder: hubert", f"encoder: '{evil}'")
    (folder / "config.yaml").write_text(config, "utf-8")
    found = page.render(folders_of.read([folder]), title=evil)
    assert "<script" not in found and "&lt;script&gt;" in found


def test_what_a_reader_must_know_comes_first(folders: list[Path], tmp_path: Path) -> None:
    assert words.warnings(folders_of.read(folders[:1])[0]) == []
    folder = tmp_path / "run"
    shutil.copytree(folders[2], folder)
    text = (folder / "config.yaml").read_text("utf-8").replace("synthetic: false", "synthetic: true")
    (folder / "config.yaml").write_text(text.replace("weights: none", "weights: random:0", 1), "utf-8")
    found = metrics(folder)
    found["sensitivity"]["b"]["changed"] = 0.004
    (folder / "metrics.json").write_text(json.dumps(found), "utf-8")
    (run,) = folders_of.read([folder])
    warnings = " ".join(words.warnings(run))
    assert len(words.warnings(run)) == 3
    assert "synthetic" in warnings and "random weights" in warnings and "ignores encodec" in warnings
    for suffix in (".md", ".tex"):
        assert "(hubert: random weights)" in tables.FORMATS[suffix]([run]), suffix
    (row,) = csv.DictReader(io.StringIO(tables.comma_separated([run])))
    assert row["random_weights"] == "hubert"
    drawn = page.render([run])
    assert drawn.index("The speech is synthetic") < drawn.index("Results")


@pytest.mark.parametrize("damage", ["config.yaml", "predictions.csv", "metrics.json"])
def test_a_damaged_run_folder_is_named(folders: list[Path], tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "run"
    shutil.copytree(folders[0], folder)
    (folder / damage).write_text("{", "utf-8")
    with pytest.raises(RunError, match="run"):
        folders_of.read([folder])


def test_a_run_folder_that_was_edited_is_named(folders: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(folders[0], folder)
    rows = (folder / "predictions.csv").read_text("utf-8").splitlines(keepends=True)
    (folder / "predictions.csv").write_text("".join(rows[:-1]), "utf-8")
    with pytest.raises(RunError, match=rf"{len(rows) - 2} rows, metrics.json is about {len(rows) - 1}"):
        folders_of.read([folder])


def test_a_configuration_that_expands_itself_is_refused(folders: list[Path], tmp_path: Path) -> None:
    """Nine levels of ten references each would be a thousand million words."""
    folder = tmp_path / "run"
    shutil.copytree(folders[0], folder)
    levels = "".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]\n" for n in range(1, 10))
    bomb = f"l0: &l0 [a, a]\n{levels}corpus: {{speaker_kind: *l9}}\n"
    (folder / "config.yaml").write_text(bomb, "utf-8")
    with pytest.raises(RunError, match="aliases"):
        folders_of.read([folder])
    assert paired_runs.read(folder, 0).speaker_kind == "speaker"


def test_two_folders_of_one_name_are_told_apart(folders: list[Path], tmp_path: Path) -> None:
    shutil.copytree(folders[0], tmp_path / "other" / folders[0].name)
    names = [run.name for run in folders_of.read([folders[0], tmp_path / "other" / folders[0].name])]
    assert len(set(names)) == 2


@pytest.mark.parametrize("suffix", [".html", ".md", ".csv", ".tex"])
def test_the_command_writes_each_form(folders: list[Path], tmp_path: Path, suffix: str) -> None:
    out = tmp_path / "deep" / f"report{suffix}"
    done = CliRunner().invoke(main, ["report", *map(str, folders[:2]), "-o", str(out), "--quiet", "--no-audio"])
    assert done.exit_code == 0, done.output
    assert "svm" in out.read_text("utf-8") and str(out) in done.output


def test_the_command_refuses_what_it_cannot_do(folders: list[Path], tmp_path: Path) -> None:
    run = CliRunner().invoke
    assert run(main, ["report", str(folders[0]), "-o", str(tmp_path / "a.pdf")]).exit_code == 2
    done = run(main, ["report", str(tmp_path), "-o", str(tmp_path / "a.html")])
    assert done.exit_code == 1 and "no finished run" in done.output
    assert run(main, ["report"]).exit_code == 2


def test_splits_of_other_settings_are_no_gap_and_a_run_that_cannot_be_paired_is_named(folders, tmp_path) -> None:
    other = tmp_path / "other"
    shutil.copytree(folders[1], other)
    config = (other / "config.yaml").read_text("utf-8")
    assert "seed: 0" in config
    (other / "config.yaml").write_text(config.replace("seed: 0", "seed: 1"), "utf-8")
    assert words.gaps(folders_of.read([folders[0], other])) == []
    cut = tmp_path / "cut"
    shutil.copytree(folders[0], cut)
    lines = (cut / "predictions.csv").read_text("utf-8").splitlines(keepends=True)
    (cut / "predictions.csv").write_text("".join([*lines[:-1], f"another-{lines[-1]}"]), "utf-8")
    found = page.render(folders_of.read([folders[0], folders[2], cut]))
    assert "cannot be compared with" in found and "distinguishable" in found


def test_runs_that_look_alike_are_told_apart_by_the_settings_that_differ(folders, tmp_path) -> None:
    other, copy = tmp_path / "other", tmp_path / "copy"
    shutil.copytree(folders[2], other)
    config = (other / "config.yaml").read_text("utf-8")
    assert "seed: 0" in config and "dropout: 0.3" in config
    (other / "config.yaml").write_text(config.replace("seed: 0", "seed: 1").replace("t: 0.3", "t: 0.5"), "utf-8")
    found = folders_of.read([*folders, other])
    assert [run.title for run in found] == [
        "svm",
        "svm",
        "concat (dropout 0.3, seed 0)",
        "concat (dropout 0.5, seed 1)",
    ]
    assert [row[1] for row in tables.rows(found)] == [run.title for run in found]
    shutil.copytree(folders[0], copy)
    assert [run.title for run in folders_of.read([folders[0], copy])] == ["svm (svm-random)", "svm (copy)"]
